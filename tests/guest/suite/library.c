// SPDX-License-Identifier: GPL-2.0-only
/*
 * libnoiommufd: each function, with good and bad arguments, on devices that are
 * there, in use, in the parent or gone.
 *
 * The program is linked with the sources of the library, and with functions that
 * make allocations fail.
 */
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../../lib/internal.h"
#include "failing.h"
#include "harness.h"

#define NVME		"0000:00:05.0"
/* The functions of a card in a slot */
#define PAIR		{ "0000:02:00.0", "0000:02:00.1" }

#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_CMD	0x98
#define EDU_BUFFER	0x40000

#define PCI_COMMAND	4
#define PCI_MEMORY	2
#define PCI_MASTER	4

#define expect_null(call, err)	expect_errno((call) ? 0 : -1, err)

/* What the library said last, and how often it said something */
static char said[1024];
static int times;

static void remember(void *data, const char *message)
{
	expect(data == said);
	expect(*message && message[strlen(message) - 1] != '\n');
	snprintf(said, sizeof(said), "%s", message);
	times++;
}

static void __attribute__((constructor)) log_it(void)
{
	noiommufd_set_log(remember, said);
}

#define expect_said(text) \
	do { \
		if (!strstr(said, text)) \
			fail("expected to read \"%s\", got \"%s\"", text, said); \
	} while (0)

static struct noiommufd_device *device(const char *bdf)
{
	struct noiommufd_device *dev;

	driver_bind(bdf);
	dev = noiommufd_open(bdf, NULL);
	if (!dev)
		fail("noiommufd_open(%s): %s", bdf, said);
	return dev;
}

static struct noiommufd_device *open_edu(struct noiommufd_ioas **ioas)
{
	struct noiommufd_device *dev = device(edu());

	*ioas = noiommufd_device_ioas(dev);
	expect(*ioas);
	return dev;
}

static struct noiommufd_dma *mapped(struct noiommufd_ioas *ioas, void *va,
				    size_t size, unsigned int flags)
{
	struct noiommufd_dma *dma = noiommufd_map(ioas, va, size, flags);

	if (!dma)
		fail("noiommufd_map(): %s", said);
	return dma;
}

static struct noiommufd_dma *allocated(struct noiommufd_ioas *ioas, size_t size,
				       const struct noiommufd_alloc_options *how)
{
	struct noiommufd_dma *dma = noiommufd_alloc(ioas, size, how);

	if (!dma)
		fail("noiommufd_alloc(): %s", said);
	return dma;
}

/* Pages that are no neighbours in memory, as far as the kernel does that */
static char *scattered(size_t pages)
{
	char *va = mem_flags(2 * pages * PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS);
	size_t i;

	madvise(va, 2 * pages * PAGE, MADV_NOHUGEPAGE);
	for (i = 0; i < pages; i++) {
		size_t page = i * 7 % pages;

		va[page * PAGE] = 1;
		va[(2 * pages - 1 - page) * PAGE] = 1;
	}
	return va;
}

static int open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	expect(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static bool listed(char **list, const char *address)
{
	for (; *list; list++)
		if (!strcmp(*list, address))
			return true;
	return false;
}

static bool is_there(const char *address)
{
	char **list = noiommufd_list();
	bool found;

	expect(list);
	found = listed(list, address);
	free(list);
	return found;
}

/* The edu's DMA engine, by the library */
static void edu_dma(struct noiommufd_device *dev, __u64 from, __u64 to, __u32 size,
		    __u64 command)
{
	char *bar = noiommufd_bar(dev, NOIOMMUFD_BAR0);
	double end = now() + 10 * slow();

	expect(bar);
	noiommufd_write64(bar + EDU_DMA_SRC, from);
	noiommufd_write64(bar + EDU_DMA_DST, to);
	noiommufd_write64(bar + EDU_DMA_COUNT, size);
	noiommufd_write64(bar + EDU_DMA_CMD, command);
	while (noiommufd_read64(bar + EDU_DMA_CMD) & 1) {
		expect(now() < end);
		sleep_ms(10);
	}
}

static void copy_by_dma(struct noiommufd_device *dev, struct noiommufd_dma *dma)
{
	char *va = noiommufd_va(dma);

	expect_ok(noiommufd_bus_master(dev, true));
	mem_fill(va, 1024, getpid());
	memset(va + 1024, 0, 1024);
	edu_dma(dev, noiommufd_pa(dma, va), EDU_BUFFER, 1024, 1);
	edu_dma(dev, EDU_BUFFER, noiommufd_pa(dma, va + 1024), 1024, 3);
	expect(!memcmp(va, va + 1024, 1024));
}

/* Each lookup agrees with pagemap. */
static void expect_addresses(const struct noiommufd_dma *dma, size_t page_size)
{
	size_t size = noiommufd_size(dma), pages = size / page_size, i;
	struct noiommufd_run *runs;
	char *va = noiommufd_va(dma);
	size_t at = 0;
	__u64 *pa;
	long n;

	n = noiommufd_runs(dma, va, size, NULL, 0);
	expect(n > 0);
	runs = calloc(n, sizeof(*runs));
	expect_eq(noiommufd_runs(dma, va, size, runs, n), n);
	for (i = 0; i < (size_t)n; i++) {
		expect(runs[i].length && runs[i].length <= size - at);
		expect_eq(runs[i].phys, noiommufd_pa(dma, va + at));
		if (i)
			expect(runs[i].phys != runs[i - 1].phys + runs[i - 1].length);
		at += runs[i].length;
	}
	expect_eq(at, size);

	pa = calloc(pages + 1, sizeof(*pa));
	expect_eq(noiommufd_pages(dma, va, size, page_size, pa, pages), pages);
	for (i = 0; i < pages; i++) {
		char *page = va + i * page_size;

		expect_eq(pa[i], pagemap_pa((void *)((uintptr_t)page & -PAGE)) +
			  ((uintptr_t)page & (PAGE - 1)));
		expect_eq(noiommufd_pa(dma, page), pa[i]);
		expect_eq(noiommufd_pa(dma, page + page_size - 1), pa[i] + page_size - 1);
	}
	free(runs);
	free(pa);
}

/* Devices */

TEST(list)
{
	char **list, **next;

	driver_bind(edu());
	list = noiommufd_list();
	expect(list && listed(list, edu()));
	for (next = list; next[0] && next[1]; next++)
		expect(strcmp(next[0], next[1]) < 0);
	free(list);
	driver_unbind(edu());
	expect(!is_there(edu()));
}

static void opens_as(const char *name)
{
	struct noiommufd_device *dev = noiommufd_open_node(name);

	if (!dev)
		fail("noiommufd_open_node(%s): %s", name, said);
	expect(!strcmp(noiommufd_info(dev)->address, edu()));
	noiommufd_close(dev);
}

TEST(names)
{
	char path[128], node[128], real[4096];
	struct stat st;

	driver_bind(edu());
	cdev_path(edu(), node, sizeof(node));
	opens_as(edu());
	opens_as(edu() + strlen("0000:"));
	opens_as(node);
	opens_as(strrchr(node, '/') + 1);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", edu());
	opens_as(path);
	expect(realpath(path, real));
	opens_as(real);
	/* As in a container: the node at another place */
	expect_ok(stat(node, &st));
	snprintf(path, sizeof(path), "/tmp/node-%d", getpid());
	expect_ok(mknod(path, S_IFCHR | 0600, st.st_rdev));
	opens_as(path);
	unlink(path);
}

TEST(bad_names)
{
	static const char * const bad[] = {
		"", "/", ".", "nonsense", "0000:00:1f.7", "00:1f.7", ":", "::",
		"....:", "0000:00:04.0/..", "../0000:00:04.0", "/dev/null",
		"/nowhere", "/dev/vfio/devices/noiommu-vfio4711", "noiommu-vfio",
		"noiommu-vfio/../null", "/sys", "/sys/bus/pci/devices",
		"0000:00:04.00000000000000000000000000000000000000000",
	};
	char *longest = mem(MIB);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		times = 0;
		expect_null(noiommufd_open(bad[i], NULL), ENODEV);
		expect_eq(times, 1);
	}
	memset(longest, 'a', MIB - 1);
	expect_null(noiommufd_open(longest, NULL), ENODEV);
	memset(longest, '0', MIB - 1);
	longest[4] = ':';
	expect_null(noiommufd_open(longest, NULL), ENODEV);
	expect_null(noiommufd_open("0000:00:1e.6", NULL), ENODEV);
	expect_said("There is no PCI device 0000:00:1e.6");
}

TEST(not_bound_to_the_driver)
{
	driver_bind(edu());
	driver_unbind(edu());
	expect_null(noiommufd_open(edu(), NULL), ENODEV);
	expect_said("is bound to no driver, not to noiommu-vfio-pci");
	expect_said("driverctl set-override");
}

TEST(the_only_device)
{
	struct noiommufd_device *dev;
	char **list, **next;

	driver_bind(edu());
	driver_bind(edu_behind_bridge());
	expect_null(noiommufd_open_node(NULL), ENOTUNIQ);
	expect_said("several devices");
	list = noiommufd_list();
	expect(list);
	for (next = list; *next; next++)
		if (strcmp(*next, edu()))
			driver_unbind(*next);
	free(list);
	dev = noiommufd_open(NULL, NULL);
	expect(dev && !strcmp(noiommufd_info(dev)->address, edu()));
	noiommufd_close(dev);
	driver_unbind(edu());
	expect_null(noiommufd_open(NULL, NULL), ENODEV);
	expect_said("No device is bound");
}

