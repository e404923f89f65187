"""What all scenarios share: files, bodies, rounds, and the figures that come out."""

import contextlib
import dataclasses
import functools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import embq

BODY_SIZE = 100
BODY = bytes(range(BODY_SIZE))
CHILD = Path(__file__).with_name("child.py")
LIMIT_C = Path(__file__).parents[1] / "limit.c"

PAGE_SIZE = 4096  # embq's
NO_AUTOCHECKPOINT = 0  # embq's: its keeper checkpoints, no commit does


@dataclasses.dataclass
class Figure:
    """One row of the report.

    With a limit, the target is about the ratio; without, about the value itself.
    """

    key: str  # stays, for tables.py
    what: str
    value: float
    unit: str
    limit: float | None = None
    ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    rounds: list[float] = dataclasses.field(default_factory=list)

    @property
    def ok(self):
        """Whether the target is met; None when there is none."""
        judged = self.value if self.ratio is None else self.ratio
        if self.at_least is not None:
            return judged >= self.at_least
        if self.at_most is not None:
            return judged <= self.at_most
        return None

    def stored(self):
        """Return it as the results have it."""
        return dataclasses.asdict(self) | {"ok": self.ok}


def compare(key, what, unit, samples, name, limit, **target):
    """Compare two kinds of sample by the median of their ratios, round by round."""
    ratios = [a / b for a, b in zip(samples[name], samples[limit], strict=True)]
    return Figure(
        key,
        what,
        statistics.median(samples[name]),
        unit,
        limit=statistics.median(samples[limit]),
        ratio=statistics.median(ratios),
        rounds=[round(ratio, 4) for ratio in ratios],
        **target,
    )


def plain(key, what, unit, values, **target):
    """Report the median of what the rounds gave."""
    rounds = [round(value, 4) for value in values]
    return Figure(key, what, statistics.median(values), unit, rounds=rounds, **target)


def percentile(values, percent):
    """Return the value that `percent` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


class Run:
    """One run of run.py: where, how often and how long scenarios measure."""

    def __init__(self, directory, rounds, seconds):
        self.directory = directory
        self.rounds = rounds
        self.seconds = seconds

    @functools.cached_property
    def limit_program(self):
        """limit.c, compiled when a limit is asked for: it needs SQLite's headers."""
        program = self.directory / "limit"
        compiler = os.environ.get("CC", "cc")
        command = [compiler, "-std=c11", "-O2", "-o", program, LIMIT_C, "-lsqlite3"]
        subprocess.run(command, check=True)
        return program

    @property
    def limit_version(self):
        """The SQLite of the limit; None when there was none."""
        if "limit_program" not in vars(self):
            return None
        return output(self.limit_program, "version").strip()

    def sample(self, cells):
        """Call each function once a round, every second round in reverse order.

        Returns:
            By name, what the function returned in each round.
        """
        samples = {name: [None] * self.rounds for name in cells}
        for number in range(self.rounds):
            order = list(cells.items())
            for name, measure in order[::-1] if number % 2 else order:
                samples[name][number] = measure()
        return samples

    @contextlib.contextmanager
    def folder(self):
        """Make a folder for one measurement, removed with all that is in it."""
        path = Path(tempfile.mkdtemp(dir=self.directory))
        try:
            yield path
        finally:
            shutil.rmtree(path)

    @contextlib.contextmanager
    def queue(self, durability):
        """Open a new file with one queue of raw bodies, warmed up."""
        with (
            self.folder() as folder,
            embq.open(folder / "bench.db", durability=durability) as broker,
        ):
            queue = broker.queue("bench", codec="raw")
            for _ in range(50):
                queue.send(BODY)
                queue.receive().ack()
            yield broker, queue

    def limit_rows(self, sync, batch, seconds, *, size=BODY_SIZE, backlog=0):
        """Measure SQLite's own inserts and deletes per second, as limit.c is told."""
        options = [backlog] if backlog else []
        return self._limit(sync, size, batch, seconds, *options)

    def _limit(self, *values):
        with self.folder() as folder:
            lines = output(self.limit_program, folder, *values).splitlines()
        return [float(line.split("|")[1]) for line in lines]

    def limit(self, sync, batch, *, deletes=False, policy=False):
        """Measure SQLite's own rows per second, `batch` to a transaction.

        Args:
            sync: "NORMAL" or "FULL".
            batch: Rows to a transaction.
            deletes: Whether to return deletes instead of inserts.
            policy: With embq's page size and checkpoints, not SQLite's defaults.
        """
        options = [PAGE_SIZE, NO_AUTOCHECKPOINT] if policy else []
        found = self._limit(sync, BODY_SIZE, batch, self.seconds, *options)
        return found[1 if deletes else 0]

    def rate(self, call):
        """Call it in a loop; return how often in a second."""
        n = 0
        start = perf_counter()
        end = start + self.seconds
        while perf_counter() < end:
            call()
            n += 1
        return n / (perf_counter() - start)


def fill(queue, count):
    """Send so many messages, a thousand to a transaction."""
    batch = [BODY] * 1000
    for _ in range(count // 1000):
        queue.send_many(batch)


def output(*command, env=None):
    """Run a program, in another environment if one is given; return what it printed."""
    words = [os.fspath(w) if isinstance(w, Path) else str(w) for w in command]
    done = subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE, env=env)
    return done.stdout


def start_child(role, *arguments):
    """Start a process of child.py, and wait until it says that it is ready."""
    child = subprocess.Popen(
        [sys.executable, CHILD, role, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if child.stdout.readline() != "ready\n":
        child.wait()
        msg = f"child.py {role} failed"
        raise RuntimeError(msg)
    return child
