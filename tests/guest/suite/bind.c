// SPDX-License-Identifier: GPL-2.0-only
/*
 * BIND, ATTACH, DETACH, HWPT_ALLOC and DESTROY: order, errno, and which object
 * lives how long.
 */
#include <poll.h>
#include <sys/eventfd.h>

#include "harness.h"

/* Structs that are longer than the kernel knows. */
struct full_bind {
	__u32 argsz;
	__u32 flags;
	__s32 iommufd;
	__u32 out_devid;
	__u64 token_uuid_ptr;
	__u64 tail;
};

struct full_attach {
	__u32 argsz;
	__u32 flags;
	__u32 pt_id;
	__u32 pasid;
	__u32 tail;
};

static int bind_with(int dev, __u32 argsz, __u32 flags, int iommufd,
		     const void *token, __u64 tail)
{
	struct full_bind bind = {
		.argsz = argsz, .flags = flags, .iommufd = iommufd,
		.token_uuid_ptr = (uintptr_t)token, .tail = tail,
	};

	return ioctl(dev, VFIO_DEVICE_BIND_IOMMUFD, &bind);
}

static int attach_with(int dev, __u32 argsz, __u32 flags, __u32 pt_id,
		       __u32 pasid)
{
	struct full_attach attach = {
		.argsz = argsz, .flags = flags, .pt_id = pt_id, .pasid = pasid,
		.tail = 4711,
	};

	return ioctl(dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
}

static int detach_with(int dev, __u32 argsz, __u32 flags, __u32 pasid)
{
	struct vfio_device_detach_iommufd_pt detach = {
		.argsz = argsz, .flags = flags, .pasid = pasid,
	};

	return ioctl(dev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
}

/* The last bytes of a page before a hole */
static void *before_a_hole(const void *data, size_t size)
{
	void *page = mem(2 * PAGE);

	expect_ok(munmap(page + PAGE, PAGE));
	return memcpy(page + PAGE - size, data, size);
}

static void expect_not_bound(int dev)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };

	expect_errno(ioctl(dev, VFIO_DEVICE_GET_INFO, &info), EINVAL);
}

TEST(before_bind)
{
	struct vfio_region_info region = { .argsz = sizeof(region) };
	struct vfio_irq_info irq = { .argsz = sizeof(irq) };
	struct vfio_device_feature feature = {
		.argsz = sizeof(feature),
		.flags = VFIO_DEVICE_FEATURE_PROBE | 1,
	};
	int dev = cdev_open(edu()), iommu = iommu_open();
	struct pollfd poll_dev = { .fd = dev, .events = POLLIN | POLLOUT };
	__u32 pt = new_ioas(iommu), value = 0;

	expect_not_bound(dev);
	expect_errno(ioctl(dev, VFIO_DEVICE_GET_REGION_INFO, &region), EINVAL);
	expect_errno(ioctl(dev, VFIO_DEVICE_GET_IRQ_INFO, &irq), EINVAL);
	expect_errno(ioctl(dev, VFIO_DEVICE_RESET), EINVAL);
	expect_errno(ioctl(dev, VFIO_DEVICE_FEATURE, &feature), EINVAL);
	expect_errno(ioctl(dev, _IO(VFIO_TYPE, VFIO_BASE + 99), 0), EINVAL);
	expect_errno(dev_attach(dev, &pt), EINVAL);
	expect_errno(dev_detach(dev), EINVAL);
	expect_errno(read(dev, &value, 4), EINVAL);
	expect_errno(pread(dev, &value, 4, 0), EINVAL);
	expect_errno(write(dev, &value, 4), EINVAL);
	expect_errno(pwrite(dev, &value, 4, 0), EINVAL);
	expect(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, dev, 0) == MAP_FAILED);
	expect_eq(errno, EINVAL);
	expect_eq(poll(&poll_dev, 1, 0), 1);
	expect_eq(poll_dev.revents, 0x5);
}

