"""A scenario of the field, measured of every contestant, round by round."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from field import SCENARIOS
from peers import CONTESTANTS, LIMITS, servers

CELL = Path(__file__).with_name("cell.py")
CELL_S = 240.0  # a measurement that hangs is ended then


class Contest:
    """The contestants, with the servers that they need, for one run."""

    def __init__(self, run, rounds, names=None):
        self.run = run
        self.rounds = rounds
        self.about = {}
        self.missing = _missing()
        self._servers = contextlib.ExitStack()
        self._long = {}
        wanted = names or [*CONTESTANTS, *LIMITS]
        self.names = [name for name in wanted if name in LIMITS or self._there(name)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._end_servers()

    def measure(self, name):
        """Measure one scenario.

        Returns:
            What to store: by contestant, what it did in each round; the errors of those
            that failed; what was measured, and what could not be.
        """
        scenario = SCENARIOS[name]
        found = {name: [] for name in self._taking_part(scenario)}
        errors = {}
        started = time.monotonic()
        try:
            for number in range(1 if scenario.once else self.rounds):
                order = list(found)
                for contestant in order[::-1] if number % 2 else order:
                    if contestant not in errors:
                        self._cell(scenario, contestant, found, errors)
        finally:
            self._end_servers()
        return {
            "rounds": {n: rounds for n, rounds in found.items() if n not in errors},
            "errors": errors,
            "about": self.about,
            "missing": self.missing,
            "took_s": round(time.monotonic() - started, 1),
        }

    def _taking_part(self, scenario):
        for name in self.names:
            if name in LIMITS:
                if scenario.limit is not None:
                    yield name
            elif self.about[name]["embedded"] or not scenario.embedded:
                yield name

    def _there(self, name):
        """Tell whether a contestant is installed; note what it is, or why not."""
        done = subprocess.run(
            [sys.executable, CELL, name, "about", ""],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            self.missing[name] = _last(done.stderr)
            return False
        self.about[name] = json.loads(done.stdout)
        return True

    def _cell(self, scenario, name, found, errors):
        seconds = scenario.seconds * self.run.seconds
        try:
            if name in LIMITS:
                result = scenario.limit(
                    self.run, LIMITS[name], seconds, scenario.arguments
                )
            else:
                result = self._process(scenario, name, seconds)
        except (RuntimeError, OSError) as error:
            # Where it was measured is nobody's business in a report.
            errors[name] = str(error).replace(f"{self.run.directory}/", "")
            print(f"{name}: {errors[name]}", file=sys.stderr)
        else:
            found[name].append(result)

    def _process(self, scenario, name, seconds):
        """Measure in a process of its own, beside a server if it needs one."""
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(self.run.folder())
            kind = CONTESTANTS[name].server
            server = kind and stack.enter_context(self._server(kind))
            words = {
                "folder": str(folder),
                "address": server and server.address,
                "pid": server and server.pid,
                "server_folder": server and str(server.folder),
                "seconds": seconds,
                "arguments": scenario.arguments,
            }
            command = [sys.executable, CELL, name, scenario.function]
            return _run([*command, json.dumps(words)])

    @contextlib.contextmanager
    def _server(self, kind):
        """Have a server awake: a new one, unless it takes long to start."""
        if kind in servers.LONG_TO_START:
            if kind not in self._long:
                folder = self._servers.enter_context(self.run.folder())
                self._long[kind] = servers.Server(kind, folder)
                self._servers.callback(self._long[kind].end)
            with self._long[kind].awake() as server:
                yield server
            return
        with self.run.folder() as folder:
            server = servers.Server(kind, folder)
            try:
                with server.awake():
                    yield server
            finally:
                server.end()

    def _end_servers(self):
        self._servers.close()
        self._long.clear()


def _run(command):
    """Run a cell; it, and what it started, is ended when it takes too long."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=CELL_S)
    except subprocess.TimeoutExpired:
        msg = f"not done after {CELL_S:g} s"
        raise RuntimeError(msg) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    if process.returncode:
        raise RuntimeError(_last(err))
    return json.loads(out.splitlines()[-1])


def _last(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("field.parts.") if lines else "no word"


def _missing():
    """Read what install.py could not install."""
    path = Path(sys.prefix) / "missing.json"
    return json.loads(path.read_text()) if path.exists() else {}
