"""Redrive: dead letters go back to where they died, or to another queue."""

from typing import Any

import pytest

from embq import Backoff, Outgoing, errors

AT_MOST = 10_000
AT_ONCE = Backoff(0.0, factor=1, cap=0.0, jitter=False)


def bury(queue: Any, count: int, reason: str = "no") -> None:
    """Reject so many messages."""
    for message in queue.receive_many(count):
        message.reject(reason)


def drained(queue: Any) -> list[Any]:
    """Take all that is ready."""
    found: list[Any] = []
    while taken := queue.receive_many(AT_MOST, auto_ack=True):
        found += [message.data for message in taken]
    return found


# ---- what moves, and how it comes ----


def test_it_goes_back(site: Any) -> None:
    """The message comes again under its id, with its fields, history and new tries."""
    queue, dead = site.broker.queue("q"), site.broker.queue("q.dead")
    sent = queue.send({"a": 1}, key="k", type="t", headers={"h": "1"}, priority=7)
    queue.receive().reject("no such customer")
    handle = dead.redrive()
    assert handle.wait() == 1
    assert (handle.moved, handle.skipped, handle.done) == (1, 0, True)
    assert dead.depth() == 0
    message = queue.receive()
    assert (message.id, message.data, message.priority) == (sent.id, {"a": 1}, 7)
    assert (message.key, message.type, message.headers) == ("k", "t", {"h": "1"})
    assert message.receive_count == 1
    assert [entry["error"] for entry in message.history] == ["no such customer"]


def test_it_may_die_again(site: Any) -> None:
    """It has all its tries again; then its history has one entry more."""
    queue = site.broker.queue("q", max_receives=2, retry=AT_ONCE)
    dead = site.broker.queue("q.dead")
    queue.send("x")
    for _ in range(2):
        queue.receive().nack()
    assert dead.redrive().wait() == 1
    for number in (1, 2):
        message = queue.receive()
        assert message.receive_count == number
        message.nack()
    (message,) = dead.receive_many(AT_MOST)
    assert [entry["hops"] for entry in message.history] == [1, 2]


def test_each_goes_to_its_own_queue(site: Any) -> None:
    """Of a dead-letter queue that is shared, each goes where it died."""
    one = site.broker.queue("one", dead_letter="graves")
    two = site.broker.queue("two", dead_letter="graves")
    one.send_many([1, 2])
    two.send_many([3, 4, 5])
    bury(one, 2)
    bury(two, 3)
    assert site.broker.queue("graves").redrive().wait() == 5
    assert (drained(one), drained(two)) == ([1, 2], [3, 4, 5])


def test_to_another_queue(site: Any) -> None:
    """Where to, can be said; the order stays."""
    queue, dead = site.broker.queue("q"), site.broker.queue("q.dead")
    other = site.broker.queue("other")
    queue.send_many(range(5))
    bury(queue, 5)
    assert dead.redrive(to="other").wait() == 5
    assert (queue.depth(), drained(other)) == (0, [0, 1, 2, 3, 4])


def test_of_the_dead_of_the_dead(site: Any) -> None:
    """What died in the dead-letter queue itself goes back there."""
    queue = site.broker.queue("q")
    dead = site.broker.queue("q.dead", dead_letter="q.dead.dead")
    queue.send("x")
    queue.receive().reject("one")
    dead.receive().reject("two")
    last = site.broker.queue("q.dead.dead")
    assert last.redrive().wait() == 1
    assert dead.depth() == 1
    assert dead.redrive().wait() == 1
    assert drained(queue) == ["x"]


def test_all_that_nobody_holds(site: Any) -> None:
    """New, waiting, delayed and of any priority; what is in flight stays."""
    dead, other = site.broker.queue("dead"), site.broker.queue("other")
    dead.send_many([Outgoing(n, priority=n % 10) for n in range(30)])
    held = dead.receive()
    dead.receive().nack(delay=100)
    dead.receive().nack(delay=0)
    again = dead.receive()
    dead.receive().nack(delay=0)
    dead.send_many([Outgoing("later", delay=9), Outgoing("short", ttl=9)])
    handle = dead.redrive(to="other")
    assert handle.wait() == 30
    stats = dead.stats()
    assert (stats["messages"], stats["in_flight"], stats["redriven"]) == (2, 2, 30)
    assert other.stats()["ready"] == 30
    held.ack()
    again.ack()
    assert (dead.depth(), dead.stats()["bytes"]) == (0, 0)
    site.clock.advance(1000)
    assert len(drained(other)) == 30


