"""Much that happens at one time: many messages that are due, many leases that end.

`make bench ARGS="--only due leases"` measures it with 1,000,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import pytest
from clock import ClockFile
from conftest import CoreSite

import embq

FEW, MANY = 200, 20_000
BATCH = 1000
TURNS = 100
STEP = 2 * 1024  # as many leases end in one transaction, at the most
LATER_S = 60.0
#: Measured: 1.0 to 1.2; where a claim looked at all that is due, 50.
FACTOR = 5


@pytest.fixture
def site(clock: ClockFile, path: Path) -> Iterator[CoreSite]:
    """A file of the core, whose time the test moves."""
    made = CoreSite(clock, path)
    yield made
    made.close()


def fastest(queue: embq.Queue[int]) -> float:
    """Receive and ack some, one by one; how long the fastest took."""
    took = []
    for _ in range(TURNS):
        start = perf_counter()
        message = queue.receive()
        assert message is not None
        message.ack()
        took.append(perf_counter() - start)
    return min(took)


def test_many_delays_end_at_once(site: CoreSite) -> None:
    """CASE 53: a claim among many that are due costs what it costs among few."""
    queues = [site.broker.queue(f"q{count}") for count in (FEW, MANY)]
    for queue, count in zip(queues, (FEW, MANY), strict=True):
        for first in range(0, count, BATCH):
            numbers = range(first, min(count, first + BATCH))
            queue.send_many([embq.Outgoing(n, delay=LATER_S) for n in numbers])
    assert queues[1].receive() is None
    site.clock.advance(LATER_S)
    few, many = map(fastest, queues)
    assert many < FACTOR * few


def test_many_leases_end_at_once(site: CoreSite) -> None:
    """CASE 54: they end in steps, so that no writer waits for all of them."""
    queue = site.broker.queue("q", visibility_timeout=LATER_S)
    other = site.broker.queue("other")
    for first in range(0, MANY, BATCH):
        queue.send_many(range(first, first + BATCH))
    held = [queue.receive_many(BATCH) for _ in range(0, MANY, BATCH)]
    assert queue.stats()["in_flight"] == MANY
    site.clock.advance(LATER_S + 1)
    calls = 0
    while queue.stats()["in_flight"]:
        assert other.receive() is None  # any claim looks for leases that ended
        calls += 1
    assert calls >= MANY / STEP / 2, "a call had to wait for too many"
    assert queue.stats()["expired"] == MANY
    del held
