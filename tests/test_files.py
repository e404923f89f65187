"""Files: what opening does to what is there, and what others do to an open file."""

import importlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Children
from worker import Worker

import embq
from embq import errors

OPENERS = 16
NOT_DATABASES = {
    "text": b"these are notes, not a database\n" * 100,
    "a few bytes": b"hello",
    "zeros": bytes(8192),
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40,
    "nearly": b"SQLite format 4\0" + bytes(4080),
}
SEND_HALF, ROWS = 50, 100


def folder_of(path: Path) -> dict[str, bytes]:
    """Take down every file of a folder."""
    return {one.name: one.read_bytes() for one in path.parent.iterdir()}


@pytest.mark.parametrize("content", NOT_DATABASES.values(), ids=NOT_DATABASES.keys())
def test_what_is_no_database_stays_as_it_is(path: Path, content: bytes) -> None:
    """CASE 1: `NotAnEmbqFile`; the file is byte-identical and nothing is beside it."""
    path.write_bytes(content)
    before = folder_of(path)
    status = path.stat()
    with pytest.raises(errors.NotAnEmbqFile):
        embq.open(path).queue("q")
    assert folder_of(path) == before
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert path.stat().st_mode == status.st_mode


def test_sixteen_processes_open_an_empty_file(path: Path, children: Children) -> None:
    """CASE 2: a 0-byte file opened by 16 processes at once gets one schema."""
    path.touch()
    started = [
        children.start(
            """
            import sys, embq
            print("ready", flush=True)
            sys.stdin.readline()
            with embq.open(sys.argv[1]) as broker:
                broker.queue("q").send(int(sys.argv[2]))
            """,
            path,
            number,
        )
        for number in range(OPENERS)
    ]
    for child in started:
        children.expect(child, "ready")
    for child in started:
        children.tell(child)
    for child in started:
        children.finish(child)
    with embq.open(path) as broker:
        taken = broker.queue("q").receive_many(100, auto_ack=True)
    assert sorted(message.data for message in taken) == list(range(OPENERS))
    connection = sqlite3.connect(path)
    counts = {
        table: connection.execute(f"select count(*) from {table}").fetchone()[0]
        for table in ("embq_meta", "embq_channel", "embq_state")
    }
    (verdict,) = connection.execute("pragma integrity_check").fetchone()
    connection.close()
    assert counts == {"embq_meta": 1, "embq_channel": 1, "embq_state": 1}
    assert verdict == "ok"


def test_two_spellings_are_one_engine(path: Path, tmp_path: Path) -> None:
    """CASE 10: however a path is spelt, one process has one engine for its file."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    spellings: list[str | bytes | Path] = [
        str(path),
        tmp_path / "sub" / ".." / "test.db",
        tmp_path / "link" / "test.db",
        os.path.relpath(path),
        os.fsencode(path),
    ]
    brokers = [embq.open(spelling) for spelling in spellings]
    reader = Worker()
    try:
        brokers[0].queue("q").send("x")
        groups = {broker.stats()["groups"] for broker in brokers}
        assert len(groups) == 1, f"each spelling counts commits of its own: {groups}"
        ((owners,),) = reader.sql(path, "select count(*) from embq_owner")[0]
        assert owners == 1, "one process is registered more than once"
        held = brokers[1].queue("q").receive()
        for broker in brokers[1:]:
            broker.close()
        assert brokers[0].queue("q").depth() == 1, "closing one ended the others"
        assert held is not None
        assert held.data == "x"
    finally:
        reader.stop()
        for broker in brokers:
            broker.close()


SURVIVES = """
    import os, sqlite3, subprocess, sys, embq
    path, kind = sys.argv[1:]

    def disturb():
        if kind == "plain read":
            open(path, "rb").read()
        elif kind == "plain read and another process":
            open(path, "rb").read()
            code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);" \\
                "c.execute('select * from sqlite_master').fetchall(); c.close()"
            subprocess.run([sys.executable, "-c", code, path], check=True)
        elif kind == "apsw":
            import apsw
            connection = apsw.Connection(path)
            connection.execute("select count(*) from sqlite_master").fetchall()
            connection.close()
        else:
            import importlib
            connection = importlib.import_module(kind).connect(path)
            connection.execute("select count(*) from sqlite_master").fetchall()
            connection.close()

    queue = embq.open(path, durability="normal").queue("q")
    for number in range(100):
        queue.send(number)
        if number % 25 == 12:
            disturb()
    assert queue.depth() == 100, queue.depth()
    print("sent", flush=True)
    os._exit(0)  # as a crash: nothing is tidied up
