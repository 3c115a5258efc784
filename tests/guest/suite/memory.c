// SPDX-License-Identifier: GPL-2.0-only
/*
 * What there is beyond Linux 7.3 for memory: the list of extensions, a limit for
 * the physical addresses that an IOAS may have, and DMA memory.
 */
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <noiommufd/noiommufd.h>

#include "harness.h"

/* Extensions */

static int get_info(int iommu, struct noiommufd_get_info *info)
{
	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	return ioctl(iommu, NOIOMMUFD_GET_INFO, info);
}

TEST(info_lists_extensions)
{
	const __u64 always = NOIOMMUFD_EXT_GET_PA_RUNS |
			     NOIOMMUFD_EXT_IOAS_SET_MAX_PA |
			     NOIOMMUFD_EXT_MEM_ALLOC | NOIOMMUFD_EXT_IOAS_BATCH;
	struct noiommufd_get_info info;
	int iommu;

	skip_on_mainline("it has no extensions");
	iommu = iommu_open();
	expect_ok(get_info(iommu, &info));
	expect_eq(info.extensions & always, always);
}

/* Programs of other versions have a shorter struct, or a longer one. */
TEST(info_of_other_sizes)
{
	struct {
		struct noiommufd_get_info info;
		__u64 more[4];
	} u = { .info.size = offsetof(struct noiommufd_get_info, extensions) + 8 };
	struct noiommufd_get_info info;
	int iommu;

	skip_on_mainline("it has no extensions");
	iommu = iommu_open();
	expect_ok(get_info(iommu, &info));
	expect_ok(ioctl(iommu, NOIOMMUFD_GET_INFO, &u));
	expect_eq(u.info.extensions, info.extensions);
	u.info.size = sizeof(u);
	expect_ok(ioctl(iommu, NOIOMMUFD_GET_INFO, &u));
	expect(!memcmp(&u.info.extensions, &info.extensions,
		       sizeof(info) - offsetof(struct noiommufd_get_info, extensions)));
	expect_eq(u.more[0], 0);
	u.more[3] = 1;
	expect_errno(ioctl(iommu, NOIOMMUFD_GET_INFO, &u), E2BIG);
	u.info.size = 8;
	expect_errno(ioctl(iommu, NOIOMMUFD_GET_INFO, &u), EINVAL);
	info.flags = 1;
	expect_errno(ioctl(iommu, NOIOMMUFD_GET_INFO, &info), EOPNOTSUPP);
	expect_errno(ioctl(iommu, NOIOMMUFD_GET_INFO, NULL), EFAULT);
}

/* Ours are no ioctls of the kernel's iommufd, nor the other way round. */
TEST(unknown_extensions)
{
	struct noiommufd_get_info info = { .size = sizeof(info) };
	int iommu = iommu_open();
	unsigned int nr;

	expect_errno(ioctl(iommu, _IO(NOIOMMUFD_TYPE, 0x7f), &info), ENOTTY);
	for (nr = 0x90; nr < 0x100; nr++)
		expect_errno(ioctl(iommu, _IO(NOIOMMUFD_TYPE, nr), &info),
			     ENOTTY);
	expect_errno(ioctl(iommu, _IOW(NOIOMMUFD_TYPE, 0x81, int), &info),
		     ENOTTY);
	if (on_mainline())
		expect_errno(get_info(iommu, &info), ENOTTY);
}

/* A limit for the physical addresses of an IOAS */

static int set_max_pa(int iommu, __u32 ioas, __u64 max_pa)
{
	struct noiommufd_ioas_set_max_pa set = {
		.size = sizeof(set), .ioas_id = ioas, .max_pa = max_pa,
	};

	return ioctl(iommu, NOIOMMUFD_IOAS_SET_MAX_PA, &set);
}

static int map_fd(int iommu, __u32 ioas, int fd, __u64 start, __u64 length,
		  __u64 iova)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map), .flags = MAP_FIXED_RW, .ioas_id = ioas,
		.fd = fd, .start = start, .length = length, .iova = iova,
	};

	return ioctl(iommu, IOMMU_IOAS_MAP_FILE, &map);
}

#define NPAGES		64
#define BASE		0x100000000ULL
#define SIZE		(NPAGES * PAGE)

/* Memory that is pinned in an IOAS without a limit, and another IOAS */
struct limit {
	struct setup s;
	char *va;
	int fd;
	__u64 highest;		/* last byte of the highest page */
	__u32 ioas;
};

static void setup_limit(struct limit *l)
{
	__u64 i;

	skip_on_mainline("it has no limit");
	setup_attached(&l->s);
	l->fd = expect_ok(memfd_create("suite", MFD_CLOEXEC));
	expect_ok(ftruncate(l->fd, SIZE));
	l->va = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, l->fd, 0);
	expect(l->va != MAP_FAILED);
	expect_ok(ioas_map(l->s.iommu, l->s.ioas, l->va, SIZE, BASE));
	l->highest = 0;
	for (i = 0; i < NPAGES; i++) {
		__u64 pa = pa_of(l->s.iommu, l->s.ioas, BASE + i * PAGE);

		if (pa + PAGE - 1 > l->highest)
			l->highest = pa + PAGE - 1;
	}
	l->ioas = new_ioas(l->s.iommu);
}

