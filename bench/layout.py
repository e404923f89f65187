"""Compares storage layouts of a message queue in one SQLite file (see layout.c).

Usage: python3 layout.py [DIRECTORY] [--rounds N]

The databases are written to a temporary directory below DIRECTORY (default: the
current one), which should be on a real disk. Each round measures all layouts one
after the other, every second round in reverse order; the figures are medians.
Writes results/layout.json next to this file and prints Markdown tables.
"""

import argparse
import datetime as dt
import json
import math
import os
import platform
import statistics
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
LAYOUTS = ["packed", "table", "shards16"]
BODIES = [100, 1000]
PAGES = [1024, 2048, 4096, 8192]
COSTS = ["send_us", "frames", "batch_row_us", "claim_row_us"]


def measure(program, directory, *args, keep=None):
    """Runs one measurement, on a new file unless keep names one to stay."""
    path = directory / (keep or "run.db")
    command = [program, args[0], path, *map(str, args[1:])]
    result = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )
    if not keep:
        for file in directory.glob("run.db*"):
            file.unlink()
    return result


def medians(runs):
    """Medians, and for the main costs the spread: (max - min) / median."""
    result = {}
    for key in runs[0]:
        values = [run[key] for run in runs]
        result[key] = statistics.median(values)
        if key in COSTS:
            spread = (max(values) - min(values)) / result[key]
            result[key + "_spread"] = round(spread, 3)
    return result


def rounds(cells, count, run):
    """Medians of run(*cell) for each cell, over count interleaved rounds."""
    samples = {cell: [] for cell in cells}
    for number in range(count):
        for cell in cells[::-1] if number % 2 else cells:
            samples[cell].append(run(*cell))
    return {cell: medians(runs) for cell, runs in samples.items()}


def main_cells():
    cells = []
    for body in BODIES:
        for channels in (1, 8, 64):
            targets = ["last"] if channels == 1 else ["last", "first", "robin"]
            for target in targets:
                cells += [(x, 4096, channels, body, target) for x in LAYOUTS]
    return cells


def page_cells():
    return [
        (layout, page, 8, body, "robin")
        for body in BODIES
        for page in PAGES
        for layout in ("packed", "shards16")
    ]


def table(title, header, rows):
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def cost(value, base):
    return f"{value:.2f} ({value / base:.2f})"


def print_sends(title, results):
    """One row per cell; in brackets the ratio to packed with pages of 4096 bytes."""
    header = [
        "body",
        "channels",
        "target",
        "page",
        "layout",
        "us/send",
        "frames",
        "WAL bytes",
        "us/row, 100 rows",
        "us/row claim+delete",
    ]
    rows = []
    for cell, result in results.items():
        layout, page, channels, body, target = cell
        base = results["packed", 4096, channels, body, target]
        costs = [cost(result[key], base[key]) for key in COSTS]
        costs.insert(2, cost(result["wal_bytes"], base["wal_bytes"]))
        rows.append([str(body), str(channels), target, str(page), layout, *costs])
    table(title, header, rows)


def print_ratios(title, results, group):
    """Geometric means of the ratios to packed with pages of 4096 bytes."""
    groups = {}
    for cell, result in results.items():
        base = results[("packed", 4096, *cell[2:])]
        ratios = [
            result[key] / base[key]
            for key in ["send_us", "wal_bytes", "batch_row_us", "claim_row_us"]
        ]
        groups.setdefault(group(cell), []).append(ratios)
    rows = [
        [*map(str, name)]
        + [
            f"{math.exp(statistics.fmean(map(math.log, column))):.2f}"
            for column in zip(*ratios, strict=True)
        ]
        for name, ratios in groups.items()
    ]
    names = ["layout", "group"]
    table(
        title,
        [*names, "us/send", "WAL bytes", "us/row, 100 rows", "us/row claim+delete"],
        rows,
    )


