"""The tables of the field, from results/field.json.

One for each scenario; the contestants; and where embq stands among the embedded ones of
the same promise.
"""

import json
import statistics
from pathlib import Path

import field
from peers import CONTESTANTS, LIMITS

RESULTS = Path(__file__).resolve().parent / "results"
PROMISES = {
    "full": "synced when `send` returns",
    "normal": "safe from a killed process when `send` returns",
}
#: Where less is better among figures whose scenario has another unit or several.
LESS = ("p50", "p99", "p99.9", "MiB", "% of", "lost", "duplicates", "errors", "missing")
OURS = ("embq", "embq normal")
#: What is too little to tell two contestants apart.
RESOLUTION = {"% of a core": 0.1, "after send p50": 1, "after send p99": 1}
LEVEL = 0.95  # less than that is behind, and no noise
#: Facts, no contest: columns that no rank is made of.
FACTS = ("late", "missing", "errors", "fill", "made")


def field_table(name, result=None):
    """Write what one scenario found, and which contestants failed at it."""
    result = result or _results()[name]
    scenario = field.SCENARIOS[name]
    found = {who: medians(rounds) for who, rounds in result["rounds"].items()}
    keys = list(dict.fromkeys(key for values in found.values() for key in values))
    lines = _table(f"{scenario.title}, {scenario.unit}", keys, found)
    errors = [f"- {who}: {text}" for who, text in result["errors"].items()]
    return "\n".join([*lines, *([""] if errors else []), *errors])


def combined_table(title, columns):
    """Write figures of several scenarios side by side.

    Args:
        title: What stands above the contestants.
        columns: By the head of a column, (scenario, key). What was not measured is "-".
    """
    results = _results()
    found = {}
    for head, (name, key) in columns.items():
        for who, rounds in results.get(name, {"rounds": {}})["rounds"].items():
            found.setdefault(who, {})[head] = medians(rounds).get(key)
    ordered = {who: found[who] for who in (*CONTESTANTS, *LIMITS) if who in found}
    lines = _table(title, list(columns), ordered)
    errors = [
        f"- {who}: {text}"
        for name in dict.fromkeys(name for name, _ in columns.values())
        for who, text in results.get(name, {"errors": {}})["errors"].items()
    ]
    return "\n".join([*lines, *([""] if errors else []), *errors])


def _table(title, heads, found):
    """Lay out a table: a group for each promise, the limit first in it."""
    lines = [f"| {title} | " + " | ".join(heads) + " |"]
    lines.append("|---|" + "---:|" * len(heads))
    for durability, promise in PROMISES.items():
        group = [who for who in found if durability_of(who) == durability]
        if group:
            lines.append(f"| **{promise}** |" + " |" * len(heads))
        for who in sorted(group, key=lambda who: who not in LIMITS):
            cells = [number(found[who].get(head)) for head in heads]
            lines.append(f"| {_label(who)} | " + " | ".join(cells) + " |")
    return lines


def field_conditions():
    """Write what the field was measured on, once for each set of conditions."""
    texts = {}
    for name, result in _results().items():
        noted = result["conditions"]
        text = (
            f"{noted['cores']} cores ({noted['machine']}), {noted['file_system']}, "
            f"{noted['system']}, Python {noted['python']}, {noted['date'][:10]}, "
            f"embq at {noted['revision']}"
        )
        texts.setdefault(text, []).append(name)
    if len(texts) == 1:
        return f"Measured on {next(iter(texts))}."
    lines = [f"- {', '.join(names)}: {text}" for text, names in texts.items()]
    return "\n".join(["Measured on:", "", *lines])


