"""No payload in an error, a log, a warning or a repr: those end up anywhere."""

import gc
import os
import pickle
import sqlite3
import time
import traceback
import typing
import warnings
from collections.abc import Callable
from contextlib import closing
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

import embq
from embq import errors
from embq.cli import cli

SECRET = "4111-1111"
LARGE = {"card": SECRET, "more": "x" * 1000}


class Kind(Enum):
    """A schema whose misfits msgspec quotes."""

    CASH = "cash"


class Card(msgspec.Struct, forbid_unknown_fields=True, tag="card"):
    """Another."""

    number: typing.Annotated[str, msgspec.Meta(pattern="^x")]


class Leaky:
    """What cannot be encoded, and shows what it has."""

    def __repr__(self) -> str:
        return SECRET


def hook(value: Any) -> Any:
    """Fail, as an enc_hook may, by quoting what it was given."""
    raise NotImplementedError(repr(value))


def replaced(broker: Any) -> None:
    """Send to a file that was moved away."""
    path = Path(broker.path)
    broker.queue("q").send(SECRET)
    path.rename(path.with_name("moved.db"))
    broker.queue("q").send(SECRET)


def busy(broker: Any) -> None:
    """Send while another has the write lock."""
    queue = broker.queue("q")
    with closing(sqlite3.connect(broker.path, isolation_level=None)) as connection:
        connection.execute("begin immediate")
        queue.send(SECRET, timeout=0.05)


def no_database(broker: Any) -> None:
    """Open what has a payload, and is no database."""
    path = Path(broker.path).with_name("notes.txt")
    path.write_text(SECRET * 100)
    embq.open(path)


def full_disk(broker: Any) -> None:
    """Send when there is no room."""
    embq.open(broker.path, disk_reserve=1 << 60).queue("q").send(SECRET)


def full_queue(broker: Any) -> None:
    """Send beyond a bound."""
    queue = broker.queue("bounded", max_messages=1, overflow="reject")
    queue.send_many([SECRET, SECRET])


def twice(broker: Any) -> None:
    """Settle twice, with a reason that quotes the payload."""
    broker.queue("q").send(SECRET)
    message = broker.queue("q").receive()
    message.ack()
    message.nack(error=SECRET)


def foreign(broker: Any) -> None:
    """Settle in another queue."""
    broker.queue("q").send(SECRET)
    broker.queue("other").ack_many([broker.queue("q").receive()])


def closed(broker: Any) -> None:
    """Send after close."""
    queue = broker.queue("q")
    broker.close()
    queue.send(SECRET)


def typed(schema: Any, data: Any, **options: Any) -> Callable[[Any], Any]:
    """Send what does not fit."""
    return lambda broker: broker.queue("q", schema=schema, **options).send(data)


def read(schema: Any, data: Any, **options: Any) -> Callable[[Any], Any]:
    """Look at what does not fit."""

    def call(broker: Any) -> Any:
        broker.queue("q").send(data)
        (message,) = broker.queue("q", schema=schema, **options).peek(1)
        return message.data

    return call


#: By what is raised: ways to get there with a payload in hand.
WAYS: dict[str, list[Callable[[Any], Any]]] = {
    "InvalidArgument": [
        lambda broker: broker.queue("q").send(SECRET, delay=-1),
        lambda broker: broker.queue("q").send(SECRET, headers={"a": Leaky()}),
        lambda broker: broker.queue("q").send(SECRET, headers={"a": SECRET + "\ud800"}),
        lambda broker: broker.queue("q").send(SECRET, type=Leaky()),
        lambda broker: broker.queue("q").send(SECRET, version=Leaky()),
        lambda _: embq.Outgoing.from_dict({"data": SECRET, "metadata": Leaky()}),
        lambda _: embq.Outgoing.from_cloudevent({"data": SECRET, "id": Leaky()}),
    ],
    "NotFound": [lambda broker: broker.send("nobody", SECRET)],
    "QueueFull": [full_queue],
    "StorageFull": [full_disk],
    "MessageTooLarge": [lambda broker: broker.queue("q", max_body=100).send(LARGE)],
    "BodyError": [
        lambda broker: broker.queue("q").send(Leaky()),
        lambda broker: broker.queue("q").send({"a": Leaky(), "b": SECRET}),
        lambda broker: broker.queue("q").send(SECRET + "\ud800"),
        lambda broker: broker.queue("q", codec="raw").send(SECRET),
        lambda broker: broker.queue("q", codec="msgpack").send([1 << 80, SECRET]),
        typed(Kind, SECRET),
        typed(typing.Literal["a"], SECRET),
        typed(Card, {"type": SECRET, "number": "x"}),
        typed(Card, {"type": "card", "number": SECRET}),
        typed(Card, {"type": "card", "number": "x", SECRET: 1}),
        typed(dict[str, int], {SECRET: "no"}),
        read(Kind, SECRET),
        read(Card, {"type": SECRET, "number": "x"}),
        read(Card, {"type": "card", "number": SECRET}),
        read(Card, {"type": "card", "number": "x", SECRET: 1}),
        read(complex, SECRET, dec_hook=lambda _, value: hook(value)),
        read(int, SECRET, version=2, upcasters={1: hook}),
        lambda broker: look(
            broker, "flags = flags & 15, body = cast(x'22ff' || body as blob)"
        ),
        lambda broker: look(
            broker, "flags = flags & 15, body = cast(substr(body, 2) as blob)"
        ),
    ],
    "LeaseLost": [twice],
    "InvalidReceipt": [foreign],
    "Busy": [busy],
    "Closed": [closed],
    "DatabaseReplaced": [replaced],
    "NotAnEmbqFile": [no_database],
    "Corrupt": [
        lambda broker: look(broker, f"attributes = '{SECRET}'"),
        lambda broker: look(broker, f"history = '{SECRET}'"),
    ],
}
#: Those that are raised before a payload is at hand, or by the core, whose texts know
#: none but the file and the queue.
WITHOUT = {
    "Error", "ConfigMismatch", "Full", "CommitUncertain", "StorageReadOnly",
    "StorageIOError", "LimitReached", "SchemaTooNew", "UnsupportedSQLite",
    "UnsupportedFilesystem", "NoMemory", "RedriveUnderWay", "Forked",
}  # fmt: skip


