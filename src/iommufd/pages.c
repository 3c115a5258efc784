// SPDX-License-Identifier: GPL-2.0-only
/*
 * User memory: pin it, charge it, give it back. noiommu_pages::mutex guards all
 * of that. It is held while memory is faulted in, which user space can stall,
 * so it is never taken under io_pagetable::iova_rwsem.
 */
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/lockdep.h>
#include <linux/memfd.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/sched/user.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "trace.h"

/* Interrupts are off while GUP pins a batch: as many pages as in mainline. */
#define IOPT_PIN_BATCH		8192
/* Pages that are pinned without allocating an array. */
#define IOPT_PIN_SMALL		16
/* Pages to unpin before rescheduling. */
#define IOPT_UNPIN_BATCH	65536UL
#define IOPT_UNPIN_SMALL	64
/* Attempts to pin a file that another thread changes. */
#define IOPT_FILE_TRIES		16

/*
 * Guards noiommu_pages::account against noiommu_pages_get_payer(), which must
 * not wait for the mutex. Readers that hold that need no more.
 */
static DEFINE_SPINLOCK(noiommu_account_lock);

static bool noiommu_account_is_current(const struct noiommu_account *account)
{
	return account->mm == current->mm &&
	       account->task == current->group_leader &&
	       account->user == current_user();
}

static struct noiommu_account *noiommu_new_account(void)
{
	struct noiommu_account *account;

	account = kmalloc(sizeof(*account), GFP_KERNEL_ACCOUNT);
	if (!account)
		return NULL;
	refcount_set(&account->refs, 1);
	account->mm = current->mm;
	mmgrab(account->mm);
	account->task = current->group_leader;
	get_task_struct(account->task);
	account->cred = get_current_cred();
	account->user = account->cred->user;
	return account;
}

/**
 * noiommu_get_account() - Get what memory of the current process is charged to.
 * @last: the account that was used last, which is likely to be this one; or NULL
 *
 * Return: an account, with a reference; NULL: no memory.
 */
struct noiommu_account *noiommu_get_account(struct noiommu_account __rcu **last)
{
	struct noiommu_account *account;

	if (last) {
		rcu_read_lock();
		account = rcu_dereference(*last);
		if (account && noiommu_account_is_current(account) &&
		    refcount_inc_not_zero(&account->refs)) {
			rcu_read_unlock();
			return account;
		}
		rcu_read_unlock();
	}
	account = noiommu_new_account();
	if (account && last) {
		refcount_inc(&account->refs);
		noiommu_put_account(unrcu_pointer(xchg(last, RCU_INITIALIZER(account))));
	}
	return account;
}

/**
 * noiommu_put_account() - Drop a reference to an account.
 * @account: account, or NULL
 */
void noiommu_put_account(struct noiommu_account *account)
{
	if (!account || !refcount_dec_and_test(&account->refs))
		return;
	mmdrop(account->mm);
	put_task_struct(account->task);
	put_cred(account->cred);
	kfree_rcu(account, rcu);
}

