# SPDX-License-Identifier: GPL-2.0-only
"""The guest suite as pytest items: one a TEST() of a program and kernel.

    tests/run --kernel 6.1 -k bind tests/guest/suite

Nothing is prepared but for the tests that are selected: a guest runs the
programs that these are of. After them, "guest" has what concerns it as a whole.
"""
from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Iterator

import pytest
from _pytest.terminal import TerminalReporter

from runner.guest import Guest, log_trouble
from runner.ktap import Result
from runner.root import GUEST, Failed

TEST = re.compile(r"^TEST(?:_LIMIT)?\((\w+)", re.M)
# Guests of their own have these.
ELSEWHERE = {"harness", "twins", "suspend", "lockdown"}
WHOLE = ("load", "programs", "unload", "end", "log")
GUESTS = pytest.StashKey[dict[str, Guest]]()


def order() -> dict[str, tuple[int, str]]:
    """Programs by their place in the suite, and the role whose kernel alone runs them."""
    rows = [line.split() for line in (GUEST / "suite/order").read_text().splitlines() if line and line[0] != "#"]
    return {row[0]: (place, row[1] if len(row) > 1 else "") for place, row in enumerate(rows)}


def fits(pattern: str, program: str, test: str) -> bool:
    """TESTS: a glob on "program.test", "program" or "test"."""
    return not pattern or any(fnmatch.fnmatchcase(name, pattern) for name in (f"{program}.{test}", program, test))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of make."""
    group = parser.getgroup("noiommufd")
    group.addoption("--kernel", default="6.1", help="roles of tests/guest/kernels, separated by blanks (default: 6.1)")
    group.addoption("--tests", default="", help='a glob on "program.test", "program" or "test"')


def pytest_configure(config: pytest.Config) -> None:
    """Guests of this run, by role."""
    config.stash[GUESTS] = dict[str, Guest]()


class GuestItem(pytest.Item):
    """A result that a guest gives."""

    def __init__(self, *, role: str, program: str, test: str, **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.role, self.program, self.test = role, program, test

    def runtest(self) -> None:
        """Wait for it and pass it on."""
        guest = self.config.stash[GUESTS][self.role]
        judge(guest.result(self.program, self.test))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """What the guest said is all there is to show."""
        if excinfo.errisinstance((Failed, pytest.fail.Exception)):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where, and its name as the program prints it."""
        return self.path, 0, f"{self.program}.{self.test} [{self.role}]"


class WholeItem(GuestItem):
    """What concerns a guest as a whole."""

    def runtest(self) -> None:
        guest = self.config.stash[GUESTS][self.role]
        guest.end()
        if self.test in ("load", "unload"):
            program = guest.program(f"guest-{self.test}")
            for result in program.results.values():
                judge(result)
            expect(not program.faults, "\n".join(program.faults))
        elif self.test == "programs":
            faults = [f"{name}: {fault}" for name in guest.names for fault in guest.program(name).faults]
            expect(not faults, "\n".join(faults))
        elif self.test == "end":
            expect(guest.status == 0 and not guest.why, guest.last_words())
        else:
            trouble = log_trouble(guest.console.read_text(errors="replace") if guest.console.exists() else "")
            expect(not trouble, f"the kernel's log has trouble, see {guest.console}\n{trouble}")


def expect(good: bool, why: str) -> None:
    """Fail with what the guest said, which a traceback of ours adds nothing to."""
    if not good:
        pytest.fail(why, pytrace=False)


def judge(result: Result) -> None:
    """Pass, fail or skip as the program did."""
    if result.skip:
        pytest.skip(result.why)
    expect(result.passed, "\n".join([f"{result.name}: {result.why}", *result.lines]))


class SuiteFile(pytest.File):
    """A program of the suite."""

    def collect(self) -> Iterator[GuestItem]:
        program, only = self.path.stem, order().get(self.path.stem, (0, ""))[1]
        for role in self.config.getoption("--kernel").split():
            if only and only != role:
                continue
            for test in TEST.findall(self.path.read_text()):
                if fits(self.config.getoption("--tests"), program, test):
                    yield GuestItem.from_parent(self, name=f"{test}[{role}]", role=role, program=program, test=test)


class WholeFile(pytest.File):
    """The order of the suite's programs stands for its guests."""

    def collect(self) -> Iterator[GuestItem]:
        for role in self.config.getoption("--kernel").split():
            for test in WHOLE:
                yield WholeItem.from_parent(self, name=f"{test}[{role}]", role=role, program="guest", test=test)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """The C files of the suite, and the file that has their order."""
    if file_path.parent != GUEST / "suite" or file_path.stem in ELSEWHERE:
        return None
    found: pytest.Collector | None = None
    if file_path.suffix == ".c":
        found = SuiteFile.from_parent(parent, path=file_path)
    elif file_path.name == "order":
        found = WholeFile.from_parent(parent, path=file_path)
    return found


@pytest.hookimpl(trylast=True)  # type: ignore[misc]
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """By guest, and in it in the order in which the programs run; then make the guests."""
    places = order()
    pattern = config.getoption("--tests")
    ours = [item for item in items if isinstance(item, GuestItem)]
    programs = {item.role: {} for item in ours}  # type: dict[str, dict[str, None]]
    ours.sort(key=lambda item: (item.role, item.program == "guest",
                                places.get(item.program, (places["unload"][0] - 0.5,))[0]))
    for item in ours:
        if item.program != "guest":
            programs[item.role][item.program] = None
    chosen = [item for item in ours if programs[item.role]]
    if pattern and not chosen:
        raise pytest.UsageError(f"no test fits '{pattern}'")
    others: list[pytest.Item] = [item for item in items if not isinstance(item, GuestItem)]
    items[:] = [*others, *chosen]
    if config.option.collectonly:
        return
    for role, names in programs.items():
        tests = {item.test for item in chosen if item.role == role and item.program != "guest"}
        if names:
            # One test: the program runs it alone.
            only = pattern or (tests.pop() if len(tests) == 1 else "")
            config.stash[GUESTS][role] = Guest(role, list(names), only)


def pytest_unconfigure(config: pytest.Config) -> None:
    """No guest outlives the run."""
    for guest in config.stash.get(GUESTS, {}).values():
        guest.stop()


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """The line that closes every run of ours."""
    count = {name: len(terminalreporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
    terminalreporter.write_line(f"{count['passed']} passed, {count['failed'] + count['error']} failed, "
                                f"{count['skipped']} skipped")
