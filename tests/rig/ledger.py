"""What a process means to do and what it knows is done, written where no kill loses it.

Before each step a process writes a line, and one after it, each by one write() to a
file. Read afterwards, the lines say for every message where it must be: one step may
stand open, as the process died in it, and then there are two places.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

State = tuple[str, int]  # place: see PLACES; how often it was handed out
NONE, QUEUE, LATE, DEAD, GONE = "none", "queue", "late", "dead", "gone"
PERISHED, DROPPED = "perished", "dropped"
PLACES = {
    NONE: "never stored",
    QUEUE: "ready, in flight, or behind another of its key",
    LATE: "waits for its time",
    DEAD: "a dead letter, after a nack or a reject, or as its queue was full",
    PERISHED: "a dead letter, as its ttl was over",
    DROPPED: "removed: its ttl was over, its queue full or purged, or it was cancelled",
    GONE: "acked",
}
# How the names of one open step hang together: they happened all or none; a prefix of
# them; each for itself. Steps with any other word happened all or none together.
WHOLE, PREFIX, EACH = "whole", "prefix", "each"
ONCE, SET = "once", "set"  # a send under a dedup id; a setting, named WHAT=VALUE
UNKNOWN = "CommitUncertain"  # the one error that leaves it open what happened


class Ledger:
    """The side of the process."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.numbers = itertools.count()

    def write(self, *entry: object) -> None:
        """Write one line; it is there whatever happens to this process."""
        os.write(self.file, f"{json.dumps(entry)}\n".encode())

    def begin(self, verb: str, names: list[str], unit: str = WHOLE) -> str:
        """Say what comes next; return the number of this step."""
        number = f"{os.getpid()}.{next(self.numbers)}"
        self.write("begin", number, verb, names, unit)
        return number

    def end(
        self, number: str, names: list[str] | None = None, ids: list[str] | None = None
    ) -> None:
        """Say that it is confirmed: all, or these names of it."""
        self.write("end", number, names, ids)

    def void(self, number: str) -> None:
        """Say that what is left of it did not happen, and is confirmed not to have."""
        self.write("void", number)

    def failed(self, number: str, error: Exception) -> None:
        """Say that the call raised."""
        self.write("failed", number, type(error).__name__)

    @contextmanager
    def step(
        self, verb: str, names: list[str], unit: str = WHOLE
    ) -> Iterator[list[str]]:
        """Do one step; the ids of what was sent go into the list that this gives."""
        ids: list[str] = []
        number = self.begin(verb, names, unit)
        yield ids
        self.end(number, ids=ids)


@dataclass
class Step:
    """A step of the ledger, read again."""

    verb: str
    names: list[str]
    unit: str
    left: list[str]  # may have happened or not
    confirmed: int = 0
    before: set[int] = field(default_factory=set)  # of a setting


def after(verb: str, state: State) -> State | None:
    """Say where a message is after a step with it; None: there it cannot happen."""
    place, count = state
    if verb == ONCE:  # under a dedup id: of what was stored before nothing changes
        return (QUEUE, 0) if place == NONE else state
    after_it = {
        (NONE, "send"): (QUEUE, 0),
        (NONE, "send late"): (LATE, 0),
        (QUEUE, "claim"): (QUEUE, count + 1),
        (LATE, "claim"): (QUEUE, count + 1),  # its time has come
        (QUEUE, "take"): (GONE, count + 1),
        (LATE, "take"): (GONE, count + 1),
        (QUEUE, "ack"): (GONE, count),
        (QUEUE, "nack"): (QUEUE, count),
        (QUEUE, "nack later"): (LATE, count),
        (QUEUE, "bury"): (DEAD, count),  # a nack after the last delivery
        (QUEUE, "reject"): (DEAD, count),
        (QUEUE, "make way"): (DEAD, count),  # for what is sent to a full queue
        (QUEUE, "extend"): (QUEUE, count),
        (QUEUE, "perish"): (PERISHED, count),  # by a claim that finds its ttl over
        (LATE, "perish"): (PERISHED, count),
        (QUEUE, "drop"): (DROPPED, count),  # as it perished, or by a purge or cancel
        (LATE, "drop"): (DROPPED, count),
        (QUEUE, "mortal"): (PERISHED, count),  # by any claim from now on
    }
    return after_it.get((place, verb))


