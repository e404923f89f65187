"""A file after a crash or a fault: is everything there that was confirmed, once?

A `Judge` opens the file in a process that met no fault, waits until the leases of the
dead are given back, and compares the file with the ledger, the counters with what there
is, and the application's own tables with what it had put there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rig.application import check_application
from rig.invariants import broken
from rig.ledger import (
    DEAD,
    DROPPED,
    EACH,
    GONE,
    LATE,
    NONE,
    ONCE,
    PERISHED,
    PREFIX,
    QUEUE,
    WHOLE,
    Account,
    State,
    Step,
    queue_of,
)

import embq

COUNTERS = (
    "messages", "ready", "delayed", "blocked", "in_flight", "sent", "delivered",
    "redelivered", "acked", "nacked", "rejected", "expired", "dead", "dropped",
)  # fmt: skip
# Of a public id: the sequence, which counts over all lanes of a queue.
IN_LANE = (1 << 41) - 1


def name_of(data: object) -> str:
    """Give the name of a message: its data, or their beginning."""
    return str(data[0]) if isinstance(data, list) else str(data)


class Judge:
    """One file and its ledger."""

    def __init__(self, folder: Path, *, application: bool, max_receives: int) -> None:
        self.account = Account(folder / "ledger")
        self.application, self.max_receives = application, max_receives
        self.sequence_by_name: dict[str, int] = {}
        self.broker = embq.open(folder / "test.db", durability="normal")
        self.sql = sqlite3.connect(folder / "test.db", isolation_level=None)

    def close(self) -> None:
        """Leave the file."""
        self.sql.close()
        self.broker.close()

    def ask(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        """Read through `sqlite3` alone."""
        return self.sql.execute(text, values).fetchall()

    def number(self, text: str) -> int:
        """Read one number."""
        return int(self.ask(text)[0][0])

    def settled(self) -> bool:
        """Tell whether no lease is left, and no owner but this process."""
        leased = self.number("select coalesce(sum(in_flight), 0) from embq_queues")
        return not leased and self.number("select count(*) from embq_owner") == 1

    def check(self) -> None:
        """Compare everything, and leave the file empty."""
        states: dict[str, dict[str, list[State]]] = {}  # by queue and name
        for name, fitting in self.check_messages().items():
            states.setdefault(queue_of(name), {})[name] = fitting
        queues = self.broker.queues()
        for name in queues:
            self.check_counters(name)
        for name, confirmed in self.account.queues.items():
            assert not confirmed or name in queues, f"{name} was declared"
        self.check_tables()
        self.check_settings()
        self.send_again(states.get("q", {}))
        for name in {"q": None, **states}:
            found = states.get(name, {})
            if name not in queues:
                assert all(fitting[0][0] == NONE for fitting in found.values()), found
                continue
            self.check_totals(name, found)
            self.drain(name, self.wanted(found, QUEUE))
            if f"{name}.dead" in self.broker.queues():
                self.drain(f"{name}.dead", self.wanted(found, DEAD))
        self.check_ids()
        verdict = self.ask("pragma integrity_check")
        assert verdict == [("ok",)], verdict

    # ---- the messages ----

    def stored(self) -> dict[str, State]:
        """Give where each message of the file is."""
        found: dict[str, State] = {}
        for queue, row, state, count, public_id, data in self.ask(
            "select queue, row, state, receive_count, id, data from embq_messages"
        ):
            name = name_of(json.loads(data))
            assert name not in found, f"{name} is there twice"
            assert queue.removesuffix(".dead") == queue_of(name), f"{name} in {queue}"
            assert state in ("ready", "delayed", "blocked"), f"{name} is {state}"
            known = self.account.ids.get(name, public_id)
            assert known == public_id, f"{name} has the id {public_id}, was {known}"
            self.sequence_by_name[name] = sequence_of(public_id)
            found[name] = (LATE if state == "delayed" else QUEUE, count)
            if queue.endswith(".dead"):
                found[name] = self.buried(row)
        return found

    def buried(self, row: int) -> State:
        """Tell what its history says of a dead letter: why, after how many."""
        shards = self.ask("select shard from embq_channel where id = ?", row >> 45)
        text = f"select history from embq_message_{shards[0][0]} where id = ?"
        last = json.loads(self.ask(text, row)[0][0])[-1]
        place = PERISHED if last["reason"] == "ttl" else DEAD
        return place, int(last["receive_count"])

    def check_messages(self) -> dict[str, list[State]]:
        """CASES 16, 17: each message is where its confirmed steps have brought it.

        Returns:
            For each the states that fit; several only when nobody can tell how often a
            message was handed out.
        """
        found = self.stored()
        strangers = set(found) - set(self.account.ways)
        assert not strangers, f"out of nothing: {strangers}"
        states: dict[str, list[State]] = {}
        happened: list[tuple[Step, str, bool]] = []
        for name, ways in self.account.ways.items():
            fitting = [way for way in ways if self.fits(way[0], found.get(name))]
            assert fitting, f"{name} is {found.get(name)}, may be {ways}"
            states[name] = [state for state, _ in fitting]
            if len(fitting) == 1:
                steps = fitting[0][1]
                happened += [
                    (step, name, any(one is step for one in steps))
                    for step in self.account.open_steps(name)
                ]
        check_units(happened)
        return states

    def is_last(self, state: State) -> bool:
        """Tell whether this was the last delivery, so that a death buries it."""
        return state[0] == QUEUE and state[1] >= self.max_receives

    def is_dead(self, state: State) -> bool:
        """Tell whether it is among the dead letters."""
        return state[0] in (DEAD, PERISHED) or self.is_last(state)

    def is_mortal(self, name: str) -> bool:
        """Tell whether its ttl is over, so that the next claim lets it perish."""
        return any(step.verb == "mortal" for step in self.account.open_steps(name))

    def fits(self, state: State, found: State | None) -> bool:
        """Tell whether a message in this state would be found so after the death."""
        if found is None:
            return state[0] in (NONE, GONE, DROPPED)
        if found[0] == DEAD and self.is_last(state):
            return found[1] == state[1]
        return found == state and not self.is_last(state)

    # ---- the numbers ----

    def check_counters(self, name: str) -> None:
        """What a queue's counters say is what there is, and the views say the same."""
        columns = ", ".join(COUNTERS)
        text = f"select {columns} from embq_queues where name = ?"
        view = dict(zip(COUNTERS, self.ask(text, name)[0], strict=True))
        stats = self.broker.queue(name).stats()
        assert {key: stats[key] for key in COUNTERS} == view
        text = "select count(*), coalesce(sum(size), 0) from embq_messages"
        count, size = self.ask(f"{text} where queue = ?", name)[0]
        assert (stats["messages"], stats["bytes"]) == (count, size), (name, stats)
        parts = ("ready", "delayed", "blocked", "in_flight")
        assert sum(stats[part] for part in parts) == count, (name, stats)

    def check_totals(self, queue: str, states: dict[str, list[State]]) -> None:
        """Each delivery and each outcome was counted exactly once."""
        stats = self.broker.queue(queue).stats()
        counts: dict[str, Callable[[State], int]] = {
            "sent": lambda state: state[0] != NONE,
            "acked": lambda state: state[0] == GONE,
            "dead": self.is_dead,
            "dropped": lambda state: state[0] == DROPPED,
            "delivered": lambda state: state[1],
            "redelivered": lambda state: max(0, state[1] - 1),
        }
        bounds = {
            "nacked": self.account.bounds(queue, "nack", "nack later", "bury"),
            "rejected": self.account.bounds(queue, "reject"),
        }
        for total, count in counts.items():
            each = [[count(state) for state in one] for one in states.values()]
            bounds[total] = sum(map(min, each)), sum(map(max, each))
        for total, (low, high) in bounds.items():
            fits = low <= stats[total] <= high
            assert fits, f"{stats[total]} {total}, {low} to {high} are: {states}"

    def check_tables(self) -> None:
        """Nothing is half made or leased; the application's tables are as they were."""
        assert not broken(self.sql), broken(self.sql)
        assert self.broker.check() == []
        assert self.number("select count(*) from embq_meta") == 1
        assert (
            self.number("select count(*) from embq_state where states is not null") == 0
        )
        leased = "select count(*) from embq_delivery where owner is not null"
        assert self.number(leased) == 0
        channels = self.ask("select id from embq_channel order by id")
        assert channels == self.ask(
            "select channel from embq_state where channel is not null order by 1"
        )
        if self.application:
            check_application(self.sql)

    def check_settings(self) -> None:
        """Each has the last value that is confirmed, or one asked for later; resume."""
        for what, values in self.account.settings.items():
            if what.startswith("result:"):
                self.check_result(what.partition(":")[2], values)
                continue
            found = self.ask(f"select {what} from embq_channel where name = 'q'")
            assert found[0][0] in values, f"{what} is {found}, may be {values}"
        self.broker.queue("q").resume()

    def check_result(self, key: str, values: set[int]) -> None:
        """It is one that it may be; and where there is none, nobody is at it."""
        once = self.broker.idempotency("s")
        found = once.get(key, 0)
        assert found in values, f"{key} is {found}, may be {values}"
        assert once.run(key, lambda: -1, timeout=0) == (found or -1)

    def send_again(self, states: dict[str, list[State]]) -> None:
        """What has a dedup id is stored once, though its sender had no answer."""
        queue = self.broker.queue("q")
        for name in self.account.names_of(ONCE):
            before, known = states[name][0], self.account.ids.get(name)
            sent = queue.send(name, dedup_id=name)
            assert sent.duplicate == (before[0] != NONE), f"{name}: {before}, {sent}"
            assert known in (None, sent.id), f"{name} was {known}, and is {sent}"
            if not sent.duplicate:
                states[name] = [(QUEUE, 0)]
            self.sequence_by_name[name] = sequence_of(sent.id)

    # ---- what comes ----

    def wanted(self, states: dict[str, list[State]], place: str) -> dict[str, int]:
        """Give what a drain must bring, with its receive count."""
        some = {name: fitting[0] for name, fitting in states.items()}
        dead = [
            name
            for name, state in some.items()
            if self.is_dead(state) or (state[0] == QUEUE and self.is_mortal(name))
        ]
        if place == DEAD:
            return dict.fromkeys(dead, 1)
        here = [n for n, s in some.items() if s[0] == QUEUE and n not in dead]
        return {name: some[name][1] + 1 for name in here}

    def drain(self, name: str, wanted: dict[str, int]) -> None:
        """Each message that is there comes, once, and counted."""
        text = "select ordered from embq_channel where name = ?"
        ordered = self.ask(text, name)[0][0]
        queue = self.broker.queue(name)
        late = queue.stats()["delayed"]
        came = self.take_in_turn(queue) if ordered else self.take_all(queue)
        assert came == wanted, f"{name}: {came} came, {wanted} wanted"
        assert queue.depth() == late
        assert not broken(self.sql), broken(self.sql)

    def take_all(self, queue: embq.Queue) -> dict[str, int]:
        """Take batch after batch; tell each message's receive count."""
        came: dict[str, int] = {}
        while taken := queue.receive_many(1000, auto_ack=True):
            for message in taken:
                assert name_of(message.data) not in came, f"{message.data} came twice"
                came[name_of(message.data)] = message.receive_count
        return came

    def take_in_turn(self, queue: embq.Queue) -> dict[str, int]:
        """Receive from an ordered queue, in rounds: of each key one at a time."""
        whole = self.ask("select ordered from embq_channel where name = ?", queue.name)
        came: dict[str, int] = {}
        latest: dict[str | None, int] = {}
        while taken := queue.receive_many(1000):
            first = not came
            keys = [None if whole == [(2,)] else message.key for message in taken]
            assert len(set(keys)) == len(keys), f"two of one key: {taken}"
            for message, key in zip(taken, keys, strict=True):
                name = name_of(message.data)
                sequence = self.sequence_by_name[name]
                assert sequence > latest.get(key, 0), f"{name} came out of order"
                latest[key] = sequence
                came[name] = message.receive_count
            assert not broken(self.sql), broken(self.sql)
            if first:
                assert self.broker.check(quick=True) == []  # with runs and blocked keys
            queue.ack_many(taken)
        return came

    def check_ids(self) -> None:
        """A new message gets a number that no message had, confirmed or not."""
        ids = self.account.ids
        seen = {sequence_of(public_id) for public_id in ids.values()}
        assert len(seen) == len(ids), "a sequence was given out twice"
        fresh = sequence_of(self.broker.queue("q").send("fresh").id)
        there = self.sequence_by_name.items()
        seen |= {number for name, number in there if queue_of(name) == "q"}
        assert fresh > max(seen, default=0), "a sequence was given out again"


def sequence_of(public_id: str) -> int:
    """Give the sequence of a message in the queue that it was sent to."""
    return int(public_id[16:], 16) & IN_LANE


def check_units(happened: list[tuple[Step, str, bool]]) -> None:
    """A batch happened whole or not at all; what was staged, in its order."""
    together: dict[object, list[tuple[Step, str, bool]]] = {}
    for step, name, did in happened:
        shared = step.unit not in (WHOLE, PREFIX, EACH)
        together.setdefault(step.unit if shared else id(step), []).append(
            (step, name, did)
        )
    for found in together.values():
        step = found[0][0]
        done = {name: did for _, name, did in found}
        order = [done[name] for name in step.left if name in done]
        if step.unit == PREFIX:
            holes = order != sorted(order, reverse=True)
            assert not holes, f"a hole in what was staged: {done}"
        elif step.unit != EACH:
            assert len(set(done.values())) <= 1, f"a half {step.verb}: {done}"