TEST(info)
{
	struct noiommufd_ioas *ioas;
	struct noiommufd_device *dev = open_edu(&ioas);
	const struct noiommufd_info *info = noiommufd_info(dev);
	char node[128];
	int i;

	cdev_path(edu(), node, sizeof(node));
	expect(!strcmp(info->address, edu()));
	expect(!strcmp(info->node, node));
	expect(!strcmp(info->driver, driver_name()));
	expect_eq(info->vendor, 0x1234);
	expect_eq(info->device, 0x11e8);
	expect_eq(info->subsystem_vendor, 0x1af4);
	expect_eq(info->subsystem_device, 0x1100);
	expect_eq(info->class_code, 0x00ff00);
	expect(info->numa_node >= -1);
	expect_eq(info->irqs[NOIOMMUFD_INTX], 1);
	expect_eq(info->irqs[NOIOMMUFD_MSI], 1);
	expect_eq(info->irqs[NOIOMMUFD_MSIX], 0);
	expect_eq(info->regions[NOIOMMUFD_BAR0].size, MIB);
	expect_eq(info->regions[NOIOMMUFD_BAR0].flags,
		  VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
		  VFIO_REGION_INFO_FLAG_MMAP);
	for (i = NOIOMMUFD_BAR1; i <= NOIOMMUFD_ROM; i++)
		expect_eq(info->regions[i].size, 0);
	expect(info->regions[NOIOMMUFD_CONFIG].size >= 256);
	expect(noiommufd_device_fd(dev) >= 0);
	expect(noiommufd_ioas_fd(ioas) >= 0);
	expect(noiommufd_ioas_id(ioas) > 0);
}

TEST(step_by_step)
{
	struct noiommufd_device *dev, *other;
	struct noiommufd_ioas *ioas, *second;
	struct noiommufd_dma *dma;
	long long before = pins();
	char *va = mem(PAGE);

	driver_bind(edu());
	dev = noiommufd_open_node(edu());
	expect(dev);
	/* Before it is bound it can do nothing. */
	expect_eq(noiommufd_info(dev)->regions[0].size, 0);
	expect_null(noiommufd_device_ioas(dev), EINVAL);
	expect_null(noiommufd_bar(dev, 0), EINVAL);
	expect_errno(noiommufd_region_read(dev, NOIOMMUFD_CONFIG, 0, va, 4), EINVAL);
	expect_errno(noiommufd_region_write(dev, NOIOMMUFD_CONFIG, 0, va, 4), EINVAL);
	expect_errno(noiommufd_bus_master(dev, true), EINVAL);
	expect_errno(noiommufd_reset(dev), EINVAL);
	expect_errno(noiommufd_hot_reset(dev), EINVAL);
	expect_null(noiommufd_hot_reset_list(dev), EINVAL);
	expect_errno(noiommufd_irq_enable(dev, NOIOMMUFD_MSI, 1), EINVAL);
	expect_errno(noiommufd_irq_fd(dev, 0), EINVAL);
	expect_errno(noiommufd_detach(dev), EINVAL);
	expect_said("is not bound");

	ioas = noiommufd_ioas_alloc(dev);
	expect(ioas);
	expect_errno(noiommufd_attach(dev, ioas), EINVAL);
	expect_null(noiommufd_map(ioas, va, PAGE, 0), EOPNOTSUPP);
	expect_said("while a device is attached");
	expect_ok(noiommufd_bind(dev, ioas));
	expect_errno(noiommufd_bind(dev, ioas), EINVAL);
	expect_null(noiommufd_device_ioas(dev), EINVAL);
	expect_ok(noiommufd_detach(dev));
	expect_ok(noiommufd_attach(dev, ioas));
	expect_ok(noiommufd_attach(dev, ioas));
	expect(noiommufd_device_ioas(dev) == ioas);
	dma = mapped(ioas, va, PAGE, 0);
	copy_by_dma(dev, dma);

	/* Another IOAS of the same context, then one of another context */
	second = noiommufd_ioas_alloc(dev);
	expect(second);
	expect_eq(noiommufd_ioas_fd(second), noiommufd_ioas_fd(ioas));
	expect(noiommufd_ioas_id(second) != noiommufd_ioas_id(ioas));
	expect_ok(noiommufd_attach(dev, second));
	noiommufd_free(dma);
	dma = mapped(second, va, PAGE, 0);
	copy_by_dma(dev, dma);
	other = device(edu_behind_bridge());
	expect_errno(noiommufd_attach(dev, noiommufd_device_ioas(other)), EINVAL);
	expect_said("another context");
	expect(noiommufd_device_ioas(dev) == second);
	expect_ok(noiommufd_detach(dev));
	expect_null(noiommufd_device_ioas(dev), EINVAL);
	noiommufd_free(dma);
	expect_null(noiommufd_map(ioas, va, PAGE, 0), EOPNOTSUPP);
	expect_null(noiommufd_map(second, va, PAGE, 0), EOPNOTSUPP);
	noiommufd_ioas_free(second);
	noiommufd_ioas_free(ioas);
	noiommufd_close(dev);
	noiommufd_close(other);
	expect_pins(before);
}

/* Memory may be freed before or after its device is closed. */
TEST(close_in_any_order)
{
	long long before = pins();
	int files = open_files(), i;

	for (i = 0; i < 2; i++) {
		struct noiommufd_ioas *ioas;
		struct noiommufd_device *dev = open_edu(&ioas);
		struct noiommufd_dma *dma = mapped(ioas, mem(PAGE), PAGE, 0);

		expect(noiommufd_bar(dev, 0));
		expect_ok(noiommufd_irq_enable(dev, NOIOMMUFD_MSI, 1));
		errno = E2BIG;
		if (i) {
			noiommufd_close(dev);
			noiommufd_free(dma);
		} else {
			noiommufd_free(dma);
			noiommufd_close(dev);
		}
		expect_eq(errno, E2BIG);
		expect_pins(before);
		expect_eq(open_files(), files);
	}
}

TEST(two_devices_share)
{
	struct noiommufd_ioas *ioas;
	struct noiommufd_device *first = open_edu(&ioas), *second;
	struct noiommufd_dma *dma;

	driver_bind(edu_behind_bridge());
	second = noiommufd_open(edu_behind_bridge(), ioas);
	expect(second);
	expect(noiommufd_device_ioas(second) == ioas);
	dma = mapped(ioas, mem(PAGE), PAGE, 0);
	copy_by_dma(first, dma);
	/* The first one made it, and it stays. */
	noiommufd_close(first);
	copy_by_dma(second, dma);
	noiommufd_free(dma);
	noiommufd_close(second);
}

TEST(in_use)
{
	struct noiommufd_ioas *ioas;
	struct noiommufd_device *dev = open_edu(&ioas);

	expect_null(noiommufd_open(edu(), NULL), EINVAL);
	expect_said("is in use");
	expect_null(noiommufd_open(edu(), ioas), EINVAL);
	noiommufd_close(dev);
	open_edu(&ioas);
}

/* Regions and registers */

TEST(registers)
{
	__u64 words[2] = { 0 };
	char *bytes = (char *)words;
	struct noiommufd_ioas *ioas;
	struct noiommufd_device *dev = open_edu(&ioas);
	char *bar = noiommufd_bar(dev, 0);

	expect(bar && noiommufd_bar(dev, 0) == bar);
	expect_eq(noiommufd_read32(bar + EDU_IDENT), EDU_ID);
	noiommufd_write32(bar + EDU_LIVE, 0x12345678);
	expect_eq(noiommufd_read32(bar + EDU_LIVE), ~0x12345678U);
	noiommufd_write64(bar + EDU_DMA_SRC, 0x123456789abcdef0ULL);
	expect_eq(noiommufd_read64(bar + EDU_DMA_SRC), 0x123456789abcdef0ULL);
	/* Of the sizes that the device lacks: what they do to memory */
	noiommufd_write8(bytes, 0x11);
	noiommufd_write16(bytes + 2, 0x2233);
	noiommufd_write32(bytes + 4, 0x44556677);
	noiommufd_write64(bytes + 8, 0x8899aabbccddeeffULL);
	expect(!memcmp(bytes, "\x11\0\x33\x22\x77\x66\x55\x44"
		       "\xff\xee\xdd\xcc\xbb\xaa\x99\x88", 16));
	expect_eq(noiommufd_read8(bytes), 0x11);
	expect_eq(noiommufd_read16(bytes + 2), 0x2233);
	expect_eq(noiommufd_read32(bytes + 4), 0x44556677);
	expect_eq(noiommufd_read64(bytes + 8), 0x8899aabbccddeeffULL);
	noiommufd_dma_rmb();
	noiommufd_dma_wmb();
	expect_null(noiommufd_bar(dev, 1), ENODEV);
	expect_null(noiommufd_bar(dev, NOIOMMUFD_ROM), EINVAL);
	expect_null(noiommufd_bar(dev, U32_MAX), EINVAL);
}

