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
PLACES = {
    NONE: "never stored",
    QUEUE: "ready, or in flight",
    LATE: "waits for its time",
    DEAD: "a dead letter",
    GONE: "acked",
}
# How the names of one open step hang together: they happened all or none; a prefix of
# them; each for itself.
WHOLE, PREFIX, EACH = "whole", "prefix", "each"
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
    error: str | None = None
    left: list[str] = field(default_factory=list)  # may have happened or not
    confirmed: int = 0


def after(verb: str, state: State) -> State:
    """Say where a message is after a step with it."""
    place, count = state
    after_it = {
        "send": (QUEUE, 0),
        "claim": (QUEUE, count + 1),
        "take": (GONE, count + 1),
        "ack": (GONE, count),
        "nack": (QUEUE, count),
        "nack later": (LATE, count),
        "bury": (DEAD, count),  # a nack after the last delivery
        "reject": (DEAD, count),
        "extend": (place, count),
    }
    return after_it[verb]


class Account:
    """The side of the judge: where everything must be."""

    def __init__(self, path: Path) -> None:
        self.steps: dict[str, Step] = {}
        self.states: dict[str, State] = {}  # of what is certain
        self.ids: dict[str, str] = {}
        self.queues: dict[str, bool] = {}  # declared: whether this is confirmed
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            word, number, *rest = json.loads(line)
            getattr(self, f"_{word}")(number, *rest)

    def _begin(self, number: str, verb: str, names: list[str], unit: str) -> None:
        self.steps[number] = Step(verb, names, unit, left=list(names))
        if verb == "declare":
            self.queues |= {name: self.queues.get(name, False) for name in names}

    def _end(
        self, number: str, names: list[str] | None, ids: list[str] | None = None
    ) -> None:
        step = self.steps[number]
        names = list(step.left) if names is None else names
        self.ids |= zip(names, ids or [], strict=False)
        for name in names:
            step.left.remove(name)
            step.confirmed += 1
            if step.verb == "declare":
                self.queues[name] = True
            elif step.verb != "open":
                state = self.states.get(name, (NONE, 0))
                self.states[name] = after(step.verb, state)

    def _void(self, number: str) -> None:
        self.steps[number].left.clear()

    def _failed(self, number: str, error: str) -> None:
        step = self.steps[number]
        step.error = error
        if error != UNKNOWN:
            step.left.clear()

    def open_steps(self) -> list[Step]:
        """Give the steps that may have happened."""
        return [s for s in self.steps.values() if s.left and s.verb != "declare"]

    def names(self) -> set[str]:
        """Give all messages that there may be."""
        return {n for step in self.open_steps() for n in step.left} | set(self.states)

    def possible(self, name: str) -> dict[State, list[Step]]:
        """Give the states that a message may be in, each with the open steps to it."""
        states: dict[State, list[Step]] = {self.states.get(name, (NONE, 0)): []}
        for step in self.open_steps():
            if name in step.left:
                for state, way in list(states.items()):
                    states.setdefault(after(step.verb, state), [*way, step])
        return states

    def bounds(self, *verbs: str) -> tuple[int, int]:
        """Count the messages that such a step is confirmed for, and those it may be."""
        steps = [step for step in self.steps.values() if step.verb in verbs]
        sure = sum(step.confirmed for step in steps)
        return sure, sure + sum(len(step.left) for step in steps)
