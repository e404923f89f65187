"""Suspects: what was held when its process died or stalled is handed out alone."""

from typing import Any

AT_MOST = 10


def test_a_death_gives_back_at_once(site: Any) -> None:
    """CASE 17: what a dead process held is received by another, counted twice."""
    here = site.broker.queue("q", visibility_timeout=1000)
    here.send_many(["a", "b"])
    other = site.other()
    assert len(other.queue("q").receive_many(2)) == 2
    assert here.stats()["in_flight"] == 2
    site.kill(other, here, in_flight=0)
    stats = here.stats()
    assert (stats["ready"], stats["expired"]) == (2, 2)
    message = here.receive()
    assert (message.data, message.receive_count) == ("a", 2)


def test_only_the_dead_process_loses_its_leases(site: Any) -> None:
    """A death does not touch what others hold."""
    here = site.broker.queue("q", visibility_timeout=1000)
    here.send_many(["mine", "theirs"])
    mine = here.receive()
    other = site.other()
    assert other.queue("q").receive().data == "theirs"
    site.kill(other, here, in_flight=1)
    mine.ack()
    assert here.receive().data == "theirs"


def test_a_suspect_comes_alone(site: Any) -> None:
    """A batch that starts with a suspect has one message."""
    queue = site.broker.queue("q", visibility_timeout=10)
    queue.send_many(["a", "b", "c"])
    assert len(queue.receive_many(2)) == 2
    site.clock.advance(11)
    (first,) = queue.receive_many(AT_MOST)
    assert first.data == "a"


def test_one_suspect_at_a_time_in_a_process(site: Any) -> None:
    """While a suspect is in flight here, other suspects are passed over."""
    queue = site.broker.queue("q", visibility_timeout=10)
    queue.send_many(["a", "b", "new"])
    assert len(queue.receive_many(2)) == 2
    site.clock.advance(11)
    suspect = queue.receive()
    assert suspect.data == "a"
    assert [message.data for message in queue.receive_many(AT_MOST)] == ["new"]
    assert queue.receive() is None
    suspect.ack()
    assert queue.receive().data == "b"


def test_the_limit_holds_over_all_queues(site: Any) -> None:
    """A suspect in flight of one queue keeps back the suspects of the others."""
    one = site.broker.queue("one", visibility_timeout=10)
    two = site.broker.queue("two", visibility_timeout=10)
    one.send("1")
    two.send("2")
    assert one.receive() is not None
    assert two.receive() is not None
    site.clock.advance(11)
    suspect = one.receive()
    assert two.receive() is None
    suspect.nack()
    assert two.receive().data == "2"


def test_each_process_may_hold_one(site: Any) -> None:
    """The limit is for one process: another takes the next suspect."""
    here = site.broker.queue("q", visibility_timeout=10)
    there = site.other().queue("q")
    here.send_many(["a", "b"])
    assert len(here.receive_many(2)) == 2
    site.clock.advance(11)
    assert here.receive().data == "a"
    assert there.receive().data == "b"
    assert here.receive() is None


def test_an_ended_hold_of_a_suspect_frees_the_place(site: Any) -> None:
    """A suspect whose lease is over again no longer keeps others back."""
    queue = site.broker.queue("q", visibility_timeout=10, max_receives=10)
    queue.send_many(["a", "b"])
    assert len(queue.receive_many(2)) == 2
    site.clock.advance(11)
    assert queue.receive().data == "a"
    site.clock.advance(11)
    assert queue.receive().data == "b"


def test_the_least_received_suspect_goes_first(site: Any) -> None:
    """A poison that kills again and again does not hide the innocent behind it."""
    queue = site.broker.queue("q", visibility_timeout=10, max_receives=10)
    queue.send_many(["poison", "innocent"])
    assert len(queue.receive_many(2)) == 2
    site.clock.advance(11)
    assert queue.receive().data == "poison"
    site.clock.advance(11)
    innocent = queue.receive()
    assert (innocent.data, innocent.receive_count) == ("innocent", 2)


