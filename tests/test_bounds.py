"""Bounds of a queue: never more than it may hold, and nothing of what is refused."""

import sqlite3
import threading
from pathlib import Path

import pytest

import embq


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
        with sqlite3.connect(path) as db:
            assert db.execute("select count(*) from embq_message_0").fetchone() == (10,)
