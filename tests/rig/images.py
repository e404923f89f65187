"""A disk under a recorded run, and what it may hold after a power cut.

`Disk` follows the record of interpose.c. What was written to a file is certain once a
sync of that file that began later has ended, and a name once its folder was synced.
Everything else may have reached the disk or not, in any order: `Disk.image` chooses, by
a random generator, one of the things that a cut at this point can leave.

A write reaches the disk by sectors of 512 bytes, each whole or not at all. A sector
that did shows the file as it was at some moment, as it is written from a page of the
cache: with all writes to it up to there.

Two models of names and lengths:

strict   POSIX: each name is as it was at some moment since the last sync of the folder,
         whatever the others are; a file may have grown without its data, and then shows
         zeros, garbage, or what another file left in those blocks.
ordered  ext4: names change in the order of the calls, and a file that was synced has
         its name; a file has grown as far as its data has reached the disk.

The -shm is no part of this: it may be gone or hold anything, see images_run.py.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

SECTOR = 512
HEAD = struct.Struct("<4q")  # kind, length of the name, offset, size
#: What of the changes to a file since its last sync is dropped, by `_choose`.
PLANS = ("nothing", "all", "few", "few", "half", "tail", "tail", "head")
MODELS = ("strict", "ordered")


class Record(NamedTuple):
    """A line of the record: see `log_record` in interpose.c for the kinds."""

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


class File:
    """An inode: what is certain of it, what it is, and the changes between."""

    def __init__(self, content: bytes, born: int) -> None:
        self.stable = bytearray(content)
        self.live = bytearray(content)
        self.pending: list[Change] = []
        self.born = born  # which move gave it its name
        self._syncs: dict[int, int] = {}  # by thread: how many changes it will cover

    def change(self, change: Change) -> None:
        """Change it in the cache."""
        self.pending.append(change)
        put(self.live, change)

    def sync_begin(self, thread: int) -> None:
        """Note what this sync will cover."""
        self._syncs[thread] = len(self.pending)

    def sync_end(self, thread: int) -> None:
        """Make that certain."""
        count = self._syncs.pop(thread)
        for change in self.pending[:count]:
            put(self.stable, change)
        del self.pending[:count]
        for other, covers in self._syncs.items():
            self._syncs[other] = max(0, covers - count)


@dataclass
class Image:
    """What a cut leaves, and what it took."""

    files: dict[str, bytearray]
    story: list[str] = field(default_factory=list)


class Disk:
    """The folder of one run."""

    def __init__(self, base: dict[str, bytes]) -> None:
        # What every name meant from its first file on; None: nothing.
        self.moves: list[tuple[str, File | None]] = []
        self.names: dict[str, File] = {}
        self._syncs: dict[int, int] = {}
        for name, content in base.items():
            self._move(name, File(content, len(self.moves)))
        self.synced = self.ordered = len(self.moves)  # moves certain in each model

    def _move(self, name: str, file: File | None) -> None:
        self.moves.append((name, file))
        if file is None:
            del self.names[name]
        else:
            self.names[name] = file

    def apply(self, record: Record) -> None:
        """Follow one line of the record."""
        kind, name, offset, data = record
        if name.endswith("-shm") or kind == "M":
            return
        if kind == "C":
            self._move(name, File(b"", len(self.moves)))
        elif kind == "U":
            self._move(name, None)
        elif kind == "W":
            self.names[name].change(Change(offset, data))
        elif kind == "T":
            self.names[name].change(Change(offset, None))
        elif name in self.names:
            self._sync_file(kind, self.names[name], offset)
        else:
            self._sync_folder(kind, offset)

    def _sync_file(self, kind: str, file: File, thread: int) -> None:
        if kind == "S":
            file.sync_begin(thread)
        else:
            file.sync_end(thread)
            self.ordered = max(self.ordered, file.born + 1)

    def _sync_folder(self, kind: str, thread: int) -> None:
        if kind == "S":
            self._syncs[thread] = len(self.moves)
        else:
            self.synced = max(self.synced, self._syncs.pop(thread))
            self.ordered = max(self.ordered, self.synced)

    # ---- after a cut here ----

    def killed(self) -> Image:
        """Give what a killed process leaves: everything."""
        files = {name: bytearray(file.live) for name, file in self.names.items()}
        return Image(files, ["killed: nothing is lost"])

    def bare(self, model: str) -> Image:
        """Give what is certain, and no more."""
        names = self._names_after(self.synced if model == "strict" else self.ordered)
        files = {name: bytearray(file.stable) for name, file in names.items()}
        return Image(files, [f"{model}: all that was not synced is lost"])

    def image(self, rng: Random, model: str) -> Image:
        """Choose what is left."""
        image = Image({}, [model])
        names = self._choose_names(rng, model, image.story)
        for name, file in names.items():
            plan, fates = _choose(rng, file.pending)
            garbage = self._garbage(rng, name, file) if model == "strict" else None
            image.files[name] = _build(file, fates, rng, garbage)
            image.story.append(_tell(name, plan, file, fates, image.files[name]))
        return image

    def _names_after(self, count: int) -> dict[str, File]:
        names: dict[str, File | None] = dict(self.moves[:count])
        return {name: file for name, file in names.items() if file is not None}

    def _choose_names(
        self, rng: Random, model: str, story: list[str]
    ) -> dict[str, File]:
        if model == "ordered":
            count = rng.randint(self.ordered, len(self.moves))
            chosen = self._names_after(count)
        else:
            chosen = self._names_after(self.synced)
            later = self.moves[self.synced :]
            for name in dict.fromkeys(name for name, _ in later):
                states = [chosen.get(name), *(file for n, file in later if n == name)]
                state = rng.choice(states)
                chosen.pop(name, None)
                if state is not None:
                    chosen[name] = state
        for name in {name for name, _ in self.moves}:
            if chosen.get(name) is not self.names.get(name):
                now = "there" if name in self.names else "gone"
                then = "is an earlier one" if name in chosen else "is not there"
                story.append(f"{name} ({now} at the cut) {then}")
        return chosen

    def _garbage(self, rng: Random, name: str, file: File) -> bytes | None:
        """Choose what stands in blocks that were given to a file but not written."""
        size = len(file.live)
        before = [f for n, f in self.moves if n == name and f and f is not file]
        kind = rng.choice(["zeros", "noise", "old"])
        if kind == "zeros":
            return None
        if kind == "old" and before:
            return bytes(before[-1].live[:size].ljust(size, b"\0"))
        return rng.randbytes(SECTOR) * (size // SECTOR + 1)


# ---- the fate of each change: True reached the disk, False did not, a set of sectors
# ---- reached it in part

Fate = bool | frozenset[int]


def _torn(rng: Random, change: Change) -> Fate:
    if change.data is None:
        return rng.random() < 0.5
    share = rng.random()
    return frozenset(sector for sector in sectors(change) if rng.random() < share)


def _near_the_end(rng: Random, count: int) -> int:
    """Choose a place in a list, half of the time among the last."""
    if rng.random() < 0.5:
        return rng.randrange(count)
    return max(0, count - 1 - int(rng.expovariate(1 / 6)))


def _choose(rng: Random, pending: list[Change]) -> tuple[str, list[Fate]]:
    count = len(pending)
    plan = rng.choice(PLANS) if count else "nothing"
    if plan == "nothing":
        return plan, [True] * count
    if plan == "all":
        return plan, [False] * count
    if plan == "half":
        return plan, [
            _torn(rng, change) if rng.random() < 0.1 else rng.random() < 0.5
            for change in pending
        ]
    at = _near_the_end(rng, count)
    if plan == "few":
        fates: list[Fate] = [True] * count
        for _ in range(rng.randint(1, 3)):
            fates[at] = rng.choice([False, _torn(rng, pending[at])])
            at = _near_the_end(rng, count)
        return plan, fates
    before, after = (True, False) if plan == "tail" else (False, True)
    middle = _torn(rng, pending[at])
    return plan, [before] * at + [middle] + [after] * (count - at - 1)


def _build(
    file: File, fates: list[Fate], rng: Random, garbage: bytes | None
) -> bytearray:
    content = bytearray(file.stable)
    behind: dict[int, list[Change]] = {}  # by sector: writes that it lacks
    fresh: set[int] = set()  # sectors of these beyond what was there
    for change, fate in zip(file.pending, fates, strict=True):
        if change.data is None:
            if fate:
                put(content, change)
                kept = range(len(content) // SECTOR + 1)
                behind = {at: late for at, late in behind.items() if at in kept}
            continue
        if fate is True and not behind:
            put(content, change)
            continue
        for sector in sectors(change):
            if fate is True or (fate and sector in fate):
                for lacking in (*behind.pop(sector, ()), change):
                    put(content, part(lacking, sector))
                fresh.discard(sector)
            else:
                behind.setdefault(sector, []).append(change)
                if sector * SECTOR >= len(content):
                    fresh.add(sector)
    if garbage is not None:
        _litter(content, fresh, len(file.live), rng, garbage)
    return content


def _litter(
    content: bytearray, fresh: set[int], size: int, rng: Random, garbage: bytes
) -> None:
    """Let the file have grown without its data."""
    if size > len(content):
        grown = rng.choice([len(content), size, rng.randint(len(content), size)])
        content.extend(bytes(grown - len(content)))
    for sector in fresh:
        at = sector * SECTOR
        room = len(content) - at
        if room > 0:
            content[at : at + min(room, SECTOR)] = garbage[at : at + min(room, SECTOR)]


def _tell(
    name: str, plan: str, file: File, fates: list[Fate], content: bytearray
) -> str:
    lost = [i for i, fate in enumerate(fates) if fate is not True]
    text = f"{name}: {plan} lost, {len(lost)} of {len(fates)} unsynced changes"
    shown = [_tell_change(file.pending[i], fates[i]) for i in lost[:6]]
    sizes = f"{len(content)} bytes, {len(file.live)} at the cut"
    return f"{text} ({sizes}) {' '.join(shown)}{' ...' if len(lost) > 6 else ''}"


def _tell_change(change: Change, fate: Fate) -> str:
    if change.data is None:
        return f"truncation to {change.offset}"
    text = f"[{change.offset}:{change.offset + len(change.data)}]"
    if not fate:
        return text
    return f"{text} but sectors {sorted(fate)}" if fate is not True else text
