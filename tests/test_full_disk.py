"""A full disk: sends stop before it is, the rest goes on; and what comes after."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "rig" / "full_disk.py"
# As root a mount namespace is enough; others need a user namespace, where they are.
PREFIX = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
MOST_S = 60.0
FAIR_SHARE = 0.3  # of 8 MiB: a message is in the -wal and in the database


@pytest.fixture(scope="module")
def namespace() -> None:
    """A mount namespace can be made here."""
    if shutil.which("unshare") is None:
        pytest.skip("NO FULL DISK: there is no unshare, so CASE 23 is untested")
    made = subprocess.run(
        [*PREFIX, "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"NO FULL DISK, so CASE 23 is untested: {made.stderr}")


def run(folder: Path, *args: str) -> dict[str, Any]:
    """Let the script do its scene on a disk of 8 MiB."""
    command = [*PREFIX, sys.executable, str(SCRIPT)]
    done = subprocess.run(
        [*command, args[0], str(folder), *args[1:]],
        check=False,
        capture_output=True,
        text=True,
        timeout=MOST_S,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize(
    ("durability", "send", "drain"),
    [
        ("full", "send", "ack"),
        ("normal", "send", "loop"),
        ("normal", "send_many", "ack"),
        ("normal", "send_nowait", "ack"),
        ("normal", "send", "retry"),
        ("normal", "send", "reject"),
    ],
)
def test_sends_stop_and_acks_go_on(
    namespace: None, tmp_path: Path, durability: str, send: str, drain: str
) -> None:
    """CASE 23: `StorageFull`; then acks alone drain the queue, and it fills again."""
    seen = run(tmp_path, "reserve", durability, send, drain)
    assert seen["first"] > FAIR_SHARE * (8 << 20), seen
    assert seen["again"] > seen["first"] / 2, f"the room did not come back: {seen}"


def test_the_last_byte_is_another_s(namespace: None, tmp_path: Path) -> None:
    """CASE 23: with the reserve gone too nothing is lost, and all recovers."""
    seen = run(tmp_path, "filler", "full")
    assert set(seen["errors"]) == {"StorageFull"}, seen
    assert seen["again"] > FAIR_SHARE * (8 << 20), seen


def test_a_backup_that_does_not_fit(namespace: None, tmp_path: Path) -> None:
    """CASES 14 and 23: `StorageFull`, and nothing is left of it; the queue goes on."""
    seen = run(tmp_path, "backup", "normal")
    assert "backup to" in seen["refused"], seen
    assert not seen["left"], seen
    assert seen["depth"] == 1, seen


def test_an_ack_beside_sends_that_wait(namespace: None, tmp_path: Path) -> None:
    """CASES 23 and 57: an ack is stored, though none of those it makes room for is."""
    seen = run(tmp_path, "waiting", "normal")
    assert seen == {"errors": ["StorageFull"] * 2, "left": [200 << 10]}, seen
