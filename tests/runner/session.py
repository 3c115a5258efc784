# SPDX-License-Identifier: GPL-2.0-only
"""What a run has made so far: each when somebody asks for it, and once."""
from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Callable

from . import kunit
from .guest import Guest, Spec, iommu
from .root import BUILD, GUEST, LOGS, TESTS, TOP, PackageRoot, Root, run, source_copy

# What a guest runs beside the suite: programs in the order of the file "order"; these have
# guests of their own. lockdown is what the guest of the suite ends with.
OWN_GUEST = {"twins": "twins", "suspend": "suspend"}
EXAMPLE = "/nvme --device 0000:00:05.0 --mib 16 --seed 7"


class Session:
    """Root file systems, packages and guests of a run."""

    def __init__(self, package: bool, tests: str) -> None:
        self.package, self.tests = package, tests
        self.stack = contextlib.ExitStack()
        # The programs that selected tests are of, by role and kind of guest
        self.wanted: dict[tuple[str, str], list[str]] = {}
        self.guests: dict[tuple[str, str], Guest] = {}

    @functools.cached_property
    def deb(self) -> Path:
        """Our package, as a user would build it of this tree."""
        source = BUILD / "package"
        run("rm", "-rf", source)
        source_copy(source)
        run("make", "-C", source, "deb", log=LOGS / "package.log")
        return next((source / "build").glob("noiommufd-dkms_*.deb"))

    @functools.cache  # pylint: disable=method-cache-max-size-none
    def root(self, role: str) -> Root:
        """Of a role, with our package or without."""
        return PackageRoot(role, self.deb, self.stack) if self.package else Root(role)

    @functools.cached_property
    def example(self) -> Path:
        """examples/nvme, static."""
        nvme = BUILD / "nvme"
        nvme.parent.mkdir(parents=True, exist_ok=True)
        run("gcc", "-O2", "-g", "-Wall", "-Wextra", "-static", "-pthread", f"-I{TOP}/src/uapi", f"-I{TOP}/examples",
            "-o", nvme, *(TOP / "examples" / f"{name}.c" for name in ("nvme", "nvme_ctrl", "noiommu")))
        return nvme

    @functools.cached_property
    def conformance(self) -> dict[str, Path]:
        """Files of the image that the program conformance is made of."""
        source, program = TESTS / "conformance", BUILD / "conformance"
        run("gcc", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-static", "-o", program, *source.glob("*.c"))
        return {"conformance/conformance": program, "tests/conformance": source / "guest",
                **{f"conformance/{path.name}": path for path in
                   (source / "compare.awk", source / "excused.txt", source / "mainline-7.3.txt",
                    TOP / "docs/deviations.md")}}

    @functools.cached_property
    def kunit(self) -> Callable[[str], kunit.Suites]:
        """What the KUnit suites said on the kernel of a role, or as modules (guest)."""
        return functools.cache(kunit.suites)

    def guest(self, role: str, kind: str) -> Guest:
        """The guest of that kind, which runs what is wanted of it."""
        key = (role, kind)
        if key not in self.guests:
            names = self.wanted[key]
            spec = Spec(names, self.tests, kills=200 if role == "6.1" and self.package else 20)
            root = self.root(role)
            if "conformance" in names:
                spec.files |= self.conformance
            if kind == "twins":
                spec.devices, spec.append = iommu(root.dir / f"{role}-{kind}")
            elif kind == "suspend":
                # Falling asleep patches the kernel's code, which QEMU's threads do not bear well.
                spec.append, spec.thread, spec.limit = "no_console_suspend", "single", 200
            if "lockdown" in names:
                names.remove("lockdown")
                spec.example = EXAMPLE
                spec.files |= {"nvme": self.example, "tests/lockdown": BUILD / "suite/lockdown"}
                run("make", "-s", "-C", GUEST / "suite", f"O={BUILD}/suite", BUILD / "suite/lockdown")
            self.guests[key] = Guest(f"{role}-{kind}", root, spec)
        return self.guests[key]

    def close(self) -> None:
        """Nothing outlives the run."""
        for guest in self.guests.values():
            guest.stop()
        self.stack.close()
