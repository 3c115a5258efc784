/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * noiommuctl: what its commands share. All files are read below sysroot, so
 * that a command can look at another system's.
 */
#ifndef __NOIOMMUCTL_H
#define __NOIOMMUCTL_H

#include <err.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define DRIVER		"noiommu-vfio-pci"
#define MODULE		"/sys/module/noiommu_vfio_pci"
#define UNSAFE_MODE	MODULE "/parameters/enable_unsafe_noiommu_mode"
#define PCI_DEVICES	"/sys/bus/pci/devices"
#define CONF		"/etc/modprobe.d/noiommufd.conf"
#define OVERRIDE	"/etc/driverctl.d/pci-%s"

#define LINE		512

/* Options of the command line */
extern const char *sysroot;
extern bool json, persist, all, force;

/* Files (system.c) */
bool exists(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool read_line(char *line, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
bool write_text(const char *text, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
bool link_name(char *name, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
char *path_of(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool output_of(char *line, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* A PCI function */
struct device {
	char address[16];
	char driver[64];	/* "": none */
	char node[32];		/* noiommu-vfioX; "": none */
	unsigned int vendor, id, class;
	const char *refusal;	/* why our driver would refuse it, or NULL */
	bool taken;
};

bool read_device(struct device *dev, const char *name);
void find_device(struct device *dev, const char *name);
const char *iommufd_node(void);
const char *iommufd_path(void);

/* A process that has files of a device, or of an iommufd of ours, open */
struct holder {
	char device[16];	/* address; "": it is an iommufd */
	pid_t pid;
	uid_t uid;
	char command[32];
	unsigned int files;
	unsigned long long pinned_kib;
};

size_t find_holders(struct holder **holders);

/* The text, without what a terminal might obey */
const char *printable(char *text);

/* What uses it (use.c) */
bool is_used(const struct device *dev, char use[LINE]);

/* The unsafe mode: -1 if nothing sets it */
int unsafe_now(void);
int unsafe_at_boot(void);

/* JSON (json.c); a NULL key: an element of an array */
void json_open(const char *key, char bracket);
void json_close(char bracket);
void json_text(const char *key, const char *text);
void json_number(const char *key, unsigned long long number);
void json_bool(const char *key, bool value);

/* Commands: the rest of the command line, and the exit status */
int cmd_list(char **names);
int cmd_bind(char **names);
int cmd_unbind(char **names);
int cmd_enable(char **names);
int cmd_disable(char **names);
int cmd_doctor(char **names);
int cmd_test(char **names);
int cmd_status(char **names);
int cmd_cdi(char **names);

#endif
