// SPDX-License-Identifier: GPL-2.0-only
/*
 * A selftest of the noiommu cdev, with the kernel's kselftest harness. It tests
 * what a driver of a device without an IOMMU relies on, as far as noiommufd is
 * not stricter on purpose than Linux 7.3.
 *
 *	noiommu_cdev [harness options] 0000:00:04.0
 *
 * The device is bound to a driver that offers the cdev. The iommufd is
 * /dev/iommu, or IOMMUFD in the environment. If the device is QEMU's edu, it also
 * does DMA. The tests of huge pages need a reserved one.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/pci_regs.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>

#include <noiommufd/iommufd.h>
#include <noiommufd/vfio.h>

#include "kselftest_harness.h"

#define PAGE		4096ULL
#define HUGE_PAGE	(512 * PAGE)
#define TAINT_USER	64

#define READ_ONLY	(IOMMU_IOAS_MAP_READABLE)
#define READ_WRITE	(IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)

/* QEMU's edu: registers in BAR 0, and where its DMA sees its own buffer */
#define EDU_ID		0x11e81234
#define EDU_SRC		0x80
#define EDU_DST		0x88
#define EDU_COUNT	0x90
#define EDU_COMMAND	0x98
#define EDU_RUN		1
#define EDU_TO_MEMORY	2
#define EDU_BUFFER	0x40000

static const char *bdf;
static char node[300];
static char node_name[256];

/* --- calls: 0 or a negative errno --- */

static int call(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg) < 0 ? -errno : 0;
}

static int dev_bind(int dev, int iommufd, __u32 *devid)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind), .iommufd = iommufd,
	};
	int ret = call(dev, VFIO_DEVICE_BIND_IOMMUFD, &bind);

	if (devid)
		*devid = bind.out_devid;
	return ret;
}

static int attach(int dev, __u32 pt_id, __u32 *hwpt)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach), .pt_id = pt_id,
	};
	int ret = call(dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);

	if (hwpt)
		*hwpt = attach.pt_id;
	return ret;
}

static int detach(int dev)
{
	struct vfio_device_detach_iommufd_pt detach = {
		.argsz = sizeof(detach),
	};

	return call(dev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
}

static int iommufd_open(void)
{
	return open(getenv("IOMMUFD") ?: "/dev/iommu", O_RDWR);
}

static int get_info(int dev)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };

	return call(dev, VFIO_DEVICE_GET_INFO, &info);
}

static int ioas_alloc(int iommufd, __u32 *ioas)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	int ret = call(iommufd, IOMMU_IOAS_ALLOC, &alloc);

	*ioas = alloc.out_ioas_id;
	return ret;
}

static int destroy(int iommufd, __u32 id)
{
	struct iommu_destroy destroy = { .size = sizeof(destroy), .id = id };

	return call(iommufd, IOMMU_DESTROY, &destroy);
}

static int hwpt_alloc(int iommufd, __u32 devid, __u32 ioas, __u32 flags,
		      __u32 *hwpt)
{
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc), .flags = flags,
		.dev_id = devid, .pt_id = ioas,
	};
	int ret = call(iommufd, IOMMU_HWPT_ALLOC, &alloc);

	*hwpt = alloc.out_hwpt_id;
	return ret;
}

static int map(int iommufd, __u32 ioas, __u32 access, void *va, __u64 length,
	       __u64 iova)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | access,
		.ioas_id = ioas,
		.user_va = (uintptr_t)va,
		.length = length,
		.iova = iova,
	};

	return call(iommufd, IOMMU_IOAS_MAP, &map);
}

static int map_file(int iommufd, __u32 ioas, __u32 access, int fd,
		    __u64 length, __u64 iova)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | access,
		.ioas_id = ioas,
		.fd = fd,
		.length = length,
		.iova = iova,
	};

	return call(iommufd, IOMMU_IOAS_MAP_FILE, &map);
}

static int copy(int iommufd, __u32 dst, __u64 dst_iova, __u32 src,
		__u64 src_iova, __u64 length)
{
	struct iommu_ioas_copy copy = {
		.size = sizeof(copy),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | READ_ONLY,
		.dst_ioas_id = dst,
		.src_ioas_id = src,
		.length = length,
		.dst_iova = dst_iova,
		.src_iova = src_iova,
	};

	return call(iommufd, IOMMU_IOAS_COPY, &copy);
}

static int unmap(int iommufd, __u32 ioas, __u64 iova, __u64 length)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap), .ioas_id = ioas,
		.iova = iova, .length = length,
	};
	int ret = call(iommufd, IOMMU_IOAS_UNMAP, &unmap);

	return ret ?: unmap.length == length ? 0 : -ERANGE;
}

/* length: in, the limit; out, the contiguous bytes; NULL: one byte */
static int get_pa(int iommufd, __u32 ioas, __u64 iova, __u64 *length,
		  __u64 *pa)
{
	struct iommu_ioas_noiommu_get_pa get = {
		.size = sizeof(get), .ioas_id = ioas, .iova = iova,
		.length = length ? *length : 1,
	};
	int ret = call(iommufd, IOMMU_IOAS_NOIOMMU_GET_PA, &get);

	if (length)
		*length = get.length;
	if (pa)
		*pa = get.out_phys;
	return ret;
}

