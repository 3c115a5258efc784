// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two groups in one program: one of the kernel's own VFIO, and one that
 * libnoiommufd-vfio.so makes. Both can be used, and bad input has the same errno.
 *
 * It runs in the guest of twins, whose intel-iommu manages some devices and not
 * others.
 */
#include <dirent.h>

#include "preload.h"

#define THEIRS	0
#define OURS	1

/* As QEMU's edu has */
#define VENDOR	0x1234
#define DEVICE	0x11e8

#define MAP_FLAGS	(VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)

struct side {
	char bdf[32];
	int container;
	int group;
	int device;
};

static struct side sides[2];

/* An edu that an IOMMU manages or, for us, one that none does */
static void find(struct side *s, bool managed)
{
	char path[320], name[64];
	struct dirent *entry;
	DIR *dir = opendir(SYSFS);

	expect(dir);
	while ((entry = readdir(dir))) {
		if (*entry->d_name == '.')
			continue;
		snprintf(s->bdf, sizeof(s->bdf), "%.31s", entry->d_name);
		snprintf(path, sizeof(path), SYSFS "/%s/vendor", s->bdf);
		if (read_number(path) != VENDOR)
			continue;
		snprintf(path, sizeof(path), SYSFS "/%s/device", s->bdf);
		if (read_number(path) == DEVICE &&
		    device_link(s->bdf, "iommu_group", name, sizeof(name)) == managed) {
			closedir(dir);
			return;
		}
	}
	fail("the guest has no edu %s IOMMU", managed ? "with an" : "without an");
}

