// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions: BARs by pread() and by mapping, I/O ports, the expansion ROM, and
 * config space, which is partly the device's and partly emulated. Devices: QEMU's
 * edu; an NVMe controller, whose BAR 0 holds its MSI-X table; an RTL8139 network
 * card, which has its registers both in I/O ports and in a BAR of 256 bytes, and a
 * ROM that the runner makes.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

#include "harness.h"

#define NVME		"0000:00:05.0"
#define RTL		"0000:00:08.0"

#define NVME_VS		0x08
#define NVME_CC		0x14

/* rtl8139: the station address, and eight bytes to write to */
#define RTL_IDR		0x00
#define RTL_MAR		0x08

#define PCI_COMMAND	0x04
#define PCI_IO		1
#define PCI_MEMORY	2
#define PCI_BAR0	0x10
#define PCI_ROM		0x30
#define PCI_LINE	0x3c
#define PCI_PIN		0x3d
#define CAP_PM		0x01
#define CAP_EXP		0x10
#define CAP_MSIX	0x11

/* More than fits, or nothing; hide that from the compiler. */
static ssize_t pread_any(int fd, void *buffer, size_t size, loff_t at)
{
	asm volatile("" : "+r"(buffer), "+r"(size));
	return pread(fd, buffer, size, at);
}

static ssize_t pwrite_any(int fd, const void *buffer, size_t size, loff_t at)
{
	asm volatile("" : "+r"(buffer), "+r"(size));
	return pwrite(fd, buffer, size, at);
}

struct device {
	int iommu;
	int dev;
	loff_t at[VFIO_PCI_NUM_REGIONS];
	__u64 size[VFIO_PCI_NUM_REGIONS];
	__u32 flags[VFIO_PCI_NUM_REGIONS];
};

static void device_open(struct device *d, const char *bdf)
{
	struct vfio_region_info info;
	__u32 devid, i;

	d->iommu = iommu_open();
	d->dev = cdev_open(bdf);
	expect_ok(dev_bind(d->dev, d->iommu, &devid));
	for (i = 0; i < VFIO_PCI_VGA_REGION_INDEX; i++) {
		region_info(d->dev, i, &info);
		d->at[i] = info.offset;
		d->size[i] = info.size;
		d->flags[i] = info.flags;
	}
	config_write(d->dev, PCI_COMMAND, 2, PCI_IO | PCI_MEMORY);
}

static void memory(const struct device *d, bool on)
{
	__u16 command = config_read(d->dev, PCI_COMMAND, 2);

	config_write(d->dev, PCI_COMMAND, 2,
		     on ? command | PCI_MEMORY : command & ~PCI_MEMORY);
}

static void *bar_map(const struct device *d, size_t offset, size_t size,
		     int prot)
{
	void *va = mmap(NULL, size, prot, MAP_SHARED, d->dev, d->at[0] + offset);

	expect(va != MAP_FAILED);
	return va;
}

/* Signal handler of the tests of bad memory */
static sigjmp_buf trap;

static void on_signal(int signal)
{
	siglongjmp(trap, signal);
}

static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	expect_ok(sigaction(SIGBUS, &action, NULL));
	expect_ok(sigaction(SIGSEGV, &action, NULL));
}

/* The signal that a read gets, or 0 */
static int read_signal(const void *va, __u32 *value)
{
	int signal = sigsetjmp(trap, 1);

	if (!signal)
		*value = mmio_read32(va, 0);
	return signal;
}

static void expect_readable(const void *va, __u32 want)
{
	__u32 value;

	expect_eq(read_signal(va, &value), 0);
	expect_eq(value, want);
}

static void expect_sigbus(const void *va)
{
	__u32 value;

	expect_eq(read_signal(va, &value), SIGBUS);
}

/* Region info */

TEST(kinds)
{
	const __u32 rw = VFIO_REGION_INFO_FLAG_READ |
			 VFIO_REGION_INFO_FLAG_WRITE;
	struct device d;

	device_open(&d, RTL);
	expect_eq(d.size[0], 256);
	expect_eq(d.flags[0], rw);
	expect_eq(d.size[1], 256);
	expect_eq(d.flags[1] & ~VFIO_REGION_INFO_FLAG_MMAP, rw);
	expect_eq(d.size[VFIO_PCI_ROM_REGION_INDEX], PAGE);
	expect_eq(d.flags[VFIO_PCI_ROM_REGION_INDEX],
		  VFIO_REGION_INFO_FLAG_READ);
	expect_eq(d.size[VFIO_PCI_CONFIG_REGION_INDEX], 256);
	device_open(&d, NVME);
	expect_eq(d.size[VFIO_PCI_CONFIG_REGION_INDEX], 4096);
	expect_eq(d.flags[0], rw | VFIO_REGION_INFO_FLAG_MMAP |
		  VFIO_REGION_INFO_FLAG_CAPS);
}

