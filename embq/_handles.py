"""What C keeps for Python until it is given back: brokers, consumers, tickets, keys.

The calls themselves are made as `_native` makes them.
"""

import os
import time
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from embq import errors
from embq._native import (
    _BAD_MESSAGE,
    _BYTES,
    _NO_TEXT,
    DAMAGED,
    DETACHED,
    INTERRUPTED,
    NO_SCHEMA,
    NOT_YET,
    _buffer,
    _decode_messages,
    _fetch,
    _free,
    _lib,
    _new,
    _notices,
    _now,
    _report_damage,
    _run,
    _tell,
    error_text,
    failure,
    ping,
)
from embq.messages import Message

# Looked up once, as in _native.
_free_broker = _lib.embq_broker_free
_take = _now.embq_consumer_take
_ready = _now.embq_consumer_ready
_send_nowait = _now.embq_send_nowait


# ---- brokers ----


class Handle(msgspec.Struct, gc=False, eq=False):
    """A broker in C, freed when the last object that may pass it to C is gone.

    Not tracked by the garbage collector, on purpose: in a cycle of garbage this is then
    the last to go, after the consumers and tickets that use the handle when they end.
    """

    ref: int

    def __del__(self) -> None:
        _free_broker(self.ref)

    def __reduce__(self) -> NoReturn:
        # A second one would free it a second time, or in a process that has none.
        msg = "a handle of the core cannot be pickled or copied"
        raise TypeError(msg)

    __copy__ = __reduce__


def open_broker(
    path: bytes,
    flags: int,
    busy_timeout_ms: int,
    disk_reserve: int,
    migrate: Callable[[bytes, int], None],
) -> Handle:
    """Open a file, creating or upgrading its tables when they are not there."""
    out = _new("embq_ref *")
    arguments = (path, flags, busy_timeout_ms, disk_reserve, out)
    limit_s = busy_timeout_ms / 1000 if busy_timeout_ms >= 0 else float("inf")
    end = time.monotonic() + limit_s
    try:
        code = _repeat(_lib.embq_open, *arguments, end=end)
        if code == NO_SCHEMA:
            migrate(path, busy_timeout_ms)
            code = _repeat(_lib.embq_open, *arguments, end=end)
    except BaseException:
        if out[0]:  # a signal after C's return
            _free_broker(out[0])
        raise
    if code == NO_SCHEMA:
        msg = f"{os.fsdecode(path)!r} lost its tables while it was being opened"
        raise errors.Corrupt(msg)
    if code < 0:
        raise failure(code if code != INTERRUPTED else errors.Busy.number)
    return Handle(int(out[0]))


def _repeat(call: Callable[..., int], *args: Any, end: float = float("inf")) -> int:
    """Make one call that a signal ends, and which begins anew after its handler."""
    if _notices[0]:
        _tell()
    code = call(*args)
    while code == INTERRUPTED and time.monotonic() < end:
        code = call(*args)
    return code


def close_broker(broker: int) -> None:
    """Store what is staged; raise the first failure that nobody awaited."""
    _run(_lib.embq_close, broker)


# ---- tickets ----


def send_nowait(broker: int, channel: int, body: bytes, fields: bytes) -> int:
    """Stage one message; return a ticket. Keeps the GIL."""
    arguments = (broker, channel, body, len(body), fields, len(fields))
    ticket: int = _send_nowait(*arguments)
    while ticket == DETACHED:
        ping(broker, -1)
        ticket = _send_nowait(*arguments)
    if ticket < 0:
        raise failure(ticket)
    return ticket


def ticket_row(ticket: int) -> int | None:
    """Return the row of a staged send, or None while it is not stored."""
    row: int = _now.embq_ticket_result(ticket)
    if row < 0 and row != NOT_YET:
        raise failure(row)
    return None if row == NOT_YET else row


