"""The C core, typed: the only module that imports the extension.

Here, and only here, codes become exceptions.

**Signals.** A signal makes a waiting C call return `EMBQ_INTERRUPTED`. Python then runs
its handlers, right after the call and inside our `try`, and one that raises leaves
through `except BaseException`: `embq_abandon()` takes back what was not begun. When
nothing is pending it does nothing, so it may always be called. That is why each call
stands in a `try` of its own, and why nothing is to be done between a call and its end.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import find_spec, module_from_spec
from typing import Any

import msgspec

from embq import errors
from embq.messages import Message


def _load(name: str) -> Any:
    """Load one of the two units: both live in one library, and so share its state."""
    core = find_spec("embq._core")
    if core is None or core.origin is None:
        msg = "embq._core is not built: run `pip install .` (needs a C compiler)"
        raise ImportError(msg)
    fullname = f"embq.{name}"
    loader = ExtensionFileLoader(fullname, core.origin)
    module = module_from_spec(ModuleSpec(fullname, loader, origin=core.origin))
    loader.exec_module(module)
    sys.modules[fullname] = module  # _instant finds the types of _blocking by this name
    return module


_blocking = _load("_blocking")
_instant = _load("_instant")
#: Where the core is: SQLite can load the same file as a run-time extension.
LIBRARY = str(_blocking.__file__)

_ffi = _blocking.ffi
_lib = _blocking.lib
_now = _instant.lib

INTERRUPTED: int = _lib.EMBQ_INTERRUPTED
NOT_YET: int = _lib.EMBQ_NOT_YET
NO_SCHEMA: int = _lib.EMBQ_NO_SCHEMA
DETACHED: int = _lib.EMBQ_DETACHED
PARENTS: int = _lib.EMBQ_PARENTS
SCHEMA_VERSION: int = _lib.EMBQ_SCHEMA_VERSION
OPEN_CREATE: int = _lib.EMBQ_OPEN_CREATE
OPEN_FULL: int = _lib.EMBQ_OPEN_FULL
OPEN_ANYWHERE: int = _lib.EMBQ_OPEN_ANYWHERE
OPEN_SECURE: int = _lib.EMBQ_OPEN_SECURE
AUTO_ACK: int = _lib.EMBQ_CLAIM_AUTO_ACK
ACK: int = _lib.EMBQ_ACK
NACK: int = _lib.EMBQ_NACK
REJECT: int = _lib.EMBQ_REJECT
EXTEND: int = _lib.EMBQ_EXTEND
GIVE_BACK: int = _lib.EMBQ_GIVE_BACK
REFUSE: int = _lib.EMBQ_REFUSE
DUPLICATE: int = _lib.EMBQ_DUPLICATE  # in the row of a send
RESULT_BEGUN: int = _lib.EMBQ_RESULT_BEGUN
DAMAGED: int = _lib.EMBQ_DAMAGED  # in the number of a claim
RECEIPT_SIZE: int = _lib.EMBQ_RECEIPT_SIZE

# Looked up once: a claim or a send of a microsecond notices an attribute.
_send = _lib.embq_send
_claim = _lib.embq_claim
_resume = _lib.embq_resume
_abandon = _lib.embq_abandon
_free = _now.embq_bytes_free
_ack_nowait = _now.embq_ack_nowait
_new = _ffi.new
_buffer = _ffi.buffer
_BYTES = _ffi.typeof("embq_bytes *")
_decode_messages: Callable[[Any], list[Message[Any]]]
_decode_messages = msgspec.msgpack.Decoder(list[Message[Any]]).decode
# What decoding raises for what embq did not write.
_NO_TEXT = (msgspec.DecodeError, UnicodeDecodeError)
_BAD_MESSAGE = "a field of a message in the file is no text"


# ---- failures ----


def error_text() -> str:
    """Return the text of this thread's last failure in C."""
    text = _now.embq_errmsg()
    return bytes(_ffi.string(text)).decode(errors="replace") if text else ""


# Looked at before each call that may wait, so it must cost next to nothing.
_notices = memoryview(_ffi.buffer(_now.embq_notice_waits(), 1)).cast("B")


def _tell() -> None:
    """Log what the core has found by itself, in no call of anybody's."""
    import logging  # noqa: PLC0415 - it is the largest part of `import embq`

    if text := _now.embq_notice():
        said = bytes(_ffi.string(text)).decode(errors="replace")
        logging.getLogger("embq").warning("%s", said)


