// SPDX-License-Identifier: GPL-2.0-only
/*
 * Linked into the kernel's iommufd selftests, for mainline and for ours. Around
 * each test they issue two ioctls of CONFIG_IOMMUFD_TEST that need no mock device;
 * a kernel without that option does not have them, so they are answered here. All
 * others go to the kernel, whose ENOTTY fails the tests that issue them.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "iommufd_test.h"

/* Pages pinned in the whole system; negative if the kernel does not count. */
static long long pinned_pages(void)
{
	long long acquired = 0, released = 1, value;
	char name[64];
	FILE *f;

	f = fopen("/proc/sys/vm/stat_refresh", "w");
	if (f) {
		fputs("1", f);
		fclose(f);
	}
	f = fopen("/proc/vmstat", "r");
	if (!f)
		return -1;
	while (fscanf(f, "%63s %lld", name, &value) == 2) {
		if (!strcmp(name, "nr_foll_pin_acquired"))
			acquired = value;
		if (!strcmp(name, "nr_foll_pin_released"))
			released = value;
	}
	fclose(f);
	return acquired - released;
}

/* The linker replaces ioctl() by this. */
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	struct iommu_test_cmd *cmd;
	va_list args;

	va_start(args, request);
	cmd = va_arg(args, void *);
	va_end(args);

	if (request != IOMMU_TEST_CMD)
		return syscall(SYS_ioctl, fd, request, cmd);

	switch (cmd->op) {
	case IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT:
		/* Of the pinning that only a mock device would cause */
		return 0;
	case IOMMU_TEST_OP_MD_CHECK_REFS:
		if (cmd->check_refs.refs)
			break;
		if (!pinned_pages())
			return 0;
		errno = EIO;
		return -1;
	}
	return syscall(SYS_ioctl, fd, request, cmd);
}