def look(broker: Any, change: str) -> None:
    """Change what is stored behind embq's back, and read all of it."""
    broker.queue("q").send(SECRET)
    with closing(sqlite3.connect(broker.path)) as connection, connection:
        connection.execute(f"update embq_message_0 set {change}")
    message = broker.queue("q").receive()
    for name in ("data", "headers", "history", "type"):
        getattr(message, name)


def shown(error: BaseException) -> list[str]:
    """Give all that is printed of an error, and of what led to it."""
    said = ["".join(traceback.format_exception(error))]
    cause: BaseException | None = error
    while cause is not None:
        said += [str(cause), repr(cause), repr(vars(cause))]
        # What goes to another process with it, or to a service that collects errors.
        said.append(repr(pickle.loads(pickle.dumps(cause)).args))
        cause = cause.__cause__
    # The lines of source that a traceback shows are those of this test.
    return [text.replace("SECRET", "") for text in said]


CASES = [(name, number) for name, ways in WAYS.items() for number in range(len(ways))]


@pytest.mark.parametrize(("name", "number"), CASES)
def test_an_error_shows_no_payload(
    path: Path, caplog: pytest.LogCaptureFixture, name: str, number: int
) -> None:
    """CASE 60: nor does what it was raised from, nor the log."""
    caplog.set_level(0)
    with embq.open(path) as broker:
        with pytest.raises(getattr(errors, name)) as caught:
            WAYS[name][number](broker)
        assert not [text for text in shown(caught.value) if SECRET in text]
        assert SECRET not in caplog.text


def test_no_payload_in_what_a_check_says(path: Path) -> None:
    """CASE 60: a problem names the message and what is wrong, and quotes no body."""
    with embq.open(path) as broker:
        broker.queue("q").send_many([LARGE, SECRET])
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "update embq_message_0 set body = cast(body || 'x' as blob)"
            )
            connection.execute("update embq_state set removed = removed + 1")
            where = f"where type = '{SECRET}'"
            connection.execute(f"create index embq_x on embq_message_0(type) {where}")
        problems = broker.check()
        assert problems
        assert SECRET not in f"{problems} {[str(one) for one in problems]}"
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("drop index embq_x")
        problems = [*broker.check(), *broker.repair()]
        assert {"damaged_body", "message_count"} <= {one.code for one in problems}
        assert SECRET not in f"{problems} {[str(one) for one in problems]}"


def test_every_error_is_here() -> None:
    """CASE 60: no class of the tree is left out."""
    tree = {cls.__name__ for cls in errors._tree(errors.Error)}
    assert tree == set(WAYS) | WITHOUT
    assert not set(WAYS) & WITHOUT


def test_no_payload_in_reprs(path: Path) -> None:
    """CASE 60: no public object shows the data that it has."""
    with embq.open(path) as broker:
        queue = broker.queue("q", codec="msgpack")
        outgoing = embq.Outgoing({"card": SECRET}, headers={"card": SECRET})
        sent = queue.send_many([outgoing])[0]
        ticket = queue.send_nowait([SECRET])
        ticket.result(5)
        message = queue.receive()
        assert message is not None
        message.reject("it did not work")
        dead = broker.queue("q.dead")
        things: list[Any] = [
            *(broker, queue, outgoing, sent, ticket, message, dead.peek(1)),
            *(dead.explain(sent.id), dead.redrive(), queue.messages()),
            *(broker.stats(), queue.stats(), broker.check(), embq.Backoff()),
            *(queue.browse(), dead.get(sent.id)),
        ]
        for thing in things:
            assert SECRET not in f"{thing!r} {thing!s}", type(thing)


def test_no_payload_in_warnings_and_logs(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """CASE 60: what is warned of, and what is logged, names ids and no data."""
    caplog.set_level(0)
    with (
        warnings.catch_warnings(record=True) as warned,
        embq.open(path, durability="normal") as broker,
    ):
        warnings.simplefilter("always")
        queue = broker.queue("q", visibility_timeout=0.1)
        queue.send_many([SECRET, [SECRET], {"card": SECRET}])
        late = queue.receive()
        time.sleep(0.15)
        late.ack()
        assert queue.receive()
        del late
        gc.collect()
        typed_queue = broker.queue("q", schema=int)
        assert typed_queue.receive(wait=0.3) is None
        ticket = queue.send_nowait(SECRET)
        ticket.add_done_callback(lambda _: hook("of the application"))
        ticket.result(5)
        broker.flush()
    said = [str(one.message) for one in warned]
    kinds = {one.category for one in warned}
    assert {embq.LeaseExpiredWarning, ResourceWarning} <= kinds, said
    assert "does not fit" in caplog.text
    assert SECRET not in caplog.text + "".join(said)


def test_no_payload_from_the_command(path: Path) -> None:
    """CASE 60: the command line does not repeat what it could not send."""
    options = ["--file", os.fspath(path), "send", "--create", "q"]
    for words in (["--json", f"{{{SECRET}"], ["--priority", "99", SECRET]):
        done = CliRunner().invoke(cli, [*options, *words])
        assert done.exit_code
        assert SECRET not in done.output
