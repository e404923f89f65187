"""The plots of docs/benchmarks.md, from results/field.json: bars, an SVG file each.

Usage: python bench/plots.py

Written by hand, since matplotlib brings numpy, which embq's process would then load as
well when its memory is measured. The same results give the same files, so `make docs`
can tell whether they are up to date.
"""

import math
import sys
from pathlib import Path
from xml.sax.saxutils import escape

import field_tables
from peers import CONTESTANTS, LIMITS

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "plots"

#: The file, what stands above it, and the figure: scenario, key.
PLOTS = {
    "send": ("send, messages/s", "field-verbs", "send 1"),
    "receive": ("receive and ack, messages/s", "field-verbs", "receive 1"),
    "pipeline": ("producer and consumer, messages/s", "field-pipeline", "send"),
    "processes": ("2 + 2 processes, messages/s", "field-processes", "rate"),
    "threads": ("64 threads sending, messages/s", "field-threads", "64 threads"),
    "wake": ("send -> receive in another process, p50, us", "field-wake", "p50"),
}
COLOURS = {
    "embq": "#c8553d",
    "embedded": "#588b8b",
    "server": "#b8c4bb",
    "limit": "#333333",
}
# In pixels.
PANEL, LABEL, BAR, GAP, TOP, VALUE = 450, 150, 14, 5, 52, 60


def links():
    """Write the plots as Markdown images, and insist that they are up to date."""
    old = [n for n in PLOTS if not _path(n).exists() or _path(n).read_text() != draw(n)]
    if old:
        msg = f"drawn from other results: {old}; run bench/plots.py"
        raise RuntimeError(msg)
    return "\n".join(f"![{title}](plots/{n}.svg)" for n, (title, *_) in PLOTS.items())


def draw(name):
    """Draw one plot: a panel for each promise, its bars on one logarithmic scale."""
    title, scenario, key = PLOTS[name]
    values = {
        who: found[key]
        for who, found in field_tables.figures(scenario).items()
        if found.get(key)
    }
    low = 10 ** math.floor(math.log10(min(values.values())))
    high = max(values.values())
    groups = [
        [who for who in values if field_tables.durability_of(who) == durability]
        for durability in field_tables.PROMISES
    ]
    height = TOP + (BAR + GAP) * max(map(len, groups)) + GAP
    area = f'width="{2 * PANEL}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {area} font-family="sans-serif">',
        f'<rect {area} fill="white"/>',
        _text(PANEL, 18, title, anchor="middle", size=14),
    ]
    for left, group, promise in zip(
        (0, PANEL), groups, field_tables.PROMISES.values(), strict=True
    ):
        lines.append(_text(left + LABEL, 40, promise.replace("`", "")))
        for row, who in enumerate(group):
            share = math.log(values[who] / low) / math.log(high / low)
            lines += _bar(left, TOP + row * (BAR + GAP), who, values[who], share)
    return "\n".join([*lines, "</svg>", ""])


def _bar(left, top, who, value, share):
    """Draw one contestant: its name, its bar, its figure."""
    width = max(1, round(share * (PANEL - LABEL - VALUE)))
    base = top + BAR - 3
    start = left + LABEL
    area = f'x="{start}" y="{top}" width="{width}" height="{BAR}"'
    return [
        _text(start - 6, base, who.removesuffix(" normal"), anchor="end"),
        f'<rect {area} fill="{COLOURS[_kind(who)]}"/>',
        _text(start + width + 4, base, field_tables.number(value)),
    ]


def _kind(who):
    if who in LIMITS:
        return "limit"
    if who in field_tables.OURS:
        return "embq"
    return "server" if CONTESTANTS[who].server else "embedded"


def _text(x, y, text, *, anchor="start", size=11):
    place = f'x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}"'
    return f"<text {place}>{escape(text)}</text>"


def _path(name):
    return FOLDER / f"{name}.svg"


def main():
    """Draw all of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in PLOTS:
        _path(name).write_text(draw(name))


if __name__ == "__main__":
    sys.exit(main())
