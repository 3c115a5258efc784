// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit suites of the IO address space: areas, allowed ranges and automatic
 * IOVA, and when memory is pinned. They compile it in, on top of a pinning that
 * only counts. The software page table beside it is the real one.
 */
#include <kunit/test.h>
#include <linux/random.h>
#include <linux/slab.h>

#define iopt_alloc_user_pages	test_alloc_user_pages
#define iopt_get_pages		test_get_pages
#define iopt_put_pages		test_put_pages
#define iopt_area_fill		test_area_fill
#define iopt_area_unfill	test_area_unfill

#include "../../src/iommufd/io_pagetable.c"

/* Pins that are out, pages objects, and fills until one fails. */
static long test_pinned;
static long test_objects;
static long test_fill_fails_after = -1;

struct iopt_pages *iopt_alloc_user_pages(unsigned long uptr,
					 unsigned long length, bool writable,
					 u8 account_mode)
{
	struct iopt_pages *pages = kzalloc(sizeof(*pages), GFP_KERNEL);

	if (!pages)
		return ERR_PTR(-ENOMEM);
	swpt_pages_init(&pages->swpt);
	refcount_set(&pages->refs, 1);
	pages->start = uptr & PAGE_MASK;
	pages->writable = writable;
	test_objects++;
	return pages;
}

void iopt_get_pages(struct iopt_pages *pages)
{
	refcount_inc(&pages->refs);
}

void iopt_put_pages(struct iopt_pages *pages)
{
	if (!refcount_dec_and_test(&pages->refs))
		return;
	test_objects--;
	kfree_rcu(pages, rcu);
}

static void test_release(void *arg, const u64 *words, unsigned int nr,
			 u64 npages)
{
	test_pinned -= nr * npages;
}

/* Page n of a pages object is PFN start / PAGE_SIZE + n. */
int iopt_area_fill(struct iopt_area *area)
{
	struct swpt_pages *pages = &area->pages->swpt;
	u64 first = area->swpt.first_index, last = area->swpt.last_index, end;
	struct swpt_fill fill;

	if (test_fill_fails_after >= 0 && !test_fill_fails_after--)
		return -EFAULT;

	while (swpt_pages_next_hole(pages, &first, last, &end)) {
		swpt_fill_init(&fill);
		swpt_fill_seek(&fill, first);
		if (swpt_fill_add(&fill, PHYS_PFN(area->pages->start) + first,
				  end - first + 1) ||
		    swpt_fill_commit(&fill, pages))
			return -ENOMEM;
		test_pinned += end - first + 1;
		if (end == last)
			break;
		first = end + 1;
	}
	swpt_pages_hold(pages, &area->swpt);
	return 0;
}

void iopt_area_unfill(struct iopt_area *area)
{
	swpt_pages_drop(&area->pages->swpt, &area->swpt, test_release, NULL);
}

struct iopt_test {
	struct noiommufd_ctx ictx;
	struct io_pagetable iopt;
	struct io_pagetable other;
};

static int iopt_test_init(struct kunit *test)
{
	struct iopt_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	int rc;

	if (!t)
		return -ENOMEM;
	rc = swpt_module_init();
	if (rc)
		return rc;
	test_pinned = 0;
	test_objects = 0;
	test_fill_fails_after = -1;
	iopt_init_table(&t->iopt, &t->ictx);
	iopt_init_table(&t->other, &t->ictx);
	test->priv = t;
	return 0;
}

static void iopt_test_exit(struct kunit *test)
{
	struct iopt_test *t = test->priv;

	if (!t)
		return;
	iopt_destroy_table(&t->iopt);
	iopt_destroy_table(&t->other);
	swpt_module_exit();
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
	KUNIT_EXPECT_EQ(test, 0L, test_objects);
}

static int test_map_at(struct io_pagetable *iopt, u64 iova, unsigned long va,
		       u64 length)
{
	return iopt_map_user_pages(iopt, &iova, va, length, true, 0);
}

