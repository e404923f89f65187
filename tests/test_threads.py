"""Many callers in one process, and bodies that only the core need bear."""

import contextlib
import copy
import itertools
import os
import sqlite3
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import embq
from embq import errors

MIB = 1 << 20
THREADS = 8


@pytest.fixture
def broker(path: Path) -> Iterator[embq.Broker]:
    """A broker of the core; here the model takes no part."""
    with embq.open(path, durability="normal") as opened:
        yield opened


def test_a_body_of_64_mib(broker: embq.Broker) -> None:
    """CASE 39: a large body comes back byte for byte."""
    queue = broker.queue("q", codec="raw", max_body=64 * MIB)
    body = os.urandom(MIB) * 64
    queue.send(body)
    message = queue.receive()
    assert message is not None
    assert message.body == body
    message.ack()
    with pytest.raises(errors.MessageTooLarge):
        queue.send(body + b"x")
    assert queue.depth() == 0


def test_a_bad_batch_harms_no_other_caller(broker: embq.Broker) -> None:
    """CASE 41: callers that share a commit with refused ones are stored, in order."""
    queue = broker.queue("q", max_body=1000)
    start = threading.Barrier(THREADS)

    def work(thread: int) -> None:
        start.wait()
        for number in range(50):
            if thread % 2:
                queue.send([thread, number])
            else:
                with pytest.raises(errors.MessageTooLarge):
                    queue.send_many([[thread, number], "x" * 2000, [thread, number]])

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    taken = [message.data for message in queue.receive_many(1000, auto_ack=True)]
    for thread in range(1, THREADS, 2):
        numbers = [number for of, number in taken if of == thread]
        assert numbers == list(range(50)), f"thread {thread}"
    assert len(taken) == THREADS // 2 * 50


def test_a_bad_call_in_a_group(broker: embq.Broker, path: Path) -> None:
    """CASE 41: of calls that one commit stores, those that are refused fail alone."""
    queue = broker.queue("q", max_body=1000)

    def send(number: int) -> bool:
        try:
            queue.send("x" * 2000 if number % 3 == 1 else number)
        except errors.MessageTooLarge:
            return False
        return True

    other = sqlite3.connect(path, isolation_level=None)
    with ThreadPoolExecutor(2 * THREADS) as pool, closing(other):
        other.execute("begin immediate")
        groups = broker.stats()["groups"]
        sending = [pool.submit(send, number) for number in range(2 * THREADS)]
        time.sleep(0.3)  # all of them wait for the lock by now
        other.execute("rollback")
        sent = [number for number, call in enumerate(sending) if call.result()]
    assert broker.stats()["groups"] - groups < THREADS, "they shared no commit"
    assert sent == [number for number in range(2 * THREADS) if number % 3 != 1]
    taken = queue.receive_many(100, auto_ack=True)
    assert sorted(message.data for message in taken) == sent


def test_a_bad_settle_harms_no_other_caller(broker: embq.Broker) -> None:
    """Stale receipts in the same commit fail alone."""
    queue = broker.queue("q")
    queue.send_many(list(range(400)))
    held = queue.receive_many(400)
    for message in held[::2]:
        message.ack()
    lost = itertools.count()

    def ack(message: embq.Message) -> None:
        try:
            message.ack()
        except errors.LeaseLost:
            next(lost)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(ack, held))
    assert next(lost) == 200
    assert queue.depth() == 0


def test_a_bytearray_changed_by_another_thread(broker: embq.Broker) -> None:
    """CASE 40: a buffer that changes after the call does not change what is stored."""
    queue = broker.queue("q", codec="raw")
    body = bytearray(64 * 1024)
    for number in range(100):
        body[:] = bytes([number]) * len(body)
        ticket = queue.send_nowait(body)
        body[:] = b"\xff" * len(body)
        ticket.result(10)
    for number in range(100):
        message = queue.receive(auto_ack=True)
        assert message is not None
        assert message.body == bytes([number]) * len(body)


def test_many_threads_each_message_once(broker: embq.Broker) -> None:
    """Threads that send and receive at once share the work; nothing comes twice."""
    queue = broker.queue("q")
    count = 250
    taken: list[int] = []
    done = threading.Event()

    def produce(thread: int) -> None:
        for number in range(count):
            queue.send(thread * count + number)

    def consume() -> None:
        while True:
            message = queue.receive(wait=0.05)
            if message is not None:
                taken.append(message.data)
                message.ack()
            elif done.is_set():
                return

    with ThreadPoolExecutor(2 * THREADS) as pool:
        consumers = [pool.submit(consume) for _ in range(THREADS)]
        list(pool.map(produce, range(THREADS)))
        done.set()
        for consumer in consumers:
            consumer.result()
    assert sorted(taken) == list(range(THREADS * count))
    assert queue.depth() == 0