TEST(bind_wrong_fd)
{
	int dev = cdev_open(edu()), iommu = iommu_open(), pipes[2];
	__u32 devid;

	expect_errno(dev_bind(dev, -1, &devid), EINVAL);
	expect_errno(dev_bind(dev, -2147483647, &devid), EINVAL);
	expect_errno(dev_bind(dev, 1000, &devid), EBADF);
	expect_errno(dev_bind(dev, open(iommu_node(), O_PATH), &devid), EBADF);
	expect_errno(dev_bind(dev, open("/dev/null", O_RDWR), &devid), EBADFD);
	expect_errno(dev_bind(dev, eventfd(0, 0), &devid), EBADFD);
	expect_errno(dev_bind(dev, dev, &devid), EBADFD);
	expect_ok(pipe(pipes));
	expect_errno(dev_bind(dev, pipes[0], &devid), EBADFD);
	expect_not_bound(dev);

	/* None of this has a lasting effect. */
	expect_ok(dev_bind(dev, iommu, &devid));
	expect_eq(devid, 1);
}

TEST(bind_arguments)
{
	int dev = cdev_open(edu()), iommu = iommu_open();
	struct full_bind *bind, good = {
		.argsz = sizeof(good), .iommufd = iommu,
	};
	__u32 devid;

	expect_errno(ioctl(dev, VFIO_DEVICE_BIND_IOMMUFD, NULL), EFAULT);
	expect_errno(bind_with(dev, 0, 0, iommu, NULL, 0), EINVAL);
	expect_errno(bind_with(dev, 15, 0, iommu, NULL, 0), EINVAL);
	expect_errno(bind_with(dev, 24, 2, iommu, NULL, 0), EINVAL);
	expect_errno(bind_with(dev, 24, ~1U, iommu, NULL, 0), EINVAL);
	expect_errno(bind_with(dev, 32, 0, iommu, NULL, 1), E2BIG);
	expect_errno(bind_with(dev, 25, 0, iommu, NULL, 1), E2BIG);
	/* Half of the struct is in a hole. */
	bind = before_a_hole(&good, 24);
	bind->argsz = 32;
	expect_errno(ioctl(dev, VFIO_DEVICE_BIND_IOMMUFD, bind), EFAULT);
	expect_not_bound(dev);

	expect_ok(dev_bind(dev, iommu, &devid));
	expect_eq(devid, 1);
}

TEST(bind_sizes)
{
	static const __u32 sizes[] = { 16, 20, 24, 32, 4096, 8192 };
	struct full_bind *bind;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		int dev = cdev_open(edu()), iommu = iommu_open();

		bind = calloc(1, sizes[i]);
		bind->argsz = sizes[i];
		bind->iommufd = iommu;
		expect_ok(ioctl(dev, VFIO_DEVICE_BIND_IOMMUFD, bind));
		expect_eq(bind->out_devid, 1);
		free(bind);
		close(dev);
		close(iommu);
	}
}

TEST(bind_token)
{
	int dev = cdev_open(edu()), iommu = iommu_open();
	unsigned char uuid[16] = { 1, 2, 3 };
	const __u32 flag = VFIO_DEVICE_BIND_FLAG_TOKEN;
	__u32 devid;

	expect_errno(bind_with(dev, 24, flag, iommu, NULL, 0), EFAULT);
	expect_errno(bind_with(dev, 16, flag, iommu, uuid, 0), EFAULT);
	expect_errno(bind_with(dev, 24, flag, iommu, uuid, 0), EINVAL);
	expect_not_bound(dev);
	expect_ok(dev_bind(dev, iommu, &devid));
	expect_eq(devid, 1);
}

TEST(bind_cannot_answer)
{
	int dev = cdev_open(edu()), iommu = iommu_open();
	struct full_bind *bind = mem(PAGE);
	__u32 devid;

	bind->argsz = 16;
	bind->iommufd = iommu;
	expect_ok(mprotect(bind, PAGE, PROT_READ));
	expect_errno(ioctl(dev, VFIO_DEVICE_BIND_IOMMUFD, bind), EFAULT);
	expect_not_bound(dev);
	expect_ok(dev_bind(dev, iommu, &devid));
	expect_eq(devid, 1);
}

