"""The specification of embq, as a plain-Python model that can be run.

A `ModelFile` is the file: queues, messages, leases. A `ModelBroker` is one process that
has it open; several on one file are several processes; `kill()` is a noticed death.

    send            receive: receive_count + 1            ack, auto_ack
    ------> [ready] -----------------------> [in_flight] ---------------> (gone)
            ^  ^                              | | | |
            |  +---- not handed out: ---------+ | | +-- reject; nack or lease end with
            |        given back, count - 1      | |     receive_count >= max_receives:
            +---- lease end (deadline, ---------+ |     [ready], as a dead letter
            |     owner's death): suspect         |
            +---- [delayed] <---- nack: due = ----+
                  (until due)     wall clock + delay

    [ready], [delayed] -- ttl is over --> dead letter, or (gone)
    [blocked]: [ready], but behind another of its key in an ordered queue

Higher priorities go first. In each, what waits for its first delivery is "new", in the
order of sending; what was sent with a delay, or waits again, goes in the order of (due,
row). Leases live by the boot clock, waits and the ends of lives by the wall clock;
nothing is "new" in the order of a clock.
"""

# ruff: noqa: D102, EM101, EM102, TRY003  (short is clear here)
from __future__ import annotations

import dataclasses
import os
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import model_input
import model_look
import model_redrive
import model_results
from model_file import READY, Entry, ModelFile, Stored
from model_input import duration_ms
from model_message import ModelMessage

from embq import Sent, errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RETRIES_IN_A_ROW = 7  # then one new message goes first, so a retry storm starves nobody


class ModelBroker(model_results.ModelScopes):
    """One process that has the file open."""

    def __init__(self, file: ModelFile) -> None:
        self.file, self.closed = file, False
        self.retries_in_a_row: Counter[str] = Counter()
        self.suspect: tuple[Entry, bytes | None] | None = None  # the last here
        self.unawaited: Exception | None = None

    def queue(self, name: str, **options: Any) -> ModelQueue:
        self.check_open()
        return ModelQueue(self, self.file.declare(name, options))

    def send(self, name: str, data: object, **fields: Any) -> Sent:
        self.check_open()
        if name not in self.file.queues:
            raise errors.NotFound(f"no queue {name!r}")
        return ModelQueue(self, self.file.queues[name]).send(data, **fields)

    def delete(self, name: str) -> int:
        self.check_open()
        model_input.check_name(name)
        return self.file.delete(name)

    def flush(self) -> None:
        """Raise the first failure that nobody awaited; all else is stored already."""
        self.check_open()
        if self.unawaited:
            failure, self.unawaited = self.unawaited, None
            raise failure

    def kill(self) -> None:
        """Die, and be noticed: what was held becomes suspect."""
        self.closed = True
        self.file.notice(dead=self)
        model_results.forget(self.file, dead=self)

    close = kill  # what a broker still holds when it closes ends as by death

    def holds_suspect(self) -> bool:
        """Tell whether a suspect is in flight in this process."""
        if self.suspect is None or self.suspect[0].receipt != self.suspect[1]:
            return False  # none was claimed here, or it is settled or another's
        return not self.file.is_over(self.suspect[0])

    def check_open(self) -> None:
        if self.closed:
            raise errors.Closed("the broker is closed")


