// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ioctls of an IOAS (MAP, UNMAP, COPY, ...), errno by errno. An ioctl that
 * fails must leave nothing pinned and nothing charged.
 */
#include <noiommufd/noiommufd.h>

#include "harness.h"

#define GUARD	(64 * PAGE)

/* The ioctl fails with err; pins and charge are as before. */
#define expect_no_trace(call, err) \
	do { \
		long long pins_before = pins(); \
		long long charge_before = vm_pin(); \
		\
		expect_errno(call, err); \
		expect_pins(pins_before); \
		expect_eq(vm_pin(), charge_before); \
	} while (0)

static int map_at(const struct setup *s, __u32 flags, const void *va,
		  __u64 length, __u64 iova)
{
	return ioas_map_flags(s->iommu, s->ioas, flags, va, length, &iova);
}

static int map_rw(const struct setup *s, const void *va, __u64 length,
		  __u64 iova)
{
	return map_at(s, MAP_FIXED_RW, va, length, iova);
}

static __u64 map_anywhere(const struct setup *s, const void *va, __u64 length)
{
	__u64 iova = 0;

	expect_ok(ioas_map_flags(s->iommu, s->ioas, MAP_RW, va, length, &iova));
	return iova;
}

static int unmap(const struct setup *s, __u64 iova, __u64 length)
{
	return ioas_unmap(s->iommu, s->ioas, iova, length, NULL);
}

static bool mapped(const struct setup *s, __u64 iova)
{
	__u64 length = 1, pa;

	if (!get_pa(s->iommu, s->ioas, iova, &length, &pa))
		return true;
	expect_eq(errno, ENOENT);
	return false;
}

/* Sizes and numbers */

union any_cmd {
	struct iommu_destroy destroy;
	struct iommu_ioas_alloc alloc;
	struct iommu_ioas_iova_ranges ranges;
	struct iommu_ioas_allow_iovas allow;
	struct iommu_ioas_map map;
	struct iommu_ioas_copy copy;
	struct iommu_ioas_unmap unmap;
	struct iommu_option option;
	struct iommu_hwpt_alloc hwpt;
	struct iommu_ioas_noiommu_get_pa get_pa;
	char raw[8192];
};

struct sized_ioctl {
	unsigned long number;
	__u32 min, size;
	void (*fill)(union any_cmd *cmd, const struct setup *s);
};

static void fill_destroy(union any_cmd *cmd, const struct setup *s)
{
	cmd->destroy.id = new_ioas(s->iommu);
}

static void fill_nothing(union any_cmd *cmd, const struct setup *s)
{
	(void)cmd;
	(void)s;
}

static void fill_ranges(union any_cmd *cmd, const struct setup *s)
{
	static struct iommu_iova_range range;

	cmd->ranges.ioas_id = s->ioas;
	cmd->ranges.num_iovas = 1;
	cmd->ranges.allowed_iovas = (uintptr_t)&range;
}

static void fill_allow(union any_cmd *cmd, const struct setup *s)
{
	cmd->allow.ioas_id = s->ioas;
}

static void fill_map(union any_cmd *cmd, const struct setup *s)
{
	cmd->map.flags = MAP_RW;
	cmd->map.ioas_id = s->ioas;
	cmd->map.user_va = (uintptr_t)mem(PAGE);
	cmd->map.length = PAGE;
}

static void fill_copy(union any_cmd *cmd, const struct setup *s)
{
	cmd->copy.flags = MAP_RW;
	cmd->copy.dst_ioas_id = s->ioas;
	cmd->copy.src_ioas_id = s->ioas;
	cmd->copy.length = PAGE;
	cmd->copy.src_iova = map_anywhere(s, mem(PAGE), PAGE);
}

static void fill_unmap(union any_cmd *cmd, const struct setup *s)
{
	cmd->unmap.ioas_id = s->ioas;
	cmd->unmap.iova = map_anywhere(s, mem(PAGE), PAGE);
	cmd->unmap.length = PAGE;
}

static void fill_option(union any_cmd *cmd, const struct setup *s)
{
	cmd->option.option_id = IOMMU_OPTION_HUGE_PAGES;
	cmd->option.op = IOMMU_OPTION_OP_GET;
	cmd->option.object_id = s->ioas;
}

static void fill_hwpt(union any_cmd *cmd, const struct setup *s)
{
	cmd->hwpt.dev_id = s->devid;
	cmd->hwpt.pt_id = s->ioas;
}

static void fill_get_pa(union any_cmd *cmd, const struct setup *s)
{
	cmd->get_pa.ioas_id = s->ioas;
	cmd->get_pa.iova = map_anywhere(s, mem(PAGE), PAGE);
	cmd->get_pa.length = PAGE;
}

static const struct sized_ioctl ioctls[] = {
	{ IOMMU_DESTROY, 8, 8, fill_destroy },
	{ IOMMU_IOAS_ALLOC, 12, 12, fill_nothing },
	{ IOMMU_IOAS_IOVA_RANGES, 32, 32, fill_ranges },
	{ IOMMU_IOAS_ALLOW_IOVAS, 24, 24, fill_allow },
	{ IOMMU_IOAS_MAP, 40, 40, fill_map },
	{ IOMMU_IOAS_COPY, 40, 40, fill_copy },
	{ IOMMU_IOAS_UNMAP, 24, 24, fill_unmap },
	{ IOMMU_OPTION, 24, 24, fill_option },
	{ IOMMU_HWPT_ALLOC, 24, 48, fill_hwpt },
	{ IOMMU_IOAS_NOIOMMU_GET_PA, 40, 40, fill_get_pa },
};

/* One ioctl of that size, whose byte number last (from 1) is not zero */
static int sized_call(const struct setup *s, const struct sized_ioctl *i,
		      __u32 size, __u32 last)
{
	union any_cmd cmd;

	memset(&cmd, 0, sizeof(cmd));
	i->fill(&cmd, s);
	memcpy(cmd.raw, &size, sizeof(size));
	if (last)
		cmd.raw[last - 1] = 1;
	return ioctl(s->iommu, i->number, &cmd);
}

TEST(sizes)
{
	struct setup s;
	unsigned int n;

	setup_attached(&s);
	for (n = 0; n < ARRAY_SIZE(ioctls); n++) {
		const struct sized_ioctl *i = &ioctls[n];
		const __u32 good[] = {
			i->min, i->size, i->size + 1, i->size + 8, 4096, 4097,
			8192,
		};
		unsigned int k;

		for (k = 0; k < ARRAY_SIZE(good); k++) {
			if (sized_call(&s, i, good[k], 0))
				fail("ioctl 0x%lx, size %u: expected success, got %s",
				     i->number, good[k],
				     strerrorname_np(errno));
		}
		expect_errno(sized_call(&s, i, 0, 0), EINVAL);
		expect_errno(sized_call(&s, i, 4, 0), EINVAL);
		expect_errno(sized_call(&s, i, i->min - 1, 0), EINVAL);
		expect_errno(sized_call(&s, i, i->size + 1, i->size + 1), E2BIG);
		expect_errno(sized_call(&s, i, i->size + 8, i->size + 8), E2BIG);
		expect_errno(sized_call(&s, i, 8192, 8192), E2BIG);
		expect_errno(ioctl(s.iommu, i->number, NULL), EFAULT);
		expect_errno(ioctl(s.iommu, i->number, (void *)-PAGE), EFAULT);
	}
}

TEST(size_beyond_memory)
{
	char *page = mem(2 * PAGE);
	struct setup s;
	unsigned int n;

	setup_attached(&s);
	expect_ok(munmap(page + PAGE, PAGE));
	for (n = 0; n < ARRAY_SIZE(ioctls); n++) {
		__u32 size = ioctls[n].min;
		char *end = page + PAGE - size;

		/* The struct is readable, except its tail. */
		memset(end, 0, size);
		size = U32_MAX;
		memcpy(end, &size, sizeof(size));
		expect_errno(ioctl(s.iommu, ioctls[n].number, end), EFAULT);
		/* Only half of it is readable. */
		end = page + PAGE - 4;
		size = ioctls[n].size;
		memcpy(end, &size, sizeof(size));
		expect_errno(ioctl(s.iommu, ioctls[n].number, end), EFAULT);
	}
}

