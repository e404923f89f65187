"""Messages as CloudEvents 1.0: valid by the `cloudevents` package, nothing lost."""

from __future__ import annotations

import base64
import json
import string
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import embq
from embq.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVENT = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t"}
some = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# What an attribute can be, and names of extensions; some of them embq's own.
texts = st.text(
    st.characters(
        exclude_categories=["Cs", "Cc"],
        exclude_characters=[chr(c) for c in range(0xFDD0, 0xFDF0)]
        + [chr(p << 16 | e) for p in range(17) for e in (0xFFFE, 0xFFFF)],
    ),
    min_size=1,
)
ints = st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 10)
names = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=20)
names |= st.sampled_from(
    ["version", "correlationid", "replyto", "priority", "expirytime", "traceparent"]
)
core = {*EVENT, "subject", "time", "datacontenttype", "dataschema", "data", "embq"}
uris = st.sampled_from(["/a", "urn:x:1", "https://e.org/a?b=%20#c", "../x", "/embq/q"])
times = ["2026-11-24T12:00:00Z", "1985-04-12T23:20:50.52Z", "1990-12-31T23:59:59+01:00"]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


ours = st.sampled_from(["ce-id", "ce-time", "ce-dataschema", "id", "embq", "data"])


@st.composite
def events(draw: Any) -> dict[str, Any]:
    """Make a valid event of whatever sender, with JSON as data."""
    event = {
        **draw(
            st.dictionaries(
                names.filter(lambda name: name not in core),
                texts | st.just("") | ints | st.booleans(),
                max_size=4,
            )
        ),
        "specversion": "1.0",
        "id": draw(texts),
        "source": draw(uris),
        "type": draw(texts),
        "datacontenttype": draw(st.sampled_from(["application/json", "text/x+json"])),
        "time": draw(st.sampled_from(times)),
        "subject": draw(st.none() | texts),
        "dataschema": draw(st.none() | uris),
        "data": draw(values),
    }
    return {name: value for name, value in event.items() if value is not None}


@pytest.fixture
def broker(path: Path) -> Iterator[embq.Broker]:
    """A broker on a file."""
    with embq.open(path, durability="normal") as made:
        yield made


def through(queue: embq.Queue[Any], outgoing: embq.Outgoing[Any]) -> Any:
    """Send it and receive it."""
    queue.send_many([outgoing])
    message = queue.receive(auto_ack=True)
    assert message is not None
    return message


def checked(event: dict[str, Any]) -> dict[str, Any]:
    """Take an event through the package, which raises when it is not valid."""
    read = JSONFormat().read(None, json.dumps(event))
    written: dict[str, Any] = json.loads(JSONFormat().write(read))
    assert written.keys() == event.keys()
    for name in event.keys() - {"time", "data"}:  # a time may be written otherwise
        assert written[name] == event[name]
    return event


@some
@given(event=events())
def test_an_event_leaves_as_it_came(broker: embq.Broker, event: dict[str, Any]) -> None:
    """In and out through a queue: the same event, id and time included."""
    checked(event)
    message = through(broker.queue("q"), embq.Outgoing.from_cloudevent(event))
    assert message.type == event["type"]
    assert message.source == event["source"]
    assert message.data == event.get("data")
    assert message.key == event.get("subject")
    assert checked(message.to_cloudevent()) == event


@some
@given(
    type_=st.none() | anything,
    source=st.none() | anything,
    key=st.none() | anything,
    headers=st.dictionaries(anything | names | ours, values),
    version=st.none() | st.integers(-(2**60), 2**60) | anything,
    correlation_id=st.none() | anything,
    reply_to=st.none() | anything,
    priority=st.sampled_from([None, 0, 3, 5, 9]),
    data=values,
)
def test_a_message_comes_back_whole(
    broker: embq.Broker, type_: str | None, source: str | None, data: Any, **rest: Any
) -> None:
    """Whatever its fields: a valid event, of which the same message can be made."""
    queue = broker.queue("q & co")
    sent = embq.Outgoing(data, type_, source, **rest)
    message = through(queue, sent)
    event = checked(message.to_cloudevent())
    made = embq.Outgoing.from_cloudevent(event)
    # What an event must have, and what the message that it makes would get anew.
    sent.type = "embq.message" if type_ is None else type_
    sent.source = "/embq/q%20%26%20co" if source is None else source
    given = {"ce-id": event["id"], "ce-time": event["time"], **rest["headers"]}
    sent.headers = given
    assert made == sent
    again = checked(through(queue, made).to_cloudevent())
    if not rest["headers"].keys() & {"ce-id", "ce-time"}:  # what can be anything
        assert again == event


