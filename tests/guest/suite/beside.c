// SPDX-License-Identifier: GPL-2.0-only
/*
 * Our driver beside the kernel's vfio: which nodes each of them has, depending on
 * the kernel's configuration (the table in docs/noiommu.md), and both in use at
 * the same time, in one set of devices that are reset together.
 */
#include <sys/stat.h>
#include <sys/wait.h>

#include "harness.h"

#define SYSFS		"/sys/bus/pci/devices/"
#define VFIO_UNSAFE	"/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
/* The kernel's iommufd, if ours is bind-mounted over /dev/iommu. */
#define KERNEL_IOMMU	"/dev/kernel/iommu"

#define KERN_NOTICE	5

#define BAR		VFIO_PCI_BAR4_REGION_INDEX
#define STATUS		0x14
#define ACKNOWLEDGE	1

static const char * const pairs[][2] = {
	{ "0000:02:00.0", "0000:02:00.1" },
	{ "0000:03:01.0", "0000:03:02.0" },
};

/* The kernel's configuration */

enum option { UNKNOWN, OFF, ON };

static enum option option(const char *name)
{
	enum option found = UNKNOWN;
	char line[256], on[64], off[64];
	FILE *config;

	snprintf(on, sizeof(on), "CONFIG_%s=", name);
	snprintf(off, sizeof(off), "# CONFIG_%s is not set\n", name);
	config = popen("cat /kernel.config 2>/dev/null || zcat /proc/config.gz",
		       "re");
	expect(config);
	while (fgets(line, sizeof(line), config)) {
		if (!strncmp(line, on, strlen(on)))
			found = ON;
		else if (!strcmp(line, off))
			found = OFF;
	}
	pclose(config);
	return found;
}

struct kernel {
	bool group, container, cdev, noiommu, iommufd, native;
	unsigned int number;		/* of the case in the table */
};

static void kernel_of(struct kernel *k)
{
	enum option group = option("VFIO_GROUP");

	if (option("PCI") != ON)
		test_skip("the guest does not know how its kernel was configured");
	/* Older kernels have no such option. */
	k->group = group == ON ||
		   (group == UNKNOWN && option("VFIO_DEVICE_CDEV") == UNKNOWN);
	k->container = option("VFIO_CONTAINER") == ON ||
		       option("IOMMUFD_VFIO_CONTAINER") == ON ||
		       (group == UNKNOWN && k->group);
	k->cdev = option("VFIO_DEVICE_CDEV") == ON;
	k->noiommu = option("VFIO_NOIOMMU") == ON;
	k->iommufd = option("IOMMUFD") == ON;
	k->native = option("IOMMUFD_NOIOMMU") == ON;
	if (!k->group)
		k->number = k->cdev ? 5 : 6;
	else if (k->container)
		k->number = k->cdev ? 3 : 1;
	else
		k->number = k->cdev ? 4 : 2;
}

/* The kernel's own driver */

static void run(const char *command)
{
	int status = system(command);

	if (status)
		fail("%s: expected success, got status %d", command, status);
}

static void vfio_unsafe(bool on)
{
	if (!access(VFIO_UNSAFE, F_OK))
		expect_ok(write_file(VFIO_UNSAFE, on ? "Y" : "N"));
}

static bool bound_to_vfio_pci(const char *bdf)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/vfio-pci/%s", bdf);
	return !access(path, F_OK);
}

/* Offer the device to vfio-pci: is it taken? */
static bool give_to_vfio_pci(const char *bdf)
{
	char path[128];

	if (access("/sys/bus/pci/drivers/vfio-pci", F_OK))
		run("modprobe vfio-pci");
	vfio_unsafe(true);
	if (driver_has(bdf))
		driver_unbind(bdf);
	snprintf(path, sizeof(path), SYSFS "%s/driver_override", bdf);
	expect_ok(write_file(path, "vfio-pci"));
	expect_ok(write_file("/sys/bus/pci/drivers_probe", "%s", bdf));
	return bound_to_vfio_pci(bdf);
}

