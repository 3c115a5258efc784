# SPDX-License-Identifier: GPL-2.0-only
"""What can be checked in the source without running it."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

from runner import record
from runner.kernels import Build, source_tree
from runner.machine import LOGS, TOP, run


@pytest.mark.xdist_group("checks")
def test_checks(debug: Build) -> None:
    """scripts/checks passes, with a kernel and the source that it was built from."""
    said = run(TOP / "scripts/checks", debug.kdir, log=LOGS / "checks.log",
               env={"CHECKPATCH": str(source_tree("6.12") / "scripts/checkpatch.pl")})
    assert "# SKIP" not in said


def test_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new row of docs/kernels.md replaces the old one, and leaves the text above alone."""
    monkeypatch.setenv("RECORD", "1")
    monkeypatch.setattr(record, "PAGE", tmp_path / "kernels.md")
    text, table, rows = re.split(r"(^\| kernel .*\n\|---.*\n)", (TOP / "docs/kernels.md").read_text(), flags=re.M)
    record.PAGE.write_text(text + table + rows)
    record.row("|".join(rows.split("|")[:5]) + "|", "new")
    first, *others = rows.splitlines()
    said = record.PAGE.read_text()
    assert "Supported" in text and said.startswith(text + table)
    assert set(others) < set(said.splitlines()) and first not in said
