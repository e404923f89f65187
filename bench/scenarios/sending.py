"""Sending: one by one, a thousand at once, from many threads."""

import contextlib
import sqlite3
import threading
from time import perf_counter

from scenarios.measure import BODY, compare


def send_normal(run):
    """Send one by one at `normal`, against SQLite's one-row transactions."""
    return _one_by_one(run, "normal", 0.7)


def send_full(run):
    """Send one by one at `full`, against SQLite's one-row transactions."""
    return _one_by_one(run, "full", 0.9)


def send_many(run):
    """Send 1,000 raw bodies at once at `full`, against 1,000-row transactions."""
    bodies = [BODY] * 1000

    def embq():
        with run.queue("full") as (_, queue):
            return run.rate(lambda: queue.send_many(bodies)) * len(bodies)

    samples = run.sample(
        {
            "embq": embq,
            "limit": lambda: run.limit("FULL", 1000),
            "policy": lambda: run.limit("FULL", 1000, policy=True),
        }
    )
    what = "send_many(1000), full"
    return _against(samples, "send-many", what, 0.65)


def threads(run):
    """Send one by one at `full` from 1, 16 and 64 threads."""
    samples = run.sample({n: lambda n=n: _from_threads(run, n) for n in (1, 16, 64)})
    return [
        compare(
            f"threads-{n}",
            f"send, full: {n} threads / one thread",
            "msg/s",
            samples,
            n,
            1,
            at_least=target,
        )
        for n, target in ((16, 6), (64, 10))
    ]


def _one_by_one(run, durability, target):
    sync = durability.upper()

    def embq():
        with run.queue(durability) as (_, queue):
            return run.rate(lambda: queue.send(BODY))

    samples = run.sample(
        {
            "embq": embq,
            "limit": lambda: run.limit(sync, 1),
            "policy": lambda: run.limit(sync, 1, policy=True),
            "python": lambda: _python_rate(run, sync),
        }
    )
    what, key = f"send, {durability}", f"send-{durability}"
    bare = compare(
        f"{key}-python",
        f"{what} / insert and commit through Python's sqlite3",
        "msg/s",
        samples,
        "embq",
        "python",
    )
    return [*_against(samples, key, what, target), bare]


def _against(samples, key, what, target):
    """Compare with ceiling.c's own setting, and with embq's."""
    return [
        compare(key, what, "msg/s", samples, "embq", "limit", at_least=target),
        compare(
            f"{key}-policy",
            f"{what}; limit without checkpoints",
            "msg/s",
            samples,
            "embq",
            "policy",
            at_least=target,
        ),
    ]


def _python_rate(run, sync):
    """One row a commit through Python's sqlite3, in its fastest way: autocommit."""
    with (
        run.folder() as folder,
        contextlib.closing(
            sqlite3.connect(folder / "bare.db", isolation_level=None)
        ) as db,
    ):
        db.execute("pragma journal_mode = wal")
        db.execute(f"pragma synchronous = {sync}")
        db.execute("create table q(id integer primary key, body blob not null)")
        return run.rate(lambda: db.execute("insert into q(body) values (?)", (BODY,)))


def _from_threads(run, count):
    sent = []
    barrier = threading.Barrier(count + 1)

    def work(queue):
        n = 0
        barrier.wait()
        end = perf_counter() + run.seconds
        while perf_counter() < end:
            queue.send(BODY)
            n += 1
        sent.append(n)

    with run.queue("full") as (_, queue):
        workers = [threading.Thread(target=work, args=(queue,)) for _ in range(count)]
        for worker in workers:
            worker.start()
        barrier.wait()
        start = perf_counter()
        for worker in workers:
            worker.join()
        return sum(sent) / (perf_counter() - start)
