# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154 # root, kver: set by root_cached (lib.sh)
# From a cached root file system to a booted guest: our package built and
# installed in a throw-away copy, an initramfs made of it, QEMU.
#
# Everything thrown away lives in RUN, a tmpfs in this run's mount namespace:
# it goes with the run however that ends.

RUN=$BUILD/run
LOGS=$BUILD/logs
DEB=$RUN/noiommufd-dkms.deb
ACCEL=${ACCEL:-tcg}
# What the guest may load, beside what these need.
MODULES=(noiommufd noiommu-vfio-pci vfio-pci nvme)

run_begin()
{
	[ "$ACCEL" != kvm ] || [ -w /dev/kvm ] ||
		die "ACCEL=kvm needs /dev/kvm: leave ACCEL out (slower, works everywhere)."
	mkdir -p "$RUN" "$LOGS"
	mount -t tmpfs -o size=75%,mode=755 tmpfs "$RUN"
}

# package_build: our Debian package from this tree, as a user would build it;
# it is DEB then.
package_build()
{
	local src=$RUN/source
	mkdir -p "$src"
	tar -C "$TOP" --exclude=./build --exclude=./.git -cf - . | tar -C "$src" -xf -
	make -C "$src" deb > "$LOGS/package.log" 2>&1 < /dev/null || {
		say "building the package failed: see $LOGS/package.log"
		return 1
	}
	cp "$src"/build/noiommufd-dkms_*.deb "$DEB"
}

# root_open ROLE: a throw-away copy of the role's root file system; sets copy.
root_open()
{
	local dir=$RUN/$1
	root_cached "$1"
	copy=$dir/root
	mkdir -p "$copy" "$dir/upper" "$dir/work"
	mount -t overlay -o "lowerdir=$root,upperdir=$dir/upper,workdir=$dir/work" overlay "$copy" ||
		die "no overlay could be mounted over $root: load the kernel's overlay module or use another machine."
	mount -t proc proc "$copy/proc"
	mount -t devpts -o newinstance,ptmxmode=666 devpts "$copy/dev/pts"
	ln -sf pts/ptmx "$copy/dev/ptmx"
}

root_close()
{
	# Lazily: what a package started may still sit there.
	umount -R -l "$copy"
	rm -rf --one-file-system "${copy%/root}"
}

in_root() { chroot "$copy" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive INITRD=No "$@" < /dev/null; }

# cpu_time FILE COMMAND...: leaves there how many seconds the command and its
# children ran on processors, which other work on this machine changes little;
# and how many it was by the clock.
cpu_time()
{
	local TIMEFORMAT='%U %S %R' file=$1
	shift
	{ time "$@" 2>&3; } 3>&2 2> "$file"
}

# package_install ROLE: apt installs the package, DKMS builds its modules, with
# the warnings of W=1. Leaves the time it took in RUN/install-time.
package_install()
{
	cp "$DEB" "$copy/tmp/"
	cpu_time "$RUN/install-time" in_root env KBUILD_EXTRA_WARN=1 apt-get install -y "/tmp/${DEB##*/}" \
		> "$LOGS/$1-install.log" 2>&1 || {
		say "apt could not install the package: see $LOGS/$1-install.log"
		return 1
	}
}

# example_build OUT: examples/nvme, for the guests and, for its pattern, the host.
example_build()
{
	gcc -O2 -g -Wall -Wextra -static -pthread -I"$TOP/src/uapi" -I"$TOP/examples" -o "$1" \
		"$TOP"/examples/{nvme,nvme_ctrl,noiommu}.c
}

# disks_make: the namespaces of the guest's two NVMe controllers, and what the
# expansion ROM of its network card holds: one image of 3 KiB, for EFI so that
# no BIOS runs it, then the letter R.
disks_make()
{
	rm -f "$RUN/disk" "$RUN/slow-disk"
	truncate -s 128M "$RUN/disk" "$RUN/slow-disk"
	{
		printf '\x55\xaa\x06' && head -c 21 /dev/zero && printf '\x1c\0\0\0'
		printf 'PCIR\xec\x10\x39\x81\0\0\x18\0\0\0\0\x02\x06\0\0\0\x03\x80\0\0'
		head -c 3020 /dev/zero | tr '\0' R
	} > "$RUN/rom"
}

