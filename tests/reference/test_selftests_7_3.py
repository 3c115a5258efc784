# SPDX-License-Identifier: GPL-2.0-only
"""Our selftest of the noiommu cdev, and the kernel's own of iommufd and VFIO, on mainline and on ours in one boot.

What passes on mainline has to pass on ours; what does not pass on mainline has a row in the file cannot-run.
"""
from __future__ import annotations

import re
from typing import Iterator

import pytest

from conftest import ended, expect
from runner import selftests
from runner.guest import Guest, Spec
from runner.kernels import reference_root
from runner.machine import tell

# The programs and their arguments; what precedes the dot is the program's file.
PROGRAMS = {"noiommu_cdev": "$edu", "noiommu_cdev.nvme": "$nvme",
            "iommufd": "", "iommufd_fail_nth": "", "vfio_iommufd_setup_test": "$edu",
            "vfio_pci_device_test.edu": "$edu", "vfio_pci_device_test.bridge": "$edu2",
            "vfio_pci_device_test.nvme": "$nvme", "vfio_dma_mapping_test": "$edu", "vfio_dma_mapping_mmio_test": "$edu",
            "vfio_pci_device_init_perf_test": "$devices", "vfio_pci_driver_test": "$edu",
            "vfio_pci_sriov_uapi_test": "$nvme"}
RUN = [f"frame $1/{name} ./{name.partition('.')[0]} {args}\n" for name, args in PROGRAMS.items()]
PLAN = "".join(["first() {\n", *RUN[:2], "}\nrest() {\n", *RUN[2:], "}\n",
                (selftests.SOURCE / "plan-7.3").read_text()])


@pytest.fixture(scope="module", name="guest")
def reference_guest() -> Iterator[Guest]:
    """A guest that ran both, mainline and ours, in one boot, and has ended."""
    root = reference_root()
    files = {"selftests/noiommu_cdev": selftests.build(root.build.kdir), **selftests.kernels_own(root.build.kdir)}
    guest = Guest("selftests", root, Spec(PLAN, [*PROGRAMS], files=files, limit=900))
    guest.end()
    yield guest
    guest.stop()


@pytest.fixture(scope="module", name="sides")
def two_sides(guest: Guest) -> selftests.Sides:
    """The results of mainline and ours, compared."""
    sides = selftests.Sides(guest.frames, (selftests.SOURCE / "cannot-run").read_text())
    tell("\n".join(sides.sums))
    return sides


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(guest: Guest, sides: selftests.Sides, program: str) -> None:
    """Each test of a program that passes on mainline passes on ours."""
    for side in ("mainline", "ours"):
        guest.program(f"{side}/{program}")
    wrong = [line for line in sides.wrong if re.match(rf"{re.escape(program)}[ /]", line)]
    expect(not wrong, "\n".join(wrong))


def test_rows(sides: selftests.Sides) -> None:
    """Each row of cannot-run is needed, and something passed."""
    wrong = [line for line in sides.wrong if re.match("the row|no selftest", line)]
    expect(not wrong, "\n".join(wrong))


def test_end(guest: Guest) -> None:
    """The guest ended without trouble in its log; warnings from before ours ran are mainline's."""
    ended(guest, "guest: ours starts")
