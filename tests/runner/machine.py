# SPDX-License-Identifier: GPL-2.0-only
"""Where things are on this machine, and how commands run on it. tests/run has checked that it has what they need."""
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
# All that is built: BUILD has what later runs can use again, LOGS what users read.
OUT = TOP / "build"
BUILD = OUT / "guest"
LOGS = OUT / "logs"
CACHE = Path(os.environ.get("CACHE") or OUT / "cache").absolute()
JOBS = f"-j{os.cpu_count()}"
# With pytest-xdist, other workers run at the same time, and standard output is not the worker's own.
BESIDE_OTHERS = "PYTEST_XDIST_WORKER" in os.environ


class Failed(Exception):
    """Why a test cannot be run, in one sentence."""


def tell(sentence: str) -> None:
    """Print what is going on, even while pytest captures output."""
    print(sentence, file=sys.__stderr__ if BESIDE_OTHERS else sys.__stdout__, flush=True)


def program(name: str, main: Callable[..., int], *words: object) -> NoReturn:
    """Run main as a program, which reports an error in one sentence on standard error."""
    try:
        sys.exit(main(*words))
    except (Failed, OSError) as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def run(*command: str | Path, log: Path | None = None, cwd: Path | None = None,
        env: dict[str, str] | None = None, why: str = "") -> str:
    """Run a command and return what it prints, which also goes to log. If the command fails, raise Failed with why, or
    with its error and the name of the log."""
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
    """The lines of a file that are neither empty nor comments."""
    return [line for line in path.read_text().splitlines() if line and line[0] != "#"]


def remove(*paths: Path) -> None:
    """Remove files and directories, but nothing in a file system that is mounted below them."""
    run("rm", "-rf", "--one-file-system", "--", *paths)


@contextlib.contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold a lock, which one process has at a time; print waiting if another process holds it."""
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
    """Fail unless the file system of the cache has this much free space."""
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failed(f"{CACHE} cannot be written: make room there or set CACHE to a directory elsewhere.") from error
    if (have := shutil.disk_usage(CACHE).free >> 20) < mib:
        raise Failed(f"{CACHE} has {have} MiB free and {mib} MiB are needed: "
                     "free some space or set CACHE to a directory elsewhere.")


def source_copy(to: Path) -> None:
    """Copy this tree, without what was built in it and without .git."""
    to.mkdir(parents=True, exist_ok=True)
    run("sh", "-c", f"tar -C '{TOP}' --exclude=./build --exclude=./.git -cf - . | tar -C '{to}' -xf -")
