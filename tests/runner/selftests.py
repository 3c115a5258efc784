# SPDX-License-Identifier: GPL-2.0-only
"""Our selftest of the noiommu cdev and the kernel's own selftests: their names, their build, and the comparison of
mainline with ours."""
from __future__ import annotations

import fnmatch
import os
import re
from collections import Counter
from pathlib import Path

from .kernels import source_tree
from .ktap import Frames, Program
from .machine import BUILD, JOBS, LOGS, TESTS, remove, run
from .root import compiled

SOURCE = TESTS / "selftests"


def names() -> list[str]:
    """The names of noiommu_cdev's tests, as kselftest's harness prints them."""
    text = (SOURCE / "noiommu_cdev.c").read_text()
    variants: dict[str, list[str]] = {}
    for fixture, variant in re.findall(r"^FIXTURE_VARIANT_ADD\((\w+), (\w+)\)", text, re.M):
        variants.setdefault(fixture, []).append(f"{fixture}.{variant}")
    return [f"{prefix}.{test}" for fixture, test in re.findall(r"^TEST_F\w*\((\w+), (\w+)", text, re.M)
            for prefix in variants.get(fixture, [fixture])]


def build(tree: Path) -> Path:
    """Build noiommu_cdev with the harness of a kernel source."""
    return compiled("noiommu_cdev", "-D_GNU_SOURCE", "-isystem", tree / "tools/testing/selftests",
                    SOURCE / "noiommu_cdev.c")


def files() -> dict[str, Path]:
    """The files that a guest of the suite needs to run it. The harness is that of the debug kernel's source."""
    return {"selftests/noiommu_cdev": build(source_tree("6.12")), "tests/noiommu_cdev": SOURCE / "guest"}


def kernels_own(tree: Path) -> dict[str, Path]:
    """Build the kernel's selftests, by their own makefiles; the flags make them static."""
    out, log = BUILD / "selftests", LOGS / "selftests-build.log"
    # An earlier build may be of another source.
    remove(out)
    run("mkdir", "-p", out / "iommu", out / "vfio")
    run("gcc", *"-O2 -Wall -Wextra -Werror -isystem".split(), tree / "usr/include",
        f"-I{tree}/drivers/iommu/iommufd", "-c", "-o", out / "commands.o", SOURCE / "test_commands.c", log=log)
    for name, *flags in (("iommu", "LDFLAGS=-static -Wl,--wrap=ioctl", f"LDLIBS={out}/commands.o -lcap"),
                         ("vfio", "LDFLAGS=-static -pthread")):
        run("make", "-s", JOBS, "-C", tree / "tools/testing/selftests" / name, f"OUTPUT={out}/{name}", *flags, log=log)
    return {f"selftests/{path.name}": path for path in out.glob("*/*") if path.is_file() and os.access(path, os.X_OK)}


class Sides:
    """The results of the selftests on mainline and on ours. A test that passes on mainline has to pass on ours; any
    other needs a row in cannot-run: a glob for PROGRAM/TEST, and why. The first row that matches counts."""

    def __init__(self, frames: Frames, cannot_run: str) -> None:
        self.frames, self.wrong, self.sums = frames, list[str](), list[str]()
        rows = dict(line.split(None, 1) for line in cannot_run.splitlines() if line and line[0] != "#")
        uses: Counter[str] = Counter()
        found: dict[str, list[tuple[bool, bool]]] = {"the kernel": [], "this project": []}
        for program in dict.fromkeys(name.partition("/")[2] for name in frames.programs):
            sides = self.said("mainline", program), self.said("ours", program)
            for test in sides[0] | sides[1]:
                name, (there, here) = f"{program}/{test}", (side.get(test, "did not run") for side in sides)
                row = next((row for row in rows if fnmatch.fnmatchcase(name, row)), "")
                found["this project" if program.startswith("noiommu_cdev") else "the kernel"].append(
                    (there == "passed", there == here == "passed"))
                if there == "passed" != here:
                    self.wrong.append(f"{name} passes on mainline; on ours: {here}")
                elif there != "passed" and not row:
                    self.wrong.append(f"{name} does not pass on mainline ({there}) and has no row in cannot-run")
                uses[row] += there != "passed"
            self.sums.append(f"  {program:32} " + "; ".join(
                f"{side} " + ", ".join(f"{list(said.values()).count(word):3} {word}"
                                       for word in ("passed", "skipped", "failed"))
                for side, said in zip(("mainline", "ours"), sides)))
        self.sums += [f"  {uses[row]:5}  {row}: {why}" for row, why in rows.items()]
        self.wrong += [f"the row {row} of cannot-run is not needed" for row in rows if not uses[row]]
        for whose, tests in found.items():
            passed = [both for there, both in tests if there]
            self.sums.append(f"  selftests of {whose}: {len(tests)}, on mainline {len(passed)} passed and "
                             f"{len(tests) - len(passed)} cannot run, "
                             f"on ours passed {sum(passed)} of those {len(passed)}")
            if not passed:
                self.wrong.append(f"no selftest of {whose} passed on mainline")

    def said(self, side: str, program: str) -> dict[str, str]:
        """The result of each test of a program; note as wrong if it did not end, or did not run all tests that it
        planned."""
        found = self.frames.programs.get(f"{side}/{program}", Program(program))
        said = {name: "skipped" if result.skip or result.why.startswith("skipped without") else
                "passed" if result.passed else "failed" for name, result in found.results.items()}
        # The whole program was skipped: no plan, or a plan of no tests.
        if found.status == 4 and not found.planned:
            return {"all": "skipped"}
        if found.status is None:
            self.wrong.append(f"{program} came to no end on {side}")
        elif found.planned != len(said):
            self.wrong.append(f"{program} on {side}: planned {found.planned} tests and ran {len(said)}")
        self.wrong += [f"{program} on {side}: {fault}" for fault in found.faults if fault.endswith("ran twice")]
        return said
