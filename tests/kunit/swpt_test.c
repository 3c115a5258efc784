// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit suites of the software page table. They compile it in, with allocation
 * under their control: each one can be made to fail, and all must be given back.
 *
 * "Physical memory" is a function of a pages object and an index; what is pinned
 * is counted. Nothing here takes a lock: each test is alone with its tables.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/interval_tree_generic.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "alloc.h"

/*
 * Write accesses without the lock of the pages' owner, which lockdep would see.
 */
static long test_unlocked;
#undef rcu_dereference_protected
#define rcu_dereference_protected(p, c)	\
	(test_unlocked += !(c), rcu_dereference_raw(p))
#undef lockdep_is_held
#define lockdep_is_held(lock)		mutex_is_locked(lock)

#include "../../src/iommufd/swpt.c"

/* Bytes that were ever allocated, which shows how much is copied. */
static unsigned long test_bytes;

atomic_long_t noiommufd_test_allocated;
long noiommufd_test_fail_after = -1;

bool noiommufd_test_alloc_fails(void)
{
	return noiommufd_test_fail_after >= 0 && !noiommufd_test_fail_after--;
}

/* From here on, the real functions. */
#undef kfree
#undef kvfree

void *noiommufd_test_alloc(size_t size, gfp_t gfp)
{
	void *mem;

	if (noiommufd_test_alloc_fails())
		return NULL;
	mem = kvmalloc_node(size, gfp, NUMA_NO_NODE);
	test_bytes += size;
	if (mem)
		atomic_long_inc(&noiommufd_test_allocated);
	return mem;
}

void noiommufd_test_free(const void *mem)
{
	if (mem)
		atomic_long_dec(&noiommufd_test_allocated);
	kvfree(mem);
}

/*
 * Memory of several shapes.
 */

/* Runs of a mixed memory, by index modulo their sum. */
static const u16 test_mixed_runs[] = { 1, 1, 2, 512, 1, 7, 9, 1, 1, 8, 64, 3 };

enum test_shape {
	TEST_SCATTERED,		/* each page on its own */
	TEST_HUGE,		/* blocks of 512 pages, one pin each */
	TEST_HUGE_CONTIG,	/* the same, and all blocks in a row */
	TEST_MIXED,		/* runs of all lengths */
	TEST_ONE,		/* one run */
};

struct test_pages {
	struct swpt_pages swpt;
	enum test_shape shape;
	u64 base;		/* keeps its PFNs apart from others' */
	u64 skew;		/* index at which its first block starts */
	long pinned;		/* pins held */
	u64 sum;		/* of their PFNs, or block numbers */
	long pins;		/* pins ever taken */
};

#define TEST_BLOCK_ORDER	9
#define TEST_BLOCK		BIT_ULL(TEST_BLOCK_ORDER)

/* Returns the run word at an index, and the length of the run in @npages. */
static u64 test_word(const struct test_pages *pages, u64 index, u64 *npages)
{
	u64 base = pages->base, at, run, i;

	switch (pages->shape) {
	case TEST_SCATTERED:
		*npages = 1;
		return base + index * 2;
	case TEST_HUGE:
		at = index + pages->skew;
		*npages = TEST_BLOCK - at % TEST_BLOCK;
		return swpt_word(base + at / TEST_BLOCK * 2 * TEST_BLOCK +
				 at % TEST_BLOCK, TEST_BLOCK_ORDER);
	case TEST_HUGE_CONTIG:
		at = index + pages->skew;
		*npages = TEST_BLOCK - at % TEST_BLOCK;
		return swpt_word(base + at, TEST_BLOCK_ORDER);
	case TEST_MIXED:
		for (run = 0, i = 0; i < ARRAY_SIZE(test_mixed_runs); i++)
			run += test_mixed_runs[i];
		at = index % run;
		base += index / run * 2 * run;
		for (i = 0; at >= test_mixed_runs[i]; i++) {
			at -= test_mixed_runs[i];
			base += test_mixed_runs[i] + 1;
		}
		*npages = test_mixed_runs[i] - at;
		return base + at;
	default:
		*npages = U64_MAX - index;
		return base + index;
	}
}

static u64 test_pfn(const struct test_pages *pages, u64 index)
{
	u64 npages;

	return swpt_word_pfn(test_word(pages, index, &npages));
}

/* Count pins that are taken or released. */
static void test_pin(struct test_pages *pages, u64 word, u64 npages, bool pin)
{
	unsigned int order = swpt_word_order(word);
	u64 first = swpt_word_pfn(word) >> order;
	u64 nr = ((swpt_word_pfn(word) + npages - 1) >> order) - first + 1;
	u64 sum = nr % 2 ? nr * (first + (nr - 1) / 2) :
			   nr / 2 * (2 * first + nr - 1);

	pages->pinned += pin ? nr : -nr;
	pages->sum += pin ? sum : -sum;
	if (pin)
		pages->pins += nr;
}

static void test_release(void *arg, const u64 *words, unsigned int nr,
			 u64 npages)
{
	while (nr--)
		test_pin(arg, *words++, npages, false);
}

static void test_no_release(void *arg, const u64 *words, unsigned int nr,
			    u64 npages)
{
}

/* All pins were released, and no others. */
static void test_expect_unpinned(struct kunit *test,
				 const struct test_pages *pages)
{
	KUNIT_EXPECT_EQ(test, 0L, pages->pinned);
	KUNIT_EXPECT_EQ(test, 0ULL, pages->sum);
}

static void test_pages_init(struct test_pages *pages, enum test_shape shape,
			    u64 base)
{
	*pages = (struct test_pages){ .shape = shape, .base = base };
	swpt_pages_init(&pages->swpt, NULL);
}

/* Do what noiommu_area_fill() does, with test_word() for memory. */
static int test_hold(struct test_pages *pages, struct swpt_area *area)
{
	u64 first = area->first_index, last = area->last_index, hole_last;
	struct swpt_builder builder;
	bool filled = false;
	int rc = 0;

	swpt_builder_init(&builder);
	while (swpt_pages_next_hole(&pages->swpt, &first, last, &hole_last)) {
		swpt_builder_seek(&builder, first);
		filled = true;
		while (first <= hole_last) {
			u64 n, word = test_word(pages, first, &n);

			n = min(n, hole_last - first + 1);
			rc = swpt_builder_add(&builder, word, n);
			if (rc)
				goto abort;
			test_pin(pages, word, n, true);
			first += n;
		}
		if (hole_last == last)
			break;
	}
	if (filled)
		rc = swpt_builder_commit(&builder, &pages->swpt);
	if (rc)
		goto abort;
	swpt_pages_add_area(&pages->swpt, area);
	WRITE_ONCE(area->pinned, true);
	return 0;
abort:
	swpt_builder_abort(&builder, test_release, pages);
	return rc;
}

static void test_drop(struct test_pages *pages, struct swpt_area *area)
{
	WRITE_ONCE(area->pinned, false);
	swpt_pages_remove_area(&pages->swpt, area, test_release, pages);
}

/* Map length bytes of pages, from start_byte on, at iova. */
static int test_map(struct swpt *swpt, struct swpt_area *area,
		    struct test_pages *pages, u64 start_byte, u64 iova,
		    u64 length)
{
	int rc;

	*area = (struct swpt_area){
		.iova = iova,
		.last = iova + length - 1,
		.pages = &pages->swpt,
		.start_byte = start_byte,
		.first_index = start_byte >> swpt->page_shift,
		.last_index = (start_byte + length - 1) >> swpt->page_shift,
	};
	rc = swpt_insert(swpt, area);
	if (rc)
		return rc;
	rc = test_hold(pages, area);
	if (rc)
		swpt_remove(swpt, area);
	return rc;
}

static void test_unmap(struct swpt *swpt, struct swpt_area *area,
		       struct test_pages *pages)
{
	swpt_remove(swpt, area);
	test_drop(pages, area);
}

static int test_lookup(struct swpt *swpt, u64 iova, u64 *phys, u64 *length)
{
	int rc;

	rcu_read_lock();
	rc = swpt_lookup(swpt, iova, phys, length);
	rcu_read_unlock();
	return rc;
}

/* Contiguous bytes from @pos on, counted page by page; at most @max. */
static u64 test_contig(const struct test_pages *pages, unsigned int shift,
		       u64 pos, u64 max)
{
	u64 index = pos >> shift, in_page = pos & ((1ULL << shift) - 1);
	u64 pfn = test_pfn(pages, index), n = 1, step;

	if (pages->shape == TEST_ONE || pages->shape == TEST_HUGE_CONTIG)
		return max;
	while ((n << shift) - in_page < max) {
		if (test_pfn(pages, index + n) != pfn + n)
			break;
		test_word(pages, index + n, &step);
		n += step;
	}
	return min((n << shift) - in_page, max);
}

#define EXPECT_LOOKUP(test, swpt, iova, limit, want_phys, want_length)    \
	do {                                                              \
		u64 __phys = 0, __length = (limit);                       \
		struct kunit *__test = (test);                            \
									  \
		KUNIT_EXPECT_EQ(__test, 0,                                \
				test_lookup(swpt, iova, &__phys, &__length)); \
		KUNIT_EXPECT_EQ(__test, (u64)(want_phys), __phys);        \
		KUNIT_EXPECT_EQ(__test, (u64)(want_length), __length);    \
	} while (0)