static int copy_all(const struct limit *l)
{
	__u64 iova = 2 * BASE;

	return ioas_copy(l->s.iommu, l->ioas, l->s.ioas, MAP_FIXED_RW, SIZE, &iova,
			 BASE);
}

static int unmap_all(const struct limit *l)
{
	__u64 done;

	return ioas_unmap(l->s.iommu, l->ioas, 0, U64_MAX, &done);
}

/* Each way to map memory, in an IOAS that pins it at once. */
static void map_each_way(const struct limit *l, int err)
{
	const long long before = pins(), charged = vm_pin();
	unsigned int way;
	int rc = 0;

	for (way = 0; way < 3; way++) {
		if (way == 0)
			rc = ioas_map(l->s.iommu, l->ioas, l->va, SIZE, BASE);
		else if (way == 1)
			rc = map_fd(l->s.iommu, l->ioas, l->fd, 0, SIZE, BASE);
		else
			rc = copy_all(l);
		if (err)
			expect_errno(rc, err);
		else
			expect_ok(rc);
		if (!err)
			expect_ok(unmap_all(l));
		else
			expect_errno(ioas_unmap(l->s.iommu, l->ioas, BASE, SIZE,
						&(__u64){ 0 }), ENOENT);
		expect_pins(before);
		expect_eq(vm_pin(), charged);
	}
}

TEST(max_pa_when_mapped)
{
	struct limit l;
	__u32 hwpt;

	setup_limit(&l);
	expect_ok(hwpt_alloc(l.s.iommu, l.s.devid, l.ioas, &hwpt));
	map_each_way(&l, 0);
	/* The last byte counts. */
	expect_ok(set_max_pa(l.s.iommu, l.ioas, l.highest - 1));
	map_each_way(&l, ERANGE);
	expect_ok(set_max_pa(l.s.iommu, l.ioas, l.highest));
	map_each_way(&l, 0);
	/* Below all memory, and none */
	expect_ok(set_max_pa(l.s.iommu, l.ioas, PAGE - 1));
	map_each_way(&l, ERANGE);
	expect_ok(set_max_pa(l.s.iommu, l.ioas, U64_MAX));
	map_each_way(&l, 0);
	expect_ok(set_max_pa(l.s.iommu, l.ioas, PAGE - 1));
	expect_ok(set_max_pa(l.s.iommu, l.ioas, 0));
	map_each_way(&l, 0);
	/* What is pinned without a limit is as it was. */
	expect_pas(&l.s, BASE, l.va, SIZE);
}

TEST(max_pa_when_attached)
{
	long long before, charged;
	struct limit l;
	__u32 hwpt, id;
	char *low;

	setup_limit(&l);
	low = mem(PAGE);
	expect_ok(set_max_pa(l.s.iommu, l.ioas, l.highest - 1));
	/* Nothing is pinned yet. */
	expect_ok(ioas_map(l.s.iommu, l.ioas, low, PAGE, 0));
	expect_ok(ioas_map(l.s.iommu, l.ioas, l.va, SIZE, BASE));
	expect_ok(copy_all(&l));
	before = pins();
	charged = vm_pin();
	id = l.ioas;
	expect_errno(dev_attach(l.s.dev, &id), ERANGE);
	expect_errno(hwpt_alloc(l.s.iommu, l.s.devid, l.ioas, &hwpt), ERANGE);
	expect_pins(before);
	expect_eq(vm_pin(), charged);
	/* The device has the IOAS that it had. */
	expect_pas(&l.s, BASE, l.va, SIZE);

	expect_ok(unmap_all(&l));
	expect_ok(set_max_pa(l.s.iommu, l.ioas, l.highest));
	expect_ok(ioas_map(l.s.iommu, l.ioas, l.va, SIZE, BASE));
	attach(l.s.dev, l.ioas);
	expect_eq(pa_of(l.s.iommu, l.ioas, BASE),
		  pa_of(l.s.iommu, l.ioas, BASE + PAGE - 1) - PAGE + 1);
}

