"""Where a file is: what is told of its file system is a lie; see test_filesystems.py.

Each function is called in a child of a stage.
"""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

import embq

_c = ctypes.PyDLL(None)


def lie(kind: int) -> None:
    """Let every file system be of this type, as statfs tells it; 0: what it is."""
    _c.rig_filesystem(ctypes.c_long(kind))


def opened(folder: str, kind: int) -> tuple[str, str, list[str]]:
    """Open a new file and one that is there, where it is refused.

    Returns:
        What is said, and what is in the folder of the new file then.
    """
    there, new = Path(folder, "there.db"), Path(folder, "new", "new.db")
    new.parent.mkdir(parents=True)
    embq.open(there).close()
    before = there.read_bytes(), there.stat()
    lie(kind)
    said = []
    for path in (there, new):
        try:
            embq.open(path)
            said.append("opened")
        except embq.UnsupportedFilesystem as error:
            said.append(str(error))
            if path == there:
                assert (there.read_bytes(), there.stat()) == before
    return said[0], said[1], [one.name for one in new.parent.iterdir()]


def allowed(folder: str, kind: int) -> int:
    """Open it all the same, in this process and in a child of it."""
    lie(kind)
    path = Path(folder, "test.db")
    with embq.open(path, allow_unsafe_filesystem=True) as broker:
        queue = broker.queue("q")
        queue.send(1)
        with contextlib.suppress(embq.UnsupportedFilesystem):
            embq.open(path)
            return -1  # one broker's leave must not be another's
        return queue.depth()
