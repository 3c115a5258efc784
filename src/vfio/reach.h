/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Is the physical address of a page what a device has to be given for it? Told
 * by facts about the machine and the bus, which the caller has collected.
 */
#ifndef __NOIOMMU_VFIO_REACH_H
#define __NOIOMMU_VFIO_REACH_H

#include <linux/types.h>

struct bus_dma_region;

/**
 * struct noiommu_vfio_reach - how a device gets at memory
 * @xen_pv: the kernel's physical addresses are not the machine's
 * @encrypted: what the processor writes to memory, it alone can read
 * @restricted: the device gets at a pool that is reserved for it, no more
 * @incoherent: the device does not see what is in the processor's caches
 * @limit: the highest address that the bus can carry; 0: any
 * @ranges: what the bus passes on to which part of memory, ended by a size of
 *	0; NULL: all, to the same address
 * @why: the refusal, once there is one
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
