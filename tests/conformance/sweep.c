// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bad input for one ioctl, made from the fields in calls.c. The printed lines
 * name what differs from the ioctl's good arguments. "world" of scripts.c is set
 * up again whenever an ioctl may have changed it.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <linux/ioctl.h>

#include "conformance.h"

static const struct call *swept;
static bool stale;

static void world_again(void)
{
	if (!stale)
		return;
	script_forget();
	script_run(world);
	/* BIND needs a device that is not bound yet */
	if (!strcmp(swept->name, "BIND"))
		script_line(".dev d edu2", NULL);
	stale = false;
}

/* The good arguments, then those that replace them; the line shows the latter. */
[[gnu::format(printf, 1, 2)]] static void one(const char *fmt, ...)
{
	char what[128], text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);

	world_again();
	snprintf(text, sizeof(text), "%s %s %s", swept->name, swept->good,
		 strcmp(what, "good") ? what : "");
	if (script_line(text, what) || strstr(what, "arg=ro"))
		stale = true;
}

static void each(const struct field *field, const char *values)
{
	char value[32];
	size_t length;

	for (; *values; values += length) {
		values += strspn(values, " ");
		length = strcspn(values, " ");
		memcpy(value, values, length);
		value[length] = 0;
		if (length)
			one("%s=%s", field->name, value);
	}
}

static const char *bad_values(enum kind kind)
{
	switch (kind) {
	case FIELD_FLAGS:
		return "0 1 2 4 8 16 32 64 128 0x80000000 max32";
	case FIELD_RESERVED:
		return "1 max32";
	case FIELD_ID:
		return "0 max32 0x7fffffff 1000 gone other dev a b auto hwpt fault";
	case FIELD_NUMBER:
		return "0 1 2 3 4 5 6 15 max32";
	case FIELD_ADDRESS:
		return "0 1 0xfff 0x1000 0x1001 0x10001 0x5000 half-1 half top-1 top max64-1 max64";
	case FIELD_POINTER:
		return "null hole ro rangesro none kernel half-0x1000 top max64";
	case FIELD_FD:
		return "max32 0x80000000 1000 zero event i d j memfd";
	case FIELD_OUT:
	case FIELD_OUT_ID:
	case FIELD_OUT_FD:
		return "max32";
	case FIELD_OUT_PA:
		return "max64";
	default:
		return "";
	}
}

static void sizes(void)
{
	static const char *const extra[] = { "", " tail=1" };
	const unsigned int full[] = {
		swept->size + 4, swept->size + 8, PAGE, PAGE + 1,
	};
	const unsigned int part[] = {
		0, 1, 4, swept->min - 4, swept->min - 1, swept->min,
		swept->min + 1, swept->min + 4, swept->size - 1, swept->size,
	};
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(part); i++) {
		for (j = 0; j < i && part[j] != part[i]; j++)
			;
		if (j == i)
			one("size=%u", part[i]);
	}
	/* Between the shortest argument and the full one */
	if (swept->min + 8 < swept->size)
		one("size=%u", swept->min + 8);
	for (i = 0; i < ARRAY_SIZE(full); i++)
		for (j = 0; j < ARRAY_SIZE(extra); j++)
			one("size=%u%s", full[i], extra[j]);
	one("size=max32");
	one("size=0x80000000");
}

/* The same number with a read or write direction, and with another type */
static void numbers(void)
{
	const unsigned int nr[] = {
		swept->nr | _IOC_READ << _IOC_DIRSHIFT,
		swept->nr | _IOC_WRITE << _IOC_DIRSHIFT,
		swept->nr | (_IOC_READ | _IOC_WRITE) << _IOC_DIRSHIFT |
			swept->size << _IOC_SIZESHIFT,
		swept->nr + (1 << _IOC_TYPESHIFT),
		swept->nr & 0xff,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(nr); i++)
		one("nr=%#x", nr[i]);
}

void sweep(const struct call *call)
{
	const struct field *field;

	swept = call;
	stale = true;
	one("good");
	one("arg=null");
	one("arg=hole");
	one("arg=kernel");
	one("arg=edge");
	one("arg=end");
	one("arg=ro");
	sizes();
	numbers();
	for (field = call->fields; field->name; field++)
		each(field, bad_values(field->kind));
}
