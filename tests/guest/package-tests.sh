# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154,SC2034 # set by lib.sh, guest.sh
# Tests of the package in a throw-away copy of a role's root file system.

dkms_installed()
{
	local status
	status=$(in_root dkms status -m noiommufd -k "$1" 2>&1)
	[[ $status == *": installed"* ]] || {
		say "dkms status says '$status'"
		return 1
	}
}

modules_updated()
{
	local m path
	for m in noiommufd noiommu-vfio-pci; do
		path=$(in_root modinfo -k "$1" -n "$m") || return 1
		[[ $path == */updates/dkms/$m.ko* ]] || {
			say "$m is at $path"
			return 1
		}
	done
}

# Modules, DKMS's directory and the package have one version.
one_version()
{
	local m version
	version=$(in_root dpkg-query -W -f '${Version}' noiommufd-dkms)
	[ -d "$copy/usr/src/noiommufd-$version" ] || {
		say "the package is of version $version, and its source in $(cd "$copy/usr/src" && echo noiommufd-*)"
		return 1
	}
	for m in noiommufd noiommu-vfio-pci; do
		[ "$(in_root modinfo -k "$1" -F version "$m")" = "$version" ] || {
			say "the package is of version $version, and $m of '$(in_root modinfo -k "$1" -F version "$m")'"
			return 1
		}
	done
}

files_shipped()
{
	local f
	for f in etc/modprobe.d/noiommufd.conf usr/include/noiommufd/iommufd.h; do
		[ -e "$copy/$f" ] || {
			say "/$f is not there"
			return 1
		}
	done
	grep -qx 'options noiommu-vfio-pci enable_unsafe_noiommu_mode=0' "$copy/etc/modprobe.d/noiommufd.conf" || {
		say "/etc/modprobe.d/noiommufd.conf does not turn the unsafe mode off"
		return 1
	}
}

# no_warnings KVER: the log that dkms kept of the build for that kernel, W=1.
no_warnings()
{
	local log
	log=$(find "$copy/var/lib/dkms/noiommufd" -path "*/$1/*" -name make.log)
	[ -n "$log" ] || {
		say "dkms kept no make.log"
		return 1
	}
	log_no_warnings "$log"
}

# What cpu_time left in file $1.
took() { awk '{ print $1 + $2 }' "$1"; }

# What takes both processors FIXED_TIME seconds on the machine that the limits are
# for. Another may be slower, and all take longer over everything where they
# share their cores with others.
FIXED_TIME=1.6
fixed_work()
{
	local file i
	for file in nvme noiommu; do
		for i in 1 2 3 4 5; do
			gcc -O2 -I"$TOP/src/uapi" -I"$TOP/examples" -c -o /dev/null "$TOP/examples/$file.c"
		done &
	done
	wait
}

# took_at_most SECONDS FILE: so long by the clock; or it would have been, had the
# machine nothing else to do: of its two processors, 1.5 are at work then.
took_at_most()
{
	local s
	s=$(took "$2")
	! awk -v limit="$1" '{ exit !($3 > 0 && $3 <= limit) }' "$2" || return 0
	cpu_time "$RUN/fixed-time" fixed_work
	awk -v s="$s" -v limit="$1" -v slow="$(took "$RUN/fixed-time")" -v normal=$FIXED_TIME '
		BEGIN { exit !(s > 0 && s <= 1.5 * limit * (slow > normal ? slow / normal : 1)) }' || {
		say "it took ${s:-unknown} s of processor time, which is more than $1 s of one and a half, where fixed work takes $(took "$RUN/fixed-time") s and not $FIXED_TIME"
		return 1
	}
}

# The probes of the package for kernel $1.
probes_quick()
{
	# shellcheck disable=SC2016 # for the inner shell
	cpu_time "$RUN/probe-time" in_root sh -c 'mkdir /tmp/probes && cp -r /usr/src/noiommufd-*/compat /tmp/probes/ &&
		bash /tmp/probes/compat/run-probes "$1" /tmp/probes' sh "/lib/modules/$1/build" > /dev/null 2>&1 || {
		say "the probes fail"
		return 1
	}
	took_at_most 10 "$RUN/probe-time"
}

