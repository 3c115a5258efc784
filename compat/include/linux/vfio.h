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
 * noiommu_vfio_share_mapping() - Let vfio find the mappings that a file makes.
 * @vdev: the device
 * @filp: a file of it that is being opened
 *
 * From Linux 6.10 on a device has an inode, through which its BARs are unmapped
 * from all processes at once. Before that vfio-pci-core keeps a list of
 * mappings.
 */
static inline void noiommu_vfio_share_mapping(struct vfio_device *vdev,
					      struct file *filp)
{
#ifdef HAVE_VFIO_DEVICE_INODE
	filp->f_mapping = vdev->inode->i_mapping;
#endif
}

/*
 * From Linux 6.1 on vfio allocates a device, with an index and a struct device
 * of the class vfio-dev. Before that compat/vfio.c does.
 */
#ifdef HAVE_VFIO_ALLOC_DEVICE

static inline struct device *noiommu_vfio_dev(struct vfio_device *vdev)
{
	return &vdev->device;
}

static inline int noiommu_vfio_index(struct vfio_device *vdev)
{
	return vdev->index;
}

static inline int noiommu_vfio_class_register(void)
{
	return 0;
}

static inline void noiommu_vfio_class_unregister(void)
{
}

#else

struct vfio_device *noiommu_vfio_alloc(size_t size, struct device *dev,
				       const struct vfio_device_ops *ops);
struct device *noiommu_vfio_dev(struct vfio_device *vdev);
int noiommu_vfio_index(struct vfio_device *vdev);
int noiommu_vfio_class_register(void);
void noiommu_vfio_class_unregister(void);

#define vfio_alloc_device(dev_struct, member, dev, ops)                   \
	container_of(noiommu_vfio_alloc(                                  \
			     sizeof(struct dev_struct) +                  \
				     BUILD_BUG_ON_ZERO(offsetof(          \
					     struct dev_struct, member)), \
			     dev, ops),                                   \
		     struct dev_struct, member)

static inline void vfio_put_device(struct vfio_device *vdev)
{
	put_device(noiommu_vfio_dev(vdev));
}

#endif

#endif /* NOIOMMUFD_COMPAT_VFIO_H */
