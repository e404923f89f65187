"""`Administration`: what is done to a queue as a whole; part of `Queue`."""

from datetime import datetime
from typing import Any

from embq import _native
from embq._codec import encode_text
from embq._options import Options
from embq._times import TIME_MAX_MS, epoch_ms


class Administration:
    """The verbs of `Queue` that are about no single delivery."""

    name: str
    options: Options
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
