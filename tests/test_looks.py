"""Looking, as the core alone has it: in words, over pages, with processes and types.

What is seen, and in which order, is in contract/test_looking.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import embq
from embq import Outgoing

FOR_EVER = "9999-12-31 23:59:59+00:00"
LOOK_ROWS = 16384  # csrc/look.h: new messages that one look goes through


@pytest.fixture
def opened(path: Path) -> Iterator[embq.Broker]:
    """Open a file, by the clocks of the machine."""
    with embq.open(path, durability="normal") as broker:
        yield broker


def told(queue: embq.Queue[Any], data: object) -> str:
    """Explain in words the message that says this."""
    (message,) = [one for one in queue.browse() if one.data == data]
    return str(queue.explain(message.id))


def test_a_suspect_is_seen_too(path: Path, children: Any, opened: embq.Broker) -> None:
    """What a dead process held is told to be that, and then who holds it."""
    queue = opened.queue("q")
    sent = queue.send("x")
    code = (
        "import embq, os, sys\n"
        "broker = embq.open(sys.argv[1], durability='normal')\n"
        "broker.queue('q').receive()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    children.start(code, path).wait()
    message = queue.receive(wait=10)
    assert message is not None
    explained = queue.explain(sent.id)
    assert (explained.receive_count, explained.owner) == (2, os.getpid())
    message.nack(delay=0)
    assert told(queue, "x") == "in q: ready, and next; received 2 times"


def test_browse_over_pages(opened: embq.Broker) -> None:
    """More than a page, by number and by bytes."""
    queue = opened.queue("q")
    queue.send_many(range(1000))
    assert [message.data for message in queue.browse()] == [*range(1000)]
    big = opened.queue("big")
    big.send_many(["x" * 700_000] * 6)
    assert len(list(big.browse())) == 6


def test_in_words(opened: embq.Broker) -> None:
    """A sentence for each state."""
    queue = opened.queue("q", max_receives=9)
    queue.send_many(["held", "failed", "first", "second", "third"])
    held, failed = queue.receive_many(2)
    queue.send("late", delay=100)
    failed.nack(delay=100, error="it failed")
    assert told(queue, "late").startswith("in q: delayed until 2")
    assert told(queue, "failed").endswith("received once; its last error: it failed")
    text = told(queue, "held")
    assert text.startswith(f"in q: leased by process {os.getpid()} for 0.")
    assert text.endswith("s more; received once")
    assert told(queue, "first") == "in q: ready, and next"
    assert told(queue, "second") == "in q: ready, after 1 other"
    assert told(queue, "third") == "in q: ready, after 2 others"
    queue.send_many([Outgoing("high", priority=9)] * 1001)
    assert told(queue, "first") == "in q: ready, after at least 1,000 others"
    queue.pause()
    assert told(queue, "third").endswith("; the queue is paused until " + FOR_EVER)
    held.reject("hopeless")
    assert told(opened.queue("q.dead"), "held") == (
        "in q.dead: ready, and next; dead in q: rejected (hopeless), received once"
    )


def test_order_in_words(opened: embq.Broker) -> None:
    """Behind which message one waits, and for how many."""
    keyed = opened.queue("keyed", ordered="key")
    first, second = keyed.send_many([Outgoing(word, key="k") for word in "ab"])
    assert str(keyed.explain(second.id)) == (
        f"in keyed: ready, after {first.id} of its key, which goes first"
    )
    message = keyed.receive()
    assert message is not None
    assert keyed.receive() is None
    assert str(keyed.explain(second.id)) == (
        f"in keyed: blocked behind another of its key: {first.id} goes first"
    )
    message.ack()
    strict = opened.queue("strict", ordered="queue")
    first, second, _ = strict.send_many("abc")
    assert str(strict.explain(second.id)) == (
        f"in strict: ready, after 1 other: {first.id} goes first"
    )


def test_a_look_goes_through_so_many(opened: embq.Broker) -> None:
    """Behind very many of one key another is not seen, and nothing false is said."""
    queue = opened.queue("q", ordered="key")
    queue.send_many([Outgoing(n, key="k") for n in range(LOOK_ROWS)])
    far, behind = queue.send_many([Outgoing(n, key="other") for n in "ab"])
    assert [message.data for message in queue.peek(2)] == [0]
    for sent in (far, behind):
        explained = queue.explain(sent.id)
        assert (explained.ahead, explained.more_ahead) == (1, True)
        assert explained.behind is None  # it does not get so far
    message = queue.receive()
    assert message is not None
    message.ack()
    assert [message.data for message in queue.peek(2)] == [1, "a"]
    assert queue.explain(behind.id).behind == far.id


def test_a_typed_queue_shows_its_type(opened: embq.Broker) -> None:
    """Decoded by the schema when it is asked for; what does not fit says so then."""
    opened.queue("q").send_many([1, "one"])
    fits, misfit = opened.queue("q", schema=int).peek(2)
    assert fits.data == 1
    with pytest.raises(embq.BodyError):
        misfit.data  # noqa: B018
    assert misfit.body == b'"one"'
