"""The core and the model side by side: what is compared, whatever is done to them.

The rules, what is done, are in machine.py.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from clock import START_WALL_MS, ClockFile
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant
from model import ModelBroker
from model_file import BLOCKED, DELAYED, IN_FLIGHT, OUTCOMES, READY, STATES, ModelFile

from embq import Backoff, errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from embq import Explanation

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
    "few": {
        "visibility_timeout": 15,
        "max_receives": 3,
        "dead_letter": "dead",
        "max_messages": 5,
        "max_bytes": 12,
        "overflow": "dead_letter",
    },
    "newest": {
        "visibility_timeout": 15,
        "max_receives": 3,
        "dead_letter": "dead",
        "ttl": 30,
        "max_messages": 4,
        "overflow": "drop_oldest",
    },
}
COUNTERS = ("messages", "bytes", *STATES, *OUTCOMES)
ORDERED = ("keyed", "strict")
HERE, CHILD = 0, 1


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


class Comparison(RuleBasedStateMachine):
    """The subject and the model side by side, and what must be equal."""

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
        self.reopenings = self.sent = self.jumps = 0

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
        self.looks_agree()

    def looks_agree(self) -> None:
        """What is seen without receiving is the model's, and in its order."""
        for name in self.file.queues:
            real, model = self.pair_of(HERE, name)
            got, wanted = [self.ids[m.id] for m in real.peek(100)], model.peek(100)
            assert got == [m.id for m in wanted], f"{name}: peeked {got}"
            for states in ((READY, BLOCKED), (DELAYED,), (IN_FLIGHT,)):
                seen = {self.ids[m.id] for s in states for m in real.browse(state=s)}
                there = {m.id for s in states for m in model.browse(state=s)}
                assert seen == there, f"{name}, {states}: browsed {seen}, not {there}"
            keys = [m.id for m in real.browse()]
            if keys:
                key = keys[self.sent % len(keys)]
                told = self.told(real.explain(key), real=True)
                wants = self.told(model.explain(self.ids[key]), real=False)
                assert told == wants, f"{name}: explained {told}, the model {wants}"

    def told(self, explained: Explanation, *, real: bool) -> dict[str, Any]:
        """Say what an explanation says that the model knows, with the model's ids."""
        said: dict[str, Any] = msgspec.structs.asdict(explained)
        del said["owner"], said["held_for"]
        if real:
            said["id"] = self.ids[explained.id]
            said["behind"] = explained.behind and self.ids[explained.behind]
        if said["state"] == BLOCKED:
            said["state"] = READY  # whether a claim has seen it, is open
        return said
