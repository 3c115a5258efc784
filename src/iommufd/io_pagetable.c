// SPDX-License-Identifier: GPL-2.0-only
/*
 * The areas of an IO address space: where they are, and when their memory is
 * pinned. See io_pagetable.h for the locks.
 *
 * An area is reserved first, which takes its IOVA. Then its memory is pinned
 * and the IOVA copied out, without a lock of the address space because user
 * space can stall both. Then it is published. It stays pinned until it is
 * unmapped, or until no device is left that could still write to it:
 * noiommu_unpin_unused().
 */
#include <linux/interval_tree_generic.h>
#include <linux/limits.h>
#include <linux/lockdep.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "iommufd_private.h"
#include "trace.h"

#define IOPT_ALLOWED_START(allowed)	((allowed)->start)
#define IOPT_ALLOWED_LAST(allowed)	((allowed)->last)
INTERVAL_TREE_DEFINE(struct noiommu_allowed, node, u64, subtree_last,
		     IOPT_ALLOWED_START, IOPT_ALLOWED_LAST,
		     static inline __maybe_unused, noiommu_allowed)

/**
 * noiommu_init_table() - Make an empty address space.
 * @iopt: address space
 * @ictx: context it belongs to
 */
void noiommu_init_table(struct io_pagetable *iopt, struct noiommufd_ctx *ictx)
{
	iopt->ictx = ictx;
	mutex_init(&iopt->hwpt_mutex);
	init_rwsem(&iopt->iova_rwsem);
	init_waitqueue_head(&iopt->busy_wait);
	swpt_init(&iopt->swpt, PAGE_SHIFT);
	iopt->allowed_itree = RB_ROOT_CACHED;
	iopt->max_pfn = U64_MAX;
}

/**
 * noiommu_iova_alignment() - Get the alignment that areas need.
 * @iopt: address space; iova_rwsem is held
 *
 * Return: the alignment, in bytes.
 */
u64 noiommu_iova_alignment(struct io_pagetable *iopt)
{
	lockdep_assert_held(&iopt->iova_rwsem);

	return iopt->nr_pinning || iopt->disable_large_pages ? PAGE_SIZE : 1;
}

/*
 * Between steps of a walk over areas: end it on a fatal signal, or reschedule.
 */
static int noiommu_walk_step(void)
{
	if (fatal_signal_pending(current))
		return -EINTR;
	cond_resched();
	return 0;
}

static struct noiommu_area *noiommu_area_first(struct io_pagetable *iopt,
					       u64 iova, u64 last)
{
	lockdep_assert_held(&iopt->iova_rwsem);

	return to_noiommu_area(swpt_first(&iopt->swpt, iova, last));
}

static struct noiommu_area *noiommu_area_next(struct noiommu_area *area)
{
	return to_noiommu_area(swpt_next(&area->swpt));
}

#define noiommu_for_each_area(_iopt, _area)                        \
	for (_area = noiommu_area_first(_iopt, 0, U64_MAX); _area; \
	     _area = noiommu_area_next(_area))

/* Allocate an area that has no IOVA yet; takes over a reference to @pages. */
static struct noiommu_area *noiommu_area_adopt(struct noiommu_pages *pages,
					       u64 start_byte, u64 length)
{
	struct noiommu_area *area;

	area = kzalloc(sizeof(*area), GFP_KERNEL_ACCOUNT);
	if (!area)
		return NULL;
	area->pages = pages;
	area->swpt.last = length - 1;
	area->swpt.start_byte = start_byte;
	area->swpt.first_index = start_byte >> PAGE_SHIFT;
	area->swpt.last_index = (start_byte + length - 1) >> PAGE_SHIFT;
	return area;
}

/* The same; takes a reference of its own. */
static struct noiommu_area *noiommu_area_alloc(struct noiommu_pages *pages,
					       u64 start_byte, u64 length)
{
	struct noiommu_area *area;

	area = noiommu_area_adopt(pages, start_byte, length);
	if (area)
		noiommu_get_pages(pages);
	return area;
}

static void noiommu_area_free(struct noiommu_area *area)
{
	noiommu_put_pages(area->pages);
	kfree_rcu(area, rcu);
}

/**
 * noiommu_free_areas() - Free areas that are not mapped.
 * @areas: list of areas
 */
void noiommu_free_areas(struct list_head *areas)
{
	struct noiommu_area *area, *next;

	list_for_each_entry_safe(area, next, areas, item) {
		noiommu_area_free(area);
		cond_resched();
	}
	INIT_LIST_HEAD(areas);
}

/* From here on the area may be changed or removed by others. */
static void noiommu_area_clear_busy(struct io_pagetable *iopt,
				    struct noiommu_area *area)
{
	lockdep_assert_held_write(&iopt->iova_rwsem);

	area->busy = false;
	WRITE_ONCE(iopt->busy_gen, iopt->busy_gen + 1);
	wake_up_all(&iopt->busy_wait);
}

/*
 * Wait until an area stops being busy. Releases iova_rwsem, on failure as well.
 */
static int noiommu_wait_busy(struct io_pagetable *iopt)
{
	unsigned int gen = iopt->busy_gen;

	lockdep_assert_held_write(&iopt->iova_rwsem);

	up_write(&iopt->iova_rwsem);
	return wait_event_killable(iopt->busy_wait,
				   READ_ONCE(iopt->busy_gen) != gen) ?
		       -EINTR : 0;
}

/*
 * Automatic IOVA.
 */

/* Find the first aligned place for an area in the free range [*start, last]. */
static bool noiommu_fit_iova(u64 *start, u64 last, u64 length, u64 alignment,
			     u64 page_offset)
{
	u64 aligned;

	if (check_add_overflow(*start, alignment - 1, &aligned))
		return false;
	aligned = (aligned & ~(alignment - 1)) | page_offset;
	if (aligned >= last || last - aligned < length - 1)
		return false;
	*start = aligned;
	return true;
}

/* Find the first free place in [start, last]. */
static bool noiommu_find_iova(struct io_pagetable *iopt, u64 start, u64 last,
			      u64 length, u64 alignment, u64 page_offset,
			      u64 *iova, struct swpt_place *place)
{
	u64 gap_last;

	lockdep_assert_held(&iopt->iova_rwsem);

	for (;;) {
		if (noiommu_walk_step())
			return false;
		gap_last = last;
		if (!swpt_next_gap(&iopt->swpt, &start, &gap_last, length,
				   place))
			return false;
		*iova = start;
		if (noiommu_fit_iova(iova, gap_last, length, alignment,
				     page_offset))
			return true;
		/* Wide enough, but not where it is aligned */
		if (gap_last == last)
			return false;
		start = gap_last + 1;
	}
}

