"""`Settler`: what a message keeps of the queue that handed it out."""

import struct
import sys
import warnings
from datetime import timedelta
from typing import NoReturn

from embq import _handles, _native
from embq._codec import CODECS
from embq._options import Options
from embq._times import milliseconds
from embq.errors import InvalidArgument, LeaseExpiredWarning

# A receipt begins with the number of its run, which begins with the deadline: see
# "The file format" in ARCHITECTURE.md.
_read_run = struct.Struct("=q").unpack_from
_RUN_ID_BITS = 21
_REFUSED_MS = 1000  # the least wait of what does not fit and has nowhere to go


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
        "_options",
        "_owner",
        "_until_ms",
        "_warned",
        "codec",
        "decode",
        "name",
    )

    def __init__(
        self,
        owner: _handles.Handle,
        channel: int,
        name: str,
        options: Options,
        until_ms: int = 0,
    ) -> None:
        self._owner = owner  # keeps the handle valid
        self._handle = owner.ref
        self._channel = channel
        self._options = options
        self._until_ms = until_ms  # the deadline of a message that was extended
        self._warned: list[bool] = []  # shared with those of extended messages
        self.name = name
        self.codec = options.codec
        self.decode = CODECS[options.codec].decode

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

    def refuse(self, receipt: bytes, error: str) -> bool:
        """Let go of what does not fit; tell whether it is a dead letter now.

        Where there are none it waits, by the retry policy but at least a second.
        """
        note = _note(error, "error")
        return self._settle(_native.REFUSE, receipt, _REFUSED_MS, note) > 0

    def extend(self, receipt: bytes, seconds: float | timedelta) -> "Settler":
        """Move the deadline of a message; return what it is to keep instead of this."""
        more_ms = milliseconds(seconds, "seconds")
        self._settle(_native.EXTEND, receipt, more_ms)
        until_ms = _native.boot_ms() + more_ms
        other = Settler(self._owner, self._channel, self.name, self._options, until_ms)
        other._warned = self._warned
        return other

    def _settle(
        self, verb: int, receipts: bytes, delay_ms: int = -1, note: bytes = b""
    ) -> int:
        count = _native.settle(
            self._handle, self._channel, verb, receipts, delay_ms, note
        )
        # Here each ack of each message passes: no call more than must be.
        run = _read_run(receipts)[0]
        if self._until_ms or (run and _native.boot_ms() >= run >> _RUN_ID_BITS):
            self.look(receipts)
        return count

    def look(self, receipt: bytes) -> None:
        """Warn, once for each queue, when the lease of this receipt is over.

        Nothing is said of the lease of a retry, of what was sent with a delay, or in a
        queue that is ordered by key: such a receipt does not begin with it.
        """
        until_ms = self._until_ms or (_read_run(receipt)[0] >> _RUN_ID_BITS) - 1
        late_ms = _native.boot_ms() - until_ms
        if until_ms < 0 or late_ms <= 0 or self._warned:
            return
        self._warned.append(True)
        hold_ms = self._options.visibility_timeout_ms
        how = f"{late_ms / 1000} s, though it was extended"
        if not self._until_ms:
            how = f"{late_ms / 1000} s: held for {(hold_ms + late_ms) / 1000} s"
        warnings.warn(
            f"queue {self.name!r}: a message outlived its lease by {how} "
            f"(visibility_timeout {hold_ms / 1000} s), so that another could "
            "have received it meanwhile; extend() it in time, or raise the timeout",
            LeaseExpiredWarning,
            stacklevel=_level(),
        )


def _level() -> int:
    """Count the calls from `look` up to the first that is not embq's."""
    level, frame = 1, sys._getframe(1)  # noqa: SLF001
    while frame.f_back and frame.f_globals["__name__"].startswith("embq."):
        level, frame = level + 1, frame.f_back
    return level


def _note(value: str | None, what: str) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, str):
        msg = f"{what}: {type(value).__name__} is not a str"
        raise InvalidArgument(msg)
    # A lone surrogate, from a file name in an exception's text, is no reason to fail.
    return value.encode(errors="backslashreplace")