/*
 * The MSI-X table may be mapped: since Linux 4.16 vfio-pci has a capability for
 * that, and no sparse mappings.
 */
TEST(capabilities)
{
	struct {
		struct vfio_region_info info;
		struct vfio_info_cap_header cap;
		__u8 more[64];
	} r = { .info = { .argsz = sizeof(r.info) } };
	struct device d;
	__u32 need;

	device_open(&d, NVME);
	memset(&r.cap, 0x55, sizeof(r.cap));
	expect_ok(ioctl(d.dev, VFIO_DEVICE_GET_REGION_INFO, &r));
	need = r.info.argsz;
	expect_eq(need, sizeof(r.info) + sizeof(r.cap));
	expect_eq(r.info.cap_offset, 0);
	expect_eq(r.cap.id, 0x5555);
	r.info.argsz = need - 1;
	expect_ok(ioctl(d.dev, VFIO_DEVICE_GET_REGION_INFO, &r));
	expect_eq(r.info.argsz, need);
	expect_eq(r.cap.id, 0x5555);
	expect_ok(ioctl(d.dev, VFIO_DEVICE_GET_REGION_INFO, &r));
	expect_eq(r.info.argsz, need);
	expect_eq(r.info.cap_offset, sizeof(r.info));
	expect_eq(r.cap.id, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE);
	expect_eq(r.cap.version, 1);
	expect_eq(r.cap.next, 0);
	/* A BAR without a table has no such capability. */
	device_open(&d, edu());
	r.info.argsz = sizeof(r);
	r.info.cap_offset = 0;
	expect_ok(ioctl(d.dev, VFIO_DEVICE_GET_REGION_INFO, &r));
	expect_eq(r.info.cap_offset, 0);
	expect_eq(r.info.flags & VFIO_REGION_INFO_FLAG_CAPS, 0);
}

/* pread() and pwrite() */

TEST(read_and_write_in_pieces)
{
	/* A buffer of that size has to end inside user space. */
	__u8 bytes[64], *page = mmap((void *)GIB, PAGE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS |
				     MAP_FIXED_NOREPLACE, -1, 0);
	struct device d;
	unsigned int i;

	expect(page != MAP_FAILED);
	device_open(&d, RTL);
	for (i = 0; i < 2; i++) {
		const __u8 mac[] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
		loff_t at = d.at[i] + RTL_MAR;

		/* Byte by byte, at once, from the middle */
		expect_eq(pread(d.dev, bytes, 6, d.at[i] + RTL_IDR), 6);
		expect(!memcmp(bytes, mac, 6));
		expect_eq(pread(d.dev, bytes, 3, d.at[i] + RTL_IDR + 1), 3);
		expect(!memcmp(bytes, mac + 1, 3));

		expect_eq(pwrite(d.dev, "\1\2\3\4\5\6\7\10", 8, at), 8);
		expect_eq(pwrite(d.dev, "xyz", 3, at + 3), 3);
		/* The same registers lie behind the other BAR. */
		expect_eq(pread(d.dev, bytes, 8, d.at[!i] + RTL_MAR), 8);
		expect(!memcmp(bytes, "\1\2\3xyz\7\10", 8));

		/* Up to the end and not further */
		expect_eq(pread(d.dev, bytes, 64, d.at[i] + 256 - 16), 16);
		expect_eq(pread(d.dev, bytes, 4, d.at[i] + 255), 1);
		expect_errno(pread(d.dev, bytes, 1, d.at[i] + 256), EINVAL);
		expect_errno(pwrite(d.dev, bytes, 1, d.at[i] + 256), EINVAL);
		expect_errno(pread(d.dev, bytes, 1, d.at[i] + MIB), EINVAL);
		expect_eq(pread(d.dev, bytes, 0, d.at[i]), 0);
		expect_eq(pwrite(d.dev, bytes, 0, d.at[i]), 0);
		expect_errno(pread_any(d.dev, NULL, 4, d.at[i]), EFAULT);
		expect_errno(pwrite_any(d.dev, NULL, 4, d.at[i]), EFAULT);
		expect_eq(pread_any(d.dev, page, GIB, d.at[i] + 252), 4);
	}
	expect_errno(pread(d.dev, bytes, 1, -1), EINVAL);
	for (i = VFIO_PCI_VGA_REGION_INDEX; i < 32; i++) {
		expect_errno(pread(d.dev, bytes, 4, (loff_t)i << 40), EINVAL);
		expect_errno(pwrite(d.dev, bytes, 4, (loff_t)i << 40), EINVAL);
	}
	expect_errno(pread(d.dev, bytes, 4, INT64_MAX - 3), EINVAL);
}

/* Each file has a position, which reads advance. */
TEST(read_moves_on)
{
	struct device d;
	__u32 id = 0;

	device_open(&d, edu());
	/* It starts at the beginning of BAR 0. */
	expect_eq(read(d.dev, &id, 4), 4);
	expect_eq(id, EDU_ID);
	id = 0x1234;
	expect_eq(write(d.dev, &id, 4), 4);
	expect_eq(pread(d.dev, &id, 4, d.at[0] + EDU_LIVE), 4);
	expect_eq(id, ~0x1234U);
}

