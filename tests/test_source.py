# SPDX-License-Identifier: GPL-2.0-only
"""What can be told of the source without running it."""
from __future__ import annotations

import pytest

from runner.kernels import Build, source_tree
from runner.machine import LOGS, TOP, run


@pytest.mark.xdist_group("checks")
def test_checks(debug: Build) -> None:
    """scripts/checks, with a kernel that was built and the source it was built of."""
    said = run(TOP / "scripts/checks", debug.kdir, log=LOGS / "checks.log",
               env={"CHECKPATCH": str(source_tree("6.12") / "scripts/checkpatch.pl")})
    assert "# SKIP" not in said
