# SPDX-License-Identifier: GPL-2.0-only
"""Programs of other projects on our nodes: the DPDK of a Debian release, with the files of that release that it
needs."""
from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

from .archive import apt_proxies, ask, cached, debs_make, maker, source_line
from .guest import Spec
from .machine import BUILD, LOGS, TESTS, remove, run
from .root import Root, tools

# The programs of DPDK that the tests run, and the drivers that they load
PROGRAMS = ("testpmd", "proc-info")
DRIVERS = ("bus_pci", "bus_vdev", "mempool_ring", "net_e1000", "net_virtio")
# The kinds of devices: each guest has two of one kind.
KINDS = {"virtio": "virtio-net-pci,disable-legacy=on", "legacy": "virtio-net-pci,disable-modern=on,disable-legacy=off",
         "e1000e": "e1000e", "igb": "igb"}


@maker
def dpdk_make(place: Path, suite: str) -> None:
    """The programs, and the files that they are linked with and load."""
    tree, log = place.with_suffix(".tree"), LOGS / f"dpdk-{suite}.log"
    options = [*apt_proxies(), 'Acquire::Check-Valid-Until "false"']
    run("mmdebstrap", "--mode=root", "--variant=extract", "--format=directory",
        *(f"--aptopt={option}" for option in options), "--include=dpdk,dpdk-dev,librte-meta-allpmds,libc-bin",
        suite, tree, source_line(suite), log=log, why=f"unpacking the DPDK of {suite} failed: see {log}")
    lib = next(tree.glob("usr/lib/*/dpdk/pmds-*"))
    begin = [tree / f"usr/bin/dpdk-{name}" for name in PROGRAMS] + \
        [path for name in DRIVERS for path in lib.glob(f"librte_{name}.so*")]
    # There is no shell for ldd.
    loader = next(tree.glob("**/ld-linux-x86-64.so.2"))
    said = "".join(run("chroot", tree, f"/{loader.relative_to(tree)}", "--list", f"/{path.relative_to(tree)}")
                   for path in begin)
    files = {*begin, *tree.glob("**/libgcc_s.so.1"), *(tree / name for name in re.findall(r"/(\S+) \(0x", said))}
    # A driver finds another one by the link that lies with the libraries.
    files |= {path for path in lib.parent.parent.glob("librte_*.so*") if (lib / path.name) in files}
    for _ in range(2):
        files |= {path.parent / path.readlink() for path in files if path.is_symlink()}
    for path in files:
        # Old releases have files in /lib, and new ones a link there.
        to = place / "usr" / str(path.parent.resolve().relative_to(tree)).removeprefix("usr/") / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, to, follow_symlinks=False)
    (place / "usr/lib64").mkdir(exist_ok=True)
    shutil.copy2(loader, place / "usr/lib64", follow_symlinks=True)
    for name in ("bin", "lib", "lib64"):
        (place / name).symlink_to(f"usr/{name}")
    remove(tree)


def dpdk(suite: str) -> Path:
    """The directory with the DPDK of a release, cached."""
    version = "".join(ask(suite, "dpdk")[:1])
    return cached(f"dpdk-{suite}_{version}", dpdk_make, suite, what=f"unpacking the DPDK of {suite}", mib=600)


def machine_has(kind: str) -> bool:
    """Does this machine's QEMU have such a device?"""
    device = KINDS[kind].partition(",")[0]
    return f"{device} options" in run("qemu-system-x86_64", "-device", f"{device},help")


def ports(suite: str) -> Path:
    """Build the program ports, with the headers and libraries of a release's DPDK."""
    version, headers, out = "".join(ask(suite, "libdpdk-dev")), BUILD / "dpdk-headers", BUILD / "dpdk-ports"
    debs = cached(f"debs-dpdk-{suite}_{version}", debs_make, suite, "libdpdk-dev")
    remove(headers)
    run("dpkg-deb", "-x", *debs.glob("*.deb"), headers)
    # The libraries need the libc of that release, which is not here.
    run("gcc", *"-O2 -g -Wall -Wextra -Werror -march=corei7 -Wl,--allow-shlib-undefined -o".split(), out,
        TESTS / "clients/ports.c", *(f"-isystem{path}" for path in headers.glob("usr/include/**/dpdk")),
        *(next(dpdk(suite).glob(f"usr/lib/*/librte_{name}.so.*")) for name in ("eal", "ethdev", "mbuf", "mempool")),
        log=LOGS / "dpdk-ports.log")
    return out


def spec(suite: str, kind: str, append: str, tests: str) -> Spec:
    """The guest for these tests: a hub connects its two ports, which are of that kind. DPDK needs SSE4.2."""
    words = [f"-netdev hubport,id=hub{port},hubid=0 -device pcie-root-port,bus=pcie.0,id=port{port},addr={port},"
             f"slot=1{port},chassis=1{port} -device {KINDS[kind]},netdev=hub{port},bus=port{port}" for port in (1, 2)]
    tree = dpdk(suite)
    files = {f"dpdk/{path.relative_to(tree)}": path for path in tree.rglob("*")
             if not path.is_dir() or path.is_symlink()}
    files |= {"dpdk/usr/sbin/noiommufd-run": tools() / "noiommufd-run", "tests/dpdk": TESTS / "clients/dpdk",
              "dpdk/usr/lib/noiommufd/libnoiommufd-vfio.so": tools() / "libnoiommufd-vfio.so"}
    if "burst" in tests or "rx_interrupts" in tests:
        files["dpdk/usr/bin/dpdk-ports"] = ports(suite)
    return Spec("frame guest-load load\nmodprobe noiommu-vfio-pci enable_unsafe_noiommu_mode=1\n"
                f"frame dpdk /tests/dpdk bind {tests} -- 0000:01:00.0 0000:02:00.0\nframe guest-unload unload\n",
                ["guest-load", "dpdk", "guest-unload"], files=files, devices=" ".join(words).split(),
                cpu="Nehalem,+pdpe1gb", memory="4G", append=append, limit=900)


def counting_spec(root: Root, suite: str, kind: str) -> Spec:
    """The guest for the test burst. As in make bench, its time stamp counter counts instructions."""
    base, uio = spec(suite, kind, "", "burst"), root.path / "lib/modules" / root.kver / "kernel/drivers/uio"
    files = {f"lib/modules/{root.kver}/updates/{path.name}": path
             for name in ("uio", "uio_pci_generic") for path in uio.glob(f"{name}.ko*")}
    return replace(base, files=base.files | files, command=f"""
        -icount shift=0 -accel tcg,thread=single,tb-size=512 -cpu {base.cpu} -m {base.memory} -smp 1
        -kernel {{kernel}} -initrd {{image}} -append "console=ttyS0 panic=-1 oops=panic mitigations=off nokaslr
        tsc=reliable random.trust_cpu=on" {" ".join(base.devices)}""")
