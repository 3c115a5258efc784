// SPDX-License-Identifier: GPL-2.0-only
/* noiommuctl: what it does to devices, and what it says of them. */
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "noiommuctl.h"

#define NVME	"0000:00:05.0"
#define VGA	"0000:00:0c.0"
#define DISK	"/dev/nvme0n1"
#define SYSFS	"/sys/bus/pci/devices/"
#define CONF	"/etc/modprobe.d/noiommufd.conf"
#define MODE	"options noiommu-vfio-pci enable_unsafe_noiommu_mode="
/* A file with more in it */
#define MINE(mode)	"# mine\n" MODE mode " x=1\noptions x y=1\n"

/* The line of a device in a list; "" if there is none */
static const char *line_of(const char *bdf)
{
	static char line[512];
	const char *at = strstr(said, bdf);

	snprintf(line, sizeof(line), "%.*s", at ? (int)strcspn(at, "\n") : 0, at ?: "");
	return line;
}

static bool conf_has(const char *text)
{
	char conf[4096] = "";
	FILE *file = fopen(CONF, "r");

	if (file) {
		fread(conf, 1, sizeof(conf) - 1, file);
		fclose(file);
	}
	return strstr(conf, text);
}

static void put(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	expect(file);
	expect(fputs(text, file) >= 0);
	expect_eq(fclose(file), 0);
}

static void free_edu(void)
{
	if (driver_has(edu()))
		driver_unbind(edu());
}

/* Without a domain, twice, and by the node's name */
TEST(bind_and_unbind)
{
	char node[32];

	free_edu();
	expect_done("bind %s", edu() + strlen("0000:"));
	expect(driver_has(edu()));
	expect(cdev_name(edu(), node, sizeof(node)));
	expect_said(node);
	expect_done("bind %s", node);
	expect_said(node);
	expect_done("unbind %s", node);
	expect(!driver_has(edu()));
	expect_said("has driver none");
	/* Nothing is left that would have our driver take it again. */
	write_file("/sys/bus/pci/drivers_probe", "%s", edu());
	expect(!driver_has(edu()));
}

TEST(list)
{
	char node[32];

	free_edu();
	expect_done("list");
	expect(strstr(line_of(edu()), "1234:11e8"));
	expect(strstr(line_of(edu()), " - "));
	expect_eq(*line_of(VGA), 0);
	expect_done("list --all");
	expect(strstr(line_of(VGA), "refused: this is a VGA device"));

	driver_bind(edu());
	expect(cdev_name(edu(), node, sizeof(node)));
	expect_done("list");
	expect(strstr(line_of(edu()), node));
	expect_done("list --json");
	expect_eq(*said, '[');
	expect_said("{\"address\":\"0000:00:04.0\",\"vendor\":\"1234\",\"device\":\"11e8\"");
	expect_said("\"driver\":\"noiommu-vfio-pci\",\"state\":\"taken\",\"refusal\":null,");
	expect_said("\"node\":\"noiommu-vfio");
	expect_said("\"at_boot\":false,\"holders\":[]}");
}

/* Who has a device is in the list, and it is not unbound: that would wait. */
TEST(held)
{
	struct vfio_region_info info;
	char who[64];
	struct setup s;
	void *bar;

	setup_bound(&s);
	snprintf(who, sizeof(who), "ctl (pid %d)", getpid());
	expect_done("list");
	expect(strstr(line_of(edu()), who));
	expect_refused(who, "unbind %s", edu());

	/* A mapping of its registers is enough. */
	region_info(s.dev, VFIO_PCI_BAR0_REGION_INDEX, &info);
	bar = region_mmap(s.dev, VFIO_PCI_BAR0_REGION_INDEX, PROT_READ);
	close(s.dev);
	expect_done("list");
	expect(strstr(line_of(edu()), who));
	expect_refused(who, "unbind %s", edu());
	expect(driver_has(edu()));

	munmap(bar, info.size);
	expect_done("list");
	expect(!strstr(line_of(edu()), who));
	expect_done("unbind %s", edu());
}

