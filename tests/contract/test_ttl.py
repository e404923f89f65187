"""TTL: what lived too long is not handed out; it is a dead letter, or dropped."""

from typing import Any

import pytest

from embq import Outgoing, errors

AT_MOST = 100


def test_it_becomes_a_dead_letter(site: Any) -> None:
    """With the reason, and the body as it was."""
    queue = site.broker.queue("q")
    queue.send("x", ttl=10, type="t")
    site.clock.advance(9.99)
    assert queue.stats()["ready"] == 1
    site.clock.advance(0.02)
    assert queue.receive() is None
    assert (queue.depth(), queue.stats()["dead"]) == (0, 1)
    (dead,) = site.broker.queue("q.dead").receive_many(AT_MOST)
    (record,) = dead.history
    assert (dead.data, dead.type, dead.expires_at) == ("x", "t", None)
    assert (record["queue"], record["reason"]) == ("q", "ttl")
    assert (record["receive_count"], record["first_at"]) == (0, None)


def test_it_is_dropped_by_choice(site: Any) -> None:
    """`expiry="drop"`: gone, and counted."""
    queue = site.broker.queue("q", expiry="drop")
    queue.send("x", ttl=10)
    site.clock.advance(11)
    assert queue.receive() is None
    stats = queue.stats()
    assert (stats["messages"], stats["dropped"], stats["dead"]) == (0, 1, 0)
    assert stats["bytes"] == 0


def test_without_a_dead_letter_queue_it_is_dropped(site: Any) -> None:
    """There is nowhere else to go."""
    queue = site.broker.queue("q", dead_letter=None)
    queue.send("x", ttl=10)
    site.clock.advance(11)
    assert queue.receive() is None
    assert queue.stats()["dropped"] == 1


def test_the_receiver_sees_when(site: Any) -> None:
    """`expires_at` is the time of sending and the ttl; None without."""
    queue = site.broker.queue("q")
    queue.send("x", ttl=10)
    queue.send("y")
    one, other = queue.receive_many(2)
    assert one.expires_at.timestamp() * 1000 == site.clock.wall_ms + 10_000
    assert other.expires_at is None


def test_the_ttl_of_the_queue(site: Any) -> None:
    """It holds where a send says nothing else."""
    queue = site.broker.queue("q", ttl=10)
    queue.send_many(["short", Outgoing("long", ttl=100)])
    site.clock.advance(11)
    assert [m.data for m in queue.receive_many(AT_MOST)] == ["long"]


def test_only_what_is_too_old_goes(site: Any) -> None:
    """The others of the queue stay, before and behind it."""
    queue = site.broker.queue("q")
    queue.send_many([Outgoing(n, ttl=10 if n % 2 else None) for n in range(6)])
    site.clock.advance(11)
    assert [m.data for m in queue.receive_many(AT_MOST)] == [0, 2, 4]


def test_it_counts_from_when_it_is_due(site: Any) -> None:
    """A delay is not part of a message's life."""
    queue = site.broker.queue("q")
    queue.send("x", delay=100, ttl=10)
    queue.send("y", delay=100, ttl=10)
    site.clock.advance(105)
    assert queue.receive().data == "x"
    site.clock.advance(6)
    assert queue.receive() is None
    assert site.broker.queue("q.dead").receive().data == "y"


def test_what_is_held_lives_on(site: Any) -> None:
    """A message in flight can be acked after its time."""
    queue = site.broker.queue("q", visibility_timeout=100)
    queue.send("x", ttl=10)
    message = queue.receive()
    site.clock.advance(20)
    assert queue.receive() is None
    message.ack()
    assert (queue.depth(), queue.stats()["dead"]) == (0, 0)


@pytest.mark.parametrize("how", ["nack", "expire", "give back", "late nack"])
def test_what_comes_back_too_late_goes(site: Any, how: str) -> None:
    """However its lease ends but by an ack: after its time it is not handed out."""
    queue = site.broker.queue("q", visibility_timeout=30)
    queue.send_many([Outgoing("x", ttl=10), Outgoing("y", ttl=10)])
    if how == "give back":
        for message in queue.messages(prefetch=2, wait=0):
            site.clock.advance(20)
            assert queue.receive() is None
            message.ack()
            break
    else:
        first, second = queue.receive_many(2)
        first.ack()
        site.clock.advance(40 if how == "expire" else 20)
        if how == "late nack":
            assert queue.receive() is None  # it was met, and was in flight
        if how != "expire":
            second.nack(delay=0)
    assert queue.receive() is None
    assert queue.depth() == 0
    (dead,) = site.broker.queue("q.dead").receive_many(AT_MOST)
    assert (dead.data, dead.history[-1]["reason"]) == ("y", "ttl")


def test_a_retry_that_waits_perishes(site: Any) -> None:
    """Also while the back-off of a nack runs."""
    queue = site.broker.queue("q")
    queue.send("x", ttl=10)
    queue.receive().nack(delay=100)
    site.clock.advance(11)
    assert queue.receive() is None
    (dead,) = site.broker.queue("q.dead").receive_many(AT_MOST)
    assert dead.history[0]["receive_count"] == 1


def test_a_claim_elsewhere_notices(site: Any) -> None:
    """Whoever waits for the dead letters gets them: any claim looks."""
    queue, other = site.broker.queue("q"), site.other()
    dead = other.queue("q.dead", dead_letter=None)
    queue.send("x", ttl=10)
    site.clock.advance(11)
    assert dead.receive().data == "x"


def test_every_priority(site: Any) -> None:
    """In whatever lane they are."""
    queue = site.broker.queue("q", expiry="drop")
    queue.send_many([Outgoing(n, priority=n, ttl=10 + n) for n in range(10)])
    site.clock.advance(15)
    assert [m.data for m in queue.receive_many(AT_MOST)] == [9, 8, 7, 6]
    assert queue.stats()["dropped"] == 6


def test_the_wall_clock_rules(site: Any) -> None:
    """CASE 50: set back, it gives time; what was met in flight perishes later."""
    queue = site.broker.queue("q")
    queue.send("x", ttl=10)
    message = queue.receive()
    site.clock.jump(20)
    assert queue.receive() is None
    site.clock.jump(-20)
    message.nack(delay=0)
    again = queue.receive()
    assert again.data == "x"
    again.nack(delay=0)
    site.clock.jump(20)
    assert queue.receive() is None
    assert site.broker.queue("q.dead").depth() == 1


def test_many_at_once(site: Any) -> None:
    """More than one step of the core; none is handed out meanwhile."""
    queue = site.broker.queue("q", expiry="drop")
    queue.send_many([Outgoing(n, ttl=10) for n in range(3000)])
    queue.send("alive")
    site.clock.advance(11)
    message = queue.receive(wait=0)
    assert message is not None
    assert message.data == "alive"
    assert queue.stats()["dropped"] == 3000


@pytest.mark.parametrize("value", [0, -1, True, "1", float("nan"), 1e12])
def test_odd_ttls(site: Any, value: Any) -> None:
    """CASE 43: what is no length of a life is refused, and nothing is stored."""
    queue = site.broker.queue("q")
    with pytest.raises(errors.InvalidArgument):
        queue.send("x", ttl=value)
    with pytest.raises(errors.InvalidArgument):
        site.broker.queue("other", ttl=value)
    assert queue.depth() == 0
