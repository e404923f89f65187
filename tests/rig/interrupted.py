"""Signals in the middle of a call: played in a child of a stage."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

from interpose import DELAY, FOREVER, Rig

import embq

SLOW_US = 100_000
SIGNAL_S = 0.15
READ_US = 1000  # for a page


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


def abandoned_in_its_group(path: str) -> str:
    """Leave a run while another thread leads the group that it is in; run it again."""
    rig = Rig(Path(path))
    signal.signal(signal.SIGALRM, _interrupt)
    with embq.open(path, durability="normal") as broker:
        queue, once = broker.queue("q"), broker.idempotency("s")
        leader = threading.Thread(target=queue.send, args=(1,))
        # It takes the gate, which is slow, then us; the signal comes while it leaves
        # the gate.
        rig.arm("flock", DELAY, last=FOREVER, argument=SLOW_US)
        leader.start()
        time.sleep(SLOW_US / 2e6)
        signal.setitimer(signal.ITIMER_REAL, SLOW_US / 1e6)
        try:
            return str(once.run("a", lambda: "first"))
        except Interrupted:
            rig.disarm()
            return str(once.run("a", lambda: "second"))
        finally:
            rig.disarm()
            leader.join()


def reading(path: str, call: str) -> float:
    """Tell how soon a call that reads all of the file is back after a signal.

    A backup reads slowly. The others compute for long: an older SQLite (3.40 is
    one) walks through the pages of a table without asking whether to go on.
    """
    rig = Rig(Path(path))
    signal.signal(signal.SIGALRM, _interrupt)
    with embq.open(path, durability="normal") as broker:
        calls = {
            "check": broker.check,
            "repair": broker.repair,
            "backup": lambda: broker.backup(f"{path}.copy"),
        }
        if call == "backup":
            rig.arm("pread", DELAY, last=FOREVER, argument=READ_US)
        signal.setitimer(signal.ITIMER_REAL, SIGNAL_S)
        start = time.monotonic()
        try:
            calls[call]()
        except Interrupted:
            return time.monotonic() - start - SIGNAL_S
        finally:
            rig.disarm()
    return float("inf")
