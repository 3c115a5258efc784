// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ends in any order: processes that are killed during a MAP, a MAP that stalls,
 * fds that are closed in any order, a mapper that has ended. In the end nothing is
 * pinned, and before that nothing that a device may still use is unpinned.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "harness.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#endif

/* Seconds in which a killed process ends, under TCG */
#define PROMPT	(2.0 * slow())

static void kill_promptly(pid_t pid)
{
	double start = now();
	int status;

	expect_ok(kill(pid, SIGKILL));
	expect_eq(waitpid(pid, &status, 0), pid);
	if (now() - start > PROMPT)
		fail("the end of a killed process: expected within %.1f s, got after %.1f s",
		     PROMPT, now() - start);
	expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void wait_for_pins(long long more_than, pid_t pid)
{
	double end = now() + 30 * slow();
	int status;

	while (pins() <= more_than) {
		/* If it failed, its verdict counts. */
		if (waitpid(pid, &status, WNOHANG) == pid) {
			if (WIFEXITED(status) && WEXITSTATUS(status))
				_exit(WEXITSTATUS(status));
			fail("the MAP: expected to take longer, got done");
		}
		if (now() > end)
			fail("pages pinned: expected more than %lld, got %lld",
			     more_than, pins());
		sleep_ms(1);
	}
}

/* Killed during MAP */

struct big {
	/* Bytes of address space, and of the memory that is repeated in it */
	__u64 size, backing;
	/* ATTACH pins; the page tables are filled before it. */
	bool lazy, populated;
};

static void map_big(void *arg)
{
	const struct big *big = arg;
	struct setup s;
	char *va;
	__u64 i;
	int fd;

	va = mem_flags(big->size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
	madvise(va, big->size, MADV_NOHUGEPAGE);
	if (big->backing) {
		fd = expect_ok(memfd_create("suite", 0));
		expect_ok(ftruncate(fd, big->backing));
		for (i = 0; i < big->size; i += big->backing)
			expect(mmap(va + i, big->backing,
				    PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_FIXED, fd, 0) ==
			       va + i);
	}
	if (big->populated) {
		memset(va, 1, big->backing);
		expect_ok(madvise(va, big->size, MADV_POPULATE_READ));
	}
	setup_bound(&s);
	if (!big->lazy)
		attach(s.dev, s.ioas);
	expect_ok(ioas_map(s.iommu, s.ioas, va, big->size, GIB));
	if (big->lazy)
		attach(s.dev, s.ioas);
	fail("a MAP of %llu GiB: expected to be killed in it, got success",
	     big->size / GIB);
}

/* Pages pinned since boot, in the whole system */
static long long pinned_ever(void)
{
	/* pins() folds the counters. */
	pins();
	return read_field("/proc/vmstat", "nr_foll_pin_acquired");
}

static void kill_in_map(struct big big, __u64 after)
{
	long long before = pins(), at_kill;
	pid_t pid = spawn(map_big, &big);

	wait_for_pins(before + after / PAGE, pid);
	at_kill = pinned_ever();
	if (big.populated) {
		/* Freeing its page tables takes the kernel some time. */
		expect_ok(kill(pid, SIGKILL));
		expect_eq(waitpid(pid, NULL, 0), pid);
	} else {
		kill_promptly(pid);
	}
	/* Most of the memory was not pinned yet, and never was. */
	expect(pinned_ever() - at_kill < (long long)(GIB / PAGE));
	expect_pins(before);
}

/* More than the machine's memory */
TEST(kill_in_map_of_untouched_memory)
{
	kill_in_map((struct big) { .size = 16 * GIB }, 64 * MIB);
}

TEST(kill_in_map)
{
	const struct big big = { .size = 16 * GIB, .backing = 256 * MIB };

	kill_in_map(big, 64 * MIB);
	kill_in_map(big, GIB);
}

/* Nothing is faulted in, so GUP does not check for signals. */
TEST(kill_in_map_of_populated_memory)
{
	const struct big big = {
		.size = 6 * GIB, .backing = 256 * MIB, .populated = true,
	};

	skip_on_mainline("a MAP of such memory goes on to its end");
	kill_in_map(big, 64 * MIB);
}

TEST(kill_in_attach)
{
	const struct big big = {
		.size = 16 * GIB, .backing = 256 * MIB, .lazy = true,
	};

	kill_in_map(big, 256 * MIB);
}

/* The killed process is not the one that has the files. */
struct shared_big {
	struct setup s;
	char *va;
	__u64 size;
};

static void map_shared_big(void *arg)
{
	struct shared_big *big = arg;

	ioas_map(big->s.iommu, big->s.ioas, big->va, big->size, GIB);
	fail("a MAP of %llu GiB: expected to be killed in it, got the end of it",
	     big->size / GIB);
}

TEST(kill_in_map_of_shared_files)
{
	struct shared_big big = { .size = 16 * GIB };
	long long before = pins();
	__u64 length = 1, pa;
	pid_t pid;

	setup_attached(&big.s);
	big.va = mem_flags(big.size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
	madvise(big.va, big.size, MADV_NOHUGEPAGE);
	pid = spawn(map_shared_big, &big);
	wait_for_pins(before + 64 * MIB / PAGE, pid);
	kill_promptly(pid);
	expect_pins(before);
	/* Nothing is left in the IOAS either. */
	expect_errno(get_pa(big.s.iommu, big.s.ioas, GIB, &length, &pa),
		     ENOENT);
	expect_ok(ioas_map(big.s.iommu, big.s.ioas, mem(PAGE), PAGE, GIB));
	expect(pa_of(big.s.iommu, big.s.ioas, GIB) != 0);
}

/* Stalled ioctls */

struct stall {
	struct setup s;
	/* The ioctl that stalls */
	void (*call)(struct stall *stall);
	/* The process says that it is about to stall, and waits for us. */
	int said[2], go[2];
	char *va;
	__u32 lazy;
};

#define STALL_SIZE	(64 * PAGE)
#define STALL_IOVA	GIB

static void stall_map(struct stall *stall)
{
	expect_ok(ioas_map(stall->s.iommu, stall->s.ioas, stall->va, STALL_SIZE,
			   STALL_IOVA));
}

/* A copy of memory that was mapped without an HWPT */
static void stall_copy(struct stall *stall)
{
	__u64 iova = STALL_IOVA;

	expect_ok(ioas_map(stall->s.iommu, stall->lazy, stall->va, STALL_SIZE,
			   STALL_IOVA));
	expect_ok(ioas_copy(stall->s.iommu, stall->s.ioas, stall->lazy,
			    MAP_FIXED_RW, STALL_SIZE, &iova, STALL_IOVA));
}

static void stall_attach(struct stall *stall)
{
	stall_map(stall);
	attach(stall->s.dev, stall->s.ioas);
}

static void *stall_thread(void *arg)
{
	struct stall *stall = arg;

	stall->call(stall);
	return NULL;
}

/* Memory with one page that is filled only through the fd. */
static int stall_memory(struct stall *stall, struct uffdio_range *page)
{
	stall->va = mem_flags(STALL_SIZE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS);
	memset(stall->va, 1, STALL_SIZE / 2);
	*page = (struct uffdio_range){
		.start = (uintptr_t)stall->va + STALL_SIZE / 2, .len = PAGE,
	};
	return userfault_open(page);
}

/* Issue an ioctl on such memory; fill it when told to. */
static void stalled_process(void *arg)
{
	struct uffdio_zeropage zero = {};
	struct stall *stall = arg;
	pthread_t thread;
	char go;
	int fd;

	fd = stall_memory(stall, &zero.range);
	expect_eq(pthread_create(&thread, NULL, stall_thread, stall), 0);
	userfault_wait(fd);
	expect_eq(write(stall->said[1], "s", 1), 1);

	expect_eq(read(stall->go[0], &go, 1), 1);
	expect_ok(ioctl(fd, UFFDIO_ZEROPAGE, &zero));
	expect_eq(pthread_join(thread, NULL), 0);
}

static pid_t stall_begin(struct stall *stall, void (*call)(struct stall *stall))
{
	struct pollfd ready;
	char said;
	pid_t pid;

	stall->call = call;
	setup_bound(&stall->s);
	stall->lazy = new_ioas(stall->s.iommu);
	if (call != stall_attach)
		attach(stall->s.dev, stall->s.ioas);
	expect_ok(pipe(stall->said));
	expect_ok(pipe(stall->go));
	pid = spawn(stalled_process, stall);
	close(stall->said[1]);
	ready.fd = stall->said[0];
	ready.events = POLLIN;
	expect_eq(poll(&ready, 1, 20000), 1);
	/* It ends silently when it fails or skips. */
	if (read(ready.fd, &said, 1) != 1)
		join(pid);
	return pid;
}

/* Ioctls on the same IOAS that must not wait for the stalled one */
static void expect_not_blocked(struct stall *stall)
{
	const struct setup *s = &stall->s;
	__u64 length = 1, pa, iova;
	char *va = mem(4 * PAGE);
	double start = now();
	int i;

	for (i = 0; i < 20; i++) {
		iova = MIB;
		expect_ok(ioas_map(s->iommu, s->ioas, va, 4 * PAGE, 0));
		expect_pas(s, 0, va, 4 * PAGE);
		expect_ok(ioas_copy(s->iommu, s->ioas, s->ioas, MAP_FIXED_RW,
				    PAGE, &iova, PAGE));
		expect_ok(ioas_unmap(s->iommu, s->ioas, 0, 4 * PAGE, NULL));
		expect_ok(ioas_unmap(s->iommu, s->ioas, MIB, PAGE, NULL));
		iova = 0;
		expect_ok(ioas_map_flags(s->iommu, s->ioas, MAP_RW, va, PAGE,
					 &iova));
		expect_ok(ioas_unmap(s->iommu, s->ioas, iova, PAGE, NULL));
	}
	/* Its range is reserved, but not mapped yet. */
	expect_errno(ioas_map(s->iommu, s->ioas, va, PAGE, STALL_IOVA + PAGE),
		     EEXIST);
	expect_errno(get_pa(s->iommu, s->ioas, STALL_IOVA, &length, &pa),
		     ENOENT);
	expect_errno(ioas_unmap(s->iommu, s->ioas, STALL_IOVA, STALL_SIZE,
				NULL), EBUSY);
	if (now() - start > PROMPT)
		fail("calls beside a stalled MAP: expected within %.1f s, got after %.1f s",
		     PROMPT, now() - start);
}

TEST_LIMIT(stalled_map_then_killed, 30)
{
	struct stall stall;
	long long before;
	pid_t pid;

	pid = stall_begin(&stall, stall_map);
	expect_not_blocked(&stall);
	kill_promptly(pid);
	before = pins();
	expect_ok(ioas_map(stall.s.iommu, stall.s.ioas, mem(STALL_SIZE),
			   STALL_SIZE, STALL_IOVA));
	expect_pins(before + STALL_SIZE / PAGE);
}

TEST_LIMIT(stalled_map_goes_on, 30)
{
	struct stall stall;
	pid_t pid;

	pid = stall_begin(&stall, stall_map);
	expect_not_blocked(&stall);
	expect_eq(write(stall.go[1], "g", 1), 1);
	join(pid);
	expect(pa_of(stall.s.iommu, stall.s.ioas, STALL_IOVA) != 0);
	expect(pa_of(stall.s.iommu, stall.s.ioas,
		     STALL_IOVA + STALL_SIZE - PAGE) != 0);
	expect_ok(ioas_unmap(stall.s.iommu, stall.s.ioas, STALL_IOVA,
			     STALL_SIZE, NULL));
}

TEST_LIMIT(stalled_copy, 30)
{
	struct stall stall;
	long long before;
	pid_t pid;

	pid = stall_begin(&stall, stall_copy);
	expect_not_blocked(&stall);
	/* Its source may go meanwhile. */
	expect_ok(ioas_map(stall.s.iommu, stall.lazy, mem(PAGE), PAGE, 0));
	expect_ok(ioas_unmap(stall.s.iommu, stall.lazy, 0, U64_MAX, NULL));
	kill_promptly(pid);
	before = pins();
	expect_ok(ioas_map(stall.s.iommu, stall.s.ioas, mem(STALL_SIZE),
			   STALL_SIZE, STALL_IOVA));
	expect_pins(before + STALL_SIZE / PAGE);
}

TEST_LIMIT(stalled_attach, 30)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	long long before = pins();
	struct stall stall;
	double start;
	pid_t pid;
	__u32 pt;

	skip_on_mainline("ATTACH locks the IOAS while it pins");
	pid = stall_begin(&stall, stall_attach);
	start = now();
	expect_ok(ioas_map(stall.s.iommu, stall.s.ioas, mem(PAGE), PAGE, 0));
	expect_ok(ioas_unmap(stall.s.iommu, stall.s.ioas, 0, PAGE, NULL));
	expect_ok(ioctl(stall.s.dev, VFIO_DEVICE_GET_INFO, &info));
	expect(now() - start < PROMPT);
	kill_promptly(pid);
	expect_pins(before);

	/* The device is not attached, and that memory is unmapped for good. */
	pt = stall.s.ioas;
	expect_errno(dev_attach(stall.s.dev, &pt), EFAULT);
	expect_ok(ioas_unmap(stall.s.iommu, stall.s.ioas, STALL_IOVA,
			     STALL_SIZE, NULL));
	attach(stall.s.dev, stall.s.ioas);
}

/* Memory of a process that fills it as soon as another touches it */
static void lazy_process(void *arg)
{
	struct stall *stall = arg;
	struct uffd_msg msg;
	struct uffdio_zeropage zero = {};
	int fd;

	fd = stall_memory(stall, &zero.range);
	stall_map(stall);
	expect_eq(write(stall->said[1], "s", 1), 1);
	expect_eq(read(fd, &msg, sizeof(msg)), sizeof(msg));
	expect_eq(msg.event, UFFD_EVENT_PAGEFAULT);
	expect_ok(ioctl(fd, UFFDIO_ZEROPAGE, &zero));
	/* Until the test ends */
	pause();
}

TEST_LIMIT(attach_waits_for_the_mappers_memory, 30)
{
	struct stall stall = {};
	char said;
	pid_t pid;

	setup_bound(&stall.s);
	expect_ok(pipe(stall.said));
	pid = spawn(lazy_process, &stall);
	close(stall.said[1]);
	if (read(stall.said[0], &said, 1) != 1)
		join(pid);
	attach(stall.s.dev, stall.s.ioas);
	expect(pa_of(stall.s.iommu, stall.s.ioas,
		     STALL_IOVA + STALL_SIZE - PAGE) != 0);
}

/* Another context is not affected at all. */
TEST_LIMIT(stalled_map_and_others, 30)
{
	struct stall stall;
	__u32 devid, ioas;
	double start;
	int iommu, dev;
	pid_t pid;

	pid = stall_begin(&stall, stall_map);
	start = now();
	iommu = iommu_open();
	dev = cdev_open(edu_behind_bridge());
	expect_ok(dev_bind(dev, iommu, &devid));
	ioas = new_ioas(iommu);
	attach(dev, ioas);
	expect_ok(ioas_map(iommu, ioas, mem(PAGE), PAGE, 0));
	expect(pa_of(iommu, ioas, 0) != 0);
	close(dev);
	close(iommu);
	/* Another IOAS of the same context is not either. */
	ioas = new_ioas(stall.s.iommu);
	expect_ok(ioas_map(stall.s.iommu, ioas, mem(PAGE), PAGE, 0));
	expect_ok(object_destroy(stall.s.iommu, ioas));
	expect(now() - start < PROMPT);
	kill_promptly(pid);
}

/* DESTROY of an IOAS while another ioctl on it is stalled */
struct slow_ranges {
	struct setup s;
	__u64 ranges;
};

static void *allow_what_stalls(void *arg)
{
	struct slow_ranges *slow = arg;
	struct iommu_ioas_allow_iovas allow = {
		.size = sizeof(allow), .ioas_id = slow->s.ioas, .num_iovas = 1,
		.allowed_iovas = slow->ranges,
	};

	/* One byte less than the range that it gets in the end. */
	expect_errno(ioctl(slow->s.iommu, IOMMU_IOAS_ALLOW_IOVAS, &allow),
		     EINVAL);
	return NULL;
}

TEST_LIMIT(destroy_beside_a_stalled_call, 30)
{
	struct uffdio_zeropage zero = {};
	struct slow_ranges slow;
	long long before, pin_before;
	pthread_t thread;
	__u32 other;
	int fd;

	skip_on_mainline("it waits, for a minute at most");
	edu();
	before = pins();
	setup_attached(&slow.s);
	pin_before = vm_pin();
	expect_ok(ioas_map(slow.s.iommu, slow.s.ioas, mem(STALL_SIZE),
			   STALL_SIZE, STALL_IOVA));
	expect_ok(dev_detach(slow.s.dev));
	expect_pins(before + STALL_SIZE / PAGE);
	slow.ranges = (uintptr_t)mem_flags(PAGE, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS);
	zero.range.start = slow.ranges;
	zero.range.len = PAGE;
	fd = userfault_open(&zero.range);
	expect_eq(pthread_create(&thread, NULL, allow_what_stalls, &slow), 0);
	userfault_wait(fd);

	/* After DESTROY nothing is pinned or charged. */
	expect_ok(object_destroy(slow.s.iommu, slow.s.ioas));
	expect_eq(pins(), before);
	expect_eq(vm_pin(), pin_before);
	expect_errno(object_destroy(slow.s.iommu, slow.s.ioas), ENOENT);
	other = new_ioas(slow.s.iommu);
	expect_eq(other, slow.s.ioas);
	expect_ok(ioctl(fd, UFFDIO_ZEROPAGE, &zero));
	expect_eq(pthread_join(thread, NULL), 0);
	expect_pins(before);
}

/* An HWPT_ALLOC that fails at its end: its HWPT was never visible to others. */
struct failing_hwpts {
	struct setup s;
	bool stop;
	unsigned long calls;
};

static void *fail_to_alloc_hwpts(void *arg)
{
	struct failing_hwpts *failing = arg;
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc), .flags = IOMMU_HWPT_FAULT_ID_VALID,
		.dev_id = failing->s.devid, .pt_id = failing->s.ioas,
		.fault_id = 99999,
	};

	for (; !flag(&failing->stop); failing->calls++)
		expect_errno(ioctl(failing->s.iommu, IOMMU_HWPT_ALLOC, &alloc),
			     ENOENT);
	return NULL;
}

