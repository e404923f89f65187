"""Measures embq against its limits, and says whether the promises are kept.

Usage: python bench/ratios.py [--only NAME ...] [--rounds N] [--seconds S] [--dir DIR]

A scenario measures embq and what it is compared with in turn, round by round; a ratio
is the median of the ratios of the rounds, so that a machine that is slow for a while is
slow for both. The limit is SQLite from C, without an interpreter (limit.c). Prints
Markdown, and writes results/ratios.json, where `--only` replaces what it measured anew.
"""

import argparse
import dataclasses
import datetime as dt
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

from scenarios import SCENARIOS
from scenarios.measure import BODY_SIZE, PAGE_SIZE, Run, output
from tables import RESULTS, heading, row

HERE = Path(__file__).resolve().parent


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
        "sqlite_of_the_limit": output(run.limit_program, "version").strip(),
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


def measure(run, names):
    """Run the scenarios; return by name what is to be stored."""
    results = {}
    print("\n".join(heading()), flush=True)
    for name in names:
        noted = conditions(run)
        figures = [
            dataclasses.asdict(figure) | {"ok": figure.ok}
            for figure in SCENARIOS[name](run)
        ]
        for figure in figures:
            print(row(figure), flush=True)
        results[name] = {"conditions": noted, "figures": figures}
    return results


def store(results, path):
    """Write the results, keeping those of scenarios that were not run."""
    stored = json.loads(path.read_text()) if path.exists() else {}
    merged = stored | results
    ordered = {name: merged[name] for name in SCENARIOS if name in merged}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(ordered, indent=1) + "\n")


def build(folder):
    """Compile limit.c."""
    program = folder / "limit"
    compiler = os.environ.get("CC", "cc")
    source = HERE / "limit.c"
    command = [compiler, "-std=c11", "-O2", "-o", program, source, "-lsqlite3"]
    subprocess.run(command, check=True)
    return program


def main():
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SCENARIOS,
        metavar="NAME",
        help=f"of {', '.join(SCENARIOS)}",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds",
        type=float,
        default=1.0,
        help="how long one measurement of a round takes, about",
    )
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path(),
        help="on the disk to measure (default: the current folder)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS,
        help="default: results/ratios.json beside this script",
    )
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as build_folder,
        tempfile.TemporaryDirectory(dir=options.dir, prefix=".bench-") as data,
    ):
        program = build(Path(build_folder))
        run = Run(Path(data).resolve(), program, options.rounds, options.seconds)
        if conditions(run)["file_system"] in ("tmpfs", "ramfs"):
            parser.error(
                f"{options.dir} is in memory: name a folder on a disk by --dir"
            )
        results = measure(run, options.only or SCENARIOS)
    store(results, options.output)
    missed = [
        f["what"]
        for r in results.values()
        for f in r["figures"]
        if not f["ok"] and f["ok"] is not None
    ]
    print(f"\n{len(missed)} targets missed" if missed else "\nall targets met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
