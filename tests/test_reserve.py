"""The disk reserve: how much it is, and what goes on when it is reached.

Disks of any size are a lie of the rig here; test_full_disk.py has a real small one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rig.interpose import Stage

MIB = 1 << 20
SLACK = MIB // 2  # a send is reckoned at its bytes twice, and 64 KiB


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A process in which the disk is what a test wants."""
    made = Stage("places")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("size", "given", "reserve"),
    [
        (100 * MIB, None, 5 * MIB),
        (1 << 30, None, (1 << 30) // 20),
        (1280 * MIB, None, 64 * MIB),
        (1 << 40, None, 64 * MIB),
        (1 << 40, 1 << 32, 1 << 32),
        (100 * MIB, 0, 0),
    ],
)
def test_how_much_it_is(
    stage: Stage, tmp_path: Path, size: int, given: int | None, reserve: int
) -> None:
    """CASE 23: 5 % of the file system and at most 64 MiB, or what `open` was told."""
    needed = stage.run("least", str(tmp_path), size, given).get()
    assert reserve < needed < reserve + SLACK


def test_all_but_sends_go_on(stage: Stage, tmp_path: Path) -> None:
    """CASE 23: with nothing left all verbs but the sending ones pass, and then they."""
    left = stage.run("drained", str(tmp_path)).get()
    assert left == {"q": 1, "other": 0, "q.dead": 1}
