// SPDX-License-Identifier: GPL-2.0-only
/* status: the modules, who has iommufds and devices of ours, and what they have mapped. */
#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/capability.h>

#include "noiommuctl.h"

/* How much a process may have charged to its user, in KiB; ULLONG_MAX: there is no limit. */
static unsigned long long limit_of(pid_t pid)
{
	char *path = path_of("/proc/%d/status", pid), line[LINE];
	unsigned long long bytes, capabilities = 0, limit = ULLONG_MAX;
	FILE *file = fopen(path, "re");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "CapEff: %llx", &capabilities) == 1)
			break;
	if (file)
		fclose(file);
	free(path);
	if (capabilities >> CAP_IPC_LOCK & 1)
		return limit;
	path = path_of("/proc/%d/limits", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Max locked memory %llu", &bytes) == 1)
			limit = bytes >> 10;
	if (file)
		fclose(file);
	free(path);
	return limit;
}

/* Pinned by anyone in the whole machine, in KiB */
static unsigned long long pinned(void)
{
	unsigned long long acquired = 0, released = 0;
	char *path = path_of("/proc/vmstat"), line[LINE];
	FILE *file;

	/* Root can have what each processor counted added up before. */
	write_text("1", "/proc/sys/vm/stat_refresh");
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "nr_foll_pin_acquired %llu", &acquired) != 1 &&
		    sscanf(line, "nr_foll_pin_released %llu", &released) == 1)
			break;
	if (file)
		fclose(file);
	free(path);
	return (acquired - released) * (sysconf(_SC_PAGESIZE) >> 10);
}

/* A process: all that it has, which is beside each other in the list. */
static void status_of(const struct holder *holders, size_t count)
{
	unsigned long long limit = limit_of(holders->pid);
	unsigned int iommufds = 0;
	char text[32] = "none";
	size_t i;

	for (i = 0; i < count; i++)
		if (!*holders[i].device)
			iommufds += holders[i].files;
	if (json) {
		json_open(NULL, '{');
		json_number("pid", holders->pid);
		json_number("uid", holders->uid);
		json_text("command", holders->command);
		json_number("iommufds", iommufds);
		json_number("pinned_kib", holders->pinned_kib);
		if (limit == ULLONG_MAX)
			json_text("limit_kib", NULL);
		else
			json_number("limit_kib", limit);
		json_open("devices", '[');
	} else {
		if (limit != ULLONG_MAX)
			snprintf(text, sizeof(text), "%llu", limit);
		printf("%-8d %-6u %-16s %8u %11llu %11s ", holders->pid, holders->uid,
		       holders->command, iommufds, holders->pinned_kib, text);
	}
	for (i = 0; i < count; i++) {
		if (!*holders[i].device)
			continue;
		if (json)
			json_text(NULL, holders[i].device);
		else
			printf(" %s", holders[i].device);
	}
	if (json) {
		json_close(']');
		json_close('}');
	} else {
		putchar('\n');
	}
}

/* What is behind an iommufd: its fdinfo, and the processes that have it. */
struct context {
	unsigned int number;
	char *text;
	pid_t *pids;
	size_t nr_pids;
};

static struct context *contexts;
static size_t nr_contexts;

/* All of a file, or NULL. The caller frees it. */
static char *text_of(const char *path)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t size = 0;

	if (!file)
		return NULL;
	if (getdelim(&text, &size, '\0', file) < 0) {
		free(text);
		text = NULL;
	}
	fclose(file);
	return text;
}

/* What follows the key in a line, or NULL */
static const char *value_of(const char *line, const char *key)
{
	size_t len = strlen(key);

	return strncmp(line, key, len) || line[len] != ':' ? NULL :
	       line + len + 1 + strspn(line + len + 1, " \t");
}

/* The next line with that key; NULL if there is none, or another one comes first. */
static const char *next_line(const char *line, const char *key, const char *end)
{
	while ((line = strchr(line, '\n')) && *++line) {
		if (value_of(line, key))
			return line;
		if (end && value_of(line, end))
			return NULL;
	}
	return NULL;
}

static const char *first_line(const char *text, const char *key)
{
	return value_of(text, key) ? text : next_line(text, key, NULL);
}

/* A number of the address space that begins at that line */
static unsigned long long ioas_number(const char *ioas, const char *key)
{
	const char *line = next_line(ioas, key, "ioas");

	return line ? strtoull(value_of(line, key), NULL, 10) : 0;
}

