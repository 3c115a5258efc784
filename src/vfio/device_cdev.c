// SPDX-License-Identifier: GPL-2.0-only
/*
 * The node /dev/vfio/devices/noiommu-vfioX: open, BIND, ATTACH, DETACH and the
 * last close.
 *
 * BIND and close run under dev_set->lock. Ending a binding may take long, as it
 * may unpin many GiB, and answering a program may fault. Both happen outside
 * that lock, so that they do not delay other devices of the set. bind_lock lets
 * BIND wait until the previous binding has ended: memory must not be unpinned
 * while the device is running again for another program. ATTACH and DETACH take
 * only the binding's attach_lock.
 */
#include <linux/capability.h>
#include <linux/device.h>
#include <linux/kdev_t.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uuid.h>
#include <linux/vfio.h>

#include <noiommufd/vfio.h>

#include "trace.h"
#include "vfio.h"

static dev_t noiommu_vfio_devt;

static char *noiommu_vfio_devnode(devnode_arg_device *dev, umode_t *mode,
				  kuid_t *uid, kgid_t *gid)
{
	return kasprintf(GFP_KERNEL, "vfio/devices/%s", dev_name(dev));
}

/* It has no name, which would show up as DEVTYPE in uevents. */
static const struct device_type noiommu_vfio_type = {
	.devnode = noiommu_vfio_devnode,
};

/**
 * noiommu_vfio_cdev_init() - Reserve device numbers and register the class.
 *
 * Return: 0 or an errno.
 */
int noiommu_vfio_cdev_init(void)
{
	int ret;

	ret = noiommu_vfio_class_register();
	if (ret)
		return ret;

	ret = alloc_chrdev_region(&noiommu_vfio_devt, 0, MINORMASK + 1,
				  "noiommu-vfio");
	if (ret)
		noiommu_vfio_class_unregister();
	return ret;
}

/**
 * noiommu_vfio_cdev_cleanup() - Undo noiommu_vfio_cdev_init().
 */
void noiommu_vfio_cdev_cleanup(void)
{
	unregister_chrdev_region(noiommu_vfio_devt, MINORMASK + 1);
	noiommu_vfio_class_unregister();
}

/**
 * noiommu_vfio_cdev_add() - Make the node of a device.
 * @dev: the device
 *
 * Return: 0 or an errno. On failure there is no node.
 */
int noiommu_vfio_cdev_add(struct noiommu_vfio_device *dev)
{
	struct vfio_device *vdev = &dev->core.vdev;
	struct device *node = noiommu_vfio_dev(vdev);
	int index = noiommu_vfio_index(vdev);
	int ret;

	ret = dev_set_name(node, "noiommu-vfio%d", index);
	if (ret)
		return ret;

	node->type = &noiommu_vfio_type;
	node->devt = MKDEV(MAJOR(noiommu_vfio_devt), index);
	cdev_init(&dev->cdev, &noiommu_vfio_fops);
	dev->cdev.owner = THIS_MODULE;

	/* The node may be opened as soon as it exists */
	refcount_set(&vdev->refcount, 1);
	return cdev_device_add(&dev->cdev, node);
}

/**
 * noiommu_vfio_cdev_del() - Remove the node of a device.
 * @dev: the device; open files stay open
 */
void noiommu_vfio_cdev_del(struct noiommu_vfio_device *dev)
{
	cdev_device_del(&dev->cdev, noiommu_vfio_dev(&dev->core.vdev));
}

/**
 * noiommu_vfio_open() - Open the node.
 * @inode: the node
 * @filp: the new file
 *
 * Return: 0; -ENODEV: the device is being removed; -EPERM: no CAP_SYS_RAWIO;
 * -ENOMEM.
 */
int noiommu_vfio_open(struct inode *inode, struct file *filp)
{
	struct noiommu_vfio_device *dev =
		container_of(inode->i_cdev, struct noiommu_vfio_device, cdev);
	struct vfio_device *vdev = &dev->core.vdev;
	struct noiommu_vfio_file *df;
	int ret;

	if (!refcount_inc_not_zero(&vdev->refcount))
		return -ENODEV;

	if (!capable(CAP_SYS_RAWIO)) {
		ret = -EPERM;
		goto err_put;
	}

	df = kzalloc(sizeof(*df), GFP_KERNEL_ACCOUNT);
	if (!df) {
		ret = -ENOMEM;
		goto err_put;
	}

	df->dev = dev;
	noiommufd_opener_get(&df->opener);
	spin_lock(&dev->files_lock);
	list_add_tail(&df->entry, &dev->files);
	dev->nr_files++;
	spin_unlock(&dev->files_lock);

	filp->private_data = df;
	noiommu_vfio_share_mapping(vdev, filp);
	return 0;

err_put:
	if (refcount_dec_and_test(&vdev->refcount))
		complete(&vdev->comp);
	return ret;
}

