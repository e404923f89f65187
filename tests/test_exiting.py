"""The end of processes, threads and objects that nobody closed; handles that travel."""

import copy
import gc
import pickle
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Children

import embq
from embq import errors

STAGED = 1000
ROUNDS = 4


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("", 0),
        ("sys.exit(0)", 0),
        ("raise RuntimeError('the end')", 1),
        (
            "threading.Thread(target=queue.receive, args=(None,), daemon=True).start()",
            0,
        ),
    ],
)
def test_exit_with_staged_messages(
    path: Path, children: Children, ending: str, code: int
) -> None:
    """CASE 33: an interpreter that ends without closing stores what is staged."""
    child = children.start(
        f"""
        import sys, threading, embq
        broker = embq.open(sys.argv[1])
        queue = broker.queue("other")
        staged = broker.queue("q")
        for number in range({STAGED}):
            staged.send_nowait(number)
        {ending}
        """,
        path,
    )
    _, error = child.communicate(timeout=60)
    assert child.returncode == code, error
    with embq.open(path) as broker:
        taken = broker.queue("q").receive_many(STAGED, auto_ack=True)
    assert [message.data for message in taken] == list(range(STAGED))


# What goes on when the interpreter ends; what it prints, "-" for nothing.
LIVES = {
    "a __del__ that sends when all is torn down": (
        """
        class Late:
            def __init__(self):
                self.me = self  # a cycle: collected last
                self.queue, self.closed = queue, embq.Closed
                self.loop = queue.messages(wait=0)
                next(self.loop)

            def __del__(self):
                try:
                    self.queue.send("late")
                except self.closed:
                    print("closed", flush=True)

        gc.disable()
        queue.send("first")
        late = Late()
        """,
        "closed",
    ),
    "threads in every verb": (
        """
        def endlessly(call):
            try:
                while True:
                    call()
            except embq.Closed:
                pass

        def loop():
            for message in queue.messages(wait=None):
                message.ack_nowait()

        for call in (
            lambda: queue.send("x"),
            lambda: queue.send_nowait("x").result(),
            lambda: queue.send_many(["x"] * 9),
            lambda: queue.receive(wait=None).ack(),
            lambda: broker.queue("empty").receive(wait=None),
            loop,
            broker.flush,
            broker.stats,
        ):
            threading.Thread(target=endlessly, args=(call,), daemon=True).start()
        time.sleep(0.2)
        """,
        "-",
    ),
    "an atexit handler of the application": (
        """
        @atexit.register
        def last():
            queue.send_nowait("last")
            # The keeper may have stored it by now.
            print("sent", queue.depth() in (0, 1), flush=True)
        """,
        "sent True",
    ),
    "tickets that call back, and call in": (
        """
        def again(ticket):
            try:
                queue.send_nowait("again").add_done_callback(again)
            except embq.Closed:
                pass

        queue.send_nowait("once").add_done_callback(again)
        """,
        "-",
    ),
}


@pytest.mark.parametrize("life", LIVES)
def test_exit_in_the_middle_of_life(path: Path, children: Children, life: str) -> None:
    """CASE 33: whatever goes on, it ends at once, quietly, and loses nothing staged."""
    code, said = LIVES[life]
    begin = f"""
        import atexit, gc, logging, sys, threading, time, embq
        logging.getLogger("embq").setLevel(logging.ERROR)
        broker = embq.open(sys.argv[1], durability="normal")
        queue, staged = broker.queue("other"), broker.queue("q")
        for number in range({STAGED}):
            staged.send_nowait(number)
    """
    child = children.start(textwrap.dedent(begin) + textwrap.dedent(code), path)
    out, error = child.communicate(timeout=60)
    assert (child.returncode, error) == (0, "")
    assert out.strip() == said.replace("-", "")
    with embq.open(path) as broker:
        assert broker.check() == []
        taken = broker.queue("q").receive_many(STAGED, auto_ack=True)
    assert [message.data for message in taken] == list(range(STAGED))


def test_garbage_leaves_nothing_behind(path: Path) -> None:
    """CASE 33: all that is dropped in a cycle, unclosed, is stored and let go of."""
    embq.open(path).close()
    gc.collect()
    descriptors, threads = entries("fd"), entries("task")
    for number in range(ROUNDS):
        broker = embq.open(path, durability="normal")
        queue = broker.queue("q")
        queue.send(number)
        queue.send_nowait(number)
        loop = queue.messages(wait=0)
        cycle: list[Any] = [broker, queue, loop, next(loop), queue.browse()]
        cycle.append(cycle)
        del broker, queue, loop, cycle
        gc.collect()
    assert entries("task") == threads, "a keeper is left"
    # One is never closed: see the guard in csrc/files.c.
    assert entries("fd") <= descriptors + 1
    with embq.open(path) as broker:
        queue = broker.queue("q")
        stored = sorted(message.data for message in queue.browse())
        assert stored == sorted([*range(ROUNDS)] * 2)
        assert queue.receive(wait=5), "what was held stays leased"


