# SPDX-License-Identifier: GPL-2.0-only
"""make demo [KERNEL=role]: run examples/nvme in a guest with a stock kernel and no IOMMU, then compare the file behind
its disk with the pattern that the example writes."""
from __future__ import annotations

import contextlib
import random
import sys
import time
from typing import Iterator

from .archive import guest_role, kernel_resolve, root_cached
from .guest import Guest, Spec, log_trouble
from .machine import Failed, program, tell
from .root import example, pattern
from .session import Session

MIB = 64


class ShownGuest(Guest):
    """A guest that prints to our own output."""
    stdout = None


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """Print what begins, and then how long it took."""
    tell(f"== {name}")
    began = time.monotonic()
    yield
    tell(f"  ({name}: {time.monotonic() - began:.0f} s)")


def demo(role: str) -> int:
    """Run the demo on a role's kernel, and print a sentence for each step."""
    guest_role(role)
    began, seed = time.monotonic(), random.randint(1, 32768)
    with part(f"Debian with its stock {role} kernel"):
        root_cached(role)
        kernel = kernel_resolve(role)
        tell(f"kernel {kernel.kver} ({kernel.version})")
    with part("our package, installed there by apt"):
        root = Session(True, False, "", "", "").root(role)
        tell(root.chroot("dkms", "status", "-k", kernel.kver).rstrip())
    with part("a guest with an NVMe controller and no IOMMU"):
        # Without a terminal here, the program in the guest writes to a pipe, so that it sees none either.
        command = f"{'' if sys.stdout.isatty() else 'piped '}/nvme --device 0000:00:05.0 --mib {MIB} --seed {seed}"
        guest = ShownGuest(f"{role}-demo", root, Spec(
            f'bind_nvme && {command}\necho "<5>guest: demo ended with $?" > /dev/kmsg\n', limit=300,
            files={"nvme": example()}))
        tell("booting it in QEMU")
        guest.end()
        if guest.why:
            raise Failed(f"the guest ended before its time: {guest.why}; its kernel's log would be {guest.console}.")
        if "guest: demo ended with 0" not in guest.log():
            raise Failed("examples/nvme failed in the guest: its output is above, the guest's kernel log in "
                         f"{guest.console}.")
    with part("the same, seen from outside"):
        with open(guest.dir / "disk", "rb") as disk:
            if disk.read(MIB << 20) != pattern(seed, MIB << 20):
                raise Failed("the namespace's file does not hold what the guest says it wrote.")
        tell(f"The namespace's file holds the pattern: {MIB << 20} bytes compared, seed {seed}.")
        if trouble := log_trouble(guest.log()):
            tell(trouble)
            raise Failed(f"the guest's kernel log has the lines above: see {guest.console}.")
        tell("The guest's kernel log has no warning.")
    tell(f"Done in {time.monotonic() - began:.0f} s: user-space NVMe on Linux {kernel.kver} without an IOMMU, "
         "by the Linux 7.3 UAPI.")
    return 0


if __name__ == "__main__":
    program("demo", demo, sys.argv[1] if sys.argv[1:] and sys.argv[1] else "6.1")
