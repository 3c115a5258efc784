// SPDX-License-Identifier: GPL-2.0-only
/*
 * GET_PA_RUNS: the runs of a range agree with /proc/self/pagemap, however many
 * ioctls it takes to get them and whatever is mapped meanwhile; and the library
 * returns the same without this ioctl.
 */
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include <noiommufd/noiommufd.h>

#include "../../../lib/internal.h"
#include "harness.h"

/* A value that is no run */
#define UNTOUCHED	0x5a5a5a5a5a5a5a5aULL

/* A kernel address, and an unmapped one */
#define KERNEL_POINTER	0xffff888000000000ULL

static void setup_runs(struct setup *s)
{
	skip_on_mainline("it has no GET_PA_RUNS");
	setup_attached(s);
}

static int get_runs(const struct setup *s, __u64 iova, __u64 *length,
		    struct noiommufd_run *runs, __u32 *num)
{
	struct noiommufd_ioas_get_pa_runs get = {
		.size = sizeof(get), .ioas_id = s->ioas, .num_runs = *num,
		.iova = iova, .length = *length, .runs = (uintptr_t)runs,
	};
	int ret = ioctl(s->iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, &get);

	expect_eq(get.iova, iova);
	*length = get.length;
	*num = get.num_runs;
	return ret;
}

/* It has to fail with this errno, and without a trace. */
static void expect_refused(const struct setup *s, __u64 iova, __u64 length,
			   __u32 num, int err)
{
	struct noiommufd_run run = { UNTOUCHED, UNTOUCHED };
	__u64 got = length;
	__u32 got_num = num;

	expect_errno(get_runs(s, iova, &got, &run, &got_num), err);
	expect_eq(got, length);
	expect_eq(got_num, num);
	expect_eq(run.phys, UNTOUCHED);
	expect_eq(run.length, UNTOUCHED);
}

static int map_at(const struct setup *s, void *va, __u64 length, __u64 iova)
{
	return ioas_map(s->iommu, s->ioas, va, length, iova);
}

/* Lists of runs */

struct list {
	struct noiommufd_run *run;
	size_t nr;
	size_t room;
};

static void list_add(struct list *l, __u64 phys, __u64 length)
{
	if (l->nr == l->room) {
		l->room = l->room ? 2 * l->room : 64;
		l->run = realloc(l->run, l->room * sizeof(*l->run));
		expect(l->run);
	}
	l->run[l->nr++] = (struct noiommufd_run){ phys, length };
}

static void list_add_va(struct list *l, const char *va, __u64 length)
{
	while (length) {
		__u64 part = PAGE - (uintptr_t)va % PAGE, pa = pagemap_pa(va);
		struct noiommufd_run *last = l->nr ? &l->run[l->nr - 1] : NULL;

		expect(pa);
		if (part > length)
			part = length;
		if (last && last->phys + last->length == pa)
			last->length += part;
		else
			list_add(l, pa, part);
		va += part;
		length -= part;
	}
}

static struct list runs_of(const char *va, __u64 length)
{
	struct list l = {};

	list_add_va(&l, va, length);
	return l;
}

/* Get a whole range, room entries per ioctl. */
static void get_all(const char *file, int line, const struct setup *s,
		    __u64 iova, __u64 length, __u32 room, struct list *l)
{
	struct noiommufd_run *runs = calloc(room + 1, sizeof(*runs));
	__u64 done, part;
	__u32 num;

	for (done = 0; done < length; done += part) {
		part = length - done;
		num = room;
		memset(runs, UNTOUCHED & 0xff, (room + 1) * sizeof(*runs));
		if (get_runs(s, iova + done, &part, runs, &num))
			test_fail(file, line, "room for %u, at +0x%llx: expected success, got %s",
				  room, done, strerrorname_np(errno));
		if (!num || num > room || !part || part > length - done)
			test_fail(file, line, "room for %u, at +0x%llx: got %u runs, 0x%llx bytes",
				  room, done, num, part);
		for (__u32 i = 0; i < num; i++)
			list_add(l, runs[i].phys, runs[i].length);
		for (__u32 i = num; i <= room; i++)
			expect_eq(runs[i].phys & runs[i].length, UNTOUCHED);
	}
	free(runs);
}

static void same_list(const char *file, int line, const struct list *got,
		      const struct list *want, __u32 room)
{
	size_t i;

	for (i = 0; i < got->nr && i < want->nr; i++)
		if (got->run[i].phys != want->run[i].phys ||
		    got->run[i].length != want->run[i].length)
			test_fail(file, line, "%u, %zu: expected %#llx + %#llx, got %#llx + %#llx",
				  room, i, want->run[i].phys,
				  want->run[i].length, got->run[i].phys,
				  got->run[i].length);
	if (got->nr != want->nr)
		test_fail(file, line, "room for %u: expected %zu runs, got %zu",
			  room, want->nr, got->nr);
}

/* The range has exactly those runs, in one ioctl and in many. */
static void check_runs(const char *file, int line, const struct setup *s,
		       __u64 iova, __u64 length, const struct list *want)
{
	const __u32 rooms[] = {
		want->nr + 1, want->nr, 1, 2, 63, 64, 65, 127, 128, 129, 1000,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rooms); i++) {
		struct list got = {};

		get_all(file, line, s, iova, length, rooms[i], &got);
		same_list(file, line, &got, want, rooms[i]);
		free(got.run);
	}
}

#define expect_runs(s, iova, length, want) \
	check_runs(__FILE__, __LINE__, s, iova, length, want)

/*
 * Pages that are adjacent in the address space but not in memory, because of the
 * order in which they are touched.
 */
static char *scattered(size_t n)
{
	char *va = mem_flags(n * PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS);
	size_t i;

	madvise(va, n * PAGE, MADV_NOHUGEPAGE);
	/* 61 is prime, so this reaches every page. */
	expect(n % 61);
	for (i = 0; i < n; i++)
		va[i * 61 % n * PAGE] = 1;
	return va;
}

/* Results */

TEST(small_pages)
{
	const size_t n = 600;
	char *va = scattered(n);
	struct list want;
	struct setup s;

	setup_runs(&s);
	want = runs_of(va, n * PAGE);
	/* Otherwise this does not test different rooms. */
	expect(want.nr > n / 2);
	expect_ok(map_at(&s, va, n * PAGE, 7 * PAGE));
	expect_runs(&s, 7 * PAGE, n * PAGE, &want);
}

