"""A play: the steps of one run that is killed, each written into the ledger.

It runs in a child of a stage. Up to `arm()` it only comes into position; from there on
its system calls count, and it dies before the Nth. What it expects to receive it says
beforehand, so that a claim without its confirmation can be judged. verbs.py has them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rig.application import make_application
from rig.interpose import COUNT, KILL, Rig
from rig.ledger import Ledger

import embq
from embq import _native, _schema, _sqlite  # noqa: F401  (here, as what follows)

_sqlite.bind()  # once in the stage, not in each of its children

FATAL = ["pwrite", "fsync", "fcntl", "ftruncate", "unlink", "open", "mmap", "flock"]
FATAL += ["futex"]
PATIENCE_S = 20.0
BIG = "x" * 65536


@dataclass
class Verb:
    """A play, and the file that it needs."""

    play: Callable[[Play], None]
    file: str = "application"  # see prepare()
    messages: int = 0
    durability: str = "normal"
    options: dict[str, Any] = field(default_factory=dict)
    points: int = 50  # where it is killed, unless --soak

    @property
    def application(self) -> bool:
        """Whether its file is an application's, with tables of its own."""
        return self.file in ("application", "foreign", "copied")

    @property
    def max_receives(self) -> int:
        """After so many deliveries a message is a dead letter."""
        return int(self.options.get("max_receives", 5))


VERBS: dict[str, Verb] = {}


def verb(**needs: Any) -> Callable[[Callable[[Play], None]], Callable[[Play], None]]:
    """Register a play."""

    def register(play: Callable[[Play], None]) -> Callable[[Play], None]:
        VERBS[play.__name__] = Verb(play, **needs)
        return play

    return register


def names(count: int, first: int = 0, letter: str = "t") -> list[str]:
    """Name messages; t0, t1, ... are there from the beginning."""
    return [f"{letter}{number}" for number in range(first, first + count)]


class Play:
    """One run: the file, the ledger, and the steps."""

    def __init__(self, folder: Path, verb: Verb) -> None:
        self.folder, self.verb = folder, verb
        self.path = folder / "test.db"
        self.ledger = Ledger(folder / "ledger")
        self.held: dict[str, embq.Message] = {}
        self.arm = lambda: None

    def open(self) -> None:
        """Open the file and the queue."""
        with self.ledger.step("open", []):
            self.broker = embq.open(self.path, durability=self.verb.durability)
            self.queue = self.broker.queue("q", **self.verb.options)

    def send(self, *wanted: str, padding: str | None = None) -> None:
        """Send one, or several as a batch."""
        data = [name if padding is None else [name, padding] for name in wanted]
        with self.ledger.step("send", list(wanted)) as ids:
            if len(wanted) == 1:
                ids.append(self.queue.send(data[0]).id)
            else:
                ids += [sent.id for sent in self.queue.send_many(data)]

    def place(self, *outgoing: embq.Outgoing[str]) -> None:
        """Send what has more than a name: one, or several as a batch.

        What has a delay is late, so that a batch may be two steps, of one unit.
        """
        names = [one.data for one in outgoing]
        late = [one.data for one in outgoing if one.delay]
        soon = [name for name in names if name not in late]
        steps = [(verb, of) for verb, of in (("send", soon), ("send late", late)) if of]
        numbers = [self.ledger.begin(verb, of, f"batch {names}") for verb, of in steps]
        if len(outgoing) == 1:
            fields = msgspec.structs.asdict(outgoing[0])
            sent = [self.queue.send(fields.pop("data"), **fields)]
        else:
            sent = self.queue.send_many(outgoing)
        ids = {name: one.id for name, one in zip(names, sent, strict=True)}
        for number, (_, of) in zip(numbers, steps, strict=True):
            self.ledger.end(number, ids=[ids[name] for name in of])

    def claim(self, *wanted: str, take: bool = False) -> None:
        """Receive exactly these."""
        with self.ledger.step("take" if take else "claim", list(wanted)):
            if len(wanted) == 1:
                one = self.queue.receive(auto_ack=take)
                got = [one] if one else []
            else:
                got = self.queue.receive_many(len(wanted), auto_ack=take)
        came = [str(message.data) for message in got]
        assert came == list(wanted), f"{came} came, {wanted} was expected"
        self.held |= dict(zip(wanted, got, strict=True))

    def settle(self, verb: str, name: str, *args: Any) -> None:
        """Settle one that is held."""
        method = {"nack later": "nack", "bury": "nack"}.get(verb, verb)
        with self.ledger.step(verb, [name]):
            getattr(self.held[name], method)(*args)

    def groups(self) -> int:
        """Count the commits so far; asking makes no system call."""
        return self.count("groups")

    def count(self, what: str) -> int:
        """Give one of the engine's counters."""
        ref = self.broker._file.open().ref
        return int(_native.stats(ref, 0)[what])

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Look until it is so."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, f"{what}: not in {PATIENCE_S} s"
            time.sleep(0.001)


# ---- the sides of the stage and of the test ----


def prepare(folder: Path, name: str) -> None:
    """Make the file that a verb begins with.

    "none"; "foreign": an application's own; "application": such a one with the queue;
    "copied": that, with leases of a process that never ended, as a copy has them;
    "sparse": one of embq alone, with many free pages.
    """
    needed = VERBS[name]
    play = Play(folder, needed)
    if needed.application:
        make_application(play.path)
    if needed.file in ("none", "foreign"):
        return
    play.open()
    if needed.messages:
        play.send(*names(needed.messages))
    if needed.file == "copied":
        play.claim("t0", "t1", "t2")
        play.claim("t3")
        for part in ("test.db", "test.db-wal"):
            shutil.copy(folder / part, folder / f"{part}.copy")
        play.broker.close()
        for part in ("test.db", "test.db-wal"):
            (folder / f"{part}.copy").replace(folder / part)
        return
    if needed.file == "sparse":
        backlog = play.broker.queue("backlog")
        for _ in range(80):
            backlog.send(BIG)
        while backlog.receive_many(100, auto_ack=True):
            pass
    play.broker.close()


def perform(name: str, template: str, folder: str, kill_at: int) -> int:
    """Copy the file, do the play, and die before that call; 0: return their number."""
    there = Path(folder)
    shutil.copytree(template, there)
    play = Play(there, VERBS[name])
    rig = Rig(play.path)
    play.arm = lambda: rig.arm(FATAL, KILL if kill_at else COUNT, kill_at or 1)
    play.verb.play(play)
    return rig.disarm()
