"""A durable message broker inside your process and one SQLite file.

::

import embq

with embq.open("app.db") as broker:
    jobs = broker.queue("jobs")
    jobs.send({"order": 17})
    for message in jobs.messages(wait=0):
        print(message.data)
        message.ack()
"""

from embq._look import Explanation
from embq._open import open  # noqa: A004
from embq._options import Backoff
from embq._outgoing import Outgoing
from embq._problem import Problem
from embq._redrive import Redrive
from embq._ticket import Sent, Ticket
from embq.broker import Broker
from embq.errors import (
    BodyError,
    Busy,
    Closed,
    CommitUncertain,
    ConfigMismatch,
    Corrupt,
    DatabaseReplaced,
    Error,
    Forked,
    Full,
    InvalidArgument,
    InvalidReceipt,
    LeaseExpiredWarning,
    LeaseLost,
    LimitReached,
    MessageTooLarge,
    NoMemory,
    NotAnEmbqFile,
    NotFound,
    QueueFull,
    RedriveUnderWay,
    SchemaTooNew,
    StorageFull,
    StorageIOError,
    StorageReadOnly,
    UnsupportedFilesystem,
    UnsupportedSQLite,
)
from embq.idempotency import Idempotency
from embq.messages import Message
from embq.queue import Queue

__version__ = "0.1.0"

__all__ = [
    "Backoff",
    "BodyError",
    "Broker",
    "Busy",
    "Closed",
    "CommitUncertain",
    "ConfigMismatch",
    "Corrupt",
    "DatabaseReplaced",
    "Error",
    "Explanation",
    "Forked",
    "Full",
    "Idempotency",
    "InvalidArgument",
    "InvalidReceipt",
    "LeaseExpiredWarning",
    "LeaseLost",
    "LimitReached",
    "Message",
    "MessageTooLarge",
    "NoMemory",
    "NotAnEmbqFile",
    "NotFound",
    "Outgoing",
    "Problem",
    "Queue",
    "QueueFull",
    "Redrive",
    "RedriveUnderWay",
    "SchemaTooNew",
    "Sent",
    "StorageFull",
    "StorageIOError",
    "StorageReadOnly",
    "Ticket",
    "UnsupportedFilesystem",
    "UnsupportedSQLite",
    "open",
]
