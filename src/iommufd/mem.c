// SPDX-License-Identifier: GPL-2.0-only
/*
 * DMA memory: NOIOMMUFD_MEM_ALLOC, and the file that it returns.
 *
 * The memory is a pages object to which MAP_FILE takes a reference, as COPY
 * does. An area of its own covers all of it, so that nothing is pinned or
 * charged a second time, and nothing is freed before the last reference is
 * gone: that of the file, or of an area. noiommu_pages::mutex guards making and
 * freeing it. In between only the charge changes, so mmap() and page faults
 * take no lock of ours.
 */
#define pr_fmt(fmt) "noiommufd: " fmt

#include <linux/anon_inodes.h>
#include <linux/build_bug.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/module.h>
#include <linux/nodemask.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "iommufd_private.h"

/* Pages that are freed, or put into a page table, at a time */
#define IOPT_MEM_BATCH	32

/* The largest block of the page allocator */
#define IOPT_BLOCK_ORDER	ilog2(MAX_ORDER_NR_PAGES)

/**
 * struct noiommu_mem - DMA memory.
 * @pages: what is allocated; freed with it
 * @swpt: the memory by offset in the file
 * @area: all of it
 */
struct noiommu_mem {
	struct noiommu_pages pages;
	struct swpt swpt;
	struct swpt_area area;
};

/* kfree_rcu() of @pages frees all of it. */
static_assert(offsetof(struct noiommu_mem, pages) == 0);

/**
 * struct noiommu_mem_request - What memory is looked for.
 * @align: pages that the first page of every run is aligned to, and that the
 *	length of all runs but the last is a multiple of
 * @max_pfn: the last page that it may have
 * @nid: NUMA node, or NUMA_NO_NODE
 */
struct noiommu_mem_request {
	u64 align;
	u64 max_pfn;
	int nid;
};

static struct noiommu_mem *to_mem(struct noiommu_pages *pages)
{
	return container_of(pages, struct noiommu_mem, pages);
}

static void noiommu_mem_put_pages(u64 pfn, u64 npages)
{
	for (; npages; npages--) {
		__free_page(pfn_to_page(pfn++));
		if (!(npages % IOPT_MEM_BATCH))
			cond_resched();
	}
}

/* swpt_release_fn: a page that is pinned by its address as well stays. */
static void noiommu_mem_release(void *arg, const u64 *words, unsigned int nr,
				u64 npages)
{
	while (nr--)
		noiommu_mem_put_pages(swpt_word_pfn(*words++), npages);
	cond_resched();
}

/*
 * Get a block of the page allocator, from the first zone that has one low
 * enough. @gfp: how hard to try.
 */
static struct page *noiommu_mem_block(const struct noiommu_mem_request *req,
				      unsigned int order, gfp_t gfp)
{
	static const gfp_t zones[] = { 0, GFP_DMA32, GFP_DMA };
	/* Without a zone, what comes is likely to be above 32 bits. */
	unsigned int i = req->max_pfn < BIT_ULL(32 - PAGE_SHIFT);
	struct page *page;

	gfp |= GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN;
	if (req->nid != NUMA_NO_NODE)
		gfp |= __GFP_THISNODE;
	for (; i < ARRAY_SIZE(zones); i++) {
		page = alloc_pages_node(req->nid, gfp | zones[i], order);
		if (page &&
		    page_to_pfn(page) + (1UL << order) - 1 <= req->max_pfn) {
			split_page(page, order);
			return page;
		}
		if (page)
			__free_pages(page, order);
		if (req->max_pfn == U64_MAX)
			break;
	}
	return NULL;
}

/* Get contiguous pages from a block; what is left of it goes back. */
static struct page *noiommu_mem_part(const struct noiommu_mem_request *req,
				     u64 npages)
{
	unsigned int order = order_base_2(max(npages, req->align));
	struct page *page = NULL;

	if (order <= IOPT_BLOCK_ORDER)
		page = noiommu_mem_block(req, order, __GFP_RETRY_MAYFAIL);
	if (page)
		noiommu_mem_put_pages(page_to_pfn(page) + npages,
				      (1ULL << order) - npages);
	return page;
}

/*
 * Get contiguous pages by moving others. No memory cgroup is charged for them,
 * so that is for what no block can be, and for what has to be below an address.
 */
