"""Signals in the middle of a call: played in a child of a stage."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from interpose import DELAY, FOREVER, Rig

import embq

SLOW_US = 100_000
SIGNAL_S = 0.15


class Interrupted(Exception):
    """Raised by the handler."""


def _interrupt(number: int, frame: object) -> None:
    raise Interrupted(number, frame)


def waiting(path: str, call: str) -> float:
    """Tell when a wait for ever is back, if a signal comes while it looks."""
    rig = Rig(Path(path))
    signal.signal(signal.SIGALRM, _interrupt)
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        calls = {
            "receive": lambda: queue.receive(wait=None),
            "messages": lambda: next(queue.messages(wait=None)),
        }
        # The calls that take the gate and leave it: the signal comes between.
        rig.arm("flock", DELAY, last=FOREVER, argument=SLOW_US)
        signal.setitimer(signal.ITIMER_REAL, SIGNAL_S)
        start = time.monotonic()
        try:
            calls[call]()
        except Interrupted:
            return time.monotonic() - start
        finally:
            rig.disarm()
    return float("inf")
