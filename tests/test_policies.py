"""Queues that block no more while sends wait: what holds from then on decides."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import embq
from embq import _native, errors
from embq._options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 12.0
SETTLED_S = 0.1  # after which a call that can go on would have

#: As the file has them, see csrc/store.h.
OVERFLOWS = ["block", "reject", "drop_oldest", "dead_letter"]
#: What `configure` is told; what is stored in the end of a, b, the waiting c and d, and
#: the new e; what is dead; who is refused.
POLICIES = {
    "reject": ({"overflow": "reject"}, "ab", "", "cde"),
    "reject_but_one": ({"overflow": "reject", "max_messages": 3}, "abc", "", "de"),
    "drop_oldest": ({"overflow": "drop_oldest"}, "de", "", ""),
    "dead_letter": ({"overflow": "dead_letter", "dead_letter": "x"}, "de", "abc", ""),
    "block_more": ({"max_messages": 5}, "abcde", "", ""),
    "no_bounds": ({"max_messages": None}, "abcde", "", ""),
}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for the calls that block."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


@contextlib.contextmanager
def one_group(path: Path) -> Iterator[sqlite3.Connection]:
    """Hold SQLite's write lock: what is called meanwhile becomes one group."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        yield other
        other.execute("commit")


def change_of(queue: Any, options: dict[str, Any]) -> Callable[[], object]:
    """Return the call that configures the queue, and is one operation."""
    handle, channel = queue._handle, queue._channel
    _, packed = _native.declare(handle, queue.name.encode(), b"")
    changed = Options.decode(packed).changed(queue.name, options).encode()
    return lambda: _native.configure(handle, channel, packed, changed)


def configured(other: sqlite3.Connection, options: dict[str, Any]) -> None:
    """Write what another process would that configures the queue."""
    values = dict(options)
    if "overflow" in values:
        values["overflow"] = OVERFLOWS.index(values["overflow"])
    for name, value in values.items():
        change = f"update embq_channel set {name} = ? where name = 'q'"
        assert other.execute(change, (value or 0,)).rowcount == 1


def settled(call: Future[Any]) -> Future[Any]:
    """Give a call the time to get where it waits."""
    time.sleep(SETTLED_S)
    assert not call.done()
    return call


def is_refused(call: Future[Any]) -> bool:
    """Wait for a send, and tell whether it found no room."""
    try:
        assert call.result(PATIENCE_S / 2).id
    except errors.QueueFull:
        return True
    return False


def contents(queue: Any) -> str:
    """Receive and ack all that is there."""
    found = ""
    while message := queue.receive(0):
        found += message.data
        message.ack()
    return found


@pytest.mark.parametrize("by", ["this process", "another"])
@pytest.mark.parametrize("policy", POLICIES)
def test_those_that_wait_go_first(
    path: Path, pool: ThreadPoolExecutor, policy: str, by: str
) -> None:
    """CASE 57: before a send of the same group, by the new policy; none waits on."""
    options, stored, dead, refused = POLICIES[policy]
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q", max_messages=2)
        queue.send_many(["a", "b"])
        sends = {}
        for data in "cd":
            sends[data] = settled(pool.submit(queue.send, data, timeout=PATIENCE_S))
        change = change_of(queue, options)
        with one_group(path) as other:
            if by == "another":
                configured(other, options)
            else:
                settled(pool.submit(change))
            sends["e"] = settled(pool.submit(queue.send, "e", timeout=PATIENCE_S))
        assert "".join(name for name in sends if is_refused(sends[name])) == refused
        assert contents(queue) == stored
        assert contents(broker.queue("x")) == dead


@pytest.mark.parametrize("options", [{"max_messages": None}, {"overflow": "reject"}])
def test_one_that_was_refused_in_the_group(
    path: Path, pool: ThreadPoolExecutor, options: dict[str, Any]
) -> None:
    """What found no room just before the change goes before what comes after it."""
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q", max_messages=1)
        queue.send("a")
        change = change_of(queue, {"max_messages": 2} | options)
        with one_group(path):
            first = settled(pool.submit(queue.send, "b", timeout=PATIENCE_S))
            settled(pool.submit(change))
            second = settled(pool.submit(queue.send, "c", timeout=PATIENCE_S))
        assert not is_refused(first)
        assert is_refused(second) == ("overflow" in options)
        assert contents(queue).startswith("ab")