TEST_LIMIT(hwpt_alloc_that_fails_is_never_seen, 60)
{
	struct failing_hwpts failing = {};
	unsigned long tries = 0;
	pthread_t thread;
	__u32 next;
	double end;

	setup_attached(&failing.s);
	/* The next id. */
	next = new_ioas(failing.s.iommu);
	expect_ok(object_destroy(failing.s.iommu, next));
	expect_eq(pthread_create(&thread, NULL, fail_to_alloc_hwpts, &failing),
		  0);
	for (end = now() + 8; now() < end; tries++)
		expect_errno(object_destroy(failing.s.iommu, next), ENOENT);
	set_flag(&failing.stop);
	expect_eq(pthread_join(thread, NULL), 0);
	printf("# %lu HWPTs, %lu looks\n", failing.calls, tries);
	expect(failing.calls > 0);
}

/* Bad input, and an answer that cannot be written: nothing stays pinned. */
TEST(hwpt_alloc_that_fails_leaves_nothing)
{
	struct iommu_hwpt_alloc *alloc = mem(PAGE);
	struct setup s;

	setup_bound(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(8 * PAGE), 8 * PAGE, 0));
	*alloc = (struct iommu_hwpt_alloc){
		.size = sizeof(*alloc), .flags = IOMMU_HWPT_FAULT_ID_VALID,
		.dev_id = s.devid, .pt_id = s.ioas, .fault_id = 99999,
	};
	expect_errno(ioctl(s.iommu, IOMMU_HWPT_ALLOC, alloc), ENOENT);
	expect_eq(vm_pin(), 0);
	alloc->flags = 0;
	expect_ok(mprotect(alloc, PAGE, PROT_READ));
	expect_errno(ioctl(s.iommu, IOMMU_HWPT_ALLOC, alloc), EFAULT);
	expect_eq(vm_pin(), 0);
	expect_ok(object_destroy(s.iommu, s.ioas));
}

