// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ioctls that run out of memory. On a kernel with fault injection, each ioctl is
 * issued with its first allocation failing, then with its second, and so on until
 * it makes fewer. It has to return ENOMEM or to do without, leave nothing behind,
 * and work when it is issued again. In the kernel's own ACPI code this would find
 * bugs (6.12: a use after free), so that code is left out.
 */
#include <sys/syscall.h>

#include <linux/vfio.h>

#include <noiommufd/noiommufd.h>

#include "harness.h"

#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define BASE		0x100000000ULL
#define SIZE		(64 * PAGE)
/* More allocations than any ioctl makes */
#define MANY		2000
/* Allocations of BIND before the kernel enables the device */
#define BIND_OURS	3

static struct fault {
	struct setup s;
	char *va;
	int fd;
	__u32 id;
	__u64 iova;
} f;

/* Let every allocation fail, without a message in the kernel log. */
static void may_fail(void)
{
	static const char * const kinds[] = { "failslab", "fail_page_alloc" };
	char path[64];
	size_t i;

	if (access(FAIL_NTH, W_OK))
		test_skip("the kernel has no fault injection (CONFIG_FAULT_INJECTION)");
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/ignore-gfp-wait",
			 kinds[i]);
		expect_ok(write_file(path, "N"));
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/verbose",
			 kinds[i]);
		expect_ok(write_file(path, "0"));
	}
	expect_ok(write_file("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem",
			     "N"));
	expect_ok(write_file("/sys/kernel/debug/fail_page_alloc/min-order",
			     "0"));
}

/*
 * Issue the ioctl with its nth allocation failing. Returns its result, and whether
 * it made that allocation.
 */
static int with_failure(int fd, unsigned int nth, int (*call)(void), bool *came)
{
	char text[16];
	int rc, err;
	ssize_t n;

	n = snprintf(text, sizeof(text), "%u", nth);
	expect_eq(pwrite(fd, text, n, 0), n);
	rc = call();
	err = errno;
	n = pread(fd, text, sizeof(text) - 1, 0);
	expect(n > 0);
	text[n] = 0;
	*came = !atoi(text);
	expect_eq(pwrite(fd, "0", 1, 0), 1);
	errno = err;
	return rc;
}

/*
 * @begin: prepare for the ioctl (or NULL); @end: check its effect and undo it.
 */
static unsigned int first_failures(unsigned int max, void (*begin)(void),
				   int (*call)(void), void (*end)(void))
{
	int fd = expect_ok(open(FAIL_NTH, O_RDWR | O_CLOEXEC));
	long long before = pins();
	unsigned int nth, failed = 0;
	bool came = true;

	for (nth = 1; came && nth <= max; nth++) {
		int rc;

		if (begin)
			begin();
		rc = with_failure(fd, nth, call, &came);
		if (rc < 0) {
			if (!came)
				fail("expected success without a failure, got %s",
				     strerrorname_np(errno));
			if (errno != ENOMEM)
				fail("allocation %u failed: expected ENOMEM, got %s",
				     nth, strerrorname_np(errno));
			failed++;
			if (call() < 0)
				fail("again, after allocation %u failed: expected success, got %s",
				     nth, strerrorname_np(errno));
		}
		end();
	}
	expect_pins(before);
	printf("# %u allocations, %u of them cannot be done without\n",
	       nth - (came ? 1 : 2), failed);
	fflush(stdout);
	close(fd);
	return failed;
}

/* The ioctl cannot do without some of its allocations. */
static void each_failure(void (*begin)(void), int (*call)(void),
			 void (*end)(void))
{
	expect(first_failures(MANY, begin, call, end) > 0);
}

/* Releasing memory and looking up one address need no memory. */
static void never_fails(void (*begin)(void), int (*call)(void),
			void (*end)(void))
{
	expect_eq(first_failures(MANY, begin, call, end), 0);
}

/* Contexts and objects */

static int call_open(void)
{
	f.fd = open(iommu_node(), O_RDWR | O_CLOEXEC);
	return f.fd;
}

static void close_it(void)
{
	expect_ok(close(f.fd));
}

TEST_LIMIT(open_iommu, 120)
{
	iommu_open();
	may_fail();
	each_failure(NULL, call_open, close_it);
}

static int call_open_cdev(void)
{
	static char path[128];

	if (!*path)
		cdev_path(edu(), path, sizeof(path));
	f.fd = open(path, O_RDWR | O_CLOEXEC);
	return f.fd;
}

TEST_LIMIT(open_cdev, 120)
{
	close(cdev_open(edu()));
	call_open_cdev();
	close_it();
	may_fail();
	each_failure(NULL, call_open_cdev, close_it);
}