# After probes_quick: a probe that fails for another reason than its fact stops
# them and is named. It also spoils the one file of all, so that each of the others
# was asked alone: the answers are those that they gave together.
probes_alone()
{
	local dir=$copy/tmp/probes/compat said f answer
	[ -s "$dir/probe/together" ] || {
		say "the probes were not asked together"
		return 1
	}
	say '#include <linux/no_such_header.h>' > "$dir/probe/spoiled.c"
	if said=$(in_root bash /tmp/probes/compat/run-probes "/lib/modules/$1/build" /tmp/probes 2>&1); then
		say "a probe without its header is not found out"
		return 1
	fi
	[[ $said == *"compat/probe/spoiled.c fails for another reason than its fact"* ]] || {
		say "it said: $(tail -n 1 <<< "$said")"
		return 1
	}
	[ -e "$dir/probe/together" ] && [ ! -s "$dir/probe/together" ] || {
		say "the probes were not asked alone"
		return 1
	}
	for f in "$dir"/probe/*.fact; do
		f=${f##*/} f=${f%.fact} answer=no
		[ "$f" != spoiled ] || continue
		! grep -q "^#define HAVE_${f^^} " "$dir/generated/features.h" || answer=yes
		[ "$(< "$dir/probe/$f.fact")" = $answer ] || {
			say "$f: $answer with the others, $(< "$dir/probe/$f.fact") alone"
			return 1
		}
	done
}

# probes_as_recorded ROLE: the answers are those in tests/compat/expected.
probes_as_recorded()
{
	local file=tests/compat/expected/${1%%-*} found
	[ -e "$TOP/$file" ] || {
		say "none are recorded for role $1"
		return "$SKIP"
	}
	found=$(cd "$copy/tmp/probes/compat/probe" && grep . ./*.fact |
		sed 's|^\./\(.*\)\.fact:| \1 |; s/^ //' | LC_ALL=C sort | diff "$TOP/$file" -) || {
		say "$(grep '^[<>]' <<< "$found" | paste -sd' '): if that is right, record it in $file"
		return 1
	}
}

# A name that is misspelt where the fact holds is not taken for its answer: no
# control compiles there. Where the fact does not hold, each does.
probes_misspelt()
{
	local dir=$copy/tmp/misspelt/compat f want found
	mkdir "$copy/tmp/misspelt"
	cp -r "$TOP/compat" "$copy/tmp/misspelt/"
	sed -i 's/^#endif$/int misspelt = no_such_name;\n&/' "$dir"/probe/*.c
	! in_root bash /tmp/misspelt/compat/run-probes "/lib/modules/$1/build" /tmp/misspelt > /dev/null 2>&1 || {
		say "run-probes does not stop"
		return 1
	}
	for f in "$dir"/probe/*.c; do
		f=${f##*/} f=${f%.c} want=no
		! grep -q "^#define HAVE_${f^^} " "$copy/tmp/probes/compat/generated/features.h" || want=broken
		found=$(< "$dir/probe/$f.fact")
		[ "$found" = $want ] || {
			say "compat/probe/$f.c with a misspelt name says $found, not $want"
			return 1
		}
	done
}

# The read path of the module for kernel $1 takes no lock.
read_path_unlocked()
{
	local path cat=cat
	path=$(in_root modinfo -k "$1" -n noiommufd) || return 1
	case $path in
	*.xz) cat=xzcat ;;
	*.zst) cat=zstdcat ;;
	esac
	$cat "$copy$path" > "$RUN/noiommufd.ko" && "$GUEST/locked-instructions.sh" "$RUN/noiommufd.ko"
}

lintian_clean()
{
	local said
	said=$(lintian --fail-on error,warning "$DEB" 2>&1) || {
		say "$(grep '^[EW]: noiommufd' <<< "$said" | head -n 1)"
		return 1
	}
}

# kernel_debs ROLE PREFIX: downloads the packages of its kernel whose names begin
# so and that the copy lacks; sets debs, their directory in the cache, and kver.
kernel_debs()
{
	local kpkg kdeb conf suites image headers use name names=()
	kernel_resolve "$1"
	while read -r name; do
		[ "$(in_root dpkg-query -W -f '${db:Status-Status}' "$name" 2> /dev/null)" = installed ] ||
			names+=("$name")
	done < <(APT_CONFIG=$conf apt-cache depends --recurse --important --no-pre-depends \
		"$kpkg" "linux-headers-$kver" | grep -E "^$2" | grep -v -e '-unsigned$' | sort -u)
	debs=debs-$1_${kdeb}_$(recipe_hash debs_make "${names[*]} $MIRROR")
	cached "$debs" debs_make "$conf" "${names[@]}" || return
	debs=$CACHE/$debs
}

# A kernel of role $1 that is installed when the package is there already. Leaves
# in RUN/second what uname -r says on it.
second_kernel()
{
	local debs kver
	kernel_debs "$1" linux- || return
	mkdir -p "$copy/tmp/second"
	mount --bind "$debs" "$copy/tmp/second"
	in_root env KBUILD_EXTRA_WARN=1 sh -c 'apt-get install -y /tmp/second/*.deb' > "$LOGS/$1-install.log" 2>&1 || {
		say "apt could not install kernel $kver: see $LOGS/$1-install.log"
		return 1
	}
	umount "$copy/tmp/second"
	dkms_installed "$kver" && modules_updated "$kver" && no_warnings "$kver" || return
	say "$kver" > "$RUN/second"
}

