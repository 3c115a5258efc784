/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An IO address space and what it maps:
 * io_pagetable -> noiommu_area -> noiommu_pages.
 *
 * Lock order: io_pagetable::hwpt_mutex -> io_pagetable::iova_rwsem ->
 * noiommu_pages::mutex -> mmap_lock. None of them is taken under mmap_lock.
 */
#ifndef __NOIOMMUFD_IO_PAGETABLE_H
#define __NOIOMMUFD_IO_PAGETABLE_H

#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/refcount.h>
#include <linux/rwsem.h>
#include <linux/uidgid.h>
#include <linux/wait.h>

#include "swpt.h"

struct cred;
struct file;
struct mm_struct;
struct noiommufd_ctx;
struct task_struct;
struct user_struct;

/**
 * struct noiommu_account - What pinned memory is charged to.
 * @refs: pages objects that are charged to it, and address spaces that used it
 *	last
 * @mm: its pinned_vm counts the memory, which is its own unless it is a file's
 * @task: its limit applies
 * @user: its locked_vm counts the memory as well
 * @cred: holds the user
 * @rcu: a MAP may be looking at it
 */
struct noiommu_account {
	refcount_t refs;
	struct mm_struct *mm;
	struct task_struct *task;
	struct user_struct *user;
	const struct cred *cred;
	struct rcu_head rcu;
};

/**
 * struct io_pagetable - An IO address space.
 * @ictx: context it belongs to
 * @hwpt_mutex: serialises adding HWPTs and cutting areas; held while memory is
 *	pinned for an HWPT, which user space can stall, so it is only taken
 *	killably
 * @iova_rwsem: guards all members below; held for short times only, never
 *	across anything that user space can stall
 * @swpt: the areas. Reading them takes no lock: see swpt.h
 * @allowed_itree: where the kernel may place an area: struct noiommu_allowed
 * @nr_hwpts: number of HWPTs; translation is on while there is one
 * @nr_pinning: the same, with one that is being made; while it is not 0, new
 *	areas are pinned at once
 * @fill_gen: counts the attempts to add an HWPT
 * @busy_gen: counts how often an area stopped being busy
 * @busy_wait: for those who wait for that
 * @max_pfn: the highest page that may be pinned; changes only while there is no
 *	area, so that whoever pins one may read it without the lock
 * @last_account: what its last MAP is charged to, with a reference; needs no
 *	lock. So a MAP counts references where other address spaces do not.
 * @disable_large_pages: as IOMMU_OPTION_HUGE_PAGES says
 * @destroyed: its id is gone, and nothing can be mapped any more
 */
struct io_pagetable {
	struct noiommufd_ctx *ictx;
	struct mutex hwpt_mutex;	/* see the top of this file */
	struct rw_semaphore iova_rwsem;
	struct swpt swpt;
	struct rb_root_cached allowed_itree;
	unsigned int nr_hwpts;
	unsigned int nr_pinning;
	unsigned int fill_gen;
	unsigned int busy_gen;
	wait_queue_head_t busy_wait;
	u64 max_pfn;
	struct noiommu_account __rcu *last_account;
	bool disable_large_pages;
	bool destroyed;
};

/**
 * struct noiommu_area - A mapping.
 * @swpt: its IOVA, and the part of @pages that it maps; swpt.pinned: it is
 *	pinned
 * @pages: what it maps; swpt.pages is set once the area is published
 * @item: for lists of areas that come or go together
 * @fill_gen: the attempt to add an HWPT that pinned it
 * @busy: its owner has dropped iova_rwsem to pin, unpin or cut it; it stays in
 *	the tree, and nothing else changes it
 * @rcu: readers may be looking at it
 */
struct noiommu_area {
	struct swpt_area swpt;
	struct noiommu_pages *pages;
	struct list_head item;
	unsigned int fill_gen;
	bool busy;
	struct rcu_head rcu;
};

enum {
	IOPT_PAGES_ACCOUNT_NONE = 0,
	IOPT_PAGES_ACCOUNT_USER = 1,
	IOPT_PAGES_ACCOUNT_MM = 2,
};

/* Where the memory of a pages object comes from. */
enum noiommu_address_type {
	IOPT_ADDRESS_USER,
	IOPT_ADDRESS_FILE,
	IOPT_ADDRESS_MEM,
};

