"""A delete that is killed: the file before it, the delete, and what is left of it."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

from rig.interpose import COUNT, KILL, Rig
from rig.play import FATAL

import embq
from embq import Outgoing, _sqlite

_sqlite.bind()  # once in the stage, not in each of its children

FAR_S = 1000.0
BATCH = 500
#: Of the queue, by batches: new, with priorities, late, mortal, known, and by key.
COUNT_OF_ALL = 6 * BATCH
LEFT = """
select count(*)
from embq_channel
where kind = 0
"""


def prepare(folder: Path) -> None:
    """Make a file with a queue of all kinds of messages, in all states, and another."""
    with embq.open(folder / "test.db", durability="normal") as broker:
        broker.queue("other").send("untouched")
        queue = broker.queue("q", visibility_timeout=FAR_S, max_receives=3)
        numbers = range(BATCH)
        queue.send_many(numbers)
        queue.send_many([Outgoing(n, priority=n % 10) for n in numbers])
        queue.send_many([Outgoing(n, delay=FAR_S + n) for n in numbers])
        queue.send_many([Outgoing(n, ttl=FAR_S + n) for n in numbers])
        queue.send_many([Outgoing(n, dedup_id=f"{n}") for n in numbers])
        queue.send_many([Outgoing(n, key=f"{n % 7}", ttl=FAR_S) for n in numbers])
        for message in queue.receive_many(BATCH // 2):
            message.nack(delay=0)


def prepare_keyed(folder: Path) -> None:
    """The same, ordered by key: many wait behind others."""
    with embq.open(folder / "test.db", durability="normal") as broker:
        broker.queue("other").send("untouched")
        queue = broker.queue(
            "q", visibility_timeout=FAR_S, max_receives=3, ordered="key"
        )
        for first in range(0, COUNT_OF_ALL, BATCH):
            numbers = range(first, first + BATCH)
            queue.send_many([Outgoing(n, key=f"{n % 700}", ttl=FAR_S) for n in numbers])
        for message in queue.receive_many(BATCH // 2):
            message.nack(delay=0)


def perform(template: str, folder: str, durability: str, kill_at: int) -> int:
    """Copy the file, delete, and die before that call; 0: return their number."""
    there = Path(folder)
    shutil.copytree(template, there)
    path = there / "test.db"
    rig = Rig(path)
    broker = embq.open(path, durability=durability)  # type: ignore[arg-type]
    queue = broker.queue("q")
    for _ in range(2):
        held = queue.receive_many(BATCH)  # some again, others in a run
        for number, message in enumerate(held[-100:]):
            if number % 3 == 0:
                message.extend(FAR_S)
            if number % 3 == 1:
                message.nack(delay=FAR_S, error="it failed")
    queue.configure(max_receives=2)  # now some are held for the last time
    rig.arm(FATAL, KILL if kill_at else COUNT, kill_at or 1)
    assert broker.delete("q") == COUNT_OF_ALL
    (there / "deleted").touch()
    broker.close()
    return rig.disarm()


def left(path: Path) -> int:
    """Count the queues of which some is left, as `sqlite3` alone sees it."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(LEFT).fetchone()[0])
