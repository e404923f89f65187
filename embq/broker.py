"""`Broker`: a file, opened in this process."""

import contextlib
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, Unpack, overload

from msgspec import UNSET, UnsetType

from embq import _native
from embq._codec import CodecName, text
from embq._file import File, Path
from embq._options import Backoff, Options, count, encode_name
from embq._ticket import Sent
from embq._times import limit_ms
from embq._upkeep import Upkeep
from embq._view import DecHook, EncHook, QueueOptions, Upcasters, View
from embq.errors import Error, InvalidArgument, NotFound
from embq.messages import T
from embq.queue import Queue

Durability = Literal["full", "normal"]

_MAX_RESERVE = 1 << 60  # bytes


class Broker(Upkeep):
    """A file of queues. Opens it at first use; safe to share between threads.

    All brokers of one file in one process share one engine, so making several is cheap.
    Use it as a context manager, or call `close()`.

    Args:
        path: The file, taken literally; relative to the current folder. It may be the
            application's own SQLite database.
        durability: When `send` returns: "full", once the message survives a power cut;
            "normal", once it survives a killed process (a power cut may take the newest
            messages, never one between others).
        source: What messages carry as their `source` unless told otherwise
            (CloudEvents).
        busy_timeout: How many seconds to wait for the write lock by default.
        create: Create the file when it is not there.
        disk_reserve: How many bytes of its file system sends leave free, so that
            receiving and settling go on when it is full. Default None: 5 % of it, at
            most 64 MiB.
        allow_unsafe_filesystem: Open the file also where it is refused: on NFS, SMB,
            9p and other network file systems, and on FUSE. Processes of several hosts
            would lose messages there. What locks and shared memory do for processes of
            one host is up to the file system.
        secure_delete: Leave no trace in the file, its -wal or its -shm of a body that
            was removed: what is freed is overwritten with zeros, and the -wal is
            emptied in each idle moment and at the last close. It holds for what this
            process removes, with all its brokers of the file; give it in each process
            that does. In a page that still has messages SQLite may leave a few bytes
            of one that was removed, until the page changes or is free. A backup that
            was made, and free blocks of the disk, keep what they have. Default False:
            removing large bodies is several times faster.

    Raises:
        InvalidArgument: An argument makes no sense.
    """

    def __init__(
        self,
        path: Path,
        *,
        durability: Durability = "full",
        source: str | None = None,
        busy_timeout: float | timedelta = 10.0,
        create: bool = True,
        disk_reserve: int | None = None,
        allow_unsafe_filesystem: bool = False,
        secure_delete: bool = False,
    ) -> None:
        self._queues: dict[str, Queue[Any]] = {}  # without a view
        if durability not in ("full", "normal"):
            msg = f"durability: {durability!r} is neither 'full' nor 'normal'"
            raise InvalidArgument(msg)
        text(source, "source")
        self.source = source
        flags = _native.OPEN_FULL if durability == "full" else 0
        flags |= _native.OPEN_CREATE if create else 0
        flags |= _native.OPEN_ANYWHERE if allow_unsafe_filesystem else 0
        flags |= _native.OPEN_SECURE if secure_delete else 0
        busy_timeout_ms = limit_ms(busy_timeout, "busy_timeout")
        reserve = -1
        if disk_reserve is not None:
            reserve = count(disk_reserve, "disk_reserve", 0, _MAX_RESERVE)
        self._file = File(path, flags, busy_timeout_ms, reserve)

    @property
    def path(self) -> str:
        """The file's absolute path."""
        return os.fsdecode(self._file.path)

    # ---- queues ----

    @overload
    def queue(
        self,
        name: str,
        *,
        schema: type[T],
        **options: Unpack[QueueOptions],
    ) -> Queue[T]: ...

    @overload
    def queue(
        self,
        name: str,
        *,
        schema: Any = None,
        **options: Unpack[QueueOptions],
    ) -> Queue[Any]: ...

    def queue(
        self,
        name: str,
        *,
        schema: Any = None,
        enc_hook: EncHook | None = None,
        dec_hook: DecHook | None = None,
        version: int | None = None,
        upcasters: Upcasters | None = None,
        codec: CodecName | UnsetType = UNSET,
        visibility_timeout: float | timedelta | UnsetType = UNSET,
        max_receives: int | UnsetType = UNSET,
        dead_letter: str | UnsetType | None = UNSET,
        retry: Backoff | UnsetType = UNSET,
        max_body: int | UnsetType = UNSET,
        delay: float | timedelta | UnsetType = UNSET,
        ttl: float | timedelta | UnsetType | None = UNSET,
        expiry: Literal["dead_letter", "drop"] | UnsetType = UNSET,
        ordered: Literal[False, "key", "queue"] | UnsetType = UNSET,
        dedup_window: float | timedelta | UnsetType = UNSET,
        max_messages: int | UnsetType | None = UNSET,
        max_bytes: int | UnsetType | None = UNSET,
        overflow: Literal["block", "reject", "drop_oldest", "dead_letter"]
        | UnsetType = UNSET,
    ) -> Queue[Any]:
        """Declare a queue, or open the one that is there.

        The options live in the file, for every process alike. What is left out is as
        stored; for a new queue the defaults hold. The first five after the name are not
        among them: they are how this process sees the data, and the next call may give
        others.

        Args:
            name: 1 to 255 bytes of UTF-8 without NUL.
            schema: Any type that msgspec knows: a Struct, dataclass, TypedDict,
                attrs class, built-in, union, or Annotated with constraints. See
                `Queue`. Default: none, whatever the codec can encode. A type checker
                sees a `Queue[schema]`, or for what is no class (`int | str`) a
                `Queue[Any]`; annotate that.
            enc_hook: Turns what msgspec cannot encode into what it can (msgspec); with
                codec="raw", into bytes.
            dec_hook: Its inverse: called with a type of the schema and what was decoded
                for it (msgspec).
            version: The version of the schema, from 1. What is sent says it. A message
                that says no version is of version 1. A newer one does not fit: upgrade
                the consumers, then take it from the dead-letter queue.
            upcasters: {1: f, 2: g}: f makes of decoded data of version 1, without the
                schema's types, such of version 2, g of 2 such of 3. An older message is
                lifted by them when it is received.
            codec: "json" (default; readable in the sqlite3 shell; NaN and infinity
                become null, as JSON has neither), "msgpack", or "raw" for bytes.
            visibility_timeout: How many seconds a received message is held. Default 30
                (SQS).
            max_receives: How often a message is handed out before it becomes a dead
                letter. Default 5.
            dead_letter: The queue that takes them. Default NAME.dead, created when it
                is needed; None, or a name that ends in ".dead": no dead letters, and
                `max_receives` is not enforced.
            retry: How long a failed message waits. Default
                Backoff(1.0, factor=2, cap=300.0, jitter=True).
            max_body: The largest body, fields included, in bytes. Default 1 MiB.
            delay: Seconds until a message is handed out that says nothing else (SQS:
                DelaySeconds). Default 0.
            ttl: Seconds, from when it is due, until a message perishes that says
                nothing else. Default None: never.
            expiry: What becomes of it then: "dead_letter" (default; it is dropped when
                there are none) or "drop".
            ordered: "key": messages of one key are handed out in the order of sending,
                one at a time, and those of other keys pass (SQS FIFO: message groups).
                "queue": all of them so. There, no priority and no delay is taken; a
                dead letter or a redrive that comes there gets priority 4. Default
                False.
            dedup_window: For how many seconds a `dedup_id` is known. Default 300 (SQS);
                0: none is.
            max_messages: How many messages may be stored that are not settled. Default
                None: any number. Dead letters that come in do not obey it.
            max_bytes: How many bytes their bodies may have together. Default None.
            overflow: What a send does that finds no room. "block", the default: it
                waits, in a process in the order of the calls, and after its `timeout`
                raises `QueueFull`; what is staged waits as long as the broker is open.
                "reject": `QueueFull` at once, and nothing of the batch is stored.
                "drop_oldest": the oldest that nobody holds are removed, and counted as
                `dropped`. "dead_letter": they become dead letters, with the reason
                "overflow". When what is in flight leaves no room: `QueueFull`, and
                nothing is removed. So is what no empty queue would have room for.

        Returns:
            The queue.

        Raises:
            ConfigMismatch: It is stored with another value of an option given here.
            InvalidArgument: The name or an option makes no sense.
        """
        encoded = encode_name(name)
        view = View.build(schema, enc_hook, dec_hook, version, upcasters)
        options = {
            "codec": codec,
            "visibility_timeout": visibility_timeout,
            "max_receives": max_receives,
            "dead_letter": dead_letter,
            "retry": retry,
            "max_body": max_body,
            "delay": delay,
            "ttl": ttl,
            "expiry": expiry,
            "ordered": ordered,
            "dedup_window": dedup_window,
            "max_messages": max_messages,
            "max_bytes": max_bytes,
            "overflow": overflow,
        }
        given = {key: value for key, value in options.items() if value is not UNSET}
        wanted = Options.build(name, given)
        handle = self._file.open()
        channel, packed = _native.declare(handle.ref, encoded, wanted.encode())
        stored = Options.decode(packed)
        stored.compare(name, wanted, given)
        queue: Queue[Any] = Queue(self, handle, channel, name, stored, view)
        if view is None:
            self._queues[name] = queue
        return queue

    def queues(self) -> list[str]:
        """List the names of all queues in the file, dead-letter queues among them."""
        return [name for _, name in _native.queues(self._file.open().ref)]

    def delete(self, name: str) -> int:
        """Remove a queue with all its messages, also those that are in flight.

        From then on its name is free, and nothing of it is handed out. Whoever waits
        for its messages or still holds some meets `NotFound`, in every process, also
        when a new queue has the name. The messages are removed in steps, so that nobody
        waits long for the file; a process that is killed meanwhile leaves the rest to
        the others, or to the next one. A queue of dead letters may be deleted: the next
        dead letter makes it again.

        Args:
            name: Of the queue.

        Returns:
            How many messages it had.

        Raises:
            NotFound: There is no queue of this name.
        """
        removed = _native.delete(self._file.open().ref, encode_name(name))
        self._queues.pop(name, None)
        return removed

    def send(
        self,
        queue: str | Queue[Any],
        data: Any,
        *,
        type: str | None = None,  # noqa: A002
        source: str | None = None,
        key: str | None = None,
        headers: Mapping[str, Any] | None = None,
        version: int | str | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        priority: int | str | None = None,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        ttl: float | timedelta | None = None,
        dedup_id: str | None = None,
        timeout: float | timedelta | None = None,
        retries: int = 0,
    ) -> Sent:
        """Send one message to a queue by name; see `Queue.send`.

        By name no schema is looked at; a `Queue` has its own.

        Raises:
            NotFound: Nobody declared a queue of this name: nothing is created silently.
        """
        fields: dict[str, Any] = {
            "type": type,
            "source": source,
            "key": key,
            "headers": headers,
            "version": version,
            "correlation_id": correlation_id,
            "reply_to": reply_to,
            "priority": priority,
            "delay": delay,
            "at": at,
            "ttl": ttl,
            "dedup_id": dedup_id,
            "timeout": timeout,
            "retries": retries,
        }
        try:
            return self._find(queue).send(data, **fields)
        except NotFound:
            # The queue that we know was deleted; another may have the name by now.
            if isinstance(queue, Queue) or self._queues.pop(queue, None) is None:
                raise
        return self._find(queue).send(data, **fields)

    def _find(self, queue: str | Queue[Any]) -> Queue[Any]:
        """Return a queue that exists, as stored."""
        if isinstance(queue, Queue):
            return queue
        found = self._queues.get(queue) if isinstance(queue, str) else None
        if found is None:
            encoded = encode_name(queue, "queue")
            handle = self._file.open()
            try:
                channel, packed = _native.declare(handle.ref, encoded, b"")
            except NotFound as error:
                msg = f"no queue {queue!r} in {self.path!r}"
                hint = "declare it with broker.queue(name): nothing is created silently"
                raise NotFound(msg, hint) from error
            found = Queue(self, handle, channel, queue, Options.decode(packed))
            self._queues[queue] = found
        return found

    # ---- the file ----

    def close(self) -> None:
        """Store what is staged, and close. Waiting calls end with `Closed`.

        What this process received and did not settle comes again at once when this
        was its last broker of the file; closed with others open, when they close.
        Closing twice is allowed.

        Raises:
            Error: The first failure of a `send_nowait` or `ack_nowait` that nobody
                awaited. The broker is closed all the same.
        """
        self._file.close()

    def __enter__(self) -> Self:
        self._file.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        file: File | None = getattr(self, "_file", None)
        if file and file.handle:  # not when __init__ refused its arguments
            with contextlib.suppress(Error):  # logged
                self.close()

    def __reduce__(self) -> NoReturn:
        msg = f"a broker cannot be pickled: use embq.open({self.path!r}) over there"
        raise TypeError(msg)

    def __repr__(self) -> str:
        return f"<Broker {self.path!r}{' closed' if self._file.closed else ''}>"
