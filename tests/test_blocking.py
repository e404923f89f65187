"""Queues that block when they are full: who waits, for what, and in which order."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import embq
from embq import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Children

PATIENCE_S = 12.0
AT_ONCE_S = 0.3  # well before the keeper looks again without a reason
SETTLED_S = 0.1  # after which a call that can go on would have


@pytest.fixture
def broker(path: Path, request: pytest.FixtureRequest) -> Iterator[embq.Broker]:
    """One at normal, if the test does not say that it wants both."""
    with embq.open(path, durability=getattr(request, "param", "normal")) as broker:
        yield broker


either = pytest.mark.parametrize("broker", ["normal", "full"], indirect=True)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for the calls that block."""
    with ThreadPoolExecutor(16) as pool:
        yield pool


def outcome(call: Future[Any]) -> Any:
    """Return what a call returns, which may not wait any more."""
    wait([call], PATIENCE_S / 2)
    assert call.done(), "it still waits"
    return call.result()


def taken(queue: Any, count: int) -> list[Any]:
    """Receive and ack so many, one after another."""
    found = []
    for _ in range(count):
        message = queue.receive(wait=PATIENCE_S)
        message.ack()
        found.append(message.data)
    return found


@either
def test_no_room_in_time(broker: embq.Broker) -> None:
    """After `timeout` it is refused, and nothing of it is stored."""
    queue = broker.queue("q", max_messages=2)
    queue.send_many([1, 2])
    for timeout in (0, 0.2):
        begun = time.monotonic()
        with pytest.raises(errors.QueueFull):
            queue.send(3, timeout=timeout)
        assert time.monotonic() - begun >= timeout
    with pytest.raises(errors.QueueFull):
        queue.send_many([4], timeout=0.05)
    assert taken(queue, 2) == [1, 2]
    assert queue.depth() == 0


def test_what_can_never_fit(broker: embq.Broker) -> None:
    """It is refused at once, whatever its time limit."""
    queue = broker.queue("q", codec="raw", max_messages=2, max_bytes=10)
    begun = time.monotonic()
    with pytest.raises(errors.QueueFull):
        queue.send_many([b"1", b"2", b"3"], timeout=10)
    with pytest.raises(errors.QueueFull):
        queue.send(b"x" * 11, timeout=10)
    assert time.monotonic() - begun < 10


def ack(queue: Any) -> None:
    """Settle the oldest."""
    queue.receive().ack()


def reject(queue: Any) -> None:
    """Make a dead letter of it."""
    queue.receive().reject("no")


def cancel(queue: Any) -> None:
    """Take it back."""
    queue.cancel(next(queue.browse()).id)


def raise_the_bound(queue: Any) -> None:
    """Allow more."""
    queue.configure(max_messages=4)


def change_the_policy(queue: Any) -> None:
    """Let the oldest make way."""
    queue.configure(overflow="drop_oldest")


def take(queue: Any) -> None:
    """Receive one that is gone at once."""
    queue.receive(auto_ack=True)


def purge(queue: Any) -> None:
    """Drop what is there."""
    queue.purge()


WAYS = [ack, reject, cancel, raise_the_bound, change_the_policy, take, purge]
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@each_way
def test_room_comes(
    broker: embq.Broker, pool: ThreadPoolExecutor, way: Callable[[Any], None]
) -> None:
    """CASE 57: a send that waits goes on as soon as there is room, whatever made it."""
    queue = broker.queue("q", max_messages=2)
    queue.send_many([1, 2])
    waiting = pool.submit(queue.send, 3, timeout=PATIENCE_S)
    time.sleep(SETTLED_S)
    assert not waiting.done()
    way(queue)
    assert outcome(waiting).id
    assert taken(queue, queue.depth())[-1] == 3


MAKES_ROOM = """
    import sys, embq
    sys.path.insert(0, sys.argv[2])
    import test_blocking

    with embq.open(sys.argv[1], durability="normal") as broker:
        queue = broker.queue("q")
        print("ready", flush=True)
        for name in sys.stdin:
            getattr(test_blocking, name.strip())(queue)
            print("done", flush=True)
"""


