# SPDX-License-Identifier: GPL-2.0-only
"""The tests as pytest's items: one for each TEST() of a guest program on each kernel, each KUnit case, and each
function here.

    tests/run -m pytest --kernel 6.1 -k bind guest/suite

Only what the selected tests need is prepared: a guest runs the programs that
have these tests, and there are a few more tests of the guest as a whole.
"""
from __future__ import annotations

import collections
import fnmatch
import re
from pathlib import Path
from typing import Any, Iterable, Iterator

import pytest
from _pytest.terminal import TerminalReporter

from runner import conformance, kunit, record, selftests
from runner.archive import guest_role, kernel_resolve, roles
from runner.guest import Guest, log_trouble
from runner.kernels import Build, built_check, debug_kernel
from runner.ktap import Result
from runner.machine import GUEST, Failed, table
from runner.root import PackageRoot, pattern
from runner.session import OWN_GUEST, SMOKE, Session

TEST = re.compile(r"^TEST(?:_LIMIT)?\((\w+)", re.M)
# The results that a guest gives besides those of the suite
FRAMES = {"guest-load": "load", "example": "example", "guest-unload": "unload"}
WHOLE = ("programs", "on_disk", "end", "log")
SESSION = pytest.StashKey[Session]()
# What to run on a kernel between those that run all: programs whose results depend on compat/ or on vfio-pci-core.
DIFFERS = ("nodes", "bind", "pa", "file", "irq", "region", "feature", "hot_reset", "conformance", "unload", "lockdown")


def order() -> dict[str, tuple[int, str]]:
    """The place of each program in the suite, and the role if only that kernel runs it."""
    rows = [line.split() for line in table(GUEST / "suite/order")]
    return {program: (place, only[0] if only else "") for place, (program, *only) in enumerate(rows)}


def told_by(path: Path) -> tuple[str, list[str]]:
    """The program of the guest suite that a file defines, and the names of its tests."""
    if path == conformance.SOURCE / "mainline-7.3.txt":
        return "conformance", list(conformance.Record().groups)
    if path == selftests.SOURCE / "noiommu_cdev.c":
        return "noiommu_cdev", selftests.names()
    return path.stem, TEST.findall(path.read_text())


def init_tries(function: str, enforced: bool, leaks: bool) -> list[str]:
    """The names of the results that a function of the guests' init gives. Some are given only if the kernel enforces
    module signatures, some only if it looks for leaks."""
    found = re.search(rf"^{function}\(\)\n{{\n(.*?)^}}", (GUEST / "init").read_text(), re.M | re.S)
    assert found
    tries = re.findall(r'^(\t+)(\[ \$more)?.*?\btry "([^"]*)"', found[1], re.M)
    return [name for tabs, leak, name in tries if (enforced or tabs == "\t") and (leaks or not leak)]


def fits(pattern: str, program: str, test: str) -> bool:
    """Does a test match TESTS, a glob on "program.test", "program" or "test"?"""
    return not pattern or any(fnmatch.fnmatchcase(name, pattern) for name in (f"{program}.{test}", program, test))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that make passes on."""
    group = parser.getgroup("noiommufd")
    group.addoption("--kernel", default="", help="roles of tests/guest/kernels, separated by blanks (default: 6.1, "
                    "with --daily all of use guest, and debug); debug: a kernel that looks for mistakes")
    group.addoption("--tests", default="", help='a glob on "program.test", "program" or "test"')
    group.addoption("--package", action="store_true", help="the modules are those of our package, built by DKMS")
    group.addoption("--daily", action="store_true", help="leave to make check-all what need not be run each day")
    group.addoption("--kdir", default="", help="a prepared build tree, whose kernel runs the suite")
    group.addoption("--image", default="", help="its bzImage, if that is not where the build leaves it")


def pytest_cmdline_main(config: pytest.Config) -> None:
    """Report errors in the options before any work is done."""
    option = config.option
    try:
        if option.kdir:
            built_check(option.kdir, option.image)
        first, *more = roles("guest")
        # What takes longest comes first.
        day = " ".join([first, *reversed(more), "debug"])
        option.kernel = "kdir" if option.kdir else option.kernel or (day if option.daily else first)
        for role in () if option.kdir else option.kernel.split():
            guest_role(role, "debug")
            if role != "debug" and not option.collectonly:
                kernel_resolve(role)
    except Failed as error:
        raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(tryfirst=True)  # type: ignore[misc]
def pytest_configure(config: pytest.Config) -> None:
    """Prepare the session of this run; with pytest-xdist, one worker gets all tests of a group."""
    option = config.option
    if getattr(option, "dist", "no") != "no":
        option.dist = "loadgroup"
    # For workers, which parse the command line again
    option.loadgroup = True
    config.stash[SESSION] = Session(option.package, option.daily, option.tests, option.kdir, option.image)


class GuestItem(pytest.Item):
    """A test whose result a guest gives, or KUnit for one of its cases."""

    def __init__(self, *, role: str, kind: str, program: str, test: str, **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.role, self.kind, self.program, self.test = role, kind, program, test
        if kind != "kunit":
            self.user_properties.append(("role", role))
        self.add_marker(pytest.mark.xdist_group("kunit" if kind == "kunit" else role))

    def runtest(self) -> None:
        """Wait for the result and report it."""
        ours = self.config.stash[SESSION]
        of: Any = ours.kunit(self.role) if self.kind == "kunit" else ours.guest(self.role, self.kind)
        judge(of.result(self.program, self.test))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """Show what the guest printed, without a traceback."""
        if excinfo.errisinstance((Failed, pytest.fail.Exception)):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        """The file, and the test's name as the program prints it."""
        return self.path, 0, f"{self.program}.{self.test} [{self.role}]"


