"""Bounds of a queue: never more than it may hold, and nothing of what is refused."""

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

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


def numbers(queue: embq.Queue[Any]) -> list[Any]:
    """Receive all that is ready and ack it."""
    messages = queue.receive_many(100)
    queue.ack_many(messages)
    return [message.data for message in messages]


POLICIES = ["drop_oldest", "dead_letter"]


def count(queue: embq.Queue[Any], overflow: str) -> Any:
    """How many made way, as the queue counts them."""
    return queue.stats()["dropped" if overflow == "drop_oldest" else "dead"]


@pytest.mark.parametrize("overflow", POLICIES)
def test_the_oldest_make_way(tmp_path: Path, overflow: Any) -> None:
    """Whatever their priority, the oldest go, as many as need be."""
    with embq.open(tmp_path / "q.db") as broker:
        queue = broker.queue("q", max_messages=3, overflow=overflow)
        for number, priority in enumerate([9, 0, 4]):
            queue.send(number, priority=priority)
        queue.send(3, priority=0)
        queue.send_many([4, 5])
        assert count(queue, overflow) == 3
        assert queue.depth() == 3
        assert numbers(queue) == [4, 5, 3]
        dead = broker.queue("q.dead")
        letters = dead.receive_many(10)
        expected = [0, 2, 1] if overflow == "dead_letter" else []
        assert [letter.data for letter in letters] == expected
        assert {letter.history[-1]["reason"] for letter in letters} <= {"overflow"}


@pytest.mark.parametrize("overflow", POLICIES)
def test_what_is_in_flight_stays(tmp_path: Path, overflow: Any) -> None:
    """It makes no way, and when it fills the bound, nothing fits."""
    with embq.open(tmp_path / "q.db") as broker:
        queue = broker.queue("q", max_messages=3, overflow=overflow)
        queue.send_many([0, 1, 2])
        held = queue.receive_many(2)
        queue.send(3)
        assert count(queue, overflow) == 1
        with pytest.raises(embq.QueueFull):
            queue.send_many([4, 5])
        assert count(queue, overflow) == 1
        third = queue.receive()
        with pytest.raises(embq.QueueFull):
            queue.send(6)
        for message in (*held, third):
            message.ack()
        assert queue.depth() == 0


@pytest.mark.parametrize("overflow", POLICIES)
def test_every_state_makes_way(tmp_path: Path, overflow: Any) -> None:
    """What failed, what is due later and what is new, by the order of sending."""
    with embq.open(tmp_path / "q.db") as broker:
        retry = embq.Backoff(3600.0, jitter=False)
        queue = broker.queue("q", max_messages=4, overflow=overflow, retry=retry)
        queue.send_many([0, 1])
        queue.receive().nack()
        held = queue.receive()
        queue.send(2, delay=3600.0)
        queue.send(3)
        queue.send(4)  # 0, which failed, goes
        assert queue.stats()["delayed"] == 1
        queue.send(5)  # 2, which is due later, goes: 1 is held
        assert queue.stats()["delayed"] == 0
        held.nack()
        queue.send(6)  # 1, which is held no more, goes
        assert count(queue, overflow) == 3
        assert numbers(queue) == [3, 4, 5, 6]
        assert queue.depth() == 0


@pytest.mark.parametrize("overflow", POLICIES)
def test_a_key_is_free_when_its_first_made_way(tmp_path: Path, overflow: Any) -> None:
    """The next of its key is handed out."""
    with embq.open(tmp_path / "q.db") as broker:
        queue = broker.queue(
            "q",
            ordered="key",
            max_messages=3,
            overflow=overflow,
            retry=embq.Backoff(3600.0, jitter=False),
        )
        queue.send("a1", key="a")
        queue.send("a2", key="a")
        queue.send("b1", key="b")
        queue.receive().nack()
        queue.receive().ack()  # which looked at a2, behind a1
        queue.send("c1", key="c")
        assert queue.receive().data == "c1"
        queue.send("d1", key="d")  # a1 goes
        assert numbers(queue) == ["a2", "d1"]


