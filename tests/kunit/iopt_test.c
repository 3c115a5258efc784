// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit suites of the IO address space: areas, allowed ranges, automatic IOVAs,
 * and when memory is pinned. They include io_pagetable.c, on top of pinning
 * functions that only count. The software page table is the real one.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/interval_tree_generic.h>
#include <linux/limits.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/prandom.h>
#include <linux/random.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#define noiommu_alloc_user_pages test_alloc_user_pages
#define noiommu_get_pages test_get_pages
#define noiommu_put_pages test_put_pages
#define noiommu_area_fill test_area_fill
#define noiommu_area_unfill test_area_unfill
#define noiommu_areas_share test_areas_share
#define noiommu_alloc_file_pages test_alloc_file_pages
#define noiommu_get_account test_get_account
#define noiommu_put_account test_put_account
#define noiommu_pages_change_process test_change_process
#define noiommu_pages_restore_process test_restore_process
#define noiommu_pages_forget_process test_forget_process
#define noiommu_pages_get_payer test_get_payer

#include "../../src/iommufd/iommufd_private.h"
#include "alloc.h"

TEST_FREE_RCU(test_free_area, struct noiommu_area *)
TEST_FREE_RCU(test_free_pages, struct noiommu_pages *)
#undef kfree_rcu
#define kfree_rcu(ptr, ...)	test_free_area(ptr)

/* How many killable waits succeed before a signal ends one; -1: all do. */
static long test_killed_after = -1;

static bool test_killed(void)
{
	return test_killed_after >= 0 && !test_killed_after--;
}

/* How often the address space was locked for reading */
static unsigned int test_reads;

static int test_down_read(struct rw_semaphore *sem)
{
	test_reads++;
	return test_killed() ? -EINTR : down_read_killable(sem);
}

static int test_down_write(struct rw_semaphore *sem)
{
	return test_killed() ? -EINTR : down_write_killable(sem);
}

/* Completed when a thread is about to wait for a busy area. */
static DECLARE_COMPLETION(test_waits);

#undef wait_event_killable
#define wait_event_killable(wq, condition)                                \
	({                                                                \
		int __rc = test_killed() ? -ERESTARTSYS : 0;              \
									  \
		if (!__rc) {                                              \
			complete(&test_waits);                            \
			wait_event(wq, condition);                        \
		}                                                         \
		__rc;                                                     \
	})

#undef mutex_lock_killable
static int test_mutex_lock(struct mutex *lock)
{
	if (test_killed())
		return -EINTR;
	mutex_lock(lock);
	return 0;
}

/* How many checks find no fatal signal before one is pending; -1: all do. */
static long test_signal_after = -1;

static bool test_fatal_signal(void)
{
	if (test_signal_after > 0)
		test_signal_after--;
	else if (!test_signal_after)
		return true;
	return false;
}

#define fatal_signal_pending(task)	((void)(task), test_fatal_signal())

/* Called in the middle of a lookup. */
static void (*test_lookup_hook)(struct swpt *swpt);

static int test_swpt_lookup(const struct swpt *swpt, u64 iova, u64 *phys,
			    u64 *length)
{
	int rc = swpt_lookup(swpt, iova, phys, length);

	if (test_lookup_hook)
		test_lookup_hook((struct swpt *)swpt);
	return rc;
}

static int test_swpt_lookup_runs(const struct swpt *swpt, u64 last,
				 struct swpt_runs *runs)
{
	int rc = swpt_lookup_runs(swpt, last, runs);

	if (test_lookup_hook)
		test_lookup_hook((struct swpt *)swpt);
	return rc;
}

#define down_read_killable	test_down_read
#define down_write_killable	test_down_write
#define mutex_lock_killable	test_mutex_lock
#define swpt_lookup		test_swpt_lookup
#define swpt_lookup_runs	test_swpt_lookup_runs

#include "../../src/iommufd/io_pagetable.c"

struct iopt_test {
	struct noiommufd_ctx ictx;
	struct io_pagetable iopt;
	struct io_pagetable other;
	struct work_struct work;
	int rc;
	bool hooked;
};

/*
 * Pins held, pages objects, how many fills succeed before one fails (-1: all
 * do), and what to call during a fill, when the address space is not locked.
 */
static long test_pinned;
static long test_objects;
static long test_fill_fails_after = -1;
static void (*test_fill_hook)(struct kunit *test);
static struct kunit *test_fill_test;

struct noiommu_pages *noiommu_alloc_user_pages(unsigned long uptr,
					       unsigned long length,
					       bool writable, u8 account_mode,
					       struct noiommu_account __rcu **last)
{
	struct noiommu_pages *pages = kzalloc(sizeof(*pages), GFP_KERNEL);

	if (!pages)
		return ERR_PTR(-ENOMEM);
	swpt_pages_init(&pages->swpt, NULL);
	refcount_set(&pages->refs, 1);
	mutex_init(&pages->mutex);
	INIT_LIST_HEAD(&pages->item);
	pages->start = uptr & PAGE_MASK;
	pages->writable = writable;
	test_objects++;
	return pages;
}

void noiommu_get_pages(struct noiommu_pages *pages)
{
	refcount_inc(&pages->refs);
}

void noiommu_put_pages(struct noiommu_pages *pages)
{
	if (!refcount_dec_and_test(&pages->refs))
		return;
	test_objects--;
	mutex_destroy(&pages->mutex);
	test_free_pages(pages);
}

static void test_release(void *arg, const u64 *words, unsigned int nr,
			 u64 npages)
{
	test_pinned -= nr * npages;
}

/* The PFN of page n of a pages object is start / PAGE_SIZE + n. */
static int test_fill(struct swpt_pages *pages, struct noiommu_area *area)
{
	u64 first = area->swpt.first_index, last = area->swpt.last_index, end;
	u64 base = PHYS_PFN(area->pages->start), pinned = 0;
	struct swpt_builder fill;
	int rc = 0;

	swpt_builder_init(&fill);
	while (swpt_pages_next_hole(pages, &first, last, &end)) {
		swpt_builder_seek(&fill, first);
		rc = swpt_builder_add(&fill, base + first, end - first + 1);
		if (rc)
			goto abort;
		pinned += end - first + 1;
		if (end == last)
			break;
		first = end + 1;
	}
	if (pinned)
		rc = swpt_builder_commit(&fill, pages);
	if (rc)
		goto abort;
	test_pinned += pinned;
	swpt_pages_add_area(pages, &area->swpt);
	return 0;
abort:
	swpt_builder_abort(&fill, NULL, NULL);
	return rc;
}

int noiommu_area_fill(struct noiommu_area *area, u64 max_pfn)
{
	void (*hook)(struct kunit *test) = test_fill_hook;
	int rc;

	if (test_fill_fails_after >= 0 && !test_fill_fails_after--)
		return -EFAULT;

	if (hook) {
		/* The hook runs once. */
		test_fill_hook = NULL;
		hook(test_fill_test);
	}
	mutex_lock(&area->pages->mutex);
	rc = test_fill(&area->pages->swpt, area);
	mutex_unlock(&area->pages->mutex);
	return rc;
}

/* Called while an area is being unpinned, which no signal can end. */
static void (*test_unfill_hook)(struct kunit *test);

void noiommu_area_unfill(struct noiommu_area *area)
{
	void (*hook)(struct kunit *test) = test_unfill_hook;

	if (hook) {
		test_unfill_hook = NULL;
		hook(test_fill_test);
	}
	mutex_lock(&area->pages->mutex);
	swpt_pages_remove_area(&area->pages->swpt, &area->swpt, test_release,
			       NULL);
	mutex_unlock(&area->pages->mutex);
}

int noiommu_areas_share(struct noiommu_area *const *areas, unsigned int nr)
{
	void (*hook)(struct kunit *test) = test_fill_hook;
	struct noiommu_pages *pages = areas[0]->pages;

	if (hook) {
		test_fill_hook = NULL;
		hook(test_fill_test);
	}
	if (test_mutex_lock(&pages->mutex))
		return -EINTR;
	while (nr--)
		swpt_pages_add_area(&pages->swpt, &areas[nr]->swpt);
	mutex_unlock(&pages->mutex);
	return 0;
}

/* Files are tested in the guests; here fd 0 is the only one. */
struct noiommu_pages *noiommu_alloc_file_pages(int fd, u64 start, u64 length,
					       bool writable, u8 account_mode,
					       struct noiommu_account __rcu **last)
{
	struct noiommu_pages *pages;

	if (fd)
		return ERR_PTR(-EBADF);
	pages = noiommu_alloc_user_pages(start, length, writable, account_mode,
					 last);
	if (!IS_ERR(pages))
		pages->type = IOPT_ADDRESS_FILE;
	return pages;
}

/* Calls for a pages object; how many succeed before one fails (-1: all do). */
static long test_changed, test_restored, test_forgotten;
static long test_change_fails_after = -1;
/* Called while charges are being transferred. */
static void (*test_change_hook)(struct kunit *test);

struct noiommu_account *noiommu_get_account(struct noiommu_account __rcu **last)
{
	static struct noiommu_account account;

	return &account;
}

void noiommu_put_account(struct noiommu_account *account)
{
}

int noiommu_pages_change_process(struct noiommu_pages *pages,
				 struct noiommu_account *account)
{
	if (test_change_hook)
		test_change_hook(test_fill_test);
	if (test_change_fails_after >= 0 && !test_change_fails_after--)
		return -ENOMEM;
	test_changed++;
	return 0;
}

void noiommu_pages_restore_process(struct noiommu_pages *pages)
{
	test_restored++;
}

void noiommu_pages_forget_process(struct noiommu_pages *pages)
{
	test_forgotten++;
}

/* The upper half of the address says who pays; each pages object is a page. */
void noiommu_pages_get_payer(struct noiommu_pages *pages,
			     struct noiommu_payer *payer)
{
	*payer = (struct noiommu_payer){
		.mode = IOPT_PAGES_ACCOUNT_USER,
		.pid = pages->start >> 32,
		.npages = 1,
	};
}

