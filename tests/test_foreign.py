"""Foreign connections beside embq: locks held long, schemas of later versions."""

import pickle
import resource
import sqlite3
import threading
import time
from pathlib import Path

import pytest

import embq

HELD_S = 3.0


def test_a_foreign_writer_that_holds_the_lock(path: Path) -> None:
    """CASE 26: `Busy` at the timeout, without a busy loop; later all goes on."""
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("begin immediate")
        before = time.process_time()
        start = time.monotonic()
        with pytest.raises(embq.Busy, match="nothing was written"):
            queue.send(1, timeout=HELD_S)
        took = time.monotonic() - start
        spent = time.process_time() - before
        assert took >= HELD_S * 0.9
        assert spent < took / 4, f"{spent:.2f} s of CPU in {took:.2f} s"
        waiting = threading.Thread(target=queue.send, args=(2,))
        waiting.start()
        time.sleep(0.2)
        db.execute("rollback")
        waiting.join(10)
        assert [message.data for message in queue.receive_many(9)] == [2]
        db.close()


def test_a_reader_that_never_ends(path: Path) -> None:
    """CASE 27: a foreign reader may keep the WAL long; sends and acks go on."""
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q", codec="raw")
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("begin")
        db.execute("select count(*) from embq_messages").fetchone()
        for _ in range(20):
            queue.send_many([bytes(1000)] * 1000)
            queue.receive_many(1000, auto_ack=True)
        grown = broker.stats()["wal_bytes"]
        assert grown > 20_000_000, "the reader did not hold the WAL"
        db.execute("rollback")
        db.close()
        end = time.monotonic() + 20
        while broker.stats()["wal_bytes"] >= grown and time.monotonic() < end:
            queue.send(b"")
            time.sleep(0.05)
        assert broker.stats()["wal_bytes"] < grown


def test_a_schema_of_a_later_version(path: Path) -> None:
    """CASE 3: `SchemaTooNew`, and not a byte of the file changes."""
    embq.open(path).close()
    with sqlite3.connect(path) as db:
        db.execute("update embq_meta set schema_version = 999")
    db.execute("pragma wal_checkpoint(truncate)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(embq.SchemaTooNew, match="999"):
        embq.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("what", "said"),
    [("broker", "use embq.open"), ("queue", "by path and name"), ("ticket", "process")],
)
def test_handles_cannot_be_pickled(path: Path, what: str, said: str) -> None:
    """CASE 37: pickling a handle is a `TypeError` that says what to do instead."""
    with embq.open(path) as broker:
        queue = broker.queue("q")
        handles = {"broker": broker, "queue": queue, "ticket": queue.send_nowait(1)}
        with pytest.raises(TypeError, match=said):
            pickle.dumps(handles[what])


def test_no_descriptors_left(path: Path) -> None:
    """CASE 24: without descriptors opening fails clearly, and works again after."""
    embq.open(path).close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        while len(files) < 256:
            try:
                files.append(Path("/dev/null").open())  # noqa: SIM115
            except OSError:
                break
        assert len(files) < 256
        with pytest.raises(embq.Error):
            embq.open(path)
    finally:
        for file in files:
            file.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with embq.open(path) as broker:
        assert broker.queue("q").send(1).id
