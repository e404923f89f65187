"""A queue that one writes by hand with Python's `sqlite3`, in some sixty lines.

Autoincrement, a column for the state, a partial index over what is ready; autocommit
for single statements. No leases, no wake-up: what a dead consumer held stays taken.
"""

import sqlite3

from peers.face import Peer

SCHEMA = """
create table if not exists queue(
    id integer primary key autoincrement,
    state integer not null default 0,
    body blob not null
);
create index if not exists queue_ready on queue(id) where state = 0;
"""
SEND = "insert into queue(body) values (?)"
TAKE = """
update queue set state = 1
where id in (select id from queue where state = 0 order by id limit ?)
returning id, body
"""
ACK = "delete from queue where id = ?"


class Sqlite3Queue(Peer):
    """Plain sqlite3; each thread has a connection."""

    release = sqlite3.sqlite_version
    acks = "none: what a dead consumer held stays taken"
    note = "Python's sqlite3, autocommit, `update ... returning`"

    def __init__(self, place, durability):
        self._db = sqlite3.connect(
            place.folder / "queue.db",
            isolation_level=None,
            timeout=30,
            check_same_thread=False,
        )
        self._db.execute("pragma journal_mode = wal")
        self._db.execute(f"pragma synchronous = {durability}")
        self._db.executescript(SCHEMA)

    def send(self, body):
        self._db.execute(SEND, (body,))

    def send_many(self, bodies):
        self._db.execute("begin immediate")
        self._db.executemany(SEND, [(body,) for body in bodies])
        self._db.execute("commit")

    def poll(self):
        found = self._db.execute(TAKE, (1,)).fetchall()
        return found[0] if found else None

    def receive_many(self, n):
        return self._db.execute(TAKE, (n,)).fetchall()

    def ack(self, message):
        self._db.execute(ACK, message[:1])

    def ack_many(self, messages):
        self._db.execute("begin immediate")
        self._db.executemany(ACK, [message[:1] for message in messages])
        self._db.execute("commit")

    def body(self, message):
        return message[1]

    def close(self):
        self._db.close()
