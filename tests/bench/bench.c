// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counts the instructions of what a user-space driver asks of the kernel: to pin
 * memory, translate it and unpin it. With QEMU's "-icount shift=0" the time stamp
 * counter advances by one per instruction.
 *
 *	bench [-p ROW] BACKEND...
 *
 * A backend is "mainline" or "ours" (iommufd and a noiommu cdev, which the
 * environment names: see iommufd_open()), "io_uring" (registered buffers, a lower
 * bound for pinning) or "pagemap" (mlock() and /proc/self/pagemap). All of them
 * work on the same memory, in turn.
 *
 * Prints "row backend median low high rounds" lines; low and high are the 5th
 * and the 95th percentile. Results are checked as well: addresses against
 * pagemap, pins and charge against the kernel's counters. The first error ends
 * the program.
 *
 * With -p, a few system calls of that row are marked for where.c, and other rows
 * are left out.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <libgen.h>
#include <link.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/io_uring.h>
#include <libnoiommufd.h>
#include <noiommufd/iommufd.h>
#include <noiommufd/noiommufd.h>
#include <noiommufd/vfio.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define U64_MAX		0xffffffffffffffffULL
#define MIB		(1024 * 1024ULL)
#define PAGE		4096ULL
#define HUGE_PAGE	(2 * MIB)
#define GIB		(1024 * MIB)
#define GIB_PAGES	(GIB / PAGE)
#define GIB_HUGE_PAGES	(GIB / HUGE_PAGE)

#define PAGEMAP_PFN	0x007fffffffffffffULL
#define PAGEMAP_PRESENT	0x8000000000000000ULL

/* Areas in the address space while single pages are measured */
#define NR_AREAS	10000
/* Rounds for operations of a few thousand instructions, and for others */
#define SMALL_ROUNDS	2001
#define OPEN_ROUNDS	201
#define BIG_ROUNDS	5
/*
 * How many mappings of 1 GiB are measured together, and how many are made before
 * them to use up the reserves of the allocators. First for 2 MiB pages.
 */
#define MEM_MAPS_HUGE	16
#define MEM_MAPS_SMALL	4
#define MEM_FIRST_HUGE	64
#define MEM_FIRST_SMALL	1
#define MEM_ROUNDS	3
/* Requests in a batch, and pages of a large one */
#define BATCH		32
#define REQUEST_PAGES	16
/* Rounds for automatic IOVAs, which were linear in the number of areas */
#define AUTO_ROUNDS	101
/* COPY of these pieces of one area is counted */
#define FIRST_PIECE	3000
#define LAST_PIECE	5000
/* Pieces that an IOAS consists of when it is attached */
#define ATTACH_PIECES	{ 1000, 4000, 100000 }
/* After as many instructions without any work, nothing is deferred any more. */
#define DRAIN_INSNS	200000000ULL

[[gnu::noreturn, gnu::format(printf, 1, 2)]]
static void die(const char *fmt, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "bench: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(1);
}

