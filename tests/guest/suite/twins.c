// SPDX-License-Identifier: GPL-2.0-only
/*
 * Twins: two devices of the same kind, one with vfio-pci, the other with our
 * driver. The same is done to both, and the answers must be equal: results, errno,
 * output, and which eventfds were signalled.
 *
 * Stock kernels have no vfio-pci without an IOMMU, so this runs in a guest with
 * an intel-iommu that manages some devices (for vfio-pci, by group node) and not
 * others (ours); and on a kernel with noiommu cdevs.
 *
 * Devices: edu, NVMe, RTL8139.
 */
#include <dirent.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

#include "harness.h"

/* kernel log levels */
#define KERN_INFO	6

#define DEVICES		"/sys/bus/pci/devices"
#define MAX_VECTORS	65

/* Of the rtl8139: the command register, and the command that resets it */
#define RTL_COMMAND	0x37
#define RTL_RESET	0x10

#define THEIRS	0
#define OURS	1

struct twin {
	int dev;
	bool by_group;
	char bdf[32];
	__s32 trigger[MAX_VECTORS];
	__s32 unmask[MAX_VECTORS];
	struct vfio_region_info region[VFIO_PCI_NUM_REGIONS];
};

/* Finding and opening them */

static unsigned int read_hex(const char *bdf, const char *what)
{
	char path[320];

	snprintf(path, sizeof(path), DEVICES "/%.31s/%s", bdf, what);
	return read_number(path);
}

static bool has(const char *bdf, const char *what)
{
	char path[320];

	snprintf(path, sizeof(path), DEVICES "/%.31s/%s", bdf, what);
	return !access(path, F_OK);
}

/* Number of bridges above it */
static unsigned int depth(const char *bdf)
{
	char path[320], target[512], *at;
	unsigned int n = 0;
	ssize_t length;

	snprintf(path, sizeof(path), DEVICES "/%.31s", bdf);
	length = readlink(path, target, sizeof(target) - 1);
	expect(length > 0);
	target[length] = 0;
	for (at = strstr(target, "/pci"); at; at = strchr(at + 1, '/'))
		n++;
	return n;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void load_vfio_pci(void)
{
	pid_t pid;

	if (!access("/sys/bus/pci/drivers/vfio-pci", F_OK))
		return;
	pid = expect_ok(fork());
	if (!pid) {
		execl("/sbin/modprobe", "modprobe", "-a", "vfio-pci",
		      "vfio_iommu_type1", NULL);
		_exit(1);
	}
	join(pid);
}

static bool is_twin(const char *theirs, const char *ours)
{
	return strcmp(theirs, ours) && depth(theirs) == depth(ours) &&
	       has(theirs, "sriov_totalvfs") == has(ours, "sriov_totalvfs") &&
	       !has(ours, "iommu") && !driver_has(theirs);
}

/* The first two that are alike; theirs has an IOMMU if there is one. */
static void find_twins(struct twin *twins, unsigned int vendor,
		       unsigned int device)
{
	char bdfs[16][32];
	struct dirent **entries;
	int i, j, n, found = 0;
	bool iommu = false;

	n = scandir(DEVICES, &entries, NULL, by_name);
	expect(n > 0);
	for (i = 0; i < n && found < 16; i++) {
		const char *bdf = entries[i]->d_name;

		if (*bdf == '.' || read_hex(bdf, "vendor") != vendor ||
		    read_hex(bdf, "device") != device)
			continue;
		snprintf(bdfs[found++], 32, "%.31s", bdf);
		iommu |= has(bdf, "iommu");
	}
	for (i = 0; i < found; i++) {
		for (j = 0; j < found; j++) {
			if (has(bdfs[i], "iommu") != iommu ||
			    !is_twin(bdfs[i], bdfs[j]))
				continue;
			memcpy(twins[THEIRS].bdf, bdfs[i], 32);
			memcpy(twins[OURS].bdf, bdfs[j], 32);
			return;
		}
	}
	test_skip("the guest has no two devices %04x:%04x, one of them without an IOMMU",
		  vendor, device);
}

static const char *cdev_attribute(const char *name)
{
	static char path[80];

	snprintf(path, sizeof(path), "vfio-dev/%.60s/dev", name);
	return path;
}

static int open_cdev_of(const char *bdf, const char *node)
{
	char name[64], path[128];
	int dev, iommu;
	__u32 devid;

	expect(cdev_name(bdf, name, sizeof(name)));
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", name);
	dev = expect_ok(open(path, O_RDWR | O_CLOEXEC));
	iommu = expect_ok(open(node, O_RDWR | O_CLOEXEC));
	expect_ok(dev_bind(dev, iommu, &devid));
	return dev;
}

static void open_by_group(struct twin *t)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char path[128], name[64];
	int container, group;

	expect(device_link(t->bdf, "iommu_group", name, sizeof(name)));
	snprintf(path, sizeof(path), "/dev/vfio/%s", name);
	group = expect_ok(open(path, O_RDWR | O_CLOEXEC));
	container = expect_ok(open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC));
	expect_ok(ioctl(group, VFIO_GROUP_GET_STATUS, &status));
	expect(status.flags & VFIO_GROUP_FLAGS_VIABLE);
	expect_ok(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container));
	expect_ok(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	t->dev = expect_ok(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, t->bdf));
	t->by_group = true;
}

