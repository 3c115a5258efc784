/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The iommufd UAPI of Linux 7.3: all names, values and layouts of its
 * <linux/iommufd.h>, so that one program can serve devices with and without an
 * IOMMU. Comments say where a noiommu device differs.
 *
 * Include it in place of <linux/iommufd.h>. Included first, it makes that one
 * empty: one that is newer than 7.3 has to come first. Included second, it adds
 * what an older one lacks, judging by the ioctls that are defined. But an enum
 * or a struct that exists cannot be extended, so there
 * - a new constant of an existing enum is a macro of type int;
 * - a struct that has grown, or a type that no macro announces, is a new type,
 *   and its usual name is a macro. A pointer to the older type needs a cast
 *   where the new one is expected.
 *
 * Every struct starts with its own size in bytes; a larger size is accepted
 * while the bytes that the kernel does not know are zero. Common to all ioctls:
 * ENOTTY: the kernel has no such ioctl. E2BIG: the struct has bytes that the
 * kernel does not know and that are not zero. EOPNOTSUPP: a flag or type that
 * it does not support, or a reserved field that is not 0. ENOENT: no such
 * object. EFAULT: a bad pointer. ENOMEM.
 */
#ifndef _NOIOMMUFD_IOMMUFD_H
#define _NOIOMMUFD_IOMMUFD_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Linux 7.3 or later: nothing is lacking. */
#ifndef IOMMU_IOAS_NOIOMMU_GET_PA

#ifndef _IOMMUFD_H
#ifndef _UAPI_IOMMUFD_H
/* A <linux/iommufd.h> that is included later adds nothing. */
#define _IOMMUFD_H
#define _UAPI_IOMMUFD_H
#define _NOIOMMUFD_IOMMUFD_FIRST

#define IOMMUFD_TYPE (';')

enum {
	IOMMUFD_CMD_BASE		= 0x80,
	IOMMUFD_CMD_DESTROY		= IOMMUFD_CMD_BASE,
	IOMMUFD_CMD_IOAS_ALLOC		= 0x81,
	IOMMUFD_CMD_IOAS_ALLOW_IOVAS	= 0x82,
	IOMMUFD_CMD_IOAS_COPY		= 0x83,
	IOMMUFD_CMD_IOAS_IOVA_RANGES	= 0x84,
	IOMMUFD_CMD_IOAS_MAP		= 0x85,
	IOMMUFD_CMD_IOAS_UNMAP		= 0x86,
	IOMMUFD_CMD_OPTION		= 0x87,
	IOMMUFD_CMD_VFIO_IOAS		= 0x88,
};

/**
 * struct iommu_destroy - IOMMU_DESTROY: free an object of this context.
 * @size: sizeof(struct iommu_destroy)
 * @id: an object of any kind
 *
 * ENOENT: no such object. EBUSY: something uses it, or it is a bound device.
 * Destroying an IOAS unmaps and unpins all that it maps.
 */
struct iommu_destroy {
	__u32 size;
	__u32 id;
};

#define IOMMU_DESTROY _IO(IOMMUFD_TYPE, IOMMUFD_CMD_DESTROY)

/**
 * struct iommu_ioas_alloc - IOMMU_IOAS_ALLOC: create an empty IO address space.
 * @size: sizeof(struct iommu_ioas_alloc)
 * @flags: 0
 * @out_ioas_id: out: its id, the lowest that is free, from 1
 */
struct iommu_ioas_alloc {
	__u32 size;
	__u32 flags;
	__u32 out_ioas_id;
};

#define IOMMU_IOAS_ALLOC _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_ALLOC)

/**
 * struct iommu_iova_range - A range of IOVA.
 * @start: first IOVA
 * @last: last IOVA, inclusive
 */
struct iommu_iova_range {
	__aligned_u64 start;
	__aligned_u64 last;
};

/**
 * struct iommu_ioas_iova_ranges - IOMMU_IOAS_IOVA_RANGES: what may be mapped.
 * @size: sizeof(struct iommu_ioas_iova_ranges)
 * @ioas_id: IOAS
 * @num_iovas: in: size of the array @allowed_iovas; out: number of ranges
 * @__reserved: 0
 * @allowed_iovas: user pointer to an array of struct iommu_iova_range
 * @out_iova_alignment: out: alignment that MAP demands, in bytes
 *
 * EMSGSIZE: the array is too small; @num_iovas is the size that is needed. A
 * noiommu IOAS has one range, [0, 2^64 - 1].
 */
struct iommu_ioas_iova_ranges {
	__u32 size;
	__u32 ioas_id;
	__u32 num_iovas;
	__u32 __reserved;
	__aligned_u64 allowed_iovas;
	__aligned_u64 out_iova_alignment;
};

#define IOMMU_IOAS_IOVA_RANGES _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_IOVA_RANGES)

/**
 * struct iommu_ioas_allow_iovas - IOMMU_IOAS_ALLOW_IOVAS: narrow down where
 * the kernel may place a mapping that does not ask for a fixed IOVA.
 * @size: sizeof(struct iommu_ioas_allow_iovas)
 * @ioas_id: IOAS
 * @num_iovas: entries at @allowed_iovas; 0 lifts the limit
 * @__reserved: 0
 * @allowed_iovas: user pointer to an array of struct iommu_iova_range
 *
 * Replaces the earlier list. EINVAL: ranges overlap or are empty.
 */
struct iommu_ioas_allow_iovas {
	__u32 size;
	__u32 ioas_id;
	__u32 num_iovas;
	__u32 __reserved;
	__aligned_u64 allowed_iovas;
};

#define IOMMU_IOAS_ALLOW_IOVAS _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_ALLOW_IOVAS)

/**
 * enum iommufd_ioas_map_flags - Flags of IOAS_MAP, IOAS_MAP_FILE, IOAS_COPY.
 * @IOMMU_IOAS_MAP_FIXED_IOVA: map at the IOVA given; else the kernel chooses
 *	one: noiommufd, unlike Linux 7.3, above all memory, from
 *	0x4000888000000000 on (its parameter iova_base)
 * @IOMMU_IOAS_MAP_WRITEABLE: the device may write
 * @IOMMU_IOAS_MAP_READABLE: the device may read
 */
enum iommufd_ioas_map_flags {
	IOMMU_IOAS_MAP_FIXED_IOVA	= 1 << 0,
	IOMMU_IOAS_MAP_WRITEABLE	= 1 << 1,
	IOMMU_IOAS_MAP_READABLE		= 1 << 2,
};

