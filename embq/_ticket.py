"""`Sent`, the outcome of a send, and `Ticket`, which has it now or later."""

import contextlib
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from queue import SimpleQueue
from typing import Any, NoReturn, Self

import msgspec

from embq import _handles, _native
from embq._times import wait_ms
from embq.errors import Busy, Error


class Sent(msgspec.Struct, eq=False, gc=False):
    """What became of a send: it is stored.

    Attributes:
        duplicate: Whether an earlier message was found instead of storing this one.
    """

    _id: str | int  # the row until `id` is asked for: most senders never do
    duplicate: bool = False
    _file: str = ""

    @classmethod
    def of(cls, row: int, file: str) -> Self:
        """Tell what C returned."""
        if row < _native.DUPLICATE:
            return cls(row, False, file)  # noqa: FBT003
        return cls(row - _native.DUPLICATE, True, file)  # noqa: FBT003

    @property
    def id(self) -> str:
        """The message's public id, the same that its receiver sees."""
        if isinstance(self._id, int):
            self._id = f"{self._file}{self._id:016x}"
        return self._id

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sent):
            return NotImplemented
        return (self.id, self.duplicate) == (other.id, other.duplicate)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"Sent(id={self.id!r}, duplicate={self.duplicate})"


class Ticket:
    """The outcome of a staged message. May be asked from any thread."""

    __slots__ = ("__weakref__", "_file", "_owner", "_sent", "_ticket")

    def __init__(self, ticket: int, file: str, owner: object) -> None:
        self._ticket = ticket
        self._file = file
        self._owner = owner  # the broker's handle: it must outlive the ticket
        self._sent: Sent | None = None

    def result(self, timeout: float | timedelta | None = None) -> Sent:
        """Wait until the message is stored.

        Args:
            timeout: Seconds. None: for ever.

        Returns:
            What `send` would have returned.

        Raises:
            Busy: Not stored in time; it stays staged, so ask again.
            Error: It could not be stored, for any reason that `send` names.
        """
        if self._sent is None:
            row = _handles.ticket_wait(self._ticket, wait_ms(timeout, "timeout"))
            if row is None:
                hint = "it stays staged: wait for it again"
                msg = "the message was not stored in time"
                raise Busy(msg, hint)
            self._sent = Sent.of(row, self._file)
        return self._sent

    def done(self) -> bool:
        """Tell whether the outcome is known, good or bad. Never waits."""
        if self._sent is not None:
            return True
        try:
            row = _handles.ticket_row(self._ticket)
        except Error:
            return True
        if row is None:
            return False
        self._sent = Sent.of(row, self._file)
        return True

    def add_done_callback(self, fn: "Callable[[Ticket], Any]") -> None:
        """Call `fn(ticket)` once the outcome is known, in a thread of embq's.

        Callbacks run in the order of this call, one at a time: keep them short. What
        they raise is logged.
        """
        _notifier().put((self, fn))

    def __del__(self) -> None:
        _handles.ticket_free(self._ticket)

    def __reduce__(self) -> NoReturn:
        msg = "a ticket cannot be pickled: pass on ticket.result(), or its id"
        raise TypeError(msg)

    def __repr__(self) -> str:
        return f"<Ticket of {self._sent!r}>" if self._sent else "<Ticket>"


_Work = SimpleQueue[tuple[Ticket, Callable[[Ticket], Any]]]
_lock = threading.RLock()  # a signal handler may come in again
_work: _Work | None = None


def _notifier() -> _Work:
    """Return the inbox of the one thread that calls back; it starts when needed."""
    global _work  # noqa: PLW0603
    with _lock:
        if _work is None:
            _work = SimpleQueue()
            thread = threading.Thread(
                target=_notify, args=(_work,), name="embq-callbacks", daemon=True
            )
            thread.start()
        return _work


def _notify(work: _Work) -> None:
    """Wait for the tickets in turn: they are stored in the order of staging."""
    while True:
        ticket, callback = work.get()
        with contextlib.suppress(Error):  # the callback sees it through result()
            _handles.ticket_wait(ticket._ticket, -1)  # noqa: SLF001
        try:
            callback(ticket)
        except Exception:
            import logging  # noqa: PLC0415

            logging.getLogger("embq").exception("a callback of a ticket failed")
        del ticket, callback


def _forget() -> None:
    """Start anew in a forked child, which has none of its parent's threads."""
    global _lock, _work
    _lock, _work = threading.RLock(), None


os.register_at_fork(after_in_child=_forget)
