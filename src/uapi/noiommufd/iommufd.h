/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The iommufd UAPI of Linux 7.3 as far as a noiommu device has a use for it.
 * Include this in place of <linux/iommufd.h>; it also works after an older
 * <linux/iommufd.h>, and then adds only what that one lacks.
 *
 * Numbers, layouts and errno are those of mainline. Every struct starts with
 * its own size in bytes; a larger size is accepted while the bytes that the
 * kernel does not know are zero.
 */
#ifndef _NOIOMMUFD_IOMMUFD_H
#define _NOIOMMUFD_IOMMUFD_H

#include <linux/ioctl.h>
#include <linux/types.h>

#ifndef _IOMMUFD_H
#ifndef _UAPI_IOMMUFD_H
/* A <linux/iommufd.h> that comes later has nothing left to say. */
#define _IOMMUFD_H
#define _UAPI_IOMMUFD_H

#define IOMMUFD_TYPE (';')

enum {
	IOMMUFD_CMD_BASE			= 0x80,
	IOMMUFD_CMD_DESTROY			= IOMMUFD_CMD_BASE,
	IOMMUFD_CMD_IOAS_ALLOC			= 0x81,
	IOMMUFD_CMD_IOAS_ALLOW_IOVAS		= 0x82,
	IOMMUFD_CMD_IOAS_COPY			= 0x83,
	IOMMUFD_CMD_IOAS_IOVA_RANGES		= 0x84,
	IOMMUFD_CMD_IOAS_MAP			= 0x85,
	IOMMUFD_CMD_IOAS_UNMAP			= 0x86,
	IOMMUFD_CMD_OPTION			= 0x87,
	IOMMUFD_CMD_VFIO_IOAS			= 0x88,
	IOMMUFD_CMD_HWPT_ALLOC			= 0x89,
	IOMMUFD_CMD_GET_HW_INFO			= 0x8a,
	IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING	= 0x8b,
	IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP	= 0x8c,
};

/**
 * struct iommu_destroy - IOMMU_DESTROY: free an object of this context
 * @size: sizeof(struct iommu_destroy)
 * @id: any object id: IOAS or HWPT
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
 * struct iommu_ioas_alloc - IOMMU_IOAS_ALLOC: make an empty IO address space
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
 * struct iommu_iova_range - a range of IOVA
 * @start: first IOVA
 * @last: last IOVA, inclusive
 */
struct iommu_iova_range {
	__aligned_u64 start;
	__aligned_u64 last;
};

/**
 * struct iommu_ioas_iova_ranges - IOMMU_IOAS_IOVA_RANGES: what may be mapped
 * @size: sizeof(struct iommu_ioas_iova_ranges)
 * @ioas_id: IOAS
 * @num_iovas: in: room at @allowed_iovas; out: ranges there are
 * @__reserved: 0
 * @allowed_iovas: user pointer to an array of struct iommu_iova_range
 * @out_iova_alignment: out: alignment that MAP demands, in bytes
 *
 * EMSGSIZE: the room did not suffice; @num_iovas says how much does. A noiommu
 * IOAS answers one range, [0, 2^64 - 1].
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
 * the kernel may place a mapping that does not ask for a fixed IOVA
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
 * enum iommufd_ioas_map_flags - flags of IOAS_MAP, IOAS_MAP_FILE, IOAS_COPY
 * @IOMMU_IOAS_MAP_FIXED_IOVA: map at the IOVA given; else the kernel picks one
 * @IOMMU_IOAS_MAP_WRITEABLE: the device may write
 * @IOMMU_IOAS_MAP_READABLE: the device may read
 */
enum iommufd_ioas_map_flags {
	IOMMU_IOAS_MAP_FIXED_IOVA	= 1 << 0,
	IOMMU_IOAS_MAP_WRITEABLE	= 1 << 1,
	IOMMU_IOAS_MAP_READABLE		= 1 << 2,
};

