# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154,SC2317 # tree: for whoever sources this; conf: set by lib.sh; cached calls makers by name
# The reference kernel: Linux 7.3 with its own noiommu cdev, built from Debian's
# linux-source package, and its tree, to build modules for it.

BENCH=$TOP/tests/bench
KERNEL=7.3
# The source tree and what is built of it.
TREE_MIB=3500

# kernel_make DIR CONF PACKAGE FRAGMENT: the kernel, and enough of its tree to
# build modules for it and its selftests.
kernel_make()
{
	local dir=$1 fragment=$4 log=$BUILD/bench-kernel.log
	tree_make "$dir" "$2" "$3" || return 1
	{
		make -C "$dir" tinyconfig &&
			(cd "$dir" && scripts/kconfig/merge_config.sh -m .config "$fragment") &&
			make -C "$dir" olddefconfig &&
			grep -x CONFIG_IOMMUFD_NOIOMMU=y "$dir/.config" &&
			make -C "$dir" -j"$(nproc)" bzImage modules &&
			make -C "$dir" headers
	} > "$log" 2>&1 < /dev/null || {
		say "building the kernel failed: see $log." >&2
		return 1
	}
	find "$dir" -path "$dir/scripts" -prune -o -path "$dir/tools" -prune -o \
		-type f \( -name '*.[acoS]' -o -name '*.cmd' -o -name 'vmlinux*' \) \
		! -name 'vmlinux.lds*' -exec rm {} +
}

# kernel_cached: sets tree, source (the package's version).
kernel_cached()
{
	local suite name
	for suite in experimental sid; do
		conf=$(index "$suite") || exit 1
		source=$(APT_CONFIG=$conf apt-cache show --no-all-versions "linux-source-$KERNEL" 2>/dev/null |
			sed -n 's/^Version: //p')
		[ -z "$source" ] || break
	done
	name=$(find "$CACHE" -maxdepth 1 -name "bench-${KERNEL}_*" -printf '%f\n')
	if [ -n "$source" ]; then
		name=bench-${KERNEL}_${source}_$(recipe_hash kernel_make \
			"$(declare -f tree_make; cat "$BENCH/linux-$KERNEL-noiommu.config")")
	elif [ -n "$name" ]; then
		say "the archive has no linux-source-$KERNEL any more: going on with the one in $CACHE."
		source=${name#*_} source=${source%_*}
	else
		die "the archive has no linux-source-$KERNEL any more: there is nothing to compare with."
	fi
	if [ ! -e "$CACHE/$name" ]; then
		require_space "$TREE_MIB"
		say "building Linux $KERNEL from linux-source-$KERNEL $source (once, some ten minutes; kept in $CACHE)"
	fi
	cached "$name" kernel_make "$conf" "linux-source-$KERNEL" "$BENCH/linux-$KERNEL-noiommu.config"
	tree=$CACHE/$name
}
