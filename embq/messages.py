"""`Message`: what comes out of a queue.

It is decoded by msgspec straight from the array that C wrote: the first fields
stand in the order of `csrc/message.c`. Its verbs go through the queue that handed it
out.
"""

import base64
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self

import msgspec

from embq import _dicts
from embq._times import datetime_of
from embq.errors import Corrupt, LeaseExpiredWarning, LeaseLost

if TYPE_CHECKING:
    # For a type checker alone: `Queue` is `Queue[Any]`. Python has it from 3.13 on.
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

_Kind = type[BaseException]  # in Message, `type` is a field


class _Attributes(msgspec.Struct):
    """What a sender seldom gives, as it stands in the file."""

    headers: dict[str, Any] | None = None
    version: int | str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    dedup_id: str | None = None


def _from_file(text: str | None, kind: Any, what: str) -> Any:
    """Decode JSON that embq wrote: anything else is damage."""
    try:
        return msgspec.json.decode(text or "null", type=kind)
    except (ValueError, RecursionError):
        msg = f"the {what} of a message are not what embq writes"
        raise Corrupt(msg) from None  # what it says may quote a value


def _datetime(at_ms: int, what: str) -> datetime:
    found = datetime_of(at_ms)
    if found is None:
        msg = f"a message {what} {at_ms} ms after 1970"
        raise Corrupt(msg)
    return found


