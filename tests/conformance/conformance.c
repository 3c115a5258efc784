// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs all groups of lines, each in a process of its own with a time limit, and
 * prints after each how it ended and how many pages it left pinned.
 *
 *	conformance [-n NODE] [-d DRIVER] [-g GATE] [GROUP...]
 *
 * NODE is the iommufd (default /dev/iommu), DRIVER the driver of the devices
 * (default noiommu-vfio-pci), GATE the parameter that turns unsafe mode on
 * (default: that of DRIVER; for vfio-pci, that of vfio). To run it on the noiommu
 * cdev of Linux 7.3: conformance -d vfio-pci. It needs two edu devices of QEMU,
 * one on the root bus and one behind a bridge, and an NVMe controller. It leaves
 * all three bound to DRIVER.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conformance.h"

#define DEVICES		"/sys/bus/pci/devices"
#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"
#define TIME_LIMIT	120	/* seconds a group */

const char *opt_node = "/dev/iommu";
const char *opt_driver = "noiommu-vfio-pci";
const char *opt_gate;

static struct {
	const char *name;
	char bdf[NAME_MAX + 1];
} devices[] = { { .name = "edu" }, { .name = "edu2" }, { .name = "nvme" } };

int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), error = 0;

	if (fd < 0)
		return -1;
	if (write(fd, text, strlen(text)) < 0)
		error = errno;
	close(fd);
	errno = error;
	return error ? -1 : 0;
}

static void read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, size - 1);

	text[length < 0 ? 0 : length] = 0;
	close(fd);
}

static unsigned long read_hex(const char *bdf, const char *attribute)
{
	char path[PATH_MAX], text[32];

	snprintf(path, sizeof(path), DEVICES "/%s/%s", bdf, attribute);
	read_text(path, text, sizeof(text));
	return strtoul(text, NULL, 16);
}

const char *device_bdf(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(devices); i++)
		if (!strcmp(devices[i].name, name) && devices[i].bdf[0])
			return devices[i].bdf;
	return "";
}

/* Find the entry with this prefix in a directory of the device. */
static bool entry_of(const char *name, const char *directory,
		     const char *prefix, char *entry, size_t size)
{
	char path[PATH_MAX];
	struct dirent *e;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), DEVICES "/%s/%s", device_bdf(name),
		 directory);
	dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (e = readdir(dir))) {
		found = !strncmp(e->d_name, prefix, strlen(prefix));
		if (found)
			snprintf(entry, size, "%s", e->d_name);
	}
	closedir(dir);
	return found;
}

bool device_node(const char *name, char *path, size_t size)
{
	char entry[NAME_MAX + 1];

	if (!entry_of(name, "vfio-dev", "noiommu-vfio", entry, sizeof(entry))) {
		errno = ENOENT;
		return false;
	}
	snprintf(path, size, "/dev/vfio/devices/%s", entry);
	return true;
}

/* The number of the node is that of the group, in the sysfs link. */
bool device_group_node(const char *name, char *path, size_t size)
{
	char link[PATH_MAX], to[PATH_MAX] = "";

	snprintf(link, sizeof(link), DEVICES "/%s/iommu_group",
		 device_bdf(name));
	if (readlink(link, to, sizeof(to) - 1) < 0)
		return false;
	snprintf(path, size, "/dev/vfio/noiommu-%s", strrchr(to, '/') + 1);
	return true;
}

static void find_devices(void)
{
	struct dirent **entries;
	int n = scandir(DEVICES, &entries, NULL, alphasort), i, slot;

	for (i = 0; i < n; i++) {
		const char *bdf = entries[i]->d_name;
		bool root_bus = !strncmp(bdf, "0000:00:", 8);

		if (read_hex(bdf, "vendor") == 0x1234 &&
		    read_hex(bdf, "device") == 0x11e8)
			slot = root_bus ? 0 : 1;
		else if (read_hex(bdf, "class") == 0x010802)
			slot = 2;
		else
			continue;
		if (!devices[slot].bdf[0])
			snprintf(devices[slot].bdf, sizeof(devices[slot].bdf),
				 "%s", bdf);
	}
}

