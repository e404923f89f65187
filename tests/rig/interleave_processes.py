"""Scenes of processes whose steps must not be seen apart: see interleave_threads.py."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

from clock import ClockFile
from rig.interleave import (
    PATIENCE_S,
    Aside,
    Together,
    hear,
    is_stopped,
    open_queue,
    sound,
    stir,
    stored,
)
from rig.interpose import COUNT, STOP, Rig

import embq
from embq import _native, errors

LEASE_S = 10.0
# Calls at which a process is stopped in the middle of its ack.
STOPS = ["pwrite", "flock", "fcntl", "mutex"]
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


# ---- leases that end ----


def _take_on_word(connection: Connection, path: str, clock: str, seed: int) -> None:
    stir(Path(path), seed)
    _native.use_clock(clock)
    broker, queue = open_queue(path)
    while hear(connection):
        message = queue.receive()
        if message is None:
            connection.send(None)
            continue
        try:
            message.ack()
        except errors.LeaseLost:
            connection.send((message.data, message.receive_count, "LeaseLost"))
        else:
            connection.send((message.data, message.receive_count, "acked"))
    broker.close()


def expire(path: str, seed: int) -> Counter[str]:
    """A lease that ends beside its ack is acked or goes to another, never both.

    Returns:
        How often which of them had it.
    """
    clock = ClockFile(Path(f"{path}.clock"))
    open_queue(path, visibility_timeout=LEASE_S)[0].close()
    other = Aside(_take_on_word, path, str(clock.path), seed + 1)
    rng = stir(Path(path), seed)
    _native.use_clock(clock.path)
    broker, queue = open_queue(path)
    outcomes: Counter[str] = Counter()
    for turn in range(12):
        queue.send(turn)
        message = queue.receive()
        assert message is not None
        assert message.data == turn
        clock.advance(LEASE_S - 0.001)
        other.say("take")
        time.sleep(rng.uniform(0, 0.001))
        clock.advance(0.002)
        time.sleep(rng.uniform(0, 0.001))
        try:
            message.ack()
        except errors.LeaseLost:
            assert other.hear() == (turn, 2, "acked")
            outcomes["the other's"] += 1
        else:
            assert other.hear() is None, "acked here, and handed out there"
            outcomes["acked"] += 1
        assert queue.depth() == 0
    other.say("")
    other.join()
    broker.close()
    return outcomes


def give_back(path: str, seed: int) -> Counter[str]:
    """What was claimed ahead goes back before its deadline, uncounted, and once.

    Returns:
        How many were handled here and how many by the other process.
    """
    clock = ClockFile(Path(f"{path}.clock"))
    broker, queue = open_queue(path, visibility_timeout=LEASE_S)
    queue.send_many(list(range(40)))
    broker.close()
    other = Aside(_take_on_word, path, str(clock.path), seed + 1)
    rng = stir(Path(path), seed)
    _native.use_clock(clock.path)
    broker, queue = open_queue(path)
    came: list[tuple[int, int]] = []
    done: Counter[str] = Counter()
    for message in queue.messages(prefetch=rng.choice([4, 10, 20]), wait=0):
        came.append((message.data, message.receive_count))
        other.say("take")
        clock.advance(rng.choice([0, 0.5, 3.0, LEASE_S - 0.1]))
        time.sleep(rng.choice([0, 0.001, 0.3 if rng.random() < 0.2 else 0]))
        theirs = other.hear()
        if theirs:
            came.append(theirs[:2])
            done["there"] += theirs[2] == "acked"
        try:
            message.ack()
            done["here"] += 1
        except errors.LeaseLost:
            done["lost"] += 1
    other.say("")
    other.join()
    clock.advance(LEASE_S)
    while message := queue.receive():
        came.append((message.data, message.receive_count))
        message.ack()
        done["here"] += 1
    twice = [delivery for delivery, count in Counter(came).items() if count > 1]
    assert not twice, f"handed out twice as the same delivery: {twice}"
    assert done["here"] + done["there"] == 40, done
    assert {data for data, _ in came} == set(range(40))
    assert queue.depth() == 0
    broker.close()
    return done


# ---- a process that is stopped in the middle ----


def _ack_and_stop(connection: Connection, path: str, clock: str, point: int) -> None:
    _native.use_clock(clock)
    rig = Rig(Path(path))  # before the descriptors that it is to know
    broker, queue = open_queue(path)
    message = queue.receive()
    assert message is not None
    connection.send("holds")
    hear(connection)
    rig.arm(STOPS, STOP if point else COUNT, point)
    try:
        message.ack()
    except errors.LeaseLost:
        outcome = "LeaseLost"
    else:
        outcome = "acked"
    connection.send((outcome, rig.disarm()))
    hear(connection)
    broker.close()


def stop(path: str, point: int) -> tuple[str, int]:
    """A process that is stopped at a call of its ack, for longer than its lease.

    Args:
        path: The file.
        point: At which of its calls; 0: at none.

    Returns:
        Who had the message in the end, and how many calls there were.
    """
    clock = ClockFile(Path(f"{path}.clock"))
    _native.use_clock(clock.path)
    broker, queue = open_queue(path, visibility_timeout=LEASE_S)
    queue.send("x")
    broker.close()
    owner = Aside(_ack_and_stop, path, str(clock.path), point)
    assert owner.hear() == "holds"
    broker = embq.open(path, durability="normal")
    queue = broker.queue("q")
    owner.say("ack")
    end = time.monotonic() + PATIENCE_S
    while not is_stopped(owner.pid) and not owner.connection.poll():
        assert time.monotonic() < end, "neither stopped nor done"
        time.sleep(0.0005)
    clock.advance(LEASE_S + 1)
    came: SimpleQueue[embq.Message | None] = SimpleQueue()
    thread = threading.Thread(target=lambda: came.put(queue.receive()))
    thread.start()
    thread.join(0.05)  # it may have to wait for what the stopped one holds
    os.kill(owner.pid, signal.SIGCONT)
    thread.join(PATIENCE_S)
    message = came.get(timeout=PATIENCE_S)
    outcome, calls = owner.hear()
    if message is None:
        assert outcome == "acked", f"{outcome} there, and nothing came here"
    else:
        assert message.receive_count == 2
        assert outcome == "LeaseLost", f"{outcome} there, and it came here"
        message.ack()
    assert queue.depth() == 0
    owner.say("over")
    owner.join()
    broker.close()
    sound(Path(path))
    return outcome, calls


# ---- a slot that is taken again ----


def _hold(connection: Connection, path: str, seed: int) -> None:
    """Open, take a message and hold it; close and do so again on word."""
    stir(Path(path), seed)
    while True:
        broker, queue = open_queue(path)
        message = queue.receive(wait=PATIENCE_S)
        assert message is not None
        connection.send((message.data, message.receive_count))
        word = hear(connection, 60.0)
        if word == "ack":
            message.ack()
            connection.send("acked")
        broker.close()
        if word != "again":
            return


def slots(path: str, seed: int) -> None:
    """The dead give back what they held, and who takes their slot keeps its own."""
    broker, queue = open_queue(path, visibility_timeout=600)
    queue.send("first")
    broker.close()
    dying = Aside(_hold, path, seed + 1)
    assert dying.hear() == ("first", 1)
    keepers = [Aside(_watch, path, seed + n) for n in (2, 3)]
    for keeper in keepers:
        keeper.hear()
    others = [Aside(_hold, path, seed + n) for n in (4, 5)]
    stir(Path(path), seed)
    broker, queue = open_queue(path)
    dying.kill()
    queue.send_many(["second", "third"])
    held = dict(other.hear() for other in others)
    # One may have got what the dead one held, if it asked late enough.
    message = queue.receive(wait=PATIENCE_S)
    assert message is not None
    held[message.data] = message.receive_count
    assert held == {"first": 2, "second": 1, "third": 1}, held
    time.sleep(0.8)  # two looks of every keeper
    assert queue.receive() is None, "what a live process holds was given back"
    for other in others:
        other.say("ack")
        assert other.hear() == "acked"
        other.join()
    message.ack()
    for keeper in keepers:
        keeper.say("")
        keeper.join()
    assert queue.stats()["expired"] == 1
    broker.close()


def _close_and_stop(connection: Connection, path: str, point: int) -> None:
    rig = Rig(Path(path))  # before the descriptors that it is to know
    broker, _queue = open_queue(path)
    rig.arm("fcntl", STOP if point else COUNT, point)
    connection.send("closes")
    broker.close()
    connection.send("closed")
    hear(connection)


def leave(path: str, point: int) -> str:
    """A process that takes the slot of one that is about to be closed leaves it clean.

    Args:
        path: The file.
        point: The call of its close at which the first one is stopped.

    Returns:
        "early" when it was not out of the file yet, "late" when it had ended, else
        "between".
    """
    broker, queue = open_queue(path, visibility_timeout=600)
    queue.send("x")
    broker.close()
    first = Aside(_close_and_stop, path, point)
    assert first.hear() == "closes"
    end = time.monotonic() + PATIENCE_S
    while not (stopped := is_stopped(first.pid)) and not first.connection.poll():
        assert time.monotonic() < end, "neither stopped nor closed"
        time.sleep(0.0005)
    when = "late"
    if stopped:
        when = "between" if _take_and_close(path) else "early"
    os.kill(first.pid, signal.SIGCONT)
    first.say("over")
    first.join()
    return when


def _take_and_close(path: str) -> bool:
    """Hold a message at a close: it must come at once. False: the file is locked."""
    plain = sqlite3.connect(path, timeout=0)
    try:
        owners = plain.execute("select count(*) from embq_owner").fetchone()[0]
    except sqlite3.OperationalError:
        return False
    finally:
        plain.close()
    if owners:
        return False
    for count in (1, 2):
        try:
            broker = embq.open(path, durability="normal", busy_timeout=1)
        except errors.Busy:
            return False
        message = broker.queue("q").receive()
        assert message is not None, "what was held at a close did not come at once"
        assert message.receive_count == count
        if count == 2:
            message.ack()
        broker.close()
    return True


def _watch(connection: Connection, path: str, seed: int) -> None:
    """Have the file open: the keeper looks for the dead."""
    stir(Path(path), seed)
    broker, _queue = open_queue(path)
    connection.send("open")
    hear(connection, 60.0)
    broker.close()


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
