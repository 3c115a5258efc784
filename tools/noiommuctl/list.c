// SPDX-License-Identifier: GPL-2.0-only
/* list: the devices that could be taken, those that are, and who has them. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "noiommuctl.h"

/* Where the column of the node ends */
#define NODE_END	72

/* By the upper byte of the class code */
static const char * const kinds[] = {
	"old", "storage", "network", "display", "multimedia", "memory", "bridge",
	"communication", "system", "input", "docking", "processor", "bus",
	"wireless", "I/O", "satellite", "crypto", "signal", "accelerator",
};

static const char *kind_of(const struct device *dev)
{
	unsigned int base = dev->class >> 16;

	return base < sizeof(kinds) / sizeof(*kinds) ? kinds[base] : "other";
}

static void list_json(const struct device *dev, const struct holder *holders, size_t count)
{
	char hex[16];

	json_open(NULL, '{');
	json_text("address", dev->address);
	snprintf(hex, sizeof(hex), "%04x", dev->vendor);
	json_text("vendor", hex);
	snprintf(hex, sizeof(hex), "%04x", dev->id);
	json_text("device", hex);
	snprintf(hex, sizeof(hex), "%06x", dev->class);
	json_text("class", hex);
	json_text("driver", dev->driver);
	json_text("state", dev->taken ? "taken" : dev->refusal ? "refused" : "free");
	json_text("refusal", dev->refusal);
	json_text("node", dev->node);
	json_bool("at_boot", exists(OVERRIDE, dev->address));
	json_open("holders", '[');
	for (; count; holders++, count--) {
		if (strcmp(holders->device, dev->address))
			continue;
		json_open(NULL, '{');
		json_number("pid", holders->pid);
		json_number("uid", holders->uid);
		json_text("command", holders->command);
		json_close('}');
	}
	json_close(']');
	json_close('}');
}

static void list_text(const struct device *dev, const struct holder *holders, size_t count)
{
	int gap = 0;

	printf("%-13s %04x:%04x  %-13s %-17s %s%n", dev->address, dev->vendor, dev->id,
	       kind_of(dev), *dev->driver ? dev->driver : "-", *dev->node ? dev->node : "-", &gap);
	gap = gap < NODE_END ? NODE_END - gap : 1;
	if (dev->refusal)
		printf("%*srefused: %s", gap, "", dev->refusal);
	for (; count; holders++, count--) {
		if (strcmp(holders->device, dev->address))
			continue;
		printf("%*s%s (pid %d)", gap, "", holders->command, holders->pid);
		gap = 1;
	}
	putchar('\n');
}

int cmd_list(char **names)
{
	char *pattern = path_of(PCI_DEVICES "/*");
	struct holder *holders;
	size_t i, count = find_holders(&holders);
	struct device dev;
	glob_t found;

	(void)names;
	if (glob(pattern, 0, NULL, &found))
		errx(1, "there are no PCI devices here: %s is empty", pattern);
	if (json)
		json_open(NULL, '[');
	else
		printf("%-13s %-9s  %-13s %-17s %-15s%s\n", "ADDRESS", "ID", "KIND", "DRIVER",
		       "NODE", "HELD BY");
	for (i = 0; i < found.gl_pathc; i++) {
		if (!read_device(&dev, strrchr(found.gl_pathv[i], '/') + 1) ||
		    (dev.refusal && !all))
			continue;
		(json ? list_json : list_text)(&dev, holders, count);
	}
	if (json) {
		json_close(']');
		putchar('\n');
	}
	globfree(&found);
	free(holders);
	free(pattern);
	return 0;
}
