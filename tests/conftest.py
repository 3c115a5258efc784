# SPDX-License-Identifier: GPL-2.0-only
"""The tests as pytest's items: one a TEST() of a guest's program and kernel, a KUnit case, a function here.

    tests/run -m pytest --kernel 6.1 -k bind guest/suite

Nothing is prepared but for the tests that are selected: a guest runs the
programs that these are of, and has some more that concern it as a whole.
"""
from __future__ import annotations

import collections
import fnmatch
import re
from pathlib import Path
from typing import Any, Iterator

import pytest
from _pytest.terminal import TerminalReporter

from runner import conformance, kunit, record, selftests
from runner.archive import guest_role, kernel_resolve, roles
from runner.guest import Guest, log_trouble
from runner.kernels import Build, built_check, debug_kernel
from runner.ktap import Result
from runner.machine import GUEST, Failed
from runner.root import PackageRoot, pattern
from runner.session import OWN_GUEST, SMOKE, Session

TEST = re.compile(r"^TEST(?:_LIMIT)?\((\w+)", re.M)
# What a guest gives beside the tests of the suite
FRAMES = {"guest-load": "load", "example": "example", "guest-unload": "unload"}
WHOLE = ("programs", "on_disk", "end", "log")
SESSION = pytest.StashKey[Session]()
# Of a kernel between those that have all: programs whose answers lie with compat/ or with vfio-pci-core.
DIFFERS = ("nodes", "bind", "pa", "file", "irq", "region", "feature", "hot_reset", "conformance", "unload", "lockdown")


def order() -> dict[str, tuple[int, str]]:
    """Programs by their place in the suite, and the role whose kernel alone runs them."""
    rows = [line.split() for line in (GUEST / "suite/order").read_text().splitlines() if line and line[0] != "#"]
    return {row[0]: (place, row[1] if len(row) > 1 else "") for place, row in enumerate(rows)}


def told_by(path: Path) -> tuple[str, list[str]]:
    """A program that guests of the suite run, and its tests, by the file that tells of them."""
    if path == conformance.SOURCE / "mainline-7.3.txt":
        return "conformance", list(conformance.Record().groups)
    if path == selftests.SOURCE / "noiommu_cdev.c":
        return "noiommu_cdev", selftests.names()
    return path.stem, TEST.findall(path.read_text())


def init_tries(function: str, enforced: bool, leaks: bool) -> list[str]:
    """The results of a function of the guests' init: some are there where the kernel takes signed modules only,
    some where it looks for leaks."""
    found = re.search(rf"^{function}\(\)\n{{\n(.*?)^}}", (GUEST / "init").read_text(), re.M | re.S)
    assert found
    tries = re.findall(r'^(\t+)(\[ \$more)?.*?\btry "([^"]*)"', found[1], re.M)
    return [name for tabs, leak, name in tries if (enforced or tabs == "\t") and (leaks or not leak)]


def fits(pattern: str, program: str, test: str) -> bool:
    """TESTS: a glob on "program.test", "program" or "test"."""
    return not pattern or any(fnmatch.fnmatchcase(name, pattern) for name in (f"{program}.{test}", program, test))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of make."""
    group = parser.getgroup("noiommufd")
    group.addoption("--kernel", default="", help="roles of tests/guest/kernels, separated by blanks (default: 6.1, "
                    "with --daily all of use guest, and debug); debug: a kernel that looks for mistakes")
    group.addoption("--tests", default="", help='a glob on "program.test", "program" or "test"')
    group.addoption("--package", action="store_true", help="the modules are those of our package, built by DKMS")
    group.addoption("--daily", action="store_true", help="leave to make check-all what need not be run each day")
    group.addoption("--kdir", default="", help="a prepared build tree, whose kernel runs the suite")
    group.addoption("--image", default="", help="its bzImage, if that is not where the build leaves it")


def pytest_cmdline_main(config: pytest.Config) -> None:
    """Say what is wrong before any work."""
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
    """What this run makes; with pytest-xdist, one process has all of a group."""
    option = config.option
    if getattr(option, "dist", "no") != "no":
        option.dist = "loadgroup"
    # For workers, who read the command line anew
    option.loadgroup = True
    config.stash[SESSION] = Session(option.package, option.daily, option.tests, option.kdir, option.image)


class GuestItem(pytest.Item):
    """A result that a guest gives."""

    def __init__(self, *, role: str, kind: str, program: str, test: str, **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.role, self.kind, self.program, self.test = role, kind, program, test
        if kind != "kunit":
            self.user_properties.append(("role", role))
        self.add_marker(pytest.mark.xdist_group("kunit" if kind == "kunit" else role))

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
        if self.test == "programs":
            faults = [f"{name}: {fault}" for name in guest.spec.frames for fault in guest.program(name).faults]
            # The items are of the results that were foreseen.
            faults += [f"{name}: {result.name}: {result.why}" for name in FRAMES if name in guest.frames.programs
                       for result in guest.program(name).results.values() if not result.passed]
            expect(not faults, "\n".join(faults))
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
    """Fail with what the guest said, which a traceback of ours adds nothing to."""
    if not good:
        pytest.fail(why, pytrace=False)


def judge(result: Result) -> None:
    """Pass, fail or skip as the program did."""
    if result.skip:
        pytest.skip(result.why)
    expect(result.passed, "\n".join([f"{result.name}: {result.why}", *result.lines]))


def ended(guest: Guest, since: str = "") -> None:
    """It came to its end, and its kernel's log has no trouble from these words on."""
    guest.end()
    expect(guest.status == 0 and not guest.why, guest.last_words())
    no_trouble(guest, since)


