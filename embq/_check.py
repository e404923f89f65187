"""`check`: what is wrong with a file, found by reading it; nothing is repaired."""

import os
import sqlite3
from contextlib import closing
from typing import Any, NamedTuple

import msgspec

from embq import _schema_sql, _sqlite
from embq.errors import Corrupt

_SHOWN = 100  # problems of one rule
_RESTORE = "restore a backup, or copy what can be read into a new file"
_RECOUNT = "the messages are there; report it with what ran before"

_STORED = "\n  union all\n".join(
    f"  select id, expires_at_ms from embq_message_{shard}"
    for shard in range(_schema_sql.SHARDS)
)
_OBJECTS = """
select type, name, sql
from sqlite_master
where sql is not null
  and (name like 'embq\\_%' escape '\\' or tbl_name like 'embq\\_%' escape '\\')
"""


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong with a file.

    Attributes:
        code: The kind of problem, one word for programs.
        where: The table, index or queue.
        what: What is wrong, for people; without payload.
        hint: What to do about it.
    """

    code: str
    where: str
    what: str
    hint: str


class _Rule(NamedTuple):
    """A search for rows that break a rule: where, and two values for the text."""

    code: str
    what: str
    hint: str
    search: str


_RULES = (
    _Rule(
        "orphan_delivery",
        "subscription {}: a delivery of message {}, which is not there",
        _RESTORE,
        """
select 'embq_delivery', d.subscription, d.message
from embq_delivery d
left join stored m on m.id = d.message
where m.id is null
""",
    ),
    _Rule(
        "orphan_due",
        "subscription {}: a delay of message {}, which is not there",
        _RESTORE,
        """
select 'embq_due', d.subscription, d.message
from embq_due d
left join stored m on m.id = d.message
where m.id is null
""",
    ),
    _Rule(
        "wrong_expiry",
        "an end at {} ms of message {}, which does not perish then",
        _RESTORE,
        """
select 'embq_expiry', e.expires_at_ms, e.message
from embq_expiry e
left join stored m on m.id = e.message
where m.expires_at_ms is not e.expires_at_ms
""",
    ),
    _Rule(
        "orphan_message",
        "message {} is of channel {}, which is not there",
        _RESTORE,
        """
select 'embq_channel', m.id, m.id >> 45
from stored m
left join embq_channel c on c.id = m.id >> 45
where c.id is null
""",
    ),
    _Rule(
        "no_subscription",
        "channel {} has {} subscriptions",
        _RESTORE,
        """
select c.name, c.id, count(s.id)
from embq_channel c
left join embq_state s on s.channel = c.id
group by c.id
having count(s.id) = 0
""",
    ),
    _Rule(
        "waiting_count",
        "it counts {} deliveries that wait, and has {}",
        _RECOUNT,
        """
select c.name, s.waiting, count(d.message)
from embq_state s
join embq_channel c on c.id = s.channel
left join embq_delivery d on d.subscription = s.id and d.owner is null
group by s.id
having s.waiting <> count(d.message)
""",
    ),
    _Rule(
        "message_count",
        "it counts {} messages, and has {}",
        _RECOUNT,
        """
select q.name, q.messages, count(v.row)
from embq_queues q
left join embq_messages v on v.queue = q.name
group by q.name
having q.messages <> count(v.row)
""",
    ),
    _Rule(
        "in_flight_count",
        "it counts {} messages in flight, and has {}",
        _RECOUNT,
        """
select q.name, q.in_flight, count(v.row)
from embq_queues q
left join embq_messages v on v.queue = q.name and v.state = 'in_flight'
group by q.name
having q.in_flight <> count(v.row)
""",
    ),
)


def check(path: bytes, timeout: float, *, quick: bool = False) -> list[Problem]:
    """Look at a file in one read transaction; see `Broker.check`."""
    failures = _sqlite.failures()
    found: list[Problem] = []
    try:
        with closing(_sqlite.connect(path, timeout)) as connection:
            connection.execute("pragma query_only = on").fetchall()
            connection.execute("begin")
            try:
                found += _damage(connection, quick=quick)
                found += _schema(connection)
                if not found:  # else the rules would read what is not as they know it
                    found += _rules(connection)
            finally:
                connection.execute("rollback")
    except failures as error:
        failure = _sqlite.translate(error, path)
        if not isinstance(failure, Corrupt):
            raise failure from error
        found.append(Problem("damaged", os.fsdecode(path), str(error), _RESTORE))
    return found


def _damage(connection: Any, *, quick: bool) -> list[Problem]:
    """Ask SQLite itself."""
    pragma = "quick_check" if quick else "integrity_check"
    rows = connection.execute(f"pragma {pragma}({_SHOWN})").fetchall()
    texts = [text for (text,) in rows if text != "ok"]
    return [Problem("damaged", "SQLite", text, _RESTORE) for text in texts]


def _schema(connection: Any) -> list[Problem]:
    """Compare tables, indexes and views with those that embq makes."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        for statement in _schema_sql.statements():
            fresh.execute(statement)
        wanted = {(kind, name): sql for kind, name, sql in fresh.execute(_OBJECTS)}
    there = {(kind, name): sql for kind, name, sql in connection.execute(_OBJECTS)}
    found = []
    for kind, name in sorted(wanted.keys() | there.keys()):
        if (kind, name) not in there:
            found.append(Problem("missing", name, f"the {kind} is gone", _RESTORE))
        elif (kind, name) not in wanted:
            hint = f"drop it: `drop {kind} {name}`"
            found.append(Problem("foreign", name, f"a {kind} on our tables", hint))
        elif wanted[kind, name] != there[kind, name]:
            what = f"the {kind} was changed"
            found.append(Problem("changed", name, what, _RESTORE))
    return found


def _rules(connection: Any) -> list[Problem]:
    """Search for rows that break a rule."""
    found = []
    for rule in _RULES:
        search = f"with stored as (\n{_STORED}\n){rule.search}limit {_SHOWN}"
        found += [
            Problem(rule.code, where, rule.what.format(*values), rule.hint)
            for where, *values in connection.execute(search)
        ]
    return found
