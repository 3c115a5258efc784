// SPDX-License-Identifier: GPL-2.0-only
/*
 * What vfio-pci-core does differently from kernel to kernel, or lacks.
 *
 * noiommu_vfio_trylock_memory() leaves memory_lock held for writing. Where the
 * kernel has a vma_lock, memory_lock is taken inside it, and vma_lock inside
 * mmap_lock. All are only tried.
 */
#include <linux/eventfd.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vfio_pci_core.h>

#ifdef HAVE_VFIO_DEVICE_GET_FROM_DEV

static pci_ers_result_t noiommufd_error_detected(struct pci_dev *pdev,
						 pci_channel_state_t state)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(&pdev->dev);

	mutex_lock(&core->igate);
	if (core->err_trigger)
		eventfd_signal(core->err_trigger, 1);
	mutex_unlock(&core->igate);
	return PCI_ERS_RESULT_CAN_RECOVER;
}

/* Instead of vfio_pci_core_err_handlers, see <linux/vfio_pci_core.h> */
const struct pci_error_handlers noiommufd_err_handlers = {
	.error_detected = noiommufd_error_detected,
};

#endif

#ifdef HAVE_VFIO_PCI_REGION_INFO_OP

/**
 * noiommu_vfio_get_region_info() - VFIO_DEVICE_GET_REGION_INFO.
 * @vdev: the device, open
 * @arg: a struct vfio_region_info
 *
 * From Linux 6.19 on vfio copies the struct, and vfio-pci-core has no ioctl for
 * it.
 *
 * Return: 0 or an errno.
 */
long noiommu_vfio_get_region_info(struct vfio_device *vdev,
				  struct vfio_region_info __user *arg)
{
	const size_t minsz = offsetofend(struct vfio_region_info, offset);
	struct vfio_region_info info = {};
	struct vfio_info_cap caps = {};
	int ret;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;

	ret = vfio_pci_ioctl_get_region_info(vdev, &info, &caps);
	if (ret)
		goto out_free;

	if (caps.size) {
		size_t full = sizeof(info) + caps.size;

		info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
		if (info.argsz < full) {
			/* Report the size that is needed */
			info.argsz = full;
		} else {
			vfio_info_cap_shift(&caps, sizeof(info));
			info.cap_offset = sizeof(info);
			if (copy_to_user(arg + 1, caps.buf, caps.size)) {
				ret = -EFAULT;
				goto out_free;
			}
		}
	}

	if (copy_to_user(arg, &info, minsz))
		ret = -EFAULT;

out_free:
	kfree(caps.buf);
	return ret;
}

#else

long noiommu_vfio_get_region_info(struct vfio_device *vdev,
				  struct vfio_region_info __user *arg)
{
	return vfio_pci_core_ioctl(vdev, VFIO_DEVICE_GET_REGION_INFO,
				   (unsigned long)arg);
}

#endif

#ifdef HAVE_VFIO_PCI_VMA_LIST

#ifndef HAVE_VFIO_PCI_VMA_PUBLIC
/* The node of vma_list: it moved into vfio_pci_core.c in Linux 6.0. */
struct vfio_pci_mmap_vma {
	struct vm_area_struct *vma;
	struct list_head vma_next;
};
#endif

/* Take a reference to an mm that has BARs mapped, if there is one. */
static struct mm_struct *first_mm(struct vfio_pci_core_device *core)
{
	struct vfio_pci_mmap_vma *node, *next;

	lockdep_assert_held(&core->vma_lock);

	list_for_each_entry_safe(node, next, &core->vma_list, vma_next) {
		if (mmget_not_zero(node->vma->vm_mm))
			return node->vma->vm_mm;
		/* The process is exiting, and its mappings with it */
		list_del(&node->vma_next);
		kfree(node);
	}
	return NULL;
}

static void zap_mm(struct vfio_pci_core_device *core, struct mm_struct *mm)
{
	struct vfio_pci_mmap_vma *node, *next;

	lockdep_assert_held(&core->vma_lock);
	mmap_assert_locked(mm);

	list_for_each_entry_safe(node, next, &core->vma_list, vma_next) {
		struct vm_area_struct *vma = node->vma;

		if (vma->vm_mm != mm)
			continue;
		/*
		 * A node that stayed would keep the BAR from being mapped again
		 */
		list_del(&node->vma_next);
		kfree(node);
		zap_vma_ptes(vma, vma->vm_start, vma->vm_end - vma->vm_start);
	}
}

/**
 * noiommu_vfio_trylock_memory() - Take the BARs of a device from all processes.
 * @core: the device
 *
 * Processes lose their mappings, and fault until the caller does
 * up_write(&core->memory_lock).
 *
 * Return: true; false on contention, with nothing locked.
 */
bool noiommu_vfio_trylock_memory(struct vfio_pci_core_device *core)
{
	struct mm_struct *mm;
	bool ok;

	for (;;) {
		if (!mutex_trylock(&core->vma_lock))
			return false;
		mm = first_mm(core);
		if (!mm)
			break;
		mutex_unlock(&core->vma_lock);

		/* mmap_lock comes first in the order */
		ok = mmap_read_trylock(mm);
		if (ok) {
			ok = mutex_trylock(&core->vma_lock);
			if (ok) {
				zap_mm(core, mm);
				mutex_unlock(&core->vma_lock);
			}
			mmap_read_unlock(mm);
		}
		mmput(mm);
		if (!ok)
			return false;
	}

	ok = down_write_trylock(&core->memory_lock);
	mutex_unlock(&core->vma_lock);
	return ok;
}

#else

bool noiommu_vfio_trylock_memory(struct vfio_pci_core_device *core)
{
	const loff_t start = VFIO_PCI_INDEX_TO_OFFSET(VFIO_PCI_BAR0_REGION_INDEX);
	const loff_t end = VFIO_PCI_INDEX_TO_OFFSET(VFIO_PCI_ROM_REGION_INDEX);

	if (!down_write_trylock(&core->memory_lock))
		return false;
	unmap_mapping_range(core->vdev.inode->i_mapping, start, end - start,
			    true);
	return true;
}

#endif
