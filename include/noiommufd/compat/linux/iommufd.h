/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * <linux/iommufd.h> for a program that includes that name: the system's, if
 * there is one, and what it lacks of Linux 7.3's. noiommufd.pc has the option
 * that puts this directory before the system's.
 */
#ifndef _NOIOMMUFD_COMPAT_IOMMUFD_H
#define _NOIOMMUFD_COMPAT_IOMMUFD_H

#pragma GCC system_header

#if __has_include_next(<linux/iommufd.h>)
#include_next <linux/iommufd.h>
#endif
#include "../../iommufd.h"

#endif
