/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/mm.h> and pinning that does the same on every kernel; compat/mm.c
 * says what differs. Prototypes only: kernel headers include this file too.
 */
#include_next <linux/mm.h>

#ifndef NOIOMMUFD_COMPAT_MM_H
#define NOIOMMUFD_COMPAT_MM_H

int noiommufd_pin_user_pages_fast(unsigned long start, int nr,
				  unsigned int gup_flags, struct page **pages);
long noiommufd_pin_user_pages_remote(struct mm_struct *mm, unsigned long start,
				     unsigned long nr, unsigned int gup_flags,
				     struct page **pages);

#endif /* NOIOMMUFD_COMPAT_MM_H */
