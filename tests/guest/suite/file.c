// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory of files: MAP_FILE, and CHANGE_PROCESS, which hands it over. And the rest
 * of an iommufd: fault queues, VFIO's type1 ioctls, and the errnos of the ioctls
 * that need an IOMMU.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <linux/io_uring.h>
#include <linux/vfio.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <noiommufd/iommufd.h>

#include "harness.h"

#define PAGE	4096ULL
#define HUGE	(2ULL << 20)
#define BASE	0x100000000ULL
#define RW	(IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)
#define FIXED	IOMMU_IOAS_MAP_FIXED_IOVA

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4
#endif

static int map_file(const struct setup *s, __u32 flags, int fd, __u64 start,
		    __u64 length, __u64 iova)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map), .flags = flags | FIXED, .ioas_id = s->ioas,
		.fd = fd, .start = start, .length = length, .iova = iova,
	};

	return ioctl(s->iommu, IOMMU_IOAS_MAP_FILE, &map);
}

static int unmap(const struct setup *s, __u64 iova, __u64 length)
{
	__u64 done;

	return ioas_unmap(s->iommu, s->ioas, iova, length, &done);
}

static int new_memfd(__u64 size, unsigned int flags)
{
	int fd = expect_ok(memfd_create("suite", flags));

	expect_ok(ftruncate(fd, size));
	return fd;
}

/* Each page is the one that a process sees in the file. */
static void expect_file_at(const struct setup *s, int fd, __u64 start,
			   __u64 length, __u64 iova)
{
	/* hugetlbfs files consist of whole huge pages. */
	__u64 size = (start + length + HUGE - 1) & ~(HUGE - 1);
	char *va = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

	expect(va != MAP_FAILED);
	for (__u64 i = 0; i < start + length; i += PAGE)
		expect(!va[i]);
	expect_pas(s, iova, va + start, length);
	expect_ok(munmap(va, size));
}

TEST(file_memfd)
{
	const __u64 size = 64 * PAGE;
	long long before = pins();
	struct setup s;
	int fd;

	setup_attached(&s);
	/* Never written, in part, and from the middle. */
	fd = new_memfd(size, 0);
	expect_ok(map_file(&s, RW, fd, 0, size, BASE));
	expect_ok(map_file(&s, RW, fd, 3 * PAGE, 5 * PAGE, 2 * BASE));
	expect_eq(vm_pin(), (size + 5 * PAGE) / 1024);
	expect_file_at(&s, fd, 0, size, BASE);
	expect_file_at(&s, fd, 3 * PAGE, 5 * PAGE, 2 * BASE);
	/* The file may be closed, and be truncated. */
	expect_ok(ftruncate(fd, 0));
	expect_ok(close(fd));
	expect(pa_of(s.iommu, s.ioas, BASE + size - PAGE));
	expect_ok(unmap(&s, BASE, size));
	expect_ok(unmap(&s, 2 * BASE, 5 * PAGE));
	expect_eq(vm_pin(), 0);
	expect_pins(before);
}

TEST(file_large)
{
	const __u64 size = 80 << 20;
	long long before = pins();
	struct setup s;
	int fd;

	setup_attached(&s);
	fd = new_memfd(size, 0);
	expect_ok(map_file(&s, RW, fd, PAGE, size - PAGE, BASE));
	expect_file_at(&s, fd, PAGE, size - PAGE, BASE);
	expect_ok(unmap(&s, BASE, size - PAGE));
	expect_pins(before);
}

TEST(file_hugetlb)
{
	long long before = pins(), reserved;
	struct setup s;
	int fd;

	huge_pages(4);
	reserved = read_field("/proc/meminfo", "HugePages_Rsvd");
	setup_attached(&s);
	fd = new_memfd(4 * HUGE, MFD_HUGETLB);
	expect_ok(map_file(&s, RW, fd, 0, 4 * HUGE, BASE));
	expect_file_at(&s, fd, 0, 4 * HUGE, BASE);
	/* From the middle of one to the middle of another. */
	expect_ok(map_file(&s, RW, fd, HUGE + 7 * PAGE, HUGE, 2 * BASE));
	expect_file_at(&s, fd, HUGE + 7 * PAGE, HUGE, 2 * BASE);
	expect_ok(unmap(&s, BASE, 4 * HUGE));
	expect_file_at(&s, fd, HUGE + 7 * PAGE, HUGE, 2 * BASE);
	expect_ok(unmap(&s, 2 * BASE, HUGE));
	expect_pins(before);
	/* Huge pages that were reserved for others still are. */
	expect_ok(close(fd));
	expect_eq(read_field("/proc/meminfo", "HugePages_Rsvd"), reserved);
}