def setting_of(step: Step) -> tuple[str, int]:
    """Give the column of embq_channel that a step sets, and its value."""
    what, _, value = step.names[0].partition("=")
    return what, int(value)


def queue_of(name: str) -> str:
    """Say in which queue a message is: "k:a1" in k, and a1 in q."""
    return name.partition(":")[0] if ":" in name else "q"


Way = tuple[State, list[Step]]  # a state, and the open steps that led to it


class Account:
    """The side of the judge: where everything must be."""

    def __init__(self, path: Path) -> None:
        self.steps: dict[str, Step] = {}
        self.ways: dict[str, list[Way]] = {}
        self.ids: dict[str, str] = {}
        self.queues: dict[str, bool] = {}  # declared: whether this is confirmed
        self.settings: dict[str, set[int]] = {}  # the values that each may have
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            word, number, *rest = json.loads(line)
            getattr(self, f"_{word}")(number, *rest)

    def _begin(self, number: str, verb: str, names: list[str], unit: str) -> None:
        """From here on there are two ways: it happens, or not."""
        step = self.steps[number] = Step(verb, names, unit, list(names))
        if verb == "declare":
            self.queues |= {name: self.queues.get(name, False) for name in names}
            return
        if verb == SET:
            what, value = setting_of(step)
            none: set[int] = {0} if what.startswith("result:") else set()
            step.before = self.settings.get(what, none)
            self.settings[what] = {*step.before, value}
            return
        for name in names:
            ways = self.ways.setdefault(name, [((NONE, 0), [])])
            for state, steps in list(ways):
                then = after(verb, state)
                if then is not None:
                    ways.append((then, [*steps, step]))

    def _decide(self, step: Step, names: list[str], *, happened: bool) -> None:
        for name in names:
            step.left.remove(name)
            if step.verb == "declare":
                self.queues[name] |= happened
                continue
            if step.verb == SET:
                what, value = setting_of(step)
                self.settings[what] = {value} if happened else step.before
                continue
            ways = self.ways[name]
            self.ways[name] = [
                (state, [one for one in steps if one is not step])
                for state, steps in ways
                if any(one is step for one in steps) == happened
            ]
            assert self.ways[name], f"{step.verb} of {name}, which is {ways}"

    def _end(
        self, number: str, names: list[str] | None, ids: list[str] | None = None
    ) -> None:
        step = self.steps[number]
        names = list(step.left) if names is None else names
        self.ids |= zip(names, ids or [], strict=False)
        self._decide(step, names, happened=True)
        step.confirmed += len(names)

    def _void(self, number: str) -> None:
        step = self.steps[number]
        self._decide(step, list(step.left), happened=False)

    def _failed(self, number: str, error: str) -> None:
        if error != UNKNOWN:
            self._void(number)

    def open_steps(self, name: str) -> list[Step]:
        """Give the steps that may have happened to a message."""
        return [step for step in self.steps.values() if name in step.left]

    def names_of(self, verb: str) -> list[str]:
        """Give the messages with such a step."""
        steps = [step for step in self.steps.values() if step.verb == verb]
        return list(dict.fromkeys(name for step in steps for name in step.names))

    def bounds(self, queue: str, *verbs: str) -> tuple[int, int]:
        """Count the messages that such a step is confirmed for, and those it may be."""
        steps = [
            step
            for step in self.steps.values()
            if step.verb in verbs and queue_of(step.names[0]) == queue
        ]
        sure = sum(step.confirmed for step in steps)
        return sure, sure + sum(len(step.left) for step in steps)