static void take_back(const char *bdf)
{
	char path[128];

	if (bound_to_vfio_pci(bdf))
		driver_unbind(bdf);
	snprintf(path, sizeof(path), SYSFS "%s/driver_override", bdf);
	expect_ok(write_file(path, "\n"));
	vfio_unsafe(false);
}

/* "/dev/vfio/noiommu-0"; false: the device has no group. */
static bool group_path(const char *bdf, char *path, size_t size)
{
	char group[64];

	if (!device_link(bdf, "iommu_group", group, sizeof(group)))
		return false;
	snprintf(path, size, "/dev/vfio/noiommu-%s", group);
	return true;
}

static bool is_node(const char *path)
{
	struct stat it;

	return !stat(path, &it) && S_ISCHR(it.st_mode);
}

static bool has_group_node(const char *bdf)
{
	char path[128];

	return group_path(bdf, path, sizeof(path)) && is_node(path);
}

static bool has_cdev_node(const char *bdf)
{
	char name[64], path[128];

	if (!cdev_name(bdf, name, sizeof(name)))
		return false;
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", name);
	if (!is_node(path))
		return false;
	expect_eq(strncmp(name, "noiommu-vfio", 12), 0);
	return true;
}

TEST(nodes_by_configuration)
{
	struct kernel k;
	bool taken;

	if (on_mainline())
		test_skip("it is about ours beside mainline's");
	kernel_of(&k);
	printf("# case %u, VFIO_NOIOMMU %s, IOMMUFD_NOIOMMU %s\n", k.number,
	       k.noiommu ? "on" : "off", k.native ? "on" : "off");
	fflush(stdout);
	/* Not offered without a usable node */
	if (k.noiommu)
		expect(k.number == 1 || k.number == 3 || k.number == 5);
	expect_eq(!access(VFIO_UNSAFE, F_OK), k.noiommu);

	taken = give_to_vfio_pci(edu());
	expect_eq(taken, k.noiommu && (k.group || k.native));
	expect_eq(has_group_node(edu()), taken && k.group);
	expect_eq(has_cdev_node(edu()), taken && k.cdev && k.native);
	take_back(edu());

	/* Ours in every case */
	driver_bind(edu());
	expect(has_cdev_node(edu()));
	expect(!has_group_node(edu()));
}

/* Our devices cannot use the kernel's iommufd. */
TEST(kernels_own_iommufd)
{
	struct stat ours, kernels;
	unsigned long long log;
	struct kernel k;
	int dev, fd;
	__u32 devid;

	if (on_mainline())
		test_skip("it is about ours beside mainline's");
	kernel_of(&k);
	expect_eq(!access("/dev/noiommufd", F_OK), k.iommufd);
	if (!k.iommufd)
		return;
	/* What a program finds under the usual name, and what that hides */
	expect_ok(stat("/dev/iommu", &ours));
	expect_ok(stat(KERNEL_IOMMU, &kernels));
	expect(ours.st_rdev != kernels.st_rdev);

	fd = expect_ok(open(KERNEL_IOMMU, O_RDWR));
	dev = cdev_open(edu());
	log = kmsg_mark();
	expect_errno(dev_bind(dev, fd, &devid), EBADFD);
	/* Which one it should have been */
	expect_eq(kmsg_count(log, KERN_NOTICE, "open /dev/noiommufd instead",
			     NULL), 1);
	close(fd);
	fd = expect_ok(open("/dev/iommu", O_RDWR));
	expect_ok(dev_bind(dev, fd, &devid));
}

/* Both at the same time */

struct theirs {
	int container, group, dev;
	void *bar;
};

struct ours {
	int iommu, dev;
	__u32 devid, ioas;
	void *bar;
};

static void need_vfio_pci(const char *bdf)
{
	if (on_mainline())
		test_skip("it is about ours beside mainline's");
	if (!give_to_vfio_pci(bdf)) {
		take_back(bdf);
		test_skip("this kernel's vfio-pci takes no device without an IOMMU");
	}
}

static void theirs_mark(struct theirs *t)
{
	bus_master(t->dev, true);
	t->bar = region_mmap(t->dev, BAR, PROT_READ | PROT_WRITE);
	mmio_write32(t->bar, STATUS, ACKNOWLEDGE);
	expect_eq(mmio_read32(t->bar, STATUS), ACKNOWLEDGE);
}

