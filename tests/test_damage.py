"""A body that is not what was sent: no handler gets it, and it is not lost."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from test_misfits import in_time

import embq
from embq import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHARDS = range(16)
#: Beside the others of its page; on a page of its own; on pages of overflow.
SIZES = (1, 100, 5_000, 300_000)
NO_WAIT = embq.Backoff(0, cap=0)


def opened(path: Path) -> embq.Broker:
    """Open the file."""
    return embq.open(path, durability="normal")


def flipped(body: bytes, place: int) -> bytes:
    """Flip a bit of a byte."""
    changed = bytearray(body)
    changed[place] ^= 4
    return bytes(changed)


def flip_by_sql(path: Path, body: bytes, place: int = 0) -> None:
    """Flip a bit of each such body, wherever it is stored."""
    found = 0
    with closing(sqlite3.connect(path)) as connection, connection:
        for shard in SHARDS:
            found += connection.execute(
                f"update embq_message_{shard} set body = ? where body = ?",
                (flipped(body, place), body),
            ).rowcount
    assert found


def flip_in_file(path: Path, body: bytes, place: int = 0) -> None:
    """Flip a bit where it is in the file, which nobody has open."""
    assert not path.with_name(f"{path.name}-wal").exists()
    content = path.read_bytes()
    mark = body[place : place + 16]  # never over the end of a page, as tried below
    at = content.find(mark)
    assert len(mark) < 16 or content.count(mark) == 1
    assert at > 0
    with path.open("r+b") as file:
        file.seek(at)
        file.write(flipped(mark, 0))


def deaths(broker: embq.Broker, name: str = "q.dead") -> list[tuple[str, str]]:
    """Give the dead letters and why they are there."""
    found = broker.queue(name).browse()
    return [(message.id, message.history[-1]["reason"]) for message in found]


def drain(queue: embq.Queue, way: str, *, auto_ack: bool = False) -> list[Any]:
    """Take and ack all that is there, in one of three ways."""
    found = []
    while True:
        if way == "receive":
            batch = [m for m in [queue.receive(auto_ack=auto_ack)] if m]
        elif way == "receive_many":
            batch = queue.receive_many(7, auto_ack=auto_ack)
        else:
            batch = list(queue.messages(wait=0, auto_ack=auto_ack))
        if not batch:
            return found
        for message in batch:
            found.append(message.data)
            if not auto_ack:
                message.ack()


# ---- where a byte flips ----


@pytest.mark.parametrize("place", [0, 0.5, 1], ids=["first", "middle", "last"])
@pytest.mark.parametrize("size", SIZES)
def test_one_of_three(
    path: Path, size: int, place: float, caplog: pytest.LogCaptureFixture
) -> None:
    """CASE 6: wherever it flips, the message is a dead letter and the others come."""
    bodies = [os.urandom(size) for _ in range(3)] if size > 1 else [b"a", b"b", b"c"]
    with opened(path) as broker:
        queue = broker.queue("q", codec="raw")
        sent = queue.send_many(bodies)
        flip_by_sql(path, bodies[1], round(place * (size - 1)))
        assert drain(queue, "receive") == [bodies[0], bodies[2]]
        assert deaths(broker) == [(sent[1].id, "damaged")]
        assert queue.stats()["dead"] == 1
    assert f"message {sent[1].id} is damaged" in caplog.text
    assert "it is a dead letter now" in caplog.text


@pytest.mark.parametrize("place", [0, 2_000, 150_000])
def test_in_the_file(path: Path, place: int) -> None:
    """CASE 6: the same of a byte of the file, which SQLite does not notice."""
    body = os.urandom(200_000)
    with opened(path) as broker:
        queue = broker.queue("q", codec="raw")
        ids = [one.id for one in queue.send_many([b"before", body, b"after"])]
    flip_in_file(path, body, place)
    with opened(path) as broker:
        assert [problem.code for problem in broker.check()] == ["damaged_body"]
        assert drain(broker.queue("q"), "messages") == [b"before", b"after"]
        assert deaths(broker) == [(ids[1], "damaged")]


@pytest.mark.parametrize("bit", [4, 5, 7, 8, 20, 39, 40, 62])
def test_the_checksum_itself(path: Path, bit: int) -> None:
    """CASE 6: when it is the checksum that is damaged, nobody can tell: the same."""
    with opened(path) as broker:
        queue = broker.queue("q")
        queue.send_many([0, 1])
        with closing(sqlite3.connect(path)) as connection, connection:
            (flags,) = connection.execute(
                "select flags from embq_message_0 where body = cast('0' as blob)"
            ).fetchone()
            connection.execute(
                "update embq_message_0 set flags = ? where flags = ?",
                (flags ^ 1 << bit, flags),
            )
        assert drain(queue, "receive") == [1]
        assert [why for _, why in deaths(broker)] == ["damaged"]


# ---- among others ----


@pytest.mark.parametrize("auto_ack", [False, True], ids=["", "auto_ack"])
@pytest.mark.parametrize("way", ["receive", "receive_many", "messages"])
def test_among_many(path: Path, way: str, *, auto_ack: bool) -> None:
    """CASE 6: in runs and under `auto_ack`: the whole ones in order, none lost."""
    with opened(path) as broker:
        queue = broker.queue("q")
        sent = queue.send_many(range(100, 150))
        damaged = [0, 1, 2, 17, 30, 31, 49]
        for number in damaged:
            flip_by_sql(path, str(100 + number).encode())
        whole = [100 + number for number in range(50) if number not in damaged]
        assert drain(queue, way, auto_ack=auto_ack) == whole
        assert deaths(broker) == [(sent[n].id, "damaged") for n in damaged]
        stats = queue.stats()
        assert (stats["messages"], stats["in_flight"]) == (0, 0)
        assert (stats["acked"], stats["dead"]) == (43, 7)
        problems = broker.check()
        assert {problem.code for problem in problems} == {"damaged_body"}
        assert len(problems) == 7


def test_one_call_goes_past_any_number(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A receive without a wait comes to what is whole, behind more than a batch."""
    with opened(path) as broker:
        queue = broker.queue("q", codec="raw")
        queue.send_many([b"damaged"] * 5_000 + [b"whole"])
        flip_by_sql(path, b"damaged")
        assert drain(queue, "receive") == [b"whole"]
        assert queue.stats()["dead"] == 5_000
    assert sum("is damaged" in line for line in caplog.messages) == 4_096
    assert "904 more messages are damaged" in caplog.text