/**
 * struct iommu_ioas_map - IOMMU_IOAS_MAP: map memory of this process
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
 * struct iommu_ioas_copy - IOMMU_IOAS_COPY: map what is mapped already once more
 * @size: sizeof(struct iommu_ioas_copy)
 * @flags: enum iommufd_ioas_map_flags
 * @dst_ioas_id: IOAS to map into
 * @src_ioas_id: IOAS to take from
 * @length: bytes
 * @dst_iova: in with FIXED_IOVA, else out
 * @src_iova: first byte at the source
 *
 * The pages are shared: nothing is pinned or charged a second time.
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
 * struct iommu_ioas_unmap - IOMMU_IOAS_UNMAP: unmap whole mappings
 * @size: sizeof(struct iommu_ioas_unmap)
 * @ioas_id: IOAS
 * @iova: first IOVA
 * @length: in: bytes; out: bytes that were unmapped
 *
 * The program says with this that no device uses the memory any more: it is
 * unpinned before the call returns. @iova 0 with @length 2^64 - 1 unmaps all.
 */
struct iommu_ioas_unmap {
	__u32 size;
	__u32 ioas_id;
	__aligned_u64 iova;
	__aligned_u64 length;
};

#define IOMMU_IOAS_UNMAP _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_UNMAP)

/**
 * enum iommufd_option - what IOMMU_OPTION sets
 * @IOMMU_OPTION_RLIMIT_MODE: object_id 0; 0 charges the user, 1 the process.
 *	Set it before the first object is made; needs CAP_SYS_RESOURCE.
 * @IOMMU_OPTION_HUGE_PAGES: object_id an IOAS; 0 forbids large mappings
 */
enum iommufd_option {
	IOMMU_OPTION_RLIMIT_MODE	= 0,
	IOMMU_OPTION_HUGE_PAGES		= 1,
};

/**
 * enum iommufd_option_ops - what IOMMU_OPTION does
 * @IOMMU_OPTION_OP_SET: set the option to val64
 * @IOMMU_OPTION_OP_GET: read it into val64
 */
enum iommufd_option_ops {
	IOMMU_OPTION_OP_SET	= 0,
	IOMMU_OPTION_OP_GET	= 1,
};

/**
 * struct iommu_option - IOMMU_OPTION: read or set an option
 * @size: sizeof(struct iommu_option)
 * @option_id: enum iommufd_option
 * @op: enum iommufd_option_ops
 * @__reserved: 0
 * @object_id: as the option says
 * @val64: the value
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
 * enum iommufd_vfio_ioas_op - what IOMMU_VFIO_IOAS does
 * @IOMMU_VFIO_IOAS_GET: tell the compatibility IOAS
 * @IOMMU_VFIO_IOAS_SET: set it
 * @IOMMU_VFIO_IOAS_CLEAR: have none
 */
enum iommufd_vfio_ioas_op {
	IOMMU_VFIO_IOAS_GET	= 0,
	IOMMU_VFIO_IOAS_SET	= 1,
	IOMMU_VFIO_IOAS_CLEAR	= 2,
};

/**
 * struct iommu_vfio_ioas - IOMMU_VFIO_IOAS: the IOAS that VFIO's type1 ioctl
 * calls on the iommufd work on
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

/**
 * enum iommufd_hwpt_alloc_flags - flags of IOMMU_HWPT_ALLOC
 * @IOMMU_HWPT_ALLOC_NEST_PARENT: EOPNOTSUPP for a noiommu device
 * @IOMMU_HWPT_ALLOC_DIRTY_TRACKING: EOPNOTSUPP for a noiommu device
 * @IOMMU_HWPT_FAULT_ID_VALID: fault_id is a fault queue
 */
enum iommufd_hwpt_alloc_flags {
	IOMMU_HWPT_ALLOC_NEST_PARENT	= 1 << 0,
	IOMMU_HWPT_ALLOC_DIRTY_TRACKING	= 1 << 1,
	IOMMU_HWPT_FAULT_ID_VALID	= 1 << 2,
};

