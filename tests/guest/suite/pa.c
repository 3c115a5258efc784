// SPDX-License-Identifier: GPL-2.0-only
/*
 * GET_PA: the address agrees with /proc/self/pagemap and stays the same whatever
 * becomes of the process's mapping, and the length is right.
 */
#include <signal.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include <noiommufd/noiommufd.h>

#include "harness.h"

#define KERN_NOTICE	5

static int map_rw(const struct setup *s, void *va, __u64 length, __u64 iova)
{
	return ioas_map(s->iommu, s->ioas, va, length, iova);
}

static int map_read(const struct setup *s, void *va, __u64 length, __u64 iova)
{
	return ioas_map_flags(s->iommu, s->ioas,
			      IOMMU_IOAS_MAP_FIXED_IOVA | MAP_READ, va, length,
			      &iova);
}

static __u64 contiguous(const struct setup *s, __u64 iova, __u64 limit)
{
	__u64 pa;

	expect_ok(get_pa(s->iommu, s->ioas, iova, &limit, &pa));
	return limit;
}

static void *memfd(size_t size, unsigned int flags)
{
	int fd = expect_ok(memfd_create("suite", flags));
	void *va;

	expect_ok(ftruncate(fd, size));
	va = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	expect(va != MAP_FAILED);
	/* The mapping outlives it. */
	close(fd);
	return va;
}

TEST(small_pages)
{
	char *va = mem(256 * PAGE);
	struct setup s;

	setup_attached(&s);
	expect_ok(map_rw(&s, va, 256 * PAGE, 7 * PAGE));
	expect_pas(&s, 7 * PAGE, va, 256 * PAGE);
}

TEST(memory_never_touched)
{
	char *va = mem_flags(64 * PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS);
	struct setup s;

	madvise(va, 64 * PAGE, MADV_NOHUGEPAGE);
	setup_attached(&s);
	expect_ok(map_rw(&s, va, 64 * PAGE, 0));
	expect_pas(&s, 0, va, 64 * PAGE);
	memset(va, 1, 64 * PAGE);
	expect_pas(&s, 0, va, 64 * PAGE);
}

TEST(lazy_then_attached)
{
	char *va = mem(64 * PAGE);
	struct setup s;

	setup_bound(&s);
	expect_ok(map_rw(&s, va, 64 * PAGE, 0));
	attach(s.dev, s.ioas);
	expect_pas(&s, 0, va, 64 * PAGE);
}

TEST(transparent_huge)
{
	char *va = transparent_huge_page();
	struct setup s;

	setup_attached(&s);
	expect_ok(map_rw(&s, va, HUGE_PAGE, 4 * MIB));
	expect_pas(&s, 4 * MIB, va, HUGE_PAGE);
	expect_eq(contiguous(&s, 4 * MIB, U64_MAX), HUGE_PAGE);
	/* A part of it, elsewhere */
	expect_ok(map_rw(&s, va + 5 * PAGE, 3 * PAGE, PAGE));
	expect_pas(&s, PAGE, va + 5 * PAGE, 3 * PAGE);
	expect_eq(contiguous(&s, PAGE, U64_MAX), 3 * PAGE);
}

TEST(hugetlb_pages)
{
	char *va = hugetlb(2);
	struct setup s;

	setup_attached(&s);
	expect_ok(map_rw(&s, va, 2 * HUGE_PAGE, 4 * MIB));
	expect_pas(&s, 4 * MIB, va, 2 * HUGE_PAGE);
	expect(contiguous(&s, 4 * MIB, U64_MAX) >= HUGE_PAGE);
}

TEST(hugetlb_misaligned)
{
	char *va = hugetlb(2);
	struct setup s;

	setup_attached(&s);
	/* An IOVA that is not aligned for a huge page */
	expect_ok(map_rw(&s, va, 2 * HUGE_PAGE, 4 * MIB + PAGE));
	expect_pas(&s, 4 * MIB + PAGE, va, 2 * HUGE_PAGE);
	/* From the middle of one huge page to the middle of the other */
	expect_ok(map_rw(&s, va + HUGE_PAGE - 3 * PAGE, 5 * PAGE, PAGE));
	expect_pas(&s, PAGE, va + HUGE_PAGE - 3 * PAGE, 5 * PAGE);
}