# This tree in the copy, as /tmp/source.
source_copy()
{
	mkdir -p "$copy/tmp/source"
	tar -C "$TOP" --exclude=./build --exclude=./.git -cf - . | tar -C "$copy/tmp/source" -xf -
}

# The headers of a role that is not for us, unpacked beside the others.
headers_unpack()
{
	local debs kver d
	kernel_debs "$1" 'linux-(headers|kbuild)' || return
	for d in "$debs"/*.deb; do
		dpkg-deb --fsys-tarfile "$d" | tar -C "$copy" -x --keep-directory-symlink
	done
	mkdir -p "$copy/lib/modules/$kver"
	ln -sfn "/usr/src/linux-headers-$kver" "$copy/lib/modules/$kver/build"
	say "$kver"
}

# dkms_skips KVER REASON: DKMS leaves that kernel alone, and says why in one line.
dkms_skips()
{
	local said status=0 version
	version=$(in_root dkms status -m noiommufd | sed -n 's|^noiommufd/\([^,:]*\).*|\1|p' | head -n 1)
	said=$(in_root dkms build -m noiommufd -v "$version" -k "$1" 2>&1) || status=$?
	[ "$status" = 77 ] || {
		say "dkms build -k $1 ended with $status: $(tail -n 1 <<< "$said")"
		return 1
	}
	[ "$(grep "^noiommufd: " <<< "$said" | grep -c "not built for $1: .*$2")" = 1 ] || {
		say "dkms does not say once that $2: $(paste -sd' ' <<< "$said")"
		return 1
	}
	autoinstall_skips "$1"
}

# dkms 2.8, 3.0 and newest, by the suites that have them. None for the copy's own.
DKMS=('' bullseye sid)

# dkms_of SUITE: puts the dkms of that suite into the copy.
dkms_of()
{
	local conf version debs
	[ -n "$1" ] || return 0
	conf=$(index "$1") || return
	version=$(APT_CONFIG=$conf apt-cache show --no-all-versions dkms | sed -n 's/^Version: //p')
	debs=debs-dkms-$1_${version}_$(recipe_hash debs_make "$MIRROR")
	cached "$debs" debs_make "$conf" dkms || return
	dpkg-deb --fsys-tarfile "$CACHE/$debs"/*.deb | tar -C "$copy" -x --keep-directory-symlink
}

# autoinstall_skips KVER: it is not asked to build for that kernel, however dkms
# is told which it is.
autoinstall_skips()
{
	local options said
	for options in "autoinstall -k $1" "autoinstall --kernelver $1" "autoinstall --kernelver=$1" \
		"autoinstall -k $1/x86_64" "autoinstall -a x86_64 --kernelver=$1" "-k $1 autoinstall" \
		"--kernelver=$1/x86_64 autoinstall"; do
		# shellcheck disable=SC2086 # words
		said=$(in_root dkms $options 2>&1) && ! grep -q 'exclusive\|Error' <<< "$said" &&
			grep -q "not built for $1: " <<< "$said" || {
			say "dkms $options: $(paste -sd' ' <<< "$said")"
			return 1
		}
	done
}

# every_autoinstall_skips KVER: by each dkms.
every_autoinstall_skips()
{
	local suite
	cp -a "$copy/usr/sbin/dkms" "$copy/tmp/dkms"
	for suite in "${DKMS[@]}"; do
		dkms_of "$suite" && autoinstall_skips "$1" || return
		cp -a "$copy/tmp/dkms" "$copy/usr/sbin/dkms"
	done
}

# direct_build_stops KVER REASON: make modules against it stops with one #error.
direct_build_stops()
{
	local said
	source_copy
	if said=$(in_root make -C /tmp/source modules KDIR="/lib/modules/$1/build" 2>&1); then
		say "it built against $1"
		return 1
	fi
	[[ $(grep -c 'error:' <<< "$said") = 1 && $said == *"error: #error"*$2* ]] || {
		say "it said: $(grep -E 'rror' <<< "$said" | head -n 3 | paste -sd'|')"
		return 1
	}
}

old_kernel()
{
	local said
	if ! said=$(headers_unpack "$1" 2>&1); then
		not_ok "package.$1_headers" "$(tail -n 1 <<< "$said")"
		return
	fi
	said=$(tail -n 1 <<< "$said")
	try "package.$1_skipped_by_dkms" dkms_skips "$said" "it has no vfio-pci-core"
	try "package.$1_direct_build_stops" direct_build_stops "$said" VFIO_PCI_CORE
	rm -rf "${copy:?}/lib/modules/$said"
}

native_built()
{
	source_copy
	in_root make -C /tmp/source modules NATIVE=1 OUT=/tmp/native KDIR="/lib/modules/$1/build" \
		> "$LOGS/native.log" 2>&1 && [ -e "$copy/tmp/native/noiommu-vfio-pci.ko" ] || {
		say "with NATIVE=1 it does not build: see $LOGS/native.log"
		return 1
	}
}

# A kernel that offers the noiommu cdev itself: this one, were it so configured.
native_kernel()
{
	local name=$kver-native headers=$copy/usr/src/linux-headers-$kver
	cp -a "$headers" "$headers-native"
	sed -i "s|^KBUILD_OUTPUT=.*|&-native|" "$headers-native/Makefile"
	say CONFIG_IOMMUFD_NOIOMMU=y >> "$headers-native/.config"
	say '#define CONFIG_IOMMUFD_NOIOMMU 1' >> "$headers-native/include/generated/autoconf.h"
	mkdir "$copy/lib/modules/$name"
	ln -s "/usr/src/linux-headers-$name" "$copy/lib/modules/$name/build"
	try package.native_skipped_by_dkms dkms_skips "$name" "it offers the noiommu cdev itself"
	try package.native_skipped_by_every_dkms every_autoinstall_skips "$name"
	try package.native_direct_build_stops direct_build_stops "$name" NATIVE=1
	try package.native_built_by_hand native_built "$name"
	rm -r "$headers-native" "$copy/lib/modules/$name"
}

nothing_left()
{
	local found
	found=$(find "$copy"/lib/modules "$copy"/var/lib/dkms "$copy"/usr/src "$copy"/etc \
		"$copy"/usr/include -name '*noiommu*' | head -n 1)
	[ -z "$found" ] || {
		say "${found#"$copy"} is left"
		return 1
	}
}

purged()
{
	in_root apt-get purge -y noiommufd-dkms > "$LOGS/$1-purge.log" 2>&1 || {
		say "apt could not purge the package: see $LOGS/$1-purge.log"
		return 1
	}
	nothing_left
}

# in_copy SAID COMMAND...: in the copy, with a log; SAID when it fails.
in_copy()
{
	local said=$1 log=$LOGS/packages.log
	shift
	in_root "$@" >> "$log" 2>&1 || {
		say "$said: see $log"
		return 1
	}
}

# Both RPMs, by the rpmbuild of the copy's distribution.
rpms_build()
{
	source_copy
	in_copy "apt could not install rpm" sh -c \
		'apt-get update && apt-get install -y --no-install-recommends rpm' &&
		in_copy "make rpm fails" make -C /tmp/source rpm &&
		in_copy "make rpm-kmod fails" make -C /tmp/source rpm-kmod KDIR="/lib/modules/$kver/build"
}

# same WHAT, got on standard input, and wanted as arguments.
same()
{
	local what=$1 diff
	shift
	diff=$(diff <(sort) <(printf '%s\n' "$@" | sort) | grep -m 1 '^[<>]') || true
	[ -z "$diff" ] || {
		say "$what: $diff"
		return 1
	}
}

# Manual pages are as the distribution's rpm has them, modules as the kernel's.
uncompressed() { sed 's/\.\(gz\|xz\|zst\)$//'; }

rpm_dkms_files()
{
	in_root sh -c 'rpm -qlp /tmp/source/build/noiommufd-dkms-*.rpm' |
		grep -vE '^/usr/(src/noiommufd-[^/]*|share/licenses/.*)/' | uncompressed |
		same "files of noiommufd-dkms" /etc/modprobe.d/noiommufd.conf /usr/include/noiommufd \
			/usr/include/noiommufd/{iommufd,noiommufd,vfio}.h /usr/sbin/noiommufd-run \
			/usr/share/man/man8/noiommufd-run.8 /usr/share/licenses/noiommufd-dkms-"$1" \
			"/usr/src/noiommufd-$1"
}

rpm_kmod_files()
{
	in_root sh -c "rpm -qlp /tmp/source/build/kmod-noiommufd-$kver-*.rpm" | grep -v /licenses/ | uncompressed |
		same "files of kmod-noiommufd" "/lib/modules/$kver/extra/noiommufd" \
			"/lib/modules/$kver/extra/noiommufd"/{noiommufd,noiommu-vfio-pci}.ko || return
	in_root sh -c 'rpm -qlp /tmp/source/build/noiommufd-common-*.rpm' | grep -v /licenses/ | uncompressed |
		same "files of noiommufd-common" /etc/modprobe.d/noiommufd.conf /usr/sbin/noiommufd-run \
			/usr/share/man/man8/noiommufd-run.8 || return
	in_root sh -c 'rpm -qp --scripts /tmp/source/build/kmod-noiommufd-*.rpm' |
		grep -v '^post' |
		same "scriptlets of kmod-noiommufd" "depmod -a $kver || :" "depmod -a $kver || :"
}

# Installed, the modules are there; erased, nothing is. $1: where, then packages.
rpm_installs()
{
	local where=$1 m path files
	shift
	files=("${@/#//tmp/source/build/}")
	in_copy "rpm could not install $*" sh -c "rpm -i --nodeps ${files[*]/%/-*.rpm}" || return
	for m in noiommufd noiommu-vfio-pci; do
		path=$(in_root modinfo -k "$kver" -n "$m" 2>&1)
		[[ $path == */$where/$m.ko* ]] || {
			say "after rpm -i $*, $m is at '$path'"
			return 1
		}
	done
	in_copy "rpm could not erase $*" rpm -e "$@" && nothing_left
}

