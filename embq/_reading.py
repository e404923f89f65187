"""`Reading`: a connection beside the engine's that looks at a file as it is now.

Imported with embq, unlike what uses it: the handlers of a fork must be known before the
first connection is, not in the middle of a fork.
"""

import contextlib
import os
import threading
import time
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any, Self

from embq.errors import Busy, NoMemory

_RETRY_S = 0.05  # between two interrupts of one that has not ended yet
_SLICE_S = 0.05  # of a wait for a lock, in which SQLite lets no signal's handler run
_TICK_OPS = 1000  # of SQLite's machine, between two looks for signals: a few pages
_FORK_WAIT_S = 1.0  # for threads that cannot be interrupted; as in engine.c

_readings: "set[Reading]" = set()
_inside: list[int] = []  # threads that are in SQLite for something short
_changed = threading.Condition()


class Reading:
    """One read transaction of the bound SQLite, as a context manager.

    It writes nothing unless told to, and runs no trigger's or view's function that is
    not trusted. The bound SQLite knows of the engine's connections, and so drops none
    of their locks when this one is closed. A connection must not cross a fork, so a
    fork in another thread ends it.

    Args:
        path: A file that exists.
        timeout: How many seconds to wait for a lock of SQLite's.
        doing: For the texts of errors.
        writes: It is a write transaction after all; what raises rolls it back.

    Raises:
        Busy: This process forked meanwhile, or another has the write lock.
        Error: The file could not be read; the class says why.
    """

    def __init__(
        self, path: bytes, timeout: float, doing: str, *, writes: bool = False
    ) -> None:
        self._writes = writes
        self._path, self._timeout, self._doing = path, timeout, doing
        self._thread = threading.get_ident()
        self._stopped = False
        self._raised: BaseException | None = None  # by the handler of a signal
        self.connection: Any = None

    def __enter__(self) -> Self:
        from embq import _sqlite  # noqa: PLC0415 - sqlite3 is not for every import

        with _changed:  # no fork comes between opening it and noting it
            try:
                self.connection = _sqlite.connect(
                    self._path, min(self._timeout, _SLICE_S), create=False
                )
            except BaseException as error:
                self._fail(error)
                raise
            _readings.add(self)
        try:
            ticks = self._ticks()
            next(ticks)
            self.connection.set_progress_handler(ticks.__next__, _TICK_OPS)
            query_only = "off" if self._writes else "on"
            for text in (f"query_only = {query_only}", "trusted_schema = off"):
                self.execute(f"pragma {text}")
            self._lock("begin immediate" if self._writes else "begin")
            self._lock("select count(*) from sqlite_master")  # from here on
        except BaseException as error:
            self._close()
            self._fail(error)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._writes and error is None:
                self.execute("commit")
        except BaseException as failure:
            error = failure
            self._fail(error)
            raise
        finally:
            self._close()
        self._fail(error)

    def execute(self, sql: str) -> list[Any]:
        """Run one statement; give its rows."""
        self.go_on()
        return list(self.connection.execute(sql).fetchall())

    def each(self, sql: str) -> Iterator[Any]:
        """Run one statement; give its rows one by one."""
        self.go_on()
        yield from self.connection.execute(sql)

    def _lock(self, sql: str) -> None:
        """Run one statement that may have to wait for a lock, in slices."""
        from embq import _sqlite  # noqa: PLC0415

        end = time.monotonic() + self._timeout
        while True:
            try:
                self.execute(sql)
            except _sqlite.failures() as error:
                self.go_on()
                failure = _sqlite.translate(error, self._path, self._doing)
                if not isinstance(failure, Busy) or time.monotonic() >= end:
                    raise
            else:
                return

    def _ticks(self) -> Generator[bool, None, None]:
        """Let handlers of signals run within a statement; True ends it.

        What a handler raises would be lost in SQLite's callback. It raises where the
        generator goes on, so within the `try`; in a function it might be before that.
        """
        ends = False
        while True:
            try:
                yield ends
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - go_on() raises it
                self._raised, ends = error, True

    def go_on(self) -> None:
        """Raise when this must end."""
        if self._raised:
            raise self._raised
        if self._stopped:
            msg = f"{os.fsdecode(self._path)!r}: {self._doing}: this process forked"
            raise Busy(msg, "try again")

    def stop(self) -> None:
        """End it, from another thread; under `_changed`."""
        self._stopped = True
        self.connection.interrupt()

    def is_of(self, thread: int) -> bool:
        """Tell whether it is that thread's, which cannot wait for itself."""
        return self._thread == thread

    def _close(self) -> None:
        with _changed:
            self.connection.close()  # ends the transaction too
            _readings.discard(self)
            _changed.notify_all()

    def _fail(self, error: BaseException | None) -> None:
        """Raise an error of SQLite's as ours."""
        from embq import _sqlite  # noqa: PLC0415

        if isinstance(error, MemoryError):
            msg = f"{os.fsdecode(self._path)!r}: {self._doing}"
            raise NoMemory(msg) from error
        if isinstance(error, _sqlite.failures()):
            self.go_on()  # it was interrupted
            raise _sqlite.translate(error, self._path, self._doing) from error


@contextlib.contextmanager
def inside() -> Iterator[None]:
    """Be in SQLite for something short: forks wait for it, but a second at most.

    A connection must not cross a fork, and a mutex that SQLite has in that moment would
    stay taken in the child for ever.
    """
    me = threading.get_ident()
    with _changed:
        _inside.append(me)
    try:
        yield
    finally:
        with _changed:
            _inside.remove(me)
            _changed.notify_all()


def _before_fork() -> None:
    """Let no connection cross: this runs before the engines come to rest."""
    _changed.acquire()
    me, end = threading.get_ident(), time.monotonic() + _FORK_WAIT_S
    while True:
        others = [one for one in _readings if not one.is_of(me)]
        waits = any(one != me for one in _inside) and time.monotonic() < end
        if not others and not waits:
            return
        for one in others:
            one.stop()
        _changed.wait(_RETRY_S)


def _after_fork() -> None:
    _changed.release()


def _forget() -> None:
    global _changed  # noqa: PLW0603
    _changed = threading.Condition()
    _readings.clear()
    me = threading.get_ident()  # it may have forked in the middle of it
    _inside[:] = [one for one in _inside if one == me]


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_forget
)
