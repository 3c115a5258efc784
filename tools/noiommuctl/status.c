// SPDX-License-Identifier: GPL-2.0-only
/* status: the modules, and the processes that have iommufds and devices of ours. */
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
	}
	if (json) {
		json_close(']');
		json_close('}');
		putchar('\n');
	}
	free(holders);
	return 0;
}