class Message(msgspec.Struct, Generic[T], array_like=True, gc=False, eq=False):
    """One delivery of a message; from a queue with a schema, its `data` is a `T`.

    The names follow CloudEvents 1.0 (`id`, `source`, `type`, `data`) and AMQP 0-9-1
    (`headers`, `correlation_id`, `reply_to`). The lease works as in SQS: whoever
    received the message holds it for the queue's `visibility_timeout` and settles it by
    one verb. Use it as a context manager to ack at the end, or to nack when an
    exception passes.

    Attributes:
        id: Never changes, wherever the message moves; unique across files.
        type: What happened, e.g. "order.paid"; None when not given.
        source: Where it happened; None when not given.
        key: What it is about; None when not given.
        priority: 0 to 9.
        receive_count: How often it was handed out, this time included.
        body: The stored bytes; `data` is their decoded form.
    """

    id: str
    _sent_at_ms: int
    type: str | None
    source: str | None
    key: str | None
    _attributes: str | None
    _history: str | None
    priority: int
    _expires_at_ms: int | None
    receive_count: int
    _receipt: bytes
    body: bytes
    # From here on not from C: set when the message is handed out.
    _home: Any = None  # an embq._settler.Settler
    _settled: bool = False
    _data: Any = msgspec.UNSET
    _parsed: _Attributes | None = None

    @property
    def data(self) -> T:
        """The body, decoded by the queue's codec, once.

        From a queue with a schema it was decoded before the message was handed out.

        Raises:
            BodyError: The body is not what the codec expects.
        """
        if self._data is msgspec.UNSET:
            self._data = self._home.decode(self.body)
        return self._data  # type: ignore[no-any-return]  # a name for it costs 1 %

    @property
    def timestamp(self) -> datetime:
        """When it was sent: an aware datetime in UTC, to the millisecond.

        Raises:
            Corrupt: The file says a time that no calendar has.
        """
        return _datetime(self._sent_at_ms, "sent")

    @property
    def expires_at(self) -> datetime | None:
        """When its `ttl` is over, in UTC; None: never.

        Raises:
            Corrupt: The file says a time that no calendar has.
        """
        at_ms = self._expires_at_ms
        return None if at_ms is None else _datetime(at_ms, "that expires")

    @property
    def headers(self) -> dict[str, Any]:
        """The headers given to `send`; empty when there were none."""
        headers: dict[str, Any] = self._extras().headers or {}
        return headers

    @property
    def version(self) -> int | str | None:
        """The version of the data's form: the sender's, or what it was lifted to."""
        return self._extras().version

    @property
    def correlation_id(self) -> str | None:
        """What this message answers or belongs to (AMQP)."""
        return self._extras().correlation_id

    @property
    def reply_to(self) -> str | None:
        """Where the sender wants an answer (AMQP)."""
        return self._extras().reply_to

    @property
    def dedup_id(self) -> str | None:
        """What named it when it was sent."""
        return self._extras().dedup_id

    @property
    def retry_count(self) -> int:
        """How often it was handed out before this time."""
        return self.receive_count - 1

    @property
    def history(self) -> list[dict[str, Any]]:
        """Why this is a dead letter: one entry for each time it became one.

        Each has "queue", "reason" ("rejected", "max_receives", "ttl", "overflow",
        "schema" when it did not fit that of its receiver, or "damaged" when its body
        is not what was sent), "error", "receive_count", "first_at" and "last_at" in ms
        since the epoch, and "hops": how often it had become a dead letter by then, this
        time included.
        """
        kind = list[dict[str, Any]] | None
        history: list[dict[str, Any]] | None
        history = _from_file(self._history, kind, "history")
        return history or []

    @property
    def queue(self) -> str:
        """The name of the queue that handed it out."""
        name: str = self._home.name
        return name

    @property
    def receipt(self) -> str:
        """The proof of this delivery, as URL-safe text. Good for one delivery only."""
        return base64.urlsafe_b64encode(self._receipt).decode()

    def ack(self) -> None:
        """Settle the message: it is done, and gone when this returns.

        Allowed after the lease is over as long as nobody else has received it (as SQS).

        Raises:
            LeaseLost: Settled before, or handed to another consumer since.
        """
        self._settle(self._home.ack)

    def ack_nowait(self) -> None:
        """Settle the message without waiting: the ack joins the next commit (5 ms).

        `flush()` waits for it; a failure is raised there or by `close()`.

        Raises:
            Full: There are too many staged operations.
        """
        self._home.ack_nowait(self._receipt)
        self._settled = True

    def nack(
        self, delay: float | timedelta | None = None, error: str | None = None
    ) -> None:
        """Settle the message as failed: it comes again, or becomes a dead letter.

        Args:
            delay: Seconds until it is ready again. Default: the queue's retry policy.
            error: What went wrong; kept with the message and in a dead letter's
                history.

        Raises:
            LeaseLost: Settled before, or handed to another consumer since.
        """
        self._settle(self._home.nack, delay, error)

    def reject(self, reason: str) -> None:
        """Settle the message as hopeless: to the dead-letter queue at once (AMQP).

        Without a dead-letter queue the message is removed.

        Args:
            reason: Why; it is kept in the dead letter's history.

        Raises:
            LeaseLost: Settled before, or handed to another consumer since.
        """
        self._settle(self._home.reject, reason)

    def extend(self, seconds: float | timedelta) -> None:
        """Hold the message longer (SQS: ChangeMessageVisibility).

        Args:
            seconds: How long from now.

        Raises:
            LeaseLost: Settled before, or handed to another consumer since.
        """
        try:
            self._home = self._home.extend(self._receipt, seconds)
        except LeaseLost:
            self._settled = True  # by somebody: nothing is left to do here
            raise

    def to_dict(self) -> dict[str, Any]:
        """Return the message as a dict; metadata that is None is left out.

        `Outgoing.from_dict` is the inverse.

        Returns:
            "id", "timestamp" (ISO 8601, UTC), "type", "source", "data" and "metadata":
            "version", "priority", "retryCount", "key", "headers", "correlationId",
            "replyTo", and "expiresAt" (ISO 8601, UTC).
        """
        return _dicts.from_message(self)

    def to_cloudevent(self) -> dict[str, Any]:
        """Return the message as an event of CloudEvents 1.0, in its JSON format.

        The event is the message as it was sent: of the version it was sent in. In it
        `key` is "subject", and "source" and "type" are "/embq/QUEUE" and "embq.message"
        where the message says none. `priority` is an extension unless it is 4, and
        `expires_at` is "expirytime", unless there is a header of that name. A header
        that can be an extension attribute is one (`traceparent`). What CloudEvents
        cannot say stands as JSON text in the extension "embq".
        `Outgoing.from_cloudevent` is the inverse.

        Returns:
            What `json.dumps` takes: `data` of a json queue, "data_base64" of others.

        Raises:
            BodyError: The body is not what the codec expects.
        """
        from embq import _cloudevents  # noqa: PLC0415 - `import embq` is not to pay

        return _cloudevents.build(self, self._read_attributes().version)

    def _settle(self, verb: Callable[..., None], *args: Any) -> None:
        try:
            verb(self._receipt, *args)
        except (LeaseLost, LeaseExpiredWarning):
            self._settled = True  # by somebody: nothing is left to do here
            raise
        self._settled = True

    def _extras(self) -> _Attributes:
        if self._parsed is None:
            self._parsed = self._read_attributes()
        return self._parsed

    def _read_attributes(self) -> _Attributes:
        """Return them as they were sent; a lifted message has another version."""
        kind = _Attributes | None
        found: _Attributes | None = _from_file(self._attributes, kind, "attributes")
        return found or _Attributes()

    def __enter__(self) -> Self:
        if not self._receipt:  # it was looked at: the body must not run
            self._home.refuse()
        return self

    def __exit__(
        self,
        kind: _Kind | None,  # noqa: PYI036 - it is `type[BaseException]`
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._settled:
            return
        if error is None:
            self._settle(self._home.ack)
            return
        # A lost lease is not news beside the handler's own exception, which goes on.
        try:
            self._settle(self._home.nack, None, f"{type(error).__name__}: {error}")
        except LeaseLost:
            self._home.look(self._receipt)

    def __del__(self) -> None:
        try:
            handed_out = self._home is not None
        except AttributeError:  # its decoding failed half-way
            return
        if handed_out and not self._settled:
            warnings.warn(
                f"{self!r} was collected unsettled; call ack(), nack() or reject()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def __repr__(self) -> str:
        """Show no payload: a repr ends up in logs."""
        return (
            f"<Message {self.id} type={self.type!r} "
            f"receive_count={self.receive_count} size={len(self.body)}>"
        )
