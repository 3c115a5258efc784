# SPDX-License-Identifier: GPL-2.0-only
"""The package in the root file systems of its kernels; and the source, where it is built in other ways or refused."""
from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path
from typing import Iterator

import pytest

from conftest import ended, no_faults
from runner.archive import kernel_resolve, roles
from runner.guest import Guest, Spec
from runner.kernels import log_no_warnings, signing_key
from runner.machine import GUEST, LOGS, TESTS, TOP, Failed, remove, run, source_copy
from runner.root import PackageRoot, Root, example, took
from runner.session import Session

MODULES = ("noiommufd", "noiommu-vfio-pci")
SOURCES, PREBUILT = pytest.mark.xdist_group("sources"), pytest.mark.xdist_group("prebuilt")
# How an initramfs is made
TOOLS = {"initramfs-tools": "mkinitramfs -o /boot/initrd $K",
         "dracut": """apt-get update; apt-get install -y --no-install-recommends dracut-core
             dracut --force --no-hostonly --no-compress --kver $K --add-drivers 'virtio_blk ext4 nvme' \\
                 -m 'base rootfs-block fs-lib udev-rules noiommufd' /boot/initrd"""}
# The processor time, in seconds, of fixed_work() on the machine that the limits are for. Others may be slower, and any
# is slower if it shares its cores.
FIXED_TIME = 1.6


def fixed_work() -> str:
    """Work that is the same on every machine, to measure its speed."""
    return run("sh", "-c", f"""cd {TOP}/examples; for file in nvme nvme_ctrl; do for i in 1 2 3 4 5; do
        gcc -O2 -I../include -I. -c -o /dev/null $file.c; done & done; wait""")


def took_at_most(limit: int, spent: tuple[float, float]) -> None:
    """Fail if something took more than limit seconds, unless only because the machine is slow or busy. On an idle one,
    1.5 of its two processors are at work, so that is the processor time allowed for each second."""
    processors, clock = spent
    assert processors > 0 and clock > 0
    if clock > limit:
        slow = max(1, took(fixed_work)[0] / FIXED_TIME)
        assert processors <= 1.5 * limit * slow, f"allowed are {limit} s, here {slow:.1f} times as much"


def installed(root: Root) -> None:
    """The kernel has the modules that DKMS built."""
    assert ": installed" in root.sh("dkms status -m noiommufd -k $K")


def updated(root: Root) -> None:
    """The kernel finds these modules before any others."""
    for module in MODULES:
        assert f"/updates/dkms/{module}.ko" in root.sh(f"modinfo -k $K -n {module}")


def without_warnings(root: Root) -> None:
    """The log that dkms kept of the build, which had W=1, has no warning."""
    logs = [path for path in root.path.glob("var/lib/dkms/noiommufd/**/make.log") if root.kver in path.parts]
    assert logs, "dkms kept no make.log"
    for log in logs:
        log_no_warnings(log)


@functools.cache
def probed(package: PackageRoot) -> tuple[float, float]:
    """Run the package's probes in /tmp/probes, and return how long that took."""
    return took(lambda: package.sh("""mkdir -p /tmp/probes; cp -r /usr/src/noiommufd-*/compat /tmp/probes
        bash /tmp/probes/compat/run-probes /lib/modules/$K/build /tmp/probes""",
                                   log=LOGS / f"{package.role}-probes.log"))


def facts(package: PackageRoot, name: str = "probes") -> dict[str, str]:
    """What each probe answered in this directory of /tmp."""
    probed(package)
    return {path.stem: path.read_text().strip() for path in (package.path / "tmp" / name).glob("compat/probe/*.fact")}


def answers(package: PackageRoot) -> dict[str, str]:
    """The answers of the probes, as the generated header has them."""
    probed(package)
    compat = package.path / "tmp/probes/compat"
    have = re.findall(r"^#define HAVE_(\w+) ", (compat / "generated/features.h").read_text(), re.M)
    return {path.stem: "yes" if path.stem.upper() in have else "no" for path in compat.glob("probe/*.c")}