/**
 * struct iommu_ioas_map - IOMMU_IOAS_MAP: map memory of this process.
 * @size: sizeof(struct iommu_ioas_map)
 * @flags: enum iommufd_ioas_map_flags, at least one of READABLE and WRITEABLE
 * @ioas_id: IOAS
 * @__reserved: 0
 * @user_va: first byte of the memory
 * @length: bytes
 * @iova: in with FIXED_IOVA, else out: where it is mapped
 *
 * The memory is pinned, and charged to RLIMIT_MEMLOCK, at once where the IOAS
 * has an HWPT, else when it gets one. It stays pinned, at the same physical
 * address, until it is unmapped.
 *
 * EINVAL: neither READABLE nor WRITEABLE, @length 0, or not aligned. EOVERFLOW:
 * a range ends beyond 2^64 - 1. EEXIST: something is mapped there. ENOSPC:
 * there is no IOVA left for it. EFAULT: not memory, or read-only. ENOMEM: over
 * RLIMIT_MEMLOCK; or, before Linux 6.6, a huge page in ZONE_MOVABLE.
 * EADDRNOTAVAIL: before Linux 6.6, READABLE alone, a private mapping of
 * hugetlbfs without PROT_WRITE whose page the process would lose at its first
 * write.
 */
struct iommu_ioas_map {
	__u32 size;
	__u32 flags;
	__u32 ioas_id;
	__u32 __reserved;
	__aligned_u64 user_va;
	__aligned_u64 length;
	__aligned_u64 iova;
};

#define IOMMU_IOAS_MAP _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_MAP)

/**
 * struct iommu_ioas_copy - IOMMU_IOAS_COPY: map what is mapped already once
 * more.
 * @size: sizeof(struct iommu_ioas_copy)
 * @flags: enum iommufd_ioas_map_flags
 * @dst_ioas_id: IOAS to map into
 * @src_ioas_id: IOAS to take from
 * @length: bytes
 * @dst_iova: in with FIXED_IOVA, else out
 * @src_iova: first byte at the source
 *
 * The pages are shared: nothing is pinned or charged a second time.
 *
 * ENOENT: not all of it is mapped. EPERM: WRITEABLE, and the source is not.
 * Otherwise as IOMMU_IOAS_MAP.
 */
struct iommu_ioas_copy {
	__u32 size;
	__u32 flags;
	__u32 dst_ioas_id;
	__u32 src_ioas_id;
	__aligned_u64 length;
	__aligned_u64 dst_iova;
	__aligned_u64 src_iova;
};

#define IOMMU_IOAS_COPY _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_COPY)

/**
 * struct iommu_ioas_unmap - IOMMU_IOAS_UNMAP: unmap whole mappings.
 * @size: sizeof(struct iommu_ioas_unmap)
 * @ioas_id: IOAS
 * @iova: first IOVA
 * @length: in: bytes; out: bytes that were unmapped
 *
 * The program says with this that no device uses the memory any more: it is
 * unpinned before the ioctl returns. @iova 0 with @length 2^64 - 1 unmaps all.
 *
 * ENOENT: nothing is mapped there, or only part of a mapping is in the range.
 * EBUSY: another thread is mapping memory there. EINVAL: @length is 0.
 * EOVERFLOW: the range ends beyond 2^64 - 1.
 */
struct iommu_ioas_unmap {
	__u32 size;
	__u32 ioas_id;
	__aligned_u64 iova;
	__aligned_u64 length;
};

#define IOMMU_IOAS_UNMAP _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_UNMAP)

/**
 * enum iommufd_option - What IOMMU_OPTION sets.
 * @IOMMU_OPTION_RLIMIT_MODE: object_id 0; 0 charges the user, 1 the process.
 *	Set it before the first object is made; needs CAP_SYS_RESOURCE.
 * @IOMMU_OPTION_HUGE_PAGES: object_id an IOAS; 0 forbids large mappings
 */
enum iommufd_option {
	IOMMU_OPTION_RLIMIT_MODE	= 0,
	IOMMU_OPTION_HUGE_PAGES		= 1,
};

/**
 * enum iommufd_option_ops - What IOMMU_OPTION does.
 * @IOMMU_OPTION_OP_SET: set the option to val64
 * @IOMMU_OPTION_OP_GET: read it into val64
 */
enum iommufd_option_ops {
	IOMMU_OPTION_OP_SET	= 0,
	IOMMU_OPTION_OP_GET	= 1,
};

/**
 * struct iommu_option - IOMMU_OPTION: read or set an option.
 * @size: sizeof(struct iommu_option)
 * @option_id: enum iommufd_option
 * @op: enum iommufd_option_ops
 * @__reserved: 0
 * @object_id: as the option says
 * @val64: the value
 *
 * EBUSY: objects exist. EPERM: no CAP_SYS_RESOURCE. EINVAL: a value other than
 * 0 and 1; or large mappings are to be forbidden where the IOAS has an HWPT and
 * maps memory. EADDRINUSE: or where a mapping is not page aligned.
 */
struct iommu_option {
	__u32 size;
	__u32 option_id;
	__u16 op;
	__u16 __reserved;
	__u32 object_id;
	__aligned_u64 val64;
};

#define IOMMU_OPTION _IO(IOMMUFD_TYPE, IOMMUFD_CMD_OPTION)

/**
 * enum iommufd_vfio_ioas_op - What IOMMU_VFIO_IOAS does.
 * @IOMMU_VFIO_IOAS_GET: report the compatibility IOAS
 * @IOMMU_VFIO_IOAS_SET: set it
 * @IOMMU_VFIO_IOAS_CLEAR: have none
 */
enum iommufd_vfio_ioas_op {
	IOMMU_VFIO_IOAS_GET	= 0,
	IOMMU_VFIO_IOAS_SET	= 1,
	IOMMU_VFIO_IOAS_CLEAR	= 2,
};

/**
 * struct iommu_vfio_ioas - IOMMU_VFIO_IOAS: the IOAS that VFIO's type1 ioctls
 * on the iommufd work on.
 * @size: sizeof(struct iommu_vfio_ioas)
 * @ioas_id: in for SET, out for GET
 * @op: enum iommufd_vfio_ioas_op
 * @__reserved: 0
 *
 * ENODEV: GET, and there is none.
 */