/* Find the first free place in [first, last] that is allowed. */
static bool noiommu_find_allowed(struct io_pagetable *iopt, u64 first, u64 last,
				 u64 length, u64 alignment, u64 page_offset,
				 u64 *iova, struct swpt_place *place)
{
	struct noiommu_allowed *allowed;

	if (RB_EMPTY_ROOT(&iopt->allowed_itree.rb_root))
		return noiommu_find_iova(iopt, first, last, length, alignment,
					 page_offset, iova, place);

	for (allowed = noiommu_allowed_iter_first(&iopt->allowed_itree, first,
						  last);
	     allowed && !noiommu_walk_step();
	     allowed = noiommu_allowed_iter_next(allowed, first, last))
		if (noiommu_find_iova(iopt, max(allowed->start, first),
				      min(allowed->last, last), length,
				      alignment, page_offset, iova, place))
			return true;
	return false;
}

/*
 * Above all memory, so that a program which gives IOVAs to a device fails
 * instead of overwriting the memory at such an address. Each of the lower bits
 * keeps a bus that ignores the address bits above it from seeing a low address.
 */
u64 noiommu_iova_base = BIT_ULL(62) + BIT_ULL(47) + BIT_ULL(43) + BIT_ULL(39);

/* Size of the window that is searched first. */
#define IOPT_IOVA_WINDOW	BIT_ULL(38)

/*
 * Keep the alignment of the address, so that huge pages stay aligned. Never
 * returns IOVA 0, which programs take for "none".
 */
static int noiommu_alloc_iova(struct io_pagetable *iopt, u64 *iova, u64 addr,
			      u64 length, struct swpt_place *place)
{
	const u64 first = PAGE_SIZE, last = U64_MAX - PAGE_SIZE;
	u64 base = clamp(noiommu_iova_base, first, last);
	u64 page_offset = addr % PAGE_SIZE;
	u64 alignment;

	/* roundup_pow_of_two() would overflow. */
	if (length >= U64_MAX / 2)
		return -EOVERFLOW;

	alignment = roundup_pow_of_two(length);
	if (addr)
		alignment = min(alignment, 1ULL << __ffs64(addr));
	alignment = min_t(u64, alignment, PMD_SIZE);
	if (alignment < noiommu_iova_alignment(iopt))
		return -EINVAL;

	if (noiommu_find_allowed(iopt, base,
				 base + min(last - base, IOPT_IOVA_WINDOW - 1),
				 length, alignment, page_offset, iova, place) ||
	    noiommu_find_allowed(iopt, first, last, length, alignment,
				 page_offset, iova, place))
		return 0;
	return fatal_signal_pending(current) ? -EINTR : -ENOSPC;
}

/**
 * noiommu_add_allowed() - Add a range to a list of allowed ranges.
 * @itree: the list
 * @start: first IOVA
 * @last: last IOVA
 *
 * Return: 0; -EINVAL: the range overlaps another or has less than two bytes;
 * -ENOMEM.
 */
int noiommu_add_allowed(struct rb_root_cached *itree, u64 start, u64 last)
{
	struct noiommu_allowed *allowed;

	if (start >= last || noiommu_allowed_iter_first(itree, start, last))
		return -EINVAL;
	allowed = kmalloc(sizeof(*allowed), GFP_KERNEL_ACCOUNT);
	if (!allowed)
		return -ENOMEM;
	allowed->start = start;
	allowed->last = last;
	noiommu_allowed_insert(allowed, itree);
	return 0;
}

/**
 * noiommu_free_allowed() - Free a list of ranges.
 * @itree: the list
 */
void noiommu_free_allowed(struct rb_root_cached *itree)
{
	struct noiommu_allowed *allowed, *next;

	rbtree_postorder_for_each_entry_safe(allowed, next, &itree->rb_root,
					     node) {
		kfree(allowed);
		cond_resched();
	}
	*itree = RB_ROOT_CACHED;
}

/**
 * noiommu_set_allow_iova() - Set where the kernel may place areas.
 * @iopt: address space
 * @itree: the new list; out: the old one, to be freed
 *
 * Return: 0 or -EINTR.
 */
int noiommu_set_allow_iova(struct io_pagetable *iopt,
			   struct rb_root_cached *itree)
{
	int rc = down_write_killable(&iopt->iova_rwsem);

	if (rc)
		return rc;
	swap(*itree, iopt->allowed_itree);
	up_write(&iopt->iova_rwsem);
	return 0;
}

/*
 * Map.
 */

/* Check that [iova, iova + length) is aligned and free, and find its place. */
static int noiommu_check_iova(struct io_pagetable *iopt, u64 iova, u64 length,
			      struct swpt_place *place)
{
	u64 last;

	if (iova & (noiommu_iova_alignment(iopt) - 1))
		return -EINVAL;
	if (check_add_overflow(iova, length - 1, &last))
		return -EOVERFLOW;
	return swpt_find_place(&iopt->swpt, iova, last, place);
}

/* Reserve the IOVA of areas that follow each other. */
static int noiommu_reserve_areas(struct io_pagetable *iopt,
				 struct list_head *areas, u64 length, u64 *iova,
				 bool writable, unsigned int flags)
{
	u64 alignment = noiommu_iova_alignment(iopt);
	struct swpt_place place = {};
	struct noiommu_area *area;
	u64 next;
	int rc;

	lockdep_assert_held_write(&iopt->iova_rwsem);

	if (iopt->destroyed)
		return -ENOENT;
	if (length & (alignment - 1))
		return -EINVAL;

	if (flags & IOPT_ALLOC_IOVA) {
		area = list_first_entry(areas, struct noiommu_area, item);
		rc = noiommu_alloc_iova(iopt, iova, area->pages->start +
						    area->swpt.start_byte,
					length, &place);
	} else {
		rc = noiommu_check_iova(iopt, *iova, length, &place);
	}
	if (rc)
		return rc;

	list_for_each_entry(area, areas, item) {
		rc = noiommu_walk_step();
		if (rc)
			return rc;
		if (writable && !area->pages->writable)
			return -EPERM;
		if (area->swpt.start_byte & (alignment - 1))
			return -EINVAL;
	}

	next = *iova;
	list_for_each_entry(area, areas, item) {
		area->swpt.last += next;
		area->swpt.iova = next;
		next = area->swpt.last + 1;
		/* Cannot fail: the range was found to be free. */
		if (place.link)
			swpt_insert_at(&iopt->swpt, &area->swpt, &place);
		else
			WARN_ON(swpt_insert(&iopt->swpt, &area->swpt));
		place.link = NULL;
		cond_resched();
	}
	return 0;
}

static void noiommu_publish_area(struct io_pagetable *iopt,
				 struct noiommu_area *area, bool pinned)
{
	lockdep_assert_held_write(&iopt->iova_rwsem);

