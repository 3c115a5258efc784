// SPDX-License-Identifier: GPL-2.0-only
/*
 * The software page table: see swpt.h for what it is and how it is locked.
 *
 * Runs are kept in chunks of at most 4 KiB, in one of two forms: one word per
 * page where memory is scattered, else one (word, end) pair per run. Pages
 * between them that have no entry are holes. A directory sorted by index leads
 * to the chunks.
 *
 * Once they can be found, entries may be added behind the last one of a
 * directory or a chunk, and the last run may become longer. Words may take the
 * place of holes. Runs may be put between others, which move in their chunk:
 * what is read meanwhile is read again, see swpt_store::seq. Any other change
 * makes a new directory and new chunks for those that it concerns, and the old
 * ones are freed after a grace period.
 *
 * An entry that is found is valid only where a pinned area covers it; so every
 * lookup starts from such an area, stays in it, and uses no hole and nothing
 * that was added after the area was pinned.
 */
#include <linux/interval_tree_generic.h>
#include <linux/lockdep.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "swpt.h"

#define SWPT_CHUNK_RUNS		256
#define SWPT_CHUNK_WORDS	512
/* Runs to count at a time. */
#define SWPT_COUNT_RUNS		4096
/* Room for runs that are being collected, before that of a whole chunk */
#define SWPT_BUILDER_ROOM	32
/* Runs of a chunk after a merge, so that there is room for more. */
#define SWPT_MERGED_RUNS	160
/* Longest run in a dense chunk, so that walking it stays cheap. */
#define SWPT_DENSE_RUN		8
/* A wider hole beside a dense chunk goes into a chunk of runs. */
#define SWPT_DENSE_HOLE		8
/* New runs that are put between others */
#define SWPT_INSERT_RUNS	16
/* Chunks that a softirq may free. */
#define SWPT_FREE_FEW		4

/* The word of pages without an entry: no block has such an order. */
#define SWPT_HOLE		GENMASK_ULL(63, SWPT_PFN_BITS)

/*
 * A chunk holds its first index, its form and its number of entries in one
 * word: an index has at most 52 bits. Its memory is a power of two, so there
 * may be room for more entries.
 */
#define SWPT_CHUNK_DENSE	BIT_ULL(11)
#define SWPT_CHUNK_NR_MASK	GENMASK_ULL(10, 0)
#define SWPT_CHUNK_SHIFT	12

struct swpt_chunk {
	u64 key;
	union {
		struct swpt_run *runs;
		u64 *words;
		void *mem;
	};
};

/*
 * The array stands apart so that it fills its power of two. The chunks from
 * free_first to free_end go with the directory; others are in a later one. About
 * nr_unused chunks have nothing that an area covers.
 */
struct swpt_dir {
	struct rcu_work free_work;
	unsigned int nr;
	unsigned int room;
	unsigned int free_first;
	unsigned int free_end;
	unsigned int nr_unused;
	struct swpt_chunk *chunk;
};

/*
 * Walks the runs of a store from an index on, skipping gaps. Counts its steps
 * for the tests; where they are not read the compiler drops them.
 */
struct swpt_cursor {
	const struct swpt_store *store;
	const struct swpt_dir *dir;
	unsigned int chunk;
	unsigned int pos;
	u64 index;
	u64 steps;
};

static struct workqueue_struct *swpt_free_wq;

/* Bytes used by directories and chunks. */
static atomic_long_t swpt_bytes;

/*
 * Read once, because entries may be added meanwhile. Those that it counts can
 * be read: their addresses depend on it.
 */
static u64 swpt_chunk_key(const struct swpt_chunk *chunk)
{
	return READ_ONCE(chunk->key);
}

static u64 swpt_key_first(u64 key)
{
	return key >> SWPT_CHUNK_SHIFT;
}

static unsigned int swpt_key_nr(u64 key)
{
	return key & SWPT_CHUNK_NR_MASK;
}

static bool swpt_key_dense(u64 key)
{
	return key & SWPT_CHUNK_DENSE;
}

static u64 swpt_key(u64 first, unsigned int nr, bool dense)
{
	return first << SWPT_CHUNK_SHIFT | nr | (dense ? SWPT_CHUNK_DENSE : 0);
}

static unsigned long swpt_key_bytes(u64 key)
{
	return roundup_pow_of_two(swpt_key_nr(key) *
				  (swpt_key_dense(key) ?
					   sizeof(u64) :
					   sizeof(struct swpt_run)));
}

static bool swpt_is_hole(u64 word)
{
	return word >= SWPT_HOLE;
}

static u64 swpt_run_start(const struct swpt_chunk *chunk, u64 key,
			  unsigned int pos)
{
	return pos ? READ_ONCE(chunk->runs[pos - 1].end) : swpt_key_first(key);
}

/* For writers */
static u64 swpt_chunk_end(const struct swpt_chunk *chunk)
{
	unsigned int nr = swpt_key_nr(chunk->key);

	return swpt_key_dense(chunk->key) ? swpt_key_first(chunk->key) + nr :
					    chunk->runs[nr - 1].end;
}

/* Add the entries that key counts and that were written behind the others. */
static void swpt_chunk_grow(struct swpt_chunk *chunk, u64 key)
{
	/* Pairs with the dependency in swpt_chunk_key(). */
	smp_wmb();
	WRITE_ONCE(chunk->key, key);
}

static int swpt_chunk_alloc(struct swpt_chunk *chunk, u64 first,
			    unsigned int nr, bool dense)
{
	chunk->key = swpt_key(first, nr, dense);
	chunk->mem = kmalloc(swpt_key_bytes(chunk->key), GFP_KERNEL_ACCOUNT);
	if (!chunk->mem)
		return -ENOMEM;
	atomic_long_add(swpt_key_bytes(chunk->key), &swpt_bytes);
	return 0;
}

static void swpt_chunk_free(const struct swpt_chunk *chunk)
{
	atomic_long_sub(swpt_key_bytes(chunk->key), &swpt_bytes);
	kfree(chunk->mem);
}

static unsigned long swpt_dir_bytes(const struct swpt_dir *dir)
{
	return sizeof(*dir) + dir->room * sizeof(struct swpt_chunk);
}

static struct swpt_chunk *swpt_chunks_alloc(unsigned int nr)
{
	return kvmalloc(array_size(nr, sizeof(struct swpt_chunk)),
			GFP_KERNEL_ACCOUNT);
}

static struct swpt_dir *swpt_dir_alloc(unsigned int room)
{
	struct swpt_dir *dir = kmalloc(sizeof(*dir), GFP_KERNEL_ACCOUNT);

	if (!dir)
		return NULL;
	dir->nr = 0;
	dir->room = room;
	dir->nr_unused = 0;
	dir->chunk = swpt_chunks_alloc(room);
	if (!dir->chunk) {
		kfree(dir);
		return NULL;
	}
	atomic_long_add(swpt_dir_bytes(dir), &swpt_bytes);
	return dir;
}

/* Free the directory alone. */
static void swpt_dir_free(struct swpt_dir *dir)
{
	atomic_long_sub(swpt_dir_bytes(dir), &swpt_bytes);
	kvfree(dir->chunk);
	kfree(dir);
}

/* Free it with its chunks. */
static void swpt_dir_free_all(struct swpt_dir *dir)
{
	unsigned int i;

	for (i = 0; i < dir->nr; i++) {
		swpt_chunk_free(&dir->chunk[i]);
		cond_resched();
	}
	swpt_dir_free(dir);
}

static void swpt_dir_free_work(struct work_struct *work)
{
	struct swpt_dir *dir = container_of(to_rcu_work(work), struct swpt_dir,
					    free_work);
	unsigned int i;

	for (i = dir->free_first; i < dir->free_end; i++) {
		swpt_chunk_free(&dir->chunk[i]);
		cond_resched();
	}
	swpt_dir_free(dir);
}

static void swpt_dir_free_few(struct rcu_head *rcu)
{
	struct swpt_dir *dir = container_of(rcu, struct swpt_dir,
					    free_work.rcu);
	unsigned int i;

	for (i = dir->free_first; i < dir->free_end; i++)
		swpt_chunk_free(&dir->chunk[i]);
	swpt_dir_free(dir);
}

/*
 * Readers may still use it, and freeing many chunks is too much for a softirq.
 */
static void swpt_dir_free_rcu(struct swpt_dir *dir, unsigned int first,
			      unsigned int end)
{
	dir->free_first = first;
	dir->free_end = end;
	if (end - first <= SWPT_FREE_FEW) {
		call_rcu(&dir->free_work.rcu, swpt_dir_free_few);
		return;
	}
	INIT_RCU_WORK(&dir->free_work, swpt_dir_free_work);
	queue_rcu_work(swpt_free_wq, &dir->free_work);
}

