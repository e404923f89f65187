"""Looking at messages: what is seen is what there is, and nothing is changed by it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import embq
from embq import Outgoing

AT_MOST = 100
SOON = timedelta(seconds=100)


def data_of(messages: Any) -> list[Any]:
    """List what they say."""
    return [message.data for message in messages]


@pytest.fixture
def opened(path: Path) -> Iterator[embq.Broker]:
    """Open a file, by the clocks of the machine."""
    with embq.open(path, durability="normal") as broker:
        yield broker


@pytest.fixture
def mixed(opened: embq.Broker) -> embq.Queue[Any]:
    """Give a queue with something in every state but blocked."""
    queue = opened.queue("q", max_receives=9)
    queue.send_many(["held", "failed", "back"])
    held, failed, back = queue.receive_many(3)
    queue.send_many(["low", "new", Outgoing("high", priority=9)])
    queue.send("late", delay=100)
    failed.nack(delay=100, error="it failed")
    back.nack(delay=0)
    held._settled = True
    return queue


def test_peek_is_the_order_of_receive(mixed: embq.Queue[Any]) -> None:
    """What would come next, in that order, and then it does."""
    seen = data_of(mixed.peek(AT_MOST))
    assert seen == ["high", "back", "low", "new"]
    assert data_of(mixed.peek()) == ["high"]
    came = mixed.receive_many(AT_MOST)
    assert data_of(came) == seen
    assert mixed.peek(AT_MOST) == []
    mixed.ack_many(came)


def test_a_suspect_is_seen_too(path: Any, children: Any, opened: embq.Broker) -> None:
    """What a dead process held is ready, and explained as what it is."""
    queue = opened.queue("q")
    queue.send("x")
    code = (
        "import embq, os, sys\n"
        "broker = embq.open(sys.argv[1], durability='normal')\n"
        "broker.queue('q').receive()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    children.start(code, path).wait()
    message = queue.receive(wait=10)
    assert message is not None
    assert message.receive_count == 2
    explained = queue.explain(message.id)
    assert (explained.state, explained.receive_count) == ("in_flight", 2)
    assert explained.owner
    message.ack()


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, {"held", "failed", "back", "low", "new", "high", "late"}),
        ({"state": "in_flight"}, {"held"}),
        ({"state": "delayed"}, {"failed", "late"}),
        ({"state": "ready"}, {"back", "low", "new", "high"}),
        ({"state": "blocked"}, set()),
        ({"type": "t"}, set()),
    ],
)
def test_browse(
    mixed: embq.Queue[Any], wanted: dict[str, Any], expected: set[str]
) -> None:
    """All of them, or those of a state."""
    assert set(data_of(mixed.browse(**wanted))) == expected
    assert len(data_of(mixed.browse(**wanted, limit=2))) == min(2, len(expected))


def test_browse_by_fields_over_pages(opened: embq.Broker) -> None:
    """More than a page; type, source and key choose."""
    queue = opened.queue("q")
    queue.send_many(
        [
            Outgoing(n, type=f"t{n % 2}", key=f"k{n % 3}", source=f"s{n % 5}")
            for n in range(1000)
        ]
    )
    assert data_of(queue.browse()) == list(range(1000))
    assert data_of(queue.browse(type="t1", key="k0", source="s4")) == [
        n for n in range(1000) if n % 2 == 1 and n % 3 == 0 and n % 5 == 4
    ]
    big = opened.queue("big")
    big.send_many(["x" * 700_000] * 6)
    assert len(data_of(big.browse())) == 6


def test_get(mixed: embq.Queue[Any], opened: embq.Broker) -> None:
    """By its id, wherever it moved; None where it is not."""
    sent = mixed.send({"a": 1}, type="t", headers={"h": 1}, priority=7)
    message = mixed.get(sent.id)
    assert message is not None
    assert (message.data, message.type, message.headers) == ({"a": 1}, "t", {"h": 1})
    assert (message.priority, message.receive_count) == (7, 0)
    assert opened.queue("other").get(sent.id) is None
    (first,) = mixed.peek(1)
    taken = mixed.receive()
    assert taken is not None
    assert taken.id == first.id
    taken.reject("no")
    assert mixed.get(first.id) is None
    dead = opened.queue("q.dead").get(first.id)
    assert dead is not None
    assert dead.history[0]["reason"] == "rejected"
    for no_id in ("", "x", "0" * 32, sent.id + "0", sent.id.upper() + " "):
        assert mixed.get(no_id) is None


def test_looking_changes_nothing(mixed: embq.Queue[Any]) -> None:
    """No counter, no lease, no order; and nobody is warned of what was not settled."""
    before = {**mixed.stats(), "oldest": None}
    order = data_of(mixed.peek(AT_MOST))
    for message in [*mixed.browse(), *mixed.peek(AT_MOST)]:
        mixed.get(message.id)
        str(mixed.explain(message.id))
    assert {**mixed.stats(), "oldest": None} == before
    assert data_of(mixed.peek(AT_MOST)) == order


@pytest.mark.parametrize(
    "verb",
    [
        lambda m: m.ack(),
        lambda m: m.ack_nowait(),
        lambda m: m.nack(),
        lambda m: m.reject("no"),
        lambda m: m.extend(5),
    ],
)
def test_what_was_looked_at_is_not_held(mixed: embq.Queue[Any], verb: Any) -> None:
    """Its verbs say so, and settle nothing."""
    (message,) = mixed.peek()
    depth = mixed.depth()
    with pytest.raises(embq.InvalidReceipt, match="looked at"):
        verb(message)
    held = mixed.receive()
    assert held is not None
    with pytest.raises(embq.InvalidReceipt, match="looked at"):
        mixed.ack_many([held, message])
    held.ack()
    assert mixed.depth() == depth - 1


def explained(queue: embq.Queue[Any], data: str) -> embq.Explanation:
    """Explain the message that says this."""
    (message,) = [one for one in queue.browse() if one.data == data]
    return queue.explain(message.id)


def test_explain(mixed: embq.Queue[Any]) -> None:
    """Each state in words and in fields."""
    late = explained(mixed, "late")
    assert late.due_at is not None
    assert abs(late.due_at - datetime.now(UTC) - SOON) < timedelta(seconds=50)
    assert str(late).startswith("in q: delayed until 2")
    failed = explained(mixed, "failed")
    assert (failed.state, failed.error) == ("delayed", "it failed")
    assert "received once; its last error: it failed" in str(failed)
    held = explained(mixed, "held")
    assert held.lease_left is not None
    assert 0 < held.lease_left <= 30
    assert held.held_for is not None
    assert f"leased by process {held.owner} for " in str(held)
    assert str(explained(mixed, "new")) == "in q: ready"
    mixed.pause()
    assert "the queue is paused until" in str(explained(mixed, "new"))
    assert mixed.peek() == []
    mixed.resume()
    with pytest.raises(embq.NotFound):
        mixed.explain("0" * 32)


def test_explain_a_dead_letter(mixed: embq.Queue[Any], opened: embq.Broker) -> None:
    """Why it died, and after how many receives."""
    message = mixed.receive()
    assert message is not None
    message.reject("hopeless")
    told = str(opened.queue("q.dead").explain(message.id))
    assert told == "in q.dead: ready; dead in q: rejected (hopeless), after 1 receives"


def test_explain_what_is_behind(opened: embq.Broker) -> None:
    """Who goes first of its key; a peek shows the first of each key alone."""
    queue = opened.queue("q", ordered="key")
    ids = [
        sent.id
        for sent in queue.send_many(
            [Outgoing(word, key=word[0]) for word in ("a1", "a2", "b1")]
        )
    ]
    assert data_of(queue.peek(AT_MOST)) == ["a1", "b1"]
    held = queue.receive_many(AT_MOST)
    assert data_of(held) == ["a1", "b1"]
    blocked = queue.explain(ids[1])
    assert (blocked.state, blocked.behind) == ("blocked", ids[0])
    assert str(blocked).endswith(f"behind another of its key: {ids[0]} goes first")
    assert queue.explain(ids[0]).behind is None
    assert queue.peek(AT_MOST) == []
    queue.ack_many(held)
    assert data_of(queue.peek(AT_MOST)) == ["a2"]


def test_peek_at_a_wholly_ordered_queue(opened: embq.Broker) -> None:
    """One at a time, and none while one is in flight."""
    queue = opened.queue("q", ordered="queue")
    queue.send_many(["a", "b"])
    assert data_of(queue.peek(AT_MOST)) == ["a"]
    message = queue.receive()
    assert message is not None
    assert queue.peek(AT_MOST) == []
    message.nack(delay=0)
    assert data_of(queue.peek(AT_MOST)) == ["a"]


def test_a_typed_queue_shows_its_type(opened: embq.Broker) -> None:
    """Decoded by the schema when it is asked for; what does not fit says so then."""
    opened.queue("q").send_many([1, "one"])
    fits, misfit = opened.queue("q", schema=int).peek(2)
    assert fits.data == 1
    with pytest.raises(embq.BodyError):
        misfit.data  # noqa: B018
    assert misfit.body == b'"one"'


def test_odd_states(opened: embq.Broker) -> None:
    """A state that there is not, and counts that are none, are refused."""
    queue = opened.queue("q")
    with pytest.raises(embq.InvalidArgument, match="state"):
        queue.browse(state="gone")
    for bad in (0, -1, True):
        with pytest.raises(embq.InvalidArgument):
            queue.peek(bad)
        with pytest.raises(embq.InvalidArgument):
            queue.browse(limit=bad)
