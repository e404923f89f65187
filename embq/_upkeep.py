"""`Upkeep`: what is done with a file as a whole; part of `Broker`."""

import contextlib
from datetime import timedelta
from typing import Any, overload

from embq import _native
from embq._file import File, Path, absolute
from embq._problem import Problem
from embq.errors import Corrupt, Error
from embq.idempotency import Idempotency, idempotency_of
from embq.messages import T

_FOR_EVER_S = 1e6
_DAY_S = 86_400.0


class Upkeep:
    """The verbs of `Broker` that are about no queue."""

    _file: File

    def flush(self, timeout: float | timedelta | None = None) -> None:
        """Wait until all that this broker staged is stored.

        Args:
            timeout: Seconds. Default: the broker's `busy_timeout`.

        Raises:
            Busy: Not all was stored in time.
            Error: The first failure of a `send_nowait` or `ack_nowait` that nobody
                awaited.
        """
        handle = self._file.open()
        wait = self._file.wait_ms(timeout)
        try:
            _native.flush(handle.ref, wait)
        except Error as failure:
            self._file.log(failure)
            raise

    def ping(self, timeout: float | timedelta | None = None) -> None:
        """Go the whole way of a write, without writing: is the file there and lockable?

        Args:
            timeout: Seconds. Default: the broker's `busy_timeout`.

        Raises:
            Error: It is not; the class says why.
        """
        wait = self._file.wait_ms(timeout)
        _native.ping(self._file.open().ref, wait)

    def stats(self) -> dict[str, Any]:
        """Return the counters of this process's engine for the file.

        Returns:
            "groups" (commits), "operations", "syncs", "checkpoints", "wal_bytes",
            "wal_held_ms" (for how long a reader has kept a WAL that is too long from
            starting over; 0: none does), "unawaited_failures" and "sqlite_version".
            And from the file "idempotency": of each scope its "size", the results that
            are stored, and "hits", how often one was found by a `get`, an `exists` or a
            `run`; a process that is killed does not count those of its last second.
        """
        ref = self._file.open().ref
        found = _native.stats(ref, 0)
        found["idempotency"] = {
            scope: {"size": size, "hits": hits}
            for scope, size, hits in _native.scopes(ref)
        }
        return found

    @overload
    def idempotency(
        self, scope: str, *, ttl: float | timedelta | None = ..., schema: type[T]
    ) -> Idempotency[T]: ...

    @overload
    def idempotency(
        self, scope: str, *, ttl: float | timedelta | None = ..., schema: Any = ...
    ) -> Idempotency[Any]: ...

    def idempotency(
        self,
        scope: str,
        *,
        ttl: float | timedelta | None = _DAY_S,
        schema: Any = None,
    ) -> Idempotency[Any]:
        """Give the results of what is to be done once, by key, in a scope.

        Nothing is declared, and nothing is stored yet: the arguments are how this
        process uses the scope.

        Args:
            scope: 1 to 255 bytes of UTF-8 without NUL. A file has at most 4,096 scopes
                with results.
            ttl: For how many seconds a result is known from when it is stored, by the
                wall clock. Default a day; None: until it is deleted. What is over is
                removed in the background, 128 results at a time.
            schema: Any type that msgspec knows: results are checked against it when
                they are stored and when they are read. Default: whatever JSON can say.

        Returns:
            The scope.

        Raises:
            InvalidArgument: An argument makes no sense.
        """
        return idempotency_of(self, self._file, scope, ttl, schema)

    def check(self, *, quick: bool = False) -> list[Problem]:
        """Look for what is wrong with the file; nothing is changed or repaired.

        A file that cannot be opened since it is `Corrupt` is looked at all the same.
        It reads everything in one transaction. Others go on meanwhile, but the WAL
        cannot start over until it is done, and so grows by what they write.

        Args:
            quick: Do not compare the indexes with their tables.

        Returns:
            The problems found, at most 100 of a kind; none of a healthy file.

        Raises:
            Busy: This process forked meanwhile.
            Error: The file could not be read; the class says why.
        """
        from embq import _check, _repair  # noqa: PLC0415 - for no other import

        refused: Corrupt | None = None
        try:
            self._attach()
        except Corrupt as error:
            refused = error
        found = _check.check(self._file.path, self._wait_s(), quick=quick)
        if refused and not found:
            raise refused
        return _repair.told(found)

    def repair(self) -> list[Problem]:
        """Mend what is wrong with the file and can be mended; see `Problem.mend`.

        Counters are set to what is there, rows that name no message are removed, and
        indexes, views and times are made anew from the messages. No message is
        touched, and none is removed. It is done in one transaction, for which others
        wait. Nothing is done about a file whose pages are damaged.

        Returns:
            The problems that were mended; `check()` tells those that are left.

        Raises:
            Busy: Another process had the write lock for longer than `busy_timeout`, or
                this process forked meanwhile. Nothing was changed.
            Error: The file could not be read or written; the class says why.
        """
        from embq import _repair  # noqa: PLC0415

        with contextlib.suppress(Corrupt):  # it is here to be mended
            self._file.open()
        return _repair.repair(self._file.path, self._wait_s())

    def backup(self, path: Path) -> None:
        """Copy the file, as it is now, while others go on using it.

        All that was confirmed before the call is in the copy; of what is staged, what
        `flush()` waited for. When the copy is opened, what was in flight is ready
        again, and no receipt of this file is good there. Messages keep their ids. What
        is sent to the copy gets ids from 1,048,576 numbers further on in its queue, so
        the two files may give one id twice once that many were sent to this one.

        The copy is on the disk when this returns, as one file without a `-wal`, to be
        read by its owner alone. Until then it has another name, which begins with a dot
        and ends in ".part": a killed process may leave that behind.

        Args:
            path: The name of the copy. Its folder must be there, and must know hard
                links.

        Raises:
            InvalidArgument: There is a file of this name: a backup replaces none.
            NotFound: Its folder is not there.
            StorageFull: The copy does not fit on the disk.
            StorageReadOnly: The folder is not to be written.
            Busy: This process forked meanwhile.
            Error: This file could not be read; the class says why.
        """
        from embq import _backup  # noqa: PLC0415

        self._attach()
        file_id = _native.file_id(self._file.open().ref)
        _backup.backup(self._file.path, absolute(path), self._wait_s(), file_id)

    def _attach(self) -> None:
        """Let the core open the file, which in a forked child may be refused."""
        _native.stats(self._file.open().ref, 0)

    def _wait_s(self) -> float:
        wait_ms = self._file.wait_ms(None)
        return wait_ms / 1000 if wait_ms >= 0 else _FOR_EVER_S
