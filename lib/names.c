// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Devices and nodes by name, and what is missing if they cannot be opened.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/capability.h>

#include "internal.h"

#define PCI	"/sys/bus/pci/devices"
#define NODES	"/sys/class/vfio-dev"
#define MODULE	"/sys/module/noiommu_vfio_pci"
#define NODE	"noiommu-vfio"

static bool exists(const char *path)
{
	return !access(path, F_OK);
}

/*
 * The command after which the driver takes devices. A module that is loaded does
 * not get the parameter from modprobe any more.
 */
static const char *take_devices(void)
{
	return exists(MODULE) ?
	       "echo 1 > " MODULE "/parameters/enable_unsafe_noiommu_mode" :
	       "modprobe noiommu-vfio-pci enable_unsafe_noiommu_mode=1";
}

/* The last component of the target of a link */
static bool link_name(int dir, const char *path, char *to, size_t size)
{
	char target[PATH_MAX], *slash;
	ssize_t length;

	length = readlinkat(dir, path, target, sizeof(target) - 1);
	if (length < 0)
		return false;
	target[length] = '\0';
	slash = strrchr(target, '/');
	snprintf(to, size, "%.*s", (int)size - 1, slash ? slash + 1 : target);
	return true;
}

/* An attribute of the device whose directory that is; "" if it cannot be read */
static void read_at(int dir, const char *name, char *text, size_t size)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? 0 : read(fd, text, size - 1);

	text[length < 0 ? 0 : length] = '\0';
	if (fd >= 0)
		close(fd);
}

/* What it is; modalias has all that there is a file for, too, and takes one read. */
static void find_facts(int dir, struct noiommufd_info *info)
{
	unsigned int vendor, device, sub_vendor, sub_device, base, sub, interface;
	char text[128];

	read_at(dir, "modalias", text, sizeof(text));
	if (sscanf(text, "pci:v%8xd%8xsv%8xsd%8xbc%2xsc%2xi%2x", &vendor, &device,
		   &sub_vendor, &sub_device, &base, &sub, &interface) == 7) {
		info->vendor = vendor;
		info->device = device;
		info->subsystem_vendor = sub_vendor;
		info->subsystem_device = sub_device;
		info->class_code = base << 16 | sub << 8 | interface;
	}
	read_at(dir, "numa_node", text, sizeof(text));
	info->numa_node = strtol(text, NULL, 0);
}

/* The node of the device, which sysfs names below it; "": it has none */
static int find_node(int device, char *node, size_t size)
{
	int fd = openat(device, "vfio-dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	DIR *dir;

	*node = '\0';
	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -1;
	}
	while (!*node && (entry = readdir(dir)))
		if (!strncmp(entry->d_name, NODE, strlen(NODE)))
			snprintf(node, size, "/dev/vfio/devices/%.32s", entry->d_name);
	closedir(dir);
	return 0;
}

static int not_bound(const char *address)
{
	char path[128], driver[64];
	bool bound;

	snprintf(path, sizeof(path), PCI "/%s/driver", address);
	bound = link_name(AT_FDCWD, path, driver, sizeof(driver));
	snprintf(path, sizeof(path), PCI "/%s", address);
	if (!exists(path))
		return noiommufd__fail(ENODEV,
				       "There is no PCI device %s: `lspci -D` lists those there are.",
				       address);
	return noiommufd__fail(ENODEV,
			       "%s is bound to %s, not to noiommu-vfio-pci. As root:\n"
			       "  %s\n"
			       "  driverctl set-override %s noiommu-vfio-pci\n"
			       "or, without driverctl, in place of the last line:\n"
			       "  echo %s > " PCI "/%s/driver/unbind\n"
			       "  echo noiommu-vfio-pci > " PCI "/%s/driver_override\n"
			       "  echo %s > /sys/bus/pci/drivers_probe\n"
			       "If the driver refuses it, `dmesg` says why.",
			       address, bound ? driver : "no driver", take_devices(),
			       address, address, address, address, address);
}

/* The only device that can be opened */
static int find_only(struct noiommufd_info *info)
{
	char **list = noiommufd_list();
	int rc = -1;

	if (!list)
		return -1;
	if (!list[0])
		noiommufd__fail(ENODEV,
				"No device is bound to noiommu-vfio-pci. As root:\n"
				"  %s\n"
				"  driverctl set-override 0000:BB:DD.F noiommu-vfio-pci",
				take_devices());
	else if (list[1])
		noiommufd__fail(ENOTUNIQ,
				"There are several devices in noiommu mode, %s and %s among them: say which one is meant.",
				list[0], list[1]);
	else
		rc = noiommufd__find(list[0], info);
	free(list);
	return rc;
}

/* As sysfs has it: with the domain, which lspci leaves out, and in lower case */
static bool is_address(const char *name, char *address, size_t size)
{
	const char *colon = strchr(name, ':');
	size_t i;

	if (!colon || strspn(name, "0123456789abcdefABCDEF:.") != strlen(name) ||
	    strlen(name) + strlen("0000:") >= size)
		return false;
	snprintf(address, size, "%s%s", strchr(colon + 1, ':') ? "" : "0000:", name);
	for (i = 0; address[i]; i++)
		address[i] = tolower((unsigned char)address[i]);
	return true;
}

