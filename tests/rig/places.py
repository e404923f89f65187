"""Where a file is: what is told of its file system is a lie.

See test_filesystems.py and test_reserve.py. Each function is called in a child of a
stage.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from pathlib import Path

import embq

LOOK_S = 0.051  # the core asks how much room there is every 50 ms
STEP = 64 << 10
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


def disk(size: int, left: int) -> None:
    """Let every file system have this size and so much room, in bytes."""
    _c.rig_disk(ctypes.c_long(size), ctypes.c_long(left))
    time.sleep(LOOK_S)


def least(folder: str, size: int, given: int | None) -> int:
    """Return how much room, to 64 KiB, a send of nothing needs on a disk of this size.

    Args:
        folder: Where the file is.
        size: Of the disk, in bytes.
        given: `disk_reserve`.
    """
    path = Path(folder, "test.db")
    with embq.open(path, durability="normal", disk_reserve=given) as broker:
        queue = broker.queue("q", codec="raw")
        low, high = 0, size
        while high - low > STEP:
            middle = (low + high) // 2
            disk(size, middle)
            try:
                queue.send(b"")
                high = middle
            except embq.StorageFull:
                low = middle
    return high


def drained(folder: str) -> dict[str, int]:
    """Do all that is no send with not a byte left; then send again.

    Returns:
        How many messages each queue has then.
    """
    path = Path(folder, "test.db")
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        queue.send_many(list(range(20)))
        disk(1 << 30, 0)
        for send in (queue.send, lambda data: queue.send_many([data])):
            with contextlib.suppress(embq.StorageFull):
                send("too much")
                return {}
        held = queue.receive_many(4)
        held[0].ack()
        held[1].nack(delay=1000)
        held[2].reject("enough")
        held[3].extend(100)
        held[3].ack_nowait()
        broker.flush()
        waiting, *_ = queue.peek(1)
        assert queue.cancel(waiting.id)
        queue.configure(max_receives=7)
        queue.pause()
        queue.resume()
        other = broker.queue("other")  # a queue is a row, and a row is little
        assert len(queue.receive_many(5, auto_ack=True)) == 5
        assert queue.purge() == 11
        disk(1 << 30, 1 << 29)
        queue.send("again")
        return {one.name: one.depth() for one in (queue, other, broker.queue("q.dead"))}
