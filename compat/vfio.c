// SPDX-License-Identifier: GPL-2.0-only
/*
 * The life cycle that vfio gives a device from Linux 6.1 on: allocated with an
 * index and a struct device of the class vfio-dev, freed with its last
 * reference. Older kernels leave this to each driver.
 *
 * The ida has a lock of its own; the rest is written before it can be found.
 */
#ifndef HAVE_VFIO_ALLOC_DEVICE

#include <linux/device.h>
#include <linux/idr.h>
#include <linux/kdev_t.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/vfio.h>
#include <linux/vfio_pci_core.h>

/* Precedes the driver's struct, which begins with the vfio_device. */
struct vfio_part {
	struct device device;
	int index;
} __aligned(__alignof__(unsigned long long));

static DEFINE_IDA(vfio_part_ida);
static struct class vfio_class = { .name = "vfio-dev" };

static struct vfio_part *vfio_part_of(struct vfio_device *vdev)
{
	return (struct vfio_part *)vdev - 1;
}

static void vfio_part_release(struct device *device)
{
	struct vfio_part *part = container_of(device, struct vfio_part, device);

	vfio_pci_core_uninit_device((struct vfio_pci_core_device *)(part + 1));
	ida_free(&vfio_part_ida, part->index);
	kfree(part);
}

/**
 * noiommu_vfio_alloc() - vfio_alloc_device() without the types.
 * @size: size of the driver's struct, which begins with a vfio_pci_core_device
 * @dev: the PCI device
 * @ops: the driver's operations
 *
 * Return: the device, to be put by vfio_put_device(), or an ERR_PTR().
 */
struct vfio_device *noiommu_vfio_alloc(size_t size, struct device *dev,
				       const struct vfio_device_ops *ops)
{
	struct vfio_pci_core_device *core;
	struct vfio_part *part;

	part = kzalloc(sizeof(*part) + size, GFP_KERNEL);
	if (!part)
		return ERR_PTR(-ENOMEM);

	part->index = ida_alloc_max(&vfio_part_ida, MINORMASK, GFP_KERNEL);
	if (part->index < 0) {
		int ret = part->index;

		kfree(part);
		return ERR_PTR(ret);
	}

	core = (struct vfio_pci_core_device *)(part + 1);
	vfio_pci_core_init_device(core, to_pci_dev(dev), ops);

	device_initialize(&part->device);
	part->device.class = &vfio_class;
	part->device.parent = dev;
	part->device.release = vfio_part_release;
	return &core->vdev;
}

/**
 * noiommu_vfio_dev() - Get the struct device behind the node.
 * @vdev: device
 *
 * Return: the struct device.
 */
struct device *noiommu_vfio_dev(struct vfio_device *vdev)
{
	return &vfio_part_of(vdev)->device;
}

/**
 * noiommu_vfio_index() - Get the number in the name of the node.
 * @vdev: device
 *
 * Return: the number.
 */
int noiommu_vfio_index(struct vfio_device *vdev)
{
	return vfio_part_of(vdev)->index;
}

/**
 * noiommu_vfio_class_register() - Register the class vfio-dev.
 *
 * Return: 0 or an errno.
 */
int noiommu_vfio_class_register(void)
{
	return class_register(&vfio_class);
}

/**
 * noiommu_vfio_class_unregister() - Undo noiommu_vfio_class_register().
 */
void noiommu_vfio_class_unregister(void)
{
	class_unregister(&vfio_class);
}

#endif
