"""Other SQLites: each module's own copy is used, and what cannot be says so."""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import Children

from embq import _sqlite

WORK = """
    import importlib, json, os, sys
    import embq

    module = importlib.import_module(os.environ.get("EMBQ_SQLITE_MODULE", "sqlite3"))
    with embq.open(sys.argv[1], durability="normal") as broker:
        queue = broker.queue("q")
        queue.send({"number": 17})
        message = queue.receive(wait=5)
        data, left = message.data, [queue.depth()]
        message.ack()
        left.append(queue.depth())
        used = broker.stats()["sqlite_version"]
    version = getattr(module, "sqlite_version", None) or module.sqlite_lib_version()
    print(json.dumps([data, left, used == version, used, sys.executable]))
"""
REFUSED = """
    import sys, embq

    try:
        embq.open(sys.argv[1]).queue("q")
    except embq.UnsupportedSQLite as error:
        print(error)
"""
IMPORT = """
    import time
    begun = time.perf_counter()
    import embq
    print(time.perf_counter() - begun)
"""
CHECKOUT = Path(__file__).parents[1]
DEBIAN = "/usr/bin/python3"
WAIT_S = 30.0


def worked(output: str) -> None:
    """Check what WORK printed."""
    data, left, same, used, _ = json.loads(output)
    assert data == {"number": 17}
    assert left == [1, 0]
    assert same, f"embq uses SQLite {used}, which is not the module's"


@pytest.mark.parametrize("module", [None, "sqlite3", "pysqlite3", "apsw"])
def test_a_module(
    children: Children, path: Path, monkeypatch: pytest.MonkeyPatch, module: str | None
) -> None:
    """A message goes through the SQLite of the module that the variable names."""
    if module and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed here: pip install 'embq[test]'")
    monkeypatch.delenv("EMBQ_SQLITE_MODULE", raising=False)
    env = {"EMBQ_SQLITE_MODULE": module} if module else {}
    worked(children.finish(children.start(WORK, path, **env), WAIT_S))


@pytest.mark.parametrize("module", ["no_such_module", "json"])
def test_no_module(module: str, children: Children, path: Path) -> None:
    """A module that is not there, or is no SQLite, is refused with a remedy."""
    child = children.start(REFUSED, path, EMBQ_SQLITE_MODULE=module)
    text = children.finish(child, WAIT_S)
    assert module in text
    assert "pysqlite3" in text
    assert not path.exists()


def unfit() -> str | None:
    """Tell why Debian's Python cannot run this build; None when it can."""
    if not Path(DEBIAN).exists():
        return f"there is no {DEBIAN}"
    ask = "import sys; print(sys.implementation.cache_tag, *sys.version_info[:2])"
    answer = subprocess.run(
        [DEBIAN, "-c", ask], check=True, capture_output=True, text=True
    )
    tag, major, minor = answer.stdout.split()
    if (int(major), int(minor)) < (3, 11):
        return f"{DEBIAN} is Python {major}.{minor}, older than 3.11"
    if tag != sys.implementation.cache_tag:
        ours = sys.implementation.cache_tag
        return f"{DEBIAN} is {tag}, the packages here are for {ours}"
    return None


def test_the_python_of_debian(path: Path, tmp_path: Path) -> None:
    """Where sqlite3 shares the distribution's libsqlite3, that one is used."""
    reason = unfit()
    if reason:
        pytest.skip(reason)
    script = tmp_path / "debian.py"
    script.write_text(textwrap.dedent(WORK))
    packages = [entry for entry in sys.path if entry.endswith("site-packages")]
    env = {key: value for key, value in os.environ.items() if "EMBQ" not in key}
    env["PYTHONPATH"] = os.pathsep.join([str(CHECKOUT), *packages])
    done = subprocess.run(
        [DEBIAN, str(script), str(path)],
        check=False,
        capture_output=True,
        text=True,
        env=env,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr
    worked(done.stdout)
    assert Path(json.loads(done.stdout)[-1]).parent == Path(DEBIAN).parent


def test_the_time_of_an_import(children: Children) -> None:
    """`import embq` costs less than 60 ms: the best of seven fresh processes."""
    times = [float(children.run(IMPORT)) for _ in range(7)]
    assert min(times) < 0.06, f"{min(times) * 1000:.0f} ms"


def test_the_wal_reset_bug_is_known_by_version() -> None:
    """The versions that may lose pages are told from the mended ones."""
    bad = [3_037_000, 3_040_001, 3_044_005, 3_045_000, 3_050_006, 3_051_002]
    good = [3_044_006, 3_050_007, 3_051_003, 3_053_000]
    assert [_sqlite.may_lose_pages(version) for version in bad] == [True] * len(bad)
    assert [_sqlite.may_lose_pages(version) for version in good] == [False] * len(good)
