// SPDX-License-Identifier: GPL-2.0-only
/*
 * What there is beyond Linux 7.3 for memory: the list of extensions.
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
	const __u64 always = NOIOMMUFD_EXT_GET_PA_RUNS;
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
