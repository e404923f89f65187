"""Handlers that fail, and handlers that kill their process, in real processes.

A parent starts each consumer that died again, until the queue is empty: then the
dead-letter queue holds what it should, and nothing else.
"""

from __future__ import annotations

import signal
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

import pytest

import embq

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from conftest import Children

CONSUMERS = 3
INNOCENT, POISONED = 300, (0, 100, 101, 200)  # how many; the places of the poison
KEYS = 20
WAYS = ("receive", "receive_many", "messages")
#: max_receives, ordered, and how it is received.
POISONINGS = [
    *((2, ordered, way) for ordered in (False, "key") for way in WAYS),
    (1, False, "receive_many"),
    (1, False, "messages"),
]
TRIES = 3  # of what always fails
PATIENCE_S = 60.0
AT_ONCE = embq.Backoff(0.01, factor=1, cap=0.01, jitter=False)

# Every line is one write to a file that all append to, so the lines stand in the order
# of what happened.
CONSUME = """
    import os, signal, sys, time, embq

    path, way = sys.argv[1:]
    log = os.open(f"{path}.log", os.O_WRONLY | os.O_APPEND)
    queue = embq.open(path, durability="normal").queue("q")

    def messages():
        if way == "messages":
            yield from queue.messages(wait=None)
        while way == "receive":
            yield queue.receive(wait=None)
        while way == "receive_many":
            yield from queue.receive_many(10, wait=None)

    for message in messages():
        kind, number = message.data
        what = f"{kind} {number} {message.receive_count}\\n"
        os.write(log, f"got {what}".encode())
        if kind == "poison" or (kind == "dies" and message.receive_count == 2):
            time.sleep(0.05)  # in which something may be claimed ahead
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            with message:
                fails = kind == "flaky" and message.receive_count == 1
                if fails or kind in ("fails", "dies"):
                    raise ValueError(f"try {message.receive_count}")
        except ValueError:
            continue
        os.write(log, f"done {what}".encode())
"""


class Line(NamedTuple):
    """What a consumer said of a message: it got it, or is done with it."""

    word: str
    kind: str
    number: int
    receive_count: int


class Crowd:
    """Consumers that are started again when they die.

    Attributes:
        deaths: How many did.
    """

    def __init__(self, children: Children, path: Path, way: str) -> None:
        self.children, self.path, self.way = children, path, way
        self.log = path.with_name(f"{path.name}.log")
        self.log.touch()
        self.living: list[subprocess.Popen[str]] = []
        self.deaths = 0

    def empty(self, queue: embq.Queue[object]) -> None:
        """Let them work until nothing is left, then end them."""
        end = time.monotonic() + PATIENCE_S
        while queue.depth():
            assert time.monotonic() < end, f"{queue.stats()}"
            for child in [c for c in self.living if c.poll() is not None]:
                _, errors = child.communicate()
                assert child.returncode == -signal.SIGKILL, errors
                self.deaths += 1
                self.living.remove(child)
            while len(self.living) < CONSUMERS:
                self.living.append(self.children.start(CONSUME, self.path, self.way))
            time.sleep(0.01)
        for child in self.living:
            child.kill()

    def lines(self) -> list[Line]:
        """Read what they said."""
        said = [line.split() for line in self.log.read_text().splitlines()]
        return [Line(word, kind, int(a), int(b)) for word, kind, a, b in said]


def innocent(number: int, *, keyed: bool, flaky: bool = False) -> embq.Outgoing:
    """Make a message that harms nobody; some fail at first."""
    key = f"k{number % KEYS}" if keyed else None
    kind = "flaky" if flaky and number % 3 == 0 else "innocent"
    return embq.Outgoing([kind, number], key=key)


def judge_innocent(lines: list[Line], *, keyed: bool) -> None:
    """Each was handled, once; of each key in the order of sending."""
    done = Counter(line.number for line in lines if line.word == "done")
    assert done == Counter(range(INNOCENT))
    if not keyed:
        return
    first: dict[int, list[int]] = defaultdict(list)
    for line in lines:
        seen = first[line.number % KEYS]
        if line.kind in ("innocent", "flaky") and line.number not in seen:
            seen.append(line.number)
    assert all(seen == sorted(seen) for seen in first.values())


@pytest.mark.parametrize(("max_receives", "ordered", "way"), POISONINGS)
def test_the_poison_and_only_the_poison(
    path: Path,
    children: Children,
    max_receives: int,
    ordered: bool | str,  # noqa: FBT001
    way: str,
) -> None:
    """CASE 56: what kills its process is buried; all beside it is handled."""
    keyed = bool(ordered)
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue(
            "q", ordered=ordered, max_receives=max_receives, retry=AT_ONCE
        )
        flaky = max_receives > 1
        batch = [innocent(n, keyed=keyed, flaky=flaky) for n in range(INNOCENT)]
        for place in reversed(POISONED):
            key = f"k{place % KEYS}" if keyed else None
            batch.insert(place, embq.Outgoing(["poison", place], key=key))
        queue.send_many(batch)
        crowd = Crowd(children, path, way)
        crowd.empty(queue)
        dead = broker.queue("q.dead").receive_many(INNOCENT)
        buried = sorted(tuple(message.data) for message in dead)
        assert buried == [("poison", place) for place in POISONED]
        for message in dead:
            assert message.history[0]["reason"] == "max_receives"
            assert message.history[0]["receive_count"] == max_receives
    lines = crowd.lines()
    judge_innocent(lines, keyed=keyed)
    drunk = Counter(line.number for line in lines if line.kind == "poison")
    assert set(drunk) == set(POISONED)
    # One that was held when another poison killed is counted, and kills less often.
    assert crowd.deaths == drunk.total() <= max_receives * len(POISONED)
    assert way != "receive" or set(drunk.values()) == {max_receives}


@pytest.mark.parametrize("way", WAYS)
def test_what_always_fails(path: Path, children: Children, way: str) -> None:
    """CASE 55: buried after exactly `max_receives` tries, with the last error."""
    failing = {("fails", place) for place in POISONED}
    if way == "receive":  # else it takes with it what is in its batch
        failing.add(("dies", INNOCENT // 2))
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q", max_receives=TRIES, retry=AT_ONCE)
        batch = [innocent(n, keyed=False) for n in range(INNOCENT)]
        for kind, place in sorted(failing):
            batch.insert(place, embq.Outgoing([kind, place]))
        queue.send_many(batch)
        crowd = Crowd(children, path, way)
        crowd.empty(queue)
        dead = broker.queue("q.dead").receive_many(INNOCENT)
    assert sorted(tuple(message.data) for message in dead) == sorted(failing)
    for message in dead:
        (entry,) = message.history
        assert entry["reason"] == "max_receives"
        assert entry["error"] == f"ValueError: try {TRIES}"
        assert entry["receive_count"] == TRIES
    lines = crowd.lines()
    judge_innocent(lines, keyed=False)
    tries = defaultdict(list)
    for line in lines:
        if line.kind != "innocent":
            tries[line.kind, line.number].append(line.receive_count)
    assert tries == {failed: [*range(1, TRIES + 1)] for failed in failing}
    assert crowd.deaths == (way == "receive")
