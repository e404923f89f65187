"""`Looking`: seeing messages without receiving them; part of `Queue`."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Generic, NoReturn

import msgspec

from embq import _native
from embq._codec import CODECS, encode_text
from embq._options import Options, count
from embq._times import datetime_of
from embq._view import Form, Misfit
from embq.errors import BodyError, Corrupt, InvalidArgument, InvalidReceipt, NotFound
from embq.messages import Message, T

STATES = ("ready", "delayed", "blocked", "in_flight")
_PAGE = 256
_PEEK_MOST = 1024
_SUSPECT = 1
_SALVAGE = "message.body has the bytes as they are"


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message is, and why it is not handed out; `str` gives a sentence.

    Attributes:
        id: Of the message.
        queue: Where it is.
        state: "ready", "delayed", "blocked" or "in_flight".
        receive_count: How often it was handed out.
        suspect: Its last lease ended by death or time; it is handed out alone.
        due_at: When it is ready; None: it does not wait for a time.
        owner: The process that holds it; None: nobody, or one that is gone.
        held_for: For how many seconds it is held, where that is known.
        lease_left: Seconds until the lease ends. Below 0: it ended, and the next claim
            returns it.
        behind: In a queue that is ordered, the id of the message that goes first: of
            the same key, or of all. None: it is itself the first, or it has no key.
        ahead: Of one that is ready, and behind no other of its key: how many go before
            it, as things are now. Retries go before what is new, though one hand-out in
            eight is new all the same. Counted to 1,000.
        more_ahead: There are, or may be, more than `ahead`.
        error: Of the last `nack`.
        history: Why it is a dead letter; see `Message.history`.
        expires_at: When its `ttl` is over.
        paused_until: Until when its queue is paused.
    """

    id: str
    queue: str
    state: str
    receive_count: int
    suspect: bool
    due_at: datetime | None
    owner: int | None
    held_for: float | None
    lease_left: float | None
    behind: str | None
    ahead: int | None
    more_ahead: bool
    error: str | None
    history: list[dict[str, Any]]
    expires_at: datetime | None
    paused_until: datetime | None

    def __str__(self) -> str:
        parts = [f"in {self.queue}: {self._where()}"]
        if self.receive_count:
            parts.append(f"received {_times(self.receive_count)}")
        if self.error:
            parts.append(f"its last error: {self.error}")
        if self.history:
            last = self.history[-1]
            why = f"dead in {last['queue']}: {last['reason']}"
            why += f" ({last['error']})" if last.get("error") else ""
            parts.append(f"{why}, received {_times(last['receive_count'])}")
        if self.expires_at:
            parts.append(f"it perishes at {_time(self.expires_at)}")
        if self.paused_until:
            parts.append(f"the queue is paused until {_time(self.paused_until)}")
        return "; ".join(parts)

    def _where(self) -> str:
        if self.state == "delayed" and self.due_at:
            return f"delayed until {_time(self.due_at)}"
        if self.state == "blocked":
            first = f": {self.behind} goes first" if self.behind else ""
            return f"blocked behind another of its key{first}"
        if self.state == "in_flight":
            return self._lease()
        alone = ", to be handed out alone" if self.suspect else ""
        return f"ready{alone}, {self._turn()}"

    def _turn(self) -> str:
        if self.ahead is None:
            return f"after {self.behind} of its key, which goes first"
        if not self.ahead and not self.more_ahead:
            return "and next"
        least = "at least " if self.more_ahead else ""
        others = "1 other" if self.ahead == 1 else f"{self.ahead:,} others"
        first = f": {self.behind} goes first" if self.behind else ""
        return f"after {least}{others}{first}"

    def _lease(self) -> str:
        text = f"leased by process {self.owner}" if self.owner else "leased"
        if self.held_for is not None:
            text += f" for {self.held_for:.1f} s"
        if self.lease_left is None:
            return text
        if self.lease_left < 0:
            return f"{text}; that ended, and the next claim returns it"
        return f"{text}, for {self.lease_left:.1f} s more"


class Onlooker:
    """What a message that was only looked at has instead of a settler.

    Attributes:
        name: The queue's name.
        codec: The name of its codec.
        damaged: The message's body is not what was sent.
    """

    __slots__ = ("_form", "_version", "codec", "damaged", "name")

    def __init__(
        self, name: str, codec: str, form: Form | None, version: Any, *, damaged: bool
    ) -> None:
        self.name = name
        self.damaged = damaged
        self.codec = codec
        self._form = form
        self._version = version

    def decode(self, body: bytes) -> Any:
        """Turn a body into data, as a receive would."""
        self.vouch()
        if self._form is None:
            return CODECS[self.codec].decode(body)
        try:
            return self._form.read(body, self._version)
        except Misfit as error:
            msg = f"queue {self.name!r}: {error}"
            raise BodyError(msg) from None

    def vouch(self) -> None:
        """Raise `Corrupt` when the body is not what was sent."""
        if self.damaged:
            msg = f"queue {self.name!r}: a damaged body: it is not what was sent"
            raise Corrupt(msg, _SALVAGE)

    def refuse(self, *_: Any) -> NoReturn:
        """Refuse a verb: nobody holds the message."""
        msg = f"queue {self.name!r}: the message was looked at, not received"
        raise InvalidReceipt(msg)

    ack = ack_nowait = nack = reject = extend = refuse


