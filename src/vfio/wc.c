// SPDX-License-Identifier: GPL-2.0-only
/*
 * NOIOMMUFD_DEVICE_SET_WC: BARs that a program maps write-combining.
 *
 * On x86 the kernel keeps one memory type for an address, and a mapping by
 * vfio-pci-core has the one of its own mapping of the BAR, in barmap[]. So BIND
 * exchanges that for one that is write-combining. While a device is open
 * vfio-pci-core keeps pointers into it (IOEVENTFD), so it is exchanged at no other
 * time; vfio-pci-core's close unmaps it and releases the BAR.
 */
#include <linux/bits.h>
#include <linux/err.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/uaccess.h>
#include <linux/vfio_pci_core.h>

#include <noiommufd/noiommufd.h>

#include "vfio.h"

/* BARs with the table or the pending bits, which the kernel maps uncached */
static u32 noiommu_vfio_msix_bars(struct pci_dev *pdev)
{
	u32 table, pba;

	if (!pdev->msix_cap)
		return 0;
	pci_read_config_dword(pdev, pdev->msix_cap + PCI_MSIX_TABLE, &table);
	pci_read_config_dword(pdev, pdev->msix_cap + PCI_MSIX_PBA, &pba);
	return BIT(table & PCI_MSIX_TABLE_BIR) | BIT(pba & PCI_MSIX_PBA_BIR);
}

static bool noiommu_vfio_can_wc(struct pci_dev *pdev, unsigned int bar)
{
	const unsigned long want = IORESOURCE_MEM | IORESOURCE_PREFETCH;
	unsigned long flags = pci_resource_flags(pdev, bar);
	resource_size_t start = pci_resource_start(pdev, bar);
	resource_size_t size = pci_resource_len(pdev, bar);

	return size && PAGE_ALIGNED(start | size) && (flags & want) == want &&
	       !(flags & IORESOURCE_UNSET);
}

static int noiommu_vfio_check_wc(struct pci_dev *pdev, u32 bars)
{
	unsigned int bar;

	if (bars >> PCI_STD_NUM_BARS || bars & noiommu_vfio_msix_bars(pdev))
		return -EINVAL;
	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++)
		if (bars & BIT(bar) && !noiommu_vfio_can_wc(pdev, bar))
			return -EINVAL;
	return 0;
}

/**
 * noiommu_vfio_set_wc() - NOIOMMUFD_DEVICE_SET_WC.
 * @df: the file
 * @uptr: a struct noiommufd_device_set_wc
 *
 * Return: 0 or an errno.
 */
long noiommu_vfio_set_wc(struct noiommu_vfio_file *df, void __user *uptr)
{
	struct vfio_device *vdev = &df->dev->core.vdev;
	struct noiommufd_device_set_wc cmd;
	u32 size;
	int ret;

	if (get_user(size, (u32 __user *)uptr))
		return -EFAULT;
	if (size < sizeof(cmd))
		return -EINVAL;
	ret = copy_struct_from_user(&cmd, sizeof(cmd), uptr, size);
	if (ret)
		return ret;
	if (cmd.flags)
		return -EOPNOTSUPP;

	if (mutex_lock_killable(&vdev->dev_set->lock))
		return -EINTR;
	if (vdev->open_count)
		ret = -EBUSY;
	else
		ret = noiommu_vfio_check_wc(df->dev->core.pdev, cmd.bars);
	if (!ret)
		df->wc = cmd.bars;
	mutex_unlock(&vdev->dev_set->lock);
	return ret;
}

/* Until Linux 6.19 vfio-pci-core reserves and maps a BAR when it is used */
static int noiommu_vfio_map_one(struct vfio_pci_core_device *core,
				unsigned int bar)
{
	struct pci_dev *pdev = core->pdev;
	int ret;

	if (IS_ERR(core->barmap[bar]))
		return PTR_ERR(core->barmap[bar]);
	if (core->barmap[bar]) {
		pci_iounmap(pdev, core->barmap[bar]);
	} else {
		ret = pci_request_selected_regions(pdev, BIT(bar), "vfio");
		if (ret)
			return ret;
	}

	core->barmap[bar] = pci_iomap_wc(pdev, bar, 0);
	if (core->barmap[bar])
		return 0;
	pci_release_selected_regions(pdev, BIT(bar));
	return -ENOMEM;
}

/**
 * noiommu_vfio_map_wc() - Have the kernel's mappings of BARs write-combining.
 * @core: the device, enabled; dev_set->lock is held, and no program can use it
 *	yet
 * @bars: bit n for BAR n
 *
 * Return: 0; -EBUSY: something else has reserved a BAR; -ENOMEM; or another errno.
 * On failure the device has to be closed.
 */
int noiommu_vfio_map_wc(struct vfio_pci_core_device *core, u32 bars)
{
	unsigned int bar;
	int ret = 0;

	lockdep_assert_held(&core->vdev.dev_set->lock);

	for (bar = 0; bar < PCI_STD_NUM_BARS && !ret; bar++)
		if (bars & BIT(bar))
			ret = noiommu_vfio_map_one(core, bar);
	return ret;
}

/**
 * noiommu_vfio_is_wc() - Does an offset in the file belong to such a BAR?
 * @df: the file, bound
 * @offset: offset
 *
 * Return: true if it does.
 */
bool noiommu_vfio_is_wc(const struct noiommu_vfio_file *df, u64 offset)
{
	u64 index = VFIO_PCI_OFFSET_TO_INDEX(offset);

	return index < PCI_STD_NUM_BARS && df->wc & BIT(index);
}

/**
 * noiommu_vfio_mmap_wc() - Map a BAR that is write-combining.
 * @vdev: the device
 * @vma: the mapping
 *
 * Return: 0 or an errno.
 */
int noiommu_vfio_mmap_wc(struct vfio_device *vdev, struct vm_area_struct *vma)
{
	/* x86 can make this write-combining, but not what is uncached */
	pgprot_t prot = pgprot_writecombine(vma->vm_page_prot);
	int ret;

	ret = vfio_pci_core_mmap(vdev, vma);
	if (!ret)
		vma->vm_page_prot = pgprot_decrypted(prot);
	return ret;
}
