# SPDX-License-Identifier: GPL-2.0-only
"""Can the test that kills a program in the middle of DMA fail?"""
from __future__ import annotations

from runner.guest import Guest, Spec
from runner.root import Root


def test_fails_when_not_quiet(first: str) -> None:
    """The test has to fail with modules that unpin memory before the device is quiet."""
    test, root = "memory_stays_intact", Root.of_role(first, f"{first}-unquiet")
    root.options = ("TEST_UNQUIET=1",)
    guest = Guest(root.name, root, Spec(f"export KILLS=8 SLOW=1\nframe guest-load load\nrun kill_dma {test}\n",
                                        ["guest-load", "kill_dma"], programs=["kill_dma"], limit=300))
    guest.end()
    result = guest.result("kill_dma", test)
    assert not result.passed and "expected no DMA" in result.why, result
