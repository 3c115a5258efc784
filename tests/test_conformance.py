# SPDX-License-Identifier: GPL-2.0-only
"""How the output of the program conformance is judged, and what is excused."""
from __future__ import annotations

from pathlib import Path

import pytest

from runner.conformance import Record
from runner.ktap import Frames

MAINLINE = "a.001 X -> 0\na.002 Y -> 1\nb.001 Z -> 2\nb.002 pins -> 0\n"
EXCUSED = "# why\nrow always a.002 Y -> -1 EPERM\nold older b.001 Z -> 3\n"
PAGE = "It runs into\nall, but for these: `make it`,\n`far`.\n\n| `row` | x | y |\n| `old` | x | y |\n| `far` |\n"
OURS = ["a.001 X -> 0", "a.002 Y -> -1 EPERM", "b.001 Z -> 2", "b.002 pins -> 0"]


def record(where: Path, excused: str = EXCUSED, page: str = PAGE) -> Record:
    """A record made from these texts."""
    for name, text in (("mainline-7.3.txt", MAINLINE), ("excused.txt", excused), ("page", page)):
        (where / name).write_text(text)
    return Record(where, where / "page")


@pytest.mark.parametrize("lines, mainline, wrong", [
    (OURS, False, {}),
    (MAINLINE.splitlines(), True, {}),
    # Mainline is not excused, and with "always" the record's own line is wrong.
    (OURS, True, {"a": 2}),
    (MAINLINE.splitlines(), False, {"a": 2}),
    ([*OURS[:2], "b.001 Z -> 3", OURS[3]], False, {}),
    ([*OURS[:2], "b.001 Z -> 4", OURS[3]], False, {"b": 2}),
    (OURS[1:], False, {"a": 2}),
    (OURS[:2], False, {"b": 4}),
    # A line twice, not in the record, of an unknown group, of a failed setup
    ([*OURS, OURS[0]], False, {"a": 1}),
    ([*OURS, "b.003 W -> 0"], False, {"b": 1}),
    ([*OURS, "c.001 W -> 0"], False, {"c": 1}),
    (["b.setup failed", *OURS], False, {"b": 1}),
])
def test_lines(tmp_path: Path, lines: list[str], mainline: bool, wrong: dict[str, int]) -> None:
    """The right number of lines is reported for each group."""
    said = record(tmp_path).compare(lines, mainline)
    assert {group: len(lines) for group, lines in said.items() if lines} == wrong
    assert {"a", "b"} <= said.keys()


@pytest.mark.parametrize("excused, page, wrong", [
    (EXCUSED, PAGE, ""),
    (EXCUSED + "row always c.001 W -> 0\n", PAGE, "no such line, or mainline says the same: c.001"),
    (EXCUSED + "row always a.001 X -> 0\n", PAGE, "no such line, or mainline says the same: a.001"),
    (EXCUSED + "row never a.001 X -> 1\n", PAGE, "neither always nor older: row never"),
    (EXCUSED + "new always a.001 X -> 1\n", PAGE, "has no row new"),
    (EXCUSED + "far always a.001 X -> 1\n", PAGE, "has no row far, or says that no line shows it"),
    (EXCUSED, PAGE + "| `new` | x |\n", "the row new excuses nothing"),
    (EXCUSED, PAGE.replace("| `far` |\n", ""), "there is no row far"),
    ("row always a.002 Y -> 2\n" * 20 + "old older b.001 Z -> 3\n", PAGE, "21 lines, and 20 are the most"),
])
def test_excuses(tmp_path: Path, excused: str, page: str, wrong: str) -> None:
    """Each rule for excuses, one at a time."""
    said = record(tmp_path, excused, page).unexcused()
    assert len(said) == bool(wrong) and wrong in "".join(said)


def test_excused() -> None:
    """Our own files follow the rules."""
    assert not Record().unexcused()


def test_cut_short() -> None:
    """If the output is cut short, only groups with all their lines have a result."""
    whole = [line for line in Record().lines.values() if line.startswith(("nodes.", "caps."))]
    for end, groups in (("# suite: conformance-mainline exit 0", len(Record().groups)), ("", 1),
                        ("# suite: conformance-mainline exit 1", 1)):
        frames = Frames("# suite: conformance-mainline start", *whole[:70], *filter(None, [end]))
        program = frames.programs["conformance-mainline"]
        assert len(program.results) == groups and program.results["nodes"].passed
        assert len(program.faults) == (groups == 1)