# disk_holds_pattern EXAMPLE SEED BYTES
disk_holds_pattern()
{
	"$1" --pattern-only "$2" "$3" | cmp -n "$3" - "$RUN/disk"
}

# image_make IMAGE FILES: an initramfs from the role's root file system; FILES
# is a directory that is laid over it. Uncompressed: quickest to boot.
image_make()
{
	local image=$1 files=$2 dir=$RUN/image f m
	local lib=$copy/lib/modules/$kver
	rm -rf "$dir"
	mkdir -p "$dir"/{bin,sbin,etc,lib/modules/"$kver"}
	cp "$copy/bin/busybox" "$dir/bin/"
	cp "$copy/bin/kmod" "$dir/bin/"
	for f in modprobe insmod rmmod lsmod modinfo depmod; do
		ln -s ../bin/kmod "$dir/sbin/$f"
	done
	while read -r f; do
		mkdir -p "$dir/${f%/*}"
		cp -L "$copy/$f" "$dir/$f"
	done < <(in_root ldd /bin/kmod | grep -o '/[^ ]*')
	for f in etc/modprobe.d lib/modprobe.d; do
		[ ! -d "$copy/$f" ] || cp -rL "$copy/$f" "$dir/${f%/*}/"
	done
	for m in "${MODULES[@]}"; do
		in_root modprobe -S "$kver" -D "$m" || {
			say "the modules of kernel $kver do not hold '$m'" >&2
			return 1
		}
	done > "$RUN/modules" || return 1
	while read -r f; do
		mkdir -p "$dir/${f%/*}"
		cp "$copy/$f" "$dir/$f"
	done < <(sed -n 's/^insmod \([^ ]*\).*/\1/p' "$RUN/modules" | sort -u)
	cp "$lib"/modules.{order,builtin*} "$dir/lib/modules/$kver/"
	[ ! -e "$copy/boot/config-$kver" ] || cp "$copy/boot/config-$kver" "$dir/kernel.config"
	mkdir -p "$copy/tmp/image"
	mount --bind "$dir" "$copy/tmp/image"
	in_root depmod -b /tmp/image "$kver"
	umount "$copy/tmp/image"
	cp -a "$files/." "$dir/"
	install -m 755 "$GUEST/init" "$dir/init"
	(cd "$dir" && find . | cpio -o -H newc --quiet) > "$image"
}

