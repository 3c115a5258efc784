// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device in use: QEMU's edu, which has registers, a DMA engine and one
 * interrupt. Each DMA takes a tenth of a second.
 */
#include <setjmp.h>
#include <signal.h>

#include "harness.h"

static void *bar_of(int dev)
{
	void *bar = region_mmap(dev, VFIO_PCI_BAR0_REGION_INDEX,
				PROT_READ | PROT_WRITE);

	expect_eq(mmio_read32(bar, EDU_IDENT), EDU_ID);
	return bar;
}

static void *setup_dma(struct setup *s)
{
	setup_attached(s);
	bus_master(s->dev, true);
	return bar_of(s->dev);
}

static __u16 command(int dev)
{
	struct vfio_region_info info;
	__u16 value;

	region_info(dev, VFIO_PCI_CONFIG_REGION_INDEX, &info);
	expect_eq(pread(dev, &value, 2, info.offset + 4), 2);
	return value;
}

static void set_command(int dev, __u16 value)
{
	struct vfio_region_info info;

	region_info(dev, VFIO_PCI_CONFIG_REGION_INDEX, &info);
	expect_eq(pwrite(dev, &value, 2, info.offset + 4), 2);
}

/* DMA from src to the device and from there to dst, both given as IOVAs */
static void round_trip(const struct setup *s, void *bar, __u64 src, __u64 dst,
		       __u32 size)
{
	edu_read_from(bar, pa_of(s->iommu, s->ioas, src), size);
	edu_write_to(bar, pa_of(s->iommu, s->ioas, dst), size);
}

/* DMA */

TEST(dma_round_trip)
{
	char *src = mem(4 * PAGE), *dst = mem(4 * PAGE);
	struct setup s;
	void *bar;
	size_t i;

	bar = setup_dma(&s);
	mem_fill(src, 4 * PAGE, 1);
	memset(dst, 0x55, 4 * PAGE);
	expect_ok(ioas_map(s.iommu, s.ioas, src, 4 * PAGE, 16 * PAGE));
	expect_ok(ioas_map(s.iommu, s.ioas, dst, 4 * PAGE, 32 * PAGE));
	for (i = 0; i < 4; i++)
		round_trip(&s, bar, (16 + i) * PAGE, (32 + i) * PAGE + 64,
			   EDU_DMA_MAX);
	for (i = 0; i < 4; i++) {
		char *page = dst + i * PAGE;
		size_t k;

		expect(!memcmp(page + 64, src + i * PAGE, EDU_DMA_MAX));
		/* And no memory beside it */
		for (k = 0; k < 64; k++)
			expect_eq(page[k], 0x55);
		for (k = 64 + EDU_DMA_MAX; k < PAGE; k++)
			expect_eq(page[k], 0x55);
	}
}

TEST(dma_behind_a_bridge)
{
	char *src = mem(PAGE), *dst = mem(PAGE);
	struct setup s = {};
	void *bar;

	s.iommu = iommu_open();
	s.dev = cdev_open(edu_behind_bridge());
	expect_ok(dev_bind(s.dev, s.iommu, &s.devid));
	s.ioas = new_ioas(s.iommu);
	attach(s.dev, s.ioas);
	bus_master(s.dev, true);
	bar = bar_of(s.dev);
	mem_fill(src, PAGE, 2);
	expect_ok(ioas_map(s.iommu, s.ioas, src, PAGE, 0));
	expect_ok(ioas_map(s.iommu, s.ioas, dst, PAGE, PAGE));
	round_trip(&s, bar, 0, PAGE, EDU_DMA_MAX);
	expect(!memcmp(src, dst, EDU_DMA_MAX));
}

TEST(dma_to_a_memfd)
{
	int fd = expect_ok(memfd_create("suite", 0));
	struct setup s;
	char *va, *bar;

	expect_ok(ftruncate(fd, 2 * PAGE));
	va = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	expect(va != MAP_FAILED);
	bar = setup_dma(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, va, 2 * PAGE, 0));
	mem_fill(va, PAGE, 3);
	round_trip(&s, bar, 0, PAGE, EDU_DMA_MAX);
	expect(!memcmp(va, va + PAGE, EDU_DMA_MAX));
}

