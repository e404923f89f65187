"""The hot calls, one by one: `pytest bench --benchmark-only`.

No limits and no promises here (run.py has those): this is for comparing two versions
of the code, with --benchmark-save and --benchmark-compare.
"""

import tempfile
from pathlib import Path

import pytest

import embq

BODY = bytes(range(100))


@pytest.fixture(params=["normal", "full"])
def durability(request):
    """Either durability."""
    return request.param


@pytest.fixture
def broker(durability):
    """A new file, on the disk of the current folder."""
    with (
        tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as folder,
        embq.open(Path(folder) / "bench.db", durability=durability) as broker,
    ):
        yield broker


@pytest.fixture
def queue(broker):
    """A new queue of raw bodies."""
    return broker.queue("bench", codec="raw")


def test_send(benchmark, queue):
    """Send one message and wait until it is stored."""
    benchmark(queue.send, BODY)


@pytest.mark.parametrize("count", [100, 1000])
def test_send_many(benchmark, queue, count):
    """Send many messages in one transaction."""
    benchmark(queue.send_many, [BODY] * count)


@pytest.mark.parametrize("durability", ["normal"], indirect=True)
def test_receive_and_ack(benchmark, queue):
    """Receive one message and ack it, each committed before it returns."""
    rounds = 5000
    queue.send_many([BODY] * (rounds + 1))

    def receive_and_ack():
        queue.receive().ack()

    benchmark.pedantic(receive_and_ack, rounds=rounds, warmup_rounds=1)


@pytest.mark.parametrize("durability", ["normal"], indirect=True)
def test_messages(benchmark, queue):
    """Work off 10,000 messages by the prefetch loop with acks nobody waits for."""

    def fill():
        for _ in range(10):
            queue.send_many([BODY] * 1000)

    def work_off():
        for message in queue.messages(wait=0):
            message.ack_nowait()

    benchmark.pedantic(work_off, setup=fill, rounds=20)


@pytest.mark.parametrize("durability", ["normal"], indirect=True)
def test_send_nowait(benchmark, broker, queue):
    """Stage 1,000 messages on a ring that is empty when it begins."""
    bodies = [BODY] * 1000

    def stage():
        for body in bodies:
            queue.send_nowait(body)

    benchmark.pedantic(stage, setup=broker.flush, rounds=50)
