// SPDX-License-Identifier: GPL-2.0-only
/*
 * VFIO_DEVICE_FEATURE: the checks are those of Linux 7.3, but no feature is
 * supported. And other information about an open device.
 */
#include <limits.h>

#include "harness.h"

#define GET	VFIO_DEVICE_FEATURE_GET
#define SET	VFIO_DEVICE_FEATURE_SET
#define PROBE	VFIO_DEVICE_FEATURE_PROBE

/* Of Linux 7.3: VF token, migration, low power, DMA logging, ..., dma-buf */
#define NR_FEATURES	16
#define LOW_POWER_ENTRY	3
#define LOW_POWER_WAKE	4
#define LOW_POWER_EXIT	5
#define MIG_PRECOPY_V2	12

static int feature(int dev, __u32 argsz, __u32 flags)
{
	struct {
		struct vfio_device_feature f;
		__u8 data[256];
	} arg = { .f = { .argsz = argsz, .flags = flags } };

	return ioctl(dev, VFIO_DEVICE_FEATURE, &arg);
}

TEST(rules)
{
	static const __u32 good[] = {
		0, GET, SET, PROBE, PROBE | GET, PROBE | SET, PROBE | GET | SET,
	};
	struct setup s;
	unsigned int i, j;

	skip_on_mainline("no-features");
	setup_bound(&s);
	for (i = 0; i < NR_FEATURES; i++) {
		/* The errno of 7.3 for this one if the device cannot migrate */
		int err = i == MIG_PRECOPY_V2 ? EINVAL : ENOTTY;

		for (j = 0; j < ARRAY_SIZE(good); j++) {
			expect_errno(feature(s.dev, 8, good[j] | i), err);
			expect_errno(feature(s.dev, 264, good[j] | i), err);
		}
		/* Both together only to probe for both */
		expect_errno(feature(s.dev, 8, GET | SET | i), EINVAL);
		/* An argument without flags */
		expect_errno(feature(s.dev, 7, PROBE | i), EINVAL);
		expect_errno(feature(s.dev, 0, PROBE | i), EINVAL);
		/* Unknown flags, alone or with others */
		for (j = 19; j < 32; j++) {
			expect_errno(feature(s.dev, 8, 1U << j | i), EINVAL);
			expect_errno(feature(s.dev, 8, 1U << j | PROBE | i),
				     EINVAL);
		}
	}
	expect_errno(feature(s.dev, 8, PROBE | 0xffff), ENOTTY);
	expect_errno(feature(s.dev, U32_MAX, GET | 0xffff), ENOTTY);
	expect_errno(ioctl(s.dev, VFIO_DEVICE_FEATURE, NULL), EFAULT);
}

/* "active" or "suspended", "D0" */
static void check_awake(const char *bdf)
{
	char path[128], text[32] = "";
	FILE *file;

	snprintf(path, sizeof(path),
		 "/sys/bus/pci/devices/%s/power/runtime_status", bdf);
	file = fopen(path, "re");
	expect(file && fgets(text, sizeof(text), file));
	fclose(file);
	expect(!strcmp(text, "active\n"));
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/power_state", bdf);
	file = fopen(path, "re");
	expect(file && fgets(text, sizeof(text), file));
	fclose(file);
	expect(!strcmp(text, "D0\n") || !strcmp(text, "unknown\n"));
}

/* None of the three is supported, and the device stays awake. */
TEST(low_power)
{
	static const __u32 nr[] = {
		LOW_POWER_ENTRY, LOW_POWER_WAKE, LOW_POWER_EXIT,
	};
	const char *const bdf = "0000:00:05.0";
	int dev, iommu;
	unsigned int i;
	char path[128];
	__u32 devid;

	skip_on_mainline("no-features");
	dev = cdev_open(bdf);
	iommu = iommu_open();
	/* Even if user space allows it to sleep */
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/power/control",
		 bdf);
	expect_ok(write_file(path, "auto"));
	expect_ok(dev_bind(dev, iommu, &devid));
	check_awake(bdf);
	for (i = 0; i < ARRAY_SIZE(nr); i++) {
		expect_errno(feature(dev, 264, PROBE | SET | nr[i]), ENOTTY);
		expect_errno(feature(dev, 264, SET | nr[i]), ENOTTY);
		check_awake(bdf);
	}
	close(dev);
	/* Older vfio-pci-core puts a closed device into D3hot. */
	if (!kernel_is_before(6, 0))
		check_awake(bdf);
	expect_ok(write_file(path, "on"));
}

/* /proc/PID/fdinfo names the device, as in 7.3. */
TEST(fdinfo)
{
	char path[128], want[PATH_MAX + 64], real[PATH_MAX], line[PATH_MAX];
	bool found = false;
	struct setup s;
	FILE *file;

	setup_bound(&s);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", edu());
	expect(realpath(path, real));
	snprintf(want, sizeof(want), "vfio-device-syspath: %s\n", real);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", s.dev);
	file = fopen(path, "re");
	expect(file);
	while (fgets(line, sizeof(line), file))
		found |= !strcmp(line, want);
	fclose(file);
	expect(found);
}