TEST(unknown_ioctls)
{
	char raw[256] = { sizeof(raw) - 1 };
	int iommu = iommu_open();

	expect_errno(ioctl(iommu, _IO(IOMMUFD_TYPE, 0), raw), ENOTTY);
	expect_errno(ioctl(iommu, _IO(IOMMUFD_TYPE, 0x7f), raw), ENOTTY);
	expect_errno(ioctl(iommu, _IO(IOMMUFD_TYPE, 0x96), raw), ENOTTY);
	expect_errno(ioctl(iommu, _IO(IOMMUFD_TYPE, 0xff), raw), ENOTTY);
	expect_errno(ioctl(iommu, _IO('!', 0x85), raw), ENOTTY);
	expect_errno(ioctl(iommu, _IOWR(IOMMUFD_TYPE, 0x81, char[12]), raw),
		     ENOTTY);
	expect_errno(ioctl(iommu, _IOW(IOMMUFD_TYPE, 0x95, char[40]), raw),
		     ENOTTY);
}

TEST(alloc)
{
	struct iommu_ioas_alloc *alloc = mem(PAGE);
	int iommu = iommu_open();

	alloc->size = sizeof(*alloc);
	alloc->flags = 1;
	expect_errno(ioctl(iommu, IOMMU_IOAS_ALLOC, alloc), EOPNOTSUPP);
	alloc->flags = 1U << 31;
	expect_errno(ioctl(iommu, IOMMU_IOAS_ALLOC, alloc), EOPNOTSUPP);
	alloc->flags = 0;
	/* If it cannot return the id, it makes no object. */
	expect_ok(mprotect(alloc, PAGE, PROT_READ));
	expect_errno(ioctl(iommu, IOMMU_IOAS_ALLOC, alloc), EFAULT);
	expect_eq(new_ioas(iommu), 1);
}

/* IOVA ranges */

static int iova_ranges(const struct setup *s,
		       struct iommu_ioas_iova_ranges *cmd, __u32 num,
		       struct iommu_iova_range *ranges)
{
	*cmd = (struct iommu_ioas_iova_ranges) {
		.size = sizeof(*cmd), .ioas_id = s->ioas, .num_iovas = num,
		.allowed_iovas = (uintptr_t)ranges,
	};
	return ioctl(s->iommu, IOMMU_IOAS_IOVA_RANGES, cmd);
}

TEST(ranges)
{
	struct iommu_iova_range ranges[3] = { { 4711, 4712 }, { 4711, 4712 } };
	struct iommu_ioas_iova_ranges cmd;
	struct setup s;

	setup_bound(&s);
	/* In two steps: the number of ranges, then the ranges */
	expect_errno(iova_ranges(&s, &cmd, 0, NULL), EMSGSIZE);
	expect_eq(cmd.num_iovas, 1);
	expect_ok(iova_ranges(&s, &cmd, 1, ranges));
	expect_eq(cmd.num_iovas, 1);
	expect_eq(cmd.out_iova_alignment, 1);
	expect_eq(ranges[0].start, 0);
	expect_eq(ranges[0].last, U64_MAX);

	/* With a device: alignment of a page, and still no hole for MSI */
	attach(s.dev, s.ioas);
	expect_ok(iova_ranges(&s, &cmd, 3, ranges));
	expect_eq(cmd.num_iovas, 1);
	expect_eq(cmd.out_iova_alignment, PAGE);
	expect_eq(ranges[0].start, 0);
	expect_eq(ranges[0].last, U64_MAX);
	expect_eq(ranges[1].start, 4711);
	expect_ok(dev_detach(s.dev));
	expect_ok(iova_ranges(&s, &cmd, 1, ranges));
	expect_eq(cmd.out_iova_alignment, 1);
}

TEST(ranges_errors)
{
	struct iommu_ioas_iova_ranges cmd = { .size = sizeof(cmd) };
	struct setup s;

	setup_bound(&s);
	expect_errno(iova_ranges(&s, &cmd, 1, NULL), EFAULT);
	expect_errno(iova_ranges(&s, &cmd, 1, (void *)-PAGE), EFAULT);
	cmd.ioas_id = 4711;
	expect_errno(ioctl(s.iommu, IOMMU_IOAS_IOVA_RANGES, &cmd), ENOENT);
	cmd.ioas_id = s.devid;
	expect_errno(ioctl(s.iommu, IOMMU_IOAS_IOVA_RANGES, &cmd), ENOENT);
	cmd.__reserved = 1;
	expect_errno(ioctl(s.iommu, IOMMU_IOAS_IOVA_RANGES, &cmd), EOPNOTSUPP);
}

static int allow(const struct setup *s, __u32 num,
		 const struct iommu_iova_range *ranges)
{
	struct iommu_ioas_allow_iovas cmd = {
		.size = sizeof(cmd), .ioas_id = s->ioas, .num_iovas = num,
		.allowed_iovas = (uintptr_t)ranges,
	};

	return ioctl(s->iommu, IOMMU_IOAS_ALLOW_IOVAS, &cmd);
}

TEST(allow_iovas)
{
	static const struct iommu_iova_range two[] = {
		{ 16 * MIB, 16 * MIB + 2 * PAGE - 1 },
		{ 32 * MIB, 32 * MIB + 4 * PAGE - 1 },
	};
	void *va = mem(8 * PAGE);
	__u64 iova = 0;
	struct setup s;

	setup_attached(&s);
	expect_ok(allow(&s, 2, two));
	expect_eq(map_anywhere(&s, va, PAGE), 16 * MIB);
	/* Too long for the rest of the first range */
	expect_eq(map_anywhere(&s, va, 3 * PAGE), 32 * MIB);
	expect_no_trace(ioas_map_flags(s.iommu, s.ioas, MAP_RW, va, 2 * PAGE,
				       &iova), ENOSPC);
	/* The list does not bind a program that chooses the IOVA. */
	expect_ok(map_rw(&s, va, PAGE, 64 * MIB));
	expect_ok(allow(&s, 0, NULL));
	expect_eq(map_anywhere(&s, va, PAGE), iova_base());
}

TEST(allow_iovas_errors)
{
	static const struct iommu_iova_range good = { 16 * MIB, 32 * MIB - 1 };
	static const struct iommu_iova_range overlap[] = {
		{ 0, 8 * MIB }, { 8 * MIB, 16 * MIB },
	};
	static const struct iommu_iova_range empty = { 8 * MIB, 8 * MIB };
	static const struct iommu_iova_range backward = { 8 * MIB, 4 * MIB };
	struct iommu_ioas_allow_iovas cmd = { .size = sizeof(cmd) };
	struct setup s;

	setup_bound(&s);
	expect_ok(allow(&s, 1, &good));
	expect_errno(allow(&s, 2, overlap), EINVAL);
	expect_errno(allow(&s, 1, &empty), EINVAL);
	expect_errno(allow(&s, 1, &backward), EINVAL);
	expect_errno(allow(&s, 1, NULL), EFAULT);
	cmd.ioas_id = 4711;
	expect_errno(ioctl(s.iommu, IOMMU_IOAS_ALLOW_IOVAS, &cmd), ENOENT);
	cmd.__reserved = 1;
	expect_errno(ioctl(s.iommu, IOMMU_IOAS_ALLOW_IOVAS, &cmd), EOPNOTSUPP);
	/* The good list is still in force. */
	expect_eq(map_anywhere(&s, mem(PAGE), PAGE), 16 * MIB);
}

TEST(automatic_iova)
{
	char *va = mem(4 * MIB);
	char *huge = (char *)(((uintptr_t)va + HUGE_PAGE - 1) & -HUGE_PAGE);
	const __u64 base = iova_base();
	struct setup s;
	__u64 iova;

	setup_attached(&s);
	expect_eq(map_anywhere(&s, va, PAGE), base);
	expect_eq(map_anywhere(&s, va + PAGE, PAGE), base + PAGE);
	iova = map_anywhere(&s, huge, HUGE_PAGE);
	expect_eq(iova % HUGE_PAGE, 0);
	expect(iova != 0);
	/* Freed IOVAs are used again. */
	expect_ok(unmap(&s, base, PAGE));
	expect_eq(map_anywhere(&s, va + 2 * PAGE, PAGE), base);
	expect(mapped(&s, base) && mapped(&s, base + PAGE) && mapped(&s, iova));
}

