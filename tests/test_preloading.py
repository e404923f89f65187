"""A server that imports the application and then forks: gunicorn with `--preload`."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING

from conftest import PATIENCE_S, wait_until

import embq

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# It sends, stages and claims before the workers are forked, and in each of them.
SHOP = """
    import os, embq

    broker = embq.open(os.environ["SHOP_FILE"], durability="normal")
    orders, held = broker.queue("orders"), broker.queue("held")
    held.send_many(["the master's", "a worker's"])
    mine = held.receive()
    broker.queue("staged").send_nowait("master")

    def app(environ, start_response):
        verb, _, data = environ["PATH_INFO"][1:].partition("/")
        answer = ""
        if verb == "send":
            orders.send(data)
        elif verb == "stage":
            broker.queue("staged").send_nowait(data)
        elif message := {"take": orders, "held": held}[verb].receive(wait=1.5):
            answer = message.data
            message.ack()
        start_response("200 OK", [("X-Worker", str(os.getpid()))])
        return [answer.encode()]
"""
WORKERS, CLIENTS, ORDERS, KILLED_AT = 2, 4, 40, (60, 110)


class Connection(http.client.HTTPConnection):
    """To a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self.path = path

    def connect(self) -> None:
        """Connect there."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Server:
    """gunicorn with the shop, on a socket of its own."""

    def __init__(self, folder: Path, file: Path) -> None:
        (folder / "shop.py").write_text(textwrap.dedent(SHOP))
        self.socket = folder / "socket"
        self.errors = folder / "errors"
        command = [sys.executable, "-m", "gunicorn", "--preload", "shop:app"]
        command += ["--workers", str(WORKERS), "--bind", f"unix:{self.socket}"]
        command += ["--graceful-timeout", "10", "--error-logfile", str(self.errors)]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "SHOP_FILE": str(file)},
            start_new_session=True,
        )

    def ask(self, path: str) -> tuple[str, int]:
        """Ask for a path; give the answer, and who gave it."""
        with contextlib.closing(Connection(self.socket)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode()
            assert answer.status == 200, (answer.status, body, self.log())
            return body, int(answer.headers["X-Worker"])

    def is_up(self) -> bool:
        """Tell whether it answers."""
        assert self.process.poll() is None, self.log()
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.ask("/stage/up")
            return True
        return False

    def log(self) -> str:
        """Read what it said."""
        return self.errors.read_text() if self.errors.exists() else ""

    def stop(self) -> None:
        """End it as an operator does."""
        self.process.terminate()
        assert self.process.wait(PATIENCE_S) == 0, self.log()


@contextlib.contextmanager
def serving(folder: Path, file: Path) -> Iterator[Server]:
    """Have a server that answers, and that does not outlive the test."""
    server = Server(folder, file)
    try:
        wait_until(server.is_up, "gunicorn does not answer", PATIENCE_S)
        yield server
    finally:
        if server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()


class Clients:
    """Threads that ask, while now and then the worker that answered is killed."""

    def __init__(self, server: Server, kill_at: int) -> None:
        self.server, self.kill_at = server, kill_at
        self.lock = threading.Lock()
        self.answers: list[tuple[str, str]] = []  # what was asked, and what came
        self.unknown: list[str] = []  # asked of a worker that was killed meanwhile
        self.workers: set[int] = set()

    def ask(self, paths: list[str]) -> None:
        """Ask for each of the paths, once."""
        for path in paths:
            try:
                body, worker = self.server.ask(path)
            except (OSError, http.client.HTTPException):
                with self.lock:
                    self.unknown.append(path)
                continue
            with self.lock:
                self.answers.append((path, body))
                self.workers.add(worker)
                if len(self.answers) == self.kill_at:
                    os.kill(worker, signal.SIGKILL)

    def run(self, paths: list[str]) -> None:
        """Share the paths among the threads."""
        threads = [
            threading.Thread(target=self.ask, args=(paths[n::CLIENTS],))
            for n in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_gunicorn_preloads(tmp_path: Path, path: Path) -> None:
    """CASE 30: workers share a broker that was opened before them, and are killed.

    What was confirmed comes once; what the master held and staged is the master's.
    """
    orders = [str(number) for number in range(CLIENTS * ORDERS)]
    with serving(tmp_path, path) as server:
        sending = Clients(server, KILLED_AT[0])
        sending.run([f"/send/{order}" for order in orders])
        taking = Clients(server, KILLED_AT[1])
        taking.run(["/take/"] * (len(orders) + len(sending.unknown)))
        rest = Clients(server, 0)
        while (order := server.ask("/take/")[0]) != "":
            rest.answers.append(("/take/", order))
        assert server.ask("/held/")[0] == "a worker's"
        assert server.ask("/held/")[0] == "", "a worker has what the master holds"
        server.ask("/stage/last")
        server.stop()
    sent = {asked.removeprefix("/send/") for asked, _ in sending.answers}
    maybe = {asked.removeprefix("/send/") for asked in sending.unknown}
    taken = [body for _, body in taking.answers + rest.answers if body]
    assert len(taken) == len(set(taken)), "confirmed, and came again"
    assert set(taken) <= sent | maybe
    assert len(sent - set(taken)) <= len(taking.unknown), "lost"
    assert len(sending.workers | taking.workers) > WORKERS, "none was killed"
    assert len(sending.unknown) + len(taking.unknown) <= 4 * CLIENTS
    with embq.open(path) as broker:
        assert broker.queue("orders").depth() == 0
        staged = [m.data for m in broker.queue("staged").receive_many(99)]
        assert "master" in staged
        assert staged.count("master") == 1
        assert staged[-1] == "last"
        assert broker.check() == []
        assert broker.queue("held").depth() == 1
