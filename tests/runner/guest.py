# SPDX-License-Identifier: GPL-2.0-only
"""A guest in QEMU: its image, its boot, and the judgement of its kernel's log.

QEMU's own faults (docs/testing.md) are not ours: a guest that ended by one is
booted again, twice at most.
"""
from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator

from .ktap import Frames, Program, Result
from .machine import BESIDE_OTHERS, GUEST, LOGS, Failed, run, table, tell
from .root import Root, programs, tools

TROUBLE = re.compile(
    r"WARNING|BUG|Oops|Call Trace|INFO: (possible|suspicious|task|rcu)|possible (circular|recursive)"
    r"|suspicious RCU|inconsistent lock|KASAN|KCSAN|UBSAN|KFENCE|kmemleak|unreferenced object|leaked"
    r"|general protection|stack segment|[uU]nable to handle|blocked for more than|soft lockup|hard LOCKUP"
    r"|detected stall|refcount_t|corruption|Bad page|bad_page|use-after-free|Kernel panic|Out of memory|oom-kill")
BOOTS = 3
CPIO = "find . | cpio -o -H newc --quiet"


def log_trouble(log: str) -> str:
    """What is wrong in a kernel's log, and what follows the first of it; "": nothing."""
    allowed, lines = table(GUEST / "kernel-log.allow"), log.replace("\r", "").splitlines()
    found = [number for number, line in enumerate(lines)
             if TROUBLE.search(line) and not any(re.search(known, line) for known in allowed)]
    shown = [lines[number] for number in found[:20]] + ["From the first on:"] + lines[found[0]:found[0] + 41] \
        if found else []
    return "\n".join(shown)


def not_ours(status: int, log: str) -> str:
    """What a guest ended by, if that was no fault of ours; "": it may be."""
    log = log.replace("\r", "")
    trap = re.search(r"int3: 0000 \[#1\][\s\S]*?^([^\n]*Code:[^\n]*)$", log, re.M)
    if trap and " cc <" not in trap[1]:
        return "QEMU ran an int3 that was not there any more"
    if status != 124 and "loading out-of-tree module" not in log:
        return f"it did not start: {log.splitlines()[-1] if log else 'it said nothing'}"
    if log.rfind("PM: suspend entry") > log.rfind("PM: suspend exit") and not log_trouble(log):
        return "it slept and did not wake up"
    return ""


@dataclass
class Spec:
    """What a guest does, and how."""
    # For the guest's init, and the frames that it gives
    plan: str = ""
    frames: list[str] = field(default_factory=list)
    # Files of the image, and programs of the suite
    files: dict[str, Path] = field(default_factory=dict)
    programs: list[str] = field(default_factory=list)
    # More devices, kernel parameters, and both processors in one thread. Guests beside each other lose
    # interrupts more often if each has more.
    devices: list[str] = field(default_factory=list)
    append: str = ""
    cpu: str = "qemu64"
    memory: str = "2G"
    thread: str = "single" if BESIDE_OTHERS else "multi"
    # Another machine: QEMU's words, in which {kernel} and {image} stand for the files. Nobody watches it.
    command: str = ""
    # How many times as long all may take, and how long that is in seconds
    slow: int = 1
    limit: int = 1500


def devices(name: str, **words: object) -> list[str]:
    """QEMU's words of a file of tests/guest."""
    return " ".join(table(GUEST / name)).format(**words).split()


def qemu(spec: Spec, kernel: Path, image: Path, console: Path, files: Path, sockets: str) -> list[str]:
    """The command."""
    common = ["qemu-system-x86_64", "-machine", "q35",
              *f"-nodefaults -no-user-config -display none -no-reboot -serial file:{console} -serial stdio".split()]
    if spec.command:
        return [*common, *shlex.split(spec.command.format(kernel=kernel, image=image))]
    accel = os.environ.get("ACCEL", "tcg")
    machine = f"-accel tcg,thread={spec.thread},tb-size=512 -cpu {spec.cpu}" if accel == "tcg" else \
        f"-accel {accel} -cpu host"
    return [*common, *machine.split(), *spec.devices,
            *f"-m {spec.memory} -smp 2 -kernel {kernel} -initrd {image}".split(),
            *devices("devices", files=files, sockets=sockets), "-append",
            "console=ttyS0 panic=-1 oops=panic mitigations=off nokaslr tsc=reliable random.trust_cpu=on "
            f"printk.devkmsg=on no_timer_check {spec.append}"]


def disks(files: Path) -> None:
    """The namespaces of the two NVMe controllers, and the network card's expansion ROM."""
    for name in ("disk", "slow-disk"):
        with open(files / name, "wb") as disk:
            disk.truncate(128 << 20)
    rom = b"\x55\xaa\x06" + bytes(21) + b"\x1c\0\0\0" + \
        b"PCIR\xec\x10\x39\x81\0\0\x18\0\0\0\0\x02\x06\0\0\0\x03\x80\0\0"
    (files / "rom").write_bytes(rom + b"R" * 3020)


