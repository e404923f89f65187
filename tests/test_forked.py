"""Connections that are open across a fork: the child is told, and nothing is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import embq
from embq import errors

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Children

# `child()` does something in the child of a fork and gives what came of it: the name of
# an error, or the answer. `own` is a connection of the application, `held` what it does
# before the fork.
HEAD = """
    import _imp, ctypes, json, os, sqlite3, subprocess, sys
    path = sys.argv[1]

    def child(work, fork=os.fork):
        reader, writer = os.pipe()
        pid = fork()
        if pid == 0:
            try:
                answer = work()
            except BaseException as error:
                answer = type(error).__name__
            os.write(writer, json.dumps(answer, default=str).encode())
            os._exit(0)
        os.close(writer)
        answer = json.loads(os.read(reader, 10_000) or '"nothing said"')
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        return answer

    def own_connection(held="select count(*) from sqlite_master"):
        own = sqlite3.connect(path, isolation_level=None)
        for statement in held.split(";"):
            own.execute(statement).fetchall()
        return own

    def send_there():
        import embq
        with embq.open(path, durability="normal") as broker:
            broker.queue("q").send("child")
            return broker.queue("q").depth()
"""
OPEN = """
    import embq
    broker = embq.open(path, durability="normal")
    queue = broker.queue("q")
    queue.send("parent")
"""
DEADLOCK_S = 20.0

# What the application's connection did, and still does, when the process forks.
HELD = {
    "idle": "select count(*) from sqlite_master",
    "in a read": "begin; select count(*) from sqlite_master",
    "in a write": "begin immediate",
}
# All that may be the first thing that a child does.
VERBS = {
    "send": "queue.send(1)",
    "send_many": "queue.send_many([1])",
    "send_nowait": "queue.send_nowait(1)",
    "receive": "queue.receive()",
    "receive with wait": "queue.receive(wait=None)",
    "messages": "next(queue.messages(wait=0))",
    "ack": "held.ack()",
    "depth": "queue.depth()",
    "declare": "broker.queue('other').send(1)",
    "ping": "broker.ping()",
    "stats": "broker.stats()",
    "flush": "broker.flush()",
    "check": "broker.check()",
    "backup": "broker.backup(path + '.copy')",
    "peek": "queue.peek()",
    "purge": "queue.purge()",
    "open": "embq.open(path)",
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD.keys())
def test_an_own_connection_across_a_fork(
    children: Children, path: Path, held: str
) -> None:
    """CASE 31b: the child gets `Forked` and stores nothing; the parent goes on."""
    code = f"""
    own = own_connection({held!r})
    print(child(lambda: queue.send("child")), child(send_there))
    own.close()
    queue.send("after")
    print(queue.depth(), child(send_there))
    """
    answer = children.run(HEAD + OPEN + code, path, timeout=DEADLOCK_S)
    assert answer.splitlines() == ["Forked Forked", "2 3"]


def test_every_first_use_is_told(children: Children, path: Path) -> None:
    """CASE 31b: whatever a child does first to the file, it is told `Forked`."""
    code = f"""
    held = queue.receive()
    own = own_connection()
    verbs = {VERBS!r}
    print(json.dumps({{
        name: child(lambda: eval(verb)) for name, verb in verbs.items()
    }}))
    own.close()
    held.ack()
    assert queue.depth() == 0
    assert not os.path.exists(path + ".copy")
    """
    answer = children.run(HEAD + OPEN + code, path, timeout=DEADLOCK_S)
    assert json.loads(answer) == dict.fromkeys(VERBS, "Forked")


@pytest.mark.parametrize("kind", ["a file of embq", "a new file"])
def test_a_fork_that_embq_did_not_see(
    children: Children, path: Path, kind: str
) -> None:
    """CASE 31b: `Forked` also where only the child imports embq or has the file open.

    A file that is new there is not even given its tables.
    """
    if kind == "a file of embq":
        embq.open(path).close()
    code = """
    own = own_connection("pragma journal_mode = wal; create table mine (x)")
    assert "embq" not in sys.modules
    print(child(send_there))
    print([name for name, in own.execute("select name from sqlite_master")])
    """
    answer = children.run(HEAD + code, path, timeout=DEADLOCK_S).splitlines()
    assert answer[0] == "Forked"
    assert answer[1] == "['mine']" or kind == "a file of embq"


def test_a_connection_that_does_no_harm(children: Children, path: Path) -> None:
    """A child's own connections, and one that took no lock before, are no `Forked`.

    One that is closed in the child is none either, even where another is opened after
    it, which the system gives the same descriptor.
    """
    code = """
    def opened_here():
        mine = own_connection()
        return send_there()

    def closed_here():
        own.close()
        return send_there()

    def opened_again_here():
        own.close()
        mine = own_connection()
        return send_there(), mine.execute("select count(*) from mine").fetchone()[0]

    def forked_again():
        own.close()
        mine = own_connection()
        return child(send_there), send_there()

    print(child(opened_here))
    own = sqlite3.connect(path)  # and nothing is read
    print(child(send_there))
    plain = open(path, "rb")
    print(child(send_there))
    plain.close()
    own.execute("create table mine (x)")
    print(child(send_there), child(closed_here))
    print(child(opened_again_here))
    print(child(forked_again))
    """
    answer = children.run(HEAD + OPEN + code, path, timeout=DEADLOCK_S)
    assert answer.splitlines() == [
        "2",
        "3",
        "4",
        "Forked 5",
        "[6, 0]",
        "['Forked', 7]",
    ]


def test_other_processes_on_the_file(children: Children, path: Path) -> None:
    """CASE 31b: other processes that hold the same lock are not taken for the child."""
    other = children.start(
        """
        import sys, embq
        broker = embq.open(sys.argv[1], durability="normal")
        broker.queue("q").send("other")
        print("open", flush=True)
        sys.stdin.readline()
        """,
        path,
    )
    children.expect(other, "open")
    code = """
    own = own_connection()

    print(child(send_there))
    own.close()
    print(child(send_there))
    """
    answer = children.run(HEAD + code, path, timeout=DEADLOCK_S)
    assert answer.splitlines() == ["Forked", "2"]
    children.tell(other)
    children.finish(other)


def test_a_started_process_is_no_child_of_a_fork(
    children: Children, path: Path
) -> None:
    """CASE 30: a program that is run while a connection is open has nothing of it."""
    code = """
    own = own_connection()
    program = "import sys, embq; embq.open(sys.argv[1]).queue('q').send('run')"
    command = [sys.executable, "-c", program, path]
    subprocess.run(command, check=True, close_fds=False)
    subprocess.run(command, check=True, close_fds=True)
    subprocess.run(command, check=True, preexec_fn=int)
    pid = os.posix_spawn(sys.executable, command, os.environ)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    if (pid := os.fork()) == 0:
        os.execv(sys.executable, command)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    own.close()
    print(queue.depth())
    """
    answer = children.run(HEAD + OPEN + code, path, timeout=DEADLOCK_S)
    assert answer.split() == ["6"]


def test_a_fork_that_python_did_not_make(children: Children, path: Path) -> None:
    """CASE 30: a fork by C, without Python's handlers: `Forked`, for all files."""
    code = """
    another = embq.open(path + ".other", durability="normal")
    other = another.queue("q")
    other.send("parent")
    by_c = ctypes.PyDLL(None).fork
    print(child(lambda: queue.send("child"), by_c), child(send_there, by_c))
    print(child(lambda: queue.send_nowait("child"), by_c), child(other.depth, by_c))
    print(child(broker.close, by_c))
    queue.send("after")
    print(queue.depth(), other.depth())
    broker.close()
    print(child(send_there, by_c))

    def with_handlers_after_it():  # as uWSGI with its fork hooks
        _imp.acquire_lock()  # Python 3.13 ends a child that comes without
        pid = by_c()
        if pid == 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
        else:
            _imp.release_lock()
        return pid

    print(child(other.depth, with_handlers_after_it))
    another.close()
    print(child(send_there, with_handlers_after_it))
    """
    answer = children.run(HEAD + OPEN + code, path, timeout=DEADLOCK_S)
    told = ["Forked Forked", "Forked Forked", "None", "2 1", "Forked"]
    told += ["Forked", "3"]
    assert answer.splitlines() == told


