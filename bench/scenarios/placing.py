"""What priorities, delays, ttl and keys cost, and much that happens at one time."""

import contextlib
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from time import perf_counter

import embq
from scenarios.measure import BODY, compare, fill, plain, start_child

CHUNK = 200
PLACES = {
    "plain": {},
    "priority": {"priority": 7},
    "delay": {"delay": 60},
    "ttl": {"ttl": 60},
    "key": {"key": "k"},
}
FEW, MANY = 1_000, 1_000_000
WORK_S = 3.0  # beside which others send
PAUSE_S = 0.01  # between two of those sends
KEYS, PER_KEY, CONSUMERS = 10_000, 8, 8


def placing(run):
    """Send with a priority, a delay, a ttl or a key, against a plain send."""
    with contextlib.ExitStack() as stack:
        queues = {name: stack.enter_context(run.queue("normal")) for name in PLACES}
        cells = {
            name: lambda queue=queue, fields=PLACES[name]: (
                1e6 / run.rate(lambda: queue.send(BODY, **fields))
            )
            for name, (_, queue) in queues.items()
        }
        samples = run.sample(cells)
    return [
        compare(
            f"placing-{name}",
            f"send with a {name} / a plain send, normal",
            "us",
            samples,
            name,
            "plain",
            at_most=1.5,
        )
        for name in PLACES
        if name != "plain"
    ]


def due(run):
    """Receive when 1,000,000 messages are due at once, against 1,000; others send."""
    costs, stalls = {FEW: [], MANY: []}, []
    for count in costs:
        with run.queue("normal") as (broker, queue):
            at = datetime.now(UTC) + timedelta(seconds=5 + count / 100_000)
            _fill_later(queue, count, at)
            time.sleep(max(0, (at - datetime.now(UTC)).total_seconds()))
            other = broker.queue("other", codec="raw")
            stalls += _beside(other, lambda queue=queue: _receive(queue, 900, costs))
    return [
        compare(
            "due-receive",
            "receive+ack when 1,000,000 delayed messages are due / 1,000, normal",
            "us",
            costs,
            MANY,
            FEW,
            at_most=1.5,
        ),
        plain(
            "due-stall",
            "a send beside that: the longest",
            "ms",
            [max(stalls)],
            at_most=50,
        ),
    ]


def leases(run):
    """Let 1,000,000 leases end at once, while others send and one receives."""
    options = {"codec": "raw", "visibility_timeout": 20, "max_receives": 9}
    with (
        run.folder() as folder,
        embq.open(folder / "bench.db", durability="normal") as broker,
    ):
        queue = broker.queue("bench", **options)
        other = broker.queue("other", codec="raw")
        fill(queue, MANY)
        start = perf_counter()
        while queue.receive_many(1000):
            pass
        time.sleep(max(0, 20 - (perf_counter() - start)))
        stalls = _beside(other, lambda: _receive(queue, 900, {}))
    what = "a send while 1,000,000 leases end: the longest"
    return [plain("leases-stall", what, "ms", [max(stalls)], at_most=50)]


def expiry(run):
    """Let 1,000,000 messages perish at once, while others send and one receives."""
    with (
        run.folder() as folder,
        embq.open(folder / "bench.db", durability="normal") as broker,
    ):
        queue = broker.queue("bench", codec="raw", ttl=15, expiry="drop")
        other = broker.queue("other", codec="raw")
        start = perf_counter()
        fill(queue, MANY)
        time.sleep(max(0, 15 - (perf_counter() - start)))
        begun = perf_counter()
        stalls = _beside(other, lambda: _until_empty(queue))
        took = perf_counter() - begun
    what = "a send while 1,000,000 messages perish: the longest"
    return [
        plain("expiry-stall", what, "ms", [max(stalls)], at_most=50),
        plain("expiry-rate", "messages that perish", "msg/s", [MANY / took]),
    ]


def keys(run):
    """Drain 10,000 keys with 8 processes, in order against any order."""
    samples = run.sample(
        {
            "key": lambda: _drained(run, ordered="key"),
            "any": lambda: _drained(run, ordered=False),
        }
    )
    what = f"{KEYS:,} keys, {CONSUMERS} consumers, normal: in order of key / in any"
    return [compare("keys", what, "msg/s", samples, "key", "any", at_least=0.3)]


def _fill_later(queue, count, at):
    batch = [embq.Outgoing(BODY, at=at) for _ in range(1000)]
    for _ in range(count // 1000):
        queue.send_many(batch)


def _until_empty(queue):
    while queue.depth():
        queue.receive(0)


def _receive(queue, count, costs):
    """Receive and ack one by one; add the microseconds of each chunk."""
    rows = costs.get(MANY if queue.depth() > FEW else FEW, [])
    for _ in range(count // CHUNK):
        start = perf_counter()
        for _ in range(CHUNK):
            queue.receive().ack()
        rows.append(1e6 * (perf_counter() - start) / CHUNK)


def _beside(queue, work):
    """Send now and then while the work is done; how many ms each send took."""
    took, done = [], threading.Event()

    def send():
        while not done.is_set():
            start = perf_counter()
            queue.send(BODY)
            took.append(1e3 * (perf_counter() - start))
            time.sleep(PAUSE_S)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        end = perf_counter() + WORK_S
        work()
        time.sleep(max(0, min(WORK_S / 10, end - perf_counter())))
    finally:
        done.set()
        thread.join()
    return took


def _drained(run, *, ordered):
    """Messages a second until all keys are worked off by all consumers."""
    with run.folder() as folder:
        path = folder / "bench.db"
        with embq.open(path, durability="normal") as broker:
            queue = broker.queue("bench", codec="raw", ordered=ordered)
            for _ in range(PER_KEY):
                for first in range(0, KEYS, 1000):
                    numbers = range(first, first + 1000)
                    queue.send_many([embq.Outgoing(BODY, key=f"k{n}") for n in numbers])
        children = [start_child("work", path) for _ in range(CONSUMERS)]
        start = time.monotonic()
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        reports = [json.loads(child.communicate()[0]) for child in children]
    assert sum(report["count"] for report in reports) == KEYS * PER_KEY
    return KEYS * PER_KEY / (max(report["last"] for report in reports) - start)
