"""Results of what is to be done once: their end, their counters, room and damage."""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clock import ClockFile
from conftest import wait_until

import embq
from embq import _native

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY_S = 86_400
STEP = 128  # of the keeper
SCOPES = 4096
SECRET = "a secret that nobody may see"


def never() -> Any:
    """Be a function that must not be called."""
    pytest.fail("it was called again")


@pytest.fixture
def timed(tmp_path: Path) -> Iterator[ClockFile]:
    """A clock that this process obeys."""
    clock = ClockFile(tmp_path / "clock")
    _native.use_clock(clock.path)
    yield clock
    _native.use_clock(None)


def rows(path: Path) -> int:
    """Count what the table has."""
    with closing(sqlite3.connect(path)) as connection:
        ((count,),) = connection.execute("select count(*) from embq_idempotency")
        return int(count)


# ---- time ----


def test_what_is_over_is_removed(path: Path, timed: ClockFile) -> None:
    """The keeper removes it, dedup ids too, in steps, and counts what is left."""
    with embq.open(path, durability="normal") as broker:
        once = broker.idempotency("s", ttl=10)
        queue = broker.queue("q", dedup_window=10)
        for number in range(5 * STEP):
            once.set(str(number), number)
        queue.send_many([embq.Outgoing(n, dedup_id=str(n)) for n in range(STEP)])
        once.set("left", 1, ttl=DAY_S)
        assert rows(path) == 6 * STEP + 1
        groups = broker.stats()["groups"]
        timed.advance(11)
        wait_until(lambda: rows(path) == 1, "what is over is still there")
        assert broker.stats()["groups"] - groups >= 6, "it was no step"
        assert broker.stats()["idempotency"]["s"]["size"] == 1
        assert broker.check() == []


def test_what_takes_long_is_not_removed(path: Path, timed: ClockFile) -> None:
    """What is in flight has no end, also for the keeper, whatever the ttl."""
    with embq.open(path, durability="normal") as broker:
        once = broker.idempotency("s", ttl=5)
        once.set("over", 1)

        def work() -> int:
            timed.advance(DAY_S)
            wait_until(lambda: rows(path) == 1, "what is over is still there")
            with pytest.raises(embq.Busy):
                once.run("a", never, timeout=0)
            return 1

        assert once.run("a", work) == 1


def test_nothing_is_done_while_nothing_is_over(path: Path, timed: ClockFile) -> None:
    """The keeper writes nothing as long as all is known."""
    with embq.open(path, durability="normal") as broker:
        once = broker.idempotency("s", ttl=DAY_S)
        once.set("a", 1)
        groups = broker.stats()["groups"]
        timed.advance(DAY_S / 2)
        time.sleep(0.7)
        assert broker.stats()["groups"] == groups


# ---- counters ----


def test_hits_reach_the_file(path: Path) -> None:
    """What one process found the others count, a second later or at its close."""
    with embq.open(path) as broker:
        once = broker.idempotency("s")
        once.set("a", 1)
        assert [once.get("a") for _ in range(10)] == [1] * 10
        assert broker.stats()["idempotency"]["s"]["hits"] == 10

        def stored() -> int:
            with closing(sqlite3.connect(path)) as connection:
                ((hits,),) = connection.execute("select hits from embq_scope")
                return int(hits)

        wait_until(lambda: stored() == 10, "the keeper does not count")
        assert broker.stats()["idempotency"]["s"]["hits"] == 10
        once.get("a")
    assert stored() == 11


def test_scopes_have_a_limit(path: Path) -> None:
    """A file has 4,096 scopes with results; one that is empty makes way."""
    with embq.open(path, durability="normal") as broker:
        for number in range(SCOPES):
            broker.idempotency(f"s{number}").set("a", 1)
        more = broker.idempotency("more")
        with pytest.raises(embq.LimitReached):
            more.set("a", 1)
        with pytest.raises(embq.LimitReached):
            more.run("a", never)
        broker.idempotency("s77").delete("a")
        assert more.run("a", lambda: 1) == 1
        assert len(broker.stats()["idempotency"]) == SCOPES
        assert broker.check() == []


# ---- other troubles ----


def test_the_reserve(path: Path) -> None:
    """CASE 23: in the reserve nothing new is begun, and what is stored is found."""
    with embq.open(path) as broker:
        broker.idempotency("s").set("a", 1)
    with embq.open(path, disk_reserve=1 << 60) as broker:
        once = broker.idempotency("s")
        assert once.run("a", never) == 1
        for call in (lambda: once.set("b", 1), lambda: once.run("b", never)):
            with pytest.raises(embq.StorageFull):
                call()
        assert once.delete("a")


def test_what_runs_ends_in_the_reserve(path: Path) -> None:
    """CASE 23: the result of what was begun before is stored all the same."""
    with embq.open(path) as broker:

        def fill() -> int:
            other = embq.open(path, disk_reserve=1 << 60)
            with other, pytest.raises(embq.StorageFull):
                other.idempotency("s").set("b", 1)
            return 1

        once = broker.idempotency("s")
        assert once.run("a", fill) == 1
        assert once.get("a") == 1


def test_a_damaged_result(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """CASE 60: what is no JSON is told without a byte of it; no text is `Corrupt`."""
    caplog.set_level(logging.DEBUG)
    with embq.open(path) as broker:
        once = broker.idempotency("s")
        for key in "ab":
            once.set(key, SECRET)
        with closing(sqlite3.connect(path)) as connection, connection:
            text = "update embq_idempotency set result = {} where key = '{}'"
            connection.execute(text.format("result || 'x'", "a"))
            connection.execute(text.format("cast(result as blob)", "b"))
        for read in (lambda: once.get("a"), lambda: once.run("a", never)):
            with pytest.raises(embq.BodyError) as caught:
                read()
            assert SECRET not in repr(caught.value)
        for call in (
            lambda: once.get("b"),
            lambda: once.run("b", never),
            lambda: once.set("b", 1),
        ):
            with pytest.raises(embq.Corrupt):
                call()
        assert once.delete("a")
    assert SECRET not in caplog.text
    assert SECRET not in repr(once)


def test_a_scope_keeps_its_broker(path: Path) -> None:
    """The file stays open as long as somebody has the scope."""
    once = embq.open(path).idempotency("s")
    once.set("a", 1)
    assert once.get("a") == 1


def test_readable(path: Path) -> None:
    """Any tool reads the results as JSON."""
    with embq.open(path) as broker:
        broker.idempotency("s").run("a", lambda: {"paid": True})
        with closing(sqlite3.connect(path)) as connection:
            query = "select scope, key, json_extract(result, '$.paid')"
            query += " from embq_idempotency"
            assert connection.execute(query).fetchall() == [("s", "a", 1)]