/* --- the system --- */

static int drop_rawio(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return -errno;
	data[0].effective &= ~(1U << CAP_SYS_RAWIO);
	return syscall(SYS_capset, &header, data) ? -errno : 0;
}

/* Physical address of va; 0 if not present. */
static __u64 pagemap_pa(const void *va)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uintptr_t at = (uintptr_t)va;
	__u64 entry = 0;

	if (pread(fd, &entry, 8, at / PAGE * 8) != 8)
		entry = 0;
	close(fd);
	/* Present, and its frame in the low 55 bits */
	if (!(entry >> 63))
		return 0;
	return (entry & ((1ULL << 55) - 1)) * PAGE + at % PAGE;
}

static long number_in(const char *path, const char *key)
{
	char line[256];
	long value = -1;
	FILE *f = fopen(path, "r");

	while (f && value < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			sscanf(line + strlen(key), " %li", &value);
	if (f)
		fclose(f);
	return value;
}

static long pinned_kib(void) { return number_in("/proc/self/status", "VmPin:"); }

/* --- the node --- */

FIXTURE(node) {
};

FIXTURE_SETUP(node)
{
}

FIXTURE_TEARDOWN(node)
{
}

TEST_F(node, is_what_sysfs_says)
{
	struct stat st;
	char path[600], dev[32] = "", want[32];
	int fd;

	ASSERT_EQ(0, strncmp(node_name, "noiommu-vfio", 12));
	ASSERT_EQ(0, stat(node, &st));
	EXPECT_TRUE(S_ISCHR(st.st_mode));
	EXPECT_EQ(0600, st.st_mode & 07777);
	EXPECT_EQ(0, st.st_uid);

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev/%s/dev",
		 bdf, node_name);
	fd = open(path, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_LT(0, read(fd, dev, sizeof(dev) - 1));
	close(fd);
	snprintf(want, sizeof(want), "%u:%u\n", major(st.st_rdev),
		 minor(st.st_rdev));
	EXPECT_STREQ(want, dev);
}

TEST_F(node, taints_the_kernel)
{
	EXPECT_TRUE(number_in("/proc/sys/kernel/tainted", "") & TAINT_USER);
}

TEST_F(node, needs_rawio)
{
	int fd = open(node, O_RDWR);

	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, drop_rawio());
	EXPECT_EQ(-1, open(node, O_RDWR));
	EXPECT_EQ(EPERM, errno);
	/* The iommufd does not. */
	fd = iommufd_open();
	EXPECT_LE(0, fd);
}

/* --- binding --- */

FIXTURE(cdev) {
	int iommufd;
	int dev;
};

FIXTURE_SETUP(cdev)
{
	self->iommufd = iommufd_open();
	ASSERT_LE(0, self->iommufd);
	self->dev = open(node, O_RDWR);
	ASSERT_LE(0, self->dev);
}

FIXTURE_TEARDOWN(cdev)
{
	close(self->dev);
	close(self->iommufd);
}

TEST_F(cdev, nothing_before_bind)
{
	char byte;

	EXPECT_EQ(-EINVAL, get_info(self->dev));
	EXPECT_EQ(-EINVAL, attach(self->dev, 1, NULL));
	EXPECT_EQ(-EINVAL, detach(self->dev));
	EXPECT_EQ(-EINVAL, call(self->dev, VFIO_DEVICE_RESET, NULL));
	EXPECT_EQ(-1, read(self->dev, &byte, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED,
				   self->dev, 0));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(cdev, bind)
{
	__u32 devid = 0;

	ASSERT_EQ(0, dev_bind(self->dev, self->iommufd, &devid));
	EXPECT_NE(0, devid);
	EXPECT_EQ(0, get_info(self->dev));
	EXPECT_EQ(-EBUSY, destroy(self->iommufd, devid));
}

TEST_F(cdev, bind_of_the_size_before_tokens)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = offsetof(struct vfio_device_bind_iommufd,
				  token_uuid_ptr),
		.iommufd = self->iommufd,
	};

	bind.argsz--;
	EXPECT_EQ(-EINVAL, call(self->dev, VFIO_DEVICE_BIND_IOMMUFD, &bind));
	bind.argsz++;
	EXPECT_EQ(0, call(self->dev, VFIO_DEVICE_BIND_IOMMUFD, &bind));
}

TEST_F(cdev, bind_to_what_is_no_iommufd)
{
	int fds[2];

	ASSERT_EQ(0, pipe(fds));
	EXPECT_EQ(-EINVAL, dev_bind(self->dev, -1, NULL));
	EXPECT_EQ(-EBADFD, dev_bind(self->dev, fds[0], NULL));
	close(fds[0]);
	EXPECT_EQ(-EBADF, dev_bind(self->dev, fds[0], NULL));
	/* None of them prevents this. */
	EXPECT_EQ(0, dev_bind(self->dev, self->iommufd, NULL));
}

TEST_F(cdev, bind_with_a_token)
{
	__u8 uuid[16] = { 1 };
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind),
		.flags = VFIO_DEVICE_BIND_FLAG_TOKEN,
		.iommufd = self->iommufd,
		.token_uuid_ptr = (uintptr_t)uuid,
	};

	EXPECT_EQ(-EINVAL, call(self->dev, VFIO_DEVICE_BIND_IOMMUFD, &bind));
	bind.flags = 1 << 1;
	EXPECT_EQ(-EINVAL, call(self->dev, VFIO_DEVICE_BIND_IOMMUFD, &bind));
}