TEST(dma_sees_what_the_cpu_writes_after_fork)
{
	char *src = mem(PAGE), *dst = mem(PAGE);
	struct setup s;
	pid_t child;
	void *bar;

	bar = setup_dma(&s);
	mem_fill(src, PAGE, 4);
	expect_ok(ioas_map(s.iommu, s.ioas, src, PAGE, 0));
	expect_ok(ioas_map(s.iommu, s.ioas, dst, PAGE, PAGE));
	child = expect_ok(fork());
	if (!child)
		for (;;)
			pause();
	mem_fill(src, PAGE, 5);
	round_trip(&s, bar, 0, PAGE, EDU_DMA_MAX);
	expect(!memcmp(src, dst, EDU_DMA_MAX));
	kill(child, SIGKILL);
}

/* What the device reads from memory that was untouched when mapped READABLE */
static void read_what_was_written_later(char *src, const void *before)
{
	const __u32 flags = IOMMU_IOAS_MAP_FIXED_IOVA | MAP_READ;
	char *dst = mem(PAGE);
	__u64 iova = 0;
	struct setup s;
	void *bar;

	bar = setup_dma(&s);
	expect_ok(ioas_map_flags(s.iommu, s.ioas, flags, src, PAGE, &iova));
	expect_ok(ioas_map(s.iommu, s.ioas, dst, PAGE, PAGE));
	memset(dst, 0x55, PAGE);
	round_trip(&s, bar, 0, PAGE, EDU_DMA_MAX);
	expect(!memcmp(dst, before, EDU_DMA_MAX));
	mem_fill(src, PAGE, 6);
	round_trip(&s, bar, 0, PAGE, EDU_DMA_MAX);
	expect(!memcmp(dst, src, EDU_DMA_MAX));
}

TEST(readable_only_private)
{
	char *src = mem_flags(PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS);

	read_what_was_written_later(src, mem(PAGE));
}

TEST(readable_only_zero_page)
{
	char *src = mem_flags(PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS);

	expect_eq(__atomic_load_n(src, __ATOMIC_RELAXED), 0);
	read_what_was_written_later(src, mem(PAGE));
}

TEST(readable_only_shared)
{
	char *src = mem_flags(PAGE, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS);

	read_what_was_written_later(src, mem(PAGE));
}

TEST(readable_only_huge)
{
	char *src = mem_flags(2 * HUGE_PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS);

	src = (char *)(((uintptr_t)src + HUGE_PAGE - 1) & -HUGE_PAGE);
	madvise(src, HUGE_PAGE, MADV_HUGEPAGE);
	expect_eq(__atomic_load_n(src, __ATOMIC_RELAXED), 0);
	read_what_was_written_later(src + 7 * PAGE, mem(PAGE));
}

/* A private mapping of a file that nobody has written to */
TEST(readable_only_file)
{
	int fd = expect_ok(memfd_create("suite", 0));
	char *src, *before = mem(PAGE);

	mem_fill(before, PAGE, 7);
	expect_eq(write(fd, before, PAGE), PAGE);
	src = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	expect(src != MAP_FAILED);
	read_what_was_written_later(src, before);
}

/* Registers */

TEST(device_info)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	struct setup s;

	setup_bound(&s);
	expect_ok(ioctl(s.dev, VFIO_DEVICE_GET_INFO, &info));
	expect(info.flags & VFIO_DEVICE_FLAGS_PCI);
	expect_eq(info.num_regions, VFIO_PCI_NUM_REGIONS);
	expect_eq(info.num_irqs, VFIO_PCI_NUM_IRQS);
	info.argsz = 8;
	expect_errno(ioctl(s.dev, VFIO_DEVICE_GET_INFO, &info), EINVAL);
}

