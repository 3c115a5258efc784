// SPDX-License-Identifier: GPL-2.0-only
/*
 * bind, unbind, enable, disable: give devices to our driver and back, and
 * switch the unsafe mode.
 *
 * What lasts over a boot is kept where others look for it: the override in the
 * file of driverctl, which applies it, and the unsafe mode in modprobe.d.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "noiommuctl.h"

static void need_root(const char *command)
{
	if (geteuid())
		errx(1, "this needs root: sudo noiommuctl %s ...", command);
}

static void load_module(void)
{
	char said[LINE];

	if (exists(MODULE))
		return;
	if (!output_of(said, "modprobe " DRIVER " 2>&1") || !exists(MODULE))
		errx(1, "the module cannot be loaded (%s): noiommuctl doctor says why",
		     *said ? said : "modprobe is not installed");
}

/* --- the unsafe mode ----------------------------------------------------------- */

#define OPTION	"options " DRIVER " enable_unsafe_noiommu_mode="

/* Set the mode in the configuration of modprobe, whose other lines stay. */
static void set_at_boot(bool on)
{
	static const char path[] = CONF, part[] = CONF ".part";
	char line[LINE];
	FILE *from, *to;
	bool done = false;

	if (unsafe_at_boot() == on)
		return;
	mkdir("/etc/modprobe.d", 0755);
	from = fopen(path, "re");
	to = fopen(part, "we");
	if (!to)
		err(1, "%s cannot be written", part);
	while (from && fgets(line, sizeof(line), from)) {
		if (strncmp(line, OPTION, strlen(OPTION)) == 0) {
			line[strlen(OPTION)] = on ? '1' : '0';
			done = true;
		}
		fputs(line, to);
	}
	if (!done)
		fprintf(to, OPTION "%d\n", on);
	if (from)
		fclose(from);
	fchmod(fileno(to), 0644);
	if (fflush(to) || fsync(fileno(to)) || fclose(to) || rename(part, path))
		err(1, "%s cannot be written", path);
	if (unsafe_at_boot() != on)
		errx(1,
		     "another file sets the unsafe mode as well: grep enable_unsafe_noiommu_mode /etc/modprobe.d/*");
}

int cmd_enable(char **names)
{
	(void)names;
	need_root("enable");
	load_module();
	if (persist)
		set_at_boot(true);
	if (!write_text("1", UNSAFE_MODE))
		err(1, "the unsafe mode cannot be switched on: echo 1 > " UNSAFE_MODE);
	printf("unsafe mode is on%s: programs that have devices can write to all memory\n",
	       persist ? ", now and at each boot" : " until the module is unloaded");
	return 0;
}

int cmd_disable(char **names)
{
	char *pattern = path_of(OVERRIDE, "*"), line[LINE];
	glob_t found;
	size_t i;

	(void)names;
	need_root("disable");
	if (unsafe_at_boot() > 0)
		set_at_boot(false);
	if (exists(MODULE) && !write_text("0", UNSAFE_MODE))
		err(1, "the unsafe mode cannot be switched off: echo 0 > " UNSAFE_MODE);
	puts("unsafe mode is off: devices that are bound stay so, and no other is taken");

	if (glob(pattern, 0, NULL, &found) == 0) {
		for (i = 0; i < found.gl_pathc; i++) {
			const char *address = found.gl_pathv[i] + strlen(pattern) - 1;

			if (!read_line(line, OVERRIDE, address) || strcmp(line, DRIVER))
				continue;
			warnx("%s will have no driver after the next boot: noiommuctl unbind %s",
			      address, address);
		}
	}
	globfree(&found);
	free(pattern);
	return 0;
}

/* --- devices ------------------------------------------------------------------- */

