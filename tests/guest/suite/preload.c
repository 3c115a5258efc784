// SPDX-License-Identifier: GPL-2.0-only
/*
 * libnoiommufd-vfio.so: VFIO's groups and containers for a program that knows
 * nothing else (group_*), and IOVAs that are physical addresses (iova_pa_*).
 * Its functions are called by their address; whether a whole program meets them in
 * their place is what group_preloaded tests.
 */
#include <dirent.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "preload.h"

static int group_status(int group)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };

	expect_ok(lib(ioctl)(group, VFIO_GROUP_GET_STATUS, &status));
	return status.flags;
}

struct group {
	int container;
	int group;
	int device;
};

static void group_setup(struct group *g, unsigned long type)
{
	g->container = container_open();
	g->group = group_open(edu());
	expect_ok(set_container(g->group, g->container));
	expect_ok(set_iommu(g->container, type));
	g->device = expect_ok(get_device(g->group, edu()));
}

/* Memory whose physical address this process knows, as DPDK's: a page of it */
static __u64 known_page(void **va)
{
	*va = mem(PAGE);
	return pagemap_pa(*va);
}

static void expect_bound(int device)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };

	expect_ok(lib(ioctl)(device, VFIO_DEVICE_GET_INFO, &info));
	expect(info.flags & VFIO_DEVICE_FLAGS_PCI);
}

/* The device reads and writes the memory at that address. */
static void expect_dma(int device, char *va, __u64 pa)
{
	void *bar = region_mmap(device, VFIO_PCI_BAR0_REGION_INDEX, PROT_READ | PROT_WRITE);

	bus_master(device, true);
	memcpy(va, "by DMA", 7);
	edu_read_from(bar, pa, 64);
	memcpy(va, "------", 7);
	edu_write_to(bar, pa, 64);
	expect(!strcmp(va, "by DMA"));
}

static bool contiguous(const char *va, size_t size)
{
	size_t done;

	for (done = PAGE; done < size; done += PAGE)
		if (pagemap_pa(va + done) != pagemap_pa(va) + done)
			return false;
	return true;
}