#define EXPECT_NO_LOOKUP(test, swpt, iova, rc)                            \
	do {                                                              \
		u64 __phys, __length = 1;                                 \
									  \
		KUNIT_EXPECT_EQ(test, rc, test_lookup(swpt, iova, &__phys, \
						      &__length));        \
	} while (0)

/* Wait for everything that is freed after a grace period. */
static void test_settle(void)
{
	rcu_barrier();
	flush_workqueue(swpt_free_wq);
}

static int test_init(struct kunit *test)
{
	return swpt_module_init();
}

static void test_exit(struct kunit *test)
{
	swpt_module_exit();
	KUNIT_EXPECT_EQ(test, 0UL, swpt_table_bytes());
	test_expect_none_allocated(test);
}

/*
 * Lookup.
 */

static const unsigned int test_shifts[] = { 12, 14, 16 };

static void test_shift_desc(const unsigned int *shift, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "page shift %u", *shift);
}

KUNIT_ARRAY_PARAM(test_shift, test_shifts, test_shift_desc);

static void swpt_test_single_page(struct kunit *test)
{
	unsigned int shift = *(const unsigned int *)test->param_value;
	u64 size = 1ULL << shift, pfn = 0x8badf00d;
	struct test_pages pages;
	struct swpt_area area;
	struct swpt swpt;

	swpt_init(&swpt, shift);
	test_pages_init(&pages, TEST_ONE, pfn);
	KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &area, &pages, 0, 4 * size,
					  size));
	KUNIT_EXPECT_EQ(test, 1L, pages.pinned);
	EXPECT_LOOKUP(test, &swpt, 4 * size, U64_MAX, pfn << shift, size);
	EXPECT_LOOKUP(test, &swpt, 4 * size, 1, pfn << shift, 1);
	EXPECT_LOOKUP(test, &swpt, 4 * size + 17, U64_MAX, (pfn << shift) + 17,
		      size - 17);
	EXPECT_LOOKUP(test, &swpt, 4 * size + 17, 5, (pfn << shift) + 17, 5);
	EXPECT_LOOKUP(test, &swpt, 5 * size - 1, 9, (pfn << shift) + size - 1,
		      1);
	EXPECT_NO_LOOKUP(test, &swpt, 4 * size - 1, -ENOENT);
	EXPECT_NO_LOOKUP(test, &swpt, 5 * size, -ENOENT);
	test_unmap(&swpt, &area, &pages);
	EXPECT_NO_LOOKUP(test, &swpt, 4 * size, -ENOENT);
	test_expect_unpinned(test, &pages);
}

/* Both ends of the IOVA space, and the highest possible physical page. */
static void swpt_test_ends(struct kunit *test)
{
	unsigned int shift = *(const unsigned int *)test->param_value;
	u64 size = 1ULL << shift, top = -size;
	u64 pfn = (1ULL << (52 - shift)) - 1;
	struct test_pages low, high;
	struct swpt_area first, last;
	struct swpt swpt;

	swpt_init(&swpt, shift);
	test_pages_init(&low, TEST_ONE, 0);
	test_pages_init(&high, TEST_ONE, pfn);
	KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &first, &low, 0, 0, size));
	KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &last, &high, 0, top, size));
	EXPECT_LOOKUP(test, &swpt, 0, U64_MAX, 0, size);
	EXPECT_LOOKUP(test, &swpt, size - 1, U64_MAX, size - 1, 1);
	EXPECT_LOOKUP(test, &swpt, top, U64_MAX, pfn << shift, size);
	EXPECT_LOOKUP(test, &swpt, U64_MAX, U64_MAX, (1ULL << 52) - 1, 1);
	EXPECT_NO_LOOKUP(test, &swpt, size, -ENOENT);
	EXPECT_NO_LOOKUP(test, &swpt, top - 1, -ENOENT);
	KUNIT_EXPECT_PTR_EQ(test, swpt_first(&swpt, 0, U64_MAX), &first);
	KUNIT_EXPECT_PTR_EQ(test, swpt_first(&swpt, 1, U64_MAX), &first);
	KUNIT_EXPECT_PTR_EQ(test, swpt_first(&swpt, size, U64_MAX), &last);
	KUNIT_EXPECT_TRUE(test, !swpt_first(&swpt, size, top - 1));
	KUNIT_EXPECT_PTR_EQ(test, swpt_next(&first), &last);
	KUNIT_EXPECT_TRUE(test, !swpt_next(&last));
	test_unmap(&swpt, &first, &low);
	test_unmap(&swpt, &last, &high);
}

static const enum test_shape test_shapes[] = {
	TEST_SCATTERED, TEST_HUGE, TEST_HUGE_CONTIG, TEST_MIXED, TEST_ONE,
};

static void test_shape_desc(const enum test_shape *shape, char *desc)
{
	static const char *const names[] = {
		[TEST_SCATTERED] = "scattered",
		[TEST_HUGE] = "huge",
		[TEST_HUGE_CONTIG] = "huge in a row",
		[TEST_MIXED] = "mixed",
		[TEST_ONE] = "one run",
	};

	strscpy(desc, names[*shape], KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(test_shape, test_shapes, test_shape_desc);

/* Every page of a mapping that starts and ends within a block or run. */
static void swpt_test_every_page(struct kunit *test)
{
	const u64 npages = 5000, at = 1 << 20, skip = 77;
	struct test_pages pages;
	struct swpt_area area;
	struct swpt swpt;
	u64 i;

	swpt_init(&swpt, 12);
	test_pages_init(&pages, *(const enum test_shape *)test->param_value,
			1 << 18);
	pages.skew = 100;
	KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &area, &pages, skip << 12, at,
					  npages << 12));
	for (i = 0; i < npages; i++) {
		u64 pos = (skip + i) << 12;

		EXPECT_LOOKUP(test, &swpt, at + (i << 12) + 5, U64_MAX,
			      (test_pfn(&pages, skip + i) << 12) + 5,
			      test_contig(&pages, 12, pos + 5,
					  ((npages - i) << 12) - 5));
	}
	test_unmap(&swpt, &area, &pages);
	test_expect_unpinned(test, &pages);
}

/* A lookup stops at the end of an area, even if the next one continues it. */
static void swpt_test_areas_end_runs(struct kunit *test)
{
	struct test_pages pages[2];
	struct swpt_area area[2], other;
	struct swpt swpt;

	swpt_init(&swpt, 12);
	test_pages_init(&pages[0], TEST_ONE, 100);
	test_pages_init(&pages[1], TEST_ONE, 104);
	KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &area[0], &pages[0], 0,
					  0x10000, 0x4000));
	KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &area[1], &pages[1], 0,
					  0x14000, 0x4000));
	EXPECT_LOOKUP(test, &swpt, 0x10000, U64_MAX, 100 << 12, 0x4000);
	EXPECT_LOOKUP(test, &swpt, 0x13fff, U64_MAX, (104 << 12) - 1, 1);
	EXPECT_LOOKUP(test, &swpt, 0x14000, U64_MAX, 104 << 12, 0x4000);

	KUNIT_EXPECT_EQ(test, -EEXIST, test_map(&swpt, &other, &pages[0], 0,
						0x13000, 0x1000));
	KUNIT_EXPECT_EQ(test, -EEXIST, test_map(&swpt, &other, &pages[0], 0,
						0xf000, 0x1001));
	KUNIT_EXPECT_EQ(test, -EEXIST, test_map(&swpt, &other, &pages[0], 0,
						0x17fff, 0x1000));
	KUNIT_EXPECT_EQ(test, -EEXIST, test_map(&swpt, &other, &pages[0], 0,
						0, 0x100000));
	KUNIT_EXPECT_EQ(test, 8L, pages[0].pinned + pages[1].pinned);
	test_unmap(&swpt, &area[0], &pages[0]);
	EXPECT_NO_LOOKUP(test, &swpt, 0x13fff, -ENOENT);
	test_unmap(&swpt, &area[1], &pages[1]);
}

/* Lookups of reserved and of unpinned IOVAs have different errors. */
static void swpt_test_not_held(struct kunit *test)
{
	struct test_pages pages;
	struct swpt_area area = { .iova = 0x1000, .last = 0x1fff };
	struct swpt swpt;

	swpt_init(&swpt, 12);
	test_pages_init(&pages, TEST_ONE, 7);
	KUNIT_ASSERT_EQ(test, 0, swpt_insert(&swpt, &area));
	EXPECT_NO_LOOKUP(test, &swpt, 0x1000, -ENOENT);
	area.pages = &pages.swpt;
	EXPECT_NO_LOOKUP(test, &swpt, 0x1000, -EOPNOTSUPP);
	KUNIT_ASSERT_EQ(test, 0, test_hold(&pages, &area));
	EXPECT_LOOKUP(test, &swpt, 0x1000, 99, 7 << 12, 99);
	test_drop(&pages, &area);
	EXPECT_NO_LOOKUP(test, &swpt, 0x1000, -EOPNOTSUPP);
	swpt_remove(&swpt, &area);
}