class WholeItem(GuestItem):
    """A test of a guest as a whole, or of all KUnit suites."""

    def runtest(self) -> None:
        if self.kind == "kunit":
            faults = self.config.stash[SESSION].kunit(self.role).faults
            expect(not faults, "\n".join(faults))
            return
        guest = self.config.stash[SESSION].guest(self.role, self.kind)
        guest.end()
        if self.test == "programs":
            # Items exist only for the results that were expected; there may be others.
            no_faults(guest, guest.spec.frames, [name for name in FRAMES if name in guest.frames.programs])
        elif self.test == "on_disk":
            with open(guest.dir / "disk", "rb") as disk:
                good = disk.read(16 << 20) == pattern(7, 16 << 20)
            expect(good, "the namespace's file does not hold what examples/nvme says it wrote")
        elif self.test == "end":
            expect(guest.status == 0 and not guest.why, guest.last_words())
        else:
            self.user_properties.append(("row", record.facts(self.role, self.kind, guest.root)))
            no_trouble(guest)


def expect(good: bool, why: str) -> None:
    """Fail unless good, with what the guest printed: a traceback of ours would add nothing."""
    if not good:
        pytest.fail(why, pytrace=False)


def judge(result: Result) -> None:
    """Pass, fail or skip as the program did."""
    if result.skip:
        pytest.skip(result.why)
    expect(result.passed, "\n".join([f"{result.name}: {result.why}", *result.lines]))


def no_faults(guest: Guest, programs: Iterable[str], all_pass: Iterable[str] = ()) -> None:
    """Fail unless these programs of a guest came to their ends, and all tests of some of them passed."""
    wrong = [f"{name}: {fault}" for name in programs for fault in guest.program(name).faults]
    wrong += [f"{name}: {result.name}: {result.why}" for name in all_pass
              for result in guest.program(name).results.values() if result.skip or not result.passed]
    expect(not wrong, "\n".join(wrong))


def ended(guest: Guest, since: str = "") -> None:
    """Wait for a guest to end; fail unless it ended as planned, with no trouble in its kernel's log after since."""
    guest.end()
    expect(guest.status == 0 and not guest.why, guest.last_words())
    no_trouble(guest, since)


def no_trouble(guest: Guest, since: str = "") -> None:
    """Fail if a guest's kernel logged trouble, or nothing, after the words since."""
    log = guest.log().partition(since)[2] if since else guest.log()
    expect(bool(log), f"the kernel's log has nothing{f' after {since!r}' if since else ''}, see {guest.console}")
    trouble = log_trouble(log)
    expect(not trouble, f"the kernel's log has trouble, see {guest.console}\n{trouble}")


# Programs whose items are selected along with any other item of their guest
WHOLES = ("guest", "kunit", *FRAMES)


def in_part(config: pytest.Config, role: str) -> bool:
    """Is a part of the suite enough on this kernel, since it is between those that run all?"""
    between = config.getoption("--kernel").split()[1:]
    return bool(config.getoption("--daily")) and role in between and role not in ("newest", "debug")


