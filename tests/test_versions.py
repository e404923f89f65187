"""Versions of a schema: older bodies are lifted, newer ones are kept for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import embq
from embq.errors import BodyError, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "geheim"


class Order(msgspec.Struct):
    """Version 3: the amount has a currency."""

    cents: int
    currency: str


def to_cents(data: dict[str, Any]) -> dict[str, Any]:
    """Lift 1, {"euros"}, to 2, {"cents"}."""
    return {"cents": data["euros"] * 100}


def with_currency(data: dict[str, Any]) -> dict[str, Any]:
    """Lift 2 to 3, in place, as is allowed."""
    data["currency"] = "EUR"
    return data


LIFT = {1: to_cents, 2: with_currency}


@pytest.fixture
def broker(path: Path) -> Iterator[embq.Broker]:
    """A broker on a file."""
    with embq.open(path, durability="normal") as made:
        yield made


def current(broker: embq.Broker, **options: Any) -> embq.Queue[Order]:
    """Open the queue as a consumer of version 3."""
    view = {"version": 3, "upcasters": LIFT, **options}
    return broker.queue("q", schema=Order, **view)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize(
    ("data", "version"),
    [
        ({"euros": 5}, None),
        ({"euros": 5}, 1),
        ({"cents": 500}, 2),
        ({"cents": 500, "currency": "EUR"}, 3),
    ],
)
def test_older_bodies_are_lifted(
    broker: embq.Broker, codec: Any, data: Any, version: int | None
) -> None:
    """Each comes as the current type, step by step; no version is version 1."""
    broker.queue("q", codec=codec).send(data, version=version, headers={"a": 1})
    message = current(broker).receive()
    assert message is not None
    assert message.data == Order(500, "EUR")
    assert message.version == 3
    assert message.headers == {"a": 1}
    assert message.to_dict()["metadata"]["version"] == 3
    assert message.to_cloudevent().get("version") == version  # as it was sent


def test_what_is_sent_says_its_version(broker: embq.Broker) -> None:
    """All ways of sending write the queue's version; another one is refused."""
    queue = current(broker)
    order = Order(1, "EUR")
    queue.send(order)
    queue.send(order, key="k", version=3)
    queue.send_nowait(order)
    queue.send_many([order, embq.Outgoing(order, type="t")])
    for bad in (2, 4, "3"):
        with pytest.raises(InvalidArgument, match="version 3"):
            queue.send(order, version=bad)
        with pytest.raises(InvalidArgument, match="version 3"):
            queue.send_many([embq.Outgoing(order, version=bad)])
    broker.flush()
    versions = [message.version for message in broker.queue("q").receive_many(9)]
    assert versions == [3] * 5


@pytest.mark.parametrize(
    ("data", "version", "error"),
    [
        ({"cents": 1, "currency": "EUR"}, 4, "version 4 is newer than 3"),
        ({"cents": 1, "currency": "EUR"}, "3", "a version that is no int from 1"),
        ({"cents": 1, "currency": "EUR"}, 0, "a version that is no int from 1"),
        ({SECRET: 1}, 1, "upcaster 1: KeyError"),
        ([], 2, "upcaster 2: TypeError"),
        ({"euros": SECRET}, 1, "Expected `int`, got `str` - at `$.cents`"),
    ],
)
def test_what_cannot_be_lifted_is_a_dead_letter(
    broker: embq.Broker, data: Any, version: Any, error: str
) -> None:
    """A newer version or a failing upcaster: kept there, whole, for a better one."""
    broker.queue("q").send(data, version=version)
    assert current(broker).receive() is None
    dead = broker.queue("q.dead").receive()
    assert dead is not None
    assert (dead.data, dead.version) == (data, version)
    assert dead.history[0]["error"] == f"schema: {error}"


def test_a_version_without_upcaster(broker: embq.Broker) -> None:
    """What is older than the first upcaster is a dead letter; the rest is lifted."""
    plain = broker.queue("q")
    plain.send({"euros": 5}, version=1)
    plain.send({"cents": 5}, version=2)
    queue = current(broker, upcasters={2: with_currency})
    assert [message.data for message in queue.receive_many(2)] == [Order(5, "EUR")]
    dead = broker.queue("q.dead").receive()
    assert dead is not None
    assert dead.history[0]["error"] == "schema: no upcaster from version 1"


