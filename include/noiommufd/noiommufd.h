/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What noiommufd offers beyond the UAPI of Linux 7.3. These calls have numbers
 * of their own: where they are not known, ioctl() answers ENOTTY, and a program
 * does the same with the calls of <noiommufd/iommufd.h>.
 */
#ifndef _NOIOMMUFD_NOIOMMUFD_H
#define _NOIOMMUFD_NOIOMMUFD_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Clear of iommufd's ';' and of all in Documentation/.../ioctl-number.rst. */
#define NOIOMMUFD_TYPE 0xE7

/**
 * struct noiommufd_run - physically contiguous memory
 * @phys: physical address
 * @length: bytes
 */
struct noiommufd_run {
	__aligned_u64 phys;
	__aligned_u64 length;
};

/**
 * struct noiommufd_ioas_get_pa_runs - NOIOMMUFD_IOAS_GET_PA_RUNS: the physical
 * addresses behind a range of IOVA
 * @size: sizeof(struct noiommufd_ioas_get_pa_runs)
 * @flags: 0
 * @ioas_id: IOAS
 * @num_runs: in: room at @runs, not 0; out: runs that were written
 * @iova: where to start
 * @length: in: bytes to look at, not 0; out: bytes that the runs cover
 * @runs: user pointer to an array of struct noiommufd_run
 *
 * Neighbours that are physically contiguous are one run, also where they belong
 * to different mappings. When the room is used up, or after the last byte that
 * is mapped, the call ends: go on at @iova + @length. What is unmapped during
 * the call may or may not be in the answer.
 *
 * EPERM: no CAP_SYS_RAWIO. EOPNOTSUPP: flags, or the IOAS has no HWPT: attach a
 * device first. EINVAL: @length or @num_runs is 0. EOVERFLOW: the range wraps.
 * ENOENT: no such IOAS, or nothing mapped at @iova. EFAULT: @runs cannot be
 * written; what was written before is right. ENOMEM. ENOTTY: there is no such
 * call.
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

#endif /* _NOIOMMUFD_NOIOMMUFD_H */
