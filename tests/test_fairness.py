"""Fairness: processes that write to one file get their turns."""

from pathlib import Path

import pytest
from conftest import Children

import embq

PROCESSES = 4
LEAST_SHARE = 0.2  # of what the fastest of them sends
SENDER = """
    import sys, time, embq
    broker = embq.open(sys.argv[1], durability=sys.argv[2], busy_timeout=3)
    queue = broker.queue("q")
    print("ready", flush=True)
    sys.stdin.readline()
    end, count = time.monotonic() + 1.0, 0
    while time.monotonic() < end:
        queue.send(count)
        count += 1
    print(count)
"""


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_no_process_starves(path: Path, children: Children, durability: str) -> None:
    """CASE 58: no sender falls far behind the others, and none gets `Busy`."""
    with embq.open(path) as broker:
        broker.queue("q")
    started = [children.start(SENDER, path, durability) for _ in range(PROCESSES)]
    for child in started:
        children.expect(child, "ready")
    for child in started:
        children.tell(child)
    counts = [int(children.finish(child)) for child in started]
    assert min(counts) > LEAST_SHARE * max(counts), counts
