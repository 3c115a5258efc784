# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2317 # copy, kver: for boot(); tree, version: set by tree_cached; cached calls debug_make by its name
# Kernels that are built and not packaged: role "debug", which looks for
# mistakes (debug.config, on the source of role 6.12), and any prepared build
# tree. With guest.sh and kunit/tree.sh.

# debug_make DIR TREE: a build directory that modules can be built against,
# with its bzImage where a build leaves it.
debug_make()
{
	local dir=$1 tree=$2 log=$BUILD/debug-kernel.log option
	mkdir "$dir"
	{
		make -s -C "$tree" O="$dir" tinyconfig &&
			"$tree/scripts/kconfig/merge_config.sh" -m -O "$dir" \
				"$dir/.config" "$GUEST/debug.config" &&
			make -s -C "$tree" O="$dir" olddefconfig
	} > "$log" 2>&1 < /dev/null || {
		say "this kernel cannot be configured: see $log" >&2
		return 1
	}
	while read -r option; do
		case $option in
		CONFIG_*=n) ! grep -q "^${option%n}" "$dir/.config" ;;
		CONFIG_*) grep -qx "$option" "$dir/.config" ;;
		esac || {
			say "this kernel has no $option: change tests/guest/debug.config" >&2
			return 1
		}
	done < "$GUEST/debug.config"
	make -s -j"$(nproc)" -C "$tree" O="$dir" bzImage modules >> "$log" 2>&1 < /dev/null || {
		say "this kernel cannot be built: see $log" >&2
		return 1
	}
	# Building and installing modules takes none of this.
	find "$dir" \( -path "$dir/scripts" -o -path "$dir/tools" \) -prune -o \
		\( -name '*.[oa]' -o -name 'vmlinux*' \) -type f -exec rm {} +
}

# debug_cached: sets kdir, image.
debug_cached()
{
	local name
	tree_cached 6.12
	name=kernel-debug_${version}_$(recipe_hash debug_make "$tree $(cat "$GUEST/debug.config")")
	if [ ! -e "$CACHE/$name" ]; then
		require_space 3000
		say "building a kernel of linux-source $version with tests/guest/debug.config (once; kept in $CACHE)"
	fi
	cached "$name" debug_make "$tree"
	tree_release
	kdir=$CACHE/$name image=$CACHE/$name/arch/x86/boot/bzImage
}

# tools/checks, with the kernel that was built and the source it was built of.
source_checks()
{
	local log=$LOGS/checks.log
	CHECKPATCH=$tree/scripts/checkpatch.pl "$TOP/tools/checks" "$kdir" > "$log" 2>&1 < /dev/null &&
		! grep -q '# SKIP' "$log" && return
	say "$(grep -E -m 1 -B 1 '^not ok|# SKIP' "$log" | paste -sd' '), see $log"
	return 1
}

# What the guest needs to start, our modules, and the tests.
OPTIONS=(MODULES BLK_DEV_INITRD BINFMT_ELF BINFMT_SCRIPT PROC_FS SYSFS DEVTMPFS TMPFS
	SERIAL_8250_CONSOLE PCI_MSI BLK_DEV_NVME VFIO_PCI_CORE VFIO_PCI UNIX EVENTFD
	MEMFD_CREATE USERFAULTFD HUGETLBFS TRANSPARENT_HUGEPAGE COMPACTION PROC_PAGE_MONITOR)

# image_version BZIMAGE: what uname -r says on it.
image_version()
{
	local at
	at=$(od -An -tu2 -j526 -N2 "$1") &&
		dd if="$1" bs=1 skip=$((at + 512)) count=128 status=none | tr '\0' '\n' | sed -n '1s/ .*//p'
}

