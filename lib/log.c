// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Failures and their explanations; fork().
 */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

static void (*log_function)(void *data, const char *message);
static void *log_data;

unsigned int noiommufd__forks;

static void count_fork(void)
{
	noiommufd__forks++;
	noiommufd__forked();
}

__attribute__((constructor)) static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, count_fork);
}

void noiommufd_set_log(void (*log)(void *data, const char *message), void *data)
{
	log_data = data;
	log_function = log;
}

void noiommufd_print(void *file, const char *message)
{
	if (file && message)
		fprintf(file, "%s\n", message);
}

int noiommufd__fail(int error, const char *format, ...)
{
	char message[1024];
	va_list args;

	if (log_function) {
		/* For %m */
		errno = error;
		va_start(args, format);
		vsnprintf(message, sizeof(message), format, args);
		va_end(args);
		log_function(log_data, message);
	}
	errno = error;
	return -1;
}

bool noiommufd__owned(unsigned int forks, const char *function)
{
	if (forks == noiommufd__forks)
		return true;
	noiommufd__fail(ESTALE,
			"%s(): this handle is that of the process before fork(): open the device again.",
			function);
	return false;
}