static void open_twins(struct twin *twins, unsigned int vendor,
		       unsigned int device)
{
	const char *node = access("/dev/noiommufd", F_OK) ? "/dev/iommu" :
							    "/dev/noiommufd";
	unsigned int i, j;
	char name[64];

	memset(twins, 0, 2 * sizeof(*twins));
	find_twins(twins, vendor, device);
	load_vfio_pci();
	/* The emulated IOMMU, if any, does not remap interrupts. */
	write_file("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
		   "1");
	driver_bind_to(twins[THEIRS].bdf, "vfio-pci");
	driver_bind(twins[OURS].bdf);
	/* Before Linux 6.6 it has an entry in sysfs but no node. */
	if (cdev_name(twins[THEIRS].bdf, name, sizeof(name)) &&
	    has(twins[THEIRS].bdf, cdev_attribute(name)))
		twins[THEIRS].dev = open_cdev_of(twins[THEIRS].bdf,
						 "/dev/iommu");
	else
		open_by_group(&twins[THEIRS]);
	twins[OURS].dev = open_cdev_of(twins[OURS].bdf, node);
	for (i = 0; i < 2; i++) {
		for (j = 0; j < MAX_VECTORS; j++) {
			twins[i].trigger[j] = event_open();
			twins[i].unmask[j] = event_open();
		}
		for (j = 0; j < VFIO_PCI_VGA_REGION_INDEX; j++)
			region_info(twins[i].dev, j, &twins[i].region[j]);
		config_write(twins[i].dev, 4, 2, 7);
	}
}

/* Comparing them */

static const char *answer(long ret, int err, char *text)
{
	if (ret == -1)
		snprintf(text, 32, "%s", strerrorname_np(err));
	else
		snprintf(text, 32, "%ld", ret);
	return text;
}

static unsigned long compared, succeeded;

#define compare(theirs, their_errno, ours, our_errno, fmt, ...) do {	\
	char _a[32], _b[32];						\
									\
	compared++;							\
	succeeded += (theirs) != -1;					\
	if ((theirs) != (ours) ||					\
	    ((theirs) == -1 && (their_errno) != (our_errno)))		\
		fail(fmt ": expected %s as vfio-pci says, got %s",	\
		     ##__VA_ARGS__, answer(theirs, their_errno, _a),	\
		     answer(ours, our_errno, _b));			\
} while (0)

/* Enough ioctls, some with an effect; otherwise this compares nothing. */
static void expect_compared(const char *what, unsigned long calls,
			    unsigned long good)
{
	printf("# %s: %lu calls compared, %lu of them successful\n", what,
	       compared, succeeded);
	fflush(stdout);
	if (compared < calls || succeeded < good)
		fail("%s: calls compared, and successful: expected %lu, %lu at least, got %lu, %lu",
		     what, calls, good, compared, succeeded);
	compared = 0;
	succeeded = 0;
}