class Guest:
    """A guest, booted when the first result is asked for, and read as far as what is asked for."""
    # What it prints is read, and kept in a file; None: it goes where our output goes.
    stdout: int | None = subprocess.PIPE

    def __init__(self, name: str, root: Root, spec: Spec) -> None:
        self.name, self.root, self.spec = name, root, spec
        self.dir = root.dir / name
        self.console, self.out = LOGS / f"{name}.console", LOGS / f"{name}.out"
        self.frames, self.status, self.why = Frames(), 1, ""
        self.process: subprocess.Popen[str] | None = None
        # True: it has said another line
        self.more = self.boot()

    def files(self) -> Path:
        """What is laid over the base, which all guests of its kernel have."""
        files, more = self.dir / "image", dict(self.spec.files)
        shutil.rmtree(files, ignore_errors=True)
        more |= {"init": GUEST / "init", "sbin/noiommufd-run": tools() / "noiommufd-run",
                 **{f"tests/{path.name}": path for path in programs(self.spec.programs)}}
        for name, source in more.items():
            (files / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, files / name, follow_symlinks=False)
        (files / "plan").write_text(self.spec.plan)
        return files

    def image(self) -> Path:
        """An initramfs."""
        base, files = self.root.base(), self.files()
        lib = files / "lib/modules" / self.root.kver
        lib.parent.mkdir(parents=True, exist_ok=True)
        # depmod has to see all; what is the base's goes again.
        run("cp", "-al", base / "lib/modules" / self.root.kver, lib.parent)
        (lib / "updates").mkdir(exist_ok=True)
        for module in self.root.modules():
            shutil.copy(module, lib / "updates")
        run("depmod", "-b", files, self.root.kver)
        shutil.rmtree(lib / "kernel", ignore_errors=True)
        for config in ("etc/modprobe.d", "lib/modprobe.d"):
            if (self.root.path / config).is_dir():
                shutil.copytree(self.root.path / config, files / config, symlinks=False)
        cpio, image = base.with_name(base.name + ".cpio"), self.dir / "image.cpio"
        if not cpio.exists():
            run("sh", "-c", f"{CPIO} > {cpio}.part && mv {cpio}.part {cpio}", cwd=base)
        run("sh", "-c", f"(cat {cpio} && {CPIO}) > {image}", cwd=files)
        return image

    def boot_once(self, image: Path) -> Iterator[bool]:
        """Run it to its end. Status 124: the time was up; 75: QEMU is at fault, why says how."""
        self.frames, self.why = Frames(), ""
        disks(self.dir)
        name = f"noiommufd-{uuid.uuid4()}"
        watch = subprocess.Popen([GUEST / "watch", f"{name}-watch", self.console, str(90 * self.spec.slow)], text=True,
                                 stdout=subprocess.PIPE, start_new_session=True)
        command = ["timeout", "--foreground", "--kill-after=9", str(self.spec.limit),
                   *qemu(self.spec, self.root.kernel(), image, self.console, self.dir, name)]
        with subprocess.Popen(command, text=True, errors="replace", stdin=subprocess.DEVNULL,
                              stdout=self.stdout) as self.process, open(self.out, "w", encoding="utf-8") as out:
            for line in self.process.stdout or ():
                out.write(line)
                self.frames.feed(line)
                yield True
        watch.terminate()
        self.status, self.why = self.process.returncode, watch.communicate()[0].strip()
        # Before 8.2 a processor may look a BAR up in a map that another just replaced.
        if self.status == -signal.SIGSEGV:
            self.why = "it died of SIGSEGV"
        if self.why:
            self.status = 75

    def boot(self) -> Iterator[bool]:
        """Run it to an end that is its own."""
        tell(f"guest {self.name}: {' '.join(self.spec.frames)} on {self.root.kver}")
        try:
            LOGS.mkdir(parents=True, exist_ok=True)
            self.dir.mkdir(parents=True, exist_ok=True)
            # Of another run
            self.console.unlink(missing_ok=True)
            image = self.image()
            for boot in range(1, BOOTS + 1):
                yield from self.boot_once(image)
                if self.status != 75:
                    self.why = not_ours(self.status, self.log())
                if not self.why or boot == BOOTS:
                    break
                kept = f"{self.console}.fault{boot}"
                run("cp", self.console, kept)
                tell(f"a boot of {self.name} ended by no fault of ours: {self.why}, see {kept}")
        except (Failed, OSError) as error:
            self.status, self.why = 1, str(error)
        finally:
            self.frames.end()

    def stop(self) -> None:
        """It is not asked any more."""
        if self.process and self.process.poll() is None:
            self.process.terminate()

    def end(self) -> None:
        """Wait until it has ended."""
        while next(self.more, False):
            pass

    def program(self, name: str) -> Program:
        """A program that has ended."""
        self.end()
        if name not in self.frames.programs:
            raise Failed(f"the guest did not come to {name}: {self.ended_by()}")
        return self.frames.programs[name]

    def result(self, name: str, test: str) -> Result:
        """The result of a test, as soon as it is there."""
        program, more = self.frames.programs.get(name), True
        # Cut short in a boot that may be repeated, it may still come.
        while more and not (program and (test in program.results or program.status is not None)):
            more = next(self.more, False)
            program = self.frames.programs.get(name)
        if program and test in program.results:
            return program.results[test]
        raise Failed(f"it did not run: {program.faults[0] if program and program.faults else self.ended_by()}")

    def ended_by(self) -> str:
        """Why the guest is not there any more."""
        return f"{self.why or f'QEMU ended with status {self.status}'}, see {self.console}"

    def last_words(self) -> str:
        """That, and the end of its kernel's log."""
        return "\n".join([self.ended_by(), *self.log().splitlines()[-8:]])

    def log(self) -> str:
        """Its kernel's."""
        return self.console.read_text(errors="replace").replace("\r", "") if self.console.exists() else ""
