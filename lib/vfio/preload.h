/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libnoiommufd-vfio.so, a preload library for noiommufd-run. names.c has the
 * names of files, and for each way of noiommufd-run one file has the ioctls:
 *
 * --vfio-group	VFIO's groups and containers on noiommufd's nodes: group.c, and
 *		memory.c for huge pages that could move
 * --iova-pa	IOVAs that are physical addresses, for a program that gives the
 *		device IOVAs: iova_pa.c
 */
#ifndef NOIOMMUFD_PRELOAD_H
#define NOIOMMUFD_PRELOAD_H

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#define EXPORT __attribute__((visibility("default")))

/*
 * The next definition of a function of libc, which another preload library may
 * have. Looked up at the first call: a program may make it before our
 * constructors run.
 */
#define NEXT(name) ({						\
	static __typeof__(name) *next_;				\
	if (!next_)						\
		next_ = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);	\
	next_; })

/* Groups of ours are numbered from here on, the kernel's own from 0. */
#define FIRST_GROUP 1000000U

#define OUR_DRIVER "noiommu-vfio-pci"
#define OUR_NODE "noiommu-vfio"
#define SWITCH "/parameters/enable_unsafe_noiommu_mode"

enum file_kind {
	FILE_OTHER,
	FILE_CONTAINER,		/* of noiommufd's node */
	FILE_GROUP,		/* of a device's node; so is the device's own fd */
};

const char *iommufd_node(void);
enum file_kind file_kind(int fd, char address[NAME_MAX + 1]);

/* --iova-pa; without it, --vfio-group */
bool iova_is_pa(void);
int iova_pa_ioctl(int fd, unsigned int request, void *arg);

bool debugging(void);
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Why a call failed, for NOIOMMUFD_DEBUG=1; the result is that of the call. */
#define fail(error, ...) ({			\
	if (debugging())			\
		report(__VA_ARGS__);		\
	errno = (error);			\
	-1; })

#endif
