# SPDX-License-Identifier: GPL-2.0-only
"""The commands of README.md, in order, on Debian 12 and Debian 13 with systemd, print what it says.

A block of "console" has commands after "# ", continued after "> ", each followed by what it prints. There, "…" stands
for any text in a line, and alone in a line for any number of lines. Commands that install packages run in the root file
system; the rest runs in a guest made from it.
"""
from __future__ import annotations

import re
from typing import Iterator, NamedTuple

import pytest

from conftest import ended, expect
from runner.machine import LOGS, TOP, source_copy
from runner.root import Root
from runner.system import SystemGuest, install_system

README = (TOP / "README.md").read_text()
# The roles whose suites are the systems; with --daily, only the last one runs
SYSTEMS = ("6.1", "6.12")
PLACE = "/root/noiommufd"


class Command(NamedTuple):
    """A command of README.md, and what it prints according to that."""
    block: int
    text: str
    prints: str


def fences(language: str) -> list[str]:
    """The code blocks of README.md in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def commands() -> list[Command]:
    """All commands of README.md."""
    found = []
    for number, block in enumerate(fences("console")):
        for lines in re.findall(r"^# .*\n(?:(?!# ).*\n)*", block, re.M):
            typed = re.match(r"# .*\n(?:> .*\n)*", lines)
            assert typed, lines
            found.append(Command(number, re.sub("^(# |> )", "", typed[0], flags=re.M), lines[typed.end():]))
    return found


def prints(said: str, expected: str) -> bool:
    """Is what a command printed what README.md says?"""
    pattern = "".join("(?:.*\n)*?" if line == "…\n" else re.escape(line).replace("…", ".*")
                      for line in expected.splitlines(keepends=True))
    return re.fullmatch(pattern, said) is not None


def differs(command: Command, status: int, said: str) -> str:
    """How a command's result differs from README.md; "": it does not."""
    if status == 0 and prints(said, command.prints):
        return ""
    return f"# {command.text}It printed, with status {status}:\n{said}README.md says:\n{command.prints}"


def container() -> list[Command]:
    """README.md's command for systemd-nspawn, with the commands that put its example into a container."""
    [line] = re.findall(r"^    (systemd-nspawn(?:.*\\\n)*.*\n)", README, re.M)
    line = line.replace(" DIRECTORY ", " /srv/example ").replace(" PROGRAM", " /usr/bin/example")
    return [Command(0, "mkdir -p /srv/example/usr/bin /srv/example/etc; touch /srv/example/etc/os-release", ""),
            Command(0, "gcc -static -O2 -o /srv/example/usr/bin/example example.c -lnoiommufd -pthread", ""),
            Command(0, line.replace("systemd-nspawn", "systemd-nspawn --quiet --console=pipe"), "0x…: … bytes\n…\n")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run on those of the systems whose roles are tested with the package."""
    option = metafunc.config.option
    systems = [role for role in SYSTEMS if role in option.kernel.split() and option.package]
    metafunc.parametrize("role", [pytest.param(role, marks=pytest.mark.xdist_group("readme"))
                                  for role in (systems[-1:] if option.daily else systems)])


def installed(root: Root) -> None:
    """Install what README.md has a user install, and write the files that it shows."""
    log = LOGS / f"{root.name}-install.log"
    install_system(root, log)
    source_copy(root.path / PLACE[1:])
    (root.path / PLACE[1:] / "example.c").write_text(fences("c")[0])
    [unit] = re.findall(r"`/(etc/systemd/system/\S*\.service)`:\n", README)
    (root.path / unit).write_text(fences("ini")[0])


@pytest.fixture(name="root")
def fixture_root(role: str) -> Iterator[Root]:
    """The root file system of a system, with this tree in it."""
    root = Root.of_role(role, f"{role}-readme")
    with root.opened():
        installed(root)
        yield root


def test_commands(root: Root) -> None:
    """All commands of README.md succeed and print what it says."""
    wrong, later = [], []
    for command in commands():
        if any("apt install" in other.text for other in commands() if other.block == command.block):
            # In the root file system, uname would report this machine's kernel.
            said = root.sh(f"uname() {{ echo $K; }}; cd {PLACE}; {command.text}",
                           log=LOGS / f"{root.name}-{command.text.split()[0]}.log")
            wrong.append(differs(command, 0, said))
        else:
            later.append(command)
    off = [command.text.startswith("noiommuctl unbind") for command in later].index(True)
    later[off:off] = container()
    guest = SystemGuest(f"{root.name}-guest", root, PLACE, [command.text for command in later])
    answers = guest.said()
    wrong += [differs(command, *answer) for command, answer in zip(later, answers)]
    expect(not any(wrong), "\n".join(filter(None, wrong)))
    ended(guest)
    assert len(answers) == len(later)
