// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * VFIO's containers and groups. A container is an open file of noiommufd, whose
 * type1 ioctls work on its compatibility IOAS. A group is an open file of a
 * device's node: SET_CONTAINER does BIND and then ATTACH to that IOAS,
 * UNSET_CONTAINER does DETACH, and the device's fd duplicates the group's.
 *
 * What else VFIO would have to remember is in status flags of the open files:
 *
 * IS_SET	of a group: it has a container; of a container: it has a type
 * IS_NOIOMMU	of a container: the type is VFIO_NOIOMMU_IOMMU, and maps nothing
 *
 * The nodes ignore these flags, which are among the few that fcntl(2) can set.
 * All processes that have the file open share them, so a file can be inherited,
 * or sent to another process by SCM_RIGHTS.
 */
#undef _FORTIFY_SOURCE
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <noiommufd/iommufd.h>
#include <noiommufd/noiommufd.h>
#include <noiommufd/vfio.h>

#include "preload.h"

#define IS_SET		O_APPEND
#define IS_NOIOMMU	O_NONBLOCK

static int flags_of(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 ? 0 : flags;
}

static int set_flags(int fd, int clear, int set)
{
	return fcntl(fd, F_SETFL, (flags_of(fd) & ~clear) | set);
}

/* Has any process done BIND? Before that, the device answers no other ioctl. */
static bool is_bound(int group)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };

	return kernel(group, VFIO_DEVICE_GET_INFO, &info) == 0;
}

/* Returns 0 if there is no compatibility IOAS, or if asking for it fails. */
static __u32 compat_ioas(int container)
{
	struct iommu_vfio_ioas get = { .size = sizeof(get), .op = IOMMU_VFIO_IOAS_GET };

	return kernel(container, IOMMU_VFIO_IOAS, &get) ? 0 : get.ioas_id;
}

static int destroy(int container, __u32 id)
{
	struct iommu_destroy cmd = { .size = sizeof(cmd), .id = id };

	return kernel(container, IOMMU_DESTROY, &cmd);
}

static __u32 make_ioas(int container)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

	return kernel(container, IOMMU_IOAS_ALLOC, &alloc) ? 0 : alloc.out_ioas_id;
}

static int attach(int group, __u32 ioas)
{
	struct vfio_device_attach_iommufd_pt cmd = { .argsz = sizeof(cmd), .pt_id = ioas };

	return kernel(group, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &cmd);
}

static int detach(int group)
{
	struct vfio_device_detach_iommufd_pt cmd = { .argsz = sizeof(cmd) };

	return kernel(group, VFIO_DEVICE_DETACH_IOMMUFD_PT, &cmd);
}

/*
 * The IOAS that devices of @container are attached to. When the last group has
 * left, VFIO drops a container's type and maps with it: an IOAS that can be
 * destroyed has no device.
 */
static __u32 container_ioas(int container)
{
	struct iommu_vfio_ioas set = { .size = sizeof(set), .op = IOMMU_VFIO_IOAS_SET };
	__u32 id = compat_ioas(container);

	if (id && destroy(container, id))
		return id;

	set_flags(container, IS_SET | IS_NOIOMMU, 0);
	id = make_ioas(container);
	set.ioas_id = id;
	if (id && kernel(container, IOMMU_VFIO_IOAS, &set)) {
		destroy(container, id);
		id = 0;
	}
	return id;
}

/*
 * Is @group, which is bound but not attached, bound to this container? No ioctl
 * reports that. But an IOAS cannot be destroyed while a device is attached to
 * it: this shows whether the device attached to our IOAS, or to one with the
 * same ID of another container.
 */
static bool is_bound_to(int group, int container)
{
	__u32 probe = make_ioas(container);
	bool same;

	if (!probe)
		return false;
	attach(group, probe);
	same = destroy(container, probe) < 0;
	detach(group);
	if (same)
		destroy(container, probe);
	return same;
}

