"""Administration: other options, a pause, a purge, a message that is cancelled."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embq import Backoff, Outgoing, errors

AT_MOST = 100


def soon(site: Any, seconds: float) -> datetime:
    """Give a point of time on the test's wall clock."""
    now = datetime.fromtimestamp(site.clock.wall_ms / 1000, UTC)
    return now + timedelta(seconds=seconds)


# ---- configure ----


def test_configure(site: Any) -> None:
    """Other options hold at once, and in the other processes."""
    queue = site.broker.queue("q", visibility_timeout=10)
    there = site.other().queue("q")
    queue.configure(visibility_timeout=100, retry=Backoff(7.0, jitter=False))
    queue.send_many(["a", "b"])
    theirs = there.receive()
    site.clock.advance(50)
    queue.receive().nack()
    site.clock.advance(6)
    assert queue.receive() is None
    site.clock.advance(2)
    assert queue.receive().data == "b"
    theirs.ack()


def test_configure_keeps_the_rest(site: Any) -> None:
    """What is not named stays; declaring again must name what is stored."""
    queue = site.broker.queue("q", max_receives=7, ttl=100)
    queue.configure(delay=5)
    site.broker.queue("q", max_receives=7, ttl=100, delay=5)
    with pytest.raises(errors.ConfigMismatch):
        site.broker.queue("q", delay=0)
    queue.configure(ttl=None)
    site.broker.queue("q", ttl=None)


def test_configure_the_dead_letters(site: Any) -> None:
    """Failures go where the queue says at the time."""
    queue = site.broker.queue("q", dead_letter=None)
    queue.configure(dead_letter="graves", max_receives=1)
    queue.send("x")
    queue.receive().nack()
    assert site.broker.queue("graves").depth() == 1


@pytest.mark.parametrize(
    "options",
    [
        {"codec": "raw"},
        {"ordered": "key"},
        {"colour": 1},
        {"max_receives": 0},
        {"visibility_timeout": -1},
        {"ttl": 0},
    ],
)
def test_what_cannot_be_configured(site: Any, options: dict[str, Any]) -> None:
    """It is refused, and nothing changes."""
    queue = site.broker.queue("q")
    with pytest.raises(errors.InvalidArgument):
        queue.configure(delay=9, **options)
    site.broker.queue("q", delay=0)


# ---- pause ----


def test_pause_and_resume(site: Any) -> None:
    """Nothing is handed out in any process; sends, acks and counts go on."""
    queue, there = site.broker.queue("q"), site.other().queue("q")
    queue.send_many(["a", "b"])
    held = queue.receive()
    queue.pause()
    assert queue.receive() is None
    assert there.receive_many(AT_MOST) == []
    held.ack()
    queue.send("c")
    assert (queue.depth(), there.stats()["ready"]) == (2, 2)
    site.clock.advance(1e6)
    assert there.receive() is None
    queue.resume()
    assert [message.data for message in there.receive_many(AT_MOST)] == ["b", "c"]


def test_pause_until(site: Any) -> None:
    """It ends by itself at that time of the wall clock."""
    queue = site.broker.queue("q")
    queue.send("a")
    queue.pause(until=soon(site, 10))
    site.clock.advance(9.9)
    assert queue.receive() is None
    site.clock.advance(0.2)
    assert queue.receive().data == "a"


def test_leases_end_in_a_pause(site: Any) -> None:
    """What was held comes back, and waits for the end of the pause."""
    queue = site.broker.queue("q", visibility_timeout=10)
    queue.send("a")
    assert queue.receive() is not None
    queue.pause()
    site.clock.advance(11)
    assert queue.receive() is None
    assert queue.stats()["ready"] == 1
    queue.resume()
    assert queue.receive().receive_count == 2


@pytest.mark.parametrize("until", [5, "soon", datetime(2030, 1, 1)])  # noqa: DTZ001
def test_odd_pauses(site: Any, until: Any) -> None:
    """CASE 43: what is no point of time is refused."""
    queue = site.broker.queue("q")
    with pytest.raises(errors.InvalidArgument):
        queue.pause(until=until)


# ---- purge ----


def test_purge(site: Any) -> None:
    """All that nobody holds is gone, and counted; what is held stays."""
    queue = site.broker.queue("q")
    queue.send_many([Outgoing(n, priority=n % 10) for n in range(30)])
    held = queue.receive()
    queue.receive().nack(delay=100)
    queue.receive().nack(delay=0)
    queue.send_many([Outgoing("later", delay=9), Outgoing("short", ttl=9)])
    assert queue.purge() == 31
    stats = queue.stats()
    assert (stats["messages"], stats["in_flight"], stats["dropped"]) == (1, 1, 31)
    assert queue.receive() is None
    held.ack()
    assert (queue.depth(), queue.stats()["bytes"]) == (0, 0)
    queue.send("new")
    assert queue.receive().data == "new"


