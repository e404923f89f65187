"""Data to bytes and back, and the other fields of a send to the array that C takes."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec

from embq._times import encode_times
from embq.errors import BodyError, InvalidArgument

CodecName = Literal["json", "msgpack", "raw"]

# What msgspec raises for data that it cannot encode: an unknown type, an int of more
# than 64 bits, a lone surrogate, a structure without end.
_UNICODE = (UnicodeEncodeError, UnicodeDecodeError)
_UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)

_NONE_OF_3, _NONE_OF_4, _NONE_OF_5 = ((None,) * count for count in (3, 4, 5))

_pack = msgspec.msgpack.Encoder().encode
_to_json = msgspec.json.Encoder().encode


class Codec(NamedTuple):
    """A way to write data as bytes. What cannot be written or read is a `BodyError`."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _checked(
    name: str, write: Callable[[Any], bytes], read: Callable[[Any], Any]
) -> Codec:
    """Wrap a pair of msgspec's so that its errors become ours, without a payload."""

    def encode(data: Any) -> bytes:
        try:
            return write(data)
        except _UNENCODABLE as error:
            msg = f"{type(data).__name__} cannot be encoded as {name}: {_why(error)}"
            hint = "convert the data first, or use another codec"
            raise BodyError(msg, hint) from _quiet(error)

    def decode(body: bytes) -> Any:
        try:
            return read(body)
        except (ValueError, RecursionError) as error:
            msg = f"a body of {len(body)} bytes is not {name}: {_why(error)}"
            raise BodyError(msg) from _quiet(error)

    return Codec(encode, decode)


def _why(error: Exception) -> str:
    """Say why something cannot be written, without a character of it."""
    return error.reason if isinstance(error, _UNICODE) else str(error)


def _quiet(error: Exception) -> Exception | None:
    """Leave out what holds the whole text that it is about."""
    return None if isinstance(error, _UNICODE) else error


def _raw(data: Any) -> bytes:
    """Copy any bytes-like object; what changes in it afterwards is not sent."""
    if type(data) is bytes:
        return data
    try:
        return memoryview(data).tobytes()
    except TypeError:
        msg = f"a raw queue takes bytes, not {type(data).__name__}"
        raise BodyError(msg, "encode the data, or use codec='json'") from None


CODECS: dict[str, Codec] = {
    "json": _checked("json", _to_json, msgspec.json.Decoder().decode),
    "msgpack": _checked("msgpack", _pack, msgspec.msgpack.Decoder().decode),
    "raw": Codec(_raw, bytes),
}


def text(value: str | None, what: str) -> None:
    """Refuse what is neither a str nor None."""
    if value is not None and not isinstance(value, str):
        msg = f"{what}: {type(value).__name__} is not a str"
        raise InvalidArgument(msg)


def encode_text(value: str, what: str) -> bytes:
    """Return a text's bytes, for C.

    Raises:
        InvalidArgument: It is no str, or not valid Unicode.
    """
    if not isinstance(value, str):
        msg = f"{what}: {type(value).__name__} is not a str"
        raise InvalidArgument(msg)
    try:
        return value.encode()
    except UnicodeEncodeError:
        msg = f"{what}: not valid Unicode"
        raise InvalidArgument(msg) from None


def encode_fields(
    type: str | None,  # noqa: A002
    source: str | None,
    key: str | None,
    headers: Mapping[str, Any] | None,
    version: int | str | None,
    correlation_id: str | None,
    reply_to: str | None,
    priority: int | str | None = None,
    delay: float | timedelta | None = None,
    at: datetime | None = None,
    ttl: float | timedelta | None = None,
    dedup_id: str | None = None,
) -> bytes:
    """Pack what is sent besides the body; nothing (b"") when nothing is.

    Raises:
        InvalidArgument: A field is of the wrong type, or not to be written as JSON.
    """
    # What is not given is not looked at: a field alone costs a send nothing else.
    attributes = None
    if (type, source, key) != _NONE_OF_3:
        text(type, "type")
        text(source, "source")
        text(key, "key")
    if (headers, version, correlation_id, reply_to, dedup_id) != _NONE_OF_5:
        attributes = _attributes(headers, version, correlation_id, reply_to, dedup_id)
    texts = (type, source, key, attributes)
    try:
        if (priority, delay, at, ttl, dedup_id) != _NONE_OF_5:
            times = encode_times(priority, delay, at, ttl)
            return _pack((*texts, *times, dedup_id))
        return _pack(texts) if texts != _NONE_OF_4 else b""
    except UnicodeEncodeError as error:
        msg = f"type, source or key is not valid Unicode: {error.reason}"
        raise InvalidArgument(msg) from None


def _attributes(
    headers: Mapping[str, Any] | None,
    version: int | str | None,
    correlation_id: str | None,
    reply_to: str | None,
    dedup_id: str | None,
) -> str | None:
    """Write the fields that are seldom given as one JSON object."""
    text(correlation_id, "correlation_id")
    text(reply_to, "reply_to")
    text(dedup_id, "dedup_id")
    if isinstance(version, bool) or not isinstance(version, int | str | None):
        msg = f"version: {version.__class__.__name__} is neither an int nor a str"
        raise InvalidArgument(msg)
    if headers is not None and not isinstance(headers, Mapping):
        msg = f"headers: {headers.__class__.__name__} is not a mapping"
        raise InvalidArgument(msg)
    found = {
        "headers": dict(headers) if headers else None,
        "version": version,
        "correlation_id": correlation_id,
        "reply_to": reply_to,
        "dedup_id": dedup_id,
    }
    found = {name: value for name, value in found.items() if value is not None}
    if not found:
        return None
    try:
        return _to_json(found).decode()
    except _UNENCODABLE as error:
        msg = f"headers cannot be written as JSON: {_why(error)}"
        raise InvalidArgument(msg) from _quiet(error)


def pack(value: Any) -> bytes:
    """Write a msgpack value for C."""
    return _pack(value)