TEST(regions)
{
	struct vfio_region_info info = { .argsz = sizeof(info) };
	const __u32 rw = VFIO_REGION_INFO_FLAG_READ |
			 VFIO_REGION_INFO_FLAG_WRITE;
	struct setup s;
	__u64 value;
	__u32 i;

	setup_bound(&s);
	for (i = 0; i < VFIO_PCI_VGA_REGION_INDEX; i++) {
		region_info(s.dev, i, &info);
		expect_eq(info.index, i);
		switch (i) {
		case VFIO_PCI_BAR0_REGION_INDEX:
			expect_eq(info.size, MIB);
			expect_eq(info.flags & (rw | VFIO_REGION_INFO_FLAG_MMAP),
				  rw | VFIO_REGION_INFO_FLAG_MMAP);
			break;
		case VFIO_PCI_CONFIG_REGION_INDEX:
			expect(info.size == 256 || info.size == 4096);
			expect_eq(info.flags & rw, rw);
			break;
		default:
			/* It has no other BAR and no ROM. */
			expect_eq(info.size, 0);
			expect_errno(pread(s.dev, &value, 4, info.offset),
				     EINVAL);
			expect(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, s.dev,
				    info.offset) == MAP_FAILED);
			break;
		}
	}
	info.index = 4711;
	expect_errno(ioctl(s.dev, VFIO_DEVICE_GET_REGION_INFO, &info), EINVAL);
	info.argsz = 4;
	expect_errno(ioctl(s.dev, VFIO_DEVICE_GET_REGION_INFO, &info), EINVAL);
}

TEST(config_space)
{
	struct vfio_region_info info;
	struct setup s;
	__u8 config[64];

	setup_bound(&s);
	region_info(s.dev, VFIO_PCI_CONFIG_REGION_INDEX, &info);
	expect_eq(pread(s.dev, config, 64, info.offset), 64);
	expect_eq(config[0] | config[1] << 8, 0x1234);
	expect_eq(config[2] | config[3] << 8, 0x11e8);
	expect_eq(config[14] & 0x7f, 0);
	/* Its identity cannot be written. */
	config[0] = 0;
	expect_ok(pwrite(s.dev, config, 1, info.offset));
	expect_eq(pread(s.dev, config, 1, info.offset), 1);
	expect_eq(config[0], 0x34);
	expect_errno(pread(s.dev, config, 4, info.offset + info.size), EFAULT);
	expect(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, s.dev, info.offset) ==
	       MAP_FAILED);
}

TEST(bar_access)
{
	struct vfio_region_info info;
	struct setup s;
	__u32 value;
	void *bar;

	setup_bound(&s);
	bar = bar_of(s.dev);
	mmio_write32(bar, EDU_LIVE, 0x12345678);
	expect_eq(mmio_read32(bar, EDU_LIVE), ~0x12345678U);
	/* The same by pread() and pwrite() */
	region_info(s.dev, VFIO_PCI_BAR0_REGION_INDEX, &info);
	expect_eq(pread(s.dev, &value, 4, info.offset + EDU_IDENT), 4);
	expect_eq(value, EDU_ID);
	value = 0xcafe;
	expect_eq(pwrite(s.dev, &value, 4, info.offset + EDU_LIVE), 4);
	expect_eq(mmio_read32(bar, EDU_LIVE), ~0xcafeU);
	expect_errno(pread(s.dev, &value, 4, info.offset + info.size), EINVAL);

	expect(mmap(NULL, info.size + PAGE, PROT_READ, MAP_SHARED, s.dev,
		    info.offset) == MAP_FAILED);
	expect(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, s.dev,
		    info.offset) == MAP_FAILED);
}

static sigjmp_buf bus_error;

static void on_bus_error(int signal)
{
	(void)signal;
	siglongjmp(bus_error, 1);
}

