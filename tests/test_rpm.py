# SPDX-License-Identifier: GPL-2.0-only
"""The RPMs, built by the rpmbuild of the first kernel's distribution."""
from __future__ import annotations

import re
from typing import Iterator

import pytest

from runner.machine import LOGS, source_copy
from runner.root import Root

pytestmark = pytest.mark.xdist_group("rpm")
LOG = LOGS / "rpm.log"
MODULES = ("noiommufd", "noiommu-vfio-pci")
# The files that both packages have besides the modules, and directories that are not compared
COMMON = ["/etc/modprobe.d/noiommufd.conf", "/usr/lib/sysusers.d/noiommufd.conf",
          "/usr/lib/udev/rules.d/60-noiommufd.rules", "/usr/share/doc/noiommufd",
          *(f"/usr/lib/dracut/modules.d/90noiommufd{name}" for name in ("", "/early.sh", "/module-setup.sh")),
          *(f"/usr/share/doc/noiommufd/{name}" for name in ("CHANGELOG.md", "README.md", "SECURITY.md", "docs",
                                                            "examples")),
          *(f"/usr/share/man/man{page[-1]}/{page}" for page in ("noiommu-vfio-pci.4", "noiommufd.4", "noiommufd.7"))]
HEADERS = ["/usr/include/noiommufd", "/usr/include/noiommufd/compat", "/usr/include/noiommufd/compat/linux",
           *(f"/usr/include/noiommufd/compat/linux/{name}.h" for name in ("iommufd", "vfio")),
           *(f"/usr/include/noiommufd/{name}.h" for name in ("iommufd", "noiommufd", "vfio")),
           "/usr/share/pkgconfig/noiommufd.pc"]
DEEPER = "/(docs|examples)/"


@pytest.fixture(name="root", scope="module")
def fixture_root(first: str) -> Iterator[Root]:
    """A root with the RPMs, built in /tmp/source/build."""
    root = Root.of_role(first, f"{first}-rpm")
    with root.opened() as layer:
        source_copy(layer / "tmp/source")
        for command in ("apt-get update", "apt-get install -y --no-install-recommends rpm gcc libc6-dev",
                        "make -C /tmp/source rpm", "make -C /tmp/source rpm-kmod KDIR=/lib/modules/$K/build"):
            root.sh(command, log=LOG)
        yield root


def files(root: Root, package: str, without: str = f"/licenses/|{DEEPER}") -> list[str]:
    """The files of a package, without the suffixes of compression, which depend on the distribution's rpm and on its
    kernel."""
    lines = root.sh(f"rpm -qlp /tmp/source/build/{package}-*.rpm").splitlines()
    return sorted(re.sub(r"\.(gz|xz|zst)$", "", line) for line in lines if not re.search(without, line))


def installs(root: Root, where: str, *packages: str) -> None:
    """Installing these packages installs the modules and makes the group, and erasing them leaves nothing."""
    root.sh(f"rpm -i --nodeps {' '.join(f'/tmp/source/build/{name}-*.rpm' for name in packages)}", log=LOG)
    for module in MODULES:
        assert f"/{where}/{module}.ko" in root.sh(f"modinfo -k $K -n {module}")
    root.sh("grep ^noiommufd: /etc/group; sed -i /^noiommufd:/d /etc/group /etc/gshadow")
    root.sh(f"rpm -e {' '.join(packages)}", log=LOG)
    assert not root.left()


def test_build(root: Root) -> None:
    found = "".join(sorted(f"{path.name}\n" for path in (root.path / "tmp/source/build").glob("*.rpm")))
    names = (f"kmod-noiommufd-{root.kver}", "libnoiommufd-devel", "libnoiommufd0", "noiommufd-common", "noiommufd-dkms",
             "noiommufd-tools")
    assert re.fullmatch("".join(rf"{name}-.*\n" for name in names), found)


def test_dkms_files(root: Root) -> None:
    version = root.sh("make -s -C /tmp/source version").strip()
    assert files(root, "noiommufd-dkms", f"^/usr/(src/noiommufd-[^/]*|share/licenses/.*)/|{DEEPER}") == sorted([
        *COMMON, f"/usr/share/licenses/noiommufd-dkms-{version}", f"/usr/src/noiommufd-{version}"])
    assert "/usr/share/doc/noiommufd/examples/nvme.c" in files(root, "noiommufd-dkms", "^$")


def test_kmod_files(root: Root) -> None:
    place = f"/lib/modules/{root.kver}/extra/noiommufd"
    assert files(root, f"kmod-noiommufd-{root.kver}") == sorted([place, *(f"{place}/{name}.ko" for name in MODULES)])
    assert files(root, "noiommufd-common") == sorted(COMMON)
    said = root.sh("rpm -qp --scripts /tmp/source/build/kmod-noiommufd-*.rpm")
    assert [line for line in said.splitlines() if not line.startswith("post")] == [f"depmod -a {root.kver} || :"] * 2


