"""os.fork() beside threads in the verbs that change queues and look at files."""

from pathlib import Path

import pytest
from conftest import Children
from test_forking import run

# Threads that go on until `over`, each in verbs that the crowd of test_interleavings.py
# has not. A fork ends a check and a backup.
UPKEEP = {
    "declare and delete": """
        name = f"made {next(numbers)}"
        broker.queue(name, max_receives=3).send("x")
        assert broker.delete(name) == 1
    """,
    "configure and pause": """
        queue.configure(visibility_timeout=next(numbers) % 50 + 1)
        queue.pause()
        queue.resume()
    """,
    "purge": """
        other = broker.queue("purged")
        other.send_many(list(range(50)))
        assert other.purge() == 50
    """,
    "redrive": """
        other = broker.queue("failing", max_receives=5)
        other.send("x")
        other.receive(wait=5).reject("on purpose")
        assert broker.queue("failing.dead").redrive().wait(10) == 1
        other.receive(wait=5).ack()
    """,
    "look": """
        sent = queue.send("looked for")
        assert queue.get(sent.id).data == "looked for"
        queue.explain(sent.id), queue.peek(3), list(queue.browse(limit=20))
        assert queue.cancel(sent.id)
    """,
    "check": """
        try:
            problems = broker.check()
            assert not problems, problems
        except errors.Busy:
            pass
    """,
    "backup": """
        try:
            broker.backup(f"{path}.{next(numbers)}")
        except errors.Busy:
            pass
    """,
    "open and close": """
        with embq.open(path, durability="normal") as again:
            again.queue("opened").send_nowait("x")
    """,
    "a new file": """
        with embq.open(f"{path}.{next(numbers)}", durability="normal") as new:
            new.queue("q").send("x")
    """,
    "extend and reject": """
        other = broker.queue("held", visibility_timeout=100)
        other.send("x")
        message = other.receive(wait=5)
        message.extend(200)
        message.reject("on purpose")
    """,
    "ack_nowait": """
        other = broker.queue("acked")
        other.send_many([1, 2])
        for message in other.receive_many(2, wait=5):
            message.ack_nowait()
    """,
}


@pytest.mark.parametrize("verb", UPKEEP)
def test_a_fork_beside_upkeep(children: Children, path: Path, verb: str) -> None:
    """CASES 30 and 31: forks beside a thread in any other verb: both sides go on."""
    code = f"""
    import itertools, textwrap
    numbers, over, rounds, failed = itertools.count(), threading.Event(), 0, []
    verb = compile(textwrap.dedent({UPKEEP[verb]!r}), "verb", "exec")

    def work():
        global rounds
        try:
            while not over.is_set():
                exec(verb, globals())
                rounds += 1
        except BaseException:
            failed.append(traceback.format_exc())

    def child():
        queue.send(f"child {{number}}")
        assert queue.depth() > 0

    thread = threading.Thread(target=work)
    thread.start()
    number, end = 0, time.monotonic() + 0.4
    while (time.monotonic() < end or number < 4 or not rounds) and not failed:
        fork(child)
        number += 1
        time.sleep(0.001 * (number % 7))
    over.set()
    thread.join()
    assert not failed, failed[0]
    broker.flush()
    children = []
    while message := queue.receive(auto_ack=True):
        children.append(message.data)
    assert sorted(children) == sorted(f"child {{n}}" for n in range(number)), children
    depth = {{name: broker.queue(name).depth() for name in broker.queues()}}
    dead = {{name for name in depth if name.endswith(".dead")}}
    assert all(depth[name] in (0, rounds) for name in depth.keys() - dead), depth
    assert all(depth[name] in (0, rounds) for name in dead), (depth, rounds)
    assert broker.check() == []
    """
    run(children, code, path)


@pytest.mark.parametrize("seconds", [0.3, 3.0])
def test_a_fork_waits_for_what_is_short(
    children: Children, path: Path, seconds: float
) -> None:
    """CASE 31: a fork waits for a thread that opens a file, a second at most."""
    code = f"""
    from embq._reading import inside
    entered = threading.Event()

    def opening():
        with inside():
            entered.set()
            time.sleep({seconds})

    thread = threading.Thread(target=opening)
    thread.start()
    entered.wait()
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    took = time.monotonic() - begun
    join(pid)
    assert min({seconds}, 1.0) * 0.9 < took < 2.5, took
    thread.join()
    fork(lambda: queue.send("child"))
    assert queue.depth() == 1
    """
    run(children, code, path)
