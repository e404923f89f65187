"""A planted bug: what is wrong, where it is planted, and the test that finds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Edit:
    """A piece of one file, which stands there exactly once, and what it becomes."""

    file: str
    old: str
    new: str

    def problem(self, root: Path) -> str | None:
        """Say why it cannot be planted there, if so."""
        path = root / self.file
        count = path.read_text(encoding="utf-8").count(self.old) if path.exists() else 0
        return None if count == 1 else f"{self.file}: found {count} times: {self.old!r}"

    def plant(self, root: Path) -> None:
        """Do it."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True)
class Mutant:
    """A bug.

    Attributes:
        what: What is wrong, in a line.
        breaks: The promise of ARCHITECTURE.md or the cases that it breaks.
        test: The pytest node that fails, and passes without it.
        edits: How it is planted.
        hangs: Whether the test then never ends instead of failing.
        tries: How often the test is run before it is given up: more than once where
            threads must meet by chance.
    """

    what: str
    breaks: str
    test: str
    edits: tuple[Edit, ...]
    hangs: bool = False
    tries: int = 1


def mutant(
    what: str,
    breaks: str,
    test: str,
    *edits: tuple[str, str, str],
    hangs: bool = False,
    tries: int = 1,
) -> Mutant:
    """Make one; an edit is (file, old text, new text)."""
    made = tuple(Edit(*edit) for edit in edits)
    return Mutant(what, breaks, f"tests/{test}", made, hangs, tries)
