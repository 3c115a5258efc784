# SPDX-License-Identifier: GPL-2.0-only
"""What needs no guest: rules for the source, the README's example, headers for programs, our version, and the errors on
a machine where the tests or make demo cannot work."""
from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Iterator

import pytest

from runner import archive, machine
from runner.archive import MIRROR, libc_dev
from runner.kernels import built_check
from runner.machine import CACHE, LOGS, TESTS, TOP, Failed, run, source_copy
from runner.root import tools

NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups".split()


def test_ci_minutes() -> None:
    """The parts of CI, with the minutes that docs/testing.md gives them, fit into its limit."""
    table = (TOP / "docs/testing.md").read_text().partition("\n## What CI runs\n")[2].partition("\n## ")[0]
    minutes = sum(float(found) for found in re.findall(r"\| ([0-9.]+) \|$", table, re.M))
    assert 0 < minutes <= 68


def test_no_conditionals_in_src() -> None:
    found = [f"{path}: {line}" for tree in ("src", "include") for path in (TOP / tree).rglob("*") if path.is_file()
             for line in re.findall(r"^\s*#\s*(?:if|ifdef|elif|else)\b.*", path.read_text(), re.M)]
    # There is no other way to find out whether the system has a header, or which language this is.
    assert [line for line in found if "/noiommufd/compat/" not in line and "#ifdef __cplusplus" not in line] == []


def test_readme_example_compiles(tmp_path: Path) -> None:
    code = "".join(re.findall(r"^```c\n(.*?)^```$", (TOP / "README.md").read_text(), re.M | re.S))
    assert code, "README.md has no example in C"
    (tmp_path / "example.c").write_text(code)
    run("gcc", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{TOP}/include", "-o", tmp_path / "example",
        tmp_path / "example.c", tools() / "libnoiommufd.a", "-pthread")


@pytest.mark.xdist_group("uapi")
@pytest.mark.parametrize("order", ["alone", "before", "after"],
                         ids=["is_that_of_7_3", "before_the_systems", "after_the_systems"])
def test_uapi(order: str) -> None:
    """include/ defines what the headers of Linux 7.3 do, see uapi/compare."""
    dirs = [libc_dev(role) for role in ("6.1", "6.12", "newest", "next")]
    run(TESTS / "uapi/compare", order, TOP / "include", dirs[-1], *dirs)


@pytest.mark.parametrize("language", ["c11", "c++17"])
@pytest.mark.parametrize("system", ["6.1", "6.12", "newest"])
def test_compat_headers(system: str, language: str, tmp_path: Path) -> None:
    """A program that includes the system's headers by name also gets what 7.3 has, even if it includes ours before or
    after them."""
    (tmp_path / "program.c").write_text("""#include <linux/vfio.h>
        #include <noiommufd/vfio.h>
        #include <linux/iommufd.h>
        #include <noiommufd/iommufd.h>
        unsigned long all = sizeof(struct iommu_ioas_noiommu_get_pa) + sizeof(struct vfio_device_bind_iommufd) +
            IOMMU_IOAS_NOIOMMU_GET_PA + IOMMU_IOAS_MAP_FILE + VFIO_DEVICE_BIND_IOMMUFD + VFIO_GROUP_SET_CONTAINER;
        """)
    run("gcc", f"-std={language}", "-x", "c" if language == "c11" else "c++", "-Wall", "-Wextra", "-Werror",
        "-pedantic", "-fsyntax-only", f"-I{TOP}/include/noiommufd/compat", f"-I{TOP}/include", "-isystem",
        libc_dev(system) / "usr/include", tmp_path / "program.c")


