"""The roles of a chaos run: producers and consumers of all kinds.

Started as a module, this is one of its processes: ROLE NAME PATH FOLDER CLOCK SEED.
"""

from __future__ import annotations

import contextlib
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from msgspec.structs import asdict
from rig.chaos_worker import REFUSED, Session, Work, Worker
from rig.history import FAIL, OK, UNKNOWN

import embq
from embq import errors

# Plain: one by one and in batches. Loop: claimed ahead. Once: at most once. Poison:
# some messages kill who receives them. Placed: with priorities, delays, ttl. Keyed:
# ordered by key.
PLAIN, LOOP, ONCE, POISON = "plain", "loop", "once", "poison"
PLACED, KEYED = "placed", "keyed"
QUEUES = PLAIN, LOOP, ONCE, POISON, PLACED, KEYED
BLOCK = 10  # of an at-most-once consumer
LEASE_S = {PLAIN: 1.5, LOOP: 60.0, ONCE: 60.0, POISON: 60.0, PLACED: 1.5, KEYED: 1.5}
MAX_RECEIVES = {**dict.fromkeys(QUEUES, 1000), POISON: 3}
RETRY = embq.Backoff(0.05, factor=2, cap=0.5)
SHARES = 4, 4, 2, 1, 3, 3  # of the queues in what is sent
CONSUMED = {PLAIN: 3, PLACED: 2, KEYED: 2}  # by `consume`, and how often
BACKLOG = 300  # a producer rests above it
KILLS = ".kills/"

# ---- producers ----


def produce(
    s: Session, rng: random.Random, producer: str, pause_s: float = 0.01
) -> None:
    """Send: one, many, staged."""
    number = 0

    def names(count: int) -> list[str]:
        nonlocal number
        number += count
        return [f"{producer}/{n}" for n in range(number - count + 1, number + 1)]

    while s.goes_on():
        name = rng.choices(QUEUES, SHARES)[0]
        queue = s.queues[name]
        if queue.depth() > BACKLOG:
            time.sleep(0.02)
            continue
        chance = rng.random()
        if chance < 0.4:
            (one,) = sent = place(rng, queue, names(1))
            told = {"queue": name, **marks(sent)}
            s.call("send", lambda o=one, q=queue: [q.send(**fields(o))], **told)
        elif chance < 0.7:
            sent = place(rng, queue, names(rng.randint(1, 20)))
            told = {"queue": name, **marks(sent)}
            s.call("send", lambda n=sent, q=queue: q.send_many(n), **told)
        else:
            stage(s, queue, place(rng, queue, names(rng.randint(1, 30))))
        time.sleep(rng.expovariate(1 / pause_s))


Outgoing = embq.Outgoing[str]


def place(rng: random.Random, queue: embq.Queue, names: list[str]) -> list[Outgoing]:
    """Give messages what their queue is there for."""
    outgoing = [embq.Outgoing(name) for name in names]
    for one in outgoing:
        if queue.name == KEYED:  # no two producers share a key
            one.key = f"{one.data.rpartition('/')[0]}/{rng.choice('abc')}"
        elif queue.name == PLACED:
            one.priority = rng.choice([None, None, 0, 5, 9])
            one.delay = rng.choice([None, None, None, 0.05, 0.5])
            one.ttl = rng.choice([None, None, None, 0.2, 2.0, 3600.0])
    return outgoing


def fields(one: Outgoing) -> dict[str, Any]:
    """Give the arguments of `send`."""
    return {name: value for name, value in asdict(one).items() if value is not None}


def marks(outgoing: list[Outgoing]) -> dict[str, Any]:
    """Say for the history what was sent, and with what else."""
    rest = [fields(one) for one in outgoing]
    return {"names": [of.pop("data") for of in rest], "marks": rest}


def stage(s: Session, queue: embq.Queue, outgoing: list[Outgoing]) -> None:
    """Send without waiting, each on its own; then look what became of them."""
    tickets = []
    for one in outgoing:
        call = s.record.invoke("send", queue=queue.name, **marks([one]))
        try:
            tickets.append((call, queue.send_nowait(**fields(one))))
        except REFUSED as error:
            s.record.write(FAIL, "send", call, error=type(error).__name__)
    for call, ticket in tickets:
        try:
            s.record.write(OK, "send", call, ids=[ticket.result(60).id])
        except REFUSED as error:
            s.record.write(FAIL, "send", call, error=type(error).__name__)
        except errors.CommitUncertain:
            s.record.write(UNKNOWN, "send", call)


def kills(name: str) -> bool:
    """Tell whether a message kills who receives it from the poison queue."""
    return KILLS in name


def poison(s: Session, rng: random.Random, producer: str) -> None:
    """Send a message that kills, now and then."""
    number = 0
    while s.goes_on():
        time.sleep(rng.uniform(0.5, 1.0))
        if rng.random() < 0.2 and s.queues[POISON].depth() < 20:
            number += 1
            name = f"{producer}{KILLS}{number}"
            s.call(
                "send",
                lambda n=name: [s.queues[POISON].send(n)],
                queue=POISON,
                names=[name],
            )


# ---- consumers ----


def consume(s: Session, rng: random.Random, _name: str) -> None:
    """Take one by one and in batches, from several queues, and settle in all ways."""
    while s.goes_on():
        queue = s.queues[rng.choices([*CONSUMED], [*CONSUMED.values()])[0]]
        call = s.record.invoke("receive", queue=queue.name)
        try:
            count = rng.choice([1, 1, 3, 10])
            taken = queue.receive_many(count) if count > 1 else [queue.receive()]
        except errors.Busy:
            continue
        messages = [message for message in taken if message]
        for message in messages:
            s.record.handed(call, message)
        if not messages:
            time.sleep(0.01)
        elif len(messages) > 1 and rng.random() < 0.5:
            ack_many(s, queue, messages)
        else:
            for message in messages:
                settle(s, rng, message)