/**
 * noiommu_vfio_end_binding() - Detach, unbind, put the context.
 * @binding: binding, which is freed
 *
 * The device must be quiet, because this may unpin its memory.
 */
void noiommu_vfio_end_binding(struct noiommu_vfio_binding *binding)
{
	if (binding->attached != NOIOMMU_VFIO_DETACHED)
		noiommufd_device_detach(binding->idev);
	noiommufd_device_unbind(binding->idev);
	noiommufd_ctx_put(binding->ictx);
	mutex_destroy(&binding->attach_lock);
	kfree(binding);
}

/*
 * Undo a BIND: close the device, make it quiet, end the binding. While remove
 * holds device_lock the device cannot be reset; then the last two are left to
 * remove.
 */
static void noiommu_vfio_close(struct noiommu_vfio_file *df)
{
	struct noiommu_vfio_device *dev = df->dev;
	struct vfio_device *vdev = &dev->core.vdev;
	u64 start = noiommufd_trace_start(noiommufd_close);
	struct noiommu_vfio_binding *binding;

	mutex_lock(&dev->bind_lock);
	mutex_lock(&vdev->dev_set->lock);
	binding = df->binding;
	df->binding = NULL;
	dev->binding = NULL;
	/*
	 * A test build proves that the test would notice the wrong order:
	 * unpin first, and leave out the reset that ends all DMA.
	 */
	if (IS_ENABLED(CONFIG_NOIOMMUFD_TEST_UNQUIET)) {
		dev->core.reset_works = false;
		noiommu_vfio_end_binding(binding);
		binding = NULL;
	}
	noiommu_vfio_last_close(&dev->core, !noiommu_vfio_gone(dev));
	mutex_unlock(&vdev->dev_set->lock);

	if (binding && !noiommu_vfio_quiesce(dev)) {
		spin_lock(&dev->files_lock);
		list_add_tail(&binding->entry, &dev->unquiet);
		spin_unlock(&dev->files_lock);
	} else if (binding) {
		noiommu_vfio_end_binding(binding);
	}
	mutex_unlock(&dev->bind_lock);
	trace_noiommufd_close(dev->core.pdev, 0, start);
}

/**
 * noiommu_vfio_release() - Handle the last close of a file of the node.
 * @inode: the node
 * @filp: the file
 *
 * Return: 0.
 */
int noiommu_vfio_release(struct inode *inode, struct file *filp)
{
	struct noiommu_vfio_file *df = filp->private_data;
	struct noiommu_vfio_device *dev = df->dev;

	if (df->binding)
		noiommu_vfio_close(df);

	spin_lock(&dev->files_lock);
	list_del(&df->entry);
	dev->nr_files--;
	spin_unlock(&dev->files_lock);
	noiommufd_opener_put(&df->opener);
	kfree(df);

	/* From here on remove may continue */
	if (refcount_dec_and_test(&dev->core.vdev.refcount))
		complete(&dev->core.vdev.comp);
	return 0;
}

/* On failure the caller ends the binding. */
static int noiommu_vfio_first_open(struct noiommu_vfio_file *df,
				   struct noiommu_vfio_binding *binding)
{
	struct noiommu_vfio_device *dev = df->dev;
	struct vfio_device *vdev = &dev->core.vdev;
	int ret;

	lockdep_assert_held(&dev->bind_lock);
	lockdep_assert_held(&vdev->dev_set->lock);

	/* Enabling begins with a reset */
	if (noiommu_vfio_gone(dev))
		return -ENODEV;

	vdev->open_count++;
	ret = vfio_pci_core_enable(&dev->core);
	if (ret) {
		vdev->open_count--;
		return ret;
	}
	vfio_pci_core_finish_enable(&dev->core);

	ret = noiommu_vfio_map_wc(&dev->core, df->wc);
	if (ret) {
		noiommu_vfio_last_close(&dev->core, !noiommu_vfio_gone(dev));
		return ret;
	}

	dev->binding = binding;
	df->binding = binding;
	return 0;
}

/* A noiommu device has no VF token, so no token can match. */
static int
noiommu_vfio_check_token(const struct vfio_device_bind_iommufd *bind)
{
	uuid_t uuid;

	if (!(bind->flags & VFIO_DEVICE_BIND_FLAG_TOKEN))
		return 0;
	if (copy_from_user(&uuid, u64_to_user_ptr(bind->token_uuid_ptr),
			   sizeof(uuid)))
		return -EFAULT;
	return -EINVAL;
}

