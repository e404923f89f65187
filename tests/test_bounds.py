"""Bounds of a queue: never more than it may hold, and nothing of what is refused."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import embq

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Children

BOUND, PROCESSES = 10, 4
# Four threads: two send 100 each and note what is stored, two take and ack.
CROWD = """
    import json, sys, threading
    import embq

    path, overflow, name = sys.argv[1:]
    broker = embq.open(path, durability="normal")
    queue = broker.queue("q", max_messages=10, overflow=overflow)
    sent, acked, done = [], [], threading.Event()

    def send(thread):
        for number in range(100):
            data = f"{name}.{thread}.{number}"
            while True:
                try:
                    queue.send(data)
                    break
                except embq.QueueFull:
                    continue
            sent.append(data)

    def take():
        while not done.is_set():
            for message in queue.receive_many(3, 0.05):
                message.ack()
                acked.append(message.data)

    senders = [threading.Thread(target=send, args=(n,)) for n in range(2)]
    takers = [threading.Thread(target=take) for _ in range(2)]
    for thread in senders + takers:
        thread.start()
    for thread in senders:
        thread.join()
    print("sent", flush=True)
    sys.stdin.readline()
    done.set()
    for thread in takers:
        thread.join()
    broker.close()
    print(json.dumps([sent, acked]), flush=True)
"""


def test_reject(tmp_path: Path) -> None:
    """What finds no room is refused, until something is acked."""
    with embq.open(tmp_path / "q.db") as broker:
        queue = broker.queue("q", max_messages=2, overflow="reject")
        queue.send_many([1, 2])
        with pytest.raises(embq.QueueFull):
            queue.send(3)
        queue.receive().ack()
        queue.send(3)


def test_a_batch_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    """Three for two places: none of them."""
    with embq.open(tmp_path / "q.db") as broker:
        queue = broker.queue("q", max_messages=2, overflow="reject")
        with pytest.raises(embq.QueueFull):
            queue.send_many([1, 2, 3])
        queue.send_many([1, 2])


def test_bytes(tmp_path: Path) -> None:
    """Bodies count by their size; what fits exactly fits."""
    with embq.open(tmp_path / "q.db") as broker:
        queue = broker.queue("q", codec="raw", max_bytes=10, overflow="reject")
        queue.send(b"x" * 10)
        with pytest.raises(embq.QueueFull):
            queue.send(b"x")


def test_a_duplicate_needs_no_room(tmp_path: Path) -> None:
    """It stores nothing."""
    with embq.open(tmp_path / "q.db") as broker:
        queue = broker.queue("q", max_messages=1, overflow="reject")
        queue.send(1, dedup_id="a")
        assert queue.send(1, dedup_id="a").duplicate


@pytest.mark.parametrize("bound", [0, -1, True, 1.5])
def test_no_bound(tmp_path: Path, bound: int) -> None:
    """Zero, less, and what is no int are refused."""
    with embq.open(tmp_path / "q.db") as broker:
        for option in ("max_messages", "max_bytes"):
            with pytest.raises(embq.InvalidArgument):
                broker.queue("q", **{option: bound, "overflow": "reject"})


def test_threads_never_store_more(tmp_path: Path) -> None:
    """Eight senders of 20 each, a bound of 10: ten are stored."""
    path = tmp_path / "q.db"
    with embq.open(path) as broker:
        queue = broker.queue("q", max_messages=10, overflow="reject")
        sent = []

        def send() -> None:
            for number in range(20):
                try:
                    sent.append(queue.send(number))
                except embq.QueueFull:
                    continue

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(sent) == 10
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("select count(*) from embq_message_0").fetchone() == (10,)


@pytest.mark.parametrize("overflow", ["block", "reject", "drop_oldest", "dead_letter"])
def test_a_crowd_never_stores_more(
    path: Path, children: Children, overflow: str
) -> None:
    """CASE 57: four processes: at every look 10 at most, and nothing is lost."""
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q", max_messages=BOUND, overflow=overflow)
        crowd = [children.start(CROWD, path, overflow, n) for n in range(PROCESSES)]
        depths = set()
        text = "select messages from embq_queues where name = 'q'"
        words = []
        with closing(sqlite3.connect(path, isolation_level=None)) as look:

            def wait() -> None:
                words.extend(child.stdout.readline() for child in crowd if child.stdout)

            waiter = threading.Thread(target=wait)
            waiter.start()
            while waiter.is_alive():
                depths.add(look.execute(text).fetchone()[0])
            waiter.join()
        assert words == ["sent\n"] * PROCESSES
        assert 0 < max(depths) <= BOUND
        told = []
        for child in crowd:
            children.tell(child, "end")
            assert child.stdout
            told.append(json.loads(child.stdout.readline()))
        sent = [data for theirs, _ in told for data in theirs]
        acked = [data for _, theirs in told for data in theirs]
        left = [message.data for message in queue.receive_many(100)]
        dead = broker.queue("q.dead")
        buried = [message.data for message in dead.receive_many(1000)]
        dropped = queue.stats()["dropped"]
        assert len(sent) == PROCESSES * 200
        assert len(sent) == len(acked) + len(left) + len(buried) + dropped
        assert len({*acked, *left, *buried}) == len(sent) - dropped
        assert {*acked, *left, *buried} <= set(sent)
        assert dropped == 0 or overflow == "drop_oldest"
        assert not buried or overflow == "dead_letter"
