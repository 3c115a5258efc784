/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The software page table behind a noiommu HWPT: areas by IOVA, and for each
 * pages object the PFNs of its pinned memory as runs. A pure data structure: it
 * pins nothing, takes no lock and knows no device.
 *
 * Writers are serialised by the caller: those of a struct swpt by the IOAS
 * (io_pagetable::iova_rwsem), those of a struct swpt_pages by its owner
 * (noiommu_pages::mutex). Readers need only rcu_read_lock(); what they read is
 * valid if swpt_read_retry() returns false afterwards.
 */
#ifndef __NOIOMMUFD_SWPT_H
#define __NOIOMMUFD_SWPT_H

#include <linux/bits.h>
#include <linux/rbtree.h>
#include <linux/rcupdate.h>
#include <linux/seqlock.h>
#include <linux/types.h>

struct mutex;
struct swpt_dir;

/*
 * A word: a PFN, and above it the order of the blocks that have one pin each
 * (order 0: one pin per page). Blocks are naturally aligned.
 */
#define SWPT_PFN_BITS	52
#define SWPT_PFN_MASK	GENMASK_ULL(SWPT_PFN_BITS - 1, 0)

static inline u64 swpt_word(u64 pfn, unsigned int order)
{
	return pfn | (u64)order << SWPT_PFN_BITS;
}

static inline u64 swpt_word_pfn(u64 word)
{
	return word & SWPT_PFN_MASK;
}

static inline unsigned int swpt_word_order(u64 word)
{
	return word >> SWPT_PFN_BITS;
}

/**
 * struct swpt_run - Physically contiguous pages.
 * @word: word of the first page
 * @end: index after the last page
 */
struct swpt_run {
	u64 word;
	u64 end;
};

/**
 * struct swpt_store - Runs by page index.
 * @dir: directory of the chunks that hold the runs; NULL: @one is all there is
 * @first: index of the first page of @one
 * @one: the only run; empty when its end is @first
 * @seq: changes when entries move
 * @blocks: some runs may be of blocks
 * @lock: the lock that serialises writers, for lockdep; never taken here. NULL:
 *	there is only one writer
 */
struct swpt_store {
	struct swpt_dir __rcu *dir;
	u64 first;
	struct swpt_run one;
	seqcount_t seq;
	bool blocks;
	struct mutex *lock;	/* see above */
};

/**
 * struct swpt_pages - The PFNs of a pages object, where they are pinned.
 * @store: the runs; some may be of pages that are pinned no longer: see @areas
 * @areas: the areas that are pinned. A page is pinned where one of them covers
 *	it, or another page of its block.
 */
struct swpt_pages {
	struct swpt_store store;
	struct rb_root_cached areas;
};

/**
 * struct swpt_area - A range of IOVA and the pages behind it.
 * @node: in swpt::areas
 * @iova: first IOVA
 * @last: last IOVA
 * @pages: what is mapped; NULL while the range is only reserved
 * @start_byte: offset of @iova in @pages, in bytes
 * @gap: free bytes between the area before it, or IOVA 0, and @iova
 * @subtree_gap: the most of these in its subtree
 * @cover_node: in swpt_pages::areas
 * @cover_subtree_last: for the interval tree
 * @first_index: first page of @pages
 * @last_index: last page of @pages
 * @pinned: the range is pinned and can be looked up
 */
struct swpt_area {
	struct rb_node node;
	u64 iova;
	u64 last;
	struct swpt_pages *pages;
	u64 start_byte;
	u64 gap;
	u64 subtree_gap;

	struct rb_node cover_node;
	u64 cover_subtree_last;
	u64 first_index;
	u64 last_index;
	bool pinned;
};

/**
 * struct swpt_place - Where an area goes into the tree, until that changes.
 * @parent: its parent
 * @link: the parent's link to it
 * @next: the area after it
 * @start: the end of the area before it, or IOVA 0
 */
struct swpt_place {
	struct rb_node *parent;
	struct rb_node **link;
	struct swpt_area *next;
	u64 start;
};

/**
 * struct swpt - The areas of an IO address space.
 * @areas: areas by IOVA; they do not overlap
 * @seq: changes with everything that a reader may see
 * @page_shift: log2 of the page size
 */
struct swpt {
	struct rb_root areas;
	seqcount_t seq;
	unsigned int page_shift;
};

/**
 * struct swpt_piece - A run, or what is left of it, as a cursor hands it out.
 * @first: index of its first page
 * @npages: number of pages
 * @word: word of the first page
 */
struct swpt_piece {
	u64 first;
	u64 npages;
	u64 word;
};