static int call_ioas(void)
{
	return ioas_alloc(f.s.iommu, &f.id);
}

static void destroy(void)
{
	expect_ok(object_destroy(f.s.iommu, f.id));
}

TEST_LIMIT(alloc_ioas, 120)
{
	may_fail();
	f.s.iommu = iommu_open();
	each_failure(NULL, call_ioas, destroy);
}

static int call_hwpt(void)
{
	return hwpt_alloc(f.s.iommu, f.s.devid, f.s.ioas, &f.id);
}

TEST_LIMIT(alloc_hwpt, 120)
{
	may_fail();
	setup_bound(&f.s);
	each_failure(NULL, call_hwpt, destroy);
}

static int call_fault_queue(void)
{
	struct iommu_fault_alloc alloc = { .size = sizeof(alloc) };
	int rc = ioctl(f.s.iommu, IOMMU_FAULT_QUEUE_ALLOC, &alloc);

	f.id = alloc.out_fault_id;
	f.fd = alloc.out_fault_fd;
	return rc;
}

static void destroy_queue(void)
{
	close_it();
	destroy();
}

TEST_LIMIT(alloc_fault_queue, 120)
{
	may_fail();
	f.s.iommu = iommu_open();
	each_failure(NULL, call_fault_queue, destroy_queue);
}

static int call_allow(void)
{
	struct iommu_iova_range ranges[] = {
		{ .start = 0, .last = BASE - 1 },
		{ .start = 2 * BASE, .last = 3 * BASE - 1 },
		{ .start = 4 * BASE, .last = 5 * BASE - 1 },
	};
	struct iommu_ioas_allow_iovas allow = {
		.size = sizeof(allow), .ioas_id = f.id,
		.num_iovas = ARRAY_SIZE(ranges),
		.allowed_iovas = (unsigned long)ranges,
	};

	return ioctl(f.s.iommu, IOMMU_IOAS_ALLOW_IOVAS, &allow);
}

static void begin_ioas(void)
{
	f.id = new_ioas(f.s.iommu);
}

TEST_LIMIT(allow_iovas, 120)
{
	may_fail();
	f.s.iommu = iommu_open();
	each_failure(begin_ioas, call_allow, destroy);
}

/* Devices */

static void begin_bind(void)
{
	f.s.iommu = iommu_open();
	f.s.dev = cdev_open(edu());
}

static int call_bind(void)
{
	return dev_bind(f.s.dev, f.s.iommu, &f.s.devid);
}

static void close_both(void)
{
	expect_ok(close(f.s.dev));
	expect_ok(close(f.s.iommu));
}

TEST_LIMIT(bind, 300)
{
	may_fail();
	expect(first_failures(BIND_OURS, begin_bind, call_bind,
			      close_both) > 0);
}

static int call_attach(void)
{
	__u32 id = f.s.ioas;

	return dev_attach(f.s.dev, &id);
}

static void detach(void)
{
	expect_pas(&f.s, BASE, f.va, SIZE);
	expect_ok(dev_detach(f.s.dev));
	expect_ok(ioas_unmap(f.s.iommu, f.s.ioas, BASE, SIZE, &f.iova));
}

static void begin_attach(void)
{
	expect_ok(ioas_map(f.s.iommu, f.s.ioas, f.va, SIZE, BASE));
}

/* It has lazily mapped memory to pin. */
TEST_LIMIT(attach, 300)
{
	may_fail();
	f.va = mem(SIZE);
	setup_bound(&f.s);
	each_failure(begin_attach, call_attach, detach);
}

/* Memory */

static void unmap_all(void)
{
	expect_ok(ioas_unmap(f.s.iommu, f.s.ioas, 0, U64_MAX, NULL));
}

static int call_map(void)
{
	return ioas_map(f.s.iommu, f.s.ioas, f.va, SIZE, BASE);
}

static void mapped(void)
{
	expect_pas(&f.s, BASE, f.va, SIZE);
	unmap_all();
}

/* Every other page present: the rest is faulted in by the MAP. */
static void begin_untouched(void)
{
	f.va = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	expect(f.va != MAP_FAILED);
	expect_ok(madvise(f.va, SIZE, MADV_NOHUGEPAGE));
	for (size_t i = 0; i < SIZE; i += 2 * PAGE)
		f.va[i] = 1;
}

static void mapped_untouched(void)
{
	mapped();
	expect_ok(munmap(f.va, SIZE));
}

