// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * For programs that were written for the device's own node and an IOMMU: they
 * give the device the IOVA that IOMMU_IOAS_MAP chose. Here, each IOVA that such
 * a program gets is the physical address, for as long as the memory is mapped:
 *
 * - If a device is attached, MAP at an IOVA that is no physical address,
 *   GET_PA, COPY to the address that this returns, and UNMAP the first mapping.
 *   The memory stays pinned throughout.
 * - If no device is attached, nothing is pinned yet: MAP at the address that
 *   pagemap reports. ATTACH fails if the memory has moved by then.
 *
 * Memory that is not contiguous is refused, but private anonymous memory is
 * moved into huge pages first, which keep its virtual address.
 *
 * A list has all mappings, and a lock guards it: memory that a device uses must
 * not be moved, and ATTACH checks where the memory is.
 */
#undef _FORTIFY_SOURCE
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <noiommufd/iommufd.h>
#include <noiommufd/vfio.h>

#include "preload.h"

#define HUGE_PAGE	(2UL << 20)
#define MOVED_MAX	(64UL << 20)

struct mapping {
	struct mapping *next;
	int iommufd;
	__u32 ioas;
	__u64 iova;
	__u64 length;
	__u64 va;		/* 0: memory of a file */
	bool pinned;		/* and found at the required address */
};

static struct mapping *mappings;

/*
 * The length that is contiguous from @iova on, its address in @pa; 0: see
 * errno.
 */
static __u64 get_pa(int iommufd, __u32 ioas, __u64 iova, __u64 length, __u64 *pa)
{
	struct iommu_ioas_noiommu_get_pa cmd = {
		.size = sizeof(cmd), .ioas_id = ioas, .iova = iova, .length = length,
	};

	if (kernel(iommufd, IOMMU_IOAS_NOIOMMU_GET_PA, &cmd))
		return 0;
	*pa = cmd.out_phys;
	return cmd.length;
}

static void unmap(int iommufd, __u32 ioas, __u64 iova, __u64 length)
{
	struct iommu_ioas_unmap cmd = {
		.size = sizeof(cmd), .ioas_id = ioas, .iova = iova, .length = length,
	};
	int error = errno;

	kernel(iommufd, IOMMU_IOAS_UNMAP, &cmd);
	errno = error;
}

/* The current physical address; 0: no page is there, or no CAP_SYS_ADMIN. */
static __u64 pagemap_pa(int pagemap, __u64 va)
{
	long page = sysconf(_SC_PAGESIZE);
	__u64 entry;

	if (pread(pagemap, &entry, sizeof(entry), va / page * sizeof(entry)) != sizeof(entry) ||
	    !(entry >> 63))
		return 0;
	entry = (entry & ((1ULL << 55) - 1)) * page;
	return entry ? entry + va % page : 0;
}

/* The physical address, if the memory is contiguous at present; or 0. */
static __u64 guess_pa(__u64 va, __u64 length)
{
	int pagemap = NEXT(open)("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	long page = sysconf(_SC_PAGESIZE);
	__u64 pa, done;

	if (pagemap < 0)
		return 0;
	pa = pagemap_pa(pagemap, va);
	for (done = page - va % page; pa && done < length; done += page)
		if (pagemap_pa(pagemap, va + done) != pa + done)
			pa = 0;
	close(pagemap);
	return pa;
}

/* Is it private anonymous memory, which this process alone uses? */
static bool is_movable(__u64 va, __u64 length)
{
	FILE *maps = NEXT(fopen)("/proc/self/maps", "re");
	unsigned long start, end, inode;
	char mode[5], line[512];
	bool movable = false;

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %4s %*x %*s %lu", &start, &end, mode, &inode) == 4 &&
		    start <= va && va < end) {
			movable = end - va >= length && inode == 0 &&
				  strcmp(mode, "rw-p") == 0 && !strstr(line, "[stack");
			break;
		}
	if (maps)
		fclose(maps);
	return movable;
}

/* Drop mappings that are gone with their file or object. */
static void forget_stale(void)
{
	struct mapping **link = &mappings, *mapping;
	__u64 pa;

	while ((mapping = *link)) {
		if (mapping->pinned &&
		    !get_pa(mapping->iommufd, mapping->ioas, mapping->iova, 1, &pa)) {
			*link = mapping->next;
			free(mapping);
		} else {
			link = &mapping->next;
		}
	}
}

static bool is_mapped(__u64 va, __u64 length)
{
	struct mapping *mapping;

	forget_stale();
	for (mapping = mappings; mapping; mapping = mapping->next)
		if (mapping->va && mapping->va < va + length &&
		    va < mapping->va + mapping->length)
			return true;
	return false;
}

/*
 * Move memory into huge pages, at the same virtual address. Small pieces share
 * a huge page. Returns 0, or -1 if the memory cannot be moved.
 */
