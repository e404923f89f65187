"""The file and its WAL do not keep what nobody needs."""

import time
from pathlib import Path

import embq

PATIENCE_S = 20.0


def test_the_file_shrinks_when_it_is_drained(path: Path) -> None:
    """A drained backlog is given back to the file system while nothing is written."""
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q", codec="raw")
        for _ in range(20):
            queue.send_many([b"x" * 1000] * 1000)
        for message in queue.messages(wait=0):
            message.ack_nowait()
        broker.flush()
        assert queue.depth() == 0
        end = time.monotonic() + PATIENCE_S
        while path.stat().st_size > 6 << 20 and time.monotonic() < end:
            time.sleep(0.2)
        assert path.stat().st_size <= 6 << 20


def test_the_wal_stays_bounded_under_load(path: Path) -> None:
    """Sixty times the size at which the WAL starts over leaves it near that size."""
    wal = path.with_name(path.name + "-wal")
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q", codec="raw")
        largest = 0
        for _ in range(100):
            queue.send_many([b"x" * 1000] * 1000)
            for message in queue.receive_many(1000, auto_ack=True):
                assert len(message.body) == 1000
            largest = max(largest, wal.stat().st_size)
    assert largest <= 80 << 20
