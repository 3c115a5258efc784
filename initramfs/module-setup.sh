#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# For /usr/lib/dracut/modules.d/90noiommufd, beside early.sh: what hook does with initramfs-tools.

# shellcheck disable=SC2154 # dracut sets it
check() { [ "$(sh "$moddir/early.sh" list)" ]; }

depends() { return 0; }

installkernel() { hostonly='' instmods noiommu-vfio-pci; }

# shellcheck disable=SC2154
install()
{
	sh "$moddir/early.sh" list >"$initdir/etc/noiommufd.early"
	inst_multiple chroot
	inst_hook pre-udev 00 "$moddir/early.sh"
	inst_hook pre-pivot 00 "$moddir/early.sh"
}
