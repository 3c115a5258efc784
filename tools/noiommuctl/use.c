// SPDX-License-Identifier: GPL-2.0-only
/* What of this machine would stop working if a device were taken from its driver. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "noiommuctl.h"

/* --- disks --------------------------------------------------------------------- */

/* Is a file of this path the block device? */
static bool is_device(const char *path, dev_t dev)
{
	struct stat st;

	return *path == '/' && stat(path, &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == dev;
}

/* Where it is mounted; also in file systems that have device numbers of their own */
static bool mounted(dev_t dev, char where[LINE])
{
	char *path = path_of("/proc/self/mountinfo"), line[2 * LINE];
	FILE *file = fopen(path, "re");
	bool found = false;

	free(path);
	while (!found && file && fgets(line, sizeof(line), file)) {
		char *source = strstr(line, " - "), type[64] = "", from[LINE] = "";
		unsigned int major, minor;

		if (source)
			sscanf(source, " - %63s %511s", type, from);
		/* Users choose what these are said to be of. */
		if (strcmp(type, "fuse") == 0 || strncmp(type, "fuse.", 5) == 0)
			*from = '\0';
		found = sscanf(line, "%*u %*u %u:%u %*s %511s", &major, &minor, where) == 3 &&
			(makedev(major, minor) == dev || is_device(from, dev));
	}
	if (file)
		fclose(file);
	return found;
}

static bool is_swap(dev_t dev)
{
	char *path = path_of("/proc/swaps"), line[LINE], from[LINE];
	FILE *file = fopen(path, "re");
	bool found = false;

	free(path);
	while (!found && file && fgets(line, sizeof(line), file))
		found = sscanf(line, "%511s", from) == 1 && is_device(from, dev);
	if (file)
		fclose(file);
	return found;
}

/* The volume or array that a disk is a part of */
static bool has_holder(const char *disk, char name[LINE])
{
	char *pattern = path_of("/sys/class/block/%s/holders/*", disk);
	bool found = false;
	glob_t holders;

	if (glob(pattern, 0, NULL, &holders) == 0) {
		const char *holder = strrchr(holders.gl_pathv[0], '/') + 1;

		found = true;
		if (!read_line(name, "/sys/class/block/%s/dm/name", holder))
			snprintf(name, LINE, "%s", holder);
	}
	globfree(&holders);
	free(pattern);
	return found;
}

static bool disk_used(const char *disk, char use[LINE])
{
	unsigned int major, minor;
	char line[LINE];
	dev_t dev;

	if (!read_line(line, "/sys/class/block/%s/dev", disk) ||
	    sscanf(line, "%u:%u", &major, &minor) != 2)
		return false;
	dev = makedev(major, minor);
	if (mounted(dev, line))
		snprintf(use, LINE, "/dev/%.32s is mounted on %.200s: umount /dev/%.32s", disk,
			 printable(line), disk);
	else if (is_swap(dev))
		snprintf(use, LINE, "/dev/%.32s is swap space: swapoff /dev/%.32s", disk, disk);
	else if (has_holder(disk, line))
		snprintf(use, LINE, "/dev/%.32s is a part of %.64s: lsblk /dev/%.32s", disk, line,
			 disk);
	else
		return false;
	return true;
}

/* Whatever else uses it has it for itself. */
static bool disk_claimed(const char *disk, char use[LINE])
{
	char *path = path_of("/dev/%s", disk);
	int fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	bool claimed = fd < 0 && errno == EBUSY;

	if (claimed)
		snprintf(use, LINE, "a program has /dev/%.32s: fuser -v /dev/%.32s", disk, disk);
	if (fd >= 0)
		close(fd);
	free(path);
	return claimed;
}

/* Is the block device one of the device's, or a partition of one? */
static bool disk_is_of(const char *disk, const char *address)
{
	char *path = path_of("/sys/class/block/%s", disk), real[PATH_MAX], text[64];
	unsigned int subsystem, space;
	bool found = false;
	glob_t paths;

	snprintf(text, sizeof(text), "/%s/", address);
	found = realpath(path, real) && strstr(real, text);
	free(path);
	/* A namespace that has several controllers is below none, but has a path by each. */
	if (!found && sscanf(disk, "nvme%un%u", &subsystem, &space) == 2) {
		path = path_of(PCI_DEVICES "/%s/nvme/nvme*/nvme%uc*n%u", address, subsystem, space);
		found = glob(path, 0, NULL, &paths) == 0;
		globfree(&paths);
		free(path);
	}
	return found;
}

static bool any_disk(const char *address, bool (*is)(const char *disk, char *use), char use[LINE])
{
	char *pattern = path_of("/sys/class/block/*");
	bool used = false;
	glob_t found;
	size_t i;

	if (glob(pattern, 0, NULL, &found))
		found.gl_pathc = 0;
	for (i = 0; i < found.gl_pathc && !used; i++) {
		const char *disk = strrchr(found.gl_pathv[i], '/') + 1;

		used = disk_is_of(disk, address) && is(disk, use);
	}
	globfree(&found);
	free(pattern);
	return used;
}

/* --- networks ------------------------------------------------------------------ */

/* An address that somebody gave it: not one that each interface has */
static bool has_address(const char *interface, char text[INET6_ADDRSTRLEN])
{
	struct ifaddrs *list, *each;
	bool found = false;

	if (getifaddrs(&list))
		return false;
	for (each = list; each && !found; each = each->ifa_next) {
		const struct sockaddr *address = each->ifa_addr;
		const struct in6_addr *six = &((const struct sockaddr_in6 *)address)->sin6_addr;
		const struct in_addr *four = &((const struct sockaddr_in *)address)->sin_addr;

		if (!address || strcmp(each->ifa_name, interface) || !(each->ifa_flags & IFF_UP))
			continue;
		if (address->sa_family == AF_INET)
			found = inet_ntop(AF_INET, four, text, INET6_ADDRSTRLEN);
		else if (address->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(six))
			found = inet_ntop(AF_INET6, six, text, INET6_ADDRSTRLEN);
	}
	freeifaddrs(list);
	return found;
}

static bool has_default_route(const char *interface)
{
	char *path = path_of("/proc/net/route"), line[LINE], name[64];
	FILE *file = fopen(path, "re");
	unsigned int destination;
	bool found = false;

	free(path);
	while (!found && file && fgets(line, sizeof(line), file))
		found = sscanf(line, "%63s %x", name, &destination) == 2 && !destination &&
			strcmp(name, interface) == 0;
	if (file)
		fclose(file);
	return found;
}

/* A VLAN or another interface on top of this one, which is up */
static bool carries(const char *name, char upper[LINE])
{
	char *pattern = path_of("/sys/class/net/%s/upper_*", name), flags[LINE];
	bool up = false;
	glob_t found;
	size_t i;

	if (glob(pattern, 0, NULL, &found))
		found.gl_pathc = 0;
	for (i = 0; i < found.gl_pathc && !up; i++) {
		snprintf(upper, LINE, "%.64s", strstr(found.gl_pathv[i], "/upper_") + 7);
		up = read_line(flags, "/sys/class/net/%s/flags", upper) &&
			strtoul(flags, NULL, 16) & IFF_UP;
	}
	globfree(&found);
	free(pattern);
	return up;
}

static bool interface_used(const char *name, char use[LINE])
{
	char text[LINE];

	if (has_address(name, text))
		snprintf(use, LINE, "%.32s is up with address %.64s: ip link set %.32s down",
			 name, text, name);
	else if (has_default_route(name))
		snprintf(use, LINE, "%.32s has the default route: ip link set %.32s down", name,
			 name);
	else if (link_name(text, "/sys/class/net/%s/master", name))
		snprintf(use, LINE, "%.32s is a part of %.64s: ip link set %.32s nomaster", name,
			 text, name);
	else if (carries(name, text))
		snprintf(use, LINE, "%.32s carries %.64s: ip link set %.32s down", name, text,
			 text);
	else
		return false;
	return true;
}

static bool interfaces_used(const char *address, char use[LINE])
{
	/* virtio's are one level below. */
	static const char * const places[] = { "net/*", "*/net/*" };
	bool used = false;
	glob_t found;
	size_t i, j;

	for (i = 0; i < sizeof(places) / sizeof(*places) && !used; i++) {
		char *pattern = path_of(PCI_DEVICES "/%s/%s", address, places[i]);

		if (glob(pattern, 0, NULL, &found))
			found.gl_pathc = 0;
		for (j = 0; j < found.gl_pathc && !used; j++)
			used = interface_used(strrchr(found.gl_pathv[j], '/') + 1, use);
		globfree(&found);
		free(pattern);
	}
	return used;
}

/* Is the device in use? Then use says for what, and which command ends that. */
bool is_used(const struct device *dev, char use[LINE])
{
	return any_disk(dev->address, disk_used, use) ||
	       any_disk(dev->address, disk_claimed, use) || interfaces_used(dev->address, use);
}
