// SPDX-License-Identifier: GPL-2.0-only
/*
 * Making a device quiet: after this it does no DMA, and what was pinned for it
 * may be unpinned.
 *
 * A reset needs device_lock, which remove holds while it waits for the last
 * close. So it is only tried here, but by what remove calls.
 */
#include <linux/delay.h>
#include <linux/pci.h>

#include "vfio.h"

#define RESET_RETRY_MS 10

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

	device_lock_assert(&pdev->dev);

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

	lockdep_assert_held(&dev->bind_lock);

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

/**
 * noiommu_vfio_quiesce_locked - the same where device_lock is held
 * @dev: the device, in remove; no file of it is open
 */
void noiommu_vfio_quiesce_locked(struct noiommu_vfio_device *dev)
{
	struct vfio_device_set *set = dev->core.vdev.dev_set;

	device_lock_assert(&dev->core.pdev->dev);

	mutex_lock(&set->lock);
	if (noiommu_vfio_try_quiesce(dev, noiommu_vfio_reset_locked)) {
		pci_warn(dev->core.pdev, "no reset after close: the bridge above is busy\n");
		noiommu_vfio_drain(dev->core.pdev);
	}
	mutex_unlock(&set->lock);
}
