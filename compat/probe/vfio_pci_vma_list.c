// SPDX-License-Identifier: GPL-2.0-only
/* vfio/pci: Use unmap_mapping_range(), Linux 6.10, took the list away. */
#include <linux/vfio_pci_core.h>
#ifndef CONTROL
struct list_head *probe(struct vfio_pci_core_device *vdev)
{
	return &vdev->vma_list;
}
#endif
