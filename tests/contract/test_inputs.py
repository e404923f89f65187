"""Inputs: the exact bytes back, or an error before anything is stored."""

from datetime import timedelta
from typing import Any

import pytest

from embq import errors

MIB = 1 << 20
SIZES = (0, 1, 2, 255, 256, 4000, 4095, 4096, 4097, 8192, 65_535, 65_536, MIB - 1, MIB)
NAMES = {
    "sql": "q'; drop table embq_meta; --",
    "quotes": '"q" [q] `q`',
    "path": "../../etc/passwd",
    "emoji": "😀 ünïcode",
    "newline": "a\nb\tc",
    "percent": "%s %d ? :a @b $c",
    "longest": "n" * 255,
    "longest in bytes": "é" * 127,
}
GRAVE = "g" * 250 + ".dead"
NO_NAMES = {"empty": "", "nul": "a\0b", "300": "n" * 300, "300 bytes": "é" * 150}
NO_TIMES = (-1, -0.001, float("nan"), float("inf"), float("-inf"), 1e308, 2**63, True)
NO_NUMBERS = (*NO_TIMES, "1", b"1", [1])


@pytest.mark.parametrize("size", SIZES)
def test_bodies_of_any_size(broker: Any, size: int) -> None:
    """CASE 39: bodies around the sizes of pages and buffers come back as they were."""
    queue = broker.queue("q", codec="raw")
    body = bytes(number * 7 % 256 for number in range(min(size, 1021)))
    body = (body * (size // max(len(body), 1) + 1))[:size]
    queue.send(body)
    message = queue.receive()
    assert message.body == body
    assert message.data == body
    message.ack()


def test_the_limit_and_one_more(broker: Any) -> None:
    """CASE 39: a body of `max_body` bytes is taken, one of one more is not."""
    queue = broker.queue("q", codec="raw", max_body=5000)
    queue.send(b"x" * 5000)
    with pytest.raises(errors.MessageTooLarge):
        queue.send(b"x" * 5001)
    with pytest.raises(errors.MessageTooLarge):
        queue.send_nowait(b"x" * 5001).result(5)
    assert queue.depth() == 1
    assert len(queue.receive().body) == 5000


def test_headers_count_towards_the_limit(broker: Any) -> None:
    """CASE 44: huge headers are refused as a huge body is."""
    queue = broker.queue("q", max_body=1000)
    with pytest.raises(errors.MessageTooLarge):
        queue.send("x", headers={"h": "y" * 1000})
    assert queue.depth() == 0


def test_every_byte(broker: Any) -> None:
    """CASE 39: NUL bytes and invalid UTF-8 are bytes like others."""
    queue = broker.queue("q", codec="raw")
    bodies = [bytes(range(256)), b"\0", b"\0\0\0", b"\xff\xfe\x80", b"a\0b\0"]
    queue.send_many(bodies)
    assert [message.body for message in queue.receive_many(9)] == bodies


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_like_bodies(broker: Any, kind: Any) -> None:
    """A raw queue takes anything that has bytes."""
    queue = broker.queue("q", codec="raw")
    queue.send(kind(b"abc\0"))
    assert queue.receive().data == b"abc\0"


def test_a_bytearray_changed_after_the_call(broker: Any) -> None:
    """CASE 40: what was there at the call is stored."""
    queue = broker.queue("q", codec="raw")
    body = bytearray(b"before")
    queue.send(body)
    body[:] = b"after."
    ticket = queue.send_nowait(body)
    body[:] = b"later."
    ticket.result(5)
    assert [message.data for message in queue.receive_many(2)] == [b"before", b"after."]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize(
    "data",
    [None, True, 0, -1, 2**53, 1.5, "", "\0", "é😀", [], {}, [1, [2, {"a": None}]]],
)
def test_data_comes_back(broker: Any, codec: str, data: Any) -> None:
    """What the codec can hold comes back equal."""
    queue = broker.queue("q", codec=codec)
    queue.send(data)
    assert queue.receive().data == data


@pytest.mark.parametrize("codec", ["json", "msgpack", "raw"])
def test_data_that_cannot_be_encoded(broker: Any, codec: str) -> None:
    """What the codec cannot hold is a `BodyError`, and nothing is stored."""
    queue = broker.queue("q", codec=codec)
    for data in (object(), {"a": object()}, [lambda: None]):
        with pytest.raises(errors.BodyError):
            queue.send(data)
    assert queue.depth() == 0


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_any_name_is_only_a_name(broker: Any, name: str) -> None:
    """CASE 42: SQL, paths and emoji are a name, never the text of a statement."""
    queue = broker.queue(name, dead_letter=GRAVE)
    queue.send("x", key=name, type=name, source=name, headers={name: name})
    message = queue.receive()
    assert (message.key, message.type, message.source) == (name, name, name)
    assert message.headers == {name: name}
    message.reject(name)
    dead = broker.queue(GRAVE).receive()
    assert dead.history[0]["queue"] == name
    assert dead.history[0]["error"] == name


@pytest.mark.parametrize("name", NO_NAMES.values(), ids=NO_NAMES.keys())
def test_what_is_no_name(broker: Any, name: str) -> None:
    """CASE 42: an empty, too long or NUL-holding name is refused everywhere."""
    with pytest.raises(errors.InvalidArgument):
        broker.queue(name)
    with pytest.raises(errors.InvalidArgument):
        broker.queue("q", dead_letter=name)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_duration(broker: Any, value: Any) -> None:
    """CASE 43: every duration refuses it with `InvalidArgument`; nothing changes."""
    queue = broker.queue("q")
    queue.send("x")
    message = queue.receive()
    for call in (
        lambda: message.nack(delay=value),
        lambda: message.extend(value),
        lambda: queue.receive(value),
        lambda: queue.receive_many(1, value),
        lambda: next(iter(queue.messages(wait=value))),
        lambda: queue.send("y", timeout=value),
        lambda: broker.queue("other", visibility_timeout=value),
    ):
        with pytest.raises(errors.InvalidArgument):
            call()
    assert queue.stats()["in_flight"] == 1
    assert queue.depth() == 1
    message.ack()


def test_a_hundred_years(broker: Any) -> None:
    """CASE 43: a century is a duration, a `timedelta` too."""
    century = timedelta(days=36_525)
    queue = broker.queue("q", visibility_timeout=century.total_seconds())
    queue.send_many(["a", "b"])
    one, two = queue.receive_many(2)
    one.extend(century)
    one.nack(delay=century)
    two.nack(delay=century.total_seconds())
    assert queue.stats()["delayed"] == 2


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "1", None], ids=repr)
def test_what_is_no_count(broker: Any, value: Any) -> None:
    """CASE 44: counts are whole numbers of at least 1."""
    queue = broker.queue("q")
    for call in (
        lambda: queue.receive_many(value),
        lambda: broker.queue("other", max_receives=value),
        lambda: broker.queue("other", max_body=value),
    ):
        with pytest.raises(errors.InvalidArgument):
            call()


