"""Paths and files: taken literally, owned by one user, refused before anything is done.

Nothing is read-only for root, so the test of that becomes somebody else.
"""

import os
import shutil
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import Children

import embq

NOBODY = 65534
OPEN = """
    import os, sys, embq
    os.umask(0o{umask})
    broker = embq.open(sys.argv[1])
    broker.queue("q").send(1)
    print("ready", flush=True)
    sys.stdin.readline()
    broker.close()
"""
AS_NOBODY = f"""
    import os, sys, embq
    with embq.open(sys.argv[2]) as broker:  # imports what may be root's alone
        broker.queue("q")
    os.setgid({NOBODY})
    os.setuid({NOBODY})
    try:
        embq.open(sys.argv[1])
    except embq.StorageReadOnly as error:
        assert sys.argv[1] in str(error), error
        print("refused")
"""


@pytest.mark.parametrize(
    "name",
    ["a?b.db", "a#b.db", "file:c.db", "file:d.db?mode=memory", "100%25.db", "a\nb.db",
     "ü\U0001f600.db", " .db", "-wal"],
)  # fmt: skip
def test_a_path_is_literal(tmp_path: Path, name: str) -> None:
    """CASE 8: what is special to a URI or a shell is a file name like any other."""
    folder = tmp_path / "f"
    folder.mkdir()
    with embq.open(folder / name) as broker:
        broker.queue("q").send(1)
        names = {name, f"{name}-wal", f"{name}-shm"}
        assert {path.name for path in folder.iterdir()} == names
    with embq.open(folder / name, create=False) as broker:
        assert broker.queue("q").depth() == 1


def test_a_path_of_bytes_that_are_no_text(tmp_path: Path) -> None:
    """CASE 8: a path of any bytes names that file."""
    path = os.fsencode(tmp_path) + b"/\xff\xfe.db"
    with embq.open(path) as broker:
        broker.queue("q").send(1)
    assert Path(os.fsdecode(path)).exists()


@pytest.mark.parametrize("path", ["", "a\0b", b"\0", 7, None, ":memory:"])
def test_what_is_no_path(path: object) -> None:
    """CASE 8: an empty path, a NUL, a number, a queue in memory: `InvalidArgument`."""
    with pytest.raises(embq.InvalidArgument, match="path"):
        embq.open(path)  # type: ignore[arg-type]


def test_what_is_no_file(tmp_path: Path) -> None:
    """CASE 8: a folder is refused; in a missing folder nothing is created."""
    with pytest.raises(embq.InvalidArgument):
        embq.open(tmp_path)
    with pytest.raises(embq.NotFound):
        embq.open(tmp_path / "missing" / "a.db")
    with pytest.raises(embq.NotFound):
        embq.open(tmp_path / "a.db", create=False)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(embq.InvalidArgument):
        embq.open(tmp_path / "pipe")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_symbolic_and_hard_links(path: Path, children: Children) -> None:
    """CASE 9: a symbolic link is the same queue; a hard link is refused."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    with embq.open(path) as broker:
        queue = broker.queue("q")
        children.run(
            """
            import sys, embq
            with embq.open(sys.argv[1]) as broker:
                broker.queue("q").send("by the link")
            """,
            link,
        )
        assert queue.receive().data == "by the link"
        assert not link.with_name("link.db-wal").exists()
    hard = path.with_name("hard.db")
    os.link(path, hard)
    for name in (path, hard):
        with pytest.raises(embq.InvalidArgument, match="hard link"):
            embq.open(name)


@pytest.mark.parametrize("umask", ["000", "022", "077"])
def test_the_files_are_their_owners_alone(
    path: Path, children: Children, umask: str
) -> None:
    """CASE 11: all three files have mode 0600, whatever the umask."""
    child = children.start(OPEN.replace("{umask}", umask), path)
    children.expect(child, "ready")
    files = [path, path.with_name("test.db-wal"), path.with_name("test.db-shm")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 3
    children.tell(child)
    children.finish(child)


@pytest.mark.skipif(os.geteuid() != 0, reason="NEEDS ROOT: to become somebody else")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_read_only_is_said_when_opened(
    tmp_path: Path, children: Children, what: str
) -> None:
    """CASE 7: what cannot be written is `StorageReadOnly` when it is opened."""
    place = Path(tmp_path, "place")
    place.mkdir()
    path = place / "test.db"
    if what == "file":
        with embq.open(path) as broker:
            broker.queue("q").send(1)
        path.chmod(0o644)
    for folder in (place, *place.parents):
        if folder.stat().st_uid == os.geteuid() and folder != folder.parent:
            folder.chmod(folder.stat().st_mode | 0o055)
    before = path.read_bytes() if path.exists() else None
    assert children.run(AS_NOBODY, path, tmp_path / "ours.db").strip() == "refused"
    assert (path.read_bytes() if path.exists() else None) == before


ON_A_MOUNT = """
    import os, sys, embq
    place = sys.argv[1]
    for name in ("there.db", "not there.db"):
        try:
            embq.open(os.path.join(place, name))
        except embq.StorageReadOnly as error:
            assert place in str(error), error
            print("refused")
"""
# As root a mount namespace is enough; others need a user namespace, where they are.
MOUNTS = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift'


def test_a_read_only_mount_is_said_when_opened(tmp_path: Path) -> None:
    """CASE 7: even root, on a mount that cannot be written, whether the file is there.

    Nothing of it changes.
    """
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([*MOUNTS, "true"], check=False).returncode:
        pytest.skip(
            "NO MOUNTS: no mount namespace here, so a part of CASE 7 is untested"
        )
    path = tmp_path / "there.db"
    with embq.open(path) as broker:
        broker.queue("q").send(1)
    before = path.read_bytes()
    code = textwrap.dedent(ON_A_MOUNT)
    script = f'{READ_ONLY} && exec "$@"'
    words = ["sh", "-c", script, "sh", tmp_path, sys.executable, "-c", code, tmp_path]
    done = subprocess.run([*MOUNTS, *words], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["refused"] * 2, done.stderr
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["there.db"]