static void setup(void)
{
	find(&sides[THEIRS], true);
	find(&sides[OURS], false);
	expect_eq(system("modprobe -a vfio-pci vfio_iommu_type1"), 0);
	/* The emulated IOMMU does not remap interrupts. */
	write_file("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "1");
	driver_bind_to(sides[THEIRS].bdf, "vfio-pci");
	sides[THEIRS].group = group_open(sides[THEIRS].bdf);
	sides[OURS].group = group_open(sides[OURS].bdf);
	expect(group_number(sides[THEIRS].bdf) < 1000000);
	expect(group_number(sides[OURS].bdf) >= 1000000);
}

static void use(struct side *s)
{
	expect_ok(set_container(s->group, s->container));
	expect_ok(set_iommu(s->container, VFIO_TYPE1_IOMMU));
	s->device = expect_ok(get_device(s->group, s->bdf));
}

static void expect_dma(struct side *s, char *va, __u64 iova)
{
	void *bar = region_mmap(s->device, VFIO_PCI_BAR0_REGION_INDEX, PROT_READ | PROT_WRITE);

	bus_master(s->device, true);
	snprintf(va, PAGE, "%s", s->bdf);
	edu_read_from(bar, iova, 64);
	memset(va, '-', 64);
	edu_write_to(bar, iova, 64);
	expect(!strcmp(va, s->bdf));
}

/* The first group decides whose a container is. */
TEST(both)
{
	char path[64], target[64] = "";
	char *va = mem(PAGE);
	__u64 pa = pagemap_pa(va), done;
	int i;

	setup();
	for (i = 0; i < 2; i++) {
		sides[i].container = container_open();
		use(&sides[i]);
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", sides[THEIRS].container);
	expect_ok(readlink(path, target, sizeof(target) - 1));
	expect(!strcmp(target, CONTAINER));
	expect_ok(map_dma(sides[THEIRS].container, va, PAGE, 2 * PAGE));
	expect_ok(map_dma(sides[OURS].container, va, PAGE, pa));
	expect_dma(&sides[THEIRS], va, 2 * PAGE);
	expect_dma(&sides[OURS], va, pa);
	expect_dma(&sides[THEIRS], va, 2 * PAGE);
	expect_ok(unmap_dma(sides[THEIRS].container, 2 * PAGE, PAGE, &done));
	expect_eq(done, PAGE);
	expect_dma(&sides[OURS], va, pa);
}

static void reopen(struct side *s)
{
	expect_ok(close(s->device));
	expect_ok(close(s->group));
	s->group = group_open(s->bdf);
}

/* Neither goes into the other's container, which stays as it was. */
TEST(not_together)
{
	int spare = container_open(), i;

	setup();
	for (i = 0; i < 2; i++)
		sides[i].container = container_open();
	use(&sides[OURS]);
	listen_to_library();
	expect_refused(set_container(sides[THEIRS].group, sides[OURS].container), EPERM,
		       "the kernel's vfio");
	unsetenv("NOIOMMUFD_DEBUG");
	use(&sides[THEIRS]);
	reopen(&sides[OURS]);
	setenv("NOIOMMUFD_DEBUG", "1", 1);
	expect_refused(set_container(sides[OURS].group, sides[THEIRS].container), EPERM,
		       "the kernel's vfio");

	/* What fails has not made the container the kernel's. */
	expect_errno(set_container(open("/dev/null", O_RDWR), spare), ENOTTY);
	expect_errno(set_container(sides[THEIRS].group, spare), EINVAL);
	expect_ok(set_container(sides[OURS].group, spare));

	/* The group of ours that it had has left. */
	reopen(&sides[THEIRS]);
	expect_ok(set_container(sides[THEIRS].group, sides[OURS].container));
}

/* A call for both sides, of which s is one; they return the same, with the same errno. */
#define compare(call) do {						\
	struct side *s = &sides[THEIRS];				\
	long theirs = (call), ours;					\
	int error = errno;						\
									\
	s = &sides[OURS];						\
	ours = (call);							\
	expect_same(__LINE__, #call, theirs, error, ours, errno);	\
} while (0)

/* For one that returns an fd */
#define compare_fd(call)	compare((call) < 0 ? -1 : 0)

static unsigned int refused;

static void expect_same(int line, const char *call, long theirs, int their_errno,
			long ours, int our_errno)
{
	if (theirs != ours || (theirs < 0 && their_errno != our_errno))
		test_fail(__FILE__, line, "%s: expected %ld (%s) as VFIO says, got %ld (%s)", call,
			  theirs, theirs < 0 ? strerrorname_np(their_errno) : "",
			  ours, ours < 0 ? strerrorname_np(our_errno) : "");
	refused += theirs < 0;
}

static int map_with(int container, __u32 argsz, __u32 flags, void *va, __u64 size, __u64 iova)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = argsz, .flags = flags, .vaddr = (uintptr_t)va, .iova = iova, .size = size,
	};

	return lib(ioctl)(container, VFIO_IOMMU_MAP_DMA, &map);
}

static int unmap_with(int container, __u32 argsz, __u32 flags, __u64 iova, __u64 size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = argsz, .flags = flags, .iova = iova, .size = size,
	};

	return lib(ioctl)(container, VFIO_IOMMU_UNMAP_DMA, &unmap);
}

static int info_with(int container, __u32 argsz)
{
	struct vfio_iommu_type1_info info = { .argsz = argsz };

	return lib(ioctl)(container, VFIO_IOMMU_GET_INFO, &info);
}

static int status_with(int group, __u32 argsz)
{
	struct vfio_group_status status = { .argsz = argsz };

	return lib(ioctl)(group, VFIO_GROUP_GET_STATUS, &status) ? -1 : (int)status.flags;
}

static void compare_group(void)
{
	compare(lib(ioctl)(s->group, VFIO_GROUP_GET_STATUS, NULL));
	compare(lib(ioctl)(s->group, VFIO_GROUP_SET_CONTAINER, NULL));
	compare_fd(lib(ioctl)(s->group, VFIO_GROUP_GET_DEVICE_FD, NULL));
	compare(status_with(s->group, 7));
	compare(status_with(s->group, 8));
	compare(set_container(s->group, -1));
	compare(set_container(s->group, 9999));
	compare_fd(get_device(s->group, "0000:00:1f.7"));
	compare_fd(get_device(s->group, ""));
	/* Until Linux 6.1 VFIO had EINVAL for that. */
	if (!kernel_is_before(6, 2))
		compare(set_container(s->group, s->group));
}