/* The IOVA that is chosen, or an errno as a huge number. */
static u64 test_map_auto(struct io_pagetable *iopt, unsigned long va,
			 u64 length)
{
	u64 iova = 0;
	int rc = iopt_map_user_pages(iopt, &iova, va, length, true,
				     IOPT_ALLOC_IOVA);

	return rc ? (u64)rc : iova;
}

static int test_unmap(struct io_pagetable *iopt, u64 iova, u64 length)
{
	u64 unmapped;
	int rc = iopt_unmap_iova(iopt, iova, length, &unmapped);

	return rc ?: unmapped >> PAGE_SHIFT;
}

static int test_phys(struct io_pagetable *iopt, u64 iova, u64 *phys)
{
	u64 length = 1;

	return iopt_get_phys(iopt, iova, phys, &length);
}

static void test_add_hwpt(struct kunit *test, struct io_pagetable *iopt, int rc)
{
	mutex_lock(&iopt->hwpt_mutex);
	KUNIT_EXPECT_EQ(test, rc, iopt_table_add_hwpt(iopt));
	mutex_unlock(&iopt->hwpt_mutex);
}

static void test_remove_hwpt(struct io_pagetable *iopt)
{
	mutex_lock(&iopt->hwpt_mutex);
	iopt_table_remove_hwpt(iopt);
	mutex_unlock(&iopt->hwpt_mutex);
}

/*
 * Automatic IOVA.
 */

static void iopt_test_auto_iova(struct kunit *test)
{
	struct io_pagetable *iopt = &((struct iopt_test *)test->priv)->iopt;
	const u64 align = IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) ? PMD_SIZE :
								    PAGE_SIZE;

	/* Never 0; the first that fits; the offset in the page is kept. */
	KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE,
			test_map_auto(iopt, 0x7000, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE * 2,
			test_map_auto(iopt, 0x7000, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE * 3 + 0x123,
			test_map_auto(iopt, 0x7123, 8));
	/* As aligned as the address is, up to a huge page. */
	KUNIT_EXPECT_EQ(test, max_t(u64, align, 4 * PAGE_SIZE),
			test_map_auto(iopt, 1 << 30, 1 << 22));
	KUNIT_EXPECT_EQ(test, 2, test_unmap(iopt, PAGE_SIZE, 2 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE,
			test_map_auto(iopt, 0x9000, 2 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, (u64)-EOVERFLOW,
			test_map_auto(iopt, 0x1000, U64_MAX / 2));
}

static void iopt_test_auto_iova_full(struct kunit *test)
{
	struct io_pagetable *iopt = &((struct iopt_test *)test->priv)->iopt;
	struct rb_root_cached allowed = RB_ROOT_CACHED;

	KUNIT_ASSERT_EQ(test, 0, iopt_add_allowed(&allowed, 0x10000, 0x13fff));
	KUNIT_ASSERT_EQ(test, 0, iopt_add_allowed(&allowed, 0x20000, 0x20fff));
	KUNIT_ASSERT_EQ(test, 0, iopt_set_allow_iova(iopt, &allowed));
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&allowed.rb_root));

	KUNIT_EXPECT_EQ(test, 0x10000ULL, test_map_auto(iopt, 0x1000, 0x3000));
	KUNIT_EXPECT_EQ(test, (u64)-ENOSPC,
			test_map_auto(iopt, 0x1000, 0x2000));
	KUNIT_EXPECT_EQ(test, 0x13000ULL, test_map_auto(iopt, 0x1000, 0x1000));
	KUNIT_EXPECT_EQ(test, 0x20000ULL, test_map_auto(iopt, 0x1000, 0x1000));
	KUNIT_EXPECT_EQ(test, (u64)-ENOSPC,
			test_map_auto(iopt, 0x1000, 0x1000));
	/* A fixed IOVA may be anywhere. */
	KUNIT_EXPECT_EQ(test, 0, test_map_at(iopt, 0x30000, 0x1000, 0x1000));

	/* The list is lifted. */
	KUNIT_ASSERT_EQ(test, 0, iopt_set_allow_iova(iopt, &allowed));
	iopt_free_allowed(&allowed);
	KUNIT_EXPECT_EQ(test, 0x1000ULL, test_map_auto(iopt, 0x1000, 0x1000));
}

