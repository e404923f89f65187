"""`Idempotency`: what is to be done once, by key, with the result that came of it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Generic, TypeVar

from msgspec import UNSET, UnsetType

from embq import _handles, _native
from embq._codec import CODECS
from embq._file import File
from embq._options import encode_name
from embq._times import positive_ms
from embq._view import Form, Misfit, View
from embq.errors import BodyError, Busy
from embq.messages import T

D = TypeVar("D")

_FOR_EVER = 0
_READING = "open the scope with the schema that it was stored with, or delete the key"
_WRITING = "convert it first; nothing was stored, and the key is free"


class Idempotency(Generic[T]):
    """Results by key, in a scope of a file: `broker.idempotency(scope)` gives one.

    A key is the application's own, such as a number of a payment, or the `id` of a
    message, which stays the same in dead letters and after a redrive. All processes
    that have the file open share the scope. Safe to share between threads.

    **What "once" means.** The result is stored once, and who finds it does not call
    `fn`. The *effect* of `fn` is elsewhere: a process that is killed, or loses power,
    after the effect and before the result is stored leaves a key that is free, and the
    next caller does it again. So the effect is at least once; it is once for sure only
    where it is part of the same transaction as the record of it.

    Results are JSON, whatever the codec of a queue: readable in the `sqlite3` shell, in
    the table `embq_idempotency`. With a `schema` they are typed. One has 1 MiB at most.

    Attributes:
        scope: Its name.
    """

    def __init__(
        self, broker: object, file: File, scope: str, ttl_ms: int, view: View | None
    ) -> None:
        self.scope = scope
        self._broker = broker  # which closes the file when it is collected
        self._file = file
        self._prefix = encode_name(scope, "scope") + b"\0"
        self._ttl_ms = ttl_ms
        self._form = Form(view, "json") if view else None

    def exists(self, key: str) -> bool:
        """Tell whether a result is stored under a key, and its time is not over.

        Args:
            key: 1 to 255 bytes of UTF-8 without NUL.

        Raises:
            InvalidArgument: That is no key.
        """
        return _native.result_exists(self._file.open().ref, self._names(key))

    def get(self, key: str, default: D | None = None) -> T | D | None:
        """Return the result that is stored under a key.

        At "full" it may be one whose `set` or `run` has not returned yet, and which a
        power cut would take.

        Args:
            key: 1 to 255 bytes of UTF-8 without NUL.
            default: What to return when there is none, or its time is over.

        Raises:
            BodyError: It does not fit the schema.
            InvalidArgument: That is no key.
        """
        body = _native.result_get(self._file.open().ref, self._names(key))
        return default if body is None else self._read(body)

    def set(
        self,
        key: str,
        value: T,
        *,
        ttl: float | timedelta | UnsetType | None = UNSET,
        timeout: float | timedelta | None = None,
    ) -> None:
        """Store a result, in place of any that is there.

        When it returns, the result is stored as a message is: at "full" it survives a
        power cut. A `run` that is in flight under the key then returns this one, in
        place of its own.

        Args:
            key: 1 to 255 bytes of UTF-8 without NUL.
            value: What JSON can say, or an instance of the schema.
            ttl: Seconds until it is forgotten; None: never. Default: that of the scope.
            timeout: How many seconds to wait for the write lock. Default: the broker's
                `busy_timeout`.

        Raises:
            BodyError: The value cannot be written as JSON, or does not fit the schema.
            MessageTooLarge: It has more than 1 MiB.
            LimitReached: The file has 4,096 scopes with results, and this would be one
                more.
            InvalidArgument: The key or a time makes no sense.
            Busy: The write lock was not free in time. Nothing was stored.
            CommitUncertain: It may be stored.
            StorageFull: The disk is full, or its reserve is reached.
        """
        names = self._names(key)
        ttl_ms = self._ttl_ms if isinstance(ttl, UnsetType) else ttl_of(ttl)
        wait = -1 if timeout is None else self._file.wait_ms(timeout)
        body = self._write(value)
        _native.result_set(self._file.open().ref, names, body, ttl_ms, wait)

    def delete(self, key: str) -> bool:
        """Forget the result that is stored under a key.

        What is in flight stays so: it is freed by its end or by its process's.

        Args:
            key: 1 to 255 bytes of UTF-8 without NUL.

        Returns:
            Whether there was one.

        Raises:
            InvalidArgument: That is no key.
        """
        return _native.result_delete(self._file.open().ref, self._names(key))

    def run(
        self,
        key: str,
        fn: Callable[[], T],
        *,
        timeout: float | timedelta | None = None,
    ) -> T:
        """Return the result that is stored under a key, or call `fn` and store its.

        Of all callers in all processes one calls `fn`, and the others wait for its
        result. When its process dies they learn so within about a second, and one of
        them calls `fn`. When `fn` raises, the key is free and nothing is stored: the
        exception is this caller's, and another calls `fn`.

        The effect of `fn` is done at least once, and once for sure only where it is in
        one transaction with the record of it; see the class. `fn` that calls `run` with
        its own key waits for itself, and gets `Busy`.

        Args:
            key: 1 to 255 bytes of UTF-8 without NUL.
            fn: Called without arguments. It may use the broker.
            timeout: How many seconds to wait for another caller's `fn`. Default: the
                broker's `busy_timeout`. For the own one there is no limit.

        Returns:
            The result as it is stored: what JSON makes of it (of a tuple a list), for
            the first caller too.

        Raises:
            Busy: Another caller's `fn` did not end in time, or the write lock was not
                free. This `fn` was not called, or its result is not stored.
            BodyError: What `fn` returned cannot be written as JSON, or does not fit the
                schema. The key is free.
            MessageTooLarge: It has more than 1 MiB. The key is free.
            LeaseLost: A result was set while `fn` ran, and is gone again.
            Closed: The broker was closed while `fn` ran, or the process forked in it
                and this is the child: the outcome is the parent's.
            CommitUncertain: The result may be stored.
            LimitReached: As for `set`; `fn` was not called.
            StorageFull: The disk is full. If it was so before, `fn` was not called.
            InvalidArgument: The key or the time makes no sense.
        """
        names, wait = self._names(key), self._file.wait_ms(timeout)
        broker = self._file.open().ref
        # Most calls find it. This waits for no writer.
        body = _native.result_get(broker, names)
        return self._read(self._run(broker, names, fn, wait) if body is None else body)

    def _run(self, broker: int, names: bytes, fn: Callable[[], T], wait: int) -> bytes:
        begun = _handles.Begun(broker, names)
        try:
            body = begun.begin(wait)
            if begun.token:
                body = begun.end(self._write(fn()), self._ttl_ms)
        except BaseException:
            begun.give_up()  # or a signal came before we knew that it was ours
            raise
        finally:
            begun.free()
        if body is None:
            msg = f"scope {self.scope!r}: another call with this key is not done yet"
            raise Busy(msg)
        return body

    def _names(self, key: str) -> bytes:
        return self._prefix + encode_name(key, "key")

    def _write(self, value: T) -> bytes:
        """Turn a value into JSON that can be read again."""
        write = self._form.encode if self._form else CODECS["json"].encode
        try:
            return write(value)
        except BodyError as error:
            raise BodyError(error.what, _WRITING) from error.__cause__

    def _read(self, body: bytes) -> T:
        try:
            if self._form:
                value: T = self._form.read(body, self._form.version)
                return value
            found: T = CODECS["json"].decode(body)
        except (Misfit, BodyError) as error:
            why = error.what if isinstance(error, BodyError) else str(error)
            msg = f"scope {self.scope!r}: a result that does not fit: {why}"
            raise BodyError(msg, _READING) from None
        return found

    def __repr__(self) -> str:
        return f"<Idempotency {self.scope!r}>"


def ttl_of(ttl: float | timedelta | None) -> int:
    """Turn the time that a result is kept into milliseconds; None: for ever."""
    return _FOR_EVER if ttl is None else positive_ms(ttl, "ttl")


def idempotency_of(
    broker: object, file: File, scope: str, ttl: float | timedelta | None, schema: Any
) -> Idempotency[Any]:
    """Make one; see `Broker.idempotency`."""
    view = View.build(schema, None, None, None, None)
    return Idempotency(broker, file, scope, ttl_of(ttl), view)
