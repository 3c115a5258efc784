/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * <linux/vfio.h> for a program that includes that name: the system's, and what
 * it lacks of Linux 7.3's for a device's own node.
 */
#ifndef _NOIOMMUFD_COMPAT_VFIO_H
#define _NOIOMMUFD_COMPAT_VFIO_H

#pragma GCC system_header

#include_next <linux/vfio.h>
#include "../../vfio.h"

#endif
