// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Memory: map it, find it, look up where it is.
 *
 * What is mapped is translated once, into a table. An entry of it covers as much
 * as is contiguous everywhere in the mapping: all of it, if it is one run; 2 MiB,
 * if it is of huge pages; a page, if its pages are scattered.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/mempolicy.h>
#include <noiommufd/iommufd.h>
#include <noiommufd/noiommufd.h>

#include "internal.h"

#define GIB		0x40000000UL
/* The table of a single run has one entry. */
#define ONE_RUN		63
/* Where memory is mapped before its addresses are known, plus its address */
#define FIRST_IOVA	0x8000000000000000ULL

/* How often, and with how much set aside, memory of a kind is looked for */
#define TRIES		8
#define SET_ASIDE	(64ULL << 20)

/* Lookups: nothing here makes a system call. */

__u64 noiommufd_pa(const struct noiommufd_dma *dma, const void *va)
{
	__u64 offset;

	if (!dma)
		return NOIOMMUFD_NO_PA;
	offset = (uintptr_t)va - (uintptr_t)dma->va;
	return offset < dma->size ? noiommufd__lookup(dma, offset) : NOIOMMUFD_NO_PA;
}

/* The run that begins at @offset, and ends at @end at the latest */
static inline struct noiommufd_run run_at(const struct noiommufd_dma *dma, __u64 offset,
					  __u64 end)
{
	const __u64 *entry = &dma->table[offset >> dma->shift];
	struct noiommufd_run run = { .phys = noiommufd__lookup(dma, offset) };
	__u64 unit = 1ULL << dma->shift, next = (offset & -unit) + unit;

	while (next < end && *++entry == run.phys + (next - offset))
		next += unit;
	run.length = (next < end ? next : end) - offset;
	return run;
}

/* Is [va, va + length) inside? Then stores where it begins. */
static bool inside(const struct noiommufd_dma *dma, const void *va, size_t length,
		   __u64 *offset)
{
	if (!dma || !length)
		return false;
	*offset = (uintptr_t)va - (uintptr_t)dma->va;
	return *offset < dma->size && length <= dma->size - *offset;
}

long noiommufd_runs(const struct noiommufd_dma *dma, const void *va,
		    size_t length, struct noiommufd_run *runs, size_t num)
{
	__u64 offset, end, unit, next, pa;
	const __u64 *entry;
	size_t nr;

	if (!inside(dma, va, length, &offset) || (num && !runs))
		return invalid();
	end = offset + length;
	unit = 1ULL << dma->shift;
	entry = &dma->table[offset >> dma->shift];
	pa = noiommufd__lookup(dma, offset);
	next = (offset & -unit) + unit;
	/* Like run_at(), but each entry is looked at once. */
	for (nr = 0; offset < end; nr++) {
		while (next < end && entry[1] == pa + (next - offset)) {
			entry++;
			next += unit;
		}
		if (nr < num) {
			runs[nr].phys = pa;
			runs[nr].length = (next < end ? next : end) - offset;
		}
		offset = next;
		next += unit;
		if (offset < end)
			pa = *++entry;
	}
	return nr;
}

long noiommufd_pages(const struct noiommufd_dma *dma, const void *va,
		     size_t length, size_t page_size, __u64 *pa, size_t num)
{
	__u64 offset, end;
	size_t nr = 0;

	if (!inside(dma, va, length, &offset) || (num && !pa) || !page_size ||
	    page_size & (page_size - 1) || page_size > (size_t)sysconf(_SC_PAGESIZE))
		return invalid();
	for (end = offset + length; offset < end; nr++) {
		if (nr < num)
			pa[nr] = noiommufd__lookup(dma, offset);
		offset = (offset & -page_size) + page_size;
	}
	return nr;
}

void *noiommufd_va(const struct noiommufd_dma *dma)
{
	return dma ? dma->va : null(invalid());
}

size_t noiommufd_size(const struct noiommufd_dma *dma)
{
	if (!dma) {
		invalid();
		return 0;
	}
	return dma->size;
}

__u64 noiommufd_iova(const struct noiommufd_dma *dma)
{
	if (!dma) {
		invalid();
		return NOIOMMUFD_NO_PA;
	}
	return dma->iova;
}

/* Mappings */

struct list {
	struct noiommufd_run *runs;
	size_t nr;
	size_t room;
	struct noiommufd_run few[512];		/* before there are more */
};