static void swpt_test_seq(struct kunit *test)
{
	struct test_pages pages;
	struct swpt_area area;
	struct swpt swpt;
	unsigned int seq;

	swpt_init(&swpt, 12);
	test_pages_init(&pages, TEST_ONE, 7);
	seq = swpt_read_begin(&swpt);
	KUNIT_EXPECT_EQ(test, 0U, seq & 1);
	KUNIT_EXPECT_FALSE(test, swpt_read_retry(&swpt, seq));
	KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &area, &pages, 0, 0, 4096));
	KUNIT_EXPECT_TRUE(test, swpt_read_retry(&swpt, seq));
	seq = swpt_read_begin(&swpt);
	test_unmap(&swpt, &area, &pages);
	KUNIT_EXPECT_TRUE(test, swpt_read_retry(&swpt, seq));
	swpt_write_begin(&swpt);
	KUNIT_EXPECT_EQ(test, 1U, swpt_read_begin(&swpt) & 1);
	swpt_write_end(&swpt);
}

/*
 * All runs of two adjacent mappings, looked up with every size of answer: the
 * runs match the pages one by one, and no run continues the one before.
 */
static void swpt_test_runs(struct kunit *test)
{
	const u64 n = 3000, at = 1 << 20, skip = 77, end = at + (2 * n << 12);
	struct swpt_phys_run run[33];
	struct test_pages pages;
	struct swpt_area area[2];
	struct swpt swpt;
	unsigned int room, i;

	swpt_init(&swpt, 12);
	test_pages_init(&pages, *(const enum test_shape *)test->param_value,
			1 << 18);
	pages.skew = 100;
	KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &area[0], &pages, skip << 12,
					  at, n << 12));
	KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &area[1], &pages,
					  (skip + n) << 12, at + (n << 12),
					  n << 12));
	for (room = 1; room <= ARRAY_SIZE(run); room++) {
		/* Start and end within a page. */
		u64 iova = at + 5, last = end - 7;

		while (iova <= last) {
			struct swpt_runs runs = {
				.run = run, .room = room, .iova = iova,
			};
			u64 pos = iova;

			rcu_read_lock();
			KUNIT_ASSERT_EQ(test, 0,
					swpt_lookup_runs(&swpt, last, &runs));
			rcu_read_unlock();
			KUNIT_ASSERT_GT(test, runs.nr, 0U);
			KUNIT_ASSERT_LE(test, runs.nr, room);
			for (i = 0; i < runs.nr; i++) {
				u64 phys = run[i].phys, left = run[i].length;

				KUNIT_ASSERT_GT(test, left, 0ULL);
				if (i)
					KUNIT_ASSERT_NE(test, phys,
							run[i - 1].phys +
							run[i - 1].length);
				while (left) {
					u64 in_page = pos & 4095, step;

					step = min(4096 - in_page, left);
					KUNIT_ASSERT_EQ(test, phys,
							(test_pfn(&pages, skip +
								  ((pos - at) >> 12))
							 << 12) + in_page);
					pos += step;
					phys += step;
					left -= step;
				}
			}
			KUNIT_ASSERT_EQ(test, pos, runs.iova);
			if (runs.nr < room)
				KUNIT_ASSERT_EQ(test, runs.iova, last + 1);
			iova = runs.iova;
		}
		KUNIT_ASSERT_EQ(test, iova, last + 1);
	}
	test_unmap(&swpt, &area[0], &pages);
	test_unmap(&swpt, &area[1], &pages);
}

static void swpt_test_runs_end(struct kunit *test)
{
	struct swpt_phys_run run[4];
	struct swpt_runs runs = { .run = run, .room = 4, .iova = -0x2000ULL };
	struct test_pages pages;
	struct swpt_area area;
	struct swpt swpt;

	swpt_init(&swpt, 12);
	test_pages_init(&pages, TEST_ONE, 7);
	KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &area, &pages, 0, -0x2000ULL,
					  0x2000));
	rcu_read_lock();
	/* Up to the last IOVA. */
	KUNIT_EXPECT_EQ(test, 0, swpt_lookup_runs(&swpt, U64_MAX, &runs));
	KUNIT_EXPECT_EQ(test, 1U, runs.nr);
	KUNIT_EXPECT_EQ(test, 0x2000ULL, run[0].length);
	KUNIT_EXPECT_EQ(test, 0ULL, runs.iova);
	/* Nothing is mapped there. */
	runs.nr = 0;
	runs.iova = 0x5000;
	KUNIT_EXPECT_EQ(test, -ENOENT, swpt_lookup_runs(&swpt, 0x5fff, &runs));
	KUNIT_EXPECT_EQ(test, 0U, runs.nr);
	/* The last run is continued, even when there is no room for another. */
	runs.iova = -0x1000ULL;
	runs.nr = 1;
	runs.room = 1;
	run[0] = (struct swpt_phys_run){ .phys = 7 << 12, .length = 0x1000 };
	KUNIT_EXPECT_EQ(test, 0, swpt_lookup_runs(&swpt, U64_MAX, &runs));
	KUNIT_EXPECT_EQ(test, 1U, runs.nr);
	KUNIT_EXPECT_EQ(test, 0x2000ULL, run[0].length);
	rcu_read_unlock();
	test_drop(&pages, &area);
	runs.iova = -0x1000ULL;
	rcu_read_lock();
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			swpt_lookup_runs(&swpt, U64_MAX, &runs));
	rcu_read_unlock();
	swpt_remove(&swpt, &area);
}

/* An area in the middle of many is replaced by its parts in one change. */
static void swpt_test_split(struct kunit *test)
{
	struct swpt_area area[16], part[2];
	struct test_pages pages;
	struct swpt swpt;
	unsigned int i, seq;
	u64 cut;

	for (cut = 1; cut < 4; cut++) {
		swpt_init(&swpt, 12);
		test_pages_init(&pages, TEST_SCATTERED, 100);
		for (i = 0; i < 16; i++)
			KUNIT_ASSERT_EQ(test, 0,
					test_map(&swpt, &area[i], &pages,
						 i << 14, i << 14, 4 << 12));
		for (i = 0; i < 16; i++) {
			seq = swpt_read_begin(&swpt);
			part[0] = area[i];
			part[0].last = part[0].iova + (cut << 12) - 1;
			part[0].last_index = part[0].first_index + cut - 1;
			part[1] = area[i];
			part[1].iova = part[0].last + 1;
			part[1].start_byte += cut << 12;
			part[1].first_index += cut;
			swpt_pages_add_area(&pages.swpt, &part[0]);
			swpt_pages_add_area(&pages.swpt, &part[1]);
			swpt_split(&swpt, &area[i], &part[0], &part[1]);
			KUNIT_EXPECT_EQ(test, seq + 2, swpt_read_begin(&swpt));
			swpt_pages_remove_area(&pages.swpt, &area[i],
					       test_release, &pages);
			KUNIT_EXPECT_EQ(test, 64L - 4 * i, pages.pinned);
			KUNIT_EXPECT_PTR_EQ(test, &part[1],
					    swpt_next(&part[0]));
			KUNIT_EXPECT_PTR_EQ(test, i < 15 ? &area[i + 1] : NULL,
					    swpt_next(&part[1]));
			EXPECT_LOOKUP(test, &swpt, part[0].iova, 1,
				      (100 + 8 * i) << 12, 1);
			EXPECT_LOOKUP(test, &swpt, part[1].last, 1,
				      ((100 + 8 * i + 6) << 12) + 0xfff, 1);
			test_unmap(&swpt, &part[0], &pages);
			EXPECT_NO_LOOKUP(test, &swpt, part[0].last, -ENOENT);
			EXPECT_LOOKUP(test, &swpt, part[1].iova, 1,
				      (100 + 8 * i + 2 * cut) << 12, 1);
			test_unmap(&swpt, &part[1], &pages);
		}
		test_expect_unpinned(test, &pages);
	}
}

/* Adding an empty run changes nothing, wherever it is added. */
static void swpt_test_empty_run(struct kunit *test)
{
	struct swpt_area area = { .iova = 0x1000, .last = 0x2fff,
				  .last_index = 1 };
	struct swpt_phys_run run[4];
	struct swpt_runs runs = { .run = run, .room = 4, .iova = 0x1000 };
	struct swpt_pages pages;
	struct swpt_builder builder;
	struct swpt swpt;

	swpt_init(&swpt, 12);
	swpt_pages_init(&pages, NULL);
	swpt_builder_init(&builder);
	swpt_builder_seek(&builder, 0);
	KUNIT_EXPECT_EQ(test, 0, swpt_builder_add(&builder, 5, 0));
	KUNIT_EXPECT_EQ(test, 0, swpt_builder_add(&builder, 7, 1));
	KUNIT_EXPECT_EQ(test, 0, swpt_builder_add(&builder, 9, 0));
	KUNIT_EXPECT_EQ(test, 0, swpt_builder_add(&builder, 11, 1));
	KUNIT_EXPECT_EQ(test, 0, swpt_builder_add(&builder, 13, 0));
	KUNIT_ASSERT_EQ(test, 0, swpt_builder_commit(&builder, &pages));
	swpt_pages_add_area(&pages, &area);
	area.pages = &pages;
	area.pinned = true;
	KUNIT_ASSERT_EQ(test, 0, swpt_insert(&swpt, &area));
	rcu_read_lock();
	KUNIT_EXPECT_EQ(test, 0, swpt_lookup_runs(&swpt, 0x2fff, &runs));
	rcu_read_unlock();
	KUNIT_EXPECT_EQ(test, 2U, runs.nr);
	KUNIT_EXPECT_EQ(test, 7ULL << 12, run[0].phys);
	KUNIT_EXPECT_EQ(test, 1ULL << 12, run[0].length);
	KUNIT_EXPECT_EQ(test, 11ULL << 12, run[1].phys);
	KUNIT_EXPECT_EQ(test, 1ULL << 12, run[1].length);
	swpt_remove(&swpt, &area);
	area.pinned = false;
	swpt_pages_remove_area(&pages, &area, test_no_release, NULL);
	test_settle();
}

