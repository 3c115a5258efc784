// SPDX-License-Identifier: GPL-2.0-only
/* mm/gup: retire follow_hugetlb_page(), Linux 6.6, which came with the fix of long-term
 * pins of hugetlb pages in ZONE_MOVABLE or CMA. Before, they failed with a WARNING.
 */
#include <linux/hugetlb.h>
#ifndef CONTROL
extern char follow_hugetlb_page;
#endif
