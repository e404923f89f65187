"""An application's file: tables of its own, which stay as they are beside ours."""

from __future__ import annotations

import contextlib
import functools
import shutil
import sqlite3
import tempfile
from pathlib import Path

import embq

APP_ROWS = [(number, f"order {number}" * 20) for number in range(40)]
APP_SCHEMA = (
    "CREATE TABLE app_order(id integer primary key, note text)",
    "CREATE INDEX app_order_note on app_order(note)",
)
APP_PRAGMAS = {"user_version": 7, "application_id": 1234}

OURS = """
    select count(*)
    from sqlite_schema
    where tbl_name like 'embq%' or tbl_name like '_sqlite_migrations%'
"""


def make_application(path: Path) -> None:
    """Make a database with tables of its own, as an application would."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in APP_SCHEMA:
            connection.execute(statement)
        connection.executemany("insert into app_order values (?, ?)", APP_ROWS)
        for name, value in APP_PRAGMAS.items():
            connection.execute(f"pragma {name} = {value}")
        connection.commit()


@functools.cache
def schema_size() -> int:
    """Count what a fresh file has of our tables, indexes and views."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fresh.db"
        embq.open(path).close()
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return int(connection.execute(OURS).fetchone()[0])


def check_migrated(folder: Path, *, application: bool) -> None:
    """CASE 4: of a file that embq has not seen again, our tables are all or none.

    Looked at in a copy, as SQLite would tidy up what the dead process has left.
    """
    copy = folder / "copy"
    copy.mkdir()
    for part in folder.glob("test.db*"):
        if not part.name.endswith("-shm"):
            shutil.copy(part, copy)
    path = copy / "test.db"
    if not path.exists():
        assert not application, "the application's file is gone"
        return
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute(OURS).fetchone()
        assert count in (0, schema_size()), f"{count} of {schema_size()} tables"
        if application:
            check_application(connection)


def check_application(connection: sqlite3.Connection) -> None:
    """What the application has in its file is as it was."""
    rows = connection.execute("select * from app_order order by id").fetchall()
    assert rows == APP_ROWS
    text = "select sql from sqlite_schema where name like 'app%' order by rowid"
    assert tuple(sql for (sql,) in connection.execute(text)) == APP_SCHEMA
    for name, value in APP_PRAGMAS.items():
        assert connection.execute(f"pragma {name}").fetchone() == (value,), name
