"""Dedup ids: what is sent again within the window is stored once."""

from typing import Any

import pytest

from embq import Outgoing, errors

AT_MOST = 100


def test_a_second_send_is_a_duplicate(site: Any) -> None:
    """It says so, with the id of the first, and stores nothing."""
    queue = site.broker.queue("q")
    first = queue.send("x", dedup_id="a")
    second = queue.send("y", dedup_id="a")
    assert (first.duplicate, second.duplicate) == (False, True)
    assert second.id == first.id
    (message,) = queue.receive_many(AT_MOST)
    assert (message.data, message.id, message.dedup_id) == ("x", first.id, "a")
    stats = queue.stats()
    assert (stats["sent"], stats["duplicates"], stats["messages"]) == (1, 1, 1)


def test_other_ids_and_none(site: Any) -> None:
    """Only equal ids are duplicates; without one nothing is."""
    queue = site.broker.queue("q")
    queue.send_many(
        ["x", "x", Outgoing("x", dedup_id="a"), Outgoing("x", dedup_id="b")]
    )
    queue.send("x", dedup_id="")
    assert queue.depth() == 5
    assert queue.send("x", dedup_id="").duplicate


def test_when_the_message_is_gone(site: Any) -> None:
    """It is known for the whole window, whatever became of the message."""
    queue = site.broker.queue("q")
    first = queue.send("x", dedup_id="a")
    queue.receive().ack()
    again = queue.send("x", dedup_id="a")
    assert (again.duplicate, again.id) == (True, first.id)
    assert queue.depth() == 0


def test_the_window(site: Any) -> None:
    """After 300 s by default it is sent anew; a duplicate does not make it longer."""
    queue = site.broker.queue("q")
    first = queue.send("x", dedup_id="a")
    site.clock.advance(299)
    assert queue.send("x", dedup_id="a").duplicate
    site.clock.advance(2)
    second = queue.send("x", dedup_id="a")
    assert (second.duplicate, second.id != first.id) == (False, True)
    assert queue.send("x", dedup_id="a").id == second.id


def test_another_window(site: Any) -> None:
    """As the queue says."""
    queue = site.broker.queue("q", dedup_window=10)
    queue.send("x", dedup_id="a")
    site.clock.advance(9)
    assert queue.send("x", dedup_id="a").duplicate
    site.clock.advance(2)
    assert not queue.send("x", dedup_id="a").duplicate


def test_no_window(site: Any) -> None:
    """With a window of 0 nothing is a duplicate."""
    queue = site.broker.queue("q", dedup_window=0)
    assert not any(queue.send("x", dedup_id="a").duplicate for _ in range(3))


def test_queues_are_apart(site: Any) -> None:
    """The id belongs to the queue."""
    one, other = site.broker.queue("one"), site.broker.queue("other")
    assert not one.send("x", dedup_id="a").duplicate
    assert not other.send("x", dedup_id="a").duplicate


def test_processes_are_not(site: Any) -> None:
    """What one process sent is known to the others."""
    here, there = site.broker.queue("q"), site.other().queue("q")
    first = here.send("x", dedup_id="a")
    again = there.send("x", dedup_id="a")
    assert (again.duplicate, again.id) == (True, first.id)


def test_within_a_batch(site: Any) -> None:
    """The second of two in one batch is a duplicate of the first."""
    queue = site.broker.queue("q")
    sent = queue.send_many(
        [
            Outgoing("x", dedup_id="a"),
            Outgoing("y", dedup_id="a"),
            Outgoing("z", priority=9),
            "plain",
        ]
    )
    assert [one.duplicate for one in sent] == [False, True, False, False]
    assert sent[0].id == sent[1].id
    came = queue.receive_many(AT_MOST)
    assert [m.data for m in came] == ["z", "x", "plain"]
    assert [m.id for m in came] == [sent[2].id, sent[0].id, sent[3].id]
    queue.ack_many(came)
    assert queue.stats()["bytes"] == 0


def test_with_a_delay_and_a_priority(site: Any) -> None:
    """The first one counts, with all that it said."""
    queue = site.broker.queue("q")
    first = queue.send("later", dedup_id="a", delay=10, priority=9)
    assert queue.send("now", dedup_id="a").id == first.id
    assert queue.receive() is None
    site.clock.advance(11)
    assert queue.receive().data == "later"


def test_staged(site: Any) -> None:
    """The ticket of a staged send tells."""
    queue = site.broker.queue("q")
    first = queue.send_nowait("x", dedup_id="a").result()
    again = queue.send_nowait("x", dedup_id="a").result()
    assert (again.duplicate, again.id) == (True, first.id)


def test_a_dead_letter_is_no_send(site: Any) -> None:
    """Moving there is not stopped by what was sent there."""
    queue, dead = site.broker.queue("q"), site.broker.queue("q.dead")
    dead.send("x", dedup_id="a")
    queue.send("y", dedup_id="a")
    queue.receive().reject("no")
    assert dead.depth() == 2


def test_a_refused_send_leaves_no_trace(site: Any) -> None:
    """What was too large can be sent in a smaller form."""
    queue = site.broker.queue("q", max_body=100)
    with pytest.raises(errors.MessageTooLarge):
        queue.send("x" * 200, dedup_id="a")
    with pytest.raises(errors.MessageTooLarge):
        queue.send_many([Outgoing("x", dedup_id="b"), "x" * 200])
    assert not queue.send("x", dedup_id="a").duplicate
    assert not queue.send("x", dedup_id="b").duplicate


@pytest.mark.parametrize("value", [1, b"a", 1.5])
def test_odd_dedup_ids(site: Any, value: Any) -> None:
    """CASE 43: what is no text is refused."""
    queue = site.broker.queue("q")
    with pytest.raises(errors.InvalidArgument):
        queue.send("x", dedup_id=value)
    assert queue.depth() == 0
