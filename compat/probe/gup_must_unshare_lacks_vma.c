// SPDX-License-Identifier: GPL-2.0-only
/* mm/gup: reliable R/O long-term pinning in COW mappings, Linux 6.2. Before,
 * gup_must_unshare() took no VMA and let the zero page and the page cache pass.
 * From Linux 6.3 on the header does not have it.
 */
#include <linux/mm.h>
#ifdef CONTROL
static inline bool gup_must_unshare(struct vm_area_struct *vma,
				    unsigned int flags, struct page *page);
#else
typedef bool probe(struct vm_area_struct *vma, unsigned int flags,
		   struct page *page);
static_assert(!__builtin_types_compatible_p(typeof(gup_must_unshare), probe));
#endif
