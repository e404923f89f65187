"""Fault loops: the Nth call fails, for every N; and storms, limits, a slow disk."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig.court import Court, Stages, spread
from rig.interpose import COUNT, FAIL, FOREVER, SHORT, Outcome

POINTS, POINTS_FOR_GOOD = 16, 6  # of a fault, unless --soak
STAGES = 6
AWHILE = 50  # calls
MAX_RECEIVES = 2  # of the queue of a life
NOTED = 2  # errors of one fault: of a staged call, and of the flush that tells it


@dataclass(frozen=True)
class Fault:
    """A way in which a call fails."""

    call: str
    error: int  # errno; 0: it is short
    raises: set[str]  # what a user may see
    lasts: int = 1
    passing: bool = True  # the broker goes on with what it has open

    def __str__(self) -> str:
        name = errno.errorcode.get(self.error, "short")
        how = {1: "once", AWHILE: "a while"}.get(self.lasts, "for good")
        return f"{self.call}-{name}-{how}"


IO = {"StorageIOError"}
GONE = {"Closed"}  # nothing can be opened any more
FAULTS = [
    # Opened anew then; a message of the broker before says Closed.
    Fault("pwrite", errno.EIO, IO | GONE | {"CommitUncertain"}, passing=False),
    Fault("pwrite", errno.EIO, IO | GONE | {"CommitUncertain"}, FOREVER),
    Fault("pwrite", errno.ENOSPC, IO | {"StorageFull"}),
    Fault("pwrite", errno.ENOSPC, IO | GONE | {"StorageFull"}, FOREVER),
    Fault("pwrite", errno.EFBIG, IO | {"StorageFull"}),
    Fault("pwrite", 0, IO),
    Fault("fsync", errno.EIO, IO | {"CommitUncertain"}, passing=False),
    Fault("fsync", errno.EIO, IO | GONE | {"CommitUncertain"}, FOREVER),
    # SQLite says that of a file system that cannot be read.
    Fault("pread", errno.EIO, IO | {"Corrupt"}),
    Fault("pread", errno.EIO, IO | GONE | {"Corrupt"}, FOREVER),
    Fault("pread", 0, IO),
    # SQLite then tries to open it for reading alone.
    Fault("open", errno.EMFILE, IO | {"LimitReached", "StorageReadOnly"}),
    Fault("open", errno.EMFILE, IO | GONE | {"LimitReached"}, FOREVER),
    Fault("mmap", errno.ENOMEM, IO | {"NoMemory"}),
    Fault("mmap", errno.ENOMEM, IO | GONE | {"NoMemory"}, FOREVER),
    Fault("malloc", errno.ENOMEM, {"NoMemory"}),
    Fault("malloc", errno.ENOMEM, GONE | {"NoMemory"}, FOREVER),
    Fault("ftruncate", errno.EIO, IO),
    Fault("fcntl", errno.EAGAIN, IO | {"Busy"}),
    Fault("fcntl", errno.EAGAIN, IO | GONE | {"Busy"}, AWHILE),
    Fault("fcntl", errno.ENOLCK, IO | {"Busy"}),
    Fault("flock", errno.ENOLCK, IO),
    Fault("flock", errno.ENOLCK, IO | GONE, FOREVER),
    Fault("unlink", errno.EIO, IO),
]


@pytest.fixture(scope="module")
def lives() -> Iterator[Stages]:
    """Stages for whole lives."""
    with closing(Stages("rig.life", STAGES)) as made:
        yield made


@pytest.fixture(scope="module")
def troubles() -> Iterator[Stages]:
    """A stage for single troubles."""
    with closing(Stages("rig.troubles", 1)) as made:
        yield made


@pytest.fixture
def court() -> Iterator[Court]:
    """Who judges the files."""
    with closing(Court(max_receives=MAX_RECEIVES)) as made:
        yield made


def check_life(fault: Fault, name: str, seen: dict[str, Any]) -> None:
    """What a life has seen is what this fault may show, and nothing has leaked."""
    raised = {kind for _, kind, _ in seen["errors"]}
    assert raised <= fault.raises, f"{name}: {seen['errors']}"
    assert not seen["errors_after"], f"{name}: {seen['errors_after']}"
    assert seen["files"] <= 0, f"{name}: {seen['files']} descriptors leaked"
    assert seen["memory"] <= 0, f"{name}: {seen['memory']} allocations leaked"
    if fault.lasts == 1 and fault.passing:
        assert not seen["reopened"], f"{name}: it did not go on: {seen['errors']}"
        assert len(seen["errors"]) <= NOTED, f"{name}: {seen['errors']}"


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_the_nth_call_fails(
    fault: Fault, lives: Stages, court: Court, tmp_path: Path, *, soak: bool
) -> None:
    """CASES 21, 22, 24: every error is embq's; what was confirmed is there, once."""

    def live(name: str, action: int, first: int, last: int) -> Future[Outcome]:
        arguments = (fault.call, action, first, last, fault.error)
        return lives.start("perform", str(tmp_path / name), *arguments)

    count = live("whole", COUNT, 1, 1).result().get()["seen"]
    most = POINTS if fault.lasts == 1 else POINTS_FOR_GOOD
    action = FAIL if fault.error else SHORT
    runs = {
        f"{first}": live(f"{first}", action, first, first + fault.lasts - 1)
        for first in spread(count, count if soak else most)
    }
    met = 0
    for name, run in runs.items():
        outcome = run.result()
        assert outcome.error is None, f"{name}: {outcome.error}"
        seen = outcome.get()
        check_life(fault, name, seen)
        met += seen["seen"] >= int(name)
        court.add(tmp_path / name)
    court.judge_all()
    assert met > len(runs) / 2, f"{met} of {len(runs)} met the fault"
    # Beyond the last call there is nothing to be met.
    seen = live("beyond", action, 2 * count + 1, FOREVER).result().get()
    assert not seen["errors"], seen["errors"]


