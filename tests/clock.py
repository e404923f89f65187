"""A clock that tests move by hand, shared by the model and all processes of a test."""

from __future__ import annotations

import mmap
import threading
from pathlib import Path

START_BOOT_MS = 1_000_000
START_WALL_MS = 1_700_000_000_000
YEAR_MS = 365 * 86_400_000


class ClockFile:
    """Two int64 in a mapped file: boot_ms and wall_ms.

    The C core reads the same file (`embq._native.use_clock(path)`), so that moving this
    clock moves the time of every process at once. Threads of one process may share it.
    """

    def __init__(self, path: Path, *, fresh: bool = True) -> None:
        self.path = path
        if fresh:
            path.write_bytes(bytes(16))
        with path.open("r+b") as file:
            # A store of 8 bytes at once: struct.pack_into writes zeros first, and byte
            # by byte, which other processes see.
            self._times = memoryview(mmap.mmap(file.fileno(), 16)).cast("q")
        self._lock = threading.Lock()
        if fresh:
            self.boot_ms, self.wall_ms = START_BOOT_MS, START_WALL_MS

    @property
    def boot_ms(self) -> int:
        """Milliseconds since boot: what leases live by."""
        return self._times[0]

    @boot_ms.setter
    def boot_ms(self, value: int) -> None:
        self._times[0] = value

    @property
    def wall_ms(self) -> int:
        """Milliseconds since 1970: what delays live by."""
        return self._times[1]

    @wall_ms.setter
    def wall_ms(self, value: int) -> None:
        self._times[1] = value

    def advance(self, seconds: float) -> None:
        """Let time pass, on both clocks."""
        with self._lock:
            self.boot_ms += round(seconds * 1000)
            self.wall_ms += round(seconds * 1000)

    def jump(self, seconds: float) -> None:
        """Set the wall clock wrong; no time passes."""
        with self._lock:
            self.wall_ms += round(seconds * 1000)
