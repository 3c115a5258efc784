// SPDX-License-Identifier: GPL-2.0-only
/*
 * GET_PCI_HOT_RESET_INFO and PCI_HOT_RESET: reset a slot or bus as a whole.
 * vfio-pci-core's own need IOMMU groups or the kernel's iommufd.
 *
 * A reset is allowed if every function that it hits is ours, and bound to the
 * iommufd context of the caller or to none. dev_set->lock keeps it so, as BIND
 * and close take it. Inside it memory_lock of each device, which is only tried,
 * keeps programs from accessing BARs: see noiommu_vfio_trylock_memory().
 */
#include <linux/noiommufd.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>

#include <noiommufd/vfio.h>

#include "trace.h"
#include "vfio.h"

struct hot_reset_walk {
	struct pci_slot *slot;		/* NULL: the whole bus */
	int (*fn)(struct pci_dev *pdev, struct hot_reset_walk *walk);
	struct noiommu_vfio_device *dev;
	struct vfio_pci_dependent_device *devices;
	unsigned int room;
	unsigned int count;
	bool owned;
	int ret;
};

static int hot_reset_walk_one(struct pci_dev *pdev, void *data)
{
	struct hot_reset_walk *walk = data;
	struct pci_dev *top = pdev;

	if (walk->slot) {
		while (top && top->bus != walk->slot->bus)
			top = top->bus->self;
		if (!top || top->slot != walk->slot)
			return 0;
	}
	walk->ret = walk->fn(pdev, walk);
	return walk->ret;
}

/*
 * Call walk->fn for every function that a reset of the slot or bus of dev hits.
 */
static int hot_reset_walk_all(struct noiommu_vfio_device *dev,
			      struct hot_reset_walk *walk)
{
	struct pci_dev *pdev = dev->core.pdev;

	walk->dev = dev;
	if (!pci_probe_reset_slot(pdev->slot))
		walk->slot = pdev->slot;
	else if (pci_probe_reset_bus(pdev->bus))
		return -ENODEV;
	pci_walk_bus(pdev->bus, hot_reset_walk_one, walk);
	return walk->ret;
}

static struct vfio_device *hot_reset_find(struct vfio_device_set *set,
					  struct pci_dev *pdev)
{
	struct vfio_device *cur;

	lockdep_assert_held(&set->lock);

	list_for_each_entry(cur, &set->device_list, dev_set_list)
		if (cur->dev == &pdev->dev)
			return cur;
	return NULL;
}

/*
 * The id of vdev in the context that dev is bound to; VFIO_PCI_DEVID_OWNED if
 * vdev is bound to none, so that a reset disturbs no one.
 */
static int hot_reset_devid_of(struct noiommu_vfio_device *dev,
			      struct vfio_device *vdev)
{
	struct noiommu_vfio_device *other;

	lockdep_assert_held(&dev->core.vdev.dev_set->lock);

	/* The set may include devices of vfio-pci */
	if (!vdev || vdev->ops != &noiommu_vfio_ops)
		return VFIO_PCI_DEVID_NOT_OWNED;
	other = to_noiommu_vfio(vdev);
	if (!other->binding)
		return VFIO_PCI_DEVID_OWNED;
	if (other->binding->ictx != dev->binding->ictx)
		return VFIO_PCI_DEVID_NOT_OWNED;
	return noiommufd_device_to_id(other->binding->idev);
}

static int hot_reset_devid_of_pdev(struct noiommu_vfio_device *dev,
				   struct pci_dev *pdev)
{
	return hot_reset_devid_of(dev,
				  hot_reset_find(dev->core.vdev.dev_set, pdev));
}

static int hot_reset_count_one(struct pci_dev *pdev,
			       struct hot_reset_walk *walk)
{
	walk->count++;
	return 0;
}

static int hot_reset_report_one(struct pci_dev *pdev,
				struct hot_reset_walk *walk)
{
	struct vfio_pci_dependent_device *out;
	int devid;

	/* Plugged in after the count */
	if (walk->count >= walk->room)
		return -EAGAIN;

	devid = hot_reset_devid_of_pdev(walk->dev, pdev);
	out = &walk->devices[walk->count++];
	out->devid = devid;
	out->segment = pci_domain_nr(pdev->bus);
	out->bus = pdev->bus->number;
	out->devfn = pdev->devfn;
	walk->owned &= devid != VFIO_PCI_DEVID_NOT_OWNED;
	return 0;
}

static int hot_reset_check_one(struct pci_dev *pdev,
			       struct hot_reset_walk *walk)
{
	if (hot_reset_devid_of_pdev(walk->dev, pdev) ==
	    VFIO_PCI_DEVID_NOT_OWNED)
		return -EINVAL;
	return 0;
}