static int make_room(struct list *list)
{
	struct noiommufd_run *more;

	more = realloc(list->runs == list->few ? NULL : list->runs,
		       8 * list->room * sizeof(*more));
	if (!more)
		return -ENOMEM;
	if (list->runs == list->few)
		memcpy(more, list->few, sizeof(list->few));
	list->runs = more;
	list->room *= 8;
	return 0;
}

/* Add the @nr runs that follow. The first may go on with the one before. */
static void add_runs(struct list *list, size_t nr)
{
	struct noiommufd_run *new = &list->runs[list->nr], *last = new - 1;

	if (list->nr && nr && last->phys + last->length == new->phys) {
		last->length += new->length;
		memmove(new, new + 1, --nr * sizeof(*new));
	}
	list->nr += nr;
}

/* The first run takes an ioctl that is faster, and mostly it is all. */
static int find_runs(struct noiommufd_ioas *ioas, __u64 iova, __u64 size,
		     struct list *list)
{
	__u64 done = size, length;
	int rc;

	list->runs = list->few;
	list->room = ARRAY_SIZE(list->few);
	rc = noiommufd__first_run(ioas, iova, &done, list->runs);
	list->nr = 1;
	while (rc >= 0 && done < size) {
		if (list->nr == list->room && make_room(list))
			return -ENOMEM;
		length = size - done;
		rc = noiommufd__runs(ioas, iova + done, &length, list->runs + list->nr,
				     list->room - list->nr);
		if (rc > 0)
			add_runs(list, rc);
		done += length;
	}
	return rc < 0 ? rc : 0;
}

static void unmap_iova(struct noiommufd_ioas *ioas, __u64 iova, __u64 length)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = ioas->id,
		.iova = iova,
		.length = length,
	};

	ioctl(ioas->context->fd, IOMMU_IOAS_UNMAP, &unmap);
}

static int copy_to_pa(struct noiommufd_ioas *ioas, __u32 flags, __u64 iova,
		      const struct noiommufd_run *run)
{
	struct iommu_ioas_copy copy = {
		.size = sizeof(copy),
		.flags = flags | IOMMU_IOAS_MAP_FIXED_IOVA,
		.dst_ioas_id = ioas->id,
		.src_ioas_id = ioas->id,
		.length = run->length,
		.dst_iova = run->phys,
		.src_iova = iova,
	};

	return ioctl(ioas->context->fd, IOMMU_IOAS_COPY, &copy) ? -errno : 0;
}

/*
 * Map what is mapped at @iova at its physical addresses instead. It stays pinned
 * meanwhile, so that it does not move.
 */
static int move_to_pa(struct noiommufd_ioas *ioas, __u32 flags, __u64 *iova,
		      __u64 size, const struct list *list)
{
	__u64 at = *iova;
	size_t i;
	int rc;

	for (i = 0; i < list->nr; i++) {
		rc = copy_to_pa(ioas, flags, at, &list->runs[i]);
		if (rc) {
			while (i--)
				unmap_iova(ioas, list->runs[i].phys,
					   list->runs[i].length);
			return rc;
		}
		at += list->runs[i].length;
	}
	unmap_iova(ioas, *iova, size);
	*iova = list->runs[0].phys;
	return 0;
}

static struct noiommufd_dma *new_table(__u64 size, const struct list *list)
{
	struct noiommufd_dma *dma;
	unsigned int shift = ONE_RUN;
	__u64 starts = 0, at = 0, i, *entry;
	size_t run, entries = 1;

	/* Where runs begin; an entry has to begin at each of these places. */
	if (list->nr > 1) {
		for (run = 0; run < list->nr; run++) {
			starts |= at;
			at += list->runs[run].length;
		}
		shift = __builtin_ctzll(starts);
		entries = ((size - 1) >> shift) + 1;
	}
	dma = malloc(sizeof(*dma) + entries * sizeof(dma->table[0]));
	if (!dma)
		return NULL;
	dma->shift = shift;
	dma->table[0] = list->runs[0].phys;
	entry = dma->table;
	for (run = 0; entries > 1 && run < list->nr; run++)
		for (i = 0; i < list->runs[run].length; i += 1ULL << shift)
			*entry++ = list->runs[run].phys + i;
	return dma;
}

