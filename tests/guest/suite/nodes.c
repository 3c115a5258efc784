// SPDX-License-Identifier: GPL-2.0-only
/*
 * The nodes that programs open: names, modes, sysfs, taint and warning, unsafe
 * mode, capabilities.
 */
#include <grp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "harness.h"

#define TAINT_USER	64
#define KERN_WARNING	4
#define KERN_INFO	6

TEST(iommu_node)
{
	struct stat node, ours;
	char dev[32];

	expect_ok(stat(iommu_node(), &node));
	expect(S_ISCHR(node.st_mode));
	expect_eq(node.st_mode & 07777, 0660);
	expect_eq(node.st_uid, 0);
	expect_eq(node.st_gid, 0);
	/* A misc device */
	expect_eq(major(node.st_rdev), 10);
	snprintf(dev, sizeof(dev), "/sys/dev/char/%u:%u", major(node.st_rdev),
		 minor(node.st_rdev));
	expect_ok(access(dev, F_OK));
	/* Our node, even if the kernel has an iommufd */
	if (access("/dev/noiommufd", F_OK)) {
		expect_ok(access("/sys/class/misc/iommu/dev", F_OK));
	} else if (!on_mainline()) {
		expect_ok(stat("/dev/noiommufd", &ours));
		expect_eq(node.st_rdev, ours.st_rdev);
		expect_ok(access("/sys/class/misc/noiommufd/dev", F_OK));
	}
}

static void check_cdev(const char *bdf, char *name, size_t size)
{
	char path[384], text[32] = "";
	struct stat node;
	int fd;

	driver_bind(bdf);
	expect(cdev_name(bdf, name, size));
	expect_eq(strncmp(name, "noiommu-vfio", 12), 0);
	expect(name[12] >= '0' && name[12] <= '9');

	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", name);
	expect_ok(stat(path, &node));
	expect(S_ISCHR(node.st_mode));
	expect_eq(node.st_mode & 07777, 0600);
	expect_eq(node.st_uid, 0);
	expect_eq(node.st_gid, 0);

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev/%s/dev",
		 bdf, name);
	fd = expect_ok(open(path, O_RDONLY));
	expect_ok(read(fd, text, sizeof(text) - 1));
	close(fd);
	snprintf(path, sizeof(path), "%u:%u\n", major(node.st_rdev),
		 minor(node.st_rdev));
	if (strcmp(text, path))
		fail("sysfs dev of %s: expected %s, got %s", name, path, text);

	snprintf(path, sizeof(path), "/sys/class/vfio-dev/%s", name);
	expect_ok(access(path, F_OK));
}

TEST(device_nodes)
{
	char first[64], second[64];

	check_cdev(edu(), first, sizeof(first));
	check_cdev(edu_behind_bridge(), second, sizeof(second));
	expect(strcmp(first, second) != 0);
}

TEST(device_node_goes_with_the_driver)
{
	char path[128], name[64];

	cdev_path(edu_behind_bridge(), path, sizeof(path));
	expect_ok(access(path, F_OK));
	driver_unbind(edu_behind_bridge());
	expect_errno(access(path, F_OK), ENOENT);
	expect(!cdev_name(edu_behind_bridge(), name, sizeof(name)));
	cdev_path(edu_behind_bridge(), path, sizeof(path));
	expect_ok(access(path, F_OK));
}

TEST(taint)
{
	driver_bind(edu());
	expect(read_number("/proc/sys/kernel/tainted") & TAINT_USER);
}

TEST(one_warning_a_device)
{
	/* Mainline warns about the group node as well. */
	const char *which = on_mainline() ? "cdev" : NULL;
	const char *bdf = edu_behind_bridge();
	unsigned long long log;
	int dev;

	if (driver_has(bdf))
		driver_unbind(bdf);
	log = kmsg_mark();
	driver_bind(bdf);
	expect_eq(kmsg_count(log, KERN_WARNING, bdf, which), 1);
	expect_eq(kmsg_count(log, KERN_WARNING, bdf, "taint"),
		  on_mainline() ? 2 : 1);
	/* Opening it does not add another line. */
	dev = cdev_open(bdf);
	close(dev);
	dev = cdev_open(bdf);
	close(dev);
	expect_eq(kmsg_count(log, KERN_WARNING, bdf, which), 1);
}

TEST(unsafe_mode_off)
{
	const char *bdf = edu_behind_bridge();
	unsigned long long log;
	struct setup s;
	char path[128];

	/* A bound device keeps working. */
	driver_bind(edu());
	driver_bind(bdf);
	driver_unbind(bdf);

	expect_ok(write_file(unsafe_parameter(), "N"));
	log = kmsg_mark();
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/bind",
		 driver_name());
	expect_errno(write_file(path, "%s", bdf), EINVAL);
	expect(!driver_has(bdf));
	if (!on_mainline())
		expect(kmsg_count(log, KERN_INFO, bdf,
				  "enable_unsafe_noiommu_mode") > 0);

	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, PAGE));
	expect(pa_of(s.iommu, s.ioas, PAGE) != 0);

	expect_ok(write_file(unsafe_parameter(), "Y"));
	driver_bind(bdf);
}

