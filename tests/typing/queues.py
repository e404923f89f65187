"""What a user's type checker sees. `make types` checks it; nothing runs it.

An expected error is a `type: ignore` with its code: mypy says so when it is none.
"""

from collections.abc import Iterator
from typing import Annotated, Any, assert_type

import msgspec

import embq


class Order(msgspec.Struct):
    """An order."""

    id: int


class Refund(msgspec.Struct):
    """Something else."""

    id: int


def declare(broker: embq.Broker) -> None:
    """A schema that is a class makes a `Queue` of it; without one it is of Any."""
    assert_type(broker.queue("q", schema=Order), embq.Queue[Order])
    assert_type(broker.queue("q", schema=Order, max_receives=3), embq.Queue[Order])
    assert_type(broker.queue("q", schema=list[Order]), embq.Queue[list[Order]])
    assert_type(broker.queue("q", schema=int, codec="msgpack"), embq.Queue[int])
    assert_type(broker.queue("q"), embq.Queue[Any])
    assert_type(broker.queue("q", codec="raw", dead_letter=None), embq.Queue[Any])
    broker.queue("q", schema=Order, max_receives="3")  # type: ignore[call-overload]
    broker.queue("q", schema=Order, no_such_option=3)  # type: ignore[call-overload]


def declare_by_annotation(broker: embq.Broker) -> None:
    """For a type that is no class the annotation says it."""
    union: embq.Queue[int | str] = broker.queue("q", schema=int | str)
    positive: embq.Queue[int] = broker.queue(
        "q", schema=Annotated[int, msgspec.Meta(gt=0)]
    )
    union.send("x")
    union.send(1.5)  # type: ignore[arg-type]
    positive.send(1)
    plain: embq.Queue = broker.queue("q")  # the same as Queue[Any]
    plain.send(object())


def send(orders: embq.Queue[Order]) -> None:
    """What is sent is checked, alone and in a batch."""
    orders.send(Order(1), key="a")
    orders.send({"id": 1})  # type: ignore[arg-type]
    orders.send(Refund(1))  # type: ignore[arg-type]
    orders.send_nowait(Order(1))
    orders.send_nowait(Refund(1))  # type: ignore[arg-type]
    orders.send_many([Order(1), embq.Outgoing(Order(2), type="order.paid")])
    orders.send_many([Order(1), Refund(2)])  # type: ignore[list-item]
    orders.send_many([embq.Outgoing(Refund(2))])  # type: ignore[arg-type]
    orders.send_many([embq.Outgoing.from_dict({"data": {"id": 1}})])
    orders.send_many([embq.Outgoing.from_cloudevent({})])


def receive(orders: embq.Queue[Order]) -> None:
    """What is received is of the type, by every way."""
    message = orders.receive(wait=1)
    assert_type(message, embq.Message[Order] | None)
    message.ack()  # type: ignore[union-attr]
    if message is None:
        return
    assert_type(message.data, Order)
    assert_type(message.data.id, int)
    with message as same:
        assert_type(same.data, Order)
    for one in orders.receive_many(3):
        assert_type(one, embq.Message[Order])
    assert_type(orders.messages(), Iterator[embq.Message[Order]])
    for one in orders:
        assert_type(one.data, Order)
        orders.ack_many([one])


def handle(message: embq.Message[Order], other: embq.Message[Refund]) -> None:
    """A message of another type is not taken for one of this."""
    handle(other, message)  # type: ignore[arg-type]
    assert_type(message.version, int | str | None)
    assert_type(message.to_cloudevent(), dict[str, Any])


def untyped(broker: embq.Broker) -> None:
    """Without a schema anything goes."""
    queue = broker.queue("q")
    queue.send({"a": 1})
    for message in queue:
        assert_type(message.data, Any)


def results(broker: embq.Broker) -> None:
    """A schema types what is stored of what is to be done once."""
    once = broker.idempotency("s", schema=Order)
    assert_type(once, embq.Idempotency[Order])
    assert_type(once.run("a", lambda: Order(1)), Order)
    assert_type(once.get("a"), Order | None)
    assert_type(once.get("a", 5), Order | int | None)
    assert_type(broker.idempotency("s"), embq.Idempotency[Any])
    once.set("a", Refund(1))  # type: ignore[arg-type]
    once.run("a", lambda: Refund(1))  # type: ignore[arg-type, return-value]
