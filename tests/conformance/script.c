// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs lines of text.
 *
 *	[.]VERB[@FILE] [NAME=VALUE ...] [>KEEP] [#VA] [~VA]
 *
 * VERB is an ioctl of calls.c, with NAME=VALUE for the fields that are not 0
 * ("size" is the size of the argument unless given), or one of the commands
 * below, with plain words. FILE is a variable that holds a file; ">KEEP" stores
 * the resulting id in the variable KEEP. A VALUE consists of numbers and
 * variables joined by + - and |. "#VA": the resulting physical address must be
 * that of VA. "~VA": the length must also be what is contiguous from there.
 *
 * Three more NAMEs: "arg" is the place of the argument (null, hole, kernel, ro,
 * edge: half of it in a hole, end: right before a hole), "tail" the value of its
 * last byte if it is larger than the ioctl's own argument, "nr" an ioctl number
 * to use instead.
 *
 * A line prints itself, the return value, and each field that has changed. If it
 * begins with a dot it prints nothing unless it fails; with "?", nothing at all.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/capability.h>

#include "conformance.h"

/* Memory at fixed places, far from all else, because IOVAs depend on alignment. */
#define BASE		0x10000000000UL
#define MEM		BASE			/* 512 small pages */
#define EDGE		(BASE + 0x1ff000)	/* the last of these */
#define HOLE		(BASE + 0x200000)	/* nothing */
#define RO		(BASE + 0x400000)	/* 4 pages to read, zero */
#define NONE		(BASE + 0x410000)	/* 4 pages to leave alone */
#define FRESH		(BASE + 0x420000)	/* 4 pages never touched */
#define RANGES		(BASE + 0x430000)	/* a page for arrays */
#define RANGES_RO	(BASE + 0x432000)	/* the same, to read */
#define SHARED		(BASE + 0x440000)	/* 4 pages shared with children */
#define ARG		(BASE + 0x460000)	/* 4 pages, then a hole */
#define ARG_SIZE	(4 * PAGE)
#define HUGE		(BASE + 0x800000)	/* two huge pages */
#define HUGE_SIZE	0x400000UL
#define THP		(BASE + 0xc00000)	/* huge, if the kernel decides so */
#define FREE		(BASE + 0x1400000)	/* for "mmap" */

struct var {
	char name[16];
	__u64 value;
};

static struct var vars[96];
static unsigned int nr_vars, nr_fixed;
static const char *group_name;
static int *counter;
static bool quiet, silent;
static long pins_at_start;
static pid_t background;

/* Variables */

static struct var *find(const char *name, size_t length)
{
	unsigned int i;

	for (i = 0; i < nr_vars; i++)
		if (strlen(vars[i].name) == length &&
		    !memcmp(vars[i].name, name, length))
			return &vars[i];
	return NULL;
}

static void set(const char *name, __u64 value)
{
	struct var *var = find(name, strlen(name));

	if (!var) {
		if (nr_vars == ARRAY_SIZE(vars))
			exit(99);
		var = &vars[nr_vars++];
		snprintf(var->name, sizeof(var->name), "%s", name);
	}
	var->value = value;
}

/* A variable that is not set has a value that is no id and no file. */
static __u64 value_of(const char *text)
{
	__u64 sum = 0, one;
	struct var *var;
	size_t length;
	char op = '+';

	for (;;) {
		length = strcspn(text, "+-|");
		if (*text >= '0' && *text <= '9') {
			one = strtoull(text, NULL, 0);
		} else if (!length) {
			one = 0;
		} else {
			var = find(text, length);
			one = var ? var->value : 0x7ffffff0;
		}
		if (op == '+')
			sum += one;
		else if (op == '-')
			sum -= one;
		else
			sum |= one;
		op = text[length];
		if (!op)
			return sum;
		text += length + 1;
	}
}

static int fd_of(const char *name)
{
	return value_of(name);
}

/* What lines print */

static void print(const char *text, long ret, int error, const char *more)
{
	char line[1024], number[16];
	int length;

	/* The number of a line does not depend on what earlier lines do */
	if (silent || (quiet && ret != -1))
		return;
	if (quiet)
		snprintf(number, sizeof(number), "setup");
	else
		snprintf(number, sizeof(number), "%03d", ++*counter);
	if (ret == -1)
		length = snprintf(line, sizeof(line), "%s.%s %s -> -1 %s%s\n",
				  group_name, number, text,
				  strerrorname_np(error), more);
	else
		length = snprintf(line, sizeof(line), "%s.%s %s -> %ld%s\n",
				  group_name, number, text, ret, more);
	/* One write a line: processes share the file */
	if (write(STDOUT_FILENO, line, length) != length)
		exit(98);
}

void script_say(const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	print(text, 0, 0, "");
}

/* Physical addresses */

static __u64 physical(__u64 va)
{
	__u64 entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || pread(fd, &entry, 8, va / PAGE * 8) != 8)
		entry = 0;
	close(fd);
	if (!(entry >> 63))
		return 0;
	return (entry & ((1ULL << 55) - 1)) * PAGE + va % PAGE;
}

