# SPDX-License-Identifier: GPL-2.0-only
"""The unmodified DPDK of Debian forwards packets, and leaves nothing pinned."""
from __future__ import annotations

import pytest

from conftest import ended, expect
from runner import clients
from runner.guest import Guest
from runner.root import Root


def dpdk(role: str, suite: str, kind: str, tests: str, append: str = "") -> None:
    """Boot a guest that runs these tests of a suite's DPDK; fail unless all of them pass."""
    name = f"dpdk-{suite}-{kind}{append and '-' + append.partition('=')[0]}"
    root = Root.of_role(role, f"{role}-{name}")
    spec = clients.counting_spec(root, suite, kind) if tests == "burst" else clients.spec(suite, kind, append, tests)
    guest = Guest(f"{role}-{name}", root, spec)
    ended(guest)
    programs = [guest.program(name) for name in guest.spec.frames]
    wrong = [f"{program.name}: {fault}" for program in programs for fault in program.faults]
    wrong += ["\n".join([f"{result.name}: {result.why}", *result.lines]) for program in programs
              for result in program.results.values() if result.skip or not result.passed]
    expect(not wrong, "\n".join(wrong))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run if the package is tested on 6.12, the kernel of trixie, whose DPDK this is."""
    option = metafunc.config.option
    kinds = ["virtio", "e1000e"] if "6.12" in option.kernel.split() and option.package else []
    metafunc.parametrize("kind", [pytest.param(kind, marks=pytest.mark.xdist_group("clients")) for kind in kinds])


def test_dpdk(kind: str) -> None:
    """Packets are forwarded, and after SIGKILL nothing is left pinned."""
    dpdk("6.12", "trixie", kind, "forward killed")