static int bind_group(int group, int container)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind), .iommufd = container };

	if (is_bound(group)) {
		if (is_bound_to(group, container))
			return 0;
		errno = EINVAL;
		report("%s",
		       "a device that was taken out of its container can be put into the same one again, but into another one only when all of its files were closed");
		return -1;
	}
	if (kernel(group, VFIO_DEVICE_BIND_IOMMUFD, &bind) == 0)
		return 0;
	if (errno == EINVAL)
		return fail(EBUSY, "SET_CONTAINER: another program has the device");
	return fail(errno, "SET_CONTAINER: the device cannot be taken: %m");
}

#define OF_BOTH_KINDS \
	"SET_CONTAINER: a group of noiommufd and one of the kernel's vfio cannot have the same container: open another one"

/* These two are called with the lock held. */
static int set_container(int group, const int *arg)
{
	char address[NAME_MAX + 1];
	enum file_kind kind;
	int container;
	__u32 ioas;

	if (!readable(arg, sizeof(*arg)))
		return fail(EFAULT, "SET_CONTAINER: %p cannot be read", arg);
	container = *arg;
	if (fcntl(container, F_GETFD) < 0)
		return fail(EBADF, "SET_CONTAINER: fd %d is not open", container);
	if (flags_of(group) & IS_SET)
		return fail(EINVAL, "SET_CONTAINER: the group has a container");
	kind = file_kind(container, address);
	if (kind == FILE_VFIO)
		return fail(EPERM, OF_BOTH_KINDS);
	if (kind != FILE_CONTAINER)
		return fail(EBADFD, "SET_CONTAINER: fd %d is no container of noiommufd", container);

	if (bind_group(group, container))
		return -1;
	ioas = container_ioas(container);
	if (!ioas || attach(group, ioas))
		return fail(errno,
			    "SET_CONTAINER: the device cannot be given the container's memory: %m");
	return set_flags(group, 0, IS_SET);
}

static int unset_container(int group)
{
	if (!(flags_of(group) & IS_SET))
		return fail(EINVAL, "UNSET_CONTAINER: the group has no container");
	return detach(group) ?: set_flags(group, IS_SET, 0);
}

/* @name may be followed by a VF token, which a noiommu device does not need. */
static int get_device(int group, const char *name, const char *address)
{
	const size_t length = strlen(address);

	if (!readable(name, length + 1))
		return fail(EFAULT, "GET_DEVICE_FD: %p cannot be read", name);
	if (strncmp(name, address, length) || (name[length] && name[length] != ' '))
		return fail(ENODEV, "GET_DEVICE_FD: %s is not the group's device, which is %s",
			    name, address);
	if (!(flags_of(group) & IS_SET))
		return fail(EINVAL, "GET_DEVICE_FD: the group has no container");
	return fcntl(group, F_DUPFD_CLOEXEC, 0);
}

static int group_status(int group, struct vfio_group_status *status)
{
	if (!readable(status, sizeof(*status)))
		return fail(EFAULT, "GET_STATUS: %p cannot be read", status);
	if (status->argsz < sizeof(*status))
		return fail(EINVAL, "GET_STATUS: argsz is %u", status->argsz);
	status->flags = VFIO_GROUP_FLAGS_VIABLE;
	if (flags_of(group) & IS_SET)
		status->flags |= VFIO_GROUP_FLAGS_CONTAINER_SET;
	return 0;
}

static int group_ioctl(int fd, unsigned int request, void *arg,
		       const char *address)
{
	int ret;

	switch (request) {
	case VFIO_GROUP_GET_STATUS:
		return group_status(fd, arg);
	case VFIO_GROUP_SET_CONTAINER:
	case VFIO_GROUP_UNSET_CONTAINER:
		take_lock();
		ret = request == VFIO_GROUP_SET_CONTAINER ? set_container(fd, arg) :
							    unset_container(fd);
		drop_lock();
		return ret;
	case VFIO_GROUP_GET_DEVICE_FD:
		return get_device(fd, arg, address);
	case VFIO_DEVICE_BIND_IOMMUFD:
		/* The IOVAs that it maps, and gives to the device, are not checked. */
		report("%s",
		       "the program uses the device's own node, and not its group: run it without --vfio-group, or with --iova-pa");
		errno = EOPNOTSUPP;
		return -1;
	default:
		return kernel(fd, request, arg);
	}
}

