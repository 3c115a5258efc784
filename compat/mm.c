// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pinning user memory, the same on every kernel.
 *
 * Before Linux 6.2 a read-only long-term pin of private memory that was not
 * written yet pins the zero page or a page of the page cache. The first write
 * by the CPU gives the process another page, which the device does not see.
 * There, such memory is pinned as if for writing, so that the process gets its
 * own page first.
 *
 * Before Linux 6.6 a long-term pin of a hugetlb page that must not stay where
 * it is (ZONE_MOVABLE, CMA) does not move it, but warns and fails. There,
 * hugetlb pages are pinned without FOLL_LONGTERM, and then checked.
 *
 * mmap_lock of the mm is taken here, for reading; the caller holds none.
 */
#define pr_fmt(fmt) "noiommufd: " fmt

#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>

/* KUnit compiles what only older kernels need on every kernel. */
#if defined(NOIOMMUFD_OLDEST_KERNEL) || !defined(HAVE_FAULT_FLAG_UNSHARE) || \
	defined(HAVE_GUP_MUST_UNSHARE_LACKS_VMA)
#define GUP_KEEPS_COW
#endif
#if defined(NOIOMMUFD_OLDEST_KERNEL) || defined(HAVE_FOLLOW_HUGETLB_PAGE)
#define GUP_LEAVES_HUGETLB
#endif

/**
 * struct pin_plan - How to pin pages, where that depends on the VMA.
 * @gup_flags: flags for GUP
 * @nr: number of pages that the plan applies to, from the first one on
 * @hugetlb: check the pages after they were pinned
 * @own: they must belong to the process alone already, as no pin can ensure
 *	that
 */
struct pin_plan {
	unsigned int gup_flags;
	unsigned long nr;
	bool hugetlb;
	bool own;
};

#ifndef GUP_LEAVES_HUGETLB

static inline bool vma_matters(unsigned int gup_flags)
{
	return false;
}

static inline void plan_by_vma(struct mm_struct *mm, unsigned long start,
			       struct pin_plan *plan)
{
}

static inline long check_hugetlb(const struct pin_plan *plan,
				 unsigned long start, struct page **pages,
				 long nr)
{
	return nr;
}

#else

static inline bool vma_matters(unsigned int gup_flags)
{
	return true;
}

static void plan_hugetlb(struct vm_area_struct *vma, struct pin_plan *plan)
{
	plan->hugetlb = true;
	plan->gup_flags &= ~FOLL_LONGTERM;
	if (plan->gup_flags & FOLL_WRITE ||
	    (vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) != VM_MAYWRITE)
		return;
	/*
	 * hugetlb refuses FOLL_FORCE, which would give the process its own
	 * page.
	 */
	if (vma->vm_flags & VM_WRITE)
		plan->gup_flags |= FOLL_WRITE;
	else
		plan->own = true;
}

