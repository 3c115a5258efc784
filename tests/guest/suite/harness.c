// SPDX-License-Identifier: GPL-2.0-only
/*
 * The runner and the helpers of the guest suite; harness.h says what they do.
 *
 *	PROGRAM [PATTERN]
 *
 * runs the tests whose name fits the glob PATTERN: "program.test", "program"
 * or "test".
 */
#include <dirent.h>
#include <fnmatch.h>
#include <glob.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#include "harness.h"

#define PCI_DEVICES	"/sys/bus/pci/devices"
#define IOVA_BASE	"/sys/module/noiommufd/parameters/iova_base"
#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"
#define MONITOR		"/dev/ttyS2"

/* Seconds to wait for a process that its alarm should have killed */
#define GRACE		10

/* Exit status of a test's process, unless it is killed */
enum { PASS = 0, FAIL = 1, SKIP = 4 };

static struct test *tests;
static struct test **tests_tail = &tests;

/* Shared with the test's processes: why it failed or was skipped */
static char *verdict;
#define VERDICT_SIZE	1024

void test_register(struct test *test)
{
	*tests_tail = test;
	tests_tail = &test->next;
}

/* Expectations */

static void set_verdict(const char *where, const char *fmt, va_list args)
{
	size_t n = snprintf(verdict, VERDICT_SIZE, "%s", where);
	char *c;

	vsnprintf(verdict + n, VERDICT_SIZE - n, fmt, args);
	/* The reason becomes the rest of one KTAP line. */
	for (c = verdict; *c; c++)
		if (*c == '\n' || *c == '#')
			*c = ' ';
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
	const char *base = strrchr(file, '/');
	char where[128];
	va_list args;

	snprintf(where, sizeof(where), "%s:%d: ", base ? base + 1 : file, line);
	va_start(args, fmt);
	set_verdict(where, fmt, args);
	va_end(args);
	_exit(FAIL);
}

void test_skip(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	set_verdict("", fmt, args);
	va_end(args);
	_exit(SKIP);
}

static const char *errno_name(int err)
{
	const char *name = strerrorname_np(err);

	return name ? name : "an unknown errno";
}

long check_ok(const char *file, int line, const char *what, long ret)
{
	if (ret == -1)
		test_fail(file, line, "%s: expected success, got %s", what,
			  errno_name(errno));
	return ret;
}

void check_errno(const char *file, int line, const char *what, long ret,
		 int want)
{
	int err = errno;

	if (ret != -1)
		test_fail(file, line, "%s: expected %s, got %ld", what,
			  errno_name(want), ret);
	if (err != want)
		test_fail(file, line, "%s: expected %s, got %s", what,
			  errno_name(want), errno_name(err));
}

void check_eq(const char *file, int line, const char *what,
	      unsigned long long got, unsigned long long want)
{
	if (got != want)
		test_fail(file, line, "%s: expected %llu (0x%llx), got %llu (0x%llx)",
			  what, want, want, got, got);
}

bool on_mainline(void)
{
	return !strcmp(driver_name(), "vfio-pci");
}

void skip_on_mainline(const char *difference)
{
	if (on_mainline())
		test_skip("mainline differs: %s", difference);
}

/* Processes and time */

double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

unsigned int slow(void)
{
	const char *factor = getenv("SLOW");
	int n = factor ? atoi(factor) : 1;

	return n > 0 ? n : 1;
}

void sleep_ms(unsigned int ms)
{
	struct timespec ts = {
		.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L,
	};

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

pid_t spawn(void (*fn)(void *arg), void *arg)
{
	pid_t pid = expect_ok(fork());

	if (!pid) {
		fn(arg);
		_exit(PASS);
	}
	return pid;
}

void join(pid_t pid)
{
	int status;

	expect_ok(waitpid(pid, &status, 0));
	if (WIFEXITED(status)) {
		/* The verdict has been written already. */
		if (WEXITSTATUS(status))
			_exit(WEXITSTATUS(status));
		return;
	}
	fail("process %d of the test: expected to end by itself, got killed by %s",
	     pid, strsignal(WTERMSIG(status)));
}

void in_child(void (*fn)(void *arg), void *arg)
{
	join(spawn(fn, arg));
}

/* The system */

int write_file(const char *path, const char *fmt, ...)
{
	char text[256];
	va_list args;
	ssize_t n;
	int fd;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = write(fd, text, strlen(text));
	if (n < 0) {
		int err = errno;

		close(fd);
		errno = err;
		return -1;
	}
	close(fd);
	return 0;
}

static bool read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, size - 1);
	close(fd);
	if (n < 0)
		return false;
	text[n] = 0;
	text[strcspn(text, "\n")] = 0;
	return true;
}

