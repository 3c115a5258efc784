// SPDX-License-Identifier: GPL-2.0-only
/* vfio: Provide a get_region_info op, Linux 6.19. The core ioctl lost it. */
#include <linux/vfio_pci_core.h>
#ifdef CONTROL
int vfio_pci_ioctl_get_region_info;
#else
int (*probe)(struct vfio_device *vdev, struct vfio_region_info *info,
	     struct vfio_info_cap *caps) = vfio_pci_ioctl_get_region_info;
#endif
