"""Many queues in one file: what each one costs, and whether there is a cliff."""

import random
import sqlite3
from contextlib import closing
from time import perf_counter

import embq
from scenarios.measure import BODY, compare, plain, start_child

FEW, MANY = 10, 10_000
TURNS = 2_000
CHURNS = 1_000


def queues(run):
    """Work on 10,000 queues at random, against 10; open, list and churn them."""
    kinds = ("turn", "beside", "open", "list", "made", "churn")
    samples = {kind: {FEW: [], MANY: []} for kind in kinds}
    memory, file = [], []
    for _ in range(run.rounds):
        memory.append(_memory(run))
        for count in (FEW, MANY):
            found = _measure(run, count)
            for kind, rows in samples.items():
                rows[count].append(found[kind])
        file.append(found["file"])
    titles = {
        "turn": ("send+receive+ack on a queue at random, of", "us", 2),
        "beside": ("the same, while another process commits, of", "us", 2),
        "open": ("a new process opens the file and sends, of", "ms", 4),
        "list": ("queues() of", "ms", None),
        "made": ("broker.queue() of a new one, of", "us", 2),
        "churn": ("delete, declare again and use one at random, of", "us", 2),
    }
    figures = [
        compare(
            f"queues-{kind}",
            f"{what} 10,000 queues / 10, normal",
            unit,
            samples[kind],
            MANY,
            FEW,
            at_most=at_most,
        )
        for kind, (what, unit, at_most) in titles.items()
    ]
    what = "memory of a queue in use, of 10,000"
    grown = f"the file, by {CHURNS:,} queues of 10,000 that go and come again"
    return [
        *figures,
        plain("queues-memory", what, "KiB", memory, at_most=4),
        plain("queues-file", grown, "KiB", file, at_most=64),
    ]


def _measure(run, count):
    with run.folder() as folder:
        path = folder / "bench.db"
        with embq.open(path, durability="normal") as broker:
            start = perf_counter()
            made = [broker.queue(f"q{n}", codec="raw") for n in range(count)]
            took = perf_counter() - start
            for queue in made:
                _turn(queue)
            turn = _turns(made)
            start = perf_counter()
            broker.queues()
            listed = perf_counter() - start
            child = start_child("turn", path)
            beside = _turns(made)
            child.communicate("end\n")
            size = _size(path)
            churn = _churn(broker, made)
            grown = _size(path) - size
        child = start_child("first", path)
        opened = float(child.communicate("end\n")[0])
    return {
        "made": 1e6 * took / count,
        "turn": turn,
        "list": 1e3 * listed,
        "beside": beside,
        "open": 1e3 * opened,
        "churn": churn,
        "file": grown,
    }


def _memory(run):
    """KiB for each of many queues, in a process that does nothing else."""
    with run.folder() as folder:
        child = start_child("many", folder / "bench.db", MANY)
        return float(child.communicate("end\n")[0])


def _turn(queue):
    queue.send(BODY)
    queue.receive().ack()


def _turns(queues):
    start = perf_counter()
    for _ in range(TURNS):
        _turn(random.choice(queues))
    return 1e6 * (perf_counter() - start) / TURNS


def _churn(broker, queues):
    start = perf_counter()
    for _ in range(CHURNS):
        place = random.randrange(len(queues))
        broker.delete(queues[place].name)
        queues[place] = broker.queue(queues[place].name, codec="raw")
        _turn(queues[place])
    return 1e6 * (perf_counter() - start) / CHURNS


def _size(path):
    """KiB of the database, with what is still in the WAL."""
    with closing(sqlite3.connect(path)) as connection:
        pages = connection.execute("pragma page_count").fetchone()[0]
        return pages * connection.execute("pragma page_size").fetchone()[0] / 1024