@pytest.mark.parametrize("compiler", ["gcc -std=c11", "g++ -x c++ -std=c++11", "g++ -x c++ -std=c++20"])
@pytest.mark.parametrize("library", ["libnoiommufd.so", "libnoiommufd.a"])
def test_library(library: str, compiler: str, tmp_path: Path) -> None:
    """A program in C or C++ can be linked with each function of the header, and with nothing else of the library."""
    functions = set(re.findall(r"^(?!#| \*).*?\b(noiommufd_\w+)\(", (TOP / "include/libnoiommufd.h").read_text(), re.M))
    (tmp_path / "program.c").write_text("#include <libnoiommufd.h>\ntypedef void (*any)(void);\nany all[] = {" +
                                        "".join(f"(any){name}, " for name in sorted(functions)) +
                                        "};\nint main() { char **list = noiommufd_list(); return !list || *list; }\n")
    run(*compiler.split(), "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wno-cast-function-type", f"-I{TOP}/include",
        "-o", tmp_path / "program", tmp_path / "program.c", "-x", "none", tools() / library, "-pthread")
    run("env", f"LD_LIBRARY_PATH={tools()}", tmp_path / "program")
    exported = run("nm", "--dynamic", "--defined-only", tools() / "libnoiommufd.so.0")
    assert set(re.findall(r" T (\w+)@@LIBNOIOMMUFD_", exported)) == functions


def test_library_lookup() -> None:
    """Looking an address up takes at most 20 instructions, and no other function."""
    code = run("objdump", "-d", "--no-show-raw-insn", "--disassemble=noiommufd_pa", tools() / "libnoiommufd.so.0")
    found = re.findall(r"^ +[0-9a-f]+:\t(\w+)", code, re.M)
    assert 5 < len(found) <= 20 and "call" not in found


@pytest.mark.parametrize("tool", ["address,undefined", "thread", "valgrind"])
def test_library_memory(tool: str, tmp_path: Path) -> None:
    """On a kernel that is made up, the library has no mistake that such a tool finds, and nothing is left when a system
    call or an allocation fails, each in turn; see lib/library.c."""
    valgrind = "valgrind --quiet --leak-check=full --error-exitcode=9".split() if tool == "valgrind" else []
    run("gcc", *"-O1 -g -Wall -Wextra -Werror -pthread -o".split(), tmp_path / "library", f"-I{TOP}/include",
        *(TESTS / "lib").glob("*.c"), *(TOP / "lib").glob("*.c"), "-Wl," + ",".join(
            f"--wrap={name}" for name in "ioctl malloc calloc realloc mmap munmap eventfd".split()),
        *([] if valgrind else [f"-fsanitize={tool}", "-fno-sanitize-recover=all"]))
    for part in ("each", "fail", "threads"):
        run(*valgrind, tmp_path / "library", part)


def test_library_ctypes() -> None:
    """Python can use the library: lists, errors and their explanations, structs."""
    lib, said = ctypes.CDLL(str(tools() / "libnoiommufd.so.0"), use_errno=True), []
    log = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)(lambda _, text: said.append(text.decode()))
    lib.noiommufd_set_log(log, None)
    lib.noiommufd_list.restype = ctypes.POINTER(ctypes.c_char_p)
    lib.noiommufd_open.restype = ctypes.c_void_p
    assert not lib.noiommufd_list()[0]
    assert lib.noiommufd_open(b"0000:ff:1f.7", None) is None and ctypes.get_errno() == errno.ENODEV
    assert said == ["There is no PCI device 0000:ff:1f.7: `lspci -D` lists those there are."]
    value = ctypes.c_uint32()
    lib.noiommufd_write32(ctypes.byref(value), 7)
    assert lib.noiommufd_read32(ctypes.byref(value)) == 7


def test_library_description(tmp_path: Path) -> None:
    """The description of a handover that is cut, changed, of another version or noise is refused."""
    run("gcc", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
        f"-I{TOP}/include", "-o", tmp_path / "description", TESTS / "description.c", TOP / "lib/description.c")
    run(tmp_path / "description")