# kmod_at VERSION KERNEL: the kmod package has put that version there.
kmod_at()
{
	local m said
	for m in noiommufd noiommu-vfio-pci; do
		said=$(in_root modinfo -F version "/lib/modules/$2/extra/noiommufd/$m.ko" 2>&1)
		[ "$said" = "$1" ] || {
			say "for kernel $2 there is $m of '$said', not of $1"
			return 1
		}
	done
}

# rpm_kmod VERSION KERNEL: the package for that kernel, with modules that are
# quickly built, is installed over what is there.
rpm_kmod()
{
	sed -i "1s/(.*)/($1)/" "$copy/tmp/kmod/debian/changelog"
	in_copy "make rpm-kmod fails" make -C /tmp/kmod rpm-kmod KDIR="/usr/src/linux-headers-$2" &&
		in_copy "rpm could not install it" sh -c \
			"rpm -U --nodeps --replacepkgs /tmp/kmod/build/noiommufd-common-$1-*.rpm /tmp/kmod/build/kmod-noiommufd-$2-$1-*.rpm" &&
		kmod_at "$1" "$2"
}

# The modules of one kernel do not take away those of another, and newer ones
# of a kernel replace the older.
rpm_kmods()
{
	local dir=$copy/tmp/kmod other=6.0-other headers=$copy/usr/src/linux-headers-6.0-other
	mkdir -p "$dir"
	tar -C "$TOP" --exclude=./build --exclude=./.git -cf - . | tar -C "$dir" -xf -
	cat > "$dir/Kbuild" <<-'EOF'
		obj-m := noiommufd.o noiommu-vfio-pci.o
		noiommufd-y := src/small.o
		noiommu-vfio-pci-y := src/small2.o
		ccflags-y := -DNOIOMMUFD_VERSION='"$(shell cat $(src)/VERSION)"'
	EOF
	printf '#include <linux/module.h>\nMODULE_VERSION(NOIOMMUFD_VERSION);\nMODULE_LICENSE("GPL");\n' |
		tee "$dir/src/small.c" > "$dir/src/small2.c"
	echo : > "$dir/compat/run-probes"
	cp -a "$copy/usr/src/linux-headers-$kver" "$headers"
	sed -i "s/\".*\"/\"$other\"/" "$headers/include/generated/utsrelease.h"
	sed -i "s/KERNELRELEASE = .*/KERNELRELEASE = $other/" "$headers/.kernelvariables"
	rpm_kmod 7.1 "$kver" && rpm_kmod 7.1 "$other" && kmod_at 7.1 "$kver" &&
		rpm_kmod 7.2~git5.abc "$kver" && kmod_at 7.1 "$other" || return
	in_root rpm -q --requires "kmod-noiommufd-$other" | grep -qx "kernel-uname-r = $other" || {
		say "the package for $other does not want that kernel"
		return 1
	}
	in_copy "rpm could not erase them" rpm -e "kmod-noiommufd-$kver" "kmod-noiommufd-$other" noiommufd-common || return
	rm -rf "$headers" "${copy:?}/lib/modules/$other"
	nothing_left
}