static void theirs_open(struct theirs *t, const char *bdf)
{
	char path[128];

	expect(group_path(bdf, path, sizeof(path)));
	t->container = expect_ok(open("/dev/vfio/vfio", O_RDWR));
	t->group = expect_ok(open(path, O_RDWR));
	expect_ok(ioctl(t->group, VFIO_GROUP_SET_CONTAINER, &t->container));
	expect_ok(ioctl(t->container, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU));
	t->dev = expect_ok(ioctl(t->group, VFIO_GROUP_GET_DEVICE_FD, bdf));
	theirs_mark(t);
}

static void theirs_close(struct theirs *t)
{
	struct vfio_region_info info;

	region_info(t->dev, BAR, &info);
	munmap(t->bar, info.size);
	close(t->dev);
	close(t->group);
	close(t->container);
}

static void ours_open(struct ours *o, const char *bdf)
{
	o->iommu = iommu_open();
	o->dev = cdev_open(bdf);
	expect_ok(dev_bind(o->dev, o->iommu, &o->devid));
	o->ioas = new_ioas(o->iommu);
	attach(o->dev, o->ioas);
	bus_master(o->dev, true);
	o->bar = region_mmap(o->dev, BAR, PROT_READ | PROT_WRITE);
	mmio_write32(o->bar, STATUS, ACKNOWLEDGE);
}

static void ours_close(struct ours *o)
{
	struct vfio_region_info info;

	region_info(o->dev, BAR, &info);
	munmap(o->bar, info.size);
	close(o->dev);
	close(o->iommu);
}

/* For a cdev, without groups: never allowed here */
static void expect_no_hot_reset(int dev)
{
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };

	expect_errno(ioctl(dev, VFIO_DEVICE_PCI_HOT_RESET, &reset), EINVAL);
}

static void expect_both_untouched(const struct ours *o, const struct theirs *t)
{
	expect_eq(mmio_read32(o->bar, STATUS), ACKNOWLEDGE);
	expect_eq(mmio_read32(t->bar, STATUS), ACKNOWLEDGE);
}

static void one_set(const char * const pair[2])
{
	struct {
		struct vfio_pci_hot_reset_info head;
		struct vfio_pci_dependent_device devices[4];
	} info = { .head.argsz = sizeof(info) };
	struct {
		struct vfio_pci_hot_reset head;
		__s32 group;
	} reset = { .head.argsz = sizeof(reset) };
	struct theirs t;
	struct ours o;
	char path[128];
	char *va;

	need_vfio_pci(pair[1]);
	ours_open(&o, pair[0]);
	need_bus_reset(o.dev, pair[0]);
	theirs_open(&t, pair[1]);
	va = mem(4 * PAGE);
	expect_ok(ioas_map(o.iommu, o.ioas, va, 4 * PAGE, 0));
	expect_eq(pa_of(o.iommu, o.ioas, PAGE), pagemap_pa(va + PAGE));

	/* Neither may reset a device of the other. */
	expect_ok(ioctl(o.dev, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info));
	expect_eq(info.head.flags, VFIO_PCI_HOT_RESET_FLAG_DEV_ID);
	expect_eq(info.head.count, 2);
	expect_eq(info.devices[0].group_id, o.devid);
	expect_eq(info.devices[1].group_id, (__u32)VFIO_PCI_DEVID_NOT_OWNED);
	expect_no_hot_reset(o.dev);
	expect_both_untouched(&o, &t);
	reset.head.count = 1;
	reset.group = t.group;
	/*
	 * A group without an IOMMU cannot even be named there. The vfio before
	 * Linux 6.1, recognised by its devices, checks who owns it.
	 */
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", pair[1]);
	expect_errno(ioctl(t.dev, VFIO_DEVICE_PCI_HOT_RESET, &reset),
		     access(path, F_OK) ? EPERM : EINVAL);
	/* Nor with a file that is not a group */
	reset.group = o.dev;
	expect_errno(ioctl(t.dev, VFIO_DEVICE_PCI_HOT_RESET, &reset), EINVAL);
	expect_both_untouched(&o, &t);

	/* Closing one leaves the other alone, in either order. */
	theirs_close(&t);
	expect_eq(mmio_read32(o.bar, STATUS), ACKNOWLEDGE);
	expect_no_hot_reset(o.dev);
	expect_eq(mmio_read32(o.bar, STATUS), ACKNOWLEDGE);
	theirs_open(&t, pair[1]);
	ours_close(&o);
	expect_eq(mmio_read32(t.bar, STATUS), ACKNOWLEDGE);
	ours_open(&o, pair[0]);
	expect_both_untouched(&o, &t);

	/* Unbinding one does not affect the other either. */
	ours_close(&o);
	driver_unbind(pair[0]);
	expect_eq(mmio_read32(t.bar, STATUS), ACKNOWLEDGE);
	theirs_close(&t);
	take_back(pair[1]);

	/* All devices are ours: now it may. */
	driver_bind(pair[1]);
	ours_open(&o, pair[0]);
	reset.head.count = 0;
	expect_ok(ioctl(o.dev, VFIO_DEVICE_PCI_HOT_RESET, &reset));
	expect_eq(mmio_read32(o.bar, STATUS), 0);
	ours_close(&o);
}