#define expect(cond)							\
	do {								\
		if (!(cond))						\
			die("line %d: expected %s (errno: %s)",		\
			    __LINE__, #cond, strerror(errno));		\
	} while (0)

/*
 * Rows. What lies between begin() and end() is a round of one.
 */

struct row {
	struct row *next;
	const char *backend;
	char name[48];
	__u64 *rounds;
	unsigned int nr;
	unsigned int room;
};

static struct row *rows;
static struct row **rows_tail = &rows;
static struct row *current;

/* Instructions that this round has taken in system calls */
static __u64 spent;
/* Difference of two consecutive readings of the counter */
static __u64 overhead;
/* The row whose calls are marked, if any, and whether the next one is */
static const char *profiled;
static bool marked;

static struct row *row_get(const char *backend, const char *what,
			   const char *kind)
{
	struct row *row;
	char name[48];

	snprintf(name, sizeof(name), kind ? "%s_%s" : "%s", what, kind);
	for (row = rows; row; row = row->next)
		if (!strcmp(row->name, name) && !strcmp(row->backend, backend))
			return row;
	row = calloc(1, sizeof(*row));
	expect(row);
	row->backend = backend;
	memcpy(row->name, name, sizeof(name));
	*rows_tail = row;
	rows_tail = &row->next;
	return row;
}

static void row_add(struct row *row, __u64 round)
{
	if (row->nr == row->room) {
		row->room = row->room * 2 + 16;
		row->rounds = realloc(row->rounds,
				      row->room * sizeof(*row->rounds));
		expect(row->rounds);
	}
	row->rounds[row->nr++] = round;
}

static void begin(const char *backend, const char *what, const char *kind)
{
	current = row_get(backend, what, kind);
	/* Mark some rounds that every row has, not the first ones. */
	if (profiled && current->nr >= 2 && current->nr < BIG_ROUNDS &&
	    !strcmp(profiled, current->name)) {
		printf("# marked %s %s\n", current->name, backend);
		marked = true;
	}
	spent = 0;
}

static void end(void)
{
	row_add(current, spent);
	marked = false;
}

static int compare(const void *a, const void *b)
{
	const __u64 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void rows_print(void)
{
	struct row *row;

	for (row = rows; row; row = row->next) {
		unsigned int cut = row->nr / 20;

		qsort(row->rounds, row->nr, sizeof(*row->rounds), compare);
		printf("%s %s %llu %llu %llu %u\n", row->name, row->backend,
		       (unsigned long long)row->rounds[row->nr / 2],
		       (unsigned long long)row->rounds[cut],
		       (unsigned long long)row->rounds[row->nr - 1 - cut],
		       row->nr);
	}
}

/*
 * System calls, counted.
 */

static inline __u64 rdtsc(void)
{
	__u32 lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return lo | (__u64)hi << 32;
}

/* What is executed in between is for where.c. */
static inline void begin_mark(void)
{
	if (marked)
		asm volatile("nopl 0x626e6368(%rax)");
}

static inline void end_mark(void)
{
	if (marked)
		asm volatile("nopl 0x626e6369(%rax)");
	marked = false;
}

/* Like syscall(); adds the instructions of the kernel to spent. */
[[gnu::noinline]]
static long timed_syscall(long nr, long a, long b, long c, long d)
{
	register long r10 asm("r10") = d;
	__u64 t;
	long ret;

	begin_mark();
	t = rdtsc();
	asm volatile("syscall"
		     : "=a"(ret)
		     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
		     : "rcx", "r11", "memory");
	spent += rdtsc() - t - overhead;
	end_mark();
	if (ret < 0) {
		errno = -ret;
		return -1;
	}
	return ret;
}

static int timed_ioctl(int fd, unsigned long request, void *arg)
{
	return timed_syscall(SYS_ioctl, fd, request, (long)arg, 0);
}

/* A round that has all that is executed, in the program and in the kernel */
static __u64 began;
static bool marked_all;

static void begin_all(const char *backend, const char *what, const char *kind)
{
	begin(backend, what, kind);
	begin_mark();
	marked_all = marked;
	marked = false;
	began = rdtsc();
}

static void end_all(void)
{
	spent = rdtsc() - began - overhead;
	marked = marked_all;
	end_mark();
	end();
}

/* getppid() shows how exact and comparable the counts are. */
static void calibrate(void)
{
	int i;

	overhead = U64_MAX;
	for (i = 0; i < 100; i++) {
		__u64 t = rdtsc(), d = rdtsc() - t;

		if (d < overhead)
			overhead = d;
	}
	for (i = 0; i < SMALL_ROUNDS; i++) {
		begin("kernel", "getppid", NULL);
		timed_syscall(SYS_getppid, 0, 0, 0, 0);
		end();
	}
}

/*
 * The system.
 */

static void write_number(const char *path, unsigned long long number)
{
	FILE *file = fopen(path, "we");

	if (!file || fprintf(file, "%llu", number) < 0 || fclose(file))
		die("%s: cannot write %llu: %m", path, number);
}

/*
 * Have everything done that was deferred, and wait for it busily. Returns how
 * much was executed meanwhile that is not this loop. A shrinker makes the kernel
 * free what kfree_rcu() would keep for five seconds; it works on other caches as
 * well, and there are timers: see drain_nothing().
 */
static __u64 drain(void)
{
	__u64 start = rdtsc(), last, now, idle, stolen;

	write_number("/proc/sys/vm/drop_caches", 2);
	now = rdtsc();
	stolen = now - start;
	for (idle = last = now; now - idle < DRAIN_INSNS; last = now) {
		now = rdtsc();
		if (now - last > 200)
			stolen += now - last;
		/* More than a timer */
		if (now - last > 20000)
			idle = now;
	}
	return stolen;
}

/* What drain() returns when there is nothing to do */
static __u64 drain_nothing(void)
{
	static __u64 stolen;

	if (!stolen) {
		drain();
		stolen = drain();
	}
	return stolen;
}

/*
 * The same as begin() and end() for a number of calls together, with all that
 * they defer and with the program's own instructions between them.
 */
static struct row *span_row;
static __u64 span_start;

static void begin_span(const char *backend, const char *what, const char *kind)
{
	drain_nothing();
	drain();
	span_row = row_get(backend, what, kind);
	span_start = rdtsc();
}

static void end_span(unsigned int calls)
{
	__u64 took = rdtsc() - span_start, nothing = drain_nothing();
	__u64 stolen = drain();

	row_add(span_row,
		(took + (stolen > nothing ? stolen - nothing : 0)) / calls);
}

/* The sum of the numbers that follow key at the beginning of a line. */
static long long read_sum(const char *path, const char *key)
{
	FILE *file = fopen(path, "re");
	size_t n = strlen(key);
	long long sum = 0;
	char line[1024];

	if (!file)
		die("%s: cannot read it: %m", path);
	while (fgets(line, sizeof(line), file)) {
		const char *at = line + strspn(line, " ");

		if (!strncmp(at, key, n) && strchr(" :\t", at[n]))
			sum += strtoll(at + n + 1, NULL, 0);
	}
	fclose(file);
	return sum;
}

/* Counters are per CPU and folded from time to time: fold them now. */
static void fold_counters(void)
{
	write_number("/proc/sys/vm/stat_refresh", 1);
}

/* Free memory in KiB, including the per-CPU lists */
static long long free_kib(void)
{
	fold_counters();
	return (read_sum("/proc/zoneinfo", "nr_free_pages") +
		read_sum("/proc/zoneinfo", "count")) * (long long)PAGE / 1024;
}

static long long vmalloc_kib(void)
{
	return read_sum("/proc/meminfo", "VmallocUsed");
}

/* Pins of the whole system */
static long long pins(void)
{
	fold_counters();
	return read_sum("/proc/vmstat", "nr_foll_pin_acquired") -
	       read_sum("/proc/vmstat", "nr_foll_pin_released");
}

static long long vm_pin_kib(void)
{
	return read_sum("/proc/self/status", "VmPin");
}

static void set_memlock(unsigned long long bytes)
{
	struct rlimit limit = { .rlim_cur = bytes, .rlim_max = RLIM_INFINITY };

	expect(!setrlimit(RLIMIT_MEMLOCK, &limit));
}

/* CAP_IPC_LOCK exempts from the charge, so drop it. */
static void drop_ipc_lock(void)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	set_memlock(RLIM_INFINITY);
	expect(!syscall(SYS_capget, &head, data));
	data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &=
		~CAP_TO_MASK(CAP_IPC_LOCK);
	expect(!syscall(SYS_capset, &head, data));
}

/* The same sequence in every run (xorshift64) */
static __u64 random64(void)
{
	static __u64 x = 0x9e3779b97f4a7c15;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/*
 * Memory.
 */

/**
 * struct memory - 1 GiB of it
 * @kind: "hugetlb", "thp" (both of 2 MiB pages) or "scattered" (4 KiB pages)
 * @va: where it is
 * @pfn: page frames, as pagemap says
 * @runs: physically contiguous pieces
 */
struct memory {
	const char *kind;
	char *va;
	__u64 *pfn;
	__u32 runs;
};

static int pagemap;

static void read_pagemap(const void *va, __u64 *pfn, size_t nr)
{
	size_t size = nr * sizeof(*pfn), done, i;
	off_t at = (uintptr_t)va / PAGE * sizeof(*pfn);
	ssize_t n;

	for (done = 0; done < size; done += n) {
		n = pread(pagemap, (char *)pfn + done, size - done, at + done);
		expect(n > 0);
	}
	for (i = 0; i < nr; i++) {
		expect(pfn[i] & PAGEMAP_PRESENT);
		pfn[i] &= PAGEMAP_PFN;
		expect(pfn[i]);
	}
}

static void *small_pages(size_t size)
{
	void *va = mmap(NULL, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	expect(va != MAP_FAILED);
	return va;
}

/* Touch it in random order, so that neighbours are apart. */
static void touch(char *va, size_t unit)
{
	__u32 i, j, swap, nr = GIB / unit;
	__u32 *order = malloc(nr * sizeof(*order));

	expect(order);
	for (i = 0; i < nr; i++)
		order[i] = i;
	for (i = nr - 1; i > 0; i--) {
		j = random64() % (i + 1);
		swap = order[i];
		order[i] = order[j];
		order[j] = swap;
	}
	for (i = 0; i < nr; i++)
		va[order[i] * unit] = 1;
	free(order);
}

static void memory_get(struct memory *mem, const char *kind)
{
	bool hugetlb = !strcmp(kind, "hugetlb"), thp = !strcmp(kind, "thp");
	size_t unit = hugetlb || thp ? HUGE_PAGE : PAGE;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	__u32 i, nr = GIB / unit;
	uintptr_t start;

	if (hugetlb) {
		write_number("/proc/sys/vm/nr_hugepages", GIB_HUGE_PAGES);
		flags |= MAP_HUGETLB;
	}
	mem->kind = kind;
	mem->va = mmap(NULL, GIB + HUGE_PAGE, PROT_READ | PROT_WRITE,
		       flags | MAP_NORESERVE, -1, 0);
	expect(mem->va != MAP_FAILED);
	start = ((uintptr_t)mem->va + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	mem->va = (char *)start;
	/* This fails on a kernel without transparent huge pages, which is fine. */
	if (!hugetlb)
		expect(!madvise(mem->va, GIB,
				thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) || !thp);
	touch(mem->va, unit);

	mem->pfn = malloc(GIB_PAGES * sizeof(*mem->pfn));
	expect(mem->pfn);
	read_pagemap(mem->va, mem->pfn, GIB_PAGES);
	mem->runs = 1;
	for (i = 1; i < GIB_PAGES; i++)
		if (mem->pfn[i] != mem->pfn[i - 1] + 1)
			mem->runs++;
	printf("# runs_%s %u\n", kind, mem->runs);
	/* A few are neighbours by chance. */
	expect(mem->runs >= nr - nr / 20 && mem->runs <= nr);
}

static void memory_put(struct memory *mem)
{
	expect(!munmap(mem->va, GIB));
	if (!strcmp(mem->kind, "hugetlb"))
		write_number("/proc/sys/vm/nr_hugepages", 0);
	free(mem->pfn);
}

/*
 * iommufd.
 */

/**
 * struct iommufd - a device, and two IO address spaces
 * @name: "mainline" or "ours"
 * @bdf: the device's PCI address
 * @fd: the iommufd
 * @dev: the device's cdev
 * @devid: the device's id
 * @ioas: the device is attached to it
 * @ioas2: has an HWPT as well
 * @has_runs: NOIOMMUFD_IOAS_GET_PA_RUNS is supported
 */
struct iommufd {
	const char *name;
	char bdf[64];
	int fd;
	int dev;
	__u32 devid;
	__u32 ioas;
	__u32 ioas2;
	bool has_runs;
};

/* Returns the IOVA, which the kernel chooses if none is given. */
static __u64 map_ioas(struct iommufd *io, __u32 ioas, const void *va,
		      __u64 length, __u64 iova)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = (iova ? IOMMU_IOAS_MAP_FIXED_IOVA : 0) |
			 IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE,
		.ioas_id = ioas,
		.user_va = (uintptr_t)va,
		.length = length,
		.iova = iova,
	};

	expect(!timed_ioctl(io->fd, IOMMU_IOAS_MAP, &map));
	return map.iova;
}

static void map(struct iommufd *io, const void *va, __u64 length, __u64 iova)
{
	map_ioas(io, io->ioas, va, length, iova);
}

static void unmap(struct iommufd *io, __u32 ioas, __u64 iova, __u64 length)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = ioas,
		.iova = iova,
		.length = length,
	};

	expect(!timed_ioctl(io->fd, IOMMU_IOAS_UNMAP, &unmap));
	expect(unmap.length == length || length == U64_MAX);
}

static void copy(struct iommufd *io, __u32 dst, __u64 dst_iova, __u32 src,
		 __u64 src_iova, __u64 length)
{
	struct iommu_ioas_copy copy = {
		.size = sizeof(copy),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_READABLE,
		.dst_ioas_id = dst,
		.src_ioas_id = src,
		.length = length,
		.dst_iova = dst_iova,
		.src_iova = src_iova,
	};

	expect(!timed_ioctl(io->fd, IOMMU_IOAS_COPY, &copy));
}

