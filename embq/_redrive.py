"""`Redrive`: what moves messages from a dead-letter queue back."""

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NoReturn

import msgspec

from embq import _handles, _native, errors
from embq._times import limit_ms

_FIELDS = ("reason", "queue", "type", "source", "key")
_RATE_LEAST, _RATE_MOST = 0.001, 1_000_000
_LOOK_FIRST_S, _LOOK_LAST_S = 0.001, 0.05  # between two looks of who waits


class Redrive:
    """A redrive that is stored in the file. Made by `queue.redrive()`.

    It goes on whether this object is there or not.
    """

    def __init__(self, owner: _handles.Handle, channel: int, token: int) -> None:
        self._owner = owner  # keeps the handle valid
        self._channel = channel
        self._token = token
        self._seen = (0, 0, False)

    def __reduce__(self) -> NoReturn:
        msg = (
            "a redrive cannot be pickled: open the file over there, and call redrive() "
            "with the same arguments, which returns the one under way"
        )
        raise TypeError(msg)

    def __repr__(self) -> str:
        moved, skipped, done = self._look()
        return f"<Redrive moved={moved} skipped={skipped} done={done}>"

    @property
    def moved(self) -> int:
        """How many messages were moved so far."""
        return self._look()[0]

    @property
    def skipped(self) -> int:
        """How many of those wanted had to stay: no queue to go to, another codec."""
        return self._look()[1]

    @property
    def done(self) -> bool:
        """Whether it is over: finished or cancelled."""
        return self._look()[2]

    def wait(self, timeout: float | timedelta | None = None) -> int:
        """Wait until it is over.

        Args:
            timeout: Seconds. Default: for ever.

        Returns:
            How many messages were moved.

        Raises:
            Busy: It is not over in time; it goes on.
            Closed: The broker was closed meanwhile; it goes on once the file is open.
        """
        limit = None if timeout is None else limit_ms(timeout) / 1000
        end = None if limit is None else time.monotonic() + limit
        pause = _LOOK_FIRST_S
        while not self.done:
            if end is not None and time.monotonic() >= end:
                msg = f"the redrive is not over after {limit} s"
                raise errors.Busy(msg, "it goes on; wait again")
            time.sleep(pause)
            pause = min(pause * 2, _LOOK_LAST_S)
        return self._seen[0]

    def cancel(self) -> bool:
        """End it where it is; what was moved stays moved.

        Returns:
            False when it was over already.
        """
        return _native.redrive_cancel(self._owner.ref, self._channel, self._token)

    def _look(self) -> tuple[int, int, bool]:
        if not self._seen[2]:
            found = _native.redrive_look(self._owner.ref, self._channel)
            if found[:1] == [self._token]:
                _, moved, skipped, over = found
                self._seen = (moved, skipped, over != 0)
            else:  # it is over: a later one has taken its place, or the queue is gone
                self._seen = (*self._seen[:2], True)
        return self._seen


def conditions_of(where: Mapping[str, Any] | None) -> bytes:
    """Write `where` as the core takes it: the same for the same conditions."""
    if where is None:
        return b"{}"
    if not isinstance(where, Mapping):
        msg = f"where: {type(where).__name__} is no mapping"
        raise errors.InvalidArgument(msg)
    unknown = [name for name in where if name not in _FIELDS]
    if unknown:
        msg = f"where: {unknown[0]!r} is none of {', '.join(_FIELDS)}"
        raise errors.InvalidArgument(msg)
    wanted = {name: _values(name, where[name]) for name in _FIELDS if name in where}
    try:
        return msgspec.json.encode(wanted)
    except UnicodeEncodeError:
        msg = "where: a value is no text"
        raise errors.InvalidArgument(msg) from None


def _values(name: str, value: Any) -> list[str | None]:
    values = value if isinstance(value, list | tuple | set | frozenset) else [value]
    for one in values:
        if one is not None and not isinstance(one, str):
            msg = f"where: {name} is a str, None, or a list of them"
            raise errors.InvalidArgument(msg)
    return sorted(set(values), key=lambda one: (one is not None, one or ""))


def rate_of(rate: float | None) -> float:
    """Check a rate; 0 is no limit."""
    if rate is None:
        return 0.0
    good = isinstance(rate, int | float) and not isinstance(rate, bool)
    if not good or not _RATE_LEAST <= rate <= _RATE_MOST:
        msg = f"rate: {rate!r} is no number from {_RATE_LEAST} to {_RATE_MOST:,}"
        raise errors.InvalidArgument(msg)
    return float(rate)