@either
def test_room_comes_from_another_process(
    broker: embq.Broker, path: Path, children: Children, pool: ThreadPoolExecutor
) -> None:
    """The same when another process made it."""
    child = children.start(MAKES_ROOM, path, Path(__file__).parent)
    queue = broker.queue("q", max_messages=2)
    children.expect(child, "ready")
    for way in WAYS:
        queue.send_many([1, 2])
        waiting = pool.submit(queue.send, 3, timeout=PATIENCE_S)
        time.sleep(SETTLED_S)
        assert not waiting.done(), way.__name__
        children.tell(child, way.__name__)
        assert outcome(waiting).id, way.__name__
        children.expect(child, "done")
        taken(queue, queue.depth())
        queue.configure(max_messages=2, overflow="block")


def test_a_queue_that_is_deleted(broker: embq.Broker, pool: ThreadPoolExecutor) -> None:
    """Who waits for its room is told."""
    queue = broker.queue("q", max_messages=1)
    queue.send(1)
    waiting = pool.submit(queue.send, 2, timeout=PATIENCE_S)
    time.sleep(SETTLED_S)
    broker.delete("q")
    with pytest.raises(errors.NotFound):
        outcome(waiting)


def test_what_perishes_makes_room(
    broker: embq.Broker, pool: ThreadPoolExecutor
) -> None:
    """Also when nobody does anything meanwhile."""
    queue = broker.queue("q", max_messages=1, ttl=0.3, expiry="drop")
    queue.send(1)
    assert outcome(pool.submit(queue.send, 2, timeout=PATIENCE_S)).id


@either
def test_in_the_order_of_the_calls(
    broker: embq.Broker, pool: ThreadPoolExecutor
) -> None:
    """Threads, batches and staged ones, those that come while room is made too."""
    queue = broker.queue("q", max_messages=1)
    queue.send(0)
    waiting = []
    for number in range(1, 10):
        if number % 3 == 0:
            waiting.append(queue.send_nowait(number))
        elif number % 3 == 1:
            waiting.append(pool.submit(queue.send, number, timeout=PATIENCE_S))
        else:
            waiting.append(pool.submit(queue.send_many, [number], timeout=PATIENCE_S))
        time.sleep(SETTLED_S / 2)
    found = []
    for number in range(10, 20):
        found += taken(queue, 1)
        waiting.append(queue.send_nowait(number))
    found += taken(queue, 10)
    assert found == list(range(20))
    assert all(one.result(PATIENCE_S) for one in waiting)


def test_a_small_one_does_not_pass_a_large_one(
    broker: embq.Broker, pool: ThreadPoolExecutor
) -> None:
    """It would keep it waiting for ever; but once the large one gave up it goes."""
    queue = broker.queue("q", codec="raw", max_bytes=10)
    queue.send(b"x" * 6)
    large = pool.submit(queue.send, b"y" * 8, timeout=1.0)
    time.sleep(SETTLED_S)
    small = pool.submit(queue.send, b"z", timeout=PATIENCE_S)
    time.sleep(SETTLED_S)
    assert not small.done()
    with pytest.raises(errors.QueueFull):
        outcome(large)
    assert outcome(small).id
    assert taken(queue, 2) == [b"x" * 6, b"z"]


def test_other_queues_go_on(broker: embq.Broker, pool: ThreadPoolExecutor) -> None:
    """Whoever waits holds up nobody but those behind it."""
    queue = broker.queue("q", max_messages=1)
    others = [broker.queue(f"other{n}", max_messages=5) for n in range(40)]
    queue.send(0)
    waiting = pool.submit(queue.send, 1, timeout=PATIENCE_S)
    time.sleep(SETTLED_S)
    for other in others:
        other.send("x", timeout=PATIENCE_S / 2)
        assert taken(other, 1) == ["x"]
    broker.ping(PATIENCE_S / 2)
    broker.flush(PATIENCE_S / 2)  # a call that waits is not staged
    assert not waiting.done()
    assert taken(queue, 2) == [0, 1]


