"""Sends with retries: whatever fails, stored once; what is said of it is true."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rig.court import Court, Stages, spread
from rig.interpose import FOREVER

import embq
from embq import _retrier

STAGES = 4
POINTS = 24  # of a kill, unless --soak
MAX_RECEIVES = 5


@pytest.fixture(scope="module")
def stages() -> Iterator[Stages]:
    """Stages for single troubles."""
    with closing(Stages("rig.retrying", STAGES)) as made:
        yield made


@pytest.fixture
def court() -> Iterator[Court]:
    """Who judges the files."""
    with closing(Court(max_receives=MAX_RECEIVES)) as made:
        yield made


def run(stages: Stages, folder: Path, function: str, *args: Any, **options: Any) -> Any:
    """Live through a trouble; the options are those of the send."""
    given = (options,) if options else ()
    return stages.run(function, str(folder / "file"), *args, *given)


def judge(court: Court, folder: Path) -> None:
    """Judge the file that it left."""
    court.add(folder / "file")
    court.judge_all()


@pytest.mark.parametrize("call", ["fsync", "pwrite"])
@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]], ids=["one", "many"])
def test_a_call_that_fails_once(
    call: str, names: list[str], stages: Stages, court: Court, tmp_path: Path
) -> None:
    """CASE 21: one retry stores it once, and the sender sees no duplicate."""
    seen = run(stages, tmp_path, "failing", call, 1, names, retries=1)
    assert seen["said"] == ["stored"] * len(names)
    assert seen["pauses"] == 1
    assert seen["after"] == ["stored"]
    judge(court, tmp_path)


@pytest.mark.parametrize("call", ["fsync", "pwrite"])
def test_without_retries_the_error_comes_through(
    call: str, stages: Stages, court: Court, tmp_path: Path
) -> None:
    """CASE 21: with `retries=0` nothing is tried again."""
    seen = run(stages, tmp_path, "failing", call, 1, ["a"], retries=0)
    assert seen["said"] == ["CommitUncertain", ""]
    assert seen["pauses"] == 0
    judge(court, tmp_path)


@pytest.mark.parametrize("call", ["fsync", "pwrite"])
def test_a_call_that_fails_for_good(
    call: str, stages: Stages, court: Court, tmp_path: Path
) -> None:
    """CASE 21: what may be stored is never said not to be, whatever the last try."""
    options = {"retries": 2, "timeout": 0.1}
    seen = run(stages, tmp_path, "failing", call, FOREVER, ["a"], **options)
    assert seen["said"][0] == "CommitUncertain"
    assert seen["pauses"] == 2
    assert seen["after"] == ["stored"]
    judge(court, tmp_path)


def test_a_dedup_id_of_the_sender(stages: Stages, court: Court, tmp_path: Path) -> None:
    """Of a given id a duplicate may be what an earlier try has stored."""
    options = {"retries": 1, "dedup_id": "mine"}
    seen = run(stages, tmp_path, "failing", "fsync", 1, ["a"], **options)
    assert seen["said"] == ["duplicate"]
    judge(court, tmp_path)


@pytest.mark.parametrize(
    ("what", "cause", "call"),
    [
        ("configure", "InvalidArgument", "fsync"),
        ("clock", "InvalidArgument", "fsync"),
        ("close", "Closed", "fsync"),
        ("close", "Closed", "pwrite"),
        ("lock", "Busy", "fsync"),
    ],
)
def test_uncertain_stays_uncertain(
    what: str, cause: str, call: str, stages: Stages, court: Court, tmp_path: Path
) -> None:
    """When a later try may not, or cannot, the first one's outcome stays unknown.

    So with a queue that meanwhile knows no dedup ids, or not for so long.
    """
    seen = run(stages, tmp_path, "between", what, call)
    assert seen["said"] == ["CommitUncertain", cause]
    assert seen["found"] == (call == "fsync")
    judge(court, tmp_path)


def test_a_doubt_outlives_its_engine(
    stages: Stages, court: Court, tmp_path: Path
) -> None:
    """CASE 21: opened anew, full sends wait all the same for the WAL to start over."""
    seen = run(stages, tmp_path, "in_doubt")
    uncertain = "CommitUncertain"
    assert seen["said"] == [uncertain, uncertain, "StorageIOError", "stored"]
    judge(court, tmp_path)


@pytest.mark.parametrize("free_after", [1, 3])
def test_a_lock_that_is_held(
    free_after: int, stages: Stages, court: Court, tmp_path: Path
) -> None:
    """CASE 26: past its timeout a try fails, the next one stores it."""
    seen = run(stages, tmp_path, "locked", 3, free_after)
    assert seen == {"said": ["stored"], "pauses": free_after}
    judge(court, tmp_path)


def test_a_lock_that_is_held_for_longer(
    stages: Stages, court: Court, tmp_path: Path
) -> None:
    """CASE 26: after the last try it is `Busy`, and nothing is stored."""
    seen = run(stages, tmp_path, "locked", 2, 3)
    assert seen == {"said": ["Busy", ""], "pauses": 2}
    judge(court, tmp_path)


@pytest.mark.parametrize("call", ["fsync", "pwrite"])
def test_killed_in_the_second_try(
    call: str, stages: Stages, court: Court, tmp_path: Path, *, soak: bool
) -> None:
    """CASE 16: a sender that is killed between the tries has sent it once, or not."""
    count = run(stages, tmp_path, "killed", call, 0)
    points = spread(count, count if soak else POINTS)
    runs = {
        point: stages.start("killed", str(tmp_path / f"{point}"), call, point)
        for point in points
    }
    dead = 0
    for point, started in runs.items():
        outcome = started.result()
        assert outcome.error is None, f"{point}: {outcome.error}"
        dead += outcome.killed
        court.add(tmp_path / f"{point}")
    court.judge_all()
    assert dead > len(points) / 2, f"{dead} of {len(points)} were killed"


# ---- without a fault ----


@pytest.fixture
def busy(path: Path) -> Iterator[embq.Queue[Any]]:
    """A queue of a file whose write lock another connection has."""
    with embq.open(path) as broker:
        queue = broker.queue("q")
        foreign = sqlite3.connect(path, isolation_level=None)
        foreign.execute("begin immediate")
        yield queue
        foreign.close()
        assert queue.depth() == 0


def test_the_pauses(busy: embq.Queue[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """They are drawn from 0 up to a bound that doubles from 50 ms on, up to 2 s."""
    drawn: list[tuple[float, float]] = []

    def uniform(least: float, most: float) -> float:
        drawn.append((least, most))
        return least

    monkeypatch.setattr(_retrier.random, "uniform", uniform)
    with pytest.raises(embq.Busy):
        busy.send("x", retries=8, timeout=0.001)
    bounds = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert drawn == [(0, pytest.approx(bound)) for bound in bounds]


def test_the_timeout_is_that_of_a_try(
    busy: embq.Queue[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try has the whole of it."""
    monkeypatch.setattr(_retrier.random, "uniform", lambda least, most: least)  # noqa: ARG005
    began = time.monotonic()
    with pytest.raises(embq.Busy):
        busy.send("x", retries=2, timeout=0.2)
    assert 0.55 < time.monotonic() - began < 5


def test_a_pause_can_be_interrupted(
    busy: embq.Queue[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler that raises ends the call in its pause."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_retrier.random, "uniform", lambda least, most: 60.0)  # noqa: ARG005
    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.get_ident()
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGUSR1))
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            busy.send("x", retries=1, timeout=0.001)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
