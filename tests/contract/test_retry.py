"""Retries: the policy, the delay, and that a storm of them starves nobody."""

from typing import Any

import pytest

from embq import Backoff

STEADY = Backoff(1.0, factor=2, cap=5.0, jitter=False)


def test_nack_backs_off(site: Any) -> None:
    """Each nack waits longer by the factor, up to the cap."""
    queue = site.broker.queue("q", retry=STEADY, max_receives=100)
    queue.send("x")
    for waits in (1, 2, 4, 5, 5):
        queue.receive().nack()
        assert queue.stats()["delayed"] == 1
        site.clock.advance(waits - 0.01)
        assert queue.receive() is None
        site.clock.advance(0.02)
        assert queue.stats()["ready"] == 1
    assert queue.receive().receive_count == 6


def test_the_default_policy_waits_half_to_one_second_first(site: Any) -> None:
    """The default first wait is a second, shortened by the jitter to half at most."""
    queue = site.broker.queue("q")
    queue.send("x")
    queue.receive().nack()
    site.clock.advance(0.49)
    assert queue.receive() is None
    site.clock.advance(0.52)
    assert queue.receive() is not None


def test_nack_with_a_delay(site: Any) -> None:
    """A given delay replaces the policy, and zero is at once."""
    queue = site.broker.queue("q", retry=STEADY)
    queue.send("x")
    queue.receive().nack(delay=60)
    site.clock.advance(59)
    assert queue.receive() is None
    site.clock.advance(1.01)
    queue.receive().nack(delay=0)
    assert queue.receive().receive_count == 3


def test_huge_counts_do_not_overflow_the_policy(site: Any) -> None:
    """The wait stays at the cap however often a message was received."""
    retry = Backoff(1.0, factor=1e9, cap=2.0, jitter=False)
    queue = site.broker.queue("q", retry=retry, max_receives=1000)
    queue.send("x")
    for _ in range(20):
        queue.receive().nack()
        site.clock.advance(2.01)
    assert queue.receive().receive_count == 21


def test_a_due_retry_goes_before_new_messages(site: Any) -> None:
    """What is due again is handed out first, the earlier due first."""
    queue = site.broker.queue("q")
    queue.send_many(["a", "b", "c"])
    first, second = queue.receive_many(2)
    first.nack(delay=20)
    second.nack(delay=10)
    site.clock.advance(21)
    assert [queue.receive().data for _ in range(3)] == ["b", "a", "c"]


def test_retries_due_together_keep_their_order(site: Any) -> None:
    """Retries due at the same moment are handed out in the order of sending."""
    queue = site.broker.queue("q")
    queue.send_many(["a", "b", "c"])
    for message in reversed(queue.receive_many(3)):
        message.nack(delay=10)
    site.clock.advance(11)
    assert [message.data for message in queue.receive_many(3)] == ["a", "b", "c"]


def test_one_hand_out_in_eight_is_new(site: Any) -> None:
    """After seven retries in a row one new message goes first."""
    queue = site.broker.queue("q")
    queue.send_many([f"retry {number}" for number in range(20)])
    for message in queue.receive_many(20):
        message.nack(delay=1)
    queue.send_many([f"new {number}" for number in range(3)])
    site.clock.advance(2)
    taken = [queue.receive().data.split()[0] for _ in range(23)]
    pattern = [*["retry"] * 7, "new"] * 2 + ["retry"] * 6 + ["new"]
    assert taken == pattern


def test_a_batch_obeys_the_same_rule(site: Any) -> None:
    """A batch has as many retries and new ones as single claims, the retries first."""
    queue = site.broker.queue("q")
    queue.send_many([f"retry {number}" for number in range(10)])
    for message in queue.receive_many(10):
        message.nack(delay=1)
    queue.send_many(["new 0", "new 1"])
    site.clock.advance(2)
    taken = [message.data for message in queue.receive_many(9)]
    assert taken == [*(f"retry {number}" for number in range(8)), "new 0"]
    taken = [message.data for message in queue.receive_many(9)]
    assert taken == ["retry 8", "retry 9", "new 1"]


@pytest.mark.parametrize("delay", [None, 5.0])
def test_a_nack_tells_its_error(site: Any, delay: float | None) -> None:
    """A nack takes an error text, with or without a delay."""
    queue = site.broker.queue("q", retry=STEADY)
    queue.send("x")
    queue.receive().nack(delay, error="division by zero")
    site.clock.advance(6)
    assert queue.receive().receive_count == 2
