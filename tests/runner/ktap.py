# SPDX-License-Identifier: GPL-2.0-only
"""What a guest prints: frames of KTAP, as tests/guest/init makes them.

    # suite: NAME start
    1..2
    ok 1 NAME.test
    not ok 2 NAME.other # why
    # suite: NAME exit 1
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field

START = re.compile(r"# suite: (\S+) start$")
EXIT = re.compile(r"# suite: (\S+) exit (\d+)$")
PLAN = re.compile(r"1\.\.(\d+)(?:\s*#\s*SKIP\s*(.*))?")
RESULT = re.compile(r"(not )?ok (\d+)\s*(?:- *)?(.*?)(?:\s*#\s*(.*))?$")


@dataclass
class Result:
    """One test: skip and why are what follows its "#"."""
    name: str
    passed: bool
    skip: bool
    why: str
    # The lines that were printed between the previous result and this one
    lines: list[str]

    @property
    def word(self) -> str:
        """The result in one word, for the totals."""
        return "skipped" if self.skip else "passed" if self.passed else "failed"


@dataclass
class Program:
    """The frame of one program, as far as it has been printed."""
    name: str
    planned: int | None = None
    # Why it planned no tests
    reason: str = ""
    status: int | None = None
    results: dict[str, Result] = field(default_factory=dict)
    # What is wrong besides failed tests
    faults: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def feed(self, line: str) -> None:
        """Parse a line that the program printed."""
        if found := PLAN.match(line):
            if self.planned is not None:
                self.faults.append("it printed two plans")
            self.planned = int(found[1])
            self.reason = found[2] or ""
        elif found := RESULT.match(line):
            self.result(found[1] is None, int(found[2]), found[3], found[4] or "")
        elif not re.match(r"K?TAP version", line):
            self.lines.append(line)

    def result(self, passed: bool, number: int, name: str, rest: str) -> None:
        """Add the result of a test."""
        skip = passed and re.match(r"SKIP\b", rest) is not None
        why = rest[4:].strip() if skip else rest
        if number != len(self.results) + 1:
            self.faults.append(f"the number of {name} is {number}, not {len(self.results) + 1}")
        if skip and not why:
            passed, skip, why = False, False, "skipped without a reason"
        # Programs of the suite put their name before that of a test, and those of the guest's init do not.
        name = name.removeprefix(self.name + ".")
        if name in self.results:
            self.faults.append(f"{name} ran twice")
        self.results[name] = Result(name, passed, skip, why, self.lines)
        self.lines = []

    def end(self, status: int | None) -> None:
        """Judge the program, which ended with this status; None: the guest died or hung in it."""
        self.status = status
        failed = any(not result.passed for result in self.results.values())
        if status is None:
            self.faults.append("it never ended; the guest died or hung in it")
        elif self.planned is None:
            self.faults.append(f"it printed no plan; exit status {status}")
        elif self.planned != len(self.results):
            self.faults.append(f"it planned {self.planned} tests and ran {len(self.results)}; exit status {status}")
        elif not self.planned and not self.reason:
            self.faults.append("it planned no test and gave no reason")
        elif status and not failed:
            self.faults.append(f"exit status {status}, and no test failed")


# Classes for programs that do not print KTAP
KINDS: dict[str, type[Program]] = {}


class Frames:
    """All that a guest prints, as one frame for each program; or given lines, as all there is."""

    def __init__(self, *lines: str) -> None:
        self.programs: dict[str, Program] = {}
        self.current: Program | None = None
        for line in lines:
            self.feed(line)
        if lines:
            self.end()

    def feed(self, line: str) -> None:
        """Parse a line."""
        line = line.rstrip("\r\n")
        if found := START.match(line):
            self.end()
            self.current = self.programs[found[1]] = KINDS.get(found[1], Program)(found[1])
        elif (found := EXIT.match(line)) and self.current and self.current.name == found[1]:
            self.current.end(int(found[2]))
            self.current = None
        elif self.current:
            self.current.feed(line)

    def end(self) -> None:
        """The output has ended; if a program has not, it was cut short."""
        if self.current:
            self.current.end(None)
            self.current = None