TEST(max_pa_bad_arguments)
{
	struct noiommufd_ioas_set_max_pa set = { .size = sizeof(set) - 1 };
	struct limit l;
	__u64 done;

	setup_limit(&l);
	expect_errno(set_max_pa(l.s.iommu, l.ioas, 1), EINVAL);
	expect_errno(set_max_pa(l.s.iommu, l.ioas, PAGE - 2), EINVAL);
	expect_errno(set_max_pa(l.s.iommu, 0, PAGE - 1), ENOENT);
	expect_errno(set_max_pa(l.s.iommu, l.s.devid, 0), ENOENT);
	expect_errno(ioctl(l.s.iommu, NOIOMMUFD_IOAS_SET_MAX_PA, &set), EINVAL);
	expect_errno(ioctl(l.s.iommu, NOIOMMUFD_IOAS_SET_MAX_PA, NULL), EFAULT);
	/* Something is mapped, pinned or not. */
	expect_errno(set_max_pa(l.s.iommu, l.s.ioas, U64_MAX), EBUSY);
	expect_ok(ioas_map(l.s.iommu, l.ioas, l.va, PAGE, 0));
	expect_errno(set_max_pa(l.s.iommu, l.ioas, 0), EBUSY);
	expect_ok(ioas_unmap(l.s.iommu, l.ioas, 0, PAGE, &done));
	expect_ok(set_max_pa(l.s.iommu, l.ioas, 0));
}

/* DMA memory */

static int mem_alloc_flags(int iommu, __u32 flags, __u64 length, __u64 max_pa,
			   __u64 alignment)
{
	struct noiommufd_mem_alloc alloc = {
		.size = sizeof(alloc), .flags = flags, .length = length,
		.max_pa = max_pa, .alignment = alignment, .out_fd = -1,
	};
	int rc = ioctl(iommu, NOIOMMUFD_MEM_ALLOC, &alloc);

	return rc ? rc : alloc.out_fd;
}

static int mem_alloc(int iommu, __u64 length)
{
	return mem_alloc_flags(iommu, 0, length, 0, 0);
}

static void *mem_map(int fd, __u64 length)
{
	void *va = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	expect(va != MAP_FAILED);
	return va;
}

static void setup_mem(struct setup *s)
{
	skip_on_mainline("it has no DMA memory");
	setup_attached(s);
}

static bool has(int iommu, __u64 extension)
{
	struct noiommufd_get_info info;

	expect_ok(get_info(iommu, &info));
	return info.extensions & extension;
}

/* What GET_PA says of each page is what pagemap says, and the bytes are 0. */
static void check_mem(const struct setup *s, int fd, const char *va, __u64 length)
{
	__u64 i;

	expect_ok(map_fd(s->iommu, s->ioas, fd, 0, length, BASE));
	expect_pas(s, BASE, va, length);
	for (i = 0; i < length; i++)
		if (va[i])
			fail("byte %llu: expected 0, got %d", i, va[i]);
}

static void unmap_mem(const struct setup *s, __u64 length)
{
	__u64 done;

	expect_ok(ioas_unmap(s->iommu, s->ioas, BASE, length, &done));
}

/* Contiguous bytes from BASE on */
static __u64 contiguous(const struct setup *s, __u64 length)
{
	__u64 pa;

	expect_ok(get_pa(s->iommu, s->ioas, BASE, &length, &pa));
	return length;
}

/* Sizes around those of blocks; freed memory is not zeroed, this is. */
TEST_LIMIT(mem_alloc_and_map, 120)
{
	static const __u64 pages[] = { 1, 2, 3, 511, 512, 513, 1024, 1025, 2049 };
	struct setup s;
	size_t i;
	int round;

	setup_mem(&s);
	for (round = 0; round < 2; round++) {
		for (i = 0; i < ARRAY_SIZE(pages); i++) {
			__u64 length = pages[i] * PAGE;
			int fd = expect_ok(mem_alloc(s.iommu, length));
			char *va = mem_map(fd, length);

			expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
			check_mem(&s, fd, va, length);
			memset(va, 0x5a, length);
			unmap_mem(&s, length);
			munmap(va, length);
			close(fd);
		}
	}
}

TEST(mem_contiguous_up_to_a_block)
{
	struct noiommufd_get_info info;
	struct setup s;
	__u64 length;

	setup_mem(&s);
	expect_ok(get_info(s.iommu, &info));
	expect_eq(info.mem_page, PAGE);
	expect_eq(info.mem_huge, HUGE_PAGE);
	expect(info.mem_block >= 4 * MIB);
	for (length = PAGE; length <= 4 * MIB; length = 2 * length + PAGE) {
		int fd = expect_ok(mem_alloc_flags(s.iommu, NOIOMMUFD_MEM_CONTIGUOUS,
						   length, U32_MAX, 0));
		char *va = mem_map(fd, length);

		check_mem(&s, fd, va, length);
		expect_eq(contiguous(&s, length), length);
		expect(pa_of(s.iommu, s.ioas, BASE) + length - 1 <= U32_MAX);
		unmap_mem(&s, length);
		munmap(va, length);
		close(fd);
	}
}