def no_trouble(guest: Guest, since: str = "") -> None:
    """In its kernel's log, from these words on."""
    log = guest.log().partition(since)[2] if since else guest.log()
    expect(bool(log), f"the kernel's log has nothing{f' after {since!r}' if since else ''}, see {guest.console}")
    trouble = log_trouble(log)
    expect(not trouble, f"the kernel's log has trouble, see {guest.console}\n{trouble}")


class OurFile(pytest.File):
    """A file that says what tests there are."""

    def items(self, role: str, kind: str, program: str, tests: list[str] | tuple[str, ...],
              of: type[GuestItem] = GuestItem) -> Iterator[GuestItem]:
        """Those of a guest that TESTS does not leave out."""
        for test in tests:
            if kind not in ("suite", *OWN_GUEST, "kunit") or program in WHOLES or \
                    fits(self.config.getoption("--tests"), program, test):
                item = of.from_parent(self, name=f"{program}.{test}[{role}{'' if kind == 'suite' else '-' + kind}]",
                                      role=role, kind=kind, program=program, test=test)
                if program in WHOLES:
                    self.config.stash[SESSION].wholes.append(item)
                yield item

    def kinds(self) -> Iterator[tuple[str, str]]:
        """The roles and kinds of guests."""
        session = self.config.stash[SESSION]
        for role in self.config.getoption("--kernel").split():
            yield role, "suite"
            if in_part(self.config, role):
                kinds = []
            else:
                kinds = ["suspend"] if role in ("debug", "kdir") else list(OWN_GUEST)
            yield from ((role, kind) for kind in kinds)
            for second in roles(f"beside:{role}") if session.package else ():
                if fits(session.tests, "package", f"second_kernel_{second}"):
                    yield role, second


def in_part(config: pytest.Config, role: str) -> bool:
    """Of this kernel, a part is enough: it is between those that have all."""
    between = config.getoption("--kernel").split()[1:]
    return bool(config.getoption("--daily")) and role in between and role not in ("newest", "debug")


class SuiteFile(OurFile):
    """A program of the suite."""

    def collect(self) -> Iterator[GuestItem]:
        program, tests = told_by(self.path)
        only = order().get(program, (0, ""))[1]
        for role, kind in self.kinds():
            if kind in OWN_GUEST:
                wanted = OWN_GUEST.get(program) == kind
            elif kind != "suite":
                wanted = program in SMOKE
            else:
                wanted = program not in OWN_GUEST and only in ("", role) and \
                    (program in DIFFERS or not in_part(self.config, role))
            if wanted:
                yield from self.items(role, kind, program, tests)


class InitFile(OurFile):
    """Init stands for its guests, which are left out where no program is selected."""

    def collect(self) -> Iterator[GuestItem]:
        for role, kind in self.kinds():
            for frame, function in FRAMES.items():
                if frame != "example" or kind == "suite":
                    tests = init_tries(function, role == "debug", role == "debug" and kind == "suite")
                    yield from self.items(role, kind, frame, tests)
            whole = [test for test in WHOLE if test != "on_disk" or kind == "suite"]
            yield from self.items(role, kind, "guest", whole, WholeItem)


class KunitItem(GuestItem):
    """A case of a KUnit suite; of program "kunit", what concerns all of them."""

    def runtest(self) -> None:
        found = self.config.stash[SESSION].kunit(self.role)
        if self.program == "kunit":
            expect(not found.faults, "\n".join(found.faults))
            return
        name = f"{self.program}.{self.test}"
        expect(name in found.results, f"{name}: it did not run; {(found.faults or ['nothing says why'])[0]}")
        judge(found.results[name])


class KunitFile(OurFile):
    """The suites of a file, on the source of each kernel, of which flavours are, and as modules."""

    def collect(self) -> Iterator[GuestItem]:
        sources = [role for role in self.config.getoption("--kernel").split() if role != "debug" and "-" not in role]
        # One is enough where the code is the same.
        for role in [*(sources[:1] if self.config.getoption("--daily") else sources), "guest"]:
            for suite, test in (name.split(".") for name in kunit.cases(self.path)):
                yield from self.items(role, "kunit", suite, [test], KunitItem)
            # Once, and whatever is selected
            if self.path.name == "swpt_test.c":
                yield from self.items(role, "kunit", "kunit", ["all"], KunitItem)


