"""Many processes on one file, and a foreign writer beside them."""

import contextlib
import json
import sqlite3
import time
from time import perf_counter

import embq
from scenarios.measure import compare, plain, start_child

PROCESSES = 8


def processes(run):
    """8 processes send at `full` for 5 s, alone and beside a plain connection.

    The plain connection commits as fast as it can, synced as is SQLite's default: it
    stands in no queue, so it shows both who starves it and whom it starves.
    """
    rounds = run.sample(
        {
            "alone": lambda: _together(run, foreign=False),
            "beside": lambda: _together(run, foreign=True),
        }
    )
    columns = {name: list(zip(*rows, strict=True)) for name, rows in rounds.items()}
    fair, busy, total, foreign = columns["beside"]
    totals = {"beside": total, "alone": columns["alone"][2]}
    what = f"{PROCESSES} processes sending at full"
    slowest = "slowest / fastest"
    return [
        plain(
            "processes-fair",
            f"{what}: {slowest}",
            "",
            columns["alone"][0],
            at_least=0.5,
        ),
        plain(
            "processes-fair-beside",
            f"{what} beside a plain connection: {slowest}",
            "",
            fair,
            at_least=0.5,
        ),
        plain(
            "processes-busy",
            f"{what}: Busy, with and without it",
            "errors",
            [a + b for a, b in zip(busy, columns["alone"][1], strict=True)],
            at_most=0,
        ),
        plain(
            "processes-foreign", "that connection", "commits/s", foreign, at_least=50
        ),
        compare(
            "processes-total",
            f"{what}: beside it / alone",
            "msg/s",
            totals,
            "beside",
            "alone",
        ),
    ]


def _together(run, *, foreign):
    """Send from all processes at once.

    Returns:
        Slowest / fastest, how many Busy, messages and foreign commits per second.
    """
    seconds = 5 * run.seconds
    with run.folder() as folder:
        path = folder / "bench.db"
        with embq.open(path) as broker:
            broker.queue("bench", codec="raw")
        children = [start_child("send", path, seconds) for _ in range(PROCESSES)]
        with contextlib.closing(
            sqlite3.connect(path, timeout=30, isolation_level=None)
        ) as db:
            db.execute("create table orders(id integer primary key, what text)")
            for child in children:
                child.stdin.write("go\n")
                child.stdin.flush()
            if foreign:
                commits = _commit(db, seconds)
            else:
                commits = 0.0
                time.sleep(seconds)
        reports = [json.loads(child.communicate()[0]) for child in children]
    sent = [report["sent"] for report in reports]
    busy = sum(report["busy"] for report in reports)
    return min(sent) / max(1, *sent), busy, sum(sent) / seconds, commits


def _commit(db, seconds):
    """Commit one row at a time; return how often in a second."""
    commits = 0
    start = perf_counter()
    while perf_counter() < start + seconds:
        db.execute("insert into orders(what) values ('one')")
        commits += 1
    return commits / (perf_counter() - start)