/* The noiommu_iova_base from before the first test. */
static u64 test_iova_base;

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
	test_killed_after = -1;
	test_signal_after = -1;
	test_change_fails_after = -1;
	test_change_hook = NULL;
	test_fill_hook = NULL;
	test_unfill_hook = NULL;
	test_lookup_hook = NULL;
	if (!test_iova_base)
		test_iova_base = noiommu_iova_base;
	/* As in mainline: the IOVAs are easier to read. */
	noiommu_iova_base = PAGE_SIZE;
	noiommu_init_table(&t->iopt, &t->ictx);
	noiommu_init_table(&t->other, &t->ictx);
	test->priv = t;
	return 0;
}

static void iopt_test_exit(struct kunit *test)
{
	struct iopt_test *t = test->priv;

	if (!t)
		return;
	/* A test that failed must not affect the next one. */
	test_killed_after = -1;
	test_signal_after = -1;
	noiommufd_test_fail_after = -1;
	t->iopt.nr_pinning = 0;
	t->other.nr_pinning = 0;
	noiommu_destroy_table(&t->iopt);
	noiommu_destroy_table(&t->other);
	swpt_module_exit();
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
	KUNIT_EXPECT_EQ(test, 0L, test_objects);
	test_expect_none_allocated(test);
}

static int test_map_at(struct io_pagetable *iopt, u64 iova, unsigned long va,
		       u64 length)
{
	return noiommu_map_user_pages(iopt, &iova, va, length, true, 0, NULL,
				      NULL);
}

/* Returns the chosen IOVA, or a negative errno as a huge number. */
static u64 test_map_auto(struct io_pagetable *iopt, unsigned long va,
			 u64 length)
{
	u64 iova = 0;
	int rc = noiommu_map_user_pages(iopt, &iova, va, length, true,
					IOPT_ALLOC_IOVA, NULL, NULL);

	return rc ? (u64)rc : iova;
}

static int test_unmap(struct io_pagetable *iopt, u64 iova, u64 length)
{
	u64 unmapped;
	int rc = noiommu_unmap_iova(iopt, iova, length, &unmapped);

	/* The ioctl handler makes an empty range an error. */
	if (!rc && !unmapped)
		return -ENOENT;
	return rc ?: unmapped >> PAGE_SHIFT;
}

static int test_phys(struct io_pagetable *iopt, u64 iova, u64 *phys)
{
	u64 length = 1;

	return noiommu_get_phys(iopt, iova, phys, &length);
}

static void test_add_hwpt(struct kunit *test, struct io_pagetable *iopt, int rc)
{
	mutex_lock(&iopt->hwpt_mutex);
	KUNIT_EXPECT_EQ(test, rc, noiommu_table_add_hwpt(iopt, NULL, NULL));
	mutex_unlock(&iopt->hwpt_mutex);
}

static void test_remove_hwpt(struct io_pagetable *iopt)
{
	noiommu_table_remove_hwpt(iopt);
}

static u64 test_alignment(struct io_pagetable *iopt)
{
	u64 alignment;

	down_read(&iopt->iova_rwsem);
	alignment = noiommu_iova_alignment(iopt);
	up_read(&iopt->iova_rwsem);
	return alignment;
}

/*
 * Automatic IOVA.
 */

static void iopt_test_auto_iova(struct kunit *test)
{
	struct io_pagetable *iopt = &((struct iopt_test *)test->priv)->iopt;

	/* The first IOVA that fits, never 0, with the offset in the page. */
	KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE,
			test_map_auto(iopt, 0x7000, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE * 2,
			test_map_auto(iopt, 0x7000, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE * 3 + 0x123,
			test_map_auto(iopt, 0x7123, 8));
	/* Aligned like the address, up to the size of a huge page. */
	KUNIT_EXPECT_EQ(test, (u64)PMD_SIZE,
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

	KUNIT_ASSERT_EQ(test, 0,
			noiommu_add_allowed(&allowed, 0x10000, 0x13fff));
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_add_allowed(&allowed, 0x20000, 0x20fff));
	KUNIT_ASSERT_EQ(test, 0, noiommu_set_allow_iova(iopt, &allowed));
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

	/* An empty list allows everything again. */
	KUNIT_ASSERT_EQ(test, 0, noiommu_set_allow_iova(iopt, &allowed));
	noiommu_free_allowed(&allowed);
	KUNIT_EXPECT_EQ(test, 0x1000ULL, test_map_auto(iopt, 0x1000, 0x1000));
}

static void iopt_test_allowed_list(struct kunit *test)
{
	struct rb_root_cached allowed = RB_ROOT_CACHED;

	KUNIT_EXPECT_EQ(test, -EINVAL, noiommu_add_allowed(&allowed, 5, 5));
	KUNIT_EXPECT_EQ(test, -EINVAL, noiommu_add_allowed(&allowed, 6, 5));
	KUNIT_EXPECT_EQ(test, 0, noiommu_add_allowed(&allowed, 0x1000, 0x1fff));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			noiommu_add_allowed(&allowed, 0x1fff, 0x2fff));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			noiommu_add_allowed(&allowed, 0, U64_MAX));
	KUNIT_EXPECT_EQ(test, 0,
			noiommu_add_allowed(&allowed, 0x2000, U64_MAX));
	KUNIT_EXPECT_EQ(test, 0, noiommu_add_allowed(&allowed, 0, 0xfff));
	noiommu_free_allowed(&allowed);
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&allowed.rb_root));
}

/* Compare with a map of pages: the IOVA is the first place that fits. */
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
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_add_allowed(&allowed, 0,
					    npages * PAGE_SIZE - 1));
	KUNIT_ASSERT_EQ(test, 0, noiommu_set_allow_iova(iopt, &allowed));
	taken[0] = 255;
	memset(taken + npages, 255, 64);

	for (step = 0; step < (IS_ENABLED(CONFIG_KASAN) ? 1000 : 4000); step++) {
		n = 1 + prandom_u32_state(&rnd) % 24;
		if (prandom_u32_state(&rnd) % 2) {
			/* Unmap the n-th area. */
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
		/* The address of an odd page asks for no more alignment. */
		iova = test_map_auto(iopt, 0x7f001000, n * PAGE_SIZE);
		if (start >= npages) {
			KUNIT_ASSERT_EQ(test, (u64)-ENOSPC, iova);
			continue;
		}
		KUNIT_ASSERT_EQ(test, (u64)start * PAGE_SIZE, iova);
		/* Adjacent areas must have different marks. */
		memset(taken + start, 1 + step % 250, n);
		if (taken[start - 1] == taken[start] ||
		    taken[start + n] == taken[start])
			memset(taken + start, 251 + step % 3, n);
	}
	noiommu_free_allowed(&allowed);
}

/* Nothing fits, because of the alignment or at either end of the IOVA space. */
static void iopt_test_auto_iova_edges(struct kunit *test)
{
	struct io_pagetable *iopt = &((struct iopt_test *)test->priv)->iopt;
	struct rb_root_cached allowed = RB_ROOT_CACHED;
	const u64 top = -(u64)PAGE_SIZE;

	/* The last page is never allocated, not even in part. */
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_add_allowed(&allowed, top - 0x3000, U64_MAX));
	KUNIT_ASSERT_EQ(test, 0, noiommu_add_allowed(&allowed, 0, 0x1fff));
	KUNIT_ASSERT_EQ(test, 0, noiommu_set_allow_iova(iopt, &allowed));
	KUNIT_EXPECT_EQ(test, top - 0x3000,
			test_map_auto(iopt, 0, 2 * PAGE_SIZE));
	/* Aligned, it would begin past the end, or wrap. */
	KUNIT_EXPECT_EQ(test, (u64)-ENOSPC, test_map_auto(iopt, 0, 1 << 30));
	KUNIT_EXPECT_EQ(test, 0x1000ULL, test_map_auto(iopt, 0, PAGE_SIZE));
	/* One page is left: too small with the offset, then large enough. */
	KUNIT_EXPECT_EQ(test, (u64)-ENOSPC,
			test_map_auto(iopt, 0x801, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, top - 0x1000 + 0x801,
			test_map_auto(iopt, 0x801, 0x10));
	KUNIT_EXPECT_EQ(test, (u64)-ENOSPC,
			test_map_auto(iopt, 0x1000, 0x1000));
	noiommu_free_allowed(&allowed);
}

/* With an HWPT, only whole pages can be mapped. */
static void iopt_test_auto_iova_pinned(struct kunit *test)
{
	struct io_pagetable *iopt = &((struct iopt_test *)test->priv)->iopt;

	test_add_hwpt(test, iopt, 0);
	KUNIT_EXPECT_EQ(test, (u64)-EINVAL, test_map_auto(iopt, 0x1000, 0x10));
	KUNIT_EXPECT_EQ(test, (u64)-EINVAL,
			test_map_auto(iopt, 0x1010, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE,
			test_map_auto(iopt, 0x1000, PAGE_SIZE));
	test_remove_hwpt(iopt);
}

/* IOVAs where there is no memory, while that range has room and is allowed. */
static void iopt_test_auto_iova_base(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	struct io_pagetable *iopt = &t->iopt;
	struct rb_root_cached allowed = RB_ROOT_CACHED;
	const u64 base = 0x4000888000000000, size = 1ULL << 38;

	noiommu_iova_base = test_iova_base;
	KUNIT_EXPECT_EQ(test, base, test_map_auto(iopt, 0x7000, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, base + PAGE_SIZE,
			test_map_auto(iopt, 0x7000, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, base + PMD_SIZE,
			test_map_auto(iopt, 1 << 30, 1 << 22));
	/* A freed IOVA is used again. */
	KUNIT_EXPECT_EQ(test, 1, test_unmap(iopt, base, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, base, test_map_auto(iopt, 0x7000, PAGE_SIZE));

	/* First no part of the range is allowed, then only its end. */
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_add_allowed(&allowed, 0x10000, 0x1ffff));
	KUNIT_ASSERT_EQ(test, 0, noiommu_set_allow_iova(iopt, &allowed));
	KUNIT_EXPECT_EQ(test, 0x10000ULL, test_map_auto(iopt, 0x7000, PAGE_SIZE));
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_add_allowed(&allowed, 0x10000, 0x1ffff));
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_add_allowed(&allowed, base + size - 0x4000,
					    base + size + 0x4000));
	KUNIT_ASSERT_EQ(test, 0, noiommu_set_allow_iova(iopt, &allowed));
	noiommu_free_allowed(&allowed);
	KUNIT_EXPECT_EQ(test, base + size - 0x4000,
			test_map_auto(iopt, 0x7000, 0x3000));
	KUNIT_EXPECT_EQ(test, base + size - 0x1000,
			test_map_auto(iopt, 0x7000, PAGE_SIZE));
	/* What room is left is past the end of the range. */
	KUNIT_EXPECT_EQ(test, 0x11000ULL, test_map_auto(iopt, 0x7000, PAGE_SIZE));

	/* The whole range is mapped. */
	KUNIT_EXPECT_EQ(test, 0, test_map_at(&t->other, base, 1 << 30, size));
	KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE,
			test_map_auto(&t->other, 0x7000, PAGE_SIZE));
	/* A parameter that leaves no room is ignored. */
	noiommu_iova_base = U64_MAX;
	KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE * 2,
			test_map_auto(&t->other, 0x7000, PAGE_SIZE));
	noiommu_iova_base = 0;
	KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE * 3,
			test_map_auto(&t->other, 0x7000, PAGE_SIZE));
}

