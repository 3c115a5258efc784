// SPDX-License-Identifier: GPL-2.0-only
/*
 * doctor: what stands between this machine and a working device, in the order
 * in which it has to be mended, with the command for each.
 *
 * A fault means that nothing works, a hint that something may not. What can
 * only be looked at when an earlier thing is well is left out until it is.
 *
 * What is to be done is a line for a shell of root's; what no command does is a
 * comment in it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/capability.h>

#include "noiommuctl.h"

/* The running kernel's release */
static char release[LINE];
static bool faults;

#define OK	"ok"
#define HINT	"hint"
#define FAULT	"fault"

/* The colour of a level on a terminal */
static const char *colour(const char *level)
{
	if (!isatty(STDOUT_FILENO) || getenv("NO_COLOR"))
		return "";
	return *level == 'o' ? "\033[32m" : *level == 'h' ? "\033[33m" : "\033[31m";
}

static __attribute__((format(printf, 3, 4)))
void report(const char *level, const char *mend, const char *fmt, ...)
{
	char says[2 * LINE];
	va_list args;

	va_start(args, fmt);
	vsnprintf(says, sizeof(says), fmt, args);
	va_end(args);
	faults |= strcmp(level, FAULT) == 0;
	if (json) {
		json_open(NULL, '{');
		json_text("level", level);
		json_text("says", says);
		json_text("do", mend);
		json_close('}');
		return;
	}
	printf("%s%-6s%s %s\n", colour(level), level, *colour(level) ? "\033[m" : "", says);
	if (mend)
		printf("       do: %s\n", mend);
}

/* The first line of a file with this text; line has LINE bytes. */
static __attribute__((format(printf, 3, 4)))
bool find_line(char *line, const char *text, const char *fmt, ...)
{
	char name[LINE], *path;
	bool found = false;
	va_list args;
	FILE *file;

	va_start(args, fmt);
	vsnprintf(name, sizeof(name), fmt, args);
	va_end(args);
	path = path_of("%s", name);
	file = fopen(path, "re");
	free(path);
	while (!found && file && fgets(line, LINE, file))
		found = strstr(line, text);
	if (file)
		fclose(file);
	if (!found)
		*line = '\0';
	line[strcspn(line, "\n")] = '\0';
	return found;
}

/* The last line of the kernel's log that has both texts; returns its number, 0: there is none */
static unsigned int find_log(char line[LINE], const char *one, const char *other)
{
	char *path = path_of("/dev/kmsg"), record[8192], *at;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	unsigned int nr = 0, found = 0;
	ssize_t len;

	free(path);
	while (fd >= 0 && (len = read(fd, record, sizeof(record) - 1)) > 0) {
		record[len] = '\0';
		nr++;
		at = strstr(record, one);
		at = at ? strstr(at, other) : NULL;
		if (!at)
			continue;
		snprintf(line, LINE, "%.*s", (int)strcspn(at, "\n"), at);
		found = nr;
	}
	if (fd >= 0)
		close(fd);
	return found;
}

/* --- the kernel ---------------------------------------------------------------- */

/* Is the option on? -1: there is no configuration to read. */
static int option(const char *name)
{
	char text[64], line[LINE];

	snprintf(text, sizeof(text), "%s=", name);
	if (exists("/boot/config-%s", release))
		return find_line(line, text, "/boot/config-%s", release);
	if (exists("/lib/modules/%s/config", release))
		return find_line(line, text, "/lib/modules/%s/config", release);
	return -1;
}

