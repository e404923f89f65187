"""`check`: what is wrong with a file, found by reading it; nothing is repaired."""

import os
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

from sqlite_utils import Database

from embq import _native, _schema, _sqlite
from embq._problem import Problem
from embq._reading import Reading
from embq._rules import RULES, TABLES, Rule
from embq._schema_sql import SHARDS
from embq.errors import Corrupt, Error

_SHOWN = 100  # problems of one rule
_LET_GO = "a receive makes it a dead letter; `get` has its bytes, `delete` removes it"
_DOING = "check"
_RESTORE = "restore a backup, or copy what can be read into a new file"

_BODIES = """
select
  coalesce(c.name, 'embq_channel'),
  coalesce(
    m.public_id, (select printf('%016x%016x', file_id, m.id) from embq_meta)
  ),
  m.flags,
  m.body
from embq_message_{shard} m
left join embq_channel c on c.id = m.id >> 45 and c.kind = 1
where m.flags <> m.flags & 15
"""

_OBJECTS = """
select type, name, sql
from sqlite_master
where sql is not null
  and (name like 'embq\\_%' escape '\\' or tbl_name like 'embq\\_%' escape '\\')
"""


def check(path: bytes, timeout: float, *, quick: bool = False) -> list[Problem]:
    """Look at a file in one read transaction; see `Broker.check`."""
    found: list[Problem] = []
    try:
        with Reading(path, timeout, _DOING) as reading:
            found += _damage(reading, path, quick=quick)
            found += schema_differences(reading)
            if not found:  # else the rules would read what is not as they know it
                found += _breaches(reading)
    except Corrupt as error:
        found.append(_damaged(error.what))
    return found


def _damaged(text: str) -> Problem:
    return Problem("damaged", "SQLite", text, _RESTORE)


def _damage(reading: Reading, path: bytes, *, quick: bool) -> list[Problem]:
    """Ask SQLite itself."""
    pragma = "quick_check" if quick else "integrity_check"
    try:
        rows = reading.execute(f"pragma {pragma}({_SHOWN})")
    except _sqlite.failures() as error:
        reading.go_on()  # a fork that interrupted it is no damage
        failure: Error = _sqlite.translate(error, path, _DOING)
        if not _sqlite.is_about_sql(error):
            raise failure from error
        # An application's table needs a function or a collation that only its own
        # connections have. Ours need none.
        rows = [
            row
            for table in sorted(name for kind, name in ours() if kind == "table")
            for row in reading.execute(f"pragma {pragma}({table})")
        ]
    return [_damaged(text) for (text,) in rows if text != "ok"]


def ours() -> dict[tuple[str, str], str]:
    """Give the statements of a new file's tables, indexes and views, by kind and name.

    Not by Python's own module: another SQLite might write them down differently.
    """
    with closing(_sqlite.connect(b":memory:", 0)) as fresh:
        _schema.migrations.apply(Database(fresh, execute_plugins=False))
        return {(kind, name): sql for kind, name, sql in fresh.execute(_OBJECTS)}


def schema_differences(reading: Reading) -> list[Problem]:
    """Compare tables, indexes and views with those that embq makes."""
    wanted = ours()
    there = {(kind, name): sql for kind, name, sql in reading.execute(_OBJECTS)}
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


def _breaches(reading: Reading) -> list[Problem]:
    """Search for rows that break a rule."""
    found = [problem for rule in RULES for problem in breaches_of(reading, rule)]
    return found + list(islice(_damaged_bodies(reading), _SHOWN))


def _damaged_bodies(reading: Reading) -> Iterator[Problem]:
    """Compare each body with its checksum, where it has one."""
    for shard in range(SHARDS):
        for where, message, flags, body in reading.each(_BODIES.format(shard=shard)):
            if _native.is_damaged(flags, body):
                what = f"message {message}: its body is not what was sent"
                yield Problem("damaged_body", os.fsdecode(where), what, _LET_GO)


def breaches_of(reading: Reading, rule: Rule) -> list[Problem]:
    """Search for rows that break this rule, 100 at the most."""
    return [
        Problem(rule.code, os.fsdecode(where), rule.what.format(*values), rule.hint)
        for where, *values in reading.execute(f"{TABLES}{rule.search}limit {_SHOWN}")
    ]
