// SPDX-License-Identifier: GPL-2.0-only
/*
 * The PCI driver: which devices it takes, which it refuses, and how remove
 * waits for the last close.
 *
 * vfio-pci-core is used as a library. vfio allocates the vfio_device and gives
 * it an index and a class, but does not register it, as that requires an IOMMU
 * group. What registration would do is done here.
 *
 * probe and remove run under device_lock. Nothing else waits for it, because
 * remove holds it while it waits for the last close.
 */
#define pr_fmt(fmt) "noiommu-vfio-pci: " fmt

#include <linux/cc_platform.h>
#include <linux/completion.h>
#include <linux/dma-map-ops.h>
#include <linux/fdtable.h>
#include <linux/ioport.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/security.h>
#include <linux/swiotlb.h>
#include <linux/vfio.h>
#include <xen/xen.h>

#include "reach.h"
#include "vfio.h"

#define UNSAFE_MODE \
	"/sys/module/noiommu_vfio_pci/parameters/enable_unsafe_noiommu_mode"

static bool enable_unsafe_noiommu_mode;
module_param(enable_unsafe_noiommu_mode, bool, 0644);
MODULE_PARM_DESC(enable_unsafe_noiommu_mode,
		 "Take devices that no IOMMU contains: programs that use them can read and write all of memory, and the kernel is tainted (default: off)");

const struct vfio_device_ops noiommu_vfio_ops = {
	.name = "noiommu-vfio-pci",
	VFIO_PCI_CORE_LIFE_CYCLE_OPS
};

static int noiommu_vfio_misses_ram(struct resource *ram, void *reach)
{
	return !noiommu_vfio_reaches_ram(reach, ram->start, ram->end);
}

/* Can the device use the physical addresses of pages? */
static bool noiommu_vfio_reaches(struct pci_dev *pdev,
				 struct noiommu_vfio_reach *reach)
{
	struct device *dev = &pdev->dev;

	*reach = (struct noiommu_vfio_reach) {
		.xen_pv = xen_pv_domain(),
		.encrypted = cc_platform_has(CC_ATTR_MEM_ENCRYPT),
		.restricted = is_swiotlb_for_alloc(dev),
		.incoherent = !dev_is_dma_coherent(dev),
		.limit = dev->bus_dma_limit,
		.ranges = dev->dma_range_map,
	};
	if (!noiommu_vfio_reaches_memory(reach))
		return false;
	if (!reach->limit && !reach->ranges)
		return true;
	return walk_iomem_res_desc(IORES_DESC_NONE,
				   IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY,
				   0, -1, reach, noiommu_vfio_misses_ram) <= 0;
}

/*
 * Return the reason to refuse a device, or NULL; *err is the errno. The text
 * may be in reach.
 */
static const char *noiommu_vfio_refusal(struct pci_dev *pdev,
					struct noiommu_vfio_reach *reach,
					int *err)
{
	struct iommu_group *group = iommu_group_get(&pdev->dev);

	iommu_group_put(group);
	*err = -EINVAL;
	if (pdev->dev.iommu || group)
		return "an IOMMU manages this device: use vfio-pci";
	if (pdev->hdr_type != PCI_HEADER_TYPE_NORMAL)
		return "this is a bridge: only endpoints can be driven";
	if (pdev->class >> 8 == PCI_CLASS_DISPLAY_VGA)
		return "this is a VGA device: these are not supported";
	if (!noiommu_vfio_reaches(pdev, reach))
		return reach->why;
	if (!enable_unsafe_noiommu_mode)
		return "unsafe no-IOMMU mode is off; to turn it on: echo 1 > " UNSAFE_MODE;

	*err = -EBUSY;
	if (pci_num_vf(pdev))
		return "its SR-IOV VFs are enabled: disable them first, by echo 0 > sriov_numvfs";

	*err = security_locked_down(LOCKDOWN_PCI_ACCESS);
	if (*err)
		return "kernel lockdown forbids it: turn Secure Boot off, or drop lockdown=";
	return NULL;
}

/* Devices that share a reset share a set. */
static int noiommu_vfio_assign_set(struct noiommu_vfio_device *dev)
{
	struct pci_dev *pdev = dev->core.pdev;
	void *set_id = pdev->bus;

	if (pci_is_root_bus(pdev->bus) || pdev->is_virtfn)
		set_id = dev;
	else if (!pci_probe_reset_slot(pdev->slot))
		set_id = pdev->slot;
	return vfio_assign_device_set(&dev->core.vdev, set_id);
}