struct iommu_vfio_ioas {
	__u32 size;
	__u32 ioas_id;
	__u16 op;
	__u16 __reserved;
};

#define IOMMU_VFIO_IOAS _IO(IOMMUFD_TYPE, IOMMUFD_CMD_VFIO_IOAS)

#endif /* _UAPI_IOMMUFD_H */
#endif /* _IOMMUFD_H */

#ifndef _NOIOMMUFD_IOMMUFD_FIRST
/*
 * After an older <linux/iommufd.h>: types that it has shorter, and ones that it
 * may or may not have.
 */
#ifndef IOMMU_FAULT_QUEUE_ALLOC
#define iommu_hwpt_alloc		iommu_hwpt_alloc_7_3
#endif
#ifndef IOMMU_VIOMMU_ALLOC
#define iommu_hwpt_arm_smmuv3		iommu_hwpt_arm_smmuv3_7_3
#define iommu_hw_info_arm_smmuv3	iommu_hw_info_arm_smmuv3_7_3
#define iommu_viommu_arm_smmuv3_invalidate \
	iommu_viommu_arm_smmuv3_invalidate_7_3
#endif
#ifndef IOMMU_HW_QUEUE_ALLOC
#define iommu_hw_info			iommu_hw_info_7_3
#define iommufd_hw_info_flags		iommufd_hw_info_flags_7_3
#define IOMMU_HW_INFO_FLAG_INPUT_TYPE	IOMMU_HW_INFO_FLAG_INPUT_TYPE_7_3
#define iommu_hw_info_tegra241_cmdqv	iommu_hw_info_tegra241_cmdqv_7_3
#define iommu_viommu_alloc		iommu_viommu_alloc_7_3
#define iommu_viommu_tegra241_cmdqv	iommu_viommu_tegra241_cmdqv_7_3
#define iommu_vevent_tegra241_cmdqv	iommu_vevent_tegra241_cmdqv_7_3
#endif
#define iommu_hwpt_amd_guest		iommu_hwpt_amd_guest_7_3
#define iommu_hw_info_amd		iommu_hw_info_amd_7_3
#define iommu_hw_info_arm_smmuv3_flags	iommu_hw_info_arm_smmuv3_flags_7_3
#define IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI \
	IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI_7_3
#endif /* _NOIOMMUFD_IOMMUFD_FIRST */

/* Linux 6.7 */
#ifndef IOMMU_HWPT_SET_DIRTY_TRACKING
/**
 * enum iommufd_hwpt_alloc_flags - Flags of IOMMU_HWPT_ALLOC.
 * @IOMMU_HWPT_ALLOC_NEST_PARENT: other HWPTs can be nested in it; EOPNOTSUPP
 *	for a noiommu device
 * @IOMMU_HWPT_ALLOC_DIRTY_TRACKING: attach only devices whose writes can be
 *	tracked; EOPNOTSUPP for a noiommu device
 * @IOMMU_HWPT_FAULT_ID_VALID: fault_id is a fault queue
 * @IOMMU_HWPT_ALLOC_PASID: can be attached to a PASID; EOPNOTSUPP for a noiommu
 *	device
 */
enum iommufd_hwpt_alloc_flags {
	IOMMU_HWPT_ALLOC_NEST_PARENT	= 1 << 0,
	IOMMU_HWPT_ALLOC_DIRTY_TRACKING	= 1 << 1,
	IOMMU_HWPT_FAULT_ID_VALID	= 1 << 2,
	IOMMU_HWPT_ALLOC_PASID		= 1 << 3,
};

/**
 * enum iommu_hwpt_vtd_s1_flags - Bits of a VT-d first-stage page table.
 * @IOMMU_VTD_S1_SRE: supervisor requests are allowed
 * @IOMMU_VTD_S1_EAFE: the extended accessed flag is in use
 * @IOMMU_VTD_S1_WPE: write protection also holds for supervisor requests
 */
enum iommu_hwpt_vtd_s1_flags {
	IOMMU_VTD_S1_SRE	= 1 << 0,
	IOMMU_VTD_S1_EAFE	= 1 << 1,
	IOMMU_VTD_S1_WPE	= 1 << 2,
};

/**
 * struct iommu_hwpt_vtd_s1 - IOMMU_HWPT_DATA_VTD_S1: a guest's page table.
 * @flags: enum iommu_hwpt_vtd_s1_flags
 * @pgtbl_addr: guest-physical address of its root
 * @addr_width: bits of an address that it translates
 * @__reserved: 0
 */
struct iommu_hwpt_vtd_s1 {
	__aligned_u64 flags;
	__aligned_u64 pgtbl_addr;
	__u32 addr_width;
	__u32 __reserved;
};

/**
 * enum iommu_hwpt_data_type - What iommu_hwpt_alloc::data_uptr points to.
 * @IOMMU_HWPT_DATA_NONE: nothing; the only type for a noiommu device
 * @IOMMU_HWPT_DATA_VTD_S1: struct iommu_hwpt_vtd_s1
 * @IOMMU_HWPT_DATA_ARM_SMMUV3: struct iommu_hwpt_arm_smmuv3
 * @IOMMU_HWPT_DATA_AMD_GUEST: struct iommu_hwpt_amd_guest
 */
enum iommu_hwpt_data_type {
	IOMMU_HWPT_DATA_NONE		= 0,
	IOMMU_HWPT_DATA_VTD_S1		= 1,
	IOMMU_HWPT_DATA_ARM_SMMUV3	= 2,
	IOMMU_HWPT_DATA_AMD_GUEST	= 3,
};

/**
 * enum iommu_hw_info_vtd_flags - What to mind with a VT-d IOMMU.
 * @IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17: erratum 772415: map nothing read-only
 *	in an HWPT that others are nested in
 */
enum iommu_hw_info_vtd_flags {
	IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17	= 1 << 0,
};

/**
 * enum iommufd_hw_capabilities - What an IOMMU can do for a device.
 * @IOMMU_HW_CAP_DIRTY_TRACKING: track the device's writes
 * @IOMMU_HW_CAP_PCI_PASID_EXEC: requests with a PASID may ask to execute
 * @IOMMU_HW_CAP_PCI_PASID_PRIV: requests with a PASID may be privileged
 * @IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED: the device cannot use ATS here
 */
