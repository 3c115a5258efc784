# SPDX-License-Identifier: GPL-2.0-only
"""A Debian that boots from a disk with systemd, in which a user's commands run."""
from __future__ import annotations

import re
import shutil
from pathlib import Path

from .guest import Guest, Spec
from .machine import GUEST, LOGS, run
from .root import Root

# The packages of an installed Debian that our root file systems lack
PACKAGES = "systemd-sysv dbus passwd initramfs-tools libcap2-bin systemd-container"
# The directories of drivers that are kept
DRIVERS = "acpi|block|char|firmware|misc|nvme|vfio|virtio"
# One thread runs both processors, since tests/guest/watch does not watch this machine. It may reboot; the disk's file
# is never written to.
COMMAND = """-accel tcg,thread=single,tb-size=512 -cpu qemu64 -m 2G -smp 2 -action reboot=reset
    -kernel {kernel} -initrd {image}
    -drive file=%s/root,if=none,id=root,format=raw,snapshot=on -device virtio-blk-pci,drive=root,addr=3
    -drive file=%s/disk,if=none,id=disk,format=raw -device nvme,drive=disk,serial=noiommufd,addr=5
    -append "console=ttyS0 root=/dev/vda rw panic=-1 oops=panic mitigations=off nokaslr tsc=reliable
    random.trust_cpu=on no_timer_check systemd.show_status=0\""""

UNIT = """[Unit]
After=multi-user.target
[Install]
WantedBy=multi-user.target
[Service]
ExecStart=/commands/run
KillMode=mixed
Environment=HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""


def install_system(root: Root, log: Path) -> None:
    """Install in an opened root what a bootable system needs."""
    root.sh(f"""apt-get update
        apt-get install -y --no-install-recommends {PACKAGES}
        # depmod reads them all, and an emulated processor takes long over that.
        cd /lib/modules/$K/kernel/drivers
        ls | grep -vxE '{DRIVERS}' | xargs rm -r ../sound
        depmod $K
        printf 'MODULES=list\\nCOMPRESS=gzip\\n' > /etc/initramfs-tools/conf.d/guest
        printf 'virtio_pci\\nvirtio_blk\\next4\\n' >> /etc/initramfs-tools/modules
        mkinitramfs -o /boot/initrd $K""", log=log)


class SystemGuest(Guest):
    """A guest that runs bash commands one after the other, as root and in one shell; after "reboot", it continues with
    the next one."""

    def __init__(self, name: str, root: Root, place: str, commands: list[str], command: str = COMMAND,
                 limit: int = 900) -> None:
        super().__init__(name, root, Spec(limit=limit, command=command % ((root.dir / name,) * 2)))
        self.place, self.commands = place, commands

    def image(self) -> Path:
        """Make the disk from the root as it is now; the initramfs is the distribution's."""
        top, disk, view = self.root.path, self.dir / "root", self.dir / "view"
        shutil.rmtree(top / "commands", ignore_errors=True)
        (top / "commands").mkdir()
        for number, command in enumerate(self.commands):
            (top / f"commands/{number}").write_text(command + "\n")
        shutil.copy(GUEST / "commands", top / "commands/run")
        (top / "etc/systemd/system/commands.service").write_text(UNIT + f"WorkingDirectory={self.place}\n")
        self.root.sh("systemctl enable commands.service")
        # A bind mount of the root, which lacks what is mounted in it
        view.mkdir(exist_ok=True)
        run("mount", "--bind", top, view)
        disk.unlink(missing_ok=True)
        with open(disk, "wb") as file:
            file.truncate(4 << 30)
        run("mke2fs", "-qF", "-t", "ext4", "-d", view, disk, log=LOGS / f"{self.name}-disk.log")
        run("umount", view)
        return top / "boot/initrd"

    def said(self) -> list[tuple[int, str]]:
        """The status and the output of each command that ended."""
        self.end()
        out = self.out.read_text(errors="replace").replace("\r", "")
        return [(int(status), text) for text, status in
                re.findall(r"^# command \d+\n(.*?)^# status (\d+)$", out, re.M | re.S)]
