// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit suite of pinning user memory: runs, hugetlb pages, what is charged, and
 * what a failure halfway leaves. It includes pages.c, on memory that is a table
 * of runs; the contents of a struct page are never read. The software page
 * table is the real one.
 */
#include <kunit/test.h>
#include <linux/cred.h>
#include <linux/hugetlb.h>
#include <linux/memfd.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/sched/user.h>
#include <linux/slab.h>

#include "../../src/iommufd/io_pagetable.h"
#include "alloc.h"

TEST_FREE_RCU(test_free_pages, struct noiommu_pages *)
TEST_FREE_RCU(test_free_account, struct noiommu_account *)
#undef kfree_rcu
#define kfree_rcu(ptr, ...)						\
	__builtin_choose_expr(__same_type((ptr), struct noiommu_account *), \
			      test_free_account, test_free_pages)(ptr)

#define TEST_VA		0x10000000UL

/* User memory: runs of consecutive pages, some of them huge. */
struct test_memory {
	unsigned long npages;
	unsigned long pfn;
	unsigned int order;	/* of its hugetlb pages; 0: none */
};

static const struct test_memory *test_memory;
/* Pins held, by page; those of a huge page count on its head. */
static struct xarray test_pins;
static long test_pinned;
/*
 * The most pages that one call pins, and how many calls succeed before one
 * fails.
 */
static long test_pin_max, test_pin_fails_after;
static int test_pin_error;
static bool test_pin_remote, test_signal;

static const struct test_memory *test_memory_at(unsigned long index,
						unsigned long *pfn)
{
	const struct test_memory *m;

	for (m = test_memory; m->npages; m++) {
		if (index < m->npages) {
			*pfn = m->pfn + index;
			return m;
		}
		index -= m->npages;
	}
	return NULL;
}

static unsigned int test_order(unsigned long pfn)
{
	const struct test_memory *m;

	for (m = test_memory; m->npages; m++)
		if (m->order && pfn >= m->pfn && pfn < m->pfn + m->npages)
			return m->order;
	return 0;
}

/* Add @n pins, or remove them if negative. */
static void test_count_pin(unsigned long pfn, long n)
{
	unsigned long head = pfn >> test_order(pfn) << test_order(pfn);
	void *entry = xa_load(&test_pins, head);
	long pins = (entry ? xa_to_value(entry) : 0) + n;

	test_pinned += n;
	if (WARN_ON(pins < 0))
		return;
	if (pins)
		xa_store(&test_pins, head, xa_mk_value(pins), GFP_KERNEL);
	else
		xa_erase(&test_pins, head);
}

static struct page *test_pfn_to_page(unsigned long pfn)
{
	return (struct page *)((pfn + 1) * sizeof(struct page));
}

static unsigned long test_page_to_pfn(const struct page *page)
{
	return (unsigned long)page / sizeof(struct page) - 1;
}

static long test_pin(unsigned long start, unsigned long nr, unsigned int flags,
		     struct page **pages)
{
	unsigned long index = (start - TEST_VA) >> PAGE_SHIFT, pfn, i;

	if (test_pin_fails_after >= 0 && !test_pin_fails_after--)
		return test_pin_error;
	nr = min_t(unsigned long, nr, test_pin_max);
	for (i = 0; i < nr && test_memory_at(index + i, &pfn); i++) {
		pages[i] = test_pfn_to_page(pfn);
		test_count_pin(pfn, 1);
	}
	return i ?: -EFAULT;
}

int noiommufd_pin_user_pages_fast(unsigned long start, int nr,
				  unsigned int gup_flags, struct page **pages)
{
	return test_pin(start, nr, gup_flags, pages);
}

long noiommufd_pin_user_pages_remote(struct mm_struct *mm, unsigned long start,
				     unsigned long nr, unsigned int gup_flags,
				     struct page **pages)
{
	test_pin_remote = true;
	return test_pin(start, nr, gup_flags, pages);
}

