"""A whole life of a broker, in which one thing or another fails.

It runs in a child of a stage: opens a file, does every verb, closes, whatever the calls
raise, as a careful application would; each step is written into the ledger. What is no
`embq.Error` it lets through, and the test fails. Afterwards, with the fault gone, it
must be able to open the file again, and nothing may have leaked.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rig.interpose import Rig
from rig.ledger import EACH, WHOLE, Ledger
from rig.play import PATIENCE_S, names

import embq

BUSY_S = 0.2
LATE_S = 1000.0
BRIEF_S = 0.002
KEYED = ["k:a1", "k:a2", "k:b1"]
OPENINGS = 3  # tries to open before it gives up


def open_files() -> int:
    """Count the descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (names only)


class Life:
    """One run of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "test.db"
        self.ledger = Ledger(folder / "ledger")
        self.errors: list[tuple[str, str, str]] = []  # verb, class, text
        self.reopened = 0
        self.broker: embq.Broker | None = None
        self.sent: list[str] = []
        self.held: dict[str, embq.Message] = {}

    # ---- one step ----

    def raised(self, verb: str, error: embq.Error) -> None:
        """Note an error."""
        self.errors.append((verb, type(error).__name__, str(error)))

    @contextmanager
    def step(self, verb: str, wanted: list[str], unit: str = WHOLE) -> Iterator[Any]:
        """Do a step; whatever typed error it raises is noted, and life goes on."""
        number = self.ledger.begin(verb, wanted, unit)
        try:
            yield number
        except embq.Error as error:
            self.raised(verb, error)
            self.ledger.failed(number, error)
            self.recover()
        else:
            self.ledger.end(number)

    def recover(self) -> None:
        """Open anew when the broker says that it goes no further."""
        try:
            self.need().ping()
        except embq.Error:
            self.close()
            self.reopened += 1
            self.open()

    def need(self) -> embq.Broker:
        """Give the broker; without one there is nothing to do."""
        if self.broker is None:
            raise embq.errors.Closed
        return self.broker

    def queue(self) -> embq.Queue:
        """Give the queue, as the broker of the moment knows it."""
        return self.need().queue("q", max_receives=2)

    def keyed(self) -> embq.Queue:
        """Give the queue that is ordered by key."""
        return self.need().queue("k", max_receives=2, ordered="key")

    # ---- the steps ----

    def open(self) -> None:
        """Open, and try again when it fails."""
        for _ in range(OPENINGS):
            try:
                self.broker = embq.open(self.path, busy_timeout=BUSY_S)
            except embq.Error as error:
                self.raised("open", error)
            else:
                return

    def close(self) -> None:
        """Close; an error is noted, and the broker is closed all the same."""
        broker, self.broker = self.broker, None
        try:
            if broker is not None:
                broker.close()
        except embq.Error as error:
            self.raised("close", error)

    def send(self, *wanted: str, retries: int = 0) -> None:
        """Send one, or several as a batch."""
        self.sent += wanted
        with self.step("send", list(wanted)):
            if len(wanted) == 1:
                self.queue().send(wanted[0], retries=retries)
            else:
                self.queue().send_many(wanted, retries=retries)

    def place(self) -> None:
        """Send what has a priority, a delay, a ttl, a key."""
        self.sent += ["p0", "t0"]
        with self.step("send", ["p0"]):
            self.queue().send("p0", priority=9)
        with self.step("send", ["t0"]):
            self.queue().send("t0", priority=8, ttl=LATE_S)
        with self.step("send late", ["d0"]):
            self.queue().send("d0", delay=LATE_S, priority=2)
        with self.step("send", ["m0"]):
            self.queue().send("m0", ttl=BRIEF_S)
        self.ledger.begin("mortal", ["m0"])  # and nobody says when
        time.sleep(2 * BRIEF_S)
        with self.step("send", KEYED):
            outgoing = [embq.Outgoing(name, key=name[2]) for name in KEYED]
            self.keyed().send_many(outgoing)

    def once(self) -> None:
        """Keep results: set, run, run what fails, find, delete."""

        def scope() -> embq.Idempotency[int]:
            return self.need().idempotency("s")

        def raised() -> int:
            raise LookupError

        with self.step("set", ["result:a=1"]):
            scope().set("a", 1)
        with self.step("set", ["result:b=2"]):
            scope().run("b", lambda: 2)
        self.look("get", lambda: (scope().get("a"), scope().exists("b")))
        with contextlib.suppress(LookupError):
            self.look("run", lambda: scope().run("c", raised))
        with self.step("set", ["result:c=3"]):
            scope().run("c", lambda: 3)
        with self.step("set", ["result:a=0"]):
            scope().delete("a")

    def by_key(self) -> None:
        """Receive and settle by key: each time the first of each."""
        for verb, *args in (("nack", 0), ("ack",), ("ack",)):
            self.claim(2, keyed=True)
            for name in [name for name in KEYED if name in self.held]:
                self.settle(verb, name, *args)

    def send_nowait(self, *wanted: str) -> None:
        """Stage several, and look at each ticket."""
        self.sent += wanted
        tickets = {}
        for name in wanted:
            number = self.ledger.begin("send", [name], EACH)
            try:
                tickets[number] = self.queue().send_nowait(name)
            except embq.Error as error:
                self.raised("send_nowait", error)
                self.ledger.failed(number, error)
        for number, ticket in tickets.items():
            try:
                ticket.result(PATIENCE_S)
            except embq.Error as error:
                self.raised("ticket", error)
                self.ledger.failed(number, error)
            else:
                self.ledger.end(number)
        self.look("flush", lambda: self.need().flush())

    def claim(self, count: int, *, take: bool = False, keyed: bool = False) -> None:
        """Receive what comes."""
        wanted = KEYED if keyed else self.sent
        number = self.ledger.begin("take" if take else "claim", wanted, EACH)
        try:
            queue = self.keyed() if keyed else self.queue()
            got = queue.receive_many(count, auto_ack=take)
        except embq.Error as error:
            self.raised("receive", error)
            self.ledger.failed(number, error)
            self.recover()
            return
        came = {message.data: message for message in got}
        self.ledger.end(number, list(came))
        self.ledger.void(number)
        if not take:
            self.held |= came

    def loop(self, count: int) -> None:
        """Receive ahead, and ack."""
        number = self.ledger.begin("claim", self.sent, EACH)
        try:
            loop = self.queue().messages(prefetch=4, wait=0)
            for _, message in zip(range(count), loop, strict=False):
                self.ledger.end(number, [message.data])
                self.held[message.data] = message
                self.settle("ack", message.data)
            loop.close()
        except embq.Error as error:
            self.raised("messages", error)
            self.recover()
        else:
            self.ledger.void(number)

    def settle(self, verb: str, name: str | None, *args: Any) -> None:
        """Settle one that is held."""
        if name is None:
            return
        message = self.held.pop(name)
        last = verb == "nack" and message.receive_count >= 2
        with self.step("bury" if last else verb, [name]):
            getattr(message, verb)(*args)

    def next(self) -> str | None:
        """Name one that is held."""
        return next(iter(self.held), None)

    def look(self, verb: str, call: Callable[[], object]) -> None:
        """Do what changes nothing."""
        try:
            call()
        except embq.Error as error:
            self.raised(verb, error)
            self.recover()

    def live(self) -> None:
        """Do every verb."""
        if self.broker is None:
            self.open()
        self.look("declare", lambda: self.need().queue("other", codec="raw"))
        for name in names(3, letter="s"):
            self.send(name)
        self.send(*names(4, 3, "s"))
        self.send_nowait(*names(3, 7, "s"))
        self.send("r0", retries=2)
        self.send("r1", "r2", retries=1)
        self.place()
        self.by_key()
        self.claim(1)
        self.claim(3)
        self.settle("ack", self.next())
        self.settle("nack", self.next(), 0, "it failed")
        self.settle("extend", self.next(), 1000)
        self.settle("reject", self.next(), "hopeless")
        self.claim(2)
        self.settle("nack", self.next(), 0)
        self.ack_nowait(self.next())
        self.claim(1, take=True)
        self.loop(2)
        self.look("stats", lambda: (self.queue().stats(), self.need().stats()))
        self.once()
        self.look("depth", lambda: self.queue().depth())
        self.look("queues", lambda: self.need().queues())
        self.send("s10")
        self.close()

    def ack_nowait(self, name: str | None) -> None:
        """Stage an ack, and flush."""
        if name is None:
            return
        number = self.ledger.begin("ack", [name])
        try:
            self.held.pop(name).ack_nowait()
        except embq.Error as error:
            self.raised("ack_nowait", error)
            self.ledger.failed(number, error)
            return
        try:
            self.need().flush()
        except embq.Error as error:  # perhaps of the flush alone
            self.raised("flush", error)
            self.recover()
        else:
            self.ledger.end(number)


def clean_up(life: Life) -> None:
    """With the fault gone: the file opens, and does its work."""
    life.close()
    life.held.clear()
    life.broker = embq.open(life.path)
    life.send("last")
    assert life.broker.queue("q").depth() > 0
    life.broker.close()
    life.broker = None


def perform(
    folder: str,
    call: str | list[str],
    action: int,
    first: int,
    last: int,
    argument: int = 0,
    every: int = 1,
    opened: int = 0,
) -> dict[str, Any]:
    """Live once with that fault; tell what was raised and what leaked.

    Args:
        folder: Made for this run.
        call: See `Rig.arm`, as for all that follow.
        action: What the fault is.
        first: Where it begins.
        last: Where it ends.
        argument: Of the action.
        every: Of the calls.
        opened: 1: begin only once the file is open.
    """
    there = Path(folder)
    there.mkdir()
    embq.open(there / "warm.db").close()
    rig = Rig(there / "test.db")
    life = Life(there)
    gc.collect()
    files = open_files()
    rig.count_live()
    if opened:
        life.open()
    rig.arm(call, action, first, last, argument, every)
    life.live()
    seen = rig.disarm()
    errors, reopened = list(life.errors), life.reopened
    clean_up(life)
    gc.collect()
    return {
        "seen": seen,
        "errors": errors,
        "reopened": reopened,
        "errors_after": life.errors[len(errors) :],
        # The guard of the file: a descriptor that stays, with what is known of it.
        "files": open_files() - files - 1,
        "memory": rig.live() - 1,
    }
