# SPDX-License-Identifier: GPL-2.0-only
"""The KUnit suites: under user-mode Linux by the tree's own kunit.py, and as modules in a guest.

    python3 -m runner.kunit ROLE... [-- ARGS]   what make kunit does: ARGS go to kunit.py
    python3 -m runner.kunit --coverage          what make coverage does
"""
from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from .built import BareGuest, BuiltRoot, debug_kernel, kernel_source
from .guest import Spec, log_trouble
from .ktap import PLAN, RESULT, Result
from .root import LOGS, TESTS, Failed, run, tell

KUNIT = TESTS / "kunit"


def cases(path: Path) -> list[str]:
    """The "suite.test" that a file has, in the order in which they run."""
    text = path.read_text()
    tables = {found[1]: re.findall(r"^\tKUNIT_CASE\w*\((\w+)", found[2], re.M) for found in
              re.finditer(r"^static struct kunit_case (\w+)\[\] = \{(.*?)^\};", text, re.M | re.S)}
    suites = re.findall(r'^\t\.name = "(\w+)".*?^\t\.test_cases = (\w+)', text, re.M | re.S)
    return [f"{suite}.{test}" for suite, table in suites for test in tables[table]]


@dataclass
class Level:
    """Results below one other: the tests of a suite, the parameters of a test."""
    planned: int | None = None
    results: list[Result] = field(default_factory=list)

    def fault(self, passed: bool, what: str) -> str:
        """What is wrong with what it is below of, but for results that say so themselves."""
        if self.planned not in (None, len(self.results)):
            return f"it planned {self.planned} {what} and gave {len(self.results)}"
        if not passed and self.results and all(result.passed for result in self.results):
            return f"it failed with none of its {what}"
        return ""


def case(result: Result, below: Level) -> Result:
    """A test that may have parameters: it has failed or been skipped if one of them has."""
    said = [f"{one.name}: {one.why or 'failed'}" for one in below.results if not one.passed]
    if fault := below.fault(result.passed, "results"):
        said.append(fault)
    skipped = [f"{one.name}: {one.why}" for one in below.results if one.skip]
    return Result(result.name, result.passed and not said, not said and (result.skip or bool(skipped)),
                  ", ".join([result.why, *said, *skipped]).removeprefix(", "),
                  [line for one in below.results if not one.passed for line in one.lines] + result.lines)


