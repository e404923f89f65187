"""Which SQLite: the copy that Python's own module uses, bound to the C core.

Two copies of SQLite on one file in one process lose data silently, so the core brings
none and borrows the module's, in one of two ways:

1. The module's library is in the process already: its symbols are looked up there.
2. Where they are hidden (a static SQLite), the module loads the core as a run-time
   extension once, on a throw-away connection, and so hands over its functions.

Then the proof: a VFS with a unique name, registered through what was found, must be
there for the module. `EMBQ_SQLITE_MODULE` selects another module ("pysqlite3", "apsw")
for both.
"""

import importlib
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from types import ModuleType
from typing import Any
from urllib.parse import quote

from embq import _native
from embq.errors import (
    Busy,
    Corrupt,
    Error,
    NoMemory,
    NotAnEmbqFile,
    StorageFull,
    StorageIOError,
    StorageReadOnly,
    UnsupportedSQLite,
)

VARIABLE = "EMBQ_SQLITE_MODULE"

# Primary result codes of SQLite, and what they are to us.
_ERRORS: dict[int, type[Error]] = {
    5: Busy,
    6: Busy,
    7: NoMemory,
    8: StorageReadOnly,
    10: StorageIOError,
    11: Corrupt,
    13: StorageFull,
    14: StorageIOError,
    15: Busy,
    26: NotAnEmbqFile,
}
_STEP = 100  # pages, between two looks whether to go on
_ERROR = 1
_PRIMARY = 0xFF  # an extended code keeps the primary one in its low byte

_WAL_RESET = (
    "the SQLite of %s may lose pages when a checkpoint meets a writer that starts the "
    "WAL over (3.7.0 to 3.51.2; sqlite.org/wal.html). embq's own checkpoints are "
    "guarded; give other connections to its files `pragma wal_autocheckpoint = 0`"
)
#: The versions without that bug: from the first to before the second.
_MENDED = (
    (3_044_006, 3_045_000),
    (3_050_007, 3_051_000),
    (3_051_003, 4_000_000),
)

_lock = threading.RLock()  # a signal handler may come in again
_bound: ModuleType | None = None


def bind() -> ModuleType:
    """Bind the core to the chosen module's SQLite, once per process.

    Returns:
        The module.

    Raises:
        UnsupportedSQLite: No way leads to its SQLite, or it is too old.
    """
    global _bound  # noqa: PLW0603
    with _lock:
        if _bound is None:
            module = _module()
            if not any(
                way(module) and _proven(module) for way in (_symbols, _extension)
            ):
                msg = f"the SQLite of {module.__name__} cannot be reached"
                raise UnsupportedSQLite(msg)
            if may_lose_pages(_native.bind_check()):
                logging.getLogger("embq").warning(_WAL_RESET, module.__name__)
            _bound = module
        return _bound


def may_lose_pages(version: int) -> bool:
    """Tell whether this SQLite has the WAL-reset bug (3.7.0 to 3.51.2).

    Args:
        version: As `sqlite3_libversion_number()` says it: 3051002 is 3.51.2.

    Returns:
        False from 3.51.3 on, and for the two older lines that were mended: 3.50.7 and
        3.44.6 (sqlite.org/wal.html, "The WAL-Reset Bug").
    """
    return not any(first <= version < end for first, end in _MENDED)


def _module() -> ModuleType:
    name = os.environ.get(VARIABLE) or "sqlite3"
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        msg = f"{VARIABLE}={name}: {error}"
        raise UnsupportedSQLite(msg) from error
    if not hasattr(module, "Connection"):
        msg = f"{VARIABLE}={name}: that module is no SQLite"
        raise UnsupportedSQLite(msg)
    return module


def _library(module: ModuleType) -> str | None:
    """Find the shared library of a module; None when it is built into Python."""
    inner = (
        "_sqlite3" if module.__name__ == "sqlite3" else f"{module.__name__}._sqlite3"
    )
    try:
        path = importlib.import_module(inner).__file__
    except (ImportError, AttributeError):
        path = module.__file__
    return path if path and path.endswith(tuple(EXTENSION_SUFFIXES)) else None


def _symbols(module: ModuleType) -> bool:
    """Take the first way."""
    path = _library(module)
    return path is not None and _native.bind_module(path)


def _extension(module: ModuleType) -> bool:
    """Take the second way."""
    connection = _open(module, ":memory:")
    try:
        connection.enable_load_extension(True)  # noqa: FBT003
        connection.load_extension(_native.LIBRARY)
    except AttributeError:
        return False  # built without extension loading
    except _failures(module):
        return False
    finally:
        connection.close()
    return _native.bind_extension()


