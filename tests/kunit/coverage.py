#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# coverage.py GCOV-JSON...: the share of lines and branches of swpt.c and
# io_pagetable.c that ran, and what did not. Exits with 1 if that is too little.
# What macros of the kernel make of a line of ours (functions, choices by what is
# constant, checks of lockdep) are no branches of ours: those lines count, but
# not their branches.
import json
import sys

LINES, BRANCHES = 95, 90
MACROS = ("INTERVAL_TREE_DEFINE(", "lockdep_assert_held(", "rcu_dereference(", "roundup_pow_of_two(")
PARTS = {
    "swpt": ("swpt.c", None, None),
    "areas": ("io_pagetable.c", None, None),
    "allocator": ("io_pagetable.c", "iopt_fit_iova", "iopt_set_allow_iova"),
}


def main():
    lines, branches, where, text = {}, {}, {}, {}
    for name in sys.argv[1:]:
        with open(name, encoding="utf-8") as file:
            for unit in map(json.loads, file):
                for source in unit["files"]:
                    base = source["file"].rsplit("/", 1)[-1]
                    if base not in ("swpt.c", "io_pagetable.c"):
                        continue
                    path = unit["current_working_directory"] + "/" + source["file"]
                    try:
                        text[base] = open(path, encoding="utf-8").read().split("\n")
                    except OSError:
                        text[base] = open(source["file"], encoding="utf-8").read().split("\n")
                    for function in source["functions"]:
                        where[base, function["name"]] = (function["start_line"], function["end_line"])
                    for line in source["lines"]:
                        key = base, line["line_number"]
                        lines[key] = lines.get(key, 0) + line["count"]
                        branches.setdefault(key, []).extend(
                            b["count"] for b in line["branches"] if not b["throw"])
    bad = False
    for part, (base, first, last) in PARTS.items():
        low = where[base, first][0] if first else 0
        high = where[base, last][1] if last else sys.maxsize
        keys = sorted(key for key in lines if key[0] == base and low <= key[1] <= high)
        for key in keys:
            if any(macro in text[base][key[1] - 1] for macro in MACROS):
                branches[key] = []
        ran = sum(1 for key in keys if lines[key])
        taken = [count for key in keys for count in branches[key]]
        rates = (100 * ran / max(len(keys), 1),
                 100 * sum(1 for count in taken if count) / max(len(taken), 1))
        print(f"{part:10} {base:16} lines {ran}/{len(keys)} = {rates[0]:.1f} %, "
              f"branches {sum(1 for count in taken if count)}/{len(taken)} = {rates[1]:.1f} %")
        bad |= not keys or rates[0] < LINES or rates[1] < BRANCHES
        if part == "allocator":
            continue
        for key in keys:
            missed = sum(1 for count in branches[key] if not count)
            if missed or not lines[key]:
                what = f"{missed} of {len(branches[key])} branches not taken" if lines[key] else "never run"
                print(f"  {base}:{key[1]}: {what}: {text[base][key[1] - 1].strip()}")
    if bad:
        print(f"coverage.py: at least {LINES} % of lines and {BRANCHES} % of branches are asked for: add tests.",
              file=sys.stderr)
    return bad


sys.exit(main())