class OurFile(pytest.File):
    """A file that defines tests: a program of the suite, init for the guests themselves, KUnit suites."""

    def kinds(self) -> Iterator[tuple[str, str]]:
        """The roles and kinds of guests that run the file's tests."""
        session, names = self.config.stash[SESSION], self.config.getoption("--kernel").split()
        if self.path.parent == kunit.KUNIT:
            # On the source of each kernel (a flavour has the same source), or of one with --daily; and as modules in a
            # guest.
            sources = [role for role in names if role != "debug" and "-" not in role]
            names = []
            yield from ((role, "kunit") for role in [*sources[:1 if session.daily else None], "guest"])
        for role in names:
            yield role, "suite"
            for kind in sorted({*OWN_GUEST.values()}) if not in_part(self.config, role) else ():
                if kind == "suspend" or role not in ("debug", "kdir"):
                    yield role, kind
            for second in roles(f"beside:{role}") if session.package else ():
                if fits(session.tests, "package", f"second_kernel_{second}"):
                    yield role, second

    def programs(self, role: str, kind: str) -> Iterator[tuple[str, list[str]]]:
        """The programs of the file that such a guest runs, and their tests."""
        if kind == "kunit":
            yield from ((suite, [test]) for suite, test in (name.split(".") for name in kunit.cases(self.path)))
            # Only once, whatever is selected
            if self.path.name == "swpt_test.c":
                yield "kunit", ["all"]
        elif self.path == GUEST / "init":
            # Init stands for the guests, which are left out later if no program is selected.
            for frame, function in FRAMES.items():
                if frame != "example" or kind == "suite":
                    yield frame, init_tries(function, role == "debug", role == "debug" and kind == "suite")
            yield "guest", [test for test in WHOLE if test != "on_disk" or kind == "suite"]
        else:
            program, tests = told_by(self.path)
            in_suite = program not in OWN_GUEST and order()[program][1] in ("", role) and \
                (program in DIFFERS or not in_part(self.config, role))
            own = OWN_GUEST.get(program) == kind
            if in_suite if kind == "suite" else own if kind in OWN_GUEST.values() else program in SMOKE:
                yield program, tests

    def collect(self) -> Iterator[GuestItem]:
        """The items of the file's tests that TESTS selects."""
        session = self.config.stash[SESSION]
        for role, kind in self.kinds():
            for program, test in ((program, test) for program, tests in self.programs(role, kind) for test in tests):
                if kind in roles() or program in WHOLES or fits(session.tests, program, test):
                    item = (WholeItem if program in ("guest", "kunit") else GuestItem).from_parent(
                        self, name=f"{program}.{test}[{role}{'' if kind == 'suite' else '-' + kind}]",
                        role=role, kind=kind, program=program, test=test)
                    if program in WHOLES:
                        session.wholes.append(item)
                    yield item


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the C files of the suite, and the other files that define tests."""
    ours = file_path.parent == GUEST / "suite" and file_path.suffix == ".c" and file_path.stem != "harness" or \
        file_path.parent == kunit.KUNIT and file_path.name.endswith("_test.c") and \
        not parent.config.getoption("--kdir") or file_path in (
            GUEST / "init", conformance.SOURCE / "mainline-7.3.txt", selftests.SOURCE / "noiommu_cdev.c")
    return OurFile.from_parent(parent, path=file_path) if ours else None


def packaged(config: pytest.Config) -> list[str]:
    """The roles whose root file systems get our package."""
    return [role for role in config.getoption("--kernel").split()
            if config.getoption("--package") and role not in ("debug", "kdir")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat a test that has the fixture package for each role that gets our package; and if it has second, for each
    kernel that is installed beside that role's."""
    if "package" in metafunc.fixturenames:
        both = "second" in metafunc.fixturenames
        rows = [(role, second) for role in packaged(metafunc.config)
                for second in (roles(f"beside:{role}") if both else [role])]
        metafunc.parametrize("package, second" if both else "package", [
            pytest.param(*row[:1 + both], id=row[1], marks=pytest.mark.xdist_group(row[0])) for row in rows],
            indirect=["package"])


@pytest.fixture(scope="session")
def first(pytestconfig: pytest.Config) -> str:
    """The role whose root file system serves tests that need only one."""
    return str(next(role for role in pytestconfig.getoption("--kernel").split() if role != "debug"))


@pytest.fixture(scope="session")
def deb(pytestconfig: pytest.Config) -> Path:
    """Our package, built."""
    return pytestconfig.stash[SESSION].deb


@pytest.fixture
def package(request: pytest.FixtureRequest) -> PackageRoot:
    """A role's root file system in which our package is installed."""
    request.node.user_properties.append(("role", request.param))
    root = request.config.stash[SESSION].root(request.param)
    assert isinstance(root, PackageRoot)
    return root


@pytest.fixture
def debug(request: pytest.FixtureRequest) -> Build:
    """The debug kernel, built."""
    request.node.user_properties.append(("role", "debug"))
    return debug_kernel()


