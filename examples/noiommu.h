/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A PCI device without an IOMMU, held by a user-space driver: open, map memory
 * for DMA, ask where the memory is, reach registers, take interrupts. Nothing
 * here knows what kind of device it is.
 *
 * Every function returns 0 or a negative errno, and says on stderr what went wrong
 * and what to do about it.
 */
#ifndef NOIOMMU_H
#define NOIOMMU_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>
#include <noiommufd/noiommufd.h>

/* Does the kernel have NOIOMMUFD_IOAS_GET_PA_RUNS? Asked once. */
enum noiommu_has_runs {
	NOIOMMU_RUNS_UNKNOWN,
	NOIOMMU_RUNS_YES,
	NOIOMMU_RUNS_NO,
};

/**
 * struct noiommu_dev - an open device
 * @bdf: PCI address, as in "0000:00:05.0"
 * @iommufd: the context: owns the IO address space
 * @fd: the device's cdev
 * @ioas_id: the one IO address space (IOAS) that the device is attached to
 * @has_runs: can a range be translated by one ioctl?
 * @get_pa_calls: GET_PA ioctls made so far
 * @get_pa_runs_calls: GET_PA_RUNS ioctls made so far
 */
struct noiommu_dev {
	char bdf[16];
	int iommufd;
	int fd;
	__u32 ioas_id;
	enum noiommu_has_runs has_runs;
	unsigned long get_pa_calls;
	unsigned long get_pa_runs_calls;
};

int noiommu_open(struct noiommu_dev *dev, const char *bdf);
void noiommu_close(struct noiommu_dev *dev);

int noiommu_map(struct noiommu_dev *dev, void *va, size_t len, __u64 *iova);
int noiommu_translate(struct noiommu_dev *dev, __u64 iova, __u64 *len,
		      struct noiommufd_run *runs, __u32 *num);
int noiommu_map_pages(struct noiommu_dev *dev, void *va, size_t len,
		      size_t page_size, __u64 *iova, __u64 *pa);

int noiommu_bus_master(struct noiommu_dev *dev, bool on);
int noiommu_map_bar(struct noiommu_dev *dev, unsigned int index, void **bar,
		    size_t *len);
int noiommu_msix(struct noiommu_dev *dev, int *eventfds, unsigned int want);

#endif /* NOIOMMU_H */
