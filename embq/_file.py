"""The file behind a broker: what a path means, and how it is opened."""

import os

from embq import _handles
from embq.errors import InvalidArgument

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def _absolute(path: Path) -> bytes:
    """Make a path absolute without touching what it says: `..` may cross a symlink."""
    try:
        encoded = os.fsencode(path)
    except (TypeError, UnicodeEncodeError) as error:
        msg = f"path: {error}"
        raise InvalidArgument(msg) from error
    if encoded == b":memory:":
        msg = "path: a queue in memory is none"
        hint = "for tests there is embq.testing.temporary(), a file that goes away"
        raise InvalidArgument(msg, hint)
    if not encoded or b"\0" in encoded:
        msg = f"path: {os.fsdecode(encoded)!r} is empty or has a NUL"
        raise InvalidArgument(msg)
    return os.path.join(os.getcwdb(), encoded)  # noqa: PTH109, PTH118


def _open_handle(
    path: bytes, flags: int, busy_timeout_ms: int, disk_reserve: int
) -> _handles.Handle:
    # Here, so that `import embq` pays for neither sqlite3 nor sqlite-utils.
    from embq import _sqlite  # noqa: PLC0415

    def migrate(path: bytes, busy_timeout_ms: int) -> None:
        from embq import _schema  # noqa: PLC0415

        _schema.migrate(path, busy_timeout_ms)

    _sqlite.bind()
    return _handles.open_broker(path, flags, busy_timeout_ms, disk_reserve, migrate)
