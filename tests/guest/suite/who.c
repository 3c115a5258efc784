// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who holds what: fdinfo of iommufds and of devices, and noiommufd's directory
 * in debugfs.
 */
#include <pthread.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <linux/vfio.h>

#include <noiommufd/noiommufd.h>

#include "harness.h"

#define TRACING		"/sys/kernel/tracing/"
#define EVENTS		TRACING "events/noiommufd/"
#define DEBUGFS		"/sys/kernel/debug/noiommufd/"
#define CONTEXTS	DEBUGFS "contexts"
#define DEVICES		DEBUGFS "devices"

static char said[65536];

/* All of a file */
static const char *text_of(const char *path)
{
	FILE *file = fopen(path, "re");
	size_t n;

	if (!file)
		fail("%s: expected to read it, got %m", path);
	n = fread(said, 1, sizeof(said) - 1, file);
	said[n] = 0;
	fclose(file);
	return said;
}

static const char *info_of(int fd)
{
	static char path[2][64];
	static unsigned int n;
	char *at = path[n++ % 2];

	snprintf(at, sizeof(path[0]), "/proc/self/fdinfo/%d", fd);
	return at;
}

static void need_debugfs(void)
{
	if (access("/sys/kernel/debug/noiommufd", F_OK))
		test_skip("the kernel has no debugfs");
}

#define expect_field(path, key, want) \
	expect_eq(read_field(path, key), want)

/* The file contains this, with printf's arguments. */
[[gnu::format(printf, 2, 3)]]
static bool has(const char *path, const char *fmt, ...)
{
	char text[512];
	va_list list;

	va_start(list, fmt);
	vsnprintf(text, sizeof(text), fmt, list);
	va_end(list);
	return strstr(text_of(path), text);
}

#define expect_has(path, ...) \
	do { \
		if (!has(path, __VA_ARGS__)) \
			fail("expected %s, got: %s", #__VA_ARGS__, said); \
	} while (0)

static void expect_usage(const char *path, long long areas, long long bytes,
			 long long pinned)
{
	expect_field(path, "ioas-areas", areas);
	expect_field(path, "ioas-bytes", bytes);
	expect_field(path, "ioas-pinned", pinned);
}

TEST(iommufd)
{
	struct setup s;
	char *va = mem(8 * PAGE);

	skip_on_mainline("what an iommufd shows");
	s.iommu = iommu_open();
	expect(read_field(info_of(s.iommu), "context") > 0);
	expect_has(info_of(s.iommu), "\nopener:\t%d who\n", getpid());
	expect_field(info_of(s.iommu), "ioas", -1);
	expect_field(info_of(s.iommu), "device", -1);

	s.ioas = new_ioas(s.iommu);
	expect_field(info_of(s.iommu), "ioas", s.ioas);
	expect_usage(info_of(s.iommu), 0, 0, 0);
	expect_ok(ioas_map(s.iommu, s.ioas, va, 4 * PAGE, 0));
	expect_ok(ioas_map(s.iommu, s.ioas, va + 4 * PAGE, PAGE, GIB));
	/* Nothing is pinned before a device is attached. */
	expect_usage(info_of(s.iommu), 2, 5 * PAGE, 0);
	expect_field(info_of(s.iommu), "ioas-charge", -1);
	expect_field(info_of(s.iommu), "ioas-runs", 0);

	s.dev = cdev_open(edu());
	expect_ok(dev_bind(s.dev, s.iommu, &s.devid));
	expect_has(info_of(s.iommu), "\ndevice:\t%u %s hwpt 0 ioas 0\n", s.devid, edu());
	s.hwpt = attach(s.dev, s.ioas);
	expect_has(info_of(s.iommu), "\ndevice:\t%u %s hwpt %u ioas %u\n", s.devid, edu(),
		   s.hwpt, s.ioas);
	expect_field(info_of(s.iommu), "ioas-hwpts", 1);
	expect_usage(info_of(s.iommu), 2, 5 * PAGE, 5);
	/* This process has CAP_IPC_LOCK. */
	expect_has(info_of(s.iommu), "\nioas-charge:\t5 uid 0 pid %d limit none\n", getpid());
	expect(read_field(info_of(s.iommu), "ioas-runs") >= 2);
	expect(read_field(info_of(s.iommu), "ioas-runs") <= 5);

	expect_ok(ioas_unmap(s.iommu, s.ioas, GIB, PAGE, NULL));
	expect_usage(info_of(s.iommu), 1, 4 * PAGE, 4);
	/* It stays pinned. */
	expect_ok(dev_detach(s.dev));
	expect_field(info_of(s.iommu), "ioas-hwpts", 0);
	expect_usage(info_of(s.iommu), 1, 4 * PAGE, 4);
	expect_ok(ioas_unmap(s.iommu, s.ioas, 0, U64_MAX, NULL));
	expect_usage(info_of(s.iommu), 0, 0, 0);
	expect_field(info_of(s.iommu), "ioas-runs", 0);
	close(s.dev);
	expect_field(info_of(s.iommu), "device", -1);
}

/* Scattered memory takes a table. */
TEST(tables)
{
	const unsigned int pages = 64;
	struct setup s;
	char *va = mem(2 * pages * PAGE);
	__u64 runs, bytes;

	skip_on_mainline("what an iommufd shows");
	/* Every second page is gone, and the rest moved together. */
	for (unsigned int i = 1; i < pages; i++)
		expect(mremap(va + 2 * i * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			      va + i * PAGE) != MAP_FAILED);
	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, va, pages * PAGE, 0));
	runs = read_field(info_of(s.iommu), "ioas-runs");
	bytes = read_field(info_of(s.iommu), "ioas-table-bytes");
	expect(runs > 1 && runs <= pages);
	expect(bytes >= runs * 8 && bytes < 4 * KIB);
	need_debugfs();
	expect(read_number(DEBUGFS "table_bytes") >= (long long)bytes);
}

