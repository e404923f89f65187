"""What the outside world knows at a moment of a recorded run, and what it may expect.

`Outside` listens to the words that images_work.py puts into the record, up to the cut.
`faults` then compares the rows that came up afterwards with the promises (DESIGN 2):

- At full a confirmed message is there, unless its removal had begun; at normal what is
  lost is a suffix of the order of commits. A full confirmation covers all before it.
- Nothing is there twice, nothing that nobody sent; a batch is there whole or not at
  all; each message has its own content and its own id; of a sender all is in order.
- A dead letter is in its queue or in the dead-letter queue, never both or none; one is
  made by a nack, a reject, or a ttl that is over.
- What was handed over at most once by a full broker is gone, and no more than a block
  is gone that was not handed over.
- After a kill, where nothing is lost, a confirmed ack or reject holds as well.
- What was asked for of a queue or of one message, see images_asked.py: at full it is
  done, at normal it is while anything later is there.
- One dedup id is one message, whoever sends it again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from images_asked import IN_LANE, NEVER, Asked, Call, Settings
from images_work import payload


class Row(NamedTuple):
    """A message as embq_messages shows it."""

    queue: str
    row: int
    id: str
    state: str
    data: str


@dataclass
class Sending(Call):
    """One message, as its sender knows it."""

    queue: str
    batch: tuple[str, ...]
    id: str | None = None
    verbs: set[str] = field(default_factory=set)  # begun
    done: set[str] = field(default_factory=set)
    taken: str | None = None  # the durability of the broker that took it
    removals: list[Call] = field(default_factory=list)  # that it does not outlive

    @property
    def may_be_gone(self) -> bool:
        """Whether something had begun that removes it."""
        return bool(self.verbs & {"ack", "cancel", "purge"}) or self.taken is not None


class Outside:
    """All that was said up to here."""

    def __init__(self) -> None:
        self.messages: dict[str, Sending] = {}
        self.inserts: dict[int, Sending] = {}  # the application's
        self.asked = Asked()
        self.known: set[str] = set()  # sent with themselves as dedup id
        self._tries: dict[str, tuple[Call, list[str]]] = {}  # by ticket
        self.mortal: set[str] = set()  # their ttl may be over
        self.queues: list[str] = []
        #: By queue: how many at most are out of the file and not yet handed over.
        self.blocks: dict[str, int] = {}
        self._claimed: dict[str, int] = {}
        self.ids: set[str] = set()
        self.receipts: list[tuple[str, str, str]] = []  # queue, key, receipt
        #: What was confirmed before this moment is certain, and what was before all.
        self.covered = 1
        self.wrong: list[str] = []  # in what was said, whatever is left after a cut

    def hear(self, at: int, words: list[Any]) -> None:
        """Listen to words at this place of the record."""
        match words:
            case ["queue", name]:
                self.queues.append(name)
            case ["mortal", keys]:
                self.mortal.update(keys)
            case ["app", number]:
                self.inserts[number] = Sending("full", at, "app", ())
            case ["apped", number]:
                self._done(at, self.inserts[number])
            case ["cancel" | "cancelled" | "purge" | "purged" | "set" | "was set", *_]:
                done = self.asked.hear(at, words, self.messages)
                if done:
                    self._done(at, done)
            case ["send" | "sent" | "repeat" | "repeated", *_]:
                self._hear_of_sending(at, words)
            case _:
                self._hear_of_receiving(at, words)

    def _hear_of_sending(self, at: int, words: list[Any]) -> None:
        match words:
            case ["send", _, mode, queue, keys]:
                self._begin(Call(mode, at), queue, keys)
            case ["sent", ticket, ids]:
                one = self.messages[ticket]
                self._confirm(at, Call(one.mode, one.begun), one.batch, ids)
            case ["repeat", ticket, mode, queue, keys]:
                call = Call(mode, at)
                self._tries[ticket] = call, keys
                self.known.update(keys)
                self._begin(call, queue, [k for k in keys if k not in self.messages])
            case ["repeated", ticket, ids]:
                self._confirm(at, *self._tries[ticket], ids)

    def _hear_of_receiving(self, at: int, words: list[Any]) -> None:
        match words:
            case ["claim", queue, count]:
                self.blocks[queue] = count
                self._claimed[queue] = at
            case ["taken", mode, queue, key, identity]:
                self.ids.add(identity)
                self.messages[key].taken = mode
                if mode == "full":
                    self.covered = max(self.covered, self._claimed[queue])
            case ["got", queue, key, identity, receipt]:
                self.ids.add(identity)
                self.messages[key].id = identity
                self.receipts.append((queue, key, receipt))
            case ["done", verb, key]:
                self.messages[key].done.add(verb)
            case [("ack" | "nack" | "reject") as verb, key]:
                self.messages[key].verbs.add(verb)
            case _:
                raise ValueError(words)

    def _begin(self, call: Call, queue: str, keys: list[str]) -> None:
        for key in keys:
            one = Sending(call.mode, call.begun, queue, tuple(keys))
            self.messages[key] = one
            if queue in self.asked.purging:
                one.verbs.add("purge")

    def _confirm(
        self, at: int, call: Call, keys: Sequence[str], ids: list[str]
    ) -> None:
        for key, identity in zip(keys, ids, strict=True):
            one = self.messages[key]
            if one.id not in (None, identity):
                self.wrong.append(f"{key} was stored as {one.id} and as {identity}")
            if one.confirmed == NEVER or call.mode == "full":
                one.mode = call.mode  # what an earlier try said is not known, or weaker
            one.confirmed, one.id = min(one.confirmed, at), identity
            self.ids.add(identity)
        self._done(at, call)

    def _done(self, at: int, call: Call) -> None:
        """Note that it is confirmed: at full, so is what was confirmed before it."""
        call.confirmed = at
        if call.mode == "full":
            self.covered = max(self.covered, call.begun)

    # ---- what may be expected ----

    def certain(
        self, rows: list[Row], inserts: set[int], settings: Settings, *, killed: bool
    ) -> int:
        """Tell before which moment all that was confirmed must be there."""
        if killed:
            return NEVER
        there = {json.loads(row.data)["k"] for row in rows}
        present = [one.begun for key, one in self.messages.items() if key in there]
        present += [self.inserts[n].begun for n in inserts & self.inserts.keys()]
        present += self.asked.seen(settings)
        return max([self.covered, *present])

    def faults(
        self, rows: list[Row], inserts: set[int], settings: Settings, *, killed: bool
    ) -> list[str]:
        """Compare with what is there."""
        places: dict[str, list[Row]] = defaultdict(list)
        found = [*self.wrong]
        for row in rows:
            data = json.loads(row.data)
            places[data["k"]].append(row)
            if data["k"] not in self.messages:
                found.append(f"{data['k']} is there, but nobody sent it")
            elif data != payload(data["k"]):
                found.append(f"{data['k']} has another content")
        certain = self.certain(rows, inserts, settings, killed=killed)
        for key, one in self.messages.items():
            found += self._of_one(key, one, places[key], killed=killed)
            if places[key] and any(call.stays(certain) for call in one.removals):
                found.append(f"{key} is there, after it was cancelled or purged")
        there = {key for key in self.messages if places[key]}
        found += self._gone(there, inserts, certain)
        found += self._batches(there)
        found += self._disorder(rows)
        found += self.asked.faults(settings, certain)
        found += self.asked.holes(self.messages, there, certain)
        return found

    def _of_one(
        self, key: str, one: Sending, rows: list[Row], *, killed: bool
    ) -> Iterator[str]:
        if len(rows) > 1:
            places = [row.queue for row in rows]
            yield f"{key} is there {len(rows)} times, in {places}"
        for row in rows:
            dead = row.queue == f"{one.queue}.dead"
            if row.queue != one.queue and not dead:
                yield f"{key} is in {row.queue}, and was sent to {one.queue}"
            if dead and not one.verbs & {"reject", "nack"} and key not in self.mortal:
                yield f"{key} is a dead letter that nobody made"
            if one.id not in (None, row.id):
                yield f"{key} has the id {row.id}, and had {one.id}"
            if one.taken == "full" or (one.taken and killed):
                yield f"{key} is there, after it was removed and handed over"
            if killed and "ack" in one.done:
                yield f"{key} is there after a kill, and its ack was confirmed"
            if killed and "reject" in one.done and not dead:
                yield f"{key} is no dead letter after a kill, and was rejected"

    def _gone(self, there: set[str], inserts: set[int], certain: int) -> Iterator[str]:
        """What is missing that must be there: before the last that is, or covered."""
        excused = dict(self.blocks)  # at most a block that nobody was handed
        for key, one in self.messages.items():
            if key in there or one.may_be_gone or not one.stays(certain):
                continue
            excused[one.queue] = excused.get(one.queue, 0) - 1
            if excused[one.queue] < 0:
                why = one.mode if one.mode == "full" else "normal: a hole"
                yield f"{key} is gone ({why}), confirmed at {one.confirmed}"
        for number, one in self.inserts.items():
            if one.confirmed < NEVER and number not in inserts:
                yield f"the application's row {number} is gone"

    def _batches(self, there: set[str]) -> Iterator[str]:
        for batch in dict.fromkeys(one.batch for one in self.messages.values()):
            stays = [key for key in batch if not self.messages[key].may_be_gone]
            left = [key for key in stays if key in there]
            if left and len(left) < len(stays) and self._undisturbed(batch):
                yield f"of the batch {stays} there is only {left}"

    def _undisturbed(self, batch: tuple[str, ...]) -> bool:
        """Whether nobody took blocks from its queue."""
        return self.messages[batch[0]].queue not in self.blocks

    def _disorder(self, rows: list[Row]) -> Iterator[str]:
        """In a queue the sequences of what is confirmed are in the order of sending."""
        by_queue: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for row in rows:
            key = json.loads(row.data)["k"]
            one = self.messages.get(key)
            if one and row.queue == one.queue:
                by_queue[row.queue].append((row.row & IN_LANE, key))
        for queue, found in by_queue.items():
            latest = 0  # the last begin among those with lower sequences
            for _, key in sorted(found):
                one = self.messages[key]
                latest = max(latest, one.begun)
                if one.confirmed < latest:
                    yield f"{queue}: {key} stands behind one that was sent after it"