class Looking(Generic[T]):
    """The verbs of `Queue` that look, and change nothing.

    They tell what the last commit left, without waiting for anybody. The messages have
    no lease: their verbs raise `InvalidReceipt`. The `data` of one that is damaged
    raises `Corrupt`.
    """

    name: str
    options: Options
    _handle: int
    _channel: int
    _form: Form | None

    def depth(self) -> int:
        """Count the messages that are not settled: ready, delayed and in flight."""
        return _native.depth(self._handle, self._channel)

    def stats(self) -> dict[str, Any]:
        """Return the queue's counters. O(1), whatever the queue holds.

        Returns:
            "messages" and its parts "ready", "delayed", "blocked", "in_flight";
            "bytes"; "oldest" (the age in seconds of the oldest unsettled message, or
            None); and totals by outcome: "sent", "sent_bytes", "delivered",
            "redelivered", "acked", "nacked", "rejected", "expired", "dead", "dropped",
            "duplicates", "redriven".
        """
        stats = _native.stats(self._handle, self._channel)
        oldest_ms = stats.pop("oldest_ms", None)
        stats["oldest"] = None if oldest_ms is None else oldest_ms / 1000
        return stats

    def peek(self, n: int = 1) -> list[Message[T]]:
        """Return the messages that would be handed out next, in that order.

        It is the order of a single consumer that acks each at once: higher priorities
        first, and in each what waited before what is new. Of eight hand-outs in a row
        one is new all the same, which is not seen here; and a consumer that takes many
        at once gets suspects apart. What a claim would first take back from a lease
        that ended is not among them; nor is, in an ordered queue, what stands behind
        one whose `ttl` is over. In a queue that is ordered by key, those that are not
        among the next 16,384 are not found.

        Args:
            n: How many at most, 1,024 in one call.
        """
        limit = min(count(n, "n"), _PEEK_MOST)
        found = _native.peek(self._handle, self._channel, limit)
        return [self._shown(looked) for looked in found]

    def browse(
        self,
        *,
        state: str | None = None,
        type: str | None = None,  # noqa: A002
        source: str | None = None,
        key: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Message[T]]:
        """Iterate over the messages of the queue, in the order of their rows.

        That is the order of sending within a priority. It reads page by page, so it
        sees what comes or goes meanwhile, or not.

        Args:
            state: Only those that are "ready", "delayed", "blocked" (behind another of
                their key) or "in_flight".
            type: Only those of this type.
            source: Only those of this source.
            key: Only those of this key.
            limit: How many at most. Default: all.

        Raises:
            InvalidArgument: There is no such state.
        """
        if state is not None and state not in STATES:
            msg = f"state: {state!r} is none of {', '.join(STATES)}"
            raise InvalidArgument(msg)
        left = -1 if limit is None else count(limit, "limit")
        wanted = {"type": type, "source": source, "key": key}
        fields = {name: value for name, value in wanted.items() if value is not None}
        return self._pages(state, fields, left)

    def _pages(
        self, state: str | None, fields: dict[str, str], left: int
    ) -> Iterator[Message[T]]:
        after = 0
        while page := _native.browse(self._handle, self._channel, after, _PAGE):
            after = page[-1].row
            for looked in page:
                if state is not None and STATES[looked.state] != state:
                    continue
                if any(getattr(looked.message, f) != v for f, v in fields.items()):
                    continue
                yield self._shown(looked)
                left -= 1
                if left == 0:
                    return

    def get(self, id: str) -> Message[T] | None:  # noqa: A002
        """Return a message by its id; None when the queue has none of it.

        One that moved here is found by going through the queue.

        Args:
            id: As `send` returned it.
        """
        found = _native.get(self._handle, self._channel, encode_text(id, "id"))
        return self._shown(found[0]) if found else None

    def explain(self, id: str) -> Explanation:  # noqa: A002
        """Tell where a message is, and why it is not handed out.

        Args:
            id: As `send` returned it.

        Returns:
            What is known; `str()` of it is a sentence.

        Raises:
            NotFound: It is not in this queue: settled, moved, or never sent to it.
        """
        found = _native.explain(self._handle, self._channel, encode_text(id, "id"))
        if not found:
            msg = f"queue {self.name!r}: there is no such message, or no more"
            raise NotFound(msg)
        looked, facts = found
        message = self._shown(looked)
        state = STATES[looked.state]
        waits = state in ("ready", "delayed") and looked.due_at_ms > _SMALL_MS
        held = state == "in_flight"
        since = facts.claimed_at_ms
        paused = facts.paused_until_ms > facts.wall_ms
        return Explanation(
            id=message.id,
            queue=self.name,
            state=state,
            receive_count=message.receive_count,
            suspect=looked.kind == _SUSPECT and not held,
            due_at=datetime_of(looked.due_at_ms) if waits else None,
            owner=facts.owner or None if held else None,
            held_for=(facts.wall_ms - since) / 1000 if held and since else None,
            lease_left=(facts.deadline_ms - facts.boot_ms) / 1000 if held else None,
            behind=facts.behind,
            ahead=facts.ahead,
            more_ahead=bool(facts.more_ahead),
            error=looked.error,
            history=message.history,
            expires_at=message.expires_at,
            paused_until=datetime_of(facts.paused_until_ms) if paused else None,
        )

    def _shown(self, looked: _native.Looked) -> Message[T]:
        message: Message[T] = looked.message
        version = message.version if self._form and self._form.version else None
        codec = self.options.codec
        message._home = Onlooker(  # noqa: SLF001
            self.name, codec, self._form, version, damaged=bool(looked.damaged)
        )
        message._settled = True  # noqa: SLF001 - nothing is to be settled
        return message


#: Times below are an order among what is due at once; see csrc/delivery.c.
_SMALL_MS = 1 << 31


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _time(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="seconds")