static void iopt_test_allowed_list(struct kunit *test)
{
	struct rb_root_cached allowed = RB_ROOT_CACHED;

	KUNIT_EXPECT_EQ(test, -EINVAL, iopt_add_allowed(&allowed, 5, 5));
	KUNIT_EXPECT_EQ(test, -EINVAL, iopt_add_allowed(&allowed, 6, 5));
	KUNIT_EXPECT_EQ(test, 0, iopt_add_allowed(&allowed, 0x1000, 0x1fff));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			iopt_add_allowed(&allowed, 0x1fff, 0x2fff));
	KUNIT_EXPECT_EQ(test, -EINVAL, iopt_add_allowed(&allowed, 0, U64_MAX));
	KUNIT_EXPECT_EQ(test, 0, iopt_add_allowed(&allowed, 0x2000, U64_MAX));
	KUNIT_EXPECT_EQ(test, 0, iopt_add_allowed(&allowed, 0, 0xfff));
	iopt_free_allowed(&allowed);
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&allowed.rb_root));
}

/* Against a bitmap of pages: the answer is the first place that fits. */
static void iopt_test_auto_iova_random(struct kunit *test)
{
	struct io_pagetable *iopt = &((struct iopt_test *)test->priv)->iopt;
	const unsigned int npages = 256;
	u8 *taken = kunit_kzalloc(test, npages + 64, GFP_KERNEL);
	struct rb_root_cached allowed = RB_ROOT_CACHED;
	u32 seed = get_random_u32();
	struct rnd_state rnd;
	unsigned int step, i, n, start;
	u64 iova;

	KUNIT_ASSERT_TRUE(test, taken);
	kunit_info(test, "seed %u\n", seed);
	prandom_seed_state(&rnd, seed);
	KUNIT_ASSERT_EQ(test, 0, iopt_add_allowed(&allowed, 0,
						  npages * PAGE_SIZE - 1));
	KUNIT_ASSERT_EQ(test, 0, iopt_set_allow_iova(iopt, &allowed));
	taken[0] = 255;
	memset(taken + npages, 255, 64);

	for (step = 0; step < 4000; step++) {
		n = 1 + prandom_u32_state(&rnd) % 24;
		if (prandom_u32_state(&rnd) % 2) {
			/* Take one away: number n of those there are. */
			for (i = 1; i < npages && n; i++)
				if (taken[i] && taken[i] != taken[i - 1])
					n--;
			if (n || i >= npages)
				continue;
			start = i - 1;
			for (n = 1; taken[start + n] == taken[start]; n++)
				;
			KUNIT_ASSERT_EQ(test, (int)n,
					test_unmap(iopt, start * PAGE_SIZE,
						   n * PAGE_SIZE));
			memset(taken + start, 0, n);
			continue;
		}
		for (start = 1; start < npages; start++) {
			for (i = 0; i < n && !taken[start + i]; i++)
				;
			if (i == n)
				break;
		}
		/* An odd page: no alignment beyond it. */
		iova = test_map_auto(iopt, 0x7f001000, n * PAGE_SIZE);
		if (start >= npages) {
			KUNIT_ASSERT_EQ(test, (u64)-ENOSPC, iova);
			continue;
		}
		KUNIT_ASSERT_EQ(test, (u64)start * PAGE_SIZE, iova);
		/* Neighbours have to differ. */
		memset(taken + start, 1 + step % 250, n);
		if (taken[start - 1] == taken[start] ||
		    taken[start + n] == taken[start])
			memset(taken + start, 251 + step % 3, n);
	}
	iopt_free_allowed(&allowed);
}