static void test_unpin(struct page **pages, unsigned long n)
{
	while (n--)
		test_count_pin(test_page_to_pfn(*pages++), -1);
}

static void test_unpin_range(struct page *page, unsigned long n)
{
	unsigned long pfn = test_page_to_pfn(page);

	while (n--)
		test_count_pin(pfn++, -1);
}

static bool test_folio_is_at(struct page *page, unsigned long index)
{
	unsigned long pfn;

	return test_memory_at(index, &pfn) && pfn == test_page_to_pfn(page);
}

#undef page_to_pfn
#undef pfn_to_page
#undef compound_head
#undef PageHuge
#define page_to_pfn(page)		test_page_to_pfn(page)
#define pfn_to_page(pfn)		test_pfn_to_page(pfn)
#define compound_head(page)		(page)
#define compound_order(page)		test_order(test_page_to_pfn(page))
#define PageHuge(page)			(!!test_order(test_page_to_pfn(page)))
#define unpin_user_page(page)		test_unpin_range(page, 1)
#define unpin_user_pages(pages, n)	test_unpin(pages, n)
#define unpin_user_pages_dirty_lock(pages, n, ...) \
					test_unpin(pages, n)
#define unpin_user_page_range_dirty_lock(page, n, ...) \
					test_unpin_range(page, n)
#define fatal_signal_pending(...)	test_signal
#define capable(...)			false
/* The guests test how a file's memory is pinned; here, what is made of it. */
#undef folio_page
#define folio_page(folio, n)						\
	test_pfn_to_page(test_page_to_pfn((struct page *)(folio)) + (n))
#define folio_order(folio)		test_order(test_page_to_pfn((struct page *)(folio)))
#define folio_nr_pages(folio)		(1UL << folio_order(folio))
/* Page n of the file is page n of test_memory. */
#define noiommufd_memfd_folio_is_at(file, folio, index) \
	((void)(file), test_folio_is_at((struct page *)(folio), index))
#define noiommufd_memfd_can_pin(...) false
#define noiommufd_memfd_sealed_for_write(...) false
#undef memfd_pin_folios
#define memfd_pin_folios(memfd, start, end, folios, max, offset)         \
	({                                                               \
		(void)(memfd), (void)(start), (void)(end);               \
		(void)(folios), (void)(max);                             \
		*(offset) = 0;                                           \
		-EINVAL;                                                 \
	})

#define noiommu_mem_pages(...)		NULL
#define noiommu_mem_free(...)		do { } while (0)

#include "../../src/iommufd/pages.c"

struct pages_test {
	struct mm_struct *mm;
	struct user_struct *user;
	struct cred cred;
	struct noiommu_account account;
	struct noiommu_pages pages;
	struct noiommu_area area[4];
	u64 max_pfn;
};

static int pages_test_init(struct kunit *test)
{
	struct pages_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	int rc;

	if (!t)
		return -ENOMEM;
	/* Only the counters of these are used. */
	t->mm = kunit_kzalloc(test, sizeof(*t->mm), GFP_KERNEL);
	t->user = kunit_kzalloc(test, sizeof(*t->user), GFP_KERNEL);
	if (!t->mm || !t->user)
		return -ENOMEM;
	rc = swpt_module_init();
	if (rc)
		return rc;
	atomic_set(&t->mm->mm_users, 1);
	t->cred.user = t->user;
	swpt_pages_init(&t->pages.swpt, &t->pages.mutex);
	mutex_init(&t->pages.mutex);
	t->account.mm = t->mm;
	t->account.task = current;
	t->account.user = t->user;
	t->account.cred = &t->cred;
	t->pages.account = &t->account;
	t->pages.start = TEST_VA;
	t->pages.account_mode = IOPT_PAGES_ACCOUNT_USER;
	t->pages.writable = true;
	t->max_pfn = U64_MAX;
	xa_init(&test_pins);
	test_pinned = 0;
	test_pin_max = LONG_MAX;
	test_pin_fails_after = -1;
	test_pin_error = -EFAULT;
	test_signal = false;
	test->priv = t;
	return 0;
}