TEST(transparent_huge)
{
	char *va = transparent_huge_page();
	struct list want;
	struct setup s;

	setup_runs(&s);
	expect_ok(map_at(&s, va, HUGE_PAGE, 4 * MIB));
	want = runs_of(va, HUGE_PAGE);
	expect_eq(want.nr, 1);
	expect_runs(&s, 4 * MIB, HUGE_PAGE, &want);
	/* A part of it, at an unaligned IOVA */
	expect_ok(map_at(&s, va + 5 * PAGE, 3 * PAGE, PAGE));
	want = runs_of(va + 5 * PAGE, 3 * PAGE);
	expect_runs(&s, PAGE, 3 * PAGE, &want);
}

TEST(hugetlb_pages)
{
	char *va = hugetlb(4);
	struct list want;
	struct setup s;

	setup_runs(&s);
	memset(va, 1, 4 * HUGE_PAGE);
	expect_ok(map_at(&s, va, 4 * HUGE_PAGE, GIB + PAGE));
	want = runs_of(va, 4 * HUGE_PAGE);
	expect_runs(&s, GIB + PAGE, 4 * HUGE_PAGE, &want);
	want = runs_of(va + 300 * PAGE, 3 * HUGE_PAGE + 5);
	expect_runs(&s, GIB + 301 * PAGE, 3 * HUGE_PAGE + 5, &want);
}

/* One range over memory of each kind, a copy, and many small areas */
TEST(all_kinds_in_a_range)
{
	char *small = scattered(300), *huge = hugetlb(1), *page = mem(PAGE);
	__u64 next = 0, iova;
	struct list want = {};
	struct setup s;
	int i;

	setup_runs(&s);
	memset(huge, 1, HUGE_PAGE);
	expect_ok(map_at(&s, small, 300 * PAGE, next));
	list_add_va(&want, small, 300 * PAGE);
	next += 300 * PAGE;
	expect_ok(map_at(&s, huge, HUGE_PAGE, next));
	list_add_va(&want, huge, HUGE_PAGE);
	iova = next += HUGE_PAGE;
	expect_ok(ioas_copy(s.iommu, s.ioas, s.ioas, MAP_FIXED_RW, 40 * PAGE,
			    &iova, next - 30 * PAGE - 10 * PAGE));
	list_add_va(&want, huge + HUGE_PAGE - 40 * PAGE, 40 * PAGE);
	next += 40 * PAGE;
	for (i = 0; i < 70; i++) {
		/* The same page many times gives as many runs. */
		expect_ok(map_at(&s, page, PAGE, next));
		list_add_va(&want, page, PAGE);
		next += PAGE;
	}
	expect_ok(map_at(&s, small + 7 * PAGE, 200 * PAGE, next));
	list_add_va(&want, small + 7 * PAGE, 200 * PAGE);
	next += 200 * PAGE;
	expect_runs(&s, 0, next, &want);
}

TEST(neighbours_in_several_areas)
{
	char *va = hugetlb(1);
	const size_t part = HUGE_PAGE / 4;
	struct list want;
	struct setup s;
	int i;

	setup_runs(&s);
	memset(va, 1, HUGE_PAGE);
	for (i = 0; i < 4; i++)
		expect_ok(map_at(&s, va + i * part, part, i * part));
	want = runs_of(va, HUGE_PAGE);
	expect_eq(want.nr, 1);
	expect_runs(&s, 0, HUGE_PAGE, &want);

	/* In reverse order they are not contiguous. */
	want.nr = 0;
	for (i = 0; i < 4; i++) {
		char *at = va + (3 - i) * part;

		expect_ok(map_at(&s, at, part, GIB + i * part));
		list_add_va(&want, at, part);
	}
	expect_eq(want.nr, 4);
	expect_runs(&s, GIB, HUGE_PAGE, &want);
}

/* A run of many areas that ends at a batch of the kernel, or near it */
TEST(runs_of_many_areas)
{
	char *va = hugetlb(1);
	const int n = 200;
	struct setup s;
	int first, i;

	setup_runs(&s);
	memset(va, 1, HUGE_PAGE);
	/* Contiguous pairs of pages, with single pages before them */
	for (first = 0; first < 3; first++) {
		__u64 base = first * GIB, next = base;
		struct list want = {};

		for (i = 0; i < first; i++, next += PAGE) {
			expect_ok(map_at(&s, va + (511 - 2 * i) * PAGE, PAGE,
					 next));
			list_add_va(&want, va + (511 - 2 * i) * PAGE, PAGE);
		}
		for (i = 0; i < n; i++, next += 2 * PAGE) {
			char *pair = va + i * 37 % n * 2 * PAGE;

			expect_ok(map_at(&s, pair, PAGE, next));
			expect_ok(map_at(&s, pair + PAGE, PAGE, next + PAGE));
			list_add_va(&want, pair, 2 * PAGE);
		}
		expect_eq(want.nr, n + first);
		expect_runs(&s, base, next - base, &want);
		free(want.run);
	}
}

TEST_LIMIT(part_of_a_page, 120)
{
	static const __u64 offsets[] = { 0, 1, 0x123, 2048, 4095 };
	static const __u64 lengths[] = {
		1, 2, 2048, 4095, 4096, 4097, 8191, 8192, 8193, 66 * PAGE + 17,
		130 * PAGE - 4095,
	};
	char *va = scattered(140);
	unsigned int i, k;
	struct setup s;

	setup_runs(&s);
	/* In two areas */
	expect_ok(map_at(&s, va, 64 * PAGE, 16 * PAGE));
	expect_ok(map_at(&s, va + 64 * PAGE, 76 * PAGE, 80 * PAGE));
	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		for (k = 0; k < ARRAY_SIZE(lengths); k++) {
			__u64 at = 2 * PAGE + offsets[i];
			struct list want = runs_of(va + at, lengths[k]);

			expect_runs(&s, 16 * PAGE + at, lengths[k], &want);
			free(want.run);
		}
	}
}

