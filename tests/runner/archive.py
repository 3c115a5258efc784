# SPDX-License-Identifier: GPL-2.0-only
"""Debian's archive, and the cache of what is made from it: kernels, root file systems, sources.

An entry of the cache is made under a temporary name and renamed when it is complete, so
an entry that exists is whole. Its name says what it was made from: role, version, and a
hash of the recipe.
"""
from __future__ import annotations

import fcntl
import functools
import hashlib
import inspect
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Callable, NamedTuple

from .machine import CACHE, GUEST, OUT, Failed, locked, remove, require_space, run, table, tell

MIRROR = os.environ.get("MIRROR") or "http://deb.debian.org/debian"
# The disk space that a role needs if it is not cached, including its download and a run.
ROLE_MIB = int(os.environ.get("ROLE_MIB") or 2000)
FULL = f"no space is left in {CACHE}: free some or set CACHE to a directory elsewhere."


class Role(NamedTuple):
    """A row of tests/guest/kernels."""
    name: str
    suites: str
    image: str
    headers: str
    use: str

    @property
    def suite(self) -> str:
        """The suite that has the kernel: the last of the role's."""
        return self.suites.split(",")[-1]


class Kernel(NamedTuple):
    """What the archive has for a role: what uname -r says, the package, and its version."""
    role: Role
    kver: str
    package: str
    version: str


def roles(use: str = "") -> dict[str, Role]:
    """All kernels by role, or those of one use."""
    rows = [Role(*line.split()) for line in table(GUEST / "kernels")]
    return {row.name: row for row in rows if use in ("", row.use)}


def bootable() -> list[str]:
    """The roles that can be booted."""
    return [row.name for row in roles().values() if row.use != "headers"]


def guest_role(name: str, *more: str) -> None:
    """Fail unless name is a role that can be booted, or one of more."""
    known = [*bootable(), *more]
    if name not in known:
        raise Failed(f"there is no guest kernel '{name}': KERNEL is one of {' '.join(known)}.")


def apt_proxies() -> list[str]:
    """The proxies of this machine's apt, as apt options."""
    return re.findall(r"^Acquire::https?::Proxy.*", run("apt-config", "dump"), re.M)


def source_line(suite: str) -> str:
    """The line of sources.list for a suite; security updates have an archive of their own."""
    url = MIRROR + ("-security" if suite.endswith("-security") else "")
    return f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {url} {suite} main"


def index(suite: str) -> dict[str, str]:
    """The environment in which apt sees only this suite. Its package lists are fetched again when they are older than
    half a day; without a network, older ones are used."""
    place = CACHE / "index" / suite
    conf, fresh, log = place / "apt.conf", place / "fresh", place / "log"
    found = {"APT_CONFIG": str(conf)}
    require_space(0)
    for name in ("lists/partial", "cache/archives/partial", "etc/preferences.d"):
        (place / name).mkdir(parents=True, exist_ok=True)
    with locked(place / "lock"):
        if fresh.exists() and time.time() - fresh.stat().st_mtime < 12 * 3600:
            return found
        (place / "status").write_text("")
        (place / "etc/sources.list").write_text(source_line(suite) + "\n")
        conf.write_text((GUEST / "apt.conf").read_text().format(
            suite=suite, place=place, proxies="".join(f"{line}\n" for line in apt_proxies())))
        try:
            run("apt-get", "update", "--error-on=any", log=log, env=found)
            fresh.touch()
        except Failed as error:
            if re.search(r"does not have a Release file|404 *Not Found", log.read_text()):
                raise Failed(f"{MIRROR} has no suite '{suite}' any more: change its row in tests/guest/kernels.") \
                    from error
            if fresh.exists():
                tell(f"{MIRROR} cannot be reached: going on with the package lists of "
                     f"{time.strftime('%F', time.localtime(fresh.stat().st_mtime))}.")
            elif shutil.disk_usage(CACHE).free >> 20 < 100:
                raise Failed(FULL) from error
            else:
                raise Failed(f"{MIRROR} cannot be reached: check the network (or set MIRROR to a Debian mirror "
                             "that can be), then run it again.") from error
    return found