static void pages_test_exit(struct kunit *test)
{
	struct pages_test *t = test->priv;

	if (!t)
		return;
	swpt_module_exit();
	KUNIT_EXPECT_EQ(test, 0L, test_pinned);
	KUNIT_EXPECT_TRUE(test, xa_empty(&test_pins));
	KUNIT_EXPECT_EQ(test, 0L, atomic_long_read(&t->user->locked_vm));
	KUNIT_EXPECT_EQ(test, 0LL, (s64)atomic64_read(&t->mm->pinned_vm));
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&t->mm->mm_users));
	test_expect_none_allocated(test);
	xa_destroy(&test_pins);
	mutex_destroy(&t->pages.mutex);
}

static int test_fill(struct pages_test *t, unsigned int i, u64 first,
		     u64 npages)
{
	struct noiommu_area *area = &t->area[i];

	area->pages = &t->pages;
	area->swpt.first_index = first;
	area->swpt.last_index = first + npages - 1;
	return noiommu_area_fill(area, t->max_pfn);
}

/* Write the runs of the area's pages to @text, each as "PFN+length ". */
static void test_runs(struct pages_test *t, char *text, size_t size)
{
	struct swpt swpt;
	struct swpt_phys_run run;
	struct swpt_area area = t->area[0].swpt;
	struct swpt_runs runs = { .run = &run, .room = 1 };
	u64 last = ((area.last_index - area.first_index + 1) << PAGE_SHIFT) - 1;
	int n = 0;

	swpt_init(&swpt, PAGE_SHIFT);
	area.iova = 0;
	area.last = last;
	area.start_byte = area.first_index << PAGE_SHIFT;
	area.pages = &t->pages.swpt;
	area.pinned = true;
	swpt_insert(&swpt, &area);
	while (runs.iova <= last && n + 40 < size) {
		runs.nr = 0;
		rcu_read_lock();
		if (swpt_lookup_runs(&swpt, last, &runs))
			runs.iova = U64_MAX;
		rcu_read_unlock();
		n += scnprintf(text + n, size - n, "%llu+%llu ",
			       run.phys >> PAGE_SHIFT,
			       run.length >> PAGE_SHIFT);
	}
}

struct runs_case {
	const char *name;
	struct test_memory memory[6];
	long pin_max;
	const char *runs;
	long pins;
};

/* Consecutive pages are one run, however they were pinned. */
static const struct runs_case runs_cases[] = {
	{ "one page", { { 1, 7 } }, 99, "7+1 ", 1 },
	{ "one run", { { 100, 7 } }, 9999, "7+100 ", 100 },
	{ "one run, page by page", { { 100, 7 } }, 1, "7+100 ", 100 },
	{ "one run, odd batches", { { 100, 7 } }, 33, "7+100 ", 100 },
	{ "descending", { { 1, 9 }, { 1, 8 }, { 1, 7 } }, 99,
	  "9+1 8+1 7+1 ", 3 },
	{ "the same page twice", { { 1, 9 }, { 1, 9 } }, 99, "9+1 9+1 ", 2 },
	{ "runs of some pages", { { 30, 1000 }, { 1, 5 }, { 40, 6 } }, 32,
	  "1000+30 5+41 ", 71 },
	{ "more than a batch", { { 20000, 4096 }, { 9000, 1 } }, 99999,
	  "4096+20000 1+9000 ", 29000 },
	{ "a huge page", { { 512, 1024, 9 } }, 9999, "1024+512 ", 1 },
	{ "huge pages in a row", { { 2048, 1024, 9 } }, 9999, "1024+2048 ",
	  4 },
	{ "a part of a huge page", { { 100, 1124, 9 } }, 9999, "1124+100 ",
	  1 },
	{ "parts of two huge pages", { { 512, 1124, 9 } }, 9999, "1124+512 ",
	  2 },
	{ "huge pages apart", { { 512, 1024, 9 }, { 512, 2048, 9 } }, 9999,
	  "1024+512 2048+512 ", 2 },
	{ "small, then huge", { { 20, 5 }, { 512, 1024, 9 } }, 9999,
	  "5+20 1024+512 ", 513 + 19 },
	{ "huge, then small", { { 512, 1024, 9 }, { 50, 1536 } }, 9999,
	  "1024+562 ", 51 },
	{ "a few pages of a huge one", { { 16, 1024, 9 } }, 9999, "1024+16 ",
	  16 },
};

