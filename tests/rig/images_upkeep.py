"""Parts of recorded runs in which something is asked for of a queue, or of a message.

Their words are in images_asked.py.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

from images_work import FAR_S, SOON_S, Run

import embq

FAR = datetime(2100, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MANY, BATCH = 1300, 650  # more than one step of a purge
MODES = ("full", "normal")
FIRST_S = 1000  # a lease; each that is configured is longer


def fill(run: Run) -> None:
    """Make the queues, and for the purge more messages than one step of it removes."""
    run.queue("normal", "settings", visibility_timeout=FIRST_S)
    run.say("set", "full", "settings", "visibility_timeout_ms", FIRST_S * 1000)
    run.say("was set", "settings", "visibility_timeout_ms")
    run.say("set", "full", "settings", "paused_until_ms", 0)
    run.say("was set", "settings", "paused_until_ms")
    run.queue("normal", "single", visibility_timeout=FIRST_S, max_receives=2)
    queue = run.queue("normal", "many", visibility_timeout=FIRST_S)
    for first in range(0, MANY, BATCH):
        run.send(queue, *(f"P{n}" for n in range(first, first + BATCH)))
    for message in queue.receive_many(20):
        run.handle(message, "nack")
    run.place(queue, **{f"Plate{n}": {"delay": FAR_S} for n in range(9)})


# ---- settings ----


def setting(run: Run, count: int) -> None:
    """Configure, pause and resume, at full and at normal in turn."""
    for i in range(count):
        mode = MODES[i // 3 % 2]
        queue = run.queue(mode, "settings")
        if i % 3 == 0:
            lease_s = FIRST_S + 1 + i
            run.say("set", mode, queue.name, "visibility_timeout_ms", lease_s * 1000)
            queue.configure(visibility_timeout=lease_s)
            run.say("was set", queue.name, "visibility_timeout_ms")
        else:
            _pause(run, mode, queue, FAR + timedelta(days=i) if i % 3 == 1 else None)
        run.send(queue, f"{mode}{i}")


def _pause(run: Run, mode: str, queue: embq.Queue, until: datetime | None) -> None:
    """Pause, or resume when there is no end to it."""
    until_ms = (until - EPOCH) // timedelta(milliseconds=1) if until else 0
    run.say("set", mode, queue.name, "paused_until_ms", until_ms)
    if until:
        queue.pause(until)
    else:
        queue.resume()
    run.say("was set", queue.name, "paused_until_ms")


# ---- removing ----


def cancelling(run: Run, count: int) -> None:
    """Cancel what is new, delayed or mortal, unless others have just taken it."""
    kinds: list[dict[str, Any]] = [
        {},
        {"delay": FAR_S},
        {"ttl": FAR_S, "priority": 7},
        {"delay": SOON_S},
    ]
    for i in range(count):
        key, mode = f"c{i}", MODES[i // 2 % 2]
        queue = run.queue("normal", "single")
        (sent,) = run.place(queue, **{key: kinds[i % len(kinds)]})
        _cancel(run, mode, key, sent.id)
        run.send(queue, f"stays{i}")


def _cancel(run: Run, mode: str, key: str, identity: str) -> None:
    """Cancel one, unless somebody has had it."""
    queue, done = run.queue(mode, "single"), False
    run.say("cancel", mode, key)
    with contextlib.suppress(embq.NotFound):
        done = queue.cancel(identity)
    run.say("cancelled", key, done)


def _purge(run: Run, mode: str, queue: embq.Queue) -> None:
    run.say("purge", mode, queue.name)
    queue.purge()
    run.say("purged", queue.name)


def purging(run: Run) -> None:
    """Purge many at full; fill the queue again, and purge at normal."""
    full, normal = run.queue("full", "many"), run.queue("normal", "many")
    _purge(run, "full", full)
    run.send(full, *(f"Pf{n}" for n in range(3)))
    for first in range(0, MANY, BATCH):
        run.send(normal, *(f"Pn{n}" for n in range(first, first + BATCH)))
    _purge(run, "normal", normal)
    for n in range(3):
        run.send(normal, f"Pz{n}")


def emptying(run: Run, count: int) -> None:
    """Purge a few, with nobody else whose fsync covers that."""
    for i in range(count):
        run.send(run.queue("normal", "many"), f"Pe{i}")
        _purge(run, "full", run.queue("full", "many"))
