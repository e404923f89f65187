"""Dead letters: what fails for good is kept, with its history and its id."""

from typing import Any

from embq import Backoff

AT_ONCE = Backoff(0.0, factor=1, cap=0.0, jitter=False)


def test_reject_moves_at_once(site: Any) -> None:
    """A rejected message is ready in the dead-letter queue, under its old id."""
    queue = site.broker.queue("q")
    sent = queue.send({"a": 1}, key="k", type="t", headers={"h": "1"})
    queue.receive().reject("unknown customer")
    assert queue.depth() == 0
    dead = site.broker.queue("q.dead")
    assert dead.stats()["ready"] == 1
    message = dead.receive()
    assert message.id == sent.id
    assert message.data == {"a": 1}
    assert (message.key, message.type, message.headers) == ("k", "t", {"h": "1"})
    assert message.receive_count == 1


def test_the_history_says_why(site: Any) -> None:
    """A dead letter knows its queue, the reason, the error, the count and the times."""
    queue = site.broker.queue("q")
    queue.send("x")
    received_ms = site.clock.wall_ms
    message = queue.receive()
    site.clock.advance(5)
    message.reject("no")
    (entry,) = site.broker.queue("q.dead").receive().history
    assert entry["queue"] == "q"
    assert entry["reason"] == "rejected"
    assert entry["error"] == "no"
    assert entry["receive_count"] == 1
    assert entry["first_at"] == received_ms
    assert entry["last_at"] == received_ms + 5000


def test_exactly_max_receives(site: Any) -> None:
    """CASE 55: a handler that always fails gets exactly `max_receives` tries."""
    queue = site.broker.queue("q", max_receives=3, retry=AT_ONCE)
    queue.send("x")
    for number in range(1, 4):
        message = queue.receive()
        assert message.receive_count == number
        message.nack(error=f"error {number}")
    assert queue.receive() is None
    (entry,) = site.broker.queue("q.dead").receive().history
    assert entry["reason"] == "max_receives"
    assert entry["error"] == "error 3"
    assert entry["receive_count"] == 3


def test_expiry_counts_as_a_try(site: Any) -> None:
    """Leases that run out reach the dead-letter queue as well, without an error."""
    queue = site.broker.queue("q", max_receives=2, visibility_timeout=10)
    queue.send("x")
    for _ in range(2):
        assert queue.receive() is not None
        site.clock.advance(11)
    assert queue.receive() is None
    (entry,) = site.broker.queue("q.dead").receive().history
    assert entry["reason"] == "max_receives"
    assert entry["error"] is None


def test_max_receives_of_one(site: Any) -> None:
    """With `max_receives=1` the first failure is the last."""
    queue = site.broker.queue("q", max_receives=1)
    queue.send_many(["nacked", "expired"])
    nacked = queue.receive()
    nacked.nack(delay=0)
    assert queue.receive().data == "expired"
    site.clock.advance(31)
    assert queue.receive() is None
    dead = site.broker.queue("q.dead")
    assert [dead.receive().data for _ in range(2)] == ["nacked", "expired"]


def test_a_limit_of_one_is_claimed_alone(broker: Any) -> None:
    """With `max_receives=1` a batch has one message: a crash buries no neighbour."""
    queue = broker.queue("q", max_receives=1)
    queue.send_many(["a", "b"])
    assert [message.data for message in queue.receive_many(10)] == ["a"]
    assert [message.data for message in queue.receive_many(10)] == ["b"]
    endless = broker.queue("endless", max_receives=1, dead_letter=None)
    endless.send_many(["a", "b"])
    assert len(endless.receive_many(10)) == 2


def test_the_last_try_may_succeed(site: Any) -> None:
    """A message that is acked at its last delivery is done, not dead."""
    queue = site.broker.queue("q", max_receives=2, retry=AT_ONCE)
    queue.send("x")
    queue.receive().nack()
    queue.receive().ack()
    assert queue.depth() == 0
    assert queue.stats()["dead"] == 0


def test_without_dead_letters_there_is_no_limit(site: Any) -> None:
    """With `dead_letter=None` a failing message is retried for ever."""
    options = {"dead_letter": None, "max_receives": 1, "retry": AT_ONCE}
    queue = site.broker.queue("q", **options)
    queue.send("x")
    for _ in range(5):
        queue.receive().nack()
    assert queue.receive().receive_count == 6
    site.clock.advance(31)
    assert queue.receive().receive_count == 7


def test_reject_without_dead_letters_removes(broker: Any) -> None:
    """With `dead_letter=None` a rejected message is gone, and counted."""
    queue = broker.queue("q", dead_letter=None)
    queue.send("x")
    queue.receive().reject("no")
    stats = queue.stats()
    assert (stats["messages"], stats["rejected"], stats["dead"]) == (0, 1, 0)


def test_a_shared_dead_letter_queue(broker: Any) -> None:
    """Several queues may name one dead-letter queue; arrival is the order there."""
    one = broker.queue("one", dead_letter="graveyard")
    two = broker.queue("two", dead_letter="graveyard")
    two.send("2")
    one.send("1")
    two.receive().reject("b")
    one.receive().reject("a")
    dead = broker.queue("graveyard").receive_many(5)
    assert [(m.data, m.history[0]["queue"]) for m in dead] == [
        ("2", "two"),
        ("1", "one"),
    ]


def test_a_dead_letter_is_not_buried_again(site: Any) -> None:
    """The dead-letter queue has none of its own, so nothing goes round in circles."""
    queue = site.broker.queue("q")
    queue.send("x")
    queue.receive().reject("no")
    dead = site.broker.queue("q.dead")
    for _ in range(10):
        dead.receive().nack(delay=0)
    assert dead.depth() == 1
    dead.receive().ack()
    assert dead.depth() == 0


def test_a_dead_letter_has_a_new_count_and_a_longer_history(site: Any) -> None:
    """A message that dies twice tells both deaths, the older one first."""
    site.broker.queue("last", dead_letter=None)
    site.broker.queue("dead", dead_letter="last")
    queue = site.broker.queue("q", dead_letter="dead")
    sent = queue.send("x")
    queue.receive().reject("one")
    message = site.broker.queue("dead").receive()
    assert message.receive_count == 1
    message.reject("two")
    message = site.broker.queue("last").receive()
    assert message.id == sent.id
    assert [entry["error"] for entry in message.history] == ["one", "two"]
    assert [entry["queue"] for entry in message.history] == ["q", "dead"]


def test_the_codec_goes_along(broker: Any) -> None:
    """The dead-letter queue that is made on demand has the codec of its source."""
    queue = broker.queue("q", codec="raw")
    queue.send(b"\xff\x00")
    queue.receive().reject("no")
    assert broker.queue("q.dead").receive().data == b"\xff\x00"


def test_hops_count_the_deaths(site: Any) -> None:
    """Each entry of a history says how often the message had died by then."""
    queue = site.broker.queue("q")
    dead = site.broker.queue("q.dead", dead_letter="q.dead.dead")
    queue.send("x")
    queue.receive().reject("first")
    dead.receive().reject("second")
    history = site.broker.queue("q.dead.dead").receive().history
    assert [entry["hops"] for entry in history] == [1, 2]
    assert [entry["error"] for entry in history] == ["first", "second"]