/* length: in, the limit; out, the contiguous bytes. */
static __u64 get_pa(struct iommufd *io, __u32 ioas, __u64 iova, __u64 *length)
{
	struct iommu_ioas_noiommu_get_pa get = {
		.size = sizeof(get),
		.ioas_id = ioas,
		.iova = iova,
		.length = *length,
	};

	expect(!timed_ioctl(io->fd, IOMMU_IOAS_NOIOMMU_GET_PA, &get));
	*length = get.length;
	return get.out_phys;
}

/* The cdev of the device at this PCI address */
static int open_cdev(const char *bdf)
{
	char path[256];
	glob_t found;
	int fd;

	snprintf(path, sizeof(path),
		 "/sys/bus/pci/devices/%s/vfio-dev/noiommu-vfio*", bdf);
	if (glob(path, 0, NULL, &found))
		die("%s has no noiommu cdev", bdf);
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s",
		 basename(found.gl_pathv[0]));
	globfree(&found);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("%s: %m", path);
	return fd;
}

static __u32 new_ioas(int fd)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

	expect(!ioctl(fd, IOMMU_IOAS_ALLOC, &alloc));
	return alloc.out_ioas_id;
}

/* Have everything pinned that is mapped in the IOAS, and will be. */
static __u32 new_hwpt(struct iommufd *io, __u32 ioas)
{
	struct iommu_hwpt_alloc hwpt = {
		.size = sizeof(hwpt), .dev_id = io->devid, .pt_id = ioas,
	};

	expect(!timed_ioctl(io->fd, IOMMU_HWPT_ALLOC, &hwpt));
	return hwpt.out_hwpt_id;
}

static void destroy(struct iommufd *io, __u32 id)
{
	struct iommu_destroy destroy = { .size = sizeof(destroy), .id = id };

	expect(!ioctl(io->fd, IOMMU_DESTROY, &destroy));
}

/*
 * OURS or MAINLINE in the environment names the iommufd and, after a blank, the
 * PCI address of a device that is bound to the driver.
 */
static void iommufd_open(struct iommufd *io, const char *name)
{
	struct noiommufd_ioas_get_pa_runs runs = { .size = sizeof(runs) };
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
	};
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	const char *env = strcmp(name, "ours") ? "MAINLINE" : "OURS";
	const char *where = getenv(env);
	char node[64];

	if (!where || sscanf(where, "%63s %63s", node, io->bdf) != 2)
		die("the environment has no %s='NODE DEVICE'", env);
	io->name = name;
	io->fd = open(node, O_RDWR | O_CLOEXEC);
	if (io->fd < 0)
		die("%s: %m", node);
	io->dev = open_cdev(io->bdf);
	bind.iommufd = io->fd;
	expect(!ioctl(io->dev, VFIO_DEVICE_BIND_IOMMUFD, &bind));
	io->devid = bind.out_devid;
	io->ioas = new_ioas(io->fd);
	attach.pt_id = io->ioas;
	expect(!ioctl(io->dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach));

	io->ioas2 = new_ioas(io->fd);
	new_hwpt(io, io->ioas2);

	expect(ioctl(io->fd, NOIOMMUFD_IOAS_GET_PA_RUNS, &runs) == -1);
	io->has_runs = errno != ENOTTY;
}

static void iommufd_close(struct iommufd *io)
{
	close(io->dev);
	close(io->fd);
}

/*
 * The device is QEMU's edu. Its register at 4 returns the complement of what is
 * written to it. Writing to that at 0x60 raises the interrupt, writing to that at
 * 0x64 acknowledges it.
 */
#define EDU_LIVE	0x04
#define EDU_IRQ_RAISE	0x60
#define EDU_IRQ_ACK	0x64
#define PCI_COMMAND	0x04
#define PCI_MEMORY_AND_MASTER 6

static __u64 region_offset(struct iommufd *io, __u32 index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	expect(!ioctl(io->dev, VFIO_DEVICE_GET_REGION_INFO, &info));
	return info.offset;
}

static __u32 *bar_map(struct iommufd *io, __u64 bar)
{
	void *va = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, io->dev,
			bar);

	expect(va != MAP_FAILED);
	return va;
}

static inline __u32 reg_read(const __u32 *regs, unsigned int offset)
{
	return __atomic_load_n(regs + offset / 4, __ATOMIC_RELAXED);
}

static inline void reg_write(__u32 *regs, unsigned int offset, __u32 value)
{
	__atomic_store_n(regs + offset / 4, value, __ATOMIC_RELAXED);
}

/* Registers by file and by mapping, config space */
static void bench_registers(struct iommufd *io)
{
	__u64 config = region_offset(io, VFIO_PCI_CONFIG_REGION_INDEX);
	__u64 bar = region_offset(io, VFIO_PCI_BAR0_REGION_INDEX);
	__u32 *regs = bar_map(io, bar);
	__u32 value, i;
	__u64 t;

	for (i = 0; i < SMALL_ROUNDS; i++) {
		__u32 *fresh = bar_map(io, bar);

		begin(io->name, "bar_fault", "device");
		t = rdtsc();
		value = reg_read(fresh, 0);
		spent = rdtsc() - t - overhead;
		end();
		expect(value == 0x010000ed);
		begin(io->name, "bar_load", "device");
		t = rdtsc();
		value = reg_read(fresh, 0);
		spent = rdtsc() - t - overhead;
		end();
		expect(value == 0x010000ed);
		expect(!munmap(fresh, PAGE));

		value = i;
		begin(io->name, "bar_pwrite", "device");
		expect(timed_syscall(SYS_pwrite64, io->dev, (long)&value, 4,
				     bar + EDU_LIVE) == 4);
		end();
		expect(reg_read(regs, EDU_LIVE) == ~i);
		begin(io->name, "bar_pread", "device");
		expect(timed_syscall(SYS_pread64, io->dev, (long)&value, 4,
				     bar + EDU_LIVE) == 4);
		end();
		expect(value == ~i);
		begin(io->name, "config_pread", "device");
		expect(timed_syscall(SYS_pread64, io->dev, (long)&value, 4,
				     config) == 4);
		end();
		expect(value == 0x11e81234);
	}
	expect(!munmap(regs, PAGE));
}

static struct vfio_irq_set *irq_set(__u32 index, __u32 flags, __u32 count,
				    __s32 fd)
{
	static struct {
		struct vfio_irq_set set;
		__s32 fd;
	} arg;

	arg.set = (struct vfio_irq_set){
		.argsz = sizeof(arg), .index = index, .flags = flags,
		.count = count,
	};
	arg.fd = fd;
	return &arg.set;
}

/*
 * From the write that makes the device raise the interrupt until the program
 * continues: the processor is interrupted right after that write.
 */
static void bench_interrupt(struct iommufd *io, __u32 index, const char *what)
{
	__u64 bar = region_offset(io, VFIO_PCI_BAR0_REGION_INDEX);
	const __u32 trigger = VFIO_IRQ_SET_ACTION_TRIGGER;
	__u32 *regs = bar_map(io, bar);
	int i, event = eventfd(0, EFD_NONBLOCK);
	__u64 t, count;

	expect(event >= 0);
	expect(!ioctl(io->dev, VFIO_DEVICE_SET_IRQS,
		      irq_set(index, VFIO_IRQ_SET_DATA_EVENTFD | trigger, 1,
			      event)));
	for (i = 0; i < SMALL_ROUNDS; i++) {
		begin(io->name, what, "device");
		t = rdtsc();
		reg_write(regs, EDU_IRQ_RAISE, 1);
		spent = rdtsc() - t - overhead;
		end();
		/* It has arrived by now. */
		expect(spent > 100);
		expect(read(event, &count, 8) == 8 && count == 1);
		reg_write(regs, EDU_IRQ_ACK, 1);
		if (index != VFIO_PCI_INTX_IRQ_INDEX)
			continue;
		begin(io->name, "unmask", "device");
		expect(!timed_ioctl(io->dev, VFIO_DEVICE_SET_IRQS,
				    irq_set(index, VFIO_IRQ_SET_DATA_NONE |
					    VFIO_IRQ_SET_ACTION_UNMASK, 1, 0)));
		end();
	}
	expect(!ioctl(io->dev, VFIO_DEVICE_SET_IRQS,
		      irq_set(index, VFIO_IRQ_SET_DATA_NONE | trigger, 0, 0)));
	close(event);
	expect(!munmap(regs, PAGE));
}

/* Taking the device, and releasing it */
static void bench_open(struct iommufd *io)
{
	int i, round;

	for (round = 0; round < OPEN_ROUNDS; round++) {
		struct vfio_device_attach_iommufd_pt attach = {
			.argsz = sizeof(attach), .pt_id = io->ioas,
		};
		struct vfio_device_bind_iommufd bind = {
			.argsz = sizeof(bind), .iommufd = io->fd,
		};

		begin(io->name, "close", "device");
		expect(!timed_syscall(SYS_close, io->dev, 0, 0, 0));
		end();
		io->dev = open_cdev(io->bdf);
		begin(io->name, "bind_attach", "device");
		i = timed_ioctl(io->dev, VFIO_DEVICE_BIND_IOMMUFD, &bind);
		expect(!i);
		i = timed_ioctl(io->dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT,
				&attach);
		expect(!i);
		end();
	}
}