static void compare_container(void *va, __u64 pa)
{
	void *none = mem(PAGE);
	void *read_only = mem_flags(PAGE, PROT_READ,
				    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE);

	expect_ok(munmap(none, PAGE));
	compare(lib(ioctl)(s->container, VFIO_GET_API_VERSION));
	compare(lib(ioctl)(s->container, VFIO_IOMMU_MAP_DMA, NULL));
	compare(lib(ioctl)(s->container, VFIO_IOMMU_UNMAP_DMA, NULL));
	compare(lib(ioctl)(s->container, VFIO_IOMMU_GET_INFO, NULL));
	compare(info_with(s->container, 15));
	compare(map_with(s->container, 31, MAP_FLAGS, va, PAGE, pa));
	compare(map_with(s->container, 32, 8 | MAP_FLAGS, va, PAGE, pa));
	compare(map_with(s->container, 32, 0, va, PAGE, pa));
	compare(map_with(s->container, 32, MAP_FLAGS, va, 0, pa));
	compare(map_with(s->container, 32, MAP_FLAGS, va, 100, pa));
	compare(map_with(s->container, 32, MAP_FLAGS, va + 100, PAGE, pa));
	compare(map_with(s->container, 32, MAP_FLAGS, va, PAGE, pa + 100));
	compare(map_with(s->container, 32, MAP_FLAGS, none, PAGE, pa));
	compare(map_with(s->container, 32, MAP_FLAGS, NULL, PAGE, pa));
	compare(map_with(s->container, 32, MAP_FLAGS, read_only, PAGE, pa));
	compare(map_with(s->container, 32, MAP_FLAGS, va, PAGE, pa));
	compare(map_with(s->container, 32, MAP_FLAGS, va, PAGE, pa));
	compare(map_with(s->container, 32, MAP_FLAGS, va, 2 * PAGE, pa - PAGE));
	compare(unmap_with(s->container, 23, 0, pa, PAGE));
	compare(unmap_with(s->container, 24, 8, pa, PAGE));
	compare(unmap_with(s->container, 24, 0, pa, 100));
	compare(unmap_with(s->container, 24, 0, pa, PAGE));
}

TEST(errnos)
{
	void *va = mem(2 * PAGE);
	__u64 pa = pagemap_pa(va);
	int i;

	setup();
	sides[THEIRS].container = open(CONTAINER, O_RDWR);
	sides[OURS].container = container_open();

	compare_group();
	compare_container(va, pa);
	compare_fd(get_device(s->group, s->bdf));
	compare(unset_container(s->group));
	compare(set_iommu(s->container, VFIO_TYPE1_IOMMU));
	compare(set_container(s->group, s->container));
	compare_group();
	compare_container(va, pa);
	compare(set_container(s->group, s->container));
	compare(set_iommu(s->container, 4711));
	compare(set_iommu(s->container, 0));
	compare(set_iommu(s->container, VFIO_TYPE1_IOMMU));
	compare(set_iommu(s->container, VFIO_TYPE1_IOMMU));
	compare(set_iommu(s->container, 4711));
	compare_group();
	compare_container(va, pa);
	compare(unset_container(s->group));
	compare(unset_container(s->group));
	compare_group();
	for (i = 0; i < 2; i++)
		expect_ok(close(sides[i].container));
	compare(set_container(s->group, s->container));
	printf("# %u calls were refused\n", refused);
	fflush(stdout);
	expect(refused > 100);
}

/* Memory that this user may not lock */
TEST(memlock)
{
	void *va = mem(PAGE);
	__u64 pa = pagemap_pa(va);
	int i;

	setup();
	for (i = 0; i < 2; i++) {
		sides[i].container = container_open();
		use(&sides[i]);
	}
	drop_cap(CAP_IPC_LOCK);
	set_memlock(0);
	compare(map_with(s->container, 32, MAP_FLAGS, va, PAGE, pa));
	expect_eq(refused, 1);
}
