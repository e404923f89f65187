"""Waiting receivers: none misses its message, and a wait that ends loses none."""

import random
import sqlite3
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Children

import embq

SOON_S = 2.0  # a wake-up on a loaded machine; what missed it waits for LONG_S
LONG_S = 6.0
LOOK_S = 0.25  # between two looks for the commits of writers that wake nobody
SEND_ON_WORD = """
    import sys, embq
    queue = embq.open(sys.argv[1], durability="normal").queue("q")
    print("ready", flush=True)
    for line in sys.stdin:
        queue.send(line.strip())
        print("sent", flush=True)
"""


@pytest.fixture
def broker(path: Path) -> Iterator[embq.Broker]:
    """A broker of the core; here the model takes no part."""
    with embq.open(path, durability="normal") as opened:
        yield opened


@pytest.mark.parametrize("noise", ["quiet", "noisy"])
@pytest.mark.parametrize("way", ["lease", "auto_ack"])
def test_waits_that_end_lose_nothing(broker: embq.Broker, way: str, noise: str) -> None:
    """Waits of a millisecond beside a sender: each message comes once, none is lost."""
    queue = broker.queue("q", visibility_timeout=600)
    other = broker.queue("other")
    auto_ack = way == "auto_ack"
    stop = threading.Event()
    taken: list[int] = []

    def disturb() -> None:
        while not stop.is_set():
            other.send_many(["x" * 1000] * 50)

    def consume() -> None:
        while not stop.is_set():
            wait = 0.0005 + random.random() * 0.0015
            message = queue.receive(wait, auto_ack=auto_ack)
            if message is not None:
                taken.append(message.data)
                if not auto_ack:
                    message.ack()

    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(consume) for _ in range(6)]
        work += [pool.submit(disturb) for _ in range(2 if noise == "noisy" else 0)]
        end, sent = time.monotonic() + 1.5, 0
        while time.monotonic() < end:
            queue.send(sent)
            sent += 1
            time.sleep(random.random() * 0.001)
        while len(taken) < sent and time.monotonic() < end + SOON_S:
            time.sleep(0.01)
        stop.set()
    for done in work:
        done.result()
    assert sent > 20
    assert sorted(taken) == list(range(sent))
    stats = queue.stats()
    assert (stats["messages"], stats["delivered"]) == (0, sent)
    assert stats["redelivered"] == 0


def timed(receive: Any) -> tuple[Any, float]:
    """Call it, and give its result with the moment of its return."""
    message = receive()
    return message, time.monotonic()


def test_a_send_in_the_group_of_a_parked_claim(broker: embq.Broker, path: Path) -> None:
    """A claim that parks in the very group that stores a message receives it."""
    queue = broker.queue("q")
    other = sqlite3.connect(path, isolation_level=None)
    with ThreadPoolExecutor(2) as pool:
        other.execute("begin immediate")
        waiting = pool.submit(timed, lambda: queue.receive(wait=LONG_S))
        time.sleep(0.2)
        sending = pool.submit(queue.send, 1)
        time.sleep(0.2)
        freed = time.monotonic()
        other.execute("rollback")
        sending.result()
        message, at = waiting.result()
    other.close()
    assert message is not None
    message.ack()
    assert at - freed < SOON_S
    assert queue.depth() == 0


@pytest.mark.parametrize("call", ["receive", "messages"])
def test_auto_ack_waits_at_full(path: Path, call: str) -> None:
    """At durability="full" a wait with auto_ack is a wait, and a send ends it."""
    with embq.open(path, durability="full") as broker:
        queue = broker.queue("q")

        def take(wait: float) -> embq.Message | None:
            if call == "messages":
                return next(queue.messages(wait=wait, auto_ack=True), None)
            return queue.receive(wait, auto_ack=True)

        begun = time.monotonic()
        message, at = timed(lambda: take(0.5))
        assert message is None
        assert 0.4 < at - begun < 0.5 + SOON_S
        timer = threading.Timer(0.3, queue.send, [1])
        timer.start()
        message, at = timed(lambda: take(LONG_S))
        timer.join()
        assert message is not None
        assert message.data == 1
        assert at - begun < LONG_S
        assert queue.depth() == 0


def test_short_waits_end_beside_a_long_one(
    broker: embq.Broker, path: Path, children: Children
) -> None:
    """When receivers gave up, one that still waits sees another process's send."""
    queue = broker.queue("q")
    child = children.start(SEND_ON_WORD, path)
    children.expect(child, "ready")
    with ThreadPoolExecutor(4) as pool:
        for number in range(3):
            short = [pool.submit(queue.receive, 0.2) for _ in range(3)]
            time.sleep(0.05)
            long = pool.submit(timed, lambda: queue.receive(LONG_S))
            assert [done.result() for done in short] == [None] * 3
            time.sleep(0.3)
            children.tell(child, str(number))
            children.expect(child, "sent")
            sent = time.monotonic()
            message, at = long.result()
            assert message is not None
            assert message.data == str(number)
            message.ack()
            assert at - sent < SOON_S