def spoiled(package: PackageRoot, name: str, how: str) -> str:
    """Copy the probes to this directory of /tmp, change them so that they fail, and return what they print."""
    probed(package)
    log = LOGS / f"{package.role}-probes-{name}.log"
    package.sh(f"cp -r /tmp/probes /tmp/{name}; cd /tmp/{name}/compat/probe; {how}")
    with pytest.raises(Failed):
        package.sh(f"bash /tmp/{name}/compat/run-probes /lib/modules/$K/build /tmp/{name}", log=log)
    return log.read_text()


def test_build(deb: Path) -> None:
    assert deb.exists()


def test_lintian(deb: Path) -> None:
    run("lintian", "--pedantic", "--fail-on", "error,warning,pedantic", *deb.parent.glob("*.deb"),
        log=LOGS / "lintian.log")


def test_install(package: PackageRoot) -> None:
    assert package.sh("dpkg-query -W -f '${db:Status-Status}' noiommufd-dkms") == "installed"


def test_dkms_installed(package: PackageRoot) -> None:
    installed(package)


def test_modules_in_updates(package: PackageRoot) -> None:
    updated(package)


def test_one_version(package: PackageRoot) -> None:
    version = package.sh("dpkg-query -W -f '${Version}' noiommufd-dkms")
    assert [path.name for path in (package.path / "usr/src").glob("noiommufd-*")] == [f"noiommufd-{version}"]
    for module in MODULES:
        assert package.sh(f"modinfo -k $K -F version {module}").strip() == version


def test_no_warnings(package: PackageRoot) -> None:
    without_warnings(package)


def test_installed_in_30_s(package: PackageRoot) -> None:
    took_at_most(30, package.took)


def test_probed_in_10_s(package: PackageRoot) -> None:
    took_at_most(10, probed(package))


def test_probes_as_recorded(package: PackageRoot) -> None:
    record = TESTS / "compat/expected" / package.role.partition("-")[0]
    if not record.exists():
        pytest.skip(f"none are recorded for role {package.role}")
    recorded = dict(line.split() for line in record.read_text().splitlines())
    assert facts(package) == recorded, f"if that is right, record it in {record}"


def test_probes_misspelt(package: PackageRoot) -> None:
    """A misspelt name in a probe is not taken for "no" where the fact holds, since the control does not compile there.
    Where the fact does not hold, the control compiles, and "no" is right."""
    spoiled(package, "misspelt", r"sed -i 's/^#endif$/int misspelt = no_such_name;\n&/' *.c")
    assert facts(package, "misspelt") == {name: "broken" if answer == "yes" else "no"
                                          for name, answer in answers(package).items()}


def test_probes_alone(package: PackageRoot) -> None:
    """A probe that fails for another reason than its fact stops them all and is named. It also spoils the file that
    compiles all probes together, so that each of the others is compiled alone: their answers are the same."""
    said = spoiled(package, "alone", "[ -s together ]; echo '#include <linux/no_such_header.h>' > spoiled.c")
    assert "compat/probe/spoiled.c fails for another reason than its fact" in said
    assert (package.path / "tmp/alone/compat/probe/together").read_text() == ""
    alone = facts(package, "alone")
    del alone["spoiled"]
    assert alone == answers(package)


def unpacked(package: PackageRoot, to: Path) -> list[Path]:
    """Our modules, uncompressed."""
    for module in package.modules():
        run("sh", "-c", f"xz -dcf {module} | zstd -dcf > {to / module.name.partition('.')[0]}.ko")
    return [to / f"{name}.ko" for name in MODULES]


def test_read_path_unlocked(package: PackageRoot, tmp_path: Path) -> None:
    run(GUEST / "locked-instructions.sh", unpacked(package, tmp_path)[0])