# Programs whose items come with any others of their guest
WHOLES = ("guest", "kunit", *FRAMES)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """The C files of the suite, and what else says what tests there are."""
    found: type[OurFile] | None = None
    if file_path.parent == GUEST / "suite" and file_path.suffix == ".c" and file_path.stem != "harness" or \
            file_path in (conformance.SOURCE / "mainline-7.3.txt", selftests.SOURCE / "noiommu_cdev.c"):
        found = SuiteFile
    elif file_path == GUEST / "init":
        found = InitFile
    elif file_path.parent == kunit.KUNIT and file_path.name.endswith("_test.c") and \
            not parent.config.getoption("--kdir"):
        found = KunitFile
    return found.from_parent(parent, path=file_path) if found else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is there for each role that has our package: fixture package; and beside it: second."""
    option, asked = metafunc.config.option, metafunc.fixturenames
    names = [role for role in option.kernel.split() if option.package and role not in ("debug", "kdir")]
    if "second" in asked:
        metafunc.parametrize("package, second", [pytest.param(role, second, id=second,
                                                              marks=pytest.mark.xdist_group(role))
                                                 for role in names for second in roles(f"beside:{role}")],
                             indirect=["package"])
    elif "package" in asked:
        metafunc.parametrize("package", [pytest.param(role, marks=pytest.mark.xdist_group(role)) for role in names],
                             indirect=True)
    for fixture, there in {"deb": option.package, "first": names, "prebuilt": "6.12" in names}.items():
        if fixture in asked and not there:
            metafunc.parametrize(fixture, [])


@pytest.fixture(scope="session")
def first(pytestconfig: pytest.Config) -> str:
    """The role on whose root file system that is tested which needs one of them."""
    return str(next(role for role in pytestconfig.getoption("--kernel").split() if role != "debug"))


@pytest.fixture(scope="session")
def deb(pytestconfig: pytest.Config) -> Path:
    """Our package."""
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
    """The debug kernel; what asks for it is left out where that is not among the roles."""
    request.node.user_properties.append(("role", "debug"))
    return debug_kernel()


@pytest.fixture(scope="session")
def ours(pytestconfig: pytest.Config) -> Session:
    """What the run has made."""
    return pytestconfig.stash[SESSION]


def of_ours(item: pytest.Item, tests: str) -> bool:
    """A function here has the name of its file and its own, less "test_", of a program and a test."""
    if isinstance(item, GuestItem):
        return True
    name, _, parameter = item.name.removeprefix("test_").removesuffix("]").partition("[")
    # Nothing has what it tests.
    if any("empty parameter set" in mark.kwargs.get("reason", "") for mark in item.iter_markers("skip")):
        return False
    program = item.path.stem.removeprefix("test_")
    if "debug" in getattr(item, "fixturenames", ()) and "debug" not in item.config.getoption("--kernel").split():
        return False
    return fits(tests, program, name) or bool(parameter) and fits(tests, program, f"{name}_{parameter}")


@pytest.hookimpl(trylast=True)  # type: ignore[misc]
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """By guest, and in it in the order in which the programs run; a guest that has nothing to run is left out."""
    session, places = config.stash[SESSION], order()
    last = places["unload"][0]
    # What takes longest comes first.
    groups = ["debug", *config.getoption("--kernel").split(), "guest"]
    ends = ["lockdown", "example", "guest-unload", "guest", "kunit"]
    # Whatever else is left out (-k, --lf), what concerns a guest as a whole is not.
    guests = [item for item in items if isinstance(item, GuestItem) and item.program not in WHOLES] + session.wholes
    guests.sort(key=lambda item: (item.kind == "kunit", groups.index(item.role), item.kind != "suite", item.kind,
                                  ends.index(item.program) + last + 1 if item.program in ends else
                                  -1 if item.program == "guest-load" else places.get(item.program, (last - 0.5,))[0]))
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
        # The program runs it alone.
        session.tests = tests[0]
    items[:] = [*chosen, *others]


@pytest.hookimpl(optionalhook=True)  # type: ignore[misc]
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """A worker cannot say this itself."""
    if node.config.option.tests and not ids:
        raise pytest.UsageError(f"no test fits '{node.config.option.tests}'")


def results(reporter: TerminalReporter) -> Iterator[tuple[str, dict[str, object]]]:
    """passed, failed or skipped, and the properties of the test."""
    for word in ("passed", "failed", "error", "skipped"):
        for report in reporter.stats.get(word, []):
            yield word.replace("error", "failed"), dict(getattr(report, "user_properties", []))


def pytest_terminal_summary(terminalreporter: TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """How long the parts took; rows for docs/kernels.md, of kernels whose part was done from end to end."""
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
    """Nothing outlives the run, and the sum closes it."""
    if SESSION in config.stash:
        config.stash[SESSION].close()
    if (reporter := config.pluginmanager.get_plugin("terminalreporter")) and not hasattr(config, "workerinput"):
        words = [word for word, _ in results(reporter)]
        print(", ".join(f"{words.count(word)} {word}" for word in ("passed", "failed", "skipped")), flush=True)
