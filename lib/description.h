/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What noiommufd_save() writes down for a successor, in the byte order of the machine.
 * A program of another version has to read it: version 1 stays as it is.
 */
#ifndef NOIOMMUFD_DESCRIPTION_H
#define NOIOMMUFD_DESCRIPTION_H

#include <stddef.h>

#include <linux/types.h>

#define DESCRIPTION_MAGIC	"noiommu"
#define DESCRIPTION_VERSION	1
/* With the NUL at the end */
#define LABEL_SIZE		32
#define MAX_LABELLED		512
/* What MSI-X has at most */
#define MAX_IRQS		2048

struct described_memory {
	char label[LABEL_SIZE];
	__u64 file_dev;			/* st_dev and st_ino of the file */
	__u64 file_ino;
	__u64 size;
	__u64 iova;
	__u64 where;			/* a hash of its physical addresses */
};

struct description {
	char magic[8];
	__u32 version;
	__u32 size;			/* bytes of all of this */
	__u32 crc;			/* of what follows */
	__u32 nr_memory;
	__u64 sequence;			/* the newest has the highest */
	char address[32];
	__u16 vendor;
	__u16 device;
	__u16 subsystem_vendor;
	__u16 subsystem_device;
	__u32 ioas;
	__u32 irq_kind;
	__u32 nr_irqs;
	__u32 reserved;			/* 0 */
	struct described_memory memory[];
};

/* Fill in what is the same in all, and the CRC, when the rest is there. */
void noiommufd__seal(struct description *description);

/*
 * Is it whole, and one that can be used? 0; -EBADMSG: it is not; -EPROTONOSUPPORT: it
 * is of another version. Looks at no more than @length bytes.
 */
int noiommufd__check(const struct description *description, size_t length);

/* Is it a name that memory can have? */
int noiommufd__is_label(const char *label);

#endif