static bool check_kernel(void)
{
	unsigned int major, minor;
	char line[LINE];

	if (sscanf(release, "%u.%u", &major, &minor) != 2)
		major = 0;
	if (option("CONFIG_IOMMUFD_NOIOMMU") == 1) {
		report(FAULT,
		       "echo 1 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode # and use vfio-pci",
		       "kernel %s has the noiommu mode itself, and does not need noiommufd",
		       release);
		return false;
	}
	/* In a container the files are not there, and the module is. */
	if (exists(MODULE) || option("CONFIG_VFIO_PCI_CORE") == 1 ||
	    find_line(line, "vfio-pci-core.ko", "/lib/modules/%s/modules.dep", release) ||
	    find_line(line, "vfio-pci-core.ko", "/lib/modules/%s/modules.builtin", release)) {
		report(OK, NULL, "kernel %s has VFIO_PCI_CORE", release);
		return true;
	}
	if (major < 5 || (major == 5 && minor < 15))
		report(FAULT, "# install a newer kernel, and boot it",
		       "kernel %s is too old: noiommufd needs Linux 5.15", release);
	else
		report(FAULT,
		       "# install another kernel of your distribution, or build one with CONFIG_VFIO_PCI_CORE=m",
		       "kernel %s was built without CONFIG_VFIO_PCI_CORE", release);
	return false;
}

/* --- the machine --------------------------------------------------------------- */

/* The command that changes the kernel's command line from the next boot on */
static const char *boot_with(char command[LINE], const char *debian, const char *other)
{
	if (exists("/etc/debian_version"))
		snprintf(command, LINE, "sed -i '%s' /etc/default/grub && update-grub && reboot",
			 debian);
	else
		snprintf(command, LINE, "grubby --update-kernel=ALL %s && reboot", other);
	return command;
}

static bool secure_boot(void)
{
	char *pattern = path_of("/sys/firmware/efi/efivars/SecureBoot-*");
	unsigned char value[5] = { 0 };
	glob_t found;
	FILE *file;

	if (glob(pattern, 0, NULL, &found) == 0) {
		file = fopen(found.gl_pathv[0], "re");
		/* After four bytes of attributes */
		if (file && fread(value, 1, sizeof(value), file) != sizeof(value))
			value[4] = 0;
		if (file)
			fclose(file);
	}
	globfree(&found);
	free(pattern);
	return value[4];
}

static bool not_locked(void)
{
	char line[LINE], options[LINE], command[LINE];
	char *at, *end;

	if (!read_line(line, "/sys/kernel/security/lockdown") || strstr(line, "[none]")) {
		report(OK, NULL, "the kernel is not locked down");
		return true;
	}
	at = strchr(line, '[') ?: line;
	end = strchr(at, ']');
	if (end)
		end[1] = '\0';
	read_line(options, "/proc/cmdline");
	if (secure_boot())
		snprintf(command, sizeof(command),
			 "mokutil --disable-validation && reboot # and confirm it: Secure Boot has to be off");
	else if (strstr(options, "lockdown="))
		boot_with(command, "s/ *lockdown=[a-z]*//", "--remove-args=lockdown");
	else
		snprintf(command, sizeof(command), "reboot");
	report(FAULT, command, "kernel lockdown is on %s, and forbids all devices", at);
	return false;
}

static bool not_xen(void)
{
	char type[LINE], guest[LINE];

	if (!read_line(type, "/sys/hypervisor/type") || strcmp(type, "xen") ||
	    !read_line(guest, "/sys/hypervisor/guest_type") || strcmp(guest, "PV"))
		return true;
	report(FAULT, "# boot the entry without Xen, or give the device to an HVM domain",
	       "this is a Xen PV domain, in which physical addresses are not the machine's");
	return false;
}

static bool not_encrypted(void)
{
	char line[LINE], command[LINE];
	bool guest = find_line(line, " tdx_guest", "/proc/cpuinfo") ||
		     exists("/dev/sev-guest");
	bool active = find_log(line, "Memory Encryption Features active", ":");

	if (!guest && !active)
		return true;
	guest |= active && (strstr(line, "SEV") || strstr(line, "TDX"));
	report(FAULT, guest ? "# use a virtual machine that is not confidential" :
	       boot_with(command, "s/^GRUB_CMDLINE_LINUX=\"/&mem_encrypt=off /",
			 "--args=mem_encrypt=off"),
	       "memory is encrypted, and a device cannot read what programs write");
	return false;
}

