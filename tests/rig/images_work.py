"""What is recorded: short runs that say to the record what the outside world knows.

Words, as JSON lists, each said before or after the call that it is about:

    queue NAME                        is declared
    send TICKET MODE QUEUE KEYS       begins; sent TICKET IDS: it has returned
    claim QUEUE COUNT                 so many may be taken from now on (auto_ack)
    taken MODE QUEUE KEY ID           handed over, removed before
    got QUEUE KEY ID RECEIPT          handed over, held
    ack|nack|reject KEY               begins; done VERB KEY: it has returned
    app N                             an insert of the application's begins; apped N
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from interpose import DELAY, FOREVER, Rig

import embq

SIZES = (20, 20, 100, 100, 300, 1000, 5000)
BIG = 40_000
PATIENCE_S = 20.0


def payload(key: str) -> dict[str, str]:
    """Make the data of a message: what is in it follows from its key."""
    crc = zlib.crc32(key.encode())
    size = BIG if key[0] == "B" else SIZES[crc % len(SIZES)]
    return {"k": key, "p": "x" * size}


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


def handling(run: Run, mode: str, count: int) -> None:
    """Receive and settle so many times, or until nothing comes."""
    queue = run.queue(mode, "q")
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


# ---- the runs ----


def base_queues(run: Run) -> None:
    """Queues, some messages, a table of the application's; closed."""
    run.queue("normal", "q", max_receives=2, visibility_timeout=1000)
    once = run.queue("normal", "once", visibility_timeout=1000)
    for i in range(20):
        run.send(once, *(f"old{i}.{n}" for n in range(3)))
    run.close()
    connection = sqlite3.connect(run.path)
    connection.execute("create table app(n integer primary key, text)")
    connection.close()


def base_nothing(run: Run) -> None:
    """No file at all."""


def base_application(run: Run) -> None:
    """Make a file of the application's, with a rollback journal and no queues."""
    connection = sqlite3.connect(run.path)
    connection.execute("create table app(n integer primary key, text)")
    connection.executemany(
        "insert into app values (?, ?)", [(-n, "x" * n) for n in range(1, 50)]
    )
    connection.commit()
    connection.close()


def base_backlog(run: Run) -> None:
    """So many messages that their pages are worth giving back."""
    base_queues(run)
    queue = run.queue("normal", "q")
    for i in range(22):
        run.send(queue, *(f"B{i}.{n}" for n in range(10)))
    run.close()


def full(run: Run) -> None:
    """One sender at full."""
    sending(run, "full", "f", 36)
    staging(run, "full", "s", 5)


def normal(run: Run) -> None:
    """One sender at normal, and one message at full in the middle."""
    sending(run, "normal", "n", 60)
    run.send(run.queue("full", "q"), "f")
    sending(run, "normal", "m", 60)


def lulls(run: Run) -> None:
    """Between bursts the keeper checkpoints, and the -wal starts over."""
    for burst in range(4):
        sending(run, "normal", f"n{burst}-", 30)
        handling(run, "normal", 6)
        sending(run, "full", f"f{burst}-", 2)
        time.sleep(0.3)


def threads(run: Run) -> None:
    """Senders of both kinds, consumers of both kinds, and the application."""
    run.rig.stir(run.rng.randrange(1 << 30), one_in=60, most_us=300)
    run.together(
        *(lambda n=n: sending(run, "full", f"f{n}-", 14) for n in range(3)),
        *(lambda n=n: sending(run, "normal", f"n{n}-", 30) for n in range(4)),
        lambda: staging(run, "full", "s", 5),
        lambda: handling(run, "normal", 70),
        lambda: taking(run, "full", 24),
        lambda: inserting(run, 20),
    )
    run.rig.stir(0, one_in=0)


def processes(run: Run) -> None:
    """Two processes of senders and consumers, which also open and close."""

    def one() -> None:
        run.together(
            lambda: sending(run, "full", "f-", 20),
            lambda: sending(run, "normal", "n-", 40),
        )
        run.close()

    def other() -> None:
        for part in range(3):
            run.together(
                lambda part=part: sending(run, "full", f"g{part}-", 6),
                lambda: handling(run, "normal", 12),
            )
            run.close()

    run.apart(one, other)