class Suites:
    """Nested KTAP: results by "suite.test", and what is wrong beside tests that failed."""

    def __init__(self, text: str) -> None:
        self.results: dict[str, Result] = {}
        self.faults: list[str] = []
        self.suite = ""
        self.levels = [Level() for _ in range(3)]
        self.lines: list[str] = []
        for line in text.replace("\r", "").splitlines():
            self.feed(line.lstrip(" "), (len(line) - len(line.lstrip(" "))) // 4)
        if not self.results:
            self.faults.append("it printed no result of any test")
        self.begin("")

    def begin(self, suite: str) -> None:
        """The one before has ended."""
        if self.suite:
            self.faults.append(f"{self.suite}: it did not end")
        self.suite = suite

    def feed(self, line: str, depth: int) -> None:
        """Take in a line."""
        if depth > 2 or re.match(r"K?TAP version", line):
            return
        if found := re.match(r"# Subtest: (\S+)", line):
            self.levels[depth], self.lines = Level(), []
            if depth == 1:
                self.begin(found[1])
        elif found := PLAN.fullmatch(line):
            self.levels[depth].planned = int(found[1])
        elif found := RESULT.match(line):
            self.result(found, depth)
        else:
            self.lines.append(line)

    def result(self, found: re.Match[str], depth: int) -> None:
        """Take in a result, with those below it."""
        passed, why, skip = not found[1], found[4] or "", (found[4] or "").startswith("SKIP")
        if skip and not (why := why[4:].strip()):
            passed, skip, why = False, False, "skipped without a reason"
        result, self.lines = Result(found[3], passed, passed and skip, why, self.lines), []
        below = self.levels[depth + 1] if depth < 2 else Level()
        if depth == 1:
            result = self.results[f"{self.suite}.{result.name}"] = case(result, below)
        elif depth == 0:
            self.faults += [f"{result.name}: {fault}" for fault in
                            ("" if below.planned is not None else "it printed no plan", below.fault(passed, "tests"))
                            if fault]
            self.suite = ""
        self.levels[depth].results.append(result)
        if depth < 2:
            self.levels[depth + 1] = Level()


def uml(role: str, *args: str, log: Path | None = None) -> str:
    """What kunit.py prints for the kernel of a role; without a log, the user sees it."""
    with kernel_source(role) as (source, version):
        tell(f"linux-source {version}, user-mode Linux")
        run(KUNIT / "link-into-tree", source)
        out = source / ".kunit-noiommufd"
        # The links may lead elsewhere than last time, to files that are older.
        shutil.rmtree(out / "drivers/noiommufd", ignore_errors=True)
        out.mkdir(exist_ok=True)
        command = ["./tools/testing/kunit/kunit.py", "run", *args, f"--build_dir={out}", f"--jobs={os.cpu_count()}",
                   f"--kunitconfig={source}/drivers/noiommufd/tests/kunit/.kunitconfig"]
        if log:
            return run(*command, "--raw_output=kunit", cwd=source, log=log).partition("\nKTAP version")[2]
        subprocess.run(command, cwd=source, check=True, stdin=subprocess.DEVNULL)
        return ""


class KunitGuest(BareGuest):
    """The kernel that looks for mistakes, which loads KUnit and our tests as modules."""

    def __init__(self, *options: str) -> None:
        kdir = debug_kernel()
        root = BuiltRoot(kdir, "kunit-guest")
        module = next(path for path in root.modules(*options) if path.name == "noiommufd-kunit.ko")
        super().__init__("kunit-guest", root, Spec(["KUnit"], limit=300, files={
            "init": KUNIT / "init", "kunit.ko": kdir / "lib/kunit/kunit.ko", module.name: module}))
        self.end()
        log = self.console.read_text(errors="replace") if self.console.exists() else ""
        if self.status or self.why:
            raise Failed(self.last_words())
        if "# all is unloaded" not in self.out.read_text(errors="replace").splitlines():
            raise Failed(f"the guest did not get to its end: see {self.console}")
        # From the first suite on, what is not KTAP is what came between.
        self.said = log.replace("\r", "").partition("\nKTAP version")[2]
        self.trouble = log_trouble(log)

    def coverage(self) -> int:
        """Judge what of our sources the tests ran through; 0: it is enough."""
        out = self.out.read_text(errors="replace").replace("\r", "")
        for name in ("swpt_test", "iopt_test"):
            found = re.search(rf"^# gcda: {name}\.gcda\n(.*?)^# end$", out, re.M | re.S)
            if not found:
                raise Failed(f"the guest left no coverage of {name}.c: see {self.console}")
            (self.root.dir / f"modules/tests/kunit/{name}.gcda").write_bytes(base64.b64decode(found[1]))
            (self.dir / f"{name}.json").write_text(
                run("gcov", "--json-format", "--branch-probabilities", "--stdout", f"tests/kunit/{name}.gcda",
                    cwd=self.root.dir / "modules"))
        return subprocess.run([KUNIT / "coverage.py", self.dir / "swpt_test.json", self.dir / "iopt_test.json"],
                              check=False).returncode


def suites(role: str) -> Suites:
    """All suites on the kernel of a role, or as modules; trouble in the log is a fault."""
    if role == "guest":
        guest = KunitGuest()
        said, trouble, log = guest.said, guest.trouble, guest.console
    else:
        log = LOGS / f"kunit-{role}.log"
        said = uml(role, log=log)
        trouble = log_trouble(said)
    found = Suites(said)
    if trouble:
        found.faults.append(f"the kernel's log has trouble, see {log}\n{trouble}")
    return found


def main(roles: list[str], args: list[str]) -> int:
    """For people."""
    bad = 0
    for role in roles:
        try:
            tell(f"== {role}: KUnit")
            if role == "--coverage":
                bad |= KunitGuest("COVERAGE=1").coverage()
            elif role == "guest":
                found = suites(role)
                failed = [f"{name}: {one.why}" for name, one in found.results.items() if not one.passed]
                print("\n".join([*failed, *found.faults, f"{len(found.results)} tests, {len(failed)} failed"]))
                bad |= bool(failed or found.faults)
            else:
                uml(role, *args)
        except (Failed, subprocess.CalledProcessError) as error:
            tell(f"kunit: {error}")
            bad = 1
    return bad


if __name__ == "__main__":
    words = sys.argv[1:]
    dashes = words.index("--") if "--" in words else len(words)
    sys.exit(main(words[:dashes], words[dashes + 1:]))
