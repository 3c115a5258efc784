# SPDX-License-Identifier: GPL-2.0-only
"""Our modules, built for the debug kernel and as a part of it."""
from __future__ import annotations

import re

import pytest

from runner.kernels import Build, BuiltRoot, log_no_warnings, source
from runner.machine import BUILD, JOBS, LOGS, TESTS, remove, run
from runner.session import Session


@pytest.mark.xdist_group("debug")
def test_modules(debug: Build, ours: Session) -> None:
    """The modules are built without a warning."""
    assert len(ours.root("debug").modules()) == 2


@pytest.mark.xdist_group("debug")
def test_modules_to_refuse(debug: Build, ours: Session) -> None:
    root = ours.root("debug")
    assert isinstance(root, BuiltRoot) and all(path.exists() for path in root.refused_modules().values())


@pytest.mark.xdist_group("checks")
def test_in_tree(debug: Build) -> None:
    """noiommufd is built as a part of the kernel, built in and as modules."""
    work, log = BUILD / "in-tree", LOGS / "in-tree.log"
    ours, config = work / "drivers/noiommufd", ("--file", work / ".config")
    with source("6.12") as tree:
        run(TESTS / "kunit/link-into-tree", tree)
        remove(work)
        run("cp", "-a", debug.kdir, work)
        make = ("make", "-s", "-C", tree, f"O={work}")
        for how in "ym":
            why = f"with NOIOMMUFD={how} it cannot be built: see {log}"
            run(tree / "scripts/config", *config, "--set-val", "NOIOMMUFD", how, "--set-val", "NOIOMMU_VFIO_PCI", how)
            for target in (("olddefconfig",), (JOBS, "W=1", "drivers/noiommufd/")):
                run(*make, *target, log=log, why=why)
                log_no_warnings(log)
            if how == "y":
                assert re.search(r"\bnoiommufd_ctx_from_fd\b", run("nm", ours / "built-in.a")), "it is not in there"
            else:
                assert "drivers/noiommufd/noiommu-vfio-pci.o" in (ours / "modules.order").read_text().splitlines()
        # Ours may be built in along with the kernel's iommufd: all/test_vmlinux.py checks that vmlinux links.
        enable = ("IOMMU_SUPPORT", "IOMMUFD", "NOIOMMUFD", "NOIOMMUFD_KUNIT_TEST")
        run(tree / "scripts/config", *config, *(word for name in enable for word in ("--enable", name)))
        run(*make, "olddefconfig", log=log)
    said = re.findall(r"^CONFIG_(\w*IOMMUFD.*=.*)", (work / ".config").read_text(), re.M)
    assert {"IOMMUFD=y", "NOIOMMUFD=y"} <= set(said)
    remove(work)
