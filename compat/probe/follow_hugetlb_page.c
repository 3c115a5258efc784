// SPDX-License-Identifier: GPL-2.0-only
/* mm/gup: retire follow_hugetlb_page(), Linux 6.6. Until then a long-term pin of a
 * hugetlb page in ZONE_MOVABLE or CMA failed with a WARNING.
 */
#include <linux/hugetlb.h>
#ifdef CONTROL
int follow_hugetlb_page;
#else
void *probe = follow_hugetlb_page;
#endif
