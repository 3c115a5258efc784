// SPDX-License-Identifier: GPL-2.0-only
/* What the kernel and the configuration say of devices, modules and processes. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "noiommuctl.h"

/* Fill path, a buffer of PATH_MAX bytes, from fmt. */
#define FORMAT_PATH(path, fmt) do {					\
	size_t root = snprintf(path, PATH_MAX, "%s", sysroot);		\
	va_list args;							\
									\
	va_start(args, fmt);						\
	vsnprintf((path) + root, PATH_MAX - root, fmt, args);		\
	va_end(args);							\
} while (0)

/* The path below sysroot; the caller frees it. */
char *path_of(const char *fmt, ...)
{
	char path[PATH_MAX], *copy;

	FORMAT_PATH(path, fmt);
	copy = strdup(path);
	if (!copy)
		err(1, "no memory");
	return copy;
}

bool exists(const char *fmt, ...)
{
	char path[PATH_MAX];

	FORMAT_PATH(path, fmt);
	return access(path, F_OK) == 0;
}

/* Read the first line of a file into line, which has LINE bytes. */
bool read_line(char *line, const char *fmt, ...)
{
	char path[PATH_MAX];
	FILE *file;
	bool ok;

	FORMAT_PATH(path, fmt);
	*line = '\0';
	file = fopen(path, "re");
	if (!file)
		return false;
	ok = fgets(line, LINE, file);
	line[strcspn(line, "\n")] = '\0';
	fclose(file);
	return ok;
}

/* errno is set on failure. */
bool write_text(const char *text, const char *fmt, ...)
{
	char path[PATH_MAX];
	ssize_t done;
	int fd;

	FORMAT_PATH(path, fmt);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	done = write(fd, text, strlen(text));
	close(fd);
	return done == (ssize_t)strlen(text);
}

/* The last part of what a symbolic link names, in LINE bytes. */
bool link_name(char *name, const char *fmt, ...)
{
	char path[PATH_MAX], target[PATH_MAX];
	ssize_t len;

	FORMAT_PATH(path, fmt);
	*name = '\0';
	len = readlink(path, target, sizeof(target) - 1);
	if (len < 0)
		return false;
	target[len] = '\0';
	snprintf(name, LINE, "%s", basename(target));
	return true;
}

/*
 * Run a command of the shell, and keep the last line that it prints, in LINE
 * bytes. Return: did it succeed?
 */
bool output_of(char *line, const char *fmt, ...)
{
	char command[PATH_MAX];
	va_list args;
	FILE *pipe;

	va_start(args, fmt);
	vsnprintf(command, sizeof(command), fmt, args);
	va_end(args);
	*line = '\0';
	/* To the one that became root by su, too, these are known. */
	if (!getenv("PATH") || !strstr(getenv("PATH"), "/sbin"))
		setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	pipe = popen(command, "re");
	if (!pipe)
		return false;
	while (fgets(line, LINE, pipe))
		line[strcspn(line, "\n")] = '\0';
	return pclose(pipe) == 0;
}

/* The reasons of the driver, as far as they can be seen from here. */
static const char *refusal_of(const struct device *dev)
{
	char line[LINE], config[LINE] = "", state[LINE];
	char *path = path_of(PCI_DEVICES "/%s/config", dev->address);
	bool in_group = exists(PCI_DEVICES "/%s/iommu_group", dev->address);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? 0 : read(fd, config, 64);

	free(path);
	if (fd >= 0)
		close(fd);
	/* The kernel's own noiommu mode has a group for each device that vfio-pci has. */
	read_line(line, PCI_DEVICES "/%s/iommu_group/name", dev->address);
	if (in_group && strcmp(line, "vfio-noiommu"))
		return "an IOMMU manages this device";
	if (got > 0xe && config[0xe] & 0x7f)
		return "this is a bridge";
	if (dev->class >> 8 == 0x0300)
		return "this is a VGA device";
	if (read_line(line, PCI_DEVICES "/%s/sriov_numvfs", dev->address) && atoi(line))
		return "its SR-IOV VFs are enabled";
	if (read_line(state, "/sys/kernel/security/lockdown") && !strstr(state, "[none]"))
		return "kernel lockdown forbids it";
	return NULL;
}

static void read_node(struct device *dev)
{
	char *pattern = path_of(PCI_DEVICES "/%s/vfio-dev/noiommu-vfio*", dev->address);
	glob_t found;

	if (glob(pattern, 0, NULL, &found) == 0)
		snprintf(dev->node, sizeof(dev->node), "%s", basename(found.gl_pathv[0]));
	globfree(&found);
	free(pattern);
}

