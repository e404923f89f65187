"""`Settler`: what a message keeps of the queue that handed it out."""

import struct
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

from embq import _native
from embq._options import Options
from embq.errors import InvalidArgument, LeaseExpiredWarning

# A receipt begins with the number of its run, which begins with the deadline: see
# "The file format" in ARCHITECTURE.md.
_read_run = struct.Struct("=q").unpack_from
_RUN_ID_BITS = 21


class Settler:
    """Decode and settle the messages of one queue, for the verbs of `Message`.

    Attributes:
        name: The queue's name.
        codec: The name of its codec.
        decode: Turn a body into data, by that codec.
    """

    __slots__ = (
        "_channel",
        "_handle",
        "_has_warned",
        "_hold_ms",
        "_owner",
        "codec",
        "decode",
        "name",
    )

    def __init__(
        self,
        owner: _native.Handle,
        channel: int,
        name: str,
        options: Options,
        decode: Callable[[bytes], Any],
    ) -> None:
        self._owner = owner  # keeps the handle valid
        self._handle = owner.ref
        self._channel = channel
        self._hold_ms = options.visibility_timeout_ms
        self._has_warned = False
        self.name = name
        self.codec = options.codec
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
        delay_ms = -1 if delay is None else _native.milliseconds(delay, "delay")
        self._settle(_native.NACK, receipt, delay_ms, _note(error, "error"))

    def reject(self, receipt: bytes, reason: str) -> None:
        """Make a message a dead letter."""
        self._settle(_native.REJECT, receipt, -1, _note(reason, "reason"))

    def extend(self, receipt: bytes, seconds: float | timedelta) -> int:
        """Move the deadline of a message; return it, in ms since boot."""
        more_ms = _native.milliseconds(seconds, "seconds")
        self._settle(_native.EXTEND, receipt, more_ms)
        return _native.boot_ms() + more_ms

    def look(self, receipt: bytes, until_ms: int) -> None:
        """Warn, once for each queue, when a lease was over before its message settled.

        Args:
            receipt: Its receipt, which says when, unless it is of a retry.
            until_ms: The deadline, in ms since boot; 0: what the receipt says.
        """
        extended = until_ms > 0
        if not extended:
            until_ms = (_read_run(receipt)[0] >> _RUN_ID_BITS) - 1
        late_ms = _native.boot_ms() - until_ms
        if late_ms < 0 or until_ms < 0 or self._has_warned:
            return
        self._has_warned = True
        how = f"{late_ms / 1000} s, though it was extended"
        if not extended:
            how = f"{late_ms / 1000} s: held for {(self._hold_ms + late_ms) / 1000} s"
        warnings.warn(
            f"queue {self.name!r}: a message outlived its lease by {how} "
            f"(visibility_timeout {self._hold_ms / 1000} s), so that another could "
            "have received it meanwhile; extend() it in time, or raise the timeout",
            LeaseExpiredWarning,
            stacklevel=4,
        )

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
