"""A message as a dict, and what can be sent of such a dict."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from embq._times import rfc_3339
from embq.errors import InvalidArgument

if TYPE_CHECKING:
    from embq.messages import Message

# Names of metadata, and the fields of a message that they carry.
_FIELDS = {
    "version": "version",
    "priority": "priority",
    "key": "key",
    "headers": "headers",
    "correlationId": "correlation_id",
    "replyTo": "reply_to",
}
_ANEW = {"id", "timestamp"}  # a message gets its own when it is sent
_ANEW_METADATA = {"retryCount", "expiresAt", "dedupId"}


def from_message(message: "Message[Any]") -> dict[str, Any]:
    """Return the message as a dict; metadata that is None or empty is left out."""
    metadata: dict[str, Any] = {"retryCount": message.retry_count}
    for name, field in _FIELDS.items():
        value = getattr(message, field)
        if value is not None and (field != "headers" or value):
            metadata[name] = value
    if message.dedup_id is not None:
        metadata["dedupId"] = message.dedup_id
    if (expires_at := message.expires_at) is not None:
        metadata["expiresAt"] = rfc_3339(expires_at)
    return {
        "id": message.id,
        "timestamp": rfc_3339(message.timestamp),
        "type": message.type,
        "source": message.source,
        "data": message.data,
        "metadata": metadata,
    }


def to_fields(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the `Outgoing` that such a dict describes.

    Raises:
        InvalidArgument: A name is missing, or is none that `from_message` uses.
    """
    _check_names(message, {"data", "type", "source", "metadata"} | _ANEW, "message")
    if "data" not in message:
        msg = "message: 'data' is missing"
        raise InvalidArgument(msg, "only 'data' is required")
    fields = {name: message.get(name) for name in ("data", "type", "source")}
    metadata = message.get("metadata")
    if metadata is not None:
        _check_names(metadata, _FIELDS.keys() | _ANEW_METADATA, "metadata")
        for name, field in _FIELDS.items():
            fields[field] = metadata.get(name)
    return fields


def _check_names(given: Mapping[str, Any], known: set[str], what: str) -> None:
    if not isinstance(given, Mapping):
        msg = f"{what}: {type(given).__name__} is not a mapping"
        raise InvalidArgument(msg)
    unknown = sorted(repr(name) for name in given if name not in known)
    if unknown:
        msg = f"{what}: unknown: {', '.join(unknown)}"
        raise InvalidArgument(msg, f"known are {', '.join(sorted(known))}")