rpm_tests()
{
	local version
	version=$(make -s --no-print-directory -C "$RUN/source" version)
	wanted rpm.build || wanted rpm.dkms_files || wanted rpm.kmod_files || wanted rpm.dkms_installs ||
		wanted rpm.kmod_installs || wanted rpm.kmods_of_two_kernels || return 0
	matched=yes
	# With TESTS, package.purge may have been left out.
	in_root apt-get purge -y noiommufd-dkms > "$LOGS/rpm-purge.log" 2>&1 || true
	step rpm.build rpms_build
	try rpm.dkms_files rpm_dkms_files "$version"
	try rpm.kmod_files rpm_kmod_files
	try rpm.kmod_installs rpm_installs extra/noiommufd "kmod-noiommufd-$kver" noiommufd-common
	try rpm.dkms_installs rpm_installs updates/dkms noiommufd-dkms
	try rpm.kmods_of_two_kernels rpm_kmods
}

# small_source VERSION: as /tmp/small/VERSION in the copy, this tree with modules
# that take no time: nothing but a version, as modinfo has it.
small_source()
{
	local dir=$copy/tmp/small/$1
	mkdir -p "$dir"
	tar -C "$TOP" --exclude=./build --exclude=./.git -cf - . | tar -C "$dir" -xf -
	sed -i "1s/(.*)/($1)/" "$dir/debian/changelog"
	sed -i 's|^MAKE\[0\]=.*|MAKE[0]="sh src/small"|' "$dir/dkms.conf"
	cat > "$dir/src/small" <<-'EOF'
		version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' dkms.conf)
		mkdir -p build/dkms
		for m in noiommufd noiommu-vfio-pci; do
			printf '.section .modinfo,"a"\n.asciz "version=%s"\n' "$version" | as -o build/dkms/$m.ko - || exit
		done
	EOF
}