	swpt_write_begin(&iopt->swpt);
	WRITE_ONCE(area->swpt.pinned, pinned);
	WRITE_ONCE(area->swpt.pages, &area->pages->swpt);
	swpt_write_end(&iopt->swpt);
	area->fill_gen = iopt->fill_gen;
}

/* From here on readers see the area as not pinned. */
static void noiommu_area_hide(struct io_pagetable *iopt,
			      struct noiommu_area *area)
{
	lockdep_assert_held_write(&iopt->iova_rwsem);

	swpt_write_begin(&iopt->swpt);
	WRITE_ONCE(area->swpt.pinned, false);
	swpt_write_end(&iopt->swpt);
}

/* Unpin a published area. Drops iova_rwsem meanwhile. */
static void noiommu_unfill_area(struct io_pagetable *iopt,
				struct noiommu_area *area)
{
	noiommu_area_hide(iopt, area);
	area->busy = true;
	up_write(&iopt->iova_rwsem);
	noiommu_area_unfill(area);
	cond_resched();
	down_write(&iopt->iova_rwsem);
	noiommu_area_clear_busy(iopt, area);
}

/* Does no HWPT need what is pinned, and can no device write to it any more? */
static bool noiommu_is_unused(struct io_pagetable *iopt)
{
	lockdep_assert_held(&iopt->iova_rwsem);

	return !iopt->nr_pinning && !atomic_read(&iopt->ictx->nr_devices);
}

/**
 * noiommu_unpin_unused() - Unpin what no HWPT needs.
 * @iopt: address space
 *
 * What was pinned for an HWPT that is gone stays pinned while the context has a
 * device, which may still write to it. Called after the last device has left.
 * A busy area is left to its owner, which calls this at its end.
 */
void noiommu_unpin_unused(struct io_pagetable *iopt)
{
	struct noiommu_area *area;

	down_write(&iopt->iova_rwsem);
	for (area = noiommu_area_first(iopt, 0, U64_MAX);
	     area && noiommu_is_unused(iopt); area = noiommu_area_next(area)) {
		if (area->swpt.pinned && !area->busy)
			noiommu_unfill_area(iopt, area);
		cond_resched();
	}
	up_write(&iopt->iova_rwsem);
}

/* Pin the memory of all the areas, which are reserved, or of none. */
static int noiommu_fill_reserved(struct io_pagetable *iopt,
				 struct list_head *areas)
{
	struct noiommu_area *area;
	int rc;

	list_for_each_entry(area, areas, item) {
		rc = noiommu_walk_step();
		if (!rc)
			rc = noiommu_area_fill(area, iopt->max_pfn);
		if (rc)
			goto err_unfill;
	}
	return 0;

err_unfill:
	list_for_each_entry_continue_reverse(area, areas, item) {
		noiommu_area_unfill(area);
		cond_resched();
	}
	return rc;
}

/* Pin reserved areas if need be, answer the program, and publish them. */
static int noiommu_finish_areas(struct io_pagetable *iopt,
				struct list_head *areas, bool fill,
				noiommu_answer_fn answer, void *arg)
{
	struct noiommu_area *area;
	bool unused;
	int rc = 0;

	if (fill)
		rc = noiommu_fill_reserved(iopt, areas);
	fill = fill && !rc;
	if (!rc && answer)
		rc = answer(arg, list_first_entry(areas, struct noiommu_area,
						  item));

	down_write(&iopt->iova_rwsem);
	/* An HWPT was added while the answer was copied out. */
	if (!rc && !fill && iopt->nr_pinning) {
		up_write(&iopt->iova_rwsem);
		rc = noiommu_fill_reserved(iopt, areas);
		fill = !rc;
		down_write(&iopt->iova_rwsem);
	}
	if (!rc && iopt->destroyed)
		rc = -ENOENT;
	list_for_each_entry(area, areas, item) {
		if (rc)
			swpt_remove(&iopt->swpt, &area->swpt);
		else
			noiommu_publish_area(iopt, area, fill);
		cond_resched();
	}
	/* Or the HWPT was removed in the meantime. */
	unused = !rc && fill && noiommu_is_unused(iopt);
	up_write(&iopt->iova_rwsem);

	if (rc && fill) {
		list_for_each_entry(area, areas, item) {
			noiommu_area_unfill(area);
			cond_resched();
		}
	}
	if (unused)
		noiommu_unpin_unused(iopt);
	return rc;
}

static int noiommu_do_map_areas(struct io_pagetable *iopt,
				struct list_head *areas, u64 length, u64 *iova,
				bool writable, unsigned int flags,
				noiommu_answer_fn answer, void *arg)
{
	struct noiommu_area *area;
	bool fill;
	int rc;

	rc = down_write_killable(&iopt->iova_rwsem);
	if (rc)
		return rc;
	rc = noiommu_reserve_areas(iopt, areas, length, iova, writable, flags);
	fill = iopt->nr_pinning;
	if (!rc && !fill && !answer) {
		list_for_each_entry(area, areas, item) {
			noiommu_publish_area(iopt, area, false);
			cond_resched();
		}
	}
	up_write(&iopt->iova_rwsem);
	if (rc || (!fill && !answer))
		return rc;
	return noiommu_finish_areas(iopt, areas, fill, answer, arg);
}

/**
 * noiommu_map_areas() - Map areas that follow each other.
 * @iopt: address space
 * @areas: what noiommu_clone_areas() made; taken over on success
 * @length: bytes that they have together
 * @iova: in: where to map them; with IOPT_ALLOC_IOVA out: where they are
 * @writable: the device may write to them
 * @flags: IOPT_ALLOC_IOVA or 0
 * @answer: called with the first area when only publishing is left to do,
 *	without a lock; if it fails, nothing is mapped. May be NULL.
 * @arg: for @answer
 *
 * Return: 0; -EINVAL: not aligned; -EOVERFLOW: the range wraps; -EEXIST:
 * something is mapped there; -ENOSPC: no free IOVA; -EPERM: the memory was
 * mapped read-only; -ENOENT: the address space was destroyed; -EFAULT, -ENOMEM,
 * -EINTR, -EINVAL, -ERANGE: see noiommu_area_fill(); or what @answer returned.
 * On failure nothing has changed.
 */
int noiommu_map_areas(struct io_pagetable *iopt, struct list_head *areas,
		      u64 length, u64 *iova, bool writable, unsigned int flags,
		      noiommu_answer_fn answer, void *arg)
{
	u64 start = noiommufd_trace_start(noiommufd_map);
	int rc;

	rc = noiommu_do_map_areas(iopt, areas, length, iova, writable, flags,
				  answer, arg);
	trace_noiommufd_map(iopt, *iova, length, rc, start);
	return rc;
}

