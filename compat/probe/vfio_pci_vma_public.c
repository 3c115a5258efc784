// SPDX-License-Identifier: GPL-2.0-only
/* vfio/pci: Move all structs that are only used internally, Linux 6.0. */
#include <linux/vfio_pci_core.h>
#ifdef CONTROL
struct vfio_pci_mmap_vma { int control; };
#else
struct list_head *probe(struct vfio_pci_mmap_vma *mmap_vma)
{
	return &mmap_vma->vma_next;
}
#endif
