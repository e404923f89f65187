"""Ordered queues: one message of a key at a time, in the order of sending."""

from typing import Any

import pytest

from embq import Backoff, Outgoing, errors

AT_MOST = 100
STEADY = Backoff(5.0, factor=1, jitter=False)


def keyed(queue: Any, text: str) -> None:
    """Send messages whose keys are the letters, as `a1 b1 a2`."""
    queue.send_many([Outgoing(word, key=word[0]) for word in text.split()])


def came(queue: Any, limit: int = AT_MOST) -> list[str]:
    """Receive what there is, in the order of the keys."""
    return sorted(message.data for message in queue.receive_many(limit))


def drained(queue: Any) -> list[str]:
    """Receive and ack one by one until there is none."""
    order = []
    while message := queue.receive():
        order.append(message.data)
        message.ack()
    return order


def test_one_of_a_key_at_a_time(site: Any) -> None:
    """While one is in flight its key waits, and other keys pass."""
    queue = site.broker.queue("q", ordered="key")
    keyed(queue, "a1 a2 b1 a3 b2 c1")
    held = {message.data: message for message in queue.receive_many(AT_MOST)}
    assert sorted(held) == ["a1", "b1", "c1"]
    assert queue.receive() is None
    held["a1"].ack()
    assert came(queue) == ["a2"]
    held["b1"].ack()
    held["c1"].ack()
    assert came(queue) == ["b2"]
    assert (queue.depth(), queue.stats()["in_flight"]) == (3, 2)


def test_across_processes(site: Any) -> None:
    """What one process holds keeps the key back in the others."""
    here, there = site.broker.queue("q", ordered="key"), site.other().queue("q")
    keyed(here, "a1 a2 b1 b2")
    first = here.receive()
    assert first.data == "a1"
    assert came(there) == ["b1"]
    first.ack()
    assert came(there) == ["a2"]


def test_one_by_one(site: Any) -> None:
    """A loop of receive and ack sees each key in order."""
    queue = site.broker.queue("q", ordered="key")
    keyed(queue, "a1 b1 a2 c1 b2 a3 c2 b3 c3")
    order = drained(queue)
    for key in "abc":
        of_key = [word for word in order if word[0] == key]
        assert of_key == [f"{key}1", f"{key}2", f"{key}3"]


def test_a_failed_one_keeps_its_key_back(site: Any) -> None:
    """Until its retry is done, or it is a dead letter; other keys pass."""
    queue = site.broker.queue("q", ordered="key", retry=STEADY, max_receives=2)
    keyed(queue, "a1 a2 b1")
    message = queue.receive()
    assert message.data == "a1"
    message.nack()
    assert came(queue) == ["b1"]
    site.clock.advance(5.01)
    again = queue.receive()
    assert (again.data, again.receive_count) == ("a1", 2)
    again.nack()
    assert came(queue) == ["a2"]
    assert site.broker.queue("q.dead").depth() == 1


def test_a_rejected_one_lets_the_next_go(site: Any) -> None:
    """To the dead letters at once, and the key goes on."""
    queue = site.broker.queue("q", ordered="key")
    keyed(queue, "a1 a2")
    queue.receive().reject("no")
    assert came(queue) == ["a2"]


def test_an_ended_lease_goes_first(site: Any) -> None:
    """The one whose lease ended comes before the later ones of its key."""
    queue = site.broker.queue("q", ordered="key", visibility_timeout=10)
    keyed(queue, "a1 a2")
    late = queue.receive()
    assert queue.receive() is None
    site.clock.advance(11)
    again = queue.receive()
    assert (again.data, again.receive_count) == ("a1", 2)
    with pytest.raises(errors.LeaseLost):
        late.ack()
    again.ack()
    assert came(queue) == ["a2"]


def test_a_death(site: Any) -> None:
    """CASE 17: what a dead process held comes first of its key."""
    queue = site.broker.queue("q", ordered="key", visibility_timeout=1000)
    keyed(queue, "a1 a2 b1")
    other = site.other()
    assert len(other.queue("q").receive_many(2)) == 2
    site.kill(other, queue, in_flight=0)
    order = drained(queue)
    assert sorted(order) == ["a1", "a2", "b1"]
    assert order.index("a1") < order.index("a2")


def test_without_a_key(site: Any) -> None:
    """Messages without a key wait for nobody, and nobody for them."""
    queue = site.broker.queue("q", ordered="key")
    queue.send_many(["x", "y", Outgoing("a1", key="a"), Outgoing("e", key="")])
    assert came(queue) == ["a1", "e", "x", "y"]


def test_prefetch(site: Any) -> None:
    """The loop hands out each key in order; what it gives back keeps its place."""
    queue = site.broker.queue("q", ordered="key")
    keyed(queue, "a1 b1 a2 b2")
    order = []
    for message in queue.messages(prefetch=10, wait=0):
        order.append(message.data)
        message.ack()
        break
    for message in queue.messages(prefetch=10, wait=0):
        order.append(message.data)
        message.ack()
    assert sorted(order) == ["a1", "a2", "b1", "b2"]
    assert order.index("a1") < order.index("a2")
    assert order.index("b1") < order.index("b2")


def test_at_most_once(site: Any) -> None:
    """`auto_ack` frees the key at once, and the next may come in the same batch."""
    queue = site.broker.queue("q", ordered="key")
    keyed(queue, "a1 a2 b1")
    order = []
    while taken := queue.receive_many(AT_MOST, auto_ack=True):
        order += [message.data for message in taken]
    assert sorted(order) == ["a1", "a2", "b1"]
    assert order.index("a1") < order.index("a2")
    assert queue.depth() == 0