/* Map a pages object; consumes the reference. */
static int noiommu_map_pages(struct io_pagetable *iopt,
			     struct noiommu_pages *pages, u64 *iova,
			     u64 start_byte, u64 length, bool writable,
			     unsigned int flags, noiommu_answer_fn answer,
			     void *arg)
{
	struct noiommu_area *area;
	LIST_HEAD(areas);
	int rc;

	area = noiommu_area_adopt(pages, start_byte, length);
	if (!area) {
		noiommu_put_pages(pages);
		return -ENOMEM;
	}
	list_add(&area->item, &areas);
	rc = noiommu_map_areas(iopt, &areas, length, iova, writable, flags,
			       answer, arg);
	if (rc)
		noiommu_free_areas(&areas);
	return rc;
}

/**
 * noiommu_map_user_pages() - Map memory of the current process.
 * @iopt: address space
 * @iova: in: where to map it; with IOPT_ALLOC_IOVA out: where it is
 * @uptr: address of the memory
 * @length: bytes
 * @writable: the device may write to it
 * @flags: IOPT_ALLOC_IOVA or 0
 * @answer: see noiommu_map_areas()
 * @arg: for @answer
 *
 * Return: as noiommu_alloc_user_pages() and noiommu_map_areas().
 */
int noiommu_map_user_pages(struct io_pagetable *iopt, u64 *iova,
			   unsigned long uptr, u64 length, bool writable,
			   unsigned int flags, noiommu_answer_fn answer,
			   void *arg)
{
	struct noiommu_pages *pages;

	pages = noiommu_alloc_user_pages(uptr, length, writable,
					 iopt->ictx->account_mode,
					 &iopt->last_account);
	if (IS_ERR(pages))
		return PTR_ERR(pages);
	return noiommu_map_pages(iopt, pages, iova, uptr - pages->start, length,
				 writable, flags, answer, arg);
}

/**
 * noiommu_map_file_pages() - Map memory of a file.
 * @iopt: address space
 * @iova: in: where to map it; with IOPT_ALLOC_IOVA out: where it is
 * @fd: file descriptor of the current process
 * @start: offset in the file, in bytes
 * @length: bytes
 * @writable: the device may write to it
 * @flags: IOPT_ALLOC_IOVA or 0
 * @answer: see noiommu_map_areas()
 * @arg: for @answer
 *
 * Return: as noiommu_alloc_file_pages() and noiommu_map_areas().
 */
int noiommu_map_file_pages(struct io_pagetable *iopt, u64 *iova, int fd,
			   u64 start, u64 length, bool writable,
			   unsigned int flags, noiommu_answer_fn answer,
			   void *arg)
{
	struct noiommu_pages *pages;

	pages = noiommu_alloc_file_pages(fd, start, length, writable,
					 iopt->ictx->account_mode,
					 &iopt->last_account);
	if (IS_ERR(pages))
		return PTR_ERR(pages);
	return noiommu_map_pages(iopt, pages, iova, start - pages->start,
				 length, writable, flags, answer, arg);
}

static int noiommu_clone_range(struct io_pagetable *iopt, u64 iova, u64 last,
			       struct list_head *areas)
{
	struct noiommu_area *area, *clone;
	u64 area_last;

	for (area = noiommu_area_first(iopt, iova, iova); area;
	     area = noiommu_area_next(area)) {
		int rc = noiommu_walk_step();

		if (rc)
			return rc;
		if (area->swpt.iova > iova || !area->swpt.pages)
			return -ENOENT;
		area_last = min(area->swpt.last, last);
		clone = noiommu_area_alloc(area->pages,
					   area->swpt.start_byte + iova -
						   area->swpt.iova,
					   area_last - iova + 1);
		if (!clone)
			return -ENOMEM;
		list_add_tail(&clone->item, areas);
		if (area_last == last)
			return 0;
		iova = area_last + 1;
	}
	return -ENOENT;
}

/**
 * noiommu_clone_areas() - Make new areas on memory that is mapped.
 * @iopt: address space
 * @iova: first IOVA
 * @length: bytes
 * @areas: out: new areas on the same pages, for noiommu_map_areas() or
 *	noiommu_free_areas()
 *
 * Return: 0; -EINVAL: no length; -EOVERFLOW: the range wraps; -ENOENT: there is
 * a gap in it; -ENOMEM; -EINTR.
 */
int noiommu_clone_areas(struct io_pagetable *iopt, u64 iova, u64 length,
			struct list_head *areas)
{
	u64 last;
	int rc;

	if (!length)
		return -EINVAL;
	if (check_add_overflow(iova, length - 1, &last))
		return -EOVERFLOW;

	rc = down_read_killable(&iopt->iova_rwsem);
	if (rc)
		return rc;
	rc = noiommu_clone_range(iopt, iova, last, areas);
	up_read(&iopt->iova_rwsem);
	if (rc)
		noiommu_free_areas(areas);
	return rc;
}

/*
 * Unmap.
 */

/* Remove whole areas. Nothing changes unless all of them can be removed. */
static int noiommu_take_areas(struct io_pagetable *iopt, u64 iova, u64 last,
			      struct list_head *areas)
{
	struct noiommu_area *area, *next;
	int rc;

	lockdep_assert_held_write(&iopt->iova_rwsem);

	for (area = noiommu_area_first(iopt, iova, last);
	     area && area->swpt.iova <= last; area = noiommu_area_next(area)) {
		rc = noiommu_walk_step();
		if (rc)
			return rc;
		/* Another thread is mapping it. */
		if (!area->swpt.pages)
			return -EBUSY;
		if (area->busy)
			return -EAGAIN;
		if (area->swpt.iova < iova || area->swpt.last > last)
			return -ENOENT;
	}
	for (area = noiommu_area_first(iopt, iova, last);
	     area && area->swpt.iova <= last; area = next) {
		next = noiommu_area_next(area);
		swpt_remove(&iopt->swpt, &area->swpt);
		list_add_tail(&area->item, areas);
		cond_resched();
	}
	return 0;
}

/* Unpin and free areas that were removed. Returns their length in bytes. */
static u64 noiommu_release_areas(struct list_head *areas)
{
	struct noiommu_area *area;
	u64 length = 0;

	list_for_each_entry(area, areas, item) {
		length += noiommu_area_length(area);
		if (area->swpt.pinned)
			noiommu_area_unfill(area);
		cond_resched();
	}
	noiommu_free_areas(areas);
	return length;
}

