"""Bounds of a queue: what finds no room is refused, or the oldest make way."""

from typing import Any

import pytest

from embq import Backoff, Outgoing, errors


def numbers(queue: Any) -> list[Any]:
    """Receive all that is ready and ack it."""
    messages = queue.receive_many(100)
    queue.ack_many(messages)
    return [message.data for message in messages]


POLICIES = ["drop_oldest", "dead_letter"]


def count(queue: Any, overflow: str) -> Any:
    """How many made way, as the queue counts them."""
    return queue.stats()["dropped" if overflow == "drop_oldest" else "dead"]


@pytest.mark.parametrize("overflow", POLICIES)
def test_the_oldest_make_way(site: Any, overflow: Any) -> None:
    """Whatever their priority, the oldest go, as many as need be."""
    queue = site.broker.queue("q", max_messages=3, overflow=overflow)
    for number, priority in enumerate([9, 0, 4]):
        queue.send(number, priority=priority)
    queue.send(3, priority=0)
    queue.send_many([4, 5])
    assert count(queue, overflow) == 3
    assert queue.depth() == 3
    assert numbers(queue) == [4, 5, 3]
    dead = site.broker.queue("q.dead")
    letters = dead.receive_many(10)
    expected = [0, 2, 1] if overflow == "dead_letter" else []
    assert [letter.data for letter in letters] == expected
    assert {letter.history[-1]["reason"] for letter in letters} <= {"overflow"}


@pytest.mark.parametrize("overflow", POLICIES)
def test_what_is_in_flight_stays(site: Any, overflow: Any) -> None:
    """It makes no way, and when it fills the bound, nothing fits."""
    queue = site.broker.queue("q", max_messages=3, overflow=overflow)
    queue.send_many([0, 1, 2])
    held = queue.receive_many(2)
    queue.send(3)
    assert count(queue, overflow) == 1
    with pytest.raises(errors.QueueFull):
        queue.send_many([4, 5])
    assert count(queue, overflow) == 1
    third = queue.receive()
    with pytest.raises(errors.QueueFull):
        queue.send(6)
    for message in (*held, third):
        message.ack()
    assert queue.depth() == 0


@pytest.mark.parametrize("overflow", POLICIES)
def test_every_state_makes_way(site: Any, overflow: Any) -> None:
    """What failed, what is due later and what is new, by the order of sending."""
    retry = Backoff(3600.0, jitter=False)
    queue = site.broker.queue("q", max_messages=4, overflow=overflow, retry=retry)
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
def test_a_key_is_free_when_its_first_made_way(site: Any, overflow: Any) -> None:
    """The next of its key is handed out."""
    queue = site.broker.queue(
        "q",
        ordered="key",
        max_messages=3,
        overflow=overflow,
        retry=Backoff(3600.0, jitter=False),
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
def test_bytes_make_way(site: Any, overflow: Any) -> None:
    """As many go as the new body needs; none when that would not do."""
    queue = site.broker.queue("q", codec="raw", max_bytes=10, overflow=overflow)
    queue.send_many([b"aaaa", b"bb", b"cc"])
    held = queue.receive()
    with pytest.raises(errors.QueueFull):
        queue.send(b"d" * 7)
    assert count(queue, overflow) == 0
    queue.send(b"d" * 5)
    assert count(queue, overflow) == 2
    held.ack()
    assert numbers(queue) == [b"d" * 5]


def test_acks_of_the_same_group_make_room(site: Any) -> None:
    """What was acked in a batch counts no more, in messages and in bytes."""
    queue = site.broker.queue(
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
def test_a_batch_larger_than_the_bound(site: Any, overflow: Any) -> None:
    """It never fits, and nothing makes way for it."""
    queue = site.broker.queue("q", max_messages=2, overflow=overflow)
    queue.send(0)
    with pytest.raises(errors.QueueFull):
        queue.send_many([1, 2, 3])
    assert numbers(queue) == [0]


@pytest.mark.parametrize("overflow", ["reject", *POLICIES])
def test_what_perished_makes_room(site: Any, overflow: Any) -> None:
    """A message whose ttl is over needs none, though nobody receives."""
    queue = site.broker.queue("q", max_messages=2, overflow=overflow, expiry="drop")
    queue.send(0)
    queue.send(1, ttl=0.01)
    site.clock.advance(1)
    queue.send(2)
    assert numbers(queue) == [0, 2]


def test_dead_letters_need_a_queue(site: Any) -> None:
    """A queue without one cannot send there what makes way."""
    with pytest.raises(errors.InvalidArgument):
        site.broker.queue("a", max_messages=1, overflow="dead_letter", dead_letter=None)
    queue = site.broker.queue("b", max_messages=1, overflow="dead_letter")
    with pytest.raises(errors.InvalidArgument):
        queue.configure(dead_letter=None)


def test_the_dead_letter_queue_has_no_bound(site: Any) -> None:
    """However many make way, all are there."""
    queue = site.broker.queue("q", max_messages=2, overflow="dead_letter")
    for number in range(20):
        queue.send(number)
    dead = site.broker.queue("q.dead")
    assert numbers(dead) == list(range(18))
    dead.send_many(range(5))


@pytest.mark.parametrize("overflow", ["reject", *POLICIES])
def test_a_dedup_id_twice_in_a_batch(site: Any, overflow: Any) -> None:
    """The second needs no room, and nothing makes way for it."""
    queue = site.broker.queue("q", max_messages=101, overflow=overflow)
    queue.send(-1)
    batch = [Outgoing(n, dedup_id=str(n % 100)) for n in range(1000)]
    sent = queue.send_many(batch)
    assert sum(not one.duplicate for one in sent) == 100
    assert numbers(queue) == [-1, *range(99)]
    assert numbers(queue) == [99]


def test_no_room_in_time(site: Any) -> None:
    """A queue with a bound blocks, if nothing else is said: here nobody makes room."""
    queue = site.broker.queue("q", max_messages=2)
    queue.send_many([1, 2])
    with pytest.raises(errors.QueueFull):
        queue.send(3, timeout=0.02)
    with pytest.raises(errors.QueueFull):
        queue.send_many([3, 4, 5])
    queue.receive().ack()
    queue.send(3, timeout=0.02)
    assert numbers(queue) == [2, 3]


def test_other_bounds(site: Any) -> None:
    """They hold for what comes; what is there stays."""
    queue = site.broker.queue("q")
    queue.configure(max_messages=1, overflow="reject")
    queue.send(1)
    with pytest.raises(errors.QueueFull):
        queue.send(2)
    queue.configure(max_messages=None)
    queue.send(2)
    queue.configure(max_messages=1)  # what is there stays
    assert queue.depth() == 2
    with pytest.raises(errors.QueueFull):
        queue.send(3)
    assert numbers(queue) == [1, 2]
