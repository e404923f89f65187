"""`backup`: a copy of a file in use, whole under its name or not there at all.

By SQLite's online backup, page by page: it keeps what `vacuum into` does not, the row
ids of an application's tables, and needs none of the functions and collations that they
use. It stops where Python wants it to.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from embq import _sqlite
from embq._reading import Reading
from embq.errors import (
    DatabaseReplaced,
    Error,
    InvalidArgument,
    LimitReached,
    NotFound,
    StorageFull,
    StorageIOError,
    StorageReadOnly,
)

_MOST_OF_NAME = 200  # bytes of the target's name in the temporary one
_BESIDE = (b"", b"-journal", b"-wal", b"-shm")  # what SQLite makes of a name

# What opens the copy sees another boot and inode, so leases are void and sequences
# jump. Without this a copy could by chance get the inode of its lost original.
_FORGET_OPENING = "update embq_meta set boot_id = '', device = 0, inode = 0"

_ERRORS: dict[int | None, type[Error]] = {
    errno.EEXIST: InvalidArgument,
    errno.ENAMETOOLONG: InvalidArgument,
    errno.ELOOP: InvalidArgument,
    errno.ENOENT: NotFound,
    errno.ENOTDIR: NotFound,
    errno.EACCES: StorageReadOnly,
    errno.EPERM: StorageReadOnly,
    errno.EROFS: StorageReadOnly,
    errno.ENOSPC: StorageFull,
    errno.EDQUOT: StorageFull,
    errno.EMFILE: LimitReached,
    errno.ENFILE: LimitReached,
}


def backup(path: bytes, target: bytes, timeout: float, file_id: int) -> None:
    """Copy a file in use; see `Broker.backup`.

    Args:
        path: The file.
        target: The name of the copy, absolute.
        timeout: How many seconds to wait for a lock of SQLite's.
        file_id: What the file's meta row says, so that another one is not copied.
    """
    folder, name = os.path.split(target)
    part = f".{secrets.token_hex(8)}.part".encode()
    part = os.path.join(folder, b"." + name[:_MOST_OF_NAME] + part)  # noqa: PTH118
    with _typed(target):
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        _copy(path, part, target, timeout, file_id)
        with _typed(target):
            _sync(part, os.O_RDWR)
            os.link(part, target)  # unlike a rename it replaces nothing
    finally:
        for suffix in _BESIDE:
            with _typed(target), suppress(FileNotFoundError):
                os.unlink(part + suffix)  # noqa: PTH108
    with _typed(target):
        _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _copy(
    path: bytes, part: bytes, target: bytes, timeout: float, file_id: int
) -> None:
    """Make the copy under its temporary name."""
    doing = f"backup to {os.fsdecode(target)!r}"
    with (
        Reading(path, timeout, doing) as reading,
        closing(_sqlite.connect(part, timeout, create=False)) as copy,
    ):
        ((found,),) = reading.execute("select file_id from embq_meta")
        if found % (1 << 64) != file_id:
            raise DatabaseReplaced(os.fsdecode(path))
        # Until it has its name nothing of it is worth a journal or a sync.
        for setting in ("journal_mode = off", "synchronous = off"):
            copy.execute(f"pragma {setting}").fetchall()
        _sqlite.copy_pages(reading.connection, copy, reading.go_on)
        # One file, that can be read from anywhere: without a -wal beside it.
        ((mode,),) = copy.execute("pragma journal_mode = delete").fetchall()
        if mode != "delete":
            msg = f"{doing}: its journal mode stays {mode}"
            raise StorageIOError(msg)
        copy.execute(_FORGET_OPENING).fetchall()


def _sync(path: bytes, flags: int) -> None:
    """Bring a file or folder to the disk."""
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _typed(target: bytes) -> Iterator[None]:
    """Turn what the system says of the target into ours."""
    try:
        yield
    except OSError as error:
        cls = _ERRORS.get(error.errno, StorageIOError)
        msg = f"backup to {os.fsdecode(target)!r}: {error.strerror}"
        hint = "a backup replaces no file" if error.errno == errno.EEXIST else None
        raise cls(msg, hint) from error
