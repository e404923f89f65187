"""`open`: a broker whose file is open already."""

from datetime import timedelta

from embq._file import Path
from embq.broker import Broker, Durability


def open(  # noqa: A001
    path: Path,
    *,
    durability: Durability = "full",
    source: str | None = None,
    busy_timeout: float | timedelta = 10.0,
    create: bool = True,
    disk_reserve: int | None = None,
    allow_unsafe_filesystem: bool = False,
    secure_delete: bool = False,
) -> Broker:
    """Open a file of queues, and create it when it is not there.

    Args:
        path: See `Broker`, as for all that follow.
        durability: "full" or "normal".
        source: The default `source` of messages.
        busy_timeout: Seconds to wait for the write lock by default.
        create: Whether to create the file.
        disk_reserve: Bytes that sends leave free on the file system.
        allow_unsafe_filesystem: Whether to open it on a network file system or FUSE.
        secure_delete: Whether removed bodies leave no trace in the files.

    Returns:
        The open broker.

    Raises:
        NotFound: There is no file, and `create` is False.
        NotAnEmbqFile: The file is no SQLite database.
        SchemaTooNew: The file was written by a later embq.
        StorageReadOnly: The file or its folder is not to be written.
        UnsupportedFilesystem: It is on a network file system or FUSE. Nothing was
            touched.
        UnsupportedSQLite: The SQLite of this Python cannot be used.
    """
    broker = Broker(
        path,
        durability=durability,
        source=source,
        busy_timeout=busy_timeout,
        create=create,
        disk_reserve=disk_reserve,
        allow_unsafe_filesystem=allow_unsafe_filesystem,
        secure_delete=secure_delete,
    )
    broker._file.open()  # noqa: SLF001
    return broker
