// SPDX-License-Identifier: GPL-2.0-only
/*
 * Finds devices that cannot use the physical addresses that GET_PA returns, or
 * would find other memory there. Kernel drivers do not notice, because
 * dma_map_*() copies, translates or flushes for them.
 *
 * Pure functions: they use their arguments only, and take no lock.
 */
#include <linux/dma-direct.h>
#include <linux/kernel.h>
#include <linux/minmax.h>

#include "reach.h"

static __printf(2, 3) bool refuse(struct noiommu_vfio_reach *reach,
				  const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(reach->why, sizeof(reach->why), fmt, args);
	va_end(args);
	return false;
}

/**
 * noiommu_vfio_reaches_memory() - Can the device access what programs write?
 * @reach: the facts; @why is set if it cannot
 *
 * Return: true if it can, as far as that does not depend on addresses: see
 * noiommu_vfio_reaches_ram().
 */
bool noiommu_vfio_reaches_memory(struct noiommu_vfio_reach *reach)
{
	if (reach->xen_pv)
		return refuse(reach,
			      "in a Xen PV domain physical addresses are not the machine's: boot without Xen, or give the device to an HVM domain");
	if (reach->encrypted)
		return refuse(reach,
			      "memory is encrypted (SME, SEV, TDX or the like), and a device cannot read what programs write: turn that off");
	if (reach->restricted)
		return refuse(reach,
			      "the firmware lets it access a reserved part of memory only: use the kernel's driver");
	if (reach->incoherent)
		return refuse(reach,
			      "its bus does not snoop the CPU's caches, which a program cannot flush: use the kernel's driver");
	return true;
}

static const struct bus_dma_region *
find_range(const struct bus_dma_region *range, u64 addr)
{
	for (; range->size; range++)
		if (addr >= range->cpu_start &&
		    addr - range->cpu_start < range->size)
			return range;
	return NULL;
}

/* The last address before addr that the bus reaches; 0: there is none. */
static u64 last_before(const struct noiommu_vfio_reach *reach, u64 addr)
{
	const struct bus_dma_region *range;
	u64 end, found = 0;

	if (!reach->ranges)
		return reach->limit;

	for (range = reach->ranges; range->size; range++) {
		end = range->cpu_start + (range->size - 1);
		if (reach->limit)
			end = min(end, reach->limit);
		if (end >= range->cpu_start && end < addr)
			found = max(found, end);
	}
	return found;
}

/**
 * noiommu_vfio_reaches_ram() - Can the device access RAM by its physical
 * address?
 * @reach: the facts; @why is set if it cannot
 * @start: first byte of the RAM
 * @last: last byte of the RAM
 *
 * Having ranges does not mean that addresses differ: on arm64 most ranges have
 * the same one on both sides. Ranges without RAM do not matter.
 *
 * Return: true if it can.
 */
bool noiommu_vfio_reaches_ram(struct noiommu_vfio_reach *reach, u64 start,
			      u64 last)
{
	const struct bus_dma_region *range;
	u64 addr = start, end = U64_MAX;

	for (;; addr = end + 1) {
		if (reach->ranges) {
			range = find_range(reach->ranges, addr);
			if (!range)
				break;
			if (range->cpu_start != range->dma_start)
				return refuse(reach,
					      "its bus has RAM at another address (0x%llx at 0x%llx): use the kernel's driver",
					      (u64)range->cpu_start,
					      (u64)range->dma_start);
			end = range->cpu_start + (range->size - 1);
		}
		if (reach->limit)
			end = min(end, reach->limit);
		if (end < addr)
			break;
		if (end >= last)
			return true;
	}

	return refuse(reach,
		      "its bus does not reach RAM at 0x%llx-0x%llx (the limit is 0x%llx): boot with mem= so that there is none, or use the kernel's driver",
		      addr, last, last_before(reach, addr));
}
