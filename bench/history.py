"""The history: a line for each stored run, so that a change is seen by its effect."""

import json
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent

#: What is kept of each run; the key of an aim, and what stands above its column.
KEY_FIGURES = {
    "send-normal": "send normal / limit",
    "send-full": "send full / limit",
    "send-many": "send_many / limit",
    "messages": "messages() / limit",
    "threads-64": "64 threads / 1",
    "pipeline-nowait": "1+1, nowait / limit",
    "receive-sqlite3-1k": "receive+ack / sqlite3",
    "wake-p50": "wake p50, us",
    "steady-p99": "1,000/s p99, us",
}


def append(path, conditions, ratios, note=None):
    """Add a run. What it did not measure is not in its line."""
    figures = {
        figure["key"]: round(_judged(figure), 4)
        for result in ratios.values()
        for figure in result["figures"]
    }
    if not figures:
        return
    kept = ("date", "revision", "rounds", "seconds", "load")
    line = {key: conditions[key] for key in kept}
    line |= {"change": note or _subject(), "figures": figures}
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def read(path):
    """Return the runs, oldest first."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def _judged(figure):
    return figure["value"] if figure["ratio"] is None else figure["ratio"]


def _subject():
    command = ["git", "-C", str(HERE), "log", "-1", "--format=%s"]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    return found.stdout.strip()
