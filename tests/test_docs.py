# SPDX-License-Identifier: GPL-2.0-only
"""Documents: what they refer to exists, and the messages that users see are described."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

from runner.machine import TOP

TREES = "src|include|initramfs|lib|compat|docs|examples|tests|scripts|tools|man|debian|rpm|udev"
# Paths in the kernel's tree, or made by a build
OTHERS = r"(?:include/(?:linux|uapi|config|generated)|tools/testing|scripts/(?!checks|dkms)|compat/probe/features)"
PREFIXES = "iopt|iommufd|noiommufd|noiommu|swpt"


def documents() -> list[Path]:
    """All Markdown files and manual pages."""
    # Not in build/: a run has root file systems mounted there.
    trees = [path for path in TOP.iterdir() if path.is_dir() and path.name not in ("build", ".git")]
    found = [*TOP.glob("*.md"), *(path for tree in trees for path in tree.rglob("*.md"))]
    return sorted(found) + sorted(path for path in (TOP / "man").iterdir())


def slugs(path: Path) -> set[str]:
    """The anchors of a file's headings, as GitHub and GitLab make them."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            for title in re.findall(r"^#+ (.*)", path.read_text(), re.M)}


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(TOP)))
def test_references(path: Path) -> None:
    """Links lead somewhere, the files that are named exist, and no line number of a file is named."""
    text = path.read_text().replace("\\-", "-")
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        if not re.match(r"\w+:", target):
            there = path.parent / name if name else path
            if not there.exists() or anchor and anchor not in slugs(there):
                wrong.append(target)
    for name in re.findall(rf"(?<![\w/.<~-])((?:{TREES})/[\w./*-]*[\w/*])", text):
        # PROGRAM.c stands for any name
        name = re.sub(r"(?<=/)(?!README)[A-Z]{2,}\b", "*", name)
        if not re.match(OTHERS, name) and \
                not any(list(place.glob(name + end)) for place in (TOP, path.parent) for end in ("", ".md")):
            wrong.append(name)
    wrong += re.findall(r"[\w/-]+\.(?:[ch]|py|md|sh):\d+", text)
    assert not wrong


def source() -> str:
    """The text of all source that defines functions."""
    return "\n".join(path.read_text() for tree in ("src", "compat", "include", "examples", "tests/kunit")
                     for path in (TOP / tree).rglob("*") if path.suffix in (".c", ".h"))


def test_functions_exist() -> None:
    """The functions of ours that documents mention exist."""
    known = set(re.findall(r"\w+", source()))
    assert not [f"{path.name}: {name}" for path in documents()
                for name in re.findall(rf"`((?:__)?(?:{PREFIXES})_\w*[^\W_])(?:\(\))?`", path.read_text())
                if name not in known]


def sentences(tree: str, pattern: str) -> list[str]:
    """The messages in the source of a tree that match a pattern, each up to the first part that varies."""
    text = "\n".join(re.sub(r'"\s*\n\s*"', "", path.read_text()) for path in sorted((TOP / tree).rglob("*.c")))
    return [next(part for part in re.split(r"[:(,;]|(?:0x)?%#?\w+|\\n", said) if len(part) > 5).strip()
            for said in re.findall(pattern, text)]


def test_refusals_are_described() -> None:
    """Each reason not to take a device is in docs/troubleshooting.md, as the log has it."""
    reasons = sentences("src/vfio", r'\breturn "([^"]*)') + sentences("src/vfio", r'\brefuse\(reach,\s*"([^"]*)"')
    described = (TOP / "docs/troubleshooting.md").read_text()
    assert len(reasons) >= 12
    assert not [reason for reason in reasons if reason not in described]


def test_log_is_described() -> None:
    """Each other message that the modules log is there as well."""
    said = [line for tree in ("src", "compat") for line in
            sentences(tree, r'\b(?:pci|pr|dev)_(?:warn|notice|err)\w*\([^"]*"([^"]*)"')]
    described = (TOP / "docs/troubleshooting.md").read_text()
    assert len(said) >= 9
    assert not [line for line in said if line not in described]
