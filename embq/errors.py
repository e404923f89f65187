"""What can go wrong, as one tree.

::

    embq.Error
    ├── what you passed
    │   ├── InvalidArgument (ValueError)  a name, duration, option or path
    │   ├── BodyError (ValueError)        the data does not fit the codec
    │   ├── MessageTooLarge (ValueError)  larger than max_body; a result of 1 MiB
    │   ├── NotFound (LookupError)        no such queue, or no such file
    │   ├── ConfigMismatch (ValueError)   the queue is stored with other options
    │   └── InvalidReceipt (ValueError)   not a receipt of this queue and file
    ├── what happened meanwhile
    │   ├── LeaseLost                     settled, or another consumer has it
    │   ├── RedriveUnderWay               the queue is redriven otherwise already
    │   ├── Closed                        the broker is closed
    │   ├── Forked                        a connection was open across a fork
    │   └── DatabaseReplaced              the file was moved, removed, replaced
    ├── try again
    │   ├── Busy (TimeoutError)           not done in time: nothing was stored
    │   ├── CommitUncertain               the outcome is unknown: maybe stored
    │   ├── QueueFull                     the queue has no room for it
    │   ├── Full                          the ring of staged messages is full
    │   └── NoMemory (MemoryError)        nothing was stored
    └── the file and what lies below
        ├── StorageFull                   the disk is full
        ├── StorageReadOnly               file, folder or mount is read-only
        ├── StorageIOError (OSError)      reading or writing failed
        ├── LimitReached                  a limit of the format
        ├── Corrupt                       the file contradicts itself
        ├── NotAnEmbqFile                 not an SQLite database
        ├── SchemaTooNew                  written by a later embq
        ├── UnsupportedSQLite             Python's SQLite cannot be used
        └── UnsupportedFilesystem         on a network, or FUSE

Every class has a `code` (stable, for programs), a `number` (the constant of the C core)
and a `hint` (what to do, often better known where it is raised); `docs` is its place in
the documents. Catch `embq.Error` for all of them.
"""

from typing import ClassVar


class Error(Exception):
    """Tell what failed, where, and what to do about it.

    Args:
        what: What happened and in which queue or file. Never a payload.
        hint: What to do, when this is known better than the class knows it.
    """

    code: ClassVar[str] = "error"
    number: ClassVar[int] = 0
    hint: str = ""

    def __init__(self, what: str = "", hint: str | None = None) -> None:
        super().__init__(what, hint)
        self.what = what
        if hint is not None:
            self.hint = hint

    @property
    def docs(self) -> str:
        """Where embq's documents say more about this class of errors."""
        return f"docs/errors.md#{self.code}"

    def __str__(self) -> str:
        if not self.hint:
            return self.what
        return f"{self.what}; {self.hint}" if self.what else self.hint


class InvalidArgument(Error, ValueError):
    """An argument makes no sense: a name, a duration, an option or a path."""

    code = "invalid_argument"
    number = -10
    hint = "correct the argument that is named; nothing was done"


class NotFound(Error, LookupError):
    """There is no such queue, or no such file."""

    code = "not_found"
    number = -11
    hint = "check the path and the name; create=True creates a file"


class ConfigMismatch(Error, ValueError):
    """A queue is stored with other options than the ones given."""

    code = "config_mismatch"
    number = -12
    hint = "leave the option out to use what is stored"


class QueueFull(Error):
    """Its bounds leave the queue no room, or left none in time; nothing was stored."""

    code = "queue_full"
    number = -13
    hint = "receive and ack some, or raise the bound with configure()"


class Full(Error):
    """The ring of staged messages has no room: the disk is slower than the senders."""

    code = "full"
    number = -14
    hint = "call flush(), or use send(), which waits for room"


class StorageFull(Error):
    """The disk is full, or the reserve for receiving and settling is reached."""

    code = "storage_full"
    number = -15
    hint = "free some space; receiving, ack and nack still work"


class MessageTooLarge(Error, ValueError):
    """Body and fields exceed the queue's `max_body`, or a result exceeds 1 MiB."""

    code = "message_too_large"
    number = -16
    hint = "store the payload elsewhere and send a reference to it"


class BodyError(Error, ValueError):
    """Data that the queue's codec cannot encode, or a body that it cannot decode."""

    code = "body_error"
    number = -17
    hint = "message.body has the bytes as they are"


class LeaseLost(Error):
    """The message is settled already, or was handed to another consumer since.

    Of `Idempotency.run`: a result was set while the function ran, and is gone again.
    """

    code = "lease_lost"
    number = -18
    hint = "make the handler idempotent, or raise visibility_timeout, or extend()"


class InvalidReceipt(Error, ValueError):
    """Not a receipt of this queue in this file."""

    code = "invalid_receipt"
    number = -19
    hint = "settle what this queue handed out: a message of receive() or messages()"