TEST_LIMIT(map, 300)
{
	may_fail();
	f.va = mem(SIZE);
	setup_attached(&f.s);
	each_failure(NULL, call_map, mapped);
}

TEST_LIMIT(map_untouched, 300)
{
	may_fail();
	setup_attached(&f.s);
	each_failure(begin_untouched, call_map, mapped_untouched);
}

static int call_map_file(void)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map), .flags = MAP_FIXED_RW, .ioas_id = f.s.ioas,
		.fd = f.fd, .length = SIZE, .iova = BASE,
	};

	return ioctl(f.s.iommu, IOMMU_IOAS_MAP_FILE, &map);
}

static void begin_file(void)
{
	f.fd = expect_ok(memfd_create("suite", 0));
	expect_ok(ftruncate(f.fd, SIZE));
}

static void mapped_file(void)
{
	f.va = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, f.fd, 0);
	expect(f.va != MAP_FAILED);
	for (size_t i = 0; i < SIZE; i += PAGE)
		expect(!f.va[i]);
	mapped();
	expect_ok(munmap(f.va, SIZE));
	close_it();
}

TEST_LIMIT(map_file, 300)
{
	may_fail();
	setup_attached(&f.s);
	each_failure(begin_file, call_map_file, mapped_file);
}

/* A batch that stops at the entry whose allocation fails, and goes on with it */
static int call_batch(void)
{
	struct noiommufd_batch_entry entries[] = {
		{ .op = NOIOMMUFD_BATCH_MAP, .iova = BASE, .length = SIZE,
		  .flags = MAP_FIXED_RW | NOIOMMUFD_BATCH_TRANSLATE,
		  .ioas_id = f.s.ioas, .start = (uintptr_t)f.va },
		{ .op = NOIOMMUFD_BATCH_MAP, .iova = 2 * BASE, .length = PAGE,
		  .flags = MAP_FIXED_RW, .ioas_id = f.s.ioas,
		  .start = (uintptr_t)f.va },
		{ .op = NOIOMMUFD_BATCH_UNMAP, .iova = 2 * BASE, .length = PAGE,
		  .ioas_id = f.s.ioas },
	};
	struct noiommufd_ioas_batch batch = {
		.size = sizeof(batch), .entry_size = sizeof(entries[0]),
		.num = ARRAY_SIZE(entries), .done = f.id,
		.entries = (uintptr_t)entries,
	};

	if (ioctl(f.s.iommu, NOIOMMUFD_IOAS_BATCH, &batch))
		return -1;
	f.id = 0;
	if (!batch.failed)
		return 0;
	f.id = batch.done - 1;
	errno = entries[f.id].error;
	return -1;
}

TEST_LIMIT(batch, 300)
{
	skip_on_mainline("it has no batches");
	may_fail();
	f.va = mem(SIZE);
	setup_attached(&f.s);
	each_failure(NULL, call_batch, mapped);
}

static int call_copy(void)
{
	f.iova = 2 * BASE;
	return ioas_copy(f.s.iommu, f.s.ioas, f.s.ioas, MAP_FIXED_RW, SIZE / 2,
			 &f.iova, BASE);
}

static void copied(void)
{
	expect_pas(&f.s, 2 * BASE, f.va, SIZE / 2);
	expect_ok(ioas_unmap(f.s.iommu, f.s.ioas, 2 * BASE, SIZE / 2, NULL));
}

TEST_LIMIT(copy, 300)
{
	may_fail();
	f.va = mem(SIZE);
	setup_attached(&f.s);
	expect_ok(call_map());
	each_failure(NULL, call_copy, copied);
	unmap_all();
}

/* The source goes but half of it stays, so its chunk has to be split. */
static void begin_unmap(void)
{
	expect_ok(call_map());
	expect_ok(call_copy());
}

static int call_unmap(void)
{
	return ioas_unmap(f.s.iommu, f.s.ioas, BASE, SIZE, NULL);
}

TEST_LIMIT(unmap, 300)
{
	may_fail();
	f.va = mem(SIZE);
	setup_attached(&f.s);
	never_fails(begin_unmap, call_unmap, copied);
}

static int call_close(void)
{
	return close(f.s.iommu);
}

static void begin_close(void)
{
	f.s.iommu = iommu_open();
	f.s.ioas = new_ioas(f.s.iommu);
	expect_ok(call_map());
	expect_ok(call_copy());
}

static void nothing(void)
{
}

TEST_LIMIT(close_releases, 120)
{
	may_fail();
	f.va = mem(SIZE);
	never_fails(begin_close, call_close, nothing);
}