TEST(group_names)
{
	unsigned int number = group_number(edu());
	char path[PATH_MAX], target[PATH_MAX], name[64];
	struct stat st, node;
	ssize_t length;
	FILE *file;
	DIR *dir;

	expect(number >= 1000000);
	expect(cdev_name(edu(), name, sizeof(name)));
	snprintf(path, sizeof(path), "noiommu-vfio%u", number - 1000000);
	expect(!strcmp(name, path));

	snprintf(path, sizeof(path), SYSFS "/%s/driver", edu());
	length = expect_ok(lib(readlink)(path, target, sizeof(target) - 1));
	target[length] = 0;
	expect(!strcmp(target, "../../../bus/pci/drivers/vfio-pci"));
	/* As much as there is room for, and no more */
	memset(target, '#', sizeof(target));
	expect_eq(lib(readlink)(path, target, 5), 5);
	expect(!memcmp(target, "../..#", 6));
	/* lspci relies on the null bytes that it has put there. */
	memset(target, '#', sizeof(target));
	expect_eq(lib(readlinkat)(AT_FDCWD, path, target, sizeof(target)), length);
	expect_eq(target[length], '#');
	expect_errno(lib(readlink)(path, target, 0), EINVAL);

	/* The driver's directory, by the link, by what it contains, and by name */
	expect(lib(realpath)(path, target));
	expect(!strcmp(target, "/sys/bus/pci/drivers/vfio-pci"));
	snprintf(path, sizeof(path), SYSFS "/%s/../../../bus/pci/drivers/vfio-pci", edu());
	expect(lib(realpath)(path, target));
	expect(!strcmp(target, "/sys/bus/pci/drivers/vfio-pci"));
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/vfio-pci/%s", edu());
	expect_ok(lib(access)(path, F_OK));
	expect_errno(lib(access)("/sys/bus/pci/drivers/vfio-pcix", F_OK), ENOENT);

	/* A device of another driver is as it was. */
	snprintf(path, sizeof(path), SYSFS "/0000:00:0c.0/iommu_group");
	expect_errno(lib(readlink)(path, target, sizeof(target)), ENOENT);
	expect_errno(lib(access)(path, F_OK), ENOENT);
	snprintf(path, sizeof(path), SYSFS "/%s/iommu_group", edu());
	expect_ok(lib(access)(path, F_OK));
	expect_ok(lib(eaccess)(path, F_OK));
	expect_ok(lib(stat)(path, &st));
	expect_errno(access(path, F_OK), ENOENT);

	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", name);
	expect_ok(stat(path, &node));
	snprintf(path, sizeof(path), "/dev/vfio/%u", number);
	expect_ok(lib(stat)(path, &st));
	expect_eq(st.st_rdev, node.st_rdev);
	snprintf(path, sizeof(path), "/dev/vfio/noiommu-%u", number);
	expect_ok(lib(stat)(path, &st));
	expect_eq(st.st_rdev, node.st_rdev);
	expect_ok(lib(openat)(AT_FDCWD, path, O_RDWR));
	expect_errno(lib(open)("/dev/vfio/1000999", O_RDWR), ENOENT);
	expect_errno(lib(open)("/dev/vfio/0", O_RDWR), ENOENT);
	expect_errno(lib(open)("/dev/vfio/1000000x", O_RDWR), ENOENT);
	expect_errno(lib(open)("/dev/vfio/", O_RDWR), EISDIR);

	file = lib(fopen)("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "r");
	expect(file && fgetc(file) == 'Y');
	expect_ok(lib(stat)("/sys/module/vfio", &st));
	expect_ok(lib(stat)("/sys/module/vfio_pci", &st));
	dir = lib(opendir)("/sys/module/vfio_pci");
	expect(dir);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", container_open());
	length = expect_ok(lib(readlink)(path, target, sizeof(target)));
	expect(length == strlen(CONTAINER) && !memcmp(target, CONTAINER, length));
}

TEST(group_in_order)
{
	int container = container_open(), group = group_open(edu()), device;
	struct vfio_group_status status = { .argsz = 4 };
	struct vfio_iommu_type1_info info = { .argsz = sizeof(info) };
	__u64 pa, done;
	void *va;

	listen_to_library();
	expect_eq(lib(ioctl)(container, VFIO_GET_API_VERSION), 0);
	expect_eq(lib(ioctl)(container, VFIO_CHECK_EXTENSION, VFIO_TYPE1_IOMMU), 1);
	expect_eq(lib(ioctl)(container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU), 1);
	expect_eq(lib(ioctl)(container, VFIO_CHECK_EXTENSION, VFIO_NOIOMMU_IOMMU), 1);
	expect_eq(lib(ioctl)(container, VFIO_CHECK_EXTENSION, 4711), 0);
	pa = known_page(&va);

	expect_refused(lib(ioctl)(group, VFIO_GROUP_GET_STATUS, &status), EINVAL, "argsz is 4");
	expect_eq(group_status(group), VFIO_GROUP_FLAGS_VIABLE);
	expect_refused(get_device(group, edu()), EINVAL, "the group has no container");
	expect_refused(unset_container(group), EINVAL, "the group has no container");
	expect_refused(set_iommu(container, VFIO_TYPE1_IOMMU), EINVAL, "has no group");
	expect_refused(map_dma(container, va, PAGE, pa), EINVAL, "SET_IOMMU comes first");

	expect_refused(set_container(group, -1), EBADF, "fd -1 is not open");
	expect_refused(set_container(group, group), EBADFD, "is no container");
	expect_refused(set_container(group, open("/dev/null", O_RDWR)), EBADFD, "is no container");
	expect_refused(set_container(group, open(CONTAINER, O_RDWR)), EPERM, "the kernel's vfio");
	/* The kernel's own iommufd */
	if (!access("/dev/kernel/iommu", F_OK))
		expect_refused(set_container(group, open("/dev/kernel/iommu", O_RDWR)), EBADFD,
			       "is no container");
	expect_ok(set_container(group, container));
	expect_refused(set_container(group, container), EINVAL, "the group has a container");
	expect_refused(set_container(group, -1), EBADF, "fd -1 is not open");
	expect_eq(group_status(group), VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET);

	expect_refused(map_dma(container, va, PAGE, pa), EINVAL, "SET_IOMMU comes first");
	expect_refused(unmap_dma(container, pa, PAGE, &done), EINVAL, "SET_IOMMU comes first");
	expect_refused(lib(ioctl)(container, VFIO_IOMMU_GET_INFO, &info), EINVAL,
		       "SET_IOMMU comes first");
	expect_refused(set_iommu(container, 4711), ENODEV, "no type 4711");
	expect_ok(set_iommu(container, VFIO_TYPE1_IOMMU));
	expect_refused(set_iommu(container, VFIO_TYPE1_IOMMU), EINVAL, "the container has a type");
	expect_ok(lib(ioctl)(container, VFIO_IOMMU_GET_INFO, &info));

	expect_refused(get_device(group, edu_behind_bridge()), ENODEV, edu());
	expect_refused(get_device(group, "0000:00:04"), ENODEV, edu());
	device = expect_ok(get_device(group, edu()));
	expect(fcntl(device, F_GETFD) & FD_CLOEXEC);
	expect_bound(device);
}

/* Pointers that lead nowhere, or to the last bytes of what can be read */
TEST(group_bad_pointers)
{
	const struct vfio_iommu_type1_dma_map map = { .argsz = sizeof(map) };
	char *last = mem(2 * PAGE) + PAGE;
	struct group g;

	group_setup(&g, VFIO_TYPE1_IOMMU);
	expect_ok(munmap(last, PAGE));
	listen_to_library();
	for (char *bad = NULL; ; bad = last - 3) {
		expect_refused(lib(ioctl)(g.group, VFIO_GROUP_GET_STATUS, bad), EFAULT,
			       "GET_STATUS: ");
		expect_refused(lib(ioctl)(g.group, VFIO_GROUP_SET_CONTAINER, bad), EFAULT,
			       "SET_CONTAINER: ");
		expect_refused(get_device(g.group, bad), EFAULT, "GET_DEVICE_FD: ");
		expect_refused(lib(ioctl)(g.container, VFIO_IOMMU_MAP_DMA, bad), EFAULT,
			       "MAP_DMA: ");
		if (bad)
			break;
	}
	memcpy(last - sizeof(map), &map, sizeof(map));
	expect_refused(lib(ioctl)(g.container, VFIO_IOMMU_MAP_DMA, last - sizeof(map)), EINVAL,
		       "MAP_DMA: ");
	memcpy(last - strlen(edu()) - 1, edu(), strlen(edu()) + 1);
	expect_ok(get_device(g.group, last - strlen(edu()) - 1));

	setenv("NOIOMMUFD_PRELOAD", "iova-pa", 1);
	expect_errno(lib(ioctl)(g.container, IOMMU_IOAS_MAP, NULL), EFAULT);
	expect_errno(lib(ioctl)(g.container, IOMMU_IOAS_MAP_FILE, NULL), EFAULT);
	expect_errno(lib(ioctl)(g.container, IOMMU_IOAS_UNMAP, last - 3), EFAULT);
}

TEST(group_map)
{
	long long before = pins();
	char *va = mem(2 * PAGE);
	struct vfio_iommu_type1_dma_map small = { .argsz = sizeof(small) - 1 };
	char words[64];
	struct group g;
	__u64 pa, next, done;

	group_setup(&g, VFIO_TYPE1v2_IOMMU);
	listen_to_library();
	pa = pagemap_pa(va);
	next = pagemap_pa(va + PAGE);

	/* At an address that is not the memory's, nothing is left. */
	snprintf(words, sizeof(words), "address %#llx, and the program takes it for %#llx", pa,
		 next);
	expect_refused(map_dma(g.container, va, PAGE, pa ^ (1ULL << 40)), EFAULT, "physical");
	expect_refused(map_dma(g.container, va, PAGE, next), EFAULT, words);
	expect_pins(before);
	if (next != pa + PAGE)
		expect_refused(map_dma(g.container, va, 2 * PAGE, pa), EFAULT, "physical");
	expect_pins(before);

	expect_ok(map_dma(g.container, va, PAGE, pa));
	expect_refused(map_dma(g.container, va, PAGE, pa), EEXIST, "File exists");
	if (next == pa + PAGE)
		expect_refused(map_dma(g.container, va, 2 * PAGE, pa), EEXIST, "File exists");
	expect_refused(map_dma(g.container, va, 100, next), EINVAL, "MAP_DMA: 0x64 bytes");
	expect_refused(map_dma(g.container, va, 0, next), EINVAL, "MAP_DMA: 0 bytes");
	expect_refused(lib(ioctl)(g.container, VFIO_IOMMU_MAP_DMA, &small), EINVAL, "MAP_DMA: ");
	/* A BAR */
	expect_refused(map_dma(g.container, region_mmap(g.device, VFIO_PCI_BAR0_REGION_INDEX,
							PROT_READ | PROT_WRITE),
			       PAGE, next), EFAULT, "a device");
	expect_eq(pins(), before + 1);

	expect_dma(g.device, va, pa);

	expect_ok(unmap_dma(g.container, pa, PAGE, &done));
	expect_eq(done, PAGE);
	expect_pins(before);
}

/* Over pages that are each other's neighbours, or not: as DPDK's segments */
TEST(group_map_huge_page)
{
	long long before = pins();
	struct group g;
	char *va;
	__u64 pa;

	huge_pages(2);
	va = hugetlb(1);
	mem_fill(va, HUGE_PAGE, 1);
	group_setup(&g, VFIO_TYPE1_IOMMU);
	pa = pagemap_pa(va);
	expect_ok(map_dma(g.container, va, HUGE_PAGE, pa));
	expect(pins() > before);
	expect_errno(map_dma(g.container, va, HUGE_PAGE, pa + HUGE_PAGE), EFAULT);
	expect_errno(map_dma(g.container, va + PAGE, HUGE_PAGE - PAGE, pa + (1ULL << 40)), EFAULT);
}

TEST(group_type_noiommu)
{
	struct vfio_iommu_type1_info info = { .argsz = sizeof(info) };
	struct group g;
	__u64 pa, done;
	void *va;

	group_setup(&g, VFIO_NOIOMMU_IOMMU);
	pa = known_page(&va);
	listen_to_library();
	expect_refused(map_dma(g.container, va, PAGE, pa), ENOTTY, "maps nothing");
	expect_refused(unmap_dma(g.container, pa, PAGE, &done), ENOTTY, "maps nothing");
	expect_errno(lib(ioctl)(g.container, VFIO_IOMMU_GET_INFO, &info), ENOTTY);
	expect_errno(set_iommu(g.container, VFIO_TYPE1_IOMMU), EINVAL);
	expect_bound(g.device);
}

/* When the last group has left, type and maps go; a re-plug starts anew. */
TEST(group_last_group_leaves)
{
	long long before = pins();
	struct group g;
	__u64 pa;
	void *va;

	group_setup(&g, VFIO_NOIOMMU_IOMMU);
	pa = known_page(&va);
	expect_ok(close(g.device));
	expect_ok(close(g.group));

	g.group = group_open(edu());
	expect_eq(group_status(g.group), VFIO_GROUP_FLAGS_VIABLE);
	expect_ok(set_container(g.group, g.container));
	expect_ok(set_iommu(g.container, VFIO_TYPE1_IOMMU));
	expect_ok(map_dma(g.container, va, PAGE, pa));
	expect_eq(pins(), before + 1);
	expect_ok(close(g.group));

	g.group = group_open(edu());
	expect_ok(set_container(g.group, g.container));
	expect_pins(before);
	expect_errno(map_dma(g.container, va, PAGE, pa), EINVAL);
	expect_ok(set_iommu(g.container, VFIO_TYPE1v2_IOMMU));
	expect_ok(map_dma(g.container, va, PAGE, pa));
}

TEST(group_two_groups)
{
	int second = group_open(edu_behind_bridge());
	struct group g;
	__u64 pa;
	void *va;

	group_setup(&g, VFIO_TYPE1_IOMMU);
	pa = known_page(&va);
	expect_ok(map_dma(g.container, va, PAGE, pa));
	expect_ok(set_container(second, g.container));
	expect_errno(set_iommu(g.container, VFIO_TYPE1_IOMMU), EINVAL);
	expect_bound(expect_ok(get_device(second, edu_behind_bridge())));

	/* One is left: the type and the maps stay. */
	expect_ok(close(g.device));
	expect_ok(close(g.group));
	g.group = group_open(edu());
	expect_ok(set_container(g.group, g.container));
	expect_errno(map_dma(g.container, va, PAGE, pa), EEXIST);
}

TEST(group_unset)
{
	int other = container_open(), used = container_open();
	int second = group_open(edu_behind_bridge());
	struct group g;
	__u32 id;

	expect_ok(set_container(second, used));
	expect_ok(set_iommu(used, VFIO_TYPE1_IOMMU));
	group_setup(&g, VFIO_TYPE1_IOMMU);
	expect_ok(unset_container(g.group));
	expect_eq(group_status(g.group), VFIO_GROUP_FLAGS_VIABLE);
	expect_errno(unset_container(g.group), EINVAL);
	expect_errno(get_device(g.group, edu()), EINVAL);

	/* It is bound, so it can go back and nowhere else, and leaves nothing there. */
	id = new_ioas(other);
	expect_ok(object_destroy(other, id));
	listen_to_library();
	expect_refused(set_container(g.group, other), EINVAL,
		       "only when all of its files were closed");
	expect_eq(new_ioas(other), id);
	expect_errno(set_container(g.group, used), EINVAL);
	expect_eq(group_status(g.group), VFIO_GROUP_FLAGS_VIABLE);
	expect_ok(set_container(g.group, g.container));
	expect_eq(group_status(g.group), VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET);
	expect_bound(g.device);
}

static struct group shared;
static bool go;

static void *put_into_container(void *result)
{
	while (!flag(&go))
		;
	*(int *)result = set_container(shared.group, shared.container) ? errno : 0;
	return NULL;
}

/* Threads that do the same at the same time: one of them succeeds. */
TEST(group_threads)
{
	struct group *g = &shared;
	pthread_t thread[2];
	int result[2], i, n;

	group_setup(g, VFIO_TYPE1_IOMMU);
	for (n = 0; n < 200; n++) {
		expect_ok(unset_container(g->group));
		__atomic_store_n(&go, false, __ATOMIC_RELEASE);
		for (i = 0; i < 2; i++)
			expect_eq(pthread_create(&thread[i], NULL, put_into_container,
						 &result[i]), 0);
		set_flag(&go);
		for (i = 0; i < 2; i++)
			expect_eq(pthread_join(thread[i], NULL), 0);
		expect_eq(result[0] + result[1], EINVAL);
		expect(!result[0] || !result[1]);
	}
}

/* Another program opens what this one has. */
TEST(group_second_program)
{
	int second, container;
	struct group g;

	group_setup(&g, VFIO_TYPE1_IOMMU);
	second = group_open(edu());
	container = container_open();
	expect_eq(group_status(second), VFIO_GROUP_FLAGS_VIABLE);
	listen_to_library();
	expect_refused(set_container(second, container), EBUSY, "another program has the device");
	expect_refused(set_container(second, g.container), EBUSY, "another program");
	expect_errno(get_device(second, edu()), EINVAL);
	expect_ok(close(g.device));
	expect_ok(close(g.group));
	expect_ok(set_container(second, container));
}

/* errno is that of the last failure, and of none in the library. */
TEST(group_keeps_errno)
{
	int container = container_open(), group = group_open(edu());

	errno = EXDEV;
	expect_ok(set_container(group, container));
	expect_ok(set_iommu(container, VFIO_TYPE1_IOMMU));
	expect_ok(get_device(group, edu()));
	expect_ok(unset_container(group));
	expect_ok(set_container(group, container));
	expect_eq(errno, EXDEV);
}

TEST(group_no_permission)
{
	long long before = pins();
	char path[64];
	struct group g;
	__u64 pa;
	void *va;

	group_setup(&g, VFIO_TYPE1_IOMMU);
	pa = known_page(&va);
	snprintf(path, sizeof(path), "/dev/vfio/%u", group_number(edu()));
	listen_to_library();
	drop_cap(CAP_SYS_RAWIO);
	expect_refused(lib(open)(path, O_RDWR), EPERM, "CAP_SYS_RAWIO is needed");
	expect_refused(map_dma(g.container, va, PAGE, pa), EPERM, "not permitted");
	expect_pins(before);
	drop_cap(CAP_IPC_LOCK);
	set_memlock(0);
	expect_refused(map_dma(g.container, va, PAGE, pa), ENOMEM, "cannot be pinned");

	expect_ok(setegid(65534));
	expect_ok(seteuid(65534));
	expect_refused(lib(open)(path, O_RDWR), EACCES, "Permission denied");
	expect_refused(lib(openat)(AT_FDCWD, CONTAINER, O_RDWR), EACCES, "Permission denied");
}

static void send_fds(int socket, const int *fds, int count)
{
	char control[CMSG_SPACE(2 * sizeof(int))] = {};
	struct iovec byte = { .iov_base = "x", .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &byte, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = CMSG_SPACE(count * sizeof(int)),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(header), fds, count * sizeof(int));
	expect_eq(sendmsg(socket, &message, 0), 1);
}

static void receive_fds(int socket, int *fds, int count)
{
	char control[CMSG_SPACE(2 * sizeof(int))], c;
	struct iovec byte = { .iov_base = &c, .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &byte, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control),
	};

	expect_eq(recvmsg(socket, &message, 0), 1);
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), count * sizeof(int));
}