static void add_context(pid_t pid, char *text)
{
	const char *line = first_line(text, "context");
	struct context *context;
	unsigned int number;
	size_t i;

	if (!line || !first_line(text, "opener")) {
		free(text);
		return;
	}
	number = strtoul(value_of(line, "context"), NULL, 10);
	for (i = 0; i < nr_contexts && contexts[i].number != number; i++)
		;
	if (i == nr_contexts) {
		contexts = reallocarray(contexts, ++nr_contexts, sizeof(*contexts));
		if (!contexts)
			err(1, "no memory");
		contexts[i] = (struct context){ .number = number, .text = text };
	} else {
		free(text);
	}
	context = &contexts[i];
	if (context->nr_pids && context->pids[context->nr_pids - 1] == pid)
		return;
	context->pids = reallocarray(context->pids, context->nr_pids + 1, sizeof(pid));
	if (!context->pids)
		err(1, "no memory");
	context->pids[context->nr_pids++] = pid;
}

/* The contexts of a process */
static void find_contexts(pid_t pid)
{
	char *path = path_of("/proc/%d/fdinfo", pid), *text;
	DIR *dir = opendir(path);
	struct dirent *entry;

	free(path);
	while (dir && (entry = readdir(dir))) {
		if (!isdigit(*entry->d_name))
			continue;
		path = path_of("/proc/%d/fdinfo/%s", pid, entry->d_name);
		text = text_of(path);
		free(path);
		if (text)
			add_context(pid, text);
	}
	if (dir)
		closedir(dir);
}

/* "3 0000:00:04.0 hwpt 2 ioas 1" */
static bool parse_device(const char *line, unsigned int *id, char address[16], unsigned int *hwpt,
			 unsigned int *ioas)
{
	return sscanf(line, "device: %u %15s hwpt %u ioas %u", id, address, hwpt, ioas) == 4;
}

/* "256 uid 1000 pid 77 limit user"; a pid of 0 belongs to a process that has ended. */
static bool parse_charge(const char *line, unsigned long long *pages, unsigned int *uid, int *pid,
			 char limit[16])
{
	return sscanf(line, "ioas-charge: %llu uid %u pid %d limit %15s", pages, uid, pid,
		      limit) == 4;
}

static void json_devices(const char *text)
{
	unsigned int id, hwpt, ioas;
	char address[16];
	const char *line;

	json_open("devices", '[');
	for (line = first_line(text, "device"); line; line = next_line(line, "device", NULL)) {
		if (!parse_device(line, &id, address, &hwpt, &ioas))
			continue;
		json_open(NULL, '{');
		json_text("address", address);
		json_number("id", id);
		json_number("hwpt", hwpt);
		json_number("ioas", ioas);
		json_close('}');
	}
	json_close(']');
}

static void json_charges(const char *ioas)
{
	const char *line = ioas;
	unsigned long long pages;
	unsigned int uid;
	char limit[16];
	int pid;

	json_open("charges", '[');
	while ((line = next_line(line, "ioas-charge", "ioas"))) {
		if (!parse_charge(line, &pages, &uid, &pid, limit))
			continue;
		json_open(NULL, '{');
		json_number("pages", pages);
		json_number("uid", uid);
		json_number("pid", pid);
		json_text("limit", limit);
		json_close('}');
	}
	json_close(']');
}

static void json_context(const struct context *context)
{
	const char *line = first_line(context->text, "ioas");
	const char *granted = first_line(context->text, "granted-by");
	size_t i;

	json_open(NULL, '{');
	json_number("context", context->number);
	json_open("pids", '[');
	for (i = 0; i < context->nr_pids; i++)
		json_number(NULL, context->pids[i]);
	json_close(']');
	if (granted)
		json_number("granted_by", strtoul(value_of(granted, "granted-by"), NULL, 10));
	json_devices(context->text);
	json_open("ioases", '[');
	for (; line; line = next_line(line, "ioas", NULL)) {
		json_open(NULL, '{');
		json_number("id", strtoull(value_of(line, "ioas"), NULL, 10));
		json_number("hwpts", ioas_number(line, "ioas-hwpts"));
		json_number("areas", ioas_number(line, "ioas-areas"));
		json_number("bytes", ioas_number(line, "ioas-bytes"));
		json_number("pinned_pages", ioas_number(line, "ioas-pinned"));
		json_number("runs", ioas_number(line, "ioas-runs"));
		json_number("table_bytes", ioas_number(line, "ioas-table-bytes"));
		json_charges(line);
		json_close('}');
	}
	json_close(']');
	json_close('}');
}

