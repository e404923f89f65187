"""Settling: ack, nack, reject and extend need the receipt of the current delivery."""

from typing import Any

import pytest

from embq import errors

VERBS = {
    "ack": lambda message: message.ack(),
    "nack": lambda message: message.nack(),
    "reject": lambda message: message.reject("no"),
    "extend": lambda message: message.extend(60),
}
each_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())


def test_ack_removes(broker: Any) -> None:
    """After `ack` the message is gone."""
    queue = broker.queue("q")
    queue.send("x")
    queue.receive().ack()
    assert queue.depth() == 0
    assert queue.receive() is None


@each_verb
@pytest.mark.parametrize("first", ["ack", "nack", "reject"])
def test_settled_is_settled(broker: Any, first: str, verb: Any) -> None:
    """CASE 45: a second verb on a delivery is `LeaseLost` and changes nothing."""
    queue = broker.queue("q")
    queue.send("x")
    message = queue.receive()
    VERBS[first](message)
    before = queue.stats()
    with pytest.raises(errors.LeaseLost):
        verb(message)
    after = queue.stats()
    assert after["messages"] == before["messages"]
    assert after["acked"] == before["acked"]
    assert after["nacked"] == before["nacked"]
    assert after["rejected"] == before["rejected"]


@each_verb
@pytest.mark.parametrize("noticed", [False, True])
def test_an_ended_lease_may_still_be_settled(
    site: Any, verb: Any, *, noticed: bool
) -> None:
    """CASE 46: every verb works after expiry as long as nobody claimed again."""
    queue = site.broker.queue("q", visibility_timeout=30)
    empty = site.broker.queue("empty")
    queue.send("x")
    message = queue.receive()
    site.clock.advance(31)
    if noticed:
        assert empty.receive() is None  # any claim on the file looks for ended leases
        assert queue.stats()["in_flight"] == 0
    verb(message)
    if verb is VERBS["extend"]:
        message.ack()  # extend alone leaves the message held
    with pytest.raises(errors.LeaseLost):
        message.ack()


@each_verb
def test_another_consumer_is_not_disturbed(site: Any, verb: Any) -> None:
    """CASE 47: after another's claim the old receipt does nothing."""
    here = site.broker.queue("q", visibility_timeout=30)
    there = site.other().queue("q")
    here.send("x")
    old = here.receive()
    site.clock.advance(31)
    new = there.receive()
    assert new.id == old.id
    assert new.receive_count == 2
    with pytest.raises(errors.LeaseLost):
        verb(old)
    assert here.stats()["in_flight"] == 1
    new.ack()
    assert here.depth() == 0


@each_verb
def test_the_same_consumer_claims_again(site: Any, verb: Any) -> None:
    """CASE 47: a receipt is good for one delivery, also within one process."""
    queue = site.broker.queue("q", visibility_timeout=30)
    queue.send("x")
    old = queue.receive()
    old.nack(delay=0)
    new = queue.receive()
    with pytest.raises(errors.LeaseLost):
        verb(old)
    new.ack()


def test_a_message_of_another_queue(broker: Any) -> None:
    """CASE 48: `ack_many` with another queue's message settles nothing anywhere."""
    one, two = broker.queue("one"), broker.queue("two")
    one.send("1")
    two.send("2")
    of_one, of_two = one.receive(), two.receive()
    with pytest.raises((errors.InvalidReceipt, errors.LeaseLost)):
        two.ack_many([of_one])
    assert one.depth() == 1
    assert two.depth() == 1
    of_one.ack()
    of_two.ack()


def test_ack_many(broker: Any) -> None:
    """`ack_many` settles what is held, and says `LeaseLost` when nothing was."""
    queue = broker.queue("q")
    queue.send_many(list(range(10)))
    taken = queue.receive_many(10)
    taken[3].ack()
    queue.ack_many(taken)
    assert queue.depth() == 0
    assert queue.stats()["acked"] == 10
    with pytest.raises(errors.LeaseLost):
        queue.ack_many(taken)