TEST(file_lazy)
{
	long long before = pins();
	struct setup s;
	__u32 hwpt;
	int fd, no_memory;

	setup_bound(&s);
	fd = new_memfd(4 * PAGE, 0);
	expect_ok(map_file(&s, RW, fd, 0, 4 * PAGE, BASE));
	expect_pins(before);
	/* Another kind of file is reported when it is to be pinned. */
	no_memory = expect_ok(open("/sys/devices/system/cpu/online", O_RDONLY));
	expect_ok(map_file(&s, IOMMU_IOAS_MAP_READABLE, no_memory, 0, PAGE,
			   2 * BASE));
	hwpt = s.ioas;
	expect_errno(dev_attach(s.dev, &hwpt), EINVAL);
	expect_pins(before);
	expect_ok(unmap(&s, 2 * BASE, PAGE));
	attach(s.dev, s.ioas);
	expect_file_at(&s, fd, 0, 4 * PAGE, BASE);
	expect_errno(map_file(&s, IOMMU_IOAS_MAP_READABLE, no_memory, 0, PAGE,
			      2 * BASE), EINVAL);
	expect_ok(unmap(&s, BASE, 4 * PAGE));
	expect_pins(before);
}

TEST(file_errors)
{
	long long before = pins();
	struct setup s;
	int fd;

	setup_attached(&s);
	fd = new_memfd(4 * PAGE, 0);
	expect_errno(map_file(&s, RW, -1, 0, PAGE, BASE), EBADF);
	expect_errno(map_file(&s, RW, 1000, 0, PAGE, BASE), EBADF);
	expect_errno(map_file(&s, RW, fd, 0, 0, BASE), EINVAL);
	expect_errno(map_file(&s, 0, fd, 0, PAGE, BASE), EINVAL);
	expect_errno(map_file(&s, RW | 1 << 10, fd, 0, PAGE, BASE),
		     EOPNOTSUPP);
	expect_errno(map_file(&s, RW, fd, 0, -1ULL, BASE), EOVERFLOW);
	expect_errno(map_file(&s, RW, fd, 0, PAGE, -1ULL), EOVERFLOW);
	expect_errno(map_file(&s, RW, fd, -1ULL, PAGE, BASE), EOVERFLOW);
	/* Beyond the end of the file, and at an impossible offset. */
	expect_errno(map_file(&s, RW, fd, 0, 5 * PAGE, BASE), EINVAL);
	expect_errno(map_file(&s, RW, fd, 4 * PAGE, PAGE, BASE), EINVAL);
	expect_errno(map_file(&s, RW, fd, 1ULL << 63, PAGE, BASE), EINVAL);
	expect_errno(map_file(&s, RW, fd, 8, PAGE, BASE), EINVAL);
	expect_errno(map_file(&s, RW, s.iommu, 0, PAGE, BASE), EINVAL);
	expect_pins(before);
	expect_eq(vm_pin(), 0);
	expect_ok(map_file(&s, RW, fd, 0, PAGE, BASE));
	expect_errno(map_file(&s, RW, fd, 0, PAGE, BASE), EEXIST);
}

/* Files that lead back to the context, and so to their own mapping */
static int fd_in_flight(int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {}, byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int pair[2];

	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	expect_eq(sendmsg(pair[0], &msg, 0), 1);
	return pair[1];
}

static int fault_queue_fd(int iommu)
{
	struct iommu_fault_alloc alloc = { .size = sizeof(alloc) };

	expect_ok(ioctl(iommu, IOMMU_FAULT_QUEUE_ALLOC, &alloc));
	return alloc.out_fault_fd;
}

/* An epoll, if the kernel has no io_uring. */
static int io_uring_with(int fd)
{
	struct io_uring_params params = {};
	int ring = syscall(SYS_io_uring_setup, 4, &params);

	if (ring < 0)
		return expect_ok(syscall(SYS_epoll_create1, 0));
	expect_ok(syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES,
			  &fd, 1));
	return ring;
}

enum loop { LOOP_DEVICE, LOOP_IOMMUFD, LOOP_QUEUE, LOOP_SOCKET, LOOP_RING, LOOPS };

static int loop_fd(const struct setup *s, enum loop loop)
{
	switch (loop) {
	case LOOP_DEVICE:
		return s->dev;
	case LOOP_IOMMUFD:
		return s->iommu;
	case LOOP_QUEUE:
		return fault_queue_fd(s->iommu);
	case LOOP_SOCKET:
		return fd_in_flight(s->dev);
	default:
		return io_uring_with(s->dev);
	}
}

struct loop_call {
	enum loop loop;
	int said[2];
};

