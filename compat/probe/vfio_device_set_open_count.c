// SPDX-License-Identifier: GPL-2.0-only
/* vfio: Export the device set open count, Linux 6.1: how close counts. */
#include <linux/vfio.h>
#ifndef CONTROL
unsigned int (*probe)(struct vfio_device_set *dev_set) = vfio_device_set_open_count;
#endif
