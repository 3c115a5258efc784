# SPDX-License-Identifier: GPL-2.0-only
"""Upgrades and downgrades, by each dkms, with modules that are quick to build: they have only a version, for
modinfo."""
from __future__ import annotations

import re
from typing import Iterator

import pytest

from runner.machine import LOGS, Failed, run, source_copy
from runner.root import SYSUSERS, Root

pytestmark = pytest.mark.xdist_group("dkms")
LOG = LOGS / "dkms.log"
# The second is older than the third, but dkms takes it for newer.
VERSIONS = ("7.1", "7.2~git5.abc", "7.2")
UP_AND_DOWN = ("7.2~git5.abc", "7.2", "7.1")
# The versions of dkms, and the suites that have them
DKMS = {"3.0": "", "2.8": "bullseye", "newest": "sid"}
SMALL = r"""version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' dkms.conf)
mkdir -p build/dkms
for m in noiommufd noiommu-vfio-pci; do
    printf '.section .modinfo,"a"\n.asciz "version=%s"\n' "$version" | as -o build/dkms/$m.ko - || exit
done
"""
WAYS = {"hand": "make -C /tmp/small/{0} dkms-install",
        "deb": "apt-get install -y --allow-downgrades /tmp/small/{0}/build/noiommufd-dkms_*.deb",
        "rpm": "rpm -U --nodeps --oldpackage --replacepkgs /tmp/small/{0}/build/noiommufd-dkms-*.rpm"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run with the root's own dkms, and in make check-all also with those of other suites."""
    if "suite" in metafunc.fixturenames:
        suites = {"3.0": ""} if metafunc.config.getoption("--daily") else DKMS
        metafunc.parametrize("suite", suites.values(), ids=suites)


@pytest.fixture(name="root", scope="module")
def fixture_root(first: str) -> Iterator[Root]:
    """A root with the packages of all versions, in /tmp/small/VERSION/build."""
    root = Root.of_role(first, f"{first}-dkms")
    with root.opened() as layer:
        root.sh(f"apt-get update; apt-get install -y --no-install-recommends rpm gcc libc6-dev; {SYSUSERS}", log=LOG)
        for version in VERSIONS:
            place = layer / "tmp/small" / version
            source_copy(place)
            (place / "src/small").write_text(SMALL)
            root.sh(f"""cd /tmp/small/{version}; sed -i '1s/(.*)/({version})/' debian/changelog
                sed -i 's|^MAKE\\[0\\]=.*|MAKE[0]="sh src/small"|' dkms.conf""")
            run("make", "-C", place, "deb", log=LOG)
            root.sh(f"make -C /tmp/small/{version} rpm", log=LOG)
        yield root


def found(root: Root, version: str) -> None:
    """The modules that the kernel finds have this version."""
    for module in ("noiommufd", "noiommu-vfio-pci"):
        assert root.sh(f"modinfo -k $K -F version {module}").strip() == version


def install(root: Root, way: str, *versions: str) -> None:
    """Install each of these versions over the one before."""
    for version in versions:
        root.sh(WAYS[way].format(version), log=LOG)
        found(root, version)


def removed(root: Root, command: str) -> None:
    """Run a command that removes the modules: nothing is left."""
    root.sh(command, log=LOG)
    assert not root.left()


def test_packages(root: Root) -> None:
    for version in VERSIONS:
        for kind in ("deb", "rpm"):
            assert len(list((root.path / "tmp/small" / version / "build").glob(f"noiommufd-dkms*.{kind}"))) == 1


def test_initramfs_follows(root: Root) -> None:
    """The initramfs has the modules if a device is bound at each boot and the unsafe mode is on. Then an upgrade also
    updates them there, and a removal removes them."""
    root.sh("""printf 'MODULES=list\\nCOMPRESS=gzip\\n' > /etc/initramfs-tools/conf.d/noiommufd
        mkdir /etc/driverctl.d; echo vfio-pci > /etc/driverctl.d/pci-0000:00:04.0
        echo noiommu-vfio-pci > /etc/driverctl.d/pci-0000:00:05.0
        update-initramfs -c -k $K""", log=LOG)

    def there() -> str:
        return root.sh("""rm -rf /tmp/initramfs; unmkinitramfs /boot/initrd.img-$K /tmp/initramfs
            find /tmp/initramfs -name 'noiommu-vfio-pci.ko*' | xargs -r modinfo -F version""").strip()

    install(root, "deb", "7.1")
    assert not there()
    root.sh("sed -i s/mode=0/mode=1/ /etc/modprobe.d/noiommufd.conf; update-initramfs -u -k $K", log=LOG)
    assert there() == "7.1" and root.sh("cat /tmp/initramfs/etc/noiommufd.early") == "0000:00:05.0\n"
    install(root, "deb", "7.2")
    assert there() == "7.2"
    # With the example that version 0.1 had
    root.sh("echo '# noiommu-vfio-pci' > /etc/initramfs-tools/hooks/old")
    said = root.sh("apt-get purge -y noiommufd-dkms", log=LOG)
    assert re.search("^noiommufd: an initramfs .*: remove /etc/initramfs-tools/hooks/old and", said, re.M)
    assert not there()
    root.sh("rm -r /etc/initramfs-tools/hooks/old /etc/initramfs-tools/conf.d/noiommufd /boot/initrd.img-$K")
    root.sh("rm -r /etc/driverctl.d /tmp/initramfs")


def test_initramfs_without_the_module(root: Root) -> None:
    """If the module is missing, the initramfs script leaves the devices alone, and reports that in the kernel's log."""
    said = root.sh("""driver=/sys/bus/pci/devices/0000:00:05.0/driver
        mkdir -p $driver
        echo bound > $driver/unbind
        echo 0000:00:05.0 > /etc/noiommufd.early
        sh /tmp/small/7.1/initramfs/early.sh
        cat $driver/unbind /dev/kmsg
        rm -r /sys/* /dev/kmsg /etc/noiommufd.early""").splitlines()
    assert len(said) == 2 and said[0] == "bound"
    assert said[1].startswith("<3>noiommufd: no device is bound, because the module cannot be loaded: modprobe: ")


def files(root: Root) -> set[str]:
    """The files of the system, except those that dkms, dpkg and caches make."""
    said = root.sh("find /etc /usr -path /usr/lib/modules -prune -o -type f -print -o -type l -print")
    return {name for name in said.splitlines() if not re.search("^/etc/(ld.so.cache|mtab)|/__pycache__/", name)}


def test_by_hand_as_the_package(root: Root) -> None:
    """make dkms-install installs the files that the package has, and removal leaves none, except a configuration that
    was changed."""
    conf, before = root.path / "etc/modprobe.d/noiommufd.conf", files(root)
    install(root, "hand", "7.1", "7.2")
    ours = {re.sub("^/usr/src/[^/]*/(installed|noiommufd.conf)$", "", name) for name in files(root) - before} - {""}
    said = root.sh("for deb in /tmp/small/7.2/build/*.deb; do dpkg-deb --fsys-tarfile $deb | tar -t; done")
    package = {re.sub(r"(/share/doc/noiommufd)-dkms|(/lib)/x86_64-linux-gnu|\.gz$", r"\1\2", name[1:])
               for name in said.splitlines()}
    assert ours == {name for name in package if not re.search("/$|/(copyright|changelog)$|/lintian/", name)}
    for name in ("/usr/include/noiommufd/vfio.h", "/usr/lib/udev/rules.d/60-noiommufd.rules", "/usr/sbin/noiommufd-run",
                 "/usr/share/doc/noiommufd/README.md", "/usr/share/man/man7/noiommufd.7"):
        assert name in ours
    removed(root, "make -C /tmp/small/7.2 dkms-remove")
    assert files(root) == before
    # With a umask that lets no other user read new files
    root.sh("umask 077; make -C /tmp/small/7.1 dkms-install", log=LOG)
    assert (root.path / "usr/include/noiommufd/vfio.h").stat().st_mode & 0o777 == 0o644
    conf.write_text(conf.read_text().replace("mode=0", "mode=1"))
    install(root, "hand", "7.2")
    said = root.sh("make -C /tmp/small/7.2 dkms-remove", log=LOG)
    assert "noiommufd: /etc/modprobe.d/noiommufd.conf stays" in said and "mode=1" in conf.read_text()
    conf.unlink()
    assert files(root) == before
    # A package takes over all files.
    for way, gone in (("deb", "apt-get purge -y noiommufd-dkms"), ("rpm", "rpm -e noiommufd-dkms")):
        install(root, "hand", "7.2")
        install(root, way, "7.1")
        removed(root, gone)
        assert files(root) == before


def test_headers_move(root: Root) -> None:
    """The headers of an older noiommufd-dkms are those of libnoiommufd-dev after an upgrade."""
    root.sh("""cd /tmp; dpkg-deb -R small/7.1/build/noiommufd-dkms_*.deb old
        make -C small/7.1 install-headers DESTDIR=/tmp/old; dpkg-deb -b old old.deb
        apt-get install -y /tmp/old.deb; dpkg -S /usr/include/noiommufd/vfio.h | grep ^noiommufd-dkms:
        dpkg -i small/7.2/build/libnoiommufd-dev_*.deb && exit 1
        apt-get install -y /tmp/small/7.2/build/*.deb""", log=LOG)
    found(root, "7.2")
    for name in ("include/noiommufd/vfio.h", "share/pkgconfig/noiommufd.pc"):
        assert root.sh(f"dpkg -S /usr/{name}").startswith("libnoiommufd-dev:")
    removed(root, "apt-get purge -y noiommufd-dkms noiommufd-tools libnoiommufd-dev libnoiommufd0")


def test_root_is_asked_first(root: Root) -> None:
    """make dkms-install first asks for root, not for dkms, which is not in a user's PATH."""
    for target in ("dkms-install", "dkms-remove"):
        said = root.sh(f"""setpriv --reuid=65534 --regid=65534 --clear-groups env PATH=/usr/bin:/bin \
            make -s --no-print-directory -C /tmp/small/7.1 {target} 2>&1 || :""")
        assert said.splitlines()[0] == f"noiommufd: this needs root: sudo make {target}"
    # With su, root has a user's PATH.
    root.sh("PATH=/usr/bin:/bin; make -C /tmp/small/7.1 dkms-install", log=LOG)
    removed(root, "PATH=/usr/bin:/bin; make -C /tmp/small/7.1 dkms-remove")


def test_headers_are_named(root: Root) -> None:
    """If headers are missing, the error names the package for the running kernel and the one that follows its
    flavour."""
    setup = "sh /tmp/small/7.1/scripts/dkms-setup"
    for kernel, flavour in (("6.1.0-56-cloud-amd64", "cloud-amd64"), ("6.12.118+deb13-amd64", "amd64"),
                            ("6.8.0-45-generic", "generic")):
        assert f" linux-headers-{kernel}, and linux-headers-{flavour} " in root.sh(f"{setup} headers {kernel}")
    said = root.sh(f"""mkdir /lib/modules/$(uname -r); touch /lib/modules/$(uname -r)/modules.dep
        {setup} check 7.1; rm -r /lib/modules/$(uname -r); uname -r""").splitlines()
    assert "nothing was built for the running kernel" in said[0] and f" linux-headers-{said[1]}, " in said[0]
    said = root.sh("make -s -C /tmp/small/7.1 modules KDIR=/lib/modules/1.2-3-none/build 2>&1 || :").splitlines()
    assert "there is no kernel build directory" in said[0] and " linux-headers-1.2-3-none, " in said[0]


@pytest.mark.parametrize("way", WAYS)
def test_leftovers(root: Root, way: str) -> None:
    """Removing the package while a device is in use reports what is left."""
    device = "0000:00:05.0"
    install(root, way, "7.1")
    root.sh(f"""mkdir -p /sys/bus/pci/drivers/noiommu-vfio-pci/{device} /sys/module/noiommufd /etc/driverctl.d
        echo noiommu-vfio-pci > /etc/driverctl.d/pci-{device}""")
    said = root.sh({"hand": "make -C /tmp/small/7.1 dkms-remove", "deb": "apt-get purge -y noiommufd-dkms",
                    "rpm": "rpm -e noiommufd-dkms"}[way], log=LOG)
    for words in (f"{device} keeps its driver", "the modules stay loaded", f"{device} will have no driver"):
        assert len(re.findall(f"^noiommufd: {words}", said, re.M)) == 1, words
    root.sh("rm -r /sys/* /etc/driverctl.d; make -C /tmp/small/7.1 dkms-remove")


def test_in_the_way(root: Root) -> None:
    """If the kernel finds other modules before ours, installing reports them. (dkms 3.2 moves them away.)"""
    other = f"/lib/modules/{root.kver}/updates/noiommufd.ko"
    install(root, "hand", "7.1")
    root.sh(f"cp /tmp/small/7.1/README.md {other}; depmod $K")
    with pytest.raises(Failed):
        root.sh("make -C /tmp/small/7.2 dkms-install", log=LOG)
    assert re.search(f"^noiommufd: kernel {root.kver} finds {other}, and not", LOG.read_text(), re.M)
    root.sh(f"rm {other}")
    removed(root, "make -C /tmp/small/7.2 dkms-remove")


def test_upgrades_by(root: Root, suite: str) -> None:
    """Upgrade and downgrade in each way, with the dkms of a suite."""
    with root.dkms_of(suite):
        install(root, "hand", *UP_AND_DOWN)
        root.sh("dkms uninstall -m noiommufd -v 7.1 -k $K; dkms autoinstall --kernelver=$K/x86_64", log=LOG)
        found(root, "7.1")
        # The package replaces that, and is not replaced by hand
        install(root, "deb", *UP_AND_DOWN)
        with pytest.raises(Failed):
            root.sh("make -C /tmp/small/7.2 dkms-install", log=LOG)
        removed(root, "apt-get purge -y noiommufd-dkms; make -C /tmp/small/7.2 dkms-remove")
        # As on Fedora, where DKMS installs into another directory
        root.sh("mv /etc/os-release /tmp/os-release; echo ID=fedora > /etc/os-release")
        try:
            install(root, "rpm", "7.2~git5.abc", "7.2", "7.2", "7.1")
            removed(root, "rpm -e noiommufd-dkms")
        finally:
            root.sh("mv /tmp/os-release /etc/os-release")