TEST(regions)
{
	struct noiommufd_ioas *ioas;
	struct noiommufd_device *dev = open_edu(&ioas);
	__u64 size = noiommufd_info(dev)->regions[NOIOMMUFD_CONFIG].size;
	__u32 value = 0, live = 0xcafe;
	char *all = mem(PAGE);
	__u16 command;

	expect_ok(noiommufd_region_read(dev, NOIOMMUFD_CONFIG, 0, &value, 4));
	expect_eq(value, 0x11e81234);
	expect_ok(noiommufd_region_read(dev, NOIOMMUFD_CONFIG, 0, all, size));
	expect_ok(noiommufd_region_read(dev, NOIOMMUFD_CONFIG, size, all, 0));
	expect_errno(noiommufd_region_read(dev, NOIOMMUFD_CONFIG, size, all, 1), EINVAL);
	expect_errno(noiommufd_region_read(dev, NOIOMMUFD_CONFIG, size - 3, all, 4),
		     EINVAL);
	expect_errno(noiommufd_region_read(dev, NOIOMMUFD_CONFIG, U64_MAX, all, 4),
		     EINVAL);
	expect_errno(noiommufd_region_read(dev, NOIOMMUFD_CONFIG, 4, all, SIZE_MAX),
		     EINVAL);
	expect_errno(noiommufd_region_read(dev, NOIOMMUFD_BAR1, 0, all, 4), EINVAL);
	expect_errno(noiommufd_region_read(dev, NOIOMMUFD_REGIONS, 0, all, 4), EINVAL);
	expect_errno(noiommufd_region_write(dev, U32_MAX, 0, all, 4), EINVAL);
	expect_errno(noiommufd_region_read(dev, NOIOMMUFD_CONFIG, 0, (void *)8, 4),
		     EFAULT);

	expect_ok(noiommufd_region_write(dev, 0, EDU_LIVE, &live, 4));
	expect_ok(noiommufd_region_read(dev, 0, EDU_LIVE, &value, 4));
	expect_eq(value, ~0xcafeU);

	expect_ok(noiommufd_bus_master(dev, true));
	expect_ok(noiommufd_region_read(dev, NOIOMMUFD_CONFIG, PCI_COMMAND, &command, 2));
	expect_eq(command & (PCI_MEMORY | PCI_MASTER), PCI_MEMORY | PCI_MASTER);
	expect_ok(noiommufd_bus_master(dev, false));
	expect_ok(noiommufd_region_read(dev, NOIOMMUFD_CONFIG, PCI_COMMAND, &command, 2));
	expect_eq(command & (PCI_MEMORY | PCI_MASTER), PCI_MEMORY);
}

/* Resets */

TEST(reset)
{
	struct noiommufd_device *dev = device(NVME);
	__u16 command;

	expect(noiommufd_info(dev)->can_reset);
	expect_ok(noiommufd_bus_master(dev, true));
	expect_ok(noiommufd_reset(dev));
	/* Its config space is what it was. */
	expect_ok(noiommufd_region_read(dev, NOIOMMUFD_CONFIG, PCI_COMMAND, &command, 2));
	expect(command & PCI_MASTER);
	expect_errno(noiommufd_hot_reset(dev), ENODEV);
	expect_said("cannot be reset");
	expect_null(noiommufd_hot_reset_list(dev), ENODEV);
	noiommufd_close(dev);
}

TEST(hot_reset)
{
	static const char * const pair[] = PAIR;
	struct noiommufd_device *first = device(pair[0]), *second;
	char **list;

	driver_bind(pair[1]);
	need_bus_reset(noiommufd_device_fd(first), pair[0]);
	list = noiommufd_hot_reset_list(first);
	expect(list && listed(list, pair[0]) && listed(list, pair[1]) && !list[2]);
	free(list);
	/* The other one is another context's, then of this one. */
	second = noiommufd_open(pair[1], NULL);
	expect(second);
	expect_errno(noiommufd_hot_reset(first), EINVAL);
	expect_said("belong to others");
	noiommufd_close(second);
	second = noiommufd_open(pair[1], noiommufd_device_ioas(first));
	expect(second);
	expect_ok(noiommufd_hot_reset(first));
	noiommufd_close(second);
	noiommufd_close(first);
}

/* Memory */

TEST(map)
{
	struct noiommufd_ioas *ioas;
	struct noiommufd_device *dev = open_edu(&ioas);
	char *va = scattered(64);
	struct noiommufd_dma *dma;
	long long before = pins();

	dma = mapped(ioas, va, 64 * PAGE, 0);
	expect_pins(before + 64);
	expect(noiommufd_va(dma) == va);
	expect_eq(noiommufd_size(dma), 64 * PAGE);
	expect(noiommufd_iova(dma) >= 1ULL << 61);
	expect_addresses(dma, PAGE);
	expect_addresses(dma, 512);
	copy_by_dma(dev, dma);
	noiommufd_free(dma);
	expect_pins(before);
}

TEST(lookups)
{
	struct noiommufd_ioas *ioas;
	struct noiommufd_run runs[9], all[9];
	__u64 pa[9] = { 0 };
	struct noiommufd_dma *dma;
	char *va = scattered(8);
	long n, i;

	open_edu(&ioas);
	dma = mapped(ioas, va, 8 * PAGE, 0);
	expect_eq(noiommufd_pa(dma, va - 1), NOIOMMUFD_NO_PA);
	expect_eq(noiommufd_pa(dma, va + 8 * PAGE), NOIOMMUFD_NO_PA);
	expect_eq(noiommufd_pa(dma, NULL), NOIOMMUFD_NO_PA);
	expect_eq(noiommufd_pa(dma, va + 5 * PAGE + 17),
		  pagemap_pa(va + 5 * PAGE) + 17);

	/* From the middle of a page into the next but one, as PRPs have it */
	expect_eq(noiommufd_pages(dma, va + 300, 2 * PAGE, PAGE, pa, 9), 3);
	expect_eq(pa[0], pagemap_pa(va) + 300);
	expect_eq(pa[1], pagemap_pa(va + PAGE));
	expect_eq(pa[2], pagemap_pa(va + 2 * PAGE));
	expect_eq(pa[3], 0);
	expect_eq(noiommufd_pages(dma, va + PAGE - 1, 1, PAGE, pa, 9), 1);
	/* Only what there is room for */
	pa[1] = 4711;
	expect_eq(noiommufd_pages(dma, va, 8 * PAGE, PAGE, pa, 1), 8);
	expect_eq(pa[1], 4711);
	expect_eq(noiommufd_pages(dma, va, 8 * PAGE, 1024, NULL, 0), 32);

	n = noiommufd_runs(dma, va, 8 * PAGE, all, 9);
	expect(n > 0 && n <= 8);
	runs[1].phys = 4711;
	expect_eq(noiommufd_runs(dma, va, 8 * PAGE, runs, 1), n);
	expect_eq(runs[1].phys, 4711);
	expect_eq(runs[0].length, all[0].length);
	for (i = 0; i < n; i++)
		expect(all[i].length >= PAGE);
	expect_eq(noiommufd_runs(dma, va + 7 * PAGE + 100, 200, runs, 9), 1);
	expect_eq(runs[0].phys, pagemap_pa(va + 7 * PAGE) + 100);
	expect_eq(runs[0].length, 200);

	expect_errno(noiommufd_runs(dma, va, 0, runs, 9), EINVAL);
	expect_errno(noiommufd_runs(dma, va, 8 * PAGE + 1, runs, 9), EINVAL);
	expect_errno(noiommufd_runs(dma, va + 1, SIZE_MAX, runs, 9), EINVAL);
	expect_errno(noiommufd_runs(dma, va - 1, 2, runs, 9), EINVAL);
	expect_errno(noiommufd_runs(dma, va, PAGE, NULL, 1), EINVAL);
	expect_errno(noiommufd_pages(dma, va, 0, PAGE, pa, 9), EINVAL);
	expect_errno(noiommufd_pages(dma, va, 9 * PAGE, PAGE, pa, 9), EINVAL);
	expect_errno(noiommufd_pages(dma, va, PAGE, 0, pa, 9), EINVAL);
	expect_errno(noiommufd_pages(dma, va, PAGE, 3000, pa, 9), EINVAL);
	expect_errno(noiommufd_pages(dma, va, PAGE, 2 * PAGE, pa, 9), EINVAL);
	expect_errno(noiommufd_pages(dma, va, PAGE, PAGE, NULL, 1), EINVAL);
}

/* Runs of many pages, which take several entries or only one */
TEST(huge_pages)
{
	struct noiommufd_ioas *ioas;
	struct noiommufd_dma *dma;
	char *va;

	open_edu(&ioas);
	va = hugetlb(2);
	mem_fill(va, 2 * HUGE_PAGE, 1);
	dma = mapped(ioas, va, 2 * HUGE_PAGE, 0);
	expect_addresses(dma, PAGE);
	noiommufd_free(dma);
	dma = mapped(ioas, va + 3 * PAGE, HUGE_PAGE, 0);
	expect_addresses(dma, PAGE);
	noiommufd_free(dma);
}

