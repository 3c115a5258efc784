/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * <linux/cc_platform.h>, which is in Linux 5.16 and in later releases of older
 * stable kernels. Those without it can detect encrypted memory of AMD, and of
 * guests on POWER.
 */
#ifdef HAVE_CC_PLATFORM
#include_next <linux/cc_platform.h>
#endif

#ifndef NOIOMMUFD_COMPAT_CC_PLATFORM_H
#define NOIOMMUFD_COMPAT_CC_PLATFORM_H

#ifndef HAVE_CC_PLATFORM

#include <linux/mem_encrypt.h>

enum cc_attr {
	CC_ATTR_MEM_ENCRYPT,
};

static inline bool cc_platform_has(enum cc_attr attr)
{
	return mem_encrypt_active();
}

#endif

#endif /* NOIOMMUFD_COMPAT_CC_PLATFORM_H */