long long read_number(const char *path)
{
	char text[64];

	if (!read_text(path, text, sizeof(text)))
		fail("%s: expected to read it, got %s", path, errno_name(errno));
	return strtoll(text, NULL, 0);
}

long long read_field(const char *path, const char *key)
{
	size_t n = strlen(key);
	long long value = -1;
	char line[256];
	FILE *file;

	file = fopen(path, "re");
	if (!file)
		fail("%s: expected to read it, got %s", path, errno_name(errno));
	while (fgets(line, sizeof(line), file)) {
		if (!strncmp(line, key, n) && strchr(" \t:", line[n])) {
			value = strtoll(line + n + 1, NULL, 0);
			break;
		}
	}
	fclose(file);
	return value;
}

/* -1 if the kernel does not count pins */
static long long count_pins(void)
{
	long long acquired, released;

	/* The counters are per CPU and folded from time to time: fold them now. */
	write_file("/proc/sys/vm/stat_refresh", "1");
	acquired = read_field("/proc/vmstat", "nr_foll_pin_acquired");
	released = read_field("/proc/vmstat", "nr_foll_pin_released");
	if (acquired < 0 || released < 0)
		return -1;
	return acquired - released;
}

long long pins(void)
{
	long long n = count_pins();

	if (n < 0)
		fail("/proc/vmstat: expected nr_foll_pin_*, got none");
	return n;
}

static bool settle_pins(long long want, long long *got)
{
	double end = now() + 2 * slow();

	do {
		*got = count_pins();
		if (*got == want)
			return true;
		sleep_ms(20);
	} while (now() < end);
	return false;
}

void check_pins(const char *file, int line, long long want)
{
	long long got;

	if (!settle_pins(want, &got))
		test_fail(file, line, "pages pinned: expected %lld, got %lld",
			  want, got);
}

long long vm_pin(void)
{
	long long kib = read_field("/proc/self/status", "VmPin");

	expect(kib >= 0);
	return kib;
}

void drop_cap(int cap)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	expect_ok(syscall(SYS_capget, &header, data));
	data[cap / 32].effective &= ~(1U << cap % 32);
	data[cap / 32].permitted &= ~(1U << cap % 32);
	data[cap / 32].inheritable &= ~(1U << cap % 32);
	expect_ok(syscall(SYS_capset, &header, data));
}

void set_memlock(unsigned long long bytes)
{
	struct rlimit limit = { .rlim_cur = bytes, .rlim_max = bytes };

	expect_ok(setrlimit(RLIMIT_MEMLOCK, &limit));
}

