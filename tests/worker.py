"""A second process of a test: embq in a child, driven over a socket.

The parent's side (`Worker.open`) has the face of `embq.Broker`, so that one test text
drives this process, a child and the model alike. The protocol is one pickled tuple each
way: `(operation, *arguments)` and `("ok", value)` or `("error", class name, text)`.
Started as a script, this file is the child.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 30.0
SEEN = (
    "id", "data", "body", "receive_count", "history", "type", "source", "key",
    "headers", "version", "correlation_id", "reply_to", "receipt", "priority",
    "expires_at",
)  # fmt: skip


class WorkerError(AssertionError):
    """The child died, hung, or answered nonsense."""


class Worker:
    """A child process with at most one broker open."""

    def __init__(self, clock: Path | None = None) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, __file__, str(theirs.fileno()), str(clock or "")]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        self.connection = Connection(ours.detach())

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self.process.pid

    def ask(self, *request: Any, timeout: float = TIMEOUT_S) -> Any:
        """Have one operation done; its error is raised here."""
        self.connection.send(request)
        return self.answer(request[0], timeout)

    def answer(self, what: str, timeout: float = TIMEOUT_S) -> Any:
        """Wait for the answer to what was sent."""
        if not self.connection.poll(timeout):
            text = f"child {self.pid}: no answer to {what!r} in {timeout} s"
            raise WorkerError(text)
        try:
            status, *value = self.connection.recv()
        except EOFError:
            code = self.process.wait(timeout)
            text = f"child {self.pid} died ({code}) in {what!r}"
            raise WorkerError(text) from None
        if status == "ok":
            return value[0]
        raise _error(value[0], f"{value[1]} (in child {self.pid})")

    def open(self, path: Path, **options: Any) -> RemoteBroker:
        """Open the file in the child."""
        self.ask("open", str(path), options)
        return RemoteBroker(self)

    def sql(self, path: Path, *statements: str) -> list[list[tuple[Any, ...]]]:
        """Read the file through `sqlite3` alone, on a connection that stays open."""
        answer: list[list[tuple[Any, ...]]] = self.ask("sql", str(path), statements)
        return answer

    def kill(self) -> None:
        """SIGKILL, and no more."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(TIMEOUT_S)
        self.connection.close()

    def stop(self) -> None:
        """End it in order; by force when it does not answer."""
        with contextlib.suppress(OSError, WorkerError):
            self.ask("stop")
            self.process.wait(TIMEOUT_S)
        self.kill()


def _error(name: str, text: str) -> BaseException:
    from embq import errors  # noqa: PLC0415  (the child decides which embq)

    kind = getattr(errors, name, None) or getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        return kind(text)
    return WorkerError(f"{name}: {text}")