static struct page *noiommu_mem_move(const struct noiommu_mem_request *req,
				     u64 npages)
{
	if (req->max_pfn == U64_MAX &&
	    order_base_2(max(npages, req->align)) <= IOPT_BLOCK_ORDER)
		return NULL;
	return noiommufd_alloc_contig(npages, req->align, req->max_pfn,
				      req->nid);
}

static int noiommu_mem_add(struct swpt_builder *builder, struct page *page,
			   u64 npages)
{
	u64 word = swpt_word(page_to_pfn(page), 0);

	if (swpt_builder_add(builder, word, npages)) {
		noiommu_mem_put_pages(swpt_word_pfn(word), npages);
		return -ENOMEM;
	}
	return 0;
}

/*
 * Get up to @npages contiguous pages, as many as can be had. @order: in: order
 * of the largest block to try; out: of the next one. @n: out: their number.
 */
static struct page *noiommu_mem_longest(const struct noiommu_mem_request *req,
					u64 npages, unsigned int *order, u64 *n)
{
	unsigned int least = ilog2(req->align);
	struct page *page;

	/* Take no trouble as long as a shorter run will do. */
	for (; *order > least; (*order)--) {
		*n = 1ULL << *order;
		if (*n > npages)
			continue;
		page = noiommu_mem_block(req, *order, __GFP_NORETRY);
		if (page)
			return page;
	}
	*n = min(npages, req->align);
	page = noiommu_mem_part(req, *n);
	if (page)
		return page;
	/* It takes long: have them make room for more. */
	*n = min(npages, max_t(u64, req->align, MAX_ORDER_NR_PAGES));
	return noiommu_mem_move(req, *n);
}

static int noiommu_mem_runs(const struct noiommu_mem_request *req,
			    struct swpt_builder *builder, u64 npages)
{
	unsigned int order = IOPT_BLOCK_ORDER;
	u64 n;
	int rc;

	for (; npages; npages -= n) {
		struct page *page;

		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
		page = noiommu_mem_longest(req, npages, &order, &n);
		rc = page ? noiommu_mem_add(builder, page, n) : -ENOMEM;
		if (rc)
			return rc;
	}
	return 0;
}

static void noiommu_mem_not_found(const struct noiommu_mem_request *req,
				  u64 npages, u32 flags)
{
	const char *what = flags & NOIOMMUFD_MEM_CONTIGUOUS ? " contiguous" :
							      "";
	u64 kib = npages << (PAGE_SHIFT - 10);

	if (req->max_pfn != U64_MAX)
		pr_notice_ratelimited("%s[%d]: found no %llu KiB of%s memory below %#llx: allocate it soon after boot, or in smaller parts\n",
				      current->comm, task_pid_nr(current), kib,
				      what, (req->max_pfn + 1) << PAGE_SHIFT);
	else if (*what)
		pr_notice_ratelimited("%s[%d]: found no %llu KiB of%s memory: allocate it soon after boot or in smaller parts, or map huge pages that are reserved at boot (hugepagesz=1G hugepages=1)\n",
				      current->comm, task_pid_nr(current), kib,
				      what);
}

static int noiommu_mem_fill(struct noiommu_mem *mem,
			    const struct noiommu_mem_request *req, u32 flags)
{
	struct noiommu_pages *pages = &mem->pages;
	struct swpt_builder builder;
	struct page *page;
	int rc;

	lockdep_assert_held(&pages->mutex);

	rc = noiommu_pages_charge(pages, pages->npages);
	if (rc)
		return rc;
	swpt_builder_init(&builder);
	if (flags & NOIOMMUFD_MEM_CONTIGUOUS) {
		page = noiommu_mem_part(req, pages->npages) ?:
		       noiommu_mem_move(req, pages->npages);
		rc = page ? noiommu_mem_add(&builder, page, pages->npages) :
			    -ENOMEM;
	} else {
		rc = noiommu_mem_runs(req, &builder, pages->npages);
	}
	if (!rc)
		rc = swpt_builder_commit(&builder, &pages->swpt);
	if (rc) {
		if (rc == -ENOMEM && fatal_signal_pending(current))
			rc = -EINTR;
		swpt_builder_abort(&builder, noiommu_mem_release, NULL);
		noiommu_pages_uncharge(pages, pages->npages);
		if (rc == -ENOMEM)
			noiommu_mem_not_found(req, pages->npages, flags);
		return rc;
	}
	mem->area.last = ((u64)pages->npages << PAGE_SHIFT) - 1;
	mem->area.last_index = pages->npages - 1;
	mem->area.pages = &pages->swpt;
	mem->area.pinned = true;
	swpt_pages_add_area(&pages->swpt, &mem->area);
	swpt_insert(&mem->swpt, &mem->area);
	return 0;
}