/* Does an IOMMU manage every device? */
static bool not_all_managed(void)
{
	char *pattern = path_of(PCI_DEVICES "/*"), *iommus = path_of("/sys/class/iommu/*");
	bool on = false, free_one = false;
	struct device dev;
	glob_t found;
	size_t i;

	on = glob(iommus, 0, NULL, &found) == 0;
	globfree(&found);
	if (glob(pattern, 0, NULL, &found) == 0)
		for (i = 0; i < found.gl_pathc && !free_one; i++)
			free_one = read_device(&dev, strrchr(found.gl_pathv[i], '/') + 1) &&
				!exists(PCI_DEVICES "/%s/iommu_group", dev.address);
	globfree(&found);
	free(pattern);
	free(iommus);
	if (!on || free_one)
		return true;
	report(FAULT, "driverctl set-override ADDRESS vfio-pci # which is safe there",
	       "an IOMMU is on, and manages all devices");
	return false;
}

/* --- our modules --------------------------------------------------------------- */

static const char *install_headers(char command[LINE])
{
	snprintf(command, LINE, "%s-%.200s && dkms autoinstall -k %.200s",
		 exists("/etc/debian_version") ? "apt-get install linux-headers" :
		 "dnf install kernel-devel", release, release);
	return command;
}

/* The log of a build that failed; the first line is that of DKMS, with the kernel. */
static bool build_failed(void)
{
	char *pattern = path_of("/var/lib/dkms/noiommufd/*/build/make.log");
	char line[LINE], command[LINE];
	bool failed = false;
	glob_t found;
	const char *log;

	if (glob(pattern, 0, NULL, &found) == 0) {
		log = found.gl_pathv[found.gl_pathc - 1] + strlen(sysroot);
		failed = find_line(line, release, "%s", log) &&
			(find_line(line, "error:", "%s", log) ||
			 find_line(line, "rror", "%s", log));
	}
	if (failed) {
		snprintf(command, sizeof(command), "less %.200s && dkms autoinstall -k %.200s", log,
			 release);
		report(FAULT, command, "DKMS could not build the modules for kernel %s: %s",
		       release, line);
	}
	globfree(&found);
	free(pattern);
	return failed;
}

static bool check_built(void)
{
	char *pattern = path_of("/usr/src/noiommufd-*"), line[LINE], command[LINE];
	glob_t found;
	bool source;

	source = glob(pattern, 0, NULL, &found) == 0;
	globfree(&found);
	free(pattern);
	if (exists(MODULE) ||
	    find_line(line, DRIVER ".ko", "/lib/modules/%s/modules.dep", release)) {
		report(OK, NULL, "the modules are there for this kernel");
		return true;
	}
	if (!source)
		report(FAULT, exists("/etc/debian_version") ?
		       "make deb && apt-get install ./build/*.deb # in noiommufd's source" :
		       "make rpm && dnf install ./build/*.rpm # in noiommufd's source",
		       "the modules are not installed");
	else if (!exists("/lib/modules/%s/build/include/generated/autoconf.h", release))
		report(FAULT, install_headers(line),
		       "the modules are not built: the headers of kernel %s are missing", release);
	else if (!build_failed()) {
		snprintf(command, sizeof(command), "dkms autoinstall -k %.200s", release);
		report(FAULT, command, "the modules are not built for kernel %s", release);
	}
	return false;
}

/* A module was rejected, and ours has logged nothing since then. */
static bool is_rejected(void)
{
	char line[LINE];
	unsigned int ours = find_log(line, ";noiommufd: ", "");

	return find_log(line, "module with unavailable key is rejected", "") > ours ||
	       find_log(line, "unsigned module is rejected", "") > ours;
}

static bool check_loaded(void)
{
	if (exists(MODULE)) {
		report(OK, NULL, "the module is loaded");
		return true;
	}
	if (is_rejected())
		report(FAULT,
		       "mokutil --import /var/lib/dkms/mok.pub && reboot # and enrol it",
		       "the module is not loaded: the kernel does not know the key that it is signed with");
	else
		report(FAULT, "modprobe " DRIVER, "the module is not loaded");
	return false;
}

