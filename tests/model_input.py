"""What the model (`model.py`) accepts: options, durations, bodies, fields.

The rules of embq's arguments, apart from the life of a message so that both read well.
"""

# ruff: noqa: EM101, EM102, TRY003  (the texts are for the reader of the rules)
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from embq import Backoff, Sent, errors

LAST_MS = 253_402_300_799_999  # the end of the year 9999
HUNDRED_YEARS_MS = 36_525 * 86_400_000
TEXTS = ("type", "source", "key", "correlation_id", "reply_to", "dedup_id")
FIELDS = (*TEXTS, "headers", "version")
TIMES = ("priority", "delay", "at", "ttl")
PRIORITIES = {"low": 2, "normal": 4, "high": 7}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Codec = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]
CODECS: dict[str, Codec] = {
    "json": (msgspec.json.encode, msgspec.json.decode),
    "msgpack": (msgspec.msgpack.encode, msgspec.msgpack.decode),
    "raw": (bytes, bytes),
}


def duration_ms(value: object, what: str) -> int:
    """Turn seconds into milliseconds; refuse what is no length of time."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise errors.InvalidArgument(f"{what}: not a number of seconds")
    if not 0 <= value <= HUNDRED_YEARS_MS / 1000:  # also refuses NaN
        raise errors.InvalidArgument(f"{what}: not between 0 and 100 years")
    return round(value * 1000)


def positive_ms(value: object, what: str) -> int:
    """Refuse a duration of nothing as well."""
    found = duration_ms(value, what)
    if found == 0:
        raise errors.InvalidArgument(f"{what}: must be more than 0")
    return found


def priority_of(value: object) -> int:
    """Give the number of a priority, the default for None."""
    value = PRIORITIES.get(value, -1) if isinstance(value, str) else value
    value = 4 if value is None else value
    if type(value) is not int or value not in range(10):
        raise errors.InvalidArgument("priority: not 0 to 9")
    return value


def times(
    options: Options, fields: dict[str, Any], now_ms: int
) -> tuple[int, int | None, int | None]:
    """Say how a message stands: its priority, when it is due, when it perishes."""
    delay, at, ttl = fields.get("delay"), fields.get("at"), fields.get("ttl")
    if delay is not None and at is not None:
        raise errors.InvalidArgument("delay and at")
    due_ms = now_ms + duration_ms(options.delay if delay is None else delay, "delay")
    if at is not None:
        due_ms = point_ms(at, "at")
    ttl = options.ttl if ttl is None else ttl
    from_ms = max(due_ms, now_ms)
    expires_ms = None if ttl is None else from_ms + positive_ms(ttl, "ttl")
    priority = priority_of(fields.get("priority"))
    if options.ordered and (priority != PRIORITIES["normal"] or due_ms > now_ms):
        raise errors.InvalidArgument("an ordered queue takes no priority and no delay")
    return priority, due_ms if due_ms > now_ms else None, expires_ms


def point_ms(value: object, what: str) -> int:
    """Turn a point of time into ms since 1970."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise errors.InvalidArgument(f"{what}: not an aware datetime")
    return -((EPOCH - value) // timedelta(milliseconds=1))


def changeable(options: dict[str, Any]) -> None:
    """Refuse options that there are not, or that stay what they are."""
    names = {field.name for field in dataclasses.fields(Options)}
    if set(options) - (names - {"codec", "ordered"}):
        raise errors.InvalidArgument("configure: no such option, or it stays")


def datetime_of(at_ms: int | None) -> datetime | None:
    """Give the time in UTC."""
    return None if at_ms is None else EPOCH + timedelta(milliseconds=at_ms)


def backoff_ms(retry: Any, receive_count: int) -> int:
    """Say how long a nacked message waits after this many deliveries."""
    wait = float(retry.first)
    for _ in range(receive_count - 1):
        if wait >= retry.cap:
            break
        wait *= retry.factor
    return round(min(float(retry.cap), wait) * 1000)


def whole(value: object, what: str) -> int:
    """Check a whole number that may be 0."""
    if value != 0 or isinstance(value, bool):
        at_least_one(value, what)
    return int(value)  # type: ignore[call-overload, no-any-return]


def at_least_one(value: object, what: str) -> None:
    """Refuse what is no count."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise errors.InvalidArgument(f"{what}: not a whole number of at least 1")


def check_name(name: str) -> None:
    """Refuse what is no name of a queue."""
    encoded = name.encode(errors="replace") if isinstance(name, str) else b""
    whole = encoded.decode() == name
    if not whole or not 1 <= len(encoded) <= 255 or "\0" in name:
        raise errors.InvalidArgument("a name has 1 to 255 bytes of UTF-8, no NUL")


def default_dead_letter(name: str) -> str | None:
    """Name the dead-letter queue of a queue; that of a dead-letter queue is none."""
    return None if name.endswith(".dead") else f"{name}.dead"


@dataclasses.dataclass(frozen=True)
class Options:
    """What a queue's declaration says; kept in the file, equal for every process."""

    codec: str = "json"
    visibility_timeout: float = 30.0
    max_receives: int = 5
    dead_letter: str | None = None
    retry: Any = dataclasses.field(default_factory=lambda: Backoff(1.0))
    max_body: int = 1 << 20
    delay: float = 0.0
    ttl: float | None = None
    expiry: str = "dead_letter"
    ordered: object = False
    dedup_window: float = 300.0
    max_messages: int | None = None
    max_bytes: int | None = None
    overflow: str = "block"

    def check(self, name: str) -> None:
        """Refuse what could never work."""
        check_name(name)
        if self.codec not in CODECS:
            raise errors.InvalidArgument(f"codec: {self.codec!r}")
        if duration_ms(self.visibility_timeout, "visibility_timeout") == 0:
            raise errors.InvalidArgument("visibility_timeout: must be more than 0")
        at_least_one(self.max_receives, "max_receives")
        at_least_one(self.max_body, "max_body")
        duration_ms(self.delay, "delay")
        duration_ms(self.dedup_window, "dedup_window")
        if self.ttl is not None:
            positive_ms(self.ttl, "ttl")
        if self.expiry not in ("dead_letter", "drop"):
            raise errors.InvalidArgument("expiry: unknown")
        if self.ordered is not False and self.ordered not in ("key", "queue"):
            raise errors.InvalidArgument("ordered: unknown")
        if self.ordered and self.delay:
            raise errors.InvalidArgument("ordered with a delay")
        self.check_bounds()
        if self.dead_letter is not None:
            check_name(self.dead_letter)
            if self.dead_letter == name:
                raise errors.InvalidArgument("a queue is not its own dead-letter queue")

    def check_bounds(self) -> None:
        """Refuse bounds that are none, or that cannot be kept."""
        bounds = [b for b in (self.max_messages, self.max_bytes) if b is not None]
        for bound in bounds:
            at_least_one(bound, "a bound")
        if self.overflow not in ("block", "reject", "drop_oldest", "dead_letter"):
            raise errors.InvalidArgument("overflow: unknown")
        if bounds and self.overflow == "dead_letter" and self.dead_letter is None:
            raise errors.InvalidArgument("overflow: no dead-letter queue")

    def fit(self, messages: int, size: int) -> bool:
        """Tell whether a queue may hold so much."""
        return (self.max_messages is None or messages <= self.max_messages) and (
            self.max_bytes is None or size <= self.max_bytes
        )


def encode(options: Options, data: object, fields: dict[str, Any]) -> bytes:
    """Give the body's bytes, or refuse it before anything is stored."""
    if unknown := set(fields) - {*FIELDS, *TIMES}:
        raise TypeError(f"unexpected fields {unknown}")
    for name in TEXTS:
        if not isinstance(fields.get(name), str | None):
            raise errors.InvalidArgument(f"{name}: not a str")
    if options.codec == "raw" and not isinstance(data, bytes | bytearray | memoryview):
        raise errors.BodyError("a raw queue takes bytes")
    try:
        body = CODECS[options.codec][0](data)
    except (TypeError, ValueError, OverflowError) as error:
        raise errors.BodyError(f"not encodable: {error}") from error
    headers = fields.get("headers")
    size = len(body) + (len(msgspec.json.encode(headers)) if headers else 0)
    if size > options.max_body:
        raise errors.MessageTooLarge(f"more than {options.max_body} bytes")
    return body


def decode(options: Options, body: bytes) -> Any:
    """Give the data back, or say that these bytes are none."""
    try:
        return CODECS[options.codec][1](body)
    except ValueError as error:
        raise errors.BodyError(str(error)) from error


def parts(item: object) -> tuple[object, dict[str, Any]]:
    """Take an `embq.Outgoing` apart; anything else is data."""
    if type(item).__name__ != "Outgoing":
        return item, {}
    found = {name: getattr(item, name) for name in (*FIELDS, *TIMES)}
    data = item.data  # type: ignore[attr-defined]
    return data, {name: value for name, value in found.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Ticket:
    """A staged send; the model stores at once."""

    sent: Sent

    def result(self, timeout: float | None = None) -> Sent:  # noqa: ARG002
        """Give what `send` would have given."""
        return self.sent

    def done(self) -> bool:
        """Tell whether it is stored."""
        return True
