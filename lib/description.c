// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The description that a successor reads. It comes from a file that others may have
 * written to, so nothing of it is believed. No system call is made here.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "description.h"
#include "internal.h"

/* CRC-32, as in zlib */
static __u32 crc32(const unsigned char *bytes, size_t length)
{
	__u32 crc = ~0U;
	int bit;

	while (length--) {
		crc ^= *bytes++;
		for (bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

static __u32 crc_of(const struct description *d)
{
	size_t from = offsetof(struct description, nr_memory);

	return crc32((const unsigned char *)d + from, d->size - from);
}

static size_t size_of(__u32 nr_memory)
{
	return sizeof(struct description) + nr_memory * sizeof(struct described_memory);
}

void noiommufd__seal(struct description *d)
{
	memcpy(d->magic, DESCRIPTION_MAGIC, sizeof(d->magic));
	d->version = DESCRIPTION_VERSION;
	d->size = size_of(d->nr_memory);
	d->crc = crc_of(d);
}

#define LABEL_CHARACTERS						\
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"		\
	"0123456789-_."

/* It becomes a part of names of files, in which service managers allow no colon. */
int noiommufd__is_label(const char *label)
{
	size_t length = strnlen(label, LABEL_SIZE);

	return length && length < LABEL_SIZE &&
	       strspn(label, LABEL_CHARACTERS) == length;
}

static bool memory_is_sane(const struct description *d, __u32 i)
{
	const struct described_memory *memory = &d->memory[i];
	__u32 other;

	if (!noiommufd__is_label(memory->label) || !memory->size ||
	    memory->size - 1 > ~0ULL - memory->iova || memory->size > PTRDIFF_MAX)
		return false;
	for (other = 0; other < i; other++)
		if (!strcmp(memory->label, d->memory[other].label))
			return false;
	return true;
}

int noiommufd__check(const struct description *d, size_t length)
{
	__u32 i;

	if (length < offsetof(struct description, size) ||
	    memcmp(d->magic, DESCRIPTION_MAGIC, sizeof(d->magic)))
		return -EBADMSG;
	if (d->version != DESCRIPTION_VERSION)
		return -EPROTONOSUPPORT;
	if (length < sizeof(*d) || d->size > length || d->nr_memory > MAX_LABELLED ||
	    d->size != size_of(d->nr_memory) || d->crc != crc_of(d))
		return -EBADMSG;
	/* Whole, but is it sound? */
	if (!memchr(d->address, '\0', sizeof(d->address)) || !d->ioas || d->reserved ||
	    d->irq_kind >= NOIOMMUFD_IRQS || d->nr_irqs > MAX_IRQS)
		return -EBADMSG;
	for (i = 0; i < d->nr_memory; i++)
		if (!memory_is_sane(d, i))
			return -EBADMSG;
	return 0;
}