def test_auto_ack_waits_for_the_key(site: Any) -> None:
    """At most once too, nothing passes another of its key that is in flight."""
    queue = site.broker.queue("q", ordered="key")
    keyed(queue, "a1 a2 b1 b2")
    first = queue.receive()
    taken = []
    while some := queue.receive_many(AT_MOST, auto_ack=True):
        taken += [message.data for message in some]
    assert taken == ["b1", "b2"]
    first.ack()
    assert queue.receive(auto_ack=True).data == "a2"
    assert queue.depth() == 0


def test_what_is_given_back_frees_its_key(site: Any) -> None:
    """Prefetched and not handed out, it is as new as before, and so is its key."""
    queue = site.broker.queue("q", ordered="key")
    keyed(queue, "a1 b1")
    for message in queue.messages(prefetch=10, wait=0):
        assert message.data == "a1"
        break
    keyed(queue, "b2")
    (again,) = queue.receive_many(AT_MOST) or [None]
    assert again, "its key is free no more"
    assert (again.data, again.receive_count) == ("b1", 1)
    again.ack()
    assert came(queue) == ["b2"]


def test_a_ttl_frees_the_key(site: Any) -> None:
    """When the first perishes the next may go; when one behind it does, nothing."""
    queue = site.broker.queue("q", ordered="key", expiry="drop", retry=STEADY)
    queue.send_many(
        [
            Outgoing("a1", key="a", ttl=3),
            Outgoing("a2", key="a", ttl=2),
            Outgoing("a3", key="a"),
        ]
    )
    queue.receive().nack()
    assert queue.receive() is None
    site.clock.advance(2.5)
    assert queue.receive() is None
    assert queue.stats()["dropped"] == 1
    site.clock.advance(1)
    assert queue.receive().data == "a3"


def test_what_perishes_behind_another_frees_nothing(site: Any) -> None:
    """The key is that of the one in flight, whoever is gone behind it."""
    queue = site.broker.queue("q", ordered="key", expiry="drop")
    queue.send_many(
        [Outgoing(f"a{n}", key="a", ttl=ttl) for n, ttl in ((1, 9), (2, 2), (3, 9))]
    )
    first = queue.receive()
    assert came(queue) == []
    site.clock.advance(2.5)
    assert came(queue) == []
    assert queue.stats()["dropped"] == 1
    first.ack()
    assert came(queue) == ["a3"]


def test_many_behind_one(site: Any) -> None:
    """More than the core looks through in one step."""
    queue = site.broker.queue("q", ordered="key")
    queue.send_many([Outgoing(n, key="a") for n in range(1500)])
    first = queue.receive()
    assert queue.receive() is None
    queue.send("b1", key="b")
    assert queue.receive().data == "b1"
    first.ack()
    assert [m.data for m in queue.receive_many(AT_MOST)] == [1]


def test_the_whole_queue(site: Any) -> None:
    """`ordered="queue"`: one after another, whatever the keys, retries included."""
    queue = site.broker.queue("q", ordered="queue", retry=STEADY)
    keyed(queue, "a1 b1 c1")
    (message,) = queue.receive_many(AT_MOST)
    assert message.data == "a1"
    assert queue.receive() is None
    message.nack()
    assert queue.receive() is None
    site.clock.advance(5.01)
    message = queue.receive()
    assert (message.data, message.receive_count) == ("a1", 2)
    message.ack()
    for data in ("b1", "c1"):
        message = queue.receive()
        assert message.data == data
        assert queue.receive() is None
        message.ack()


def test_the_whole_queue_over_processes(site: Any) -> None:
    """One in flight anywhere keeps all back; a death gives it to the next."""
    queue = site.broker.queue("q", ordered="queue", visibility_timeout=1000)
    keyed(queue, "a1 b1")
    other = site.other()
    assert other.queue("q").receive().data == "a1"
    assert queue.receive() is None
    site.kill(other, queue, in_flight=0)
    assert queue.receive().data == "a1"


@pytest.mark.parametrize("ordered", ["key", "queue"])
@pytest.mark.parametrize("fields", [{"priority": 5}, {"delay": 1}])
def test_what_would_change_the_order(
    site: Any, ordered: str, fields: dict[str, Any]
) -> None:
    """No priority and no delay: refused, and nothing is stored."""
    queue = site.broker.queue("q", ordered=ordered)
    with pytest.raises(errors.InvalidArgument):
        queue.send("x", **fields)
    with pytest.raises(errors.InvalidArgument):
        queue.send_many(["fine", Outgoing("x", **fields)])
    queue.send("x", priority=4, delay=0)
    assert queue.depth() == 1


@pytest.mark.parametrize("options", [{"ordered": "keys"}, {"ordered": True}])
def test_odd_orders(site: Any, options: dict[str, Any]) -> None:
    """What is no order is refused."""
    with pytest.raises(errors.InvalidArgument):
        site.broker.queue("q", **options)


def test_order_and_delay(site: Any) -> None:
    """A queue cannot have both: the wall clock may be set back."""
    with pytest.raises(errors.InvalidArgument):
        site.broker.queue("q", ordered="key", delay=1)


def test_the_order_is_stored(site: Any) -> None:
    """Another order than the stored one is a mismatch."""
    site.broker.queue("q", ordered="key")
    with pytest.raises(errors.ConfigMismatch):
        site.broker.queue("q", ordered="queue")
    with pytest.raises(errors.ConfigMismatch):
        site.broker.queue("q", ordered=False)
