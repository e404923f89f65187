"""A process that lives through all rounds of chaos on a file, and measures itself.

What it opens it closes, so descriptors, threads and memory must stay as they are.
Started as a module: PATH CLOCK SAMPLES. A line on stdin makes it rest, the next one go
on; it answers each with a line. `flat` judges the samples.
"""

from __future__ import annotations

import gc
import json
import os
import select
import statistics
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

SAMPLE_S = 2.0
PATIENCE_S = 20.0
WARM_UP = 0.1  # of the samples
# What may be more in the last third of a run than in the first: a share, and a slack.
FLAT: dict[str, tuple[float, int]] = {
    "descriptors": (0.0, 0),
    "threads": (0.0, 0),
    "resident": (0.05, 2 << 20),
    "wal": (0.25, 4 << 20),
    "file": (0.25, 4 << 20),
}


def flat(samples: list[dict[str, int]]) -> list[str]:
    """Compare the last third of a run with its first, after a warm-up."""
    warm = samples[round(len(samples) * WARM_UP) :]
    third = len(warm) // 3
    if not third:
        return ["too few samples to judge"]
    problems = []
    for name, (share, slack) in FLAT.items():
        first, last = (
            statistics.median(sample[name] for sample in part)
            for part in (warm[:third], warm[-third:])
        )
        if last > first * (1 + share) + slack:
            problems.append(f"{name} grew from {first:,.0f} to {last:,.0f}")
    return problems


def read_samples(path: Path) -> list[dict[str, int]]:
    """Read what `Steady.sample` wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]


class Steady:
    """Use everything, keep nothing."""

    def __init__(self, path: Path, samples: Path) -> None:
        import embq  # noqa: PLC0415  (who judges samples needs no core)

        self.embq = embq
        self.path, self.samples = path, samples
        self.broker = embq.open(path, durability="normal")
        self.queue = self.broker.queue("steady", visibility_timeout=600)
        self.turn = 0

    def work(self) -> None:
        """Send, receive and settle in several ways; nothing is left."""
        self.turn += 1
        queue, expected = self.queue, 12
        queue.send_many([[self.turn, n] for n in range(10)])
        thread = threading.Thread(target=queue.send, args=([self.turn, 10],))
        thread.start()
        queue.send_nowait([self.turn, 11])
        thread.join()
        self.broker.flush()
        taken = []
        for message in queue.messages(prefetch=8, wait=0):
            taken.append(message.data)
            message.ack_nowait()
            if len(taken) % 5 == 0:
                break  # what was claimed ahead goes back
        self.broker.flush()
        end = time.monotonic() + PATIENCE_S
        while len(taken) < expected:
            message = queue.receive(wait=0.5)
            if message is not None:
                message.ack()
                taken.append(message.data)
            elif time.monotonic() > end:
                break
        wanted = [[self.turn, n] for n in range(expected)]
        if sorted(taken) != wanted or queue.depth():
            sys.exit(f"steady: sent {wanted}, received {sorted(taken)}")

    def reopen(self) -> None:
        """Open the file a second time, use and close that; fork as well."""
        with self.embq.open(self.path) as broker:
            broker.queue("steady").stats()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    def sample(self) -> None:
        """Measure this process and the file."""
        gc.collect()
        sizes: dict[str, Any] = {
            "wal": Path(f"{self.path}-wal").stat().st_size,
            "file": self.path.stat().st_size,
            "descriptors": len([*Path("/proc/self/fd").iterdir()]),
            "threads": len([*Path("/proc/self/task").iterdir()]),
        }
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        sizes["resident"] = pages * os.sysconf("SC_PAGE_SIZE")
        with self.samples.open("a") as file:
            file.write(json.dumps(sizes) + "\n")

    def run(self) -> None:
        """Work until stdin ends."""
        due = time.monotonic()
        while True:
            self.work()
            if time.monotonic() >= due:
                self.reopen()
                self.sample()
                due = time.monotonic() + SAMPLE_S
            if select.select([sys.stdin], [], [], 0.01)[0] and not self.rest():
                break
        self.broker.close()

    @staticmethod
    def rest() -> bool:
        """Rest until the next line; False when stdin ended."""
        for word in ("rests", "goes on"):
            if not sys.stdin.readline():
                return False
            sys.stdout.write(f"{word}\n")
            sys.stdout.flush()
        return True


if __name__ == "__main__":
    warnings.simplefilter("ignore", ResourceWarning)
    from embq import _native

    place, clock, output = map(Path, sys.argv[1:])
    _native.use_clock(clock)
    Steady(place, output).run()
