# SPDX-License-Identifier: GPL-2.0-only
"""What the program conformance prints, against what it printed on mainline.

The lines of excused.txt stand for those of the record, mainline-7.3.txt, but
not where mainline itself runs. A line is "GROUP.NUMBER call -> answer".
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
    """What names a line."""
    return line.partition(" ")[0]


def group_of(line: str) -> str:
    """The group that a line is of."""
    return key_of(line).partition(".")[0]


def files() -> dict[str, Path]:
    """For a guest."""
    return {"conformance/conformance": compiled("conformance", *SOURCE.glob("*.c")),
            "tests/conformance": SOURCE / "guest"}


class Record:
    """What is expected of each group, and of what is not."""

    def __init__(self, source: Path = SOURCE, deviations: Path = TOP / "docs/deviations.md") -> None:
        self.lines = {key_of(line): line for line in (source / "mainline-7.3.txt").read_text().splitlines()}
        self.groups = dict.fromkeys(map(group_of, self.lines))
        # ROW always|older LINE: where the kernel's vfio-pci-core is an older one ("older"), the record's
        # own line will do as well.
        self.excuses = [line.split(" ", 2) for line in table(source / "excused.txt")]
        text = deviations.read_text()
        # | `row` | mainline | ours | why |, and a list of rows that no line can show
        self.rows = set(re.findall(r"^\| `([^`]*)`", text, re.M))
        unseen = "".join(re.findall(r"^.*but for these:.*\n(?:.+\n)*", text, re.M))
        self.unseen = {name for name in re.findall(r"`([^`]*)`", unseen) if " " not in name}

    def compare(self, said: list[str], mainline: bool = False) -> dict[str, list[str]]:
        """By group, what is wrong with the lines that were printed."""
        got: dict[str, str] = {}
        wrong: dict[str, list[str]] = {group: [] for group in self.groups}
        for line in said:
            # The record has none of these: they are printed when something goes wrong.
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
        """Each excuse has a row in deviations.md and excuses something, and they are few."""
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
    """Its frame: a result a group, when it has ended."""

    def feed(self, line: str) -> None:
        self.lines.append(line)

    def end(self, status: int | None) -> None:
        record = Record()
        wrong = record.compare(self.lines, mainline=self.name == "conformance-mainline")
        for group, lines in wrong.items():
            # Cut short, it has said all of some of them.
            if status == 0 or not lines:
                self.results[group] = Result(group, not lines, False, f"{len(lines)} lines", lines)
        self.status, self.planned, self.lines = status, len(self.results), []
        if status is None:
            self.faults.append("it never ended; the guest died or hung in it")
        elif status:
            self.faults.append(f"exit status {status}")
        self.faults += [line for group, lines in wrong.items() if group not in record.groups for line in lines]


KINDS.update(dict.fromkeys(("conformance", "conformance-mainline", "conformance-ours"), Conformance))