/* Above a block other memory is moved, or the log says what to do. */
TEST_LIMIT(mem_contiguous_beyond_a_block, 120)
{
	const __u64 length = 16 * MIB + PAGE;
	unsigned long long mark = kmsg_mark();
	struct setup s;
	char *va;
	int fd;

	setup_mem(&s);
	fd = mem_alloc_flags(s.iommu, NOIOMMUFD_MEM_CONTIGUOUS, length, 0, 2 * MIB);
	if (!has(s.iommu, NOIOMMUFD_EXT_MEM_CONTIGUOUS)) {
		expect_errno(fd, ENOMEM);
		expect_eq(kmsg_count(mark, 5, "KiB of contiguous memory",
				     "huge pages that are reserved"), 1);
		return;
	}
	expect_ok(fd);
	va = mem_map(fd, length);
	check_mem(&s, fd, va, length);
	expect_eq(contiguous(&s, length), length);
	expect_eq(pa_of(s.iommu, s.ioas, BASE) % (2 * MIB), 0);
	unmap_mem(&s, length);
}

TEST(mem_alignment)
{
	struct setup s;
	__u64 align, i;

	setup_mem(&s);
	for (align = 1; align <= 4 * MIB; align *= 4) {
		__u64 length = 5 * MIB + PAGE;
		int fd = expect_ok(mem_alloc_flags(s.iommu, 0, length, 0, align));

		expect_ok(map_fd(s.iommu, s.ioas, fd, 0, length, BASE));
		for (i = 0; i < length; i += PAGE)
			expect_eq(pa_of(s.iommu, s.ioas, BASE + i) % align, i % align);
		unmap_mem(&s, length);
		close(fd);
	}
}

TEST(mem_huge)
{
	const __u64 length = 6 * MIB;
	struct setup s;
	__u64 i, pa, n;
	int fd;

	setup_mem(&s);
	fd = expect_ok(mem_alloc_flags(s.iommu, NOIOMMUFD_MEM_HUGE, length, 0, 0));
	expect_ok(map_fd(s.iommu, s.ioas, fd, 0, length, BASE));
	for (i = 0; i < length; i += HUGE_PAGE) {
		n = HUGE_PAGE;
		expect_ok(get_pa(s.iommu, s.ioas, BASE + i, &n, &pa));
		expect_eq(n, HUGE_PAGE);
		expect_eq(pa % HUGE_PAGE, 0);
	}
}

/* Limits that zones end at, and others */
TEST_LIMIT(mem_below_an_address, 120)
{
	static const unsigned int bits[] = { 40, 32, 31, 30, 28, 27, 24 };
	const __u64 length = 64 * PAGE;
	struct setup s;
	__u64 i, limit;
	size_t b;
	int fd;

	setup_mem(&s);
	for (b = 0; b < ARRAY_SIZE(bits); b++) {
		limit = (1ULL << bits[b]) - 1;
		fd = mem_alloc_flags(s.iommu, 0, length, limit, 0);
		/* Without zones and ranges, it takes luck. */
		if (fd < 0 && bits[b] < 31 &&
		    !has(s.iommu, NOIOMMUFD_EXT_MEM_CONTIGUOUS)) {
			expect_errno(fd, ENOMEM);
			continue;
		}
		expect_ok(fd);
		expect_ok(map_fd(s.iommu, s.ioas, fd, 0, length, BASE));
		for (i = 0; i < length; i += PAGE)
			expect(pa_of(s.iommu, s.ioas, BASE + i) + PAGE - 1 <= limit);
		unmap_mem(&s, length);
		close(fd);
	}
}

/* More than ZONE_DMA has, below 28 bits */
TEST_LIMIT(mem_much_below_28_bits, 120)
{
	const __u64 length = 32 * MIB, limit = (1ULL << 28) - 1;
	struct setup s;
	__u64 i;
	int fd;

	setup_mem(&s);
	if (!has(s.iommu, NOIOMMUFD_EXT_MEM_CONTIGUOUS))
		test_skip("the kernel cannot move memory out of the way (CONFIG_CONTIG_ALLOC)");
	fd = expect_ok(mem_alloc_flags(s.iommu, 0, length, limit, 0));
	expect_ok(map_fd(s.iommu, s.ioas, fd, 0, length, BASE));
	for (i = 0; i < length; i += PAGE)
		expect(pa_of(s.iommu, s.ioas, BASE + i) + PAGE - 1 <= limit);
}

/*
 * An edu that drops all address bits from the 28th on: its DMA to high memory
 * goes elsewhere. A limit finds that out, and memory below it works.
 */
