"""Fairness: processes that write to one file get their turns."""

from pathlib import Path

import pytest
from conftest import Children

import embq

PROCESSES = 4
LEAST_SHARE = 0.2  # of what the fastest of them sends
CROWD, THREADS, CROWD_S = 8, 64, 3.0
CROWD_SHARE = 0.5
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
SENDERS = """
    import sys, threading, time, embq
    path, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    queue = embq.open(path, durability="full").queue("q")
    counts, errors = [0] * threads, []
    begin = threading.Event()

    def send(thread):
        begin.wait()
        try:
            while time.monotonic() < end:
                queue.send(thread)
                counts[thread] += 1
        except embq.Error as error:
            errors.append(repr(error))

    workers = [threading.Thread(target=send, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    print("ready", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + seconds
    begin.set()
    for worker in workers:
        worker.join()
    assert not errors, errors
    print(*counts, flush=True)
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


def test_64_threads_in_8_processes(path: Path, children: Children) -> None:
    """CASE 58: at full durability all get their share, and nobody is told Busy."""
    started = [children.start(SENDERS, path, THREADS, CROWD_S) for _ in range(CROWD)]
    for child in started:
        children.expect(child, "ready")
    for child in started:
        children.tell(child)
    counts = [[*map(int, children.finish(child).split())] for child in started]
    sums = [sum(threads) for threads in counts]
    assert min(sums) > max(sums) * CROWD_SHARE, f"processes: {sums}"
    for threads in counts:
        assert min(threads) > max(threads) * CROWD_SHARE, f"threads of one: {threads}"
