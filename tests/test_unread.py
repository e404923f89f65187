"""Queues that nobody reads, and whose last reader died with all of it in hand.

Four processes send on and on. What is held makes way for nobody, whatever the policy;
after the death the policy is as it was, and at no look is there more than the bound.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, Self

import pytest
from conftest import wait_until

import embq

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Children

BOUND, PROCESSES = 10, 4
HELD = [f"held.{number:06}" for number in range(BOUND)]  # all bodies have one size
MOST = {"max_messages": BOUND, "max_bytes": BOUND * len(HELD[0])}
FREED = 3
WAIT = ("block", "reject")  # policies by which nothing makes way
ALL = 10_000
EVENTUALLY_S = 10.0

HOLD = """
    import sys, time, embq
    queue = embq.open(sys.argv[1], durability="normal").queue("q")
    held = queue.receive_many(1000)
    print(len(held), flush=True)
    time.sleep(600)
"""
SEND = """
    import json, sys, threading, time, embq
    path, name, overflow = sys.argv[1:]
    timeout = 0.5 if overflow == "block" else None
    queue = embq.open(path, durability="normal").queue("q")
    told = threading.Thread(target=sys.stdin.readline, daemon=True)
    told.start()
    sent = refused = 0
    while told.is_alive():
        try:
            queue.send(f"{name}.{sent:06}".encode(), timeout=timeout)
            sent += 1
        except embq.QueueFull:
            refused += 1
            if refused == 1:
                print("refused", flush=True)
        time.sleep(0.001)
    print(json.dumps(sent), flush=True)
"""


class Watch:
    """Looks at the queue all the time, through `sqlite3` alone.

    Attributes:
        most: How many messages there were at once.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.most = path, 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self) -> None:
        """Go on until told."""
        text = "select messages from embq_queues where name = 'q'"
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            while not self.ended.is_set():
                self.most = max(self.most, connection.execute(text).fetchone()[0])

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()


def texts(queue: embq.Queue[Any]) -> list[str]:
    """Empty it; what it had."""
    found = []
    for message in queue.messages(wait=0):
        found.append(message.data.decode())
        message.ack()
    return found


@pytest.mark.parametrize("bound", MOST)
@pytest.mark.parametrize("overflow", ["block", "reject", "drop_oldest", "dead_letter"])
def test_a_full_queue_whose_reader_died(
    path: Path, children: Children, overflow: str, bound: str
) -> None:
    """CASE 57: what is held makes no way until its holder's death; the bound holds."""
    options: dict[str, Any] = {"overflow": overflow, bound: MOST[bound]}
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q", codec="raw", **options)
        queue.send_many([text.encode() for text in HELD])
        reader = children.start(HOLD, path)
        children.expect(reader, f"{BOUND}")
        with Watch(path) as watch:
            senders = [f"snd{n}" for n in range(PROCESSES)]
            crowd = [children.start(SEND, path, name, overflow) for name in senders]
            for child in crowd:
                children.expect(child, "refused")
            stats = queue.stats()
            assert (stats["sent"], stats["in_flight"]) == (BOUND, BOUND)
            reader.kill()
            most = 3 * BOUND
            if overflow in WAIT:
                most = FREED
                for _ in range(FREED):
                    message = queue.receive(wait=EVENTUALLY_S)
                    assert message is not None
                    message.ack()
            wait_until(
                lambda: queue.stats()["sent"] >= BOUND + most,
                "the dead reader blocks the queue",
                EVENTUALLY_S,
            )
            for child in crowd:
                children.tell(child)
            counts = [json.loads(children.finish(child)) for child in crowd]
        stats = queue.stats()
        left = texts(queue)
        graves = broker.queue("q.dead", codec="raw").receive_many(ALL)
    sent = [[f"snd{n}.{k:06}" for k in range(count)] for n, count in enumerate(counts)]
    everything = [*HELD, *(text for theirs in sent for text in theirs)]
    assert watch.most == len(left) == BOUND
    if overflow in WAIT:
        assert sum(counts) == FREED
        assert sorted([*HELD[:FREED], *left]) == sorted(everything)
        assert (stats["dropped"], graves) == (0, [])
        return
    for theirs in sent:  # the newest are left
        kept = [text for text in left if text in theirs]
        assert kept == theirs[len(theirs) - len(kept) :]
    assert not set(left) & set(HELD)
    if overflow == "drop_oldest":
        assert (stats["dropped"], graves) == (len(everything) - BOUND, [])
        return
    buried = [message.data.decode() for message in graves]
    assert sorted([*buried, *left]) == sorted(everything)
    for message in graves:
        (entry,) = message.history
        assert entry["reason"] == "overflow"
        assert entry["receive_count"] == (message.data.decode() in HELD)
