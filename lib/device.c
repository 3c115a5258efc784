// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Devices: open, bind, attach; regions, config space, resets.
 */
#include <endian.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/pci_regs.h>
#include <noiommufd/noiommufd.h>
#include <noiommufd/vfio.h>

#include "internal.h"

bool noiommufd__usable(struct noiommufd_device *dev, const char *function)
{
	if (!dev) {
		noiommufd__fail(EINVAL, "%s(): the device is NULL.", function);
		return false;
	}
	if (!noiommufd__owned(dev->forks, function))
		return false;
	if (__atomic_load_n(&dev->context, __ATOMIC_ACQUIRE))
		return true;
	noiommufd__fail(EINVAL, "%s(): %s is not bound.", function, dev->info.address);
	return false;
}

struct noiommufd_device *noiommufd_open_node(const char *name)
{
	struct noiommufd_device *dev = calloc(1, sizeof(*dev));

	if (!dev)
		return null(noiommufd__fail(ENOMEM, "Out of memory."));
	dev->forks = noiommufd__forks;
	if (!noiommufd__find(name, &dev->info)) {
		dev->fd = noiommufd__open(dev->info.node, true);
		if (dev->fd >= 0) {
			pthread_mutex_init(&dev->lock, NULL);
			return dev;
		}
	}
	free(dev);
	return NULL;
}

int noiommufd_set_wc(struct noiommufd_device *dev, unsigned int bars)
{
	struct noiommufd_device_set_wc wc = { .size = sizeof(wc), .bars = bars };
	int rc = -1;

	if (!dev)
		return invalid();
	if (!owned(dev))
		return -1;
	pthread_mutex_lock(&dev->lock);
	if (dev->context)
		noiommufd__fail(EINVAL, "%s is bound already.", dev->info.address);
	else if (!ioctl(dev->fd, NOIOMMUFD_DEVICE_SET_WC, &wc))
		rc = 0;
	else if (errno == EBUSY)
		noiommufd__fail(EBUSY, "%s is in use: stop the other program that has it open.",
				dev->info.address);
	else
		noiommufd__fail(errno,
				"Cannot have BARs 0x%x of %s write-combining: it takes prefetchable memory without the MSI-X table, and noiommu-vfio-pci: %m.",
				bars, dev->info.address);
	pthread_mutex_unlock(&dev->lock);
	return rc;
}

struct noiommufd_device *noiommufd_open(const char *name,
					struct noiommufd_ioas *ioas)
{
	struct noiommufd_device *dev = noiommufd_open_node(name);
	struct noiommufd_ioas *own = NULL;

	if (!dev)
		return NULL;
	if (!ioas) {
		own = noiommufd_ioas_alloc(dev);
		ioas = own;
	}
	if (!ioas || noiommufd_bind(dev, ioas) || noiommufd_attach(dev, ioas)) {
		noiommufd_close(dev);
		dev = NULL;
	}
	/* The device has it now. */
	noiommufd_ioas_free(own);
	return dev;
}

int noiommufd__get_info(struct noiommufd_device *dev)
{
	struct vfio_device_info device = { .argsz = sizeof(device) };
	__u32 i;

	if (ioctl(dev->fd, VFIO_DEVICE_GET_INFO, &device))
		return -1;
	dev->info.can_reset = !!(device.flags & VFIO_DEVICE_FLAGS_RESET);
	for (i = 0; i < NOIOMMUFD_REGIONS; i++) {
		struct vfio_region_info info = {
			.argsz = sizeof(info), .index = i,
		};

		if (ioctl(dev->fd, VFIO_DEVICE_GET_REGION_INFO, &info))
			return -1;
		dev->info.regions[i].size = info.size;
		dev->info.regions[i].flags = info.flags &
			(VFIO_REGION_INFO_FLAG_READ |
			 VFIO_REGION_INFO_FLAG_WRITE |
			 VFIO_REGION_INFO_FLAG_MMAP);
		dev->offsets[i] = info.offset;
	}
	for (i = 0; i < NOIOMMUFD_IRQS; i++) {
		struct vfio_irq_info info = {
			.argsz = sizeof(info), .index = i,
		};

		if (ioctl(dev->fd, VFIO_DEVICE_GET_IRQ_INFO, &info))
			return -1;
		dev->info.irqs[i] = info.count;
	}
	return 0;
}

static int not_joined(const struct noiommufd_device *dev, int error)
{
	const char *address = dev->info.address;

	switch (error) {
	case EBADFD:
		return noiommufd__fail(error,
				       "%s has the driver %s, which does not take devices to that iommufd: use an IOAS that noiommufd_ioas_alloc() allocated for such a device.",
				       address, dev->info.driver);
	case EBUSY:
	case EINVAL:
		return noiommufd__fail(error,
				       "%s is in use: stop the other program that has it open.",
				       address);
	default:
		return noiommufd__fail(error, "Cannot bind %s: %m.", address);
	}
}