/**
 * struct noiommu_pages - User memory, shared by the areas that map it.
 * @swpt: what of it is pinned, and for which areas
 * @refs: areas that map it
 * @mutex: guards @swpt, pinning, and all members below that can change
 * @account: what the memory is charged to
 * @old_account: the same before a change that may still be undone, or NULL
 * @npinned: number of pages charged
 * @item: entry in the list of noiommu_gather_pages()
 * @type: in the account's mm, in a file, or DMA memory (struct noiommu_mem)
 * @file: that file; NULL if there is none, or its memory cannot be pinned: a file of another kind
 *	may hold the context, and then neither would ever be released
 * @start: first address or offset, page aligned
 * @npages: its size in pages
 * @account_mode: IOPT_PAGES_ACCOUNT_*
 * @writable: devices may write to it
 * @walk: the last walk of noiommu_get_usage() that saw it
 * @rcu: readers may be looking at it
 */
struct noiommu_pages {
	struct swpt_pages swpt;
	refcount_t refs;
	struct mutex mutex;		/* see the top of this file */
	struct noiommu_account *account;
	struct noiommu_account *old_account;
	unsigned long npinned;
	struct list_head item;
	enum noiommu_address_type type;
	struct file *file;
	unsigned long start;
	unsigned long npages;
	u8 account_mode;
	bool writable;
	u64 walk;
	struct rcu_head rcu;
};

/**
 * struct noiommu_payer - A process that memory is charged to.
 * @mode: IOPT_PAGES_ACCOUNT_*
 * @uid: its user, whose locked memory is counted if that is the mode
 * @pid: its number for the current process; 0: it has ended
 * @npages: pages charged
 */
struct noiommu_payer {
	u8 mode;
	kuid_t uid;
	pid_t pid;
	u64 npages;
};

/* There are more only if programs pass an iommufd around. */
#define IOPT_PAYERS	8

/**
 * struct noiommu_usage - What an address space takes.
 * @nr_areas: areas, those included that are being mapped
 * @length: bytes that these have
 * @npinned: pages that areas keep pinned, each counted for each of its areas
 * @nr_runs: runs of the pages objects, where they are pinned
 * @table_bytes: bytes of their tables
 * @nr_payers: entries of @payer in use
 * @payer: whom they are charged to; the last one stands for all others
 */
struct noiommu_usage {
	u64 nr_areas;
	u64 length;
	u64 npinned;
	u64 nr_runs;
	u64 table_bytes;
	unsigned int nr_payers;
	struct noiommu_payer payer[IOPT_PAYERS];
};

/* An entry of io_pagetable::allowed_itree. */
struct noiommu_allowed {
	struct rb_node node;
	u64 start;
	u64 last;
	u64 subtree_last;
};

static inline struct noiommu_area *to_noiommu_area(struct swpt_area *area)
{
	return area ? container_of(area, struct noiommu_area, swpt) : NULL;
}

static inline u64 noiommu_area_length(const struct noiommu_area *area)
{
	return area->swpt.last - area->swpt.iova + 1;
}

/* The last page that ends at max_pa or below, which is not below all pages. */
static inline u64 noiommu_max_pfn(u64 max_pa)
{
	return (max_pa - (PAGE_SIZE - 1)) >> PAGE_SHIFT;
}

struct noiommu_account *noiommu_get_account(struct noiommu_account __rcu **last);
void noiommu_put_account(struct noiommu_account *account);
void noiommu_init_pages(struct noiommu_pages *pages, unsigned long start,
			unsigned long length, bool writable, u8 account_mode,
			struct noiommu_account *account);
int noiommu_pages_charge(struct noiommu_pages *pages, unsigned long npages);
void noiommu_pages_uncharge(struct noiommu_pages *pages, unsigned long npages);
struct noiommu_pages *noiommu_alloc_user_pages(unsigned long uptr,
					       unsigned long length,
					       bool writable, u8 account_mode,
					       struct noiommu_account __rcu **last);
struct noiommu_pages *noiommu_alloc_file_pages(int fd, u64 start, u64 length,
					       bool writable, u8 account_mode,
					       struct noiommu_account __rcu **last);
