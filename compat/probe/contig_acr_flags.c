// SPDX-License-Identifier: GPL-2.0-only
/* mm/page_isolation: remove migratetype parameter from more functions, Linux 6.17. */
#include <linux/gfp.h>
#ifdef CONTROL
int acr_flags_t;
#else
acr_flags_t probe;
#endif
