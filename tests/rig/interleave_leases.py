"""Scenes of a lease that another process may end: see interleave_threads.py."""

from __future__ import annotations

import os
import signal
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
    hear,
    is_stopped,
    open_queue,
    sound,
    stir,
)
from rig.interpose import COUNT, STOP, Rig

import embq
from embq import _native, errors

LEASE_S = 10.0
# Calls at which a process is stopped in the middle of its ack.
STOPS = ["pwrite", "flock", "fcntl", "mutex"]

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