/**
 * noiommu_mem_free() - Free DMA memory.
 * @pages: pages object of IOPT_ADDRESS_MEM without references
 *
 * The caller frees the object.
 */
void noiommu_mem_free(struct noiommu_pages *pages)
{
	struct noiommu_mem *mem = to_mem(pages);

	if (!mem->area.pinned)
		return;
	mutex_lock(&pages->mutex);
	swpt_pages_remove_area(&pages->swpt, &mem->area, noiommu_mem_release,
			       NULL);
	noiommu_pages_uncharge(pages, pages->npages);
	mutex_unlock(&pages->mutex);
}

static struct noiommu_mem *
noiommu_mem_create(struct noiommufd_ctx *ictx,
		   const struct noiommu_mem_request *req, u64 length, u32 flags)
{
	struct noiommu_account *account;
	struct noiommu_mem *mem;
	int rc;

	mem = kzalloc(sizeof(*mem), GFP_KERNEL_ACCOUNT);
	if (!mem)
		return ERR_PTR(-ENOMEM);
	account = noiommu_get_account(NULL);
	if (!account) {
		kfree(mem);
		return ERR_PTR(-ENOMEM);
	}
	noiommu_init_pages(&mem->pages, 0, length, true, ictx->account_mode,
			   account);
	mem->pages.type = IOPT_ADDRESS_MEM;
	swpt_init(&mem->swpt, PAGE_SHIFT);

	mutex_lock(&mem->pages.mutex);
	rc = noiommu_mem_fill(mem, req, flags);
	mutex_unlock(&mem->pages.mutex);
	if (rc) {
		noiommu_put_pages(&mem->pages);
		return ERR_PTR(rc);
	}
	return mem;
}

/* Find the page at an offset, and how many follow it. */
static struct page *noiommu_mem_page(struct noiommu_mem *mem, u64 index,
				     unsigned long *npages)
{
	u64 phys, length = (u64)*npages << PAGE_SHIFT;
	int rc;

	rcu_read_lock();
	rc = swpt_lookup(&mem->swpt, index << PAGE_SHIFT, &phys, &length);
	rcu_read_unlock();
	if (rc)
		return NULL;
	*npages = length >> PAGE_SHIFT;
	return pfn_to_page(phys >> PAGE_SHIFT);
}

/* mremap() may have made the mapping longer than the memory. */
static vm_fault_t noiommu_mem_fault(struct vm_fault *vmf)
{
	struct noiommu_mem *mem = vmf->vma->vm_file->private_data;
	unsigned long one = 1;
	struct page *page = noiommu_mem_page(mem, vmf->pgoff, &one);

	if (!page)
		return VM_FAULT_SIGBUS;
	get_page(page);
	vmf->page = page;
	return 0;
}

/* For what madvise() has thrown away; all is there after mmap(). */
static const struct vm_operations_struct noiommu_mem_vm_ops = {
	.fault = noiommu_mem_fault,
};

static int noiommu_mem_insert(struct noiommu_mem *mem,
			      struct vm_area_struct *vma)
{
	unsigned long addr = vma->vm_start, index = vma->vm_pgoff;
	struct page *batch[IOPT_MEM_BATCH], *page;
	unsigned long i, n, left;
	int rc;

	for (; addr < vma->vm_end; addr += n << PAGE_SHIFT, index += n) {
		if (fatal_signal_pending(current))
			return -EINTR;
		n = min_t(unsigned long, ARRAY_SIZE(batch),
			  (vma->vm_end - addr) >> PAGE_SHIFT);
		page = noiommu_mem_page(mem, index, &n);
		for (i = 0; i < n; i++)
			batch[i] = pfn_to_page(page_to_pfn(page) + i);
		left = n;
		rc = vm_insert_pages(vma, addr, batch, &left);
		if (rc)
			return rc;
		cond_resched();
	}
	return 0;
}

static int noiommu_mem_fops_mmap(struct file *filp, struct vm_area_struct *vma)
{
	struct noiommu_mem *mem = filp->private_data;
	unsigned long npages = mem->pages.npages;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	if (vma->vm_pgoff >= npages || vma_pages(vma) > npages - vma->vm_pgoff)
		return -EINVAL;
	vm_flags_clear(vma, VM_MAYEXEC);
	vma->vm_ops = &noiommu_mem_vm_ops;
	return noiommu_mem_insert(mem, vma);
}