TEST(map_refused)
{
	char *va = mem(4 * PAGE), *read_only;
	long long before = pins();
	struct noiommufd_ioas *ioas;
	struct noiommufd_dma *dma;

	open_edu(&ioas);
	expect_null(noiommufd_map(ioas, va + 1, PAGE, 0), EINVAL);
	expect_null(noiommufd_map(ioas, va, PAGE + 1, 0), EINVAL);
	expect_null(noiommufd_map(ioas, va, 0, 0), EINVAL);
	expect_null(noiommufd_map(ioas, NULL, PAGE, 0), EINVAL);
	expect_null(noiommufd_map(ioas, va, PAGE, NOIOMMUFD_CONTIGUOUS), EINVAL);
	expect_null(noiommufd_map(ioas, va, PAGE, 1U << 31), EINVAL);
	expect_null(noiommufd_map(ioas, va, -PAGE, 0), EOVERFLOW);
	expect_null(noiommufd_map(ioas, (void *)-PAGE, 2 * PAGE, 0), EOVERFLOW);
	expect_null(noiommufd_map(ioas, (void *)0xffff888000000000, PAGE, 0), EFAULT);
	munmap(va + 2 * PAGE, PAGE);
	expect_null(noiommufd_map(ioas, va, 4 * PAGE, 0), EFAULT);
	expect_null(noiommufd_map(ioas, va, 4 * PAGE, NOIOMMUFD_IOVA_IS_PA), EFAULT);
	expect_said("Cannot map 16 KiB");
	read_only = mem_flags(PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
	expect_null(noiommufd_map(ioas, read_only, PAGE, 0), EFAULT);
	dma = mapped(ioas, read_only, PAGE, NOIOMMUFD_READ_ONLY);
	noiommufd_free(dma);
	expect_pins(before);
}

static void expect_iovas(struct noiommufd_ioas *ioas, const char *va, size_t size,
			 bool there)
{
	size_t at;

	for (at = 0; at < size; at += PAGE) {
		__u64 length = PAGE, pa, want = pagemap_pa(va + at);
		int rc = get_pa(noiommufd_ioas_fd(ioas), noiommufd_ioas_id(ioas), want,
				&length, &pa);

		expect_eq(!rc, there);
		if (there)
			expect_eq(pa, want);
	}
}

TEST(iova_is_pa)
{
	struct noiommufd_ioas *ioas;
	char *va = scattered(32);
	struct noiommufd_dma *dma;
	long long before = pins();
	int i;

	open_edu(&ioas);
	for (i = 0; i < 2; i++) {
		dma = mapped(ioas, va, 32 * PAGE, NOIOMMUFD_IOVA_IS_PA);
		expect_pins(before + 32);
		expect_eq(noiommufd_iova(dma), pagemap_pa(va));
		expect_addresses(dma, PAGE);
		expect_iovas(ioas, va, 32 * PAGE, true);
		/* A second time, and a part that comes last */
		expect_null(noiommufd_map(ioas, va, 32 * PAGE, NOIOMMUFD_IOVA_IS_PA),
			    EEXIST);
		noiommufd_free(mapped(ioas, va, 32 * PAGE, 0));
		expect_iovas(ioas, va, 32 * PAGE, true);
		noiommufd_free(dma);
		expect_iovas(ioas, va, 32 * PAGE, false);
		dma = mapped(ioas, va + 31 * PAGE, PAGE, NOIOMMUFD_IOVA_IS_PA);
		expect_null(noiommufd_map(ioas, va, 32 * PAGE, NOIOMMUFD_IOVA_IS_PA),
			    EEXIST);
		noiommufd_free(dma);
		expect_iovas(ioas, va, 32 * PAGE, false);
		expect_pins(before);
	}
}

TEST(alloc)
{
	static const size_t sizes[] = {
		1, PAGE, 3 * PAGE, MIB, HUGE_PAGE, 2 * HUGE_PAGE + PAGE, 5 * MIB + 1,
	};
	long long before = pins();
	struct noiommufd_ioas *ioas;
	struct noiommufd_device *dev = open_edu(&ioas);
	size_t i, k;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct noiommufd_dma *dma = allocated(ioas, sizes[i], NULL);
		char *va = noiommufd_va(dma);

		expect_eq(noiommufd_size(dma), (sizes[i] + PAGE - 1) & -PAGE);
		for (k = 0; k < noiommufd_size(dma); k++)
			expect_eq(va[k], 0);
		expect_addresses(dma, PAGE);
		copy_by_dma(dev, dma);
		noiommufd_free(dma);
		expect_errno(msync(va, PAGE, MS_ASYNC), ENOMEM);
	}
	expect_pins(before);
}

TEST(alloc_contiguous)
{
	static const size_t sizes[] = { PAGE, 2 * PAGE, 16 * PAGE, MIB, HUGE_PAGE };
	struct noiommufd_alloc_options how = {
		.size = sizeof(how), .flags = NOIOMMUFD_CONTIGUOUS,
	};
	struct noiommufd_run runs[2];
	struct noiommufd_ioas *ioas;
	size_t i;

	open_edu(&ioas);
	/* Transparent huge pages do, but some kernels have none. */
	huge_pages(2);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct noiommufd_dma *dma = allocated(ioas, sizes[i], &how);

		expect_eq(noiommufd_runs(dma, noiommufd_va(dma), sizes[i], runs, 2), 1);
		expect_eq(runs[0].length, sizes[i]);
		expect_addresses(dma, PAGE);
		noiommufd_free(dma);
	}
	/* With all that may be asked for */
	how.flags |= NOIOMMUFD_IOVA_IS_PA;
	how.below = 1ULL << 40;
	{
		struct noiommufd_dma *dma = allocated(ioas, MIB, &how);

		expect_eq(noiommufd_iova(dma), noiommufd_pa(dma, noiommufd_va(dma)));
		noiommufd_free(dma);
	}
	/* More than there is in one piece */
	expect_null(noiommufd_alloc(ioas, 1ULL << 40, &how), ENOMEM);
}

/* What can only be allocated, not looked for */
TEST(alloc_by_the_module)
{
	struct noiommufd_get_info info = { .size = sizeof(info) };
	struct noiommufd_alloc_options how = {
		.size = sizeof(how), .below = 1ULL << 28,
	};
	long long before = pins();
	struct noiommufd_run runs[16];
	struct noiommufd_ioas *ioas;
	struct noiommufd_device *dev = open_edu(&ioas);
	struct noiommufd_dma *dma;
	long i, num;

	if (ioctl(noiommufd_ioas_fd(ioas), NOIOMMUFD_GET_INFO, &info) ||
	    !(info.extensions & NOIOMMUFD_EXT_MEM_CONTIGUOUS))
		test_skip("the kernel cannot move memory out of the way");
	dma = allocated(ioas, 16 * PAGE, &how);
	num = noiommufd_runs(dma, noiommufd_va(dma), 16 * PAGE, runs, 16);
	expect(num > 0);
	for (i = 0; i < num; i++)
		expect(runs[i].phys + runs[i].length <= how.below);
	/* By its file: no page has a pin. */
	expect_pins(before);
	copy_by_dma(dev, dma);
	noiommufd_free(dma);

	how.below = 0;
	how.flags = NOIOMMUFD_CONTIGUOUS;
	dma = allocated(ioas, 8 * MIB + PAGE, &how);
	expect_eq(noiommufd_runs(dma, noiommufd_va(dma), 8 * MIB + PAGE, runs, 16), 1);
	copy_by_dma(dev, dma);
	noiommufd_free(dma);
}

TEST(alloc_below)
{
	struct noiommufd_alloc_options how = { .size = sizeof(how) };
	long long before = pins();
	struct noiommufd_ioas *ioas;
	struct noiommufd_dma *dma;
	__u64 pa;

	open_edu(&ioas);
	dma = allocated(ioas, PAGE, NULL);
	pa = noiommufd_pa(dma, noiommufd_va(dma));
	noiommufd_free(dma);
	how.below = 1ULL << 62;
	noiommufd_free(allocated(ioas, 4 * PAGE, &how));
	/* Nothing there is for programs. */
	how.below = PAGE;
	expect(pa >= PAGE);
	expect_null(noiommufd_alloc(ioas, PAGE, &how), ENOMEM);
	expect_said("No memory of 4 KiB was found below that address");
	expect_pins(before);
}

TEST(alloc_numa_node)
{
	struct noiommufd_alloc_options how = {
		.size = sizeof(how), .flags = NOIOMMUFD_NUMA_NODE,
	};
	struct noiommufd_ioas *ioas;

	open_edu(&ioas);
	how.numa_node = U32_MAX;
	expect_null(noiommufd_alloc(ioas, PAGE, &how), EINVAL);
	how.numa_node = 1000;
	expect_null(noiommufd_alloc(ioas, PAGE, &how), EINVAL);
	if (access("/sys/devices/system/node/node0", F_OK))
		return;
	how.numa_node = 0;
	noiommufd_free(allocated(ioas, 4 * PAGE, &how));
	noiommufd_free(allocated(ioas, HUGE_PAGE, &how));
}