def test_a_fork_while_another_thread_is_in_sqlite(
    children: Children, path: Path
) -> None:
    """CASE 31: where SQLite stays locked in the child, it is told so; it does not hang.

    The other thread is the application's, with a database of its own.
    """
    code = """
    import sqlite3, threading, time
    over = threading.Event()

    def use():
        while not over.is_set():
            with sqlite3.connect(":memory:") as other:
                other.execute("create table t (a, b)")
                values = ((n, "x" * n) for n in range(300))
                other.executemany("insert into t values (?, ?)", values)
            other.close()

    thread = threading.Thread(target=use)
    thread.start()
    answers = []
    end = time.monotonic() + 4
    while {"Forked", True} - set(answers) and time.monotonic() < end:
        answers.append(child(lambda: queue.send("child").id != ""))
    over.set()
    thread.join()
    assert queue.depth() == 1 + answers.count(True), answers
    assert answers and set(answers) <= {"Forked", True}, answers
    """
    children.run(HEAD + OPEN + code, path, timeout=DEADLOCK_S)


def test_what_forked_says() -> None:
    """The error has its code, its number and what to do."""
    error = errors.Forked("x.db")
    assert (error.code, error.number) == ("forked", -33)
    assert "before the fork" in str(error)
    assert errors.BY_NUMBER[-33] is errors.Forked is embq.Forked
