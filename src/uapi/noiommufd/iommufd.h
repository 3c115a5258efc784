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
	IOMMUFD_CMD_HWPT_ALLOC			= 0x89,
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
 * enum iommufd_hwpt_alloc_flags - flags of IOMMU_HWPT_ALLOC
 * @IOMMU_HWPT_ALLOC_NEST_PARENT: EOPNOTSUPP for a noiommu device
 * @IOMMU_HWPT_ALLOC_DIRTY_TRACKING: EOPNOTSUPP for a noiommu device
 *
 * A noiommu device takes no flag at all in this version.
 */
enum iommufd_hwpt_alloc_flags {
	IOMMU_HWPT_ALLOC_NEST_PARENT	= 1 << 0,
	IOMMU_HWPT_ALLOC_DIRTY_TRACKING	= 1 << 1,
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
 * @flags: 0
 * @dev_id: a bound device
 * @pt_id: the IOAS
 * @out_hwpt_id: out: id of the HWPT
 * @__reserved: 0
 * @data_type: IOMMU_HWPT_DATA_NONE
 * @data_len: 0
 * @data_uptr: ignored
 * @fault_id: ignored
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

#endif /* _UAPI_IOMMUFD_H */
#endif /* _IOMMUFD_H */

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
