# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034 # variables set here for the other files
# What demo and check share: sentences for users, the checks before any work,
# and the cache of kernels and root file systems.
#
# An entry of the cache is made under a temporary name and renamed when it is
# complete, so an entry that exists is whole. Its name holds all it was made
# from: role, kernel version, and a hash of the recipe.

# Run by make, but no part of its job tree.
unset MAKEFLAGS MFLAGS MAKELEVEL

TOP=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
GUEST=$TOP/tests/guest
BUILD=$TOP/build
CACHE=${CACHE:-$BUILD/cache}
MIRROR=${MIRROR:-http://deb.debian.org/debian}
OS_RELEASE=${OS_RELEASE:-/etc/os-release}
# What an uncached role takes on disk, its download and a run included.
ROLE_MIB=${ROLE_MIB:-2000}
NEEDED=(build-essential busybox-static cpio debhelper debian-archive-keyring dh-dkms dpkg-dev gcc
	kmod libc6-dev make mmdebstrap python3 qemu-system-x86 xz-utils zstd)

say() { printf '%s\n' "$*"; }
die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# part NAME: says how long the part before took, and begins the next one.
PART='' PART_BEGAN=0
part()
{
	[ -z "$PART" ] || say "  ($PART: $((SECONDS - PART_BEGAN)) s)"
	PART=$1 PART_BEGAN=$SECONDS
	[ -z "$PART" ] || say "== $PART"
}

# --- the machine -------------------------------------------------------------

require_machine()
{
	local id
	id=$(sed -n 's/^ID=//p' "$OS_RELEASE" 2>/dev/null)
	[ "$id" = debian ] ||
		die "this machine runs '${id:-an unknown system}': run it on Debian 12 or later (a virtual machine will do)."
	[ "$(id -u)" = 0 ] ||
		die "it installs packages and makes root file systems: run it as root."
	[ "$(dpkg --print-architecture)" = amd64 ] ||
		die "the guests are amd64 machines: run it on an amd64 Debian."
}

# Mounts and processes live in namespaces of ours, so that neither outlives the
# run, however it ends.
enter_namespace()
{
	local opts=(--mount --propagation private --pid --fork --kill-child --mount-proc)
	if [ -n "${NOIOMMUFD_NAMESPACE-}" ]; then
		unset NOIOMMUFD_NAMESPACE
		return
	fi
	unshare "${opts[@]}" true 2>/dev/null ||
		die "it may not make a mount namespace here: run it on a real or virtual machine, or in a privileged container."
	# unshare lets no signal but KILL end it, and takes all in it along; it
	# gets one when this process is gone.
	NOIOMMUFD_NAMESPACE=1 setpriv --pdeathsig KILL unshare "${opts[@]}" "$0" "$@" &
	trap 'kill -KILL $!; exit 130' INT
	trap 'kill -KILL $!; exit 143' TERM HUP
	wait $! && exit || exit $?
}

# require_space MIB: on the file system that holds the cache.
require_space()
{
	local have
	mkdir -p "$CACHE" 2>/dev/null ||
		die "$CACHE cannot be written: make room there or set CACHE to a directory elsewhere."
	have=$(df -m --output=avail "$CACHE" | tail -n 1)
	[ "$have" -ge "$1" ] ||
		die "$CACHE has $((have)) MiB free and $1 MiB are needed: free some space or set CACHE to a directory elsewhere."
}

require_packages()
{
	local missing=() p
	for p in "${NEEDED[@]}"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] ||
			missing+=("$p")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	say "installing ${missing[*]}"
	mkdir -p "$BUILD"
	if ! {
		apt-get update &&
			DEBIAN_FRONTEND=noninteractive apt-get install -y \
				--no-install-recommends "${missing[@]}"
	} > "$BUILD/apt.log" 2>&1 < /dev/null; then
		die "apt could not install what is needed: check the network, the disk and /etc/apt, then run it again (log: $BUILD/apt.log)."
	fi
}

# --- kernels by role -----------------------------------------------------------

# role_row ROLE: sets suites, image, headers, use.
role_row()
{
	local role
	while read -r role suites image headers use; do
		[ "$role" = "$1" ] && return 0
	done < <(grep -v '^#' "$GUEST/kernels")
	return 1
}

roles_for() { awk -v use="$1" '!/^#/ && $5 == use { print $1 }' "$GUEST/kernels"; }
# All that can be booted.
roles_bootable() { awk '!/^#/ && $5 != "headers" { print $1 }' "$GUEST/kernels"; }

# guest_role ROLE MORE...: it is one of those that are booted, or one of MORE.
guest_role()
{
	local role=$1 roles
	shift
	roles="$(roles_bootable | paste -sd' ')${*:+ $*}"
	[[ " $roles " == *" $role "* && $role != *' '* ]] ||
		die "there is no guest kernel '$role': KERNEL is one of $roles."
}

