/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/vfio.h> and what depends on how vfio finds a device's BAR mappings.
 */
#include_next <linux/vfio.h>

#ifndef NOIOMMUFD_COMPAT_VFIO_H
#define NOIOMMUFD_COMPAT_VFIO_H

#include <linux/bits.h>
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

/* Hot reset by device id, Linux 6.5. */
#ifndef VFIO_PCI_DEVID_NOT_OWNED
#define VFIO_PCI_DEVID_NOT_OWNED		-1
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID		BIT(0)
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED	BIT(1)
#endif

#endif /* NOIOMMUFD_COMPAT_VFIO_H */