TEST(msix_table_is_not_for_writing)
{
	__u8 all[64], zero[64] = {};
	struct device d;
	__u32 table;
	void *bar;

	device_open(&d, NVME);
	table = config_read(d.dev, config_capability(d.dev, CAP_MSIX) + 4, 4);
	bar = bar_map(&d, 0, d.size[0], PROT_READ | PROT_WRITE);
	memset(all, 0xff, sizeof(all));
	memset(zero, 0x55, sizeof(zero));
	expect_eq(pread(d.dev, zero, 64, d.at[0] + table), 64);
	expect(!memcmp(zero, all, 64));
	/* The entry is masked, as it was. */
	expect_eq(mmio_read32(bar, table + 12) & 1, 1);
	memset(zero, 0, sizeof(zero));
	expect_eq(pwrite(d.dev, zero, 64, d.at[0] + table), 64);
	expect_eq(mmio_read32(bar, table + 12) & 1, 1);
	/* Across its start: what is before it is read. */
	expect_eq(pread(d.dev, zero, 8, d.at[0] + table - 4), 8);
	expect(!memcmp(zero + 4, all, 4));
	expect_eq(pread(d.dev, zero, 4, d.at[0] + NVME_VS), 4);
	expect_eq(*(__u32 *)zero, mmio_read32(bar, NVME_VS));
}

TEST(rom)
{
	const loff_t size = 3072;
	__u8 *bytes = mem(2 * PAGE);
	struct device d;
	loff_t at;
	int i;

	device_open(&d, RTL);
	at = d.at[VFIO_PCI_ROM_REGION_INDEX];
	expect_eq(pread(d.dev, bytes, 2 * PAGE, at), PAGE);
	expect_eq(bytes[0] | bytes[1] << 8, 0xaa55);
	expect(!memcmp(bytes + 0x1c, "PCIR", 4));
	for (i = 0x34; i < size; i++)
		expect_eq(bytes[i], 'R');
	/* The image is smaller than the region. */
	for (; i < (int)PAGE; i++)
		expect_eq(bytes[i], 0xff);
	expect_eq(pread(d.dev, bytes, 8, at + size - 4), 8);
	expect(!memcmp(bytes, "RRRR\xff\xff\xff\xff", 8));
	expect_errno(pread(d.dev, bytes, 1, at + PAGE), EINVAL);
	expect_errno(pwrite(d.dev, bytes, 4, at), EINVAL);
	expect(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, d.dev, at) ==
	       MAP_FAILED);
	expect_eq(errno, EINVAL);
	/* Its BAR can be sized, whether or not it is enabled. */
	config_write(d.dev, PCI_ROM, 4, 0xfffff800);
	expect_eq(config_read(d.dev, PCI_ROM, 4), 0xfffff000);
	config_write(d.dev, PCI_ROM, 4, 1);
	expect_eq(config_read(d.dev, PCI_ROM, 4) & 1, 1);
	expect_eq(pread(d.dev, bytes, 2, at), 2);
	expect_eq(bytes[0], 0x55);
	/* edu has none. */
	device_open(&d, edu());
	expect_eq(d.size[VFIO_PCI_ROM_REGION_INDEX], 0);
	expect_errno(pread(d.dev, bytes, 2, d.at[VFIO_PCI_ROM_REGION_INDEX]),
		     EINVAL);
}

/* Config space */

TEST(config_is_sized)
{
	__u32 bar0, bar1;
	struct device d;
	__u8 bytes[6];

	device_open(&d, RTL);
	bar0 = config_read(d.dev, PCI_BAR0, 4);
	bar1 = config_read(d.dev, PCI_BAR0 + 4, 4);
	expect_eq(bar0 & 1, 1);
	expect_eq(bar1 & 1, 0);
	config_write(d.dev, PCI_BAR0, 4, ~0U);
	config_write(d.dev, PCI_BAR0 + 4, 4, ~0U);
	expect_eq(config_read(d.dev, PCI_BAR0, 4), 0xffffff01);
	expect_eq(config_read(d.dev, PCI_BAR0 + 4, 4), 0xffffff00);
	config_write(d.dev, PCI_BAR0 + 8, 4, ~0U);
	expect_eq(config_read(d.dev, PCI_BAR0 + 8, 4), 0);
	/* By bytes as well */
	config_write(d.dev, PCI_BAR0 + 4, 4, 0);
	config_write(d.dev, PCI_BAR0 + 6, 1, 0xab);
	expect_eq(config_read(d.dev, PCI_BAR0 + 4, 4), 0x00ab0000);
	/* The device's BAR has not moved. */
	expect_eq(pread(d.dev, bytes, 6, d.at[1]), 6);
	expect_eq(bytes[0], 0x52);
	expect_eq(pread(d.dev, bytes, 6, d.at[0]), 6);
	expect_eq(bytes[0], 0x52);
	close(d.dev);
	close(d.iommu);
	device_open(&d, RTL);
	expect_eq(config_read(d.dev, PCI_BAR0, 4), bar0);
	expect_eq(config_read(d.dev, PCI_BAR0 + 4, 4), bar1);
	/* 64 bits in one access */
	device_open(&d, NVME);
	config_write(d.dev, PCI_BAR0, 4, ~0U);
	config_write(d.dev, PCI_BAR0 + 4, 4, ~0U);
	expect_eq(config_read(d.dev, PCI_BAR0, 4), 0xffffc004);
	expect_eq(config_read(d.dev, PCI_BAR0 + 4, 4), ~0U);
}