TEST(bind_twice)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	int dev = cdev_open(edu()), iommu = iommu_open(), again;
	int other = iommu_open();
	__u32 devid, ioas;

	expect_ok(dev_bind(dev, iommu, &devid));
	expect_eq(devid, 1);
	expect_errno(dev_bind(dev, iommu, &devid), EINVAL);
	expect_errno(dev_bind(dev, other, &devid), EINVAL);

	/* A second open is fine, a second BIND is not. */
	again = cdev_open(edu());
	expect_errno(dev_bind(again, iommu, &devid), EINVAL);
	expect_errno(dev_bind(again, other, &devid), EINVAL);
	expect_not_bound(again);
	/* Closing it does not affect the first. */
	close(again);
	expect_ok(ioctl(dev, VFIO_DEVICE_GET_INFO, &info));
	ioas = new_ioas(iommu);
	expect_eq(ioas, 2);
	attach(dev, ioas);

	/* The waiting one gets the device after the first was closed. */
	again = cdev_open(edu());
	expect_errno(dev_bind(again, iommu, &devid), EINVAL);
	close(dev);
	expect_ok(dev_bind(again, iommu, &devid));
	expect_eq(devid, 1);
	close(again);

	dev = cdev_open(edu());
	expect_ok(dev_bind(dev, other, &devid));
	expect_eq(devid, 1);
}

TEST(ids)
{
	int iommu = iommu_open(), dev;
	__u32 a = new_ioas(iommu), b = new_ioas(iommu), c = new_ioas(iommu);
	__u32 devid;

	expect_eq(a, 1);
	expect_eq(b, 2);
	expect_eq(c, 3);
	expect_ok(object_destroy(iommu, b));
	dev = cdev_open(edu());
	expect_ok(dev_bind(dev, iommu, &devid));
	expect_eq(devid, 2);
	expect_eq(new_ioas(iommu), 4);
}

TEST(iommufd_closed_first)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	long long before = pins();
	struct setup s;

	setup_bound(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(4 * PAGE), 4 * PAGE, PAGE));
	close(s.iommu);
	expect_ok(ioctl(s.dev, VFIO_DEVICE_GET_INFO, &info));
	/* The device keeps the context: the lazy map is filled now. */
	attach(s.dev, s.ioas);
	expect_pins(before + 4);
	expect_ok(dev_detach(s.dev));
	attach(s.dev, s.ioas);
	expect_pins(before + 4);
	close(s.dev);
	expect_pins(before);
}

TEST(attach_errors)
{
	struct full_attach *attach12, twelve = { .argsz = 12 };
	int other = iommu_open();
	struct setup s;
	__u32 foreign = 0;
	unsigned int i;

	setup_bound(&s);
	for (i = 0; i < 8; i++)
		foreign = new_ioas(other);

	expect_errno(ioctl(s.dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, NULL), EFAULT);
	expect_errno(attach_with(s.dev, 0, 0, s.ioas, 0), EINVAL);
	expect_errno(attach_with(s.dev, 11, 0, s.ioas, 0), EINVAL);
	expect_errno(attach_with(s.dev, 16, 2, s.ioas, 0), EINVAL);
	expect_errno(attach_with(s.dev, 16, ~0U, s.ioas, 0), EINVAL);
	expect_errno(attach_with(s.dev, 16, 0, 0, 0), ENOENT);
	expect_errno(attach_with(s.dev, 16, 0, 4711, 0), ENOENT);
	expect_errno(attach_with(s.dev, 16, 0, U32_MAX, 0), ENOENT);
	expect_errno(attach_with(s.dev, 16, 0, foreign, 0), ENOENT);
	expect_errno(attach_with(s.dev, 16, 0, s.devid, 0), EINVAL);

	/* The struct as it was before pasid, at the very end of a page */
	twelve.pt_id = s.ioas;
	attach12 = before_a_hole(&twelve, 12);
	expect_ok(ioctl(s.dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, attach12));
	expect(attach12->pt_id != s.ioas);
	expect_ok(dev_detach(s.dev));
	/* Bytes after the struct are ignored. */
	expect_ok(attach_with(s.dev, 20, 0, s.ioas, 4711));
}

TEST(attach_cannot_answer)
{
	struct full_attach *attach = mem(PAGE);
	struct setup s;

	setup_bound(&s);
	attach->argsz = 12;
	attach->pt_id = s.ioas;
	expect_ok(mprotect(attach, PAGE, PROT_READ));
	expect_errno(ioctl(s.dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, attach),
		     EFAULT);
	/* Not attached: the IOAS has no user. */
	expect_ok(object_destroy(s.iommu, s.ioas));
}

