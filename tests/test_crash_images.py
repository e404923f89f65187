"""Power loss: recorded runs are cut anywhere, and what a disk may then hold is opened.

`make crash` does the same for as long as one likes; tests/rig/crash.py says how.
"""

import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent / "rig"))

from crash import Job, Stages, again, crash, jobs
from images import Disk
from images_record import Record
from images_run import Failure
from images_workloads import WORKLOADS

import embq

IMAGES = 1200
SEED = "ci"
THREAD = 7
JOURNAL = bytes.fromhex("d9d505f920a163d7")


@pytest.fixture(scope="module")
def stages() -> Iterator[Stages]:
    """Two processes that record and judge."""
    made = Stages(2)
    yield made
    made.close()


@pytest.mark.parametrize("workload", WORKLOADS)
def test_power_is_cut(stages: Stages, workload: str) -> None:
    """CASES 4 and 20: full loses nothing, normal a suffix, and no image is corrupt."""
    todo = [job for job in jobs(IMAGES, SEED, [*WORKLOADS]) if job.workload == workload]
    counts, failures = crash(stages, todo)
    assert not failures, "\n".join(map(str, failures))
    assert counts.total() == sum(job.images for job in todo)


def test_the_images_are_as_many_as_promised() -> None:
    """The shares of the workloads add up."""
    shared = list(jobs(IMAGES, SEED, [*WORKLOADS]))
    assert sum(job.images for job in shared) >= IMAGES
    assert {job.workload for job in shared} == set(WORKLOADS)


@pytest.mark.parametrize("written", [b"", bytes(167), b"noise" * 1000])
def test_power_is_cut_in_the_first_write(path: Path, written: bytes) -> None:
    """CASE 4: a page that never got whole is taken back by its journal."""
    head = struct.pack(">8s5I", JOURNAL, 0, 1, 0, 512, 4096)  # of a file of no pages
    path.with_name("test.db-journal").write_bytes(head.ljust(512, b"\0"))
    path.write_bytes(written)
    with embq.open(path) as broker:
        broker.queue("q").send(1)
    assert not path.with_name("test.db-journal").exists()


@pytest.mark.parametrize("beside", [None, b"", b"a text of somebody"])
def test_a_journal_that_is_none_takes_nothing_back(
    path: Path, beside: bytes | None
) -> None:
    """CASE 1: what is no database stays as it is, whatever has the name beside it."""
    path.write_bytes(b"not a database")
    if beside is not None:
        path.with_name("test.db-journal").write_bytes(beside)
    with pytest.raises(embq.NotAnEmbqFile):
        embq.open(path)
    assert path.read_bytes() == b"not a database"


# ---- the rig finds what it is there for ----


def plant(stages: Stages, bug: str, workload: str) -> list[Failure]:
    """Do some images with a bug in the record."""
    todo = [Job(workload, f"{SEED}.{workload}.{n}", 60) for n in range(2)]
    _, failures = crash(stages, todo, bug)
    return failures


@pytest.mark.parametrize(
    ("bug", "workload", "told"),
    [
        ("no fsync", "full", "is gone (full)"),
        ("no fsync", "normal", "is gone (normal: a hole)"),
        ("no fsync", "once", "after it was removed and handed over"),
        ("no fsync", "reboot", "ids given out again"),
        ("no fsync", "lulls", "commit"),  # a checkpoint syncs the -wal as well
        ("no folder fsync", "creation", "is gone (full)"),
        ("early", "full", "is gone (full)"),
        ("early", "normal", "is gone (normal: a hole)"),
    ],
)
def test_a_planted_bug_is_found(
    stages: Stages,
    capsys: pytest.CaptureFixture[str],
    bug: str,
    workload: str,
    told: str,
) -> None:
    """A sync that is not made, or a confirmation too early, fails images, and again."""
    failures = plant(stages, bug, workload)
    assert any(told in text for one in failures for text in one.faults), failures
    first = next(one for one in failures if one.folder)
    assert again(Path(first.folder), first.cut, first.image, bug) == 1
    assert str(first) in capsys.readouterr().out
    shutil.rmtree(first.folder)


@pytest.mark.parametrize("workload", ["creation", "closing", "processes"])
def test_an_sqlite_that_syncs_no_folder(stages: Stages, workload: str) -> None:
    """Names are durable too where SQLite leaves that out (SQLITE_DISABLE_DIRSYNC)."""
    failures = plant(stages, "SQLite without folder fsync", workload)
    assert not failures, "\n".join(map(str, failures))


