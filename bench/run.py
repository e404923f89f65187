"""Measures embq, its peers and the limit, in turn; says whether the aims are reached.

Usage: python bench/run.py [--only NAME ...] [--rounds N] [--seconds S] [--dir DIR]
                           [--quick] [--long] [--peers NAME ...] [--note TEXT]

Two kinds of scenario. The *aims* (scenarios/) compare embq with the limit, which is
SQLite from C without an interpreter (limit.c), or with itself, and have targets. Those
of the *field* (field/) measure every contestant of peers/. Everything that is compared
is measured round by round, and a ratio is the median of the ratios of the rounds, so
that a machine that is slow for a while is slow for all.

Prints Markdown, writes results/ratios.json and results/field.json, where `--only`
replaces what it measured anew, and adds a line to results/history.jsonl. `--quick` and
`--peers` are for a look: they store nothing.
"""

import argparse
import contextlib
import datetime as dt
import json
import logging
import os
import platform
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import field
import history
import scenarios
import tables
from contest import Contest
from peers import CONTESTANTS, LIMITS
from scenarios import aims
from scenarios.measure import BODY_SIZE, PAGE_SIZE, Run, output

HERE = Path(__file__).resolve().parent
ROUNDS = 5
FIELD_ROUNDS = 3, 5  # so many rounds of the field to so many of the aims
QUICK = {"rounds": 1, "seconds": 0.25}


def conditions(run):
    """Note what the figures depend on."""
    revision = None
    if shutil.which("git"):
        command = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
        found = subprocess.run(command, check=False, capture_output=True, text=True)
        revision = found.stdout.strip() or None
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "revision": revision,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "file_system": output("stat", "-f", "-c", "%T", run.directory).strip(),
        "page_size": PAGE_SIZE,
        "body_size": BODY_SIZE,
        "rounds": run.rounds,
        "seconds": run.seconds,
    }


def measure(run, contest, names, keep):
    """Run the scenarios; return what is to be stored of the aims.

    Args:
        run: Where, how often, how long.
        contest: The contestants.
        names: The scenarios.
        keep: Called with what is to be stored of each, aims and field.
    """
    ratios = {}
    for name in names:
        measured = {}
        noted = conditions(run)
        if name in scenarios.SCENARIOS:
            figures = scenarios.SCENARIOS[name](run)
        else:
            measured[name] = {"conditions": noted} | contest.measure(name)
            print(tables.field_table(name, measured[name]), flush=True)
            figures = aims.of_field(name, measured[name]["rounds"])
        noted["sqlite_of_the_limit"] = run.limit_version
        stored = [figure.stored() for figure in figures]
        if stored:
            ratios[name] = {"conditions": noted, "figures": stored}
            lines = [*tables.heading(), *map(tables.row, stored)]
            print("\n".join(lines), flush=True)
        keep({name: ratios[name]} if stored else {}, measured)
    return ratios


def store(results, path, order):
    """Write the results, if any, keeping those of scenarios that were not run."""
    if not results:
        return
    stored = json.loads(path.read_text()) if path.exists() else {}
    merged = stored | results
    ordered = {name: merged[name] for name in order if name in merged}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(ordered, indent=1) + "\n")


def chosen(options):
    """List the scenarios to run, in the order of the report."""
    if options.only:
        return [name for name in ALL if name in options.only]
    return [
        name
        for name in ALL
        if name in scenarios.SCENARIOS
        or (
            (field.SCENARIOS[name].quick or not options.quick)
            and (options.long or not field.SCENARIOS[name].long)
        )
    ]


#: Every name of a scenario.
ALL = [*scenarios.SCENARIOS, *field.SCENARIOS]


def command_line():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--only", nargs="+", choices=ALL, metavar="NAME", help=f"of {', '.join(ALL)}")
    add("--rounds", type=int, default=ROUNDS, help="of the aims; the field has 3/5")
    add(
        "--seconds", type=float, default=1.0, help="how long a measurement takes, about"
    )
    add(
        "--dir",
        type=Path,
        default=Path(),
        help="on the disk to measure (default: the current folder)",
    )
    add("--output", type=Path, default=tables.RESULTS, help="default: results/")
    add("--quick", action="store_true", help="one short round; stores nothing")
    add("--long", action="store_true", help="a backlog of 10,000,000 as well")
    add(
        "--peers",
        nargs="+",
        choices=[*CONTESTANTS, *LIMITS],
        metavar="PEER",
        help=f"these alone, and stores nothing; of {', '.join(CONTESTANTS)}",
    )
    add("--note", help="for the history (default: the subject of the last commit)")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    return parser, options


def main():
    """Run what was chosen."""
    # Its word on SQLite's WAL-reset bug is said by the report.
    logging.getLogger("embq").setLevel(logging.ERROR)
    parser, options = command_line()
    # Some peers open a file or two for each queue; servers and cells inherit this.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(
            tempfile.TemporaryDirectory(dir=options.dir, prefix=".bench-")
        )
        run = Run(Path(data).resolve(), options.rounds, options.seconds)
        noted = conditions(run)
        if noted["file_system"] in ("tmpfs", "ramfs"):
            parser.error(
                f"{options.dir} is in memory: name a folder on a disk by --dir"
            )
        few, many = FIELD_ROUNDS
        rounds = max(1, options.rounds * few // many)
        contest = stack.enter_context(Contest(run, rounds, options.peers))
        stores = not options.quick and not options.peers

        def keep(figures, measured):
            """Store each scenario when it is done: a run takes long, and may break."""
            if stores:
                store(figures, options.output / "ratios.json", ALL)
                store(measured, options.output / "field.json", field.SCENARIOS)

        ratios = measure(run, contest, chosen(options), keep)
    if stores:
        history.append(options.output / "history.jsonl", noted, ratios, options.note)
    figures = [f for r in ratios.values() for f in r["figures"]]
    missed = [f["what"] for f in figures if f["ok"] is False]
    print(f"\n{len(missed)} aims missed" if missed else "\nall aims reached")
    for what in missed:
        print(f"  {what}")


if __name__ == "__main__":
    sys.exit(main())
