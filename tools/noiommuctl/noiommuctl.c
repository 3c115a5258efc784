// SPDX-License-Identifier: GPL-2.0-only
/* noiommuctl: the command line. See noiommuctl(8). */
#include <argp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "noiommuctl.h"

const char *sysroot = "";
bool json, persist, all, force;

/* What a command takes: at least and at most so many devices; -1: any number */
static const struct command {
	const char *name;
	int (*run)(char **names);
	int least, most;
	const char *options;
} commands[] = {
	{ "list", cmd_list, 0, 0, "jar" },
	{ "bind", cmd_bind, 1, -1, "pf" },
	{ "unbind", cmd_unbind, 1, -1, "" },
	{ "enable", cmd_enable, 0, 0, "p" },
	{ "disable", cmd_disable, 0, 0, "" },
	{ "doctor", cmd_doctor, 0, 1, "jr" },
	{ "test", cmd_test, 1, 1, "" },
	{ "status", cmd_status, 0, 0, "j" },
	{ "cdi", cmd_cdi, 0, 0, "r" },
	{ 0 }
};

static const struct argp_option options[] = {
	{ "all", 'a', NULL, 0, "list: also devices that are refused, and why", 0 },
	{ "force", 'f', NULL, 0, "bind: also devices that are in use", 0 },
	{ "json", 'j', NULL, 0, "list, doctor, status: print JSON", 0 },
	{ "persist", 'p', NULL, 0, "bind, enable: also at each boot from now on", 0 },
	{ "sysroot", 'r', "DIR", 0, "list, doctor, cdi: look at the system below DIR", 0 },
	{ 0 }
};

/* The options that were given, to compare with those of the command */
static char given[sizeof(options) / sizeof(*options)];
static const struct command *command;
static char **names;

static const struct command *find_command(const char *name)
{
	const struct command *each = commands;

	while (each->name && strcmp(each->name, name))
		each++;
	return each->name ? each : NULL;
}

static void check(const struct argp_state *state)
{
	int count = state->argc - state->next - 1;
	const char *option;

	command = find_command(state->argv[state->next]);
	if (!command)
		argp_error(state, "there is no command %s", state->argv[state->next]);
	names = state->argv + state->next + 1;
	if (count < command->least)
		argp_error(state, "name a device: noiommuctl %s 0000:00:05.0", command->name);
	if (command->most >= 0 && count > command->most)
		argp_error(state, "%s takes no such argument: %s", command->name,
			   names[command->most]);
	for (option = given; *option; option++)
		if (!strchr(command->options, *option))
			argp_error(state, "%s has no option -%c", command->name, *option);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case 'a':
		all = true;
		break;
	case 'f':
		force = true;
		break;
	case 'j':
		json = true;
		break;
	case 'p':
		persist = true;
		break;
	case 'r':
		if (strlen(arg) > PATH_MAX / 2)
			argp_error(state, "the name of DIR is too long");
		if (access(arg, X_OK))
			argp_error(state, "%s is no directory that can be read", arg);
		sysroot = strcmp(arg, "/") ? arg : "";
		break;
	case ARGP_KEY_ARGS:
		check(state);
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "name a command: noiommuctl list");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	if (!strchr(given, key))
		given[strlen(given)] = key;
	return 0;
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "list\n"
		"bind|unbind DEVICE...\n"
		"enable|disable\n"
		"doctor [DEVICE]\n"
		"test DEVICE\n"
		"status\n"
		"cdi",
	.doc = "Give PCI devices to noiommu-vfio-pci, and see who has them.\n"
		"\v  list      devices that could be taken, that are, and by whom they are held\n"
		"  bind      give devices to noiommu-vfio-pci\n"
		"  unbind    give them back to the drivers of the kernel, for good\n"
		"  enable    switch the unsafe mode on, without which no device is taken\n"
		"  disable   switch it off, now and at each boot\n"
		"  doctor    what keeps devices from working here, and what to do\n"
		"  test      open a device, pin a page, read config space, close\n"
		"  status    the modules, and the processes that have iommufds and devices\n"
		"  cdi       the devices for containers: > /run/cdi/noiommufd.json\n"
		"\n"
		"DEVICE is a PCI address, such as 0000:00:05.0, or noiommu-vfio0.",
};

const char *argp_program_version = "noiommuctl " VERSION;

int main(int argc, char **argv)
{
	argp_err_exit_status = 2;
	if (argp_parse(&argp, argc, argv, 0, NULL, NULL))
		return 2;
	return command->run(names);
}
