"""What is done while it is killed, of whole queues and of messages from outside.

Dedup ids, pauses, other options, a purge in several steps, cancelled messages. Who
judges sends again what has a dedup id, as a producer does that had no answer.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import Any

from rig.ledger import PREFIX
from rig.play import Play, names, verb

import embq

HOUR = 3600.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FAR = datetime(2100, 1, 1, tzinfo=UTC)
STEP = 1024  # of a purge
upkeep = functools.partial(verb, points=40)


def send(play: Play, name: str, **fields: Any) -> str:
    """Send one with more fields than a name; return its id."""
    late = "send late" if "delay" in fields else "send"
    with play.ledger.step(late, [name]) as ids:
        ids.append(play.queue.send(name, **fields).id)
    return ids[0]


# ---- dedup ids ----


def once(play: Play, *wanted: str, answered: bool = True) -> list[bool]:
    """Send under dedup ids, one or a batch; tell which were there before."""
    number = play.ledger.begin("once", list(wanted))
    if len(wanted) == 1:
        sent = [play.queue.send(wanted[0], dedup_id=wanted[0])]
    else:
        sent = play.queue.send_many(
            [embq.Outgoing(name, dedup_id=name) for name in wanted]
        )
    if answered:
        play.ledger.end(number, ids=[one.id for one in sent])
    return [one.duplicate for one in sent]


@upkeep(durability="full")
def send_once(play: Play) -> None:
    """Send again at once, after a lost answer, in a batch, and when it is gone."""
    play.open()
    play.arm()
    assert once(play, "a0") == [False]
    assert once(play, "a0") == [True]
    once(play, "a1", answered=False)
    assert once(play, "a1") == [True]
    once(play, "a2", "a3", "a4", answered=False)
    assert once(play, "a1", "a2", "a3", "a4", "a5") == [True] * 4 + [False]
    play.claim("a0", "a1")
    play.settle("ack", "a0")
    play.settle("reject", "a1", "hopeless")
    assert once(play, "a6", "a0", "a1") == [False, True, True]
    assert once(play, *names(12, letter="b")) == [False] * 12


# ---- settings ----


def set_lease(play: Play, seconds: int) -> None:
    """Configure how long a lease is."""
    with play.ledger.step("set", [f"visibility_timeout_ms={seconds * 1000}"]):
        play.queue.configure(visibility_timeout=seconds)


def set_pause(play: Play, until: datetime | None) -> None:
    """Pause, or resume when there is no end to it."""
    until_ms = (until - EPOCH) // timedelta(milliseconds=1) if until else 0
    with play.ledger.step("set", [f"paused_until_ms={until_ms}"]):
        if until:
            play.queue.pause(until)
        else:
            play.queue.resume()


@upkeep(messages=4, durability="full")
def settings(play: Play) -> None:
    """Configure, pause and resume, and use the queue in between."""
    play.open()
    set_lease(play, 100)
    set_pause(play, None)
    play.arm()
    for number, name in enumerate(names(4)):
        set_lease(play, 101 + number)
        set_pause(play, FAR + timedelta(days=number))
        assert play.queue.receive() is None
        play.send(f"s{number}")
        set_pause(play, None)
        play.claim(name)
        play.settle("ack", name)


# ---- removing ----


def purge(play: Play, *gone: str) -> None:
    """Purge: these go, in this order."""
    with play.ledger.step("drop", list(gone), PREFIX):
        assert play.queue.purge() == len(gone)


def cancel(play: Play, name: str, identity: str) -> None:
    """Cancel one that nobody holds."""
    with play.ledger.step("drop", [name]):
        assert play.queue.cancel(identity)


@upkeep(messages=STEP + 60)
def purge_many(play: Play) -> None:
    """Purge more than one step of what is new, what failed, and what is late."""
    play.open()
    play.claim(*names(6))
    for name in ("t1", "t2"):
        play.settle("nack", name, 0)
    play.settle("nack later", "t3", HOUR)
    for number in range(3):
        send(play, f"l{number}", delay=HOUR + number)
    play.arm()
    failed = ["t1", "t2", "t3"]
    purge(play, *failed, *names(3, letter="l"), *names(STEP + 54, 6))
    play.settle("ack", "t0")
    play.settle("nack", "t4", 0)
    play.send("s0")
    purge(play, "t4", "s0")
    play.send("s1")


@upkeep(durability="full")
def cancel_each(play: Play) -> None:
    """Cancel what is new, late, mortal, of another priority, and what failed."""
    play.open()
    kinds: dict[str, dict[str, Any]] = {
        "n": {},
        "l": {"delay": HOUR},
        "m": {"ttl": HOUR},
        "p": {"priority": 8, "ttl": HOUR},
        "x": {"delay": HOUR, "ttl": HOUR, "headers": {"padding": "x" * 3000}},
    }
    failed = [send(play, name) for name in names(3, letter="f")]
    play.claim("f0", "f1", "f2")
    ids = {
        f"{kind}{number}": send(play, f"{kind}{number}", **fields)
        for number in range(2)
        for kind, fields in kinds.items()
    }
    play.arm()
    play.settle("nack", "f0", 0)
    play.settle("nack later", "f1", HOUR)
    for name, identity in zip(("f0", "f1"), failed, strict=False):
        cancel(play, name, identity)
    assert not play.queue.cancel(failed[2])
    for kind in kinds:
        cancel(play, f"{kind}0", ids[f"{kind}0"])
    play.send("s0")
    play.settle("ack", "f2")


@upkeep(options={"ordered": "key"})
def remove_by_key(play: Play) -> None:
    """Cancel before and behind what is held of a key, and purge: keys are freed."""
    play.open()
    words = ["a1", "a2", "a3", "b1", "b2", "b3"]
    ids = {word: send(play, word, key=word[0]) for word in words}
    play.claim("a1", "b1")
    assert play.queue.receive() is None  # which sees the others behind these
    play.arm()
    cancel(play, "a2", ids["a2"])
    play.settle("ack", "a1")
    play.claim("a3")
    play.settle("nack", "b1", 0)
    cancel(play, "b1", ids["b1"])
    play.claim("b2")
    play.settle("nack", "b2", 0)
    c1 = send(play, "c1", key="c")
    send(play, "c2", key="c")
    cancel(play, "c1", c1)
    purge(play, "b2", "b3", "c2")
    send(play, "b4", key="b")
    play.claim("b4")
