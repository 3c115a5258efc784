// SPDX-License-Identifier: GPL-2.0-only
/*
 * The PCI driver: which devices it takes and which it refuses, the wait in
 * remove for the last close, and making a device quiet.
 *
 * vfio-pci-core is used as a library. The vfio_device is allocated by vfio,
 * which gives it its index and class, but never registered with it: that wants
 * an IOMMU group. So what registration would do is done here.
 *
 * probe and remove run under device_lock. It is never waited for anywhere
 * else: remove holds it while it waits for the last close.
 */
#include <linux/cc_platform.h>
#include <linux/completion.h>
#include <linux/delay.h>
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

#define RESET_RETRY_MS 10

#define UNSAFE_MODE \
	"/sys/module/noiommu_vfio_pci/parameters/enable_unsafe_noiommu_mode"

static bool enable_unsafe_noiommu_mode;
module_param(enable_unsafe_noiommu_mode, bool, 0644);
MODULE_PARM_DESC(enable_unsafe_noiommu_mode,
		 "Take devices that no IOMMU contains: programs that drive them can read and write all of memory, and the kernel is tainted (default: off)");

const struct vfio_device_ops noiommu_vfio_ops = {
	.name = "noiommu-vfio-pci",
	VFIO_PCI_CORE_LIFE_CYCLE_OPS
};

static int noiommu_vfio_misses_ram(struct resource *ram, void *reach)
{
	return !noiommu_vfio_reaches_ram(reach, ram->start, ram->end);
}

/* Is the physical address of a page what this device has to be given for it? */
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
 * Why not to take a device, or NULL; *@err is the errno that goes with it. The
 * sentence may be in @reach.
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
		return "this is a VGA device: not supported";
	if (!noiommu_vfio_reaches(pdev, reach))
		return reach->why;
	if (!enable_unsafe_noiommu_mode)
		return "unsafe no-IOMMU mode is off; to turn it on: echo 1 > " UNSAFE_MODE;

	*err = -EBUSY;
	if (pci_num_vf(pdev))
		return "its SR-IOV VFs are enabled: echo 0 > sriov_numvfs first";

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

