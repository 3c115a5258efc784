// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The files by which a program finds devices, under the names that it knows:
 *
 * BDF/driver				a link to a driver vfio-pci
 * /sys/bus/pci/drivers/vfio-pci	that of noiommu-vfio-pci, for what is missing
 * /sys/module/vfio, vfio_pci		those of noiommu-vfio-pci, for what is missing
 * .../vfio/parameters/enable_unsafe_noiommu_mode	the switch of noiommu-vfio-pci
 *
 * With --vfio-group
 *
 * /dev/vfio/vfio			noiommufd's node
 * /dev/vfio/N, /dev/vfio/noiommu-N	the node of device N - FIRST_GROUP
 * BDF/iommu_group			a link to a group N
 * /proc/self/fd/N			a container is called /dev/vfio/vfio there
 *
 * and with --iova-pa
 *
 * /dev/iommu				noiommufd's node
 * /dev/vfio/devices/vfioN		the node of device N
 * BDF/vfio-dev/vfioN			its directory, which readdir() finds there
 *
 * Only absolute paths are changed, and only those above. libc does the rest.
 */
#undef _FORTIFY_SOURCE
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "preload.h"

#define MODULE "/sys/module/noiommu_vfio_pci"
#define DRIVERS "/bus/pci/drivers/"
#define CONTAINER "/dev/vfio/vfio"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void take_lock(void)
{
	pthread_mutex_lock(&lock);
}

void drop_lock(void)
{
	pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void prepare_fork(void)
{
	pthread_atfork(take_lock, drop_lock, drop_lock);
}

bool debugging(void)
{
	/* Ignored in a program with more privileges than its caller. */
	const char *value = secure_getenv("NOIOMMUFD_DEBUG");

	return value && strcmp(value, "1") == 0;
}

bool iova_is_pa(void)
{
	const char *value = secure_getenv("NOIOMMUFD_PRELOAD");

	return value && strcmp(value, "iova-pa") == 0;
}

void report(const char *format, ...)
{
	int error = errno;
	char line[512];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	if (length >= (int)sizeof(line) - 1)
		length = sizeof(line) - 2;
	if (length > 0) {
		line[length] = '\0';
		/* A single write keeps the lines of several processes apart. */
		dprintf(STDERR_FILENO, "noiommufd: %s\n", line);
	}
	errno = error;
}

/* The kernel reads the set before it finds that there is no such operation. */
static bool word_readable(uintptr_t at)
{
	return syscall(SYS_rt_sigprocmask, -1, at & -8, NULL, 8) && errno == EINVAL;
}

bool readable(const void *from, size_t size)
{
	int error = errno;
	bool is = word_readable((uintptr_t)from) && word_readable((uintptr_t)from + size - 1);

	errno = error;
	return is;
}

static bool exists(const char *path)
{
	int error = errno;
	bool there = NEXT(faccessat)(AT_FDCWD, path, F_OK, 0) == 0;

	errno = error;
	return there;
}

/* Is /dev/iommu the node of noiommufd, or the kernel's own iommufd? */
static bool iommu_is_ours(void)
{
	return exists("/sys/module/noiommufd") && !exists("/sys/class/misc/noiommufd");
}

/* The node of noiommufd, or NULL */
static const char *iommufd_node(void)
{
	if (exists("/dev/noiommufd"))
		return "/dev/noiommufd";
	return iommu_is_ours() ? "/dev/iommu" : NULL;
}

/* Returns the last component of the target of the link @path; or NULL. */
static const char *link_name(const char *path, char name[PATH_MAX])
{
	int error = errno;
	ssize_t length = NEXT(readlink)(path, name, PATH_MAX - 1);
	const char *slash;

	errno = error;
	if (length <= 0)
		return NULL;
	name[length] = '\0';
	slash = strrchr(name, '/');
	return slash ? slash + 1 : name;
}

/*
 * What kind of file is open? This goes by the device number, since the node may
 * have another name, or none that this process can see. For a group, the
 * device's address is stored in @address.
 */
enum file_kind file_kind(int fd, char address[NAME_MAX + 1])
{
	char path[64], target[PATH_MAX];
	enum file_kind kind = FILE_OTHER;
	int error = errno;
	const char *name;
	struct stat st;

	if (NEXT(fstat)(fd, &st) || !S_ISCHR(st.st_mode))
		goto out;
	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u", major(st.st_rdev),
		 minor(st.st_rdev));
	name = link_name(path, target);
	if (!name)
		goto out;
	if (strncmp(name, OUR_NODE, strlen(OUR_NODE)) == 0) {
		/* .../ADDRESS/vfio-dev/noiommu-vfioN */
		char *end = strstr(target, "/vfio-dev/"), *start;

		if (!end)
			goto out;
		*end = '\0';
		start = strrchr(target, '/');
		snprintf(address, NAME_MAX + 1, "%.*s", NAME_MAX,
			 start ? start + 1 : target);
		kind = FILE_GROUP;
	} else if (strcmp(name, "noiommufd") == 0 ||
		   (strcmp(name, "iommu") == 0 && iommu_is_ours())) {
		kind = FILE_CONTAINER;
	} else if (strcmp(name, "vfio") == 0) {
		kind = FILE_VFIO;
	}
out:
	errno = error;
	return kind;
}

