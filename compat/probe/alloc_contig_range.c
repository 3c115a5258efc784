// SPDX-License-Identifier: GPL-2.0-only
/* mm: export alloc_contig_range(), Linux 5.8; with CONFIG_CONTIG_ALLOC only. */
#include <linux/gfp.h>
#ifdef CONTROL
static int __maybe_unused alloc_contig_range(void)
{
	return 0;
}
#else
int probe(void)
{
	return alloc_contig_range(0, 1, 0, GFP_KERNEL);
}
#endif