# The proxies of this machine's apt, as apt options.
apt_proxies() { apt-config dump | grep -E '^Acquire::(http|https)::Proxy' || true; }

# The sources.list line of a suite; security updates have an archive of their own.
source_line()
{
	local url=$MIRROR
	[[ $1 != *-security ]] || url=$url-security
	say "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $url $1 main"
}

index_is_fresh() { [ -e "$1/fresh" ] && [ -n "$(find "$1/fresh" -mmin -720)" ]; }

# index SUITE: an apt configuration that sees this suite alone; prints its path.
# The lists are fetched again when they are older than half a day; without a
# network, older ones serve. To be called in a subshell, which has a lock then.
index()
{
	local suite=$1 dir=$CACHE/index/$1 conf=$CACHE/index/$1/apt.conf
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/etc/preferences.d"
	if ! index_is_fresh "$dir"; then
		exec 9> "$dir/lock"
		flock 9
	fi
	# Or another run has fetched them meanwhile.
	if index_is_fresh "$dir"; then
		say "$conf"
		return
	fi
	: > "$dir/status"
	source_line "$suite" > "$dir/etc/sources.list"
	# Mirrors that are snapshots keep Release files past their date; the
	# signature is checked all the same.
	{
		cat <<-EOF
		Dir::State "$dir";
		Dir::State::status "$dir/status";
		Dir::State::lists "$dir/lists";
		Dir::Cache "$dir/cache";
		Dir::Etc "$dir/etc";
		Dir::Etc::parts "$dir/etc";
		APT::Architecture "amd64";
		APT::Architectures { "amd64"; };
		APT::Sandbox::User "root";
		Dir::Cache::pkgcache "";
		Dir::Cache::srcpkgcache "";
		Acquire::GzipIndexes "true";
		Acquire::http::Timeout "20";
		Acquire::Languages "none";
		Acquire::Check-Valid-Until "false";
		EOF
		apt_proxies
	} > "$conf"
	if APT_CONFIG=$conf apt-get update --error-on=any > "$dir/log" 2>&1 < /dev/null; then
		touch "$dir/fresh"
	elif grep -q 'does not have a Release file' "$dir/log" ||
	     grep -q '404 *Not Found' "$dir/log"; then
		die "$MIRROR has no suite '$suite' any more: change its row in tests/guest/kernels."
	elif [ -e "$dir/fresh" ]; then
		say "$MIRROR cannot be reached: going on with the package lists of $(date -r "$dir/fresh" +%F)." >&2
	elif df -m --output=avail "$CACHE" | tail -n 1 | grep -qx ' *[0-9]\{1,2\}'; then
		die "no space is left in $CACHE: free some or set CACHE to a directory elsewhere."
	else
		die "$MIRROR cannot be reached: check the network (or set MIRROR to a Debian mirror that can be), then run it again."
	fi
	say "$conf"
}