TEST(part_of_a_run)
{
	char *va = hugetlb(1);
	struct list want;
	struct setup s;

	setup_runs(&s);
	memset(va, 1, HUGE_PAGE);
	expect_ok(map_at(&s, va, MIB, 0));
	expect_ok(map_at(&s, va + MIB, MIB, MIB));
	want = runs_of(va + 4711, MIB);
	expect_eq(want.nr, 1);
	expect_runs(&s, 4711, MIB, &want);
	want = runs_of(va + MIB - 1, 1);
	expect_runs(&s, MIB - 1, 1, &want);
	want = runs_of(va + MIB - 1, 2);
	expect_runs(&s, MIB - 1, 2, &want);
	want = runs_of(va + 1, HUGE_PAGE - 2);
	expect_runs(&s, 1, HUGE_PAGE - 2, &want);
}

/* Where it ends */

TEST(holes)
{
	static const size_t before[] = { 1, 2, 63, 64, 65, 127, 128, 129 };
	struct noiommufd_run runs[200];
	char *va = scattered(200);
	unsigned int i;
	struct setup s;

	setup_runs(&s);
	for (i = 0; i < ARRAY_SIZE(before); i++) {
		__u64 size = before[i] * PAGE, at = i * GIB, length;
		struct list want = runs_of(va, size), got = {};
		__u32 num;

		expect_ok(map_at(&s, va, size, at));
		expect_ok(map_at(&s, va, PAGE, at + size + PAGE));
		for (num = want.nr; num < want.nr + 3; num++) {
			__u32 got_num = num;

			length = size + 2 * PAGE;
			expect_ok(get_runs(&s, at, &length, runs, &got_num));
			expect_eq(length, size);
			got = (struct list){ runs, got_num, 0 };
			same_list(__FILE__, __LINE__, &got, &want, num);
		}
		expect_refused(&s, at + size, PAGE, 1, ENOENT);
		expect_refused(&s, at + size, 2 * PAGE, 100, ENOENT);
		expect_refused(&s, at + size + PAGE - 1, U32_MAX, 1, ENOENT);
		/* Beyond the end */
		length = U32_MAX;
		num = 5;
		expect_ok(get_runs(&s, at + size + PAGE, &length, runs, &num));
		expect_eq(num, 1);
		expect_eq(length, PAGE);
		expect_eq(runs[0].phys, pagemap_pa(va));
		expect_eq(runs[0].length, PAGE);
		free(want.run);
	}
	expect_refused(&s, 500 * GIB, U32_MAX, 1, ENOENT);
}

TEST(last_byte)
{
	struct noiommufd_run runs[4];
	char *va = mem(2 * PAGE);
	__u64 length;
	struct setup s;
	__u32 num = 4;

	setup_runs(&s);
	expect_ok(map_at(&s, va, PAGE, -PAGE));
	/* To the end of the address space, and to one byte before it */
	length = PAGE;
	expect_ok(get_runs(&s, -PAGE, &length, runs, &num));
	expect_eq(num, 1);
	expect_eq(length, PAGE);
	expect_eq(runs[0].phys, pagemap_pa(va));
	expect_eq(runs[0].length, PAGE);
	length = PAGE - 1;
	expect_ok(get_runs(&s, -PAGE, &length, runs, &num));
	expect_eq(num, 1);
	expect_eq(length, PAGE - 1);
	expect_eq(runs[0].length, PAGE - 1);
	length = 2;
	expect_ok(get_runs(&s, U64_MAX - 1, &length, runs, &num));
	expect_eq(length, 2);
	expect_eq(runs[0].phys, pagemap_pa(va) + PAGE - 2);
	expect_eq(runs[0].length, 2);
	expect_refused(&s, -PAGE, PAGE + 1, 4, EOVERFLOW);
	expect_refused(&s, U64_MAX - 1, 3, 4, EOVERFLOW);
	/* As for GET_PA */
	expect_refused(&s, U64_MAX, 1, 4, EOVERFLOW);
}

TEST(huge_lengths)
{
	char *va = scattered(130);
	struct list want = runs_of(va, 130 * PAGE);
	__u64 lengths[] = {
		1ULL << 32, 1ULL << 52, 1ULL << 63, (1ULL << 63) + 1,
		U64_MAX - 3 * PAGE - 1, U64_MAX - 3 * PAGE, -3 * PAGE,
	};
	struct noiommufd_run *runs = mem(256 * sizeof(*runs));
	unsigned int i;
	struct setup s;

	setup_runs(&s);
	expect_ok(map_at(&s, va, 130 * PAGE, 3 * PAGE));
	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		/* The room is larger than the array, which is the program's mistake. */
		__u32 num = i & 1 ? U32_MAX : 200;
		struct list got;

		expect_ok(get_runs(&s, 3 * PAGE, &lengths[i], runs, &num));
		expect_eq(lengths[i], 130 * PAGE);
		got = (struct list){ runs, num, 0 };
		same_list(__FILE__, __LINE__, &got, &want, num);
	}
	expect_refused(&s, 3 * PAGE, -3 * PAGE + 1, 1, EOVERFLOW);
	expect_refused(&s, 3 * PAGE, U64_MAX, 1, EOVERFLOW);
	expect_refused(&s, 1, U64_MAX, 1, ENOENT);
	expect_refused(&s, 0, U64_MAX, 1, ENOENT);
}

/* If it succeeds */

TEST(is_it_there)
{
	static const unsigned int others[] = {
		_IO(NOIOMMUFD_TYPE, 0), _IO(NOIOMMUFD_TYPE, 0x7f),
		_IO(NOIOMMUFD_TYPE, 0xfe), _IO(NOIOMMUFD_TYPE, 0xff),
		_IO(NOIOMMUFD_TYPE, _IOC_NR(IOMMU_IOAS_NOIOMMU_GET_PA)),
		_IOWR(NOIOMMUFD_TYPE, 0x80, struct noiommufd_ioas_get_pa_runs),
	};
	struct noiommufd_ioas_get_pa_runs get = { .size = sizeof(get) };
	int iommu = iommu_open();
	unsigned int i;

	/* On mainline a program has to do without it. */
	expect_errno(ioctl(iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, &get),
		     on_mainline() ? ENOTTY : EINVAL);
	/* So is any unknown ioctl. */
	for (i = 0; i < ARRAY_SIZE(others); i++)
		expect_errno(ioctl(iommu, others[i], &get), ENOTTY);
}

