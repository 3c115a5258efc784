// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ioctls of the Linux 7.3 noiommu cdev that a user-space driver needs, in
 * the order in which it needs them:
 *
 *	open /dev/iommu, open the device's cdev
 *	VFIO_DEVICE_BIND_IOMMUFD	the device joins the context
 *	IOMMU_IOAS_ALLOC		an IO address space (IOAS)
 *	VFIO_DEVICE_ATTACH_IOMMUFD_PT	the device is given it
 *	IOMMU_IOAS_MAP			memory is pinned, and gets an IOVA
 *	IOMMU_IOAS_NOIOMMU_GET_PA	physical addresses, for the device
 *	NOIOMMUFD_IOAS_GET_PA_RUNS	many of them at once, where it exists
 *
 * Without an IOMMU an IOVA is only a name: the device is given physical
 * addresses, and can reach all memory of the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/pci_regs.h>
#include <noiommufd/iommufd.h>
#include <noiommufd/vfio.h>

#include "noiommu.h"

#define NODE	"/dev/iommu"
#define PCI	"/sys/bus/pci/devices"
#define MODULE	"/sys/module/noiommu_vfio_pci"
#define UNSAFE	MODULE "/parameters/enable_unsafe_noiommu_mode"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

#define fail(err, fmt, ...)						\
	(fprintf(stderr, fmt "\n", ##__VA_ARGS__), -(err))

/*
 * The command after which the driver takes devices. A module that is loaded does
 * not get the parameter from modprobe any more.
 */
static const char *take_devices(void)
{
	return access(MODULE, F_OK) ?
	       "modprobe noiommu-vfio-pci enable_unsafe_noiommu_mode=1" :
	       "echo 1 > " UNSAFE;
}

/* Nothing was found for @bdf: say which step is missing. */
static int not_bound(const char *bdf)
{
	char path[128], target[256];
	ssize_t n;

	if (!bdf)
		return fail(ENODEV,
			    "No device is bound to noiommu-vfio-pci. As root:\n"
			    "  %s\n"
			    "  driverctl set-override 0000:BB:DD.F noiommu-vfio-pci",
			    take_devices());

	snprintf(path, sizeof(path), PCI "/%s", bdf);
	if (access(path, F_OK))
		return fail(ENODEV,
			    "There is no PCI device %s: `lspci -D` lists those there are.",
			    bdf);

	snprintf(path, sizeof(path), PCI "/%s/driver", bdf);
	n = readlink(path, target, sizeof(target) - 1);
	target[n < 0 ? 0 : n] = '\0';
	return fail(ENODEV,
		    "%s is bound to %s, not to noiommu-vfio-pci. As root:\n"
		    "  %s\n"
		    "  driverctl set-override %s noiommu-vfio-pci\n"
		    "or, without driverctl, in place of the last line:\n"
		    "  echo %s > " PCI "/%s/driver/unbind\n"
		    "  echo noiommu-vfio-pci > " PCI "/%s/driver_override\n"
		    "  echo %s > /sys/bus/pci/drivers_probe\n"
		    "If the driver refuses it, `dmesg` says why.",
		    bdf, n < 0 ? "no driver" : basename(target),
		    take_devices(), bdf, bdf, bdf, bdf, bdf);
}

/*
 * The cdev's name stands in sysfs, below the device. Without a @bdf take the
 * only device that has one.
 */
static int find_cdev(const char *bdf, char *out_bdf, size_t bdf_size,
		     char *node, size_t node_size)
{
	char pattern[128], full[16];
	glob_t found;
	int rc = 0;

	/* lspci leaves the domain out. */
	if (bdf && strlen(bdf) == strlen("00:05.0")) {
		snprintf(full, sizeof(full), "0000:%s", bdf);
		bdf = full;
	}
	snprintf(pattern, sizeof(pattern), PCI "/%s/vfio-dev/noiommu-vfio*",
		 bdf ? bdf : "*");

	if (glob(pattern, 0, NULL, &found))
		return not_bound(bdf);

	if (found.gl_pathc > 1) {
		rc = fail(ENOTUNIQ,
			  "%zu devices are in noiommu mode: say which one with --device 0000:BB:DD.F.",
			  found.gl_pathc);
	} else {
		char *path = found.gl_pathv[0] + sizeof(PCI);

		snprintf(out_bdf, bdf_size, "%.*s",
			 (int)strcspn(path, "/"), path);
		snprintf(node, node_size, "/dev/vfio/devices/%s",
			 basename(found.gl_pathv[0]));
	}
	globfree(&found);
	return rc;
}

static bool has_rawio(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	return !syscall(SYS_capget, &header, data) &&
	       data[0].effective >> CAP_SYS_RAWIO & 1;
}

/* The node is not there: the module is not, or this /dev is another one. */
static int no_node(const char *path, bool is_device)
{
	if (is_device || !access("/sys/class/misc/iommu", F_OK))
		return fail(ENOENT,
			    "%s is there, but not in this /dev: a container needs it as --device, and a service that has it cannot have PrivateDevices=yes.",
			    path);
	if (!access("/sys/class/misc/noiommufd", F_OK))
		return fail(ENOENT,
			    "%s is not there: `modprobe iommufd`, and run this by `noiommufd-run`.",
			    path);
	return fail(ENOENT,
		    "%s is not there: load the modules with `modprobe noiommu-vfio-pci enable_unsafe_noiommu_mode=1`.",
		    path);
}

static int open_node(const char *path, bool is_device)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat node = { 0 };

	if (fd >= 0)
		return fd;
	switch (errno) {
	case ENOENT:
	case ENXIO:
		return no_node(path, is_device);
	case EPERM:
		if (is_device && !has_rawio())
			return fail(EPERM,
				    "%s needs CAP_SYS_RAWIO: run this as root, or give the program the capability (setcap, AmbientCapabilities= of a service, --cap-add of a container).",
				    path);
		return fail(EPERM,
			    "%s is kept from this program%s by its device cgroup: allow it (DeviceAllow= of a service, --device of a container).",
			    path,
			    is_device ?
			    " by a user namespace, in which CAP_SYS_RAWIO does not count, or" :
			    "");
	case EACCES:
		stat(path, &node);
		return fail(EACCES,
			    "You may not open %s, which has mode %04o, user %u and group %u: run this as root, and not in a user namespace, or as a member of that group.",
			    path, node.st_mode & 07777, node.st_uid,
			    node.st_gid);
	default:
		return fail(errno, "Cannot open %s: %m.", path);
	}
}

static int bind_and_attach(struct noiommu_dev *dev)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind),
		.iommufd = dev->iommufd,
	};
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
	};

	if (ioctl(dev->fd, VFIO_DEVICE_BIND_IOMMUFD, &bind)) {
		if (errno == EBADFD)
			return fail(EBADFD,
				    "%s is the kernel's own and knows no noiommu devices: run this by `noiommufd-run`, or with /dev/noiommufd in its place.",
				    NODE);
		if (errno == EBUSY || errno == EINVAL)
			return fail(errno,
				    "%s is in use: stop the other program that has it open.",
				    dev->bdf);
		return fail(errno, "Cannot bind %s to " NODE ": %m.",
			    dev->bdf);
	}
	if (ioctl(dev->iommufd, IOMMU_IOAS_ALLOC, &alloc))
		return fail(errno, "Cannot make an IO address space: %m.");
	dev->ioas_id = alloc.out_ioas_id;

	attach.pt_id = dev->ioas_id;
	if (ioctl(dev->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
		return fail(errno,
			    "Cannot attach %s to its IO address space: %m.",
			    dev->bdf);
	return 0;
}

/**
 * noiommu_open() - Take a device, with an IO address space of its own.
 * @dev: filled in
 * @bdf: PCI address, or NULL for the only device in noiommu mode
 */
int noiommu_open(struct noiommu_dev *dev, const char *bdf)
{
	char node[64];
	int rc;

	*dev = (struct noiommu_dev){ .iommufd = -1, .fd = -1 };
	dev->iommufd = open_node(NODE, false);
	if (dev->iommufd < 0)
		return dev->iommufd;

	rc = find_cdev(bdf, dev->bdf, sizeof(dev->bdf), node, sizeof(node));
	if (!rc) {
		dev->fd = open_node(node, true);
		rc = dev->fd < 0 ? dev->fd : bind_and_attach(dev);
	}
	if (rc)
		noiommu_close(dev);
	return rc;
}

/**
 * noiommu_close() - Give the device back.
 * @dev: device
 *
 * The kernel turns bus mastering off and resets the device, and unpins the
 * memory only then. It does the same when the program dies.
 */
void noiommu_close(struct noiommu_dev *dev)
{
	if (dev->fd >= 0)
		close(dev->fd);
	if (dev->iommufd >= 0)
		close(dev->iommufd);
	dev->fd = -1;
	dev->iommufd = -1;
}

static int not_mapped(int err, size_t len)
{
	struct rlimit limit;

	if (err != ENOMEM || getrlimit(RLIMIT_MEMLOCK, &limit) ||
	    limit.rlim_cur == RLIM_INFINITY)
		return fail(err, "Cannot map %zu KiB for DMA: %s.", len >> 10,
			    strerror(err));
	return fail(ENOMEM,
		    "Cannot pin %zu KiB: more than this user's limit for locked memory, %llu KiB, or than the machine has. Raise the limit (`ulimit -l`, LimitMEMLOCK= of a service, --ulimit memlock= of a container), or use less.",
		    len >> 10, (unsigned long long)limit.rlim_cur >> 10);
}

/**
 * noiommu_map() - Pin memory for DMA in both directions.
 * @dev: device
 * @va: page aligned
 * @len: a multiple of the page size
 * @iova: out: its name in the IO address space; the kernel picks it
 */
int noiommu_map(struct noiommu_dev *dev, void *va, size_t len, __u64 *iova)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = dev->ioas_id,
		.user_va = (uintptr_t)va,
		.length = len,
	};

	if (ioctl(dev->iommufd, IOMMU_IOAS_MAP, &map))
		return not_mapped(errno, len);
	*iova = map.iova;
	return 0;
}