static void secondary(void *arg)
{
	int fds[2], device;
	__u64 pa;
	void *va;

	receive_fds(*(int *)arg, fds, 2);
	expect_eq(group_status(fds[1]), VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET);
	expect_errno(set_iommu(fds[0], VFIO_TYPE1_IOMMU), EINVAL);
	device = expect_ok(get_device(fds[1], edu()));
	expect_bound(device);
	pa = known_page(&va);
	expect_ok(map_dma(fds[0], va, PAGE, pa));
}

/* A secondary process of DPDK: it starts with nothing, and gets the fds sent. */
TEST(group_secondary_process)
{
	int sockets[2], fds[2];
	struct group g;
	pid_t pid;

	expect_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	edu();
	pid = spawn(secondary, &sockets[1]);
	group_setup(&g, VFIO_TYPE1_IOMMU);
	fds[0] = g.container;
	fds[1] = g.group;
	send_fds(sockets[0], fds, 2);
	join(pid);
	expect_bound(g.device);
}

/* Not the library's functions, but a program that has it, beside another one. */
static void run_preloaded(const char *number, const char *debug, int *status,
			  char *said, size_t size)
{
	int out[2];
	ssize_t n, length = 0;
	pid_t pid;

	expect_ok(pipe(out));
	pid = expect_ok(fork());
	if (!pid) {
		dup2(out[1], 2);
		close(out[0]);
		setenv("LD_PRELOAD", LIBRARY ":libc.so.6", 1);
		setenv("GROUP_NUMBER", number, 1);
		setenv("GROUP_DEVICE", edu(), 1);
		if (debug)
			setenv("NOIOMMUFD_DEBUG", debug, 1);
		execl("/proc/self/exe", "preload", NULL);
		_exit(127);
	}
	close(out[1]);
	while (length < (ssize_t)size - 1 &&
	       (n = read(out[0], said + length, size - 1 - length)) > 0)
		length += n;
	said[length] = 0;
	close(out[0]);
	expect_ok(waitpid(pid, status, 0));
}

