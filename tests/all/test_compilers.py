# SPDX-License-Identifier: GPL-2.0-only
"""Each compiler builds the modules with W=1 and without a warning.

They are built for one kernel source (role 6.12, debug.config), which the same compiler configures and prepares first;
and by a cross compiler for Debian's kernel of its architecture. The compilers are those of Debian sid, and gcc 10 of
bullseye.
"""
from __future__ import annotations

import shutil
from pathlib import Path
from typing import Iterator

import pytest

from runner import record
from runner.archive import source_line
from runner.kernels import Build, debug_kernel, log_no_warnings, source_tree
from runner.machine import LOGS, TESTS, TOP, Failed, remove, run
from runner.root import Root

COMPILERS = [*(f"gcc-{version}" for version in range(10, 17)), "clang"]
PACKAGES = "gcc libc6-dev bc bison flex libelf-dev libssl-dev make python3"
# clang gives other names to gcov's counters.
PREPARE = """/tree/scripts/config --file $OUT/.config --disable GCOV_KERNEL
    make -s -C /tree O=$OUT CC=$CC olddefconfig
    make -s -C /tree O=$OUT CC=$CC -j$(nproc) modules_prepare"""


@pytest.fixture(scope="module", name="build")
def debug_build() -> Build:
    """The debug kernel, whose configuration is used."""
    return debug_kernel()


@pytest.fixture(scope="module", name="root")
def sid(build: Build) -> Iterator[Root]:
    """A root of Debian sid, with the kernel source in /tree and this tree under the same path as here."""
    root = Root.of_role("newest", "compilers")
    with root.opened() as path:
        (path / "etc/apt/sources.list.d/bullseye.list").write_text(source_line("bullseye") + "\n")
        root.sh(f"apt-get update; apt-get install -y --no-install-recommends {PACKAGES}", log=LOGS / "compilers.log")
        # A layer over the source, since other runs may change its links to our files meanwhile
        layer = path.parent / "tree"
        for place in (path / "tree", path / str(TOP)[1:], layer / "upper", layer / "work"):
            place.mkdir(parents=True)
        run("mount", "-t", "overlay", "-o", f"lowerdir={source_tree('6.12')},upperdir={layer}/upper,"
            f"workdir={layer}/work", "overlay", path / "tree")
        remove(path / "tree/drivers/noiommufd")
        run(TESTS / "kunit/link-into-tree", path / "tree")
        run("mount", "--bind", TOP, path / str(TOP)[1:])
        yield root


def modules(root: Root, begin: str, out: str, log: Path, variables: str) -> None:
    """Build the modules, and record the result."""
    said = "built, no warning"
    try:
        root.sh(f"make -C {TOP} modules OUT={out}/modules {variables} W=1", log=log)
        log_no_warnings(log)
    except Failed as error:
        said = str(error)
        raise
    finally:
        record.row(f"{begin} {record.compiler_of(root.path / out[1:] / 'modules/noiommufd.ko')} |", said)


@pytest.mark.parametrize("cc", COMPILERS)
def test_prepared_by(root: Root, build: Build, cc: str) -> None:
    """Build for a kernel that this compiler prepared, as its users would."""
    out, log = f"/tmp/out-{cc}", LOGS / f"compiler-{cc}.log"
    lld = "lld" if cc == "clang" else ""
    root.sh(f"apt-get install -y --no-install-recommends {cc} {lld}", log=log)
    (root.path / out[1:]).mkdir()
    shutil.copy(build.kdir / ".config", root.path / out[1:])
    begin = f"| {build.kver} | built here | build tree prepared by {cc}, not booted |"
    try:
        root.sh(f"OUT={out} CC={cc}\n{PREPARE}", log=log)
    except Failed:
        record.row(f"{begin} none, it was not built |", f"the kernel tree cannot be prepared by {cc}: see {log}")
        raise
    shutil.copy(build.kdir / "Module.symvers", root.path / out[1:])
    modules(root, begin, out, log, f"KDIR={out} CC={cc}")


def test_arm64(root: Root) -> None:
    """Build against Debian's headers for another architecture."""
    log = LOGS / "compiler-arm64.log"
    headers = root.sh("""dpkg --add-architecture arm64 && apt-get update > /dev/null
        apt-get install -y --no-install-recommends linux-headers-arm64:arm64 > /dev/null
        echo /usr/src/linux-headers-*-arm64""", log=log).splitlines()[-1]
    modules(root, f"| {headers.partition('linux-headers-')[2]} | arm64 | headers, cross build, not booted |",
            "/tmp/out-arm64", log, f"KDIR={headers} ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu-")