# kernel_resolve ROLE: sets suites, image, headers, use by the table, and from
# the archive: conf, kver (what uname -r says), kpkg (its package), kdeb (the
# package's version).
kernel_resolve()
{
	local dep
	role_row "$1" || die "there is no kernel role '$1': tests/guest/kernels has $(roles_bootable | paste -sd' ')."
	conf=$(index "${suites##*,}") || exit 1
	dep=$(APT_CONFIG=$conf apt-cache show --no-all-versions "$image" 2>/dev/null |
		sed -n 's/^Depends:.* \(linux-image-[0-9][^ ]*\) (= \([^)]*\)).*/\1 \2/p') || true
	[ -n "$dep" ] ||
		die "the kernel of role $1 is gone: suite ${suites##*,} has no $image now; change its row in tests/guest/kernels or leave the role out."
	read -r kpkg kdeb <<< "$dep"
	kver=${kpkg#linux-image-}
}

# cached NAME MAKER ARGS...: the cache's entry NAME, made by "MAKER DIR ARGS..."
# if it is not there. What the maker leaves beside DIR goes. Older entries of
# the same role go once the new one stands. One maker at a time a role.
cached()
{
	local name=$1 maker=$2 role=${1%%_*} tmp
	shift 2
	[ ! -e "$CACHE/$name" ] || return 0
	(
		flock 9
		if [ ! -e "$CACHE/$name" ]; then
			rm -rf --one-file-system "$CACHE/tmp.$role".*
			tmp=$(mktemp -d "$CACHE/tmp.$role.XXXXXX")
			# EXIT covers set -e, die and signals alike.
			trap 'rm -rf --one-file-system "$tmp"' EXIT
			chmod 755 "$tmp"
			"$maker" "$tmp/entry" "$@" || exit 1
			sync -f "$tmp/entry"
			find "$CACHE" -mindepth 1 -maxdepth 1 -name "${role}_*" \
				-exec rm -rf --one-file-system {} +
			mv "$tmp/entry" "$CACHE/$name"
		fi
	) 9> "$CACHE/.lock-$role" || exit 1
}

recipe_hash() { { declare -f "$1"; say "$2"; } | sha256sum | cut -c1-8; }

# log_says_full LOG: apt, dpkg or tar found no room.
log_says_full() { grep -q 'No space left\|enough free space\|Wrote only' "$1"; }

# root_make DIR ROLE KPKG KVER SUITES: Debian with its stock kernel, the headers
# and dkms. No initrd: the guests bring their own.
root_make()
{
	local dir=$1 role=$2 kpkg=$3 kver=$4 suites=$5 log=$BUILD/root-$2.log s
	local sources=() proxies=() line
	for s in ${suites//,/ }; do
		sources+=("$(source_line "$s")")
	done
	while read -r line; do
		proxies+=(--aptopt="$line")
	done < <(apt_proxies)
	INITRD=No mmdebstrap --mode=root --variant=apt --format=directory \
		--aptopt='Acquire::Check-Valid-Until "false"' \
		--aptopt='Acquire::Languages "none"' \
		--aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='force-unsafe-io' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		"${proxies[@]}" \
		--include="$kpkg,linux-headers-$kver,dkms,kmod,busybox-static" \
		"${suites%%,*}" "$dir" "${sources[@]}" 2>&1 < /dev/null |
		tee "$log" |
		while read -r line; do
			case $line in
			*received*) ;;
			"I: "*ing*) say "  $role: ${line#I: } ($SECONDS s)" ;;
			esac
		done
	if [ "${PIPESTATUS[0]}" != 0 ]; then
		if log_says_full "$log"; then
			say "no space is left in $CACHE: free some or set CACHE to a directory elsewhere." >&2
		else
			say "making the root file system of role $role failed: see the end of $log, then run it again." >&2
		fi
		return 1
	fi
	if [ ! -e "$dir/boot/vmlinuz-$kver" ] || [ ! -e "$dir/usr/src/linux-headers-$kver/Makefile" ]; then
		say "the root file system of role $role came without kernel $kver or its headers: see $log." >&2
		return 1
	fi
}

# root_cached ROLE: sets root, kver and the rest of kernel_resolve.
root_cached()
{
	local name
	kernel_resolve "$1"
	name=root-$1_${kdeb}_$(recipe_hash root_make "$suites $kver $MIRROR")
	if [ ! -e "$CACHE/$name" ]; then
		require_space "$ROLE_MIB"
		say "preparing Debian '$suites' with kernel $kver (once; kept in $CACHE)"
	fi
	cached "$name" root_make "$1" "$kpkg" "$kver" "$suites"
	root=$CACHE/$name
}

# debs_make DIR CONF PACKAGES...: downloads packages.
debs_make()
{
	local dir=$1 conf=$2
	shift 2
	mkdir "$dir"
	(cd "$dir" && APT_CONFIG=$conf apt-get download "$@") > "$BUILD/download-$1.log" 2>&1 < /dev/null || {
		say "downloading $* failed: check the network, then run it again (log: $BUILD/download-$1.log)." >&2
		return 1
	}
}

# tree_make DIR CONF PACKAGE: unpacks a linux-source package, without what
# user-mode Linux, a small guest and our tests have no use for: most of a
# kernel's files. Kconfig files stay, since every configuration reads them all.
tree_make()
{
	local dir=$1 conf=$2 package=$3
	debs_make "$dir.debs" "$conf" "$package" || return 1
	mkdir "$dir"
	dpkg --fsys-tarfile "$dir.debs"/*.deb |
		tar -xO --wildcards './usr/src/linux-source-*.tar.xz' |
		xz -dcT0 |
		tar -x -C "$dir" --strip-components=1 --wildcards \
			--exclude='*/Documentation/*/*.rst' \
			--exclude='*/drivers/gpu/*.[ch]' \
			--exclude='*/drivers/net/*/*.c' \
			--exclude='*/drivers/net/wireless/*.h' \
			--exclude='*/drivers/media/*.[ch]' \
			--exclude='*/drivers/staging/*.[ch]' \
			--exclude='*/drivers/scsi/*.[ch]' \
			--exclude='*/sound/*.[ch]' \
			--exclude='*.dts' --exclude='*.dtsi' ||
		return 1
}

# log_no_warnings LOG: a build without a warning; the first one is said.
log_no_warnings()
{
	local found
	found=$(grep -aiE '\bwarning\b' "$1" | grep -v 'the compiler differs from the one' || true)
	[ -z "$found" ] || {
		say "${found%%$'\n'*}"
		return 1
	}
}

# signing_key FILE: a private key and its certificate, for modules.
signing_key()
{
	openssl req -new -x509 -newkey rsa:2048 -nodes -batch -subj '/CN=noiommufd test' \
		-keyout "$1" -out "$1" 2> /dev/null
}