/* It has been started by the program below, and has the files that were open. */
static void after_exec(const char *files)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	int container, group;

	if (sscanf(files, "%d %d", &container, &group) != 2 ||
	    ioctl(group, VFIO_GROUP_GET_STATUS, &status) ||
	    !(status.flags & VFIO_GROUP_FLAGS_CONTAINER_SET))
		_exit(11);
	if (ioctl(group, VFIO_GROUP_GET_DEVICE_FD, getenv("GROUP_DEVICE")) < 0)
		_exit(12);
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU) != -1 || errno != EINVAL)
		_exit(13);
	_exit(0);
}

/* The program: it exits with what went wrong. */
static void __attribute__((constructor)) preloaded_program(void)
{
	const char *number = getenv("GROUP_NUMBER"), *files = getenv("GROUP_FILES");
	struct vfio_group_status status = { .argsz = sizeof(status) };
	int container, group, exited;
	char path[64];
	pid_t pid;

	if (!number)
		return;
	if (files)
		after_exec(files);
	snprintf(path, sizeof(path), "/dev/vfio/%s", number);
	container = open(CONTAINER, O_RDWR);
	group = open(path, O_RDWR);
	if (container < 0 || group < 0)
		_exit(1);
	if (ioctl(group, VFIO_GROUP_GET_STATUS, &status) || status.flags != VFIO_GROUP_FLAGS_VIABLE)
		_exit(2);
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container))
		_exit(3);
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU))
		_exit(4);
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU) != -1 || errno != EINVAL)
		_exit(5);

	snprintf(path, sizeof(path), "%d %d", container, group);
	setenv("GROUP_FILES", path, 1);
	pid = fork();
	if (!pid) {
		execl("/proc/self/exe", "preload", NULL);
		_exit(6);
	}
	if (waitpid(pid, &exited, 0) != pid)
		_exit(7);
	_exit(WIFEXITED(exited) ? WEXITSTATUS(exited) : 8);
}