/* What vfio-pci-core's registration does about power, minus runtime PM. */
static void noiommu_vfio_probe_power(struct noiommu_vfio_device *dev)
{
	struct pci_dev *pdev = dev->core.pdev;
	u16 pmcsr;

	if (pdev->pm_cap) {
		pci_read_config_word(pdev, pdev->pm_cap + PCI_PM_CTRL, &pmcsr);
		dev->core.needs_pm_restore = !(pmcsr & PCI_PM_CTRL_NO_SOFT_RESET);
	}
	/* The state after boot or another driver is unknown; D0 is certain */
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
	/* vfio-pci-core's error handlers take it from there */
	dev_set_drvdata(&pdev->dev, &dev->core);

	ret = noiommu_vfio_assign_set(dev);
	if (ret)
		goto err_put;

	noiommu_vfio_probe_power(dev);

	add_taint(TAINT_USER, LOCKDEP_STILL_OK);
	pci_warn(pdev, "no IOMMU contains this device: whoever drives it can read and write all of memory; tainting the kernel\n");

	ret = noiommu_vfio_cdev_add(dev);
	if (ret)
		goto err_put;
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

/* Does the process that opened it have a descriptor of it still? */
static bool noiommu_vfio_opener_has(struct noiommu_vfio_file *df)
{
	struct task_struct *leader, *task;
	bool found = false, has = false;

	lockdep_assert_held(&df->dev->files_lock);

	rcu_read_lock();
	leader = pid_task(df->pid, PIDTYPE_TGID);
	if (!leader)
		goto out_unlock;
	/* Threads share their files; those that have ended have none */
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
 * Names a process that has the device, if the one that opened it does. Who else
 * may have a descriptor or a mapping, only a look at every process would tell.
 */
static void noiommu_vfio_report_wait(struct noiommu_vfio_device *dev)
{
	const char *node = dev_name(vfio_device_dev(&dev->core.vdev));
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
		pid = pid_nr(df->pid);
		memcpy(comm, df->comm, sizeof(comm));
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

/* Asks the user every 10 s to let go, and says every minute who that is. */
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

/**
 * noiommu_vfio_gone - was the device pulled out?
 * @dev: the device
 *
 * Whatever waits for such a device to answer waits a minute, and often more than
 * once. The kernel marks it when the port above reports that its card is gone;
 * until then the port itself is asked. A device that is there but does not
 * answer is not gone: a reset of its bus has to end its DMA, and may bring it
 * back.
 *
 * Return: true when there is nothing that could be reset, or do DMA
 */
bool noiommu_vfio_gone(struct noiommu_vfio_device *dev)
{
	struct pci_dev *pdev = pci_physfn(dev->core.pdev);
	struct pci_dev *port = pdev;
	u16 link, slot;

	if (pdev->error_state == pci_channel_io_perm_failure)
		return true;
	if (pci_device_is_present(pdev))
		return false;

	/* A port that does not answer either may be a part of what was pulled */
	do {
		port = pci_upstream_bridge(port);
	} while (port && !pci_device_is_present(port));

	if (!port || (pci_pcie_type(port) != PCI_EXP_TYPE_ROOT_PORT &&
		      pci_pcie_type(port) != PCI_EXP_TYPE_DOWNSTREAM))
		return false;
	pcie_capability_read_word(port, PCI_EXP_LNKSTA, &link);
	pcie_capability_read_word(port, PCI_EXP_SLTSTA, &slot);
	return !(link & PCI_EXP_LNKSTA_DLLLA) && !(slot & PCI_EXP_SLTSTA_PDS);
}

/**
 * noiommu_vfio_wake - bring a device out of D3hot, with its state
 * @core: the device; nobody else changes its power state meanwhile
 *
 * The user may have put it there, and vfio-pci-core before Linux 6.1 does at
 * close.
 */
void noiommu_vfio_wake(struct vfio_pci_core_device *core)
{
	struct pci_dev *pdev = core->pdev;

	if (pdev->current_state == PCI_D0)
		return;
	pci_set_power_state(pdev, PCI_D0);
	if (core->pm_save) {
		pci_load_and_free_saved_state(pdev, &core->pm_save);
		pci_restore_state(pdev);
	}
}

/*
 * What vfio-pci-core does at close where it gets device_lock; here remove's
 * caller has it. A reset of the bus needs the bridge's lock, too, and that can
 * only be tried: its holder may want ours.
 */
static int noiommu_vfio_reset_locked(struct pci_dev *pdev)
{
	struct pci_dev *bridge = pci_upstream_bridge(pdev);
	int tries = 100;
	int ret;

	while (bridge && !pci_dev_trylock(bridge)) {
		if (!tries--)
			return -EAGAIN;
		msleep(RESET_RETRY_MS);
	}

	pci_cfg_access_lock(pdev);
	pci_save_state(pdev);
	/* No interrupt while in reset */
	pci_write_config_word(pdev, PCI_COMMAND, PCI_COMMAND_INTX_DISABLE);
	ret = __pci_reset_function_locked(pdev);
	pci_restore_state(pdev);
	pci_cfg_access_unlock(pdev);

	if (bridge)
		pci_dev_unlock(bridge);
	return ret;
}

/* Bus mastering is off already; see to it that nothing is on its way still. */
static void noiommu_vfio_drain(struct pci_dev *pdev)
{
	u16 cmd;

	/* It does not answer: nothing it says would mean anything */
	if (!pci_device_is_present(pdev))
		return;
	/* A read pushes what the device posted before its answer */
	pci_read_config_word(pdev, PCI_COMMAND, &cmd);
	if (!pci_wait_for_pending_transaction(pdev))
		pci_warn(pdev, "transactions are pending after close\n");
}

/*
 * The close of vfio-pci-core has turned bus mastering off and reset the
 * function, unless somebody held device_lock, or nothing can reset the
 * function alone. Returns -EAGAIN while the reset can be made up for.
 */
static int noiommu_vfio_try_quiesce(struct noiommu_vfio_device *dev,
				    int (*reset)(struct pci_dev *pdev))
{
	struct vfio_pci_core_device *core = &dev->core;
	int ret;

	lockdep_assert_held(&core->vdev.dev_set->lock);

	/* Reset by close, or with a sibling of its set; or not there any more */
	if (!core->needs_reset || noiommu_vfio_gone(dev))
		return 0;

	if (core->reset_works) {
		noiommu_vfio_wake(core);
		ret = reset(core->pdev);
		if (ret == -EAGAIN)
			return ret;
		if (ret)
			pci_warn(core->pdev, "reset after close failed: %d\n",
				 ret);
		else
			core->needs_reset = false;
	}
	noiommu_vfio_drain(core->pdev);
	return 0;
}

/**
 * noiommu_vfio_quiesce - see to it that a closed device does no more DMA
 * @dev: the device, after vfio_pci_core_close_device(); of its locks bind_lock
 *	alone is held
 *
 * Return: true when it is quiet; false when that is left to remove, which
 * holds device_lock
 */
bool noiommu_vfio_quiesce(struct noiommu_vfio_device *dev)
{
	struct vfio_device_set *set = dev->core.vdev.dev_set;
	int ret;

	for (;;) {
		mutex_lock(&set->lock);
		ret = noiommu_vfio_try_quiesce(dev, pci_try_reset_function);
		mutex_unlock(&set->lock);

		if (!ret)
			return true;
		if (READ_ONCE(dev->removing))
			return false;
		msleep(RESET_RETRY_MS);
	}
}

/* The bindings whose close came while remove held device_lock. */
static void noiommu_vfio_end_unquiet(struct noiommu_vfio_device *dev)
{
	struct vfio_device_set *set = dev->core.vdev.dev_set;
	struct noiommu_vfio_binding *binding, *next;

	if (list_empty(&dev->unquiet))
		return;

	mutex_lock(&set->lock);
	if (noiommu_vfio_try_quiesce(dev, noiommu_vfio_reset_locked)) {
		pci_warn(dev->core.pdev, "no reset after close: the bridge above is busy\n");
		noiommu_vfio_drain(dev->core.pdev);
	}
	mutex_unlock(&set->lock);

	/* No file is left: nobody else sees the list */
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
	noiommu_vfio_end_unquiet(dev);
	noiommu_vfio_wake(core);
	vfio_put_device(&core->vdev);
}

/*
 * Nothing to do when the machine sleeps: PCI's own code saves config space and
 * brings it back. But where a driver has no such table at all, it first turns
 * bus mastering off, and would not turn on again what the user had turned on.
 */
static const struct dev_pm_ops noiommu_vfio_pm_ops = {};

/* Not a MODULE_DEVICE_TABLE: nothing but driver_override leads here. */
static const struct pci_device_id noiommu_vfio_ids[] = {
	{ PCI_DRIVER_OVERRIDE_DEVICE_VFIO(PCI_ANY_ID, PCI_ANY_ID) },
	{ }
};

/* No sriov_configure: vfio-pci-core's would make VFs that crash vfio-pci. */
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
	if (ret)
		noiommu_vfio_cdev_cleanup();
	return ret;
}
module_init(noiommu_vfio_init);

static void __exit noiommu_vfio_exit(void)
{
	pci_unregister_driver(&noiommu_vfio_driver);
	noiommu_vfio_cdev_cleanup();
}
module_exit(noiommu_vfio_exit);

MODULE_DESCRIPTION("VFIO PCI devices without an IOMMU, with an iommufd cdev");
MODULE_AUTHOR("The noiommufd developers");
MODULE_VERSION(NOIOMMUFD_VERSION);
MODULE_LICENSE("GPL");