static int set_iommu(int container, unsigned long type)
{
	if (flags_of(container) & IS_SET)
		return fail(EINVAL, "SET_IOMMU: the container has a type");
	if (!compat_ioas(container))
		return fail(EINVAL, "SET_IOMMU: the container has no group");
	if (type == VFIO_NOIOMMU_IOMMU)
		return set_flags(container, 0, IS_SET | IS_NOIOMMU);
	if (type != VFIO_TYPE1_IOMMU && type != VFIO_TYPE1v2_IOMMU)
		return fail(ENODEV, "SET_IOMMU: there is no type %lu", type);
	if (kernel(container, VFIO_SET_IOMMU, type))
		return fail(errno, "SET_IOMMU: type %lu: %m", type);
	return set_flags(container, IS_NOIOMMU, IS_SET);
}

#define MAP_DMA_ELSEWHERE \
	"MAP_DMA: the memory at %#llx is at the physical address %#llx, and the program takes it for %#llx: it has to use physical addresses as IOVAs (DPDK: --iova-mode=pa), of memory that is contiguous and cannot move (huge pages outside of ZONE_MOVABLE)"

#define MAP_DMA_NO_PIN \
	"MAP_DMA: %#llx bytes at %#llx cannot be pinned: more than RLIMIT_MEMLOCK allows, or than the machine has%s"

/*
 * The program gives the device the IOVA, so that has to be the memory's
 * physical address. One that the program looked up earlier may be stale, since
 * pinning can move the memory.
 */
static int check_map(int container, const struct vfio_iommu_type1_dma_map *map)
{
	struct iommu_ioas_noiommu_get_pa pa = {
		.size = sizeof(pa),
		.ioas_id = compat_ioas(container),
	};
	__u64 done;

	for (done = 0; done < map->size; done += pa.length) {
		pa.iova = map->iova + done;
		pa.length = map->size - done;
		if (kernel(container, IOMMU_IOAS_NOIOMMU_GET_PA, &pa))
			return fail(errno, "MAP_DMA: no physical address is to be had: %m");
		if (pa.out_phys != pa.iova) {
			report(MAP_DMA_ELSEWHERE, map->vaddr + done, pa.out_phys, pa.iova);
			errno = EFAULT;
			return -1;
		}
	}
	return 0;
}

static int map_dma(int container, const struct vfio_iommu_type1_dma_map *arg)
{
	struct vfio_iommu_type1_dma_unmap unmap = { .argsz = sizeof(unmap) };
	struct vfio_iommu_type1_dma_map map;
	int error;

	if (!readable(arg, sizeof(*arg)))
		return fail(EFAULT, "MAP_DMA: %p cannot be read", arg);
	/* What is checked is what was mapped, whatever other threads do. */
	map = *arg;
	if (kernel(container, VFIO_IOMMU_MAP_DMA, &map)) {
		if (errno == ENOMEM) {
			report(MAP_DMA_NO_PIN, map.size, map.vaddr,
			       pinning_moves_huge_pages() ? "" :
			       ", or huge pages in ZONE_MOVABLE, for which it takes Linux 6.5");
			return -1;
		}
		return fail(errno, "MAP_DMA: %#llx bytes at %#llx, IOVA %#llx: %m%s",
			    map.size, map.vaddr, map.iova, errno != EFAULT ? "" :
			    " (there is no memory, or that of a device, or it is read-only)");
	}
	if (check_map(container, &map) == 0)
		return 0;

	error = errno;
	unmap.iova = map.iova;
	unmap.size = map.size;
	kernel(container, VFIO_IOMMU_UNMAP_DMA, &unmap);
	errno = error;
	return -1;
}

static int container_ioctl(int fd, unsigned int request, void *arg)
{
	int flags;

	switch (request) {
	case VFIO_SET_IOMMU:
		return set_iommu(fd, (unsigned long)arg);
	case VFIO_IOMMU_GET_INFO:
	case VFIO_IOMMU_MAP_DMA:
	case VFIO_IOMMU_UNMAP_DMA:
		flags = flags_of(fd);
		if (!(flags & IS_SET))
			return fail(EINVAL, "the container has no type: SET_IOMMU comes first");
		if (flags & IS_NOIOMMU)
			return fail(ENOTTY,
				    "a container of the type VFIO_NOIOMMU_IOMMU maps nothing");
		if (request == VFIO_IOMMU_MAP_DMA)
			return map_dma(fd, arg);
		break;
	}
	return kernel(fd, request, arg);
}

