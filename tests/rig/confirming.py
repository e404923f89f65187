"""What a call had written and synced when it returned: played in a child of a stage."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import TYPE_CHECKING

from interpose import COUNT, DELAY, FAIL, FOREVER, Rig

import embq

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT_OF_VERBS = 8
PATIENCE_S = 10.0


def calls_of(broker: embq.Broker) -> dict[str, Callable[[], object]]:
    """Give the verbs, each with a message of its own to work on."""
    queue, taken = broker.queue("q"), broker.queue("taken")
    taken.send_many(list(range(COUNT_OF_VERBS)))
    held = taken.receive_many(2)
    broker.queue("loop").send_many([1, 2])
    admin = broker.queue("admin")
    admin.send_many([1, 2])
    broker.queue("gone").send(1)
    once = broker.idempotency("s")
    once.set("gone", 1)
    loop = broker.queue("loop").messages(prefetch=1, auto_ack=True)
    return {
        "send": lambda: queue.send(1),
        "send_many": lambda: queue.send_many([1, 2]),
        "send_nowait": lambda: queue.send_nowait(1).result(),
        "flush": lambda: (queue.send_nowait(1), broker.flush()),
        "receive auto_ack": lambda: taken.receive(auto_ack=True),
        "messages auto_ack": lambda: next(loop),
        "receive": taken.receive,
        "ack": held[0].ack,
        "nack": held[1].nack,
        "cancel": lambda: admin.cancel(admin.peek()[0].id),
        "purge": admin.purge,
        "pause": admin.pause,
        "configure": lambda: admin.configure(ttl=5),
        "delete": lambda: broker.delete("gone"),
        "set a result": lambda: once.set("set", 1),
        "get a result": lambda: once.get("set"),
        "run": lambda: once.run("run", lambda: 1),
        "delete a result": lambda: once.delete("gone"),
    }


def syncs(path: str, durability: str) -> dict[str, int]:
    """Count the fsyncs that were made before each verb returned."""
    rig = Rig(Path(path))
    counts = {}
    with embq.open(path, durability=durability) as broker:
        for name, call in calls_of(broker).items():
            rig.arm("fsync", COUNT)
            call()
            counts[name] = rig.disarm()
    return counts


def flush_on_a_slow_disk(path: str) -> list[bool]:
    """Tell which of some staged sends were done when flush returned."""
    rig = Rig(Path(path))
    with embq.open(path, durability="full") as broker:
        queue = broker.queue("q")
        rig.arm("fsync", DELAY, 1, FOREVER, 200_000)
        tickets = [queue.send_nowait(number) for number in range(3)]
        broker.flush()
        done = [ticket.done() for ticket in tickets]
        rig.disarm()
    return done


def failing(path: str, verb: str, call: str, number: int) -> list[str]:
    """Let a kind of call to the kernel fail during a verb; name what came of it.

    First of the verb, then of a send: without a fault, but for one of fsync, as the
    keeper's next would end the refusal.
    """
    rig = Rig(Path(path))
    broker = embq.open(path, durability="full")
    verbs = calls_of(broker)
    outcomes = []
    rig.arm(call, FAIL, 1, FOREVER, number)
    for again in (verbs[verb], lambda: broker.queue("q").send("after")):
        try:
            again()
            outcomes.append("confirmed")
        except embq.Error as error:
            outcomes.append(type(error).__name__)
        if call != "fsync":
            rig.disarm()
    rig.disarm()
    return outcomes


def full_for_a_while(path: str) -> list[int]:
    """Send beside a disk without room; return which sends were confirmed."""
    rig = Rig(Path(path))
    confirmed = []
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        for number in range(9):
            if number % 3 == 1:
                rig.arm("pwrite", FAIL, 1, FOREVER, errno.ENOSPC)
            try:
                queue.send(number)
                confirmed.append(number)
            except embq.StorageFull:
                pass
            rig.disarm()
    return confirmed


def syncs_of_a_checkpoint(path: str) -> tuple[int, int]:
    """Count the checkpoints, and the fsyncs, after a send that no call synced."""
    rig = Rig(Path(path))
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q", codec="raw")
        rig.arm("fsync", COUNT)
        queue.send(bytes(500_000))
        end = time.monotonic() + PATIENCE_S
        while not broker.stats()["checkpoints"] and time.monotonic() < end:
            time.sleep(0.02)
        return broker.stats()["checkpoints"], rig.disarm()
