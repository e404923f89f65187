"""The schedule of the WAL-reset bug, step by step: see test_wal_reset.py.

    all is in the database -> a checkpoint begins -> a writer starts the WAL over -> the
      checkpoint ends -> the WAL grows beyond its old length -> the next checkpoint

Run in a process of its own, as `window` hooks all connections of its process.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from rig.wal_window import (
    BUSY,
    CHECKPOINT_LOCK,
    FIRST_READ_LOCK,
    LOCK,
    SHARED,
    UNLOCK,
    WRITE_LOCK,
    Window,
)

FEW, MANY, BODY = 3, 16_000, 600  # rows: less than the WAL was long, and more
BODY_OF_MESSAGE = "x" * 4000
MESSAGES, PAUSE_S = 25, 0.01  # at once, and between
PATIENCE_S = 20.0


class Application:
    """Another program's table in the file: what is lost shows there."""

    def __init__(self, path: Path) -> None:
        self.path, self.turn = path, 0
        self.connection = sqlite3.connect(
            path, timeout=0.2, isolation_level=None, check_same_thread=False
        )
        for text in (
            "pragma journal_mode = wal",
            "pragma wal_autocheckpoint = 0",
            "create table notes(a integer primary key, b, c)",
            "create index by_b on notes(b)",
        ):
            self.connection.execute(text).fetchall()

    def write(self, rows: int) -> None:
        """Write so many rows anew, in one commit."""
        self.turn += 1
        self.connection.execute("begin immediate")
        self.connection.executemany(
            "replace into notes values (?, ?, randomblob(?))",
            [(a, self.turn, BODY) for a in range(rows)],
        )
        self.connection.execute("commit")

    def complete(self) -> None:
        """Checkpoint until everything is in the database."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            text = "pragma wal_checkpoint(passive)"
            busy, frames, done = self.connection.execute(text).fetchone()
            if not busy and frames <= done:
                return  # done is more than there is: so the bug shows
            time.sleep(0.01)
        raise TimeoutError(frames, done)

    def harm(self) -> str:
        """Let the WAL grow, checkpoint, and say what is wrong; "" for nothing."""
        try:
            self.write(MANY)
            self.complete()
            return self.look()
        except sqlite3.DatabaseError as error:
            return str(error)

    def look(self) -> str:
        """Look at the file with other eyes than those that wrote it."""
        fresh = sqlite3.connect(self.path)
        (found,) = fresh.execute("pragma integrity_check(1)").fetchone()
        if found != "ok":
            return f"integrity_check: {found}"
        rows = fresh.execute("select a, b from notes order by a").fetchall()
        fresh.close()
        right = rows == [(a, self.turn) for a in range(MANY)]
        return "" if right else f"{len(rows)} rows of {MANY}, or old ones"


def plain(path: Path) -> tuple[int, bool, str]:
    """Checkpoint on a plain connection, with nothing to protect it."""
    windows = []

    def on_window(_file: int) -> None:
        if armed:
            windows.append(1)
            application.write(FEW)

    armed = False
    _hook = Window(lambda *_: None, on_window)
    application = Application(path)
    application.write(MANY // 8)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("select count(*) from notes").fetchone()
    application.write(MANY // 8)
    application.complete()
    armed = True
    other.execute("pragma wal_checkpoint(passive)").fetchall()
    armed = False
    return len(windows), False, application.harm()


class Keeper:
    """The same with the checkpoint of embq's keeper in place of the plain one.

    Args:
        path: The file.
        kind: When the other connection has brought everything into the database.
            "held": the keeper's read transaction stands, which it begins beforehand.
            "void": the same, but the lock of that transaction is none. "late": just
            before the keeper gets that lock, which is busy for a moment. "last": the
            keeper has the write lock, to bring the rest into the database.
    """

    def __init__(self, path: Path, kind: str) -> None:
        import embq  # noqa: PLC0415  (after the hook)

        self.kind = kind
        self.armed = self.voided = self.writing = self.alone = False
        self.windows = 0
        self.refused = False  # the writer in the window
        self.reader = self.checkpointer = 0  # the keeper's two connections
        self.last_reader = 0
        self.over = threading.Event()
        self.turn = threading.Lock()  # a sender's own read would guard the checkpoint
        self.hook = Window(self.on_lock, self.on_window)
        self.application = Application(path)
        self.application.write(MANY // 8)
        self.broker = embq.open(path, durability="normal")
        self.queue = self.broker.queue("q")

    def on_lock(self, file: int, place: int, flags: int) -> int | None:
        """See which connections the keeper uses; then come in between."""
        if threading.current_thread() is threading.main_thread():
            return None
        if place == WRITE_LOCK:
            self.writing = bool(flags & LOCK)
        if place >= FIRST_READ_LOCK and flags == LOCK | SHARED:
            self.last_reader = file
        if place == CHECKPOINT_LOCK and not self.checkpointer:
            self.checkpointer, self.reader = file, self.last_reader
        if place == CHECKPOINT_LOCK and file == self.checkpointer and self.armed:
            self.on_checkpoint(flags)
        if place >= FIRST_READ_LOCK and file == self.reader and flags & SHARED:
            return self.on_reader(place, flags)
        return None

    def on_checkpoint(self, flags: int) -> None:
        """Have everything in the database before it begins."""
        if flags & UNLOCK and self.windows:
            self.end()
        elif flags & LOCK and self.kind in ("held", "void") and not self.writing:
            self.complete_alone()
        elif self.kind == "last" and flags & UNLOCK and not self.writing:
            self.application.write(FEW)  # so that the last one has something to do
        elif flags & LOCK and self.kind == "last" and self.writing:
            self.application.complete()

    def complete_alone(self) -> None:
        """Bring all into the database; nobody sends until the checkpoint is over."""
        self.alone = True
        self.turn.acquire()
        self.application.complete()

    def others_again(self) -> None:
        """Let others send."""
        if self.alone:
            self.alone = False
            self.turn.release()

    def on_reader(self, place: int, flags: int) -> int | None:
        """Answer for the lock of the keeper's read transaction."""
        if flags & UNLOCK:
            voided, self.voided = self.voided, False
            if self.kind == "late" and not self.windows:
                self.others_again()  # it read something else
            return 0 if voided else None
        if not self.armed or place == FIRST_READ_LOCK:
            return None
        if self.kind == "late":
            self.complete_alone()
            return BUSY
        self.voided = self.kind == "void"
        return 0 if self.voided else None

    def on_window(self, file: int) -> None:
        """Let another writer commit while the keeper's checkpoint has begun."""
        if not self.armed or file != self.checkpointer:
            return
        if self.kind == "last" and not self.writing:
            return  # the step before the last one
        self.windows += 1
        if self.kind != "last":
            self.application.write(FEW)
            return
        try:
            self.application.write(FEW)
        except sqlite3.OperationalError:
            self.refused = True

    def end(self) -> None:
        """Come in between no more."""
        self.armed = False
        self.others_again()
        self.over.set()

    def run(self) -> tuple[int, bool, str]:
        """See who is who; then the schedule; then what is left."""
        sent = self.send_until(lambda: self.checkpointer != 0)
        self.application.complete()
        self.armed = True
        sent += self.send_until(self.over.is_set)
        return self.windows, self.refused, self.application.harm() or self.count(sent)

    def count(self, sent: int) -> str:
        """Are all messages there?"""
        taken = 0
        while found := self.queue.receive_many(1000, auto_ack=True):
            taken += len(found)
        return "" if taken == sent else f"{taken} messages of {sent}"

    def send_until(self, condition: Callable[[], bool]) -> int:
        """Send, so that the keeper has to checkpoint and is never idle; how many."""
        sent, end = 0, time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError
            with self.turn:
                sent += len(self.queue.send_many([BODY_OF_MESSAGE] * MESSAGES))
            time.sleep(PAUSE_S)
        return sent


def main(kind: str, path: str) -> None:
    """Print how often the window was met, whether the writer was refused, the harm."""
    place = Path(path)
    try:
        outcome = plain(place) if kind == "plain" else Keeper(place, kind).run()
        sys.stdout.write(json.dumps(outcome))
    except BaseException:  # noqa: BLE001  (told, and the process ends as below)
        traceback.print_exc()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)  # the hooks must not be met by an interpreter that ends


if __name__ == "__main__":
    main(*sys.argv[1:])