def test_a_plain_message(broker: embq.Broker) -> None:
    """The event of a message that says nothing has what the specification asks for."""
    message = through(broker.queue("a/b"), embq.Outgoing({"a": 1}))
    assert checked(message.to_cloudevent()) == {
        "specversion": "1.0",
        "id": message.id,
        "source": "/embq/a%2Fb",
        "type": "embq.message",
        "time": message.to_dict()["timestamp"],
        "datacontenttype": "application/json",
        "data": {"a": 1},
    }


def test_where_things_go(broker: embq.Broker) -> None:
    """Headers become extensions where they can; the rest is JSON text in one."""
    sent = embq.Outgoing(
        1,
        type="t",
        source="https://e.org",
        key="k",
        headers={"traceparent": "00-1", "retry": True, "X-Y": "z", "list": [1]},
        version=3,
        correlation_id="c",
        reply_to="r",
        priority="high",
    )
    event = checked(through(broker.queue("q"), sent).to_cloudevent())
    del event["id"], event["time"]
    assert event == {
        "specversion": "1.0",
        "source": "https://e.org",
        "type": "t",
        "subject": "k",
        "datacontenttype": "application/json",
        "data": 1,
        "version": 3,
        "correlationid": "c",
        "replyto": "r",
        "priority": 7,
        "traceparent": "00-1",
        "retry": True,
        "embq": '{"headers":{"X-Y":"z","list":[1]}}',
    }


def test_the_default_priority_goes_without_saying(broker: embq.Broker) -> None:
    """No event says 4 for embq; one that came in with it leaves with it."""
    queue = broker.queue("q")
    event = checked(through(queue, embq.Outgoing(1, priority=4)).to_cloudevent())
    assert "priority" not in event
    outgoing = embq.Outgoing.from_cloudevent({**event, "priority": 4})
    assert outgoing.priority is None
    assert through(queue, outgoing).to_cloudevent() == {**event, "priority": 4}


@pytest.mark.parametrize("value", [-1, 10, True, "high", "7"])
def test_what_is_no_priority_of_ours(broker: embq.Broker, value: Any) -> None:
    """An extension "priority" of another kind is a header, and leaves as it came."""
    outgoing = embq.Outgoing.from_cloudevent({**EVENT, "priority": value})
    assert outgoing.priority is None
    event = checked(through(broker.queue("q"), outgoing).to_cloudevent())
    assert event["priority"] == value


def test_the_end_of_a_life(broker: embq.Broker) -> None:
    """What has a `ttl` says "expirytime"; one that came in with it is a header."""
    queue = broker.queue("q")
    first = through(queue, embq.Outgoing(1, ttl=60))
    event = checked(first.to_cloudevent())
    assert datetime.fromisoformat(event["expirytime"]) == first.expires_at
    outgoing = embq.Outgoing.from_cloudevent(event)
    assert outgoing.ttl is None
    second = through(queue, outgoing)
    assert second.expires_at is None
    assert second.headers["expirytime"] == event["expirytime"]
    assert second.to_cloudevent() == event
    outgoing.ttl = 30
    assert through(queue, outgoing).to_cloudevent() == event


def test_headers_named_like_fields(broker: embq.Broker) -> None:
    """A header is not taken for the field whose extension has its name."""
    headers = {"correlationid": "x", "version": 1, "replyto": True, "id": "y"}
    headers["priority"] = 7
    message = through(broker.queue("q"), embq.Outgoing(1, headers=headers))
    event = checked(message.to_cloudevent())
    assert event["replyto"] is True  # no field is like this, so it needs no care
    assert event.keys().isdisjoint({"correlationid", "version", "priority"})
    outgoing = embq.Outgoing.from_cloudevent(event)
    assert outgoing.correlation_id is outgoing.version is outgoing.reply_to is None
    assert outgoing.priority is None
    assert outgoing.headers is not None
    assert outgoing.headers.items() >= headers.items()