/* A file is no node because its path ends like that of one. */
TEST(held_in_name_only)
{
	char node[32], path[96];
	struct setup s;
	void *va;
	int fd;

	setup_bound(&s);
	expect(cdev_name(edu(), node, sizeof(node)));
	close(s.dev);
	system("mkdir -p /tmp/dev/vfio/devices");
	snprintf(path, sizeof(path), "/tmp/dev/vfio/devices/%s", node);
	fd = expect_ok(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	expect_ok(ftruncate(fd, PAGE));
	va = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	expect(va != MAP_FAILED);
	expect_done("list");
	expect(strstr(line_of(edu()), node));
	expect(!strstr(line_of(edu()), "ctl (pid "));
	expect_done("unbind %s", edu());
	expect_ok(unlink(path));
}

/* The name that a program gives itself can neither write to a terminal nor break JSON. */
TEST(name_of_holder)
{
	struct setup s;

	setup_bound(&s);
	expect_ok(prctl(PR_SET_NAME, "a\033\xff\"b"));
	expect_done("list");
	expect(strstr(line_of(edu()), " a??\"b (pid "));
	expect_done("status --json");
	expect_said("\"command\":\"a??\\\"b\"");
}

/* What doctor prints on a terminal, with this in the environment */
static void on_terminal(const char *environment)
{
	int terminal = expect_ok(posix_openpt(O_RDWR | O_NOCTTY));
	char command[128];
	ssize_t len;

	expect_ok(grantpt(terminal));
	expect_ok(unlockpt(terminal));
	snprintf(command, sizeof(command), "%s noiommuctl doctor > %s", environment,
		 ptsname(terminal));
	system(command);
	len = expect_ok(read(terminal, said, sizeof(said) - 1));
	said[len] = '\0';
	close(terminal);
}

TEST(colour)
{
	on_terminal("");
	expect_said("\033[32mok    \033[m the kernel is not locked down");
	on_terminal("NO_COLOR=1");
	expect(!strchr(said, '\033'));
	expect_said("ok     the kernel is not locked down");
}

TEST(test_device)
{
	char id[32];

	free_edu();
	expect_refused("has driver none: noiommuctl bind 0000:00:04.0", "test %s", edu());
	expect_done("bind %s", edu());
	expect_done("test %s", edu());
	expect_said("a page is pinned at physical address 0x");
	snprintf(id, sizeof(id), "the IDs 1234:11e8\n%s works\n", edu());
	expect_said(id);
	expect_pins(0);
	expect_eq(ctl("test"), 2);
}

/* A device that another program has bound cannot be tested. */
TEST(test_held)
{
	struct setup s;

	setup_bound(&s);
	expect_eq(ctl("test %s", edu()), 1);
	expect_said("the device cannot be bound to the iommufd (Invalid argument): ");
}

TEST(status)
{
	char line[128];
	struct setup s;
	__u64 iova;

	setup_attached(&s);
	expect_ok(ioas_map_flags(s.iommu, s.ioas, MAP_RW, mem(MIB), MIB, &iova));
	expect_done("status");
	expect_said("\nunsafe mode now       on\n");
	expect_said("\npinned by anyone      1024 KiB\n");
	snprintf(line, sizeof(line), "\n%-8d %-6d %-16s %8d %11d %11s  %s\n", getpid(), 0, "ctl",
		 1, 1024, "none", edu());
	expect_said(line);
	expect_done("status --json");
	expect_said("\"unsafe_mode\":true,");
	snprintf(line, sizeof(line), "\"processes\":[{\"pid\":%d,\"uid\":0,", getpid());
	expect_said(line);
	expect_said("\"iommufds\":1,\"pinned_kib\":1024,\"limit_kib\":null,");
	expect_said("\"devices\":[\"0000:00:04.0\"]}],\"contexts\":[{\"context\":");

	/* Without the capability there is a limit. */
	drop_cap(CAP_IPC_LOCK);
	set_memlock(64 * KIB);
	expect_done("status --json");
	expect_said("\"limit_kib\":64,");
}

/* What they have mapped, and who pays for it; a context that two have is one. */
TEST(status_contexts)
{
	struct setup s;
	char line[256], info[64];
	__u64 iova = 0;
	__u32 second;
	pid_t child;
	int kib;

	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(MIB), MIB, 0));
	second = new_ioas(s.iommu);
	expect_ok(ioas_copy(s.iommu, second, s.ioas, MAP_FIXED_RW, PAGE, &iova, 0));
	snprintf(info, sizeof(info), "/proc/self/fdinfo/%d", s.iommu);
	kib = (read_field(info, "ioas-table-bytes") + 1023) / 1024;
	child = expect_ok(fork());
	if (!child) {
		pause();
		_exit(0);
	}
	expect_done("status");
	snprintf(line, sizeof(line), " of pid %d, %d\nIOAS ", getpid(), child);
	expect_said(line);
	snprintf(line, sizeof(line), "\n%-6u %9d %12d %12d %11d  uid 0 pid %d: 1024 KiB, %s\n",
		 s.ioas, 1, 1024, 1024, kib, getpid(), edu());
	expect_said(line);
	snprintf(line, sizeof(line), "\n%-6u %9d %12d %12d %11d  -\n", second, 1, 4, 0, 0);
	expect_said(line);

	expect_done("status --json");
	snprintf(line, sizeof(line), ",\"pids\":[%d,%d],\"devices\":[{\"address\":\"%s\",",
		 getpid(), child, edu());
	expect_said(line);
	snprintf(line, sizeof(line), "\"id\":%u,\"hwpt\":%u,\"ioas\":%u}],", s.devid, s.hwpt,
		 s.ioas);
	expect_said(line);
	snprintf(line, sizeof(line), "\"ioases\":[{\"id\":%u,\"hwpts\":1,\"areas\":1,", s.ioas);
	expect_said(line);
	expect_said("\"bytes\":1048576,\"pinned_pages\":256,\"runs\":");
	snprintf(line, sizeof(line), "[{\"pages\":256,\"uid\":0,\"pid\":%d,\"limit\":\"none\"}]}",
		 getpid());
	expect_said(line);
	snprintf(line, sizeof(line), ",{\"id\":%u,\"hwpts\":0,\"areas\":1,\"bytes\":4096,", second);
	expect_said(line);
	expect_said("\"pinned_pages\":0,\"runs\":0,\"table_bytes\":0,\"charges\":[]}]}]}\n");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