def delivery(message: embq.Message) -> list[Any]:
    """Name a delivery in the history."""
    return [message.queue, message.data, message.receive_count]


def ack_many(s: Session, queue: embq.Queue, messages: list[embq.Message]) -> None:
    """Ack a batch; when some had lost their lease nobody knows which."""
    call = s.record.invoke("ack", messages=[delivery(message) for message in messages])
    try:
        whole = queue.ack_many(messages) == len(messages)
        s.record.write(OK if whole else UNKNOWN, "ack", call)
    except errors.LeaseLost:
        s.record.write(FAIL, "ack", call, error="LeaseLost")
    except REFUSED as error:
        s.record.write(FAIL, "ack", call, error=type(error).__name__)


def settle(s: Session, rng: random.Random, message: embq.Message) -> None:
    """Settle one message in one of the ways in which handlers do, or fail to."""
    at = [delivery(message)]
    lease_s = LEASE_S[message.queue.removesuffix(".dead")]

    def verb(op: str, act: Callable[[], Any], **fields: Any) -> None:
        s.call(op, act, messages=at, **fields)

    chance = rng.random()
    if chance < 0.72:
        verb("ack", message.ack)
    elif chance < 0.8:
        delay = rng.choice([None, 0, 0.1])
        verb("nack", lambda: message.nack(delay=delay, error="e"))
    elif chance < 0.84:
        call = s.record.invoke("nack", messages=at)
        fail(message)
        s.record.write(UNKNOWN, "nack", call)  # a lost lease is not told there
    elif chance < 0.86:
        verb("reject", lambda: message.reject("hopeless"))
    elif chance < 0.9:
        seconds = rng.choice([0.3, 5.0])
        verb("extend", lambda: message.extend(seconds), seconds=seconds)
        time.sleep(rng.choice([0, 0.5]))
        verb("ack", message.ack)
    elif chance < 0.93:
        time.sleep(lease_s * rng.uniform(0.7, 1.4) if lease_s < 10 else 0.5)
        verb(*rng.choice([("ack", message.ack), ("nack", message.nack)]))
    elif chance < 0.96:
        verb("ack", message.ack)
        verb("nack", message.nack)  # it is settled: LeaseLost
    elif chance < 0.999:
        pass  # forgotten: its lease must run out
    else:
        s.die()


def fail(message: embq.Message) -> None:
    """Let a handler raise: the message is nacked."""
    with contextlib.suppress(ZeroDivisionError), message:
        raise ZeroDivisionError


def consume_ahead(s: Session, rng: random.Random, _name: str) -> None:
    """Take from prefetch loops, one after the other."""
    while s.goes_on():
        call = s.record.invoke("receive", queue=LOOP)
        ahead = rng.choice([None, None, 1, 2, 16, 64])
        staged: list[int] = []
        with contextlib.closing(s.queues[LOOP].messages(ahead, wait=0.05)) as loop:
            try:
                take_ahead(s, rng, call, loop, staged)
            finally:
                s.record.note("leaves", queue=LOOP)  # what is left goes back
        try:
            s.broker.flush()
        except errors.LeaseLost:
            continue  # one of them, and nobody knows which
        for number in staged:
            s.record.write(OK, "ack", number)


def take_ahead(
    s: Session,
    rng: random.Random,
    call: int,
    loop: Iterable[embq.Message],
    staged: list[int],
) -> None:
    """Handle what one loop gives; leave it early now and then."""
    for message in loop:
        s.record.handed(call, message)
        if rng.random() < 0.7:
            staged.append(s.record.invoke("ack", messages=[delivery(message)]))
            message.ack_nowait()
        else:
            settle(s, rng, message)
        if rng.random() < 0.02 or not s.goes_on():
            return


def consume_once(s: Session, rng: random.Random, _name: str) -> None:
    """Take what is removed before it is handed over."""
    queue = s.queues[ONCE]
    while s.goes_on():
        call = s.record.invoke("receive", queue=ONCE, auto_ack=True)
        kind = rng.randrange(3)
        found: Iterable[embq.Message | None]
        if kind == 0:
            found = [queue.receive(0.05, auto_ack=True)]
        elif kind == 1:
            found = queue.receive_many(BLOCK, 0.05, auto_ack=True)
        else:
            found = queue.messages(BLOCK, 0.05, auto_ack=True)
        for message in found:
            if message:
                s.record.handed(call, message)
                if rng.random() < 0.001:
                    s.die()


def consume_poison(s: Session, _rng: random.Random, _name: str) -> None:
    """Take messages of which some kill the process."""
    while s.goes_on():
        call = s.record.invoke("receive", queue=POISON)
        for message in s.queues[POISON].receive_many(5, wait=0.1):
            s.record.handed(call, message)
            if kills(message.data):
                s.die()
            s.call("ack", message.ack, messages=[delivery(message)])


# What a worker does, and in how many threads.
ROLES: dict[str, tuple[Work, int]] = {
    "producer": (produce, 2),
    "consumer": (consume, 2),
    "ahead": (consume_ahead, 2),
    "once": (consume_once, 1),
    "victim": (consume_poison, 1),
    "poisoner": (poison, 1),
}


def main() -> None:
    """Be what the arguments say."""
    warnings.simplefilter("ignore", ResourceWarning)
    role, name, path, folder, clock, seed = sys.argv[1:]
    work, threads = ROLES[role]
    worker = Worker(name, Path(path), Path(folder), Path(clock), [produce, consume])
    worker.run(work, threads, random.Random(f"{seed} {name}"))


if __name__ == "__main__":
    main()