static int noiommu_do_unmap_range(struct io_pagetable *iopt, u64 iova, u64 last,
				  u64 *unmapped)
{
	LIST_HEAD(areas);
	int rc;

	for (;;) {
		rc = down_write_killable(&iopt->iova_rwsem);
		if (rc)
			return rc;
		rc = noiommu_take_areas(iopt, iova, last, &areas);
		if (rc != -EAGAIN)
			break;
		rc = noiommu_wait_busy(iopt);
		if (rc)
			return rc;
	}
	up_write(&iopt->iova_rwsem);
	*unmapped = noiommu_release_areas(&areas);
	return rc;
}

static int noiommu_unmap_range(struct io_pagetable *iopt, u64 iova, u64 last,
			       u64 *unmapped)
{
	u64 start = noiommufd_trace_start(noiommufd_unmap);
	int rc = noiommu_do_unmap_range(iopt, iova, last, unmapped);

	trace_noiommufd_unmap(iopt, iova, last, rc ? 0 : *unmapped, rc, start);
	return rc;
}

/**
 * noiommu_unmap_iova() - Unmap whole areas.
 * @iopt: address space
 * @iova: first IOVA
 * @length: bytes
 * @unmapped: out: bytes that were mapped
 *
 * What no other area covers is unpinned when this returns.
 *
 * Return: 0; -EINVAL: no length; -EOVERFLOW: the range wraps; -ENOENT: an area
 * reaches out of the range; -EBUSY: an area is being mapped; -EINTR. On failure
 * nothing has changed.
 */
int noiommu_unmap_iova(struct io_pagetable *iopt, u64 iova, u64 length,
		       u64 *unmapped)
{
	u64 last;

	if (!length)
		return -EINVAL;
	if (check_add_overflow(iova, length - 1, &last))
		return -EOVERFLOW;
	return noiommu_unmap_range(iopt, iova, last, unmapped);
}

/**
 * noiommu_unmap_all() - Unmap all areas.
 * @iopt: address space
 * @unmapped: out: bytes that were mapped
 *
 * Return: 0, or as noiommu_unmap_iova().
 */
int noiommu_unmap_all(struct io_pagetable *iopt, u64 *unmapped)
{
	return noiommu_unmap_range(iopt, 0, U64_MAX, unmapped);
}

/**
 * noiommu_shut_table() - Unmap all areas for good.
 * @iopt: address space whose id is gone, and that has no HWPT
 *
 * Does not wait: an area that is reserved or busy is left to the ioctl that
 * owns it, and noiommu_destroy_table() comes after the reference of that ioctl.
 */
void noiommu_shut_table(struct io_pagetable *iopt)
{
	struct noiommu_area *area, *next;
	LIST_HEAD(areas);

	down_write(&iopt->iova_rwsem);
	iopt->destroyed = true;
	for (area = noiommu_area_first(iopt, 0, U64_MAX); area; area = next) {
		next = noiommu_area_next(area);
		if (area->swpt.pages && !area->busy) {
			swpt_remove(&iopt->swpt, &area->swpt);
			list_add_tail(&area->item, &areas);
		}
		cond_resched();
	}
	up_write(&iopt->iova_rwsem);
	noiommu_release_areas(&areas);
}

/**
 * noiommu_destroy_table() - Free an address space.
 * @iopt: address space without users
 */
void noiommu_destroy_table(struct io_pagetable *iopt)
{
	WARN_ON(iopt->nr_pinning);
	noiommu_shut_table(iopt);
	WARN_ON(!RB_EMPTY_ROOT(&iopt->swpt.areas));
	noiommu_free_allowed(&iopt->allowed_itree);
	noiommu_put_account(rcu_access_pointer(iopt->last_account));
	mutex_destroy(&iopt->hwpt_mutex);
}

/* Allocate the two parts of an area; the first one ends at last. */
static int noiommu_alloc_parts(struct noiommu_area *area, u64 last,
			       struct noiommu_area *part[2])
{
	u64 length = last - area->swpt.iova + 1;

	part[0] =
		noiommu_area_alloc(area->pages, area->swpt.start_byte, length);
	if (!part[0])
		return -ENOMEM;
	part[1] = noiommu_area_alloc(area->pages,
				     area->swpt.start_byte + length,
				     area->swpt.last - last);
	if (!part[1]) {
		noiommu_area_free(part[0]);
		return -ENOMEM;
	}
	part[0]->swpt.iova = area->swpt.iova;
	part[0]->swpt.last = last;
	part[1]->swpt.iova = last + 1;
	part[1]->swpt.last = area->swpt.last;
	return 0;
}

/* Let the parts cover what an area covers. Drops iova_rwsem meanwhile. */
static int noiommu_share_parts(struct io_pagetable *iopt,
			       struct noiommu_area *area,
			       struct noiommu_area *part[2])
{
	int rc;

	lockdep_assert_held_write(&iopt->iova_rwsem);

	area->busy = true;
	up_write(&iopt->iova_rwsem);
	rc = noiommu_areas_share(part, 2);
	down_write(&iopt->iova_rwsem);
	noiommu_area_clear_busy(iopt, area);
	return rc;
}

/*
 * Replace an area by two; the first one ends at last. The caller frees the
 * area.
 */
static int noiommu_split_area(struct io_pagetable *iopt,
			      struct noiommu_area *area, u64 last)
{
	u64 length = last - area->swpt.iova + 1;
	u64 alignment = noiommu_iova_alignment(iopt);
	struct noiommu_area *part[2];
	unsigned int i;
	int rc;

	lockdep_assert_held_write(&iopt->iova_rwsem);

	if (!area->swpt.pages)
		return -EBUSY;
	if ((last + 1) & (alignment - 1) ||
	    (area->swpt.start_byte + length) & (alignment - 1))
		return -EINVAL;

	rc = noiommu_alloc_parts(area, last, part);
	if (rc)
		return rc;
	rc = area->swpt.pinned ? noiommu_share_parts(iopt, area, part) : 0;
	if (rc) {
		for (i = 0; i < 2; i++)
			noiommu_area_free(part[i]);
		return rc;
	}
	for (i = 0; i < 2; i++) {
		part[i]->swpt.pinned = area->swpt.pinned;
		part[i]->swpt.pages = area->swpt.pages;
		part[i]->fill_gen = area->fill_gen;
	}
	swpt_split(&iopt->swpt, &area->swpt, &part[0]->swpt, &part[1]->swpt);
	return 0;
}

