"""Foreign connections beside embq: locks held long, schemas of later versions."""

import resource
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from conftest import wait_until

import embq
from embq import _native

HELD_S, SOAK_HELD_S = 3.0, 60.0
MIB = 1 << 20
BOUND_MIB = 64  # beyond that a WAL is too long
TICK_S = 0.25  # the keeper's
SOON_S = 20.0


def test_a_foreign_writer_that_holds_the_lock(path: Path, *, soak: bool) -> None:
    """CASE 26: `Busy` at the timeout, without a busy loop; later all goes on.

    It is held for a minute with --soak, a few seconds otherwise.
    """
    held_s = SOAK_HELD_S if soak else HELD_S
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("begin immediate")
        before = time.process_time()
        start = time.monotonic()
        with pytest.raises(embq.Busy, match="nothing was written"):
            queue.send(1, timeout=held_s)
        took = time.monotonic() - start
        spent = time.process_time() - before
        assert held_s * 0.9 <= took < held_s + SOON_S
        assert spent < took / 4, f"{spent:.2f} s of CPU in {took:.2f} s"
        waiting = threading.Thread(target=queue.send, args=(2,))
        waiting.start()
        time.sleep(0.2)
        db.execute("rollback")
        waiting.join(10)
        assert [message.data for message in queue.receive_many(9)] == [2]
        db.close()


def read(path: Path) -> sqlite3.Connection:
    """Begin to read, and do not end."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("begin")
    db.execute("select count(*) from embq_messages").fetchone()
    return db


def write(path: Path, mebibytes: int) -> None:
    """Write so many MiB into the WAL, beside embq."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma wal_autocheckpoint = 0")
        db.execute("create table if not exists notes(body blob)")
        db.execute("insert into notes values (zeroblob(?))", (mebibytes * MIB,))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """List what the log has about readers."""
    said = [record.getMessage() for record in caplog.records]
    return [text for text in said if "a reader keeps the -wal" in text]


def test_a_reader_that_never_ends(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """CASE 27: the WAL grows, stats() and the log have it, once; sends and acks go on.

    When the reader ends the WAL starts over. What is held anew is told anew.
    """
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q", codec="raw")

        def works() -> bool:
            queue.send(b"x")
            assert queue.receive(auto_ack=True)
            now = broker.stats()
            return now["wal_held_ms"] == 0 and now["wal_bytes"] < 8 * MIB

        for told in (1, 2):
            reader = read(path)
            write(path, BOUND_MIB // 2)
            time.sleep(2 * TICK_S)
            works()
            before = broker.stats()
            assert before["wal_held_ms"] == 0, "within its bound"
            assert len(warnings_of(caplog)) == told - 1
            write(path, BOUND_MIB // 2 + 1)
            wait_until(lambda: broker.stats()["wal_held_ms"] > 0, "untold", SOON_S)
            before = broker.stats()
            assert before["wal_bytes"] > BOUND_MIB * MIB
            time.sleep(2 * TICK_S)
            works()
            now = broker.stats()
            assert now["wal_bytes"] > before["wal_bytes"]
            assert now["wal_held_ms"] >= before["wal_held_ms"] + 1000 * TICK_S
            assert len(warnings_of(caplog)) == told
            assert str(path) in warnings_of(caplog)[-1]
            reader.execute("rollback")
            reader.close()
            wait_until(works, "the WAL does not start over", SOON_S)


@pytest.mark.parametrize("verb", ["send", "receive", "messages"])
def test_any_verb_tells_of_a_reader(
    path: Path, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    """CASE 27: what the keeper has noticed is logged by whatever is called next."""
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        loop = queue.messages(wait=0.1)
        queue.send(0)
        next(loop).ack()
        calls: dict[str, Callable[[], object]] = {
            "send": lambda: queue.send(1),
            "receive": queue.receive,
            "messages": lambda: list(loop),
        }
        reader = read(path)
        write(path, BOUND_MIB + 1)
        wait_until(lambda: bool(_native._notices[0]), "unnoticed", SOON_S)
        assert not warnings_of(caplog)
        calls[verb]()
        assert len(warnings_of(caplog)) == 1
        reader.close()


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
