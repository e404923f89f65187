"""`make test-all`: the wheel and the tests on each CPython that the machine has.

    python tests/pythons/each.py [--only "3.12 3.13t"] [PYTEST'S ARGUMENTS]

Interpreters are the commands `python3.N` of PATH, and what the variable PYTHONS names.
The one wheel in `dist` is first tried on each, in an environment that is new. Then each
runs the tests in one of its own, `.venv-3.N` beside `.venv`: on a copy of the checkout,
`.venv-3.N/tree`, with the core built there by it. A table at the end says what passed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tests/

from covered import LEFT_OUT
from pythons.interpreters import ASKED_FOR, Found, Python, search

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD_NEEDS = ["setuptools>=77", "wheel>=0.43", "cffi>=1.17"]  # as `make setup`
PIP = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
PASSED, FAILED = "passed", "FAILED"


def say(text: str) -> None:
    """Print a line at once: what is started writes to the same place."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def done(*command: object, cwd: Path) -> bool:
    """Run a command; tell whether it succeeded. Its output is for who looks on."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONS"}
    ran = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, check=False)
    return ran.returncode == 0


def try_wheel(python: Python, wheel: Path) -> str:
    """Install the wheel where nothing else is, and let it work."""
    if python.name.endswith("t"):
        return "not for it"  # no abi3 before free-threaded 3.15: PEP 803
    with tempfile.TemporaryDirectory(prefix="embq-wheel-") as name:
        folder = Path(name)
        inside = folder / "env" / "bin" / "python"
        passed = (
            done(python.path, "-m", "venv", folder / "env", cwd=folder)
            and done(inside, *PIP, wheel, cwd=folder)
            and done(inside, "-W", "error", HERE / "smoke.py", folder, cwd=folder)
        )
    return PASSED if passed else FAILED


def environment_of(python: Python) -> Path | None:
    """Make `.venv-3.N`, or keep it if it is of this very version."""
    folder = ROOT / f".venv-{python.name}"
    inside = folder / "bin" / "python"
    tell = "import platform, sys; sys.exit(platform.python_version() != sys.argv[1])"
    if not (inside.exists() and done(inside, "-c", tell, python.version, cwd=ROOT)):
        shutil.rmtree(folder, ignore_errors=True)
        if not done(python.path, "-m", "venv", folder, cwd=ROOT):
            return None
    return folder


def try_suite(python: Python, arguments: list[str]) -> str:
    """Build the core from a copy of the checkout as it stands, and run the tests."""
    folder = environment_of(python)
    if folder is None:
        return FAILED
    tree, inside = folder / "tree", folder / "bin" / "python"
    if tree.exists():
        shutil.rmtree(tree)
    shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
    editable = [*PIP, "--no-build-isolation", "--editable", ".[test]"]
    passed = (
        done(inside, *PIP, *BUILD_NEEDS, cwd=tree)
        and done(inside, *editable, cwd=tree)
        and done(inside, "-m", "pytest", *arguments, cwd=tree)
    )
    return PASSED if passed else FAILED


def table(found: Found, verdicts: dict[Python, list[str]]) -> list[str]:
    """Lay out what became of each version, and what is not on this machine."""
    lines = [f"{'Python':<12}{'wheel':<12}tests"]
    for python, (wheel, suite) in verdicts.items():
        free = " (free-threaded)" if python.name.endswith("t") else ""
        lines.append(f"{python.version:<12}{wheel:<12}{suite}{free}")
    there = {python.name for python in found.pythons}
    missing = [name for name in ASKED_FOR if name not in there]
    if missing:
        lines.append(f"not found: {', '.join(missing)} (PYTHONS=... names others)")
    return lines + [f"not taken: {why}" for why in found.refused]


def chosen(found: Found, only: list[str]) -> list[Python]:
    """Leave out what is not asked for.

    Raises:
        ValueError: None is left, or one that is asked for is not there.
    """
    there = {python.name for python in found.pythons}
    if absent := [name for name in only if name not in there]:
        whys = "; ".join([f"not found: {', '.join(absent)}", *found.refused])
        raise ValueError(whys)
    if not there:
        msg = "; ".join(["no Python was found", *found.refused])
        raise ValueError(msg)
    return [one for one in found.pythons if not only or one.name in only]


def main(arguments: list[str]) -> int:
    """Try all; 0 when everything passed that could be tried."""
    only: list[str] = []
    if arguments[:1] == ["--only"]:
        only, arguments = arguments[1].split(), arguments[2:]
    named = shlex.split(os.environ.get("PYTHONS", ""))
    try:
        found = search(named, os.environ.get("PATH", ""))
        pythons = chosen(found, only)
        [wheel] = ROOT.glob("dist/*.whl")
    except ValueError as error:
        say(str(error))
        return 2
    verdicts: dict[Python, list[str]] = {}
    for python in pythons:
        say(f"== {python.version} ({python.path}): {wheel.name}")
        verdicts[python] = [try_wheel(python, wheel)]
    for python in pythons:
        say(f"== {python.version} ({python.path}): tests")
        verdicts[python].append(try_suite(python, arguments))
    say("\n".join(table(found, verdicts)))
    return int(any(FAILED in verdict for verdict in verdicts.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
