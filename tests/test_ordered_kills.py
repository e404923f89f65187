"""A queue that is ordered by key, and consumers that are killed all the time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING

from conftest import Children

import embq

if TYPE_CHECKING:
    from pathlib import Path

CONSUMERS = 8
KEYS, PER_KEY, SOAK_PER_KEY = 10_000, 4, 20
PAUSE_S = 0.2  # between kills
DEATHS = 3  # at the least
PATIENCE_S = 90.0

# Every line is one write to one file that all append to, so the lines stand in an order
# in which they were written. What may be done says so before, what is done after.
CONSUME = """
    import os, sys, embq
    path, name = sys.argv[1:]
    log = os.open(f"{path}.log", os.O_WRONLY | os.O_APPEND)
    queue = embq.open(path, durability="normal").queue("q")
    print("ready", flush=True)
    for message in queue.messages(wait=None):
        what = f"{name} {message.key} {message.data}\\n"
        os.write(log, f"got {what}".encode())
        os.write(log, f"acking {what}".encode())
        message.ack()
        os.write(log, f"acked {what}".encode())
"""


class Judge:
    """Reads the lines, and says what was out of order.

    Attributes:
        wrong: What was, a line each.
        deliveries: How often each message, by (key, number), was handed out.
    """

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.deliveries: Counter[tuple[str, int]] = Counter()
        self.next: Counter[str] = Counter()  # of each key: what was not acked yet
        self.free: Counter[str] = Counter()  # ... and up to where an ack has begun
        self.holder: dict[str, str] = {}  # of each key
        self.doomed: set[str] = set()  # consumers that are killed, or about to be

    def read(self, line: str) -> None:
        """Go on by a line."""
        word, name, *what = line.split()
        if word == "killing":
            self.doomed.add(name)
            return
        key, number = what[0], int(what[1])
        if word == "got":
            self.got(name, key, number)
        elif word == "acking":
            self.free[key] = max(self.free[key], number + 1)
        else:
            self.next[key] = max(self.next[key], number + 1)

    def got(self, name: str, key: str, number: int) -> None:
        """Judge a delivery: the next of its key, or one whose ack is not confirmed."""
        self.deliveries[key, number] += 1
        again = self.deliveries[key, number] > 1
        if not self.next[key] <= number <= self.free[key]:
            self.wrong.append(f"{key}: {number}, when {self.next[key]} was next")
        if again and self.holder[key] not in self.doomed:
            self.wrong.append(f"{key}: {number} twice, and its holder lives")
        self.holder[key] = name


def test_order_of_keys_under_kills(
    path: Path, children: Children, *, soak: bool
) -> None:
    """CASES 17, 18: each key is handed out in the order of sending, one at a time."""
    per_key = SOAK_PER_KEY if soak else PER_KEY
    log = path.with_name(f"{path.name}.log")
    log.touch()
    choice = random.Random(1)
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q", ordered="key", max_receives=1000)
        for number in range(per_key):
            queue.send_many(
                [embq.Outgoing(number, key=f"k{key}") for key in range(KEYS)]
            )
        living: dict[str, subprocess.Popen[str]] = {}
        end = time.monotonic() + PATIENCE_S
        deaths = 0
        with log.open("ab", buffering=0) as lines:
            while queue.depth():
                assert time.monotonic() < end, f"{queue.depth()} are left"
                while len(living) < CONSUMERS:
                    name = f"c{deaths}.{len(living)}"
                    living[name] = children.start(CONSUME, path, name)
                time.sleep(PAUSE_S)
                name = choice.choice(sorted(living))
                os.write(lines.fileno(), f"killing {name}\n".encode())
                living[name].kill()
                living.pop(name).wait()
                deaths += 1
        assert deaths >= DEATHS, f"all was done after {deaths} deaths"
        for name, child in living.items():
            assert child.poll() is None, f"{name} ended: {child.communicate()[1]}"
            child.send_signal(signal.SIGKILL)
        stats = queue.stats()
    judge = Judge()
    for line in log.read_text().splitlines():
        judge.read(line)
    assert not judge.wrong, judge.wrong[:10]
    assert len(judge.deliveries) == KEYS * per_key, "some never came"
    assert (stats["messages"], stats["dead"]) == (0, 0)
    again = judge.deliveries.total() - len(judge.deliveries)
    assert again, "nobody was killed in the middle of anything"
