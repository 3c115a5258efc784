# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154 # set by lib.sh, guest.sh
# Tests that need no guest: the source's rules, the README's example, the headers
# for programs, and what demo says on a machine where it cannot work.

# One sentence for the user: a single line, exit status not 0.
# one_sentence PATTERN COMMAND...
one_sentence()
{
	local want=$1 said
	shift
	if said=$("$@" 2>&1 > /dev/null < /dev/null); then
		say "it went on: $*"
		return 1
	fi
	[[ $(wc -l <<< "$said") = 1 && $said == *$want* ]] || {
		say "it said: $(tail -n 2 <<< "$said" | paste -sd'|')"
		return 1
	}
}

need_network()
{
	/usr/lib/apt/apt-helper download-file "$MIRROR/dists/sid/Release" "$RUN/Release" \
		> /dev/null 2>&1 && return
	say "$MIRROR cannot be reached"
	return "$SKIP"
}

# A copy of the scripts that any user can read; sets tree.
scripts_copy()
{
	tree=$(mktemp -d)
	mkdir "$tree/tests"
	cp -r "$GUEST" "$tree/tests/guest"
	cp "$TOP/Makefile" "$tree/"
	chmod -R a+rX "$tree"
}

# No entry of a cache, whole or half, is left in directory $1.
no_entries()
{
	local found
	found=$(find "$1" -maxdepth 1 -name 'root-*' -o -maxdepth 1 -name 'tmp.*')
	[ -z "$found" ] || {
		say "left in the cache: $found"
		return 1
	}
}

without_root() { one_sentence "run it as root" setpriv --reuid=65534 --regid=65534 --clear-groups "$tree/tests/guest/demo"; }

not_debian()
{
	printf 'ID=fedora\n' > "$RUN/os-release"
	OS_RELEASE=$RUN/os-release one_sentence "run it on Debian 12" "$tree/tests/guest/demo"
}

unknown_kernel() { one_sentence "KERNEL is one of" "$tree/tests/guest/demo" 2.4; }

without_network()
{
	CACHE=$RUN/empty one_sentence "check the network" unshare --net "$tree/tests/guest/demo" &&
		no_entries "$RUN/empty"
}

without_space()
{
	mkdir -p "$RUN/small"
	mount -t tmpfs -o size=64m tmpfs "$RUN/small"
	cp -r "$CACHE/index" "$RUN/small/" 2>/dev/null
	CACHE=$RUN/small one_sentence "free some space" "$tree/tests/guest/demo" &&
		no_entries "$RUN/small"
}

# Space that runs out half way.
space_runs_out()
{
	need_network || return
	mkdir -p "$RUN/medium"
	mount -t tmpfs -o size=200m tmpfs "$RUN/medium"
	cp -r "$CACHE/index" "$RUN/medium/"
	CACHE=$RUN/medium ROLE_MIB=1 one_sentence "no space is left" "$tree/tests/guest/demo" &&
		no_entries "$RUN/medium"
}

# A role whose kernel, or whose suite, the archive has no more.
kernel_gone()
{
	need_network || return
	sed -i 's/^6\.1 .*/6.1 sid linux-image-none linux-headers-none guest/' "$tree/tests/guest/kernels"
	CACHE=$RUN/gone one_sentence "role 6.1 is gone" "$tree/tests/guest/demo" || return
	sed -i 's/^6\.1 .*/6.1 none linux-image-amd64 linux-headers-amd64 guest/' "$tree/tests/guest/kernels"
	CACHE=$RUN/gone one_sentence "has no suite 'none'" "$tree/tests/guest/demo" || return
	cp "$GUEST/kernels" "$tree/tests/guest/"
}

