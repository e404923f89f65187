"""`Queue`: sending, receiving and settling."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn

from embq import _handles, _native
from embq._admin import Administration
from embq._codec import CODECS, pack
from embq._envelope import Envelope
from embq._look import Looking
from embq._loop import iterate
from embq._options import Options, count
from embq._outgoing import Outgoing
from embq._retrier import Retrier, is_wanted, new_id
from embq._settler import Settler
from embq._sieve import Sieve
from embq._ticket import Sent, Ticket
from embq._times import limit_ms, wait_ms
from embq._view import Form, View
from embq.errors import InvalidReceipt
from embq.messages import Message, T

if TYPE_CHECKING:
    from embq.broker import Broker


_Claim = Callable[[int, int, int], list[Message[T]]]


class Queue(Administration, Looking[T], Generic[T]):
    """A queue of a file. Made by `broker.queue(name)`; safe to share between threads.

    Opened with a `schema`, it sends and receives what fits that, a `T`, and nothing
    else. What does not fit is refused by the sending calls. The receiving calls pass it
    over and go on to the next message; it becomes a dead letter at once, with the
    reason "schema". Where there is no dead-letter queue it waits for its next receive
    as after a `nack`, at least a second; under `auto_ack` it is lost. Each one is
    logged. It makes no wait longer.

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
            self._sieve = Sieve(handle, channel, self._settler, self._form)
            self._claim = self._sieve.claim
        self._envelope = Envelope(self._encode, broker.source, self._form)
        self._fields = self._envelope.fields
        self._retrier = Retrier(broker._file, handle, channel, self._envelope)  # noqa: SLF001

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
        priority: int | str | None = None,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        ttl: float | timedelta | None = None,
        dedup_id: str | None = None,
        timeout: float | timedelta | None = None,
        retries: int = 0,
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
            priority: 0 to 9, or "low", "normal", "high" (2, 4, 7); higher ones are
                handed out first. Default 4.
            delay: Seconds until it is handed out (SQS: DelaySeconds). Default: the
                queue's.
            at: An aware datetime, instead of a delay. One that is past: at once.
            ttl: Seconds, from when it is due, until it perishes unless somebody holds
                it then (RabbitMQ: expiration). Default: the queue's.
            dedup_id: Names what is sent. Within the queue's `dedup_window` it is stored
                once, whoever sends it, also when the message is gone by then (SQS:
                MessageDeduplicationId).
            timeout: Seconds, for each try, for the file and for room in a queue that
                blocks. Default: the broker's `busy_timeout`.
            retries: How often to try again, after a random pause of up to 50 ms, then
                100 ms, ... 2 s (AWS: full jitter), when the file was busy or failed. It
                is stored once: without a `dedup_id` it gets one. Of a given one a
                `duplicate` may be what an earlier try of this call has stored.

        Returns:
            The id, equal to the one that the receiver sees; of a duplicate that of the
            first one.

        Raises:
            BodyError: The codec cannot encode the data, or it does not fit the schema.
            MessageTooLarge: Body and fields exceed the queue's `max_body`.
            QueueFull: There is no room within the queue's bounds, or was none in time.
            Busy: Not stored in time.
            CommitUncertain: It may be stored: the time was over while it was.
            StorageFull: The disk is full, or nearly.
            InvalidArgument: An argument makes no sense; so are `retries` where the
                `dedup_window` is 0: twice could not be told from once.
        """
        again = is_wanted(retries)
        made = again and dedup_id is None
        body = self._encode(data)
        fields = self._fields(
            type,
            source,
            key,
            headers,
            version,
            correlation_id,
            reply_to,
            priority,
            delay,
            at,
            ttl,
            new_id() if made else dedup_id,
        )
        if again:
            return self._retrier.send(body, fields, timeout, retries, made=made)
        wait = -1 if timeout is None else limit_ms(timeout)
        row = _native.send(self._handle, self._channel, body, fields, wait)
        return Sent.of(row, self._file)

    def send_many(
        self,
        items: Iterable[T | Outgoing[T]],
        *,
        timeout: float | timedelta | None = None,
        retries: int = 0,
    ) -> list[Sent]:
        """Send all of these messages or none, in order.

        Args:
            items: Data, or `embq.Outgoing(data, ...)` where there is more to say.
            timeout: See `send`; a batch waits until there is room for all of it.
            retries: See `send`; each item without a dedup id gets one of its own.

        Returns:
            One for each item, in order.

        Raises:
            BodyError, MessageTooLarge, QueueFull, Busy, CommitUncertain, StorageFull,
            InvalidArgument: See `send`.
        """
        if is_wanted(retries):
            return self._retrier.send_many(items, timeout, retries)
        encode, bare, pack_item = self._encode, self._envelope.bare, self._envelope.item
        packed = [
            pack_item(item)
            if isinstance(item, Outgoing)
            else ([encode(item), bare] if bare else encode(item))
            for item in items
        ]
        if not packed:
            return []
        wait = -1 if timeout is None else limit_ms(timeout)
        handle, channel, file = self._handle, self._channel, self._file
        rows = _native.send_many(handle, channel, pack(packed), len(packed), wait)
        return [Sent.of(row, file) for row in rows]

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
        priority: int | str | None = None,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        ttl: float | timedelta | None = None,
        dedup_id: str | None = None,
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
            priority: 0 to 9, or "low", "normal", "high".
            delay: Seconds until it is handed out.
            at: An aware datetime, instead of a delay.
            ttl: Seconds until it perishes.
            dedup_id: Stored once within the queue's `dedup_window`.

        Returns:
            A ticket to ask or to wait for the outcome. A failure that nobody awaited is
            counted, logged, and raised by `flush()` or `close()`.

        Raises:
            BodyError, MessageTooLarge: See `send`.
            Full: Too much is staged already, what waits for room in its queue included.
        """
        body = self._encode(data)
        fields = self._fields(
            type,
            source,
            key,
            headers,
            version,
            correlation_id,
            reply_to,
            priority,
            delay,
            at,
            ttl,
            dedup_id,
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
        limit = 0 if wait == 0.0 and wait is not False else wait_ms(wait)
        flags = _native.AUTO_ACK if auto_ack else 0
        found = self._claim(1, limit, flags)
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
        found = self._claim(limit, wait_ms(wait), flags)
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
        flags = _native.AUTO_ACK if auto_ack else 0
        owner, settler, sieve = self._owner, self._settler, self._sieve
        return iterate(
            owner, self._channel, settler, sieve, ahead, wait_ms(wait), flags
        )

    def __iter__(self) -> Iterator[Message[T]]:
        """Iterate for ever; the same as `messages()`."""
        return self.messages()

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
        if len(receipts) != len(messages) * _native.RECEIPT_SIZE:
            msg = f"queue {self.name!r}: a message that was looked at, not received"
            raise InvalidReceipt(msg)
        for message in messages:
            message._settled = True  # noqa: SLF001
        return self._settler.ack(receipts)
