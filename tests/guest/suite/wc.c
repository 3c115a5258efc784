// SPDX-License-Identifier: GPL-2.0-only
/*
 * BARs that are mapped write-combining. Devices: an ivshmem, whose BAR 2 is memory;
 * an NVMe controller, whose BAR 0 has the MSI-X table; a card of two virtio
 * functions, whose BAR 4 is prefetchable, for resets of the bus; an RTL8139 with I/O
 * ports. The kernel says what type of memory it has mapped in pat_memtype_list.
 */
#include <signal.h>

#include <linux/vfio.h>

#include <noiommufd/noiommufd.h>

#include "harness.h"

#define SHMEM		"0000:00:0e.0"
#define NVME		"0000:00:05.0"
#define RTL		"0000:00:08.0"
#define CARD		"0000:02:00.0"
#define MEMTYPES	"/sys/kernel/debug/x86/pat_memtype_list"
#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define BAR(n)		(1U << (n))

struct device {
	int iommu;
	int dev;
};

static int set_wc_flags(int dev, __u32 flags, __u32 bars)
{
	struct noiommufd_device_set_wc cmd = {
		.size = sizeof(cmd), .flags = flags, .bars = bars,
	};

	return ioctl(dev, NOIOMMUFD_DEVICE_SET_WC, &cmd);
}

static int set_wc(int dev, __u32 bars)
{
	return set_wc_flags(dev, 0, bars);
}

static void need(const char *bdf)
{
	char path[64];

	skip_on_mainline("it has no NOIOMMUFD_DEVICE_SET_WC");
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", bdf);
	if (access(path, F_OK))
		test_skip("the guest has no device %s", bdf);
}

/* The first byte and the last of a BAR, and its flags */
static void bar_range(const char *bdf, unsigned int bar, __u64 *start,
		      __u64 *end, __u64 *flags)
{
	char path[64], line[128], *next;
	unsigned int i;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", bdf);
	file = fopen(path, "re");
	expect(file);
	for (i = 0; i <= bar; i++)
		expect(fgets(line, sizeof(line), file));
	fclose(file);
	*start = strtoull(line, &next, 16);
	*end = strtoull(next, &next, 16);
	*flags = strtoull(next, NULL, 16);
}

/* What the kernel has mapped of a BAR: lines with that type, or (NULL) all */
static unsigned int mapped_as(FILE *file, const char *bdf, unsigned int bar,
			      const char *type)
{
	__u64 start, end, flags;
	unsigned long long from, to;
	char line[128], is[64];
	unsigned int n = 0;

	bar_range(bdf, bar, &start, &end, &flags);
	rewind(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "PAT: [mem %llx-%llx] %63s", &from, &to, is) != 3)
			continue;
		if (from <= end && to > start && (!type || !strcmp(is, type)))
			n++;
	}
	return n;
}

/* All that is mapped of the BAR has that type; NULL: nothing is mapped. */
static void expect_type(const char *bdf, unsigned int bar, const char *type)
{
	FILE *file = fopen(MEMTYPES, "re");

	/* Not on the debug kernel */
	if (!file)
		return;
	if (type)
		expect(mapped_as(file, bdf, bar, type) > 0);
	expect_eq(mapped_as(file, bdf, bar, NULL),
		  type ? mapped_as(file, bdf, bar, type) : 0);
	fclose(file);
}

#define WC		"write-combining"
#define UC		"uncached-minus"

static void bind_as(struct device *d, const char *bdf, __u32 bars)
{
	__u32 devid;

	d->iommu = iommu_open();
	d->dev = cdev_open(bdf);
	expect_ok(set_wc(d->dev, bars));
	expect_ok(dev_bind(d->dev, d->iommu, &devid));
	config_write(d->dev, 4, 2, 2);
}

static void done(struct device *d)
{
	expect_ok(close(d->dev));
	expect_ok(close(d->iommu));
}

static loff_t at(int dev, unsigned int bar)
{
	struct vfio_region_info info;

	region_info(dev, bar, &info);
	return info.offset;
}

static void expect_content(const __u32 *bar, size_t size, __u32 seed)
{
	size_t i;

	for (i = 0; i < size / 4; i += 1021)
		expect_eq(mmio_read32(bar, 4 * i), seed + i);
}

