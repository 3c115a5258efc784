/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * <linux/vfio.h>, with the calls of a VFIO device's own character device
 * added where that header is from before Linux 6.6.
 */
#ifndef _NOIOMMUFD_VFIO_H
#define _NOIOMMUFD_VFIO_H

#include <linux/types.h>
#include <linux/vfio.h>

#ifndef VFIO_DEVICE_BIND_IOMMUFD
/**
 * struct vfio_device_bind_iommufd - VFIO_DEVICE_BIND_IOMMUFD: take the device
 * @argsz: size of this struct, 16 or more
 * @flags: 0
 * @iommufd: an open iommufd
 * @out_devid: out: the device's id in that iommufd
 * @token_uuid_ptr: for VFIO_DEVICE_BIND_FLAG_TOKEN, which a noiommu device
 *	refuses
 *
 * Before this call the file answers nothing else. The device stays bound until
 * the file is closed.
 */
struct vfio_device_bind_iommufd {
	__u32		argsz;
	__u32		flags;
	__s32		iommufd;
	__u32		out_devid;
	__aligned_u64	token_uuid_ptr;
};

#define VFIO_DEVICE_BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)
#endif

#ifndef VFIO_DEVICE_BIND_FLAG_TOKEN
#define VFIO_DEVICE_BIND_FLAG_TOKEN (1 << 0)
#endif

#ifndef VFIO_DEVICE_ATTACH_IOMMUFD_PT
/**
 * struct vfio_device_attach_iommufd_pt - VFIO_DEVICE_ATTACH_IOMMUFD_PT: give
 * the device an address space
 * @argsz: size of this struct; 12, without @pasid, is enough
 * @flags: 0, or VFIO_DEVICE_ATTACH_PASID
 * @pt_id: in: an IOAS or HWPT of the bound iommufd; out: the HWPT
 * @pasid: a noiommu device has none but 0
 */
struct vfio_device_attach_iommufd_pt {
	__u32	argsz;
	__u32	flags;
	__u32	pt_id;
	__u32	pasid;
};

#define VFIO_DEVICE_ATTACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 19)

/**
 * struct vfio_device_detach_iommufd_pt - VFIO_DEVICE_DETACH_IOMMUFD_PT: take
 * the address space away again
 * @argsz: size of this struct; 8, without @pasid, is enough
 * @flags: 0, or VFIO_DEVICE_DETACH_PASID
 * @pasid: a noiommu device has none but 0
 *
 * Memory stays pinned until it is unmapped or the device is closed: nothing
 * keeps the device from mastering the bus.
 */
struct vfio_device_detach_iommufd_pt {
	__u32	argsz;
	__u32	flags;
	__u32	pasid;
};

#define VFIO_DEVICE_DETACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 20)
#endif

#ifndef VFIO_DEVICE_ATTACH_PASID
#define VFIO_DEVICE_ATTACH_PASID (1 << 0)
#endif

#ifndef VFIO_DEVICE_DETACH_PASID
#define VFIO_DEVICE_DETACH_PASID (1 << 0)
#endif

/*
 * VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, VFIO_DEVICE_PCI_HOT_RESET: on a device's
 * own node, what vfio_pci_dependent_device::group_id holds is the id of that
 * function in the caller's iommufd, or one of these. The reset is asked for
 * with a count of 0, and allowed when no function is NOT_OWNED.
 */
#ifndef VFIO_PCI_DEVID_NOT_OWNED
#define VFIO_PCI_DEVID_OWNED		0	/* ours, and open nowhere */
#define VFIO_PCI_DEVID_NOT_OWNED	-1
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID		(1 << 0)
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED	(1 << 1)
#endif

#endif /* _NOIOMMUFD_VFIO_H */
