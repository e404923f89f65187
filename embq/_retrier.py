"""`Retrier`: sends of a queue that are made again until they are stored, once.

What was not confirmed may be stored all the same. So each message has a dedup id, and
each try says since when it may be stored: the core takes it only while the queue still
knows the dedup ids of that time, whatever another process has configured meanwhile.

Between the tries lies an exponential pause with full jitter: what failed together does
not come back together (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture
Blog, 2015).

- After an fsync that failed, full sends are refused until the WAL has started over. The
  engine sees to that, mostly within a millisecond, and the try waits for it. To open
  the file anew would prove nothing: the next fsync succeeds, and says nothing about
  what the kernel has given up.
- After a write that failed the engine goes no further, so that the try opens the file
  anew, for itself. The broker stays as it is.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from time import monotonic, sleep
from typing import Any, TypeVar
from uuid import uuid4

from msgspec import structs

from embq import _handles, _native
from embq._codec import pack
from embq._envelope import Envelope
from embq._file import File
from embq._options import count
from embq._outgoing import Outgoing
from embq._ticket import Sent
from embq._times import limit_ms
from embq.errors import (
    Busy,
    CommitUncertain,
    DatabaseReplaced,
    Error,
    StorageIOError,
)

R = TypeVar("R")

_FIRST_S, _FACTOR, _CAP_S = 0.05, 2.0, 2.0
_LOOK_S = 0.005  # between looks at a WAL that starts over
#: What is worth another try. The last is also what is refused after an fsync failed.
_AGAIN = (Busy, CommitUncertain, StorageIOError)
# The first byte of the fields, an array: with a dedup id; with the first try as well.
_WITH_DEDUP, _WITH_TRIED = b"\x99", b"\x9a"


def new_id() -> str:
    """Return a dedup id that nobody else has."""
    return uuid4().hex


def is_wanted(retries: int) -> bool:
    """Tell whether a call has something to do here, if only to refuse what is given."""
    return retries != 0 or retries is False


class Retrier:
    """Send to one queue, with retries.

    Args:
        file: The broker's.
        owner: The broker's handle.
        channel: The queue, for C.
        envelope: The queue's.
    """

    def __init__(
        self, file: File, owner: _handles.Handle, channel: int, envelope: Envelope
    ) -> None:
        self._file = file
        self._owner = owner
        self._channel = channel
        self._envelope = envelope

    def send(
        self,
        body: bytes,
        fields: bytes,
        timeout: float | timedelta | None,
        retries: int,
        *,
        made: bool,
    ) -> Sent:
        """Store one message.

        Args:
            body: As C takes it.
            fields: As C takes them, with a dedup id.
            timeout: Seconds for each try; None: the broker's busy timeout.
            retries: How many tries may follow the first.
            made: The dedup id is ours: then what it finds is this very message.
        """

        def send(handle: int, tried_ms: int, wait: int) -> int:
            stamped = _stamp(fields, tried_ms)
            return _native.send(handle, self._channel, body, stamped, wait)

        row = self._until_stored(send, timeout, retries)
        return self._sent(row, made=made)

    def send_many(
        self,
        items: Iterable[Any],
        timeout: float | timedelta | None,
        retries: int,
    ) -> list[Sent]:
        """Store all of these, data or `Outgoing`, or none; see `send`."""
        made: list[bool] = []
        pairs: list[tuple[bytes, bytes]] = []
        for item in items:
            outgoing = item if isinstance(item, Outgoing) else Outgoing(item)
            made.append(outgoing.dedup_id is None)
            if made[-1]:
                outgoing = structs.replace(outgoing, dedup_id=new_id())
            pairs.append(self._envelope.item(outgoing))

        def send(handle: int, tried_ms: int, wait: int) -> Sequence[int]:
            packed = pack([(body, _stamp(fields, tried_ms)) for body, fields in pairs])
            return _native.send_many(handle, self._channel, packed, len(pairs), wait)

        rows = self._until_stored(send, timeout, retries) if pairs else []
        both = zip(rows, made, strict=True)
        return [self._sent(row, made=ours) for row, ours in both]

    def _sent(self, row: int, *, made: bool) -> Sent:
        row = row & ~_native.DUPLICATE if made else row
        return Sent.of(row, f"{_native.file_id(self._owner.ref):016x}")

    def _until_stored(
        self,
        attempt: Callable[[int, int, int], R],
        timeout: float | timedelta | None,
        retries: int,
    ) -> R:
        """Try until it is stored, or the error is none to try again with.

        Once it is uncertain whether it is stored, it stays so whatever later tries say.
        """
        left = count(retries, "retries", 0)
        wait = -1 if timeout is None else limit_ms(timeout)
        pause, tried_ms = _FIRST_S, 0
        uncertain: CommitUncertain | None = None
        while True:
            now_ms = max(1, _native.boot_ms())
            try:
                handle, rest = self._usable(wait)
                return attempt(handle.ref, tried_ms, rest)
            except Error as error:
                if isinstance(error, CommitUncertain):
                    uncertain, tried_ms = error, tried_ms or now_ms
                if not left or not isinstance(error, _AGAIN):
                    if uncertain is None or error is uncertain:
                        raise
                    raise uncertain from error
            left -= 1
            sleep(random.uniform(0, pause))  # noqa: S311  (no secret)
            pause = min(_CAP_S, pause * _FACTOR)

    def _usable(self, wait: int) -> tuple[_handles.Handle, int]:
        """Return a handle that takes sends, and what is left of the wait for it."""
        refused = _native.refuses(self._owner.ref)
        if refused == CommitUncertain.number:
            return self._reopened(wait), wait
        if refused != StorageIOError.number:
            return self._owner, wait  # what else there is the call itself tells
        limit_s = self._file.wait_ms(None if wait < 0 else wait / 1000) / 1000
        end = monotonic() + limit_s
        while _native.refuses(self._owner.ref) == refused and monotonic() < end:
            sleep(_LOOK_S)
        return self._owner, max(0, round((end - monotonic()) * 1000))

    def _reopened(self, wait: int) -> _handles.Handle:
        limit_ms = self._file.wait_ms(None if wait < 0 else wait / 1000)
        handle = self._file.open_again(limit_ms)
        if _native.file_id(handle.ref) != _native.file_id(self._owner.ref):
            msg = f"{self._file.path!r}: another file is there now"
            raise DatabaseReplaced(msg)
        return handle


def _stamp(fields: bytes, tried_ms: int) -> bytes:
    """Say since when this message may be stored; 0: not yet."""
    return _WITH_TRIED + fields.removeprefix(_WITH_DEDUP) + pack(tried_ms)
