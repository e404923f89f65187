"""A process that was stopped while it held the gate keeps no other from ending."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Children
from test_forking import HEAD

import embq

# Ends before the ten seconds that close() has for roles, and after the second that it
# has for taking leave in the file.
CLOSED_S = 7

# It knows nothing of SQLite, so that the gate alone is what it holds.
HOLDER = """
    import fcntl, os, signal, sys
    wal = open(sys.argv[1] + "-wal")
    fcntl.flock(wal, fcntl.LOCK_EX)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@contextmanager
def stopped(children: Children, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that takes the gate and is stopped there; let it go on."""
    child = children.start(HOLDER, path)
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), "it ended before it was stopped"
    yield child
    child.send_signal(signal.SIGCONT)
    children.finish(child)


def test_close(path: Path, children: Children) -> None:
    """CASE 32: `close` does not wait for a keeper that waits in the gate."""
    with embq.open(path) as broker:
        broker.queue("q").send("before")
    broker = embq.open(path, busy_timeout=0.2)
    queue = broker.queue("q")
    with stopped(children, path):
        with pytest.raises(embq.Busy):
            queue.send("too late")
        begun = time.monotonic()
        with pytest.raises(embq.Busy):
            broker.close()  # it could not see whether all is stored
        assert time.monotonic() - begun < CLOSED_S
    with embq.open(path) as again:
        found = again.queue("q").receive_many(9)
        assert [message.data for message in found] == ["before"]


def test_fork(path: Path, children: Children) -> None:
    """CASE 30: nor is a fork beside it refused: parent and child both go on."""
    code = """
    queue.send("before")
    print("open", flush=True)
    sys.stdin.readline()
    try:
        queue.send("too late", timeout=0.2)
    except errors.Busy:
        pass
    pid = os.fork()
    if pid == 0:
        try:
            queue.send("child", timeout=20)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    print("forked", flush=True)
    queue.send("parent", timeout=20)
    join(pid)
    found = sorted(m.data for m in queue.receive_many(9))
    assert found == ["before", "child", "parent"], found
    """
    child = children.start(HEAD + code, path)
    children.expect(child, "open")
    with stopped(children, path):
        children.tell(child)
        children.expect(child, "forked")
    children.finish(child)
