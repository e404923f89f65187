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


QUERY = """
select result
from embq_idempotency
where scope = 'bench' and key = ?1
"""


def once(run):
    """Get a stored result, at 1,000 and at 1,000,000 keys.

    Of the newest, as a message that comes again does soon; and of any, each time
    another, which is rarely in a cache. The same by hand, with `sqlite3`, says what of
    that is SQLite's.
    """
    kinds = {
        "recent": (_get, FEW, "idempotency.get of the newest 1,000"),
        "any": (_get, MANY, "idempotency.get of any"),
        "sqlite3": (_by_hand, MANY, "select by hand with sqlite3 of any"),
    }
    with contextlib.ExitStack() as stack:
        files = {n: _filled(run, stack, n) for n in (FEW, MANY)}
        cells = {
            (kind, n): lambda n=n, how=how, among=among: _cost(
                run, how(*files[n]), n, min(among, n)
            )
            for kind, (how, among, _) in kinds.items()
            for n in files
        }
        samples = run.sample(cells)
    return [
        compare(
            f"once-{kind}",
            f"{what}, at 1,000,000 keys / at 1,000",
            "us",
            samples,
            (kind, MANY),
            (kind, FEW),
            **({} if kind == "sqlite3" else {"at_most": 1.25}),
        )
        for kind, (_, _, what) in kinds.items()
    ]


def _get(scope, _):
    return scope.get


def _by_hand(_, connection):
    return lambda key: connection.execute(QUERY, (key,)).fetchone()


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
    connection = sqlite3.connect(path, isolation_level=None)
    stack.callback(connection.close)
    connection.execute("pragma cache_size = -16384")  # as embq's
    return scope, connection


def _cost(run, get, count, among):
    """Microseconds of a get of one among the newest keys."""
    numbers = random.Random(1)
    keys = [
        f"payment-{numbers.randrange(count - among, count):08}" for _ in range(ASKED)
    ]
    asked = itertools.cycle(keys)
    n, spent = 0, 0.0
    while spent < run.seconds:
        chunk = list(itertools.islice(asked, CHUNK))
        start = perf_counter()
        for key in chunk:
            get(key)
        spent += perf_counter() - start
        n += CHUNK
    return 1e6 * spent / n
