"""Files with values in our tables that embq never writes, for tests in Python.

STRICT and NOT NULL forbid them, so those words are made comments of the same length in
the file while SQL writes the values, as `schema.c` does.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

WORDS = {
    b"integer not null": b"integer /*null*/",
    b"real not null": b"real /*null*/",
    b"text not null": b"text /*null*/",
    b"blob not null": b"blob /*null*/",
    b") strict, without rowid": b")/*trict*/without rowid",
    b") strict": b")/*str*/",
}


class Hostile:
    """A file, as it was made, to be damaged again and again.

    Args:
        path: A closed database of embq. It is overwritten in place, since a file with
            another inode is a copy to embq, and all its leases would be void.
    """

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        for strict, loose in WORDS.items():
            assert strict in content
            content = content.replace(strict, loose)
        self._content = content
        self.path = path

    def damage(self, *statements: str, **values: Any) -> Path:
        """Write it anew, run the statements, and let it claim to be sound."""
        self.path.write_bytes(self._content)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("pragma synchronous = off")
            for statement in statements:
                connection.execute(statement, values)
        content = self.path.read_bytes()
        for strict, loose in WORDS.items():
            content = content.replace(loose, strict)
        self.path.write_bytes(content)
        return self.path

    def set(self, table: str, values: dict[str, Any]) -> Path:
        """Write it anew; every row of the table has these values."""
        columns = ", ".join(f"{column} = :{column}" for column in values)
        return self.damage(f"update or ignore {table} set {columns}", **values)