struct hwpt_call {
	struct setup s;
	int error;
};

static void *alloc_hwpt(void *arg)
{
	struct hwpt_call *call = arg;
	__u32 hwpt;

	if (hwpt_alloc(call->s.iommu, call->s.devid, call->s.ioas, &hwpt))
		call->error = errno;
	return NULL;
}

/* The last device is closed while an HWPT_ALLOC waits for a page, and fails. */
TEST(hwpt_alloc_fails_after_the_last_device)
{
	char *va = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_zeropage zero = {
		.range = { .start = (uintptr_t)va, .len = 2 * PAGE },
	};
	struct hwpt_call call = {};
	struct setup *s = &call.s;
	pthread_t thread;
	int fd;

	skip_on_mainline("closing a device waits for a call that names it");
	expect(va != MAP_FAILED);
	setup_attached(s);
	expect_ok(ioas_map(s->iommu, s->ioas, mem(8 * PAGE), 8 * PAGE, 0));
	expect_ok(dev_detach(s->dev));
	expect_eq(vm_pin(), 8 * PAGE / KIB);
	expect_ok(ioas_map(s->iommu, s->ioas, va, 2 * PAGE, GIB));
	fd = userfault_open(&zero.range);
	expect_eq(pthread_create(&thread, NULL, alloc_hwpt, &call), 0);
	userfault_wait(fd);
	expect_ok(close(s->dev));
	expect_ok(munmap(va + PAGE, PAGE));
	zero.range.len = PAGE;
	expect_ok(ioctl(fd, UFFDIO_ZEROPAGE, &zero));
	expect_eq(pthread_join(thread, NULL), 0);
	expect_eq(call.error, EFAULT);
	expect_eq(vm_pin(), 0);
}

