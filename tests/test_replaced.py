"""The file under a live broker: replaced, maintained from outside, copied."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from conftest import wait_until

import embq


def rest_of(path: Path) -> list[Path]:
    """Name the database and what SQLite keeps beside it."""
    return [
        path,
        path.with_name(f"{path.name}-wal"),
        path.with_name(f"{path.name}-shm"),
    ]


def remove(path: Path) -> None:
    """Delete the database alone."""
    path.unlink()


def remove_all(path: Path) -> None:
    """Delete it with its WAL."""
    for file in rest_of(path):
        file.unlink()


def remove_wal(path: Path) -> None:
    """Delete the WAL alone, as a tidy person would."""
    path.with_name(f"{path.name}-wal").unlink()


def move(path: Path) -> None:
    """Rename the database."""
    path.rename(path.with_name("moved.db"))


def restore(path: Path) -> None:
    """Put an older copy in its place, as most tools do: a new file, renamed."""
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(copy)) as db, db:
        db.execute("create table other(x)")
    copy.replace(path)


@pytest.mark.parametrize("durability", ["full", "normal"])
@pytest.mark.parametrize("replace", [remove, remove_all, remove_wal, move, restore])
def test_a_file_that_was_replaced(path: Path, durability: str, replace: object) -> None:
    """CASE 12: `DatabaseReplaced` for every verb from then on; nothing is confirmed."""
    broker = embq.open(path, durability=durability)
    queue = broker.queue("q")
    queue.send(1)
    staged = queue.send_nowait(2)
    staged.result()
    replace(path)
    other = path.read_bytes() if path.exists() else None
    with pytest.raises(embq.DatabaseReplaced, match=r"moved, removed or replaced"):
        queue.send(3)
    for call in (lambda: queue.send(4), queue.receive, broker.flush):
        with pytest.raises(embq.DatabaseReplaced):
            call()
    with pytest.raises(embq.DatabaseReplaced):
        queue.send_nowait(5)
    broker.close()
    if replace is restore:
        assert path.read_bytes() == other, "written into the other file"


@pytest.mark.parametrize("replace", [remove, remove_all, remove_wal, move, restore])
def test_what_was_staged_before(path: Path, replace: Callable[[Path], None]) -> None:
    """CASE 12: what waited for the write lock meanwhile is not confirmed either."""
    broker = embq.open(path, busy_timeout=30)
    queue = broker.queue("q")
    queue.send(1)
    held = queue.receive()
    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        foreign.execute("begin immediate")
        tickets = [queue.send_nowait(number) for number in range(3)]
        held.ack_nowait()
        replace(path)
        foreign.execute("rollback")
    for call in (*(ticket.result for ticket in tickets), broker.flush, broker.close):
        with pytest.raises(embq.DatabaseReplaced):
            call()


def test_a_new_file_at_the_same_place_is_used_after_reopening(path: Path) -> None:
    """CASE 12: opened again, the file that is there now is used, and no other."""
    broker = embq.open(path)
    broker.queue("q").send("old")
    remove_all(path)
    with pytest.raises(embq.DatabaseReplaced):
        broker.queue("q").send("lost")
    with embq.open(path) as again:
        queue = again.queue("q")
        queue.send("new")
        assert [message.data for message in queue.receive_many(9)] == ["new"]
    broker.close()


@pytest.mark.parametrize(
    "statement",
    ["vacuum", "reindex", "analyze", "pragma wal_checkpoint(truncate)",
     "pragma wal_checkpoint(restart)", "pragma optimize", "pragma incremental_vacuum"],
)  # fmt: skip
def test_maintenance_from_outside(path: Path, statement: str) -> None:
    """CASE 13: another connection may tidy up the file while it is in use."""
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        queue.send_many(list(range(50)))
        held = queue.receive()
        db = sqlite3.connect(path, isolation_level=None)
        db.execute(statement).fetchall()
        held.ack()
        queue.send(50)
        db.execute(statement).fetchall()
        rest = [message.data for message in queue.receive_many(100, auto_ack=True)]
        assert rest == list(range(1, 51))
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        db.close()


def test_the_journal_mode_cannot_be_changed_meanwhile(path: Path) -> None:
    """CASE 13: SQLite refuses to leave WAL mode under a live broker."""
    with embq.open(path) as broker:
        queue = broker.queue("q")
        queue.send(1)
        db = sqlite3.connect(path, timeout=0.2, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            db.execute("pragma journal_mode = delete")
        assert db.execute("pragma journal_mode").fetchone() == ("wal",)
        db.close()
        queue.send(2)
        assert queue.depth() == 2


@pytest.mark.parametrize("how", ["backup", "vacuum into"])
def test_a_copy_honours_no_old_receipt(path: Path, how: str) -> None:
    """CASE 14: a live copy is whole; leases and receipts of the original are void."""
    copy = path.with_name("copy.db")
    with embq.open(path) as broker:
        queue = broker.queue("q", visibility_timeout=1000)
        queue.send_many([1, 2, 3])
        held = queue.receive()
        run = queue.receive_many(1)
        source = sqlite3.connect(path)
        if how == "backup":
            target = sqlite3.connect(copy)
            source.backup(target)
            target.close()
        else:
            source.execute("vacuum into ?", (str(copy),))
        source.close()
        with embq.open(copy) as other:
            same = other.queue("q")
            wait_until(lambda: same.stats()["in_flight"] == 0, "old leases stand")
            assert same.depth() == 3
            for message in (held, *run):
                with pytest.raises((embq.LeaseLost, embq.InvalidReceipt)):
                    same.ack_many([message])
            assert same.depth() == 3
            sent = same.send(4)
            assert sent.id not in {message.id for message in (held, *run)}
            seen = sorted(message.data for message in _drain(same))
            assert seen == [1, 2, 3, 4]
        held.ack()
        run[0].ack()
        assert queue.depth() == 1


def test_a_plain_copy_after_close(path: Path) -> None:
    """CASE 14: a copy of a closed file gives no id that the original gave before."""
    with embq.open(path) as broker:
        ids = {broker.queue("q").send(n).id for n in range(5)}
    copy = Path(shutil.copy(path, path.with_name("copy.db")))
    with embq.open(copy) as broker:
        queue = broker.queue("q")
        new = {queue.send(n).id for n in range(5)}
        assert not new & ids
    assert not os.path.exists(f"{copy}-wal")  # noqa: PTH110


def _drain(queue: embq.Queue) -> list[embq.Message]:
    found = []
    while message := queue.receive():
        found.append(message)
        message.ack()
    return found
