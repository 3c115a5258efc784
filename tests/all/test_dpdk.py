# SPDX-License-Identifier: GPL-2.0-only
"""Each DPDK that Debian has, on each kernel, with all tests of it."""
from __future__ import annotations

import pytest

from runner.clients import machine_has
from test_clients import dpdk

ALL = "forward killed legacy_mem in_memory single_file secondary replug"


@pytest.mark.parametrize("kind", ["virtio", "legacy", "e1000e", "igb"])
@pytest.mark.parametrize("suite", ["bookworm", "trixie", "sid"])
@pytest.mark.parametrize("role", ["6.1", "6.12", "newest"])
def test_dpdk(role: str, suite: str, kind: str) -> None:
    """The DPDK of a suite, with its own libraries, on the kernel of a role."""
    if not machine_has(kind):
        pytest.skip(f"this QEMU has no {kind}")
    # DPDK gets no interrupt of a legacy virtio-net, and no receive interrupt of an e1000e, on the kernel's own VFIO
    # either. The I/O ports of a legacy device need system calls.
    more = {"legacy": "", "e1000e": "interrupt no_calls"}
    dpdk(role, suite, kind, f"{ALL} {more.get(kind, 'interrupt rx_interrupts no_calls')}".rstrip())


@pytest.mark.parametrize("kind", ["virtio", "e1000e"])
def test_dpdk_burst(kind: str) -> None:
    """The instructions of a burst are those that it has on uio_pci_generic."""
    dpdk("6.12", "trixie", kind, "burst")


@pytest.mark.parametrize("role", ["6.12", "newest"])
def test_dpdk_movable(role: str) -> None:
    """With huge pages that pinning moves, so that their address is valid only afterwards."""
    dpdk(role, "trixie", "virtio", "forward killed", "movablecore=3G")


def test_dpdk_movable_refused() -> None:
    """Before Linux 6.5, the library cannot have them moved before DPDK looks up their address."""
    dpdk("6.1", "bookworm", "virtio", "refused", "movablecore=3G")


@pytest.mark.parametrize("role", ["6.1", "6.12", "newest"])
def test_dpdk_gib_pages(role: str) -> None:
    """With huge pages of 1 GiB."""
    dpdk(role, "trixie", "virtio", "gib_pages", "hugepagesz=1G hugepages=1")