def test_library_manual(tmp_path: Path) -> None:
    """Each function and struct of the library has a manual page, no other is referred to, and the example of section 7
    can be built with what is installed."""
    source_copy(tmp_path / "source")
    run("make", "-C", tmp_path / "source", "install-headers", "install-lib", "install-lib-dev", f"DESTDIR={tmp_path}")
    pages = {path.stem for path in (tmp_path / "usr/share/man/man3").iterdir()}
    header, manual = (TOP / "include/libnoiommufd.h").read_text(), (TOP / "man/libnoiommufd.7").read_text()
    assert pages == set(re.findall(r"^ \* (?:struct )?(\w+)(?:\(\))? - ", header, re.M))
    assert set(re.findall(r"(\w+) \(3\)", manual)) <= pages
    said = run("sh", "-c", f"mandoc -T lint -W warning {tmp_path}/usr/share/man/man3/*")
    assert not said
    code = re.findall(r"^\.EX\n(.*?)^\.EE$", manual, re.M | re.S)[0].replace(r"\e", "\\")
    (tmp_path / "example.c").write_text(code)
    run("sh", "-ec", f"""cd {tmp_path}; export PKG_CONFIG_SYSROOT_DIR=$PWD
        export PKG_CONFIG_PATH=$PWD/usr/lib/pkgconfig:$PWD/usr/share/pkgconfig
        gcc -Wall -Wextra -Werror -o example example.c $(pkg-config --cflags --libs libnoiommufd)
        ! LD_LIBRARY_PATH=$PWD/usr/lib ./example 2>said
        grep -q 0000:00:05.0 said""")


def test_noiommufd_run() -> None:
    """Test tools/noiommufd-run, with plain files for the nodes."""
    run("unshare", "--mount", "--propagation", "private", TESTS / "guest/noiommufd-run-test",
        tools() / "noiommufd-run")


def test_noiommuctl_doctor() -> None:
    """Test noiommuctl doctor on machines that are directories, each broken in one way."""
    run(TESTS / "guest/noiommuctl-doctor-test", tools() / "noiommuctl")


# What a build tree lacks, and the files that it has beyond those of the tree before
LACKS: list[tuple[str, dict[str, str]]] = [
    ("there is no kernel build directory", {}),
    ("is not prepared", {"none": ""}),
    ("is of a kernel for arm64, not x86", {
        "include/generated/utsrelease.h": '#define UTS_RELEASE "1.2"\n', "include/generated/autoconf.h": "",
        "include/config/auto.conf": "#\n# Linux/arm64 1.2 Kernel Configuration\n"}),
    ("has no Module.symvers", {"include/config/auto.conf": "#\n# Linux/x86 1.2 Kernel Configuration\n"}),
    ("another architecture", {
        "Module.symvers": "", "include/config/kernel.release": "1.2\n",
        "include/config/auto.conf": "CONFIG_ARM64=y\n"}),
    ("there is no kernel image", {"include/config/auto.conf": "CONFIG_X86_64=y\n"}),
    ("is of kernel '1.3'", {"arch/x86/boot/bzImage": "\0" * 512 + "1.3 (a@b)" + "\0" * 200}),
    ("lacks CONFIG_MODULES", {"arch/x86/boot/bzImage": "\0" * 512 + "1.2 (a@b)" + "\0" * 200})]


def lacking(kdir: Path, count: int) -> Iterator[str]:
    """Make the first count of these trees, one after the other."""
    for want, files in LACKS[:count]:
        for name, text in files.items():
            (kdir / name).parent.mkdir(parents=True, exist_ok=True)
            (kdir / name).write_text(text)
        yield want


def test_kdir_refused(tmp_path: Path) -> None:
    """Trees on whose kernels the suite cannot be run are refused."""
    for want in lacking(tmp_path / "kdir", len(LACKS)):
        with pytest.raises(Failed, match=want):
            built_check(str(tmp_path / "kdir"))


def test_bad_kdirs(tmp_path: Path) -> None:
    """For trees against which no module can be built, make prints one sentence, and builds nothing."""
    for want in lacking(tmp_path / "kdir", 4):
        done = subprocess.run(["make", "-s", "--no-print-directory", "-C", TOP, "modules", f"KDIR={tmp_path}/kdir",
                               f"OUT={tmp_path}/out"], text=True, check=False, capture_output=True)
        said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("make: ")]
        assert done.returncode and len(said) == 1 and re.match(f"noiommufd: .*{want}", said[0]), said
        assert not (tmp_path / "out").exists(), "it began to build"


