/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/memfd.h> and pinning the memory of a file; compat/memfd.c says what
 * differs. Prototypes only, because kernel headers include this file.
 */
#include_next <linux/memfd.h>

#ifndef NOIOMMUFD_COMPAT_MEMFD_H
#define NOIOMMUFD_COMPAT_MEMFD_H

#include <linux/types.h>

struct file;
struct folio;

bool noiommufd_memfd_can_pin(struct file *file);
bool noiommufd_memfd_sealed_for_write(struct file *file);
bool noiommufd_memfd_folio_is_at(struct file *memfd, struct folio *folio,
				 pgoff_t index);

#if !defined(HAVE_MEMFD_PIN_FOLIOS) || !defined(HAVE_MEMFD_PIN_RESERVES_HUGETLB)
long noiommufd_memfd_pin_folios(struct file *memfd, loff_t start, loff_t end,
				struct folio **folios, unsigned int max_folios,
				pgoff_t *offset);
#define memfd_pin_folios noiommufd_memfd_pin_folios
#endif

#endif /* NOIOMMUFD_COMPAT_MEMFD_H */