/* Memory that address spaces share is charged once. */
TEST(copy)
{
	struct setup s;
	__u32 second;
	__u64 iova = 0;

	skip_on_mainline("what an iommufd shows");
	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(8 * PAGE), 8 * PAGE, 0));
	second = new_ioas(s.iommu);
	expect_ok(ioas_copy(s.iommu, second, s.ioas, MAP_FIXED_RW, 4 * PAGE, &iova, 0));
	/* No device is attached to it. */
	expect_has(info_of(s.iommu), "ioas:\t%u\nioas-hwpts:\t0\nioas-areas:\t1\n"
		   "ioas-bytes:\t%llu\nioas-pinned:\t0\nioas-runs:\t0\n", second, 4 * PAGE);
	expect_ok(hwpt_alloc(s.iommu, s.devid, second, &s.hwpt));
	expect_has(info_of(s.iommu), "ioas:\t%u\nioas-hwpts:\t1\nioas-areas:\t1\n"
		   "ioas-bytes:\t%llu\nioas-pinned:\t4\nioas-runs:\t0\n", second, 4 * PAGE);
	expect_usage(info_of(s.iommu), 1, 8 * PAGE, 8);
	expect_ok(ioas_unmap(s.iommu, s.ioas, 0, U64_MAX, NULL));
	/* Now the other one has it. */
	expect_usage(info_of(s.iommu), 0, 0, 0);
	expect_has(info_of(s.iommu), "\nioas-charge:\t4 uid 0 pid %d limit none\n", getpid());
}

static int shared;
static __u32 shared_ioas;

static void map_as_another(void *arg)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map), .flags = MAP_FIXED_RW, .ioas_id = shared_ioas,
		.fd = *(int *)arg, .length = 2 * PAGE, .iova = GIB,
	};

	drop_cap(CAP_IPC_LOCK);
	expect_ok(setuid(65534));
	expect_ok(ioctl(shared, IOMMU_IOAS_MAP_FILE, &map));
	expect_has(info_of(shared), "\nioas-charge:\t2 uid 65534 pid %d limit user\n", getpid());
}