@pytest.mark.parametrize("place", range(24))
def test_a_forged_receipt(broker: embq.Broker, place: int) -> None:
    """CASE 48: a receipt with any byte changed settles nothing, and says so."""
    queue = broker.queue("q")
    queue.send_many(["a", "b", "c"])
    held = queue.receive_many(3)
    forged = copy.copy(held[1])
    receipt = bytearray(held[1]._receipt)
    receipt[place] ^= 0x01
    forged._receipt = bytes(receipt)
    for verb in (
        forged.ack,
        forged.nack,
        lambda: forged.reject("no"),
        lambda: forged.extend(5),
    ):
        with pytest.raises((errors.InvalidReceipt, errors.LeaseLost)):
            verb()
    assert queue.stats()["in_flight"] == 3
    for message in held:
        message.ack()
    assert queue.depth() == 0


@pytest.mark.parametrize("word", range(3))
@pytest.mark.parametrize("number", [0, 1, 2, -1, 2**21 - 1, 2**21, -(2**63)])
def test_a_receipt_of_small_numbers(
    broker: embq.Broker, word: int, number: int
) -> None:
    """CASE 48: nor does one that names a queue's own row; and the broker works on."""
    queue = broker.queue("q")
    queue.send_many(["a", "b"])
    held = queue.receive_many(2)
    forged = copy.copy(held[0])
    words = list(struct.unpack("=3q", held[0]._receipt))
    words[word] = number
    forged._receipt = struct.pack("=3q", *words)
    with pytest.raises((errors.InvalidReceipt, errors.LeaseLost)):
        forged.ack()
    queue.ack_many(held)
    assert queue.depth() == 0


def test_a_receipt_of_an_older_file(path: Path) -> None:
    """CASE 48: after the file was made anew an old receipt settles nothing."""
    with embq.open(path) as broker:
        queue = broker.queue("q")
        queue.send("old")
        old = queue.receive()
        assert old is not None
        receipt = old._receipt
    for file in path.parent.glob("test.db*"):
        file.unlink()
    with embq.open(path) as broker:
        queue = broker.queue("q")
        queue.send("new")
        new = queue.receive()
        assert new is not None
        forged = copy.copy(new)
        forged._receipt = receipt
        with pytest.raises((errors.InvalidReceipt, errors.LeaseLost)):
            forged.ack()
        new.ack()
        assert queue.depth() == 0


def test_a_receipt_of_another_queue(broker: embq.Broker) -> None:
    """CASE 48: a receipt used on another queue is refused, whatever its message is."""
    one, two = broker.queue("one"), broker.queue("two")
    one.send("1")
    two.send("2")
    of_one, of_two = one.receive(), two.receive()
    assert of_one is not None
    assert of_two is not None
    forged = copy.copy(of_two)
    forged._receipt = of_one._receipt
    with pytest.raises((errors.InvalidReceipt, errors.LeaseLost)):
        forged.ack()
    assert (one.depth(), two.depth()) == (1, 1)
    of_one.ack()
    of_two.ack()


def test_what_is_staged_is_bounded(path: Path) -> None:
    """What waits for a writer takes 64 MiB at the most: then it is `Full`, or waits."""
    body = bytes(MIB)
    other = sqlite3.connect(path, isolation_level=None)
    options: Any = {"durability": "normal", "busy_timeout": 30}
    with embq.open(path, **options) as broker, closing(other):
        queue = broker.queue("q", codec="raw", max_body=2 * MIB)
        other.execute("begin immediate")
        tickets = []
        with contextlib.suppress(errors.Full):
            while len(tickets) < 80:
                tickets.append(queue.send_nowait(body))
        assert 60 <= len(tickets) < 64
        with pytest.raises(errors.Busy):
            queue.send(body, timeout=0.1)
        other.execute("rollback")
        queue.send(body)
        broker.flush()
        assert queue.depth() == len(tickets) + 1


def test_configuring_at_once(broker: embq.Broker) -> None:
    """Two that change different options at once both get their way, each time."""
    queue = broker.queue("q")
    start = threading.Barrier(2)
    options = ("max_receives", "max_body")

    def set_option(name: str, number: int) -> None:
        start.wait()
        queue.configure(**{name: number})

    with ThreadPoolExecutor(2) as pool:
        for number in range(1, 101):
            for one in [pool.submit(set_option, name, number) for name in options]:
                one.result()
            broker.queue("q", max_receives=number, max_body=number)
