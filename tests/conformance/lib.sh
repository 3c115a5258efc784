# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# For make conformance and make check: the program, and a guest's copy of what
# it needs.

CONFORMANCE=$TOP/tests/conformance

# conformance_build DIR: DIR/conformance holds the program and what it is
# compared with, DIR/tests/conformance runs it as a program of the guest suite.
conformance_build()
{
	mkdir -p "$1/conformance" "$1/tests"
	gcc -O2 -g -Wall -Wextra -Werror -static -o "$1/conformance/conformance" "$CONFORMANCE"/*.c &&
		cp "$CONFORMANCE"/{compare.awk,excused.txt,mainline-7.3.txt} "$TOP/docs/deviations.md" "$1/conformance/" &&
		install -m 755 "$CONFORMANCE/guest" "$1/tests/conformance"
}

# conformance_compare OUTPUT OPTIONS...: KTAP.
conformance_compare()
{
	local output=$1
	shift
	awk "$@" -f "$CONFORMANCE/compare.awk" "$CONFORMANCE/excused.txt" "$TOP/docs/deviations.md" \
		"$CONFORMANCE/mainline-7.3.txt" "$output"
}