def test_symbols(package: PackageRoot, tmp_path: Path) -> None:
    """Each symbol that is not static has a prefix of ours, so that none clashes with the kernel's iommufd. All others
    are made by the kernel's build."""
    ours = r"noiommu\w+|swpt_\w+|(init|cleanup)_module|__this_module|__(start|stop|crc|ksymtab|kstrtab|pfx|cfi)_\w+|" \
        r"__(tracepoint|traceiter|probestub|SC[KT]__tp_func)_noiommu\w+"
    for module in unpacked(package, tmp_path):
        names = [line.split()[-1] for line in run("nm", "-g", "--defined-only", module).splitlines()]
        assert not [name for name in names if not re.fullmatch(ours, name)] and "init_module" in names, module


def test_files(package: PackageRoot) -> None:
    assert not (package.path / "usr/include/noiommufd").exists()
    assert "options noiommu-vfio-pci enable_unsafe_noiommu_mode=0" in \
        (package.path / "etc/modprobe.d/noiommufd.conf").read_text().splitlines()
    assert re.search("^noiommufd:x:[0-9]+:$", (package.path / "etc/group").read_text(), re.M)


def test_udev_rule(package: PackageRoot) -> None:
    if "verify" not in package.sh("udevadm --help"):
        pytest.skip("this udevadm does not verify rules")
    package.sh("udevadm verify /usr/lib/udev/rules.d/60-noiommufd.rules")


def test_second_kernel(package: PackageRoot, second: str, ours: Session) -> None:
    """A kernel that is installed after the package gets the modules; guests also boot it."""
    root = ours.beside(package.role, second)
    installed(root)
    updated(root)
    without_warnings(root)


@pytest.fixture(name="sources", scope="module")
def fixture_sources(first: str, deb: Path) -> Iterator[Root]:
    """A root with this tree in /tmp/source, where dkms knows the source of the package."""
    root = Root.of_role(first, f"{first}-sources")
    with root.opened() as layer:
        source_copy(layer / "tmp/source")
        root.unpack(deb.parent)
        root.sh("cd /usr/src/noiommufd-*; dkms add -m noiommufd -v ${PWD#*-}")
        yield root


@pytest.fixture(name="readonly", scope="module")
def fixture_readonly(sources: Root) -> Path:
    """The log of a build with sparse, by an ordinary user, of a read-only tree with a blank in its path, as if the make
    of a kernel ran it."""
    tree, log = sources.path / "tmp/read only", LOGS / "readonly.log"
    shutil.copy(shutil.which("sparse") or "", sources.path / "usr/bin")
    source_copy(tree)
    for words in ("--bind", "-oremount,bind,ro"):
        run("mount", words, tree, tree)
    sources.sh("""mkdir -m 777 /tmp/home
        setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/tmp/home sub_make_done=1 \
            KBUILD_OUTPUT=/tmp/nothing make -C "/tmp/read only" modules KDIR=/lib/modules/$K/build W=1 C=2""", log=log)
    return log


@SOURCES
def test_readonly_tree_with_a_blank(sources: Root, readonly: Path) -> None:
    assert list((sources.path / "tmp/home").rglob("noiommu-vfio-pci.ko")), f"nothing is below ~/.cache, see {readonly}"


@SOURCES
def test_sparse_clean(sources: Root, readonly: Path) -> None:
    """sparse reports nothing in our files. (It does report a comparison in the kernel's own rbtree.h.)"""
    said = readonly.read_text()
    if not re.search(r"^  CHECK ", said, re.M):
        pytest.skip(f"kbuild of {sources.kver} does not call this machine's sparse")
    ours = re.findall(r"^(?:[^:\n]*/)?(?:src|include|compat)/[^:\n]*:[0-9:]+ (?:warning|error):.*", said, re.M)
    assert not [line for line in ours if "/usr/src/" not in line]


def autoinstall_skips(root: Root, kver: str) -> None:
    """dkms autoinstall does not try to build for a kernel, in whatever way it is named."""
    for options in ("autoinstall -k {0}", "autoinstall --kernelver {0}", "autoinstall --kernelver={0}",
                    "autoinstall -k {0}/x86_64", "autoinstall -a x86_64 --kernelver={0}", "-k {0} autoinstall",
                    "--kernelver={0}/x86_64 autoinstall"):
        said = root.sh(f"dkms {options.format(kver)}")
        assert f"not built for {kver}: " in said and not re.search("exclusive|Error", said), options


