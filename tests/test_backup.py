"""`broker.backup()`: whole and live, all of it or nothing, and a file of its own."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import Children
from rig import verbs
from rig.court import Stages, spread
from rig.verbs_keeping import COPY

import embq
from embq import _native, _reading, _sqlite
from embq.cli import cli

HELD_S = 1000.0
POINTS = 60
WRITERS = """
    import sys, embq

    with embq.open(sys.argv[1], durability="normal") as broker:
        queue = broker.queue(sys.argv[2])
        for number in range(1 << 30):
            queue.send([number, "x" * 2000])
            print(number, flush=True)
"""


@pytest.fixture
def copy(path: Path) -> Path:
    """Name the copy."""
    return path.with_name(COPY)


def drained(queue: embq.Queue) -> list[embq.Message]:
    """Take all that is there."""
    found = []
    while got := queue.receive_many(1000):
        found += got
        queue.ack_many(got)
    return found


def test_beside_writers(path: Path, copy: Path, children: Children) -> None:
    """CASE 14: what another process was told is stored is in the copy, with no hole."""
    with embq.open(path, durability="normal") as broker:
        writers = [children.start(WRITERS, path, name) for name in "ab"]
        broker.queue("mine").send("mine")
        sent = [0, 0]
        for number, writer in enumerate(writers):
            assert writer.stdout is not None
            while sent[number] < 300:
                sent[number] = int(writer.stdout.readline())
        broker.backup(copy)
        for writer in writers:
            writer.kill()
        assert broker.check() == []
        assert broker.queue("mine").depth() == 1
    with embq.open(copy) as other:
        assert other.check() == []
        for name, least in zip("ab", sent, strict=True):
            numbers = [m.data[0] for m in drained(other.queue(name))]
            assert numbers == list(range(len(numbers)))
            assert len(numbers) > least
        assert [m.data for m in drained(other.queue("mine"))] == ["mine"]


def test_in_one_transaction(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent while the pages are copied makes the copy neither mixed nor slow."""
    monkeypatch.setattr(_sqlite, "_STEP", 1)
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        queue.send_many(["x" * 1000] * 100)
        go_on, steps = _reading.Reading.go_on, []

        def sending(reading: _reading.Reading) -> None:
            go_on(reading)
            steps.append(queue.send("later"))
            assert len(steps) < 200, "it begins anew again and again"

        monkeypatch.setattr(_reading.Reading, "go_on", sending)
        broker.backup(copy)
        assert len(steps) > 20
    with embq.open(copy) as other:
        found = [message.data for message in drained(other.queue("q"))]
    late = found.count("later")  # before it looked at the file
    assert late < 10
    assert found == ["x" * 1000] * 100 + ["later"] * late


def test_a_file_of_its_own(path: Path, copy: Path) -> None:
    """CASE 14: what was held is ready in the copy, which honours no old receipt."""
    with embq.open(path) as broker:
        queue = broker.queue("q", visibility_timeout=HELD_S, dedup_window=HELD_S)
        ids = [sent.id for sent in queue.send_many([1, 2, 3])]
        first = queue.send(4, dedup_id="d")
        held = [*queue.receive_many(2), queue.receive()]
        broker.backup(copy)
        with embq.open(copy) as other:
            same = other.queue("q")
            assert same.stats()["in_flight"] == 0
            for message in held:
                assert message is not None
                with pytest.raises((embq.LeaseLost, embq.InvalidReceipt)):
                    _native.settle(
                        same._handle, same._channel, _native.ACK, message._receipt
                    )
            again = same.send(4, dedup_id="d")
            assert (again.id, again.duplicate) == (first.id, True)
            assert same.send(5).id not in {queue.send(n).id for n in range(100)}
            found = {message.id: message.data for message in drained(same)}
            assert list(found)[:4] == [*ids, first.id]
            assert sorted(found.values()) == [1, 2, 3, 4, 5]
            assert other.check() == []
        for message in held:
            assert message is not None
            message.ack()
        assert queue.depth() == 101


def test_a_copy_at_the_inode_of_its_original(path: Path, copy: Path) -> None:
    """CASE 14: the copy says nothing of an opening, whatever inode it gets."""
    with embq.open(path) as broker:
        broker.queue("q")
        broker.backup(copy)
    with closing(sqlite3.connect(copy)) as connection:
        row = connection.execute("select boot_id, device, inode from embq_meta")
        assert row.fetchone() == ("", 0, 0)


def test_one_plain_file(path: Path, copy: Path) -> None:
    """It stands alone, is its owner's, needs no -wal, and nothing is left beside it."""
    with embq.open(path) as broker:
        broker.queue("q").send(1)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("create table theirs(a)")
            connection.executemany("insert into theirs values (?)", "abc")
            connection.execute("delete from theirs where rowid = 2")
        broker.backup(copy)
        names = {one.name for one in path.parent.iterdir()}
        assert names == {COPY, *(f"{path.name}{end}" for end in ("", "-wal", "-shm"))}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert copy.read_bytes()[18:20] == b"\1\1"  # no WAL (sqlite.org/fileformat2.html)
    with closing(sqlite3.connect(f"file:{copy}?immutable=1", uri=True)) as connection:
        rows = connection.execute("select rowid, a from theirs").fetchall()
    assert rows == [(1, "a"), (3, "c")], "an application's row ids changed"


