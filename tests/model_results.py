"""The part of the model (`model.py`) about what is to be done once.

    none --begin--> in flight --end--> stored --its ttl, delete--> none
                        |                ^
                        +--fail, death---+-- set, from wherever it was

`run` is `begin`, its function, `end`. The model does not wait: what is in flight
elsewhere is `Busy` at once.
"""

# ruff: noqa: D101, D102, EM101, TRY003  (short is clear here)
from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import model_input
import msgspec
from model_input import LAST_MS, positive_ms

from embq import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from model import ModelBroker
    from model_file import ModelFile

UNSET = object()
LARGEST = 1 << 20


@dataclasses.dataclass
class Result:
    body: bytes | None  # None: it is in flight
    expires_ms: int = LAST_MS
    owner: ModelBroker | None = None


class ModelIdempotency:
    """A scope, as one process sees it."""

    def __init__(
        self, broker: ModelBroker, scope: str, ttl: Any, schema: Any = None
    ) -> None:
        model_input.check_name(scope)
        self.broker, self.file, self.scope = broker, broker.file, scope
        self.ttl_ms, self.schema = ttl_of(ttl), schema
        self.begun: dict[str, Result] = {}  # here

    @property
    def results(self) -> dict[str, Result]:
        return self.file.results.setdefault(self.scope, {})

    def find(self, key: str) -> Result | None:
        """Give what is stored or in flight."""
        self.broker.check_open()
        model_input.check_name(key)
        forget(self.file)
        return self.results.get(key)

    def look(self, key: str) -> bytes | None:
        """Give what is stored, and count that it was found."""
        found = self.find(key)
        if found is None or found.body is None:
            return None
        self.file.hits[self.scope] += 1
        return found.body

    def encode(self, value: Any) -> bytes:
        try:
            body = msgspec.json.encode(value)
            if self.schema is not None:
                msgspec.json.decode(body, type=self.schema)
        except (TypeError, ValueError, OverflowError) as error:
            raise errors.BodyError("no such result") from error
        if len(body) > LARGEST:
            raise errors.MessageTooLarge("more than 1 MiB")
        return body

    def decode(self, body: bytes) -> Any:
        try:
            return msgspec.json.decode(body, type=self.schema or Any)
        except ValueError as error:
            raise errors.BodyError("it does not fit") from error

    def exists(self, key: str) -> bool:
        return self.look(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        body = self.look(key)
        return default if body is None else self.decode(body)

    def set(
        self, key: str, value: Any, *, ttl: Any = UNSET, timeout: Any = None
    ) -> None:
        model_input.duration_ms(timeout or 0, "timeout")
        ttl_ms = self.ttl_ms if ttl is UNSET else ttl_of(ttl)
        model_input.check_name(key)
        body = self.encode(value)
        self.find(key)
        self.keep(key, body, ttl_ms)

    def keep(self, key: str, body: bytes, ttl_ms: int | None) -> None:
        now_ms = self.file.clock.wall_ms
        until_ms = LAST_MS if ttl_ms is None else now_ms + ttl_ms
        self.results[key] = Result(body, until_ms)

    def delete(self, key: str) -> bool:
        found = self.find(key)
        if found is None or found.body is None:
            return False
        del self.results[key]
        return True

    # ---- once ----

    def run(
        self, key: str, fn: Callable[[], Any] | object, *, timeout: Any = None
    ) -> Any:
        model_input.duration_ms(timeout or 0, "timeout")
        body = self.look(key)
        if body is not None:
            return self.decode(body)
        self.begin(key)
        try:
            value = fn() if callable(fn) else fn
            return self.end(key, value)
        except BaseException:
            self.fail(key)
            raise

    def begin(self, key: str) -> None:
        """Begin, where nothing is stored."""
        if self.find(key) is not None:
            raise errors.Busy("it is in flight")
        self.begun[key] = self.results[key] = Result(None, owner=self.broker)

    def end(self, key: str, value: Any) -> Any:
        """Store it, unless another was set meanwhile; give what is stored."""
        body = self.encode(value)
        if self.find(key) is self.begun[key]:
            self.keep(key, body, self.ttl_ms)
            return self.decode(body)
        other = self.look(key)
        if other is None:
            raise errors.LeaseLost("another was set, and is gone again")
        return self.decode(other)

    def fail(self, key: str) -> None:
        """End it without a result."""
        if self.results.get(key) is self.begun[key]:
            del self.results[key]


class ModelScopes:
    """The part of a broker about scopes."""

    def idempotency(
        self: ModelBroker, scope: str, *, ttl: Any = 86_400.0, schema: Any = None
    ) -> ModelIdempotency:
        return ModelIdempotency(self, scope, ttl, schema)

    def stats(self: ModelBroker) -> dict[str, Any]:
        """Count what the model knows of."""
        self.check_open()
        return {"idempotency": stats(self.file)}


def ttl_of(ttl: Any) -> int | None:
    """Give the ms that a result is kept; None: for ever."""
    return None if ttl is None else positive_ms(ttl, "ttl")


def forget(file: ModelFile, dead: ModelBroker | None = None) -> None:
    """Remove what is over; free what a dead process had in flight."""
    for results in file.results.values():
        for key, one in list(results.items()):
            over = one.expires_ms <= file.clock.wall_ms
            if over or (dead is not None and one.owner is dead):
                del results[key]


def stats(file: ModelFile) -> dict[str, dict[str, int]]:
    """Say what `broker.stats()["idempotency"]` says of scopes with results."""
    forget(file)
    found = {}
    for scope, results in file.results.items():
        size = sum(one.body is not None for one in results.values())
        found[scope] = {"size": size, "hits": file.hits[scope]}
    return found
