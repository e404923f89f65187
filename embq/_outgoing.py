"""`Outgoing`: what goes into a queue, where there is more to say than data."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Generic

import msgspec

from embq import _dicts
from embq.messages import T


class Outgoing(msgspec.Struct, Generic[T]):
    """A message for `send_many` that has more than data.

    Args:
        data: What to send.
        type: What happened (CloudEvents).
        source: Where it happened; default the broker's `source`.
        key: What it is about.
        headers: Anything that JSON can hold, by name (AMQP).
        version: The version of the data's form.
        correlation_id: What this message answers or belongs to (AMQP).
        reply_to: Where an answer is wanted (AMQP).
        priority: 0 to 9, or "low", "normal", "high" (2, 4, 7). Default 4.
        delay: Seconds until it is handed out. Default: the queue's.
        at: An aware datetime, instead of a delay.
        ttl: Seconds, from when it is due, until it perishes. Default: the queue's.
        dedup_id: Stored once within the queue's `dedup_window` (SQS).
    """

    data: T
    type: str | None = None
    source: str | None = None
    key: str | None = None
    headers: Mapping[str, Any] | None = None
    version: int | str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    priority: int | str | None = None
    delay: float | timedelta | None = None
    at: datetime | None = None
    ttl: float | timedelta | None = None
    dedup_id: str | None = None

    def __repr__(self) -> str:
        """Show no payload: a repr ends up in logs."""
        of = type(self.data).__name__
        return f"<Outgoing {of} type={self.type!r} key={self.key!r}>"

    @classmethod
    def from_dict(cls, message: Mapping[str, Any]) -> "Outgoing[Any]":
        """Make of `Message.to_dict()` a message that can be sent.

        It gets an id, a timestamp and a count of its own when it is sent, and lives as
        long as `ttl` or the queue says: "id", "timestamp", "retryCount", "expiresAt"
        and "dedupId" are left out here.

        Args:
            message: "data", and what else `to_dict` gives.

        Raises:
            InvalidArgument: There is no "data", or a name that `to_dict` does not use.
        """
        return cls(**_dicts.to_fields(message))

    @classmethod
    def from_cloudevent(cls, event: Mapping[str, Any]) -> "Outgoing[Any]":
        """Make of an event of CloudEvents 1.0, in its JSON format, a message.

        "subject" is the key. "data_base64" becomes bytes, for a raw queue. The
        extension "priority" is the priority if it is one, which an ordered queue does
        not take. Extension attributes that embq has no name for become headers, and so
        do the attributes that a message gets anew or does not have: as "ce-id",
        "ce-time", "ce-dataschema" and "ce-datacontenttype". `to_cloudevent` takes them
        from there, so that an event leaves as it came. "expirytime" is such a header
        too: nothing perishes by it here, unless `ttl` is set to the time that is left.

        Args:
            event: As `json.loads` gives it.

        Raises:
            InvalidArgument: It is not a valid event.
        """
        from embq import _cloudevents  # noqa: PLC0415 - `import embq` is not to pay

        return cls(**_cloudevents.to_fields(event))
