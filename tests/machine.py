"""A state machine that drives two processes on one file and the model, step by step.

The subject is the core in two real processes, or another model, so that the machine
itself is checked. The model beside it is the oracle: each result must be the model's,
order and counts included, and after each step stats, depth and the views must agree.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import hypothesis.strategies as st
from clock import START_WALL_MS, YEAR_MS, ClockFile
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from model import ModelBroker
from model_file import BLOCKED, IN_FLIGHT, OUTCOMES, READY, STATES, ModelFile

from embq import Backoff, Outgoing, errors

if TYPE_CHECKING:
    from collections.abc import Callable

RETRY = Backoff(2.0, factor=2, cap=16.0, jitter=False)
QUEUES: dict[str, dict[str, Any]] = {
    # With a limit of 1, burials come from runs; with more, from deliveries.
    "first": {"visibility_timeout": 30, "max_receives": 2, "dead_letter": "dead"},
    "second": {
        "visibility_timeout": 10,
        "max_receives": 4,
        "dead_letter": "dead",
        "ttl": 50,
        "expiry": "drop",
    },
    "keyed": {
        "visibility_timeout": 12,
        "max_receives": 3,
        "dead_letter": "dead",
        "ordered": "key",
    },
    "strict": {
        "visibility_timeout": 12,
        "max_receives": 3,
        "dead_letter": "dead",
        "ordered": "queue",
    },
    "once": {"visibility_timeout": 20, "max_receives": 1, "dead_letter": "dead"},
    "endless": {
        "visibility_timeout": 15,
        "max_receives": 1,
        "dead_letter": None,
        "delay": 1,
    },
}
COUNTERS = ("messages", "bytes", *STATES, *OUTCOMES)
ORDERED = ("keyed", "strict")
REOPENINGS = 2  # in one example
HERE, CHILD = 0, 1

names = st.sampled_from([*QUEUES, "dead"])
live = st.sampled_from([*QUEUES])
processes = st.sampled_from([HERE, CHILD])
picks = st.integers(0, 1 << 16)
# Mostly plain, as in life.
placings = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.sampled_from([0, 4, 9, "high"]),
        "delay": st.sampled_from([0, 2, 15]),
        "ttl": st.sampled_from([3, 12, 40]),
        "dedup_id": st.sampled_from(["a", "b", "c"]),
    },
)


def only_ttl(placing: dict[str, Any]) -> dict[str, Any]:
    """Leave what an ordered queue takes, and add a key."""
    kept = {name: placing[name] for name in ("ttl", "dedup_id") if name in placing}
    return {**kept, "key": f"key {len(placing)}"}


class Subject(Protocol):
    """What is tested: one file, two processes."""

    def start(self) -> list[Any]:
        """Begin with an empty file; the brokers of both processes."""

    def reopen(self, process: int) -> Any:
        """Close a broker that holds nothing, and open the file again."""

    def kill_child(self) -> None:
        """SIGKILL the child."""

    def restart_child(self) -> Any:
        """Start another child in its place; its broker."""

    def settle_down(self, agrees: Callable[[], bool]) -> None:
        """Wait until the death was noticed."""

    def views(self) -> tuple[list[Any], list[Any]]:
        """Read embq_queues and embq_messages."""

    def end(self) -> None:
        """Close all."""


class Pair:
    """One delivery: the subject's message and the model's."""

    def __init__(self, process: int, queue: str, real: Any, model: Any) -> None:
        self.process, self.queue, self.real, self.model = process, queue, real, model


class Machine(RuleBasedStateMachine):
    """Two processes send, receive, settle, die and come back; clocks run and jump."""

    def __init__(self, subject: Subject, clock: ClockFile, kills: int) -> None:
        super().__init__()
        self.kills = kills  # how many are left: in the core each takes a second
        self.subject, self.clock = subject, clock
        clock.wall_ms = START_WALL_MS
        self.file = ModelFile(clock)
        self.model: list[Any] = [ModelBroker(self.file), ModelBroker(self.file)]
        self.real = subject.start()
        self.queues: dict[tuple[int, str], tuple[Any, Any]] = {}
        self.ids: dict[str, str] = {}  # the subject's id to the model's
        self.held: list[Pair] = []
        self.old: list[Pair] = []
        self.buried = 0  # the last row of the dead-letter queue that was compared
        self.reopenings = self.sent = 0

    @initialize()
    def declare(self) -> None:
        """Declare the queues in one process; the other opens them as stored."""
        # The order of burials is open, so "dead" is not left to the first to declare.
        more = {"dead": {"dead_letter": None, "visibility_timeout": 25}, "tick": {}}
        for name, options in {**QUEUES, **more}.items():
            for broker in (self.real[HERE], self.model[HERE]):
                broker.queue(name, retry=RETRY, **options)

    def teardown(self) -> None:
        """End the example."""
        for pair in (*self.held, *self.old):
            with contextlib.suppress(AttributeError):
                pair.real._settled = True  # no ResourceWarning
        self.subject.end()

    # ---- comparing ----

    def pair_of(self, process: int, name: str) -> tuple[Any, Any]:
        """Give a process's queue, of the subject and of the model."""
        if (process, name) not in self.queues:
            found = self.real[process].queue(name), self.model[process].queue(name)
            self.queues[process, name] = found
        return self.queues[process, name]

    def both(
        self, real: Callable[[], Any], model: Callable[[], Any]
    ) -> tuple[Any, Any]:
        """Do one thing on both sides; the outcome must be of one kind."""
        outcomes: list[tuple[str | None, Any]] = []
        for call in (model, real):
            try:
                outcomes.append((None, call()))
            except errors.Error as error:
                outcomes.append((type(error).__name__, None))
        (expected, wanted), (happened, got) = outcomes
        assert happened == expected, f"the model: {expected}, embq: {happened}"
        return got, wanted

    def seen(self, message: Any, *, real: bool) -> dict[str, Any]:
        """Say what a consumer sees, with the model's id."""
        return {
            "id": self.ids[message.id] if real else message.id,
            "data": message.data,
            "receive_count": message.receive_count,
            "key": message.key,
            "priority": message.priority,
            "expires_at": message.expires_at,
            "history": message.history,
        }

    def received(
        self, process: int, name: str, got: list[Any], wanted: list[Any], *, hold: bool
    ) -> None:
        """Compare what was handed out, and hold it."""
        reals = [self.seen(message, real=True) for message in got]
        models = [self.seen(message, real=False) for message in wanted]
        assert reals == models, f"{name}: embq gave {reals}, the model {models}"
        pairs = [
            Pair(process, name, real, model)
            for real, model in zip(got, wanted, strict=True)
        ]
        (self.held if hold else self.old).extend(pairs)

    def notice(self) -> None:
        """Have ended leases noticed, by a claim on a queue that is always empty."""
        real, model = self.pair_of(HERE, "tick")
        self.both(real.receive, model.receive)
        self.adopt_order(self.subject.views()[1])

    def adopt_order(self, messages: list[Any]) -> None:
        """Take over the order of those that were buried in one step: it is open."""
        stored = self.file.queues["dead"]
        fresh = [row for row in stored.entries if row > self.buried]
        if fresh:
            entries = {stored.entries[row].id: stored.entries.pop(row) for row in fresh}
            order = [
                self.ids[row[2]]
                for row in sorted(messages, key=lambda row: row[1])
                if row[0] == "dead" and self.ids[row[2]] in entries
            ]
            assert len(order) == len(fresh), f"buried: {set(entries)}, embq: {order}"
            for row, key in zip(fresh, order, strict=True):
                stored.entries[row] = entries[key]
                entries[key].row = row
            self.buried = fresh[-1]

    @invariant()
    def counters_agree(self) -> None:
        """Stats and depth are the model's, seen from either process."""
        for name in self.file.queues:
            real, model = self.pair_of(HERE, name)
            got, wanted = (
                {key: stats[key] for key in COUNTERS}
                | {READY: stats[READY] + stats[BLOCKED]}  # how many it saw, is open
                for stats in (real.stats(), model.stats())
            )
            assert got == wanted, f"{name}: embq counts {got}, the model {wanted}"
            depth = self.pair_of(CHILD, name)[0].depth()
            assert depth == model.depth(), f"{name}: the child's depth is {depth}"

    @invariant()
    def views_agree(self) -> None:
        """The views say what the model says."""
        queues, messages = self.subject.views()
        self.adopt_order(messages)
        got = {row[0]: tuple(row[1:]) for row in queues}
        wanted = {
            name: (stats["messages"], stats[IN_FLIGHT], *(stats[o] for o in OUTCOMES))
            for name in self.file.queues
            for stats in [self.file.stats(name)]
        }
        assert got == wanted, f"embq_queues: {got}, the model: {wanted}"
        seen, expected = {}, {}
        for queue, _row, key, state, due_ms, count, suspect in messages:
            late = (due_ms or 0) > self.clock.wall_ms
            now = state if state == IN_FLIGHT else "delayed" if late else "ready"
            seen[self.ids[key]] = (queue, now, count, suspect and state != IN_FLIGHT)
        for name, stored in self.file.queues.items():
            for entry in stored.entries.values():
                state = self.file.state(entry)
                mark = int(entry.suspect and state != IN_FLIGHT)
                expected[entry.id] = (name, state, entry.receive_count, mark)
        assert seen == expected, f"embq_messages: {seen}, the model: {expected}"

    # ---- sending ----

    @rule(process=processes, name=live, keyed=st.booleans(), placing=placings)
    def send(
        self,
        process: int,
        name: str,
        keyed: bool,  # noqa: FBT001
        placing: dict[str, Any],
    ) -> None:
        """Send one."""
        self.sent += 1
        real, model = self.pair_of(process, name)
        fields = {"key": f"key {self.sent % 3}"} if keyed else {}
        fields |= only_ttl(placing) if name in ORDERED else placing
        got, wanted = self.both(
            lambda: real.send(self.sent, **fields),
            lambda: model.send(self.sent, **fields),
        )
        self.remember([got], [wanted])

    def remember(self, got: list[Any], wanted: list[Any]) -> None:
        """Note ids that belong together; duplicates are the same, with old ids."""
        for real, model in zip(got, wanted, strict=True):
            assert real.duplicate == model.duplicate
            assert self.ids.setdefault(real.id, model.id) == model.id

    @rule(process=processes, name=live, placings=st.lists(placings, max_size=9))
    def send_many(
        self, process: int, name: str, placings: list[dict[str, Any]]
    ) -> None:
        """Send a batch."""
        self.sent += 1
        if name in ORDERED:
            placings = [only_ttl(placing) for placing in placings]
        items = [
            Outgoing(f"{self.sent}.{number}", **placing) if placing else str(number)
            for number, placing in enumerate(placings)
        ]
        real, model = self.pair_of(process, name)
        got, wanted = self.both(
            lambda: real.send_many(items), lambda: model.send_many(items)
        )
        self.remember(got, wanted)

    # ---- receiving ----

    def claim(self, process: int, name: str, count: int, *, auto_ack: bool) -> None:
        """Receive on both sides."""
        if name == "dead":
            self.notice()
        real, model = self.pair_of(process, name)
        if name == "keyed":
            got = real.receive_many(count, auto_ack=auto_ack)
            chosen = [self.ids[message.id] for message in got]
            wanted = model.receive_these(chosen, auto_ack=auto_ack)
            self.received(process, name, got, wanted, hold=not auto_ack)
            return
        got, wanted = self.both(
            lambda: real.receive_many(count, auto_ack=auto_ack),
            lambda: model.receive_many(count, auto_ack=auto_ack),
        )
        self.received(process, name, got, wanted, hold=not auto_ack)

    @rule(process=processes, name=names)
    def receive(self, process: int, name: str) -> None:
        """Receive one."""
        self.claim(process, name, 1, auto_ack=False)

    @rule(process=processes, name=names, count=st.integers(2, 12))
    def receive_many(self, process: int, name: str, count: int) -> None:
        """Receive a batch."""
        self.claim(process, name, count, auto_ack=False)

    @rule(process=processes, name=names, count=st.integers(1, 3))
    def receive_auto_ack(self, process: int, name: str, count: int) -> None:
        """Receive at most once."""
        self.claim(process, name, count, auto_ack=True)

    # ---- settling ----

    def settle(self, pick: int, verb: Callable[[Any], Any]) -> None:
        """Settle one of those that are held, as far as we know."""
        pair = self.held.pop(pick % len(self.held))
        self.both(lambda: verb(pair.real), lambda: verb(pair.model))
        self.old.append(pair)

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def ack(self, pick: int) -> None:
        """Ack one."""
        self.settle(pick, lambda message: message.ack())

    @precondition(lambda self: self.held)
    @rule(pick=picks, delay=st.sampled_from([None, 0, 0, 1.5, 40]))
    def nack(self, pick: int, delay: float | None) -> None:
        """Nack one, by the policy or with a delay."""
        self.settle(pick, lambda message: message.nack(delay=delay, error=f"e{pick}"))

    @precondition(lambda self: self.held)
    @rule(process=processes)
    def nack_all(self, process: int) -> None:
        """Nack all that a process holds: a storm of retries."""
        for pair in [pair for pair in self.held if pair.process == process]:
            self.settle(self.held.index(pair), lambda message: message.nack(delay=0))

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def reject(self, pick: int) -> None:
        """Reject one."""
        self.settle(pick, lambda message: message.reject("hopeless"))

    @precondition(lambda self: self.held)
    @rule(pick=picks, seconds=st.sampled_from([1, 12, 100]))
    def extend(self, pick: int, seconds: float) -> None:
        """Extend one; it stays held."""
        pair = self.held[pick % len(self.held)]
        self.both(lambda: pair.real.extend(seconds), lambda: pair.model.extend(seconds))

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def ack_many(self, pick: int) -> None:
        """Ack all that one process holds of one queue."""
        one = self.held[pick % len(self.held)]
        place = (one.process, one.queue)
        pairs = [pair for pair in self.held if (pair.process, pair.queue) == place]
        self.held = [pair for pair in self.held if pair not in pairs]
        self.old += pairs
        real, model = self.pair_of(*place)
        got, wanted = self.both(
            lambda: real.ack_many([pair.real for pair in pairs]),
            lambda: model.ack_many([pair.model for pair in pairs]),
        )
        assert got == wanted, f"ack_many settled {got}, the model {wanted}"

    @precondition(lambda self: self.old)
    @rule(pick=picks, verb=st.sampled_from(["ack", "nack", "extend", "reject"]))
    def stale(self, pick: int, verb: str) -> None:
        """Use an old receipt: nothing happens."""
        pair = self.old[pick % len(self.old)]
        given = {"reject": ["stale"], "extend": [50]}.get(verb, [])
        self.both(
            lambda: getattr(pair.real, verb)(*given),
            lambda: getattr(pair.model, verb)(*given),
        )

    # ---- time ----

    @rule(seconds=st.sampled_from([0.5, 3, 11, 16, 21, 31, 120]))
    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([60, -60, YEAR_MS / 1000, -YEAR_MS / 1000]))
    def jump(self, seconds: float) -> None:
        """Set the wall clock wrong, or right again."""
        self.clock.jump(seconds)

    # ---- process life ----

    def forget(self, process: int) -> None:
        """Drop what belonged to a process's broker."""
        self.held = [pair for pair in self.held if pair.process != process]
        self.old = [pair for pair in self.old if pair.process != process]
        for place in [place for place in self.queues if place[0] == process]:
            del self.queues[place]

    @precondition(lambda self: self.reopenings < REOPENINGS)
    @rule(process=processes)
    def reopen(self, process: int) -> None:
        """Ack what a process holds, close its broker and open the file again."""
        self.reopenings += 1
        for pair in [pair for pair in self.held if pair.process == process]:
            self.settle(self.held.index(pair), lambda message: message.ack())
        self.forget(process)
        self.model[process].close()
        self.model[process] = ModelBroker(self.file)
        self.real[process] = self.subject.reopen(process)

    @precondition(lambda self: self.kills > 0)
    @precondition(lambda self: any(pair.process == CHILD for pair in self.held))
    @rule()
    def kill(self) -> None:
        """Kill the child, wait until its leases were given back, start another."""
        self.kills -= 1
        self.notice()
        self.forget(CHILD)
        self.subject.kill_child()
        self.model[CHILD].kill()
        self.model[CHILD] = ModelBroker(self.file)
        here = {name: self.pair_of(HERE, name) for name in (*QUEUES, "dead")}
        self.subject.settle_down(
            lambda: all(
                real.stats()["expired"] == model.stats()["expired"]
                for real, model in here.values()
            )
        )
        self.real[CHILD] = self.subject.restart_child()
