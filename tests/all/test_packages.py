# SPDX-License-Identifier: GPL-2.0-only
"""The packages on installed systems, upgraded from version 0.1; and what Debian tests of packages."""
from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conftest import ended, expect
from runner.archive import root_cached
from runner.machine import BUILD, LOGS, TESTS, TOP, run, source_copy
from runner.root import Root, example
from runner.session import Session
from runner.system import SystemGuest, install_system

# The steps of tests/all/system
STEPS = ("upgrade", "upgraded", "purge", "purged")


@pytest.fixture(name="old", scope="module")
def fixture_old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of version 0.1, from before debian/changelog began the next."""
    tree, git = tmp_path_factory.mktemp("old"), f"git -c safe.directory=* -C {TOP}"
    commits = run(*git.split(), "log", "--format=%H", "-S(0.2~git)", "--", "debian/changelog").split()
    assert commits, "the history is not here: git fetch --unshallow"
    run("bash", "-o", "pipefail", "-c", f"{git} archive {commits[-1]}^ | tar -x -C {tree}")
    return tree


@pytest.mark.parametrize("role", ["6.1", "6.12"])
def test_system(ours: Session, old: Path, role: str) -> None:
    """With systemd: upgrade version 0.1, which has a device at each boot, then unbind, bind and purge; with reboots."""
    root, log = Root.of_role(role, f"{role}-system"), LOGS / f"{role}-system-install.log"
    run("make", "-C", old, "deb", log=log)
    with root.opened() as layer:
        install_system(root, log)
        for name, debs in (("old", old / "build"), ("new", ours.deb.parent)):
            (layer / "root" / name).mkdir()
            run("sh", "-c", f"cp {debs}/*noiommufd*.deb {layer}/root/{name}")
        shutil.copy(TESTS / "all/system", layer / "usr/local/bin")
        shutil.copy(example(), layer / "usr/local/bin")
        root.sh("""apt-get install -y --no-install-recommends driverctl /root/old/*.deb
            sed -i s/mode=0/mode=1/ /etc/modprobe.d/noiommufd.conf
            echo noiommu-vfio-pci > /etc/driverctl.d/pci-0000:00:05.0""", log=log)
        commands = [word for step in STEPS for word in (f"system {step}", "reboot")][:-1]
        guest = SystemGuest(f"{role}-system-guest", root, "/root", commands, limit=1800)
        said = guest.said()
        expect(not any(status for status, _ in said), "".join(text for status, text in said if status))
        ended(guest)
        assert len(said) == len(commands)


def test_rpm_upgrade(old: Path) -> None:
    """The scriptlets in the order of rpm, from version 0.1 on."""
    root, log = Root.of_role("6.1", "rpm-upgrade"), LOGS / "rpm-upgrade.log"
    with root.opened() as layer:
        source_copy(layer / "tmp/new")
        shutil.copytree(old, layer / "tmp/old")
        root.sh("apt-get update; apt-get install -y --no-install-recommends rpm gcc libc6-dev", log=log)
        for step in ("make -C /tmp/old rpm; rpm -i --nodeps /tmp/old/build/*.rpm; modinfo -k $K noiommufd",
                     "make -C /tmp/new rpm; rpm -U --nodeps /tmp/new/build/*.rpm"):
            root.sh(step, log=log)
        assert root.sh("modinfo -k $K -F version noiommufd").strip() == root.sh("make -s -C /tmp/new version").strip()
        root.sh("grep ^noiommufd: /etc/group; rpm -e $(rpm -qa '*noiommufd*')", log=log)
        assert not root.left()


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
