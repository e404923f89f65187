"""Queues with a schema: what goes in fits, what comes out fits, nothing is lost."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import signal
import threading
import time
import typing
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pytest

import embq
from embq._view import QueueOptions
from embq.errors import BodyError, ConfigMismatch, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "geheim"


class Order(msgspec.Struct):
    """A schema."""

    id: int
    name: Annotated[str, msgspec.Meta(min_length=1)] = "x"


@dataclasses.dataclass
class Point:
    """A schema that msgspec takes as it is when it is not asked to look."""

    x: int


class Money:
    """What msgspec does not know."""

    def __init__(self, cents: int) -> None:
        self.cents = cents


def money_out(value: Any) -> Any:
    """Encode it, by the hook of msgspec."""
    if isinstance(value, Money):
        return value.cents
    raise NotImplementedError


def money_in(kind: type, value: Any) -> Any:
    """Decode it."""
    if value == SECRET:
        raise ValueError(SECRET)
    return kind(value)


@pytest.fixture
def broker(path: Path) -> Iterator[embq.Broker]:
    """A broker on a file."""
    with embq.open(path, durability="normal") as made:
        yield made


@contextlib.contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Fail when the block takes longer, instead of waiting for ever."""

    def over(number: int, frame: object) -> None:
        msg = f"not done in {seconds} s"
        raise TimeoutError(msg)

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def dead_letter(broker: embq.Broker, name: str = "q") -> embq.Message[Any]:
    """Receive the one dead letter."""
    (message,) = broker.queue(f"{name}.dead").receive_many(10)
    return message


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize(
    ("schema", "data"),
    [
        (Order, Order(1, "a")),
        (Point, Point(1)),
        (list[Point], [Point(1), Point(2)]),
        (dict[int, str], {1: "a"}),
        (int | str, "a"),
        (Annotated[int, msgspec.Meta(gt=0)], 3),
        (typing.TypedDict("D", {"a": bytes}), {"a": b"\xff"}),
    ],
)
def test_what_fits_comes_back(
    broker: embq.Broker, codec: Any, schema: Any, data: Any
) -> None:
    """Data of the schema's type is received as such, decoded already."""
    queue = broker.queue("q", schema=schema, codec=codec)
    queue.send(data)
    queue.send_many([data, embq.Outgoing(data, key="k")])
    queue.send_nowait(data)
    broker.flush()
    for message in [queue.receive(), *queue.receive_many(2), *queue.messages(wait=0)]:
        assert message is not None
        assert message._data == data
        assert message.data == data
        message.ack()
    assert queue.depth() == 0


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize(
    ("schema", "data"),
    [
        (Order, Order(SECRET)),  # type: ignore[arg-type]
        (Order, Order(1, "")),
        (Point, Point(SECRET)),  # type: ignore[arg-type]
        (Order, {"name": SECRET}),
        (typing.Literal["a"], SECRET),
        (Annotated[int, msgspec.Meta(gt=0)], 0),
        (int, SECRET),
    ],
)
def test_what_does_not_fit_is_not_sent(
    broker: embq.Broker, codec: Any, schema: Any, data: Any
) -> None:
    """Every way of sending refuses it, also an instance with a wrong field in it."""
    queue = broker.queue("q", schema=schema, codec=codec)
    for send in (
        queue.send,
        queue.send_nowait,
        lambda bad: queue.send_many([embq.Outgoing(bad)]),
        lambda bad: queue.send_many([bad]),
    ):
        with pytest.raises(BodyError, match="does not fit the schema") as caught:
            send(data)
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None
    assert queue.depth() == 0


def test_nan_is_no_float_in_json(broker: embq.Broker) -> None:
    """NaN, which JSON would make null of, is refused where a float is asked for."""
    with pytest.raises(BodyError, match="Expected `float`, got `null`"):
        broker.queue("q", schema=float).send(float("nan"))


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_hooks(broker: embq.Broker, codec: Any) -> None:
    """`enc_hook` and `dec_hook` write and read what msgspec does not know."""
    queue = broker.queue(
        "q", schema=list[Money], codec=codec, enc_hook=money_out, dec_hook=money_in
    )
    queue.send([Money(5)])
    message = queue.receive()
    assert message is not None
    assert message.data[0].cents == 5
    with pytest.raises(BodyError, match="object cannot be encoded") as caught:
        queue.send(object())  # type: ignore[arg-type]
    assert isinstance(caught.value.__cause__, NotImplementedError)
    with pytest.raises(BodyError, match=r"ValueError in a hook - at `\$\[0\]`"):
        queue.send([SECRET])  # type: ignore[list-item]


