"""Sending: what goes in comes out, in order, all of it or nothing."""

from typing import Any

import pytest

from embq import Outgoing, errors


def test_first_in_first_out(broker: Any) -> None:
    """New messages are handed out in the order of sending."""
    queue = broker.queue("q")
    for number in range(5):
        queue.send({"number": number})
    taken = [queue.receive() for _ in range(5)]
    assert [message.data["number"] for message in taken] == [0, 1, 2, 3, 4]
    assert queue.receive() is None


def test_the_id_of_the_sender_is_the_id_of_the_receiver(broker: Any) -> None:
    """`send` returns the id under which the message is received."""
    queue = broker.queue("q")
    sent = queue.send("x")
    assert sent.duplicate is False
    assert len(sent.id) == 32
    assert queue.receive().id == sent.id


def test_fields_come_back(broker: Any) -> None:
    """All fields of `send` are on the message, and are None when not given."""
    queue = broker.queue("q")
    fields = {
        "type": "order.paid",
        "source": "/shop",
        "key": "order-1",
        "headers": {"trace": "abc", "é": "😀"},
        "correlation_id": "c-1",
        "reply_to": "answers",
    }
    queue.send("full", **fields)
    queue.send("bare")
    full, bare = queue.receive(), queue.receive()
    assert {name: getattr(full, name) for name in fields} == fields
    assert full.receive_count == 1
    assert full.retry_count == 0
    assert bare.type is None
    assert bare.key is None
    assert bare.correlation_id is None


def test_send_many_is_in_order(broker: Any) -> None:
    """A batch is stored in the order of its items, fields beside data."""
    queue = broker.queue("q")
    sent = queue.send_many(["a", Outgoing("b", key="k"), "c"])
    taken = queue.receive_many(10)
    assert [message.data for message in taken] == ["a", "b", "c"]
    assert [message.id for message in taken] == [one.id for one in sent]
    assert taken[1].key == "k"


def test_an_empty_batch_is_nothing(broker: Any) -> None:
    """`send_many([])` stores nothing and returns nothing."""
    queue = broker.queue("q")
    assert queue.send_many([]) == []
    assert queue.depth() == 0


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_bad_item_refuses_the_batch(broker: Any, place: int) -> None:
    """CASE 41: nothing of a batch is stored when one item cannot be."""
    queue = broker.queue("q", max_body=100)
    good = ["a", "b", "c"]
    with pytest.raises(errors.MessageTooLarge):
        queue.send_many([*good[:place], "x" * 101, *good[place:]])
    with pytest.raises(errors.BodyError):
        queue.send_many([*good[:place], object(), *good[place:]])
    assert queue.depth() == 0
    queue.send_many(good)
    assert queue.depth() == 3


def test_send_nowait_gives_a_ticket(broker: Any) -> None:
    """A ticket's result is what `send` would have returned."""
    queue = broker.queue("q")
    ticket = queue.send_nowait("x")
    sent = ticket.result(5)
    assert ticket.done()
    assert queue.receive().id == sent.id


def test_flush_waits_for_what_is_staged(broker: Any) -> None:
    """After `flush` every staged message is stored, in order."""
    queue = broker.queue("q")
    tickets = [queue.send_nowait(number) for number in range(100)]
    broker.flush()
    assert all(ticket.done() for ticket in tickets)
    taken = queue.receive_many(100)
    assert [message.data for message in taken] == list(range(100))


def test_sending_by_name(broker: Any) -> None:
    """`broker.send` finds a queue by name and creates none silently."""
    with pytest.raises(errors.NotFound):
        broker.send("q", "x")
    queue = broker.queue("q")
    broker.send("q", "x")
    assert queue.receive().data == "x"


def test_queues_are_apart(broker: Any) -> None:
    """A message is received from its own queue only."""
    one, two = broker.queue("one"), broker.queue("two")
    one.send("1")
    assert two.receive() is None
    assert two.depth() == 0
    assert one.receive().data == "1"


def test_two_processes_share_a_queue(site: Any) -> None:
    """What one process sends another receives, and each message goes to one of them."""
    here = site.broker.queue("q")
    there = site.other().queue("q")
    for number in range(4):
        (here if number % 2 else there).send(number)
    taken = [queue.receive().data for queue in (here, there, here, there)]
    assert taken == [0, 1, 2, 3]
    assert here.receive() is None
    assert there.receive() is None


def test_an_unknown_field_is_a_type_error(broker: Any) -> None:
    """A misspelt field is refused by Python itself."""
    queue = broker.queue("q")
    with pytest.raises(TypeError):
        queue.send("x", prioritty=1)
    assert queue.depth() == 0


def test_no_id_comes_twice(site: Any) -> None:
    """A number is never given again, also when nothing is left and others write."""
    seen = []
    brokers = [site.broker, site.other()]
    for turn in range(6):
        queue = brokers[turn % 2].queue("q")
        seen += [queue.send(turn).id, *(one.id for one in queue.send_many([1, 2]))]
        taken = queue.receive_many(10, auto_ack=turn % 3 == 0)
        for message in taken if turn % 3 else []:
            message.ack()
        assert queue.depth() == 0
    assert len(set(seen)) == len(seen)