def test_a_suspect_is_passed_over_in_a_batch(site: Any) -> None:
    """When the first choice is another message, suspects stay for another claim."""
    queue = site.broker.queue("q", visibility_timeout=10)
    queue.send("suspect")
    assert queue.receive() is not None
    queue.send_many([f"retry {number}" for number in range(7)])
    for message in queue.receive_many(7):
        message.nack(delay=0)
    for _ in range(7):
        queue.receive().nack(delay=100)
    site.clock.advance(11)
    queue.send_many(["new 0", "new 1"])
    taken = queue.receive_many(AT_MOST)
    assert [message.data for message in taken] == ["new 0", "new 1"]
    assert [message.data for message in queue.receive_many(AT_MOST)] == ["suspect"]


def test_a_nack_clears_the_suspicion(site: Any) -> None:
    """A suspect that was nacked waits as any other and joins batches again."""
    queue = site.broker.queue("q", visibility_timeout=10)
    queue.send_many(["a", "b"])
    assert len(queue.receive_many(2)) == 2
    site.clock.advance(11)
    for _ in range(2):
        queue.receive().nack(delay=0)
    assert [message.data for message in queue.receive_many(AT_MOST)] == ["a", "b"]


def test_the_last_try_comes_alone(site: Any) -> None:
    """CASE 56: what a death of its neighbours would bury has none."""
    queue = site.broker.queue("q", max_receives=2)
    queue.send_many(["a", "b", "c"])
    for message in queue.receive_many(2):
        message.nack(delay=0)
    for wanted in (["a"], ["b"], ["c"]):
        assert [message.data for message in queue.receive_many(AT_MOST)] == wanted


def test_nothing_is_taken_past_a_last_try(site: Any) -> None:
    """A batch ends before it; what is new comes with it all the same."""
    queue = site.broker.queue("q", max_receives=3)
    queue.send_many(["a", "b", "c", "new"])
    for message in queue.receive_many(3):
        message.nack(delay=0)
    for delay, message in enumerate(queue.receive_many(2), 1):
        message.nack(delay=delay)
    site.clock.advance(2)
    taken = [[m.data for m in queue.receive_many(AT_MOST)] for _ in range(4)]
    assert taken == [["c", "new"], ["a"], ["b"], []]


def test_without_dead_letters_no_try_is_the_last(site: Any) -> None:
    """Nothing can be buried, so all come together."""
    queue = site.broker.queue("q", max_receives=2, dead_letter=None)
    queue.send_many(["a", "b"])
    for message in queue.receive_many(2):
        message.nack(delay=0)
    assert len(queue.receive_many(AT_MOST)) == 2


def test_the_poison_alone_dies(site: Any) -> None:
    """CASE 56: a message that kills every process is buried, its neighbours are not."""
    here = site.broker.queue("q", max_receives=3, visibility_timeout=1000)
    here.send_many(["one", "two", "poison", "three"])
    deaths = 0
    for _ in range(20):
        other = site.other()
        queue = other.queue("q")
        batch = queue.receive_many(4)
        if not batch:
            break
        if any(message.data == "poison" for message in batch):
            deaths += 1
            site.kill(other, here, in_flight=0)
            continue
        for message in batch:
            message.ack()
        other.close()
    assert deaths == 3
    assert here.depth() == 0
    dead = site.broker.queue("q.dead").receive_many(AT_MOST)
    assert [message.data for message in dead] == ["poison"]


def test_a_suspect_is_not_prefetched(site: Any) -> None:
    """In a prefetching loop a suspect comes alone, and what follows it stays ready."""
    queue = site.broker.queue("q", visibility_timeout=10)
    queue.send_many(["a", "b"])
    assert len(queue.receive_many(2)) == 2
    site.clock.advance(11)
    queue.send_many(["new 0", "new 1"])
    for message in queue.messages(prefetch=AT_MOST, wait=0):
        assert message.data == "a"
        assert queue.stats()["in_flight"] <= 1 + 2  # never the other suspect
        message.ack()
        break
    taken = queue.receive()
    assert (taken.data, taken.receive_count) == ("b", 2)
