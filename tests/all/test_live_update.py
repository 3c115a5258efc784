# SPDX-License-Identifier: GPL-2.0-only
"""The unit of docs/live-update.md on a Debian 13: its driver is killed, restarted and stopped; systemd holds its
files."""
from __future__ import annotations

import re
import shutil

from conftest import ended
from runner.machine import LOGS, TOP
from runner.root import Root, example
from runner.system import COMMAND, SystemGuest, install_system

SLOW = "-drive cache=unsafe,throttling.bps-total=1048576,file=%s/disk"
COMMANDS = [
    """modprobe noiommu-vfio-pci enable_unsafe_noiommu_mode=1
    cd /sys/bus/pci/devices/0000:00:05.0
    [ ! -e driver ] || echo 0000:00:05.0 > driver/unbind
    echo noiommu-vfio-pci > driver_override
    echo 0000:00:05.0 > /sys/bus/pci/drivers_probe""",
    "systemctl start handover",
    *["sleep 1; systemctl kill -s KILL handover; sleep 3; systemctl is-active handover"] * 3,
    "systemctl restart handover",
    "sleep 1; systemctl show -P NFileDescriptorStore handover",
    "systemctl stop handover; systemctl show -P NFileDescriptorStore -P Result handover",
    "journalctl --no-pager -o cat -u handover"]


def test_unit() -> None:
    """Three kills and a restart are four successors that take over; after a stop nothing is left."""
    root = Root.of_role("6.12", "6.12-live-update")
    modules = root.modules()
    [unit] = re.findall(r"^```ini\n(.*?)^```$", (TOP / "docs/live-update.md").read_text(), re.M | re.S)
    with root.opened() as top:
        install_system(root, LOGS / f"{root.name}-install.log")
        (top / "etc/systemd/system/handover.service").write_text(unit)
        shutil.copy(example("handover"), top / "usr/local/bin")
        for module in modules:
            shutil.copy(module, top / "lib/modules" / root.kver)
        root.sh("depmod $K")
        guest = SystemGuest(f"{root.name}-guest", root, "/root", COMMANDS, COMMAND.replace("-drive file=%s/disk", SLOW))
        answers = guest.said()
    ended(guest)
    assert [status for status, _ in answers] == [0] * len(COMMANDS), answers
    # The iommufd, the device, four pieces of memory, two interrupts, the description
    assert answers[-3][1] == "9\n" and answers[-2][1].split() == ["0", "success"], answers
    said = answers[-1][1]
    assert "Takeovers   4\n" in said and "every block: all equal" in said, said
