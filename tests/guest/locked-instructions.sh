#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# locked-instructions.sh NOIOMMUFD.KO: count the locked instructions on the read
# path of a module built for x86-64: GET_PA, and a batch of GET_PA_RUNS, without
# interference by a writer. Fails if there is one, or if the path calls a function
# that is not on its list. The last line gives the count, or what is wrong.
set -eu -o pipefail

objdump -dr --no-show-raw-insn "$1" | awk '
function fault(what) { if (!bad) bad = what }

# The target of the branch in the line before, if it had no relocation.
function settle() {
	if (branch != "") calls[f] = calls[f] " " branch
	branch = ""
}

/^[0-9a-f]+ <.*>:$/ { settle(); f = $2; gsub(/[<>:]/, "", f); known[f] = 1; next }
f == "" { next }
/R_X86_64_(PLT32|PC32)/ {
	if (branch == "") next
	branch = $3
	sub(/[-+]0x[0-9a-f]+$/, "", branch)
	settle()
	next
}
/^ *[0-9a-f]+:/ {
	settle()
	nr[f]++
	if (/[\t ]lock / || $2 ~ /^xchg/ && /\(/) locked[f]++
	if ($2 !~ /^(call|j)/) next
	branch = $2 ~ /^call/ && /\*/ ? "(pointer)" : f
	if (match($0, /<[^+>]+>/)) branch = substr($0, RSTART + 1, RLENGTH - 2)
}

function walk(f,    n, i, to) {
	if (seen[f]++) return
	functions++
	instructions += nr[f]
	if (locked[f]) fault(locked[f] " locked instructions in " f "()")
	n = split(calls[f], to, " ")
	for (i = 1; i <= n; i++) visit(f, to[i])
}
function visit(f, to) {
	if (to in slow || to in kernel || to ~ /^\.text/ || to ~ /\.cold$/) return
	if (to in known) walk(to)
	else fault(f "() calls " to ", of which it is not known whether it locks")
}

END {
	# Where it goes when a writer is in the way, or while its tracepoint is on.
	split("noiommufd_get_object noiommufd_put_object noiommu_get_phys down_read_killable up_read" \
	      " __SCT__tp_func_noiommufd_translate __traceiter_noiommufd_translate" \
	      " __SCT__preempt_schedule_notrace preempt_schedule_notrace", names, " ")
	for (i in names) slow[names[i]] = 1
	# What has no lock in the kernel, or never comes back.
	split("capable xa_load __rcu_read_lock __rcu_read_unlock __fentry__ __x86_return_thunk" \
	      " __stack_chk_fail __SCT__might_resched __SCT__cond_resched __cond_resched" \
	      " __ubsan_handle_out_of_bounds __ubsan_handle_shift_out_of_bounds", names2, " ")
	for (i in names2) kernel[names2[i]] = 1

	split("noiommufd_ioas_get_pa_fast noiommu_get_phys_runs", roots, " ")
	for (i in roots) {
		if (!(roots[i] in known)) fault("there is no " roots[i] "()")
		walk(roots[i])
	}
	# The way there; what else it calls is for other ioctls.
	instructions += nr["noiommufd_fops_ioctl"]
	if (!nr["noiommufd_fops_ioctl"] || locked["noiommufd_fops_ioctl"])
		fault("noiommufd_fops_ioctl(): none, or with a lock")
	# This one takes a reference: else the count counts nothing.
	if (!locked["noiommufd_object_use"] && !locked["noiommufd_get_object"])
		fault("no locked instruction where there is one")
	if (bad) {
		print bad
		exit 1
	}
	print instructions " instructions in " functions + 1 " functions, none of them locked"
}'
