// SPDX-License-Identifier: GPL-2.0-only
/*
 * test: what every program does with a device before it drives it: open, BIND,
 * ATTACH, MAP, GET_PA, config space, close. The device itself does nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <noiommufd/iommufd.h>
#include <noiommufd/vfio.h>

#include "noiommuctl.h"

/* errno's text, and where the cause is looked for */
static __attribute__((noreturn, format(printf, 2, 3)))
void failed(const struct device *dev, const char *fmt, ...)
{
	const char *why = strerror(errno);
	char what[LINE];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	errx(1, "%s (%s): noiommuctl doctor %s says why", what, why, dev->address);
}

static int open_node(const struct device *dev, const char *name)
{
	char path[LINE];
	int fd;

	snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		failed(dev, "%s cannot be opened", path);
	return fd;
}

static void check_memory(const struct device *dev, int iommufd, __u32 ioas, void *page, size_t size)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = ioas,
		.user_va = (uintptr_t)page,
		.length = size,
	};
	struct iommu_ioas_noiommu_get_pa pa = {
		.size = sizeof(pa), .ioas_id = ioas, .length = size,
	};
	struct iommu_ioas_unmap unmap = { .size = sizeof(unmap), .ioas_id = ioas, .length = size };

	if (ioctl(iommufd, IOMMU_IOAS_MAP, &map))
		failed(dev, "a page cannot be mapped");
	pa.iova = map.iova;
	if (ioctl(iommufd, IOMMU_IOAS_NOIOMMU_GET_PA, &pa))
		failed(dev, "GET_PA does not translate the page");
	printf("a page is pinned at physical address 0x%llx\n", pa.out_phys);
	unmap.iova = map.iova;
	if (ioctl(iommufd, IOMMU_IOAS_UNMAP, &unmap))
		failed(dev, "the page cannot be unmapped");
}

/* Its IDs are those that sysfs has, unless it does not answer. */
static void check_config(const struct device *dev, int fd)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	__u16 ids[2];

	if (ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, &info) ||
	    pread(fd, ids, sizeof(ids), info.offset) != sizeof(ids))
		failed(dev, "config space cannot be read");
	if (ids[0] != dev->vendor || ids[1] != dev->id)
		errx(1,
		     "config space has the IDs %04x:%04x, and not %04x:%04x: the device does not answer",
		     ids[0], ids[1], dev->vendor, dev->id);
	printf("config space has the IDs %04x:%04x\n", ids[0], ids[1]);
}

int cmd_test(char **names)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
	size_t size = sysconf(_SC_PAGESIZE);
	char path[64];
	struct device dev;
	int iommufd, fd;
	void *page;

	find_device(&dev, *names);
	if (!dev.taken)
		errx(1, "%s has driver %s: noiommuctl bind %s", dev.address,
		     *dev.driver ? dev.driver : "none", dev.address);
	page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		err(1, "no memory");

	iommufd = open_node(&dev, iommufd_path());
	snprintf(path, sizeof(path), "vfio/devices/%s", dev.node);
	fd = open_node(&dev, path);
	printf("/dev/%s is open\n", path);
	bind.iommufd = iommufd;
	if (ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		failed(&dev, "the device cannot be bound to the iommufd");
	if (ioctl(iommufd, IOMMU_IOAS_ALLOC, &ioas))
		failed(&dev, "no IOAS can be made");
	attach.pt_id = ioas.out_ioas_id;
	if (ioctl(fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
		failed(&dev, "the device cannot be attached to an IOAS");
	printf("it is bound to /dev/%s, and attached\n", iommufd_path());
	check_memory(&dev, iommufd, ioas.out_ioas_id, page, size);
	check_config(&dev, fd);
	if (close(fd) || close(iommufd))
		failed(&dev, "it cannot be closed");
	printf("%s works\n", dev.address);
	return 0;
}
