"""Deleting a queue: it goes with all that it has, and no call finds it any more."""

from collections.abc import Callable
from typing import Any

import pytest

from embq import Outgoing, errors

AT_MOST = 1000
CALLS: dict[str, Callable[[Any], Any]] = {
    "send": lambda queue: queue.send("x"),
    "send_many": lambda queue: queue.send_many(["x", "y"]),
    "receive": lambda queue: queue.receive(),
    "receive_many": lambda queue: queue.receive_many(5),
    "auto_ack": lambda queue: queue.receive(auto_ack=True),
    "pause": lambda queue: queue.pause(),
    "resume": lambda queue: queue.resume(),
    "purge": lambda queue: queue.purge(),
    "cancel": lambda queue: queue.cancel("0" * 32),
    "depth": lambda queue: queue.depth(),
    "stats": lambda queue: queue.stats(),
}


def fill(queue: Any) -> int:
    """Put messages of every kind into it, in every state; how many."""
    queue.send_many([Outgoing(n, priority=n % 10) for n in range(30)])
    queue.send_many([Outgoing("late", delay=9), Outgoing("short", ttl=9)])
    queue.send("once", dedup_id="a")
    for message in queue.receive_many(4)[:3]:
        message.nack(delay=5)
    queue.receive_many(3)
    queue.receive().extend(50)
    return 33


def test_delete(site: Any) -> None:
    """All is gone, and how much it was is told; the others stay."""
    queue, other = site.broker.queue("q"), site.broker.queue("other")
    other.send("y")
    count = fill(queue)
    assert site.broker.delete("q") == count
    with pytest.raises(errors.NotFound):
        site.broker.delete("q")
    with pytest.raises(errors.NotFound):
        site.broker.send("q", "x")
    assert other.receive().data == "y"


def test_delete_of_nothing(site: Any) -> None:
    """An empty queue, one that is not there, and what is no name."""
    site.broker.queue("q")
    assert site.broker.delete("q") == 0
    with pytest.raises(errors.NotFound):
        site.broker.delete("never")
    with pytest.raises(errors.InvalidArgument):
        site.broker.delete("")


def test_delete_of_many(site: Any) -> None:
    """More than one step of the core, of each kind."""
    queue = site.broker.queue("q", dedup_window=1000)
    for _ in range(3):
        queue.send_many(range(1500))
    queue.send_many([Outgoing(n, delay=9, ttl=99) for n in range(1500)])
    queue.send_many([Outgoing(n, dedup_id=f"{n}") for n in range(1500)])
    for message in queue.receive_many(1000)[:700]:
        message.nack(delay=5)
    assert site.broker.delete("q") == 7500
    fresh = site.broker.queue("q", dedup_window=1000)
    assert (fresh.depth(), fresh.receive()) == (0, None)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("again", [False, True], ids=["gone", "another"])
@pytest.mark.parametrize("where", ["here", "there"])
def test_calls_after_a_delete(site: Any, call: str, where: str, *, again: bool) -> None:
    """They fail in every process, also when another queue has the name."""
    here, there = site.broker.queue("q"), site.other().queue("q")
    site.broker.delete("q")
    if again:
        site.broker.queue("q").send("of the other")
    with pytest.raises(errors.NotFound):
        CALLS[call](here if where == "here" else there)
    if again:
        assert site.broker.queue("q").stats()["messages"] == 1


@pytest.mark.parametrize("again", [False, True], ids=["gone", "another"])
@pytest.mark.parametrize("verb", ["ack", "nack", "reject", "extend"])
def test_settling_after_a_delete(site: Any, verb: str, *, again: bool) -> None:
    """Who holds a message of it can settle it no more, nor one of another queue."""
    queue = site.broker.queue("q")
    there = site.other().queue("q")
    queue.send_many(["a", "b"])
    held = [queue.receive(), there.receive()]
    there_too = site.other()
    there_too.delete("q")
    fresh = None
    if again:
        fresh = there_too.queue("q")
        fresh.send_many(["c", "d"])
        assert len(fresh.receive_many(2)) == 2
    given = {"reject": ["no"], "extend": [50]}.get(verb, [])
    for message in held:
        with pytest.raises(errors.NotFound):
            getattr(message, verb)(*given)
    if fresh is not None:
        assert fresh.stats()["in_flight"] == 2