enum iommufd_hw_capabilities {
	IOMMU_HW_CAP_DIRTY_TRACKING		= 1 << 0,
	IOMMU_HW_CAP_PCI_PASID_EXEC		= 1 << 1,
	IOMMU_HW_CAP_PCI_PASID_PRIV		= 1 << 2,
	IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED	= 1 << 3,
};
#endif

/* Linux 6.13 */
#ifndef IOMMU_VIOMMU_ALLOC
/**
 * struct iommu_hwpt_arm_smmuv3 - IOMMU_HWPT_DATA_ARM_SMMUV3: a guest's stream
 * table entry.
 * @ste: its first 16 bytes, little-endian; EIO: they set what a guest may not
 */
struct iommu_hwpt_arm_smmuv3 {
	__aligned_le64 ste[2];
};

/**
 * struct iommu_hw_info_arm_smmuv3 - IOMMU_HW_INFO_TYPE_ARM_SMMUV3: an SMMUv3.
 * @flags: enum iommu_hw_info_arm_smmuv3_flags
 * @__reserved: 0
 * @idr: its registers IDR0 to IDR5, as they are: that a bit is set there does
 *	not mean the kernel supports the feature for a guest
 * @iidr: its register IIDR
 * @aidr: its register AIDR
 */
struct iommu_hw_info_arm_smmuv3 {
	__u32 flags;
	__u32 __reserved;
	__u32 idr[6];
	__u32 iidr;
	__u32 aidr;
};

/**
 * struct iommu_viommu_arm_smmuv3_invalidate - A guest's SMMU command, for
 * IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3.
 * @cmd: the command, little-endian; EIO: none that a guest may give
 */
struct iommu_viommu_arm_smmuv3_invalidate {
	__aligned_le64 cmd[2];
};
#endif

/* No macro announces these. */
/**
 * struct iommu_hwpt_amd_guest - IOMMU_HWPT_DATA_AMD_GUEST: a guest's device
 * table entry.
 * @dte: the entry
 */
struct iommu_hwpt_amd_guest {
	__aligned_u64 dte[4];
};

/**
 * struct iommu_hw_info_amd - IOMMU_HW_INFO_TYPE_AMD: an AMD IOMMU.
 * @efr: its extended feature register, as it is: that a bit is set there does
 *	not mean the kernel supports the feature for a guest
 * @efr2: its extended feature register 2, likewise
 */
struct iommu_hw_info_amd {
	__aligned_u64 efr;
	__aligned_u64 efr2;
};

/**
 * enum iommu_hw_info_arm_smmuv3_flags - What to mind with an SMMUv3.
 * @IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI: give each TLBI and CFGI
 *	command, with the SYNC that follows, twice
 */
enum iommu_hw_info_arm_smmuv3_flags {
	IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI	= 1 << 0,
};

/* Linux 6.6, the struct as of 6.11 */
#ifndef IOMMU_FAULT_QUEUE_ALLOC
/**
 * struct iommu_hwpt_alloc - IOMMU_HWPT_ALLOC: create an HWPT explicitly.
 * @size: sizeof(struct iommu_hwpt_alloc)
 * @flags: enum iommufd_hwpt_alloc_flags
 * @dev_id: a bound device
 * @pt_id: an IOAS; for a nested HWPT, its parent or a vIOMMU
 * @out_hwpt_id: out: id of the HWPT
 * @__reserved: 0
 * @data_type: enum iommu_hwpt_data_type
 * @data_len: bytes at @data_uptr, 0 for IOMMU_HWPT_DATA_NONE
 * @data_uptr: user pointer to the struct of that type
 * @fault_id: a fault queue, in which faults of a noiommu device never show up
 * @__reserved2: 0
 *
 * An HWPT is what a device is attached to: its IOAS's mappings as a page table
 * of the IOMMU or, nested, a guest's page table on top of that. A noiommu
 * device supports neither @data_type nor a flag other than
 * IOMMU_HWPT_FAULT_ID_VALID.
 */
struct iommu_hwpt_alloc {
	__u32 size;
	__u32 flags;
	__u32 dev_id;
	__u32 pt_id;
	__u32 out_hwpt_id;
	__u32 __reserved;
	__u32 data_type;
	__u32 data_len;
	__aligned_u64 data_uptr;
	__u32 fault_id;
	__u32 __reserved2;
};
#endif

#ifndef IOMMU_HWPT_ALLOC
enum {
	IOMMUFD_CMD_HWPT_ALLOC	= 0x89,
};

#define IOMMU_HWPT_ALLOC _IO(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_ALLOC)
#endif

/* Linux 6.17 */
#ifndef IOMMU_HW_QUEUE_ALLOC
/**
 * struct iommu_hw_info_tegra241_cmdqv - IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV: the
 * command queue virtualisation of a Tegra241.
 * @flags: 0
 * @version: of the hardware
 * @log2vcmdqs: log2 of how many virtual command queues a vIOMMU has
 * @log2vsids: log2 of how many stream ids can be replaced
 * @__reserved: 0
 */
struct iommu_hw_info_tegra241_cmdqv {
	__u32 flags;
	__u8 version;
	__u8 log2vcmdqs;
	__u8 log2vsids;
	__u8 __reserved;
};

/**
 * enum iommufd_hw_info_flags - Flags of IOMMU_GET_HW_INFO.
 * @IOMMU_HW_INFO_FLAG_INPUT_TYPE: in_data_type is the type to report
 */
enum iommufd_hw_info_flags {
	IOMMU_HW_INFO_FLAG_INPUT_TYPE	= 1 << 0,
};

/**
 * struct iommu_hw_info - IOMMU_GET_HW_INFO: report the IOMMU of a device.
 * @size: sizeof(struct iommu_hw_info)
 * @flags: enum iommufd_hw_info_flags
 * @dev_id: a bound device
 * @data_len: in: room at @data_uptr, in bytes; out: bytes that the kernel has
 * @data_uptr: user pointer to where the struct of the type goes; what is left
 *	of the room is zeroed
 * @in_data_type: enum iommu_hw_info_type; ignored without
 *	IOMMU_HW_INFO_FLAG_INPUT_TYPE
 * @out_data_type: out: enum iommu_hw_info_type
 * @out_max_pasid_log2: out: bits of a PASID, 0 if the device can have none
 * @__reserved: 0
 * @out_capabilities: out: enum iommufd_hw_capabilities
 *
 * EOPNOTSUPP: a noiommu device.
 */