@pytest.mark.parametrize(
    "fields", [{"priority": 9}, {"delay": 0.01}, {"ttl": 60}, {"key": "k"}], ids=str
)
def test_any_kind(path: Path, fields: dict[str, Any]) -> None:
    """CASE 6: of any priority, with a delay or an end."""
    with opened(path) as broker:
        queue = broker.queue("q")
        queue.send_many([Outgoing("damaged", **fields), Outgoing("whole", **fields)])
        flip_by_sql(path, b'"damaged"', 3)
        with in_time(20):
            message = queue.receive(wait=10)
            assert message is not None
            assert message.data == "whole"
            message.ack()
            while not deaths(broker):
                assert queue.receive(wait=0.05) is None
        assert [why for _, why in deaths(broker)] == ["damaged"]


@pytest.mark.parametrize("auto_ack", [False, True], ids=["", "auto_ack"])
@pytest.mark.parametrize("ordered", ["key", "queue"])
def test_order(path: Path, ordered: Any, *, auto_ack: bool) -> None:
    """The next of the same key, or of all, comes once it is out of the way."""
    with opened(path) as broker:
        queue = broker.queue("q", ordered=ordered)
        items = ("x0", "x1", "damaged", "x2", "x3")
        queue.send_many([Outgoing(item, key="k") for item in items])
        flip_by_sql(path, b'"damaged"', 3)
        found = drain(queue, "receive", auto_ack=auto_ack)
        assert found == ["x0", "x1", "x2", "x3"]
        assert queue.stats()["dead"] == 1
        assert [problem.code for problem in broker.check()] == ["damaged_body"]


