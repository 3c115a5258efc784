// SPDX-License-Identifier: GPL-2.0-only
/* mm/gup: reliable R/O long-term pinning in COW mappings, Linux 6.2. Before,
 * gup_must_unshare() took no VMA and let the zero page and the page cache pass.
 */
#include <linux/mm.h>
#ifndef CONTROL
static inline bool gup_must_unshare(struct vm_area_struct *vma,
				    unsigned int flags, struct page *page);
int probe = FAULT_FLAG_UNSHARE;
#endif