/* Call line() for each record that exists now. */
static void kmsg_read(void (*line)(unsigned long long seq, int level,
				   const char *text, void *arg), void *arg)
{
	int fd = expect_ok(open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	char record[8192];

	for (;;) {
		ssize_t n = read(fd, record, sizeof(record) - 1);
		char *text, *comma;

		/* EPIPE: the next one was overwritten meanwhile. */
		if (n < 0 && errno == EPIPE)
			continue;
		if (n < 0)
			break;
		record[n] = 0;
		/* "level,sequence,...;text", then lines of keys and values */
		comma = strchr(record, ',');
		text = strchr(record, ';');
		if (!text || !comma)
			continue;
		text[strcspn(text, "\n")] = 0;
		line(strtoull(comma + 1, NULL, 10),
		     strtol(record, NULL, 10) & 7, text + 1, arg);
	}
	close(fd);
}

static void kmsg_last(unsigned long long seq, int level, const char *text,
		      void *arg)
{
	(void)level;
	(void)text;
	*(unsigned long long *)arg = seq;
}

unsigned long long kmsg_mark(void)
{
	unsigned long long seq = 0;

	kmsg_read(kmsg_last, &seq);
	return seq;
}

struct kmsg_filter {
	unsigned long long mark;
	int level;
	const char *a, *b;
	int count;
};

static void kmsg_filter(unsigned long long seq, int level, const char *text,
			void *arg)
{
	struct kmsg_filter *f = arg;

	if (seq > f->mark && level <= f->level &&
	    (!f->a || strstr(text, f->a)) && (!f->b || strstr(text, f->b)))
		f->count++;
}

int kmsg_count(unsigned long long mark, int level, const char *a, const char *b)
{
	struct kmsg_filter f = { .mark = mark, .level = level, .a = a, .b = b };

	kmsg_read(kmsg_filter, &f);
	return f.count;
}

/* Send a line of JSON and wait for its answer. */
static void monitor_ask(FILE *port, const char *line, char *answer, size_t size)
{
	static unsigned int id;
	char mark[32];

	snprintf(mark, sizeof(mark), "\"id\": %u", ++id);
	if (fprintf(port, "{\"id\": %u, %s}\n", id, line) < 0 || fflush(port))
		fail(MONITOR ": expected to write to it, got %s",
		     errno_name(errno));
	/* Skip events. The time limit of the test ends an endless wait. */
	do {
		if (!fgets(answer, size, port))
			fail(MONITOR ": expected an answer, got none");
	} while (!strstr(answer, mark));
}

bool qemu(const char *fmt, ...)
{
	char command[256], line[384], answer[4096];
	struct termios raw;
	va_list args;
	FILE *port;

	va_start(args, fmt);
	vsnprintf(command, sizeof(command), fmt, args);
	va_end(args);

	port = fopen(MONITOR, "r+e");
	if (!port || tcgetattr(fileno(port), &raw))
		test_skip("the guest has no way to QEMU's monitor");
	cfmakeraw(&raw);
	expect_ok(tcsetattr(fileno(port), TCSANOW, &raw));
	setvbuf(port, NULL, _IONBF, 0);
	/*
	 * The port has echoed its input so far, so the monitor may have read
	 * part of its own greeting: this byte makes it start again.
	 */
	fputs("\377\n", port);
	/* Answers with an error, except the first time. */
	monitor_ask(port, "\"execute\": \"qmp_capabilities\"", answer,
		    sizeof(answer));
	snprintf(line, sizeof(line),
		 "\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"%s\"}",
		 command);
	monitor_ask(port, line, answer, sizeof(answer));
	fclose(port);
	/* It prints only errors, and "OK". */
	if (strstr(answer, "\"return\": \"\"") || strstr(answer, "OK id:"))
		return true;
	printf("# %s: %s", command, answer);
	fflush(stdout);
	return false;
}

/* Memory */

void *mem_flags(size_t size, int prot, int flags)
{
	void *va = mmap(NULL, size, prot, flags, -1, 0);

	if (va == MAP_FAILED)
		fail("mmap of %zu bytes: expected success, got %s", size,
		     errno_name(errno));
	return va;
}

void *mem(size_t size)
{
	void *va = mem_flags(size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS);

	madvise(va, size, MADV_NOHUGEPAGE);
	memset(va, 0, size);
	return va;
}

void mem_fill(void *va, size_t size, unsigned int seed)
{
	__u32 *word = va;
	size_t i;

	for (i = 0; i < size / sizeof(*word); i++)
		word[i] = seed + i * 2654435761U;
}

__u64 pagemap_pa(const void *va)
{
	static pid_t owner;
	static int fd;
	__u64 entry;

	/* pagemap is that of the process that opened it. */
	if (owner != getpid()) {
		fd = expect_ok(open("/proc/self/pagemap",
				    O_RDONLY | O_CLOEXEC));
		owner = getpid();
	}
	expect_eq(pread(fd, &entry, sizeof(entry), (uintptr_t)va / PAGE * 8),
		  sizeof(entry));
	if (!(entry >> 63))
		return 0;
	entry &= (1ULL << 55) - 1;
	if (!entry)
		fail("/proc/self/pagemap: expected a page frame number, got none");
	return entry * PAGE + (uintptr_t)va % PAGE;
}

void huge_pages(unsigned int n)
{
	write_file("/proc/sys/vm/compact_memory", "1");
	write_file(NR_HUGEPAGES, "%u", n);
	if (read_number(NR_HUGEPAGES) < n)
		test_skip("the guest has no %u huge pages to give", n);
}

void *hugetlb(unsigned int n)
{
	huge_pages(n);
	return mem_flags(n * HUGE_PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
}

void *transparent_huge_page(void)
{
	char *va = mem_flags(2 * HUGE_PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS);
	int try;

	va = (char *)(((uintptr_t)va + HUGE_PAGE - 1) & -HUGE_PAGE);
	if (madvise(va, HUGE_PAGE, MADV_HUGEPAGE))
		test_skip("the kernel has no transparent huge pages");
	for (try = 0; try < 5; try++) {
		size_t i;
		__u64 pa;

		memset(va, 1, HUGE_PAGE);
		pa = pagemap_pa(va);
		for (i = PAGE; i < HUGE_PAGE; i += PAGE)
			if (pagemap_pa(va + i) != pa + i)
				break;
		if (i == HUGE_PAGE && !(pa % HUGE_PAGE))
			return va;
		madvise(va, HUGE_PAGE, MADV_DONTNEED);
		write_file("/proc/sys/vm/compact_memory", "1");
	}
	test_skip("the kernel has no transparent huge page to give now");
}

int userfault_open(const struct uffdio_range *pages)
{
	struct uffdio_register reg = {
		.range = *pages,
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0)
		test_skip("the kernel has no userfaultfd");
	expect_ok(ioctl(fd, UFFDIO_API, &api));
	expect_ok(ioctl(fd, UFFDIO_REGISTER, &reg));
	return fd;
}

void userfault_wait(int fd)
{
	struct uffd_msg msg;

	expect_eq(read(fd, &msg, sizeof(msg)), sizeof(msg));
	expect_eq(msg.event, UFFD_EVENT_PAGEFAULT);
}

/* Devices */

const char *driver_name(void)
{
	const char *name = getenv("NOIOMMU_DRIVER");

	return name ? name : "noiommu-vfio-pci";
}

const char *unsafe_parameter(void)
{
	return on_mainline() ?
	       "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode" :
	       "/sys/module/noiommu_vfio_pci/parameters/enable_unsafe_noiommu_mode";
}

__u64 iova_base(void)
{
	unsigned long long base = PAGE;
	FILE *f;

	if (on_mainline())
		return base;
	f = fopen(IOVA_BASE, "r");
	if (!f || fscanf(f, "%llu", &base) != 1)
		fail("%s: expected a number, got none", IOVA_BASE);
	fclose(f);
	return base;
}

const char *iommu_node(void)
{
	const char *node = getenv("IOMMU_NODE");

	return node ? node : "/dev/iommu";
}

/* The edu device on the root bus, or the other one */
static const char *find_edu(bool root_bus)
{
	static char found[2][32];
	char path[320], text[32];
	struct dirent *entry;
	DIR *dir;

	if (*found[root_bus])
		return found[root_bus];
	dir = opendir(PCI_DEVICES);
	if (!dir)
		fail("%s: expected to read it, got %s", PCI_DEVICES,
		     errno_name(errno));
	while ((entry = readdir(dir))) {
		if (*entry->d_name == '.' ||
		    !strncmp(entry->d_name, "0000:00:", 8) != root_bus)
			continue;
		snprintf(path, sizeof(path), PCI_DEVICES "/%s/vendor",
			 entry->d_name);
		if (!read_text(path, text, sizeof(text)) ||
		    strcmp(text, "0x1234"))
			continue;
		snprintf(path, sizeof(path), PCI_DEVICES "/%s/device",
			 entry->d_name);
		if (!read_text(path, text, sizeof(text)) ||
		    strcmp(text, "0x11e8"))
			continue;
		snprintf(found[root_bus], sizeof(found[root_bus]), "%.31s",
			 entry->d_name);
		break;
	}
	closedir(dir);
	if (!*found[root_bus])
		fail("PCI devices: expected an edu %s, got none", root_bus ?
		     "on the root bus" : "behind a bridge");
	return found[root_bus];
}

const char *edu(void)
{
	return find_edu(true);
}

const char *edu_behind_bridge(void)
{
	return find_edu(false);
}

bool device_link(const char *bdf, const char *entry, char *name, size_t size)
{
	char path[128], target[256];
	ssize_t n;

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/%s", bdf, entry);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = 0;
	snprintf(name, size, "%s", strrchr(target, '/') + 1);
	return true;
}

bool driver_has(const char *bdf)
{
	char name[64];

	return device_link(bdf, "driver", name, sizeof(name)) &&
	       !strcmp(name, driver_name());
}

void driver_unbind(const char *bdf)
{
	char path[128];

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/driver/unbind", bdf);
	expect_ok(write_file(path, "%s", bdf));
}

/* It looks for namespaces in the background, and opens the disk to read its table. */
void nvme_unload(void)
{
	int i;

	for (i = 0; i < 50 && system("rmmod nvme 2> /dev/null"); i++)
		sleep_ms(100);
	expect(access("/sys/module/nvme", F_OK));
}

void driver_bind_to(const char *bdf, const char *driver)
{
	char path[128], name[64];

	if (device_link(bdf, "driver", name, sizeof(name))) {
		if (!strcmp(name, driver))
			return;
		driver_unbind(bdf);
	}
	snprintf(path, sizeof(path), PCI_DEVICES "/%s/driver_override", bdf);
	expect_ok(write_file(path, "%s", driver));
	/*
	 * This waits for a probe by another driver and returns the errno of
	 * ours; drivers_probe does neither.
	 */
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/bind", driver);
	expect_ok(write_file(path, "%s", bdf));
	if (!device_link(bdf, "driver", name, sizeof(name)) || strcmp(name, driver))
		fail("%s: expected driver %s to take it, got %s", bdf, driver,
		     device_link(bdf, "driver", name, sizeof(name)) ? name : "no driver");
}

void driver_bind(const char *bdf)
{
	driver_bind_to(bdf, driver_name());
}

bool cdev_name(const char *bdf, char *name, size_t size)
{
	struct dirent *entry;
	bool found = false;
	char path[128];
	DIR *dir;

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/vfio-dev", bdf);
	dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (entry = readdir(dir))) {
		if (*entry->d_name == '.')
			continue;
		snprintf(name, size, "%s", entry->d_name);
		found = true;
	}
	closedir(dir);
	return found;
}

void cdev_path(const char *bdf, char *path, size_t size)
{
	char name[64];

	driver_bind(bdf);
	if (!cdev_name(bdf, name, sizeof(name)))
		fail("%s: expected an entry in its vfio-dev/ in sysfs, got none",
		     bdf);
	snprintf(path, size, "/dev/vfio/devices/%s", name);
}

int iommu_open(void)
{
	return expect_ok(open(iommu_node(), O_RDWR | O_CLOEXEC));
}

int cdev_open(const char *bdf)
{
	char path[128];

	cdev_path(bdf, path, sizeof(path));
	return expect_ok(open(path, O_RDWR | O_CLOEXEC));
}

bool kernel_is_before(unsigned int major, unsigned int minor)
{
	struct utsname kernel;
	unsigned int is[2];

	uname(&kernel);
	if (sscanf(kernel.release, "%u.%u", &is[0], &is[1]) != 2)
		fail("uname: expected a version, got %s", kernel.release);
	return is[0] < major || (is[0] == major && is[1] < minor);
}

void need_bus_reset(int dev, const char *bdf)
{
	struct vfio_pci_hot_reset_info info = { .argsz = sizeof(info) };
	struct utsname kernel;
	bool lacks = false;
	glob_t found;
	char path[128];
	size_t i;

	uname(&kernel);
	if (strncmp(kernel.release, "6.6.", 4) ||
	    !ioctl(dev, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info) ||
	    errno != ENODEV)
		return;
	snprintf(path, sizeof(path), PCI_DEVICES "/%.8s*", bdf);
	expect_eq(glob(path, 0, NULL, &found), 0);
	for (i = 0; i < found.gl_pathc; i++) {
		snprintf(path, sizeof(path), "%s/reset_method",
			 found.gl_pathv[i]);
		lacks |= access(path, F_OK) != 0;
	}
	globfree(&found);
	if (lacks)
		test_skip("Linux %s resets no bus with a device that has no reset of its own",
			  kernel.release);
}

/* UAPI calls */

int dev_bind(int dev, int iommu, __u32 *devid)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind), .iommufd = iommu,
	};
	int ret = ioctl(dev, VFIO_DEVICE_BIND_IOMMUFD, &bind);

	*devid = bind.out_devid;
	return ret;
}

