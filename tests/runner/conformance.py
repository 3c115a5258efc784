# SPDX-License-Identifier: GPL-2.0-only
"""Compares what the program conformance prints with what it printed on mainline.

The lines of excused.txt replace those of the record, mainline-7.3.txt, except
when mainline itself runs. A line is "GROUP.NUMBER ioctl -> answer".
"""
from __future__ import annotations

import re
from pathlib import Path

from .ktap import KINDS, Program, Result
from .machine import TESTS, TOP, table
from .root import compiled

SOURCE = TESTS / "conformance"
MAX_EXCUSES = 20


def key_of(line: str) -> str:
    """The part of a line that identifies it: GROUP.NUMBER."""
    return line.partition(" ")[0]


def group_of(line: str) -> str:
    """The group that a line belongs to."""
    return key_of(line).partition(".")[0]


def files() -> dict[str, Path]:
    """The files that a guest needs to run it."""
    return {"conformance/conformance": compiled("conformance", *SOURCE.glob("*.c")),
            "tests/conformance": SOURCE / "guest"}


class Record:
    """The lines expected of each group, and those that are excused."""

    def __init__(self, source: Path = SOURCE, deviations: Path = TOP / "docs/deviations.md") -> None:
        self.lines = {key_of(line): line for line in (source / "mainline-7.3.txt").read_text().splitlines()}
        self.groups = dict.fromkeys(map(group_of, self.lines))
        # ROW always|older LINE: with "older", for kernels that have an older vfio-pci-core, the record's own
        # line is accepted as well.
        self.excuses = [line.split(" ", 2) for line in table(source / "excused.txt")]
        text = deviations.read_text()
        # | `row` | mainline | ours | why |, and a list of the rows that no line can show
        self.rows = set(re.findall(r"^\| `([^`]*)`", text, re.M))
        unseen = "".join(re.findall(r"^.*but for these:.*\n(?:.+\n)*", text, re.M))
        self.unseen = {name for name in re.findall(r"`([^`]*)`", unseen) if " " not in name}

    def compare(self, said: list[str], mainline: bool = False) -> dict[str, list[str]]:
        """Return what is wrong with the lines that were printed, by group."""
        got: dict[str, str] = {}
        wrong: dict[str, list[str]] = {group: [] for group in self.groups}
        for line in said:
            # Such lines, which the record never has, are printed when something goes wrong.
            if key_of(line) in got or key_of(line) not in self.lines:
                wrong.setdefault(group_of(line), []).append(f"not in the record: {line}")
            else:
                got[key_of(line)] = line
        excused = {key_of(line): (kind, line) for _, kind, line in self.excuses if not mainline}
        for key, recorded in self.lines.items():
            kind, want = excused.get(key, ("", recorded))
            have = got.get(key, "nothing")
            if have != want and (kind, have) != ("older", recorded):
                wrong[group_of(key)] += [f"expected: {want}", f"got:      {have}"]
        return wrong

    def unexcused(self) -> list[str]:
        """What is wrong with the excuses: each has to have a row in deviations.md and to excuse something, and their
        number is limited."""
        used = {row for row, _, _ in self.excuses}
        wrong = [f"docs/deviations.md: the row {row} excuses nothing" for row in self.rows - self.unseen - used]
        wrong += [f"docs/deviations.md: there is no row {row}" for row in self.unseen - self.rows]
        wrong += [f"excused.txt: docs/deviations.md has no row {row}, or says that no line shows it"
                  for row in used - (self.rows - self.unseen)]
        for row, kind, line in self.excuses:
            if kind not in ("always", "older"):
                wrong.append(f"excused.txt: neither always nor older: {row} {kind} {line}")
            if self.lines.get(key_of(line), line) == line:
                wrong.append(f"excused.txt: there is no such line, or mainline says the same: {line}")
        if len(self.excuses) > MAX_EXCUSES:
            wrong.append(f"excused.txt: {len(self.excuses)} lines, and {MAX_EXCUSES} are the most")
        return wrong


class Conformance(Program):
    """The output of the program conformance: one result for each group, when it has ended."""

    def feed(self, line: str) -> None:
        self.lines.append(line)

    def end(self, status: int | None) -> None:
        record = Record()
        wrong = record.compare(self.lines, mainline=self.name == "conformance-mainline")
        for group, lines in wrong.items():
            # If it was cut short, only the complete groups have a result.
            if status == 0 or not lines:
                self.results[group] = Result(group, not lines, False, f"{len(lines)} lines", lines)
        self.status, self.planned, self.lines = status, len(self.results), []
        if status is None:
            self.faults.append("it never ended; the guest died or hung in it")
        elif status:
            self.faults.append(f"exit status {status}")
        self.faults += [line for group, lines in wrong.items() if group not in record.groups for line in lines]


KINDS.update(dict.fromkeys(("conformance", "conformance-mainline", "conformance-ours"), Conformance))
