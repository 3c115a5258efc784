// SPDX-License-Identifier: GPL-2.0-only
/* vfio/pci: Use unmap_mapping_range(), Linux 6.10, removed the list. */
#include <linux/vfio_pci_core.h>
#ifdef CONTROL
struct probe { struct vfio_pci_core_device; int vma_list; };
#else
struct list_head *probe(struct vfio_pci_core_device *vdev)
{
	return &vdev->vma_list;
}
#endif