TEST_F(cdev, one_owner_at_a_time)
{
	int second = open(node, O_RDWR);

	ASSERT_LE(0, second);
	ASSERT_EQ(0, dev_bind(self->dev, self->iommufd, NULL));
	EXPECT_EQ(-EINVAL, dev_bind(self->dev, self->iommufd, NULL));
	EXPECT_EQ(-EINVAL, dev_bind(second, self->iommufd, NULL));
	EXPECT_EQ(-EINVAL, get_info(second));

	close(self->dev);
	self->dev = second;
	EXPECT_EQ(0, dev_bind(second, self->iommufd, NULL));
	EXPECT_EQ(0, get_info(second));
}

TEST_F(cdev, only_open_and_get_pa_need_rawio)
{
	void *va = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	__u32 ioas;

	ASSERT_NE(MAP_FAILED, va);
	ASSERT_EQ(0, drop_rawio());
	ASSERT_EQ(0, dev_bind(self->dev, self->iommufd, NULL));
	ASSERT_EQ(0, ioas_alloc(self->iommufd, &ioas));
	EXPECT_EQ(0, attach(self->dev, ioas, NULL));
	EXPECT_EQ(0, map(self->iommufd, ioas, READ_WRITE, va, PAGE, 0));
	EXPECT_EQ(-EPERM, get_pa(self->iommufd, ioas, 0, NULL, NULL));
	/* Before anything else that is wrong */
	EXPECT_EQ(-EPERM, get_pa(self->iommufd, 4711, ~0ULL, NULL, NULL));
	EXPECT_EQ(0, unmap(self->iommufd, ioas, 0, PAGE));
	EXPECT_EQ(0, detach(self->dev));
}

/* --- address spaces --- */

FIXTURE(ioas) {
	int iommufd;
	int dev;
	__u32 devid;
	__u32 ioas;
	void *va;
};

FIXTURE_SETUP(ioas)
{
	self->iommufd = iommufd_open();
	ASSERT_LE(0, self->iommufd);
	self->dev = open(node, O_RDWR);
	ASSERT_LE(0, self->dev);
	ASSERT_EQ(0, dev_bind(self->dev, self->iommufd, &self->devid));
	ASSERT_EQ(0, ioas_alloc(self->iommufd, &self->ioas));
	self->va = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->va);
}

FIXTURE_TEARDOWN(ioas)
{
	close(self->dev);
	close(self->iommufd);
}

TEST_F(ioas, is_all_of_the_space)
{
	struct iommu_iova_range range = {};
	struct iommu_ioas_iova_ranges ranges = {
		.size = sizeof(ranges), .ioas_id = self->ioas,
	};

	EXPECT_EQ(-EMSGSIZE, call(self->iommufd, IOMMU_IOAS_IOVA_RANGES,
				  &ranges));
	ASSERT_EQ(1, ranges.num_iovas);
	ranges.allowed_iovas = (uintptr_t)&range;
	ASSERT_EQ(0, call(self->iommufd, IOMMU_IOAS_IOVA_RANGES, &ranges));
	EXPECT_EQ(0, range.start);
	EXPECT_EQ(~0ULL, range.last);
	EXPECT_EQ(1, ranges.out_iova_alignment);

	/* With a device as well, but the alignment is a page then. */
	ASSERT_EQ(0, attach(self->dev, self->ioas, NULL));
	ASSERT_EQ(0, call(self->iommufd, IOMMU_IOAS_IOVA_RANGES, &ranges));
	EXPECT_EQ(0, range.start);
	EXPECT_EQ(~0ULL, range.last);
	EXPECT_EQ(PAGE, ranges.out_iova_alignment);
}

TEST_F(ioas, attach_makes_a_page_table)
{
	__u32 first, again;

	ASSERT_EQ(0, attach(self->dev, self->ioas, &first));
	EXPECT_NE(self->ioas, first);
	EXPECT_EQ(0, attach(self->dev, self->ioas, &again));
	EXPECT_EQ(first, again);
	EXPECT_EQ(-EBUSY, destroy(self->iommufd, self->ioas));
	EXPECT_EQ(-EBUSY, destroy(self->iommufd, first));
	EXPECT_EQ(0, detach(self->dev));
	EXPECT_EQ(-ENOENT, destroy(self->iommufd, first));
	EXPECT_EQ(0, destroy(self->iommufd, self->ioas));
}

TEST_F(ioas, attach_replaces)
{
	__u32 other, first, second;

	ASSERT_EQ(0, ioas_alloc(self->iommufd, &other));
	ASSERT_EQ(0, attach(self->dev, self->ioas, &first));
	ASSERT_EQ(0, attach(self->dev, other, &second));
	EXPECT_NE(first, second);
	EXPECT_EQ(-ENOENT, destroy(self->iommufd, first));
	EXPECT_EQ(0, destroy(self->iommufd, self->ioas));
	EXPECT_EQ(-EBUSY, destroy(self->iommufd, other));
}