# Variables of kbuild, which must not reach the kernel's make
STATE = "sub_make_done KBUILD_OUTPUT KBUILD_EXTMOD_OUTPUT srctree objtree abs_srctree abs_objtree " \
    "building_out_of_srctree KCONFIG_CONFIG O"


def test_kbuild_state_kept_out(tmp_path: Path) -> None:
    """No state of a kbuild that runs ours reaches the kernel's make."""
    kdir = tmp_path / "kdir"
    for name, text in (("include/generated/utsrelease.h", '#define UTS_RELEASE "7.0-none"\n'),
                       ("include/config/auto.conf", ""), ("Module.symvers", ""),
                       ("include/generated/autoconf.h", "#define CONFIG_VFIO_PCI_CORE 1\n#define CONFIG_NET 1\n"),
                       ("Makefile", f'modules:\n\t@for v in {STATE}; do eval "echo $$v=\\$$$$v"; done > state; '
                        'echo "O=$(O) $(origin O)" >> state; exit 1\n')):
        (kdir / name).parent.mkdir(parents=True, exist_ok=True)
        (kdir / name).write_text(text)
    with pytest.raises(Failed):
        run("make", "-C", TOP, "modules", f"KDIR={kdir}", f"OUT={tmp_path}/out", "O=x", "KBUILD_OUTPUT=y",
            env={**dict.fromkeys(STATE.split()[:-1], "x"), "sub_make_done": "1", "building_out_of_srctree": "1"})
    said = (kdir / "state").read_text().splitlines()
    assert said and not [line for line in said if not re.search(r"=( undefined)?$", line)]


def test_version_moves(tmp_path: Path) -> None:
    """The version of packages rises with each commit, up to the release."""
    top, shallow = tmp_path / "tree", tmp_path / "shallow"
    log = LOGS / "version.log"

    def git(words: str) -> str:
        return run("git", "-C", top, "-c", "user.name=a", "-c", "user.email=b", *words.split()).strip()

    def commit() -> None:
        git("add -A")
        git("commit -q --allow-empty -m c")

    def version() -> str:
        return run("make", "-s", "--no-print-directory", "-C", top, "version").strip()

    def release(name: str) -> None:
        changelog = top / "debian/changelog"
        changelog.write_text(re.sub(r"\(.*\)", f"({name})", changelog.read_text(), count=1))

    source_copy(top)
    release("7.2~git")
    assert version() == "7.2~git"
    git("init -q")
    commit()
    before = version()
    assert before == f"7.2~git1.{git('rev-parse --short HEAD')}"
    commit()
    commit()
    after = version()
    assert after.startswith("7.2~git3.")
    run("dpkg", "--compare-versions", before, "lt", after)
    run("dpkg", "--compare-versions", after, "lt", "7.2")
    with open(top / "Kbuild", "a", encoding="utf-8") as file:
        file.write("\n")
    assert re.fullmatch(r"7\.2~git3\..*\+dirty", version())
    git("checkout -q Kbuild")
    run("git", "clone", "-q", "--depth", "1", f"file://{top}", shallow)
    with pytest.raises(Failed):
        run("make", "-s", "-C", shallow, "deb", log=log)
    assert "git fetch --unshallow" in log.read_text()
    # The tree of another user, as with sudo
    run("chown", "-R", "65534:65534", top)
    assert version() == after
    run("make", "-C", top, "deb", log=log)
    (top / "build/noiommufd-dkms_1_all.deb").touch()
    run("make", "-C", top, "deb", log=log)
    made = sorted(path.name for path in (top / "build").glob("*.deb"))
    assert made == [f"libnoiommufd-dev_{after}_amd64.deb", f"libnoiommufd0_{after}_amd64.deb",
                    f"noiommufd-dkms_{after}_all.deb", f"noiommufd-tools_{after}_amd64.deb"]
    assert run("dpkg-deb", "-f", top / "build" / made[2], "Version").strip() == after
    release("7.2")
    assert version() == "7.2"