struct iommu_hw_info {
	__u32 size;
	__u32 flags;
	__u32 dev_id;
	__u32 data_len;
	__aligned_u64 data_uptr;
	union {
		__u32 in_data_type;
		__u32 out_data_type;
	};
	__u8 out_max_pasid_log2;
	__u8 __reserved[3];
	__aligned_u64 out_capabilities;
};

/**
 * struct iommu_viommu_tegra241_cmdqv - IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV: where
 * the registers of its virtual command queues are.
 * @out_vintf_mmap_offset: out: offset to mmap() at the iommufd, in bytes
 * @out_vintf_mmap_length: out: bytes to mmap()
 */
struct iommu_viommu_tegra241_cmdqv {
	__aligned_u64 out_vintf_mmap_offset;
	__aligned_u64 out_vintf_mmap_length;
};

/**
 * struct iommu_viommu_alloc - IOMMU_VIOMMU_ALLOC: create a vIOMMU, a guest's
 * share of an IOMMU.
 * @size: sizeof(struct iommu_viommu_alloc)
 * @flags: 0
 * @type: enum iommu_viommu_type, not 0
 * @dev_id: a bound device; its IOMMU is the one to share
 * @hwpt_id: an HWPT made with IOMMU_HWPT_ALLOC_NEST_PARENT
 * @out_viommu_id: out: id of the vIOMMU
 * @data_len: bytes at @data_uptr
 * @__reserved: 0
 * @data_uptr: user pointer to the struct of the type, if it has one
 *
 * EOPNOTSUPP: a noiommu device.
 */
struct iommu_viommu_alloc {
	__u32 size;
	__u32 flags;
	__u32 type;
	__u32 dev_id;
	__u32 hwpt_id;
	__u32 out_viommu_id;
	__u32 data_len;
	__u32 __reserved;
	__aligned_u64 data_uptr;
};

/**
 * struct iommu_vevent_tegra241_cmdqv - IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV:
 * errors of virtual command queues.
 * @lvcmdq_err_map: a bit for each queue that has one, little-endian
 */
struct iommu_vevent_tegra241_cmdqv {
	__aligned_le64 lvcmdq_err_map[2];
};
#endif

/* Linux 6.6 */
#ifndef IOMMU_GET_HW_INFO
enum {
	IOMMUFD_CMD_GET_HW_INFO	= 0x8a,
};

/**
 * struct iommu_hw_info_vtd - IOMMU_HW_INFO_TYPE_INTEL_VTD: a VT-d IOMMU.
 * @flags: enum iommu_hw_info_vtd_flags
 * @__reserved: 0
 * @cap_reg: its capability register
 * @ecap_reg: its extended capability register
 */
struct iommu_hw_info_vtd {
	__u32 flags;
	__u32 __reserved;
	__aligned_u64 cap_reg;
	__aligned_u64 ecap_reg;
};

/**
 * enum iommu_hw_info_type - What iommu_hw_info::data_uptr points to.
 * @IOMMU_HW_INFO_TYPE_NONE: out: nothing
 * @IOMMU_HW_INFO_TYPE_DEFAULT: in: the type that fits the IOMMU
 * @IOMMU_HW_INFO_TYPE_INTEL_VTD: struct iommu_hw_info_vtd
 * @IOMMU_HW_INFO_TYPE_ARM_SMMUV3: struct iommu_hw_info_arm_smmuv3
 * @IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV: struct iommu_hw_info_tegra241_cmdqv
 * @IOMMU_HW_INFO_TYPE_AMD: struct iommu_hw_info_amd
 */
enum iommu_hw_info_type {
	IOMMU_HW_INFO_TYPE_NONE			= 0,
	IOMMU_HW_INFO_TYPE_DEFAULT		= 0,
	IOMMU_HW_INFO_TYPE_INTEL_VTD		= 1,
	IOMMU_HW_INFO_TYPE_ARM_SMMUV3		= 2,
	IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV	= 3,
	IOMMU_HW_INFO_TYPE_AMD			= 4,
};

#define IOMMU_GET_HW_INFO _IO(IOMMUFD_TYPE, IOMMUFD_CMD_GET_HW_INFO)
#endif

/* Linux 6.7 */
#ifndef IOMMU_HWPT_SET_DIRTY_TRACKING
enum {
	IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING	= 0x8b,
};

/**
 * enum iommufd_hwpt_set_dirty_tracking_flags - Flags of
 * IOMMU_HWPT_SET_DIRTY_TRACKING.
 * @IOMMU_HWPT_DIRTY_TRACKING_ENABLE: start; else stop
 */
enum iommufd_hwpt_set_dirty_tracking_flags {
	IOMMU_HWPT_DIRTY_TRACKING_ENABLE	= 1,
};

/**
 * struct iommu_hwpt_set_dirty_tracking - IOMMU_HWPT_SET_DIRTY_TRACKING: start
 * or stop recording what devices write.
 * @size: sizeof(struct iommu_hwpt_set_dirty_tracking)
 * @flags: enum iommufd_hwpt_set_dirty_tracking_flags
 * @hwpt_id: HWPT
 * @__reserved: 0
 *
 * EOPNOTSUPP: the HWPT of a noiommu device.
 */
struct iommu_hwpt_set_dirty_tracking {
	__u32 size;
	__u32 flags;
	__u32 hwpt_id;
	__u32 __reserved;
};

#define IOMMU_HWPT_SET_DIRTY_TRACKING \
	_IO(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING)
#endif

#ifndef IOMMU_HWPT_GET_DIRTY_BITMAP
enum {
	IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP	= 0x8c,
};

/**
 * enum iommufd_hwpt_get_dirty_bitmap_flags - Flags of
 * IOMMU_HWPT_GET_DIRTY_BITMAP.
 * @IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR: the next read reports the same once
 *	more
 */
enum iommufd_hwpt_get_dirty_bitmap_flags {
	IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR	= 1,
};

/**
 * struct iommu_hwpt_get_dirty_bitmap - IOMMU_HWPT_GET_DIRTY_BITMAP: report what
 * devices have written.
 * @size: sizeof(struct iommu_hwpt_get_dirty_bitmap)
 * @hwpt_id: HWPT
 * @flags: enum iommufd_hwpt_get_dirty_bitmap_flags
 * @__reserved: 0
 * @iova: first IOVA
 * @length: bytes
 * @page_size: bytes that a bit stands for
 * @data: user pointer to an array of __u64; bit n, counted from bit 0 of the
 *	first, is for @iova + n * @page_size
 *
 * EOPNOTSUPP: the HWPT of a noiommu device.
 */
