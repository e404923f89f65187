"""`make test-all`: which interpreters it takes, what it tells, and how it ends."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from pythons import each, interpreters

REFUSING = "#!/bin/sh\necho 'no such version' >&2\nexit 127\n"


def program(folder: Path, name: str, text: str) -> Path:
    """Write a command into a folder."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def python(folder: Path, file: str, version: str, **facts: object) -> Path:
    """Write a command that says it is a Python, with nothing behind it."""
    path = str(folder / file)
    minor = ".".join(version.split(".")[:2])
    answer = {"path": path, "kind": "cpython", "version": version, "name": minor}
    text = json.dumps({**answer, "lacks": [], **facts})
    return program(folder, file, f"#!/bin/sh\necho '{text}'\n")


def names(pythons: interpreters.Found) -> list[str]:
    """List the versions that were interpreters."""
    return [one.version for one in pythons.pythons]


def test_each_version_once(tmp_path: Path) -> None:
    """The first folder of PATH that has a version gives it; the oldest comes first."""
    one, two = tmp_path / "one", tmp_path / "two"
    python(one, "python3.13", "3.13.5")
    python(two, "python3.13", "3.13.9")
    python(two, "python3.12", "3.12.1")
    python(two, "python3.13t", "3.13.9", name="3.13t")
    python(two, "python3.20", "3.20.0")
    python(two, "python3.12-config", "3.12.1")
    answer = interpreters.search(
        [], os.pathsep.join([str(one), "", "/nowhere", str(two)])
    )
    assert names(answer) == ["3.12.1", "3.13.5", "3.13.9", "3.20.0"]
    assert [one.name for one in answer.pythons] == ["3.12", "3.13", "3.13t", "3.20"]
    assert not answer.refused


def test_what_does_not_run_is_told(tmp_path: Path) -> None:
    """A command that only says no is passed over for the next, or told with its words.

    Version managers put one `python3.N` on PATH for each version that is switched off.
    """
    off, on = tmp_path / "off", tmp_path / "on"
    shim = program(off, "python3.12", REFUSING)
    python(on, "python3.12", "3.12.1")
    python(on, "python3.13", "3.13.0", lacks=["Python.h"])
    python(on, "python3.11", "3.11.2", kind="pypy")
    python(on, "python3.10", "3.10.1")
    answer = interpreters.search([], os.pathsep.join([str(off), str(on)]))
    assert names(answer) == ["3.12.1"]
    assert answer.refused == [
        f"{on}/python3.11 is pypy, not CPython",
        f"{on}/python3.13 is 3.13.0 without Python.h",
    ]
    assert interpreters.search([], str(off)).refused == [
        f"{shim} does not run: no such version"
    ]


def test_the_named_come_first(tmp_path: Path) -> None:
    """What PYTHONS names is taken rather than PATH's, and must be usable."""
    python(tmp_path, "python3.12", "3.12.1")
    mine = python(tmp_path, "mine", "3.12.9")
    old = python(tmp_path, "old", "3.10.4")
    assert names(interpreters.search([str(mine)], str(tmp_path))) == ["3.12.9"]
    assert names(interpreters.search(["mine"], str(tmp_path))) == ["3.12.9"]
    with pytest.raises(ValueError, match=r"old is 3\.10\.4, older than 3\.11"):
        interpreters.search([str(old)], str(tmp_path))
    with pytest.raises(ValueError, match="gone does not run"):
        interpreters.search([str(tmp_path / "gone")], str(tmp_path))


def test_this_python_is_known() -> None:
    """The interpreter that runs this test is told what it is."""
    answer = interpreters.probe(sys.executable)
    assert isinstance(answer, interpreters.Python)
    assert answer.name.removesuffix("t") == "{}.{}".format(*sys.version_info)
    assert answer.version == sys.version.split()[0]


def test_what_is_asked_for_must_be_there(tmp_path: Path) -> None:
    """ONLY chooses among those found; it is no way to pass without a test."""
    python(tmp_path, "python3.12", "3.12.1")
    python(tmp_path, "python3.13", "3.13.0")
    there = interpreters.search([], str(tmp_path))
    assert [one.name for one in each.chosen(there, ["3.13"])] == ["3.13"]
    assert [one.name for one in each.chosen(there, [])] == ["3.12", "3.13"]
    with pytest.raises(ValueError, match=r"not found: 3\.14"):
        each.chosen(there, ["3.13", "3.14"])
    with pytest.raises(ValueError, match="no Python was found"):
        each.chosen(interpreters.search([], str(tmp_path / "gone")), [])


@pytest.mark.parametrize("failing", ["", "wheel", "suite"])
def test_one_failure_is_the_failure_of_all(
    failing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The table has a line for each version; the exit code tells if one failed."""
    python(tmp_path / "bin", "python3.12", "3.12.1")
    python(tmp_path / "bin", "python3.13", "3.13.0")
    program(tmp_path / "dist", "embq.whl", "")
    monkeypatch.setattr(each, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("PYTHONS", raising=False)
    seen = []

    def attempt(what: str, one: interpreters.Python, argument: object) -> str:
        seen.append((what, one.name, argument))
        fails = what == failing and one.name == "3.12"
        return each.FAILED if fails else each.PASSED

    monkeypatch.setattr(each, "try_wheel", lambda *given: attempt("wheel", *given))
    monkeypatch.setattr(each, "try_suite", lambda *given: attempt("suite", *given))
    assert each.main(["--only", "", "-k", "name"]) == (1 if failing else 0)
    wheel = tmp_path / "dist" / "embq.whl"
    versions = ["3.12", "3.13"]
    wanted = [("wheel", name, wheel) for name in versions]
    assert seen == [*wanted, *(("suite", name, ["-k", "name"]) for name in versions)]
    said = capfd.readouterr().out.splitlines()
    fates = ["FAILED" if failing == what else "passed" for what in ("wheel", "suite")]
    assert f"{'3.12.1':<12}{fates[0]:<12}{fates[1]}" in said
    assert f"{'3.13.0':<12}{'passed':<12}passed" in said
    assert any(line.startswith("not found: 3.11, 3.14, 3.13t, 3.14t") for line in said)


def test_a_command_that_fails_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`done` tells the exit code, and PYTHONS does not reach what is tried."""
    monkeypatch.setenv("PYTHONS", "nothing")
    asks = "import os, sys; sys.exit('PYTHONS' in os.environ)"
    assert each.done(sys.executable, "-c", asks, cwd=tmp_path)
    assert not each.done(sys.executable, "-c", "raise SystemExit(1)", cwd=tmp_path)
