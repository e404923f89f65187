"""Scenes of the slots that processes take and leave: see interleave_threads.py."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from multiprocessing.connection import Connection
from pathlib import Path

from rig.interleave import PATIENCE_S, Aside, hear, is_stopped, open_queue, stir
from rig.interpose import COUNT, STOP, Rig

import embq
from embq import errors


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