# Killed while it makes an entry: the next run finds none, and starts afresh.
killed_half_way()
{
	local demo i
	need_network || return
	mkdir -p "$RUN/killed"
	CACHE=$RUN/killed setsid "$tree/tests/guest/demo" > /dev/null 2>&1 < /dev/null &
	demo=$!
	for ((i = 0; i < 300; i++)); do
		[ -z "$(find "$RUN/killed" -path '*/tmp.*/entry/usr' -prune -print -quit)" ] || break
		sleep 0.2
	done
	kill -KILL "$demo"
	wait "$demo" 2>/dev/null || true
	[ "$i" -lt 300 ] || {
		say "it never began to make the root file system"
		return 1
	}
	[ -z "$(find "$RUN/killed" -maxdepth 1 -name 'root-*')" ] || {
		say "a half-made entry has the name of a whole one"
		return 1
	}
}

# The judges themselves: what must count as a failure does.
# sums WANTED EXPECTED-PROGRAMS: a guest's output on standard input
sums()
{
	local got
	awk -v expect="$2" -v pattern="${3-}" -v counts="$RUN/counts" -f "$GUEST/sum.awk" > /dev/null
	got=$(< "$RUN/counts")
	[ "$got" = "$1" ] || {
		say "'$2' sums up to '$got', not '$1'"
		return 1
	}
}

frame() { printf '%s\n' "# suite: $1 start" "${@:3}" "# suite: $1 exit $2"; }

sum_of_tests()
{
	frame a 0 1..3 'ok 1 x' '# said' 'ok 2 y # SKIP no such device' 'ok 3 z' | sums "2 0 1" a &&
		frame a 1 1..2 'ok 1 x' 'not ok 2 y # why' | sums "1 1 0" a &&
		: a program that does not run, or is not expected &&
		frame a 0 1..1 'ok 1 x' | sums "1 1 0" "a b" &&
		frame a 0 1..1 'ok 1 x' | sums "0 2 0" b &&
		: one that dies, or takes the guest along &&
		frame a 139 1..3 'ok 1 x' | sums "1 1 0" a &&
		frame a 0 1..2 'ok 1 x' 'ok 2 y' | sed '5,$d' | sums "2 1 0" a &&
		frame a 127 | sums "0 1 0" a &&
		: fewer or more tests than planned, one twice, no plan &&
		frame a 0 1..2 'ok 1 x' | sums "1 1 0" a &&
		frame a 0 1..1 'ok 1 x' 'ok 2 y' | sums "2 1 0" a &&
		frame a 0 1..2 'ok 1 x' 'ok 1 x' | sums "1 1 0" a &&
		frame a 0 'ok 1 x' | sums "1 1 0" a &&
		: an exit status that no test explains &&
		frame a 1 1..1 'ok 1 x' | sums "1 1 0" a &&
		: skips without a reason &&
		frame a 0 1..1 'ok 1 x # SKIP' | sums "0 1 0" a &&
		frame a 0 1..0 | sums "0 1 0" a &&
		frame a 0 '1..0 # SKIP no test here fits the pattern' | sums "0 0 1" a &&
		frame a 0 '1..0 # SKIP no test here fits the pattern' | sums "0 0 0" a p
}