/* The N of noiommu-vfioN for the device with the directory @dir; or -1. */
static int device_index(const char *dir, size_t length)
{
	char path[PATH_MAX];
	int error = errno;
	struct dirent *entry;
	int index = -1;
	DIR *list;

	if (snprintf(path, sizeof(path), "%.*s/vfio-dev", (int)length, dir) >=
	    (int)sizeof(path))
		return -1;
	list = NEXT(opendir)(path);
	while (list && index < 0 && (entry = NEXT(readdir)(list)))
		if (sscanf(entry->d_name, OUR_NODE "%d", &index) != 1)
			index = -1;
	if (list)
		closedir(list);
	errno = error;
	return index;
}

/* Is @path the link @name of a PCI device's directory? */
static bool is_link(const char *path, const char *name)
{
	const char *slash;

	if (strncmp(path, "/sys/", 5))
		return false;
	slash = strrchr(path, '/');
	return strcmp(slash + 1, name) == 0;
}

/* The group number for @path, an iommu_group link that sysfs lacks; or -1. */
static long group_of(const char *path)
{
	int index;

	if (iova_is_pa() || !is_link(path, "iommu_group") || exists(path))
		return -1;
	index = device_index(path, strrchr(path, '/') - path);
	return index < 0 ? -1 : (long)FIRST_GROUP + index;
}

/* The device node for group @number; NULL if that is no group of ours. */
static const char *group_node(const char *number, char to[PATH_MAX])
{
	unsigned long group;
	char *end;

	if (*number < '1' || *number > '9')
		return NULL;
	group = strtoul(number, &end, 10);
	if (*end || group < FIRST_GROUP || group > UINT_MAX)
		return NULL;
	snprintf(to, PATH_MAX, "/dev/vfio/devices/" OUR_NODE "%lu",
		 group - FIRST_GROUP);
	return to;
}

/* The file that stands for a file of VFIO's groups, or NULL */
static const char *group_path(const char *path, char to[PATH_MAX])
{
	if (strcmp(path, CONTAINER) == 0)
		return iommufd_node();
	if (strncmp(path, "/dev/vfio/noiommu-", 18) == 0)
		return group_node(path + 18, to);
	if (strncmp(path, "/dev/vfio/", 10) == 0)
		return group_node(path + 10, to);
	if (group_of(path) < 0)
		return NULL;
	/* Programs only check that the group's link exists. */
	snprintf(to, PATH_MAX, "%.*s/vfio-dev", (int)(strrchr(path, '/') - path), path);
	return to;
}

/* The file that stands for a file of a device's own node, or NULL */
static const char *device_path(const char *path, char to[PATH_MAX])
{
	const char *name = NULL;

	if (strcmp(path, "/dev/iommu") == 0)
		return iommufd_node();
	if (strncmp(path, "/dev/vfio/devices/vfio", 22) == 0)
		name = path + strlen("/dev/vfio");
	else if (strncmp(path, "/sys/", 5) == 0)
		name = strstr(path, "/vfio-dev/vfio");
	if (!name || exists(path))
		return NULL;
	name = strchr(name + 1, '/') + 1;
	if (snprintf(to, PATH_MAX, "%.*snoiommu-%s", (int)(name - path), path, name) >= PATH_MAX)
		return NULL;
	return to;
}

/*
 * The file that stands for one of the driver vfio-pci, or NULL. A program may
 * have put the link's contents behind the device's directory:
 * /sys/bus/pci/devices/BDF/../../../bus/pci/drivers/vfio-pci
 */
static const char *driver_path(const char *path, char to[PATH_MAX])
{
	const char *name, *rest;

	name = strncmp(path, "/sys/", 5) ? NULL : strstr(path, DRIVERS "vfio-pci");
	if (!name)
		return NULL;
	name += strlen(DRIVERS);
	rest = name + strlen("vfio-pci");
	if ((*rest && *rest != '/') || exists(path))
		return NULL;
	if (snprintf(to, PATH_MAX, "%.*s" OUR_DRIVER "%s", (int)(name - path), path,
		     rest) >= PATH_MAX)
		return NULL;
	return to;
}