/* Where is it, and how many bytes from there are physically contiguous? */
static int get_pa(struct noiommu_dev *dev, __u64 iova, __u64 len, __u64 *pa,
		  __u64 *run)
{
	struct iommu_ioas_noiommu_get_pa get = {
		.size = sizeof(get),
		.ioas_id = dev->ioas_id,
		.iova = iova,
		.length = len,
	};

	dev->get_pa_calls++;
	if (ioctl(dev->iommufd, IOMMU_IOAS_NOIOMMU_GET_PA, &get))
		return -errno;
	*pa = get.out_phys;
	*run = get.length;
	return 0;
}

/* The same for a range: see noiommu_translate(). */
static int get_pa_runs(struct noiommu_dev *dev, __u64 iova, __u64 *len,
		       struct noiommufd_run *runs, __u32 *num)
{
	struct noiommufd_ioas_get_pa_runs get = {
		.size = sizeof(get),
		.ioas_id = dev->ioas_id,
		.num_runs = *num,
		.iova = iova,
		.length = *len,
		.runs = (uintptr_t)runs,
	};

	dev->get_pa_runs_calls++;
	if (ioctl(dev->iommufd, NOIOMMUFD_IOAS_GET_PA_RUNS, &get))
		return -errno;
	*num = get.num_runs;
	*len = get.length;
	return 0;
}

