"""The specification of `redrive`: from a dead-letter queue back; see `model.py`."""

# ruff: noqa: EM102, TRY003  (short is clear here)
from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from model_input import duration_ms

from embq import errors

if TYPE_CHECKING:
    from model_file import Entry, ModelFile, Stored

FIELDS = ("type", "source", "key")
OF_HISTORY = ("reason", "queue")


@dataclasses.dataclass
class ModelRedrive:
    """The outcome; in the model it is done at once."""

    moved: int = 0
    skipped: int = 0
    done: bool = True

    def wait(self, timeout: float | None = None) -> int:
        """Give what was moved."""
        duration_ms(timeout or 0, "timeout")
        return self.moved

    def cancel(self) -> bool:
        """It is over."""
        return False


def check(file: ModelFile, name: str, to: Any, where: Any, rate: Any) -> None:
    """Refuse what makes no sense."""
    if to in (name, "") or not isinstance(to, str | None):
        raise errors.InvalidArgument(f"to: {to!r}")
    if not isinstance(where, dict | None):
        raise errors.InvalidArgument(f"where: {where!r}")
    for field, value in (where or {}).items():
        values = value if isinstance(value, list) else [value]
        known = field in FIELDS + OF_HISTORY
        if not known or not all(isinstance(one, str | None) for one in values):
            raise errors.InvalidArgument(f"where: {field!r}")
    is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if rate is not None and not (is_number and 0.001 <= rate <= 1e6):
        raise errors.InvalidArgument(f"rate: {rate!r}")
    if to is not None and to not in file.queues:
        raise errors.NotFound(f"no queue {to!r}")


def is_wanted(entry: Entry, where: dict[str, Any]) -> bool:
    """Tell whether a message has one of the values that each condition names."""
    newest = entry.history[-1] if entry.history else {}
    for field, value in where.items():
        has = newest.get(field) if field in OF_HISTORY else entry.fields.get(field)
        if has not in (value if isinstance(value, list) else [value]):
            return False
    return True


def home_of(file: ModelFile, source: Stored, entry: Entry, to: Any) -> Stored | None:
    """Say where a message goes; None: it stays."""
    died_in = [record["queue"] for record in entry.history]
    others = [name for name in died_in if name != source.name]
    home = file.queues.get(to or (others[-1] if others else ""))
    return home if home and home.options.codec == source.options.codec else None


def redrive(file: ModelFile, source: Stored, to: Any, where: Any) -> ModelRedrive:
    """Move what nobody holds, as new messages with their old ids."""
    done = ModelRedrive()
    for entry in list(source.entries.values()):
        if not is_wanted(entry, where or {}):
            continue
        home = home_of(file, source, entry, to)
        if home is None:
            done.skipped += 1
            continue
        if entry.owner is not None:
            continue
        del source.entries[entry.row]
        source.counts["redriven"] += 1
        fresh = file.move(entry, home, entry.history)
        if home.options.ttl is not None:
            ttl_ms = duration_ms(home.options.ttl, "ttl")
            fresh.expires_ms = file.clock.wall_ms + ttl_ms
        done.moved += 1
    return done