void noiommu_get_pages(struct noiommu_pages *pages);
void noiommu_put_pages(struct noiommu_pages *pages);
int noiommu_area_fill(struct noiommu_area *area, u64 max_pfn);
void noiommu_area_unfill(struct noiommu_area *area);
int noiommu_areas_share(struct noiommu_area *const *areas, unsigned int nr);
int noiommu_pages_change_process(struct noiommu_pages *pages,
				 struct noiommu_account *account);
void noiommu_pages_restore_process(struct noiommu_pages *pages);
void noiommu_pages_forget_process(struct noiommu_pages *pages);
void noiommu_pages_get_payer(struct noiommu_pages *pages,
			     struct noiommu_payer *payer);

struct noiommu_pages *noiommu_mem_pages(struct file *file, u64 start, u64 last);
void noiommu_mem_free(struct noiommu_pages *pages);

enum {
	IOPT_ALLOC_IOVA = 1 << 0,
};

/*
 * Where the kernel looks for a free IOVA first: the module parameter iova_base.
 */
extern u64 noiommu_iova_base;

/* Copies the IOVA of a mapping, its first area, out before that can be found. */
typedef int (*noiommu_answer_fn)(void *arg, const struct noiommu_area *area);

void noiommu_init_table(struct io_pagetable *iopt, struct noiommufd_ctx *ictx);
void noiommu_shut_table(struct io_pagetable *iopt);
void noiommu_destroy_table(struct io_pagetable *iopt);
int noiommu_map_user_pages(struct io_pagetable *iopt, u64 *iova,
			   unsigned long uptr, u64 length, bool writable,
			   unsigned int flags, noiommu_answer_fn answer,
			   void *arg);
int noiommu_map_file_pages(struct io_pagetable *iopt, u64 *iova, int fd,
			   u64 start, u64 length, bool writable,
			   unsigned int flags, noiommu_answer_fn answer,
			   void *arg);
int noiommu_clone_areas(struct io_pagetable *iopt, u64 iova, u64 length,
			struct list_head *areas);
int noiommu_map_areas(struct io_pagetable *iopt, struct list_head *areas,
		      u64 length, u64 *iova, bool writable, unsigned int flags,
		      noiommu_answer_fn answer, void *arg);
void noiommu_free_areas(struct list_head *areas);
int noiommu_unmap_iova(struct io_pagetable *iopt, u64 iova, u64 length,
		       u64 *unmapped);
int noiommu_unmap_all(struct io_pagetable *iopt, u64 *unmapped);
int noiommu_cut_iova(struct io_pagetable *iopt, const u64 *last,
		     unsigned int nr);
extern struct mutex noiommu_change_process_lock;

int noiommu_gather_pages(struct io_pagetable *iopt, struct list_head *list);
void noiommu_put_gathered(struct list_head *list);
int noiommu_change_process(struct list_head *list);
int noiommu_get_phys(struct io_pagetable *iopt, u64 iova, u64 *phys,
		     u64 *length);
int noiommu_get_phys_rcu(struct io_pagetable *iopt, u64 iova, u64 *phys,
			 u64 *length);
int noiommu_get_phys_runs(struct io_pagetable *iopt, u64 last,
			  struct swpt_runs *runs);
int noiommu_area_get_phys(struct io_pagetable *iopt,
			  const struct noiommu_area *area, u64 *phys,
			  u64 *length);
u64 noiommu_iova_alignment(struct io_pagetable *iopt);

int noiommu_add_allowed(struct rb_root_cached *itree, u64 start, u64 last);
void noiommu_free_allowed(struct rb_root_cached *itree);
int noiommu_set_allow_iova(struct io_pagetable *iopt,
			   struct rb_root_cached *itree);
int noiommu_set_max_pfn(struct io_pagetable *iopt, u64 max_pfn);
int noiommu_set_large_pages(struct io_pagetable *iopt, bool enable);

/* The last step of adding an HWPT; if it fails, the HWPT is not added. */
typedef int (*noiommu_ready_fn)(void *arg);

int noiommu_table_add_hwpt(struct io_pagetable *iopt, noiommu_ready_fn ready,
			   void *arg);
void noiommu_table_remove_hwpt(struct io_pagetable *iopt);
void noiommu_unpin_unused(struct io_pagetable *iopt);
int noiommu_get_usage(struct io_pagetable *iopt, u64 walk,
		      struct noiommu_usage *usage);

#endif /* __NOIOMMUFD_IO_PAGETABLE_H */
