# SPDX-License-Identifier: GPL-2.0-only
"""How much of swpt.c and io_pagetable.c the KUnit suites cover: the share of lines and branches, and which are missed.

Some macros of the kernel expand to functions, to branches on constants or to checks of lockdep. The branches of a line
with such a macro are not ours, so only the line itself counts."""
from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Iterable

LINES, BRANCHES = 95, 90
MACROS = ("INTERVAL_TREE_DEFINE(", "lockdep_assert_held", "rcu_dereference", "roundup_pow_of_two(")
# Each part is a file, or what is in it from one function to another
PARTS = {"swpt": ("swpt.c", "", ""), "areas": ("io_pagetable.c", "", ""),
         "allocator": ("io_pagetable.c", "noiommu_fit_iova", "noiommu_set_allow_iova")}


def judge(units: Iterable[dict[str, Any]]) -> int:
    """Print the coverage of gcov's JSON reports. Return 1 if it is too low."""
    lines, branches, text = Counter[tuple[str, int]](), defaultdict[tuple[str, int], list[int]](list), {}
    where, bad = {("", ""): (0, sys.maxsize)}, 0
    for source, path in ((source, Path(unit["current_working_directory"], source["file"]))
                         for unit in units for source in unit["files"]):
        if path.name not in ("swpt.c", "io_pagetable.c"):
            continue
        text[path.name] = path.read_text().splitlines()
        where |= {(path.name, of["name"]): (of["start_line"], of["end_line"]) for of in source["functions"]}
        for line in source["lines"]:
            key = path.name, line["line_number"]
            lines[key] += line["count"]
            if not any(macro in text[path.name][key[1] - 1] for macro in MACROS):
                branches[key] += [branch["count"] for branch in line["branches"] if not branch["throw"]]
    for part, (file, first, last) in PARTS.items():
        low, high = where[file if first else "", first][0], where[file if last else "", last][1]
        keys = sorted(key for key in lines if key[0] == file and low <= key[1] <= high)
        ran, taken = [lines[key] > 0 for key in keys], [count > 0 for key in keys for count in branches[key]]
        rates = [100 * sum(found) / max(len(found), 1) for found in (ran, taken)]
        print(f"{part:10} {file:16} lines {sum(ran)}/{len(ran)} = {rates[0]:.1f} %, "
              f"branches {sum(taken)}/{len(taken)} = {rates[1]:.1f} %")
        bad |= not keys or rates[0] < LINES or rates[1] < BRANCHES
        for key in keys if not first else ():
            missed = branches[key].count(0)
            if missed or not lines[key]:
                what = f"{missed} of {len(branches[key])} branches not taken" if lines[key] else "never run"
                print(f"  {file}:{key[1]}: {what}: {text[file][key[1] - 1].strip()}")
    if bad:
        print(f"coverage: at least {LINES} % of lines and {BRANCHES} % of branches are asked for: add tests.",
              file=sys.stderr)
    return bad
