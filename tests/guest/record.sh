# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154 # pattern, suite, passed, failed, skipped: set by check
# docs/kernels.md: what ran on which kernel. A run with RECORD=1 writes its rows
# itself, one for each kernel whose part it did from end to end; the row of the
# same kernel, flavour and way is replaced. Nobody writes there by hand.

RECORDED=$TOP/docs/kernels.md

# compiler_of MODULE: what built it, by what it says itself.
compiler_of()
{
	local cat=cat
	[ -e "$1" ] || {
		say "none, it was not built"
		return
	}
	case $1 in
	*.xz) cat=xzcat ;;
	*.zst) cat=zstdcat ;;
	esac
	$cat "$1" > "$RUN/compiled.ko" && readelf -p .comment "$RUN/compiled.ko" |
		sed -n 's/.*GCC: ([^)]*) \([0-9.]*\).*/gcc \1/p; s/.*clang version \([0-9.]*\).*/clang \1/p' | head -n 1
}

# flavour_of KVER [KDIR]: a distribution says it in the kernel's name; of a build
# tree, what of its options matters to us.
flavour_of()
{
	local config=${2-}/include/config/auto.conf of=()
	if [ -z "${2-}" ]; then
		grep -oE '(cloud-|rt-)?amd64$' <<< "$1" || say -
		return
	fi
	! grep -qx 'CONFIG_IOMMUFD=[ym]' "$config" || of+=("own iommufd")
	! grep -qx CONFIG_PREEMPT_RT=y "$config" || of+=(rt)
	! grep -qx CONFIG_KASAN=y "$config" || of+=("KASAN, lockdep")
	say "built here${of[*]:+, ${of[*]}}"
}

# The last commit that changed what is built into the modules.
commit_of_modules()
{
	local built=(src compat)
	git -c safe.directory='*' -C "$TOP" log -1 --format=%h -- "${built[@]}" 2>/dev/null | tr -d '\n'
	[ -z "$(git -c safe.directory='*' -C "$TOP" status --porcelain -- "${built[@]}" 2>/dev/null)" ] || printf ', changed'
}

# row KERNEL FLAVOUR WAY COMPILER RESULT: into the table, if that was asked for.
row()
{
	[ -n "${RECORD-}" ] || return 0
	local new="| $1 | $2 | $3 |"
	{
		sed '/^| [0-9]/,$d' "$RECORDED"
		{
			grep '^| [0-9]' "$RECORDED" | grep -vF "$new" || true
			say "$new $4 | $5 | $(commit_of_modules) | $(date -u +%F) |"
		} | sort -V
	} > "$RUN/recorded" && cp "$RUN/recorded" "$RECORDED"
}

# record_begin, then record KERNEL MODULE WAY [KDIR]: a row of all the tests in
# between.
record_begin() { before=("$passed" "$failed" "$skipped"); }

record()
{
	[ -n "${RECORD-}" ] && [ -z "$pattern" ] && [ "$suite" = yes ] || return 0
	row "$1" "$(flavour_of "$1" "${4-}")" "$3" "$(compiler_of "$2")" \
		"$((passed - before[0])) passed, $((failed - before[1])) failed, $((skipped - before[2])) skipped"
}