/* The node's name in containers is /dev/iommu, wherever it is here. */
TEST(cdi)
{
	char name[32], text[256];

	driver_bind(edu());
	expect(cdev_name(edu(), name, sizeof(name)));
	expect_done("cdi");
	expect_said("{\"cdiVersion\":\"0.5.0\",\"kind\":\"noiommufd/device\",");
	snprintf(text, sizeof(text), "[{\"path\":\"/dev/iommu\",\"hostPath\":\"/dev/%s\",",
		 access("/dev/noiommufd", F_OK) ? "iommu" : "noiommufd");
	expect_said(text);
	snprintf(text, sizeof(text), "{\"name\":\"%s\",\"containerEdits\":{", edu());
	expect_said(text);
	/* With the rights that it has here, and not for all */
	snprintf(text, sizeof(text),
		 "\"hostPath\":\"/dev/vfio/devices/%s\",\"permissions\":\"rw\",\"fileMode\":384,\"uid\":0,\"gid\":0}",
		 name);
	expect_said(text);
}

TEST(refused)
{
	char driver[64], now[64];
	bool had = device_link(VGA, "driver", driver, sizeof(driver));
	FILE *file;

	expect_refused("is refused, this is a VGA device: ", "bind " VGA);
	expect_eq(device_link(VGA, "driver", now, sizeof(now)), had);
	expect_refused("there is no PCI device 0000:77:00.0: lspci -D lists them",
		       "bind 0000:77:00.0");
	expect_eq(ctl("bind"), 2);
	expect_eq(ctl("bind --json %s", edu()), 2);
	expect_eq(ctl("nothing"), 2);

	/* What only the driver sees is said in its words, and undone. */
	put("/tmp/class", "0x020000\n");
	expect_ok(mount("/tmp/class", SYSFS VGA "/class", NULL, MS_BIND, NULL));
	ctl("bind " VGA);
	expect_ok(umount(SYSFS VGA "/class"));
	expect_said(": this is a VGA device: these are not supported\n");
	expect_eq(device_link(VGA, "driver", now, sizeof(now)), had);
	file = fopen(SYSFS VGA "/driver_override", "r");
	expect(file && fgets(now, sizeof(now), file));
	fclose(file);
	expect(!strcmp(now, "(null)\n"));
}

/* Have the kernel's driver take the NVMe, and no other. */
static void nvme_is_disk(void)
{
	if (driver_has(NVME))
		driver_unbind(NVME);
	expect_ok(write_file("/sys/bus/pci/drivers_autoprobe", "0"));
	expect_eq(system("modprobe nvme"), 0);
	expect_ok(write_file("/sys/bus/pci/drivers_autoprobe", "1"));
	driver_bind_to(NVME, "nvme");
	for (int i = 0; i < 100 && access(DISK, F_OK); i++)
		sleep_ms(100);
	expect_ok(access(DISK, F_OK));
}

/* A device that takes no override keeps the driver that it has. */
TEST(keeps_driver)
{
	char now[64];

	nvme_is_disk();
	expect_ok(mount("/dev/full", SYSFS NVME "/driver_override", NULL, MS_BIND, NULL));
	ctl("bind " NVME);
	expect_ok(umount(SYSFS NVME "/driver_override"));
	expect_said("takes no override: No space left on device");
	expect(device_link(NVME, "driver", now, sizeof(now)));
	expect(!strcmp(now, "nvme"));

	expect_ok(write_file(SYSFS NVME "/driver/unbind", NVME));
	expect_ok(write_file(SYSFS NVME "/driver_override", "\n"));
	nvme_unload();
}

