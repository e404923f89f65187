"""Power loss, end to end: record a run, cut the power in it often, judge each image.

Both are functions of a `Stage`; crash.py calls them.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from images import MODELS, Disk, Image
from images_commits import Commits, unknown_pages
from images_judge import Case
from images_outside import Outside
from images_record import Record, read_record
from images_work import Run, slow_disk
from images_workloads import WORKLOADS
from interpose import Rig

from embq import _sqlite

NAME = "test.db"
FOLDER = "disk"
PATIENCE_S = 30
AGAIN = "tests/rig/crash.py"
FAILURES_MAX = 3
#: How an image is made, and how many of a hundred are so.
MODES = {"killed": 8, "bare": 22, "image": 70}
SHM_SIZE = 32768
#: What `_planted` and `Replay` can do to a record: bugs, and an SQLite of another kind.
PLANTS = ("no fsync", "no folder fsync", "early", "SQLite without folder fsync")
CONFIRMED = (
    *(b'["sent"', b'["taken"', b'["done"', b'["apped"'),
    *(b'["repeated"', b'["cancelled"', b'["purged"', b'["was set"'),
)

_sqlite.bind()


# ---- recording, in a child of a stage ----


def _boot(folder: Path, name: str) -> None:
    (folder / "boot").write_text(name * 36)


def record(folder: Path, workload: str, seed: str) -> None:
    """Record a run into this folder; its process ends without closing anything."""
    disk = folder / FOLDER
    disk.mkdir()
    rig = Rig(disk)
    rig.boot(folder / "boot")
    _boot(folder, "A")
    run = Run(rig, disk / NAME, folder / "record", Random(seed))
    work = WORKLOADS[workload]
    work.base(run)
    shutil.copytree(disk, folder / "base")
    (folder / "before").write_text(json.dumps(run.before))
    run.before = None
    if work.reboots:
        _boot(folder, "B")
    rig.record(run.log)
    slow_disk(run)
    work.run(run)


# ---- replaying, in another ----


@dataclass
class Failure:
    """An image that is not what was promised."""

    folder: str | None  # None: not kept
    workload: str
    cut: int
    image: str
    plant: str | None
    story: list[str]
    faults: list[str]

    def __str__(self) -> str:
        again = f"python {AGAIN} --again {self.folder} --cut {self.cut}"
        again += f" --plant '{self.plant}'" if self.plant else ""
        again += f" --image {self.image}"
        lines = [
            f"{self.workload}: cut at {self.cut}, image {self.image!r}",
            *(f"  disk: {text}" for text in self.story),
            *(f"  WRONG: {text}" for text in self.faults[:20]),
            f"  again: {again if self.folder else 'another run is kept'}",
        ]
        return "\n".join(lines)


class Replay:
    """The record of a run, followed up to one cut after the other."""

    def __init__(self, folder: Path, workload: str, plant: str | None) -> None:
        self.folder, self.workload, self.plant = folder, workload, plant
        self.records = list(_planted(read_record(folder / "record"), plant))
        base = {path.name: path.read_bytes() for path in (folder / "base").iterdir()}
        unknown = unknown_pages(base, NAME, self.records)
        self.disk = Disk(base)
        self.commits = Commits(self.disk, NAME, unknown)
        self.outside = Outside()
        self.at = 0
        for words in json.loads((folder / "before").read_text()):
            self._hear(words)
        self.at = 1  # so that what was before is before

    def _hear(self, words: list[Any]) -> None:
        self.outside.hear(self.at, words)
        if self.plant == "early" and words[0] == "send":
            for key in words[4]:
                self.outside.messages[key].confirmed = self.at

    def go_to(self, cut: int) -> None:
        """Follow the record so far that `cut` lines of it have happened."""
        while self.at - 1 < cut:
            line = self.records[self.at - 1]
            self.disk.apply(line)
            self.commits.follow(line)
            if line.kind == "M":
                self._hear(json.loads(line.data))
            self.at += 1

    def cuts(self, rng: Random, count: int) -> list[int]:
        """Choose where to cut: anywhere, and after what a promise hangs on."""
        numbered = list(enumerate(self.records, 1))
        places = (
            range(len(self.records) + 1),
            [i for i, line in numbered if line.kind in "MSsTUC"],
            [i for i, line in numbered if line.data.startswith(CONFIRMED)],
        )
        return sorted(rng.choice(places[i % len(places)]) for i in range(count))

    def judge(self, image_seed: str) -> Failure | None:
        """Make an image of this moment and judge it in a new process."""
        rng = Random(image_seed)
        mode = rng.choices(list(MODES), weights=list(MODES.values()))[0]
        image = self._image(rng, mode)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            signal.alarm(PATIENCE_S)
            faults = self._judge(rng, image, killed=mode == "killed")
            with os.fdopen(writing, "wb") as answer:
                pickle.dump(faults, answer)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            text = answer.read()
        _, status = os.waitpid(child, 0)
        ended = f"the process that opened it ended with wait status {status:#x}"
        faults = pickle.loads(text) if status == 0 else [ended]
        if not faults:
            return None
        where = (str(self.folder), self.workload, self.at - 1, image_seed)
        return Failure(*where, self.plant, image.story, faults)

    def _image(self, rng: Random, mode: str) -> Image:
        if mode == "killed":
            return self.disk.killed()
        model = rng.choice(MODELS)
        return self.disk.bare(model) if mode == "bare" else self.disk.image(rng, model)

    def _judge(self, rng: Random, image: Image, *, killed: bool) -> list[str]:
        if not killed:
            _boot(self.folder, "C")
        disk = self.folder / FOLDER
        write_image(disk, self.folder / "aside", image, rng)
        Rig(disk).boot(self.folder / "boot")
        case = Case(disk / NAME, self.outside, self.commits, killed=killed, rng=rng)
        return case.judge()


def _planted(records: list[Record], plant: str | None) -> Iterator[Record]:
    """Take away the syncs that a planted bug, or another SQLite, would not make."""
    before = Record("", "", 0, b"")
    ours = False
    for line in records:
        is_sync = line.kind in "Ss"
        if is_sync and line.name == FOLDER:
            # SQLite's own come right after the first sync of a new -wal or journal.
            if line.kind == "S":
                ours = before.kind != "s" or before.offset != line.offset
            gone = plant == "no folder fsync"
            gone |= plant == "SQLite without folder fsync" and not ours
        else:
            gone = plant == "no fsync" and is_sync and line.name == f"{NAME}-wal"
        before = line
        if not gone:
            yield line


def write_image(disk: Path, aside: Path, image: Image, rng: Random) -> None:
    """Write the files; the database keeps its inode, as after a real cut."""
    for path in disk.iterdir():
        if path.name == NAME and not aside.exists():
            path.rename(aside)
        else:
            path.unlink()
    for name, content in image.files.items():
        path = disk / name
        if name == NAME and aside.exists():
            aside.rename(path)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(file, len(content))
        os.pwrite(file, content, 0)
        os.close(file)
    shm = rng.choice([None, bytes(SHM_SIZE), rng.randbytes(SHM_SIZE)])
    if shm is not None:
        (disk / f"{NAME}-shm").write_bytes(shm)


def replay(
    folder: Path, workload: str, seed: str, count: int, plant: str | None = None
) -> tuple[int, list[Failure]]:
    """Judge so many images of a recorded run; how many there were, and the failures."""
    run = Replay(folder, workload, plant)
    failures: list[Failure] = []
    for done, cut in enumerate(run.cuts(Random(seed), count)):
        run.go_to(cut)
        failure = run.judge(f"{seed}.{done}")
        if failure:
            failures.append(failure)
        if len(failures) == FAILURES_MAX:
            return done + 1, failures
    return count, failures


def replay_one(
    folder: Path, cut: int, image_seed: str, plant: str | None
) -> Failure | None:
    """Judge one image again."""
    run = Replay(folder, image_seed.split(".")[-3], plant)
    run.go_to(cut)
    return run.judge(image_seed)