static struct kunit_case noiommu_iova_cases[] = {
	KUNIT_CASE(iopt_test_auto_iova_base),
	KUNIT_CASE(iopt_test_auto_iova_edges),
	KUNIT_CASE(iopt_test_auto_iova_pinned),
	KUNIT_CASE(iopt_test_auto_iova),
	KUNIT_CASE(iopt_test_auto_iova_full),
	KUNIT_CASE(iopt_test_allowed_list),
	KUNIT_CASE(iopt_test_auto_iova_random),
	{}
};

static struct kunit_suite noiommu_iova_suite = {
	.name = "noiommu_iova",
	.init = iopt_test_init,
	.exit = iopt_test_exit,
	.test_cases = noiommu_iova_cases,
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
	/* A part of an area, also after a whole one: nothing is unmapped. */
	KUNIT_EXPECT_EQ(test, -ENOENT, test_unmap(iopt, 0x2000, 0x1000));
	KUNIT_EXPECT_EQ(test, -ENOENT, test_unmap(iopt, 0x3000, 0x1000));
	KUNIT_EXPECT_EQ(test, -ENOENT, test_unmap(iopt, 0x2000, 0x3000));
	KUNIT_EXPECT_EQ(test, 2, test_unmap(iopt, 0x2000, 0x2000));
	KUNIT_EXPECT_EQ(test, 4, test_unmap(iopt, 0x3000, 0x5000));
	KUNIT_EXPECT_EQ(test, 0, noiommu_unmap_all(iopt, &unmapped));
	KUNIT_EXPECT_EQ(test, 0x2000ULL, unmapped);
	KUNIT_EXPECT_EQ(test, 0, noiommu_unmap_all(iopt, &unmapped));
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
			noiommu_clone_areas(&t->iopt, 0x10000, 0, &areas));
	KUNIT_EXPECT_EQ(test, -EOVERFLOW,
			noiommu_clone_areas(&t->iopt, 0x10000, U64_MAX,
					    &areas));
	KUNIT_EXPECT_EQ(test, -ENOENT,
			noiommu_clone_areas(&t->iopt, 0xf000, 0x2000, &areas));
	KUNIT_EXPECT_EQ(test, -ENOENT,
			noiommu_clone_areas(&t->iopt, 0x15000, 0x2000, &areas));
	KUNIT_EXPECT_TRUE(test, list_empty(&areas));

	/* A range across both: two areas, and nothing is pinned again. */
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_clone_areas(&t->iopt, 0x12000, 0x2000, &areas));
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_map_areas(&t->other, &areas, 0x2000, &at, true,
					  0, NULL, NULL));
	KUNIT_EXPECT_EQ(test, 6L, test_pinned);
	KUNIT_EXPECT_EQ(test, 0, test_phys(&t->other, 0x100000, &phys));
	KUNIT_EXPECT_EQ(test, 0x7000ULL, phys);
	KUNIT_EXPECT_EQ(test, 0, test_phys(&t->other, 0x101000, &phys));
	KUNIT_EXPECT_EQ(test, 0x9000ULL, phys);

	/* Only the copied pages stay pinned. */
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

	KUNIT_ASSERT_EQ(test, 0,
			noiommu_map_user_pages(&t->iopt, &at, 0x5000, 0x1000,
					       false, 0, NULL, NULL));
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_clone_areas(&t->iopt, 0x10000, 0x1000, &areas));
	KUNIT_EXPECT_EQ(test, -EPERM,
			noiommu_map_areas(&t->other, &areas, 0x1000, &at, true,
					  0, NULL, NULL));
	KUNIT_EXPECT_EQ(test, 0,
			noiommu_map_areas(&t->other, &areas, 0x1000, &at, false,
					  0, NULL, NULL));
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

	/* The device may still access the memory. */
	test_remove_hwpt(iopt);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, test_phys(iopt, 0x11000, &phys));
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);
	noiommu_unpin_unused(iopt);
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);
	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x30000, 0x9000, 0x1000));
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);
	/* With UNMAP, the program says that the device is done with it. */
	KUNIT_EXPECT_EQ(test, 1, test_unmap(iopt, 0x20000, 0x1000));
	KUNIT_EXPECT_EQ(test, 2L, test_pinned);

	test_add_hwpt(test, iopt, 0);
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);
	test_remove_hwpt(iopt);
	atomic_set(&t->ictx.nr_devices, 0);
	noiommu_unpin_unused(iopt);
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, test_phys(iopt, 0x11000, &phys));

	/* Without a device, the memory is unpinned at once. */
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
	/* An area that was pinned before stays pinned. */
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

	KUNIT_EXPECT_EQ(test, 1ULL, test_alignment(iopt));
	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x10010, 0x5010, 0x20));
	test_add_hwpt(test, iopt, -EADDRINUSE);
	KUNIT_EXPECT_EQ(test, -EADDRINUSE,
			noiommu_set_large_pages(iopt, false));
	KUNIT_EXPECT_EQ(test, 1, test_unmap(iopt, 0x10010, 0x20) + 1);
	test_add_hwpt(test, iopt, 0);
	KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE, test_alignment(iopt));
	KUNIT_EXPECT_EQ(test, -EINVAL, test_map_at(iopt, 8, 0x5000, 0x1000));
	KUNIT_EXPECT_EQ(test, -EINVAL, test_map_at(iopt, 0, 0x5008, 0x1000));
	KUNIT_EXPECT_EQ(test, -EINVAL, test_map_at(iopt, 0, 0x5000, 0x1008));
	KUNIT_EXPECT_EQ(test, 0, test_map_at(iopt, 0, 0x5000, 0x1000));
	KUNIT_EXPECT_EQ(test, -EINVAL, noiommu_set_large_pages(iopt, false));
	KUNIT_EXPECT_EQ(test, 0, noiommu_set_large_pages(iopt, true));
	test_remove_hwpt(iopt);
	KUNIT_EXPECT_EQ(test, 0, noiommu_set_large_pages(iopt, false));
	KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE, test_alignment(iopt));
	KUNIT_EXPECT_EQ(test, 0, noiommu_set_large_pages(iopt, true));
	KUNIT_EXPECT_EQ(test, 1ULL, test_alignment(iopt));
}

/*
 * Concurrent ioctls: what another thread sees and can do while memory is being
 * pinned.
 */

static void test_hook_in_map(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	u64 phys, unmapped;
	LIST_HEAD(areas);

	/* The range is in use, but nothing else can be done with it yet. */
	KUNIT_EXPECT_EQ(test, -EEXIST,
			test_map_at(&t->iopt, 0x11000, 0x1000, 0x1000));
	KUNIT_EXPECT_EQ(test, -EBUSY, test_unmap(&t->iopt, 0x10000, 0x2000));
	KUNIT_EXPECT_EQ(test, -EBUSY, noiommu_unmap_all(&t->iopt, &unmapped));
	KUNIT_EXPECT_EQ(test, -ENOENT,
			noiommu_clone_areas(&t->iopt, 0x10000, 0x1000, &areas));
	KUNIT_EXPECT_EQ(test, -ENOENT, test_phys(&t->iopt, 0x10000, &phys));
	/* Another HWPT need not wait for it. */
	test_add_hwpt(test, &t->iopt, 0);
	KUNIT_EXPECT_EQ(test, 1L, test_pinned);
	t->hooked = true;
}

static void iopt_test_in_map(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	u64 phys;

	test_add_hwpt(test, &t->iopt, 0);
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x20000, 0x9000,
					     0x1000));
	test_fill_test = test;
	test_fill_hook = test_hook_in_map;
	KUNIT_EXPECT_EQ(test, 0, test_map_at(&t->iopt, 0x10000, 0x5000,
					     0x2000));
	KUNIT_EXPECT_TRUE(test, t->hooked);
	KUNIT_EXPECT_EQ(test, 0, test_phys(&t->iopt, 0x10000, &phys));
	KUNIT_EXPECT_EQ(test, 0x5000ULL, phys);
	test_remove_hwpt(&t->iopt);
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);
	test_remove_hwpt(&t->iopt);
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
}

static void test_hook_remove_hwpt(struct kunit *test)
{
	struct iopt_test *t = test->priv;

	test_remove_hwpt(&t->iopt);
}

/* The last HWPT is destroyed while a MAP pins memory. */
static void iopt_test_hwpt_goes_in_map(struct kunit *test)
{
	struct iopt_test *t = test->priv;

	test_fill_test = test;
	test_add_hwpt(test, &t->iopt, 0);
	test_fill_hook = test_hook_remove_hwpt;
	KUNIT_EXPECT_EQ(test, 0, test_map_at(&t->iopt, 0x10000, 0x5000,
					     0x2000));
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
	/* With a device, the memory stays pinned. */
	atomic_set(&t->ictx.nr_devices, 1);
	test_add_hwpt(test, &t->iopt, 0);
	test_fill_hook = test_hook_remove_hwpt;
	KUNIT_EXPECT_EQ(test, 0, test_map_at(&t->iopt, 0x20000, 0x5000,
					     0x1000));
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);
	atomic_set(&t->ictx.nr_devices, 0);
	noiommu_unpin_unused(&t->iopt);
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
}

static void test_unmap_work(struct work_struct *work)
{
	struct iopt_test *t = container_of(work, struct iopt_test, work);

	t->rc = test_unmap(&t->iopt, 0x10000, 0x2000);
}