TEST_F(ioas, attach_of_the_size_before_pasids)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = offsetof(struct vfio_device_attach_iommufd_pt, pasid),
		.pt_id = self->ioas,
	};
	struct vfio_device_detach_iommufd_pt detach = {
		.argsz = offsetof(struct vfio_device_detach_iommufd_pt, pasid),
	};

	EXPECT_EQ(0, call(self->dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach));
	EXPECT_EQ(0, call(self->dev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach));
}

TEST_F(ioas, attach_to_what_is_none)
{
	int other = iommufd_open();
	__u32 first, theirs;

	ASSERT_LE(0, other);
	EXPECT_EQ(-ENOENT, attach(self->dev, 0, NULL));
	EXPECT_EQ(-ENOENT, attach(self->dev, 4711, NULL));
	EXPECT_EQ(-EINVAL, attach(self->dev, self->devid, NULL));
	/* An id that only the other context has */
	ASSERT_EQ(0, ioas_alloc(other, &first));
	do {
		ASSERT_EQ(0, ioas_alloc(other, &theirs));
	} while (theirs <= self->ioas);
	EXPECT_EQ(-ENOENT, attach(self->dev, theirs, NULL));
	EXPECT_EQ(0, detach(self->dev));
}

TEST_F(ioas, page_table_of_its_own)
{
	__u64 pa = 0;
	__u32 hwpt;

	ASSERT_EQ(0, hwpt_alloc(self->iommufd, self->devid, self->ioas, 0,
				&hwpt));
	EXPECT_EQ(-EBUSY, destroy(self->iommufd, self->ioas));
	/* It exists, and nothing needs to be attached. */
	ASSERT_EQ(0, map(self->iommufd, self->ioas, READ_WRITE, self->va, PAGE,
			 0));
	EXPECT_EQ(0, get_pa(self->iommufd, self->ioas, 0, NULL, &pa));
	EXPECT_EQ(pagemap_pa(self->va), pa);

	EXPECT_EQ(0, attach(self->dev, hwpt, NULL));
	EXPECT_EQ(-EBUSY, destroy(self->iommufd, hwpt));
	EXPECT_EQ(0, detach(self->dev));
	EXPECT_EQ(0, destroy(self->iommufd, hwpt));
	EXPECT_EQ(-EOPNOTSUPP, get_pa(self->iommufd, self->ioas, 0, NULL,
				      NULL));
}

TEST_F(ioas, no_iommu_no_such_thing)
{
	struct iommu_hw_info info = {
		.size = sizeof(info), .dev_id = self->devid,
	};
	__u32 hwpt;

	EXPECT_EQ(-EOPNOTSUPP, hwpt_alloc(self->iommufd, self->devid,
					  self->ioas,
					  IOMMU_HWPT_ALLOC_NEST_PARENT, &hwpt));
	EXPECT_EQ(-EOPNOTSUPP, hwpt_alloc(self->iommufd, self->devid,
					  self->ioas,
					  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
					  &hwpt));
	EXPECT_EQ(-EOPNOTSUPP, call(self->iommufd, IOMMU_GET_HW_INFO, &info));
}

TEST_F(ioas, pins_when_a_device_comes)
{
	long before = pinned_kib();
	__u64 pa = 0;

	ASSERT_EQ(0, map(self->iommufd, self->ioas, READ_WRITE, self->va,
			 2 * PAGE, PAGE));
	EXPECT_EQ(before, pinned_kib());
	EXPECT_EQ(-EOPNOTSUPP, get_pa(self->iommufd, self->ioas, PAGE, NULL,
				      NULL));
	ASSERT_EQ(0, attach(self->dev, self->ioas, NULL));
	EXPECT_EQ(before + 8, pinned_kib());
	EXPECT_EQ(0, get_pa(self->iommufd, self->ioas, PAGE, NULL, &pa));
	EXPECT_EQ(pagemap_pa(self->va), pa);
	ASSERT_EQ(0, detach(self->dev));
	EXPECT_EQ(-EOPNOTSUPP, get_pa(self->iommufd, self->ioas, PAGE, NULL,
				      NULL));
}

TEST_F(ioas, bad_memory_is_seen_when_it_is_pinned)
{
	ASSERT_EQ(0, munmap(self->va, PAGE));
	EXPECT_EQ(0, map(self->iommufd, self->ioas, READ_WRITE, self->va, PAGE,
			 0));
	EXPECT_EQ(-EFAULT, attach(self->dev, self->ioas, NULL));
	EXPECT_EQ(0, unmap(self->iommufd, self->ioas, 0, PAGE));
	EXPECT_EQ(0, attach(self->dev, self->ioas, NULL));
	EXPECT_EQ(-EFAULT, map(self->iommufd, self->ioas, READ_WRITE, self->va,
			       PAGE, 0));
}