TEST(config_is_kept)
{
	struct device d;
	unsigned int i;
	__u8 at;

	/* Identity, revision, class, header type, subsystem, pointers, pin */
	static const __u8 fixed[] = {
		0, 1, 2, 3, 8, 9, 10, 11, 14, 0x2c, 0x2d, 0x2e, 0x2f, 0x34,
		PCI_PIN,
	};

	device_open(&d, NVME);
	for (i = 0; i < ARRAY_SIZE(fixed); i++) {
		__u8 was = config_read(d.dev, fixed[i], 1);

		config_write(d.dev, fixed[i], 1, ~was & 0xff);
		expect_eq(config_read(d.dev, fixed[i], 1), was);
	}
	/* A scratch register for software, not the device's */
	config_write(d.dev, PCI_LINE, 1, 0x5a);
	expect_eq(config_read(d.dev, PCI_LINE, 1), 0x5a);

	at = config_capability(d.dev, CAP_MSIX);
	for (i = 0; i < 2; i++) {
		__u8 was = config_read(d.dev, at + i, 1);

		config_write(d.dev, at + i, 1, ~was & 0xff);
		expect_eq(config_read(d.dev, at + i, 1), was);
	}
	/* A write does not enable MSI-X; the kernel does. */
	config_write(d.dev, at + 2, 2, 0x8000);
	expect_eq(config_read(d.dev, at + 2, 2) & 0x8000, 0);
}

TEST(config_read_and_written_in_pieces)
{
	__u8 *bytes = mem(2 * PAGE);
	struct device d;
	loff_t at;

	device_open(&d, edu());
	at = d.at[VFIO_PCI_CONFIG_REGION_INDEX];
	expect_eq(pread(d.dev, bytes, 3, at + 1), 3);
	expect(!memcmp(bytes, "\x12\xe8\x11", 3));
	expect_eq(pread(d.dev, bytes, 256, at), 256);
	/* Unlike a BAR, it cannot be read across its end. */
	expect_errno(pread(d.dev, bytes, 257, at), EFAULT);
	expect_errno(pread(d.dev, bytes, 8, at + 252), EFAULT);
	expect_errno(pwrite(d.dev, bytes, 8, at + 252), EFAULT);
	expect_errno(pread(d.dev, bytes, 1, at + 256), EFAULT);
	expect_errno(pwrite(d.dev, bytes, 1, at + 256), EFAULT);
	expect_eq(pread(d.dev, bytes, 0, at), 0);
	expect_errno(pread_any(d.dev, NULL, 4, at), EFAULT);
	expect_errno(pwrite_any(d.dev, NULL, 4, at), EFAULT);
	device_open(&d, NVME);
	expect_eq(pread(d.dev, bytes, 4096, at), 4096);
	expect_eq(bytes[0] | bytes[1] << 8, 0x1b36);
}

/* Mappings */

TEST(mmap_arguments)
{
	struct device d;
	loff_t at;
	void *va;

	device_open(&d, edu());
	at = d.at[0];
	/* A part, from the middle, the last page */
	va = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, d.dev, at + MIB - PAGE);
	expect(va != MAP_FAILED);
	expect_ok(munmap(va, PAGE));
	va = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, d.dev, at);
	expect(va != MAP_FAILED);
	expect_ok(munmap(va, MIB));

