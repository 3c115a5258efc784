/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/mm.h> and pinning that does the same on every kernel; compat/mm.c
 * says what differs. Prototypes and macros only, because kernel headers include
 * this file.
 */
#include_next <linux/mm.h>

#ifndef NOIOMMUFD_COMPAT_MM_H
#define NOIOMMUFD_COMPAT_MM_H

#ifndef HAVE_FOLIO
/* Before struct folio, a page that is no tail page stands in for it. */
struct folio;
#define page_folio(p)		((struct folio *)compound_head(p))
#define folio_page(f, n)	nth_page((struct page *)(f), n)
#define folio_order(f)		compound_order(folio_page(f, 0))
#define folio_nr_pages(f)	compound_nr(folio_page(f, 0))
#define folio_size(f)		page_size(folio_page(f, 0))
#endif

/* Before Linux 6.3 the flags are no constant. */
#ifndef HAVE_VM_FLAGS_CLEAR
#define vm_flags_clear(vma, flags)	((vma)->vm_flags &= ~(flags))
#endif

bool noiommufd_can_alloc_contig(void);
struct page *noiommufd_alloc_contig(u64 npages, u64 align, u64 max_pfn,
				    int nid);
int noiommufd_pin_user_pages_fast(unsigned long start, int nr,
				  unsigned int gup_flags, struct page **pages);
long noiommufd_pin_user_pages_remote(struct mm_struct *mm, unsigned long start,
				     unsigned long nr, unsigned int gup_flags,
				     struct page **pages);

#endif /* NOIOMMUFD_COMPAT_MM_H */
