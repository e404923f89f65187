"""The checksums of bodies: which they are, and messages that have none."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from test_damage import drain, opened

from embq import _native

if TYPE_CHECKING:
    from pathlib import Path


def test_without_a_checksum(path: Path) -> None:
    """What has none is handed out as it is."""
    with opened(path) as broker:
        queue = broker.queue("q")
        queue.send("a")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("update embq_message_0 set flags = flags & 15")
            connection.execute("update embq_message_0 set body = cast('7' as blob)")
        assert broker.check() == []
        assert drain(queue, "receive") == [7]


def test_known_checksums() -> None:
    """They are those of RFC 3720 (B.4), by the instruction and by the table."""
    known = {
        bytes(32): 0x8A9136AA,
        b"\xff" * 32: 0x62A8AB43,
        bytes(range(32)): 0x46DD794E,
        bytes(range(31, -1, -1)): 0x113FDB5C,
    }
    for data, checksum in known.items():
        assert _native.crc32c(data) == checksum
    for size in range(70):
        data = os.urandom(size)
        assert _native.crc32c(data) == _native.crc32c(data, plain=True)