/* Interrupts */

static long set_irqs(struct twin *t, __u32 argsz, __u32 flags, __u32 index,
		     __u32 start, __u32 count, size_t size)
{
	static __u8 buffer[PAGE];
	struct vfio_irq_set *set = (void *)buffer;

	set->argsz = argsz;
	set->flags = flags;
	set->index = index;
	set->start = start;
	set->count = count;
	if (flags & IRQ_EVENTFD)
		memcpy(set->data, flags & IRQ_UNMASK ? t->unmask : t->trigger,
		       size);
	else
		memset(set->data, 1, size);
	return ioctl(t->dev, VFIO_DEVICE_SET_IRQS, set);
}

static __u64 drain(const __s32 *fds)
{
	struct pollfd ready[MAX_VECTORS];
	__u64 seen = 0, count;
	unsigned int i;

	for (i = 0; i < MAX_VECTORS; i++)
		ready[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	if (!poll(ready, MAX_VECTORS, 0))
		return 0;
	for (i = 0; i < MAX_VECTORS; i++)
		if (ready[i].revents && read(fds[i], &count, 8) == 8)
			seen = seen * 31 + (i + 1) * count;
	return seen;
}

static void set_both(struct twin *twins, __u32 argsz, __u32 flags, __u32 index,
		     __u32 start, __u32 count, size_t size)
{
	long theirs, ours;
	int err;

	theirs = set_irqs(&twins[THEIRS], argsz, flags, index, start, count,
			  size);
	err = errno;
	ours = set_irqs(&twins[OURS], argsz, flags, index, start, count, size);
	compare(theirs, err, ours, errno,
		"SET_IRQS argsz=%u flags=%#x index=%u start=%u count=%u", argsz,
		flags, index, start, count);
	if (!ours && drain(twins[THEIRS].trigger) != drain(twins[OURS].trigger))
		fail("SET_IRQS flags=%#x index=%u start=%u count=%u: expected other signals",
		     flags, index, start, count);
}

/* Turn off whichever type is on. */
static void interrupts_off(struct twin *twins)
{
	__u32 index;

	for (index = 0; index < VFIO_PCI_ERR_IRQ_INDEX; index++)
		set_both(twins, 20, IRQ_NONE | IRQ_TRIGGER, index, 0, 0, 0);
	for (; index < VFIO_PCI_NUM_IRQS; index++)
		set_both(twins, 20, IRQ_NONE | IRQ_TRIGGER, index, 0, 0, 0);
	drain(twins[THEIRS].trigger);
	drain(twins[OURS].trigger);
}

static void sizes_of_set_irqs(struct twin *twins, __u32 flags, __u32 index,
			      __u32 start, __u32 count)
{
	__u32 each = flags & IRQ_EVENTFD ? 4 : flags & IRQ_BOOL ? 1 : 0;
	size_t size = count <= MAX_VECTORS ? each * count : 4 * MAX_VECTORS;

	set_both(twins, 20 + size, flags, index, start, count, size);
	if (!each)
		return;
	set_both(twins, 20 + size - 1, flags, index, start, count, size);
	set_both(twins, 20, flags, index, start, count, size);
}

/* @on: the type of interrupt that is enabled from time to time */
static void sweep_set_irqs(struct twin *twins, __u32 on, __u32 vectors)
{
	static const __u32 data[] = {
		0, IRQ_NONE, IRQ_BOOL, IRQ_EVENTFD, IRQ_NONE | IRQ_EVENTFD, 7,
	};
	static const __u32 action[] = {
		0, IRQ_MASK, IRQ_UNMASK, IRQ_TRIGGER, IRQ_MASK | IRQ_TRIGGER,
		0x38,
	};
	const __u32 counts[] = {
		0, 1, 2, vectors + 1, 0x40000000, U32_MAX,
	};
	const __u32 starts[] = { 0, 1, vectors, U32_MAX };
	const __u32 indexes[] = { 0, 1, 2, 3, 4, 5, 0x7fffffff, U32_MAX };
	unsigned int all = ARRAY_SIZE(data) * ARRAY_SIZE(action);
	unsigned int i, s, c, n;

	for (n = 0; n < all * ARRAY_SIZE(indexes); n++) {
		__u32 flags = data[n % ARRAY_SIZE(data)] |
			      action[n / ARRAY_SIZE(data) % ARRAY_SIZE(action)];

		if (on < VFIO_PCI_NUM_IRQS)
			set_both(twins, 24, IRQ_EVENTFD | IRQ_TRIGGER, on, 0,
				 1, 4);
		for (s = 0; s < ARRAY_SIZE(starts); s++)
			for (c = 0; c < ARRAY_SIZE(counts); c++)
				sizes_of_set_irqs(twins, flags,
						  indexes[n / all], starts[s],
						  counts[c]);
	}
	for (i = 6; i < 32; i++)
		set_both(twins, 24, IRQ_EVENTFD | IRQ_TRIGGER | 1U << i, 1, 0,
			 1, 4);
	for (i = 0; i < 20; i++)
		set_both(twins, i, IRQ_NONE | IRQ_TRIGGER, 1, 0, 1, 0);
	set_both(twins, U32_MAX, IRQ_EVENTFD | IRQ_TRIGGER, 1, 0, 1, 4);
}

static void set_one(struct twin *twins, __u32 action, __u32 index, __s32 fd)
{
	long theirs, ours;
	int err;

	theirs = irq_set(twins[THEIRS].dev, index, IRQ_EVENTFD | action, 0, 1,
			 &fd, 4);
	err = errno;
	ours = irq_set(twins[OURS].dev, index, IRQ_EVENTFD | action, 0, 1, &fd,
		       4);
	compare(theirs, err, ours, errno, "SET_IRQS action=%#x index=%u fd=%d",
		action, index, fd);
}

/* With nothing on, and then with each type of interrupt */
static void sweep_irqs(struct twin *twins, __u32 last, __u32 vectors)
{
	static const __s32 wrong[] = { -1, -2, 4711, 0x7fffffff, -0x7fffffff };
	__u32 index, action;
	unsigned int i;
	int file = expect_ok(open("/dev/zero", O_RDWR | O_CLOEXEC));

	sweep_set_irqs(twins, VFIO_PCI_NUM_IRQS, vectors);
	interrupts_off(twins);
	for (index = 0; index <= last; index++) {
		sweep_set_irqs(twins, index, vectors);
		interrupts_off(twins);
	}
	for (index = 0; index < VFIO_PCI_NUM_IRQS; index++) {
		for (action = IRQ_MASK; action <= IRQ_TRIGGER; action <<= 1) {
			set_one(twins, action, index, file);
			for (i = 0; i < ARRAY_SIZE(wrong); i++)
				set_one(twins, action, index, wrong[i]);
			interrupts_off(twins);
		}
	}
	close(file);
	expect_compared("SET_IRQS", 20000, 300);
}

/* Information */

static void compare_info(struct twin *twins, unsigned long request,
			 const char *name, __u32 argsz, unsigned int at,
			 __u32 index)
{
	__u8 out[2][128] = {};
	long ret[2];
	int err[2];
	int i;

	for (i = 0; i < 2; i++) {
		memcpy(out[i], &argsz, 4);
		if (at)
			memcpy(out[i] + at, &index, 4);
		ret[i] = ioctl(twins[i].dev, request, out[i]);
		err[i] = errno;
	}
	compare(ret[0], err[0], ret[1], err[1], "%s argsz=%u index=%u", name,
		argsz, index);
	if (memcmp(out[0], out[1], sizeof(out[0])))
		fail("%s argsz=%u index=%u: expected vfio-pci's data, got other data",
		     name, argsz, index);
}

static void sweep_info(struct twin *twins)
{
	static const __u32 sizes[] = {
		0, 1, 7, 8, 15, 16, 17, 20, 24, 31, 32, 33, 40, 48, 64, 128,
		4096, 0x80000000, U32_MAX,
	};
	static const __u32 indexes[] = {
		0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 100, 0x7fffffff, 0x80000000,
		U32_MAX,
	};
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		compare_info(twins, VFIO_DEVICE_GET_INFO, "GET_INFO", sizes[i],
			     0, 0);
		for (j = 0; j < ARRAY_SIZE(indexes); j++) {
			compare_info(twins, VFIO_DEVICE_GET_REGION_INFO,
				     "GET_REGION_INFO", sizes[i], 8,
				     indexes[j]);
			compare_info(twins, VFIO_DEVICE_GET_IRQ_INFO,
				     "GET_IRQ_INFO", sizes[i], 8, indexes[j]);
		}
	}
	expect_compared("information", 500, 90);
}

