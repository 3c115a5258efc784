// SPDX-License-Identifier: GPL-2.0-only
/*
 * The library's check of a description: of one that is whole, cut, changed, of another
 * version, or noise. Built with sanitizers, linked with lib/description.c.
 *
 *	description [SECONDS]	default: 2
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../lib/description.h"
#include "../lib/internal.h"

#define PIECES	3
#define SIZE	(sizeof(struct description) + PIECES * sizeof(struct described_memory))

#define expect(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition); \
			exit(1); \
		} \
	} while (0)

static unsigned long long state = 1;

/* xorshift64 */
static unsigned int any(unsigned int below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 16) % below;
}

static void whole(struct description *d)
{
	static const char * const labels[PIECES] = { "queues", "Data-2", "job_.x" };
	int i;

	memset(d, 0, SIZE);
	d->nr_memory = PIECES;
	d->sequence = 7;
	snprintf(d->address, sizeof(d->address), "0000:00:07.0");
	d->vendor = 0x1b36;
	d->ioas = 2;
	d->irq_kind = NOIOMMUFD_MSIX;
	d->nr_irqs = 2;
	for (i = 0; i < PIECES; i++) {
		snprintf(d->memory[i].label, sizeof(d->memory[i].label), "%s", labels[i]);
		d->memory[i].size = 4096;
		d->memory[i].iova = 0x2000000000000000ULL + i * 4096;
	}
	noiommufd__seal(d);
}

/* In memory of exactly that size, so that the sanitizer sees a read beyond it */
static int check(const void *bytes, size_t length)
{
	void *copy = malloc(length ? length : 1);
	int rc;

	memcpy(copy, bytes, length);
	rc = noiommufd__check(copy, length);
	free(copy);
	return rc;
}

/* What a change that has a right CRC is found by */
#define refused(change) \
	do { \
		whole(d); \
		change; \
		noiommufd__seal(d); \
		expect(check(d, SIZE) == -EBADMSG); \
	} while (0)

static __u32 crc32(const unsigned char *bytes, size_t length)
{
	__u32 crc = ~0U;
	int bit;

	while (length--)
		for (crc ^= *bytes++, bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1) * 0xedb88320;
	return ~crc;
}

static void unsound(struct description *d)
{
	refused(d->ioas = 0);
	refused(d->reserved = 1);
	refused(d->irq_kind = NOIOMMUFD_IRQS);
	refused(d->nr_irqs = MAX_IRQS + 1);
	refused(memset(d->address, 'a', sizeof(d->address)));
	refused(d->memory[1].label[0] = '\0');
	refused(memset(d->memory[1].label, 'a', LABEL_SIZE));
	refused(snprintf(d->memory[1].label, sizeof(d->memory[1].label), "a:b"));
	refused(snprintf(d->memory[1].label, sizeof(d->memory[1].label), "a\n"));
	refused(snprintf(d->memory[2].label, sizeof(d->memory[2].label), "queues"));
	refused(d->memory[2].size = 0);
	refused(d->memory[2].size = ~0ULL);
	refused(d->memory[2].iova = -4095ULL);
	refused(d->memory[2].size = d->memory[2].iova = 0);
	refused(d->memory[2].iova = 0; d->memory[2].size = 1ULL << 63);
	/* A right CRC, and a length that is not that of its pieces */
	whole(d);
	d->nr_memory--;
	d->crc = crc32((unsigned char *)&d->nr_memory,
		       SIZE - offsetof(struct description, nr_memory));
	expect(check(d, SIZE) == -EBADMSG);
}

/* What is accepted can be used without another look. */
static void expect_sound(const struct description *d, size_t length)
{
	__u32 i;

	expect(length >= sizeof(*d) && d->size <= length);
	expect(d->size == sizeof(*d) + d->nr_memory * sizeof(d->memory[0]));
	expect(d->version == DESCRIPTION_VERSION && d->irq_kind < NOIOMMUFD_IRQS);
	expect(memchr(d->address, '\0', sizeof(d->address)) && d->nr_irqs <= MAX_IRQS);
	for (i = 0; i < d->nr_memory; i++)
		expect(noiommufd__is_label(d->memory[i].label) && d->memory[i].size);
}

/* Change a few bytes, and every other time make it look whole again. */
static bool mutate(struct description *d)
{
	unsigned char *bytes = (unsigned char *)d;
	size_t length = any(8) ? SIZE : any(SIZE + 1);
	unsigned int n = 1 + any(4);

	whole(d);
	while (n--)
		bytes[any(SIZE)] = any(3) ? any(256) : any(2) * 255;
	if (any(2) && d->nr_memory <= PIECES)
		noiommufd__seal(d);
	if (check(d, length))
		return false;
	expect_sound(d, length);
	return true;
}

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 2);
	unsigned long rounds = 0, accepted = 0;
	struct description *d = malloc(SIZE);
	unsigned char *bytes = (unsigned char *)d;
	size_t i;

	expect(d);
	whole(d);
	expect(!check(d, SIZE));
	for (i = 0; i < SIZE; i++)
		expect(check(d, i) == -EBADMSG);
	for (i = 0; i < 8 * SIZE; i++) {
		int rc;

		bytes[i / 8] ^= 1 << i % 8;
		rc = check(d, SIZE);
		expect(rc == (d->version == DESCRIPTION_VERSION ? -EBADMSG : -EPROTONOSUPPORT));
		bytes[i / 8] ^= 1 << i % 8;
	}
	d->version++;
	expect(check(d, SIZE) == -EPROTONOSUPPORT);
	/* Whatever that version has behind its number */
	expect(check(d, offsetof(struct description, size)) == -EPROTONOSUPPORT);
	unsound(d);
	for (; time(NULL) < end; rounds++) {
		accepted += mutate(d);
		for (i = 0; i < SIZE; i++)
			bytes[i] = any(256);
		expect(check(d, any(SIZE + 1)));
	}
	printf("%lu mutations, %lu of them accepted\n", rounds, accepted);
	expect(rounds > 1000 && accepted);
	free(d);
	return 0;
}