class ModelQueue(model_look.ModelLooking):
    """A queue, seen by one process."""

    def __init__(self, broker: ModelBroker, stored: Stored) -> None:
        self.broker, self.file = broker, broker.file
        self.stored, self.name = stored, stored.name
        self.turns = f"{stored.name} {stored.generation}"

    def check(self) -> None:
        """Fail where the broker is closed, or the queue is gone."""
        self.broker.check_open()
        if self.stored.gone:
            raise errors.NotFound("the queue is gone")

    def send(
        self, data: object, *, timeout: Any = None, retries: Any = 0, **fields: Any
    ) -> Sent:
        duration_ms(timeout or 0, "timeout")
        self._prepare_retries(retries, [fields])
        return self._append([(data, fields)])[0]

    def send_many(self, items: Iterable[Any], *, retries: Any = 0) -> list[Sent]:
        parts = [model_input.parts(item) for item in items]
        self._prepare_retries(retries, [fields for _, fields in parts])
        return self._append(parts)

    def _prepare_retries(self, retries: Any, fields: list[dict[str, Any]]) -> None:
        """Name what may be sent again; nothing fails here, so nothing is."""
        if not model_input.whole(retries, "retries"):
            return
        if not self.stored.options.dedup_window and fields:
            raise errors.InvalidArgument("no dedup id is known here")
        for one in fields:
            if one.get("dedup_id") is None:
                one["dedup_id"] = uuid4().hex

    def _append(self, parts: list[tuple[object, dict[str, Any]]]) -> list[Sent]:
        """Store all or none: every item is checked before the first is stored."""
        self.broker.check_open()
        options, now_ms = self.stored.options, self.file.clock.wall_ms
        coded = [(model_input.encode(options, *part), part[1]) for part in parts]
        self.check()
        entries = [Entry(0, "", now_ms, body, fields) for body, fields in coded]
        for entry in entries:
            times = model_input.times(options, entry.fields, now_ms)
            entry.priority, entry.due_ms, entry.expires_ms = times
        self.file.make_room(self.stored, self._unknown(entries))
        return [self._append_one(entry) for entry in entries]

    def _unknown(self, entries: list[Entry]) -> list[Entry]:
        """Leave out what is a duplicate, also of one before it in the batch."""
        new: dict[object, Entry] = {}
        for place, entry in enumerate(entries):
            dedup_id = entry.fields.get("dedup_id")
            _, until_ms = self.stored.sent.get(dedup_id, ("", 0))
            if until_ms > self.file.clock.wall_ms:
                continue
            once = dedup_id if self.stored.options.dedup_window else None
            new.setdefault(place if once is None else once, entry)
        return list(new.values())

    def _append_one(self, entry: Entry) -> Sent:
        """Store a message, unless its dedup id is known."""
        dedup_id, now_ms = entry.fields.get("dedup_id"), self.file.clock.wall_ms
        if dedup_id is None:
            self.file.append(self.stored, entry)
            return Sent(entry.id)
        first, until_ms = self.stored.sent.get(dedup_id, ("", 0))
        if until_ms > now_ms:
            self.stored.counts["duplicates"] += 1
            return Sent(first, duplicate=True)
        self.file.append(self.stored, entry)
        window_ms = duration_ms(self.stored.options.dedup_window, "")
        self.stored.sent[dedup_id] = entry.id, now_ms + window_ms
        return Sent(entry.id)

    def send_nowait(self, data: object, **fields: Any) -> model_input.Ticket:
        return model_input.Ticket(self.send(data, **fields))

    def _choose(self, *, more: bool) -> Entry | None:
        """Pick the message that goes next; with `more` as a later one of a batch."""
        ready = [
            e for e in self.file.firsts(self.stored) if self.file.state(e) == READY
        ]
        if more or self.broker.holds_suspect():  # if it kills, it shall kill alone
            ready = [entry for entry in ready if not entry.suspect]
        if more:
            ready = self.file.before_last_tries(self.stored, ready)
        top = max((entry.priority for entry in ready), default=0)
        ready = [entry for entry in ready if entry.priority == top]
        new = [entry for entry in ready if entry.due_ms is None]
        again = [entry for entry in ready if entry.due_ms is not None]
        starved = self.broker.retries_in_a_row[self.turns] >= RETRIES_IN_A_ROW
        if again and not (new and starved):
            return min(again, key=lambda entry: (entry.due_ms, entry.row))
        return new[0] if new else None

    def _claim(self, limit: int, *, auto_ack: bool) -> list[Entry]:
        """Lease up to `limit`; what goes alone only alone, as the first choice."""
        self.check()
        self.file.notice()
        if self.is_paused():
            return []
        options = self.stored.options
        if options.dead_letter and options.max_receives == 1:
            limit = 1  # a crash must not bury the neighbours
        if options.ordered == "queue":
            limit = 1  # one after another
        if options.ordered == "key":
            return self._claim_keyed(limit, auto_ack=auto_ack)
        taken: list[Entry] = []
        while len(taken) < limit and (entry := self._choose(more=bool(taken))):
            if taken and taken[-1].priority > entry.priority:
                self._count_retries(taken)
            in_a_row, turns = self.broker.retries_in_a_row, self.turns
            in_a_row[turns] = 0 if entry.due_ms is None else in_a_row[turns] + 1
            alone = self.file.goes_alone(self.stored, entry)
            self._lease(entry, auto_ack=auto_ack)
            taken.append(entry)
            if entry.suspect:
                self.broker.suspect = entry, entry.receipt
            if alone:
                break
        self._count_retries(taken)
        return taken

    def _claim_keyed(self, limit: int, *, auto_ack: bool) -> list[Entry]:
        """Take the first ones of several keys; which keys, is open."""
        found: list[Entry] = []
        for entry in self.free_ones():
            alone = self.file.goes_alone(self.stored, entry)
            if len(found) == limit or (alone and found):
                break
            found.append(entry)
            if alone:
                break
        return self.claim_these(found, auto_ack=auto_ack)

    def free_ones(self) -> list[Entry]:
        """List what a claim may take from a queue that is ordered by key."""
        if self.is_paused():
            return []
        free = [e for e in self.file.firsts(self.stored) if self.file.state(e) == READY]
        if self.broker.holds_suspect():
            free = [entry for entry in free if not entry.suspect]
        return free

    def claim_these(self, entries: list[Entry], *, auto_ack: bool) -> list[Entry]:
        """Lease what was chosen: what goes alone alone, and only what is free."""
        alone = [e for e in entries if self.file.goes_alone(self.stored, e)]
        assert len(entries) == 1 or not alone
        assert entries or not self.free_ones(), (
            "nothing was taken, and something is free"
        )
        for entry in entries:
            assert entry in self.free_ones(), "it is not the next of its key"
            self._lease(entry, auto_ack=auto_ack)
            if entry.suspect:
                self.broker.suspect = entry, entry.receipt
        return entries

    def _count_retries(self, taken: list[Entry]) -> None:
        """Of the last priority, hand out what is new after what is not (stable)."""
        taken.sort(key=lambda entry: (-entry.priority, entry.due_ms is None))
        if taken and taken[-1].due_ms is None:
            self.broker.retries_in_a_row[self.turns] = 0  # the last one is new

    def _lease(self, entry: Entry, *, auto_ack: bool) -> None:
        """Count the delivery and write the lease, before a handler can see it."""
        counts = self.stored.counts
        entry.receive_count += 1
        entry.first_at_ms = entry.first_at_ms or self.file.clock.wall_ms
        counts["delivered"] += 1
        counts["redelivered"] += entry.receive_count > 1
        entry.receipt = entry.row.to_bytes(8) + os.urandom(16)
        if auto_ack:
            del self.stored.entries[entry.row]
            entry.deadline_ms = 0  # nobody holds it
            counts["acked"] += 1
            return
        entry.owner = self.broker
        held_ms = duration_ms(self.stored.options.visibility_timeout, "")
        entry.deadline_ms = self.file.clock.boot_ms + held_ms

    def _give_back(self, entry: Entry) -> None:
        """Return what was claimed ahead and never handed out: as if not claimed."""
        self.stored.counts["delivered"] -= 1
        self.stored.counts["redelivered"] -= entry.receive_count > 1
        entry.receive_count, entry.receipt = entry.receive_count - 1, None
        self.file.wait(entry, due_ms=0)  # before all others

    def receive(self, wait: Any = 0.0, *, auto_ack: bool = False) -> Any:
        """Claim exactly one. The model does not wait: its clock moves by hand."""
        return next(iter(self.receive_many(1, wait, auto_ack=auto_ack)), None)

    def receive_many(self, n: int, wait: Any = 0.0, *, auto_ack: bool = False) -> Any:
        self.check()
        model_input.at_least_one(n, "n")
        duration_ms(wait or 0, "wait")
        return [ModelMessage(self, e) for e in self._claim(n, auto_ack=auto_ack)]

    def receive_these(self, ids: list[str], *, auto_ack: bool) -> list[Any]:
        """Claim what somebody else chose from a queue that is ordered by key."""
        self.check()
        self.file.notice()
        entries = {entry.id: entry for entry in self.stored.entries.values()}
        chosen = self.claim_these([entries[key] for key in ids], auto_ack=auto_ack)
        return [ModelMessage(self, entry) for entry in chosen]

    def messages(
        self, prefetch: Any = None, wait: Any = None, *, auto_ack: bool = False
    ) -> Iterator[ModelMessage]:
        """Claim ahead, hand out one by one, and at the end give back the rest."""
        batch: list[ModelMessage] = []
        try:
            while batch := self.receive_many(prefetch or 1, wait, auto_ack=auto_ack):
                while batch:
                    message = batch.pop(0)
                    entry = self._current(message)
                    if auto_ack or (entry and not self.file.is_over(entry)):
                        yield message
        finally:
            for message in batch:
                if entry := self._current(message):
                    self._give_back(entry)

    def ack_many(self, messages: Iterable[ModelMessage]) -> int:
        """Ack what is still held; how many. None of some: `LeaseLost`."""
        messages = list(messages)
        for looked in messages:
            if isinstance(looked, model_look.Looked):
                looked._held()
        held = [message for message in messages if self._current(message)]
        for message in held:
            message.ack()
        if messages and not held:
            raise errors.LeaseLost("none of them is held")
        return len(held)

    def _current(self, message: ModelMessage) -> Entry | None:
        """Find the message, unless settled or claimed again; an end leaves it (SQS)."""
        entry = self.stored.entries.get(int.from_bytes(message.receipt[:8]))
        return entry if entry and entry.receipt == message.receipt else None

    def configure(self, **options: Any) -> None:
        """Change options; not the codec, and not the order."""
        self.check()
        model_input.changeable(options)
        wanted = dataclasses.replace(self.stored.options, **options)
        wanted.check(self.name)
        self.stored.options = wanted

    def pause(self, until: Any = None) -> None:
        """Hand out nothing until then."""
        self.check()
        last_ms = model_input.LAST_MS
        until_ms = model_input.point_ms(until, "until") if until else last_ms
        self.stored.paused_until_ms = until_ms

    def is_paused(self) -> bool:
        """Tell whether nothing is handed out now."""
        return self.file.clock.wall_ms < self.stored.paused_until_ms

    def resume(self) -> None:
        """Hand out again."""
        self.check()
        self.stored.paused_until_ms = 0

    def purge(self) -> int:
        """Remove what nobody holds."""
        self.check()
        free = [entry for entry in self.stored.entries.values() if not entry.owner]
        for entry in free:
            del self.stored.entries[entry.row]
        self.stored.counts["dropped"] += len(free)
        return len(free)

    def redrive(
        self, to: Any = None, where: Any = None, rate: Any = None
    ) -> model_redrive.ModelRedrive:
        """Move messages back to where they died."""
        self.broker.check_open()
        model_redrive.check(self.file, self.name, to, where, rate)
        return model_redrive.redrive(self.file, self.stored, to, where)

    def cancel(self, id: str) -> bool:  # noqa: A002
        """Remove one that nobody holds."""
        self.check()
        if not isinstance(id, str):
            raise errors.InvalidArgument("id: not a str")
        found = [entry for entry in self.stored.entries.values() if entry.id == id]
        if not found:
            raise errors.NotFound("no such message")
        if found[0].owner:
            return False
        del self.stored.entries[found[0].row]
        self.stored.counts["dropped"] += 1
        return True

    def depth(self) -> int:
        self.check()
        return len(self.stored.entries)

    def stats(self) -> dict[str, int]:
        self.check()
        return self.file.stats(self.name)
