"""Prefetch: what was claimed ahead but not handed out goes back as if never claimed."""

from typing import Any


def test_leaving_a_loop_gives_back(broker: Any) -> None:
    """Unhanded messages are ready again at once, uncounted and in order."""
    queue = broker.queue("q")
    queue.send_many(list(range(10)))
    for message in queue.messages(prefetch=5, wait=0):
        message.ack()
        break
    stats = queue.stats()
    assert (stats["messages"], stats["ready"], stats["in_flight"]) == (9, 9, 0)
    taken = [queue.receive() for _ in range(9)]
    assert [message.data for message in taken] == list(range(1, 10))
    assert {message.receive_count for message in taken} == {1}


def test_what_was_handed_out_is_kept(broker: Any) -> None:
    """Leaving a loop does not give back what the handler holds."""
    queue = broker.queue("q")
    queue.send_many(["held", "left"])
    held = []
    for message in queue.messages(prefetch=2, wait=0):
        held.append(message)
        break
    assert queue.stats()["in_flight"] == 1
    held[0].ack()
    assert queue.receive().data == "left"


def test_a_handler_that_raises(site: Any) -> None:
    """CASE 38: an exception ends the loop, the message waits, the others are ready."""
    queue = site.broker.queue("q")
    queue.send_many(["bad", "next"])
    try:
        for message in queue.messages(prefetch=2, wait=0):
            with message:
                raise ZeroDivisionError  # noqa: TRY301
    except ZeroDivisionError:
        pass
    stats = queue.stats()
    assert (stats["ready"], stats["delayed"], stats["in_flight"]) == (1, 1, 0)
    assert queue.receive().data == "next"


def test_given_back_goes_before_new(broker: Any) -> None:
    """What was given back keeps its place before later messages."""
    queue = broker.queue("q")
    queue.send_many([1, 2])
    for message in queue.messages(prefetch=2, wait=0):
        message.ack()
        break
    queue.send(3)
    assert [queue.receive().data for _ in range(2)] == [2, 3]


def test_given_back_is_not_suspect(broker: Any) -> None:
    """Given-back messages come in one batch."""
    queue = broker.queue("q")
    queue.send_many(list(range(6)))
    for message in queue.messages(prefetch=6, wait=0):
        message.ack()
        break
    assert [message.data for message in queue.receive_many(10)] == [1, 2, 3, 4, 5]


def test_an_over_lease_is_not_handed_out(site: Any) -> None:
    """CASE 49: a prefetched message whose lease ran out is not handed over."""
    queue = site.broker.queue("q", visibility_timeout=10)
    queue.send_many(["first", "stalled"])
    seen = []
    for message in queue.messages(prefetch=4, wait=0):
        # Were the lease of what we got over, this would claim it: a claim looks first.
        assert queue.receive() is None, f"{message.data} came with a lease that is over"
        seen.append(message.data)
        if message.data == "first":
            site.clock.advance(11)
        message.ack()
    assert seen == ["first", "stalled"]


def test_the_loop_ends_when_nothing_comes(broker: Any) -> None:
    """`messages(wait=0)` hands out all that is ready and ends."""
    queue = broker.queue("q")
    queue.send_many(list(range(30)))
    seen = []
    for message in queue.messages(prefetch=7, wait=0):
        seen.append(message.data)
        message.ack()
    assert seen == list(range(30))
    assert queue.depth() == 0


def test_the_loop_sees_what_is_sent_meanwhile(broker: Any) -> None:
    """CASE 38: a handler may send to its own queue; the loop goes on with it."""
    queue = broker.queue("q")
    queue.send(3)
    seen = []
    for message in queue.messages(prefetch=1, wait=0):
        seen.append(message.data)
        if message.data:
            queue.send(message.data - 1)
        message.ack()
    assert seen == [3, 2, 1, 0]