static void test_hook_in_hwpt(struct kunit *test)
{
	struct iopt_test *t = test->priv;

	/* Below and above the area that is being pinned, which is busy. */
	KUNIT_EXPECT_EQ(test, 0, test_map_at(&t->iopt, 0x1000, 0x7000, 0x1000));
	KUNIT_EXPECT_EQ(test, 0, test_map_at(&t->iopt, 0x90000, 0x8000,
					     0x1000));
	KUNIT_EXPECT_EQ(test, 2L, test_pinned);
	KUNIT_EXPECT_EQ(test, -EEXIST,
			test_map_at(&t->iopt, 0x11000, 0x1000, 0x1000));
	KUNIT_EXPECT_EQ(test, 1, test_unmap(&t->iopt, 0x20000, 0x1000));
	test_killed_after = 1;
	KUNIT_EXPECT_EQ(test, -EINTR, test_unmap(&t->iopt, 0x10000, 0x2000));
	/* This UNMAP waits until the area is pinned. */
	reinit_completion(&test_waits);
	queue_work(system_unbound_wq, &t->work);
	KUNIT_EXPECT_NE(test, 0UL,
			wait_for_completion_timeout(&test_waits, 60 * HZ));
	t->hooked = true;
}

static void iopt_test_in_add_hwpt(struct kunit *test)
{
	struct iopt_test *t = test->priv;

	INIT_WORK(&t->work, test_unmap_work);
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x10000, 0x5000,
					     0x2000));
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x20000, 0x9000,
					     0x1000));
	test_fill_test = test;
	test_fill_hook = test_hook_in_hwpt;
	test_add_hwpt(test, &t->iopt, 0);
	KUNIT_ASSERT_TRUE(test, t->hooked);
	flush_work(&t->work);
	KUNIT_EXPECT_EQ(test, 2, t->rc);
	KUNIT_EXPECT_EQ(test, 2L, test_pinned);
	test_remove_hwpt(&t->iopt);
}

static void test_hook_last_device(struct kunit *test)
{
	struct iopt_test *t = test->priv;

	atomic_set(&t->ictx.nr_devices, 0);
	noiommu_unpin_unused(&t->iopt);
	t->hooked = true;
}

/* The last device goes away while an HWPT is being made, which then fails. */
static void iopt_test_device_goes_in_add_hwpt(struct kunit *test)
{
	struct iopt_test *t = test->priv;

	test_fill_test = test;
	atomic_set(&t->ictx.nr_devices, 1);
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x10000, 0x5000,
					     0x2000));
	test_add_hwpt(test, &t->iopt, 0);
	test_remove_hwpt(&t->iopt);
	KUNIT_EXPECT_EQ(test, 2L, test_pinned);
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x20000, 0x9000,
					     0x1000));
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x30000, 0xa000,
					     0x1000));
	test_fill_hook = test_hook_last_device;
	test_fill_fails_after = 1;
	test_add_hwpt(test, &t->iopt, -EFAULT);
	KUNIT_ASSERT_TRUE(test, t->hooked);
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
}

/* What a MAP and an HWPT do while another HWPT is about to be ready. */
static void (*test_ready_hook)(struct kunit *test);
static int test_ready_rc;

static int test_ready(void *arg)
{
	struct kunit *test = arg;
	struct iopt_test *t = test->priv;
	u64 phys;

	KUNIT_EXPECT_EQ(test, t->iopt.nr_hwpts ? 0 : -EOPNOTSUPP,
			test_phys(&t->iopt, 0x10000, &phys));
	KUNIT_EXPECT_EQ(test, 0, test_map_at(&t->iopt, 0x20000, 0x9000,
					     0x1000));
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);
	if (test_ready_hook)
		test_ready_hook(test);
	return test_ready_rc;
}

static int test_add_ready_hwpt(struct kunit *test, int rc)
{
	struct iopt_test *t = test->priv;

	test_ready_rc = rc;
	mutex_lock(&t->iopt.hwpt_mutex);
	rc = noiommu_table_add_hwpt(&t->iopt, test_ready, test);
	mutex_unlock(&t->iopt.hwpt_mutex);
	return rc;
}

/*
 * An HWPT translates nothing until it is ready, and leaves nothing if it fails.
 */
static void iopt_test_hwpt_ready(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	u64 phys;

	atomic_set(&t->ictx.nr_devices, 1);
	test_ready_hook = NULL;
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x10000, 0x5000,
					     0x2000));
	KUNIT_EXPECT_EQ(test, -ENOENT, test_add_ready_hwpt(test, -ENOENT));
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
	KUNIT_EXPECT_EQ(test, 1ULL, test_alignment(&t->iopt));
	KUNIT_EXPECT_EQ(test, 1, test_unmap(&t->iopt, 0x20000, 0x1000));
	KUNIT_EXPECT_EQ(test, 0, test_add_ready_hwpt(test, 0));
	KUNIT_EXPECT_EQ(test, 0, test_phys(&t->iopt, 0x20000, &phys));
	KUNIT_EXPECT_EQ(test, 1, test_unmap(&t->iopt, 0x20000, 0x1000));

	/* What was translated stays pinned, though its HWPT is gone. */
	test_ready_hook = test_hook_remove_hwpt;
	KUNIT_EXPECT_EQ(test, -EFAULT, test_add_ready_hwpt(test, -EFAULT));
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);
	atomic_set(&t->ictx.nr_devices, 0);
	noiommu_unpin_unused(&t->iopt);
}

/* A COPY of many areas can be killed, even if all are pinned already. */
static void iopt_test_killed_in_copy(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	unsigned int i, killed = 0;
	u64 iova = 0x10000, phys;
	LIST_HEAD(areas);
	int rc;

	test_add_hwpt(test, &t->iopt, 0);
	test_add_hwpt(test, &t->other, 0);
	for (i = 0; i < 4; i++)
		KUNIT_ASSERT_EQ(test, 0,
				test_map_at(&t->iopt, 0x10000 + i * PAGE_SIZE,
					    0x5000, PAGE_SIZE));
	do {
		KUNIT_ASSERT_EQ(test, 0,
				noiommu_clone_areas(&t->iopt, 0x10000,
						    4 * PAGE_SIZE, &areas));
		test_signal_after = killed;
		rc = noiommu_map_areas(&t->other, &areas, 4 * PAGE_SIZE, &iova,
				       true, 0, NULL, NULL);
		test_signal_after = -1;
		if (!rc)
			break;
		KUNIT_EXPECT_EQ(test, -EINTR, rc);
		noiommu_free_areas(&areas);
		KUNIT_EXPECT_EQ(test, 4L, test_pinned);
		KUNIT_EXPECT_EQ(test, -ENOENT,
				test_phys(&t->other, iova, &phys));
	} while (killed++ < 100);
	/* Each area checks for a signal when it is placed, and pinned. */
	KUNIT_EXPECT_EQ(test, 8U, killed);
	test_remove_hwpt(&t->iopt);
	test_remove_hwpt(&t->other);
}

/* A signal ends every wait that it can end, and nothing has changed then. */
static void iopt_test_killed(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	struct io_pagetable *iopt = &t->iopt;
	struct rb_root_cached allowed = RB_ROOT_CACHED;
	struct swpt_phys_run run;
	struct swpt_runs runs = { .run = &run, .room = 1, .iova = 0x10000 };
	u64 phys, unmapped;
	LIST_HEAD(areas);

	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x10000, 0x5000, 0x1000));
#define EXPECT_KILLED(call)                                               \
	do {                                                              \
		test_killed_after = 0;                                    \
		KUNIT_EXPECT_EQ(test, -EINTR, call);                      \
		KUNIT_EXPECT_EQ(test, -1L, test_killed_after);            \
		KUNIT_EXPECT_EQ(test, 0L, test_pinned);                   \
	} while (0)
	EXPECT_KILLED(test_map_at(iopt, 0x20000, 0x5000, 0x1000));
	EXPECT_KILLED(test_unmap(iopt, 0x10000, 0x1000));
	EXPECT_KILLED(noiommu_unmap_all(iopt, &unmapped));
	EXPECT_KILLED(noiommu_clone_areas(iopt, 0x10000, 0x1000, &areas));
	EXPECT_KILLED(noiommu_set_allow_iova(iopt, &allowed));
	EXPECT_KILLED(noiommu_set_large_pages(iopt, false));
	EXPECT_KILLED(test_phys(iopt, 0x10000, &phys));
	EXPECT_KILLED(noiommu_get_phys_runs(iopt, 0x10fff, &runs));
	mutex_lock(&iopt->hwpt_mutex);
	EXPECT_KILLED(noiommu_table_add_hwpt(iopt, NULL, NULL));
	mutex_unlock(&iopt->hwpt_mutex);
#undef EXPECT_KILLED
	KUNIT_EXPECT_EQ(test, 0U, iopt->nr_pinning);
	KUNIT_EXPECT_EQ(test, 1ULL, test_alignment(iopt));
	KUNIT_EXPECT_EQ(test, 1, test_unmap(iopt, 0x10000, 0x1000));
}

/*
 * Lookups.
 */

static void test_hook_writer(struct swpt *swpt)
{
	swpt_write_begin(swpt);
	swpt_write_end(swpt);
}

static int test_phys_rcu(struct io_pagetable *iopt, u64 iova, u64 *phys,
			 u64 *length)
{
	int rc;

	rcu_read_lock();
	rc = noiommu_get_phys_rcu(iopt, iova, phys, length);
	rcu_read_unlock();
	return rc;
}

/* A lookup meets a writer, before it begins or in the middle. */
static void iopt_test_lookup_retry(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	struct io_pagetable *iopt = &t->iopt;
	u64 phys, length = 0x1800;

	test_add_hwpt(test, iopt, 0);
	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x10000, 0x5000, 0x2000));
	KUNIT_EXPECT_EQ(test, 0, test_phys_rcu(iopt, 0x11000, &phys, &length));
	KUNIT_EXPECT_EQ(test, 0x6000ULL, phys);
	KUNIT_EXPECT_EQ(test, 0x1000ULL, length);

	length = 0x1800;
	test_lookup_hook = test_hook_writer;
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			test_phys_rcu(iopt, 0x11000, &phys, &length));
	KUNIT_EXPECT_EQ(test, 0x1800ULL, length);
	test_lookup_hook = NULL;

	swpt_write_begin(&iopt->swpt);
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			test_phys_rcu(iopt, 0x11000, &phys, &length));
	swpt_write_end(&iopt->swpt);
	KUNIT_EXPECT_EQ(test, 0x1800ULL, length);

	test_remove_hwpt(iopt);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			test_phys_rcu(iopt, 0x11000, &phys, &length));
	KUNIT_EXPECT_EQ(test, -ENOENT,
			test_phys_rcu(iopt, 0x12000, &phys, &length));
}

