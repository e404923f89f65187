"""Clocks: leases live by the boot clock, waits by the wall clock, order by neither."""

from typing import Any

import pytest
from clock import YEAR_MS

YEAR_S = YEAR_MS / 1000


@pytest.mark.parametrize("years", [1, -1])
def test_a_wall_clock_jump_ends_no_lease(site: Any, years: int) -> None:
    """CASE 50: the wall clock may jump a year; leases do not notice."""
    queue = site.broker.queue("q", visibility_timeout=30)
    queue.send("x")
    message = queue.receive()
    site.clock.jump(years * YEAR_S)
    assert queue.receive() is None
    site.clock.advance(29)
    assert queue.receive() is None
    message.extend(30)
    site.clock.jump(-2 * years * YEAR_S)
    site.clock.advance(29)
    assert queue.receive() is None
    site.clock.advance(2)
    assert queue.receive().receive_count == 2


def test_a_wall_clock_that_oscillates(site: Any) -> None:
    """CASE 50: order is the order of sending, whatever the clock says."""
    queue = site.broker.queue("q")
    for number in range(10):
        site.clock.jump(YEAR_S if number % 2 else -YEAR_S)
        queue.send(number)
    taken = []
    for number in range(10):
        site.clock.jump(-YEAR_S if number % 2 else YEAR_S)
        taken.append(queue.receive())
    assert [message.data for message in taken] == list(range(10))
    for message in taken:
        message.ack()


def test_delays_follow_the_wall_clock(site: Any) -> None:
    """A wait ends when the wall clock says so, and begins again when it is set back."""
    queue = site.broker.queue("q")
    queue.send("x")
    queue.receive().nack(delay=3600)
    site.clock.jump(3601)
    assert queue.stats()["ready"] == 1
    site.clock.jump(-3601)
    assert queue.stats()["delayed"] == 1
    assert queue.receive() is None
    site.clock.jump(3601)
    assert queue.receive().receive_count == 2


def test_a_suspect_waits_for_no_clock(site: Any) -> None:
    """What a lease's end gives back is ready even after the wall clock went back."""
    queue = site.broker.queue("q", visibility_timeout=10)
    empty = site.broker.queue("empty")
    queue.send("x")
    assert queue.receive() is not None
    site.clock.advance(11)
    assert empty.receive() is None
    site.clock.jump(-YEAR_S)
    assert queue.receive().receive_count == 2


def test_given_back_waits_for_no_clock(site: Any) -> None:
    """What a loop gives back is ready even after the wall clock went back."""
    queue = site.broker.queue("q")
    queue.send_many(["a", "b"])
    for message in queue.messages(prefetch=2, wait=0):
        message.ack()
        break
    site.clock.jump(-YEAR_S)
    assert queue.receive().data == "b"


def test_the_deadline_is_not_in_the_lease(site: Any) -> None:
    """At the deadline itself the lease is over, just before it is not."""
    queue = site.broker.queue("q", visibility_timeout=10)
    queue.send("x")
    assert queue.receive() is not None
    site.clock.advance(9.999)
    assert queue.receive() is None
    site.clock.advance(0.001)
    assert queue.receive() is not None
