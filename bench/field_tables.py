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
        return f"{next(iter(texts))}."
    return "\n".join(f"- {', '.join(names)}: {t}" for t, names in texts.items())


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
    """List each figure: embq's ratio to the best embedded peer of the same promise."""
    rows = []
    for name, result in (results or _results()).items():
        found = {who: medians(rounds) for who, rounds in result["rounds"].items()}
        for me in ("embq", "embq normal"):
            for key, mine in found.get(me, {}).items():
                if key.startswith(FACTS):
                    continue
                rivals = {
                    who: values[key]
                    for who, values in found.items()
                    if who not in (*LIMITS, "embq", "embq normal")
                    and durability_of(who) == durability_of(me)
                    and CONTESTANTS[who].server is None
                    and values.get(key) is not None
                }
                if rivals and mine is not None:
                    rows.append(_place(name, key, me, mine, rivals))
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


def _place(name, key, me, mine, rivals):
    """Compare with the best one; more than 1 is ahead."""
    less = not field.SCENARIOS[name].higher_is_better or any(w in key for w in LESS)
    who = (min if less else max)(rivals, key=rivals.get)
    best = rivals[who]
    if mine == best:
        ratio = 1.0
    elif less:
        ratio = best / mine if mine else float("inf")
    else:
        ratio = mine / best if best else float("inf")
    return {
        "name": name,
        "key": key,
        "durability": durability_of(me),
        "mine": mine,
        "who": who,
        "best": best,
        "ratio": ratio,
    }


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
