"""The WAL-reset bug of SQLite 3.7.0 to 3.51.2: a checkpoint meets a writer.

A checkpoint that finds everything done reads the WAL-index header. Before it reads how
much is done, a writer starts the WAL over. So the checkpoint sees nothing done of the
old WAL, and notes at its end that as many frames of the new one are in the database.
They are not: the next checkpoint skips them, and their pages are lost.

The schedule is made step by step in a process of its own (rig/wal_schedule.py), first
with plain connections, then with the checkpoints of embq's keeper.
"""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from embq import _sqlite

TESTS = Path(__file__).parent
PATIENCE_S = 60.0


def run(kind: str, path: Path) -> tuple[int, bool, str]:
    """Run a schedule: how often the window was met, a writer refused, and the harm."""
    command = [sys.executable, "-m", "rig.wal_schedule", kind, str(path)]
    done = subprocess.run(
        command, check=False, cwd=TESTS, capture_output=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr.decode()
    windows, refused, harm = json.loads(done.stdout)
    return windows, refused, harm


@pytest.fixture
def bug() -> None:
    """Need a library that has the bug: with a fixed one nothing is lost."""
    major, minor, patch = sqlite3.sqlite_version_info
    if not _sqlite.may_lose_pages(major * 1_000_000 + minor * 1000 + patch):
        pytest.skip(
            f"SQLITE {sqlite3.sqlite_version} IS FIXED: the bug cannot be shown"
        )


def test_plain_connections_lose_pages(path: Path, bug: None) -> None:
    """CASE 29: an unguarded checkpoint and a writer lose what was committed."""
    windows, _, harm = run("plain", path)
    assert windows == 1
    assert harm, "nothing was lost: is this SQLite fixed?"


def test_a_guard_without_its_lock_loses_pages(path: Path, bug: None) -> None:
    """The keeper's checkpoint does so, too, without its read transaction's lock."""
    windows, _, harm = run("void", path)
    assert windows == 1
    assert harm, "the guard is not what protects: this file proves nothing"


@pytest.mark.parametrize("kind", ["held", "late"])
def test_the_guard(path: Path, kind: str) -> None:
    """CASE 29: begun behind a read transaction a checkpoint is harmless.

    "held": while that stands, others bring the whole WAL into the database and write.
    "late": they bring it there just before, so that the transaction reads none of the
    WAL and lets it start over; then it is in the way of the checkpoint itself.
    """
    windows, _, harm = run(kind, path)
    assert windows == 1, "the schedule was not met"
    assert not harm, harm


def test_the_last_of_the_wal(path: Path) -> None:
    """CASE 29: the one that lets the WAL start over has the write lock."""
    windows, refused, harm = run("last", path)
    assert windows >= 1, "the schedule was not met"
    assert refused, "a writer came in between"
    assert not harm, harm
