# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154 # variables set here for the other files; suites: set by role_row
# Kernel sources to build: one cached tree a role, of the distribution's
# linux-source package. With guest/lib.sh.

KUNIT=$TOP/tests/kunit
TREE_NEEDED=(bc bison build-essential debian-archive-keyring flex gcc kmod libc6-dev libelf-dev
	libssl-dev make openssl python3 xz-utils)
# A source tree, its packages while they are unpacked, and what is built of it.
TREE_MIB=4000

# tree_cached ROLE: sets tree, version. One run at a time has a tree, until it
# ends or says tree_release.
tree_cached()
{
	local package=
	role_row "$1" || die "there is no kernel role '$1': KERNEL is one of $(roles_bootable | paste -sd' ') guest."
	conf=$(index "${suites##*,}") || exit 1
	read -r package version < <(APT_CONFIG=$conf apt-cache show --no-all-versions linux-source 2>/dev/null |
		sed -n 's/^Depends:.*\(linux-source-[0-9.]*\) (= \([^)]*\)).*/\1 \2/p') || true
	# Security updates have the package, but not always the one that names it.
	if [ -z "$package" ]; then
		package=linux-source-$1
		version=$(APT_CONFIG=$conf apt-cache show --no-all-versions "$package" 2>/dev/null | sed -n 's/^Version: //p')
	fi
	[ -n "$version" ] || die "the source of role $1 is gone: suite ${suites##*,} has no $package now; change its row in tests/guest/kernels."
	tree=$CACHE/ksrc-$1_${version}_$(recipe_hash tree_make "$MIRROR")
	[ -e "$tree" ] || {
		require_space "$TREE_MIB"
		say "fetching $package $version (once; kept in $CACHE)"
	}
	(cached "${tree##*/}" tree_make "$conf" "$package") ||
		die "$package could not be fetched and unpacked in $CACHE: see to what was said before, or to space there, and run it again."
	exec 8> "$tree/.lock-noiommufd"
	flock -n 8 || {
		say "waiting for another run that uses $tree"
		flock 8
	}
}

tree_release() { exec 8>&-; }