/*
 * The preload library, and what it adds to an ioctl that libc would just pass on:
 * all that is executed in the program and in the kernel.
 */

typedef int ioctl_fn(int fd, unsigned long request, ...);

/* It is loaded, so that no other call of this program goes through it. */
static ioctl_fn *library_ioctl(void)
{
	void *library = dlopen("/lib/libnoiommufd-vfio.so", RTLD_NOW);
	ioctl_fn *fn = library ? dlsym(library, "ioctl") : NULL;

	if (!fn)
		die("%s", dlerror());
	return fn;
}

static __u64 cost(ioctl_fn *fn, int fd, unsigned long request, void *arg)
{
	__u64 t = rdtsc();
	int ret = fn(fd, request, arg);

	t = rdtsc() - t - overhead;
	expect(!ret);
	return t;
}

static void add_round(const char *what, __u64 count)
{
	begin("ours", what, "device");
	spent = count;
	end();
}

/* GET_INFO of a device, MAP_DMA and UNMAP_DMA of memory at IOVA = PA */
static void vfio_ioctls(struct iommufd *io, ioctl_fn *fn, void *va, __u64 pa,
			__u64 took[3])
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)va,
		.iova = pa,
		.size = HUGE_PAGE,
	};
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = pa, .size = HUGE_PAGE,
	};

	took[0] = cost(fn, io->dev, VFIO_DEVICE_GET_INFO, &info);
	took[1] = cost(fn, io->fd, VFIO_IOMMU_MAP_DMA, &map);
	took[2] = cost(fn, io->fd, VFIO_IOMMU_UNMAP_DMA, &unmap);
	expect(unmap.size == HUGE_PAGE);
}

static void bench_library(struct iommufd *io)
{
	struct iommu_vfio_ioas ioas = {
		.size = sizeof(ioas), .op = IOMMU_VFIO_IOAS_SET,
		.ioas_id = io->ioas,
	};
	struct vfio_group_status status = { .argsz = sizeof(status) };
	ioctl_fn *library = library_ioctl();
	__u64 libc_took[3], took[3], pfn;
	void *va;
	int i;

	write_number("/proc/sys/vm/nr_hugepages", 1);
	va = mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE,
		  -1, 0);
	expect(va != MAP_FAILED);
	read_pagemap(va, &pfn, 1);
	expect(!ioctl(io->fd, IOMMU_VFIO_IOAS, &ioas));
	expect(!library(io->fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));

	for (i = 0; i < SMALL_ROUNDS; i++) {
		add_round("library_get_status",
			  cost(library, io->dev, VFIO_GROUP_GET_STATUS,
			       &status));
		vfio_ioctls(io, ioctl, va, pfn * PAGE, libc_took);
		vfio_ioctls(io, library, va, pfn * PAGE, took);
		add_round("get_info", libc_took[0]);
		add_round("map_dma", libc_took[1]);
		add_round("unmap_dma", libc_took[2]);
		add_round("library_get_info", took[0] - libc_took[0]);
		add_round("library_map_dma", took[1] - libc_took[1]);
		add_round("library_unmap_dma", took[2] - libc_took[2]);
	}
	expect(!munmap(va, HUGE_PAGE));
	write_number("/proc/sys/vm/nr_hugepages", 0);
}

/*
 * 2 MiB of DMA memory, allocated and mapped, beside what any program does for so
 * much: a page fault that allocates a huge page and zeroes it.
 */
static void bench_mem(struct iommufd *io)
{
	bool ours = !strcmp(io->name, "ours");
	int i;

	for (i = 0; i < OPEN_ROUNDS; i++) {
		struct noiommufd_mem_alloc alloc = {
			.size = sizeof(alloc), .length = HUGE_PAGE,
			.flags = NOIOMMUFD_MEM_CONTIGUOUS,
		};
		struct iommu_ioas_map_file map = {
			.size = sizeof(map), .ioas_id = io->ioas,
			.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
			.length = HUGE_PAGE,
		};
		struct noiommufd_run run;
		struct noiommufd_ioas_get_pa_runs get = {
			.size = sizeof(get), .ioas_id = io->ioas, .num_runs = 1,
			.length = HUGE_PAGE, .runs = (uintptr_t)&run,
		};
		char *va = mmap(NULL, 2 * HUGE_PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *huge;
		long long before;

		expect(va != MAP_FAILED);
		huge = va + (-(uintptr_t)va & (HUGE_PAGE - 1));
		expect(!madvise(huge, HUGE_PAGE, MADV_HUGEPAGE));
		begin(io->name, "fault_2m", "device");
		expect(!timed_syscall(SYS_madvise, (long)huge, HUGE_PAGE,
				      MADV_POPULATE_WRITE, 0));
		end();
		munmap(va, 2 * HUGE_PAGE);
		if (!ours)
			continue;

		begin(io->name, "mem_alloc_2m", "device");
		expect(!timed_ioctl(io->fd, NOIOMMUFD_MEM_ALLOC, &alloc));
		end();
		map.fd = alloc.out_fd;
		before = i ? 0 : pins();
		begin(io->name, "mem_map_2m", "device");
		expect(!timed_ioctl(io->fd, IOMMU_IOAS_MAP_FILE, &map));
		end();
		/* One reference to the file's memory, and one run */
		expect(i || pins() == before);
		get.iova = map.iova;
		expect(!ioctl(io->fd, NOIOMMUFD_IOAS_GET_PA_RUNS, &get));
		expect(get.num_runs == 1 && run.length == HUGE_PAGE);
		unmap(io, io->ioas, map.iova, HUGE_PAGE);
		close(map.fd);
	}
}

static void bench_device(const char *name)
{
	__u32 command = PCI_MEMORY_AND_MASTER;
	struct iommufd io;

	iommufd_open(&io, name);
	expect(pwrite(io.dev, &command, 2, PCI_COMMAND +
		      region_offset(&io, VFIO_PCI_CONFIG_REGION_INDEX)) == 2);
	bench_registers(&io);
	bench_interrupt(&io, VFIO_PCI_MSI_IRQ_INDEX, "irq_msi");
	bench_interrupt(&io, VFIO_PCI_INTX_IRQ_INDEX, "irq_intx");
	if (!strcmp(name, "ours"))
		bench_library(&io);
	bench_mem(&io);
	bench_open(&io);
	iommufd_close(&io);
}

/* The cost of an ioctl that fails right after its struct was read */
static void bench_einval(struct iommufd *io)
{
	struct iommu_ioas_noiommu_get_pa get = {
		.size = sizeof(get), .ioas_id = io->ioas,
	};
	int i;

	for (i = 0; i < SMALL_ROUNDS; i++) {
		begin(io->name, "get_pa", "einval");
		expect(timed_ioctl(io->fd, IOMMU_IOAS_NOIOMMU_GET_PA, &get) ==
		       -1 && errno == EINVAL);
		end();
	}
}

/* Map one more page and unmap it */
static void bench_map_page(struct iommufd *io, char *va, bool count)
{
	__u64 iova = random64() & ~(PAGE - 1), length = PAGE, pa;
	long long before = count ? pins() : 0;
	__u64 pfn;

	read_pagemap(va, &pfn, 1);
	begin(io->name, "map", "4k");
	map(io, va, PAGE, iova);
	end();
	expect(!count || pins() == before + 1);

	pa = get_pa(io, io->ioas, iova, &length);
	expect(pa == pfn * PAGE && length == PAGE);

	begin(io->name, "unmap", "4k");
	unmap(io, io->ioas, iova, PAGE);
	end();
	expect(!count || pins() == before);
}

/* Single pages, among many areas at random addresses */
static void bench_pages(struct iommufd *io)
{
	__u64 *pfn = calloc(NR_AREAS, sizeof(*pfn));
	__u64 *iova = calloc(NR_AREAS, sizeof(*iova));
	size_t size = (NR_AREAS + 1) * PAGE;
	char *va = small_pages(size);
	int i;

	expect(pfn && iova);
	read_pagemap(va, pfn, NR_AREAS);
	for (i = 0; i < NR_AREAS; i++) {
		iova[i] = random64() & ~(PAGE - 1);
		map(io, va + i * PAGE, PAGE, iova[i]);
	}

	for (i = 0; i < SMALL_ROUNDS; i++) {
		int at = random64() % NR_AREAS;
		__u64 length = PAGE, pa;

		begin(io->name, "get_pa", "4k");
		pa = get_pa(io, io->ioas, iova[at], &length);
		end();
		expect(pa == pfn[at] * PAGE && length == PAGE);
	}
	for (i = 0; i < SMALL_ROUNDS; i++)
		bench_map_page(io, va + NR_AREAS * PAGE, !i);

	unmap(io, io->ioas, 0, U64_MAX);
	expect(!munmap(va, size));
	free(iova);
	free(pfn);
}

/*
 * MAP at an automatic IOVA and at a fixed one, beside many areas of a page:
 * packed, at random, or with a hole of a page after each, where two pages are
 * mapped. Then UNMAP of all of them.
 */
static void bench_auto(struct iommufd *io, const char *how, int areas,
		       int rounds)
{
	bool packed = !strcmp(how, "packed"), random = !strcmp(how, "random");
	__u64 length = packed || random ? PAGE : 2 * PAGE, iova, base;
	char *va = small_pages(MIB), name[48];
	int i;

	/* Where the kernel begins to look */
	base = map_ioas(io, io->ioas, va, PAGE, 0);
	unmap(io, io->ioas, base, PAGE);
	for (i = 0; i < areas; i++)
		map(io, va + i % 256 * PAGE, PAGE, packed ? base + i * PAGE :
		    /* Each unit of the window comes once. */
		    random ? base + i * 0x9e3779b1ULL % (1 << 26) * PAGE :
			     base + 2 * i * PAGE);
	snprintf(name, sizeof(name), "map_%s_%d", how, areas);
	for (i = 0; i < rounds; i++) {
		begin(io->name, name, "auto");
		iova = map_ioas(io, io->ioas, va, length, 0);
		end();
		unmap(io, io->ioas, iova, length);
		begin(io->name, name, "fixed");
		map_ioas(io, io->ioas, va, length, iova);
		end();
		unmap(io, io->ioas, iova, length);
	}
	snprintf(name, sizeof(name), "unmap_all_%d", areas);
	if (packed)
		begin_span(io->name, name, "auto");
	unmap(io, io->ioas, 0, U64_MAX);
	if (packed)
		end_span(1);
	expect(!munmap(va, MIB));
}

static void bench_autos(const char *name)
{
	struct iommufd io;

	iommufd_open(&io, name);
	bench_auto(&io, "packed", 10, AUTO_ROUNDS);
	bench_auto(&io, "packed", 10000, AUTO_ROUNDS);
	bench_auto(&io, "packed", 1000000, AUTO_ROUNDS / 10);
	bench_auto(&io, "random", 10000, AUTO_ROUNDS);
	bench_auto(&io, "holes", 10000, AUTO_ROUNDS);
	iommufd_close(&io);
}

/* All of it by as few GET_PA as possible */
static void translate(struct iommufd *io, const struct memory *mem, __u32 ioas,
		      __u64 iova)
{
	__u64 done, length, pa, i;

	for (done = 0; done < GIB; done += length) {
		length = GIB - done;
		pa = get_pa(io, ioas, iova + done, &length);
		expect(length && !(length % PAGE) && length <= GIB - done);
		for (i = 0; i < length; i += PAGE)
			expect(pa + i == mem->pfn[(done + i) / PAGE] * PAGE);
	}
}

/* All of it by one ioctl */
static void translate_runs(struct iommufd *io, const struct memory *mem,
			   __u64 iova, struct noiommufd_run *runs)
{
	struct noiommufd_ioas_get_pa_runs get = {
		.size = sizeof(get),
		.ioas_id = io->ioas,
		.num_runs = GIB_PAGES,
		.iova = iova,
		.length = GIB,
		.runs = (uintptr_t)runs,
	};
	size_t i, page = 0;
	__u64 done;

	expect(!timed_ioctl(io->fd, NOIOMMUFD_IOAS_GET_PA_RUNS, &get));
	expect(get.num_runs == mem->runs && get.length == GIB);
	for (i = 0; i < mem->runs; i++)
		for (done = 0; done < runs[i].length; done += PAGE)
			expect(runs[i].phys + done == mem->pfn[page++] * PAGE);
	expect(page == GIB_PAGES);
}

/* If the limit is what is pinned already, nothing more can be pinned. */
static void check_charge(struct iommufd *io, const struct memory *mem)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_READABLE,
		.ioas_id = io->ioas,
		.user_va = (uintptr_t)mem->va,
		.length = PAGE,
	};

	set_memlock(GIB);
	expect(ioctl(io->fd, IOMMU_IOAS_MAP, &map) == -1 && errno == ENOMEM);
	set_memlock(RLIM_INFINITY);
}