def test_of_many(site: Any) -> None:
    """More than one step of the core; what comes later is not touched."""
    dead, other = site.broker.queue("dead"), site.broker.queue("other")
    dead.send_many(range(3000))
    held = dead.receive_many(100)
    for message in dead.receive_many(500):
        message.nack(delay=50)
    assert dead.redrive(to="other").wait() == 2900
    assert sorted(drained(other)) == list(range(100, 3000))
    for message in held:
        message.ack()
    assert dead.depth() == 0


def test_the_ttl_of_where_it_goes(site: Any) -> None:
    """A ttl begins anew, as long as the queue says."""
    queue, dead = site.broker.queue("q", ttl=10), site.broker.queue("q.dead")
    queue.send("x")
    site.clock.advance(11)
    assert queue.receive() is None
    assert dead.redrive().wait() == 1
    site.clock.advance(9)
    assert queue.stats()["ready"] == 1
    site.clock.advance(2)
    assert queue.receive() is None
    (message,) = dead.receive_many(AT_MOST)
    assert [entry["reason"] for entry in message.history] == ["ttl", "ttl"]


def test_to_an_ordered_queue(site: Any) -> None:
    """They come behind the others of their keys, in their order."""
    queue = site.broker.queue("q", ordered="key", dead_letter="graves")
    graves = site.broker.queue("graves")
    queue.send_many([Outgoing(n, key="a") for n in range(3)])
    for _ in range(2):
        queue.receive().reject("no")
    assert graves.redrive().wait() == 2
    came = []
    while message := queue.receive():
        came.append(message.data)
        assert queue.receive() is None
        message.ack()
    assert came == [2, 0, 1]


def test_a_blocked_one_moves(site: Any) -> None:
    """From an ordered queue goes what waits behind another; that one stays."""
    queue, other = site.broker.queue("q", ordered="key"), site.broker.queue("other")
    queue.send_many([Outgoing(n, key="a") for n in range(3)])
    first = queue.receive()
    assert queue.receive() is None
    assert queue.redrive(to="other").wait() == 2
    queue.send("next", key="a")
    assert queue.receive() is None
    first.ack()
    assert queue.receive().data == "next"
    assert drained(other) == [1, 2]


def test_the_first_of_a_key_moves(site: Any) -> None:
    """It frees its key: the next one waits no longer."""
    options = {"ordered": "key", "retry": Backoff(50.0, jitter=False)}
    queue, other = site.broker.queue("q", **options), site.broker.queue("other")
    queue.send("first", key="a", type="t")
    queue.send("next", key="a")
    queue.receive().nack()
    assert queue.receive() is None
    assert queue.redrive(to="other", where={"type": "t"}).wait() == 1
    assert queue.receive().data == "next"
    assert drained(other) == ["first"]


def test_cancel_what_came_back(site: Any) -> None:
    """A message is found by its id where it was before."""
    queue, dead = site.broker.queue("q"), site.broker.queue("q.dead")
    sent = queue.send("x")
    queue.receive().reject("no")
    assert dead.redrive().wait() == 1
    assert queue.cancel(sent.id) is True
    assert queue.depth() == 0


# ---- where ----