# boot_once NAME LIMIT IMAGE: runs a guest for at most LIMIT seconds. What its
# programs print goes to standard output; LOGS/NAME.console is the kernel's log.
# Devices: an edu at 00:04.0, an NVMe at 00:05.0, another edu behind a bridge,
# at 00:07.0 an NVMe whose commands take seconds, and at 00:08.0 a network card
# with I/O ports, a BAR of less than a page and a ROM; no IOMMU. For resets, a
# card of two functions at 02:00 and two devices behind a conventional bridge,
# 03:01 and 03:02; an NVMe that can have virtual functions at 04:00.0; another
# card of two functions at 07:00, behind a switch that is behind a port at
# 00:0d.0; and for refusals a VGA at 00:0c.0. Slots are hot-plugged by PCIe's own means, and the
# guest's third serial port leads to QEMU's monitor. The caller may add devices
# (qemu_more) and kernel parameters (append_more), and have both processors
# emulated by one thread (tcg_thread=single).
# Status 75: QEMU itself is at fault, what it did is in RUN/fault; boot again.
qemu_more=() append_more='' tcg_thread=multi
boot_once()
{
	local name=$1 limit=$2 image=$3
	local monitor watch status=0
	monitor=noiommufd-$(< /proc/sys/kernel/random/uuid)
	local accel=(-accel "tcg,thread=$tcg_thread,tb-size=512" -cpu qemu64)
	[ "$ACCEL" = tcg ] || accel=(-accel "$ACCEL" -cpu host)
	"$GUEST/watch" "$monitor-watch" "$LOGS/$name.console" $((90 * ${slow:-1})) > "$RUN/fault" &
	watch=$!
	timeout --foreground --kill-after=5 "$limit" qemu-system-x86_64 \
		-machine q35 "${accel[@]}" "${qemu_more[@]}" -m 2G -smp 2 -nodefaults -no-user-config \
		-display none -no-reboot \
		-kernel "$copy/boot/vmlinuz-$kver" -initrd "$image" \
		-append "console=ttyS0 panic=-1 oops=panic mitigations=off nokaslr tsc=reliable random.trust_cpu=on printk.devkmsg=on no_timer_check $append_more" \
		-serial "file:$LOGS/$name.console" -serial stdio \
		-chardev "socket,id=port,abstract=on,path=$monitor,server=on,wait=off" -serial chardev:port \
		-chardev "socket,id=monitor,abstract=on,path=$monitor" -mon chardev=monitor,mode=control \
		-chardev "socket,id=watch,abstract=on,path=$monitor-watch,server=on,wait=off" -mon chardev=watch,mode=control \
		-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off \
		-device edu,bus=pcie.0,addr=4,dma_mask=0xffffffffffffffff \
		-drive "file=$RUN/disk,if=none,id=disk,format=raw,cache=unsafe" \
		-device nvme,bus=pcie.0,addr=5,drive=disk,serial=noiommufd-nvme \
		-device pcie-root-port,bus=pcie.0,id=rp,slot=2,chassis=2,addr=6 \
		-device edu,id=plugged,bus=rp,dma_mask=0xffffffffffffffff \
		-drive "file=$RUN/slow-disk,if=none,id=slow,format=raw,cache=unsafe,throttling.bps-total=1048576" \
		-device nvme,bus=pcie.0,addr=7,drive=slow,serial=noiommufd-slow \
		-netdev user,id=net,restrict=on \
		-device "rtl8139,bus=pcie.0,addr=8,netdev=net,mac=52:54:00:12:34:56,romfile=$RUN/rom" \
		-device pcie-root-port,bus=pcie.0,id=multi,slot=3,chassis=3,addr=9 \
		-device virtio-rng-pci,id=first,bus=multi,addr=0.0,multifunction=on,aer=on \
		-device virtio-rng-pci,bus=multi,addr=0.1,aer=on \
		-device pci-bridge,bus=pcie.0,id=bridge,chassis_nr=4,addr=0xa,shpc=off \
		-device virtio-rng-pci,bus=bridge,addr=1 \
		-device virtio-rng-pci,bus=bridge,addr=2 \
		-device pcie-root-port,bus=pcie.0,id=sriov,slot=5,chassis=5,addr=0xb \
		-device nvme-subsys,id=virtual \
		-device nvme,bus=sriov,subsys=virtual,serial=noiommufd-pf,sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2 \
		-device VGA,bus=pcie.0,addr=0xc \
		-device pcie-root-port,bus=pcie.0,id=above,slot=6,chassis=6,addr=0xd \
		-device x3130-upstream,bus=above,id=switch \
		-device xio3130-downstream,bus=switch,id=below,slot=7,chassis=7 \
		-device virtio-rng-pci,bus=below,addr=0.0,multifunction=on \
		-device virtio-rng-pci,bus=below,addr=0.1 \
		< /dev/null || status=$?
	# It looks every few seconds; what it had to say it has said.
	kill "$watch" 2> /dev/null || true
	wait "$watch" 2> /dev/null || true
	# Before 8.2 a processor may look a BAR up in a map that another just replaced.
	[ "$status" != $((128 + $(kill -l SEGV))) ] || say "it died of SIGSEGV" > "$RUN/fault"
	[ ! -s "$RUN/fault" ] || return 75
	return "$status"
}

