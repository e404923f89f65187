"""How things end: tickets, closings and loops among signals and other threads."""

import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conftest import Children, wait_until

import embq
from embq import errors

HOLD_THE_LOCK = """
    import sqlite3, sys, time
    db = sqlite3.connect(sys.argv[1], isolation_level=None)
    db.execute("begin immediate")
    print("locked", flush=True)
    sys.stdin.readline() if len(sys.argv) < 3 else time.sleep(float(sys.argv[2]))
    db.execute("rollback")
"""
IDLE_S = 2.0
MIB = 1 << 20


@pytest.fixture
def broker(path: Path) -> Iterator[embq.Broker]:
    """A broker of the core; here the model takes no part."""
    with embq.open(path, durability="normal") as opened:
        yield opened


@contextmanager
def harmless_alarms(seconds: float) -> Iterator[list[int]]:
    """Send this process signals whose handler does nothing but count them."""
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: seen.append(number))
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield seen
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_harmless_signal_ends_no_wait_for_a_ticket(
    broker: embq.Broker, path: Path, children: Children
) -> None:
    """A handler that returns lets `result()` go on waiting until it is stored."""
    queue = broker.queue("q")
    child = children.start(HOLD_THE_LOCK, path, 0.8)
    children.expect(child, "locked")
    ticket = queue.send_nowait("x")
    with harmless_alarms(0.1) as seen:
        assert ticket.result().id
    assert seen
    assert queue.depth() == 1
    children.finish(child)


def test_a_callback_comes_no_earlier_than_its_outcome(
    broker: embq.Broker, path: Path, children: Children
) -> None:
    """Signals to the process make no callback come while the ticket is open."""
    queue = broker.queue("q")
    child = children.start(HOLD_THE_LOCK, path)
    children.expect(child, "locked")
    called: list[bool] = []
    ticket = queue.send_nowait("x")
    ticket.add_done_callback(lambda done: called.append(done.done()))
    time.sleep(0.1)
    callbacks = next(t for t in threading.enumerate() if t.name == "embq-callbacks")
    assert callbacks.ident is not None
    with harmless_alarms(60) as seen:
        for _ in range(3):
            signal.pthread_kill(callbacks.ident, signal.SIGALRM)
            time.sleep(0.1)
        assert not called
    assert seen
    children.tell(child)
    wait_until(lambda: called == [True], "the callback did not come")
    children.finish(child)


def test_a_harmless_signal_during_close(path: Path, children: Children) -> None:
    """A handler that returns lets `close()` go on: all that was staged is stored."""
    broker = embq.open(path, durability="normal")
    queue = broker.queue("q")
    child = children.start(HOLD_THE_LOCK, path, 0.8)
    children.expect(child, "locked")
    for number in range(100):
        queue.send_nowait(number)
    with harmless_alarms(0.1) as seen:
        broker.close()
    assert seen
    children.finish(child)
    with embq.open(path) as again:
        assert again.queue("q").depth() == 100


def test_close_beside_send_nowait(path: Path) -> None:
    """Every ticket given out beside `close()` has an outcome when it returned."""
    stored = 0
    for _ in range(15):
        broker = embq.open(path, durability="normal")
        queue = broker.queue("q")
        tickets: list[embq.Ticket] = []

        def stage(queue: embq.Queue, tickets: list[embq.Ticket]) -> None:
            while True:
                try:
                    tickets.append(queue.send_nowait(1))
                except errors.Full:
                    time.sleep(0.001)
                except errors.Closed:
                    return

        thread = threading.Thread(target=stage, args=(queue, tickets))
        thread.start()
        time.sleep(0.05)
        broker.close()
        thread.join(10)
        assert not thread.is_alive()
        assert tickets
        for ticket in tickets:
            try:
                ticket.result(5)  # Busy, when it has none
                stored += 1
            except errors.Closed:
                pass
    with embq.open(path) as broker:
        assert broker.queue("q").depth() == stored


def test_close_with_an_open_loop(path: Path) -> None:
    """CASE 38: what an open loop claimed ahead comes back uncounted after `close`."""
    broker = embq.open(path, durability="normal")
    queue = broker.queue("q", max_receives=1000)
    queue.send_many(list(range(8)))
    loop = queue.messages(prefetch=8)
    seen = next(loop).data
    broker.close()
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        counts: dict[int, int] = {}
        for _ in range(8):
            message = queue.receive(wait=5)
            assert message is not None
            counts[message.data] = message.receive_count
            message.ack()
        assert counts == {data: 2 if data == seen else 1 for data in range(8)}


def test_idle_beside_a_foreign_reader(broker: embq.Broker, path: Path) -> None:
    """A reader that lets no checkpoint finish does not make an idle engine spin."""
    queue = broker.queue("q", codec="raw", max_body=MIB)
    queue.send(b"x")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("begin")
        reader.execute("select * from embq_meta").fetchall()
        for _ in range(24):
            queue.send(b"x" * 1_000_000)
        assert broker.stats()["wal_bytes"] > 16 * MIB
        time.sleep(0.5)
        begun = time.process_time()
        time.sleep(IDLE_S)
        share = (time.process_time() - begun) / IDLE_S
        assert share < 0.3, f"{share:.0%} of a core, for nothing"
