// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Registers, and memory that a device accesses at the same time.
 *
 * A barrier of C11 orders what other CPUs see. On arm64 that is `dmb ish`, of the
 * inner shareable domain; a device may be outside of it, so the barriers here are
 * those of the outer shareable domain. x86 does not reorder these accesses itself,
 * only the compiler may not.
 */
#include <endian.h>

#include "internal.h"

#if defined(__aarch64__)
#define dma_rmb()	asm volatile("dmb oshld" : : : "memory")
#define dma_wmb()	asm volatile("dmb oshst" : : : "memory")
#elif defined(__x86_64__) || defined(__i386__)
#define dma_rmb()	asm volatile("" : : : "memory")
#define dma_wmb()	asm volatile("" : : : "memory")
#else
#define dma_rmb()	__sync_synchronize()
#define dma_wmb()	__sync_synchronize()
#endif

void noiommufd_dma_rmb(void)
{
	dma_rmb();
}

void noiommufd_dma_wmb(void)
{
	dma_wmb();
}

#define same(value)	(value)

/* A relaxed atomic is a single access, in one piece. */

#define ACCESS(bits, to_cpu, to_device)					\
__u##bits noiommufd_read##bits(const void *reg)		\
{									\
	__u##bits value = __atomic_load_n((const __u##bits *)reg,	\
					  __ATOMIC_RELAXED);		\
									\
	dma_rmb();							\
	return to_cpu(value);						\
}									\
									\
void noiommufd_write##bits(void *reg, __u##bits value)		\
{									\
	dma_wmb();							\
	__atomic_store_n((__u##bits *)reg, to_device(value),		\
			 __ATOMIC_RELAXED);				\
}

ACCESS(8, same, same)
ACCESS(16, le16toh, htole16)
ACCESS(32, le32toh, htole32)
ACCESS(64, le64toh, htole64)
