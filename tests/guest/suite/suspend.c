// SPDX-License-Identifier: GPL-2.0-only
/*
 * The machine sleeps (suspend to RAM) and wakes up. Devices that were open, only
 * bound, or not even bound work as before. The contents of a device's registers
 * are lost, as with any driver, but not its config space.
 */
#include <poll.h>
#include <sys/eventfd.h>

#include "harness.h"

#define RTC		"/sys/class/rtc/rtc0/wakealarm"
/* Long enough to fall asleep: an early alarm does not wake the machine. */
#define SLEEP_S		(5 * slow())

#define EDU_IRQ_RAISE	0x60
#define EDU_IRQ_ACK	0x64

/* Sleep until SLEEP_S seconds from now. */
static void sleep_machine(void)
{
	unsigned long long log = kmsg_mark();
	char states[64] = "";
	int fd;

	fd = open("/sys/power/state", O_RDONLY);
	if (fd < 0 || read(fd, states, sizeof(states) - 1) < 0 ||
	    !strstr(states, "mem"))
		test_skip("the kernel cannot suspend to RAM");
	close(fd);
	if (write_file("/sys/power/mem_sleep", "deep"))
		test_skip("the machine cannot suspend to RAM");
	write_file(RTC, "0");
	if (write_file(RTC, "+%u", SLEEP_S))
		test_skip("the machine has no clock to wake it");
	expect_ok(write_file("/sys/power/state", "mem"));
	expect_eq(kmsg_count(log, 7, "PM: suspend entry (deep)", NULL), 1);
	expect_eq(kmsg_count(log, 7, "PM: suspend exit", NULL), 1);
}

static void msi_on(int dev, int fd)
{
	struct {
		struct vfio_irq_set head;
		__s32 fd;
	} set = {
		.head = {
			.argsz = sizeof(set), .index = VFIO_PCI_MSI_IRQ_INDEX,
			.count = 1,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD |
				 VFIO_IRQ_SET_ACTION_TRIGGER,
		},
		.fd = fd,
	};

	expect_ok(ioctl(dev, VFIO_DEVICE_SET_IRQS, &set));
}

static void expect_interrupt(void *bar, int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	__u64 count;

	mmio_write32(bar, EDU_IRQ_RAISE, 1);
	if (poll(&ready, 1, 5000) != 1)
		fail("MSI: expected an interrupt, got none in 5 s");
	expect_eq(read(fd, &count, sizeof(count)), sizeof(count));
	mmio_write32(bar, EDU_IRQ_ACK, 1);
}

static void expect_dma(const struct setup *s, void *bar, char *va,
		       unsigned int seed)
{
	mem_fill(va, PAGE, seed);
	edu_read_from(bar, pa_of(s->iommu, s->ioas, 0), EDU_DMA_MAX);
	edu_write_to(bar, pa_of(s->iommu, s->ioas, PAGE), EDU_DMA_MAX);
	expect(!memcmp(va, va + PAGE, EDU_DMA_MAX));
}

static void config_header(int dev, __u32 *header)
{
	struct vfio_region_info info;

	region_info(dev, VFIO_PCI_CONFIG_REGION_INDEX, &info);
	expect_eq(pread(dev, header, 64, info.offset), 64);
}

TEST(devices_are_there_after_suspend)
{
	__u32 before[16], after[16];
	char *va = mem(2 * PAGE);
	long long pinned;
	struct setup s;
	unsigned int i;
	int fd, other;
	__u64 pa[2];
	void *bar;

	driver_bind(edu_behind_bridge());
	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, va, 2 * PAGE, 0));
	bus_master(s.dev, true);
	bar = region_mmap(s.dev, VFIO_PCI_BAR0_REGION_INDEX,
			  PROT_READ | PROT_WRITE);
	fd = expect_ok(eventfd(0, 0));
	msi_on(s.dev, fd);
	expect_interrupt(bar, fd);
	expect_dma(&s, bar, va, 1);
	config_header(s.dev, before);
	pinned = pins();
	for (i = 0; i < 2; i++)
		pa[i] = pa_of(s.iommu, s.ioas, i * PAGE);

	sleep_machine();

	expect_pins(pinned);
	for (i = 0; i < 2; i++)
		expect_eq(pa_of(s.iommu, s.ioas, i * PAGE), pa[i]);
	config_header(s.dev, after);
	for (i = 0; i < ARRAY_SIZE(before); i++)
		expect_eq(after[i], before[i]);
	expect_eq(mmio_read32(bar, 0), 0x010000ed);
	expect_dma(&s, bar, va, 2);
	expect_interrupt(bar, fd);
	munmap(bar, MIB);
	close(s.dev);
	expect_pins(pinned - 2);

	/* The one that was not open, and both again */
	expect(driver_has(edu_behind_bridge()));
	other = cdev_open(edu_behind_bridge());
	expect_ok(dev_bind(other, s.iommu, &s.devid));
	bus_master(other, true);
	bar = region_mmap(other, VFIO_PCI_BAR0_REGION_INDEX, PROT_READ);
	expect_eq(mmio_read32(bar, 0), 0x010000ed);
	munmap(bar, MIB);
	close(other);
	close(s.iommu);
	setup_attached(&s);
}
