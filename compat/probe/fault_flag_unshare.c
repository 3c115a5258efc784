// SPDX-License-Identifier: GPL-2.0-only
/* mm: support GUP-triggered unsharing of anonymous pages, Linux 5.19. */
#include <linux/mm.h>
#ifdef CONTROL
int FAULT_FLAG_UNSHARE;
#else
int probe = FAULT_FLAG_UNSHARE;
#endif