/**
 * struct swpt_builder - Collects the runs of pages that are being pinned.
 * @dir: complete chunks
 * @runs: runs not yet in a chunk: &@one, or an allocated array
 * @nr_runs: number of these
 * @room: size of that array
 * @first: index of the first page of @runs
 * @next: index where the next run starts
 * @longest: pages of the longest run in @runs
 * @expect: word that would continue the last run
 * @one: room for a single run
 * @blocks: some runs are of blocks
 * @gaps: there are holes between the runs
 * @merging: they were pinned at different times: keep runs of blocks apart even
 *	where they continue each other, and do not fill chunks
 */
struct swpt_builder {
	struct swpt_dir *dir;
	struct swpt_run *runs;
	unsigned int nr_runs;
	unsigned int room;
	u64 first;
	u64 next;
	u64 longest;
	u64 expect;
	struct swpt_run one;
	bool blocks;
	bool gaps;
	bool merging;
};

/**
 * struct swpt_phys_run - Physically contiguous bytes.
 * @phys: physical address
 * @length: bytes
 */
struct swpt_phys_run {
	u64 phys;
	u64 length;
};

/**
 * struct swpt_runs - The answer for a range of IOVA, or for the start of it.
 * @run: array of runs
 * @nr: entries in use
 * @room: size of the array
 * @iova: first IOVA that is not in the answer
 */
struct swpt_runs {
	struct swpt_phys_run *run;
	unsigned int nr;
	unsigned int room;
	u64 iova;
};

/*
 * Called for pages that no area covers any more: @npages at each of @nr words.
 */
typedef void (*swpt_release_fn)(void *arg, const u64 *words, unsigned int nr,
				u64 npages);

int swpt_module_init(void);
void swpt_module_exit(void);
unsigned long swpt_table_bytes(void);

void swpt_init(struct swpt *swpt, unsigned int page_shift);
int swpt_find_place(struct swpt *swpt, u64 iova, u64 last,
		    struct swpt_place *place);
void swpt_insert_at(struct swpt *swpt, struct swpt_area *area,
		    const struct swpt_place *place);
int swpt_insert(struct swpt *swpt, struct swpt_area *area);
void swpt_remove(struct swpt *swpt, struct swpt_area *area);
void swpt_split(struct swpt *swpt, struct swpt_area *area,
		struct swpt_area *low, struct swpt_area *high);
struct swpt_area *swpt_first(const struct swpt *swpt, u64 iova, u64 last);
struct swpt_area *swpt_next(const struct swpt_area *area);
bool swpt_next_gap(struct swpt *swpt, u64 *first, u64 *last, u64 length,
		   struct swpt_place *place);
int swpt_lookup(const struct swpt *swpt, u64 iova, u64 *phys, u64 *length);
int swpt_lookup_reserved(const struct swpt *swpt,
			 const struct swpt_pages *pages,
			 const struct swpt_area *area, u64 *phys, u64 *length);
int swpt_lookup_runs(const struct swpt *swpt, u64 last, struct swpt_runs *runs);

/* Around any change to a struct swpt or to an area in it. */
static inline void swpt_write_begin(struct swpt *swpt)
{
	raw_write_seqcount_begin(&swpt->seq);
}

static inline void swpt_write_end(struct swpt *swpt)
{
	raw_write_seqcount_end(&swpt->seq);
}

/* An odd result means that a writer is at work. */
static inline unsigned int swpt_read_begin(struct swpt *swpt)
{
	return raw_read_seqcount(&swpt->seq);
}

static inline bool swpt_read_retry(struct swpt *swpt, unsigned int seq)
{
	return read_seqcount_retry(&swpt->seq, seq);
}

void swpt_pages_init(struct swpt_pages *pages, struct mutex *lock);
bool swpt_pages_next_hole(const struct swpt_pages *pages, u64 *first, u64 last,
			  u64 *hole_last);
u64 swpt_pages_nr_uncovered(const struct swpt_pages *pages, u64 first,
			    u64 last);
bool swpt_pages_count(const struct swpt_pages *pages, u64 *index, u64 *nr_runs,
		      u64 *bytes);
void swpt_pages_add_area(struct swpt_pages *pages, struct swpt_area *area);
bool swpt_area_exceeds(const struct swpt_pages *pages,
		       const struct swpt_area *area, u64 max_pfn);
void swpt_pages_remove_area(struct swpt_pages *pages, struct swpt_area *area,
			    swpt_release_fn release, void *arg);

void swpt_builder_init(struct swpt_builder *builder);
void swpt_builder_seek(struct swpt_builder *builder, u64 index);
int swpt_builder_add(struct swpt_builder *builder, u64 word, u64 npages);
int swpt_builder_commit(struct swpt_builder *builder, struct swpt_pages *pages);
void swpt_builder_abort(struct swpt_builder *builder, swpt_release_fn release,
			void *arg);

#endif /* __NOIOMMUFD_SWPT_H */
