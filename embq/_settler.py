"""`Settler`: what a message keeps of the queue that handed it out."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

from embq import _handles, _native
from embq._times import milliseconds
from embq.errors import InvalidArgument


class Settler:
    """Decode and settle the messages of one queue, for the verbs of `Message`.

    Attributes:
        name: The queue's name.
        decode: Turn a body into data, by the queue's codec.
    """

    __slots__ = ("_channel", "_handle", "_owner", "decode", "name")

    def __init__(
        self,
        owner: _handles.Handle,
        channel: int,
        name: str,
        decode: Callable[[bytes], Any],
    ) -> None:
        self._owner = owner  # keeps the handle valid
        self._handle = owner.ref
        self._channel = channel
        self.name = name
        self.decode = decode

    def __reduce__(self) -> NoReturn:
        msg = "a received message cannot be pickled: pass on message.to_dict()"
        raise TypeError(msg)

    def ack(self, receipts: bytes) -> int:
        """Remove messages by their receipts, one after the other; return how many."""
        return self._settle(_native.ACK, receipts)

    def ack_nowait(self, receipt: bytes) -> None:
        """Stage an ack."""
        _native.ack_nowait(self._handle, self._channel, receipt)

    def nack(
        self, receipt: bytes, delay: float | timedelta | None, error: str | None
    ) -> None:
        """Let a message wait: by the retry policy, or for `delay` seconds."""
        delay_ms = -1 if delay is None else milliseconds(delay, "delay")
        self._settle(_native.NACK, receipt, delay_ms, _note(error, "error"))

    def reject(self, receipt: bytes, reason: str) -> None:
        """Make a message a dead letter."""
        self._settle(_native.REJECT, receipt, -1, _note(reason, "reason"))

    def extend(self, receipt: bytes, seconds: float | timedelta) -> None:
        """Move the deadline of a message."""
        more_ms = milliseconds(seconds, "seconds")
        self._settle(_native.EXTEND, receipt, more_ms)

    def _settle(
        self, verb: int, receipts: bytes, delay_ms: int = -1, note: bytes = b""
    ) -> int:
        return _native.settle(
            self._handle, self._channel, verb, receipts, delay_ms, note
        )


def _note(value: str | None, what: str) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, str):
        msg = f"{what}: {type(value).__name__} is not a str"
        raise InvalidArgument(msg)
    # A lone surrogate, from a file name in an exception's text, is no reason to fail.
    return value.encode(errors="backslashreplace")
