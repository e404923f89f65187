"""Plant each bug of the table in a copy of embq, and see that its test finds it.

    python tests/mutants/run.py [WORD ...]     only the mutants whose line has a word

First every test that is named must pass on the copy as it is. Then, two at a time, a
bug is planted, what changed is compiled, and its one test is run. The test must fail by
an assertion or by an error of embq's: a build or an import that fails finds nothing.
Some tests race with what they find, and a busy machine changes who wins: what was not
found is hunted once more, by itself. One that survives that too fails the run.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple
from xml.etree import ElementTree as ET

sys.path.insert(0, str(Path(__file__).parent))

import blocking
import bounding
import breaking
import deleting
import delivering
import filing
import forking
import keeping
import living
import looking
import once
import placing
import producing
import redriving
import storing
import upkeep
from mutant import Mutant
from tree import Tree

MUTANTS: list[Mutant] = [
    *storing.MUTANTS,
    *delivering.MUTANTS,
    *living.MUTANTS,
    *looking.MUTANTS,
    *placing.MUTANTS,
    *producing.MUTANTS,
    *redriving.MUTANTS,
    *bounding.MUTANTS,
    *blocking.MUTANTS,
    *filing.MUTANTS,
    *breaking.MUTANTS,
    *deleting.MUTANTS,
    *keeping.MUTANTS,
    *upkeep.MUTANTS,
    *once.MUTANTS,
    *forking.MUTANTS,
]
JOBS = 2
LIMIT_S = 60.0
HANG_S = 15.0  # what hangs by its table is given no longer
# How a test says that embq is wrong, rather than that it could not be run.
FINDS = re.compile(
    r"AssertionError|assert |Failed: |worker\.WorkerError|embq\.errors\.(?!Unsupported)"
)


class Verdict(NamedTuple):
    """What came of a run: `found`, or why not."""

    found: bool
    text: str
    seconds: float


def pytest(tree: Tree, name: str, limit_s: float, *nodes: str) -> tuple[int, Path]:
    """Run these tests in a tree; its exit code (None: it hung) and its report."""
    report = tree.root / "report.xml"
    report.unlink(missing_ok=True)
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    child = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *nodes],
        cwd=tree.root,
        env=tree.environment(name),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = child.wait(limit_s)
    except subprocess.TimeoutExpired:
        code = -1
    end_all(name)
    child.wait()
    return code, report


def end_all(name: str) -> None:
    """Kill what a run left behind: what has its name in the environment."""
    mark = f"EMBQ_MUTANT={name}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)


def judge(mutant: Mutant, code: int, report: Path) -> tuple[bool, str]:
    """Tell whether the test found the bug, and how."""
    if code < 0:
        return mutant.hangs, "hangs" if mutant.hangs else "the test hung"
    if code == 0:
        return False, "SURVIVES"
    if not report.exists():
        return False, f"pytest ended with {code}"
    cases = ET.parse(report).getroot().iter("testcase")
    said = [(part.tag, part.get("message") or "") for case in cases for part in case]
    for tag, message in said:
        if tag == "failure" and FINDS.match(message):
            return True, message.split("\n")[0][:60]
    return False, f"no assertion failed: {said}"[:300]


def failures(report: Path) -> list[str]:
    """Name the tests of a report that failed, each with all that it said."""
    if not report.exists():
        return []
    cases = ET.parse(report).getroot().iter("testcase")
    return [
        f"{case.get('classname')}::{case.get('name')}\n{part.text}"
        for case in cases
        for part in case
        if part.tag in ("failure", "error")
    ]


def hunt(mutant: Mutant, number: int, trees: SimpleQueue[Tree], sound: Tree) -> Verdict:
    """Plant one, run its test, heal."""
    begun = time.monotonic()
    tree = trees.get()
    try:
        tree.plant(mutant)
        limit_s = HANG_S if mutant.hangs else LIMIT_S
        found, text = False, ""
        for _ in range(mutant.tries):
            code, report = pytest(tree, f"{os.getpid()}-{number}", limit_s, mutant.test)
            found, text = judge(mutant, code, report)
            if found:
                break
    except RuntimeError as error:
        found, text = False, str(error)
    finally:
        tree.heal(mutant, sound)
        trees.put(tree)
    verdict = Verdict(found, text, time.monotonic() - begun)
    mark = "found" if found else "NOT FOUND"
    say(f"{mark:9} {verdict.seconds:5.1f} s  {mutant.what}\n")
    if not found:
        say(f"          {mutant.test}\n          {text}\n")
    return verdict


def say(text: str) -> None:
    """Print, at once; while another thread builds, sys.stdout may be turned away."""
    assert sys.__stdout__
    sys.__stdout__.write(text)
    sys.__stdout__.flush()


def refuse(problems: list[str], what: str) -> None:
    """End the run when there are any."""
    if problems:
        raise SystemExit("\n".join([what, *problems]))


def sound_tree(folder: Path, mutants: list[Mutant]) -> Tree:
    """Copy and build the project; every test that is named must pass there."""
    sound = Tree(folder)
    sound.fill()
    problems = [e.problem(sound.root) for mutant in mutants for e in mutant.edits]
    refuse([p for p in problems if p], "the table of mutants is out of date:")
    sound.build()
    sound.check()
    nodes = list(dict.fromkeys(mutant.test for mutant in mutants))
    with ThreadPoolExecutor(JOBS) as pool:
        shares = [nodes[job::JOBS] for job in range(JOBS)]
        trees = [sound.copy_to(folder / f"sound{job}") for job in range(JOBS)]
        runs = pool.map(
            lambda job: (
                pytest(trees[job], f"{os.getpid()}-sound{job}", 600, *shares[job])
                if shares[job]
                else (0, folder)
            ),
            range(JOBS),
        )
        for code, report in runs:
            if code:
                why = failures(report) or ["no report"]
                refuse(why, f"the tests fail without any mutant: exit {code}")
    return sound


def main() -> int:
    """Hunt all, or those that are named."""
    words = sys.argv[1:]
    mutants = [m for m in MUTANTS if not words or any(w in str(m) for w in words)]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="embq-mutants-") as name:
        folder = Path(name)
        sound = sound_tree(folder, mutants)
        say(f"{len(mutants)} mutants; without them their tests pass\n")
        trees: SimpleQueue[Tree] = SimpleQueue()
        for job in range(JOBS):
            trees.put(sound.copy_to(folder / str(job)))
        with ThreadPoolExecutor(JOBS) as pool:
            verdicts = list(
                pool.map(
                    lambda pair: hunt(pair[1], pair[0], trees, sound),
                    enumerate(mutants),
                )
            )
        for number, verdict in enumerate(verdicts):
            if not verdict.found:
                verdicts[number] = hunt(mutants[number], number, trees, sound)
    say("\n| mutant | breaks | found by | how |\n|---|---|---|---|\n")
    for mutant, verdict in zip(mutants, verdicts, strict=True):
        how = verdict.text.replace("|", "\\|")
        test = mutant.test.removeprefix("tests/")
        say(f"| {mutant.what} | {mutant.breaks} | `{test}` | {how} |\n")
    pairs = zip(mutants, verdicts, strict=True)
    lost = [(m, verdict) for m, verdict in pairs if not verdict.found]
    took = time.monotonic() - begun
    say(f"\n{len(mutants) - len(lost)} of {len(mutants)} found, in {took:.0f} s\n")
    for mutant, verdict in lost:
        say(f"NOT FOUND {mutant.what}\n  {mutant.test}\n  {verdict.text}\n")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
