/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Allocations of memory that fail, for a program that is linked with
 * -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc.
 */
#ifndef __SUITE_FAILING_H
#define __SUITE_FAILING_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

static int until_failure;	/* 0: none fails */

void *__real_malloc(size_t size);
void *__real_calloc(size_t num, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t num, size_t size);
void *__wrap_realloc(void *old, size_t size);

static bool fails(void)
{
	if (!until_failure || --until_failure)
		return false;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t num, size_t size)
{
	return fails() ? NULL : __real_calloc(num, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

#endif /* __SUITE_FAILING_H */
