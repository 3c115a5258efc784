/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The conformance program issues a long list of ioctls and prints a line for
 * each, the same at every boot. Each ioctl is a line of text, in scripts.c or
 * made by sweep.c, which is printed with the answer after it. To find the code
 * of a line, search for its text.
 *
 *	conformance.c	main(): groups of lines, each in a process of its own
 *	calls.c		what each ioctl's argument looks like
 *	script.c	runs a line
 *	sweep.c		lines of bad input, made from calls.c
 *	scripts.c	all other lines
 */
#ifndef __CONFORMANCE_H
#define __CONFORMANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define PAGE		0x1000UL

/* Kind of a field: which bad values sweep.c tries, and how it is printed */
enum kind {
	FIELD_SIZE = 1,
	FIELD_FLAGS,
	FIELD_RESERVED,
	FIELD_ID,
	FIELD_NUMBER,
	FIELD_ADDRESS,		/* IOVA or length */
	FIELD_POINTER,
	FIELD_FD,
	FIELD_OUT,
	FIELD_OUT_ID,		/* what ">name" in a line keeps */
	FIELD_OUT_FD,		/* kept in the variable "fd" */
	FIELD_OUT_PA,
};

struct field {
	const char *name;
	unsigned int offset;
	unsigned int bytes;
	enum kind kind;
};

enum target { IOMMUFD, DEVICE };

/**
 * struct call - an ioctl
 * @name: its name in lines
 * @target: IOMMUFD: the default file is the variable "i"; DEVICE: "d"
 * @nr: its number
 * @min: size of the shortest argument that the kernel accepts; 0: the argument
 *	is a value
 * @size: size of the full argument
 * @good: arguments with which it succeeds, or would with an IOMMU, after the
 *	script "world"; NULL: not for sweep.c
 * @fields: fields of the argument, in order
 */
struct call {
	const char *name;
	enum target target;
	unsigned int nr;
	unsigned int min;
	unsigned int size;
	const char *good;
	struct field fields[14];
};

extern const struct call calls[];
extern const unsigned int nr_calls;

/* Lines up to a NULL, or a function that makes them. */
struct group {
	const char *name;
	const char *const *lines;
	void (*fn)(const struct call *call);
	const struct call *call;
};

extern const struct group parts[];
extern const unsigned int nr_parts;
extern const struct group scripts[];
extern const unsigned int nr_scripts;
extern const char *const world[];

void sweep(const struct call *call);

/* Options of the program */
extern const char *opt_node;
extern const char *opt_driver;
extern const char *opt_gate;

/* Each group runs in a process: prepare that process, then run lines in it. */
void script_begin(const char *group, int *counter);
void script_run(const char *const *lines);
/*
 * Run one line. Print "shown" instead of its text, unless NULL. Returns true if
 * the ioctl succeeded.
 */
bool script_line(const char *text, const char *shown);
/* Print something that is not a line of a script like an answer. */
[[gnu::format(printf, 1, 2)]] void script_say(const char *fmt, ...);
/* Close all files that lines opened, forget all variables */
void script_forget(void);

/* Devices: "edu", "edu2" (behind a bridge), "nvme" */
const char *device_bdf(const char *name);
bool device_node(const char *name, char *path, size_t size);
bool device_group_node(const char *name, char *path, size_t size);
int write_text(const char *path, const char *text);
long pages_pinned(void);

#endif /* __CONFORMANCE_H */