/*
 * If the pages have a lock, write accesses to the runs without it are noticed.
 */
static void swpt_test_lock(struct kunit *test)
{
	static DEFINE_MUTEX(lock);
	struct swpt_area area = { .last_index = 1 };
	struct swpt_pages pages;
	struct swpt_builder builder;
	unsigned int i;

	test_unlocked = 0;
	/* Without the lock, with it, and for pages without a lock. */
	for (i = 0; i < 3; i++) {
		if (i == 1)
			mutex_lock(&lock);
		swpt_pages_init(&pages, i < 2 ? &lock : NULL);
		swpt_builder_init(&builder);
		swpt_builder_seek(&builder, 0);
		KUNIT_EXPECT_EQ(test, 0, swpt_builder_add(&builder, 5, 2));
		KUNIT_EXPECT_EQ(test, 0, swpt_builder_commit(&builder, &pages));
		KUNIT_EXPECT_EQ(test, i ? 0L : 1L, test_unlocked);
		swpt_pages_add_area(&pages, &area);
		swpt_pages_remove_area(&pages, &area, test_no_release, NULL);
		/* To remove the area, to find the runs, and to clear them */
		KUNIT_EXPECT_EQ(test, i ? 0L : 4L, test_unlocked);
		if (i == 1)
			mutex_unlock(&lock);
		test_unlocked = 0;
	}
}

static struct kunit_case swpt_lookup_cases[] = {
	KUNIT_CASE(swpt_test_lock),
	KUNIT_CASE(swpt_test_split),
	KUNIT_CASE(swpt_test_empty_run),
	KUNIT_CASE_PARAM(swpt_test_single_page, test_shift_gen_params),
	KUNIT_CASE_PARAM(swpt_test_ends, test_shift_gen_params),
	KUNIT_CASE_PARAM(swpt_test_every_page, test_shape_gen_params),
	KUNIT_CASE(swpt_test_areas_end_runs),
	KUNIT_CASE(swpt_test_not_held),
	KUNIT_CASE(swpt_test_seq),
	KUNIT_CASE_PARAM(swpt_test_runs, test_shape_gen_params),
	KUNIT_CASE(swpt_test_runs_end),
	{}
};

static struct kunit_suite swpt_lookup_suite = {
	.name = "swpt_lookup",
	.init = test_init,
	.exit = test_exit,
	.test_cases = swpt_lookup_cases,
};

/* Several areas share the same pages. */

static void swpt_test_copy_part(struct kunit *test)
{
	enum test_shape shape = *(const enum test_shape *)test->param_value;
	const u64 npages = 2000, first = 600, n = 700;
	struct swpt_area source, copy;
	struct test_pages pages;
	struct swpt swpt, other;
	long pins;
	u64 i;

	swpt_init(&swpt, 12);
	swpt_init(&other, 12);
	test_pages_init(&pages, shape, 1 << 18);
	KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &source, &pages, 0, 0,
					  npages << 12));
	pins = pages.pins;
	KUNIT_ASSERT_EQ(test, 0, test_map(&other, &copy, &pages, first << 12,
					  1 << 30, n << 12));
	/* Nothing is pinned a second time. */
	KUNIT_EXPECT_EQ(test, pins, pages.pins);
	KUNIT_EXPECT_EQ(test, 0ULL,
			swpt_pages_nr_uncovered(&pages.swpt, 0, npages - 1));

	test_unmap(&swpt, &source, &pages);
	KUNIT_EXPECT_EQ(test, npages - n,
			swpt_pages_nr_uncovered(&pages.swpt, 0, npages - 1));
	if (shape == TEST_HUGE || shape == TEST_HUGE_CONTIG)
		/* The blocks that overlap the copy, 512 to 1535. */
		KUNIT_EXPECT_EQ(test, 2L, pages.pinned);
	else
		KUNIT_EXPECT_EQ(test, (long)n, pages.pinned);
	for (i = 0; i < n; i++)
		EXPECT_LOOKUP(test, &other, (1 << 30) + (i << 12), 4096,
			      test_pfn(&pages, first + i) << 12, 4096);
	test_unmap(&other, &copy, &pages);
	test_expect_unpinned(test, &pages);
}

/* Parts are mapped and unmapped in an order that leaves holes to fill again. */
static void swpt_test_fill_holes(struct kunit *test)
{
	static const struct {
		u16 first, npages;
	} parts[] = {
		{ 700, 100 }, { 0, 10 }, { 650, 100 }, { 300, 1 }, { 200, 900 },
		{ 1023, 2 }, { 0, 2000 }, { 512, 512 }, { 511, 1 }, { 5, 700 },
	};
	struct swpt_area area[ARRAY_SIZE(parts)];
	struct test_pages pages;
	struct swpt swpt;
	unsigned int drop, i, j;

	swpt_init(&swpt, 12);
	test_pages_init(&pages, *(const enum test_shape *)test->param_value,
			1 << 18);
	for (drop = 1; drop <= ARRAY_SIZE(parts); drop++) {
		/* Each round unmaps one part in @drop and maps it again. */
		for (i = 0; i < ARRAY_SIZE(parts); i++)
			KUNIT_ASSERT_EQ(test, 0,
					test_map(&swpt, &area[i], &pages,
						 (u64)parts[i].first << 12,
						 (u64)i << 32,
						 (u64)parts[i].npages << 12));
		for (i = 0; i < ARRAY_SIZE(parts); i += drop)
			test_unmap(&swpt, &area[i], &pages);
		for (i = 0; i < ARRAY_SIZE(parts); i += drop)
			KUNIT_ASSERT_EQ(test, 0,
					test_map(&swpt, &area[i], &pages,
						 (u64)parts[i].first << 12,
						 (u64)i << 32,
						 (u64)parts[i].npages << 12));
		for (i = 0; i < ARRAY_SIZE(parts); i++)
			for (j = 0; j < parts[i].npages; j++)
				EXPECT_LOOKUP(test, &swpt,
					      ((u64)i << 32) + (j << 12), 4096,
					      test_pfn(&pages,
						       parts[i].first + j) << 12,
					      4096);
		for (i = 0; i < ARRAY_SIZE(parts); i++)
			test_unmap(&swpt, &area[(i + drop) % ARRAY_SIZE(parts)],
				   &pages);
		test_expect_unpinned(test, &pages);
	}
}

static struct kunit_case swpt_share_cases[] = {
	KUNIT_CASE_PARAM(swpt_test_copy_part, test_shape_gen_params),
	KUNIT_CASE_PARAM(swpt_test_fill_holes, test_shape_gen_params),
	{}
};

static struct kunit_suite swpt_share_suite = {
	.name = "swpt_share",
	.init = test_init,
	.exit = test_exit,
	.test_cases = swpt_share_cases,
};

/*
 * A long random walk, checked against a simple model: an xarray that maps each
 * IOVA granule to its area.
 */

#define WALK_AREAS	48
#define WALK_PIECES	900
#define WALK_PAGES	4
/* Fewer steps with KASAN, which makes each one slow. */
#define WALK_STEPS	(IS_ENABLED(CONFIG_KASAN) ? 1500 : 6000)

struct walk_case {
	const char *name;
	enum test_shape shape;
	u64 granule;		/* pages; areas are multiples of it */
	u64 granules;		/* size of a pages object */
	u64 piece;		/* most granules of an area; 0: all */
	unsigned int fail;	/* one in so many MAPs lacks memory; 0: none */
};

static const struct walk_case walk_cases[] = {
	{ "scattered", TEST_SCATTERED, 1, 3000 },
	{ "huge", TEST_HUGE, 128, 64 },
	{ "huge, odd", TEST_HUGE, 100, 64 },
	{ "huge in a row", TEST_HUGE_CONTIG, 128, 64 },
	{ "mixed", TEST_MIXED, 5, 600 },
	{ "1 TiB in one run", TEST_ONE, 1 << 18, 1 << 10 },
	{ "scattered pieces", TEST_SCATTERED, 1, 3000, 1, 16 },
	{ "pieces far apart", TEST_SCATTERED, 1, 60000, 3, 16 },
	{ "huge pieces", TEST_HUGE, 100, 3000, 6, 16 },
	{ "huge pieces in a row", TEST_HUGE_CONTIG, 100, 3000, 6, 16 },
	{ "mixed pieces", TEST_MIXED, 1, 3000, 20, 16 },
	{ "pieces of one run", TEST_ONE, 1, 3000, 2, 16 },
	{ "both", TEST_MIXED, 1, 3000, 300, 16 },
};

