"""`Queue`: sending, receiving and settling."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn

from embq import _handles, _native
from embq._codec import CODECS, encode_fields, pack
from embq._options import Options, count
from embq._settler import Settler
from embq._sieve import Sieve
from embq._ticket import Sent, Ticket
from embq._view import Form, View
from embq.messages import Message, Outgoing, T

if TYPE_CHECKING:
    from embq.broker import Broker


_Claim = Callable[[int, int, int], list[Message[T]]]
_More = Callable[[int, int], list[Message[T]]]
_NO_FIELDS = (None,) * 7


class Queue(Generic[T]):
    """A queue of a file. Made by `broker.queue(name)`; safe to share between threads.

    Opened with a `schema`, it sends and receives what fits that, a `T`, and nothing
    else. What does not fit is refused by the sending calls. The receiving calls pass it
    over and go on to the next message; it becomes a dead letter at once, with an error
    that begins with "schema: ". Where there is no dead-letter queue it waits for its
    next receive as after a `nack`, at least a second; under `auto_ack` it is lost. Each
    one is logged. It makes no wait longer.

    Attributes:
        name: Its name in the file.
        options: What the file says about it.
    """

    def __init__(
        self,
        broker: "Broker",
        handle: _handles.Handle,
        channel: int,
        name: str,
        options: Options,
        view: View | None = None,
    ) -> None:
        self.name = name
        self.options = options
        self._broker = broker
        self._owner = handle  # keeps what follows valid
        self._handle = handle.ref
        self._channel = channel
        self._file = f"{_native.file_id(handle.ref):016x}"
        self._encode = CODECS[options.codec].encode
        self._settler = Settler(handle, channel, name, options)
        self._claim: _Claim[T] = partial(_native.claim, handle.ref, channel)
        self._form: Form | None = None
        self._sieve: Sieve | None = None
        if view is not None:
            self._form = Form(view, options.codec)
            self._encode = self._form.encode
            self._sieve = Sieve(handle, channel, self._settler, self._form, options)
            self._claim = self._sieve.claim
        # What a send without fields carries: the broker's source, packed once.
        self._source = broker.source
        self._bare = self._pack_fields(*_NO_FIELDS)

    def __repr__(self) -> str:
        return f"<Queue {self.name!r} of {self._broker!r}>"

    def __reduce__(self) -> NoReturn:
        msg = "a queue cannot be pickled: open it by path and name in the other process"
        raise TypeError(msg)

    # ---- sending ----

    def send(
        self,
        data: T,
        *,
        type: str | None = None,  # noqa: A002
        source: str | None = None,
        key: str | None = None,
        headers: Mapping[str, Any] | None = None,
        version: int | str | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        timeout: float | timedelta | None = None,
    ) -> Sent:
        """Send one message, and return when it is stored.

        Stored means what the broker's `durability` says: on disk ("full"), or safe from
        a killed process ("normal").

        Args:
            data: What the queue's codec can encode.
            type: What happened, e.g. "order.paid" (CloudEvents).
            source: Where it happened (CloudEvents). Default: the broker's `source`.
            key: What it is about.
            headers: Anything that JSON can hold, by name (AMQP).
            version: The version of the data's form. Default: that of the queue, if any.
            correlation_id: What this message answers or belongs to (AMQP).
            reply_to: Where an answer is wanted (AMQP).
            timeout: Seconds. Default: the broker's `busy_timeout`.

        Returns:
            The id, equal to the one that the receiver sees.

        Raises:
            BodyError: The codec cannot encode the data, or it does not fit the schema.
            MessageTooLarge: Body and fields exceed the queue's `max_body`.
            Busy: Not stored in time.
            CommitUncertain: It may be stored: the time was over while it was.
            StorageFull: The disk is full, or nearly.
        """
        body = self._encode(data)
        fields = self._fields(
            type, source, key, headers, version, correlation_id, reply_to
        )
        wait = -1 if timeout is None else _native.limit_ms(timeout)
        row = _native.send(self._handle, self._channel, body, fields, wait)
        return Sent(row, False, self._file)  # noqa: FBT003

    def send_many(
        self,
        items: Iterable[T | Outgoing[T]],
        *,
        timeout: float | timedelta | None = None,
    ) -> list[Sent]:
        """Send all of these messages or none, in order and without a gap.

        Args:
            items: Data, or `embq.Outgoing(data, ...)` where there is more to say.
            timeout: Seconds. Default: the broker's `busy_timeout`.

        Returns:
            One for each item, in order.

        Raises:
            BodyError, MessageTooLarge, Busy, CommitUncertain, StorageFull: See `send`.
        """
        encode, bare = self._encode, self._bare
        packed = [
            self._pack(item)
            if isinstance(item, Outgoing)
            else ([encode(item), bare] if bare else encode(item))
            for item in items
        ]
        if not packed:
            return []
        wait = -1 if timeout is None else _native.limit_ms(timeout)
        first = _native.send_many(self._handle, self._channel, pack(packed), wait)
        file = self._file
        return [Sent(row, False, file) for row in range(first, first + len(packed))]  # noqa: FBT003

    def send_nowait(
        self,
        data: T,
        *,
        type: str | None = None,  # noqa: A002
        source: str | None = None,
        key: str | None = None,
        headers: Mapping[str, Any] | None = None,
        version: int | str | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
    ) -> Ticket:
        """Stage one message and return at once; it is stored in the background.

        Args:
            data: What the queue's codec can encode; copied before this returns.
            type: See `send`, as for all that follow.
            source: Default: the broker's `source`.
            key: What it is about.
            headers: By name.
            version: Of the data's form.
            correlation_id: What this answers.
            reply_to: Where an answer is wanted.

        Returns:
            A ticket to ask or to wait for the outcome. A failure that nobody awaited is
            counted, logged, and raised by `flush()` or `close()`.

        Raises:
            BodyError, MessageTooLarge: See `send`.
            Full: Too much is staged already.
        """
        body = self._encode(data)
        fields = self._fields(
            type, source, key, headers, version, correlation_id, reply_to
        )
        ticket = _handles.send_nowait(self._handle, self._channel, body, fields)
        return Ticket(ticket, self._file, self._owner)

    # ---- receiving ----

    def receive(
        self,
        wait: float | timedelta | None = 0.0,
        *,
        auto_ack: bool = False,
    ) -> Message[T] | None:
        """Receive one message and hold it for the queue's `visibility_timeout`.

        Args:
            wait: How many seconds to wait for one. None: for ever.
            auto_ack: Remove it before it is returned: at most once.

        Returns:
            The message, or None when there was none in time.

        Raises:
            Closed: The broker was closed, perhaps while this waited.
        """
        wait_ms = 0 if wait == 0.0 and wait is not False else _native.wait_ms(wait)
        flags = _native.AUTO_ACK if auto_ack else 0
        found = self._claim(1, wait_ms, flags)
        if not found:
            return None
        message = found[0]
        message._settled = auto_ack  # noqa: SLF001
        message._home = self._settler  # noqa: SLF001
        return message

    def receive_many(
        self,
        n: int,
        wait: float | timedelta | None = 0.0,
        *,
        auto_ack: bool = False,
    ) -> list[Message[T]]:
        """Receive up to `n` messages at once, each held as by `receive`.

        Args:
            n: How many at most.
            wait: How many seconds to wait for the first. None: for ever.
            auto_ack: Remove them before they are returned: at most once.

        Returns:
            The messages; an empty list when there was none in time.

        Raises:
            Closed: The broker was closed, perhaps while this waited.
        """
        limit = count(n, "n")
        flags = _native.AUTO_ACK if auto_ack else 0
        found = self._claim(limit, _native.wait_ms(wait), flags)
        for message in found:
            message._settled = auto_ack  # noqa: SLF001
            message._home = self._settler  # noqa: SLF001
        return found

    def messages(
        self,
        prefetch: int | None = None,
        wait: float | timedelta | None = None,
        *,
        auto_ack: bool = False,
    ) -> Iterator[Message[T]]:
        """Iterate over messages, claiming ahead of the loop: the fast way to receive.

        Leaving the loop gives back what was claimed and not handed out, uncounted.

        Args:
            prefetch: How many to claim ahead at most (AMQP: basic.qos). Default: adapts
                to the time that handling takes.
            wait: End when nothing came for so many seconds. None: never.
            auto_ack: Remove messages before they are handed out: at most once, where a
                crash may lose as many as were claimed ahead.

        Returns:
            An iterator; close it, or leave it to the end of a `for` loop.

        Raises:
            Closed: The broker was closed meanwhile.
        """
        ahead = 0 if prefetch is None else count(prefetch, "prefetch")
        return self._iterate(ahead, _native.wait_ms(wait), auto_ack=auto_ack)

    def __iter__(self) -> Iterator[Message[T]]:
        """Iterate for ever; the same as `messages()`."""
        return self.messages()

    def _iterate(
        self, prefetch: int, wait: int, *, auto_ack: bool
    ) -> Iterator[Message[T]]:
        flags = _native.AUTO_ACK if auto_ack else 0
        owner = self._owner  # outlives the consumer, even in a cycle of garbage
        handle, channel = owner.ref, self._channel
        consumer = _handles.consumer_open(handle, channel, prefetch, flags)
        take = _handles.consumer_take
        more: _More[T] = _handles.consumer_next
        fits = None
        if self._sieve is not None:
            fits, more = self._sieve.loop(flags)
        try:
            while batch := more(consumer, wait):
                for message in batch:
                    try:
                        taken = take(consumer)
                        if fits and taken > 0 and not fits(message):
                            continue
                    except BaseException:
                        # A signal after C's return: taken, and never to be handed out.
                        _native.give_back(handle, channel, [message])
                        raise
                    if taken > 0:
                        message._settled = auto_ack  # noqa: SLF001
                        message._home = self._settler  # noqa: SLF001
                        yield message
        finally:
            _handles.consumer_close(consumer)

    # ---- settling; `Message` has the verbs ----

    def ack_many(self, messages: Iterable[Message[T]]) -> int:
        """Ack messages of this queue in one step.

        Args:
            messages: What was received from this queue.

        Returns:
            How many were settled; the others had lost their lease.

        Raises:
            LeaseLost: None of them could be settled.
        """
        messages = list(messages)
        if not messages:
            return 0
        receipts = b"".join([message._receipt for message in messages])  # noqa: SLF001
        for message in messages:
            message._settled = True  # noqa: SLF001
        return self._settler.ack(receipts)

    # ---- looking ----

    def depth(self) -> int:
        """Count the messages that are not settled: ready, delayed and in flight."""
        return _native.depth(self._handle, self._channel)

    def stats(self) -> dict[str, Any]:
        """Return the queue's counters. O(1), whatever the queue holds.

        Returns:
            "messages" and its parts "ready", "delayed", "in_flight"; "bytes"; "oldest"
            (the age in seconds of the oldest unsettled message, or None); and totals by
            outcome: "sent", "sent_bytes", "delivered", "redelivered", "acked",
            "nacked", "rejected", "expired", "dead".
        """
        stats = _native.stats(self._handle, self._channel)
        oldest_ms = stats.pop("oldest_ms", None)
        stats["oldest"] = None if oldest_ms is None else oldest_ms / 1000
        return stats

    # ---- inside ----

    def _fields(self, *fields: Any) -> bytes:
        """Pack the fields of a send, in the order of `encode_fields`."""
        if fields == _NO_FIELDS:
            return self._bare
        return self._pack_fields(*fields)

    def _pack_fields(self, *fields: Any) -> bytes:
        """Pack them with what the queue adds: the broker's source, and its version."""
        type_, source, key, headers, version, *others = fields
        source = self._source if source is None else source
        if self._form is not None:
            version = self._form.check_version(version)
        return encode_fields(type_, source, key, headers, version, *others)

    def _pack(self, item: Outgoing[T]) -> Any:
        fields = self._fields(
            item.type,
            item.source,
            item.key,
            item.headers,
            item.version,
            item.correlation_id,
            item.reply_to,
        )
        body = self._encode(item.data)
        return [body, fields] if fields else body