def entries(kind: str) -> int:
    """Count this process's descriptors, "fd", or threads, those of C too, "task"."""
    return len(list(Path("/proc/self", kind).iterdir()))


HANDLES: dict[str, tuple[Callable[[embq.Broker, embq.Queue[Any]], Any], str]] = {
    "broker": (lambda broker, _: broker, r"use embq.open\('.*test.db'\)"),
    "queue": (lambda _, queue: queue, "open it by path and name"),
    "ticket": (lambda _, queue: queue.send_nowait(1), r"ticket.result\(\)"),
    "message": (lambda _, queue: queue.receive(), r"message.to_dict\(\)"),
    "redrive": (lambda _, queue: queue.redrive(to="other"), "open the file"),
    "idempotency": (lambda broker, _: broker.idempotency("s"), "use embq.open"),
    "loop": (lambda _, queue: queue.messages(), "generator"),
    "browse": (lambda _, queue: queue.browse(), "generator"),
    "handle": (lambda broker, _: broker._file.handle, "handle of the core"),
}


@pytest.mark.parametrize("what", HANDLES)
def test_handles_cannot_be_pickled(path: Path, what: str) -> None:
    """CASE 37: pickling, or copying, is a `TypeError` that says what to do instead."""
    with embq.open(path) as broker:
        broker.queue("other")
        queue = broker.queue("q")
        queue.send(1)
        make, said = HANDLES[what]
        handle = make(broker, queue)
        for copied in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match=said):
                copied(handle)


def test_values_can_be_pickled(path: Path) -> None:
    """CASE 37: what is no handle crosses to another process as it is."""
    with embq.open(path) as broker:
        queue = broker.queue("q")
        sent = queue.send({"a": 1})
        outgoing = embq.Outgoing(1, headers={"a": "b"})
        things = [sent, queue.explain(sent.id), embq.Backoff(), outgoing]
        assert pickle.loads(pickle.dumps(things)) == things
        seen = pickle.loads(pickle.dumps(queue.peek(1)[0]))
        assert (seen.id, seen.data) == (sent.id, {"a": 1})
        error = pickle.loads(pickle.dumps(errors.Busy("what", "hint")))
        assert str(error) == "what; hint"
    assert set(embq.__all__) == (
        {"Broker", "Queue", "Ticket", "Redrive", "Idempotency"}  # handles, those above
        | {"Message", "Sent", "Explanation", "Backoff", "Outgoing", "Problem", "open"}
        | {name for name in vars(errors) if name in embq.__all__}
    ), "is what is new a handle?"


def test_ten_thousand_short_threads(path: Path, children: Children) -> None:
    """CASE 34: threads that come and go leave no descriptor and no memory behind."""
    out = children.run(
        """
        import os, sys, threading, embq

        broker = embq.open(sys.argv[1], durability="normal")
        queue = broker.queue("q")

        def work(number):
            queue.send(number)
            if number % 3 == 0:
                queue.send_nowait(number).result()
                queue.receive_many(2, auto_ack=True)
            elif number % 3 == 1:
                queue.receive(auto_ack=True)
            else:
                for message in queue.messages(wait=1):
                    message.ack_nowait()
                    break

        def run(count):
            for start in range(0, count, 50):
                threads = [
                    threading.Thread(target=work, args=(start + n,)) for n in range(50)
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

        def descriptors():
            return len(os.listdir("/proc/self/fd"))

        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        run(2000)
        before = descriptors(), resident()
        run(8000)
        broker.flush()
        for message in queue.messages(wait=0):  # what a loop had claimed ahead
            message.ack()
        after = descriptors(), resident()
        print(after[0] - before[0], after[1] - before[1], queue.depth())
        broker.close()
        print(descriptors())
        """,
        path,
        timeout=120,
    )
    opened, grown, depth, _ = map(int, out.split())
    assert opened <= 0, f"{opened} descriptors more after 8,000 threads"
    assert grown < 8 << 20, f"{grown} bytes more after 8,000 threads"
    assert depth == 0
