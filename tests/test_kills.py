"""Kills: processes die at any system call, under load and in loops; nothing is lost."""

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Children, wait_until

import embq

# Kill points: system calls of opening the file, and of the work after it.
OPENING_POINTS, WORKING_POINTS = 12, 36
ROUNDS, ROUND_S = 6, 0.6
PRODUCER = """
import os, sys, embq
path, log = sys.argv[1:]
log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
broker = embq.open(path)
queue = broker.queue("q")
os.write(log, b"")  # from here on it works: see Killer.points
for turn in range(6):
    if turn % 2:
        queue.send_many([[turn, 0], [turn, 1], [turn, 2]])
    else:
        queue.send([turn, 0])
    os.write(log, b"%d\\n" % turn)
broker.close()
"""
CONSUMER = """
import os, sys, embq
path, log = sys.argv[1:]
log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
broker = embq.open(path)
queue = broker.queue("q")
os.write(log, b"")  # from here on it works: see Killer.points
for message in queue.receive_many(2):
    os.write(log, b"got %d\\n" % message.data)
    message.ack()
    os.write(log, b"acked %d\\n" % message.data)
while message := queue.receive():
    os.write(log, b"got %d\\n" % message.data)
    message.ack()
    os.write(log, b"acked %d\\n" % message.data)
broker.close()
"""


@pytest.fixture
def strace() -> str:
    """The tool that kills at a system call. Without it these tests prove nothing."""
    found = shutil.which("strace")
    if found is None:
        pytest.skip(
            "STRACE IS MISSING: install strace, or CASES 16 and 17 are untested"
        )
    return found


class Killer:
    """Run a script under strace, whole or up to one of its system calls."""

    def __init__(self, strace: str, script: Path, template: Path) -> None:
        self.strace, self.script, self.template = strace, script, template

    def _run(self, name: str, *options: str) -> tuple[Path, Path]:
        folder = self.script.parent / name
        folder.mkdir()
        path, log = folder / "test.db", folder / "log"
        shutil.copy(self.template, path)
        log.touch()
        tool = [self.strace, "-f", "-qq", *options]
        command = [*tool, sys.executable, str(self.script), str(path), str(log)]
        done = subprocess.run(command, check=False, capture_output=True, timeout=60)
        if done.returncode not in (0, -signal.SIGKILL, 128 + signal.SIGKILL):
            pytest.fail(f"{name}: exit {done.returncode}\n{done.stderr.decode()}")
        return path, log

    def points(self) -> list[tuple[str, int]]:
        """Choose among the calls of the main thread since it opened the file."""
        trace = self.script.parent / "trace"
        self._run("whole", "-o", str(trace))
        lines = trace.read_text(errors="replace").splitlines()
        main = lines[0].split()[0]
        counts: Counter[str] = Counter()
        phases: list[list[tuple[str, int]]] = [[], [], []]
        phase = 0
        for line in lines:
            match = re.match(r"(\d+) +(\w+)\(", line)
            if not match or match[1] != main or match[2] == "exit_group":
                continue
            counts[match[2]] += 1
            if phase == 0 and match[2] == "openat" and "whole/test.db" in line:
                phase = 1
            if phase == 1 and re.search(r' write\(\d+, "", 0\)', line):
                phase = 2
            phases[phase].append((match[2], counts[match[2]]))
        chosen = []
        for found, wanted in zip(
            phases[1:], (OPENING_POINTS, WORKING_POINTS), strict=True
        ):
            assert len(found) > wanted, f"only {len(found)} system calls: {found}"
            step = len(found) / wanted
            chosen += [found[int(number * step)] for number in range(wanted)]
        return chosen

    def kill_at(self, point: tuple[str, int]) -> tuple[str, Path, Path]:
        """Run until the Nth call of a name, which is never made."""
        name = f"{point[0]}.{point[1]}"
        inject = f"inject={point[0]}:signal=SIGKILL:when={point[1]}"
        return name, *self._run(name, "-o", "/dev/null", "-e", inject)

    def kill_everywhere(self) -> list[tuple[str, Path, Path]]:
        """Kill one run at each of a sample of points."""
        points = dict.fromkeys(self.points())
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(self.kill_at, points))


def make_template(tmp_path: Path, count: int) -> Path:
    """Make a file with a queue of `count` messages."""
    template = tmp_path / "template.db"
    with embq.open(template) as broker:
        queue = broker.queue("q", visibility_timeout=100_000)
        queue.send_many(list(range(count)))
    return template


def test_a_producer_killed_at_every_system_call(strace: str, tmp_path: Path) -> None:
    """CASE 16: each confirmed message is there once, the next one 0 or 1 times."""
    script = tmp_path / "producer.py"
    script.write_text(PRODUCER)
    killer = Killer(strace, script, make_template(tmp_path, 0))
    turns = [[[turn, n] for n in range(3 if turn % 2 else 1)] for turn in range(6)]
    confirmed_counts = set()
    for name, path, log in killer.kill_everywhere():
        confirmed = [int(line) for line in log.read_text().split()]
        assert confirmed == list(range(len(confirmed)))
        confirmed_counts.add(len(confirmed))
        with embq.open(path) as broker:
            taken = broker.queue("q").receive_many(100, auto_ack=True)
        stored = [message.data for message in taken]
        allowed = [
            [item for turn in turns[:count] for item in turn]
            for count in (len(confirmed), len(confirmed) + 1)
        ]
        assert stored in allowed, (
            f"killed at {name}: confirmed {confirmed}, is {stored}"
        )
    assert len(confirmed_counts) > 3, f"the kills hit too little: {confirmed_counts}"


def test_a_consumer_killed_at_every_system_call(strace: str, tmp_path: Path) -> None:
    """CASE 17: what was not acked comes again, counted; what was confirmed does not."""
    script = tmp_path / "consumer.py"
    script.write_text(CONSUMER)
    count = 6
    killer = Killer(strace, script, make_template(tmp_path, count))
    killed = killer.kill_everywhere()
    opened = [(name, log, embq.open(path)) for name, path, log in killed]
    try:
        for name, log, broker in opened:
            queue = broker.queue("q")
            wait_until(
                lambda queue=queue: queue.stats()["in_flight"] == 0,
                f"killed at {name}: the lease was not given back",
            )
            words = [line.split() for line in log.read_text().splitlines()]
            got = {int(number) for verb, number in words if verb == "got"}
            acked = {int(number) for verb, number in words if verb == "acked"}
            left = {}
            while message := queue.receive():
                assert message.data not in left, (
                    f"killed at {name}: twice {message.data}"
                )
                left[message.data] = message.receive_count
                message.ack()
            assert not acked & set(left), (
                f"killed at {name}: {acked} acked, {left} came"
            )
            lost = set(range(count)) - acked - set(left)
            # An ack may be done and its confirmation cut off.
            assert lost <= got, f"killed at {name}: {lost} lost, {words}"
            assert len(lost) <= 1, f"killed at {name}: {lost} lost, {words}"
            for number in got & set(left):
                assert left[number] == 2, f"killed at {name}: {number} was not counted"
            assert set(left.values()) <= {1, 2}
    finally:
        for _, _, broker in opened:
            broker.close()


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
        while message := queue.receive():
            drained[message.data] += 1
            message.ack()
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
    """A blocked receiver gets a killed process's message long before the lease ends."""
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
    """The keeper gives back a dead process's leases; no claim is needed for it."""
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
    """A living holder keeps its lease; a dead one loses it half a second later."""
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