def print_plain(title, names, results):
    keys = list(next(iter(results.values())))
    rows = [
        [*map(str, cell)] + [f"{result[key]:,.2f}" for key in keys]
        for cell, result in results.items()
    ]
    table(title, names + keys, rows)


def flat(results, names):
    return [
        dict(zip(names, cell, strict=True)) | result for cell, result in results.items()
    ]


def print_all(results):
    main, pages = results["main"], results["pages"]
    print_sends("Layouts, page 4096 (ratio to packed)", main)
    print_ratios(
        "Layouts: geometric mean of the ratios",
        main,
        lambda cell: (cell[0], f"{cell[2]} channels"),
    )
    print_sends("Page sizes, 8 channels in turn (ratio to packed/4096)", pages)
    print_ratios(
        "Page sizes: geometric mean of the ratios",
        pages,
        lambda cell: (cell[0], f"page {cell[1]}"),
    )
    print_plain(
        "Reading through the view, 200 rows a channel",
        ["layout", "channels"],
        results["view"],
    )
    print_plain(
        "Creating channels, one per commit", ["layout", "channels"], results["create"]
    )
    print_plain(
        "First statement of a new connection", ["layout", "channels"], results["open"]
    )


def run_all(program, directory, count):
    def send(*cell):
        return measure(program, directory, "send", *cell)

    def view(*cell):
        return measure(program, directory, "view", *cell)

    def create(layout, channels):
        return measure(
            program,
            directory,
            "create",
            layout,
            channels,
            keep=f"{layout}{channels}.db",
        )

    def first(layout, channels):
        return measure(
            program, directory, "open", layout, channels, keep=f"{layout}{channels}.db"
        )

    def create_and_open(layout, channels):
        made = {f"create {k}": v for k, v in create(layout, channels).items()}
        return made | first(layout, channels)

    sizes = [(layout, n) for n in (1000, 10000) for layout in LAYOUTS]
    views = [(layout, n) for n in (8, 64) for layout in LAYOUTS]
    results = {
        "main": rounds(main_cells(), count, send),
        "pages": rounds(page_cells(), count, send),
        "view": rounds(views, count, view),
    }
    both = rounds(sizes, count, create_and_open)
    results["create"] = {
        cell: {k.removeprefix("create "): v for k, v in r.items() if " " in k}
        for cell, r in both.items()
    }
    results["open"] = {
        cell: {k: v for k, v in r.items() if " " not in k} for cell, r in both.items()
    }
    limit = measure(program, directory, "view", "table", 501)
    return results, limit.get("error", "none")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", default=".")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as build,
        tempfile.TemporaryDirectory(dir=options.directory) as data,
    ):
        program = Path(build) / "layout"
        subprocess.run(
            ["cc", "-std=c11", "-O2", "-o", program, HERE / "layout.c", "-lsqlite3"],
            check=True,
        )
        version = subprocess.run(
            [program, "version"], check=True, text=True, capture_output=True
        ).stdout.strip()
        results, limit = run_all(program, Path(data), options.rounds)
    names = ["layout", "page", "channels", "body", "target"]
    few = ["layout", "channels"]
    conditions = {
        "sqlite": version,
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "rounds": options.rounds,
        "synchronous": "NORMAL",
        "auto_vacuum": "INCREMENTAL",
        "secure_delete": "FAST",
        "cache_kib": 16384,
        "mmap_size": 0,
        "checkpoint_bytes": 40960000,
        "preload_rows_per_channel": 200,
        "view_of_501_tables": limit,
    }
    output = {"conditions": conditions} | {
        key: flat(value, names if key in ("main", "pages") else few)
        for key, value in results.items()
    }
    target = HERE / "results" / "layout.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(output, indent=1) + "\n")
    print(
        f"SQLite {version}, {os.cpu_count()} cores, medians of {options.rounds} "
        f"rounds; a view of 501 tables: {limit}"
    )
    print_all(results)


if __name__ == "__main__":
    main()
