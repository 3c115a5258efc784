/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A PCI device without an IOMMU, held by a user-space driver: open, map memory
 * for DMA, ask where the memory is, reach registers, take interrupts. Nothing
 * here knows what kind of device it is.
 *
 * Every call returns 0 or a negative errno, and says on stderr what went wrong
 * and what to do about it.
 */
#ifndef NOIOMMU_H
#define NOIOMMU_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

/**
 * struct noiommu_dev - an open device
 * @bdf: PCI address, as in "0000:00:05.0"
 * @iommufd: the context: owns the IO address space
 * @fd: the device's cdev
 * @ioas_id: the one IO address space (IOAS) that the device is attached to
 * @get_pa_calls: calls of GET_PA made so far
 */
struct noiommu_dev {
	char bdf[16];
	int iommufd;
	int fd;
	__u32 ioas_id;
	unsigned long get_pa_calls;
};

int noiommu_open(struct noiommu_dev *dev, const char *bdf);
void noiommu_close(struct noiommu_dev *dev);

int noiommu_map(struct noiommu_dev *dev, void *va, size_t len, __u64 *iova);
int noiommu_get_pa(struct noiommu_dev *dev, __u64 iova, __u64 len,
		   __u64 *pa, __u64 *run);
int noiommu_map_pages(struct noiommu_dev *dev, void *va, size_t len,
		      size_t page_size, __u64 *iova, __u64 *pa);

int noiommu_bus_master(struct noiommu_dev *dev, bool on);
int noiommu_map_bar(struct noiommu_dev *dev, unsigned int index, void **bar,
		    size_t *len);
int noiommu_msix(struct noiommu_dev *dev, int *eventfds, unsigned int want);

#endif /* NOIOMMU_H */
