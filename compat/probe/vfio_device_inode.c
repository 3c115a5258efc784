// SPDX-License-Identifier: GPL-2.0-only
/* vfio: Create vfio_fs_type with inode per device, Linux 6.10. */
#include <linux/vfio.h>
#ifdef CONTROL
struct probe { struct vfio_device; int inode; };
#else
struct inode **probe(struct vfio_device *vdev)
{
	return &vdev->inode;
}
#endif
