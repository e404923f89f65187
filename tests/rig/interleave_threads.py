"""Scenes of threads whose steps must not be seen apart, each run under many stirs.

A scene gets a path and a seed, in a process of its own (`Stage`). It asserts what must
hold whatever the order of its steps was, and returns what is to be judged over all
runs.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from rig.interleave import (
    PATIENCE_S,
    Aside,
    Together,
    open_queue,
    sound,
    stir,
    stored,
)

import embq
from embq import errors

# ---- commit and confirm ----


def confirm(path: str, seed: int) -> None:
    """What returned is in the file, and what was acked is not."""
    rng = stir(Path(path), seed)
    broker, queue = open_queue(path, rng.choice(["full", "normal"]))
    acked = broker.queue("acked")
    threads = Together()

    def check(plain: sqlite3.Connection, key: str, count: int, what: str) -> None:
        query = "select count(*) from embq_messages where id = ?"
        found = plain.execute(query, (key,)).fetchone()[0]
        assert found == count, f"{what} returned, and the file has {found} of it"

    def work() -> None:
        plain = sqlite3.connect(path, timeout=PATIENCE_S)
        for _ in range(4):
            check(plain, queue.send("x").id, 1, "send")
            check(plain, queue.send_many(["x", "y"])[1].id, 1, "send_many")
            check(plain, queue.send_nowait("x").result(PATIENCE_S).id, 1, "a ticket")
            acked.send_many(["a", "b"])
            message = acked.receive()
            if message:
                message.ack()
                check(plain, message.id, 0, "ack")
            message = acked.receive(auto_ack=True)
            if message:
                check(plain, message.id, 0, "receive(auto_ack=True)")
        plain.close()

    for number in range(4):
        threads.add(f"sender {number}", work)
    threads.join()
    broker.close()


def flush(path: str, seed: int) -> None:
    """What a thread staged before its `flush` is in the file after it."""
    rng = stir(Path(path), seed)
    broker, queue = open_queue(path, rng.choice(["full", "normal"]))
    threads = Together()

    def work(thread: int) -> None:
        plain = sqlite3.connect(path, timeout=PATIENCE_S)
        query = "select count(*) from embq_messages where key = ?"
        for turn in range(1, 6):
            for number in range(5):
                queue.send_nowait(number, key=str(thread))
            broker.flush()
            found = plain.execute(query, (str(thread),)).fetchone()[0]
            assert found == 5 * turn, f"flushed {5 * turn}, in the file {found}"
        plain.close()

    for number in range(4):
        threads.add(f"thread {number}", work, number)
    threads.join()
    broker.close()


# ---- closing and forking beside every verb ----


class Crowd:
    """Threads in every verb of one broker. What is sent to `q` stays there."""

    def __init__(self, path: str, durability: str) -> None:
        self.broker, self.queue = open_queue(path, durability)
        self.work = self.broker.queue("work", visibility_timeout=600)
        self.work.send_many([f"work {number}" for number in range(300)])
        self.confirmed: list[str] = []
        self.acked: list[str] = []
        self.maybe: list[str] = []  # acked, and nobody knows whether it was done
        self.over = threading.Event()
        self.threads = Together()
        self.names = iter(range(10**9))
        for verb in (
            self.send, self.send_many, self.stage, self.stage_alone, self.receive,
            self.receive_many, self.loop, self.once, self.look, self.flush, self.wait,
        ):  # fmt: skip
            self.threads.add(verb.__name__, self.until_closed, verb)

    def until_closed(self, verb: Callable[[], None]) -> None:
        """Go on until the broker is closed, or it is told to be over."""
        try:
            while not self.over.is_set():
                verb()
        except errors.Closed:
            return

    def name(self) -> str:
        """Name a message."""
        return f"m{next(self.names)}"

    def send(self) -> None:
        """Send one."""
        name = self.name()
        self.queue.send(name)
        self.confirmed.append(name)

    def send_many(self) -> None:
        """Send three."""
        names = [self.name() for _ in range(3)]
        self.queue.send_many(names)
        self.confirmed += names

    def stage(self) -> None:
        """Send without waiting, then wait."""
        name = self.name()
        self.queue.send_nowait(name).result(PATIENCE_S)
        self.confirmed.append(name)

    def stage_alone(self) -> None:
        """Send without waiting: what was staged is stored by `close` at the latest."""
        name = self.name()
        self.queue.send_nowait(name)
        self.confirmed.append(name)
        self.over.wait(0.001)

    def settle(self, message: embq.Message | None, verb: str) -> None:
        """Settle what was received, if anything."""
        if message is None:
            self.over.wait(0.001)
        elif verb == "ack":
            self.maybe.append(message.data)
            message.ack()
            self.acked.append(message.data)
        else:
            message.nack(delay=0)

    def receive(self) -> None:
        """Receive and ack."""
        self.settle(self.work.receive(), "ack")

    def receive_many(self) -> None:
        """Receive and nack."""
        for message in self.work.receive_many(2, wait=0.001):
            self.settle(message, "nack")

    def loop(self) -> None:
        """Take from a loop, and leave it."""
        for number, message in enumerate(self.work.messages(prefetch=4, wait=0.001)):
            if number == 2:
                self.settle(message, "nack")
                break
            self.maybe.append(message.data)
            message.ack_nowait()
            self.acked.append(message.data)

    def once(self) -> None:
        """Take at most once."""
        message = self.work.receive(0.001, auto_ack=True)
        if message:
            self.acked.append(message.data)

    def look(self) -> None:
        """Read the counters."""
        self.queue.stats()
        assert self.queue.depth() >= 0
        self.broker.ping()

    def flush(self) -> None:
        """Flush."""
        self.broker.flush()
        self.over.wait(0.001)

    def wait(self) -> None:
        """Wait where nothing comes."""
        self.broker.queue("empty").receive(wait=None)


def _check_crowd(path: str, crowd: Crowd, also: list[str]) -> None:
    """See that the file has what was confirmed, and not what was acked."""
    found = Counter(stored(Path(path)))
    sent = Counter({n: c for n, c in found.items() if not n.startswith("work")})
    wanted = Counter(crowd.confirmed + also)
    # Closed says that nothing was stored, so neither more nor less may be there.
    assert sent == wanted, f"too many {sent - wanted}, missing {wanted - sent}"
    again = set(crowd.acked) & set(found)
    assert not again, f"acked, and still there: {again}"
    gone = {f"work {n}" for n in range(300)} - set(found)
    lost = gone - set(crowd.acked) - set(crowd.maybe)
    assert len(lost) <= 1, f"lost: {lost}"  # one may be taken once by a call that ended


def close(path: str, seed: int) -> None:
    """Closing ends threads in every verb, and what they said is true."""
    rng = stir(Path(path), seed)
    crowd = Crowd(path, rng.choice(["full", "normal"]))
    crowd.threads.start()
    time.sleep(rng.uniform(0.005, 0.2))
    crowd.broker.close()
    crowd.threads.join()
    _check_crowd(path, crowd, [])
    sound(Path(path))


def fork(path: str, seed: int) -> None:
    """Forks beside threads in every verb: the child works, the parent goes on."""
    rng = stir(Path(path), seed)
    crowd = Crowd(path, rng.choice(["full", "normal"]))
    crowd.threads.start()
    children = []
    for number in range(4):
        time.sleep(rng.uniform(0, 0.05))
        pid = os.fork()
        if pid == 0:
            _be_child(crowd, number)
        end = time.monotonic() + PATIENCE_S
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
            assert time.monotonic() < end, f"the forked child {number} is stuck"
            time.sleep(0.002)
        code = os.waitstatus_to_exitcode(ended[1])
        assert code in (0, 3), f"the forked child {number} ended with {code}"
        if code == 0:
            children.append(f"child {number}")
    crowd.over.set()
    time.sleep(rng.uniform(0, 0.02))
    crowd.broker.close()
    crowd.threads.join()
    _check_crowd(path, crowd, children)
    sound(Path(path))


def _be_child(crowd: Crowd, number: int) -> None:
    try:
        crowd.queue.send(f"child {number}")
        crowd.queue.stats()
    except errors.Forked:  # the parent could not rest in time
        os._exit(3)
    except BaseException:  # noqa: BLE001
        os._exit(1)
    os._exit(0)


# ---- time limits ----


def _hold_the_lock(connection: Connection, path: str, seed: int) -> None:
    rng = stir(Path(path), seed)
    plain = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)
    while not connection.poll(rng.uniform(0, 0.004)):
        plain.execute("begin immediate")
        time.sleep(rng.uniform(0, 0.004))
        plain.execute("rollback")
    connection.recv()
    plain.close()


def _take(
    queue: embq.Queue, rng: random.Random, taken: list[str], over: threading.Event
) -> None:
    while not over.is_set():
        with contextlib.suppress(errors.Busy):
            message = queue.receive(rng.uniform(0.0005, 0.004), auto_ack=True)
            if message:
                taken.append(message.data)


def limits(path: str, seed: int) -> Counter[str]:
    """A send that ran out of time is withdrawn, or says that it may be stored.

    Returns:
        How many ended in which way.
    """
    open_queue(path)[0].close()
    holder = Aside(_hold_the_lock, path, seed + 1)
    rng = stir(Path(path), seed)
    broker, queue = open_queue(path, rng.choice(["full", "normal"]))
    ends: dict[str, list[str]] = {"stored": [], "Busy": [], "CommitUncertain": []}
    taken: list[str] = []
    threads, sent = Together(), threading.Event()

    def send(thread: int) -> None:
        for number in range(20):
            name = f"{thread}.{number}"
            try:
                queue.send(name, timeout=rng.uniform(0, 0.006))
            except (errors.Busy, errors.CommitUncertain) as error:
                ends[type(error).__name__].append(name)
            else:
                ends["stored"].append(name)

    senders = [threads.add(f"sender {n}", send, n) for n in range(5)]
    for number in range(2):
        threads.add(f"receiver {number}", _take, queue, rng, taken, sent)
    threads.start()
    for thread in senders:
        thread.join(PATIENCE_S)
    sent.set()
    threads.join()
    holder.say("over")
    holder.join()
    broker.close()
    found = Counter(taken + stored(Path(path)))
    twice = [name for name, count in found.items() if count > 1]
    assert not twice, f"twice: {twice}"
    assert not set(ends["Busy"]) & set(found), "Busy, and stored"
    missing = set(ends["stored"]) - set(found)
    assert not missing, f"confirmed, and neither taken nor there: {missing}"
    unknown = set(found) - set(ends["stored"]) - set(ends["CommitUncertain"])
    assert not unknown, f"stored by nobody: {unknown}"
    return Counter({end: len(names) for end, names in ends.items()})