# found VERSION WHAT: of that version are the modules that the kernel finds.
found()
{
	local m said
	for m in noiommufd noiommu-vfio-pci; do
		said=$(in_root modinfo -k "$kver" -F version "$m" 2>&1)
		[ "$said" = "$1" ] || {
			say "dkms $(in_root dkms --version): after $2 of $1, $m is of '$said'"
			return 1
		}
	done
}

# by_hand VERSION, by_deb VERSION, by_rpm VERSION: that one is installed so, over what is there.
by_hand()
{
	in_copy "make dkms-install of $1 fails" make -C "/tmp/small/$1" dkms-install && found "$1" "make dkms-install"
}

by_deb()
{
	in_copy "the deb of $1 cannot be installed" sh -c "apt-get install -y --allow-downgrades /tmp/small/$1/build/*.deb" &&
		found "$1" "apt-get install"
}

by_rpm()
{
	in_copy "the rpm of $1 cannot be installed" sh -c "rpm -U --nodeps --oldpackage --replacepkgs /tmp/small/$1/build/noiommufd-dkms-*.rpm" &&
		found "$1" "rpm -U"
}

# Modules of others that kernels find first are said to be in the way. (dkms 3.2
# puts them aside.)
in_the_way()
{
	local other=/lib/modules/$kver/updates/noiommufd.ko
	by_hand 7.1 && in_root cp /tmp/small/7.1/README.md "$other" && in_root depmod "$kver" || return
	! in_root make -C /tmp/small/7.2 dkms-install > "$RUN/said" 2>&1 &&
		grep -q "^noiommufd: kernel $kver finds $other, and not" "$RUN/said" || {
		say "with modules of others there, make dkms-install ended with '$(tail -n 1 "$RUN/said")'"
		return 1
	}
	rm "$copy$other"
	in_copy "make dkms-remove fails" make -C /tmp/small/7.2 dkms-remove && nothing_left
}

# The versions of dkms_upgrades, as packages. 7.2~git5.abc is older than 7.2, but
# newer in the eyes of dkms.
small_packages()
{
	local v
	in_root apt-get purge -y noiommufd-dkms > "$LOGS/packages.log" 2>&1 || true
	in_copy "apt could not install rpm" sh -c \
		'apt-get update && apt-get install -y --no-install-recommends rpm' || return
	for v in 7.1 7.2~git5.abc 7.2; do
		small_source "$v"
		make -C "$copy/tmp/small/$v" deb >> "$LOGS/packages.log" 2>&1 < /dev/null || {
			say "make deb fails: see $LOGS/packages.log"
			return 1
		}
		in_copy "make rpm fails" make -C "/tmp/small/$v" rpm || return
	done
}

# One version over another, up and down, in each way, by the dkms of that suite.
dkms_upgrades()
{
	local suite=$1
	dkms_of "$suite" || return
	# By hand, and the package over that.
	by_hand 7.2~git5.abc && by_hand 7.2 && by_hand 7.1 &&
		in_copy "dkms uninstall fails" dkms uninstall -m noiommufd -v 7.1 -k "$kver" &&
		in_copy "dkms autoinstall fails" dkms autoinstall --kernelver="$kver/x86_64" &&
		found 7.1 "dkms autoinstall" &&
		by_deb 7.2~git5.abc && by_deb 7.2 && by_deb 7.1 || return
	! in_root make -C /tmp/small/7.2 dkms-install >> "$LOGS/packages.log" 2>&1 || {
		say "make dkms-install puts a second one beside the package"
		return 1
	}
	in_copy "apt could not purge the package" apt-get purge -y noiommufd-dkms &&
		in_copy "make dkms-remove fails" make -C /tmp/small/7.2 dkms-remove && nothing_left || return
	# As on Fedora, where DKMS has another directory.
	cp -a "$copy/etc/os-release" "$RUN/os-release.$suite"
	rm "$copy/etc/os-release"
	echo ID=fedora > "$copy/etc/os-release"
	by_rpm 7.2~git5.abc && by_rpm 7.2 && by_rpm 7.2 && by_rpm 7.1 &&
		in_copy "rpm could not erase the package" rpm -e noiommufd-dkms && nothing_left || return
	rm "$copy/etc/os-release"
	cp -a "$RUN/os-release.$suite" "$copy/etc/os-release"
}

