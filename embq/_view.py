"""`View`: how this process reads and writes the data of a queue.

A type cannot be stored, so the view is not one of the options in the file: each process
brings its own, and `ConfigMismatch` does not look at it. `Form` is the view at work
with the queue's codec.

**Sending.** What was encoded is decoded again by the receiver's decoder. That is the
only check that is right for every type: a Struct or dataclass does not look at its own
fields, `msgspec.convert` takes an instance as it is, and NaN becomes null in JSON.

**Receiving.** A body of an older version is decoded without the type, lifted step by
step by the upcasters, encoded, and read as if it had been sent so.

No text here quotes a payload: msgspec's do now and then, so `describe` cuts them.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal, NamedTuple, Self, TypedDict

import msgspec

from embq._codec import CODECS, CodecName
from embq._options import Backoff
from embq.errors import BodyError, InvalidArgument

EncHook = Callable[[Any], Any]
DecHook = Callable[[type, Any], Any]
Upcasters = Mapping[int, Callable[[Any], Any]]


class QueueOptions(TypedDict, total=False):
    """What `broker.queue()` takes besides name and schema, for type checkers."""

    enc_hook: EncHook | None
    dec_hook: DecHook | None
    version: int | None
    upcasters: Upcasters | None
    codec: CodecName
    visibility_timeout: float | timedelta
    max_receives: int
    dead_letter: str | None
    retry: Backoff
    max_body: int
    delay: float | timedelta
    ttl: float | timedelta | None
    expiry: Literal["dead_letter", "drop"]
    ordered: Literal[False, "key", "queue"]
    dedup_window: float | timedelta
    max_messages: int | None
    max_bytes: int | None
    overflow: Literal["block", "reject", "drop_oldest", "dead_letter"]


_FIRST = 1  # the version of a message that says none
# Texts of msgspec that end in a value, which is cut off.
_QUOTING = ("Invalid enum value", "Invalid value", "Object contains unknown field")
_BYTES = (bytes, bytearray, memoryview)
_PATH = re.compile(r" - at (?:`key` in )?`\$[^`]*`$")


class Misfit(Exception):
    """A body that the view cannot read; the text says why, without payload."""


class View(NamedTuple):
    """What `broker.queue()` was told about the data, checked."""

    schema: Any
    enc_hook: EncHook | None
    dec_hook: DecHook | None
    version: int | None
    upcasters: dict[int, Callable[[Any], Any]]

    @classmethod
    def build(
        cls,
        schema: Any,
        enc_hook: EncHook | None,
        dec_hook: DecHook | None,
        version: int | None,
        upcasters: Upcasters | None,
    ) -> Self | None:
        """Check the arguments; None when there is none, and so nothing to check.

        Raises:
            InvalidArgument: One of them could never work.
        """
        given = (schema, enc_hook, dec_hook, version, upcasters)
        if all(argument is None for argument in given):
            return None
        for what, hook in (("enc_hook", enc_hook), ("dec_hook", dec_hook)):
            if hook is not None and not callable(hook):
                msg = f"{what}: {type(hook).__name__} cannot be called"
                raise InvalidArgument(msg)
        if dec_hook is not None and schema is None:
            msg = "dec_hook: without a schema it is never called"
            raise InvalidArgument(msg)
        try:
            msgspec.json.Decoder(Any if schema is None else schema)
        except Exception as error:
            msg = f"schema: {error}"
            raise InvalidArgument(msg, "give a type that msgspec knows") from error
        steps = _steps(version, upcasters)
        return cls(schema, enc_hook, dec_hook, version, steps)


def _steps(
    version: int | None, upcasters: Upcasters | None
) -> dict[int, Callable[[Any], Any]]:
    """Check that the upcasters end at the version, and leave no gap before it."""
    if version is None:
        if upcasters is not None:
            msg = "upcasters: they lead to a version, so give `version` too"
            raise InvalidArgument(msg)
        return {}
    if isinstance(version, bool) or not isinstance(version, int) or version < _FIRST:
        msg = "version: the version of a schema is an int from 1"
        raise InvalidArgument(msg)
    if upcasters is None:
        return {}
    if not isinstance(upcasters, Mapping):
        msg = f"upcasters: {type(upcasters).__name__} is not a mapping"
        raise InvalidArgument(msg)
    steps = dict(upcasters)
    first = max(_FIRST, version - len(steps))
    if set(steps) != set(range(first, version)):
        msg = f"upcasters: {sorted(map(str, steps))} do not lead to version {version}"
        hint = "{1: f, 2: g} leads to version 3: f from 1 to 2, g from 2 to 3"
        raise InvalidArgument(msg, hint)
    for number, step in steps.items():
        if not callable(step):
            msg = f"upcasters: {number}: {type(step).__name__} cannot be called"
            raise InvalidArgument(msg)
    return steps


class Form:
    """A view with a codec: turns data into bodies, and messages into data.

    Attributes:
        version: What a message says that is sent through it.
    """

    def __init__(self, view: View, codec: str) -> None:
        self.version = view.version
        self._steps = view.upcasters
        self._name = codec
        self._untyped = CODECS[codec].decode
        self._write, self._read = _pair(view, codec)
        self._checks = view.schema is not None

    def encode(self, data: Any) -> bytes:
        """Write data, and make sure that a receiver with this view can read it.

        Raises:
            BodyError: It cannot be written, or does not fit the schema.
        """
        try:
            body = self._write(data)
        except (BodyError, MemoryError):
            raise
        except Exception as error:
            what = describe(error)
            msg = f"{type(data).__name__} cannot be encoded as {self._name}: {what}"
            raise BodyError(msg, "convert the data, or give an enc_hook") from error
        if self._checks:
            try:
                self._read(body)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a hook raises
                msg = f"{type(data).__name__} does not fit the schema: "
                msg += describe(error)
                # What a hook raised is of use; what msgspec says may quote a value.
                ours = isinstance(error, msgspec.MsgspecError)
                cause = error.__cause__ if ours else error
                raise BodyError(msg, "nothing was sent") from cause
        return body

    def check_version(self, version: int | str | None) -> int | str | None:
        """Return the version to send with: that of the queue, if it has one.

        Raises:
            InvalidArgument: Another one is given than the data was checked for.
        """
        if self.version is None:
            return version
        if version is not None and version != self.version:
            msg = f"version: the queue was opened to send version {self.version}"
            raise InvalidArgument(msg, "leave it out, or open the queue without")
        return self.version

    def read(self, body: bytes, version: int | str | None) -> Any:
        """Read a body that says it is of this version.

        Raises:
            Misfit: It does not fit, also after lifting.
        """
        version = _FIRST if version is None else version
        if self.version is not None and version != self.version:
            body = self._lift(body, version)
        try:
            return self._read(body)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a hook raises
            raise Misfit(describe(error)) from None

    def _lift(self, body: bytes, version: int | str) -> bytes:
        """Turn an older body into one of the current version."""
        current = self.version or _FIRST
        if not isinstance(version, int) or version < _FIRST:
            msg = "a version that is no int from 1"
            raise Misfit(msg)
        if version > current:
            msg = f"version {version} is newer than {current}"
            raise Misfit(msg)
        if version < current and version not in self._steps:
            msg = f"no upcaster from version {version}"
            raise Misfit(msg)
        step = "decoding"
        try:
            data = self._untyped(body)
            for number in range(version, current):
                step = f"upcaster {number}"
                data = self._steps[number](data)
            step = "encoding what the upcasters gave"
            return self._write(data)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an upcaster raises
            msg = f"{step}: {describe(error)}"
            raise Misfit(msg) from None


def _pair(
    view: View, codec: str
) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """Return what writes and reads a body."""
    schema = Any if view.schema is None else view.schema
    enc, dec = view.enc_hook, view.dec_hook
    plain = CODECS[codec].encode
    if codec == "json":
        write = msgspec.json.Encoder(enc_hook=enc).encode if enc else plain
        return write, msgspec.json.Decoder(schema, dec_hook=dec).decode
    if codec == "msgpack":
        write = msgspec.msgpack.Encoder(enc_hook=enc).encode if enc else plain
        return write, msgspec.msgpack.Decoder(schema, dec_hook=dec).decode

    def write_raw(data: Any) -> bytes:
        return plain(data if isinstance(data, _BYTES) or enc is None else enc(data))

    def read_raw(body: bytes) -> Any:
        return msgspec.convert(body, schema, dec_hook=dec)

    return write_raw, read_raw


def describe(error: Exception) -> str:
    """Say why something does not fit, by types and places and never by a value."""
    text = str(error)
    cause = error.__cause__
    if isinstance(error, msgspec.ValidationError) and cause is not None:
        return f"{type(cause).__name__} in a hook{text.removeprefix(str(cause))}"
    if isinstance(error, msgspec.ValidationError):
        for start in _QUOTING:
            if text.startswith(start):
                place = _PATH.search(text)
                return start + (place[0] if place else "")
        return text
    if isinstance(error, msgspec.DecodeError):
        return text  # a place, no value
    return type(error).__name__