TEST_LIMIT(mem_for_a_device_of_28_bits, 120)
{
	const __u64 limit = (1ULL << 28) - 1;
	struct setup s = {};
	char *high, *low;
	__u64 iova = 0, pa;
	unsigned int i;
	void *bar;
	int fd;

	skip_on_mainline("it has no DMA memory");
	s.iommu = iommu_open();
	fd = mem_alloc_flags(s.iommu, 0, 2 * PAGE, limit, 0);
	if (fd < 0 && errno == ENOMEM &&
	    !has(s.iommu, NOIOMMUFD_EXT_MEM_CONTIGUOUS))
		test_skip("the kernel has no zone for 28 bits (CONFIG_ZONE_DMA)");
	expect_ok(fd);
	low = mem_map(fd, 2 * PAGE);
	/* Private memory comes from everywhere. */
	high = NULL;
	for (i = 0; !high && i < 64; i++) {
		char *va = mem(MIB);

		if (pagemap_pa(va) > limit)
			high = va;
	}
	if (!high)
		test_skip("all memory is below 256 MiB");

	expect(qemu("qom-set /machine/peripheral/plugged dma_mask 268435455"));
	s.dev = cdev_open(edu_behind_bridge());
	expect_ok(dev_bind(s.dev, s.iommu, &s.devid));
	s.ioas = new_ioas(s.iommu);
	expect_ok(set_max_pa(s.iommu, s.ioas, limit));
	attach(s.dev, s.ioas);
	expect_errno(ioas_map_flags(s.iommu, s.ioas, MAP_RW, high, PAGE, &iova),
		     ERANGE);

	expect_ok(map_fd(s.iommu, s.ioas, fd, 0, 2 * PAGE, BASE));
	bus_master(s.dev, true);
	bar = region_mmap(s.dev, VFIO_PCI_BAR0_REGION_INDEX,
			  PROT_READ | PROT_WRITE);
	mem_fill(low, PAGE, 1);
	pa = pa_of(s.iommu, s.ioas, BASE);
	edu_read_from(bar, pa, EDU_DMA_MAX);
	edu_write_to(bar, pa + PAGE, EDU_DMA_MAX);
	expect(!memcmp(low, low + PAGE, EDU_DMA_MAX));
	expect(qemu("qom-set /machine/peripheral/plugged dma_mask 18446744073709551615"));
}

TEST(mem_bad_arguments)
{
	static const struct {
		__u32 flags, node;
		__u64 length, max_pa, alignment;
		int err;
	} bad[] = {
		{ .length = 0, .err = EINVAL },
		{ .length = 1, .err = EINVAL },
		{ .length = PAGE + 1, .err = EINVAL },
		{ .length = U64_MAX, .err = EINVAL },
		{ .length = -PAGE, .err = ENOMEM },
		{ .length = 1ULL << 63, .err = ENOMEM },
		{ .length = 1ULL << 50, .err = ENOMEM },
		{ .length = 1ULL << 50, .flags = NOIOMMUFD_MEM_CONTIGUOUS, .err = ENOMEM },
		{ .length = PAGE, .alignment = 3 * PAGE, .err = EINVAL },
		{ .length = PAGE, .alignment = U64_MAX, .err = EINVAL },
		{ .length = PAGE, .alignment = 1ULL << 63, .err = ENOMEM },
		{ .length = PAGE, .flags = 8, .err = EOPNOTSUPP },
		{ .length = PAGE, .flags = 1U << 31, .err = EOPNOTSUPP },
		{ .length = PAGE, .flags = NOIOMMUFD_MEM_HUGE, .err = EINVAL },
		{ .length = 3 * MIB, .flags = NOIOMMUFD_MEM_HUGE, .err = EINVAL },
		/* The limit is below the memory, or below all memory. */
		{ .length = PAGE, .max_pa = PAGE - 2, .err = EINVAL },
		{ .length = 2 * PAGE, .max_pa = PAGE, .err = EINVAL },
		{ .length = PAGE, .max_pa = PAGE - 1, .err = ENOMEM },
		{ .length = PAGE, .node = 1, .err = EINVAL },
		{ .length = PAGE, .flags = NOIOMMUFD_MEM_NODE, .node = 63, .err = EINVAL },
		{ .length = PAGE, .flags = NOIOMMUFD_MEM_NODE, .node = 4711, .err = EINVAL },
		{ .length = PAGE, .flags = NOIOMMUFD_MEM_NODE, .node = U32_MAX, .err = EINVAL },
	};
	struct noiommufd_mem_alloc alloc;
	struct setup s;
	char *page;
	size_t i;
	int next;

	setup_mem(&s);
	next = expect_ok(dup(0));
	close(next);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		alloc = (struct noiommufd_mem_alloc){
			.size = sizeof(alloc), .flags = bad[i].flags,
			.length = bad[i].length, .max_pa = bad[i].max_pa,
			.alignment = bad[i].alignment, .node = bad[i].node,
			.out_fd = -1,
		};
		if (ioctl(s.iommu, NOIOMMUFD_MEM_ALLOC, &alloc) != -1 ||
		    errno != bad[i].err)
			fail("case %zu: expected %s, got %s", i,
			     strerrorname_np(bad[i].err), strerrorname_np(errno));
		expect_eq(alloc.out_fd, -1);
	}
	alloc = (struct noiommufd_mem_alloc){
		.size = sizeof(alloc) - 4, .length = PAGE,
	};
	expect_errno(ioctl(s.iommu, NOIOMMUFD_MEM_ALLOC, &alloc), EINVAL);
	expect_errno(ioctl(s.iommu, NOIOMMUFD_MEM_ALLOC, NULL), EFAULT);
	/* An answer that cannot be written */
	page = mem(PAGE);
	alloc.size = sizeof(alloc);
	memcpy(page, &alloc, sizeof(alloc));
	mprotect(page, PAGE, PROT_READ);
	expect_errno(ioctl(s.iommu, NOIOMMUFD_MEM_ALLOC, page), EFAULT);
	/* No file is left. */
	expect_eq(dup(0), next);
	/* The node that there is */
	close(next);
	alloc.flags = NOIOMMUFD_MEM_NODE;
	expect_ok(ioctl(s.iommu, NOIOMMUFD_MEM_ALLOC, &alloc));
	expect_eq(alloc.out_fd, next);
}

