// SPDX-License-Identifier: GPL-2.0-only
/*
 * How the vfio-pci of Linux 7.3 behaves where ours differs on purpose (rows of
 * docs/deviations.md), as far as conformance does not show it. Runs on the 7.3
 * reference kernel only (make conformance).
 */
#include "harness.h"

#define GET	VFIO_DEVICE_FEATURE_GET
#define SET	VFIO_DEVICE_FEATURE_SET
#define PROBE	VFIO_DEVICE_FEATURE_PROBE

#define VF_TOKEN	0
#define LOW_POWER_ENTRY	3
#define LOW_POWER_WAKE	4
#define LOW_POWER_EXIT	5
#define DMA_BUF		11

#define NVME	"0000:00:05.0"
#define PF	"0000:04:00.0"

/* no-features */

struct feature {
	struct vfio_device_feature f;
	union {
		__u8 token[16];
		struct {
			__s32 event;
			__u32 reserved;
		} wakeup;
		struct {
			__u32 region, open_flags, flags, nr_ranges;
			__u64 offset, length;
		} dma_buf;
	};
};

static int feature(int dev, __u32 flags)
{
	struct vfio_device_feature f = { .argsz = sizeof(f), .flags = flags };

	return ioctl(dev, VFIO_DEVICE_FEATURE, &f);
}

static int feature_arg(int dev, struct feature *arg, __u32 flags)
{
	arg->f.argsz = sizeof(*arg);
	arg->f.flags = flags;
	return ioctl(dev, VFIO_DEVICE_FEATURE, arg);
}

static bool is_in_state(const char *file, const char *state)
{
	char path[128], text[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/" NVME "/%s", file);
	f = fopen(path, "re");
	expect(f && fgets(text, sizeof(text), f));
	fclose(f);
	text[strcspn(text, "\n")] = 0;
	return !strcmp(text, state);
}

static void expect_awake(void)
{
	expect(is_in_state("power/runtime_status", "active"));
	expect(is_in_state("power_state", "D0"));
}

static void expect_asleep(void)
{
	double end = now() + 5 * slow();

	while (!is_in_state("power/runtime_status", "suspended")) {
		if (now() > end)
			fail(NVME ": expected it to sleep, got it awake");
		sleep_ms(20);
	}
	expect(is_in_state("power_state", "D3hot"));
}

TEST(low_power)
{
	int dev, iommu, event = event_open();
	struct feature arg = {};
	__u32 devid;

	dev = cdev_open(NVME);
	iommu = iommu_open();
	expect_ok(dev_bind(dev, iommu, &devid));
	expect_awake();

	expect_ok(feature(dev, SET | LOW_POWER_ENTRY));
	expect_asleep();
	/* An ioctl wakes the device while it runs. */
	expect_errno(feature(dev, SET | LOW_POWER_ENTRY), EINVAL);
	config_read(dev, 0, 4);
	expect_asleep();
	expect_ok(feature(dev, SET | LOW_POWER_EXIT));
	expect_awake();
	expect_ok(feature(dev, SET | LOW_POWER_EXIT));

	/* Or for good, and says so */
	arg.wakeup.event = -1;
	expect_errno(feature_arg(dev, &arg, SET | LOW_POWER_WAKE), EINVAL);
	arg.wakeup.event = event;
	expect_ok(feature_arg(dev, &arg, SET | LOW_POWER_WAKE));
	expect_asleep();
	expect_eq(signals(event, 0), 0);
	config_read(dev, 0, 4);
	expect_eq(signals(event, 1000), 1);
	expect_awake();
}

TEST(token)
{
	struct feature arg = {};
	struct setup s;
	__u32 devid;
	int dev;

	setup_bound(&s);
	expect_errno(feature_arg(s.dev, &arg, SET | VF_TOKEN), ENOTTY);
	dev = cdev_open(PF);
	expect_ok(dev_bind(dev, s.iommu, &devid));
	expect_ok(feature_arg(dev, &arg, PROBE | SET | VF_TOKEN));
	expect_ok(feature_arg(dev, &arg, SET | VF_TOKEN));
	expect_errno(feature_arg(dev, &arg, GET | VF_TOKEN), EINVAL);
}

TEST(dma_buf)
{
	struct feature arg = {
		.dma_buf = { .nr_ranges = 1, .length = PAGE },
	};
	struct iommu_ioas_map_file map = {
		.size = sizeof(map), .length = PAGE, .flags = MAP_FIXED_RW,
	};
	struct setup s;
	int dev;
	__u64 pa;
	FILE *f;

	dev = cdev_open(NVME);
	s.iommu = iommu_open();
	expect_ok(dev_bind(dev, s.iommu, &s.devid));
	if (feature(dev, PROBE | GET | DMA_BUF))
		test_skip("this kernel has no dma-bufs of devices");
	expect_errno(feature(dev, PROBE | SET | DMA_BUF), EINVAL);
	config_write(dev, 4, 2, 2);
	map.fd = expect_ok(feature_arg(dev, &arg, GET | DMA_BUF));

	/* file-no-dmabuf */
	map.ioas_id = new_ioas(s.iommu);
	attach(dev, map.ioas_id);
	expect_ok(ioctl(s.iommu, IOMMU_IOAS_MAP_FILE, &map));
	f = fopen("/sys/bus/pci/devices/" NVME "/resource", "re");
	expect(f && fscanf(f, "%llx", &pa) == 1);
	fclose(f);
	expect_eq(pa_of(s.iommu, map.ioas_id, 0), pa);
}

/* hot-reset-unopened */

TEST(hot_reset_beside_an_unopened_function)
{
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };
	struct {
		struct vfio_pci_hot_reset_info head;
		struct vfio_pci_dependent_device devices[4];
	} info = { .head.argsz = sizeof(info) };
	int dev, iommu = iommu_open();
	__u32 devid;

	driver_bind("0000:02:00.1");
	dev = cdev_open("0000:02:00.0");
	expect_ok(dev_bind(dev, iommu, &devid));
	expect_ok(ioctl(dev, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info));
	expect_eq(info.head.flags, VFIO_PCI_HOT_RESET_FLAG_DEV_ID);
	expect_eq(info.head.count, 2);
	expect_eq(info.devices[0].group_id, devid);
	expect_eq(info.devices[1].group_id, (__u32)VFIO_PCI_DEVID_NOT_OWNED);
	expect_errno(ioctl(dev, VFIO_DEVICE_PCI_HOT_RESET, &reset), EINVAL);
}
