"""Kills under load and in loops, and how a death or a stop is noticed.

test_kill_sweep.py kills at each system call.
"""

import functools
import os
import signal
import time
from collections import Counter
from pathlib import Path

from conftest import Children, wait_until

import embq

ROUNDS, ROUND_S = 4, 0.6

LOAD = """
    import os, sys, embq
    path, role, name = sys.argv[1:]
    log = os.open(f"{path}.{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    queue = embq.open(path, durability="normal").queue("q")
    print("ready", flush=True)
    number = 0
    while role == "produce":
        number += 1
        os.write(log, f"try {name}.{number}\\n".encode())
        if number % 10:
            queue.send(f"{name}.{number}")
        else:
            queue.send_nowait(f"{name}.{number}").result()
        os.write(log, f"sent {name}.{number}\\n".encode())
    for message in queue.messages(wait=None):
        os.write(log, f"got {message.data}\\n".encode())
        message.ack()
        os.write(log, f"acked {message.data}\\n".encode())
"""


def test_everything_killed_again_and_again(path: Path, children: Children) -> None:
    """CASE 18: under load and SIGKILL nothing is lost and nothing is unexpected."""
    with embq.open(path, durability="normal") as broker:
        broker.queue("q", visibility_timeout=100_000, max_receives=1000)
    for number in range(ROUNDS):
        started = [
            children.start(LOAD, path, role, f"{role}{number}{one}")
            for role in ("produce", "consume")
            for one in range(2)
        ]
        for child in started:
            children.expect(child, "ready")
        time.sleep(ROUND_S)
        for child in started:
            child.kill()
        for child in started:
            _, errors = child.communicate()
            assert child.returncode == -signal.SIGKILL, errors
    seen: dict[str, set[str]] = {
        "try": set(),
        "sent": set(),
        "got": set(),
        "acked": set(),
    }
    for log in path.parent.glob("*.log"):
        for line in log.read_text().splitlines():
            verb, name = line.split()
            seen[verb].add(name)
    drained: Counter[str] = Counter()
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        wait_until(lambda: queue.stats()["in_flight"] == 0, "leases of the dead remain")
        while taken := queue.receive_many(1000):
            drained.update(message.data for message in taken)
            queue.ack_many(taken)
        assert queue.depth() == 0
        assert broker.queue("q.dead").depth() == 0
    assert len(seen["sent"]) > ROUNDS, "there was no load"
    assert len(seen["acked"]) > ROUNDS, "there was no load"
    received = seen["got"] | set(drained)
    assert not seen["sent"] - received, f"lost: {seen['sent'] - received}"
    assert not received - seen["try"], f"out of nothing: {received - seen['try']}"
    assert not seen["acked"] & set(drained), "acked and confirmed, yet it came again"
    assert set(drained.values()) <= {1}, "the same message twice without a lease's end"


def test_a_stopped_consumer_has_lost_its_lease(path: Path, children: Children) -> None:
    """CASE 19: stopped for longer than the lease, it gets `LeaseLost` on return."""
    with embq.open(path) as broker:
        queue = broker.queue("q", visibility_timeout=1.0)
        queue.send("x")
        child = children.start(
            """
            import sys, embq
            queue = embq.open(sys.argv[1]).queue("q")
            message = queue.receive()
            print("holds", flush=True)
            sys.stdin.readline()
            for verb in (message.ack, message.nack, lambda: message.extend(10)):
                try:
                    verb()
                except embq.LeaseLost:
                    print("LeaseLost", flush=True)
                else:
                    print("settled what is another's", flush=True)
            """,
            path,
        )
        children.expect(child, "holds")
        os.kill(child.pid, signal.SIGSTOP)
        assert queue.receive() is None, "a stopped process is not a dead one"
        message = queue.receive(wait=20)
        assert message is not None
        assert message.receive_count == 2
        os.kill(child.pid, signal.SIGCONT)
        children.tell(child)
        for _ in range(3):
            children.expect(child, "LeaseLost")
        children.finish(child)
        message.ack()
        assert queue.depth() == 0


def test_a_killed_consumer_is_noticed_soon(path: Path, children: Children) -> None:
    """CASE 17: a blocked receiver gets a dead one's message long before lease's end."""
    with embq.open(path) as broker:
        queue = broker.queue("q", visibility_timeout=100_000)
        queue.send("x")
        child = children.start(
            """
            import sys, time, embq
            message = embq.open(sys.argv[1]).queue("q").receive()
            print("holds", flush=True)
            time.sleep(600)
            """,
            path,
        )
        children.expect(child, "holds")
        child.kill()
        begun = time.monotonic()
        message = queue.receive(wait=30)
        assert message is not None, "not given back in 30 s"
        assert message.receive_count == 2
        assert time.monotonic() - begun < 5
        message.ack()


def test_the_dead_are_noticed_without_anybody_waiting(
    path: Path, children: Children
) -> None:
    """CASE 17: the keeper gives back a dead process's leases; no claim is needed."""
    with embq.open(path) as broker:
        queue = broker.queue("q", visibility_timeout=100_000)
        queue.send("x")
        child = children.start(
            """
            import os, signal, sys, embq
            message = embq.open(sys.argv[1]).queue("q").receive()
            os.kill(os.getpid(), signal.SIGKILL)
            """,
            path,
        )
        child.wait(60)
        stats = functools.partial(queue.stats)
        wait_until(lambda: stats()["in_flight"] == 0, "the keeper noticed no death")
        assert stats()["ready"] == 1
        assert stats()["expired"] == 1


def test_a_death_is_believed_at_the_second_look(path: Path, children: Children) -> None:
    """CASE 17: a living holder keeps its lease; a dead one loses it after a moment."""
    with embq.open(path) as broker:
        queue = broker.queue("q", visibility_timeout=100_000)
        queue.send("x")
        child = children.start(
            """
            import sys, time, embq
            message = embq.open(sys.argv[1]).queue("q").receive()
            print("holds", flush=True)
            time.sleep(600)
            """,
            path,
        )
        children.expect(child, "holds")
        time.sleep(1.2)  # several looks, more than half a second apart
        assert queue.stats()["in_flight"] == 1, "it lives"
        begun = time.monotonic()
        child.kill()
        wait_until(lambda: queue.stats()["in_flight"] == 0, "nobody noticed the death")
        assert time.monotonic() - begun > 0.45, "a look is no proof"


def test_a_death_with_many_leases(path: Path, children: Children) -> None:
    """CASE 17: all that a dead process held comes back soon, in however many steps."""
    count = 300  # each with a lease of its own
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q", visibility_timeout=100_000)
        queue.send_many(list(range(count)))
        child = children.start(
            """
            import os, signal, sys, embq
            queue = embq.open(sys.argv[1], durability="normal").queue("q")
            held = []
            while message := queue.receive():
                held.append(message)
            os.kill(os.getpid(), signal.SIGKILL)
            """,
            path,
        )
        child.wait(60)
        assert queue.stats()["in_flight"] >= count - 1
        wait_until(lambda: queue.stats()["in_flight"] == 0, "leases of the dead remain")
        assert queue.stats()["ready"] == count
