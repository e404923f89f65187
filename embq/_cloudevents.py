"""A message as an event of CloudEvents 1.0, in its JSON format, and back.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md and
.../formats/json-format.md

| message | event |
|---|---|
| `id`, `timestamp` | "id", "time"; of an event that came in: the headers "ce-id", "ce-time" |
| `type`, `source` | the same; "embq.message" and "/embq/QUEUE" when there is none |
| `key` | "subject" |
| `data` of a json queue | "data" |
| `body` of another | "data_base64" |
| the codec | "datacontenttype"; or the header "ce-datacontenttype" |
| the header "ce-dataschema" | "dataschema" |
| `version`, `correlation_id`, `reply_to` | extensions "version", "correlationid", "replyto" |
| `dedup_id` | not there: it names a sending; what names the event is its id |
| `priority`, unless it is the default | extension "priority" |
| `expires_at`; or the header "expirytime" | extension "expirytime" |
| headers that an extension attribute can carry | extensions of the same name |
| whatever is left | extension "embq": JSON text of an object |

What is left are headers whose name or value CloudEvents does not allow (an attribute is
a string without control characters, a boolean, or an int of 32 bits, and its name has
only a-z and 0-9), and fields with such a value, the empty string among them.

An event that comes in with a "priority" from 0 to 9 has that priority here, but 4, or
what is no priority of ours, is a header. Its "expirytime" is a header too, and ends no
message: a `ttl` counts from the sending, which is not now. "expirytime" is registered
(https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/expirytime.md),
"priority" is not.
"""  # noqa: E501

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from embq._times import DEFAULT_PRIORITY, MOST_PRIORITY, rfc_3339
from embq.errors import InvalidArgument

if TYPE_CHECKING:
    from embq.messages import Message

_REST = "embq"  # the extension that carries what CloudEvents cannot say
_DEFAULT_TYPE = "embq.message"
_DATA, _BASE64 = "data", "data_base64"
_JSON, _BINARY = "application/json", "application/octet-stream"
_MSGPACK = "application/msgpack"
_CONTENT_TYPES = {"json": _JSON, "msgpack": _MSGPACK, "raw": _BINARY}

_REQUIRED = ("specversion", "id", "source", "type")
_OPTIONAL = ("subject", "time", "datacontenttype", "dataschema")
_CORE = {*_REQUIRED, *_OPTIONAL, _DATA, _REST}  # no header can be one of these
# Attributes of the event that are headers of the message.
_KEPT = ("id", "time", "datacontenttype", "dataschema")
# Extensions that are fields of the message.
_FIELDS: dict[str, tuple[str, Any]] = {
    "version": ("version", int | str),
    "correlationid": ("correlation_id", str),
    "replyto": ("reply_to", str),
    "priority": ("priority", int),
}
_EXPIRY = "expirytime"
_REST_NAMES = {"headers", "key", "type", "source"} | {f for f, _ in _FIELDS.values()}

_NAME = re.compile(r"[a-z0-9]+")
# What RFC 3986 allows in a URI reference, besides what `quote` never escapes.
_URI = ":/?#[]@!$&'()*+,;=%"
_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")  # that escapes nothing
# Control characters and "noncharacters": not allowed in a String of CloudEvents.
_ENDS = "".join(chr(plane << 16 | end) for plane in range(17) for end in (65534, 65535))
_FORBIDDEN = re.compile(f"[\0-\x1f\x7f-\x9f\ufdd0-\ufdef{_ENDS}]")
_INT32 = range(-(2**31), 2**31)
# The default goes without saying, so that an event that says it leaves as it came.
_PRIORITIES = set(range(MOST_PRIORITY + 1)) - {DEFAULT_PRIORITY}


def build(message: "Message[Any]", version: int | str | None) -> dict[str, Any]:
    """Return the event of a message.

    Args:
        message: What was received.
        version: As the sender gave it.

    Raises:
        BodyError: The body is not what the codec expects.
    """
    rest: dict[str, Any] = {}
    left = dict(message.headers)
    home = message._home  # noqa: SLF001
    priority = None if message.priority == DEFAULT_PRIORITY else message.priority
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": message.id,
        "source": _source(message.source, home.name, rest),
        "type": _text(message.type, _DEFAULT_TYPE, "type", rest),
        "subject": _text(message.key, None, "key", rest),
        "time": rfc_3339(message.timestamp),
        "datacontenttype": _CONTENT_TYPES[home.codec],
    }
    for name in _KEPT:
        if _is_core(name, left.get(f"ce-{name}")):
            event[name] = left.pop(f"ce-{name}")
    fields = (version, message.correlation_id, message.reply_to, priority)
    _put_extensions(event, fields, left, rest)
    if (expires_at := message.expires_at) is not None:
        event.setdefault(_EXPIRY, rfc_3339(expires_at))
    if home.codec != "json":
        if not message._receipt:  # noqa: SLF001 - it was looked at
            home.vouch()
        event[_BASE64] = base64.b64encode(message.body).decode()
    else:
        event[_DATA] = home.decode(message.body)
    return {name: value for name, value in event.items() if value is not None}


