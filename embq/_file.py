"""`File`: the file behind a broker, what its path means, how it opens and closes."""

import atexit
import contextlib
import os
import sys
import threading
import weakref
from datetime import timedelta

from embq import _handles, _native
from embq._reading import inside
from embq._times import limit_ms
from embq.errors import Closed, Error, InvalidArgument

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_files: "weakref.WeakSet[File]" = weakref.WeakSet()
_LAST = -100  # priority among the finalizers of a worker, which may send themselves
_worker_watched = False


class File:
    """A file as one broker has it: opened at first use, closed once.

    Args:
        path: As the user gives it.
        flags: `OPEN_*` of `_native`.
        busy_timeout_ms: How long a write waits by default.
        disk_reserve: Bytes that sends leave free; -1: by the size of the file system.

    Attributes:
        path: Absolute.
        handle: For C; None while it is not open yet.
        closed: Whether it was closed.
    """

    def __init__(
        self, path: Path, flags: int, busy_timeout_ms: int, disk_reserve: int
    ) -> None:
        self.path = absolute(path)
        self.handle: _handles.Handle | None = None
        self.closed = False
        self._flags = flags
        self._busy_timeout_ms = busy_timeout_ms
        self._disk_reserve = disk_reserve
        self._lock = threading.RLock()
        _files.add(self)

    def open(self) -> _handles.Handle:
        """Return the handle, opening the file when this is its first use."""
        if self.handle and not self.closed:
            return self.handle
        with self._lock:
            if self.closed:
                msg = f"the broker of {os.fsdecode(self.path)!r} is closed"
                raise Closed(msg)
            if not self.handle:
                _watch_worker()
                self.handle = _open_handle(
                    self.path, self._flags, self._busy_timeout_ms, self._disk_reserve
                )
            return self.handle

    def open_again(self, busy_timeout_ms: int) -> _handles.Handle:
        """Open the file once more, beside `handle`, which goes no further."""
        flags = self._flags & ~_native.OPEN_CREATE
        return _open_handle(self.path, flags, busy_timeout_ms, self._disk_reserve)

    def close(self) -> None:
        """Store what is staged, and close; see `Broker.close`."""
        with self._lock:
            closed, self.closed = self.closed, True
        if not self.handle or closed:
            return
        try:
            _handles.close_broker(self.handle.ref)
        except Error as failure:
            self.log(failure)
            raise
        except BaseException:
            self.closed = False  # a signal took the call back: close it again
            raise

    def wait_ms(self, timeout: float | timedelta | None) -> int:
        """Turn a time limit into milliseconds; None is the one given at opening."""
        return self._busy_timeout_ms if timeout is None else limit_ms(timeout)

    def log(self, failure: Error) -> None:
        """Note what nobody may see: a failure raised from close() is easily lost."""
        import logging  # noqa: PLC0415

        if self.handle and (count := _native.unawaited_failures(self.handle.ref)):
            logging.getLogger("embq").error(
                "%s: %d staged operations failed and nobody awaited them; the first: "
                "%s",
                os.fsdecode(self.path),
                count,
                failure,
            )

    def forget_parent(self) -> None:
        """Start anew in a forked child, where no thread is left to open the lock."""
        self._lock = threading.RLock()


def absolute(path: Path) -> bytes:
    """Make a path absolute without touching what it says: `..` may cross a symlink."""
    try:
        encoded = os.fsencode(path)
    except (TypeError, UnicodeEncodeError) as error:
        msg = f"path: {error}"
        raise InvalidArgument(msg) from error
    if encoded == b":memory:":
        msg = "path: a queue in memory is none"
        hint = "for tests there is embq.testing.temporary(), a file that goes away"
        raise InvalidArgument(msg, hint)
    if not encoded or b"\0" in encoded:
        msg = f"path: {os.fsdecode(encoded)!r} is empty or has a NUL"
        raise InvalidArgument(msg)
    return os.path.join(os.getcwdb(), encoded)  # noqa: PTH109, PTH118


def _open_handle(
    path: bytes, flags: int, busy_timeout_ms: int, disk_reserve: int
) -> _handles.Handle:
    # Here, so that `import embq` pays for neither sqlite3 nor sqlite-utils.
    from embq import _sqlite  # noqa: PLC0415

    def migrate(path: bytes, busy_timeout_ms: int) -> None:
        from embq import _schema  # noqa: PLC0415

        _schema.migrate(path, busy_timeout_ms)

    with inside():
        _sqlite.bind()
        return _handles.open_broker(path, flags, busy_timeout_ms, disk_reserve, migrate)


@atexit.register
def _close_all() -> None:
    """Store what is staged when the interpreter exits; failures are logged."""
    for file in list(_files):
        with contextlib.suppress(Error):
            file.close()


def _watch_worker() -> None:
    """In a worker of `multiprocessing`, which ends by os._exit(): close all before."""
    global _worker_watched  # noqa: PLW0603
    process = sys.modules.get("multiprocessing.process")
    if _worker_watched or process is None or process.parent_process() is None:
        return
    from multiprocessing import util  # noqa: PLC0415

    util.Finalize(None, _close_all, exitpriority=_LAST)
    _worker_watched = True


def _forget() -> None:
    """Let a forked child leave its parent's staged messages alone."""
    global _worker_watched  # noqa: PLW0603
    _worker_watched = False
    # multiprocessing forgets its parent's finalizers next, and calls this after that.
    util = sys.modules.get("multiprocessing.util")
    for file in list(_files):
        file.forget_parent()
        if util is not None:
            util.register_after_fork(file, lambda _: _watch_worker())


os.register_at_fork(after_in_child=_forget)
