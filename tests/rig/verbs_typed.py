"""Plays of typed queues: what does not fit is let go of, while it is killed."""

from __future__ import annotations

import functools

from rig.ledger import PREFIX
from rig.play import Play, names, verb

import embq

refusing = functools.partial(verb, messages=8, points=40)
HOUR = embq.Backoff(3600, cap=3600, jitter=False)


def misfits(play: Play, typed: embq.Queue[int], then: str) -> None:
    """Receive where nothing fits: one after the other is claimed, and let go of."""
    numbers = [play.ledger.begin(verb, names(8), PREFIX) for verb in ("claim", then)]
    assert typed.receive() is None
    for number in numbers:
        play.ledger.end(number)


@refusing()
def refuse(play: Play) -> None:
    """They become dead letters."""
    play.open()
    typed = play.broker.queue("q", schema=int)
    play.arm()
    misfits(play, typed, "reject")


@refusing(options={"retry": HOUR})
def refuse_and_keep(play: Play) -> None:
    """Somebody has given up the dead letters since: they wait by the retry policy."""
    play.open()
    typed = play.broker.queue("q", schema=int)
    play.queue.configure(dead_letter=None)
    play.arm()
    misfits(play, typed, "nack later")