int dev_attach(int dev, __u32 *pt_id)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach), .pt_id = *pt_id,
	};
	int ret = ioctl(dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);

	*pt_id = attach.pt_id;
	return ret;
}

int dev_detach(int dev)
{
	struct vfio_device_detach_iommufd_pt detach = {
		.argsz = sizeof(detach),
	};

	return ioctl(dev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
}

int ioas_alloc(int iommu, __u32 *ioas)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	int ret = ioctl(iommu, IOMMU_IOAS_ALLOC, &alloc);

	*ioas = alloc.out_ioas_id;
	return ret;
}

int object_destroy(int iommu, __u32 id)
{
	struct iommu_destroy destroy = { .size = sizeof(destroy), .id = id };

	return ioctl(iommu, IOMMU_DESTROY, &destroy);
}

int hwpt_alloc(int iommu, __u32 devid, __u32 pt_id, __u32 *hwpt)
{
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc), .dev_id = devid, .pt_id = pt_id,
	};
	int ret = ioctl(iommu, IOMMU_HWPT_ALLOC, &alloc);

	*hwpt = alloc.out_hwpt_id;
	return ret;
}

int ioas_map_flags(int iommu, __u32 ioas, __u32 flags, const void *va,
		   __u64 length, __u64 *iova)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map), .flags = flags, .ioas_id = ioas,
		.user_va = (uintptr_t)va, .length = length, .iova = *iova,
	};
	int ret = ioctl(iommu, IOMMU_IOAS_MAP, &map);

	*iova = map.iova;
	return ret;
}