static __u64 contiguous(__u64 va, __u64 limit)
{
	__u64 pa = physical(va), length = PAGE - va % PAGE;

	while (length < limit && physical(va + length) == pa + length)
		length += PAGE;
	return length < limit ? length : limit;
}

/* ioctls */

static __u64 get(const unsigned char *arg, const struct field *f)
{
	__u64 value = 0;

	memcpy(&value, arg + f->offset, f->bytes);
	return value;
}

static void put(unsigned char *arg, const struct field *f, __u64 value)
{
	memcpy(arg + f->offset, &value, f->bytes);
}

static const struct field *field(const struct call *call, const char *name,
				 size_t length)
{
	const struct field *f;

	for (f = call->fields; f->name; f++)
		if (strlen(f->name) == length && !memcmp(f->name, name, length))
			return f;
	return NULL;
}

struct request {
	const char *place;
	const char *keep;
	const char *va;
	bool length_too;
	unsigned int nr;
	unsigned char tail;
	unsigned long value;
	unsigned char in[ARG_SIZE];
};

static bool parse(const struct call *call, struct request *req, int argc,
		  char **argv)
{
	const struct field *f;
	char *word, *equals;
	int i;

	if (call->size)
		put(req->in, &call->fields[0], call->size);
	for (i = 1; i < argc; i++) {
		word = argv[i];
		equals = strchr(word, '=');
		if (*word == '>') {
			req->keep = word + 1;
		} else if (*word == '#' || *word == '~') {
			req->va = word + 1;
			req->length_too = *word == '~';
		} else if (!equals) {
			return false;
		} else if (!strncmp(word, "arg=", 4)) {
			req->place = equals + 1;
		} else if (!strncmp(word, "tail=", 5)) {
			req->tail = value_of(equals + 1);
		} else if (!strncmp(word, "nr=", 3)) {
			req->nr = value_of(equals + 1);
		} else if (!strncmp(word, "value=", 6)) {
			req->value = value_of(equals + 1);
		} else {
			f = field(call, word, equals - word);
			if (!f)
				return false;
			put(req->in, f, value_of(equals + 1));
		}
	}
	return true;
}

/* Copy the argument to its place. */
static unsigned char *place(const struct call *call, struct request *req)
{
	unsigned char *arg = (unsigned char *)ARG, *end = arg + ARG_SIZE;
	size_t length = call->size < PAGE ? call->size : PAGE;
	__u32 size;

	memcpy(&size, req->in, 4);
	if (req->tail && size > call->size && size <= ARG_SIZE)
		req->in[size - 1] = req->tail;

	if (!req->place || !strcmp(req->place, "ro"))
		memcpy(arg, req->in, ARG_SIZE);
	else if (!strcmp(req->place, "null"))
		return NULL;
	else if (!strcmp(req->place, "hole"))
		return (unsigned char *)HOLE;
	else if (!strcmp(req->place, "kernel"))
		return (unsigned char *)0xffff888000000000;
	else if (!strcmp(req->place, "end"))
		arg = memcpy(end - length, req->in, length);
	else if (!strcmp(req->place, "edge"))
		arg = memcpy(end - length / 2, req->in, length / 2);
	else
		exit(97);
	return arg;
}

static bool readable(const struct request *req)
{
	return !req->place || !strcmp(req->place, "ro") ||
		!strcmp(req->place, "end");
}

