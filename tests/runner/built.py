# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that are built here, of the distribution's source, and guests that have nothing but one of them."""
from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from io import TextIOWrapper
from pathlib import Path
from typing import Iterator

from .guest import Guest, Spec
from .root import BUILD, LOGS, TESTS, TOP, Failed, Root, run, tell


def by_bash(library: str, script: str, role: str = "") -> list[str]:
    """Words that it prints: paths have no blank, or kbuild would not take them."""
    (TOP / "build").mkdir(exist_ok=True)
    done = subprocess.run(["bash", "-euc", 'set -o pipefail; cd "$0"; . guest/lib.sh; . kunit/tree.sh; '
                           f'. "{library}"; {script}', str(TESTS), role], text=True, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    if done.returncode:
        raise Failed("the kernel to build could not be made: see above")
    return done.stdout.split()


@contextlib.contextmanager
def kernel_source(role: str) -> Iterator[tuple[Path, str]]:
    """A role's linux-source, unpacked, and its version. One run at a time has it."""
    source, version = by_bash("kunit/tree.sh", 'tree_cached "$1" >&2; echo "$tree $version"', role)
    with locked(Path(source) / ".lock-noiommufd"):
        yield Path(source), version


def debug_kernel() -> Path:
    """The build directory of the kernel that looks for mistakes, tests/guest/debug.config."""
    return Path(by_bash("guest/built.sh", 'debug_cached >&2; echo "$kdir"')[0])


def locked(path: Path) -> TextIOWrapper:
    """A file that is one run's until it is closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = open(path, "w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        tell(f"waiting for another run that uses {path.parent}")
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


class BuiltRoot(Root):
    """No file system: a build tree, whose kernel has all that is needed built in."""

    def __init__(self, tree: Path, name: str) -> None:  # pylint: disable=super-init-not-called
        self.lower, self.path, self.role, self.dir = tree, tree, name, BUILD / name
        self.kver = (tree / "include/config/kernel.release").read_text().strip()
        self.lock = locked(self.dir / ".lock")

    def kernel(self) -> Path:
        return self.lower / "arch/x86/boot/bzImage"

    def modules(self, *options: str) -> list[Path]:
        """All of ours, with options of make's."""
        out = self.dir / "modules"
        shutil.rmtree(out, ignore_errors=True)
        run("make", "-C", TOP, f"-j{os.cpu_count()}", "modules", f"KDIR={self.lower}", f"OUT={out}", *options,
            log=LOGS / f"{self.role}-modules.log")
        return sorted(out.glob("*.ko"))


class BareGuest(Guest):
    """A guest with busybox, its own init, and the files of its spec."""

    def __init__(self, name: str, root: Root, spec: Spec) -> None:
        super().__init__(name, root, spec)
        self.spec.files["bin/busybox"] = Path("/bin/busybox")

    def image(self) -> Path:
        files, image = self.dir / "image", self.dir / "image.cpio"
        shutil.rmtree(files, ignore_errors=True)
        for name, source in self.spec.files.items():
            (files / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, files / name)
        run("sh", "-c", f"find . | cpio -o -H newc --quiet > {image}", cwd=files)
        return image