/* Others pay for what they map; CHANGE_PROCESS moves that to who calls it. */
TEST(payers)
{
	struct iommu_ioas_change_process change = { .size = sizeof(change) };
	int file = expect_ok(memfd_create("suite", 0));
	struct setup s;

	skip_on_mainline("what an iommufd shows");
	expect_ok(ftruncate(file, 2 * PAGE));
	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, 0));
	shared = s.iommu;
	shared_ioas = s.ioas;
	in_child(map_as_another, &file);
	expect_has(info_of(s.iommu), "\nioas-charge:\t1 uid 0 pid %d limit none\n", getpid());
	/* The process has ended. */
	expect_has(info_of(s.iommu), "\nioas-charge:\t2 uid 65534 pid 0 limit user\n");

	expect_ok(ioas_unmap(s.iommu, s.ioas, 0, PAGE, NULL));
	expect_ok(ioctl(s.iommu, IOMMU_IOAS_CHANGE_PROCESS, &change));
	expect_has(info_of(s.iommu), "\nioas-charge:\t2 uid 0 pid %d limit user\n", getpid());
}

TEST(by_process)
{
	struct iommu_option option = {
		.size = sizeof(option), .option_id = IOMMU_OPTION_RLIMIT_MODE,
		.op = IOMMU_OPTION_OP_SET, .val64 = 1,
	};
	struct setup s;

	skip_on_mainline("what an iommufd shows");
	s.iommu = iommu_open();
	expect_ok(ioctl(s.iommu, IOMMU_OPTION, &option));
	s.dev = cdev_open(edu());
	expect_ok(dev_bind(s.dev, s.iommu, &s.devid));
	s.ioas = new_ioas(s.iommu);
	attach(s.dev, s.ioas);
	drop_cap(CAP_IPC_LOCK);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, 0));
	expect_has(info_of(s.iommu), "\nioas-charge:\t1 uid 0 pid %d limit process\n", getpid());
}

TEST(device)
{
	struct setup s;
	char path[64];

	skip_on_mainline("what a device shows");
	prctl(PR_SET_NAME, "a \\ b\nc");
	s.dev = cdev_open(edu());
	snprintf(path, sizeof(path), "%s", info_of(s.dev));
	expect_has(path, "\nvfio-device-syspath: /sys/devices/");
	/* A name is one line. */
	expect_has(path, "\nopener:\t%d a \\134 b\\012c\n", getpid());
	expect_field(path, "device", -1);
	s.iommu = iommu_open();
	expect_ok(dev_bind(s.dev, s.iommu, &s.devid));
	expect_has(path, "\ndevice:\t%u %s hwpt 0 ioas 0\n", s.devid, edu());
	s.ioas = new_ioas(s.iommu);
	s.hwpt = attach(s.dev, s.ioas);
	expect_has(path, "\ndevice:\t%u %s hwpt %u ioas %u\n", s.devid, edu(), s.hwpt, s.ioas);
}

TEST(contexts)
{
	struct setup s;
	char text[64];
	struct stat st;
	int second;

	need_debugfs();
	expect_ok(stat(CONTEXTS, &st));
	expect_eq(st.st_mode & 0777, 0400);
	expect_ok(stat(DEVICES, &st));
	expect_eq(st.st_mode & 0777, 0400);

	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, 0));
	second = iommu_open();
	snprintf(text, sizeof(text), "context:\t%lld\nopener:\t%d who\n",
		 read_field(info_of(s.iommu), "context"), getpid());
	expect_has(CONTEXTS, "%sdevice:\t%u %s hwpt %u ioas %u\n", text, s.devid, edu(),
		   s.hwpt, s.ioas);
	expect(strstr(said, "ioas-pinned:\t1\n"));
	snprintf(text, sizeof(text), "context:\t%lld\n", read_field(info_of(second), "context"));
	expect_has(CONTEXTS, "%s", text);
	close(second);
	expect(!has(CONTEXTS, "%s", text));
}

