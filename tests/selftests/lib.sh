# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# For make selftests and make check: our selftest of the noiommu cdev.

SELFTESTS=$TOP/tests/selftests

# selftest_build PROGRAM TREE: on the harness of the kernel source TREE.
selftest_build()
{
	gcc -O2 -g -Wall -Wextra -Werror -static -D_GNU_SOURCE -I"$TOP/src/uapi" \
		-isystem "$2/tools/testing/selftests" -o "$1" "$SELFTESTS/noiommu_cdev.c"
}

# selftest_guest DIR: DIR/selftests holds it, DIR/tests/noiommu_cdev runs it as a
# program of the guest suite. The harness is that of the sources for KUnit.
selftest_guest()
{
	local tree
	# shellcheck source=../kunit/tree.sh
	tree=$(. "$TOP/tests/kunit/tree.sh" && tree_cached 6.12 >&2 && printf '%s\n' "$tree") || return 1
	mkdir -p "$1/selftests" "$1/tests"
	selftest_build "$1/selftests/noiommu_cdev" "$tree" &&
		install -m 755 "$SELFTESTS/guest" "$1/tests/noiommu_cdev"
}