class Busy(Error, TimeoutError):
    """It was not done in time; nothing was stored.

    Another connection had the write lock all the time, the ring of waiting calls had no
    room, or what had to be waited for did not come. What was staged stays staged.
    """

    code = "busy"
    number = -20
    hint = "try again, or allow more time by timeout= or the broker's busy_timeout"


class CommitUncertain(Error):
    """The outcome is unknown: the message may be stored, and may come."""

    code = "commit_uncertain"
    number = -21
    hint = "sending again may make a duplicate, unless by retries= or a dedup_id"


class StorageReadOnly(Error):
    """The file, its folder or its mount is read-only."""

    code = "storage_read_only"
    number = -22
    hint = "embq must be able to write the file and to create -wal and -shm beside it"


class StorageIOError(Error, OSError):
    """Reading or writing the file failed."""

    code = "storage_io_error"
    number = -23
    hint = "look at the kernel's log"


class LimitReached(Error):
    """A limit of the file format or of the process is reached."""

    code = "limit_reached"
    number = -24
    hint = (
        "use less of what is named: brokers and processes at the file, queues, open "
        "descriptors, threads; or raise the limit of the process (`ulimit -a`)"
    )


class Corrupt(Error):
    """The file contradicts itself: a damaged page, or tables changed by hand."""

    code = "corrupt"
    number = -26
    hint = "`embq check` says what is wrong with it, and what it can mend"


class NotAnEmbqFile(Error):
    """The file is not an SQLite database. It was not changed."""

    code = "not_an_embq_file"
    number = -27
    hint = "choose another path"


class SchemaTooNew(Error):
    """The file was written by a later version of embq. It was not changed."""

    code = "schema_too_new"
    number = -28
    hint = "upgrade embq in this process"


class UnsupportedSQLite(Error):
    """The SQLite that Python uses cannot be shared, or is too old."""

    code = "unsupported_sqlite"
    number = -29
    hint = (
        "install pysqlite3-binary and set EMBQ_SQLITE_MODULE=pysqlite3, "
        "or use a Python whose sqlite3 is at least 3.37 and can load extensions"
    )


class UnsupportedFilesystem(Error):
    """The file is, or would be, on a network file system or FUSE. It was not touched.

    There WAL mode loses data when several hosts use the file, and with some file
    systems also when several processes do (sqlite.org/wal.html).
    """

    code = "unsupported_filesystem"
    number = -30
    hint = (
        "put the file on a local disk; or, when a single host uses it and its memory "
        "maps and locks hold there, say allow_unsafe_filesystem=True"
    )


class DatabaseReplaced(Error):
    """The file was moved, removed or replaced while it was open.

    What was not confirmed before has an unknown outcome; nothing was written to the
    other file.
    """

    code = "database_replaced"
    number = -31
    hint = "close the broker and open the path again"


class Closed(Error):
    """The broker is closed; or what is asked for is of the process before a fork."""

    code = "closed"
    number = -32
    hint = "open the file again with embq.open(path)"


class Forked(Error):
    """A connection to the file was open when this process was forked, and still is.

    SQLite's locks are not inherited, but its memory of them is: what this process would
    commit might be lost, so nothing is read or written. Raised by whatever uses the
    file first in the child, and again until the connection is gone. docs/forking.md
    says what to do, and what cannot be noticed.

    Also raised in a child for which embq's own connections could not be closed: a
    thread was writing for longer than a fork waits (a second), or the fork was not made
    by Python. And where another thread of the application was in SQLite just then, with
    whatever database, so that a mutex of SQLite's stays taken.
    """

    code = "forked"
    number = -33
    hint = (
        "close your own connections to the file before the fork, or start the process "
        "anew (multiprocessing: spawn)"
    )


class NoMemory(Error, MemoryError):
    """An allocation failed; nothing was stored."""

    code = "no_memory"
    number = -34
    hint = "free some memory and try again, with smaller batches or bodies"


class RedriveUnderWay(Error):
    """The queue is being redriven already, with other arguments; nothing changed."""

    code = "redrive_under_way"
    number = -36
    hint = "wait for that one, or end it by its cancel()"


class LeaseExpiredWarning(RuntimeWarning):
    """A message was settled, or its `with` left, after its lease was over.

    Warned of once for each `Queue`. A late settlement holds only as long as nobody else
    has received the message; after that it is `LeaseLost`.
    """


def _tree(parent: type[Error]) -> list[type[Error]]:
    """List a class and all below it."""
    return [parent] + [cls for sub in parent.__subclasses__() for cls in _tree(sub)]


#: The class for each number that the C core returns, built from the classes themselves.
BY_NUMBER: dict[int, type[Error]] = {
    cls.number: cls for cls in _tree(Error) if cls is not Error
}