/* Map such a file while nothing is pinned, and die. */
static void map_a_loop(void *arg)
{
	struct loop_call *call = arg;
	__u32 hwpt, pt, attached;
	struct setup s;
	__u64 iova;
	int fd;

	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(64 * PAGE), 64 * PAGE, GIB));
	/* A manual HWPT, which outlives the device. */
	expect_ok(hwpt_alloc(s.iommu, s.devid, s.ioas, &hwpt));
	fd = loop_fd(&s, call->loop);
	attached = s.ioas;
	s.ioas = new_ioas(s.iommu);
	expect_ok(map_file(&s, RW, fd, 0, PAGE, BASE));
	/* It is reported as soon as it has to be pinned. */
	pt = s.ioas;
	expect_errno(dev_attach(s.dev, &pt), EINVAL);
	expect_errno(hwpt_alloc(s.iommu, s.devid, s.ioas, &hwpt), EINVAL);
	iova = BASE;
	expect_errno(ioas_copy(s.iommu, attached, s.ioas, MAP_FIXED_RW, PAGE,
			       &iova, BASE), EINVAL);
	bus_master(s.dev, true);
	expect_eq(write(call->said[1], "m", 1), 1);
	pause();
}

TEST_LIMIT(file_that_leads_back, 120)
{
	long long before;
	struct loop_call call;
	struct setup s;
	double start;
	pid_t pid;
	char said;

	skip_on_mainline("it keeps any file");
	edu();
	before = pins();
	for (call.loop = 0; call.loop < LOOPS; call.loop++) {
		expect_ok(pipe(call.said));
		pid = spawn(map_a_loop, &call);
		close(call.said[1]);
		/* It ends silently when it fails. */
		if (read(call.said[0], &said, 1) != 1)
			join(pid);
		close(call.said[0]);
		start = now();
		expect_ok(kill(pid, SIGKILL));
		expect_eq(waitpid(pid, NULL, 0), pid);
		expect_pins(before);
		/* The device is free; setup_bound() fails if it is not. */
		setup_bound(&s);
		expect(now() - start < 4.0 * slow());
		expect_ok(close(s.dev));
		expect_ok(close(s.iommu));
	}
}

/* What another thread does to the file, or to the address space, meanwhile */
struct meddler {
	void (*once)(struct meddler *meddler);
	pthread_t thread;
	bool stop;
	int fd;
	__u64 size;
	void *va;
};

static void *meddle(void *arg)
{
	struct meddler *meddler = arg;

	while (!flag(&meddler->stop))
		meddler->once(meddler);
	return NULL;
}

static void punch_a_hole(struct meddler *meddler)
{
	expect_ok(fallocate(meddler->fd,
			    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			    HUGE));
	usleep(rand() % 2000);
}

/*
 * Put another mapping where the next mapping of the file goes. It is not touched,
 * because the owner of a mapping there may unmap this one.
 */
