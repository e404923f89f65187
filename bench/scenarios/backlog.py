"""What a long backlog costs: sends, receives, and looking at it."""

import contextlib
from time import perf_counter

import embq
from scenarios.measure import BODY, compare, fill

FEW, MANY = 1_000, 1_000_000
CHUNK = 200  # sends, then as many receives: the backlog stays what it is
LOOKS = 200


def backlog(run):
    """Send, receive+ack, depth() and stats() at 1,000 and at 1,000,000 messages."""
    with contextlib.ExitStack() as stack:
        queues = {n: _filled(run, stack, n) for n in (FEW, MANY)}
        samples = run.sample({n: lambda n=n: _costs(run, queues[n]) for n in queues})
    figures = []
    for number, (key, what) in enumerate(
        (
            ("send", "send"),
            ("receive", "receive+ack"),
            ("depth", "depth()"),
            ("stats", "stats()"),
        )
    ):
        costs = {
            n: [costs[number] for costs in rounds] for n, rounds in samples.items()
        }
        figures.append(
            compare(
                f"backlog-{key}",
                f"{what} at a backlog of 1,000,000 / of 1,000, normal",
                "us",
                costs,
                MANY,
                FEW,
                at_most=1.25,
            )
        )
    return figures


def _filled(run, stack, count):
    path = stack.enter_context(run.folder()) / "bench.db"
    broker = stack.enter_context(embq.open(path, durability="normal"))
    queue = broker.queue("bench", codec="raw")
    fill(queue, count)
    return queue


def _costs(run, queue):
    """Microseconds of a send, a receive+ack, a depth() and a stats()."""
    spent = {"send": 0.0, "receive": 0.0}
    n = 0
    while spent["send"] + spent["receive"] < run.seconds:
        start = perf_counter()
        for _ in range(CHUNK):
            queue.send(BODY)
        middle = perf_counter()
        for _ in range(CHUNK):
            queue.receive().ack()
        spent["send"] += middle - start
        spent["receive"] += perf_counter() - middle
        n += CHUNK
    looks = [_each(queue.depth), _each(queue.stats)]
    return [1e6 * x for x in (spent["send"] / n, spent["receive"] / n, *looks)]


def _each(look):
    start = perf_counter()
    for _ in range(LOOKS):
        look()
    return (perf_counter() - start) / LOOKS