/* With what every kernel has: an ioctl for each run of each mapping. */
static int get_pa_loop(struct noiommu_dev *dev, __u64 iova, __u64 *len,
		       struct noiommufd_run *runs, __u32 *num)
{
	__u64 pa = 0, run = 0, done = 0;
	__u32 nr = 0;
	int rc;

	while (done < *len) {
		rc = get_pa(dev, iova + done, *len - done, &pa, &run);
		if (rc && !nr)
			return rc;
		if (rc)
			break;
		if (nr && runs[nr - 1].phys + runs[nr - 1].length == pa) {
			runs[nr - 1].length += run;
		} else {
			if (nr == *num)
				break;
			runs[nr].phys = pa;
			runs[nr].length = run;
			nr++;
		}
		done += run;
	}
	*num = nr;
	*len = done;
	return 0;
}

/**
 * noiommu_translate() - Find the physical addresses of a range.
 * @dev: device
 * @iova: anywhere inside a mapping
 * @len: in: how far to look, not 0; out: how far the answer goes
 * @runs: out: what is physically contiguous, one after the other
 * @num: in: room at @runs, not 0; out: entries used
 *
 * Less than asked for comes back when the room is used up, or where nothing is
 * mapped: go on at @iova + @len. This is how a program uses
 * NOIOMMUFD_IOAS_GET_PA_RUNS where it exists, and does without elsewhere.
 */
int noiommu_translate(struct noiommu_dev *dev, __u64 iova, __u64 *len,
		      struct noiommufd_run *runs, __u32 *num)
{
	int rc = -ENOTTY;

	if (dev->has_runs != NOIOMMU_RUNS_NO) {
		rc = get_pa_runs(dev, iova, len, runs, num);
		dev->has_runs = rc == -ENOTTY ? NOIOMMU_RUNS_NO :
						NOIOMMU_RUNS_YES;
	}
	if (rc == -ENOTTY)
		rc = get_pa_loop(dev, iova, len, runs, num);
	if (rc == -EPERM)
		return fail(EPERM,
			    "Physical addresses need CAP_SYS_RAWIO: run this as root, or give the program the capability.");
	return rc ? fail(-rc, "No physical address for IOVA %#llx: %s.", iova,
			 strerror(-rc)) : 0;
}

/**
 * noiommu_map_pages() - Map memory, and translate all of it once.
 * @dev: device
 * @va: page aligned
 * @len: a multiple of the page size
 * @page_size: the device's, at most that of the machine
 * @iova: out: as in noiommu_map()
 * @pa: out: an address for each @page_size bytes
 *
 * The answers stay true until the memory is unmapped: it is pinned, so a
 * driver need not ask again.
 */