static void bench_translate(struct iommufd *io, const struct memory *mem,
			    __u64 iova, struct noiommufd_run *runs)
{
	__u64 length = HUGE_PAGE, pa;

	begin(io->name, "get_pa_2m", mem->kind);
	pa = get_pa(io, io->ioas, iova + 7 * HUGE_PAGE, &length);
	end();
	expect(pa == mem->pfn[7 * HUGE_PAGE / PAGE] * PAGE);

	begin(io->name, "translate_1g", mem->kind);
	translate(io, mem, io->ioas, iova);
	end();

	if (io->has_runs) {
		begin(io->name, "runs_1g", mem->kind);
		translate_runs(io, mem, iova, runs);
		end();
	}
}

static void bench_copy(struct iommufd *io, const struct memory *mem, __u64 iova)
{
	const __u64 copied = 0x123440000000;
	__u64 length = PAGE, pa;

	begin(io->name, "get_pa_before_copy", mem->kind);
	pa = get_pa(io, io->ioas, iova + GIB / 2, &length);
	end();
	expect(pa == mem->pfn[GIB_PAGES / 2] * PAGE && length == PAGE);

	begin(io->name, "copy_1g", mem->kind);
	copy(io, io->ioas2, copied, io->ioas, iova, GIB);
	end();

	/* Nothing may be deferred. */
	begin(io->name, "get_pa_after_copy", mem->kind);
	pa = get_pa(io, io->ioas2, copied + GIB / 2, &length);
	end();
	expect(pa == mem->pfn[GIB_PAGES / 2] * PAGE && length == PAGE);
	translate(io, mem, io->ioas2, copied);

	begin(io->name, "unmap_copy_1g", mem->kind);
	unmap(io, io->ioas2, copied, GIB);
	end();
}

static void bench_gib(struct iommufd *io, const struct memory *mem)
{
	struct noiommufd_run *runs = NULL;
	const __u64 iova = 0x7000000000;
	int i;

	if (io->has_runs) {
		runs = malloc(GIB_PAGES * sizeof(*runs));
		expect(runs);
		memset(runs, 0xff, GIB_PAGES * sizeof(*runs));
	}
	for (i = 0; i < BIG_ROUNDS; i++) {
		long long before = pins(), vm_pin = vm_pin_kib();

		begin(io->name, "map_1g", mem->kind);
		map(io, mem->va, GIB, iova);
		end();
		/* A huge page may have one pin, or one per small page. */
		expect(pins() >= before + (long long)GIB_HUGE_PAGES);
		expect(vm_pin_kib() == vm_pin + (long long)(GIB / 1024));
		check_charge(io, mem);

		bench_translate(io, mem, iova, runs);
		bench_copy(io, mem, iova);

		begin(io->name, "unmap_1g", mem->kind);
		unmap(io, io->ioas, iova, GIB);
		end();
		expect(pins() == before && vm_pin_kib() == vm_pin);
	}
	free(runs);
}

/*
 * Pieces of a page out of an area that nothing has pinned. With an HWPT they are
 * pinned one by one, and without one when it is made.
 */
static void bench_pieces(const char *name, const struct memory *mem)
{
	static const int attach[] = ATTACH_PIECES;
	__u32 source, *order, i, j, swap, ioas, hwpt;
	struct iommufd io_of, *io = &io_of;
	const __u64 iova = GIB;
	char row[32];
	size_t k;

	iommufd_open(io, name);
	source = new_ioas(io->fd);
	map_ioas(io, source, mem->va, GIB, iova);
	order = malloc(GIB_PAGES * sizeof(*order));
	expect(order);
	for (i = 0; i < GIB_PAGES; i++)
		order[i] = i;

	for (k = 0; k < ARRAY_SIZE(attach); k++) {
		snprintf(row, sizeof(row), "attach_%d", attach[k]);
		ioas = new_ioas(io->fd);
		for (i = 0; i < (__u32)attach[k]; i++)
			copy(io, ioas, iova + i * PAGE, source,
			     iova + i * PAGE, PAGE);
		begin_span(name, row, "pieces");
		hwpt = new_hwpt(io, ioas);
		end_span(1);
		destroy(io, hwpt);
		destroy(io, ioas);
	}
	for (k = 0; k < 2; k++) {
		ioas = new_ioas(io->fd);
		hwpt = new_hwpt(io, ioas);
		for (i = 0; i < LAST_PIECE; i++) {
			if (i == FIRST_PIECE)
				begin_span(name, k ? "copy_random" :
					   "copy_in_order", "pieces");
			copy(io, ioas, iova + order[i] * PAGE, source,
			     iova + order[i] * PAGE, PAGE);
		}
		end_span(LAST_PIECE - FIRST_PIECE);
		destroy(io, hwpt);
		destroy(io, ioas);
		for (i = GIB_PAGES - 1; i > 0; i--) {
			j = random64() % (i + 1);
			swap = order[i];
			order[i] = order[j];
			order[j] = swap;
		}
	}
	free(order);
	iommufd_close(io);
}