/* Where memory is: at @va, and from the start of the file @fd on, unless -1 */
struct place {
	void *va;
	int fd;
};

static int map_place(struct noiommufd_ioas *ioas, const struct place *place,
		     struct iommu_ioas_map *map)
{
	struct iommu_ioas_map_file file = {
		.size = sizeof(file),
		.flags = map->flags,
		.ioas_id = map->ioas_id,
		.fd = place->fd,
		.length = map->length,
		.iova = map->iova,
	};

	if (place->fd < 0)
		return ioctl(ioas->context->fd, IOMMU_IOAS_MAP, map) ? -errno : 0;
	if (ioctl(ioas->context->fd, IOMMU_IOAS_MAP_FILE, &file))
		return -errno;
	map->iova = file.iova;
	return 0;
}

/* Anywhere if that memory is mapped already, and its IOVA taken */
static int map_at(struct noiommufd_ioas *ioas, const struct place *place,
		  struct iommu_ioas_map *map)
{
	int rc;

	map->flags |= IOMMU_IOAS_MAP_FIXED_IOVA;
	map->iova = FIRST_IOVA + map->user_va;
	rc = map_place(ioas, place, map);
	if (rc != -EEXIST)
		return rc;
	map->flags &= ~IOMMU_IOAS_MAP_FIXED_IOVA;
	return map_place(ioas, place, map);
}

/*
 * Find out where what is mapped at @iova is, and have the IOAS know of it: 0 or a
 * negative errno. The caller frees the list.
 */
static int translate(struct noiommufd_ioas *ioas, void *va, size_t size, __u64 iova,
		     struct list *list, struct noiommufd_dma **result)
{
	struct noiommufd_dma *dma;
	int rc;

	rc = find_runs(ioas, iova, size, list);
	if (rc)
		return rc;
	dma = new_table(size, list);
	if (!dma)
		return -ENOMEM;
	dma->ioas = ioas;
	dma->va = va;
	dma->size = size;
	dma->iova = iova;
	dma->iova_is_pa = false;
	dma->allocated = 0;
	dma->kept = NULL;
	rc = noiommufd__add(ioas, dma);
	if (rc) {
		free(dma);
		return rc;
	}
	*result = dma;
	return 0;
}

static void free_list(struct list *list)
{
	if (list->runs != list->few)
		free(list->runs);
}

/* Returns 0 or a negative errno, and explains nothing. */
static int map(struct noiommufd_ioas *ioas, const struct place *place, size_t size,
	       unsigned int flags, struct noiommufd_dma **result)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_READABLE,
		.ioas_id = ioas->id,
		.user_va = (uintptr_t)place->va,
		.length = size,
	};
	struct noiommufd_dma *dma;
	struct list list;
	__u32 access;
	int rc;

	if (!(flags & NOIOMMUFD_READ_ONLY))
		map.flags |= IOMMU_IOAS_MAP_WRITEABLE;
	access = map.flags;
	rc = map_at(ioas, place, &map);
	if (rc)
		return rc;
	rc = translate(ioas, place->va, size, map.iova, &list, &dma);
	if (!rc && flags & NOIOMMUFD_IOVA_IS_PA) {
		rc = move_to_pa(ioas, access, &map.iova, size, &list);
		if (rc) {
			noiommufd__remove(ioas, dma);
			free(dma);
		} else {
			dma->iova = map.iova;
			dma->iova_is_pa = true;
		}
	}
	free_list(&list);
	if (rc) {
		unmap_iova(ioas, map.iova, size);
		return rc;
	}
	get(&ioas->refs);
	*result = dma;
	return 0;
}

int noiommufd__map_kept(struct noiommufd_ioas *ioas, struct noiommufd_kept *kept,
			bool mapped)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = ioas->id,
		.fd = kept->fd,
		.length = kept->size,
		.iova = kept->iova,
	};
	struct list list;
	int rc;

	if (!mapped && ioctl(ioas->context->fd, IOMMU_IOAS_MAP_FILE, &map))
		return -errno;
	rc = translate(ioas, kept->va, kept->size, map.iova, &list, &kept->dma);
	free_list(&list);
	if (rc) {
		if (!mapped)
			unmap_iova(ioas, map.iova, kept->size);
		return rc;
	}
	get(&ioas->refs);
	kept->dma->allocated = kept->size;
	kept->dma->kept = kept;
	return 0;
}