static void fill(__u32 *bar, size_t size, __u32 seed)
{
	size_t i;

	for (i = 0; i < size / 4; i++)
		mmio_write32(bar, 4 * i, seed + i);
}

TEST(is_said)
{
	struct noiommufd_get_info info = { .size = sizeof(info) };

	skip_on_mainline("it has no NOIOMMUFD_GET_INFO");
	expect_ok(ioctl(iommu_open(), NOIOMMUFD_GET_INFO, &info));
	expect(info.extensions & NOIOMMUFD_EXT_DEVICE_SET_WC);
	expect_errno(ioctl(iommu_open(), NOIOMMUFD_DEVICE_SET_WC, &info), ENOTTY);
}

/* From BIND to close, and what was written is there for another mapping. */
TEST(bar_is_write_combining)
{
	const size_t size = 4 * MIB;
	struct device d;
	__u32 *bar, *other, word;

	need(SHMEM);
	driver_bind(SHMEM);
	expect_type(SHMEM, 2, NULL);
	bind_as(&d, SHMEM, BAR(2));
	expect_type(SHMEM, 2, WC);
	bar = region_mmap(d.dev, 2, PROT_READ | PROT_WRITE);
	other = region_mmap(d.dev, 2, PROT_READ);
	fill(bar, size, 1000);
	__sync_synchronize();
	expect_content(other, size, 1000);
	expect_type(SHMEM, 2, WC);

	expect_ok(munmap(bar, size));
	expect_ok(munmap(other, size));
	done(&d);
	expect_type(SHMEM, 2, NULL);

	/* Another file has an ordinary BAR, with what was written. */
	bind_as(&d, SHMEM, 0);
	bar = region_mmap(d.dev, 2, PROT_READ | PROT_WRITE);
	expect_content(bar, size, 1000);
	expect_eq(pread(d.dev, &word, 4, at(d.dev, 2) + 4), 4);
	expect_eq(word, 1001);
	expect_type(SHMEM, 2, UC);
	expect_ok(munmap(bar, size));
	done(&d);
}

/* The last ioctl before BIND counts. */
TEST(can_be_taken_back)
{
	struct device d;
	__u32 devid;

	need(SHMEM);
	driver_bind(SHMEM);
	d.iommu = iommu_open();
	d.dev = cdev_open(SHMEM);
	expect_ok(set_wc(d.dev, BAR(2)));
	expect_ok(set_wc(d.dev, 0));
	expect_ok(dev_bind(d.dev, d.iommu, &devid));
	region_mmap(d.dev, 2, PROT_READ);
	expect_type(SHMEM, 2, UC);
}

TEST(file_access_is_refused)
{
	struct device d;
	struct vfio_device_ioeventfd ioeventfd = {
		.argsz = sizeof(ioeventfd), .flags = VFIO_DEVICE_IOEVENTFD_32,
		.fd = event_open(),
	};
	__u32 word = 0;
	loff_t bar;

	need(SHMEM);
	driver_bind(SHMEM);
	bind_as(&d, SHMEM, BAR(2));
	bar = at(d.dev, 2);
	ioeventfd.offset = bar;
	expect_errno(pread(d.dev, &word, 4, bar), EINVAL);
	expect_errno(pwrite(d.dev, &word, 4, bar), EINVAL);
	expect_errno(pwrite(d.dev, &word, 4, bar + 4 * MIB - 4), EINVAL);
	expect_errno(ioctl(d.dev, VFIO_DEVICE_IOEVENTFD, &ioeventfd), EINVAL);
	/* Its other regions are as ever. */
	expect_eq(pread(d.dev, &word, 4, at(d.dev, 0)), 4);
	expect_eq(pread(d.dev, &word, 4, at(d.dev, VFIO_PCI_CONFIG_REGION_INDEX)), 4);
	ioeventfd.offset = at(d.dev, 0);
	expect_ok(ioctl(d.dev, VFIO_DEVICE_IOEVENTFD, &ioeventfd));
	done(&d);

	bind_as(&d, SHMEM, 0);
	ioeventfd.offset = bar;
	expect_eq(pwrite(d.dev, &word, 4, bar), 4);
	expect_ok(ioctl(d.dev, VFIO_DEVICE_IOEVENTFD, &ioeventfd));
}

