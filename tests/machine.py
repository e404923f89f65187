"""A state machine that drives two processes on one file and the model, step by step.

The subject is the core in two real processes, or another model, so that the machine
itself is checked. The model beside it is the oracle: each result must be the model's,
order and counts included, and after each step stats, depth and the views must agree
(comparison.py).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
from clock import YEAR_MS
from comparison import CHILD, HERE, ORDERED, QUEUES, RETRY, Comparison
from hypothesis.stateful import precondition, rule
from model import ModelBroker

from embq import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable

REOPENINGS = 2  # in one example

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


class Machine(Comparison):
    """Two processes send, receive, settle, die and come back; clocks run and jump."""

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
        fields |= self.place(name, placing)
        got, wanted = self.both(
            lambda: real.send(self.sent, **fields),
            lambda: model.send(self.sent, **fields),
        )
        if wanted is not None:  # it was full
            self.remember([got], [wanted])

    def place(self, name: str, placing: dict[str, Any]) -> dict[str, Any]:
        """Give what is sent besides the data.

        After a jump of the wall clock it is open which dedup ids are still known: what
        was over once may be forgotten. So they are others from then on.
        """
        fields = only_ttl(placing) if name in ORDERED else dict(placing)
        if "dedup_id" in fields:
            fields["dedup_id"] += f" {self.jumps}"
        return fields

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
        placings = [self.place(name, placing) for placing in placings]
        items = [
            Outgoing(f"{self.sent}.{number}", **placing) if placing else str(number)
            for number, placing in enumerate(placings)
        ]
        real, model = self.pair_of(process, name)
        got, wanted = self.both(
            lambda: real.send_many(items), lambda: model.send_many(items)
        )
        if wanted is not None:
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

    # ---- administration ----

    @rule(process=processes, name=names)
    def purge(self, process: int, name: str) -> None:
        """Remove what nobody holds."""
        if name == "dead":
            self.notice()
        real, model = self.pair_of(process, name)
        got, wanted = self.both(real.purge, model.purge)
        assert got == wanted, f"{name}: {got} purged, the model {wanted}"

    @rule(reason=st.sampled_from([None, "rejected", ["ttl", "max_receives"]]))
    def redrive(self, reason: Any) -> None:
        """Move dead letters back to where they died."""
        self.notice()
        real, model = self.pair_of(HERE, "dead")
        where = {"reason": reason} if reason else None
        got, wanted = self.both(
            lambda: real.redrive(where=where).wait(),
            lambda: model.redrive(where=where).wait(),
        )
        assert got == wanted, f"{got} redriven, the model {wanted}"

    @rule(process=processes, name=live)
    def delete(self, process: int, name: str) -> None:
        """Remove a queue, and make another of the name; what was held is old then."""
        got, wanted = self.both(
            lambda: self.real[process].delete(name),
            lambda: self.model[process].delete(name),
        )
        assert got == wanted, f"{name}: {got} deleted, the model {wanted}"
        self.old += [pair for pair in self.held if pair.queue == name]
        self.held = [pair for pair in self.held if pair.queue != name]
        for each in (HERE, CHILD):
            self.queues.pop((each, name), None)
        for broker in (self.real[process], self.model[process]):
            broker.queue(name, retry=RETRY, **QUEUES[name])

    @precondition(lambda self: self.ids)
    @rule(process=processes, name=names, pick=picks)
    def cancel(self, process: int, name: str, pick: int) -> None:
        """Remove one message, if it is there and nobody holds it."""
        real, model = self.pair_of(process, name)
        key = list(self.ids)[pick % len(self.ids)]
        got, wanted = self.both(
            lambda: real.cancel(key), lambda: model.cancel(self.ids[key])
        )
        assert got == wanted, f"{name}: cancelled: {got}, the model {wanted}"

    @rule(process=processes, name=live, seconds=st.sampled_from([0, 2, 20]))
    def pause(self, process: int, name: str, seconds: float) -> None:
        """Hand out nothing for a while; 0: go on."""
        real, model = self.pair_of(process, name)
        now = datetime.fromtimestamp(self.clock.wall_ms / 1000, UTC)
        until = now + timedelta(seconds=seconds)
        if seconds:
            self.both(lambda: real.pause(until), lambda: model.pause(until))
        else:
            self.both(real.resume, model.resume)

    @rule(process=processes, name=live, seconds=st.sampled_from([5, 10, 30]))
    def configure(self, process: int, name: str, seconds: float) -> None:
        """Change an option that both processes obey."""
        real, model = self.pair_of(process, name)
        self.both(
            lambda: real.configure(visibility_timeout=seconds),
            lambda: model.configure(visibility_timeout=seconds),
        )

    # ---- what is to be done once ----

    @rule(
        process=processes,
        verb=st.sampled_from(["get", "exists", "delete"]),
        key=st.sampled_from("abc"),
    )
    def recall(self, process: int, verb: str, key: str) -> None:
        """Ask for a result, or delete it."""
        real, model = self.scopes_of(process, None)
        key = f"{key} {self.jumps}"  # what was over before a jump may be forgotten
        got, wanted = self.both(
            lambda: getattr(real, verb)(key), lambda: getattr(model, verb)(key)
        )
        assert got == wanted, f"{verb} of {key}: {got}, the model {wanted}"

    @rule(
        process=processes,
        verb=st.sampled_from(["set", "run"]),
        key=st.sampled_from("abc"),
        ttl=st.sampled_from([3, 12, 40, None]),
    )
    def store(self, process: int, verb: str, key: str, ttl: float | None) -> None:
        """Store a result, in any case or when there is none."""
        self.sent += 1
        key, value = f"{key} {self.jumps}", self.sent
        real, model = self.scopes_of(process, ttl)
        if verb == "set":
            self.both(lambda: real.set(key, value), lambda: model.set(key, value))
            return
        given = value if process == CHILD else lambda: value  # the child makes it one
        got, wanted = self.both(
            lambda: real.run(key, given), lambda: model.run(key, value)
        )
        assert got == wanted, f"{key}: {got} was stored, the model {wanted}"

    def scopes_of(self, process: int, ttl: float | None) -> tuple[Any, Any]:
        """Give the scope, of the subject and of the model."""
        brokers = self.real[process], self.model[process]
        real, model = (one.idempotency("s", ttl=ttl) for one in brokers)
        return real, model

    # ---- time ----

    @rule(seconds=st.sampled_from([0.5, 3, 11, 16, 21, 31, 120]))
    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([60, -60, YEAR_MS / 1000, -YEAR_MS / 1000]))
    def jump(self, seconds: float) -> None:
        """Set the wall clock wrong, or right again."""
        self.clock.jump(seconds)
        self.jumps += 1

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
