# SPDX-License-Identifier: GPL-2.0-only
"""make bench: counts instructions of mainline's noiommu cdev and of ours, in one boot of a Linux 7.3 that has both,
and of ours on the stock kernel of Debian 12.

    python3 -m runner.bench        writes build/bench.json, docs/performance.md and its chart; fails where a row of
                                   tests/bench/targets is missed
    python3 -m runner.bench ROW    says where the instructions of one call of that row go, by function
"""
from __future__ import annotations

import bisect
import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Iterable

from .guest import Guest, Spec, log_trouble
from .kernels import BuiltRoot, reference_root
from .machine import BUILD, OUT, TESTS, TOP, Failed, program, run, table, tell
from .root import Root, tools
from .session import Session

SOURCE = TESTS / "bench"
STOCK = "6.1"
MIB = 4096
# The QEMU options with which the time stamp counter counts instructions
COMMAND = f"""-icount shift=0,sleep=off -accel tcg,thread=single,tb-size=512 -cpu qemu64 -m {MIB}
    -kernel {{kernel}} -initrd {{image}} -append "console=ttyS0 panic=-1 oops=panic mitigations=off nokaslr
    tsc=reliable random.trust_cpu=on vfio.enable_unsafe_noiommu_mode=1"
    -device edu,addr=4,dma_mask=0xffffffffffffffff -device edu,addr=5,dma_mask=0xffffffffffffffff """
# Median, 5th and 95th percentile by row and backend; a row that begins with "stock/" is of the stock kernel.
Rows = dict[tuple[str, str], tuple[int, int, int]]
# The backend of a marked operation, and the instructions executed in it: address, how often, 1 if it locks, how often
# that is a line that the operation before has locked as well, text
Window = tuple[str, list[list[str]]]


def bench(name: str, root: Root, args: str, words: str, limit: int = 3000) -> Guest:
    """Run the program bench in a guest, and return the guest when it has ended."""
    files = {"bench": BUILD / "bench"} | {
        f"lib/{library}": tools() / library for library in ("libnoiommufd-vfio.so", "libnoiommufd.so.0")}
    run("gcc", *"-O2 -g -Wall -Wextra -Werror -o".split(), files["bench"], f"-I{TOP}/include", SOURCE / "bench.c",
        tools() / "libnoiommufd.so.0")
    # Both need this machine's libc, which may be newer than that of the guest's root.
    files |= {name: Path("/", name).resolve() for name in re.findall(r"/(\S+) \(0x", run("ldd", files["bench"]))}
    plan = f"{(SOURCE / 'plan').read_text()}frame bench /bench {args}\n"
    guest = Guest(name, root, Spec(plan, ["bench"], files, limit=limit, command=COMMAND + words))
    said = guest.program("bench")
    if said.status or guest.why:
        why = next((line for line in said.lines if line.startswith("bench:")), guest.last_words())
        raise Failed(f"{name}: {why}, see {guest.out} and {guest.console}.")
    if trouble := log_trouble(guest.log()):
        raise Failed(f"{name}: the kernel's log has trouble, see {guest.console}: {trouble}")
    return guest


def rows_of(guest: Guest, prefix: str = "") -> Rows:
    """The rows that a guest measured."""
    found = [re.fullmatch(r"([a-z0-9_]+) ([a-z_]+) (\d+) (\d+) (\d+) \d+", line)
             for line in guest.program("bench").lines]
    return {(prefix + line[1], line[2]): (int(line[3]), int(line[4]), int(line[5])) for line in found if line}


