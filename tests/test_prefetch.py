"""Prefetch in the core: what is claimed ahead of a loop, and what never is."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_until

import embq

AHEAD = 8  # two batches of four are out at once


@pytest.fixture
def broker(path: Path) -> Iterator[embq.Broker]:
    """A broker of the core; here the model takes no part."""
    with embq.open(path, durability="normal") as opened:
        yield opened


def test_a_suspect_is_not_asked_for_ahead(broker: embq.Broker) -> None:
    """What is in hand is worked off first; only then is a suspect claimed."""
    queue, other = broker.queue("q", visibility_timeout=60), broker.queue("other")
    queue.send("suspect")
    held = queue.receive()
    assert held is not None
    queue.send_many(list(range(5 * AHEAD)))
    seen: list[object] = []
    for message in queue.messages(prefetch=AHEAD, wait=0):
        if message.data == "suspect":
            message.ack()
            break
        assert queue.stats()["redelivered"] == 0, "it was claimed beside others"
        seen.append(message.data)
        message.ack()
        if message.data == AHEAD - 4:  # from here on a batch is asked for ahead
            wait_until(lambda: queue.stats()["in_flight"] > AHEAD - 2, "nothing ahead")
            held.extend(0.001)
            time.sleep(0.01)
            assert other.receive() is None  # any claim looks for leases that ended
        elif message.data == AHEAD:
            time.sleep(0.1)  # the batch after this one is on its way
    assert seen == list(range(len(seen)))
    assert len(seen) >= 2 * AHEAD
    assert queue.stats()["redelivered"] == 1


def test_given_back_out_of_order_is_not_counted(broker: embq.Broker) -> None:
    """What a loop gives back behind another's claim has the count that it had."""
    queue = broker.queue("q")
    queue.send_many([0, 1, 2, 3])
    for message in queue.messages(prefetch=4, wait=0):  # two at a time
        message.ack()
        behind = queue.receive_many(2)
        break
    assert [message.data for message in behind] == [2, 3]
    again = queue.receive()
    assert again is not None
    assert (again.data, again.receive_count) == (1, 1)
    assert queue.stats()["delivered"] == 4
    assert queue.stats()["redelivered"] == 0
