// SPDX-License-Identifier: GPL-2.0-only
/* mm/memfd: reserve hugetlb folios before allocation, Linux 6.17, which
 * made hugetlb_reserve_pages() return a number. Before, memfd_pin_folios()
 * took huge pages that were reserved for others or not at all, which is a BUG().
 */
#include <linux/hugetlb.h>
/* Its arguments changed as well, but do not matter. */
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#ifdef CONTROL
bool hugetlb_reserve_pages(/* any */);
#else
long hugetlb_reserve_pages(/* any */);
#endif
