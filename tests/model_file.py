"""The file of the specification: queues, messages, and the rules of all processes.

See `model.py`, which has the verbs.
"""

# ruff: noqa: D101, D102, EM102, TRY003  (short is clear here)
from __future__ import annotations

import dataclasses
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import model_input
from model_input import Options, default_dead_letter

from embq import errors

if TYPE_CHECKING:
    from model import ModelBroker
    from model_results import Result

STATES = READY, DELAYED, IN_FLIGHT = "ready", "delayed", "in_flight"
BLOCKED = "blocked"  # ready, but behind another of its key
OUTCOMES: tuple[str, ...] = ("sent", "delivered", "redelivered", "acked", "nacked")
OUTCOMES += ("rejected", "expired", "dead", "dropped", "duplicates", "redriven")


@dataclasses.dataclass
class Entry:  # a message as it is stored
    row: int  # its place in the order of its queue
    id: str  # never changes, wherever the message moves
    sent_at_ms: int
    body: bytes
    fields: dict[str, Any]
    receive_count: int = 0
    first_at_ms: int | None = None  # of the first delivery
    priority: int = 4
    due_ms: int | None = None  # None: new. A time: it waits until then, or waited
    expires_ms: int | None = None  # it perishes, unless somebody holds it then
    suspect: bool = False  # its lease ended: whoever held it may have died of it
    owner: ModelBroker | None = None  # the lease: who holds it ...
    deadline_ms: int = 0  # ... and until when, by the boot clock
    receipt: bytes | None = None  # of the latest delivery, while it is good
    error: str | None = None  # of the last nack that gave one
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Stored:
    name: str
    options: Options
    entries: dict[int, Entry] = dataclasses.field(default_factory=dict)
    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    paused_until_ms: int = 0
    gone: bool = False  # it was deleted
    generation: int = 0  # how many were deleted before it was made
    # Of each dedup id: the id of the message, and until when that is remembered.
    sent: dict[str, tuple[str, int]] = dataclasses.field(default_factory=dict)


