"""`make crash`: thousands of crash images, over many recorded runs.

It prints its seed. The record of the first run in which an image failed is kept for
some hours, and the line that is printed with the failure judges that image again. A
seed chooses cuts and images and what a run sends; the order of its threads is chosen by
the machine, so that only the record makes an image come again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from random import SystemRandom

from images_run import PLANTS, Failure
from images_workloads import WORKLOADS
from interpose import Stage

RUN_IMAGES = 100  # of one recorded run
PATIENCE_S = 300.0
PREFIX = "embq-crash-"
KEPT_S = 6 * 3600


@dataclass(frozen=True)
class Job:
    """A run, and images of it."""

    workload: str
    seed: str
    images: int


def jobs(images: int, seed: str, names: list[str]) -> Iterator[Job]:
    """Share out the images."""
    shares = {name: WORKLOADS[name].share for name in names}
    for name in names:
        left = -(-images * shares[name] // sum(shares.values()))
        runs = -(-left // RUN_IMAGES)
        for number in range(runs):
            count = left // (runs - number)
            left -= count
            yield Job(name, f"{seed}.{name}.{number}", count)


def _remove_old(where: Path) -> None:
    """Remove what earlier runs kept and nobody has touched for long."""
    for folder in where.glob(f"{PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # another run removes it as well
            if time.time() - folder.stat().st_mtime > KEPT_S:
                shutil.rmtree(folder)


class Stages:
    """Processes that record and judge, and the folders where they do it."""

    def __init__(self, count: int) -> None:
        # Where an fsync costs nothing, if there is such a place.
        memory = Path("/dev/shm")
        usable = memory.is_dir() and os.access(memory, os.W_OK)
        where = memory if usable else None
        _remove_old(Path(where or tempfile.gettempdir()))
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
        self.count = count
        self._kept: Path | None = None
        self._lock = threading.Lock()
        self._free: SimpleQueue[Stage] = SimpleQueue()
        for _ in range(count):
            self._free.put(Stage("images_run"))

    def run(self, job: Job, plant: str | None = None) -> tuple[int, list[Failure]]:
        """Record one run and judge its images; keep the first in which one failed."""
        folder = Path(tempfile.mkdtemp(prefix=f"{job.seed}-", dir=self.folder))
        stage = self._free.get()
        try:
            stage.run("record", folder, job.workload, job.seed).get()
            arguments = (folder, job.workload, job.seed, job.images, plant)
            outcome = stage.run("replay", *arguments, patience=PATIENCE_S)
            count, failures = outcome.get()
        finally:
            gone = stage.process.poll() is not None
            self._free.put(Stage("images_run") if gone else stage)
        if not failures or not self._keep(folder):
            shutil.rmtree(folder)
            for failure in failures:
                failure.folder = None
        return count, failures

    def _keep(self, folder: Path) -> bool:
        """Tell whether to keep this one: it is memory, and one shows a bug as well."""
        with self._lock:
            if self._kept and self._kept.exists():
                return False
            self._kept = folder
            return True

    def close(self) -> None:
        """End them; what was kept stays."""
        for _ in range(self.count):
            self._free.get().close()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def crash(
    stages: Stages, todo: list[Job], plant: str | None = None
) -> tuple[Counter[str], list[Failure]]:
    """Do the jobs; how many images of each workload there were, and the failures."""
    counts: Counter[str] = Counter()
    failures: list[Failure] = []
    with ThreadPoolExecutor(stages.count) as pool:
        results = pool.map(lambda job: stages.run(job, plant), todo)
        for job, (count, failed) in zip(todo, results, strict=True):
            counts[job.workload] += count
            failures += failed
    return counts, failures


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seed", default=f"{SystemRandom().randrange(1 << 32):08x}")
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=[*WORKLOADS])
    parser.add_argument("--plant", choices=PLANTS, help="a bug that must be found")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--again", type=Path, help="the kept folder of a run")
    parser.add_argument("--cut", type=int)
    parser.add_argument("--image")
    options = parser.parse_args()
    if options.again:
        return again(options.again, options.cut, options.image, options.plant)
    began = time.monotonic()
    sys.stdout.write(f"seed {options.seed}\n")
    stages = Stages(options.jobs)
    try:
        todo = list(jobs(options.images, options.seed, options.only))
        counts, failures = crash(stages, todo, options.plant)
    finally:
        stages.close()
    for failure in failures:
        sys.stdout.write(f"{failure}\n")
    for name, count in counts.items():
        sys.stdout.write(f"{count:7,} {name}\n")
    seconds = time.monotonic() - began
    text = f"{counts.total():7,} images in {seconds:.0f} s, {len(failures)} failed"
    sys.stdout.write(f"{text} (seed {options.seed})\n")
    return bool(failures)


def again(folder: Path, cut: int, image: str, plant: str | None) -> int:
    """Judge one image of a kept run again."""
    stage = Stage("images_run")
    failure = stage.run("replay_one", folder, cut, image, plant).get()
    stage.close()
    sys.stdout.write(f"{failure or 'this image is as it should be'}\n")
    return bool(failure)


if __name__ == "__main__":
    sys.exit(main())