"""


@pytest.mark.parametrize(
    "kind", ["apsw", "pysqlite3", "plain read", "plain read and another process"]
)
def test_another_sqlite_on_the_live_file(
    path: Path, children: Children, kind: str
) -> None:
    """CASE 28: a second SQLite or a plain read in the process loses no row."""
    if kind == "pysqlite3":
        pytest.importorskip(kind, reason="pysqlite3 has no wheel for this machine")
    elif kind == "apsw":
        importlib.import_module(kind)
    children.run(SURVIVES, path, kind)
    with embq.open(path, durability="normal") as broker:
        taken = broker.queue("q").receive_many(200, auto_ack=True)
    assert [message.data for message in taken] == list(range(ROWS))


def test_what_is_done_with_has_no_row(path: Path) -> None:
    """After an ack, a rejection and a last failure the file holds what depth says."""
    with embq.open(path) as broker:
        queue = broker.queue("q", max_receives=2)
        queue.send_many(list(range(6)))
        acked, rejected, failed, *held = queue.receive_many(6)
        acked.ack()
        rejected.reject("no")
        failed.nack(delay=0)
        again = queue.receive()
        assert again is not None
        again.nack()
        held[1].nack(delay=100)  # between two that are acked
        queue.ack_many([held[0], held[2]])
        queue.send(6)
        queue.receive(auto_ack=True)
        reader = Worker()
        try:
            rows = reader.sql(
                path, "select queue, count(*) from embq_messages group by 1"
            )
        finally:
            reader.stop()
        assert dict(rows[0]) == {"q": 1, "q.dead": 2}
        assert (queue.depth(), broker.queue("q.dead").depth()) == (1, 2)


def test_ids_of_two_files_differ(path: Path) -> None:
    """An id is of its file: the same row of another file has another."""
    ids = set()
    for number in range(3):
        with embq.open(path.with_name(f"{number}.db")) as broker:
            ids.add(broker.queue("q").send("x").id)
    assert len(ids) == 3
    assert len({one[16:] for one in ids}) == 1


@pytest.mark.parametrize("what", ["a copy", "another boot"])
def test_forgotten_numbers_are_passed_over(path: Path, what: str) -> None:
    """CASES 14 and 51: where a number may have been seen outside, none comes again."""
    with embq.open(path) as broker:
        broker.queue("q").send("before")
    before = path.read_bytes()
    seen = []
    for turn in range(2):
        with embq.open(path) as broker:
            queue = broker.queue("q")
            seen.append({queue.send(number).id for number in range(5)})
            assert queue.depth() == 6
        if turn == 0 and what == "a copy":
            path = path.with_name("copy.db")
        path.write_bytes(before)  # what was sent since is forgotten
        if what == "another boot":
            reboot(path)
    assert not seen[0] & seen[1]


def test_after_a_reboot_no_lease_stands(path: Path, children: Children) -> None:
    """CASE 51: whoever held a message before a reboot is dead: it is ready at once."""
    children.run(
        """
        import os, sys, embq
        queue = embq.open(sys.argv[1]).queue("q", visibility_timeout=100_000)
        queue.send_many([1, 2, 3])
        queue.receive_many(2), queue.receive()
        print("held", flush=True)
        os._exit(0)
        """,
        path,
    )
    reboot(path)
    with embq.open(path) as broker:
        queue = broker.queue("q")
        stats = queue.stats()
        assert (stats["in_flight"], stats["ready"]) == (0, 3)
        taken = queue.receive()
        assert taken is not None
        assert taken.receive_count == 2


def reboot(path: Path) -> None:
    """Let the file be from another boot, as far as it knows."""
    connection = sqlite3.connect(path)
    with closing(connection), connection:
        connection.execute("update embq_meta set boot_id = printf('%036d', 1)")


def test_a_busy_timeout_of_nothing(path: Path) -> None:
    """`busy_timeout=0` waits for nobody, and opens a file that nobody else has."""
    for _ in range(2):  # new, and there
        with embq.open(path, busy_timeout=0) as broker:
            assert broker.queue("q").send(1).id
