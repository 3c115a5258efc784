// SPDX-License-Identifier: GPL-2.0-only
/*
 * noiommufd-run: run a program that expects other names than ours. See
 * noiommufd-run(8).
 */
#define _GNU_SOURCE
#include <argp.h>
#include <elf.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/*
 * The statuses of chroot(1) and env(1): our own error, not executable, not
 * found.
 */
#define EXIT_OURS	125
#define EXIT_CANNOT	126
#define EXIT_NOT_FOUND	127

#ifndef LIBRARY
#define LIBRARY "/usr/lib/noiommufd/libnoiommufd-vfio.so"
#endif

/* What the library is to do, by its environment; NULL: no library is used */
static const char *how;

static const struct argp_option options[] = {
	{ "vfio-group", 'g', NULL, 0,
	  "Give PROGRAM VFIO's groups and containers, as DPDK and SPDK use them", 0 },
	{ "iova-pa", 'p', NULL, 0,
	  "Make each IOVA the physical address, for a program that gives a device IOVAs", 0 },
	{ 0 }
};

static error_t parse(int key, __attribute__((unused)) char *arg,
		     struct argp_state *state)
{
	switch (key) {
	case 'g':
	case 'p':
		if (how)
			argp_error(state, "--vfio-group and --iova-pa exclude each other");
		how = key == 'g' ? "vfio-group" : "iova-pa";
		break;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "name a program: noiommufd-run -- PROGRAM [ARGUMENT...]");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "-- PROGRAM [ARGUMENT...]",
	.doc = "Run PROGRAM with noiommufd's node in the place of /dev/iommu.",
};

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

/*
 * If the kernel has an iommufd, mount our node over its node, in a mount
 * namespace of the program's own. (With the library, this is not needed: it
 * redirects the program to our node by name.)
 */
static void mount_node(char **argv)
{
	if (!exists("/dev/noiommufd")) {
		if (!exists("/sys/module/noiommufd"))
			errx(EXIT_OURS, "noiommufd is not loaded: modprobe noiommu-vfio-pci");
		/* If the kernel has no iommufd, /dev/iommu is our node. */
		if (!exists("/sys/class/misc/iommu") || exists("/sys/class/misc/noiommufd"))
			errx(EXIT_OURS,
			     "/dev/noiommufd is not in this /dev: a container gets it by --device /dev/noiommufd:/dev/iommu, and does not need this");
		return;
	}
	if (how)
		return;
	if (geteuid())
		errx(EXIT_OURS, "this needs root: sudo noiommufd-run -- %s ...", argv[0]);
	if (!exists("/dev/iommu"))
		errx(EXIT_OURS, "there is no /dev/iommu to put it over: modprobe iommufd");
	if (unshare(CLONE_NEWNS))
		errx(EXIT_OURS,
		     "a mount namespace is not allowed here: give the program /dev/noiommufd as /dev/iommu (in a container: --device /dev/noiommufd:/dev/iommu)");
	/* No other process sees this mount. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("/dev/noiommufd", "/dev/iommu", NULL, MS_BIND, NULL))
		errx(EXIT_OURS, "/dev/noiommufd cannot be put over /dev/iommu: %m");
}

/*
 * The file that execvp() would run; NULL: none, and execvp() will report why.
 */
static const char *find(const char *name, char path[PATH_MAX])
{
	const char *dir = getenv("PATH") ?: "/usr/bin:/bin", *end;

	if (strchr(name, '/'))
		return name;
	for (; dir; dir = *end ? end + 1 : NULL) {
		end = strchrnul(dir, ':');
		if (snprintf(path, PATH_MAX, "%.*s%s%s", (int)(end - dir), dir,
			     end == dir ? "" : "/", name) < PATH_MAX &&
		    access(path, X_OK) == 0)
			return path;
	}
	return NULL;
}

/*
 * Why no dynamic linker, or one that is not glibc's, would load a library into the
 * program; or NULL. The interpreter of a script is not checked.
 */
static const char *cannot_load(int fd, const Elf64_Ehdr *header)
{
	char linker[64] = "";
	Elf64_Phdr segment;
	unsigned int i;

	for (i = 0; i < header->e_phnum; i++) {
		if (pread(fd, &segment, sizeof(segment), header->e_phoff +
			  (off_t)i * header->e_phentsize) != sizeof(segment) ||
		    segment.p_type != PT_INTERP)
			continue;
		if (pread(fd, linker, sizeof(linker) - 1, segment.p_offset) > 0 &&
		    strstr(linker, "/ld-musl-"))
			return "with musl, for which the library is not made: link it with glibc";
		return NULL;
	}
	return "statically, so that no library can be loaded into it: link it dynamically";
}

/* Report a program that would run without the library before it starts. */
static void check_preload(const char *name)
{
	char found[PATH_MAX];
	const char *path = find(name, found);
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	Elf64_Ehdr header, ours;
	const char *why;
	struct stat st;
	int self;

	if (!path || (fd < 0 && errno == ENOENT))
		return;
	if (fd < 0)
		errx(EXIT_CANNOT,
		     "%s cannot be read, to see whether a library can be loaded into it: %m", path);
	if (fstat(fd, &st) == 0 &&
	    (((st.st_mode & S_ISUID) && st.st_uid != geteuid()) ||
	     ((st.st_mode & 02010) == 02010 && st.st_gid != getegid()) ||
	     (geteuid() && fgetxattr(fd, "security.capability", NULL, 0) > 0)))
		errx(EXIT_OURS,
		     "%s has rights of its own (setuid, setgid or file capabilities), so that no library can be loaded into it: run it as root",
		     path);

	self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (pread(fd, &header, sizeof(header), 0) == sizeof(header) &&
	    memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 &&
	    pread(self, &ours, sizeof(ours), 0) == sizeof(ours)) {
		if (header.e_ident[EI_CLASS] != ours.e_ident[EI_CLASS] ||
		    header.e_machine != ours.e_machine)
			errx(EXIT_OURS,
			     "%s is of another architecture than %s, which cannot be loaded into it",
			     path, LIBRARY);
		why = cannot_load(fd, &header);
		if (why)
			errx(EXIT_OURS, "%s is linked %s", path, why);
	}
	close(self);
	close(fd);
}

/* Put the library in front of those that are preloaded already. */
static void preload(const char *library)
{
	const char *more = getenv("LD_PRELOAD");
	char *both;

	if (access(library, R_OK))
		errx(EXIT_OURS, "%s cannot be read: %m", library);
	if (asprintf(&both, "%s%s%s", library, more && *more ? ":" : "", more ?: "") < 0 ||
	    setenv("LD_PRELOAD", both, 1) || setenv("NOIOMMUFD_PRELOAD", how, 1))
		errx(EXIT_OURS, "%m");
	free(both);
}

int main(int argc, char **argv)
{
	int first;

	argp_err_exit_status = EXIT_OURS;
	if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, &first, NULL))
		return EXIT_OURS;
	argv += first;

	if (how)
		check_preload(argv[0]);
	mount_node(argv);
	if (how)
		preload(LIBRARY);

	execvp(argv[0], argv);
	errx(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT, "%s: %m", argv[0]);
}
