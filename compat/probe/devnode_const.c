// SPDX-License-Identifier: GPL-2.0-only
/* driver core: make struct device_type.devnode() take a const *, Linux 6.2. */
#include <linux/device.h>
#ifdef CONTROL
char *probe_devnode(struct device *dev, umode_t *mode, kuid_t *uid,
		    kgid_t *gid);
const struct device_type probe = { .devnode = probe_devnode };
#else
char *probe_devnode(const struct device *dev, umode_t *mode, kuid_t *uid,
		    kgid_t *gid);
const struct device_type probe = { .devnode = probe_devnode };
#endif
