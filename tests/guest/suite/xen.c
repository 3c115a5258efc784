// SPDX-License-Identifier: GPL-2.0-only
/*
 * In dom0 of Xen, a PV domain, whose physical addresses are not those of the
 * machine: no device is taken. tests/all/test_xen.py makes the guest.
 */
#include "noiommuctl.h"

#define KERN_ERR	3

TEST(pv_domain_takes_no_device)
{
	static const char edu[] = "0000:00:04.0";
	unsigned long long log;
	char type[8] = "";
	int fd;

	fd = expect_ok(open("/sys/hypervisor/guest_type", O_RDONLY));
	expect_ok(read(fd, type, sizeof(type) - 1));
	if (strcmp(type, "PV\n"))
		fail("/sys/hypervisor/guest_type: expected PV, got %s", type);

	log = kmsg_mark();
	expect_ok(write_file("/sys/bus/pci/devices/0000:00:04.0/driver_override",
			     "%s", driver_name()));
	expect_ok(write_file("/sys/bus/pci/drivers_probe", edu));
	expect(!driver_has(edu));
	expect_eq(kmsg_count(log, KERN_ERR, edu, "in a Xen PV domain"), 1);
	diagnosis("fault  this is a Xen PV domain", edu);
}
