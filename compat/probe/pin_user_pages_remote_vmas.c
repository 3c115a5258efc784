// SPDX-License-Identifier: GPL-2.0-only
/* mm/gup: remove vmas parameter from pin_user_pages_remote(), Linux 6.5. */
#include <linux/mm.h>
#ifdef CONTROL
long (*probe)(struct mm_struct *mm, unsigned long start,
	      unsigned long nr_pages, unsigned int gup_flags,
	      struct page **pages, int *locked) = pin_user_pages_remote;
#else
long (*probe)(struct mm_struct *mm, unsigned long start,
	      unsigned long nr_pages, unsigned int gup_flags,
	      struct page **pages, struct vm_area_struct **vmas,
	      int *locked) = pin_user_pages_remote;
#endif