/* What the kernel's log says since it was opened of a device that was refused. */
static const char *refusal_in_log(int log, const char *address, char record[8192])
{
	char *refused = NULL, *end;
	ssize_t len;

	while ((len = read(log, record, 8191)) > 0 || (len < 0 && errno == EPIPE)) {
		record[len < 0 ? 0 : len] = '\0';
		refused = strstr(record, address);
		refused = refused ? strstr(refused, "refused: ") : NULL;
		if (refused)
			break;
	}
	if (!refused)
		return "the kernel's log says why (dmesg)";
	end = strchr(refused, '\n');
	if (end)
		*end = '\0';
	return refused + strlen("refused: ");
}

/*
 * Write to a file in sysfs, which waits until programs have let go of the device,
 * and could not be interrupted. So a child does it, and is left behind then.
 */
static bool write_waiting(const struct device *dev, const char *text, const char *path)
{
	const struct timespec two = { .tv_sec = 2 };
	bool waits = false;
	sigset_t set, old;
	int status, signal;
	pid_t child;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &old);
	child = fork();
	if (child < 0)
		err(1, "no memory");
	if (!child)
		_exit(write_text(text, "%s", path) ? 0 : errno);
	while (waitpid(child, &status, WNOHANG) == 0) {
		signal = sigtimedwait(&set, NULL, waits ? NULL : &two);
		if (signal == SIGINT || signal == SIGTERM) {
			kill(child, SIGKILL);
			warnx("interrupted, but %s will lose its driver: noiommuctl unbind %s",
			      dev->address, dev->address);
			exit(128 + signal);
		}
		if (signal < 0 && !waits && isatty(STDERR_FILENO))
			warnx("waiting until nobody uses %s any more (^C ends it)", dev->address);
		waits = waits || signal < 0;
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
	return !errno;
}

static bool write_override(const struct device *dev, const char *driver)
{
	char path[LINE];

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/driver_override", dev->address);
	return write_waiting(dev, driver, path);
}

static bool take_away(const struct device *dev)
{
	char path[LINE];

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/driver/unbind", dev->address);
	return write_waiting(dev, dev->address, path);
}

static void probe(const struct device *dev)
{
	write_waiting(dev, dev->address, "/sys/bus/pci/drivers_probe");
}

/* Let a driver of the kernel take a device that has none. */
static void give_back(const struct device *dev)
{
	write_override(dev, "\n");
	probe(dev);
}

static const char *mends(const char *refusal)
{
	if (strstr(refusal, "IOMMU"))
		return "use vfio-pci";
	if (strstr(refusal, "VFs"))
		return "echo 0 > sriov_numvfs of the device";
	if (strstr(refusal, "lockdown"))
		return "turn Secure Boot off, or drop lockdown= from the kernel's command line";
	return "name another device";
}

static int bind_device(struct device *dev)
{
	char record[8192], use[LINE];
	const char *why;
	int log;

	if (dev->refusal) {
		warnx("%s is refused, %s: %s", dev->address, dev->refusal, mends(dev->refusal));
		return 1;
	}
	if (!force && is_used(dev, use)) {
		warnx("%s is in use, %s (or noiommuctl bind --force %s)", dev->address, use,
		      dev->address);
		return 1;
	}
	log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	lseek(log, 0, SEEK_END);
	/* The override first: if there can be none, the device keeps its driver. */
	if (!write_override(dev, DRIVER))
		err(1, "%s takes no override", dev->address);
	if (*dev->driver && !take_away(dev)) {
		warn("%s cannot be taken from %s", dev->address, dev->driver);
		write_override(dev, "\n");
		exit(1);
	}
	probe(dev);
	read_device(dev, dev->address);
	if (!dev->taken) {
		why = refusal_in_log(log, dev->address, record);
		give_back(dev);
		read_device(dev, dev->address);
		warnx("%s is refused and has driver %s: %s", dev->address,
		      *dev->driver ? dev->driver : "none", why);
	}
	close(log);
	return !dev->taken;
}

