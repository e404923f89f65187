"""A script on a small disk: fill it, drain it, fill it again; see test_full_disk.py.

It runs in a mount namespace of its own and mounts there a tmpfs, which is gone with it.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import embq

DISK = 8 << 20
SIZES = (64 << 10, 4096, 100, 1)  # tried one after the other: the last finds any room
ENOUGH = 100_000
CHECKPOINTED_S = 1.0  # after which all of the -wal is in the database
REJECTED_S = 5.0  # in which a reject finds room
NUMBER = 8  # bytes at the beginning of a body that tell it from all others


class Disk:
    """The small disk, the queue on it, and what must be in the queue."""

    def __init__(self, folder: str, durability: str) -> None:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder]
        subprocess.run(mount, check=True)
        self.folder, self.durability = Path(folder), durability
        self.numbers = iter(range(1 << 60))
        self.stored: set[int] = set()
        self.open()

    def open(self) -> None:
        """Open the file."""
        path = self.folder / "queue.db"
        self.broker: Any = embq.open(path, durability=self.durability)
        self.queue = self.broker.queue("q", codec="raw", visibility_timeout=1000)

    def body(self, size: int) -> tuple[int, bytes]:
        """Make a body that no other message has."""
        number = next(self.numbers)
        return number, number.to_bytes(NUMBER) + b"x" * max(0, size - NUMBER)

    # ---- ways to send until it is full; each gives what it has stored ----

    def send(self, size: int) -> Iterator[int]:
        """One by one."""
        with suppress(embq.StorageFull):
            for _ in range(ENOUGH):
                number, body = self.body(size)
                self.queue.send(body)
                yield number

    def send_many(self, size: int) -> Iterator[int]:
        """In batches, of which none may be stored in part."""
        with suppress(embq.StorageFull):
            for _ in range(ENOUGH):
                batch = [self.body(size) for _ in range(5)]
                self.queue.send_many([body for _, body in batch])
                yield from [number for number, _ in batch]

    def send_nowait(self, size: int) -> Iterator[int]:
        """Staged, as many at once as there may be."""
        full = False
        while not full:
            batch = [self.body(size) for _ in range(20)]
            tickets = [(n, self.queue.send_nowait(body)) for n, body in batch]
            for number, ticket in tickets:
                try:
                    ticket.result(60)
                except embq.StorageFull:
                    full = True
                else:
                    yield number

    def fill(self, way: str) -> int:
        """Send until not even a byte is taken; return how much was."""
        before = len(self.stored)
        total = 0
        for size in SIZES:
            for number in getattr(self, way)(size):
                self.stored.add(number)
                total += max(size, NUMBER)
        assert len(self.stored) > before, "nothing was taken"
        assert len(self.stored) < ENOUGH, "there is no end"
        return total

    def takes_nothing(self) -> None:
        """Say that no send passes."""
        try:
            self.queue.send(b"")
        except embq.StorageFull:
            return
        text = "the disk has room"
        raise AssertionError(text)

    def fill_with(self, step: int) -> None:
        """Let a file that is not ours take the last byte."""
        file = (self.folder / "filler").open("wb", buffering=0)
        with file, suppress(OSError):
            while file.write(b"x" * step):
                pass

    # ---- ways to drain ----

    def came(self, message: embq.Message) -> None:
        """Note a message that is acked."""
        self.stored.remove(int.from_bytes(message.body[:NUMBER]))

    def ack(self) -> None:
        """One by one."""
        while message := self.queue.receive():
            message.ack()
            self.came(message)

    def loop(self) -> None:
        """By the loop."""
        for message in self.queue.messages(wait=0):
            message.ack_nowait()
            self.came(message)
        self.broker.flush()

    def retry(self) -> None:
        """After each came back once."""
        seen: Counter[bytes] = Counter()
        while message := self.queue.receive():
            number = message.body[:NUMBER]
            seen[number] += 1
            if seen[number] == 1:
                message.nack(delay=0)
            else:
                message.ack()
                self.came(message)

    def reject(self) -> None:
        """By way of the dead letters, which need room until the next checkpoint."""
        while message := self.queue.receive():
            end = time.monotonic() + REJECTED_S
            while True:
                try:
                    message.reject("hopeless")
                    break
                except embq.StorageFull:
                    assert time.monotonic() < end, "there is no room for dead letters"
                    time.sleep(0.01)
        dead = self.broker.queue("q.dead")
        while message := dead.receive():
            message.ack()
            self.came(message)

    def drain(self, way: str) -> None:
        """Take all, by a way that may not fail; nothing is lost."""
        getattr(self, way)()
        assert not self.stored, f"{len(self.stored)} are lost"
        assert self.queue.depth() == 0


def reserve(disk: Disk, send: str, drain: str) -> dict[str, int]:
    """Fill, drain and fill again: sends stop, and the rest goes on."""
    filled = [disk.fill(send)]
    for _ in range(2):
        disk.takes_nothing()
        disk.drain(drain)
        filled.append(disk.fill(send))
    disk.drain(drain)
    disk.broker.close()
    return {"first": filled[0], "again": min(filled[1:])}


def filler(disk: Disk) -> dict[str, Any]:
    """Somebody else takes the last byte, the reserve too; later it is given back."""
    disk.fill("send")
    disk.fill_with(4096)
    errors: Counter[str] = Counter()

    def attempt(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except embq.Error as error:
            errors[type(error).__name__] += 1
            return None

    for _ in range(100):
        number, body = disk.body(NUMBER)
        if attempt(lambda body=body: disk.queue.send(body)):
            disk.stored.add(number)
        message = attempt(disk.queue.receive)
        if message is not None and attempt(lambda one=message: one.ack() or one):
            disk.came(message)
    attempt(disk.broker.close)
    attempt(disk.open)
    fresh = disk.folder / "fresh.db"
    attempt(lambda: embq.open(fresh).close())
    (disk.folder / "filler").unlink()
    embq.open(fresh).close()
    disk.broker.close()
    disk.open()
    disk.drain("ack")
    filled = disk.fill("send")
    disk.drain("ack")
    disk.broker.close()
    return {"errors": dict(errors), "again": filled}


def backup(disk: Disk) -> dict[str, Any]:
    """Back up to the disk itself: it does not fit, and then it does."""
    disk.fill("send")
    before = {file.name for file in disk.folder.iterdir()}
    copy = disk.folder / "copy.db"
    refused = ""
    try:
        disk.broker.backup(copy)
    except embq.StorageFull as error:
        refused = str(error)
    left = {file.name for file in disk.folder.iterdir()} - before
    disk.drain("ack")
    disk.broker.close()  # the -wal goes, and free pages are given back
    disk.open()
    disk.queue.send(b"small")
    with closing(sqlite3.connect(disk.folder / "queue.db")) as connection:
        connection.execute("vacuum")
    disk.broker.backup(copy)
    with embq.open(copy) as other:
        depth = other.queue("q").depth()
    disk.broker.close()
    return {"refused": refused, "left": sorted(left), "depth": depth}


def waiting(disk: Disk) -> dict[str, Any]:
    """An ack makes room for sends that wait, in the moment that the disk is full."""
    queue = disk.broker.queue("bounded", codec="raw", max_messages=2)
    queue.send_many([b"x" * (200 << 10)] * 2)
    held = queue.receive()
    errors: list[str] = []

    def send() -> None:
        try:
            queue.send(b"x" * (1 << 20), timeout=30)
        except embq.Error as error:
            errors.append(type(error).__name__)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(CHECKPOINTED_S)
    for _ in range(2):  # the first starts the -wal over
        disk.queue.send(b"")  # and looks how much is free: that is believed for a while
    disk.fill_with(1 << 20)
    held.ack()
    for thread in threads:
        thread.join()
    (disk.folder / "filler").unlink()
    left = [len(message.body) for message in queue.browse()]
    disk.broker.close()
    return {"errors": errors, "left": left}


SCENES: dict[str, Callable[..., dict[str, Any]]] = {
    "reserve": reserve,
    "filler": filler,
    "backup": backup,
    "waiting": waiting,
}

if __name__ == "__main__":
    scene, folder, durability, *ways = sys.argv[1:]
    small = Disk(folder, durability)
    result = SCENES[scene](small, *ways)
    print(json.dumps(result))  # noqa: T201  (the answer)
