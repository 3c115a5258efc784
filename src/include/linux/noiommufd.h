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

#include <linux/sched.h>
#include <linux/types.h>

struct dentry;
struct device;
struct noiommufd_ctx;
struct noiommufd_device;
struct pid;
struct seq_file;

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

/* When something began whose tracepoint is @event; 0 while that is off. */
#define noiommufd_trace_start(event)	\
	(trace_##event##_enabled() ? ktime_get_ns() : 0)

/**
 * struct noiommufd_opener - Who opened a file.
 * @pid: the process, with a reference
 * @comm: its name at the time
 */
struct noiommufd_opener {
	struct pid *pid;
	char comm[TASK_COMM_LEN];
};

/* Our directory in debugfs, for the driver's files. */
extern struct dentry *noiommufd_debugfs;

void noiommufd_opener_get(struct noiommufd_opener *opener);
void noiommufd_opener_put(struct noiommufd_opener *opener);
void noiommufd_opener_show(struct seq_file *m, const char *key,
			   const struct noiommufd_opener *opener);
void noiommufd_device_show(struct seq_file *m, struct noiommufd_device *idev);

#endif /* __LINUX_NOIOMMUFD_H */