@pytest.mark.parametrize("auto_ack", [False, True], ids=["", "auto_ack"])
def test_it_holds_its_key_without_dead_letters(path: Path, *, auto_ack: bool) -> None:
    """Others of its key wait behind it, as behind any that waits; others pass."""
    with opened(path) as broker:
        queue = broker.queue("q", ordered="key", dead_letter=None)
        pairs = (("a", "damaged"), ("a", "a1"), ("b", "b1"))
        queue.send_many([Outgoing(item, key=key) for key, item in pairs])
        flip_by_sql(path, b'"damaged"', 3)
        assert drain(queue, "receive", auto_ack=auto_ack) == ["b1"]
        stats = queue.stats()
        assert (stats["delayed"], stats["blocked"]) == (1, 1)
        flip_by_sql(path, flipped(b'"damaged"', 3), 3)  # mended
        with in_time(20):
            while not (message := queue.receive(wait=1)):
                pass
            assert message.data == "damaged"
            message.ack()
        assert drain(queue, "receive") == ["a1"]


@pytest.mark.parametrize("way", ["receive", "receive_many", "messages"])
@pytest.mark.parametrize("auto_ack", [False, True], ids=["", "auto_ack"])
def test_without_dead_letters_it_waits(
    path: Path, way: str, caplog: pytest.LogCaptureFixture, *, auto_ack: bool
) -> None:
    """CASE 6: it stays for at least a second, is told, and the others come."""
    with opened(path) as broker:
        queue = broker.queue("q", dead_letter=None, retry=NO_WAIT)
        ids = [one.id for one in queue.send_many(["damaged", "whole"])]
        flip_by_sql(path, b'"damaged"', 3)
        with in_time(10):
            assert drain(queue, way, auto_ack=auto_ack) == ["whole"]
        stats = queue.stats()
        assert (stats["messages"], stats["delayed"]) == (1, 1)
        assert (stats["nacked"], stats["dead"]) == (1, 0)
        assert "its body is not what was sent" in str(queue.explain(ids[0]))
        assert {problem.code for problem in broker.check()} == {"damaged_body"}
    assert "it waits for its next receive" in caplog.text


def test_with_a_schema(path: Path) -> None:
    """What does not fit because it is damaged is said to be that."""
    with opened(path) as broker:
        queue = broker.queue("q", schema=int)
        queue.send_many([100, 101])
        flip_by_sql(path, b"100", 2)
        assert drain(queue, "messages") == [101]
        assert [why for _, why in deaths(broker)] == ["damaged"]


def test_with_one_try(path: Path) -> None:
    """Where each is handed out alone, the next one comes in the same call."""
    with opened(path) as broker:
        queue = broker.queue("q", max_receives=1)
        queue.send_many(["damaged", "whole"])
        flip_by_sql(path, b'"damaged"', 3)
        assert drain(queue, "messages") == ["whole"]
        assert [why for _, why in deaths(broker)] == ["damaged"]


# ---- what was handed out before ----


def test_after_a_nack(path: Path) -> None:
    """CASE 6: it was whole the first time: now it is a dead letter."""
    with opened(path) as broker:
        queue = broker.queue("q", retry=NO_WAIT)
        queue.send("damaged")
        message = queue.receive()
        assert message is not None
        message.nack()
        flip_by_sql(path, b'"damaged"', 3)
        assert queue.receive() is None
        (dead,) = broker.queue("q.dead").peek()
        (entry,) = dead.history
        assert (entry["reason"], entry["receive_count"]) == ("damaged", 2)
        assert queue.stats()["redelivered"] == 1


