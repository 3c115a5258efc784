// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <noiommufd/iommufd.h>
#include <noiommufd/noiommufd.h>
#include <noiommufd/vfio.h>

#include "fake.h"

#define PAGE		4096ULL
#define SYS		"/sys/bus/pci/devices/" FAKE_DEVICE
#define NODE		"/dev/vfio/devices/noiommu-vfio0"
/* Where the device's regions are in its file */
#define REGION(index)	((__u64)(index) << 24)
#define BAR_SIZE	8192
#define MAPPINGS	4096

int until_failure;
bool scattered, as_mainline;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mapping {
	__u64 iova, length, va;
	__u32 ioas;
} mappings[MAPPINGS];
static __u32 nr_mappings, nr_ioas, last_id;
static long long bytes;

static void die(const char *what)
{
	perror(what);
	_exit(1);
}

static void make(const char *path, const char *text)
{
	char parent[256], *slash;
	int fd;

	snprintf(parent, sizeof(parent), "%s", path);
	for (slash = strchr(parent + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(parent, 0755);
		*slash = '/';
	}
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

/* In a mount namespace of its own */
void fake_kernel(void)
{
	if (unshare(CLONE_NEWNS) || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) ||
	    mount("fake", "/sys", "tmpfs", 0, NULL) || mount("fake", "/dev", "tmpfs", 0, NULL))
		die("fake");
	make(SYS "/modalias", "pci:v00001234d000011E8sv00001AF4sd00001100bc00scFFi00");
	make(SYS "/numa_node", "-1");
	make(SYS "/vfio-dev/noiommu-vfio0/dev", "");
	make("/sys/class/vfio-dev/noiommu-vfio0/uevent", "");
	if (symlink("/drivers/noiommu-vfio-pci", SYS "/driver") ||
	    symlink(SYS, "/sys/class/vfio-dev/noiommu-vfio0/device"))
		die("fake");
	make("/dev/noiommufd", "");
	make(NODE, "");
	if (truncate(NODE, REGION(VFIO_PCI_NUM_REGIONS)))
		die(NODE);
}

__u64 fake_pa(const void *va)
{
	__u64 address = (uintptr_t)va;

	return address ^ (scattered ? PAGE : 0);
}

long long fake_left(void)
{
	return nr_mappings + nr_ioas + bytes;
}

static bool fails(void)
{
	if (!__atomic_load_n(&until_failure, __ATOMIC_RELAXED) || --until_failure)
		return false;
	errno = ENOMEM;
	return true;
}

static int failed(int error)
{
	errno = error;
	return -1;
}

/* The mapping in which @iova is, or that begins before @end; or NULL */
static struct mapping *find(__u32 ioas, __u64 iova, __u64 length)
{
	__u32 i;

	for (i = 0; i < nr_mappings; i++) {
		struct mapping *m = &mappings[i];

		if (m->ioas == ioas && iova < m->iova + m->length && m->iova < iova + length)
			return m;
	}
	return NULL;
}

static int add(__u32 ioas, __u64 iova, __u64 length, __u64 va)
{
	if (find(ioas, iova, length))
		return failed(EEXIST);
	if (nr_mappings == MAPPINGS)
		return failed(ENOMEM);
	mappings[nr_mappings++] = (struct mapping){ iova, length, va, ioas };
	return 0;
}

static int do_map(struct iommu_ioas_map *map)
{
	static __u64 next = 1ULL << 61;

	if (!(map->flags & IOMMU_IOAS_MAP_FIXED_IOVA)) {
		map->iova = next;
		next += map->length;
	}
	return add(map->ioas_id, map->iova, map->length, map->user_va);
}

static int do_copy(const struct iommu_ioas_copy *copy)
{
	struct mapping *from = find(copy->src_ioas_id, copy->src_iova, copy->length);

	if (!from)
		return failed(ENOENT);
	return add(copy->dst_ioas_id, copy->dst_iova, copy->length,
		   from->va + (copy->src_iova - from->iova));
}

static int do_unmap(const struct iommu_ioas_unmap *unmap)
{
	struct mapping *m = find(unmap->ioas_id, unmap->iova, unmap->length);

	if (!m || m->iova != unmap->iova || m->length != unmap->length)
		return failed(ENOENT);
	*m = mappings[--nr_mappings];
	return 0;
}

/* Returns the length of the run at @iova, 0 if nothing is there. */
static __u64 run(__u32 ioas, __u64 iova, __u64 length, __u64 *pa)
{
	struct mapping *m = find(ioas, iova, 1);
	__u64 va, rest;

	if (!m)
		return 0;
	va = m->va + (iova - m->iova);
	rest = m->iova + m->length - iova;
	if (scattered)
		rest = PAGE - va % PAGE;
	*pa = fake_pa((void *)(uintptr_t)va);
	return rest < length ? rest : length;
}

static int do_get_pa(struct iommu_ioas_noiommu_get_pa *get)
{
	get->length = run(get->ioas_id, get->iova, get->length, (__u64 *)&get->out_phys);
	return get->length ? 0 : failed(ENOENT);
}

static int do_get_runs(struct noiommufd_ioas_get_pa_runs *get)
{
	struct noiommufd_run *runs = (void *)(uintptr_t)get->runs;
	__u64 done = 0;
	__u32 nr;

	if (as_mainline)
		return failed(ENOTTY);
	for (nr = 0; nr < get->num_runs && done < get->length; nr++) {
		runs[nr].length = run(get->ioas_id, get->iova + done, get->length - done,
				      (__u64 *)&runs[nr].phys);
		if (!runs[nr].length)
			break;
		done += runs[nr].length;
	}
	get->num_runs = nr;
	get->length = done;
	return nr ? 0 : failed(ENOENT);
}

static int do_hot_reset_info(struct vfio_pci_hot_reset_info *info)
{
	const __u32 count = 9;

	info->count = count;
	if (info->argsz < sizeof(*info) + count * sizeof(info->devices[0]))
		return failed(ENOSPC);
	memset(info->devices, 0, count * sizeof(info->devices[0]));
	return 0;
}

static int do_ioctl(unsigned long request, void *arg)
{
	struct vfio_region_info *region = arg;

	switch (request) {
	case IOMMU_IOAS_ALLOC:
		nr_ioas++;
		((struct iommu_ioas_alloc *)arg)->out_ioas_id = ++last_id;
		return 0;
	case IOMMU_DESTROY:
		nr_ioas--;
		return 0;
	case IOMMU_IOAS_MAP:
		return do_map(arg);
	case IOMMU_IOAS_COPY:
		return do_copy(arg);
	case IOMMU_IOAS_UNMAP:
		return do_unmap(arg);
	case IOMMU_IOAS_NOIOMMU_GET_PA:
		return do_get_pa(arg);
	case NOIOMMUFD_IOAS_GET_PA_RUNS:
		return do_get_runs(arg);
	case NOIOMMUFD_MEM_ALLOC:
		return failed(ENOTTY);
	case VFIO_DEVICE_GET_REGION_INFO:
		region->offset = REGION(region->index);
		region->size = region->index == VFIO_PCI_CONFIG_REGION_INDEX ? 256 : BAR_SIZE;
		region->flags = VFIO_REGION_INFO_FLAG_MMAP;
		return 0;
	case VFIO_DEVICE_GET_IRQ_INFO:
		((struct vfio_irq_info *)arg)->count = 4;
		return 0;
	case VFIO_DEVICE_GET_PCI_HOT_RESET_INFO:
		return do_hot_reset_info(arg);
	default:
		return 0;
	}
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;
	int rc;

	(void)fd;
	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	/* These two give back, and do not fail. */
	if (request != IOMMU_IOAS_UNMAP && request != IOMMU_DESTROY && fails())
		return -1;
	pthread_mutex_lock(&lock);
	rc = do_ioctl(request, arg);
	pthread_mutex_unlock(&lock);
	return rc;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t num, size_t size)
{
	return fails() ? NULL : __real_calloc(num, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

int __wrap_eventfd(unsigned int count, int flags)
{
	return fails() ? -1 : __real_eventfd(count, flags);
}

void *__wrap_mmap(void *va, size_t size, int prot, int flags, int fd, off_t offset)
{
	void *got = fails() ? MAP_FAILED : __real_mmap(va, size, prot, flags, fd, offset);

	if (got != MAP_FAILED)
		__atomic_add_fetch(&bytes, (size + PAGE - 1) & -PAGE, __ATOMIC_RELAXED);
	return got;
}

int __wrap_munmap(void *va, size_t size)
{
	__atomic_sub_fetch(&bytes, (size + PAGE - 1) & -PAGE, __ATOMIC_RELAXED);
	return __real_munmap(va, size);
}
