"""The processes of a chaos run: started as a script, this file is one of them.

A worker opens the file for a while, works in a thread or two, closes it and opens it
again, until SIGTERM. In between it forks, meddles with the file as an application may,
and dies of some messages. All that it does and sees goes into its history; each opening
of the file, and each forked child, is a process of its own there.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from clock import ClockFile
from history import FAIL, OK, UNKNOWN
from recorder import Recorder

import embq
from embq import _native, errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Plain: one by one and in batches. Loop: claimed ahead. Once: at most once. Poison:
# some messages kill who receives them.
PLAIN, LOOP, ONCE, POISON = QUEUES = "plain", "loop", "once", "poison"
KILLS = ".kills/"
BLOCK = 10  # of an at-most-once consumer
LEASE_S = {PLAIN: 1.5, LOOP: 60.0, ONCE: 60.0, POISON: 60.0}
MAX_RECEIVES = {PLAIN: 1000, LOOP: 1000, ONCE: 1000, POISON: 3}
BACKLOG = 300  # producers rest above it
SESSION_S = 0.5, 4.0
CHILD_PATIENCE_S = 20.0
REFUSED = (errors.Busy, errors.Full, errors.Closed, errors.NoMemory)
RETRY = embq.Backoff(0.05, factor=2, cap=0.5)


class Worker:
    """One process, and what all its sessions share."""

    def __init__(self, name: str, path: Path, folder: Path, clock: Path, seed: int):
        self.name, self.path, self.folder = name, path, folder
        self.clock = ClockFile(clock, fresh=False)
        self.rng = random.Random(f"{seed} {name}")
        self.stopping = False
        self.sessions = 0
        _native.use_clock(clock)
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def run(self, work: Work, threads: int) -> None:
        """Work in sessions until told to stop."""
        while not self.stopping:
            self.sessions += 1
            Session(self, f"{self.name}.{self.sessions}").run(work, threads)

    def become_child(self, number: int) -> None:
        """Be another process than the one that forked."""
        self.name = f"{self.name}f{self.sessions}x{number}"
        self.rng = random.Random(self.name)
        self.sessions = 0


class Session:
    """One opening of the file, and its history."""

    def __init__(self, worker: Worker, process: str) -> None:
        self.worker, self.rng = worker, worker.rng
        self.record = Recorder(worker.folder, process, worker.clock)
        durability = self.rng.choice(["normal", "normal", "full"])
        self.broker = embq.open(worker.path, durability=durability)
        self._open_queues()
        self.end = time.monotonic() + self.rng.uniform(*SESSION_S)
        self.forks = 0

    def _open_queues(self) -> None:
        self.queues = {name: self.broker.queue(name) for name in QUEUES}

    def goes_on(self) -> bool:
        """Whether threads should go on."""
        return time.monotonic() < self.end and not self.worker.stopping

    def run(self, work: Work, threads: int) -> None:
        """Work in threads; fork and meddle beside them; close."""
        started = [
            threading.Thread(target=self._thread, args=(work, number))
            for number in range(threads)
        ]
        for thread in started:
            thread.start()
        while self.goes_on():
            time.sleep(self.rng.uniform(0.05, 0.8))
            chance = self.rng.random()
            if chance < 0.15:
                self.fork()
            elif chance < 0.4:
                meddle(self.rng, self.worker.path)
        for thread in started:
            thread.join()
        self.close()

    def close(self) -> None:
        """Close the file: what is held comes again."""
        self.record.note("closes")
        try:
            self.broker.close()
        except errors.LeaseLost:
            pass  # of an ack_nowait
        except errors.Error as error:
            self.trouble(error)
        self.record.close()

    def _thread(self, work: Work, number: int) -> None:
        rng = random.Random(self.rng.random())
        turn = 0
        try:
            while self.goes_on():
                turn += 1
                with contextlib.suppress(errors.Busy):  # of a call that reads
                    work(self, rng, f"{self.record.process}.{number}t{turn}")
        except BaseException as error:  # noqa: BLE001  (judged at the end)
            self.trouble(error)

    def trouble(self, error: BaseException) -> None:
        """Note an error that should not have been."""
        text = "".join(traceback.format_exception(error, limit=-4))
        self.record.note("error", kind=type(error).__name__, text=text)

    def fork(self) -> None:
        """Fork beside the threads; the child works on, dies, or just exits."""
        self.forks += 1
        kind = self.rng.choice(["works", "works", "dies", "exits"])
        pid = os.fork()
        if pid == 0:
            self._child(kind)
        end = time.monotonic() + CHILD_PATIENCE_S
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                self.trouble(RuntimeError(f"the forked child {pid} ({kind}) is stuck"))
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return
            time.sleep(0.01)

    def _child(self, kind: str) -> None:
        if kind == "exits":
            os._exit(0)
        self.worker.become_child(self.forks)
        folder, clock = self.worker.folder, self.worker.clock
        self.record = Recorder(folder, f"{self.worker.name}.0", clock)
        self.end = time.monotonic() + self.worker.rng.uniform(0.05, 0.4)
        try:
            produce(self, self.worker.rng, self.record.process, pause_s=0.01)
            consume(self, self.worker.rng, self.record.process)
        except errors.Closed:
            self.record.note("refused")  # the parent could not rest in time
        except BaseException as error:  # noqa: BLE001
            self.trouble(error)
        if kind == "dies":
            self.die()
        self.close()
        os._exit(0)

    def die(self) -> None:
        """Be killed, by one's own hand."""
        self.record.note("dies", worker=self.worker.name)
        os.kill(os.getpid(), signal.SIGKILL)

    def call(self, op: str, act: Callable[[], Any], **fields: Any) -> Any:
        """Make a call that sends or settles, and write down how it ends."""
        number = self.record.invoke(op, **fields)
        try:
            result = act()
        except errors.LeaseLost:
            self.record.write(FAIL, op, number, error="LeaseLost")
        except REFUSED as error:
            self.record.write(FAIL, op, number, error=type(error).__name__)
        except errors.CommitUncertain:
            self.record.write(UNKNOWN, op, number)
        except errors.Error as error:
            self.record.write(UNKNOWN, op, number)
            self.trouble(error)
        else:
            ids = [one.id for one in result] if op == "send" else None
            self.record.write(OK, op, number, **({"ids": ids} if ids else {}))
        return number