def dkms_skips(root: Root, kver: str, reason: str) -> None:
    """dkms does not build for a kernel, and prints why in one line."""
    said = root.sh(f"cd /usr/src/noiommufd-*; dkms build -m noiommufd -v ${{PWD#*-}} -k {kver} || echo status $?")
    assert said.endswith("status 77\n")
    assert len(re.findall(f"^noiommufd: .*not built for {re.escape(kver)}: .*{reason}", said, re.M)) == 1, said
    autoinstall_skips(root, kver)


def direct_build_stops(root: Root, kver: str, reason: str) -> None:
    """make refuses a kernel with a single #error."""
    log = LOGS / f"refused-{kver}.log"
    with pytest.raises(Failed):
        root.sh(f"make -C /tmp/source modules KDIR=/lib/modules/{kver}/build", log=log)
    errors = re.findall(".*error:.*", log.read_text())
    assert len(errors) == 1 and re.search(f"error: #error.*{reason}", errors[0]), errors


@functools.cache
def headers(root: Root, role: str) -> str:
    """Install the headers of a role's kernel beside the others, and return its release."""
    kver = kernel_resolve(role).kver
    root.unpack(root.kernel_debs(role, "linux-(headers|kbuild)"))
    root.sh(f"mkdir -p /lib/modules/{kver}; ln -sfn /usr/src/linux-headers-{kver} /lib/modules/{kver}/build")
    return kver


@SOURCES
@pytest.mark.parametrize("role", roles("headers"))
def test_skipped_by_dkms(sources: Root, role: str) -> None:
    dkms_skips(sources, headers(sources, role), "it has no vfio-pci-core")


@SOURCES
@pytest.mark.parametrize("role", roles("headers"))
def test_direct_build_stops(sources: Root, role: str) -> None:
    direct_build_stops(sources, headers(sources, role), "VFIO_PCI_CORE")


@pytest.fixture(name="native", scope="module")
def fixture_native(sources: Root) -> str:
    """Make the headers of a kernel that offers the noiommu cdev itself: a copy of the root's, with that option turned
    on."""
    sources.sh("""cp -a /usr/src/linux-headers-$K /usr/src/linux-headers-$K-native
        cd /usr/src/linux-headers-$K-native
        sed -i 's|^KBUILD_OUTPUT=.*|&-native|' Makefile
        echo CONFIG_IOMMUFD_NOIOMMU=y >> .config
        echo '#define CONFIG_IOMMUFD_NOIOMMU 1' >> include/generated/autoconf.h
        mkdir /lib/modules/$K-native
        ln -s $PWD /lib/modules/$K-native/build""")
    return f"{sources.kver}-native"


@SOURCES
def test_native_skipped_by_dkms(sources: Root, native: str) -> None:
    dkms_skips(sources, native, "it offers the noiommu cdev itself")


@SOURCES
def test_native_skipped_by_every_dkms(sources: Root, native: str) -> None:
    for suite in ("", "bullseye", "sid"):
        with sources.dkms_of(suite):
            autoinstall_skips(sources, native)


@SOURCES
def test_native_direct_build_stops(sources: Root, native: str) -> None:
    direct_build_stops(sources, native, "NATIVE=1")


@SOURCES
def test_native_built_by_hand(sources: Root, native: str) -> None:
    sources.sh(f"""make -C /tmp/source modules NATIVE=1 OUT=/tmp/native KDIR=/lib/modules/{native}/build
        [ -e /tmp/native/noiommu-vfio-pci.ko ]""", log=LOGS / "native.log")


@pytest.fixture(name="prebuilt", scope="module")
def fixture_prebuilt() -> Iterator[Root]:
    """A root with modules for an image, without DKMS: they are signed with our own key, and cannot be installed without
    it."""
    root, log = Root.of_role("6.12", "6.12-prebuilt"), LOGS / "prebuilt.log"
    make = "make -C /tmp/source %s OUT=/tmp/prebuilt KDIR=/lib/modules/$K/build MODULE_SIG_KEY=/tmp/key.pem"
    with root.opened() as layer:
        source_copy(layer / "tmp/source")
        root.sh(make % "modules", log=log)
        with pytest.raises(Failed):
            root.sh(make % "modules_install", log=log)
        assert not root.left()
        signing_key(layer / "tmp/key.pem")
        root.sh(make % "modules_install", log=log)
        yield root