/**
 * enum iommu_hwpt_data_type - what data_uptr points to
 * @IOMMU_HWPT_DATA_NONE: nothing; the only type for a noiommu device
 */
enum iommu_hwpt_data_type {
	IOMMU_HWPT_DATA_NONE	= 0,
};

/**
 * struct iommu_hwpt_alloc - IOMMU_HWPT_ALLOC: give an IOAS an HWPT by hand
 * @size: sizeof(struct iommu_hwpt_alloc)
 * @flags: 0 or IOMMU_HWPT_FAULT_ID_VALID
 * @dev_id: a bound device
 * @pt_id: the IOAS
 * @out_hwpt_id: out: id of the HWPT
 * @__reserved: 0
 * @data_type: IOMMU_HWPT_DATA_NONE
 * @data_len: 0
 * @data_uptr: ignored
 * @fault_id: a fault queue, which a noiommu device never puts anything in
 * @__reserved2: 0
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

#define IOMMU_HWPT_ALLOC _IO(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_ALLOC)

/**
 * struct iommu_hw_info - IOMMU_GET_HW_INFO: EOPNOTSUPP, there is no IOMMU
 * @size: sizeof(struct iommu_hw_info)
 * @flags: 0
 * @dev_id: a bound device
 * @data_len: ignored
 * @data_uptr: ignored
 * @out_data_type: ignored
 * @out_max_pasid_log2: ignored
 * @__reserved: 0
 * @out_capabilities: ignored
 */
struct iommu_hw_info {
	__u32 size;
	__u32 flags;
	__u32 dev_id;
	__u32 data_len;
	__aligned_u64 data_uptr;
	__u32 out_data_type;
	__u8 out_max_pasid_log2;
	__u8 __reserved[3];
	__aligned_u64 out_capabilities;
};

#define IOMMU_GET_HW_INFO _IO(IOMMUFD_TYPE, IOMMUFD_CMD_GET_HW_INFO)

/**
 * struct iommu_hwpt_set_dirty_tracking - IOMMU_HWPT_SET_DIRTY_TRACKING:
 * EOPNOTSUPP, there is no IOMMU
 * @size: sizeof(struct iommu_hwpt_set_dirty_tracking)
 * @flags: ignored
 * @hwpt_id: HWPT
 * @__reserved: 0
 */
struct iommu_hwpt_set_dirty_tracking {
	__u32 size;
	__u32 flags;
	__u32 hwpt_id;
	__u32 __reserved;
};

#define IOMMU_HWPT_SET_DIRTY_TRACKING \
	_IO(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING)

/**
 * struct iommu_hwpt_get_dirty_bitmap - IOMMU_HWPT_GET_DIRTY_BITMAP:
 * EOPNOTSUPP, there is no IOMMU
 * @size: sizeof(struct iommu_hwpt_get_dirty_bitmap)
 * @hwpt_id: HWPT
 * @flags: ignored
 * @__reserved: 0
 * @iova: first IOVA
 * @length: bytes
 * @page_size: bytes that a bit stands for
 * @data: ignored
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

#endif /* _UAPI_IOMMUFD_H */
#endif /* _IOMMUFD_H */

#ifndef IOMMU_HWPT_INVALIDATE
#define IOMMUFD_CMD_HWPT_INVALIDATE 0x8d

/**
 * struct iommu_hwpt_invalidate - IOMMU_HWPT_INVALIDATE: EINVAL, there are no
 * nested HWPTs
 * @size: sizeof(struct iommu_hwpt_invalidate)
 * @hwpt_id: HWPT
 * @data_uptr: ignored
 * @data_type: ignored
 * @entry_len: ignored
 * @entry_num: out: 0
 * @__reserved: 0
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

#ifndef IOMMU_FAULT_QUEUE_ALLOC
#define IOMMUFD_CMD_FAULT_QUEUE_ALLOC 0x8e

/**
 * struct iommu_fault_alloc - IOMMU_FAULT_QUEUE_ALLOC: make a fault queue
 * @size: sizeof(struct iommu_fault_alloc)
 * @flags: 0
 * @out_fault_id: out: its id
 * @out_fault_fd: out: file to read faults from. Without an IOMMU there are
 *	none: it is always empty.
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

/**
 * struct iommu_hwpt_pgfault - what is read from a fault queue, if ever
 * @flags: unused
 * @dev_id: unused
 * @pasid: unused
 * @grpid: unused
 * @perm: unused
 * @__reserved: unused
 * @addr: unused
 * @length: unused
 * @cookie: unused
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
 * struct iommu_hwpt_page_response - what is written to a fault queue
 * @cookie: names a fault; there is none, so every one is EINVAL
 * @code: 0 or 1
 */