int noiommufd_bind(struct noiommufd_device *dev, struct noiommufd_ioas *ioas)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	int rc = -1;

	if (!dev || !ioas)
		return invalid();
	if (!owned(dev) || !owned(ioas))
		return -1;
	bind.iommufd = ioas->context->fd;
	pthread_mutex_lock(&dev->lock);
	if (dev->context) {
		noiommufd__fail(EINVAL, "%s is bound already.", dev->info.address);
	} else if (ioctl(dev->fd, VFIO_DEVICE_BIND_IOMMUFD, &bind)) {
		not_joined(dev, errno);
	} else {
		rc = noiommufd__get_info(dev);
		if (rc)
			noiommufd__fail(errno, "Cannot ask %s about itself: %m.",
					dev->info.address);
		get(&ioas->context->refs);
		__atomic_store_n(&dev->context, ioas->context, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&dev->lock);
	return rc;
}

int noiommufd_attach(struct noiommufd_device *dev, struct noiommufd_ioas *ioas)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
	};
	struct noiommufd_ioas *old = ioas;
	int rc = -1;

	if (!dev || !ioas)
		return invalid();
	if (!usable(dev) || !owned(ioas))
		return -1;
	/* Ids of another context may be the same. */
	if (dev->context != ioas->context)
		return noiommufd__fail(EINVAL,
				       "%s is bound to another context than that of this IOAS.",
				       dev->info.address);
	attach.pt_id = ioas->id;
	pthread_mutex_lock(&dev->lock);
	if (ioctl(dev->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach)) {
		noiommufd__fail(errno, "Cannot attach %s to its IO address space: %m.",
				dev->info.address);
	} else {
		get(&ioas->refs);
		old = dev->ioas;
		dev->ioas = ioas;
		rc = 0;
	}
	pthread_mutex_unlock(&dev->lock);
	if (!rc)
		noiommufd_ioas_free(old);
	return rc;
}

