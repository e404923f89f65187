"""Stopping SQLite between two steps of a checkpoint, without a debugger.

The default VFS of the process is replaced by a copy of itself that tells when a lock of
the WAL-index is asked for, and when a checkpoint has read the WAL-index header and not
yet how much is in the database already: SQLite then calls xUnfetch, as what it had
mapped may be old. That is the window of the WAL-reset bug, and the place where SQLite's
own test (test/walrestart.test) comes in between.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

MAIN_DB = 0x100  # of xOpen
UNLOCK, LOCK, SHARED, EXCLUSIVE = 1, 2, 4, 8  # of xShmLock
WRITE_LOCK, CHECKPOINT_LOCK, FIRST_READ_LOCK = (
    0,
    1,
    3,
)  # places of locks in the WAL-index
BUSY = 5

_VOID = ctypes.c_void_p
_INT = ctypes.c_int


class _Vfs(ctypes.Structure):
    _fields_ = (
        ("version", _INT),
        ("file_size", _INT),
        ("path_size", _INT),
        ("next", _VOID),
        ("name", ctypes.c_char_p),
        ("data", _VOID),
        ("open", _VOID),
        ("others", _VOID * 15),
    )


class _Methods(ctypes.Structure):
    _fields_ = (
        ("version", _INT),
        ("basic", _VOID * 12),
        ("shm_map", _VOID),
        ("shm_lock", _VOID),
        ("shm_barrier", _VOID),
        ("shm_unmap", _VOID),
        ("fetch", _VOID),
        ("unfetch", _VOID),
    )


class _File(ctypes.Structure):
    _fields_ = (("methods", ctypes.POINTER(_Methods)),)


_OPEN = ctypes.CFUNCTYPE(
    _INT, _VOID, _VOID, ctypes.POINTER(_File), _INT, ctypes.POINTER(_INT)
)
_SHM_LOCK = ctypes.CFUNCTYPE(_INT, _VOID, _INT, _INT, _INT)
_UNFETCH = ctypes.CFUNCTYPE(_INT, _VOID, ctypes.c_int64, _VOID)


class Window:
    """Hooks into all connections that this process opens from now on.

    Args:
        on_lock: Called with the file, the first place, and the flags of a lock of the
            WAL-index before it is asked for. What it returns, if not None, is the
            answer instead.
        on_window: Called with the file of a checkpoint in the window.
    """

    def __init__(
        self,
        on_lock: Callable[[int, int, int], int | None],
        on_window: Callable[[int], None],
    ) -> None:
        import _sqlite3  # noqa: PLC0415  (some Pythons have none)

        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        self._real = library.sqlite3_vfs_find(None)
        self._on_lock, self._on_window = on_lock, on_window
        self._methods: _Methods | None = None
        self._vfs = _Vfs.from_buffer_copy(self._real.contents)
        self._hooks = (_OPEN(self._open), _SHM_LOCK(self._lock), _UNFETCH(self._seen))
        self._vfs.name = b"window"
        self._vfs.open = ctypes.cast(self._hooks[0], _VOID)
        self._real_open = _OPEN(self._real.contents.open)
        if library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1) != 0:
            text = "the VFS could not be registered"
            raise RuntimeError(text)

    def _open(self, _vfs: int, name: int, file: _File, flags: int, out: int) -> int:
        result = self._real_open(
            ctypes.addressof(self._real[0]), name, file, flags, out
        )
        if result == 0 and flags & MAIN_DB:
            if self._methods is None:
                self._hook(file[0].methods[0])
            file[0].methods = ctypes.pointer(self._methods)
        return int(result)

    def _hook(self, real: _Methods) -> None:
        self._real_lock = _SHM_LOCK(real.shm_lock)
        self._real_unfetch = _UNFETCH(real.unfetch)
        self._methods = _Methods.from_buffer_copy(real)
        self._methods.shm_lock = ctypes.cast(self._hooks[1], _VOID)
        self._methods.unfetch = ctypes.cast(self._hooks[2], _VOID)

    def _lock(self, file: int, place: int, count: int, flags: int) -> int:
        answer = self._on_lock(file, place, flags)
        if answer is not None:
            return answer
        return int(self._real_lock(file, place, count, flags))

    def _seen(self, file: int, offset: int, page: int | None) -> int:
        if page is None:
            self._on_window(file)
        return int(self._real_unfetch(file, offset, page))