/* Eventfds that write to registers */

static void ioeventfd_both(struct twin *twins, __u32 argsz, __u32 flags,
			   __u64 offset, const __s32 *wrong)
{
	long ret[2];
	int err[2];
	int i;

	for (i = 0; i < 2; i++) {
		struct vfio_device_ioeventfd io = {
			.argsz = argsz, .flags = flags, .offset = offset,
			.fd = wrong ? *wrong : twins[i].trigger[0],
		};

		ret[i] = ioctl(twins[i].dev, VFIO_DEVICE_IOEVENTFD, &io);
		err[i] = errno;
	}
	compare(ret[0], err[0], ret[1], err[1],
		"IOEVENTFD argsz=%u flags=%#x offset=%#llx fd=%d", argsz, flags,
		offset, wrong ? *wrong : 0);
}

static void sweep_ioeventfd(struct twin *twins)
{
	static const __u32 flags[] = {
		0, 1, 2, 3, 4, 5, 8, 12, 15, 16, U32_MAX,
	};
	static const __u32 sizes[] = { 0, 27, 28, 31, 32, 33, U32_MAX };
	static const __s32 wrong[] = { -1, -2, 4711 };
	unsigned int f, r, o, i;

	for (f = 0; f < ARRAY_SIZE(flags); f++) {
		for (r = 0; r < 17; r++) {
			const __u64 end = r ? 0 : twins[0].region[0].size;
			const __u64 offsets[] = {
				0, 1, 2, 4, 8, end - 8, end - 4, end - 2,
				end - 1, end, end + 4, (1ULL << 40) - 1,
			};
			for (o = 0; o < ARRAY_SIZE(offsets); o++) {
				__u64 at = ((__u64)r << 40) + offsets[o];

				/* Added, already present, and removed */
				ioeventfd_both(twins, 32, flags[f], at, NULL);
				ioeventfd_both(twins, 32, flags[f], at, NULL);
				for (i = 0; i < ARRAY_SIZE(wrong); i++)
					ioeventfd_both(twins, 32, flags[f], at,
						       &wrong[i]);
			}
		}
	}
	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		ioeventfd_both(twins, sizes[i], 4, 16, NULL);
	expect_compared("IOEVENTFD", 9000, 10);
}