/* Closed, in any order */

TEST(close_the_device_first)
{
	long long before = pins();
	struct setup s;

	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(8 * PAGE), 8 * PAGE, 0));
	expect_pins(before + 8);
	close(s.dev);
	/* The last device of the context is quiet now, so nothing stays pinned. */
	expect_pins(before);
	expect_eq(vm_pin(), 0);
	expect_ok(ioas_unmap(s.iommu, s.ioas, 0, 8 * PAGE, NULL));
	close(s.iommu);
}

TEST(close_the_device_and_open_it_again)
{
	char *va = mem(8 * PAGE);
	struct setup s;

	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, va, 8 * PAGE, 0));
	close(s.dev);
	s.dev = cdev_open(edu());
	expect_ok(dev_bind(s.dev, s.iommu, &s.devid));
	attach(s.dev, s.ioas);
	/* The IOAS's memory is pinned again. */
	expect_pas(&s, 0, va, 8 * PAGE);
}

static void has_files_until_told(void *arg)
{
	char byte;

	expect_eq(read(*(int *)arg, &byte, 1), 1);
}

/* Otherwise the new one could start the device before the old memory is unpinned. */
TEST(bind_waits_for_the_end_of_the_one_before)
{
	unsigned int i;

	for (i = 0; i < 30; i++) {
		int again, other = iommu_open(), told[2];
		char *va = mem(64 * PAGE);
		__u64 length = PAGE, pa;
		struct setup s;
		__u32 devid;
		pid_t pid;

		setup_attached(&s);
		expect_ok(ioas_map(s.iommu, s.ioas, va, 64 * PAGE, 0));
		expect_ok(pipe(told));
		pid = spawn(has_files_until_told, told);
		close(s.dev);
		again = cdev_open(edu());
		expect_errno(dev_bind(again, other, &devid), EINVAL);
		/* Its exit is the last close of the device. */
		expect_eq(write(told[1], "", 1), 1);
		while (dev_bind(again, other, &devid))
			expect_eq(errno, EINVAL);
		expect_errno(get_pa(s.iommu, s.ioas, 0, &length, &pa),
			     EOPNOTSUPP);
		expect_eq(vm_pin(), 0);
		join(pid);
		close(told[0]);
		close(told[1]);
		close(again);
		close(other);
		close(s.iommu);
		munmap(va, 64 * PAGE);
	}
}

TEST(close_the_iommufd_first)
{
	long long before = pins();
	struct setup s;

	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(8 * PAGE), 8 * PAGE, 0));
	close(s.iommu);
	sleep_ms(100);
	expect_pins(before + 8);
	close(s.dev);
	expect_pins(before);
	expect_eq(vm_pin(), 0);
}

TEST(close_a_duplicate)
{
	long long before = pins();
	struct setup s;
	int again;

	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(8 * PAGE), 8 * PAGE, 0));
	again = expect_ok(dup(s.dev));
	close(s.dev);
	close(s.iommu);
	sleep_ms(100);
	expect_pins(before + 8);
	close(again);
	expect_pins(before);
}

TEST(bar_mapping_keeps_the_device_open)
{
	long long before = pins();
	struct setup s;
	void *bar;

	setup_attached(&s);
	bar = region_mmap(s.dev, VFIO_PCI_BAR0_REGION_INDEX, PROT_READ);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(8 * PAGE), 8 * PAGE, 0));
	close(s.dev);
	close(s.iommu);
	sleep_ms(100);
	expect_pins(before + 8);
	expect_eq(mmio_read32(bar, 0), 0x010000ed);
	expect_ok(munmap(bar, MIB));
	expect_pins(before);
}

/* A detached device is not quiet: it may still master the bus. */

TEST(detach_keeps_memory_pinned)
{
	long long before = pins();
	char *va = mem(8 * PAGE);
	struct setup s;

	skip_on_mainline("DETACH unpins");
	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, va, 4 * PAGE, 0));
	expect_ok(ioas_map(s.iommu, s.ioas, va + 4 * PAGE, 4 * PAGE, MIB));
	expect_ok(dev_detach(s.dev));
	expect_pins(before + 8);
	expect_eq(vm_pin(), 32);
	/* Attached again: the same pages, not pinned twice */
	attach(s.dev, s.ioas);
	expect_pins(before + 8);
	expect_pas(&s, 0, va, 4 * PAGE);
	expect_ok(dev_detach(s.dev));
	/* UNMAP unpins at once. */
	expect_ok(ioas_unmap(s.iommu, s.ioas, 0, 4 * PAGE, NULL));
	expect_pins(before + 4);
	expect_eq(vm_pin(), 16);
	close(s.dev);
	expect_pins(before);
	expect_eq(vm_pin(), 0);
}

TEST(detach_then_destroy)
{
	long long before = pins();
	struct setup s;

	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(8 * PAGE), 8 * PAGE, 0));
	expect_ok(dev_detach(s.dev));
	expect_ok(object_destroy(s.iommu, s.ioas));
	expect_pins(before);
	expect_eq(vm_pin(), 0);
}

