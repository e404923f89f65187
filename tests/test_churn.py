"""Queues that come and go all the time, in several processes; one of them is killed."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

from conftest import wait_until
from rig import deleting
from rig.invariants import broken

import embq

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Children

PROCESSES, OWN, SHARED = 3, 40, 3
TURNS, SOAK_TURNS = 200, 20_000
KILL_AFTER_S = 0.5
SOON_S = 10.0

# A turn is about a queue of its own, of which it knows all, or about one that others
# delete and declare too.
CHURN = """
    import json, random, sys
    import embq

    path, name, turns, own, shared = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    choice = random.Random(name)
    broker = embq.open(path, durability="normal")
    mine, queues, ids, made = {}, {}, [], 0

    def send(queue, text, count):
        sent = queue.send_many([f"{queue.name} {text} {n}" for n in range(count)])
        ids.extend(one.id for one in sent)
        return [f"{queue.name} {text} {n}" for n in range(count)]

    def declare(about):
        global made
        made += 1
        queue = queues[about] = broker.queue(about)
        assert queue.depth() == 0, "what the queue before it had is there again"
        mine[about] = send(queue, made, 3)

    def work(about):
        message = queues[about].receive()
        if message is None:
            assert not mine[about], f"{mine[about]} never came"
            mine[about] = send(queues[about], made, 2)
        else:
            assert message.data == mine[about].pop(0)
            message.ack()

    def delete(about):
        held = queues[about].receive()
        assert broker.delete(about) == len(mine.pop(about))
        old = queues.pop(about)
        for call in (old.depth, lambda: old.send(0), held.ack if held else old.receive):
            try:
                call()
            except embq.NotFound:
                continue
            raise AssertionError("a queue that is gone has answered")

    def share(about):
        try:
            if choice.random() < 0.3:
                broker.delete(about)
                return
            queue = broker.queue(about)
            send(queue, name, 2)
            for message in queue.receive_many(3):
                assert message.data.split()[0] == about, "another queue's message"
                message.ack()
        except embq.NotFound:
            pass

    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(turns):
        if choice.random() < 0.2:
            share(f"s{choice.randrange(shared)}")
            continue
        about = f"{name}{choice.randrange(own)}"
        if about not in mine:
            declare(about)
        elif choice.random() < 0.3:
            delete(about)
        else:
            work(about)
    broker.close()
    print(json.dumps([mine, ids, made]), flush=True)
"""


def contents(queue: embq.Queue[str]) -> list[str]:
    """List what it has, and count nothing."""
    return [message.data for message in queue.browse()]


def test_queues_that_come_and_go(path: Path, children: Children, *, soak: bool) -> None:
    """CASE 52: each has what was sent to it, and no more; numbers are used again."""
    turns = SOAK_TURNS if soak else TURNS
    with embq.open(path, durability="normal") as broker:
        names = ["victim", *(f"p{n}." for n in range(PROCESSES))]
        crowd = [children.start(CHURN, path, n, turns, OWN, SHARED) for n in names]
        for child in crowd:
            children.expect(child, "ready")
        for child in crowd:
            children.tell(child)
        victim, *others = crowd
        time.sleep(KILL_AFTER_S)
        victim.kill()
        told = [json.loads(children.finish(child, timeout=600.0)) for child in others]
        wait_until(lambda: not deleting.left(path), "some queue is half gone", SOON_S)
        expected = {name: texts for mine, _, _ in told for name, texts in mine.items()}
        for name in broker.queues():
            seen = contents(broker.queue(name))
            assert {text.split()[0] for text in seen} <= {name}
            if not name.startswith(("victim", "s")):
                assert seen == expected.pop(name)
        assert not expected, "queues are missing"
    ids = [one for _, theirs, _ in told for one in theirs]
    assert len(set(ids)) == len(ids), "an id was given out twice"
    made = sum(made for _, _, made in told)
    with closing(sqlite3.connect(path)) as connection:
        assert broken(connection) == []
        numbers = connection.execute("select count(*) from embq_channel").fetchone()[0]
    most = (PROCESSES + 1) * (OWN + 1) + SHARED  # each is at one more, maybe
    assert numbers <= most < made