TEST_F(ioas, map_says_what_is_wrong)
{
	char *va = self->va;

	ASSERT_EQ(0, attach(self->dev, self->ioas, NULL));
	EXPECT_EQ(-EOPNOTSUPP, map(self->iommufd, self->ioas,
				   READ_WRITE | 1 << 7, va, PAGE, 0));
	EXPECT_EQ(-EINVAL, map(self->iommufd, self->ioas, 0, va, PAGE, 0));
	EXPECT_EQ(-EINVAL, map(self->iommufd, self->ioas, READ_WRITE, va, 0,
			       0));
	EXPECT_EQ(-EINVAL, map(self->iommufd, self->ioas, READ_WRITE, va + 1,
			       PAGE, 0));
	EXPECT_EQ(-EINVAL, map(self->iommufd, self->ioas, READ_WRITE, va,
			       PAGE, 1));
	EXPECT_EQ(-EINVAL, map(self->iommufd, self->ioas, READ_WRITE, va,
			       PAGE + 1, 0));
	EXPECT_EQ(-EOVERFLOW, map(self->iommufd, self->ioas, READ_WRITE, va,
				  2 * PAGE, -PAGE));
	EXPECT_EQ(-ENOENT, map(self->iommufd, 4711, READ_WRITE, va, PAGE, 0));

	ASSERT_EQ(0, map(self->iommufd, self->ioas, READ_WRITE, va, 2 * PAGE,
			 PAGE));
	EXPECT_EQ(-EEXIST, map(self->iommufd, self->ioas, READ_WRITE, va,
			       PAGE, 2 * PAGE));
	EXPECT_EQ(-ENOENT, unmap(self->iommufd, self->ioas, PAGE, PAGE));
	EXPECT_EQ(-ENOENT, unmap(self->iommufd, self->ioas, 8 * PAGE, PAGE));
	EXPECT_EQ(-EINVAL, unmap(self->iommufd, self->ioas, PAGE, 0));
	EXPECT_EQ(0, unmap(self->iommufd, self->ioas, PAGE, 2 * PAGE));
}

TEST_F(ioas, ends_of_the_space)
{
	__u64 pa = 0;

	ASSERT_EQ(0, attach(self->dev, self->ioas, NULL));
	ASSERT_EQ(0, map(self->iommufd, self->ioas, READ_WRITE, self->va, PAGE,
			 0));
	ASSERT_EQ(0, map(self->iommufd, self->ioas, READ_WRITE, self->va, PAGE,
			 -PAGE));
	EXPECT_EQ(0, get_pa(self->iommufd, self->ioas, 0, NULL, &pa));
	EXPECT_EQ(pagemap_pa(self->va), pa);
	EXPECT_EQ(0, get_pa(self->iommufd, self->ioas, -PAGE, NULL, &pa));
	EXPECT_EQ(pagemap_pa(self->va), pa);
}

TEST_F(ioas, chosen_address)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map), .flags = READ_WRITE,
		.ioas_id = self->ioas, .user_va = (uintptr_t)self->va,
		.length = PAGE,
	};
	struct iommu_iova_range range = {
		.start = 64 * PAGE, .last = 65 * PAGE - 1,
	};
	struct iommu_ioas_allow_iovas allow = {
		.size = sizeof(allow), .ioas_id = self->ioas, .num_iovas = 1,
		.allowed_iovas = (uintptr_t)&range,
	};

	ASSERT_EQ(0, call(self->iommufd, IOMMU_IOAS_MAP, &map));
	EXPECT_EQ(PAGE, map.iova);
	ASSERT_EQ(0, call(self->iommufd, IOMMU_IOAS_ALLOW_IOVAS, &allow));
	ASSERT_EQ(0, call(self->iommufd, IOMMU_IOAS_MAP, &map));
	EXPECT_EQ(64 * PAGE, map.iova);
	EXPECT_EQ(-ENOSPC, call(self->iommufd, IOMMU_IOAS_MAP, &map));
}

TEST_F(ioas, get_pa_says_what_is_wrong)
{
	struct {
		struct iommu_ioas_noiommu_get_pa get;
		__u64 more;
	} arg, good = {
		.get = {
			.size = sizeof(good.get), .ioas_id = self->ioas,
			.iova = PAGE, .length = PAGE,
		},
	};

#define EXPECT_GET_PA(_ret, _field, _value)				\
	do {								\
		arg = good;						\
		arg._field = (_value);					\
		EXPECT_EQ(_ret, call(self->iommufd,			\
				     IOMMU_IOAS_NOIOMMU_GET_PA, &arg));	\
	} while (0)

	ASSERT_EQ(0, attach(self->dev, self->ioas, NULL));
	ASSERT_EQ(0, map(self->iommufd, self->ioas, READ_WRITE, self->va, PAGE,
			 PAGE));
	EXPECT_GET_PA(0, get.iova, 2 * PAGE - 1);
	EXPECT_GET_PA(0, get.length, ~0ULL - PAGE);
	EXPECT_GET_PA(-EINVAL, get.length, 0);
	EXPECT_GET_PA(-EOPNOTSUPP, get.flags, 1);
	EXPECT_GET_PA(-EOPNOTSUPP, get.__reserved, 1);
	EXPECT_GET_PA(-EOVERFLOW, get.iova, ~0ULL);
	EXPECT_GET_PA(-ENOENT, get.iova, 0);
	EXPECT_GET_PA(-ENOENT, get.iova, 2 * PAGE);
	EXPECT_GET_PA(-ENOENT, get.ioas_id, 4711);
	EXPECT_GET_PA(-ENOENT, get.ioas_id, self->devid);
	EXPECT_GET_PA(-EINVAL, get.size, sizeof(good.get) - 1);
	good.get.size = sizeof(good);
	EXPECT_GET_PA(0, more, 0);
	EXPECT_GET_PA(-E2BIG, more, 1);
	EXPECT_EQ(-EFAULT, call(self->iommufd, IOMMU_IOAS_NOIOMMU_GET_PA,
				NULL));
}