static void iopt_test_lookup_runs(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	struct io_pagetable *iopt = &t->iopt;
	struct swpt_phys_run run[2];
	struct swpt_runs runs = { .run = run, .room = 2, .iova = 0x10000 };
	unsigned int i;

	/* Page 7 follows page 6. */
	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x10000, 0x5000, 0x2000));
	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x12000, 0x7000, 0x1000));
	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x13000, 0x1000, 0x1000));
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			noiommu_get_phys_runs(iopt, 0x13fff, &runs));
	runs.iova = 0x14000;
	KUNIT_EXPECT_EQ(test, -ENOENT,
			noiommu_get_phys_runs(iopt, 0x14fff, &runs));
	KUNIT_EXPECT_EQ(test, 0U, runs.nr);

	test_add_hwpt(test, iopt, 0);
	/* Without the lock; then with it, since each attempt meets a writer. */
	for (i = 0; i < 2; i++) {
		test_lookup_hook = i ? test_hook_writer : NULL;
		runs.nr = 0;
		runs.iova = 0x10800;
		KUNIT_EXPECT_EQ(test, 0,
				noiommu_get_phys_runs(iopt, 0x13fff, &runs));
		KUNIT_EXPECT_EQ(test, 0x14000ULL, runs.iova);
		KUNIT_EXPECT_EQ(test, 2U, runs.nr);
		KUNIT_EXPECT_EQ(test, 0x5800ULL, run[0].phys);
		KUNIT_EXPECT_EQ(test, 0x2800ULL, run[0].length);
		KUNIT_EXPECT_EQ(test, 0x1000ULL, run[1].phys);
		KUNIT_EXPECT_EQ(test, 0x1000ULL, run[1].length);
		runs.nr = 0;
		KUNIT_EXPECT_EQ(test, -ENOENT,
				noiommu_get_phys_runs(iopt, U64_MAX, &runs));
	}
	test_lookup_hook = NULL;
	test_remove_hwpt(iopt);
}

/* Failures halfway. */

static void iopt_test_copy_fails(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	u64 at = 0x100000, phys;
	LIST_HEAD(areas);
	int i;

	test_add_hwpt(test, &t->other, 0);
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x10000, 0x5000,
					     0x2000));
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x12000, 0x9000,
					     0x2000));
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x20010, 0x5010,
					     0x2000));
	/* The copy is aligned, but not the memory behind it. */
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_clone_areas(&t->iopt, 0x20020, 0x1000, &areas));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			noiommu_map_areas(&t->other, &areas, 0x1000, &at, true,
					  0, NULL, NULL));
	noiommu_free_areas(&areas);

	KUNIT_ASSERT_EQ(test, 0,
			noiommu_clone_areas(&t->iopt, 0x10000, 0x4000, &areas));
	for (i = 0; i < 2; i++) {
		test_fill_fails_after = i;
		KUNIT_EXPECT_EQ(test, -EFAULT,
				noiommu_map_areas(&t->other, &areas, 0x4000,
						  &at, true, 0, NULL, NULL));
		KUNIT_EXPECT_EQ(test, 0L, test_pinned);
		KUNIT_EXPECT_EQ(test, -ENOENT,
				test_phys(&t->other, at, &phys));
	}
	noiommu_free_areas(&areas);
	KUNIT_EXPECT_EQ(test, 0, test_map_at(&t->other, at, 0, 0x4000));
	test_remove_hwpt(&t->other);
}

/* Fail each allocation of MAP, COPY, ALLOW_IOVAS and HWPT_ALLOC in turn. */
static void iopt_test_alloc_fails(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	struct rb_root_cached allowed = RB_ROOT_CACHED;
	LIST_HEAD(areas);
	unsigned int part;
	int rc;

	test_add_hwpt(test, &t->other, 0);
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x10000, 0x5000,
					     0x2000));
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x12000, 0x9000,
					     0x3000));
	for (part = 0; part < 4; part++) {
		long n, pinned = test_pinned;

		for (n = 0, rc = -1; rc; n++) {
			long allocated;
			u64 at = 0x40000;

			allocated = atomic_long_read(&noiommufd_test_allocated);
			noiommufd_test_fail_after = n;
			switch (part) {
			case 0:
				rc = test_map_at(&t->other, 0x20000, 0x5000,
						 0x2000);
				break;
			case 1:
				rc = noiommu_clone_areas(&t->iopt, 0x11000,
							 0x3000, &areas);
				if (rc)
					break;
				rc = noiommu_map_areas(&t->other, &areas,
						       0x3000, &at, true, 0,
						       NULL, NULL);
				if (rc)
					noiommu_free_areas(&areas);
				break;
			case 2:
				rc = noiommu_add_allowed(&allowed, 1, 2);
				break;
			case 3:
				mutex_lock(&t->iopt.hwpt_mutex);
				rc = noiommu_table_add_hwpt(&t->iopt, NULL,
							    NULL);
				mutex_unlock(&t->iopt.hwpt_mutex);
				break;
			}
			noiommufd_test_fail_after = -1;
			if (!rc)
				break;
			KUNIT_ASSERT_EQ(test, -ENOMEM, rc);
			KUNIT_ASSERT_EQ(test, pinned, test_pinned);
			/* Directories are freed later. */
			rcu_barrier();
			swpt_module_exit();
			KUNIT_ASSERT_EQ(test, 0, swpt_module_init());
			/*
			 * Pages that are in use keep the directory that they
			 * got when the first area was pinned.
			 */
			if (part == 3 && n == 3)
				allocated += 3;
			KUNIT_ASSERT_EQ(test, allocated,
					atomic_long_read(&noiommufd_test_allocated));
			KUNIT_ASSERT_EQ(test, -ENOENT,
					test_unmap(&t->other, 0x20000 << part,
						   0x3000));
		}
		/* At least one allocation failed. */
		KUNIT_EXPECT_GT(test, n, 0L);
	}
	noiommu_free_allowed(&allowed);
	test_remove_hwpt(&t->iopt);
	test_remove_hwpt(&t->other);
}

/*
 * A random walk in two address spaces (map, copy, unmap, look up, add and
 * remove an HWPT), checked against arrays of pages.
 */

#define WALK_PAGES	96
#define WALK_STEPS	(IS_ENABLED(CONFIG_KASAN) ? 1000 : 4000)

struct walk_page {
	unsigned int area;	/* 0: none */
	u64 pfn;
};

struct walk {
	struct rnd_state rnd;
	struct walk_page page[2 * WALK_PAGES];
	bool hwpt[2];
	unsigned int areas;
};

static unsigned int walk_random(struct walk *w, unsigned int below)
{
	return prandom_u32_state(&w->rnd) % below;
}

static bool walk_is_free(const struct walk_page *page, unsigned int n)
{
	while (n--)
		if (page++->area)
			return false;
	return true;
}

/* How many distinct pages the address spaces with an HWPT have. */
static long walk_pinned(const struct walk *w)
{
	unsigned int i, j, which;
	long pinned = 0;

	for (i = 0; i < 2 * WALK_PAGES; i++) {
		const struct walk_page *page = &w->page[i];

		which = i >= WALK_PAGES;
		if (!page->area || !w->hwpt[which])
			continue;
		for (j = 0; j < i; j++)
			if (w->page[j].area && w->page[j].pfn == page->pfn &&
			    w->hwpt[j >= WALK_PAGES])
				break;
		pinned += i == j;
	}
	return pinned;
}

static void walk_map(struct kunit *test, struct walk *w, unsigned int which)
{
	struct iopt_test *t = test->priv;
	unsigned int i, n = 1 + walk_random(w, 12);
	unsigned int at = walk_random(w, WALK_PAGES - n + 1);
	struct walk_page *page = &w->page[which * WALK_PAGES + at];
	unsigned long va = ++w->areas * 0x10000UL;

	if (!walk_is_free(page, n)) {
		KUNIT_ASSERT_EQ(test, -EEXIST,
				test_map_at(which ? &t->other : &t->iopt,
					    at * PAGE_SIZE, va, n * PAGE_SIZE));
		return;
	}
	KUNIT_ASSERT_EQ(test, 0,
			test_map_at(which ? &t->other : &t->iopt,
				    at * PAGE_SIZE, va, n * PAGE_SIZE));
	for (i = 0; i < n; i++) {
		page[i].area = w->areas;
		page[i].pfn = PHYS_PFN(va) + i;
	}
}

static void walk_copy(struct kunit *test, struct walk *w, unsigned int which)
{
	struct iopt_test *t = test->priv;
	struct io_pagetable *iopt[] = { &t->iopt, &t->other };
	unsigned int i, n = 1 + walk_random(w, 12);
	unsigned int from = walk_random(w, WALK_PAGES - n + 1);
	unsigned int at = walk_random(w, WALK_PAGES - n + 1);
	struct walk_page *src = &w->page[which * WALK_PAGES + from], pages[12];
	struct walk_page *dst = &w->page[!which * WALK_PAGES + at];
	u64 iova = at * PAGE_SIZE;
	LIST_HEAD(areas);
	int rc;

	for (i = 0; i < n && src[i].area; i++)
		;
	rc = noiommu_clone_areas(iopt[which], from * PAGE_SIZE, n * PAGE_SIZE,
				 &areas);
	KUNIT_ASSERT_EQ(test, i == n ? 0 : -ENOENT, rc);
	if (rc)
		return;
	rc = noiommu_map_areas(iopt[!which], &areas, n * PAGE_SIZE, &iova, true,
			       0, NULL, NULL);
	KUNIT_ASSERT_EQ(test, walk_is_free(dst, n) ? 0 : -EEXIST, rc);
	if (rc) {
		noiommu_free_areas(&areas);
		return;
	}
	memcpy(pages, src, n * sizeof(*src));
	for (i = 0; i < n; i++) {
		if (!i || pages[i].area != pages[i - 1].area)
			w->areas++;
		dst[i] = pages[i];
		dst[i].area = w->areas;
	}
}