/* Whatever driver has them now, and in whatever state a group left them. */
static void bind_devices(void)
{
	char path[PATH_MAX];
	unsigned int i;

	write_text(opt_gate, "1");
	for (i = 0; i < ARRAY_SIZE(devices); i++) {
		if (!devices[i].bdf[0])
			continue;
		snprintf(path, sizeof(path),
			 "/sys/bus/pci/drivers/%s/%s", opt_driver,
			 devices[i].bdf);
		if (!access(path, F_OK))
			continue;
		snprintf(path, sizeof(path), DEVICES "/%s/driver/unbind",
			 devices[i].bdf);
		write_text(path, devices[i].bdf);
		snprintf(path, sizeof(path), DEVICES "/%s/driver_override",
			 devices[i].bdf);
		write_text(path, opt_driver);
		write_text("/sys/bus/pci/drivers_probe", devices[i].bdf);
	}
}

long pages_pinned(void)
{
	long value, sum = 0;
	char line[128];
	FILE *f;

	/* Only this adds the per-CPU counts to vmstat at once. */
	write_text("/proc/sys/vm/stat_refresh", "1");
	f = fopen("/proc/vmstat", "r");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "nr_foll_pin_acquired %ld", &value) == 1)
			sum += value;
		if (sscanf(line, "nr_foll_pin_released %ld", &value) == 1)
			sum -= value;
	}
	fclose(f);
	return sum;
}

/* Returns -1 if the process did not end even when it was killed. */
static int wait_for(pid_t pid, int seconds)
{
	int i, status;

	for (i = 0; i < seconds * 50; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		usleep(20000);
	}
	kill(-pid, SIGKILL);
	for (i = 0; i < 500; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		usleep(20000);
	}
	return -1;
}

static void run(const struct group *group, int *counter)
{
	long pins, before = pages_pinned();
	int status, i;
	pid_t pid;

	bind_devices();
	*counter = 0;
	pid = fork();
	if (!pid) {
		setpgid(0, 0);
		script_begin(group->name, counter);
		if (group->fn)
			group->fn(group->call);
		else
			script_run(group->lines);
		_exit(0);
	}
	setpgid(pid, pid);
	status = wait_for(pid, TIME_LIMIT);
	kill(-pid, SIGKILL);
	/* close may still be unpinning for a moment after the exit */
	for (i = 0; i < 50; i++) {
		pins = pages_pinned() - before;
		if (!pins)
			break;
		usleep(20000);
	}
	dprintf(STDOUT_FILENO, "%s.end: status %#x, %ld pages left pinned\n",
		group->name, status, pins);
}

static bool wanted(const char *name, char **patterns)
{
	if (!*patterns)
		return true;
	for (; *patterns; patterns++)
		if (!fnmatch(*patterns, name, 0))
			return true;
	return false;
}

int main(int argc, char **argv)
{
	static char gate[128], huge[32];
	struct group group;
	int *counter, opt;
	unsigned int i;

	while ((opt = getopt(argc, argv, "n:d:g:")) != -1) {
		switch (opt) {
		case 'n':
			opt_node = optarg;
			break;
		case 'd':
			opt_driver = optarg;
			break;
		case 'g':
			opt_gate = optarg;
			break;
		default:
			return 2;
		}
	}
	if (!opt_gate) {
		snprintf(gate, sizeof(gate),
			 "/sys/module/%s/parameters/enable_unsafe_noiommu_mode",
			 strcmp(opt_driver, "vfio-pci") ? opt_driver : "vfio");
		for (i = 12; gate[i] != '/'; i++)
			if (gate[i] == '-')
				gate[i] = '_';
		opt_gate = gate;
	}

	counter = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counter == MAP_FAILED)
		return 1;
	read_text(NR_HUGEPAGES, huge, sizeof(huge));
	write_text(NR_HUGEPAGES, "8");
	find_devices();

	for (i = 0; i < nr_scripts; i++)
		if (wanted(scripts[i].name, argv + optind))
			run(&scripts[i], counter);
	for (i = 0; i < nr_calls; i++) {
		if (!calls[i].good || !wanted(calls[i].name, argv + optind))
			continue;
		group = (struct group) {
			.name = calls[i].name, .fn = sweep, .call = &calls[i],
		};
		run(&group, counter);
	}
	bind_devices();
	write_text(NR_HUGEPAGES, huge);
	return 0;
}
