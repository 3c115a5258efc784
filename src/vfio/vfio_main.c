// SPDX-License-Identifier: GPL-2.0-only
/*
 * The operations of an open node, which device_cdev.c, hot_reset.c and
 * vfio-pci-core carry out.
 *
 * No lock is taken here. Until BIND is complete, which access_granted says with
 * release semantics, everything but BIND returns EINVAL.
 */
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>

#include <noiommufd/noiommufd.h>
#include <noiommufd/vfio.h>

#include "trace.h"
#include "vfio.h"

/* VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, which older headers lack */
#define MIG_PRECOPY_INFO_V2	12

static struct vfio_device *noiommu_vfio_granted(struct file *filp)
{
	struct noiommu_vfio_file *df = filp->private_data;

	/* Pairs with smp_store_release() in noiommu_vfio_bind() */
	if (!smp_load_acquire(&df->access_granted))
		return NULL;
	return &df->dev->core.vdev;
}

/*
 * No feature of vfio-pci-core can work here. Those for low power would succeed
 * without any effect, because only registration installs what suspends a
 * device; VF tokens and migration are vfio's; a dma-buf could not be revoked in
 * hot_reset.c. So check the arguments as vfio does, then refuse.
 */
static long noiommu_vfio_feature(struct vfio_device_feature __user *arg)
{
	const u32 valid = VFIO_DEVICE_FEATURE_MASK | VFIO_DEVICE_FEATURE_GET |
			  VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_PROBE;
	const u32 both = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET;
	const size_t minsz = offsetofend(struct vfio_device_feature, flags);
	struct vfio_device_feature feature;

	if (copy_from_user(&feature, arg, minsz))
		return -EFAULT;
	if (feature.argsz < minsz || feature.flags & ~valid)
		return -EINVAL;
	if (!(feature.flags & VFIO_DEVICE_FEATURE_PROBE) &&
	    (feature.flags & both) == both)
		return -EINVAL;
	/* For this one 7.3 has another errno if nothing can migrate */
	if ((feature.flags & VFIO_DEVICE_FEATURE_MASK) == MIG_PRECOPY_INFO_V2)
		return -EINVAL;
	return -ENOTTY;
}

/*
 * The upper bits of the offset are the index of a BAR. vfio-pci-core takes the
 * offset as signed, has no lower bound, and would access memory far outside the
 * device.
 */
static long noiommu_vfio_ioeventfd(struct noiommu_vfio_file *df,
				   struct vfio_device_ioeventfd __user *arg)
{
	u64 offset;

	if (copy_from_user(&offset, &arg->offset, sizeof(offset)))
		return -EFAULT;
	if (offset > S64_MAX || noiommu_vfio_is_wc(df, offset))
		return -EINVAL;
	return vfio_pci_core_ioctl(&df->dev->core.vdev, VFIO_DEVICE_IOEVENTFD,
				   (unsigned long)arg);
}

/* For a device that is gone the kernel would wait with device_lock held. */
static long noiommu_vfio_reset(struct noiommu_vfio_device *dev)
{
	u64 start = noiommufd_trace_start(noiommufd_reset);
	long ret = -ENODEV;

	if (!noiommu_vfio_gone(dev))
		ret = vfio_pci_core_ioctl(&dev->core.vdev, VFIO_DEVICE_RESET,
					  0);
	trace_noiommufd_reset(dev->core.pdev, ret, start);
	return ret;
}

static long noiommu_vfio_ioctl(struct file *filp, unsigned int cmd,
			       unsigned long arg)
{
	struct noiommu_vfio_file *df = filp->private_data;
	void __user *uarg = (void __user *)arg;
	struct vfio_device *vdev;

	if (cmd == VFIO_DEVICE_BIND_IOMMUFD)
		return noiommu_vfio_bind(df, uarg);
	if (cmd == NOIOMMUFD_DEVICE_SET_WC)
		return noiommu_vfio_set_wc(df, uarg);

	vdev = noiommu_vfio_granted(filp);
	if (!vdev)
		return -EINVAL;

	switch (cmd) {
	case VFIO_DEVICE_ATTACH_IOMMUFD_PT:
		return noiommu_vfio_attach(df, uarg);
	case VFIO_DEVICE_DETACH_IOMMUFD_PT:
		return noiommu_vfio_detach(df, uarg);
	case VFIO_DEVICE_RESET:
		return noiommu_vfio_reset(df->dev);
	case VFIO_DEVICE_IOEVENTFD:
		return noiommu_vfio_ioeventfd(df, uarg);
	case VFIO_DEVICE_FEATURE:
		return noiommu_vfio_feature(uarg);
	case VFIO_DEVICE_GET_PCI_HOT_RESET_INFO:
		return noiommu_vfio_hot_reset_info(df->dev, uarg);
	case VFIO_DEVICE_PCI_HOT_RESET:
		return noiommu_vfio_hot_reset(df->dev, uarg);
	case VFIO_DEVICE_GET_REGION_INFO:
		return noiommu_vfio_get_region_info(vdev, uarg);
	default:
		return vfio_pci_core_ioctl(vdev, cmd, arg);
	}
}

static ssize_t noiommu_vfio_read(struct file *filp, char __user *buf,
				 size_t count, loff_t *ppos)
{
	struct vfio_device *vdev = noiommu_vfio_granted(filp);

	if (!vdev || noiommu_vfio_is_wc(filp->private_data, *ppos))
		return -EINVAL;
	return vfio_pci_core_read(vdev, buf, count, ppos);
}

static ssize_t noiommu_vfio_write(struct file *filp, const char __user *buf,
				  size_t count, loff_t *ppos)
{
	struct noiommu_vfio_file *df = filp->private_data;
	struct vfio_device *vdev = noiommu_vfio_granted(filp);

	if (!vdev || noiommu_vfio_is_wc(df, *ppos))
		return -EINVAL;
	/* One of its bits is a reset: see noiommu_vfio_reset() */
	if (VFIO_PCI_OFFSET_TO_INDEX(*ppos) == VFIO_PCI_CONFIG_REGION_INDEX &&
	    noiommu_vfio_gone(df->dev))
		return -ENODEV;
	return vfio_pci_core_write(vdev, buf, count, ppos);
}

static int noiommu_vfio_mmap(struct file *filp, struct vm_area_struct *vma)
{
	struct vfio_device *vdev = noiommu_vfio_granted(filp);

	if (!vdev)
		return -EINVAL;
	if (noiommu_vfio_is_wc(filp->private_data,
			       (u64)vma->vm_pgoff << PAGE_SHIFT))
		return noiommu_vfio_mmap_wc(vdev, vma);
	return vfio_pci_core_mmap(vdev, vma);
}

const struct file_operations noiommu_vfio_fops = {
	.owner		= THIS_MODULE,
	.open		= noiommu_vfio_open,
	.release	= noiommu_vfio_release,
	.read		= noiommu_vfio_read,
	.write		= noiommu_vfio_write,
	.unlocked_ioctl	= noiommu_vfio_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.mmap		= noiommu_vfio_mmap,
	.show_fdinfo	= noiommu_vfio_show_fdinfo,
};