/* Regions, by pread() and pwrite() */

static void access_both(struct twin *twins, bool write, size_t count, __u64 at,
			bool same)
{
	static __u8 *buffer[2];
	long ret[2];
	int err[2];
	int i;

	for (i = 0; i < 2; i++) {
		/* A page, then a hole */
		if (!buffer[i]) {
			buffer[i] = mem(17 * PAGE);
			expect_ok(munmap(buffer[i] + 16 * PAGE, PAGE));
		}
		memset(buffer[i], 0, 256);
		if (write)
			ret[i] = pwrite(twins[i].dev, buffer[i], count, at);
		else
			ret[i] = pread(twins[i].dev, buffer[i], count, at);
		err[i] = errno;
	}
	compare(ret[0], err[0], ret[1], err[1],
		"%s of %zu bytes at %#llx of region %llu",
		write ? "write" : "read", count, at & ((1ULL << 40) - 1),
		at >> 40);
	if (same && ret[0] > 0 && memcmp(buffer[0], buffer[1],
					 ret[0] < 256 ? ret[0] : 256))
		fail("read of %zu bytes at %#llx of region %llu: expected other data",
		     count, at & ((1ULL << 40) - 1), at >> 40);
}

/* Registers up to @safe may be written to. */
static void sweep_access(struct twin *twins, __u64 safe, bool same)
{
	static const size_t counts[] = {
		0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 64, 4096, 0x20000, 0x7ffff000,
		SIZE_MAX / 2, SIZE_MAX,
	};
	unsigned int r, o, c;

	for (r = 0; r < 17; r++) {
		const __u64 end = r < VFIO_PCI_VGA_REGION_INDEX ?
			twins[0].region[r].size : 0;
		const __u64 offsets[] = {
			0, 1, 2, 3, 4, 6, end - 9, end - 8, end - 7, end - 4,
			end - 3, end - 2, end - 1, end, end + 1, end + 4,
			1 << 20, (1ULL << 40) - 4, (1ULL << 40) - 1,
		};

		for (o = 0; o < ARRAY_SIZE(offsets); o++) {
			const __u64 at = ((__u64)r << 40) + offsets[o];

			for (c = 0; c < ARRAY_SIZE(counts); c++) {
				/* Only a part of a BAR, because each word takes time. */
				if (counts[c] > 4096 && r < 6 &&
				    offsets[o] + 4096 < end)
					continue;
				access_both(twins, false, counts[c], at,
					    same && r < 6);
				if (offsets[o] + 4 < end &&
				    counts[c] > safe)
					continue;
				if (r == VFIO_PCI_CONFIG_REGION_INDEX &&
				    offsets[o] + counts[c] <= end)
					continue;
				access_both(twins, true, counts[c], at, false);
			}
		}
	}
	expect_compared("read and write", 3000, 500);
}