def ask(suite: str, package: str, pattern: str = r"^Version: (\S+)") -> list[str]:
    """The pattern's groups, as found in the archive's record of a package; []: no match."""
    said = subprocess.run(["apt-cache", "show", "--no-all-versions", package], env={**os.environ, **index(suite)},
                          check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    found = re.search(pattern, said, re.M)
    return list(found.groups()) if found else []


@functools.cache
def kernel_resolve(name: str) -> Kernel:
    """A role's kernel, as it is in the archive now."""
    role = roles()[name]
    found = ask(role.suite, role.image, r"^Depends:.* (linux-image-\d\S*) \(= ([^)]*)\)")
    if not found:
        raise Failed(f"the kernel of role {name} is gone: suite {role.suite} has no {role.image} now; "
                     "change its row in tests/guest/kernels or leave the role out.")
    return Kernel(role, found[0].removeprefix("linux-image-"), *found)


Maker = Callable[..., None]
RECIPES: dict[Maker, str] = {}


def maker(function: Maker) -> Maker:
    """Mark a function that makes entries of the cache: a hash of its source is part of their names. The source is read
    now, since the file may be edited during the run."""
    RECIPES[function] = inspect.getsource(function).removeprefix("@maker\n")
    return function


def held(entry: Path, how: int) -> bool:
    """Lock an entry until this process ends: with LOCK_SH, so that no other run removes it; with LOCK_EX, to find out
    whether another run uses it. Return whether that succeeded."""
    place = os.open(entry, os.O_RDONLY)
    try:
        fcntl.flock(place, how | fcntl.LOCK_NB)
    except OSError:
        os.close(place)
        return False
    return True


def cached(name: str, make: Maker, *parameters: object, what: str = "", mib: int = 0) -> Path:
    """The entry of the cache for name, which is ROLE_VERSION; made by make(DIR, *parameters) if it does not exist.

    What the maker leaves beside DIR is removed, and so are older entries of the same role that no run uses, once
    the new one is complete. Only one maker runs at a time for a role. The text what is printed before it does, and
    mib is the space that the entry needs.
    """
    recipe = "\n".join([RECIPES[make], MIRROR, *map(str, parameters)])
    entry, role = CACHE / f"{name}_{hashlib.sha256(recipe.encode()).hexdigest()[:8]}", name.partition("_")[0]
    if entry.exists() and held(entry, fcntl.LOCK_SH):
        return entry
    require_space(0)
    with locked(CACHE / f".lock-{role}", f"waiting for another run that makes {role}"):
        if not entry.exists():
            remove(*CACHE.glob(f"tmp.{role}.*"))
            require_space(mib)
            if what:
                tell(f"{what} (once; kept in {CACHE})")
            part = Path(tempfile.mkdtemp(prefix=f"tmp.{role}.", dir=CACHE))
            try:
                part.chmod(0o755)
                make(part / "entry", *parameters)
                run("sync", "-f", part / "entry")
                remove(*(old for old in CACHE.glob(f"{role}_*") if held(old, fcntl.LOCK_EX)))
                (part / "entry").rename(entry)
            finally:
                remove(part)
        held(entry, fcntl.LOCK_SH)
    return entry


@maker
def root_make(place: Path, role: str, package: str, kver: str, suites: str) -> None:
    """Debian with its stock kernel, the headers and dkms. No initrd: the guests bring their own."""
    log = OUT / f"root-{role}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    options = [*apt_proxies(), 'Acquire::Check-Valid-Until "false"', 'Acquire::Languages "none"',
               'APT::Install-Recommends "false"']
    command = ["mmdebstrap", "--mode=root", "--variant=apt", "--format=directory",
               *(f"--aptopt={option}" for option in options), "--dpkgopt=force-unsafe-io",
               *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")),
               f"--include={package},linux-headers-{kver},dkms,kmod,busybox-static",
               suites.split(",")[0], str(place), *map(source_line, suites.split(","))]
    began = time.monotonic()
    with open(log, "w", encoding="utf-8") as out, \
            subprocess.Popen(command, env={**os.environ, "INITRD": "No"}, text=True, errors="replace",
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        for line in process.stdout or ():
            out.write(line)
            if re.match(r"I: .*ing", line) and "received" not in line:
                tell(f"  {role}: {line[3:].rstrip()} ({int(time.monotonic() - began)} s)")
    if process.returncode:
        # Of apt, dpkg and tar
        if re.search("No space left|enough free space|Wrote only", log.read_text()):
            raise Failed(FULL)
        raise Failed(f"making the root file system of role {role} failed: see the end of {log}, then run it again.")
    if not (place / f"boot/vmlinuz-{kver}").exists() or not (place / f"usr/src/linux-headers-{kver}/Makefile").exists():
        raise Failed(f"the root file system of role {role} came without kernel {kver} or its headers: see {log}.")


def root_cached(name: str) -> Path:
    """The root file system of a role."""
    kernel = kernel_resolve(name)
    suites = kernel.role.suites
    return cached(f"root-{name}_{kernel.version}", root_make, name, kernel.package, kernel.kver, suites, mib=ROLE_MIB,
                  what=f"preparing Debian '{suites}' with kernel {kernel.kver}")


@maker
def debs_make(place: Path, suite: str, *packages: str) -> None:
    """Packages, downloaded."""
    place.mkdir()
    log = OUT / f"download-{packages[0]}.log"
    run("apt-get", "download", *packages, cwd=place, env=index(suite), log=log,
        why=f"downloading {' '.join(packages)} failed: check the network, then run it again (log: {log}).")


@maker
def tree_make(place: Path, suite: str, package: str) -> None:
    """A linux-source package, unpacked without what user-mode Linux, a small guest and our tests have no use for:
    most of a kernel's files. Kconfig files stay, since every configuration reads them all."""
    debs = place.with_suffix(".debs")
    debs_make(debs, suite, package)
    place.mkdir()
    useless = """*/Documentation/*/*.rst */drivers/gpu/*.[ch] */drivers/net/*/*.c */drivers/net/wireless/*.h
        */drivers/media/*.[ch] */drivers/staging/*.[ch] */drivers/scsi/*.[ch] */sound/*.[ch] *.dts *.dtsi""".split()
    run("bash", "-o", "pipefail", "-c", 'dpkg --fsys-tarfile "$0"/*.deb |'
        ' tar -xO --wildcards "./usr/src/linux-source-*.tar.xz" | xz -dcT0 | tar -x "$@"',
        debs, "-C", place, "--strip-components=1", "--wildcards", *(f"--exclude={name}" for name in useless))


@maker
def libc_dev_make(place: Path, suite: str) -> None:
    """The kernel's headers for programs, unpacked."""
    debs = place.with_suffix(".debs")
    debs_make(debs, suite, "linux-libc-dev")
    run("dpkg-deb", "-x", *debs.glob("*.deb"), place)


def libc_dev(name: str) -> Path:
    """The directory with the headers for programs of a role's kernel."""
    suite = roles()[name].suite
    return cached(f"uapi-{name}_{''.join(ask(suite, 'linux-libc-dev'))}", libc_dev_make, suite)
