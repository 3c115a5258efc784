# SPDX-License-Identifier: GPL-2.0-only
"""Is the test of a kill in the middle of DMA able to fail?"""
from __future__ import annotations

from runner.guest import Guest, Spec
from runner.root import Root


def test_fails_when_not_quiet(first: str) -> None:
    """It has to, where the modules unpin before the device is quiet."""
    test, root = "memory_stays_intact", Root.of_role(first, f"{first}-unquiet")
    root.options = ("TEST_UNQUIET=1",)
    guest = Guest(root.name, root, Spec(f"export KILLS=8 SLOW=1\nframe guest-load load\nrun kill_dma {test}\n",
                                        ["guest-load", "kill_dma"], programs=["kill_dma"], limit=300))
    guest.end()
    result = guest.result("kill_dma", test)
    assert not result.passed and "expected no DMA" in result.why, result
