/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What noiommufd offers beyond the UAPI of Linux 7.3. These ioctls have numbers
 * of their own: where they are not known, ioctl() fails with ENOTTY, and a
 * program can do the same with the ioctls of <noiommufd/iommufd.h>.
 */
#ifndef _NOIOMMUFD_NOIOMMUFD_H
#define _NOIOMMUFD_NOIOMMUFD_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Neither iommufd's ';' nor any in Documentation/.../ioctl-number.rst. */
#define NOIOMMUFD_TYPE 0xE7

/**
 * struct noiommufd_run - Physically contiguous memory.
 * @phys: physical address
 * @length: bytes
 */
struct noiommufd_run {
	__aligned_u64 phys;
	__aligned_u64 length;
};

/**
 * struct noiommufd_ioas_get_pa_runs - NOIOMMUFD_IOAS_GET_PA_RUNS: the physical
 * addresses behind a range of IOVA.
 * @size: sizeof(struct noiommufd_ioas_get_pa_runs)
 * @flags: 0
 * @ioas_id: IOAS
 * @num_runs: in: size of the array @runs, not 0; out: runs that were written
 * @iova: first IOVA
 * @length: in: bytes to look at, not 0; out: bytes that the runs cover
 * @runs: user pointer to an array of struct noiommufd_run
 *
 * Pages that are physically contiguous are one run, even if they belong to
 * different mappings. The ioctl ends when the array is full, or after the last
 * byte that is mapped: continue at @iova + @length. Memory that is unmapped
 * meanwhile may or may not be in the answer.
 *
 * EPERM: no CAP_SYS_RAWIO, and no NOIOMMUFD_GRANT. EOPNOTSUPP: flags, or the
 * IOAS has no HWPT: attach a device first. EINVAL: @length or @num_runs is 0.
 * EOVERFLOW: the range wraps. ENOENT: no such IOAS, or nothing is mapped at @iova.
 * EFAULT: @runs cannot be written; runs that were written before are valid. ENOMEM.
 * ENOTTY: there is no such ioctl.
 */
struct noiommufd_ioas_get_pa_runs {
	__u32 size;
	__u32 flags;
	__u32 ioas_id;
	__u32 num_runs;
	__aligned_u64 iova;
	__aligned_u64 length;
	__aligned_u64 runs;
};

#define NOIOMMUFD_IOAS_GET_PA_RUNS _IO(NOIOMMUFD_TYPE, 0x80)

/**
 * enum noiommufd_extensions - Bits of noiommufd_get_info::extensions.
 * @NOIOMMUFD_EXT_GET_PA_RUNS: there is NOIOMMUFD_IOAS_GET_PA_RUNS
 * @NOIOMMUFD_EXT_IOAS_SET_MAX_PA: there is NOIOMMUFD_IOAS_SET_MAX_PA
 * @NOIOMMUFD_EXT_MEM_ALLOC: there is NOIOMMUFD_MEM_ALLOC
 * @NOIOMMUFD_EXT_MEM_CONTIGUOUS: it can move other memory out of the way: for
 *	contiguous memory of more than noiommufd_get_info::mem_block bytes, and
 *	for any below noiommufd_mem_alloc::max_pa
 * @NOIOMMUFD_EXT_GRANT: the parameter allow_grant of the module allows
 *	NOIOMMUFD_GRANT
 */
enum noiommufd_extensions {
	NOIOMMUFD_EXT_GET_PA_RUNS	= 1 << 0,
	NOIOMMUFD_EXT_IOAS_SET_MAX_PA	= 1 << 1,
	NOIOMMUFD_EXT_MEM_ALLOC		= 1 << 2,
	NOIOMMUFD_EXT_MEM_CONTIGUOUS	= 1 << 3,
	NOIOMMUFD_EXT_GRANT		= 1 << 5,
};

/**
 * struct noiommufd_get_info - NOIOMMUFD_GET_INFO: what there is beyond Linux
 * 7.3.
 * @size: sizeof(struct noiommufd_get_info)
 * @flags: 0
 * @extensions: out: enum noiommufd_extensions
 * @mem_page: out: bytes that noiommufd_mem_alloc::length is a multiple of
 * @mem_huge: out: the same with NOIOMMUFD_MEM_HUGE
 * @mem_block: out: most bytes that the kernel's page allocator keeps together.
 *	Whether it has so many is another question.
 *
 * Needs no right and no object. Members that are added later are 0 where the
 * module does not know them.
 *
 * EOPNOTSUPP: flags. ENOTTY: there is no such ioctl: this is mainline's iommufd,
 * or a module before 0.2.
 */
struct noiommufd_get_info {
	__u32 size;
	__u32 flags;
	__aligned_u64 extensions;
	__aligned_u64 mem_page;
	__aligned_u64 mem_huge;
	__aligned_u64 mem_block;
};

#define NOIOMMUFD_GET_INFO _IO(NOIOMMUFD_TYPE, 0x81)