class ModelFile:
    """The file: the queues and all rules that concern more than one process."""

    def __init__(self, clock: Any) -> None:  # a clock has boot_ms and wall_ms
        self.clock, self.last_row, self.deleted = clock, 0, 0
        self.file_id = int.from_bytes(os.urandom(8))
        self.queues: dict[str, Stored] = {}
        self.results: dict[str, dict[str, Result]] = {}  # by scope and key
        self.hits: Counter[str] = Counter()  # by scope

    def state(self, entry: Entry) -> str:
        """Say where in its life a message is. An ended lease counts until noticed."""
        if entry.owner is not None:
            return IN_FLIGHT
        if entry.due_ms is not None and entry.due_ms > self.clock.wall_ms:
            return DELAYED
        return READY

    def firsts(self, stored: Stored) -> list[Entry]:
        """List what no other message of an ordered queue is before.

        All of them, in a queue that is not ordered, and those without a key.
        """
        entries = list(stored.entries.values())
        if stored.options.ordered == "queue":
            return entries[:1]
        if stored.options.ordered == "key":
            first: dict[Any, Entry] = {}
            for entry in entries:
                key = entry.fields.get("key")
                first.setdefault(entry.row if key is None else key, entry)
            return list(first.values())
        return entries

    def declare(self, name: str, given: dict[str, Any]) -> Stored:
        """Create a queue or find it; options other than the stored are refused."""
        model_input.check_name(name)
        wanted = Options(**{"dead_letter": default_dead_letter(name), **given})
        wanted.check(name)
        made = Stored(name, wanted, generation=self.deleted)
        stored = self.queues.setdefault(name, made)
        for option in given:
            if getattr(stored.options, option) != getattr(wanted, option):
                raise errors.ConfigMismatch(f"{name}: {option} is stored otherwise")
        return stored

    def delete(self, name: str) -> int:
        """Remove a queue with all that it has, whoever holds it."""
        if name not in self.queues:
            raise errors.NotFound(f"no queue {name!r}")
        stored = self.queues.pop(name)
        count, stored.gone = len(stored.entries), True
        self.deleted += 1
        for entry in stored.entries.values():
            entry.receipt = None
        stored.entries.clear()
        return count

    def append(self, stored: Stored, entry: Entry) -> None:
        self.last_row += 1
        entry.row = self.last_row
        entry.id = entry.id or f"{self.file_id:016x}{entry.row:016x}"
        stored.entries[entry.row] = entry
        stored.counts["sent"] += 1  # moved here or sent here: the same to this queue

    def notice(self, dead: ModelBroker | None = None) -> None:
        """End leases that are over (each claim, on any queue), or a dead process's."""
        is_over = self.is_over if dead is None else lambda entry: entry.owner is dead
        for stored in list(self.queues.values()):
            for entry in list(stored.entries.values()):
                if entry.owner and is_over(entry):
                    stored.counts["expired"] += 1
                    if self.is_last(stored, entry):
                        self.bury(stored, entry, "max_receives", None)
                        continue
                    # At once; least often received first: one that kills hides none.
                    self.wait(entry, due_ms=entry.receive_count, suspect=True)
        if dead is None:
            self.perish()

    def perish(self) -> None:
        """End what lived too long, the earliest first; what is held lives on."""
        late = [
            (entry.expires_ms, entry.row, stored, entry)
            for stored in self.queues.values()
            for entry in stored.entries.values()
            if entry.expires_ms is not None and not entry.owner
            if entry.expires_ms <= self.clock.wall_ms
        ]
        for *_, stored, entry in sorted(late, key=lambda one: one[:2]):
            if stored.options.dead_letter and stored.options.expiry == "dead_letter":
                self.bury(stored, entry, "ttl", None)
            else:
                del stored.entries[entry.row]
                stored.counts["dropped"] += 1

    def is_over(self, entry: Entry) -> bool:
        return bool(entry.deadline_ms <= self.clock.boot_ms)

    def wait(self, entry: Entry, *, due_ms: int, suspect: bool = False) -> None:
        """End a lease: the message waits again. The receipt lives on until a claim."""
        entry.owner, entry.due_ms, entry.suspect = None, due_ms, suspect

    def goes_alone(self, stored: Stored, entry: Entry) -> bool:
        """Tell whether it may kill, or a death of others would bury it."""
        last = entry.receive_count + 1 >= stored.options.max_receives
        return entry.suspect or bool(stored.options.dead_letter and last)

    def before_last_tries(self, stored: Stored, ready: list[Entry]) -> list[Entry]:
        """Leave out, of each priority, retries from the first that has its last try."""
        again = [entry for entry in ready if entry.due_ms is not None]
        out: set[int] = set()
        for entry in sorted(again, key=lambda entry: (entry.due_ms, entry.row)):
            closed = any(e.row in out and e.priority == entry.priority for e in again)
            if closed or self.goes_alone(stored, entry):
                out.add(entry.row)
        return [entry for entry in ready if entry.row not in out]

    def is_last(self, stored: Stored, entry: Entry) -> bool:
        """Tell whether a failed delivery was the last that the queue grants."""
        limit = stored.options.max_receives
        return bool(stored.options.dead_letter) and entry.receive_count >= limit

    def bury(self, stored: Stored, entry: Entry, why: str, error: str | None) -> None:
        """Move a message to the dead-letter queue; without one it is gone."""
        del stored.entries[entry.row]
        if stored.options.dead_letter is None:
            return
        stored.counts["dead"] += 1
        target = stored.options.dead_letter
        if target not in self.queues:
            options = dataclasses.replace(
                stored.options,
                dead_letter=None,
                max_messages=None,
                max_bytes=None,
                overflow="block",
            )
            made = Stored(target, options, generation=self.deleted)
            self.queues[target] = made
        record: dict[str, Any] = {"queue": stored.name, "reason": why, "error": error}
        record |= {"receive_count": entry.receive_count}
        record |= {"first_at": entry.first_at_ms, "last_at": self.clock.wall_ms}
        record |= {"hops": len(entry.history) + 1}
        self.move(entry, self.queues[target], [*entry.history, record])

    def move(self, entry: Entry, to: Stored, history: list[dict[str, Any]]) -> Entry:
        """Give a message to another queue, as a new one with its old id."""
        fresh = Entry(0, entry.id, entry.sent_at_ms, entry.body, entry.fields)
        fresh.history = history
        if not to.options.ordered:  # there it has the default priority
            fresh.priority = entry.priority
        self.append(to, fresh)
        return fresh

    def make_room(self, stored: Stored, entries: list[Entry]) -> None:
        """Let the oldest that nobody holds make way for these, or refuse them."""
        options = stored.options

        def fits(kept: list[Entry]) -> bool:
            bodies = [entry.body for entry in [*kept, *entries]]
            return options.fit(len(bodies), sum(map(len, bodies)))

        if not entries or fits(list(stored.entries.values())):
            return
        self.notice()
        kept = list(stored.entries.values())
        free = [entry for entry in kept if not entry.owner]
        gone = []
        while not fits(kept):
            if options.overflow in ("reject", "block") or not free:
                raise errors.QueueFull(f"{stored.name}: no room")
            gone.append(free.pop(0))
            kept.remove(gone[-1])
        for entry in gone:
            if options.overflow == "dead_letter":
                self.bury(stored, entry, "overflow", None)
            else:
                del stored.entries[entry.row]
                stored.counts["dropped"] += 1

    def stats(self, name: str) -> dict[str, int]:
        entries = self.queues[name].entries.values()
        states = Counter(self.state(entry) for entry in entries)
        size = sum(len(entry.body) for entry in entries)
        outcomes = {outcome: self.queues[name].counts[outcome] for outcome in OUTCOMES}
        firsts = self.firsts(self.queues[name])
        states[BLOCKED] = states[READY] - sum(self.state(e) == READY for e in firsts)
        states[READY] -= states[BLOCKED]
        by_state = {state: states[state] for state in (*STATES, BLOCKED)}
        return {"messages": len(entries), "bytes": size, **by_state, **outcomes}