static int noiommu_charge_user(struct noiommu_account *account,
			       unsigned long npages, bool force)
{
	atomic_long_t *locked_vm = &account->user->locked_vm;
	unsigned long limit, cur, new;

	limit = task_rlimit(account->task, RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	cur = atomic_long_read(locked_vm);
	do {
		new = cur + npages;
		if (new > limit && !force)
			return -ENOMEM;
	} while (!atomic_long_try_cmpxchg(locked_vm, &cur, new));
	return 0;
}

static int noiommu_charge_mm(struct noiommu_account *account,
			     unsigned long npages, bool inc, bool force)
{
	struct mm_struct *mm = account->mm;
	int rc;

	/* The process may have exited; the account still exists. */
	mmap_write_lock(mm);
	rc = __account_locked_vm(mm, npages, inc, account->task, force);
	mmap_write_unlock(mm);
	return rc;
}

/* force: ignore the limit; used to restore an earlier charge. */
static int noiommu_charge(u8 mode, struct noiommu_account *account,
			  unsigned long npages, bool force)
{
	int rc = 0;

	if (!npages)
		return 0;
	if (mode == IOPT_PAGES_ACCOUNT_USER)
		rc = noiommu_charge_user(account, npages, force);
	else if (mode == IOPT_PAGES_ACCOUNT_MM)
		rc = noiommu_charge_mm(account, npages, true, force);
	if (!rc)
		atomic64_add(npages, &account->mm->pinned_vm);
	return rc;
}

static void noiommu_uncharge(u8 mode, struct noiommu_account *account,
			     unsigned long npages)
{
	if (!npages)
		return;
	if (mode == IOPT_PAGES_ACCOUNT_USER)
		atomic_long_sub(npages, &account->user->locked_vm);
	else if (mode == IOPT_PAGES_ACCOUNT_MM)
		noiommu_charge_mm(account, npages, false, false);
	atomic64_sub(npages, &account->mm->pinned_vm);
}

/**
 * noiommu_pages_charge() - Charge pages to the account.
 * @pages: pages object; its mutex is held
 * @npages: number of pages
 *
 * Return: 0; -ENOMEM: over RLIMIT_MEMLOCK.
 */
int noiommu_pages_charge(struct noiommu_pages *pages, unsigned long npages)
{
	int rc;

	lockdep_assert_held(&pages->mutex);

	rc = noiommu_charge(pages->account_mode, pages->account, npages,
			    false);
	if (!rc)
		pages->npinned += npages;
	return rc;
}

/**
 * noiommu_pages_uncharge() - Undo noiommu_pages_charge().
 * @pages: pages object; its mutex is held
 * @npages: number of pages
 */
void noiommu_pages_uncharge(struct noiommu_pages *pages, unsigned long npages)
{
	lockdep_assert_held(&pages->mutex);

	noiommu_uncharge(pages->account_mode, pages->account, npages);
	pages->npinned -= npages;
}

/* Unpin pages with one pin each, in any order. */
static void noiommu_unpin_words(struct noiommu_pages *pages, const u64 *words,
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

static void noiommu_unpin_run(struct noiommu_pages *pages, u64 pfn,
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

/* swpt_release_fn: unpin memory the way it was pinned. */
static void noiommu_unpin(void *arg, const u64 *words, unsigned int nr,
			  u64 npages)
{
	struct noiommu_pages *pages = arg;
	unsigned int i;

	lockdep_assert_held(&pages->mutex);

	if (npages == 1 && !swpt_word_order(words[0])) {
		noiommu_unpin_words(pages, words, nr);
		return;
	}
	for (i = 0; i < nr; i++)
		noiommu_unpin_run(pages, swpt_word_pfn(words[i]),
				  swpt_word_order(words[i]), npages);
}

static int noiommu_pin(struct noiommu_pages *pages, u64 index,
		       unsigned long npages, struct page **upages)
{
	unsigned long va = pages->start + index * PAGE_SIZE;
	unsigned int flags = FOLL_LONGTERM;

	if (pages->writable)
		flags |= FOLL_WRITE;
	if (pages->account->mm == current->mm)
		return noiommufd_pin_user_pages_fast(va, npages, flags, upages);
	return noiommufd_pin_user_pages_remote(pages->account->mm, va, npages,
					       flags, upages);
}

/* Is a page n pages after another one? */
static bool noiommu_page_follows(const struct page *page,
				 const struct page *first, unsigned long n)
{
	/* Elsewhere the pages of two sections may be neighbours by chance. */
	if (IS_ENABLED(CONFIG_SPARSEMEM_VMEMMAP) || IS_ENABLED(CONFIG_FLATMEM))
		return page == first + n;
	return page_to_pfn(page) == page_to_pfn(first) + n;
}

/* Collect pages with one pin each as runs. */
static int noiommu_file_pages(struct swpt_builder *builder,
			      struct page **upages, unsigned long npages)
{
	unsigned long i, n;

	for (i = 0; i < npages; i += n) {
		unsigned long pfn = page_to_pfn(upages[i]);

		for (n = 1; i + n < npages; n++)
			if (!noiommu_page_follows(upages[i + n], upages[i], n))
				break;
		if (swpt_builder_add(builder, swpt_word(pfn, 0), n)) {
			unpin_user_pages(upages + i, npages - i);
			return -ENOMEM;
		}
	}
	return 0;
}

/*
 * Collect the rest of a hugetlb page on one pin: that pins all of it, and a VMA
 * maps it as a whole. Returns the number of pages.
 */
static int noiommu_file_hugetlb(struct swpt_builder *builder, struct page *page,
				unsigned long npages)
{
	unsigned int order = compound_order(compound_head(page));
	unsigned long pfn = page_to_pfn(page);
	unsigned long n;

	n = min(npages, (1UL << order) - (pfn & ((1UL << order) - 1)));
	if (swpt_builder_add(builder, swpt_word(pfn, order), n)) {
		unpin_user_page(page);
		return -ENOMEM;
	}
	return n;
}

/* Pin the pages from first to last and collect them in builder. */
static int noiommu_pages_pin_mm(struct noiommu_pages *pages,
				struct swpt_builder *builder, u64 first,
				u64 last)
{
	unsigned long room = IOPT_PIN_SMALL;
	struct page *small[IOPT_PIN_SMALL];
	struct page **upages = small;
	u64 todo = last - first + 1;
	/* Pin a single page first, to see whether it is huge. */
	bool hugetlb = todo > IOPT_PIN_SMALL;
	int rc = 0;

	while (todo) {
		u64 index = last - todo + 1;
		int n;

		if (fatal_signal_pending(current)) {
			rc = -EINTR;
			break;
		}
		/* Huge pages do not need an array. */
		if (!hugetlb && upages == small && todo > room) {
			room = min_t(u64, todo, IOPT_PIN_BATCH);
			upages = kvmalloc_array(room, sizeof(*upages),
						GFP_KERNEL);
			if (!upages) {
				upages = small;
				rc = -ENOMEM;
				break;
			}
		}
		n = noiommu_pin(pages, index,
				hugetlb ? 1 : min_t(u64, todo, room), upages);
		if (n < 0) {
			rc = n;
			break;
		}
		if (hugetlb && PageHuge(upages[0])) {
			n = noiommu_file_hugetlb(builder, upages[0],
						 min_t(u64, todo, ULONG_MAX));
			if (n < 0) {
				rc = n;
				break;
			}
		} else {
			hugetlb = PageHuge(upages[n - 1]);
			rc = noiommu_file_pages(builder, upages, n);
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

static void noiommu_unpin_folios(struct folio **folios, unsigned long nr)
{
	while (nr--)
		unpin_user_page(folio_page(*folios++, 0));
}

/*
 * Collect folios with one pin each, as long as each is the next one of the
 * file, up to its page last. Another thread may change the file meanwhile: then
 * the others are unpinned. -EAGAIN: so is the first one.
 */
static int noiommu_file_folios(struct swpt_builder *builder, struct file *file,
			       struct folio **folios, unsigned long nr,
			       unsigned long offset, pgoff_t last, u64 *todo)
{
	unsigned long i;
	int rc = 0;

	for (i = 0; i < nr && *todo; i++, offset = 0) {
		unsigned long npages = folio_nr_pages(folios[i]);
		unsigned long pfn = page_to_pfn(folio_page(folios[i], offset));
		u64 n;

		if (offset >= npages ||
		    !noiommufd_memfd_folio_is_at(file, folios[i],
						 last + 1 - *todo - offset)) {
			rc = i ? 0 : -EAGAIN;
			break;
		}
		n = min_t(u64, npages - offset, *todo);
		rc = swpt_builder_add(builder,
				      swpt_word(pfn, folio_order(folios[i])),
				      n);
		if (rc)
			break;
		*todo -= n;
	}
	noiommu_unpin_folios(folios + i, nr - i);
	return rc;
}

/* A device may write only where a process could with this file. */
static int noiommu_file_begin_pin(struct noiommu_pages *pages)
{
	if (!pages->writable)
		return 0;
	/*
	 * Prevents a write seal until the pages are pinned; then the pins do.
	 */
	return mapping_map_writable(pages->file->f_mapping);
}

static void noiommu_file_end_pin(struct noiommu_pages *pages)
{
	if (pages->writable)
		mapping_unmap_writable(pages->file->f_mapping);
}

static int noiommu_pages_pin_file(struct noiommu_pages *pages,
				  struct swpt_builder *builder, u64 first,
				  u64 last)
{
	u64 todo = last - first + 1;
	loff_t end = pages->start + ((last + 1) << PAGE_SHIFT) - 1;
	unsigned int room = min_t(u64, todo, IOPT_PIN_BATCH);
	unsigned int tries = IOPT_FILE_TRIES;
	struct folio **folios;
	int rc;

	/* A kind of file without memory that can be pinned. */
	if (!pages->file)
		return -EINVAL;
	/* No file has such an offset, or this one is shorter. */
	if (end < 0 || end >= i_size_read(file_inode(pages->file)))
		return -EINVAL;
	rc = noiommu_file_begin_pin(pages);
	if (rc)
		return rc;
	folios = kvmalloc_array(room, sizeof(*folios), GFP_KERNEL);
	if (!folios) {
		rc = -ENOMEM;
		goto out_end;
	}
	while (todo) {
		loff_t start = end - ((loff_t)todo << PAGE_SHIFT) + 1;
		pgoff_t offset;
		long n;

		if (fatal_signal_pending(current)) {
			rc = -EINTR;
			break;
		}
		n = memfd_pin_folios(pages->file, start, end, folios, room,
				     &offset);
		if (n > 0)
			rc = noiommu_file_folios(builder, pages->file, folios,
						 n, offset >> PAGE_SHIFT,
						 end >> PAGE_SHIFT, &todo);
		else
			rc = n ?: -EFAULT;
		cond_resched();
		if (!rc)
			tries = IOPT_FILE_TRIES;
		else if (rc != -EAGAIN || !--tries)
			break;
	}
	kvfree(folios);
	if (rc == -EAGAIN)
		rc = -EFAULT;
out_end:
	noiommu_file_end_pin(pages);
	return rc;
}

static int noiommu_pages_pin(struct noiommu_pages *pages,
			     struct swpt_builder *builder, u64 first, u64 last)
{
	struct mm_struct *mm = pages->account->mm;
	int rc;

	lockdep_assert_held(&pages->mutex);

	if (pages->type == IOPT_ADDRESS_FILE)
		return noiommu_pages_pin_file(pages, builder, first, last);
	if (mm == current->mm)
		return noiommu_pages_pin_mm(pages, builder, first, last);
	/* The memory of another process, which may have exited. */
	if (!mmget_not_zero(mm))
		return -EFAULT;
	rc = noiommu_pages_pin_mm(pages, builder, first, last);
	mmput_async(mm);
	return rc;
}

/* Returns the number of pages that nothing is charged for any more. */
static unsigned long noiommu_area_uncover(struct noiommu_area *area)
{
	struct noiommu_pages *pages = area->pages;
	unsigned long nr;

	swpt_pages_remove_area(&pages->swpt, &area->swpt, noiommu_unpin, pages);
	nr = swpt_pages_nr_uncovered(&pages->swpt, area->swpt.first_index,
				     area->swpt.last_index);
	noiommu_pages_uncharge(pages, nr);
	return nr;
}

/**
 * noiommu_area_fill() - Pin what an area maps and is not pinned yet.
 * @area: not pinned
 * @max_pfn: the last page that it may have; U64_MAX: any
 *
 * Context: may sleep in a page fault for as long as user space stalls it; a
 * fatal signal ends that. The caller keeps others from changing the area.
 * Return: 0 and the area is pinned; -EFAULT: there is no memory, or the
 * device may not access it; -ENOMEM: no memory, or over RLIMIT_MEMLOCK;
 * -ERANGE: a page is above @max_pfn; -EINTR. On failure nothing is pinned or
 * charged.
 */
int noiommu_area_fill(struct noiommu_area *area, u64 max_pfn)
{
	struct noiommu_pages *pages = area->pages;
	u64 first = area->swpt.first_index;
	u64 last = area->swpt.last_index;
	u64 start = noiommufd_trace_start(noiommufd_pin);
	struct swpt_builder builder;
	bool pinned = false;
	unsigned long nr;
	u64 hole_last;
	int rc;

	rc = mutex_lock_killable(&pages->mutex);
	if (rc)
		return rc;

	nr = swpt_pages_nr_uncovered(&pages->swpt, first, last);
	rc = noiommu_pages_charge(pages, nr);
	if (rc)
		goto out_unlock;

	swpt_builder_init(&builder);
	while (swpt_pages_next_hole(&pages->swpt, &first, last, &hole_last)) {
		pinned = true;
		swpt_builder_seek(&builder, first);
		rc = noiommu_pages_pin(pages, &builder, first, hole_last);
		if (rc)
			goto out_abort;
		if (hole_last == last)
			break;
		first = hole_last + 1;
	}
	if (pinned) {
		rc = swpt_builder_commit(&builder, &pages->swpt);
		if (rc)
			goto out_abort;
	}
	swpt_pages_add_area(&pages->swpt, &area->swpt);
	if (max_pfn != U64_MAX &&
	    swpt_area_exceeds(&pages->swpt, &area->swpt, max_pfn)) {
		noiommu_area_uncover(area);
		rc = -ERANGE;
	}
	goto out_unlock;

out_abort:
	swpt_builder_abort(&builder, noiommu_unpin, pages);
	noiommu_pages_uncharge(pages, nr);
out_unlock:
	mutex_unlock(&pages->mutex);
	trace_noiommufd_pin(area, nr, rc, start);
	return rc;
}

/**
 * noiommu_area_unfill() - Unpin what only this area covers.
 * @area: pinned, and no reader can find it so any more
 */
void noiommu_area_unfill(struct noiommu_area *area)
{
	u64 start = noiommufd_trace_start(noiommufd_unpin);
	struct noiommu_pages *pages = area->pages;
	unsigned long nr;

	mutex_lock(&pages->mutex);
	nr = noiommu_area_uncover(area);
	mutex_unlock(&pages->mutex);
	trace_noiommufd_unpin(area, nr, 0, start);
}

/**
 * noiommu_areas_share() - Cover what another area of the same pages covers.
 * @areas: new areas of one pages object, whose pages are pinned
 * @nr: number of areas
 *
 * Return: 0 or -EINTR.
 */
int noiommu_areas_share(struct noiommu_area *const *areas, unsigned int nr)
{
	struct noiommu_pages *pages = areas[0]->pages;
	unsigned int i;
	int rc;

	rc = mutex_lock_killable(&pages->mutex);
	if (rc)
		return rc;
	for (i = 0; i < nr; i++)
		swpt_pages_add_area(&pages->swpt, &areas[i]->swpt);
	mutex_unlock(&pages->mutex);
	return 0;
}

/**
 * noiommu_init_pages() - Set up a pages object with one reference.
 * @pages: object, to be freed with noiommu_put_pages()
 * @start: address or offset in bytes
 * @length: bytes
 * @writable: devices may write to it
 * @account_mode: IOPT_PAGES_ACCOUNT_USER or _MM
 * @account: what is charged for it; takes over the reference
 */
void noiommu_init_pages(struct noiommu_pages *pages, unsigned long start,
			unsigned long length, bool writable, u8 account_mode,
			struct noiommu_account *account)
{
	swpt_pages_init(&pages->swpt, &pages->mutex);
	refcount_set(&pages->refs, 1);
	mutex_init(&pages->mutex);
	pages->account = account;
	pages->old_account = NULL;
	pages->npinned = 0;
	INIT_LIST_HEAD(&pages->item);
	pages->type = IOPT_ADDRESS_USER;
	pages->file = NULL;
	pages->start = start & PAGE_MASK;
	pages->npages = DIV_ROUND_UP(length + (start - pages->start),
				     PAGE_SIZE);
	pages->account_mode = capable(CAP_IPC_LOCK) ? IOPT_PAGES_ACCOUNT_NONE :
						      account_mode;
	pages->writable = writable;
	pages->walk = 0;
}

static struct noiommu_pages *noiommu_alloc_pages(unsigned long start,
						 unsigned long length,
						 bool writable, u8 account_mode,
						 struct noiommu_account __rcu **last)
{
	struct noiommu_account *account;
	struct noiommu_pages *pages;

	if (!length || length > SIZE_MAX - PAGE_SIZE)
		return ERR_PTR(-EINVAL);

	pages = kmalloc(sizeof(*pages), GFP_KERNEL_ACCOUNT);
	if (!pages)
		return ERR_PTR(-ENOMEM);
	account = noiommu_get_account(last);
	if (!account) {
		kfree(pages);
		return ERR_PTR(-ENOMEM);
	}
	noiommu_init_pages(pages, start, length, writable, account_mode,
			   account);
	return pages;
}

/**
 * noiommu_alloc_user_pages() - Describe memory of the current process.
 * @uptr: its address
 * @length: its length in bytes
 * @writable: devices may write to it
 * @account_mode: IOPT_PAGES_ACCOUNT_USER or _MM
 * @last: see noiommu_get_account()
 *
 * Pins nothing yet. What is pinned later is charged to the current process.
 *
 * Return: pages object with one reference; -EINVAL, -EOVERFLOW: no memory can
 * have such a range; -ENOMEM.
 */
struct noiommu_pages *noiommu_alloc_user_pages(unsigned long uptr,
					       unsigned long length,
					       bool writable, u8 account_mode,
					       struct noiommu_account __rcu **last)
{
	unsigned long end;

	if (check_add_overflow(uptr, length, &end))
		return ERR_PTR(-EOVERFLOW);
	return noiommu_alloc_pages(uptr, length, writable, account_mode,
				   last);
}

/* Check what a writable mapping of the file would need. */
static int noiommu_file_may_write(struct file *file)
{
	int rc;

	if (!(file->f_mode & FMODE_WRITE))
		return -EACCES;
	if (noiommufd_memfd_sealed_for_write(file))
		return -EPERM;
	rc = mapping_map_writable(file->f_mapping);
	if (!rc)
		mapping_unmap_writable(file->f_mapping);
	return rc;
}

/**
 * noiommu_alloc_file_pages() - Describe memory of a file.
 * @fd: file descriptor of the current process
 * @start: offset in bytes
 * @length: bytes
 * @writable: devices may write to it
 * @account_mode: IOPT_PAGES_ACCOUNT_USER or _MM
 * @last: see noiommu_get_account()
 *
 * Pins nothing yet. Takes no reference to a file whose memory cannot be pinned;
 * pinning will report that, and a file that is too short.
 *
 * Return: pages object with a reference; -EINVAL, -EOVERFLOW: no file can have
 * such a range, or this one, of DMA memory, has not; -EBADF: no such file;
 * -EACCES: it is not open for writing; -EPERM: a seal forbids writing; -ENOMEM.
 */
struct noiommu_pages *noiommu_alloc_file_pages(int fd, u64 start, u64 length,
					       bool writable, u8 account_mode,
					       struct noiommu_account __rcu **last)
{
	struct noiommu_pages *pages;
	struct file *file;
	bool can_pin;
	u64 end;
	int rc;

	if (!length)
		return ERR_PTR(-EINVAL);
	if (check_add_overflow(start, length - 1, &end))
		return ERR_PTR(-EOVERFLOW);
	file = fget(fd);
	if (!file)
		return ERR_PTR(-EBADF);
	pages = noiommu_mem_pages(file, start, end);
	if (pages)
		goto out_put;
	can_pin = noiommufd_memfd_can_pin(file);
	rc = can_pin && writable ? noiommu_file_may_write(file) : 0;
	if (rc) {
		pages = ERR_PTR(rc);
		goto out_put;
	}
	pages = noiommu_alloc_pages(start, length, writable, account_mode,
				    last);
	if (IS_ERR(pages))
		goto out_put;
	pages->type = IOPT_ADDRESS_FILE;
	if (can_pin)
		pages->file = get_file(file);
out_put:
	fput(file);
	return pages;
}

static void noiommu_pages_set_account(struct noiommu_pages *pages,
				      struct noiommu_account *account)
{
	lockdep_assert_held(&pages->mutex);

	spin_lock(&noiommu_account_lock);
	pages->account = account;
	spin_unlock(&noiommu_account_lock);
}

/**
 * noiommu_pages_get_payer() - Find out whom the memory is charged to.
 * @pages: memory
 * @payer: out
 */
void noiommu_pages_get_payer(struct noiommu_pages *pages,
			     struct noiommu_payer *payer)
{
	payer->mode = pages->account_mode;
	payer->npages = READ_ONCE(pages->npinned);
	spin_lock(&noiommu_account_lock);
	payer->uid = pages->account->user->uid;
	payer->pid = task_tgid_vnr(pages->account->task);
	spin_unlock(&noiommu_account_lock);
}

/**
 * noiommu_pages_change_process() - Charge the current process for the memory.
 * @pages: memory of a file
 * @account: that of the current process
 *
 * To be followed by noiommu_pages_forget_process() or
 * noiommu_pages_restore_process().
 *
 * Context: noiommu_change_process_lock is held.
 * Return: 0; -ENOMEM: over its limit, nothing has changed.
 */
int noiommu_pages_change_process(struct noiommu_pages *pages,
				 struct noiommu_account *account)
{
	int rc = 0;

	mutex_lock(&pages->mutex);
	if (pages->account->mm == account->mm &&
	    pages->account->user == account->user)
		goto out_unlock;
	rc = noiommu_charge(pages->account_mode, account, pages->npinned,
			    false);
	if (rc)
		goto out_unlock;
	noiommu_uncharge(pages->account_mode, pages->account, pages->npinned);
	refcount_inc(&account->refs);
	pages->old_account = pages->account;
	noiommu_pages_set_account(pages, account);
out_unlock:
	mutex_unlock(&pages->mutex);
	return rc;
}

/**
 * noiommu_pages_restore_process() - Undo noiommu_pages_change_process().
 * @pages: memory
 */
void noiommu_pages_restore_process(struct noiommu_pages *pages)
{
	struct noiommu_account *account;

	mutex_lock(&pages->mutex);
	if (pages->old_account) {
		noiommu_charge(pages->account_mode, pages->old_account,
			       pages->npinned, true);
		noiommu_uncharge(pages->account_mode, pages->account,
				 pages->npinned);
		account = pages->account;
		noiommu_pages_set_account(pages, pages->old_account);
		noiommu_put_account(account);
		pages->old_account = NULL;
	}
	mutex_unlock(&pages->mutex);
}

/**
 * noiommu_pages_forget_process() - Make noiommu_pages_change_process() final.
 * @pages: memory
 */
void noiommu_pages_forget_process(struct noiommu_pages *pages)
{
	mutex_lock(&pages->mutex);
	noiommu_put_account(pages->old_account);
	pages->old_account = NULL;
	mutex_unlock(&pages->mutex);
}

/**
 * noiommu_get_pages() - Take a reference to a pages object.
 * @pages: pages object
 */
void noiommu_get_pages(struct noiommu_pages *pages)
{
	refcount_inc(&pages->refs);
}

/**
 * noiommu_put_pages() - Drop a reference to a pages object.
 * @pages: pages object; freed with the last reference, when nothing is pinned
 */
void noiommu_put_pages(struct noiommu_pages *pages)
{
	if (!refcount_dec_and_test(&pages->refs))
		return;
	if (pages->type == IOPT_ADDRESS_MEM)
		noiommu_mem_free(pages);
	noiommu_put_account(pages->account);
	if (pages->file)
		fput(pages->file);
	mutex_destroy(&pages->mutex);
	kfree_rcu(pages, rcu);
}
