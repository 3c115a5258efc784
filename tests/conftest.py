# SPDX-License-Identifier: GPL-2.0-only
"""The guest suite as pytest items, one a TEST() of a program and kernel; and KUnit's cases.

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

from runner import kunit
from runner.guest import log_trouble
from runner.ktap import Result
from runner.root import GUEST, Failed
from runner.session import OWN_GUEST, Session

TEST = re.compile(r"^TEST(?:_LIMIT)?\((\w+)", re.M)
WHOLE = ("load", "programs", "unload", "end", "log")
# What concerns a guest, or all suites, as a whole
WHOLES = ("guest", "kunit")
SESSION = pytest.StashKey[Session]()


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
    group.addoption("--package", action="store_true", help="the modules are those of our package, built by DKMS")


def pytest_configure(config: pytest.Config) -> None:
    """What this run makes."""
    config.stash[SESSION] = Session(config.getoption("--package"), config.getoption("--tests"))


class GuestItem(pytest.Item):
    """A result that a guest gives."""

    def __init__(self, *, role: str, kind: str, program: str, test: str, **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.role, self.kind, self.program, self.test = role, kind, program, test
        # With pytest-xdist, one process has all of a role.
        self.add_marker(pytest.mark.xdist_group(role))

    def runtest(self) -> None:
        """Wait for it and pass it on."""
        judge(self.config.stash[SESSION].guest(self.role, self.kind).result(self.program, self.test))

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
        guest = self.config.stash[SESSION].guest(self.role, self.kind)
        guest.end()
        if self.test in ("load", "unload"):
            program = guest.program(f"guest-{self.test}")
            for result in program.results.values():
                judge(result)
            expect(not program.faults, "\n".join(program.faults))
        elif self.test == "programs":
            names = guest.spec.programs + (["example", "lockdown"] if guest.spec.example else [])
            faults = [f"{name}: {fault}" for name in names for fault in guest.program(name).faults]
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
                    yield GuestItem.from_parent(self, name=f"{test}[{role}]", role=role, program=program, test=test,
                                                kind=OWN_GUEST.get(program, "suite"))


class KunitItem(GuestItem):
    """A case of a KUnit suite; of program "kunit", what concerns all of them."""

    def runtest(self) -> None:
        found = self.config.stash[SESSION].kunit(self.role)
        if self.program == "kunit":
            expect(not found.faults, "\n".join(found.faults))
            return
        name = f"{self.program}.{self.test}"
        expect(name in found.results, f"{name}: it did not run" + "".join(f"\n{fault}" for fault in found.faults))
        judge(found.results[name])


class KunitFile(pytest.File):
    """The suites of a file, on the source of each kernel, of which flavours are, and as modules."""

    def collect(self) -> Iterator[GuestItem]:
        roles = [role for role in self.config.getoption("--kernel").split() if role != "debug" and "-" not in role]
        for role in [*roles, "guest"]:
            for suite, test in (name.split(".") for name in kunit.cases(self.path)):
                if fits(self.config.getoption("--tests"), suite, test):
                    yield KunitItem.from_parent(self, name=f"{suite}.{test}[{role}]", role=role, kind="kunit",
                                                program=suite, test=test)
            # Once, and whatever is selected
            if self.path.name == "swpt_test.c":
                yield KunitItem.from_parent(self, name=f"all[{role}]", role=role, kind="kunit", program="kunit",
                                            test="all")


class WholeFile(pytest.File):
    """The order of the suite's programs stands for its guests."""

    def collect(self) -> Iterator[GuestItem]:
        for role in self.config.getoption("--kernel").split():
            for kind in ("suite", *OWN_GUEST.values()):
                for test in WHOLE:
                    yield WholeItem.from_parent(self, name=f"{test}[{role}-{kind}]", role=role, kind=kind,
                                                program="guest", test=test)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """The C files of the suite, and the file that has their order."""
    found: pytest.Collector | None = None
    if file_path.parent == GUEST / "suite" and file_path.stem != "harness":
        if file_path.suffix == ".c":
            found = SuiteFile.from_parent(parent, path=file_path)
        elif file_path.name == "order":
            found = WholeFile.from_parent(parent, path=file_path)
    elif file_path.parent == kunit.KUNIT and file_path.name.endswith("_test.c"):
        found = KunitFile.from_parent(parent, path=file_path)
    return found


@pytest.hookimpl(trylast=True)  # type: ignore[misc]
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """By guest, and in it in the order in which the programs run; a guest that has nothing to run is left out."""
    session, places = config.stash[SESSION], order()
    last = places["unload"][0]
    ours = [item for item in items if isinstance(item, GuestItem)]
    ours.sort(key=lambda item: (item.role, item.kind, item.program in WHOLES, item.program == "lockdown",
                                places.get(item.program, (last - 0.5,))[0]))
    for item in ours:
        names = session.wanted.setdefault((item.role, item.kind), [])
        if item.program not in (*WHOLES, *names):
            names.append(item.program)
    chosen = [item for item in ours if session.wanted[item.role, item.kind]]
    if session.tests and not chosen:
        raise pytest.UsageError(f"no test fits '{session.tests}'")
    tests = [item.test for item in chosen if item.program not in WHOLES]
    if len(tests) == 1:
        # The program runs it alone.
        session.tests = tests[0]
    others: list[pytest.Item] = [item for item in items if not isinstance(item, GuestItem)]
    items[:] = [*others, *chosen]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nothing outlives the run."""
    if SESSION in config.stash:
        config.stash[SESSION].close()


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """The line that closes every run of ours."""
    count = {name: len(terminalreporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
    terminalreporter.write_line(f"{count['passed']} passed, {count['failed'] + count['error']} failed, "
                                f"{count['skipped']} skipped")
