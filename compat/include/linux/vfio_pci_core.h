/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/vfio_pci_core.h> and functions that do the same on every kernel;
 * compat/vfio_pci.c says what differs.
 */
#include_next <linux/vfio_pci_core.h>

#ifndef NOIOMMUFD_COMPAT_VFIO_PCI_CORE_H
#define NOIOMMUFD_COMPAT_VFIO_PCI_CORE_H

long noiommu_vfio_get_region_info(struct vfio_device *vdev,
				  struct vfio_region_info __user *arg);
bool noiommu_vfio_trylock_memory(struct vfio_pci_core_device *core);

/* The members of struct vfio_device_ops for vfio_alloc_device(). */
#ifdef HAVE_VFIO_ALLOC_DEVICE
#define VFIO_PCI_CORE_LIFE_CYCLE_OPS \
	.init = vfio_pci_core_init_dev, .release = vfio_pci_core_release_dev,
#else
#define VFIO_PCI_CORE_LIFE_CYCLE_OPS
#endif

/* Before Linux 5.19 the kernel's find a device by its IOMMU group. */
#ifdef HAVE_VFIO_DEVICE_GET_FROM_DEV
extern const struct pci_error_handlers noiommufd_err_handlers;
#define vfio_pci_core_err_handlers noiommufd_err_handlers
#endif

/**
 * noiommu_vfio_last_close() - Close a device and decrement its open count.
 * @core: the device; dev_set->lock is held
 * @reset: whether it may be reset, alone or with its bus
 *
 * vfio-pci-core resets the bus if no other device of the set is open. From
 * Linux 6.1 on it looks at the sum of the counts, this one included; before
 * that it looks for any count that is not 0. A count that is too high by one
 * prevents the reset.
 */
static inline void noiommu_vfio_last_close(struct vfio_pci_core_device *core,
					   bool reset)
{
	struct vfio_device *vdev = &core->vdev;

	lockdep_assert_held(&vdev->dev_set->lock);

	if (!reset) {
		core->reset_works = false;
		vdev->open_count++;
	}
#ifdef HAVE_VFIO_DEVICE_SET_OPEN_COUNT
	vfio_pci_core_close_device(vdev);
	vdev->open_count--;
#else
	vdev->open_count--;
	vfio_pci_core_close_device(vdev);
#endif
	if (!reset)
		vdev->open_count--;
}

#endif /* NOIOMMUFD_COMPAT_VFIO_PCI_CORE_H */