static bool readable(const void *bar)
{
	if (sigsetjmp(bus_error, 1))
		return false;
	expect_eq(mmio_read32(bar, EDU_IDENT), EDU_ID);
	return true;
}

TEST(bar_mmap_while_memory_is_off)
{
	struct sigaction action = { .sa_handler = on_bus_error };
	struct setup s;
	void *bar;

	setup_bound(&s);
	bar = bar_of(s.dev);
	expect_ok(sigaction(SIGBUS, &action, NULL));
	expect(readable(bar));
	set_command(s.dev, command(s.dev) & ~2);
	expect(!readable(bar));
	set_command(s.dev, command(s.dev) | 2);
	expect(readable(bar));
}

/* Interrupts */

TEST(irq_info)
{
	struct vfio_irq_info info = { .argsz = sizeof(info) };
	struct setup s;

	setup_bound(&s);
	info.index = VFIO_PCI_INTX_IRQ_INDEX;
	expect_ok(ioctl(s.dev, VFIO_DEVICE_GET_IRQ_INFO, &info));
	expect_eq(info.count, 1);
	expect_eq(info.flags, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE |
		  VFIO_IRQ_INFO_AUTOMASKED);
	info.index = VFIO_PCI_MSI_IRQ_INDEX;
	expect_ok(ioctl(s.dev, VFIO_DEVICE_GET_IRQ_INFO, &info));
	expect_eq(info.count, 1);
	expect(info.flags & VFIO_IRQ_INFO_EVENTFD);
	info.index = VFIO_PCI_MSIX_IRQ_INDEX;
	expect_ok(ioctl(s.dev, VFIO_DEVICE_GET_IRQ_INFO, &info));
	expect_eq(info.count, 0);
	info.index = VFIO_PCI_NUM_IRQS;
	expect_errno(ioctl(s.dev, VFIO_DEVICE_GET_IRQ_INFO, &info), EINVAL);
}

TEST(msi)
{
	struct setup s;
	void *bar;
	int fd, i;

	bar = setup_dma(&s);
	fd = irq_eventfd(s.dev, VFIO_PCI_MSI_IRQ_INDEX);
	expect_eq(signals(fd, 0), 0);
	for (i = 1; i <= 3; i++) {
		mmio_write32(bar, EDU_IRQ_RAISE, i);
		expect_eq(signals(fd, 5000), 1);
		expect_eq(mmio_read32(bar, EDU_IRQ_STATUS), i);
		mmio_write32(bar, EDU_IRQ_ACK, i);
	}
	/* None arrives while it is off. */
	irq_off(s.dev, VFIO_PCI_MSI_IRQ_INDEX);
	mmio_write32(bar, EDU_IRQ_RAISE, 1);
	expect_eq(signals(fd, 200), 0);
	mmio_write32(bar, EDU_IRQ_ACK, 1);
}

TEST(msi_of_a_computation)
{
	struct setup s;
	void *bar;
	int fd;

	bar = setup_dma(&s);
	fd = irq_eventfd(s.dev, VFIO_PCI_MSI_IRQ_INDEX);
	mmio_write32(bar, EDU_STATUS, EDU_STATUS_IRQ);
	mmio_write32(bar, EDU_FACTORIAL, 10);
	expect_eq(signals(fd, 10000), 1);
	expect_eq(mmio_read32(bar, EDU_FACTORIAL), 3628800);
	mmio_write32(bar, EDU_STATUS, 0);
	mmio_write32(bar, EDU_IRQ_ACK, mmio_read32(bar, EDU_IRQ_STATUS));
}

