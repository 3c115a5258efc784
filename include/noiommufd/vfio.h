/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * <linux/vfio.h>, and what that of Linux 7.3 has for a VFIO device's own
 * character device, where the system's is older. A struct that has grown is a
 * new type there, and its usual name is a macro.
 */
#ifndef _NOIOMMUFD_VFIO_H
#define _NOIOMMUFD_VFIO_H

#include <linux/types.h>
#include <linux/vfio.h>

/* Before Linux 6.17: a shorter struct. Before 6.6: none. */
#ifndef VFIO_DEVICE_BIND_FLAG_TOKEN
#define VFIO_DEVICE_BIND_FLAG_TOKEN (1 << 0)
#define vfio_device_bind_iommufd vfio_device_bind_iommufd_7_3

/**
 * struct vfio_device_bind_iommufd - VFIO_DEVICE_BIND_IOMMUFD: take the device.
 * @argsz: size of this struct; 16, without @token_uuid_ptr, is enough
 * @flags: 0, or VFIO_DEVICE_BIND_FLAG_TOKEN, with which @token_uuid_ptr is
 *	valid
 * @iommufd: an open iommufd
 * @out_devid: out: the device's id in that iommufd
 * @token_uuid_ptr: user pointer to 16 bytes, the VF token; a noiommu device has
 *	none, so that any is EINVAL
 *
 * Before this ioctl the file answers no other. The device stays bound until
 * the file is closed.
 */
struct vfio_device_bind_iommufd {
	__u32		argsz;
	__u32		flags;
	__s32		iommufd;
	__u32		out_devid;
	__aligned_u64	token_uuid_ptr;
};
#endif

#ifndef VFIO_DEVICE_BIND_IOMMUFD
#define VFIO_DEVICE_BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)
#endif

/* Before Linux 6.15: a shorter struct. Before 6.6: none. */
#ifndef VFIO_DEVICE_ATTACH_PASID
#define VFIO_DEVICE_ATTACH_PASID (1 << 0)
#define vfio_device_attach_iommufd_pt vfio_device_attach_iommufd_pt_7_3

/**
 * struct vfio_device_attach_iommufd_pt - VFIO_DEVICE_ATTACH_IOMMUFD_PT: give
 * the device an address space.
 * @argsz: size of this struct; 12, without @pasid, is enough
 * @flags: 0, or VFIO_DEVICE_ATTACH_PASID, with which @pasid is valid
 * @pt_id: in: an IOAS or HWPT of the bound iommufd; out: the HWPT
 * @pasid: a noiommu device has none but 0
 */
struct vfio_device_attach_iommufd_pt {
	__u32	argsz;
	__u32	flags;
	__u32	pt_id;
	__u32	pasid;
};
#endif

#ifndef VFIO_DEVICE_ATTACH_IOMMUFD_PT
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 19)
#endif

/* Before Linux 6.15: a shorter struct. Before 6.6: none. */
#ifndef VFIO_DEVICE_DETACH_PASID
#define VFIO_DEVICE_DETACH_PASID (1 << 0)
#define vfio_device_detach_iommufd_pt vfio_device_detach_iommufd_pt_7_3

/**
 * struct vfio_device_detach_iommufd_pt - VFIO_DEVICE_DETACH_IOMMUFD_PT: take
 * the address space away again.
 * @argsz: size of this struct; 8, without @pasid, is enough
 * @flags: 0, or VFIO_DEVICE_DETACH_PASID, with which @pasid is valid
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
#endif

#ifndef VFIO_DEVICE_DETACH_IOMMUFD_PT
#define VFIO_DEVICE_DETACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 20)
#endif

/* Before Linux 6.6: no devid. */
#ifndef VFIO_PCI_DEVID_NOT_OWNED
#define VFIO_PCI_DEVID_OWNED			0
#define VFIO_PCI_DEVID_NOT_OWNED		-1
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID		(1 << 0)
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED	(1 << 1)
#define vfio_pci_dependent_device		vfio_pci_dependent_device_7_3
#define vfio_pci_hot_reset_info			vfio_pci_hot_reset_info_7_3

/**
 * struct vfio_pci_dependent_device - A function that a hot reset hits.
 * @group_id: its group, where the device was opened through its group
 * @devid: its id in the caller's iommufd, where the device was opened through
 *	its own node; VFIO_PCI_DEVID_OWNED: it has none, but may be reset;
 *	VFIO_PCI_DEVID_NOT_OWNED: it may not
 * @segment: its PCI domain
 * @bus: its bus
 * @devfn: its device and function, as of PCI_SLOT() and PCI_FUNC()
 */
struct vfio_pci_dependent_device {
	union {
		__u32	group_id;
		__u32	devid;
	};
	__u16	segment;
	__u8	bus;
	__u8	devfn;
};

/**
 * struct vfio_pci_hot_reset_info - VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: report
 * the functions that a hot reset hits.
 * @argsz: size of this struct with its array
 * @flags: out: VFIO_PCI_HOT_RESET_FLAG_DEV_ID: the array has devids;
 *	VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED: VFIO_DEVICE_PCI_HOT_RESET, with a
 *	count of 0, is allowed
 * @count: out: functions
 * @devices: out: the functions
 *
 * ENOSPC: the array is too small; @count says what is needed. ENODEV: there is
 * no such reset.
 */
struct vfio_pci_hot_reset_info {
	__u32	argsz;
	__u32	flags;
	__u32	count;
	struct vfio_pci_dependent_device devices[];
};
#endif

#endif /* _NOIOMMUFD_VFIO_H */
