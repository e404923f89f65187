"""A redrive that is killed: the file, the run, and who judges what is left."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from rig.interpose import COUNT, KILL, Rig
from rig.invariants import broken
from rig.play import FATAL

import embq
from embq import _schema, _sqlite  # noqa: F401  (here, as what follows)

_sqlite.bind()  # once in the stage, not in each of its children

COUNT_OF_EACH = 300  # more than a step of the core
PATIENCE_S = 20.0


def prepare(path: Path) -> dict[int, str]:
    """Make dead letters of two queues, of all kinds; give their ids by their data."""
    with embq.open(path, durability="normal") as broker:
        queues = [broker.queue(name, dead_letter="graves", ttl=10_000) for name in "ab"]
        ids: dict[int, str] = {}
        for number, queue in enumerate(queues):
            first = number * COUNT_OF_EACH
            items = [
                embq.Outgoing(n, priority=n % 10, type="odd" if n % 2 else "even")
                for n in range(first, first + COUNT_OF_EACH)
            ]
            sent = queue.send_many(items)
            ids |= {first + n: one.id for n, one in enumerate(sent)}
            for message in queue.receive_many(COUNT_OF_EACH):
                message.reject("no")
        for n, message in enumerate(broker.queue("graves").receive_many(90)):
            message.nack(delay=1000 if n % 2 else 0)
    return ids


def perform(template: str, folder: str, kill_at: int) -> int:
    """Redrive what is odd, then the rest; die before that call, 0: count them."""
    path = Path(folder) / "test.db"
    shutil.copytree(template, folder)
    rig = Rig(path)
    with embq.open(path, durability="normal") as broker:
        graves = broker.queue("graves")
        rig.arm(FATAL, KILL if kill_at else COUNT, kill_at or 1)
        graves.redrive(where={"type": "odd"}).wait(PATIENCE_S)
        graves.redrive().wait(PATIENCE_S)
        return rig.disarm()


def check(path: Path, ids: dict[int, str]) -> None:
    """Each message is there once; what was begun is ended, by whoever is there."""
    with (
        embq.open(path, durability="normal") as broker,
        closing(sqlite3.connect(path, isolation_level=None)) as sql,
    ):
        rows = sql.execute("select data, id from embq_messages").fetchall()
        assert sorted((int(data), key) for data, key in rows) == sorted(ids.items())
        end = time.monotonic() + PATIENCE_S
        text = "select moved, ended_at_ms from embq_redrive"
        while any(ended is None for _, ended in sql.execute(text)):
            assert time.monotonic() < end, "the redrive is not ended"
            time.sleep(0.01)
        begun = sql.execute("select count(*) from embq_redrive").fetchone() == (1,)
        odd = sql.execute(
            "select count(*) from embq_messages where queue = 'graves' and type = 'odd'"
        )
        assert not begun or odd.fetchone() == (0,)
        broker.queue("graves").redrive().wait(PATIENCE_S)
        assert not broken(sql), broken(sql)
        assert broker.queue("graves").depth() == 0
        assert broker.queue("graves").stats()["redriven"] == len(ids)
        for number, name in enumerate("ab"):
            queue = broker.queue(name)
            came = {m.data: m.id for m in queue.receive_many(1000)}
            first = number * COUNT_OF_EACH
            assert came == {n: ids[n] for n in range(first, first + COUNT_OF_EACH)}
        assert sql.execute("pragma integrity_check").fetchone() == ("ok",)