@pytest.fixture(scope="session")
def ours(pytestconfig: pytest.Config) -> Session:
    """The session of this run, with all that it has made."""
    return pytestconfig.stash[SESSION]


def of_ours(item: pytest.Item, tests: str) -> bool:
    """Is a test function selected by TESTS, and are its fixtures available? Its file's name and its own, without
    "test_", count as those of a program and a test."""
    names, kernels = packaged(item.config), item.config.getoption("--kernel").split()
    lacks = {"debug"} - set(kernels) | ({"prebuilt"} if "6.12" not in names else set()) | \
        ({"deb", "first", "package"} if not names else set())
    name, _, parameter = item.name.removeprefix("test_").removesuffix("]").partition("[")
    program = item.path.stem.removeprefix("test_")
    return not lacks & set(getattr(item, "fixturenames", ())) and not \
        any("empty parameter set" in mark.kwargs.get("reason", "") for mark in item.iter_markers("skip")) and \
        (fits(tests, program, name) or bool(parameter) and fits(tests, program, f"{name}_{parameter}"))


@pytest.hookimpl(trylast=True)  # type: ignore[misc]
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the items by guest, and within a guest by the order in which it runs the programs; leave out a guest that
    has nothing to run."""
    session, places = config.stash[SESSION], order()
    # What takes longest comes first.
    groups = ["debug", *config.getoption("--kernel").split(), "guest"]
    # The tests of a guest as a whole are kept, even if -k or --lf leaves them out.
    guests = [item for item in items if isinstance(item, GuestItem) and item.program not in WHOLES] + session.wholes
    guests.sort(key=lambda item: (item.kind == "kunit", groups.index(item.role), item.kind != "suite", item.kind,
                                  item.kind != "kunit" and places[item.program][0]))
    for item in guests:
        names = session.wanted.setdefault((item.role, item.kind), [])
        if item.program not in (*WHOLES, *names):
            names.append(item.program)

    def has_reason(item: GuestItem) -> bool:
        names = session.wanted[item.role, item.kind]
        return bool(names) and ("lockdown" in names or item.program != "example" and item.test != "on_disk")

    chosen = [item for item in guests if has_reason(item)]
    others = [item for item in items if not isinstance(item, GuestItem) and of_ours(item, session.tests)]
    if session.tests and not chosen and not others and not hasattr(config, "workerinput"):
        raise pytest.UsageError(f"no test fits '{session.tests}'")
    tests = [item.test for item in chosen if item.program not in WHOLES]
    if len(tests) == 1:
        # Have the program run only this test.
        session.tests = tests[0]
    items[:] = [*chosen, *others]


@pytest.hookimpl(optionalhook=True)  # type: ignore[misc]
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Report that no test fits, which a worker cannot do itself."""
    if node.config.option.tests and not ids:
        raise pytest.UsageError(f"no test fits '{node.config.option.tests}'")


def results(reporter: TerminalReporter) -> Iterator[tuple[str, dict[str, object]]]:
    """Of each test, "passed", "failed" or "skipped", and its properties."""
    for word in ("passed", "failed", "error", "skipped"):
        for report in reporter.stats.get(word, []):
            yield word.replace("error", "failed"), dict(getattr(report, "user_properties", []))


def pytest_terminal_summary(terminalreporter: TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Print how long each part took; write rows of docs/kernels.md for the kernels whose tests all ran."""
    found, parts = list(results(terminalreporter)), collections.defaultdict[str, float](float)
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport):
            parts[re.sub(r".*@|::.*|\.(py|c)", "", report.nodeid)] += report.duration
    seconds = sorted(((took, part) for part, took in parts.items()), reverse=True)
    terminalreporter.write_line("seconds: " + ", ".join(f"{part} {took:.0f}" for took, part in seconds))
    if exitstatus > 1 or any(getattr(config.option, name) for name in ("tests", "keyword", "lf", "maxfail")):
        return
    for begin, role in {str(of["row"]): of["role"] for _, of in found if of.get("row")}.items():
        if not in_part(config, str(role)):
            words = [word for word, of in found if of.get("role") == role]
            record.row(begin, ", ".join(f"{words.count(word)} {word}" for word in ("passed", "failed", "skipped")))


@pytest.hookimpl(trylast=True)  # type: ignore[misc]
def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop all guests, and print the totals as the last line."""
    if SESSION in config.stash:
        config.stash[SESSION].close()
    if (reporter := config.pluginmanager.get_plugin("terminalreporter")) and not hasattr(config, "workerinput"):
        words = [word for word, _ in results(reporter)]
        print(", ".join(f"{words.count(word)} {word}" for word in ("passed", "failed", "skipped")), flush=True)
