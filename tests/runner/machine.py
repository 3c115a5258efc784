# SPDX-License-Identifier: GPL-2.0-only
"""Where things are on this machine, and how commands run on it. tests/run has seen to it that it is fit for them."""
from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterator, NoReturn

TOP = Path(__file__).resolve().parents[2]
TESTS = TOP / "tests"
GUEST = TESTS / "guest"
# All that is built: BUILD is what the next run builds on, logs are read by users.
OUT = TOP / "build"
BUILD = OUT / "guest"
LOGS = OUT / "logs"
CACHE = Path(os.environ.get("CACHE") or OUT / "cache").absolute()
JOBS = f"-j{os.cpu_count()}"
# With pytest-xdist there are others that do the same, and standard output is no worker's own.
BESIDE_OTHERS = "PYTEST_XDIST_WORKER" in os.environ


class Failed(Exception):
    """What keeps a test from being run, in one sentence."""


def tell(sentence: str) -> None:
    """Say what takes long, though pytest holds back what is printed."""
    print(sentence, file=sys.__stderr__ if BESIDE_OTHERS else sys.__stdout__, flush=True)


def program(name: str, main: Callable[..., int], *words: object) -> NoReturn:
    """Run as a program: what keeps it from its work is one sentence on standard error."""
    try:
        sys.exit(main(*words))
    except (Failed, OSError) as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def run(*command: str | Path, log: Path | None = None, cwd: Path | None = None,
        env: dict[str, str] | None = None, why: str = "") -> str:
    """What a command prints; a log takes that too, and is named when it fails, unless why is the sentence for that."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, text=True, check=False, errors="replace",
                          env={**os.environ, **(env or {})},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(done.stdout)
    if done.returncode:
        said = next((line for line in done.stdout.splitlines() if "error" in line.lower()),
                    (done.stdout.splitlines() or ["nothing was said"])[-1])
        raise Failed(why or f"{Path(command[0]).name} failed: {said}" + (f" (see {log})" if log else ""))
    return done.stdout


def table(path: Path) -> list[str]:
    """The lines of a file that are no comments."""
    return [line for line in path.read_text().splitlines() if line and line[0] != "#"]


def remove(*paths: Path) -> None:
    """With all that is in them, but for what is mounted there."""
    run("rm", "-rf", "--one-file-system", "--", *paths)


@contextlib.contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[None]:
    """One process at a time; waiting is what to say before one that takes long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if waiting:
                tell(waiting)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def require_space(mib: int) -> None:
    """On the file system that holds the cache."""
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failed(f"{CACHE} cannot be written: make room there or set CACHE to a directory elsewhere.") from error
    if (have := shutil.disk_usage(CACHE).free >> 20) < mib:
        raise Failed(f"{CACHE} has {have} MiB free and {mib} MiB are needed: "
                     "free some space or set CACHE to a directory elsewhere.")


def source_copy(to: Path) -> None:
    """This tree, without what was built in it, and without what git keeps."""
    to.mkdir(parents=True, exist_ok=True)
    run("sh", "-c", f"tar -C '{TOP}' --exclude=./build --exclude=./.git -cf - . | tar -C '{to}' -xf -")
