"""What is done while it is killed, of results of what is to be done once.

A result is a setting of the ledger, "result:KEY", with a number; 0: it is not there.
"""

from __future__ import annotations

import os
import signal

from rig.play import PATIENCE_S, Play, verb

SCOPE = "s"


def note(play: Play, key: str, value: int) -> None:
    """Set a result."""
    with play.ledger.step("set", [f"result:{key}={value}"]):
        play.broker.idempotency(SCOPE).set(key, value)


def once(play: Play, key: str, value: int) -> None:
    """Run what gives this result."""
    with play.ledger.step("set", [f"result:{key}={value}"]):
        scope = play.broker.idempotency(SCOPE)
        assert scope.run(key, lambda: value, timeout=PATIENCE_S) == value


def forget(play: Play, key: str) -> None:
    """Delete one."""
    with play.ledger.step("set", [f"result:{key}=0"]):
        assert play.broker.idempotency(SCOPE).delete(key)


def fail(play: Play, key: str) -> None:
    """Run what fails."""

    def raised() -> int:
        raise LookupError

    try:
        play.broker.idempotency(SCOPE).run(key, raised)
    except LookupError:
        return
    text = "it did not fail"
    raise AssertionError(text)


@verb(durability="full")
def results(play: Play) -> None:
    """Set, run, fail and delete, beside sends."""
    play.open()
    play.arm()
    for number in range(1, 4):
        note(play, f"a{number}", number)
        note(play, f"a{number}", number + 10)
        once(play, f"b{number}", number)
        fail(play, f"c{number}")
        once(play, f"c{number}", number)
        forget(play, f"a{number}")
        play.send(f"s{number}")


@verb()
def results_of_the_dead(play: Play) -> None:
    """Do what a process was at that was killed; the own end comes in the middle too."""
    if os.fork() == 0:
        play.open()
        scope = play.broker.idempotency(SCOPE)
        scope.run("a", lambda: os.kill(os.getpid(), signal.SIGKILL))
    os.wait()
    play.open()
    play.arm()
    once(play, "a", 5)
    once(play, "b", 6)