/* Read what sysfs has of the device at this address, which may be that of dev. */
bool read_device(struct device *dev, const char *name)
{
	char address[sizeof(dev->address)], line[LINE];

	if (strlen(name) >= sizeof(address) || strchr(name, '/') ||
	    !exists(PCI_DEVICES "/%s/vendor", name))
		return false;
	snprintf(address, sizeof(address), "%s", name);
	*dev = (struct device){ 0 };
	memcpy(dev->address, address, sizeof(address));
	if (read_line(line, PCI_DEVICES "/%s/vendor", address))
		dev->vendor = strtoul(line, NULL, 16);
	if (read_line(line, PCI_DEVICES "/%s/device", address))
		dev->id = strtoul(line, NULL, 16);
	if (read_line(line, PCI_DEVICES "/%s/class", address))
		dev->class = strtoul(line, NULL, 16);
	if (link_name(line, PCI_DEVICES "/%s/driver", address))
		snprintf(dev->driver, sizeof(dev->driver), "%.63s", line);
	dev->taken = strcmp(dev->driver, DRIVER) == 0;
	if (dev->taken)
		read_node(dev);
	else
		dev->refusal = refusal_of(dev);
	return true;
}

/* The device that a user named by its address, with a domain or without it, or by its node. */
void find_device(struct device *dev, const char *name)
{
	char address[LINE];
	bool found;

	snprintf(address, sizeof(address), "%s", name);
	if (strstr(name, "noiommu-vfio") &&
	    link_name(address, "/sys/class/vfio-dev/%s/device", basename(name)))
		name = address;
	found = read_device(dev, name);
	if (!found && snprintf(address, sizeof(address), "0000:%s", name) < LINE)
		found = read_device(dev, address);
	if (!found)
		errx(1, "there is no PCI device %s: lspci -D lists them", name);
}

/* The name of our iommufd's node, or NULL if the module is not loaded. */
const char *iommufd_node(void)
{
	if (exists("/sys/class/misc/noiommufd"))
		return "noiommufd";
	return exists("/sys/module/noiommufd") ? "iommu" : NULL;
}

/* Its name in this /dev: a container may have it as /dev/iommu, whatever it is outside. */
const char *iommufd_path(void)
{
	char *path = path_of("/dev/iommu"), numbers[LINE], line[LINE];
	const char *node = iommufd_node() ?: "iommu";
	struct stat st;

	if (strcmp(node, "iommu") && !exists("/dev/%s", node) && stat(path, &st) == 0 &&
	    read_line(line, "/sys/class/misc/%s/dev", node)) {
		snprintf(numbers, sizeof(numbers), "%u:%u", major(st.st_rdev), minor(st.st_rdev));
		if (strcmp(numbers, line) == 0)
			node = "iommu";
	}
	free(path);
	return node;
}

int unsafe_now(void)
{
	char line[LINE];

	return read_line(line, UNSAFE_MODE) ? *line == 'Y' : -1;
}

/* What modprobe would give the module: the last option of that name wins. */
static int unsafe_in(const char *path)
{
	FILE *file = fopen(path, "re");
	char line[LINE];
	int mode = -1;

	while (file && fgets(line, sizeof(line), file)) {
		char *option = strstr(line, " enable_unsafe_noiommu_mode");
		char name[64];

		if (!option || sscanf(line, " options %63s", name) != 1)
			continue;
		for (char *c = name; *c; c++)
			if (*c == '_')
				*c = '-';
		if (strcmp(name, DRIVER))
			continue;
		option += strlen(" enable_unsafe_noiommu_mode");
		mode = *option != '=' || !!strchr("1yY", option[1]);
	}
	if (file)
		fclose(file);
	return mode;
}

int unsafe_at_boot(void)
{
	char *pattern = path_of("/etc/modprobe.d/*.conf");
	int mode = -1, in;
	glob_t found;
	size_t i;

	if (glob(pattern, 0, NULL, &found) == 0) {
		for (i = 0; i < found.gl_pathc; i++) {
			in = unsafe_in(found.gl_pathv[i]);
			mode = in < 0 ? mode : in;
		}
	}
	globfree(&found);
	free(pattern);
	return mode;
}

/* --- processes ----------------------------------------------------------------- */

struct holders {
	struct holder *list;
	size_t count;
};