TEST(replace_keeps_memory_pinned)
{
	long long before = pins();
	struct setup s;

	skip_on_mainline("replacing an IOAS unpins");
	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(8 * PAGE), 8 * PAGE, 0));
	attach(s.dev, new_ioas(s.iommu));
	expect_pins(before + 8);
	close(s.dev);
	expect_pins(before);
}

TEST(hwpt_destroy_keeps_memory_pinned)
{
	long long before = pins();
	struct setup s;
	__u32 hwpt;

	skip_on_mainline("destroying an HWPT unpins");
	setup_bound(&s);
	expect_ok(hwpt_alloc(s.iommu, s.devid, s.ioas, &hwpt));
	expect_ok(ioas_map(s.iommu, s.ioas, mem(8 * PAGE), 8 * PAGE, 0));
	attach(s.dev, hwpt);
	expect_ok(dev_detach(s.dev));
	expect_ok(object_destroy(s.iommu, hwpt));
	expect_pins(before + 8);
	close(s.dev);
	expect_pins(before);
}

TEST(last_device_of_the_context)
{
	long long before = pins();
	struct setup s;
	__u32 devid;
	int second;

	skip_on_mainline("DETACH and close unpin");
	setup_attached(&s);
	second = cdev_open(edu_behind_bridge());
	expect_ok(dev_bind(second, s.iommu, &devid));
	attach(second, s.ioas);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(8 * PAGE), 8 * PAGE, 0));
	expect_ok(dev_detach(second));
	close(s.dev);
	/* The second is detached, but has not been made quiet. */
	expect_pins(before + 8);
	close(second);
	expect_pins(before);
}

/* Several processes */

static void wait_for_a_byte(int fd)
{
	char byte;

	expect_eq(read(fd, &byte, 1), 1);
}

struct passing {
	int socket[2];
};

static void pass_the_device(void *arg)
{
	struct passing *passing = arg;
	union {
		struct cmsghdr header;
		char raw[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec data = { .iov_base = "d", .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct setup s;

	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(8 * PAGE), 8 * PAGE, 0));
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &s.dev, sizeof(int));
	expect_eq(sendmsg(passing->socket[1], &msg, 0), 1);
}

TEST(device_passed_to_another_process)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	long long before = pins();
	struct passing passing;
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec data = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int dev;

	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, passing.socket));
	in_child(pass_the_device, &passing);
	/* In transit, held only by the socket */
	expect_pins(before + 8);
	expect_eq(recvmsg(passing.socket[0], &msg, 0), 1);
	memcpy(&dev, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(dev));
	/* The mapper and its iommufd are gone. */
	expect_ok(ioctl(dev, VFIO_DEVICE_GET_INFO, &info));
	expect_pins(before + 8);
	close(dev);
	expect_pins(before);
}

static void hold_until_told(void *arg)
{
	wait_for_a_byte(*(int *)arg);
}

TEST(files_inherited_by_fork)
{
	long long before = pins();
	struct setup s;
	int go[2];
	pid_t pid;

	expect_ok(pipe(go));
	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(8 * PAGE), 8 * PAGE, 0));
	pid = spawn(hold_until_told, &go[0]);
	close(s.dev);
	close(s.iommu);
	sleep_ms(100);
	expect_pins(before + 8);
	expect_eq(write(go[1], "g", 1), 1);
	join(pid);
	expect_pins(before);
	expect_eq(vm_pin(), 0);
}

struct mapping {
	struct setup s;
	__u64 *pa;
};

static void map_and_exit(void *arg)
{
	struct mapping *m = arg;
	char *va = mem(8 * PAGE);
	int i;

	expect_ok(ioas_map(m->s.iommu, m->s.ioas, va, 8 * PAGE, 0));
	for (i = 0; i < 8; i++)
		m->pa[i] = pagemap_pa(va + i * PAGE);
}

TEST(mapper_exits)
{
	long long before = pins();
	struct mapping m;
	char *others;
	int i, k;

	m.pa = mem_flags(PAGE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS);
	setup_attached(&m.s);
	in_child(map_and_exit, &m);
	expect_pins(before + 8);
	for (i = 0; i < 8; i++)
		expect_eq(pa_of(m.s.iommu, m.s.ioas, i * PAGE), m.pa[i]);
	/* And no other process has these pages. */
	others = mem(2048 * PAGE);
	for (i = 0; i < 2048; i++)
		for (k = 0; k < 8; k++)
			expect(pagemap_pa(others + i * PAGE) != m.pa[k]);
	expect_ok(ioas_unmap(m.s.iommu, m.s.ioas, 0, 8 * PAGE, NULL));
	expect_pins(before);
}

/* Any process's ATTACH fills a lazy mapping with the mapper's memory. */

struct lazy {
	struct setup s;
	int said[2], go[2];
	unsigned long long memlock;
};

static void map_lazily(void *arg)
{
	struct lazy *lazy = arg;
	char *va = mem(8 * PAGE);
	__u64 pa = pagemap_pa(va);

	if (lazy->memlock) {
		drop_cap(CAP_IPC_LOCK);
		set_memlock(lazy->memlock);
	}
	expect_ok(ioas_map(lazy->s.iommu, lazy->s.ioas, va, 8 * PAGE, 0));
	expect_eq(write(lazy->said[1], &pa, sizeof(pa)), sizeof(pa));
	if (lazy->go[0] < 0)
		return;
	wait_for_a_byte(lazy->go[0]);
	expect_eq(vm_pin(), lazy->memlock ? 0 : 32);
}

static pid_t lazy_begin(struct lazy *lazy, __u64 *pa)
{
	pid_t pid;

	setup_bound(&lazy->s);
	expect_ok(pipe(lazy->said));
	expect_ok(pipe(lazy->go));
	pid = spawn(map_lazily, lazy);
	expect_eq(read(lazy->said[0], pa, sizeof(*pa)), sizeof(*pa));
	return pid;
}

TEST(lazy_map_of_another_process)
{
	long long before = pins();
	struct lazy lazy = {};
	__u64 pa;
	pid_t pid;

	pid = lazy_begin(&lazy, &pa);
	attach(lazy.s.dev, lazy.s.ioas);
	expect_pins(before + 8);
	expect_eq(pa_of(lazy.s.iommu, lazy.s.ioas, 0), pa);
	expect_eq(vm_pin(), 0);
	expect_eq(write(lazy.go[1], "g", 1), 1);
	join(pid);
	expect_pins(before + 8);
	expect_eq(pa_of(lazy.s.iommu, lazy.s.ioas, 0), pa);
}

