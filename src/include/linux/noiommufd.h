/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a driver needs of noiommufd: get the context of a program's iommufd,
 * bind a device to it, attach the device to an address space. Functions, order
 * and errnos mirror <linux/iommufd.h>.
 *
 * The driver serialises what it does with one device; different devices need no
 * serialisation. All functions may sleep. None may be called under mmap_lock,
 * or under a lock that is taken under mmap_lock.
 */
#ifndef __LINUX_NOIOMMUFD_H
#define __LINUX_NOIOMMUFD_H

#include <linux/types.h>

struct device;
struct noiommufd_ctx;
struct noiommufd_device;

/* The name of our node in /dev, for messages. */
extern const char noiommufd_node_name[];

struct noiommufd_ctx *noiommufd_ctx_from_fd(int fd);
void noiommufd_ctx_put(struct noiommufd_ctx *ictx);

struct noiommufd_device *noiommufd_device_bind(struct noiommufd_ctx *ictx,
					       struct device *dev, u32 *id);
void noiommufd_device_unbind(struct noiommufd_device *idev);

u32 noiommufd_device_to_id(struct noiommufd_device *idev);

int noiommufd_device_attach(struct noiommufd_device *idev, u32 *pt_id);
int noiommufd_device_replace(struct noiommufd_device *idev, u32 *pt_id);
void noiommufd_device_detach(struct noiommufd_device *idev);

#endif /* __LINUX_NOIOMMUFD_H */
