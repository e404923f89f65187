"""Many runs at once: stages that play, and a court that judges what they left."""

from __future__ import annotations

import shutil
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from conftest import DEATH_NOTICED_S
from rig.application import check_migrated
from rig.interpose import Outcome, Stage
from rig.judge import Judge

OPEN_FILES = 40  # that wait for a death to be noticed, at once


class Stages:
    """Several stages; a run takes the next that is free."""

    def __init__(self, module: str, count: int) -> None:
        self.all = [Stage(module) for _ in range(count)]
        self.free: SimpleQueue[Stage] = SimpleQueue()
        for stage in self.all:
            self.free.put(stage)
        self.pool = ThreadPoolExecutor(count)

    def close(self) -> None:
        """End them."""
        self.pool.shutdown(cancel_futures=True)
        for stage in self.all:
            stage.close()

    def start(self, function: str, *args: Any) -> Future[Outcome]:
        """Call a function of their module in a child; others go on beside it."""
        return self.pool.submit(self._run, function, *args)

    def run(self, function: str, *args: Any) -> Any:
        """Call it, and return what it returns."""
        return self.start(function, *args).result().get()

    def _run(self, function: str, *args: Any) -> Outcome:
        stage = self.free.get()
        try:
            return stage.run(function, *args)
        finally:
            self.free.put(stage)


def spread(count: int, most: int) -> list[int]:
    """Choose up to `most` of the numbers from 1 to `count`, evenly."""
    if count <= most:
        return list(range(1, count + 1))
    return [1 + number * (count - 1) // (most - 1) for number in range(most)]


class Court:
    """Files of runs: opened as they come, judged when their dead are noticed.

    A death takes about a second to be noticed, so many wait for it together.
    """

    def __init__(
        self, *, max_receives: int, application: bool = False, migrates: bool = False
    ) -> None:
        self.max_receives, self.application = max_receives, application
        self.migrates = migrates
        self.waiting: deque[tuple[Judge, Path, float]] = deque()

    def add(self, folder: Path) -> None:
        """Open a file; judge the oldest when there are too many."""
        if self.migrates:
            check_migrated(folder, application=self.application)
        case = Judge(
            folder, application=self.application, max_receives=self.max_receives
        )
        self.waiting.append((case, folder, time.monotonic() + DEATH_NOTICED_S))
        while len(self.waiting) > OPEN_FILES:
            self.judge_next()

    def judge_all(self) -> None:
        """Judge what still waits."""
        while self.waiting:
            self.judge_next()

    def judge_next(self) -> None:
        """Wait for the oldest, and judge it."""
        case, folder, end = self.waiting.popleft()
        try:
            while not case.settled():
                text = f"{folder.name}: a lease or an owner is left for ever"
                assert time.monotonic() < end, text
                time.sleep(0.01)
            try:
                case.check()
            except AssertionError as failure:
                failure.add_note(f"in the run {folder.name}")
                raise
        finally:
            case.close()
        shutil.rmtree(folder)  # also lets go of the descriptor that guards it

    def close(self) -> None:
        """Leave what was not judged, after a failure."""
        for case, _, _ in self.waiting:
            case.close()