trouble_in_logs()
{
	local line
	while IFS= read -r line; do
		printf '[    1.0] all is well\n%s\r\n' "$line" > "$RUN/log"
		log_trouble "$RUN/log" > /dev/null || {
			say "this is not seen: $line"
			return 1
		}
	done <<-EOF
		[    2.0] WARNING: CPU: 0 PID: 1 at mm/gup.c:1 f+0x1/0x2
		[    2.0] WARNING: possible circular locking dependency detected
		[    2.0] BUG: unable to handle page fault for address: 0
		[    2.0] BUG: KASAN: slab-use-after-free in f+0x1/0x2
		[    2.0] BUG: Bad page state in process a
		[    2.0] Oops: 0000 [#1] PREEMPT SMP
		[    2.0] INFO: task a:1 blocked for more than 120 seconds.
		[    2.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
		[    2.0] kmemleak: 1 new suspected memory leaks
		[    2.0] Call Trace:
	EOF
	printf '[    1.0] Linux version 6.1\n[    2.0] guest: a ended with 0\n' > "$RUN/log"
	! log_trouble "$RUN/log" || return
	printf '[    1.0] before\n[    2.0] BUG: a\n[    3.0] after\n' > "$RUN/log"
	[ "$(log_trouble "$RUN/log" | tail -n 2 | cut -d']' -f2 | paste -sd,)" = ' BUG: a, after' ] || {
		say "what follows the trouble is not shown"
		return 1
	}
}

# Which guests are booted again: what ended them, the line of it and more of the
# log, with \n for its ends.
ends_of_guests()
{
	local end status log said wrong=0
	while read -r end status log; do
		printf '%b\n' "$log" > "$RUN/log"
		said="ours, status $status"
		! not_ours "$status" "$RUN/log" > "$RUN/why" || said=$(< "$RUN/why")
		[[ $said == "${end//_/ }"* ]] || {
			say "expected '$end', got '$said': $log"
			wrong=1
		}
	done <<-'EOF'
		ours 0 loading out-of-tree module\nreboot: machine restart
		ours 124 Linux version 6.1
		it_did 0 Linux version 6.1
		ours 0 loading out-of-tree module\nOops: int3: 0000 [#1]\nCode: eb cc <48> 83
		QEMU 0 loading out-of-tree module\nOops: int3: 0000 [#1]\nCode: fc eb <0a> 48\nCode: eb cc <48> 83
		ours 0 loading out-of-tree module\nCode: fc eb <0a> 48
		it_slept 0 loading out-of-tree module\nPM: suspend entry (deep)\nACPI: PM: Preparing
		it_slept 124 loading out-of-tree module\nPM: suspend entry (deep)\nACPI: PM: Preparing
		ours 0 loading out-of-tree module\nPM: suspend entry (deep)\nBUG: a
		ours 0 loading out-of-tree module\nPM: suspend entry (deep)\nPM: suspend exit\nnext
	EOF
	return $wrong
}

no_conditionals()
{
	local found
	found=$(grep -rnE '^[[:space:]]*#[[:space:]]*(if|ifdef|elif|else)\b' "$TOP/src" || true)
	[ -z "$found" ] || {
		say "${found%%$'\n'*}"
		return 1
	}
}

readme_example()
{
	awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' "$TOP/README.md" > "$RUN/example.c"
	[ -s "$RUN/example.c" ] || {
		say "README.md has no example in C"
		return 1
	}
	gcc -O2 -Wall -Wextra -Werror -I"$TOP/src/uapi" -o "$RUN/example" "$RUN/example.c"
}

# libc_dev_make DIR CONF: the kernel's headers for programs, unpacked.
libc_dev_make()
{
	debs_make "$1.debs" "$2" linux-libc-dev && dpkg-deb -x "$1.debs"/*.deb "$1"
}

# libc_dev ROLE: prints where those of its kernel are.
libc_dev()
{
	local conf version name
	role_row "$1"
	conf=$(index "${suites##*,}") || return
	version=$(APT_CONFIG=$conf apt-cache show --no-all-versions linux-libc-dev |
		sed -n 's/^Version: //p')
	name=uapi-$1_${version}_$(recipe_hash libc_dev_make "$MIRROR")
	cached "$name" libc_dev_make "$conf" || return
	say "$CACHE/$name"
}

# uapi ORDER: src/uapi says what Linux 7.3's headers do, see ../uapi/compare.
uapi()
{
	local role dirs=() said
	for role in 6.1 6.12 newest next; do
		dirs+=("$(libc_dev "$role")") || return
	done
	said=$("$TOP/tests/uapi/compare" "$1" "$TOP/src/uapi" "${dirs[-1]}" "${dirs[@]}") || {
		say "$(wc -l <<< "$said") times, first ${said%%$'\n'*}"
		return 1
	}
}

# make modules KDIR=$1 says one sentence, with $2 in it, and builds nothing.
modules_refused()
{
	local said
	if said=$(make -s --no-print-directory -C "$TOP" modules KDIR="$1" OUT="$RUN/refused" 2>&1); then
		say "it built against $1"
		return 1
	fi
	said=$(grep -v '^make: ' <<< "$said") || true
	[[ $(wc -l <<< "$said") = 1 && $said == "noiommufd: "*$2* ]] || {
		say "it said: $(head -n 2 <<< "$said" | paste -sd'|')"
		return 1
	}
	[ ! -e "$RUN/refused" ] || {
		say "it began to build against $1"
		return 1
	}
}

# Trees that no module can be built against, one lack after the other.
bad_kdirs()
{
	local dir=$RUN/bad-kdir
	mkdir "$dir"
	modules_refused "$RUN/no-such-directory" "there is no kernel build directory" &&
		modules_refused "$dir" "is not prepared" || return
	mkdir -p "$dir/include/generated" "$dir/include/config"
	echo '#define UTS_RELEASE "6.0-none"' > "$dir/include/generated/utsrelease.h"
	touch "$dir/include/generated/autoconf.h"
	printf '#\n# Linux/arm64 6.0 Kernel Configuration\n' > "$dir/include/config/auto.conf"
	modules_refused "$dir" "is of a kernel for arm64, not x86" || return
	printf '#\n# Linux/x86 6.0 Kernel Configuration\n' > "$dir/include/config/auto.conf"
	modules_refused "$dir" "has no Module.symvers"
}

# commit_now DIR: what is in DIR, as one more commit.
commit_now()
{
	git -C "$1" add -A && git -C "$1" -c user.name=a -c user.email=b commit -q --allow-empty -m c
}

# version_is DIR PATTERN: the version there.
version_is()
{
	local said
	said=$(make -s --no-print-directory -C "$1" version)
	# shellcheck disable=SC2053 # a pattern
	[[ $said == $2 ]] || {
		say "the version is '$said', not $2"
		return 1
	}
}

# The version of packages moves with each commit, upward, and to the release.
version_moves()
{
	local dir=$RUN/version said hash before after
	mkdir "$dir"
	tar -C "$TOP" --exclude=./build --exclude=./.git -cf - . | tar -C "$dir" -xf -
	sed -i '1s/(.*)/(7.2~git)/' "$dir/debian/changelog"
	version_is "$dir" 7.2~git || return
	git -C "$dir" init -q && commit_now "$dir" || return
	hash=$(git -C "$dir" rev-parse --short HEAD)
	version_is "$dir" "7.2~git1.$hash" || return
	before=$(make -s --no-print-directory -C "$dir" version)
	commit_now "$dir" && commit_now "$dir" || return
	after=$(make -s --no-print-directory -C "$dir" version)
	version_is "$dir" '7.2~git3.*' || return
	dpkg --compare-versions "$before" lt "$after" && dpkg --compare-versions "$after" lt 7.2 || {
		say "to dpkg, $before, $after and 7.2 do not follow each other"
		return 1
	}
	echo >> "$dir/Kbuild"
	version_is "$dir" '7.2~git3.*+dirty' || return
	git -C "$dir" checkout -q Kbuild
	git clone -q --depth 1 "file://$dir" "$dir-shallow" || return
	! said=$(make -s -C "$dir-shallow" deb 2>&1) && grep -q 'git fetch --unshallow' <<< "$said" || {
		say "make deb in a shallow clone: $(tail -n 1 <<< "$said")"
		return 1
	}
	# Another user's tree, as with sudo
	chown -R 65534:65534 "$dir" && version_is "$dir" "$after" || return
	make -C "$dir" deb > "$LOGS/version.log" 2>&1 < /dev/null && touch "$dir/build/noiommufd-dkms_1_all.deb" &&
		make -C "$dir" deb > "$LOGS/version.log" 2>&1 < /dev/null || {
		say "make deb fails: see $LOGS/version.log"
		return 1
	}
	[ "$(cd "$dir/build" && echo *.deb)" = "noiommufd-dkms_${after}_all.deb" ] &&
		[ "$(dpkg-deb -f "$dir/build/"*.deb Version)" = "$after" ] || {
		say "make deb of $after leaves $(cd "$dir/build" && echo *.deb)"
		return 1
	}
	sed -i '1s/(.*)/(7.2)/' "$dir/debian/changelog"
	version_is "$dir" 7.2 || return
	# Here, too, there is no commit after a release that is of its version.
	said=$(sed -n '1s/.*(\(.*\)).*/\1/p' "$TOP/debian/changelog")
	[ ! -e "$TOP/.git" ] || [[ $said == *~git ]] ||
		[ "$(git -C "$TOP" rev-list -1 HEAD -- debian/changelog)" = "$(git -C "$TOP" rev-parse HEAD)" ] || {
		say "debian/changelog says $said, which is released: begin the next one, that ends in ~git"
		return 1
	}
}

# Nothing of kbuild's own state reaches the kernel's make.
kbuild_state_kept_out()
{
	local dir=$RUN/kbuild-state said
	mkdir -p "$dir/include/generated" "$dir/include/config"
	echo '#define UTS_RELEASE "7.0-none"' > "$dir/include/generated/utsrelease.h"
	touch "$dir/include/config/auto.conf" "$dir/Module.symvers"
	printf '#define CONFIG_VFIO_PCI_CORE 1\n#define CONFIG_NET 1\n' > "$dir/include/generated/autoconf.h"
	# shellcheck disable=SC2016 # for make
	printf 'modules:\n\t@for v in %s; do eval "echo $$v=\\$$$$v"; done > state; echo "O=$(O) $(origin O)" >> state; exit 1\n' \
		'sub_make_done KBUILD_OUTPUT KBUILD_EXTMOD_OUTPUT srctree objtree abs_srctree abs_objtree building_out_of_srctree KCONFIG_CONFIG O' > "$dir/Makefile"
	sub_make_done=1 KBUILD_OUTPUT=x KBUILD_EXTMOD_OUTPUT=x srctree=x objtree=x abs_srctree=x abs_objtree=x \
		building_out_of_srctree=1 KCONFIG_CONFIG=x \
		make -C "$TOP" modules KDIR="$dir" OUT="$RUN/kbuild-out" O=x KBUILD_OUTPUT=y > "$LOGS/kbuild-state.log" 2>&1 || true
	[ -s "$dir/state" ] || {
		say "the kernel's make was not called: see $LOGS/kbuild-state.log"
		return 1
	}
	said=$(grep -v '=\( undefined\)\?$' "$dir/state" | paste -sd' ')
	[ -z "$said" ] || {
		say "the kernel's make got $said"
		return 1
	}
}

# tools/noiommufd-run, with files for nodes.
run_over_node()
{
	# shellcheck disable=SC2016 # for the inner shell
	unshare --mount --propagation private bash -c '
		run=$1
		mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 || exit
		echo kernel > /dev/iommu
		echo ours > /dev/noiommufd
		is() { [ "$1" = "$2" ] || { echo "expected: $2, got: $1"; exit 1; }; }
		is "$("$run" -- cat /dev/iommu)" ours
		is "$(cat /dev/iommu)" kernel
		"$run" -- sh -c "exit 7"; is $? 7
		"$run" -- /no/program 2> /dev/null; is $? 127
		"$run" 2> /dev/null; is $? 125
		rm /dev/iommu
		is "$("$run" -- true 2>&1)" "noiommufd-run: there is no /dev/iommu to put it over: modprobe iommufd"
		rm /dev/noiommufd
		[ -e /sys/module/noiommufd ] ||
			is "$("$run" -- true 2>&1)" "noiommufd-run: noiommufd is not loaded: modprobe noiommu-vfio-pci"
	' bash "$TOP/tools/noiommufd-run"
}

# make check KDIR=... of what cannot be tested says so before any work.
kdir_refused()
{
	local dir=$RUN/kdir check=("$GUEST/check" '' '' "$RUN/kdir")
	one_sentence "there is no kernel build directory" "${check[@]}" || return
	mkdir -p "$dir"/include/{config,generated} "$dir/arch/x86/boot"
	one_sentence "is not prepared" "${check[@]}" || return
	say '#define UTS_RELEASE "1.2"' > "$dir/include/generated/utsrelease.h"
	: > "$dir/include/generated/autoconf.h"
	one_sentence "has no Module.symvers" "${check[@]}" || return
	: > "$dir/Module.symvers"
	say 1.2 > "$dir/include/config/kernel.release"
	say CONFIG_ARM64=y > "$dir/include/config/auto.conf"
	one_sentence "another architecture" "${check[@]}" || return
	say CONFIG_X86_64=y > "$dir/include/config/auto.conf"
	one_sentence "there is no kernel image" "${check[@]}" || return
	{ head -c 512 /dev/zero; printf '1.3 (a@b)'; head -c 200 /dev/zero; } > "$RUN/image"
	one_sentence "is of kernel '1.3'" "${check[@]}" "$RUN/image" || return
	{ head -c 512 /dev/zero; printf '1.2 (a@b)'; head -c 200 /dev/zero; } > "$RUN/image"
	one_sentence "lacks CONFIG_MODULES" "${check[@]}" "$RUN/image"
}

# tests/runner, which make guest runs on: its own tests.
runner_tests()
{
	local said
	said=$(cd "$TOP/tests" && /usr/bin/python3 -B -m pytest -p no:cacheprovider -q test_runner.py test_kunit.py 2>&1) && return
	say "$(grep -m 1 '^FAILED' <<< "$said" || tail -n 1 <<< "$said")"
	return 1
}

# The minutes of CI's parts, as docs/testing.md has them: there is room for no more.
ci_minutes()
{
	local sum
	sum=$(awk -F'|' '/^## What CI runs/ { on = 1; next } /^## / { on = 0 }
		on && $4 + 0 { n += $4 } END { printf "%.1f", n }' "$TOP/docs/testing.md")
	awk -v sum="$sum" 'BEGIN { exit !(sum > 0 && sum <= 68) }' && return
	say "docs/testing.md has CI take $sum minutes, of 68 at most"
	return 1
}

# make guest: one test of one program, and one that is not there.
guest_loop()
{
	local said
	said=$("$TOP/tests/run" "$1" --tests nodes.iommu_node 2>&1) &&
		grep -qx '6 passed, 0 failed, 0 skipped' <<< "$said" || {
		say "$(grep -m 1 '^FAILED' <<< "$said" || tail -n 1 <<< "$said")"
		return 1
	}
	one_sentence "no test fits 'nodes.none'" "$TOP/tests/run" "$1" --tests nodes.none
}

host_tests()
{
	try host.runner runner_tests
	try host.ci_minutes ci_minutes
	try host.sum_of_tests sum_of_tests
	try host.trouble_in_logs trouble_in_logs
	try host.ends_of_guests ends_of_guests
	try host.no_conditionals_in_src no_conditionals
	try host.readme_example_compiles readme_example
	try host.uapi_is_that_of_7_3 uapi alone
	try host.uapi_before_the_systems uapi before
	try host.uapi_after_the_systems uapi after
	try host.noiommufd_run run_over_node
	try host.kdir_refused kdir_refused
	try host.bad_kdirs bad_kdirs
	try host.kbuild_state_kept_out kbuild_state_kept_out
	try host.version_moves version_moves
	scripts_copy
	try host.demo_without_root without_root
	try host.demo_not_on_debian not_debian
	try host.demo_unknown_kernel unknown_kernel
	try host.demo_without_network without_network
	try host.demo_without_space without_space
	try host.demo_space_runs_out space_runs_out
	try host.demo_killed_half_way killed_half_way
	try host.demo_kernel_gone kernel_gone
	umount "$RUN/small" "$RUN/medium" 2> /dev/null || true
	rm -rf "$tree" "$RUN/killed" "$RUN/empty" "$RUN/gone"
}
