"""`Sieve`: the receiving side of a queue with a `View`.

What fits is decoded before it is handed out. What does not fit never reaches a handler,
and the call goes on to the next message:

- It goes to the dead-letter queue at once, with the reason "schema", where `redrive`
  finds it after the consumers were upgraded or the sender mended.
- Without a dead-letter queue it waits as after a `nack`, by the retry policy but at
  least a second: removing it would lose what a newer consumer can read, and without a
  wait the call would meet it again for ever.
- Which of the two, the core decides under the write lock: what the options were when
  this process opened the queue says nothing about now.
- With `auto_ack` it was removed when it was claimed, and so is lost.

Each is logged, without payload.
"""

import contextlib
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from embq import _handles, _native
from embq._settler import Settler
from embq._view import Form, Misfit
from embq.errors import Error, LeaseLost
from embq.messages import Message


class Patience:
    """How long a call that passes over messages may still wait.

    Args:
        wait_ms: Milliseconds from the first `left()` after a `renew()`; 0: no wait; -1:
            for ever.
    """

    def __init__(self, wait_ms: int) -> None:
        self._wait_ms = wait_ms
        self._end: float | None = None

    def renew(self) -> None:
        """Begin anew: something was handed out."""
        self._end = None

    def left(self) -> int | None:
        """Return the milliseconds to wait with, or None when the time is over."""
        if self._wait_ms <= 0:
            return self._wait_ms
        now = monotonic()
        if self._end is None:
            self._end = now + self._wait_ms / 1000
            return self._wait_ms
        left = round((self._end - now) * 1000)
        return left if left > 0 else None


class Sieve:
    """Claim messages of one queue, keep what fits, settle what does not.

    Args:
        owner: The broker's handle.
        channel: The queue, for C.
        settler: The queue's.
        form: What fits.
    """

    def __init__(
        self,
        owner: _handles.Handle,
        channel: int,
        settler: Settler,
        form: Form,
    ) -> None:
        self._owner = owner  # keeps the handle valid
        self._handle = owner.ref
        self._channel = channel
        self._settler = settler
        self._form = form

    def claim(self, limit: int, wait_ms: int, flags: int) -> list[Message[Any]]:
        """Claim up to `limit` that fit, waiting `wait_ms` (-1: for ever) for the first.

        Without a wait it goes on until it has found one or there is none.
        """
        patience = Patience(wait_ms)
        fitting: list[Message[Any]] = []
        while not fitting and (left := patience.left()) is not None:
            found = _native.claim(self._handle, self._channel, limit, left, flags)
            if not found:
                break
            try:
                fitting = [message for message in found if self.fits(message, flags)]
            except BaseException:
                if not flags & _native.AUTO_ACK:
                    # Nobody sees them; what is settled already does not mind.
                    _native.give_back(self._handle, self._channel, found)
                raise
        return fitting

    def fits(self, message: Message[Any], flags: int) -> bool:
        """Decode a message; settle it and return False when it does not fit."""
        form = self._form
        try:
            version = message.version if form.version else None
            data = form.read(message.body, version)
        except (Misfit, Error) as error:  # an Error: the fields are damaged
            self._pass_over(message, str(error), flags)
            return False
        message._data = data  # noqa: SLF001
        if form.version is not None and version != form.version:
            message._extras().version = form.version  # noqa: SLF001
        return True

    def loop(
        self, flags: int
    ) -> tuple[
        Callable[[Message[Any]], bool], Callable[[int, int], list[Message[Any]]]
    ]:
        """Return `fits` and `consumer_next` for one loop, which keep to its wait."""
        patience: Patience | None = None
        next_batch = partial(_handles.consumer_next, self._handle)

        def fits(message: Message[Any]) -> bool:
            fitting = self.fits(message, flags)
            if fitting and patience:
                patience.renew()
            return fitting

        def more(consumer: int, wait_ms: int) -> list[Message[Any]]:
            nonlocal patience
            patience = patience or Patience(wait_ms)
            left = patience.left()
            return [] if left is None else next_batch(consumer, left)

        return fits, more

    def _pass_over(self, message: Message[Any], why: str, flags: int) -> None:
        note = f"schema: {why}"
        receipt = message._receipt  # noqa: SLF001
        where = "its lease is over: the next one who receives it will judge it"
        with contextlib.suppress(LeaseLost):
            if flags & _native.AUTO_ACK:
                where = "it was removed by auto_ack, and is lost"
            elif self._settler.refuse(receipt, note):
                where = "it is a dead letter now"
            else:
                where = "without a dead-letter queue it waits for its next receive"
        import logging  # noqa: PLC0415

        logging.getLogger("embq").warning(
            "queue %r: message %s does not fit (%s); %s",
            self._settler.name,
            message.id,
            note,
            where,
        )
