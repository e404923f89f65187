"""The Python side of interpose.c: build it, start processes behind it, control it.

Faults, kills and records are set from inside the process that meets them: a `Rig` is
made there. `Stage` is the usual way to get there: a process that imported everything
once and forks a child for each run, which takes milliseconds.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socketpair
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
CALLS = {
    name: 1 << bit
    for bit, name in enumerate(
        ["pwrite", "fsync", "fcntl", "ftruncate", "unlink", "open", "mmap", "flock",
         "futex", "malloc", "mutex", "pread"]
    )
}  # fmt: skip
COUNT, KILL, FAIL, SHORT, DELAY, STOP = range(6)
FOREVER = 1 << 62
PATIENCE_S = 60.0


@functools.cache
def library() -> Path:
    """Compile interpose*.c, once a run of the tests."""
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        pytest.skip(f"NO FAULTS: there is no C compiler {compiler!r} for interpose.c")
    target = Path(tempfile.mkdtemp(prefix="embq-rig-")) / "interpose.so"
    flags = ["-std=c11", "-g", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
    flags.append("-fvisibility=hidden")  # what is not PUBLIC is the library's own
    sources = map(str, sorted(HERE.glob("interpose*.c")))
    command = [compiler, *flags, *sources, "-o", str(target)]
    subprocess.run([*command, "-ldl", "-lpthread"], check=True, timeout=60)
    return target


class Rig:
    """The controls, inside a process that was started behind the library."""

    def __init__(self, watched: Path) -> None:
        """Watch the files whose path begins with this one."""
        import embq._native  # noqa: F401, PLC0415  (its code must be there to be found)

        self._c = ctypes.PyDLL(None)
        self._c.rig_seen.restype = self._c.rig_live.restype = ctypes.c_long
        if self._c.rig_watch(os.fsencode(watched)) < 2:
            text = "the core's or SQLite's code was not found in this process"
            raise RuntimeError(text)

    def arm(
        self,
        calls: str | list[str],
        action: int,
        first: int = 1,
        last: int | None = None,
        argument: int = 0,
        every: int = 1,
    ) -> None:
        """Count these calls anew, and act on the `first` to the `last` of them.

        Args:
            calls: Names of CALLS, one or several.
            action: COUNT, KILL, FAIL (argument: errno), SHORT (writes or reads half),
                DELAY (argument: microseconds), STOP (SIGSTOP to itself).
            first: Which call is the first to be acted on, from 1.
            last: Which one is the last; None: the first alone; FOREVER.
            argument: See action.
            every: Act on each such one from the first on.
        """
        names = [calls] if isinstance(calls, str) else calls
        bits = functools.reduce(lambda bits, name: bits | CALLS[name], names, 0)
        values = [action, first, first if last is None else last, every, argument]
        self._c.rig_arm(ctypes.c_int(bits), *map(ctypes.c_long, values))

    def disarm(self) -> int:
        """Act no more; return how many of the armed calls there were."""
        seen: int = self._c.rig_seen()
        self._c.rig_arm(0, COUNT, *map(ctypes.c_long, (1, 1, 1, 0)))
        return seen

    def seen(self) -> int:
        """Return how many of the armed calls there were so far."""
        count: int = self._c.rig_seen()
        return count

    def count_live(self) -> None:
        """Count from now on what the core and SQLite allocate and free."""
        self._c.rig_count_live()

    def live(self) -> int:
        """Return how many of these allocations are not freed."""
        count: int = self._c.rig_live()
        return count

    def stir(self, seed: int, one_in: int = 20, most_us: int = 200) -> None:
        """Let one in so many calls sleep up to so long, chosen by the seed."""
        self._c.rig_stir(*map(ctypes.c_ulong, (seed, one_in, most_us)))

    def boot(self, file: Path) -> None:
        """Let the kernel's boot id be the one in this file."""
        self._c.rig_boot(os.fsencode(file))

    def record(self, log: Path) -> None:
        """Write down what reaches the files; a forked child must ask again."""
        if self._c.rig_record(os.fsencode(log)) < 0:
            raise OSError(ctypes.get_errno(), "cannot record", str(log))

    def mark(self, word: bytes) -> None:
        """Put a word of ours into the record."""
        self._c.rig_mark(word, ctypes.c_long(len(word)))


@dataclass
class Outcome:
    """How a child of a stage ended."""

    value: Any  # what the function returned; None when it was killed
    killed: bool
    error: str | None  # the traceback of an exception that it let through

    def get(self) -> Any:
        """Return the value of a run that should have gone to its end."""
        assert not self.killed, "killed"
        assert self.error is None, self.error
        return self.value


class Stage:
    """A process behind the library that forks a child for each run.

    Its functions are those of one module of this folder, called by name.
    """

    def __init__(self, module: str) -> None:
        ours, theirs = socketpair()
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno()), module],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "LD_PRELOAD": str(library())},
        )
        theirs.close()
        self.connection = Connection(ours.detach())

    def run(self, function: str, *args: Any, patience: float = PATIENCE_S) -> Outcome:
        """Call the function in a new child, and see how that ends."""
        self.connection.send((function, args))
        if not self.connection.poll(patience):
            self.close()
            text = f"{function}{args}: no end in {patience} s"
            raise AssertionError(text)
        status, answer = self.connection.recv()
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if killed:
            return Outcome(None, killed=True, error=None)
        assert status == 0, f"{function}{args}: wait status {status:#x}"
        value, error = pickle.loads(answer)
        return Outcome(value, killed=False, error=error)

    def close(self) -> None:
        """End it, and a child that still runs (the group that we started)."""
        self.connection.close()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE_S)


def _in_child(call: Callable[..., Any], args: tuple[Any, ...], answer: int) -> None:
    value, error = None, None
    try:
        value = call(*args)
    except BaseException:  # noqa: BLE001  (the test shows it)
        error = traceback.format_exc()
    with os.fdopen(answer, "wb") as file:
        pickle.dump((value, error), file)
    os._exit(0)


def _serve(connection: Connection, module: Any) -> None:
    children: list[int] = []

    def end(*_: object) -> None:
        for child in children:
            os.kill(child, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        try:
            function, args = connection.recv()
        except EOFError:
            end()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.close(reading)
            _in_child(getattr(module, function), args, writing)
        children.append(child)
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            answer = file.read()
        _, status = os.waitpid(child, 0)
        children.remove(child)
        connection.send((status, answer))


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    import importlib

    # Else it would warn of the WAL-reset bug, in each run again.
    logging.getLogger("embq").setLevel(logging.ERROR)
    _serve(Connection(int(sys.argv[1])), importlib.import_module(sys.argv[2]))
