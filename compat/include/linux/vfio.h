/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/vfio.h>, how vfio finds a device's BAR mappings, and the life cycle of
 * a device.
 */
#include_next <linux/vfio.h>

#ifndef NOIOMMUFD_COMPAT_VFIO_H
#define NOIOMMUFD_COMPAT_VFIO_H

#include <linux/build_bug.h>
#include <linux/device.h>
#include <linux/fs.h>

/**
 * vfio_device_share_mapping - let vfio find the mappings that a file makes
 * @vdev: the device
 * @filp: a file of it that is being opened
 *
 * From Linux 6.10 a device has an inode, through which its BARs are unmapped
 * from every process at once. Before, vfio-pci-core keeps a list of its own,
 * and nothing may come between.
 */
static inline void vfio_device_share_mapping(struct vfio_device *vdev,
					     struct file *filp)
{
#ifdef HAVE_VFIO_DEVICE_INODE
	filp->f_mapping = vdev->inode->i_mapping;
#endif
}

/*
 * From Linux 6.1 vfio allocates a device, with an index and a struct device of
 * the class vfio-dev. Before, that is compat/vfio.c's.
 */
#ifdef HAVE_VFIO_ALLOC_DEVICE

static inline struct device *vfio_device_dev(struct vfio_device *vdev)
{
	return &vdev->device;
}

static inline int vfio_device_index(struct vfio_device *vdev)
{
	return vdev->index;
}

static inline int vfio_class_register(void)
{
	return 0;
}

static inline void vfio_class_unregister(void)
{
}

#else

struct vfio_device *_vfio_alloc_device(size_t size, struct device *dev,
				       const struct vfio_device_ops *ops);
struct device *vfio_device_dev(struct vfio_device *vdev);
int vfio_device_index(struct vfio_device *vdev);
int vfio_class_register(void);
void vfio_class_unregister(void);

#define vfio_alloc_device(dev_struct, member, dev, ops)			\
	container_of(_vfio_alloc_device(sizeof(struct dev_struct) +	\
			BUILD_BUG_ON_ZERO(offsetof(struct dev_struct, member)), \
			dev, ops), struct dev_struct, member)

static inline void vfio_put_device(struct vfio_device *vdev)
{
	put_device(vfio_device_dev(vdev));
}

#endif

#endif /* NOIOMMUFD_COMPAT_VFIO_H */