static struct kunit_case iopt_iova_cases[] = {
	KUNIT_CASE(iopt_test_auto_iova),
	KUNIT_CASE(iopt_test_auto_iova_full),
	KUNIT_CASE(iopt_test_allowed_list),
	KUNIT_CASE(iopt_test_auto_iova_random),
	{}
};

static struct kunit_suite iopt_iova_suite = {
	.name = "iopt_iova",
	.init = iopt_test_init,
	.exit = iopt_test_exit,
	.test_cases = iopt_iova_cases,
};

/*
 * Areas.
 */

static void iopt_test_map(struct kunit *test)
{
	struct io_pagetable *iopt = &((struct iopt_test *)test->priv)->iopt;

	KUNIT_EXPECT_EQ(test, 0, test_map_at(iopt, 0x10000, 0x5000, 0x2000));
	KUNIT_EXPECT_EQ(test, -EEXIST, test_map_at(iopt, 0x11fff, 0, 1));
	KUNIT_EXPECT_EQ(test, -EEXIST, test_map_at(iopt, 0, 0, 0x10001));
	KUNIT_EXPECT_EQ(test, 0, test_map_at(iopt, 0, 0, 0x10000));
	KUNIT_EXPECT_EQ(test, -EOVERFLOW, test_map_at(iopt, -2ULL, 0, 3));
	KUNIT_EXPECT_EQ(test, 0, test_map_at(iopt, -2ULL, 0, 2));
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
}

static void iopt_test_unmap(struct kunit *test)
{
	struct io_pagetable *iopt = &((struct iopt_test *)test->priv)->iopt;
	u64 unmapped;
	int i;

	for (i = 1; i <= 4; i++)
		KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, i * 0x2000, 0x1000,
						     0x2000));
	KUNIT_EXPECT_EQ(test, -EINVAL, test_unmap(iopt, 0x2000, 0));
	KUNIT_EXPECT_EQ(test, -EOVERFLOW, test_unmap(iopt, 0x2000, U64_MAX));
	KUNIT_EXPECT_EQ(test, -ENOENT, test_unmap(iopt, 0, 0x2000));
	/* A part of one, at either end or after a whole one: all stay. */
	KUNIT_EXPECT_EQ(test, -ENOENT, test_unmap(iopt, 0x2000, 0x1000));
	KUNIT_EXPECT_EQ(test, -ENOENT, test_unmap(iopt, 0x3000, 0x1000));
	KUNIT_EXPECT_EQ(test, -ENOENT, test_unmap(iopt, 0x2000, 0x3000));
	KUNIT_EXPECT_EQ(test, 2, test_unmap(iopt, 0x2000, 0x2000));
	KUNIT_EXPECT_EQ(test, 4, test_unmap(iopt, 0x3000, 0x5000));
	KUNIT_EXPECT_EQ(test, 0, iopt_unmap_all(iopt, &unmapped));
	KUNIT_EXPECT_EQ(test, 0x2000ULL, unmapped);
	KUNIT_EXPECT_EQ(test, 0, iopt_unmap_all(iopt, &unmapped));
	KUNIT_EXPECT_EQ(test, 0ULL, unmapped);
}

