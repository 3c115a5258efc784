// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who has a device: fdinfo of a file of its node, and the file devices in
 * noiommufd's directory in debugfs. The lines are "key:\tvalue", as noiommufd's.
 *
 * Whether a device is bound is asked of its files, because the locks of a
 * binding may be held for as long as a reset or a page fault takes.
 */
#include <linux/debugfs.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "vfio.h"

/* Openers of a device that are listed */
#define OPENERS_SHOWN 16

static DEFINE_MUTEX(noiommu_vfio_devices_lock);
static LIST_HEAD(noiommu_vfio_devices);

/**
 * noiommu_vfio_info_add() - Let debugfs show a device.
 * @dev: the device
 */
void noiommu_vfio_info_add(struct noiommu_vfio_device *dev)
{
	mutex_lock(&noiommu_vfio_devices_lock);
	list_add_tail(&dev->entry, &noiommu_vfio_devices);
	mutex_unlock(&noiommu_vfio_devices_lock);
}

/**
 * noiommu_vfio_info_del() - Undo noiommu_vfio_info_add().
 * @dev: the device
 */
void noiommu_vfio_info_del(struct noiommu_vfio_device *dev)
{
	mutex_lock(&noiommu_vfio_devices_lock);
	list_del(&dev->entry);
	mutex_unlock(&noiommu_vfio_devices_lock);
}

/**
 * noiommu_vfio_show_fdinfo() - Show a file of the node in /proc/PID/fdinfo.
 * @m: where to
 * @filp: the file, which cannot be closed meanwhile
 */
void noiommu_vfio_show_fdinfo(struct seq_file *m, struct file *filp)
{
	struct noiommu_vfio_file *df = filp->private_data;
	char *path;

	path = kobject_get_path(&df->dev->core.pdev->dev.kobj, GFP_KERNEL);
	if (!path)
		return;
	seq_printf(m, "vfio-device-syspath: /sys%s\n", path);
	kfree(path);

	noiommufd_opener_show(m, "opener:\t", &df->opener);
	/* Pairs with smp_store_release() in noiommu_vfio_bind() */
	if (smp_load_acquire(&df->access_granted))
		noiommufd_device_show(m, df->binding->idev);
}

static void *noiommu_vfio_devices_start(struct seq_file *m, loff_t *pos)
{
	mutex_lock(&noiommu_vfio_devices_lock);
	return seq_list_start(&noiommu_vfio_devices, *pos);
}

static void *noiommu_vfio_devices_next(struct seq_file *m, void *v, loff_t *pos)
{
	return seq_list_next(v, &noiommu_vfio_devices, pos);
}

static void noiommu_vfio_devices_stop(struct seq_file *m, void *v)
{
	mutex_unlock(&noiommu_vfio_devices_lock);
}

static int noiommu_vfio_devices_show(struct seq_file *m, void *v)
{
	struct noiommu_vfio_device *dev =
		list_entry(v, struct noiommu_vfio_device, entry);
	struct noiommu_vfio_file *df;
	const char *key;
	unsigned int n = 0;

	seq_printf(m, "device:\t%s\n", pci_name(dev->core.pdev));
	seq_printf(m, "device-node:\t%s\n",
		   dev_name(noiommu_vfio_dev(&dev->core.vdev)));
	seq_printf(m, "device-unbind-waits:\t%d\n", READ_ONCE(dev->removing));
	spin_lock(&dev->files_lock);
	seq_printf(m, "device-files:\t%u\n", dev->nr_files);
	list_for_each_entry(df, &dev->files, entry) {
		if (n++ == OPENERS_SHOWN)
			break;
		key = READ_ONCE(df->access_granted) ? "device-bound-by:\t" :
						      "device-opened-by:\t";
		noiommufd_opener_show(m, key, &df->opener);
	}
	spin_unlock(&dev->files_lock);
	return 0;
}

static const struct seq_operations noiommu_vfio_devices_sops = {
	.start	= noiommu_vfio_devices_start,
	.next	= noiommu_vfio_devices_next,
	.stop	= noiommu_vfio_devices_stop,
	.show	= noiommu_vfio_devices_show,
};

DEFINE_SEQ_ATTRIBUTE(noiommu_vfio_devices);

static struct dentry *noiommu_vfio_devices_file;

/**
 * noiommu_vfio_info_init() - Make the file in debugfs.
 */
void noiommu_vfio_info_init(void)
{
	noiommu_vfio_devices_file =
		debugfs_create_file("devices", 0400, noiommufd_debugfs, NULL,
				    &noiommu_vfio_devices_fops);
}

/**
 * noiommu_vfio_info_exit() - Undo noiommu_vfio_info_init(); waits for readers.
 */
void noiommu_vfio_info_exit(void)
{
	debugfs_remove(noiommu_vfio_devices_file);
}