/* --- memory of any kind --- */

FIXTURE(memory) {
	int iommufd;
	int dev;
	__u32 ioas;
	char *va;
	__u64 size;
	__u64 iova;
	long before;
};

FIXTURE_VARIANT(memory) {
	__u32 access;
	int flags;
	bool file;
	bool untouched;
	bool thp;
};

FIXTURE_VARIANT_ADD(memory, private) {
	.access = READ_WRITE, .flags = MAP_PRIVATE | MAP_ANONYMOUS,
};

/* A private page that is only there to be read is the zero page, to begin with. */
FIXTURE_VARIANT_ADD(memory, read_only) {
	.access = READ_ONLY, .flags = MAP_PRIVATE | MAP_ANONYMOUS,
	.untouched = true,
};

FIXTURE_VARIANT_ADD(memory, shared) {
	.access = READ_WRITE, .flags = MAP_SHARED | MAP_ANONYMOUS,
};

FIXTURE_VARIANT_ADD(memory, file) {
	.access = READ_WRITE, .flags = MAP_SHARED, .file = true,
};

FIXTURE_VARIANT_ADD(memory, huge_page) {
	.access = READ_WRITE,
	.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
};

FIXTURE_VARIANT_ADD(memory, transparent_huge_page) {
	.access = READ_WRITE, .flags = MAP_PRIVATE | MAP_ANONYMOUS, .thp = true,
};

FIXTURE_SETUP(memory)
{
	bool huge = variant->thp || variant->flags & MAP_HUGETLB;
	int fd = -1;

	/* Where a huge page may be mapped as one */
	self->iova = 4 * HUGE_PAGE;
	self->size = huge ? HUGE_PAGE : 16 * PAGE;
	self->iommufd = iommufd_open();
	ASSERT_LE(0, self->iommufd);
	self->dev = open(node, O_RDWR);
	ASSERT_LE(0, self->dev);
	ASSERT_EQ(0, dev_bind(self->dev, self->iommufd, NULL));
	ASSERT_EQ(0, ioas_alloc(self->iommufd, &self->ioas));
	ASSERT_EQ(0, attach(self->dev, self->ioas, NULL));

	if (variant->file) {
		fd = memfd_create("noiommu_cdev", 0);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, ftruncate(fd, self->size));
	}
	self->va = mmap(NULL, self->size * (variant->thp ? 2 : 1),
			PROT_READ | PROT_WRITE, variant->flags, fd, 0);
	if (self->va == MAP_FAILED && variant->flags & MAP_HUGETLB)
		SKIP(return, "no huge page is reserved");
	ASSERT_NE(MAP_FAILED, self->va);
	if (variant->thp) {
		self->va += -(uintptr_t)self->va % HUGE_PAGE;
		if (madvise(self->va, self->size, MADV_HUGEPAGE))
			SKIP(return, "no transparent huge pages");
	}
	if (!variant->untouched)
		memset(self->va, 'a', self->size);

	self->before = pinned_kib();
	if (variant->file) {
		ASSERT_EQ(0, map_file(self->iommufd, self->ioas,
				      variant->access, fd, self->size,
				      self->iova));
	} else {
		ASSERT_EQ(0, map(self->iommufd, self->ioas, variant->access,
				 self->va, self->size, self->iova));
	}
}

FIXTURE_TEARDOWN(memory)
{
	close(self->dev);
	close(self->iommufd);
}

/* Each IOVA translates to the memory that the program sees. */
#define EXPECT_SAME_PAGES()						\
	do {								\
		__u64 _at, _pa;						\
									\
		for (_at = 0; _at < self->size; _at += PAGE) {		\
			_pa = 0;					\
			ASSERT_EQ(0, get_pa(self->iommufd, self->ioas,	\
					    self->iova + _at, NULL,	\
					    &_pa));			\
			ASSERT_EQ(pagemap_pa(self->va + _at), _pa);	\
		}							\
	} while (0)

TEST_F(memory, is_where_pagemap_says)
{
	EXPECT_SAME_PAGES();
}

/* The device and the program go on seeing the same page. */
TEST_F(memory, is_where_it_was_when_written)
{
	memset(self->va, 'b', self->size);
	EXPECT_SAME_PAGES();
}

TEST_F(memory, is_where_it_was_after_fork)
{
	int go[2], status;
	pid_t child;
	char byte;

	ASSERT_EQ(0, pipe(go));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		close(go[1]);
		_exit(read(go[0], &byte, 1));
	}
	memset(self->va, 'c', self->size);
	EXPECT_SAME_PAGES();
	close(go[1]);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_SAME_PAGES();
}

TEST_F(memory, runs_cover_all_of_it)
{
	__u64 at = 0, in, length, pa;

	while (at < self->size) {
		/* More than there is */
		length = 2 * self->size;
		ASSERT_EQ(0, get_pa(self->iommufd, self->ioas, self->iova + at,
				    &length, &pa));
		ASSERT_NE(0, length);
		ASSERT_LE(length, self->size - at);
		for (in = 0; in < length; in += PAGE)
			ASSERT_EQ(pagemap_pa(self->va + at + in), pa + in);
		at += length;
		if (variant->flags & MAP_HUGETLB)
			EXPECT_EQ(self->size, at);
	}
}

