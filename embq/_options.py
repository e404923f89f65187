"""The options of a queue: given, checked, compared with what the file holds.

They live in the file, so that every process, and a bare `nack()`, obeys the same rules.
"""

from datetime import timedelta
from typing import Any, Literal, Self

import msgspec

from embq._codec import CODECS, encode_text, pack
from embq._times import milliseconds, positive_ms
from embq.errors import ConfigMismatch, Corrupt, InvalidArgument

MAX_NAME = 255  # bytes of UTF-8
_MAX_INT = 2**31 - 1
_MAX_BOUND = 2**61  # of a counter in the file
_DEAD = ".dead"
#: What becomes of a message whose `ttl` is over.
EXPIRIES = ("dead_letter", "drop")
#: How strictly messages are handed out in the order of sending.
ORDERS = (False, "key", "queue")
#: What a send does that finds no room.
OVERFLOWS = ("block", "reject", "drop_oldest", "dead_letter")
_CHANGEABLE = {
    "visibility_timeout",
    "max_receives",
    "dead_letter",
    "retry",
    "max_body",
    "delay",
    "ttl",
    "expiry",
    "dedup_window",
    "max_messages",
    "max_bytes",
    "overflow",
}


class Backoff(msgspec.Struct, frozen=True):
    """How long a failed message waits before it is ready again.

    The n-th failure waits `min(cap, first * factor ** (n - 1))` seconds.

    Args:
        first: Seconds after the first failure.
        factor: How much longer each further wait is; at least 1.
        cap: The longest wait, in seconds.
        jitter: Multiply by a random number in [0.5, 1], so that what failed together
            does not come back together.
    """

    first: float = 1.0
    factor: float = 2.0
    cap: float = 300.0
    jitter: bool = True


class Options(msgspec.Struct, array_like=True, frozen=True):
    """A queue's options as C stores them, in the order of `csrc/channel.c`."""

    codec: str
    visibility_timeout_ms: int
    max_receives: int
    dead_letter: str | None
    retry_first_ms: int
    retry_factor: float
    retry_cap_ms: int
    retry_jitter: bool
    max_body: int
    delay_ms: int
    ttl_ms: int
    expiry_drops: bool
    ordered: int
    dedup_window_ms: int
    max_messages_or_0: int
    max_bytes_or_0: int
    overflow_index: int

    @classmethod
    def build(cls, name: str, given: dict[str, Any]) -> Self:
        """Check what was given and fill in the defaults.

        Raises:
            InvalidArgument: An option could never work.
        """
        # A dead-letter queue has none of its own by default: failures end somewhere.
        dead_letter = None if name.endswith(_DEAD) else name + _DEAD
        dead_letter = given.get("dead_letter", dead_letter)
        if dead_letter is not None:
            encode_name(dead_letter, "dead_letter")
            if dead_letter == name:
                msg = f"queue {name!r}: it cannot be its own dead-letter queue"
                raise InvalidArgument(msg)
        ttl = given.get("ttl")
        first, factor, cap, jitter = _backoff(given.get("retry", Backoff()))
        return cls(
            codec=_codec(given.get("codec", "json")),
            visibility_timeout_ms=positive_ms(
                given.get("visibility_timeout", 30.0), "visibility_timeout"
            ),
            max_receives=count(given.get("max_receives", 5), "max_receives"),
            dead_letter=dead_letter,
            retry_first_ms=first,
            retry_factor=factor,
            retry_cap_ms=cap,
            retry_jitter=jitter,
            max_body=count(given.get("max_body", 1 << 20), "max_body"),
            delay_ms=milliseconds(given.get("delay", 0.0), "delay"),
            ttl_ms=0 if ttl is None else positive_ms(ttl, "ttl"),
            expiry_drops=_drops(given.get("expiry", "dead_letter")),
            ordered=_order(given.get("ordered", False), given.get("delay", 0.0)),
            dedup_window_ms=milliseconds(
                given.get("dedup_window", 300.0), "dedup_window"
            ),
            max_messages_or_0=_bound(given, "max_messages"),
            max_bytes_or_0=_bound(given, "max_bytes"),
            overflow_index=_overflow(given, dead_letter),
        )

    def changed(self, name: str, given: dict[str, Any]) -> Self:
        """Return these options with some others.

        Raises:
            InvalidArgument: An option could never work, or is none that can change.
        """
        unknown = sorted(set(given) - _CHANGEABLE)
        if unknown:
            msg = f"configure: {', '.join(unknown)}: no option, or one that stays"
            raise InvalidArgument(msg, f"known are {', '.join(sorted(_CHANGEABLE))}")
        kept = {option: self.show(option) for option in _CHANGEABLE}
        stays = {"codec": self.codec, "ordered": self.show("ordered")}
        return type(self).build(name, {**kept, **stays, **given})

    @classmethod
    def decode(cls, packed: bytes) -> Self:
        """Read the options that C found in the file.

        Raises:
            Corrupt: They are none of ours.
        """
        try:
            options = msgspec.msgpack.decode(packed, type=cls)
        except ValueError:
            msg = "the options of a queue are not text"
            raise Corrupt(msg) from None
        if options.codec not in CODECS:
            msg = f"a queue has the codec {options.codec!r}, which there is not"
            raise Corrupt(msg)
        return options

    def encode(self) -> bytes:
        """Write the options for C."""
        return pack(self)

    def show(self, option: str) -> Any:
        """Return one option as a caller would give it."""
        if option in ("visibility_timeout", "delay", "dedup_window"):
            return getattr(self, f"{option}_ms") / 1000
        if option == "ttl":
            return self.ttl_ms / 1000 if self.ttl_ms else None
        if option in ("max_messages", "max_bytes"):
            return getattr(self, f"{option}_or_0") or None
        chosen = {
            "overflow": OVERFLOWS[self.overflow_index],
            "expiry": EXPIRIES[self.expiry_drops],
            "ordered": ORDERS[self.ordered],
        }
        if option in chosen:
            return chosen[option]
        if option == "retry":
            first, cap = self.retry_first_ms / 1000, self.retry_cap_ms / 1000
            return Backoff(first, self.retry_factor, cap, self.retry_jitter)
        return getattr(self, option)

    def compare(self, name: str, wanted: Self, given: dict[str, Any]) -> None:
        """Refuse options that were given and differ from these, the stored ones.

        Raises:
            ConfigMismatch: Naming each such option with both values.
        """
        differing = []
        for option in given:
            here, there = self.show(option), wanted.show(option)
            if here != there:
                differing.append(f"{option} is stored as {here!r}, given as {there!r}")
        if differing:
            msg = f"queue {name!r}: {', '.join(differing)}"
            raise ConfigMismatch(msg)


