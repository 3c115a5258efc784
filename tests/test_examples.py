# SPDX-License-Identifier: GPL-2.0-only
"""What examples/nvme and noiommufd-run print when something is missing, with plain files for the nodes."""
from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from runner.machine import run
from runner.root import example, tools

pytestmark = pytest.mark.xdist_group("examples")
BDF = "0000:00:05.0"
NODE = "/dev/vfio/devices/noiommu-vfio0"
DEVICE = f"mkdir -p /sys/bus/pci/devices/{BDF}/vfio-dev/noiommu-vfio0"
OPEN = f"{DEVICE}; : > {NODE}; chmod 666 {NODE}"
# As with a device cgroup, not even root may open it.
DENIED = "touch {0}; mount --bind $denied {0}"
NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"

# What exists, how the program is run, what it prints
CASES = {
    "no_iommufd": (OPEN, "", "/dev/iommu is not there: load the modules with `modprobe noiommu-vfio-pci enable_unsafe"),
    "other_dev": (f"{OPEN}; mkdir -p /sys/class/misc/iommu", "", "/dev/iommu is there, but not in this /dev"),
    "second_iommufd": (f"{OPEN}; mkdir -p /sys/class/misc/noiommufd", "",
                       "/dev/noiommufd is there, but not in this /dev"),
    "not_allowed": (f"{OPEN}; : > /dev/iommu; chmod 640 /dev/iommu", NOBODY,
                    "You may not open /dev/iommu, which has mode 0640, user 0 and group 0"),
    "no_such_device": ("", "", f"There is no PCI device {BDF}"),
    "not_bound": (f"mkdir -p /sys/bus/pci/devices/{BDF}", "",
                  f"{BDF} is bound to no driver, not to noiommu-vfio-pci. As root:\n  modprobe"),
    "not_bound_loaded": (f"mkdir -p /sys/bus/pci/devices/{BDF} /sys/module/noiommu_vfio_pci", "",
                         "  echo 1 > /sys/module/noiommu_vfio_pci/parameters/enable_unsafe_noiommu_mode\n"),
    "device_not_in_dev": (DEVICE, "", f"{NODE} is there, but not in this /dev"),
    "cgroup": (f"{OPEN}; {DENIED.format('/dev/iommu')}", "",
               "/dev/iommu is kept from this program by its device cgroup"),
    "no_capability": (f"{DEVICE}; {DENIED.format(NODE)}", "setpriv --bounding-set=-sys_rawio",
                      f"{NODE} needs CAP_SYS_RAWIO"),
    "device_cgroup": (f"{DEVICE}; {DENIED.format(NODE)}", "",
                      f"{NODE} is kept from this program by a user namespace, in which CAP_SYS_RAWIO does not count, "
                      "or by its device cgroup")}


@pytest.fixture(name="denied", scope="module")
def fixture_denied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file that cannot be opened for writing."""
    file = tmp_path_factory.mktemp("examples") / "denied"
    file.touch()
    run("chattr", "+i", file)
    yield file
    run("chattr", "-i", file)


@pytest.mark.parametrize("case", CASES)
def test_says(case: str, denied: Path) -> None:
    there, how, says = CASES[case]
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-ec", f"""
        denied={denied}
        mount -t tmpfs tmpfs /sys
        mount -t tmpfs tmpfs /dev
        mkdir -p /dev/vfio/devices
        cp {example()} /dev/nvme
        {there}
        exec {how} /dev/nvme {BDF}"""], check=False, text=True, capture_output=True)
    assert done.returncode == 1 and says in done.stderr, done.stderr


def test_run_without_namespaces() -> None:
    """Without the right to make namespaces, as in a container, noiommufd-run fails as for anything else that is
    missing."""
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-ec", f"""
        mount -t tmpfs tmpfs /dev
        touch /dev/noiommufd /dev/iommu
        mknod -m 666 /dev/null c 1 3
        exec setpriv --bounding-set=-sys_admin {tools()}/noiommufd-run -- echo it ran"""],
                          check=False, text=True, capture_output=True)
    assert done.returncode == 125 and not done.stdout and "a mount namespace is not allowed here" in done.stderr
