"""Each verb by itself: alone, and beside a thread that computes."""

import contextlib
from time import perf_counter

from field.parts import (
    BODY,
    by_hundred,
    by_loop,
    computing,
    one_by_one,
    rate,
    worked_off,
)

FEW, MANY = 2_000, 5_000  # the backlogs that are worked off


def alone(cell):
    """Send 1, 100, 1,000 at once; receive and ack 1, 100 at once, and in a loop."""
    sender = cell.open("send")
    _warm(sender)
    found = {"send 1": rate(lambda: sender.send(BODY), cell.seconds)}
    if sender.send_many:
        for n in (100, 1000):
            bodies = [BODY] * n
            found[f"send {n}"] = rate(
                lambda bodies=bodies: sender.send_many(bodies), cell.seconds, n
            )
    if sender.send_nowait:
        found["send nowait"] = _nowait(sender, cell.seconds)
    return found | _receiving(cell, cell.open("receive"))


def beside(cell):
    """The same beside a computing thread; fewer sizes."""
    sender = cell.open("send")
    _warm(sender)
    with computing():
        found = {"send 1": rate(lambda: sender.send(BODY), cell.seconds)}
        if sender.send_many:
            bodies = [BODY] * 100
            found["send 100"] = rate(
                lambda: sender.send_many(bodies), cell.seconds, 100
            )
        if sender.send_nowait:
            found["send nowait"] = _nowait(sender, cell.seconds)
    return found | _receiving(cell, cell.open("receive"), computing)


def _warm(peer):
    for _ in range(50):
        peer.send(BODY)
        peer.ack(peer.receive(1.0))


def _nowait(peer, seconds):
    """Stage for a time; return how many a second were stored."""
    n = 0
    start = perf_counter()
    while perf_counter() < start + seconds:
        for _ in range(100):
            peer.send_nowait(BODY)
        n += 100
    peer.flush()
    return n / (perf_counter() - start)


def _receiving(cell, peer, around=contextlib.nullcontext):
    _warm(peer)
    ways = {"receive 1": (one_by_one, FEW)}
    if peer.receive_many and peer.ack_many:
        ways["receive 100"] = (by_hundred, MANY)
    if peer.messages:
        ways["loop"] = (by_loop, MANY)
    return {
        key: worked_off(peer, work, chunk, cell.seconds, around=around)
        for key, (work, chunk) in ways.items()
    }