/* Cut the area that extends beyond an IOVA, if there is one. */
static int noiommu_cut_one(struct io_pagetable *iopt, u64 last)
{
	struct noiommu_area *area;
	bool unused;
	int rc;

	lockdep_assert_held(&iopt->hwpt_mutex);

	for (;;) {
		rc = down_write_killable(&iopt->iova_rwsem);
		if (rc)
			return rc;
		area = noiommu_area_first(iopt, last, last);
		if (!area || !area->busy)
			break;
		rc = noiommu_wait_busy(iopt);
		if (rc)
			return rc;
	}
	/* As in mainline, not after the first byte of an area either. */
	if (!area || area->swpt.last == last || area->swpt.iova == last) {
		up_write(&iopt->iova_rwsem);
		return 0;
	}
	rc = noiommu_split_area(iopt, area, last);
	unused = noiommu_is_unused(iopt);
	up_write(&iopt->iova_rwsem);

	if (!rc) {
		if (area->swpt.pinned)
			noiommu_area_unfill(area);
		noiommu_area_free(area);
	}
	/* It was skipped while it was busy. */
	if (unused)
		noiommu_unpin_unused(iopt);
	return rc;
}

/**
 * noiommu_cut_iova() - Cut the areas that extend beyond some IOVAs.
 * @iopt: address space without large pages
 * @last: IOVAs after which to cut
 * @nr: number of IOVAs
 *
 * What is mapped can be translated at any time. Waits for an HWPT that is being
 * made.
 *
 * Return: 0; -EINVAL: not aligned; -EBUSY: the area is being mapped; -ENOMEM;
 * -EINTR.
 */
int noiommu_cut_iova(struct io_pagetable *iopt, const u64 *last,
		     unsigned int nr)
{
	unsigned int i;
	int rc;

	rc = mutex_lock_killable(&iopt->hwpt_mutex);
	if (rc)
		return rc;
	for (i = 0; i < nr && !rc; i++)
		rc = noiommu_cut_one(iopt, last[i]);
	mutex_unlock(&iopt->hwpt_mutex);
	return rc;
}

/*
 * CHANGE_PROCESS, under one lock for all contexts, which guards
 * noiommu_pages::item: DMA memory may be mapped in several of them.
 */
DEFINE_MUTEX(noiommu_change_process_lock);

/**
 * noiommu_gather_pages() - List what can be charged to another process.
 * @iopt: address space
 * @list: list of struct noiommu_pages, each once and with a reference: it may
 *	be unmapped before the charge has moved, and be mapped by a COPY still.
 *	Call noiommu_put_gathered() on failure as well.
 *
 * Return: 0; -EINVAL: an area is memory of a process; -EBUSY: one is being
 * mapped; -EINTR.
 */
int noiommu_gather_pages(struct io_pagetable *iopt, struct list_head *list)
{
	struct noiommu_area *area;
	int rc;

	lockdep_assert_held(&noiommu_change_process_lock);

	rc = down_read_killable(&iopt->iova_rwsem);
	if (rc)
		return rc;
	noiommu_for_each_area(iopt, area) {
		rc = noiommu_walk_step();
		if (!rc && !area->swpt.pages)
			rc = -EBUSY;
		else if (!rc && area->pages->type == IOPT_ADDRESS_USER)
			rc = -EINVAL;
		if (rc)
			break;
		if (list_empty(&area->pages->item)) {
			noiommu_get_pages(area->pages);
			list_add_tail(&area->pages->item, list);
		}
	}
	up_read(&iopt->iova_rwsem);
	return rc;
}

/**
 * noiommu_put_gathered() - Undo noiommu_gather_pages().
 * @list: what it listed
 */
void noiommu_put_gathered(struct list_head *list)
{
	struct noiommu_pages *pages, *next;

	list_for_each_entry_safe(pages, next, list, item) {
		list_del_init(&pages->item);
		noiommu_put_pages(pages);
		cond_resched();
	}
}

/**
 * noiommu_change_process() - Charge the current process for memory.
 * @list: what noiommu_gather_pages() listed
 *
 * Return: 0; -ENOMEM: over the limit, or no memory; -EINTR. On failure nothing
 * has changed.
 */
int noiommu_change_process(struct list_head *list)
{
	struct noiommu_account *account = noiommu_get_account(NULL);
	struct noiommu_pages *pages;
	int rc = 0;

	if (!account)
		return -ENOMEM;
	list_for_each_entry(pages, list, item) {
		rc = fatal_signal_pending(current) ?
			     -EINTR :
			     noiommu_pages_change_process(pages, account);
		if (rc)
			break;
		cond_resched();
	}
	/* All or nothing: on failure move what was charged already back. */
	list_for_each_entry(pages, list, item) {
		if (rc)
			noiommu_pages_restore_process(pages);
		else
			noiommu_pages_forget_process(pages);
		cond_resched();
	}
	noiommu_put_account(account);
	return rc;
}

/*
 * Translate.
 */

static int noiommu_lookup(struct io_pagetable *iopt, u64 iova, u64 *phys,
			  u64 *length)
{
	int rc = swpt_lookup(&iopt->swpt, iova, phys, length);

	if (!rc && !READ_ONCE(iopt->nr_hwpts))
		rc = -EOPNOTSUPP;
	return rc;
}

/**
 * noiommu_get_phys_rcu() - noiommu_get_phys() without a lock.
 * @iopt: address space
 * @iova: IOVA to look up
 * @phys: out: the physical address
 * @length: in and out, as noiommu_get_phys()
 *
 * Context: under rcu_read_lock(). Writes nothing that another CPU may read.
 * Return: as noiommu_get_phys(); -EAGAIN: a writer interfered.
 */
int noiommu_get_phys_rcu(struct io_pagetable *iopt, u64 iova, u64 *phys,
			 u64 *length)
{
	unsigned int seq = swpt_read_begin(&iopt->swpt);
	u64 limit = *length;
	int rc;

	if (seq & 1)
		return -EAGAIN;
	rc = noiommu_lookup(iopt, iova, phys, length);
	if (swpt_read_retry(&iopt->swpt, seq)) {
		*length = limit;
		return -EAGAIN;
	}
	return rc;
}

/**
 * noiommu_get_phys() - Look up the physical address behind an IOVA.
 * @iopt: address space
 * @iova: IOVA to look up
 * @phys: out: the physical address
 * @length: in: most bytes to look at, not 0; out: contiguous bytes from @phys
 *	on
 *
 * Return: 0; -ENOENT: nothing is mapped there; -EOPNOTSUPP: the address space
 * has no HWPT; -EINTR.
 */
int noiommu_get_phys(struct io_pagetable *iopt, u64 iova, u64 *phys,
		     u64 *length)
{
	int rc = down_read_killable(&iopt->iova_rwsem);

	if (rc)
		return rc;
	rcu_read_lock();
	rc = noiommu_lookup(iopt, iova, phys, length);
	rcu_read_unlock();
	up_read(&iopt->iova_rwsem);
	return rc;
}

