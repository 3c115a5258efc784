# SPDX-License-Identifier: GPL-2.0-only
"""What Debian tests of packages."""
from __future__ import annotations

import shutil
from pathlib import Path

from runner.archive import root_cached
from runner.machine import BUILD, LOGS, TESTS, run, source_copy
from runner.root import Root
from runner.session import Session


def test_autopkgtest(ours: Session) -> None:
    """debian/tests on the packages, and the test of Debian's for all packages of modules."""
    root = Root.of_role("6.12", "autopkgtest")
    with root.opened() as layer:
        source_copy(layer / "tmp/source")
        shutil.copytree(ours.deb.parent, layer / "tmp/debs", ignore=lambda _, names: {"deb", "tools"} & set(names))
        root.sh("/tmp/source/tests/all/autopkgtest /tmp/source /tmp/debs", log=LOGS / "autopkgtest.log")


def test_piuparts(ours: Session, tmp_path: Path) -> None:
    """Purging the packages leaves nothing, in a chroot that has a kernel."""
    # What makes dkms's dots, a "sleep 3", may outlive it.
    for step in ("install", "remove"):
        (tmp_path / f"post_{step}_wait").write_text("#!/bin/sh\nsleep 4\n")
        (tmp_path / f"post_{step}_wait").chmod(0o755)
    run("piuparts", "--existing-chroot", root_cached("6.12"), "--distribution", "trixie", "--keep-sources-list",
        "--no-eatmydata", "--no-adequate", "--tmpdir", BUILD, "--scriptsdir", tmp_path,
        *ours.deb.parent.glob("*.deb"), log=LOGS / "piuparts.log")


def test_reproducible(tmp_path: Path) -> None:
    """Two builds under different circumstances give the same packages."""
    source_copy(tmp_path / "source")
    run(TESTS / "all/reproducible", tmp_path / "source", tmp_path, log=LOGS / "reproducible.log")