TEST_F(memory, address_inside_a_page)
{
	__u64 length = 1, pa = 0;

	ASSERT_EQ(0, get_pa(self->iommufd, self->ioas, self->iova + PAGE + 123,
			    &length, &pa));
	EXPECT_EQ(1, length);
	EXPECT_EQ(pagemap_pa(self->va + PAGE + 123), pa);

	/* To the end, which comes before the limit */
	length = PAGE;
	ASSERT_EQ(0, get_pa(self->iommufd, self->ioas,
			    self->iova + self->size - 7, &length, &pa));
	EXPECT_EQ(7, length);
	EXPECT_EQ(pagemap_pa(self->va + self->size - 7), pa);
}

TEST_F(memory, stays_when_the_program_lets_go)
{
	__u64 first = pagemap_pa(self->va), pa = 0, at;
	char *other;

	ASSERT_EQ(0, munmap(self->va, self->size));
	/* If its frames were free, this would take them. */
	other = mmap(NULL, self->size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(MAP_FAILED, other);
	for (at = 0; at < self->size; at += PAGE)
		ASSERT_NE(first, pagemap_pa(other + at));
	ASSERT_EQ(0, get_pa(self->iommufd, self->ioas, self->iova, NULL, &pa));
	EXPECT_EQ(first, pa);
}

TEST_F(memory, is_charged_until_it_is_unmapped)
{
	EXPECT_EQ(self->before + (long)self->size / 1024, pinned_kib());
	ASSERT_EQ(-ENOENT, unmap(self->iommufd, self->ioas, self->iova,
				 self->size - PAGE));
	EXPECT_EQ(self->before + (long)self->size / 1024, pinned_kib());
	ASSERT_EQ(0, unmap(self->iommufd, self->ioas, self->iova, self->size));
	EXPECT_EQ(self->before, pinned_kib());
	EXPECT_EQ(-ENOENT, get_pa(self->iommufd, self->ioas, self->iova, NULL,
				  NULL));
}

TEST_F(memory, copy_outlives_its_source)
{
	__u64 want = pagemap_pa(self->va + 2 * PAGE), pa = 0;
	__u32 other;

	ASSERT_EQ(0, ioas_alloc(self->iommufd, &other));
	ASSERT_EQ(0, copy(self->iommufd, other, PAGE, self->ioas,
			  self->iova + 2 * PAGE, PAGE));
	/* Pinned and charged once */
	EXPECT_EQ(self->before + (long)self->size / 1024, pinned_kib());
	ASSERT_EQ(0, unmap(self->iommufd, self->ioas, self->iova, self->size));
	ASSERT_EQ(0, attach(self->dev, other, NULL));
	ASSERT_EQ(0, get_pa(self->iommufd, other, PAGE, NULL, &pa));
	EXPECT_EQ(want, pa);
	EXPECT_EQ(pagemap_pa(self->va + 2 * PAGE), pa);
	EXPECT_EQ(-ENOENT, get_pa(self->iommufd, other, 2 * PAGE, NULL, NULL));
}

TEST_F(memory, areas_are_apart)
{
	__u64 length, pa;

	/* The same page behind the last one, and the next one behind that */
	ASSERT_EQ(0, copy(self->iommufd, self->ioas, self->iova + self->size,
			  self->ioas, self->iova, PAGE));
	length = 2 * PAGE;
	ASSERT_EQ(0, get_pa(self->iommufd, self->ioas,
			    self->iova + self->size - PAGE, &length, &pa));
	EXPECT_EQ(PAGE, length);
	EXPECT_EQ(pagemap_pa(self->va + self->size - PAGE), pa);
	length = 2 * PAGE;
	ASSERT_EQ(0, get_pa(self->iommufd, self->ioas, self->iova + self->size,
			    &length, &pa));
	EXPECT_EQ(PAGE, length);
	EXPECT_EQ(pagemap_pa(self->va), pa);
}

/* --- a device at work, and how long it may go on --- */

FIXTURE(edu) {
	int iommufd;
	int dev;
	__u32 ioas;
	void *bar;
	char *va;
	__u64 from;
	__u64 to;
};

FIXTURE_SETUP(edu)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	__u32 id = 0;
	__u16 command;

	self->iommufd = iommufd_open();
	ASSERT_LE(0, self->iommufd);
	self->dev = open(node, O_RDWR);
	ASSERT_LE(0, self->dev);
	ASSERT_EQ(0, dev_bind(self->dev, self->iommufd, NULL));
	ASSERT_EQ(0, ioas_alloc(self->iommufd, &self->ioas));
	ASSERT_EQ(0, attach(self->dev, self->ioas, NULL));

	ASSERT_EQ(0, call(self->dev, VFIO_DEVICE_GET_REGION_INFO, &info));
	ASSERT_EQ(4, pread(self->dev, &id, 4, info.offset + PCI_VENDOR_ID));
	if (id != EDU_ID)
		SKIP(return, "%s is no edu", bdf);
	ASSERT_EQ(2, pread(self->dev, &command, 2, info.offset + PCI_COMMAND));
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	ASSERT_EQ(2, pwrite(self->dev, &command, 2,
			    info.offset + PCI_COMMAND));

	info.index = VFIO_PCI_BAR0_REGION_INDEX;
	ASSERT_EQ(0, call(self->dev, VFIO_DEVICE_GET_REGION_INFO, &info));
	self->bar = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED,
			 self->dev, info.offset);
	ASSERT_NE(MAP_FAILED, self->bar);

	/* Page 0 is to be read, page 1 to be written. */
	self->va = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->va);
	ASSERT_EQ(0, map(self->iommufd, self->ioas, READ_WRITE, self->va,
			 2 * PAGE, 16 * PAGE));
	ASSERT_EQ(0, get_pa(self->iommufd, self->ioas, 16 * PAGE, NULL,
			    &self->from));
	ASSERT_EQ(0, get_pa(self->iommufd, self->ioas, 17 * PAGE, NULL,
			    &self->to));
}

