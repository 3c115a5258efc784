// SPDX-License-Identifier: GPL-2.0-only
/* vfio/pci: Remove vfio_device_get_from_dev(), Linux 5.19. The error handlers used it. */
#include <linux/vfio.h>
#ifdef CONTROL
int vfio_device_get_from_dev;
#else
struct vfio_device *(*probe)(struct device *dev) = vfio_device_get_from_dev;
#endif
