"""The states of a database, one after each commit of a recorded run.

In WAL mode a commit is known from the record: its frames reached the -wal, the last one
with the size of the database. So each commit has a digest of all pages as they are
after it, and a database that comes up after a power cut must be one of these states:
the changes of the first N commits and nothing else, where N is no less than what was
synced. That holds for every table, the application's too.
"""

from __future__ import annotations

import zlib

from images import Disk, File
from images_record import Record

FRAME_HEAD = 24
WAL_HEAD = 32


def _page_digest(number: int, page: bytes | memoryview) -> int:
    return hash((number, zlib.crc32(page), zlib.adler32(page)))


def _page_size(content: bytes | bytearray) -> int:
    size = int.from_bytes(content[16:18], "big")
    return 65536 if size == 1 else size


class Commits:
    """The commits up to here."""

    def __init__(self, disk: Disk, name: str, unknown: frozenset[int]) -> None:
        """Follow the database `name`; `unknown` is what `unknown_pages` found."""
        self.disk, self.name, self.wal = disk, name, f"{name}-wal"
        #: The number of the last commit; of the last that a sync has made certain, -1
        #: while the database may not be in WAL mode yet.
        self.last, self.certain = 0, -1
        self.unknown = set(unknown)
        self._numbers: dict[int, int] = {}  # by digest
        self._pages: dict[int, int] = {}  # their digests
        self._size = self._digest = self._page_size = 0
        self._heads: dict[int, tuple[int, int]] = {}  # by frame: page, size at a commit
        self._frames: dict[int, tuple[int, int]] = {}  # not committed: page, digest
        self._next = 0  # the first frame that no commit has
        self._syncs: dict[int, int] = {}
        base = disk.names.get(name)
        if base and base.live[18:20] == b"\2\2":
            self._begin(base)
            self.certain = 0

    def _begin(self, file: File) -> None:
        self._page_size = _page_size(file.live)
        self._size = len(file.live) // self._page_size
        for number in range(1, self._size + 1):
            at = (number - 1) * self._page_size
            page = bytes(file.live[at : at + self._page_size])
            self._set(number, _page_digest(number, page))
        self._numbers[self._digest] = 0

    def _set(self, number: int, digest: int | None) -> None:
        before = self._pages.pop(number, None)
        if number not in self.unknown and before is not None:
            self._digest ^= before
        if digest is not None:
            self._pages[number] = digest
            if number not in self.unknown:
                self._digest ^= digest

    def follow(self, record: Record) -> None:
        """Look at a line of the record, after the disk has."""
        kind, name, offset, data = record
        if name != self.wal:
            return
        if kind == "W":
            self._write(offset, data)
        elif kind == "S":
            self._syncs[offset] = self.last
        elif kind == "s":
            covers = self._syncs.pop(offset)
            # Until a new -wal has its name for certain, and with it an old journal has
            # lost its own, an earlier state may come back.
            if self.disk.names[self.wal].born < self.disk.synced:
                self.certain = max(self.certain, covers)

    def _write(self, offset: int, data: bytes) -> None:
        if offset == 0 and len(data) == WAL_HEAD:
            if not self._pages:
                self._begin(self.disk.names[self.name])
            self._frames.clear()
            self._next = 0
            return
        frame, place = divmod(offset - WAL_HEAD, FRAME_HEAD + self._page_size)
        if place == 0 and len(data) == FRAME_HEAD:
            page, size = data[:4], data[4:8]
            self._heads[frame] = (
                int.from_bytes(page, "big"),
                int.from_bytes(size, "big"),
            )
        elif place == FRAME_HEAD and len(data) == self._page_size:
            page_number, size_after = self._heads[frame]
            self._frames[frame] = page_number, _page_digest(page_number, data)
            if size_after:
                self._commit(frame, size_after)

    def _commit(self, last: int, size: int) -> None:
        for frame in range(self._next, last + 1):
            self._set(*self._frames.pop(frame))
        self._next = last + 1
        for number in range(size + 1, self._size + 1):
            self._set(number, None)
        for number in range(self._size + 1, size + 1):
            if number not in self._pages:  # it was freed before it was ever written
                self.unknown.add(number)
        self._size = size
        self.last += 1
        self._numbers[self._digest] = self.last

    def find(self, content: bytes) -> int | None:
        """Tell after which commit a database has this content; None: after none."""
        size, digest = _page_size(content), 0
        view = memoryview(content)
        for number in range(1, len(content) // size + 1):
            if number not in self.unknown:
                page = view[(number - 1) * size : number * size]
                digest ^= _page_digest(number, page)
        return self._numbers.get(digest)


def unknown_pages(
    base: dict[str, bytes], name: str, records: list[Record]
) -> frozenset[int]:
    """Find the pages that a commit left without content: nothing is said of them."""
    disk = Disk(base)
    commits = Commits(disk, name, frozenset())
    for record in records:
        disk.apply(record)
        commits.follow(record)
    return frozenset(commits.unknown)
