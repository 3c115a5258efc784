# SPDX-License-Identifier: GPL-2.0-only
"""The KUnit suites, under user-mode Linux and as modules in a guest; the kernel tree's own kunit.py parses the results.

    python3 -m runner.kunit ROLE... [-- ARGS]   what make kunit does; ARGS are passed to kunit.py
    python3 -m runner.kunit --coverage          what make coverage does
"""
from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

from . import coverage
from .archive import guest_role, roles
from .guest import CPIO, Guest, Spec, log_trouble
from .kernels import BuiltRoot, debug_kernel, source, source_tree
from .ktap import Result
from .machine import JOBS, LOGS, TESTS, Failed, program, remove, run, tell

KUNIT = TESTS / "kunit"


def cases(path: Path) -> list[str]:
    """The names "suite.test" of a file's tests, in the order in which they run."""
    text = path.read_text()
    tables = {found[1]: re.findall(r"^\tKUNIT_CASE\w*\((\w+)", found[2], re.M) for found in
              re.finditer(r"^static struct kunit_case (\w+)\[\] = \{(.*?)^\};", text, re.M | re.S)}
    suites = re.findall(r'^\t\.name = "(\w+)".*?^\t\.test_cases = (\w+)', text, re.M | re.S)
    return [f"{suite}.{test}" for suite, table in suites for test in tables[table]]


def flat(group: dict[str, Any], name: str = "") -> Iterator[tuple[str, str]]:
    """Each ("suite.test.parameter", status) in a report of kunit.py."""
    yield from ((f"{name}{case['name']}", case["status"]) for case in group["test_cases"])
    for below in group["sub_groups"]:
        yield from flat(below, f"{name}{below['name']}.")


class Suites:
    """Results by "suite.test", and what is wrong besides failed tests."""

    def __init__(self, report: dict[str, Any], log: str, said: str = "") -> None:
        self.results: dict[str, Result] = {}
        found: dict[str, list[tuple[str, str]]] = {}
        for name, status in flat(report):
            found.setdefault(".".join(name.split(".")[:2]), []).append((name, status))
        for name, statuses in found.items():
            suite, _, test = name.partition(".")
            # What the kernel logged during the suite, and what the test printed itself
            part = re.search(rf"# Subtest: {suite}\n(.*?)(\bok \d+ (- )?{suite}\b|\Z)", log, re.S)
            text = part[1] if part else ""
            lines = re.findall(rf"^.*# {re.escape(test)}: .*(?:\n(?!.*(?:\bok \d|# )).*)*", text, re.M)
            why = []
            for one, status in statuses:
                one = one.removeprefix(f"{name}.").removeprefix(f"{suite}.")
                skip = re.search(rf"\bok \d+ (?:- )?{re.escape(one)} # SKIP *(.*)", text) if status == "SKIP" else None
                if status == "SKIP" and not (skip and skip[1]):
                    status = "skipped without a reason"
                if status != "PASS":
                    why.append((status == "SKIP", ("" if one == test else f"{one}: ") + (skip and skip[1] or status)))
            self.results[name] = Result(test, all(skip for skip, _ in why), bool(why) and all(skip for skip, _ in why),
                                        ", ".join(one for _, one in why), "\n".join(lines).splitlines()[:40])
        self.faults = list(dict.fromkeys(re.findall(r"\[ERROR\].*", said)))
        if all(result.passed for result in self.results.values()):
            # A suite or a parameterized test that failed though none of its parts did: kunit.py looks only at the
            # parts.
            self.faults += re.findall(r"\bnot ok \d.*", log)
        if trouble := log_trouble(log):
            self.faults.append(f"the kernel's log has trouble:\n{trouble}")
        if not self.results:
            self.faults.append("there is no result of any test")

    def result(self, suite: str, test: str) -> Result:
        """The result of a test."""
        if f"{suite}.{test}" not in self.results:
            raise Failed(f"{suite}.{test}: it did not run; {(self.faults or ['nothing says why'])[0]}")
        return self.results[f"{suite}.{test}"]