def test_purge_of_nothing(site: Any) -> None:
    """An empty queue, and one where all is held."""
    queue = site.broker.queue("q")
    assert queue.purge() == 0
    queue.send("x")
    message = queue.receive()
    assert queue.purge() == 0
    message.ack()


def test_purge_of_many(site: Any) -> None:
    """More than one step of the core."""
    queue = site.broker.queue("q")
    for _ in range(3):
        queue.send_many(range(1500))
    for message in queue.receive_many(1000):
        message.nack(delay=5)
    assert queue.purge() == 4500
    assert queue.depth() == 0


def test_purge_of_an_ordered_queue(site: Any) -> None:
    """What waits behind another goes, and the key is as before."""
    queue = site.broker.queue("q", ordered="key")
    queue.send_many([Outgoing(n, key="a") for n in range(3)])
    first = queue.receive()
    assert queue.receive() is None
    assert queue.purge() == 2
    queue.send("next", key="a")
    assert queue.receive() is None
    first.ack()
    assert queue.receive().data == "next"


def test_purge_leaves_other_queues(site: Any) -> None:
    """It is about one queue."""
    queue, other = site.broker.queue("q"), site.broker.queue("other")
    queue.send("x")
    other.send_many(["y", Outgoing("z", delay=5)])
    queue.purge()
    assert other.depth() == 2


# ---- cancel ----


@pytest.mark.parametrize("fields", [{}, {"delay": 10}, {"priority": 9}, {"ttl": 5}])
def test_cancel(site: Any, fields: dict[str, Any]) -> None:
    """A message that waits is gone for good."""
    queue = site.broker.queue("q")
    queue.send("before")
    sent = queue.send("x", **fields)
    queue.send("after")
    assert queue.cancel(sent.id) is True
    with pytest.raises(errors.NotFound):
        queue.cancel(sent.id)
    site.clock.advance(11)
    assert sorted(m.data for m in queue.receive_many(AT_MOST)) == ["after", "before"]
    assert queue.stats()["dropped"] == 1


def test_cancel_what_is_held(site: Any) -> None:
    """It stays with its holder."""
    queue = site.broker.queue("q")
    sent = queue.send("x")
    message = queue.receive()
    assert queue.cancel(sent.id) is False
    message.nack(delay=100)
    assert queue.cancel(sent.id) is True
    assert queue.depth() == 0


def test_cancel_a_dead_letter(site: Any) -> None:
    """By the id that it had from the start; in the queue that it left it is not."""
    queue, dead = site.broker.queue("q"), site.broker.queue("q.dead")
    sent = queue.send("x")
    queue.receive().reject("no")
    with pytest.raises(errors.NotFound):
        queue.cancel(sent.id)
    assert dead.cancel(sent.id) is True
    assert dead.depth() == 0


def test_cancel_by_the_place_of_another(site: Any) -> None:
    """Where a dead letter stands is no id: that it has from the start."""
    queue, dead = site.broker.queue("q"), site.broker.queue("q.dead")
    queue.send("x")
    queue.receive().reject("no")
    after = dead.send("after").id
    place = f"{after[:16]}{int(after[16:], 16) - 1:016x}"
    with pytest.raises(errors.NotFound):
        dead.cancel(place)
    assert dead.depth() == 2


def test_cancel_in_an_ordered_queue(site: Any) -> None:
    """The first of a key frees it; one behind leaves the others in order."""
    queue = site.broker.queue("q", ordered="key", retry=Backoff(50.0, jitter=False))
    sent = queue.send_many([Outgoing(n, key="a") for n in range(4)])
    queue.receive().nack()
    assert queue.receive() is None
    assert queue.cancel(sent[1].id) is True
    assert queue.receive() is None
    assert queue.cancel(sent[0].id) is True
    assert queue.receive().data == 2


@pytest.mark.parametrize("key", ["", "x", "f" * 32, "0" * 32, "é" * 16])
def test_cancel_what_is_not_there(site: Any, key: str) -> None:
    """An id that nobody has."""
    queue = site.broker.queue("q")
    queue.send("x")
    with pytest.raises(errors.NotFound):
        queue.cancel(key)
    with pytest.raises(errors.InvalidArgument):
        queue.cancel(5)
    assert queue.depth() == 1
