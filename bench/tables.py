"""The tables of speed in README and docs, from results/ratios.json.

For cog: `from tables import speed_table`. Needs nothing but the results, so the check
that pasted output is true measures nothing.
"""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results" / "ratios.json"
HEADER = ["scenario", "embq", "limit", "ratio", "target", "ok?"]

#: What the README shows, by the figures' keys; the docs show all.
README = [
    "send-normal",
    "send-full",
    "send-many",
    "threads-16",
    "threads-64",
    "messages",
    "beside-nowait",
    "beside-messages",
    "wake-p50",
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
    """Write all figures, and below them what they were taken on."""
    results = _results()
    rows = [row(f) for result in results.values() for f in result["figures"]]
    return "\n".join([*heading(), *rows, "", _conditions(results)])


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
        f"{_number(figure['value'])}{unit}",
        "" if limit is None else f"{_number(limit)}{unit}",
        "" if ratio is None else f"{ratio:.2f}",
        _target(figure),
        {None: "", True: "yes", False: "NO"}[figure["ok"]],
    ]
    return "| " + " | ".join(cells) + " |"


def _results():
    return json.loads(RESULTS.read_text())


def _number(value):
    """Write a number with the digits that mean something."""
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


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