TEST(mem_bad_mappings)
{
	const int rw = PROT_READ | PROT_WRITE;
	const __u64 length = 4 * PAGE;
	struct setup s;
	char *va;
	int fd;

	setup_mem(&s);
	fd = expect_ok(mem_alloc(s.iommu, length));
#define bad_mmap(size, prot, flags, offset, err)			\
	do {								\
		expect(mmap(NULL, size, prot, flags, fd, offset) == MAP_FAILED); \
		expect_eq(errno, err);					\
	} while (0)
	bad_mmap(length, rw, MAP_PRIVATE, 0, EINVAL);
	bad_mmap(length, PROT_READ, MAP_PRIVATE, 0, EINVAL);
	bad_mmap(length, rw | PROT_EXEC, MAP_SHARED, 0, EPERM);
	bad_mmap(length + PAGE, rw, MAP_SHARED, 0, EINVAL);
	bad_mmap(length, rw, MAP_SHARED, PAGE, EINVAL);
	bad_mmap(PAGE, rw, MAP_SHARED, length, EINVAL);
	bad_mmap(PAGE, rw, MAP_SHARED, 1ULL << 62, EINVAL);
	va = mem_map(fd, length);
	expect_errno(mprotect(va, PAGE, PROT_READ | PROT_EXEC), EACCES);
	expect_ok(mprotect(va, PAGE, PROT_READ));
	/* By file: beyond the end, even though nothing would be pinned yet */
	expect_errno(map_fd(s.iommu, s.ioas, fd, 0, length + PAGE, BASE), EINVAL);
	expect_errno(map_fd(s.iommu, s.ioas, fd, length, PAGE, BASE), EINVAL);
	expect_errno(map_fd(s.iommu, s.ioas, fd, U64_MAX, PAGE, BASE), EOVERFLOW);
	expect_errno(map_fd(s.iommu, new_ioas(s.iommu), fd, length, PAGE, BASE),
		     EINVAL);
	expect_errno(read(fd, va, 1), EINVAL);
}

/* Nothing is pinned or charged again, and an IOVA keeps the memory. */
TEST(mem_charge)
{
	const __u64 length = 1 * MIB;
	long long charged, before;
	struct setup s;
	__u64 pa, iova = 2 * BASE;
	char *va;
	int fd;

	setup_mem(&s);
	drop_cap(CAP_IPC_LOCK);
	set_memlock(length + PAGE - 1);
	before = pins();
	charged = vm_pin();
	expect_errno(mem_alloc(s.iommu, length + PAGE), ENOMEM);
	fd = expect_ok(mem_alloc(s.iommu, length));
	expect_eq(vm_pin(), charged + (long long)(length / KIB));
	expect_errno(mem_alloc(s.iommu, PAGE), ENOMEM);
	va = mem_map(fd, length);
	check_mem(&s, fd, va, length);
	expect_ok(ioas_copy(s.iommu, s.ioas, s.ioas, MAP_FIXED_RW, length, &iova,
			    BASE));
	expect_eq(vm_pin(), charged + (long long)(length / KIB));
	expect_pins(before);
	/* All is gone but the second IOVA. */
	pa = pa_of(s.iommu, s.ioas, BASE);
	munmap(va, length);
	close(fd);
	unmap_mem(&s, length);
	expect_eq(vm_pin(), charged + (long long)(length / KIB));
	expect_eq(pa_of(s.iommu, s.ioas, 2 * BASE), pa);
	expect_errno(mem_alloc(s.iommu, PAGE), ENOMEM);
	expect_ok(ioas_unmap(s.iommu, s.ioas, iova, length, &pa));
	expect_eq(vm_pin(), charged);
	expect_ok(mem_alloc(s.iommu, length));
}

/* In a memory cgroup there is no more than it has. */
#define CGROUPS	"/tmp/cgroups"

static void alloc_in_cgroup(void *arg)
{
	int iommu = iommu_open();

	(void)arg;
	expect_ok(write_file(CGROUPS "/suite/cgroup.procs", "0"));
	expect_errno(mem_alloc(iommu, 64 * MIB), ENOMEM);
	expect_errno(mem_alloc_flags(iommu, NOIOMMUFD_MEM_CONTIGUOUS, 4 * MIB, 0,
				     4 * MIB), ENOMEM);
	expect_ok(mem_alloc(iommu, MIB));
	expect(read_number(CGROUPS "/suite/memory.current") >= (long long)MIB);
}