def mixed(site: Any) -> tuple[Any, Any]:
    """Make dead letters of two queues and two reasons."""
    one = site.broker.queue("one", dead_letter="graves", max_receives=1, retry=AT_ONCE)
    two = site.broker.queue("two", dead_letter="graves")
    one.send_many([Outgoing(n, type="even" if n % 2 == 0 else "odd") for n in range(4)])
    two.send_many([Outgoing(n, key=f"k{n}", source="there") for n in range(4, 6)])
    for _ in range(3):
        one.receive().nack()
    one.receive().reject("no")
    bury(two, 2)
    return one, two


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"reason": "max_receives"}, [0, 1, 2]),
        ({"reason": ["rejected"]}, [3, 4, 5]),
        ({"queue": "one", "reason": "rejected"}, [3]),
        ({"queue": ["one", "two"]}, [0, 1, 2, 3, 4, 5]),
        ({"type": "odd"}, [1, 3]),
        ({"type": ["odd", None]}, [1, 3, 4, 5]),
        ({"type": None}, [4, 5]),
        ({"source": "there", "key": "k5"}, [5]),
        ({"key": "k9"}, []),
        ({"key": []}, []),
        ({"key": "' or 1=1 --"}, []),
    ],
)
def test_where(site: Any, where: dict[str, Any], wanted: list[int]) -> None:
    """Only what has these values goes; the rest stays, and is not counted."""
    mixed(site)
    other, graves = site.broker.queue("other"), site.broker.queue("graves")
    handle = graves.redrive(to="other", where=where)
    assert (handle.wait(), handle.skipped) == (len(wanted), 0)
    assert sorted(drained(other)) == wanted
    assert sorted(drained(graves)) == sorted(set(range(6)) - set(wanted))


def test_where_asks_the_newest_entry(site: Any) -> None:
    """What counts is how it died the last time."""
    queue = site.broker.queue("q", max_receives=1, retry=AT_ONCE)
    dead = site.broker.queue("q.dead")
    queue.send("x")
    queue.receive().reject("no")
    assert dead.redrive().wait() == 1
    queue.receive().nack()
    assert dead.redrive(where={"reason": "rejected"}).wait() == 0
    assert dead.redrive(where={"reason": "max_receives"}).wait() == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"to": "dead"},
        {"to": ""},
        {"to": 5},
        {"where": {"colour": "red"}},
        {"where": {"type": 5}},
        {"where": {"type": [5]}},
        {"where": "type"},
        {"rate": 0},
        {"rate": -1},
        {"rate": float("nan")},
        {"rate": "fast"},
        {"rate": True},
    ],
)
def test_odd_arguments(site: Any, arguments: dict[str, Any]) -> None:
    """CASE 43: what makes no sense is refused, and nothing moves."""
    dead = site.broker.queue("dead")
    site.broker.queue("other")
    dead.send("x")
    with pytest.raises(errors.InvalidArgument):
        dead.redrive(**{"to": "other", **arguments})
    assert dead.depth() == 1


# ---- what stays ----


def test_no_such_queue(site: Any) -> None:
    """Where they are to go must be there."""
    dead = site.broker.queue("dead")
    with pytest.raises(errors.NotFound):
        dead.redrive(to="nowhere")


def test_what_never_died(site: Any) -> None:
    """It has nowhere to go: it stays, and is counted."""
    queue, dead = site.broker.queue("q"), site.broker.queue("q.dead")
    dead.send("stranger")
    queue.send("x")
    queue.receive().reject("no")
    handle = dead.redrive()
    assert (handle.wait(), handle.skipped) == (1, 1)
    assert (drained(dead), drained(queue)) == (["stranger"], ["x"])


def test_what_stays_is_passed_once(site: Any) -> None:
    """More than one step of what has nowhere to go."""
    dead = site.broker.queue("dead")
    dead.send_many(range(600))
    handle = dead.redrive()
    assert (handle.wait(timeout=10), handle.skipped) == (0, 600)
    assert dead.depth() == 600


def test_another_codec(site: Any) -> None:
    """Bodies are not translated: such a message stays."""
    dead, raw = site.broker.queue("dead"), site.broker.queue("raw", codec="raw")
    dead.send_many(["a", "b"])
    handle = dead.redrive(to="raw")
    assert (handle.wait(), handle.skipped) == (0, 2)
    assert (dead.depth(), raw.depth()) == (2, 0)


def test_of_nothing(site: Any) -> None:
    """An empty queue; the handle says so again and again."""
    dead = site.broker.queue("dead")
    handle = dead.redrive()
    assert (handle.wait(), handle.wait(timeout=1), handle.moved) == (0, 0, 0)
    assert handle.cancel() is False
    assert dead.redrive().wait() == 0


def test_by_the_other_process(site: Any) -> None:
    """Another process sees the messages come."""
    queue, there = site.broker.queue("q"), site.other().queue("q")
    queue.send_many(range(3))
    bury(queue, 3)
    assert site.broker.queue("q.dead").redrive().wait() == 3
    assert [message.data for message in there.receive_many(AT_MOST)] == [0, 1, 2]