def failure(code: int) -> errors.Error:
    """Build the exception for a code, with the text that C left for it."""
    if code == PARENTS:
        hint = "ask for it in the parent; what this process sends has its own outcome"
        return errors.Closed(error_text(), hint)
    cls = errors.BY_NUMBER.get(code)
    if cls is None:
        return errors.Error(f"unexpected code {code} from the core: {error_text()}")
    return cls(error_text())


def _call(call: Callable[..., int], *args: Any) -> int:
    """Make one call that may wait, run signal handlers, and return its code."""
    if _notices[0]:
        _tell()
    try:
        code = call(*args)
        while code == INTERRUPTED:
            code = _resume()
    except BaseException:
        _abandon()
        raise
    return code


def _run(call: Callable[..., int], *args: Any) -> int:
    """Make one call that may wait, and raise what it reports."""
    code = _call(call, *args)
    if code < 0:
        raise failure(code)
    return code


def _fetch(call: Callable[..., int], *args: Any) -> tuple[int, bytes]:
    """Make a call whose last argument is a buffer; return its result and the bytes."""
    out = _new(_BYTES)
    try:
        code = _run(call, *args, out)
        return code, bytes(_buffer(out.data, out.size)) if out.size else b""
    finally:
        _free(out)


# ---- the borrowed SQLite ----


def bind_module(path: str) -> bool:
    """Take SQLite's functions from a loaded module; False when it hides them."""
    return _run(_lib.embq_bind_module, os.fsencode(path)) == 1


def bind_extension() -> bool:
    """Tell whether SQLite has loaded the core as a run-time extension."""
    return _run(_lib.embq_bind_extension) == 1


def bind_proof(name: str) -> None:
    """Register a VFS of this name with the SQLite that is bound."""
    _run(_lib.embq_bind_proof, name.encode())


def bind_proof_end() -> None:
    """Remove that VFS."""
    _run(_lib.embq_bind_proof_end)


def bind_check() -> int:
    """Return the version number of the bound SQLite, or refuse it."""
    return _run(_lib.embq_bind_check)


# ---- files ----


file_id: Callable[[int], int] = _now.embq_file_id
unawaited_failures: Callable[[int], int] = _now.embq_unawaited_failures
#: What any send of a broker would be refused with, a code; 0: nothing.
refuses: Callable[[int], int] = _now.embq_refuses


#: The clock that leases live by, in milliseconds; see csrc/clock.c.
boot_ms: Callable[[], int] = _now.embq_boot_ms


def use_clock(path: str | os.PathLike[str] | None) -> None:
    """Read this process's clocks from a file of two little-endian int64: boot, wall ms.

    For tests. Every process of a test maps the same file; None: the machine's clocks.
    """
    _run(_lib.embq_clock_map, _ffi.NULL if path is None else os.fsencode(path))


# ---- queues ----


def declare(broker: int, name: bytes, options: bytes) -> tuple[int, bytes]:
    """Create or find a queue; return its channel and its stored options."""
    return _fetch(_lib.embq_declare, broker, name, len(name), options, len(options))


def configure(broker: int, channel: int, expected: bytes, options: bytes) -> bool:
    """Store other options, unless they are not the expected ones any more: False."""
    arguments = (expected, len(expected), options, len(options))
    return _run(_lib.embq_configure, broker, channel, *arguments) == 1


def pause(broker: int, channel: int, until_ms: int) -> None:
    """Hand nothing out until then; 0: go on."""
    _run(_lib.embq_pause, broker, channel, until_ms)


def purge(broker: int, channel: int) -> int:
    """Remove all that nobody holds; return how many."""
    return _run(_lib.embq_purge, broker, channel)


def delete(broker: int, name: bytes) -> int:
    """Remove a queue with all that it has; return how many messages there were."""
    return _run(_lib.embq_delete, broker, name, len(name))


def cancel(broker: int, channel: int, message: bytes) -> bool:
    """Remove a message by its public id; False when somebody holds it."""
    return _run(_lib.embq_cancel, broker, channel, message, len(message)) == 1


def redrive(
    broker: int, channel: int, target: bytes, conditions: bytes, rate: float
) -> int:
    """Begin to move messages back, or go on; return the token of the task."""
    texts = (target, len(target), conditions, len(conditions))
    return _run(_lib.embq_redrive, broker, channel, *texts, rate)


def redrive_cancel(broker: int, channel: int, token: int) -> bool:
    """End such a task; False when it is over."""
    return _run(_lib.embq_redrive_cancel, broker, channel, token) == 1


