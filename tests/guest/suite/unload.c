// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unloading the modules: impossible while anything is open, and without a trace
 * otherwise. Runs last; leaves them loaded, in unsafe mode.
 */
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "harness.h"

#define KERN_INFO	6

#define CORE	"noiommufd"
#define DRIVER	"noiommu_vfio_pci"

#define DEBUGFS	"/sys/kernel/debug/noiommufd"
#define EVENTS	"/sys/kernel/tracing/events/noiommufd/enable"

static int rmmod(const char *module)
{
	return syscall(SYS_delete_module, module, O_NONBLOCK);
}

static bool loaded(const char *module)
{
	return read_field("/proc/modules", module) >= 0;
}

static void modprobe(const char *module, const char *option)
{
	int status;
	pid_t pid;

	pid = expect_ok(fork());
	if (!pid) {
		execlp("modprobe", "modprobe", module, option, NULL);
		_exit(127);
	}
	expect_eq(waitpid(pid, &status, 0), pid);
	expect_eq(status, 0);
}

static void unload(void)
{
	if (loaded(DRIVER))
		expect_ok(rmmod(DRIVER));
	if (loaded(CORE))
		expect_ok(rmmod(CORE));
}

static void load(void)
{
	if (!loaded(DRIVER))
		modprobe("noiommu-vfio-pci", "enable_unsafe_noiommu_mode=1");
	expect(loaded(DRIVER) && loaded(CORE));
	/* It was loaded, perhaps with other parameters. */
	expect_ok(write_file(unsafe_parameter(), "Y"));
}

static void modules_of_ours(void)
{
	if (on_mainline())
		test_skip("mainline has it built in");
	load();
}

static void expect_gone(const char *path)
{
	struct stat it;

	if (!lstat(path, &it))
		fail("%s: expected it to be gone, got it", path);
	expect_eq(errno, ENOENT);
}

/* No list of the kernel contains our name. */
static void expect_no_line(const char *path, const char *word)
{
	FILE *file = fopen(path, "re");
	char line[256];

	if (!file)
		fail("%s: expected to read it, got none", path);
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = 0;
		if (strstr(line, word))
			fail("%s: expected no %s in it, got \"%s\"", path, word,
			     line);
	}
	fclose(file);
}

static void work(void)
{
	char *va = mem(4 * PAGE);
	struct setup s;

	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, va, 4 * PAGE, 0));
	expect_pas(&s, 0, va, 4 * PAGE);
	close(s.iommu);
	close(s.dev);
}

TEST(refused_while_the_device_is_open)
{
	int dev;

	modules_of_ours();
	dev = cdev_open(edu());
	expect_errno(rmmod(DRIVER), EWOULDBLOCK);
	expect_errno(rmmod(CORE), EWOULDBLOCK);
	close(dev);
	/* The other one needs it. */
	expect_errno(rmmod(CORE), EWOULDBLOCK);
	work();
}

TEST(refused_while_the_device_is_bound)
{
	struct setup s;

	modules_of_ours();
	setup_attached(&s);
	close(s.iommu);
	expect_errno(rmmod(DRIVER), EWOULDBLOCK);
	expect_errno(rmmod(CORE), EWOULDBLOCK);
	close(s.dev);
}

TEST(refused_while_a_bar_is_mapped)
{
	struct setup s;
	void *bar;

	modules_of_ours();
	setup_bound(&s);
	bar = region_mmap(s.dev, VFIO_PCI_BAR0_REGION_INDEX, PROT_READ);
	close(s.dev);
	close(s.iommu);
	expect_errno(rmmod(DRIVER), EWOULDBLOCK);
	expect_eq(mmio_read32(bar, 0), 0x010000ed);
	munmap(bar, MIB);
}

TEST(refused_while_the_iommufd_is_open)
{
	int iommu;

	modules_of_ours();
	iommu = iommu_open();
	/* This does not keep the driver loaded. */
	expect_ok(rmmod(DRIVER));
	expect(!loaded(DRIVER));
	expect_errno(rmmod(CORE), EWOULDBLOCK);
	expect_eq(new_ioas(iommu), 1);
	close(iommu);
	expect_ok(rmmod(CORE));
	load();
	work();
}

