"""Parts of recorded runs that send the same again, under dedup ids.

A message's key is its dedup id. Words of the record:

    repeat TICKET MODE QUEUE KEYS     begins, for the first time or again
    repeated TICKET IDS               it has returned; without this word its answer was
                                      lost, or its process died
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

from images_work import PATIENCE_S, Run, payload

import embq

_numbers = itertools.count()


def repeat(
    run: Run, queue: embq.Queue, *keys: str, answered: bool = True
) -> list[embq.Sent]:
    """Send one, or several as a batch; forget the answer if it is to be lost."""
    ticket = f"{keys[0]} {os.getpid()}.{next(_numbers)}"
    run.say("repeat", ticket, run.mode(queue), queue.name, keys)
    if len(keys) == 1:
        sent = [queue.send(payload(keys[0]), dedup_id=keys[0])]
    else:
        sent = queue.send_many(
            [embq.Outgoing(payload(key), dedup_id=key) for key in keys]
        )
    if answered:
        run.say("repeated", ticket, [one.id for one in sent])
    return sent


def stage(run: Run, queue: embq.Queue, key: str) -> Callable[[], None]:
    """Send without waiting; what this returns waits."""
    ticket = f"{key} {os.getpid()}.{next(_numbers)}"
    run.say("repeat", ticket, run.mode(queue), queue.name, [key])
    staged = queue.send_nowait(payload(key), dedup_id=key)

    def wait() -> None:
        run.say("repeated", ticket, [staged.result(PATIENCE_S).id])

    return wait


def repeating(run: Run, mode: str, name: str, count: int) -> None:
    """Send each a second time: at once, after a lost answer, or in a larger batch."""
    other = {"full": "normal", "normal": "full"}[mode]
    queue, strict = run.queue(mode, "q"), run.queue(other, "q")
    for i in range(count):
        keys = [f"{name}{i}.{n}" for n in range(3)]
        if i % 4 == 0:
            repeat(run, queue, keys[0])
            again = repeat(run, strict, keys[0])
        elif i % 4 == 1:
            repeat(run, queue, keys[0], answered=False)
            again = repeat(run, queue, keys[0])
        elif i % 4 == 2:
            repeat(run, queue, *keys[:2], answered=False)
            again = repeat(run, strict, *keys)[:2]
        else:
            wait = stage(run, queue, keys[0])
            repeat(run, strict, keys[0])
            wait()
            again = repeat(run, strict, keys[0])
        assert all(one.duplicate for one in again), f"{keys}: stored again, {again}"


def racing(run: Run, mode: str, name: str, count: int) -> None:
    """Send what another thread or process sends as well, under the same dedup ids."""
    queue = run.queue(mode, "q")
    for i in range(count):
        repeat(run, queue, *(f"{name}{i}.{n}" for n in range(1 + i % 3)))