static void access_each(struct twin *twins)
{
	unsigned int r;

	for (r = 0; r < VFIO_PCI_VGA_REGION_INDEX; r++) {
		access_both(twins, false, 4, (__u64)r << 40, false);
		access_both(twins, true, 0, (__u64)r << 40, false);
		if (r < 6)
			access_both(twins, true, 1, (__u64)r << 40, false);
	}
}

static void both_command(struct twin *twins, __u16 command)
{
	config_write(twins[THEIRS].dev, 4, 2, command);
	config_write(twins[OURS].dev, 4, 2, command);
}

/* Memory, I/O and bus mastering, on and off; it ends with all of them on. */
static void sweep_command(struct twin *twins)
{
	__u16 command;

	for (command = 0; command < 8; command++) {
		both_command(twins, command);
		access_each(twins);
	}
	expect_compared("read and write while it is off", 150, 50);
}

/* Config space: which bits can be changed, by writes of each size */
static void sweep_config(struct twin *twins)
{
	unsigned int size, at;
	int i;

	for (size = 1; size <= 4; size *= 2) {
		for (at = 0; at < 256; at += size) {
			__u32 was, ones, zeros, changed[2];

			for (i = 0; i < 2; i++) {
				int dev = twins[i].dev;

				was = config_read(dev, at, size);
				config_write(dev, at, size, ~0U);
				ones = config_read(dev, at, size);
				config_write(dev, at, size, 0);
				zeros = config_read(dev, at, size);
				config_write(dev, at, size, was);
				changed[i] = ones ^ zeros;
			}
			compare((long)changed[0], 0, (long)changed[1], 0,
				"bits that can be changed at %#x of config space by writes of %u bytes",
				at, size);
		}
	}
	both_command(twins, 7);
	expect_compared("config space", 400, 400);
}

/* Mappings */