static int call_runs(void)
{
	struct noiommufd_run runs[64];
	struct noiommufd_ioas_get_pa_runs cmd = {
		.size = sizeof(cmd), .ioas_id = f.s.ioas,
		.num_runs = ARRAY_SIZE(runs), .iova = BASE, .length = SIZE,
		.runs = (unsigned long)runs,
	};

	return ioctl(f.s.iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, &cmd);
}

static int call_get_pa(void)
{
	__u64 length = SIZE, pa;

	return get_pa(f.s.iommu, f.s.ioas, BASE, &length, &pa);
}

TEST_LIMIT(translate, 120)
{
	may_fail();
	f.va = mem(SIZE);
	setup_attached(&f.s);
	expect_ok(call_map());
	never_fails(NULL, call_get_pa, nothing);
	skip_on_mainline("it has no GET_PA_RUNS");
	each_failure(NULL, call_runs, nothing);
}

static int call_hot_reset_info(void)
{
	char buffer[256] = {};
	struct vfio_pci_hot_reset_info *info = (void *)buffer;

	info->argsz = sizeof(buffer);
	return ioctl(f.s.dev, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info);
}

TEST_LIMIT(hot_reset_info, 120)
{
	may_fail();
	f.s.iommu = iommu_open();
	f.s.dev = cdev_open(edu_behind_bridge());
	expect_ok(dev_bind(f.s.dev, f.s.iommu, &f.s.devid));
	expect_ok(call_hot_reset_info());
	each_failure(NULL, call_hot_reset_info, nothing);
}

/* DMA memory */

static int call_mem(void)
{
	struct noiommufd_mem_alloc alloc = {
		.size = sizeof(alloc), .length = SIZE + 3 * PAGE,
	};
	int rc = ioctl(f.s.iommu, NOIOMMUFD_MEM_ALLOC, &alloc);

	f.fd = alloc.out_fd;
	return rc;
}

static int call_contiguous_mem(void)
{
	struct noiommufd_mem_alloc alloc = {
		.size = sizeof(alloc), .flags = NOIOMMUFD_MEM_CONTIGUOUS,
		.length = SIZE, .max_pa = 0x7fffffff,
	};
	int rc = ioctl(f.s.iommu, NOIOMMUFD_MEM_ALLOC, &alloc);

	f.fd = alloc.out_fd;
	return rc;
}

TEST_LIMIT(mem_alloc, 300)
{
	may_fail();
	f.s.iommu = iommu_open();
	each_failure(NULL, call_mem, close_it);
	each_failure(NULL, call_contiguous_mem, close_it);
}

static int call_mem_mmap(void)
{
	f.va = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0);
	return f.va == MAP_FAILED ? -1 : 0;
}

static void unmap_va(void)
{
	expect_ok(munmap(f.va, SIZE));
}

static int call_mem_file(void)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map), .flags = MAP_FIXED_RW, .fd = f.fd,
		.ioas_id = f.s.ioas, .length = SIZE, .iova = BASE,
	};

	return ioctl(f.s.iommu, IOMMU_IOAS_MAP_FILE, &map);
}

static void unmap_mem_file(void)
{
	expect_ok(ioas_unmap(f.s.iommu, f.s.ioas, BASE, SIZE, &f.iova));
}

TEST_LIMIT(mem_map, 300)
{
	may_fail();
	setup_attached(&f.s);
	expect_ok(call_mem());
	each_failure(NULL, call_mem_mmap, unmap_va);
	each_failure(NULL, call_mem_file, unmap_mem_file);
}

/* What shows them */

static int call_read(void)
{
	static char text[16 * KIB];

	return pread(f.fd, text, sizeof(text), 0);
}

TEST_LIMIT(show, 120)
{
	static const char * const debugfs[] = { "contexts", "devices", "table_bytes" };
	char path[64];
	unsigned int i;

	may_fail();
	setup_attached(&f.s);
	expect_ok(ioas_map(f.s.iommu, f.s.ioas, mem(SIZE), SIZE, BASE));
	/* Together they need more than a page. */
	for (i = 0; i < 64; i++)
		new_ioas(f.s.iommu);
	for (i = 0; i < 2 + ARRAY_SIZE(debugfs); i++) {
		if (i < 2)
			snprintf(path, sizeof(path), "/proc/self/fdinfo/%d",
				 i ? f.s.dev : f.s.iommu);
		else
			snprintf(path, sizeof(path), "/sys/kernel/debug/noiommufd/%s",
				 debugfs[i - 2]);
		f.fd = expect_ok(open(path, O_RDONLY));
		first_failures(MANY, NULL, call_read, nothing);
		close(f.fd);
	}
}
