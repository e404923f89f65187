"""Histories: what the processes of a run saw, as events in the order of time.

Each process appends to a file of its own, one line an event: a call's `invoke` and its
`ok`, `fail` (it did not happen) or `unknown` (nobody knows; so it is for a call without
an end, too), and what it was told meanwhile. Times are CLOCK_MONOTONIC, which all
processes of a machine share, and the boot clock of the test, which leases live by.

`History` makes sends, hand-outs and settlements of the events; history_judge.py judges
them.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

INVOKE, OK, FAIL, UNKNOWN, INFO = "invoke", "ok", "fail", "unknown", "info"
SETTLEMENTS = ("ack", "nack", "reject", "extend")
# What takes away a process, or its time, and so the leases that it holds.
LEAVINGS = ("dies", "closes")


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a history."""

    process: str
    at_us: int
    boot_ms: int
    phase: str
    op: str
    call: int  # of the process: joins an invocation and its outcome
    fields: dict[str, Any]

    def line(self) -> bytes:
        """Write it down; the process is the file's name."""
        parts = [self.at_us, self.boot_ms, self.phase, self.op, self.call, self.fields]
        return json.dumps(parts, separators=(",", ":")).encode() + b"\n"


def parse(process: str, text: bytes) -> list[Event]:
    """Read a process's file. A kill may have torn its last line, and no other."""
    whole, _, _torn = text.rpartition(b"\n")
    return [Event(process, *json.loads(line)) for line in whole.split(b"\n") if line]


@dataclass(slots=True)
class Sending:
    """A message, from the view of who sent it."""

    queue: str
    name: str
    invoked_us: int
    outcome: str = UNKNOWN
    id: str | None = None
    #: What else was said with it: priority, delay, ttl, key.
    marks: dict[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> tuple[str, int]:
        """Who sent it, and its number among what that one sent to any queue."""
        producer, _, number = self.name.rpartition("/")
        return producer, int(number)


@dataclass(slots=True)
class Handout:
    """A message, handed out."""

    queue: str
    name: str
    id: str
    count: int  # the receive count that it came with
    process: str
    since_us: int  # it was claimed between this, when it was asked for ...
    at_us: int  # ... and this, when it was seen
    since_boot_ms: int
    boot_ms: int
    auto_ack: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)

    def end_ms(self, lease_ms: int) -> float:
        """Say when its lease may have ended, on the boot clock, if by time."""
        ends = [self.since_boot_ms + lease_ms]
        ends += [s.invoked_boot_ms + s.seconds * 1000 for s in self.tried("extend")]
        return min(ends)

    def tried(self, *verbs: str) -> list[Settlement]:
        """List what was tried on it and may have happened."""
        return [s for s in self.settlements if s.verb in verbs and s.outcome != FAIL]

    def done(self, *verbs: str) -> list[Settlement]:
        """List what was done to it for certain."""
        return [s for s in self.settlements if s.verb in verbs and s.outcome == OK]


@dataclass(slots=True)
class Settlement:
    """A verb on a message that was handed out."""

    verb: str
    invoked_us: int
    invoked_boot_ms: int
    outcome: str = UNKNOWN
    error: str = ""
    seconds: float = 0.0  # of an extend


class History:
    """A run: what was sent, handed out and settled, and who left when."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.sendings: dict[tuple[str, str], Sending] = {}
        self.handouts: dict[tuple[str, str], list[Handout]] = defaultdict(list)
        self.leavings: list[Event] = []
        self.left: dict[str, int] = {}  # by process: when its leases ended for sure
        self.deaths: Counter[str] = Counter()  # by queue: of its readers, unclosed
        self.stalls: list[Event] = []  # stopped for a while
        self.loops_left: dict[str, list[int]] = defaultdict(list)  # early; by queue
        self.stats: dict[str, list[dict[str, int]]] = defaultdict(list)
        self.readers: dict[str, set[str]] = defaultdict(set)  # processes by queue
        self.problems: list[str] = []  # what contradicts itself already here
        self._calls: dict[tuple[str, int], Event] = {}
        self._settlements: dict[tuple[str, int], list[Settlement]] = {}
        for event in sorted(events, key=lambda event: event.at_us):
            self._add(event)
        for found in self.handouts.values():
            found.sort(key=lambda handout: handout.count)
        self._note_leavings()

    def _add(self, event: Event) -> None:
        if event.phase == INVOKE:
            self._calls[event.process, event.call] = event
        if event.op == "send":
            self._add_send(event)
        elif event.op == "handout":
            self._add_handout(event)
        elif event.op in SETTLEMENTS:
            self._add_settlement(event)
        elif event.op in LEAVINGS:
            self.leavings.append(event)
        else:
            self._add_other(event)

    def _add_other(self, event: Event) -> None:
        if event.op == "receive" and event.phase == INVOKE:
            self.readers[event.fields["queue"]].add(event.process)
        elif event.op == "leaves":
            self.loops_left[event.fields["queue"]].append(event.at_us)
        elif event.op == "stops":
            self.stalls.append(event)
        elif event.op == "error":
            self.problems.append(f"error: {event.process}: {event.fields['text']}")
        elif event.op == "stats":
            self.stats[event.fields["queue"]].append(event.fields)

    def _note_leavings(self) -> None:
        """Find when each process left: it closed, or its worker died."""
        died = {e.fields["worker"]: e.at_us for e in self.leavings if e.op == "dies"}
        closed = {e.process: e.at_us for e in self.leavings if e.op == "closes"}
        for queue, readers in self.readers.items():
            for process in readers:
                worker = process.rpartition(".")[0]
                if process in closed:
                    self.left[process] = closed[process]
                elif worker in died:
                    self.left[process] = died[worker]
                    self.deaths[queue] += 1

    def _add_send(self, event: Event) -> None:
        begun = self._calls[event.process, event.call]
        queue, names = begun.fields["queue"], begun.fields["names"]
        for index, name in enumerate(names):
            if event.phase == INVOKE:
                if (queue, name) in self.sendings:
                    self.problems.append(f"the rig sent {name} twice")
                sending = Sending(queue, name, event.at_us)
                if marks := begun.fields.get("marks"):
                    sending.marks = marks[index]
                self.sendings[queue, name] = sending
                continue
            sending = self.sendings[queue, name]
            sending.outcome = event.phase
            if event.phase == OK:
                sending.id = event.fields["ids"][index]

    def _add_handout(self, event: Event) -> None:
        begun = self._calls[event.process, event.call]
        handout = Handout(
            process=event.process,
            since_us=begun.at_us,
            at_us=event.at_us,
            since_boot_ms=begun.boot_ms,
            boot_ms=event.boot_ms,
            queue=begun.fields["queue"],
            auto_ack=begun.fields.get("auto_ack", False),
            **event.fields,
        )
        self.handouts[handout.queue, handout.name].append(handout)

    def _add_settlement(self, event: Event) -> None:
        if event.phase != INVOKE:
            for settlement in self._settlements[event.process, event.call]:
                settlement.outcome = event.phase
                settlement.error = event.fields.get("error", "")
            return
        made = self._settlements[event.process, event.call] = []
        for queue, name, count in event.fields["messages"]:
            # The last one: should it come twice with one count, that is a problem told
            # elsewhere.
            handout = next(
                handout
                for handout in reversed(self.handouts[queue, name])
                if (handout.count, handout.process) == (count, event.process)
            )
            settlement = Settlement(event.op, event.at_us, event.boot_ms)
            settlement.seconds = event.fields.get("seconds", 0.0)
            handout.settlements.append(settlement)
            made.append(settlement)