def _proven(module: ModuleType) -> bool:
    """Prove that the module and the core use one and the same copy."""
    name = f"embq-{secrets.token_hex(8)}"
    _native.bind_proof(name)
    try:
        _open(module, f"file::memory:?vfs={name}", uri=True).close()
    except _failures(module):
        return False
    finally:
        _native.bind_proof_end()
    return True


# ---- connections, for the migrations ----


def _open(
    module: ModuleType, path: str, *, uri: bool = False, timeout: float = 0
) -> Any:
    if hasattr(module, "connect"):
        return module.connect(path, uri=uri, timeout=timeout, isolation_level=None)
    flags = module.SQLITE_OPEN_READWRITE | module.SQLITE_OPEN_CREATE
    if uri:
        flags |= module.SQLITE_OPEN_URI
    connection = module.Connection(path, flags=flags)
    connection.set_busy_timeout(round(timeout * 1000))
    return connection


def _failures(module: ModuleType) -> tuple[type[Exception], ...]:
    return (module.Error,)


def connect(path: bytes, timeout: float, *, create: bool = True) -> Any:
    """Open a connection in autocommit mode on the bound SQLite.

    Args:
        path: A file that exists; taken literally. Or ":memory:".
        timeout: How many seconds to wait for a lock.
        create: Whether to make it an empty file when it is gone.

    Returns:
        A connection that sqlite-utils can work with.
    """
    module = bind()
    name = os.fsdecode(path) if create else f"file:{quote(path)}?mode=rw"
    connection = _open(module, name, uri=not create, timeout=timeout)
    return connection if hasattr(module, "connect") else _Adapter(connection)


def copy_pages(source: Any, target: Any, go_on: Callable[[], None]) -> None:
    """Copy a database page by page.

    Args:
        source: In a read transaction, so that no writer makes it begin anew.
        target: An empty one.
        go_on: Called now and then; what it raises ends the copy.
    """
    if isinstance(target, _Adapter):
        target.copy_from(source, go_on)
    else:
        source.backup(target, pages=_STEP, sleep=0, progress=lambda *_: go_on())


def failures() -> tuple[type[Exception], ...]:
    """Return the exceptions that the bound module raises."""
    return _failures(bind())


def _code(error: BaseException) -> int:
    """Return the primary result code."""
    code = getattr(error, "sqlite_errorcode", None) or getattr(error, "result", None)
    if code is None:  # pysqlite3 before 3.11's attributes
        text = str(error)
        code = 5 if "locked" in text else 8 if "readonly" in text else _ERROR
        code = 11 if "malformed" in text else code
    return int(code) & _PRIMARY


def is_about_sql(error: BaseException) -> bool:
    """Tell whether a statement made no sense to SQLite, rather than that it failed."""
    return _code(error) == _ERROR


def translate(
    error: BaseException,
    path: bytes,
    doing: str = "creating or upgrading the tables",
) -> Error:
    """Turn an exception of the bound module into ours."""
    text = str(error)
    cls = _ERRORS.get(_code(error), Corrupt)
    return cls(f"{os.fsdecode(path)!r}: {doing}: {text}")


class _Cursor:
    """The rows of one statement, read at once.

    apsw's own cursor has no description after the last row, and sqlite-utils asks then.
    """

    def __init__(self, connection: Any, sql: str, parameters: Any) -> None:
        columns: list[Any] = []

        def note_columns(cursor: Any, _sql: str, _bindings: Any) -> bool:
            columns.extend(cursor.get_description())
            return True

        cursor = connection.cursor()
        cursor.exec_trace = note_columns
        self._rows: Iterator[Any] = iter(
            cursor.execute(sql, parameters or None).fetchall()
        )
        self.description = [(column[0], *[None] * 6) for column in columns] or None
        self.lastrowid = connection.last_insert_rowid()
        self.rowcount = connection.changes()

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return list(self._rows)

    def close(self) -> None:
        """Do nothing: the rows are read."""


class _Adapter:
    """An apsw connection with as much of the DB-API as the migrations need."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return bool(self._connection.in_transaction)

    def execute(self, sql: str, parameters: Any = ()) -> _Cursor:
        """Run one statement."""
        return _Cursor(self._connection, sql, parameters)

    def copy_from(self, source: "_Adapter", go_on: Callable[[], None]) -> None:
        """Copy another database into this one."""
        theirs = source._connection  # noqa: SLF001 - of our own class
        with self._connection.backup("main", theirs, "main") as copy:
            while not copy.done:
                copy.step(_STEP)
                go_on()

    def __getattr__(self, name: str) -> Any:
        if name == "_connection":
            raise AttributeError(name)
        return getattr(self._connection, name)