TEST(needs_a_device)
{
	char *va = mem(2 * PAGE);
	struct list want = runs_of(va, PAGE);
	struct setup s;

	skip_on_mainline("it has no GET_PA_RUNS");
	setup_bound(&s);
	expect_ok(map_at(&s, va, PAGE, PAGE));
	expect_refused(&s, PAGE, PAGE, 1, EOPNOTSUPP);
	expect_refused(&s, 0, 2 * PAGE, 1, ENOENT);
	attach(s.dev, s.ioas);
	expect_runs(&s, PAGE, PAGE, &want);
	expect_ok(dev_detach(s.dev));
	expect_refused(&s, PAGE, PAGE, 1, EOPNOTSUPP);
	expect_refused(&s, 2 * PAGE, PAGE, 1, ENOENT);
	expect_ok(hwpt_alloc(s.iommu, s.devid, s.ioas, &s.hwpt));
	expect_runs(&s, PAGE, PAGE, &want);
	expect_ok(object_destroy(s.iommu, s.hwpt));
	expect_refused(&s, PAGE, PAGE, 1, EOPNOTSUPP);
}

static void ask_without_capability(void *arg)
{
	struct noiommufd_ioas_get_pa_runs get = { .size = sizeof(get) };
	const struct setup *s = arg;

	drop_cap(CAP_SYS_RAWIO);
	expect_refused(s, PAGE, PAGE, 1, EPERM);
	/* Whatever else is wrong with the argument */
	expect_refused(s, 5 * PAGE, PAGE, 1, EPERM);
	expect_refused(s, U64_MAX, U64_MAX, 1, EPERM);
	expect_refused(s, PAGE, 0, 0, EPERM);
	expect_errno(ioctl(s->iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, &get), EPERM);
	get.flags = U32_MAX;
	expect_errno(ioctl(s->iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, &get), EPERM);
}

TEST(needs_a_capability)
{
	struct setup s;

	setup_runs(&s);
	expect_ok(map_at(&s, mem(PAGE), PAGE, PAGE));
	in_child(ask_without_capability, &s);
}

/* Bad input: errors are reported in the order of the checks. */
TEST(bad_arguments)
{
	struct noiommufd_ioas_get_pa_runs get = { .size = sizeof(get) };
	struct noiommufd_run run;
	struct setup s;
	unsigned int i;

	setup_runs(&s);
	expect_ok(map_at(&s, mem(PAGE), PAGE, PAGE));
	expect_refused(&s, PAGE, 0, 1, EINVAL);
	expect_refused(&s, PAGE, PAGE, 0, EINVAL);
	expect_refused(&s, U64_MAX, 0, 1, EINVAL);
	expect_refused(&s, PAGE, -PAGE + 1, 1, EOVERFLOW);
	expect_refused(&s, U64_MAX, PAGE, 1, EOVERFLOW);

	for (i = 0; i < 32; i++) {
		get.flags = 1U << i;
		expect_errno(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, &get),
			     EOPNOTSUPP);
	}
	get.flags = 0;
	get.num_runs = 1;
	get.iova = U64_MAX;
	get.length = PAGE;
	get.ioas_id = s.ioas + 1000;
	expect_errno(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, &get),
		     EOVERFLOW);
	get.iova = PAGE;
	get.runs = (uintptr_t)&run;
	expect_errno(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, &get), ENOENT);
	/* An object that is no IOAS, and no object */
	get.ioas_id = s.hwpt;
	expect_errno(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, &get), ENOENT);
	get.ioas_id = 0;
	expect_errno(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, &get), ENOENT);
	get.ioas_id = s.ioas;
	expect_ok(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, &get));
}

TEST(struct_sizes)
{
	struct {
		struct noiommufd_ioas_get_pa_runs get;
		char tail[PAGE];
	} *arg = mem(2 * PAGE);
	const size_t size = sizeof(arg->get);
	struct noiommufd_run run;
	struct setup s;
	size_t n;

	setup_runs(&s);
	expect_ok(map_at(&s, mem(PAGE), PAGE, PAGE));
	expect_eq(size, 40);
	for (n = 0; n < size + 24; n++) {
		arg->get = (struct noiommufd_ioas_get_pa_runs){
			.size = n, .ioas_id = s.ioas, .num_runs = 1,
			.iova = PAGE, .length = 2 * PAGE,
			.runs = (uintptr_t)&run,
		};
		memset(arg->tail, 0, sizeof(arg->tail));
		if (n < size) {
			expect_errno(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS,
					   arg), EINVAL);
			expect_eq(arg->get.length, 2 * PAGE);
			continue;
		}
		expect_ok(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, arg));
		expect_eq(arg->get.size, n);
		expect_eq(arg->get.length, PAGE);
		expect_eq(arg->get.num_runs, 1);
		if (n == size)
			continue;
		arg->tail[n - size - 1] = 1;
		expect_errno(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, arg),
			     E2BIG);
		/* Not part of the struct */
		arg->tail[n - size - 1] = 0;
		arg->tail[n - size] = 1;
		expect_ok(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, arg));
	}
	arg->get.size = U32_MAX;
	n = ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, arg);
	expect_eq(n, (size_t)-1);
	expect(errno == E2BIG || errno == EFAULT);
	expect_errno(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, NULL), EFAULT);
	expect_errno(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, KERNEL_POINTER),
		     EFAULT);
	expect_errno(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, U64_MAX - 8),
		     EFAULT);
	/* An answer that cannot be written */
	arg->get.size = size;
	arg->get.length = PAGE;
	expect_ok(mprotect(arg, 2 * PAGE, PROT_READ));
	expect_errno(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, arg), EFAULT);
	expect_eq(arg->get.length, PAGE);
}

/*
 * An array whose end cannot be written: it has room for this many runs, and is
 * misaligned by this many bytes.
 */