static int noiommu_mem_fops_release(struct inode *inode, struct file *filp)
{
	struct noiommu_mem *mem = filp->private_data;

	noiommu_put_pages(&mem->pages);
	return 0;
}

static const struct file_operations noiommu_mem_fops = {
	.owner = THIS_MODULE,
	.mmap = noiommu_mem_fops_mmap,
	.release = noiommu_mem_fops_release,
};

/**
 * noiommu_mem_pages() - Get the pages object of a file of DMA memory.
 * @file: any file
 * @start: first byte
 * @last: last byte
 *
 * Return: the object with a reference; NULL: another kind of file; -EINVAL: the
 * memory ends before @last.
 */
struct noiommu_pages *noiommu_mem_pages(struct file *file, u64 start, u64 last)
{
	struct noiommu_mem *mem;

	if (file->f_op != &noiommu_mem_fops)
		return NULL;
	mem = file->private_data;
	if (last > mem->area.last)
		return ERR_PTR(-EINVAL);
	noiommu_get_pages(&mem->pages);
	return &mem->pages;
}

static int noiommu_mem_check(const struct noiommufd_mem_alloc *cmd,
			     struct noiommu_mem_request *req)
{
	const u32 flags = NOIOMMUFD_MEM_CONTIGUOUS | NOIOMMUFD_MEM_HUGE |
			  NOIOMMUFD_MEM_NODE;
	bool node = cmd->flags & NOIOMMUFD_MEM_NODE;
	u64 unit = cmd->flags & NOIOMMUFD_MEM_HUGE ? PMD_SIZE : PAGE_SIZE;

	if (cmd->flags & ~flags)
		return -EOPNOTSUPP;
	if (!cmd->length || cmd->length & (unit - 1) ||
	    cmd->alignment & (cmd->alignment - 1) ||
	    (cmd->max_pa && cmd->max_pa < cmd->length - 1))
		return -EINVAL;
	if (!node && cmd->node)
		return -EINVAL;
	if (node && (cmd->node >= MAX_NUMNODES ||
		     !node_state(cmd->node, N_MEMORY)))
		return -EINVAL;

	req->align = max(cmd->alignment, unit) >> PAGE_SHIFT;
	req->max_pfn = cmd->max_pa ? noiommu_max_pfn(cmd->max_pa) : U64_MAX;
	req->nid = node ? cmd->node : NUMA_NO_NODE;
	/* Do not look for what cannot be there. */
	return cmd->length >> PAGE_SHIFT > totalram_pages() ? -ENOMEM : 0;
}

int noiommufd_mem_alloc(struct noiommufd_ucmd *ucmd)
{
	struct noiommufd_mem_alloc *cmd = ucmd->cmd;
	struct noiommu_mem_request req;
	struct noiommu_mem *mem;
	struct file *filp;
	int fd, rc;

	rc = noiommu_mem_check(cmd, &req);
	if (rc)
		return rc;
	mem = noiommu_mem_create(ucmd->ictx, &req, cmd->length, cmd->flags);
	if (IS_ERR(mem))
		return PTR_ERR(mem);

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		rc = fd;
		goto err_put;
	}
	cmd->out_fd = fd;
	rc = noiommufd_ucmd_respond(ucmd, sizeof(*cmd));
	if (rc)
		goto err_put_fd;
	filp = anon_inode_getfile("[noiommufd-mem]", &noiommu_mem_fops, mem,
				  O_RDWR);
	if (IS_ERR(filp)) {
		rc = PTR_ERR(filp);
		goto err_put_fd;
	}
	fd_install(fd, filp);
	return 0;

err_put_fd:
	put_unused_fd(fd);
err_put:
	noiommu_put_pages(&mem->pages);
	return rc;
}

/**
 * noiommu_mem_info() - Report what memory can be allocated.
 * @info: answer
 */
void noiommu_mem_info(struct noiommufd_get_info *info)
{
	info->extensions |= NOIOMMUFD_EXT_MEM_ALLOC;
	if (noiommufd_can_alloc_contig())
		info->extensions |= NOIOMMUFD_EXT_MEM_CONTIGUOUS;
	info->mem_page = PAGE_SIZE;
	info->mem_huge = PMD_SIZE;
	info->mem_block = (u64)PAGE_SIZE << IOPT_BLOCK_ORDER;
}
