# SPDX-License-Identifier: GPL-2.0-only
"""Root file systems with a stock kernel, and what is built in them."""
from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

TOP = Path(__file__).resolve().parents[2]
TESTS = TOP / "tests"
GUEST = TESTS / "guest"
# What this runner builds stays, so that the next run builds less.
BUILD = TOP / "build" / "guest"
LOGS = TOP / "build" / "logs"

# What the guest may load, beside what these need
MODULES = ("noiommufd", "noiommu-vfio-pci", "vfio-pci", "nvme")


class Failed(Exception):
    """What keeps a test from being run, in one sentence."""


def run(*command: str | Path, log: Path | None = None, cwd: Path | None = None) -> str:
    """What a command prints; a log takes that too, and is named when it fails."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, text=True, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(done.stdout)
    if done.returncode:
        said = next((line for line in done.stdout.splitlines() if "error" in line.lower()),
                    (done.stdout.splitlines() or ["nothing was said"])[-1])
        raise Failed(f"{Path(command[0]).name} failed: {said}" + (f" (see {log})" if log else ""))
    return done.stdout


class Root:
    """A role's cached root file system, over which a throw-away layer can be mounted."""

    def __init__(self, role: str) -> None:
        done = subprocess.run(["bash", "-euc", '. "$0"; root_cached "$1" >&2; printf "%s\\n" "$root" "$kver"',
                               str(GUEST / "lib.sh"), role], text=True, check=False, stdout=subprocess.PIPE)
        if done.returncode:
            raise Failed(f"there is no root file system of role {role}: see above")
        lower, self.kver = done.stdout.split()
        self.role, self.lower, self.dir = role, Path(lower), BUILD / role
        self.path = self.lower
        self.built: list[Path] = []
        self.dir.mkdir(parents=True, exist_ok=True)
        # Its directory is one run's at a time, until that ends.
        self.lock = open(self.dir / ".lock", "w", encoding="utf-8")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            tell(f"waiting for another run that has {self.dir}")
            fcntl.flock(self.lock, fcntl.LOCK_EX)

    @contextlib.contextmanager
    def opened(self, name: str = "layer") -> Iterator[Path]:
        """Mounted with a layer, for chroot(); in a mount namespace of the run's."""
        # A tmpfs, for BUILD may itself lie on an overlay.
        layer = self.dir / name
        layer.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", layer)
        for part in ("upper", "work", "root"):
            (layer / part).mkdir()
        root = layer / "root"
        run("mount", "-t", "overlay", "-o", f"lowerdir={self.lower},upperdir={layer}/upper,workdir={layer}/work",
            "overlay", root)
        run("mount", "-t", "proc", "proc", root / "proc")
        (root / "dev/pts").mkdir(exist_ok=True)
        run("mount", "-t", "devpts", "-o", "newinstance,ptmxmode=666", "devpts", root / "dev/pts")
        (root / "dev/ptmx").unlink(missing_ok=True)
        (root / "dev/ptmx").symlink_to("pts/ptmx")
        # There may be a layer already.
        below = self.path
        try:
            self.path = root
            yield root
        finally:
            self.path = below
            run("umount", "-R", "-l", layer)

    def chroot(self, *command: str | Path, log: Path | None = None) -> str:
        """What a command says that runs in it."""
        return run("chroot", self.path, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
                   "HOME=/root", "DEBIAN_FRONTEND=noninteractive", "INITRD=No", *command, log=log)

    def kernel(self) -> Path:
        """What QEMU boots."""
        return self.lower / "boot" / f"vmlinuz-{self.kver}"

    def modules(self) -> list[Path]:
        """Our modules for its kernel, built in it from this tree as it is."""
        if self.built:
            return self.built
        out, log = self.dir / "modules", LOGS / f"guest-{self.role}-modules.log"
        out.mkdir(parents=True, exist_ok=True)
        with self.opened() as root:
            for name, source in (("source", TOP), ("out", out)):
                (root / "tmp" / name).mkdir()
                run("mount", "--bind", source, root / "tmp" / name)
            self.chroot("make", "-s", "-C", "/tmp/source", "modules", "OUT=/tmp/out",
                        f"KDIR=/lib/modules/{self.kver}/build", log=log)
        self.built = [out / "noiommufd.ko", out / "noiommu-vfio-pci.ko"]
        return self.built

    def base(self) -> Path:
        """What each guest of its kernel has: programs, libraries, the kernel's modules."""
        base = self.dir / f"base-{self.lower.name}"
        if base.exists():
            return base
        # Of another kernel
        run("rm", "-rf", *self.dir.glob("base-*"))
        part = self.dir / "part"
        shutil.rmtree(part, ignore_errors=True)
        for name in ("bin", "sbin", "etc", f"lib/modules/{self.kver}"):
            (part / name).mkdir(parents=True)
        with self.opened() as root:
            files = [word for word in self.chroot("ldd", "/bin/kmod").split() if word.startswith("/")]
            files += ["/bin/busybox", "/bin/kmod"]
            for module in MODULES[2:]:
                said = self.chroot("modprobe", "-S", self.kver, "-D", module)
                files += [line.split()[1] for line in said.splitlines() if line.startswith("insmod")]
            files += [str(path.relative_to(root)) for path in
                      (root / "lib/modules" / self.kver).glob("modules.[ob]*")]
            for name in sorted(set(files)):
                to = part / name.lstrip("/")
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name.lstrip("/"), to)
        for name in ("modprobe", "insmod", "rmmod", "lsmod", "modinfo", "depmod"):
            (part / "sbin" / name).symlink_to("../bin/kmod")
        config = self.lower / "boot" / f"config-{self.kver}"
        if config.exists():
            shutil.copy(config, part / "kernel.config")
        part.rename(base)
        return base


def source_copy(to: Path) -> None:
    """This tree, without what was built in it, and without what git keeps."""
    to.mkdir(parents=True, exist_ok=True)
    run("sh", "-c", f"tar -C '{TOP}' --exclude=./build --exclude=./.git -cf - . | tar -C '{to}' -xf -")


class PackageRoot(Root):
    """A root file system in which our package is installed, until the run ends."""

    def __init__(self, role: str, deb: Path, stack: contextlib.ExitStack) -> None:
        super().__init__(role)
        stack.enter_context(self.opened("package"))
        shutil.copy(deb, self.path / "tmp")
        self.log = LOGS / f"{role}-install.log"
        before, began = os.times(), time.monotonic()
        # With the warnings of W=1
        self.chroot("env", "KBUILD_EXTRA_WARN=1", "apt-get", "install", "-y", f"/tmp/{deb.name}", log=self.log)
        after = os.times()
        # Of processors, and by the clock
        self.took = (after.children_user + after.children_system - before.children_user - before.children_system,
                     time.monotonic() - began)

    def modules(self) -> list[Path]:
        return sorted((self.path / "lib/modules" / self.kver / "updates/dkms").glob("noiommu*.ko*"))


def programs(names: list[str]) -> list[Path]:
    """Programs of the guest suite, built."""
    out = BUILD / "suite"
    out.mkdir(parents=True, exist_ok=True)
    run("make", "-s", f"-j{os.cpu_count()}", "-C", GUEST / "suite", f"O={out}", *(str(out / name) for name in names),
        log=LOGS / "guest-suite.log")
    return [out / name for name in names]


def tell(sentence: str) -> None:
    """Say what takes long, though pytest holds back what is printed."""
    print(sentence, file=sys.__stderr__, flush=True)