@either
def test_flush_waits_for_what_was_staged(
    broker: embq.Broker, pool: ThreadPoolExecutor
) -> None:
    """And not for what was staged after it; its time limit leaves them staged."""
    queue = broker.queue("q", max_messages=2)
    tickets = [queue.send_nowait(number) for number in range(4)]
    with pytest.raises(errors.Busy, match="staged"):
        broker.flush(0.05)
    flush = pool.submit(broker.flush, PATIENCE_S)
    time.sleep(SETTLED_S)
    late = [queue.send_nowait(number) for number in range(4, 40)]
    assert taken(queue, 1) == [0]
    time.sleep(SETTLED_S)
    assert not flush.done()
    assert taken(queue, 1) == [1]
    outcome(flush)
    assert all(ticket.done() for ticket in tickets)
    assert not late[-1].done()
    assert taken(queue, 38) == list(range(2, 40))


def stage_all(queue: Any) -> int:
    """Stage 0, 1, 2 ... until no more is taken; how many were."""
    for number in range(200_000):
        try:
            queue.send_nowait(number)
        except errors.Full:
            return number
    pytest.fail("there is no limit")


def test_acks_pass_what_is_staged(broker: embq.Broker) -> None:
    """However many sends are staged for a full queue: they wait for nothing else."""
    queue = broker.queue("q", max_messages=3)
    queue.send_many([0, 1, 2])
    held = queue.receive_many(3)
    staged = stage_all(queue)
    assert staged > 1000
    for message in held:
        message.ack()
    assert taken(queue, 10) == list(range(10))
    queue.configure(max_messages=None)
    broker.flush(PATIENCE_S)
    assert queue.depth() == staged - 10


def test_many_go_on_in_groups(broker: embq.Broker, pool: ThreadPoolExecutor) -> None:
    """When there is room for all at once they do not keep others out until the end."""
    queue = broker.queue("q", max_messages=1)
    staged = stage_all(queue)
    queue.configure(max_messages=None)
    flush = pool.submit(broker.flush, PATIENCE_S)
    depths = [queue.depth()]
    while not flush.done():
        depths.append(queue.depth())
    outcome(flush)
    assert queue.depth() == staged
    assert any(1 < depth < staged for depth in depths)


def test_a_duplicate_behind_its_first(
    broker: embq.Broker, pool: ThreadPoolExecutor
) -> None:
    """Two calls with one dedup id wait: once there is room, one of them stores it."""
    queue = broker.queue("q", max_messages=2)
    queue.send_many([0, 0])
    both = []
    for _ in range(2):
        both.append(pool.submit(queue.send, 1, dedup_id="a", timeout=PATIENCE_S))
        time.sleep(SETTLED_S)
    assert taken(queue, 1) == [0]
    first, second = (outcome(one) for one in both)
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.id == second.id
    assert taken(queue, 2) == [0, 1]


def test_a_batch_waits_whole(broker: embq.Broker, pool: ThreadPoolExecutor) -> None:
    """It is stored when all of it fits."""
    queue = broker.queue("q", max_messages=3)
    queue.send_many([0, 1, 2])
    waiting = pool.submit(queue.send_many, [3, 4], timeout=PATIENCE_S)
    time.sleep(SETTLED_S)
    assert taken(queue, 1) == [0]
    time.sleep(SETTLED_S)
    assert not waiting.done()
    assert queue.depth() == 2
    assert taken(queue, 1) == [1]
    outcome(waiting)
    assert taken(queue, 3) == [2, 3, 4]


def test_a_receiver_that_takes_at_once(
    broker: embq.Broker, pool: ThreadPoolExecutor
) -> None:
    """Its own removal makes room, for the next of those that wait."""
    queue = broker.queue("q", max_messages=1)
    waiting = [pool.submit(queue.send, n, timeout=PATIENCE_S) for n in range(8)]
    found = [queue.receive(auto_ack=True, wait=PATIENCE_S).data for _ in range(8)]
    assert sorted(found) == list(range(8))
    for one in waiting:
        outcome(one)


def test_close_with_a_send_that_waits(path: Path, pool: ThreadPoolExecutor) -> None:
    """CASE 32: it is told, and what it would have sent is not stored."""
    broker = embq.open(path, durability="normal")
    queue = broker.queue("q", max_messages=1)
    queue.send(0)
    waiting = pool.submit(queue.send, 1, timeout=PATIENCE_S)
    time.sleep(SETTLED_S)
    broker.close()
    with pytest.raises(errors.Closed):
        outcome(waiting)
    with embq.open(path) as again:
        assert again.queue("q").depth() == 1


