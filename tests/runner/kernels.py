# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that are built here, from the sources of Debian's linux-source packages: role "debug", which detects errors
(debug.config, on the source of role 6.12), and the reference kernel; and any prepared build tree."""
from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Iterator, NamedTuple

from .archive import ask, cached, maker, roles, tree_make
from .machine import BUILD, CACHE, GUEST, JOBS, LOGS, OUT, TESTS, TOP, Failed, locked, remove, run, tell
from .root import MODULES, Root

# The options that the guest needs to boot, that our modules need, and that the tests need.
OPTIONS = """MODULES BLK_DEV_INITRD BINFMT_ELF BINFMT_SCRIPT PROC_FS SYSFS DEVTMPFS TMPFS
    SERIAL_8250_CONSOLE PCI_MSI BLK_DEV_NVME VFIO_PCI_CORE VFIO_PCI UNIX EVENTFD
    MEMFD_CREATE USERFAULTFD HUGETLBFS TRANSPARENT_HUGEPAGE COMPACTION PROC_PAGE_MONITOR""".split()


class Build(NamedTuple):
    """A build tree and the image of its kernel."""
    kdir: Path
    image: Path

    @property
    def kver(self) -> str:
        """The kernel release, as uname -r prints it."""
        return (self.kdir / "include/config/kernel.release").read_text().strip()


def source_tree(name: str) -> Path:
    """The source of a role's kernel, from its linux-source package, cached; read-only."""
    suite, package = roles()[name].suite, f"linux-source-{name}"
    # The security archive has the package, but not always the metapackage that names it.
    found = ask(suite, "linux-source", r"^Depends:.*(linux-source-[0-9.]*) \(= ([^)]*)\)") or \
        [package, *ask(suite, package)]
    if len(found) < 2:
        raise Failed(f"the source of role {name} is gone: suite {suite} has no {package} now; "
                     "change its row in tests/guest/kernels.")
    package, version = found
    try:
        # The tree, the packages while they are being unpacked, and what is built from the tree
        return cached(f"ksrc-{name}_{version}", tree_make, suite, package, mib=4000,
                      what=f"fetching {package} {version}")
    except Failed as error:
        tell(str(error))
        raise Failed(f"{package} could not be fetched and unpacked in {CACHE}: see to what was said before, "
                     "or to space there, and run it again.") from error


@contextlib.contextmanager
def source(name: str) -> Iterator[Path]:
    """The same with a lock, to build in: only one run at a time uses it."""
    tree = source_tree(name)
    with locked(tree / ".lock-noiommufd", f"waiting for another run that uses {tree}"):
        yield tree


@maker
def debug_make(place: Path, _: str, config: str) -> None:
    """A build directory that modules can be built against, with its bzImage where a build leaves it."""
    place.mkdir()
    log = OUT / "debug-kernel.log"
    with source("6.12") as tree:
        # The links may lead to files that are gone.
        run(TESTS / "kunit/link-into-tree", tree)
        make = ["make", "-s", "-C", str(tree), f"O={place}"]
        merge = f"{tree}/scripts/kconfig/merge_config.sh -m -O {place} {place}/.config {GUEST}/debug.config".split()
        for command in ([*make, "tinyconfig"], merge, [*make, "olddefconfig"]):
            run(*command, log=log, why=f"this kernel cannot be configured: see {log}")
        have = (place / ".config").read_text().splitlines()
        for option in re.findall(r"^CONFIG_.*", config, re.M):
            if any(line.startswith(option[:-1]) for line in have) if option.endswith("=n") else option not in have:
                raise Failed(f"this kernel has no {option}: change tests/guest/debug.config")
        run(*make, JOBS, "bzImage", "modules", log=log, why=f"this kernel cannot be built: see {log}")
    # Building and installing modules takes none of this.
    run("find", place, "(", "-path", place / "scripts", "-o", "-path", place / "tools", ")", "-prune", "-o",
        "(", "-name", "*.[oa]", "-o", "-name", "vmlinux*", ")", "-type", "f", "-exec", "rm", "{}", "+")


def debug_kernel() -> Build:
    """The kernel of role "debug", cached."""
    tree = source_tree("6.12").name
    version = tree.split("_")[1]
    kdir = cached(f"kernel-debug_{version}", debug_make, tree, (GUEST / "debug.config").read_text(), mib=3000,
                  what=f"building a kernel of linux-source {version} with tests/guest/debug.config")
    return Build(kdir, kdir / "arch/x86/boot/bzImage")


def image_version(image: Path) -> str:
    """The release of the kernel in a bzImage."""
    data = image.read_bytes()
    at = int.from_bytes(data[526:528], "little") + 512
    return data[at:at + 128].split(b"\0")[0].decode(errors="replace").split(" ")[0]


