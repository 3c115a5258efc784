// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Which memory an IOAS has, and where any address of the process is in it.
 *
 * There is an index from the first time on that a program asks for such an address.
 * It is like a page table of three levels: 512 GiB, 2 MiB and 4 KiB. An entry of the
 * last two is 0, or a physical address, with the number of mappings that it is from
 * in the low bits; one for 2 MiB may be a pointer to 512 smaller ones instead.
 *
 * noiommufd_ioas::lock is held to change it. Lookups take no lock: an entry is one
 * word, and levels stay until the IOAS is freed.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "internal.h"

/* On all machines, whatever their pages: these are multiples of 4 KiB. */
#define PAGE_BITS	12
#define BLOCK_BITS	21
#define TOP_BITS	39
/* At most: x86 and arm64 have fewer. */
#define ADDRESS_BITS	57

#define PAGE		0x1000ULL
#define BLOCK		0x200000ULL

/* In the low bits of an entry; it is no pointer */
#define IS_PA		1ULL
#define ONE_MAPPING	2ULL
#define MAPPINGS	(PAGE - ONE_MAPPING)

/* 2 MiB each, of which the kernel allocates only what is used */
#define LARGE		(1U << (TOP_BITS - BLOCK_BITS))
/* A page each */
#define SMALL		(1U << (BLOCK_BITS - PAGE_BITS))

struct noiommufd_level {
	struct noiommufd_level *next;		/* all that there are, to free them */
	size_t mmapped;
	__u64 entries[];
};

