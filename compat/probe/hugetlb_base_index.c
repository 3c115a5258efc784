// SPDX-License-Identifier: GPL-2.0-only
/* mm/filemap: remove hugetlb special casing in filemap.c, Linux 6.7, from when on
 * the index of a hugetlb folio counts pages. Before, it counted huge pages.
 */
#include <linux/pagemap.h>
#ifndef CONTROL
extern char hugetlb_basepage_index;
#endif