static void walk_unmap(struct kunit *test, struct walk *w, unsigned int which)
{
	struct iopt_test *t = test->priv;
	unsigned int n = 1 + walk_random(w, 30);
	unsigned int at = walk_random(w, WALK_PAGES - n + 1), i;
	struct walk_page *page = &w->page[which * WALK_PAGES];
	int found = 0;

	if (walk_random(w, 2)) {
		/* Extend the range to whole areas. */
		while (at && page[at].area && page[at].area == page[at - 1].area) {
			at--;
			n++;
		}
		while (at + n < WALK_PAGES && page[at + n].area &&
		       page[at + n].area == page[at + n - 1].area)
			n++;
	}
	for (i = at; i < at + n; i++)
		found += !!page[i].area;
	if (!found ||
	    (at && page[at].area && page[at].area == page[at - 1].area) ||
	    (at + n < WALK_PAGES && page[at + n].area &&
	     page[at + n].area == page[at + n - 1].area))
		found = -ENOENT;
	KUNIT_ASSERT_EQ(test, found,
			test_unmap(which ? &t->other : &t->iopt, at * PAGE_SIZE,
				   n * PAGE_SIZE));
	if (found > 0)
		memset(&page[at], 0, n * sizeof(*page));
}

static void walk_check(struct kunit *test, struct walk *w, unsigned int which)
{
	struct iopt_test *t = test->priv;
	unsigned int i;
	u64 phys;

	for (i = 0; i < WALK_PAGES; i++) {
		struct walk_page *page = &w->page[which * WALK_PAGES + i];
		int rc = test_phys(which ? &t->other : &t->iopt,
				   i * PAGE_SIZE + 3, &phys);

		KUNIT_ASSERT_EQ(test, !page->area ? -ENOENT :
				      w->hwpt[which] ? 0 : -EOPNOTSUPP, rc);
		if (!rc)
			KUNIT_ASSERT_EQ(test, page->pfn * PAGE_SIZE + 3, phys);
	}
	KUNIT_ASSERT_EQ(test, walk_pinned(w), test_pinned);
}

static void iopt_test_random_walk(struct kunit *test)
{
	struct walk *w = kunit_kzalloc(test, sizeof(*w), GFP_KERNEL);
	struct iopt_test *t = test->priv;
	u32 seed = get_random_u32();
	unsigned int step, which;

	KUNIT_ASSERT_TRUE(test, w);
	kunit_info(test, "seed %u\n", seed);
	prandom_seed_state(&w->rnd, seed);
	for (step = 0; step < WALK_STEPS; step++) {
		struct io_pagetable *iopt;

		which = walk_random(w, 2);
		iopt = which ? &t->other : &t->iopt;
		switch (walk_random(w, 8)) {
		case 0:
		case 1:
			walk_copy(test, w, which);
			break;
		case 2:
		case 3:
			walk_unmap(test, w, which);
			break;
		case 4:
			if (walk_random(w, 4))
				break;
			if (w->hwpt[which])
				test_remove_hwpt(iopt);
			else
				test_add_hwpt(test, iopt, 0);
			w->hwpt[which] = !w->hwpt[which];
			break;
		default:
			walk_map(test, w, which);
		}
		if (step % 16 == 0)
			walk_check(test, w, which);
		cond_resched();
	}
	for (which = 0; which < 2; which++)
		if (w->hwpt[which])
			test_remove_hwpt(which ? &t->other : &t->iopt);
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
}

static int test_cut(struct io_pagetable *iopt, u64 last)
{
	return noiommu_cut_iova(iopt, &last, 1);
}

/* After a cut, the area is still pinned once and found at every page. */
static void iopt_test_cut(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	struct io_pagetable *iopt = &t->iopt;
	const u64 both[] = { 0x12fff, 0x10fff };
	u64 phys, page;

	KUNIT_ASSERT_EQ(test, 0, noiommu_set_large_pages(iopt, false));
	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x30000, 0x9000, 0x2000));
	KUNIT_EXPECT_EQ(test, 0, test_cut(iopt, 0x30fff));
	test_add_hwpt(test, iopt, 0);
	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x10000, 0x5000, 0x4000));
	KUNIT_EXPECT_EQ(test, 6L, test_pinned);

	/* At an unmapped IOVA, at either end, and within a page. */
	KUNIT_EXPECT_EQ(test, 0, test_cut(iopt, 0x20000));
	KUNIT_EXPECT_EQ(test, 0, test_cut(iopt, 0x10000));
	KUNIT_EXPECT_EQ(test, 0, test_cut(iopt, 0x13fff));
	KUNIT_EXPECT_EQ(test, -EINVAL, test_cut(iopt, 0x11000));
	KUNIT_EXPECT_EQ(test, -ENOENT, test_unmap(iopt, 0x11000, 0x2000));

	KUNIT_EXPECT_EQ(test, 0, noiommu_cut_iova(iopt, both, 2));
	KUNIT_EXPECT_EQ(test, 6L, test_pinned);
	for (page = 0; page < 4; page++) {
		KUNIT_EXPECT_EQ(test, 0, test_phys(iopt, 0x10000 +
						   (page << PAGE_SHIFT),
						   &phys));
		KUNIT_EXPECT_EQ(test, 0x5000 + (page << PAGE_SHIFT), phys);
	}
	KUNIT_EXPECT_EQ(test, 2, test_unmap(iopt, 0x11000, 0x2000));
	KUNIT_EXPECT_EQ(test, 4L, test_pinned);
	KUNIT_EXPECT_EQ(test, 1, test_unmap(iopt, 0x10000, 0x1000));
	KUNIT_EXPECT_EQ(test, 1, test_unmap(iopt, 0x13000, 0x1000));
	KUNIT_EXPECT_EQ(test, 1, test_unmap(iopt, 0x30000, 0x1000));
	KUNIT_EXPECT_EQ(test, 1L, test_pinned);
	test_remove_hwpt(iopt);
}

static void iopt_test_cut_fails(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	struct io_pagetable *iopt = &t->iopt;
	struct noiommu_area *area;
	LIST_HEAD(none);
	long n;

	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x10000, 0x5000, 0x4000));
	for (n = 0; n < 2; n++) {
		noiommufd_test_fail_after = n;
		KUNIT_EXPECT_EQ(test, -ENOMEM, test_cut(iopt, 0x10fff));
		KUNIT_EXPECT_EQ(test, -ENOENT,
				test_unmap(iopt, 0x10000, 0x1000));
	}
	noiommufd_test_fail_after = -1;
	area = to_noiommu_area(swpt_first(&iopt->swpt, 0, U64_MAX));
	area->swpt.pages = NULL;
	KUNIT_EXPECT_EQ(test, -EBUSY, test_cut(iopt, 0x10fff));
	mutex_lock(&noiommu_change_process_lock);
	KUNIT_EXPECT_EQ(test, -EBUSY, noiommu_gather_pages(iopt, &none));
	mutex_unlock(&noiommu_change_process_lock);
	KUNIT_EXPECT_TRUE(test, list_empty(&none));
	area->swpt.pages = &area->pages->swpt;
	KUNIT_EXPECT_EQ(test, 0, test_cut(iopt, 0x10fff));
	KUNIT_EXPECT_EQ(test, 1, test_unmap(iopt, 0x10000, 0x1000));
}

static void test_hook_in_cut(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	struct io_pagetable *iopt = &t->iopt;
	u64 phys;

	/* Lookups find the area as before. The lock is not held. */
	KUNIT_EXPECT_EQ(test, 0, test_phys(iopt, 0x11000, &phys));
	KUNIT_EXPECT_EQ(test, 0x6000ULL, phys);
	KUNIT_EXPECT_EQ(test, 0, test_map_at(iopt, 0x1000, 0x5000, 0x1000));
	/* UNMAP waits for the cut. */
	test_killed_after = 1;
	KUNIT_EXPECT_EQ(test, -EINTR, test_unmap(iopt, 0x10000, 0x2000));
	reinit_completion(&test_waits);
	queue_work(system_unbound_wq, &t->work);
	KUNIT_EXPECT_NE(test, 0UL,
			wait_for_completion_timeout(&test_waits, 60 * HZ));
	t->hooked = true;
}

/* The address space is not locked while the parts take over the pages. */
static void iopt_test_in_cut(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	struct io_pagetable *iopt = &t->iopt;
	u64 phys;

	INIT_WORK(&t->work, test_unmap_work);
	test_fill_test = test;
	KUNIT_ASSERT_EQ(test, 0, noiommu_set_large_pages(iopt, false));
	test_add_hwpt(test, iopt, 0);
	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x10000, 0x5000, 0x4000));
	/* A signal ends each of its waits in turn: nothing has changed. */
	for (test_killed_after = 0; test_cut(iopt, 0x11fff) == -EINTR;
	     test_killed_after = t->rc) {
		KUNIT_EXPECT_EQ(test, 4L, test_pinned);
		KUNIT_EXPECT_EQ(test, -ENOENT,
				test_unmap(iopt, 0x10000, 0x2000));
		t->rc++;
	}
	KUNIT_EXPECT_EQ(test, 3, t->rc);
	test_killed_after = -1;
	KUNIT_EXPECT_EQ(test, 2, test_unmap(iopt, 0x10000, 0x2000));
	KUNIT_EXPECT_EQ(test, 2, test_unmap(iopt, 0x12000, 0x2000));

	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x10000, 0x5000, 0x4000));
	test_fill_hook = test_hook_in_cut;
	KUNIT_EXPECT_EQ(test, 0, test_cut(iopt, 0x11fff));
	KUNIT_ASSERT_TRUE(test, t->hooked);
	flush_work(&t->work);
	KUNIT_EXPECT_EQ(test, 2, t->rc);
	KUNIT_EXPECT_EQ(test, 0, test_phys(iopt, 0x12000, &phys));
	KUNIT_EXPECT_EQ(test, 0x7000ULL, phys);
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);

	/* The HWPT goes while the area is busy: the parts are unpinned. */
	test_fill_hook = test_hook_remove_hwpt;
	KUNIT_EXPECT_EQ(test, 0, test_cut(iopt, 0x12fff));
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
	KUNIT_EXPECT_EQ(test, 1, test_unmap(iopt, 0x12000, 0x1000));
	KUNIT_EXPECT_EQ(test, 1, test_unmap(iopt, 0x13000, 0x1000));
}