static void walk_desc(const struct walk_case *walk, char *desc)
{
	strscpy(desc, walk->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(walk, walk_cases, walk_desc);

struct walk_area {
	struct swpt_area swpt;
	struct test_pages *pages;
	bool mapped;
};

struct walk_state {
	const struct walk_case *walk;
	struct rnd_state rnd;
	struct swpt swpt;
	struct test_pages pages[WALK_PAGES];
	struct walk_area area[WALK_PIECES];
	unsigned int nr_areas;
	struct xarray model;	/* granule of IOVA -> area + 1, as a value */
};

static u64 walk_random(struct walk_state *w, u64 below)
{
	u64 high = prandom_u32_state(&w->rnd);
	u64 value = high << 32 | prandom_u32_state(&w->rnd);

	return value % below;
}

static u64 walk_bytes(struct walk_state *w, u64 granules)
{
	return granules * w->walk->granule << 12;
}

static void walk_map(struct kunit *test, struct walk_state *w, unsigned int i)
{
	u64 n, start, from, at, k;
	struct walk_area *area = &w->area[i];
	bool overlap = false;
	int rc;

	area->pages = &w->pages[walk_random(w, WALK_PAGES)];
	n = w->walk->piece ?: w->walk->granules / (1 + walk_random(w, 16));
	n = 1 + walk_random(w, n);
	from = walk_random(w, w->walk->granules - n + 1);
	start = walk_random(w, 8 * w->walk->granules);
	for (k = 0; k < n; k++)
		overlap |= !!xa_load(&w->model, start + k);
	at = walk_bytes(w, start);
	if (w->walk->fail && !walk_random(w, w->walk->fail))
		noiommufd_test_fail_after = walk_random(w, 5);
	rc = test_map(&w->swpt, &area->swpt, area->pages, walk_bytes(w, from),
		      at, walk_bytes(w, n));
	if (rc != -ENOMEM || !w->walk->fail)
		KUNIT_ASSERT_EQ(test, overlap ? -EEXIST : 0, rc);
	noiommufd_test_fail_after = -1;
	if (rc)
		return;
	area->mapped = true;
	for (k = 0; k < n; k++)
		xa_store(&w->model, start + k, xa_mk_value(i + 1), GFP_KERNEL);
}

static void walk_unmap(struct walk_state *w, unsigned int i)
{
	struct walk_area *area = &w->area[i];
	u64 start = area->swpt.iova / walk_bytes(w, 1);
	u64 n = (area->swpt.last - area->swpt.iova + 1) / walk_bytes(w, 1);
	u64 k;

	if (w->walk->fail && !walk_random(w, w->walk->fail))
		noiommufd_test_fail_after = walk_random(w, 4);
	test_unmap(&w->swpt, &area->swpt, area->pages);
	noiommufd_test_fail_after = -1;
	area->mapped = false;
	for (k = 0; k < n; k++)
		xa_erase(&w->model, start + k);
}

static void walk_lookup(struct kunit *test, struct walk_state *w)
{
	u64 iova = walk_random(w, walk_bytes(w, 9 * w->walk->granules));
	u64 limit = 1 + walk_random(w, 1ULL << walk_random(w, 50));
	void *entry = xa_load(&w->model, iova / walk_bytes(w, 1));
	u64 phys, length = limit, pos;
	struct walk_area *area;
	int rc;

	rc = test_lookup(&w->swpt, iova, &phys, &length);
	if (!entry) {
		KUNIT_ASSERT_EQ(test, -ENOENT, rc);
		return;
	}
	KUNIT_ASSERT_EQ(test, 0, rc);
	area = &w->area[xa_to_value(entry) - 1];
	pos = area->swpt.start_byte + iova - area->swpt.iova;
	KUNIT_ASSERT_EQ(test, phys, (test_pfn(area->pages, pos >> 12) << 12) +
				    (pos & 4095));
	KUNIT_ASSERT_EQ(test, length,
			test_contig(area->pages, 12, pos,
				    min(limit, area->swpt.last - iova + 1)));
}

/* How many pins the areas of a pages object need, counted from scratch. */
static long walk_count_pins(struct walk_state *w, struct test_pages *pages)
{
	u64 granules = w->walk->granules, granule = w->walk->granule;
	u64 index, n, held = 0;
	unsigned int i;

	for (index = 0; index < granules; index++) {
		for (i = 0; i < w->nr_areas; i++)
			if (w->area[i].mapped && w->area[i].pages == pages &&
			    w->area[i].swpt.first_index <= index * granule &&
			    w->area[i].swpt.last_index >= index * granule)
				break;
		n = i < w->nr_areas ? granule : 0;
		held += n;
	}
	return held;
}

/*
 * The chunks of a store are sorted, and none is too long. Each has the right
 * words for the pages that an area covers.
 */
static void walk_check_store(struct kunit *test, struct walk_state *w,
			     struct test_pages *pages)
{
	struct swpt_store *store = &pages->swpt.store;
	struct swpt_dir *dir = swpt_store_dir(store);
	u64 end = 0, i, run;
	unsigned int c, pos;

	for (c = 0; dir && c < dir->nr; c++) {
		const struct swpt_chunk *chunk = &dir->chunk[c];
		unsigned int nr = swpt_key_nr(chunk->key);

		KUNIT_ASSERT_GE(test, swpt_key_first(chunk->key), end);
		KUNIT_ASSERT_GT(test, nr, 0U);
		end = swpt_key_first(chunk->key);
		if (!swpt_key_dense(chunk->key)) {
			KUNIT_ASSERT_LE(test, nr, SWPT_CHUNK_RUNS);
			for (pos = 0; pos < nr; pos++) {
				KUNIT_ASSERT_GT(test, chunk->runs[pos].end, end);
				end = chunk->runs[pos].end;
			}
			continue;
		}
		end += nr;
		KUNIT_ASSERT_LE(test, nr, SWPT_CHUNK_WORDS);
		for (pos = 1, run = 1; pos < nr; pos++) {
			if (chunk->words[pos] == chunk->words[pos - 1] + 1)
				run++;
			else
				run = 1;
			KUNIT_ASSERT_LE(test, run, SWPT_DENSE_RUN);
		}
	}
	for (i = 0; i < w->nr_areas; i++) {
		struct swpt_area *area = &w->area[i].swpt;
		u64 index = area->first_index, phys, length, step;

		if (!w->area[i].mapped || w->area[i].pages != pages)
			continue;
		for (; index <= area->last_index; index += step) {
			u64 at = (index << 12) - area->start_byte;

			length = 1;
			KUNIT_ASSERT_EQ(test, 0,
					test_lookup(&w->swpt, area->iova + at,
						    &phys, &length));
			KUNIT_ASSERT_EQ(test, phys >> 12,
					test_pfn(pages, index));
			test_word(pages, index, &step);
			step = min(step, w->walk->granule);
		}
	}
}

static void swpt_test_random_walk(struct kunit *test)
{
	u32 seed = get_random_u32();
	struct walk_state *w;
	unsigned int i, step;

	w = kunit_kzalloc(test, sizeof(*w), GFP_KERNEL);
	KUNIT_ASSERT_TRUE(test, w);
	w->walk = test->param_value;
	w->nr_areas = w->walk->piece ? WALK_PIECES : WALK_AREAS;
	prandom_seed_state(&w->rnd, seed);
	kunit_info(test, "seed %u\n", seed);
	xa_init(&w->model);
	swpt_init(&w->swpt, 12);
	for (i = 0; i < WALK_PAGES; i++) {
		test_pages_init(&w->pages[i], w->walk->shape, (u64)i << 36);
		w->pages[i].skew = i * 77;
	}

	for (step = 0; step < WALK_STEPS; step++) {
		i = walk_random(w, w->nr_areas);
		if (!w->area[i].mapped)
			walk_map(test, w, i);
		else if (!walk_random(w, 3))
			walk_unmap(w, i);
		for (i = 0; i < 8; i++)
			walk_lookup(test, w);
		if (step % 500)
			continue;
		for (i = 0; i < WALK_PAGES; i++) {
			struct test_pages *pages = &w->pages[i];
			u64 npages = w->walk->granules * w->walk->granule;
			long held = walk_count_pins(w, pages);

			walk_check_store(test, w, pages);
			KUNIT_ASSERT_EQ(test, npages - held,
					swpt_pages_nr_uncovered(&pages->swpt, 0,
								npages - 1));
			if (w->walk->shape != TEST_HUGE &&
			    w->walk->shape != TEST_HUGE_CONTIG)
				KUNIT_ASSERT_EQ(test, held, pages->pinned);
		}
		cond_resched();
	}

	for (i = 0; i < w->nr_areas; i++)
		if (w->area[i].mapped)
			walk_unmap(w, i);
	for (i = 0; i < WALK_PAGES; i++)
		test_expect_unpinned(test, &w->pages[i]);
	KUNIT_EXPECT_TRUE(test, xa_empty(&w->model));
	xa_destroy(&w->model);
}

/*
 * Readers run beside a writer: what they read is right, or the lookup reports
 * that it may not be. Areas are freed meanwhile.
 */

#define RACE_AREAS	4
#define RACE_NPAGES	300
#define RACE_ROUNDS	400

struct race_area {
	struct swpt_area swpt;
	struct rcu_head rcu;
};

struct race {
	struct swpt swpt;
	struct test_pages pages[RACE_AREAS];
	struct work_struct reader[2];
	struct work_struct writer;
	struct completion written;
	struct race_area *piece[RACE_AREAS][RACE_NPAGES];
	bool pieces;
	int rc;
	atomic_t good, bad;
};

static void race_check(struct race *race, u64 iova, int rc, u64 phys)
{
	u64 index = (iova & U32_MAX) >> 12;

	if (rc && rc != -ENOENT && rc != -EOPNOTSUPP)
		atomic_inc(&race->bad);
	if (rc)
		return;
	if (phys >> 12 == test_pfn(&race->pages[iova >> 32], index))
		atomic_inc(&race->good);
	else
		atomic_inc(&race->bad);
}

static void race_read(struct race *race, u32 random)
{
	u64 iova = (u64)(random >> 30) << 32 | (random >> 8) % (RACE_NPAGES << 12);
	struct swpt_phys_run run[4];
	struct swpt_runs runs = { .run = run, .room = 4, .iova = iova };
	u64 phys, length = 1 << 20;
	unsigned int seq;
	int rc;

	rcu_read_lock();
	seq = swpt_read_begin(&race->swpt);
	rc = swpt_lookup(&race->swpt, iova, &phys, &length);
	if (!(seq & 1) && !swpt_read_retry(&race->swpt, seq))
		race_check(race, iova, rc, phys);
	seq = swpt_read_begin(&race->swpt);
	swpt_lookup_runs(&race->swpt, iova + (1 << 16), &runs);
	if (!(seq & 1) && !swpt_read_retry(&race->swpt, seq) && runs.nr)
		race_check(race, iova, 0, run[0].phys);
	rcu_read_unlock();
}

static void race_reader(struct race *race, unsigned int which)
{
	u32 random = which;

	do {
		unsigned int i;

		for (i = 0; i < 64; i++) {
			random = random * 1664525 + 1013904223;
			race_read(race, random);
		}
		cond_resched();
	} while (!completion_done(&race->written));
}

static void race_reader_0(struct work_struct *work)
{
	race_reader(container_of(work, struct race, reader[0]), 0);
}

static void race_reader_1(struct work_struct *work)
{
	race_reader(container_of(work, struct race, reader[1]), 1);
}

/* Map and unmap single pages, at random. */
static int race_write_pieces(struct race *race)
{
	u32 random = 1, round, i, index;
	struct race_area **area;

	for (round = 0; round < 20 * RACE_ROUNDS; round++) {
		random = random * 1664525 + 1013904223;
		i = random >> 30;
		index = (random >> 8) % RACE_NPAGES;
		area = &race->piece[i][index];
		if (*area) {
			swpt_remove(&race->swpt, &(*area)->swpt);
			test_drop(&race->pages[i], &(*area)->swpt);
			kfree_rcu(*area, rcu);
			*area = NULL;
			continue;
		}
		*area = kzalloc_node(sizeof(**area), GFP_KERNEL, NUMA_NO_NODE);
		if (!*area ||
		    test_map(&race->swpt, &(*area)->swpt, &race->pages[i],
			     index << 12, (u64)i << 32 | index << 12, 1 << 12))
			return -ENOMEM;
		if (round % 256 == 0)
			usleep_range(1000, 2000);
		cond_resched();
	}
	for (i = 0; i < RACE_AREAS; i++)
		for (index = 0; index < RACE_NPAGES; index++) {
			area = &race->piece[i][index];
			if (!*area)
				continue;
			swpt_remove(&race->swpt, &(*area)->swpt);
			test_drop(&race->pages[i], &(*area)->swpt);
			kfree_rcu(*area, rcu);
		}
	return 0;
}

static void race_write_areas(struct race *race)
{
	struct race_area *area[RACE_AREAS][2] = {};
	unsigned int i, j, round;

	/* Area 1 maps some pages of area 0, so that they stay in use. */
	for (round = 0; round < RACE_ROUNDS + 2 * RACE_AREAS; round++) {
		i = round % RACE_AREAS;
		j = round / RACE_AREAS % 2;
		if (area[i][j]) {
			swpt_remove(&race->swpt, &area[i][j]->swpt);
			test_drop(&race->pages[i], &area[i][j]->swpt);
			kfree_rcu(area[i][j], rcu);
			area[i][j] = NULL;
		}
		if (round >= RACE_ROUNDS)
			continue;
		area[i][j] = kzalloc_node(sizeof(*area[i][j]), GFP_KERNEL,
					  NUMA_NO_NODE);
		if (!area[i][j] ||
		    test_map(&race->swpt, &area[i][j]->swpt, &race->pages[i],
			     j ? 100 << 12 : 0,
			     (u64)i << 32 | (j ? (u64)RACE_NPAGES << 12 : 0),
			     j ? 50 << 12 : RACE_NPAGES << 12)) {
			race->rc = -ENOMEM;
			break;
		}
		if (round % 16 == 0)
			usleep_range(1000, 2000);
		cond_resched();
	}
}

static void race_writer(struct work_struct *work)
{
	struct race *race = container_of(work, struct race, writer);

	if (race->pieces)
		race->rc = race_write_pieces(race);
	else
		race_write_areas(race);
	complete_all(&race->written);
}

static const bool test_pieces[] = { false, true };

static void test_pieces_desc(const bool *pieces, char *desc)
{
	strscpy(desc, *pieces ? "pieces" : "areas", KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(test_pieces, test_pieces, test_pieces_desc);

static void swpt_test_readers(struct kunit *test)
{
	static const enum test_shape shapes[RACE_AREAS] = {
		TEST_SCATTERED, TEST_HUGE, TEST_MIXED, TEST_ONE,
	};
	struct race *race = kunit_kzalloc(test, sizeof(*race), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_TRUE(test, race);
	race->pieces = *(const bool *)test->param_value;
	swpt_init(&race->swpt, 12);
	for (i = 0; i < RACE_AREAS; i++)
		test_pages_init(&race->pages[i], shapes[i], (u64)(i + 1) << 30);
	init_completion(&race->written);
	INIT_WORK(&race->reader[0], race_reader_0);
	INIT_WORK(&race->reader[1], race_reader_1);
	INIT_WORK(&race->writer, race_writer);
	queue_work(system_unbound_wq, &race->writer);
	for (i = 0; i < ARRAY_SIZE(race->reader); i++)
		queue_work(system_unbound_wq, &race->reader[i]);
	flush_work(&race->writer);
	for (i = 0; i < ARRAY_SIZE(race->reader); i++)
		flush_work(&race->reader[i]);
	KUNIT_EXPECT_EQ(test, 0, race->rc);
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&race->bad));
	KUNIT_EXPECT_GT(test, atomic_read(&race->good), 0);
	for (i = 0; i < RACE_AREAS; i++)
		test_expect_unpinned(test, &race->pages[i]);
}

/*
 * Free IOVAs, in a random walk over both ends of the IOVA space: what is noted
 * in the tree is right, and a search finds what a linear one finds.
 */
#define GAP_AREAS	200
/* Units of IOVA at either end */
#define GAP_UNITS	400

struct gap_state {
	struct rnd_state rnd;
	struct swpt swpt;
	struct swpt_area area[GAP_AREAS];
	bool used[GAP_AREAS];
};

static u32 gap_random(struct gap_state *g, u32 below)
{
	return prandom_u32_state(&g->rnd) % below;
}

/* IOVA of a unit, of which the first half is at one end */
static u64 gap_iova(u32 unit)
{
	return (unit < GAP_UNITS ? unit : (u64)unit - 2 * GAP_UNITS) << 12;
}

static u64 gap_check_subtree(struct kunit *test, struct rb_node *node)
{
	struct swpt_area *area = to_swpt_area(node);
	u64 most;

	if (!area)
		return 0;
	most = max3(area->gap, gap_check_subtree(test, node->rb_left),
		    gap_check_subtree(test, node->rb_right));
	KUNIT_EXPECT_EQ(test, most, area->subtree_gap);
	return most;
}

static void gap_check(struct kunit *test, struct gap_state *g)
{
	struct swpt_area *area = swpt_first(&g->swpt, 0, U64_MAX);
	u64 start = 0;

	gap_check_subtree(test, g->swpt.areas.rb_node);
	for (; area; area = swpt_next(area)) {
		KUNIT_EXPECT_EQ(test, area->iova - start, area->gap);
		start = area->last + 1;
	}
}

static bool gap_linear(struct gap_state *g, u64 *first, u64 *last, u64 length)
{
	struct swpt_area *area = swpt_first(&g->swpt, *first, *last);

	for (; area && area->iova <= *last; area = swpt_next(area)) {
		if (area->iova > *first && area->iova - *first >= length) {
			*last = area->iova - 1;
			return true;
		}
		if (area->last >= *last)
			return false;
		*first = area->last + 1;
	}
	return *last - *first >= length - 1;
}

static void gap_search(struct kunit *test, struct gap_state *g)
{
	u32 a = gap_random(g, 2 * GAP_UNITS), b = gap_random(g, 2 * GAP_UNITS);
	u64 first = gap_iova(min(a, b)) + gap_random(g, 4096), want_first;
	u64 last = gap_iova(max(a, b)) + 4095, want_last, steps = 0;
	u64 length = 1 + gap_random(g, 4096 << gap_random(g, 6));
	struct swpt_place place;
	bool found;

	want_first = first;
	want_last = last;
	found = gap_linear(g, &want_first, &want_last, length);
	KUNIT_ASSERT_EQ(test, found,
			swpt_find_gap(&g->swpt, &first, &last, length, &place,
				      &steps));
	if (found) {
		struct swpt_place want;

		KUNIT_ASSERT_EQ(test, 0, swpt_find_place(&g->swpt, first,
							 first, &want));
		KUNIT_ASSERT_EQ(test, 0, memcmp(&want, &place, sizeof(want)));
		KUNIT_ASSERT_EQ(test, want_first, first);
		KUNIT_ASSERT_EQ(test, want_last, last);
	}
	KUNIT_ASSERT_LE(test, steps, 4ULL * ilog2(GAP_AREAS));
}

/* Replace an area of several units by two. */
static void gap_split(struct gap_state *g, unsigned int i)
{
	struct swpt_area *area = &g->area[i], *part[2];
	unsigned int n = 0, j;

	if (area->last - area->iova < 4096)
		return;
	for (j = 0; j < GAP_AREAS && n < 2; j++)
		if (!g->used[j])
			part[n++] = &g->area[j];
	if (n < 2)
		return;
	*part[0] = *area;
	*part[1] = *area;
	part[0]->last = part[0]->iova + 4095;
	part[1]->iova = part[0]->last + 1;
	swpt_split(&g->swpt, area, part[0], part[1]);
	g->used[part[0] - g->area] = true;
	g->used[part[1] - g->area] = true;
	g->used[i] = false;
}

static void swpt_test_gaps(struct kunit *test)
{
	u32 seed = get_random_u32(), unit, step, i;
	struct gap_state *g = kunit_kzalloc(test, sizeof(*g), GFP_KERNEL);

	KUNIT_ASSERT_TRUE(test, g);
	kunit_info(test, "seed %u\n", seed);
	prandom_seed_state(&g->rnd, seed);
	swpt_init(&g->swpt, 12);
	for (step = 0; step < WALK_STEPS; step++) {
		/* Nearly empty and nearly full in turn */
		bool fill = step / 500 % 2 ? gap_random(g, 3) : !gap_random(g, 3);

		i = gap_random(g, GAP_AREAS);
		if (g->used[i] && gap_random(g, 2)) {
			gap_split(g, i);
		} else if (g->used[i] && !fill) {
			swpt_remove(&g->swpt, &g->area[i]);
			g->used[i] = false;
		} else if (!g->used[i] && fill) {
			unit = gap_random(g, 2 * GAP_UNITS);
			g->area[i] = (struct swpt_area){ .iova = gap_iova(unit) };
			unit += gap_random(g, 8);
			if (unit < 2 * GAP_UNITS) {
				g->area[i].last = gap_iova(unit) + 4095;
				g->used[i] = !swpt_insert(&g->swpt, &g->area[i]);
			}
		}
		gap_check(test, g);
		for (i = 0; i < 4; i++)
			gap_search(test, g);
		cond_resched();
	}
}

/* A search takes the logarithm of the number of areas, wherever the gap is. */
static void swpt_test_gap_steps(struct kunit *test)
{
	const unsigned int nr = 20000;
	u64 first, last, steps, i;
	struct swpt_place place;
	struct swpt_area *area;
	struct swpt swpt;

	area = kvmalloc_node(array_size(nr, sizeof(*area)), GFP_KERNEL,
			     NUMA_NO_NODE);
	KUNIT_ASSERT_TRUE(test, area);
	swpt_init(&swpt, 12);
	/* Packed, but for a hole of a page after each hundred. */
	for (i = 0; i < nr; i++) {
		u64 iova = (i + i / 100) << 12;

		area[i] = (struct swpt_area){
			.iova = iova, .last = iova + 4095,
		};
		KUNIT_ASSERT_EQ(test, 0, swpt_insert(&swpt, &area[i]));
	}
	for (i = 0; i < nr + nr / 100; i += 37) {
		first = i << 12;
		last = U64_MAX;
		steps = 0;
		KUNIT_ASSERT_TRUE(test, swpt_find_gap(&swpt, &first, &last,
						      8192, &place, &steps));
		KUNIT_ASSERT_EQ(test, first, area[nr - 1].last + 1);
		KUNIT_ASSERT_LE(test, steps, 4ULL * ilog2(nr));
		first = i << 12;
		last = U64_MAX;
		steps = 0;
		KUNIT_ASSERT_TRUE(test, swpt_find_gap(&swpt, &first, &last,
						      4096, &place, &steps));
		KUNIT_ASSERT_LE(test, steps, 4ULL * ilog2(nr));
	}
	for (i = 0; i < nr; i++)
		swpt_remove(&swpt, &area[i]);
	kvfree(area);
}

static struct kunit_case swpt_walk_cases[] = {
	KUNIT_CASE(swpt_test_gaps),
	KUNIT_CASE(swpt_test_gap_steps),
	KUNIT_CASE_PARAM(swpt_test_random_walk, walk_gen_params),
	KUNIT_CASE_PARAM(swpt_test_readers, test_pieces_gen_params),
	{}
};

static struct kunit_suite swpt_walk_suite = {
	.name = "swpt_walk",
	.init = test_init,
	.exit = test_exit,
	.test_cases = swpt_walk_cases,
};

/* Failing allocations, and the cost of lookups and memory. */

static void swpt_test_alloc_fails(struct kunit *test)
{
	enum test_shape shape = *(const enum test_shape *)test->param_value;
	const u64 npages = 4000;
	struct swpt_area held[3], area;
	struct test_pages pages;
	struct swpt swpt;
	long before, n;
	unsigned int i;
	u64 page;
	int rc;

	swpt_init(&swpt, 12);
	test_pages_init(&pages, shape, 1 << 18);
	/* Some runs exist already, so that the commit has to merge. */
	for (i = 0; i < ARRAY_SIZE(held); i++)
		KUNIT_ASSERT_EQ(test, 0,
				test_map(&swpt, &held[i], &pages,
					 (100 + 900 * i) << 12,
					 (u64)(i + 1) << 32, 300 << 12));
	before = pages.pinned;
	test_settle();
	for (n = 0; ; n++) {
		long allocated = atomic_long_read(&noiommufd_test_allocated);

		noiommufd_test_fail_after = n;
		rc = test_map(&swpt, &area, &pages, 0, 0, npages << 12);
		if (!rc)
			break;
		noiommufd_test_fail_after = -1;
		test_settle();
		KUNIT_ASSERT_EQ(test, -ENOMEM, rc);
		KUNIT_ASSERT_EQ(test, before, pages.pinned);
		KUNIT_ASSERT_EQ(test, allocated,
				atomic_long_read(&noiommufd_test_allocated));
		EXPECT_NO_LOOKUP(test, &swpt, 0, -ENOENT);
		for (page = 0; page < 300; page++)
			EXPECT_LOOKUP(test, &swpt, (2ULL << 32) + (page << 12),
				      1, test_pfn(&pages, 1000 + page) << 12,
				      1);
	}
	noiommufd_test_fail_after = -1;
	KUNIT_EXPECT_GT(test, n, 2L);
	test_unmap(&swpt, &area, &pages);
	KUNIT_EXPECT_EQ(test, before, pages.pinned);
	for (i = 0; i < ARRAY_SIZE(held); i++)
		test_unmap(&swpt, &held[i], &pages);
	test_expect_unpinned(test, &pages);
}

/* A lookup takes the logarithm of the size in steps, and a few for each run. */
static void swpt_test_steps(struct kunit *test)
{
	enum test_shape shape = *(const enum test_shape *)test->param_value;
	const u64 npages = 1 << 17;
	struct test_pages pages;
	struct swpt_area area;
	struct swpt swpt;
	u64 index, limit;

	swpt_init(&swpt, 12);
	test_pages_init(&pages, shape, 1 << 18);
	KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &area, &pages, 0, 0,
					  npages << 12));
	for (index = 0; index < npages; index += 97) {
		for (limit = 1; limit; limit <<= 21) {
			u64 phys, length = limit, runs = 1, n, i;
			struct swpt_cursor cur;

			rcu_read_lock();
			KUNIT_ASSERT_EQ(test, 0,
					swpt_area_lookup(&area, 12, index << 12,
							 &phys, &length, &cur));
			rcu_read_unlock();
			for (i = index; i << 12 < (index << 12) + length;
			     i += n, runs++)
				test_word(&pages, i, &n);
			KUNIT_ASSERT_LE(test, cur.steps,
					ilog2(npages) + SWPT_DENSE_RUN +
						2 * runs);
		}
	}
	test_unmap(&swpt, &area, &pages);
}

static void test_count(const struct swpt_pages *pages, u64 *nr_runs, u64 *bytes)
{
	u64 index = 0;

	*nr_runs = 0;
	*bytes = 0;
	while (swpt_pages_count(pages, &index, nr_runs, bytes))
		;
}

/* Scattered memory takes a word for each page, other memory a run. */
static void swpt_test_footprint(struct kunit *test)
{
	static const struct {
		enum test_shape shape;
		unsigned long max;
		u64 nr_runs;
	} cases[] = {
		{ TEST_SCATTERED, 2060 << 10, 1 << 18 },
		{ TEST_HUGE, 16 << 10, 1 << 9 },
		{ TEST_HUGE_CONTIG, 0, 1 },
		{ TEST_ONE, 0, 1 },
	};
	struct test_pages pages;
	struct swpt_area area;
	struct swpt swpt;
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct swpt_dir *dir;
		unsigned long bytes = 0, before;
		u64 nr_runs, size;

		/* Memory of the last round may still be waiting to be freed. */
		rcu_barrier();
		flush_workqueue(swpt_free_wq);
		before = swpt_table_bytes();
		swpt_init(&swpt, 12);
		test_pages_init(&pages, cases[i].shape, 1 << 18);
		KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &area, &pages, 0, 0,
						  1 << 30));
		dir = swpt_store_dir(&pages.swpt.store);
		if (dir) {
			bytes += sizeof(*dir) +
				 dir->room * sizeof(dir->chunk[0]);
			for (j = 0; j < dir->nr; j++)
				bytes += swpt_key_bytes(dir->chunk[j].key);
		}
		KUNIT_EXPECT_LE(test, bytes, cases[i].max);
		KUNIT_EXPECT_EQ(test, bytes, swpt_table_bytes() - before);
		test_count(&pages.swpt, &nr_runs, &size);
		KUNIT_EXPECT_EQ(test, (u64)bytes, size);
		KUNIT_EXPECT_EQ(test, cases[i].nr_runs, nr_runs);
		test_unmap(&swpt, &area, &pages);
		test_count(&pages.swpt, &nr_runs, &size);
		KUNIT_EXPECT_EQ(test, 0ULL, size);
		KUNIT_EXPECT_EQ(test, 0ULL, nr_runs);
	}
}