def ticket_wait(ticket: int, timeout: int) -> int | None:
    """Wait for a staged send; return its row, or None when the time is over."""
    end = time.monotonic() + timeout / 1000
    row = _lib.embq_ticket_wait(ticket, timeout)
    while row == INTERRUPTED:  # its handler has run: wait for the rest of the time
        left = (
            timeout if timeout < 0 else max(0, round((end - time.monotonic()) * 1000))
        )
        row = _lib.embq_ticket_wait(ticket, left)
    if row < 0 and row != NOT_YET:
        raise failure(row)
    return None if row == NOT_YET else row


ticket_free: Callable[[int], None] = _now.embq_ticket_free


# ---- prefetch ----


def consumer_open(broker: int, channel: int, prefetch: int, flags: int) -> int:
    """Open a consumer that claims ahead; prefetch 0 adapts to the handling time."""
    return _run(_lib.embq_consumer_open, broker, channel, prefetch, flags)


def consumer_next(broker: int, consumer: int, wait: int) -> list[Message[Any]]:
    """Wait for the next batch. What is not taken from it, the consumer gives back."""
    if _notices[0]:
        _tell()
    out = _new(_BYTES)
    try:
        # Asked for ahead, it is mostly there: then the GIL need not be given up.
        code = _ready(consumer, out)
        if not code:
            code = _run(_lib.embq_consumer_next, consumer, wait, out)
        messages = _decode_messages(_buffer(out.data, out.size)) if out.size else []
    except _NO_TEXT:
        while _take(consumer) > 0:
            pass  # not given back, see claim()
        raise errors.Corrupt(_BAD_MESSAGE) from None
    finally:
        _free(out)
    if code >= DAMAGED:
        _report_damage(broker)
    return messages


consumer_take: Callable[[int], int] = _take


def consumer_close(consumer: int) -> None:
    """Give back what was not taken, and forget the consumer."""
    try:
        _run(_lib.embq_consumer_close, consumer)
    finally:
        _lib.embq_consumer_free(consumer)


# ---- keys ----


class Begun:
    """A call of what is to be done once, from its beginning to its end.

    A signal handler may raise in any moment between the two. So what was begun is known
    by what C wrote, and not by what Python has seen of it.
    """

    __slots__ = ("_broker", "_names", "_out")

    def __init__(self, broker: int, names: bytes) -> None:
        self._broker, self._names = broker, names
        self._out = _new(_BYTES)

    @property
    def token(self) -> bytes:
        """The proof that it was begun; empty when it was not."""
        out = self._out
        return bytes(_buffer(out.data, out.size)) if out.count else b""

    def begin(self, wait: int) -> bytes | None:
        """Begin, or return what is stored; None: it began, or neither in `wait` ms."""
        names = self._names
        call = _lib.embq_result_begin
        _run(call, self._broker, names, len(names), wait, self._out)
        if self._out.count or not self._out.size:
            return None
        return bytes(_buffer(self._out.data, self._out.size))

    def end(self, result: bytes, ttl_ms: int) -> bytes:
        """Store the result; return what is stored now."""
        arguments = (self._names, len(self._names), self.token, result, len(result))
        call = _lib.embq_result_end
        try:
            ended, other = _fetch(call, self._broker, *arguments, ttl_ms)
        except errors.LeaseLost as error:
            hint = "it was called, and what came of it is not stored"
            raise errors.LeaseLost(error.what, hint) from None
        return result if ended else other

    def give_up(self) -> None:
        """Let another begin, if this has and did not end; it is done in the background.

        Never raises, as it is called for what did.
        """
        if not self._out.count:
            return
        names = self._names
        code = _now.embq_result_free(self._broker, names, len(names), self._out.data)
        if code < 0:
            import logging  # noqa: PLC0415

            text = "a key is kept from others until this process closes the file: %s"
            logging.getLogger("embq").error(text, error_text())

    def free(self) -> None:
        """Let go of the memory."""
        _free(self._out)
