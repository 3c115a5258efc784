# SPDX-License-Identifier: GPL-2.0-only
"""A guest in QEMU: its image, its boot, and what its kernel's log says of it.

Faults of QEMU itself (docs/testing.md) are not ours: a guest that ended because of
one is booted again, at most twice.
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
    """The lines of a kernel's log that report trouble, and what follows the first of them; "": there are none."""
    allowed, lines = table(GUEST / "kernel-log.allow"), log.replace("\r", "").splitlines()
    found = [number for number, line in enumerate(lines)
             if TROUBLE.search(line) and not any(re.search(known, line) for known in allowed)]
    shown = [lines[number] for number in found[:20]] + ["From the first on:"] + lines[found[0]:found[0] + 41] \
        if found else []
    return "\n".join(shown)


def not_ours(status: int, log: str) -> str:
    """Why a guest ended, if that was certainly no fault of ours; "" otherwise."""
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
    """What a guest runs, and on what machine."""
    # The script for the guest's init, and the frames that it prints
    plan: str = ""
    frames: list[str] = field(default_factory=list)
    # Files to put into the image, and programs of the suite
    files: dict[str, Path] = field(default_factory=dict)
    programs: list[str] = field(default_factory=list)
    # Additional devices and kernel parameters, the machine, and whether one QEMU thread runs both processors.
    # Guests that run at the same time lose interrupts more often with several threads each.
    devices: list[str] = field(default_factory=list)
    append: str = ""
    cpu: str = "qemu64"
    memory: str = "2G"
    thread: str = "single" if BESIDE_OTHERS else "multi"
    # QEMU's arguments for another machine; {kernel} and {image} stand for the files. tests/guest/watch does not watch
    # it.
    command: str = ""
    # A factor for the time limits, and the limit of the whole guest in seconds
    slow: int = 1
    limit: int = 1500


def devices(name: str, **words: object) -> list[str]:
    """QEMU's arguments from a file of tests/guest, with these words filled in."""
    return " ".join(table(GUEST / name)).format(**words).split()


def qemu(spec: Spec, kernel: Path, image: Path, console: Path, files: Path, sockets: str) -> list[str]:
    """The QEMU command that runs a guest."""
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
    """Make the files behind the namespaces of the two NVMe controllers, and behind the network card's expansion ROM."""
    for name in ("disk", "slow-disk"):
        with open(files / name, "wb") as disk:
            disk.truncate(128 << 20)
    rom = b"\x55\xaa\x06" + bytes(21) + b"\x1c\0\0\0" + \
        b"PCIR\xec\x10\x39\x81\0\0\x18\0\0\0\0\x02\x06\0\0\0\x03\x80\0\0"
    (files / "rom").write_bytes(rom + b"R" * 3020)


class Guest:
    """A guest, which is booted when the first result is requested, and read only as far as needed for it."""
    # Its output is read, and kept in a file; None: it goes to our own output.
    stdout: int | None = subprocess.PIPE

    def __init__(self, name: str, root: Root, spec: Spec) -> None:
        self.name, self.root, self.spec = name, root, spec
        self.dir = root.dir / name
        self.console, self.out = LOGS / f"{name}.console", LOGS / f"{name}.out"
        self.frames, self.status, self.why = Frames(), 1, ""
        self.process: subprocess.Popen[str] | None = None
        # Yields True for each line that the guest prints
        self.more = self.boot()

    def files(self) -> Path:
        """Make the files of the image that are this guest's own; the others are in the base of its kernel. Return their
        directory."""
        files, more, built = self.dir / "image", dict(self.spec.files), tools()
        shutil.rmtree(files, ignore_errors=True)
        more |= {"init": GUEST / "init", **{f"sbin/{name}": built / name for name in ("noiommufd-run", "noiommuctl")},
                 **{f"tests/{path.name}": path for path in programs(self.spec.programs)}}
        if "library" in self.spec.programs:
            said = run("ldd", programs(["library"])[0])
            more |= {f"asan/{Path(path).name}": Path(path).resolve() for path in re.findall(r"(/\S+) \(0x", said)}
        for name, source in more.items():
            (files / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, files / name, follow_symlinks=False)
        (files / "plan").write_text(self.spec.plan)
        return files

    def image(self) -> Path:
        """Make the guest's initramfs, and return its path."""
        base, files = self.root.base(), self.files()
        lib = files / "lib/modules" / self.root.kver
        lib.parent.mkdir(parents=True, exist_ok=True)
        # depmod has to see all modules; those of the base are removed again.
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
        """Boot the guest and read its output until it ends. Status 124: it exceeded its time limit; 75: QEMU is at
        fault, and why says how."""
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
        # In QEMU before 8.2, a processor may look up a BAR in a map that another one has just replaced.
        if self.status == -signal.SIGSEGV:
            self.why = "it died of SIGSEGV"
        if self.why:
            self.status = 75

    def boot(self) -> Iterator[bool]:
        """Boot the guest, and again if it ended by no fault of ours."""
        tell(f"guest {self.name}: {' '.join(self.spec.frames)} on {self.root.kver}")
        try:
            LOGS.mkdir(parents=True, exist_ok=True)
            self.dir.mkdir(parents=True, exist_ok=True)
            # The console of an earlier run
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
        """End the guest, whose results are not needed any more."""
        if self.process and self.process.poll() is None:
            self.process.terminate()

    def end(self) -> None:
        """Wait until it has ended."""
        while next(self.more, False):
            pass

    def program(self, name: str) -> Program:
        """Return the results of a program when the guest has ended; fail if it never ran."""
        self.end()
        if name not in self.frames.programs:
            raise Failed(f"the guest did not come to {name}: {self.ended_by()}")
        return self.frames.programs[name]

    def result(self, name: str, test: str) -> Result:
        """Return the result of a test as soon as the guest has printed it."""
        program, more = self.frames.programs.get(name), True
        # If this boot ends early, the result may still come in the next one.
        while more and not (program and (test in program.results or program.status is not None)):
            more = next(self.more, False)
            program = self.frames.programs.get(name)
        if program and test in program.results:
            return program.results[test]
        raise Failed(f"it did not run: {program.faults[0] if program and program.faults else self.ended_by()}")

    def ended_by(self) -> str:
        """Why the guest ended, and where its kernel's log is."""
        return f"{self.why or f'QEMU ended with status {self.status}'}, see {self.console}"

    def last_words(self) -> str:
        """Why the guest ended, and the last lines of its kernel's log."""
        return "\n".join([self.ended_by(), *self.log().splitlines()[-8:]])

    def log(self) -> str:
        """The log of the guest's kernel."""
        return self.console.read_text(errors="replace").replace("\r", "") if self.console.exists() else ""
