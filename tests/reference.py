"""The reference of errors, docs/errors.md, written from embq/errors.py."""

from __future__ import annotations

import inspect

from embq import errors


def sections() -> str:
    """Write a section for each error, as they stand in the file, under its code."""
    return "\n\n".join(
        _section(cls)
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, errors.Error) and cls.number
    )


def _section(cls: type[errors.Error]) -> str:
    bases = ", ".join(base.__name__ for base in cls.__bases__)
    lines = [f"## {cls.code}", f"`embq.{cls.__name__}({bases})`"]
    lines.append(inspect.cleandoc(cls.__doc__ or ""))
    if cls.hint:
        lines.append(f"What to do: {cls.hint}.")
    return "\n\n".join(lines)
