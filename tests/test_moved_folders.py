"""A folder above a live file is moved, or something is mounted over it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Children

import embq

MOUNTER = """
    import os, subprocess, sys
    import embq
    queue = embq.open(sys.argv[1], durability="normal").queue("q")
    for number in range(3):
        queue.send(number)
    folder = os.path.dirname(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    try:
        queue.send("lost")
    except embq.DatabaseReplaced:
        print("said")
"""


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """Name a file two folders down."""
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    return folder / "test.db"


@pytest.mark.parametrize("level", ["inner", "outer"])
def test_a_folder_is_moved(deep: Path, level: str) -> None:
    """CASE 12: `DatabaseReplaced` also when a folder above the file gets another name.

    And not before: what else happens to the names harms nothing.
    """
    with embq.open(deep, durability="normal") as broker:
        queue = broker.queue("q")
        for number in range(3):
            queue.send(number)
            deep.chmod(0o600)
            (deep.parent / "other").touch()
            queue.send(number)
        folder = deep.parent if level == "inner" else deep.parent.parent
        folder.rename(folder.with_name("moved"))
        with pytest.raises(embq.DatabaseReplaced):
            queue.send("lost")


def test_a_folder_becomes_a_link(deep: Path) -> None:
    """CASE 12: a link in its place leads to the same file, until its end moves."""
    other = deep.parent.parent.with_name("other")
    other.mkdir()
    with embq.open(deep, durability="normal") as broker:
        queue = broker.queue("q")
        queue.send(1)
        queue.send(2)
        deep.parent.rename(other / "inner")
        deep.parent.symlink_to(other / "inner")
        queue.send(3)
        queue.send(4)
        other.rename(other.with_name("gone"))
        with pytest.raises(embq.DatabaseReplaced):
            queue.send("lost")


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="mounts need root"
)
def test_a_mount_over_the_folder(deep: Path, children: Children) -> None:
    """CASE 12: a mount that hides the file is noticed as well."""
    prefix = ("unshare", "--mount", "--propagation", "private")
    probe = subprocess.run([*prefix, "true"], check=False, capture_output=True)
    if probe.returncode:
        pytest.skip("no mount namespaces here")
    child = children.start(MOUNTER, deep, prefix=prefix)
    assert children.finish(child) == "said\n"
