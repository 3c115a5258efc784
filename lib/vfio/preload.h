/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libnoiommufd-vfio.so, a preload library for noiommufd-run. names.c handles
 * the names of files, and one file for each option handles the ioctls:
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
 * The next definition of a libc function, which may be that of another preload
 * library. It is looked up at the first call, which a program may make before
 * our constructors run.
 */
#define NEXT(name) ({						\
	static __typeof__(name) *next_;				\
	if (!next_)						\
		next_ = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);	\
	next_; })

/* Our groups are numbered from here on, the kernel's own from 0. */
#define FIRST_GROUP 1000000U

#define OUR_DRIVER "noiommu-vfio-pci"
#define OUR_NODE "noiommu-vfio"
#define SWITCH "/parameters/enable_unsafe_noiommu_mode"

enum file_kind {
	FILE_OTHER,
	FILE_CONTAINER,		/* an open noiommufd node */
	FILE_GROUP,		/* an open device node, or the device's fd */
	FILE_VFIO,		/* a container of the kernel's own VFIO */
};

/* The next ioctl(), which reaches the kernel */
#define kernel(...) NEXT(ioctl)(__VA_ARGS__)

/* Guards what takes more than one ioctl; fork() takes it as well. */
void take_lock(void);
void drop_lock(void);

/*
 * Can all of it be read? It is not more than a page. If not, the kernel would
 * return EFAULT, and so do we; reading would end the program.
 */
bool readable(const void *from, size_t size);

enum file_kind file_kind(int fd, char address[NAME_MAX + 1]);

/* --iova-pa; without it, --vfio-group */
bool iova_is_pa(void);
int iova_pa_ioctl(int fd, unsigned int request, void *arg);

/* Can huge pages in ZONE_MOVABLE be pinned at all? */
bool pinning_moves_huge_pages(void);

bool debugging(void);
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Sets errno and returns -1; with NOIOMMUFD_DEBUG=1, also reports why. */
#define fail(error, ...) ({			\
	if (debugging())			\
		report(__VA_ARGS__);		\
	errno = (error);			\
	-1; })

#endif
