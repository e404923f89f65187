"""One measurement of one contestant, in a process of its own.

Usage: cell.py CONTESTANT FUNCTION JSON         the runner starts it, and so does a cell

FUNCTION is "module.name" in bench/field; JSON has the place and the arguments. A
process that stands beside a cell says "ready" first, and begins at a line on its stdin.
The last line of output is the result, as JSON.
"""

import importlib
import json
import logging
import subprocess
import sys
from pathlib import Path

from peers import CONTESTANTS
from peers.face import Place


class Cell:
    """What a measurement is given: a contestant, a place, how long to take."""

    def __init__(self, name, words):
        self.name = name
        self.seconds = words["seconds"]
        self._words = words
        address = words["address"]
        if isinstance(address, list):
            address = tuple(address)
        self._folder = Path(words["folder"])
        self._server = address, words["pid"]
        self.contestant = CONTESTANTS[name]
        self._handles = []

    @property
    def arguments(self):
        """What a function gets besides."""
        return self._words.get("arguments", {})

    @property
    def server_pid(self):
        """The server's process, or None."""
        return self._server[1]

    @property
    def server_folder(self):
        """Where the server keeps its files, or None."""
        folder = self._words["server_folder"]
        return folder and Path(folder)

    def place(self, part="a"):
        """A folder within the cell's; a server has one place, with a queue for each."""
        folder = self._folder / part
        folder.mkdir(exist_ok=True)
        return Place(folder, *self._server)

    def open(self, part="a"):
        """Open a handle, closed when the cell ends."""
        handle = self.contestant.open(self.place(part))
        self._handles.append(handle)
        if self.server_pid is not None:
            # All cells share the server: a queue of this cell's own.
            return handle.queue(f"{self._folder.name}-{part}")
        return handle

    def another(self, handle, part="a"):
        """Return a handle for another thread: the same one, where threads may share."""
        return handle if handle.shared else self.open(part)

    def beside(self, function, **arguments):
        """Start a process beside this one; wait until it is ready."""
        words = self._words | {"arguments": arguments}
        return start(self.name, function, words)

    def close(self):
        """Close what was opened."""
        for handle in reversed(self._handles):
            handle.close()


def start(name, function, words):
    """Start a process of this file; wait until it is ready."""
    child = subprocess.Popen(
        [sys.executable, __file__, name, function, json.dumps(words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if child.stdout.readline() != "ready\n":
        child.kill()
        child.wait()
        msg = f"{function} of {name} did not start"
        raise RuntimeError(msg)
    return child


def go(child):
    """Let a process that is ready begin."""
    child.stdin.write("go\n")
    child.stdin.flush()


def report(child, timeout):
    """Wait for a process beside; return what it reports."""
    try:
        out, _ = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        raise
    return json.loads(out.splitlines()[-1])


def ready():
    """Say that this process is ready, and wait for the word to begin."""
    print("ready", flush=True)
    sys.stdin.readline()


def main():
    # Its word on SQLite's WAL-reset bug is said by the report.
    logging.getLogger("embq").setLevel(logging.ERROR)
    name, function, words = sys.argv[1:]
    if function == "about":
        print(json.dumps(CONTESTANTS[name].about()))
        return
    module, function = function.split(".")
    cell = Cell(name, json.loads(words))
    result = getattr(importlib.import_module(f"field.{module}"), function)(cell)
    print(json.dumps(result), flush=True)
    cell.close()


if __name__ == "__main__":
    main()
