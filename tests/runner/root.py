# SPDX-License-Identifier: GPL-2.0-only
"""Root file systems with a kernel, and our modules for it."""
from __future__ import annotations

import atexit
import contextlib
import copy
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Callable, Iterator

from .archive import ask, cached, debs_make, index, kernel_resolve, root_cached
from .machine import BUILD, GUEST, JOBS, LOGS, TOP, locked, remove, run

# The modules that the guest may load, besides those that they need
MODULES = ("noiommufd", "noiommu-vfio-pci", "vfio-pci", "nvme")
# Every installed Debian has systemd-sysusers, which our package needs, but not every root of ours.
SYSUSERS = "command -v systemd-sysusers || { apt-get update; apt-get install -y systemd-standalone-sysusers; }"


def took(work: Callable[[], object]) -> tuple[float, float]:
    """Run work, and return how many seconds that took: of processor time for its commands, and by the clock."""
    before = os.times()
    work()
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4]), after.elapsed - before.elapsed


class Root:
    """A root file system that is never written to, and a layer that can be put over it."""
    # The options that modules() gives to make
    options: tuple[str, ...] = ()

    def __init__(self, name: str, lower: Path, kver: str) -> None:
        self.name, self.lower, self.kver = name, lower, kver
        self.dir, self.path = BUILD / name, lower
        # The root whose kmod the guests get
        self.tools = lower
        self.built: list[Path] = []
        self.dir.mkdir(parents=True, exist_ok=True)
        # Only one run at a time may use the directory, until it ends.
        self.held = contextlib.ExitStack()
        atexit.register(self.held.close)
        self.held.enter_context(locked(self.dir / ".lock", f"waiting for another run that has {self.dir}"))

    @classmethod
    def of_role(cls, role: str, name: str = "") -> Root:
        """The root file system of a role, from the cache."""
        return cls(name or role, root_cached(role), kernel_resolve(role).kver)

    @contextlib.contextmanager
    def opened(self, name: str = "layer") -> Iterator[Path]:
        """Put a writable layer over the root, in the run's mount namespace; chroot() and sh() use it."""
        # On a tmpfs, since BUILD may itself be on an overlay
        layer, root = self.dir / name, self.dir / name / "root"
        layer.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", layer)
        run("mkdir", layer / "upper", layer / "work", root)
        run("mount", "-t", "overlay", "-o", f"lowerdir={self.lower},upperdir={layer}/upper,workdir={layer}/work",
            "overlay", root, why=f"no overlay could be mounted over {self.lower}: "
            "load the kernel's overlay module or use another machine.")
        run("sh", "-ec", """mount -t proc proc proc; mkdir -p dev/pts
            mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts; ln -sf pts/ptmx dev/ptmx""", cwd=root)
        below, self.path = self.path, root
        try:
            yield root
        finally:
            self.path = below
            # Lazily, since what a package started may still be running there
            run("umount", "-R", "-l", layer)

    def chroot(self, *command: str | Path, log: Path | None = None, why: str = "") -> str:
        """Run a command in the root, and return what it prints."""
        return run("chroot", self.path, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
                   "HOME=/root", "DEBIAN_FRONTEND=noninteractive", "INITRD=No", *command, log=log, why=why)

    def sh(self, script: str, log: Path | None = None, why: str = "") -> str:
        """Run a shell script in the root, and return what it prints; $K is the kernel release."""
        return self.chroot("env", f"K={self.kver}", "sh", "-ec", script, log=log, why=why)

    def kernel_debs(self, role: str, names: str) -> Path:
        """Download the packages that a role's kernel needs and this root lacks, if names matches their names. Return
        their directory."""
        kernel = kernel_resolve(role)
        suite = kernel.role.suite
        said = run("apt-cache", "depends", "--recurse", "--important", "--no-pre-depends", kernel.package,
                   f"linux-headers-{kernel.kver}", env=index(suite))
        have = re.findall(r"^installed (.*)", self.sh("dpkg-query -W -f '${db:Status-Status} ${Package}\\n'"), re.M)
        found = {name for name in re.findall(r"^\w.*", said, re.M) if re.match(names, name)} - set(have)
        return cached(f"debs-{role}_{kernel.version}", debs_make, suite,
                      *sorted(name for name in found if not name.endswith("-unsigned")))

    def unpack(self, debs: Path) -> None:
        """Unpack the files of packages into the layer."""
        for deb in debs.glob("*.deb"):
            run("sh", "-c", f"dpkg-deb --fsys-tarfile {deb} | tar -C {self.path} -x --keep-directory-symlink")

    @contextlib.contextmanager
    def dkms_of(self, suite: str) -> Iterator[None]:
        """Use the dkms of a suite; "": the root's own."""
        if suite:
            self.sh("dpkg -L dkms | while read f; do [ ! -f $f ] || echo $f; done | tar -cPf /tmp/dkms.tar -T -")
            version = "".join(ask(suite, "dkms"))
            self.unpack(cached(f"debs-dkms-{suite}_{version}", debs_make, suite, "dkms"))
        try:
            yield
        finally:
            if suite:
                self.sh("tar -xPf /tmp/dkms.tar")

    def left(self) -> str:
        """The files of ours that are left in the root."""
        return self.sh("find /lib/modules /var/lib/dkms /usr /etc -name '*noiommu*' 2> /dev/null || :")

    def kernel(self) -> Path:
        """The kernel image that QEMU boots."""
        return self.path / "boot" / f"vmlinuz-{self.kver}"

    def modules(self) -> list[Path]:
        """Our modules for its kernel, built in the root from this tree as it is now."""
        if not self.built:
            out, log = self.dir / "modules", LOGS / f"{self.name}-modules.log"
            out.mkdir(parents=True, exist_ok=True)
            with self.opened() as root:
                for name, source in (("source", TOP), ("out", out)):
                    (root / "tmp" / name).mkdir()
                    run("mount", "--bind", source, root / "tmp" / name)
                self.sh(f"make -s -C /tmp/source modules {' '.join(self.options)} OUT=/tmp/out "
                        "KDIR=/lib/modules/$K/build", log=log)
            self.built = [out / "noiommufd.ko", out / "noiommu-vfio-pci.ko"]
        return self.built

    def base(self) -> Path:
        """The directory with what all guests of its kernel have: programs, libraries, the kernel's modules."""
        base = self.dir / f"base-{self.lower.name}-{self.kver}"
        if base.exists():
            return base
        # The base of another kernel
        remove(*self.dir.glob("base-*"))
        part, root = self.dir / "part", self.path
        remove(part)
        for name in ("bin", "sbin", "etc", f"lib/modules/{self.kver}"):
            (part / name).mkdir(parents=True)
        kmod = ["/bin/kmod", *re.findall(r"/\S+", run("chroot", self.tools, "ldd", "/bin/kmod"))]
        modules = [f"/lib/modules/{self.kver}/{path.name}"
                   for path in (root / "lib/modules" / self.kver).glob("modules.[ob]*")]
        for module in MODULES[2:]:
            said = run("modprobe", "-d", root, "-S", self.kver, "-D", module)
            modules += re.findall(rf"^insmod {re.escape(str(root))}(?:/usr)?(/lib/\S*)", said, re.M)
        for where, names in ((self.tools, kmod), (root, modules), (Path("/"), ["/bin/busybox"])):
            run("cp", "-L", "--preserve=mode", "--parents", *(f".{name}" for name in set(names)), part, cwd=where)
        for name in ("modprobe", "insmod", "rmmod", "lsmod", "modinfo", "depmod"):
            (part / "sbin" / name).symlink_to("../bin/kmod")
        if (config := root / "boot" / f"config-{self.kver}").exists():
            shutil.copy(config, part / "kernel.config")
        part.rename(base)
        return base


