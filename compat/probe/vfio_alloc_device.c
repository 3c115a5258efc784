// SPDX-License-Identifier: GPL-2.0-only
/* vfio: Add helpers for unifying vfio_device life cycle, Linux 6.1. */
#include <linux/vfio.h>
#ifdef CONTROL
int _vfio_alloc_device;
#else
struct vfio_device *(*probe)(size_t size, struct device *dev,
			     const struct vfio_device_ops *ops) = _vfio_alloc_device;
struct device *probe_device(struct vfio_device *vdev)
{
	return &vdev->device;
}
#endif