TEST(alloc_refused)
{
	struct {
		struct noiommufd_alloc_options known;
		__u64 later;
	} how = { .known.size = sizeof(how) };
	long long before = pins();
	struct noiommufd_ioas *ioas;

	open_edu(&ioas);
	expect_null(noiommufd_alloc(ioas, 0, NULL), EINVAL);
	expect_null(noiommufd_alloc(ioas, SIZE_MAX, NULL), ENOMEM);
	expect_null(noiommufd_alloc(ioas, SIZE_MAX / 2, NULL), ENOMEM);
	/* Options of other versions of the header */
	noiommufd_free(allocated(ioas, PAGE, &how.known));
	how.later = 1;
	expect_null(noiommufd_alloc(ioas, PAGE, &how.known), E2BIG);
	how.known.size = offsetof(struct noiommufd_alloc_options, numa_node);
	noiommufd_free(allocated(ioas, PAGE, &how.known));
	how.known.size = 0;
	expect_null(noiommufd_alloc(ioas, PAGE, &how.known), EINVAL);
	how.known.size = sizeof(how.known);
	how.known.reserved = 1;
	expect_null(noiommufd_alloc(ioas, PAGE, &how.known), EINVAL);
	how.known.reserved = 0;
	how.known.flags = 1U << 31;
	expect_null(noiommufd_alloc(ioas, PAGE, &how.known), EINVAL);
	how.known.flags = NOIOMMUFD_READ_ONLY;
	expect_null(noiommufd_alloc(ioas, PAGE, &how.known), EINVAL);
	expect_pins(before);
}

TEST(locked_memory)
{
	long long before = pins();
	struct noiommufd_ioas *ioas;

	open_edu(&ioas);
	drop_cap(CAP_IPC_LOCK);
	set_memlock(2 * PAGE);
	expect_null(noiommufd_map(ioas, mem(4 * PAGE), 4 * PAGE, 0), ENOMEM);
	expect_said("limit for locked memory, 8 KiB");
	times = 0;
	expect_null(noiommufd_alloc(ioas, 4 * PAGE, NULL), ENOMEM);
	expect_eq(times, 1);
	noiommufd_free(mapped(ioas, mem(2 * PAGE), 2 * PAGE, 0));
	expect_pins(before);
}

TEST(no_capability)
{
	struct noiommufd_ioas *ioas;
	long long before = pins();

	open_edu(&ioas);
	drop_cap(CAP_SYS_RAWIO);
	expect_null(noiommufd_map(ioas, mem(PAGE), PAGE, 0), EPERM);
	expect_said("need CAP_SYS_RAWIO");
	expect_null(noiommufd_alloc(ioas, PAGE, NULL), EPERM);
	expect_pins(before);
	driver_bind(edu_behind_bridge());
	expect_null(noiommufd_open(edu_behind_bridge(), NULL), EPERM);
	expect_said("needs CAP_SYS_RAWIO");
}

/* examples/broker.c has what it is for. */
TEST(grant_not_allowed)
{
	struct noiommufd_ioas *ioas;

	open_edu(&ioas);
	expect_errno(noiommufd_grant(NULL), EINVAL);
	expect_errno(noiommufd_revoke(NULL), EINVAL);
	if (on_mainline()) {
		expect_errno(noiommufd_grant(ioas), ENOTTY);
		expect_said("has no grants");
		return;
	}
	expect_errno(noiommufd_grant(ioas), EOPNOTSUPP);
	expect_said("options noiommufd allow_grant=1");
	expect_errno(noiommufd_revoke(ioas), EOPNOTSUPP);
	drop_cap(CAP_SYS_RAWIO);
	expect_errno(noiommufd_grant(ioas), EPERM);
	expect_said("CAP_SYS_RAWIO alone");
}

/* The ivshmem, whose BAR 2 is prefetchable memory */
#define SHMEM	"0000:00:0e.0"

TEST(write_combining)
{
	struct noiommufd_device *dev;
	struct noiommufd_ioas *ioas;
	__u32 *bar, word = 0x1234;

	driver_bind(SHMEM);
	dev = noiommufd_open_node(SHMEM);
	expect(dev);
	expect_errno(noiommufd_set_wc(NULL, 0), EINVAL);
	if (on_mainline()) {
		expect_errno(noiommufd_set_wc(dev, 1 << NOIOMMUFD_BAR2), EINVAL);
		expect_said("and noiommu-vfio-pci");
		return;
	}
	expect_errno(noiommufd_set_wc(dev, 1 << NOIOMMUFD_BAR0), EINVAL);
	expect_said("Cannot have BARs 0x1 of " SHMEM " write-combining");
	expect_ok(noiommufd_set_wc(dev, 1 << NOIOMMUFD_BAR2));
	ioas = noiommufd_ioas_alloc(dev);
	expect(ioas);
	expect_ok(noiommufd_bind(dev, ioas));
	expect_errno(noiommufd_set_wc(dev, 0), EINVAL);
	expect_said("is bound already");

	bar = noiommufd_bar(dev, NOIOMMUFD_BAR2);
	expect(bar);
	noiommufd_write32(bar, word);
	expect_eq(noiommufd_read32(bar), word);
	/* So it was write-combining. */
	expect_errno(noiommufd_region_read(dev, NOIOMMUFD_BAR2, 0, &word,
					   sizeof(word)), EINVAL);
	noiommufd_ioas_free(ioas);
	noiommufd_close(dev);
}

/* By the library's own ioctl, and as on a kernel that lacks it */
TEST(ioas_runs)
{
	struct noiommufd_run want[16], runs[16];
	struct noiommufd_ioas *ioas;
	struct noiommufd_dma *dma;
	char *va = scattered(16);
	__u64 length, iova;
	long n;
	int i;

	open_edu(&ioas);
	dma = mapped(ioas, va, 16 * PAGE, 0);
	iova = noiommufd_iova(dma);
	n = noiommufd_runs(dma, va, 16 * PAGE, want, 16);
	for (i = 0; i < 2; i++) {
		if (i)
			ioas->context->no_runs = true;
		length = 32 * PAGE;
		expect_eq(noiommufd_ioas_runs(ioas, iova, &length, runs, 16), n);
		expect_eq(length, 16 * PAGE);
		expect(!memcmp(runs, want, n * sizeof(*runs)));
		length = 16 * PAGE;
		expect_eq(noiommufd_ioas_runs(ioas, iova, &length, runs, 1), 1);
		expect_eq(length, want[0].length);
		expect_eq(runs[0].length, length);
		expect_errno(noiommufd_ioas_runs(ioas, iova + 16 * PAGE, &length, runs, 1),
			     ENOENT);
		length = 16 * PAGE;
		expect_errno(noiommufd_ioas_runs(ioas, -PAGE, &length, runs, 1), EOVERFLOW);
		length = 0;
		expect_errno(noiommufd_ioas_runs(ioas, iova, &length, runs, 1), EINVAL);
		length = PAGE;
		expect_errno(noiommufd_ioas_runs(ioas, iova, &length, runs, 0), EINVAL);
		noiommufd_free(mapped(ioas, va, 16 * PAGE, NOIOMMUFD_IOVA_IS_PA));
	}
}

/* Addresses without the handle of their memory */

static void expect_found(struct noiommufd_ioas *ioas, const struct noiommufd_dma *dma)
{
	const char *va = noiommufd_va(dma);
	size_t at;

	for (at = 0; at < noiommufd_size(dma); at += PAGE) {
		expect_eq(noiommufd_ioas_pa(ioas, va + at), noiommufd_pa(dma, va + at));
		expect_eq(noiommufd_ioas_pa(ioas, va + at + 4095),
			  pagemap_pa(va + at) + 4095);
	}
}

static void expect_not_found(struct noiommufd_ioas *ioas, const void *va)
{
	errno = 0;
	expect_eq(noiommufd_ioas_pa(ioas, va), NOIOMMUFD_NO_PA);
	expect_eq(errno, ENOENT);
}

TEST(ioas_pa)
{
	char *va = scattered(64), *inside = va + PAGE;
	struct noiommufd_ioas *ioas, *other;
	struct noiommufd_device *dev = open_edu(&ioas);
	struct noiommufd_dma *all, *part;

	expect_not_found(ioas, inside);
	all = mapped(ioas, inside, 62 * PAGE, 0);
	expect_found(ioas, all);
	expect_not_found(ioas, inside - 1);
	expect_not_found(ioas, inside + 62 * PAGE);
	expect_not_found(ioas, NULL);
	expect_not_found(ioas, (void *)-1);
	/* In the place of @inside, if the high bits were not looked at */
	expect_not_found(ioas, inside + (1ULL << 57));
	expect_said("is not in memory that is mapped");
	other = noiommufd_ioas_alloc(dev);
	expect(other);
	expect_not_found(other, inside);
	noiommufd_ioas_free(other);
	/* Some of it twice: it stays until both are freed. */
	part = mapped(ioas, inside + 3 * PAGE, 2 * PAGE, NOIOMMUFD_IOVA_IS_PA);
	noiommufd_free(all);
	expect_found(ioas, part);
	expect_not_found(ioas, inside + 2 * PAGE);
	expect_not_found(ioas, inside + 5 * PAGE);
	noiommufd_free(part);
	expect_not_found(ioas, inside + 3 * PAGE);
	/* Nothing of what fails is left. */
	munmap(inside + 61 * PAGE, PAGE);
	expect_null(noiommufd_map(ioas, inside, 62 * PAGE, 0), EFAULT);
	expect_not_found(ioas, inside);
}

