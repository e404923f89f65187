"""What is refused: dead letters in a circle, and receipts of another file."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

import embq
from embq import _native, errors


@pytest.fixture
def broker(path: Path) -> Iterator[embq.Broker]:
    """A broker of the core; here the model takes no part."""
    with embq.open(path, durability="normal") as opened:
        yield opened


@pytest.mark.parametrize("names", ["AB", "ABC"])
def test_dead_letters_in_a_circle(broker: embq.Broker, names: str) -> None:
    """A queue whose dead letters would come back to it is refused, and not created."""
    *others, last = names
    for name, target in pairwise(names):
        broker.queue(name, dead_letter=target, max_receives=1)
    with pytest.raises(errors.InvalidArgument, match="come back"):
        broker.queue(last, dead_letter=names[0])
    assert sorted(broker.queues()) == others
    assert broker.queue(last).name == last


def test_a_copy_honours_no_old_receipt(
    broker: embq.Broker, path: Path, tmp_path: Path
) -> None:
    """CASE 14: a lease is of the file it was given in: a copy of that refuses it."""
    queue = broker.queue("q")
    queue.send("once")
    held = queue.receive()
    assert held is not None
    copy = tmp_path / "copy.db"
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    with closing(source), closing(target):
        source.backup(target)
    with embq.open(copy, durability="normal") as second:
        other = second.queue("q")
        with pytest.raises((errors.LeaseLost, errors.InvalidReceipt)):
            _native.settle(other._handle, other._channel, _native.ACK, held._receipt)
        assert other.depth() == 1
        again = other.receive(wait=5)
        assert again is not None
        again.ack()
    held.ack()
    assert queue.depth() == 0