/* What to open or look at instead of @path; @path itself if it is not ours. */
static const char *real_path(const char *path, char to[PATH_MAX])
{
	const char *other = NULL;

	if (!path || *path != '/')
		return path;

	if (strcmp(path, "/sys/module/vfio" SWITCH) == 0) {
		if (exists(MODULE))
			other = MODULE SWITCH;
	} else if (strcmp(path, "/sys/module/vfio") == 0 ||
		   strcmp(path, "/sys/module/vfio_pci") == 0) {
		if (!exists(path))
			other = MODULE;
	} else {
		other = iova_is_pa() ? device_path(path, to) : group_path(path, to);
		if (!other)
			other = driver_path(path, to);
	}

	if (other && strcmp(other, path) && debugging())
		report("%s is %s", path, other);
	return other ?: path;
}

/* What the program finds in the link @path; NULL: what the kernel has there. */
static const char *seen_link(const char *path, char text[PATH_MAX])
{
	char address[NAME_MAX + 1];
	const char *name;
	long group;

	if (!path || *path != '/')
		return NULL;

	if (is_link(path, "driver")) {
		name = link_name(path, text);
		if (!name || strcmp(name, OUR_DRIVER))
			return NULL;
		snprintf(text + (name - text), strlen(OUR_DRIVER), "vfio-pci");
		return text;
	}
	if (!iova_is_pa() && strncmp(path, "/proc/self/fd/", 14) == 0 && path[14] &&
	    file_kind(atoi(path + 14), address) == FILE_CONTAINER)
		return CONTAINER;
	group = group_of(path);
	if (group < 0)
		return NULL;
	snprintf(text, PATH_MAX, "../../../kernel/iommu_groups/%ld", group);
	return text;
}

/*
 * Answer as readlink() does: as much as there is room for. The rest of @buf is
 * left as it is, since some programs have a null byte there.
 */
static ssize_t answer(const char *text, char *buf, size_t size)
{
	size_t length = strlen(text);

	if (length > size)
		length = size;
	memcpy(buf, text, length);
	return length;
}

/*
 * Define a form of readlink() that answers what seen_link() knows. The checked
 * forms, which a program compiled with _FORTIFY_SOURCE calls, end the program if
 * @size exceeds @room; that is left to libc.
 */
#define READLINK(name, room, parameters, ...)			\
EXPORT ssize_t name parameters					\
{								\
	char text[PATH_MAX];					\
	const char *seen = seen_link(path, text);		\
								\
	if (seen && size && size <= (room))			\
		return answer(seen, buf, size);			\
	return NEXT(name)(__VA_ARGS__);				\
}

ssize_t __readlink_chk(const char *path, char *buf, size_t size, size_t room);
ssize_t __readlinkat_chk(int dir, const char *path, char *buf, size_t size,
			 size_t room);

READLINK(readlink, size, (const char *path, char *buf, size_t size), path, buf, size)
READLINK(readlinkat, size,
	 (int dir, const char *path, char *buf, size_t size),
	 dir, path, buf, size)
READLINK(__readlink_chk, room,
	 (const char *path, char *buf, size_t size, size_t room),
	 path, buf, size, room)
READLINK(__readlinkat_chk, room,
	 (int dir, const char *path, char *buf, size_t size, size_t room),
	 dir, path, buf, size, room)

/* What realpath() returned, with the name that a program knows for our driver */
static char *seen_path(char *path)
{
	if (path && strcmp(path, "/sys" DRIVERS OUR_DRIVER) == 0)
		memcpy(path + strlen("/sys" DRIVERS), "vfio-pci", sizeof("vfio-pci"));
	return path;
}

char *__realpath_chk(const char *path, char *resolved, size_t room);

#define REALPATH(name, parameters, ...)				\
EXPORT char *name parameters					\
{								\
	char to[PATH_MAX];					\
								\
	return seen_path(NEXT(name)(real_path(path, to), ##__VA_ARGS__));	\
}

REALPATH(realpath, (const char *path, char *resolved), resolved)
REALPATH(__realpath_chk, (const char *path, char *resolved, size_t room), resolved, room)
REALPATH(canonicalize_file_name, (const char *path))

#define READDIR(name, type)					\
EXPORT struct type *name(DIR *dir)				\
{								\
	struct type *entry = NEXT(name)(dir);			\
								\
	if (entry && iova_is_pa() &&				\
	    strncmp(entry->d_name, OUR_NODE, strlen(OUR_NODE)) == 0)	\
		memmove(entry->d_name, entry->d_name + 8,	\
			strlen(entry->d_name + 8) + 1);		\
	return entry;						\
}

READDIR(readdir, dirent)
READDIR(readdir64, dirent64)

/* The mode argument is passed only if a file may be created. */
#define MODE(flags) ({						\
	mode_t mode_ = 0;					\
	if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) {	\
		va_list args_;					\
		va_start(args_, flags);				\
		mode_ = va_arg(args_, mode_t);			\
		va_end(args_);					\
	}							\
	mode_; })

