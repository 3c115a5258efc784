# SPDX-License-Identifier: GPL-2.0-only
"""The judge of KUnit's nested KTAP: what must count as a failure does."""
from __future__ import annotations

import pytest

from runner.kunit import Suites


def suite(*tests: str, plan: str = "1..2", end: str = "ok 1 s") -> str:
    """A suite of these lines, as KUnit indents them; more blanks for the results of parameters."""
    return "\n".join(["KTAP version 1", "1..1", "    KTAP version 1", "    # Subtest: s", f"    {plan}",
                      *(f"    {line}" for line in tests), end])


def params(*results: str, plan: str = "", end: str = "ok 1 a") -> list[str]:
    """A test that has parameters."""
    return ["    KTAP version 1", "    # Subtest: a", *([f"    {plan}"] if plan else []),
            *(f"    {line}" for line in results), "# a: pass:1 fail:0 skip:0 total:1", end, "ok 2 b"]


@pytest.mark.parametrize("text, passed, skipped, failed, faults", [
    (suite("ok 1 a", "ok 2 b"), 2, 0, 0, 0),
    (suite("ok 1 a", "ok 2 b # SKIP no such memory"), 1, 1, 0, 0),
    (suite("# a: EXPECTATION FAILED at x.c:1", "not ok 1 a", "ok 2 b", end="not ok 1 s"), 1, 0, 1, 0),
    # Skips without a reason
    (suite("ok 1 a", "ok 2 b # SKIP"), 1, 0, 1, 0),
    # Fewer or more tests than planned, no plan, no end, nothing
    (suite("ok 1 a"), 1, 0, 0, 1),
    (suite("ok 1 a", "ok 2 b", "ok 3 c"), 3, 0, 0, 1),
    (suite("ok 1 a", "ok 2 b", plan=""), 2, 0, 0, 1),
    (suite("ok 1 a", "ok 2 b", end=""), 2, 0, 0, 1),
    (suite("ok 1 a", "ok 2 b", end="") + "\n" + suite("ok 1 c", "ok 2 d").replace(": s", ": t"), 4, 0, 0, 1),
    ("", 0, 0, 0, 1),
    # A suite that failed with none of its tests
    (suite("ok 1 a", "ok 2 b", end="not ok 1 s"), 2, 0, 0, 1),
    # Parameters: one may fail or be skipped; a test that has another number of them than planned, or
    # failed with none of them
    (suite(*params("ok 1 x", "ok 2 y")), 2, 0, 0, 0),
    (suite(*params("ok 1 x", "ok 2 y", plan="1..2")), 2, 0, 0, 0),
    (suite(*params("ok 1 x", "ok 2 y # SKIP none")), 1, 1, 0, 0),
    (suite(*params("ok 1 x", "not ok 2 y", end="not ok 1 a"), end="not ok 1 s"), 1, 0, 1, 0),
    (suite(*params("ok 1 x", "not ok 2 y")), 1, 0, 1, 0),
    (suite(*params("ok 1 x", "ok 2 y", plan="1..3")), 1, 0, 1, 0),
    (suite(*params("ok 1 x", "ok 2 y", end="not ok 1 a"), end="not ok 1 s"), 1, 0, 1, 0),
])
def test_suites(text: str, passed: int, skipped: int, failed: int, faults: int) -> None:
    """Results and faults of one suite."""
    found = Suites(text.replace("\n", "\r\n"))
    results = found.results.values()
    assert sum(result.passed and not result.skip for result in results) == passed
    assert sum(result.skip for result in results) == skipped
    assert sum(not result.passed for result in results) == failed
    assert len(found.faults) == faults, found.faults


def test_what_failed_is_said() -> None:
    """By its parameter, with what the test said of it."""
    found = Suites(suite(*params("ok 1 x", "# a: EXPECTATION FAILED at x.c:1", "not ok 2 y z", end="not ok 1 a")))
    assert found.results["s.a"].why == "y z: failed"
    assert found.results["s.a"].lines[0] == "# a: EXPECTATION FAILED at x.c:1"
