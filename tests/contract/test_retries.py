"""Sends with retries, where nothing fails: stored as ever, under a dedup id."""

from typing import Any

import pytest

from embq import Outgoing, errors


def test_a_send_with_retries(broker: Any) -> None:
    """It is stored once, and no duplicate; its dedup id is made for it."""
    queue = broker.queue("q")
    sent = [queue.send("x", retries=3), broker.send("q", "x", retries=1)]
    assert [one.duplicate for one in sent] == [False, False]
    got = queue.receive_many(5)
    assert [message.id for message in got] == [one.id for one in sent]
    assert all(message.dedup_id for message in got)
    assert got[0].dedup_id != got[1].dedup_id


def test_a_batch_with_retries(broker: Any) -> None:
    """Each item without a dedup id gets one of its own; the others keep theirs."""
    queue = broker.queue("q")
    items = ["x", Outgoing("y", type="t"), Outgoing("z", dedup_id="a")]
    sent = queue.send_many([*items, Outgoing("w", dedup_id="a")], retries=2)
    assert [one.duplicate for one in sent] == [False, False, False, True]
    got = queue.receive_many(5)
    assert [message.data for message in got] == ["x", "y", "z"]
    assert [message.id for message in got] == [one.id for one in sent[:3]]
    assert got[2].dedup_id == "a"
    assert len({message.dedup_id for message in got}) == 3
    assert queue.send_many([], retries=2) == []


def test_a_dedup_id_that_is_given(broker: Any) -> None:
    """It is the sender's: what was sent under it before is found."""
    queue = broker.queue("q")
    first = queue.send("x", dedup_id="a", retries=1)
    again = queue.send("x", dedup_id="a", retries=1)
    assert (first.duplicate, again.duplicate) == (False, True)
    assert again.id == first.id


def test_a_queue_that_knows_no_dedup_ids(broker: Any) -> None:
    """There it is refused, whatever is given, and nothing is stored."""
    queue = broker.queue("q", dedup_window=0)
    for options in ({}, {"dedup_id": "a"}):
        with pytest.raises(errors.InvalidArgument):
            queue.send("x", retries=1, **options)
    with pytest.raises(errors.InvalidArgument):
        queue.send_many(["x", Outgoing("y", dedup_id="a")], retries=1)
    assert queue.depth() == 0
    queue.configure(dedup_window=60)
    queue.send("x", retries=1)
    assert queue.depth() == 1


def test_another_process_configures(site: Any) -> None:
    """What the queue is now counts, not what it was when it was opened."""
    queue = site.broker.queue("q")
    other = site.other().queue("q")
    other.configure(dedup_window=0)
    with pytest.raises(errors.InvalidArgument):
        queue.send("x", retries=1)
    other.configure(dedup_window=1)
    queue.send("x", retries=1)
    assert queue.depth() == 1


@pytest.mark.parametrize("retries", [-1, 1.5, True, False, None, "1"])
def test_what_is_no_number(broker: Any, retries: Any) -> None:
    """`retries` is a whole number from 0 on."""
    queue = broker.queue("q")
    with pytest.raises(errors.InvalidArgument):
        queue.send("x", retries=retries)
    with pytest.raises(errors.InvalidArgument):
        queue.send_many(["x"], retries=retries)
    assert queue.depth() == 0