TEST(group_preloaded)
{
	char said[4096], number[16];
	int status;

	snprintf(number, sizeof(number), "%u", group_number(edu()));
	run_preloaded(number, NULL, &status, said, sizeof(said));
	expect_eq(status, 0);
	expect(!*said);
	run_preloaded(number, "1", &status, said, sizeof(said));
	expect_eq(status, 0);
	expect(strstr(said, "noiommufd: SET_IOMMU: the container has a type\n"));
	run_preloaded("1000999", NULL, &status, said, sizeof(said));
	expect_eq(status >> 8, 1);
}

/* A program that takes the node itself could give the device any IOVA. */
TEST(group_refuses_bind)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	int group = group_open(edu());

	bind.iommufd = container_open();
	expect_errno(lib(ioctl)(group, VFIO_DEVICE_BIND_IOMMUFD, &bind), EOPNOTSUPP);
	expect_ok(set_container(group, bind.iommufd));
}

static void iova_pa(void)
{
	setenv("NOIOMMUFD_PRELOAD", "iova-pa", 1);
}

/* By the names that such a program knows */
static void iova_pa_setup(struct setup *s, bool attached)
{
	char name[64], path[96];

	iova_pa();
	driver_bind(edu());
	expect(cdev_name(edu(), name, sizeof(name)));
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", name + strlen("noiommu-"));
	s->iommu = expect_ok(lib(open)("/dev/iommu", O_RDWR));
	s->dev = expect_ok(lib(open)(path, O_RDWR));
	expect_ok(dev_bind(s->dev, s->iommu, &s->devid));
	s->ioas = new_ioas(s->iommu);
	if (attached)
		s->hwpt = attach(s->dev, s->ioas);
}