def test_version_is_begun() -> None:
    """In this tree, no commit after a release still has the version of that release."""
    if not (TOP / ".git").exists():
        pytest.skip("no repository")
    git = ("git", "-c", "safe.directory=*", "-C", TOP)
    said = re.findall(r"\((.*)\)", (TOP / "debian/changelog").read_text())[0]
    assert said.endswith("~git") or run(*git, "rev-list", "-1", "HEAD", "--", "debian/changelog") == \
        run(*git, "rev-parse", "HEAD"), "that is released: begin the next one, that ends in ~git"


@archive.maker
def make(place: Path, said: str) -> None:
    """An entry of the cache, and something beside it."""
    place.mkdir()
    place.with_suffix(".debs").mkdir()
    (place / "said").write_text(said)
    if said == "no":
        raise Failed("it cannot be made")


def test_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries of the cache are complete or do not exist, and one entry is kept for each role."""
    monkeypatch.setattr(archive, "CACHE", tmp_path)
    monkeypatch.setattr(machine, "CACHE", tmp_path)
    monkeypatch.setattr(archive, "held", lambda entry, how: True)

    def entries() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".lock"))

    # As left by a run that was killed
    (tmp_path / "tmp.root-6.1.x/entry").mkdir(parents=True)
    other = archive.cached("root-6.1-rt_1", make, "rt")
    old = archive.cached("root-6.1_1", make, "a")
    assert entries() == sorted([old.name, other.name])
    assert old.stat().st_mode & 0o777 == 0o755
    with pytest.raises(Failed):
        archive.cached("root-6.1_1", make, "no")
    assert entries() == sorted([old.name, other.name])
    # Another recipe, and another version
    for version, said in (("1", "b"), ("2", "b")):
        new = archive.cached(f"root-6.1_{version}", make, said)
        assert entries() == sorted([new.name, other.name]) and (new / "said").read_text() == said
    assert archive.cached("root-6.1_2", make, "b") == new
    # Other runs use it.
    monkeypatch.setattr(archive, "held", lambda entry, how: how == fcntl.LOCK_SH)
    newer = archive.cached("root-6.1_3", make, "b")
    assert entries() == sorted([newer.name, new.name, other.name])


# --- machines that cannot ---------------------------------------------------------

DEMO = ("-m", "runner.demo")


@pytest.fixture(scope="module", name="tree")
def make_tree() -> Iterator[Path]:
    """A copy of the tests that any user can read."""
    top = Path(run("mktemp", "-d").strip())
    shutil.copytree(TESTS, top / "tests")
    run("chmod", "-R", "a+rX", top)
    yield top / "tests"
    shutil.rmtree(top)


@pytest.fixture(name="network")
def need_network(tmp_path: Path) -> None:
    """Skip the test if there is no network."""
    try:
        run("/usr/lib/apt/apt-helper", "download-file", f"{MIRROR}/dists/sid/Release", tmp_path / "Release")
    except Failed:
        pytest.skip(f"{MIRROR} cannot be reached")


def one_sentence(want: str, *command: str | Path, **env: str | Path) -> None:
    """Run a command, which must fail with a single line on standard error that has these words."""
    done = subprocess.run(command, env={**os.environ, **{name: str(value) for name, value in env.items()}}, text=True,
                          check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert done.returncode, "it went on"
    assert want in done.stderr and done.stderr.strip().count("\n") == 0, done.stderr


def cache_of(place: Path, size: str) -> Path:
    """Make a small cache with the package lists in it."""
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place)
    subprocess.run(["cp", "-r", CACHE / "index", place], check=False, stderr=subprocess.DEVNULL)
    return place


def entries_of(cache: Path) -> list[Path]:
    """The entries of a cache, complete or not."""
    return [*cache.glob("root-*"), *cache.glob("tmp.*")]


def test_demo_without_root(tree: Path) -> None:
    one_sentence("run it as root", *NOBODY, tree / "run", *DEMO)


def test_demo_not_on_debian(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text("ID=fedora\n")
    one_sentence("run it on Debian 12", tree / "run", *DEMO, OS_RELEASE=tmp_path / "os-release")


def test_demo_unknown_kernel(tree: Path) -> None:
    one_sentence("KERNEL is one of", tree / "run", *DEMO, "2.4")


def test_demo_without_network(tree: Path, tmp_path: Path) -> None:
    """Without a network and with an empty cache, the demo fails."""
    one_sentence("check the network", "unshare", "--net", tree / "run", *DEMO, CACHE=tmp_path / "empty")
    assert not entries_of(tmp_path / "empty")


def test_demo_without_space(tree: Path, tmp_path: Path) -> None:
    cache = cache_of(tmp_path / "small", "64m")
    one_sentence("free some space", tree / "run", *DEMO, CACHE=cache)
    assert not entries_of(cache)


def test_demo_space_runs_out(tree: Path, tmp_path: Path, network: None) -> None:
    """The space runs out halfway."""
    cache = cache_of(tmp_path / "medium", "200m")
    one_sentence("no space is left", tree / "run", *DEMO, CACHE=cache, ROLE_MIB="1")
    assert not entries_of(cache)


def test_demo_kernel_gone(tree: Path, tmp_path: Path, network: None) -> None:
    """The kernel, or its whole suite, is gone from the archive."""
    table = tree / "guest/kernels"
    before = table.read_text()
    for suite, image, want in (("sid", "linux-image-none", "role 6.1 is gone"),
                               ("none", "linux-image-amd64", "has no suite 'none'")):
        table.write_text(re.sub(r"(?m)^6\.1 .*", f"6.1 {suite} {image} linux-headers-amd64 guest", before))
        one_sentence(want, tree / "run", *DEMO, CACHE=tmp_path / "gone")
    table.write_text(before)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed_half_way", "interrupted"])
def test_demo(how: signal.Signals, tree: Path, tmp_path: Path, network: None) -> None:
    """After the demo is killed, no process is left, and no entry that looks complete; after ^C, nothing at all."""
    cache = tmp_path / "cache"
    # What a shell starts in the background, this test perhaps, ignores ^C.
    with subprocess.Popen(["env", "--default-signal=INT", tree / "run", *DEMO], stdin=subprocess.DEVNULL,
                          env={**os.environ, "CACHE": str(cache)}, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        end = time.monotonic() + 120
        while not list(cache.glob("tmp.*/entry/usr")) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
        assert list(cache.glob("tmp.*/entry/usr")), "it never began to make the root file system"
        if how == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, how)
        said = process.communicate()[1]
    assert not list(cache.glob("root-*")) and "Traceback" not in said
    if how == signal.SIGINT:
        assert process.returncode == 130 and not entries_of(cache), said
    time.sleep(1)
    assert str(cache) not in run("ps", "ax", "-o", "args")
    machine.remove(cache)


@pytest.mark.parametrize("want, args", [
    ("KERNEL is one of", ["--kernel", "2.4"]),
    ("no test fits 'none.none'", ["--tests", "none.none"]),
    ("no test fits 'none.none'", ["--tests", "none.none", "-n", "2"]),
])
def test_check_refused(want: str, args: list[str]) -> None:
    one_sentence(want, TESTS / "run", "-m", "pytest", *args)


def test_check_without_network(tmp_path: Path) -> None:
    """Without a network and with an empty cache, make check fails; with yesterday's package lists, it goes on."""
    one_sentence("check the network", "unshare", "--net", TESTS / "run", "-m", "pytest", CACHE=tmp_path / "empty")
    cache = tmp_path / "cache"
    shutil.copytree(CACHE / "index/bookworm-security", cache / "index/bookworm-security")
    os.utime(cache / "index/bookworm-security/fresh", (0, 0))
    said = run("unshare", "--net", "/usr/bin/python3", "-Bc",
               "from runner.archive import kernel_resolve as k; print(k('6.1'))", cwd=TESTS, env={"CACHE": str(cache)})
    assert "going on with the package lists of 1970-01-01" in said and "linux-image-6.1" in said
