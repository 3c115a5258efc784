/* SPDX-License-Identifier: GPL-2.0-only */
/* Programs of the suite run noiommuctl, and look at what it prints. */
#ifndef __SUITE_NOIOMMUCTL_H
#define __SUITE_NOIOMMUCTL_H

#include <stdarg.h>
#include <sys/wait.h>

#include "harness.h"

/* What the last command printed */
static char said[8192];

/* Run it with these arguments; returns its status. */
[[gnu::format(printf, 1, 2)]]
static inline int ctl(const char *fmt, ...)
{
	char args[256], command[512];
	va_list list;
	size_t len;
	FILE *pipe;

	va_start(list, fmt);
	vsnprintf(args, sizeof(args), fmt, list);
	va_end(list);
	snprintf(command, sizeof(command), "noiommuctl %s 2>&1", args);
	pipe = popen(command, "r");
	expect(pipe);
	len = fread(said, 1, sizeof(said) - 1, pipe);
	said[len] = '\0';
	return WEXITSTATUS(pclose(pipe));
}

/* It did what it was to. */
#define expect_done(...) \
	do { \
		if (ctl(__VA_ARGS__)) \
			fail("noiommuctl failed: %s", said); \
	} while (0)

#define expect_said(text) \
	do { \
		if (!strstr(said, text)) \
			fail("expected '%s', got: %s", text, said); \
	} while (0)

/* It refuses, in one line, and says this. */
#define expect_refused(text, ...) \
	do { \
		expect_eq(ctl(__VA_ARGS__), 1); \
		expect_said(text); \
		expect_eq(strcspn(said, "\n") + 1, strlen(said)); \
	} while (0)

/*
 * Doctor says this before all else that is not well; returns the command that it
 * prints with it. Its status is 1 after a fault, and 0 after a hint.
 */
static inline const char *diagnosis(const char *says, const char *device)
{
	static char command[512];
	int status = ctl("doctor %s", device);
	char *line = said, *end;

	while (strncmp(line, "ok ", 3) == 0 && strchr(line, '\n'))
		line = strchr(line, '\n') + 1;
	end = strstr(line, "\n       do: ");
	if (strncmp(line, says, strlen(says)) || !end)
		fail("expected '%s' and what to do, got: %s", says, said);
	expect_eq(status, strncmp(says, "fault", 5) == 0);
	end += strlen("\n       do: ");
	snprintf(command, sizeof(command), "%.*s", (int)strcspn(end, "\n"), end);
	return command;
}

#endif