/*
 * A group of the kernel's own VFIO is put into a container that was opened as one
 * of ours. If the container has no group of ours, it becomes the kernel's.
 */
static int give_kernel(int group, const int *container)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char address[NAME_MAX + 1];
	int theirs, ret;
	__u32 id;

	if (kernel(group, VFIO_GROUP_GET_STATUS, &status) ||
	    !readable(container, sizeof(*container)) ||
	    file_kind(*container, address) != FILE_CONTAINER)
		return kernel(group, VFIO_GROUP_SET_CONTAINER, container);
	id = compat_ioas(*container);
	if (id && destroy(*container, id))
		return fail(EPERM, OF_BOTH_KINDS);

	theirs = NEXT(open)("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (theirs < 0)
		return fail(errno, "SET_CONTAINER: the kernel's /dev/vfio/vfio: %m");
	ret = kernel(group, VFIO_GROUP_SET_CONTAINER, &theirs);
	if (!ret && dup3(theirs, *container,
			 fcntl(*container, F_GETFD) & FD_CLOEXEC ? O_CLOEXEC : 0) < 0)
		ret = -1;
	close(theirs);
	return ret;
}

/*
 * Is a file that the program takes for VFIO's a container of ours? Only noiommufd
 * knows this ioctl, and refuses a struct that has more in it than it knows. A
 * container of the kernel's has EINVAL or ENOTTY. file_kind(), which is for any
 * file, takes thousands of instructions more.
 */
static bool is_container(int fd)
{
	struct {
		struct noiommufd_ioas_get_pa_runs known;
		__u64 more;
	} ask = { .known.size = sizeof(ask), .more = 1 };

	return kernel(fd, NOIOMMUFD_IOAS_GET_PA_RUNS, &ask) < 0 && errno == E2BIG;
}

/* With --vfio-group, what is not answered here goes to the kernel at once. */
static int group_mode_ioctl(int fd, unsigned int request, void *arg)
{
	char address[NAME_MAX + 1];
	enum file_kind kind;

	switch (request) {
	case VFIO_SET_IOMMU:
	case VFIO_IOMMU_GET_INFO:
	case VFIO_IOMMU_MAP_DMA:
	case VFIO_IOMMU_UNMAP_DMA:
		if (is_container(fd))
			return container_ioctl(fd, request, arg);
		break;
	case VFIO_GROUP_GET_STATUS:
	case VFIO_GROUP_SET_CONTAINER:
	case VFIO_GROUP_UNSET_CONTAINER:
	case VFIO_GROUP_GET_DEVICE_FD:
	case VFIO_DEVICE_BIND_IOMMUFD:
		kind = file_kind(fd, address);
		if (kind == FILE_GROUP)
			return group_ioctl(fd, request, arg, address);
		if (kind != FILE_CONTAINER && request == VFIO_GROUP_SET_CONTAINER)
			return give_kernel(fd, arg);
		break;
	}
	return kernel(fd, request, arg);
}

static int vfio_ioctl(int fd, unsigned int request, void *arg)
{
	char address[NAME_MAX + 1];
	enum file_kind kind;

	if (!iova_is_pa())
		return group_mode_ioctl(fd, request, arg);
	kind = file_kind(fd, address);
	return kind == FILE_CONTAINER || kind == FILE_GROUP ?
		       iova_pa_ioctl(fd, request, arg) :
		       kernel(fd, request, arg);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	int error = errno, ret;
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);

	/* As in the kernel: the upper half is only the sign of an int. */
	request = (unsigned int)request;
	if (_IOC_TYPE(request) != VFIO_TYPE || _IOC_NR(request) < VFIO_BASE)
		return kernel(fd, request, arg);

	ret = vfio_ioctl(fd, request, arg);
	if (ret >= 0)
		errno = error;
	return ret;
}