/* By default no memory is at an automatic IOVA, even if its upper bits are lost. */
TEST(automatic_iova_is_no_address)
{
	unsigned int bits;
	struct setup s;
	__u64 iova;

	skip_on_mainline("automatic IOVAs begin at 4096");
	if (iova_base() == 4096)
		test_skip("noiommufd was loaded with iova_base=4096");
	setup_attached(&s);
	iova = map_anywhere(&s, mem(PAGE), PAGE);
	for (bits = 64; bits >= 40; bits--)
		expect((iova & (~0ULL >> (64 - bits))) >= 1ULL << 39);
	iova = map_anywhere(&s, mem(PAGE), PAGE);
	for (bits = 64; bits >= 40; bits--)
		expect((iova & (~0ULL >> (64 - bits))) >= 1ULL << 39);
}

static int told_since(unsigned long long log)
{
	return kmsg_count(log, 5, "closed after memory was mapped at IOVAs of the kernel's choice",
			  NULL);
}

/* The log names a program that never asked for a physical address, and no other. */
TEST(never_translated)
{
	enum { NEVER, GET_PA, RUNS, COPY, FIXED, HOWS } how;
	struct noiommufd_run run;
	struct noiommufd_ioas_get_pa_runs runs = {
		.size = sizeof(runs), .length = PAGE, .num_runs = 1,
		.runs = (uintptr_t)&run,
	};
	char *va = mem(PAGE);
	unsigned long long log;
	struct setup s;
	__u64 iova;
	__u32 same;

	skip_on_mainline("it does not look");
	for (how = NEVER; how < HOWS; how++) {
		log = kmsg_mark();
		setup_attached(&s);
		if (how == FIXED)
			expect_ok(map_rw(&s, va, PAGE, iova = GIB));
		else
			iova = map_anywhere(&s, va, PAGE);
		switch (how) {
		case GET_PA:
			pa_of(s.iommu, s.ioas, iova);
			break;
		case RUNS:
			runs.ioas_id = s.ioas;
			runs.iova = iova;
			expect_ok(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS,
					&runs));
			break;
		case COPY:
			/* To the IOVA that equals the physical address. */
			same = new_ioas(s.iommu);
			attach(s.dev, same);
			iova = pagemap_pa(va);
			expect_ok(ioas_copy(s.iommu, same, s.ioas, MAP_FIXED_RW,
					    PAGE, &iova, iova_base()));
			break;
		default:
			break;
		}
		expect_ok(close(s.dev));
		expect_ok(close(s.iommu));
		expect_eq(told_since(log), how == NEVER);
	}
}

TEST(automatic_iova_keeps_the_offset)
{
	char *va = mem(PAGE);
	struct setup s;

	setup_bound(&s);
	expect_eq(map_anywhere(&s, va + 0x123, 16) % PAGE, 0x123);
}

/* MAP */

TEST(map_arguments)
{
	const __u32 fixed = IOMMU_IOAS_MAP_FIXED_IOVA;
	struct iommu_ioas_map map = {
		.size = sizeof(map), .flags = MAP_FIXED_RW, .__reserved = 1,
		.length = PAGE, .iova = PAGE,
	};
	void *va = mem(4 * PAGE);
	struct setup s;
	int attached;

	setup_bound(&s);
	for (attached = 0; attached < 2; attached++) {
		if (attached)
			attach(s.dev, s.ioas);
		map.ioas_id = s.ioas;
		map.user_va = (uintptr_t)va;
		expect_no_trace(ioctl(s.iommu, IOMMU_IOAS_MAP, &map),
				EOPNOTSUPP);
		expect_no_trace(map_at(&s, MAP_FIXED_RW | 8, va, PAGE, PAGE),
				EOPNOTSUPP);
		expect_no_trace(map_at(&s, ~0U, va, PAGE, PAGE), EOPNOTSUPP);
		expect_no_trace(map_at(&s, fixed, va, PAGE, PAGE), EINVAL);
		expect_no_trace(map_at(&s, 0, va, PAGE, PAGE), EINVAL);
		expect_no_trace(map_rw(&s, va, 0, PAGE), EINVAL);
		expect_no_trace(map_at(&s, MAP_RW, va, 0, 0), EINVAL);
		expect_no_trace(map_rw(&s, va, PAGE, U64_MAX), EOVERFLOW);
		expect_no_trace(map_rw(&s, va, U64_MAX, PAGE), EOVERFLOW);
		/* IOVA or VA wraps */
		expect_no_trace(map_rw(&s, va, 2 * PAGE, -PAGE), EOVERFLOW);
		expect_no_trace(map_rw(&s, (void *)-PAGE, 2 * PAGE, PAGE),
				EOVERFLOW);
		expect_no_trace(map_rw(&s, va, -2 * PAGE, PAGE), EOVERFLOW);
		/* The arguments are checked before the IOAS. */
		s.ioas = 4711;
		expect_no_trace(map_rw(&s, va, PAGE, PAGE), ENOENT);
		expect_no_trace(map_rw(&s, va, PAGE, U64_MAX), EOVERFLOW);
		expect_no_trace(map_at(&s, fixed, va, PAGE, PAGE), EINVAL);
		expect_no_trace(map_at(&s, 8, va, PAGE, U64_MAX), EOPNOTSUPP);
		s.ioas = s.devid;
		expect_no_trace(map_rw(&s, va, PAGE, PAGE), ENOENT);
		s.ioas = map.ioas_id;
		/* After all of this the IOAS is empty. */
		expect_errno(unmap(&s, 1, -2 * PAGE), ENOENT);
	}
}

TEST(map_unaligned)
{
	char *va = mem(4 * PAGE);
	struct setup s;

	setup_bound(&s);
	/* With nothing attached, all of this is allowed. */
	expect_ok(map_rw(&s, va + 8, 16, PAGE + 8));
	expect_ok(map_rw(&s, va, PAGE - 1, 16 * PAGE));
	expect_ok(map_rw(&s, va, 1, 32 * PAGE + 1));
	expect_ok(unmap(&s, 0, U64_MAX));

	attach(s.dev, s.ioas);
	expect_no_trace(map_rw(&s, va + 8, PAGE, PAGE), EINVAL);
	expect_no_trace(map_rw(&s, va, PAGE - 1, PAGE), EINVAL);
	expect_no_trace(map_rw(&s, va, 1, PAGE), EINVAL);
	expect_no_trace(map_rw(&s, va, PAGE, PAGE + 8), EINVAL);
	expect_no_trace(map_rw(&s, va + 8, PAGE, PAGE + 8), EINVAL);
	expect_no_trace(map_at(&s, MAP_RW, va + 8, PAGE, 0), EINVAL);
	expect_errno(unmap(&s, 1, -2 * PAGE), ENOENT);
}

/* Memory that cannot be pinned, partly after much that can */

struct bad_memory {
	const char *what;
	const void *va;
	__u64 length;
};

#define BAD_MEMORY	8