static void iopt_test_copy(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	u64 at = 0x100000, phys;
	LIST_HEAD(areas);

	test_add_hwpt(test, &t->iopt, 0);
	test_add_hwpt(test, &t->other, 0);
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x10000, 0x5000,
					     0x3000));
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x13000, 0x9000,
					     0x3000));
	KUNIT_EXPECT_EQ(test, 6L, test_pinned);

	KUNIT_EXPECT_EQ(test, -EINVAL,
			iopt_clone_areas(&t->iopt, 0x10000, 0, &areas));
	KUNIT_EXPECT_EQ(test, -EOVERFLOW,
			iopt_clone_areas(&t->iopt, 0x10000, U64_MAX, &areas));
	KUNIT_EXPECT_EQ(test, -ENOENT,
			iopt_clone_areas(&t->iopt, 0xf000, 0x2000, &areas));
	KUNIT_EXPECT_EQ(test, -ENOENT,
			iopt_clone_areas(&t->iopt, 0x15000, 0x2000, &areas));
	KUNIT_EXPECT_TRUE(test, list_empty(&areas));

	/* Across both: two areas, nothing pinned again. */
	KUNIT_ASSERT_EQ(test, 0,
			iopt_clone_areas(&t->iopt, 0x12000, 0x2000, &areas));
	KUNIT_ASSERT_EQ(test, 0, iopt_map_areas(&t->other, &areas, 0x2000, &at,
						true, 0));
	KUNIT_EXPECT_EQ(test, 6L, test_pinned);
	KUNIT_EXPECT_EQ(test, 0, test_phys(&t->other, 0x100000, &phys));
	KUNIT_EXPECT_EQ(test, 0x7000ULL, phys);
	KUNIT_EXPECT_EQ(test, 0, test_phys(&t->other, 0x101000, &phys));
	KUNIT_EXPECT_EQ(test, 0x9000ULL, phys);

	/* The copied pages alone stay. */
	KUNIT_EXPECT_EQ(test, 6, test_unmap(&t->iopt, 0x10000, 0x6000));
	KUNIT_EXPECT_EQ(test, 2L, test_pinned);
	KUNIT_EXPECT_EQ(test, 0, test_phys(&t->other, 0x101000, &phys));
	KUNIT_EXPECT_EQ(test, 2, test_unmap(&t->other, 0x100000, 0x2000));
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
	test_remove_hwpt(&t->iopt);
	test_remove_hwpt(&t->other);
}

static void iopt_test_copy_read_only(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	u64 at = 0x10000;
	LIST_HEAD(areas);

	KUNIT_ASSERT_EQ(test, 0, iopt_map_user_pages(&t->iopt, &at, 0x5000,
						     0x1000, false, 0));
	KUNIT_ASSERT_EQ(test, 0,
			iopt_clone_areas(&t->iopt, 0x10000, 0x1000, &areas));
	KUNIT_EXPECT_EQ(test, -EPERM,
			iopt_map_areas(&t->other, &areas, 0x1000, &at, true,
				       0));
	KUNIT_EXPECT_EQ(test, 0, iopt_map_areas(&t->other, &areas, 0x1000, &at,
						false, 0));
}

/*
 * When memory is pinned.
 */

static void iopt_test_lazy(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	struct io_pagetable *iopt = &t->iopt;
	u64 phys;

	atomic_set(&t->ictx.nr_devices, 1);
	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x10000, 0x5000, 0x2000));
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, test_phys(iopt, 0x10000, &phys));
	KUNIT_EXPECT_EQ(test, -ENOENT, test_phys(iopt, 0x12000, &phys));

	test_add_hwpt(test, iopt, 0);
	KUNIT_EXPECT_EQ(test, 2L, test_pinned);
	KUNIT_EXPECT_EQ(test, 0, test_phys(iopt, 0x11000, &phys));
	KUNIT_EXPECT_EQ(test, 0x6000ULL, phys);
	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x20000, 0x9000, 0x1000));
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);

	/* The device may still be at it. */
	test_remove_hwpt(iopt);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, test_phys(iopt, 0x11000, &phys));
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);
	iopt_unpin_unused(iopt);
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);
	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x30000, 0x9000, 0x1000));
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);
	/* UNMAP is the program's word. */
	KUNIT_EXPECT_EQ(test, 1, test_unmap(iopt, 0x20000, 0x1000));
	KUNIT_EXPECT_EQ(test, 2L, test_pinned);

	test_add_hwpt(test, iopt, 0);
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);
	test_remove_hwpt(iopt);
	atomic_set(&t->ictx.nr_devices, 0);
	iopt_unpin_unused(iopt);
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, test_phys(iopt, 0x11000, &phys));

	/* No device: nothing to wait for. */
	test_add_hwpt(test, iopt, 0);
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);
	test_remove_hwpt(iopt);
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
}

