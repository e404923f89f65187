"""What is done while it is killed, of where and when: priorities, delays, ttl, order.

The plays move a clock of their own, which begins as the real one, so that what they let
be due or perish is so for them alone: who judges the file comes long before that.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator

from clock import ClockFile
from rig.ledger import EACH
from rig.play import Play, names, verb

from embq import Outgoing, _native

HOUR = 3600.0
DAY = 24 * HOUR
placing = functools.partial(verb, points=40)


def own_clock(play: Play) -> ClockFile:
    """Give this process a clock that only the play moves."""
    clock = ClockFile(play.folder / "clock")
    clock.wall_ms = round(time.time() * 1000)
    _native.use_clock(clock.path)
    return clock


def keyed(play: Play, words: str) -> None:
    """Send "a1 b1 a2": the letter is the key."""
    play.place(*(Outgoing(word, key=word[0]) for word in words.split()))


# ---- sending ----


def mixed(
    letter: str, count: int, headers: dict[str, str] | None
) -> Iterator[Outgoing[str]]:
    """Make a batch in which neighbours go to different places."""
    for n in range(count):
        yield Outgoing(
            f"{letter}{n}",
            headers=headers,
            priority=n % 10,
            delay=HOUR + n if n % 3 == 0 else None,
            ttl=DAY - n if n % 4 == 0 else None,
        )


@placing(durability="full")
def send_placed(play: Play) -> None:
    """Send one by one and in batches: with a priority, a delay, a ttl, all, or none."""
    play.open()
    play.arm()
    for number in (9, 4):
        play.place(Outgoing(f"p{number}", priority=number))
        play.place(Outgoing(f"d{number}", priority=number, delay=HOUR))
        play.place(Outgoing(f"t{number}", priority=number, ttl=HOUR))
        play.place(Outgoing(f"b{number}", priority=number, delay=HOUR, ttl=DAY))
    play.place(*mixed("m", 12, None))
    play.send(*names(20, letter="s"))
    play.place(*mixed("x", 24, {"padding": "x" * 3000}))  # into overflow pages
    play.send("s20")


# ---- receiving ----


@placing()
def claim_placed(play: Play) -> None:
    """Claim from several priorities at once; ack, nack and give back some of each."""
    play.open()
    play.place(*(Outgoing(f"{n}.{n % 3}", priority=n % 3) for n in range(18)))
    high, middle, low = (
        [f"{n}.{priority}" for n in range(18) if n % 3 == priority]
        for priority in (2, 1, 0)
    )
    play.arm()
    play.claim(*high[:4])
    play.claim(*high[4:], *middle[:3])
    held = [*high[2:6], *middle[:2]]
    with play.ledger.step("ack", held):
        play.queue.ack_many([play.held[name] for name in held])
    play.settle("nack", middle[2], 0)
    play.claim(middle[2], *middle[3:], low[0])
    play.settle("reject", middle[3], "hopeless")
    number = play.ledger.begin("claim", low[1:], EACH)
    loop = play.queue.messages(prefetch=10, wait=0)
    play.ledger.end(number, [next(loop).data])
    loop.close()
    play.ledger.void(number)


@placing()
def claim_due(play: Play) -> None:
    """Claim what was sent with a delay, once it is due, and settle it in all ways."""
    clock = own_clock(play)
    play.open()
    play.place(*(Outgoing(f"d{n}", delay=HOUR - n, ttl=DAY) for n in range(6)))
    play.place(*(Outgoing(f"h{n}", delay=HOUR + n, priority=8) for n in range(4)))
    play.place(*(Outgoing(f"l{n}", delay=DAY) for n in range(2)))
    clock.jump(HOUR + 60)
    play.arm()
    play.claim("h0", "h1", "h2", "h3", "d5", "d4")
    for name in ("h0", "d5"):
        play.settle("ack", name)
    play.settle("nack later", "d4", 0)  # for who judges, whose clock is behind
    play.claim("d3", "d2")
    play.settle("extend", "d3", 1000)
    play.settle("reject", "d2", "hopeless")
    play.settle("nack later", "h1", 2 * DAY)
    play.claim("d1", take=True)
    play.claim("d0", "d4")


# ---- ttl ----


@placing()
def perish(play: Play) -> None:
    """What is too old becomes dead letters: new, nacked, and once it is not held."""
    clock = own_clock(play)
    play.open()
    play.place(*(Outgoing(f"t{n}", ttl=HOUR) for n in range(8)))
    play.place(*(Outgoing(f"p{n}", ttl=HOUR + n, priority=n) for n in range(3)))
    play.claim("t0", "t1", "t2", "t3")
    play.settle("nack", "t0", 0)
    play.settle("nack", "t1", 0)
    play.claim("t0")
    clock.jump(2 * HOUR)
    play.send("s0")
    play.arm()
    with play.ledger.step("perish", ["t1", *names(4, 4), "p0", "p1", "p2"]):
        play.claim("s0")
    play.settle("ack", "t0")
    play.settle("extend", "t2", 100)
    play.settle("nack later", "t2", 0)  # for who judges, whose clock is behind
    with play.ledger.step("perish", ["t2"]):
        assert play.queue.receive() is None
    play.settle("ack", "s0")


@placing()
def give_back_mortal(play: Play) -> None:
    """Give back and nack what became too old while it was held: it perishes now."""
    clock = own_clock(play)
    play.open()
    other = play.broker.queue("other")
    play.place(*(Outgoing(f"t{n}", ttl=HOUR + n) for n in range(9)))
    play.claim("t0", "t1", "t2")
    play.arm()
    number = play.ledger.begin("claim", names(6, 3), EACH)
    loop = play.queue.messages(prefetch=12, wait=0)
    play.ledger.end(number, [next(loop).data])
    clock.jump(2 * HOUR)
    assert other.receive() is None  # they are met in flight
    loop.close()
    play.ledger.void(number)
    play.settle("nack later", "t1", 0)  # for who judges, whose clock is behind
    play.settle("extend", "t2", 1000)
    with play.ledger.step("perish", ["t1", *names(5, 4)]):
        assert other.receive() is None
    play.settle("ack", "t2")


# ---- order ----


@placing(options={"ordered": "key"})
def by_key(play: Play) -> None:
    """Claim, take and settle by key, with others of the keys behind."""
    play.open()
    keyed(play, "a1 a2 b1 a3 b2 c1 c2 b3 a4")
    play.arm()
    play.claim("a1", "b1")
    play.claim("c1")
    play.settle("ack", "a1")
    play.claim("a2")
    play.settle("nack", "b1", 0)
    play.settle("reject", "c1", "hopeless")
    play.claim("b1", "c2")
    play.settle("ack", "b1")
    keyed(play, "d1 a5 d2")
    play.claim("b2", "d1")
    play.settle("ack", "a2")
    play.settle("ack", "d1")
    number = play.ledger.begin("claim", ["a3", "d2"], EACH)
    loop = play.queue.messages(prefetch=4, wait=0)
    play.ledger.end(number, [next(loop).data])
    loop.close()
    play.ledger.void(number)
    play.settle("ack", "b2")
    play.claim("b3", "d2", take=True)
    keyed(play, "e1 e2 f1")
    play.claim("e1", "e2", take=True)
    play.claim("f1", take=True)


@placing(options={"ordered": "key", "max_receives": 1})
def bury_by_key(play: Play) -> None:
    """Nack after the last delivery: a dead letter, and the next of its key may go."""
    play.open()
    keyed(play, "a1 a2 b1 a3 b2")
    play.arm()
    play.claim("a1")
    play.claim("b1")
    for name, freed in (("a1", "a2"), ("b1", "b2"), ("a2", "a3")):
        play.settle("bury", name, None, "it failed")
        play.claim(freed)


@placing(options={"ordered": "key", "expiry": "drop"})
def perish_by_key(play: Play) -> None:
    """The first of a key is dropped, which frees it; so is one behind it, which not."""
    clock = own_clock(play)
    play.open()
    for word, ttl in (("a1", 1), ("a2", 9), ("b1", 9), ("b2", 1), ("b3", 9)):
        play.place(Outgoing(word, key=word[0], ttl=ttl * HOUR))
    play.claim("a1", "b1")
    assert play.queue.receive() is None
    play.settle("nack", "a1", 0)
    play.settle("nack", "b1", 0)
    clock.jump(2 * HOUR)
    play.arm()
    with play.ledger.step("drop", ["a1", "b2"]):
        play.claim("b1", "a2")
    play.settle("ack", "b1")
    play.claim("b3")


@placing(messages=6, options={"ordered": "queue"})
def one_by_one(play: Play) -> None:
    """A queue that is ordered as a whole: claim, ack, nack, reject, one by one."""
    play.open()
    play.arm()
    play.claim("t0")
    play.settle("ack", "t0")
    play.claim("t1")
    assert play.queue.receive() is None
    play.settle("nack", "t1", 0)
    play.claim("t1")
    play.settle("reject", "t1", "hopeless")
    play.claim("t2", take=True)
    play.claim("t3")