/* open() of @there in place of @path returned @fd. */
static int opened(int fd, const char *path, const char *there)
{
	if (fd < 0 && there != path && debugging())
		report("%s: %m%s", there, errno == EPERM ? " (CAP_SYS_RAWIO is needed)" : "");
	return fd;
}

#define OPEN(name)						\
EXPORT int name(const char *path, int flags, ...)		\
{								\
	char to[PATH_MAX];					\
	const char *there = real_path(path, to);		\
								\
	return opened(NEXT(name)(there, flags, MODE(flags)), path, there);	\
}

#define OPENAT(name)						\
EXPORT int name(int dir, const char *path, int flags, ...)	\
{								\
	char to[PATH_MAX];					\
	const char *there = real_path(path, to);		\
								\
	return opened(NEXT(name)(dir, there, flags, MODE(flags)), path, there);	\
}

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

/* Define a function that passes THERE on in place of its argument @path. */
#define ON_PATH(type, name, parameters, ...)			\
EXPORT type name parameters					\
{								\
	char to[PATH_MAX];					\
								\
	return NEXT(name)(__VA_ARGS__);				\
}

#define THERE real_path(path, to)

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
ON_PATH(int, __open_2, (const char *path, int flags), THERE, flags)
ON_PATH(int, __open64_2, (const char *path, int flags), THERE, flags)
ON_PATH(int, __openat_2, (int dir, const char *path, int flags), dir, THERE, flags)
ON_PATH(int, __openat64_2, (int dir, const char *path, int flags), dir, THERE, flags)
ON_PATH(FILE *, fopen, (const char *path, const char *mode), THERE, mode)
ON_PATH(FILE *, fopen64, (const char *path, const char *mode), THERE, mode)
ON_PATH(DIR *, opendir, (const char *path), THERE)
ON_PATH(int, access, (const char *path, int mode), THERE, mode)
ON_PATH(int, faccessat,
	(int dir, const char *path, int mode, int flags),
	dir, THERE, mode, flags)
ON_PATH(int, euidaccess, (const char *path, int mode), THERE, mode)
ON_PATH(int, eaccess, (const char *path, int mode), THERE, mode)
ON_PATH(int, stat, (const char *path, struct stat *st), THERE, st)
ON_PATH(int, stat64, (const char *path, struct stat64 *st), THERE, st)
ON_PATH(int, lstat, (const char *path, struct stat *st), THERE, st)
ON_PATH(int, lstat64, (const char *path, struct stat64 *st), THERE, st)
ON_PATH(int, fstatat,
	(int dir, const char *path, struct stat *st, int flags),
	dir, THERE, st, flags)
ON_PATH(int, fstatat64,
	(int dir, const char *path, struct stat64 *st, int flags),
	dir, THERE, st, flags)
ON_PATH(int, statx,
	(int dir, const char *path, int flags, unsigned int mask, struct statx *st),
	dir, THERE, flags, mask, st)

/* What stat() becomes in a program linked with glibc 2.32 or older. */
int __xstat(int version, const char *path, struct stat *st);
int __xstat64(int version, const char *path, struct stat64 *st);
int __lxstat(int version, const char *path, struct stat *st);
int __lxstat64(int version, const char *path, struct stat64 *st);
int __fxstatat(int version, int dir, const char *path, struct stat *st, int flags);
int __fxstatat64(int version, int dir, const char *path, struct stat64 *st, int flags);

ON_PATH(int, __xstat, (int version, const char *path, struct stat *st), version, THERE, st)
ON_PATH(int, __xstat64, (int version, const char *path, struct stat64 *st), version, THERE, st)
ON_PATH(int, __lxstat, (int version, const char *path, struct stat *st), version, THERE, st)
ON_PATH(int, __lxstat64,
	(int version, const char *path, struct stat64 *st),
	version, THERE, st)
ON_PATH(int, __fxstatat,
	(int version, int dir, const char *path, struct stat *st, int flags),
	version, dir, THERE, st, flags)
ON_PATH(int, __fxstatat64,
	(int version, int dir, const char *path, struct stat64 *st, int flags),
	version, dir, THERE, st, flags)