/* Bytes of our module's tables, as it reports them */
static long long tables_take(void)
{
	const char *path = "/sys/kernel/debug/noiommufd/table_bytes";
	FILE *file = fopen(path, "re");
	long long bytes;

	if (!file || fscanf(file, "%lld", &bytes) != 1)
		die("%s: cannot read it: %m", path);
	fclose(file);
	return bytes;
}

/* Equal within one percent, because slabs are allocated as a whole. */
static void check_tally(long long used_kib, long long tally, int maps)
{
	used_kib = (used_kib + maps - 1) / maps;
	tally = (tally / maps + 1023) / 1024;
	if (llabs(used_kib - tally) > tally / 100 + 8)
		die("a mapping takes %lld KiB, the module says %lld", used_kib,
		    tally);
}

/* KiB of tables that are kept when one page of a GiB is left, in a copy */
static void bench_left(struct iommufd *io, const struct memory *mem)
{
	const __u64 iova = 0x7000000000;
	long long before;

	drain();
	before = tables_take();
	map(io, mem->va, GIB, iova);
	copy(io, io->ioas2, iova, io->ioas, iova + GIB / 2, PAGE);
	unmap(io, io->ioas, iova, GIB);
	drain();
	begin(io->name, "left_1g", mem->kind);
	spent = (tables_take() - before + 1023) / 1024;
	end();
	unmap(io, io->ioas2, iova, PAGE);
}

/* KiB of kernel memory per mapping, for @maps mappings of the memory */
static void bench_memory(struct iommufd *io, const struct memory *mem,
			 int first, int maps)
{
	long long before, vmalloc, used, tally = 0;
	__u64 iova = GIB;
	int round, i;

	/* At other IOVAs in each round, because mainline keeps tables after UNMAP. */
	for (round = 0; round < MEM_ROUNDS; round++) {
		for (i = 0; i < first; i++, iova += GIB)
			map(io, mem->va, GIB, iova);
		/*
		 * Wait until everything is freed: kfree_rcu() may take five
		 * seconds. Idle time passes at once, because QEMU counts
		 * instructions.
		 */
		sleep(12);
		before = free_kib();
		vmalloc = vmalloc_kib();
		if (io->has_runs)
			tally = tables_take();
		for (i = 0; i < maps; i++, iova += GIB)
			map(io, mem->va, GIB, iova);
		sleep(12);

		/* Round up, so that no table appears to be free. */
		begin(io->name, "mem_1g", mem->kind);
		used = before - free_kib();
		spent = used > 0 ? (used + maps - 1) / maps : 0;
		end();
		if (io->has_runs)
			check_tally(used, tables_take() - tally, maps);
		begin(io->name, "vmalloc_1g", mem->kind);
		used = vmalloc_kib() - vmalloc;
		spent = used > 0 ? (used + maps - 1) / maps : 0;
		end();
		unmap(io, io->ioas, 0, U64_MAX);
	}
}

/* MAP and UNMAP of a page, by two IOASes in turn: which lines do both lock? */
static void bench_pair(struct iommufd *io)
{
	char *va = small_pages(2 * PAGE);
	int i;

	for (i = 0; i < SMALL_ROUNDS; i++) {
		__u32 ioas = i % 2 ? io->ioas2 : io->ioas;

		begin_all(io->name, "pair", "4k");
		map_ioas(io, ioas, va + i % 2 * PAGE, PAGE, GIB);
		unmap(io, ioas, GIB, PAGE);
		end_all();
	}
	expect(!munmap(va, 2 * PAGE));
}

/* The rest of a request whose first run is known */
static void translate_rest(struct iommufd *io, __u64 iova, __u64 length,
			   __u64 done, struct noiommufd_run *runs)
{
	struct noiommufd_ioas_get_pa_runs get = {
		.size = sizeof(get), .ioas_id = io->ioas,
		.num_runs = REQUEST_PAGES, .runs = (uintptr_t)runs,
		.iova = iova + done, .length = length - done,
	};
	__u64 part;

	if (io->has_runs && done < length) {
		expect(!timed_ioctl(io->fd, NOIOMMUFD_IOAS_GET_PA_RUNS, &get));
		expect(get.length == length - done);
		return;
	}
	for (; done < length; done += part) {
		part = length - done;
		get_pa(io, io->ioas, iova + done, &part);
	}
}

static void batch(struct iommufd *io, struct noiommufd_batch_entry *entries)
{
	struct noiommufd_ioas_batch batch = {
		.size = sizeof(batch), .entry_size = sizeof(*entries),
		.num = BATCH, .entries = (uintptr_t)entries,
	};

	expect(!timed_ioctl(io->fd, NOIOMMUFD_IOAS_BATCH, &batch));
	expect(batch.done == BATCH && !batch.failed);
}

/* A batch of requests, each of which is mapped, translated and unmapped */
static void bench_batch(struct iommufd *io, char *va, __u64 length,
			const char *row, const char *kind)
{
	struct noiommufd_batch_entry e[BATCH];
	struct noiommufd_run runs[REQUEST_PAGES];
	__u64 pfn[BATCH];
	int i;

	for (i = 0; i < BATCH; i++) {
		read_pagemap(va + i * length, pfn + i, 1);
		e[i] = (struct noiommufd_batch_entry){
			.op = NOIOMMUFD_BATCH_MAP, .ioas_id = io->ioas,
			.flags = IOMMU_IOAS_MAP_FIXED_IOVA |
				 IOMMU_IOAS_MAP_WRITEABLE |
				 IOMMU_IOAS_MAP_READABLE |
				 NOIOMMUFD_BATCH_TRANSLATE,
			.start = (uintptr_t)va + i * length,
			.length = length, .iova = GIB + i * length,
		};
	}
	begin(io->name, row, kind);
	batch(io, e);
	for (i = 0; i < BATCH; i++) {
		translate_rest(io, e[i].iova, length, e[i].phys_length, runs);
		e[i].op = NOIOMMUFD_BATCH_UNMAP;
		e[i].flags = 0;
	}
	batch(io, e);
	spent /= BATCH;
	end();
	for (i = 0; i < BATCH; i++)
		expect(e[i].phys == pfn[i] * PAGE && e[i].length == length);
}

/* Memory that is mapped, translated and unmapped for each request */
static void bench_requests(struct iommufd *io, char *va, __u64 length,
			   const char *size, const char *kind)
{
	struct noiommufd_run runs[REQUEST_PAGES];
	long long before = pins();
	__u64 pfn, pa, done;
	char row[32];
	int i;

	snprintf(row, sizeof(row), "request%s", size);
	for (i = 0; i < SMALL_ROUNDS; i++) {
		char *at = va + i % BATCH * length;

		read_pagemap(at, &pfn, 1);
		begin(io->name, row, kind);
		map(io, at, length, GIB);
		done = length;
		if (length == PAGE || !io->has_runs)
			pa = get_pa(io, io->ioas, GIB, &done);
		else
			done = 0;
		translate_rest(io, GIB, length, done, runs);
		unmap(io, io->ioas, GIB, length);
		end();
		expect((done ? pa : runs[0].phys) == pfn * PAGE);
	}
	snprintf(row, sizeof(row), "batch%s", size);
	for (i = 0; io->has_runs && i < SMALL_ROUNDS; i++)
		bench_batch(io, va, length, row, kind);
	expect(pins() == before);
}

static void bench_iommufd(const char *name, const struct memory *mem)
{
	struct iommufd io;
	char *va;

	iommufd_open(&io, name);
	if (mem) {
		bench_gib(&io, mem);
		if (io.has_runs)
			bench_left(&io, mem);
		if (!strcmp(mem->kind, "hugetlb"))
			bench_memory(&io, mem, MEM_FIRST_HUGE, MEM_MAPS_HUGE);
		else if (!strcmp(mem->kind, "scattered"))
			bench_memory(&io, mem, MEM_FIRST_SMALL, MEM_MAPS_SMALL);
		if (!strcmp(mem->kind, "scattered"))
			bench_requests(&io, mem->va, REQUEST_PAGES * PAGE,
				       "_64k", mem->kind);
	} else {
		bench_einval(&io);
		bench_pages(&io);
		bench_pair(&io);
		va = small_pages(BATCH * PAGE);
		bench_requests(&io, va, PAGE, "", "4k");
		expect(!munmap(va, BATCH * PAGE));
	}
	iommufd_close(&io);
}