/* The power set-up of vfio_pci_core_register_device(), without runtime PM. */
static void noiommu_vfio_probe_power(struct noiommu_vfio_device *dev)
{
	struct pci_dev *pdev = dev->core.pdev;
	u16 pmcsr;

	if (pdev->pm_cap) {
		pci_read_config_word(pdev, pdev->pm_cap + PCI_PM_CTRL, &pmcsr);
		dev->core.needs_pm_restore = !(pmcsr & PCI_PM_CTRL_NO_SOFT_RESET);
	}
	/* After boot or another driver the state is unknown; make it D0 */
	pci_set_power_state(pdev, PCI_D0);
}

static int noiommu_vfio_probe(struct pci_dev *pdev,
			      const struct pci_device_id *id)
{
	struct noiommu_vfio_reach reach;
	struct noiommu_vfio_device *dev;
	const char *refusal;
	int ret;

	refusal = noiommu_vfio_refusal(pdev, &reach, &ret);
	if (refusal) {
		pci_err(pdev, "refused: %s\n", refusal);
		return ret;
	}

	dev = vfio_alloc_device(noiommu_vfio_device, core.vdev, &pdev->dev,
				&noiommu_vfio_ops);
	if (IS_ERR(dev))
		return PTR_ERR(dev);

	mutex_init(&dev->bind_lock);
	spin_lock_init(&dev->files_lock);
	INIT_LIST_HEAD(&dev->files);
	INIT_LIST_HEAD(&dev->unquiet);
	/* vfio-pci-core's error handlers look for it there */
	dev_set_drvdata(&pdev->dev, &dev->core);

	ret = noiommu_vfio_assign_set(dev);
	if (ret)
		goto err_put;

	noiommu_vfio_probe_power(dev);

	add_taint(TAINT_USER, LOCKDEP_STILL_OK);
	pci_warn(pdev, "no IOMMU contains this device: a program that uses it can read and write all of memory; tainting the kernel\n");

	ret = noiommu_vfio_cdev_add(dev);
	if (ret)
		goto err_put;
	noiommu_vfio_info_add(dev);
	return 0;

err_put:
	vfio_put_device(&dev->core.vdev);
	return ret;
}

static int noiommu_vfio_is_file(const void *df, struct file *filp,
				unsigned int fd)
{
	return filp->private_data == df;
}

/* Does the process that opened the file still have a descriptor of it? */
static bool noiommu_vfio_opener_has(struct noiommu_vfio_file *df)
{
	struct task_struct *leader, *task;
	bool found = false, has = false;

	lockdep_assert_held(&df->dev->files_lock);

	rcu_read_lock();
	leader = pid_task(df->opener.pid, PIDTYPE_TGID);
	if (!leader)
		goto out_unlock;
	/* Threads share their files; one that has ended has none */
	for_each_thread(leader, task) {
		task_lock(task);
		found = task->files;
		has = found && iterate_fd(task->files, 0, noiommu_vfio_is_file, df);
		task_unlock(task);
		if (found)
			break;
	}
out_unlock:
	rcu_read_unlock();
	return has;
}

/*
 * Name the process that opened the device, if it still has it. Finding others
 * that have a descriptor or a mapping would mean a look at every process.
 */
static void noiommu_vfio_report_wait(struct noiommu_vfio_device *dev)
{
	const char *node = dev_name(noiommu_vfio_dev(&dev->core.vdev));
	struct noiommu_vfio_file *df;
	char comm[TASK_COMM_LEN];
	unsigned int n = 0;
	bool has = false;
	pid_t pid = 0;

	spin_lock(&dev->files_lock);
	list_for_each_entry(df, &dev->files, entry) {
		n++;
		if (has)
			continue;
		has = noiommu_vfio_opener_has(df);
		pid = pid_nr(df->opener.pid);
		memcpy(comm, df->opener.comm, sizeof(comm));
	}
	spin_unlock(&dev->files_lock);

	if (has)
		pci_notice(dev->core.pdev,
			   "unbind waits for %u open file(s) of %s: %s (pid %d) has one\n",
			   n, node, comm, pid);
	else if (n)
		pci_notice(dev->core.pdev,
			   "unbind waits for %u open file(s) of %s: %s (pid %d) opened one but no longer has it; to see who does: lsof | grep %s\n",
			   n, node, comm, pid, node);
}