class PackageRoot(Root):
    """The root file system of a role, in which our package is installed until the run ends."""

    def __init__(self, role: str, deb: Path) -> None:
        super().__init__(f"{role}-package", root_cached(role), kernel_resolve(role).kver)
        self.role = role
        self.held.enter_context(self.opened("package"))
        shutil.copy(deb, self.path / "tmp")
        self.sh(SYSUSERS, log=LOGS / f"{role}-sysusers.log")
        self.took = took(lambda: self.install(f"/tmp/{deb.name}", f"{role}-install"))

    def install(self, debs: str, log: str) -> None:
        """Install packages with apt; modules are built with W=1."""
        self.sh(f"KBUILD_EXTRA_WARN=1 apt-get install -y {debs}", log=LOGS / f"{log}.log",
                why=f"apt could not install {debs}: see {LOGS}/{log}.log")

    def second_kernel(self, role: str) -> PackageRoot:
        """Install the kernel of another role here, and return a root for its guests."""
        debs, second = self.kernel_debs(role, "linux-"), copy.copy(self)
        (self.path / "tmp" / role).mkdir()
        run("mount", "--bind", debs, self.path / "tmp" / role)
        self.install(f"/tmp/{role}/*.deb", f"{role}-install")
        # The name of its guests' base comes from these packages.
        second.lower, second.kver, second.dir = debs, kernel_resolve(role).kver, self.dir / role
        return second

    def modules(self) -> list[Path]:
        return sorted((self.path / "lib/modules" / self.kver / "updates/dkms").glob("noiommu*.ko*"))


def programs(names: list[str]) -> list[Path]:
    """Build programs of the guest suite, and return their paths."""
    out = BUILD / "suite"
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / ".lock"):
        run("make", "-s", JOBS, "-C", GUEST / "suite", f"O={out}", *(str(out / name) for name in names),
            log=LOGS / "guest-suite.log")
    return [out / name for name in names]


def compiled(name: str, *words: str | Path) -> Path:
    """Build a static program for guests from these sources and options."""
    out = BUILD / name
    with locked(BUILD / f".lock-{name}"):
        run("gcc", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-static", "-pthread",
            f"-I{TOP}/include", f"-I{TOP}/examples", "-o", f"{out}.part", *words, log=LOGS / f"{name}.log")
        Path(f"{out}.part").rename(out)
    return out


def tools() -> Path:
    """Build noiommufd-run and its preload library, noiommuctl, and return their directory."""
    with locked(BUILD / ".lock-tools"):
        for name in ("lib", "tools"):
            run("make", "-s", "-C", TOP / name, f"O={BUILD}/tools", log=LOGS / f"{name}.log")
    return BUILD / "tools"


def example(name: str = "nvme") -> Path:
    """Build examples/nvme, examples/handover, or examples/broker."""
    return compiled(name, *(TOP / "examples" / f"{part}.c" for part in (name, "nvme_ctrl")), *(TOP / "lib").glob("*.c"))


def pattern(seed: int, size: int) -> bytes:
    """The bytes that examples/nvme writes with this seed."""
    return subprocess.run([example(), "--pattern-only", str(seed), str(size)], check=True,
                          stdout=subprocess.PIPE).stdout
