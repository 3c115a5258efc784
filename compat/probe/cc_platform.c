// SPDX-License-Identifier: GPL-2.0-only
/* arch/cc: Introduce a function to check for confidential computing features, Linux 5.16. */
#ifdef CONTROL
#include <linux/mem_encrypt.h>
bool probe(void)
{
	return mem_encrypt_active();
}
#else
#include <linux/cc_platform.h>
bool probe(void)
{
	return cc_platform_has(CC_ATTR_MEM_ENCRYPT);
}
#endif
