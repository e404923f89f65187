"""Histories in files: one of each process, one `write` an event.

So a kill tears no more than the last line.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING, Any

from rig.history import INFO, INVOKE, Event, parse

if TYPE_CHECKING:
    from pathlib import Path

    from clock import ClockFile

    from embq import Message

SUFFIX = ".history"


class Recorder:
    """The history of one process; may be used by all its threads."""

    def __init__(self, folder: Path, process: str, clock: ClockFile) -> None:
        self.folder, self.process, self.clock = folder, process, clock
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL
        self._file = os.open(folder / f"{process}{SUFFIX}", flags, 0o600)
        self._calls = itertools.count(1)

    def write(self, phase: str, op: str, call: int = 0, **fields: Any) -> None:
        """Append one event, with the time as it is now."""
        now_us, boot_ms = time.monotonic_ns() // 1000, self.clock.boot_ms
        event = Event(self.process, now_us, boot_ms, phase, op, call, fields)
        os.write(self._file, event.line())

    def invoke(self, op: str, **fields: Any) -> int:
        """Write down that a call begins, and number it."""
        call = next(self._calls)
        self.write(INVOKE, op, call, **fields)
        return call

    def note(self, op: str, **fields: Any) -> None:
        """Write down what is no call."""
        self.write(INFO, op, **fields)

    def handed(self, call: int, message: Message) -> None:
        """Write down what was handed out, before anything is done with it."""
        fields = {"id": message.id, "count": message.receive_count}
        if message.history:
            fields["history"] = message.history
        self.write(INFO, "handout", call, name=message.data, **fields)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read(folder: Path) -> list[Event]:
    """Read the histories of all processes."""
    return [
        event
        for file in sorted(folder.glob(f"*{SUFFIX}"))
        for event in parse(file.name.removesuffix(SUFFIX), file.read_bytes())
    ]