int ioas_map(int iommu, __u32 ioas, void *va, __u64 length, __u64 iova)
{
	return ioas_map_flags(iommu, ioas, MAP_FIXED_RW, va, length, &iova);
}

int ioas_unmap(int iommu, __u32 ioas, __u64 iova, __u64 length, __u64 *done)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap), .ioas_id = ioas, .iova = iova,
		.length = length,
	};
	int ret = ioctl(iommu, IOMMU_IOAS_UNMAP, &unmap);

	if (done)
		*done = unmap.length;
	return ret;
}

int ioas_copy(int iommu, __u32 dst, __u32 src, __u32 flags, __u64 length,
	      __u64 *dst_iova, __u64 src_iova)
{
	struct iommu_ioas_copy copy = {
		.size = sizeof(copy), .flags = flags, .dst_ioas_id = dst,
		.src_ioas_id = src, .length = length, .dst_iova = *dst_iova,
		.src_iova = src_iova,
	};
	int ret = ioctl(iommu, IOMMU_IOAS_COPY, &copy);

	*dst_iova = copy.dst_iova;
	return ret;
}

int get_pa(int iommu, __u32 ioas, __u64 iova, __u64 *length, __u64 *pa)
{
	struct iommu_ioas_noiommu_get_pa get = {
		.size = sizeof(get), .ioas_id = ioas, .iova = iova,
		.length = *length,
	};
	int ret = ioctl(iommu, IOMMU_IOAS_NOIOMMU_GET_PA, &get);

	*length = get.length;
	*pa = get.out_phys;
	return ret;
}