# ---- the disk ----


class Recorder:
    """A disk, and what is done to it."""

    def __init__(self, **base: bytes) -> None:
        self.disk = Disk(base)

    def do(self, kind: str, name: str, offset: int = 0, data: bytes = b"") -> None:
        """Append to the record."""
        self.disk.apply(Record(kind, name, offset, data))

    def sync(self, name: str) -> None:
        """Sync a file, or the folder."""
        self.do("S", name, THREAD)
        self.do("s", name, THREAD)

    def images(self, model: str) -> list[dict[str, bytes]]:
        """Make many images."""
        made = (self.disk.image(Random(seed), model) for seed in range(300))
        return [{n: bytes(c) for n, c in image.files.items()} for image in made]


def test_what_a_sync_covers_is_certain() -> None:
    """A write before the begin of a sync is in every image, one after it need not."""
    run = Recorder(a=b"..")
    run.do("W", "a", 0, b"1")
    run.do("S", "a", THREAD)
    run.do("W", "a", 1, b"2")
    assert {image["a"] for image in run.images("strict")} == {b"..", b"1.", b"12"}
    run.do("s", "a", THREAD)
    assert {image["a"] for image in run.images("strict")} == {b"1.", b"12"}
    assert run.disk.bare("strict").files == {"a": b"1."}
    assert run.disk.killed().files == {"a": b"12"}


@pytest.mark.parametrize("model", ["strict", "ordered"])
def test_a_write_is_torn_between_sectors_only(model: str) -> None:
    """Either side of a sector's edge may be there without the other."""
    run = Recorder(a=bytes(1024))
    run.do("W", "a", 510, b"1234")
    seen = {image["a"][510:514] for image in run.images(model)}
    assert seen == {bytes(4), b"12\0\0", b"\0\x0034", b"1234"}


@pytest.mark.parametrize("model", ["strict", "ordered"])
def test_a_sector_shows_the_file_as_it_was(model: str) -> None:
    """A later write to a sector brings the earlier ones along, over a lost one too."""
    run = Recorder(a=bytes(512))
    for n in range(4):
        run.do("W", "a", n, b"x")
    seen = {image["a"][:4].rstrip(b"\0") for image in run.images(model)}
    assert seen == {b"", b"x", b"xx", b"xxx", b"xxxx"}


def test_names_come_and_go_by_the_model() -> None:
    """By POSIX each on its own until the folder is synced, on ext4 in their order."""
    run = Recorder(old=b"")
    run.do("C", "a")
    run.do("C", "b")
    run.do("U", "old")

    def seen(model: str) -> set[str]:
        return {"".join(sorted(image)) for image in run.images(model)}

    alone = {"", "a", "b", "ab"}
    assert seen("strict") == alone | {"".join(sorted((*one, "old"))) for one in alone}
    assert seen("ordered") == {"old", "aold", "abold", "ab"}
    run.sync("b")
    assert len(seen("strict")) == 8
    assert seen("ordered") == {"abold", "ab"}
    run.sync("folder")
    assert seen("strict") == seen("ordered") == {"ab"}


def test_a_name_may_mean_an_earlier_file() -> None:
    """What was removed and made again may be the old file, whole, until then."""
    run = Recorder(a=b"old")
    run.do("U", "a")
    run.do("C", "a")
    run.do("W", "a", 0, b"new")
    run.sync("a")
    assert {image.get("a") for image in run.images("strict")} == {b"old", None, b"new"}
    assert {image.get("a") for image in run.images("ordered")} == {b"new"}


def test_a_file_may_grow_without_its_data() -> None:
    """By POSIX, and then it shows zeros or garbage; on ext4 it ends with its data."""
    run = Recorder(a=b"")
    run.do("W", "a", 0, b"x" * 1024)
    whole = {image["a"] for image in run.images("ordered")}
    assert whole == {b"", b"x" * 512, bytes(512) + b"x" * 512, b"x" * 1024}
    strict = {image["a"] for image in run.images("strict")}
    assert {0, 512, 1024} < {len(content) for content in strict}
    assert bytes(1024) in strict
    assert any(
        len(content) == 1024 and set(content) - set(b"x\0") for content in strict
    )
