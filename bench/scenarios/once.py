"""What it costs to find a result of what was done once, among few and among many."""

import contextlib
import itertools
import random
import sqlite3
from time import perf_counter

import embq
from scenarios.measure import compare

FEW, MANY = 1_000, 1_000_000
CHUNK = 500
ASKED = 1 << 16  # keys, in a random order
# As `set` writes them; a million sets would take longer than all the rest.
FILL = """
with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < ?1)
insert into embq_idempotency(scope, key, result, expires_at_ms)
select 'bench', printf('payment-%08d', i), json_object('paid', i), 253402300799999
from n
"""
COUNT = "update embq_scope set size = size + ?1 where name = 'bench'"


def once(run):
    """Get a stored result, each time another, at 1,000 and at 1,000,000 keys."""
    with contextlib.ExitStack() as stack:
        scopes = {n: _filled(run, stack, n) for n in (FEW, MANY)}
        samples = run.sample({n: lambda n=n: _cost(run, scopes[n], n) for n in scopes})
    return [
        compare(
            "once-get",
            "idempotency.get at 1,000,000 keys / at 1,000, a hit",
            "us",
            samples,
            MANY,
            FEW,
            at_most=1.25,
        )
    ]


def _filled(run, stack, count):
    path = stack.enter_context(run.folder()) / "bench.db"
    with embq.open(path, durability="normal") as broker:
        broker.idempotency("bench").set("first", 0)
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("pragma wal_autocheckpoint = 0")
            connection.execute(FILL, (count,))
            connection.execute(COUNT, (count,))
    broker = stack.enter_context(embq.open(path, durability="normal"))
    scope = broker.idempotency("bench")
    assert scope.get(f"payment-{count - 1:08}") == {"paid": count - 1}
    return scope


def _cost(run, scope, count):
    """Microseconds of a get."""
    numbers = random.Random(1)
    keys = [f"payment-{numbers.randrange(count):08}" for _ in range(ASKED)]
    asked = itertools.cycle(keys)
    n, spent = 0, 0.0
    while spent < run.seconds:
        chunk = list(itertools.islice(asked, CHUNK))
        start = perf_counter()
        for key in chunk:
            scope.get(key)
        spent += perf_counter() - start
        n += CHUNK
    return 1e6 * spent / n