def buried(broker: embq.Broker, data: str) -> None:
    """Send one and reject it."""
    queue = broker.queue("q")
    queue.send(data)
    message = queue.receive()
    assert message is not None
    message.reject("no")


def test_after_a_burial(path: Path) -> None:
    """CASE 6: a dead letter that flips waits where it is, until it is cancelled."""
    with opened(path) as broker:
        buried(broker, "damaged")
        flip_by_sql(path, b'"damaged"', 3)
        dead = broker.queue("q.dead")
        assert dead.receive() is None
        assert dead.stats()["delayed"] == 1
        (message,) = dead.browse()
        dead.cancel(message.id)
        assert dead.depth() == 0


def test_a_redrive(path: Path) -> None:
    """CASE 6: a checksum moves with its message, so it dies again where it goes."""
    with opened(path) as broker:
        buried(broker, "damaged")
        buried(broker, "whole")
        flip_by_sql(path, b'"damaged"', 3)
        broker.queue("q.dead").redrive().wait(10)
        assert drain(broker.queue("q"), "receive") == ["whole"]
        (dead,) = broker.queue("q.dead").peek()
        assert [entry["reason"] for entry in dead.history] == ["rejected", "damaged"]


def test_a_backup(path: Path, tmp_path: Path) -> None:
    """CASE 6: it is damaged in a copy too, and what is whole is whole there."""
    with opened(path) as broker:
        broker.queue("q").send_many(["damaged", "whole"])
        flip_by_sql(path, b'"damaged"', 3)
        broker.backup(tmp_path / "copy.db")
    with opened(tmp_path / "copy.db") as broker:
        assert drain(broker.queue("q"), "receive") == ["whole"]
        assert [why for _, why in deaths(broker)] == ["damaged"]


# ---- looking ----


@pytest.mark.parametrize("codec", ["json", "raw"])
def test_looks_show_it(path: Path, codec: Any) -> None:
    """CASE 6: a look gives all but the data: that is `Corrupt`, the bytes are there."""
    looks: tuple[Callable[[embq.Message], Any], ...] = (
        lambda message: message.data,
        lambda message: message.to_dict(),
        lambda message: message.to_cloudevent(),
    )
    with opened(path) as broker:
        queue = broker.queue("q", codec=codec)
        sent = queue.send(b"damaged" if codec == "raw" else "damaged")
        (whole,) = queue.peek()
        assert [look(whole) for look in looks]
        flip_by_sql(path, whole.body, 3)
        found = [*queue.peek(), *queue.browse(), queue.get(sent.id)]
        assert len(found) == 3
        for message in found:
            assert message is not None
            assert message.body == flipped(whole.body, 3)
            for look in looks:
                with pytest.raises(embq.Corrupt, match="not what was sent"):
                    look(message)
        assert queue.explain(sent.id).state == "ready"


def test_what_check_says(path: Path) -> None:
    """CASE 6: it names the queue and the message, and repairs nothing of it."""
    with opened(path) as broker:
        sent = broker.queue("q").send_many(["damaged", "whole"])
        assert broker.check() == []
        flip_by_sql(path, b'"damaged"', 3)
        (problem,) = broker.check(quick=True)
        assert (problem.code, problem.where) == ("damaged_body", "q")
        assert sent[0].id in problem.what
        assert problem.mend == ""
        assert broker.repair() == []
        assert broker.queue("q").depth() == 2


def test_no_payload_is_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is told of it has nothing that was sent."""
    caplog.set_level(logging.DEBUG)
    with opened(path) as broker:
        queue = broker.queue("q")
        queue.send("secret")
        flip_by_sql(path, b'"secret"', 7)
        assert queue.receive() is None
        told = [*caplog.messages, *map(str, broker.check()), str(deaths(broker))]
    assert any("is damaged" in line for line in told)
    assert not any("secre" in line for line in told)