def test_it_replaces_nothing(path: Path, copy: Path) -> None:
    """An existing name is refused and stays as it is, the file's own among them."""
    with embq.open(path) as broker:
        broker.queue("q").send(1)
        copy.write_bytes(b"theirs")
        link = path.with_name("link")
        link.symlink_to("nowhere")
        for target in (copy, path, link, path.parent):
            with pytest.raises(embq.InvalidArgument, match="replaces no file"):
                broker.backup(target)
        with pytest.raises(embq.NotFound):
            broker.backup(path.parent / "none" / COPY)
        assert copy.read_bytes() == b"theirs"
        assert broker.queue("q").depth() == 1
        assert not list(path.parent.glob(".*.part*"))


def test_a_name_that_came_meanwhile(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a file replaced that gets the name while the copy is made."""
    pages = _sqlite.copy_pages

    def slow(*args: object) -> None:
        copy.write_bytes(b"theirs")
        pages(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(_sqlite, "copy_pages", slow)
    with embq.open(path) as broker:
        broker.queue("q")
        with pytest.raises(embq.InvalidArgument, match="replaces no file"):
            broker.backup(copy)
    assert copy.read_bytes() == b"theirs"
    assert not list(path.parent.glob(".*.part*"))


def test_the_locks_of_the_engine_stay(path: Path, copy: Path) -> None:
    """SQLite's locks of this process are there after the connections of a backup."""
    with embq.open(path) as broker:
        queue = broker.queue("q")
        queue.send(1)
        broker.backup(copy)
        # Who finds no lock on the database is its last user, and removes the -wal.
        look = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('vacuum')"
        subprocess.run([sys.executable, "-c", look, str(path)], check=True)
        assert path.with_name(f"{path.name}-wal").exists()
        queue.send(2)
        assert queue.depth() == 2


def test_a_fork_ends_it(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork does not wait for a backup: it ends with `Busy`, and leaves nothing."""
    monkeypatch.setattr(_sqlite, "_STEP", 1)
    inside, seen = threading.Event(), []
    with embq.open(path) as broker:
        broker.queue("q").send_many(["x" * 1000] * 1000)
        go_on = _reading.Reading.go_on

        def slow(reading: _reading.Reading) -> None:
            inside.set()
            go_on(reading)

        monkeypatch.setattr(_reading.Reading, "go_on", slow)

        def copying() -> None:
            for number in range(1000):
                try:
                    broker.backup(copy.with_name(f"{number}.db"))
                except embq.Busy as error:
                    seen.append(str(error))
                    return

        thread = threading.Thread(target=copying, daemon=True)
        thread.start()
        assert inside.wait(5)
        subprocess.run(["true"], check=True, preexec_fn=int)  # forks with its handlers
        thread.join(5)
        assert seen, "it went on"
        assert not list(path.parent.glob(".*.part*"))
        assert broker.queue("q").depth() == 1000


def test_the_command(path: Path, copy: Path) -> None:
    """`embq backup` makes the copy, and refuses to make it twice."""
    with embq.open(path) as broker:
        broker.queue("q").send("x")
    command = ["--file", str(path), "backup", str(copy)]
    done = CliRunner().invoke(cli, command)
    assert (done.exit_code, done.output) == (0, "")
    assert isinstance(CliRunner().invoke(cli, command).exception, embq.InvalidArgument)
    with embq.open(copy) as other:
        assert other.queue("q").depth() == 1


def test_killed_at_every_call(tmp_path: Path, *, soak: bool) -> None:
    """CASE 14: wherever it is killed, at the name of the copy is all of it or nothing.

    That the file itself loses nothing is judged in test_kill_sweep.py.
    """
    template, whole = tmp_path / "template", 0
    template.mkdir()
    verbs.prepare(template, "backup")
    with closing(Stages("rig.verbs", 2)) as stages:
        place = (str(template), str(tmp_path / "all"), 0)
        count = stages.run("perform", "backup", *place)
        points = spread(count, count if soak else POINTS)
        runs = {
            point: stages.start(
                "perform", "backup", str(template), str(tmp_path / f"{point}"), point
            )
            for point in points
        }
        for point, run in runs.items():
            assert run.result().error is None
            copy = tmp_path / f"{point}" / COPY
            if not copy.exists():
                continue
            whole += 1
            for part in copy.parent.glob(".*.part"):
                part.unlink()
            with embq.open(copy) as other:
                assert other.check() == []
                assert len(drained(other.queue("q"))) == 6
    assert 0 < whole < len(points), f"{whole} of {len(points)} were there"