/* Who pays for an address space, and which devices are attached to it */
static void print_rest(const struct context *context, const char *ioas)
{
	unsigned int id, hwpt, attached, uid, number = strtoul(value_of(ioas, "ioas"), NULL, 10);
	unsigned long long pages;
	const char *line = ioas;
	bool none = true;
	char text[16];
	int pid;

	while ((line = next_line(line, "ioas-charge", "ioas"))) {
		if (!parse_charge(line, &pages, &uid, &pid, text))
			continue;
		printf("%s uid %u pid %d: %llu KiB", none ? "" : ",", uid, pid,
		       pages * (sysconf(_SC_PAGESIZE) >> 10));
		none = false;
	}
	for (line = first_line(context->text, "device"); line;
	     line = next_line(line, "device", NULL)) {
		if (!parse_device(line, &id, text, &hwpt, &attached) || attached != number)
			continue;
		printf("%s %s", none ? "" : ",", text);
		none = false;
	}
	puts(none ? " -" : "");
}

static void print_context(const struct context *context)
{
	const char *line = first_line(context->text, "ioas");
	const char *granted = first_line(context->text, "granted-by");
	size_t i;

	printf("\ncontext %u of pid", context->number);
	for (i = 0; i < context->nr_pids; i++)
		printf("%s %d", i ? "," : "", context->pids[i]);
	if (granted) {
		granted = value_of(granted, "granted-by");
		printf(", granted by %.*s", (int)strcspn(granted, "\n"), granted);
	}
	putchar('\n');
	if (line)
		printf("%-6s %9s %12s %12s %11s  %s\n", "IOAS", "AREAS", "MAPPED KiB",
		       "PINNED KiB", "TABLES KiB", "CHARGED TO, DEVICES");
	for (; line; line = next_line(line, "ioas", NULL)) {
		printf("%-6lu %9llu %12llu %12llu %11llu ",
		       strtoul(value_of(line, "ioas"), NULL, 10), ioas_number(line, "ioas-areas"),
		       ioas_number(line, "ioas-bytes") >> 10,
		       ioas_number(line, "ioas-pinned") * (sysconf(_SC_PAGESIZE) >> 10),
		       (ioas_number(line, "ioas-table-bytes") + 1023) >> 10);
		print_rest(context, line);
	}
}

static void print_mode(const char *key, const char *when, int mode)
{
	if (json)
		json_bool(key, mode == 1);
	else
		printf("unsafe mode %-9s %s\n", when, mode == 1 ? "on" : "off");
}

int cmd_status(char **names)
{
	struct holder *holders;
	size_t i, j, count = find_holders(&holders);
	char version[LINE] = "";

	(void)names;
	read_line(version, MODULE "/version");
	if (json) {
		json_open(NULL, '{');
		json_text("version", version);
		json_text("iommufd", iommufd_node());
	} else {
		printf("modules               %s\n", *version ? version : "not loaded");
		printf("iommufd               %s%s\n", iommufd_node() ? "/dev/" : "none",
		       iommufd_node() ?: "");
	}
	print_mode("unsafe_mode", "now", unsafe_now());
	print_mode("unsafe_mode_at_boot", "at boot", unsafe_at_boot());
	if (json) {
		json_number("pinned_kib", pinned());
		json_open("processes", '[');
	} else {
		printf("pinned by anyone      %llu KiB\n", pinned());
		if (count)
			printf("\n%-8s %-6s %-16s %8s %11s %11s  %s\n", "PID", "UID", "COMMAND",
			       "IOMMUFDS", "PINNED KiB", "LIMIT KiB", "DEVICES");
	}
	for (i = 0; i < count; i = j) {
		for (j = i + 1; j < count && holders[j].pid == holders[i].pid; j++)
			;
		status_of(holders + i, j - i);
		find_contexts(holders[i].pid);
	}
	if (json) {
		json_close(']');
		json_open("contexts", '[');
	}
	for (i = 0; i < nr_contexts; i++) {
		if (json)
			json_context(&contexts[i]);
		else
			print_context(&contexts[i]);
		free(contexts[i].text);
		free(contexts[i].pids);
	}
	if (json) {
		json_close(']');
		json_close('}');
		putchar('\n');
	}
	free(contexts);
	free(holders);
	return 0;
}
