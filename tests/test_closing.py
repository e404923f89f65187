"""Closing: everything that waits comes back, everything that is staged is stored."""

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Children
from worker import Worker

import embq
from embq import errors

STAGED = 1000
BUSY_ROUNDS = 20
# A receiver that nobody wakes looks by itself within a second: of some rounds the
# fastest tells a wake-up from that, whatever else the machine does.
ROUNDS = 4
AT_ONCE_S = 0.3


class Caller(threading.Thread):
    """Make one call in a thread; keep what came of it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.call = call
        self.result: Any = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        """Make it."""
        try:
            self.result = self.call()
        except errors.Error as error:
            self.error = error


def test_use_after_close(path: Path) -> None:
    """CASE 32: every verb after `close` is `Closed`; closing twice is nothing."""
    broker = embq.open(path)
    queue = broker.queue("q", dead_letter="q.dead")
    queue.send_many(["a", "b"])
    message = queue.receive()
    assert message is not None
    message.id  # noqa: B018 - it needs nobody
    redrive = broker.queue("q.dead").redrive()
    loop = queue.messages(wait=0)
    broker.close()
    broker.close()
    calls: dict[str, Callable[[], Any]] = {
        "send": lambda: queue.send("x"),
        "send_many": lambda: queue.send_many(["x"]),
        "send_nowait": lambda: queue.send_nowait("x"),
        "receive": queue.receive,
        "receive for ever": lambda: queue.receive(wait=None),
        "receive_many": lambda: queue.receive_many(2),
        "messages": lambda: next(queue.messages(wait=0)),
        "an open loop": lambda: next(loop),
        "depth": queue.depth,
        "stats": queue.stats,
        "peek": queue.peek,
        "browse": lambda: next(queue.browse()),
        "get": lambda: queue.get(message.id),
        "explain": lambda: queue.explain(message.id),
        "cancel": lambda: queue.cancel(message.id),
        "configure": lambda: queue.configure(delay=1),
        "pause": queue.pause,
        "resume": queue.resume,
        "purge": queue.purge,
        "redrive": queue.redrive,
        "ack_many": lambda: queue.ack_many([message]),
        "message.ack": message.ack,
        "message.ack_nowait": message.ack_nowait,
        "message.nack": message.nack,
        "message.reject": lambda: message.reject("no"),
        "message.extend": lambda: message.extend(1),
        "redrive.moved": lambda: redrive.moved,
        "redrive.wait": redrive.wait,
        "redrive.cancel": redrive.cancel,
        "broker.queue": lambda: broker.queue("q"),
        "broker.queues": broker.queues,
        "broker.idempotency": lambda: broker.idempotency("s").get("a"),
        "broker.send": lambda: broker.send("q", "x"),
        "broker.delete": lambda: broker.delete("q"),
        "broker.flush": broker.flush,
        "broker.ping": broker.ping,
        "broker.stats": broker.stats,
        "broker.check": broker.check,
        "broker.repair": broker.repair,
        "broker.backup": lambda: broker.backup(path.with_name("copy.db")),
    }
    verbs = {f"broker.{name}" for name in verbs_of(broker)} - {"broker.close"}
    assert not (verbs | verbs_of(queue)) - set(calls)
    survived = []
    for name, call in calls.items():
        try:
            call()
        except errors.Closed:
            continue
        survived.append(name)
    assert not survived


def verbs_of(handle: object) -> set[str]:
    """List its public methods."""
    names = [name for name in dir(type(handle)) if not name.startswith("_")]
    return {name for name in names if callable(getattr(type(handle), name))}


@pytest.mark.parametrize("within", [True, False])
def test_a_handler_that_closes(path: Path, within: bool) -> None:  # noqa: FBT001
    """CASE 38: the loop ends with `Closed`, nothing hangs, and its messages come."""
    broker = embq.open(path)
    queue = broker.queue("q")
    queue.send_many([1, 2, 3])

    def work() -> None:
        for message in queue.messages(wait=5):
            if within:
                with message:
                    broker.close()
            else:
                broker.close()
                message.ack_nowait()

    caller = Caller(work)
    caller.join(10)
    assert not caller.is_alive(), "it hangs"
    assert isinstance(caller.error, errors.Closed), caller.error
    with embq.open(path) as again:
        seen = [again.queue("q").receive(wait=5, auto_ack=True) for _ in range(3)]
    assert sorted(message.data for message in seen if message) == [1, 2, 3]


def test_a_callback_that_calls_in(path: Path) -> None:
    """CASE 38: a callback of a ticket may use every verb, and close the broker."""
    broker = embq.open(path)
    queue = broker.queue("q")
    seen: list[Any] = []
    done = threading.Event()

    def callback(ticket: embq.Ticket) -> None:
        seen.append(queue.send(ticket.result().id).id)
        seen.append(queue.send_nowait("again").result(5).id)
        seen.extend(message.id for message in queue.receive_many(9, auto_ack=True))
        broker.flush(5)
        broker.close()
        done.set()

    ticket = queue.send_nowait("first")
    ticket.add_done_callback(callback)
    assert done.wait(10), "it hangs"
    sent, again, *received = seen
    assert received == [ticket.result().id, sent, again]


@pytest.mark.parametrize("kind", ["receive", "receive_many", "messages"])
def test_close_wakes_blocked_receivers(path: Path, kind: str) -> None:
    """CASE 32: receivers that wait for ever end with `Closed` at once.

    Another broker keeps the engine going: the last one that closes wakes all anyway.
    """
    others = embq.open(path)
    others.ping()
    took = []
    for _ in range(ROUNDS):
        broker = embq.open(path)
        queue = broker.queue("q")
        calls = {
            "receive": partial(queue.receive, wait=None),
            "receive_many": partial(queue.receive_many, 3, wait=None),
            "messages": partial(lambda queue: list(queue.messages(wait=None)), queue),
        }
        callers = [Caller(calls[kind]) for _ in range(8)]
        time.sleep(0.2)
        begun = time.monotonic()
        broker.close()
        for caller in callers:
            caller.join(10)
            assert not caller.is_alive(), "still waiting after close()"
            assert isinstance(caller.error, errors.Closed), caller.error
        took.append(time.monotonic() - begun)
    others.close()
    assert min(took) < AT_ONCE_S, took


def test_close_with_blocked_senders(path: Path) -> None:
    """CASE 32: senders that wait for a foreign writer end; what they say is true."""
    broker = embq.open(path, durability="normal", busy_timeout=20)
    queue = broker.queue("q")
    writer = Worker()
    try:
        writer.sql(path, "begin immediate")
        callers = [
            Caller(lambda number=number: queue.send(number)) for number in range(8)
        ]
        time.sleep(0.2)
        closer = Caller(broker.close)
        time.sleep(0.2)
        writer.sql(path, "rollback")
        for caller in (closer, *callers):
            caller.join(30)
            assert not caller.is_alive(), "still waiting after close()"
    finally:
        writer.stop()
    assert closer.error is None
    sent = {number for number, caller in enumerate(callers) if caller.error is None}
    for caller in callers:
        assert caller.error is None or isinstance(caller.error, errors.Closed)
    with embq.open(path) as again:
        stored = again.queue("q").receive_many(20, auto_ack=True)
    assert {message.data for message in stored} == sent
    assert len(stored) == len(sent)


def test_one_of_two_brokers_closes(path: Path) -> None:
    """Closing one broker of a file does not disturb another in the same process."""
    one, two = embq.open(path), embq.open(path)
    queue = two.queue("q")
    caller = Caller(lambda: queue.receive(wait=20))
    time.sleep(0.1)
    one.close()
    queue.send("x")
    caller.join(10)
    assert caller.error is None
    assert caller.result is not None
    assert caller.result.data == "x"
    two.close()


def test_a_busy_broker_closes_beside_another(path: Path) -> None:
    """Closed under load, its calls end with `Closed`, and another broker goes on."""

    def send(queue: embq.Queue) -> None:
        while True:
            queue.send("x")

    def receive(queue: embq.Queue) -> None:
        while (message := queue.receive(wait=None)) is not None:
            message.ack()

    with embq.open(path, durability="normal") as other:
        for _ in range(BUSY_ROUNDS):
            broker = embq.open(path, durability="normal")
            queue = broker.queue("q")
            callers = [
                Caller(lambda work=work, queue=queue: work(queue))
                for work in (send, receive) * 3
            ]
            time.sleep(0.02)
            broker.close()
            for caller in callers:
                caller.join(10)
                assert isinstance(caller.error, errors.Closed), caller.error
            # Told to lead, a call that was ended must not keep the lead.
            other.flush(timeout=10)


def test_a_receiver_is_woken_after_another_broker_closed(
    path: Path, children: Children
) -> None:
    """When the receiver that watched the file is ended, one that is left watches it."""
    child = children.start(
        """
        import sys, embq
        queue = embq.open(sys.argv[1], durability="normal").queue("q")
        print("ready", flush=True)
        for line in sys.stdin:
            queue.send("from afar")
        """,
        path,
    )
    took = []
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        children.expect(child, "ready")
        for _ in range(ROUNDS):
            closing = embq.open(path, durability="normal")
            away = closing.queue("q")
            ended = [Caller(partial(away.receive, wait=None)) for _ in range(3)]
            time.sleep(0.2)
            left = Caller(lambda: queue.receive(wait=30))
            time.sleep(0.2)
            closing.close()
            for caller in ended:
                caller.join(10)
                assert isinstance(caller.error, errors.Closed)
            begun = time.monotonic()
            children.tell(child)
            left.join(10)
            assert not left.is_alive(), "nobody watched the file"
            took.append(time.monotonic() - begun)
            left.result.ack()
    assert min(took) < AT_ONCE_S, took


def test_close_stores_what_is_staged(path: Path) -> None:
    """`close` waits for staged messages and acks."""
    with embq.open(path) as broker:
        queue = broker.queue("q")
        for number in range(STAGED):
            queue.send_nowait(number)
    with embq.open(path) as broker:
        queue = broker.queue("q")
        assert queue.depth() == STAGED
        for message in queue.receive_many(STAGED):
            message.ack_nowait()
    with embq.open(path) as broker:
        assert broker.queue("q").depth() == 0