TEST(detach_errors)
{
	struct vfio_device_detach_iommufd_pt *detach8, eight = { .argsz = 8 };
	struct setup s;

	setup_bound(&s);
	expect_errno(ioctl(s.dev, VFIO_DEVICE_DETACH_IOMMUFD_PT, NULL), EFAULT);
	expect_errno(detach_with(s.dev, 7, 0, 0), EINVAL);
	expect_errno(detach_with(s.dev, 12, 2, 0), EINVAL);
	expect_errno(detach_with(s.dev, 8, VFIO_DEVICE_DETACH_PASID, 0), EINVAL);
	/* Nothing attached: nothing to do */
	expect_ok(dev_detach(s.dev));
	detach8 = before_a_hole(&eight, 8);
	expect_ok(ioctl(s.dev, VFIO_DEVICE_DETACH_IOMMUFD_PT, detach8));
	attach(s.dev, s.ioas);
	expect_ok(dev_detach(s.dev));
	expect_ok(dev_detach(s.dev));
}

TEST(pasid)
{
	const __u32 flag = VFIO_DEVICE_ATTACH_PASID;
	struct setup s;

	setup_bound(&s);
	expect_errno(attach_with(s.dev, 12, flag, s.ioas, 0), EINVAL);
	expect_errno(attach_with(s.dev, 16, flag, s.ioas, 1), EINVAL);
	expect_errno(attach_with(s.dev, 16, flag, s.ioas, 1), EINVAL);
	expect_errno(attach_with(s.dev, 16, flag, s.ioas, 0xfffff), EINVAL);
	expect_errno(attach_with(s.dev, 16, flag, s.ioas, U32_MAX), ENOSPC);
	/* Nothing is attached, which is not an error. */
	expect_ok(detach_with(s.dev, 12, VFIO_DEVICE_DETACH_PASID, 1));
	expect_ok(object_destroy(s.iommu, s.ioas));
}

/* An oddity of mainline that a program could depend on */
TEST(pasid_0_is_the_device_itself)
{
	__u64 length = PAGE, pa;
	struct setup s;
	__u32 pt;

	setup_bound(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, PAGE));
	expect_ok(attach_with(s.dev, 16, VFIO_DEVICE_ATTACH_PASID, s.ioas, 0));
	pa_of(s.iommu, s.ioas, PAGE);

	pt = s.ioas;
	expect_errno(dev_attach(s.dev, &pt), EBUSY);
	expect_ok(dev_detach(s.dev));
	pa_of(s.iommu, s.ioas, PAGE);

	expect_ok(detach_with(s.dev, 12, VFIO_DEVICE_DETACH_PASID, 0));
	expect_errno(get_pa(s.iommu, s.ioas, PAGE, &length, &pa), EOPNOTSUPP);
	pt = s.ioas;
	expect_ok(dev_attach(s.dev, &pt));
	pa_of(s.iommu, s.ioas, PAGE);
}

TEST(attach_again)
{
	struct setup s;

	setup_attached(&s);
	expect(s.hwpt != s.ioas && s.hwpt != s.devid);
	expect_eq(attach(s.dev, s.ioas), s.hwpt);
	expect_eq(attach(s.dev, s.hwpt), s.hwpt);
	expect_errno(object_destroy(s.iommu, s.hwpt), EBUSY);
	expect_errno(object_destroy(s.iommu, s.ioas), EBUSY);
	expect_ok(dev_detach(s.dev));
	/* The automatic HWPT went with the last device. */
	expect_errno(object_destroy(s.iommu, s.hwpt), ENOENT);
	expect_ok(object_destroy(s.iommu, s.ioas));
}

