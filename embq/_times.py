"""Durations, points of time and priorities, as C takes them: milliseconds and numbers.

Here, and only here, seconds become milliseconds. And points of time become text.
"""

from datetime import UTC, datetime, timedelta

from embq.errors import InvalidArgument

_CENTURY = 36_525 * 86_400.0  # seconds; a longer time is a mistake, as is infinity
_NUMBER = (int, float)  # a union would be made anew by each call
_INT_MAX = 2**31 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_UNSAID = -1  # the queue decides
#: The end of the year 9999, the last time that a datetime can say.
TIME_MAX_MS = 253_402_300_799_999

#: Names for priorities; 9 is handed out first.
PRIORITIES = {"low": 2, "normal": 4, "high": 7}
#: The one of a message that says none.
DEFAULT_PRIORITY = PRIORITIES["normal"]
MOST_PRIORITY = 9


def milliseconds(value: float | timedelta, what: str) -> int:
    """Turn a duration into milliseconds.

    Args:
        value: Seconds, or a `timedelta`. More than nothing is at least a millisecond.
        what: The argument's name, for the error.

    Returns:
        Whole milliseconds.

    Raises:
        InvalidArgument: Not a number, NaN, negative, or above 100 years.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, _NUMBER):
        msg = f"{what}: {type(value).__name__} is not a number of seconds"
        raise InvalidArgument(msg)
    if not 0 <= value <= _CENTURY:
        msg = f"{what}: {value!r} seconds is not between 0 and 100 years"
        raise InvalidArgument(msg)
    return (round(value * 1000) or 1) if value else 0


def limit_ms(value: float | timedelta, what: str = "timeout") -> int:
    """Turn a time limit into milliseconds, at most what an int holds (24 days)."""
    return min(milliseconds(value, what), _INT_MAX)


def wait_ms(value: float | timedelta | None, what: str = "wait") -> int:
    """Turn a wait into milliseconds; None, or more than 24 days, is for ever: -1."""
    if value is None:
        return -1
    result = milliseconds(value, what)
    return result if result <= _INT_MAX else -1


def positive_ms(value: float | timedelta, what: str) -> int:
    """Turn a duration that cannot be nothing into milliseconds."""
    result = milliseconds(value, what)
    if not result:
        msg = f"{what}: must be more than 0"
        raise InvalidArgument(msg)
    return result


def priority_number(value: int | str) -> int:
    """Turn a priority, 0 to 9 or a name, into its number.

    Raises:
        InvalidArgument: It is neither.
    """
    if isinstance(value, str) and value in PRIORITIES:
        return PRIORITIES[value]
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not 0 <= int(value) <= MOST_PRIORITY:
        msg = f"priority: {value!r} is neither 0 to {MOST_PRIORITY} nor one of "
        msg += ", ".join(PRIORITIES)
        raise InvalidArgument(msg)
    return int(value)


def epoch_ms(value: datetime, what: str) -> int:
    """Turn an aware datetime into ms since 1970; what is before that is 0.

    Raises:
        InvalidArgument: No datetime, or a naive one, which says no point of time.
    """
    if not isinstance(value, datetime):
        msg = f"{what}: {type(value).__name__} is not a datetime"
        raise InvalidArgument(msg)
    if value.utcoffset() is None:
        msg = f"{what}: a naive datetime says no point of time"
        raise InvalidArgument(msg, "give it a time zone, e.g. datetime.now(UTC)")
    return max(0, -((_EPOCH - value) // _MILLISECOND))


def datetime_of(at_ms: int) -> datetime | None:
    """Turn ms since 1970 into a datetime in UTC; None: no calendar has that time."""
    try:
        return _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        return None


def rfc_3339(moment: datetime) -> str:
    """Write a point of time in UTC as text, to the millisecond (RFC 3339)."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode_times(
    priority: int | str | None,
    delay: float | timedelta | None,
    at: datetime | None,
    ttl: float | timedelta | None,
) -> tuple[int, int, int, int]:
    """Check the numbers of a send and return them as C takes them; -1: not given.

    Raises:
        InvalidArgument: One is out of range, or `delay` and `at` are both given.
    """
    if delay is not None and at is not None:
        msg = "delay and at are both given"
        raise InvalidArgument(msg, "one of them says when the message is due")
    return (
        _UNSAID if priority is None else priority_number(priority),
        _UNSAID if delay is None else milliseconds(delay, "delay"),
        _UNSAID if at is None else epoch_ms(at, "at"),
        _UNSAID if ttl is None else positive_ms(ttl, "ttl"),
    )