/* Find the first run of a chunk that ends after index. */
static unsigned int swpt_chunk_search(const struct swpt_chunk *chunk,
				      unsigned int nr, u64 index, u64 *steps)
{
	unsigned int lo = 0, hi = nr;

	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;

		++*steps;
		if (READ_ONCE(chunk->runs[mid].end) > index)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* Find the first of nr chunks that starts after index. */
static unsigned int swpt_dir_search(const struct swpt_dir *dir, unsigned int nr,
				    u64 index, u64 *steps)
{
	unsigned int lo = 0, hi = nr;

	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;

		++*steps;
		if (swpt_key_first(swpt_chunk_key(&dir->chunk[mid])) <= index)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void swpt_cursor_init(struct swpt_cursor *cur,
			     const struct swpt_store *store,
			     const struct swpt_dir *dir, u64 index)
{
	const struct swpt_chunk *chunk;
	unsigned int next;
	u64 key;

	cur->store = store;
	cur->dir = dir;
	cur->index = index;
	cur->chunk = 0;
	cur->pos = 0;
	cur->steps = 0;
	if (!dir)
		return;

	next = swpt_dir_search(dir, READ_ONCE(dir->nr), index, &cur->steps);
	if (!next)
		return;
	cur->chunk = next - 1;
	chunk = &dir->chunk[cur->chunk];
	key = swpt_chunk_key(chunk);
	if (swpt_key_dense(key))
		cur->pos = min_t(u64, index - swpt_key_first(key),
				 swpt_key_nr(key));
	else
		cur->pos = swpt_chunk_search(chunk, swpt_key_nr(key), index,
					     &cur->steps);
}

/* The chunk with the next entry, and its key; or NULL. */
static __always_inline const struct swpt_chunk *
swpt_cursor_chunk(struct swpt_cursor *cur, u64 *key)
{
	const struct swpt_dir *dir = cur->dir;

	if (!dir)
		return NULL;
	/* Acquire: unlike in a search, no address depends on it. */
	for (; cur->chunk < smp_load_acquire(&dir->nr);
	     cur->chunk++, cur->pos = 0) {
		*key = swpt_chunk_key(&dir->chunk[cur->chunk]);
		if (cur->pos < swpt_key_nr(*key))
			return &dir->chunk[cur->chunk];
	}
	return NULL;
}

static void swpt_clip(struct swpt_cursor *cur, struct swpt_piece *piece,
		      u64 start, u64 end, u64 word)
{
	u64 skip = cur->index > start ? cur->index - start : 0;

	piece->first = start + skip;
	piece->npages = end - piece->first;
	piece->word = word + skip;
	cur->index = end;
}

/* The next run or hole, from cur->index on; false at the end. */
static __always_inline bool swpt_cursor_next(struct swpt_cursor *cur,
					     struct swpt_piece *piece)
{
	const struct swpt_chunk *chunk;
	unsigned int pos;
	u64 start, key;

	cur->steps++;
	if (!cur->dir) {
		const struct swpt_store *store = cur->store;

		if (cur->index >= store->one.end ||
		    store->first >= store->one.end)
			return false;
		swpt_clip(cur, piece, store->first, store->one.end,
			  store->one.word);
		return true;
	}

	chunk = swpt_cursor_chunk(cur, &key);
	if (!chunk)
		return false;
	pos = cur->pos;
	if (swpt_key_dense(key)) {
		unsigned int n = 1, nr = swpt_key_nr(key);

		while (pos + n < nr &&
		       chunk->words[pos + n] == chunk->words[pos] + n)
			n++;
		cur->steps += n;
		start = swpt_key_first(key) + pos;
		swpt_clip(cur, piece, start, start + n, chunk->words[pos]);
		cur->pos = pos + n;
	} else {
		start = swpt_run_start(chunk, key, pos);
		swpt_clip(cur, piece, start, READ_ONCE(chunk->runs[pos].end),
			  chunk->runs[pos].word);
		cur->pos = pos + 1;
	}
	return true;
}

/* The next run, for writers: readers meet no hole. */
static bool swpt_cursor_next_run(struct swpt_cursor *cur,
				 struct swpt_piece *piece)
{
	do {
		if (!swpt_cursor_next(cur, piece))
			return false;
	} while (swpt_is_hole(piece->word));
	return true;
}

/* The same, no further than last. */
static bool swpt_cursor_clip(struct swpt_cursor *cur, u64 last,
			     struct swpt_piece *piece)
{
	if (!swpt_cursor_next(cur, piece) || piece->first > last)
		return false;
	piece->npages = min(piece->npages, last - piece->first + 1);
	return true;
}

/*
 * In a dense chunk, return the words from here on, up to index last. Elsewhere
 * nr is 0.
 */
static bool swpt_cursor_dense(struct swpt_cursor *cur, u64 last,
			      const u64 **words, unsigned int *nr)
{
	const struct swpt_chunk *chunk;
	u64 index, key;

	*nr = 0;
	chunk = swpt_cursor_chunk(cur, &key);
	if (!chunk || !swpt_key_dense(key))
		return false;
	index = swpt_key_first(key) + cur->pos;
	if (index > last)
		return false;
	*words = chunk->words + cur->pos;
	*nr = min_t(u64, swpt_key_nr(key) - cur->pos, last - index + 1);
	cur->pos += *nr;
	cur->index = index + *nr;
	return true;
}

/* For writers, which the owner of the pages object serialises. */
static struct swpt_dir *swpt_store_dir(const struct swpt_store *store)
{
	return rcu_dereference_protected(store->dir, !store->lock ||
					 lockdep_is_held(store->lock));
}

static void swpt_cursor_at(struct swpt_cursor *cur,
			   const struct swpt_store *store, u64 index)
{
	swpt_cursor_init(cur, store, swpt_store_dir(store), index);
}

/* Empty a store. */
static void swpt_store_clear(struct swpt_store *store)
{
	struct swpt_dir *dir = swpt_store_dir(store);

	RCU_INIT_POINTER(store->dir, NULL);
	store->one.end = store->first;
	store->blocks = false;
	if (dir)
		swpt_dir_free_rcu(dir, 0, dir->nr);
}

/*
 * Which areas cover which pages.
 */

#define SWPT_COVER_FIRST(area)	((area)->first_index)
#define SWPT_COVER_LAST(area)	((area)->last_index)
INTERVAL_TREE_DEFINE(struct swpt_area, cover_node, u64, cover_subtree_last,
		     SWPT_COVER_FIRST, SWPT_COVER_LAST,
		     static inline __maybe_unused, swpt_cover)

/* Find the first range in [*first, last] that no area covers. */
static bool swpt_pages_next_uncovered(const struct swpt_pages *pages,
				      u64 *first, u64 last, u64 *uncovered_last)
{
	/* The generated functions lack a const. */
	struct rb_root_cached *areas = (void *)&pages->areas;

	while (*first <= last) {
		struct swpt_area *area;

		area = swpt_cover_iter_first(areas, *first, last);
		if (!area) {
			*uncovered_last = last;
			return true;
		}
		if (area->first_index > *first) {
			*uncovered_last = area->first_index - 1;
			return true;
		}
		if (area->last_index >= last)
			return false;
		*first = area->last_index + 1;
	}
	return false;
}

/*
 * Find the block around index that shares one pin, clipped to its run. False
 * where each page has a pin of its own.
 */
static bool swpt_pages_block(const struct swpt_pages *pages, u64 index,
			     u64 *first, u64 *last)
{
	const struct swpt_store *store = &pages->store;
	u64 start, end, word, offset, size;
	struct swpt_cursor cur;

	swpt_cursor_at(&cur, store, index);
	if (!cur.dir) {
		start = store->first;
		end = store->one.end;
		word = store->one.word;
	} else {
		const struct swpt_chunk *chunk = &cur.dir->chunk[cur.chunk];
		u64 key = chunk->key;

		if (swpt_key_dense(key) || cur.pos >= swpt_key_nr(key))
			return false;
		start = swpt_run_start(chunk, key, cur.pos);
		end = chunk->runs[cur.pos].end;
		word = chunk->runs[cur.pos].word;
	}
	if (index < start || index >= end || !swpt_word_order(word) ||
	    swpt_is_hole(word))
		return false;

	size = 1ULL << swpt_word_order(word);
	offset = (swpt_word_pfn(word) + index - start) & (size - 1);
	*first = index - start > offset ? index - offset : start;
	*last = min(index + (size - offset), end) - 1;
	return true;
}

/* Is index in a block that some area covers a part of? */
static bool swpt_pages_in_covered_block(const struct swpt_pages *pages,
					u64 index, u64 *first, u64 *last)
{
	struct rb_root_cached *areas = (void *)&pages->areas;

	return swpt_pages_block(pages, index, first, last) &&
	       swpt_cover_iter_first(areas, *first, *last);
}

/**
 * swpt_pages_next_hole() - Find pages that are not pinned.
 * @pages: pages object
 * @first: in: first page to look at; out: first page of the hole
 * @last: last page to look at
 * @hole_last: out: last page of the hole
 *
 * Return: false if all of [@first, @last] is pinned.
 */
bool swpt_pages_next_hole(const struct swpt_pages *pages, u64 *first, u64 last,
			  u64 *hole_last)
{
	u64 block_first, block_last;

	/* A covered block can only reach into the hole from either end. */
	while (swpt_pages_next_uncovered(pages, first, last, hole_last)) {
		if (RB_EMPTY_ROOT(&pages->areas.rb_root) ||
		    !pages->store.blocks)
			return true;
		if (swpt_pages_in_covered_block(pages, *first, &block_first,
						&block_last)) {
			*first = block_last + 1;
			continue;
		}
		if (swpt_pages_in_covered_block(pages, *hole_last, &block_first,
						&block_last))
			*hole_last = block_first - 1;
		return true;
	}
	return false;
}

/**
 * swpt_pages_nr_uncovered() - Count the pages that no area covers.
 * @pages: pages object
 * @first: first page
 * @last: last page
 *
 * Return: number of these pages.
 */
u64 swpt_pages_nr_uncovered(const struct swpt_pages *pages, u64 first, u64 last)
{
	u64 uncovered_last;
	u64 nr = 0;

	while (swpt_pages_next_uncovered(pages, &first, last,
					 &uncovered_last)) {
		nr += uncovered_last - first + 1;
		first = uncovered_last + 1;
	}
	return nr;
}

/**
 * swpt_pages_init() - Make a pages object with nothing pinned.
 * @pages: pages object
 * @lock: lock that its owner serialises writers with; may be NULL
 */
void swpt_pages_init(struct swpt_pages *pages, struct mutex *lock)
{
	pages->store = (struct swpt_store){ .lock = lock };
	seqcount_init(&pages->store.seq);
	pages->areas = RB_ROOT_CACHED;
}

/**
 * swpt_pages_add_area() - Let an area cover its pages.
 * @pages: what it maps
 * @area: all of its range is pinned: swpt_pages_next_hole() finds none
 */
void swpt_pages_add_area(struct swpt_pages *pages, struct swpt_area *area)
{
	swpt_cover_insert(area, &pages->areas);
}

/* Does no area cover anything in this chunk? */
static bool swpt_chunk_unused(const struct swpt_pages *pages,
			      const struct swpt_chunk *chunk)
{
	struct rb_root_cached *areas = (void *)&pages->areas;

	return !swpt_cover_iter_first(areas, swpt_key_first(chunk->key),
				      swpt_chunk_end(chunk) - 1);
}

/*
 * Count the chunks with pages from first to last that no area covers any more,
 * but those before looked, which were counted already.
 */
static void swpt_dir_count_unused(const struct swpt_pages *pages,
				  struct swpt_dir *dir, u64 first, u64 last,
				  unsigned int *looked)
{
	unsigned int i, end;
	u64 steps = 0;

	if (RB_EMPTY_ROOT(&pages->areas.rb_root))
		return;
	i = swpt_dir_search(dir, dir->nr, first, &steps);
	end = swpt_dir_search(dir, dir->nr, last, &steps);
	for (i = max(i ? i - 1 : 0, *looked); i < end; i++) {
		dir->nr_unused += swpt_chunk_unused(pages, &dir->chunk[i]);
		cond_resched();
	}
	*looked = end;
}

/*
 * Replace the directory by one without the chunks that are not used; those wait
 * for the grace period in a directory of their own. Without memory for that
 * they stay.
 */
static void swpt_pages_drop_unused(struct swpt_pages *pages,
				   struct swpt_dir *dir)
{
	struct swpt_dir *used, *unused;
	unsigned int i, nr_unused = 0;

	for (i = 0; i < dir->nr; i++) {
		nr_unused += swpt_chunk_unused(pages, &dir->chunk[i]);
		cond_resched();
	}
	dir->nr_unused = nr_unused;
	if (nr_unused * 2 < dir->nr)
		return;

	used = swpt_dir_alloc(roundup_pow_of_two(dir->nr - nr_unused));
	if (!used)
		return;
	unused = swpt_dir_alloc(nr_unused);
	if (!unused) {
		swpt_dir_free(used);
		return;
	}
	for (i = 0; i < dir->nr; i++) {
		struct swpt_dir *to = swpt_chunk_unused(pages, &dir->chunk[i]) ?
					      unused : used;

		to->chunk[to->nr++] = dir->chunk[i];
		cond_resched();
	}
	rcu_assign_pointer(pages->store.dir, used);
	swpt_dir_free_rcu(dir, 0, 0);
	swpt_dir_free_rcu(unused, 0, unused->nr);
}

/**
 * swpt_area_exceeds() - Does an area have a page above a limit?
 * @pages: what it maps
 * @area: added before
 * @max_pfn: the last page that it may have
 *
 * Return: true if it has one.
 */
bool swpt_area_exceeds(const struct swpt_pages *pages,
		       const struct swpt_area *area, u64 max_pfn)
{
	struct swpt_cursor cur;
	struct swpt_piece piece;

	swpt_cursor_at(&cur, &pages->store, area->first_index);
	while (swpt_cursor_clip(&cur, area->last_index, &piece)) {
		if (swpt_word_pfn(piece.word) + piece.npages - 1 > max_pfn)
			return true;
		cond_resched();
	}
	return false;
}

/**
 * swpt_pages_count() - Count some runs, and the bytes of the table.
 * @pages: pages object; no lock is needed
 * @index: in: page to go on from; out: the same for the next call
 * @nr_runs: in and out: number of runs, of which one may be in two chunks
 * @bytes: in and out: bytes of the directory and the chunks, which the call
 *	with an @index of 0 adds
 *
 * The table may change between two calls.
 *
 * Return: false: these were the last ones.
 */
bool swpt_pages_count(const struct swpt_pages *pages, u64 *index, u64 *nr_runs,
		      u64 *bytes)
{
	const struct swpt_store *store = &pages->store;
	const struct swpt_dir *dir;
	struct swpt_piece piece;
	struct swpt_cursor cur;
	bool more = false;
	unsigned int i;

	rcu_read_lock();
	dir = rcu_dereference(store->dir);
	if (!dir) {
		rcu_read_unlock();
		*nr_runs += READ_ONCE(store->one.end) !=
			    READ_ONCE(store->first);
		return false;
	}
	if (!*index) {
		*bytes += swpt_dir_bytes(dir);
		/* Acquire: see swpt_cursor_chunk(). */
		for (i = 0; i < smp_load_acquire(&dir->nr); i++)
			*bytes += swpt_key_bytes(swpt_chunk_key(&dir->chunk[i]));
	}
	swpt_cursor_init(&cur, store, dir, *index);
	for (i = 0; i < SWPT_COUNT_RUNS; i++) {
		more = swpt_cursor_next(&cur, &piece);
		if (!more)
			break;
		*nr_runs += !swpt_is_hole(piece.word);
	}
	*index = cur.index;
	rcu_read_unlock();
	return more;
}

/**
 * swpt_pages_remove_area() - Let an area cover its pages no longer.
 * @pages: what it maps
 * @area: added before; no reader may find it pinned any more
 * @release: called for all pages that no area covers now
 * @arg: its first argument
 */
void swpt_pages_remove_area(struct swpt_pages *pages, struct swpt_area *area,
			    swpt_release_fn release, void *arg)
{
	struct swpt_dir *dir = swpt_store_dir(&pages->store);
	u64 first = area->first_index;
	unsigned int looked = 0;
	u64 hole_last;

	swpt_cover_remove(area, &pages->areas);
	while (swpt_pages_next_hole(pages, &first, area->last_index,
				    &hole_last)) {
		struct swpt_cursor cur;
		struct swpt_piece piece;
		const u64 *words;
		unsigned int nr;

		swpt_cursor_at(&cur, &pages->store, first);
		while (swpt_cursor_dense(&cur, hole_last, &words, &nr) ||
		       swpt_cursor_clip(&cur, hole_last, &piece)) {
			if (nr)
				release(arg, words, nr, 1);
			else
				release(arg, &piece.word, 1, piece.npages);
		}
		if (dir)
			swpt_dir_count_unused(pages, dir, first, hole_last,
					      &looked);
		if (hole_last == area->last_index)
			break;
		first = hole_last + 1;
	}
	/* One in two, so that the walk over all of them pays off. */
	if (RB_EMPTY_ROOT(&pages->areas.rb_root))
		swpt_store_clear(&pages->store);
	else if (dir && dir->nr_unused * 2 >= dir->nr)
		swpt_pages_drop_unused(pages, dir);
}

/*
 * Builder: collects runs, in ascending order of index, and files them away.
 */

/**
 * swpt_builder_init() - Make an empty builder.
 * @builder: builder
 */
void swpt_builder_init(struct swpt_builder *builder)
{
	*builder = (struct swpt_builder){ .room = 1 };
	builder->runs = &builder->one;
}

/* Free the array of runs that are not in a chunk. */
static void swpt_builder_drop_runs(struct swpt_builder *builder)
{
	if (builder->runs != &builder->one)
		kfree(builder->runs);
	builder->runs = &builder->one;
	builder->room = 1;
}

static void swpt_builder_free_runs(struct swpt_builder *builder)
{
	swpt_builder_drop_runs(builder);
	builder->nr_runs = 0;
}

static bool swpt_builder_fits(const struct swpt_builder *builder,
			      unsigned int nr_runs, u64 npages, u64 longest)
{
	unsigned int max = builder->merging ? SWPT_MERGED_RUNS :
					      SWPT_CHUNK_RUNS;

	return nr_runs <= max ||
	       (npages <= SWPT_CHUNK_WORDS && longest <= SWPT_DENSE_RUN);
}

/* Replace the directory's array by one of another size. */
static int swpt_dir_resize(struct swpt_dir *dir, unsigned int room)
{
	struct swpt_chunk *chunk = swpt_chunks_alloc(room);

	if (!chunk)
		return -ENOMEM;
	memcpy(chunk, dir->chunk, array_size(dir->nr, sizeof(*chunk)));
	kvfree(dir->chunk);
	atomic_long_sub(swpt_dir_bytes(dir), &swpt_bytes);
	dir->chunk = chunk;
	dir->room = room;
	atomic_long_add(swpt_dir_bytes(dir), &swpt_bytes);
	return 0;
}

/* Make room for another chunk. */
static int swpt_builder_grow(struct swpt_builder *builder)
{
	struct swpt_dir *dir = builder->dir;

	if (dir)
		return dir->nr < dir->room ?
			       0 : swpt_dir_resize(dir, dir->room * 2);

	builder->dir = swpt_dir_alloc(8);
	return builder->dir ? 0 : -ENOMEM;
}

/* Write runs as words, a word a page. Returns where the next one goes. */
static u64 *swpt_words_fill(u64 *word, u64 start, const struct swpt_run *runs,
			    unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		u64 next = runs[i].word, step = !swpt_is_hole(next);

		for (; start < runs[i].end; start++, next += step, word++)
			WRITE_ONCE(*word, next);
	}
	return word;
}

/* Turn the collected runs into a chunk. On failure they stay collected. */
static int swpt_builder_emit(struct swpt_builder *builder)
{
	unsigned int nr = builder->nr_runs;
	struct swpt_chunk *chunk;
	bool dense;
	u64 npages;

	if (!nr)
		return 0;
	if (swpt_builder_grow(builder))
		return -ENOMEM;

	npages = builder->runs[nr - 1].end - builder->first;
	dense = nr > 1 && npages <= SWPT_CHUNK_WORDS &&
		builder->longest <= SWPT_DENSE_RUN &&
		npages * sizeof(u64) < nr * sizeof(struct swpt_run);
	chunk = &builder->dir->chunk[builder->dir->nr];
	if (swpt_chunk_alloc(chunk, builder->first, dense ? npages : nr, dense))
		return -ENOMEM;
	builder->dir->nr++;
	if (dense)
		swpt_words_fill(chunk->words, builder->first, builder->runs,
				nr);
	else
		memcpy(chunk->runs, builder->runs,
		       array_size(nr, sizeof(struct swpt_run)));

	builder->nr_runs = 0;
	builder->longest = 0;
	return 0;
}

/**
 * swpt_builder_seek() - Continue at another index.
 * @builder: builder
 * @index: where the next run starts, not before the end of the last one
 */
void swpt_builder_seek(struct swpt_builder *builder, u64 index)
{
	builder->next = index;
}

/* Make room for more runs: most areas have few. */
static int swpt_builder_make_room(struct swpt_builder *builder)
{
	unsigned int room = builder->room > 1 ? SWPT_CHUNK_WORDS :
						SWPT_BUILDER_ROOM;
	struct swpt_run *runs;

	runs = kmalloc_array(room, sizeof(*runs), GFP_KERNEL_ACCOUNT);
	if (!runs)
		return -ENOMEM;
	memcpy(runs, builder->runs, array_size(builder->nr_runs,
					       sizeof(*runs)));
	swpt_builder_drop_runs(builder);
	builder->runs = runs;
	builder->room = room;
	return 0;
}

/**
 * swpt_builder_add() - Add a run.
 * @builder: builder
 * @word: word of its first page
 * @npages: number of pages; 0 adds nothing
 *
 * Return: 0; -ENOMEM: nothing has changed.
 */
int swpt_builder_add(struct swpt_builder *builder, u64 word, u64 npages)
{
	unsigned int nr_runs = builder->nr_runs;
	struct swpt_run *last = nr_runs ? &builder->runs[nr_runs - 1] : NULL;
	bool blocks = swpt_word_order(word);
	u64 longest, end;
	bool gap, joins;

	if (!npages)
		return 0;
	gap = nr_runs && last->end != builder->next;
	joins = nr_runs && !gap && word == builder->expect &&
		!(blocks && builder->merging);
	longest = npages;
	if (joins)
		longest += last->end -
			   (nr_runs > 1 ? last[-1].end : builder->first);
	else
		nr_runs += 1 + gap;
	if (blocks) {
		longest = U64_MAX;
		builder->blocks = true;
	}
	longest = max(longest, builder->longest);
	end = builder->next + npages;

	if (!swpt_builder_fits(builder, nr_runs, end - builder->first,
			       longest)) {
		int rc = swpt_builder_emit(builder);

		if (rc)
			return rc;
		nr_runs = 1;
		gap = false;
		joins = false;
		longest = blocks ? U64_MAX : npages;
	}
	if (!builder->nr_runs)
		builder->first = builder->next;

	if (nr_runs > builder->room && swpt_builder_make_room(builder))
		return -ENOMEM;

	last = &builder->runs[nr_runs - 1];
	if (gap) {
		last[-1].word = SWPT_HOLE;
		last[-1].end = builder->next;
		builder->gaps = true;
	}
	if (!joins)
		last->word = word;
	last->end = end;
	builder->nr_runs = nr_runs;
	builder->longest = longest;
	builder->expect = word + npages;
	builder->next = end;
	return 0;
}

/* Make the builder readable as a store. It can still be aborted. */
static int swpt_builder_finish(struct swpt_builder *builder,
			       struct swpt_store *store, bool want_dir)
{
	*store = (struct swpt_store){ .first = builder->first };
	store->one.end = store->first;
	if (!builder->dir && builder->nr_runs == 1 && !want_dir) {
		store->one = builder->runs[0];
		return 0;
	}
	if (swpt_builder_emit(builder))
		return -ENOMEM;
	RCU_INIT_POINTER(store->dir, builder->dir);
	return 0;
}

static int swpt_builder_add_piece(struct swpt_builder *builder,
				  const struct swpt_piece *piece, u64 npages)
{
	swpt_builder_seek(builder, piece->first);
	return swpt_builder_add(builder, piece->word, npages);
}

/* Advance to the first pages at or after index. */
static bool swpt_cursor_skip(struct swpt_cursor *cur, struct swpt_piece *piece,
			     u64 index)
{
	while (piece->first + piece->npages <= index)
		if (!swpt_cursor_next_run(cur, piece))
			return false;
	if (piece->first < index) {
		u64 skip = index - piece->first;

		piece->first += skip;
		piece->word += skip;
		piece->npages -= skip;
	}
	return true;
}

/* Collect into out the runs of new, and those of old where new has none. */
static int swpt_builder_merge(struct swpt_builder *out,
			      const struct swpt_dir *old,
			      const struct swpt_dir *new)
{
	struct swpt_piece old_piece, new_piece;
	struct swpt_cursor old_cur, new_cur;
	bool have_old, have_new;

	swpt_cursor_init(&old_cur, NULL, old, 0);
	swpt_cursor_init(&new_cur, NULL, new, 0);
	have_old = swpt_cursor_next_run(&old_cur, &old_piece);
	have_new = swpt_cursor_next_run(&new_cur, &new_piece);
	while (have_old || have_new) {
		if (have_old &&
		    (!have_new || old_piece.first < new_piece.first)) {
			u64 npages = old_piece.npages;

			if (have_new)
				npages = min(npages, new_piece.first -
						     old_piece.first);
			if (swpt_builder_add_piece(out, &old_piece, npages))
				return -ENOMEM;
			have_old = swpt_cursor_skip(&old_cur, &old_piece,
						    old_piece.first + npages);
		} else {
			u64 end = new_piece.first + new_piece.npages;

			if (swpt_builder_add_piece(out, &new_piece,
						   new_piece.npages))
				return -ENOMEM;
			if (have_old)
				have_old = swpt_cursor_skip(&old_cur,
							    &old_piece, end);
			have_new = swpt_cursor_next_run(&new_cur, &new_piece);
		}
	}
	return 0;
}

/* Free the unused room of a finished directory, if possible. */
static struct swpt_dir *swpt_dir_trim(struct swpt_dir *dir)
{
	if (dir->nr < dir->room)
		swpt_dir_resize(dir, dir->nr);
	return dir;
}

/*
 * Commit: adds what a builder has to a store that readers use. One that fits
 * into a chunk is written behind its last run, or into a copy of the chunk;
 * otherwise the chunks that it overlaps are merged with it.
 */

/* The chunks of a store; a single run counts as one. */
struct swpt_old {
	struct swpt_dir *dir;
	struct swpt_dir single;
	struct swpt_chunk one;
};

static void swpt_old_init(struct swpt_old *old, struct swpt_store *store,
			  struct swpt_dir *dir)
{
	old->dir = dir;
	if (dir)
		return;
	old->dir = &old->single;
	old->one.key = swpt_key(store->first, 1, false);
	old->one.runs = &store->one;
	old->single.nr = 1;
	old->single.room = 0;
	old->single.nr_unused = 0;
	old->single.chunk = &old->one;
}

/*
 * Publish a directory in which the n chunks of new replace those from first to
 * end of the old one. Takes over the chunks.
 */
static int swpt_store_splice(struct swpt_store *store, struct swpt_old *old,
			     unsigned int first, unsigned int end,
			     const struct swpt_chunk *new, unsigned int n)
{
	unsigned int nr = old->dir->nr, total = nr - (end - first) + n;
	struct swpt_dir *dir;

	if (first == nr && total <= old->dir->room) {
		memcpy(old->dir->chunk + nr, new, array_size(n, sizeof(*new)));
		/* Pairs with the dependency in swpt_cursor_init(). */
		smp_wmb();
		WRITE_ONCE(old->dir->nr, total);
		return 0;
	}
	dir = swpt_dir_alloc(roundup_pow_of_two(total));
	if (!dir)
		return -ENOMEM;
	dir->nr = total;
	dir->nr_unused = old->dir->nr_unused;
	memcpy(dir->chunk, old->dir->chunk, array_size(first, sizeof(*new)));
	memcpy(dir->chunk + first, new, array_size(n, sizeof(*new)));
	memcpy(dir->chunk + first + n, old->dir->chunk + end,
	       array_size(nr - end, sizeof(*new)));
	/* store->one may be in use by a reader that found no directory. */
	rcu_assign_pointer(store->dir, dir);
	if (old->dir != &old->single)
		swpt_dir_free_rcu(old->dir, first, end);
	return 0;
}

/*
 * Runs of a chunk, as they are written: nr of them, the last one from start to
 * end. Others may read those that were there before.
 */
struct swpt_out {
	struct swpt_run *runs;
	unsigned int nr;
	u64 start;
	u64 end;
};

/* Blocks stay apart, because the new one has a pin of its own. */
static bool swpt_out_joins(const struct swpt_out *out, u64 word)
{
	u64 last = out->nr ? out->runs[out->nr - 1].word : SWPT_HOLE;

	return !swpt_word_order(last) && word == last + (out->end - out->start);
}

static void swpt_out_add(struct swpt_out *out, u64 word, u64 end)
{
	if (swpt_out_joins(out, word)) {
		WRITE_ONCE(out->runs[out->nr - 1].end, end);
	} else {
		out->runs[out->nr].word = word;
		out->runs[out->nr++].end = end;
		out->start = out->end;
	}
	out->end = end;
}

static void swpt_out_add_runs(struct swpt_out *out,
			      const struct swpt_builder *builder)
{
	unsigned int i;

	for (i = 0; i < builder->nr_runs; i++)
		swpt_out_add(out, builder->runs[i].word, builder->runs[i].end);
}

/*
 * Write new runs behind those of a chunk. -ENOSPC: there is no room; -EAGAIN:
 * nor is there in its memory, but a chunk may have more.
 */
static int swpt_append_runs(struct swpt_chunk *chunk,
			    const struct swpt_builder *builder)
{
	unsigned int nr = swpt_key_nr(chunk->key), total;
	u64 first = swpt_key_first(chunk->key), key;
	struct swpt_out out = {
		.runs = chunk->runs,
		.nr = nr,
		.start = swpt_run_start(chunk, chunk->key, nr - 1),
		.end = chunk->runs[nr - 1].end,
	};

	total = nr + builder->nr_runs;
	if (out.end < builder->first)
		total++;
	else if (swpt_out_joins(&out, builder->runs->word))
		total--;
	if (total > SWPT_CHUNK_RUNS)
		return -ENOSPC;
	key = swpt_key(first, total, false);
	if (swpt_key_bytes(key) != swpt_key_bytes(chunk->key))
		return -EAGAIN;

	if (out.end < builder->first)
		swpt_out_add(&out, SWPT_HOLE, builder->first);
	swpt_out_add_runs(&out, builder);
	swpt_chunk_grow(chunk, key);
	return 0;
}

/*
 * Put new runs between those of a chunk that is not that of the only run, if its
 * memory has room for them: 0. Else make a copy of the chunk with them: 1.
 * -ENOSPC: there are too many.
 */
static int swpt_insert_runs(struct swpt_store *store, struct swpt_chunk *chunk,
			    bool only, const struct swpt_builder *builder,
			    struct swpt_chunk *copy)
{
	u64 start = swpt_key_first(chunk->key), first = builder->first;
	u64 end = builder->runs[builder->nr_runs - 1].end, steps = 0;
	unsigned int nr = swpt_key_nr(chunk->key), head, tail, total;
	struct swpt_run *runs = chunk->runs;
	/* On either side the run beside them and a part of one or a hole */
	struct swpt_run between[SWPT_INSERT_RUNS + 4];
	struct swpt_out out = { .runs = between };
	u64 low = min(start, first), key;

	if (builder->nr_runs > SWPT_INSERT_RUNS)
		return -ENOSPC;
	/* The first ones that end after the start and the end of the new ones */
	head = swpt_chunk_search(chunk, nr, first, &steps);
	tail = swpt_chunk_search(chunk, nr, end, &steps);

	out.end = min(first, swpt_run_start(chunk, chunk->key, head));
	if (head) {
		out.start = swpt_run_start(chunk, chunk->key, head - 1);
		between[out.nr++] = runs[head - 1];
	}
	if (out.end < first)
		swpt_out_add(&out, head < nr ? runs[head].word : SWPT_HOLE,
			     first);
	head -= head > 0;
	swpt_out_add_runs(&out, builder);
	if (end < start) {
		swpt_out_add(&out, SWPT_HOLE, start);
	} else if (tail < nr) {
		u64 word = runs[tail].word;

		if (!swpt_is_hole(word))
			word += end - swpt_run_start(chunk, chunk->key, tail);
		swpt_out_add(&out, word, runs[tail].end);
		tail++;
	}

	total = head + out.nr + nr - tail;
	if (total > SWPT_CHUNK_RUNS)
		return -ENOSPC;
	key = swpt_key(low, total, false);
	if (!only && swpt_key_bytes(key) == swpt_key_bytes(chunk->key)) {
		/* Readers spin meanwhile. */
		preempt_disable();
		raw_write_seqcount_begin(&store->seq);
		memmove(runs + head + out.nr, runs + tail,
			array_size(nr - tail, sizeof(*runs)));
		memcpy(runs + head, between, array_size(out.nr, sizeof(*runs)));
		WRITE_ONCE(chunk->key, key);
		raw_write_seqcount_end(&store->seq);
		preempt_enable();
		return 0;
	}
	if (swpt_chunk_alloc(copy, low, total, false))
		return -ENOMEM;
	memcpy(copy->runs, runs, array_size(head, sizeof(*runs)));
	memcpy(copy->runs + head, between, array_size(out.nr, sizeof(*runs)));
	memcpy(copy->runs + head + out.nr, runs + tail,
	       array_size(nr - tail, sizeof(*runs)));
	return 1;
}

/* Would words from first to end be too long a run, with those beside them? */
static bool swpt_words_long(const struct swpt_chunk *chunk, u64 first, u64 end,
			    const struct swpt_builder *builder)
{
	const struct swpt_run *last = builder->runs + builder->nr_runs - 1;
	u64 start = swpt_key_first(chunk->key), length = builder->longest;
	u64 word = builder->runs->word, stop = swpt_chunk_end(chunk);

	while (first > start && first <= stop && length <= SWPT_DENSE_RUN &&
	       chunk->words[first - 1 - start] == word - 1) {
		first--;
		word--;
		length++;
	}
	word = last->word + (end - (builder->nr_runs > 1 ? last[-1].end :
							   builder->first));
	while (end >= start && end < stop && length <= SWPT_DENSE_RUN &&
	       chunk->words[end - start] == word) {
		end++;
		word++;
		length++;
	}
	return length > SWPT_DENSE_RUN;
}

static void swpt_words_hole(const struct swpt_chunk *chunk, u64 index, u64 end)
{
	for (; index < end; index++)
		chunk->words[index - swpt_key_first(chunk->key)] = SWPT_HOLE;
}

/*
 * Place new runs in a dense chunk: 0; or if they begin before it, in a copy: 1.
 * -ENOSPC, -EAGAIN: as swpt_append_runs().
 */
static int swpt_place_words(struct swpt_chunk *chunk,
			    const struct swpt_builder *builder,
			    struct swpt_chunk *copy)
{
	u64 start = swpt_key_first(chunk->key), stop = swpt_chunk_end(chunk);
	u64 first = builder->first, low = min(start, first), key;
	u64 end = builder->runs[builder->nr_runs - 1].end;
	u64 npages = max(stop, end) - low;

	if (npages > SWPT_CHUNK_WORDS ||
	    npages > stop - start + end - first + SWPT_DENSE_HOLE ||
	    swpt_words_long(chunk, first, end, builder))
		return -ENOSPC;
	if (low < start) {
		if (swpt_chunk_alloc(copy, low, npages, true))
			return -ENOMEM;
		memcpy(copy->words + (start - low), chunk->words,
		       array_size(stop - start, sizeof(u64)));
		chunk = copy;
	}
	key = swpt_key(low, npages, true);
	if (swpt_key_bytes(key) != swpt_key_bytes(chunk->key))
		return -EAGAIN;
	swpt_words_hole(chunk, stop, first);
	swpt_words_hole(chunk, end, start);
	swpt_words_fill(chunk->words + (first - low), first, builder->runs,
			builder->nr_runs);
	swpt_chunk_grow(chunk, key);
	return chunk == copy;
}

/*
 * Place new runs in the chunk at an index of the directory. Returns as
 * swpt_append_runs(), or -ENOMEM.
 */
static int swpt_store_place_at(struct swpt_store *store, struct swpt_old *old,
			       unsigned int at,
			       const struct swpt_builder *builder)
{
	struct swpt_chunk *chunk = &old->dir->chunk[at], copy;
	bool only = old->dir == &old->single;
	int rc;

	if (swpt_key_dense(chunk->key))
		rc = swpt_place_words(chunk, builder, &copy);
	else if (!only && builder->first >= swpt_chunk_end(chunk))
		rc = swpt_append_runs(chunk, builder);
	else
		rc = swpt_insert_runs(store, chunk, only, builder, &copy);
	if (rc <= 0)
		return rc;
	rc = swpt_store_splice(store, old, at, at + 1, &copy, 1);
	if (rc)
		swpt_chunk_free(&copy);
	return rc;
}

/*
 * Place new runs without a gap in the chunk that they overlap, or in the one
 * before or after them. Returns as swpt_store_place_at().
 */
static int swpt_store_place(struct swpt_store *store, struct swpt_old *old,
			    const struct swpt_builder *builder)
{
	const struct swpt_chunk *chunk = old->dir->chunk;
	unsigned int nr = old->dir->nr, next;
	u64 steps = 0;
	int rc;

	next = swpt_dir_search(old->dir, nr, builder->first, &steps);
	if (next < nr && swpt_key_first(chunk[next].key) <
				 builder->runs[builder->nr_runs - 1].end)
		return -ENOSPC;
	if (next) {
		rc = swpt_store_place_at(store, old, next - 1, builder);
		if (rc != -ENOSPC || next == nr ||
		    swpt_chunk_end(&chunk[next - 1]) > builder->first)
			return rc;
	}
	return swpt_store_place_at(store, old, next, builder);
}

/* Merge the chunks that new runs overlap, and the one before them if asked to. */
static int swpt_store_merge(struct swpt_store *store, struct swpt_old *old,
			    struct swpt_builder *builder, bool with_before)
{
	unsigned int nr = old->dir->nr, first, end;
	struct swpt_builder merged, *from = builder;
	struct swpt_store unused;
	struct swpt_dir part;
	u64 steps = 0;
	int rc;

	rc = swpt_builder_finish(builder, &unused, true);
	if (rc)
		return rc;
	first = swpt_dir_search(old->dir, nr,
				swpt_key_first(builder->dir->chunk->key),
				&steps);
	end = swpt_dir_search(old->dir, nr,
			      swpt_chunk_end(&builder->dir->chunk
						      [builder->dir->nr - 1]) -
				      1,
			      &steps);
	if (first && (with_before ||
		      swpt_chunk_end(&old->dir->chunk[first - 1]) >
			      swpt_key_first(builder->dir->chunk->key)))
		first--;

	if (old->dir == &old->single) {
		first = 0;
		end = 1;
	}

	swpt_builder_init(&merged);
	merged.merging = true;
	if (first < end) {
		from = &merged;
		part.chunk = old->dir->chunk + first;
		part.nr = end - first;
		rc = swpt_builder_merge(&merged, &part, builder->dir);
		if (!rc)
			rc = swpt_builder_finish(&merged, &unused, true);
	}
	if (!rc)
		rc = swpt_store_splice(store, old, first, end, from->dir->chunk,
				       from->dir->nr);
	if (!rc) {
		swpt_dir_free(from->dir);
		from->dir = NULL;
		swpt_builder_abort(builder, NULL, NULL);
	}
	swpt_builder_abort(&merged, NULL, NULL);
	return rc;
}

/**
 * swpt_builder_commit() - File what was collected.
 * @builder: builder with at least one run; used up on success
 * @pages: pages object that the runs are added to
 *
 * Areas may be added to @pages after this, not before.
 *
 * Return: 0; -ENOMEM: @pages is unchanged, and @builder is still to be aborted.
 */
int swpt_builder_commit(struct swpt_builder *builder, struct swpt_pages *pages)
{
	struct swpt_store *dst = &pages->store, store;
	struct swpt_dir *dir = swpt_store_dir(dst);
	struct swpt_old old;
	int rc;

	if (RB_EMPTY_ROOT(&pages->areas.rb_root)) {
		rc = swpt_builder_finish(builder, &store, false);
		if (rc)
			return rc;
		/*
		 * There are no readers: the order of the stores does not
		 * matter.
		 */
		dst->first = store.first;
		dst->one = store.one;
		dst->blocks = builder->blocks;
		if (builder->dir)
			rcu_assign_pointer(dst->dir,
					   swpt_dir_trim(builder->dir));
		swpt_builder_free_runs(builder);
		return 0;
	}

	swpt_old_init(&old, dst, dir);
	rc = -ENOSPC;
	if (!builder->dir && !builder->gaps)
		rc = swpt_store_place(dst, &old, builder);
	if (rc == -ENOSPC || rc == -EAGAIN)
		rc = swpt_store_merge(dst, &old, builder, rc == -EAGAIN);
	if (rc)
		return rc;
	dst->blocks |= builder->blocks;
	swpt_builder_free_runs(builder);
	return 0;
}

/**
 * swpt_builder_abort() - Discard what was collected.
 * @builder: builder
 * @release: called for every run; may be NULL
 * @arg: its first argument
 */
void swpt_builder_abort(struct swpt_builder *builder, swpt_release_fn release,
			void *arg)
{
	u64 start = builder->first;
	unsigned int i;

	if (release && builder->dir) {
		struct swpt_cursor cur;
		struct swpt_piece piece;

		swpt_cursor_init(&cur, NULL, builder->dir, 0);
		while (swpt_cursor_next_run(&cur, &piece))
			release(arg, &piece.word, 1, piece.npages);
	}
	for (i = 0; release && i < builder->nr_runs; i++) {
		if (!swpt_is_hole(builder->runs[i].word))
			release(arg, &builder->runs[i].word, 1,
				builder->runs[i].end - start);
		start = builder->runs[i].end;
	}
	if (builder->dir)
		swpt_dir_free_all(builder->dir);
	builder->dir = NULL;
	swpt_builder_free_runs(builder);
}

/*
 * Areas.
 */

static struct swpt_area *to_swpt_area(struct rb_node *node)
{
	return rb_entry_safe(node, struct swpt_area, node);
}

/* The free IOVAs before each area, and the widest of them in each subtree */
#define SWPT_GAP(area)	((area)->gap)
RB_DECLARE_CALLBACKS_MAX(static, swpt_gaps, struct swpt_area, node, u64,
			 subtree_gap, SWPT_GAP)

/**
 * swpt_init() - Make an empty table.
 * @swpt: table
 * @page_shift: log2 of the page size
 */
void swpt_init(struct swpt *swpt, unsigned int page_shift)
{
	swpt->areas = RB_ROOT;
	seqcount_init(&swpt->seq);
	swpt->page_shift = page_shift;
}

/**
 * swpt_find_place() - Find where an area goes.
 * @swpt: table
 * @iova: its first IOVA
 * @last: its last IOVA
 * @place: out: where it goes
 *
 * Return: 0; -EEXIST: it overlaps another one.
 */
int swpt_find_place(struct swpt *swpt, u64 iova, u64 last,
		    struct swpt_place *place)
{
	struct rb_node **link = &swpt->areas.rb_node;
	struct rb_node *parent = NULL;
	struct swpt_area *next = NULL;
	u64 start = 0;

	while (*link) {
		struct swpt_area *cur = to_swpt_area(*link);

		parent = *link;
		if (last < cur->iova) {
			next = cur;
			link = &parent->rb_left;
		} else if (iova > cur->last) {
			start = cur->last + 1;
			link = &parent->rb_right;
		} else {
			return -EEXIST;
		}
	}
	*place = (struct swpt_place){ parent, link, next, start };
	return 0;
}

/**
 * swpt_insert_at() - Add an area where it goes.
 * @swpt: table
 * @area: area with its range set
 * @place: what swpt_find_place() found, and no area was added or removed since
 */
void swpt_insert_at(struct swpt *swpt, struct swpt_area *area,
		    const struct swpt_place *place)
{
	struct swpt_area *next = place->next;

	area->gap = area->iova - place->start;
	area->subtree_gap = area->gap;
	/*
	 * Its write barrier comes before every link to the area, those included
	 * that rb_insert_augmented() stores plainly: no reader finds the area
	 * before its range.
	 */
	swpt_write_begin(swpt);
	rb_link_node_rcu(&area->node, place->parent, place->link);
	swpt_gaps_propagate(place->parent, NULL);
	if (next) {
		/* It is further up, where the first walk may not get to. */
		next->gap = next->iova - area->last - 1;
		swpt_gaps_propagate(&next->node, NULL);
	}
	rb_insert_augmented(&area->node, &swpt->areas, &swpt_gaps);
	swpt_write_end(swpt);
}

/**
 * swpt_insert() - Add an area.
 * @swpt: table
 * @area: area with its range set
 *
 * Return: 0; -EEXIST: it overlaps another one.
 */
int swpt_insert(struct swpt *swpt, struct swpt_area *area)
{
	struct swpt_place place;
	int rc = swpt_find_place(swpt, area->iova, area->last, &place);

	if (!rc)
		swpt_insert_at(swpt, area, &place);
	return rc;
}

/**
 * swpt_remove() - Remove an area.
 * @swpt: table
 * @area: area in it, to be freed after a grace period
 */
void swpt_remove(struct swpt *swpt, struct swpt_area *area)
{
	struct swpt_area *next = swpt_next(area);

	swpt_write_begin(swpt);
	rb_erase_augmented(&area->node, &swpt->areas, &swpt_gaps);
	if (next) {
		next->gap += area->gap + (area->last - area->iova) + 1;
		swpt_gaps_propagate(&next->node, NULL);
	}
	swpt_write_end(swpt);
}

/**
 * swpt_split() - Replace an area by two.
 * @swpt: table
 * @area: area in it, to be freed after a grace period
 * @low: new area that begins where @area does
 * @high: new area that begins after @low and ends where @area does
 *
 * Readers see one change: they find @area, or both parts.
 */
void swpt_split(struct swpt *swpt, struct swpt_area *area,
		struct swpt_area *low, struct swpt_area *high)
{
	struct rb_node **link = &low->node.rb_right;
	struct rb_node *parent = &low->node;

	low->gap = area->gap;
	low->subtree_gap = area->subtree_gap;
	high->gap = 0;
	high->subtree_gap = 0;
	swpt_write_begin(swpt);
	rb_replace_node_rcu(&area->node, &low->node, &swpt->areas);
	/* The next place after low. */
	while (*link) {
		parent = *link;
		link = &parent->rb_left;
	}
	rb_link_node_rcu(&high->node, parent, link);
	rb_insert_augmented(&high->node, &swpt->areas, &swpt_gaps);
	swpt_write_end(swpt);
}

/**
 * swpt_first() - Find the first area that overlaps a range.
 * @swpt: table
 * @iova: first IOVA of the range
 * @last: last IOVA of the range
 *
 * Return: the area, or NULL.
 */
struct swpt_area *swpt_first(const struct swpt *swpt, u64 iova, u64 last)
{
	struct rb_node *node = swpt->areas.rb_node;
	struct swpt_area *found = NULL;

	while (node) {
		struct swpt_area *area = to_swpt_area(node);

		if (area->last >= iova) {
			found = area;
			node = node->rb_left;
		} else {
			node = node->rb_right;
		}
	}
	return found && found->iova <= last ? found : NULL;
}

/**
 * swpt_next() - Find the next area.
 * @area: area in a table
 *
 * Return: the area after it, or NULL.
 */
struct swpt_area *swpt_next(const struct swpt_area *area)
{
	return to_swpt_area(rb_next(&area->node));
}

static bool swpt_subtree_has_gap(const struct rb_node *node, u64 length)
{
	return node && rb_entry(node, struct swpt_area, node)->subtree_gap >=
			       length;
}

/* What of the gap before an area is not before first */
static u64 swpt_gap_from(const struct swpt_area *area, u64 first)
{
	return min(area->gap, area->iova - first);
}

/*
 * Find the first area with that many free bytes before it that are not before
 * first.
 */
static struct swpt_area *swpt_first_wide(const struct swpt *swpt, u64 first,
					 u64 length, u64 *steps)
{
	struct rb_node *node = swpt->areas.rb_node, *found = NULL;

	/* The leftmost one after first that has the room, or right of it */
	while (node) {
		struct swpt_area *area = to_swpt_area(node);

		++*steps;
		if (area->iova <= first) {
			node = node->rb_right;
			continue;
		}
		if (swpt_gap_from(area, first) >= length ||
		    swpt_subtree_has_gap(node->rb_right, length))
			found = node;
		node = node->rb_left;
	}
	if (!found || swpt_gap_from(to_swpt_area(found), first) >= length)
		return to_swpt_area(found);

	node = found->rb_right;
	while (swpt_subtree_has_gap(node->rb_left, length) ||
	       to_swpt_area(node)->gap < length) {
		++*steps;
		if (swpt_subtree_has_gap(node->rb_left, length))
			node = node->rb_left;
		else
			node = node->rb_right;
	}
	return to_swpt_area(node);
}

/* swpt_next_gap(), which counts its steps. */
static bool swpt_find_gap(struct swpt *swpt, u64 *first, u64 *last, u64 length,
			  struct swpt_place *place, u64 *steps)
{
	struct swpt_area *next = swpt_first_wide(swpt, *first, length, steps);
	struct rb_node *node;

	place->next = next;
	if (next) {
		node = &next->node;
		place->link = &node->rb_left;
		place->start = next->iova - next->gap;
		*last = min(*last, next->iova - 1);
		/* Else behind the last area of the subtree to the left */
		if (node->rb_left) {
			for (node = node->rb_left; node->rb_right;
			     node = node->rb_right)
				;
			place->link = &node->rb_right;
		}
	} else {
		node = rb_last(&swpt->areas);
		place->link = node ? &node->rb_right : &swpt->areas.rb_node;
		place->start = node ? to_swpt_area(node)->last + 1 : 0;
		/* There is no IOVA after the last one. */
		if (node && !place->start)
			return false;
	}
	place->parent = node;
	*first = max(*first, place->start);
	return *first <= *last && *last - *first >= length - 1;
}

/**
 * swpt_next_gap() - Find IOVAs that are free.
 * @swpt: table
 * @first: in: first IOVA to look at; out: first IOVA of the gap
 * @last: in: last IOVA to look at, not before @first; out: last IOVA of the gap
 * @length: least bytes, not 0
 * @place: out: where an area in the gap goes
 *
 * Return: true if there is such a gap; it is the first one.
 */
bool swpt_next_gap(struct swpt *swpt, u64 *first, u64 *last, u64 length,
		   struct swpt_place *place)
{
	u64 steps = 0;

	return swpt_find_gap(swpt, first, last, length, place, &steps);
}

/* Find the area at iova, for readers; may miss it while the tree changes. */
static const struct swpt_area *swpt_find_rcu(const struct swpt *swpt, u64 iova)
{
	struct rb_node *node = READ_ONCE(swpt->areas.rb_node);

	while (node) {
		const struct swpt_area *area = to_swpt_area(node);

		if (iova < area->iova)
			node = READ_ONCE(node->rb_left);
		else if (iova > area->last)
			node = READ_ONCE(node->rb_right);
		else
			return area;
	}
	return NULL;
}

/*
 * Find the page at index. Returns the number of contiguous pages from it on, but
 * looks no further than max_nr, and the PFN; 0: it is not there.
 */
static u64 swpt_dir_lookup(const struct swpt_store *store, u64 index,
			   u64 max_nr, u64 *pfn, struct swpt_cursor *cur)
{
	struct swpt_piece piece;
	u64 nr;

	/* There may be no directory any more, if the area was unmapped. */
	swpt_cursor_init(cur, store, rcu_dereference(store->dir), index);
	if (!swpt_cursor_next(cur, &piece) || piece.first != index)
		return 0;
	*pfn = swpt_word_pfn(piece.word);
	nr = piece.npages;
	while (nr < max_nr && swpt_cursor_next(cur, &piece) &&
	       piece.first == index + nr &&
	       swpt_word_pfn(piece.word) == *pfn + nr)
		nr += piece.npages;
	return nr;
}

/* The same where a single run is all there is */
static u64 swpt_one_lookup(const struct swpt_store *store, u64 index, u64 *pfn,
			   struct swpt_cursor *cur)
{
	cur->steps = 1;
	if (index < store->first || index >= store->one.end)
		return 0;
	*pfn = swpt_word_pfn(store->one.word + (index - store->first));
	return store->one.end - index;
}

/* swpt_lookup() in an area of these pages; the cursor counts the steps. */
static __always_inline int
swpt_area_lookup_pages(const struct swpt_area *area,
		       const struct swpt_pages *pages, unsigned int shift,
		       u64 iova, u64 *phys, u64 *length,
		       struct swpt_cursor *cur)
{
	u64 want, pos, in_page, index, nr, max_nr, pfn;
	const struct swpt_store *store;
	unsigned int seq;

	want = min(*length - 1, area->last - iova) + 1;
	pos = area->start_byte + (iova - area->iova);
	index = pos >> shift;
	in_page = pos & (BIT_ULL(shift) - 1);
	max_nr = ((in_page + want - 1) >> shift) + 1;

	store = &pages->store;
	if (!rcu_access_pointer(store->dir)) {
		nr = swpt_one_lookup(store, index, &pfn, cur);
	} else {
		do {
			seq = raw_read_seqcount_begin(&store->seq);
			nr = swpt_dir_lookup(store, index, max_nr, &pfn, cur);
		} while (read_seqcount_retry(&store->seq, seq));
	}
	if (!nr)
		return -ENOENT;

	*phys = (pfn << shift) + in_page;
	*length = nr < max_nr ? (nr << shift) - in_page : want;
	return 0;
}

/* The same, if the area is published and pinned. */
static int swpt_area_lookup(const struct swpt_area *area, unsigned int shift,
			    u64 iova, u64 *phys, u64 *length,
			    struct swpt_cursor *cur)
{
	const struct swpt_pages *pages = READ_ONCE(area->pages);

	if (!pages)
		return -ENOENT;
	if (!READ_ONCE(area->pinned))
		return -EOPNOTSUPP;
	return swpt_area_lookup_pages(area, pages, shift, iova, phys, length,
				      cur);
}

/**
 * swpt_lookup() - Translate an IOVA.
 * @swpt: table
 * @iova: IOVA to look up
 * @phys: out: its physical address
 * @length: in: most bytes to look at, not 0; out: contiguous bytes from @phys
 *	on, within the area
 *
 * Context: rcu_read_lock() is held; valid if swpt_read_retry() returns false.
 * Return: 0; -ENOENT: nothing is mapped there; -EOPNOTSUPP: it is not pinned.
 */
int swpt_lookup(const struct swpt *swpt, u64 iova, u64 *phys, u64 *length)
{
	const struct swpt_area *area = swpt_find_rcu(swpt, iova);
	struct swpt_cursor cur;

	if (!area)
		return -ENOENT;
	return swpt_area_lookup(area, swpt->page_shift, iova, phys, length,
				&cur);
}

/**
 * swpt_lookup_reserved() - Translate the first IOVA of an area that is only
 * reserved.
 * @swpt: table
 * @pages: what it will map
 * @area: the area; the caller keeps what it covers pinned
 * @phys: out: the physical address
 * @length: as swpt_lookup()
 *
 * Context: rcu_read_lock() is held.
 * Return: 0; -ENOENT: it is not pinned.
 */
int swpt_lookup_reserved(const struct swpt *swpt,
			 const struct swpt_pages *pages,
			 const struct swpt_area *area, u64 *phys, u64 *length)
{
	struct swpt_cursor cur;

	return swpt_area_lookup_pages(area, pages, swpt->page_shift,
				      area->iova, phys, length, &cur);
}

/* The last run of an answer, and the address that would continue it. */
struct swpt_tail {
	struct swpt_phys_run *run;
	struct swpt_phys_run *limit;
	u64 end;
};

static struct swpt_tail swpt_runs_tail(const struct swpt_runs *runs)
{
	struct swpt_phys_run *run = runs->run + runs->nr - 1;

	return (struct swpt_tail){
		.run = run,
		.limit = runs->run + runs->room - 1,
		/* 1 is never page aligned, so it continues nothing. */
		.end = runs->nr ? run->phys + run->length : 1,
	};
}

/* Returns false if there is no room. */
static __always_inline bool swpt_tail_add(struct swpt_tail *tail, u64 phys,
					  u64 length)
{
	if (phys == tail->end) {
		tail->run->length += length;
	} else {
		if (tail->run == tail->limit)
			return false;
		tail->run++;
		tail->run->phys = phys;
		tail->run->length = length;
	}
	tail->end = phys + length;
	return true;
}

/*
 * Add whole pages up to end, as many as the chunk has and fit. Returns their
 * number. Translating a range spends its time in these loops.
 */
static u64 swpt_runs_add_chunk(struct swpt_runs *runs, struct swpt_cursor *cur,
			       u64 end, unsigned int shift)
{
	struct swpt_tail tail = swpt_runs_tail(runs);
	u64 first = cur->index, index = first, key;
	const struct swpt_chunk *chunk;
	unsigned int pos, nr;

	chunk = swpt_cursor_chunk(cur, &key);
	if (!chunk)
		return 0;
	pos = cur->pos;
	nr = swpt_key_nr(key);
	if (swpt_key_dense(key)) {
		if (swpt_key_first(key) + pos != index)
			return 0;
		nr = min_t(u64, nr, pos + (end - index));
		for (; pos < nr; pos++)
			if (!swpt_tail_add(&tail, chunk->words[pos] << shift,
					   BIT_ULL(shift)))
				break;
		index += pos - cur->pos;
	} else {
		if (swpt_run_start(chunk, key, pos) != index)
			return 0;
		for (; pos < nr; pos++) {
			const struct swpt_run *run = &chunk->runs[pos];
			u64 run_end = READ_ONCE(run->end);

			if (run_end > end ||
			    !swpt_tail_add(&tail,
					   swpt_word_pfn(run->word) << shift,
					   (run_end - index) << shift))
				break;
			index = run_end;
		}
	}
	runs->nr = tail.run + 1 - runs->run;
	cur->pos = pos;
	cur->index = index;
	return index - first;
}

/* swpt_area_runs(), while entries may move */
static bool swpt_try_area_runs(const struct swpt_area *area,
			       const struct swpt_store *store,
			       const struct swpt_dir *dir, unsigned int shift,
			       u64 last, struct swpt_runs *runs)
{
	u64 pos = area->start_byte + (runs->iova - area->iova);
	u64 size = BIT_ULL(shift), in_page = pos & (size - 1);
	struct swpt_cursor cur;
	struct swpt_piece piece;

	last = min(last, area->last);
	swpt_cursor_init(&cur, store, dir, pos >> shift);
	do {
		u64 more = last - runs->iova, index = cur.index, npages = 0;
		struct swpt_tail tail;
		u64 phys;

		if (!in_page && more >= size - 1)
			npages = swpt_runs_add_chunk(runs, &cur, index + 1 +
						     ((more - (size - 1)) >> shift),
						     shift);
		if (npages) {
			runs->iova += npages << shift;
			continue;
		}

		/* A part of a page or run, or the only run. */
		if (!swpt_cursor_next(&cur, &piece) || piece.first != index)
			return false;
		phys = (swpt_word_pfn(piece.word) << shift) + in_page;
		more = min((piece.npages << shift) - in_page - 1, more);
		tail = swpt_runs_tail(runs);
		if (!swpt_tail_add(&tail, phys, more + 1))
			return false;
		runs->nr = tail.run + 1 - runs->run;
		runs->iova += more + 1;
		in_page = 0;
	} while (runs->iova != last + 1);
	return true;
}

/*
 * Translate an area up to last. Returns false if there was no room for all of
 * it.
 */
static bool swpt_area_runs(const struct swpt_area *area,
			   const struct swpt_pages *pages, unsigned int shift,
			   u64 last, struct swpt_runs *runs)
{
	const struct swpt_store *store = &pages->store;
	struct swpt_phys_run *run = runs->run + runs->nr - 1;
	struct swpt_runs before;
	u64 length;

	/* A single run does not move. */
	if (!rcu_access_pointer(store->dir))
		return swpt_try_area_runs(area, store, NULL, shift, last, runs);

	before = *runs;
	length = runs->nr ? run->length : 0;
	for (;;) {
		unsigned int seq = raw_read_seqcount_begin(&store->seq);
		bool done = swpt_try_area_runs(area, store,
					       rcu_dereference(store->dir),
					       shift, last, runs);

		if (!read_seqcount_retry(&store->seq, seq))
			return done;
		*runs = before;
		/* It may have been continued. */
		if (runs->nr)
			run->length = length;
	}
}

/**
 * swpt_lookup_runs() - Translate a range.
 * @swpt: table
 * @last: last IOVA of the range
 * @runs: in: first IOVA, and an array; out: the runs, and the IOVA after them
 *
 * Stops where memory is not mapped or not pinned, or when the array is full.
 *
 * Context: as swpt_lookup().
 * Return: 0: @runs is full or complete; -ENOENT: nothing is mapped at its iova;
 * -EOPNOTSUPP: what is mapped there is not pinned.
 */
int swpt_lookup_runs(const struct swpt *swpt, u64 last, struct swpt_runs *runs)
{
	const struct swpt_pages *pages;
	const struct swpt_area *area;

	do {
		area = swpt_find_rcu(swpt, runs->iova);
		pages = area ? READ_ONCE(area->pages) : NULL;
		if (!pages)
			return -ENOENT;
		if (!READ_ONCE(area->pinned))
			return -EOPNOTSUPP;
		if (!swpt_area_runs(area, pages, swpt->page_shift, last, runs))
			return 0;
	} while (area->last < last);
	return 0;
}

/**
 * swpt_table_bytes() - Get the memory that all tables use.
 *
 * Return: bytes of directories and chunks, including those that wait for a
 * grace period. Areas and pages objects do not count.
 */
unsigned long swpt_table_bytes(void)
{
	return atomic_long_read(&swpt_bytes);
}

/**
 * swpt_module_init() - Make the workqueue that frees directories.
 *
 * Return: 0 or -ENOMEM.
 */
int swpt_module_init(void)
{
	swpt_free_wq = alloc_workqueue("noiommufd_free", WQ_UNBOUND, 0);
	return swpt_free_wq ? 0 : -ENOMEM;
}

/**
 * swpt_module_exit() - Wait until all directories are freed.
 */
void swpt_module_exit(void)
{
	/* Some may still wait for a grace period. */
	rcu_barrier();
	destroy_workqueue(swpt_free_wq);
}