static int iova_pa_map(struct setup *s, void *va, __u64 length, __u32 flags, __u64 *iova)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map), .flags = MAP_RW | flags, .ioas_id = s->ioas,
		.user_va = (uintptr_t)va, .length = length, .iova = *iova,
	};
	int ret = lib(ioctl)(s->iommu, IOMMU_IOAS_MAP, &map);

	*iova = map.iova;
	return ret;
}

static int iova_pa_unmap(struct setup *s, __u64 iova, __u64 length)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap), .ioas_id = s->ioas, .iova = iova, .length = length,
	};

	return lib(ioctl)(s->iommu, IOMMU_IOAS_UNMAP, &unmap);
}

static int iova_pa_attach(struct setup *s)
{
	struct vfio_device_attach_iommufd_pt cmd = { .argsz = sizeof(cmd), .pt_id = s->ioas };

	return lib(ioctl)(s->dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &cmd);
}

/* The device finds the memory at the IOVA, all of it. */
static void expect_iova_is_pa(struct setup *s, __u64 iova, __u64 length)
{
	__u64 left = length, pa;

	expect_ok(get_pa(s->iommu, s->ioas, iova, &left, &pa));
	expect_eq(pa, iova);
	expect_eq(left, length);
}

TEST(iova_pa_names)
{
	char path[PATH_MAX], target[PATH_MAX];
	struct dirent *entry;
	struct setup s;
	ssize_t length;
	struct stat st;
	bool found = false;
	DIR *dir;

	iova_pa_setup(&s, false);
	snprintf(path, sizeof(path), SYSFS "/%s/vfio-dev", edu());
	dir = lib(opendir)(path);
	expect(dir);
	while ((entry = lib(readdir)(dir)))
		if (!strncmp(entry->d_name, "vfio", 4)) {
			snprintf(path, sizeof(path), SYSFS "/%s/vfio-dev/%s/dev",
				 edu(), entry->d_name);
			found = true;
		}
	expect(found);
	expect_ok(lib(stat)(path, &st));
	expect_errno(stat(path, &st), ENOENT);
	snprintf(path, sizeof(path), SYSFS "/%s/driver", edu());
	length = expect_ok(lib(readlink)(path, target, sizeof(target)));
	expect(length > 9 && !memcmp(target + length - 9, "/vfio-pci", 9));
	/* Others with such a name are left alone. */
	expect_ok(mkdir("devices", 0700));
	expect_ok(lib(openat)(AT_FDCWD, "/tmp/devices/vfio.log", O_CREAT | O_WRONLY, 0600));
	expect_ok(unlink("/tmp/devices/vfio.log"));
	expect_ok(rmdir("/tmp/devices"));
	/* It has no group, which such a program would rather take. */
	snprintf(path, sizeof(path), SYSFS "/%s/iommu_group", edu());
	expect_errno(lib(access)(path, F_OK), ENOENT);
	expect_errno(lib(open)("/dev/vfio/1000000", O_RDWR), ENOENT);
}