int noiommufd__not_mapped(int error, size_t size)
{
	struct rlimit limit;

	if (error == EPERM || error == EOPNOTSUPP)
		return noiommufd__not_translated(error);
	if (error != ENOMEM || getrlimit(RLIMIT_MEMLOCK, &limit) ||
	    limit.rlim_cur == RLIM_INFINITY)
		return noiommufd__fail(error, "Cannot map %zu KiB for DMA: %m.",
				       size >> 10);
	return noiommufd__fail(error,
			       "Cannot pin %zu KiB: more than this user's limit for locked memory, %llu KiB, or than the machine has. Raise the limit (`ulimit -l`, LimitMEMLOCK= of a service, --ulimit memlock= of a container), or use less.",
			       size >> 10, (unsigned long long)limit.rlim_cur >> 10);
}

struct noiommufd_dma *noiommufd_map(struct noiommufd_ioas *ioas, void *va,
				    size_t size, unsigned int flags)
{
	const struct place place = { .va = va, .fd = -1 };
	struct noiommufd_dma *dma;
	int rc;

	/* If pages are larger the kernel finds it out. */
	if (!ioas || !va || !size || ((uintptr_t)va | size) & 4095 ||
	    flags & ~(NOIOMMUFD_READ_ONLY | NOIOMMUFD_IOVA_IS_PA))
		return null(invalid());
	if (size - 1 > UINTPTR_MAX - (uintptr_t)va)
		return null(noiommufd__fail(EOVERFLOW, "%s(): the range wraps.", __func__));
	if (!owned(ioas))
		return NULL;
	rc = map(ioas, &place, size, flags, &dma);
	return rc ? null(noiommufd__not_mapped(-rc, size)) : dma;
}

static void unmap_pa(const struct noiommufd_dma *dma)
{
	struct noiommufd_run run;
	__u64 offset;

	for (offset = 0; offset < dma->size; offset += run.length) {
		run = run_at(dma, offset, dma->size);
		unmap_iova(dma->ioas, run.phys, run.length);
	}
}

void noiommufd_free(struct noiommufd_dma *dma)
{
	int error = errno;

	if (!dma)
		return;
	/* In a child it is the parent's, and what was allocated not there at all. */
	if (dma->ioas->forks == noiommufd__forks) {
		noiommufd__remove(dma->ioas, dma);
		if (dma->iova_is_pa)
			unmap_pa(dma);
		else
			unmap_iova(dma->ioas, dma->iova, dma->size);
		if (dma->allocated)
			munmap(dma->va, dma->allocated);
	}
	if (dma->kept)
		noiommufd__drop(dma->ioas, dma->kept);
	noiommufd__put_ioas(dma->ioas);
	free(dma);
	errno = error;
}

/* Allocation */

/* How memory is asked for, the best one first */
enum kind {
	SMALL_PAGES,
	HUGE_PAGES,		/* transparent ones, if there are any */
	HUGETLB,
	GIGANTIC,		/* hugetlb pages of 1 GiB */
	NR_KINDS,
};

struct block {
	void *va;
	size_t length;
};

/* What a PMD maps: 2 MiB if pages have 4 KiB */
static size_t huge_size(void)
{
	size_t page = sysconf(_SC_PAGESIZE);

	return page * (page / sizeof(__u64));
}

static size_t round_up(size_t size, size_t to)
{
	return (size + to - 1) & -to;
}

/* Fills in the kinds to try, and returns how many. */
static unsigned int choose_kinds(size_t size, bool contiguous,
				 enum kind kinds[NR_KINDS])
{
	size_t huge = huge_size();
	unsigned int n = 0;

	if (contiguous && size > huge)
		kinds[n++] = GIGANTIC;
	/* As long as no more than an eighth is lost */
	if (size >= huge && (contiguous || round_up(size, huge) - size <= size / 8))
		kinds[n++] = HUGETLB;
	if (size < huge)
		kinds[n++] = SMALL_PAGES;
	if (size >= huge || contiguous)
		kinds[n++] = HUGE_PAGES;
	if (size < huge && contiguous)
		kinds[n++] = HUGETLB;
	return n;
}