struct iommu_hwpt_get_dirty_bitmap {
	__u32 size;
	__u32 hwpt_id;
	__u32 flags;
	__u32 __reserved;
	__aligned_u64 iova;
	__aligned_u64 length;
	__aligned_u64 page_size;
	__aligned_u64 data;
};

#define IOMMU_HWPT_GET_DIRTY_BITMAP \
	_IO(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP)
#endif

/* Linux 6.8 */
#ifndef IOMMU_HWPT_INVALIDATE
enum {
	IOMMUFD_CMD_HWPT_INVALIDATE	= 0x8d,
};

/**
 * enum iommu_hwpt_invalidate_data_type - What iommu_hwpt_invalidate::data_uptr
 * points to.
 * @IOMMU_HWPT_INVALIDATE_DATA_VTD_S1: struct iommu_hwpt_vtd_s1_invalidate
 * @IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3: struct
 *	iommu_viommu_arm_smmuv3_invalidate
 */
enum iommu_hwpt_invalidate_data_type {
	IOMMU_HWPT_INVALIDATE_DATA_VTD_S1	= 0,
	IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3	= 1,
};

/**
 * enum iommu_hwpt_vtd_s1_invalidate_flags - Flags of struct
 * iommu_hwpt_vtd_s1_invalidate.
 * @IOMMU_VTD_INV_FLAGS_LEAF: only last-level entries have changed
 */
enum iommu_hwpt_vtd_s1_invalidate_flags {
	IOMMU_VTD_INV_FLAGS_LEAF	= 1 << 0,
};

/**
 * struct iommu_hwpt_vtd_s1_invalidate - IOMMU_HWPT_INVALIDATE_DATA_VTD_S1: part
 * of a guest's page table that has changed.
 * @addr: first address, a multiple of 4 KiB
 * @npages: pages of 4 KiB; 2^64 - 1, with @addr 0, for all of it
 * @flags: enum iommu_hwpt_vtd_s1_invalidate_flags
 * @__reserved: 0
 */
struct iommu_hwpt_vtd_s1_invalidate {
	__aligned_u64 addr;
	__aligned_u64 npages;
	__u32 flags;
	__u32 __reserved;
};

/**
 * struct iommu_hwpt_invalidate - IOMMU_HWPT_INVALIDATE: have an IOMMU forget
 * what it caches.
 * @size: sizeof(struct iommu_hwpt_invalidate)
 * @hwpt_id: a nested HWPT, or a vIOMMU
 * @data_uptr: user pointer to an array
 * @data_type: enum iommu_hwpt_invalidate_data_type: what it is an array of
 * @entry_len: bytes of an entry
 * @entry_num: in: entries, 0 to find out whether @data_type is supported; out:
 *	entries that were dealt with, also after an error
 * @__reserved: 0
 *
 * EINVAL: any other HWPT; so without an IOMMU always.
 */
struct iommu_hwpt_invalidate {
	__u32 size;
	__u32 hwpt_id;
	__aligned_u64 data_uptr;
	__u32 data_type;
	__u32 entry_len;
	__u32 entry_num;
	__u32 __reserved;
};

#define IOMMU_HWPT_INVALIDATE _IO(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_INVALIDATE)
#endif

/* Linux 6.11 */
#ifndef IOMMU_FAULT_QUEUE_ALLOC
enum {
	IOMMUFD_CMD_FAULT_QUEUE_ALLOC	= 0x8e,
};

/**
 * enum iommu_hwpt_pgfault_flags - Flags of struct iommu_hwpt_pgfault.
 * @IOMMU_PGFAULT_FLAGS_PASID_VALID: pasid says which one faulted
 * @IOMMU_PGFAULT_FLAGS_LAST_PAGE: the last one of its group
 */
enum iommu_hwpt_pgfault_flags {
	IOMMU_PGFAULT_FLAGS_PASID_VALID	= 1 << 0,
	IOMMU_PGFAULT_FLAGS_LAST_PAGE	= 1 << 1,
};

/**
 * enum iommu_hwpt_pgfault_perm - What a device that faulted asks for.
 * @IOMMU_PGFAULT_PERM_READ: to read
 * @IOMMU_PGFAULT_PERM_WRITE: to write
 * @IOMMU_PGFAULT_PERM_EXEC: to execute
 * @IOMMU_PGFAULT_PERM_PRIV: as a privileged one
 */
enum iommu_hwpt_pgfault_perm {
	IOMMU_PGFAULT_PERM_READ		= 1 << 0,
	IOMMU_PGFAULT_PERM_WRITE	= 1 << 1,
	IOMMU_PGFAULT_PERM_EXEC		= 1 << 2,
	IOMMU_PGFAULT_PERM_PRIV		= 1 << 3,
};

/**
 * struct iommu_hwpt_pgfault - A page fault, as read from a fault queue.
 * @flags: enum iommu_hwpt_pgfault_flags
 * @dev_id: the device that faulted
 * @pasid: its PASID, with IOMMU_PGFAULT_FLAGS_PASID_VALID
 * @grpid: PCI's index of the group of requests
 * @perm: enum iommu_hwpt_pgfault_perm
 * @__reserved: 0
 * @addr: the address
 * @length: bytes that the device may want from there on, 0 if it does not say
 * @cookie: what the response to the last fault of the group has to name
 */
struct iommu_hwpt_pgfault {
	__u32 flags;
	__u32 dev_id;
	__u32 pasid;
	__u32 grpid;
	__u32 perm;
	__u32 __reserved;
	__aligned_u64 addr;
	__u32 length;
	__u32 cookie;
};

/**
 * enum iommufd_page_response_code - What became of a group of faults.
 * @IOMMUFD_PAGE_RESP_SUCCESS: the pages are there now; the device tries again
 * @IOMMUFD_PAGE_RESP_INVALID: the device may not have them
 */
enum iommufd_page_response_code {
	IOMMUFD_PAGE_RESP_SUCCESS	= 0,
	IOMMUFD_PAGE_RESP_INVALID	= 1,
};

