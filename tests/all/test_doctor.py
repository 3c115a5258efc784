# SPDX-License-Identifier: GPL-2.0-only
"""noiommuctl on a Debian 12 and a Debian 13 that are broken in one way after the other, and podman's containers there.
The machines are functions of tests/guest/broken-machines; each has to succeed."""
from __future__ import annotations

from typing import Iterator

import pytest

from conftest import ended, expect
from runner.machine import LOGS, run, source_copy
from runner.root import Root
from runner.system import COMMAND, SystemGuest, install_system

PLACE = "/root/noiommufd"
SOURCE = f". {PLACE}/tests/guest/broken-machines"
# In this order; a reboot ends the lockdown.
SYSTEM = """not_loaded mode_off mounted_disk mounted_partition volume network disk no_huge_pages permissions settled
    capability locked_memory private_devices device_policy json make_container container mounted_nodes user_namespace
    example node_rights other_user little_memory lockdown reboot not_locked not_loaded""".split()
MODULES = "not_installed not_built no_headers build_fails".split()
CARD = " -netdev user,id=net,restrict=on -device virtio-net-pci,netdev=net,addr=7"
PACKAGES = "build-essential debhelper dh-dkms driverctl fdisk e2fsprogs dmsetup jq less crun runc podman iproute2"


@pytest.fixture(name="root", scope="module", params=["6.1", "6.12"])
def fixture_root(request: pytest.FixtureRequest) -> Iterator[Root]:
    """The root file system of a system, with this tree in it, and noiommuctl."""
    root = Root.of_role(request.param, f"{request.param}-doctor")
    log = LOGS / f"{root.name}-install.log"
    with root.opened() as path:
        # install_system() leaves few drivers.
        drivers = path / f"lib/modules/{root.kver}/kernel/drivers"
        run("sh", "-c", f"cp {drivers}/net/virtio_net.ko* {drivers}/net/net_failover.ko* {drivers}/md/dm-mod.ko* "
            f"{path}/tmp")
        install_system(root, log)
        source_copy(path / PLACE[1:])
        (path / PLACE[1:] / "example.c").write_text((path / PLACE[1:] / "README.md").read_text()
                                                    .partition("```c\n")[2].partition("```\n")[0])
        (path / "etc/apt/apt.conf.d/yes").write_text('APT::Get::Assume-Yes "true";\n')
        (path / "tmp/release").write_text(f"{root.kver}\n")
        run("mount", "--bind", path / "tmp/release", path / "proc/sys/kernel/osrelease")
        root.sh(f"""cp /tmp/*.ko* /lib/modules/$K/kernel/drivers; depmod $K
            apt-get install --no-install-recommends {PACKAGES}
            cd {PLACE}; make deb; apt-get install ./build/noiommufd-tools_*.deb""", log=log)
        yield root


@pytest.mark.parametrize("machine", MODULES)
def test_modules(root: Root, machine: str) -> None:
    """What is wrong with the modules is mended in the root file system."""
    root.sh(f"cd {PLACE}; bash -c '{SOURCE}; {machine}'", log=LOGS / f"{root.name}-{machine}.log")


def guest(root: Root, name: str, machines: list[str], command: str) -> None:
    """Boot a guest that is broken in these ways."""
    commands = [machine if machine == "reboot" else f"({SOURCE}; {machine})" for machine in machines]
    system = SystemGuest(f"{root.name}-{name}", root, PLACE, commands, command)
    answers = system.said()
    wrong = [f"{machine}:\n{said}" for machine, (status, said) in zip(machines, answers) if status]
    expect(not wrong, "\n".join(wrong))
    ended(system)
    assert len(answers) == len(machines)


def test_system(root: Root) -> None:
    """The running system, containers, devices that are in use."""
    guest(root, "system", SYSTEM, COMMAND.replace(" -append", f"{CARD} -append"))


def test_iommu(root: Root) -> None:
    """An IOMMU that is on."""
    guest(root, "iommu", ["iommu"], COMMAND.replace(" -append", " -device intel-iommu,intremap=off -append")
          .replace("root=", "intel_iommu=on root="))
