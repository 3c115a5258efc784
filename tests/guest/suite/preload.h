/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * libnoiommufd-vfio.so, for a program of the suite: it is loaded, and its functions
 * are called by their address, so that what the harness opens and reads stays as it
 * is.
 */
#ifndef __SUITE_PRELOAD_H
#define __SUITE_PRELOAD_H

#include <dlfcn.h>
#include <limits.h>

#include "harness.h"

#define LIBRARY		"/lib/libnoiommufd-vfio.so"
#define CONTAINER	"/dev/vfio/vfio"
#define SYSFS		"/sys/bus/pci/devices"

#define lib(name) ((__typeof__(name) *)library(#name))

static inline void *library(const char *name)
{
	static void *handle;
	void *found;

	if (!handle)
		handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		fail("%s", dlerror());
	found = dlsym(handle, name);
	if (!found)
		fail("%s", dlerror());
	return found;
}

static inline int container_open(void)
{
	return expect_ok(lib(open)(CONTAINER, O_RDWR));
}

/* A device that has no group of the kernel's gets one of ours. */
static inline unsigned int group_number(const char *bdf)
{
	char path[128], target[PATH_MAX];
	ssize_t length;

	if (!device_link(bdf, "iommu_group", target, sizeof(target)))
		driver_bind(bdf);
	snprintf(path, sizeof(path), SYSFS "/%s/iommu_group", bdf);
	length = expect_ok(lib(readlink)(path, target, sizeof(target) - 1));
	target[length] = 0;
	return strtoul(strrchr(target, '/') + 1, NULL, 10);
}

static inline int group_open(const char *bdf)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/vfio/%u", group_number(bdf));
	return expect_ok(lib(open)(path, O_RDWR));
}

static inline int set_container(int group, int container)
{
	return lib(ioctl)(group, VFIO_GROUP_SET_CONTAINER, &container);
}

static inline int unset_container(int group)
{
	return lib(ioctl)(group, VFIO_GROUP_UNSET_CONTAINER);
}

static inline int set_iommu(int container, unsigned long type)
{
	return lib(ioctl)(container, VFIO_SET_IOMMU, type);
}

static inline int get_device(int group, const char *name)
{
	return lib(ioctl)(group, VFIO_GROUP_GET_DEVICE_FD, name);
}

static inline int map_dma(int container, void *va, __u64 size, __u64 iova)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)va, .iova = iova, .size = size,
	};

	return lib(ioctl)(container, VFIO_IOMMU_MAP_DMA, &map);
}

static inline int unmap_dma(int container, __u64 iova, __u64 size, __u64 *done)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = iova, .size = size,
	};
	int ret = lib(ioctl)(container, VFIO_IOMMU_UNMAP_DMA, &unmap);

	*done = unmap.size;
	return ret;
}

/* From here on the library says why it refuses something, in place of stderr. */
static int said = -1;

static inline void listen_to_library(void)
{
	said = expect_ok(memfd_create("said", 0));
	expect_ok(dup2(said, STDERR_FILENO));
	setenv("NOIOMMUFD_DEBUG", "1", 1);
}

/* The last line that it has said since then has these words. */
static inline void check_said(const char *file, int line, const char *what, const char *words)
{
	char text[4096], *last;
	ssize_t length = pread(said, text, sizeof(text), 0);

	text[length > 0 ? length - 1 : 0] = 0;
	last = strrchr(text, '\n');
	last = last ? last + 1 : text;
	if (strncmp(last, "noiommufd: ", 11) || !strstr(last, words))
		test_fail(file, line, "%s: expected a line with \"%s\", got \"%s\"", what, words,
			  last);
	expect_ok(ftruncate(said, 0));
	expect_ok(lseek(said, 0, SEEK_SET));
}

/* VFIO's errno, and a line that says why */
#define expect_refused(call, err, words) do {			\
	expect_errno(call, err);				\
	check_said(__FILE__, __LINE__, #call, words);		\
} while (0)

#endif /* __SUITE_PRELOAD_H */