static void mmap_both(struct twin *twins, size_t size, int prot, int flags,
		      __u64 at)
{
	long ret[2];
	int err[2];
	int i;

	for (i = 0; i < 2; i++) {
		void *va = mmap(NULL, size, prot, flags, twins[i].dev, at);

		ret[i] = va == MAP_FAILED ? -1 : 0;
		err[i] = errno;
		if (va != MAP_FAILED)
			expect_ok(munmap(va, size));
	}
	compare(ret[0], err[0], ret[1], err[1],
		"mmap of %#zx bytes, prot %d, flags %#x, at %#llx of region %llu",
		size, prot, flags, at & ((1ULL << 40) - 1), at >> 40);
}

static void sweep_mmap(struct twin *twins)
{
	static const int flags[] = {
		MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE, 0,
		MAP_SHARED | MAP_LOCKED, MAP_SHARED_VALIDATE | MAP_SYNC,
	};
	static const int prots[] = {
		PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_EXEC,
		PROT_READ | PROT_WRITE | PROT_EXEC,
	};
	/* A file without a node in a file system may be "noexec". */
	unsigned int nr_prots = twins[THEIRS].by_group ? 3 : 5;
	unsigned int r, o, s, p, f;

	for (r = 0; r < 11; r++) {
		const __u64 end = r < VFIO_PCI_VGA_REGION_INDEX ?
			(twins[0].region[r].size + PAGE - 1) & -PAGE : 0;
		const __u64 offsets[] = {
			0, 1, 256, PAGE, 2 * PAGE, end - PAGE, end, end + PAGE,
			(1ULL << 40) - PAGE,
		};
		const size_t sizes[] = {
			0, 1, PAGE, PAGE + 1, 2 * PAGE, end, end + 1,
			end + PAGE, 1ULL << 32, SIZE_MAX - PAGE, SIZE_MAX,
		};

		for (o = 0; o < ARRAY_SIZE(offsets); o++)
			for (s = 0; s < ARRAY_SIZE(sizes); s++)
				for (p = 0; p < nr_prots; p++)
					for (f = 0; f < ARRAY_SIZE(flags); f++)
						mmap_both(twins, sizes[s],
							  prots[p], flags[f],
							  ((__u64)r << 40) + offsets[o]);
	}
	expect_compared("mmap", 10000, 40);
}

static sigjmp_buf trap;

static void on_signal(int signal)
{
	siglongjmp(trap, signal);
}

/* The signal that it gets, 0: none */
static long touch(const void *va)
{
	int signal = sigsetjmp(trap, 1);

	if (!signal)
		mmio_read32(va, 0);
	return signal;
}