FIXTURE_TEARDOWN(edu)
{
	close(self->dev);
	close(self->iommufd);
}

static void write64(void *bar, size_t at, __u64 value)
{
	__atomic_store_n((__u64 *)((char *)bar + at), value, __ATOMIC_RELEASE);
}

static __u64 read64(void *bar, size_t at)
{
	return __atomic_load_n((__u64 *)((char *)bar + at), __ATOMIC_ACQUIRE);
}

static int edu_dma(void *bar, __u64 src, __u64 dst, __u64 count, __u64 command)
{
	struct timespec ms = { .tv_nsec = 1000000 };
	int tries;

	write64(bar, EDU_SRC, src);
	write64(bar, EDU_DST, dst);
	write64(bar, EDU_COUNT, count);
	write64(bar, EDU_COMMAND, command | EDU_RUN);
	for (tries = 0; tries < 10000; tries++) {
		if (!(read64(bar, EDU_COMMAND) & EDU_RUN))
			return 0;
		nanosleep(&ms, NULL);
	}
	return -ETIMEDOUT;
}

/* 100 bytes to the device and back again */
#define ASSERT_ROUND_TRIP(_byte)					\
	do {								\
		memset(self->va, (_byte), 100);				\
		memset(self->va + PAGE, 0, PAGE);			\
		ASSERT_EQ(0, edu_dma(self->bar, self->from, EDU_BUFFER,	\
				     100, 0));				\
		ASSERT_EQ(0, edu_dma(self->bar, EDU_BUFFER, self->to,	\
				     100, EDU_TO_MEMORY));		\
		ASSERT_EQ(0, memcmp(self->va, self->va + PAGE, 100));	\
		ASSERT_EQ(0, self->va[PAGE + 100]);			\
	} while (0)

TEST_F(edu, reads_and_writes)
{
	ASSERT_ROUND_TRIP('d');
	ASSERT_ROUND_TRIP('e');
}

TEST_F(edu, iommufd_closed_first)
{
	close(self->iommufd);
	ASSERT_ROUND_TRIP('f');
	EXPECT_EQ(0, attach(self->dev, self->ioas, NULL));
	EXPECT_EQ(0, get_info(self->dev));
	ASSERT_ROUND_TRIP('g');
}

/* The files in another process, and closed here: it is bound and works there. */
TEST_F(edu, files_in_another_process)
{
	char space[CMSG_SPACE(2 * sizeof(int))] = {}, byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = space, .msg_controllen = sizeof(space),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int ends[2], fds[2], status;
	__u64 pa = 0;
	pid_t child;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fds));
	fds[0] = self->dev;
	fds[1] = self->iommufd;
	memcpy(CMSG_DATA(cmsg), fds, sizeof(fds));
	ASSERT_EQ(1, sendmsg(ends[0], &msg, 0));

	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		close(self->dev);
		close(self->iommufd);
		if (recvmsg(ends[1], &msg, 0) != 1)
			_exit(1);
		memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fds));
		/* The parent has closed its files when it says so. */
		if (read(ends[1], &byte, 1) != 1)
			_exit(2);
		if (get_info(fds[0]))
			_exit(3);
		if (get_pa(fds[1], self->ioas, 16 * PAGE, NULL, &pa) ||
		    pa != self->from)
			_exit(4);
		_exit(0);
	}
	close(self->dev);
	close(self->iommufd);
	ASSERT_EQ(1, write(ends[0], &byte, 1));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
}

/* --- */

/* /sys/bus/pci/devices/BDF/vfio-dev/noiommu-vfioX has the name of the node. */
static bool find_node(void)
{
	char path[300];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		if (!strncmp(entry->d_name, "noiommu-vfio", 12))
			snprintf(node_name, sizeof(node_name), "%s",
				 entry->d_name);
	if (dir)
		closedir(dir);
	snprintf(node, sizeof(node), "/dev/vfio/devices/%s", node_name);
	return *node_name;
}

int main(int argc, char **argv)
{
	bdf = argc > 1 ? argv[argc - 1] : "";
	if (!strchr(bdf, ':'))
		ksft_exit_skip("no device: give its PCI address as the last argument\n");
	if (!find_node())
		ksft_exit_fail_msg("%s has no noiommu-vfioX: bind it to a driver that offers one\n",
				   bdf);
	return test_harness_run(argc - 1, argv);
}