/*
 * A private mapping of a huge page that is the file's until it is written: the
 * device gets the page that the process will have, or the MAP fails.
 */
TEST(hugetlb_private_of_a_file)
{
	const __u32 flags = IOMMU_IOAS_MAP_FIXED_IOVA | MAP_READ;
	__u64 iova = GIB, pa;
	char *shared, *va;
	struct setup s;
	int fd, rc;

	huge_pages(4);
	setup_attached(&s);
	fd = expect_ok(memfd_create("suite", 4 /* MFD_HUGETLB */));
	expect_ok(ftruncate(fd, HUGE_PAGE));
	shared = mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	expect(shared != MAP_FAILED);
	shared[0] = 1;
	va = mmap(NULL, HUGE_PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	expect(va != MAP_FAILED);
	rc = ioas_map_flags(s.iommu, s.ioas, flags, va, HUGE_PAGE, &iova);
	if (rc) {
		expect_errno(rc, EADDRNOTAVAIL);
	} else {
		pa = pa_of(s.iommu, s.ioas, iova);
		expect_ok(mprotect(va, HUGE_PAGE, PROT_READ | PROT_WRITE));
		va[0] = 2;
		expect_eq(pagemap_pa(va), pa);
		expect_ok(ioas_unmap(s.iommu, s.ioas, iova, HUGE_PAGE, NULL));
	}

	/* Its own page, which it may not write at the moment. */
	expect_ok(mprotect(va, HUGE_PAGE, PROT_READ | PROT_WRITE));
	va[0] = 3;
	expect_ok(mprotect(va, HUGE_PAGE, PROT_READ));
	expect_ok(ioas_map_flags(s.iommu, s.ioas, flags, va, HUGE_PAGE, &iova));
	pa = pa_of(s.iommu, s.ioas, iova);
	expect_ok(mprotect(va, HUGE_PAGE, PROT_READ | PROT_WRITE));
	va[0] = 4;
	expect_eq(pagemap_pa(va), pa);
}

/* First PA of a memory block in ZONE_MOVABLE, or 0. */
static __u64 movable_block(__u64 *size, char *path, size_t room)
{
	unsigned long long block;
	unsigned int n;
	FILE *f = fopen("/sys/devices/system/memory/block_size_bytes", "r");

	if (!f || fscanf(f, "%llx", &block) != 1)
		test_skip("this kernel has no memory blocks");
	fclose(f);
	*size = block;
	for (n = 2 * GIB / block; n--;) {
		snprintf(path, room, "/sys/devices/system/memory/memory%u/state",
			 n);
		if (!write_file(path, "offline"))
			return write_file(path, "online_movable") ? 0 :
								    n * block;
	}
	return 0;
}

/*
 * A huge page there has to be moved before it is pinned. On a kernel that cannot,
 * a line in the log says so, and there is no other.
 */
TEST_LIMIT(hugetlb_of_movable_memory, 120)
{
	const unsigned int n = 48;
	__u64 block, size, iova, length, pa;
	unsigned int i, moved = 0, refused = 0;
	unsigned long long log;
	char path[128], *va;
	struct setup s;

	setup_attached(&s);
	block = movable_block(&size, path, sizeof(path));
	if (!block)
		test_skip("no block of memory can be emptied");
	va = hugetlb(n);
	log = kmsg_mark();
	for (i = 0; i < n; i++) {
		char *page = va + i * HUGE_PAGE;

		*page = 1;
		pa = pagemap_pa(page);
		if (pa < block || pa >= block + size)
			continue;
		iova = GIB;
		if (ioas_map(s.iommu, s.ioas, page, HUGE_PAGE, iova)) {
			expect_eq(errno, ENOMEM);
			refused++;
			continue;
		}
		length = HUGE_PAGE;
		expect_ok(get_pa(s.iommu, s.ioas, iova, &length, &pa));
		expect_eq(length, HUGE_PAGE);
		expect(pa < block || pa >= block + size);
		expect_eq(pagemap_pa(page), pa);
		expect_ok(ioas_unmap(s.iommu, s.ioas, iova, HUGE_PAGE, NULL));
		moved++;
	}
	printf("# %u moved, %u refused\n", moved, refused);
	expect_eq(kmsg_count(log, 4, NULL, NULL), 0);
	if (refused)
		expect(kmsg_count(log, 5, "ZONE_MOVABLE", "huge page") > 0);
	expect_ok(munmap(va, n * HUGE_PAGE));
	huge_pages(0);
	write_file(path, "offline");
	write_file(path, "online");
	if (!moved && !refused)
		test_skip("no huge page lies in that block");
}

TEST(hugetlb_parts_unmapped)
{
	char *va = hugetlb(1);
	long long before = pins();
	struct setup s;
	__u64 iova = MIB;

	setup_attached(&s);
	expect_ok(map_rw(&s, va, HUGE_PAGE, 4 * MIB));
	expect_ok(ioas_copy(s.iommu, s.ioas, s.ioas, MAP_FIXED_RW, 2 * PAGE,
			    &iova, 4 * MIB + 100 * PAGE));
	expect_ok(ioas_unmap(s.iommu, s.ioas, 4 * MIB, HUGE_PAGE, NULL));
	expect_pas(&s, MIB, va + 100 * PAGE, 2 * PAGE);
	expect_eq(vm_pin(), 8);
	expect(pins() > before);
	expect_ok(ioas_unmap(s.iommu, s.ioas, MIB, 2 * PAGE, NULL));
	expect_eq(vm_pin(), 0);
	expect_pins(before);
}

TEST(memfd_pages)
{
	char *va = memfd(64 * PAGE, 0);
	struct setup s;

	mem_fill(va, 64 * PAGE, 1);
	setup_attached(&s);
	expect_ok(map_rw(&s, va, 64 * PAGE, 0));
	expect_pas(&s, 0, va, 64 * PAGE);
}

TEST(memfd_never_touched)
{
	char *va = memfd(64 * PAGE, 0);
	struct setup s;

	setup_attached(&s);
	expect_ok(map_rw(&s, va, 32 * PAGE, 0));
	expect_ok(map_read(&s, va + 32 * PAGE, 32 * PAGE, 32 * PAGE));
	memset(va, 1, 64 * PAGE);
	expect_pas(&s, 0, va, 64 * PAGE);
}

TEST(memfd_huge)
{
	struct setup s;
	char *va;

	huge_pages(1);
	va = memfd(HUGE_PAGE, MFD_HUGETLB);
	setup_attached(&s);
	expect_ok(map_rw(&s, va, HUGE_PAGE, PAGE));
	memset(va, 1, HUGE_PAGE);
	expect_pas(&s, PAGE, va, HUGE_PAGE);
	expect_eq(contiguous(&s, PAGE, U64_MAX), HUGE_PAGE);
}

static const char *machine(void)
{
	static struct utsname name;

	expect_ok(uname(&name));
	return name.machine;
}

/* An arm64 ignores the top byte of an address, where heaps keep a tag. */
TEST(tagged_pointer)
{
	static const unsigned long tags[] = { 0, 0x5aUL << 56, 0xffUL << 56 };
	unsigned int i, write;
	struct setup s;

	if (strcmp(machine(), "aarch64"))
		test_skip("addresses have no tags on this machine");
	setup_attached(&s);
	for (i = 0; i < ARRAY_SIZE(tags); i++) {
		for (write = 0; write < 2; write++) {
			char *va = mem_flags(PAGE, PROT_READ | PROT_WRITE,
					     MAP_PRIVATE | MAP_ANONYMOUS);
			__u64 iova = GIB, pa;

			expect_ok(ioas_map_flags(s.iommu, s.ioas,
						 IOMMU_IOAS_MAP_FIXED_IOVA |
						 (write ? MAP_RW : MAP_READ),
						 (void *)((uintptr_t)va | tags[i]),
						 PAGE, &iova));
			pa = pa_of(s.iommu, s.ioas, iova);
			*va = 1;
			expect_eq(pa, pagemap_pa(va));
			expect_ok(ioas_unmap(s.iommu, s.ioas, iova, PAGE, NULL));
		}
	}
}

TEST(read_only_memory)
{
	char *va = mem(16 * PAGE);
	struct setup s;

	mem_fill(va, 16 * PAGE, 1);
	expect_ok(mprotect(va, 16 * PAGE, PROT_READ));
	setup_attached(&s);
	expect_ok(map_read(&s, va, 16 * PAGE, 0));
	expect_pas(&s, 0, va, 16 * PAGE);
}

TEST(write_only_map)
{
	__u64 iova = 0;
	char *va = mem(16 * PAGE);
	struct setup s;

	setup_attached(&s);
	expect_ok(ioas_map_flags(s.iommu, s.ioas,
				 IOMMU_IOAS_MAP_FIXED_IOVA | MAP_WRITE, va,
				 16 * PAGE, &iova));
	expect_pas(&s, 0, va, 16 * PAGE);
}

/* Memory that is still the zero page when it is mapped */
TEST(zero_page)
{
	char *va = mem_flags(16 * PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS);
	struct setup s;
	int i, sum = 0;

	madvise(va, 16 * PAGE, MADV_NOHUGEPAGE);
	for (i = 0; i < 16; i++)
		sum += __atomic_load_n(va + i * PAGE, __ATOMIC_RELAXED);
	expect_eq(sum, 0);
	setup_attached(&s);
	expect_ok(map_read(&s, va, 16 * PAGE, 0));
	expect_pas(&s, 0, va, 16 * PAGE);
	/* The CPU writes, and the device must see it. */
	mem_fill(va, 16 * PAGE, 1);
	expect_pas(&s, 0, va, 16 * PAGE);
}

TEST(readable_only_never_touched)
{
	char *va = mem_flags(16 * PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS);
	struct setup s;

	madvise(va, 16 * PAGE, MADV_NOHUGEPAGE);
	setup_attached(&s);
	expect_ok(map_read(&s, va, 16 * PAGE, 0));
	mem_fill(va, 16 * PAGE, 1);
	expect_pas(&s, 0, va, 16 * PAGE);
}

/* Shared with a child, READABLE only: the parent's next write is seen. */
static void sleep_for_ever(void *arg)
{
	(void)arg;
	for (;;)
		pause();
}

TEST(readable_only_shared_by_fork)
{
	char *va = mem(16 * PAGE);
	struct setup s;

	mem_fill(va, 16 * PAGE, 1);
	spawn(sleep_for_ever, NULL);
	setup_attached(&s);
	expect_ok(map_read(&s, va, 16 * PAGE, 0));
	mem_fill(va, 16 * PAGE, 2);
	expect_pas(&s, 0, va, 16 * PAGE);
}

/* What the program does to its mapping afterwards */

#define KEEP	16

static void remember(const char *va, __u64 pa[KEEP])
{
	int i;

	for (i = 0; i < KEEP; i++)
		pa[i] = pagemap_pa(va + i * PAGE);
}

static void expect_kept(const struct setup *s, __u64 iova,
			const __u64 pa[KEEP])
{
	int i;

	for (i = 0; i < KEEP; i++)
		expect_eq(pa_of(s->iommu, s->ioas, iova + i * PAGE), pa[i]);
}

TEST(after_munmap)
{
	char *va = mem(KEEP * PAGE), *other;
	__u64 pa[KEEP];
	struct setup s;
	int i, k;

	setup_attached(&s);
	remember(va, pa);
	expect_ok(map_rw(&s, va, KEEP * PAGE, 0));
	expect_ok(munmap(va, KEEP * PAGE));
	expect_kept(&s, 0, pa);
	/* No other process gets those pages. */
	other = mem(4096 * PAGE);
	for (i = 0; i < 4096; i++) {
		__u64 theirs = pagemap_pa(other + i * PAGE);

		for (k = 0; k < KEEP; k++)
			expect(theirs != pa[k]);
	}
	expect_kept(&s, 0, pa);
}

TEST(after_dontneed)
{
	char *va = mem(KEEP * PAGE);
	__u64 pa[KEEP];
	struct setup s;

	setup_attached(&s);
	remember(va, pa);
	expect_ok(map_rw(&s, va, KEEP * PAGE, 0));
	expect_ok(madvise(va, KEEP * PAGE, MADV_DONTNEED));
	memset(va, 2, KEEP * PAGE);
	expect_kept(&s, 0, pa);
	expect(pagemap_pa(va) != pa[0]);
}

static void write_all(void *arg)
{
	memset(arg, 3, KEEP * PAGE);
}

TEST(after_fork_and_write)
{
	char *va = mem(KEEP * PAGE);
	__u64 pa[KEEP];
	struct setup s;
	pid_t child;

	setup_attached(&s);
	remember(va, pa);
	expect_ok(map_rw(&s, va, KEEP * PAGE, 0));
	/* The child writes to a copy, and we write to the pinned page. */
	in_child(write_all, va);
	child = spawn(sleep_for_ever, NULL);
	memset(va, 4, KEEP * PAGE);
	expect_kept(&s, 0, pa);
	expect_pas(&s, 0, va, KEEP * PAGE);
	expect_eq(va[0], 4);
	kill(child, SIGKILL);
}

TEST(after_mremap_and_mprotect)
{
	char *va = mem(KEEP * PAGE), *moved;
	__u64 pa[KEEP];
	struct setup s;

	setup_attached(&s);
	remember(va, pa);
	expect_ok(map_rw(&s, va, KEEP * PAGE, 0));
	moved = mremap(va, KEEP * PAGE, 2 * KEEP * PAGE, MREMAP_MAYMOVE);
	expect(moved != MAP_FAILED);
	expect_ok(mprotect(moved, KEEP * PAGE, PROT_NONE));
	expect_kept(&s, 0, pa);
	expect_ok(mprotect(moved, KEEP * PAGE, PROT_READ | PROT_WRITE));
	expect_pas(&s, 0, moved, KEEP * PAGE);
}

static void *small_pages_untouched(size_t size)
{
	void *va = mem_flags(size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS);

	madvise(va, size, MADV_NOHUGEPAGE);
	return va;
}

/*
 * Compaction under memory pressure: allocate most of memory, then free every other
 * page of it, so that it is worth moving the pages in between. mlock()ed memory,
 * which programs use today, may move and mostly does.
 */
TEST_LIMIT(after_compaction, 180)
{
	const size_t size = 8 * MIB, each = 32 * MIB;
	unsigned int moved = 0, round;
	char *ours, *control, *freed[24];
	__u64 *ours_pa, *control_pa;
	size_t page, n = 0, i;
	struct setup s;

	ours_pa = calloc(size / PAGE, sizeof(*ours_pa));
	control_pa = calloc(size / PAGE, sizeof(*control_pa));
	ours = small_pages_untouched(size);
	control = small_pages_untouched(size);
	freed[n] = small_pages_untouched(size);
	for (page = 0; page < size; page += PAGE) {
		ours[page] = 1;
		freed[n][page] = 1;
		control[page] = 1;
	}
	munmap(freed[n], size);
	expect_ok(mlock(control, size));
	while (n < ARRAY_SIZE(freed) &&
	       read_field("/proc/meminfo", "MemAvailable") > 256 * 1024) {
		char *kept = small_pages_untouched(each);

		freed[n] = small_pages_untouched(each);
		for (page = 0; page < each; page += PAGE) {
			kept[page] = 1;
			freed[n][page] = 1;
		}
		n++;
	}

	setup_attached(&s);
	expect_ok(map_rw(&s, ours, size, 0));
	for (page = 0; page < size; page += PAGE) {
		ours_pa[page / PAGE] = pagemap_pa(ours + page);
		control_pa[page / PAGE] = pagemap_pa(control + page);
	}
	for (i = 0; i < n; i++)
		munmap(freed[i], each);

	for (round = 0; round < 2; round++) {
		expect_ok(write_file("/proc/sys/vm/compact_memory", "1"));
		for (page = 0; page < size; page += PAGE) {
			__u64 want = ours_pa[page / PAGE];

			expect_eq(pa_of(s.iommu, s.ioas, page), want);
			expect_eq(pagemap_pa(ours + page), want);
		}
	}
	for (page = 0; page < size; page += PAGE)
		moved += pagemap_pa(control + page) != control_pa[page / PAGE];
	printf("# pa.after_compaction: %u of %llu control pages moved, ours none\n",
	       moved, size / PAGE);
	fflush(stdout);
}

/* Lengths */

TEST(length_is_capped)
{
	char *va = transparent_huge_page();
	static const __u64 limits[] = {
		1, 2, 4095, 4096, 4097, 8192, 12345, MIB, HUGE_PAGE - 1,
	};
	struct setup s;
	unsigned int i;

	setup_attached(&s);
	expect_ok(map_rw(&s, va, HUGE_PAGE, 0));
	for (i = 0; i < ARRAY_SIZE(limits); i++)
		expect_eq(contiguous(&s, 0, limits[i]), limits[i]);
	expect_eq(contiguous(&s, 0, HUGE_PAGE), HUGE_PAGE);
	expect_eq(contiguous(&s, 0, HUGE_PAGE + 1), HUGE_PAGE);
	expect_eq(contiguous(&s, 0, 1ULL << 63), HUGE_PAGE);
	expect_eq(contiguous(&s, 0, U64_MAX - 1), HUGE_PAGE);
	expect_eq(contiguous(&s, 0, U64_MAX), HUGE_PAGE);
}

/* Each run is exactly as long as pagemap says. */
TEST(length_is_the_run)
{
	const size_t n = 512;
	char *va = mem_flags(2 * n * PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS);
	char *between = va + n * PAGE;
	size_t i, end, runs = 0;
	struct setup s;

	/* Pages are allocated when touched, and every fourth is not for va. */
	madvise(va, 2 * n * PAGE, MADV_NOHUGEPAGE);
	for (i = 0; i < n; i++) {
		va[i * PAGE] = 1;
		if (i % 3 == 2)
			between[i * PAGE] = 1;
	}

	setup_attached(&s);
	expect_ok(map_rw(&s, va, n * PAGE, 16 * PAGE));
	for (i = 0; i < n; i++) {
		__u64 iova = (16 + i) * PAGE, pa = pagemap_pa(va + i * PAGE);

		for (end = i + 1; end < n; end++)
			if (pagemap_pa(va + end * PAGE) != pa + (end - i) * PAGE)
				break;
		expect_eq(contiguous(&s, iova, U64_MAX), (end - i) * PAGE);
		expect_eq(contiguous(&s, iova + 1, U64_MAX),
			  (end - i) * PAGE - 1);
		runs += i == 0 || end - i == 1 ||
			pagemap_pa(va + (i - 1) * PAGE) + PAGE != pa;
	}
	/* Otherwise this tests nothing. */
	expect(runs > 2);
}

TEST(length_ends_with_the_area)
{
	char *va = transparent_huge_page();
	struct setup s;

	setup_attached(&s);
	/* Adjacent in IOVA and in memory, but two areas */
	expect_ok(map_rw(&s, va, 4 * PAGE, 8 * PAGE));
	expect_ok(map_rw(&s, va + 4 * PAGE, 4 * PAGE, 12 * PAGE));
	expect_eq(pa_of(s.iommu, s.ioas, 12 * PAGE),
		  pa_of(s.iommu, s.ioas, 8 * PAGE) + 4 * PAGE);
	expect_eq(contiguous(&s, 8 * PAGE, U64_MAX), 4 * PAGE);
	expect_eq(contiguous(&s, 11 * PAGE, U64_MAX), PAGE);
	expect_eq(contiguous(&s, 12 * PAGE, U64_MAX), 4 * PAGE);
}

TEST(length_of_a_copy)
{
	char *va = transparent_huge_page();
	__u64 iova = MIB;
	struct setup s;

	setup_attached(&s);
	expect_ok(map_rw(&s, va, HUGE_PAGE, 4 * MIB));
	expect_ok(ioas_copy(s.iommu, s.ioas, s.ioas, MAP_FIXED_RW, 8 * PAGE,
			    &iova, 4 * MIB + 16 * PAGE));
	expect_pas(&s, MIB, va + 16 * PAGE, 8 * PAGE);
	expect_eq(contiguous(&s, MIB, U64_MAX), 8 * PAGE);
	expect_eq(contiguous(&s, MIB + 7 * PAGE, U64_MAX), PAGE);
}

/* Pieces of an area that nothing has pinned, in no order, some of them twice */
TEST(pieces_pinned_one_by_one)
{
	const __u64 n = 1024;
	char *va = mem(n * PAGE);
	long long before = pins();
	__u64 i, page, iova;
	struct setup s;
	__u32 source;
	int round;

	setup_attached(&s);
	source = new_ioas(s.iommu);
	expect_ok(ioas_map(s.iommu, source, va, n * PAGE, 0));
	for (round = 0; round < 2; round++) {
		for (i = 0; i < n; i++) {
			page = i * 617 % n;
			if (round && page % 3)
				continue;
			iova = page * PAGE;
			expect_ok(ioas_copy(s.iommu, s.ioas, source,
					    MAP_FIXED_RW, PAGE, &iova, iova));
		}
		expect_pas(&s, 0, va, n * PAGE);
		expect_pins(before + n);
		for (page = 0; page < n; page += 3)
			expect_ok(ioas_unmap(s.iommu, s.ioas, page * PAGE, PAGE,
					     NULL));
	}
	expect_pas(&s, PAGE, va + PAGE, 2 * PAGE);
	expect_ok(ioas_unmap(s.iommu, s.ioas, 0, U64_MAX, NULL));
	expect_pins(before);
}

TEST(offset_in_a_page)
{
	char *va = mem(2 * PAGE);
	struct setup s;
	__u64 pa;

	setup_attached(&s);
	expect_ok(map_rw(&s, va, 2 * PAGE, 8 * PAGE));
	pa = pagemap_pa(va);
	expect_eq(pa_of(s.iommu, s.ioas, 8 * PAGE + 1), pa + 1);
	expect_eq(pa_of(s.iommu, s.ioas, 8 * PAGE + 0x123), pa + 0x123);
	expect_eq(pa_of(s.iommu, s.ioas, 8 * PAGE + 4095), pa + 4095);
	expect_eq(contiguous(&s, 8 * PAGE + 4095, 1), 1);
	expect_eq(contiguous(&s, 8 * PAGE + 0x123, 16), 16);
	pa = pagemap_pa(va + PAGE);
	expect_eq(pa_of(s.iommu, s.ioas, 9 * PAGE + 8), pa + 8);
}

TEST(last_byte)
{
	char *va = mem(2 * PAGE);
	__u64 length = PAGE, pa;
	struct setup s;

	setup_attached(&s);
	expect_ok(map_rw(&s, va, 2 * PAGE, 8 * PAGE));
	expect_eq(contiguous(&s, 10 * PAGE - 1, U64_MAX), 1);
	expect_eq(contiguous(&s, 10 * PAGE - 16, U64_MAX), 16);
	expect_errno(get_pa(s.iommu, s.ioas, 10 * PAGE, &length, &pa), ENOENT);
	expect_errno(get_pa(s.iommu, s.ioas, 8 * PAGE - 1, &length, &pa),
		     ENOENT);
	/* The last byte whose IOVA is a valid argument */
	expect_ok(map_rw(&s, va, PAGE, -PAGE));
	expect_eq(contiguous(&s, U64_MAX - 1, U64_MAX), 2);
	expect_eq(contiguous(&s, -PAGE, U64_MAX), PAGE);
}

/* If it succeeds */

TEST(needs_a_device)
{
	char *va = mem(2 * PAGE);
	__u64 length = PAGE, pa;
	struct setup s;
	__u32 ioas;

	setup_bound(&s);
	expect_ok(map_rw(&s, va, PAGE, PAGE));
	expect_errno(get_pa(s.iommu, s.ioas, PAGE, &length, &pa), EOPNOTSUPP);
	expect_errno(get_pa(s.iommu, s.ioas, 0, &length, &pa), ENOENT);
	attach(s.dev, s.ioas);
	expect_pas(&s, PAGE, va, PAGE);
	expect_ok(dev_detach(s.dev));
	expect_errno(get_pa(s.iommu, s.ioas, PAGE, &length, &pa), EOPNOTSUPP);
	expect_errno(get_pa(s.iommu, s.ioas, 0, &length, &pa), ENOENT);
	attach(s.dev, s.ioas);
	expect_pas(&s, PAGE, va, PAGE);
	/* The attachment is replaced */
	ioas = new_ioas(s.iommu);
	attach(s.dev, ioas);
	expect_errno(get_pa(s.iommu, s.ioas, PAGE, &length, &pa), EOPNOTSUPP);
	attach(s.dev, s.ioas);
	expect_pas(&s, PAGE, va, PAGE);
	close(s.dev);
	expect_errno(get_pa(s.iommu, s.ioas, PAGE, &length, &pa), EOPNOTSUPP);
}

TEST(with_an_hwpt_only)
{
	char *va = mem(2 * PAGE);
	__u64 length = PAGE, pa;
	struct setup s;

	setup_bound(&s);
	expect_ok(map_rw(&s, va, PAGE, PAGE));
	expect_ok(hwpt_alloc(s.iommu, s.devid, s.ioas, &s.hwpt));
	expect_pas(&s, PAGE, va, PAGE);
	expect_ok(map_rw(&s, va + PAGE, PAGE, 2 * PAGE));
	expect_pas(&s, 2 * PAGE, va + PAGE, PAGE);
	expect_ok(object_destroy(s.iommu, s.hwpt));
	expect_errno(get_pa(s.iommu, s.ioas, PAGE, &length, &pa), EOPNOTSUPP);
}

TEST(fails_without_a_trace)
{
	struct iommu_ioas_noiommu_get_pa get = {
		.size = sizeof(get), .iova = PAGE, .length = 4711,
		.out_phys = 4712,
	};
	struct setup s;

	setup_attached(&s);
	get.ioas_id = s.ioas;
	expect_errno(ioctl(s.iommu, IOMMU_IOAS_NOIOMMU_GET_PA, &get), ENOENT);
	expect_eq(get.length, 4711);
	expect_eq(get.out_phys, 4712);
}

/* As the module is loaded if nobody says otherwise */
TEST(no_grant)
{
	struct noiommufd_get_info info = { .size = sizeof(info) };
	struct noiommufd_grant grant = { .size = sizeof(grant) };
	unsigned long long log;
	struct setup s;
	int error = on_mainline() ? ENOTTY : EOPNOTSUPP;

	setup_attached(&s);
	if (!on_mainline()) {
		expect_ok(ioctl(s.iommu, NOIOMMUFD_GET_INFO, &info));
		expect(!(info.extensions & NOIOMMUFD_EXT_GRANT));
	}
	log = kmsg_mark();
	expect_errno(ioctl(s.iommu, NOIOMMUFD_GRANT, &grant), error);
	expect_errno(ioctl(s.iommu, NOIOMMUFD_REVOKE, &grant), error);
	if (!on_mainline())
		expect(kmsg_count(log, KERN_NOTICE, "options noiommufd allow_grant=1", NULL) > 0);
	/* A line in the log is not for everybody. */
	drop_cap(CAP_SYS_RAWIO);
	log = kmsg_mark();
	if (!on_mainline())
		error = EPERM;
	expect_errno(ioctl(s.iommu, NOIOMMUFD_GRANT, &grant), error);
	expect_errno(ioctl(s.iommu, NOIOMMUFD_REVOKE, &grant), error);
	expect_eq(kmsg_count(log, KERN_NOTICE, "allow_grant", NULL), 0);
}

TEST(cannot_answer)
{
	struct iommu_ioas_noiommu_get_pa *get = mem(PAGE);
	struct setup s;

	setup_attached(&s);
	expect_ok(map_rw(&s, mem(PAGE), PAGE, PAGE));
	get->size = sizeof(*get);
	get->ioas_id = s.ioas;
	get->iova = PAGE;
	get->length = PAGE;
	expect_ok(mprotect(get, PAGE, PROT_READ));
	expect_errno(ioctl(s.iommu, IOMMU_IOAS_NOIOMMU_GET_PA, get), EFAULT);
}