#define expect_mmap(size, prot, flags, offset, err) do {		\
		expect(mmap(NULL, size, prot, flags, d.dev, offset) ==	\
		       MAP_FAILED);					\
		expect_eq(errno, err);					\
	} while (0)

	expect_mmap(MIB + PAGE, PROT_READ, MAP_SHARED, at, EINVAL);
	expect_mmap(2 * PAGE, PROT_READ, MAP_SHARED, at + MIB - PAGE, EINVAL);
	expect_mmap(PAGE, PROT_READ, MAP_SHARED, at + MIB, EINVAL);
	expect_mmap(PAGE, PROT_READ, MAP_SHARED, at + 1, EINVAL);
	expect_mmap(0, PROT_READ, MAP_SHARED, at, EINVAL);
	expect_mmap(PAGE, PROT_READ, MAP_PRIVATE, at, EINVAL);
	expect_mmap(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, at, EINVAL);
	expect_mmap(PAGE, PROT_READ, MAP_SHARED, d.at[1], EINVAL);
	expect_mmap(PAGE, PROT_READ, MAP_SHARED,
		    d.at[VFIO_PCI_CONFIG_REGION_INDEX], EINVAL);
	expect_mmap(PAGE, PROT_READ, MAP_SHARED, 9LL << 40, EINVAL);
	expect_mmap(PAGE, PROT_READ, MAP_SHARED, 4711LL << 40, EINVAL);
	expect_mmap(1ULL << 40, PROT_READ, MAP_SHARED, at, EINVAL);

	/* It may be read-only, and executable. */
	va = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, d.dev, at);
	expect(va != MAP_FAILED);
	expect_readable(va, EDU_ID);
	expect_ok(munmap(va, PAGE));

	device_open(&d, NVME);
	/* All of it, including the MSI-X table */
	va = bar_map(&d, 0, d.size[0], PROT_READ | PROT_WRITE);
	expect_ok(munmap(va, d.size[0]));

	device_open(&d, RTL);
	expect_mmap(PAGE, PROT_READ, MAP_SHARED, d.at[0], EINVAL);
	expect_mmap(2 * PAGE, PROT_READ, MAP_SHARED, d.at[1], EINVAL);
#undef expect_mmap
}

/* A BAR smaller than a page may be alone in its page. */
TEST(mmap_of_less_than_a_page)
{
	struct device d;
	__u32 value = 0;
	void *va;

	device_open(&d, RTL);
	va = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, d.dev,
		  d.at[1]);
	if (!(d.flags[1] & VFIO_REGION_INFO_FLAG_MMAP)) {
		expect(va == MAP_FAILED);
		expect_eq(errno, EINVAL);
		return;
	}
	expect(va != MAP_FAILED);
	expect_readable(va, 0x12005452);
	mmio_write32(va, RTL_MAR, 0xcafe1234);
	expect_eq(pread(d.dev, &value, 4, d.at[0] + RTL_MAR), 4);
	expect_eq(value, 0xcafe1234);
}

TEST(write_to_a_mapping_for_reading)
{
	struct device d;
	void *va;

	catch_signals();
	device_open(&d, edu());
	va = bar_map(&d, 0, PAGE, PROT_READ);
	if (!sigsetjmp(trap, 1)) {
		mmio_write32(va, EDU_LIVE, 1);
		fail("a write to a read-only mapping: expected SIGSEGV, got none");
	}
	expect_readable(va, EDU_ID);
	/* It may be made writable, because the file is. */
	expect_ok(mprotect(va, PAGE, PROT_READ | PROT_WRITE));
	mmio_write32(va, EDU_LIVE, 1);
	expect_eq(mmio_read32(va, EDU_LIVE), ~1U);
}

TEST(memory_off)
{
	struct device d;
	__u32 value = 0;
	void *a, *b;

	catch_signals();
	device_open(&d, edu());
	a = bar_map(&d, 0, MIB, PROT_READ | PROT_WRITE);
	b = bar_map(&d, 0, PAGE, PROT_READ);
	expect_readable(a, EDU_ID);
	expect_readable(b, EDU_ID);
	memory(&d, false);
	expect_sigbus(a);
	expect_sigbus(b);
	expect_sigbus(a + MIB - PAGE);
	expect_errno(pread(d.dev, &value, 4, d.at[0]), EIO);
	expect_errno(pwrite(d.dev, &value, 4, d.at[0]), EIO);
	/* A new mapping does not work at the moment either. */
	expect_ok(munmap(b, PAGE));
	b = bar_map(&d, 0, PAGE, PROT_READ);
	expect_sigbus(b);
	memory(&d, true);
	expect_readable(a, EDU_ID);
	expect_readable(b, EDU_ID);
	expect_eq(pread(d.dev, &value, 4, d.at[0]), 4);
	expect_eq(value, EDU_ID);
	/* Over and over */
	for (value = 0; value < 20; value++) {
		memory(&d, false);
		expect_sigbus(value % 2 ? a : b);
		memory(&d, true);
		expect_readable(value % 2 ? b : a, EDU_ID);
	}
}

