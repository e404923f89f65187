"""What is to be done once, by many processes: killed, interrupted, forked, closed."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import DEATH_NOTICED_S, PATIENCE_S, Children
from rig.interpose import Stage

import embq

if TYPE_CHECKING:
    from collections.abc import Iterator

TOLD = 3  # the exit of a child that was told

RACE = """
    import os, sys, threading, embq
    path, log, keys, threads = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    once = embq.open(path, durability="normal").idempotency("race")
    done = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def work():
        for key in range(keys):
            def effect():
                os.write(done, f"{key} {os.getpid()}\\n".encode())
                return [key, os.getpid()]
            assert once.run(str(key), effect)[0] == key
    print("ready", flush=True)
    sys.stdin.readline()
    all = [threading.Thread(target=work) for _ in range(threads)]
    [one.start() for one in all]
    [one.join() for one in all]
"""

HANG = """
    import sys, time, embq
    once = embq.open(sys.argv[1], durability="normal").idempotency("s")
    def hang():
        print("begun", flush=True)
        time.sleep(60)
    once.run("a", hang)
"""


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Start the process whose children meet slow calls."""
    made = Stage("interrupted")
    yield made
    made.close()


def never() -> Any:
    """Be a function that must not be called."""
    pytest.fail("it was called again")


# ---- at once ----


def test_processes_at_once(path: Path, tmp_path: Path, children: Children) -> None:
    """CASE 58: of many threads of many processes one calls the function of a key."""
    log, keys = tmp_path / "log", 60
    racing = [children.start(RACE, path, log, keys, 3) for _ in range(3)]
    for child in racing:
        children.expect(child, "ready")
    for child in racing:
        children.tell(child)
    for child in racing:
        children.finish(child)
    done = [int(line.split()[0]) for line in log.read_text().splitlines()]
    assert sorted(done) == list(range(keys))
    with embq.open(path) as broker:
        assert broker.stats()["idempotency"]["race"]["size"] == keys
        assert broker.check() == []


def test_some_are_killed(path: Path, tmp_path: Path, children: Children) -> None:
    """CASE 17: what is done twice was done by one that was killed at it."""
    log, keys, doomed = tmp_path / "log", 200, 3
    racing = [children.start(RACE, path, log, keys, 2) for _ in range(2 + doomed)]
    for child in racing:
        children.expect(child, "ready")
    for child in racing:
        children.tell(child)
    for number, child in enumerate(racing[:doomed], 1):
        while not log.exists() or log.read_text().count("\n") < number * keys / 5:
            time.sleep(0.001)
        child.kill()
        child.wait(PATIENCE_S)
    for child in racing[doomed:]:
        children.finish(child)
    killed = {child.pid for child in racing[:doomed]}
    by: dict[str, list[int]] = {}
    for line in log.read_text().splitlines():
        key, pid = line.split()
        by.setdefault(key, []).append(int(pid))
    assert len(by) == keys
    for key, pids in by.items():
        again = [pid for pid in pids[:-1] if pid not in killed]
        assert not again, f"{key} was done by {pids}, of which {killed} were killed"
    with embq.open(path) as broker:
        assert broker.check() == []


def test_each_tries_in_turn(path: Path) -> None:
    """Where each fails, each is called, and never two at once."""
    inside, calls = threading.Lock(), []

    def fail() -> None:
        assert inside.acquire(blocking=False), "two at once"
        time.sleep(0.01)
        calls.append(1)
        inside.release()
        raise LookupError

    def work() -> None:
        with pytest.raises(LookupError):
            once.run("a", fail)

    with embq.open(path) as broker, ThreadPoolExecutor(6) as pool:
        once = broker.idempotency("s")
        for one in [pool.submit(work) for _ in range(6)]:
            one.result()
    assert len(calls) == 6


def test_the_end_wakes(path: Path, children: Children) -> None:
    """Who waits in another process gets the result with the commit, not by looking."""
    code = """
        import sys, time, embq
        once = embq.open(sys.argv[1], durability="normal").idempotency("s")
        for number in range(20):
            print("go", flush=True)
            sys.stdin.readline()
            once.run(str(number), lambda: 1 / 0)
            print(time.monotonic(), flush=True)
    """
    child = children.start(code, path)
    late = []
    with embq.open(path, durability="normal") as broker:
        once = broker.idempotency("s")
        for number in range(20):
            children.expect(child, "go")

            def work() -> float:
                children.tell(child)
                time.sleep(0.05)
                return time.monotonic()

            begun = once.run(str(number), work)
            assert child.stdout is not None
            late.append(float(child.stdout.readline()) - begun)
    late.sort()
    assert late[10] < 0.1, f"it looks: {late}"


# ---- ends ----


def test_killed(path: Path, children: Children) -> None:
    """CASE 17: what a killed process was at, another does, about a second later."""
    child = children.start(HANG, path)
    children.expect(child, "begun")
    with embq.open(path) as broker:
        once = broker.idempotency("s")
        with pytest.raises(embq.Busy):
            once.run("a", never, timeout=0.1)
        child.kill()
        killed = time.monotonic()
        assert once.run("a", lambda: "mine", timeout=PATIENCE_S) == "mine"
        assert time.monotonic() - killed < DEATH_NOTICED_S
        assert broker.check() == []


