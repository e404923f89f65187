"""What does not fit its schema: passed over, kept, and no wait is longer for it."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import embq

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def broker(path: Path) -> Iterator[embq.Broker]:
    """A broker on a file."""
    with embq.open(path, durability="normal") as made:
        yield made


@contextlib.contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Fail when the block takes longer, instead of waiting for ever."""

    def over(number: int, frame: object) -> None:
        msg = f"not done in {seconds} s"
        raise TimeoutError(msg)

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("ordered", ["key", "queue"])
def test_order_goes_on_after_what_does_not_fit(
    broker: embq.Broker, ordered: Any
) -> None:
    """In an ordered queue the next of the same key comes at once, in its order."""
    typed = broker.queue("q", schema=int, ordered=ordered)
    items = (0, "a", 1, "b", "c", 2)
    broker.queue("q").send_many([embq.Outgoing(item, key="k") for item in items])
    found = []
    for message in typed.messages(wait=0.1):
        found.append(message.data)
        message.ack()
    assert found == [0, 1, 2]
    assert broker.queue("q.dead").depth() == 3


def test_what_does_not_fit_blocks_its_key_where_there_are_no_dead_letters(
    broker: embq.Broker,
) -> None:
    """It waits as after a `nack`: those of its key wait behind it, others pass."""
    typed = broker.queue("q", schema=int, ordered="key", dead_letter=None)
    items = (("a", "x"), ("a", 1), ("b", 2))
    broker.queue("q").send_many([embq.Outgoing(item, key=key) for key, item in items])
    found = typed.receive()
    assert found is not None
    assert found.data == 2
    found.ack()
    assert typed.receive() is None
    stats = typed.stats()
    assert (stats["delayed"], stats["blocked"]) == (1, 1)


def test_batches_skip_what_does_not_fit(broker: embq.Broker) -> None:
    """`receive_many` and `messages()` hand out the rest, in order."""
    plain, typed = broker.queue("q"), broker.queue("q", schema=int)
    plain.send_many([0, "a", 1, "b", "c", 2])
    taken = typed.receive_many(4)
    assert [message.data for message in taken] == [0, 1]
    typed.ack_many(taken)
    for message in typed.messages(wait=0):
        assert message.data == 2
        message.ack()
    assert typed.depth() == 0
    assert broker.queue("q.dead").depth() == 3


def test_receive_many_goes_on_after_a_batch_of_nothing(broker: embq.Broker) -> None:
    """A first batch in which nothing fits does not end the call."""
    plain, typed = broker.queue("q"), broker.queue("q", schema=int)
    plain.send_many(["a", "b", 1])
    assert [message.data for message in typed.receive_many(2)] == [1]