# image_has VERSION: of that version is the driver in the initramfs.
image_has()
{
	local dir=$copy/tmp/initramfs said
	rm -rf "$dir"
	in_root unmkinitramfs "/boot/initrd.img-$kver" /tmp/initramfs
	said=$(modinfo -F version "$(find "$dir" -name 'noiommu-vfio-pci.ko*')" 2>&1)
	[ "$said" = "$1" ] || {
		say "with version $1 installed, the initramfs has '$said'"
		return 1
	}
}

# Who takes the modules into the initramfs gets those of the upgrade there, too.
initramfs_follows()
{
	local etc=$copy/etc/initramfs-tools
	install -m 755 "$TOP/examples/initramfs/hook" "$etc/hooks/noiommufd"
	printf 'MODULES=list\nCOMPRESS=gzip\n' > "$etc/conf.d/noiommufd"
	in_copy "there is no initramfs" update-initramfs -c -k "$kver" &&
		by_deb 7.1 && image_has 7.1 && by_deb 7.2 && image_has 7.2 &&
		in_copy "apt could not purge the package" apt-get purge -y noiommufd-dkms || return
	rm "$etc/hooks/noiommufd" "$etc/conf.d/noiommufd" "$copy/boot/initrd.img-$kver"
}

# One version over another, by each dkms.
upgrade_tests()
{
	wanted dkms.packages || wanted dkms.initramfs_follows || wanted dkms.in_the_way ||
		wanted dkms.upgrades_by_3.0 || wanted dkms.upgrades_by_2.8 || wanted dkms.upgrades_by_newest || return 0
	matched=yes
	step dkms.packages small_packages
	try dkms.initramfs_follows initramfs_follows
	try dkms.upgrades_by_3.0 dkms_upgrades ''
	try dkms.in_the_way in_the_way
	try dkms.upgrades_by_2.8 dkms_upgrades bullseye
	try dkms.upgrades_by_newest dkms_upgrades sid
}

# A read-only source tree with a blank in its path, built by an ordinary user, and
# as if the make of a kernel called it; with sparse, for the test after this one.
readonly_tree()
{
	local dir="$copy/tmp/read only" log=$LOGS/readonly.log
	cp "$(command -v sparse)" "$copy/usr/bin/"
	mkdir -p "$dir" "$copy/tmp/home"
	tar -C "$TOP" --exclude=./build --exclude=./.git -cf - . | tar -C "$dir" -xf -
	mount --bind "$dir" "$dir" && mount -o remount,bind,ro "$dir"
	chown 65534:65534 "$copy/tmp/home"
	in_root setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/tmp/home \
		sub_make_done=1 KBUILD_OUTPUT=/tmp/nothing make -C "/tmp/read only" modules KDIR="/lib/modules/$kver/build" W=1 C=2 > "$log" 2>&1 || {
		say "$(grep -m 1 -iE 'error|read-only|denied' "$log" || tail -n 1 "$log")"
		return 1
	}
	umount "$dir"
	[ -n "$(find "$copy/tmp/home" -name noiommu-vfio-pci.ko)" ] || {
		say "nothing was built below the user's ~/.cache"
		return 1
	}
}

# What sparse said in that build of our files. (It stumbles over a comparison in
# the kernel's own rbtree.h.)
sparse_clean()
{
	local said
	grep -q '^  CHECK ' "$LOGS/readonly.log" || {
		say "kbuild of $kver does not call this machine's sparse"
		return "$SKIP"
	}
	said=$(grep -E '^([^:]*/)?(src|compat)/[^:]*:[0-9:]+ (warning|error):' "$LOGS/readonly.log" | grep -v '/usr/src/') || return 0
	say "${said%%$'\n'*}"
	return 1
}

# prebuilt_install KEY: make modules_install in the copy, with that key.
prebuilt_install()
{
	in_root make -C /tmp/source modules_install OUT=/tmp/prebuilt KDIR="/lib/modules/$kver/build" \
		MODULE_SIG_KEY="$1" >> "$LOGS/prebuilt.log" 2>&1
}

