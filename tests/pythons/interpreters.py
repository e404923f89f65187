"""The CPythons of this machine that the tests can be run on: one of each version."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

OLDEST = (3, 11)  # as `requires-python` of pyproject.toml says
# What is told to be missing; any version that is found is run. `t`: free-threaded.
ASKED_FOR = ("3.11", "3.12", "3.13", "3.14", "3.13t", "3.14t")
NAME = re.compile(r"python3\.\d+t?")
PROBE_S = 60.0
PROBE = """
import importlib.util, json, pathlib, platform, sys, sysconfig
headers = pathlib.Path(sysconfig.get_path("include"), "Python.h")
needs = {"Python.h": headers.exists()}
for module in ("ensurepip", "sqlite3", "venv"):
    needs[module] = importlib.util.find_spec(module) is not None
free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
print(json.dumps({
    "path": sys.executable,
    "kind": sys.implementation.name,
    "version": platform.python_version(),
    "name": f"{sys.version_info[0]}.{sys.version_info[1]}" + "t" * free,
    "lacks": [need for need, there in needs.items() if not there],
}))
"""


class Python(NamedTuple):
    """An interpreter that can have an environment, and build the core for it."""

    name: str  # "3.12", "3.14t"
    version: str  # "3.12.1"
    path: str


class Found(NamedTuple):
    """What there is, and why other commands are not taken."""

    pythons: list[Python]
    refused: list[str]  # "COMMAND: why"


def probe(command: str) -> Python | str:
    """Ask a command what it is; give why it cannot be taken, if so."""
    try:
        done = subprocess.run(
            [command, "-c", PROBE],
            check=False,
            capture_output=True,
            text=True,
            timeout=PROBE_S,
        )
        answer = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run: {error}"
    except ValueError:  # for example a name that stands for a version not switched on
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return f"does not run: {said[0] if said else f'exit {done.returncode}'}"
    if answer["kind"] != "cpython":
        return f"is {answer['kind']}, not CPython"
    if numbers(answer["name"]) < OLDEST:
        return f"is {answer['version']}, older than {'.'.join(map(str, OLDEST))}"
    if answer["lacks"]:
        return f"is {answer['version']} without {', '.join(answer['lacks'])}"
    return Python(answer["name"], answer["version"], answer["path"])


def numbers(name: str) -> tuple[int, int]:
    """Give what versions are ordered by: (3, 14) for "3.14t"."""
    major, minor = name.removesuffix("t").split(".")
    return int(major), int(minor)


def on_path(path: str) -> list[str]:
    """List the commands `python3.N` of all folders, in the order of the folders."""
    found = []
    for folder in filter(None, path.split(os.pathsep)):
        if Path(folder).is_dir():
            names = sorted(each.name for each in Path(folder).iterdir())
            found += [
                str(Path(folder, name))
                for name in names
                if NAME.fullmatch(name) and numbers(name[len("python") :]) >= OLDEST
            ]
    return found


def search(named: list[str], path: str) -> Found:
    """Find one interpreter of each version.

    Args:
        named: Commands or paths that come first; each must be usable.
        path: The folders to search for others, as in the variable `PATH`.

    Returns:
        The interpreters, oldest first, and what was refused where no other of its name
        was taken.

    Raises:
        ValueError: One that is named cannot be taken.
    """
    pythons: dict[str, Python] = {}
    refused: dict[str, str] = {}
    for command in named:
        answer = probe(shutil.which(command, path=path) or command)
        if isinstance(answer, str):
            msg = f"{command} {answer}"
            raise ValueError(msg)  # noqa: TRY004  (a wrong name, no wrong type)
        pythons.setdefault(answer.name, answer)
    for command in on_path(path):
        name = Path(command).name.removeprefix("python")
        if name in pythons:
            continue
        answer = probe(command)
        if isinstance(answer, str):
            refused.setdefault(name, f"{command} {answer}")
        else:
            pythons.setdefault(answer.name, answer)
    ordered = sorted(pythons.values(), key=lambda one: (numbers(one.name), one.name))
    kept = [why for name, why in refused.items() if name not in pythons]
    return Found(ordered, kept)
