"""What returned is stored: no call is confirmed before its commit or its fsync."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig.interpose import Stage

import embq

SYNCED = {
    "send",
    "send_many",
    "send_nowait",
    "flush",
    "receive auto_ack",
    "messages auto_ack",
    "cancel",
    "purge",
    "pause",
    "configure",
    "delete",
    "set a result",
    "run",
    "delete a result",
}
WRITES = sorted(SYNCED | {"ack", "nack", "receive"})


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Start the process whose children meet the faults."""
    made = Stage("confirming")
    yield made
    made.close()


def test_what_is_synced_before_it_returns(stage: Stage, path: Path) -> None:
    """CASE 20: at "full" all but the lease verbs wait for an fsync."""
    counts = stage.run("syncs", str(path), "full").get()
    assert {name for name, count in counts.items() if count} == SYNCED, counts


def test_nothing_is_synced_at_normal(stage: Stage, path: Path) -> None:
    """At "normal" no call waits for the disk."""
    assert set(stage.run("syncs", str(path), "normal").get().values()) == {0}


def test_flush_waits_for_the_disk(stage: Stage, path: Path) -> None:
    """At "full" `flush` returns when what was staged is synced, on a slow disk too."""
    assert stage.run("flush_on_a_slow_disk", str(path)).get() == [True] * 3


def test_a_checkpoint_syncs_both_files(stage: Stage, path: Path) -> None:
    """CASE 20: the -wal is synced before it is copied, the database after it."""
    checkpoints, count = stage.run("syncs_of_a_checkpoint", str(path)).get()
    assert checkpoints >= 1
    assert count >= 2


@pytest.mark.parametrize("verb", WRITES)
def test_a_failed_commit_confirms_nothing(stage: Stage, path: Path, verb: str) -> None:
    """CASES 22 and 24: a commit that cannot be written is no success, and the last."""
    outcomes = stage.run("failing", str(path), verb, "pwrite", errno.EIO).get()
    assert outcomes == ["CommitUncertain"] * 2


@pytest.mark.parametrize("verb", sorted(SYNCED - {"flush"}))
def test_a_failed_fsync_confirms_nothing(stage: Stage, path: Path, verb: str) -> None:
    """CASE 21: what was not synced is `CommitUncertain`, and sends are refused."""
    outcomes = stage.run("failing", str(path), verb, "fsync", errno.EIO).get()
    assert outcomes == ["CommitUncertain", "StorageIOError"]


def test_a_refused_send_leaves_nothing_behind(stage: Stage, path: Path) -> None:
    """CASE 23: a group that is rolled back leaves no row, no count and no gap."""
    confirmed = stage.run("full_for_a_while", str(path)).get()
    assert confirmed == [0, 2, 3, 5, 6, 8]
    with embq.open(path) as broker:
        queue = broker.queue("q")
        stats = queue.stats()
        assert stats["sent"] == stats["messages"] == queue.depth() == len(confirmed)
        taken = queue.receive_many(100)
    assert [message.data for message in taken] == confirmed
    rows = [int(message.id[16:], 16) for message in taken]
    assert rows == list(range(rows[0], rows[0] + len(rows)))


def test_a_purge_in_steps_is_whole(path: Path) -> None:
    """At "full" it is confirmed once the last of its steps is synced, not the first."""
    with embq.open(path, durability="full") as broker:
        queue = broker.queue("q")
        queue.send_many([None] * 3000)
        assert queue.purge() == 3000
        assert queue.depth() == 0
