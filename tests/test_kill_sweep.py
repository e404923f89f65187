"""Kill sweep: each verb is killed at every call that it makes; nothing is lost."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import pytest
from conftest import DEATH_NOTICED_S
from rig import judge, verbs
from rig.interpose import Outcome, Stage
from rig.judge import Judge

POINTS = 100  # of a verb, unless --soak
WHOLE = 3  # runs of a verb that go to their end, to count its calls
STAGES = 12  # some plays mostly wait
OPEN_FILES = 40  # that wait for a death to be noticed, at once


class Sweep:
    """Stages that play and die, while the files of the dead are judged."""

    def __init__(self) -> None:
        self.stages = [Stage("rig.verbs") for _ in range(STAGES)]
        self.free: SimpleQueue[Stage] = SimpleQueue()
        for stage in self.stages:
            self.free.put(stage)
        self.pool = ThreadPoolExecutor(STAGES)

    def close(self) -> None:
        """End the stages."""
        self.pool.shutdown(cancel_futures=True)
        for stage in self.stages:
            stage.close()

    def perform(self, name: str, folder: Path, kill_at: int) -> Outcome:
        """Play a verb up to that call, in a folder that is made for it."""
        stage = self.free.get()
        try:
            template = folder.parent / "template"
            return stage.run("perform", name, str(template), str(folder), kill_at)
        finally:
            self.free.put(stage)

    def start(self, name: str, folder: Path, kill_at: int) -> Future[Outcome]:
        """Play it beside others."""
        return self.pool.submit(self.perform, name, folder, kill_at)


@pytest.fixture(scope="module")
def sweep() -> Iterator[Sweep]:
    """Give the stages, made once."""
    made = Sweep()
    yield made
    made.close()


def spread(count: int, most: int) -> list[int]:
    """Choose up to `most` of the numbers from 1 to `count`, evenly."""
    if count <= most:
        return list(range(1, count + 1))
    return [1 + number * (count - 1) // (most - 1) for number in range(most)]


class Court:
    """The files of one verb: opened as they come, judged when their dead are noticed.

    A death takes about a second to be noticed, so many wait for it together.
    """

    def __init__(self, name: str) -> None:
        self.verb = verbs.VERBS[name]
        self.waiting: deque[tuple[Judge, Path, float]] = deque()

    def add(self, folder: Path) -> None:
        """Open a file; judge the oldest when there are too many."""
        if self.verb.file in ("none", "foreign"):
            judge.check_migrated(folder, application=self.verb.application)
        case = Judge(
            folder,
            application=self.verb.application,
            max_receives=self.verb.max_receives,
        )
        self.waiting.append((case, folder, time.monotonic() + DEATH_NOTICED_S))
        while len(self.waiting) > OPEN_FILES:
            self.judge_next()

    def judge_next(self) -> None:
        """Wait for the oldest, and judge it."""
        case, folder, end = self.waiting.popleft()
        try:
            while not case.settled():
                assert time.monotonic() < end, "a lease or an owner is left for ever"
                time.sleep(0.01)
            case.check()
        finally:
            case.close()
        shutil.rmtree(folder)  # also lets go of the descriptor that guards it

    def close(self) -> None:
        """Leave what was not judged, after a failure."""
        for case, _, _ in self.waiting:
            case.close()


@pytest.mark.parametrize("name", verbs.VERBS)
def test_killed_at_every_call(
    name: str, sweep: Sweep, tmp_path: Path, *, soak: bool
) -> None:
    """CASES 4, 16, 17: wherever a verb is killed, what it confirmed is there once."""
    (tmp_path / "template").mkdir()
    verbs.prepare(tmp_path / "template", name)
    whole = [tmp_path / f"whole{number}" for number in range(WHOLE)]
    counts = [run.result().get() for run in [sweep.start(name, f, 0) for f in whole]]
    count = max(counts) if soak else min(counts)
    points = spread(count, count if soak else POINTS)
    killed = 0
    court = Court(name)
    try:
        for folder in whole:
            court.add(folder)
        runs = [
            (point, sweep.start(name, tmp_path / f"{point}", point)) for point in points
        ]
        for point, run in runs:
            outcome = run.result()
            assert outcome.error is None, f"at {point}: {outcome.error}"
            killed += outcome.killed
            court.add(tmp_path / f"{point}")
        while court.waiting:
            court.judge_next()
    finally:
        court.close()
    # Some get by, as the keeper does not make the same calls each time.
    assert killed > len(points) / 2, f"{killed} of {len(points)} were killed"
