// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which functions the driver takes (ordinary ones, virtual functions), and which
 * it refuses, with a reason in the kernel log (bridges, VGA, a physical function
 * while its virtual functions are enabled).
 */
#include <dirent.h>
#include <sys/wait.h>

#include "harness.h"

#define KERN_ERR	3

#define BRIDGE		"0000:00:0a.0"
#define VGA		"0000:00:0c.0"
#define PF		"0000:04:00.0"
#define VF		"0000:04:00.1"
#define SYSFS		"/sys/bus/pci/devices/"

static bool there(const char *bdf)
{
	char path[128];

	snprintf(path, sizeof(path), SYSFS "%s", bdf);
	return !access(path, F_OK);
}

static void need(const char *bdf)
{
	if (!there(bdf))
		test_skip("the guest has no device %s", bdf);
}

static void override(const char *bdf, const char *driver)
{
	char path[128];

	snprintf(path, sizeof(path), SYSFS "%s/driver_override", bdf);
	expect_ok(write_file(path, "%s", driver));
	expect_ok(write_file("/sys/bus/pci/drivers_probe", "%s", bdf));
}

/* It is refused, with this reason in the log. */
static void expect_refused(const char *bdf, const char *why)
{
	unsigned long long log = kmsg_mark();
	char name[64];

	override(bdf, driver_name());
	expect(!driver_has(bdf));
	expect(!cdev_name(bdf, name, sizeof(name)));
	if (!on_mainline())
		expect_eq(kmsg_count(log, KERN_ERR, bdf, why), 1);
	override(bdf, "\n");
}

TEST(bridge_is_refused)
{
	need(BRIDGE);
	expect_refused(BRIDGE, "this is a bridge");
}

TEST(vga_is_refused)
{
	skip_on_mainline("vfio-pci takes a VGA device as any other");
	need(VGA);
	expect_refused(VGA, "this is a VGA device");
}

/* Virtual functions */

static bool bound_to(const char *bdf, const char *driver)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/%s", driver, bdf);
	return !access(path, F_OK);
}

/* Start another program, which has none of our files. */
static pid_t begin(const char *command)
{
	pid_t pid = expect_ok(fork());

	if (!pid) {
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	return pid;
}

static void run(const char *command)
{
	pid_t pid = begin(command);
	int status;

	expect_eq(waitpid(pid, &status, 0), pid);
	if (status)
		fail("%s: expected success, got status %d", command, status);
}

/* Give the physical function, and nothing else, to the kernel's driver. */
static void pf_to_nvme(void)
{
	if (driver_has(PF))
		driver_unbind(PF);
	expect_ok(write_file("/sys/bus/pci/drivers_autoprobe", "0"));
	run("modprobe nvme");
	expect_ok(write_file("/sys/bus/pci/drivers_autoprobe", "1"));
	override(PF, "nvme");
	expect(bound_to(PF, "nvme"));
	expect_ok(write_file(SYSFS PF "/sriov_drivers_autoprobe", "0"));
}

static void expect_nvme_lives(void)
{
	char path[320], state[16] = "";
	struct dirent *entry;
	double end = now() + 20;
	int fd;
	DIR *dir;

	/* It initialises itself in the background. */
	while (strcmp(state, "live\n")) {
		expect(now() < end);
		sleep_ms(20);
		dir = opendir(SYSFS PF "/nvme");
		expect(dir);
		while ((entry = readdir(dir))) {
			if (*entry->d_name == '.')
				continue;
			snprintf(path, sizeof(path), SYSFS PF "/nvme/%s/state",
				 entry->d_name);
			fd = expect_ok(open(path, O_RDONLY));
			memset(state, 0, sizeof(state));
			expect_ok(read(fd, state, sizeof(state) - 1));
			close(fd);
		}
		closedir(dir);
	}
}

/*
 * New kernels (7.2) offer a new function to nvme in the background: it seems to
 * have that driver until nvme has refused it.
 */
static void vfs(unsigned int n)
{
	expect_ok(write_file("/sys/bus/pci/drivers_autoprobe", "0"));
	expect_ok(write_file(SYSFS PF "/sriov_numvfs", "%u", n));
	expect_ok(write_file("/sys/bus/pci/drivers_autoprobe", "1"));
	expect_eq(there(VF), n > 0);
}

/* All in one test, because enabling and disabling them takes long. */
TEST(virtual_functions)
{
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };
	struct {
		struct vfio_pci_hot_reset_info head;
		struct vfio_pci_dependent_device devices[4];
	} info = { .head.argsz = sizeof(info) };
	struct vfio_region_info config;
	int iommu, dev, i;
	__u32 devid, ioas;
	__u16 command;
	pid_t pid;

	need(PF);
	if (access(SYSFS PF "/sriov_numvfs", F_OK))
		test_skip("the guest has no device with virtual functions");
	pf_to_nvme();
	expect_nvme_lives();
	vfs(1);

	driver_bind(VF);
	iommu = iommu_open();
	dev = cdev_open(VF);
	expect_ok(dev_bind(dev, iommu, &devid));
	ioas = new_ioas(iommu);
	attach(dev, ioas);
	expect_ok(ioas_map(iommu, ioas, mem(PAGE), PAGE, 0));
	expect(pa_of(iommu, ioas, 0) != 0);
	/* Its memory is always enabled, and config space says so. */
	region_info(dev, VFIO_PCI_CONFIG_REGION_INDEX, &config);
	expect_eq(pread(dev, &command, 2, config.offset + 4), 2);
	expect_ok(ioctl(dev, VFIO_DEVICE_RESET));

	/*
	 * We may not reset the whole bus, because the kernel drives the physical
	 * function, which goes on.
	 */
	expect_ok(ioctl(dev, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info));
	expect_eq(info.head.flags, VFIO_PCI_HOT_RESET_FLAG_DEV_ID);
	expect_eq(info.head.count, 2);
	for (i = 0; i < 2; i++)
		expect_eq(info.devices[i].group_id, info.devices[i].devfn ?
			  devid : (__u32)VFIO_PCI_DEVID_NOT_OWNED);
	expect_errno(ioctl(dev, VFIO_DEVICE_PCI_HOT_RESET, &reset), EINVAL);
	expect_nvme_lives();

	/* They cannot be removed while one of them is open. */
	pid = begin("echo 0 > " SYSFS PF "/sriov_numvfs");
	sleep_ms(300);
	expect_eq(waitpid(pid, NULL, WNOHANG), 0);
	expect_ok(ioctl(dev, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info));
	close(dev);
	close(iommu);
	join(pid);
	expect(!there(VF));

	/* The physical function, with and without virtual functions */
	vfs(2);
	driver_unbind(PF);
	if (!on_mainline())
		expect_refused(PF, "SR-IOV VFs are enabled");
	override(PF, "nvme");
	vfs(0);
	driver_bind(PF);
	close(cdev_open(PF));
	/* Our driver does not create any. */
	expect(write_file(SYSFS PF "/sriov_numvfs", "1") < 0);
	expect(!there(VF));
	driver_unbind(PF);
}