/* The IOVA is reported to the user before the area can be found there. */

static void (*test_answer_hook)(struct iopt_test *t);
static u64 test_answered, test_answered_phys, test_answered_length;
static int test_answered_rc;

static int test_answer(void *arg, const struct noiommu_area *area)
{
	struct iopt_test *t = test_fill_test->priv;
	u64 iova = area->swpt.iova;

	test_answered = iova;
	KUNIT_EXPECT_EQ(test_fill_test, -EBUSY,
			test_unmap(&t->iopt, iova, 0x2000));
	KUNIT_EXPECT_EQ(test_fill_test, -EEXIST,
			test_map_at(&t->iopt, iova, 0x9000, 0x1000));
	if (test_answer_hook)
		test_answer_hook(t);
	test_answered_rc = noiommu_area_get_phys(&t->iopt, area,
						 &test_answered_phys,
						 &test_answered_length);
	return *(int *)arg;
}

static int test_map_answer(struct iopt_test *t, int rc, unsigned int flags)
{
	u64 iova = 0x10000;

	return noiommu_map_user_pages(&t->iopt, &iova, 0x5000, 0x2000, true,
				      flags, test_answer, &rc);
}

static void test_hook_add_hwpt(struct iopt_test *t)
{
	test_add_hwpt(test_fill_test, &t->iopt, 0);
}

static void test_hook_shut(struct iopt_test *t)
{
	noiommu_shut_table(&t->iopt);
}

static void iopt_test_answer(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	unsigned int hwpt;
	u64 phys;

	test_fill_test = test;
	test_answer_hook = NULL;
	for (hwpt = 0; hwpt < 2; hwpt++) {
		KUNIT_EXPECT_EQ(test, -EFAULT, test_map_answer(t, -EFAULT, 0));
		KUNIT_EXPECT_EQ(test, -ENOENT,
				test_phys(&t->iopt, 0x10000, &phys));
		KUNIT_EXPECT_EQ(test, 0L, test_pinned);
		KUNIT_EXPECT_EQ(test, 0, test_map_answer(t, 0, IOPT_ALLOC_IOVA));
		KUNIT_EXPECT_EQ(test, (u64)PAGE_SIZE, test_answered);
		KUNIT_EXPECT_EQ(test, hwpt ? 2L : 0L, test_pinned);
		KUNIT_EXPECT_EQ(test, hwpt ? 0 : -EOPNOTSUPP, test_answered_rc);
		KUNIT_EXPECT_EQ(test, 2, test_unmap(&t->iopt, PAGE_SIZE, 0x2000));
		if (!hwpt)
			test_add_hwpt(test, &t->iopt, 0);
	}
	KUNIT_EXPECT_EQ(test, 0x5000ULL, test_answered_phys);
	KUNIT_EXPECT_EQ(test, 0x2000ULL, test_answered_length);
	test_remove_hwpt(&t->iopt);

	/* An HWPT is made meanwhile: memory is pinned for it, or MAP fails. */
	test_answer_hook = test_hook_add_hwpt;
	KUNIT_EXPECT_EQ(test, 0, test_map_answer(t, 0, 0));
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, test_answered_rc);
	KUNIT_EXPECT_EQ(test, 2L, test_pinned);
	KUNIT_EXPECT_EQ(test, 0, test_phys(&t->iopt, 0x10000, &phys));
	KUNIT_EXPECT_EQ(test, 2, test_unmap(&t->iopt, 0x10000, 0x2000));
	test_remove_hwpt(&t->iopt);
	test_fill_fails_after = 0;
	KUNIT_EXPECT_EQ(test, -EFAULT, test_map_answer(t, 0, 0));
	KUNIT_EXPECT_EQ(test, -ENOENT, test_phys(&t->iopt, 0x10000, &phys));
	test_remove_hwpt(&t->iopt);
}

/* Destroyed by ID during a MAP: what that maps is destroyed as well. */
static void iopt_test_shut(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	u64 phys;

	test_fill_test = test;
	atomic_set(&t->ictx.nr_devices, 1);
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x50000, 0x7000, 0x3000));
	test_add_hwpt(test, &t->iopt, 0);
	test_remove_hwpt(&t->iopt);
	KUNIT_EXPECT_EQ(test, 3L, test_pinned);
	test_answer_hook = test_hook_shut;
	KUNIT_EXPECT_EQ(test, -ENOENT, test_map_answer(t, 0, 0));
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
	KUNIT_EXPECT_EQ(test, 0L, test_objects);
	KUNIT_EXPECT_EQ(test, -ENOENT, test_phys(&t->iopt, 0x50000, &phys));
	KUNIT_EXPECT_EQ(test, -ENOENT,
			test_map_at(&t->iopt, 0x10000, 0x5000, 0x1000));
	atomic_set(&t->ictx.nr_devices, 0);
}

static void test_add_hwpt_work(struct work_struct *work)
{
	struct iopt_test *t = container_of(work, struct iopt_test, work);

	mutex_lock(&t->iopt.hwpt_mutex);
	t->rc = noiommu_table_add_hwpt(&t->iopt, NULL, NULL);
	mutex_unlock(&t->iopt.hwpt_mutex);
}

static void test_cut_work(struct work_struct *work)
{
	struct iopt_test *t = container_of(work, struct iopt_test, work);

	t->rc = test_cut(&t->iopt, 0x10fff);
}

static void test_hook_in_unfill(struct kunit *test)
{
	struct iopt_test *t = test->priv;

	reinit_completion(&test_waits);
	queue_work(system_unbound_wq, &t->work);
	KUNIT_EXPECT_NE(test, 0UL,
			wait_for_completion_timeout(&test_waits, 60 * HZ));
	t->hooked = true;
}

/* Pinning or cutting an area waits until it has been unpinned. */
static void iopt_test_in_unpin(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	struct io_pagetable *iopt = &t->iopt;

	test_fill_test = test;
	KUNIT_ASSERT_EQ(test, 0, noiommu_set_large_pages(iopt, false));
	KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, 0x10000, 0x5000, 0x2000));
	test_add_hwpt(test, iopt, 0);
	INIT_WORK(&t->work, test_add_hwpt_work);
	test_unfill_hook = test_hook_in_unfill;
	test_remove_hwpt(iopt);
	KUNIT_ASSERT_TRUE(test, t->hooked);
	flush_work(&t->work);
	KUNIT_EXPECT_EQ(test, 0, t->rc);
	KUNIT_EXPECT_EQ(test, 2L, test_pinned);

	t->hooked = false;
	INIT_WORK(&t->work, test_cut_work);
	test_unfill_hook = test_hook_in_unfill;
	test_remove_hwpt(iopt);
	KUNIT_ASSERT_TRUE(test, t->hooked);
	flush_work(&t->work);
	KUNIT_EXPECT_EQ(test, 0, t->rc);
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
	KUNIT_EXPECT_EQ(test, 1, test_unmap(iopt, 0x10000, 0x1000));
	KUNIT_EXPECT_EQ(test, 1, test_unmap(iopt, 0x11000, 0x1000));
}

/* A signal can end a walk over areas at each of them: nothing has changed. */
static void iopt_test_signal_in_walks(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	struct io_pagetable *iopt = &t->iopt;
	u64 unmapped, iova;
	LIST_HEAD(areas);
	unsigned int i;

	for (i = 1; i <= 3; i++)
		KUNIT_ASSERT_EQ(test, 0, test_map_at(iopt, i * PAGE_SIZE,
						     0x5000, PAGE_SIZE));
#define EXPECT_WALK(times, call)                                          \
	do {                                                              \
		int __rc = -EINTR;                                        \
									  \
		for (i = 0; i < 100 && __rc == -EINTR; i++) {             \
			test_signal_after = i;                            \
			__rc = call;                                      \
			KUNIT_EXPECT_EQ(test, 0U, iopt->nr_pinning);      \
		}                                                         \
		test_signal_after = -1;                                   \
		KUNIT_EXPECT_EQ(test, 0, __rc);                           \
		KUNIT_EXPECT_EQ(test, (times) + 1U, i);                   \
	} while (0)
	EXPECT_WALK(3, noiommu_clone_areas(iopt, PAGE_SIZE, 3 * PAGE_SIZE,
					   &areas));
	noiommu_free_areas(&areas);
	EXPECT_WALK(3, noiommu_set_large_pages(iopt, false));
	iova = 0;
	/* The only gap that is wide enough, and the new area */
	EXPECT_WALK(2,
		    noiommu_map_user_pages(iopt, &iova, 0x5000, PAGE_SIZE, true,
					   IOPT_ALLOC_IOVA, NULL, NULL));
	KUNIT_EXPECT_EQ(test, 4 * PAGE_SIZE, iova);
	EXPECT_WALK(4, noiommu_unmap_all(iopt, &unmapped));
	KUNIT_EXPECT_EQ(test, 4 * PAGE_SIZE, unmapped);
#undef EXPECT_WALK
}

/* Do what CHANGE_PROCESS does, with two address spaces. */
static int test_change(struct iopt_test *t)
{
	LIST_HEAD(pages);
	int rc;

	test_changed = 0;
	test_restored = 0;
	test_forgotten = 0;
	mutex_lock(&noiommu_change_process_lock);
	rc = noiommu_gather_pages(&t->iopt, &pages);
	if (!rc)
		rc = noiommu_gather_pages(&t->other, &pages);
	if (!rc)
		rc = noiommu_change_process(&pages);
	noiommu_put_gathered(&pages);
	mutex_unlock(&noiommu_change_process_lock);
	return rc;
}