/*
 * io_uring: pins and charges, and has nothing to look up afterwards.
 */
static void bench_io_uring(const char *name, const struct memory *mem)
{
	const char *unmap_row = mem ? "unmap_1g" : "unmap";
	const char *map_row = mem ? "map_1g" : "map";
	const char *kind = mem ? mem->kind : "4k";
	int rounds = mem ? BIG_ROUNDS : SMALL_ROUNDS;
	struct io_uring_params params = { 0 };
	struct iovec vec = {
		.iov_base = mem ? mem->va : small_pages(PAGE),
		.iov_len = mem ? GIB : PAGE,
	};
	long long before;
	int ring, i;

	ring = syscall(SYS_io_uring_setup, 1, &params);
	expect(ring >= 0);
	for (i = 0; i < rounds; i++) {
		before = i ? 0 : pins();
		begin(name, map_row, kind);
		expect(!timed_syscall(SYS_io_uring_register, ring,
				      IORING_REGISTER_BUFFERS, (long)&vec, 1));
		end();
		expect(i || pins() > before);

		begin(name, unmap_row, kind);
		expect(!timed_syscall(SYS_io_uring_register, ring,
				      IORING_UNREGISTER_BUFFERS, 0, 0));
		end();
		expect(i || pins() == before);
	}
	close(ring);
	if (!mem)
		munmap(vec.iov_base, PAGE);
}

/*
 * The old way: mlock(), which keeps pages in memory but lets them move, and one
 * read of pagemap.
 */
static void bench_pagemap(const char *name, const struct memory *mem)
{
	const char *unmap_row = mem ? "unmap_1g" : "unmap";
	const char *map_row = mem ? "map_1g" : "map";
	const char *get_row = mem ? "translate_1g" : "get_pa";
	const char *kind = mem ? mem->kind : "4k";
	int i, rounds = mem ? BIG_ROUNDS : SMALL_ROUNDS;
	size_t length = mem ? GIB : PAGE, page;
	char *va = mem ? mem->va : small_pages(PAGE);
	__u64 *pfn = small_pages(GIB_PAGES * sizeof(*pfn));
	size_t size = length / PAGE * sizeof(*pfn);

	for (i = 0; i < rounds; i++) {
		begin(name, map_row, kind);
		expect(!timed_syscall(SYS_mlock, (long)va, length, 0, 0));
		end();

		begin(name, get_row, kind);
		expect(timed_syscall(SYS_pread64, pagemap, (long)pfn, size,
				     (uintptr_t)va / PAGE * sizeof(*pfn)) ==
		       (long)size);
		end();
		for (page = 0; mem && page < GIB_PAGES; page++)
			expect((pfn[page] & PAGEMAP_PFN) == mem->pfn[page]);

		begin(name, unmap_row, kind);
		expect(!timed_syscall(SYS_munlock, (long)va, length, 0, 0));
		end();
	}
	munmap(pfn, GIB_PAGES * sizeof(*pfn));
	if (!mem)
		munmap(va, PAGE);
}

static bool is_iommufd(const char *backend)
{
	return !strcmp(backend, "ours") || !strcmp(backend, "mainline");
}

/*
 * libnoiommufd, and the system calls that it makes without it, by begin_all().
 */

/* A device that the library has opened */
struct opened {
	struct noiommufd_device *dev;
	struct noiommufd_ioas *ioas;
	int fd;
	__u32 id;
};

static void open_device(struct opened *o, const char *bdf)
{
	noiommufd_set_log(noiommufd_print, stderr);
	o->dev = noiommufd_open(bdf, NULL);
	expect(o->dev);
	o->ioas = noiommufd_device_ioas(o->dev);
	o->fd = noiommufd_ioas_fd(o->ioas);
	o->id = noiommufd_ioas_id(o->ioas);
}

static __u64 bare_map(const struct opened *o, void *va, __u64 length)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_READABLE,
		.ioas_id = o->id,
		.user_va = (uintptr_t)va,
		.length = length,
		.iova = (1ULL << 63) + (uintptr_t)va,
	};

	expect(!ioctl(o->fd, IOMMU_IOAS_MAP, &map));
	return map.iova;
}

static void bare_runs(const struct opened *o, __u64 iova, __u64 length,
		      struct noiommufd_run *runs, __u32 num)
{
	struct noiommufd_ioas_get_pa_runs get = {
		.size = sizeof(get),
		.ioas_id = o->id,
		.num_runs = num,
		.iova = iova,
		.length = length,
		.runs = (uintptr_t)runs,
	};

	expect(!ioctl(o->fd, NOIOMMUFD_IOAS_GET_PA_RUNS, &get));
	expect(get.length == length);
}

static __u64 bare_pa(const struct opened *o, __u64 iova, __u64 *length)
{
	struct iommu_ioas_noiommu_get_pa get = {
		.size = sizeof(get),
		.ioas_id = o->id,
		.iova = iova,
		.length = *length,
	};

	expect(!ioctl(o->fd, IOMMU_IOAS_NOIOMMU_GET_PA, &get));
	*length = get.length;
	return get.out_phys;
}

static void bare_unmap(const struct opened *o, __u64 iova, __u64 length)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = o->id,
		.iova = iova,
		.length = length,
	};

	expect(!ioctl(o->fd, IOMMU_IOAS_UNMAP, &unmap));
}

/* Map, translate and unmap memory, by both in turn */
static void lib_map(const struct opened *o, void *va, __u64 length, const char *kind,
		    struct noiommufd_run *runs, __u32 num)
{
	__u64 iova, done = length;
	struct noiommufd_dma *dma;

	begin_all("bare", "lib_map", kind);
	iova = bare_map(o, va, length);
	runs->phys = bare_pa(o, iova, &done);
	if (done < length)
		bare_runs(o, iova + done, length - done, runs + 1, num - 1);
	end_all();
	begin_all("bare", "lib_unmap", kind);
	bare_unmap(o, iova, length);
	end_all();

	begin_all("lib", "lib_map", kind);
	dma = noiommufd_map(o->ioas, va, length, 0);
	end_all();
	expect(noiommufd_pa(dma, va) == runs[0].phys);

	begin_all("lib", "lib_runs", kind);
	iova = noiommufd_runs(dma, va, length, runs, num);
	end_all();
	expect(iova > 0);
	begin_all("bare", "lib_runs", kind);
	bare_runs(o, noiommufd_iova(dma), length, runs, num);
	end_all();

	begin_all("lib", "lib_unmap", kind);
	noiommufd_free(dma);
	end_all();
}

/* With addresses that are looked up without their memory */
static void bench_lib_index(const struct opened *o, char *va, struct noiommufd_dma **dma)
{
	struct noiommufd_dma *more;
	int i, at;
	__u64 pa;

	expect(noiommufd_ioas_pa(o->ioas, va) == noiommufd_pa(dma[0], va));
	for (i = 0; i < SMALL_ROUNDS; i++) {
		at = random64() % NR_AREAS;
		begin_all("lib", "lib_ioas_pa", "4k");
		pa = noiommufd_ioas_pa(o->ioas, va + at * PAGE);
		end_all();
		expect(pa == noiommufd_pa(dma[at], va + at * PAGE));

		begin_all("lib", "lib_map_indexed", "4k");
		more = noiommufd_map(o->ioas, va + NR_AREAS * PAGE, PAGE, 0);
		end_all();
		begin_all("lib", "lib_unmap_indexed", "4k");
		noiommufd_free(more);
		end_all();
	}
}