/* noiommu_get_phys_runs() without a lock; -EAGAIN: a lock is needed. */
static int noiommu_get_phys_runs_rcu(struct io_pagetable *iopt, u64 last,
				     struct swpt_runs *runs)
{
	unsigned int seq = swpt_read_begin(&iopt->swpt);
	struct swpt_runs before = *runs;
	int rc;

	if (seq & 1 || !READ_ONCE(iopt->nr_hwpts))
		return -EAGAIN;
	rc = swpt_lookup_runs(&iopt->swpt, last, runs);
	if (!swpt_read_retry(&iopt->swpt, seq))
		return rc;
	*runs = before;
	return -EAGAIN;
}

/**
 * noiommu_get_phys_runs() - Look up the physical addresses behind a range.
 * @iopt: address space
 * @last: last IOVA of the range
 * @runs: in: first IOVA, and an empty array; out: the runs, and the IOVA after
 *	them
 *
 * Return: 0: @runs is full or complete; -ENOENT: nothing is mapped at its iova;
 * -EOPNOTSUPP: the address space has no HWPT; -EINTR.
 */
int noiommu_get_phys_runs(struct io_pagetable *iopt, u64 last,
			  struct swpt_runs *runs)
{
	int rc;

	rcu_read_lock();
	rc = noiommu_get_phys_runs_rcu(iopt, last, runs);
	rcu_read_unlock();
	if (rc != -EAGAIN)
		return rc;

	rc = down_read_killable(&iopt->iova_rwsem);
	if (rc)
		return rc;
	rcu_read_lock();
	if (iopt->nr_hwpts)
		rc = swpt_lookup_runs(&iopt->swpt, last, runs);
	else if (swpt_first(&iopt->swpt, runs->iova, runs->iova))
		rc = -EOPNOTSUPP;
	else
		rc = -ENOENT;
	rcu_read_unlock();
	up_read(&iopt->iova_rwsem);
	return rc;
}

/**
 * noiommu_area_get_phys() - Look up where an area begins that is being mapped.
 * @iopt: address space
 * @area: reserved by the caller, and not published yet
 * @phys: out: the physical address of its first byte
 * @length: out: contiguous bytes from there on, within the area
 *
 * Return: 0; -EOPNOTSUPP: the address space had no HWPT to pin the area for.
 */
int noiommu_area_get_phys(struct io_pagetable *iopt,
			  const struct noiommu_area *area, u64 *phys,
			  u64 *length)
{
	int rc;

	if (!READ_ONCE(iopt->nr_hwpts))
		return -EOPNOTSUPP;
	*length = noiommu_area_length(area);
	rcu_read_lock();
	rc = swpt_lookup_reserved(&iopt->swpt, &area->pages->swpt, &area->swpt,
				  phys, length);
	rcu_read_unlock();
	/* The HWPT came after the time to pin. */
	return rc ? -EOPNOTSUPP : 0;
}

/*
 * HWPTs.
 */

/* Check that all areas are aligned as pinned memory has to be. */
static int noiommu_check_alignment(struct io_pagetable *iopt)
{
	struct noiommu_area *area;
	int rc;

	noiommu_for_each_area(iopt, area) {
		rc = noiommu_walk_step();
		if (rc)
			return rc;
		if (!PAGE_ALIGNED(area->swpt.iova) ||
		    !PAGE_ALIGNED(noiommu_area_length(area)) ||
		    !PAGE_ALIGNED(area->swpt.start_byte))
			return -EADDRINUSE;
	}
	return 0;
}

/**
 * noiommu_set_large_pages() - IOMMU_OPTION_HUGE_PAGES.
 * @iopt: address space
 * @enable: new value
 *
 * Return: 0; -EINVAL: memory is mapped and pinned already; -EADDRINUSE: an area
 * is not page aligned; -EINTR.
 */
int noiommu_set_large_pages(struct io_pagetable *iopt, bool enable)
{
	int rc = down_write_killable(&iopt->iova_rwsem);

	if (rc)
		return rc;
	if (enable)
		iopt->disable_large_pages = false;
	else if (iopt->disable_large_pages)
		rc = 0;
	else if (iopt->nr_pinning && !RB_EMPTY_ROOT(&iopt->swpt.areas))
		rc = -EINVAL;
	else
		rc = noiommu_check_alignment(iopt);
	if (!rc && !enable)
		iopt->disable_large_pages = true;
	up_write(&iopt->iova_rwsem);
	return rc;
}

/**
 * noiommu_set_max_pfn() - Refuse memory that a device cannot reach.
 * @iopt: address space
 * @max_pfn: the last page that may be pinned; U64_MAX: any
 *
 * Return: 0; -EBUSY: there is an area; -EINTR.
 */
int noiommu_set_max_pfn(struct io_pagetable *iopt, u64 max_pfn)
{
	int rc = down_write_killable(&iopt->iova_rwsem);

	if (rc)
		return rc;
	if (RB_EMPTY_ROOT(&iopt->swpt.areas))
		iopt->max_pfn = max_pfn;
	else
		rc = -EBUSY;
	up_write(&iopt->iova_rwsem);
	return rc;
}

/* Pin area after area; other threads may map and unmap meanwhile. */
static int noiommu_fill_areas(struct io_pagetable *iopt)
{
	struct noiommu_area *area = noiommu_area_first(iopt, 0, U64_MAX);
	int rc;

	lockdep_assert_held(&iopt->hwpt_mutex);
	lockdep_assert_held_write(&iopt->iova_rwsem);

	while (area) {
		rc = noiommu_walk_step();
		if (rc)
			return rc;
		if (area->busy) {
			u64 iova = area->swpt.iova;

			/* It is being unpinned, and may be gone afterwards. */
			rc = noiommu_wait_busy(iopt);
			down_write(&iopt->iova_rwsem);
			if (rc)
				return rc;
			area = noiommu_area_first(iopt, iova, U64_MAX);
			continue;
		}
		if (!area->swpt.pinned && area->swpt.pages) {
			area->busy = true;
			up_write(&iopt->iova_rwsem);
			rc = noiommu_area_fill(area, iopt->max_pfn);
			down_write(&iopt->iova_rwsem);
			if (!rc)
				noiommu_publish_area(iopt, area, true);
			noiommu_area_clear_busy(iopt, area);
			if (rc)
				return rc;
		}
		area = noiommu_area_next(area);
	}
	return 0;
}

/* Unpin what a failed attempt to add an HWPT has pinned. */
static void noiommu_unfill_attempt(struct io_pagetable *iopt)
{
	struct noiommu_area *area;

	lockdep_assert_held(&iopt->hwpt_mutex);
	lockdep_assert_held_write(&iopt->iova_rwsem);

	noiommu_for_each_area(iopt, area) {
		if (area->swpt.pinned && !area->busy &&
		    area->fill_gen == iopt->fill_gen)
			noiommu_unfill_area(iopt, area);
		cond_resched();
	}
}