def meddle(rng: random.Random, path: Path) -> None:
    """Do what an application may do to its own file beside embq."""
    kind = rng.choice(["open", "open -wal", "pysqlite3", "apsw"])
    if kind.startswith("open"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{kind[5:]}").open("rb").close()
        return
    with contextlib.suppress(ImportError):  # pysqlite3 has no wheel everywhere
        module = importlib.import_module(kind)
        connect = module.connect if kind == "pysqlite3" else module.Connection
        connection = connect(str(path))
        with contextlib.suppress(Exception):  # busy: another copy recovers the WAL
            connection.execute("select count(*) from embq_owner").fetchall()
        connection.close()


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
        name = rng.choices(QUEUES, (4, 4, 2, 1))[0]
        queue = s.queues[name]
        if queue.depth() > BACKLOG:
            time.sleep(0.02)
            continue
        chance = rng.random()
        if chance < 0.4:
            (one,) = sent = names(1)
            s.call("send", lambda o=one, q=queue: [q.send(o)], queue=name, names=sent)
        elif chance < 0.7:
            sent = names(rng.randint(1, 20))
            s.call(
                "send", lambda n=sent, q=queue: q.send_many(n), queue=name, names=sent
            )
        else:
            stage(s, queue, names(rng.randint(1, 30)))
        time.sleep(rng.expovariate(1 / pause_s))


def stage(s: Session, queue: embq.Queue, names: list[str]) -> None:
    """Send without waiting, each on its own; then look what became of them."""
    tickets = []
    for name in names:
        call = s.record.invoke("send", queue=queue.name, names=[name])
        try:
            tickets.append((call, queue.send_nowait(name)))
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


def handed(s: Session, call: int, message: embq.Message) -> embq.Message:
    """Write down what was handed out, before anything is done with it."""
    fields = {"id": message.id, "count": message.receive_count}
    if message.history:
        fields["history"] = message.history
    s.record.write("info", "handout", call, name=message.data, **fields)
    return message


def consume(s: Session, rng: random.Random, _name: str) -> None:
    """Take from the plain queue, one by one and in batches, and settle in all ways."""
    queue = s.queues[PLAIN]
    while s.goes_on():
        call = s.record.invoke("receive", queue=PLAIN)
        try:
            count = rng.choice([1, 1, 3, 10])
            taken = queue.receive_many(count) if count > 1 else [queue.receive()]
        except errors.Busy:
            continue
        messages = [handed(s, call, message) for message in taken if message]
        if not messages:
            time.sleep(0.01)
        elif len(messages) > 1 and rng.random() < 0.5:
            ack_many(s, queue, messages)
        else:
            for message in messages:
                settle(s, rng, message)


def place(message: embq.Message) -> list[Any]:
    """Name a delivery in the history."""
    return [message.queue, message.data, message.receive_count]


def ack_many(s: Session, queue: embq.Queue, messages: list[embq.Message]) -> None:
    """Ack a batch; when some had lost their lease nobody knows which."""
    call = s.record.invoke("ack", messages=[place(message) for message in messages])
    try:
        whole = queue.ack_many(messages) == len(messages)
        s.record.write(OK if whole else UNKNOWN, "ack", call)
    except errors.LeaseLost:
        s.record.write(FAIL, "ack", call, error="LeaseLost")
    except REFUSED as error:
        s.record.write(FAIL, "ack", call, error=type(error).__name__)


def settle(s: Session, rng: random.Random, message: embq.Message) -> None:
    """Settle one message in one of the ways in which handlers do, or fail to."""
    at = [place(message)]
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
        handed(s, call, message)
        if rng.random() < 0.7:
            staged.append(s.record.invoke("ack", messages=[place(message)]))
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
                handed(s, call, message)
                if rng.random() < 0.001:
                    s.die()


def consume_poison(s: Session, _rng: random.Random, _name: str) -> None:
    """Take messages of which some kill the process."""
    while s.goes_on():
        call = s.record.invoke("receive", queue=POISON)
        for message in s.queues[POISON].receive_many(5, wait=0.1):
            handed(s, call, message)
            if kills(message.data):
                s.die()
            s.call("ack", message.ack, messages=[place(message)])


Work = "Callable[[Session, random.Random, str], None]"
# What a worker does, and in how many threads.
ROLES: dict[str, tuple[Any, int]] = {
    "producer": (produce, 2),
    "consumer": (consume, 2),
    "ahead": (consume_ahead, 2),
    "once": (consume_once, 1),
    "victim": (consume_poison, 1),
    "poisoner": (poison, 1),
}

if __name__ == "__main__":
    warnings.simplefilter("ignore", ResourceWarning)
    role, label, *places, start = sys.argv[1:]
    member = Worker(label, *map(Path, places), seed=int(start))
    member.run(*ROLES[role])
