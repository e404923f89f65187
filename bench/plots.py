"""The plots of docs/benchmarks.md, from results/field.json: bars, a file each.

Usage: python bench/plots.py           with matplotlib, so in the environment of bench

Each file carries a digest of what it was drawn from; `stale()` tells, without
matplotlib, whether the results are other ones by now.
"""

import hashlib
import json
import sys
from pathlib import Path

import field_tables
from peers import LIMITS

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "plots"

#: The file, what stands above it, and the figures: (scenario, key).
PLOTS = {
    "send": ("send, messages/s", [("field-verbs", "send 1")]),
    "receive": ("receive and ack, messages/s", [("field-verbs", "receive 1")]),
    "pipeline": ("producer and consumer, messages/s", [("field-pipeline", "send")]),
    "processes": ("2 + 2 processes, messages/s", [("field-processes", "rate")]),
    "threads": ("64 threads sending, messages/s", [("field-threads", "64 threads")]),
    "wake": ("send -> receive in another process, p50, us", [("field-wake", "p50")]),
}
OURS, OTHERS, SERVERS, LIMIT = "#c8553d", "#588b8b", "#b8c4bb", "#333333"


def stale():
    """List the plots that are missing, or drawn from other results."""
    return [
        name
        for name in PLOTS
        if not _path(name).exists() or _digest(name) not in _path(name).read_text()
    ]


def links():
    """Write the plots as Markdown images, and insist that they are up to date."""
    if old := stale():
        msg = f"drawn from other results: {old}; run bench/plots.py"
        raise RuntimeError(msg)
    return "\n".join(f"![{title}](plots/{n}.svg)" for n, (title, _) in PLOTS.items())


def _path(name):
    return FOLDER / f"{name}.svg"


def _data(name):
    """List what is to be drawn: contestant, promise, kind, value."""
    results = json.loads((field_tables.RESULTS / "field.json").read_text())
    rows = []
    for scenario, key in PLOTS[name][1]:
        result = results.get(scenario, {"rounds": {}, "about": {}})
        for who, rounds in result["rounds"].items():
            value = field_tables.medians(rounds).get(key)
            if value is not None:
                about = result["about"].get(who, {"embedded": True})
                kind = "limit" if who in LIMITS else ("ours" if "embq" in who else "")
                kind = kind or ("embedded" if about["embedded"] else "server")
                promise = field_tables.durability_of(who)
                rows.append((who.removesuffix(" normal"), promise, kind, value))
    return rows


def _digest(name):
    text = json.dumps([PLOTS[name][0], _data(name)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def draw(name):
    """Draw one plot: a panel for each promise, its bars on one logarithmic scale."""
    import matplotlib as mpl  # noqa: PLC0415 - the rest of the file does without

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = name  # the same results give the same file
    from matplotlib import pyplot as plt  # noqa: PLC0415

    colours = {"ours": OURS, "embedded": OTHERS, "server": SERVERS, "limit": LIMIT}
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), sharex=True)
    for panel, (promise, text) in zip(
        panels, field_tables.PROMISES.items(), strict=True
    ):
        rows = [row for row in _data(name) if row[1] == promise][::-1]
        bars = panel.barh(
            [row[0] for row in rows],
            [row[3] for row in rows],
            color=[colours[row[2]] for row in rows],
        )
        labels = [field_tables.number(row[3]) for row in rows]
        panel.bar_label(bars, labels, fontsize=7, padding=2)
        panel.set_xscale("log")
        panel.set_title(text, fontsize=8)
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(x=0.25)
    figure.suptitle(PLOTS[name][0], fontsize=10)
    figure.tight_layout()
    FOLDER.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None, "Source": _digest(name), "Creator": "bench/plots.py"}
    figure.savefig(_path(name), metadata=metadata)
    plt.close(figure)


def main():
    """Draw what is not up to date."""
    for name in stale():
        draw(name)
        print(_path(name).relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
