// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices, as drivers use them through <linux/noiommufd.h>. The driver
 * serialises what it does with one device, so noiommufd_device::hwpt needs no
 * lock here.
 */
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "iommufd_private.h"

void noiommufd_device_destroy(struct noiommufd_object *obj)
{
	put_device(container_of(obj, struct noiommufd_device, obj)->dev);
}

/**
 * noiommufd_device_bind() - Bind a device to a context.
 * @ictx: context; keeps a reference until noiommufd_device_unbind()
 * @dev: device without an IOMMU in front of it; the caller is its driver
 * @id: out: its id in the context
 *
 * From here on the context assumes that the device may write to any memory
 * whose address the program was given.
 *
 * Return: the device as an object of the context, or -ENOMEM.
 */
struct noiommufd_device *noiommufd_device_bind(struct noiommufd_ctx *ictx,
					       struct device *dev, u32 *id)
{
	struct noiommufd_device *idev;

	idev = noiommufd_object_alloc(ictx, idev, IOMMUFD_OBJ_DEVICE);
	if (IS_ERR(idev))
		return idev;
	get_file(ictx->file);
	atomic_inc(&ictx->nr_devices);
	idev->dev = get_device(dev);
	idev->obj.users = 1;
	refcount_inc(&idev->obj.refs);
	*id = idev->obj.id;
	noiommufd_object_finalize(&idev->obj);
	return idev;
}
EXPORT_SYMBOL_GPL(noiommufd_device_bind);

/* No device can write to the memory of this context any more. */
static void noiommufd_ctx_unpin_unused(struct noiommufd_ctx *ictx)
{
	struct noiommufd_object *obj;
	unsigned long index;

	xa_for_each(&ictx->objects, index, obj) {
		obj = noiommufd_get_object(ictx, index, IOMMUFD_OBJ_IOAS);
		if (IS_ERR(obj))
			continue;
		noiommu_unpin_unused(&to_ioas(obj)->iopt);
		noiommufd_put_object(obj);
	}
}

/**
 * noiommufd_device_unbind() - Undo noiommufd_device_bind().
 * @idev: detached; gone when this returns
 *
 * The device must be quiet: bus mastering off, outstanding requests done, the
 * function reset. With the last device of a context, memory that no HWPT needs
 * is unpinned.
 */
void noiommufd_device_unbind(struct noiommufd_device *idev)
{
	struct noiommufd_ctx *ictx = idev->obj.ictx;

	WARN_ON(idev->hwpt);
	if (READ_ONCE(ictx->auto_iova) && !READ_ONCE(ictx->translated))
		dev_notice_ratelimited(idev->dev,
				       "closed after memory was mapped at IOVAs of the kernel's choice, none of which was translated: without an IOMMU a device needs physical addresses, which IOMMU_IOAS_NOIOMMU_GET_PA returns\n");
	noiommufd_object_unuse(&idev->obj, true);
	if (atomic_dec_and_test(&ictx->nr_devices))
		noiommufd_ctx_unpin_unused(ictx);
	noiommufd_ctx_put(ictx);
}
EXPORT_SYMBOL_GPL(noiommufd_device_unbind);

/**
 * noiommufd_device_to_id() - Get the id of a device in its context.
 * @idev: device
 *
 * Return: the id.
 */
u32 noiommufd_device_to_id(struct noiommufd_device *idev)
{
	return idev->obj.id;
}
EXPORT_SYMBOL_GPL(noiommufd_device_to_id);

/* Find the automatic HWPT of an IOAS; the caller becomes a user of it. */
static struct noiommufd_hwpt_paging *
noiommufd_find_auto_hwpt(struct noiommufd_ioas *ioas)
{
	struct xarray *objects = &ioas->obj.ictx->objects;
	struct noiommufd_hwpt_paging *hwpt;

	lockdep_assert_held(&ioas->iopt.hwpt_mutex);

	xa_lock(objects);
	hwpt = ioas->auto_hwpt;
	/* Ignore one that is being destroyed. */
	if (hwpt && noiommufd_object_use_locked(&hwpt->obj))
		hwpt = NULL;
	xa_unlock(objects);
	return hwpt;
}

