// SPDX-License-Identifier: GPL-2.0-only
/*
 * cdi: what containers get, as the Container Device Interface has it. Our
 * iommufd has its usual name there, whatever it is called here.
 */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "noiommuctl.h"

/* In a container, a node has the rights that it has here, and not 0666. */
static void edits(const char *path, const char *host)
{
	char *place = path_of("%s", host);
	struct stat st = { 0 };

	if (stat(place, &st))
		st.st_mode = 0600;
	free(place);
	json_open("containerEdits", '{');
	json_open("deviceNodes", '[');
	json_open(NULL, '{');
	json_text("path", path);
	json_text("hostPath", host);
	json_text("permissions", "rw");
	json_number("fileMode", st.st_mode & 0777);
	json_number("uid", st.st_uid);
	json_number("gid", st.st_gid);
	json_close('}');
	json_close(']');
	json_close('}');
}

int cmd_cdi(char **names)
{
	char *pattern = path_of(PCI_DEVICES "/*"), path[64];
	size_t i, count = 0;
	struct device dev;
	glob_t found;

	(void)names;
	if (!iommufd_node())
		errx(1, "the module is not loaded: noiommuctl doctor");
	json_open(NULL, '{');
	json_text("cdiVersion", "0.5.0");
	json_text("kind", "noiommufd/device");
	snprintf(path, sizeof(path), "/dev/%s", iommufd_node());
	edits("/dev/iommu", path);
	json_open("devices", '[');
	if (glob(pattern, 0, NULL, &found))
		found.gl_pathc = 0;
	for (i = 0; i < found.gl_pathc; i++) {
		if (!read_device(&dev, strrchr(found.gl_pathv[i], '/') + 1) || !dev.taken)
			continue;
		count++;
		json_open(NULL, '{');
		json_text("name", dev.address);
		snprintf(path, sizeof(path), "/dev/vfio/devices/%s", dev.node);
		edits(path, path);
		json_close('}');
	}
	json_close(']');
	json_close('}');
	putchar('\n');
	globfree(&found);
	free(pattern);
	if (!count)
		warnx("no device is bound, so there is none in it: noiommuctl bind 0000:00:05.0");
	return !count;
}
