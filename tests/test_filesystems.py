"""File systems on which WAL mode loses data: refused before the file is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import Children
from rig.interpose import Stage

import embq
from embq.cli import cli

HERE = Path(__file__).parent
# linux/magic.h
REFUSED = {
    "NFS": 0x6969,
    "SMB": 0x517B,
    "CIFS": 0xFF534D42,
    "SMB2": 0xFE534D42,
    "9p": 0x01021997,
    "FUSE": 0x65735546,
    "Ceph": 0x00C36400,
}
TAKEN = {"ext4": 0xEF53, "overlay": 0x794C7630, "tmpfs": 0x01021994, "xfs": 0x58465342}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A process in which statfs says what a test wants."""
    made = Stage("places")
    yield made
    made.close()


@pytest.mark.parametrize("name", REFUSED)
def test_where_it_is_refused(stage: Stage, tmp_path: Path, name: str) -> None:
    """CASE 15: `UnsupportedFilesystem` says which; no byte is written, none is made."""
    there, new, made = stage.run("opened", str(tmp_path), REFUSED[name]).get()
    assert f"on {name}," in there
    assert f"on {name}," in new
    assert "allow_unsafe_filesystem=True" in new
    assert made == []


@pytest.mark.parametrize("name", TAKEN)
def test_where_it_is_not(stage: Stage, tmp_path: Path, name: str) -> None:
    """CASE 15: a file system of this machine is taken."""
    there, new, made = stage.run("opened", str(tmp_path), TAKEN[name]).get()
    assert (there, new) == ("opened", "opened")
    assert "new.db" in made


def test_it_may_be_allowed(stage: Stage, tmp_path: Path) -> None:
    """CASE 15: who allows it is taken there, and only who does."""
    assert stage.run("allowed", str(tmp_path), REFUSED["NFS"]).get() == 1


@pytest.fixture
def fuse(tmp_path: Path) -> Iterator[Path]:
    """A folder that is a FUSE file system, over the folder "below"."""
    below, mount_point = tmp_path / "below", tmp_path / "fuse"
    below.mkdir()
    mount_point.mkdir()
    if os.geteuid() or not Path("/dev/fuse").exists():
        pytest.skip("NO FUSE: this needs root and /dev/fuse; the lies remain")
    command = [sys.executable, str(HERE / "rig" / "fuse.py"), below, mount_point]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(
        command, **pipes, stderr=subprocess.PIPE, text=True
    ) as serving:  # type: ignore[call-overload]
        if serving.stdout.readline() != "mounted\n":
            pytest.skip(f"NO FUSE: {serving.stderr.read()}; the lies remain")
        yield mount_point
        serving.stdin.close()


def test_a_real_one(fuse: Path, children: Children) -> None:
    """CASE 15: on FUSE nothing is made, and where it is allowed the queue works."""
    path = fuse / "test.db"
    with pytest.raises(embq.UnsupportedFilesystem, match="FUSE"):
        embq.open(path)
    assert list(fuse.with_name("below").iterdir()) == []
    options = ["--file", str(path), "--allow-unsafe-filesystem"]
    sent = CliRunner().invoke(cli, [*options, "send", "--create", "q", "one"])
    assert sent.exit_code == 0, sent.output
    with embq.open(path, allow_unsafe_filesystem=True) as broker:
        children.run(
            """
            import sys, embq
            with embq.open(sys.argv[1], allow_unsafe_filesystem=True) as broker:
                broker.queue("q").send("two")
            """,
            path,
        )
        found = broker.queue("q").receive_many(5, auto_ack=True)
        assert [message.data for message in found] == ["one", "two"]
        assert broker.check() == []
    with pytest.raises(embq.UnsupportedFilesystem):
        embq.open(path)