__u32 new_ioas(int iommu)
{
	__u32 ioas;

	expect_ok(ioas_alloc(iommu, &ioas));
	return ioas;
}

__u32 attach(int dev, __u32 pt_id)
{
	expect_ok(dev_attach(dev, &pt_id));
	return pt_id;
}

__u64 pa_of(int iommu, __u32 ioas, __u64 iova)
{
	__u64 length = 1, pa;

	expect_ok(get_pa(iommu, ioas, iova, &length, &pa));
	expect_eq(length, 1);
	return pa;
}

void setup_bound(struct setup *s)
{
	memset(s, 0, sizeof(*s));
	s->iommu = iommu_open();
	s->dev = cdev_open(edu());
	expect_ok(dev_bind(s->dev, s->iommu, &s->devid));
	s->ioas = new_ioas(s->iommu);
}

void setup_attached(struct setup *s)
{
	setup_bound(s);
	s->hwpt = attach(s->dev, s->ioas);
}

void check_pas(const char *file, int line, const struct setup *s, __u64 iova,
	       const void *va, size_t size)
{
	size_t i;

	for (i = 0; i < size; i += PAGE) {
		__u64 want = pagemap_pa(va + i);
		__u64 length = 1, pa;

		if (!want)
			test_fail(file, line, "pagemap at +0x%zx: expected a page, got none",
				  i);
		if (get_pa(s->iommu, s->ioas, iova + i, &length, &pa))
			test_fail(file, line, "GET_PA at +0x%zx: expected 0x%llx, got %s",
				  i, want, errno_name(errno));
		if (pa != want)
			test_fail(file, line, "GET_PA at +0x%zx: expected 0x%llx, got 0x%llx",
				  i, want, pa);
	}
}

/* Regions */