TEST(mem_charges_the_cgroup)
{
	struct setup s;

	setup_mem(&s);
	if (mkdir(CGROUPS, 0755) && errno != EEXIST)
		test_skip("no directory");
	if (mount("suite", CGROUPS, "cgroup2", 0, NULL) && errno != EBUSY)
		test_skip("the kernel has no cgroups");
	if (write_file(CGROUPS "/cgroup.subtree_control", "+memory"))
		test_skip("the kernel has no memory cgroups");
	if (mkdir(CGROUPS "/suite", 0755) && errno != EEXIST)
		fail("mkdir: %s", strerrorname_np(errno));
	expect_ok(write_file(CGROUPS "/suite/memory.max", "%llu", 3 * MIB));
	in_child(alloc_in_cgroup, NULL);
	rmdir(CGROUPS "/suite");
	write_file(CGROUPS "/cgroup.subtree_control", "-memory");
	umount(CGROUPS);
}

/* The process that MAP_FILE's memory is charged to can change. */
static void take_charge(void *arg)
{
	struct setup *s = arg;
	struct iommu_ioas_change_process change = { .size = sizeof(change) };
	long long charged = vm_pin();

	expect_ok(ioctl(s->iommu, IOMMU_IOAS_CHANGE_PROCESS, &change));
	expect_eq(vm_pin(), charged + (long long)(MIB / KIB));
}

TEST(mem_change_process)
{
	struct setup s;
	long long charged;
	int fd;

	setup_mem(&s);
	charged = vm_pin();
	fd = expect_ok(mem_alloc(s.iommu, MIB));
	expect_ok(map_fd(s.iommu, s.ioas, fd, 0, MIB, BASE));
	in_child(take_charge, &s);
	expect_eq(vm_pin(), charged);
	unmap_mem(&s, MIB);
	close(fd);
	expect_eq(vm_pin(), charged);
}

/* It may be mapped in several contexts, each of which has it charged anew. */
static void charge_again_and_again(void *arg)
{
	struct iommu_ioas_change_process change = { .size = sizeof(change) };
	const int *iommu = arg;
	int i;

	for (i = 0; i < 2000; i++)
		expect_ok(ioctl(*iommu, IOMMU_IOAS_CHANGE_PROCESS, &change));
}

TEST_LIMIT(mem_in_two_contexts, 120)
{
	struct iommu_ioas_change_process change = { .size = sizeof(change) };
	long long charged;
	struct setup s;
	char path[64];
	pid_t child;
	int fd, i;
	int iommu[2];

	setup_mem(&s);
	charged = vm_pin();
	iommu[0] = s.iommu;
	iommu[1] = iommu_open();
	fd = expect_ok(mem_alloc(s.iommu, MIB));
	expect_ok(map_fd(s.iommu, s.ioas, fd, 0, MIB, BASE));
	expect_ok(map_fd(iommu[1], new_ioas(iommu[1]), fd, 0, MIB, BASE));
	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", iommu[i]);
		expect_eq(read_field(path, "ioas-charge"), (long long)(MIB / PAGE));
	}
	child = expect_ok(fork());
	if (!child) {
		charge_again_and_again(&iommu[1]);
		_exit(0);
	}
	charge_again_and_again(&iommu[0]);
	expect_eq(waitpid(child, &i, 0), child);
	expect_eq(i, 0);
	expect_ok(ioctl(s.iommu, IOMMU_IOAS_CHANGE_PROCESS, &change));
	expect_eq(vm_pin(), charged + (long long)(MIB / KIB));
	close(iommu[1]);
	unmap_mem(&s, MIB);
	close(fd);
	expect_eq(vm_pin(), charged);
}

/* A child has the mapping; madvise() and mremap() find the same memory. */
static void write_and_exit(void *arg)
{
	mem_fill(arg, MIB, 7);
}

TEST(mem_is_shared_and_stays)
{
	char *va, *more, *copy = mem(MIB);
	struct setup s;
	int fd;

	setup_mem(&s);
	fd = expect_ok(mem_alloc(s.iommu, MIB));
	va = mem_map(fd, MIB);
	check_mem(&s, fd, va, MIB);
	in_child(write_and_exit, va);
	mem_fill(copy, MIB, 7);
	expect(!memcmp(va, copy, MIB));
	expect_ok(madvise(va, MIB, MADV_DONTNEED));
	expect(!memcmp(va, copy, MIB));
	expect_pas(&s, BASE, va, MIB);
	expect_ok(madvise(va, MIB, MADV_DONTNEED));
	mem_fill(va, MIB, 8);
	mem_fill(copy, MIB, 8);
	close(fd);
	unmap_mem(&s, MIB);
	more = mremap(va, MIB, 2 * MIB, MREMAP_MAYMOVE);
	expect(more != MAP_FAILED);
	expect(!memcmp(more, copy, MIB));
}

