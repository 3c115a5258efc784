// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pinning user memory, the same on every kernel.
 *
 * Before Linux 6.2 a read-only long-term pin of private memory that nobody has
 * written yet holds the zero page or a page of the page cache. The CPU's first
 * write moves the process to a page of its own, and the device never sees it.
 * There, such memory is pinned as if for writing, which gives the process its
 * own page first.
 *
 * mmap_lock of the mm is taken here, for reading; the caller holds none.
 */
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>

#ifdef HAVE_GUP_UNSHARES_COW

static inline bool may_need_unshare(unsigned int gup_flags)
{
	return false;
}

static inline unsigned int unshare_flags(struct mm_struct *mm,
					 unsigned long start, unsigned long *nr)
{
	return 0;
}

#else

static inline bool may_need_unshare(unsigned int gup_flags)
{
	return !(gup_flags & FOLL_WRITE);
}

/*
 * The flags that a read-only pin at @start needs in addition; @nr is cut at the
 * end of what they are good for. Without VM_READ none: the pin shall fail.
 */
static unsigned int unshare_flags(struct mm_struct *mm, unsigned long start,
				  unsigned long *nr)
{
	struct vm_area_struct *vma;

	mmap_assert_locked(mm);

	vma = find_vma(mm, start);
	/* A stack grows into the page below it when that is pinned. */
	if (!vma || (start < vma->vm_start && !(vma->vm_flags & VM_GROWSDOWN)))
		return 0;

	*nr = min(*nr, (vma->vm_end - start) >> PAGE_SHIFT);
	if (!(vma->vm_flags & VM_READ) ||
	    (vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) != VM_MAYWRITE)
		return 0;
	if (vma->vm_flags & VM_WRITE)
		return FOLL_WRITE;
	/* hugetlb refuses FOLL_FORCE, but gives a private page to a read. */
	return is_vm_hugetlb_page(vma) ? 0 : FOLL_FORCE | FOLL_WRITE;
}

#endif

/*
 * GUP may not be able to wait for the page at @start: before Linux 6.3 a
 * long-term pin, before 6.5 one of another process as we take it. Then a page
 * that userfaultfd is to fill comes back as -EFAULT. Fault it in, as the CPU's
 * own access does: killable, with mmap_lock dropped meanwhile.
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

/* Clears @locked if it had to wait and let go of mmap_lock. */
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
 * noiommufd_pin_user_pages_fast - pin memory of the current process
 * @start: page-aligned user address
 * @nr: number of pages asked for
 * @gup_flags: FOLL_LONGTERM, and FOLL_WRITE for memory the device may write
 * @pages: filled with the pages
 *
 * Return: the number of pages pinned, at least 1 but perhaps fewer than @nr
 * (call again for the rest), or a negative errno; never 0.
 */
int noiommufd_pin_user_pages_fast(unsigned long start, int nr,
				  unsigned int gup_flags, struct page **pages)
{
	unsigned long n = nr;
	int rc;

	if (may_need_unshare(gup_flags)) {
		if (mmap_read_lock_killable(current->mm))
			return -EINTR;
		gup_flags |= unshare_flags(current->mm, start, &n);
		mmap_read_unlock(current->mm);
	}

	rc = pin_user_pages_fast(start, n, gup_flags, pages);
	if (rc == -EFAULT) {
		rc = wait_for_page(current->mm, start, gup_flags);
		if (!rc)
			rc = pin_user_pages_fast(start, n, gup_flags, pages);
	}
	return rc ?: -EFAULT;
}

/**
 * noiommufd_pin_user_pages_remote - pin memory of another process
 * @mm: its address space, of which the caller holds a reference (mmget)
 * @start: page-aligned user address
 * @nr: number of pages asked for
 * @gup_flags: FOLL_LONGTERM, and FOLL_WRITE for memory the device may write
 * @pages: filled with the pages
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
		int locked = 1;

		if (mmap_read_lock_killable(mm))
			return -EINTR;
		if (may_need_unshare(gup_flags))
			gup_flags |= unshare_flags(mm, start, &nr);
		rc = pin_remote_locked(mm, start, nr, gup_flags, pages,
				       &locked);
		if (locked)
			mmap_read_unlock(mm);
		if (rc != -EFAULT || waited)
			return rc ?: -EFAULT;
		rc = wait_for_page(mm, start, gup_flags);
		if (rc)
			return rc;
		waited = true;
	}
}
