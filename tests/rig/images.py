"""A disk under a recorded run, and what it may hold after a power cut.

`Disk` follows the record of interpose_log.c. What was written to a file is certain once
a sync of that file that began later has ended, and a name once its folder was synced.
Everything else may have reached the disk or not, in any order: `Disk.image` chooses, by
a random generator, one of the things that a cut at this point can leave.

Two models of names and lengths:

strict   POSIX: each name is as it was at some moment since the last sync of the folder,
         whatever the others are; a file may have grown without its data, and then shows
         zeros, garbage, or what another file left in those blocks.
ordered  ext4: names change in the order of the calls, and a file that was synced has
         its name; a file has grown as far as its data has reached the disk.

The -shm is no part of this: it may be gone or hold anything, see images_run.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from images_fate import build, choose, litter, tell
from images_record import SECTOR, Change, Record, put

MODELS = ("strict", "ordered")


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
            plan, fates = choose(rng, file.pending)
            content, fresh = build(file.stable, file.pending, fates)
            if model == "strict":
                garbage = self._garbage(rng, name, file)
                litter(rng, content, fresh, len(file.live), garbage)
            image.files[name] = content
            sizes = f"{len(content)} bytes, {len(file.live)} at the cut"
            text = tell(plan, file.pending, fates)
            image.story.append(f"{name} ({sizes}): {text}")
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
        for name in dict.fromkeys(name for name, _ in self.moves):
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