def test_closed_in_the_middle(path: Path) -> None:
    """CASE 38: a function that closes its broker keeps its key from nobody."""
    with embq.open(path) as other:
        broker = embq.open(path)
        with pytest.raises(embq.Closed):
            broker.idempotency("s").run("a", broker.close)
        assert other.idempotency("s").run("a", lambda: 1, timeout=DEATH_NOTICED_S) == 1


def test_the_last_close(path: Path) -> None:
    """Nor does the last one; and a new one of this process knows of no other."""
    broker = embq.open(path)
    with pytest.raises(embq.Closed):
        broker.idempotency("s").run("a", broker.close)
    with embq.open(path) as again:
        assert again.idempotency("s").run("a", lambda: 1, timeout=0) == 1


def test_close_ends_the_wait(path: Path) -> None:
    """CASE 32: who waits for another is told `Closed`, by its own broker's close."""
    with embq.open(path) as other, ThreadPoolExecutor(1) as pool:
        broker = embq.open(path)
        once = broker.idempotency("s")

        def work() -> int:
            waiting = pool.submit(once.run, "a", never, timeout=PATIENCE_S)
            time.sleep(0.1)
            broker.close()
            with pytest.raises(embq.Closed):
                waiting.result(PATIENCE_S)
            return 1

        assert other.idempotency("s").run("a", work) == 1


def test_a_copy(path: Path, tmp_path: Path) -> None:
    """In a copy of a file nobody is at anything, and what is stored is known."""
    copy = tmp_path / "copy.db"

    def work() -> int:
        broker.backup(copy)
        return 1

    with embq.open(path) as broker:
        once = broker.idempotency("s")
        once.set("b", 2)
        assert once.run("a", work) == 1
    with embq.open(copy) as broker:
        once = broker.idempotency("s")
        assert once.run("a", lambda: 3, timeout=0) == 3
        assert once.get("b") == 2
        assert broker.check() == []


def test_abandoned_in_its_group(path: Path, stage: Stage) -> None:
    """CASE 35: a begin that its caller left in its commit is taken back."""
    assert stage.run("abandoned_in_its_group", str(path)).get() == "second"


def test_a_fork_in_the_middle(path: Path) -> None:
    """CASE 30: what was begun is the parent's; the child cannot end it."""
    with embq.open(path) as broker:
        once = broker.idempotency("s")

        def fork() -> str:
            nonlocal child
            child = os.fork()
            if child == 0:
                return "child"
            status = os.waitpid(child, 0)[1]  # so that it ends first
            assert os.waitstatus_to_exitcode(status) == TOLD
            return "parent"

        child = -1
        try:
            came = once.run("a", fork)
        except embq.Closed:
            os._exit(TOLD)
        if child == 0:
            os._exit(TOLD + 1)
        assert came == "parent"
        assert once.get("a") == "parent"


def test_a_child_that_fails_frees_nothing(path: Path) -> None:
    """CASE 30: an exception in the forked child leaves the key the parent's."""
    with embq.open(path) as broker:
        once = broker.idempotency("s")

        def fork() -> str:
            nonlocal child
            child = os.fork()
            if child == 0:
                broker.ping()  # it opens the file
                raise LookupError
            os.waitpid(child, 0)
            time.sleep(0.1)
            with pytest.raises(embq.Busy):
                once.run("a", never, timeout=0)
            return "parent"

        child = -1
        try:
            assert once.run("a", fork) == "parent"
        except LookupError:
            broker.flush()
            os._exit(0)
        assert child > 0


class Now(Exception):
    """Raised by the handler of `alarms_raise`."""


@contextlib.contextmanager
def alarms_raise() -> Iterator[None]:
    """Let SIGALRM raise `Now`; at the end none comes any more."""

    def raise_now(*_: object) -> None:
        raise Now

    before = signal.signal(signal.SIGALRM, raise_now)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_signals_at_any_moment(path: Path) -> None:
    """CASE 35: a handler that raises, wherever it comes, leaves no key taken."""
    interrupted = 0
    with alarms_raise(), embq.open(path, durability="normal") as broker:
        once = broker.idempotency("s")
        for number in range(400):
            key = str(number)
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 130))
                once.run(key, lambda: "first")
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Now:
                interrupted += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert once.run(key, lambda: "second") in ("first", "second")
    assert interrupted > 20


def test_a_signal_while_it_waits(path: Path) -> None:
    """CASE 35: a handler that raises ends the wait; the one in flight goes on."""
    with alarms_raise(), embq.open(path) as broker, ThreadPoolExecutor(1) as pool:
        once = broker.idempotency("s")
        begun, ends = threading.Event(), threading.Event()

        def work() -> int:
            begun.set()
            ends.wait(PATIENCE_S)
            return 1

        running = pool.submit(once.run, "a", work)
        begun.wait(PATIENCE_S)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            with pytest.raises(Now):
                once.run("a", never, timeout=PATIENCE_S)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            ends.set()
        assert running.result(PATIENCE_S) == 1
        assert once.run("a", never) == 1
