# SPDX-License-Identifier: GPL-2.0-only
"""docs/kernels.md: what ran on which kernel. Its rows are written by runs with RECORD=1 only: one for each kernel whose
tests all ran, which replaces the row of the same kernel, flavour and way of building."""
from __future__ import annotations

import datetime
import os
import re
import subprocess
from pathlib import Path

from .kernels import BuiltRoot
from .machine import TOP, Failed, run
from .root import PackageRoot, Root

PAGE = TOP / "docs/kernels.md"


def compiler_of(module: Path) -> str:
    """The compiler that built a module, as recorded in the module."""
    if not module.exists():
        return "none, it was not built"
    cat = {".xz": "xzcat", ".zst": "zstdcat"}.get(module.suffix, "cat")
    said = subprocess.run([cat, module], check=True, stdout=subprocess.PIPE).stdout.decode("latin-1")
    found = re.search(r"GCC: \([^)]*\) ([0-9.]+)|clang version ([0-9.]+)", said)
    return f"gcc {found[1]}" if found and found[1] else f"clang {found[2]}" if found else "unknown"


def flavour_of(kver: str, kdir: Path | None = None) -> str:
    """The flavour of a kernel: for a distribution's, from its name; for a build tree, its options that matter to us."""
    if not kdir:
        found = re.search(r"(cloud-|rt-)?amd64$", kver)
        return found[0] if found else "-"
    config = (kdir / "include/config/auto.conf").read_text()
    of = [name for option, name in (("IOMMUFD=[ym]", "own iommufd"), ("PREEMPT_RT=y", "rt"),
                                    ("KASAN=y", "KASAN, lockdep")) if re.search(f"^CONFIG_{option}$", config, re.M)]
    return ", ".join(["built here", *of])


def facts(role: str, kind: str, root: Root) -> str:
    """The beginning of a role's row, if this is the guest that the row is about; otherwise ""."""
    if kind != "suite" or not os.environ.get("RECORD") or not isinstance(root, (BuiltRoot, PackageRoot)):
        return ""
    kdir = root.build.kdir if isinstance(root, BuiltRoot) else None
    way = "build tree" if kdir else "package, DKMS"
    return f"| {root.kver} | {flavour_of(root.kver, kdir)} | {way} | {compiler_of(root.modules()[0])} |"


def row(begin: str, result: str) -> None:
    """Write a row into the table, if RECORD is set."""
    if not os.environ.get("RECORD"):
        return
    git, built = ("git", "-c", "safe.directory=*", "-C", str(TOP)), ("--", "src", "include", "compat")
    try:
        # The last commit that changed what is built into the modules
        commit = run(*git, "log", "-1", "--format=%h", *built).strip() + \
            (", changed" if run(*git, "status", "--porcelain", *built) else "")
    except Failed:
        commit = "unknown"
    page, key = PAGE.read_text(), "|".join(begin.split("|")[:4]) + "|"
    rows = [line for line in re.findall(r"^\| [0-9].*\n", page, re.M) if not line.startswith(key)]
    rows.append(f"{begin} {result} | {commit} | {datetime.datetime.now(datetime.timezone.utc).date()} |\n")
    # In the order of versions
    rows.sort(key=lambda line: [(int(word) if word.isdigit() else -1, word) for word in re.split(r"(\d+)", line)])
    PAGE.write_text(re.sub(r"^\| [0-9].*\n", "", page, flags=re.M) + "".join(rows))
