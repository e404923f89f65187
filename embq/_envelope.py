"""`Envelope`: what a queue puts around data before it is stored."""

from collections.abc import Callable
from typing import Any

from embq._codec import encode_fields
from embq._outgoing import Outgoing
from embq._view import Form

_NO_FIELDS = (None,) * 12


class Envelope:
    """Pack data and fields as C takes them.

    Args:
        encode: Turns data into a body.
        source: The source of messages that say none.
        form: The queue's, when it has a view: it knows the version.

    Attributes:
        bare: What a message without fields carries: the source, packed once.
    """

    def __init__(
        self, encode: Callable[[Any], bytes], source: str | None, form: Form | None
    ) -> None:
        self._encode = encode
        self._source = source
        self._form = form
        self.bare = self._pack(*_NO_FIELDS)

    def fields(self, *fields: Any) -> bytes:
        """Pack the fields of a send, in the order of `encode_fields`."""
        if fields == _NO_FIELDS:
            return self.bare
        return self._pack(*fields)

    def _pack(
        self, type_: Any, source: Any, key: Any, headers: Any, version: Any, *rest: Any
    ) -> bytes:
        """Pack them with what the queue adds: the broker's source, and its version."""
        if source is None:
            source = self._source
        if self._form is not None:
            version = self._form.check_version(version)
        return encode_fields(type_, source, key, headers, version, *rest)

    def item(self, item: Outgoing[Any]) -> Any:
        """Pack one of many: its body, or body and fields."""
        fields = self.fields(
            item.type,
            item.source,
            item.key,
            item.headers,
            item.version,
            item.correlation_id,
            item.reply_to,
            item.priority,
            item.delay,
            item.at,
            item.ttl,
            item.dedup_id,
        )
        body = self._encode(item.data)
        return [body, fields] if fields else body
