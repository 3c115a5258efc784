// SPDX-License-Identifier: GPL-2.0-only
/*
 * User memory: pinning it, charging it, and giving it back. iopt_pages::mutex
 * guards all of it; it is held while memory is faulted in, so nothing that user
 * space can make others wait for may be taken inside it.
 */
#include <linux/cred.h>
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/sched/user.h>
#include <linux/slab.h>

#include "io_pagetable.h"

/* Interrupts are off while one call pins: as much at a time as mainline does. */
#define IOPT_PIN_BATCH		8192
/* What is pinned without allocating an array for it. */
#define IOPT_PIN_SMALL		16
/* Pages that are unpinned between two chances to reschedule. */
#define IOPT_UNPIN_BATCH	65536UL
#define IOPT_UNPIN_SMALL	64

static int iopt_charge_user(struct iopt_pages *pages, unsigned long npages)
{
	atomic_long_t *locked_vm = &pages->source_cred->user->locked_vm;
	unsigned long limit, cur, new;

	limit = task_rlimit(pages->source_task, RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	cur = atomic_long_read(locked_vm);
	do {
		new = cur + npages;
		if (new > limit)
			return -ENOMEM;
	} while (!atomic_long_try_cmpxchg(locked_vm, &cur, new));
	return 0;
}

static int iopt_account_mm(struct iopt_pages *pages, unsigned long npages,
			   bool inc)
{
	struct mm_struct *mm = pages->source_mm;
	int rc;

	/* A memory that is gone has no account any more. */
	if (!mmget_not_zero(mm))
		return inc ? -EFAULT : 0;
	mmap_write_lock(mm);
	rc = __account_locked_vm(mm, npages, inc, pages->source_task, false);
	mmap_write_unlock(mm);
	mmput_async(mm);
	return rc;
}

static int iopt_pages_charge(struct iopt_pages *pages, unsigned long npages)
{
	int rc = 0;

	if (pages->account_mode == IOPT_PAGES_ACCOUNT_USER)
		rc = iopt_charge_user(pages, npages);
	else if (pages->account_mode == IOPT_PAGES_ACCOUNT_MM)
		rc = iopt_account_mm(pages, npages, true);
	if (!rc)
		atomic64_add(npages, &pages->source_mm->pinned_vm);
	return rc;
}

static void iopt_pages_uncharge(struct iopt_pages *pages, unsigned long npages)
{
	if (!npages)
		return;
	if (pages->account_mode == IOPT_PAGES_ACCOUNT_USER)
		atomic_long_sub(npages, &pages->source_cred->user->locked_vm);
	else if (pages->account_mode == IOPT_PAGES_ACCOUNT_MM)
		iopt_account_mm(pages, npages, false);
	atomic64_sub(npages, &pages->source_mm->pinned_vm);
}

/* Pages with a pin each, in no order. */
static void iopt_unpin_words(struct iopt_pages *pages, const u64 *words,
			     unsigned int nr)
{
	struct page *batch[IOPT_UNPIN_SMALL];

	while (nr) {
		unsigned int i, n = min_t(unsigned int, nr, ARRAY_SIZE(batch));

		for (i = 0; i < n; i++)
			batch[i] = pfn_to_page(words[i]);
		unpin_user_pages_dirty_lock(batch, n, pages->writable);
		words += n;
		nr -= n;
		cond_resched();
	}
}

static void iopt_unpin_run(struct iopt_pages *pages, u64 pfn,
			   unsigned int order, u64 npages)
{
	while (npages) {
		u64 n, pins;

		if (order) {
			n = min(npages, (1ULL << order) -
					(pfn & ((1ULL << order) - 1)));
			pins = 1;
		} else {
			n = min_t(u64, npages, IOPT_UNPIN_BATCH);
			pins = n;
		}
		unpin_user_page_range_dirty_lock(pfn_to_page(pfn), pins,
						 pages->writable);
		pfn += n;
		npages -= n;
		cond_resched();
	}
}

/* A swpt_release_fn: unpin memory the way it was pinned. */
static void iopt_unpin(void *arg, const u64 *words, unsigned int nr, u64 npages)
{
	unsigned int i;

	if (npages == 1 && !swpt_word_order(words[0])) {
		iopt_unpin_words(arg, words, nr);
		return;
	}
	for (i = 0; i < nr; i++)
		iopt_unpin_run(arg, swpt_word_pfn(words[i]),
			       swpt_word_order(words[i]), npages);
}

static int iopt_pin(struct iopt_pages *pages, u64 index, unsigned long npages,
		    struct page **upages)
{
	unsigned long va = pages->start + index * PAGE_SIZE;
	unsigned int flags = FOLL_LONGTERM;

	if (pages->writable)
		flags |= FOLL_WRITE;
	if (pages->source_mm == current->mm)
		return noiommufd_pin_user_pages_fast(va, npages, flags, upages);
	return noiommufd_pin_user_pages_remote(pages->source_mm, va, npages,
					       flags, upages);
}

/* File an array of pages that have a pin each, as runs. */
static int iopt_file_pages(struct swpt_fill *fill, struct page **upages,
			   unsigned long npages)
{
	unsigned long i, n;

	for (i = 0; i < npages; i += n) {
		unsigned long pfn = page_to_pfn(upages[i]);

		for (n = 1; i + n < npages; n++)
			if (page_to_pfn(upages[i + n]) != pfn + n)
				break;
		if (swpt_fill_add(fill, swpt_word(pfn, 0), n)) {
			unpin_user_pages(upages + i, npages - i);
			return -ENOMEM;
		}
	}
	return 0;
}

/*
 * File the rest of a hugetlb page by the one pin on its page: a pin is worth
 * the whole of it, and a VMA that has one page of it has them all.
 */
static int iopt_file_hugetlb(struct swpt_fill *fill, struct page *page,
			     unsigned long npages)
{
	unsigned int order = compound_order(compound_head(page));
	unsigned long pfn = page_to_pfn(page);
	unsigned long n;

	n = min(npages, (1UL << order) - (pfn & ((1UL << order) - 1)));
	if (swpt_fill_add(fill, swpt_word(pfn, order), n)) {
		unpin_user_page(page);
		return -ENOMEM;
	}
	return n;
}

/* Pin the pages from first to last and file them in fill. */
static int iopt_pages_pin_mm(struct iopt_pages *pages, struct swpt_fill *fill,
			     u64 first, u64 last)
{
	unsigned long room = IOPT_PIN_SMALL;
	struct page *small[IOPT_PIN_SMALL];
	struct page **upages = small;
	u64 todo = last - first + 1;
	/* Look at one page before asking for many. */
	bool hugetlb = todo > IOPT_PIN_SMALL;
	int rc = 0;

	if (todo > room) {
		room = min_t(u64, todo, IOPT_PIN_BATCH);
		upages = kvmalloc_array(room, sizeof(*upages), GFP_KERNEL);
		if (!upages)
			return -ENOMEM;
	}

	while (todo) {
		u64 index = last - todo + 1;
		int n;

		if (fatal_signal_pending(current)) {
			rc = -EINTR;
			break;
		}
		n = iopt_pin(pages, index,
			     hugetlb ? 1 : min_t(u64, todo, room), upages);
		if (n < 0) {
			rc = n;
			break;
		}
		if (hugetlb && PageHuge(upages[0])) {
			n = iopt_file_hugetlb(fill, upages[0],
					      min_t(u64, todo, ULONG_MAX));
			if (n < 0) {
				rc = n;
				break;
			}
		} else {
			hugetlb = PageHuge(upages[n - 1]);
			rc = iopt_file_pages(fill, upages, n);
			if (rc)
				break;
		}
		todo -= n;
		cond_resched();
	}

	if (upages != small)
		kvfree(upages);
	return rc;
}

static int iopt_pages_pin(struct iopt_pages *pages, struct swpt_fill *fill,
			  u64 first, u64 last)
{
	struct mm_struct *mm = pages->source_mm;
	int rc;

	if (mm == current->mm)
		return iopt_pages_pin_mm(pages, fill, first, last);
	/* Mapped by another process, which may have exited. */
	if (!mmget_not_zero(mm))
		return -EFAULT;
	rc = iopt_pages_pin_mm(pages, fill, first, last);
	mmput_async(mm);
	return rc;
}

/**
 * iopt_area_fill() - pin what an area maps, where that is not pinned yet
 * @area: not held
 *
 * Context: may sleep in a page fault for as long as user space pleases; a fatal
 * signal ends that. The caller sees to it that nobody else touches the area.
 * Return: 0 and the area holds its pages; -EFAULT: memory is not there, or not
 * for what the device may do; -ENOMEM: no memory, or over RLIMIT_MEMLOCK;
 * -EINTR. On failure nothing is pinned or charged.
 */
int iopt_area_fill(struct iopt_area *area)
{
	struct iopt_pages *pages = area->pages;
	u64 first = area->swpt.first_index;
	u64 last = area->swpt.last_index;
	struct swpt_fill fill;
	bool pinned = false;
	unsigned long nr;
	u64 hole_last;
	int rc;

	rc = mutex_lock_killable(&pages->mutex);
	if (rc)
		return rc;

	nr = swpt_pages_nr_unheld(&pages->swpt, first, last);
	rc = iopt_pages_charge(pages, nr);
	if (rc)
		goto out_unlock;

	swpt_fill_init(&fill);
	while (swpt_pages_next_hole(&pages->swpt, &first, last, &hole_last)) {
		pinned = true;
		swpt_fill_seek(&fill, first);
		rc = iopt_pages_pin(pages, &fill, first, hole_last);
		if (rc)
			goto out_abort;
		if (hole_last == last)
			break;
		first = hole_last + 1;
	}
	if (pinned) {
		rc = swpt_fill_commit(&fill, &pages->swpt);
		if (rc)
			goto out_abort;
	}
	swpt_pages_hold(&pages->swpt, &area->swpt);
	goto out_unlock;

out_abort:
	swpt_fill_abort(&fill, iopt_unpin, pages);
	iopt_pages_uncharge(pages, nr);
out_unlock:
	mutex_unlock(&pages->mutex);
	return rc;
}

/**
 * iopt_area_unfill() - unpin what only this area holds
 * @area: its pages are held, and no reader can find it so any more
 */
void iopt_area_unfill(struct iopt_area *area)
{
	struct iopt_pages *pages = area->pages;

	mutex_lock(&pages->mutex);
	swpt_pages_drop(&pages->swpt, &area->swpt, iopt_unpin, pages);
	iopt_pages_uncharge(pages,
			    swpt_pages_nr_unheld(&pages->swpt,
						 area->swpt.first_index,
						 area->swpt.last_index));
	mutex_unlock(&pages->mutex);
}

/**
 * iopt_alloc_user_pages() - describe memory of the current process
 * @uptr: its address
 * @length: its length in bytes
 * @writable: devices may write to it
 * @account_mode: whom to charge, IOPT_PAGES_ACCOUNT_USER or _MM
 *
 * Pins nothing yet. Who pays is settled here, for good: this process.
 *
 * Return: pages object with one reference; -EINVAL, -EOVERFLOW for a range that
 * no memory can have; -ENOMEM.
 */
struct iopt_pages *iopt_alloc_user_pages(unsigned long uptr,
					 unsigned long length, bool writable,
					 u8 account_mode)
{
	struct iopt_pages *pages;
	unsigned long end;

	if (check_add_overflow(uptr, length, &end))
		return ERR_PTR(-EOVERFLOW);
	if (!length || length > SIZE_MAX - PAGE_SIZE)
		return ERR_PTR(-EINVAL);

	pages = kmalloc(sizeof(*pages), GFP_KERNEL_ACCOUNT);
	if (!pages)
		return ERR_PTR(-ENOMEM);
	swpt_pages_init(&pages->swpt);
	refcount_set(&pages->refs, 1);
	mutex_init(&pages->mutex);
	pages->source_mm = current->mm;
	mmgrab(pages->source_mm);
	pages->source_task = current->group_leader;
	get_task_struct(pages->source_task);
	pages->source_cred = get_current_cred();
	pages->start = uptr & PAGE_MASK;
	pages->npages = DIV_ROUND_UP(length + (uptr - pages->start), PAGE_SIZE);
	pages->account_mode = capable(CAP_IPC_LOCK) ? IOPT_PAGES_ACCOUNT_NONE :
						      account_mode;
	pages->writable = writable;
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
	mmdrop(pages->source_mm);
	put_task_struct(pages->source_task);
	put_cred(pages->source_cred);
	mutex_destroy(&pages->mutex);
	kfree_rcu(pages, rcu);
}
