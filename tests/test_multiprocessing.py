"""`multiprocessing` by each of its start methods: nothing is lost or comes twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import embq

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Children

METHODS = ["fork", "forkserver", "spawn"]
DEADLOCK_S = 40.0
# As an application has it: functions of a module, and a main part that starts workers.
POOL = """
    import multiprocessing, sys, embq

    def start(path):
        global broker
        broker = embq.open(path, durability="normal")

    def work(_):
        message = broker.queue("work").receive(wait=10)
        broker.queue("done").send(message.data)
        broker.queue("staged").send_nowait(message.data)
        message.ack()
        return message.data

    if __name__ == "__main__":
        path, method, inherited = sys.argv[1:]
        start(path)
        work_queue = broker.queue("work")
        work_queue.send_many(list(range(60)))
        held = work_queue.receive()
        ahead = work_queue.messages(prefetch=4, wait=0)
        mine = next(ahead)
        claimed = work_queue.stats()["in_flight"] - 1
        staged = broker.queue("staged").send_nowait("the parent's")
        arguments = () if inherited == "inherited" else (start, (path,))
        with multiprocessing.get_context(method).Pool(3, *arguments) as pool:
            done = pool.map(work, range(60 - 1 - claimed), chunksize=1)
            pool.close()
            pool.join()
        held.ack()
        mine.ack()
        rest = [message.data for message in ahead if message.ack() is None]
        assert claimed == 1 + len(rest), (claimed, rest)
        assert sorted([*done, held.data, mine.data, *rest]) == list(range(60))
        assert staged.result(5) and work_queue.depth() == 0
        broker.close()
"""
STAGED = """
    import multiprocessing, sys, embq

    def stage(path, number):
        broker = embq.open(path, durability="normal")
        for one in range(100):
            broker.queue("q").send_nowait([number, one])

    if __name__ == "__main__":
        path, method = sys.argv[1:]
        context = multiprocessing.get_context(method)
        workers = [
            context.Process(target=stage, args=(path, number)) for number in range(3)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
"""
STAGED_BY_THE_PARENTS_BROKER = """
    import embq, multiprocessing, sys
    queue = embq.open(sys.argv[1], durability="normal").queue("q")

    def stage():
        for one in range(100):
            queue.send_nowait(one)

    worker = multiprocessing.get_context("fork").Process(target=stage)
    worker.start()
    worker.join()
    assert worker.exitcode == 0
"""


def everything(path: Path, name: str) -> list[object]:
    """Take all that is in a queue."""
    with embq.open(path) as broker:
        return [m.data for m in broker.queue(name).receive_many(1000, auto_ack=True)]


@pytest.mark.parametrize(
    ("method", "broker"),
    [*((method, "opened") for method in METHODS), ("fork", "inherited")],
)
def test_a_pool(children: Children, path: Path, method: str, broker: str) -> None:
    """CASE 30: workers of a pool and their parent share a queue, each its messages.

    What the parent had received, claimed ahead and staged before stays its own.
    """
    children.finish(children.start(POOL, path, method, broker), DEADLOCK_S)
    done, staged = everything(path, "done"), everything(path, "staged")
    assert len(done) == len(set(map(str, done)))
    assert set(map(str, staged)) == {*map(str, done), "the parent's"}
    assert len(staged) == len(done) + 1


@pytest.mark.parametrize("method", METHODS)
def test_what_a_worker_staged(children: Children, path: Path, method: str) -> None:
    """CASES 30 and 33: a worker that ends stores what it staged."""
    children.finish(children.start(STAGED, path, method), DEADLOCK_S)
    stored = everything(path, "q")
    assert sorted(map(str, stored)) == sorted(
        str([number, one]) for number in range(3) for one in range(100)
    )


def test_what_a_worker_staged_with_the_parents_broker(
    children: Children, path: Path
) -> None:
    """CASES 30 and 33: so does one that has a broker from its parent alone."""
    code = STAGED_BY_THE_PARENTS_BROKER
    children.finish(children.start(code, path), DEADLOCK_S)
    assert sorted(map(int, map(str, everything(path, "q")))) == list(range(100))