/* The device that a file is of, by its fdinfo; "" if it is an iommufd of ours; NULL: neither. */
static const char *held(pid_t pid, const char *fd, char line[LINE])
{
	char target[LINE], dev[LINE], *path = path_of("/proc/%d/fd/%s", pid, fd);
	const char *node, *device = NULL;
	ssize_t len = readlink(path, target, sizeof(target) - 1);
	struct device taken;
	struct stat st;
	FILE *info;

	if (len < 0 || strncmp(target, "/dev/", 5) || stat(path, &st) || !S_ISCHR(st.st_mode)) {
		free(path);
		return NULL;
	}
	node = iommufd_node();
	snprintf(line, LINE, "%u:%u", major(st.st_rdev), minor(st.st_rdev));
	if (node && read_line(dev, "/sys/class/misc/%s/dev", node) && strcmp(dev, line) == 0)
		device = "";
	free(path);
	path = path_of("/proc/%d/fdinfo/%s", pid, fd);
	info = fopen(path, "re");
	while (!device && info && fgets(line, LINE, info)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "vfio-device-syspath:", 20) == 0 &&
		    read_device(&taken, basename(line)) && taken.taken)
			device = basename(line);
	}
	if (info)
		fclose(info);
	free(path);
	return device;
}

const char *printable(char *text)
{
	for (char *at = text; *at; at++)
		if (*at < ' ' || *at > '~')
			*at = '?';
	return text;
}

static void add_holder(struct holders *found, pid_t pid, const char *device)
{
	struct holder *holder;
	char line[LINE];
	struct stat st;
	FILE *status;
	char *path;
	size_t i;

	for (i = found->count; i && found->list[i - 1].pid == pid; i--) {
		if (strcmp(found->list[i - 1].device, device) == 0) {
			found->list[i - 1].files++;
			return;
		}
	}
	found->list = realloc(found->list, (found->count + 1) * sizeof(*holder));
	if (!found->list)
		err(1, "no memory");
	holder = &found->list[found->count++];
	*holder = (struct holder){ .pid = pid, .files = 1 };
	snprintf(holder->device, sizeof(holder->device), "%s", device);
	if (read_line(line, "/proc/%d/comm", pid))
		snprintf(holder->command, sizeof(holder->command), "%.31s", line);
	/* A program chooses its name. */
	printable(holder->command);
	path = path_of("/proc/%d/status", pid);
	if (stat(path, &st) == 0)
		holder->uid = st.st_uid;
	status = fopen(path, "re");
	while (status && fgets(line, sizeof(line), status))
		sscanf(line, "VmPin: %llu", &holder->pinned_kib);
	if (status)
		fclose(status);
	free(path);
}

/* The devices whose registers a process has mapped, if it does not have their files any more. */
static void add_mappings(struct holders *found, pid_t pid)
{
	char *path = path_of("/proc/%d/maps", pid), line[LINE], address[LINE];
	FILE *maps = fopen(path, "re");
	size_t i, had = found->count;

	while (maps && fgets(line, sizeof(line), maps)) {
		static const char prefix[] = "/dev/vfio/devices/";
		char *node = strchr(line, '/');

		/* Another file may have that somewhere in its path. */
		if (!node || strncmp(node, prefix, strlen(prefix)) != 0)
			continue;
		node += strlen(prefix);
		node[strspn(node, "noiommu-vf0123456789")] = '\0';
		if (!link_name(address, "/sys/class/vfio-dev/%s/device", node))
			continue;
		address[sizeof(found->list->device) - 1] = '\0';
		for (i = had; i && found->list[i - 1].pid == pid; i--)
			if (strcmp(found->list[i - 1].device, address) == 0)
				break;
		if (!i || found->list[i - 1].pid != pid)
			add_holder(found, pid, address);
	}
	if (maps)
		fclose(maps);
	free(path);
}

/* Find the processes that have devices or iommufds of ours. The caller frees the list. */
size_t find_holders(struct holder **holders)
{
	struct holders found = { 0 };
	char *path = path_of("/proc"), line[LINE];
	DIR *procs = opendir(path), *fds;
	struct dirent *proc, *fd;
	const char *device;
	pid_t pid;

	free(path);
	while (iommufd_node() && procs && (proc = readdir(procs))) {
		if (!isdigit(*proc->d_name))
			continue;
		pid = atoi(proc->d_name);
		path = path_of("/proc/%d/fd", pid);
		fds = opendir(path);
		free(path);
		while (fds && (fd = readdir(fds))) {
			device = held(pid, fd->d_name, line);
			if (device)
				add_holder(&found, pid, device);
		}
		if (!fds)
			continue;
		closedir(fds);
		add_mappings(&found, pid);
	}
	if (procs)
		closedir(procs);
	*holders = found.list;
	return found.count;
}