/* More than a page of text */
TEST(many_contexts)
{
	int fd[200];
	size_t i;

	need_debugfs();
	for (i = 0; i < ARRAY_SIZE(fd); i++) {
		fd[i] = iommu_open();
		new_ioas(fd[i]);
	}
	text_of(CONTEXTS);
	for (i = 0; i < ARRAY_SIZE(fd); i++) {
		char text[32];

		snprintf(text, sizeof(text), "context:\t%lld\n",
			 read_field(info_of(fd[i]), "context"));
		expect(strstr(said, text));
		expect(!strstr(strstr(said, text) + 1, text));
		close(fd[i]);
	}
}

/* It must not have the files that it waits for. */
static void unbind(void *arg)
{
	int *files = arg;

	close(files[0]);
	close(files[1]);
	driver_unbind(edu());
}

/* Who keeps an unbind waiting */
TEST(unbind_waits)
{
	struct setup s;
	char node[32];
	int files[2];
	pid_t pid;

	need_debugfs();
	driver_bind(edu());
	expect(cdev_name(edu(), node, sizeof(node)));
	expect_has(DEVICES, "device:\t%s\ndevice-node:\t%s\ndevice-unbind-waits:\t0\n"
		   "device-files:\t0\n", edu(), node);
	files[0] = cdev_open(edu());
	setup_bound(&s);
	files[1] = s.dev;
	expect_has(DEVICES, "device-unbind-waits:\t0\ndevice-files:\t2\n"
		   "device-opened-by:\t%d who\ndevice-bound-by:\t%d who\n", getpid(), getpid());
	pid = spawn(unbind, files);
	while (!has(DEVICES, "device:\t%s\ndevice-node:\t%s\ndevice-unbind-waits:\t1\n"
		    "device-files:\t2\ndevice-opened-by:\t%d who\n", edu(), node, getpid()))
		sleep_ms(20);
	close(files[0]);
	close(files[1]);
	join(pid);
	expect(!has(DEVICES, "device:\t%s\n", edu()));
}

/* Others map and unmap while a reader walks over many areas. */

#define MANY_AREAS	100000U

static bool reading, read_it;
static double longest;

static void *map_and_unmap(void *arg)
{
	struct setup *s = arg;
	char *va = mem(PAGE);
	double begin, took;

	while (!flag(&read_it)) {
		begin = now();
		expect_ok(ioas_map(s->iommu, s->ioas, va, PAGE, 1ULL << 50));
		expect_ok(ioas_unmap(s->iommu, s->ioas, 1ULL << 50, PAGE, NULL));
		took = now() - begin;
		if (flag(&reading) && took > longest)
			longest = took;
	}
	return NULL;
}

TEST_LIMIT(many_areas, 300)
{
	struct setup s;
	pthread_t thread;
	double begin, walks;
	__u64 i, iova, areas;

	skip_on_mainline("what an iommufd shows");
	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, 0));
	for (i = 1; i < MANY_AREAS; i++) {
		iova = i * PAGE;
		expect_ok(ioas_copy(s.iommu, s.ioas, s.ioas, MAP_FIXED_RW, PAGE, &iova, 0));
	}
	expect_eq(pthread_create(&thread, NULL, map_and_unmap, &s), 0);
	begin = now();
	set_flag(&reading);
	for (i = 0; i < 10; i++) {
		areas = read_field(info_of(s.iommu), "ioas-areas");
		expect(areas == MANY_AREAS || areas == MANY_AREAS + 1);
	}
	walks = now() - begin;
	set_flag(&read_it);
	expect_eq(pthread_join(thread, NULL), 0);
	expect_field(info_of(s.iommu), "ioas-areas", MANY_AREAS);
	printf("# a walk took %.1f ms; the longest MAP and UNMAP meanwhile %.1f ms\n",
	       walks * 100, longest * 1000);
}

/* Readers, and all that comes and goes under them */

static bool over;

static void *read_all(void *arg)
{
	static const char * const paths[] = { CONTEXTS, DEVICES, DEBUGFS "table_bytes" };
	char text[4096], path[64];
	unsigned int n = 0;
	int fd;

	while (!flag(&over)) {
		if (n % 2)
			snprintf(path, sizeof(path), "/proc/%d/fdinfo/%u", getpid(), n % 64);
		fd = open(n % 2 ? path : paths[n % ARRAY_SIZE(paths)], O_RDONLY);
		while (fd >= 0 && read(fd, text, sizeof(text)) > 0)
			;
		if (fd >= 0)
			close(fd);
		n++;
	}
	*(unsigned int *)arg = n;
	return NULL;
}