TEST(power_off)
{
	/* Reading a sleeping device is undefined there. */
	const bool lazy = kernel_is_before(5, 18);
	__u32 version, value;
	struct device d;
	void *va;
	__u8 pm;

	catch_signals();
	device_open(&d, NVME);
	va = bar_map(&d, 0, d.size[0], PROT_READ | PROT_WRITE);
	version = mmio_read32(va, NVME_VS);
	pm = config_capability(d.dev, CAP_PM) + 4;
	config_write(d.dev, pm, 2, config_read(d.dev, pm, 2) | 3);
	expect_eq(config_read(d.dev, pm, 2) & 3, 3);
	if (!lazy) {
		expect_sigbus(va + NVME_VS);
		expect_errno(pread(d.dev, &value, 4, d.at[0] + NVME_VS), EIO);
	}
	config_write(d.dev, pm, 2, config_read(d.dev, pm, 2) & ~3);
	expect_eq(config_read(d.dev, pm, 2) & 3, 0);
	expect_readable(va + NVME_VS, version);
	/* A reset ends it as well, and so does the close. */
	config_write(d.dev, pm, 2, config_read(d.dev, pm, 2) | 3);
	expect_ok(ioctl(d.dev, VFIO_DEVICE_RESET));
	expect_readable(va + NVME_VS, version);
	config_write(d.dev, pm, 2, config_read(d.dev, pm, 2) | 3);
	if (!lazy)
		expect_sigbus(va + NVME_VS);
	expect_ok(munmap(va, d.size[0]));
	close(d.dev);
	close(d.iommu);
	device_open(&d, NVME);
	va = bar_map(&d, 0, PAGE, PROT_READ);
	expect_readable(va + NVME_VS, version);
}

/* By the ioctl, and by the bit in the PCI Express capability */
TEST(mapped_across_reset)
{
	struct device d;
	__u32 version;
	void *a, *b;
	__u8 exp;
	int i;

	device_open(&d, NVME);
	a = bar_map(&d, 0, d.size[0], PROT_READ | PROT_WRITE);
	b = bar_map(&d, 0, PAGE, PROT_READ);
	version = mmio_read32(a, NVME_VS);
	expect_eq(mmio_read32(b, NVME_VS), version);
	exp = config_capability(d.dev, CAP_EXP) + 8;
	for (i = 0; i < 4; i++) {
		/* While disabled, it is a register like any other. */
		mmio_write32(a, NVME_CC, 0x00460000);
		expect_eq(mmio_read32(b, NVME_CC), 0x00460000);
		if (i % 2)
			config_write(d.dev, exp, 2,
				     config_read(d.dev, exp, 2) | 0x8000);
		else
			expect_ok(ioctl(d.dev, VFIO_DEVICE_RESET));
		expect_eq(mmio_read32(a, NVME_CC), 0);
		expect_eq(mmio_read32(b, NVME_VS), version);
		/* Config space is unchanged. */
		expect_eq(config_read(d.dev, PCI_COMMAND, 2) & PCI_MEMORY,
			  PCI_MEMORY);
	}
}

struct family {
	struct device d;
	void *va;
	int turn;
};

/* Wait for the other process to take its turn, or to fail. */
static void family_wait(struct family *f, int turn, pid_t pid)
{
	siginfo_t info = {};

	while (__atomic_load_n(&f->turn, __ATOMIC_ACQUIRE) != turn) {
		if (pid && !waitid(P_PID, pid, &info,
				   WEXITED | WNOHANG | WNOWAIT) && info.si_pid)
			join(pid);
		sleep_ms(1);
	}
}

static void family_turn(struct family *f, int turn)
{
	__atomic_store_n(&f->turn, turn, __ATOMIC_RELEASE);
}

static void child_of_family(void *arg)
{
	struct family *f = arg;

	expect_sigbus(f->va);
	memory(&f->d, true);
	expect_readable(f->va, EDU_ID);
	memory(&f->d, false);
	expect_sigbus(f->va);
	family_turn(f, 1);
	family_wait(f, 2, 0);
	/* The parent has enabled memory, and unmapped. */
	expect_readable(f->va, EDU_ID);
	memory(&f->d, false);
	expect_sigbus(f->va);
	memory(&f->d, true);
	expect_readable(f->va, EDU_ID);
}

TEST(mapped_across_fork)
{
	struct family *f = mem_flags(PAGE, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS);
	void *second;
	pid_t pid;

	catch_signals();
	device_open(&f->d, edu());
	f->va = bar_map(&f->d, 0, MIB, PROT_READ | PROT_WRITE);
	second = bar_map(&f->d, 0, PAGE, PROT_READ);
	expect_readable(f->va, EDU_ID);
	expect_readable(second, EDU_ID);
	/*
	 * With no page present, because some kernels (and so their vfio-pci)
	 * lose track of pages that fork() copies: see twins.c.
	 */
	memory(&f->d, false);
	pid = spawn(child_of_family, f);
	family_wait(f, 1, pid);
	expect_sigbus(f->va);
	memory(&f->d, true);
	expect_readable(f->va, EDU_ID);
	expect_ok(munmap(f->va, MIB));
	expect_readable(second, EDU_ID);
	family_turn(f, 2);
	join(pid);
	expect_readable(second, EDU_ID);
}

/* A child's mapping keeps the device open. */
static void child_with_the_mapping(void *arg)
{
	struct family *f = arg;

	close(f->d.dev);
	close(f->d.iommu);
	family_turn(f, 1);
	family_wait(f, 2, 0);
	expect_readable(f->va, EDU_ID);
}

