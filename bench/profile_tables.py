"""The tables of costs per message, from results/profile.json (costs.py)."""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
PARTS = ("embq's C", "SQLite", "libc", "Python", "cffi", "msgspec")
CALLS_SHOWN = 5
LEAST = 0.01  # calls per message that are worth a word


def instructions_table():
    """Write instructions per message, by the library that they are in."""
    lines = [
        "| path | in all | " + " | ".join(PARTS) + " |",
        "|---|" + "---:|" * (len(PARTS) + 1),
    ]
    for path in _results().values():
        found = path["instructions"]
        cells = [f"{found.get(part, 0):,.0f}" for part in PARTS]
        row = [path["title"], f"{sum(found.values()):,.0f}", *cells]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


#: What is shown of embq's functions: each does a part of a group, with what it calls.
STEPS = {
    "transaction_begin": "take the write lock",
    "message_send": "insert",
    "claim_run": "claim",
    "settle_run": "settle",
    "runs_flush": "delete, write the run",
    "channels_flush": "the same with counters and cursors",
    "sqlite3WalFrames": "in the commit: write pages",
}


def steps_table():
    """Write instructions per message, by what the leader of a group does."""
    paths = {
        name: p for name, p in _results().items() if "embq_" in str(p["functions"])
    }
    shown = [
        name for name in STEPS if any(name in p["functions"] for p in paths.values())
    ]
    lines = [
        "| path | " + " | ".join(STEPS[name] for name in shown) + " |",
        "|---|" + "---:|" * len(shown),
    ]
    for path in paths.values():
        cells = [f"{path['functions'].get(name, 0):,.0f}" for name in shown]
        lines.append("| " + " | ".join([path["title"], *cells]) + " |")
    return "\n".join(lines)


def system_calls_table():
    """Write system calls per message, the most frequent ones by name."""
    lines = ["| path | in all | of which |", "|---|---:|---|"]
    for path in _results().values():
        found = path["system_calls"]
        named = sorted(found.items(), key=lambda item: -item[1])
        named = [f"{k} {v:.3g}" for k, v in named if v >= LEAST][:CALLS_SHOWN]
        total = f"{sum(found.values()):.3g}"
        lines.append(f"| {path['title']} | {total} | {', '.join(named)} |")
    return "\n".join(lines)


def _results():
    return json.loads((RESULTS / "profile.json").read_text())