/* Append every field that has changed. */
static void changes(const struct call *call, struct request *req, bool ok,
		    const unsigned char *out, char *text, size_t size)
{
	const struct field *f;
	__u64 was, is, va = 0;
	size_t length = 0;

	if (req->va)
		va = value_of(req->va);
	for (f = call->fields; f->name; f++) {
		was = get(req->in, f);
		is = get(out, f);
		if (ok && f->kind == FIELD_OUT_PA && req->va &&
		    physical(va) == is) {
			length += snprintf(text + length, size - length,
					   " %s=right", f->name);
			continue;
		}
		if (ok && req->length_too && !strcmp(f->name, "length") &&
		    contiguous(va, was) == is) {
			length += snprintf(text + length, size - length,
					   " %s=right", f->name);
			continue;
		}
		if (was == is)
			continue;
		if (f->kind == FIELD_OUT_PA)
			length += snprintf(text + length, size - length,
					   req->va ? " %s=wrong" : " %s=some",
					   f->name);
		else if (f->kind == FIELD_OUT_FD && fcntl(is, F_GETFD) != -1)
			length += snprintf(text + length, size - length,
					   " %s=file", f->name);
		else
			length += snprintf(text + length, size - length,
					   " %s=%#llx", f->name,
					   (unsigned long long)is);
	}
}

static bool do_call(const struct call *call, const char *text, const char *file,
		    int argc, char **argv)
{
	static struct request req;
	const struct field *f;
	char more[512] = "";
	unsigned char *arg;
	int error;
	long ret;

	memset(&req, 0, sizeof(req));
	req.nr = call->nr;
	if (!parse(call, &req, argc, argv)) {
		quiet = false;
		silent = false;
		print(text, 0, 0, " cannot be parsed");
		return false;
	}

	if (!file)
		file = call->target == DEVICE ? "d" : "i";
	if (!call->size) {
		ret = ioctl(fd_of(file), req.nr, req.value);
		print(text, ret, errno, "");
		return ret != -1;
	}

	arg = place(call, &req);
	if (req.place && !strcmp(req.place, "ro"))
		mprotect((void *)ARG, ARG_SIZE, PROT_READ);
	ret = ioctl(fd_of(file), req.nr, arg);
	error = errno;
	mprotect((void *)ARG, ARG_SIZE, PROT_READ | PROT_WRITE);

	if (readable(&req))
		changes(call, &req, ret != -1, arg, more, sizeof(more));
	if (ret != -1 && readable(&req)) {
		for (f = call->fields; f->name; f++) {
			if (f->kind == FIELD_OUT_FD)
				set("fd", get(arg, f));
			if (req.keep && (f->kind == FIELD_OUT_ID ||
					 !strcmp(f->name, "iova") ||
					 !strcmp(f->name, "dst_iova") ||
					 !strcmp(f->name, "pt_id")))
				set(req.keep, get(arg, f));
		}
	}
	print(text, ret, error, more);
	return ret != -1;
}

/*
 * Commands return like a system call, with errno. Further output is in "said".
 */
static char said[64];

static long cmd_iommu(char **argv)
{
	int fd = open(opt_node, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -1;
	set(argv[1], fd);
	return 0;
}

/* dev NAME DEVICE: open its node */
static long cmd_dev(char **argv)
{
	char path[128];
	int fd;

	if (!device_node(argv[2], path, sizeof(path)))
		return -1;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	set(argv[1], fd);
	return 0;
}

static long cmd_close(char **argv)
{
	return close(fd_of(argv[1]));
}

static long cmd_dup(char **argv)
{
	int fd = dup(fd_of(argv[2]));

	set(argv[1], fd);
	return fd < 0 ? -1 : 0;
}

/* file NAME PATH r|rw */
static long cmd_file(char **argv)
{
	int fd = open(argv[2], strcmp(argv[3], "r") ? O_RDWR : O_RDONLY);

	if (fd < 0)
		return -1;
	set(argv[1], fd);
	return 0;
}

/* memfd NAME SIZE [huge|sealed|readonly|tmp] */
static long cmd_memfd(char **argv)
{
	bool huge = argv[3] && !strcmp(argv[3], "huge");
	char path[64];
	int fd, ro;

	if (argv[3] && !strcmp(argv[3], "tmp"))
		fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	else
		fd = memfd_create("conformance", MFD_ALLOW_SEALING |
				  (huge ? MFD_HUGETLB : 0));
	if (fd < 0 || ftruncate(fd, value_of(argv[2])))
		return -1;
	if (argv[3] && !strcmp(argv[3], "sealed") &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE))
		return -1;
	if (argv[3] && !strcmp(argv[3], "readonly")) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		ro = open(path, O_RDONLY);
		close(fd);
		fd = ro;
	}
	set(argv[1], fd);
	return fd < 0 ? -1 : 0;
}