/**
 * noiommu_table_add_hwpt() - Pin all that is mapped, and turn translation on.
 * @iopt: address space; hwpt_mutex is held
 * @ready: called when all is pinned, before translation is turned on, with only
 *	hwpt_mutex held. May be NULL.
 * @arg: for @ready
 *
 * Return: 0; -EADDRINUSE: an area is not page aligned; -EFAULT, -ENOMEM,
 * -EINTR, -ERANGE: see noiommu_area_fill(); or what @ready returned. On failure
 * nothing has changed.
 */
int noiommu_table_add_hwpt(struct io_pagetable *iopt, noiommu_ready_fn ready,
			   void *arg)
{
	bool first;
	int rc;

	lockdep_assert_held(&iopt->hwpt_mutex);

	rc = down_write_killable(&iopt->iova_rwsem);
	if (rc)
		return rc;
	first = !iopt->nr_pinning;
	rc = first ? noiommu_check_alignment(iopt) : 0;
	if (rc)
		goto out_unlock;

	iopt->nr_pinning++;
	iopt->fill_gen++;
	rc = noiommu_fill_areas(iopt);
	if (!rc && ready) {
		up_write(&iopt->iova_rwsem);
		rc = ready(arg);
		down_write(&iopt->iova_rwsem);
	}
	if (rc) {
		iopt->nr_pinning--;
		/* Beside another HWPT new areas may have been translated. */
		if (first)
			noiommu_unfill_attempt(iopt);
		goto out_unlock;
	}
	swpt_write_begin(&iopt->swpt);
	WRITE_ONCE(iopt->nr_hwpts, iopt->nr_hwpts + 1);
	swpt_write_end(&iopt->swpt);
out_unlock:
	up_write(&iopt->iova_rwsem);
	/* The last device may have left meanwhile and skipped busy areas. */
	if (rc)
		noiommu_unpin_unused(iopt);
	return rc;
}

/**
 * noiommu_table_remove_hwpt() - Undo noiommu_table_add_hwpt().
 * @iopt: address space
 *
 * Translation ends with the last HWPT. Memory stays pinned: see
 * noiommu_unpin_unused().
 */
void noiommu_table_remove_hwpt(struct io_pagetable *iopt)
{
	down_write(&iopt->iova_rwsem);
	iopt->nr_pinning--;
	swpt_write_begin(&iopt->swpt);
	WRITE_ONCE(iopt->nr_hwpts, iopt->nr_hwpts - 1);
	swpt_write_end(&iopt->swpt);
	up_write(&iopt->iova_rwsem);
	noiommu_unpin_unused(iopt);
}

/*
 * Usage.
 */

/* Areas to look at before the lock is dropped. */
#define IOPT_USAGE_BATCH	512
#define IOPT_USAGE_PAGES	32

static void noiommu_add_payer(struct noiommu_usage *usage,
			      const struct noiommu_payer *payer)
{
	struct noiommu_payer *to = usage->payer;
	struct noiommu_payer *last = usage->payer + IOPT_PAYERS - 1;

	for (; to < usage->payer + usage->nr_payers; to++)
		if (to == last ||
		    (to->pid == payer->pid && to->mode == payer->mode &&
		     uid_eq(to->uid, payer->uid)))
			break;
	if (to == usage->payer + usage->nr_payers) {
		*to = *payer;
		usage->nr_payers++;
		return;
	}
	to->npages += payer->npages;
}

/* The memory of some areas, to be counted without the lock. */
struct noiommu_usage_batch {
	unsigned int nr;
	struct noiommu_pages *pages[IOPT_USAGE_PAGES];
};

/* Look at some areas, from *iova on. Returns false after the last one. */
static bool noiommu_add_areas(struct io_pagetable *iopt, u64 walk, u64 *iova,
			      struct noiommu_usage *usage,
			      struct noiommu_usage_batch *batch)
{
	struct noiommu_area *area = noiommu_area_first(iopt, *iova, U64_MAX);
	unsigned int i;

	for (i = 0; area && i < IOPT_USAGE_BATCH; i++) {
		if (READ_ONCE(area->pages->walk) != walk) {
			if (batch->nr == ARRAY_SIZE(batch->pages))
				return true;
			WRITE_ONCE(area->pages->walk, walk);
			noiommu_get_pages(area->pages);
			batch->pages[batch->nr++] = area->pages;
		}
		usage->nr_areas++;
		usage->length += noiommu_area_length(area);
		if (area->swpt.pinned)
			usage->npinned += area->swpt.last_index -
					  area->swpt.first_index + 1;
		if (area->swpt.last == U64_MAX)
			return false;
		*iova = area->swpt.last + 1;
		area = noiommu_area_next(area);
	}
	return area;
}

static int noiommu_add_pages(struct noiommu_usage *usage,
			     struct noiommu_pages *pages)
{
	struct noiommu_payer payer;
	u64 index = 0;
	int rc = 0;

	noiommu_pages_get_payer(pages, &payer);
	if (payer.npages)
		noiommu_add_payer(usage, &payer);
	while (!rc && swpt_pages_count(&pages->swpt, &index, &usage->nr_runs,
				       &usage->table_bytes))
		rc = noiommu_walk_step();
	return rc;
}

static int noiommu_add_batch(struct noiommu_usage *usage,
			     struct noiommu_usage_batch *batch)
{
	int rc = noiommu_walk_step();
	unsigned int i;

	for (i = 0; i < batch->nr; i++) {
		if (!rc)
			rc = noiommu_add_pages(usage, batch->pages[i]);
		noiommu_put_pages(batch->pages[i]);
	}
	batch->nr = 0;
	return rc;
}

/**
 * noiommu_get_usage() - Find out what an address space takes.
 * @iopt: address space
 * @walk: number of this walk; pages objects that had it before are counted
 *	already, as far as the payers, runs and tables are concerned
 * @usage: out
 *
 * The lock is dropped again and again, so areas that come and go meanwhile may
 * be missing.
 *
 * Context: the caller lets only one walk of the context run at a time.
 * Return: 0 or -EINTR.
 */
int noiommu_get_usage(struct io_pagetable *iopt, u64 walk,
		      struct noiommu_usage *usage)
{
	struct noiommu_usage_batch batch = {};
	u64 iova = 0;
	bool more;
	int rc;

	*usage = (struct noiommu_usage){};
	do {
		rc = down_read_killable(&iopt->iova_rwsem);
		if (rc)
			return rc;
		more = noiommu_add_areas(iopt, walk, &iova, usage, &batch);
		up_read(&iopt->iova_rwsem);
		rc = noiommu_add_batch(usage, &batch);
	} while (more && !rc);
	return rc;
}
