"""What is done while it is killed, in queues with bounds: the oldest make way."""

from __future__ import annotations

import functools

from rig.play import Play, names, verb

bounding = functools.partial(verb, points=40)


def push(play: Play, gone: list[str], *sent: str) -> None:
    """Send, as one or a batch, and the oldest make way: both happen, or neither."""
    drops = play.verb.options["overflow"] == "drop_oldest"
    unit = f"push {sent}"
    numbers = [
        play.ledger.begin("drop" if drops else "make way", gone, unit),
        play.ledger.begin("send", list(sent), unit),
    ]
    ids = [one.id for one in play.queue.send_many(sent)]
    play.ledger.end(numbers[0])
    play.ledger.end(numbers[1], ids=ids)


def push_all(play: Play) -> None:
    """Push out what is new, what failed, and what comes behind what is held."""
    play.open()
    play.send(*names(6, letter="s"))
    play.claim("s0", "s1")
    play.arm()
    push(play, ["s2"], "a0")
    push(play, ["s3", "s4"], "a1", "a2")
    play.settle("nack", "s0", 0)
    push(play, ["s0", "s5"], "a3", "a4")
    play.settle("ack", "s1")
    play.send("a5")
    push(play, ["a0"], "a6")
    push(play, ["a1", "a2", "a3", "a4", "a5", "a6"], *names(6, letter="b"))
    play.claim("b0", "b1")
    push(play, ["b2"], "c0")


@bounding(options={"max_messages": 6, "overflow": "drop_oldest"})
def push_out(play: Play) -> None:
    """The oldest are dropped."""
    push_all(play)


@bounding(options={"max_messages": 6, "overflow": "dead_letter"}, durability="full")
def push_to_the_dead(play: Play) -> None:
    """The oldest become dead letters."""
    push_all(play)