struct iommu_hwpt_page_response {
	__u32 cookie;
	__u32 code;
};
#endif

#ifndef IOMMU_IOAS_MAP_FILE
#define IOMMUFD_CMD_IOAS_MAP_FILE 0x8f

/**
 * struct iommu_ioas_map_file - IOMMU_IOAS_MAP_FILE: map memory of a file
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
#define IOMMUFD_CMD_VIOMMU_ALLOC 0x90

/**
 * struct iommu_viommu_alloc - IOMMU_VIOMMU_ALLOC: EOPNOTSUPP, there is no IOMMU
 * @size: sizeof(struct iommu_viommu_alloc)
 * @flags: 0
 * @type: ignored
 * @dev_id: a bound device
 * @hwpt_id: ignored
 * @out_viommu_id: never written
 * @data_len: ignored
 * @__reserved: 0
 * @data_uptr: ignored
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

#define IOMMU_VIOMMU_ALLOC _IO(IOMMUFD_TYPE, IOMMUFD_CMD_VIOMMU_ALLOC)
#endif

#ifndef IOMMU_VDEVICE_ALLOC
#define IOMMUFD_CMD_VDEVICE_ALLOC 0x91

/**
 * struct iommu_vdevice_alloc - IOMMU_VDEVICE_ALLOC: ENOENT, there are no
 * vIOMMUs
 * @size: sizeof(struct iommu_vdevice_alloc)
 * @viommu_id: ignored
 * @dev_id: ignored
 * @out_vdevice_id: never written
 * @virt_id: ignored
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

#ifndef IOMMU_IOAS_CHANGE_PROCESS
#define IOMMUFD_CMD_IOAS_CHANGE_PROCESS 0x92

/**
 * struct iommu_ioas_change_process - IOMMU_IOAS_CHANGE_PROCESS: charge all that
 * the context maps to the calling process
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

#ifndef IOMMU_VEVENTQ_ALLOC
#define IOMMUFD_CMD_VEVENTQ_ALLOC 0x93

/**
 * struct iommu_veventq_alloc - IOMMU_VEVENTQ_ALLOC: ENOENT, there are no
 * vIOMMUs
 * @size: sizeof(struct iommu_veventq_alloc)
 * @flags: 0
 * @viommu_id: ignored
 * @type: not 0
 * @veventq_depth: 1 to 2^19
 * @out_veventq_id: never written
 * @out_veventq_fd: never written
 * @__reserved: 0
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

#ifndef IOMMU_HW_QUEUE_ALLOC
#define IOMMUFD_CMD_HW_QUEUE_ALLOC 0x94

/**
 * struct iommu_hw_queue_alloc - IOMMU_HW_QUEUE_ALLOC: ENOENT, there are no
 * vIOMMUs
 * @size: sizeof(struct iommu_hw_queue_alloc)
 * @flags: 0
 * @viommu_id: ignored
 * @type: not 0
 * @index: ignored
 * @out_hw_queue_id: never written
 * @nesting_parent_iova: any
 * @length: not 0
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

#ifndef IOMMU_IOAS_NOIOMMU_GET_PA
#define IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA 0x95

/**
 * struct iommu_ioas_noiommu_get_pa - IOMMU_IOAS_NOIOMMU_GET_PA: the physical
 * address behind an IOVA
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
#endif

#endif /* _NOIOMMUFD_IOMMUFD_H */