void region_info(int dev, __u32 index, struct vfio_region_info *info)
{
	memset(info, 0, sizeof(*info));
	info->argsz = sizeof(*info);
	info->index = index;
	expect_ok(ioctl(dev, VFIO_DEVICE_GET_REGION_INFO, info));
}

void *region_mmap(int dev, __u32 index, int prot)
{
	struct vfio_region_info info;
	void *bar;

	region_info(dev, index, &info);
	bar = mmap(NULL, info.size, prot, MAP_SHARED, dev, info.offset);
	if (bar == MAP_FAILED)
		fail("mmap of region %u: expected success, got %s", index,
		     errno_name(errno));
	return bar;
}

void bus_master(int dev, bool on)
{
	struct vfio_region_info info;
	__u16 command;

	region_info(dev, VFIO_PCI_CONFIG_REGION_INDEX, &info);
	expect_eq(pread(dev, &command, sizeof(command), info.offset + 4),
		  sizeof(command));
	command = (command | 6) & ~(on ? 0 : 4);
	expect_eq(pwrite(dev, &command, sizeof(command), info.offset + 4),
		  sizeof(command));
}

static loff_t config_offset(int dev, unsigned int offset)
{
	struct vfio_region_info info;

	region_info(dev, VFIO_PCI_CONFIG_REGION_INDEX, &info);
	return info.offset + offset;
}

__u32 config_read(int dev, unsigned int offset, unsigned int size)
{
	__u32 value = 0;

	expect_eq(pread(dev, &value, size, config_offset(dev, offset)), size);
	return value;
}

void config_write(int dev, unsigned int offset, unsigned int size, __u32 value)
{
	expect_eq(pwrite(dev, &value, size, config_offset(dev, offset)), size);
}

__u8 config_capability(int dev, __u8 id)
{
	__u8 at = config_read(dev, 0x34, 1);

	while (at && config_read(dev, at, 1) != id)
		at = config_read(dev, at + 1, 1);
	if (!at)
		fail("PCI capabilities: expected one with id 0x%x, got none",
		     id);
	return at;
}

__u32 mmio_read32(const void *bar, size_t offset)
{
	return __atomic_load_n((const __u32 *)(bar + offset), __ATOMIC_SEQ_CST);
}

void mmio_write32(void *bar, size_t offset, __u32 value)
{
	__atomic_store_n((__u32 *)(bar + offset), value, __ATOMIC_RELEASE);
}

void mmio_write64(void *bar, size_t offset, __u64 value)
{
	__atomic_store_n((__u64 *)(bar + offset), value, __ATOMIC_RELEASE);
}

/* Interrupts */

int irq_set(int dev, __u32 index, __u32 flags, __u32 start, __u32 count,
	    const void *data, size_t size)
{
	struct vfio_irq_set *set = calloc(1, sizeof(*set) + size);
	int ret;

	expect(set);
	set->argsz = sizeof(*set) + size;
	set->flags = flags;
	set->index = index;
	set->start = start;
	set->count = count;
	if (size)
		memcpy(set->data, data, size);
	ret = ioctl(dev, VFIO_DEVICE_SET_IRQS, set);
	free(set);
	return ret;
}

