"""Many processes on one file, and a foreign writer beside them."""

import contextlib
import json
import sqlite3
from time import perf_counter

import embq
from scenarios.measure import plain, start_child

PROCESSES = 8


def processes(run):
    """8 processes send at `full` for 5 s; a plain connection commits beside them."""
    rounds = run.sample({"all": lambda: _together(run)})["all"]
    fair, busy, total, foreign = zip(*rounds, strict=True)
    what = f"{PROCESSES} processes sending at full"
    return [
        plain("processes-fair", f"{what}: slowest / fastest", "", fair, at_least=0.5),
        plain("processes-busy", f"{what}: Busy", "errors", busy, at_most=0),
        plain("processes-total", f"{what}: all together", "msg/s", total),
        plain(
            "processes-foreign",
            "a plain sqlite3 connection beside them",
            "commits/s",
            foreign,
            at_least=50,
        ),
    ]


def _together(run):
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
            commits = 0
            start = perf_counter()
            while perf_counter() < start + seconds:
                db.execute("insert into orders(what) values ('one')")
                commits += 1
            foreign = commits / (perf_counter() - start)
        reports = [json.loads(child.communicate()[0]) for child in children]
    sent = [report["sent"] for report in reports]
    busy = sum(report["busy"] for report in reports)
    return min(sent) / max(sent), busy, sum(sent) / seconds, foreign