/* Allocate nothing after this: it would fill the holes. */
static void bad_memory(struct bad_memory *bad, int dev)
{
	char *hole = mem(GUARD), *none = mem(GUARD), *end = mem(GUARD);
	char *read_only = mem(4 * PAGE);
	char *nothing = mem_flags(PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
	char *bar = region_mmap(dev, VFIO_PCI_BAR0_REGION_INDEX,
				PROT_READ | PROT_WRITE);

	expect_ok(mprotect(none + GUARD / 2, PAGE, PROT_NONE));
	expect_ok(mprotect(read_only, 4 * PAGE, PROT_READ));
	expect_ok(munmap(hole + GUARD / 2, PAGE));
	expect_ok(munmap(end + GUARD - PAGE, PAGE));

	bad[0] = (struct bad_memory) { "nothing there", (void *)PAGE, PAGE };
	bad[1] = (struct bad_memory) { "a hole", hole, GUARD };
	bad[2] = (struct bad_memory) { "a PROT_NONE page", none, GUARD };
	bad[3] = (struct bad_memory) { "an end too early", end, GUARD };
	bad[4] = (struct bad_memory) { "read-only memory", read_only, 4 * PAGE };
	bad[5] = (struct bad_memory) { "PROT_NONE memory", nothing, PAGE };
	bad[6] = (struct bad_memory) {
		"a kernel address", (void *)0xffff888000000000, PAGE
	};
	bad[7] = (struct bad_memory) { "a BAR", bar, 4 * PAGE };
}

TEST(map_bad_memory)
{
	struct bad_memory bad[BAD_MEMORY];
	char *good = mem(PAGE);
	struct setup s;
	unsigned int i;

	setup_attached(&s);
	bad_memory(bad, s.dev);
	for (i = 0; i < BAD_MEMORY; i++) {
		long long before = pins(), charge = vm_pin();
		int ret = map_rw(&s, bad[i].va, bad[i].length, MIB);

		if (ret != -1 || errno != EFAULT)
			fail("MAP of %s: expected EFAULT, got %d %s",
			     bad[i].what, ret, strerrorname_np(errno));
		expect_pins(before);
		expect_eq(vm_pin(), charge);
		/* Its IOVA is free. */
		expect(!mapped(&s, MIB));
		expect_ok(map_rw(&s, good, PAGE, MIB));
		expect_ok(unmap(&s, MIB, PAGE));
	}
	/* It may be read. */
	expect_ok(map_at(&s, IOMMU_IOAS_MAP_FIXED_IOVA | MAP_READ, bad[4].va,
			 bad[4].length, MIB));
	expect_pas(&s, MIB, bad[4].va, bad[4].length);
}

TEST(lazy_map_of_bad_memory)
{
	struct bad_memory bad[BAD_MEMORY];
	struct setup s;
	unsigned int i;
	__u32 pt;

	setup_bound(&s);
	/* Good memory before and after it, which has to be released again */
	expect_ok(map_rw(&s, mem(GUARD), GUARD, 0));
	expect_ok(map_rw(&s, mem(GUARD), GUARD, 2 * MIB));
	bad_memory(bad, s.dev);
	for (i = 0; i < BAD_MEMORY; i++) {
		long long before = pins(), charge = vm_pin();
		int ret;

		expect_ok(map_rw(&s, bad[i].va, bad[i].length, MIB));
		pt = s.ioas;
		ret = dev_attach(s.dev, &pt);
		if (ret != -1 || errno != EFAULT)
			fail("ATTACH onto %s: expected EFAULT, got %d %s",
			     bad[i].what, ret, strerrorname_np(errno));
		expect_pins(before);
		expect_eq(vm_pin(), charge);
		expect_ok(unmap(&s, MIB, bad[i].length));
	}
	attach(s.dev, s.ioas);
}

TEST(lazy_map_is_pinned_at_attach)
{
	long long before = pins();
	char *va = mem(4 * PAGE);
	__u64 length = PAGE, pa;
	struct setup s;

	setup_bound(&s);
	expect_ok(map_rw(&s, va, 4 * PAGE, PAGE));
	expect_pins(before);
	expect_eq(vm_pin(), 0);
	expect_errno(get_pa(s.iommu, s.ioas, PAGE, &length, &pa), EOPNOTSUPP);
	attach(s.dev, s.ioas);
	expect_pins(before + 4);
	expect_eq(vm_pin(), 16);
	expect_pas(&s, PAGE, va, 4 * PAGE);
	expect_ok(unmap(&s, PAGE, 4 * PAGE));
	expect_pins(before);
	expect_eq(vm_pin(), 0);
}

TEST(lazy_unaligned_map_at_attach)
{
	char *va = mem(4 * PAGE);
	struct setup s;
	__u32 pt;

	setup_bound(&s);
	expect_ok(map_rw(&s, va, PAGE, 16 * PAGE));

	/* Its IOVA, its length, its VA */
	expect_ok(map_rw(&s, va, PAGE, PAGE + 8));
	pt = s.ioas;
	expect_no_trace(dev_attach(s.dev, &pt), EADDRINUSE);
	expect_ok(unmap(&s, PAGE + 8, PAGE));
	expect_ok(map_rw(&s, va, PAGE + 8, PAGE));
	pt = s.ioas;
	expect_no_trace(dev_attach(s.dev, &pt), EADDRINUSE);
	expect_ok(unmap(&s, PAGE, PAGE + 8));
	expect_ok(map_rw(&s, va + 8, PAGE, PAGE));
	pt = s.ioas;
	expect_no_trace(dev_attach(s.dev, &pt), EADDRINUSE);
	expect_ok(unmap(&s, PAGE, PAGE));
	attach(s.dev, s.ioas);
	expect_pas(&s, 16 * PAGE, va, PAGE);
}

TEST(map_overlap)
{
	char *va = mem(8 * PAGE);
	struct setup s;
	int attached;

	setup_bound(&s);
	for (attached = 0; attached < 2; attached++) {
		if (attached)
			attach(s.dev, s.ioas);
		expect_ok(map_rw(&s, va, 4 * PAGE, 8 * PAGE));
		expect_no_trace(map_rw(&s, va, 4 * PAGE, 8 * PAGE), EEXIST);
		expect_no_trace(map_rw(&s, va, PAGE, 9 * PAGE), EEXIST);
		expect_no_trace(map_rw(&s, va, PAGE, 11 * PAGE), EEXIST);
		expect_no_trace(map_rw(&s, va, 2 * PAGE, 7 * PAGE), EEXIST);
		expect_no_trace(map_rw(&s, va, 8 * PAGE, 7 * PAGE), EEXIST);
		/* Right beside it is room. */
		expect_ok(map_rw(&s, va, PAGE, 7 * PAGE));
		expect_ok(map_rw(&s, va, PAGE, 12 * PAGE));
		expect_ok(unmap(&s, 0, U64_MAX));
	}
}

TEST(map_at_the_ends)
{
	static const __u64 iovas[] = { 0, 1ULL << 63, -PAGE };
	char *va = mem(3 * PAGE);
	struct setup s;
	unsigned int i;

	setup_attached(&s);
	for (i = 0; i < ARRAY_SIZE(iovas); i++)
		expect_ok(map_rw(&s, va + i * PAGE, PAGE, iovas[i]));
	for (i = 0; i < ARRAY_SIZE(iovas); i++)
		expect_pas(&s, iovas[i], va + i * PAGE, PAGE);
	for (i = 0; i < ARRAY_SIZE(iovas); i++)
		expect_ok(unmap(&s, iovas[i], PAGE));
	for (i = 0; i < ARRAY_SIZE(iovas); i++)
		expect(!mapped(&s, iovas[i]));
}

TEST(map_many)
{
	const unsigned int n = 1000;
	long long before = pins();
	char *va = mem(n * PAGE);
	unsigned int i;
	struct setup s;
	__u64 done;

	setup_attached(&s);
	/* In an order that is neither that of VA nor of IOVA */
	for (i = 0; i < n; i++)
		expect_ok(map_rw(&s, va + i * PAGE, PAGE,
				 (i * 7919 % n) * GIB));
	expect_pins(before + n);
	for (i = 0; i < n; i++)
		expect_pas(&s, (i * 7919 % n) * GIB, va + i * PAGE, PAGE);
	/* Every other one goes, the rest stays. */
	for (i = 0; i < n; i += 2)
		expect_ok(unmap(&s, i * GIB, PAGE));
	expect_pins(before + n / 2);
	for (i = 0; i < n; i++)
		expect_eq(mapped(&s, i * GIB), i % 2);
	expect_ok(ioas_unmap(s.iommu, s.ioas, 0, U64_MAX, &done));
	expect_eq(done, n / 2 * PAGE);
	expect_pins(before);
}

TEST(destroy_releases)
{
	long long before = pins();
	struct setup s;

	setup_attached(&s);
	expect_ok(map_rw(&s, mem(GUARD), GUARD, 0));
	expect_pins(before + GUARD / PAGE);
	expect_errno(object_destroy(s.iommu, s.ioas), EBUSY);
	expect_ok(dev_detach(s.dev));
	expect_ok(object_destroy(s.iommu, s.ioas));
	expect_pins(before);
	expect_eq(vm_pin(), 0);
}

/* RLIMIT_MEMLOCK */

TEST(memlock)
{
	char *va = mem(32 * PAGE);
	struct setup s;
	unsigned int i;

	setup_attached(&s);
	drop_cap(CAP_IPC_LOCK);
	set_memlock(16 * PAGE);
	expect_no_trace(map_rw(&s, va, 17 * PAGE, 0), ENOMEM);
	expect_no_trace(map_rw(&s, va, 32 * PAGE, 0), ENOMEM);
	expect_ok(map_rw(&s, va, 16 * PAGE, 0));
	expect_eq(vm_pin(), 64);
	expect_no_trace(map_rw(&s, va, PAGE, MIB), ENOMEM);
	expect_ok(unmap(&s, 0, 16 * PAGE));

	/* Errors leave no charge, even after many good pages. */
	expect_ok(munmap(va + 15 * PAGE, PAGE));
	for (i = 0; i < 20; i++)
		expect_no_trace(map_rw(&s, va, 16 * PAGE, 0), EFAULT);
	expect_ok(map_rw(&s, va + 16 * PAGE, 16 * PAGE, 0));
}

TEST(memlock_counts_each_map)
{
	char *va = mem(PAGE);
	struct setup s;
	unsigned int i;

	setup_attached(&s);
	drop_cap(CAP_IPC_LOCK);
	set_memlock(4 * PAGE);
	for (i = 0; i < 4; i++)
		expect_ok(map_rw(&s, va, PAGE, i * PAGE));
	expect_no_trace(map_rw(&s, va, PAGE, 4 * PAGE), ENOMEM);
	expect_ok(unmap(&s, 0, PAGE));
	expect_ok(map_rw(&s, va, PAGE, 4 * PAGE));
}

TEST(memlock_capability)
{
	struct setup s;

	setup_attached(&s);
	set_memlock(0);
	expect_ok(map_rw(&s, mem(GUARD), GUARD, 0));
	drop_cap(CAP_IPC_LOCK);
	expect_no_trace(map_rw(&s, mem(PAGE), PAGE, MIB), ENOMEM);
}

TEST(memlock_lazy)
{
	char *va = mem(8 * PAGE);
	struct setup s;
	__u32 pt;

	setup_bound(&s);
	drop_cap(CAP_IPC_LOCK);
	set_memlock(4 * PAGE);
	expect_ok(map_rw(&s, va, 2 * PAGE, 0));
	expect_ok(map_rw(&s, va, 3 * PAGE, MIB));
	pt = s.ioas;
	expect_no_trace(dev_attach(s.dev, &pt), ENOMEM);
	expect_no_trace(dev_attach(s.dev, &pt), ENOMEM);
	expect_ok(unmap(&s, 0, 2 * PAGE));
	expect_ok(map_rw(&s, va, PAGE, 0));
	attach(s.dev, s.ioas);
	expect_eq(vm_pin(), 16);
}

TEST(memlock_of_huge_pages)
{
	struct setup s;
	void *va;

	huge_pages(2);
	setup_attached(&s);
	va = mem_flags(HUGE_PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
	drop_cap(CAP_IPC_LOCK);
	set_memlock(HUGE_PAGE - PAGE);
	expect_no_trace(map_rw(&s, va, HUGE_PAGE, 0), ENOMEM);
	expect_ok(map_rw(&s, va, HUGE_PAGE - PAGE, 0));
	expect_eq(vm_pin(), (HUGE_PAGE - PAGE) / 1024);
}

TEST(memlock_of_memfd)
{
	int fd = expect_ok(memfd_create("suite", 0));
	struct setup s;
	void *va;

	setup_attached(&s);
	expect_ok(ftruncate(fd, 4 * PAGE));
	va = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	expect(va != MAP_FAILED);
	drop_cap(CAP_IPC_LOCK);
	set_memlock(3 * PAGE);
	expect_no_trace(map_rw(&s, va, 4 * PAGE, 0), ENOMEM);
	expect_ok(map_rw(&s, va, 3 * PAGE, 0));
	expect_pas(&s, 0, va, 3 * PAGE);
}

static void map_in_another_context(void *arg)
{
	int iommu = iommu_open(), dev = cdev_open(edu_behind_bridge());
	__u32 devid, ioas;

	(void)arg;
	expect_ok(dev_bind(dev, iommu, &devid));
	ioas = new_ioas(iommu);
	attach(dev, ioas);
	expect_ok(ioas_map(iommu, ioas, mem(PAGE), PAGE, 0));
	expect_errno(ioas_map(iommu, ioas, mem(2 * PAGE), 2 * PAGE, MIB),
		     ENOMEM);
}

TEST(memlock_is_the_users)
{
	struct setup s;

	setup_attached(&s);
	driver_bind(edu_behind_bridge());
	drop_cap(CAP_IPC_LOCK);
	set_memlock(4 * PAGE);
	expect_ok(map_rw(&s, mem(3 * PAGE), 3 * PAGE, 0));
	in_child(map_in_another_context, NULL);
	/* Its charge has been returned by now. */
	expect_ok(map_rw(&s, mem(PAGE), PAGE, MIB));
}

/* Processes that map into one IOAS in turn */

static void map_after_parent(void *arg)
{
	const struct setup *s = arg;
	char parent[64];

	snprintf(parent, sizeof(parent), "/proc/%d/status", getppid());
	expect_eq(vm_pin(), 0);
	expect_ok(map_rw(s, mem(2 * PAGE), 2 * PAGE, MIB));
	expect_eq(vm_pin(), 8);
	expect_eq(read_field(parent, "VmPin"), 12);
	expect_ok(unmap(s, 0, 3 * PAGE));
	expect_eq(vm_pin(), 8);
	expect_eq(read_field(parent, "VmPin"), 0);
}

TEST(each_process_pays_for_its_own)
{
	struct setup s;
	int i;

	setup_attached(&s);
	for (i = 0; i < 3; i++) {
		expect_ok(map_rw(&s, mem(3 * PAGE), 3 * PAGE, 0));
		expect_eq(vm_pin(), 12);
		in_child(map_after_parent, &s);
		expect_eq(vm_pin(), 0);
		/* What the child has mapped */
		expect_ok(unmap(&s, MIB, 2 * PAGE));
		expect_eq(vm_pin(), 0);
	}
}

/* One process that changes its user */
TEST(each_user_pays_for_its_own)
{
	char *va = mem(4 * PAGE);
	struct setup s;
	uid_t uid;

	setup_attached(&s);
	drop_cap(CAP_IPC_LOCK);
	set_memlock(4 * PAGE);
	for (uid = 0; uid < 3; uid++) {
		expect_ok(setresuid(uid ? 65530 + uid : 0, -1, -1));
		expect_ok(map_rw(&s, va, 3 * PAGE, uid * MIB));
		expect_no_trace(map_rw(&s, va, 2 * PAGE, 3 * GIB), ENOMEM);
		expect_ok(map_rw(&s, va, PAGE, GIB + uid * MIB));
	}
	expect_eq(vm_pin(), 3 * 16);
	/* It goes back to the one that paid. */
	expect_ok(unmap(&s, MIB, 3 * PAGE));
	expect_no_trace(map_rw(&s, va, PAGE, 2 * GIB), ENOMEM);
	expect_ok(setresuid(65531, -1, -1));
	expect_ok(map_rw(&s, va, 3 * PAGE, 2 * GIB));
	expect_no_trace(map_rw(&s, va, PAGE, 3 * GIB), ENOMEM);
}

/* OPTION */

static int option(int iommu, __u32 id, __u16 op, __u32 object, __u64 *value)
{
	struct iommu_option cmd = {
		.size = sizeof(cmd), .option_id = id, .op = op,
		.object_id = object, .val64 = *value,
	};
	int ret = ioctl(iommu, IOMMU_OPTION, &cmd);

	*value = cmd.val64;
	return ret;
}

static int option_set(int iommu, __u32 id, __u32 object, __u64 value)
{
	return option(iommu, id, IOMMU_OPTION_OP_SET, object, &value);
}

static __u64 option_get(int iommu, __u32 id, __u32 object)
{
	__u64 value = 4711;

	expect_ok(option(iommu, id, IOMMU_OPTION_OP_GET, object, &value));
	return value;
}

TEST(option_rlimit_mode)
{
	const __u32 mode = IOMMU_OPTION_RLIMIT_MODE;
	int iommu = iommu_open();
	__u64 value = 0;
	__u32 ioas;

	expect_eq(option_get(iommu, mode, 0), 0);
	expect_ok(option_set(iommu, mode, 0, 1));
	expect_eq(option_get(iommu, mode, 0), 1);
	expect_errno(option_set(iommu, mode, 0, 2), EINVAL);
	expect_errno(option_set(iommu, mode, 1, 0), EOPNOTSUPP);
	expect_errno(option(iommu, mode, 2, 0, &value), EOPNOTSUPP);
	ioas = new_ioas(iommu);
	expect_errno(option_set(iommu, mode, 0, 0), EBUSY);
	expect_eq(option_get(iommu, mode, 0), 1);
	expect_ok(object_destroy(iommu, ioas));
	expect_ok(option_set(iommu, mode, 0, 0));
	drop_cap(CAP_SYS_RESOURCE);
	expect_errno(option_set(iommu, mode, 0, 1), EPERM);
	expect_eq(option_get(iommu, mode, 0), 0);
}

TEST(option_charge_the_process)
{
	char *va = mem(8 * PAGE);
	struct setup s = {};

	s.iommu = iommu_open();
	s.dev = cdev_open(edu());
	expect_ok(option_set(s.iommu, IOMMU_OPTION_RLIMIT_MODE, 0, 1));
	expect_ok(dev_bind(s.dev, s.iommu, &s.devid));
	s.ioas = new_ioas(s.iommu);
	attach(s.dev, s.ioas);
	drop_cap(CAP_IPC_LOCK);
	set_memlock(4 * PAGE);
	expect_no_trace(map_rw(&s, va, 5 * PAGE, 0), ENOMEM);
	expect_ok(map_rw(&s, va, 4 * PAGE, 0));
	expect_eq(read_field("/proc/self/status", "VmLck"), 16);
	expect_no_trace(map_rw(&s, va, PAGE, MIB), ENOMEM);
	expect_ok(unmap(&s, 0, 4 * PAGE));
	expect_eq(read_field("/proc/self/status", "VmLck"), 0);
}

TEST(option_huge_pages)
{
	const __u32 huge = IOMMU_OPTION_HUGE_PAGES;
	struct setup s;
	__u64 value = 0;

	setup_attached(&s);
	expect_eq(option_get(s.iommu, huge, s.ioas), 1);
	expect_ok(option_set(s.iommu, huge, s.ioas, 0));
	expect_eq(option_get(s.iommu, huge, s.ioas), 0);
	expect_ok(map_rw(&s, mem(GUARD), GUARD, 0));
	expect(mapped(&s, 0));
	/* No change, a change that is always possible, one that is not */
	expect_ok(option_set(s.iommu, huge, s.ioas, 0));
	expect_ok(option_set(s.iommu, huge, s.ioas, 1));
	expect_errno(option_set(s.iommu, huge, s.ioas, 0), EINVAL);
	expect_eq(option_get(s.iommu, huge, s.ioas), 1);
	expect_ok(unmap(&s, 0, GUARD));
	expect_ok(option_set(s.iommu, huge, s.ioas, 0));

	expect_errno(option_set(s.iommu, huge, s.ioas, 2), EINVAL);
	expect_errno(option_set(s.iommu, huge, 0, 1), ENOENT);
	expect_errno(option_set(s.iommu, huge, 4711, 1), ENOENT);
	expect_errno(option_set(s.iommu, huge, s.devid, 1), ENOENT);
	expect_errno(option(s.iommu, huge, 2, s.ioas, &value), EOPNOTSUPP);
	expect_errno(option_set(s.iommu, 2, s.ioas, 1), EOPNOTSUPP);
}

TEST(option_huge_pages_off_aligns)
{
	struct iommu_ioas_iova_ranges cmd;
	struct iommu_iova_range range;
	struct setup s;

	setup_bound(&s);
	expect_ok(option_set(s.iommu, IOMMU_OPTION_HUGE_PAGES, s.ioas, 0));
	expect_ok(iova_ranges(&s, &cmd, 1, &range));
	expect_eq(cmd.out_iova_alignment, PAGE);
}

TEST(option_reserved)
{
	struct iommu_option cmd = {
		.size = sizeof(cmd), .op = IOMMU_OPTION_OP_GET, .__reserved = 1,
	};

	expect_errno(ioctl(iommu_open(), IOMMU_OPTION, &cmd), EOPNOTSUPP);
}

/* UNMAP */

TEST(unmap_errors)
{
	char *va = mem(16 * PAGE);
	struct setup s;
	int attached;

	setup_bound(&s);
	for (attached = 0; attached < 2; attached++) {
		if (attached)
			attach(s.dev, s.ioas);
		expect_ok(map_rw(&s, va, 4 * PAGE, 8 * PAGE));
		expect_no_trace(unmap(&s, 8 * PAGE, 0), EINVAL);
		expect_no_trace(unmap(&s, U64_MAX, PAGE), EOVERFLOW);
		expect_no_trace(unmap(&s, PAGE, U64_MAX), EOVERFLOW);
		expect_no_trace(unmap(&s, 8 * PAGE, -2 * PAGE), EOVERFLOW);
		/* A part of it; straddling; nothing there */
		expect_no_trace(unmap(&s, 8 * PAGE, PAGE), ENOENT);
		expect_no_trace(unmap(&s, 8 * PAGE, 4 * PAGE - 1), ENOENT);
		expect_no_trace(unmap(&s, 9 * PAGE, PAGE), ENOENT);
		expect_no_trace(unmap(&s, 11 * PAGE, PAGE), ENOENT);
		expect_no_trace(unmap(&s, 7 * PAGE, 2 * PAGE), ENOENT);
		expect_no_trace(unmap(&s, 11 * PAGE, 8 * PAGE), ENOENT);
		expect_no_trace(unmap(&s, 4 * PAGE, PAGE), ENOENT);
		expect_no_trace(unmap(&s, 12 * PAGE, PAGE), ENOENT);
		if (attached)
			expect_pas(&s, 8 * PAGE, va, 4 * PAGE);
		expect_no_trace(ioas_unmap(s.iommu, 4711, 8 * PAGE, PAGE, NULL),
				ENOENT);
		expect_no_trace(ioas_unmap(s.iommu, s.devid, 8 * PAGE, PAGE,
					   NULL), ENOENT);
		expect_ok(unmap(&s, 8 * PAGE, 4 * PAGE));
		expect_no_trace(unmap(&s, 8 * PAGE, 4 * PAGE), ENOENT);
	}
}

TEST(unmap_that_fails_changes_nothing)
{
	char *va = mem(16 * PAGE);
	long long before = pins();
	struct setup s;

	skip_on_mainline("a failing UNMAP has removed the whole areas it met");
	setup_attached(&s);
	expect_ok(map_rw(&s, va, 4 * PAGE, 8 * PAGE));
	expect_ok(map_rw(&s, va + 4 * PAGE, 4 * PAGE, 12 * PAGE));
	expect_ok(map_rw(&s, va + 8 * PAGE, 4 * PAGE, 16 * PAGE));
	expect_no_trace(unmap(&s, 8 * PAGE, 6 * PAGE), ENOENT);
	expect_no_trace(unmap(&s, 8 * PAGE, 11 * PAGE), ENOENT);
	expect_no_trace(unmap(&s, 10 * PAGE, 10 * PAGE), ENOENT);
	expect_pins(before + 12);
	expect_pas(&s, 8 * PAGE, va, 12 * PAGE);
}

TEST(unmap_several)
{
	char *va = mem(16 * PAGE);
	long long before = pins();
	struct setup s;
	__u64 done;

	setup_attached(&s);
	expect_ok(map_rw(&s, va, 4 * PAGE, 8 * PAGE));
	expect_ok(map_rw(&s, va, 2 * PAGE, 12 * PAGE));
	expect_ok(map_rw(&s, va, PAGE, 20 * PAGE));
	expect_ok(map_rw(&s, va, PAGE, 64 * PAGE));
	/* Holes between and around them do not matter. */
	expect_ok(ioas_unmap(s.iommu, s.ioas, 7 * PAGE, 32 * PAGE, &done));
	expect_eq(done, 7 * PAGE);
	expect_pins(before + 1);
	expect(mapped(&s, 64 * PAGE));
	expect(!mapped(&s, 8 * PAGE) && !mapped(&s, 20 * PAGE));
}

TEST(unmap_all)
{
	char *va = mem(16 * PAGE);
	long long before = pins();
	struct setup s;
	int attached;
	__u64 done;

	setup_bound(&s);
	for (attached = 0; attached < 2; attached++) {
		if (attached)
			attach(s.dev, s.ioas);
		done = 4711;
		expect_ok(ioas_unmap(s.iommu, s.ioas, 0, U64_MAX, &done));
		expect_eq(done, 0);
		expect_errno(unmap(&s, 0, U64_MAX - 1), ENOENT);

		expect_ok(map_rw(&s, va, 4 * PAGE, 0));
		expect_ok(map_rw(&s, va, PAGE, -PAGE));
		expect_ok(ioas_unmap(s.iommu, s.ioas, 0, U64_MAX, &done));
		expect_eq(done, 5 * PAGE);
		expect_pins(before);
		expect_eq(vm_pin(), 0);

		expect_ok(map_rw(&s, va, 4 * PAGE, PAGE));
		expect_ok(ioas_unmap(s.iommu, s.ioas, 0, U64_MAX - 1, &done));
		expect_eq(done, 4 * PAGE);
		expect_pins(before);
	}
}

TEST(unmap_after_the_memory_has_gone)
{
	long long before = pins();
	char *va = mem(4 * PAGE);
	struct setup s;

	setup_attached(&s);
	expect_ok(map_rw(&s, va, 4 * PAGE, 0));
	expect_ok(munmap(va, 4 * PAGE));
	expect_pins(before + 4);
	expect_ok(unmap(&s, 0, 4 * PAGE));
	expect_pins(before);
	expect_eq(vm_pin(), 0);
}

/* COPY */

static int copy_to(const struct setup *s, __u32 dst, __u32 flags, __u64 length,
		   __u64 to, __u64 from)
{
	return ioas_copy(s->iommu, dst, s->ioas, flags, length, &to, from);
}

TEST(copy)
{
	char *va = mem(8 * PAGE);
	struct setup s, other;
	long long before;
	__u64 iova = 0;

	setup_attached(&s);
	other = s;
	other.ioas = new_ioas(s.iommu);
	expect_ok(hwpt_alloc(s.iommu, s.devid, other.ioas, &other.hwpt));
	expect_ok(map_rw(&s, va, 4 * PAGE, 8 * PAGE));
	expect_ok(map_rw(&s, va + 4 * PAGE, 4 * PAGE, 12 * PAGE));
	before = pins();

	/* All of one, a part, and across both */
	expect_ok(copy_to(&s, other.ioas, MAP_FIXED_RW, 4 * PAGE, 0, 8 * PAGE));
	expect_ok(copy_to(&s, other.ioas, MAP_FIXED_RW, PAGE, MIB, 10 * PAGE));
	expect_ok(copy_to(&s, other.ioas, MAP_FIXED_RW, 6 * PAGE, 2 * MIB,
			  9 * PAGE));
	expect_pas(&other, 0, va, 4 * PAGE);
	expect_pas(&other, MIB, va + 2 * PAGE, PAGE);
	expect_pas(&other, 2 * MIB, va + PAGE, 6 * PAGE);
	/* Into the same IOAS, at an IOVA that the kernel chooses */
	expect_ok(copy_to(&s, s.ioas, MAP_FIXED_RW, PAGE, 0, 8 * PAGE));
	expect_pas(&s, 0, va, PAGE);
	expect_ok(ioas_copy(s.iommu, other.ioas, s.ioas, MAP_RW, PAGE, &iova,
			    8 * PAGE));
	expect_pas(&other, iova, va, PAGE);
	/* Shared, not pinned or charged again */
	expect_pins(before);
	expect_eq(vm_pin(), 32);
}

TEST(copy_errors)
{
	const __u32 fixed = IOMMU_IOAS_MAP_FIXED_IOVA;
	char *va = mem(8 * PAGE);
	struct setup s, unknown;
	int attached;

	setup_bound(&s);
	for (attached = 0; attached < 2; attached++) {
		if (attached)
			attach(s.dev, s.ioas);
		expect_ok(map_rw(&s, va, 4 * PAGE, 8 * PAGE));
		expect_ok(map_rw(&s, va, PAGE, 16 * PAGE));
		expect_ok(map_at(&s, fixed | MAP_READ, va, PAGE, 32 * PAGE));

#define refused(flags, length, to, from, err) \
	expect_no_trace(copy_to(&s, s.ioas, flags, length, to, from), err)

		refused(MAP_FIXED_RW | 8, PAGE, 0, 8 * PAGE, EOPNOTSUPP);
		refused(MAP_FIXED_RW, U64_MAX, 0, 8 * PAGE, EOVERFLOW);
		refused(MAP_FIXED_RW, PAGE, U64_MAX, 8 * PAGE, EOVERFLOW);
		refused(MAP_FIXED_RW, PAGE, 0, U64_MAX, EOVERFLOW);
		refused(MAP_FIXED_RW, -2 * PAGE, 0, 8 * PAGE, EOVERFLOW);
		refused(MAP_FIXED_RW, 2 * PAGE, -PAGE, 8 * PAGE, EOVERFLOW);
		refused(fixed, PAGE, 0, 8 * PAGE, EINVAL);
		refused(MAP_FIXED_RW, 0, 0, 8 * PAGE, EINVAL);
		/* Past the end; before the start; across a hole; nothing */
		refused(MAP_FIXED_RW, 5 * PAGE, 0, 8 * PAGE, ENOENT);
		refused(MAP_FIXED_RW, 2 * PAGE, 0, 11 * PAGE, ENOENT);
		refused(MAP_FIXED_RW, 2 * PAGE, 0, 7 * PAGE, ENOENT);
		refused(MAP_FIXED_RW, 9 * PAGE, 0, 8 * PAGE, ENOENT);
		refused(MAP_FIXED_RW, PAGE, 0, 64 * PAGE, ENOENT);
		/* More access than the first mapping has */
		refused(MAP_FIXED_RW, PAGE, 0, 32 * PAGE, EPERM);
		refused(fixed | MAP_WRITE, PAGE, 0, 32 * PAGE, EPERM);
		/* Where something is mapped already */
		refused(MAP_FIXED_RW, PAGE, 11 * PAGE, 8 * PAGE, EEXIST);
		refused(MAP_FIXED_RW, 4 * PAGE, 6 * PAGE, 8 * PAGE, EEXIST);
		if (attached) {
			refused(MAP_FIXED_RW, PAGE, 8, 8 * PAGE, EINVAL);
			refused(MAP_FIXED_RW, PAGE, 0, 8 * PAGE + 8, EINVAL);
			refused(MAP_FIXED_RW, 8, 0, 8 * PAGE, EINVAL);
		}
		expect_no_trace(copy_to(&s, 4711, MAP_FIXED_RW, PAGE, 0,
					8 * PAGE), ENOENT);
		expect_no_trace(copy_to(&s, s.devid, MAP_FIXED_RW, PAGE, 0,
					8 * PAGE), ENOENT);
		expect_ok(copy_to(&s, s.ioas, fixed | MAP_READ, PAGE, 0,
				  32 * PAGE));
		expect_ok(unmap(&s, 0, U64_MAX));
		unknown = s;
		unknown.ioas = 4711;
		expect_no_trace(copy_to(&unknown, s.ioas, MAP_FIXED_RW, PAGE, 0,
					0), ENOENT);
	}
}

TEST(copy_then_unmap_the_source)
{
	char *va = mem(8 * PAGE);
	struct setup s, other;
	long long before;

	setup_attached(&s);
	other = s;
	other.ioas = new_ioas(s.iommu);
	expect_ok(hwpt_alloc(s.iommu, s.devid, other.ioas, &other.hwpt));
	before = pins();
	drop_cap(CAP_IPC_LOCK);
	set_memlock(8 * PAGE);
	expect_ok(map_rw(&s, va, 8 * PAGE, 0));
	expect_ok(copy_to(&s, other.ioas, MAP_FIXED_RW, PAGE, 0, PAGE));
	expect_ok(copy_to(&s, other.ioas, MAP_FIXED_RW, 2 * PAGE, MIB,
			  4 * PAGE));
	expect_pins(before + 8);
	expect_eq(vm_pin(), 32);

	/* The copied pages alone stay pinned and charged. */
	expect_ok(unmap(&s, 0, 8 * PAGE));
	expect_pins(before + 3);
	expect_eq(vm_pin(), 12);
	expect_pas(&other, 0, va + PAGE, PAGE);
	expect_pas(&other, MIB, va + 4 * PAGE, 2 * PAGE);
	expect_no_trace(map_rw(&s, va, 6 * PAGE, 0), ENOMEM);
	expect_ok(map_rw(&s, va, 5 * PAGE, 0));
	expect_ok(unmap(&s, 0, 5 * PAGE));

	expect_ok(unmap(&other, 0, PAGE));
	expect_pins(before + 2);
	expect_pas(&other, MIB, va + 4 * PAGE, 2 * PAGE);
	expect_ok(unmap(&other, MIB, 2 * PAGE));
	expect_pins(before);
	expect_eq(vm_pin(), 0);
	expect_ok(map_rw(&s, va, 8 * PAGE, 0));
}

TEST(copies_overlap)
{
	char *va = mem(8 * PAGE);
	struct setup s;
	long long before;

	setup_attached(&s);
	before = pins();
	expect_ok(map_rw(&s, va, 8 * PAGE, 0));
	/* Pages 1-4, 3-6 and 3 */
	expect_ok(copy_to(&s, s.ioas, MAP_FIXED_RW, 4 * PAGE, MIB, PAGE));
	expect_ok(copy_to(&s, s.ioas, MAP_FIXED_RW, 4 * PAGE, 2 * MIB,
			  3 * PAGE));
	expect_ok(copy_to(&s, s.ioas, MAP_FIXED_RW, PAGE, 3 * MIB, 3 * PAGE));
	expect_ok(unmap(&s, 0, 8 * PAGE));
	expect_pins(before + 6);
	expect_ok(unmap(&s, MIB, 4 * PAGE));
	expect_pins(before + 4);
	expect_pas(&s, 2 * MIB, va + 3 * PAGE, 4 * PAGE);
	/* A copy of a copy */
	expect_ok(copy_to(&s, s.ioas, MAP_FIXED_RW, PAGE, 4 * MIB,
			  2 * MIB + PAGE));
	expect_pas(&s, 4 * MIB, va + 4 * PAGE, PAGE);
	expect_ok(unmap(&s, 2 * MIB, 4 * PAGE));
	expect_pins(before + 2);
	expect_pas(&s, 3 * MIB, va + 3 * PAGE, PAGE);
	expect_pas(&s, 4 * MIB, va + 4 * PAGE, PAGE);
	expect_ok(unmap(&s, 0, U64_MAX));
	expect_pins(before);
	expect_eq(vm_pin(), 0);
}

TEST(copy_outlives_the_ioas_of_its_source)
{
	char *va = mem(8 * PAGE);
	struct setup s, lazy;
	long long before;

	setup_attached(&s);
	before = pins();
	lazy = s;
	lazy.ioas = new_ioas(s.iommu);
	expect_ok(map_rw(&lazy, va, 8 * PAGE, 0));
	expect_pins(before);
	/* The copy's IOAS has an HWPT, the source's none: the copy is pinned. */
	expect_ok(copy_to(&lazy, s.ioas, MAP_FIXED_RW, 2 * PAGE, 0, 2 * PAGE));
	expect_pins(before + 2);
	expect_eq(vm_pin(), 8);
	expect_pas(&s, 0, va + 2 * PAGE, 2 * PAGE);
	expect_ok(object_destroy(s.iommu, lazy.ioas));
	expect_pins(before + 2);
	expect_pas(&s, 0, va + 2 * PAGE, 2 * PAGE);
	expect_ok(unmap(&s, 0, 2 * PAGE));
	expect_pins(before);
}

TEST(copy_of_lazy_memory_then_attach)
{
	char *va = mem(8 * PAGE);
	struct setup s;
	long long before;

	setup_bound(&s);
	before = pins();
	expect_ok(map_rw(&s, va, 8 * PAGE, 0));
	expect_ok(copy_to(&s, s.ioas, MAP_FIXED_RW, 8 * PAGE, MIB, 0));
	expect_ok(copy_to(&s, s.ioas, MAP_FIXED_RW, PAGE, 2 * MIB, 7 * PAGE));
	expect_pins(before);
	attach(s.dev, s.ioas);
	/* Each page once */
	expect_pins(before + 8);
	expect_eq(vm_pin(), 32);
	expect_pas(&s, 0, va, 8 * PAGE);
	expect_pas(&s, MIB, va, 8 * PAGE);
	expect_pas(&s, 2 * MIB, va + 7 * PAGE, PAGE);
}

TEST(copy_of_memory_that_has_gone)
{
	char *va = mem(4 * PAGE);
	struct setup s;
	__u64 pa[4];
	int i;

	setup_attached(&s);
	for (i = 0; i < 4; i++)
		pa[i] = pagemap_pa(va + i * PAGE);
	expect_ok(map_rw(&s, va, 4 * PAGE, 0));
	expect_ok(munmap(va, 4 * PAGE));
	expect_ok(copy_to(&s, s.ioas, MAP_FIXED_RW, 4 * PAGE, MIB, 0));
	expect_ok(unmap(&s, 0, 4 * PAGE));
	for (i = 0; i < 4; i++)
		expect_eq(pa_of(s.iommu, s.ioas, MIB + i * PAGE), pa[i]);
}

/* Errors of GET_PA; pa.c tests its results */

static int get(const struct setup *s, __u32 flags, __u32 reserved, __u64 iova,
	       __u64 length)
{
	struct iommu_ioas_noiommu_get_pa get = {
		.size = sizeof(get), .flags = flags, .ioas_id = s->ioas,
		.__reserved = reserved, .iova = iova, .length = length,
	};

	return ioctl(s->iommu, IOMMU_IOAS_NOIOMMU_GET_PA, &get);
}

TEST(get_pa_errors)
{
	struct setup s;

	setup_attached(&s);
	expect_ok(map_rw(&s, mem(PAGE), PAGE, PAGE));
	expect_ok(get(&s, 0, 0, PAGE, 1));
	/* Checked in this order, and before the IOAS is looked up */
	expect_errno(get(&s, 1, 0, U64_MAX, 0), EOPNOTSUPP);
	expect_errno(get(&s, 0, 1, U64_MAX, 0), EOPNOTSUPP);
	expect_errno(get(&s, 0, 0, U64_MAX, 0), EINVAL);
	expect_errno(get(&s, 0, 0, U64_MAX, 1), EOVERFLOW);
	expect_errno(get(&s, 0, 0, PAGE, 0), EINVAL);
	expect_errno(get(&s, 0, 0, 0, PAGE), ENOENT);
	expect_errno(get(&s, 0, 0, PAGE - 1, PAGE), ENOENT);
	expect_errno(get(&s, 0, 0, 2 * PAGE, PAGE), ENOENT);
	expect_errno(get(&s, 0, 0, U64_MAX - 1, PAGE), ENOENT);
	s.ioas = 4711;
	expect_errno(get(&s, 1, 0, PAGE, 1), EOPNOTSUPP);
	expect_errno(get(&s, 0, 0, PAGE, 0), EINVAL);
	expect_errno(get(&s, 0, 0, U64_MAX, 1), EOVERFLOW);
	expect_errno(get(&s, 0, 0, PAGE, 1), ENOENT);
	s.ioas = s.devid;
	expect_errno(get(&s, 0, 0, PAGE, 1), ENOENT);
	s.ioas = s.hwpt;
	expect_errno(get(&s, 0, 0, PAGE, 1), ENOENT);
}