TEST(mapped_by_a_child_alone)
{
	struct family *f = mem_flags(PAGE, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS);
	int dev, iommu;
	__u32 devid;
	pid_t pid;

	device_open(&f->d, edu());
	f->va = bar_map(&f->d, 0, PAGE, PROT_READ | PROT_WRITE);
	pid = spawn(child_with_the_mapping, f);
	family_wait(f, 1, pid);
	expect_ok(munmap(f->va, PAGE));
	close(f->d.dev);
	close(f->d.iommu);
	iommu = iommu_open();
	dev = cdev_open(edu());
	expect_errno(dev_bind(dev, iommu, &devid), EINVAL);
	family_turn(f, 2);
	join(pid);
	expect_ok(dev_bind(dev, iommu, &devid));
}

/* Split or unmapped in part: every piece is found again. */
TEST(mapped_in_pieces)
{
	struct device d;
	char *va;

	catch_signals();
	device_open(&d, edu());
	va = bar_map(&d, 0, 4 * PAGE, PROT_READ | PROT_WRITE);
	expect_readable(va, EDU_ID);
	expect_ok(munmap(va + PAGE, PAGE));
	expect_ok(mprotect(va + 3 * PAGE, PAGE, PROT_READ));
	memory(&d, false);
	expect_sigbus(va);
	expect_sigbus(va + 2 * PAGE);
	expect_sigbus(va + 3 * PAGE);
	memory(&d, true);
	expect_readable(va, EDU_ID);
	expect_readable(va + 2 * PAGE, ~0U);
	expect_readable(va + 3 * PAGE, ~0U);
}

/* Threads that read a BAR while others revoke it */

struct race {
	struct device *d;
	char *va;
	/* Number of reads */
	int readers;
	bool stop;
};

static __thread sigjmp_buf *thread_trap;

static void on_thread_signal(int signal)
{
	siglongjmp(*thread_trap, signal);
}

static void *read_on_and_on(void *arg)
{
	static __thread bool did_read;
	struct race *r = arg;
	sigjmp_buf here;

	thread_trap = &here;
	while (!flag(&r->stop)) {
		if (sigsetjmp(here, 1))
			continue;
		expect_eq(mmio_read32(r->va, NVME_VS),
			  mmio_read32(r->va, NVME_VS));
		if (!did_read)
			__atomic_fetch_add(&r->readers, 1, __ATOMIC_RELAXED);
		did_read = true;
	}
	return NULL;
}

static void *toggle_memory(void *arg)
{
	struct race *r = arg;

	while (!flag(&r->stop)) {
		memory(r->d, false);
		memory(r->d, true);
	}
	return NULL;
}

static void *reset_on_and_on(void *arg)
{
	struct race *r = arg;

	while (!flag(&r->stop))
		if (ioctl(r->d->dev, VFIO_DEVICE_RESET))
			expect_eq(errno, EAGAIN);
	return NULL;
}

static void *fork_on_and_on(void *arg)
{
	struct race *r = arg;

	while (!flag(&r->stop)) {
		pid_t pid = expect_ok(fork());

		if (!pid)
			_exit(0);
		expect_ok(waitpid(pid, NULL, 0));
	}
	return NULL;
}

static void *map_on_and_on(void *arg)
{
	struct race *r = arg;
	sigjmp_buf here;
	void *va;

	thread_trap = &here;
	while (!flag(&r->stop)) {
		va = bar_map(r->d, 0, PAGE, PROT_READ);
		if (!sigsetjmp(here, 1))
			mmio_read32(va, NVME_VS);
		expect_ok(munmap(va, PAGE));
	}
	return NULL;
}

TEST(read_while_it_is_taken_away)
{
	void *(*const fn[])(void *) = {
		read_on_and_on, read_on_and_on, toggle_memory, reset_on_and_on,
		fork_on_and_on, map_on_and_on,
	};
	struct sigaction action = { .sa_handler = on_thread_signal };
	pthread_t threads[ARRAY_SIZE(fn)];
	struct race r = {};
	struct device d;
	unsigned int i;
	double end;

	device_open(&d, NVME);
	r.d = &d;
	r.va = bar_map(&d, 0, d.size[0], PROT_READ | PROT_WRITE);
	expect_ok(sigaction(SIGBUS, &action, NULL));
	for (i = 0; i < ARRAY_SIZE(fn); i++)
		expect_eq(pthread_create(&threads[i], NULL, fn[i], &r), 0);
	/* Both readers have read meanwhile, even on a busy host. */
	end = now() + 1.5;
	while (now() < end || __atomic_load_n(&r.readers, __ATOMIC_RELAXED) < 2)
		sleep_ms(10);
	set_flag(&r.stop);
	for (i = 0; i < ARRAY_SIZE(fn); i++)
		expect_eq(pthread_join(threads[i], NULL), 0);
	memory(&d, true);
	expect(mmio_read32(r.va, NVME_VS) != ~0U);
}