/* An entry for 2 MiB is split, in either order. */
TEST(ioas_pa_of_huge_pages)
{
	struct noiommufd_dma *whole, *part, *across;
	struct noiommufd_ioas *ioas;
	char *va = hugetlb(3);
	int i;

	open_edu(&ioas);
	mem_fill(va, 3 * HUGE_PAGE, 1);
	for (i = 0; i < 2; i++) {
		whole = mapped(ioas, va, 3 * HUGE_PAGE, 0);
		expect_found(ioas, whole);
		part = mapped(ioas, va + HUGE_PAGE + 7 * PAGE, PAGE, 0);
		expect_found(ioas, whole);
		if (i) {
			noiommufd_free(part);
			expect_found(ioas, whole);
			noiommufd_free(whole);
		} else {
			noiommufd_free(whole);
			expect_found(ioas, part);
			expect_not_found(ioas, va + HUGE_PAGE + 6 * PAGE);
			noiommufd_free(part);
		}
		expect_not_found(ioas, va);
		expect_not_found(ioas, va + HUGE_PAGE + 7 * PAGE);
		expect_not_found(ioas, va + 2 * HUGE_PAGE);
		across = mapped(ioas, va + HUGE_PAGE - PAGE, HUGE_PAGE + 2 * PAGE, 0);
		expect_found(ioas, across);
		noiommufd_free(across);
		expect_not_found(ioas, va + HUGE_PAGE);
	}
}

/*
 * The program has put other memory in the place of what it mapped, after or before
 * there is an index.
 */
static void other_memory(bool before)
{
	struct noiommufd_dma *old, *new;
	struct noiommufd_ioas *ioas;
	char *va = mem(2 * PAGE);
	__u64 pa;

	open_edu(&ioas);
	old = mapped(ioas, va, 2 * PAGE, 0);
	pa = noiommufd_pa(old, va);
	expect(mmap(va, PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0) == va);
	if (before)
		expect_eq(noiommufd_ioas_pa(ioas, va), pa);
	new = mapped(ioas, va, PAGE, 0);
	expect(noiommufd_pa(new, va) != pa);
	expect_found(ioas, new);
	noiommufd_free(old);
	expect_found(ioas, new);
	expect_not_found(ioas, va + PAGE);
	noiommufd_free(new);
	expect_not_found(ioas, va);
}

TEST(ioas_pa_of_other_memory)
{
	other_memory(true);
}

TEST(index_of_other_memory)
{
	other_memory(false);
}

TEST(mapped_too_often)
{
	static struct noiommufd_dma *dma[2048];
	long long before = pins();
	struct noiommufd_ioas *ioas;
	char *va = mem(2 * PAGE);
	size_t i;

	open_edu(&ioas);
	for (i = 0; i < 2047; i++)
		dma[i] = mapped(ioas, va + PAGE, PAGE, 0);
	/* The index does not fit all of them, so there is none. */
	dma[i] = mapped(ioas, va, 2 * PAGE, 0);
	errno = 0;
	expect_eq(noiommufd_ioas_pa(ioas, va), NOIOMMUFD_NO_PA);
	expect_eq(errno, ENOSPC);
	noiommufd_free(dma[i]);
	expect_not_found(ioas, va);
	expect_null(noiommufd_map(ioas, va, 2 * PAGE, 0), ENOSPC);
	expect_not_found(ioas, va);
	expect_eq(noiommufd_ioas_pa(ioas, va + PAGE), pagemap_pa(va + PAGE));
	for (i = 0; i < 2047; i++)
		noiommufd_free(dma[i]);
	expect_not_found(ioas, va + PAGE);
	expect_pins(before);
	noiommufd_free(mapped(ioas, va, 2 * PAGE, 0));
}

/* Interrupts */

static void raise_irq(struct noiommufd_device *dev, __u32 value)
{
	noiommufd_write32((char *)noiommufd_bar(dev, 0) + EDU_IRQ_RAISE, value);
}

static void ack_irq(struct noiommufd_device *dev, __u32 value)
{
	noiommufd_write32((char *)noiommufd_bar(dev, 0) + EDU_IRQ_ACK, value);
}

static void expect_irq(struct noiommufd_device *dev)
{
	raise_irq(dev, 1);
	expect_eq(noiommufd_irq_wait(dev, 0, 10000 * slow()), 1);
	expect_eq(noiommufd_irq_wait(dev, 0, 0), 0);
	ack_irq(dev, 1);
}

TEST(msi)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct noiommufd_ioas *ioas;
	struct noiommufd_device *dev = open_edu(&ioas);
	int poll_fd = expect_ok(epoll_create1(EPOLL_CLOEXEC));
	double began;

	expect_ok(noiommufd_bus_master(dev, true));
	expect_errno(noiommufd_irq_enable(dev, NOIOMMUFD_MSI, 2), ENOSPC);
	expect_said("has 1 interrupts of MSI, not 2");
	expect_errno(noiommufd_irq_enable(dev, NOIOMMUFD_MSIX, 1), ENOSPC);
	expect_errno(noiommufd_irq_enable(dev, NOIOMMUFD_IRQS, 1), EINVAL);
	expect_errno(noiommufd_irq_enable(dev, (enum noiommufd_irq)-1, 1), EINVAL);
	expect_errno(noiommufd_irq_enable(dev, NOIOMMUFD_MSI, U32_MAX), ENOSPC);
	expect_ok(noiommufd_irq_enable(dev, NOIOMMUFD_MSI, 0));
	expect_errno(noiommufd_irq_wait(dev, 0, 0), EINVAL);
	expect_errno(noiommufd_irq_mask(dev, 0, true), EINVAL);

	expect_ok(noiommufd_irq_enable(dev, NOIOMMUFD_MSI, 1));
	expect_irq(dev);
	began = now();
	expect_eq(noiommufd_irq_wait(dev, 0, 300), 0);
	expect(now() - began >= 0.25);
	expect_errno(noiommufd_irq_wait(dev, 1, 0), EINVAL);
	expect_errno(noiommufd_irq_fd(dev, U32_MAX), EINVAL);

	expect_ok(epoll_ctl(poll_fd, EPOLL_CTL_ADD, noiommufd_irq_fd(dev, 0), &event));
	raise_irq(dev, 1);
	expect_eq(epoll_wait(poll_fd, &event, 1, 10000), 1);
	expect_eq(noiommufd_irq_wait(dev, 0, -1), 1);
	ack_irq(dev, 1);

	expect_ok(noiommufd_irq_mask(dev, 0, true));
	raise_irq(dev, 1);
	ack_irq(dev, 1);
	expect_eq(noiommufd_irq_wait(dev, 0, 200), 0);
	expect_ok(noiommufd_irq_mask(dev, 0, false));
	expect_irq(dev);

	/* Once more is as good; off */
	expect_ok(noiommufd_irq_enable(dev, NOIOMMUFD_MSI, 1));
	expect_irq(dev);
	expect_ok(noiommufd_irq_enable(dev, NOIOMMUFD_INTX, 0));
	expect_errno(noiommufd_irq_fd(dev, 0), EINVAL);
	expect_said("Interrupt 0 of");
}

TEST(intx)
{
	struct noiommufd_ioas *ioas;
	struct noiommufd_device *dev = open_edu(&ioas);

	expect_ok(noiommufd_irq_enable(dev, NOIOMMUFD_INTX, 1));
	expect_irq(dev);
	/* It has masked itself. */
	raise_irq(dev, 1);
	expect_eq(noiommufd_irq_wait(dev, 0, 200), 0);
	expect_ok(noiommufd_irq_mask(dev, 0, false));
	expect_eq(noiommufd_irq_wait(dev, 0, 10000 * slow()), 1);
	ack_irq(dev, 1);
	expect_ok(noiommufd_irq_mask(dev, 0, false));
	expect_ok(noiommufd_irq_mask(dev, 0, true));
	raise_irq(dev, 1);
	expect_eq(noiommufd_irq_wait(dev, 0, 200), 0);
	ack_irq(dev, 1);
	/* From one kind to another */
	expect_ok(noiommufd_bus_master(dev, true));
	expect_ok(noiommufd_irq_enable(dev, NOIOMMUFD_MSI, 1));
	expect_irq(dev);
}

TEST(msix)
{
	struct noiommufd_device *dev = device(NVME);

	expect(noiommufd_info(dev)->irqs[NOIOMMUFD_MSIX] >= 4);
	expect_ok(noiommufd_irq_enable(dev, NOIOMMUFD_MSIX, 4));
	expect_ok(irq_set(noiommufd_device_fd(dev), VFIO_PCI_MSIX_IRQ_INDEX,
			  IRQ_NONE | IRQ_TRIGGER, 2, 1, NULL, 0));
	expect_eq(noiommufd_irq_wait(dev, 2, 10000), 1);
	expect_eq(noiommufd_irq_wait(dev, 3, 0), 0);
	expect_ok(noiommufd_irq_enable(dev, NOIOMMUFD_MSIX, 2));
	expect_errno(noiommufd_irq_fd(dev, 2), EINVAL);
	noiommufd_close(dev);
}

static void nothing(int signal)
{
	(void)signal;
}

TEST(interrupted)
{
	struct sigaction action = { .sa_handler = nothing };
	struct noiommufd_ioas *ioas;
	struct noiommufd_device *dev = open_edu(&ioas);

	expect_ok(noiommufd_irq_enable(dev, NOIOMMUFD_MSI, 1));
	expect_ok(sigaction(SIGALRM, &action, NULL));
	ualarm(100000, 0);
	expect_errno(noiommufd_irq_wait(dev, 0, -1), EINTR);
}