TEST(bad_arguments)
{
	struct {
		struct noiommufd_device_set_wc cmd;
		__u32 more;
	} large = { .cmd = { .size = sizeof(large), .bars = BAR(2) } };
	__u64 start, end, flags;
	int dev;

	need(SHMEM);
	driver_bind(SHMEM);
	dev = cdev_open(SHMEM);
	expect_errno(ioctl(dev, NOIOMMUFD_DEVICE_SET_WC, NULL), EFAULT);
	expect_errno(set_wc_flags(dev, 1, BAR(2)), EOPNOTSUPP);
	/* Not prefetchable, and less than a page; the others are not there. */
	expect_errno(set_wc(dev, BAR(0)), EINVAL);
	expect_errno(set_wc(dev, BAR(0) | BAR(2)), EINVAL);
	expect_errno(set_wc(dev, BAR(1)), EINVAL);
	expect_errno(set_wc(dev, BAR(3)), EINVAL);
	expect_errno(set_wc(dev, BAR(6)), EINVAL);
	expect_errno(set_wc(dev, U32_MAX), EINVAL);
	expect_ok(ioctl(dev, NOIOMMUFD_DEVICE_SET_WC, &large));
	large.more = 1;
	expect_errno(ioctl(dev, NOIOMMUFD_DEVICE_SET_WC, &large), E2BIG);
	large.cmd.size = sizeof(large.cmd) - 1;
	expect_errno(ioctl(dev, NOIOMMUFD_DEVICE_SET_WC, &large), EINVAL);
	close(dev);

	/* I/O ports, then a BAR that is not prefetchable and has the MSI-X table */
	driver_bind(RTL);
	dev = cdev_open(RTL);
	bar_range(RTL, 0, &start, &end, &flags);
	expect(flags & 0x100);
	expect_errno(set_wc(dev, BAR(0)), EINVAL);
	close(dev);
	driver_bind(NVME);
	expect_errno(set_wc(cdev_open(NVME), BAR(0)), EINVAL);
}

TEST(only_before_bind)
{
	struct device d;
	__u32 devid;
	void *va;
	int other;

	need(SHMEM);
	driver_bind(SHMEM);
	other = cdev_open(SHMEM);
	expect_ok(set_wc(other, BAR(2)));
	bind_as(&d, SHMEM, 0);
	expect_errno(set_wc(d.dev, BAR(2)), EBUSY);
	/* Nor through another file, which has its choice all the same. */
	expect_errno(set_wc(other, 0), EBUSY);
	expect_errno(dev_bind(other, d.iommu, &devid), EINVAL);
	va = region_mmap(d.dev, 2, PROT_READ);
	expect_type(SHMEM, 2, UC);
	expect_ok(munmap(va, 4 * MIB));
	expect_ok(close(d.dev));
	expect_ok(dev_bind(other, d.iommu, &devid));
	region_mmap(other, 2, PROT_READ);
	expect_type(SHMEM, 2, WC);
}

static void write_and_die(void *arg)
{
	struct device d;

	(void)arg;
	bind_as(&d, SHMEM, BAR(2));
	fill(region_mmap(d.dev, 2, PROT_READ | PROT_WRITE), MIB, 77);
}

/* A program that dies, and one that has it then */
TEST(second_program)
{
	struct device d;
	pid_t pid;

	need(SHMEM);
	driver_bind(SHMEM);
	pid = spawn(write_and_die, NULL);
	join(pid);
	bind_as(&d, SHMEM, BAR(2));
	expect_content(region_mmap(d.dev, 2, PROT_READ), MIB, 77);
	expect_type(SHMEM, 2, WC);
}

/* Memory decoding goes off, so what was mapped is mapped anew. */
TEST(decoding_off_and_on)
{
	struct device d;
	__u32 *bar;

	need(SHMEM);
	driver_bind(SHMEM);
	bind_as(&d, SHMEM, BAR(2));
	bar = region_mmap(d.dev, 2, PROT_READ | PROT_WRITE);
	fill(bar, PAGE, 5);
	config_write(d.dev, 4, 2, 0);
	config_write(d.dev, 4, 2, 2);
	expect_content(bar, PAGE, 5);
	expect_type(SHMEM, 2, WC);
}