static long cmd_truncate(char **argv)
{
	return ftruncate(fd_of(argv[1]), value_of(argv[2]));
}

static long cmd_eventfd(char **argv)
{
	set(argv[1], eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	return 0;
}

/* mmap FILE LENGTH OFFSET shared|private r|rw|rx: at "free" */
static long cmd_mmap(char **argv)
{
	int prot = !strcmp(argv[5], "r") ? PROT_READ :
		!strcmp(argv[5], "rx") ? PROT_READ | PROT_EXEC :
		PROT_READ | PROT_WRITE;
	int flags = strcmp(argv[4], "shared") ? MAP_PRIVATE : MAP_SHARED;
	void *va;

	va = mmap((void *)FREE, value_of(argv[2]), prot, flags | MAP_FIXED,
		  fd_of(argv[1]), value_of(argv[3]));
	return va == MAP_FAILED ? -1 : 0;
}

static long cmd_munmap(char **argv)
{
	return munmap((void *)value_of(argv[1]), value_of(argv[2]));
}

static long cmd_dontneed(char **argv)
{
	return madvise((void *)value_of(argv[1]), value_of(argv[2]),
		       MADV_DONTNEED);
}

/* mprotect VA LENGTH r|rw */
static long cmd_mprotect(char **argv)
{
	return mprotect((void *)value_of(argv[1]), value_of(argv[2]),
			strcmp(argv[3], "r") ? PROT_READ | PROT_WRITE :
			PROT_READ);
}

static void fill(__u64 va, size_t size)
{
	size_t i;

	for (i = 0; i < size; i += PAGE)
		__atomic_store_n((char *)(va + i), 1, __ATOMIC_RELAXED);
}

/* fill VA LENGTH: write to each page */
static long cmd_fill(char **argv)
{
	fill(value_of(argv[1]), value_of(argv[2]));
	return 0;
}

/* touch VA: write there */
static long cmd_touch(char **argv)
{
	fill(value_of(argv[1]), 1);
	return 0;
}

/* same A B: 1 or 0 */
static long cmd_same(char **argv)
{
	return value_of(argv[1]) == value_of(argv[2]);
}

/* moved VA: has the physical address of VA changed since "remember VA"? */
static __u64 remembered;

static long cmd_remember(char **argv)
{
	remembered = physical(value_of(argv[1]));
	set("remembered", value_of(argv[1]));
	return remembered ? 0 : -1;
}

static long cmd_moved(char **argv)
{
	return physical(value_of(argv[1])) != remembered;
}

/* ranges FIRST LAST ...: write an array of these, at "ranges" */
static long cmd_ranges(char **argv)
{
	__u64 *array = (__u64 *)RANGES;
	unsigned int i;

	memset(array, 0, PAGE);
	for (i = 0; argv[i + 1]; i++)
		array[i] = value_of(argv[i + 1]);
	return 0;
}

static long cmd_set(char **argv)
{
	set(argv[1], value_of(argv[2]));
	return 0;
}

static long cmd_uncap(char **argv)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];
	int cap = !strcmp(argv[1], "sys_rawio") ? CAP_SYS_RAWIO :
		!strcmp(argv[1], "ipc_lock") ? CAP_IPC_LOCK : CAP_SYS_RESOURCE;

	if (syscall(SYS_capget, &header, data))
		return -1;
	data[cap / 32].effective &= ~(1U << cap % 32);
	return syscall(SYS_capset, &header, data);
}

static long cmd_memlock(char **argv)
{
	struct rlimit limit = {
		.rlim_cur = value_of(argv[1]),
		.rlim_max = RLIM_INFINITY,
	};

	return setrlimit(RLIMIT_MEMLOCK, &limit);
}

