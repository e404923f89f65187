"""What SQLite does from C (limit.c) where the contestants do a scenario.

A send is compared with an insert, a receive and ack with the delete alone: no queue can
do with less. Deletes are not synced, whatever inserts are: an ack that a power cut
takes back loses nothing.
"""

SIZES = (100, 1 << 10, 1 << 16, 1 << 20)


def _rows(run, sync, batch, seconds, **options):
    """Inserts a second, as `sync` says, and deletes a second."""
    inserts, deletes = run.limit_rows(sync, batch, seconds, **options)
    if sync != "NORMAL":
        _, deletes = run.limit_rows("NORMAL", batch, seconds, **options)
    return inserts, deletes


def verbs(run, sync, seconds, _):
    """Inserts of 1, 100, 1,000 to a transaction, and deletes of 1 and 100."""
    by = {n: _rows(run, sync, n, seconds) for n in (1, 100, 1000)}
    return {
        **{f"send {n}": inserts for n, (inserts, _) in by.items()},
        "send nowait": by[100][0],
        "receive 1": by[1][1],
        "receive 100": by[100][1],
        "loop": by[100][1],
    }


def pipeline(run, sync, seconds, _):
    """An insert and a delete for each message: of 1 with `send`, of 100 with nowait."""
    found = {}
    for key, batch in (("send", 1), ("nowait", 100)):
        inserts, deletes = _rows(run, sync, batch, seconds / 2)
        found[key] = 1 / (1 / inserts + 1 / deletes)
    return found


def bodies(run, sync, seconds, _):
    """Inserts and deletes of one row, by its size."""
    found = {}
    for size in SIZES:
        inserts, deletes = _rows(run, sync, 1, seconds, size=size)
        found |= {f"send {size}": inserts, f"receive {size}": deletes}
    return found


def backlog(run, sync, seconds, arguments):
    """Inserts and deletes of one row, in a table that has so many."""
    inserts, deletes = _rows(run, sync, 1, seconds, backlog=arguments["count"])
    return {"send": inserts, "receive": deletes}
