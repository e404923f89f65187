"""What a process of a chaos run does, whatever its role (chaos_roles.py).

It opens the file for a while, works in a thread or two, closes it and opens it again,
until SIGTERM. In between it forks, and meddles with the file as an application may. All
that it does and sees goes into its history, where each opening of the file, and each
forked child, is a process of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clock import ClockFile
from rig.history import FAIL, OK, UNKNOWN
from rig.history_file import Recorder

import embq
from embq import _native, errors

SESSION_S = 0.5, 4.0
PAUSE_S = 0.05, 0.8  # between two things that are done beside the threads
CHILD_S = 0.05, 0.4
CHILD_PATIENCE_S = 20.0
# It did not happen, for certain.
REFUSED = (errors.Busy, errors.Full, errors.Closed, errors.Forked, errors.NoMemory)


class Worker:
    """One process, and what all its sessions share."""

    def __init__(
        self, name: str, path: Path, folder: Path, clock: Path, as_child: list[Work]
    ) -> None:
        self.name, self.path, self.folder = name, path, folder
        self.as_child = as_child  # what its forked children do
        self.clock = ClockFile(clock, fresh=False)
        self.stopping = False
        self.sessions = 0
        _native.use_clock(clock)
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def run(self, work: Work, threads: int, rng: random.Random) -> None:
        """Work in sessions until told to stop."""
        while not self.stopping:
            self.sessions += 1
            Session(self, f"{self.name}.{self.sessions}", rng).run(work, threads)

    def become_child(self, number: int) -> None:
        """Be another worker than the one that forked."""
        self.name = f"{self.name}f{self.sessions}x{number}"


class Session:
    """One opening of the file, and its history."""

    def __init__(self, worker: Worker, process: str, rng: random.Random) -> None:
        self.worker, self.rng = worker, rng
        self.record = Recorder(worker.folder, process, worker.clock)
        durability = rng.choice(["normal", "normal", "full"])
        self.broker = embq.open(worker.path, durability=durability)
        self.queues = {name: self.broker.queue(name) for name in self.broker.queues()}
        self.end = time.monotonic() + rng.uniform(*SESSION_S)
        self.forks = 0

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
            time.sleep(self.rng.uniform(*PAUSE_S))
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

    # ---- forks ----

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
        folder, name, clock = self.worker.folder, self.worker.name, self.worker.clock
        self.record = Recorder(folder, f"{name}.0", clock)
        self.rng = random.Random(name)
        for work in self.worker.as_child:
            self.end = time.monotonic() + self.rng.uniform(*CHILD_S)
            try:
                work(self, self.rng, self.record.process)
            except errors.Forked:
                self.record.note("refused")  # the parent could not rest in time
            except errors.Busy:
                self.record.note("busy")
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

    # ---- calls ----

    def call(self, op: str, act: Callable[[], Any], **fields: Any) -> None:
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
            ids = {"ids": [one.id for one in result]} if op == "send" else {}
            self.record.write(OK, op, number, **ids)


Work = Callable[[Session, random.Random, str], None]


def meddle(rng: random.Random, path: Path) -> None:
    """Do what an application may do to its own file beside embq."""
    kind = rng.choice(["open", "open -wal", "pysqlite3", "apsw"])
    if kind.startswith("open"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{kind[5:]}").open("rb").close()
        return
    try:
        module = importlib.import_module(kind)
    except ImportError:
        return  # pysqlite3 has no wheel everywhere
    connect = module.connect if kind == "pysqlite3" else module.Connection
    connection = connect(str(path))
    with contextlib.suppress(Exception):  # busy: another copy recovers the WAL
        connection.execute("select count(*) from embq_owner").fetchall()
    connection.close()