TEST(lazy_map_charged_to_its_mapper)
{
	struct lazy lazy = { .memlock = 4 * PAGE };
	long long before = pins();
	__u32 pt;
	__u64 pa;
	pid_t pid;

	pid = lazy_begin(&lazy, &pa);
	/* We have no limit, but the memory is not ours. */
	pt = lazy.s.ioas;
	expect_errno(dev_attach(lazy.s.dev, &pt), ENOMEM);
	expect_pins(before);
	expect_eq(write(lazy.go[1], "g", 1), 1);
	join(pid);
}

TEST(lazy_map_whose_mapper_is_gone)
{
	struct lazy lazy = { .go = { -1, -1 } };
	long long before = pins();
	__u32 pt;

	setup_bound(&lazy.s);
	expect_ok(pipe(lazy.said));
	in_child(map_lazily, &lazy);
	pt = lazy.s.ioas;
	expect_errno(dev_attach(lazy.s.dev, &pt), EFAULT);
	expect_pins(before);
	expect_ok(ioas_unmap(lazy.s.iommu, lazy.s.ioas, 0, 8 * PAGE, NULL));
	attach(lazy.s.dev, lazy.s.ioas);
}

/* Memory of a file outlives the process that mapped it. */

struct lazy_file {
	struct setup s;
	int fd;
};

static int file_map(const struct setup *s, int fd, __u64 length, __u64 iova)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map), .flags = MAP_FIXED_RW, .ioas_id = s->ioas,
		.fd = fd, .length = length, .iova = iova,
	};

	return ioctl(s->iommu, IOMMU_IOAS_MAP_FILE, &map);
}

static void map_file_lazily(void *arg)
{
	const struct lazy_file *lazy = arg;

	set_memlock(8 * PAGE);
	expect_ok(file_map(&lazy->s, lazy->fd, 8 * PAGE, 0));
}

/* As setup_bound(); RLIMIT_MEMLOCK counts, for the user or the process. */
static void setup_charged(struct setup *s, bool process)
{
	struct iommu_option option = {
		.size = sizeof(option), .option_id = IOMMU_OPTION_RLIMIT_MODE,
		.op = IOMMU_OPTION_OP_SET, .val64 = process,
	};

	memset(s, 0, sizeof(*s));
	s->iommu = iommu_open();
	expect_ok(ioctl(s->iommu, IOMMU_OPTION, &option));
	s->dev = cdev_open(edu());
	expect_ok(dev_bind(s->dev, s->iommu, &s->devid));
	s->ioas = new_ioas(s->iommu);
}

TEST(lazy_file_map_whose_mapper_is_gone)
{
	long long before = pins();
	struct lazy_file lazy;
	unsigned int process;
	char *va;

	drop_cap(CAP_IPC_LOCK);
	lazy.fd = expect_ok(memfd_create("suite", 0));
	expect_ok(ftruncate(lazy.fd, 8 * PAGE));
	va = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, lazy.fd,
		  0);
	expect(va != MAP_FAILED);
	memset(va, 1, 8 * PAGE);
	for (process = 0; process < 2; process++) {
		setup_charged(&lazy.s, process);
		in_child(map_file_lazily, &lazy);
		expect_pins(before);
		attach(lazy.s.dev, lazy.s.ioas);
		expect_pins(before + 8);
		expect_pas(&lazy.s, 0, va, 8 * PAGE);
		/* This process is not charged. */
		expect_eq(vm_pin(), 0);
		expect_ok(ioas_unmap(lazy.s.iommu, lazy.s.ioas, 0, 8 * PAGE,
				     NULL));
		expect_pins(before);
		close(lazy.s.dev);
		close(lazy.s.iommu);
	}
}

/* Charges */

#define LIMIT_PAGES	16

/* This process can map exactly this much more. */
static void check_left(const char *file, int line, const struct setup *s,
		       unsigned int pages)
{
	char *va = mem((pages + 1) * PAGE);

	if (ioas_map(s->iommu, s->ioas, va, pages * PAGE, 2 * GIB))
		test_fail(file, line, "%u pages more: expected to map them, got %s",
			  pages, strerrorname_np(errno));
	check_errno(file, line, "a page more", ioas_map(s->iommu, s->ioas, va,
							PAGE, 3 * GIB), ENOMEM);
	expect_ok(ioas_unmap(s->iommu, s->ioas, 2 * GIB, pages * PAGE, NULL));
	munmap(va, (pages + 1) * PAGE);
}

#define expect_left(s, pages)	check_left(__FILE__, __LINE__, s, pages)

static long long vm_lock(void)
{
	return read_field("/proc/self/status", "VmLck");
}

struct charge {
	struct setup s;
	bool process;
	int said[2];
	__u64 *pa;
};

static void charge_setup(struct charge *charge, bool process)
{
	drop_cap(CAP_IPC_LOCK);
	set_memlock(LIMIT_PAGES * PAGE);
	charge->process = process;
	charge->pa = mem_flags(PAGE, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS);
	setup_charged(&charge->s, process);
	attach(charge->s.dev, charge->s.ioas);
}

static void charge_close(struct charge *charge)
{
	close(charge->s.dev);
	close(charge->s.iommu);
	expect_eq(vm_pin(), 0);
	expect_eq(vm_lock(), 0);
}

static void forked(void *arg)
{
	struct charge *charge = arg;

	/* The mapping is of the parent's memory. */
	expect_eq(vm_pin(), 0);
	expect_eq(vm_lock(), 0);
	expect_left(&charge->s, charge->process ? LIMIT_PAGES : LIMIT_PAGES - 8);
	expect_eq(vm_pin(), 0);
	expect_ok(ioas_unmap(charge->s.iommu, charge->s.ioas, 0, 4 * PAGE,
			     NULL));
	expect_eq(vm_pin(), 0);
	expect_eq(vm_lock(), 0);
}

TEST(charge_after_fork)
{
	struct charge charge;
	unsigned int process;
	char *va = mem(8 * PAGE);

	for (process = 0; process < 2; process++) {
		const struct setup *s = &charge.s;

		charge_setup(&charge, process);
		expect_ok(ioas_map(s->iommu, s->ioas, va, 4 * PAGE, 0));
		expect_ok(ioas_map(s->iommu, s->ioas, va + 4 * PAGE, 4 * PAGE,
				   MIB));
		expect_eq(vm_pin(), 32);
		expect_eq(vm_lock(), process ? 32 : 0);
		in_child(forked, &charge);
		/* The charge for the half that the child unmapped is returned to us. */
		expect_eq(vm_pin(), 16);
		expect_eq(vm_lock(), process ? 16 : 0);
		expect_left(s, LIMIT_PAGES - 4);
		charge_close(&charge);
	}
}