@pytest.mark.parametrize(
    ("codec", "data", "kind"),
    [
        ("raw", b"\xff\0", "application/octet-stream"),
        ("raw", b"", "application/octet-stream"),
        ("msgpack", {"a": b"\xff"}, "application/msgpack"),
        ("msgpack", None, "application/msgpack"),
    ],
)
def test_binary_data(broker: embq.Broker, codec: Any, data: Any, kind: str) -> None:
    """Bodies that are no JSON travel as base64, and come back as they were."""
    queue = broker.queue("q", codec=codec)
    message = through(queue, embq.Outgoing(data))
    event = checked(message.to_cloudevent())
    assert event["datacontenttype"] == kind
    assert base64.b64decode(event["data_base64"]) == message.body
    again = through(queue, embq.Outgoing.from_cloudevent(event))
    assert again.data == data
    assert again.to_cloudevent() == event


@pytest.mark.parametrize("kind", [None, "application/json", "image/png"])
def test_binary_events_leave_as_they_came(
    broker: embq.Broker, kind: str | None
) -> None:
    """Base64 of whatever type goes through a raw queue; without one it is JSON."""
    event = {**EVENT, "time": "2026-11-24T12:00:00Z", "data_base64": "e30="}
    event |= {"datacontenttype": kind} if kind else {}
    message = through(
        broker.queue("q", codec="raw"), embq.Outgoing.from_cloudevent(event)
    )
    assert message.data == b"{}"
    event["datacontenttype"] = kind or "application/json"
    assert message.to_cloudevent() == event


@pytest.mark.parametrize(
    ("source", "uri"),
    [("my app", "my%20app"), ("5%", "5%25"), ("ü", "%C3%BC"), ("", "/embq/q")],
)
def test_a_source_that_is_no_uri(broker: embq.Broker, source: str, uri: str) -> None:
    """It is escaped as RFC 3986 asks, and comes back as it was."""
    message = through(broker.queue("q"), embq.Outgoing(1, source=source))
    event = checked(message.to_cloudevent())
    assert event["source"] == uri
    assert embq.Outgoing.from_cloudevent(event).source == source


def test_a_typed_message(broker: embq.Broker) -> None:
    """The event of a typed message has JSON as data, and no object of the type."""
    queue = broker.queue("q", schema=set[int])
    message = through(queue, embq.Outgoing({1}))
    assert message.data == {1}
    assert checked(message.to_cloudevent())["data"] == [1]


def test_absent_is_null(broker: embq.Broker) -> None:
    """An attribute that is null is absent, as the JSON format says."""
    event = {**EVENT, "subject": None, "data": None, "time": None, "x": None}
    outgoing = embq.Outgoing.from_cloudevent(event)
    assert (outgoing.key, outgoing.data) == (None, None)
    assert outgoing.headers == {"ce-id": "1"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"specversion": "0.3"}, "'specversion' is not '1.0'"),
        ({"id": None}, "'id' is missing"),
        ({"source": ""}, "'source' is not a text"),
        ({"type": 5}, "'type' is not a text"),
        ({"time": "geheim"}, "'time' is not a time"),
        ({"time": "2026-11-24T12:00:00"}, "'time' is not a time"),
        ({"subject": "a\0geheim"}, "'subject' is not a text"),
        ({"dataSchema": "geheim"}, "'dataSchema' is no name"),
        ({"x": 1.5}, "'x' is no text"),
        ({"x": 2**31}, "'x' is no text"),
        ({"x": ["geheim"]}, "'x' is no text"),
        ({"data": 1, "data_base64": ""}, "'data' is there twice"),
        ({"data_base64": "geheim!"}, "'data_base64' is not base64"),
        ({"data_base64": 5}, "'data_base64' is not base64"),
        (
            {"data_base64": "wQ==", "datacontenttype": "application/msgpack"},
            "'data_base64' is not msgpack",
        ),
        ({"embq": "geheim"}, "'embq' is not what embq writes"),
        ({"embq": "[]"}, "'embq' is not what embq writes"),
        ({"embq": '{"data": "geheim"}'}, "'embq' is not what embq writes"),
        ({"embq": '{"headers": "geheim"}'}, "'embq' is not what embq writes"),
    ],
)
def test_what_is_no_event(change: dict[str, Any], what: str) -> None:
    """It is refused, by the attribute's name and without its value."""
    with pytest.raises(InvalidArgument, match=f"^event: {what}") as caught:
        embq.Outgoing.from_cloudevent({**EVENT, **change})
    assert "geheim" not in str(caught.value).replace("dataSchema", "")
    with pytest.raises(InvalidArgument, match="not a mapping"):
        embq.Outgoing.from_cloudevent([EVENT])  # type: ignore[arg-type]
