"""The tables of README and docs, from the results; those of the field: field_tables.py.

For cog: `from tables import speed_table`. Needs nothing but the results, so the check
that pasted output is true measures nothing.
"""

import json
from pathlib import Path

import history
from field_tables import field_table, number

__all__ = [
    "RESULTS",
    "field_table",
    "full_table",
    "guards_table",
    "heading",
    "history_table",
    "row",
]

RESULTS = Path(__file__).resolve().parent / "results"
HEADER = ["scenario", "embq", "limit", "ratio", "target", "ok?"]

GUARDS = "guards"  # a scenario with a table of its own

#: What the README shows, by the figures' keys; the docs show all.
README = [
    "send-normal",
    "send-full",
    "send-many",
    "threads-16",
    "threads-64",
    "messages",
    "pipeline-nowait",
    "receive-sqlite3-1k",
    "receive-sqlite3-1m",
    "beside-nowait",
    "beside-messages",
    "wake-p50",
    "wake-p99",
    "idle",
    "steady-p99",
    "backlog-send",
    "backlog-receive",
    "processes-fair",
    "processes-foreign",
    "ack-p50",
]


def speed_table() -> str:
    """Write the README's table, and below it what the figures were taken on."""
    results = _results()
    figures = {f["key"]: f for result in results.values() for f in result["figures"]}
    rows = [row(figures[key]) for key in README if key in figures]
    return "\n".join([*heading(), *rows, "", _conditions(results)])


def full_table() -> str:
    """Write all figures but the guards', and below them what they were taken on."""
    results = _results()
    results.pop(GUARDS, None)
    rows = [row(f) for result in results.values() for f in result["figures"]]
    return "\n".join([*heading(), *rows, "", _conditions(results)])


def guards_table() -> str:
    """Write what a send costs with each guard and without: instructions; µs of CPU."""
    result = _results()[GUARDS]
    pairs = {}
    for figure in result["figures"]:
        name, _, kind = figure["key"].rpartition("-")
        pairs.setdefault(name, {})[kind] = figure
    lines = [
        "| send, normal | " + "with | without | ratio | " * 2 + "≤ 1.05? |",
        "|---|" + "---:|" * 6 + "---|",
    ]
    for pair in pairs.values():
        kinds = [pair["instructions"], pair["time"]]
        cells = [kinds[0]["what"].partition(": ")[2]]
        for figure in kinds:
            cells += [number(figure["value"]), number(figure["limit"])]
            cells.append(f"{figure['ratio']:.3f}")
        cells.append("yes" if all(figure["ok"] for figure in kinds) else "NO")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _conditions({GUARDS: result})])


def history_table(last: int = 20) -> str:
    """Write the latest runs: what was changed, and the key figures after it."""
    runs = history.read(RESULTS / "history.jsonl")[-last:]
    keys = [k for k in history.KEY_FIGURES if any(k in run["figures"] for run in runs)]
    names = [history.KEY_FIGURES[key] for key in keys]
    lines = [
        "| date | revision | change | " + " | ".join(names) + " |",
        "|---|---|---|" + "---:|" * len(keys),
    ]
    for run in runs:
        figures = [run["figures"].get(key) for key in keys]
        cells = ["" if f is None else number(f) for f in figures]
        head = [run["date"][:10], run["revision"] or "", run["change"]]
        lines.append("| " + " | ".join([*head, *cells]) + " |")
    return "\n".join(lines)


def heading():
    """Write the first two lines of a table."""
    dashes = ["---", *["---:"] * (len(HEADER) - 1)]
    return ["| " + " | ".join(HEADER) + " |", "|" + "|".join(dashes) + "|"]


def row(figure):
    """Write one figure as a line of a table."""
    unit = f" {figure['unit']}" if figure["unit"] else ""
    limit, ratio = figure["limit"], figure["ratio"]
    cells = [
        figure["what"],
        f"{number(figure['value'])}{unit}",
        "" if limit is None else f"{number(limit)}{unit}",
        "" if ratio is None else f"{ratio:.2f}",
        _target(figure),
        {None: "", True: "yes", False: "NO"}[figure["ok"]],
    ]
    return "| " + " | ".join(cells) + " |"


def _results():
    return json.loads((RESULTS / "ratios.json").read_text())


def _target(figure):
    if figure["at_least"] is not None:
        return f"≥ {figure['at_least']:g}"
    return "" if figure["at_most"] is None else f"≤ {figure['at_most']:g}"


def _conditions(results):
    """Write one sentence; scenarios that were measured elsewhere or later are named."""
    texts = {}
    for name, result in results.items():
        noted = result["conditions"]
        text = (
            f"{noted['cores']} cores ({noted['machine']}), {noted['file_system']}, "
            f"{noted['system']}, Python {noted['python']}, SQLite {noted['sqlite']}, "
            f"bodies of {noted['body_size']} B, medians of {noted['rounds']} rounds of "
            f"{noted['seconds']:g} s, {noted['date'][:10]}."
        )
        texts.setdefault(text, []).append(name)
    if len(texts) == 1:
        return next(iter(texts))
    return "\n".join(f"{', '.join(names)}: {text}" for text, names in texts.items())