static void check_version(void)
{
	char line[LINE], running[LINE], installed[LINE];
	char *path;

	if (!find_line(line, DRIVER ".ko", "/lib/modules/%s/modules.dep", release))
		return;
	/* Later modules say theirs. */
	if (!read_line(running, MODULE "/version"))
		snprintf(running, sizeof(running), "0.1");
	line[strcspn(line, ":")] = '\0';
	path = *line == '/' ? path_of("%s", line) : path_of("/lib/modules/%s/%s", release, line);
	/* No shell reads the path. */
	setenv("FILE", path, 1);
	free(path);
	if (!output_of(installed, "modinfo -F version \"$FILE\" 2>/dev/null") || !*installed)
		return;
	if (strcmp(running, installed))
		report(FAULT, "modprobe -r " DRIVER " noiommufd; modprobe " DRIVER,
		       "version %s is loaded, and %s is installed", running, installed);
	else
		report(OK, NULL, "its version is %s", running);
}

static void check_unsafe(void)
{
	char *pattern = path_of(OVERRIDE, "*"), line[LINE];
	const char *address;
	glob_t found;
	size_t i;

	if (unsafe_now() == 1)
		report(OK, NULL, "unsafe mode is on");
	else
		report(FAULT, "noiommuctl enable", "unsafe mode is off, so no device is taken");
	if (glob(pattern, 0, NULL, &found))
		found.gl_pathc = 0;
	for (i = 0; i < found.gl_pathc && unsafe_at_boot() != 1; i++) {
		address = found.gl_pathv[i] + strlen(pattern) - 1;
		if (!read_line(line, OVERRIDE, address) || strcmp(line, DRIVER))
			continue;
		report(FAULT, "noiommuctl enable --persist",
		       "unsafe mode is off at boot, so %s will have no driver then", address);
		break;
	}
	globfree(&found);
	free(pattern);
}

/* --- the user ------------------------------------------------------------------ */

/* The first user namespace has all users as they are. */
static bool not_userns(void)
{
	unsigned int inside, outside, count;
	char line[LINE];

	if (!exists("/proc/self/uid_map") ||
	    (read_line(line, "/proc/self/uid_map") &&
	     sscanf(line, "%u %u %u", &inside, &outside, &count) == 3 &&
	     !inside && !outside && count == ~0U))
		return true;
	report(FAULT, "podman run --userns host ... # as root",
	       "this is a user namespace, in which CAP_SYS_RAWIO does not count");
	return false;
}

static bool in_container(void)
{
	return exists("/run/.containerenv") || exists("/.dockerenv") ||
	       (!*sysroot && (getenv("container") || getenv("KUBERNETES_SERVICE_HOST")));
}

static unsigned long long capabilities(void)
{
	char line[LINE];

	return find_line(line, "CapEff:", "/proc/self/status") ?
		strtoull(strchr(line, ':') + 1, NULL, 16) : 0;
}

static bool has(int capability)
{
	return capabilities() >> capability & 1;
}

/* May the process of /proc/self read and write a file with this mode? */
static bool may_open(const struct stat *st)
{
	unsigned int uid = -1, gid, group;
	char line[LINE], *at;
	int used;

	if (find_line(line, "Uid:", "/proc/self/status") &&
	    sscanf(line, "Uid: %*u %u", &uid) != 1)
		uid = -1;
	if (has(CAP_DAC_OVERRIDE))
		return true;
	if (uid == st->st_uid)
		return (st->st_mode & 0600) == 0600;
	if (find_line(line, "Gid:", "/proc/self/status") &&
	    sscanf(line, "Gid: %*u %u", &gid) == 1 && gid == st->st_gid)
		return (st->st_mode & 0060) == 0060;
	if (find_line(line, "Groups:", "/proc/self/status"))
		for (at = line + strlen("Groups:"); sscanf(at, "%u%n", &group, &used) == 1;
		     at += used)
			if (group == st->st_gid)
				return (st->st_mode & 0060) == 0060;
	return (st->st_mode & 0006) == 0006;
}