/* The address of the device in a directory of sysfs, or a link to it */
static bool directory_address(const char *path, char *address, size_t size)
{
	char real[PATH_MAX];

	return realpath(path, real) && !strncmp(real, "/sys/", strlen("/sys/")) &&
	       is_address(strrchr(real, '/') + 1, address, size);
}

/* Fill in the address of what is no address, and if it is a node, its path. */
static int resolve(const char *name, struct noiommufd_info *info)
{
	const char *slash = strrchr(name, '/'), *last = slash ? slash + 1 : name;
	char path[PATH_MAX];
	struct stat st;

	/* A node may have another name here, and another place. */
	if (!stat(name, &st) && S_ISCHR(st.st_mode)) {
		snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/device",
			 major(st.st_rdev), minor(st.st_rdev));
		snprintf(info->node, sizeof(info->node), "%s", name);
		if (strlen(name) >= sizeof(info->node))
			*path = '\0';
	} else if (!strncmp(last, NODE, strlen(NODE))) {
		snprintf(path, sizeof(path), NODES "/%.32s/device", last);
	} else {
		snprintf(path, sizeof(path), "%s", name);
	}
	if (directory_address(path, info->address, sizeof(info->address)))
		return 0;
	return noiommufd__fail(ENODEV,
			       "%s is no PCI device: give its address, as in 0000:00:05.0, its node or its directory in /sys.",
			       name);
}

int noiommufd__find(const char *name, struct noiommufd_info *info)
{
	char path[128], node[sizeof(info->node)], *address = info->address;
	int dir, rc;

	if (!name)
		return find_only(info);
	if (!is_address(name, address, sizeof(info->address)) && resolve(name, info))
		return -1;
	snprintf(path, sizeof(path), PCI "/%s", address);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 && errno == ENOENT)
		return not_bound(address);
	rc = dir < 0 ? -1 : find_node(dir, node, sizeof(node));
	if (rc) {
		noiommufd__fail(errno, "Cannot read %s: %m.", path);
	} else if (!*node) {
		rc = not_bound(address);
	} else {
		if (!*info->node)
			memcpy(info->node, node, sizeof(node));
		link_name(dir, "driver", info->driver, sizeof(info->driver));
		find_facts(dir, info);
	}
	if (dir >= 0)
		close(dir);
	return rc;
}

char **noiommufd__addresses(size_t num)
{
	char **list = calloc(1, (num + 1) * sizeof(*list) + num * ADDRESS_SIZE);
	size_t i;

	if (!list)
		return null(noiommufd__fail(ENOMEM, "Out of memory."));
	for (i = 0; i < num; i++)
		list[i] = (char *)(list + num + 1) + i * ADDRESS_SIZE;
	return list;
}

static int is_node(const struct dirent *entry)
{
	return !strncmp(entry->d_name, NODE, strlen(NODE));
}

static int by_address(const void *a, const void *b)
{
	return strcmp(*(char * const *)a, *(char * const *)b);
}

char **noiommufd_list(void)
{
	struct dirent **nodes = NULL;
	char **list, path[320];
	int num, found = 0, i;

	num = scandir(NODES, &nodes, is_node, NULL);
	if (num < 0 && errno == ENOENT)
		num = 0;
	if (num < 0)
		return null(noiommufd__fail(errno, "Cannot read " NODES ": %m."));
	list = noiommufd__addresses(num);
	for (i = 0; i < num; i++) {
		snprintf(path, sizeof(path), NODES "/%s/device", nodes[i]->d_name);
		if (list && link_name(AT_FDCWD, path, list[found], ADDRESS_SIZE))
			found++;
		free(nodes[i]);
	}
	free(nodes);
	if (list) {
		list[found] = NULL;
		qsort(list, found, sizeof(*list), by_address);
	}
	return list;
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
	if (!is_device && exists("/sys/class/misc/noiommufd"))
		path = "/dev/noiommufd";
	if (is_device || exists("/sys/class/misc/iommu") ||
	    exists("/sys/class/misc/noiommufd"))
		return noiommufd__fail(ENOENT,
				       "%s is there, but not in this /dev: a container needs it as --device, and a service that has it cannot have PrivateDevices=yes.",
				       path);
	return noiommufd__fail(ENOENT,
			       "%s is not there: load the modules with `modprobe noiommu-vfio-pci enable_unsafe_noiommu_mode=1`.",
			       path);
}

int noiommufd__open(const char *path, bool is_device)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat node = { 0 };
	const char *other = "";

	if (fd >= 0)
		return fd;
	switch (errno) {
	case ENOENT:
	case ENXIO:
		return no_node(path, is_device);
	case EPERM:
		if (is_device && !has_rawio())
			return noiommufd__fail(EPERM,
					       "%s needs CAP_SYS_RAWIO: run this as root, or give the program the capability (setcap, AmbientCapabilities= of a service, --cap-add of a container).",
					       path);
		if (is_device)
			other = " by a user namespace, in which CAP_SYS_RAWIO does not count, or";
		return noiommufd__fail(EPERM,
				       "%s is kept from this program%s by its device cgroup: allow it (DeviceAllow= of a service, --device of a container).",
				       path, other);
	case EACCES:
		stat(path, &node);
		return noiommufd__fail(EACCES,
				       "You may not open %s, which has mode %04o, user %u and group %u: run this as root, and not in a user namespace, or as a member of that group.",
				       path, node.st_mode & 07777, node.st_uid,
				       node.st_gid);
	default:
		return noiommufd__fail(errno, "Cannot open %s: %m.", path);
	}
}