def test_a_new_queue_of_the_name(site: Any) -> None:
    """It is another: empty, with options of its own, and no id is given out again."""
    queue = site.broker.queue("q", codec="raw", max_receives=2)
    queue.pause()
    old = {queue.send(b"x", dedup_id=f"{n}").id for n in range(10)}
    site.broker.delete("q")
    fresh = site.broker.queue("q", codec="json", max_receives=7, ordered="key")
    there = site.other().queue("q", max_receives=7)
    assert not any(fresh.stats()[name] for name in ("messages", "sent", "dropped"))
    new = {there.send(n, dedup_id=f"{n}", key="k").id for n in range(10)}
    assert len(old | new) == 20
    for key in old:
        with pytest.raises(errors.NotFound):
            fresh.cancel(key)
    assert [fresh.receive().data, there.receive()] == [0, None]
    assert fresh.stats()["bytes"] == 10


def test_again_and_again(site: Any) -> None:
    """The name may come and go, and another queue may come between."""
    for number in range(5):
        queue = site.broker.queue("q")
        queue.send_many([number, number])
        other = site.broker.queue(f"other {number}")
        other.send(number)
        assert [message.data for message in queue.receive_many(5)] == [number, number]
        assert other.receive().data == number
        assert site.broker.delete("q") == 2


def test_send_by_name_after_a_delete(site: Any) -> None:
    """The name means the queue that has it now, whoever deleted the one before."""
    site.broker.queue("q")
    site.broker.send("q", 1)
    there = site.other()
    there.delete("q")
    with pytest.raises(errors.NotFound):
        site.broker.send("q", 2)
    there.queue("q")
    site.broker.send("q", 3)
    there.delete("q")
    fresh = there.queue("q")
    site.broker.send("q", 4)
    assert [message.data for message in fresh.receive_many(AT_MOST)] == [4]


def test_delete_of_dead_letters(site: Any) -> None:
    """The next dead letter makes the queue again."""
    queue = site.broker.queue("q")
    queue.send_many(["a", "b"])
    queue.receive().reject("no")
    assert site.broker.delete("q.dead") == 1
    queue.receive().reject("no")
    assert site.broker.queue("q.dead").receive().data == "b"


def test_nothing_of_it_becomes_a_dead_letter(site: Any) -> None:
    """Leases that end, and lives, after the queue was deleted."""
    queue = site.broker.queue("q", max_receives=1, visibility_timeout=5)
    other = site.broker.queue("other")
    there = site.other().queue("q")
    queue.send_many([Outgoing(n, ttl=9) for n in range(3)])
    assert queue.receive() is not None
    assert there.receive() is not None
    site.broker.delete("q")
    site.clock.advance(100)
    assert other.receive() is None
    with pytest.raises(errors.NotFound):
        site.broker.delete("q.dead")


def test_a_suspect_of_it_keeps_none_back(site: Any) -> None:
    """One suspect at a time: that of a queue that is gone is none."""
    broker, there = site.broker, site.other()
    first, second = (broker.queue(name, visibility_timeout=5) for name in "ab")
    for queue in (first, second):
        queue.send("x")
        assert queue.receive() is not None
    site.clock.advance(6)
    assert first.receive().receive_count == 2
    assert second.receive() is None
    there.delete("a")
    assert second.receive().receive_count == 2


def test_delete_of_an_ordered_queue(site: Any) -> None:
    """With its keys, and what waits behind others of them."""
    queue = site.broker.queue("q", ordered="key")
    queue.send_many([Outgoing(n, key=f"{n % 3}") for n in range(30)])
    queue.receive_many(3)
    assert queue.receive() is None
    assert site.broker.delete("q") == 30
    fresh = site.broker.queue("q", ordered="key")
    fresh.send_many([Outgoing(n, key=f"{n}") for n in range(3)])
    assert len(fresh.receive_many(9)) == 3


def test_a_staged_send_fails(site: Any) -> None:
    """Its ticket says that the queue is gone."""
    queue = site.broker.queue("q")
    site.broker.delete("q")
    with pytest.raises(errors.NotFound):
        queue.send_nowait("x").result(5)