/*
 * Request the device back every 10 s; report every minute which process has it.
 */
static void noiommu_vfio_wait(struct noiommu_vfio_device *dev)
{
	struct vfio_device *vdev = &dev->core.vdev;
	bool interrupted = false;
	unsigned int i;
	long left;

	if (refcount_dec_and_test(&vdev->refcount))
		return;

	for (i = 0; ; i++) {
		vfio_pci_core_request(vdev, i);
		if (i % 6 == 0)
			noiommu_vfio_report_wait(dev);

		if (interrupted) {
			left = wait_for_completion_timeout(&vdev->comp,
							   10 * HZ);
		} else {
			left = wait_for_completion_interruptible_timeout(&vdev->comp,
									 10 * HZ);
			interrupted = left < 0;
		}
		if (left > 0)
			return;
	}
}

/* End the bindings whose device could not be reset at close. */
static void noiommu_vfio_end_unquiet(struct noiommu_vfio_device *dev)
{
	struct noiommu_vfio_binding *binding, *next;

	if (list_empty(&dev->unquiet))
		return;

	noiommu_vfio_quiesce_locked(dev);

	/* No file is left, so nothing else uses the list */
	list_for_each_entry_safe(binding, next, &dev->unquiet, entry)
		noiommu_vfio_end_binding(binding);
}

static void noiommu_vfio_remove(struct pci_dev *pdev)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(&pdev->dev);
	struct noiommu_vfio_device *dev = to_noiommu_vfio(&core->vdev);

	WRITE_ONCE(dev->removing, true);
	noiommu_vfio_cdev_del(dev);
	noiommu_vfio_wait(dev);
	noiommu_vfio_info_del(dev);
	noiommu_vfio_end_unquiet(dev);
	noiommu_vfio_wake(core);
	vfio_put_device(&core->vdev);
}

/*
 * There is nothing to do when the machine sleeps: the PCI core saves and
 * restores config space. But for a driver without this table it turns bus
 * mastering off first, and so would not restore it.
 */
static const struct dev_pm_ops noiommu_vfio_pm_ops = {};

/* No MODULE_DEVICE_TABLE: driver_override, or an ID in new_id, selects this driver. */
static const struct pci_device_id noiommu_vfio_ids[] = {
	{ PCI_DRIVER_OVERRIDE_DEVICE_VFIO(PCI_ANY_ID, PCI_ANY_ID) },
	{ }
};

/* No sriov_configure: VFs of vfio-pci-core's would crash vfio-pci. */
static struct pci_driver noiommu_vfio_driver = {
	.name = "noiommu-vfio-pci",
	.id_table = noiommu_vfio_ids,
	.probe = noiommu_vfio_probe,
	.remove = noiommu_vfio_remove,
	.err_handler = &vfio_pci_core_err_handlers,
	.driver.pm = &noiommu_vfio_pm_ops,
};

static int __init noiommu_vfio_init(void)
{
	int ret;

	ret = noiommu_vfio_cdev_init();
	if (ret)
		return ret;

	ret = pci_register_driver(&noiommu_vfio_driver);
	if (ret) {
		noiommu_vfio_cdev_cleanup();
		return ret;
	}
	noiommu_vfio_info_init();
	pr_info("%s: /dev/vfio/devices/noiommu-vfioX for each device that is bound; unsafe no-IOMMU mode is %s\n",
		NOIOMMUFD_VERSION, enable_unsafe_noiommu_mode ? "on" : "off");
	return 0;
}
module_init(noiommu_vfio_init);

static void __exit noiommu_vfio_exit(void)
{
	noiommu_vfio_info_exit();
	pci_unregister_driver(&noiommu_vfio_driver);
	noiommu_vfio_cdev_cleanup();
}
module_exit(noiommu_vfio_exit);

MODULE_DESCRIPTION("VFIO PCI devices without an IOMMU, with an iommufd cdev");
MODULE_AUTHOR("The noiommufd developers");
MODULE_VERSION(NOIOMMUFD_VERSION);
MODULE_LICENSE("GPL");
