"""Queues with a schema: what goes in fits, what comes out fits, nothing is lost."""

from __future__ import annotations

import dataclasses
import inspect
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
    assert entry["reason"] == "schema"
    assert entry["error"].startswith("schema: Expected `")
    assert SECRET not in entry["error"]
    (record,) = caplog.records
    assert sent.id in record.getMessage()
    assert "it is a dead letter now" in record.getMessage()
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