static void *contexts_come_and_go(void *arg)
{
	char *va = mem(16 * PAGE);
	__u32 ioas[4];
	__u64 iova;
	int iommu;
	size_t i;

	(void)arg;
	while (!flag(&over)) {
		iommu = iommu_open();
		for (i = 0; i < ARRAY_SIZE(ioas); i++) {
			ioas[i] = new_ioas(iommu);
			expect_ok(ioas_map(iommu, ioas[i], va, 16 * PAGE, 0));
			iova = GIB;
			expect_ok(ioas_copy(iommu, ioas[i], ioas[0], MAP_FIXED_RW, PAGE, &iova,
					    0));
		}
		expect_ok(object_destroy(iommu, ioas[1]));
		expect_ok(ioas_unmap(iommu, ioas[0], 0, U64_MAX, NULL));
		close(iommu);
	}
	return NULL;
}

/* A reader of fdinfo may still have the file that was closed last, which is bound. */
static void setup_beside_readers(struct setup *s)
{
	s->iommu = iommu_open();
	s->dev = cdev_open(edu());
	while (dev_bind(s->dev, s->iommu, &s->devid)) {
		expect_eq(errno, EINVAL);
		usleep(1000);
	}
	s->ioas = new_ioas(s->iommu);
	s->hwpt = attach(s->dev, s->ioas);
}

TEST_LIMIT(while_all_changes, 120)
{
	unsigned int i, n, reads = 0, readers[2];
	pthread_t thread[4];
	char *va = mem(64 * PAGE);
	struct setup s;
	double end;

	need_debugfs();
	driver_bind(edu());
	for (i = 0; i < 2; i++) {
		expect_eq(pthread_create(&thread[i], NULL, read_all, &readers[i]), 0);
		expect_eq(pthread_create(&thread[2 + i], NULL, contexts_come_and_go, NULL), 0);
	}
	end = now() + 5;
	for (n = 0; now() < end; n++) {
		setup_beside_readers(&s);
		expect_ok(ioas_map(s.iommu, s.ioas, va, 64 * PAGE, 0));
		expect_ok(dev_detach(s.dev));
		attach(s.dev, s.ioas);
		close(s.iommu);
		close(s.dev);
		if (n % 4 == 3)
			driver_unbind(edu());
	}
	set_flag(&over);
	for (i = 0; i < ARRAY_SIZE(thread); i++)
		expect_eq(pthread_join(thread[i], NULL), 0);
	for (i = 0; i < 2; i++)
		reads += readers[i];
	printf("# %u reads, the device came and went %u times\n", reads, n);
}

/* Tracepoints */

static void need_tracefs(void)
{
	if (access(TRACING "trace", F_OK) &&
	    mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL))
		test_skip("the kernel has no tracefs");
}

static void trace(bool on)
{
	expect_ok(write_file(EVENTS "enable", on ? "1" : "0"));
}

/* The first line of an event after the one before, or a failure */
static const char *next_event(const char *at, const char *event)
{
	char text[64];
	const char *line;

	snprintf(text, sizeof(text), " noiommufd_%s: ", event);
	line = strstr(at, text);
	if (!line)
		fail("expected%s, got: %s", text, at);
	return line + strlen(text);
}

/* It was done, and the time that it took is known. */
[[gnu::format(printf, 3, 4)]]
static const char *expect_event(const char *at, const char *event, const char *fmt, ...)
{
	const char *line = next_event(at, event), *ns;
	char text[256];
	va_list list;

	va_start(list, fmt);
	vsnprintf(text, sizeof(text), fmt, list);
	va_end(list);
	if (strncmp(line, text, strlen(text)))
		fail("%s: expected '%s', got '%.*s'", event, text, (int)strcspn(line, "\n"), line);
	ns = strstr(line, " ns=");
	if (ns && ns < strchr(line, '\n'))
		expect(strtoull(ns + strlen(" ns="), NULL, 10) > 0);
	return line;
}