static void map_then_exec(void *arg)
{
	struct charge *charge = arg;
	char *va = mem(8 * PAGE);
	unsigned int i;

	expect_ok(ioas_map(charge->s.iommu, charge->s.ioas, va, 8 * PAGE, 0));
	for (i = 0; i < 8; i++)
		charge->pa[i] = pagemap_pa(va + i * PAGE);
	expect_eq(write(charge->said[1], "m", 1), 1);
	execl("/bin/busybox", "busybox", "sleep", "1000", NULL);
	fail("exec of busybox: expected success, got %s",
	     strerrorname_np(errno));
}

static void map_then_exit(void *arg)
{
	map_and_exit(&(struct mapping) {
		.s = ((struct charge *)arg)->s, .pa = ((struct charge *)arg)->pa,
	});
}

/* The mapping of the memory is gone, but it is still pinned. */
static void expect_charge_of_the_gone(struct charge *charge, long long before)
{
	const struct setup *s = &charge->s;
	unsigned int i;

	expect_pins(before + 8);
	for (i = 0; i < 8; i++)
		expect_eq(pa_of(s->iommu, s->ioas, i * PAGE), charge->pa[i]);
	expect_eq(vm_pin(), 0);
	/* The user is still charged; another process is not. */
	expect_left(s, charge->process ? LIMIT_PAGES : LIMIT_PAGES - 8);
	expect_ok(ioas_unmap(s->iommu, s->ioas, 0, 8 * PAGE, NULL));
	expect_pins(before);
	expect_left(s, LIMIT_PAGES);
	charge_close(charge);
}

TEST(charge_after_exec)
{
	long long before = pins();
	struct charge charge;
	unsigned int process;
	char path[64], said;
	pid_t pid;

	for (process = 0; process < 2; process++) {
		charge_setup(&charge, process);
		expect_ok(pipe2(charge.said, O_CLOEXEC));
		pid = spawn(map_then_exec, &charge);
		close(charge.said[1]);
		if (read(charge.said[0], &said, 1) != 1)
			join(pid);
		/* exec closes its end. */
		expect_eq(read(charge.said[0], &said, 1), 0);
		close(charge.said[0]);
		snprintf(path, sizeof(path), "/proc/%d/status", pid);
		expect_eq(read_field(path, "VmPin"), 0);
		expect_eq(read_field(path, "VmLck"), 0);
		expect_charge_of_the_gone(&charge, before);
		expect_eq(read_field(path, "VmPin"), 0);
		kill_promptly(pid);
	}
}

TEST(charge_after_exit)
{
	long long before = pins();
	struct charge charge;
	unsigned int process;

	for (process = 0; process < 2; process++) {
		charge_setup(&charge, process);
		in_child(map_then_exit, &charge);
		expect_charge_of_the_gone(&charge, before);
	}
}

TEST(charge_of_a_partial_copy)
{
	long long before = pins();
	char *va = mem(8 * PAGE);
	struct charge charge;
	unsigned int process;

	for (process = 0; process < 2; process++) {
		const struct setup *s = &charge.s;
		__u64 iova = MIB;

		charge_setup(&charge, process);
		expect_ok(ioas_map(s->iommu, s->ioas, va, 8 * PAGE, 0));
		expect_ok(ioas_copy(s->iommu, s->ioas, s->ioas, MAP_FIXED_RW,
				    3 * PAGE, &iova, 2 * PAGE));
		expect_left(s, LIMIT_PAGES - 8);
		expect_ok(ioas_unmap(s->iommu, s->ioas, 0, 8 * PAGE, NULL));
		expect_pins(before + 3);
		expect_eq(vm_pin(), 12);
		expect_eq(vm_lock(), process ? 12 : 0);
		expect_left(s, LIMIT_PAGES - 3);
		expect_pas(s, MIB, va + 2 * PAGE, 3 * PAGE);
		expect_ok(ioas_unmap(s->iommu, s->ioas, MIB, 3 * PAGE, NULL));
		expect_pins(before);
		expect_left(s, LIMIT_PAGES);
		charge_close(&charge);
	}
}

static int change_process(int iommu)
{
	struct iommu_ioas_change_process change = { .size = sizeof(change) };

	return ioctl(iommu, IOMMU_IOAS_CHANGE_PROCESS, &change);
}

static void take_over_the_charge(void *arg)
{
	struct charge *charge = arg;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", getppid());
	expect_eq(vm_pin(), 0);
	expect_ok(change_process(charge->s.iommu));
	expect_eq(vm_pin(), 32);
	expect_eq(vm_lock(), charge->process ? 32 : 0);
	expect_eq(read_field(path, "VmPin"), 0);
	expect_eq(read_field(path, "VmLck"), 0);
}

TEST(change_process_moves_the_charge)
{
	int fd = expect_ok(memfd_create("suite", 0));
	long long before = pins();
	struct charge charge;
	unsigned int process;

	expect_ok(ftruncate(fd, 8 * PAGE));
	for (process = 0; process < 2; process++) {
		const struct setup *s = &charge.s;

		charge_setup(&charge, process);
		expect_ok(file_map(s, fd, 8 * PAGE, 0));
		expect_eq(vm_lock(), process ? 32 : 0);
		in_child(take_over_the_charge, &charge);
		expect_pins(before + 8);
		/* Charged to the child, which has ended: to the user, or to nobody. */
		expect_eq(vm_pin(), 0);
		expect_left(s, process ? LIMIT_PAGES : LIMIT_PAGES - 8);
		expect_ok(change_process(s->iommu));
		expect_eq(vm_pin(), 32);
		expect_eq(vm_lock(), process ? 32 : 0);
		expect_ok(ioas_unmap(s->iommu, s->ioas, 0, 8 * PAGE, NULL));
		expect_pins(before);
		charge_close(&charge);
	}
}

/* Not pinned yet: its owner at that time will be charged. */
static void take_over_lazily(void *arg)
{
	struct charge *charge = arg;

	expect_ok(change_process(charge->s.iommu));
	expect_eq(vm_pin(), 0);
	attach(charge->s.dev, charge->s.ioas);
	expect_eq(vm_pin(), 32);
	expect_eq(vm_lock(), charge->process ? 32 : 0);
}

TEST(change_process_of_a_lazy_map)
{
	int fd = expect_ok(memfd_create("suite", 0));
	struct charge charge;
	unsigned int process;

	expect_ok(ftruncate(fd, 8 * PAGE));
	for (process = 0; process < 2; process++) {
		charge_setup(&charge, process);
		expect_ok(dev_detach(charge.s.dev));
		expect_ok(file_map(&charge.s, fd, 8 * PAGE, 0));
		in_child(take_over_lazily, &charge);
		expect_eq(vm_pin(), 0);
		charge_close(&charge);
	}
}

