# SPDX-License-Identifier: GPL-2.0-only
"""Debian's Xen, with role 6.1's kernel as dom0, which is a PV domain: the modules have to refuse the one device that is
there."""
from __future__ import annotations

from pathlib import Path

from conftest import ended, no_faults
from runner.guest import Guest, Spec
from runner.machine import LOGS
from runner.root import PackageRoot
from runner.session import Session

FRAMES = ["guest-load", "xen", "guest-unload"]
# Xen takes the serial console, and starts the kernel with the guest's image.
COMMAND = """-accel tcg,tb-size=512 -cpu qemu64 -m 2G -kernel {kernel} -append "com1=115200,8n1 console=com1
    dom0_mem=1500M" -initrd "%s console=hvc0 panic=-1,{image}" -device edu,bus=pcie.0,addr=4"""


class XenRoot(PackageRoot):
    """A root with Xen."""

    def kernel(self) -> Path:
        return self.path / "boot/xen"


def test_pv_domain_takes_no_device(ours: Session) -> None:
    """In a PV domain the device is refused, and nothing else goes wrong."""
    root = XenRoot("6.1", ours.deb)
    root.sh("""apt-get update; apt-get install -y --no-install-recommends xen-hypervisor
        gunzip -c /boot/xen-*-amd64.gz > /boot/xen""", log=LOGS / "xen-install.log")
    plan = "export SLOW=4\nframe guest-load load\nrun xen\nframe guest-unload unload\n"
    guest = Guest("xen", root, Spec(plan, FRAMES, programs=["xen"], limit=300,
                                    command=COMMAND % PackageRoot.kernel(root)))
    ended(guest)
    no_faults(guest, FRAMES, FRAMES)