# not_ours STATUS CONSOLE: says what a guest ended by, if that was no fault of ours.
not_ours()
{
	local trap
	# With a thread a processor, QEMU now and then runs an int3 that the kernel
	# has already replaced by the rest of the code that it patched.
	trap=$(tr -d '\r' < "$2" | awk '/int3: 0000 \[#1\]/ { trap = 1 } trap && /Code:/ { print; exit }')
	if [[ -n $trap && $trap != *' cc <'* ]]; then
		say "QEMU ran an int3 that was not there any more"
	# A kernel that panics or dies before it has a module of ours
	elif [ "$1" != 124 ] && ! grep -aq 'loading out-of-tree module' "$2"; then
		say "it did not start: $(tail -n 1 "$2" | tr -d '\r')"
	# Nothing of ours is called, and no program runs, while the machine sleeps.
	elif awk '/PM: suspend entry/ { asleep = 1 } /PM: suspend exit/ { asleep = 0 } END { exit !asleep }' "$2" &&
		! log_trouble "$2" > /dev/null; then
		say "it slept and did not wake up: $(tail -n 1 "$2" | tr -d '\r')"
	else
		return 1
	fi
}

# boot NAME LIMIT IMAGE [OUT]: boot_once, with its output in the file OUT, and
# again, twice at the most, if the guest ended by no fault of ours.
boot()
{
	local name=$1 out=${4-} console=$LOGS/$1.console try s
	for try in 1 2 3; do
		s=0
		if [ -n "$out" ]; then
			boot_once "$1" "$2" "$3" > "$out" || s=$?
		else
			boot_once "$1" "$2" "$3" || s=$?
		fi
		[ "$s" = 75 ] || not_ours "$s" "$console" > "$RUN/fault" || break
		[ "$try" -lt 3 ] || break
		mv "$console" "$console.fault$try"
		say "  boot $try ended by no fault of ours: $(paste -sd, "$RUN/fault"), see $console.fault$try"
		disks_make
	done
	return "$s"
}

# with_iommu: boot gives the guest an IOMMU, and behind root ports that it does
# not manage, and others that it does, devices of the same kinds.
with_iommu()
{
	local i
	append_more=intel_iommu=on
	qemu_more=(-device "intel-iommu,intremap=off"
		-device "pxb-pcie,id=free,bus_nr=32,bypass_iommu=on")
	for i in 1 2; do
		qemu_more+=(-device "pcie-root-port,bus=pcie.0,id=managed$i,slot=1$i,chassis=1$i")
	done
	for i in 1 2 3; do
		qemu_more+=(-device "pcie-root-port,bus=free,id=free$i,slot=2$i,chassis=2$i")
	done
	for i in managed1 free1; do
		qemu_more+=(-drive "driver=null-co,if=none,id=disk-$i,size=128M"
			-device "nvme,bus=$i,drive=disk-$i,serial=noiommufd-twin")
	done
	for i in managed2 free2; do
		qemu_more+=(-netdev "user,id=net-$i,restrict=on"
			-device "rtl8139,bus=$i,netdev=net-$i,mac=52:54:00:12:34:56,romfile=$RUN/rom")
	done
	qemu_more+=(-device "edu,bus=free3,dma_mask=0xffffffffffffffff")
}

# log_trouble CONSOLE: prints what is wrong in a kernel log, if anything, and what
# follows the first of it.
log_trouble()
{
	local found first
	found=$(tr -d '\r' < "$1" | grep -anE \
		'WARNING|BUG|Oops|Call Trace|INFO: (possible|suspicious|task|rcu)|possible (circular|recursive)|suspicious RCU|inconsistent lock|KASAN|KCSAN|UBSAN|KFENCE|kmemleak|unreferenced object|leaked|general protection|stack segment|unable to handle|Unable to handle|blocked for more than|soft lockup|hard LOCKUP|detected stall|refcount_t|corruption|Bad page|bad_page|use-after-free|Kernel panic|Out of memory|oom-kill' |
		grep -avEf <(grep -v -e '^#' -e '^$' "$GUEST/kernel-log.allow")) || return
	first=${found%%:*}
	sed 's/^[0-9]*://' <<< "$found" | head -n 20
	say "From the first on:"
	tr -d '\r' < "$1" | sed -n "$first,$((first + 40))p"
}
