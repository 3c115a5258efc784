# SPDX-License-Identifier: GPL-2.0-only
"""make guest: one test of one program, and one that does not exist."""
from __future__ import annotations

import subprocess

from runner.machine import TESTS


def test_loop(first: str) -> None:
    def loop(test: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([TESTS / "run", "-m", "pytest", "--kernel", first, "--tests", test, "guest"], check=False,
                              text=True, stdin=subprocess.DEVNULL, capture_output=True)

    assert loop("nodes.iommu_node").stdout.splitlines()[-1] == "14 passed, 0 failed, 0 skipped"
    none = loop("nodes.none")
    assert none.returncode and none.stderr.strip() == "ERROR: no test fits 'nodes.none'"