def test_tools(root: Root) -> None:
    """The tools have a package of their own, and run when it is installed."""
    assert files(root, "noiommufd-tools", "/licenses/|/.build-id") == [
        "/usr/lib/noiommufd", "/usr/lib/noiommufd/libnoiommufd-vfio.so", "/usr/sbin/noiommuctl",
        "/usr/sbin/noiommufd-run", "/usr/share/bash-completion/completions/noiommuctl",
        "/usr/share/man/man8/noiommuctl.8", "/usr/share/man/man8/noiommufd-run.8"]
    root.sh("rpm -i --nodeps /tmp/source/build/noiommufd-tools-*.rpm; noiommufd-run --help; noiommuctl --help", log=LOG)
    root.sh("LD_PRELOAD=/usr/lib/noiommufd/libnoiommufd-vfio.so ls /; rpm -e noiommufd-tools", log=LOG)


def test_headers(root: Root) -> None:
    """The headers have a package of their own, which takes those that an older noiommufd-dkms had. A program is built
    and run with it and the library."""
    libdir = root.sh("rpm --eval %_libdir").strip()
    assert files(root, "libnoiommufd-devel", "/licenses/|/man3/") == sorted([
        *HEADERS, "/usr/include/libnoiommufd.h", "/usr/share/man/man7/libnoiommufd.7",
        *(f"{libdir}/{name}" for name in ("libnoiommufd.a", "libnoiommufd.so", "pkgconfig/libnoiommufd.pc"))])
    assert files(root, "libnoiommufd0", "/licenses/|/.build-id") == [f"{libdir}/libnoiommufd.so.0"]
    # gcc and ld.so here look for libraries elsewhere.
    root.sh(f"""rpm -i --nodeps /tmp/source/build/libnoiommufd*.rpm; cd /tmp
        gcc -L{libdir} -o edu source/examples/edu.c -lnoiommufd; ! LD_LIBRARY_PATH={libdir} ./edu 2>said
        grep 'No device is bound' said; rpm -e libnoiommufd-devel libnoiommufd0""", log=LOG)
    said = root.sh("rpm -qp --conflicts /tmp/source/build/libnoiommufd-devel-*.rpm")
    assert re.search("^noiommufd-dkms < ", said, re.M)


def test_changelog(root: Root) -> None:
    for package in ("noiommufd-dkms", "noiommufd-common"):
        assert " - 0.1-1\n- First version." in root.sh(f"rpm -qp --changelog /tmp/source/build/{package}-*.rpm")


def test_kmod_installs(root: Root) -> None:
    installs(root, "extra/noiommufd", f"kmod-noiommufd-{root.kver}", "noiommufd-common")


def test_dkms_installs(root: Root) -> None:
    installs(root, "updates/dkms", "noiommufd-dkms")


def test_kmods_of_two_kernels(root: Root) -> None:
    """The modules for one kernel do not remove those for another, and newer ones replace older ones for the same
    kernel. This takes modules that are quick to build."""
    other = "6.0-other"
    source_copy(root.path / "tmp/kmod")
    (root.path / "tmp/kmod/Kbuild").write_text("""obj-m := noiommufd.o noiommu-vfio-pci.o
noiommufd-y := src/small.o
noiommu-vfio-pci-y := src/small2.o
ccflags-y := -DNOIOMMUFD_VERSION='"$(shell cat $(src)/VERSION)"'
""")
    root.sh(f"""cd /tmp/kmod
        printf '#include <linux/module.h>\\nMODULE_VERSION(NOIOMMUFD_VERSION);\\nMODULE_LICENSE("GPL");\\n' |
            tee src/small.c > src/small2.c
        echo : > compat/run-probes
        cp -a /usr/src/linux-headers-$K /usr/src/linux-headers-{other}
        cd /usr/src/linux-headers-{other}
        sed -i 's/".*"/"{other}"/' include/generated/utsrelease.h
        sed -i 's/KERNELRELEASE = .*/KERNELRELEASE = {other}/' .kernelvariables""")

    def are(version: str, kver: str) -> None:
        for module in MODULES:
            assert root.sh(f"modinfo -F version /lib/modules/{kver}/extra/noiommufd/{module}.ko").strip() == version

    def install(version: str, kver: str) -> None:
        root.sh(f"""cd /tmp/kmod
            sed -i '1s/(.*)/({version})/' debian/changelog
            make rpm-kmod KDIR=/usr/src/linux-headers-{kver}
            rpm -U --nodeps --replacepkgs build/noiommufd-common-{version}-*.rpm \
                build/kmod-noiommufd-{kver}-{version}-*.rpm""", log=LOG)
        are(version, kver)

    install("7.1", root.kver)
    install("7.1", other)
    are("7.1", root.kver)
    install("7.2~git5.abc", root.kver)
    are("7.1", other)
    assert f"kernel-uname-r = {other}" in root.sh(f"rpm -q --requires kmod-noiommufd-{other}").splitlines()
    root.sh(f"""rpm -e kmod-noiommufd-$K kmod-noiommufd-{other} noiommufd-common
        rm -r /usr/src/linux-headers-{other} /lib/modules/{other}""", log=LOG)
    assert not root.left()