TEST(gone_without_a_trace)
{
	const char *node = strrchr(iommu_node(), '/') + 1;
	char first[128], second[128], name[64], path[192];
	struct setup s;

	modules_of_ours();
	cdev_path(edu(), first, sizeof(first));
	cdev_path(edu_behind_bridge(), second, sizeof(second));
	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(4 * PAGE), 4 * PAGE, 0));
	close(s.dev);
	close(s.iommu);
	/* One device is unbound by hand, the other by rmmod. */
	driver_unbind(edu());
	unload();

	expect_gone(first);
	expect_gone(second);
	expect_gone(iommu_node());
	snprintf(path, sizeof(path), "/sys/class/misc/%s", node);
	expect_gone(path);
	expect_gone("/sys/module/" DRIVER);
	expect_gone("/sys/module/" CORE);
	expect_gone("/sys/bus/pci/drivers/noiommu-vfio-pci");
	expect_gone(DEBUGFS);
	snprintf(path, sizeof(path), "/sys/class/vfio-dev/%s",
		 strrchr(second, '/') + 1);
	expect_gone(path);
	expect(!cdev_name(edu(), name, sizeof(name)));
	expect(!cdev_name(edu_behind_bridge(), name, sizeof(name)));
	expect_no_line("/proc/modules", "noiommu");
	expect_no_line("/proc/devices", "noiommu");
	expect_no_line("/proc/misc", node);
	if (!access("/proc/slabinfo", F_OK))
		expect_no_line("/proc/slabinfo", "noiommu");
	load();
}

TEST(loaded_again)
{
	unsigned long long log;
	int i;

	modules_of_ours();
	for (i = 0; i < 5; i++) {
		unload();
		log = kmsg_mark();
		load();
		/* One line of each says what is there now. */
		expect_eq(kmsg_count(log, KERN_INFO, "noiommufd: ", iommu_node()), 1);
		expect_eq(kmsg_count(log, KERN_INFO, "noiommu-vfio-pci: ",
				     "unsafe no-IOMMU mode is on"), 1);
		work();
	}
}

static void read_all(void *arg)
{
	static const char * const files[] = { "contexts", "devices", "table_bytes" };
	char path[64], text[4096];
	unsigned int i;
	int fd;

	(void)arg;
	for (i = 0; ; i++) {
		snprintf(path, sizeof(path), DEBUGFS "/%s", files[i % ARRAY_SIZE(files)]);
		fd = open(path, O_RDONLY);
		while (fd >= 0 && read(fd, text, sizeof(text)) > 0)
			;
		if (fd >= 0)
			close(fd);
	}
}

static void trace_on_and_off(void *arg)
{
	unsigned int i;

	(void)arg;
	for (i = 0; ; i++)
		write_file(EVENTS, "%u", i % 2);
}

/* An open file keeps its module, and a reader never sees it go. */
TEST_LIMIT(while_it_is_shown, 120)
{
	unsigned int i, refused = 0;
	int fd;

	modules_of_ours();
	if (access(DEBUGFS, F_OK))
		test_skip("the kernel has no debugfs");
	fd = expect_ok(open(DEBUGFS "/devices", O_RDONLY));
	expect_errno(rmmod(DRIVER), EWOULDBLOCK);
	close(fd);
	fd = expect_ok(open(DEBUGFS "/contexts", O_RDONLY));
	expect_ok(rmmod(DRIVER));
	expect_errno(rmmod(CORE), EWOULDBLOCK);
	close(fd);
	expect_ok(rmmod(CORE));
	expect_gone(DEBUGFS);
	load();

	mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL);
	spawn(trace_on_and_off, NULL);
	spawn(read_all, NULL);
	for (i = 0; i < 10; i++) {
		work();
		while (loaded(DRIVER) && rmmod(DRIVER))
			refused++;
		while (loaded(CORE) && rmmod(CORE))
			refused++;
		load();
	}
	printf("# rmmod was refused %u times\n", refused);
}

TEST(unsafe_mode_is_off_by_default)
{
	char path[128];

	modules_of_ours();
	unload();
	modprobe("noiommu-vfio-pci", NULL);
	snprintf(path, sizeof(path),
		 "/sys/bus/pci/devices/%s/driver_override", edu());
	expect_ok(write_file(path, "%s", driver_name()));
	expect_ok(write_file("/sys/bus/pci/drivers_probe", "%s", edu()));
	expect(!driver_has(edu()));
	load();
	driver_bind(edu());
	work();
}