static inline __u64 load(const __u64 *entry)
{
	return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

static inline void store(__u64 *entry, __u64 value)
{
	__atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

static inline bool is_pa(__u64 entry)
{
	return entry & IS_PA;
}

static inline __u64 *entry_of(__u64 level, __u64 va, unsigned int bits, unsigned int nr)
{
	return (__u64 *)(uintptr_t)level + ((va >> bits) & (nr - 1));
}

/* Returns its entries, or 0. */
static __u64 new_level(struct noiommufd_ioas *ioas, unsigned int nr)
{
	size_t size = sizeof(struct noiommufd_level) + nr * sizeof(__u64);
	struct noiommufd_level *level;

	if (nr == SMALL) {
		level = calloc(1, size);
		if (!level)
			return 0;
	} else {
		level = mmap(NULL, size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (level == MAP_FAILED)
			return 0;
		/* That would allocate all of it. */
		madvise(level, size, MADV_NOHUGEPAGE);
		level->mmapped = size;
	}
	level->next = ioas->levels;
	ioas->levels = level;
	return (uintptr_t)level->entries;
}

/* The level that @entry points to; 0: none, and not to be made, or no memory for it */
static __u64 next_level(struct noiommufd_ioas *ioas, __u64 *entry, unsigned int nr,
			bool make)
{
	__u64 level = *entry, old = *entry, i;

	if ((level && !is_pa(level)) || !make)
		return level;
	level = new_level(ioas, nr);
	if (!level)
		return 0;
	for (i = 0; old && i < nr; i++)
		*entry_of(level, i, 0, nr) = old + i * PAGE;
	store(entry, level);
	return level;
}

/* One mapping more, or less, has @pa there. */
static inline int count(__u64 *entry, __u64 pa, bool more)
{
	bool same = (*entry & -PAGE) == pa && *entry;
	__u64 new = *entry - ONE_MAPPING;

	if (!more && !same)
		return 0;
	/* What is there now takes the place of what was there. */
	if (more)
		new = same ? *entry + ONE_MAPPING : pa | ONE_MAPPING | IS_PA;
	if ((new & -PAGE) != pa)
		return -ENOSPC;
	store(entry, new & MAPPINGS ? new : 0);
	return 0;
}

/* The pages of a block, from @offset, which it moves on, to @end */
static int count_pages(struct noiommufd_ioas *ioas, __u64 *block,
		       const struct noiommufd_dma *dma, __u64 *offset, __u64 end, bool more)
{
	__u64 level = next_level(ioas, block, SMALL, more), *entry;
	int rc = 0;

	if (!level)
		return -ENOMEM;
	entry = entry_of(level, (uintptr_t)dma->va + *offset, PAGE_BITS, SMALL);
	while (*offset < end) {
		rc = count(entry++, noiommufd__lookup(dma, *offset), more);
		if (rc)
			break;
		*offset += PAGE;
	}
	return rc;
}

/* Put the first @size bytes of memory into the index, or take them out. */
static int change(struct noiommufd_ioas *ioas, __u64 top, const struct noiommufd_dma *dma,
		  __u64 size, bool more)
{
	__u64 offset = 0, end, va, level, *block;
	int rc = 0;

	while (!rc && offset < size) {
		va = (uintptr_t)dma->va + offset;
		level = next_level(ioas, entry_of(top, va, TOP_BITS, LARGE), LARGE, more);
		if (!level) {
			rc = -ENOMEM;
			break;
		}
		block = entry_of(level, va, BLOCK_BITS, LARGE);
		end = offset + BLOCK - va % BLOCK;
		/* As a whole if it is contiguous, and no part of it is mapped otherwise */
		if (end - offset == BLOCK && end <= size && dma->shift >= BLOCK_BITS &&
		    (!*block || is_pa(*block)) &&
		    noiommufd__lookup(dma, end - 1) ==
			noiommufd__lookup(dma, offset) + BLOCK - 1) {
			rc = count(block, noiommufd__lookup(dma, offset), more);
			if (!rc)
				offset = end;
		} else {
			rc = count_pages(ioas, block, dma, &offset, end < size ? end : size,
					 more);
		}
	}
	if (rc && more)
		change(ioas, top, dma, offset, false);
	return rc;
}

/* With all that is mapped, in that order; returns 0 or a negative errno. */
static int make_index(struct noiommufd_ioas *ioas)
{
	struct noiommufd_dma *dma;
	int rc = 0;
	__u64 top;

	lock_ioas(ioas);
	if (!ioas->index) {
		top = new_level(ioas, LARGE);
		rc = top ? 0 : -ENOMEM;
		for (dma = ioas->dmas; dma && !rc; dma = dma->next)
			rc = change(ioas, top, dma, dma->size, true);
		if (!rc)
			store(&ioas->index, top);
		else
			noiommufd__free_index(ioas);
	}
	unlock_ioas(ioas);
	return rc;
}

void noiommufd__free_index(struct noiommufd_ioas *ioas)
{
	struct noiommufd_level *level;

	while (ioas->levels) {
		level = ioas->levels;
		ioas->levels = level->next;
		if (level->mmapped)
			munmap(level, level->mmapped);
		else
			free(level);
	}
}

int noiommufd__add(struct noiommufd_ioas *ioas, struct noiommufd_dma *dma)
{
	int rc = 0;

	lock_ioas(ioas);
	if (ioas->index)
		rc = change(ioas, ioas->index, dma, dma->size, true);
	if (!rc) {
		dma->next = NULL;
		dma->prev = ioas->last;
		*dma->prev = dma;
		ioas->last = &dma->next;
	}
	unlock_ioas(ioas);
	return rc;
}

void noiommufd__remove(struct noiommufd_ioas *ioas, struct noiommufd_dma *dma)
{
	lock_ioas(ioas);
	*dma->prev = dma->next;
	*(dma->next ? &dma->next->prev : &ioas->last) = dma->prev;
	if (ioas->index)
		change(ioas, ioas->index, dma, dma->size, false);
	unlock_ioas(ioas);
}

static __attribute__((noinline, cold)) __u64 not_found(const void *va, int error)
{
	noiommufd__fail(error, error == ENOENT ? "%p is not in memory that is mapped." :
			"Cannot look up %p: %m.", va);
	return NOIOMMUFD_NO_PA;
}

__u64 noiommufd_ioas_pa(struct noiommufd_ioas *ioas, const void *address)
{
	__u64 va = (uintptr_t)address, entry;
	int rc;

	if (!ioas) {
		invalid();
		return NOIOMMUFD_NO_PA;
	}
	if (!owned(ioas))
		return NOIOMMUFD_NO_PA;
	entry = load(&ioas->index);
	if (!entry) {
		rc = make_index(ioas);
		if (rc)
			return not_found(address, -rc);
		entry = load(&ioas->index);
	}
	if (va >> ADDRESS_BITS)
		return not_found(address, ENOENT);
	entry = load(entry_of(entry, va, TOP_BITS, LARGE));
	if (!entry)
		return not_found(address, ENOENT);
	entry = load(entry_of(entry, va, BLOCK_BITS, LARGE));
	if (is_pa(entry))
		return (entry & -PAGE) + va % BLOCK;
	if (entry)
		entry = load(entry_of(entry, va, PAGE_BITS, SMALL));
	return entry ? (entry & -PAGE) + va % PAGE : not_found(address, ENOENT);
}
