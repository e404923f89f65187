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


TREE = errors._tree(errors.Error)
CONSTANT = re.compile(r"^#define EMBQ_([A-Z_]+) (-\d\d+)$", re.MULTILINE)


@pytest.mark.parametrize("cls", TREE[1:])
def test_every_error_is_documented(cls: type[errors.Error]) -> None:
    """An error has a code, a number and a hint of its own, a section, and a name."""
    for mark in ("code", "number", "hint"):
        own = vars(cls).get(mark)
        assert own, f"{cls.__name__} has no {mark} of its own"
        assert [c for c in TREE if getattr(c, mark) == own] == [cls]
    assert cls.number < 0
    assert errors.BY_NUMBER[cls.number] is cls
    path, _, anchor = cls().docs.partition("#")
    assert anchor == cls.code
    text = (ROOT / path).read_text(encoding="utf-8")
    section = text.partition(f"\n## {anchor}\n")[2].partition("\n## ")[0]
    assert f"`embq.{cls.__name__}(" in section
    assert f"What to do: {cls.hint}." in section
    assert str(cls("it failed")) == f"it failed; {cls.hint}"
    assert str(cls("it failed", "wait")) == "it failed; wait"
    assert getattr(embq, cls.__name__) is cls
    assert f" {cls.__name__} " in (errors.__doc__ or "")


def test_the_core_knows_no_other_errors() -> None:
    """Each code of the C core that reaches a user is the number of the class."""
    header = (ROOT / "csrc/embq_api.h").read_text(encoding="utf-8")
    found = {name.lower(): int(number) for name, number in CONSTANT.findall(header)}
    assert found
    known = {cls.code: cls.number for cls in TREE}
    assert {code: known.get(code) for code in found} == found


def test_the_docs_have_no_other_errors() -> None:
    """The reference of errors has a section for each class, and for nothing else."""
    text = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    assert sorted(sections) == sorted(cls.code for cls in TREE[1:])


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