def built_check(given: str, image: str = "") -> Build:
    """The build tree given as KDIR; fail unless the suite can run on its kernel."""
    kdir = Path(os.path.realpath(given))
    done = subprocess.run(["make", "-s", "-C", TOP, "kdir-check", f"KDIR={kdir}"], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        said = re.search(r"^noiommufd: (.*)", done.stdout, re.M)
        raise Failed(f"{said[1] if said else done.stdout}.")
    build = Build(kdir, Path(image) if image else kdir / "arch/x86/boot/bzImage")
    config = (kdir / "include/config/auto.conf").read_text().splitlines()
    if "CONFIG_X86_64=y" not in config:
        raise Failed(f"{kdir} is of another architecture than x86_64, which the guests are: "
                     "give the build tree of an x86_64 kernel.")
    if not build.image.exists():
        raise Failed(f"there is no kernel image {build.image}: build it (make bzImage) or give IMAGE=<bzImage>.")
    if (version := image_version(build.image)) != build.kver:
        raise Failed(f"{build.image} is of kernel '{version}' and {kdir} of '{build.kver}': "
                     "give the image that was built there.")
    missing = [f"CONFIG_{name}" for name in OPTIONS if not {f"CONFIG_{name}=y", f"CONFIG_{name}=m"} & set(config)]
    if missing:
        raise Failed(f"this kernel lacks {' '.join(missing)}, which the tests need: turn that on and build it again.")
    return build


def log_no_warnings(log: Path) -> None:
    """Fail if the log of a build has a warning."""
    for line in log.read_text(errors="replace").splitlines():
        if re.search(r"\bwarning\b", line, re.I) and "the compiler differs from the one" not in line:
            raise Failed(line)


class BuiltRoot(Root):
    """A kernel that was built here, with this machine's kmod."""

    def __init__(self, name: str, build: Build, *options: str) -> None:
        super().__init__(name, BUILD / name / "kernel", build.kver)
        self.build, self.tools, self.options = build, Path("/"), options
        log = LOGS / f"{name}-kernel.log"
        # The base may be of an earlier build with the same version.
        remove(self.lower, *self.dir.glob("base-*"))
        (self.lower / "boot").mkdir(parents=True)
        if (build.kdir / ".config").exists():
            shutil.copy(build.kdir / ".config", self.lower / f"boot/config-{self.kver}")
        run("make", "-C", build.kdir, "modules_install", f"INSTALL_MOD_PATH={self.lower}", "INSTALL_MOD_STRIP=1",
            log=log, why=f"the modules of this kernel cannot be installed: see {log}.")

    def kernel(self) -> Path:
        return self.build.image

    def make(self, target: str, to: str, why: str, *more: str) -> list[Path]:
        """Build our modules, or install them in a directory; they are signed if the kernel is configured so."""
        log, path = LOGS / f"{self.name}-{to}.log", self.dir / to
        run("make", "-C", TOP, target, f"KDIR={self.build.kdir}", f"OUT={self.dir}/modules",
            f"INSTALL_MOD_PATH={path}", *more, log=log, why=f"{why}: see {log}")
        if target == "modules":
            log_no_warnings(log)
        return [module for module in path.rglob("*.ko*") if module.name.split(".")[0] in MODULES]

    def modules(self) -> list[Path]:
        if not self.built:
            remove(self.dir / "installed", self.dir / "foreign")
            why = f"the modules cannot be built for {self.kver}"
            self.make("modules", "modules", why, "W=1", *self.options)
            self.built = self.make("modules_install", "installed", why)
        return self.built

    def refused_modules(self) -> dict[str, Path]:
        """For a guest that enforces module signatures, the files of two modules that it must refuse: one without a
        signature, and one signed with an unknown key."""
        self.modules()
        signing_key(self.dir / "key.pem")
        foreign = self.make("modules_install", "foreign", "nothing could be signed",
                            f"MODULE_SIG_KEY={self.dir}/key.pem")
        return {"refused/unsigned.ko": self.dir / "modules/noiommufd.ko",
                "refused/foreign.ko": next(path for path in foreign if path.name == "noiommufd.ko")}


def signing_key(path: Path) -> None:
    """Make a private key and its certificate, to sign modules with."""
    run("openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-batch", "-subj", "/CN=noiommufd test",
        "-keyout", path, "-out", path)


# The reference kernel: Linux 7.3 with its own noiommu cdev.
REFERENCE = "7.3"


@maker
def reference_make(place: Path, suite: str, package: str, config: str) -> None:
    """The kernel, and enough of its tree to build modules for it and its selftests."""
    log, fragment = OUT / "reference-kernel.log", place.with_suffix(".config")
    tree_make(place, suite, package)
    fragment.write_text(config)
    for command in ("make tinyconfig", f"scripts/kconfig/merge_config.sh -m .config {fragment}", "make olddefconfig",
                    "grep -x CONFIG_IOMMUFD_NOIOMMU=y .config", f"make {JOBS} bzImage modules", "make headers"):
        run(*command.split(), cwd=place, log=log, why=f"building the kernel failed: see {log}.")
    run("find", place, "-path", place / "scripts", "-prune", "-o", "-path", place / "tools", "-prune", "-o",
        "-type", "f", "(", "-name", "*.[acoS]", "-o", "-name", "*.cmd", "-o", "-name", "vmlinux*", ")",
        "!", "-name", "vmlinux.lds*", "-exec", "rm", "{}", "+")


def reference_kernel() -> Build:
    """The kernel of Linux 7.3, from Debian's linux-source package while that exists."""
    package = f"linux-source-{REFERENCE}"
    suite, version = next(((suite, found[0]) for suite in ("experimental", "sid")
                           if (found := ask(suite, package))), ("", ""))
    if version:
        tree = cached(f"bench-{REFERENCE}_{version}", reference_make, suite, package,
                      (TESTS / f"bench/linux-{REFERENCE}-noiommu.config").read_text(), mib=3500,
                      what=f"building Linux {REFERENCE} from {package} {version} (some ten minutes)")
    elif kept := list(CACHE.glob(f"bench-{REFERENCE}_*")):
        tree = kept[0]
        tell(f"the archive has no {package} any more: going on with the one in {CACHE}.")
    else:
        raise Failed(f"the archive has no {package} any more: there is nothing to compare with.")
    return Build(tree, tree / "arch/x86/boot/bzImage")


@functools.cache
def reference_root() -> BuiltRoot:
    """The reference kernel with our modules, which use the names of mainline there, not those of compat/."""
    return BuiltRoot("reference", reference_kernel(), "NATIVE=1")