int noiommu_map_pages(struct noiommu_dev *dev, void *va, size_t len,
		      size_t page_size, __u64 *iova, __u64 *pa)
{
	struct noiommufd_run runs[256];
	__u64 part, done, i;
	__u32 num, n;
	int rc;

	rc = noiommu_map(dev, va, len, iova);
	for (done = 0; !rc && done < len; done += part) {
		part = len - done;
		num = ARRAY_SIZE(runs);
		rc = noiommu_translate(dev, *iova + done, &part, runs, &num);
		if (rc)
			break;
		for (n = 0; n < num; n++)
			for (i = 0; i < runs[n].length; i += page_size)
				*pa++ = runs[n].phys + i;
	}
	return rc;
}

static int region_info(struct noiommu_dev *dev, unsigned int index,
		       struct vfio_region_info *info)
{
	*info = (struct vfio_region_info){
		.argsz = sizeof(*info),
		.index = index,
	};
	if (ioctl(dev->fd, VFIO_DEVICE_GET_REGION_INFO, info))
		return fail(errno, "Region %u of %s: %m.", index, dev->bdf);
	return 0;
}

/**
 * noiommu_bus_master() - Let the device access memory, or not.
 * @dev: device
 * @on: yes or no
 */
int noiommu_bus_master(struct noiommu_dev *dev, bool on)
{
	struct vfio_region_info config;
	__u16 command;
	off_t where;
	int rc;

	rc = region_info(dev, VFIO_PCI_CONFIG_REGION_INDEX, &config);
	if (rc)
		return rc;
	where = config.offset + PCI_COMMAND;

	/* x86 and arm64: config space and we are both little endian. */
	if (pread(dev->fd, &command, sizeof(command), where) !=
	    sizeof(command))
		return fail(EIO, "Cannot read config space of %s.", dev->bdf);
	command &= ~PCI_COMMAND_MASTER;
	command |= PCI_COMMAND_MEMORY | (on ? PCI_COMMAND_MASTER : 0);
	if (pwrite(dev->fd, &command, sizeof(command), where) !=
	    sizeof(command))
		return fail(EIO, "Cannot write config space of %s.", dev->bdf);
	return 0;
}

/**
 * noiommu_map_bar() - Map a BAR into this process.
 * @dev: device
 * @index: 0 to 5
 * @bar: out
 * @len: out: its length in bytes
 */
int noiommu_map_bar(struct noiommu_dev *dev, unsigned int index, void **bar,
		    size_t *len)
{
	struct vfio_region_info info;
	int rc;

	rc = region_info(dev, VFIO_PCI_BAR0_REGION_INDEX + index, &info);
	if (rc)
		return rc;
	if (!(info.flags & VFIO_REGION_INFO_FLAG_MMAP))
		return fail(ENODEV, "BAR %u of %s is not memory.", index,
			    dev->bdf);
	*bar = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED,
		    dev->fd, info.offset);
	if (*bar == MAP_FAILED)
		return fail(errno, "Cannot map BAR %u of %s: %m.", index,
			    dev->bdf);
	*len = info.size;
	return 0;
}

/**
 * noiommu_msix() - Turn on MSI-X, each vector with an eventfd.
 * @dev: device
 * @eventfds: out: one for each vector, non-blocking
 * @want: vectors
 */
int noiommu_msix(struct noiommu_dev *dev, int *eventfds, unsigned int want)
{
	char buf[sizeof(struct vfio_irq_set) + 16 * sizeof(int)];
	struct vfio_irq_set *set = (struct vfio_irq_set *)buf;
	struct vfio_irq_info info = {
		.argsz = sizeof(info),
		.index = VFIO_PCI_MSIX_IRQ_INDEX,
	};
	unsigned int i;

	if (ioctl(dev->fd, VFIO_DEVICE_GET_IRQ_INFO, &info))
		return fail(errno, "Interrupts of %s: %m.", dev->bdf);
	if (want > 16 || info.count < want)
		return fail(ENOSPC,
			    "%s has %u MSI-X vectors, %u are needed.",
			    dev->bdf, info.count, want);

	for (i = 0; i < want; i++) {
		eventfds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (eventfds[i] < 0)
			return fail(errno, "Cannot make an eventfd: %m.");
	}

	*set = (struct vfio_irq_set){
		.argsz = sizeof(*set) + want * sizeof(int),
		.flags = VFIO_IRQ_SET_DATA_EVENTFD |
			 VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_MSIX_IRQ_INDEX,
		.count = want,
	};
	memcpy(set->data, eventfds, want * sizeof(int));
	if (ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, set))
		return fail(errno, "Cannot turn on MSI-X of %s: %m.",
			    dev->bdf);
	return 0;
}