/**
 * struct iommu_hwpt_page_response - The answer, as written to a fault queue.
 * @cookie: iommu_hwpt_pgfault::cookie; EINVAL: no fault with that one is
 *	pending
 * @code: enum iommufd_page_response_code
 */
struct iommu_hwpt_page_response {
	__u32 cookie;
	__u32 code;
};

/**
 * struct iommu_fault_alloc - IOMMU_FAULT_QUEUE_ALLOC: create a fault queue.
 * @size: sizeof(struct iommu_fault_alloc)
 * @flags: 0
 * @out_fault_id: out: its id
 * @out_fault_fd: out: a file: read() faults from it, write() responses to it.
 *	Faults of a noiommu device never show up.
 *
 * The queue cannot be destroyed while the file is open.
 */
struct iommu_fault_alloc {
	__u32 size;
	__u32 flags;
	__u32 out_fault_id;
	__u32 out_fault_fd;
};

#define IOMMU_FAULT_QUEUE_ALLOC \
	_IO(IOMMUFD_TYPE, IOMMUFD_CMD_FAULT_QUEUE_ALLOC)
#endif

/* Linux 6.13 */
#ifndef IOMMU_IOAS_MAP_FILE
enum {
	IOMMUFD_CMD_IOAS_MAP_FILE	= 0x8f,
};

/**
 * struct iommu_ioas_map_file - IOMMU_IOAS_MAP_FILE: map memory of a file.
 * @size: sizeof(struct iommu_ioas_map_file)
 * @flags: as of struct iommu_ioas_map
 * @ioas_id: IOAS
 * @fd: a memfd, or another file of tmpfs or hugetlbfs
 * @start: offset in the file, in bytes
 * @length: bytes
 * @iova: in with FIXED_IOVA, else out
 *
 * As IOMMU_IOAS_MAP, but of no process's memory: it can be handed over to
 * another one with IOMMU_IOAS_CHANGE_PROCESS. EINVAL: another kind of file, or
 * beyond its end. EACCES: WRITEABLE and the file is not open for writing.
 * EPERM: WRITEABLE and a seal forbids it.
 */
struct iommu_ioas_map_file {
	__u32 size;
	__u32 flags;
	__u32 ioas_id;
	__s32 fd;
	__aligned_u64 start;
	__aligned_u64 length;
	__aligned_u64 iova;
};

#define IOMMU_IOAS_MAP_FILE _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_MAP_FILE)
#endif

#ifndef IOMMU_VIOMMU_ALLOC
enum {
	IOMMUFD_CMD_VIOMMU_ALLOC	= 0x90,
};

/**
 * enum iommu_viommu_type - Kinds of vIOMMU.
 * @IOMMU_VIOMMU_TYPE_DEFAULT: none yet
 * @IOMMU_VIOMMU_TYPE_ARM_SMMUV3: SMMUv3
 * @IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV: SMMUv3 of a Tegra241, with virtual command
 *	queues; see struct iommu_viommu_tegra241_cmdqv. The guest's VINTF_CONFIG
 *	has to read HYP_OWN as 0.
 */
enum iommu_viommu_type {
	IOMMU_VIOMMU_TYPE_DEFAULT		= 0,
	IOMMU_VIOMMU_TYPE_ARM_SMMUV3		= 1,
	IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV	= 2,
};

#define IOMMU_VIOMMU_ALLOC _IO(IOMMUFD_TYPE, IOMMUFD_CMD_VIOMMU_ALLOC)
#endif

#ifndef IOMMU_VDEVICE_ALLOC
enum {
	IOMMUFD_CMD_VDEVICE_ALLOC	= 0x91,
};

/**
 * struct iommu_vdevice_alloc - IOMMU_VDEVICE_ALLOC: add a device to a vIOMMU.
 * @size: sizeof(struct iommu_vdevice_alloc)
 * @viommu_id: vIOMMU
 * @dev_id: a bound device, behind the same IOMMU
 * @out_vdevice_id: out: id of the device in that vIOMMU; destroy it before the
 *	device's file is closed
 * @virt_id: how the guest calls the device: its stream id or requester id
 *
 * ENOENT: without an IOMMU always, as there are no vIOMMUs.
 */
struct iommu_vdevice_alloc {
	__u32 size;
	__u32 viommu_id;
	__u32 dev_id;
	__u32 out_vdevice_id;
	__aligned_u64 virt_id;
};

#define IOMMU_VDEVICE_ALLOC _IO(IOMMUFD_TYPE, IOMMUFD_CMD_VDEVICE_ALLOC)
#endif

/* Linux 6.14 */
#ifndef IOMMU_IOAS_CHANGE_PROCESS
enum {
	IOMMUFD_CMD_IOAS_CHANGE_PROCESS	= 0x92,
};

/**
 * struct iommu_ioas_change_process - IOMMU_IOAS_CHANGE_PROCESS: charge all that
 * the context maps to the calling process.
 * @size: sizeof(struct iommu_ioas_change_process)
 * @__reserved: 0
 *
 * EINVAL: not all of it is mapped by IOMMU_IOAS_MAP_FILE. ENOMEM: over the
 * caller's RLIMIT_MEMLOCK. EBUSY: something is being mapped. On failure nothing
 * has changed.
 */
struct iommu_ioas_change_process {
	__u32 size;
	__u32 __reserved;
};

#define IOMMU_IOAS_CHANGE_PROCESS \
	_IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_CHANGE_PROCESS)
#endif

/* Linux 6.15 */
#ifndef IOMMU_VEVENTQ_ALLOC
enum {
	IOMMUFD_CMD_VEVENTQ_ALLOC	= 0x93,
};

/**
 * enum iommu_veventq_flag - Flags of struct iommufd_vevent_header.
 * @IOMMU_VEVENTQ_FLAG_LOST_EVENTS: events were lost; no data follows
 */
enum iommu_veventq_flag {
	IOMMU_VEVENTQ_FLAG_LOST_EVENTS	= 1U << 0,
};

/**
 * struct iommufd_vevent_header - What precedes each event in a queue.
 * @flags: enum iommu_veventq_flag
 * @sequence: number of the event, from 0 to 2^31 - 1 and again from 0; numbers
 *	that are left out were lost
 */
struct iommufd_vevent_header {
	__u32 flags;
	__u32 sequence;
};