def uml(role: str, *args: str | Path, log: Path | None = None) -> str:
    """Run the suites with kunit.py on the kernel of a role, and return the kernel's log from the first suite on. The
    output of kunit.py goes to log; without one, to the user."""
    with source(role) as tree:
        tell(f"{tree.name}, user-mode Linux")
        run(KUNIT / "link-into-tree", tree)
        out = tree / ".kunit-noiommufd"
        # The links may lead to other files than last time, which make would not rebuild if they are older.
        remove(out / "drivers/noiommufd", out / "test.log")
        out.mkdir(exist_ok=True)
        config = tree / "drivers/noiommufd/tests/kunit/.kunitconfig"
        done = subprocess.run(["./tools/testing/kunit/kunit.py", "run", *args, f"--build_dir={out}",
                               f"--jobs={JOBS[2:]}", f"--kunitconfig={config}"],
                              cwd=tree, check=False, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE if log else None, stderr=subprocess.STDOUT if log else None)
        if log:
            log.write_text(done.stdout)
        if not (out / "test.log").exists() or (done.returncode and not log):
            raise Failed(f"kunit.py ended with {done.returncode}" + (f", see {log}" if log else ""))
        # From the first suite on, since user-mode Linux warns about its PCI before that
        return "".join(re.findall(r"^KTAP version.*", (out / "test.log").read_text(errors="replace"), re.M | re.S))


class KunitGuest(Guest):
    """The debug kernel, which loads KUnit and our tests as modules, in a guest that has only busybox besides."""

    def __init__(self, *options: str) -> None:
        build = debug_kernel()
        root = BuiltRoot("kunit-guest", build)
        root.make("modules", "modules", "the modules cannot be built", *options)
        module = root.dir / "modules/noiommufd-kunit.ko"
        plan = (KUNIT / "plan").read_text()
        super().__init__("kunit-guest", root, Spec(plan, ["KUnit"], limit=600, files={
            "kunit.ko": build.kdir / "lib/kunit/kunit.ko", module.name: module, "bin/busybox": Path("/bin/busybox")}))
        self.end()
        if self.status or self.why:
            raise Failed(self.last_words())
        if "# all is unloaded" not in self.out.read_text(errors="replace").splitlines():
            raise Failed(f"the guest did not get to its end: see {self.console}")

    def image(self) -> Path:
        run("sh", "-c", f"{CPIO} > {self.dir}/image.cpio", cwd=self.files())
        return self.dir / "image.cpio"

    def coverage(self) -> int:
        """Print how much of our source the tests covered. Return 0 if it is enough."""
        out, units = self.out.read_text(errors="replace").replace("\r", ""), []
        for name in ("swpt_test", "iopt_test"):
            found = re.search(rf"^# gcda: {name}\.gcda\n(.*?)^# end$", out, re.M | re.S)
            if not found:
                raise Failed(f"the guest left no coverage of {name}.c: see {self.console}")
            (self.root.dir / f"modules/tests/kunit/{name}.gcda").write_bytes(base64.b64decode(found[1]))
            said = run("gcov", "--json-format", "--branch-probabilities", "--stdout", f"tests/kunit/{name}.gcda",
                       cwd=self.root.dir / "modules")
            units += [json.loads(line) for line in said.splitlines()]
        return coverage.judge(units)


def parse(log: Path, role: str = "6.12") -> Suites:
    """Parse the log of a role's kernel with that kernel's kunit.py."""
    report = log.with_suffix(".json")
    remove(report)
    done = subprocess.run([source_tree(role) / "tools/testing/kunit/kunit.py", "parse", f"--json={report}", log],
                          check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if not report.exists():
        raise Failed(f"kunit.py makes no report of {log}: {done.stdout.splitlines()[-1:]}")
    return Suites(json.loads(report.read_text()), log.read_text(), done.stdout)


def suites(role: str) -> Suites:
    """Run all suites on the kernel of a role under user-mode Linux, or with "guest" as modules, and return the
    results."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"kunit-{role}.log"
    if role == "guest":
        log.write_text(KunitGuest().log())
        return parse(log)
    log.write_text(uml(role, log=log.with_suffix(".txt")))
    return parse(log, role)


def main(words: list[str], args: list[str]) -> int:
    """Run what make kunit or make coverage asks for, with output for users. Return 0 if all of it passed."""
    if words == ["--coverage"]:
        return KunitGuest("COVERAGE=1").coverage()
    bad = 0
    for role in (words := words or list(roles("guest"))):
        guest_role(role, "guest")
    for role in words:
        try:
            if role != "guest":
                uml(role, *args)
                continue
            found = suites(role)
            failed = [f"{name}: {one.why}" for name, one in found.results.items() if not one.passed]
            print("\n".join([*failed, *found.faults, f"{len(found.results)} tests, {len(failed)} failed"]))
            bad |= bool(failed or found.faults)
        except Failed as error:
            print(f"kunit: {role}: {error}", file=sys.stderr)
            bad = 1
    return bad


if __name__ == "__main__":
    WORDS = sys.argv[1:]
    DASHES = WORDS.index("--") if "--" in WORDS else len(WORDS)
    program("kunit", main, WORDS[:DASHES], WORDS[DASHES + 1:])