/* Single pages, among many others */
static void bench_lib_pages(const char *bdf)
{
	struct noiommufd_dma **dma = calloc(NR_AREAS, sizeof(*dma));
	size_t size = (NR_AREAS + 1) * PAGE;
	char *va = small_pages(size);
	struct noiommufd_run run;
	struct opened o;
	int i;

	open_device(&o, bdf);
	expect(dma);
	for (i = 0; i < NR_AREAS; i++) {
		dma[i] = noiommufd_map(o.ioas, va + i * PAGE, PAGE, 0);
		expect(dma[i]);
	}
	for (i = 0; i < SMALL_ROUNDS; i++) {
		int at = random64() % NR_AREAS;
		__u64 iova = noiommufd_iova(dma[at]), length = PAGE, pa, want;

		begin_all("bare", "lib_pa", "4k");
		want = bare_pa(&o, iova, &length);
		end_all();
		begin_all("lib", "lib_pa", "4k");
		pa = noiommufd_pa(dma[at], va + at * PAGE);
		end_all();
		expect(pa == want);

		begin_all("bare", "lib_ioas_runs", "4k");
		bare_runs(&o, iova, PAGE, &run, 1);
		end_all();
		begin_all("lib", "lib_ioas_runs", "4k");
		at = noiommufd_ioas_runs(o.ioas, iova, &length, &run, 1);
		end_all();
		expect(at == 1 && length == PAGE);

		lib_map(&o, va + NR_AREAS * PAGE, PAGE, "4k", &run, 1);
	}
	bench_lib_index(&o, va, dma);
	for (i = 0; i < NR_AREAS; i++)
		noiommufd_free(dma[i]);
	noiommufd_close(o.dev);
	expect(!munmap(va, size));
	free(dma);
}

static void bench_lib_gib(const char *bdf, const struct memory *mem)
{
	struct noiommufd_run *runs = malloc(GIB_PAGES * sizeof(*runs));
	struct opened o;
	int i;

	expect(runs);
	memset(runs, 0xff, GIB_PAGES * sizeof(*runs));
	open_device(&o, bdf);
	for (i = 0; i < BIG_ROUNDS; i++)
		lib_map(&o, mem->va, GIB, mem->kind, runs, GIB_PAGES);
	noiommufd_close(o.dev);
	free(runs);
}

/* The calls that noiommufd_open() makes on these nodes; then closes them. */
static void bare_open(const char *iommu, const char *node)
{
	struct iommu_iova_range range = { .start = 1ULL << 61, .last = (1ULL << 62) - 1 };
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iommu_ioas_allow_iovas allow = {
		.size = sizeof(allow),
		.num_iovas = 1,
		.allowed_iovas = (uintptr_t)&range,
	};
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct vfio_device_info device = { .argsz = sizeof(device) };
	struct vfio_region_info region = { .argsz = sizeof(region) };
	struct vfio_irq_info irq = { .argsz = sizeof(irq) };
	int fd, dev;

	begin_all("bare", "lib_open", "device");
	dev = open(node, O_RDWR | O_CLOEXEC);
	expect(dev >= 0);
	fd = open(iommu, O_RDWR | O_CLOEXEC);
	expect(fd >= 0);
	expect(!ioctl(fd, IOMMU_IOAS_ALLOC, &alloc));
	allow.ioas_id = alloc.out_ioas_id;
	expect(!ioctl(fd, IOMMU_IOAS_ALLOW_IOVAS, &allow));
	bind.iommufd = fd;
	expect(!ioctl(dev, VFIO_DEVICE_BIND_IOMMUFD, &bind));
	expect(!ioctl(dev, VFIO_DEVICE_GET_INFO, &device));
	for (region.index = 0; region.index < NOIOMMUFD_REGIONS; region.index++)
		expect(!ioctl(dev, VFIO_DEVICE_GET_REGION_INFO, &region));
	for (irq.index = 0; irq.index < NOIOMMUFD_IRQS; irq.index++)
		expect(!ioctl(dev, VFIO_DEVICE_GET_IRQ_INFO, &irq));
	attach.pt_id = alloc.out_ioas_id;
	expect(!ioctl(dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach));
	end_all();
	begin_all("bare", "lib_close", "device");
	close(dev);
	close(fd);
	end_all();
}

static void bench_lib_registers(const struct opened *o)
{
	__u32 *bar = noiommufd_bar(o->dev, NOIOMMUFD_BAR0), value;
	int i, dev = noiommufd_device_fd(o->dev);
	struct vfio_region_info region = {
		.argsz = sizeof(region), .index = VFIO_PCI_BAR0_REGION_INDEX,
	};

	expect(!ioctl(dev, VFIO_DEVICE_GET_REGION_INFO, &region));
	for (i = 0; i < SMALL_ROUNDS; i++) {
		begin_all("bare", "lib_load", "device");
		value = reg_read(bar, 0);
		end_all();
		begin_all("lib", "lib_load", "device");
		value = noiommufd_read32(bar);
		end_all();
		expect(value == 0x010000ed);
		begin_all("bare", "lib_store", "device");
		reg_write(bar, EDU_LIVE, value);
		end_all();
		begin_all("lib", "lib_store", "device");
		noiommufd_write32(bar + EDU_LIVE / 4, value);
		end_all();

		begin_all("bare", "lib_pread", "device");
		expect(pread(dev, &value, 4, region.offset) == 4);
		end_all();
		begin_all("lib", "lib_pread", "device");
		expect(!noiommufd_region_read(o->dev, NOIOMMUFD_BAR0, 0, &value, 4));
		end_all();
		begin_all("bare", "lib_pwrite", "device");
		expect(pwrite(dev, &value, 4, region.offset + EDU_LIVE) == 4);
		end_all();
		begin_all("lib", "lib_pwrite", "device");
		expect(!noiommufd_region_write(o->dev, NOIOMMUFD_BAR0, EDU_LIVE, &value,
					       4));
		end_all();
	}
}

static void bench_lib_device(const char *iommu, const char *bdf)
{
	struct noiommufd_device *dev;
	struct opened o;
	char node[64];
	int i;

	open_device(&o, bdf);
	snprintf(node, sizeof(node), "%s", noiommufd_info(o.dev)->node);
	expect(!noiommufd_bus_master(o.dev, true));
	bench_lib_registers(&o);
	noiommufd_close(o.dev);
	for (i = 0; i < OPEN_ROUNDS; i++) {
		bare_open(iommu, node);
		begin_all("lib", "lib_open", "device");
		dev = noiommufd_open(bdf, NULL);
		end_all();
		expect(dev);
		begin_all("lib", "lib_close", "device");
		noiommufd_close(dev);
		end_all();
	}
}

/* Of the kind of memory, of pages if it is NULL, or of devices */
static void bench_lib(const struct memory *mem, bool device)
{
	const char *where = getenv("OURS");
	char iommu[64], bdf[64];

	if (!where || sscanf(where, "%63s %63s", iommu, bdf) != 2)
		die("the environment has no OURS='NODE DEVICE'");
	if (device)
		bench_lib_device(iommu, bdf);
	else if (mem)
		bench_lib_gib(bdf, mem);
	else
		bench_lib_pages(bdf);
}

static void bench(const char *backend, const struct memory *mem)
{
	if (is_iommufd(backend))
		bench_iommufd(backend, mem);
	else if (!strcmp(backend, "io_uring"))
		bench_io_uring(backend, mem);
	else if (!strcmp(backend, "pagemap"))
		bench_pagemap(backend, mem);
	else if (!strcmp(backend, "lib"))
		bench_lib(mem, false);
	else
		die("there is no backend '%s'", backend);
}

/* Is this kind of memory, or "4k", selected? */
static bool wanted(const char *kind)
{
	const char *last = profiled ? strrchr(profiled, '_') : NULL;

	return !profiled || (last && !strcmp(last + 1, kind));
}

/* For the names of functions */
static int print_object(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)size;
	(void)data;
	printf("# object %016llx %s\n", (unsigned long long)info->dlpi_addr,
	       *info->dlpi_name ? info->dlpi_name : "/bench");
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const kinds[] = { "hugetlb", "thp", "scattered" };
	struct memory mem;
	size_t k;
	int c, i;

	while ((c = getopt(argc, argv, "p:")) != -1) {
		if (c != 'p')
			return 2;
		profiled = optarg;
		dl_iterate_phdr(print_object, NULL);
	}

	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	expect(pagemap >= 0);
	drop_ipc_lock();
	calibrate();

	for (i = optind; i < argc && wanted("4k"); i++)
		bench(argv[i], NULL);
	for (i = optind; i < argc && (wanted("auto") || wanted("fixed")); i++)
		if (is_iommufd(argv[i]))
			bench_autos(argv[i]);
	for (i = optind; i < argc && wanted("device"); i++)
		if (is_iommufd(argv[i]))
			bench_device(argv[i]);
		else if (!strcmp(argv[i], "lib"))
			bench_lib(NULL, true);
	if (wanted("pieces")) {
		memory_get(&mem, "scattered");
		for (i = optind; i < argc; i++)
			if (is_iommufd(argv[i]))
				bench_pieces(argv[i], &mem);
		memory_put(&mem);
	}
	for (k = 0; k < ARRAY_SIZE(kinds); k++) {
		if (!wanted(kinds[k]))
			continue;
		memory_get(&mem, kinds[k]);
		for (i = optind; i < argc; i++)
			bench(argv[i], &mem);
		memory_put(&mem);
	}
	rows_print();
	return 0;
}