static void array_faults_after(const struct setup *s, size_t room,
			       unsigned int odd, const struct list *want)
{
	__u64 length = U32_MAX;
	char *page = mem_flags(4 * PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS), *end, *at;
	const struct noiommufd_run none = { UNTOUCHED, UNTOUCHED };
	__u32 num = want->nr;
	bool missing = false;
	size_t i;

	memset(page, UNTOUCHED & 0xff, 4 * PAGE);
	end = page + 3 * PAGE;
	expect_ok(mprotect(end, PAGE, PROT_NONE));
	at = end - room * sizeof(none) - odd;
	expect_errno(get_runs(s, 0, &length, (void *)at, &num), EFAULT);
	expect_eq(length, U32_MAX);
	expect_eq(num, want->nr);

	for (i = 0; page + i < at; i++)
		expect_eq((unsigned char)page[i], UNTOUCHED & 0xff);
	/* The runs that were written are right, and nothing follows. */
	for (i = 0; i < room; i++, at += sizeof(none)) {
		if (!memcmp(at, &none, sizeof(none)))
			missing = true;
		else if (missing || memcmp(at, &want->run[i], sizeof(none)))
			fail("room for %zu, entry %zu: expected the run or nothing, got another",
			     room, i);
	}
	/* It stops at the page that faults, not a batch earlier. */
	if (room >= 128)
		expect(memcmp(at - 65 * sizeof(none), &none, sizeof(none)));
	munmap(page, 4 * PAGE);
}

TEST(array_faults_half_way)
{
	char *va = scattered(600);
	struct list want = runs_of(va, 600 * PAGE);
	static const size_t rooms[] = {
		0, 1, 2, 62, 63, 64, 65, 126, 128, 129, 200, 256,
	};
	struct setup s;
	unsigned int i;

	setup_runs(&s);
	expect(want.nr > 300);
	expect_ok(map_at(&s, va, 600 * PAGE, 0));
	for (i = 0; i < ARRAY_SIZE(rooms); i++) {
		array_faults_after(&s, rooms[i], 0, &want);
		array_faults_after(&s, rooms[i], 4, &want);
		array_faults_after(&s, rooms[i], 9, &want);
	}
}

TEST(array_cannot_be_written)
{
	const struct noiommufd_run *runs;
	char *va = scattered(130);
	static const __u64 wrong[] = {
		0, 8, KERNEL_POINTER, U64_MAX - 15, U64_MAX, 1ULL << 63,
		0x00007ffffffff000ULL, 0x0000800000000000ULL,
	};
	struct setup s;
	unsigned int i;

	setup_runs(&s);
	expect_ok(map_at(&s, va, 130 * PAGE, 0));
	runs = mem(PAGE);
	expect_ok(mprotect((void *)runs, PAGE, PROT_READ));
	for (i = 0; i < 2; i++) {
		__u64 length = 130 * PAGE;
		__u32 num = i ? 1 : 200;
		unsigned int k;

		expect_errno(get_runs(&s, 0, &length, (void *)runs, &num),
			     EFAULT);
		expect_eq(runs[0].phys | runs[0].length, 0);
		for (k = 0; k < ARRAY_SIZE(wrong); k++) {
			expect_errno(get_runs(&s, 0, &length,
					      (void *)(uintptr_t)wrong[k],
					      &num), EFAULT);
			expect_eq(length, 130 * PAGE);
		}
	}
	/* Errors in the range are reported first. */
	expect_refused(&s, GIB, PAGE, 1, ENOENT);
}

TEST(odd_array)
{
	char *va = scattered(130), *at = mem(2 * PAGE);
	struct list want = runs_of(va, 130 * PAGE);
	struct setup s;
	int i;

	setup_runs(&s);
	expect_ok(map_at(&s, va, 130 * PAGE, 0));
	for (i = 0; i < 16; i++) {
		__u64 length = 130 * PAGE;
		__u32 num = 200;

		memset(at, i, 2 * PAGE);
		expect_ok(get_runs(&s, 0, &length, (void *)(at + i), &num));
		expect_eq(num, want.nr);
		expect(!memcmp(at + i, want.run, num * sizeof(*want.run)));
		expect_eq(at[i + num * sizeof(*want.run)], i);
	}
}

/*
 * A long range with little memory: the same pages again and again. Returns its
 * length; it starts at IOVA 0.
 */
static __u64 map_repeated(const struct setup *s, char *va, __u64 size,
			  unsigned int doublings)
{
	expect_ok(map_at(s, va, size, 0));
	for (; doublings--; size *= 2) {
		__u64 iova = size;

		expect_ok(ioas_copy(s->iommu, s->ioas, s->ioas, MAP_FIXED_RW,
				    size, &iova, 0));
	}
	return size;
}

/* An array for this many runs, backed by one huge page */
static struct noiommufd_run *folded_array(size_t nr)
{
	size_t size = (nr * sizeof(struct noiommufd_run) + HUGE_PAGE - 1) &
		      -HUGE_PAGE, i;
	char *va;
	int fd;

	huge_pages(1);
	fd = expect_ok(memfd_create("suite", MFD_HUGETLB));
	expect_ok(ftruncate(fd, HUGE_PAGE));
	va = mem_flags(size + HUGE_PAGE, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
	va = (char *)(((uintptr_t)va + HUGE_PAGE - 1) & -HUGE_PAGE);
	for (i = 0; i < size; i += HUGE_PAGE)
		expect(mmap(va + i, HUGE_PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd,
			    0) != MAP_FAILED);
	close(fd);
	return (void *)va;
}

#define LONG_BASE	4096
#define LONG_DOUBLINGS	14

/* Shared with the threads and processes of a test */
struct shared {
	struct setup s;
	__u64 length;
	struct noiommufd_run *array;
	bool stop;
	bool done;
	unsigned long calls;
	double seconds;
};

static struct shared *setup_long(void)
{
	char *va = scattered(LONG_BASE);
	struct shared *sh;

