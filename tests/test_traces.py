"""`secure_delete=True`: what was removed leaves no trace in any file."""

import random
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Children, wait_until

import embq

SIZES = (1, 10, 50, 100, 200, 500, 2000)
TAGS = 200
PIECES = 2
TAG = re.compile(rb"<(\d{6})>")


def tag(number: int) -> bytes:
    """Make what marks one body: no other bytes in the files are like it."""
    return b"<%06d>" % number


def traces(path: Path, numbers: set[int]) -> dict[str, int]:
    """Count how many of these bodies can be seen in each file, whatever its name."""
    found = {}
    for file in path.parent.iterdir():
        suffix = file.name.removeprefix(path.name)
        with suppress(FileNotFoundError):  # it was there for a moment
            content = file.read_bytes()
        seen = len(numbers & {int(one) for one in set(TAG.findall(content))})
        if seen:
            found[suffix or "database"] = seen
    return found


def no_trace(path: Path, numbers: set[int]) -> Callable[[], bool]:
    """Give what is to become true."""
    return lambda: not traces(path, numbers)


def work(broker: Any, seed: int) -> tuple[set[int], set[int]]:
    """Send bodies of all sizes and remove most of them, in any order and every way.

    Returns:
        The numbers of those that were removed, and of those that were not.
    """
    chance = random.Random(seed)
    queue = broker.queue("q", codec="raw")
    gone: set[int] = set()
    for first in range(0, TAGS, 20):
        queue.send_many(
            [tag(n) * chance.choice(SIZES) for n in range(first, first + 20)]
        )
        held = queue.receive_many(chance.randint(1, 20))
        chance.shuffle(held)
        for message in held:
            match chance.randrange(4):
                case 0:
                    message.nack(delay=0)
                case 1:
                    message.reject("enough")
                case _:
                    message.ack()
                    gone.add(int(message.body[1:7]))
    dead = broker.queue("q.dead", codec="raw")
    gone.update(int(message.body[1:7]) for message in dead.browse())
    dead.purge()
    return gone, set(range(TAGS)) - gone


@pytest.mark.parametrize("seed", range(3))
def test_what_is_removed_is_gone(path: Path, seed: int) -> None:
    """CASE 60: after removals, a purge and a moment of rest no body is seen.

    In a page that still has messages SQLite may leave a piece of one that it moved to
    another page and that was removed there: after the purge that is gone, too.
    """
    with embq.open(path, durability="normal", secure_delete=True) as broker:
        gone, left = work(broker, seed)
        wait_until(lambda: "-wal" not in traces(path, gone), "traces are left")
        assert sum(traces(path, gone).values()) <= PIECES
        groups = broker.stats()["groups"]
        assert traces(path, left) == {"database": len(left)}
        broker.queue("q").purge()
        wait_until(no_trace(path, gone | left), "traces are left")
        assert broker.stats()["groups"] < groups + 10, "it goes on for ever"
        assert broker.check() == []


def test_results_too(path: Path) -> None:
    """CASE 60: a result that was deleted, replaced, or is over, is seen no more."""
    with embq.open(path, durability="normal", secure_delete=True) as broker:
        once = broker.idempotency("s")
        for number in range(TAGS):
            text = tag(number).decode() * SIZES[number % len(SIZES)]
            once.set(str(number), text, ttl=0.01 if number % 3 == 0 else None)
            if number % 3 == 1:
                once.set(str(number), "another")
            if number % 3 == 2:
                assert once.delete(str(number))
        # Here SQLite may leave pieces, too; with the last ones they go.
        wait_until(lambda: "-wal" not in traces(path, set(range(TAGS))), "in the -wal")
        for number in range(1, TAGS, 3):
            assert once.delete(str(number))
        wait_until(no_trace(path, set(range(TAGS))), "traces are left")


