"""The record of interpose_log.c, read back; changes to a file, whole or by sectors."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

SECTOR = 512  # bytes; a disk writes each whole or not at all
HEAD = struct.Struct("<4q")  # kind, length of the name, offset, size


class Record(NamedTuple):
    """A line of the record: see `log_record` in interpose_log.c for the kinds."""

    kind: str
    name: str
    offset: int
    data: bytes


class Change(NamedTuple):
    """A write, or with no data a new length."""

    offset: int
    data: bytes | None


def read_record(path: Path) -> list[Record]:
    """Read a whole record."""
    text, at, records = path.read_bytes(), 0, []
    while at < len(text):
        kind, length, offset, size = HEAD.unpack_from(text, at)
        at += HEAD.size
        name = text[at : at + length].decode()
        at += length
        has_bytes = chr(kind) in "WM"
        data = text[at : at + size] if has_bytes else b""
        at += len(data)
        records.append(Record(chr(kind), name, offset, data))
    return records


def put(content: bytearray, change: Change) -> None:
    """Make a change."""
    offset, data = change
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


def sectors(change: Change) -> range:
    """Tell which sectors a write touches."""
    offset, data = change
    return range(offset // SECTOR, (offset + len(data or b"") - 1) // SECTOR + 1)


def part(change: Change, sector: int) -> Change:
    """Cut a write down to what it puts into one sector."""
    offset, data = change
    first = max(sector * SECTOR, offset)
    last = (sector + 1) * SECTOR
    return Change(first, (data or b"")[first - offset : last - offset])