def test_acks_in_any_order(broker: Any) -> None:
    """A batch may be settled in any order; what is left is still held."""
    queue = broker.queue("q")
    queue.send_many(list(range(8)))
    taken = queue.receive_many(8)
    for number in (7, 0, 3, 5, 4):
        taken[number].ack()
    assert queue.depth() == 3
    assert queue.receive() is None
    for number in (6, 1, 2):
        taken[number].ack()
    assert queue.depth() == 0


def test_ack_nowait(broker: Any) -> None:
    """A staged ack is done after `flush`."""
    queue = broker.queue("q")
    queue.send_many(["a", "b"])
    for message in queue.receive_many(2):
        message.ack_nowait()
    broker.flush()
    assert queue.depth() == 0


def test_a_failed_ack_nowait_is_raised_by_flush(broker: Any) -> None:
    """What a staged ack met is not swallowed by `flush`, nor told twice."""
    queue = broker.queue("q")
    queue.send("a")
    message = queue.receive()
    message.ack()
    message.ack_nowait()
    with pytest.raises(errors.LeaseLost):
        broker.flush()
    broker.flush()


def test_extend_holds_longer(site: Any) -> None:
    """`extend` sets the deadline of this message only."""
    queue = site.broker.queue("q", visibility_timeout=30)
    queue.send_many(["held", "left"])
    held, left = queue.receive_many(2)
    site.clock.advance(20)
    held.extend(100)
    site.clock.advance(50)
    again = queue.receive()
    assert again.id == left.id
    assert queue.receive() is None
    site.clock.advance(51)
    again.ack()
    assert queue.receive().id == held.id


def test_extend_can_shorten(site: Any) -> None:
    """`extend` counts from now, so it can also end a hold earlier."""
    queue = site.broker.queue("q", visibility_timeout=1000)
    queue.send("x")
    queue.receive().extend(5)
    site.clock.advance(6)
    assert queue.receive().receive_count == 2


def test_with_acks(broker: Any) -> None:
    """`with message` acks at the end."""
    queue = broker.queue("q")
    queue.send("x")
    with queue.receive() as message:
        assert message.data == "x"
    assert queue.depth() == 0


def test_with_nacks_on_an_exception(site: Any) -> None:
    """`with message` nacks when its block raises, and the exception goes on."""
    queue = site.broker.queue("q")
    queue.send("x")
    with pytest.raises(KeyError), queue.receive():
        raise KeyError
    assert queue.stats()["nacked"] == 1
    site.clock.advance(1000)
    assert queue.receive().receive_count == 2


def test_auto_ack(broker: Any) -> None:
    """With `auto_ack` the message is gone before it is handed over."""
    queue = broker.queue("q")
    queue.send_many(["a", "b", "c"])
    message = queue.receive(auto_ack=True)
    assert message.data == "a"
    assert queue.depth() == 2
    with pytest.raises(errors.LeaseLost):
        message.ack()
    assert [one.data for one in queue.receive_many(5, auto_ack=True)] == ["b", "c"]
    assert queue.depth() == 0


def test_auto_ack_in_a_loop(broker: Any) -> None:
    """`messages(auto_ack=True)` hands out everything once and in order."""
    queue = broker.queue("q")
    queue.send_many(list(range(20)))
    loop = queue.messages(prefetch=5, wait=0, auto_ack=True)
    assert [message.data for message in loop] == list(range(20))
    assert queue.depth() == 0


def test_at_most_the_prefetch_is_removed_ahead(broker: Any) -> None:
    """A loop with `auto_ack` removes no more than `prefetch` before it hands out."""
    queue = broker.queue("q")
    queue.send_many(list(range(20)))
    for message in queue.messages(prefetch=4, wait=0, auto_ack=True):
        handed_out = message.data + 1
        assert 20 - queue.depth() - handed_out <= 4 - 1
