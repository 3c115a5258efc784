/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Decides whether a device can use the physical addresses of pages, by facts
 * about the machine and the bus that the caller has collected.
 */
#ifndef __NOIOMMU_VFIO_REACH_H
#define __NOIOMMU_VFIO_REACH_H

#include <linux/types.h>

struct bus_dma_region;

/**
 * struct noiommu_vfio_reach - How a device reaches memory.
 * @xen_pv: the kernel's physical addresses are not the machine's
 * @encrypted: only the processor can read what it writes to memory
 * @restricted: the device reaches only a pool that is reserved for it
 * @incoherent: the device does not see what is in the processor's caches
 * @limit: the highest address that the bus can carry; 0: any
 * @ranges: which addresses on the bus lead to which memory, ended by a size of
 *	0; NULL: each to the same address
 * @why: the reason to refuse the device, if there is one
 */
struct noiommu_vfio_reach {
	bool xen_pv;
	bool encrypted;
	bool restricted;
	bool incoherent;
	u64 limit;
	const struct bus_dma_region *ranges;
	char why[192];
};

bool noiommu_vfio_reaches_memory(struct noiommu_vfio_reach *reach);
bool noiommu_vfio_reaches_ram(struct noiommu_vfio_reach *reach, u64 start,
			      u64 last);

#endif /* __NOIOMMU_VFIO_REACH_H */