/**
 * struct noiommufd_ioas_set_max_pa - NOIOMMUFD_IOAS_SET_MAX_PA: refuse memory
 * that a device cannot reach.
 * @size: sizeof(struct noiommufd_ioas_set_max_pa)
 * @ioas_id: IOAS in which nothing is mapped
 * @max_pa: the highest physical address that a byte may have; 0: any
 *
 * From then on what pins memory for this IOAS (MAP, MAP_FILE and COPY while it
 * has an HWPT, else the ATTACH or IOMMU_HWPT_ALLOC that makes the first) fails
 * with ERANGE if a page of it ends above @max_pa. Nothing is pinned then that
 * was not before. Each IOAS has its own limit, also for pages that it shares.
 *
 * EBUSY: something is mapped. EINVAL: @max_pa is not 0 and less than the last
 * byte of the first page. ENOENT: no such IOAS. ENOTTY: there is no such ioctl.
 */
struct noiommufd_ioas_set_max_pa {
	__u32 size;
	__u32 ioas_id;
	__aligned_u64 max_pa;
};

#define NOIOMMUFD_IOAS_SET_MAX_PA _IO(NOIOMMUFD_TYPE, 0x82)

/**
 * enum noiommufd_mem_flags - Flags of NOIOMMUFD_MEM_ALLOC.
 * @NOIOMMUFD_MEM_CONTIGUOUS: one physically contiguous run; else runs that are
 *	as long as can be had
 * @NOIOMMUFD_MEM_HUGE: runs of a multiple of noiommufd_get_info::mem_huge
 *	bytes, which they are aligned to
 * @NOIOMMUFD_MEM_NODE: from the NUMA node @node, and no other
 */
enum noiommufd_mem_flags {
	NOIOMMUFD_MEM_CONTIGUOUS	= 1 << 0,
	NOIOMMUFD_MEM_HUGE		= 1 << 1,
	NOIOMMUFD_MEM_NODE		= 1 << 2,
};

/**
 * struct noiommufd_mem_alloc - NOIOMMUFD_MEM_ALLOC: allocate memory for DMA.
 * @size: sizeof(struct noiommufd_mem_alloc)
 * @flags: enum noiommufd_mem_flags
 * @length: bytes, a multiple of the page size
 * @max_pa: the highest physical address that a byte of it may have, as 0xfffffff
 *	for a device with 28 address bits; 0: any
 * @alignment: a power of two, in bytes; 0: of a page. The byte at an offset has
 *	a physical address that equals the offset modulo @alignment.
 * @node: with NOIOMMUFD_MEM_NODE a NUMA node, else 0
 * @out_fd: out: a file, open for reading and writing and with O_CLOEXEC
 *
 * The memory is zeroed, and never moves. It is charged to this process, to
 * RLIMIT_MEMLOCK as if it was pinned and to its memory cgroup, until it is
 * freed: when the file, its mappings and its IOVAs are all gone. The cgroup is
 * not charged for memory that others were moved out of.
 * IOMMU_IOAS_CHANGE_PROCESS moves the first charge of what is mapped. The file
 * does not hold the iommufd.
 *
 * mmap() of the file wants MAP_SHARED (EINVAL), no PROT_EXEC (EPERM), and a
 * range in the memory (EINVAL). A child has the mapping as well.
 * IOMMU_IOAS_MAP_FILE pins and charges nothing more; a range beyond the memory
 * is EINVAL there, even where no HWPT exists. The memory counts as writable, so
 * COPY can add WRITEABLE. GET_PA is as for other memory.
 *
 * EOPNOTSUPP: flags. EINVAL: @length is 0 or no multiple of the page size, or
 * with HUGE of mem_huge; @alignment is no power of two; @max_pa is not 0 and
 * less than @length - 1; @node without NODE, or there is no such node. ENOMEM:
 * more than the machine, RLIMIT_MEMLOCK or the memory cgroup has, or no such
 * memory was found; the kernel log then has a line if it was to be contiguous
 * or below @max_pa. EMFILE, ENFILE: too many files. EINTR: killed. ENOTTY:
 * there is no such ioctl.
 */
struct noiommufd_mem_alloc {
	__u32 size;
	__u32 flags;
	__aligned_u64 length;
	__aligned_u64 max_pa;
	__aligned_u64 alignment;
	__u32 node;
	__s32 out_fd;
};

#define NOIOMMUFD_MEM_ALLOC _IO(NOIOMMUFD_TYPE, 0x83)

/**
 * struct noiommufd_grant - NOIOMMUFD_GRANT: give physical addresses to those who
 * have the iommufd. NOIOMMUFD_REVOKE: take that back.
 * @size: sizeof(struct noiommufd_grant)
 * @flags: 0
 *
 * GET_PA and GET_PA_RUNS of this context then need no CAP_SYS_RAWIO, in whatever
 * process: one that inherited the file, or to which it was sent. All else is as
 * before; opening a device needs the capability. The grant ends with REVOKE, or
 * with the context. REVOKE does not stop an ioctl that has begun, and addresses
 * that are known are not forgotten.
 *
 * Both succeed if there is nothing to change. GRANT is logged once a context,
 * and fdinfo names who granted.
 *
 * EPERM: no CAP_SYS_RAWIO in the initial user namespace; or GRANT, and the kernel
 * is locked down: a grant that was made before stays. EOPNOTSUPP: flags, or the
 * parameter allow_grant of the module is off. ENOTTY: there is no such ioctl.
 */
struct noiommufd_grant {
	__u32 size;
	__u32 flags;
};

#define NOIOMMUFD_GRANT _IO(NOIOMMUFD_TYPE, 0x85)
#define NOIOMMUFD_REVOKE _IO(NOIOMMUFD_TYPE, 0x86)

#endif /* _NOIOMMUFD_NOIOMMUFD_H */
