"""`Administration`: what is done to a queue as a whole; part of `Queue`."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from embq import _native
from embq._codec import encode_text
from embq._options import Options, encode_name
from embq._redrive import Redrive, conditions_of, rate_of
from embq._times import TIME_MAX_MS, epoch_ms

if TYPE_CHECKING:
    from embq import _handles


class Administration:
    """The verbs of `Queue` that are about no single delivery."""

    name: str
    options: Options
    _owner: "_handles.Handle"
    _handle: int
    _channel: int

    def configure(self, **options: Any) -> None:
        """Change options of the queue, for every process.

        What is in the queue keeps the delay and the ttl that it was sent with; all else
        holds from the next call on, in every process.

        Args:
            options: Any of those of `broker.queue()` but `codec` and `ordered`, which
                stay what they are.

        Raises:
            InvalidArgument: An option makes no sense, or cannot be changed.
            NotFound: The queue is gone.
        """
        while True:
            name = self.name.encode()
            _, packed = _native.declare(self._handle, name, b"")
            wanted = Options.decode(packed).changed(self.name, options)
            changed = wanted.encode()
            if _native.configure(self._handle, self._channel, packed, changed):
                self.options = wanted
                return  # else another process changed them meanwhile: once more

    def pause(self, until: datetime | None = None) -> None:
        """Hand out nothing, in any process; sends and settling go on.

        Args:
            until: An aware datetime. Default: until `resume()`.

        Raises:
            InvalidArgument: It is no aware datetime.
        """
        until_ms = TIME_MAX_MS if until is None else epoch_ms(until, "until")
        _native.pause(self._handle, self._channel, min(until_ms, TIME_MAX_MS))

    def resume(self) -> None:
        """Hand out messages again; who waits for some is woken."""
        _native.pause(self._handle, self._channel, 0)

    def purge(self) -> int:
        """Remove all messages that nobody holds (RabbitMQ: queue.purge).

        What is in flight stays with its holder. It is done in steps, so that nobody
        waits long for the file; a process that is killed meanwhile leaves the rest.

        Returns:
            How many were removed.
        """
        return _native.purge(self._handle, self._channel)

    def cancel(self, id: str) -> bool:  # noqa: A002
        """Remove a message that nobody holds: a delayed one, say.

        Args:
            id: Of the message, as `send` returned it.

        Returns:
            False when it is in flight, and so stays with its holder.

        Raises:
            NotFound: There is no such message in this queue, or not any more.
        """
        message = encode_text(id, "id")
        return _native.cancel(self._handle, self._channel, message)

    def redrive(
        self,
        to: str | None = None,
        where: Mapping[str, Any] | None = None,
        rate: float | None = None,
    ) -> Redrive:
        """Move dead letters back to where they died (SQS: StartMessageMoveTask).

        The task is stored and done in the background, by this process or, when that is
        gone, by another one that has the file open, now or later. It goes once through
        what is in the queue at the call, in the order of sending for each priority;
        what is in flight when its turn comes stays. Moved messages are ready at once,
        with their id, priority, fields and history; they have `max_receives` tries
        again, and the `ttl` of the queue that they go to begins anew.

        Args:
            to: The queue where they go. Default: each one to the queue of its newest
                history entry that is not this queue.
            where: Move only what has these values: "reason" and "queue" (both of the
                newest history entry), "type", "source", "key". A list means any of its
                values; None means that there is none. Default: all.
            rate: Messages a second at the most, 0.001 to 1,000,000. Default: no limit.

        Returns:
            A handle to ask or to wait for the outcome. While a task with the same
            arguments is under way, that one's.

        Raises:
            InvalidArgument: `to` is this queue, `where` names what there is not, or
                `rate` is no such number.
            NotFound: There is no queue `to`.
            RedriveUnderWay: A task with other arguments is under way.
        """
        target = b"" if to is None else encode_name(to, "to")
        conditions, limit = conditions_of(where), rate_of(rate)
        token = _native.redrive(self._handle, self._channel, target, conditions, limit)
        return Redrive(self._owner, self._channel, token)
