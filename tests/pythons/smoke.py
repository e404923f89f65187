"""What an installed wheel must be able to do: `python -W error smoke.py FOLDER`.

It is run by a Python that has nothing but the wheel and what the wheel requires.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import embq

WAIT_S = 30.0
HOLD = """
import embq, os, signal, sys
broker = embq.open(sys.argv[1])
assert broker.queue("jobs").receive().data == {"n": 0}
os.kill(os.getpid(), signal.SIGKILL)
"""


def work(path: str) -> None:
    """Answer one message, as a worker of `multiprocessing`."""
    with (
        embq.open(path) as broker,
        broker.queue("jobs").receive(wait=WAIT_S) as message,
    ):
        broker.queue("done").send(message.data)


def installed() -> None:
    """Be the wheel, and no checkout."""
    library = Path(sysconfig.get_path("platlib")).resolve()
    package = Path(embq.__file__).resolve().parent
    assert package.parent == library, package
    extensions = [path.name for path in package.glob("*.so")]
    assert extensions == ["_core.abi3.so"], extensions


def killed(path: str) -> None:
    """Give what a killed process held to the next."""
    with embq.open(path) as broker:
        jobs = broker.queue("jobs", max_receives=3)
        jobs.send_many([{"n": 0}, {"n": 1}, {"n": 2}])
        tickets = [jobs.send_nowait({"n": n}) for n in (3, 4)]
        assert len({ticket.result(WAIT_S).id for ticket in tickets}) == len(tickets)
    child = subprocess.run([sys.executable, "-c", HOLD, path], check=False)
    assert child.returncode == -signal.SIGKILL, child.returncode
    with embq.open(path) as broker:
        jobs, seen = broker.queue("jobs"), {}
        while len(seen) < 5:
            with jobs.receive(wait=WAIT_S) as message:
                seen[message.data["n"]] = message.receive_count
    assert seen == {0: 2, 1: 1, 2: 1, 3: 1, 4: 1}, seen


def workers(path: str) -> None:
    """Work with the start method that this Python takes by itself, and the others."""
    methods = [None, *multiprocessing.get_all_start_methods()]
    for method in methods:
        with embq.open(path) as broker:
            broker.queue("jobs").send(method)
        worker = multiprocessing.get_context(method).Process(target=work, args=[path])
        worker.start()
        worker.join(WAIT_S)
        assert worker.exitcode == 0, (method, worker.exitcode)
    with embq.open(path) as broker:
        done = broker.queue("done").receive_many(len(methods), wait=WAIT_S)
        assert [message.data for message in done] == methods
        broker.queue("done").ack_many(done)


def commanded(path: str) -> None:
    """Send and receive by the command that the wheel installs."""
    command = [str(Path(sysconfig.get_path("scripts"), "embq")), "--file", path]
    subprocess.run([*command, "send", "jobs", "by hand"], check=True)
    got = subprocess.run(
        [*command, "receive", "jobs"], check=True, capture_output=True, text=True
    )
    assert got.stdout == "by hand\n", got.stdout
    subprocess.run([*command, "check"], check=True)


def main() -> None:
    """Do all of it on one file."""
    path = os.fspath(Path(sys.argv[1], "smoke.db"))
    installed()
    killed(path)
    workers(path)
    commanded(path)


if __name__ == "__main__":
    main()