TEST(iova_pa_map)
{
	long long before = pins();
	struct setup s;
	__u64 iova = 0, again = 0;
	char *va = mem(PAGE);

	iova_pa_setup(&s, true);
	expect_ok(iova_pa_map(&s, va, PAGE, 0, &iova));
	expect_eq(iova, pagemap_pa(va));
	expect_iova_is_pa(&s, iova, PAGE);
	expect_eq(pins(), before + 1);
	/* Twice is not to be had: the IOVA would be the same. */
	expect_errno(iova_pa_map(&s, va, PAGE, 0, &again), EEXIST);
	expect_eq(pins(), before + 1);

	expect_dma(s.dev, va, iova);

	expect_ok(iova_pa_unmap(&s, iova, PAGE));
	expect_pins(before);
	iova = 0;
	expect_ok(iova_pa_map(&s, va, PAGE, 0, &iova));
}

/* Pages that do not follow each other are moved, with what is in them. */
TEST(iova_pa_gathers)
{
	const size_t size = 32 * PAGE;
	struct setup s;
	char *va = mem(2 * size), *all = va;
	__u64 iova = 0, second = 0;
	unsigned int i;

	/* Every second page goes, so that no two lie together. */
	for (i = 0; i < 2 * size / PAGE; i += 2)
		expect_ok(madvise(va + i * PAGE, PAGE, MADV_DONTNEED));
	for (i = 0; i < 2 * size / PAGE; i++)
		snprintf(va + i * PAGE, PAGE, "page %u", i);
	if (contiguous(va, size) || contiguous(va + size, size))
		test_skip("the pages came back as neighbours");
	iova_pa_setup(&s, true);
	expect_ok(iova_pa_map(&s, va, size, 0, &iova));
	expect_iova_is_pa(&s, iova, size);
	expect_ok(iova_pa_map(&s, va + size, size, 0, &second));
	expect_iova_is_pa(&s, second, size);
	for (i = 0; i < 2 * size / PAGE; i++) {
		char want[32];

		snprintf(want, sizeof(want), "page %u", i);
		expect(!strcmp(all + i * PAGE, want));
		expect_eq(pagemap_pa(all + i * PAGE), i < size / PAGE ? iova + i * PAGE :
			  second + i * PAGE - size);
	}
}