def test_what_is_said_of_a_message_too(path: Path) -> None:
    """CASE 60: headers, type, key, dedup id and errors go with the body; so in a copy.

    What a handler's exception says may quote the body.
    """
    with embq.open(path, durability="normal", secure_delete=True) as broker:
        queue = broker.queue(
            "q", dedup_window=0.1, retry=embq.Backoff(0), max_receives=2
        )
        numbers = set(range(60))
        for number in range(0, 60, 6):
            said = [tag(number + n).decode() * 9 for n in range(6)]
            fields = {"type": said[1], "key": said[2], "dedup_id": said[3]}
            queue.send(1, headers={"h": said[0]}, **fields)
            for text in said[4:]:
                with suppress(ValueError), queue.receive():
                    raise ValueError(text)
        dead = broker.queue("q.dead")
        assert dead.depth() == 10
        assert sum(traces(path, numbers).values()) >= 50, "the test sees nothing"
        dead.purge()
        wait_until(no_trace(path, numbers), "traces are left")
        broker.backup(path.with_name("copy.db"))
        assert not traces(path, numbers)


def test_otherwise_it_is_not(path: Path) -> None:
    """Without it a purge leaves bodies behind, so the tests here can fail."""
    with embq.open(path, durability="normal") as broker:
        gone, _ = work(broker, 0)
        broker.queue("q").purge()
        assert "-wal" in traces(path, gone)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("pragma wal_checkpoint(truncate)")
        assert "database" in traces(path, gone)


def test_with_a_checkpoint_from_outside(path: Path) -> None:
    """CASE 60: a purge and somebody's checkpoint leave no trace either."""
    with embq.open(path, secure_delete=True) as broker:
        gone, left = work(broker, 1)
        broker.queue("q").purge()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("pragma wal_checkpoint(truncate)")
        wait_until(no_trace(path, gone | left), "traces are left")


def test_it_can_be_asked_for_later(path: Path) -> None:
    """CASE 60: a broker that asks for it gives it to all that the process has."""
    with embq.open(path, durability="normal") as first:
        queue = first.queue("q", codec="raw")
        queue.send(tag(TAGS) * 1000)
        held = queue.receive()
        assert held is not None
        with embq.open(path, durability="normal", secure_delete=True):
            held.ack()
            gone, left = work(first, 2)
            queue.purge()
            wait_until(no_trace(path, gone | left | {TAGS}), "traces are left")


def test_what_a_killed_process_left(path: Path, children: Children) -> None:
    """CASE 60: what the -wal of a killed process still has, the next one removes."""
    children.run(
        """
        import os, sys, embq
        queue = embq.open(sys.argv[1], secure_delete=True).queue("q", codec="raw")
        for number in range(50):
            queue.send(b"<%06d>" % number * 500)
        queue.receive_many(50, auto_ack=True)
        os._exit(0)
        """,
        path,
    )
    numbers = set(range(50))
    assert traces(path, numbers)
    with embq.open(path, secure_delete=True):
        wait_until(no_trace(path, numbers), "traces are left")


def test_two_that_wipe_come_to_rest(path: Path, children: Children) -> None:
    """CASE 60: two processes wipe one file, and write nothing when that is done."""
    child = children.start(
        """
        import sys, embq
        with embq.open(sys.argv[1], secure_delete=True) as broker:
            broker.queue("q", codec="raw").send(b"<%06d>" % 1)
            print("sent", flush=True)
            sys.stdin.readline()
        """,
        path,
    )
    children.expect(child, "sent")
    wal = path.with_name(f"{path.name}-wal")
    with embq.open(path, secure_delete=True) as broker:
        assert broker.queue("q").receive_many(2, auto_ack=True)
        wait_until(no_trace(path, {1}), "traces are left")
        time.sleep(1)  # the other one may be at it
        groups, size = broker.stats()["groups"], wal.stat().st_size
        time.sleep(1)
        assert (broker.stats()["groups"], wal.stat().st_size) == (groups, size)
    children.tell(child)
    children.finish(child)
