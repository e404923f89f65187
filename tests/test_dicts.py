"""A message as a dict, and sent again from it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

import embq
from embq.errors import InvalidArgument

if TYPE_CHECKING:
    from pathlib import Path

WHOLE: dict[str, Any] = {
    "type": "t",
    "source": "s",
    "key": "k",
    "headers": {"a": [1]},
    "version": 2,
    "correlation_id": "c",
    "reply_to": "r",
    "priority": 7,
}
# What counts from the sending, and so is said anew for each.
ANEW = {"delay", "at", "ttl", "dedup_id"}


@pytest.mark.parametrize("fields", [{}, {"key": "k"}, {"headers": {}}, WHOLE])
def test_what_to_dict_gives_can_be_sent_again(
    path: Path, fields: dict[str, Any]
) -> None:
    """Through JSON and back, a message differs by its id, time and count alone."""
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        queue.send({"a": 1}, **fields)
        first = queue.receive(auto_ack=True)
        assert first is not None
        text = json.dumps(first.to_dict())
        queue.send_many([embq.Outgoing.from_dict(json.loads(text))])
        second = queue.receive(auto_ack=True)
        assert second is not None
        assert second.id != first.id
        ours = {"id": first.id, "timestamp": first.to_dict()["timestamp"]}
        assert {**second.to_dict(), **ours} == first.to_dict()


def test_no_field_is_forgotten(path: Path) -> None:
    """Every field of `Outgoing` but times comes back from the dict of its message."""
    assert {"data", *WHOLE} == set(embq.Outgoing.__struct_fields__) - ANEW
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        queue.send(1, **WHOLE)
        message = queue.receive(auto_ack=True)
        assert message is not None
        assert embq.Outgoing.from_dict(message.to_dict()) == embq.Outgoing(1, **WHOLE)


def test_the_end_of_its_life_is_told_and_not_sent_again(path: Path) -> None:
    """A dict says when its message perishes; what is sent of it has its own `ttl`."""
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        queue.send(1, ttl=60)
        message = queue.receive(auto_ack=True)
        assert message is not None
        given = message.to_dict()
        assert datetime.fromisoformat(given["metadata"]["expiresAt"]) == (
            message.expires_at
        )
        again = embq.Outgoing.from_dict(given)
        assert again == embq.Outgoing(1, priority=4)
        queue.send_many([again])
        message = queue.receive(auto_ack=True)
        assert message is not None
        assert "expiresAt" not in message.to_dict()["metadata"]


def test_the_dict_of_a_plain_message_suits_an_ordered_queue(path: Path) -> None:
    """The default priority, which each dict says, is taken by an ordered queue."""
    with embq.open(path, durability="normal") as broker:
        broker.queue("q").send(1)
        message = broker.queue("q").receive(auto_ack=True)
        assert message is not None
        assert message.to_dict()["metadata"]["priority"] == 4
        ordered = broker.queue("o", ordered="key")
        ordered.send_many([embq.Outgoing.from_dict(message.to_dict())])
        assert ordered.depth() == 1


def test_every_sending_call_takes_every_field(path: Path) -> None:
    """`send`, `send_nowait`, `send_many` and `Broker.send` store the same of all."""
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        fields = {**WHOLE, "ttl": 60}
        queue.send(1, **fields)
        queue.send_nowait(1, **fields).result()
        queue.send_many([embq.Outgoing(1, **fields)])
        broker.send("q", 1, **fields)
        messages = queue.receive_many(9, auto_ack=True)
        assert [message.expires_at is None for message in messages] == [False] * 4
        told = [embq.Outgoing.from_dict(message.to_dict()) for message in messages]
        assert told == [embq.Outgoing(1, **WHOLE)] * 4


@pytest.mark.parametrize(
    "late", [{"delay": 3600}, {"at": datetime.now(UTC) + timedelta(hours=1)}]
)
def test_every_sending_call_can_defer(path: Path, late: dict[str, Any]) -> None:
    """All four take `delay` and `at`."""
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        queue.send(1, **late)
        queue.send_nowait(1, **late).result()
        queue.send_many([embq.Outgoing(1, **late)])
        broker.send("q", 1, **late)
        assert queue.stats()["delayed"] == 4


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({}, "'data' is missing"),
        ({"data": 1, "key": "k"}, "message: unknown: 'key'"),
        ({"data": 1, "metadata": {"retries": 1}}, "metadata: unknown: 'retries'"),
        ({"data": 1, "metadata": 1}, "metadata: int is not a mapping"),
        ([], "message: list is not a mapping"),
    ],
)
def test_what_is_no_message(given: Any, what: str) -> None:
    """A name that is missing or unknown is refused, and named."""
    with pytest.raises(InvalidArgument, match=what):
        embq.Outgoing.from_dict(given)