	sh = mem_flags(sizeof(*sh), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS);
	setup_runs(&sh->s);
	sh->array = folded_array((size_t)LONG_BASE << LONG_DOUBLINGS);
	sh->length = map_repeated(&sh->s, va, LONG_BASE * PAGE, LONG_DOUBLINGS);
	return sh;
}

static void *translate_long(void *arg)
{
	struct shared *sh = arg;
	__u64 length = sh->length;
	__u32 num = U32_MAX;
	double start = now();

	expect_ok(get_runs(&sh->s, 0, &length, sh->array, &num));
	expect_eq(length, sh->length);
	expect(num > (__u32)LONG_BASE << (LONG_DOUBLINGS - 1));
	sh->seconds = now() - start;
	set_flag(&sh->done);
	return NULL;
}

static void translate_long_for_ever(void *arg)
{
	struct shared *sh = arg;

	for (;;) {
		translate_long(sh);
		__atomic_add_fetch(&sh->calls, 1, __ATOMIC_RELAXED);
	}
}

/* A fatal signal ends a long ioctl. */
TEST_LIMIT(killed, 180)
{
	struct shared *sh = setup_long();
	double start, took, whole;
	pid_t pid;
	int i;

	translate_long(sh);
	whole = sh->seconds;
	for (i = 0; i < 3; i++) {
		pid = spawn(translate_long_for_ever, sh);
		sleep_ms(whole < 1 ? whole * 300 : 300);
		start = now();
		expect_ok(kill(pid, SIGKILL));
		expect_eq(waitpid(pid, NULL, 0), pid);
		took = now() - start;
		if (sh->calls)
			fail("expected no call to end, got %lu", sh->calls);
		/* Generous, for a busy host */
		if (took > whole / 3 + 0.1)
			fail("killed in a call of %.1f s: expected an end at once, got %.2f s",
			     whole, took);
	}
	printf("# runs.killed: in a call of %.1f s, dead after %.3f s\n", whole,
	       took);
	fflush(stdout);
}

static void *worker(pthread_t *thread, void *(*fn)(void *arg), void *arg)
{
	expect_eq(pthread_create(thread, NULL, fn, arg), 0);
	return arg;
}

/* MAP and UNMAP go on while another thread is in a long ioctl. */
TEST_LIMIT(long_call_stalls_nobody, 180)
{
	struct shared *sh = setup_long();
	double longest = 0, start, took;
	char *va = mem(PAGE);
	unsigned long n = 0;
	pthread_t thread;

	worker(&thread, translate_long, sh);
	for (; !flag(&sh->done); n++) {
		start = now();
		expect_ok(map_at(&sh->s, va, PAGE, sh->length + GIB));
		expect_ok(ioas_unmap(sh->s.iommu, sh->s.ioas, sh->length + GIB,
				     PAGE, NULL));
		took = now() - start;
		if (took > longest)
			longest = took;
	}
	pthread_join(thread, NULL);
	printf("# runs.%s: %lu times MAP and UNMAP in a call of %.1f s, %.3f s at most\n",
	       "long_call_stalls_nobody", n, sh->seconds, longest);
	fflush(stdout);
	/* If they waited for the ioctl, this would be 1. */
	if (n < 50)
		fail("MAP and UNMAP during a call of %.1f s: expected 50 times at least, got %lu",
		     sh->seconds, n);
}

/* Other threads that use the same IOAS */

#define GROUPS		20
#define GROUP_SLOTS	5
#define SLOTS		(GROUPS * GROUP_SLOTS)
#define SLOT_PAGES	4
#define SLOT		(SLOT_PAGES * PAGE)

/*
 * The first two IOVA slots of a group are mapped alternately to parts of two pieces
 * of memory: the addresses of either are right. The slots between them stay mapped,
 * and have to be found whatever happens to the tree.
 */
#define CHANGING_SLOTS	2

static struct race {
	struct setup s;
	char *va[2];
	__u64 legal[SLOTS * SLOT_PAGES][2];
	bool stop;
	unsigned long runs_calls, get_pa_calls, changes;
} race;

static void setup_race(void)
{
	struct setup *s = &race.s;
	__u32 keeper, hwpt;
	size_t i, k;

	setup_runs(s);
	/* Another IOAS keeps the pages where they are. */
	keeper = new_ioas(s->iommu);
	expect_ok(hwpt_alloc(s->iommu, s->devid, keeper, &hwpt));
	for (k = 0; k < 2; k++) {
		race.va[k] = scattered(SLOTS * SLOT_PAGES);
		expect_ok(ioas_map(s->iommu, keeper, race.va[k], SLOTS * SLOT,
				   k * GIB));
		for (i = 0; i < SLOTS * SLOT_PAGES; i++)
			race.legal[i][k] = pagemap_pa(race.va[k] + i * PAGE);
	}
	for (i = 0; i < SLOTS; i++)
		expect_ok(map_at(s, race.va[0] + i * SLOT, SLOT, i * SLOT));
}

static bool slot_is_kept(__u64 slot)
{
	return slot % GROUP_SLOTS >= CHANGING_SLOTS;
}

/* Each page of a run was behind its IOVA at some time. */
static void expect_legal(__u64 iova, __u64 phys, __u64 length)
{
	while (length) {
		__u64 part = PAGE - iova % PAGE, page = iova / PAGE;
		const __u64 *legal = race.legal[page];

		if (part > length)
			part = length;
		expect(page < SLOTS * SLOT_PAGES);
		if (phys - iova % PAGE != legal[0] &&
		    phys - iova % PAGE != legal[1])
			fail("IOVA 0x%llx: expected 0x%llx or 0x%llx, got 0x%llx",
			     iova, legal[0] + iova % PAGE,
			     legal[1] + iova % PAGE, phys);
		iova += part;
		phys += part;
		length -= part;
	}
}

static __u64 random_below(unsigned int *seed, __u64 n)
{
	return (((__u64)rand_r(seed) << 16) ^ rand_r(seed)) % n;
}

static void *race_runs(void *arg)
{
	static const __u32 rooms[] = { 1, 3, 63, 64, 65, 128, 1000 };
	struct noiommufd_run runs[1000];
	unsigned int seed = 1;

	while (!flag(&race.stop)) {
		__u64 iova = random_below(&seed, SLOTS * SLOT), length, at;
		__u64 want = 1 + random_below(&seed, SLOTS * SLOT - iova);
		__u32 room = rooms[random_below(&seed, ARRAY_SIZE(rooms))], num;
		bool kept = slot_is_kept(iova / SLOT);

		length = want;
		num = room;
		race.runs_calls++;
		if (get_runs(&race.s, iova, &length, runs, &num)) {
			expect_eq(errno, ENOENT);
			expect(!kept);
			continue;
		}
		expect(num && num <= room);
		expect(length && length <= want);
		at = iova;
		for (__u32 i = 0; i < num; i++) {
			expect(runs[i].length);
			expect(runs[i].length <= iova + length - at);
			expect(!i || runs[i - 1].phys + runs[i - 1].length !=
					     runs[i].phys);
			expect_legal(at, runs[i].phys, runs[i].length);
			at += runs[i].length;
		}
		expect_eq(at, iova + length);
		if (num < room && length < want)
			expect(!slot_is_kept(at / SLOT));
	}
	return arg;
}

static void *race_get_pa(void *arg)
{
	unsigned int seed = 2;

	while (!flag(&race.stop)) {
		__u64 iova = random_below(&seed, SLOTS * SLOT), pa;
		__u64 want = 1 + random_below(&seed, 3 * SLOT), length = want;

		race.get_pa_calls++;
		if (get_pa(race.s.iommu, race.s.ioas, iova, &length, &pa)) {
			expect_eq(errno, ENOENT);
			expect(!slot_is_kept(iova / SLOT));
			continue;
		}
		expect(length && length <= want);
		/* Never beyond the mapping */
		expect_eq(iova / SLOT, (iova + length - 1) / SLOT);
		expect_legal(iova, pa, length);
	}
	return arg;
}

static void change_slots(double seconds)
{
	const struct setup *s = &race.s;
	double end = now() + seconds;
	unsigned int seed = 3;

	while (now() < end) {
		__u64 iova = random_below(&seed, GROUPS) * GROUP_SLOTS * SLOT;
		char *va = race.va[random_below(&seed, 2)] + iova;
		int i;

		expect_ok(ioas_unmap(s->iommu, s->ioas, iova,
				     CHANGING_SLOTS * SLOT, NULL));
		for (i = 0; i < CHANGING_SLOTS; i++)
			expect_ok(map_at(s, va + i * SLOT, SLOT,
					 iova + i * SLOT));
		race.changes++;
	}
	set_flag(&race.stop);
}

/* Two threads translate on two processors while a third maps and unmaps. */
TEST_LIMIT(while_others_map, 120)
{
	pthread_t runs, pa;

	setup_race();
	worker(&runs, race_runs, NULL);
	worker(&pa, race_get_pa, NULL);
	change_slots(5);
	pthread_join(runs, NULL);
	pthread_join(pa, NULL);
	printf("# runs.while_others_map: %lu GET_PA_RUNS, %lu GET_PA, %lu times UNMAP and MAP\n",
	       race.runs_calls, race.get_pa_calls, race.changes);
	fflush(stdout);
	/* No thread starves. */
	expect(race.runs_calls > 100);
	expect(race.get_pa_calls > 100);
	expect(race.changes > 100);
}

/* Batch size of GET_PA_RUNS, IOMMUFD_RUNS_BATCH in src/ */
#define BATCH		128

struct late {
	struct noiommufd_run *runs;
	__u32 pages;
	__u32 num;
};

static void *get_late(void *arg)
{
	struct late *late = arg;
	__u64 length = late->pages * PAGE;

	late->num = late->pages;
	expect_ok(get_runs(&race.s, 0, &length, late->runs, &late->num));
	expect_eq(length, late->pages * PAGE);
	return arg;
}

/*
 * Ask for n runs of a page and one more page, which is mapped again, right after
 * the last run, while the ioctl waits to write. Returns the number of runs.
 */
static __u32 runs_with_late_neighbour(char *va, __u32 n)
{
	struct uffdio_zeropage zero = {};
	const struct setup *s = &race.s;
	struct late late = { .pages = n + 1 };
	pthread_t thread;
	__u32 i;
	int fd;

	for (i = 0; i < n; i++)
		expect_ok(map_at(s, va + 2 * i * PAGE, PAGE, i * PAGE));
	expect_ok(map_at(s, va, PAGE, n * PAGE));
	late.runs = mem_flags(PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS);
	zero.range.start = (uintptr_t)late.runs;
	zero.range.len = PAGE;
	fd = userfault_open(&zero.range);
	worker(&thread, get_late, &late);
	userfault_wait(fd);
	expect_ok(ioas_unmap(s->iommu, s->ioas, n * PAGE, PAGE, NULL));
	expect_ok(map_at(s, va + (2 * n - 1) * PAGE, PAGE, n * PAGE));
	expect_ok(ioctl(fd, UFFDIO_ZEROPAGE, &zero));
	expect_eq(pthread_join(thread, NULL), 0);
	close(fd);

	expect(late.num);
	for (i = 0; i < n; i++) {
		const bool joined = i == n - 1 && late.num == n;

		expect_eq(late.runs[i].phys, pagemap_pa(va + 2 * i * PAGE));
		expect_eq(late.runs[i].length, joined ? 2 * PAGE : PAGE);
	}
	expect_eq(late.runs[n].length, late.num == n ? 0 : PAGE);
	expect_ok(ioas_unmap(s->iommu, s->ioas, 0, (n + 1) * PAGE, NULL));
	return late.num;
}

/* A page that becomes adjacent between two batches joins the run. */
TEST(neighbour_comes_meanwhile)
{
	char *va;

	setup_runs(&race.s);
	va = hugetlb(1);
	/* All in one batch; otherwise BATCH is not that of the kernel. */
	expect_eq(runs_with_late_neighbour(va, BATCH - 1), BATCH);
	expect_eq(runs_with_late_neighbour(va, BATCH), BATCH);
}

static void *race_attach(void *arg)
{
	while (!flag(&race.stop)) {
		expect_ok(dev_detach(race.s.dev));
		attach(race.s.dev, race.s.ioas);
		race.changes++;
	}
	return arg;
}

/* The answer ends where translation ended, and is right up to there. */
TEST_LIMIT(while_another_attaches, 120)
{
	const size_t n = 1000;
	char *va = scattered(n);
	struct noiommufd_run *runs = calloc(n, sizeof(*runs));
	struct list want = runs_of(va, n * PAGE);
	unsigned long whole = 0, calls = 0;
	pthread_t thread;
	double end;

	setup_runs(&race.s);
	expect_ok(map_at(&race.s, va, n * PAGE, 0));
	worker(&thread, race_attach, NULL);
	for (end = now() + 3; now() < end; calls++) {
		__u64 length = n * PAGE, sum = 0;
		__u32 num = n;

		if (get_runs(&race.s, 0, &length, runs, &num)) {
			expect_eq(errno, EOPNOTSUPP);
			continue;
		}
		expect(num <= want.nr);
		expect(!memcmp(runs, want.run, num * sizeof(*runs)));
		for (__u32 i = 0; i < num; i++)
			sum += runs[i].length;
		expect_eq(sum, length);
		whole += length == n * PAGE;
	}
	set_flag(&race.stop);
	pthread_join(thread, NULL);
	expect(whole && race.changes);
}

#define BLOCK_IOVA	GIB

static void *race_copy(void *arg)
{
	const __u32 *source = arg;

	while (!flag(&race.stop)) {
		__u64 iova = 3 * GIB;

		/* From the huge page into the scattered pages after it */
		expect_ok(ioas_copy(race.s.iommu, race.s.ioas, *source,
				    MAP_FIXED_RW, 40 * PAGE, &iova,
				    HUGE_PAGE - 8 * PAGE));
		expect_ok(ioas_unmap(race.s.iommu, race.s.ioas, iova,
				     40 * PAGE, NULL));
		race.changes++;
	}
	return arg;
}

/* Other pages of the same memory are pinned and released meanwhile. */
TEST_LIMIT(while_others_pin_the_rest, 120)
{
	unsigned long calls = 0;
	__u32 source, num;
	pthread_t thread;
	char *va, *behind;
	struct list want;
	double end;
	int i;

	setup_runs(&race.s);
	huge_pages(1);
	va = mem_flags(3 * HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
	va = (char *)(((uintptr_t)va + HUGE_PAGE - 1) & -HUGE_PAGE);
	expect_ok(munmap(va, HUGE_PAGE));
	expect(mmap(va, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE |
		    MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED, -1, 0) == va);
	behind = scattered(64);
	expect(mremap(behind, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE |
		      MREMAP_FIXED, va + HUGE_PAGE) == va + HUGE_PAGE);
	memset(va, 1, HUGE_PAGE);
	want = runs_of(va + 100 * PAGE, 5 * PAGE);

	/* Mapped in an IOAS without a device: only the copied part is pinned. */
	source = new_ioas(race.s.iommu);
	expect_ok(ioas_map(race.s.iommu, source, va, HUGE_PAGE + 64 * PAGE, 0));
	worker(&thread, race_copy, &source);
	for (end = now() + 4; now() < end; calls++) {
		__u64 iova = BLOCK_IOVA, length, pa;
		struct noiommufd_run run[2];

		expect_ok(ioas_copy(race.s.iommu, race.s.ioas, source,
				    MAP_FIXED_RW, 5 * PAGE, &iova, 100 * PAGE));
		for (i = 0; i < 50; i++) {
			length = GIB;
			num = 2;
			expect_ok(get_runs(&race.s, iova, &length, run, &num));
			expect_eq(num, 1);
			expect_eq(length, 5 * PAGE);
			expect_eq(run[0].phys, want.run[0].phys);
			expect_eq(run[0].length, 5 * PAGE);
			expect_ok(get_pa(race.s.iommu, race.s.ioas, iova,
					 &length, &pa));
			expect_eq(pa, want.run[0].phys);
			expect_eq(length, 5 * PAGE);
		}
		expect_ok(ioas_unmap(race.s.iommu, race.s.ioas, iova,
				     5 * PAGE, NULL));
	}
	set_flag(&race.stop);
	pthread_join(thread, NULL);
	expect(calls > 20);
	expect(race.changes > 20);
}

/* The library's function, and the same without the ioctl, which mainline lacks */

struct caller {
	struct noiommufd_context context;
	struct noiommufd_ioas ioas;
};

static void caller_init(struct caller *c, const struct setup *s, bool no_runs)
{
	c->context = (struct noiommufd_context){
		.fd = s->iommu, .no_runs = no_runs,
	};
	c->ioas = (struct noiommufd_ioas){
		.context = &c->context, .id = s->ioas,
		.forks = noiommufd__forks,
	};
}

static void library_all(struct noiommufd_ioas *ioas, __u64 iova, __u64 length,
			unsigned int room, struct list *l)
{
	struct noiommufd_run *runs = calloc(room, sizeof(*runs));
	__u64 done, part;
	int num, i;

	for (done = 0; done < length; done += part) {
		part = length - done;
		num = noiommufd_ioas_runs(ioas, iova + done, &part, runs, room);
		expect(part && num > 0 && num <= (int)room);
		for (i = 0; i < num; i++)
			list_add(l, runs[i].phys, runs[i].length);
	}
	free(runs);
}

TEST(library_translates)
{
	static const unsigned int rooms[] = { 1, 2, 64, 65, 1000 };
	char *small = scattered(200), *huge = hugetlb(1);
	struct list want = {};
	unsigned int i, k;
	struct setup s;

	setup_attached(&s);
	memset(huge, 1, HUGE_PAGE);
	expect_ok(map_at(&s, small, 150 * PAGE, 0));
	expect_ok(map_at(&s, small + 150 * PAGE, 50 * PAGE, 150 * PAGE));
	expect_ok(map_at(&s, huge, MIB, 200 * PAGE));
	expect_ok(map_at(&s, huge + MIB, MIB, 200 * PAGE + MIB));
	list_add_va(&want, small + 17, 200 * PAGE - 17);
	list_add_va(&want, huge, HUGE_PAGE - 3);
	for (i = 0; i < ARRAY_SIZE(rooms); i++) {
		for (k = 0; k < 2; k++) {
			struct list got = {};
			struct caller c;

			caller_init(&c, &s, k);
			library_all(&c.ioas, 17, 200 * PAGE + HUGE_PAGE - 20,
				    rooms[i], &got);
			same_list(__FILE__, __LINE__, &got, &want, rooms[i]);
			/* It asks once. */
			expect_eq(c.context.no_runs, k || on_mainline());
		}
	}
}

/* And the same for unmapped IOVAs */
TEST(library_meets_a_hole)
{
	char *va = scattered(10);
	struct list want = runs_of(va, 10 * PAGE);
	struct setup s;
	int i;

	setup_attached(&s);
	expect_ok(map_at(&s, va, 10 * PAGE, PAGE));
	for (i = 0; i < 2; i++) {
		struct noiommufd_run runs[20];
		struct list got = { .run = runs };
		__u64 length = 12 * PAGE;
		struct caller c;

		caller_init(&c, &s, i);
		got.nr = expect_ok(noiommufd_ioas_runs(&c.ioas, PAGE, &length,
						       runs, 20));
		expect_eq(length, 10 * PAGE);
		same_list(__FILE__, __LINE__, &got, &want, 20);
		expect_errno(noiommufd_ioas_runs(&c.ioas, 0, &length, runs, 20),
			     ENOENT);
		expect_eq(length, 10 * PAGE);
	}
}
