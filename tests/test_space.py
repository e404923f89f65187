"""The file and its WAL do not keep what nobody needs."""

import time
from pathlib import Path

import pytest

import embq

PATIENCE_S = 20.0
# 4 MiB of free pages are kept, and the last step's may wait in the WAL.
SHRUNK = 8 << 20


def test_the_file_shrinks_when_it_is_drained(path: Path) -> None:
    """CASE 59: a drained backlog is given back to the file system in idle moments."""
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q", codec="raw")
        for _ in range(20):
            queue.send_many([b"x" * 1000] * 1000)
        for message in queue.messages(wait=0):
            message.ack_nowait()
        broker.flush()
        assert queue.depth() == 0
        end = time.monotonic() + PATIENCE_S
        while path.stat().st_size > SHRUNK and time.monotonic() < end:
            time.sleep(0.2)
        assert path.stat().st_size <= SHRUNK, broker.stats()


def test_the_wal_stays_bounded_under_load(path: Path) -> None:
    """CASE 59: much more than the size at which it starts over leaves it near that."""
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


def test_sends_stop_at_the_reserve_and_the_rest_goes_on(path: Path) -> None:
    """CASE 23: below the disk reserve sends get StorageFull; what is there drains."""
    with embq.open(path) as broker:
        queue = broker.queue("q")
        queue.send_many([1, 2, 3])
        with embq.open(path, disk_reserve=1 << 60) as careful:  # more than any disk
            same = careful.queue("q")
            with pytest.raises(embq.StorageFull, match="reserved for receiving"):
                same.send(4)
            with pytest.raises(embq.StorageFull):
                same.send_many([4, 5])
            same.receive().nack(delay=0)
            same.receive().reject("enough")
            for message in same.receive_many(3):
                message.ack()
            assert same.depth() == 0
        queue.send(4)
        assert queue.depth() == 1


@pytest.mark.parametrize("reserve", [-1, True, 1.5, 1 << 61])
def test_a_reserve_is_a_number_of_bytes(path: Path, reserve: object) -> None:
    """A reserve that makes no sense is refused before the file is touched."""
    with pytest.raises(embq.InvalidArgument, match="disk_reserve"):
        embq.open(path, disk_reserve=reserve)
    assert not path.exists()