/**
 * enum iommu_veventq_type - What events in a queue are.
 * @IOMMU_VEVENTQ_TYPE_DEFAULT: none yet
 * @IOMMU_VEVENTQ_TYPE_ARM_SMMUV3: struct iommu_vevent_arm_smmuv3
 * @IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV: struct iommu_vevent_tegra241_cmdqv
 */
enum iommu_veventq_type {
	IOMMU_VEVENTQ_TYPE_DEFAULT		= 0,
	IOMMU_VEVENTQ_TYPE_ARM_SMMUV3		= 1,
	IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV	= 2,
};

/**
 * struct iommu_vevent_arm_smmuv3 - IOMMU_VEVENTQ_TYPE_ARM_SMMUV3: an event
 * record for the guest.
 * @evt: the record, little-endian; its stream id is
 *	iommu_vdevice_alloc::virt_id
 */
struct iommu_vevent_arm_smmuv3 {
	__aligned_le64 evt[4];
};

/**
 * struct iommu_veventq_alloc - IOMMU_VEVENTQ_ALLOC: create a queue of events of
 * a vIOMMU.
 * @size: sizeof(struct iommu_veventq_alloc)
 * @flags: 0
 * @viommu_id: vIOMMU; it can have one queue of each type
 * @type: enum iommu_veventq_type, not 0
 * @veventq_depth: events that it holds, 1 to 2^19; more are lost
 * @out_veventq_id: out: id of the queue
 * @out_veventq_fd: out: a file: read() events from it, each of them a struct
 *	iommufd_vevent_header and the struct of the type
 * @__reserved: 0
 *
 * ENOENT: without an IOMMU always, as there are no vIOMMUs.
 */
struct iommu_veventq_alloc {
	__u32 size;
	__u32 flags;
	__u32 viommu_id;
	__u32 type;
	__u32 veventq_depth;
	__u32 out_veventq_id;
	__u32 out_veventq_fd;
	__u32 __reserved;
};

#define IOMMU_VEVENTQ_ALLOC _IO(IOMMUFD_TYPE, IOMMUFD_CMD_VEVENTQ_ALLOC)
#endif

/* Linux 6.17 */
#ifndef IOMMU_HW_QUEUE_ALLOC
enum {
	IOMMUFD_CMD_HW_QUEUE_ALLOC	= 0x94,
};

/**
 * enum iommu_hw_queue_type - Kinds of queues that hardware reads.
 * @IOMMU_HW_QUEUE_TYPE_DEFAULT: none yet
 * @IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV: a virtual command queue of a Tegra241.
 *	Create them by ascending index from 0, destroy them the other way round.
 *	The length is a power of 2 from 32 bytes on, up to what the SMMU's IDR1
 *	allows, and the address a multiple of it; the memory has to be
 *	physically contiguous.
 */
enum iommu_hw_queue_type {
	IOMMU_HW_QUEUE_TYPE_DEFAULT		= 0,
	IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV	= 1,
};

/**
 * struct iommu_hw_queue_alloc - IOMMU_HW_QUEUE_ALLOC: let a vIOMMU's hardware
 * read a queue in guest memory.
 * @size: sizeof(struct iommu_hw_queue_alloc)
 * @flags: 0
 * @viommu_id: vIOMMU
 * @type: enum iommu_hw_queue_type, not 0
 * @index: which queue of that type it is to be
 * @out_hw_queue_id: out: id of the queue
 * @nesting_parent_iova: where it is, as an IOVA of the vIOMMU's HWPT
 * @length: bytes, not 0
 *
 * ENOENT: without an IOMMU always, as there are no vIOMMUs.
 */
struct iommu_hw_queue_alloc {
	__u32 size;
	__u32 flags;
	__u32 viommu_id;
	__u32 type;
	__u32 index;
	__u32 out_hw_queue_id;
	__aligned_u64 nesting_parent_iova;
	__aligned_u64 length;
};

#define IOMMU_HW_QUEUE_ALLOC _IO(IOMMUFD_TYPE, IOMMUFD_CMD_HW_QUEUE_ALLOC)
#endif

/* Linux 7.3 */
enum {
	IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA	= 0x95,
};

/**
 * struct iommu_ioas_noiommu_get_pa - IOMMU_IOAS_NOIOMMU_GET_PA: the physical
 * address behind an IOVA.
 * @size: sizeof(struct iommu_ioas_noiommu_get_pa)
 * @flags: 0
 * @ioas_id: IOAS
 * @__reserved: 0
 * @iova: where to look
 * @length: in: how far to look at most, in bytes, not 0; out: bytes that are
 *	physically contiguous from @out_phys, at most what was asked for. Never
 *	reaches into another mapping.
 * @out_phys: out: physical address of @iova
 *
 * EPERM: no CAP_SYS_RAWIO. EINVAL: @length is 0. EOVERFLOW: @iova is 2^64 - 1.
 * ENOENT: no such IOAS, or nothing mapped at @iova. EOPNOTSUPP: flags, or the
 * IOAS has no HWPT: attach a device first.
 */
struct iommu_ioas_noiommu_get_pa {
	__u32 size;
	__u32 flags;
	__u32 ioas_id;
	__u32 __reserved;
	__aligned_u64 iova;
	__aligned_u64 length;
	__aligned_u64 out_phys;
};

#define IOMMU_IOAS_NOIOMMU_GET_PA \
	_IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA)

#ifndef _NOIOMMUFD_IOMMUFD_FIRST
/* Constants that an older enum may or may not have. */
#define IOMMU_HWPT_FAULT_ID_VALID		(1 << 2)
#define IOMMU_HWPT_ALLOC_PASID			(1 << 3)
#define IOMMU_HWPT_DATA_ARM_SMMUV3		2
#define IOMMU_HWPT_DATA_AMD_GUEST		3
#define IOMMU_HW_INFO_TYPE_DEFAULT		0
#define IOMMU_HW_INFO_TYPE_ARM_SMMUV3		2
#define IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV	3
#define IOMMU_HW_INFO_TYPE_AMD			4
#define IOMMU_HW_CAP_PCI_PASID_EXEC		(1 << 1)
#define IOMMU_HW_CAP_PCI_PASID_PRIV		(1 << 2)
#define IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED	(1 << 3)
#define IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3	1
#define IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV	2
#define IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV	2
#endif

#endif /* IOMMU_IOAS_NOIOMMU_GET_PA */
#endif /* _NOIOMMUFD_IOMMUFD_H */