/* The user of /proc/self; the caller frees the name. */
static char *user_name(void)
{
	char line[LINE], text[32];
	unsigned int uid;

	if (!find_line(line, "Uid:", "/proc/self/status") ||
	    sscanf(line, "Uid: %u", &uid) != 1)
		return strdup("USER");
	snprintf(text, sizeof(text), ":x:%u:", uid);
	return strdup(find_line(line, text, "/etc/passwd") ? strtok(line, ":") : "USER");
}

/* Why an open of a node that the mode allows fails; 0: it does not */
static int refuses(const char *path)
{
	int fd;

	/* Of a device it needs the capability, which is looked at later. */
	if (*sysroot || (strstr(path, "/vfio/") && !has(CAP_SYS_RAWIO)))
		return 0;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

/* A node that is not there, or may not be opened: how programs get such nodes */
static void report_absent(const struct device *dev, const char *path, const char *numbers,
			  const char *why)
{
	char command[LINE];

	if (in_container())
		snprintf(command, sizeof(command),
			 "mkdir -p /run/cdi && noiommuctl cdi > /run/cdi/noiommufd.json; podman run --device noiommufd/device=%s ... # outside",
			 *dev->address ? dev->address : "ADDRESS");
	else if (*why)
		snprintf(command, sizeof(command),
			 "systemctl edit UNIT # add to its [Service]: DeviceAllow=%s rw", path);
	else
		snprintf(command, sizeof(command),
			 "mkdir -p %.*s && mknod -m 600 %s c %s # a service: no PrivateDevices=",
			 (int)(strrchr(path, '/') - path), path, path, numbers);
	report(FAULT, command, *why ? "%s cannot be opened here: %s" :
	       "%s is not in this /dev%s", path, why);
}

static void check_node(const struct device *dev, const char *path, const char *class)
{
	char command[LINE], numbers[LINE], *place = path_of("%s", path), *user;
	struct stat st;
	int error;

	if (read_line(numbers, "/sys/class/%s/dev", class) && strchr(numbers, ':'))
		*strchr(numbers, ':') = ' ';
	if (stat(place, &st)) {
		report_absent(dev, path, numbers, "");
	} else if (!may_open(&st)) {
		user = user_name();
		snprintf(command, sizeof(command),
			 "groupadd -f --system noiommufd; usermod -aG noiommufd %.64s; udevadm trigger --settle --subsystem-match=misc --subsystem-match=vfio-dev # and log in again",
			 user);
		free(user);
		report(FAULT, command,
		       "this user may not open %s, which has mode %04o, user %u and group %u",
		       path, st.st_mode & 07777, st.st_uid, st.st_gid);
	} else {
		error = refuses(place);
		if (error == EPERM)
			report_absent(dev, path, numbers, "a device cgroup forbids it");
		else if (error)
			report(FAULT, "dmesg | tail", "%s cannot be opened: %s", path,
			       strerror(error));
		else
			report(OK, NULL, "%s can be opened", path);
	}
	free(place);
}

static void check_user(void)
{
	bool container = in_container();
	unsigned long limit;
	char line[LINE];

	if (has(CAP_SYS_RAWIO))
		report(OK, NULL, "this user has CAP_SYS_RAWIO");
	else
		report(FAULT, container ? "podman run --cap-add SYS_RAWIO ..." :
		       "setcap cap_sys_rawio=ep PROGRAM # or run it as root (a service: AmbientCapabilities=CAP_SYS_RAWIO)",
		       "this user has no CAP_SYS_RAWIO, which opening a device needs");

	if (!has(CAP_IPC_LOCK) && find_line(line, "Max locked memory", "/proc/self/limits") &&
	    sscanf(line, "Max locked memory %lu", &limit) == 1 && limit <= 8 << 20)
		report(HINT, container ? "podman run --ulimit memlock=-1:-1 ..." :
		       "ulimit -l unlimited # in the shell that starts it (a service: LimitMEMLOCK=1G)",
		       "programs of this user can map %lu KiB", limit >> 10);
	if (find_line(line, "HugePages_Total: ", "/proc/meminfo") &&
	    strtoul(strchr(line, ':') + 1, NULL, 10) == 0)
		report(HINT, "echo 512 > /proc/sys/vm/nr_hugepages",
		       "there are no huge pages, which DPDK and SPDK need");
}

/* --- the device ---------------------------------------------------------------- */

/* Could our driver take it? If not, no module is needed either. */
static bool check_takeable(const struct device *dev)
{
	char command[LINE] = "noiommuctl list # name another device";

	/* Lockdown was reported. */
	if (!dev->refusal || strstr(dev->refusal, "lockdown"))
		return true;
	if (strstr(dev->refusal, "IOMMU") && strcmp(dev->driver, "vfio-pci") == 0) {
		report(OK, NULL, "%s has vfio-pci, behind an IOMMU, and does not need noiommufd",
		       dev->address);
		return false;
	}
	if (strstr(dev->refusal, "IOMMU"))
		snprintf(command, sizeof(command),
			 "driverctl set-override %s vfio-pci # which is safe there", dev->address);
	else if (strstr(dev->refusal, "VFs"))
		snprintf(command, sizeof(command), "echo 0 > " PCI_DEVICES "/%s/sriov_numvfs",
			 dev->address);
	report(FAULT, command, "%s: %s", dev->address, dev->refusal);
	return false;
}

/* Return: does our driver have it? */
static bool check_device(const struct device *dev)
{
	char line[LINE], command[LINE], use[LINE], *why = "", *end;

	if (dev->taken) {
		report(OK, NULL, "%s has our driver", dev->address);
		return true;
	}
	if (!*sysroot && is_used(dev, use)) {
		end = strstr(use, ": ");
		*end = '\0';
		report(FAULT, end + 2, "%s is in use, %s", dev->address, use);
		return false;
	}
	if (!*dev->driver && find_log(line, dev->address, "refused: "))
		why = line;
	snprintf(command, sizeof(command), "noiommuctl bind %s", dev->address);
	report(FAULT, command, "%s has driver %s%s%s", dev->address,
	       *dev->driver ? dev->driver : "none", *why ? ", and was " : "", why);
	return false;
}

static void check_held(const struct device *dev)
{
	struct holder *holders;
	size_t count = find_holders(&holders);
	char command[LINE];

	while (count--) {
		if (strcmp(holders[count].device, dev->address))
			continue;
		snprintf(command, sizeof(command), "kill %d", holders[count].pid);
		report(HINT, command, "%s (pid %d) has it, and one program at a time can bind it",
		       holders[count].command, holders[count].pid);
	}
	free(holders);
}

static void check(const struct device *dev)
{
	char path[LINE], class[LINE];
	bool mine = false;

	if (!check_kernel() || !not_locked() || !not_xen() || !not_encrypted())
		return;
	if (*dev->address ? !check_takeable(dev) : !not_all_managed())
		return;
	if (!check_built() || !check_loaded())
		return;
	check_version();
	check_unsafe();
	if (*dev->address)
		mine = check_device(dev);
	/* Nothing else helps there. */
	if (!not_userns())
		return;
	snprintf(path, sizeof(path), "/dev/%s", iommufd_path());
	snprintf(class, sizeof(class), "misc/%s", iommufd_node() ?: "iommu");
	check_node(dev, path, class);
	if (mine) {
		snprintf(path, sizeof(path), "/dev/vfio/devices/%s", dev->node);
		snprintf(class, sizeof(class), "vfio-dev/%s", dev->node);
		check_node(dev, path, class);
		check_held(dev);
	}
	check_user();
}

int cmd_doctor(char **names)
{
	static const char characters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+~-";
	struct device dev = { 0 };

	if (!read_line(release, "/proc/sys/kernel/osrelease"))
		errx(1, "/proc is not mounted: mount -t proc none /proc");
	/* Commands have it, and with --sysroot it comes from a file. */
	if (release[strspn(release, characters)])
		errx(1, "/proc/sys/kernel/osrelease is no release of a kernel");
	if (*names)
		find_device(&dev, *names);
	if (json)
		json_open(NULL, '[');
	check(&dev);
	if (json) {
		json_close(']');
		putchar('\n');
	}
	return faults;
}
