"""Fixtures: a file with its processes, of the core or the model; and children."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helpers beside this file

from clock import ClockFile
from model import ModelBroker
from model_file import ModelFile
from worker import RemoteBroker, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 60.0  # for what should take no time at all
DEATH_NOTICED_S = 5.0  # "within about a second", on a loaded machine


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `make soak` sets."""
    parser.addoption("--soak", action="store_true", help="go through every case")


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether to go through every case, not through the budget of `make test`."""
    return bool(request.config.getoption("--soak"))


class ModelSite:
    """One file and its processes, simulated."""

    kind = "model"

    def __init__(self, clock: ClockFile) -> None:
        self.clock = clock
        self.file = ModelFile(clock)
        self.broker: Any = ModelBroker(self.file)

    def other(self) -> Any:
        """Open the file in another process."""
        return ModelBroker(self.file)

    def kill(self, other: Any, queue: Any, in_flight: int) -> None:
        """Kill another process and wait until its leases were given back."""
        other.kill()
        assert queue.stats()["in_flight"] == in_flight

    def close(self) -> None:
        """End everything."""
        if not self.broker.closed:
            self.broker.close()


class CoreSite:
    """One real file, this process and real children."""

    kind = "core"

    def __init__(self, clock: ClockFile, path: Path) -> None:
        import embq  # noqa: PLC0415  (the model's tests run without the core)
        from embq import _native  # noqa: PLC0415

        _native.use_clock(str(clock.path))
        self.clock, self.path = clock, path
        self.workers: list[Worker] = []
        self.broker: Any = embq.open(path, durability="normal")

    def other(self) -> RemoteBroker:
        """Open the file in another process."""
        worker = Worker(self.clock.path)
        self.workers.append(worker)
        return worker.open(self.path, durability="normal")

    def kill(self, other: RemoteBroker, queue: Any, in_flight: int) -> None:
        """Kill another process and wait until its leases were given back."""
        other.kill()
        wait_until(
            lambda: queue.stats()["in_flight"] == in_flight,
            f"{queue.name}: the dead process's leases were not given back",
        )

    def close(self) -> None:
        """End everything."""
        from embq import _native  # noqa: PLC0415

        self.broker.close()
        for worker in self.workers:
            worker.stop() if worker.process.poll() is None else worker.kill()
        _native.use_clock(None)


def wait_until(
    condition: Callable[[], bool], what: str, seconds: float = DEATH_NOTICED_S
) -> None:
    """Look until it is so; fail with `what` after the time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} (waited {seconds} s)"
        time.sleep(0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place for a database file."""
    return tmp_path / "test.db"


@pytest.fixture
def clock(tmp_path: Path) -> ClockFile:
    """A clock that only the test moves."""
    return ClockFile(tmp_path / "clock")


@pytest.fixture(params=["core", "model"])
def site(
    request: pytest.FixtureRequest, clock: ClockFile, path: Path
) -> Iterator[CoreSite | ModelSite]:
    """A file with this process and others: of the core, and of the model."""
    made: CoreSite | ModelSite
    made = ModelSite(clock) if request.param == "model" else CoreSite(clock, path)
    yield made
    made.close()


@pytest.fixture
def broker(site: CoreSite | ModelSite) -> Any:
    """The broker of this process."""
    return site.broker


class Children:
    """Python processes that run a piece of code; none outlives its test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(
        self, code: str, *args: object, prefix: tuple[str, ...] = (), **env: str
    ) -> subprocess.Popen[str]:
        """Start it, with pipes; `prefix` is a tool to run it under."""
        script = self.folder / f"child{len(self.started)}.py"
        script.write_text(textwrap.dedent(code))
        child = subprocess.Popen(
            [*prefix, sys.executable, str(script), *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **env},
            start_new_session=True,
        )
        self.started.append(child)
        return child

    def finish(self, child: subprocess.Popen[str], timeout: float = 60.0) -> str:
        """Wait for it, expect success, give its output."""
        out, err = child.communicate(timeout=timeout)
        assert child.returncode == 0, f"exit {child.returncode}\n{out}\n{err}"
        return out

    def run(self, code: str, *args: object, timeout: float = 60.0) -> str:
        """Start and finish."""
        return self.finish(self.start(code, *args), timeout)

    def expect(self, child: subprocess.Popen[str], word: str) -> None:
        """Read its next line, which must be this word."""
        assert child.stdout is not None
        watchdog = threading.Timer(PATIENCE_S, child.kill)
        watchdog.start()
        line = child.stdout.readline().strip()
        watchdog.cancel()
        if line != word:
            child.kill()
            rest, errors = child.communicate()
            pytest.fail(f"child said {line!r}, not {word!r}\n{rest}\n{errors}")

    def tell(self, child: subprocess.Popen[str], word: str = "") -> None:
        """Write a line to its input."""
        assert child.stdin is not None
        child.stdin.write(f"{word}\n")
        child.stdin.flush()

    def end(self) -> None:
        """Kill what still runs, each by the group that we started."""
        for child in self.started:
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait(PATIENCE_S)
            for pipe in (child.stdin, child.stdout, child.stderr):
                with contextlib.suppress(BrokenPipeError):
                    if pipe is not None:
                        pipe.close()


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    """Run Python code in real child processes."""
    made = Children(tmp_path)
    yield made
    made.end()