/* poll FILE: the events, or 0 */
static long cmd_poll(char **argv)
{
	struct pollfd p = {
		.fd = fd_of(argv[1]),
		.events = POLLIN | POLLOUT | POLLPRI,
	};

	if (poll(&p, 1, argv[2] ? value_of(argv[2]) : 0) < 0)
		return -1;
	return p.revents;
}

/* read FILE LENGTH [OFFSET [VA]]: to "ranges" or VA; OFFSET "-": none */
static bool has_offset(char **argv)
{
	return argv[3] && strcmp(argv[3], "-");
}

static void *buffer_of(char **argv)
{
	return (void *)(argv[3] && argv[4] ? value_of(argv[4]) : RANGES);
}

static long cmd_read(char **argv)
{
	if (has_offset(argv))
		return pread(fd_of(argv[1]), buffer_of(argv), value_of(argv[2]),
			     value_of(argv[3]));
	return read(fd_of(argv[1]), buffer_of(argv), value_of(argv[2]));
}

static long cmd_write(char **argv)
{
	if (has_offset(argv))
		return pwrite(fd_of(argv[1]), buffer_of(argv),
			      value_of(argv[2]), value_of(argv[3]));
	return write(fd_of(argv[1]), buffer_of(argv), value_of(argv[2]));
}

static long cmd_lseek(char **argv)
{
	return lseek(fd_of(argv[1]), value_of(argv[2]), SEEK_SET);
}

/* word N: the Nth 32-bit word at "ranges"; quad N likewise */
static long cmd_word(char **argv)
{
	snprintf(said, sizeof(said), " %#x",
		 ((__u32 *)RANGES)[value_of(argv[1])]);
	return 0;
}

static long cmd_quad(char **argv)
{
	snprintf(said, sizeof(said), " %#llx",
		 ((unsigned long long *)RANGES)[value_of(argv[1])]);
	return 0;
}

/* Pages pinned since the group began */
static long cmd_pins([[gnu::unused]] char **argv)
{
	return pages_pinned() - pins_at_start;
}

/* A line of /proc/self/status in pages: locked, pinned */
static long status_pages(const char *key)
{
	char line[128];
	long kib = -1;
	FILE *f = fopen("/proc/self/status", "r");

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			kib = atol(line + strlen(key));
	fclose(f);
	return kib < 0 ? -1 : kib / 4;
}

static long cmd_charged([[gnu::unused]] char **argv)
{
	return status_pages("VmPin:");
}

/* fdinfo FILE KEY: does /proc/self/fdinfo have such a line? */
static long cmd_fdinfo(char **argv)
{
	char path[64], line[512];
	long found = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd_of(argv[1]));
	f = fopen(path, "r");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		found |= !strncmp(line, argv[2], strlen(argv[2]));
	fclose(f);
	return found;
}

/* driver bind|unbind DEVICE: at the driver under test */
static long cmd_driver(char **argv)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/%s", opt_driver,
		 argv[1]);
	return write_text(path, device_bdf(argv[2]));
}

/* gate 0|1: unsafe mode */
static long cmd_gate(char **argv)
{
	return write_text(opt_gate, argv[1]);
}

/* mode iommu|DEVICE: of its node, the octal digits */
static long cmd_mode(char **argv)
{
	char path[128];
	struct stat st;

	if (!strcmp(argv[1], "iommu"))
		snprintf(path, sizeof(path), "%s", opt_node);
	else if (!device_node(argv[1], path, sizeof(path)))
		return -1;
	if (stat(path, &st))
		return -1;
	if (!S_ISCHR(st.st_mode))
		return 0;
	return (st.st_mode >> 6 & 7) * 100 + (st.st_mode >> 3 & 7) * 10 +
		(st.st_mode & 7);
}

/* node DEVICE: does it have one? */
static long cmd_node(char **argv)
{
	char path[128];

	return device_node(argv[1], path, sizeof(path)) && !access(path, F_OK);
}

/* groupnode NAME DEVICE: open the node of its group */
static long cmd_groupnode(char **argv)
{
	char path[128];
	int fd;

	if (!device_group_node(argv[2], path, sizeof(path))) {
		errno = ENOENT;
		return -1;
	}
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	set(argv[1], fd);
	return 0;
}