TEST(intx)
{
	struct setup s;
	void *bar;
	int fd, i;

	bar = setup_dma(&s);
	fd = irq_eventfd(s.dev, VFIO_PCI_INTX_IRQ_INDEX);
	for (i = 0; i < 3; i++) {
		mmio_write32(bar, EDU_IRQ_RAISE, 1);
		expect_eq(signals(fd, 5000), 1);
		/* The interrupt is masked once it fired, until it is unmasked */
		expect_eq(signals(fd, 50), 0);
		mmio_write32(bar, EDU_IRQ_ACK, 1);
		expect_ok(irq_set(s.dev, VFIO_PCI_INTX_IRQ_INDEX,
				  IRQ_NONE | IRQ_UNMASK, 0, 1, NULL, 0));
		expect_eq(signals(fd, 50), 0);
	}
	irq_off(s.dev, VFIO_PCI_INTX_IRQ_INDEX);
}

TEST(loopback_interrupt)
{
	struct setup s;
	int fd;

	setup_bound(&s);
	fd = irq_eventfd(s.dev, VFIO_PCI_MSI_IRQ_INDEX);
	expect_ok(irq_set(s.dev, VFIO_PCI_MSI_IRQ_INDEX, IRQ_NONE | IRQ_TRIGGER,
			  0, 1, NULL, 0));
	expect_eq(signals(fd, 5000), 1);
}

TEST(closed_with_an_interrupt_armed)
{
	struct setup s;
	void *bar;
	int fd;

	bar = setup_dma(&s);
	irq_eventfd(s.dev, VFIO_PCI_MSI_IRQ_INDEX);
	munmap(bar, MIB);
	close(s.dev);
	close(s.iommu);
	bar = setup_dma(&s);
	fd = irq_eventfd(s.dev, VFIO_PCI_MSI_IRQ_INDEX);
	mmio_write32(bar, EDU_IRQ_RAISE, 1);
	expect_eq(signals(fd, 5000), 1);
	mmio_write32(bar, EDU_IRQ_ACK, 1);
}

/* Reset, reopen */

static void check_reset(const char *bdf)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	int dev = cdev_open(bdf), iommu = iommu_open();
	__u32 devid, ioas;
	void *bar;

	expect_ok(dev_bind(dev, iommu, &devid));
	ioas = new_ioas(iommu);
	attach(dev, ioas);
	expect_ok(ioas_map(iommu, ioas, mem(PAGE), PAGE, 0));
	bar = bar_of(dev);
	expect_ok(ioctl(dev, VFIO_DEVICE_GET_INFO, &info));
	if (!(info.flags & VFIO_DEVICE_FLAGS_RESET)) {
		expect_errno(ioctl(dev, VFIO_DEVICE_RESET), EINVAL);
		return;
	}
	bus_master(dev, true);
	expect_ok(ioctl(dev, VFIO_DEVICE_RESET));
	/* The BAR and its mappings are where they were. */
	expect_eq(mmio_read32(bar, EDU_IDENT), EDU_ID);
	expect(pa_of(iommu, ioas, 0) != 0);
}

TEST(reset)
{
	check_reset(edu());
}

TEST(reset_behind_a_bridge)
{
	check_reset(edu_behind_bridge());
}

TEST(bus_master_off_after_close)
{
	struct setup s;
	void *bar;

	bar = setup_dma(&s);
	expect_eq(command(s.dev) & 4, 4);
	munmap(bar, MIB);
	close(s.dev);
	close(s.iommu);
	setup_bound(&s);
	expect_eq(command(s.dev) & 4, 0);
}

TEST(reopen)
{
	char *src = mem(PAGE), *dst = mem(PAGE);
	struct setup s;
	void *bar;
	int i;

	for (i = 0; i < 5; i++) {
		bar = setup_dma(&s);
		expect_eq(s.devid, 1);
		mem_fill(src, PAGE, i);
		expect_ok(ioas_map(s.iommu, s.ioas, src, PAGE, 0));
		expect_ok(ioas_map(s.iommu, s.ioas, dst, PAGE, PAGE));
		round_trip(&s, bar, 0, PAGE, 64);
		expect(!memcmp(src, dst, 64));
		munmap(bar, MIB);
		/* In either order */
		close(i % 2 ? s.dev : s.iommu);
		close(i % 2 ? s.iommu : s.dev);
	}
}