static unsigned int first_bar(const char *bdf)
{
	__u64 start, end, flags;
	unsigned int bar;

	for (bar = 0; bar < 6; bar++) {
		bar_range(bdf, bar, &start, &end, &flags);
		if (end - start >= PAGE && flags & 0x2000)
			return bar;
	}
	test_skip("%s has no prefetchable BAR", bdf);
}

/* A reset of the function and one of its bus leave the BAR as it was. */
TEST(resets)
{
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };
	static const char second[] = "0000:02:00.1";
	struct device d;
	unsigned int bar;
	void *va;

	need(CARD);
	driver_bind(CARD);
	driver_bind(second);
	bar = first_bar(CARD);
	bind_as(&d, CARD, BAR(bar));
	need_bus_reset(d.dev, CARD);
	va = region_mmap(d.dev, bar, PROT_READ | PROT_WRITE);
	mmio_read32(va, 0);
	expect_type(CARD, bar, WC);
	expect_ok(ioctl(d.dev, VFIO_DEVICE_RESET));
	mmio_read32(va, 0);
	expect_type(CARD, bar, WC);
	expect_ok(ioctl(d.dev, VFIO_DEVICE_PCI_HOT_RESET, &reset));
	mmio_read32(va, 0);
	expect_type(CARD, bar, WC);
}

static void hold(void *arg)
{
	bool *held = arg;
	struct device d;

	bind_as(&d, SHMEM, BAR(2));
	mmio_read32(region_mmap(d.dev, 2, PROT_READ), 0);
	set_flag(held);
	sleep_ms(1000);
}

/* Unbound while it is mapped: that waits, and then nothing is left. */
TEST(unbind)
{
	bool *held = mem_flags(PAGE, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS);
	pid_t pid;

	need(SHMEM);
	driver_bind(SHMEM);
	pid = spawn(hold, held);
	while (!flag(held))
		sleep_ms(10);
	driver_unbind(SHMEM);
	join(pid);
	expect_type(SHMEM, 2, NULL);
	driver_bind(SHMEM);
}

/* A BIND that fails leaves the BAR free, for a BIND that does not. */
static void bind_with_failure(int fail, unsigned int nth, bool *came)
{
	int iommu = iommu_open(), dev = cdev_open(SHMEM);
	__u32 devid;
	char text[16];
	int rc, error;
	ssize_t n;

	expect_ok(set_wc(dev, BAR(2)));
	n = snprintf(text, sizeof(text), "%u", nth);
	expect_eq(pwrite(fail, text, n, 0), n);
	rc = dev_bind(dev, iommu, &devid);
	error = errno;
	n = pread(fail, text, sizeof(text) - 1, 0);
	expect(n > 0);
	text[n] = 0;
	*came = !atoi(text);
	expect_eq(pwrite(fail, "0", 1, 0), 1);
	if (rc) {
		expect(*came);
		/* The kernel has no other errno for a BAR that it cannot reserve. */
		if (error != EBUSY)
			expect_eq(error, ENOMEM);
		expect_type(SHMEM, 2, NULL);
		expect_ok(dev_bind(dev, iommu, &devid));
	}
	expect_type(SHMEM, 2, WC);
	close(dev);
	close(iommu);
	expect_type(SHMEM, 2, NULL);
}

TEST_LIMIT(allocations_fail, 300)
{
	static const char * const kinds[] = { "failslab", "fail_page_alloc" };
	unsigned int nth;
	char path[64];
	size_t i;
	bool came = true;
	int fail;

	need(SHMEM);
	if (access(FAIL_NTH, W_OK))
		test_skip("the kernel has no fault injection (CONFIG_FAULT_INJECTION)");
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/ignore-gfp-wait",
			 kinds[i]);
		expect_ok(write_file(path, "N"));
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/verbose",
			 kinds[i]);
		expect_ok(write_file(path, "0"));
	}
	driver_bind(SHMEM);
	fail = expect_ok(open(FAIL_NTH, O_RDWR | O_CLOEXEC));
	for (nth = 1; came && nth < 500; nth++)
		bind_with_failure(fail, nth, &came);
	printf("# %u allocations\n", nth - 2);
	fflush(stdout);
}