def contestants_table():
    """Write who took part, what each promises, and how each was used."""
    about = {}
    for result in _results().values():
        about |= result["about"]
    heads = ["contestant", "version", "when `send` returns", "held by the dead", "used"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for who in CONTESTANTS:
        if who in about:
            it = about[who]
            client = f" ({it['client']})" if it["client"] else ""
            kind = "" if it["embedded"] else ", a server"
            promise = "synced" if it["durability"] == "full" else "in the page cache"
            lines.append(
                f"| {who}{kind} | {it['version']}{client} | {promise} "
                f"| {it['acks']} | {it['note']} |"
            )
    return "\n".join(lines)


def missing_list():
    """Write what could not be installed, with its error."""
    missing = {}
    for result in _results().values():
        missing |= result["missing"]
    if not missing:
        return "All installed."
    return "\n".join(f"- `{what}`: {error}" for what, error in missing.items())


def standing(results=None):
    """List each figure of embq with the embedded peer that does best at its promise.

    The ratio is the median of the rounds' ratios; more than 1 is ahead.
    """
    rows = []
    for name, result in (results or _results()).items():
        everybody = result["rounds"]
        for me in OURS:
            rivals = [
                who
                for who in everybody
                if who not in (*LIMITS, *OURS)
                and durability_of(who) == durability_of(me)
                and CONTESTANTS[who].server is None
            ]
            for key in medians(everybody.get(me, [])):
                found = [_place(name, key, me, who, everybody) for who in rivals]
                found = [row for row in found if row is not None]
                if found and not key.startswith(FACTS):
                    rows.append(min(found, key=lambda row: row["ratio"]))
    return rows


def behind_table():
    """Write the figures at which an embedded peer is ahead."""
    all_rows = standing()
    rows = [row for row in all_rows if row["ratio"] < LEVEL]
    ahead = f"{len(all_rows) - len(rows)} of {len(all_rows)} figures"
    lines = [
        f"embq is ahead of every embedded peer, or level with it, in {ahead}. Others:",
        "",
        "| scenario | figure | embq | best peer | ratio |",
        "|---|---|---:|---:|---:|",
    ]
    for row in sorted(rows, key=lambda row: row["ratio"]):
        title = field.SCENARIOS[row["name"]].title
        lines.append(
            f"| {title} | {row['key']}, {row['durability']} | {number(row['mine'])} "
            f"| {number(row['best'])} ({row['who']}) | {row['ratio']:.2f} |"
        )
    return "\n".join(lines)


def _place(name, key, me, who, everybody):
    """Compare with one peer, round by round; None where one of them has no figure."""
    pairs = [
        (mine[key], its[key])
        for mine, its in zip(everybody[me], everybody[who], strict=True)
        if mine.get(key) is not None and its.get(key) is not None
    ]
    if not pairs:
        return None
    less = not field.SCENARIOS[name].higher_is_better or any(w in key for w in LESS)
    ratios = [_ratio(its, mine) if less else _ratio(mine, its) for mine, its in pairs]
    if less and all(a - b < RESOLUTION.get(key, 0) for a, b in pairs):
        ratios = [max(1.0, ratio) for ratio in ratios]
    return {
        "name": name,
        "key": key,
        "durability": durability_of(me),
        "mine": statistics.median(mine for mine, _ in pairs),
        "who": who,
        "best": statistics.median(its for _, its in pairs),
        "ratio": statistics.median(ratios),
    }


def _ratio(better, worse):
    if better == worse:
        return 1.0
    return better / worse if worse else float("inf")


def figures(name):
    """Return the medians of a scenario, by contestant."""
    rounds = _results()[name]["rounds"]
    return {who: medians(found) for who, found in rounds.items()}


def medians(rounds):
    """Take the median of each figure; None where most rounds had none."""
    keys = dict.fromkeys(key for one in rounds for key in one)
    found = {}
    for key in keys:
        values = [one[key] for one in rounds if one.get(key) is not None]
        found[key] = statistics.median(values) if values else None
    return found


def durability_of(who):
    """Say which promise a contestant, or a limit, belongs to."""
    if who in LIMITS:
        return LIMITS[who].lower()
    return CONTESTANTS[who].durability


def number(value):
    """Write a number with the digits that mean something."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def _label(who):
    if who in LIMITS:
        return "*limit*"
    name = who.removesuffix(" normal")
    return f"{name} (server)" if CONTESTANTS[who].server else name


def _results():
    return json.loads((RESULTS / "field.json").read_text())