def redrive_look(broker: int, channel: int) -> list[int]:
    """Read the latest one: token, moved, skipped, and whether it is over."""
    _, packed = _fetch(_lib.embq_redrive_look, broker, channel)
    return msgspec.msgpack.decode(packed, type=list[int])


class Looked(msgspec.Struct, array_like=True, gc=False):
    """A message that was looked at, and where it is."""

    row: int
    message: Message[Any]
    state: int
    due_at_ms: int
    kind: int  # 1: a suspect
    error: str | None
    damaged: int  # 1: its body is not what was sent


class Facts(msgspec.Struct, array_like=True, gc=False):
    """What else is known of one; 0 for what there is not."""

    owner: int
    deadline_ms: int
    claimed_at_ms: int
    behind: str | None
    ahead: int | None
    more_ahead: int
    paused_until_ms: int
    wall_ms: int
    boot_ms: int


def browse(broker: int, channel: int, after: int, limit: int) -> list[Looked]:
    """Read messages in the order of their rows, those after one."""
    _, packed = _fetch(_lib.embq_browse, broker, channel, after, limit)
    looked: list[Looked] = _decode_looked(packed, list[Looked])
    return looked


def peek(broker: int, channel: int, limit: int) -> list[Looked]:
    """Read what a claim would hand out now."""
    _, packed = _fetch(_lib.embq_peek, broker, channel, limit)
    looked: list[Looked] = _decode_looked(packed, list[Looked])
    return looked


def get(broker: int, channel: int, message: bytes) -> list[Looked]:
    """Read one by its public id; an empty list when there is none."""
    _, packed = _fetch(_lib.embq_get, broker, channel, message, len(message))
    looked: list[Looked] = _decode_looked(packed, list[Looked])
    return looked


def explain(broker: int, channel: int, message: bytes) -> tuple[Looked, Facts] | None:
    """Read one by its public id, and what is known about its state."""
    call = _lib.embq_explain
    found, packed = _fetch(call, broker, channel, message, len(message))
    return _decode_looked(packed, tuple[Looked, Facts]) if found else None


def _decode_looked(packed: bytes, kind: Any) -> Any:
    try:
        return msgspec.msgpack.decode(packed, type=kind)
    except _NO_TEXT:
        raise errors.Corrupt(_BAD_MESSAGE) from None


def send(broker: int, channel: int, body: bytes, fields: bytes, timeout: int) -> int:
    """Store one message; return its row."""
    if _notices[0]:
        _tell()
    try:
        row: int = _send(broker, channel, body, len(body), fields, len(fields), timeout)
        while row == INTERRUPTED:
            row = _resume()
    except BaseException:
        _abandon()
        raise
    if row < 0:
        raise failure(row)
    return row


def send_many(
    broker: int, channel: int, packed: bytes, count: int, timeout: int
) -> Sequence[int]:
    """Store all of a packed array of `count` or none; return their rows."""
    call = _lib.embq_send_many
    first, rows = _fetch(call, broker, channel, packed, len(packed), timeout)
    if rows:
        found: list[int] = msgspec.msgpack.decode(rows, type=list[int])
        return found
    return range(first, first + count)


def claim(
    broker: int, channel: int, limit: int, wait: int, flags: int
) -> list[Message[Any]]:
    """Lease up to `limit` messages, waiting `wait` ms (-1: for ever) for the first.

    A signal handler that raises, even after C has returned, gives back what was
    claimed.
    """
    if _notices[0]:
        _tell()
    out = _new(_BYTES)
    messages: list[Message[Any]] = []
    try:
        code = _claim(broker, channel, limit, wait, flags, out)
        while code == INTERRUPTED:
            code = _resume()
        if code > 0 and out.size:  # DAMAGED may be all of it
            try:
                messages = _decode_messages(_buffer(out.data, out.size))
            except _NO_TEXT:
                # Its lease stays: when that ends it comes alone, and harms no others.
                raise errors.Corrupt(_BAD_MESSAGE) from None
        if code >= DAMAGED:
            _report_damage(broker)
        _free(out)
    except BaseException:
        _abandon()
        if not messages and out.size:
            with contextlib.suppress(*_NO_TEXT):
                messages = _decode_messages(_buffer(out.data, out.size))
        if messages and not flags & AUTO_ACK:
            give_back(broker, channel, messages)
        _free(out)
        raise
    if code < 0:
        raise failure(code)
    return messages


def damage(broker: int) -> tuple[int, list[tuple[str, str, int]]]:
    """Read how many damaged messages claims met since, and of most their notes.

    A note has the queue, the message's id, and whether it is a dead letter now.
    """
    _, packed = _fetch(_lib.embq_damage, broker)
    found: tuple[int, list[tuple[str, str, int]]]
    found = _decode_looked(packed, tuple[int, list[tuple[str, str, int]]])
    return found


