# SPDX-License-Identifier: GPL-2.0-only
"""A small kernel that has iommufd built in, and noiommufd beside it."""
from __future__ import annotations

from runner.kernels import source
from runner.machine import BUILD, JOBS, LOGS, TESTS, remove, run

OPTIONS = """64BIT MODULES NET PCI PCI_MSI EVENTFD VFIO VFIO_DEVICE_CDEV VFIO_PCI IOMMU_SUPPORT IOMMUFD
    NOIOMMUFD NOIOMMU_VFIO_PCI""".split()


def test_links() -> None:
    """The kernel links: no symbol of ours clashes with the kernel's."""
    out, log = BUILD / "vmlinux", LOGS / "vmlinux.log"
    remove(out)
    out.mkdir(parents=True)
    with source("6.12") as tree:
        make = ["make", "-s", JOBS, "-C", str(tree), f"O={out}"]
        run(TESTS / "kunit/link-into-tree", tree)
        run(*make, "tinyconfig", log=log)
        run(tree / "scripts/config", "--file", out / ".config", *(word for name in OPTIONS for word in ("-e", name)))
        run(*make, "olddefconfig", log=log)
        config = (out / ".config").read_text().splitlines()
        assert "CONFIG_IOMMUFD=y" in config and "CONFIG_NOIOMMU_VFIO_PCI=y" in config
        run(*make, "vmlinux", log=log)
    symbols = run("nm", out / "vmlinux").split()
    assert "iommufd_ctx_from_fd" in symbols and "noiommufd_ctx_from_fd" in symbols, f"see {log}"
    remove(out)