static void iopt_test_fill_fails(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	struct io_pagetable *iopt = &t->iopt;
	u64 phys;
	int i;

	atomic_set(&t->ictx.nr_devices, 1);
	/* One that is pinned from before stays so. */
	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x50000, 0x5000, 0x2000));
	test_add_hwpt(test, iopt, 0);
	test_remove_hwpt(iopt);
	for (i = 1; i <= 4; i++)
		KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, i * 0x2000, 0x1000,
						     0x2000));
	for (i = 0; i < 4; i++) {
		test_fill_fails_after = i;
		test_add_hwpt(test, iopt, -EFAULT);
		KUNIT_EXPECT_EQ(test, 2L, test_pinned);
		KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
				test_phys(iopt, 0x50000, &phys));
	}
	test_fill_fails_after = -1;
	test_add_hwpt(test, iopt, 0);
	KUNIT_EXPECT_EQ(test, 10L, test_pinned);

	/* A MAP that fails leaves its IOVA free. */
	test_fill_fails_after = 0;
	KUNIT_EXPECT_EQ(test, -EFAULT, test_map_at(iopt, 0x60000, 0, 0x1000));
	KUNIT_EXPECT_EQ(test, -ENOENT, test_phys(iopt, 0x60000, &phys));
	KUNIT_EXPECT_EQ(test, 0, test_map_at(iopt, 0x60000, 0, 0x1000));
	test_remove_hwpt(iopt);
}

static void iopt_test_alignment(struct kunit *test)
{
	struct io_pagetable *iopt = &((struct iopt_test *)test->priv)->iopt;

	KUNIT_EXPECT_EQ(test, 1ULL, iopt_iova_alignment(iopt));
	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x10010, 0x5010, 0x20));
	test_add_hwpt(test, iopt, -EADDRINUSE);
	KUNIT_EXPECT_EQ(test, -EADDRINUSE, iopt_set_large_pages(iopt, false));
	KUNIT_EXPECT_EQ(test, 1, test_unmap(iopt, 0x10010, 0x20) + 1);
	test_add_hwpt(test, iopt, 0);
	KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE, iopt_iova_alignment(iopt));
	KUNIT_EXPECT_EQ(test, -EINVAL, test_map_at(iopt, 8, 0x5000, 0x1000));
	KUNIT_EXPECT_EQ(test, -EINVAL, test_map_at(iopt, 0, 0x5008, 0x1000));
	KUNIT_EXPECT_EQ(test, -EINVAL, test_map_at(iopt, 0, 0x5000, 0x1008));
	KUNIT_EXPECT_EQ(test, 0, test_map_at(iopt, 0, 0x5000, 0x1000));
	KUNIT_EXPECT_EQ(test, -EINVAL, iopt_set_large_pages(iopt, false));
	KUNIT_EXPECT_EQ(test, 0, iopt_set_large_pages(iopt, true));
	test_remove_hwpt(iopt);
	KUNIT_EXPECT_EQ(test, 0, iopt_set_large_pages(iopt, false));
	KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE, iopt_iova_alignment(iopt));
	KUNIT_EXPECT_EQ(test, 0, iopt_set_large_pages(iopt, true));
	KUNIT_EXPECT_EQ(test, 1ULL, iopt_iova_alignment(iopt));
}

static struct kunit_case iopt_area_cases[] = {
	KUNIT_CASE(iopt_test_map),
	KUNIT_CASE(iopt_test_unmap),
	KUNIT_CASE(iopt_test_copy),
	KUNIT_CASE(iopt_test_copy_read_only),
	KUNIT_CASE(iopt_test_lazy),
	KUNIT_CASE(iopt_test_fill_fails),
	KUNIT_CASE(iopt_test_alignment),
	{}
};

static struct kunit_suite iopt_area_suite = {
	.name = "iopt_area",
	.init = iopt_test_init,
	.exit = iopt_test_exit,
	.test_cases = iopt_area_cases,
};

kunit_test_suites(&iopt_iova_suite, &iopt_area_suite);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("KUnit tests of the IO address space of noiommufd");