def test_hooks_of_a_raw_queue(broker: embq.Broker) -> None:
    """With `codec="raw"` the hooks are the codec."""
    queue = broker.queue(
        "q",
        schema=Money,
        codec="raw",
        enc_hook=lambda money: b"%d" % money.cents,
        dec_hook=lambda kind, body: kind(int(body)),
    )
    queue.send(Money(5))
    with pytest.raises(BodyError, match="ValueError in a hook"):
        queue.send(b"five")  # type: ignore[arg-type]
    message = queue.receive()
    assert message is not None
    assert (message.body, message.data.cents) == (b"5", 5)


@pytest.mark.parametrize("bad", [{"id": SECRET}, {"id": 1, "name": ""}, [SECRET], None])
def test_what_does_not_fit_is_a_dead_letter(
    broker: embq.Broker, bad: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It never reaches the receiver, who gets the next; it is counted and logged."""
    plain, typed = broker.queue("q"), broker.queue("q", schema=Order)
    sent = plain.send(bad)
    plain.send({"id": 2})
    message = typed.receive()
    assert message is not None
    assert message.data == Order(2)
    assert typed.stats()["dead"] == 1
    dead = dead_letter(broker)
    assert (dead.id, dead.data) == (sent.id, bad)
    (entry,) = dead.history
    assert entry["error"].startswith("schema: Expected `")
    assert SECRET not in entry["error"]
    (record,) = caplog.records
    assert sent.id in record.getMessage()
    assert "'q.dead'" in record.getMessage()
    assert SECRET not in record.getMessage()


@pytest.mark.parametrize(
    ("schema", "body", "error"),
    [
        (Order, b"geheim", "JSON is malformed: invalid character (byte 0)"),
        (str, b'"\xff"', "UnicodeDecodeError"),
        (typing.Literal["a"], b'"geheim"', "Invalid enum value"),
        (list[typing.Literal[1]], b"[33]", "Invalid enum value - at `$[0]`"),
        (typing.Literal["a"], b'"geheim - at `$geheim`"', "Invalid enum value"),
        (
            msgspec.defstruct("F", [("a", int)], forbid_unknown_fields=True),
            b'{"a":1, "geheim":1}',
            "Object contains unknown field",
        ),
        (
            msgspec.defstruct("G", [("a", int)], tag="x")
            | msgspec.defstruct("H", [], tag="y"),
            b'{"type":"geheim"}',
            "Invalid value - at `$.type`",
        ),
        (list[Money], b'["geheim"]', "ValueError in a hook - at `$[0]`"),
        (list, b"[" * 100_000, "RecursionError"),
    ],
)
def test_errors_have_no_payload(
    broker: embq.Broker, schema: Any, body: bytes, error: str
) -> None:
    """What the history says names types and places, never a value (CASE 60)."""
    stranger = broker.queue("q")
    stranger._encode = lambda data: data
    stranger.send(body)
    assert broker.queue("q", schema=schema, dec_hook=money_in).receive() is None
    (entry,) = dead_letter(broker).history
    assert entry["error"] == f"schema: {error}"


def test_batches_skip_what_does_not_fit(broker: embq.Broker) -> None:
    """`receive_many` and `messages()` hand out the rest, in order."""
    plain, typed = broker.queue("q"), broker.queue("q", schema=int)
    plain.send_many([0, "a", 1, "b", "c", 2])
    taken = typed.receive_many(4)
    assert [message.data for message in taken] == [0, 1]
    typed.ack_many(taken)
    for message in typed.messages(wait=0):
        assert message.data == 2
        message.ack()
    assert typed.depth() == 0
    assert broker.queue("q.dead").depth() == 3


def test_receive_many_goes_on_after_a_batch_of_nothing(broker: embq.Broker) -> None:
    """A first batch in which nothing fits does not end the call."""
    plain, typed = broker.queue("q"), broker.queue("q", schema=int)
    plain.send_many(["a", "b", 1])
    assert [message.data for message in typed.receive_many(2)] == [1]


@pytest.mark.parametrize("way", ["receive", "receive_many", "messages"])
def test_auto_ack_loses_what_does_not_fit(
    broker: embq.Broker, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With `auto_ack` it was removed before: it is logged as lost and passed over."""
    plain, typed = broker.queue("q"), broker.queue("q", schema=int)
    plain.send_many(["a", 1])
    if way == "receive":
        message = typed.receive(auto_ack=True)
    elif way == "receive_many":
        (message,) = typed.receive_many(2, auto_ack=True)
    else:
        (message,) = typed.messages(wait=0, auto_ack=True)
    assert message is not None
    assert message.data == 1
    assert typed.depth() == 0
    assert "q.dead" not in broker.queues()
    assert "is lost" in caplog.text


def test_without_dead_letters_it_waits(
    broker: embq.Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a dead-letter queue it stays, delayed: looking at it removes nothing."""
    retry = embq.Backoff(0, cap=0)  # at once: the call must not meet it for ever
    plain = broker.queue("q", dead_letter=None, retry=retry)
    typed = broker.queue("q", schema=int)
    plain.send_many(["a", 1])
    with in_time(10):
        message = typed.receive()
        assert message is not None
        message.ack()
        assert typed.receive() is None
    stats = typed.stats()
    assert (stats["delayed"], stats["rejected"], stats["nacked"]) == (1, 0, 1)
    assert "waits for its next receive" in caplog.text
    again = plain.receive(wait=5)
    assert again is not None
    assert again.data == "a"
    again.ack()


@pytest.mark.parametrize("way", ["receive", "receive_many", "messages"])
def test_a_wait_is_not_made_longer(broker: embq.Broker, way: str) -> None:
    """What is passed over does not begin the wait anew."""
    plain, typed = broker.queue("q"), broker.queue("q", schema=int)
    enough = threading.Event()

    def feed() -> None:
        while not enough.wait(0.05):
            plain.send("a")

    sender = threading.Thread(target=feed)
    sender.start()
    began = time.monotonic()
    try:
        with in_time(20):
            if way == "receive":
                assert typed.receive(wait=0.3) is None
            elif way == "receive_many":
                assert typed.receive_many(3, wait=0.3) == []
            else:
                assert list(typed.messages(wait=0.3)) == []
    finally:
        enough.set()
        sender.join()
    assert time.monotonic() - began > 0.29
    assert typed.stats()["dead"] > 0


def test_the_wait_of_a_loop_begins_anew_with_each_message(
    broker: embq.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop over a typed queue ends when nothing came for `wait`, no sooner."""
    now = 0.0
    monkeypatch.setattr("embq._sieve.monotonic", lambda: now)
    typed = broker.queue("q", schema=int)
    typed.send_many(range(4))
    for number, message in enumerate(typed.messages(prefetch=1, wait=0.5)):
        assert message.data == number
        message.ack()
        now += 0.4
    assert typed.depth() == 0


def test_a_hook_that_is_interrupted_gives_back(broker: embq.Broker) -> None:
    """When decoding is interrupted nothing stays in flight, and nothing is counted."""

    def interrupt(kind: type, value: Any) -> Any:
        raise KeyboardInterrupt

    plain = broker.queue("q")
    plain.send_many([1, 2, 3])
    typed = broker.queue("q", schema=Money, dec_hook=interrupt)
    for call in (
        typed.receive,
        lambda: typed.receive_many(2),
        lambda: next(typed.messages()),
    ):
        with pytest.raises(KeyboardInterrupt):
            call()
        assert plain.stats()["in_flight"] == 0
    assert [message.receive_count for message in plain.receive_many(3)] == [1, 1, 1]


def test_the_view_is_no_stored_option(broker: embq.Broker, path: Path) -> None:
    """Each opening has a schema of its own; sending by name has none."""
    broker.queue("q", schema=str, version=2)
    typed = broker.queue("q", schema=int)
    broker.send("q", "not an int")
    with pytest.raises(BodyError):
        broker.send(typed, "not an int")
    with embq.open(path) as other:
        other.send("q", 1)
        with pytest.raises(ConfigMismatch):
            other.queue("q", schema=int, max_receives=17)
    assert broker.queue("q").depth() == 2


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"schema": "Order"}, "schema"),
        ({"schema": 5}, "schema"),
        ({"schema": Order | msgspec.defstruct("P", [])}, "schema"),
        ({"dec_hook": money_in}, "dec_hook"),
        ({"schema": int, "dec_hook": 1}, "dec_hook"),
        ({"enc_hook": 1}, "enc_hook"),
    ],
)
def test_a_schema_that_is_none(
    broker: embq.Broker, options: dict[str, Any], what: str
) -> None:
    """It is refused before the queue is declared."""
    with pytest.raises(InvalidArgument, match=f"^{what}: "):
        broker.queue("q", **options)
    assert broker.queues() == []


def test_type_checkers_know_every_option() -> None:
    """The options that type checkers see are those that `Broker.queue` takes."""
    taken = inspect.signature(embq.Broker.queue).parameters.keys()
    assert QueueOptions.__annotations__.keys() == taken - {"self", "name", "schema"}
