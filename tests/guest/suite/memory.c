// SPDX-License-Identifier: GPL-2.0-only
/*
 * What there is beyond Linux 7.3 for memory: the list of extensions, and a limit
 * for the physical addresses that an IOAS may have.
 */
#include <noiommufd/noiommufd.h>

#include "harness.h"

/* Extensions */

static int get_info(int iommu, struct noiommufd_get_info *info)
{
	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	return ioctl(iommu, NOIOMMUFD_GET_INFO, info);
}

TEST(info_lists_extensions)
{
	const __u64 always = NOIOMMUFD_EXT_GET_PA_RUNS |
			     NOIOMMUFD_EXT_IOAS_SET_MAX_PA;
	struct noiommufd_get_info info;
	int iommu;

	skip_on_mainline("it has no extensions");
	iommu = iommu_open();
	expect_ok(get_info(iommu, &info));
	expect_eq(info.extensions & always, always);
}

/* Programs of other versions have a shorter struct, or a longer one. */
TEST(info_of_other_sizes)
{
	struct {
		struct noiommufd_get_info info;
		__u64 more[4];
	} u = { .info.size = offsetof(struct noiommufd_get_info, extensions) + 8 };
	struct noiommufd_get_info info;
	int iommu;

	skip_on_mainline("it has no extensions");
	iommu = iommu_open();
	expect_ok(get_info(iommu, &info));
	expect_ok(ioctl(iommu, NOIOMMUFD_GET_INFO, &u));
	expect_eq(u.info.extensions, info.extensions);
	u.info.size = sizeof(u);
	expect_ok(ioctl(iommu, NOIOMMUFD_GET_INFO, &u));
	expect(!memcmp(&u.info.extensions, &info.extensions,
		       sizeof(info) - offsetof(struct noiommufd_get_info, extensions)));
	expect_eq(u.more[0], 0);
	u.more[3] = 1;
	expect_errno(ioctl(iommu, NOIOMMUFD_GET_INFO, &u), E2BIG);
	u.info.size = 8;
	expect_errno(ioctl(iommu, NOIOMMUFD_GET_INFO, &u), EINVAL);
	info.flags = 1;
	expect_errno(ioctl(iommu, NOIOMMUFD_GET_INFO, &info), EOPNOTSUPP);
	expect_errno(ioctl(iommu, NOIOMMUFD_GET_INFO, NULL), EFAULT);
}

/* Ours are no ioctls of the kernel's iommufd, nor the other way round. */
TEST(unknown_extensions)
{
	struct noiommufd_get_info info = { .size = sizeof(info) };
	int iommu = iommu_open();
	unsigned int nr;

	expect_errno(ioctl(iommu, _IO(NOIOMMUFD_TYPE, 0x7f), &info), ENOTTY);
	for (nr = 0x90; nr < 0x100; nr++)
		expect_errno(ioctl(iommu, _IO(NOIOMMUFD_TYPE, nr), &info),
			     ENOTTY);
	expect_errno(ioctl(iommu, _IOW(NOIOMMUFD_TYPE, 0x81, int), &info),
		     ENOTTY);
	if (on_mainline())
		expect_errno(get_info(iommu, &info), ENOTTY);
}

/* A limit for the physical addresses of an IOAS */

static int set_max_pa(int iommu, __u32 ioas, __u64 max_pa)
{
	struct noiommufd_ioas_set_max_pa set = {
		.size = sizeof(set), .ioas_id = ioas, .max_pa = max_pa,
	};

	return ioctl(iommu, NOIOMMUFD_IOAS_SET_MAX_PA, &set);
}

static int map_fd(int iommu, __u32 ioas, int fd, __u64 start, __u64 length,
		  __u64 iova)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map), .flags = MAP_FIXED_RW, .ioas_id = ioas,
		.fd = fd, .start = start, .length = length, .iova = iova,
	};

	return ioctl(iommu, IOMMU_IOAS_MAP_FILE, &map);
}

#define NPAGES		64
#define BASE		0x100000000ULL
#define SIZE		(NPAGES * PAGE)

/* Memory that is pinned in an IOAS without a limit, and another IOAS */
struct limit {
	struct setup s;
	char *va;
	int fd;
	__u64 highest;		/* last byte of the highest page */
	__u32 ioas;
};

static void setup_limit(struct limit *l)
{
	__u64 i;

	skip_on_mainline("it has no limit");
	setup_attached(&l->s);
	l->fd = expect_ok(memfd_create("suite", MFD_CLOEXEC));
	expect_ok(ftruncate(l->fd, SIZE));
	l->va = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, l->fd, 0);
	expect(l->va != MAP_FAILED);
	expect_ok(ioas_map(l->s.iommu, l->s.ioas, l->va, SIZE, BASE));
	l->highest = 0;
	for (i = 0; i < NPAGES; i++) {
		__u64 pa = pa_of(l->s.iommu, l->s.ioas, BASE + i * PAGE);

		if (pa + PAGE - 1 > l->highest)
			l->highest = pa + PAGE - 1;
	}
	l->ioas = new_ioas(l->s.iommu);
}

static int copy_all(const struct limit *l)
{
	__u64 iova = 2 * BASE;

	return ioas_copy(l->s.iommu, l->ioas, l->s.ioas, MAP_FIXED_RW, SIZE, &iova,
			 BASE);
}