class RemoteBroker:
    """The face of a broker that is open in the child."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def queue(self, name: str, **options: Any) -> RemoteQueue:
        """Declare or open a queue."""
        self.worker.ask("queue", name, options)
        return RemoteQueue(self.worker, name)

    def delete(self, name: str) -> int:
        """As `Broker.delete`."""
        removed: int = self.worker.ask("delete", name)
        return removed

    def idempotency(self, scope: str, **options: Any) -> RemoteIdempotency:
        """As `Broker.idempotency`."""
        self.worker.ask("scope", scope, options)
        return RemoteIdempotency(self.worker, scope)

    def flush(self) -> None:
        """As `Broker.flush`."""
        self.worker.ask("flush")

    def close(self) -> None:
        """Close the broker; the child lives on."""
        self.worker.ask("close")

    def kill(self) -> None:
        """End the child as a crash would."""
        self.worker.kill()


class RemoteQueue:
    """The face of a queue: every verb is done by the child."""

    def __init__(self, worker: Worker, name: str) -> None:
        self.worker, self.name = worker, name

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith("_"):
            raise AttributeError(verb)

        def call(*args: Any, **kwargs: Any) -> Any:
            plain = [[m.handle for m in a] if _is_batch(a) else a for a in args]
            answer = self.worker.ask("call", self.name, verb, plain, kwargs)
            return self._from_child(answer)

        return call

    def _from_child(self, answer: Any) -> Any:
        kind, value = answer
        if kind == "message":
            return RemoteMessage(self.worker, value)
        if kind == "list":
            return [self._from_child(item) for item in value]
        return value


def _is_batch(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(m, RemoteMessage) for m in value)


class RemoteIdempotency:
    """The face of a scope: every verb is done by the child."""

    def __init__(self, worker: Worker, scope: str) -> None:
        self.worker, self.scope = worker, scope

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith("_"):
            raise AttributeError(verb)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self.worker.ask("once", self.scope, verb, args, kwargs)

        return call

    def run(self, key: str, value: Any, **kwargs: Any) -> Any:
        """Run what returns this value."""
        return self.worker.ask("run", self.scope, key, value, kwargs)


class RemoteMessage:
    """The face of a message: its fields are here, its verbs are done by the child."""

    def __init__(self, worker: Worker, seen: dict[str, Any]) -> None:
        self.worker = worker
        self.handle: int = seen.pop("handle")
        self.id: str = seen["id"]
        self.data: Any = seen["data"]
        self.receive_count: int = seen["receive_count"]
        self.__dict__.update(seen)

    def _verb(self, verb: str, *args: Any, **kwargs: Any) -> None:
        self.worker.ask("verb", self.handle, verb, args, kwargs)

    def ack(self) -> None:
        """As `Message.ack`."""
        self._verb("ack")

    def ack_nowait(self) -> None:
        """As `Message.ack_nowait`."""
        self._verb("ack_nowait")

    def nack(self, delay: float | None = None, error: str | None = None) -> None:
        """As `Message.nack`."""
        self._verb("nack", delay=delay, error=error)

    def reject(self, reason: str) -> None:
        """As `Message.reject`."""
        self._verb("reject", reason=reason)

    def extend(self, seconds: float) -> None:
        """As `Message.extend`."""
        self._verb("extend", seconds)


class Run:
    """A run under way, in a thread: its function waits to be told what came of it."""

    def __init__(self, idempotency: Any, key: str) -> None:
        self.begun, self.told = threading.Event(), threading.Event()
        self.given: list[Any] = []
        self.outcome: Any = None
        self.thread = threading.Thread(
            target=self.work, args=(idempotency, key), daemon=True
        )
        self.thread.start()
        if not self.begun.wait(TIMEOUT_S):
            text = f"{key!r} was not begun"
            raise WorkerError(text)

    def work(self, idempotency: Any, key: str) -> None:
        """Run it."""
        try:
            self.outcome = idempotency.run(key, self.wait)
        except Exception as error:  # noqa: BLE001  (raised where it is ended)
            self.outcome = error

    def wait(self) -> Any:
        """Be its function: return what `end` is given; without that, fail."""
        self.begun.set()
        self.told.wait(TIMEOUT_S)
        return self.given[0]

    def end(self, *given: Any) -> Any:
        """Let it end; return or raise what came of it. Without a value it fails."""
        self.given += given
        self.told.set()
        self.thread.join(TIMEOUT_S)
        if isinstance(self.outcome, Exception) and given:
            raise self.outcome
        return None if isinstance(self.outcome, Exception) else self.outcome


class Child:
    """The child's side."""

    def __init__(self) -> None:
        self.broker: Any = None
        self.queues: dict[str, Any] = {}
        self.scopes: dict[str, Any] = {}
        self.runs: dict[tuple[str, str], Run] = {}
        self.messages: dict[int, Any] = {}
        self.readers: dict[str, sqlite3.Connection] = {}

    def do_open(self, path: str, options: dict[str, Any]) -> None:
        """Open a file, in place of the one before."""
        import embq  # noqa: PLC0415  (a child that only reads SQL does without)

        self.do_close()
        self.broker = embq.open(path, **options)

    def do_close(self) -> None:
        """Close what is open."""
        if self.broker is None:
            return
        self.queues.clear()
        self.messages.clear()
        broker, self.broker = self.broker, None
        broker.close()

    def do_queue(self, name: str, options: dict[str, Any]) -> None:
        """Declare."""
        self.queues[name] = self.broker.queue(name, **options)

    def do_delete(self, name: str) -> int:
        """Delete a queue."""
        removed: int = self.broker.delete(name)
        return removed

    def do_scope(self, scope: str, options: dict[str, Any]) -> None:
        """Open a scope."""
        self.scopes[scope] = self.broker.idempotency(scope, **options)

    def do_once(self, scope: str, verb: str, args: Any, kwargs: Any) -> Any:
        """Do a verb of a scope; `begin`, `end` and `fail` are of a run that waits."""
        if verb == "begin":
            self.runs[scope, args[0]] = Run(self.scopes[scope], args[0])
            return None
        if verb in ("end", "fail"):
            return self.runs.pop((scope, args[0])).end(*args[1:])
        return getattr(self.scopes[scope], verb)(*args, **kwargs)

    def do_run(self, scope: str, key: str, value: Any, kwargs: Any) -> Any:
        """Run what returns this value."""
        return self.scopes[scope].run(key, lambda: value, **kwargs)

    def do_flush(self) -> None:
        """Wait for what is staged."""
        self.broker.flush()

    def do_call(self, name: str, verb: str, args: list[Any], kwargs: Any) -> Any:
        """Do a verb of a queue."""
        if verb == "ack_many":
            args = [[self.messages[handle] for handle in args[0]]]
        return self._answer(getattr(self.queues[name], verb)(*args, **kwargs))

    def _answer(self, value: Any) -> Any:
        if isinstance(value, list):
            return "list", [self._answer(item) for item in value]
        if hasattr(value, "receipt"):
            handle = len(self.messages)
            self.messages[handle] = value
            seen = {name: getattr(value, name) for name in SEEN}
            return "message", {**seen, "handle": handle}
        return "value", value

    def do_verb(self, handle: int, verb: str, args: Any, kwargs: Any) -> None:
        """Do a verb of a message."""
        getattr(self.messages[handle], verb)(*args, **kwargs)

    def do_sql(self, path: str, statements: list[str]) -> list[list[Any]]:
        """Read through one connection a path, closed only when another path comes."""
        if path not in self.readers:
            while self.readers:
                self.readers.popitem()[1].close()
            self.readers[path] = sqlite3.connect(path, isolation_level=None)
        return [self.readers[path].execute(text).fetchall() for text in statements]

    def serve(self, connection: Connection) -> None:
        """Answer until told to stop, or the parent is gone."""
        while True:
            try:
                operation, *arguments = connection.recv()
            except EOFError:
                return
            if operation == "stop":
                self.do_close()
                connection.send(("ok", None))
                return
            try:
                value = getattr(self, f"do_{operation}")(*arguments)
            except Exception as error:  # noqa: BLE001  (the parent raises it)
                connection.send(("error", type(error).__name__, str(error)))
            else:
                connection.send(("ok", value))


if __name__ == "__main__":
    if sys.argv[2]:
        from embq import _native

        _native.use_clock(sys.argv[2])
    Child().serve(Connection(int(sys.argv[1])))
