# SPDX-License-Identifier: GPL-2.0-only
"""How results are judged: what must count as a failure does."""
from __future__ import annotations

import pytest

from runner.guest import log_trouble, not_ours
from runner.ktap import Frames

LOADED = "loading out-of-tree module"


def frame(name: str, status: int, *lines: str) -> list[str]:
    """What a program prints, in the frame that the guest's init prints."""
    return [f"# suite: {name} start", *lines, f"# suite: {name} exit {status}"]


@pytest.mark.parametrize("lines, passed, skipped, failed, faults", [
    (frame("a", 0, "1..3", "ok 1 x", "# said", "ok 2 y # SKIP no such device", "ok 3 z"), 2, 1, 0, 0),
    (frame("a", 1, "1..2", "ok 1 x", "not ok 2 y # why"), 1, 0, 1, 0),
    # A program that dies, or crashes the guest
    (frame("a", 139, "1..3", "ok 1 x"), 1, 0, 0, 1),
    (frame("a", 0, "1..2", "ok 1 x", "ok 2 y")[:4], 2, 0, 0, 1),
    (frame("a", 127), 0, 0, 0, 1),
    # Fewer or more tests than planned, one twice, no plan, two plans
    (frame("a", 0, "1..2", "ok 1 x"), 1, 0, 0, 1),
    (frame("a", 0, "1..1", "ok 1 x", "ok 2 y"), 2, 0, 0, 1),
    (frame("a", 0, "1..2", "ok 1 x", "ok 1 x"), 1, 0, 0, 3),
    (frame("a", 0, "ok 1 x"), 1, 0, 0, 1),
    (frame("a", 0, "1..1", "1..1", "ok 1 x"), 1, 0, 0, 1),
    # An exit status that no test explains
    (frame("a", 1, "1..1", "ok 1 x"), 1, 0, 0, 1),
    # Skips without a reason
    (frame("a", 0, "1..1", "ok 1 x # SKIP"), 0, 0, 1, 0),
    (frame("a", 0, "1..0"), 0, 0, 0, 1),
    (frame("a", 0, "1..0 # SKIP no test here fits the pattern"), 0, 0, 0, 0),
])
def test_frames(lines: list[str], passed: int, skipped: int, failed: int, faults: int) -> None:
    """The results and faults of one program are counted."""
    program = Frames("init says this\r\n", *(f"{line}\r\n" for line in lines), "and this").programs["a"]
    words = [result.word for result in program.results.values()]
    assert [words.count(word) for word in ("passed", "skipped", "failed")] == [passed, skipped, failed]
    assert len(program.faults) == faults, program.faults


def test_frames_keep_what_was_said() -> None:
    """Lines between results belong to the next result; a program may put its name before that of a test."""
    frames = Frames(*frame("a", 1, "1..2", "ok 1 a.x", "# before", "not ok 2 a.y # why"))
    result = frames.programs["a"].results["y"]
    assert (result.why, result.lines) == ("why", ["# before"])


@pytest.mark.parametrize("line", [
    "WARNING: CPU: 0 PID: 1 at mm/gup.c:1 f+0x1/0x2",
    "WARNING: possible circular locking dependency detected",
    "BUG: unable to handle page fault for address: 0",
    "BUG: KASAN: slab-use-after-free in f+0x1/0x2",
    "BUG: Bad page state in process a",
    "Oops: 0000 [#1] PREEMPT SMP",
    "INFO: task a:1 blocked for more than 120 seconds.",
    "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "kmemleak: 1 new suspected memory leaks",
    "Call Trace:",
])
def test_trouble_is_seen(line: str) -> None:
    """Trouble in the log is seen, and what follows it is shown."""
    said = log_trouble(f"[1.0] all is well\n[2.0] {line}\r\n[3.0] after\n").splitlines()
    assert said[0] == f"[2.0] {line}"
    assert said[-2:] == [f"[2.0] {line}", "[3.0] after"]


def test_no_trouble() -> None:
    """Neither the usual messages of a kernel nor those about the debug kernel's checks are trouble."""
    assert not log_trouble("[1.0] Linux version 6.1\n[2.0] guest: a ended with 0\n"
                           "[3.0] rcu: \tRCU callback double-/use-after-free debug is enabled\n")


@pytest.mark.parametrize("end, status, log", [
    ("", 0, f"{LOADED}\nreboot: machine restart"),
    ("", 124, "Linux version 6.1"),
    ("it did not start", 0, "Linux version 6.1"),
    ("", 0, f"{LOADED}\nOops: int3: 0000 [#1]\nCode: eb cc <48> 83"),
    ("", 0, f"{LOADED}\nOops: int3: 0000 [#1]\nCode: fc eb cc <0a> 48"),
    ("QEMU ran an int3", 0, f"{LOADED}\nOops: int3: 0000 [#1]\nCode: fc eb <0a> 48\nCode: eb cc <48> 83"),
    ("", 0, f"{LOADED}\nCode: fc eb <0a> 48"),
    ("it slept", 0, f"{LOADED}\nPM: suspend entry (deep)\nACPI: PM: Preparing"),
    ("it slept", 124, f"{LOADED}\nPM: suspend entry (deep)\nACPI: PM: Preparing"),
    ("", 0, f"{LOADED}\nPM: suspend entry (deep)\nBUG: a"),
    ("", 0, f"{LOADED}\nPM: suspend entry (deep)\nPM: suspend exit\nnext"),
])
def test_ends_of_guests(end: str, status: int, log: str) -> None:
    """A guest is booted again only if it ended by no fault of ours."""
    said = not_ours(status, log)
    assert said.startswith(end) and bool(said) == bool(end)
