"""Scenes of processes that share a file: see interleave_threads.py."""

from __future__ import annotations

import sqlite3
import time
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

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

import embq
from embq import errors

OPENERS = 16
ROUNDS_OF_WRITING, BIG = 40, 10_000

# ---- parking and waking ----


def _send_on_word(connection: Connection, path: str, seed: int) -> None:
    stir(Path(path), seed)
    with embq.open(path, durability="normal") as broker:
        while name := hear(connection):
            broker.queue(name).send("x")
            connection.send(time.monotonic())


def wake(path: str, seed: int) -> list[float]:
    """A receiver that waits for ever has the message soon after it was sent.

    Returns:
        How long each message took from the end of its send, in seconds.
    """
    with embq.open(path, durability="normal") as broker:  # before the fork
        names = [f"q{number}" for number in range(34)]
        for name in names:
            broker.queue(name)
    sender = Aside(_send_on_word, path, seed + 1)
    rng = stir(Path(path), seed)
    broker = embq.open(path, durability="normal")
    # The first and the last two fall into the same classes of watchers.
    watched = [names[0], names[1], names[-2], names[-1], names[0]]
    came: SimpleQueue[tuple[str, float]] = SimpleQueue()
    threads = Together()

    def receive(name: str) -> None:
        queue = broker.queue(name)
        try:
            while message := queue.receive(wait=None):
                came.put((name, time.monotonic()))
                message.ack()
        except errors.Closed:
            return

    for name in watched:
        threads.add(f"receiver of {name}", receive, name)
    threads.start()
    waits = []
    for _ in range(10):
        time.sleep(rng.choice([0, 0.0005, 0.01]))
        name = rng.choice(watched)
        if rng.random() < 0.7:
            sender.say(name)
            sent = sender.hear()
        else:
            broker.queue(name).send("x")
            sent = time.monotonic()
        got, at = came.get(timeout=PATIENCE_S)
        assert got == name
        waits.append(at - sent)
    sender.say("")
    sender.join()
    broker.close()
    threads.join()
    return waits


# ---- opening and checkpointing ----


def _open_and_send(connection: Connection, path: str, seed: int) -> None:
    stir(Path(path), seed)
    hear(connection)
    broker, queue = open_queue(path)
    queue.send(seed)
    broker.close()


def opening(path: str, seed: int) -> None:
    """A file of 0 bytes that 16 processes open at once has one schema after it."""
    Path(path).touch()
    openers = [Aside(_open_and_send, path, seed * 100 + n) for n in range(OPENERS)]
    for opener in openers:
        opener.say("go")
    for opener in openers:
        opener.join()
    assert sorted(stored(Path(path))) == [seed * 100 + n for n in range(OPENERS)]
    plain = sqlite3.connect(path)
    counts = [
        plain.execute(f"select count(*) from {table}").fetchone()[0]
        for table in ("embq_meta", "embq_channel", "embq_owner")
    ]
    plain.close()
    assert counts == [1, 1, 0], f"meta, channels, owners: {counts}"
    sound(Path(path))


def _write_much(connection: Connection, path: str, seed: int) -> None:
    rng = stir(Path(path), seed)
    broker, queue = open_queue(path)
    for number in range(ROUNDS_OF_WRITING):
        queue.send_many([[seed, number, n, "x" * BIG] for n in range(20)])
        if rng.random() < 0.3:
            for message in queue.receive_many(5):
                message.nack(delay=0)
    connection.send([[seed, r, n] for r in range(ROUNDS_OF_WRITING) for n in range(20)])
    hear(connection)
    broker.close()


def checkpoints(path: str, seed: int) -> int:
    """Checkpoints beside writers of two processes lose nothing, and bound the WAL.

    Returns:
        The length of the WAL, at its longest.
    """
    open_queue(path, max_receives=1000)[0].close()
    writers = [Aside(_write_much, path, seed * 10 + n) for n in (1, 2)]
    rng = stir(Path(path), seed)
    broker, queue = open_queue(path)
    plain = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)
    longest, end = 0, time.monotonic() + PATIENCE_S
    while not all(writer.connection.poll() for writer in writers):
        assert time.monotonic() < end, "the writers are stuck"
        longest = max(longest, Path(f"{path}-wal").stat().st_size)
        plain.execute("begin")
        before = plain.execute("select count(*) from embq_messages").fetchone()
        time.sleep(rng.uniform(0, 0.02))
        after = plain.execute("select count(*) from embq_messages").fetchone()
        plain.execute("rollback")
        assert before == after, "a read transaction saw two states"
    sent = [row for writer in writers for row in writer.hear()]
    for writer in writers:
        writer.say("over")
        writer.join()
    assert sorted(row[:3] for row in stored(Path(path))) == sorted(sent)
    assert queue.depth() == len(sent)
    plain.close()
    broker.close()
    sound(Path(path))
    return longest