TEST(replace)
{
	long long before = pins();
	__u64 length = PAGE, pa;
	struct setup s;
	__u32 ioas, hwpt;

	setup_attached(&s);
	ioas = new_ioas(s.iommu);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, PAGE));
	expect_ok(ioas_map(s.iommu, ioas, mem(2 * PAGE), 2 * PAGE, PAGE));
	pa_of(s.iommu, s.ioas, PAGE);
	expect_errno(get_pa(s.iommu, ioas, PAGE, &length, &pa), EOPNOTSUPP);
	expect_pins(before + 1);

	hwpt = attach(s.dev, ioas);
	expect(hwpt != s.hwpt);
	pa_of(s.iommu, ioas, PAGE);
	expect_errno(get_pa(s.iommu, s.ioas, PAGE, &length, &pa), EOPNOTSUPP);
	expect_errno(object_destroy(s.iommu, s.hwpt), ENOENT);
	/* UNMAP is what frees the memory. */
	expect_ok(object_destroy(s.iommu, s.ioas));
	expect_pins(before + 2);
	expect_errno(object_destroy(s.iommu, ioas), EBUSY);
}

TEST(replace_that_fails)
{
	struct setup s;
	__u32 bad, pt;

	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, PAGE));
	bad = new_ioas(s.iommu);
	expect_ok(ioas_map(s.iommu, bad, (void *)PAGE, PAGE, PAGE));
	pt = bad;
	expect_errno(dev_attach(s.dev, &pt), EFAULT);
	/* The device stays where it was. */
	pa_of(s.iommu, s.ioas, PAGE);
	expect_eq(attach(s.dev, s.ioas), s.hwpt);
	expect_ok(object_destroy(s.iommu, bad));
}

TEST(two_devices)
{
	__u64 length = PAGE, pa;
	__u32 devid, hwpt;
	struct setup s;
	int second;

	setup_attached(&s);
	second = cdev_open(edu_behind_bridge());
	expect_ok(dev_bind(second, s.iommu, &devid));
	expect(devid != s.devid);
	hwpt = attach(second, s.ioas);
	expect_eq(hwpt, s.hwpt);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, PAGE));
	pa_of(s.iommu, s.ioas, PAGE);

	expect_ok(dev_detach(s.dev));
	pa_of(s.iommu, s.ioas, PAGE);
	expect_errno(object_destroy(s.iommu, s.hwpt), EBUSY);
	expect_eq(attach(s.dev, s.ioas), hwpt);
	close(second);
	pa_of(s.iommu, s.ioas, PAGE);
	expect_ok(dev_detach(s.dev));
	expect_errno(get_pa(s.iommu, s.ioas, PAGE, &length, &pa), EOPNOTSUPP);
}

TEST(two_contexts)
{
	struct setup s;
	__u32 devid, ioas;
	int second, other = iommu_open();

	setup_attached(&s);
	second = cdev_open(edu_behind_bridge());
	expect_ok(dev_bind(second, other, &devid));
	expect_eq(devid, 1);
	ioas = new_ioas(other);
	attach(second, ioas);
	expect_ok(ioas_map(other, ioas, mem(PAGE), PAGE, PAGE));
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, PAGE));
	expect(pa_of(other, ioas, PAGE) != pa_of(s.iommu, s.ioas, PAGE));
}

TEST(destroy_errors)
{
	struct setup s;

	setup_bound(&s);
	expect_errno(object_destroy(s.iommu, 0), ENOENT);
	expect_errno(object_destroy(s.iommu, 4711), ENOENT);
	expect_errno(object_destroy(s.iommu, U32_MAX), ENOENT);
	expect_errno(object_destroy(s.iommu, s.devid), EBUSY);
	close(s.dev);
	expect_errno(object_destroy(s.iommu, s.devid), ENOENT);
	expect_ok(object_destroy(s.iommu, s.ioas));
	expect_errno(object_destroy(s.iommu, s.ioas), ENOENT);
}

TEST(hwpt)
{
	__u64 length = PAGE, pa;
	__u32 hwpt, automatic;
	struct setup s;

	setup_bound(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, PAGE));
	expect_ok(hwpt_alloc(s.iommu, s.devid, s.ioas, &hwpt));
	/* Nothing is attached, but GET_PA works. */
	pa_of(s.iommu, s.ioas, PAGE);
	expect_errno(object_destroy(s.iommu, s.ioas), EBUSY);

	expect_eq(attach(s.dev, hwpt), hwpt);
	expect_errno(object_destroy(s.iommu, hwpt), EBUSY);
	/* ATTACH to the IOAS itself makes an automatic HWPT. */
	automatic = attach(s.dev, s.ioas);
	expect(automatic != hwpt);
	expect_ok(object_destroy(s.iommu, hwpt));
	pa_of(s.iommu, s.ioas, PAGE);
	expect_ok(dev_detach(s.dev));
	expect_errno(object_destroy(s.iommu, automatic), ENOENT);
	expect_errno(get_pa(s.iommu, s.ioas, PAGE, &length, &pa), EOPNOTSUPP);
	expect_ok(object_destroy(s.iommu, s.ioas));
}