def where(root: BuiltRoot, row: str) -> tuple[list[Window], list[str]]:
    """Trace some operations of a row, instruction by instruction; return that, and the symbols of our functions and of
    the program's."""
    plugin, out = BUILD / "where.so", BUILD / "where"
    run("gcc", *"-O2 -g -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden -o".split(), plugin, SOURCE / "where.c")
    # Two processors, since a kernel on a single one may patch its locks away.
    backends = "lib" if row.startswith("lib_") else "mainline ours"
    guest = bench("bench-where", root, f"-p {row} {backends}", f"-smp 2 -plugin {plugin},out={out}", 1200)
    marked = [line.split()[3] for line in guest.program("bench").lines if line.startswith("# marked")]
    if not marked:
        raise Failed(f"there is no row '{row}': see the first column of tests/bench/targets.")
    windows = re.split(r"^= \d+\n", out.read_text(), flags=re.M)[1:]
    symbols = guest.program("symbols").lines
    for _, _, base, name in (line.split() for line in guest.program("bench").lines if line.startswith("# object ")):
        # The kernel's vdso is no file. The dynamic symbols are all that libc has.
        file = guest.spec.files.get(name[1:], "/bin/true")
        said = run("sh", "-c", f"nm {file}; nm -D {file}")
        symbols += [f"{int(base, 16) + int(found[1], 16):016x} t {found[2]}"
                    for found in re.finditer(r"^(\w+) [tTwWi] (\S+)", said, re.M)]
    return [(backend, [line.split(None, 4) for line in window.splitlines()])
            for backend, window in zip(marked, windows)], symbols


def locked(row: str, windows: list[Window]) -> Rows:
    """How many instructions of an operation lock a cache line in the kernel, and how many of them a line that the
    operation before has locked as well. The lowest counts are taken, since a timer may fire during some of them."""
    found = defaultdict(list)
    for (before, _), (backend, executed) in zip([("", []), *windows], windows):
        kernel = [(int(count), int(shared)) for address, count, locks, shared, *_ in executed
                  if locks == "1" and address >= "8"]
        found[f"locked_{row}", backend].append(sum(count for count, _ in kernel))
        if before == backend:
            found[f"shared_{row}", backend].append(sum(shared for _, shared in kernel))
    return {of: (min(sums), min(sums), max(sums)) for of, sums in found.items()}


def histogram(executed: list[list[str]], symbols: Iterable[str]) -> str:
    """A table of how many instructions each function executed, and how many of those lock."""
    table = sorted(line.split()[:3] for line in symbols if line.split()[1] in "tTwW")
    addresses = [address for address, _, _ in table]
    total, locks = Counter[str](), Counter[str]()
    for address, count, lock, *_ in executed:
        name = table[bisect.bisect_right(addresses, address) - 1][2]
        total[name] += int(count)
        locks[name] += int(count) * int(lock)
    lines = [f"{total[name]:12d} {locks[name]:7d}  {name}" for name in total]
    return "\n".join(sorted([*lines, f"{total.total():12d}  locked  all of it"], reverse=True))