TEST(one_set)
{
	one_set(pairs[0]);
	one_set(pairs[1]);
}

/* Each works with its own iommufd only. */
TEST(two_iommufds)
{
	char name[64], path[128];
	unsigned long long log;
	struct theirs t = {};
	__u32 devid, theirs_id;
	__u32 theirs_ioas;
	struct ours o;
	int kernels;
	char *va;

	need_vfio_pci(pairs[0][1]);
	/* Before Linux 7.3 it has a name but no node. */
	if (!cdev_name(pairs[0][1], name, sizeof(name)) ||
	    !has_cdev_node(pairs[0][1]) || access(KERNEL_IOMMU, F_OK)) {
		take_back(pairs[0][1]);
		test_skip("this kernel's vfio has no cdev without an IOMMU");
	}
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", name);
	t.dev = expect_ok(open(path, O_RDWR));
	kernels = expect_ok(open(KERNEL_IOMMU, O_RDWR));

	o.iommu = iommu_open();
	o.dev = cdev_open(pairs[0][0]);
	log = kmsg_mark();
	expect_errno(dev_bind(o.dev, kernels, &devid), EBADFD);
	/* Which one it should have been */
	expect_eq(kmsg_count(log, 6, "/dev/noiommufd", NULL), 1);
	expect_errno(dev_bind(t.dev, o.iommu, &devid), EBADFD);
	close(o.dev);
	close(o.iommu);

	ours_open(&o, pairs[0][0]);
	expect_ok(dev_bind(t.dev, kernels, &theirs_id));
	theirs_ioas = new_ioas(kernels);
	attach(t.dev, theirs_ioas);
	theirs_mark(&t);
	/* The first page is ours, the second is shared, the third is theirs. */
	va = mem(3 * PAGE);
	expect_ok(ioas_map(o.iommu, o.ioas, va, 2 * PAGE, 0));
	expect_ok(ioas_map(kernels, theirs_ioas, va + PAGE, 2 * PAGE, 0));
	expect_eq(pa_of(o.iommu, o.ioas, 0), pagemap_pa(va));
	expect_eq(pa_of(o.iommu, o.ioas, PAGE), pagemap_pa(va + PAGE));
	expect_eq(pa_of(kernels, theirs_ioas, 0), pagemap_pa(va + PAGE));
	expect_eq(pa_of(kernels, theirs_ioas, PAGE), pagemap_pa(va + 2 * PAGE));
	expect_no_hot_reset(t.dev);
	expect_no_hot_reset(o.dev);
	expect_both_untouched(&o, &t);
	ours_close(&o);
	expect_eq(mmio_read32(t.bar, STATUS), ACKNOWLEDGE);
	expect_eq(pa_of(kernels, theirs_ioas, 0), pagemap_pa(va + PAGE));
	munmap(t.bar, PAGE * 4);
	close(t.dev);
	close(kernels);
	take_back(pairs[0][1]);
}