TEST(hwpt_outlives_detach)
{
	struct setup s;
	__u32 hwpt;

	setup_bound(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, PAGE));
	expect_ok(hwpt_alloc(s.iommu, s.devid, s.ioas, &hwpt));
	attach(s.dev, hwpt);
	expect_ok(dev_detach(s.dev));
	pa_of(s.iommu, s.ioas, PAGE);
	attach(s.dev, hwpt);
	close(s.dev);
	pa_of(s.iommu, s.ioas, PAGE);
	expect_ok(object_destroy(s.iommu, hwpt));
	expect_ok(object_destroy(s.iommu, s.ioas));
}

TEST(hwpt_errors)
{
	struct iommu_hwpt_alloc alloc, good = { .size = sizeof(good) };
	struct setup s;
	__u32 hwpt;

	setup_bound(&s);
	good.dev_id = s.devid;
	good.pt_id = s.ioas;

#define expect_refused(_field, _value, _err) \
	do { \
		alloc = good; \
		alloc._field = _value; \
		expect_errno(ioctl(s.iommu, IOMMU_HWPT_ALLOC, &alloc), _err); \
	} while (0)

	expect_refused(flags, IOMMU_HWPT_ALLOC_NEST_PARENT, EOPNOTSUPP);
	expect_refused(flags, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, EOPNOTSUPP);
	expect_refused(flags, 1 << 3, EOPNOTSUPP);
	expect_refused(flags, 1U << 31, EOPNOTSUPP);
	expect_refused(__reserved, 1, EOPNOTSUPP);
	expect_refused(data_len, 8, EINVAL);
	expect_refused(data_type, 1, EINVAL);
	expect_refused(dev_id, 4711, ENOENT);
	expect_refused(pt_id, 4711, EINVAL);
	expect_refused(pt_id, s.devid, EINVAL);
	expect_refused(size, 4, EINVAL);

	expect_ok(hwpt_alloc(s.iommu, s.devid, s.ioas, &hwpt));
	expect_ok(object_destroy(s.iommu, hwpt));
	/* Nothing holds the IOAS. */
	expect_ok(object_destroy(s.iommu, s.ioas));
}

TEST(ioeventfd_offset)
{
	struct vfio_device_ioeventfd ioeventfd = {
		.argsz = sizeof(ioeventfd), .flags = VFIO_DEVICE_IOEVENTFD_32,
	};
	static const __u64 bad[] = {
		MIB, 6ULL << 40, 9ULL << 40, 1ULL << 62, 1ULL << 63,
		(1ULL << 63) + 1, 0xffULL << 56, U64_MAX - 3, U64_MAX,
	};
	struct setup s;
	unsigned int i;

	skip_on_mainline("it may crash");
	setup_bound(&s);
	ioeventfd.fd = expect_ok(eventfd(0, EFD_CLOEXEC));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		ioeventfd.offset = bad[i];
		expect_errno(ioctl(s.dev, VFIO_DEVICE_IOEVENTFD, &ioeventfd),
			     EINVAL);
	}
	ioeventfd.offset = 0;
	expect_ok(ioctl(s.dev, VFIO_DEVICE_IOEVENTFD, &ioeventfd));
	expect_errno(ioctl(s.dev, VFIO_DEVICE_IOEVENTFD, &ioeventfd), EEXIST);
	ioeventfd.fd = -1;
	expect_ok(ioctl(s.dev, VFIO_DEVICE_IOEVENTFD, &ioeventfd));
}

TEST(after_bind)
{
	struct setup s;

	setup_bound(&s);
	expect_errno(ioctl(s.dev, _IO(VFIO_TYPE, VFIO_BASE + 99), 0), ENOTTY);
	expect_errno(ioctl(s.dev, _IO('!', 1), 0), ENOTTY);
}