/* All ioctls at the same time, during an unbind */

struct calls {
	struct device d;
	int event;
	char *va;
	int running;
	int unbinding;
};

static void call_regions(struct calls *c)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	struct vfio_region_info region = { .argsz = sizeof(region) };
	__u32 value;

	expect_ok(ioctl(c->d.dev, VFIO_DEVICE_GET_INFO, &info));
	expect_ok(ioctl(c->d.dev, VFIO_DEVICE_GET_REGION_INFO, &region));
	expect_eq(pread(c->d.dev, &value, 4, c->d.at[0]), 4);
	expect_eq(value, EDU_ID);
	expect_eq(mmio_read32(c->va, EDU_IDENT), EDU_ID);
	expect_eq(config_read(c->d.dev, 0, 4), 0x11e81234);
	expect_ok(munmap(bar_map(&c->d, 0, PAGE, PROT_READ), PAGE));
}

static void call_interrupts(struct calls *c)
{
	struct vfio_irq_info irq = { .argsz = sizeof(irq), .index = 1 };
	struct vfio_device_ioeventfd io = {
		.argsz = sizeof(io), .flags = 4, .offset = c->d.at[0] + EDU_LIVE,
		.fd = c->event,
	};

	expect_ok(ioctl(c->d.dev, VFIO_DEVICE_GET_IRQ_INFO, &irq));
	expect_ok(irq_set(c->d.dev, VFIO_PCI_MSI_IRQ_INDEX,
			  IRQ_EVENTFD | IRQ_TRIGGER, 0, 1, &c->event, 4));
	expect_ok(irq_set(c->d.dev, VFIO_PCI_MSI_IRQ_INDEX,
			  IRQ_NONE | IRQ_TRIGGER, 0, 1, NULL, 0));
	expect_ok(ioctl(c->d.dev, VFIO_DEVICE_IOEVENTFD, &io));
	io.fd = -1;
	expect_ok(ioctl(c->d.dev, VFIO_DEVICE_IOEVENTFD, &io));
	irq_off(c->d.dev, VFIO_PCI_MSI_IRQ_INDEX);
}

static void call_others(struct calls *c)
{
	struct vfio_device_feature feature = {
		.argsz = sizeof(feature), .flags = VFIO_DEVICE_FEATURE_PROBE,
	};
	__u32 ioas, pt_id;

	expect_errno(ioctl(c->d.dev, VFIO_DEVICE_FEATURE, &feature), ENOTTY);
	expect_ok(ioas_alloc(c->d.iommu, &ioas));
	pt_id = ioas;
	expect_ok(dev_attach(c->d.dev, &pt_id));
	expect_ok(dev_detach(c->d.dev));
	expect_ok(object_destroy(c->d.iommu, ioas));
	/* unbind holds the lock that a reset takes; edu has no reset anyway. */
	if (ioctl(c->d.dev, VFIO_DEVICE_RESET))
		expect(errno == EAGAIN || errno == EINVAL);
}

static void call_on_and_on(struct calls *c, void (*fn)(struct calls *c))
{
	double end = now() + 20;

	__atomic_add_fetch(&c->running, 1, __ATOMIC_ACQ_REL);
	while (!__atomic_load_n(&c->unbinding, __ATOMIC_ACQUIRE) &&
	       now() < end)
		fn(c);
	/* Wait a little longer; then the file goes with the process. */
	end = now() + 0.7;
	while (now() < end)
		fn(c);
}

static void regions_on_and_on(void *arg)
{
	call_on_and_on(arg, call_regions);
}

static void interrupts_on_and_on(void *arg)
{
	call_on_and_on(arg, call_interrupts);
}

static void others_on_and_on(void *arg)
{
	call_on_and_on(arg, call_others);
}

TEST(calls_while_the_driver_goes)
{
	void (*const fn[])(void *) = {
		regions_on_and_on, regions_on_and_on, interrupts_on_and_on,
		others_on_and_on,
	};
	struct calls *c = mem_flags(PAGE, PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS);
	pid_t pids[ARRAY_SIZE(fn)];
	unsigned int i;

	device_open(&c->d, edu());
	c->event = event_open();
	c->va = bar_map(&c->d, 0, PAGE, PROT_READ);
	for (i = 0; i < ARRAY_SIZE(fn); i++)
		pids[i] = spawn(fn[i], c);
	while (__atomic_load_n(&c->running, __ATOMIC_ACQUIRE) <
	       (int)ARRAY_SIZE(fn))
		sleep_ms(5);
	expect_ok(munmap(c->va, PAGE));
	close(c->d.dev);
	__atomic_store_n(&c->unbinding, 1, __ATOMIC_RELEASE);
	/* Returns when the last of them has ended. */
	driver_unbind(edu());
	for (i = 0; i < ARRAY_SIZE(fn); i++)
		join(pids[i]);
	driver_bind(edu());
	device_open(&c->d, edu());
}
