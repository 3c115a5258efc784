// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit suite of how older kernels pin memory, which depends on the VMA. It
 * includes compat/mm.c as the oldest kernel would have it, with its own
 * find_vma(); no page is pinned.
 */
/* Another test defines these names; have the header declare ours. */
#define noiommufd_pin_user_pages_fast	test_mm_pin_user_pages_fast
#define noiommufd_pin_user_pages_remote	test_mm_pin_user_pages_remote

#include <kunit/test.h>
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>

#define NOIOMMUFD_OLDEST_KERNEL

/* As on arm64, where the top byte of an address is ignored. */
#undef untagged_addr
#define untagged_addr(addr)	((addr) & ~(0xffUL << 56))

static struct vm_area_struct *test_vma;
static unsigned long test_looked_up;
static bool test_vma_hugetlb;

static struct vm_area_struct *test_find_vma(struct mm_struct *mm,
					    unsigned long addr)
{
	test_looked_up = addr;
	return addr < test_vma->vm_end ? test_vma : NULL;
}

#define find_vma(mm, addr)		test_find_vma(mm, addr)
#define is_vm_hugetlb_page(vma)		((vma) == test_vma && test_vma_hugetlb)
#undef mmap_assert_locked
#define mmap_assert_locked(mm)		((void)(mm))
/* Newer kernels lack this. No page is looked at. */
#undef page_mapcount
#define page_mapcount(page)		((void)(page), 1)

#undef pr_fmt
#include "../../compat/mm.c"

struct plan_case {
	const char *name;
	unsigned long vm_flags;
	unsigned int asked;	/* beside FOLL_LONGTERM */
	unsigned int flags;
	bool hugetlb;
	bool own;
};

#define PRIVATE		(VM_READ | VM_MAYWRITE)

static const struct plan_case plan_cases[] = {
	{ "private, to write", PRIVATE | VM_WRITE, FOLL_WRITE,
	  FOLL_LONGTERM | FOLL_WRITE },
	{ "private, to read", PRIVATE | VM_WRITE, 0,
	  FOLL_LONGTERM | FOLL_WRITE },
	{ "private and read-only", PRIVATE, 0,
	  FOLL_LONGTERM | FOLL_WRITE | FOLL_FORCE },
	{ "not to be read", VM_MAYWRITE, 0, FOLL_LONGTERM },
	{ "shared", PRIVATE | VM_SHARED, 0, FOLL_LONGTERM },
	{ "huge, to write", PRIVATE | VM_WRITE, FOLL_WRITE, FOLL_WRITE, true },
	{ "huge, to read", PRIVATE | VM_WRITE, 0, FOLL_WRITE, true },
	{ "huge and read-only", PRIVATE, 0, 0, true, true },
	{ "huge and shared", PRIVATE | VM_SHARED, 0, 0, true },
};

static void plan_desc(const struct plan_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(plan, plan_cases, plan_desc);

/* A tagged address has the plan of the untagged one. */
static void mm_test_plan(struct kunit *test)
{
	static const unsigned long tags[] = { 0, 0x5aUL << 56, 0xffUL << 56 };
	const struct plan_case *c = test->param_value;
	struct vm_area_struct vma = {
		.vm_start = 0x10000, .vm_end = 0x14000, .vm_flags = c->vm_flags,
	};
	unsigned int i;

	test_vma = &vma;
	test_vma_hugetlb = c->hugetlb;
	for (i = 0; i < ARRAY_SIZE(tags); i++) {
		struct pin_plan plan = {
			.gup_flags = FOLL_LONGTERM | c->asked, .nr = 99,
		};

		plan_by_vma(NULL, 0x12000 | tags[i], &plan);
		KUNIT_EXPECT_EQ(test, 0x12000UL, test_looked_up);
		KUNIT_EXPECT_EQ(test, c->flags, plan.gup_flags);
		KUNIT_EXPECT_EQ(test, 0x2000UL >> PAGE_SHIFT, plan.nr);
		KUNIT_EXPECT_EQ(test, c->hugetlb, plan.hugetlb);
		KUNIT_EXPECT_EQ(test, c->own, plan.own);
	}
}

/* Addresses before and after the VMA are left for GUP to report. */
static void mm_test_plan_no_vma(struct kunit *test)
{
	struct vm_area_struct vma = {
		.vm_start = 0x10000, .vm_end = 0x14000, .vm_flags = PRIVATE,
	};
	struct pin_plan plan = { .gup_flags = FOLL_LONGTERM, .nr = 99 };

	test_vma = &vma;
	test_vma_hugetlb = false;
	plan_by_vma(NULL, 0xf000, &plan);
	plan_by_vma(NULL, 0x14000, &plan);
	KUNIT_EXPECT_EQ(test, (unsigned int)FOLL_LONGTERM, plan.gup_flags);
	KUNIT_EXPECT_EQ(test, 99UL, plan.nr);
}

static struct kunit_case mm_cases[] = {
	KUNIT_CASE_PARAM(mm_test_plan, plan_gen_params),
	KUNIT_CASE(mm_test_plan_no_vma),
	{}
};

static struct kunit_suite mm_suite = {
	.name = "mm",
	.test_cases = mm_cases,
};

kunit_test_suites(&mm_suite);
