/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The harness of the guest suite. A program is one C file of TEST()s, linked with
 * harness.c, which has main() and prints KTAP.
 *
 * Each test runs in a process of its own, with a time limit. It passes when it
 * returns; an expectation that fails prints file, line, expected and got, and
 * ends the test. Files and memory go with the process, so a test cleans up only
 * what outlives it. The harness restores the sysctls and the module parameter,
 * and fails a test that leaves pages pinned after its processes have ended.
 *
 * Environment: NOIOMMU_DRIVER is the driver to bind devices to (default
 * noiommu-vfio-pci; with vfio-pci the suite tests mainline, and skips the tests of
 * deliberate differences). IOMMU_NODE is the iommufd to open (default
 * /dev/iommu). SLOW multiplies all time limits (default 1; more on a debug
 * kernel).
 */
#ifndef __SUITE_HARNESS_H
#define __SUITE_HARNESS_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <noiommufd/iommufd.h>
#include <noiommufd/vfio.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define KIB		1024ULL
#define MIB		(1024 * KIB)
#define GIB		(1024 * MIB)
#define PAGE		4096ULL
#define HUGE_PAGE	(2 * MIB)

#define U32_MAX		0xffffffffU
#define U64_MAX		0xffffffffffffffffULL

#define MAP_READ	IOMMU_IOAS_MAP_READABLE
#define MAP_WRITE	IOMMU_IOAS_MAP_WRITEABLE
#define MAP_RW		(MAP_READ | MAP_WRITE)
#define MAP_FIXED_RW	(IOMMU_IOAS_MAP_FIXED_IOVA | MAP_RW)

/* Tests: in the order of the file; limit in seconds, under TCG. */

struct test {
	const char *name;
	void (*fn)(void);
	unsigned int limit;
	struct test *next;
};

void test_register(struct test *test);

#define TEST_LIMIT(_name, _limit)					\
	static void test_##_name(void);					\
	static void __attribute__((constructor)) register_##_name(void)	\
	{								\
		static struct test test = {				\
			.name = #_name, .fn = test_##_name,		\
			.limit = (_limit),				\
		};							\
									\
		test_register(&test);					\
	}								\
	static void test_##_name(void)

#define TEST(_name)	TEST_LIMIT(_name, 60)

/* Expectations */

[[gnu::noreturn, gnu::format(printf, 3, 4)]]
void test_fail(const char *file, int line, const char *fmt, ...);
[[gnu::noreturn, gnu::format(printf, 1, 2)]]
void test_skip(const char *fmt, ...);

long check_ok(const char *file, int line, const char *what, long ret);
void check_errno(const char *file, int line, const char *what, long ret,
		 int want);
void check_eq(const char *file, int line, const char *what,
	      unsigned long long got, unsigned long long want);

