"""`multiprocessing` by each of its start methods: nothing is lost or comes twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import embq

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Children

# How workers start, and whether they open a broker or use their parent's.
BROKERS = [
    ("fork", "inherited"),
    ("fork", "opened"),
    ("forkserver", "opened"),
    ("spawn", "opened"),
]
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
# Workers stage while another connection has the write lock, and then end.
STAGED = """
    import multiprocessing, sqlite3, sys, time, embq

    def stage(broker, number, opened, held, staged):
        broker = embq.open(broker, durability="normal") if broker else inherited
        queue = broker.queue("q")
        queue.depth()
        opened.release()
        held.wait()
        for one in range(100):
            queue.send_nowait([number, one])
        staged.release()

    if __name__ == "__main__":
        path, method, who = sys.argv[1:]
        if who == "inherited":
            inherited, broker = embq.open(path, durability="normal"), None
        else:
            broker = path
        context = multiprocessing.get_context(method)
        opened, staged = context.Semaphore(0), context.Semaphore(0)
        held = context.Event()
        workers = [
            context.Process(target=stage, args=(broker, number, opened, held, staged))
            for number in range(3)
        ]
        for worker in workers:
            worker.start()
        assert all(opened.acquire(timeout=20) for _ in workers)
        lock = sqlite3.connect(path, isolation_level=None, timeout=20)
        lock.execute("begin immediate")
        held.set()
        assert all(staged.acquire(timeout=20) for _ in workers)
        time.sleep(0.1)
        lock.execute("rollback")
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
"""


def everything(path: Path, name: str) -> list[object]:
    """Take all that is in a queue."""
    with embq.open(path) as broker:
        return [m.data for m in broker.queue(name).receive_many(1000, auto_ack=True)]


@pytest.mark.parametrize(("method", "broker"), BROKERS)
def test_a_pool(children: Children, path: Path, method: str, broker: str) -> None:
    """CASE 30: workers of a pool and their parent share a queue, each its messages.

    What the parent had received, claimed ahead and staged before stays its own.
    """
    children.finish(children.start(POOL, path, method, broker), DEADLOCK_S)
    done, staged = everything(path, "done"), everything(path, "staged")
    assert len(done) == len(set(map(str, done)))
    assert set(map(str, staged)) == {*map(str, done), "the parent's"}
    assert len(staged) == len(done) + 1


@pytest.mark.parametrize(("method", "broker"), BROKERS)
def test_what_a_worker_staged(
    children: Children, path: Path, method: str, broker: str
) -> None:
    """CASES 30 and 33: a worker that ends stores what it staged."""
    children.finish(children.start(STAGED, path, method, broker), DEADLOCK_S)
    assert sorted(map(str, everything(path, "q"))) == sorted(
        str([number, one]) for number in range(3) for one in range(100)
    )