static void map_over(struct meddler *meddler)
{
	if (!meddler->va)
		meddler->va = mmap(NULL, meddler->size, PROT_READ, MAP_SHARED,
				   meddler->fd, 0);
	else
		mmap(meddler->va, meddler->size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	munmap(meddler->va, meddler->size);
}

/*
 * Map the file again and again while another thread changes things. Each time it
 * fails and leaves nothing, or the first HUGE bytes translate to the file's pages.
 */
static void map_beside(struct meddler *meddler, char *va, double seconds,
		       int may_fail_with)
{
	unsigned long maps = 0, failed = 0;
	long long before;
	struct setup s;
	double end;

	setup_attached(&s);
	before = pins();
	expect_eq(pthread_create(&meddler->thread, NULL, meddle, meddler), 0);
	for (end = now() + seconds; now() < end;) {
		__u64 length = PAGE, pa, at = HUGE + 64 * PAGE;

		if (map_file(&s, RW, meddler->fd, 0, meddler->size, BASE)) {
			expect_eq(errno, may_fail_with);
			failed++;
			continue;
		}
		maps++;
		expect_ok(get_pa(s.iommu, s.ioas, BASE + at, &length, &pa));
		expect_eq(pa, pagemap_pa(va + at));
		/* The whole file translates: no run is empty, and none is missing. */
		for (at = 0; at < meddler->size; at += length) {
			length = meddler->size - at;
			expect_ok(get_pa(s.iommu, s.ioas, BASE + at, &length,
					 &pa));
			expect(length && !(length % PAGE));
		}
		expect_ok(unmap(&s, BASE, meddler->size));
	}
	set_flag(&meddler->stop);
	expect_eq(pthread_join(meddler->thread, NULL), 0);
	printf("# %lu mapped, %lu failed\n", maps, failed);
	expect(maps > 0);
	expect_pins(before);
}

TEST_LIMIT(file_hole_punched_meanwhile, 90)
{
	struct meddler meddler = { .once = punch_a_hole, .size = 3 * HUGE };
	char *va;

	mkdir("/tmp/huge", 0700);
	if (mount("none", "/tmp/huge", "tmpfs", 0, "huge=always,size=64m"))
		test_skip("tmpfs has no huge pages here");
	meddler.fd = expect_ok(open("/tmp/huge/f", O_RDWR | O_CREAT, 0600));
	expect_ok(unlink("/tmp/huge/f"));
	expect_ok(umount2("/tmp/huge", MNT_DETACH));
	expect_ok(ftruncate(meddler.fd, meddler.size));
	va = mmap(NULL, meddler.size, PROT_READ | PROT_WRITE, MAP_SHARED,
		  meddler.fd, 0);
	expect(va != MAP_FAILED);
	for (__u64 i = HUGE; i < meddler.size; i += PAGE)
		va[i] = 1;
	map_beside(&meddler, va, 20, EFAULT);
}

/* Before 6.17 the file is mapped into the caller for a moment. */
TEST_LIMIT(file_hugetlb_mapped_over_meanwhile, 60)
{
	struct meddler meddler = { .once = map_over, .size = 3 * HUGE };
	char *va;

	huge_pages(8);
	meddler.fd = new_memfd(meddler.size, MFD_HUGETLB);
	va = mmap(NULL, meddler.size, PROT_READ | PROT_WRITE, MAP_SHARED,
		  meddler.fd, 0);
	expect(va != MAP_FAILED);
	for (__u64 i = 0; i < meddler.size; i += PAGE)
		va[i] = 1;
	map_beside(&meddler, va, 10, EFAULT);
}

TEST(file_write_access)
{
	struct setup s;
	char path[64];
	int fd, ro, seals;

	skip_on_mainline("MAP_FILE ignores the mode of the file and its seals");
	setup_attached(&s);
	fd = new_memfd(4 * PAGE, MFD_ALLOW_SEALING);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = expect_ok(open(path, O_RDONLY));
	expect_errno(map_file(&s, RW, ro, 0, PAGE, BASE), EACCES);
	expect_ok(map_file(&s, IOMMU_IOAS_MAP_READABLE, ro, 0, PAGE, BASE));
	/* Memory that is pinned for writing cannot be sealed. */
	expect_ok(map_file(&s, RW, fd, 0, PAGE, 2 * BASE));
	expect_errno(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
	expect_ok(unmap(&s, 2 * BASE, PAGE));
	expect_ok(unmap(&s, BASE, PAGE));
	for (seals = 0; seals < 2; seals++) {
		fd = new_memfd(4 * PAGE, MFD_ALLOW_SEALING);
		expect_ok(fcntl(fd, F_ADD_SEALS, seals ? F_SEAL_FUTURE_WRITE :
							 F_SEAL_WRITE));
		expect_errno(map_file(&s, RW, fd, 0, PAGE, BASE), EPERM);
		expect_ok(map_file(&s, IOMMU_IOAS_MAP_READABLE, fd, 0, PAGE,
				   BASE));
		/* Before Linux 6.7 no file open for writing is mapped when sealed. */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		ro = expect_ok(open(path, O_RDONLY));
		expect_file_at(&s, ro, 0, PAGE, BASE);
		expect_ok(unmap(&s, BASE, PAGE));
	}
}

/* Sealed between a lazy MAP and the ATTACH that would pin it. */
TEST(file_sealed_before_attach)
{
	struct setup s;
	__u32 hwpt;
	int fd;

	skip_on_mainline("MAP_FILE ignores the mode of the file and its seals");
	setup_bound(&s);
	fd = new_memfd(4 * PAGE, MFD_ALLOW_SEALING);
	expect_ok(map_file(&s, RW, fd, 0, PAGE, BASE));
	expect_ok(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	hwpt = s.ioas;
	expect_errno(dev_attach(s.dev, &hwpt), EPERM);
}

TEST(file_limit)
{
	struct setup s;
	int fd;

	setup_attached(&s);
	fd = new_memfd(4 * PAGE, 0);
	drop_cap(CAP_IPC_LOCK);
	set_memlock(3 * PAGE);
	expect_errno(map_file(&s, RW, fd, 0, 4 * PAGE, BASE), ENOMEM);
	expect_ok(map_file(&s, RW, fd, 0, 3 * PAGE, BASE));
	expect_errno(map_file(&s, RW, fd, 0, PAGE, 2 * BASE), ENOMEM);
	expect_ok(unmap(&s, BASE, 3 * PAGE));
	expect_ok(map_file(&s, RW, fd, PAGE, 3 * PAGE, BASE));
}

/* Memory that another process maps and charges. */

static int change_process(int iommu)
{
	struct iommu_ioas_change_process change = { .size = sizeof(change) };

	return ioctl(iommu, IOMMU_IOAS_CHANGE_PROCESS, &change);
}

static void take_over(void *arg)
{
	struct setup *s = arg;

	expect_eq(vm_pin(), 0);
	expect_ok(change_process(s->iommu));
	expect_eq(vm_pin(), 8 * PAGE / 1024);
	/* The second time changes nothing. */
	expect_ok(change_process(s->iommu));
	expect_eq(vm_pin(), 8 * PAGE / 1024);
}

static void cannot_take_over(void *arg)
{
	struct setup *s = arg;

	drop_cap(CAP_IPC_LOCK);
	set_memlock(0);
	expect_errno(change_process(s->iommu), ENOMEM);
	expect_eq(vm_pin(), 0);
}

TEST(change_process)
{
	struct iommu_ioas_change_process change = {
		.size = sizeof(change), .__reserved = 1,
	};
	long long before = pins();
	struct setup s;
	__u64 iova = 2 * BASE;
	__u32 other;
	int fd;

	setup_attached(&s);
	expect_ok(change_process(s.iommu));
	expect_errno(ioctl(s.iommu, IOMMU_IOAS_CHANGE_PROCESS, &change),
		     EOPNOTSUPP);
	fd = new_memfd(8 * PAGE, 0);
	expect_ok(map_file(&s, RW, fd, 0, 8 * PAGE, BASE));
	/* Shared pages are charged once, in two address spaces. */
	other = new_ioas(s.iommu);
	expect_ok(ioas_copy(s.iommu, other, s.ioas, RW | FIXED, 4 * PAGE, &iova,
			    BASE));
	expect_eq(vm_pin(), 8 * PAGE / 1024);
	in_child(take_over, &s);
	/* That process is gone, and the charge with it. */
	expect_eq(vm_pin(), 0);
	expect_ok(change_process(s.iommu));
	expect_eq(vm_pin(), 8 * PAGE / 1024);
	/* Memory of a process cannot be handed over. */
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, 3 * BASE));
	expect_errno(change_process(s.iommu), EINVAL);
	expect_ok(unmap(&s, 3 * BASE, PAGE));
	expect_ok(unmap(&s, BASE, 8 * PAGE));
	expect_ok(object_destroy(s.iommu, other));
	expect_eq(vm_pin(), 0);
	expect_pins(before);
}

TEST(change_process_over_the_limit)
{
	struct setup s;
	int fd;

	setup_attached(&s);
	drop_cap(CAP_IPC_LOCK);
	set_memlock(16 * PAGE);
	fd = new_memfd(8 * PAGE, 0);
	expect_ok(map_file(&s, RW, fd, 0, 4 * PAGE, BASE));
	expect_ok(map_file(&s, RW, fd, 4 * PAGE, 4 * PAGE, 2 * BASE));
	in_child(cannot_take_over, &s);
	expect_eq(vm_pin(), 8 * PAGE / 1024);
	/* As much as before can still be mapped. */
	expect_ok(ioas_map(s.iommu, s.ioas, mem(8 * PAGE), 8 * PAGE, 3 * BASE));
	expect_errno(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, 4 * BASE),
		     ENOMEM);
}