/*
 * Nearly nothing is allocated for a piece of an area that is pinned by pieces,
 * however many there are.
 */
struct piece_case {
	const char *name;
	enum test_shape shape;
	u64 step;		/* from piece to piece */
	int order;		/* 1: ascending, -1: descending, 0: random */
	unsigned long bytes;	/* most for a piece, on average */
	unsigned int chunks;
};

#define PIECES		4000

static const struct piece_case piece_cases[] = {
	{ "ascending", TEST_SCATTERED, 1, 1, 200, 9 },
	{ "ascending, apart", TEST_SCATTERED, 3, 1, 400, 33 },
	{ "ascending, far apart", TEST_SCATTERED, 100, 1, 400, 33 },
	{ "ascending, one run", TEST_ONE, 1, 1, 8, 1 },
	{ "descending", TEST_SCATTERED, 1, -1, 400, 17 },
	{ "descending, far apart", TEST_SCATTERED, 100, -1, 400, 65 },
	{ "random", TEST_SCATTERED, 1, 0, 400, 33 },
	{ "random, far apart", TEST_SCATTERED, 100, 0, 400, 65 },
	{ "random, one run", TEST_ONE, 1, 0, 400, 33 },
};

static void piece_desc(const struct piece_case *pieces, char *desc)
{
	strscpy(desc, pieces->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(piece, piece_cases, piece_desc);

static void swpt_test_pieces(struct kunit *test)
{
	const struct piece_case *pieces = test->param_value;
	struct test_pages pages;
	struct swpt_area *area;
	struct rnd_state rnd;
	struct swpt_dir *dir;
	unsigned long bytes;
	struct swpt swpt;
	u32 *order, i, j;

	area = kvmalloc_node(array_size(PIECES, sizeof(*area)), GFP_KERNEL,
			     NUMA_NO_NODE);
	order = kunit_kmalloc_array(test, PIECES, sizeof(*order), GFP_KERNEL);
	KUNIT_ASSERT_TRUE(test, area && order);
	prandom_seed_state(&rnd, 1);
	for (i = 0; i < PIECES; i++)
		order[i] = pieces->order < 0 ? PIECES - 1 - i : i;
	for (i = PIECES - 1; i && !pieces->order; i--) {
		j = prandom_u32_state(&rnd) % (i + 1);
		swap(order[i], order[j]);
	}

	swpt_init(&swpt, 12);
	test_pages_init(&pages, pieces->shape, 1 << 18);
	bytes = test_bytes;
	for (i = 0; i < PIECES; i++) {
		u64 at = order[i] * pieces->step << 12;

		KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &area[i], &pages, at,
						  at, 1 << 12));
		if (i % 64 == 0)
			cond_resched();
	}
	bytes = test_bytes - bytes;
	dir = swpt_store_dir(&pages.swpt.store);
	kunit_info(test, "%s: %lu bytes a piece, %u chunks\n", pieces->name,
		   bytes / PIECES, dir->nr);
	KUNIT_EXPECT_LE(test, bytes / PIECES, pieces->bytes);
	KUNIT_EXPECT_LE(test, dir->nr, pieces->chunks);
	for (i = 0; i < PIECES; i++)
		EXPECT_LOOKUP(test, &swpt, area[i].iova, 1,
			      test_pfn(&pages, area[i].first_index) << 12, 1);
	for (i = 0; i < PIECES; i++)
		test_unmap(&swpt, &area[i], &pages);
	test_expect_unpinned(test, &pages);
	test_settle();
	kvfree(area);
}