static long touch_in_child(const void *va)
{
	int status;
	pid_t pid;

	pid = expect_ok(fork());
	if (!pid)
		_exit(touch(va));
	expect_ok(waitpid(pid, &status, 0));
	expect(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* What a child finds that was forked before memory decoding went off */
static long touch_in_elder_child(const struct twin *t, const void *va)
{
	int go[2], status;
	char byte = 0;
	pid_t pid;

	expect_ok(pipe(go));
	pid = expect_ok(fork());
	if (!pid) {
		expect_eq(read(go[0], &byte, 1), 1);
		_exit(touch(va));
	}
	config_write(t->dev, 4, 2, 5);
	expect_eq(write(go[1], &byte, 1), 1);
	expect_ok(waitpid(pid, &status, 0));
	expect(WIFEXITED(status));
	config_write(t->dev, 4, 2, 7);
	close(go[0]);
	close(go[1]);
	return WEXITSTATUS(status);
}

#define STEPS	10

/* Mappings that are revoked and restored */
static void sweep_faults(struct twin *twins)
{
	struct sigaction action = { .sa_handler = on_signal };
	long got[2][STEPS];
	int i, step;

	expect_ok(sigaction(SIGBUS, &action, NULL));
	for (i = 0; i < 2; i++) {
		struct twin *t = &twins[i];
		char *va = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED,
				t->dev, t->region[0].offset);
		long *to = got[i];

		expect(va != MAP_FAILED);
		*to++ = touch(va);
		*to++ = touch_in_child(va);
		config_write(t->dev, 4, 2, 5);
		*to++ = touch(va);
		*to++ = touch_in_child(va);
		config_write(t->dev, 4, 2, 7);
		*to++ = touch(va);
		/* Some kernels lose track of what fork() copied, with either driver. */
		*to++ = touch_in_elder_child(t, va);
		*to++ = touch(va);
		expect_ok(munmap(va + PAGE, PAGE));
		config_write(t->dev, 4, 2, 5);
		*to++ = touch(va);
		*to++ = touch(va + 2 * PAGE);
		config_write(t->dev, 4, 2, 7);
		*to++ = touch(va + 2 * PAGE);
	}
	for (step = 0; step < STEPS; step++)
		compare(got[0][step], 0, got[1][step], 0,
			"the signal of step %d", step);
	expect_compared("mappings that are taken away", STEPS, STEPS);
}

/* Opening one may take seconds if its bus is reset, so do it once. */

TEST_LIMIT(edu, 240)
{
	struct twin twins[2];

	open_twins(twins, 0x1234, 0x11e8);
	sweep_irqs(twins, VFIO_PCI_MSI_IRQ_INDEX, 1);
	sweep_info(twins);
	sweep_ioeventfd(twins);
	sweep_access(twins, 4, true);
	sweep_config(twins);
	sweep_mmap(twins);
	sweep_faults(twins);
}

TEST_LIMIT(nvme, 240)
{
	struct twin twins[2];

	open_twins(twins, 0x1b36, 0x0010);
	sweep_irqs(twins, VFIO_PCI_MSIX_IRQ_INDEX, 3);
	/* All of its vectors, and one too many */
	set_both(twins, 20 + 4 * 65, IRQ_EVENTFD | IRQ_TRIGGER, 2, 0, 65,
		 4 * 65);
	set_both(twins, 20 + 65, IRQ_BOOL | IRQ_TRIGGER, 2, 0, 65, 65);
	set_both(twins, 20 + 4 * 65, IRQ_EVENTFD | IRQ_TRIGGER, 2, 1, 65,
		 4 * 65);
	expect_compared("SET_IRQS of all vectors", 3, 2);
	interrupts_off(twins);
	sweep_info(twins);
	sweep_access(twins, 4, false);
	sweep_command(twins);
	sweep_config(twins);
	sweep_mmap(twins);
}

TEST_LIMIT(rtl8139, 240)
{
	const __u8 reset = RTL_RESET;
	struct twin twins[2];
	int i;

	open_twins(twins, 0x10ec, 0x8139);
	sweep_info(twins);
	sweep_access(twins, 4, false);
	sweep_command(twins);
	sweep_config(twins);
	sweep_mmap(twins);
	/* Their station addresses differ by now, and they have no function reset. */
	for (i = 0; i < 2; i++) {
		bus_master(twins[i].dev, false);
		expect_eq(pwrite(twins[i].dev, &reset, 1, RTL_COMMAND +
				 twins[i].region[VFIO_PCI_BAR1_REGION_INDEX].offset),
			  1);
	}
}

/* The driver, on a machine that has an IOMMU */

TEST(device_of_an_iommu_is_refused)
{
	unsigned long long log;
	struct twin twins[2];
	char path[320];

	memset(twins, 0, sizeof(twins));
	find_twins(twins, 0x1234, 0x11e8);
	if (!has(twins[THEIRS].bdf, "iommu"))
		test_skip("the guest has no IOMMU");

	log = kmsg_mark();
	snprintf(path, sizeof(path), DEVICES "/%.31s/driver/unbind",
		 twins[THEIRS].bdf);
	write_file(path, "%s", twins[THEIRS].bdf);
	snprintf(path, sizeof(path), DEVICES "/%.31s/driver_override",
		 twins[THEIRS].bdf);
	expect_ok(write_file(path, "%s", driver_name()));
	expect_ok(write_file("/sys/bus/pci/drivers_probe", "%s",
			     twins[THEIRS].bdf));
	expect(!driver_has(twins[THEIRS].bdf));
	expect_eq(kmsg_count(log, KERN_INFO, twins[THEIRS].bdf,
			     "use vfio-pci"), 1);
}