def test_settling_a_suspect_wakes_another_queue(broker: embq.Broker) -> None:
    """Suspects go out one at a time: settling one wakes who waits for the next."""
    one = broker.queue("one", visibility_timeout=0.2)
    two = broker.queue("two", visibility_timeout=0.2)
    one.send(1)
    two.send(2)
    held = [one.receive(), two.receive()]
    time.sleep(0.3)  # both leases end: now each message may have harmed its holder
    suspect = one.receive(wait=1)
    assert suspect is not None
    suspect.extend(60)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(timed, lambda: two.receive(wait=LONG_S))
        time.sleep(0.4)
        assert not waiting.done()
        suspect.ack()
        settled = time.monotonic()
        message, at = waiting.result()
    assert message is not None
    assert at - settled < SOON_S
    message.ack()
    assert held


def test_a_slow_handler_gives_back_what_it_had_ahead(broker: embq.Broker) -> None:
    """What was claimed ahead of a slow handler and never seen comes back uncounted."""
    queue = broker.queue("q", visibility_timeout=0.8)
    queue.send_many(list(range(100)))
    counts: dict[int, int] = {}
    for number, message in enumerate(queue.messages(wait=0.5, prefetch=20), 1):
        counts[message.data] = max(counts.get(message.data, 0), message.receive_count)
        if number == 25:
            slow = message.data
            time.sleep(1.8)
        try:
            message.ack()
        except embq.LeaseLost:
            assert message.data == slow
    assert sorted(counts) == list(range(100))
    assert [data for data, count in counts.items() if count > 1] in ([], [slow])
    assert queue.depth() == 0


def test_a_commit_of_another_process_wakes_at_once(
    broker: embq.Broker, path: Path, children: Children
) -> None:
    """A wait ends with another process's commit, not with the next look at the file."""
    queue = broker.queue("q")
    child = children.start(SEND_ON_WORD, path)
    children.expect(child, "ready")
    delays = []
    with ThreadPoolExecutor(1) as pool:
        for number in range(9):
            waiting = pool.submit(timed, lambda: queue.receive(wait=LONG_S))
            time.sleep(0.06)  # it sleeps by now, and would look after 250 ms
            begun = time.monotonic()
            children.tell(child, str(number))
            message, at = waiting.result()
            children.expect(child, "sent")
            delays.append(at - begun)
            message.ack()
    assert statistics.median(delays) < LOOK_S / 3, delays


def test_waiting_costs_nothing(broker: embq.Broker, path: Path) -> None:
    """Receivers that wait, and the engine beside them, sleep."""
    queues = [broker.queue(name) for name in ("q", "q", "other")]
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(queue.receive, 1.2) for queue in queues]
        time.sleep(0.2)
        begun = time.process_time()
        assert [done.result() for done in waiting] == [None] * 3
    assert time.process_time() - begun < 0.25


def test_a_delayed_message_wakes_its_receiver(broker: embq.Broker) -> None:
    """Whoever waits gets it when it is due: sent before the wait, or meanwhile."""
    queue = broker.queue("q")
    queue.send("before", delay=0.3)
    begun = time.monotonic()
    assert queue.receive(LONG_S).data == "before"
    assert 0.29 < time.monotonic() - begun < SOON_S
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(queue.receive, LONG_S)
        time.sleep(0.1)
        queue.send("meanwhile", delay=0.3, priority=9)
        assert waiting.result().data == "meanwhile"
    assert time.monotonic() - begun < 2 * SOON_S


def test_an_expiry_wakes_who_waits_for_dead_letters(broker: embq.Broker) -> None:
    """Nobody claims from the queue itself, and the dead letter comes in time."""
    queue, dead = broker.queue("q"), broker.queue("q.dead")
    queue.send("x", ttl=0.3)
    begun = time.monotonic()
    assert dead.receive(LONG_S).history[0]["reason"] == "ttl"
    assert 0.29 < time.monotonic() - begun < SOON_S


@pytest.mark.parametrize("ordered", ["key", "queue"])
def test_an_ack_wakes_who_waits_behind(path: Path, ordered: Any) -> None:
    """In an ordered queue, of another broker on the same file."""
    with (
        embq.open(path, durability="normal") as one,
        embq.open(path, durability="normal") as two,
        ThreadPoolExecutor(1) as pool,
    ):
        queue = one.queue("q", ordered=ordered)
        queue.send_many([embq.Outgoing(n, key="a") for n in range(2)])
        first = queue.receive()
        waiting = pool.submit(two.queue("q").receive, LONG_S)
        time.sleep(0.2)
        begun = time.monotonic()
        first.ack()
        assert waiting.result().data == 1
        assert time.monotonic() - begun < SOON_S
