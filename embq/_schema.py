"""The tables and views of a file, created and upgraded by numbered migrations.

**How to change them.** Never edit a migration that was released: a file keeps the name
of each one that it has seen (sqlite-utils' table `_sqlite_migrations`, set "embq").

1. Raise `EMBQ_SCHEMA_VERSION` in `csrc/embq_api.h` by one.
2. Add one function `m000N_what` at the end of this module, which changes the tables and
   drops and creates the views that it touches. `_apply` writes the version, and lets
   the fingerprint be taken anew.
3. Keep one file made by the version before in `tests/files/`; a test upgrades it.

All pending migrations are applied in one transaction: a file is of the old version or
of the new one, never between.
"""

import os
import time
from collections.abc import Callable
from typing import Any

from sqlite_utils import Database, Migrations

from embq import _native, _schema_sql, _sqlite
from embq.errors import Busy, Corrupt, NoMemory

# Set for a new file only, before anything is in it. ARCHITECTURE.md has the
# page sizes that were measured.
_NEW_FILE = (
    "pragma page_size = 4096",
    "pragma auto_vacuum = incremental",
)
_TRAPS = """
select count(*)
from sqlite_master
where tbl_name = ? collate nocase and type in ('view', 'trigger')
"""
_PAUSE = 0.01  # seconds between two looks at a lock that SQLite will not wait for
_SLICE = 0.05  # seconds that SQLite waits by itself: it lets no signal's handler run

migrations = Migrations("embq")


@migrations()
def m0001_spine(db: Database) -> None:
    """Create queues, messages, leases, and the views to look at them."""
    for statement in _schema_sql.statements():
        db.execute(statement)


def migrate(path: bytes, busy_timeout_ms: int) -> None:
    """Bring a file to this version of the tables; do nothing when it is newer.

    Any number of processes may do this at once: one of them does it, the others find it
    done.

    Args:
        path: A file that exists; an empty one becomes a database.
        busy_timeout_ms: How long to wait for others; -1: for ever.

    Raises:
        Busy: Another process held the file for longer.
        NoMemory: An allocation failed.
        StorageFull, StorageReadOnly, StorageIOError, Corrupt, NotAnEmbqFile: As named.
    """
    timeout = busy_timeout_ms / 1000 if busy_timeout_ms >= 0 else 1e6
    deadline = time.monotonic() + timeout
    failures = _sqlite.failures()
    try:
        connection = _sqlite.connect(path, min(timeout, _SLICE))
        try:
            _retry(lambda: _prepare(connection), path, deadline)
            _retry(lambda: _apply(connection), path, deadline)
        finally:
            connection.close()
    except failures as error:
        raise _sqlite.translate(error, path) from error
    except MemoryError as error:  # sqlite3 raises Python's own
        msg = f"{os.fsdecode(path)!r}: creating or upgrading the tables"
        raise NoMemory(msg) from error


def _retry(step: Callable[[], None], path: bytes, deadline: float) -> None:
    """Repeat a step until it is not busy: SQLite does not wait for every lock itself.

    A switch to WAL mode, for one, fails at once when another process is switching too.
    """
    while True:
        try:
            step()
        except _sqlite.failures() as error:
            failure = _sqlite.translate(error, path)
            if not isinstance(failure, Busy) or time.monotonic() >= deadline:
                raise failure from error
        else:
            return
        time.sleep(_PAUSE)


def _prepare(connection: Any) -> None:
    """Choose the layout of a new file, and WAL mode for any."""
    if connection.execute("pragma page_count").fetchone()[0] == 0:
        for pragma in _NEW_FILE:
            connection.execute(pragma).fetchall()
    connection.execute("pragma journal_mode = wal").fetchall()


def _apply(connection: Any) -> None:
    """Apply what is pending, all of it or none."""
    # execute_plugins: a plugin of sqlite-utils has no business in our tables.
    db = Database(connection, execute_plugins=False)
    connection.execute("begin immediate")
    try:
        _refuse_traps(connection)
        # Looked at again under the lock: another process may have been here first.
        if not _is_newer(db) and migrations.pending(db):
            migrations.apply(db)
            connection.execute(
                "update embq_meta set schema_version = ?, fingerprint = 0",
                (_native.SCHEMA_VERSION,),
            )
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def _refuse_traps(connection: Any) -> None:
    """Refuse a file whose list of migrations is a view or has triggers.

    They could do anything, and need have no end. What embq itself writes later is safe
    from them, see `csrc/connection.c`.
    """
    traps = connection.execute(_TRAPS, (migrations.migrations_table,)).fetchone()[0]
    if traps:
        msg = f"the table {migrations.migrations_table} is a view or has triggers"
        raise Corrupt(msg)


def _is_newer(db: Database) -> bool:
    """Tell whether a later embq was here; opening then says so."""
    known = {migration.name for migration in migrations.pending(db)}
    applied = {migration.name for migration in migrations.applied(db)}
    return len(known | applied) > len(migrations._migrations)  # noqa: SLF001