/* examples/edu.c */

#define main edu_main
#include "../../../examples/edu.c"
#undef main

static void run_edu(void *out)
{
	char name[] = "edu", *argv[] = { name, (char *)edu(), NULL };

	dup2(*(int *)out, STDOUT_FILENO);
	expect_eq(edu_main(2, argv), 0);
	fflush(stdout);
}

TEST(example_edu)
{
	char text[128] = "";
	int out[2];

	driver_bind(edu());
	expect_ok(pipe(out));
	in_child(run_edu, &out[1]);
	expect(read(out[0], text, sizeof(text) - 1) > 0);
	if (strcmp(text, "10! is 3628800\ncopied by DMA\n"))
		fail("examples/edu printed: %s", text);
}

/* What is not as it should be */

TEST(null)
{
	struct noiommufd_ioas *ioas;
	struct noiommufd_device *dev = open_edu(&ioas);
	struct noiommufd_run run;
	__u64 length = PAGE;
	char byte;

	expect_null(noiommufd_info(NULL), EINVAL);
	expect_errno(noiommufd_device_fd(NULL), EINVAL);
	expect_null(noiommufd_device_ioas(NULL), EINVAL);
	expect_errno(noiommufd_bind(NULL, ioas), EINVAL);
	expect_errno(noiommufd_bind(dev, NULL), EINVAL);
	expect_errno(noiommufd_attach(NULL, ioas), EINVAL);
	expect_errno(noiommufd_attach(dev, NULL), EINVAL);
	expect_errno(noiommufd_detach(NULL), EINVAL);
	expect_null(noiommufd_bar(NULL, 0), EINVAL);
	expect_errno(noiommufd_region_read(NULL, 0, 0, &byte, 1), EINVAL);
	expect_errno(noiommufd_region_read(dev, 0, 0, NULL, 1), EINVAL);
	expect_errno(noiommufd_region_write(NULL, 0, 0, &byte, 1), EINVAL);
	expect_errno(noiommufd_region_write(dev, 0, 0, NULL, 1), EINVAL);
	expect_errno(noiommufd_bus_master(NULL, true), EINVAL);
	expect_errno(noiommufd_reset(NULL), EINVAL);
	expect_errno(noiommufd_hot_reset(NULL), EINVAL);
	expect_null(noiommufd_hot_reset_list(NULL), EINVAL);
	expect_null(noiommufd_ioas_alloc(NULL), EINVAL);
	expect_errno(noiommufd_ioas_fd(NULL), EINVAL);
	errno = 0;
	expect_eq(noiommufd_ioas_id(NULL), 0);
	expect_eq(errno, EINVAL);
	expect_errno(noiommufd_ioas_runs(NULL, 0, &length, &run, 1), EINVAL);
	expect_errno(noiommufd_ioas_runs(ioas, 0, NULL, &run, 1), EINVAL);
	expect_errno(noiommufd_ioas_runs(ioas, 0, &length, NULL, 1), EINVAL);
	expect_null(noiommufd_map(NULL, &byte, PAGE, 0), EINVAL);
	expect_null(noiommufd_alloc(NULL, PAGE, NULL), EINVAL);
	expect_null(noiommufd_va(NULL), EINVAL);
	expect_eq(noiommufd_size(NULL), 0);
	expect_eq(noiommufd_iova(NULL), NOIOMMUFD_NO_PA);
	expect_eq(noiommufd_pa(NULL, &byte), NOIOMMUFD_NO_PA);
	errno = 0;
	expect_eq(noiommufd_ioas_pa(NULL, &byte), NOIOMMUFD_NO_PA);
	expect_eq(errno, EINVAL);
	expect_errno(noiommufd_runs(NULL, &byte, 1, &run, 1), EINVAL);
	expect_errno(noiommufd_pages(NULL, &byte, 1, PAGE, &length, 1), EINVAL);
	expect_errno(noiommufd_irq_enable(NULL, NOIOMMUFD_MSI, 1), EINVAL);
	expect_errno(noiommufd_irq_fd(NULL, 0), EINVAL);
	expect_errno(noiommufd_irq_wait(NULL, 0, 0), EINVAL);
	expect_errno(noiommufd_irq_mask(NULL, 0, true), EINVAL);
	expect_said("noiommufd_irq_fd(): an argument is NULL");
	noiommufd_close(NULL);
	noiommufd_free(NULL);
	noiommufd_ioas_free(NULL);
	/* And without somebody to tell */
	noiommufd_set_log(NULL, NULL);
	expect_errno(noiommufd_reset(NULL), EINVAL);
	noiommufd_print(NULL, "nothing");
	noiommufd_print(stdout, NULL);
}

/* The program has closed our files, and nothing worse comes of it than EBADF. */
TEST(closed_files)
{
	struct noiommufd_ioas *ioas;
	struct noiommufd_device *dev = open_edu(&ioas);
	struct noiommufd_dma *dma = mapped(ioas, mem(PAGE), PAGE, 0);
	__u64 length = PAGE, value;
	struct noiommufd_run run;

	close(noiommufd_ioas_fd(ioas));
	expect_null(noiommufd_map(ioas, mem(PAGE), PAGE, 0), EBADF);
	expect_null(noiommufd_alloc(ioas, PAGE, NULL), EBADF);
	expect_null(noiommufd_ioas_alloc(dev), EBADF);
	expect_errno(noiommufd_ioas_runs(ioas, 0, &length, &run, 1), EBADF);
	close(noiommufd_device_fd(dev));
	expect_null(noiommufd_bar(dev, 0), EBADF);
	expect_errno(noiommufd_region_read(dev, 0, 0, &value, 4), EBADF);
	expect_errno(noiommufd_region_write(dev, 0, 0, &value, 4), EBADF);
	expect_errno(noiommufd_bus_master(dev, true), EBADF);
	expect_errno(noiommufd_reset(dev), EBADF);
	expect_errno(noiommufd_hot_reset(dev), EBADF);
	expect_null(noiommufd_hot_reset_list(dev), EBADF);
	expect_errno(noiommufd_attach(dev, ioas), EBADF);
	expect_errno(noiommufd_detach(dev), EBADF);
	/* What is only looked up does not need them. */
	expect(noiommufd_device_ioas(dev) == ioas);
	expect_eq(noiommufd_ioas_pa(ioas, noiommufd_va(dma)),
		  noiommufd_pa(dma, noiommufd_va(dma)));
	/* The eventfd gets the number of the device's file. */
	expect_errno(noiommufd_irq_enable(dev, NOIOMMUFD_MSI, 1), ENOTTY);
	expect_errno(noiommufd_irq_wait(dev, 0, 0), EINVAL);
	expect_errno(noiommufd_irq_mask(dev, 0, true), EINVAL);
	noiommufd_free(dma);
	noiommufd_close(dev);
}

/* The same before it is bound */
TEST(closed_node)
{
	struct noiommufd_device *dev;
	struct noiommufd_ioas *ioas;

	driver_bind(edu());
	dev = noiommufd_open_node(edu());
	expect(dev);
	ioas = noiommufd_ioas_alloc(dev);
	expect(ioas);
	close(noiommufd_device_fd(dev));
	expect_errno(noiommufd_bind(dev, ioas), EBADF);
	expect_errno(noiommufd_attach(dev, ioas), EINVAL);
	noiommufd_ioas_free(ioas);
	noiommufd_close(dev);
}

struct family {
	struct noiommufd_device *dev;
	struct noiommufd_ioas *ioas;
	struct noiommufd_dma *map, *alloc;
	void *bar;
};

