// SPDX-License-Identifier: GPL-2.0-only
/*
 * noiommuctl doctor, on a machine that is broken in one way: it says so before all
 * else, and the command that it prints is carried out, after which it says so no
 * more. Other machines are in tests/all/test_doctor.py, and those that cannot be
 * had here are directories (tests/guest/noiommuctl-doctor-test).
 */
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "noiommuctl.h"

#define NVME		"0000:00:05.0"
#define BRIDGE		"0000:00:0a.0"
#define VGA		"0000:00:0c.0"
#define PF		"0000:04:00.0"
#define SYSFS		"/sys/bus/pci/devices/"
#define OVERRIDE	"/etc/driverctl.d/pci-"
#define CONF		"/etc/modprobe.d/noiommufd.conf"
#define NOT_LOADED	"fault  the module is not loaded"
#define MODE_OFF	"fault  unsafe mode is off, so no device is taken"
#define NO_PAGES	"hint   there are no huge pages"

/* The command that doctor prints with this does what it should, and doctor goes on. */
static void mends(const char *says, const char *device)
{
	const char *command = diagnosis(says, device);

	if (system(command))
		fail("'%s' failed", command);
	ctl("doctor %s", device);
	if (strstr(said, says))
		fail("after '%s' it is still so: %s", command, said);
}

static void unload(void)
{
	expect_eq(system("rmmod noiommu-vfio-pci noiommufd"), 0);
}

/* From a machine on which nothing was done to one on which all is well */
TEST(step_by_step)
{
	unload();
	mends(NOT_LOADED, edu());
	mends(MODE_OFF, edu());
	mends("fault  0000:00:04.0 has driver none", edu());
	expect(driver_has(edu()));
	expect_ok(write_file("/proc/sys/vm/nr_hugepages", "0"));
	mends(NO_PAGES, edu());
	expect_done("doctor %s", edu());
	expect(!strstr(said, "fault") && !strstr(said, "hint"));
	expect_done("doctor");
}

/* The number of bytes of a file, at most size */
static size_t contents(const char *command, char *buffer, size_t size)
{
	FILE *pipe = popen(command, "r");
	size_t got;

	expect(pipe);
	got = fread(buffer, 1, size, pipe);
	expect_eq(pclose(pipe), 0);
	return got;
}

/* The module is loaded, with a version that is not that of the file. */
TEST(other_version)
{
	const size_t most = 16 * MIB;
	char *module = malloc(most), *at;
	FILE *file;
	size_t size;

	if (!system("grep -qsx Y /sys/module/module/parameters/sig_enforce"))
		test_skip("this kernel loads signed modules only");
	expect(module);
	size = contents("cd /lib/modules/$(uname -r);"
			"f=$(grep -o '^[^:]*noiommu-vfio-pci.ko[^:]*' modules.dep);"
			"case $f in *.xz) xzcat $f ;; *) cat $f ;; esac", module, most);
	at = memmem(module, size, "\0version=", 9);
	expect(at);
	at[9] = 'x';
	file = fopen("/tmp/other.ko", "w");
	expect(file && fwrite(module, 1, size, file) == size);
	expect_eq(fclose(file), 0);
	expect_eq(system("rmmod noiommu-vfio-pci && insmod /tmp/other.ko"), 0);
	unlink("/tmp/other.ko");
	free(module);
	mends("fault  version x", edu());
}

TEST(mode_off)
{
	driver_bind(edu());
	expect_ok(write_file(unsafe_parameter(), "0"));
	mends(MODE_OFF, edu());
}

/* At the next boot the device would have no driver. */
TEST(mode_off_at_boot)
{
	mkdir("/etc/driverctl.d", 0755);
	unlink(CONF);
	driver_bind(edu());
	expect_eq(system("echo noiommu-vfio-pci > " OVERRIDE "0000:00:04.0"), 0);
	mends("fault  unsafe mode is off at boot, so 0000:00:04.0 will have no driver then", edu());
	unlink(OVERRIDE "0000:00:04.0");
	unlink(CONF);
}

TEST(wrong_driver)
{
	if (driver_has(NVME))
		driver_unbind(NVME);
	expect_eq(system("modprobe nvme"), 0);
	driver_bind_to(NVME, "nvme");
	mends("fault  0000:00:05.0 has driver nvme", NVME);
	expect(driver_has(NVME));
	expect_done("unbind " NVME);
	nvme_unload();
}

/* Nothing makes the driver take such a device, whatever else is wrong. */
TEST(not_taken)
{
	expect(!strcmp(diagnosis("fault  " VGA ": this is a VGA device", VGA),
		       "noiommuctl list # name another device"));
	expect_eq(system("noiommuctl list # name another device"), 0);
	unload();
	diagnosis("fault  " BRIDGE ": this is a bridge", BRIDGE);
	expect_eq(system("modprobe noiommu-vfio-pci enable_unsafe_noiommu_mode=1"), 0);
}

TEST(virtual_functions)
{
	if (access(SYSFS PF "/sriov_numvfs", F_OK))
		test_skip("%s can have no virtual functions", PF);
	if (driver_has(PF))
		driver_unbind(PF);
	expect_eq(system("modprobe nvme"), 0);
	driver_bind_to(PF, "nvme");
	expect_ok(write_file(SYSFS PF "/sriov_numvfs", "1"));
	mends("fault  " PF ": its SR-IOV VFs are enabled", PF);
	mends("fault  " PF " has driver nvme", PF);
	expect_done("unbind " PF);
	nvme_unload();
}

/* One program at a time */
TEST(held)
{
	struct setup s;
	pid_t other = fork();
	int status;

	if (!other) {
		setup_bound(&s);
		for (;;)
			pause();
	}
	while (ctl("list") || !strstr(said, "doctor (pid "))
		sleep_ms(100);
	mends("hint   doctor (pid ", edu());
	expect_eq(waitpid(other, &status, 0), other);
	expect(WIFSIGNALED(status));
}

/* Own nodes, as a service or a container has them. */
static void own_dev(void *arg)
{
	(void)arg;
	expect_ok(unshare(CLONE_NEWNS));
	expect_ok(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	expect_ok(mount("tmpfs", "/dev", "tmpfs", 0, NULL));
	expect_ok(mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3)));
	mends("fault  /dev/iommu is not in this /dev", edu());
	mends("fault  /dev/vfio/devices/noiommu-vfio", edu());
	expect_done("test %s", edu());
}

TEST(no_nodes)
{
	driver_bind(edu());
	if (!access("/dev/noiommufd", F_OK))
		test_skip("the iommufd has another name here");
	in_child(own_dev, NULL);
}

static void own_users(void *arg)
{
	(void)arg;
	if (unshare(CLONE_NEWUSER))
		test_skip("no user namespaces: %s", strerror(errno));
	expect_eq(ctl("doctor %s", edu()), 1);
	expect_said("\nfault  this is a user namespace, in which CAP_SYS_RAWIO does not count\n");
}

TEST(user_namespace)
{
	driver_bind(edu());
	in_child(own_users, NULL);
}

static void no_capability(void *arg)
{
	(void)arg;
	/* For programs that it starts as well */
	expect_ok(prctl(PR_CAPBSET_DROP, CAP_SYS_RAWIO));
	expect(!strncmp(diagnosis("fault  this user has no CAP_SYS_RAWIO", edu()),
			"setcap cap_sys_rawio=ep PROGRAM # ", 34));
}

TEST(capability)
{
	driver_bind(edu());
	in_child(no_capability, NULL);
}