# built_check KDIR IMAGE: can the suite be run on it? Sets kdir, image.
built_check()
{
	local said option missing=() config=$1/include/config/auto.conf
	said=$(make -s -C "$TOP" kdir-check KDIR="$(realpath -m "$1")" 2>&1) ||
		die "$(sed -n 's/^noiommufd: //p' <<< "$said")."
	kdir=$(realpath "$1") image=${2:-$kdir/arch/x86/boot/bzImage}
	grep -qx CONFIG_X86_64=y "$config" ||
		die "$kdir is of another architecture than x86_64, which the guests are: give the build tree of an x86_64 kernel."
	[ -e "$image" ] ||
		die "there is no kernel image $image: build it (make bzImage) or give IMAGE=<bzImage>."
	said=$(image_version "$image")
	[ "$said" = "$(cat "$kdir/include/config/kernel.release")" ] ||
		die "$image is of kernel '$said' and $kdir of '$(cat "$kdir/include/config/kernel.release")': give the image that was built there."
	for option in "${OPTIONS[@]}"; do
		grep -qx "CONFIG_$option=[ym]" "$config" || missing+=("CONFIG_$option")
	done
	[ ${#missing[@]} = 0 ] ||
		die "this kernel lacks ${missing[*]}, which the tests need: turn that on and build it again."
}

# built_open ROLE: this machine's system with the kernel of kdir and image in
# it; sets copy, kver.
built_open()
{
	local dir=$RUN/$1
	kver=$(cat "$kdir/include/config/kernel.release")
	copy=$dir/root
	mkdir -p "$copy" "$dir/upper" "$dir/work"
	mount -t overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" overlay "$copy" ||
		die "no overlay could be mounted over /: load the kernel's overlay module or use another machine."
	mount -t proc proc "$copy/proc"
	cp "$image" "$copy/boot/vmlinuz-$kver"
	[ ! -e "$kdir/.config" ] || cp "$kdir/.config" "$copy/boot/config-$kver"
	make -C "$kdir" modules_install INSTALL_MOD_PATH="$copy" INSTALL_MOD_STRIP=1 > "$LOGS/$1-kernel.log" 2>&1 < /dev/null ||
		die "the modules of this kernel cannot be installed: see $LOGS/$1-kernel.log."
}

# built_modules ROLE: our modules, built for that kernel and installed.
built_modules()
{
	local log=$LOGS/$1-modules.log
	make -C "$TOP" modules KDIR="$kdir" OUT="$RUN/$1/modules" W=1 > "$log" 2>&1 < /dev/null &&
		make -C "$TOP" modules_install KDIR="$kdir" OUT="$RUN/$1/modules" \
			INSTALL_MOD_PATH="$copy" >> "$log" 2>&1 < /dev/null || {
		say "the modules cannot be built for $kver: see $log"
		return 1
	}
	log_no_warnings "$log"
}

# refused_modules ROLE: for a guest that takes signed modules only, two that it
# must not take: without a signature, and signed with a key that it does not know.
refused_modules()
{
	local dir=$RUN/files/refused log=$LOGS/$1-refused.log
	mkdir -p "$dir"
	signing_key "$RUN/$1/key.pem" &&
		make -C "$TOP" modules_install KDIR="$kdir" OUT="$RUN/$1/modules" INSTALL_MOD_PATH="$RUN/$1/foreign" \
			MODULE_SIG_KEY="$RUN/$1/key.pem" > "$log" 2>&1 < /dev/null || {
		say "nothing could be signed: see $log"
		return 1
	}
	cp "$RUN/$1/modules/noiommufd.ko" "$dir/unsigned.ko" &&
		find "$RUN/$1/foreign" -name noiommufd.ko -exec cp {} "$dir/foreign.ko" \;
}

# in_tree: noiommufd as a part of the debug kernel, built in and as modules.
in_tree()
{
	local dir=$RUN/in-tree log=$LOGS/in-tree.log how=
	tree_cached 6.12
	"$KUNIT/link-into-tree" "$tree" || return
	cp -a "$kdir" "$dir" || return
	for how in y m; do
		{
			"$tree/scripts/config" --file "$dir/.config" \
				--set-val NOIOMMUFD $how --set-val NOIOMMU_VFIO_PCI $how &&
				make -s -C "$tree" O="$dir" olddefconfig &&
				make -s -j"$(nproc)" -C "$tree" O="$dir" W=1 drivers/noiommufd/
		} > "$log" 2>&1 < /dev/null || {
			say "with NOIOMMUFD=$how it cannot be built: see $log"
			return 1
		}
		log_no_warnings "$log" || return
		case $how in
		y) [ -n "$(nm "$dir/drivers/noiommufd/built-in.a" | grep -w noiommufd_ctx_from_fd)" ] ;;
		m) grep -qx drivers/noiommufd/noiommu-vfio-pci.o "$dir/drivers/noiommufd/modules.order" ;;
		esac || {
			say "with NOIOMMUFD=$how it is not in the kernel: see $dir"
			return 1
		}
	done
	# Beside an iommufd that is built in, ours cannot be: vmlinux would not link
	# (check-all: tests/guest/vmlinux).
	"$tree/scripts/config" --file "$dir/.config" --enable IOMMU_SUPPORT --enable IOMMUFD \
		--enable NOIOMMUFD --enable NOIOMMUFD_KUNIT_TEST
	make -s -C "$tree" O="$dir" olddefconfig > "$log" 2>&1 < /dev/null &&
		grep -qx CONFIG_IOMMUFD=y "$dir/.config" && ! grep -q '^CONFIG_NOIOMMUFD.*=y' "$dir/.config" &&
		grep -qx CONFIG_NOIOMMUFD=m "$dir/.config" || {
		say "beside iommufd there is $(grep '^CONFIG_.*IOMMUFD.*=' "$dir/.config" | paste -sd' ')"
		return 1
	}
}
