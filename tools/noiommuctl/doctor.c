// SPDX-License-Identifier: GPL-2.0-only
/*
 * doctor: what stands between this machine and a working device, in the order
 * in which it has to be mended, with the command for each.
 *
 * A fault means that nothing works, a hint that something may not. What can
 * only be looked at when an earlier thing is well is left out until it is.
 */
#define _GNU_SOURCE
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
	printf("%-6s %s\n", level, says);
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

/* The last line of the kernel's log that has both texts */
static bool find_log(char line[LINE], const char *one, const char *other)
{
	char *path = path_of("/dev/kmsg"), record[8192], *at;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	bool found = false;
	ssize_t len;

	free(path);
	while (fd >= 0 && (len = read(fd, record, sizeof(record) - 1)) > 0) {
		record[len] = '\0';
		at = strstr(record, one);
		at = at ? strstr(at, other) : NULL;
		if (!at)
			continue;
		snprintf(line, LINE, "%.*s", (int)strcspn(at, "\n"), at);
		found = true;
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

	if (!read_line(release, "/proc/sys/kernel/osrelease") ||
	    sscanf(release, "%u.%u", &major, &minor) != 2)
		errx(2, "/proc is not mounted: mount -t proc none /proc");
	if (option("CONFIG_IOMMUFD_NOIOMMU") == 1) {
		report(FAULT,
		       "echo 1 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, and use vfio-pci",
		       "kernel %s has the noiommu mode itself, and does not need noiommufd",
		       release);
		return false;
	}
	if (option("CONFIG_VFIO_PCI_CORE") == 1 ||
	    find_line(line, "vfio-pci-core.ko", "/lib/modules/%s/modules.dep", release) ||
	    find_line(line, "vfio-pci-core.ko", "/lib/modules/%s/modules.builtin", release)) {
		report(OK, NULL, "kernel %s has VFIO_PCI_CORE", release);
		return true;
	}
	if (major < 5 || (major == 5 && minor < 15))
		report(FAULT, "install a newer kernel, and boot it",
		       "kernel %s is too old: noiommufd needs Linux 5.15", release);
	else
		report(FAULT,
		       "install another kernel of your distribution, or build one with CONFIG_VFIO_PCI_CORE=m",
		       "kernel %s was built without CONFIG_VFIO_PCI_CORE", release);
	return false;
}

/* --- the machine --------------------------------------------------------------- */

static bool not_locked(void)
{
	char line[LINE], options[LINE];
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
	report(FAULT, strstr(options, "lockdown=") ?
	       "drop lockdown= from GRUB_CMDLINE_LINUX in /etc/default/grub, update-grub, reboot" :
	       "mokutil --disable-validation, reboot, and confirm it: Secure Boot has to be off",
	       "kernel lockdown is on %s, and forbids all devices", at);
	return false;
}

static bool not_xen(void)
{
	char type[LINE], guest[LINE];

	if (!read_line(type, "/sys/hypervisor/type") || strcmp(type, "xen") ||
	    !read_line(guest, "/sys/hypervisor/guest_type") || strcmp(guest, "PV"))
		return true;
	report(FAULT, "boot the entry without Xen, or give the device to an HVM domain",
	       "this is a Xen PV domain, in which physical addresses are not the machine's");
	return false;
}

static bool not_encrypted(void)
{
	char line[LINE];
	bool guest = find_line(line, " tdx_guest", "/proc/cpuinfo") ||
		     exists("/dev/sev-guest");
	bool active = find_log(line, "Memory Encryption Features active", ":");

	if (!guest && !active)
		return true;
	guest |= active && (strstr(line, "SEV") || strstr(line, "TDX"));
	report(FAULT, guest ? "use a virtual machine that is not confidential" :
	       "boot with mem_encrypt=off (GRUB_CMDLINE_LINUX in /etc/default/grub, update-grub, reboot)",
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
	report(FAULT, "use vfio-pci, which is safe there: driverctl set-override ADDRESS vfio-pci",
	       "an IOMMU is on, and manages all devices");
	return false;
}

/* --- our modules --------------------------------------------------------------- */

static const char *install_headers(char command[LINE])
{
	if (exists("/etc/debian_version"))
		snprintf(command, LINE, "apt-get install linux-headers-%.200s && dkms autoinstall",
			 release);
	else
		snprintf(command, LINE, "dnf install kernel-devel-%.200s && dkms autoinstall",
			 release);
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
		snprintf(command, sizeof(command), "less %.400s", log);
		report(FAULT, command, "DKMS could not build the modules for kernel %s: %s",
		       release, line);
	}
	globfree(&found);
	free(pattern);
	return failed;
}

static bool check_built(void)
{
	char *pattern = path_of("/usr/src/noiommufd-*"), line[LINE];
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
		report(FAULT, "install the package noiommufd-dkms",
		       "the modules are not installed");
	else if (!exists("/lib/modules/%s/build/include/generated/autoconf.h", release))
		report(FAULT, install_headers(line),
		       "the modules are not built: the headers of kernel %s are missing", release);
	else if (!build_failed())
		report(FAULT, "dkms autoinstall", "the modules are not built for kernel %s",
		       release);
	return false;
}

static bool check_loaded(void)
{
	char line[LINE];

	if (exists(MODULE)) {
		report(OK, NULL, "the module is loaded");
		return true;
	}
	if (find_log(line, "module with unavailable key is rejected", "") ||
	    find_log(line, "unsigned module is rejected", ""))
		report(FAULT,
		       "mokutil --import /var/lib/dkms/mok.pub, reboot, enrol it, modprobe " DRIVER,
		       "the module is not loaded: the kernel does not know the key that it is signed with");
	else
		report(FAULT, "modprobe " DRIVER, "the module is not loaded");
	return false;
}

static void check_version(void)
{
	char line[LINE], running[LINE], installed[LINE];
	char *path;

	if (!find_line(line, DRIVER ".ko", "/lib/modules/%s/modules.dep", release) ||
	    !read_line(running, MODULE "/version"))
		return;
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

static void check_node(const char *name)
{
	char command[LINE], *path = path_of("/dev/%s", name);
	struct stat st;

	if (stat(path, &st)) {
		snprintf(command, sizeof(command),
			 "podman run --device /dev/%s ... (a service: no PrivateDevices=)", name);
		report(FAULT, command, "/dev/%s is not in this /dev, as in a container", name);
	} else if (!may_open(&st)) {
		report(FAULT,
		       "groupadd --system noiommufd; udevadm trigger --subsystem-match=misc --subsystem-match=vfio-dev; usermod -aG noiommufd USER",
		       "this user may not open /dev/%s, which has mode %04o, user %u and group %u",
		       name, st.st_mode & 07777, st.st_uid, st.st_gid);
	} else {
		report(OK, NULL, "/dev/%s can be opened", name);
	}
	free(path);
}

static void check_user(void)
{
	unsigned int inside = 0, outside = 0, count = 0;
	unsigned long limit;
	char line[LINE];

	if (!has(CAP_SYS_RAWIO))
		report(FAULT,
		       "run the program as root, or: setcap cap_sys_rawio+ep PROGRAM (a service: AmbientCapabilities=CAP_SYS_RAWIO; a container: --cap-add SYS_RAWIO)",
		       "this user has no CAP_SYS_RAWIO, which opening a device needs");
	else if (read_line(line, "/proc/self/uid_map") &&
		 sscanf(line, "%u %u %u", &inside, &outside, &count) == 3 &&
		 (inside || outside || count != ~0U))
		report(FAULT, "start the container as root and without --userns",
		       "this is a user namespace, in which CAP_SYS_RAWIO does not count");
	else
		report(OK, NULL, "this user has CAP_SYS_RAWIO");

	if (!has(CAP_IPC_LOCK) && find_line(line, "Max locked memory", "/proc/self/limits") &&
	    sscanf(line, "Max locked memory %lu", &limit) == 1 && limit <= 8 << 20)
		report(HINT,
		       "ulimit -l unlimited (a service: LimitMEMLOCK=1G; a container: --ulimit memlock=-1:-1)",
		       "programs of this user can map %lu KiB", limit >> 10);
	if (find_line(line, "HugePages_Total: ", "/proc/meminfo") &&
	    strtoul(strchr(line, ':') + 1, NULL, 10) == 0)
		report(HINT, "sysctl vm.nr_hugepages=512",
		       "there are no huge pages, which DPDK and SPDK need");
}

/* --- the device ---------------------------------------------------------------- */

static void mend_refusal(const struct device *dev)
{
	char command[LINE];

	if (strstr(dev->refusal, "IOMMU"))
		snprintf(command, sizeof(command),
			 "driverctl set-override %s vfio-pci, which is safe there", dev->address);
	else if (strstr(dev->refusal, "VFs"))
		snprintf(command, sizeof(command), "echo 0 > " PCI_DEVICES "/%s/sriov_numvfs",
			 dev->address);
	else
		snprintf(command, sizeof(command), "name another device: noiommuctl list");
	report(FAULT, command, "%s: %s", dev->address, dev->refusal);
}

/* Return: does our driver have it? */
static bool check_device(const struct device *dev)
{
	char line[LINE], command[LINE], *why = "";

	if (dev->taken) {
		report(OK, NULL, "%s has our driver", dev->address);
		return true;
	}
	if (dev->refusal) {
		/* Lockdown was reported. */
		if (!strstr(dev->refusal, "lockdown"))
			mend_refusal(dev);
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

int cmd_doctor(char **names)
{
	bool machine, modules = false, mine = false;
	char path[LINE];
	struct device dev;

	if (*names)
		find_device(&dev, *names);
	if (json)
		json_open(NULL, '[');

	machine = check_kernel() && not_locked() && not_xen() && not_encrypted() &&
		(*names || not_all_managed());
	if (machine)
		modules = check_built() && check_loaded();
	if (modules) {
		check_version();
		check_unsafe();
	}
	if (*names)
		mine = check_device(&dev);
	if (modules) {
		check_node(iommufd_node() ?: "iommu");
		if (mine) {
			snprintf(path, sizeof(path), "vfio/devices/%s", dev.node);
			check_node(path);
			check_held(&dev);
		}
	}
	check_user();

	if (json) {
		json_close(']');
		putchar('\n');
	}
	return faults;
}