# Modules for an image, without DKMS: signed with a key of ours, compressed as
# the kernel's own.
prebuilt_modules()
{
	local m said own
	source_copy
	{
		in_root dpkg --purge noiommufd-dkms &&
			in_root make -C /tmp/source modules OUT=/tmp/prebuilt KDIR="/lib/modules/$kver/build"
	} > "$LOGS/prebuilt.log" 2>&1 || {
		say "they cannot be built: see $LOGS/prebuilt.log"
		return 1
	}
	if prebuilt_install /tmp/no-key.pem; then
		say "they were installed without the key that they should be signed with"
		return 1
	fi
	nothing_left || return
	signing_key "$copy/tmp/key.pem" && prebuilt_install /tmp/key.pem || {
		say "they cannot be installed: see $LOGS/prebuilt.log"
		return 1
	}
	own=$(in_root modinfo -k "$kver" -n vfio-pci)
	for m in noiommufd noiommu-vfio-pci; do
		said=$(in_root modinfo -k "$kver" -n "$m")
		[[ $said == */updates/$m.ko${own##*.ko} ]] || {
			say "$m is '$said' beside $own"
			return 1
		}
		said=$(in_root modinfo -k "$kver" -F signer "$m")
		[ "$said" = "noiommufd test" ] || {
			say "$m is signed by '$said'"
			return 1
		}
	done
}

# An initramfs with them, by the examples, and with the driver that would have
# the device otherwise; and a small root file system.
early_images()
{
	local etc=$copy/etc/initramfs-tools
	install -m 755 "$TOP/examples/initramfs/hook" "$etc/hooks/noiommufd" &&
		install -D -m 755 "$TOP/examples/initramfs/script" "$etc/scripts/init-premount/noiommufd" &&
		printf 'MODULES=list\nCOMPRESS=gzip\n' > "$etc/conf.d/noiommufd" &&
		printf 'virtio_blk\next4\nnvme\n' >> "$etc/modules" &&
		in_root mkinitramfs -o /boot/initrd "$kver" &&
		guest_config '' '' "/nvme --device 0000:00:05.0 --mib 4 --seed 7" early &&
		rm -r "$RUN/image/lib/modules" && mkdir -p "$RUN/image"/{dev,proc,sys,run} &&
		truncate -s 64M "$RUN/root.img" &&
		mke2fs -q -t ext4 -d "$RUN/image" "$RUN/root.img"
}

# The device is bound before the root file system is mounted.
prebuilt_tests()
{
	local append_more='root=/dev/vda rw init=/init' qemu_more
	wanted package.prebuilt_modules || return 0
	matched=yes
	part "$role: modules for an image"
	step package.prebuilt_modules prebuilt_modules
	early_images > "$LOGS/initramfs.log" 2>&1 || {
		not_ok package.initramfs "see the end of $LOGS/initramfs.log"
		return
	}
	qemu_more=(-drive "file=$RUN/root.img,if=none,id=root,format=raw,cache=unsafe"
		-device "virtio-blk-pci,drive=root")
	pattern='' guest_boot "$role-early" "$copy/boot/initrd" early
}

package_tests()
{
	step package.install package_install "$1"
	try package.dkms_installed dkms_installed "$kver"
	try package.modules_in_updates modules_updated "$kver"
	try package.one_version one_version "$kver"
	try package.no_warnings no_warnings "$kver"
	try package.installed_in_30_s took_at_most 30 "$RUN/install-time"
	try package.probed_in_10_s probes_quick "$kver"
	try package.probes_as_recorded probes_as_recorded "$1"
	[ "$suite" = no ] || {
		try package.probes_misspelt probes_misspelt "$kver"
		try package.probes_alone probes_alone "$kver"
	}
	[ ! -s "$RUN/probe-time" ] ||
		say "  (processor time: installed in $(took "$RUN/install-time") s, probed in $(took "$RUN/probe-time") s; by the clock in $(cut -d' ' -f3 "$RUN/install-time") s and $(cut -d' ' -f3 "$RUN/probe-time") s)"
	try package.read_path_unlocked read_path_unlocked "$kver"
	try package.files files_shipped
}

# Kernels that our package builds for once they come: beside role $1, each booted
# for the few programs that meet most of what a kernel may have otherwise.
second_kernels()
{
	local r kver
	for r in $(roles_for "beside:$1"); do
		wanted "package.second_kernel_$r" || continue
		part "$r: beside $1"
		rm -f "$RUN/second"
		try "package.second_kernel_$r" second_kernel "$r"
		[ -e "$RUN/second" ] && [ "$suite" = yes ] || continue
		kver=$(< "$RUN/second")
		say "kernel $kver"
		# A part of that test, all of it.
		pattern='' guest_run "$r-smoke" "nodes bind pa"
	done
}

# Kernels that are not for us.
old_kernels()
{
	local r
	for r in $(roles_for headers); do
		old_kernel "$r"
	done
}
