"""Counts what a message costs: instructions by callgrind, system calls by strace.

Usage: python bench/costs.py [--only PATH ...]         `make profile` does it

Both repeat on a noisy machine, as times do not. Each hot path runs for N and for 2N
messages; what is reported is the difference, so that start-up cancels out. Instructions
are split by the library that they are in. Writes results/profile.json. (It is not
called profile.py, which would hide Python's module of that name.)
"""

import argparse
import collections
import dataclasses
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import run
from scenarios.measure import Run, output
from tables import RESULTS

WORK = Path(__file__).with_name("costs_work.py")

#: Who an instruction belongs to, by the name of its library.
PARTS = {
    "_core.abi3": "embq's C",
    "libsqlite3": "SQLite",
    "_msgspec": "msgspec",
    "msgspec/_core": "msgspec",
    "_cffi_backend": "cffi",
    "python": "Python",
    "lib-dynload": "Python",
    "libc.so": "libc",
    "libc-": "libc",
    "ld-linux": "libc",
}
OTHER = "other"
#: callgrind_annotate: instructions with those of its calls, file, function, library.
INCLUSIVE = re.compile(r"^ *([\d,]+) \([^)]*\)  \S+?:(\w+) \[(.+)\]$", re.MULTILINE)
WRITES_PAGES = "sqlite3WalFrames"  # checksums and copies of what a commit writes


@dataclasses.dataclass(frozen=True)
class HotPath:
    """A hot path: what it is called in costs_work.py, or how limit.c does it."""

    title: str
    command: object  # (folder, count) -> words
    count: int  # messages
    fill: str | None = None  # the role that puts messages in beforehand


def _ours(role, durability):
    def command(folder, count, _):
        return [sys.executable, WORK, role, folder / "work.db", durability, str(count)]

    return command


def _limit(sync, batch, unit):
    def command(folder, count, program):
        return [program, folder, sync, "100", str(batch), f"{count}{unit}"]

    return command


PATHS = {
    "send-normal": HotPath("send, normal", _ours("send", "normal"), 10_000),
    "send-full": HotPath("send, full", _ours("send", "full"), 5_000),
    "send-many": HotPath("send_many(1000), full", _ours("send_many", "full"), 50_000),
    "receive-ack": HotPath(
        "receive, ack; normal", _ours("receive", "normal"), 5_000, fill="fill"
    ),
    "messages": HotPath(
        "messages(), ack_nowait; normal", _ours("loop", "normal"), 50_000, fill="fill"
    ),
    "plain-send": HotPath(
        "sqlite3 by hand: send, normal", _ours("plain_send", "normal"), 10_000
    ),
    "plain-receive": HotPath(
        "sqlite3 by hand: receive, ack; normal",
        _ours("plain_receive", "normal"),
        5_000,
        fill="plain_fill",
    ),
    "limit-insert": HotPath(
        "limit: insert, 1 a commit", _limit("NORMAL", 1, "i"), 2_000
    ),
    "limit-insert-full": HotPath(
        "limit: the same, FULL", _limit("FULL", 1, "i"), 2_000
    ),
    "limit-insert-1000": HotPath(
        "limit: insert, 1,000 a commit, FULL", _limit("FULL", 1000, "i"), 20_000
    ),
    "limit-both": HotPath(
        "limit: insert and delete, 1 a commit", _limit("NORMAL", 1, "d"), 2_000
    ),
    "limit-both-100": HotPath(
        "limit: insert and delete, 100 a commit", _limit("NORMAL", 100, "d"), 20_000
    ),
}


def instructions(command, folder):
    """Run under callgrind; return instructions by part, and by function with its calls.

    Of the functions, those of embq's C, and the one of SQLite that writes pages.
    """
    report = folder / "callgrind.out"
    options = ["--tool=callgrind", f"--callgrind-out-file={report}"]
    output("valgrind", "--quiet", *options, *command)
    costs = _self_costs(report)
    text = output("callgrind_annotate", "--inclusive=yes", "--threshold=100", report)
    report.unlink()
    functions = collections.Counter()
    for count, name, library in INCLUSIVE.findall(text):
        if name == WRITES_PAGES or "_core.abi3" in library:
            functions[name] = max(functions[name], int(count.replace(",", "")))
    return {"instructions": costs, "functions": functions}


def _self_costs(report):
    """Add up the cost lines of a callgrind file by the object they stand under."""
    names, costs = {}, collections.Counter()
    part, of_call = OTHER, False
    cost_line = re.compile(r"^[+\-*\d][^ ]* (\d+)$")
    with report.open() as lines:
        for line in lines:
            if line.startswith("ob="):
                number, _, name = line[3:].strip().partition(" ")
                if name:
                    names[number] = _part(name)
                part = names[number]
            elif line.startswith("cob="):
                number, _, name = line[4:].strip().partition(" ")
                if name:
                    names[number] = _part(name)
            elif line.startswith("calls="):
                of_call = True  # the next line is what the call cost, not its own
            elif found := cost_line.match(line):
                if not of_call:
                    costs[part] += int(found[1])
                of_call = False
    return costs


def _part(library):
    return next((part for word, part in PARTS.items() if word in library), OTHER)


def system_calls(command, folder):
    """Run under strace; return how often each system call was made."""
    report = folder / "strace.txt"
    output("strace", "-f", "-c", "-o", report, *command)
    # Columns: % time, seconds, usecs/call, calls, perhaps errors, syscall.
    rows = [line.split() for line in report.read_text().splitlines()]
    report.unlink()
    calls = [row for row in rows if len(row) >= 5 and row[3].isdigit()]
    counts = {row[-1]: int(row[3]) for row in calls if row[-1] != "total"}
    return {"system_calls": collections.Counter(counts)}


def per_message(path, measure_run, tool):
    """Measure N and 2N; return what each message more has cost."""
    found = []
    for factor in (1, 2):
        with measure_run.folder() as folder:
            if path.fill:
                words = [path.fill, folder / "work.db", "normal", 3 * path.count]
                output(sys.executable, WORK, *words)
            count = factor * path.count
            program = measure_run.limit_program
            found.append(tool(path.command(folder, count, program), folder))
    once, twice = found
    return {kind: _each(path, once[kind], twice[kind]) for kind in once}


def _each(path, once, twice):
    each = {k: (twice[k] - once[k]) / path.count for k in {*once, *twice}}
    ordered = sorted(each.items(), key=lambda item: -item[1])
    return {key: round(value, 3) for key, value in ordered if abs(value) >= 0.005}


def main():
    """Measure the paths, and store what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PATHS, metavar="PATH")
    options = parser.parse_args()
    if missing := [t for t in ("valgrind", "strace") if not shutil.which(t)]:
        parser.error(f"not installed: {', '.join(missing)}")
    with tempfile.TemporaryDirectory(dir=Path(), prefix=".bench-") as data:
        measure_run = Run(Path(data).resolve(), 1, 1.0)
        file = RESULTS / "profile.json"
        stored = json.loads(file.read_text()) if file.exists() else {}
        noted = run.conditions(measure_run)
        for name in options.only or PATHS:
            path = PATHS[name]
            stored[name] = {
                "title": path.title,
                "count": path.count,
                "conditions": {key: noted[key] for key in ("date", "revision")},
                **per_message(path, measure_run, instructions),
                **per_message(path, measure_run, system_calls),
            }
            print(path.title, json.dumps(stored[name], indent=1), flush=True)
    ordered = {name: stored[name] for name in PATHS if name in stored}
    file.write_text(json.dumps(ordered, indent=1) + "\n")


if __name__ == "__main__":
    main()