static void on_bus_error(int sig)
{
	_exit(sig != SIGBUS);
}

static void touch_behind(void *arg)
{
	signal(SIGBUS, on_bus_error);
	__atomic_store_n((char *)arg, 1, __ATOMIC_RELAXED);
	fail("expected SIGBUS, got memory");
}

TEST(mem_ends)
{
	struct setup s;
	char *va;
	int fd;

	setup_mem(&s);
	fd = expect_ok(mem_alloc(s.iommu, PAGE));
	va = mremap(mem_map(fd, PAGE), PAGE, 2 * PAGE, MREMAP_MAYMOVE);
	expect(va != MAP_FAILED);
	in_child(touch_behind, va + PAGE);
}

/* Memory that is mapped by its address has pins of its own, and outlives its file. */
TEST(mem_by_address)
{
	long long before;
	struct setup s;
	char *va;
	__u64 pa;
	int fd;

	setup_mem(&s);
	fd = expect_ok(mem_alloc(s.iommu, 16 * PAGE));
	va = mem_map(fd, 16 * PAGE);
	before = pins();
	expect_ok(ioas_map(s.iommu, s.ioas, va, 16 * PAGE, BASE));
	expect_pins(before + 16);
	expect_pas(&s, BASE, va, 16 * PAGE);
	pa = pa_of(s.iommu, s.ioas, BASE);
	munmap(va, 16 * PAGE);
	close(fd);
	expect_eq(pa_of(s.iommu, s.ioas, BASE), pa);
	unmap_mem(&s, 16 * PAGE);
	expect_pins(before);
}

/* The limit of an IOAS holds for DMA memory as well, at ATTACH too. */
TEST(mem_and_max_pa)
{
	struct limit l;
	__u32 id, hwpt;
	__u64 pa;
	int fd;

	setup_limit(&l);
	fd = expect_ok(mem_alloc_flags(l.s.iommu, NOIOMMUFD_MEM_CONTIGUOUS, MIB, 0, 0));
	expect_ok(map_fd(l.s.iommu, l.s.ioas, fd, 0, MIB, 4 * BASE));
	pa = pa_of(l.s.iommu, l.s.ioas, 4 * BASE);
	expect_ok(set_max_pa(l.s.iommu, l.ioas, pa + MIB - 2));
	expect_ok(map_fd(l.s.iommu, l.ioas, fd, 0, MIB, BASE));
	id = l.ioas;
	expect_errno(dev_attach(l.s.dev, &id), ERANGE);
	expect_ok(unmap_all(&l));
	expect_ok(map_fd(l.s.iommu, l.ioas, fd, 0, MIB - PAGE, BASE));
	expect_ok(hwpt_alloc(l.s.iommu, l.s.devid, l.ioas, &hwpt));
	expect_errno(map_fd(l.s.iommu, l.ioas, fd, 0, MIB, 2 * BASE), ERANGE);
}

/* All of it goes with the process, in the middle of DMA. */
static void be_killed(void *arg)
{
	struct setup s;
	void *bar;
	int fd;

	setup_mem(&s);
	fd = expect_ok(mem_alloc(s.iommu, 8 * MIB));
	mem_map(fd, 8 * MIB);
	expect_ok(map_fd(s.iommu, s.ioas, fd, 0, 8 * MIB, BASE));
	bus_master(s.dev, true);
	bar = region_mmap(s.dev, VFIO_PCI_BAR0_REGION_INDEX,
			  PROT_READ | PROT_WRITE);
	edu_read_from(bar, pa_of(s.iommu, s.ioas, BASE), EDU_DMA_MAX);
	set_flag(arg);
	for (;;)
		edu_write_to(bar, pa_of(s.iommu, s.ioas, BASE), EDU_DMA_MAX);
}

TEST_LIMIT(mem_of_the_killed, 120)
{
	bool *ready = mem_flags(PAGE, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS);
	long long charge, before;
	struct setup s;
	pid_t child;
	int round;

	skip_on_mainline("it has no DMA memory");
	drop_cap(CAP_IPC_LOCK);
	set_memlock(12 * MIB);
	before = pins();
	charge = vm_pin();
	for (round = 0; round < 3; round++) {
		*ready = false;
		child = spawn(be_killed, ready);
		while (!flag(ready))
			sleep_ms(10);
		kill(child, SIGKILL);
		expect_eq(waitpid(child, NULL, 0), child);
		/* The whole limit is there again, once the device is quiet. */
		setup_mem(&s);
		close(expect_ok(mem_alloc(s.iommu, 12 * MIB)));
		close(s.dev);
		close(s.iommu);
	}
	expect_pins(before);
	expect_eq(vm_pin(), charge);
}