TEST(fault_queue)
{
	struct iommu_fault_alloc alloc = { .size = sizeof(alloc), .flags = 1 };
	struct iommu_hwpt_alloc hwpt = {
		.size = sizeof(hwpt), .flags = IOMMU_HWPT_FAULT_ID_VALID,
	};
	struct iommu_hwpt_page_response response = { .cookie = 1 };
	struct iommu_hwpt_pgfault fault;
	struct pollfd poll_fd = { .events = POLLIN | POLLOUT };
	struct setup s;
	int fd;

	setup_bound(&s);
	expect_errno(ioctl(s.iommu, IOMMU_FAULT_QUEUE_ALLOC, &alloc),
		     EOPNOTSUPP);
	alloc.flags = 0;
	expect_ok(ioctl(s.iommu, IOMMU_FAULT_QUEUE_ALLOC, &alloc));
	fd = alloc.out_fault_fd;
	expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	expect_eq(read(fd, &fault, sizeof(fault)), 0);
	expect_errno(read(fd, &fault, 5), ESPIPE);
	expect_errno(write(fd, &response, sizeof(response)), EINVAL);
	expect_errno(write(fd, &response, 5), ESPIPE);
	poll_fd.fd = fd;
	expect_eq(poll(&poll_fd, 1, 0), 1);
	expect_eq(poll_fd.revents, POLLOUT);

	hwpt.dev_id = s.devid;
	hwpt.pt_id = s.ioas;
	hwpt.fault_id = s.ioas;
	expect_errno(ioctl(s.iommu, IOMMU_HWPT_ALLOC, &hwpt), ENOENT);
	hwpt.fault_id = alloc.out_fault_id;
	expect_ok(ioctl(s.iommu, IOMMU_HWPT_ALLOC, &hwpt));
	attach(s.dev, hwpt.out_hwpt_id);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, BASE));
	expect(pa_of(s.iommu, s.ioas, BASE));
	expect_errno(object_destroy(s.iommu, alloc.out_fault_id), EBUSY);
	expect_ok(dev_detach(s.dev));
	expect_ok(object_destroy(s.iommu, hwpt.out_hwpt_id));
	expect_errno(object_destroy(s.iommu, alloc.out_fault_id), EBUSY);
	expect_ok(close(fd));
	expect_ok(object_destroy(s.iommu, alloc.out_fault_id));
}