static void *map_pages(size_t length, int flags)
{
	void *va = mmap(NULL, length, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	return va == MAP_FAILED ? NULL : va;
}

/* At a multiple of a huge page, so that the kernel can use them */
static void *map_aligned(size_t length, size_t huge)
{
	char *va = map_pages(length + huge, 0), *start;

	if (!va)
		return NULL;
	start = (char *)round_up((size_t)va, huge);
	if (start > va)
		munmap(va, start - va);
	munmap(start + length, va + huge - start);
	madvise(start, length, MADV_HUGEPAGE);
	return start;
}

static struct block get_block(size_t size, enum kind kind)
{
	size_t huge = kind == GIGANTIC ? GIB : huge_size();
	struct block block = { .length = size };

	switch (kind) {
	case GIGANTIC:
	case HUGETLB:
		block.length = round_up(size, huge);
		block.va = map_pages(block.length, MAP_HUGETLB |
				     __builtin_ctzll(huge) << MAP_HUGE_SHIFT);
		break;
	case HUGE_PAGES:
		block.length = size < huge ? huge : size;
		block.va = map_aligned(block.length, huge);
		break;
	default:
		block.va = map_pages(size, 0);
	}
	return block;
}

/* Not for children: they would get copies, which the device does not know. */
static int prepare(const struct block *block,
		   const struct noiommufd_alloc_options *options)
{
	unsigned long nodes[16] = { 0 };
	const unsigned int bits = 8 * sizeof(nodes[0]);

	madvise(block->va, block->length, MADV_DONTFORK);
	if (!(options->flags & NOIOMMUFD_NUMA_NODE))
		return 0;
	nodes[options->numa_node / bits] = 1UL << options->numa_node % bits;
	/* There is no such node, or the kernel has none. */
	if (syscall(SYS_mbind, block->va, block->length, MPOL_BIND, nodes,
		    8 * sizeof(nodes), 0))
		return -EINVAL;
	return 0;
}

static bool fits(const struct noiommufd_dma *dma,
		 const struct noiommufd_alloc_options *options)
{
	struct noiommufd_run run;
	__u64 offset;

	if (options->flags & NOIOMMUFD_CONTIGUOUS && dma->shift != ONE_RUN)
		return false;
	if (options->below)
		for (offset = 0; offset < dma->size; offset += run.length) {
			run = run_at(dma, offset, dma->size);
			if (run.phys + run.length > options->below)
				return false;
		}
	return true;
}

/*
 * Look for memory once: 0, or a negative errno; ERANGE: what was found does not
 * fit, and stays in @block.
 */
static int find_once(struct noiommufd_ioas *ioas, size_t size, enum kind kind,
		     const struct noiommufd_alloc_options *options,
		     struct block *block, struct noiommufd_dma **dma)
{
	struct place place = { .fd = -1 };
	int rc;

	*block = get_block(size, kind);
	if (!block->va)
		return -ENOMEM;
	rc = prepare(block, options);
	place.va = block->va;
	if (!rc)
		rc = map(ioas, &place, size,
			 options->flags & NOIOMMUFD_IOVA_IS_PA, dma);
	/* Above the limit of the IOAS: it does not fit either. */
	if (rc == -ERANGE)
		return rc;
	if (rc) {
		munmap(block->va, block->length);
		return rc;
	}
	if (!fits(*dma, options)) {
		noiommufd_free(*dma);
		return -ERANGE;
	}
	(*dma)->allocated = block->length;
	return 0;
}

/*
 * Have the module allocate what is asked for: 0, or a negative errno; ENOTTY: it
 * cannot, or this is mainline's iommufd. Other memory is in larger pages.
 */
static int allocate(struct noiommufd_ioas *ioas, size_t size,
		    const struct noiommufd_alloc_options *options,
		    struct noiommufd_dma **dma)
{
	bool contiguous = options->flags & NOIOMMUFD_CONTIGUOUS;
	bool node = options->flags & NOIOMMUFD_NUMA_NODE;
	struct noiommufd_mem_alloc alloc = {
		.size = sizeof(alloc),
		.flags = (contiguous ? NOIOMMUFD_MEM_CONTIGUOUS : 0) |
			 (node ? NOIOMMUFD_MEM_NODE : 0),
		.length = size,
		.max_pa = options->below ? options->below - 1 : 0,
		.node = node ? options->numa_node : 0,
	};
	struct place place;
	int rc;

	/* Nothing is below 1. */
	if ((!contiguous && !options->below) || options->below == 1)
		return -ENOTTY;
	if (ioctl(ioas->context->fd, NOIOMMUFD_MEM_ALLOC, &alloc))
		return -errno;
	place.fd = alloc.out_fd;
	place.va = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, place.fd, 0);
	if (place.va == MAP_FAILED) {
		rc = -errno;
		goto out_close;
	}
	madvise(place.va, size, MADV_DONTFORK);
	rc = map(ioas, &place, size, options->flags & NOIOMMUFD_IOVA_IS_PA, dma);
	if (rc)
		munmap(place.va, size);
	else
		(*dma)->allocated = size;
out_close:
	close(place.fd);
	return rc;
}

