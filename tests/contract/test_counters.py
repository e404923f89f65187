"""Counters: depth and stats tell what happened, exactly."""

from typing import Any


def test_depth_is_the_sum_of_the_states(site: Any) -> None:
    """Depth = messages = ready + delayed + in_flight."""
    queue = site.broker.queue("q")
    queue.send_many(list(range(6)))
    taken = queue.receive_many(4)
    taken[0].ack()
    taken[1].nack(delay=10)
    stats = queue.stats()
    assert (stats["ready"], stats["delayed"], stats["in_flight"]) == (2, 1, 2)
    assert stats["messages"] == queue.depth() == 5
    site.clock.advance(10.01)
    stats = queue.stats()
    assert (stats["ready"], stats["delayed"], stats["in_flight"]) == (3, 0, 2)


def test_outcomes(site: Any) -> None:
    """Each verb is counted once, where it happened."""
    queue = site.broker.queue("q", visibility_timeout=10, max_receives=2)
    queue.send_many(list(range(5)))
    acked, nacked, rejected, expired, _ = queue.receive_many(5)
    acked.ack()
    nacked.nack(delay=0)
    rejected.reject("no")
    expired.extend(5)
    site.clock.advance(6)
    queue.receive().ack()  # the suspect, which is due before every nacked one
    expected = {
        "sent": 5,
        "delivered": 6,
        "redelivered": 1,
        "acked": 2,
        "nacked": 1,
        "rejected": 1,
        "expired": 1,
        "dead": 1,
        "messages": 2,
    }
    stats = queue.stats()
    assert {name: stats[name] for name in expected} == expected
    dead = site.broker.queue("q.dead").stats()
    assert (dead["messages"], dead["sent"], dead["rejected"]) == (1, 1, 0)


def test_a_nack_that_kills_is_nacked_and_dead(broker: Any) -> None:
    """The last nack counts as a nack and as a dead letter, not as a rejection."""
    queue = broker.queue("q", max_receives=1)
    queue.send("x")
    queue.receive().nack()
    stats = queue.stats()
    assert (stats["nacked"], stats["dead"], stats["rejected"]) == (1, 1, 0)


def test_auto_ack_is_delivered_and_acked(broker: Any) -> None:
    """At most once: handing out is acking."""
    queue = broker.queue("q")
    queue.send_many(["a", "b"])
    queue.receive_many(2, auto_ack=True)
    stats = queue.stats()
    assert (stats["delivered"], stats["acked"], stats["messages"]) == (2, 2, 0)


def test_given_back_was_not_delivered(broker: Any) -> None:
    """A message that nobody saw is not counted as delivered."""
    queue = broker.queue("q")
    queue.send_many(list(range(5)))
    for message in queue.messages(prefetch=5, wait=0):
        message.ack()
        break
    stats = queue.stats()
    assert (stats["delivered"], stats["acked"], stats["ready"]) == (1, 1, 4)


def test_bytes(broker: Any) -> None:
    """`bytes` is the size of the bodies that are not settled."""
    queue = broker.queue("q", codec="raw")
    queue.send_many([b"x" * 10, b"y" * 1000, b""])
    assert queue.stats()["bytes"] == 1010
    queue.receive().ack()
    assert queue.stats()["bytes"] == 1000
    for message in queue.receive_many(2):
        message.ack()
    assert queue.stats()["bytes"] == 0


def test_an_ended_lease_counts_until_noticed(site: Any) -> None:
    """Until a claim on any queue looks, an ended lease is in flight."""
    queue = site.broker.queue("q", visibility_timeout=10)
    other = site.broker.queue("other")
    queue.send("x")
    assert queue.receive() is not None
    site.clock.advance(11)
    assert queue.stats()["in_flight"] == 1
    assert other.receive() is None
    stats = queue.stats()
    assert (stats["in_flight"], stats["ready"], stats["expired"]) == (0, 1, 1)