/* The context goes with its last file, which may be the queue's. */
TEST(fault_queue_outlives_the_iommufd)
{
	struct iommu_fault_alloc alloc = { .size = sizeof(alloc) };
	struct iommu_hwpt_pgfault fault;
	int iommu = iommu_open();

	expect_ok(ioctl(iommu, IOMMU_FAULT_QUEUE_ALLOC, &alloc));
	expect_ok(close(iommu));
	expect_eq(read(alloc.out_fault_fd, &fault, sizeof(fault)), 0);
	expect_ok(close(alloc.out_fault_fd));
}

/* VFIO's type1 ioctls */

static int vfio_ioas(int iommu, __u16 op, __u32 *ioas)
{
	struct iommu_vfio_ioas cmd = {
		.size = sizeof(cmd), .op = op, .ioas_id = *ioas,
	};
	int rc = ioctl(iommu, IOMMU_VFIO_IOAS, &cmd);

	*ioas = cmd.ioas_id;
	return rc;
}

static int map_dma(const struct setup *s, void *va, __u64 size, __u64 iova)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (unsigned long)va, .iova = iova, .size = size,
	};

	return ioctl(s->iommu, VFIO_IOMMU_MAP_DMA, &map);
}

static int unmap_dma(const struct setup *s, __u32 flags, __u64 iova,
		     __u64 *size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .flags = flags, .iova = iova,
		.size = *size,
	};
	int rc = ioctl(s->iommu, VFIO_IOMMU_UNMAP_DMA, &unmap);

	*size = unmap.size;
	return rc;
}

TEST(vfio_ioas)
{
	struct setup s;
	__u32 id = 0;

	setup_bound(&s);
	expect_errno(vfio_ioas(s.iommu, IOMMU_VFIO_IOAS_GET, &id), ENODEV);
	expect_errno(vfio_ioas(s.iommu, 7, &id), EOPNOTSUPP);
	expect_errno(vfio_ioas(s.iommu, IOMMU_VFIO_IOAS_SET, &s.devid), ENOENT);
	expect_errno(map_dma(&s, mem(PAGE), PAGE, BASE), ENODEV);
	expect_ok(vfio_ioas(s.iommu, IOMMU_VFIO_IOAS_SET, &s.ioas));
	expect_ok(vfio_ioas(s.iommu, IOMMU_VFIO_IOAS_GET, &id));
	expect_eq(id, s.ioas);
	expect_ok(vfio_ioas(s.iommu, IOMMU_VFIO_IOAS_CLEAR, &id));
	expect_errno(vfio_ioas(s.iommu, IOMMU_VFIO_IOAS_GET, &id), ENODEV);
	/* It does not count as a user of the IOAS. */
	expect_ok(vfio_ioas(s.iommu, IOMMU_VFIO_IOAS_SET, &s.ioas));
	expect_ok(object_destroy(s.iommu, s.ioas));
	expect_errno(vfio_ioas(s.iommu, IOMMU_VFIO_IOAS_GET, &id), ENODEV);
}