/* What does not fit is set aside, so that it is not found again. */
static int find_memory(struct noiommufd_ioas *ioas, size_t size,
		       const struct noiommufd_alloc_options *options,
		       struct noiommufd_dma **dma)
{
	struct block aside[TRIES * NR_KINDS], block;
	enum kind kinds[NR_KINDS];
	unsigned int num, try, kind, nr_aside = 0;
	size_t bytes_aside = 0;
	int rc = -ERANGE;

	num = choose_kinds(size, options->flags & NOIOMMUFD_CONTIGUOUS, kinds);
	for (try = 0; try < TRIES && bytes_aside < SET_ASIDE; try++) {
		int found = -ENOMEM;

		for (kind = 0; kind < num; kind++) {
			rc = find_once(ioas, size, kinds[kind], options, &block, dma);
			if (rc == -ERANGE) {
				found = rc;
				aside[nr_aside++] = block;
				bytes_aside += block.length;
			} else if (rc != -ENOMEM && rc != -EFAULT) {
				goto out;
			}
		}
		rc = found;
		/* There is none at all, and will not be. */
		if (rc != -ERANGE)
			break;
	}
out:
	while (nr_aside--)
		munmap(aside[nr_aside].va, aside[nr_aside].length);
	return rc;
}

/* Options of a program that was built with an older or newer header */
static int get_options(const struct noiommufd_alloc_options *from,
		       struct noiommufd_alloc_options *to)
{
	const unsigned int known = NOIOMMUFD_IOVA_IS_PA | NOIOMMUFD_CONTIGUOUS |
				   NOIOMMUFD_NUMA_NODE;
	size_t i;

	memset(to, 0, sizeof(*to));
	if (!from)
		return 0;
	if (from->size < offsetof(struct noiommufd_alloc_options, below) + sizeof(to->below))
		return -EINVAL;
	for (i = sizeof(*to); i < from->size; i++)
		if (((const char *)from)[i])
			return -E2BIG;
	memcpy(to, from, from->size < sizeof(*to) ? from->size : sizeof(*to));
	if (to->flags & ~known || to->reserved ||
	    (to->flags & NOIOMMUFD_NUMA_NODE && to->numa_node > 1023))
		return -EINVAL;
	return 0;
}

struct noiommufd_dma *
noiommufd_alloc(struct noiommufd_ioas *ioas, size_t size,
		const struct noiommufd_alloc_options *options)
{
	size_t page = sysconf(_SC_PAGESIZE);
	struct noiommufd_alloc_options wanted;
	struct noiommufd_dma *dma;
	int rc;

	if (!ioas || !size)
		return null(invalid());
	rc = get_options(options, &wanted);
	if (rc)
		return null(noiommufd__fail(-rc, "%s(): bad options.", __func__));
	if (!owned(ioas))
		return NULL;
	/* So that nothing that is rounded up below wraps */
	if (size > SIZE_MAX / 2)
		return null(noiommufd__not_mapped(ENOMEM, size));
	size = round_up(size, page);
	rc = allocate(ioas, size, &wanted, &dma);
	/* There may be huge pages that were set aside at boot. */
	if (rc == -ENOTTY || rc == -ENOMEM || rc == -EINVAL)
		rc = find_memory(ioas, size, &wanted, &dma);
	if (rc == -ERANGE) {
		const char *what = wanted.flags & NOIOMMUFD_CONTIGUOUS ? " contiguous" : "";
		const char *where = wanted.below ? " below that address" : "";

		noiommufd__fail(ENOMEM,
				"No%s memory of %zu KiB was found%s: use less, or reserve huge pages (vm.nr_hugepages, hugepagesz=1G).",
				what, size >> 10, where);
		return NULL;
	}
	if (rc)
		return null(noiommufd__not_mapped(-rc, size));
	return dma;
}
