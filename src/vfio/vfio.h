/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of noiommu-vfio-pci.ko share: a device, an open file of its
 * node, its binding to an iommufd context, and their functions.
 *
 * Locks, outermost first:
 *   device_lock of the PCI device   held around probe and remove; elsewhere
 *                                   only tried
 *   dev->bind_lock                  a binding from BIND to its end: none begins
 *                                   while another one is ending
 *   dev_set->lock (vfio's)          open_count, @binding of the device, enable
 *                                   and close
 *   binding->attach_lock            @attached; held around attach and detach,
 *                                   never together with dev_set->lock
 *   noiommufd's own locks           inside both
 *   dev->files_lock                 @files, @nr_files, @unquiet; only locks of a
 *                                   process that has a file open are taken
 *                                   inside it
 */
#ifndef __NOIOMMU_VFIO_H
#define __NOIOMMU_VFIO_H

#include <linux/cdev.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/noiommufd.h>
#include <linux/pci.h>
#include <linux/types.h>
#include <linux/vfio_pci_core.h>

struct seq_file;

/**
 * enum noiommu_vfio_attached - How the device is attached.
 * @NOIOMMU_VFIO_DETACHED: not at all
 * @NOIOMMU_VFIO_ATTACHED: by ATTACH without a PASID
 * @NOIOMMU_VFIO_ATTACHED_PASID: by ATTACH with PASID 0, which means the same
 *	but is kept apart, as in mainline
 */
enum noiommu_vfio_attached {
	NOIOMMU_VFIO_DETACHED,
	NOIOMMU_VFIO_ATTACHED,
	NOIOMMU_VFIO_ATTACHED_PASID,
};

/**
 * struct noiommu_vfio_binding - A device bound to an iommufd context.
 * @ictx: the context, with a reference
 * @idev: the device as that context knows it
 * @attach_lock: serialises ATTACH, DETACH
 * @attached: how it is attached
 * @entry: on &noiommu_vfio_device.unquiet if close could not reset the device
 */
struct noiommu_vfio_binding {
	struct noiommufd_ctx *ictx;
	struct noiommufd_device *idev;
	struct mutex attach_lock; /* see the top of this file */
	enum noiommu_vfio_attached attached;
	struct list_head entry;
};

/**
 * struct noiommu_vfio_device - A PCI device of ours.
 * @core: vfio-pci-core's part; first, because vfio frees the whole by its
 *	address
 * @cdev: the node
 * @bind_lock: serialises BIND and the end of a binding
 * @binding: the current binding, or NULL
 * @files_lock: guards the two lists
 * @files: open files, bound or not
 * @nr_files: how many these are
 * @unquiet: bindings that remove ends, after it has reset the device
 * @removing: remove has begun, and holds device_lock
 * @entry: in the list of devices that debugfs shows
 */
struct noiommu_vfio_device {
	struct vfio_pci_core_device core;
	struct cdev cdev;
	struct mutex bind_lock; /* see the top of this file */
	struct noiommu_vfio_binding *binding;
	spinlock_t files_lock; /* see the top of this file */
	struct list_head files;
	unsigned int nr_files;
	struct list_head unquiet;
	bool removing;
	struct list_head entry;
};

/**
 * struct noiommu_vfio_file - An open file of the node.
 * @dev: its device
 * @binding: set once by BIND under dev_set->lock, ended by the last close
 * @wc: bit n: BAR n is write-combining. Set under dev_set->lock before BIND,
 *	then constant
 * @access_granted: BIND is complete, and other ioctls may use @binding
 * @entry: on &noiommu_vfio_device.files
 * @opener: the process that opened it, for messages
 */
struct noiommu_vfio_file {
	struct noiommu_vfio_device *dev;
	struct noiommu_vfio_binding *binding;
	u32 wc;
	bool access_granted;
	struct list_head entry;
	struct noiommufd_opener opener;
};

extern const struct vfio_device_ops noiommu_vfio_ops;
extern const struct file_operations noiommu_vfio_fops;

static inline struct noiommu_vfio_device *
to_noiommu_vfio(struct vfio_device *vdev)
{
	return container_of(vdev, struct noiommu_vfio_device, core.vdev);
}

/* quiesce.c */
bool noiommu_vfio_gone(struct noiommu_vfio_device *dev);
void noiommu_vfio_wake(struct vfio_pci_core_device *core);
bool noiommu_vfio_quiesce(struct noiommu_vfio_device *dev);
void noiommu_vfio_quiesce_locked(struct noiommu_vfio_device *dev);

/* device_cdev.c */
int noiommu_vfio_cdev_init(void);
void noiommu_vfio_cdev_cleanup(void);
int noiommu_vfio_cdev_add(struct noiommu_vfio_device *dev);
void noiommu_vfio_cdev_del(struct noiommu_vfio_device *dev);
void noiommu_vfio_end_binding(struct noiommu_vfio_binding *binding);
int noiommu_vfio_open(struct inode *inode, struct file *filp);
int noiommu_vfio_release(struct inode *inode, struct file *filp);
long noiommu_vfio_bind(struct noiommu_vfio_file *df, void __user *arg);
long noiommu_vfio_attach(struct noiommu_vfio_file *df, void __user *arg);
long noiommu_vfio_detach(struct noiommu_vfio_file *df, void __user *arg);

/* info.c */
void noiommu_vfio_info_add(struct noiommu_vfio_device *dev);
void noiommu_vfio_info_del(struct noiommu_vfio_device *dev);
void noiommu_vfio_show_fdinfo(struct seq_file *m, struct file *filp);
void noiommu_vfio_info_init(void);
void noiommu_vfio_info_exit(void);

/* wc.c */
long noiommu_vfio_set_wc(struct noiommu_vfio_file *df, void __user *arg);
int noiommu_vfio_map_wc(struct vfio_pci_core_device *core, u32 bars);
bool noiommu_vfio_is_wc(const struct noiommu_vfio_file *df, u64 offset);
int noiommu_vfio_mmap_wc(struct vfio_device *vdev, struct vm_area_struct *vma);

/* hot_reset.c */
long noiommu_vfio_hot_reset_info(struct noiommu_vfio_device *dev,
				 void __user *arg);
long noiommu_vfio_hot_reset(struct noiommu_vfio_device *dev, void __user *arg);

#endif /* __NOIOMMU_VFIO_H */