/* The driver is unloaded and loaded again; the context and its memory stay. */
TEST(context_outlives_the_driver)
{
	long long before = pins();
	char *va = mem(8 * PAGE);
	__u64 iova = MIB;
	struct setup s;
	__u32 hwpt;

	setup_bound(&s);
	expect_ok(hwpt_alloc(s.iommu, s.devid, s.ioas, &hwpt));
	expect_ok(ioas_map(s.iommu, s.ioas, va, 4 * PAGE, 0));
	attach(s.dev, hwpt);
	close(s.dev);
	driver_unbind(edu());

	/* Its HWPT still pins and translates the memory. */
	expect_pins(before + 4);
	expect_pas(&s, 0, va, 4 * PAGE);
	expect_ok(ioas_map(s.iommu, s.ioas, va + 4 * PAGE, 4 * PAGE, GIB));
	expect_ok(ioas_copy(s.iommu, s.ioas, s.ioas, MAP_FIXED_RW, 2 * PAGE,
			    &iova, PAGE));
	expect_pas(&s, GIB, va + 4 * PAGE, 4 * PAGE);
	expect_pas(&s, MIB, va + PAGE, 2 * PAGE);
	expect_ok(ioas_unmap(s.iommu, s.ioas, 0, 4 * PAGE, NULL));
	expect_pins(before + 6);
	expect_errno(object_destroy(s.iommu, s.devid), ENOENT);

	driver_bind(edu());
	s.dev = cdev_open(edu());
	expect_ok(dev_bind(s.dev, s.iommu, &s.devid));
	attach(s.dev, hwpt);
	expect_pas(&s, MIB, va + PAGE, 2 * PAGE);
	close(s.dev);
	driver_unbind(edu());
	/* The HWPT was the last user of the memory. */
	expect_ok(object_destroy(s.iommu, hwpt));
	expect_pins(before);
	close(s.iommu);
	driver_bind(edu());
}

/* Whatever goes first, memory is pinned as long as the device exists. */
TEST(closed_in_any_order)
{
	static const unsigned char orders[][3] = {
		{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 },
		{ 2, 0, 1 }, { 2, 1, 0 },
	};
	long long before = pins();
	char *va = mem(4 * PAGE);
	unsigned int i, k;

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		struct iommu_fault_alloc fault = { .size = sizeof(fault) };
		bool open = true;
		struct setup s;
		int fds[3];

		setup_attached(&s);
		expect_ok(ioas_map(s.iommu, s.ioas, va, 4 * PAGE, 0));
		expect_ok(ioctl(s.iommu, IOMMU_FAULT_QUEUE_ALLOC, &fault));
		fds[0] = s.dev;
		fds[1] = s.iommu;
		fds[2] = fault.out_fault_fd;
		for (k = 0; k < 3; k++) {
			close(fds[orders[i][k]]);
			open &= orders[i][k] != 0;
			expect_pins(before + (open ? 4 : 0));
			expect_eq(vm_pin(), open ? 16 : 0);
		}
	}
}

/* Driver unbind */

static void unbind_edu(void *arg)
{
	(void)arg;
	driver_unbind(edu());
}

TEST(unbind_while_open)
{
	struct {
		struct vfio_irq_set set;
		__s32 fd;
	} irq = {
		.set = {
			.argsz = sizeof(irq),
			.flags = VFIO_IRQ_SET_DATA_EVENTFD |
				 VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_REQ_IRQ_INDEX, .count = 1,
		},
	};
	long long before = pins();
	struct pollfd request;
	char path[128];
	struct setup s;
	double end;
	pid_t pid;

	cdev_path(edu(), path, sizeof(path));
	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(8 * PAGE), 8 * PAGE, 0));
	irq.fd = expect_ok(eventfd(0, 0));
	expect_ok(ioctl(s.dev, VFIO_DEVICE_SET_IRQS, &irq));
	/* The unbinding process must not have the files itself. */
	expect_ok(fcntl(s.dev, F_SETFD, FD_CLOEXEC));
	pid = expect_ok(fork());
	if (!pid) {
		close(s.dev);
		close(s.iommu);
		unbind_edu(NULL);
		_exit(0);
	}

	/* The program is asked to close the device; the node goes at once. */
	request.fd = irq.fd;
	request.events = POLLIN;
	expect_eq(poll(&request, 1, 5000), 1);
	end = now() + 2;
	while (!access(path, F_OK) && now() < end)
		sleep_ms(10);
	expect_errno(access(path, F_OK), ENOENT);

	/* Open files keep working, and unbind waits. */
	sleep_ms(200);
	expect_eq(waitpid(pid, NULL, WNOHANG), 0);
	expect(pa_of(s.iommu, s.ioas, 0) != 0);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, MIB));
	expect_eq(attach(s.dev, s.ioas), s.hwpt);
	expect_pins(before + 9);

	close(s.dev);
	join(pid);
	expect(!driver_has(edu()));
	expect_pins(before);
	driver_bind(edu());
}

/* Threads over one IOAS: every answer is right or ENOENT. */

struct racer {
	const struct setup *s;
	char *va;
	__u64 pa;
	double end;
};

#define RACERS	4

static void *map_and_unmap(void *arg)
{
	struct racer *r = arg;
	__u64 iova = GIB + (r->va - (char *)0) % GIB;

	while (now() < r->end) {
		expect_ok(ioas_map(r->s->iommu, r->s->ioas, r->va, PAGE, iova));
		expect_eq(pa_of(r->s->iommu, r->s->ioas, iova), r->pa);
		expect_ok(ioas_unmap(r->s->iommu, r->s->ioas, iova, PAGE, NULL));
	}
	return NULL;
}

static void *translate(void *arg)
{
	struct racer *r = arg;
	__u64 iova = GIB + (r->va - (char *)0) % GIB;
	unsigned long found = 0;

	while (now() < r->end) {
		__u64 length = U64_MAX, pa;

		if (get_pa(r->s->iommu, r->s->ioas, iova, &length, &pa)) {
			expect_eq(errno, ENOENT);
			continue;
		}
		expect_eq(pa, r->pa);
		expect_eq(length, PAGE);
		found++;
	}
	return (void *)found;
}

TEST(threads)
{
	long long before = pins();
	pthread_t threads[2 * RACERS];
	struct racer racers[RACERS];
	struct setup s;
	int i;

	setup_attached(&s);
	for (i = 0; i < RACERS; i++) {
		struct racer *r = &racers[i];

		r->s = &s;
		r->va = mem(PAGE);
		r->pa = pagemap_pa(r->va);
		r->end = now() + 2;
	}
	for (i = 0; i < RACERS; i++) {
		expect_eq(pthread_create(&threads[2 * i], NULL, map_and_unmap,
					 &racers[i]), 0);
		expect_eq(pthread_create(&threads[2 * i + 1], NULL, translate,
					 &racers[i]), 0);
	}
	for (i = 0; i < 2 * RACERS; i++)
		expect_eq(pthread_join(threads[i], NULL), 0);
	expect_pins(before);
	expect_eq(vm_pin(), 0);
}