/* The same, but create it if there is none. */
static struct noiommufd_hwpt_paging *
noiommufd_auto_hwpt(struct noiommufd_ioas *ioas)
{
	struct xarray *objects = &ioas->obj.ictx->objects;
	struct noiommufd_hwpt_paging *hwpt;
	int rc;

	rc = mutex_lock_killable(&ioas->iopt.hwpt_mutex);
	if (rc)
		return ERR_PTR(rc);

	hwpt = noiommufd_find_auto_hwpt(ioas);
	if (hwpt)
		goto out_unlock;
	hwpt = noiommufd_hwpt_paging_alloc(ioas, NULL);
	if (IS_ERR(hwpt))
		goto out_unlock;
	hwpt->obj.users = 1;
	refcount_inc(&hwpt->obj.refs);
	xa_lock(objects);
	ioas->auto_hwpt = hwpt;
	xa_unlock(objects);
	noiommufd_object_finalize(&hwpt->obj);
out_unlock:
	mutex_unlock(&ioas->iopt.hwpt_mutex);
	return hwpt;
}

/* Find the HWPT for an id that a program gave, and become a user of it. */
static struct noiommufd_hwpt_paging *
noiommufd_use_hwpt(struct noiommufd_ctx *ictx, u32 pt_id)
{
	struct noiommufd_hwpt_paging *hwpt;
	struct noiommufd_object *obj;
	int rc;

	obj = noiommufd_get_object(ictx, pt_id, IOMMUFD_OBJ_ANY);
	if (IS_ERR(obj))
		return ERR_CAST(obj);

	switch (obj->type) {
	case IOMMUFD_OBJ_HWPT_PAGING:
		hwpt = to_hwpt_paging(obj);
		rc = noiommufd_object_use(obj);
		if (rc)
			hwpt = ERR_PTR(rc);
		break;
	case IOMMUFD_OBJ_IOAS:
		hwpt = noiommufd_auto_hwpt(to_ioas(obj));
		break;
	default:
		hwpt = ERR_PTR(-EINVAL);
	}
	noiommufd_put_object(obj);
	return hwpt;
}

static int noiommufd_device_change_pt(struct noiommufd_device *idev, u32 *pt_id)
{
	struct noiommufd_hwpt_paging *old = idev->hwpt, *hwpt;

	hwpt = noiommufd_use_hwpt(idev->obj.ictx, *pt_id);
	if (IS_ERR(hwpt))
		return PTR_ERR(hwpt);
	/* Pairs with the dependent reads in noiommufd_device_show(). */
	smp_store_release(&idev->hwpt, hwpt);
	*pt_id = hwpt->obj.id;
	if (old)
		noiommufd_object_unuse(&old->obj, old->auto_domain);
	return 0;
}

/**
 * noiommufd_device_attach() - Attach a device to an address space.
 * @idev: device
 * @pt_id: in: an IOAS or an HWPT; out: the HWPT
 *
 * All memory of the IOAS is pinned when this returns 0.
 *
 * Return: 0; -EBUSY: it is attached already; -ENOENT: no such object; -EINVAL:
 * an object of another type; -EADDRINUSE, -EFAULT, -ENOMEM, -EINTR: see
 * noiommu_table_add_hwpt().
 */
int noiommufd_device_attach(struct noiommufd_device *idev, u32 *pt_id)
{
	if (idev->hwpt)
		return -EBUSY;
	return noiommufd_device_change_pt(idev, pt_id);
}
EXPORT_SYMBOL_GPL(noiommufd_device_attach);

/**
 * noiommufd_device_replace() - Attach a device to another address space.
 * @idev: device, attached
 * @pt_id: in: an IOAS or an HWPT; out: the HWPT
 *
 * What the old one maps stays pinned: see noiommufd_device_detach().
 *
 * Return: as noiommufd_device_attach(). On failure the old attachment stays.
 */
int noiommufd_device_replace(struct noiommufd_device *idev, u32 *pt_id)
{
	if (WARN_ON(!idev->hwpt))
		return -EINVAL;
	return noiommufd_device_change_pt(idev, pt_id);
}
EXPORT_SYMBOL_GPL(noiommufd_device_replace);

/**
 * noiommufd_device_detach() - Detach a device from its address space.
 * @idev: device, attached or not
 *
 * Translation ends with the last device. Memory stays pinned until it is
 * unmapped or the last device of the context is unbound: until then nothing
 * stops a device from doing DMA.
 */
void noiommufd_device_detach(struct noiommufd_device *idev)
{
	struct noiommufd_hwpt_paging *hwpt = idev->hwpt;

	if (!hwpt)
		return;
	WRITE_ONCE(idev->hwpt, NULL);
	noiommufd_object_unuse(&hwpt->obj, hwpt->auto_domain);
}
EXPORT_SYMBOL_GPL(noiommufd_device_detach);
