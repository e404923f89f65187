"""Before and after a round of chaos: declaring the queues, and taking out what is left.

Started as a module: setup|drain PATH FOLDER CLOCK.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path

from clock import ClockFile
from rig.chaos_roles import KEYED, LEASE_S, MAX_RECEIVES, ONCE, QUEUES, RETRY, delivery
from rig.history_file import Recorder
from rig.invariants import broken

import embq
from embq import _native

PATIENCE_S = 60.0
BATCH = 500
EMPTY = (
    "embq_messages",
    "embq_state where states is not null",
    "embq_delivery",
    "embq_due",
    "embq_expiry",
)
LIVE = 2  # this process, and the steady one that rests


class Drain:
    """A process that has the file for itself."""

    def __init__(self, name: str, path: Path, folder: Path, clock: Path) -> None:
        _native.use_clock(clock)
        self.path = path
        self.record = Recorder(folder, f"{name}.0", ClockFile(clock, fresh=False))
        self.broker = embq.open(path, durability="normal")

    def setup(self) -> None:
        """Declare the queues, and note what they count already."""
        for name in QUEUES:
            queue = self.broker.queue(
                name,
                visibility_timeout=LEASE_S[name],
                max_receives=MAX_RECEIVES[name],
                retry=RETRY,
                dead_letter=None if name == ONCE else f"{name}.dead",
                ordered="key" if name == KEYED else False,
            )
            self.count(queue)
        for name in self.broker.queues():
            if name.endswith(".dead"):
                self.count(self.broker.queue(name))
        self.broker.close()

    def drain(self) -> None:
        """Receive all that is left, dead letters last; then look at the counters."""
        check_rules(self.path)
        names = [*QUEUES, *(f"{name}.dead" for name in QUEUES)]
        queues = []
        for name in names:
            if name in self.broker.queues():  # what perishes just now makes some
                queues.append(self.broker.queue(name))
                self.empty(queues[-1])
        for queue in queues:
            self.count(queue)
        self.bury_owners()
        self.broker.close()
        self.check()

    def empty(self, queue: embq.Queue) -> None:
        """Take everything; what the dead held comes within a second or so."""
        end = time.monotonic() + PATIENCE_S
        while queue.depth():
            call = self.record.invoke("receive", queue=queue.name)
            messages = queue.receive_many(BATCH, wait=0.2)
            if not messages:
                if time.monotonic() > end:
                    sys.exit(f"{queue.name} is not empty: {queue.stats()}")
                continue
            for message in messages:
                self.record.handed(call, message)
            at = [delivery(message) for message in messages]
            number = self.record.invoke("ack", messages=at)
            if queue.ack_many(messages) != len(messages):
                sys.exit(f"{queue.name}: a lease was lost with nobody else here")
            self.record.write("ok", "ack", number)

    def bury_owners(self) -> None:
        """Wait until the dead are forgotten, those that held nothing too."""
        end = time.monotonic() + PATIENCE_S
        connection = sqlite3.connect(self.path)
        owners = "select count(*) from embq_owner"
        while connection.execute(owners).fetchone() != (LIVE,):
            if time.monotonic() > end:
                sys.exit("dead owners stay in the file")
            time.sleep(0.05)
        connection.close()

    def count(self, queue: embq.Queue) -> None:
        """Note the queue's counters."""
        counters = {k: v for k, v in queue.stats().items() if k != "oldest"}
        self.record.note("stats", queue=queue.name, **counters)

    def check(self) -> None:
        """See that the file is sound and that nothing is left in it."""
        connection = sqlite3.connect(self.path)
        found = connection.execute("pragma integrity_check").fetchall()
        left = {
            table: connection.execute(f"select count(*) from {table}").fetchone()[0]
            for table in EMPTY
        }
        connection.close()
        if found != [("ok",)]:
            sys.exit(f"integrity_check: {found[:20]}")
        if any(left.values()):
            sys.exit(f"left in an empty file: {left}")


def check_rules(path: Path) -> None:
    """See that the tables agree with each other."""
    connection = sqlite3.connect(path)
    found = broken(connection)
    connection.close()
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    role, *places = sys.argv[1:]
    drain = Drain(role, *map(Path, places))
    drain.setup() if role == "setup" else drain.drain()
