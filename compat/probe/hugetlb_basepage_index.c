// SPDX-License-Identifier: GPL-2.0-only
/* mm/filemap: remove hugetlb special casing in filemap.c, Linux 6.7. Until then the
 * index of a hugetlb folio counted huge pages, and this function returned it in pages.
 */
#include <linux/pagemap.h>
#ifdef CONTROL
int hugetlb_basepage_index;
#else
pgoff_t (*probe)(struct page *page) = hugetlb_basepage_index;
#endif
