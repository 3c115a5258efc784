/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/device.h> and the type of the device in device_type.devnode(), which
 * became const in Linux 6.2.
 */
#include_next <linux/device.h>

#ifndef NOIOMMUFD_COMPAT_DEVICE_H
#define NOIOMMUFD_COMPAT_DEVICE_H

#ifdef HAVE_DEVNODE_CONST
#define devnode_arg_device const struct device
#else
#define devnode_arg_device struct device
#endif

#endif /* NOIOMMUFD_COMPAT_DEVICE_H */
