"""Delays: a message is stored at once and handed out when it is due."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embq import Outgoing, errors

AT_MOST = 100
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001  (that is what is tested)


def now(site: Any) -> datetime:
    """Give the test's wall clock."""
    return datetime.fromtimestamp(site.clock.wall_ms / 1000, UTC)


def test_delay(site: Any) -> None:
    """It counts as delayed until then, and comes with its first receive."""
    queue = site.broker.queue("q")
    queue.send("later", delay=10)
    assert (queue.depth(), queue.stats()["delayed"]) == (1, 1)
    assert queue.receive() is None
    site.clock.advance(9.99)
    assert queue.receive() is None
    site.clock.advance(0.02)
    assert queue.stats()["ready"] == 1
    message = queue.receive()
    assert (message.data, message.receive_count) == ("later", 1)
    message.ack()
    assert queue.depth() == 0


def test_at(site: Any) -> None:
    """A point of time, in any zone; one that is past is now."""
    queue = site.broker.queue("q")
    zone = now(site).astimezone().tzinfo
    queue.send("later", at=(now(site) + timedelta(hours=1)).astimezone(zone))
    queue.send("past", at=now(site) - timedelta(days=1))
    queue.send("long past", at=datetime(1900, 1, 1, tzinfo=UTC))
    came = queue.receive_many(AT_MOST, auto_ack=True)
    assert [message.data for message in came] == ["past", "long past"]
    site.clock.advance(3601)
    assert queue.receive().data == "later"


def test_due_ones_come_in_the_order_of_their_times(site: Any) -> None:
    """Not in that of sending; those of one time in that of sending."""
    queue = site.broker.queue("q")
    for data, delay in (("c", 30), ("a", 10), ("b1", 20), ("b2", 20)):
        queue.send(data, delay=delay)
    site.clock.advance(31)
    came = [message.data for message in queue.receive_many(AT_MOST)]
    assert came == ["a", "b1", "b2", "c"]


def test_a_delayed_one_does_not_keep_others_back(site: Any) -> None:
    """What is ready passes by; once due, it goes before what is new."""
    queue = site.broker.queue("q")
    queue.send("later", delay=10)
    queue.send("now")
    assert queue.receive().data == "now"
    site.clock.advance(11)
    queue.send("new")
    assert [m.data for m in queue.receive_many(AT_MOST)] == ["later", "new"]


def test_a_delayed_one_has_its_priority(site: Any) -> None:
    """Once due it takes part at its priority."""
    queue = site.broker.queue("q")
    queue.send_many(
        [
            Outgoing("low", delay=5, priority=1),
            Outgoing("high", delay=9, priority=8),
            Outgoing("plain"),
        ]
    )
    site.clock.advance(10)
    came = [message.data for message in queue.receive_many(AT_MOST)]
    assert came == ["high", "plain", "low"]


def test_the_delay_of_the_queue(site: Any) -> None:
    """It holds where a send says nothing else; 0 and `at` do."""
    queue = site.broker.queue("q", delay=10)
    queue.send("by the queue")
    queue.send("at once", delay=0)
    queue.send("later", delay=20)
    queue.send("at", at=now(site))
    assert [m.data for m in queue.receive_many(AT_MOST)] == ["at once", "at"]
    site.clock.advance(11)
    assert [m.data for m in queue.receive_many(AT_MOST)] == ["by the queue"]


def test_it_fails_like_any_other(site: Any) -> None:
    """Nack, end of a lease and burial of one that was sent with a delay."""
    queue = site.broker.queue("q", visibility_timeout=30, max_receives=3)
    queue.send("x", delay=5)
    site.clock.advance(6)
    queue.receive().nack(delay=5)
    assert queue.receive() is None
    site.clock.advance(6)
    assert queue.receive().receive_count == 2
    site.clock.advance(31)
    queue.receive().reject("no")
    (dead,) = site.broker.queue("q.dead").receive_many(AT_MOST)
    assert dead.history[0]["receive_count"] == 3


def test_what_is_given_back_is_due(site: Any) -> None:
    """Prefetched and not handed out: it does not wait again, and is not counted."""
    queue = site.broker.queue("q")
    queue.send_many([Outgoing(n, delay=5) for n in range(3)])
    site.clock.advance(6)
    for message in queue.messages(prefetch=3, wait=0):
        message.ack()
        break
    came = queue.receive_many(AT_MOST)
    assert [(m.data, m.receive_count) for m in came] == [(1, 1), (2, 1)]


def test_at_most_once(site: Any) -> None:
    """`auto_ack` removes it when it is due."""
    queue = site.broker.queue("q")
    queue.send("x", delay=5)
    assert queue.receive(auto_ack=True) is None
    site.clock.advance(6)
    assert queue.receive(auto_ack=True).data == "x"
    assert queue.depth() == 0


def test_the_wall_clock_rules(site: Any) -> None:
    """CASE 50: when the wall clock jumps, delays follow it."""
    queue = site.broker.queue("q")
    queue.send("x", delay=100)
    site.clock.jump(101)
    assert queue.receive().data == "x"


def test_another_process(site: Any) -> None:
    """Sent here with a delay, received there."""
    queue, other = site.broker.queue("q"), site.other()
    there = other.queue("q")
    assert there.receive() is None
    queue.send("x", delay=5)
    assert there.stats()["delayed"] == 1
    site.clock.advance(6)
    assert there.receive().data == "x"


def test_a_hundred_years(site: Any) -> None:
    """CASE 43: the longest delay is taken, and more is refused."""
    queue = site.broker.queue("q")
    queue.send("x", delay=timedelta(days=36_525))
    with pytest.raises(errors.InvalidArgument):
        queue.send("x", delay=timedelta(days=36_525, seconds=1))
    assert queue.stats()["delayed"] == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"delay": -1},
        {"delay": float("nan")},
        {"delay": float("inf")},
        {"delay": True},
        {"delay": "1"},
        {"at": NAIVE},
        {"at": 1.5},
        {"at": datetime(2030, 1, 1, tzinfo=UTC), "delay": 1},
    ],
)
def test_odd_times(site: Any, fields: dict[str, Any]) -> None:
    """CASE 43: what is no time is refused, and nothing is stored."""
    queue = site.broker.queue("q")
    with pytest.raises(errors.InvalidArgument):
        queue.send("x", **fields)
    assert queue.depth() == 0
