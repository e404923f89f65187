"""Tools of interleaved scenes: threads, processes aside, and a stir of their calls."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import signal
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from rig.interpose import Rig

import embq
from embq import _schema, _sqlite  # noqa: F401  (once, and not in each child)

PATIENCE_S = 20.0  # for what should take moments; what takes so long is stuck
DIE_WITH_PARENT = 1  # of prctl
# How often a call of the core sleeps, and for how many microseconds at most: many short
# sleeps, some long ones.
STIRS = ((3, 60), (10, 300), (40, 2000))


def stir(path: Path, seed: int) -> random.Random:
    """Stir this process's calls; give a generator of the same seed."""
    rng = random.Random(seed)
    one_in, most_us = rng.choice(STIRS)
    Rig(path).stir(seed + 1, one_in, most_us)
    sys.unraisablehook = _note
    return rng


unraisable: list[str] = []  # what a generator or a finalizer could tell nobody


def _note(told: sys.UnraisableHookArgs) -> None:
    unraisable.append("".join(traceback.format_exception(told.exc_value)))


class Together:
    """Threads that begin at once; every one must end."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.threads: list[threading.Thread] = []
        self.go = threading.Event()

    def add(self, name: str, act: Callable[..., Any], *args: Any) -> threading.Thread:
        """Have a thread ready."""

        def run() -> None:
            self.go.wait()
            try:
                act(*args)
            except BaseException:  # noqa: BLE001  (raised again by `join`)
                self.errors.append(f"{name}: {traceback.format_exc()}")

        thread = threading.Thread(target=run, name=name, daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def start(self) -> None:
        """Let them run."""
        self.go.set()

    def join(self) -> None:
        """Wait for all; what is stuck or failed is an error."""
        self.go.set()
        end = time.monotonic() + PATIENCE_S
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))
        self.errors += unraisable
        stuck = [thread.name for thread in self.threads if thread.is_alive()]
        assert not stuck, f"stuck: {stuck}; {self.errors}"
        assert not self.errors, "\n".join(self.errors)


class Aside:
    """Another process, forked before this one opens a file; it dies with this one.

    Args:
        act: Called there with a connection to here.
        args: And with these.
    """

    def __init__(self, act: Callable[..., None], *args: Any) -> None:
        self.connection, theirs = Pipe()
        self.pid = os.fork()
        if self.pid:
            theirs.close()
            return
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        self.connection.close()
        try:
            act(theirs, *args)
        except BaseException:  # noqa: BLE001  (raised again over there)
            theirs.send(RuntimeError(traceback.format_exc()))
            os._exit(1)
        os._exit(0)

    def say(self, word: Any) -> None:
        """Send it something."""
        self.connection.send(word)

    def hear(self, patience_s: float = PATIENCE_S) -> Any:
        """Receive what it sends."""
        word = hear(self.connection, patience_s)
        if isinstance(word, Exception):
            raise word
        return word

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def join(self) -> None:
        """Wait for its end."""
        end = time.monotonic() + PATIENCE_S
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            assert time.monotonic() < end, f"the process aside is stuck: {self.pid}"
            time.sleep(0.002)
        with contextlib.suppress(EOFError):
            word = self.connection.recv()
            if isinstance(word, Exception):
                raise word


def hear(connection: Connection, patience_s: float = PATIENCE_S) -> Any:
    """Receive, but not for ever."""
    assert connection.poll(patience_s), f"nothing was heard in {patience_s} s"
    return connection.recv()


def is_stopped(pid: int) -> bool:
    """Tell whether a process had SIGSTOP."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def stored(path: Path) -> list[Any]:
    """Read what is in the file, without embq."""
    connection = sqlite3.connect(path, timeout=PATIENCE_S)
    rows = connection.execute("select data from embq_messages order by row").fetchall()
    found = [json.loads(data) for (data,) in rows]
    connection.close()
    return found


def sound(path: Path) -> None:
    """See that the file is sound."""
    connection = sqlite3.connect(path, timeout=PATIENCE_S)
    found = connection.execute("pragma integrity_check").fetchall()
    connection.close()
    assert found == [("ok",)], found


def open_queue(
    path: str, durability: str = "normal", **options: Any
) -> tuple[embq.Broker, embq.Queue]:
    """Open the file and its queue."""
    broker = embq.open(path, durability=durability)  # type: ignore[arg-type]
    return broker, broker.queue("q", **options)
