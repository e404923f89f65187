"""The specification of looking: messages seen without receiving; see `model.py`."""

# ruff: noqa: EM101, EM102, TRY003  (short is clear here)
from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import model_input
from model_file import BLOCKED, DELAYED, IN_FLIGHT, READY
from model_message import ModelMessage

from embq import Explanation, errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model import ModelQueue
    from model_file import Entry

AHEAD_MOST = 1000
SMALL_MS = 1 << 31  # what is due before is an order among what is due at once


class Looked(ModelMessage):
    """A message that nobody was given."""

    def _held(self) -> NoReturn:
        raise errors.InvalidReceipt("looked at, not received")

    def ack_nowait(self) -> NoReturn:
        """Refuse at once: there is nothing to stage."""
        self._held()

    def __enter__(self) -> NoReturn:
        self._held()


class ModelLooking:
    """The verbs of a queue that change nothing."""

    def peek(self: ModelQueue, n: Any = 1) -> list[ModelMessage]:
        """List what a consumer would get next that acks each at once."""
        self.check()
        model_input.at_least_one(n, "n")
        return [] if self.is_paused() else self._looked(self._in_turn()[:n])

    def _looked(self: ModelQueue, entries: list[Entry]) -> list[ModelMessage]:
        return [Looked(self, entry) for entry in entries]

    def _in_turn(self: ModelQueue, sought: Entry | None = None) -> list[Entry]:
        """List what can be handed out, in that order, as if not paused.

        What perished is not in it, nor what stands behind that. All that a queue has
        which hands out one after another stands behind its first.
        """

        def is_to_come(entry: Entry) -> bool:
            over = entry.expires_ms is not None
            over = over and entry.expires_ms <= self.file.clock.wall_ms
            return self.file.state(entry) == READY and (entry is sought or not over)

        ready = [entry for entry in self.file.firsts(self.stored) if is_to_come(entry)]
        return sorted(ready, key=_turn)

    def browse(
        self: ModelQueue, *, state: Any = None, limit: Any = None, **fields: Any
    ) -> Iterator[ModelMessage]:
        """Go through all, of a state and with these fields."""
        if state not in (None, READY, DELAYED, BLOCKED, IN_FLIGHT):
            raise errors.InvalidArgument(f"state: {state!r}")
        if limit is not None:
            model_input.at_least_one(limit, "limit")
        self.check()
        wanted = {name: value for name, value in fields.items() if value is not None}
        found = [
            entry
            for entry in sorted(
                self.stored.entries.values(), key=lambda entry: entry.priority
            )
            if state in (None, self._state(entry))
            if all(entry.fields.get(name) == wanted[name] for name in wanted)
        ]
        return iter(self._looked(found[:limit]))

    def _first(self: ModelQueue, entry: Entry) -> Entry | None:
        """Find what goes before a message in an ordered queue, and first of all."""
        ordered, entries = self.stored.options.ordered, self.stored.entries.values()
        key = entry.fields.get("key")
        if ordered == "key" and key is not None:
            return next(one for one in entries if one.fields.get("key") == key)
        return next(iter(entries)) if ordered == "queue" else None

    def _state(self: ModelQueue, entry: Entry) -> str:
        """Say where it is: behind another it is blocked, even if no claim saw it."""
        state = self.file.state(entry)
        is_behind = self._first(entry) not in (None, entry)
        return BLOCKED if state == READY and is_behind else state

    def _find(self: ModelQueue, id: Any) -> Entry | None:  # noqa: A002
        if not isinstance(id, str):
            raise errors.InvalidArgument("id: not a str")
        self.check()
        entries = self.stored.entries.values()
        return next((entry for entry in entries if entry.id == id), None)

    def get(self: ModelQueue, id: Any) -> ModelMessage | None:  # noqa: A002
        """Show one."""
        found = self._find(id)
        return Looked(self, found) if found else None

    def explain(self: ModelQueue, id: Any) -> Explanation:  # noqa: A002
        """Tell where one is; of its owner, and since when it is held, nothing."""
        entry = self._find(id)
        if entry is None:
            raise errors.NotFound("no such message")
        state, first, clock = self._state(entry), self._first(entry), self.file.clock
        held, waits = state == IN_FLIGHT, state in (READY, DELAYED)
        paused_ms, due_ms = self.stored.paused_until_ms, entry.due_ms or 0
        ahead = self._ahead(entry)
        return Explanation(
            id=entry.id,
            queue=self.name,
            state=state,
            receive_count=entry.receive_count,
            suspect=entry.suspect and not held,
            due_at=model_input.datetime_of(
                due_ms if waits and due_ms > SMALL_MS else None
            ),
            owner=None,
            held_for=None,
            lease_left=(entry.deadline_ms - clock.boot_ms) / 1000 if held else None,
            behind=None if first in (None, entry) else first.id,
            ahead=None if ahead is None else min(ahead, AHEAD_MOST),
            more_ahead=ahead is not None and ahead > AHEAD_MOST,
            error=entry.error,
            history=list(entry.history),
            expires_at=model_input.datetime_of(entry.expires_ms),
            paused_until=model_input.datetime_of(
                paused_ms if self.is_paused() else None
            ),
        )

    def _ahead(self: ModelQueue, entry: Entry) -> int | None:
        """Count those before one that is ready, and behind no other of its key."""
        if self.file.state(entry) != READY:
            return None
        if self.stored.options.ordered == "queue":
            return list(self.stored.entries.values()).index(entry)
        if self._first(entry) in (None, entry):
            return self._in_turn(entry).index(entry)
        return None


def _turn(entry: Entry) -> tuple[int, bool, int, int]:
    """Sort what is ready: what waited by its time, and before what is new."""
    is_new = entry.due_ms is None
    return -entry.priority, is_new, entry.due_ms or 0, entry.row