@pytest.mark.parametrize(
    ("calls", "opened"),
    [
        (["flock"], 0),
        (["futex"], 0),
        (["pwrite"], 0),
        (["open"], 0),
        (["pread"], 0),
        # SQLite makes no sync again, and in steady state it makes none.
        (["fsync"], 1),
        (["flock", "futex", "pwrite", "open", "pread"], 0),
        (["fsync", "flock", "futex", "pwrite", "pread"], 1),
    ],
    ids=str,
)
def test_a_storm_of_interruptions(
    calls: list[str], opened: int, lives: Stages, court: Court, tmp_path: Path
) -> None:
    """CASE 22: with every second call interrupted every verb works."""
    arguments = (calls, FAIL, 1, FOREVER, errno.EINTR, 2, opened)
    seen = lives.run("perform", str(tmp_path / "storm"), *arguments)
    assert seen["seen"] > 1
    assert not seen["errors"], seen["errors"]
    court.add(tmp_path / "storm")
    court.judge_all()


@pytest.mark.parametrize("reader", [False, True], ids=["alone", "beside a reader"])
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_no_full_send_is_confirmed(
    for_good: object, reader: object, troubles: Stages, court: Court, tmp_path: Path
) -> None:
    """CASE 21: after a failed fsync; once the WAL has started over they are again."""
    seen = troubles.run("broken_sync", str(tmp_path / "file"), for_good, reader)
    assert seen["first"] == "CommitUncertain"
    assert seen["beside"] == "", "sends at normal go on"
    assert set(seen["refused"]) <= {"", "StorageIOError"}, seen
    if for_good or reader:  # else the keeper may mend it before the next send
        assert "StorageIOError" in seen["refused"], seen
        assert not seen["early"], "confirmed, and the WAL had not started over"
        assert not seen["over_early"]
    assert seen["healed"], "refused for ever"
    assert seen["over"], "confirmed, and the WAL had not started over"
    court.add(tmp_path / "file")
    court.judge_all()


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_close_tells_what_failed(
    call: str, troubles: Stages, court: Court, tmp_path: Path
) -> None:
    """CASE 21: a staged send that failed is told by close(), with the reason."""
    kind, text = troubles.run("close_after", str(tmp_path / "file"), call)
    assert kind in ("CommitUncertain", "StorageIOError")
    assert ("fsync" if call == "fsync" else "disk I/O error") in text
    court.add(tmp_path / "file")
    court.judge_all()


def test_a_sync_of_two_seconds(troubles: Stages, court: Court, tmp_path: Path) -> None:
    """CASE 25: `timeout` is kept, nothing is stored twice, acks are not held up."""
    seen = troubles.run("slow_sync", str(tmp_path / "file"), 2.0, 0.3)
    errors = [error for error, _ in seen["limited"]]
    assert "CommitUncertain" in errors, "it was on its way to the disk"
    assert set(errors) <= {"Busy", "CommitUncertain"}, errors
    assert max(took for _, took in seen["limited"]) < 1.5
    assert [error for error, _ in seen["patient"]] == [""] * 3
    assert min(took for _, took in seen["patient"]) > 1, "confirmed without a sync"
    assert max(seen["acks"]) < 0.5, "acks waited for the fsync of others"
    court.add(tmp_path / "file")
    court.judge_all()


def test_a_fork_that_cannot_wait(
    troubles: Stages, court: Court, tmp_path: Path
) -> None:
    """CASE 31: the child is told that it was forked in the middle; it does not hang."""
    seen = troubles.run("fork_beside_slow_sync", str(tmp_path / "file"), 3.0)
    assert seen == {"child": ["Forked"] * 3, "after": ""}
    court.add(tmp_path / "file")
    court.judge_all()


def test_files_that_may_not_grow(
    troubles: Stages, court: Court, tmp_path: Path
) -> None:
    """CASE 24: RLIMIT_FSIZE is `StorageFull`; lifted, the same broker goes on."""
    seen = troubles.run("no_longer_files", str(tmp_path / "file"))
    assert set(seen["errors"]) == {"StorageFull"}
    assert seen["again"] == ["", "", ""]
    assert seen["leaked"] == 0
    court.add(tmp_path / "file")
    court.judge_all()


def test_no_descriptors_are_left(
    troubles: Stages, court: Court, tmp_path: Path
) -> None:
    """CASE 24: RLIMIT_NOFILE fails open() clearly, leaks nothing, and can be lifted."""
    seen = troubles.run("no_descriptors", str(tmp_path / "file"))
    assert set(seen["errors"]) <= {"LimitReached", "StorageIOError"}, seen
    assert seen["errors"]["LimitReached"] > 3, seen
    assert max(seen["leaked"]) <= 1, "more than the descriptor that guards the file"
    court.add(tmp_path / "file")
    court.judge_all()
