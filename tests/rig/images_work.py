"""What is recorded: short runs that say to the record what the outside world knows.

Words, as JSON lists, each said before or after the call that it is about:

    queue NAME                        is declared
    send TICKET MODE QUEUE KEYS       begins; sent TICKET IDS: it has returned
    claim QUEUE COUNT                 so many may be taken from now on (auto_ack)
    taken MODE QUEUE KEY ID           handed over, removed before
    got QUEUE KEY ID RECEIPT          handed over, held
    ack|nack|reject KEY               begins; done VERB KEY: it has returned
    mortal KEYS                       any claim may let them perish from now on
    app N                             an insert of the application's begins; apped N

Those of dedup ids are in images_again.py, those of upkeep in images_asked.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

from interpose import DELAY, FOREVER, Rig

import embq

SIZES = (20, 20, 100, 100, 300, 1000, 5000)
SIZE_OF = {"B": 40_000, "P": 20}  # by the first letter of a key
PATIENCE_S = 20.0
SOON_S, FAR_S = 0.005, 10_000.0


def payload(key: str) -> dict[str, str]:
    """Make the data of a message: what is in it follows from its key.

    No page of it is that of another message: a frame whose bytes were not written would
    else be whole if such a page stood there before the -wal started over.
    """
    crc = zlib.crc32(key.encode())
    size = SIZE_OF.get(key[0], SIZES[crc % len(SIZES)])
    unit = hashlib.sha256(key.encode()).hexdigest()
    return {"k": key, "p": (unit * (size // len(unit) + 1))[:size]}


class Run:
    """The controls of one recorded run, shared by its threads."""

    def __init__(self, rig: Rig, path: Path, log: Path, rng: Random) -> None:
        self.rig, self.path, self.log, self.rng = rig, path, log, rng
        self.before: list[list[Any]] | None = []  # said before the record begins
        self._brokers: dict[str, embq.Broker] = {}
        self._lock = threading.Lock()

    def say(self, *words: Any) -> None:
        """Put words into the record."""
        if self.before is None:
            self.rig.mark(json.dumps(words).encode())
        else:
            self.before.append(json.loads(json.dumps(words)))

    def broker(self, mode: str) -> embq.Broker:
        """Open the file, once for each durability."""
        with self._lock:
            if mode not in self._brokers:
                self._brokers[mode] = embq.open(self.path, durability=mode)
            return self._brokers[mode]

    def close(self) -> None:
        """Close what is open."""
        while self._brokers:
            self._brokers.popitem()[1].close()

    def queue(self, mode: str, name: str, **options: Any) -> embq.Queue:
        """Declare a queue."""
        queue = self.broker(mode).queue(name, **options)
        self.say("queue", name)
        return queue

    # ---- verbs, with their words ----

    def mode(self, queue: embq.Queue) -> str:
        """Tell at which durability the queue was opened."""
        with self._lock:
            pairs = list(self._brokers.items())
        return next(mode for mode, broker in pairs if broker is queue._broker)

    def send(self, queue: embq.Queue, *keys: str) -> None:
        """Send one, or several as a batch."""
        self.say("send", keys[0], self.mode(queue), queue.name, keys)
        if len(keys) == 1:
            sent = [queue.send(payload(keys[0]))]
        else:
            sent = queue.send_many([payload(key) for key in keys])
        self.say("sent", keys[0], [one.id for one in sent])

    def place(self, queue: embq.Queue, **placed: dict[str, Any]) -> list[embq.Sent]:
        """Send by key what has more fields than data: one, or several as a batch."""
        keys = list(placed)
        mortal = [key for key in keys if placed[key].get("ttl", FAR_S) < FAR_S]
        self.say("mortal", mortal)
        self.say("send", keys[0], self.mode(queue), queue.name, keys)
        outgoing = [embq.Outgoing(payload(key), **placed[key]) for key in keys]
        sent = queue.send_many(outgoing)
        self.say("sent", keys[0], [one.id for one in sent])
        return sent

    def stage(self, queue: embq.Queue, *keys: str) -> None:
        """Send without waiting, then wait for each."""
        tickets = []
        for key in keys:
            self.say("send", key, self.mode(queue), queue.name, [key])
            tickets.append(queue.send_nowait(payload(key)))
        for key, ticket in zip(keys, tickets, strict=True):
            self.say("sent", key, [ticket.result(PATIENCE_S).id])

    def handle(self, message: embq.Message, verb: str | None = None) -> None:
        """Settle a message by a verb, else by one that follows from its key."""
        key = message.data["k"]
        receipt = message._receipt.hex()
        self.say("got", message.queue, key, message.id, receipt)
        verbs = ["ack", "ack", "ack", "nack", "reject"]
        verb = verb or verbs[zlib.crc32(key.encode()) // 7 % len(verbs)]
        self.say(verb, key)
        if verb == "ack":
            message.ack()
        elif verb == "nack":
            message.nack(delay=0, error="of no use")
        else:
            message.reject("hopeless")
        self.say("done", verb, key)

    def take(self, queue: embq.Queue, block: int) -> int:
        """Take a block at most once; how many there were."""
        self.say("claim", queue.name, block)
        messages = queue.receive_many(block, auto_ack=True)
        self._taken(queue, messages)
        return len(messages)

    def take_all(self, queue: embq.Queue, block: int) -> None:
        """Take block after block, until nothing is left."""
        self.say("claim", queue.name, block)
        self._taken(queue, queue.messages(prefetch=block, wait=0, auto_ack=True))

    def _taken(self, queue: embq.Queue, messages: Iterable[embq.Message]) -> None:
        for message in messages:
            key = message.data["k"]
            self.say("taken", self.mode(queue), queue.name, key, message.id)
        self.say("claim", queue.name, 0)

    # ---- threads and processes ----

    def together(self, *works: Callable[[], None]) -> None:
        """Run these in threads; the first failure is raised."""
        failures: list[BaseException] = []

        def guarded(work: Callable[[], None]) -> None:
            try:
                work()
            except BaseException as failure:  # noqa: BLE001  (raised below)
                failures.append(failure)

        threads = [threading.Thread(target=guarded, args=[work]) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a thread of the run hangs"
        if failures:
            raise failures[0]

    def apart(self, *works: Callable[[], None]) -> None:
        """Run these in processes of their own."""
        children = []
        for work in works:
            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException):
                    self.rig.record(self.log)
                    work()
                    os._exit(0)
                os._exit(1)
            children.append(child)
        ends = [os.waitpid(child, 0)[1] for child in children]
        assert ends == [0] * len(works), f"processes of the run ended with {ends}"


# ---- parts of runs ----


def sending(run: Run, mode: str, name: str, count: int, to: str = "q") -> None:
    """Send one by one, with a batch now and then."""
    queue = run.queue(mode, to)
    for i in range(count):
        if i % 6 == 5:
            run.send(queue, *(f"{name}{i}.{n}" for n in range(3)))
        else:
            run.send(queue, f"{name}{i}")


def staging(run: Run, mode: str, name: str, count: int) -> None:
    """Send in staged groups."""
    queue = run.queue(mode, "q")
    for i in range(count):
        run.stage(queue, *(f"{name}{i}.{n}" for n in range(4)))


def placing(run: Run, mode: str, name: str, count: int) -> None:
    """Send with priorities, delays and ttl, alone and in batches with plain ones."""
    queue = run.queue(mode, "q")
    kinds: list[dict[str, Any]] = [
        {"priority": 9},
        {"delay": SOON_S},
        {},
        {"ttl": SOON_S, "priority": 1},
        {"delay": FAR_S, "priority": 7},
        {"ttl": FAR_S},
        {"delay": SOON_S, "ttl": FAR_S},
    ]
    for i in range(count):
        some = run.rng.sample(kinds, 1 if i % 3 else 5)
        run.place(queue, **{f"{name}{i}.{n}": kind for n, kind in enumerate(some)})
        if i % 5 == 4:
            run.send(queue, *(f"{name}{i}p{n}" for n in range(20)))


def keying(run: Run, mode: str, name: str, count: int) -> None:
    """Send with keys, to a queue that is ordered by them."""
    queue = run.queue(mode, "keyed")
    for i in range(count):
        keys = run.rng.choices("abcd", k=1 if i % 2 else 4)
        placed = {f"{name}{i}.{n}": {"key": key} for n, key in enumerate(keys)}
        run.place(queue, **placed)


def handling(run: Run, mode: str, count: int, of: str = "q") -> None:
    """Receive and settle so many times, or until nothing comes."""
    queue = run.queue(mode, of)
    for i in range(count):
        if i % 4 == 3:
            for message in queue.receive_many(3):
                run.handle(message)
        elif message := queue.receive(wait=0.2):
            run.handle(message)


def taking(run: Run, mode: str, count: int) -> None:
    """Take in blocks, at most once."""
    queue = run.queue(mode, "once")
    for i in range(count):
        run.take(queue, 1 + i % 5)
        run.send(queue, f"again{i}{mode}")
    run.take_all(queue, 4)


def inserting(run: Run, count: int) -> None:
    """Commit rows of the application's own, with SQLite's own fsyncs."""
    connection = sqlite3.connect(run.path, timeout=PATIENCE_S, isolation_level=None)
    connection.execute("pragma wal_autocheckpoint = 0")  # as the README asks
    connection.execute("pragma synchronous = full")
    for n in range(count):
        run.say("app", n)
        connection.execute("insert into app values (?, ?)", (n, "x" * n))
        run.say("apped", n)
        time.sleep(0.002)
    connection.close()


def slow_disk(run: Run) -> None:
    """Let each sync take a moment, so that cuts fall into it."""
    run.rig.arm("fsync", DELAY, last=FOREVER, argument=run.rng.choice([50, 500, 2000]))
