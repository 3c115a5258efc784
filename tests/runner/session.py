# SPDX-License-Identifier: GPL-2.0-only
"""What a run makes: each thing when it is first needed, and only once."""
from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any, Callable, TypeVar

from . import conformance, kunit, selftests
from .guest import Guest, Spec, devices
from .kernels import BuiltRoot, built_check, debug_kernel
from .machine import BUILD, GUEST, LOGS, Failed, locked, remove, run, source_copy
from .root import PackageRoot, Root, example, tools

# Programs that have guests of their own, and the kinds of those; lockdown runs last in the guest of the suite.
OWN_GUEST = {"twins": "twins", "groups": "twins", "suspend": "suspend"}
# The programs for guests with a kernel that is installed beside a role's own
SMOKE = ("nodes", "bind", "pa")
EXAMPLE = "/nvme --device 0000:00:05.0 --mib 16 --seed 7"
# Programs that noiommufd is loaded for with a parameter: two of them expect the automatic IOVAs of Linux 7.3.
PARAMETERS = {"conformance": "iova_base=4096", "noiommu_cdev": "iova_base=4096",
              "grant": "allow_grant=1", "lockdown": "allow_grant=1"}

T = TypeVar("T")


def kept(make: Callable[..., T]) -> Callable[..., T]:
    """Wrap make, so that it runs once for each set of arguments: later calls return the same object, or raise the same
    error."""
    made: dict[tuple[str, ...], T | Exception] = {}

    def get(*words: str) -> T:
        if words not in made:
            try:
                made[words] = make(*words)
            except (Failed, OSError) as error:
                made[words] = error
        found = made[words]
        if isinstance(found, Exception):
            raise found
        return found

    return get


class Session:
    """Root file systems, packages and guests of a run."""

    def __init__(self, package: bool, daily: bool, tests: str, kdir: str, image: str) -> None:
        self.package, self.daily, self.tests, self.kdir, self.kernel_image = package, daily, tests, kdir, image
        # The programs that have selected tests, by role and kind of guest
        self.wanted: dict[tuple[str, str], list[str]] = {}
        # The tests that are selected along with any other test of their guest
        self.wholes: list[Any] = []
        self.guests: list[Guest] = []
        self.root = kept(self.make_root)
        self.beside = kept(self.make_beside)
        self.kunit = kept(kunit.suites)
        self.guest = kept(self.make_guest)

    @functools.cached_property
    def deb(self) -> Path:
        """Our package, built from this tree as a user would; once per run."""
        source, log = BUILD / "package", LOGS / "package.log"
        with locked(BUILD / ".lock-package"):
            stamp = source / ".noiommufd-run"
            if not stamp.exists() or stamp.read_text() != os.environ["NOIOMMUFD_RUN"]:
                remove(source)
                source_copy(source)
                run("make", "-C", source, "deb", log=log, why=f"building the package failed: see {log}")
                stamp.write_text(os.environ["NOIOMMUFD_RUN"])
        return next((source / "build").glob("noiommufd-dkms_*.deb"))

    def make_root(self, role: str) -> Root:
        """A role's kernel with our modules, from our package or built without it."""
        if role == "kdir":
            return BuiltRoot(role, built_check(self.kdir, self.kernel_image))
        if role == "debug":
            return BuiltRoot(role, debug_kernel())
        return PackageRoot(role, self.deb) if self.package else Root.of_role(role)

    def make_beside(self, role: str, second: str) -> Root:
        """The kernel of another role, installed after our package."""
        root = self.root(role)
        assert isinstance(root, PackageRoot)
        return root.second_kernel(second)

    def make_guest(self, role: str, kind: str) -> Guest:
        """The guest of that role and kind, which runs the programs that are wanted."""
        root = self.root(role) if kind in ("suite", *OWN_GUEST.values()) else self.beside(role, kind)
        guest = Guest(f"{role}-{kind}", root, self.spec(role, kind, root))
        self.guests.append(guest)
        return guest

    def spec(self, role: str, kind: str, root: Root) -> Spec:
        """What that guest runs, and on what machine."""
        names = self.wanted[role, kind]
        spec = Spec(programs=[name for name in names if (GUEST / f"suite/{name}.c").exists()])
        kills = (50 if self.daily else 200) if role == "6.1" and self.package else 20
        handovers = 5 if self.daily or role == "debug" else 100
        more, leaks = [], "no"
        if role == "debug":
            # Interrupts are routed by the MP table: each BIND and each close would read ACPI's routing table, which
            # took half of the time on this kernel, where everything is checked.
            assert isinstance(root, BuiltRoot)
            spec.slow, more, leaks = 4, ["panic_on_warn=1 printk.time=1 module.sig_enforce=1 acpi=noirq"], "yes"
            spec.files |= root.refused_modules()
        elif role == "kdir":
            spec.slow, leaks = int(os.environ.get("SLOW") or 1), "yes"
        if kind == "twins":
            spec.devices, more = devices("devices-twins", files=root.dir / f"{role}-{kind}"), [*more, "intel_iommu=on"]
        elif kind == "suspend":
            # It runs alone and last: after a suspend, a CPU of the guest may get no more timer interrupts, which would
            # look like a fault of whatever runs then. None of our code is called when a device sleeps, so this cannot
            # hide a fault of ours. Suspending patches the kernel's code, which QEMU's threads handle badly: hence one
            # thread.
            more.append("no_console_suspend")
            spec.thread, spec.limit, leaks = "single", 200 * spec.slow, "no"
        more += [f"{name}={os.environ[name]}" for name in
                 ("STRESS_SECONDS", "STRESS_SEED", "MODEL_SECONDS", "MODEL_SEED") if os.environ.get(name)]
        spec.append, spec.limit = " ".join(more), spec.limit * (1 if kind == "suspend" else spec.slow)
        if "conformance" in names:
            spec.files |= conformance.files()
        if {"preload", "groups"} & set(names):
            spec.files["lib/libnoiommufd-vfio.so"] = tools() / "libnoiommufd-vfio.so"
        spec.files |= {name: example(name) for program, name in {"handover": "handover", "grant": "broker"}.items()
                       if program in names}
        if "noiommu_cdev" in names:
            spec.files |= selftests.files()
        lines = [f"export KILLS={kills} HANDOVERS={handovers} SLOW={spec.slow}", f"LEAKS={leaks}",
                 "frame guest-load load"]
        for name in names:
            if name == "lockdown":
                # This comes first: after lockdown, the kernel loads no module and we bind no device.
                spec.files["nvme"] = example()
                lines.append(f"frame example example {EXAMPLE}")
            # On a second kernel, all tests of these programs belong to a single test.
            some = self.tests and kind in ("suite", *OWN_GUEST.values())
            line = f'run {name} "{self.tests}"' if some else f"run {name}"
            lines += [f"reload {PARAMETERS[name]}", line] if name in PARAMETERS else [line]
            if name in PARAMETERS and name != "lockdown":
                lines.append("reload")
        spec.plan = "\n".join([*lines, "frame guest-unload unload", ""])
        spec.frames = ["guest-load", *names, *(["example"] if "nvme" in spec.files else []), "guest-unload"]
        return spec

    def close(self) -> None:
        """Stop all guests."""
        for guest in self.guests:
            guest.stop()