static int unmap_all(const struct limit *l)
{
	__u64 done;

	return ioas_unmap(l->s.iommu, l->ioas, 0, U64_MAX, &done);
}

/* Each way to map memory, in an IOAS that pins it at once. */
static void map_each_way(const struct limit *l, int err)
{
	const long long before = pins(), charged = vm_pin();
	unsigned int way;
	int rc = 0;

	for (way = 0; way < 3; way++) {
		if (way == 0)
			rc = ioas_map(l->s.iommu, l->ioas, l->va, SIZE, BASE);
		else if (way == 1)
			rc = map_fd(l->s.iommu, l->ioas, l->fd, 0, SIZE, BASE);
		else
			rc = copy_all(l);
		if (err)
			expect_errno(rc, err);
		else
			expect_ok(rc);
		if (!err)
			expect_ok(unmap_all(l));
		else
			expect_errno(ioas_unmap(l->s.iommu, l->ioas, BASE, SIZE,
						&(__u64){ 0 }), ENOENT);
		expect_pins(before);
		expect_eq(vm_pin(), charged);
	}
}

TEST(max_pa_when_mapped)
{
	struct limit l;
	__u32 hwpt;

	setup_limit(&l);
	expect_ok(hwpt_alloc(l.s.iommu, l.s.devid, l.ioas, &hwpt));
	map_each_way(&l, 0);
	/* The last byte counts. */
	expect_ok(set_max_pa(l.s.iommu, l.ioas, l.highest - 1));
	map_each_way(&l, ERANGE);
	expect_ok(set_max_pa(l.s.iommu, l.ioas, l.highest));
	map_each_way(&l, 0);
	/* Below all memory, and none */
	expect_ok(set_max_pa(l.s.iommu, l.ioas, PAGE - 1));
	map_each_way(&l, ERANGE);
	expect_ok(set_max_pa(l.s.iommu, l.ioas, U64_MAX));
	map_each_way(&l, 0);
	expect_ok(set_max_pa(l.s.iommu, l.ioas, PAGE - 1));
	expect_ok(set_max_pa(l.s.iommu, l.ioas, 0));
	map_each_way(&l, 0);
	/* What is pinned without a limit is as it was. */
	expect_pas(&l.s, BASE, l.va, SIZE);
}

TEST(max_pa_when_attached)
{
	long long before, charged;
	struct limit l;
	__u32 hwpt, id;
	char *low;

	setup_limit(&l);
	low = mem(PAGE);
	expect_ok(set_max_pa(l.s.iommu, l.ioas, l.highest - 1));
	/* Nothing is pinned yet. */
	expect_ok(ioas_map(l.s.iommu, l.ioas, low, PAGE, 0));
	expect_ok(ioas_map(l.s.iommu, l.ioas, l.va, SIZE, BASE));
	expect_ok(copy_all(&l));
	before = pins();
	charged = vm_pin();
	id = l.ioas;
	expect_errno(dev_attach(l.s.dev, &id), ERANGE);
	expect_errno(hwpt_alloc(l.s.iommu, l.s.devid, l.ioas, &hwpt), ERANGE);
	expect_pins(before);
	expect_eq(vm_pin(), charged);
	/* The device has the IOAS that it had. */
	expect_pas(&l.s, BASE, l.va, SIZE);

	expect_ok(unmap_all(&l));
	expect_ok(set_max_pa(l.s.iommu, l.ioas, l.highest));
	expect_ok(ioas_map(l.s.iommu, l.ioas, l.va, SIZE, BASE));
	attach(l.s.dev, l.ioas);
	expect_eq(pa_of(l.s.iommu, l.ioas, BASE),
		  pa_of(l.s.iommu, l.ioas, BASE + PAGE - 1) - PAGE + 1);
}

TEST(max_pa_bad_arguments)
{
	struct noiommufd_ioas_set_max_pa set = { .size = sizeof(set) - 1 };
	struct limit l;
	__u64 done;

	setup_limit(&l);
	expect_errno(set_max_pa(l.s.iommu, l.ioas, 1), EINVAL);
	expect_errno(set_max_pa(l.s.iommu, l.ioas, PAGE - 2), EINVAL);
	expect_errno(set_max_pa(l.s.iommu, 0, PAGE - 1), ENOENT);
	expect_errno(set_max_pa(l.s.iommu, l.s.devid, 0), ENOENT);
	expect_errno(ioctl(l.s.iommu, NOIOMMUFD_IOAS_SET_MAX_PA, &set), EINVAL);
	expect_errno(ioctl(l.s.iommu, NOIOMMUFD_IOAS_SET_MAX_PA, NULL), EFAULT);
	/* Something is mapped, pinned or not. */
	expect_errno(set_max_pa(l.s.iommu, l.s.ioas, U64_MAX), EBUSY);
	expect_ok(ioas_map(l.s.iommu, l.ioas, l.va, PAGE, 0));
	expect_errno(set_max_pa(l.s.iommu, l.ioas, 0), EBUSY);
	expect_ok(ioas_unmap(l.s.iommu, l.ioas, 0, PAGE, &done));
	expect_ok(set_max_pa(l.s.iommu, l.ioas, 0));
}