static void iopt_test_change_process(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	LIST_HEAD(areas);
	u64 iova;
	int i;

	KUNIT_EXPECT_EQ(test, 0, test_change(t));
	KUNIT_EXPECT_EQ(test, 0L, test_changed);
	for (i = 1; i <= 3; i++) {
		iova = i << 16;
		KUNIT_ASSERT_EQ(test, 0,
				noiommu_map_file_pages(&t->iopt, &iova, 0,
						       0x3000, 0x2000, true, 0,
						       NULL, NULL));
	}
	KUNIT_EXPECT_EQ(test, -EBADF,
			noiommu_map_file_pages(&t->iopt, &iova, 1, 0, 0x1000,
					       true, IOPT_ALLOC_IOVA, NULL,
					       NULL));
	/* A copy shares the memory, which is transferred only once. */
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_clone_areas(&t->iopt, 0x10000, 0x1000, &areas));
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_map_areas(&t->other, &areas, 0x1000, &iova,
					  true, 0, NULL, NULL));
	KUNIT_EXPECT_EQ(test, 0, test_change(t));
	KUNIT_EXPECT_EQ(test, 3L, test_changed);
	KUNIT_EXPECT_EQ(test, 3L, test_forgotten);
	KUNIT_EXPECT_EQ(test, 0L, test_restored);
	/* The second transfer exceeds the limit. */
	test_change_fails_after = 1;
	KUNIT_EXPECT_EQ(test, -ENOMEM, test_change(t));
	KUNIT_EXPECT_EQ(test, 1L, test_changed);
	KUNIT_EXPECT_EQ(test, 0L, test_forgotten);
	KUNIT_EXPECT_EQ(test, 3L, test_restored);
	/* A process's own memory cannot be transferred, so nothing is. */
	KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, 0x90000, 0x5000,
					     0x1000));
	KUNIT_EXPECT_EQ(test, -EINVAL, test_change(t));
	KUNIT_EXPECT_EQ(test, 0L, test_changed);
	KUNIT_EXPECT_EQ(test, 1, test_unmap(&t->iopt, 0x90000, 0x1000));
	test_killed_after = 1;
	KUNIT_EXPECT_EQ(test, -EINTR, test_change(t));
	KUNIT_EXPECT_EQ(test, 0, test_change(t));
	KUNIT_EXPECT_EQ(test, 3L, test_forgotten);
}

static void test_hook_unmap(struct kunit *test)
{
	struct iopt_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, 2, test_unmap(&t->iopt, 0x10000, 0x2000));
	test_change_hook = NULL;
}

/*
 * A file is unmapped while its charge is being transferred. Then only a COPY in
 * progress still has its memory, or nothing has.
 */
static void iopt_test_change_process_unmapped(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	u64 iova = 0x10000;
	LIST_HEAD(areas);
	int i;

	test_fill_test = test;
	for (i = 0; i < 2; i++) {
		KUNIT_ASSERT_EQ(test, 0,
				noiommu_map_file_pages(&t->iopt, &iova, 0,
						       0x3000, 0x2000, true, 0,
						       NULL, NULL));
		if (!i)
			KUNIT_ASSERT_EQ(test, 0,
					noiommu_clone_areas(&t->iopt, iova,
							    0x2000, &areas));
		test_change_hook = test_hook_unmap;
		test_change_fails_after = i ? 0 : -1;
		KUNIT_EXPECT_EQ(test, i ? -ENOMEM : 0, test_change(t));
		KUNIT_EXPECT_EQ(test, i ? 0L : 1L, test_forgotten);
		KUNIT_EXPECT_EQ(test, i ? 1L : 0L, test_restored);
		KUNIT_EXPECT_EQ(test, i ? 0L : 1L, test_objects);
		if (i)
			break;
		KUNIT_ASSERT_EQ(test, 0,
				noiommu_map_areas(&t->other, &areas, 0x2000,
						  &iova, true, 0, NULL, NULL));
		KUNIT_EXPECT_EQ(test, 2, test_unmap(&t->other, iova, 0x2000));
	}
}

/*
 * Usage.
 */

/* More areas than a batch has; what they share counts once for each walk. */
static void iopt_test_usage(struct kunit *test)
{
	const unsigned int nr = 2 * IOPT_USAGE_BATCH;
	struct iopt_test *t = test->priv;
	struct noiommu_usage usage;
	LIST_HEAD(areas);
	LIST_HEAD(more);
	unsigned int i;
	u64 iova = 0;

	KUNIT_ASSERT_EQ(test, 0, noiommu_get_usage(&t->iopt, 1, &usage));
	KUNIT_EXPECT_EQ(test, 0ULL, usage.nr_areas);
	KUNIT_EXPECT_EQ(test, 0U, usage.nr_payers);

	for (i = 0; i < nr; i++)
		KUNIT_ASSERT_EQ(test, 0,
				test_map_at(&t->iopt, i * 0x10000ULL,
					    i * 0x10000UL, 0x2000));
	KUNIT_ASSERT_EQ(test, 0,
			test_map_at(&t->iopt, 0ULL - 0x1000, 0, 0x1000));
	test_add_hwpt(test, &t->iopt, 0);
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_clone_areas(&t->iopt, 0, 0x1000, &areas));
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_map_areas(&t->iopt, &areas, 0x1000, &iova, true,
					  IOPT_ALLOC_IOVA, NULL, NULL));
	for (i = 0; i < 2; i++) {
		test_reads = 0;
		KUNIT_ASSERT_EQ(test, 0,
				noiommu_get_usage(&t->iopt, 2 + i, &usage));
		/* The lock is dropped after each batch of pages objects. */
		KUNIT_EXPECT_EQ(test, DIV_ROUND_UP(nr + 1, IOPT_USAGE_PAGES),
				test_reads);
		KUNIT_EXPECT_EQ(test, nr + 2ULL, usage.nr_areas);
		KUNIT_EXPECT_EQ(test, nr * 0x2000ULL + 0x2000, usage.length);
		KUNIT_EXPECT_EQ(test, nr * 2 + 2ULL, usage.npinned);
		KUNIT_EXPECT_EQ(test, nr + 1ULL, usage.nr_runs);
		KUNIT_EXPECT_EQ(test, 0ULL, usage.table_bytes);
		KUNIT_EXPECT_EQ(test, 1U, usage.nr_payers);
		KUNIT_EXPECT_EQ(test, nr + 1ULL, usage.payer[0].npages);
	}

	/* Another IOAS of the same context, in the same walk. */
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_clone_areas(&t->iopt, 0, 0x1000, &more));
	KUNIT_ASSERT_EQ(test, 0,
			noiommu_map_areas(&t->other, &more, 0x1000, &iova,
					  true, 0, NULL, NULL));
	KUNIT_ASSERT_EQ(test, 0, noiommu_get_usage(&t->other, 3, &usage));
	KUNIT_EXPECT_EQ(test, 1ULL, usage.nr_areas);
	KUNIT_EXPECT_EQ(test, 0ULL, usage.npinned);
	KUNIT_EXPECT_EQ(test, 0ULL, usage.nr_runs);
	KUNIT_EXPECT_EQ(test, 0U, usage.nr_payers);
	test_remove_hwpt(&t->iopt);
}

static void iopt_test_usage_payers(struct kunit *test)
{
	struct iopt_test *t = test->priv;
	struct noiommu_usage usage;
	unsigned int i;
	u64 iova;

	/* Each of them pays for two pages. */
	for (i = 0; i < 2 * (IOPT_PAYERS + 2); i++) {
		iova = (u64)(i % (IOPT_PAYERS + 2)) << 32 | i << 12;
		KUNIT_ASSERT_EQ(test, 0, test_map_at(&t->iopt, iova, iova,
						     PAGE_SIZE));
	}
	KUNIT_ASSERT_EQ(test, 0, noiommu_get_usage(&t->iopt, 1, &usage));
	KUNIT_EXPECT_EQ(test, (unsigned int)IOPT_PAYERS, usage.nr_payers);
	for (i = 0; i < IOPT_PAYERS - 1; i++) {
		KUNIT_EXPECT_EQ(test, (pid_t)i, usage.payer[i].pid);
		KUNIT_EXPECT_EQ(test, 2ULL, usage.payer[i].npages);
	}
	KUNIT_EXPECT_EQ(test, 6ULL, usage.payer[i].npages);

	test_killed_after = 0;
	KUNIT_EXPECT_EQ(test, -EINTR, noiommu_get_usage(&t->iopt, 2, &usage));
	test_signal_after = 0;
	KUNIT_EXPECT_EQ(test, -EINTR, noiommu_get_usage(&t->iopt, 3, &usage));
}

static struct kunit_case noiommu_area_cases[] = {
	KUNIT_CASE(iopt_test_usage),
	KUNIT_CASE(iopt_test_usage_payers),
	KUNIT_CASE(iopt_test_cut),
	KUNIT_CASE(iopt_test_cut_fails),
	KUNIT_CASE(iopt_test_in_cut),
	KUNIT_CASE(iopt_test_answer),
	KUNIT_CASE(iopt_test_shut),
	KUNIT_CASE(iopt_test_in_unpin),
	KUNIT_CASE(iopt_test_signal_in_walks),
	KUNIT_CASE(iopt_test_change_process),
	KUNIT_CASE(iopt_test_change_process_unmapped),
	KUNIT_CASE(iopt_test_map),
	KUNIT_CASE(iopt_test_unmap),
	KUNIT_CASE(iopt_test_copy),
	KUNIT_CASE(iopt_test_copy_read_only),
	KUNIT_CASE(iopt_test_lazy),
	KUNIT_CASE(iopt_test_fill_fails),
	KUNIT_CASE(iopt_test_alignment),
	KUNIT_CASE(iopt_test_in_map),
	KUNIT_CASE(iopt_test_hwpt_goes_in_map),
	KUNIT_CASE(iopt_test_in_add_hwpt),
	KUNIT_CASE(iopt_test_device_goes_in_add_hwpt),
	KUNIT_CASE(iopt_test_hwpt_ready),
	KUNIT_CASE(iopt_test_killed_in_copy),
	KUNIT_CASE(iopt_test_killed),
	KUNIT_CASE(iopt_test_lookup_retry),
	KUNIT_CASE(iopt_test_lookup_runs),
	KUNIT_CASE(iopt_test_copy_fails),
	KUNIT_CASE(iopt_test_alloc_fails),
	KUNIT_CASE(iopt_test_random_walk),
	{}
};

static struct kunit_suite noiommu_area_suite = {
	.name = "noiommu_area",
	.init = iopt_test_init,
	.exit = iopt_test_exit,
	.test_cases = noiommu_area_cases,
};

kunit_test_suites(&noiommu_iova_suite, &noiommu_area_suite);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("KUnit tests of the IO address space of noiommufd");
