"""Containers that share a file: other process ids, another boot time; and suspend."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from clock import ClockFile
from conftest import DEATH_NOTICED_S, Children, wait_until
from worker import Worker

import embq
from embq import _native

YEAR_S = 365 * 86_400
# Others than root need a user namespace, where they are root.
AS_ROOT = [] if os.geteuid() == 0 else ["--map-root-user"]
PIDS = ("unshare", *AS_ROOT, "--pid", "--fork", "--kill-child")
LATER = ("unshare", *AS_ROOT, "--time", "--fork", "--kill-child", "--boottime")
BOTH = (*PIDS, "--time", "--boottime", str(YEAR_S))
HOLDS = """
    import os, sys, embq
    broker = embq.open(sys.argv[1], durability="normal")
    queue = broker.queue("q")
    held = queue.receive_many(int(sys.argv[2]))
    print("holds", len(held), os.getpid(), flush=True)
    sys.stdin.readline()
    for message in held:
        message.ack()
    broker.close()
    print("done", flush=True)
"""


def container(*prefix: str) -> tuple[str, ...]:
    """Skip where no such namespace can be made."""
    if shutil.which("unshare") is None:
        pytest.skip("NO NAMESPACES: there is no unshare, so containers are untested")
    made = subprocess.run([*prefix, "true"], check=False, capture_output=True)
    if made.returncode:
        pytest.skip(f"NO NAMESPACES, so containers are untested: {made.stderr!r}")
    return prefix


def filled(path: Path, number: int, **options: Any) -> embq.Broker:
    """Make a queue with so many messages."""
    broker = embq.open(path, durability="normal")
    broker.queue("q", **options).send_many(list(range(number)))
    return broker


def test_the_same_pid_twice(path: Path, children: Children) -> None:
    """CASE 17: two containers, in each of which the process is number 1.

    They are told apart; the death of one gives back its messages, and only its own.
    """
    prefix = container(*PIDS)
    with filled(path, 4, visibility_timeout=1000) as broker:
        queue = broker.queue("q")
        one = children.start(HOLDS, path, 2, prefix=prefix)
        children.expect(one, "holds 2 1")
        other = children.start(HOLDS, path, 2, prefix=prefix)
        children.expect(other, "holds 2 1")
        time.sleep(1.5)  # long enough for a death to be noticed
        assert queue.stats()["in_flight"] == 4, "a live one was taken for dead"
        one.kill()
        wait_until(lambda: queue.stats()["in_flight"] == 2, "a death is not noticed")
        children.tell(other)
        children.expect(other, "done")
        for _ in range(2):  # suspects come one by one
            with queue.receive() as message:
                assert message.receive_count == 2
        assert queue.receive() is None


def test_a_death_is_seen_from_inside(path: Path, children: Children) -> None:
    """CASE 17: a container sees the death of a process that has no number there."""
    prefix = container(*PIDS)
    with filled(path, 1, visibility_timeout=1000):
        pass
    dying = children.start(HOLDS, path, 1)
    assert dying.stdout is not None
    assert dying.stdout.readline().startswith("holds 1")
    waiting = children.start(
        """
        import sys, embq
        with embq.open(sys.argv[1]) as broker:
            print("waits", flush=True)
            with broker.queue("q").receive(wait=30) as message:
                print("got", message.receive_count, flush=True)
        """,
        path,
        prefix=prefix,
    )
    children.expect(waiting, "waits")
    began = time.monotonic()
    dying.kill()
    children.expect(waiting, "got 2")
    assert time.monotonic() - began < DEATH_NOTICED_S
    children.finish(waiting)


def test_another_boot_time(path: Path, children: Children) -> None:
    """CASE 51: in another time namespace a lease is as long, seen from either side."""
    prefix = container(*LATER, str(YEAR_S))
    with filled(path, 4, visibility_timeout=3) as broker:
        queue = broker.queue("q")
        ours = queue.receive_many(2)
        began = time.monotonic()
        theirs = children.start(HOLDS, path, 2, prefix=prefix)
        assert theirs.stdout is not None
        assert theirs.stdout.readline().startswith("holds 2"), "our leases are over"
        assert queue.receive() is None, "their leases are over"
        for message in ours:
            message.ack()
        assert queue.receive(wait=10) is not None, "their leases do not end"
        assert 2.5 < time.monotonic() - began < 9


def test_both_at_once(path: Path, children: Children) -> None:
    """CASE 51: with other process ids and another boot time a death is noticed."""
    prefix = container(*BOTH)
    with filled(path, 2, visibility_timeout=1000) as broker:
        queue = broker.queue("q")
        held = queue.receive()
        child = children.start(HOLDS, path, 1, prefix=prefix)
        children.expect(child, "holds 1 1")
        child.kill()
        wait_until(lambda: queue.stats()["in_flight"] == 1, "a death is not noticed")
        held.ack()
        assert queue.receive().receive_count == 2


UNSHARED = """
    import ctypes, os, sys, embq
    path, before = sys.argv[1], sys.argv[2] == "before"
    if before:
        broker = embq.open(path)
        held = broker.queue("q").receive()
    assert ctypes.CDLL(None).unshare(0x80) == 0, "CLONE_NEWTIME"
    with open("/proc/self/timens_offsets", "w") as file:
        file.write("boottime 1000000 0")
    if not before:
        try:
            embq.open(path)
        except embq.LimitReached as error:
            assert "time namespace" in str(error), error
        else:
            sys.exit("it was not refused")
        broker = None
    child = os.fork()
    if not child:
        with embq.open(path) as inside:
            found = inside.queue("q").receive()
            assert (found is None) == before, "the lease is over"
            if found:
                found.ack()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    if broker:
        held.ack()
        broker.close()
    print("done")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="NEEDS ROOT: to unshare by itself")
@pytest.mark.parametrize("when", ["before", "after"])
def test_who_made_the_namespace(path: Path, children: Children, when: str) -> None:
    """CASE 51: who makes one is told what it may not; its child is right, and it too.

    The parent stays outside, and what it knew of its clock before still holds.
    """
    container(*LATER, "1")
    with filled(path, 1, visibility_timeout=1000) as broker:
        assert children.run(UNSHARED, path, when).strip() == "done"
        assert broker.queue("q").depth() == 0


def test_suspend(path: Path, clock: ClockFile) -> None:
    """CASE 51: while the machine sleeps leases go on, and end; none is handed over.

    All clocks but the monotonic one jump. What a loop has claimed ahead is not given to
    its handler afterwards, but to whoever comes.
    """
    _native.use_clock(clock.path)
    worker = Worker(clock.path)
    try:
        with filled(path, 20, visibility_timeout=30) as broker:
            queue = broker.queue("q")
            other = worker.open(path, durability="normal").queue("q")
            loop = queue.messages(prefetch=10, wait=0)
            first = next(loop)
            theirs = other.receive()
            stats = queue.stats()
            assert stats["in_flight"] >= 2
            clock.advance(3600)  # asleep
            with pytest.warns(embq.LeaseExpiredWarning):
                first.ack()  # nobody has it yet
            seen = [message.data for message in other.receive_many(30)]
            assert theirs.data in seen or other.receive() is not None
            rest = [message.data for message in loop]
            assert not set(rest) & set(seen), "one is handed over to two"
            loop.close()
    finally:
        worker.stop()
        _native.use_clock(None)
