"""Single troubles, each lived through in a child of a stage; see test_faults.py."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import select
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rig.interpose import DELAY, FAIL, FOREVER, Rig
from rig.ledger import EACH, Ledger
from rig.life import open_files
from rig.play import PATIENCE_S, names

import embq

REFUSED_S = 1.0  # how long a disk that is broken for good is tried
PAUSE_S = 0.01
ROOM = 64 << 10  # that a file may still grow under RLIMIT_FSIZE


def outcome(call: Callable[[], object]) -> str:
    """Name the error that a call ends with, or "done"."""
    try:
        call()
    except embq.Error as error:
        return type(error).__name__
    return "done"


class Scene:
    """A file with a queue, the ledger, and the controls."""

    def __init__(self, folder: str) -> None:
        Path(folder).mkdir()
        self.path = Path(folder) / "test.db"
        self.ledger = Ledger(Path(folder) / "ledger")
        self.rig = Rig(self.path)
        self.broker = embq.open(self.path)
        self.queue = self.broker.queue("q")

    def send(
        self,
        name: str,
        queue: embq.Queue | None = None,
        *,
        timeout: float | None = None,
        padding: str = "",
    ) -> str:
        """Send; name the error, or "" when it is confirmed."""
        number = self.ledger.begin("send", [name])
        try:
            (queue or self.queue).send([name, padding], timeout=timeout)
        except embq.Error as error:
            self.ledger.failed(number, error)
            return type(error).__name__
        self.ledger.end(number)
        return ""

    def receive(self, count: int) -> list[embq.Message]:
        """Receive the first ones."""
        with self.ledger.step("claim", names(count)):
            got = self.queue.receive_many(count)
        assert [message.data[0] for message in got] == names(count)
        return got

    def ack(self, message: embq.Message) -> float:
        """Ack; return how long it took."""
        begun = time.monotonic()
        with self.ledger.step("ack", [message.data[0]]):
            message.ack()
        return time.monotonic() - begun

    def wal_salt(self) -> bytes:
        """Read what changes when the WAL starts over."""
        return self.path.with_name("test.db-wal").read_bytes()[16:24]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Look until it is so; False when the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(PAUSE_S)
    return True


def broken_sync(folder: str, for_good: object, reader: object) -> dict[str, Any]:
    """An fdatasync fails, once or from then on: which full sends are confirmed?

    Only full sends are tried, but for one at `normal`. A reader keeps the WAL from
    starting over, until it ends.
    """
    scene = Scene(folder)
    for name in names(3):
        assert scene.send(name) == ""
    held = scene.receive(2)
    foreign = sqlite3.connect(scene.path, isolation_level=None)
    if reader:
        foreign.execute("begin")
        foreign.execute("select * from embq_meta").fetchall()
    normal = embq.open(scene.path, durability="normal")
    scene.rig.arm("fsync", FAIL, 1, FOREVER if for_good else 1, errno.EIO)
    first, salt = scene.send("first"), scene.wal_salt()
    scene.ack(held[0])
    beside = scene.send("normal", normal.queue("q"))
    refused: Counter[str] = Counter()
    numbers = itertools.count()

    def confirmed() -> bool:
        error = scene.send(f"s{next(numbers)}")
        refused[error] += 1
        return not error

    early = until(confirmed, REFUSED_S) if for_good or reader else False
    over_early = scene.wal_salt() != salt
    scene.rig.disarm()
    foreign.close()
    healed = until(confirmed, PATIENCE_S)
    over = scene.wal_salt() != salt
    scene.ack(held[1])
    normal.close()
    scene.broker.close()
    return {
        "first": first,
        "beside": beside,
        "refused": dict(refused),
        "early": early,
        "over_early": over_early,
        "healed": healed,
        "over": over,
    }


def close_after(folder: str, call: str) -> tuple[str, str]:
    """Close, when what was staged failed and nobody asked; tell what is raised."""
    scene = Scene(folder)
    assert scene.send("t0") == ""
    scene.rig.arm(call, FAIL, 1, FOREVER, errno.EIO)
    scene.ledger.begin("send", ["t1"], EACH)
    scene.queue.send_nowait("t1")
    if call == "pwrite":  # wait for the failure, which no flush will tell then

        def failed() -> bool:
            try:
                scene.broker.ping()
            except embq.CommitUncertain:
                return True
            return False

        assert until(failed, PATIENCE_S)
    try:
        scene.broker.close()
    except embq.Error as error:
        return type(error).__name__, str(error)
    finally:
        scene.rig.disarm()
    return "", ""


def slow_sync(folder: str, seconds: float, limit: float) -> dict[str, Any]:
    """Send with a time limit, and without, while an fdatasync takes long; and ack."""
    scene = Scene(folder)
    for name in names(8):
        assert scene.send(name) == ""
    held = scene.receive(6)
    scene.rig.arm("fsync", DELAY, 1, 1, round(seconds * 1_000_000))
    limited: list[tuple[str, float]] = []
    patient: list[tuple[str, float]] = []

    def work(name: str, into: list[tuple[str, float]], **options: Any) -> None:
        begun = time.monotonic()
        into.append((scene.send(name, **options), time.monotonic() - begun))

    first = threading.Thread(
        target=work, args=("first", limited), kwargs={"timeout": limit}
    )
    first.start()
    while scene.rig.seen() == 0:  # now it sleeps in there
        time.sleep(0.001)
    others = [
        threading.Thread(
            target=work, args=(f"l{n}", limited), kwargs={"timeout": limit}
        )
        for n in range(3)
    ]
    others += [threading.Thread(target=work, args=(f"p{n}", patient)) for n in range(3)]
    for thread in others:
        thread.start()
    acks = [scene.ack(message) for message in held]
    for thread in (first, *others):
        thread.join()
    scene.broker.flush()
    scene.broker.close()
    return {"limited": limited, "patient": patient, "acks": acks}


def fork_beside_slow_sync(folder: str, seconds: float) -> dict[str, Any]:
    """Fork while a thread is in an fdatasync for longer than a fork waits."""
    scene = Scene(folder)
    idle = embq.open(Path(folder) / "idle.db").queue("q")
    assert scene.send("before") == ""
    scene.rig.arm("fsync", DELAY, 1, 1, round(seconds * 1_000_000))
    thread = threading.Thread(target=scene.send, args=("slow",))
    thread.start()
    while scene.rig.seen() == 0:  # now it sleeps in there
        time.sleep(0.001)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        answers = [
            outcome(scene.queue.depth),
            outcome(idle.depth),
            outcome(lambda: embq.open(Path(folder) / "other.db").ping()),
        ]
        os.write(writer, " ".join(answers).encode())
        os._exit(0)
    ready, _, _ = select.select([reader], [], [], 10.0)
    said = os.read(reader, 100).decode().split() if ready else ["stuck"]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    thread.join()
    after = scene.send("after")
    scene.broker.close()
    return {"child": said, "after": after}


def no_longer_files(folder: str) -> dict[str, Any]:
    """RLIMIT_FSIZE: send until it is met, ack all, and go on once it is lifted."""
    scene = Scene(folder)
    files = open_files()
    sizes = [path.stat().st_size for path in scene.path.parent.glob("test.db*")]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes) + ROOM, hard))
    errors: Counter[str] = Counter()
    for name in names(100):
        if error := scene.send(name, padding="x" * 8192):
            errors[error] += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    again = [scene.send(name) for name in names(3, letter="s")]
    leaked = open_files() - files
    scene.broker.close()
    return {"errors": dict(errors), "again": again, "leaked": leaked}


def no_descriptors(folder: str) -> dict[str, Any]:
    """RLIMIT_NOFILE: open with one more each time, until it is enough."""
    Path(folder).mkdir()
    path, ledger = Path(folder) / "test.db", Ledger(Path(folder) / "ledger")
    Rig(path)
    files = open_files()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    errors: Counter[str] = Counter()
    leaked: list[int] = []
    for more in range(64):
        resource.setrlimit(resource.RLIMIT_NOFILE, (files + more, hard))
        try:
            broker = embq.open(path)
        except embq.Error as error:
            errors[type(error).__name__] += 1
        else:
            break
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        leaked.append(open_files() - files)
    with ledger.step("send", ["t0"]):
        broker.queue("q").send("t0")
    broker.close()
    return {"errors": dict(errors), "leaked": leaked}