def _put_extensions(
    event: dict[str, Any],
    fields: tuple[int | str | None, ...],
    headers: dict[str, Any],
    rest: dict[str, Any],
) -> None:
    """Add what is no attribute of CloudEvents' own: as an extension, or as text."""
    for (name, (field, _)), value in zip(_FIELDS.items(), fields, strict=True):
        if _is_value(value):
            event[name] = value
        elif value is not None:
            rest[field] = value
    for name in list(headers):
        if name not in event and _is_extension(name, headers[name]):
            event[name] = headers.pop(name)
    if headers:
        rest["headers"] = headers
    if rest:
        event[_REST] = json.dumps(rest, separators=(",", ":"))


def _source(source: str | None, queue: str, rest: dict[str, Any]) -> str:
    """Return the source as a URI reference: escaped, or the default."""
    if source is None:
        return f"/embq/{quote(queue, safe='')}"
    uri = _PERCENT.sub("%25", quote(source, safe=_URI))
    if uri != source or not uri:
        rest["source"] = source
    return uri or f"/embq/{quote(queue, safe='')}"


def _text(
    value: str | None, default: str | None, name: str, rest: dict[str, Any]
) -> str | None:
    """Return a text that must not be empty, or the default."""
    if value is None or (value and _is_value(value)):
        return default if value is None else value
    rest[name] = value
    return default


def _is_value(value: Any) -> bool:
    """Tell whether an attribute can have this value."""
    if isinstance(value, str):
        return not _FORBIDDEN.search(value)
    return isinstance(value, bool) or (isinstance(value, int) and value in _INT32)


def _is_core(name: str, value: Any) -> bool:
    """Tell whether the attribute of this name can have this value."""
    if not isinstance(value, str) or not value or not _is_value(value):
        return False
    return name != "time" or _is_time(value)


def _is_time(value: str) -> bool:
    try:
        moment = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        return False
    return moment.tzinfo is not None


def _is_extension(name: str, value: Any) -> bool:
    """Tell whether a header can be an extension that comes back as a header."""
    if not _NAME.fullmatch(name) or name in _CORE or not _is_value(value):
        return False
    return name not in _FIELDS or not _is_field(name, value)


def _is_field(name: str, value: Any) -> bool:
    """Tell whether an extension is a field of embq's messages."""
    if not isinstance(value, _FIELDS[name][1]) or isinstance(value, bool):
        return False
    return name != "priority" or value in _PRIORITIES


def to_fields(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the `Outgoing` that an event describes.

    Raises:
        InvalidArgument: It is not a valid event.
    """
    if not isinstance(event, Mapping):
        msg = f"event: {type(event).__name__} is not a mapping"
        raise InvalidArgument(msg)
    given = {name: value for name, value in event.items() if value is not None}
    _check(given)
    rest = _read_rest(given.pop(_REST, None))
    left: dict[str, Any] = rest.pop("headers", {})
    headers: dict[str, Any] = {}
    fields = {
        "data": _take_data(given),
        "type": given.pop("type"),
        "source": given.pop("source"),
        "key": given.pop("subject", None),
    }
    del given["specversion"]
    for name, value in given.items():
        if name in _KEPT:
            headers[f"ce-{name}"] = value
        elif name in _FIELDS and _is_field(name, value):
            fields[_FIELDS[name][0]] = value
        else:
            headers[name] = value
    return {**fields, "headers": headers | left, **rest}


def _check(given: dict[str, Any]) -> None:
    """Refuse what is no event; no text of an error has a value."""
    for name in _REQUIRED:
        if name not in given:
            raise _invalid(name, "is missing")
    if given["specversion"] != "1.0":
        raise _invalid(_REQUIRED[0], "is not '1.0'")
    if _DATA in given and _BASE64 in given:
        raise _invalid(_DATA, f"is there twice, as {_BASE64} too")
    for name in given.keys() - {_DATA, _BASE64}:
        _check_attribute(name, given[name])


def _check_attribute(name: str, value: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _invalid(name, "is no name of an attribute: only a-z and 0-9")
    if name not in _REQUIRED and name not in _OPTIONAL:
        if not _is_value(value):
            raise _invalid(name, "is no text, boolean, or int of 32 bits")
    elif not _is_core(name, value):
        what = "a time of RFC 3339" if name == "time" else "a text"
        raise _invalid(name, f"is not {what}")


def _invalid(name: object, what: str) -> InvalidArgument:
    return InvalidArgument(f"event: {name!r} {what}", "see CloudEvents 1.0")


def _read_rest(text: Any) -> dict[str, Any]:
    """Read the extension that only embq writes."""
    if text is None:
        return {}
    try:
        rest = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        rest = None
    if (
        not isinstance(rest, dict)
        or not rest.keys() <= _REST_NAMES
        or not isinstance(rest.get("headers", {}), dict)
    ):
        raise _invalid(_REST, "is not what embq writes")
    return rest


def _take_data(given: dict[str, Any]) -> Any:
    """Take the data out of an event, and the content type that goes without saying."""
    if _BASE64 not in given:
        if given.get("datacontenttype") == _JSON:
            del given["datacontenttype"]
        return given.pop(_DATA, None)
    try:
        data = base64.b64decode(given.pop(_BASE64), validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise _invalid(_BASE64, "is not base64") from None
    kind = given.setdefault("datacontenttype", _JSON)  # so says the JSON format
    if kind not in (_BINARY, _MSGPACK):
        return data
    del given["datacontenttype"]
    if kind == _BINARY:
        return data
    try:
        return msgspec.msgpack.decode(data)
    except (ValueError, RecursionError):
        raise _invalid(_BASE64, "is not msgpack") from None
