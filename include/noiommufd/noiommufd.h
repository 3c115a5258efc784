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
 * @NOIOMMUFD_EXT_IOAS_BATCH: there is NOIOMMUFD_IOAS_BATCH
 * @NOIOMMUFD_EXT_GRANT: the parameter allow_grant of the module allows
 *	NOIOMMUFD_GRANT
 * @NOIOMMUFD_EXT_DEVICE_SET_WC: there is NOIOMMUFD_DEVICE_SET_WC
 */
enum noiommufd_extensions {
	NOIOMMUFD_EXT_GET_PA_RUNS	= 1 << 0,
	NOIOMMUFD_EXT_IOAS_SET_MAX_PA	= 1 << 1,
	NOIOMMUFD_EXT_MEM_ALLOC		= 1 << 2,
	NOIOMMUFD_EXT_MEM_CONTIGUOUS	= 1 << 3,
	NOIOMMUFD_EXT_IOAS_BATCH	= 1 << 4,
	NOIOMMUFD_EXT_GRANT		= 1 << 5,
	NOIOMMUFD_EXT_DEVICE_SET_WC	= 1 << 7,
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
 * enum noiommufd_batch_op - What an entry of NOIOMMUFD_IOAS_BATCH does.
 * @NOIOMMUFD_BATCH_MAP: IOMMU_IOAS_MAP
 * @NOIOMMUFD_BATCH_MAP_FILE: IOMMU_IOAS_MAP_FILE
 * @NOIOMMUFD_BATCH_UNMAP: IOMMU_IOAS_UNMAP
 */
enum noiommufd_batch_op {
	NOIOMMUFD_BATCH_MAP		= 1,
	NOIOMMUFD_BATCH_MAP_FILE	= 2,
	NOIOMMUFD_BATCH_UNMAP		= 3,
};

/* Beside enum iommufd_ioas_map_flags: translate what was mapped. */
#define NOIOMMUFD_BATCH_TRANSLATE (1 << 16)

/**
 * struct noiommufd_batch_entry - An operation of NOIOMMUFD_IOAS_BATCH.
 * @op: enum noiommufd_batch_op
 * @flags: MAP, MAP_FILE: enum iommufd_ioas_map_flags, and
 *	NOIOMMUFD_BATCH_TRANSLATE; UNMAP: 0
 * @ioas_id: IOAS
 * @fd: MAP_FILE: file to map
 * @error: out: 0, or the errno with which the ioctl that @op names would fail
 * @__reserved: 0
 * @start: MAP: address of the memory; MAP_FILE: offset in the file
 * @length: bytes; UNMAP, out: bytes that were mapped
 * @iova: MAP, MAP_FILE: in with IOMMU_IOAS_MAP_FIXED_IOVA, and out; UNMAP: first
 *	IOVA
 * @phys: out, with NOIOMMUFD_BATCH_TRANSLATE: physical address behind @iova
 * @phys_length: out, with it: bytes that are contiguous from there on, as many
 *	as @length at most
 *
 * What an operation does not name is ignored: a program makes an UNMAP of what
 * it has mapped by changing @op and @flags. An entry that fails has mapped or
 * unmapped nothing, and only its @error means something. That is so as well if
 * the memory could be mapped, but not translated: @error is that of
 * IOMMU_IOAS_NOIOMMU_GET_PA then (EPERM, EOPNOTSUPP).
 */
struct noiommufd_batch_entry {
	__u32 op;
	__u32 flags;
	__u32 ioas_id;
	__s32 fd;
	__u32 error;
	__u32 __reserved;
	__aligned_u64 start;
	__aligned_u64 length;
	__aligned_u64 iova;
	__aligned_u64 phys;
	__aligned_u64 phys_length;
};

/**
 * enum noiommufd_batch_flags - Flags of NOIOMMUFD_IOAS_BATCH.
 * @NOIOMMUFD_BATCH_CONTINUE: go on after an entry that failed; else stop there
 */
enum noiommufd_batch_flags {
	NOIOMMUFD_BATCH_CONTINUE	= 1 << 0,
};

/* The most entries of a NOIOMMUFD_IOAS_BATCH */
#define NOIOMMUFD_BATCH_MAX	1024

/**
 * struct noiommufd_ioas_batch - NOIOMMUFD_IOAS_BATCH: map and unmap many.
 * @size: sizeof(struct noiommufd_ioas_batch)
 * @flags: enum noiommufd_batch_flags
 * @entry_size: sizeof(struct noiommufd_batch_entry): bytes from one entry to
 *	the next
 * @num: entries of the array, from 1 to NOIOMMUFD_BATCH_MAX
 * @done: in: index of the entry to begin with, 0 at first; out: index of the
 *	one after the last that has an answer
 * @failed: out: how many of these entries have failed
 * @entries: user pointer to an array of struct noiommufd_batch_entry
 *
 * Carries the entries out one after the other, and answers each when it is done:
 * a MAP before others can find the mapping, as IOMMU_IOAS_MAP does. Succeeds
 * with @done == @num, or when it has stopped at an entry that failed, the last
 * one that has an answer. Do the same ioctl again to go on with the next one,
 * whether it succeeded or not.
 *
 * If it fails, the entries before @done have been carried out, and nothing else
 * has. There is one that may lack its answer: an UNMAP, the last one, if its
 * entry cannot be written (EFAULT).
 *
 * @entry_size may be more than this module knows, up to a page: what it does not
 * know has to be 0, else the entry's errno is E2BIG. A struct that becomes longer
 * is accepted at its first size, of 64 bytes.
 *
 * EOPNOTSUPP: flags. EINVAL: @num is 0 or too large, @done is not less than it,
 * or @entry_size is less than 64, or no multiple of 8. E2BIG: @entry_size is more
 * than a page. EFAULT: this struct cannot be written, and nothing was done; or an
 * entry cannot be read or written. EINTR: killed. ENOTTY: there is no such ioctl.
 */
struct noiommufd_ioas_batch {
	__u32 size;
	__u32 flags;
	__u32 entry_size;
	__u32 num;
	__u32 done;
	__u32 failed;
	__aligned_u64 entries;
};

#define NOIOMMUFD_IOAS_BATCH _IO(NOIOMMUFD_TYPE, 0x84)

/**
 * struct noiommufd_grant - NOIOMMUFD_GRANT: give physical addresses to those who
 * have the iommufd. NOIOMMUFD_REVOKE: take that back.
 * @size: sizeof(struct noiommufd_grant)
 * @flags: 0
 *
 * GET_PA, GET_PA_RUNS and IOAS_BATCH of this context then translate without
 * CAP_SYS_RAWIO, in whatever process: one that inherited the file, or to which
 * it was sent. All else is as before; opening a device needs the capability.
 * The grant ends with REVOKE, or with the context. REVOKE does not stop an ioctl
 * that has begun, and addresses that are known are not forgotten.
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

/**
 * struct noiommufd_device_set_wc - NOIOMMUFD_DEVICE_SET_WC: have BARs mapped
 * write-combining.
 * @size: sizeof(struct noiommufd_device_set_wc)
 * @flags: 0
 * @bars: bit n for BAR n; those that an earlier ioctl named and this one does
 *	not are ordinary again
 *
 * An ioctl of the file of a device, before VFIO_DEVICE_BIND_IOMMUFD; lasts until
 * that file is closed. What mmap() then maps of these BARs is write-combining: the
 * CPU collects writes, and may reorder and merge them. A write barrier, or a read
 * of a register in another BAR, ends that. read(), write() and
 * VFIO_DEVICE_IOEVENTFD for such a BAR fail with EINVAL. On x86 a mapping that
 * somebody else has of the same BAR, by sysfs, keeps it uncached.
 *
 * BIND maps the BARs: it fails with EBUSY if one cannot be reserved, and with
 * ENOMEM.
 *
 * EOPNOTSUPP: flags. EINVAL: a BAR of @bars does not exist, is one of I/O ports,
 * is not prefetchable, does not fill whole pages, or has the MSI-X table or pending
 * bits. EBUSY: the device is bound, through this file or another one. EINTR:
 * killed. E2BIG: bytes beyond the struct are not zero.
 *
 * NOIOMMUFD_EXT_DEVICE_SET_WC of the iommufd says whether there is this ioctl.
 * Without it, as with vfio-pci, it is EINVAL before BIND, as any other, and ENOTTY
 * after it.
 */
struct noiommufd_device_set_wc {
	__u32 size;
	__u32 flags;
	__u32 bars;
};

#define NOIOMMUFD_DEVICE_SET_WC _IO(NOIOMMUFD_TYPE, 0xA0)

#endif /* _NOIOMMUFD_NOIOMMUFD_H */
