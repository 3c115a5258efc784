/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/miscdevice.h> and the name of our node. A kernel with an iommufd has
 * "iommu" itself, and vfio always loads that.
 */
#include_next <linux/miscdevice.h>

#ifndef NOIOMMUFD_COMPAT_MISCDEVICE_H
#define NOIOMMUFD_COMPAT_MISCDEVICE_H

#if IS_ENABLED(CONFIG_IOMMUFD)
#define NOIOMMUFD_NODE_NAME "noiommufd"
#else
#define NOIOMMUFD_NODE_NAME "iommu"
#endif

#endif /* NOIOMMUFD_COMPAT_MISCDEVICE_H */
