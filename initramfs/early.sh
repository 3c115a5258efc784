#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Gives devices to noiommu-vfio-pci in an initramfs, before udev loads the drivers of the kernel:
# those that were bound at each boot (noiommuctl bind --persist) when the initramfs was made. When
# the root file system is mounted and says otherwise, they are given back.
#
# initramfs-tools runs it at both times, dracut sources it. /etc/noiommufd.early has the devices that
# "early.sh list" printed; where it is missing there is nothing to do.
case ${1-} in prereqs) exit 0 ;; esac

noiommufd_unsafe='grep -qsE "^options noiommu.vfio.pci .*enable_unsafe_noiommu_mode=[1yY]" /etc/modprobe.d/*.conf'
noiommufd_list="! $noiommufd_unsafe ||"'
for file in $(grep -lsx noiommu-vfio-pci /etc/driverctl.d/pci-*); do echo "${file##*/pci-}"; done'
case ${1-} in list) exec sh -c "$noiommufd_list" ;; esac

noiommufd_log() { echo "<$1>noiommufd: $2" >/dev/kmsg; }

# Have a driver take a device, or if none is named, any driver.
noiommufd_give()
{
	[ ! -e "/sys/bus/pci/devices/$1/driver" ] || echo "$1" >"/sys/bus/pci/devices/$1/driver/unbind"
	echo "${2-}" >"/sys/bus/pci/devices/$1/driver_override"
	echo "$1" >/sys/bus/pci/drivers_probe
}

noiommufd_bind()
{
	here=/sys/bus/pci/devices/$1
	[ -e "$here" ] || { noiommufd_log 4 "there is no device $1"; return; }
	had=
	if [ -e "$here/driver" ]; then
		had=$(readlink "$here/driver")
		had=", which ${had##*/} had before"
	fi
	noiommufd_give "$1" noiommu-vfio-pci
	if [ -e "$noiommufd_driver/$1" ]; then
		noiommufd_log 5 "$1 is bound$had"
	else
		noiommufd_give "$1"
		noiommufd_log 4 "$1 could not be bound$had"
	fi
}

noiommufd_root=${NEWROOT:-${rootmnt:-/sysroot}}
noiommufd_driver=/sys/bus/pci/drivers/noiommu-vfio-pci
if [ ! -e /etc/noiommufd.early ]; then
	:
elif [ ! -e "$noiommufd_root/etc" ]; then
	# Without the module, the devices are better off with the drivers that they have.
	if said=$(modprobe noiommu-vfio-pci enable_unsafe_noiommu_mode=1 2>&1); then
		while read -r device; do
			noiommufd_bind "$device"
		done </etc/noiommufd.early
	else
		noiommufd_log 3 "no device is bound, because the module cannot be loaded: $said"
	fi
elif [ -e $noiommufd_driver ]; then
	# An initramfs may be older than what root has said since.
	if now=$(chroot "$noiommufd_root" sh -c "$noiommufd_list"); then
		chroot "$noiommufd_root" sh -c "$noiommufd_unsafe" ||
			echo 0 >/sys/module/noiommu_vfio_pci/parameters/enable_unsafe_noiommu_mode
		while read -r device; do
			case "
$now
" in *"
$device
"*) continue ;; esac
			[ -e "$noiommufd_driver/$device" ] || continue
			noiommufd_give "$device"
			noiommufd_log 5 "$device is given back, because it is no longer bound at each boot"
		done </etc/noiommufd.early
	else
		noiommufd_log 4 "the configuration in $noiommufd_root cannot be read, and the devices stay bound"
	fi
fi
