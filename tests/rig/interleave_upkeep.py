"""Scenes of queues that are kept up beside their users: see interleave_threads.py.

A purge beside senders and consumers, a cancel beside a claim, a configure beside a
send, and one dedup id that two processes send.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from rig.interleave import (
    PATIENCE_S,
    Aside,
    Together,
    hear,
    open_queue,
    sound,
    stir,
    stored,
)
from rig.invariants import broken

import embq
from embq import errors

HOUR_S = 3600.0
DEDUP_IDS, SENDERS = 60, 2  # ids; threads of each process
STATE = "select state from embq_messages where id = ?"


def whole(path: str) -> None:
    """See that the file is sound, and that its tables agree."""
    sound(Path(path))
    with closing(sqlite3.connect(path, timeout=PATIENCE_S)) as plain:
        assert not broken(plain), broken(plain)


# ---- purge ----


class Users:
    """Threads that send and consume until they are told that it is over.

    Attributes:
        sent: How many messages were sent.
        acked: Which were handled.
    """

    def __init__(self, path: str, rng: Random, name: str) -> None:
        self.broker, self.queue = open_queue(path)
        self.rng, self.name = rng, name
        self.numbers = itertools.count()
        self.sent, self.acked = 0, list[str]()
        self.over = threading.Event()
        self.threads = Together()
        self.threads.add(f"{name} sends", self.until_over, self.send)
        for number in range(2):
            self.threads.add(f"{name} handles {number}", self.until_over, self.handle)
        self.threads.start()

    def until_over(self, verb: Any) -> None:
        """Go on until then."""
        while not self.over.is_set():
            verb()

    def send(self) -> None:
        """Send one or a batch, at once or with a delay."""
        count = self.rng.choice([1, 1, 5])
        names = [f"{self.name}{next(self.numbers)}" for _ in range(count)]
        delay = self.rng.choice([None, None, HOUR_S])
        self.queue.send_many([embq.Outgoing(name, delay=delay) for name in names])
        self.sent += len(names)

    def handle(self) -> None:
        """Receive some; nack one in four, ack the others."""
        for message in self.queue.receive_many(self.rng.choice([1, 4]), wait=0.001):
            if self.rng.random() < 0.25 and not message.data.startswith("mine"):
                message.nack(delay=0)
            else:
                message.ack()  # no purge takes what is held
                self.acked.append(message.data)

    def end(self) -> tuple[int, list[str]]:
        """End them; tell how many were sent and which were handled."""
        self.over.set()
        self.threads.join()
        self.broker.close()
        return self.sent, self.acked


def _use(connection: Connection, path: str, seed: int) -> None:
    users = Users(path, stir(Path(path), seed), "there")
    hear(connection)
    connection.send(users.end())


def purge(path: str, seed: int) -> Counter[str]:
    """Each message is handled, purged or there, once; what is held stays.

    Returns:
        How many of each.
    """
    open_queue(path, visibility_timeout=1000, max_receives=1000)[0].close()
    other = Aside(_use, path, seed + 1)
    rng = stir(Path(path), seed)
    users = Users(path, rng, "here")
    purged = sent = 0
    with closing(sqlite3.connect(path, timeout=PATIENCE_S)) as plain:
        for number in range(12):
            mine = users.queue.send_many([f"mine{number}.{n}" for n in range(30)])
            sent += len(mine)
            purged += users.queue.purge()
            for one in mine:
                state = plain.execute(STATE, (one.id,)).fetchone()
                assert state in (None, ("in_flight",)), f"purged, and {state}"
    other.say("over")
    theirs, ours = other.hear(), users.end()
    other.join()
    acked = theirs[1] + ours[1]
    there = stored(Path(path))
    both = [name for name, count in Counter(acked + there).items() if count > 1]
    assert not both, f"twice: {both}"
    sent += theirs[0] + ours[0]
    ends = {"acked": len(acked), "purged": purged, "there": len(there)}
    assert sum(ends.values()) == sent, f"{sent} were sent, {ends}"
    whole(path)
    return Counter(ends)


# ---- cancel ----


def _handle_all(queue: embq.Queue, over: threading.Event, handled: list[str]) -> None:
    while not over.is_set():
        if message := queue.receive(0.001):
            message.ack()
            handled.append(message.id)


def _handle_aside(connection: Connection, path: str, seed: int) -> None:
    stir(Path(path), seed)
    broker, queue = open_queue(path)
    over, handled, threads = threading.Event(), list[str](), Together()
    threads.add("handler", _handle_all, queue, over, handled)
    threads.start()
    connection.send("ready")
    hear(connection)
    over.set()
    threads.join()
    broker.close()
    connection.send(handled)


def cancel(path: str, seed: int) -> Counter[str]:
    """A message is cancelled or handed out, never both and never neither.

    Returns:
        How often cancel said what.
    """
    open_queue(path, visibility_timeout=1000)[0].close()
    other = Aside(_handle_aside, path, seed + 1)
    rng = stir(Path(path), seed)
    broker, queue = open_queue(path)
    said: dict[str, str] = {}
    over, handled, threads = threading.Event(), list[str](), Together()
    threads.add("handler", _handle_all, queue, over, handled)
    assert other.hear() == "ready"
    threads.start()
    for number in range(40):
        batch = [number] * rng.choice([1, 1, 6])  # the last of which comes later
        *others, last = [one.id for one in queue.send_many(batch)]
        said |= dict.fromkeys(others, "not asked")
        over.wait(rng.choice([0, 0, 0.0002, 0.001]))
        try:
            said[last] = "cancelled" if queue.cancel(last) else "held"
        except errors.NotFound:
            said[last] = "gone"
    over.set()
    threads.join()
    other.say("over")
    handled += other.hear()
    other.join()
    while message := queue.receive():  # what nobody had taken by then
        handled.append(message.id)
    broker.close()
    twice = [one for one, count in Counter(handled).items() if count > 1]
    assert not twice, f"handled twice: {twice}"
    left = {one for one, word in said.items() if word != "cancelled"}
    assert set(handled) == left, f"{set(handled) ^ left}: handled or left, not both"
    whole(path)
    return Counter(said.values())


# ---- configure ----


def _send_and_set(connection: Connection, path: str, seed: int) -> None:
    rng = stir(Path(path), seed)
    broker, queue = open_queue(path)
    over, threads = threading.Event(), Together()

    def configure() -> None:
        while not over.is_set():
            queue.configure(visibility_timeout=rng.randint(10, 1000))

    threads.add("configures", configure)
    threads.start()
    while hear(connection):
        connection.send(queue.send("x").id)
    over.set()
    threads.join()
    connection.send(queue.options.visibility_timeout_ms)
    broker.close()


def configure(path: str, seed: int) -> None:
    """An option holds from the next send on, and takes no other one with it."""
    open_queue(path)[0].close()
    other = Aside(_send_and_set, path, seed + 1)
    rng = stir(Path(path), seed)
    broker, queue = open_queue(path, rng.choice(["full", "normal"]))
    over, threads = threading.Event(), Together()

    def send() -> None:
        while not over.is_set():
            queue.send_many(["y"] * rng.randint(1, 3))

    threads.add("sends", send)
    threads.start()
    with closing(sqlite3.connect(path, timeout=PATIENCE_S)) as plain:
        for _ in range(20):
            delay = rng.choice([0, HOUR_S])
            queue.configure(delay=delay)
            other.say("send")
            for identity in (queue.send("x").id, other.hear()):
                state = plain.execute(STATE, (identity,)).fetchone()
                assert state == ("delayed" if delay else "ready",), (delay, state)
        over.set()
        threads.join()
        other.say("")
        kept = other.hear(), round(delay * 1000)
        other.join()
        text = "select visibility_timeout_ms, delay_ms from embq_channel"
        assert plain.execute(text).fetchone() == kept
    broker.close()
    whole(path)


# ---- one dedup id ----


def _batches(rng: Random, count: int) -> Iterator[list[str]]:
    """Go through all dedup ids in order, alone and in batches."""
    at = 0
    while at < count:
        size = rng.choice([1, 1, 2, 5])
        yield [f"id{n}" for n in range(at, min(at + size, count))]
        at += size


def _send_all(queue: embq.Queue, rng: Random) -> list[tuple[str, str, bool]]:
    """Send each dedup id; tell what each send answered."""
    answers = []
    for batch in _batches(rng, DEDUP_IDS):
        items = [embq.Outgoing(one, dedup_id=one) for one in batch]
        if len(batch) == 1:
            sent = [queue.send(batch[0], dedup_id=batch[0])]
        else:
            sent = queue.send_many(items)
        for name, one in zip(batch, sent, strict=True):
            answers.append((name, str(one.id), one.duplicate))
    return answers


def _send_from_threads(path: str, rng: Random) -> list[tuple[str, str, bool]]:
    broker, queue = open_queue(path, rng.choice(["full", "normal"]))
    threads, answers = Together(), list[tuple[str, str, bool]]()
    for number in range(SENDERS):
        own = Random(rng.random())
        threads.add(
            f"sender {number}", lambda own=own: answers.extend(_send_all(queue, own))
        )
    threads.join()
    broker.close()
    return answers


def _send_aside(connection: Connection, path: str, seed: int) -> None:
    rng = stir(Path(path), seed)
    hear(connection)
    connection.send(_send_from_threads(path, rng))


def once(path: str, seed: int) -> int:
    """Of many sends of one dedup id one is stored, and all are told its id.

    Returns:
        Of how many ids the other process stored the message.
    """
    open_queue(path)[0].close()
    other = Aside(_send_aside, path, seed + 1)
    rng = stir(Path(path), seed)
    other.say("go")
    ours = _send_from_threads(path, rng)
    theirs = other.hear()
    other.join()
    told: dict[str, set[str]] = {}
    for name, identity, _ in ours + theirs:
        told.setdefault(name, set()).add(identity)
    several = {name: ids for name, ids in told.items() if len(ids) > 1}
    assert not several, f"one dedup id, several messages: {several}"
    first = Counter(name for name, _, again in ours + theirs if not again)
    assert first == Counter(list(told)), f"stored other than once: {first}"
    assert sorted(stored(Path(path))) == sorted(told)
    broker, queue = open_queue(path)
    assert queue.stats()["duplicates"] == len(ours + theirs) - DEDUP_IDS
    broker.close()
    whole(path)
    return sum(not again for _, _, again in theirs)
