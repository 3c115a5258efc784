# SPDX-License-Identifier: GPL-2.0-only
"""Every ioctl, on mainline's noiommu cdev and on ours, in one boot of Linux 7.3.

The program conformance is compared with the record, mainline-7.3.txt, with which the stock kernels are compared. If
mainline has changed, its frame in build/logs/conformance.out is the new record. Then programs of the guest suite run:
twins, on one device of mainline's and one of ours; and those about devices, on mainline's, on ours, and on both.
"""
from __future__ import annotations

from typing import Iterator

import pytest

from conftest import ended, judge, no_faults, told_by
from runner import conformance
from runner.guest import Guest, Spec
from runner.kernels import reference_root
from runner.machine import GUEST

DRIVERS = ("vfio-pci", "noiommu-vfio-pci")
# The driver of the device, and the program. Suspend runs last.
PROGRAMS = [(driver, program) for driver in DRIVERS
            for program in ("irq", "region", "feature", "library", "hot_reset", "removal", "kinds")] + \
           [("vfio-pci", "mainline"), ("noiommu-vfio-pci", "beside"), *((driver, "suspend") for driver in DRIVERS)]
FRAMES = ["conformance-mainline", "conformance-ours", "twins", *("-".join(row) for row in PROGRAMS)]
PLAN = (conformance.SOURCE / "plan-7.3").read_text() + "".join(f"suite {' '.join(row)}\n" for row in PROGRAMS)


def suite(program: str) -> list[str]:
    """The names of a program's tests."""
    return told_by(GUEST / f"suite/{program}.c")[1]


RESULTS = [(frame, group) for frame in FRAMES[:2] for group in conformance.Record().groups] + \
    [("twins", test) for test in suite("twins")] + \
    [(f"{driver}-{program}", f"{program}.{test}") for driver, program in PROGRAMS for test in suite(program)]


@pytest.fixture(scope="module", name="guest")
def reference_guest() -> Iterator[Guest]:
    """A guest that runs both, mainline and ours, in one boot."""
    root = reference_root()
    # The twins of the edu device and of the network card
    devices = f"""-device edu,bus=pcie.0,addr=0x10,dma_mask=0xffffffffffffffff -netdev user,id=twin,restrict=on
        -device rtl8139,bus=pcie.0,addr=0x11,netdev=twin,mac=52:54:00:12:34:56,romfile={root.dir}/conformance/rom"""
    guest = Guest("conformance", root, Spec(PLAN, FRAMES, files=conformance.files(), devices=devices.split(), limit=900,
                                            programs=sorted({program for _, program in PROGRAMS} | {"twins"})))
    yield guest
    guest.stop()


@pytest.mark.parametrize("program, test", RESULTS, ids=[f"{program}.{test}" for program, test in RESULTS])
def test_result(guest: Guest, program: str, test: str) -> None:
    """A test, or a group of ioctls, passes."""
    judge(guest.result(program, test))


def test_programs(guest: Guest) -> None:
    """All programs came to their ends; only one test of twins, which needs an IOMMU, was skipped."""
    no_faults(guest, FRAMES)
    assert sum(result.skip for result in guest.program("twins").results.values()) == 1


def test_end(guest: Guest) -> None:
    """The guest ended without trouble in its log; warnings from before ours ran are mainline's."""
    ended(guest, "guest: ours starts")
