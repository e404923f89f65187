"""Docs: what they point at is there, and what is there is named."""

from __future__ import annotations

import re
from pathlib import Path

import cases
import pytest

import embq
from embq import errors

ROOT = Path(__file__).parents[1]
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)")


def headings(path: Path) -> set[str]:
    """List the anchors of a document, as GitHub makes them."""
    lines = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line).lower().replace(" ", "-") for line in lines}


@pytest.mark.parametrize("path", DOCS, ids=[path.name for path in DOCS])
def test_links_lead_somewhere(path: Path) -> None:
    """Every link inside the project names a file, and a heading, that is there."""
    broken = []
    for target, anchor in LINK.findall(path.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        found = (path.parent / target).resolve() if target else path
        if not found.exists() or (anchor and anchor not in headings(found)):
            broken.append(f"{target}#{anchor}")
    assert not broken


@pytest.mark.parametrize("cls", errors.BY_NUMBER.values())
def test_every_error_is_documented(cls: type[errors.Error]) -> None:
    """An error has a code and a number of its own, a place in the docs, and a name."""
    path, _, anchor = cls().docs.partition("#")
    assert anchor in headings(ROOT / path)
    assert [c for c in errors.BY_NUMBER.values() if c.code == cls.code] == [cls]
    assert cls.number < 0
    assert getattr(embq, cls.__name__) is cls
    assert cls.__name__ in (errors.__doc__ or "")


def test_architecture_names_every_file() -> None:
    """Each source file of the core and the package stands in the table of layers."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text.partition("## Files and layers")[2].partition("## The file format")[0]
    files = [*(ROOT / "csrc").glob("*.c"), *(ROOT / "embq").glob("*.py")]
    missing = [
        path.name
        for path in files
        if f"`{path.name}`" not in table and not path.name.startswith("__")
    ]
    assert not missing


def test_every_case_is_held_or_open() -> None:
    """A case has a test that names it, or says what it waits for; none is unknown."""
    held = cases.tests()
    assert not [c.number for c in cases.CASES if not c.open and c.number not in held]
    assert not set(held) - {case.number for case in cases.CASES}


def test_architecture_names_tests_that_exist() -> None:
    """Each test that is said to hold an invariant is there."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text.partition("## Invariants")[2].partition("\n## ")[0]
    names = re.findall(r"`([\w/]+\.(?:py|c))`", table)
    assert names
    assert not [name for name in names if not (ROOT / "tests" / name).is_file()]
