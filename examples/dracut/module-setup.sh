#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# For /usr/lib/dracut/modules.d/90noiommufd/, beside ../initramfs/script as
# noiommufd.sh: dracut binds devices before its udev starts.
check() { return 0; }

depends() { return 0; }

installkernel() { hostonly='' instmods noiommu-vfio-pci; }

# shellcheck disable=SC2154 # dracut sets it
install() { inst_hook pre-udev 00 "$moddir/noiommufd.sh"; }
