# SPDX-License-Identifier: GPL-2.0-only
"""make check-all: the whole suite on every kernel that is available as a package or can be built from one; mainline's
own noiommu cdev; every compiler; programs of other projects; systems that are broken, and containers; a Xen dom0; the
packages, over version 0.1 as well. That takes hours, and some 20 GB in CACHE.
All parts run, even after one has failed; the results are rows of docs/kernels.md.

    python3 -m runner.all [PART...]
"""
from __future__ import annotations

import os
import subprocess
import sys

from . import record
from .archive import bootable
from .kernels import reference_kernel
from .machine import Failed, tell

# The pytest arguments of each part, by its name. Guests run one at a time, so that each can have a QEMU thread for each
# of its processors.
PARTS = {
    "kernels": {"make check, all kernels": ["--package", "--kernel", " ".join([*bootable(), "debug"])]},
    "reference": {"make conformance": ["reference/test_conformance_7_3.py"],
                  "make selftests": ["reference/test_selftests_7_3.py"]},
    "compilers": {"compilers": ["all/test_compilers.py"], "vmlinux with iommufd": ["all/test_vmlinux.py"]},
    "clients": {"programs of others": ["all/test_dpdk.py"]},
    "doctor": {"broken machines and containers": ["all/test_doctor.py"]},
    "xen": {"xen": ["all/test_xen.py"]},
    "packages": {"packages": ["all/test_packages.py"]},
    "live": {"a driver's unit": ["all/test_live_update.py"]},
}


def main(parts: list[str]) -> str:
    """Run these parts, or all; return which failed, as one sentence."""
    if unknown := set(parts) - set(PARTS):
        return f"there is no part '{unknown.pop()}': PARTS is of {', '.join(PARTS)}."
    os.environ["RECORD"], bad = "1", []
    for part in parts or PARTS:
        for name, args in PARTS[part].items():
            tell(f"=== {name}")
            failed = subprocess.run([sys.executable, "-B", "-m", "pytest", *args], check=False).returncode
            bad += [name] if failed else []
            if part == "reference":
                try:
                    build = reference_kernel()
                except Failed:
                    continue
                by = record.compiler_of(build.kdir / "drivers/nvme/host/nvme.ko")
                record.row(f"| {build.kver} | built here, own noiommu cdev | {name} | {by} |",
                           "FAILED" if failed else "passed")
    if bad:
        return f"not passed: {', '.join(bad)}"
    tell("all of it passed")
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) or None)