static int noiommu_vfio_copy_bind(struct vfio_device_bind_iommufd *bind,
				  struct vfio_device_bind_iommufd __user *arg)
{
	const size_t minsz = offsetofend(struct vfio_device_bind_iommufd,
					 out_devid);
	u32 size;
	int ret;

	if (get_user(size, &arg->argsz))
		return -EFAULT;
	if (size < minsz)
		return -EINVAL;
	ret = copy_struct_from_user(bind, sizeof(*bind), arg, size);
	if (ret)
		return ret;
	if (bind->iommufd < 0 || bind->flags & ~VFIO_DEVICE_BIND_FLAG_TOKEN)
		return -EINVAL;
	return 0;
}

/* Bind the device to the context of an iommufd, unless it is open already. */
static struct noiommu_vfio_binding *
noiommu_vfio_begin_binding(struct noiommu_vfio_device *dev,
			   struct vfio_device_bind_iommufd *bind)
{
	struct vfio_device *vdev = &dev->core.vdev;
	struct noiommu_vfio_binding *binding;
	int ret;

	lockdep_assert_held(&dev->bind_lock);
	lockdep_assert_held(&vdev->dev_set->lock);

	binding = kzalloc(sizeof(*binding), GFP_KERNEL_ACCOUNT);
	if (!binding)
		return ERR_PTR(-ENOMEM);
	mutex_init(&binding->attach_lock);

	binding->ictx = noiommufd_ctx_from_fd(bind->iommufd);
	if (IS_ERR(binding->ictx)) {
		ret = PTR_ERR(binding->ictx);
		goto err_free;
	}

	/* The device is bound through another file */
	if (vdev->open_count) {
		ret = -EINVAL;
		goto err_put;
	}

	binding->idev = noiommufd_device_bind(binding->ictx, vdev->dev,
					      &bind->out_devid);
	if (IS_ERR(binding->idev)) {
		ret = PTR_ERR(binding->idev);
		goto err_put;
	}
	return binding;

err_put:
	noiommufd_ctx_put(binding->ictx);
err_free:
	mutex_destroy(&binding->attach_lock);
	kfree(binding);
	return ERR_PTR(ret);
}

/*
 * token: what noiommu_vfio_check_token() returned. The answer goes into bind.
 */
static int noiommu_vfio_do_bind(struct noiommu_vfio_file *df,
				struct vfio_device_bind_iommufd *bind,
				int token)
{
	struct noiommu_vfio_device *dev = df->dev;
	struct vfio_device_set *set = dev->core.vdev.dev_set;
	struct noiommu_vfio_binding *binding = NULL;
	int ret;

	/* A close may hold both for as long as a reset takes */
	if (mutex_lock_killable(&dev->bind_lock))
		return -EINTR;
	if (mutex_lock_killable(&set->lock)) {
		ret = -EINTR;
		goto out_unlock_bind;
	}

	ret = df->binding ? -EINVAL : token;
	if (ret)
		goto out_unlock;
	binding = noiommu_vfio_begin_binding(dev, bind);
	ret = PTR_ERR_OR_ZERO(binding);
	if (ret) {
		binding = NULL;
		goto out_unlock;
	}
	ret = noiommu_vfio_first_open(df, binding);

out_unlock:
	mutex_unlock(&set->lock);
	/* This may unpin much memory: other devices of the set do not wait */
	if (ret && binding)
		noiommu_vfio_end_binding(binding);
out_unlock_bind:
	mutex_unlock(&dev->bind_lock);
	return ret;
}

/**
 * noiommu_vfio_bind() - VFIO_DEVICE_BIND_IOMMUFD.
 * @df: the file
 * @uptr: a struct vfio_device_bind_iommufd
 *
 * Return: 0 or an errno. On failure nothing has changed.
 */
long noiommu_vfio_bind(struct noiommu_vfio_file *df, void __user *uptr)
{
	struct vfio_device_bind_iommufd __user *arg = uptr;
	u64 start = noiommufd_trace_start(noiommufd_bind);
	struct vfio_device_bind_iommufd bind;
	int ret;

	ret = noiommu_vfio_copy_bind(&bind, arg);
	if (ret)
		return ret;
	ret = noiommu_vfio_do_bind(df, &bind, noiommu_vfio_check_token(&bind));
	trace_noiommufd_bind(df->dev->core.pdev, ret ? 0 : bind.out_devid, ret,
			     start);
	if (ret)
		return ret;

	if (put_user(bind.out_devid, &arg->out_devid)) {
		noiommu_vfio_close(df);
		return -EFAULT;
	}

	/* Pairs with smp_load_acquire() in vfio_main.c */
	smp_store_release(&df->access_granted, true);
	return 0;
}