def _report_damage(broker: int) -> None:
    from embq import _damage  # noqa: PLC0415 - `import embq` is not to pay

    _damage.report(broker)


def is_damaged(flags: int, body: bytes) -> bool:
    """Tell whether this is not the body that was stored with these flags."""
    return bool(_lib.embq_is_damaged(flags, body, len(body)))


def crc32c(data: bytes, *, plain: bool = False) -> int:
    """Compute a checksum; `plain`: without the processor's instruction for it."""
    found: int = _lib.embq_crc32c(data, len(data), plain)
    return found


def give_back(broker: int, channel: int, messages: list[Message[Any]]) -> None:
    """Return messages that nobody has seen; at worst their lease ends them."""
    receipts = b"".join([message._receipt for message in messages])  # noqa: SLF001
    with contextlib.suppress(errors.Error):
        settle(broker, channel, GIVE_BACK, receipts)


def settle(
    broker: int,
    channel: int,
    verb: int,
    receipts: bytes,
    delay_ms: int = -1,
    note: bytes = b"",
) -> int:
    """Settle messages by their receipts, one after the other; return how many were.

    REFUSE: how many of them are dead letters now.
    """
    count = len(receipts) // RECEIPT_SIZE
    arguments = (receipts, count, delay_ms, note, len(note), -1)
    return _run(_lib.embq_settle, broker, channel, verb, *arguments)


def ack_nowait(broker: int, channel: int, receipt: bytes) -> None:
    """Stage an ack; it joins the next group."""
    code = _ack_nowait(broker, channel, receipt)
    while code == DETACHED:
        ping(broker, -1)
        code = _ack_nowait(broker, channel, receipt)
    if code < 0:
        raise failure(code)


# ---- results of what is to be done once ----


def result_get(broker: int, names: bytes) -> bytes | None:
    """Read one by its scope and key, with a NUL between them."""
    found, result = _fetch(_lib.embq_result_get, broker, names, len(names))
    return result if found else None


def result_exists(broker: int, names: bytes) -> bool:
    """Tell whether there is one."""
    return _run(_lib.embq_result_get, broker, names, len(names), _ffi.NULL) == 1


def result_set(
    broker: int, names: bytes, result: bytes, ttl_ms: int, timeout: int
) -> None:
    """Store one; a ttl of 0 is for ever."""
    arguments = (names, len(names), result, len(result), ttl_ms, timeout)
    _run(_lib.embq_result_set, broker, *arguments)


def result_delete(broker: int, names: bytes) -> bool:
    """Forget one; False when there was none."""
    return _run(_lib.embq_result_delete, broker, names, len(names)) == 1


def scopes(broker: int) -> list[tuple[str, int, int]]:
    """List the scopes that have results: name, how many, how often one was found."""
    _, packed = _fetch(_lib.embq_scopes, broker)
    found: list[tuple[str, int, int]]
    found = _decode_looked(packed, list[tuple[str, int, int]])
    return found


def flush(broker: int, timeout: int) -> None:
    """Wait until all that is staged is stored."""
    _run(_lib.embq_flush, broker, timeout)


def ping(broker: int, timeout: int) -> None:
    """Go the whole way of a write, without writing."""
    _run(_lib.embq_ping, broker, timeout)


def depth(broker: int, channel: int) -> int:
    """Count the messages that are not settled."""
    return _run(_lib.embq_depth, broker, channel)


def stats(broker: int, channel: int) -> dict[str, Any]:
    """Read a channel's counters, or with channel 0 the engine's."""
    _, packed = _fetch(_lib.embq_stats, broker, channel)
    return msgspec.msgpack.decode(packed, type=dict[str, Any])


def queues(broker: int) -> list[tuple[int, str]]:
    """List all queues, as pairs of channel and name, as `declare` gives them."""
    _, packed = _fetch(_lib.embq_queues, broker)
    try:
        return msgspec.msgpack.decode(packed, type=list[tuple[int, str]])
    except _NO_TEXT:
        msg = "the name of a queue in the file is no text"
        raise errors.Corrupt(msg) from None


# The core ends its threads and connections before a fork and finds its way again on
# either side of it; the child drops what is its parent's.
os.register_at_fork(
    before=_lib.embq_before_fork,
    after_in_parent=_lib.embq_after_fork_parent,
    after_in_child=_lib.embq_after_fork_child,
)
