"""What each guard costs a plain send: with it, and with a core that lacks it.

A guard is what stands between a send and a hazard of the file: its replacement, a full
disk, another process. "Without" is a copy of the project in which it is taken out as
tests/mutants/ plants a bug; the product has no switch for it.

Instructions, of the thread that sends and outside the kernel, repeat on a busy machine.
They leave out what a system call costs there, so the CPU time of that thread is
measured as well: a piece of each core after the other; the fastest quarter counts.
"""

import re
import statistics
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from scenarios.measure import CHILD, compare, output

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "mutants"))

from mutant import mutant
from tree import Tree

WORK = Path(__file__).parents[1] / "costs_work.py"
COUNT = 2_000  # sends, and twice as many
PIECES = 20  # of a round
SHARE = 4  # one of so many is taken: not disturbed
AT_MOST = 1.05
TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)
MAIN_THREAD = "-01"  # callgrind: a file for each thread
SAME_ORDER = {"PYTHONHASHSEED": "0"}

SEND = '    """Store one message; return its row."""\n'  # in _native.py
SOUND = "all"
BOUNDED = "bounded"


def _without(name, *edits):
    return mutant(f"without {name}", "", "", *edits)


#: By the figures' keys; what is taken out, and where.
GUARDS = {
    "fence": _without(
        "the fence (has the file been moved or replaced?)",
        ("csrc/lead.c", "    return fence_check(e);\n", "    return 0;\n"),
    ),
    "space": _without(
        "the disk reserve (is there room?)",
        (
            "csrc/lead.c",
            "return (code = space_check(e, op)) < 0 ? code : message_send(e, op);",
            "return (code = 0) < 0 ? code : message_send(e, op);",
        ),
    ),
    "gate": _without(
        "the gate (processes queue for the write lock)",
        (
            "csrc/files.c",
            "int gate_enter(int fd, int wait) {\n",
            "int gate_enter(int fd, int wait) {\n    if (fd >= 0) return 1;\n",
        ),
        ("csrc/files.c", "    flock(fd, LOCK_UN);\n", "    (void)fd;\n"),
    ),
    "guard": _without(
        "the guard's lock (against other copies of SQLite)",
        (
            "csrc/files.c",
            "int guard_lock(struct guard *g) {\n",
            "int guard_lock(struct guard *g) {\n    if (g) return 0;\n",
        ),
    ),
    "checksum": _without(
        "the checksum of the body (is it what was sent?)",
        (
            "csrc/checksum.h",
            (
                "    return priority | MESSAGE_CHECKED |\n"
                "           (int64_t)crc32c(body, size) << MESSAGE_CHECKSUM_BIT;\n"
            ),
            "    (void)body, (void)size;\n    return priority;\n",
        ),
    ),
    "bounds": _without(
        "the look for bounds (queue has none)",
        (
            "csrc/send.c",
            "if (code == 0 && overflow_matters(e, op, c)) {",
            "if (0) {",
        ),
    ),
    "notices": _without(
        "the look for notices (a WAL that is held)",
        (
            "embq/_native.py",
            f"{SEND}    if _notices[0]:\n        _tell()\n",
            SEND,
        ),
    ),
}


def guards(run):
    """Send one by one at `normal`, with all guards, and without each of them."""
    with run.folder() as folder:
        trees = _trees(folder)
        counts = {name: [_instructions(run, tree)] for name, tree in trees.items()}
        counts[BOUNDED] = [_instructions(run, trees[SOUND], "send_bounded")]
        times = _times(run, trees)
    figures = []
    for kind, samples, unit in (
        ("instructions", counts, "instr"),
        ("time", times, "us"),
    ):
        figures += [_figure(name, kind, samples, unit) for name in GUARDS]
        figures.append(
            compare(
                f"guard-bounded-{kind}",
                f"send, normal, {kind}: queue with bounds / without",
                unit,
                samples,
                BOUNDED,
                SOUND,
                at_most=AT_MOST,
            )
        )
    return figures


def _figure(name, kind, samples, unit):
    return compare(
        f"guard-{name}-{kind}",
        f"send, normal, {kind}: all / {GUARDS[name].what}",
        unit,
        samples,
        SOUND,
        name,
        at_most=AT_MOST,
    )


def _trees(folder):
    """Build the project as it is, and once without each guard."""
    sound = Tree(folder / SOUND, optimize="-O2")
    sound.fill()
    problems = [e.problem(sound.root) for g in GUARDS.values() for e in g.edits]
    if any(problems):
        msg = f"the table of guards is out of date: {[p for p in problems if p]}"
        raise RuntimeError(msg)
    sound.build()
    sound.check()
    trees = {SOUND: sound}
    for name, guard in GUARDS.items():
        trees[name] = sound.copy_to(folder / name)
        trees[name].plant(guard)
    return trees


def _instructions(run, tree, role="send"):
    """Of one send, in its own thread: what N more have cost."""
    totals = []
    for count in (COUNT, 2 * COUNT):
        with run.folder() as folder:
            report = folder / "callgrind.out"
            options = ["--quiet", "--tool=callgrind", "--separate-threads=yes"]
            command = [
                *("valgrind", *options, f"--callgrind-out-file={report}"),
                *(sys.executable, WORK, role, folder / "work.db", "normal", count),
            ]
            output(*command, env=tree.environment("") | SAME_ORDER)
            main = report.with_name(report.name + MAIN_THREAD)
            totals.append(int(TOTAL.search(main.read_text())[1]))
    return (totals[1] - totals[0]) / COUNT


def _times(run, trees):
    """Microseconds of CPU: of each round's pieces, one that was not disturbed."""
    cells = {name: (tree, 0) for name, tree in trees.items()}
    cells[BOUNDED] = (trees[SOUND], 1)
    found = {name: [] for name in cells}
    for _ in range(run.rounds):
        pieces = {name: [] for name in cells}
        with run.folder() as folder, _children(folder, cells) as children:
            for number in range(PIECES):
                order = list(children.items())
                for name, child in order[::-1] if number % 2 else order:
                    print(run.seconds / PIECES, file=child.stdin, flush=True)
                    pieces[name].append(float(child.stdout.readline()))
        for name, values in pieces.items():
            found[name].append(1e6 * statistics.quantiles(values, n=SHARE)[0])
    return found


@contextmanager
def _children(folder, cells):
    """Start a process for each core, with a file of its own; end them all."""
    children = {}
    try:
        for name, (tree, bounds) in cells.items():
            children[name] = subprocess.Popen(
                [sys.executable, CHILD, "pieces", folder / f"{name}.db", str(bounds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=tree.environment(""),
            )
            if children[name].stdout.readline() != "ready\n":
                msg = f"child.py pieces failed for {name}"
                raise RuntimeError(msg)
        yield children
    finally:
        for child in children.values():
            child.communicate()
