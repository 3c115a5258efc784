// SPDX-License-Identifier: GPL-2.0-only
/* Writes JSON to standard output. */
#include <stdio.h>

#include "noiommuctl.h"

/* Is there something in the innermost object or array yet? */
static bool comma;

static void string(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if ((unsigned char)*text < ' ')
			printf("\\u%04x", *text);
		else
			putchar(*text);
	}
	putchar('"');
}

static void begin(const char *key)
{
	if (comma)
		putchar(',');
	if (key) {
		string(key);
		putchar(':');
	}
	comma = true;
}

void json_open(const char *key, char bracket)
{
	begin(key);
	putchar(bracket);
	comma = false;
}

void json_close(char bracket)
{
	putchar(bracket);
	comma = true;
}

/* "" and NULL are null. */
void json_text(const char *key, const char *text)
{
	begin(key);
	if (text && *text)
		string(text);
	else
		printf("null");
}

void json_number(const char *key, unsigned long long number)
{
	begin(key);
	printf("%llu", number);
}

void json_bool(const char *key, bool value)
{
	begin(key);
	printf(value ? "true" : "false");
}
