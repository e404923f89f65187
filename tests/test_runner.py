"""The runner of the benchmarks: it measures, reports, and stores what may be stored.

The figures themselves are of no account here, and no peer is needed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"


def run_bench(tmp_path: Path, *arguments: str) -> str:
    """Run the runner on embq and on sqlite3, shortly; return what it printed."""
    script = [sys.executable, BENCH / "run.py", "--dir", tmp_path]
    words = ["--output", tmp_path, "--rounds", "1", "--seconds", "0.05", *arguments]
    done = subprocess.run(
        [*script, *words], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the modules of the bench be found, as for its scripts."""
    monkeypatch.syspath_prepend(str(BENCH))


def test_each_contestant_has_a_row_in_its_group(tmp_path: Path) -> None:
    """A scenario of the field prints one row for each contestant, by promise."""
    text = run_bench(
        tmp_path,
        *("--only", "field-verbs", "--peers", "embq", "sqlite3 normal", "embq normal"),
    )
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line[:1] == "|"]
    assert [row.split()[0] for row in rows[2:]] == [
        "**synced",
        "embq",
        "**safe",
        "sqlite3",
        "embq",
    ]


def test_a_look_stores_nothing(tmp_path: Path) -> None:
    """With `--peers`, which leaves contestants out, no result is overwritten."""
    run_bench(tmp_path, "--only", "field-verbs", "--peers", "embq")
    assert not list(tmp_path.glob("*.json*"))


def test_a_stored_run_is_in_the_history(tmp_path: Path) -> None:
    """A run of an aim writes its figures, and a line of the history with them."""
    run_bench(tmp_path, "--only", "steady", "--note", "a change")
    stored = json.loads((tmp_path / "ratios.json").read_text())
    figures = {f["key"]: f["value"] for f in stored["steady"]["figures"]}
    (line,) = (tmp_path / "history.jsonl").read_text().splitlines()
    assert json.loads(line)["change"] == "a change"
    assert json.loads(line)["figures"] == pytest.approx(figures, abs=1e-4)


@pytest.mark.usefixtures("folder")
def test_embq_is_ranked_against_its_own_promise_alone() -> None:
    """A peer that does not sync is no rival of one that does; less time is better."""
    import field_tables  # noqa: PLC0415 - found by the fixture

    found = {
        "embq": [{"p50": 10.0}],
        "huey": [{"p50": 20.0}],
        "litequeue": [{"p50": 1.0}],  # safe from a killed process only
        "beanstalkd -f 0": [{"p50": 2.0}],  # a server
    }
    (row,) = field_tables.standing({"field-wake": {"rounds": found}})
    assert (row["who"], row["ratio"]) == ("huey", 2.0)