@pytest.mark.parametrize("overflow", POLICIES)
def test_bytes_make_way(tmp_path: Path, overflow: Any) -> None:
    """As many go as the new body needs; none when that would not do."""
    with embq.open(tmp_path / "q.db") as broker:
        queue = broker.queue("q", codec="raw", max_bytes=10, overflow=overflow)
        queue.send_many([b"aaaa", b"bb", b"cc"])
        held = queue.receive()
        with pytest.raises(embq.QueueFull):
            queue.send(b"d" * 7)
        assert count(queue, overflow) == 0
        queue.send(b"d" * 5)
        assert count(queue, overflow) == 2
        held.ack()
        assert numbers(queue) == [b"d" * 5]


def test_acks_of_the_same_group_make_room(tmp_path: Path) -> None:
    """What was acked in a batch counts no more, in messages and in bytes."""
    with embq.open(tmp_path / "q.db") as broker:
        queue = broker.queue(
            "q", codec="raw", max_messages=4, max_bytes=8, overflow="drop_oldest"
        )
        for _ in range(50):
            queue.send_many([b"aa"] * 4)
            held = queue.receive_many(4)
            for message in held:
                message.ack_nowait()
            queue.send_many([b"bb"] * 4)
            assert queue.stats()["dropped"] == 0
            assert len(numbers(queue)) == 4


@pytest.mark.parametrize("overflow", ["reject", *POLICIES])
def test_a_batch_larger_than_the_bound(tmp_path: Path, overflow: Any) -> None:
    """It never fits, and nothing makes way for it."""
    with embq.open(tmp_path / "q.db") as broker:
        queue = broker.queue("q", max_messages=2, overflow=overflow)
        queue.send(0)
        with pytest.raises(embq.QueueFull):
            queue.send_many([1, 2, 3])
        assert numbers(queue) == [0]


@pytest.mark.parametrize("overflow", ["reject", *POLICIES])
def test_what_perished_makes_room(tmp_path: Path, overflow: Any) -> None:
    """A message whose ttl is over needs none, though nobody receives."""
    with embq.open(tmp_path / "q.db") as broker:
        queue = broker.queue("q", max_messages=2, overflow=overflow, expiry="drop")
        queue.send(0)
        queue.send(1, ttl=0.01)
        time.sleep(0.05)
        queue.send(2)
        assert numbers(queue) == [0, 2]


def test_dead_letters_need_a_queue(tmp_path: Path) -> None:
    """A queue without one cannot send there what makes way."""
    with embq.open(tmp_path / "q.db") as broker:
        with pytest.raises(embq.InvalidArgument):
            broker.queue("a", max_messages=1, overflow="dead_letter", dead_letter=None)
        queue = broker.queue("b", max_messages=1, overflow="dead_letter")
        with pytest.raises(embq.InvalidArgument):
            queue.configure(dead_letter=None)


def test_the_dead_letter_queue_has_no_bound(tmp_path: Path) -> None:
    """However many make way, all are there."""
    with embq.open(tmp_path / "q.db") as broker:
        queue = broker.queue("q", max_messages=2, overflow="dead_letter")
        for number in range(20):
            queue.send(number)
        dead = broker.queue("q.dead")
        assert numbers(dead) == list(range(18))
        dead.send_many(range(5))


@pytest.mark.parametrize("overflow", ["reject", *POLICIES])
def test_a_dedup_id_twice_in_a_batch(tmp_path: Path, overflow: Any) -> None:
    """The second needs no room, and nothing makes way for it."""
    with embq.open(tmp_path / "q.db") as broker:
        queue = broker.queue("q", max_messages=101, overflow=overflow)
        queue.send(-1)
        batch = [embq.Outgoing(n, dedup_id=str(n % 100)) for n in range(1000)]
        sent = queue.send_many(batch)
        assert sum(not one.duplicate for one in sent) == 100
        assert numbers(queue) == [-1, *range(99)]
        assert numbers(queue) == [99]
