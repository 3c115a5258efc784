// SPDX-License-Identifier: GPL-2.0-only
/*
 * Making a device quiet: it does no DMA any more, so that its memory can be
 * unpinned.
 *
 * A reset needs device_lock, which remove holds while it waits for the last
 * close. So it is only tried here, except in what remove calls.
 */
#include <linux/delay.h>
#include <linux/pci.h>

#include "trace.h"
#include "vfio.h"

#define RESET_RETRY_MS 10

/**
 * noiommu_vfio_gone() - Was the device pulled out?
 * @dev: the device
 *
 * Waiting for such a device to answer takes a minute, and often several. The
 * kernel marks it when the port above reports that its card is gone; until then
 * this asks the port. A device that is present but does not answer is not gone:
 * a reset of its bus has to end its DMA, and may revive it.
 *
 * Return: true if nothing is left that could be reset or do DMA.
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

	/* A port that does not answer may have been pulled out as well */
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
 * noiommu_vfio_wake() - Bring a device out of D3hot, with its state.
 * @core: the device; nothing else may change its power state meanwhile
 *
 * The program may have put it there, and vfio-pci-core before Linux 6.1 does so
 * at close.
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
 * Reset as vfio-pci-core does at close, but with device_lock held, by the
 * caller of remove. A bus reset also needs the lock of the bridge, which is
 * only tried because its holder may be waiting for ours.
 */
static int noiommu_vfio_reset_locked(struct pci_dev *pdev)
{
	struct pci_dev *bridge = pci_upstream_bridge(pdev);
	int tries = 100;
	int ret;

	device_lock_assert(&pdev->dev);

	while (bridge && !pci_dev_trylock(bridge)) {
		if (!tries--)
			return -EAGAIN;
		msleep(RESET_RETRY_MS);
	}

	pci_cfg_access_lock(pdev);
	pci_save_state(pdev);
	/* No interrupts during the reset */
	pci_write_config_word(pdev, PCI_COMMAND, PCI_COMMAND_INTX_DISABLE);
	ret = __pci_reset_function_locked(pdev);
	pci_restore_state(pdev);
	pci_cfg_access_unlock(pdev);

	if (bridge)
		pci_dev_unlock(bridge);
	return ret;
}

/* Bus mastering is off; wait until nothing is in flight any more. */
static void noiommu_vfio_drain(struct pci_dev *pdev)
{
	u16 cmd;

	/* It does not answer, so what is read would mean nothing */
	if (!pci_device_is_present(pdev))
		return;
	/* A read pushes the writes that the device has posted */
	pci_read_config_word(pdev, PCI_COMMAND, &cmd);
	if (!pci_wait_for_pending_transaction(pdev))
		pci_warn(pdev, "transactions are still pending after close: it may write to memory that is freed\n");
}

/*
 * vfio-pci-core's close has turned bus mastering off and reset the function,
 * unless device_lock was taken, or the function cannot be reset alone. Returns
 * -EAGAIN if the reset has to be tried again.
 */
static int noiommu_vfio_try_quiesce(struct noiommu_vfio_device *dev,
				    int (*reset)(struct pci_dev *pdev))
{
	struct vfio_pci_core_device *core = &dev->core;
	u64 start;
	int ret;

	lockdep_assert_held(&core->vdev.dev_set->lock);

	/* Reset by close or with another device of its set, or pulled out */
	if (!core->needs_reset || noiommu_vfio_gone(dev))
		return 0;

	if (core->reset_works) {
		noiommu_vfio_wake(core);
		start = noiommufd_trace_start(noiommufd_reset);
		ret = reset(core->pdev);
		trace_noiommufd_reset(core->pdev, ret, start);
		if (ret == -EAGAIN)
			return ret;
		if (ret)
			pci_warn(core->pdev, "reset after close failed: %d; bus mastering is off\n",
				 ret);
		else
			core->needs_reset = false;
	}
	noiommu_vfio_drain(core->pdev);
	return 0;
}

/**
 * noiommu_vfio_quiesce() - Make a closed device quiet.
 * @dev: the device, after vfio_pci_core_close_device(); of its locks only
 *	bind_lock is held
 *
 * Return: true if it is quiet; false if that is left to remove, which holds
 * device_lock.
 */
bool noiommu_vfio_quiesce(struct noiommu_vfio_device *dev)
{
	u64 start = noiommufd_trace_start(noiommufd_quiesce);
	struct vfio_device_set *set = dev->core.vdev.dev_set;
	int ret;

	lockdep_assert_held(&dev->bind_lock);

	for (;;) {
		mutex_lock(&set->lock);
		ret = noiommu_vfio_try_quiesce(dev, pci_try_reset_function);
		mutex_unlock(&set->lock);

		if (!ret || READ_ONCE(dev->removing))
			break;
		msleep(RESET_RETRY_MS);
	}
	trace_noiommufd_quiesce(dev->core.pdev, ret, start);
	return !ret;
}

/**
 * noiommu_vfio_quiesce_locked() - Make a device quiet in remove.
 * @dev: the device; no file of it is open, and device_lock is held
 */
void noiommu_vfio_quiesce_locked(struct noiommu_vfio_device *dev)
{
	u64 start = noiommufd_trace_start(noiommufd_quiesce);
	struct vfio_device_set *set = dev->core.vdev.dev_set;

	device_lock_assert(&dev->core.pdev->dev);

	mutex_lock(&set->lock);
	if (noiommu_vfio_try_quiesce(dev, noiommu_vfio_reset_locked)) {
		pci_warn(dev->core.pdev, "no reset after close, the bridge above is busy; bus mastering is off\n");
		noiommu_vfio_drain(dev->core.pdev);
	}
	mutex_unlock(&set->lock);
	trace_noiommufd_quiesce(dev->core.pdev, 0, start);
}
