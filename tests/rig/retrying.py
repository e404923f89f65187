"""Sends with retries, each in trouble in a child of a stage; see test_retrying.py."""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clock import ClockFile
from rig.interpose import FAIL, FOREVER, KILL
from rig.play import FATAL
from rig.troubles import Scene, outcome

import embq
from embq import _native, _retrier

LIMIT_S = 0.05  # of a try that is to fail


def pauses_do(*steps: Callable[[], object]) -> list[float]:
    """Let the pauses take no time: each does a step instead; they are noted."""
    todo, seen = list(steps), []

    def sleep(seconds: float) -> None:
        if seconds == _retrier._LOOK_S:
            time.sleep(seconds)
            return
        seen.append(seconds)
        if todo:
            todo.pop(0)()

    _retrier.sleep = sleep
    return seen


def send(scene: Scene, *names: str, **options: Any) -> tuple[list[str], str]:
    """Send one, or several as a batch; give what is said of each, or the error.

    Returns:
        "stored" or "duplicate" of each, or the names of the error and of its cause; and
        what the ledger calls the step.
    """
    number = scene.ledger.begin("send", list(names))
    try:
        if len(names) == 1:
            sent = [scene.queue.send([names[0], ""], **options)]
        else:
            sent = scene.queue.send_many([[name, ""] for name in names], **options)
    except embq.Error as error:
        scene.ledger.failed(number, error)
        cause = type(error.__cause__).__name__ if error.__cause__ else ""
        return [type(error).__name__, cause], number
    scene.ledger.end(number, ids=[one.id for one in sent])
    return ["duplicate" if one.duplicate else "stored" for one in sent], number


def failing(
    folder: str, call: str, last: int, names: list[str], options: dict[str, Any]
) -> dict[str, Any]:
    """The first to the `last` of these calls fail: what becomes of a send?"""
    scene = Scene(folder)
    assert scene.send("before") == ""
    pauses = pauses_do()
    scene.rig.arm(call, FAIL, 1, last, errno.EIO)
    said, _ = send(scene, *names, **options)
    scene.rig.disarm()
    after, _ = send(scene, "after", retries=1)
    scene.broker.close()
    return {"said": said, "pauses": len(pauses), "after": after}


def between(folder: str, what: str, call: str) -> dict[str, Any]:
    """A call fails; what makes it unsafe to go on comes before the second try."""
    clock = ClockFile(Path(folder).with_name("clock"))
    _native.use_clock(clock.path)
    scene = Scene(folder)
    foreign = sqlite3.connect(scene.path, isolation_level=None)
    other = embq.open(scene.path, durability="normal")
    steps = {
        "configure": lambda: other.queue("q").configure(dedup_window=0),
        "clock": lambda: clock.advance(301),
        "close": lambda: outcome(scene.broker.close),
        "lock": lambda: foreign.execute("begin immediate"),
    }
    pauses_do(steps[what])
    scene.rig.arm(call, FAIL, 1, 1, errno.EIO)
    said, _ = send(scene, "a", retries=1, timeout=5.0 if what != "lock" else LIMIT_S)
    scene.rig.disarm()
    foreign.close()
    with embq.open(scene.path, durability="normal") as fresh:
        found = fresh.queue("q").depth()
    other.close()
    scene.broker.close()
    return {"said": said, "found": found}


def locked(folder: str, retries: int, free_after: int) -> dict[str, Any]:
    """Another connection has the write lock until so many tries have failed."""
    scene = Scene(folder)
    assert scene.send("before") == ""
    foreign = sqlite3.connect(scene.path, isolation_level=None)
    foreign.execute("begin immediate")
    wait = [lambda: None] * (free_after - 1)
    pauses = pauses_do(*wait, lambda: foreign.execute("rollback"))
    one, _ = send(scene, "a", retries=retries, timeout=LIMIT_S)
    foreign.close()
    scene.broker.close()
    return {"said": one, "pauses": len(pauses)}


def in_doubt(folder: str) -> dict[str, Any]:
    """An fsync fails, then a write, and a reader keeps the WAL from starting over.

    The second failure leaves the engine for a new one; is the first one forgotten?
    """
    scene = Scene(folder)
    normal = embq.open(scene.path, durability="normal")
    assert scene.send("before") == ""
    foreign = sqlite3.connect(scene.path, isolation_level=None)
    foreign.execute("begin")
    foreign.execute("select * from embq_meta").fetchall()
    scene.rig.arm("fsync", FAIL, 1, 1, errno.EIO)
    first, _ = send(scene, "a", dedup_id="a")
    scene.rig.arm("pwrite", FAIL, 1, FOREVER, errno.EIO)
    second = scene.send("b", normal.queue("q"))
    scene.rig.disarm()
    with embq.open(scene.path) as fresh:
        scene.queue = fresh.queue("q")
        refused, _ = send(scene, "c")
        foreign.close()
        then, _ = send(scene, "d", retries=1)
    normal.close()
    scene.broker.close()
    return {"said": [first[0], second, refused[0], then[0]]}


def killed(folder: str, call: str, kill_at: int) -> int:
    """A call fails, and in the second try the process is killed; 0: count its calls."""
    scene = Scene(folder)
    assert scene.send("before") == ""
    pauses_do(lambda: scene.rig.arm(FATAL, KILL, kill_at or FOREVER))
    scene.rig.arm(call, FAIL, 1, 1, errno.EIO)
    said, _ = send(scene, "a", retries=3)
    assert said == ["stored"]
    return scene.rig.disarm()
