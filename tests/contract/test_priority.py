"""Priorities: higher ones go first; in each the rules of a plain queue hold."""

import contextlib
import sqlite3
from typing import Any

import pytest
from rig.invariants import broken

from embq import Outgoing, errors

AT_MOST = 100
#: In the order of sending, which is that of their lanes too.
MIXED = [Outgoing(n, key="k", priority=(1, 7, 9)[n]) for n in range(3)]


def data_of(messages: list[Any]) -> list[Any]:
    """Say what came, in order."""
    return [message.data for message in messages]


def test_higher_priorities_go_first(site: Any) -> None:
    """9 first and 0 last, whatever the order of sending; 4 is the default."""
    queue = site.broker.queue("q")
    for priority in (3, 9, 0, 5, 4, 7, 1, 8, 2, 6):
        queue.send(priority, priority=priority)
    queue.send("default")
    came = [queue.receive() for _ in range(11)]
    assert data_of(came) == [9, 8, 7, 6, 5, 4, "default", 3, 2, 1, 0]
    assert [m.priority for m in came] == [9, 8, 7, 6, 5, 4, 4, 3, 2, 1, 0]


def test_one_claim_takes_from_several(site: Any) -> None:
    """A batch is filled from the highest priority downwards."""
    queue = site.broker.queue("q")
    queue.send_many([Outgoing(n, priority=n % 3) for n in range(9)])
    assert data_of(queue.receive_many(5)) == [2, 5, 8, 1, 4]
    assert data_of(queue.receive_many(AT_MOST)) == [7, 0, 3, 6]


def test_names_of_priorities(site: Any) -> None:
    """The names low, normal and high are 2, 4 and 7."""
    queue = site.broker.queue("q")
    queue.send_many([Outgoing(n, priority=n) for n in ("low", "high", "normal")])
    came = queue.receive_many(AT_MOST)
    assert [(m.data, m.priority) for m in came] == [
        ("high", 7),
        ("normal", 4),
        ("low", 2),
    ]


