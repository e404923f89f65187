"""Signals that end a call in a child: how soon it is back, and what is aimed at."""

from __future__ import annotations

import signal
import statistics
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Children

AT_ONCE_S = 0.1  # half of the calls
BACK_S = 1.0  # each: the rest is for a loaded machine
each_signal = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def interrupt(
    children: Children, child: Any, name: str, number: signal.Signals
) -> float:
    """Let the child make a call, interrupt it, and tell how soon it came back."""
    children.tell(child, name)
    children.expect(child, "in")
    time.sleep(0.15)  # now it is inside, or about to be: both must work
    begun = time.monotonic()
    child.send_signal(number)
    children.expect(child, number.name)
    took = time.monotonic() - begun
    assert took < BACK_S, f"{name}: back after {took:.2f} s"
    return took


def judge(took: dict[str, float]) -> None:
    """Compare how soon each call came back with what is aimed at."""
    assert statistics.median(took.values()) < AT_ONCE_S, took