@pytest.mark.parametrize(
    "fields", [{"key": 1}, {"type": b"t"}, {"source": []}, {"reply_to": 2}], ids=str
)
def test_fields_of_the_wrong_type(broker: Any, fields: dict[str, Any]) -> None:
    """Text fields are text."""
    queue = broker.queue("q")
    with pytest.raises(errors.InvalidArgument):
        queue.send("x", **fields)
    assert queue.depth() == 0


SECRET = "4111-1111-1111-1111"
PAYLOADS: tuple[Any, ...] = ({"card": SECRET, "x": object()}, [SECRET, object()])


@pytest.mark.parametrize("codec", ["json", "msgpack", "raw"])
def test_no_payload_in_errors_and_reprs(broker: Any, codec: str) -> None:
    """CASE 60: what is sent stands in no error's text and in no repr."""
    queue = broker.queue("q", codec=codec, max_body=100)
    said = []
    for data in (*PAYLOADS, SECRET if codec == "raw" else SECRET * 10):
        with pytest.raises((errors.BodyError, errors.MessageTooLarge)) as caught:
            queue.send(data)
        said += [str(caught.value), repr(caught.value)]
    good = SECRET.encode() if codec == "raw" else SECRET
    sent, ticket = queue.send(good), queue.send_nowait(good)
    ticket.result(5)
    for message in queue.receive_many(2):
        said += [repr(message), repr(sent), repr(ticket), repr(queue)]
        message.ack()
        with pytest.raises(errors.LeaseLost) as lost:
            message.nack(error=SECRET)
        said.append(str(lost.value))
    assert not [text for text in said if SECRET in text]