/* tainted: has an unsafe device tainted the kernel? (TAINT_USER) */
static long cmd_tainted([[gnu::unused]] char **argv)
{
	char text[32] = "";
	int fd = open("/proc/sys/kernel/tainted", O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		return -1;
	close(fd);
	return atol(text) >> 6 & 1;
}

/* running: the background process, after 0.3 s; 0: it has ended */
static long cmd_running([[gnu::unused]] char **argv)
{
	usleep(300000);
	return !waitpid(background, NULL, WNOHANG);
}

/* wait: for the background process, 20 s at most */
static long cmd_wait([[gnu::unused]] char **argv)
{
	int i, status;

	for (i = 0; i < 200; i++) {
		if (waitpid(background, &status, WNOHANG) == background)
			return status;
		usleep(100000);
	}
	errno = ETIMEDOUT;
	return -1;
}

static const struct {
	const char *name;
	int words;		/* least number of words after the name */
	long (*fn)(char **argv);
} commands[] = {
	{ "iommu", 1, cmd_iommu },
	{ "dev", 2, cmd_dev },
	{ "close", 1, cmd_close },
	{ "dup", 2, cmd_dup },
	{ "file", 3, cmd_file },
	{ "memfd", 2, cmd_memfd },
	{ "truncate", 2, cmd_truncate },
	{ "eventfd", 1, cmd_eventfd },
	{ "mmap", 5, cmd_mmap },
	{ "munmap", 2, cmd_munmap },
	{ "dontneed", 2, cmd_dontneed },
	{ "mprotect", 3, cmd_mprotect },
	{ "touch", 1, cmd_touch },
	{ "fill", 2, cmd_fill },
	{ "same", 2, cmd_same },
	{ "remember", 1, cmd_remember },
	{ "moved", 1, cmd_moved },
	{ "ranges", 0, cmd_ranges },
	{ "set", 2, cmd_set },
	{ "uncap", 1, cmd_uncap },
	{ "memlock", 1, cmd_memlock },
	{ "poll", 1, cmd_poll },
	{ "read", 2, cmd_read },
	{ "write", 2, cmd_write },
	{ "lseek", 2, cmd_lseek },
	{ "word", 1, cmd_word },
	{ "quad", 1, cmd_quad },
	{ "pins", 0, cmd_pins },
	{ "charged", 0, cmd_charged },
	{ "fdinfo", 2, cmd_fdinfo },
	{ "driver", 2, cmd_driver },
	{ "gate", 1, cmd_gate },
	{ "mode", 1, cmd_mode },
	{ "node", 1, cmd_node },
	{ "groupnode", 2, cmd_groupnode },
	{ "tainted", 0, cmd_tainted },
	{ "running", 0, cmd_running },
	{ "wait", 0, cmd_wait },
};

/* Lines */

static bool run_background(const char *text)
{
	background = fork();
	if (background)
		return true;
	/* An open device would keep its driver from releasing it */
	close_range(3, ~0U, 0);
	silent = true;
	_exit(!script_line(text, NULL));
}

static bool run_words(const char *shown, int argc, char **argv)
{
	char *at = strchr(argv[0], '@');
	unsigned int i;
	long ret;

	if (at)
		*at++ = 0;
	for (i = 0; i < nr_calls; i++)
		if (!strcmp(calls[i].name, argv[0]))
			return do_call(&calls[i], shown, at, argc, argv);
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, argv[0]))
			continue;
		if (argc - 1 < commands[i].words)
			break;
		said[0] = 0;
		ret = commands[i].fn(argv);
		print(shown, ret, errno, said);
		return ret != -1;
	}
	quiet = false;
	silent = false;
	print(shown, 0, 0, " cannot be parsed");
	return false;
}

bool script_line(const char *text, const char *shown)
{
	char copy[512], *argv[24] = { NULL }, *save = NULL, *word;
	bool was_silent = silent, ok;
	int argc = 0;

	quiet = *text == '.';
	silent |= *text == '?';
	if (quiet || *text == '?')
		text++;

	if (!strncmp(text, "background ", 11)) {
		ok = run_background(text + 11);
	} else {
		snprintf(copy, sizeof(copy), "%s", text);
		for (word = strtok_r(copy, " ", &save);
		     word && argc < (int)ARRAY_SIZE(argv) - 1;
		     word = strtok_r(NULL, " ", &save))
			argv[argc++] = word;
		ok = run_words(shown ? shown : text, argc, argv);
	}
	silent = was_silent;
	return ok;
}