int event_open(void)
{
	return expect_ok(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

int irq_eventfd(int dev, __u32 index)
{
	__s32 fd = event_open();

	expect_ok(irq_set(dev, index, IRQ_EVENTFD | IRQ_TRIGGER, 0, 1, &fd,
			  sizeof(fd)));
	return fd;
}

void irq_off(int dev, __u32 index)
{
	expect_ok(irq_set(dev, index, IRQ_NONE | IRQ_TRIGGER, 0, 0, NULL, 0));
}

__u64 signals(int fd, int timeout_ms)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	__u64 count = 0;

	if (poll(&ready, 1, timeout_ms) == 1)
		expect_eq(read(fd, &count, sizeof(count)), sizeof(count));
	return count;
}

#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_CMD	0x98
#define EDU_BUFFER	0x40000

static void edu_dma(void *bar, __u64 src, __u64 dst, __u32 size, __u32 cmd)
{
	double end = now() + 10 * slow();

	/* QEMU treats a transfer that reaches the end of the buffer as a bug. */
	expect(size <= EDU_DMA_MAX);
	mmio_write64(bar, EDU_DMA_SRC, src);
	mmio_write64(bar, EDU_DMA_DST, dst);
	mmio_write64(bar, EDU_DMA_COUNT, size);
	mmio_write64(bar, EDU_DMA_CMD, cmd);
	while (mmio_read32(bar, EDU_DMA_CMD) & 1) {
		if (now() > end)
			fail("edu: expected its DMA to end, got nothing in %u s",
			     10 * slow());
		sleep_ms(5);
	}
}

void edu_read_from(void *bar, __u64 pa, __u32 size)
{
	edu_dma(bar, pa, EDU_BUFFER, size, 1);
}

void edu_write_to(void *bar, __u64 pa, __u32 size)
{
	edu_dma(bar, EDU_BUFFER, pa, size, 3);
}

/* The runner */

static void reap(pid_t group)
{
	kill(-group, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
}

static void run_child(const struct test *test)
{
	sigset_t none;

	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGALRM, SIG_DFL);
	alarm(test->limit * slow());
	test->fn();
	_exit(PASS);
}

static int run(const struct test *test)
{
	long long before = count_pins(), after;
	struct pollfd ended;
	siginfo_t info = {};
	pid_t pid;

	*verdict = 0;
	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		snprintf(verdict, VERDICT_SIZE, "harness: fork: %s",
			 errno_name(errno));
		return FAIL;
	}
	if (!pid)
		run_child(test);
	setpgid(pid, pid);

	ended.fd = syscall(SYS_pidfd_open, pid, 0);
	ended.events = POLLIN;
	if (!poll(&ended, 1, (test->limit + GRACE) * slow() * 1000)) {
		snprintf(verdict, VERDICT_SIZE, "cannot be killed %u s after its limit",
			 GRACE * slow());
		close(ended.fd);
		return FAIL;
	}
	close(ended.fd);
	waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
	reap(pid);

	if (info.si_code != CLD_EXITED) {
		if (info.si_status == SIGALRM)
			snprintf(verdict, VERDICT_SIZE, "expected to end, got nothing in %u s",
				 test->limit * slow());
		else
			snprintf(verdict, VERDICT_SIZE, "expected a normal end, got killed by %s",
				 strsignal(info.si_status));
		return FAIL;
	}
	if (info.si_status == PASS && before >= 0 &&
	    !settle_pins(before, &after)) {
		snprintf(verdict, VERDICT_SIZE, "pages pinned afterwards: expected %lld, got %lld",
			 before, after);
		return FAIL;
	}
	return info.si_status;
}

static bool chosen(const char *program, const struct test *test,
		   const char *pattern)
{
	char full[256];

	snprintf(full, sizeof(full), "%s.%s", program, test->name);
	return !pattern || !fnmatch(pattern, full, 0) ||
	       !fnmatch(pattern, test->name, 0) ||
	       !fnmatch(pattern, program, 0);
}

int main(int argc, char **argv)
{
	const char *program = strrchr(argv[0], '/');
	const char *pattern = argc > 1 && *argv[1] ? argv[1] : NULL;
	char unsafe[8] = "";
	unsigned int n = 0, i = 0;
	char huge[16] = "";
	bool failed = false;
	struct test *test;

	program = program ? program + 1 : argv[0];
	verdict = mmap(NULL, VERDICT_SIZE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (verdict == MAP_FAILED) {
		perror("mmap");
		return FAIL;
	}
	/* Become the parent of processes that a test leaves behind. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);

	for (test = tests; test; test = test->next)
		n += chosen(program, test, pattern);
	printf("KTAP version 1\n1..%u", n);
	if (!n)
		printf(" # SKIP no test here fits the pattern");
	printf("\n");

	read_text(unsafe_parameter(), unsafe, sizeof(unsafe));
	read_text(NR_HUGEPAGES, huge, sizeof(huge));
	for (test = tests; test; test = test->next) {
		double start = now();
		const char *sign;
		int result;

		if (!chosen(program, test, pattern))
			continue;
		result = run(test);
		if (*unsafe)
			write_file(unsafe_parameter(), "%s", unsafe);
		if (*huge)
			write_file(NR_HUGEPAGES, "%s", huge);

		sign = result == SKIP ? " # SKIP " : *verdict ? " # " : "";
		if (now() - start > 5)
			printf("# %s.%s took %.1f s\n", program, test->name,
			       now() - start);
		printf("%s %u %s.%s%s%s\n",
		       result == PASS || result == SKIP ? "ok" : "not ok",
		       ++i, program, test->name, sign,
		       verdict);
		failed |= result != PASS && result != SKIP;
	}
	fflush(stdout);
	return failed ? FAIL : PASS;
}
