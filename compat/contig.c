// SPDX-License-Identifier: GPL-2.0-only
/*
 * Contiguous memory of more than a block of the page allocator, or below an
 * address that no zone ends at. alloc_contig_pages() searches for it, but only
 * Linux 7.0 exports that, and it knows no highest address. So the search is
 * ours, and alloc_contig_range() moves what is in the way. Without
 * CONFIG_CONTIG_ALLOC there is no such memory. No lock is held on entry.
 */
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/nodemask.h>
#include <linux/sched/signal.h>

#ifndef HAVE_ALLOC_CONTIG_RANGE

bool noiommufd_can_alloc_contig(void)
{
	return false;
}

struct page *noiommufd_alloc_contig(u64 npages, u64 align, u64 max_pfn, int nid)
{
	return NULL;
}

#else

#ifdef HAVE_CONTIG_ACR_FLAGS
#define CONTIG_HOW	ACR_FLAGS_NONE
#else
#define CONTIG_HOW	MIGRATE_MOVABLE
#endif

bool noiommufd_can_alloc_contig(void)
{
	return true;
}

/*
 * Find the first page of a range that cannot be moved or is no memory of the
 * node and zone, or is to stay movable. Only a guess: the kernel checks again.
 */
static bool find_obstacle(u64 start, u64 end, int nid, u64 *obstacle)
{
	struct zone *zone = NULL;
	u64 pfn;

	for (pfn = start; pfn < end; pfn++) {
		struct page *page = pfn_to_online_page(pfn);

		if (!page || PageReserved(page) || PageHuge(page) ||
		    page_to_nid(page) != nid ||
		    page_zonenum(page) == ZONE_MOVABLE ||
		    (zone && page_zone(page) != zone)) {
			*obstacle = pfn;
			return true;
		}
		zone = page_zone(page);
		if (!(pfn % MAX_ORDER_NR_PAGES))
			cond_resched();
	}
	return false;
}

/* Search a node from its end on, which leaves low memory to others. */
static struct page *alloc_on_node(u64 npages, u64 align, u64 max_pfn, int nid)
{
	u64 first = node_start_pfn(nid), end = node_end_pfn(nid), i;
	u64 step = max_t(u64, align, pageblock_nr_pages);

	if (max_pfn < end)
		end = max_pfn + 1;
	while (end >= first + npages && !fatal_signal_pending(current)) {
		u64 start = (end - npages) & ~(align - 1);
		struct page *page;

		cond_resched();
		if (start < first)
			break;
		if (find_obstacle(start, start + npages, nid, &end))
			continue;
		if (!alloc_contig_range(start, start + npages, CONTIG_HOW,
					GFP_KERNEL | __GFP_NOWARN)) {
			page = pfn_to_page(start);
			for (i = 0; i < npages; i++) {
				clear_highpage(pfn_to_page(start + i));
				if (!(i % MAX_ORDER_NR_PAGES))
					cond_resched();
			}
			return page;
		}
		if (start < step)
			break;
		end = start + npages - step;
	}
	return NULL;
}

/**
 * noiommufd_alloc_contig() - Allocate contiguous memory by moving other memory.
 * @npages: pages
 * @align: pages that the first one is aligned to, a power of two
 * @max_pfn: the last page that it may have
 * @nid: NUMA node, or NUMA_NO_NODE
 *
 * Takes long, up to seconds where memory is scarce; a fatal signal ends it.
 *
 * Return: the first page. All are zeroed, have one reference each, and are not
 * charged to a memory cgroup. NULL: there are none.
 */
struct page *noiommufd_alloc_contig(u64 npages, u64 align, u64 max_pfn, int nid)
{
	struct page *page = NULL;

	if (nid != NUMA_NO_NODE)
		return alloc_on_node(npages, align, max_pfn, nid);
	for_each_node_state(nid, N_MEMORY) {
		page = alloc_on_node(npages, align, max_pfn, nid);
		if (page)
			break;
	}
	return page;
}

#endif
