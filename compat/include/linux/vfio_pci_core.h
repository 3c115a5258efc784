/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/vfio_pci_core.h> and calls that do the same on every kernel;
 * compat/vfio_pci.c says what differs.
 */
#include_next <linux/vfio_pci_core.h>

#ifndef NOIOMMUFD_COMPAT_VFIO_PCI_CORE_H
#define NOIOMMUFD_COMPAT_VFIO_PCI_CORE_H

long vfio_pci_core_get_region_info(struct vfio_device *vdev,
				   struct vfio_region_info __user *arg);
bool vfio_pci_core_trylock_memory(struct vfio_pci_core_device *core);

#endif /* NOIOMMUFD_COMPAT_VFIO_PCI_CORE_H */