TEST(open_needs_rawio)
{
	char path[128];

	cdev_path(edu(), path, sizeof(path));
	close(expect_ok(open(path, O_RDWR)));
	/* Still uid 0 */
	drop_cap(CAP_SYS_RAWIO);
	expect_eq(geteuid(), 0);
	expect_errno(open(path, O_RDWR), EPERM);
	expect_errno(open(path, O_RDONLY), EPERM);
	close(expect_ok(open(iommu_node(), O_RDWR)));
}

static void become_user(void)
{
	expect_ok(setgroups(0, NULL));
	expect_ok(setgid(1000));
	expect_ok(setuid(1000));
}

TEST(open_by_a_user)
{
	char path[128];

	cdev_path(edu(), path, sizeof(path));
	become_user();
	expect_errno(open(path, O_RDWR), EACCES);
	expect_errno(open(iommu_node(), O_RDWR), EACCES);
}

/* The same device as a node that every user may open */
static void open_to_all(const char *node, const char *name)
{
	struct stat stat_node;

	expect_ok(stat(node, &stat_node));
	unlink(name);
	expect_ok(mknod(name, S_IFCHR | 0600, stat_node.st_rdev));
	expect_ok(chmod(name, 0666));
}

TEST(open_by_a_user_whom_the_mode_lets_in)
{
	char path[128];

	cdev_path(edu(), path, sizeof(path));
	open_to_all(path, "/tmp/suite-cdev");
	open_to_all(iommu_node(), "/tmp/suite-iommu");
	become_user();
	expect_errno(open("/tmp/suite-cdev", O_RDWR), EPERM);
	close(expect_ok(open("/tmp/suite-iommu", O_RDWR)));
}

TEST(user_with_rawio_only)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2] = {
		{ .effective = 1 << CAP_SYS_RAWIO | 1 << CAP_DAC_OVERRIDE,
		  .permitted = 1 << CAP_SYS_RAWIO | 1 << CAP_DAC_OVERRIDE, },
	};
	struct setup s = {};

	driver_bind(edu());
	expect_ok(prctl(PR_SET_KEEPCAPS, 1));
	become_user();
	expect_ok(syscall(SYS_capset, &header, data));
	setup_attached(&s);
	set_memlock(PAGE);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, PAGE));
	expect(pa_of(s.iommu, s.ioas, PAGE) != 0);
}

TEST(calls_without_rawio)
{
	void *va = mem(2 * PAGE);
	struct setup s = {};
	__u64 iova, length, pa;

	s.iommu = iommu_open();
	s.dev = cdev_open(edu());
	drop_cap(CAP_SYS_RAWIO);

	expect_ok(dev_bind(s.dev, s.iommu, &s.devid));
	s.ioas = new_ioas(s.iommu);
	s.hwpt = attach(s.dev, s.ioas);
	expect_ok(ioas_map(s.iommu, s.ioas, va, PAGE, PAGE));
	iova = 16 * PAGE;
	expect_ok(ioas_copy(s.iommu, s.ioas, s.ioas, MAP_FIXED_RW, PAGE, &iova,
			    PAGE));
	length = PAGE;
	expect_errno(get_pa(s.iommu, s.ioas, PAGE, &length, &pa), EPERM);
	expect_ok(ioas_unmap(s.iommu, s.ioas, PAGE, PAGE, NULL));
	expect_ok(dev_detach(s.dev));
}

TEST(get_pa_eperm_comes_first)
{
	struct iommu_ioas_noiommu_get_pa get;
	struct setup s;
	unsigned int i;

	/* Every error at once in its argument */
	static const struct iommu_ioas_noiommu_get_pa wrong[] = {
		{ .ioas_id = 1, .iova = 0, .length = PAGE },
		{ .ioas_id = 1, .iova = 0, .length = 0 },
		{ .ioas_id = 1, .iova = 0, .length = PAGE, .flags = 1 },
		{ .ioas_id = 1, .iova = 0, .length = PAGE, .__reserved = 1 },
		{ .ioas_id = 1, .iova = U64_MAX, .length = PAGE },
		{ .ioas_id = 0, .iova = 0, .length = PAGE },
		{ .ioas_id = 4711, .iova = 0, .length = PAGE },
		{ .ioas_id = 4711, .iova = U64_MAX, .length = 0, .flags = ~0U,
		  .__reserved = ~0U },
	};

	setup_attached(&s);
	drop_cap(CAP_SYS_RAWIO);
	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		get = wrong[i];
		get.size = sizeof(get);
		expect_errno(ioctl(s.iommu, IOMMU_IOAS_NOIOMMU_GET_PA, &get),
			     EPERM);
	}
}
