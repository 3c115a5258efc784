// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Interrupts: an eventfd for each.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <noiommufd/vfio.h>

#include "internal.h"

static const char * const names[NOIOMMUFD_IRQS] = { "INTx", "MSI", "MSI-X" };

static int set_irqs(struct noiommufd_device *dev, __u32 flags,
		    unsigned int start, unsigned int count, const int *fds)
{
	size_t size = flags & VFIO_IRQ_SET_DATA_EVENTFD ? count * sizeof(*fds) : 0;
	struct vfio_irq_set *set = malloc(sizeof(*set) + size);
	int rc;

	if (!set)
		return -1;
	*set = (struct vfio_irq_set){
		.argsz = sizeof(*set) + size,
		.flags = flags,
		.index = dev->irq_kind,
		.start = start,
		.count = count,
	};
	if (size)
		memcpy(set->data, fds, size);
	rc = ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, set);
	free(set);
	return rc;
}

static void close_irqs(struct noiommufd_device *dev)
{
	while (dev->nr_irqs)
		close(dev->irqs[--dev->nr_irqs]);
	free(dev->irqs);
	dev->irqs = NULL;
}

static int turn_off(struct noiommufd_device *dev)
{
	if (!dev->nr_irqs)
		return 0;
	if (set_irqs(dev, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
		     0, 0, NULL))
		return -1;
	close_irqs(dev);
	return 0;
}

static int turn_on(struct noiommufd_device *dev, enum noiommufd_irq kind,
		   unsigned int count)
{
	dev->irqs = calloc(count, sizeof(*dev->irqs));
	if (!dev->irqs)
		return -1;
	while (dev->nr_irqs < count) {
		int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

		if (fd < 0)
			return -1;
		dev->irqs[dev->nr_irqs++] = fd;
	}
	dev->irq_kind = kind;
	return set_irqs(dev, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			0, count, dev->irqs);
}

int noiommufd_irq_enable(struct noiommufd_device *dev, enum noiommufd_irq kind,
			 unsigned int count)
{
	int rc;

	if (!dev || (unsigned int)kind >= NOIOMMUFD_IRQS)
		return invalid();
	if (!usable(dev))
		return -1;
	if (count > dev->info.irqs[kind])
		return noiommufd__fail(ENOSPC, "%s has %u interrupts of %s, not %u.",
				       dev->info.address, dev->info.irqs[kind],
				       names[kind], count);
	pthread_mutex_lock(&dev->lock);
	rc = turn_off(dev);
	if (!rc && count) {
		rc = turn_on(dev, kind, count);
		if (rc) {
			int error = errno;

			close_irqs(dev);
			errno = error;
		}
	}
	if (rc)
		noiommufd__fail(errno, "Cannot turn %s of %s on or off: %m.",
				names[kind], dev->info.address);
	pthread_mutex_unlock(&dev->lock);
	return rc;
}

int noiommufd_irq_fd(struct noiommufd_device *dev, unsigned int vector)
{
	int fd = -1;

	if (!dev)
		return invalid();
	if (!owned(dev))
		return -1;
	pthread_mutex_lock(&dev->lock);
	if (vector < dev->nr_irqs)
		fd = dev->irqs[vector];
	pthread_mutex_unlock(&dev->lock);
	return fd < 0 ? noiommufd__fail(EINVAL, "Interrupt %u of %s is not on.", vector,
					dev->info.address) : fd;
}

long noiommufd_irq_wait(struct noiommufd_device *dev, unsigned int vector,
			int timeout_ms)
{
	struct pollfd irq = { .events = POLLIN };
	__u64 count = 0;

	irq.fd = noiommufd_irq_fd(dev, vector);
	if (irq.fd < 0)
		return -1;
	if (poll(&irq, 1, timeout_ms) < 0)
		return -1;
	/* Another thread may have been faster. */
	if (read(irq.fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return noiommufd__fail(errno, "Cannot read interrupt %u of %s: %m.",
				       vector, dev->info.address);
	return count;
}

int noiommufd_irq_mask(struct noiommufd_device *dev, unsigned int vector,
		       bool masked)
{
	__u32 flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	int fd = noiommufd_irq_fd(dev, vector), rc = -1;

	if (fd < 0)
		return -1;
	pthread_mutex_lock(&dev->lock);
	if (dev->irq_kind == NOIOMMUFD_INTX)
		flags = VFIO_IRQ_SET_DATA_NONE |
			(masked ? VFIO_IRQ_SET_ACTION_MASK : VFIO_IRQ_SET_ACTION_UNMASK);
	else if (masked)
		fd = -1;
	rc = set_irqs(dev, flags, vector, 1, &fd);
	pthread_mutex_unlock(&dev->lock);
	if (rc)
		return noiommufd__fail(errno, "Cannot mask or unmask interrupt %u of %s: %m.",
				       vector, dev->info.address);
	return 0;
}