def creation(run: Run) -> None:
    """A new file: opened, used, closed, and used again."""
    for part in range(2):
        run.queue("full", "q", max_receives=2)
        sending(run, "full", f"f{part}-", 4)
        run.close()


def conversion(run: Run) -> None:
    """A file of the application's becomes ours as well."""
    run.queue("full", "q", max_receives=2)
    run.together(
        lambda: sending(run, "full", "f", 5),
        lambda: inserting(run, 5),
    )
    run.close()


def burial(run: Run) -> None:
    """Messages are rejected, or fail too often, and become dead letters."""
    kinds = run.queue("normal", "q"), run.queue("full", "q")
    for i in range(12):
        run.send(kinds[i % 3 > 0], f"d{i}")
    for i in range(24):
        if message := kinds[0].receive():
            run.handle(message, ["nack", "reject", "nack", "ack"][i % 4])
        if i % 8 == 7:
            run.send(kinds[1], f"e{i}")


def once(run: Run) -> None:
    """At most once, on a full broker beside a sender that syncs, and on another."""
    run.together(
        lambda: taking(run, "full", 16),
        lambda: sending(run, "full", "f", 24),
    )
    taking(run, "normal", 3)


def growth(run: Run) -> None:
    """The -wal is filled with zeros, then with messages, and starts over."""
    for i in range(70):  # so many syncs make the engine fill it
        run.send(run.queue("full", "q"), f"f{i}")
    queue = run.queue("normal", "q")
    highest = over = 0
    for i in range(1000):
        run.send(queue, f"B{i}")
        if i % 16 == 15:
            for message in queue.receive_many(24):
                run.handle(message, "ack")
            run.send(run.queue("full", "q"), f"g{i}")
            time.sleep(0.01)
        now = run.broker("normal").stats()["wal_bytes"]
        over += now < highest
        highest = 0 if now < highest else now
        if over and highest > 1 << 20:
            return
    text = "the -wal did not start over"
    raise AssertionError(text)


def closing(run: Run) -> None:
    """Opened, used and closed, again and again: each close unlinks the -wal."""
    for part in range(5):
        mode = ("full", "normal")[part % 2]
        sending(run, mode, f"c{part}-", 5)
        handling(run, mode, 3)
        run.close()


def vacuum(run: Run) -> None:
    """A backlog is drained, and its pages go back to the file system."""
    queue = run.queue("normal", "q")
    looking = sqlite3.connect(run.path, timeout=PATIENCE_S)

    def pages() -> int:
        count: int = looking.execute("pragma page_count").fetchone()[0]
        return count

    before, end = pages(), time.monotonic() + PATIENCE_S
    while run.take(queue, 100):
        pass
    i = 0
    while pages() > before - 3 * 256:
        assert time.monotonic() < end, "nothing was given back"
        run.send(run.queue("full", "q"), f"v{i}")
        time.sleep(0.15)
        i += 1
    looking.close()


def reboot(run: Run) -> None:
    """Under another boot than the one before, at normal."""
    sending(run, "normal", "n", 12)
    taking(run, "normal", 2)


def fresh(run: Run) -> None:
    """A queue is declared, and used at normal."""
    sending(run, "normal", "n", 6)
    sending(run, "normal", "p", 12, to="fresh")


@dataclass(frozen=True)
class Workload:
    """A run, what it starts from, and how many of a hundred images are its."""

    run: Callable[[Run], None]
    base: Callable[[Run], None] = base_queues
    share: int = 9
    reboots: bool = False


WORKLOADS = {
    "full": Workload(full),
    "normal": Workload(normal),
    "lulls": Workload(lulls, share=10),
    "threads": Workload(threads, share=12),
    "processes": Workload(processes, share=12),
    "creation": Workload(creation, base_nothing),
    "conversion": Workload(conversion, base_application, share=8),
    "burial": Workload(burial, share=8),
    "once": Workload(once, share=8),
    "growth": Workload(growth, share=5),
    "closing": Workload(closing),
    "vacuum": Workload(vacuum, base_backlog, share=3),
    "reboot": Workload(reboot, share=2, reboots=True),
    "fresh": Workload(fresh, share=2),
}


def slow_disk(run: Run) -> None:
    """Let each sync take a moment, so that cuts fall into it."""
    run.rig.arm("fsync", DELAY, last=FOREVER, argument=run.rng.choice([50, 500, 2000]))