TEST(type1)
{
	struct {
		struct vfio_iommu_type1_info info;
		char caps[256];
	} info = { .info.argsz = sizeof(info) };
	long long before = pins();
	struct setup s;
	__u64 size, page;
	char *va;

	setup_attached(&s);
	expect_eq(ioctl(s.iommu, VFIO_GET_API_VERSION), VFIO_API_VERSION);
	expect_errno(ioctl(s.iommu, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), ENODEV);
	expect_eq(ioctl(s.iommu, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU), 1);
	expect_eq(ioctl(s.iommu, VFIO_CHECK_EXTENSION, VFIO_SPAPR_TCE_IOMMU),
		  0);
	expect_errno(ioctl(s.iommu, VFIO_IOMMU_GET_INFO, &info), ENODEV);
	expect_ok(vfio_ioas(s.iommu, IOMMU_VFIO_IOAS_SET, &s.ioas));
	expect_ok(ioctl(s.iommu, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	expect_errno(ioctl(s.iommu, VFIO_SET_IOMMU, VFIO_SPAPR_TCE_IOMMU),
		     EINVAL);
	expect_ok(ioctl(s.iommu, VFIO_IOMMU_GET_INFO, &info));
	/* The kernel's page is the smallest. */
	page = sysconf(_SC_PAGESIZE);
	expect_eq(info.info.iova_pgsizes & (2 * page - 1), page);
	expect(info.info.flags & VFIO_IOMMU_INFO_CAPS);
	expect(info.info.cap_offset);

	va = mem(4 * PAGE);
	expect_ok(map_dma(&s, va, 4 * PAGE, BASE));
	expect_errno(map_dma(&s, va, 4 * PAGE, BASE), EEXIST);
	expect_pas(&s, BASE, va, 4 * PAGE);
	size = PAGE;
	expect_errno(unmap_dma(&s, 0, BASE, &size), ENOENT);
	size = 4 * PAGE;
	expect_ok(unmap_dma(&s, 0, BASE, &size));
	expect_eq(size, 4 * PAGE);
	/* It is no error if nothing is mapped. */
	expect_ok(unmap_dma(&s, 0, BASE, &size));
	expect_eq(size, 0);
	expect_ok(map_dma(&s, va, 4 * PAGE, BASE));
	size = PAGE;
	expect_errno(unmap_dma(&s, VFIO_DMA_UNMAP_FLAG_ALL, 0, &size), EINVAL);
	size = 0;
	expect_ok(unmap_dma(&s, VFIO_DMA_UNMAP_FLAG_ALL, 0, &size));
	expect_eq(size, 4 * PAGE);
	expect_pins(before);
}

/* Version 1 unmaps parts of mappings. */
TEST(type1_v1)
{
	long long before = pins();
	struct setup s;
	__u64 size;
	char *va;

	setup_bound(&s);
	expect_ok(vfio_ioas(s.iommu, IOMMU_VFIO_IOAS_SET, &s.ioas));
	expect_ok(ioctl(s.iommu, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU));
	attach(s.dev, s.ioas);
	va = mem(8 * PAGE);
	expect_ok(map_dma(&s, va, 8 * PAGE, BASE));
	size = 2 * PAGE;
	expect_ok(unmap_dma(&s, 0, BASE + 3 * PAGE, &size));
	expect_eq(size, 2 * PAGE);
	expect_eq(vm_pin(), 6 * PAGE / 1024);
	expect_pas(&s, BASE, va, 3 * PAGE);
	expect_pas(&s, BASE + 5 * PAGE, va + 5 * PAGE, 3 * PAGE);
	size = 8 * PAGE;
	expect_ok(unmap_dma(&s, 0, BASE, &size));
	expect_eq(size, 6 * PAGE);
	expect_pins(before);
	expect_eq(vm_pin(), 0);
}

/* Ioctls that need an IOMMU */
/* A page of a mapping that is cut, again and again, beside it */
struct cut {
	struct setup s;
	__u32 source;
	bool stop;
	unsigned long looks, gone;
};

#define CUT_PAGES	64

static void *look_at_the_first_page(void *arg)
{
	struct cut *cut = arg;
	__u64 length, pa;

	while (!flag(&cut->stop)) {
		length = PAGE;
		cut->looks++;
		if (get_pa(cut->s.iommu, cut->s.ioas, BASE, &length, &pa))
			cut->gone++;
	}
	return NULL;
}

static int unmap_dma_page(const struct setup *s, __u64 iova)
{
	__u64 size = PAGE;

	return unmap_dma(s, 0, iova, &size);
}

static void setup_v1(struct setup *s)
{
	setup_bound(s);
	expect_ok(vfio_ioas(s->iommu, IOMMU_VFIO_IOAS_SET, &s->ioas));
	expect_ok(ioctl(s->iommu, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU));
	attach(s->dev, s->ioas);
}

TEST_LIMIT(type1_cut_and_translated, 60)
{
	char *va = mem(CUT_PAGES * PAGE);
	struct cut cut = {};
	pthread_t looker;
	double end;
	int i;

	setup_v1(&cut.s);
	for (end = now() + 10; now() < end;) {
		cut.stop = false;
		expect_ok(map_dma(&cut.s, va, CUT_PAGES * PAGE, BASE));
		expect_eq(pthread_create(&looker, NULL, look_at_the_first_page,
					 &cut), 0);
		for (i = CUT_PAGES - 1; i; i--)
			expect_ok(unmap_dma_page(&cut.s, BASE + i * PAGE));
		set_flag(&cut.stop);
		expect_eq(pthread_join(looker, NULL), 0);
		expect_ok(unmap_dma_page(&cut.s, BASE));
	}
	printf("# %lu looks\n", cut.looks);
	expect(cut.looks > 0);
	expect_eq(cut.gone, 0);
}

static void *copy_what_stalls(void *arg)
{
	struct cut *cut = arg;
	__u64 iova = 2 * BASE;

	expect_ok(ioas_copy(cut->s.iommu, cut->s.ioas, cut->source, FIXED | RW,
			    PAGE, &iova, CUT_PAGES * PAGE));
	return NULL;
}

static void cut_the_middle(void *arg)
{
	struct cut *cut = arg;

	expect_ok(unmap_dma_page(&cut->s, BASE + 32 * PAGE));
}

/* A COPY of another of these pages holds up their lock. */
TEST_LIMIT(type1_cut_while_stalled, 60)
{
	struct uffdio_zeropage zero = {};
	struct cut cut = {};
	__u64 iova, length, pa;
	pthread_t copier;
	int fd, i, killed;
	char *va;
	pid_t pid;

	setup_v1(&cut.s);
	cut.source = new_ioas(cut.s.iommu);
	va = mem_flags((CUT_PAGES + 1) * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS);
	memset(va, 1, CUT_PAGES * PAGE);
	zero.range.start = (uintptr_t)va + CUT_PAGES * PAGE;
	zero.range.len = PAGE;
	fd = userfault_open(&zero.range);
	iova = 0;
	expect_ok(ioas_map_flags(cut.s.iommu, cut.source, FIXED | RW, va,
				 (CUT_PAGES + 1) * PAGE, &iova));
	iova = BASE;
	expect_ok(ioas_copy(cut.s.iommu, cut.s.ioas, cut.source, FIXED | RW,
			    CUT_PAGES * PAGE, &iova, 0));
	expect_eq(pthread_create(&copier, NULL, copy_what_stalls, &cut), 0);
	userfault_wait(fd);

	/* A process that cuts waits, can be killed, and holds up no other. */
	for (killed = 1; killed >= 0; killed--) {
		pid = spawn(cut_the_middle, &cut);
		sleep_ms(300);
		for (i = 0; i < 50; i++) {
			length = PAGE;
			expect_ok(get_pa(cut.s.iommu, cut.s.ioas, BASE, &length,
					 &pa));
			expect_eq(pa, pagemap_pa(va));
			iova = 4 * BASE;
			expect_ok(ioas_map(cut.s.iommu, cut.s.ioas, mem(PAGE),
					   PAGE, iova));
			expect_ok(unmap(&cut.s, iova, PAGE));
		}
		if (!killed)
			break;
		expect_ok(kill(pid, SIGKILL));
		expect_eq(waitpid(pid, NULL, 0), pid);
		expect_errno(unmap(&cut.s, BASE + 32 * PAGE, PAGE), ENOENT);
	}
	expect_ok(ioctl(fd, UFFDIO_ZEROPAGE, &zero));
	expect_eq(pthread_join(copier, NULL), 0);
	join(pid);
	length = PAGE;
	expect_errno(get_pa(cut.s.iommu, cut.s.ioas, BASE + 32 * PAGE, &length,
			    &pa), ENOENT);
	expect_ok(get_pa(cut.s.iommu, cut.s.ioas, BASE + 33 * PAGE, &length,
			 &pa));
	expect_eq(pa, pagemap_pa(va + 33 * PAGE));
	expect_ok(unmap(&cut.s, 2 * BASE, PAGE));
}

TEST(no_iommu_for)
{
	struct iommu_hw_info info = { .size = sizeof(info) };
	struct iommu_hwpt_set_dirty_tracking track = { .size = sizeof(track) };
	struct iommu_hwpt_get_dirty_bitmap map = {
		.size = sizeof(map), .length = PAGE, .page_size = PAGE,
	};
	struct iommu_hwpt_invalidate inval = { .size = sizeof(inval) };
	struct iommu_viommu_alloc viommu = { .size = sizeof(viommu), .type = 1 };
	struct iommu_vdevice_alloc vdevice = { .size = sizeof(vdevice) };
	struct iommu_veventq_alloc eventq = {
		.size = sizeof(eventq), .type = 1, .veventq_depth = 1,
	};
	struct iommu_hw_queue_alloc queue = {
		.size = sizeof(queue), .type = 1, .length = 1,
	};
	struct setup s;

	setup_attached(&s);
	expect_errno(ioctl(s.iommu, IOMMU_GET_HW_INFO, &info), ENOENT);
	info.dev_id = s.devid;
	expect_errno(ioctl(s.iommu, IOMMU_GET_HW_INFO, &info), EOPNOTSUPP);
	expect_errno(ioctl(s.iommu, IOMMU_HWPT_SET_DIRTY_TRACKING, &track),
		     ENOENT);
	track.hwpt_id = s.hwpt;
	expect_errno(ioctl(s.iommu, IOMMU_HWPT_SET_DIRTY_TRACKING, &track),
		     EOPNOTSUPP);
	map.hwpt_id = s.hwpt;
	expect_errno(ioctl(s.iommu, IOMMU_HWPT_GET_DIRTY_BITMAP, &map),
		     EOPNOTSUPP);
	map.iova = 1;
	expect_errno(ioctl(s.iommu, IOMMU_HWPT_GET_DIRTY_BITMAP, &map), EINVAL);
	expect_errno(ioctl(s.iommu, IOMMU_HWPT_INVALIDATE, &inval), ENOENT);
	inval.hwpt_id = s.hwpt;
	expect_errno(ioctl(s.iommu, IOMMU_HWPT_INVALIDATE, &inval), EINVAL);
	viommu.dev_id = s.devid;
	expect_errno(ioctl(s.iommu, IOMMU_VIOMMU_ALLOC, &viommu), EOPNOTSUPP);
	expect_errno(ioctl(s.iommu, IOMMU_VDEVICE_ALLOC, &vdevice), ENOENT);
	expect_errno(ioctl(s.iommu, IOMMU_VEVENTQ_ALLOC, &eventq), ENOENT);
	expect_errno(ioctl(s.iommu, IOMMU_HW_QUEUE_ALLOC, &queue), ENOENT);
}