def test_who_is_behind_one_that_is_closed(path: Path, pool: ThreadPoolExecutor) -> None:
    """It goes on at once when it fits: the other broker was the one in its way."""
    waits = []
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q", codec="raw", max_bytes=10)
        queue.send(b"x" * 6)
        for _ in range(3):
            other = embq.open(path, durability="normal")
            large = pool.submit(other.queue("q").send, b"y" * 8, timeout=PATIENCE_S)
            time.sleep(SETTLED_S)
            small = pool.submit(queue.send, b"z", timeout=PATIENCE_S)
            time.sleep(SETTLED_S)
            assert not small.done()
            other.close()
            begun = time.monotonic()
            outcome(small)
            waits.append(time.monotonic() - begun)
            with pytest.raises(errors.Closed):
                outcome(large)
    assert min(waits) < AT_ONCE_S, waits


def test_close_with_staged_ones(path: Path) -> None:
    """What finds no room in the broker's `busy_timeout` is lost, and that is said."""
    broker = embq.open(path, durability="normal", busy_timeout=0.3)
    queue = broker.queue("q", max_messages=1)
    queue.send(0)
    ticket = queue.send_nowait(1)
    with pytest.raises(errors.Busy, match="staged"):
        broker.close()
    with pytest.raises(errors.Closed):
        ticket.result()
    with embq.open(path) as again:
        assert again.queue("q").depth() == 1


@either
def test_a_fork_while_a_send_waits(
    broker: embq.Broker, path: Path, pool: ThreadPoolExecutor
) -> None:
    """CASE 30: it stays the parent's; the child makes room for it, and sends too."""
    queue = broker.queue("q", max_messages=1)
    queue.send(0)
    waiting = pool.submit(queue.send, 1, timeout=PATIENCE_S)
    time.sleep(SETTLED_S)
    staged = queue.send_nowait(2)
    child = os.fork()
    if child == 0:
        good = False
        try:
            queue.receive().ack()
            good = taken(queue, 1) == [1]
        finally:
            os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert outcome(waiting).id
    assert staged.result(PATIENCE_S).id
    assert taken(queue, 1) == [2]


PRODUCES = """
    import json, sys
    import embq

    path, name = sys.argv[1:]
    queue = embq.open(path, durability="normal").queue("q")
    for number in range(100000):
        data = f"{name}.{number}"
        print(json.dumps(["try", data]), flush=True)
        queue.send(data, timeout=60)
        print(json.dumps(["sent", data]), flush=True)
"""


def test_killed_while_they_wait(path: Path, children: Children) -> None:
    """CASE 16: all that was confirmed is there, and one at most that was not."""
    sent: set[str] = set()
    tried: set[str] = set()
    found: list[str] = []
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q", max_messages=3)
        producers = [children.start(PRODUCES, path, n) for n in range(3)]
        for killed in producers:
            found += taken(queue, 200)
            killed.kill()
            out, _ = killed.communicate(timeout=PATIENCE_S)
            lines = [json.loads(line) for line in out.splitlines()]
            sent.update(data for word, data in lines if word == "sent")
            tried.update(data for word, data in lines if word == "try")
        assert queue.depth() <= 3
        found += taken(queue, queue.depth())
        assert len(set(found)) == len(found)
        assert sent <= set(found) <= tried
        assert len(set(found) - sent) <= len(producers)


@either
def test_threads_and_acks(broker: embq.Broker) -> None:
    """Many senders and receivers through few places: all comes, in order of each."""
    queue = broker.queue("q", max_messages=2)
    found: list[tuple[int, int]] = []

    def send(thread: int) -> None:
        for number in range(100):
            queue.send([thread, number], timeout=PATIENCE_S)

    def receive() -> None:
        while (message := queue.receive(wait=1)) is not None:
            found.append(tuple(message.data))
            message.ack()

    receiver = threading.Thread(target=receive)
    receiver.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(8)))
    receiver.join()
    assert sorted(found) == [(t, n) for t in range(8) for n in range(100)]
    for thread in range(8):
        own = [number for of, number in found if of == thread]
        assert own == sorted(own)
