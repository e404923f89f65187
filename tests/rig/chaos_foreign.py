"""A process of a chaos run that is not embq: plain `sqlite3` on the file.

It does what other programs do to a database, as far as its SQLite lets them. One with
the WAL-reset bug (sqlite.org/wal.html) loses pages, whoever wrote them, when a
checkpoint that does not hold the write lock meets a writer that starts the WAL over. So
there it follows README's caveat: no automatic checkpoint, and none that is passive.
Started as a module: PATH SEED.
"""

from __future__ import annotations

import random
import signal
import sqlite3
import sys
import time

SAFE = sqlite3.sqlite_version_info >= (3, 51, 3)
MODES = ("full", "restart", "truncate", *("passive",) * (3 * SAFE))
LOCK_S, READ_S = 0.3, 1.0  # the longest


class Foreign:
    """One connection after the other."""

    def __init__(self, path: str, rng: random.Random) -> None:
        self.path, self.rng = path, rng
        self.connection = self._open()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=5, isolation_level=None)
        if not SAFE:
            connection.execute("pragma wal_autocheckpoint = 0")
        return connection

    def checkpoint(self) -> None:
        """In any mode that is safe."""
        mode = self.rng.choice(MODES)
        self.connection.execute(f"pragma wal_checkpoint({mode})").fetchall()

    def vacuum(self) -> None:
        """Write the whole file anew."""
        self.connection.execute("vacuum")

    def reindex(self) -> None:
        """Build all indices anew."""
        self.connection.execute("reindex")

    def read(self) -> None:
        """Hold a read transaction, so that the WAL cannot start over."""
        self.connection.execute("begin")
        self.connection.execute("select count(*) from embq_messages").fetchone()
        time.sleep(self.rng.uniform(0, READ_S))
        self.connection.execute("rollback")

    def write(self) -> None:
        """Hold the write lock, for a table of one's own."""
        self.connection.execute("begin immediate")
        self.connection.execute("create table if not exists notes(text)")
        self.connection.execute("insert into notes values (randomblob(5000))")
        self.connection.execute("delete from notes where rowid < ?", (self.rowid(),))
        time.sleep(self.rng.uniform(0, LOCK_S))
        self.connection.execute(self.rng.choice(["commit", "rollback"]))

    def rowid(self) -> int:
        """Keep the table short."""
        (last,) = self.connection.execute("select max(rowid) from notes").fetchone()
        return int(last or 0) - 20

    def look(self) -> None:
        """Is the file sound?"""
        (verdict,) = self.connection.execute("pragma quick_check(1)").fetchone()
        if verdict != "ok":
            sys.exit(f"quick_check: {verdict}")

    def leave_wal_mode(self) -> None:
        """Try to; it is refused while anybody has the file open."""
        self.connection.execute("pragma journal_mode = delete").fetchall()

    def reopen(self) -> None:
        """Close the connection and open another."""
        self.connection.close()
        self.connection = self._open()

    def disturb(self) -> None:
        """Do one of these."""
        often = (self.checkpoint, self.checkpoint, self.checkpoint, self.read)
        seldom = (self.write, self.vacuum, self.reindex, self.look)
        act = self.rng.choice([*often, *seldom, self.reopen, self.leave_wal_mode])
        try:
            act()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
        if self.connection.in_transaction:
            self.connection.execute("rollback")


def main() -> None:
    """Disturb until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    path, seed = sys.argv[1:]
    rng = random.Random(seed)
    foreign = Foreign(path, rng)
    while True:
        foreign.disturb()
        time.sleep(rng.expovariate(1 / 0.1))


if __name__ == "__main__":
    main()
