// SPDX-License-Identifier: GPL-2.0-only
/* mm/gup: introduce memfd_pin_folios(), Linux 6.11. */
#include <linux/mm.h>
#ifdef CONTROL
int memfd_pin_folios;
#else
long (*probe)(struct file *memfd, loff_t start, loff_t end,
	      struct folio **folios, unsigned int max_folios,
	      pgoff_t *offset) = memfd_pin_folios;
#endif