def test_each_priority_is_in_the_order_of_sending(site: Any) -> None:
    """First in, first out within a priority, over several claims and processes."""
    here, there = site.broker.queue("q"), site.other().queue("q")
    for number in range(6):
        (here, there)[number % 2].send(number, priority=number // 3 + 6)
    assert data_of(there.receive_many(2)) == [3, 4]
    assert data_of(here.receive_many(3)) == [5, 0, 1]


def test_a_retry_goes_before_new_ones_of_its_priority_only(site: Any) -> None:
    """What failed at a low priority does not overtake a higher one."""
    queue = site.broker.queue("q")
    queue.send("low", priority=1)
    queue.receive().nack(delay=0)
    queue.send_many(
        [Outgoing("new low", priority=1), "normal", Outgoing("high", priority=8)]
    )
    came = data_of(queue.receive_many(AT_MOST))
    assert came == ["high", "normal", "low", "new low"]


def test_a_retry_storm_starves_no_new_one_of_its_priority(site: Any) -> None:
    """At least one hand-out in eight of a priority is new."""
    queue = site.broker.queue("q", max_receives=1000)
    queue.send_many([Outgoing("again", priority=9) for _ in range(20)])
    for message in queue.receive_many(20):
        message.nack(delay=0)
    queue.send("new", priority=9)
    came = data_of([queue.receive() for _ in range(8)])
    assert came == ["again"] * 7 + ["new"]


def test_a_suspect_waits_for_its_priority(site: Any) -> None:
    """A suspect of a low priority goes alone, once nothing higher is ready."""
    queue = site.broker.queue("q", visibility_timeout=10)
    queue.send("low", priority=0)
    assert queue.receive().data == "low"
    site.clock.advance(11)
    queue.send_many([Outgoing("high", priority=9), Outgoing("new low", priority=0)])
    assert data_of(queue.receive_many(AT_MOST)) == ["high", "new low"]
    assert data_of(queue.receive_many(AT_MOST)) == ["low"]


def test_what_is_given_back_keeps_its_place(site: Any) -> None:
    """The unhanded rest of a prefetched batch comes again in the same order."""
    queue = site.broker.queue("q")
    queue.send_many([Outgoing(n, priority=n) for n in (1, 8, 4)])
    for message in queue.messages(prefetch=3, wait=0):
        assert message.data == 8
        break
    message.nack(delay=0)
    came = queue.receive_many(AT_MOST)
    assert [(m.data, m.receive_count) for m in came] == [(8, 2), (4, 1), (1, 1)]


def test_a_dead_letter_keeps_its_priority(site: Any) -> None:
    """A dead-letter queue is a queue like any other: higher ones go first there."""
    queue = site.broker.queue("q")
    queue.send_many([Outgoing("a", priority=2), Outgoing("b", priority=9)])
    low, high = sorted(queue.receive_many(2), key=lambda message: message.priority)
    low.reject("first")
    high.reject("second")
    dead = site.broker.queue("q.dead").receive_many(2)
    assert [(m.data, m.priority) for m in dead] == [("b", 9), ("a", 2)]


def rejected(site: Any) -> None:
    """Bury by a verb."""
    queue = site.broker.queue("q", dead_letter="ordered")
    queue.send_many(MIXED)
    for message in sorted(queue.receive_many(AT_MOST), key=lambda m: m.data):
        message.reject("no")


def overflowed(site: Any) -> None:
    """Bury for want of room."""
    options = {"max_messages": 3, "overflow": "dead_letter"}
    queue = site.broker.queue("q", dead_letter="ordered", **options)
    queue.send_many(MIXED)
    queue.send_many([Outgoing("x")] * 3)


def perished(site: Any) -> None:
    """Bury by time."""
    queue = site.broker.queue("q", dead_letter="ordered", ttl=10)
    queue.send_many(MIXED)
    site.clock.advance(11)
    assert queue.receive() is None


def redriven(site: Any) -> None:
    """Bring them back."""
    site.broker.queue("graves").send_many(MIXED)
    assert site.broker.queue("graves").redrive(to="ordered").wait() == 3


@pytest.mark.parametrize("ordered", ["queue", "key"])
@pytest.mark.parametrize("move", [rejected, overflowed, perished, redriven])
def test_an_ordered_queue_gives_the_default_priority(
    site: Any, ordered: str, move: Any
) -> None:
    """What moves there goes in the order of its coming, and says so."""
    queue = site.broker.queue("ordered", ordered=ordered)
    move(site)
    for n in range(3):
        message = queue.receive()
        assert (message.data, message.priority) == (n, 4)
        assert queue.receive() is None
        message.ack()
    if site.kind == "core":
        with contextlib.closing(sqlite3.connect(site.path)) as connection:
            assert broken(connection) == []


def test_auto_ack_follows_priorities(site: Any) -> None:
    """At most once, too, the highest goes first."""
    queue = site.broker.queue("q")
    queue.send_many([Outgoing(n, priority=n) for n in range(6)])
    assert data_of(queue.receive_many(4, auto_ack=True)) == [5, 4, 3, 2]
    assert queue.depth() == 2


def test_counters_see_every_priority(site: Any) -> None:
    """Depth and stats add up over all of them, also before anybody received."""
    queue = site.broker.queue("q")
    queue.send_many([Outgoing("12345", priority=n) for n in range(10)])
    stats = queue.stats()
    assert (stats["messages"], stats["ready"], stats["sent"]) == (10, 10, 10)
    assert site.other().queue("q").depth() == 10
    queue.ack_many(queue.receive_many(7))
    assert (queue.depth(), queue.stats()["bytes"]) == (3, 21)


@pytest.mark.parametrize("value", [-1, 10, 1.0, True, "urgent", b"4"])
def test_odd_priorities(site: Any, value: Any) -> None:
    """CASE 43: what is no priority is refused, and nothing is stored."""
    queue = site.broker.queue("q")
    with pytest.raises(errors.InvalidArgument):
        queue.send("x", priority=value)
    with pytest.raises(errors.InvalidArgument):
        queue.send_many(["fine", Outgoing("x", priority=value)])
    assert queue.depth() == 0
