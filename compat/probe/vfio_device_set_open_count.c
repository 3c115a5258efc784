// SPDX-License-Identifier: GPL-2.0-only
/* vfio: Export the device set open count, Linux 6.1. It changed what close counts. */
#include <linux/vfio.h>
#ifdef CONTROL
int vfio_device_set_open_count;
#else
unsigned int (*probe)(struct vfio_device_set *dev_set) = vfio_device_set_open_count;
#endif