/* Additional flags for a read-only pin. */
static unsigned int unshare_flags(const struct vm_area_struct *vma)
{
#ifdef GUP_KEEPS_COW
	/* None without VM_READ, so that the pin fails. */
	if (vma->vm_flags & VM_READ &&
	    (vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE)
		return vma->vm_flags & VM_WRITE ? FOLL_WRITE :
						  FOLL_FORCE | FOLL_WRITE;
#endif
	return 0;
}

static void plan_by_vma(struct mm_struct *mm, unsigned long start,
			struct pin_plan *plan)
{
	struct vm_area_struct *vma;

	mmap_assert_locked(mm);

	/* GUP strips the tag, find_vma() does not. */
	start = untagged_addr(start);
	vma = find_vma(mm, start);
	/* Pinning the page below a stack lets the stack grow into it. */
	if (!vma || (start < vma->vm_start && !(vma->vm_flags & VM_GROWSDOWN)))
		return;

	plan->nr = min(plan->nr, (vma->vm_end - start) >> PAGE_SHIFT);
	if (is_vm_hugetlb_page(vma))
		plan_hugetlb(vma, plan);
	else if (!(plan->gup_flags & FOLL_WRITE))
		plan->gup_flags |= unshare_flags(vma);
}

/* Check that the pages may be pinned for long. If not, unpin them. */
static long check_hugetlb(const struct pin_plan *plan, unsigned long start,
			  struct page **pages, long nr)
{
	long i;

	for (i = 0; plan->hugetlb && i < nr; i++) {
		struct page *head = compound_head(pages[i]);

		if (page_zonenum(head) == ZONE_MOVABLE) {
			pr_notice_ratelimited("the huge page at %#lx is in ZONE_MOVABLE, from where this kernel cannot move it to pin it: take huge pages from other memory, or use Linux 6.6 or later\n",
					      start);
			unpin_user_pages(pages, nr);
			return -ENOMEM;
		}
		if (plan->own && (!PageAnon(head) || page_mapcount(head) > 1)) {
			unpin_user_pages(pages, nr);
			return -EADDRNOTAVAIL;
		}
	}
	return nr;
}

#endif

/*
 * Before Linux 6.3 a long-term pin cannot wait for a page, and before 6.5 nor
 * can our pin of another process. If userfaultfd has to supply the page at
 * start, GUP returns -EFAULT. Fault it in as an access by the CPU would:
 * killably, with mmap_lock dropped meanwhile.
 */
static int wait_for_page(struct mm_struct *mm, unsigned long start,
			 unsigned int gup_flags)
{
	unsigned int fault = 0;
	bool unlocked = false;
	int rc;

	if ((gup_flags & (FOLL_WRITE | FOLL_FORCE)) == FOLL_WRITE)
		fault = FAULT_FLAG_WRITE;
	if (mmap_read_lock_killable(mm))
		return -EINTR;
	rc = fixup_user_fault(mm, start, fault, &unlocked);
	mmap_read_unlock(mm);
	return rc;
}

/* Clears *locked if it had to wait and has released mmap_lock. */
static long pin_remote_locked(struct mm_struct *mm, unsigned long start,
			      unsigned long nr, unsigned int gup_flags,
			      struct page **pages, int *locked)
{
#ifdef HAVE_PIN_USER_PAGES_REMOTE_VMAS
	return pin_user_pages_remote(mm, start, nr, gup_flags, pages, NULL,
				     NULL);
#else
	return pin_user_pages_remote(mm, start, nr, gup_flags, pages, locked);
#endif
}

/**
 * noiommufd_pin_user_pages_fast() - Pin memory of the current process.
 * @start: page-aligned user address, perhaps tagged
 * @nr: number of pages
 * @gup_flags: FOLL_LONGTERM, and FOLL_WRITE for memory the device may write
 * @pages: out: the pages
 *
 * Return: the number of pages pinned, from 1 to @nr (call again for the rest),
 * or a negative errno: those of GUP; -ENOMEM also for a huge page that this
 * kernel cannot move to where it may be pinned; -EADDRNOTAVAIL: before Linux
 * 6.6, a pin for reading of a private mapping of hugetlbfs without PROT_WRITE
 * that still shares its page with others.
 */
int noiommufd_pin_user_pages_fast(unsigned long start, int nr,
				  unsigned int gup_flags, struct page **pages)
{
	struct pin_plan plan = { .gup_flags = gup_flags, .nr = nr };
	int rc;

	if (vma_matters(gup_flags)) {
		if (mmap_read_lock_killable(current->mm))
			return -EINTR;
		plan_by_vma(current->mm, start, &plan);
		mmap_read_unlock(current->mm);
		/* Pages are checked under the lock. */
		if (plan.hugetlb)
			return noiommufd_pin_user_pages_remote(current->mm,
							       start, nr,
							       gup_flags,
							       pages);
	}

	rc = pin_user_pages_fast(start, plan.nr, plan.gup_flags, pages);
	if (rc == -EFAULT) {
		rc = wait_for_page(current->mm, start, plan.gup_flags);
		if (!rc)
			rc = pin_user_pages_fast(start, plan.nr, plan.gup_flags,
						 pages);
	}
	return rc ?: -EFAULT;
}

/**
 * noiommufd_pin_user_pages_remote() - Pin memory of another process.
 * @mm: its address space; the caller has a reference (mmget)
 * @start: page-aligned user address, perhaps tagged
 * @nr: number of pages
 * @gup_flags: FOLL_LONGTERM, and FOLL_WRITE for memory the device may write
 * @pages: out: the pages
 *
 * Return: as noiommufd_pin_user_pages_fast().
 */
long noiommufd_pin_user_pages_remote(struct mm_struct *mm, unsigned long start,
				     unsigned long nr, unsigned int gup_flags,
				     struct page **pages)
{
	bool waited = false;
	long rc;

	for (;;) {
		struct pin_plan plan = { .gup_flags = gup_flags, .nr = nr };
		int locked = 1;

		if (mmap_read_lock_killable(mm))
			return -EINTR;
		if (vma_matters(gup_flags))
			plan_by_vma(mm, start, &plan);
		rc = pin_remote_locked(mm, start, plan.nr, plan.gup_flags,
				       pages, &locked);
		if (rc > 0)
			rc = check_hugetlb(&plan, start, pages, rc);
		if (locked)
			mmap_read_unlock(mm);
		if (rc != -EFAULT || waited)
			return rc ?: -EFAULT;
		rc = wait_for_page(mm, start, plan.gup_flags);
		if (rc)
			return rc;
		waited = true;
	}
}