static void child(void *arg)
{
	struct family *f = arg;
	__u64 length = PAGE;
	struct noiommufd_run run;
	struct noiommufd_device *own;
	char *va;

	/* Neither BARs nor memory for DMA are here. */
	expect_errno(msync(f->bar, PAGE, MS_ASYNC), ENOMEM);
	expect_errno(msync(noiommufd_va(f->alloc), PAGE, MS_ASYNC), ENOMEM);
	va = mem(PAGE);
	/* Lookups are memory, and go on. */
	expect(noiommufd_pa(f->map, noiommufd_va(f->map)) != NOIOMMUFD_NO_PA);
	expect_eq(noiommufd_runs(f->map, noiommufd_va(f->map), PAGE, &run, 1), 1);
	expect_eq(noiommufd_pages(f->map, noiommufd_va(f->map), PAGE, PAGE, &length, 1), 1);
	expect_eq(length, run.phys);
	length = PAGE;
	expect(noiommufd_info(f->dev));
	expect(noiommufd_device_fd(f->dev) >= 0 && noiommufd_ioas_fd(f->ioas) >= 0);
	/* But a pointer is to memory of the child. */
	errno = 0;
	expect_eq(noiommufd_ioas_pa(f->ioas, noiommufd_va(f->map)), NOIOMMUFD_NO_PA);
	expect_eq(errno, ESTALE);
	expect_errno(noiommufd_bind(f->dev, f->ioas), ESTALE);
	expect_errno(noiommufd_attach(f->dev, f->ioas), ESTALE);
	expect_errno(noiommufd_detach(f->dev), ESTALE);
	expect_null(noiommufd_device_ioas(f->dev), ESTALE);
	expect_null(noiommufd_bar(f->dev, 0), ESTALE);
	expect_errno(noiommufd_region_read(f->dev, 0, 0, va, 4), ESTALE);
	expect_errno(noiommufd_region_write(f->dev, 0, 0, va, 4), ESTALE);
	expect_errno(noiommufd_bus_master(f->dev, true), ESTALE);
	expect_errno(noiommufd_reset(f->dev), ESTALE);
	expect_errno(noiommufd_hot_reset(f->dev), ESTALE);
	expect_null(noiommufd_hot_reset_list(f->dev), ESTALE);
	expect_null(noiommufd_ioas_alloc(f->dev), ESTALE);
	expect_errno(noiommufd_ioas_runs(f->ioas, 0, &length, &run, 1), ESTALE);
	expect_null(noiommufd_map(f->ioas, va, PAGE, 0), ESTALE);
	expect_null(noiommufd_alloc(f->ioas, PAGE, NULL), ESTALE);
	expect_errno(noiommufd_irq_enable(f->dev, NOIOMMUFD_MSI, 1), ESTALE);
	expect_errno(noiommufd_irq_fd(f->dev, 0), ESTALE);
	expect_errno(noiommufd_irq_wait(f->dev, 0, 0), ESTALE);
	expect_errno(noiommufd_irq_mask(f->dev, 0, true), ESTALE);
	expect_said("before fork()");
	/* A device of its own */
	driver_bind(edu_behind_bridge());
	own = noiommufd_open(edu_behind_bridge(), NULL);
	expect(own);
	expect_null(noiommufd_open(edu_behind_bridge(), f->ioas), ESTALE);
	copy_by_dma(own, mapped(noiommufd_device_ioas(own), va, PAGE, 0));
	noiommufd_close(own);
	/* What it gives back stays the parent's. */
	noiommufd_free(f->map);
	noiommufd_free(f->alloc);
	noiommufd_close(f->dev);
}

TEST(forked)
{
	struct family f;

	f.dev = open_edu(&f.ioas);
	f.map = mapped(f.ioas, mem(PAGE), PAGE, 0);
	f.alloc = allocated(f.ioas, PAGE, NULL);
	f.bar = noiommufd_bar(f.dev, 0);
	expect_ok(noiommufd_bus_master(f.dev, true));
	expect_ok(noiommufd_irq_enable(f.dev, NOIOMMUFD_MSI, 1));
	in_child(child, &f);
	copy_by_dma(f.dev, f.map);
	copy_by_dma(f.dev, f.alloc);
	expect_irq(f.dev);
}

/* In a child, which would keep the device open itself */
static void remove_it(void *dev)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/remove",
		 noiommufd_info(dev)->address);
	noiommufd_close(dev);
	write_file(path, "1");
}

/* The device goes while it is open: all works until it is closed. */
TEST(removed)
{
	const char *bdf = edu_behind_bridge();
	struct noiommufd_device *dev = device(bdf);
	struct noiommufd_ioas *ioas = noiommufd_device_ioas(dev);
	double end = now() + 20 * slow();
	pid_t remover;
	__u32 value;

	remover = spawn(remove_it, dev);
	while (is_there(bdf)) {
		expect(now() < end);
		sleep_ms(20);
	}
	expect_null(noiommufd_open(bdf, NULL), ENODEV);
	expect_null(noiommufd_open(noiommufd_info(dev)->node, NULL), ENODEV);
	expect_ok(noiommufd_region_read(dev, NOIOMMUFD_CONFIG, 0, &value, 4));
	expect_eq(value, 0x11e81234);
	expect_ok(noiommufd_region_write(dev, 0, EDU_LIVE, &value, 4));
	expect(noiommufd_bar(dev, 0));
	expect_ok(noiommufd_irq_enable(dev, NOIOMMUFD_MSI, 1));
	copy_by_dma(dev, mapped(ioas, mem(PAGE), PAGE, 0));
	expect_irq(dev);
	expect_ok(noiommufd_detach(dev));
	expect_ok(noiommufd_attach(dev, ioas));
	noiommufd_free(allocated(ioas, PAGE, NULL));
	noiommufd_close(dev);
	join(remover);
	expect_null(noiommufd_open(bdf, NULL), ENODEV);
	expect_said("There is no PCI device");
	write_file("/sys/bus/pci/rescan", "1");
	noiommufd_close(device(bdf));
}

static void without_nodes(void *bdf)
{
	char **list;

	expect_ok(unshare(CLONE_NEWNS));
	expect_ok(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	expect_ok(mount("tmpfs", "/dev/vfio", "tmpfs", 0, NULL));
	expect_null(noiommufd_open(bdf, NULL), ENOENT);
	expect_said("is there, but not in this /dev");
	expect_ok(umount("/dev/vfio"));
	noiommufd_close(noiommufd_open(bdf, NULL));
	/* As without the modules: no class of nodes, no PCI devices */
	expect_ok(mount("tmpfs", "/sys", "tmpfs", 0, NULL));
	expect_null(noiommufd_open(bdf, NULL), ENODEV);
	expect_null(noiommufd_open(NULL, NULL), ENODEV);
	list = noiommufd_list();
	expect(list && !*list);
	free(list);
}

TEST(no_nodes)
{
	driver_bind(edu());
	in_child(without_nodes, (void *)edu());
}

/* Threads */

struct crowd {
	struct noiommufd_device *dev;
	struct noiommufd_ioas *ioas;
	bool stop;
};

static void *crowd_work(void *arg)
{
	struct crowd *crowd = arg;
	char *va = mem(4 * PAGE);
	__u32 value;

	while (!flag(&crowd->stop)) {
		struct noiommufd_dma *a = mapped(crowd->ioas, va, 4 * PAGE, 0);
		struct noiommufd_dma *b = allocated(crowd->ioas, PAGE, NULL);

		expect_eq(noiommufd_pa(a, va + PAGE), pagemap_pa(va + PAGE));
		expect_eq(noiommufd_ioas_pa(crowd->ioas, va + PAGE),
			  noiommufd_pa(a, va + PAGE));
		expect(noiommufd_bar(crowd->dev, 0));
		expect_ok(noiommufd_bus_master(crowd->dev, true));
		expect_ok(noiommufd_region_read(crowd->dev, NOIOMMUFD_CONFIG, 0,
						&value, 4));
		expect_ok(noiommufd_irq_enable(crowd->dev, NOIOMMUFD_MSI, 1));
		expect(noiommufd_device_ioas(crowd->dev));
		noiommufd_free(a);
		noiommufd_free(b);
	}
	return NULL;
}

TEST(threads)
{
	struct crowd crowd = { 0 };
	long long before = pins();
	int files = open_files(), i;
	pthread_t threads[4];

	crowd.dev = open_edu(&crowd.ioas);
	/* pagemap's file is opened by the first who asks, without a lock. */
	expect(pagemap_pa(mem(PAGE)));
	files++;
	for (i = 0; i < 4; i++)
		expect(!pthread_create(&threads[i], NULL, crowd_work, &crowd));
	sleep_ms(2000);
	set_flag(&crowd.stop);
	for (i = 0; i < 4; i++)
		expect(!pthread_join(threads[i], NULL));
	noiommufd_close(crowd.dev);
	expect_pins(before);
	expect_eq(open_files(), files);
}

/* Allocations of memory that fail, one after the other */

/* Do all that allocates memory, until something fails. */
static bool do_all(char *va)
{
	static const char * const pair[] = PAIR;
	struct noiommufd_device *dev = noiommufd_open(pair[0], NULL);
	struct noiommufd_ioas *ioas, *second = NULL;
	struct noiommufd_dma *map = NULL, *alloc = NULL;
	char **list = NULL, **hit = NULL;
	bool done;

	if (!dev) {
		expect_eq(errno, ENOMEM);
		return false;
	}
	ioas = noiommufd_device_ioas(dev);
	done = (list = noiommufd_list()) &&
	       (hit = noiommufd_hot_reset_list(dev)) &&
	       (second = noiommufd_ioas_alloc(dev)) &&
	       !noiommufd_irq_enable(dev, NOIOMMUFD_MSIX, 2) &&
	       (map = noiommufd_map(ioas, va, 64 * PAGE, NOIOMMUFD_IOVA_IS_PA)) &&
	       (alloc = noiommufd_alloc(ioas, 64 * PAGE, NULL));
	if (!done)
		expect_eq(errno, ENOMEM);
	free(list);
	free(hit);
	noiommufd_free(map);
	noiommufd_free(alloc);
	noiommufd_ioas_free(second);
	noiommufd_close(dev);
	return done;
}

TEST_LIMIT(out_of_memory, 120)
{
	static const char * const pair[] = PAIR;
	char *va = scattered(64);
	long long before = pins();
	int files, n;
	bool done;

	driver_bind(pair[0]);
	driver_bind(pair[1]);
	noiommufd_close(device(pair[0]));
	files = open_files();
	for (n = 1; ; n++) {
		until_failure = n;
		done = do_all(va);
		/* Did nothing fail, because it made fewer allocations? */
		if (until_failure)
			break;
		expect(!done);
		expect_pins(before);
		expect_eq(open_files(), files);
	}
	until_failure = 0;
	expect(done && n > 10);
}