static int noiommu_vfio_do_attach(struct noiommu_vfio_binding *binding,
				  enum noiommu_vfio_attached how, u32 *pt_id)
{
	int ret;

	lockdep_assert_held(&binding->attach_lock);

	/* If it is attached the other way, noiommufd returns EBUSY */
	if (binding->attached == how)
		return noiommufd_device_replace(binding->idev, pt_id);

	ret = noiommufd_device_attach(binding->idev, pt_id);
	if (!ret)
		binding->attached = how;
	return ret;
}

static void noiommu_vfio_do_detach(struct noiommu_vfio_binding *binding,
				   enum noiommu_vfio_attached how)
{
	lockdep_assert_held(&binding->attach_lock);

	if (binding->attached != how)
		return;
	noiommufd_device_detach(binding->idev);
	binding->attached = NOIOMMU_VFIO_DETACHED;
}

/**
 * noiommu_vfio_attach() - VFIO_DEVICE_ATTACH_IOMMUFD_PT.
 * @df: the file
 * @uptr: a struct vfio_device_attach_iommufd_pt, with or without pasid
 *
 * Return: 0 or an errno.
 */
long noiommu_vfio_attach(struct noiommu_vfio_file *df, void __user *uptr)
{
	const size_t minsz = offsetofend(struct vfio_device_attach_iommufd_pt,
					 pt_id);
	enum noiommu_vfio_attached how = NOIOMMU_VFIO_ATTACHED;
	struct noiommu_vfio_binding *binding = df->binding;
	struct vfio_device_attach_iommufd_pt __user *arg = uptr;
	u64 start = noiommufd_trace_start(noiommufd_attach);
	struct vfio_device_attach_iommufd_pt attach;
	int ret;

	if (copy_from_user(&attach, arg, minsz))
		return -EFAULT;
	if (attach.argsz < minsz || attach.flags & ~VFIO_DEVICE_ATTACH_PASID)
		return -EINVAL;
	if (attach.flags & VFIO_DEVICE_ATTACH_PASID) {
		if (attach.argsz < sizeof(attach))
			return -EINVAL;
		if (get_user(attach.pasid, &arg->pasid))
			return -EFAULT;
		/* The errno of mainline's PASID allocator */
		if (attach.pasid > INT_MAX)
			return -ENOSPC;
		if (attach.pasid)
			return -EINVAL;
		how = NOIOMMU_VFIO_ATTACHED_PASID;
	}

	/* Check now that the answer can be written: replace cannot be undone */
	if (put_user(attach.pt_id, &arg->pt_id))
		return -EFAULT;

	/* The holder may wait for a page that user space has to supply */
	if (mutex_lock_killable(&binding->attach_lock))
		return -EINTR;
	ret = noiommu_vfio_do_attach(binding, how, &attach.pt_id);
	trace_noiommufd_attach(df->dev->core.pdev, attach.pt_id, ret, start);
	if (!ret && put_user(attach.pt_id, &arg->pt_id)) {
		noiommu_vfio_do_detach(binding, how);
		ret = -EFAULT;
	}
	mutex_unlock(&binding->attach_lock);
	return ret;
}

/**
 * noiommu_vfio_detach() - VFIO_DEVICE_DETACH_IOMMUFD_PT.
 * @df: the file
 * @uptr: a struct vfio_device_detach_iommufd_pt, with or without pasid
 *
 * Return: 0, whether it was attached or not; or an errno for bad arguments.
 */
long noiommu_vfio_detach(struct noiommu_vfio_file *df, void __user *uptr)
{
	const size_t minsz = offsetofend(struct vfio_device_detach_iommufd_pt,
					 flags);
	enum noiommu_vfio_attached how = NOIOMMU_VFIO_ATTACHED;
	struct noiommu_vfio_binding *binding = df->binding;
	struct vfio_device_detach_iommufd_pt __user *arg = uptr;
	struct vfio_device_detach_iommufd_pt detach;

	if (copy_from_user(&detach, arg, minsz))
		return -EFAULT;
	if (detach.argsz < minsz || detach.flags & ~VFIO_DEVICE_DETACH_PASID)
		return -EINVAL;
	if (detach.flags & VFIO_DEVICE_DETACH_PASID) {
		if (detach.argsz < sizeof(detach))
			return -EINVAL;
		if (get_user(detach.pasid, &arg->pasid))
			return -EFAULT;
		if (detach.pasid)
			return 0;
		how = NOIOMMU_VFIO_ATTACHED_PASID;
	}

	if (mutex_lock_killable(&binding->attach_lock))
		return -EINTR;
	noiommu_vfio_do_detach(binding, how);
	mutex_unlock(&binding->attach_lock);
	return 0;
}
