// SPDX-License-Identifier: GPL-2.0-only
/* mm: introduce vma->vm_flags wrapper functions, Linux 6.3. */
#include <linux/mm.h>
#ifdef CONTROL
int vm_flags_clear;
#else
void (*probe)(struct vm_area_struct *vma, vm_flags_t flags) = vm_flags_clear;
#endif