@PREBUILT
def test_prebuilt_modules(prebuilt: Root) -> None:
    """The modules are compressed as the kernel's own, and signed."""
    suffix = prebuilt.sh("modinfo -k $K -n vfio-pci").strip().rpartition(".ko")[2]
    for module in MODULES:
        assert prebuilt.sh(f"modinfo -k $K -n {module}").strip().endswith(f"/updates/{module}.ko{suffix}")
        assert prebuilt.sh(f"modinfo -k $K -F signer {module}").strip() == "noiommufd test"


class EarlyGuest(Guest):
    """A guest with an initramfs that one of the distribution's tools makes, and the base on a disk. When the initramfs
    was made, two devices were bound at each boot; according to the disk, it is one."""
    tool = ""

    def image(self) -> Path:
        tree, etc = self.files(), "/etc/initramfs-tools"
        run("cp", "-a", f"{self.root.base()}/.", tree)
        remove(tree / "lib/modules")
        # With the driver that would bind the devices otherwise
        self.root.sh(f"""make -C /tmp/source install-files
            sed -i s/mode=0/mode=1/ /etc/modprobe.d/noiommufd.conf
            mkdir -p /etc/driverctl.d
            echo noiommu-vfio-pci | tee /etc/driverctl.d/pci-0000:00:05.0 > /etc/driverctl.d/pci-0000:00:07.0
            printf 'MODULES=list\\nCOMPRESS=gzip\\n' > {etc}/conf.d/noiommufd
            printf 'virtio_blk\\next4\\nnvme\\n' >> {etc}/modules
            {TOOLS[self.tool]}
            rm /etc/driverctl.d/pci-0000:00:07.0""", log=LOGS / f"{self.tool}.log")
        run("sh", "-ec", f"""mkdir -p {tree}/dev {tree}/proc {tree}/sys {tree}/run {tree}/etc
            cp -r {self.root.path}/etc/modprobe.d {self.root.path}/etc/driverctl.d {tree}/etc
            ln -s busybox {tree}/bin/sh; ln -s busybox {tree}/bin/grep
            truncate -s 64M {self.dir}/root
            mke2fs -qF -t ext4 -d {tree} {self.dir}/root""")
        return self.root.path / "boot/initrd"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Leave the tools that are not Debian's own to make check-all."""
    if "tool" in metafunc.fixturenames:
        metafunc.parametrize("tool", list(TOOLS)[:1 if metafunc.config.getoption("--daily") else None])


@PREBUILT
def test_early(prebuilt: Root, tool: str) -> None:
    """The device is bound before the root file system is mounted, and no driver of the kernel binds it before that. The
    other one is given back to that driver."""
    disk = f"file={prebuilt.dir}/6.12-{tool}/root,if=none,id=root,format=raw,cache=unsafe"
    guest = EarlyGuest(f"6.12-{tool}", prebuilt, Spec(
        "frame early early /nvme --device 0000:00:05.0 --mib 4 --seed 7\n", ["early"], {"nvme": example()},
        devices=["-drive", disk, "-device", "virtio-blk-pci,drive=root"], append="root=/dev/vda rw init=/init"))
    guest.tool = tool
    ended(guest)
    no_faults(guest, ["early"], ["early"])
    assert re.search("noiommufd: 0000:00:07.0 is bound$.*noiommufd: 0000:00:07.0 is given back", guest.log(),
                     re.M | re.S)
    assert re.search("nvme .*0000:00:07.0", guest.log()) and not re.search("nvme .*0000:00:05.0", guest.log())


def test_purge(package: PackageRoot) -> None:
    """The last test of the package: removing it leaves nothing."""
    package.sh("apt-get purge -y noiommufd-dkms", log=LOGS / f"{package.role}-purge.log")
    assert not package.left()
