# SPDX-License-Identifier: GPL-2.0-only
"""How KUnit's results are judged after kunit.py: what must count as a failure does."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

from runner.kunit import KUNIT, cases, parse


def suite(*tests: str, plan: str = "1..2", end: str = "ok 1 s") -> str:
    """The output of a suite with these lines, indented as KUnit does; results of parameters are indented further."""
    return "\n".join(["KTAP version 1", "1..1", "    KTAP version 1", "    # Subtest: s", f"    {plan}",
                      *(f"    {line}" for line in tests), end, ""])


def params(*results: str, plan: str = "", end: str = "ok 1 a") -> list[str]:
    """The lines of a test that has these results for its parameters."""
    return ["    KTAP version 1", "    # Subtest: a", *([f"    {plan}"] if plan else []),
            *(f"    {line}" for line in results), "# a: pass:1 fail:0 skip:0 total:1", end, "ok 2 b"]


@pytest.mark.parametrize("text, passed, skipped, failed, faulty", [
    (suite("ok 1 a", "ok 2 b"), 2, 0, 0, False),
    (suite("ok 1 a", "ok 2 b # SKIP no such memory"), 1, 1, 0, False),
    (suite("# a: EXPECTATION FAILED at x.c:1", "not ok 1 a", "ok 2 b", end="not ok 1 s"), 1, 0, 1, False),
    # Skips without a reason
    (suite("ok 1 a", "ok 2 b # SKIP"), 1, 0, 1, False),
    (suite("ok 1 a # SKIP  ", "ok 2 b"), 1, 0, 1, False),
    # Fewer or more tests than planned, no end, nothing
    (suite("ok 1 a"), 1, 0, 1, True),
    (suite("ok 1 a", "ok 2 b", "ok 3 c"), 2, 0, 0, True),
    (suite("ok 1 a", "ok 2 b", end=""), 2, 0, 0, True),
    (suite("ok 1 a", "ok 2 b", end="") + suite("ok 1 c", "ok 2 d").replace(": s", ": t"), 2, 0, 0, True),
    (suite(plan="1..0"), 0, 0, 1, True),
    ("", 0, 0, 0, True),
    # A suite that failed though none of its tests did, and crashes
    (suite("ok 1 a", "ok 2 b", end="not ok 1 s"), 2, 0, 0, True),
    (suite("ok 1 a", "BUG: unable to handle page fault for address: 0", end=""), 1, 0, 1, True),
    (suite("ok 1 a", "WARNING: CPU: 0 PID: 1 at mm/gup.c:1 f+0x1/0x2", "ok 2 b"), 2, 0, 0, True),
    # Parameters: one may fail or be skipped; a test is at fault if their number is not as planned, or if it
    # failed though none of them did
    (suite(*params("ok 1 x", "ok 2 y")), 2, 0, 0, False),
    (suite(*params("ok 1 x", "ok 2 y", plan="1..2")), 2, 0, 0, False),
    (suite(*params("ok 1 x", "ok 2 y # SKIP none")), 1, 1, 0, False),
    (suite(*params("ok 1 x", "not ok 2 y", end="not ok 1 a"), end="not ok 1 s"), 1, 0, 1, False),
    (suite(*params("ok 1 x", "ok 2 y # SKIP", "not ok 3 z")), 1, 0, 1, False),
    (suite(*params("ok 1 x", "ok 2 y", plan="1..3")), 1, 0, 1, True),
    (suite(*params("ok 1 x", "ok 2 y", end="not ok 1 a"), end="not ok 1 s"), 2, 0, 0, True),
])
def test_suites(text: str, passed: int, skipped: int, failed: int, faulty: bool, tmp_path: Path) -> None:
    """The results of one suite, and whether there are other faults."""
    log = tmp_path / "kunit-test.log"
    log.write_text(text)
    found = parse(log)
    words = [result.word for result in found.results.values()]
    assert [words.count(word) for word in ("passed", "skipped", "failed")] == [passed, skipped, failed], found.results
    assert bool(found.faults) == faulty, found.faults


def test_what_failed_is_said(tmp_path: Path) -> None:
    """A failure names the parameter, with what the test printed about it."""
    log = tmp_path / "kunit-test.log"
    log.write_text(suite(*params("ok 1 x", "# a: EXPECTATION FAILED at x.c:1", "    expected 1", "not ok 2 y z",
                                 "ok 3 v # SKIP no memory", end="not ok 1 a"), end="not ok 1 s"))
    result = parse(log).results["s.a"]
    assert result.why == "y z: FAIL, v: no memory"
    assert [line.strip() for line in result.lines[:2]] == ["# a: EXPECTATION FAILED at x.c:1", "expected 1"]


def test_cases_are_found() -> None:
    """Each test case is found; otherwise its failure would go unnoticed."""
    for path in KUNIT.glob("*_test.c"):
        assert len(cases(path)) == len(re.findall(r"^\tKUNIT_CASE", path.read_text(), re.M)) > 0