#define fail(...)		test_fail(__FILE__, __LINE__, __VA_ARGS__)
/* A call that returns -1 and sets errno when it fails; passes its value on. */
#define expect_ok(call)		check_ok(__FILE__, __LINE__, #call, (long)(call))
#define expect_errno(call, err) \
	check_errno(__FILE__, __LINE__, #call, (long)(call), err)
#define expect_eq(got, want) \
	check_eq(__FILE__, __LINE__, #got " == " #want, \
		 (unsigned long long)(got), (unsigned long long)(want))
#define expect(cond) \
	do { \
		if (!(cond)) \
			fail("expected %s, got the contrary", #cond); \
	} while (0)

/* The driver under test is the vfio-pci of a kernel with a noiommu cdev. */
bool on_mainline(void);
/* For a test of a deliberate difference from mainline. */
void skip_on_mainline(const char *difference);

/*
 * More processes. They may use expectations; if one fails, the test fails when it
 * joins that process. All of them are killed when the test ends.
 */
pid_t spawn(void (*fn)(void *arg), void *arg);
void join(pid_t pid);
/* Run fn in a process of its own and wait for it. */
void in_child(void (*fn)(void *arg), void *arg);

double now(void);
/* SLOW of the environment: multiply limits in seconds by it. */
unsigned int slow(void);
void sleep_ms(unsigned int ms);

/* The system */

[[gnu::format(printf, 2, 3)]]
int write_file(const char *path, const char *fmt, ...);
long long read_number(const char *path);
/* The number that follows key at the start of a line of the file, or -1. */
long long read_field(const char *path, const char *key);

/* Pages pinned by get_user_pages at the moment, in the whole system. */
long long pins(void);
/* Wait up to two seconds (times slow()) for pins() to be back at want. */
void check_pins(const char *file, int line, long long want);
#define expect_pins(want)	check_pins(__FILE__, __LINE__, want)
/* VmPin of this process, in KiB. */
long long vm_pin(void);

void drop_cap(int cap);
void set_memlock(unsigned long long bytes);

/* Where the kernel's log ends now */
unsigned long long kmsg_mark(void);
/* Lines after the mark that contain both (NULL: any), of that level or worse */
int kmsg_count(unsigned long long mark, int level, const char *a,
	       const char *b);

/*
 * Give a command to QEMU's monitor, as a user types it (device_del, ...). Returns
 * false if it was not done. The guest's third serial port leads there; without
 * one the test is skipped.
 */
[[gnu::format(printf, 1, 2)]]
bool qemu(const char *fmt, ...);

/* A value that one thread or process sets and another waits for */
static inline bool flag(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static inline void set_flag(bool *flag)
{
	__atomic_store_n(flag, true, __ATOMIC_RELEASE);
}

/* Memory: populated, private, in small pages, zeroed; fails rather than NULL */
void *mem(size_t size);
void *mem_flags(size_t size, int prot, int flags);
/* A pattern in which no two pages are alike. */
void mem_fill(void *va, size_t size, unsigned int seed);
/* Physical address by /proc/self/pagemap; 0: not present. */
__u64 pagemap_pa(const void *va);
/* Reserve 2 MiB pages; skips the test if that is not possible. */
void huge_pages(unsigned int n);
/* 2 MiB pages of either kind; skips the test if there are none. */
void *hugetlb(unsigned int n);
void *transparent_huge_page(void);
/*
 * Untouched pages: a thread that touches them waits until they are filled through
 * the fd. The second function reports that a thread waits. Skips the test if the
 * kernel has no userfaultfd for this.
 */
int userfault_open(const struct uffdio_range *pages);
void userfault_wait(int fd);

/* Devices, by PCI address. They are bound to the driver on first use. */

const char *edu(void);
const char *edu_behind_bridge(void);
const char *driver_name(void);
/* The parameter that turns unsafe mode on. */
const char *unsafe_parameter(void);
const char *iommu_node(void);
/* The parameter for where automatic IOVAs begin. */
__u64 iova_base(void);

/* The target of a link of the device in sysfs ("driver", "iommu_group"); false: none. */
bool device_link(const char *bdf, const char *entry, char *name, size_t size);
/* Bound to the driver now? */
bool driver_has(const char *bdf);
void driver_bind(const char *bdf);
/* Bind it to another driver, which is loaded. */
void driver_bind_to(const char *bdf, const char *driver);
void driver_unbind(const char *bdf);
/* Unload the kernel's driver of disks, once it is done with those that it has. */
void nvme_unload(void);
/* "noiommu-vfio0", found in sysfs; false: there is none. */
bool cdev_name(const char *bdf, char *name, size_t size);
void cdev_path(const char *bdf, char *path, size_t size);

int iommu_open(void);
int cdev_open(const char *bdf);
/*
 * Only for behaviour of vfio-pci-core or of the rest of the kernel: ours is the
 * same on every kernel.
 */
bool kernel_is_before(unsigned int major, unsigned int minor);
/*
 * In Linux 6.6.87, and no other kernel that we have tested, pci_reset_bus()
 * refuses a bus with a device that cannot be reset alone. vfio-pci-core has no hot
 * reset of such a bus then, for any driver.
 */
void need_bus_reset(int dev, const char *bdf);

/*
 * Plain ioctls: they return -1 and set errno. Output arguments are what the struct
 * holds after the ioctl, even if it failed.
 */

int dev_bind(int dev, int iommu, __u32 *devid);
int dev_attach(int dev, __u32 *pt_id);
int dev_detach(int dev);
int ioas_alloc(int iommu, __u32 *ioas);
int object_destroy(int iommu, __u32 id);
int hwpt_alloc(int iommu, __u32 devid, __u32 pt_id, __u32 *hwpt);
int ioas_map(int iommu, __u32 ioas, void *va, __u64 length, __u64 iova);
int ioas_map_flags(int iommu, __u32 ioas, __u32 flags, const void *va,
		   __u64 length, __u64 *iova);
int ioas_unmap(int iommu, __u32 ioas, __u64 iova, __u64 length, __u64 *done);
int ioas_copy(int iommu, __u32 dst, __u32 src, __u32 flags, __u64 length,
	      __u64 *dst_iova, __u64 src_iova);
/* length: in, the limit; out, the contiguous bytes */
int get_pa(int iommu, __u32 ioas, __u64 iova, __u64 *length, __u64 *pa);

/* The same; an error fails the test. */

__u32 new_ioas(int iommu);
__u32 attach(int dev, __u32 pt_id);
__u64 pa_of(int iommu, __u32 ioas, __u64 iova);

/* A device, an iommufd and an IOAS, as most tests need them */
struct setup {
	int iommu;
	int dev;
	__u32 devid;
	__u32 ioas;
	__u32 hwpt;
};

/* The edu device bound, with an IOAS; setup_attached(): and attached to it. */
void setup_bound(struct setup *s);
void setup_attached(struct setup *s);

/* GET_PA of each page of [iova, iova + size) agrees with pagemap for va. */
void check_pas(const char *file, int line, const struct setup *s, __u64 iova,
	       const void *va, size_t size);
#define expect_pas(s, iova, va, size) \
	check_pas(__FILE__, __LINE__, s, iova, va, size)

/* Regions of a device */

void region_info(int dev, __u32 index, struct vfio_region_info *info);
void *region_mmap(int dev, __u32 index, int prot);
void bus_master(int dev, bool on);
__u32 mmio_read32(const void *bar, size_t offset);
void mmio_write32(void *bar, size_t offset, __u32 value);
void mmio_write64(void *bar, size_t offset, __u64 value);

/* Reads and writes of config space, by file */
__u32 config_read(int dev, unsigned int offset, unsigned int size);
void config_write(int dev, unsigned int offset, unsigned int size,
		  __u32 value);
/* The offset of the capability with that id, which must exist. */
__u8 config_capability(int dev, __u8 id);

/* Interrupts of a device */

#define IRQ_NONE	VFIO_IRQ_SET_DATA_NONE
#define IRQ_BOOL	VFIO_IRQ_SET_DATA_BOOL
#define IRQ_EVENTFD	VFIO_IRQ_SET_DATA_EVENTFD
#define IRQ_MASK	VFIO_IRQ_SET_ACTION_MASK
#define IRQ_UNMASK	VFIO_IRQ_SET_ACTION_UNMASK
#define IRQ_TRIGGER	VFIO_IRQ_SET_ACTION_TRIGGER

/* SET_IRQS with bytes of data */
int irq_set(int dev, __u32 index, __u32 flags, __u32 start, __u32 count,
	    const void *data, size_t size);
/* An eventfd that does not block */
int event_open(void);
/* Make a new eventfd the trigger of the first interrupt of that index. */
int irq_eventfd(int dev, __u32 index);
void irq_off(int dev, __u32 index);
/* How often it was signalled; waits for the first signal. */
__u64 signals(int fd, int timeout_ms);

/*
 * QEMU's edu: its registers are in BAR 0; DMA goes to and from the start of an
 * internal buffer. Both functions wait for the end of the DMA.
 */
#define EDU_IDENT	0x00	/* EDU_ID */
#define EDU_LIVE	0x04	/* the complement of what was written */
#define EDU_FACTORIAL	0x08
#define EDU_STATUS	0x20
#define EDU_STATUS_IRQ	0x80
#define EDU_IRQ_STATUS	0x24
#define EDU_IRQ_RAISE	0x60
#define EDU_IRQ_ACK	0x64

#define EDU_ID		0x010000ed
#define EDU_DMA_MAX	2048

void edu_read_from(void *bar, __u64 pa, __u32 size);
void edu_write_to(void *bar, __u64 pa, __u32 size);

#endif /* __SUITE_HARNESS_H */
