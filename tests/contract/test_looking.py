"""Looking: what is seen is what there is, in the order to come, and stays so."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embq import Outgoing, errors

AT_MOST = 100
FAR_S = 100
VERBS = {
    "ack": lambda m: m.ack(),
    "ack_nowait": lambda m: m.ack_nowait(),
    "nack": lambda m: m.nack(),
    "reject": lambda m: m.reject("no"),
    "extend": lambda m: m.extend(5),
}


def data_of(messages: Any) -> list[Any]:
    """Say what came, in order."""
    return [message.data for message in messages]


def taken_one_by_one(queue: Any) -> list[Any]:
    """Say what a consumer gets that acks each at once."""
    found = []
    while message := queue.receive():
        message.ack()
        found.append(message.data)
    return found


@pytest.fixture
def mixed(site: Any) -> Any:
    """Give a queue with something in every state but blocked."""
    queue = site.broker.queue("q", max_receives=9, visibility_timeout=FAR_S)
    queue.send_many(["held", "failed", "back"])
    held, failed, back = queue.receive_many(3)
    queue.send_many(["low", "new", Outgoing("high", priority=9)])
    queue.send("late", delay=FAR_S)
    failed.nack(delay=FAR_S, error="it failed")
    back.nack(delay=0)
    held._settled = True
    return queue


def explained(queue: Any, data: Any) -> Any:
    """Explain the message that says this."""
    (message,) = [one for one in queue.browse() if one.data == data]
    return queue.explain(message.id)


def moment(site: Any, after_s: float) -> datetime:
    """Say a time by the wall clock of the test."""
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=site.clock.wall_ms)
    return now + timedelta(seconds=after_s)


def look_at(queue: Any, look: str) -> Any:
    """Give the one that comes next, seen this way."""
    (message,) = queue.peek()
    if look == "get":
        return queue.get(message.id)
    return next(one for one in getattr(queue, look)() if one.id == message.id)


# ---- what would come next ----


def test_peek_is_the_order_of_receive(mixed: Any) -> None:
    """What would come next, in that order, and then it does."""
    seen = data_of(mixed.peek(AT_MOST))
    assert seen == ["high", "back", "low", "new"]
    assert data_of(mixed.peek()) == ["high"]
    assert taken_one_by_one(mixed) == seen
    assert mixed.peek(AT_MOST) == []


def test_what_waited_comes_in_the_order_of_its_times(site: Any) -> None:
    """What was delayed, nacked or suspect goes by when it is due, and before new ones.

    A suspect is due at once: before what waits by the wall clock.
    """
    queue = site.broker.queue("q", visibility_timeout=10)
    queue.send("nacked")
    queue.receive().nack(delay=5)
    queue.send("delayed", delay=4)
    queue.send("lost")
    queue.receive()
    queue.send("new")
    site.clock.advance(11)
    queue.send_many([Outgoing("low", priority=1), Outgoing("lowest", priority=0)])
    in_turn = ["lost", "delayed", "nacked", "new", "low", "lowest"]
    assert data_of(queue.peek(AT_MOST)) == in_turn[1:]
    assert site.broker.queue("other").receive() is None  # ends the lease
    assert data_of(queue.peek(AT_MOST)) == in_turn
    assert [queue.explain(m.id).ahead for m in queue.peek(AT_MOST)] == [*range(6)]
    assert explained(queue, "lost").suspect
    assert taken_one_by_one(queue) == in_turn


def test_what_perished_is_passed_over(site: Any) -> None:
    """Nobody is handed it; it is still there until a claim looks."""
    queue = site.broker.queue("q")
    queue.send_many([Outgoing("old", ttl=5), Outgoing("late", delay=1, ttl=5), "new"])
    site.clock.advance(10)
    assert data_of(queue.peek(AT_MOST)) == ["new"]
    assert explained(queue, "new").ahead == 0
    assert sorted(data_of(queue.browse())) == ["late", "new", "old"]
    assert explained(queue, "old").expires_at == moment(site, -5)


def test_nothing_comes_from_a_paused_queue(site: Any) -> None:
    """All is there, and says until when it waits."""
    queue = site.broker.queue("q")
    queue.send_many(["a", "b"])
    queue.pause(moment(site, 60))
    assert queue.peek(AT_MOST) == []
    assert data_of(queue.browse(state="ready")) == ["a", "b"]
    told = explained(queue, "b")
    assert (told.paused_until, told.ahead) == (moment(site, 60), 1)
    site.clock.advance(61)
    assert data_of(queue.peek(AT_MOST)) == ["a", "b"]
    assert explained(queue, "b").paused_until is None


def test_of_a_key_the_first_alone(site: Any) -> None:
    """In a queue that is ordered by key the first of each is seen, and who that is."""
    queue = site.broker.queue("q", ordered="key")
    words = ("a1", "a2", "b1", "b2", "a3", "c1")
    ids = {
        word: sent.id
        for word, sent in zip(
            words,
            queue.send_many([Outgoing(word, key=word[0]) for word in words]),
            strict=True,
        )
    }
    assert data_of(queue.peek(AT_MOST)) == ["a1", "b1", "c1"]
    told = {word: queue.explain(ids[word]) for word in words}
    behind = {"a2": ids["a1"], "a3": ids["a1"], "b2": ids["b1"]}
    assert {word: one.behind for word, one in told.items() if one.behind} == behind
    ahead = [told[word].ahead for word in words]
    assert ahead == [0, None, 1, None, None, 2]
    held = queue.receive_many(2)
    assert data_of(held) == ["a1", "b1"]
    assert queue.explain(ids["a3"]).behind == ids["a1"]
    assert queue.explain(ids["c1"]).ahead == 0
    assert queue.explain(ids["a1"]).behind is None
    assert data_of(queue.peek(AT_MOST)) == ["c1"]
    queue.ack_many(held)
    assert data_of(queue.peek(AT_MOST)) == ["a2", "b2", "c1"]


def test_what_is_blocked(site: Any) -> None:
    """A claim that passes one over makes it blocked; it says behind which."""
    queue = site.broker.queue("q", ordered="key")
    first, second = queue.send_many([Outgoing(word, key="k") for word in ("a", "b")])
    held = queue.receive()
    assert queue.receive() is None
    assert data_of(queue.browse(state="blocked")) == ["b"]
    told = queue.explain(second.id)
    assert (told.state, told.behind, told.ahead) == ("blocked", first.id, None)
    held.nack(delay=50, error="not yet")
    told = queue.explain(second.id)
    assert (told.state, told.behind) == ("blocked", first.id)
    assert queue.peek(AT_MOST) == []
    site.clock.advance(51)
    assert data_of(queue.peek(AT_MOST)) == ["a"]
    queue.receive().reject("no")
    assert data_of(queue.peek(AT_MOST)) == ["b"]
    told = queue.explain(second.id)
    assert (told.state, told.behind, told.ahead) == ("ready", None, 0)


def test_a_queue_that_hands_out_one_after_another(site: Any) -> None:
    """One at a time, none while one is in flight; each knows how many go before it."""
    queue = site.broker.queue("q", ordered="queue")
    first, _, third = queue.send_many(["a", "b", "c"])
    assert data_of(queue.peek(AT_MOST)) == ["a"]
    told = queue.explain(third.id)
    assert (told.behind, told.ahead) == (first.id, 2)
    told = queue.explain(first.id)
    assert (told.behind, told.ahead) == (None, 0)
    message = queue.receive()
    assert queue.peek(AT_MOST) == []
    message.nack(delay=5)
    assert queue.peek(AT_MOST) == []
    site.clock.advance(6)
    assert data_of(queue.peek(AT_MOST)) == ["a"]


# ---- all that there is ----


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, {"held", "failed", "back", "low", "new", "high", "late"}),
        ({"state": "in_flight"}, {"held"}),
        ({"state": "delayed"}, {"failed", "late"}),
        ({"state": "ready"}, {"back", "low", "new", "high"}),
        ({"state": "blocked"}, set()),
        ({"type": "t"}, set()),
    ],
)
def test_browse(mixed: Any, wanted: dict[str, Any], expected: set[str]) -> None:
    """All of them, or those of a state."""
    assert set(data_of(mixed.browse(**wanted))) == expected
    assert len(data_of(mixed.browse(**wanted, limit=2))) == min(2, len(expected))


def test_browse_by_fields(site: Any) -> None:
    """Type, source and key choose, all of them; the order is that of sending."""
    queue = site.broker.queue("q")
    queue.send_many(
        [
            Outgoing(n, type=f"t{n % 2}", key=f"k{n % 3}", source=f"s{n % 5}")
            for n in range(60)
        ]
    )
    assert data_of(queue.browse()) == [*range(60)]
    assert data_of(queue.browse(type="t1", key="k0", source="s4")) == [
        n for n in range(60) if n % 2 == 1 and n % 3 == 0 and n % 5 == 4
    ]
    assert data_of(queue.browse(key="k1", limit=2)) == [1, 4]


def test_states_follow_the_clocks(site: Any) -> None:
    """A delay ends by itself; an ended lease counts until a claim looks."""
    queue = site.broker.queue("q", visibility_timeout=10)
    queue.send("held")
    queue.send("late", delay=5)
    queue.receive()
    site.clock.advance(11)
    assert data_of(queue.browse(state="ready")) == ["late"]
    assert data_of(queue.browse(state="in_flight")) == ["held"]
    assert explained(queue, "held").lease_left == -1
    assert queue.receive().data == "held"


# ---- one ----


def test_get(mixed: Any, site: Any) -> None:
    """By its id, wherever it moved; None where it is not."""
    sent = mixed.send({"a": 1}, type="t", headers={"h": 1}, priority=7)
    message = mixed.get(sent.id)
    assert (message.data, message.type, message.headers) == ({"a": 1}, "t", {"h": 1})
    assert (message.priority, message.receive_count) == (7, 0)
    assert site.broker.queue("other").get(sent.id) is None
    (first,) = mixed.peek(1)
    taken = mixed.receive()
    assert taken.id == first.id
    taken.reject("no")
    assert mixed.get(first.id) is None
    assert site.broker.queue("q.dead").get(first.id).history[0]["reason"] == "rejected"
    for no_id in ("", "x", "0" * 32, sent.id + "0", sent.id.upper() + " "):
        assert mixed.get(no_id) is None
        with pytest.raises(errors.NotFound):
            mixed.explain(no_id)


def test_explain(mixed: Any, site: Any) -> None:
    """Each state in fields."""
    late = explained(mixed, "late")
    assert (late.state, late.due_at) == ("delayed", moment(site, FAR_S))
    failed = explained(mixed, "failed")
    assert (failed.state, failed.due_at) == ("delayed", moment(site, FAR_S))
    assert (failed.error, failed.receive_count) == ("it failed", 1)
    assert (failed.suspect, failed.ahead) == (False, None)
    site.clock.advance(9)
    held = explained(mixed, "held")
    assert (held.state, held.lease_left, held.ahead) == ("in_flight", FAR_S - 9, None)
    back = explained(mixed, "back")
    assert (back.state, back.receive_count, back.ahead) == ("ready", 1, 1)
    new = explained(mixed, "new")
    assert (new.state, new.receive_count, new.ahead) == ("ready", 0, 3)
    assert (new.due_at, new.lease_left, new.behind, new.error) == (None,) * 4


def test_explain_a_dead_letter(site: Any) -> None:
    """Why it died, and after how many receives."""
    queue = site.broker.queue("q")
    queue.send("x")
    message = queue.receive()
    message.reject("hopeless")
    told = site.broker.queue("q.dead").explain(message.id)
    assert (told.queue, told.receive_count, told.ahead) == ("q.dead", 0, 0)
    (entry,) = told.history
    assert (entry["reason"], entry["error"]) == ("rejected", "hopeless")
    assert entry["receive_count"] == 1


def test_how_many_go_before_is_counted_so_far(site: Any) -> None:
    """A thousand are counted; of more it says that there are more."""
    queue = site.broker.queue("q")
    sent = queue.send_many([*range(1002)])
    told = [queue.explain(sent[n].id) for n in (999, 1000, 1001)]
    assert [one.ahead for one in told] == [999, 1000, 1000]
    assert [one.more_ahead for one in told] == [False, False, True]
    urgent = queue.send("urgent", priority=9)
    assert queue.explain(urgent.id).ahead == 0
    assert queue.explain(sent[999].id).ahead == 1000
    assert queue.explain(sent[1000].id).more_ahead


# ---- nothing is changed ----


def test_looking_changes_nothing(mixed: Any) -> None:
    """No counter, no lease, no order."""
    before = {**mixed.stats(), "oldest": None}
    order = data_of(mixed.peek(AT_MOST))
    for message in [*mixed.browse(), *mixed.peek(AT_MOST)]:
        mixed.get(message.id)
        mixed.explain(message.id)
    assert {**mixed.stats(), "oldest": None} == before
    assert data_of(mixed.peek(AT_MOST)) == order


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("look", ["peek", "browse", "get"])
def test_what_was_looked_at_is_not_held(mixed: Any, verb: str, look: str) -> None:
    """Its verbs say so, and settle nothing."""
    message, depth = look_at(mixed, look), mixed.depth()
    with pytest.raises(errors.InvalidReceipt, match="looked at"):
        VERBS[verb](message)
    held = mixed.receive()
    with pytest.raises(errors.InvalidReceipt, match="looked at"):
        mixed.ack_many([held, message])
    held.ack()
    assert mixed.depth() == depth - 1


@pytest.mark.parametrize("look", ["peek", "browse", "get"])
def test_what_was_looked_at_is_not_handled(mixed: Any, look: str) -> None:
    """A `with` over it raises before its body runs."""
    message, depth, ran = look_at(mixed, look), mixed.depth(), False
    with pytest.raises(errors.InvalidReceipt, match="looked at"), message:
        ran = True
    assert not ran
    assert mixed.depth() == depth


def test_odd_arguments(site: Any) -> None:
    """CASE 43: a state that there is not, and counts that are none, are refused."""
    queue = site.broker.queue("q")
    with pytest.raises(errors.InvalidArgument, match="state"):
        queue.browse(state="gone")
    for bad in (0, -1, True, "1"):
        with pytest.raises(errors.InvalidArgument):
            queue.peek(bad)
        with pytest.raises(errors.InvalidArgument):
            queue.browse(limit=bad)
    for bad in (None, 5, b"x"):
        with pytest.raises(errors.InvalidArgument):
            queue.get(bad)
        with pytest.raises(errors.InvalidArgument):
            queue.explain(bad)


def test_looking_at_what_is_gone(site: Any) -> None:
    """CASE 32: a queue that was deleted, and a broker that is closed, say so."""
    queue, other = site.broker.queue("q"), site.broker.queue("other")
    sent = queue.send("x")
    site.broker.delete("q")
    looks = (
        lambda of: of.peek(),
        lambda of: list(of.browse()),
        lambda of: of.get(sent.id),
        lambda of: of.explain(sent.id),
    )
    for look in looks:
        with pytest.raises(errors.NotFound, match="gone"):
            look(queue)
    site.broker.close()
    for look in looks:
        with pytest.raises(errors.Closed):
            look(other)