/* A disk that is used stays with its driver. What is mounted: tests/all/test_doctor.py */
TEST(disk_in_use)
{
	int fd;

	nvme_is_disk();
	expect_eq(system("mkswap " DISK " > /dev/null && swapon " DISK), 0);
	expect_refused(NVME " is in use, " DISK " is swap space: swapoff " DISK
		       " (or noiommuctl bind --force " NVME ")\n", "bind " NVME);
	/* What doctor says is carried out. */
	expect_eq(system(diagnosis("fault  " NVME " is in use, " DISK " is swap", NVME)), 0);
	fd = expect_ok(open(DISK, O_RDONLY | O_EXCL));
	expect_refused(NVME " is in use, a program has " DISK ": fuser -v " DISK, "bind " NVME);
	expect(!driver_has(NVME));
	expect_eq(ctl("unbind --force " NVME), 2);
	expect_done("bind --force " NVME);
	expect(driver_has(NVME));
	close(fd);

	expect_done("unbind " NVME);
	nvme_unload();
}

/* A device that was taken out is not waited for at each boot. */
TEST(unbind_absent)
{
	mkdir("/etc/driverctl.d", 0755);
	put("/etc/driverctl.d/pci-0000:77:00.0", "noiommu-vfio-pci\n");
	put("/etc/driverctl.d/pci-0000:77:00.1", "uio_pci_generic\n");
	expect_done("unbind 77:00.0");
	expect_said("0000:77:00.0 is not there, and will not be bound at boot\n");
	expect_errno(access("/etc/driverctl.d/pci-0000:77:00.0", F_OK), ENOENT);
	expect_refused("there is no PCI device 77:00.0: ", "unbind 77:00.0");
	/* Somebody else's */
	expect_refused("there is no PCI device 0000:77:00.1: ", "unbind 0000:77:00.1");
	expect_ok(unlink("/etc/driverctl.d/pci-0000:77:00.1"));
}

/* The kernel waits for a program that cannot be seen; the command can be interrupted. */
TEST(interrupted)
{
	char proc[64];
	struct setup s;
	pid_t child;
	int status;

	setup_bound(&s);
	snprintf(proc, sizeof(proc), "/proc/%d", getpid());
	expect_ok(mount("tmpfs", proc, "tmpfs", 0, NULL));
	child = fork();
	if (!child) {
		execlp("noiommuctl", "noiommuctl", "unbind", edu(), NULL);
		_exit(127);
	}
	sleep_ms(1000 * slow());
	expect_eq(waitpid(child, &status, WNOHANG), 0);
	expect_ok(kill(child, SIGINT));
	sleep_ms(1000 * slow());
	expect_eq(waitpid(child, &status, WNOHANG), child);
	expect_ok(umount(proc));
	expect(WIFEXITED(status));
	expect_eq(WEXITSTATUS(status), 128 + SIGINT);

	/* The kernel goes on, once it can. */
	close(s.dev);
	for (int i = 0; i < 100 && driver_has(edu()); i++)
		sleep_ms(100);
	expect(!driver_has(edu()));
	expect_done("unbind %s", edu());
}

TEST(unsafe_mode)
{
	mkdir("/etc/modprobe.d", 0755);
	free_edu();
	expect_done("disable");
	expect(conf_has("mode=0") || !conf_has("mode="));
	expect_refused("unsafe mode is off, and no device is taken: noiommuctl enable\n",
		       "bind %s", edu());
	expect_done("enable");
	expect(!conf_has("mode=1"));
	expect_done("bind %s", edu());
	expect_done("disable");
	/* It stays. */
	expect(driver_has(edu()));

	/* The rest of the file is a user's. */
	put(CONF, MINE("0"));
	expect_done("enable --persist");
	expect(conf_has(MINE("1")));
	expect_done("disable");
	expect(conf_has(MINE("0")));
	/* One that wins over it is reported. */
	put("/etc/modprobe.d/zz.conf", "options noiommu_vfio_pci enable_unsafe_noiommu_mode=0\n");
	expect_refused("another file sets the unsafe mode as well: ", "enable --persist");
	unlink("/etc/modprobe.d/zz.conf");
	unlink(CONF);
	expect_done("enable --persist");
	expect(conf_has(MODE "1\n"));
	unlink(CONF);
}

/* At boot devices are bound by driverctl, and by nothing else. */
TEST(persist_without_driverctl)
{
	free_edu();
	expect_refused("driverctl binds devices at boot, and is not installed: ",
		       "bind --persist %s", edu());
	expect(!driver_has(edu()));
}

static void as_nobody(void *arg)
{
	(void)arg;
	expect_ok(setgid(65534));
	expect_ok(setuid(65534));
	expect_refused("this needs root: sudo noiommuctl bind ", "bind %s", edu());
	expect_refused("this needs root: ", "disable");
	expect_done("list");
	expect(*line_of(edu()));
}

TEST(not_root)
{
	in_child(as_nobody, NULL);
}