def test_an_upgrade_reads_what_an_older_consumer_could_not(
    broker: embq.Broker,
) -> None:
    """A message of version 3 that a consumer of version 2 refused is not lost."""
    current(broker).send(Order(7, "EUR"))
    older = broker.queue("q", schema=dict, version=2)
    assert older.receive() is None
    newer = broker.queue("q.dead", schema=Order, version=3, upcasters=LIFT)
    message = newer.receive()
    assert message is not None
    assert message.data == Order(7, "EUR")


def test_a_version_without_a_schema(broker: embq.Broker) -> None:
    """Without a schema upcasters lift plain data."""
    broker.queue("q").send({"euros": 5})
    message = broker.queue("q", version=3, upcasters=LIFT).receive()
    assert message is not None
    assert message.data == {"cents": 500, "currency": "EUR"}


def test_raw_bodies_are_lifted_as_bytes(broker: embq.Broker) -> None:
    """An upcaster of a raw queue takes bytes and gives bytes."""
    broker.queue("q", codec="raw").send(b"a")
    queue = broker.queue(
        "q", schema=bytes, version=2, upcasters={1: lambda body: body + b"2"}
    )
    message = queue.receive()
    assert message is not None
    assert (message.data, message.body) == (b"a2", b"a")


def test_what_an_upcaster_gives_is_checked(broker: embq.Broker) -> None:
    """An upcaster that gives what cannot be encoded or does not fit is found out."""
    wrong: Any
    for wrong, error in (
        (object(), "encoding what the upcasters gave: BodyError"),
        ("x", "Expected `int`, got `str`"),
    ):
        broker.queue("q").send(1)

        def upcaster(data: Any, wrong: Any = wrong) -> Any:
            return wrong

        queue = broker.queue("q", schema=int, version=2, upcasters={1: upcaster})
        assert queue.receive() is None
        dead = broker.queue("q.dead").receive(auto_ack=True)
        assert dead is not None
        assert dead.history[0]["error"] == f"schema: {error}"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"upcasters": LIFT}, "upcasters"),
        ({"version": 0}, "version"),
        ({"version": True}, "version"),
        ({"version": "1"}, "version"),
        ({"version": 3, "upcasters": [to_cents]}, "upcasters"),
        ({"version": 3, "upcasters": {1: to_cents}}, "upcasters"),
        ({"version": 4, "upcasters": LIFT}, "upcasters"),
        ({"version": 2, "upcasters": LIFT}, "upcasters"),
        ({"version": 2, "upcasters": {0: to_cents, 1: to_cents}}, "upcasters"),
        ({"version": 2, "upcasters": {"1": to_cents}}, "upcasters"),
        ({"version": 2, "upcasters": {1: None}}, "upcasters"),
    ],
)
def test_versions_that_lead_nowhere(
    broker: embq.Broker, options: dict[str, Any], what: str
) -> None:
    """A gap, or an upcaster beyond the version, is refused before anything is done."""
    with pytest.raises(InvalidArgument, match=f"^{what}: "):
        broker.queue("q", schema=Order, **options)
    assert broker.queues() == []


def test_no_upcaster_is_needed_for_the_first_version(broker: embq.Broker) -> None:
    """`upcasters={}` is as good as none, and version 1 reads what says no version."""
    broker.queue("q").send({"cents": 1, "currency": "EUR"})
    queue = broker.queue("q", schema=Order, version=1, upcasters={})
    message = queue.receive()
    assert message is not None
    assert (message.data, message.version) == (Order(1, "EUR"), 1)


def test_a_body_error_sends_nothing(broker: embq.Broker) -> None:
    """An older form is not lifted on its way in: the sender is to be mended."""
    with pytest.raises(BodyError):
        current(broker).send({"euros": 5})  # type: ignore[arg-type]
    assert broker.queue("q").depth() == 0