int noiommufd_detach(struct noiommufd_device *dev)
{
	struct vfio_device_detach_iommufd_pt detach = {
		.argsz = sizeof(detach),
	};
	struct noiommufd_ioas *old = NULL;
	int rc;

	if (!usable(dev))
		return -1;
	pthread_mutex_lock(&dev->lock);
	rc = ioctl(dev->fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
	if (rc) {
		noiommufd__fail(errno, "Cannot detach %s: %m.", dev->info.address);
	} else {
		old = dev->ioas;
		dev->ioas = NULL;
	}
	pthread_mutex_unlock(&dev->lock);
	noiommufd_ioas_free(old);
	return rc;
}

void noiommufd_close(struct noiommufd_device *dev)
{
	int error = errno;
	unsigned int i;

	if (!dev)
		return;
	/* A BAR that is mapped keeps the device open. Children do not have it. */
	if (dev->forks == noiommufd__forks)
		for (i = 0; i < ARRAY_SIZE(dev->bars); i++)
			if (dev->bars[i])
				munmap(dev->bars[i], dev->info.regions[i].size);
	for (i = 0; i < dev->nr_irqs; i++)
		close(dev->irqs[i]);
	free(dev->irqs);
	noiommufd__end_handover(dev->handover);
	close(dev->fd);
	noiommufd_ioas_free(dev->ioas);
	if (dev->context)
		noiommufd__put_context(dev->context);
	pthread_mutex_destroy(&dev->lock);
	free(dev);
	errno = error;
}

const struct noiommufd_info *noiommufd_info(const struct noiommufd_device *dev)
{
	if (!dev)
		return null(invalid());
	return &dev->info;
}

int noiommufd_device_fd(const struct noiommufd_device *dev)
{
	if (!dev)
		return invalid();
	return dev->fd;
}

struct noiommufd_ioas *noiommufd_device_ioas(struct noiommufd_device *dev)
{
	struct noiommufd_ioas *ioas;

	if (!dev)
		return null(invalid());
	if (!owned(dev))
		return NULL;
	pthread_mutex_lock(&dev->lock);
	ioas = dev->ioas;
	pthread_mutex_unlock(&dev->lock);
	if (!ioas)
		noiommufd__fail(EINVAL, "%s is not attached.", dev->info.address);
	return ioas;
}

/* Regions */

void *noiommufd_bar(struct noiommufd_device *dev, unsigned int index)
{
	const struct noiommufd_region *region;
	void *bar;

	if (!dev || index > NOIOMMUFD_BAR5)
		return null(invalid());
	if (!usable(dev))
		return NULL;
	region = &dev->info.regions[index];
	if (!(region->flags & VFIO_REGION_INFO_FLAG_MMAP))
		return null(noiommufd__fail(ENODEV,
					    "BAR %u of %s cannot be mapped: it is not there, or not of memory.",
					    index, dev->info.address));
	pthread_mutex_lock(&dev->lock);
	bar = dev->bars[index];
	if (!bar) {
		bar = mmap(NULL, region->size, PROT_READ | PROT_WRITE,
			   MAP_SHARED, dev->fd, dev->offsets[index]);
		if (bar == MAP_FAILED) {
			bar = null(noiommufd__fail(errno, "Cannot map BAR %u of %s: %m.",
						   index, dev->info.address));
		} else {
			/* A child would keep the device open by it. */
			madvise(bar, region->size, MADV_DONTFORK);
			dev->bars[index] = bar;
		}
	}
	pthread_mutex_unlock(&dev->lock);
	return bar;
}

static bool inside(const struct noiommufd_device *dev, unsigned int index, __u64 offset,
		   size_t length)
{
	__u64 size = dev->info.regions[index].size;

	if (offset <= size && length <= size - offset)
		return true;
	noiommufd__fail(EINVAL, "Region %u of %s has %llu bytes: there are no %zu at %llu.",
			index, dev->info.address, size, length, offset);
	return false;
}

static int not_done(const struct noiommufd_device *dev, unsigned int index,
		    const char *what, ssize_t done)
{
	return noiommufd__fail(done < 0 ? errno : EIO, "Cannot %s region %u of %s: %m.",
			       what, index, dev->info.address);
}

int noiommufd_region_read(struct noiommufd_device *dev, unsigned int index,
			  __u64 offset, void *to, size_t length)
{
	ssize_t done;

	if (!dev || !to || index >= NOIOMMUFD_REGIONS)
		return invalid();
	if (!usable(dev) || !inside(dev, index, offset, length))
		return -1;
	done = pread(dev->fd, to, length, dev->offsets[index] + offset);
	return done == (ssize_t)length ? 0 : not_done(dev, index, "read", done);
}

int noiommufd_region_write(struct noiommufd_device *dev, unsigned int index,
			   __u64 offset, const void *from, size_t length)
{
	ssize_t done;

	if (!dev || !from || index >= NOIOMMUFD_REGIONS)
		return invalid();
	if (!usable(dev) || !inside(dev, index, offset, length))
		return -1;
	done = pwrite(dev->fd, from, length, dev->offsets[index] + offset);
	return done == (ssize_t)length ? 0 : not_done(dev, index, "write", done);
}

int noiommufd_bus_master(struct noiommufd_device *dev, bool on)
{
	__u16 command;
	int rc;

	if (!usable(dev))
		return -1;
	pthread_mutex_lock(&dev->lock);
	rc = noiommufd_region_read(dev, NOIOMMUFD_CONFIG, PCI_COMMAND, &command,
				   sizeof(command));
	if (!rc) {
		command &= htole16(~PCI_COMMAND_MASTER);
		command |= htole16(PCI_COMMAND_MEMORY | (on ? PCI_COMMAND_MASTER : 0));
		rc = noiommufd_region_write(dev, NOIOMMUFD_CONFIG, PCI_COMMAND, &command,
					    sizeof(command));
	}
	pthread_mutex_unlock(&dev->lock);
	return rc;
}

/* Resets */

int noiommufd_reset(struct noiommufd_device *dev)
{
	if (!usable(dev))
		return -1;
	if (!ioctl(dev->fd, VFIO_DEVICE_RESET))
		return 0;
	if (errno == ENOTTY)
		return noiommufd__fail(errno,
				       "%s cannot be reset alone: a hot reset may do.",
				       dev->info.address);
	return noiommufd__fail(errno, "Cannot reset %s: %m.", dev->info.address);
}

static int not_hot_reset(const struct noiommufd_device *dev, int error)
{
	const char *address = dev->info.address;

	switch (error) {
	case ENODEV:
		return noiommufd__fail(error,
				       "There is no hot reset of %s, because its bus cannot be reset.",
				       address);
	case EINVAL:
		return noiommufd__fail(error,
				       "A hot reset of %s would hit devices that belong to others: open them with the same IOAS. noiommufd_hot_reset_list() lists them.",
				       address);
	default:
		return noiommufd__fail(error, "No hot reset of %s: %m.", address);
	}
}

int noiommufd_hot_reset(struct noiommufd_device *dev)
{
	/* Without groups: whatever is of this context, or of none */
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };

	if (!usable(dev))
		return -1;
	if (ioctl(dev->fd, VFIO_DEVICE_PCI_HOT_RESET, &reset))
		return not_hot_reset(dev, errno);
	return 0;
}

char **noiommufd_hot_reset_list(struct noiommufd_device *dev)
{
	struct vfio_pci_hot_reset_info *info = NULL, *more;
	__u32 num = 8, i;
	char **list = NULL;
	size_t size;
	int rc;

	if (!usable(dev))
		return NULL;
	do {
		size = sizeof(*info) + num * sizeof(info->devices[0]);
		more = realloc(info, size);
		if (!more) {
			free(info);
			return null(noiommufd__fail(ENOMEM, "Out of memory."));
		}
		info = more;
		*info = (struct vfio_pci_hot_reset_info){ .argsz = size };
		rc = ioctl(dev->fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info);
		num = info->count;
	} while (rc && errno == ENOSPC);
	if (rc)
		not_hot_reset(dev, errno);
	else
		list = noiommufd__addresses(num);
	for (i = 0; list && i < num; i++)
		snprintf(list[i], ADDRESS_SIZE, "%04x:%02x:%02x.%x",
			 info->devices[i].segment, info->devices[i].bus,
			 info->devices[i].devfn >> 3, info->devices[i].devfn & 7);
	free(info);
	return list;
}