static int gather(__u64 va, __u64 length)
{
	static char *rest, *rest_end;
	long page = sysconf(_SC_PAGESIZE);
	__u64 first = va / page * page;
	size_t size = (va + length - first + page - 1) / page * page;
	size_t whole = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
	char *area;

	if (size > MOVED_MAX || !is_movable(first, size) || is_mapped(first, size))
		return -1;
	if ((size_t)(rest_end - rest) < size) {
		area = NEXT(mmap)(NULL, whole + HUGE_PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (area == MAP_FAILED)
			return -1;
		if (rest < rest_end)
			munmap(rest, rest_end - rest);
		rest = (char *)(((uintptr_t)area + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
		rest_end = rest + whole;
		munmap(area, rest - area);
		munmap(rest_end, area + HUGE_PAGE - rest);
		madvise(rest, whole, MADV_HUGEPAGE);
		memset(rest, 0, whole);
	}
	memcpy(rest, (void *)first, size);
	if (mremap(rest, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)first) == MAP_FAILED)
		return -1;
	rest += size;
	return 0;
}

/* What MAP and MAP_FILE have in common */
struct map_call {
	unsigned int request;
	void *cmd;
	__u32 *flags;
	__u32 ioas;
	__u64 va;		/* 0: memory of a file, from start on */
	int file;
	__u64 start;
	__u64 length;
	__u64 *iova;
};

static int map_at(int iommufd, const struct map_call *map, __u64 iova)
{
	const __u32 flags = *map->flags;
	int ret;

	*map->flags |= IOMMU_IOAS_MAP_FIXED_IOVA;
	*map->iova = iova;
	ret = kernel(iommufd, map->request, map->cmd);
	*map->flags = flags;
	return ret;
}

/* Map the pinned memory at @iova once more, at its physical address. */
static int copy_to_pa(int iommufd, const struct map_call *map, __u64 iova, __u64 pa)
{
	struct iommu_ioas_copy copy = {
		.size = sizeof(copy),
		.flags = *map->flags | IOMMU_IOAS_MAP_FIXED_IOVA,
		.dst_ioas_id = map->ioas,
		.src_ioas_id = map->ioas,
		.length = map->length,
		.dst_iova = pa,
		.src_iova = iova,
	};

	return kernel(iommufd, IOMMU_IOAS_COPY, &copy);
}

static int remember(int iommufd, const struct map_call *map, bool pinned)
{
	struct mapping *mapping = malloc(sizeof(*mapping));

	if (!mapping) {
		unmap(iommufd, map->ioas, *map->iova, map->length);
		return -1;
	}
	*mapping = (struct mapping){ mappings, iommufd, map->ioas, *map->iova,
				     map->length, map->va, pinned };
	mappings = mapping;
	return 0;
}

static int refuse(const struct map_call *map)
{
	report(map->va ? "%#llx bytes at %#llx are not physically contiguous: use huge pages" :
	       "%#llx bytes of a file, from %#llx on, are not physically contiguous: use larger pages",
	       map->length, map->va ?: map->start);
	errno = ENOMEM;
	return -1;
}

/* The program chose the IOVA, which has to be the physical address already. */
static int map_fixed(int iommufd, const struct map_call *map)
{
	__u64 pa = 0, run;
	int ret;

	ret = kernel(iommufd, map->request, map->cmd);
	if (ret)
		return ret;
	run = get_pa(iommufd, map->ioas, *map->iova, map->length, &pa);
	if (run == 0 && errno == EOPNOTSUPP)
		return remember(iommufd, map, false);
	if (run == map->length && pa == *map->iova)
		return remember(iommufd, map, true);
	unmap(iommufd, map->ioas, *map->iova, map->length);
	report("the program chose the IOVA %#llx, but the memory is at %#llx: it needs an IOMMU",
	       *map->iova, pa);
	errno = EFAULT;
	return -1;
}

/* guess_pa() for memory of a file, which need not be mapped anywhere. */
static __u64 guess_file_pa(const struct map_call *map)
{
	struct stat st;
	size_t size;
	void *view;
	__u64 pa;

	if (fstat(map->file, &st) || st.st_blksize <= 0)
		return 0;
	/* Huge pages, which are the file's blocks, are mapped as a whole. */
	size = (map->length + st.st_blksize - 1) / st.st_blksize * st.st_blksize;
	view = NEXT(mmap)(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, map->file,
			  map->start);
	if (view == MAP_FAILED)
		return 0;
	pa = guess_pa((uintptr_t)view, map->length);
	munmap(view, size);
	return pa;
}

/* No device is attached, so nothing is pinned: map where the memory is now. */
static int map_unpinned(int iommufd, const struct map_call *map)
{
	__u64 pa;
	int ret;

	pa = map->va ? guess_pa(map->va, map->length) : guess_file_pa(map);
	if (!pa && map->va && gather(map->va, map->length) == 0)
		pa = guess_pa(map->va, map->length);
	if (!pa)
		return refuse(map);
	ret = map_at(iommufd, map, pa);
	return ret ?: remember(iommufd, map, false);
}

static int map_chosen(int iommufd, const struct map_call *map)
{
	__u64 iova, run, pa = 0;
	int ret, error, tries;

	for (tries = 0; ; tries++) {
		ret = kernel(iommufd, map->request, map->cmd);
		if (ret)
			return ret;
		iova = *map->iova;
		run = get_pa(iommufd, map->ioas, iova, map->length, &pa);
		if (run == map->length)
			break;
		error = errno;
		unmap(iommufd, map->ioas, iova, map->length);
		if (run == 0 && error == EOPNOTSUPP)
			return map_unpinned(iommufd, map);
		if (run == 0) {
			errno = error;
			return -1;
		}
		if (tries || !map->va || gather(map->va, map->length))
			return refuse(map);
	}

	ret = copy_to_pa(iommufd, map, iova, pa);
	unmap(iommufd, map->ioas, iova, map->length);
	if (ret)
		return fail(errno,
			    "MAP: the memory at the physical address %#llx is mapped already: %m",
			    pa);
	*map->iova = pa;
	return remember(iommufd, map, true);
}

static int map_memory(int iommufd, const struct map_call *map)
{
	int ret;

	take_lock();
	ret = *map->flags & IOMMU_IOAS_MAP_FIXED_IOVA ? map_fixed(iommufd, map) :
							map_chosen(iommufd, map);
	drop_lock();
	return ret;
}

static int unmap_memory(int iommufd, struct iommu_ioas_unmap *cmd)
{
	struct mapping **link, *mapping;
	const __u64 iova = cmd->iova, last = iova + (cmd->length - 1);
	int ret;

	take_lock();
	ret = kernel(iommufd, IOMMU_IOAS_UNMAP, cmd);
	for (link = &mappings; !ret && (mapping = *link);) {
		if (mapping->ioas == cmd->ioas_id && mapping->iommufd == iommufd &&
		    iova <= mapping->iova && mapping->iova <= last) {
			*link = mapping->next;
			free(mapping);
		} else {
			link = &mapping->next;
		}
	}
	drop_lock();
	return ret;
}

/*
 * ATTACH pins what was mapped before. Not all of that need be for this device,
 * but all of it has to be at the address that was reported to the program.
 */
static int attach(int device, struct vfio_device_attach_iommufd_pt *cmd)
{
	struct vfio_device_detach_iommufd_pt detach = { .argsz = sizeof(detach) };
	struct mapping *mapping;
	__u64 pa = 0, run;
	int ret;

	take_lock();
	ret = kernel(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, cmd);
	for (mapping = mappings; !ret && mapping; mapping = mapping->next) {
		if (mapping->pinned)
			continue;
		run = get_pa(mapping->iommufd, mapping->ioas, mapping->iova,
			     mapping->length, &pa);
		if (run == 0)
			continue;
		mapping->pinned = run == mapping->length && pa == mapping->iova;
		if (mapping->pinned)
			continue;
		kernel(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
		report("memory that was mapped at %#llx has moved to %#llx: ATTACH first",
		       mapping->iova, pa);
		errno = EFAULT;
		ret = -1;
	}
	drop_lock();
	return ret;
}

/* With --iova-pa, handle an ioctl of iommufd, or ATTACH. */
int iova_pa_ioctl(int fd, unsigned int request, void *arg)
{
	struct iommu_ioas_map_file *file = arg;
	struct iommu_ioas_map *map = arg;
	size_t size = 0;

	if (request == IOMMU_IOAS_MAP)
		size = sizeof(*map);
	else if (request == IOMMU_IOAS_MAP_FILE)
		size = sizeof(*file);
	else if (request == IOMMU_IOAS_UNMAP)
		size = sizeof(struct iommu_ioas_unmap);
	/* The kernel refuses what is too short for its ioctl, or not there. */
	if (size && (!readable(arg, size) || map->size < size))
		return kernel(fd, request, arg);

	switch (request) {
	case IOMMU_IOAS_MAP:
		return map_memory(fd, &(struct map_call){
			request, arg, &map->flags, map->ioas_id, map->user_va,
			-1, 0, map->length, &map->iova });
	case IOMMU_IOAS_MAP_FILE:
		return map_memory(fd, &(struct map_call){
			request, arg, &file->flags, file->ioas_id, 0,
			file->fd, file->start, file->length, &file->iova });
	case IOMMU_IOAS_UNMAP:
		return unmap_memory(fd, arg);
	case IOMMU_IOAS_COPY:
		return fail(EOPNOTSUPP, "COPY: at IOVA = PA memory can be mapped once");
	case VFIO_DEVICE_ATTACH_IOMMUFD_PT:
		return attach(fd, arg);
	default:
		return kernel(fd, request, arg);
	}
}