static const char *const *part(const char *name)
{
	unsigned int i;

	for (i = 0; i < nr_parts; i++)
		if (!strcmp(parts[i].name, name))
			return parts[i].lines;
	exit(95);
}

/*
 * The lines between "fork" and "end" run in a child, which then exits. "do" runs
 * a part of scripts.c.
 */
void script_run(const char *const *lines)
{
	bool child = false;
	pid_t pid;
	int status;

	for (; *lines; lines++) {
		if (!strcmp(*lines, "fork")) {
			pid = fork();
			if (!pid) {
				child = true;
				continue;
			}
			if (waitpid(pid, &status, 0) != pid || status)
				script_say("child ended with %#x", status);
			while (strcmp(*lines, "end"))
				lines++;
		} else if (!strcmp(*lines, "end")) {
			if (child)
				_exit(0);
		} else if (!strncmp(*lines, "do ", 3)) {
			script_run(part(*lines + 3));
		} else {
			script_line(*lines, NULL);
		}
	}
}

void script_forget(void)
{
	close_range(3, ~0U, 0);
	nr_vars = nr_fixed;
}

static void map_at(__u64 va, size_t size, int prot, int flags)
{
	void *p = mmap((void *)va, size, prot, MAP_FIXED | MAP_ANONYMOUS | flags,
		       -1, 0);

	/* Without huge pages, lines that use them say so */
	if (p == MAP_FAILED && !(flags & MAP_HUGETLB))
		exit(96);
}

void script_begin(const char *group, int *shared_counter)
{
	const struct { const char *name; __u64 value; } fixed[] = {
		{ "mem", MEM }, { "edge", EDGE }, { "hole", HOLE }, { "ro", RO },
		{ "none", NONE }, { "fresh", FRESH }, { "ranges", RANGES },
		{ "rangesro", RANGES_RO }, { "shared", SHARED },
		{ "huge", HUGE }, { "thp", THP }, { "free", FREE },
		{ "kernel", 0xffff888000000000 }, { "null", 0 },
		{ "fixed", 1 }, { "w", 2 }, { "r", 4 },
		{ "max64", ~0ULL }, { "max32", ~0U }, { "max16", 0xffff },
		{ "top", ~0ULL - PAGE + 1 }, { "half", 1ULL << 63 },
	};
	unsigned int i;

	group_name = group;
	counter = shared_counter;
	pins_at_start = pages_pinned();

	/* No huge pages */
	map_at(MEM, 512 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	madvise((void *)MEM, 512 * PAGE, MADV_NOHUGEPAGE);
	fill(MEM, 512 * PAGE);
	map_at(RO, 4 * PAGE, PROT_READ, MAP_PRIVATE);
	map_at(NONE, 4 * PAGE, PROT_NONE, MAP_PRIVATE);
	map_at(FRESH, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	map_at(RANGES, PAGE, PROT_READ | PROT_WRITE,
	       MAP_PRIVATE | MAP_POPULATE);
	map_at(RANGES_RO, PAGE, PROT_READ, MAP_PRIVATE);
	map_at(SHARED, 4 * PAGE, PROT_READ | PROT_WRITE,
	       MAP_SHARED | MAP_POPULATE);
	map_at(ARG, ARG_SIZE, PROT_READ | PROT_WRITE,
	       MAP_PRIVATE | MAP_POPULATE);
	map_at(THP, HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	madvise((void *)THP, HUGE_SIZE, MADV_HUGEPAGE);
	fill(THP, HUGE_SIZE);
	map_at(HUGE, HUGE_SIZE, PROT_READ | PROT_WRITE,
	       MAP_PRIVATE | MAP_HUGETLB | MAP_POPULATE);

	for (i = 0; i < ARRAY_SIZE(fixed); i++)
		set(fixed[i].name, fixed[i].value);
	nr_fixed = nr_vars;
}
