// SPDX-License-Identifier: GPL-2.0-only
/*
 * Kernel lockdown: from then on no device is taken and no physical addresses are
 * granted, but devices and grants of before stay. It cannot be undone, so init
 * runs this after all other programs.
 */
#include <sys/mount.h>

#include <noiommufd/noiommufd.h>

#include "noiommuctl.h"

#define KERN_ERR	3
#define SECURITYFS	"/sys/kernel/security"

static void ask_without_capability(void *arg)
{
	const struct setup *s = arg;

	drop_cap(CAP_SYS_RAWIO);
	expect(pa_of(s->iommu, s->ioas, 0) != 0);
}

TEST(no_device_is_taken_any_more)
{
	struct noiommufd_grant grant = { .size = sizeof(grant) };
	unsigned long long log;
	struct setup s;
	char path[128];
	int again;

	skip_on_mainline("vfio does not ask whether the kernel is locked down");
	mount("securityfs", SECURITYFS, "securityfs", 0, NULL);
	if (access(SECURITYFS "/lockdown", F_OK))
		test_skip("the kernel has no lockdown");
	if (driver_has(edu_behind_bridge()))
		driver_unbind(edu_behind_bridge());
	setup_attached(&s);
	expect_ok(ioctl(s.iommu, NOIOMMUFD_GRANT, &grant));

	log = kmsg_mark();
	expect_ok(write_file(SECURITYFS "/lockdown", "integrity"));
	snprintf(path, sizeof(path),
		 "/sys/bus/pci/devices/%s/driver_override",
		 edu_behind_bridge());
	expect_ok(write_file(path, "%s", driver_name()));
	expect_ok(write_file("/sys/bus/pci/drivers_probe", "%s",
			     edu_behind_bridge()));
	expect(!driver_has(edu_behind_bridge()));
	expect_eq(kmsg_count(log, KERN_ERR, edu_behind_bridge(),
			     "kernel lockdown forbids it: turn Secure Boot off"),
		  1);

	/* Nothing locks it at the next boot. */
	expect(!strcmp(diagnosis("fault  kernel lockdown is on [integrity]", edu()), "reboot"));

	/* As with unsafe mode, the existing node works. */
	expect_ok(ioas_map(s.iommu, s.ioas, mem(PAGE), PAGE, 0));
	expect(pa_of(s.iommu, s.ioas, 0) != 0);
	/* So does a grant, but there are no more. */
	in_child(ask_without_capability, &s);
	expect_errno(ioctl(iommu_open(), NOIOMMUFD_GRANT, &grant), EPERM);
	expect_errno(ioctl(s.iommu, NOIOMMUFD_GRANT, &grant), EPERM);
	in_child(ask_without_capability, &s);
	expect_ok(ioctl(s.iommu, NOIOMMUFD_REVOKE, &grant));

	again = cdev_open(edu());
	close(s.dev);
	expect_ok(dev_bind(again, s.iommu, &s.devid));
}
