# SPDX-License-Identifier: GPL-2.0-only
"""How the results of selftests on mainline and on ours are judged."""
from __future__ import annotations

import pytest

from runner.ktap import Frames
from runner.selftests import Sides

ROWS = "# why\nk/*.mock*\tneeds a mock\n"
GOOD = ["ok 1 a", "ok 2 b.mock # SKIP no mock"]


def said(side: str, *lines: str, program: str = "k", end: int | None = 0) -> list[str]:
    """The frame of a program that plans two tests."""
    return [f"# suite: {side}/{program} start", "TAP version 13", "1..2", *lines] + \
        ([] if end is None else [f"# suite: {side}/{program} exit {end}"])


@pytest.mark.parametrize("mainline, ours, wrong", [
    (said("mainline", *GOOD), said("ours", *GOOD), ""),
    (said("mainline", *GOOD), said("ours", "ok 1 a", "not ok 2 b.mock", end=1), ""),
    (said("mainline", *GOOD), said("ours", "not ok 1 a", GOOD[1], end=1), "k/a passes on mainline; on ours: failed"),
    (said("mainline", *GOOD), said("ours", "ok 1 a # SKIP", GOOD[1]), "k/a passes on mainline; on ours: skipped"),
    (said("mainline", "not ok 1 a", GOOD[1]), said("ours", *GOOD), "k/a does not pass on mainline (failed) and has no"),
    (said("mainline", "ok 1 a", "ok 2 b.mock"), said("ours", "ok 1 a", "ok 2 b.mock"), "the row k/*.mock* of cannot-"),
    (said("mainline", *GOOD), said("ours", *GOOD, end=None), "k came to no end on ours"),
    (said("mainline", *GOOD), said("ours", "ok 1 a"), "k on ours: planned 2 tests and ran 1"),
    (said("mainline", *GOOD), said("ours", *GOOD, "ok 2 a"), "k on ours: a ran twice"),
    (said("mainline", *GOOD), [], "k/a passes on mainline; on ours: did not run"),
    (said("mainline", *GOOD), ["# suite: ours/k start", "# suite: ours/k exit 4"], "k/all does not pass on mainline"),
])
def test_sides(mainline: list[str], ours: list[str], wrong: str) -> None:
    """What is wrong is found; noiommu_cdev passes, since some test of ours has to."""
    lines = ("ok 1 a", "ok 2 b")
    found = Sides(Frames(*mainline, *said("mainline", *lines, program="noiommu_cdev"), *ours,
                         *said("ours", *lines, program="noiommu_cdev")), ROWS).wrong
    assert bool(found) == bool(wrong) and any(line.startswith(wrong) for line in found or [""]), found