def number(count: int | None) -> str:
    """A count, to three digits."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if count and count >= max(size, 1e4):
            short = count / size
            return f"{short:.{0 if short >= 100 else 1 if short >= 10 else 2}f}{unit}"
    return "-" if count is None else str(count)


def report(rows: Rows, source: str, stock: str, compiler: str, emulator: str) -> int:
    """Print the table; write bench.json, the page and the chart's data. Return 1 if a row missed its target."""
    targets: list[str] = []
    added: list[str] = []
    spread, found, old, bars, missed = [], [], [], [], 0
    median = {of: row[0] for of, row in rows.items()}
    print(f"{'median, in guest instructions':55} {'mainline':>9} {'ours':>9} {'ratio':>7} {'at most':>8}  ")
    for line in table(SOURCE / "targets"):
        theirs, name, most, bound, unit, what = line.split(None, 5)
        before, after = ((theirs, "bare"), (name, "lib")) if unit == "lib" else ((theirs, "mainline"), (name, "ours"))
        mainline, ours, floor = (median.get(of) for of in (before, after, bound.partition(":")[::2]))
        if ours is None or (not most.isdigit() and mainline is None):
            raise Failed(f"nothing was measured for '{name}', mainline's or ours")
        # "102%" and "+60": relative to mainline; "fixed+500": to our row "..._fixed"
        other, plus, more = most.partition("+")
        target = int((mainline or 0) * int(most[:-1]) / 100) if most.endswith("%") else int(more or most) + (
            median[f"{name.rpartition('_')[0]}_{other}", "ours"] if other and plus else (mainline or 0) if plus else 0)
        # A miss is excused only by a measured bound that is above the target.
        met, excused = ours <= target, ours > target and (floor or 0) > target
        missed += not met and not excused
        ratio = mainline / ours if mainline is not None and ours else -1
        values = [number(count) + (" KiB" if unit == "KiB" and count is not None else "") for count in (mainline, ours)]
        values += [f"{ratio:.{0 if ratio >= 100 else 1}f}" if ratio >= 0 else "-", number(target)]
        print("{:55} {:>9} {:>9} {:>7} {:>8}  ".format(what, *values) +
              ("" if met else f"bound: {number(floor)}" if excused else "MISSED"))
        values.append("yes" if met else f"no: nobody is below {number(floor)}" if excused else "no")
        if unit == "lib":
            extra = ours - (mainline or 0)
            values[2] = f"{number(extra)} ({100 * extra / mainline:.1f} %)" if mainline else "-"
        (added if unit == "lib" else targets).append("| " + " | ".join([what, *values]) + " |")
        measured = [rows.get(of) for of in (before, after)]
        if any(row and row[2] - row[1] > row[0] / 20 for row in measured):
            spread.append("| " + " | ".join([what, *(row and f"{number(row[1])} to {number(row[2])}" or "-"
                                                     for row in measured)]) + " |")
        found.append((what, mainline, ours, target, met, floor))
        if ("stock/" + name, "ours") in median:
            old.append((f"{what} ({stock})", None, median["stock/" + name, "ours"], None, None, None))
        if unit == "insns":
            bars.append(f'"{what}" {"" if mainline is None else mainline} {ours} {target}\n')
    (OUT / "bench.json").write_text("[\n  " + ",\n  ".join(json.dumps(dict(zip(
        ("name", "mainline", "ours", "target", "met", "bound"), row))) for row in found + old) + "\n]\n")
    # From the bottom to the top
    (BUILD / "bench.bars").write_text("".join(reversed(bars)))
    compared = {name: " | ".join(number(median.get(of)) for of in (
        (name, "mainline"), (name, "ours"), (f"stock/{name}", "ours"), (name, "io_uring"), (name, "pagemap")))
        for name, _ in rows}
    (TOP / "docs/performance.md").write_text((SOURCE / "page.txt").read_text().format(
        source=source, stock=stock, compiler=compiler, emulator=emulator, targets="\n".join(targets),
        added="\n".join(added), spread="\n".join(spread), rows=compared, getppid=median["getppid", "kernel"],
        vmalloc_scattered=number(median["vmalloc_1g_scattered", "ours"]),
        vmalloc_hugetlb=number(median["vmalloc_1g_hugetlb", "ours"])))
    if missed:
        print(f"{missed} of {len(targets + added)} rows miss their target")
    return int(missed > 0)


def main(row: str = "") -> int:
    """Measure all rows, or print the histogram of one. Return 0 if all targets are met."""
    free = int(re.findall(r"MemAvailable: *(\d+)", Path("/proc/meminfo").read_text())[0]) >> 10
    if free < MIB + 1024:
        raise Failed(f"the guest needs {MIB} MiB: free memory up to {MIB + 1024} MiB and run it again.")
    root = reference_root()
    if row:
        windows, ours = where(root, row)
        symbols = [*(root.build.kdir / "System.map").read_text().splitlines(), *ours]
        for backend in dict(windows):
            # The last marked operation
            print(f"{backend}:\n{histogram(dict(windows)[backend], symbols)}")
        return 0
    rows = rows_of(bench("bench", root, "mainline ours io_uring pagemap lib", "-smp 1"))
    for counted in ("get_pa_4k", "pair_4k"):
        rows |= locked(counted, where(root, counted)[0])
    stock = Session(True, False, "", "", "").root(STOCK)
    rows |= rows_of(bench(f"bench-{STOCK}", stock, "ours io_uring pagemap", "-smp 1"), "stock/")
    status = report(rows, f"linux-source-7.3 {root.build.kdir.name.split('_')[1]}", stock.kver,
                    *(run(name, "--version").splitlines()[0] for name in ("gcc", "qemu-system-x86_64")))
    run("gnuplot", "-e", f"bars='{BUILD}/bench.bars'; chart='{TOP}/docs/performance.svg'", SOURCE / "chart.gnuplot")
    tell(f"{OUT}/bench.json, docs/performance.md and its chart are written.")
    return status


if __name__ == "__main__":
    program("bench", main, *sys.argv[1:])