static void keep_override(const struct device *dev)
{
	char path[LINE];
	FILE *file;

	snprintf(path, sizeof(path), OVERRIDE, dev->address);
	mkdir("/etc/driverctl.d", 0755);
	file = fopen(path, "we");
	if (!file || fputs(DRIVER "\n", file) < 0 || fclose(file))
		err(1, "%s cannot be written", path);
}

int cmd_bind(char **names)
{
	struct device dev;
	char said[LINE];
	int status = 0;

	need_root("bind");
	if (persist && !exists("/usr/sbin/driverctl") && !exists("/sbin/driverctl"))
		errx(1,
		     "driverctl binds devices at boot, and is not installed: apt-get install driverctl (dnf install driverctl)");
	load_module();
	if (unsafe_now() != 1)
		errx(1, "unsafe mode is off, and no device is taken: noiommuctl enable%s",
		     persist ? " --persist" : "");
	for (; *names; names++) {
		find_device(&dev, *names);
		if (!dev.taken && bind_device(&dev)) {
			status = 1;
			continue;
		}
		/* udev gives the node to its group, if there is one. */
		output_of(said, "udevadm settle --timeout=10 2> /dev/null");
		if (persist) {
			/* In this order: an override alone leaves a device without a driver. */
			set_at_boot(true);
			keep_override(&dev);
		}
		printf("%s is /dev/vfio/devices/%s\n", dev.address, dev.node);
	}
	return status;
}

/* Who has the device? The write to unbind would wait for it, and could not be interrupted. */
static bool is_held(const struct device *dev)
{
	struct holder *holders;
	size_t count = find_holders(&holders);
	bool found = false;

	while (count && !found) {
		struct holder *holder = &holders[--count];

		found = strcmp(holder->device, dev->address) == 0;
		if (found)
			warnx("%s (pid %d) has %s: kill %d", holder->command, holder->pid,
			      dev->address, holder->pid);
	}
	free(holders);
	return found;
}

/* Undo bind --persist. */
static bool forget(const char *address)
{
	char line[LINE], *path = path_of(OVERRIDE, address);
	bool kept = read_line(line, OVERRIDE, address) && strcmp(line, DRIVER) == 0;

	if (kept && unlink(path))
		err(1, "%s cannot be removed", path);
	free(path);
	return kept;
}

/* A device that was taken out of the machine may still be one to bind at boot. */
static bool forget_absent(const char *name)
{
	const char *domain = strlen(name) < strlen("0000:00:00.0") ? "0000:" : "";
	char address[sizeof(((struct device *)NULL)->address)];

	if (strchr(name, '/') ||
	    snprintf(address, sizeof(address), "%s%s", domain, name) >= (int)sizeof(address) ||
	    exists(PCI_DEVICES "/%s", address) || !forget(address))
		return false;
	printf("%s is not there, and will not be bound at boot\n", address);
	return true;
}

int cmd_unbind(char **names)
{
	char line[LINE], said[LINE];
	struct device dev;
	int status = 0;

	need_root("unbind");
	for (; *names; names++) {
		if (forget_absent(*names))
			continue;
		find_device(&dev, *names);
		if (dev.taken && is_held(&dev)) {
			status = 1;
			continue;
		}
		/* Undo bind whatever it came to. */
		forget(dev.address);
		if (dev.taken && !take_away(&dev))
			err(1, "%s cannot be unbound", dev.address);
		if (read_line(line, PCI_DEVICES "/%s/driver_override", dev.address) &&
		    strcmp(line, DRIVER) == 0) {
			/* The kernel's driver may not have been needed before. */
			if (read_line(line, PCI_DEVICES "/%s/modalias", dev.address))
				output_of(said, "modprobe -q '%s' 2>&1", line);
			give_back(&dev);
		}
		read_device(&dev, dev.address);
		printf("%s has driver %s\n", dev.address, *dev.driver ? dev.driver : "none");
	}
	return status;
}