static void runs_desc(const struct runs_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(runs, runs_cases, runs_desc);

static void pages_test_runs(struct kunit *test)
{
	const struct runs_case *c = test->param_value;
	struct pages_test *t = test->priv;
	char text[128] = "";
	unsigned long npages = 0;
	unsigned int i;

	for (i = 0; c->memory[i].npages; i++)
		npages += c->memory[i].npages;
	test_memory = c->memory;
	test_pin_max = c->pin_max;
	t->pages.account_mode = IOPT_PAGES_ACCOUNT_NONE;
	/* A huge page, or huge pages in a row, need no memory. */
	if (c->memory[0].order && npages > 16 && !c->memory[1].npages)
		noiommufd_test_fail_after = 0;
	KUNIT_ASSERT_EQ(test, 0, test_fill(t, 0, 0, npages));
	noiommufd_test_fail_after = -1;
	KUNIT_EXPECT_EQ(test, c->pins, test_pinned);
	KUNIT_EXPECT_EQ(test, (s64)npages,
			(s64)atomic64_read(&t->mm->pinned_vm));
	test_runs(t, text, sizeof(text));
	KUNIT_EXPECT_STREQ(test, c->runs, text);
	noiommu_area_unfill(&t->area[0]);
}

/* Areas share pages: nothing is pinned or charged twice, or released early. */
static void pages_test_shared(struct kunit *test)
{
	static const struct test_memory memory[] = {
		{ 100, 50 }, { 1024, 1024, 9 }, { 100, 5000 }, {}
	};
	struct pages_test *t = test->priv;
	atomic_long_t *charge = &t->user->locked_vm;

	test_memory = memory;
	/* A batch ends with the first page of a huge page. */
	test_pin_max = 25;
	KUNIT_ASSERT_EQ(test, 0, test_fill(t, 0, 0, 50));
	KUNIT_ASSERT_EQ(test, 0, test_fill(t, 1, 25, 50));
	KUNIT_EXPECT_EQ(test, 75L, test_pinned);
	KUNIT_EXPECT_EQ(test, 75L, atomic_long_read(charge));
	KUNIT_ASSERT_EQ(test, 0, test_fill(t, 2, 0, 600));
	KUNIT_EXPECT_EQ(test, 600L, atomic_long_read(charge));
	KUNIT_EXPECT_EQ(test, 102L, test_pinned);
	KUNIT_ASSERT_EQ(test, 0, test_fill(t, 3, 590, 12));
	KUNIT_EXPECT_EQ(test, 602L, atomic_long_read(charge));
	KUNIT_EXPECT_EQ(test, 104L, test_pinned);

	/* The huge page stays pinned, but only its last pages are charged. */
	noiommu_area_unfill(&t->area[2]);
	KUNIT_EXPECT_EQ(test, 87L, atomic_long_read(charge));
	KUNIT_EXPECT_EQ(test, 78L, test_pinned);
	noiommu_area_unfill(&t->area[0]);
	KUNIT_EXPECT_EQ(test, 62L, atomic_long_read(charge));
	KUNIT_EXPECT_EQ(test, 53L, test_pinned);
	KUNIT_ASSERT_EQ(test, 0, test_fill(t, 2, 0, 600));
	KUNIT_EXPECT_EQ(test, 602L, atomic_long_read(charge));
	KUNIT_EXPECT_EQ(test, 104L, test_pinned);
	noiommu_area_unfill(&t->area[2]);
	noiommu_area_unfill(&t->area[3]);
	KUNIT_EXPECT_EQ(test, 50L, test_pinned);
	noiommu_area_unfill(&t->area[1]);
	KUNIT_EXPECT_TRUE(test, test_pin_remote);
}

static const struct test_memory pages_memory[] = {
	{ 100, 50 }, { 1024, 1024, 9 }, { 1, 2 }, { 1, 4 }, { 700, 5000 }, {}
};

#define PAGES_NPAGES	1826

static void test_fill_fails(struct kunit *test, int rc)
{
	struct pages_test *t = test->priv;

	KUNIT_ASSERT_EQ(test, rc, test_fill(t, 0, 0, PAGES_NPAGES));
	KUNIT_ASSERT_EQ(test, 20L, test_pinned);
	KUNIT_ASSERT_EQ(test, 20L, atomic_long_read(&t->user->locked_vm));
	KUNIT_ASSERT_EQ(test, 20LL, (s64)atomic64_read(&t->mm->pinned_vm));
}

/* A page above the limit: only earlier pins are left. */
static void pages_test_limit(struct kunit *test)
{
	struct pages_test *t = test->priv;
	/* That of the last page of pages_memory */
	const u64 last = 5699;

	test_memory = pages_memory;
	test_pin_max = 64;
	/* The first page is shared with an area that has no limit. */
	KUNIT_ASSERT_EQ(test, 0, test_fill(t, 1, 0, 20));
	t->max_pfn = 49;
	test_fill_fails(test, -ERANGE);
	t->max_pfn = last - 1;
	test_fill_fails(test, -ERANGE);
	KUNIT_EXPECT_EQ(test, 0, test_fill(t, 0, 0, PAGES_NPAGES - 1));
	noiommu_area_unfill(&t->area[0]);
	t->max_pfn = last;
	KUNIT_EXPECT_EQ(test, 0, test_fill(t, 0, 0, PAGES_NPAGES));
	noiommu_area_unfill(&t->area[0]);

	/* What is pinned already is no exception. */
	t->max_pfn = 68;
	KUNIT_EXPECT_EQ(test, -ERANGE, test_fill(t, 0, 0, 20));
	KUNIT_EXPECT_EQ(test, 0, test_fill(t, 0, 0, 19));
	noiommu_area_unfill(&t->area[0]);
	noiommu_area_unfill(&t->area[1]);
}

/* After a fault, a signal or no memory, only earlier pins are left. */
static void pages_test_fill_fails(struct kunit *test)
{
	struct pages_test *t = test->priv;
	long n, allocated;
	int rc;

	test_memory = pages_memory;
	test_pin_max = 64;
	KUNIT_ASSERT_EQ(test, 0, test_fill(t, 1, 10, 20));
	for (n = 0; n < 8; n++) {
		test_pin_fails_after = n;
		test_fill_fails(test, -EFAULT);
	}
	test_pin_fails_after = -1;
	test_signal = true;
	test_fill_fails(test, -EINTR);
	test_signal = false;

	/* The memory ends too early. */
	KUNIT_EXPECT_EQ(test, -EFAULT, test_fill(t, 0, 0, PAGES_NPAGES + 1));
	KUNIT_EXPECT_EQ(test, 20L, test_pinned);

	/* The limit is exceeded. */
	atomic_long_set(&t->user->locked_vm, LONG_MAX / 2);
	KUNIT_EXPECT_EQ(test, -ENOMEM, test_fill(t, 0, 0, PAGES_NPAGES));
	atomic_long_set(&t->user->locked_vm, 20);

	/* The process is gone. */
	atomic_set(&t->mm->mm_users, 0);
	test_fill_fails(test, -EFAULT);
	atomic_set(&t->mm->mm_users, 1);

	allocated = atomic_long_read(&noiommufd_test_allocated);
	for (n = 0; ; n++) {
		noiommufd_test_fail_after = n;
		rc = test_fill(t, 0, 0, PAGES_NPAGES);
		noiommufd_test_fail_after = -1;
		if (!rc)
			break;
		KUNIT_ASSERT_EQ(test, -ENOMEM, rc);
		KUNIT_ASSERT_EQ(test, 20L, test_pinned);
		KUNIT_ASSERT_EQ(test, allocated,
				atomic_long_read(&noiommufd_test_allocated));
	}
	KUNIT_EXPECT_GT(test, n, 3L);
	KUNIT_EXPECT_EQ(test, (long)PAGES_NPAGES,
			atomic_long_read(&t->user->locked_vm));
	noiommu_area_unfill(&t->area[1]);
	noiommu_area_unfill(&t->area[0]);
}

struct folios_case {
	const char *name;
	unsigned long pfns[4];
	unsigned long offset;	/* of the first page in the first folio */
	u64 todo;
	int rc;
	u64 done;
	long pins;
};

/* The file's pages from 0 on are PFNs 1024 to 1535, 7, and 2048 to 2559. */
static const struct folios_case folios_cases[] = {
	{ "all", { 1024, 7, 2048 }, 0, 1025, 0, 1025, 3 },
	{ "a part at either end", { 1024, 7, 2048 }, 12, 600, 0, 600, 3 },
	{ "more than there is to do", { 1024, 7, 2048 }, 0, 513, 0, 513, 2 },
	{ "the second is another", { 1024, 2048 }, 0, 1025, 0, 512, 1 },
	{ "the first is another", { 7, 2048 }, 0, 1025, -EAGAIN, 0, 0 },
	{ "the last twice", { 1024, 7, 7 }, 0, 1025, 0, 513, 2 },
	{ "an offset that it does not have", { 7 }, 1, 1, -EAGAIN, 0, 0 },
};

static void folios_desc(const struct folios_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(folios, folios_cases, folios_desc);

/* Folios are added while each continues the file; the others are unpinned. */
static void pages_test_folios(struct kunit *test)
{
	static const struct test_memory memory[] = {
		{ 512, 1024, 9 }, { 1, 7 }, { 512, 2048, 9 }, {}
	};
	const struct folios_case *c = test->param_value;
	struct pages_test *t = test->priv;
	struct folio *folios[4];
	struct swpt_builder builder;
	u64 todo = c->todo;
	unsigned int n;

	test_memory = memory;
	for (n = 0; c->pfns[n]; n++) {
		folios[n] = (struct folio *)test_pfn_to_page(c->pfns[n]);
		test_count_pin(c->pfns[n], 1);
	}
	swpt_builder_init(&builder);
	swpt_builder_seek(&builder, c->offset);
	KUNIT_EXPECT_EQ(test, c->rc,
			noiommu_file_folios(&builder, NULL, folios, n,
					    c->offset, c->offset + c->todo - 1,
					    &todo));
	KUNIT_EXPECT_EQ(test, c->done, c->todo - todo);
	KUNIT_EXPECT_EQ(test, c->pins, test_pinned);
	mutex_lock(&t->pages.mutex);
	swpt_builder_abort(&builder, noiommu_unpin, &t->pages);
	mutex_unlock(&t->pages.mutex);
}

static struct kunit_case pages_cases[] = {
	KUNIT_CASE_PARAM(pages_test_folios, folios_gen_params),
	KUNIT_CASE_PARAM(pages_test_runs, runs_gen_params),
	KUNIT_CASE(pages_test_shared),
	KUNIT_CASE(pages_test_limit),
	KUNIT_CASE(pages_test_fill_fails),
	{}
};

static struct kunit_suite pages_suite = {
	.name = "pages",
	.init = pages_test_init,
	.exit = pages_test_exit,
	.test_cases = pages_cases,
};

kunit_test_suites(&pages_suite);