/**
 * noiommu_vfio_hot_reset_info() - VFIO_DEVICE_GET_PCI_HOT_RESET_INFO.
 * @dev: the device, bound
 * @uptr: a struct vfio_pci_hot_reset_info
 *
 * Return: 0; -ENODEV: there is no such reset; -ENOSPC: the answer does not fit,
 * and its count is reported; or another errno.
 */
long noiommu_vfio_hot_reset_info(struct noiommu_vfio_device *dev,
				 void __user *uptr)
{
	const size_t minsz = offsetofend(struct vfio_pci_hot_reset_info, count);
	struct vfio_device_set *set = dev->core.vdev.dev_set;
	struct vfio_pci_hot_reset_info __user *arg = uptr;
	struct hot_reset_walk count = { .fn = hot_reset_count_one };
	struct hot_reset_walk report = { .fn = hot_reset_report_one,
					 .owned = true };
	struct vfio_pci_hot_reset_info hdr;
	int ret;

	if (copy_from_user(&hdr, arg, minsz))
		return -EFAULT;
	if (hdr.argsz < minsz)
		return -EINVAL;

	ret = hot_reset_walk_all(dev, &count);
	if (ret)
		return ret;

	hdr.flags = 0;
	hdr.count = count.count;
	if (count.count > (hdr.argsz - minsz) / sizeof(*report.devices))
		return copy_to_user(arg, &hdr, minsz) ? -EFAULT : -ENOSPC;

	report.room = count.count;
	report.devices = kcalloc(report.room, sizeof(*report.devices),
				 GFP_KERNEL);
	if (!report.devices)
		return -ENOMEM;

	if (mutex_lock_killable(&set->lock)) {
		ret = -EINTR;
		goto out_free;
	}
	ret = hot_reset_walk_all(dev, &report);
	mutex_unlock(&set->lock);
	if (ret)
		goto out_free;

	hdr.flags = VFIO_PCI_HOT_RESET_FLAG_DEV_ID;
	if (report.owned)
		hdr.flags |= VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
	hdr.count = report.count;
	if (copy_to_user(arg->devices, report.devices,
			 array_size(report.count, sizeof(*report.devices))) ||
	    copy_to_user(arg, &hdr, minsz))
		ret = -EFAULT;

out_free:
	kfree(report.devices);
	return ret;
}

/* Reset the slot or bus, whose functions are all in the set. */
static int hot_reset_set(struct noiommu_vfio_device *dev)
{
	struct vfio_device_set *set = dev->core.vdev.dev_set;
	struct vfio_pci_core_device *cur;
	unsigned int locked = 0;
	int ret = 0;

	lockdep_assert_held(&set->lock);

	list_for_each_entry(cur, &set->device_list, vdev.dev_set_list) {
		if (hot_reset_devid_of(dev, &cur->vdev) ==
		    VFIO_PCI_DEVID_NOT_OWNED) {
			ret = -EINVAL;
			goto out_unlock;
		}
		if (!noiommu_vfio_trylock_memory(cur)) {
			ret = -EBUSY;
			goto out_unlock;
		}
		locked++;
	}

	list_for_each_entry(cur, &set->device_list, vdev.dev_set_list)
		noiommu_vfio_wake(cur);
	ret = pci_reset_bus(dev->core.pdev);

out_unlock:
	list_for_each_entry(cur, &set->device_list, vdev.dev_set_list) {
		if (!locked--)
			break;
		up_write(&cur->memory_lock);
	}
	return ret;
}

/**
 * noiommu_vfio_hot_reset() - VFIO_DEVICE_PCI_HOT_RESET.
 * @dev: the device, bound
 * @uptr: a struct vfio_pci_hot_reset without group fds, which a cdev does not
 *	use
 *
 * Return: 0; -ENODEV: there is no such reset, or the device was pulled out;
 * -EINVAL: it would hit a device that the caller does not own; or another
 * errno.
 */
long noiommu_vfio_hot_reset(struct noiommu_vfio_device *dev, void __user *uptr)
{
	const size_t minsz = offsetofend(struct vfio_pci_hot_reset, count);
	struct vfio_device_set *set = dev->core.vdev.dev_set;
	struct hot_reset_walk check = { .fn = hot_reset_check_one };
	u64 start = noiommufd_trace_start(noiommufd_hot_reset);
	struct vfio_pci_hot_reset hdr;
	int ret;

	if (copy_from_user(&hdr, uptr, minsz))
		return -EFAULT;
	if (hdr.argsz < minsz || hdr.flags || hdr.count)
		return -EINVAL;

	if (mutex_lock_killable(&set->lock))
		return -EINTR;
	ret = hot_reset_walk_all(dev, &check);
	if (!ret)
		ret = noiommu_vfio_gone(dev) ? -ENODEV : hot_reset_set(dev);
	mutex_unlock(&set->lock);
	trace_noiommufd_hot_reset(dev->core.pdev, ret, start);
	return ret;
}