def encode_name(name: str, what: str = "name") -> bytes:
    """Check a queue's name and return its bytes.

    Raises:
        InvalidArgument: Not a str of 1 to 255 bytes of UTF-8 without NUL.
    """
    encoded = encode_text(name, what)
    if not 1 <= len(encoded) <= MAX_NAME or b"\0" in encoded:
        msg = f"{what}: {name[:40]!r} has {len(encoded)} bytes"
        hint = f"a name has 1 to {MAX_NAME} bytes of UTF-8, and no NUL"
        raise InvalidArgument(msg, hint)
    return encoded


def count(value: int, what: str, least: int = 1, most: int = _MAX_INT) -> int:
    """Check a whole number; as a rule from 1 to what fits an int of C."""
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"{what}: {type(value).__name__} is not an int"
        raise InvalidArgument(msg)
    if not least <= value <= most:
        msg = f"{what}: {value} is not between {least} and {most}"
        raise InvalidArgument(msg)
    return value


def _codec(name: str) -> str:
    if not isinstance(name, str) or name not in CODECS:
        msg = f"codec: {name!r} is not one of {', '.join(CODECS)}"
        raise InvalidArgument(msg)
    return name


def _drops(expiry: str) -> bool:
    if expiry not in EXPIRIES:
        msg = f"expiry: {expiry!r} is not one of {', '.join(EXPIRIES)}"
        raise InvalidArgument(msg)
    return expiry == EXPIRIES[True]


def _bound(given: dict[str, Any], option: str) -> int:
    bound = given.get(option)
    return 0 if bound is None else count(bound, option, most=_MAX_BOUND)


def _overflow(given: dict[str, Any], dead_letter: str | None) -> int:
    overflow = given.get("overflow", "block")
    if overflow not in OVERFLOWS:
        msg = f"overflow: {overflow!r} is not one of {', '.join(OVERFLOWS)}"
        raise InvalidArgument(msg)
    bounds = (given.get("max_messages"), given.get("max_bytes"))
    if bounds != (None, None) and overflow == "dead_letter" and dead_letter is None:
        msg = "overflow: 'dead_letter', and the queue has no dead-letter queue"
        raise InvalidArgument(msg, "give dead_letter, or another overflow")
    return OVERFLOWS.index(overflow)


def _order(ordered: Literal[False, "key", "queue"], delay: float | timedelta) -> int:
    found = [type(order) is type(ordered) and order == ordered for order in ORDERS]
    if True not in found:
        msg = f"ordered: {ordered!r} is not False, 'key' or 'queue'"
        raise InvalidArgument(msg)
    if ordered and delay:
        msg = "ordered: a delay would follow the wall clock, which can be set back"
        raise InvalidArgument(msg, "leave out delay, or ordered")
    return found.index(True)


def _backoff(retry: Backoff) -> tuple[int, float, int, bool]:
    """Check a retry policy and return it in the order of `Options`."""
    if not isinstance(retry, Backoff):
        msg = f"retry: {type(retry).__name__} is not an embq.Backoff"
        raise InvalidArgument(msg)
    factor = retry.factor
    number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not number or not 1 <= factor <= _MAX_INT:
        msg = f"retry: factor {factor!r} is not a number of at least 1"
        raise InvalidArgument(msg)
    first = milliseconds(retry.first, "retry: first")
    cap = milliseconds(retry.cap, "retry: cap")
    return first, float(factor), cap, bool(retry.jitter)