@pytest.mark.parametrize("way", ["receive", "receive_many", "messages"])
def test_auto_ack_loses_what_does_not_fit(
    broker: embq.Broker, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With `auto_ack` it was removed before: it is logged as lost and passed over."""
    plain, typed = broker.queue("q"), broker.queue("q", schema=int)
    plain.send_many(["a", 1])
    if way == "receive":
        message = typed.receive(auto_ack=True)
    elif way == "receive_many":
        (message,) = typed.receive_many(2, auto_ack=True)
    else:
        (message,) = typed.messages(wait=0, auto_ack=True)
    assert message is not None
    assert message.data == 1
    assert typed.depth() == 0
    assert "q.dead" not in broker.queues()
    assert "is lost" in caplog.text


def test_without_dead_letters_it_waits(
    broker: embq.Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a dead-letter queue it stays, delayed: looking at it removes nothing."""
    retry = embq.Backoff(0, cap=0)  # at once: the call must not meet it for ever
    plain = broker.queue("q", dead_letter=None, retry=retry)
    typed = broker.queue("q", schema=int)
    plain.send_many(["a", 1])
    with in_time(10):
        message = typed.receive()
        assert message is not None
        message.ack()
        assert typed.receive() is None
    stats = typed.stats()
    assert (stats["delayed"], stats["rejected"], stats["nacked"]) == (1, 0, 1)
    assert "waits for its next receive" in caplog.text
    again = plain.receive(wait=5)
    assert again is not None
    assert again.data == "a"
    again.ack()


def test_dead_letters_were_given_up_meanwhile(
    broker: embq.Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """What counts is that the queue has none now: it stays, and is not removed."""
    typed = broker.queue("q", schema=int, retry=embq.Backoff(0, cap=0))
    broker.queue("q").configure(dead_letter=None)
    broker.send("q", "a")
    assert typed.receive() is None
    stats = typed.stats()
    assert (stats["messages"], stats["delayed"], stats["nacked"]) == (1, 1, 1)
    assert (stats["dead"], stats["rejected"]) == (0, 0)
    assert "waits for its next receive" in caplog.text


def test_dead_letters_were_declared_meanwhile(
    broker: embq.Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """What counts is where they go now."""
    typed = broker.queue("q", schema=int, dead_letter=None)
    broker.queue("q").configure(dead_letter="elsewhere")
    sent = broker.send("q", "a")
    assert typed.receive() is None
    stats = typed.stats()
    assert (stats["messages"], stats["dead"], stats["nacked"]) == (0, 1, 0)
    message = broker.queue("elsewhere").receive()
    assert message is not None
    (entry,) = message.history
    assert (message.id, entry["reason"], entry["queue"]) == (sent.id, "schema", "q")
    assert "it is a dead letter now" in caplog.text


@pytest.mark.parametrize(
    ("retry", "least", "most"),
    [(embq.Backoff(0.1, cap=0.1), 0.9, 1.1), (embq.Backoff(8, jitter=False), 7.9, 8.1)],
    ids=["a second", "by the policy"],
)
def test_how_long_it_waits(
    broker: embq.Broker, path: Path, retry: embq.Backoff, least: float, most: float
) -> None:
    """By the retry policy, but a second at least."""
    typed = broker.queue("q", schema=int, dead_letter=None, retry=retry)
    broker.send("q", "a")
    began = time.time()
    assert typed.receive() is None
    took = time.time() - began
    with contextlib.closing(sqlite3.connect(path)) as reader:
        ((due_ms,),) = reader.execute("select due_at_ms from embq_delivery").fetchall()
    assert least < due_ms / 1000 - began < most + took


def test_one_whose_lease_is_over(
    broker: embq.Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """It is another's to judge: passed over, and not said to be lost."""
    plain = broker.queue("q", visibility_timeout=0.05)
    other: list[embq.Message[Any]] = []

    def slow(kind: type, value: Any) -> Any:
        while not other:
            other.extend(plain.receive_many(1, wait=0.1))
        raise ValueError

    typed = broker.queue("q", schema=complex, dec_hook=slow)
    plain.send("a")
    with in_time(10):
        assert typed.receive() is None
    assert "lost" not in caplog.text
    assert "will judge it" in caplog.text
    other[0].ack()
    assert typed.stats()["acked"] == 1


@pytest.mark.parametrize("way", ["receive", "receive_many", "messages"])
def test_a_wait_is_not_made_longer(broker: embq.Broker, way: str) -> None:
    """What is passed over does not begin the wait anew."""
    plain, typed = broker.queue("q"), broker.queue("q", schema=int)
    enough = threading.Event()

    def feed() -> None:
        while not enough.wait(0.05):
            plain.send("a")

    sender = threading.Thread(target=feed)
    sender.start()
    began = time.monotonic()
    try:
        with in_time(20):
            if way == "receive":
                assert typed.receive(wait=0.3) is None
            elif way == "receive_many":
                assert typed.receive_many(3, wait=0.3) == []
            else:
                assert list(typed.messages(wait=0.3)) == []
    finally:
        enough.set()
        sender.join()
    assert time.monotonic() - began > 0.29
    assert typed.stats()["dead"] > 0


def test_the_wait_of_a_loop_begins_anew_with_each_message(
    broker: embq.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop over a typed queue ends when nothing came for `wait`, no sooner."""
    now = 0.0
    monkeypatch.setattr("embq._sieve.monotonic", lambda: now)
    typed = broker.queue("q", schema=int)
    typed.send_many(range(4))
    for number, message in enumerate(typed.messages(prefetch=1, wait=0.5)):
        assert message.data == number
        message.ack()
        now += 0.4
    assert typed.depth() == 0


def test_a_hook_that_is_interrupted_gives_back(broker: embq.Broker) -> None:
    """When decoding is interrupted nothing stays in flight, and nothing is counted."""

    def interrupt(kind: type, value: Any) -> Any:
        raise KeyboardInterrupt

    plain = broker.queue("q")
    plain.send_many([1, 2, 3])
    typed = broker.queue("q", schema=complex, dec_hook=interrupt)
    for call in (
        typed.receive,
        lambda: typed.receive_many(2),
        lambda: next(typed.messages()),
    ):
        with pytest.raises(KeyboardInterrupt):
            call()
        assert plain.stats()["in_flight"] == 0
    assert [message.receive_count for message in plain.receive_many(3)] == [1, 1, 1]