/* What a program does to its memory and its device, in order */
TEST(trace_events)
{
	struct noiommufd_run runs[4];
	struct noiommufd_ioas_get_pa_runs get = {
		.size = sizeof(get), .iova = 0, .length = 4 * PAGE,
		.num_runs = ARRAY_SIZE(runs), .runs = (unsigned long)runs,
	};
	struct vfio_pci_hot_reset hot = { .argsz = sizeof(hot) };
	char *va = mem(4 * PAGE);
	const char *at;
	struct setup s;
	__u64 pa;

	need_tracefs();
	expect_ok(write_file(TRACING "trace", "0"));
	trace(true);
	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, va, 4 * PAGE, 0));
	expect_errno(ioas_map(s.iommu, s.ioas, va, PAGE, 0), EEXIST);
	pa = pa_of(s.iommu, s.ioas, PAGE);
	get.ioas_id = s.ioas;
	expect_ok(ioctl(s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, &get));
	expect_ok(ioas_unmap(s.iommu, s.ioas, 0, 4 * PAGE, NULL));
	/* It has neither reset. */
	expect_errno(ioctl(s.dev, VFIO_DEVICE_RESET), EINVAL);
	expect_errno(ioctl(s.dev, VFIO_DEVICE_PCI_HOT_RESET, &hot), ENODEV);
	close(s.dev);
	trace(false);

	at = text_of(TRACING "trace");
	at = expect_event(at, "bind", "device=%s id=%u rc=0 ", edu(), s.devid);
	at = expect_event(at, "attach", "device=%s id=%u rc=0 ", edu(), s.hwpt);
	at = expect_event(at, "pin", "iova=0x0 length=0x4000 pages=4 rc=0 ");
	at = expect_event(at, "map", "ioas=%u iova=0x0 length=0x4000 rc=0 ", s.ioas);
	at = expect_event(at, "map", "ioas=%u iova=0x0 length=0x1000 rc=-17 ", s.ioas);
	at = expect_event(at, "translate", "ioas=%u iova=0x1000 length=0x1 phys=0x%llx rc=0\n",
			  s.ioas, pa);
	at = expect_event(at, "translate_runs", "ioas=%u iova=0x0 length=0x4000 runs=%u rc=0 ",
			  s.ioas, get.num_runs);
	at = expect_event(at, "unpin", "iova=0x0 length=0x4000 pages=4 rc=0 ");
	at = expect_event(at, "unmap", "ioas=%u iova=0x0 last=0x3fff unmapped=0x4000 rc=0 ",
			  s.ioas);
	at = expect_event(at, "reset", "device=%s rc=-22 ", edu());
	at = expect_event(at, "hot_reset", "device=%s rc=-19 ", edu());
	at = expect_event(at, "quiesce", "device=%s rc=0 ", edu());
	at = expect_event(at, "close", "device=%s rc=0 ", edu());
	expect(!strstr(strchr(at, '\n'), " noiommufd_"));
}

/* The code is patched while others run it. */
TEST(trace_on_and_off)
{
	pthread_t thread[2];
	struct setup s;
	char *va = mem(64 * PAGE);
	unsigned int i, n;
	double end;

	need_tracefs();
	for (i = 0; i < 2; i++)
		expect_eq(pthread_create(&thread[i], NULL, contexts_come_and_go, NULL), 0);
	end = now() + 3;
	for (n = 0; now() < end; n++) {
		trace(n % 2);
		setup_attached(&s);
		expect_ok(ioas_map(s.iommu, s.ioas, va, 64 * PAGE, 0));
		expect_pas(&s, 0, va, 64 * PAGE);
		close(s.iommu);
		close(s.dev);
	}
	trace(false);
	expect_ok(write_file(TRACING "trace", "0"));
	set_flag(&over);
	for (i = 0; i < 2; i++)
		expect_eq(pthread_join(thread[i], NULL), 0);
}