/*
 * Of a GiB of which a page is left, little else is kept: if it goes at once, or
 * by pieces, and if there is no memory for the smaller directory at first.
 */
static void swpt_test_left_over(struct kunit *test)
{
	const u64 npages = 1 << 18, left = 777, n = 64;
	struct swpt_area whole, page, *piece;
	struct test_pages pages;
	struct swpt swpt;
	unsigned int round;
	u64 i;

	piece = kvmalloc_node(array_size(npages / n, sizeof(*piece)),
			      GFP_KERNEL, NUMA_NO_NODE);
	KUNIT_ASSERT_TRUE(test, piece);
	for (round = 0; round < 4; round++) {
		swpt_init(&swpt, 12);
		test_pages_init(&pages, TEST_SCATTERED, 1 << 18);
		KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &whole, &pages, 0, 0,
						  npages << 12));
		KUNIT_ASSERT_EQ(test, 0, test_map(&swpt, &page, &pages,
						  left << 12, 1ULL << 40,
						  1 << 12));
		for (i = 0; i < npages / n && round == 3; i++)
			KUNIT_ASSERT_EQ(test, 0,
					test_map(&swpt, &piece[i], &pages,
						 (i * n) << 12,
						 1ULL << 41 | (i * n) << 12,
						 n << 12));
		if (round < 2)
			noiommufd_test_fail_after = 2 * round;
		test_unmap(&swpt, &whole, &pages);
		noiommufd_test_fail_after = -1;
		for (i = 0; i < npages / n && round == 3; i++)
			test_unmap(&swpt, &piece[i * 77 % (npages / n)],
				   &pages);
		KUNIT_EXPECT_EQ(test, 1L, pages.pinned);
		EXPECT_LOOKUP(test, &swpt, 1ULL << 40, 4096,
			      test_pfn(&pages, left) << 12, 4096);
		test_settle();
		if (round < 2)
			KUNIT_EXPECT_GT(test, swpt_table_bytes(), 2UL << 20);
		else
			KUNIT_EXPECT_LE(test, swpt_table_bytes(), 16UL << 10);
		test_unmap(&swpt, &page, &pages);
		test_expect_unpinned(test, &pages);
		test_settle();
	}
	kvfree(piece);
}

static struct kunit_case swpt_cost_cases[] = {
	KUNIT_CASE(swpt_test_left_over),
	KUNIT_CASE_PARAM(swpt_test_pieces, piece_gen_params),
	KUNIT_CASE_PARAM(swpt_test_alloc_fails, test_shape_gen_params),
	KUNIT_CASE_PARAM(swpt_test_steps, test_shape_gen_params),
	KUNIT_CASE(swpt_test_footprint),
	{}
};

static struct kunit_suite swpt_cost_suite = {
	.name = "swpt_cost",
	.init = test_init,
	.exit = test_exit,
	.test_cases = swpt_cost_cases,
};

kunit_test_suites(&swpt_lookup_suite, &swpt_share_suite, &swpt_walk_suite,
		  &swpt_cost_suite);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("KUnit tests of the software page table of noiommufd");