/* What a device has, and what others see, is never moved. */
TEST(iova_pa_refuses)
{
	const size_t size = 32 * PAGE;
	long long before = pins();
	char *shared = mem_flags(size, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE);
	char *va = mem(size);
	__u64 iova = 0, first = 0;
	struct setup s;

	iova_pa_setup(&s, true);
	if (!contiguous(shared, size))
		expect_errno(iova_pa_map(&s, shared, size, 0, &iova), ENOMEM);
	expect_pins(before);

	/* One page of it is mapped. */
	expect_ok(iova_pa_map(&s, va + 5 * PAGE, PAGE, 0, &first));
	iova = 0;
	expect(iova_pa_map(&s, va, size, 0, &iova) == -1);
	expect_eq(pagemap_pa(va + 5 * PAGE), first);
	expect_eq(pins(), before + 1);

	/* An IOVA of the program's own */
	iova = 1ULL << 40;
	expect_errno(iova_pa_map(&s, va, PAGE, IOMMU_IOAS_MAP_FIXED_IOVA, &iova), EFAULT);
	iova = pagemap_pa(va);
	expect_ok(iova_pa_map(&s, va, PAGE, IOMMU_IOAS_MAP_FIXED_IOVA, &iova));
	expect_eq(pins(), before + 2);
}

TEST(iova_pa_before_attach)
{
	char *va = mem(PAGE), *moved = mem(PAGE);
	__u64 iova = 0, second = 0;
	struct setup s;

	iova_pa_setup(&s, false);
	expect_ok(iova_pa_map(&s, va, PAGE, 0, &iova));
	expect_eq(iova, pagemap_pa(va));
	expect_ok(iova_pa_attach(&s));
	expect_iova_is_pa(&s, iova, PAGE);
	expect_ok(dev_detach(s.dev));

	expect_ok(ioas_alloc(s.iommu, &s.ioas));
	expect_ok(iova_pa_map(&s, moved, PAGE, 0, &second));
	expect_ok(madvise(moved, PAGE, MADV_DONTNEED));
	/* It takes the page that was just given back, likely. */
	*(char *)mem(PAGE) = 1;
	*moved = 1;
	if (pagemap_pa(moved) == second)
		test_skip("the page came back");
	expect_errno(iova_pa_attach(&s), EFAULT);
}

/* A file in memory, as uPCIe has it: the program gives the device IOVAs of a memfd. */
TEST(iova_pa_file_before_attach)
{
	int fd = expect_ok(memfd_create("suite", 0));
	struct iommu_ioas_map_file map = {
		.size = sizeof(map), .flags = MAP_RW, .fd = fd, .start = PAGE, .length = PAGE,
	};
	struct setup s;
	char *va;

	expect_ok(ftruncate(fd, 3 * PAGE));
	iova_pa_setup(&s, false);
	map.ioas_id = s.ioas;
	expect_ok(lib(ioctl)(s.iommu, IOMMU_IOAS_MAP_FILE, &map));
	va = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	expect(va != MAP_FAILED);
	va[PAGE] = 1;
	expect_eq(map.iova, pagemap_pa(va + PAGE));
	expect_ok(iova_pa_attach(&s));
	expect_iova_is_pa(&s, map.iova, PAGE);
	expect_dma(s.dev, va + PAGE, map.iova);
	expect_ok(iova_pa_unmap(&s, map.iova, PAGE));
}
