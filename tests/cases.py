"""The cases that embq must survive, and which tests hold them.

A test says in its docstring which cases it is about: `CASE 16: ...`, `CASES 21 and 24:
...`. From that, `table()` writes docs/cases.md, and test_docs.py checks that no case
is without a test unless it stands here as open.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEAD = "| case | what must come of it | promise | tests |"
MENTION = re.compile(r"\bCASES? (\d+b?(?:(?:, | and |, and | to )\d+b?)*)")


@dataclass(frozen=True)
class Case:
    """What happens, and what must come of it.

    `promise` is the number of a promise of ARCHITECTURE.md; 0: none of them, but plain
    good behaviour. `open`: what of it is not there yet, or has no test.
    """

    number: str
    group: str
    text: str
    promise: int = 0
    open: str = ""


def _cases() -> list[Case]:
    """Read the table below."""
    found, group = [], ""
    for line in TABLE.strip().splitlines():
        if line.startswith("#"):
            group = line[1:].strip()
            continue
        number, promise, text, *still = (part.strip() for part in line.split("|"))
        open_ = still[0] if still else ""
        found.append(Case(number, group, text, int(promise or 0), open_))
    return found


# number | promise | what happens: what must come of it | open
TABLE = """
# Files and schema
1 | | Not a database: `NotAnEmbqFile`, and not a byte of it changes
2 | 7 | A file of 0 bytes that 16 processes open at once: one schema
3 | | A newer schema: `SchemaTooNew`, nothing written
4 | 1 | Killed in the middle of a migration: the old schema or the new one
5 | | Hostile triggers or views, a missing index: `Corrupt` when it is opened
6 | 8 | A flipped or torn page, or byte of a body: told, never "empty", nothing lost
7 | | Read-only file, folder or mount: `StorageReadOnly` when it is opened
8 | | Odd paths (a folder, NUL, `?`, `#`, `file:`): literal, or `InvalidArgument`
9 | | Symbolic link: the same queue; hard link: refused
10 | 7 | Two spellings of one path in a process: one engine
11 | | umask 0: still 0600 for all three files
12 | 1 | Removed, moved or replaced while in use: `DatabaseReplaced`, nothing confirmed
13 | 1 | `VACUUM`, `REINDEX`, `journal_mode=DELETE` from outside, while in use
14 | 4 | Backed up while in use: consistent, and honours no old receipt
15 | 1 | Network file systems: refused before the file is touched; FUSE is mounted in \
earnest, of the others `statfs` is made to tell
# Faults
16 | 1 | A producer killed at any system call: confirmed once, unconfirmed 0 or 1 times
17 | 2 | A consumer killed in claim, handler, ack: delivered again, counted
18 | 2 | Everything killed in a loop under load: nothing lost, nothing unexpected
19 | 4 | Stopped longer than its lease: `LeaseLost` on return
20 | 1 | Power loss: `full` loses nothing, `normal` only a suffix
21 | 1 | fsync fails: `CommitUncertain`, and no further
22 | 8 | Failing, short and interrupted reads and writes
23 | 2 | The disk is full: `StorageFull`, acks pass, all well once there is room
24 | 8 | Limits of size, descriptors and memory: clear errors, nothing half done
25 | 1 | An fsync of 2 s: the timeout says "may still be stored", no duplicate
26 | 7 | A foreign writer holds the lock for a minute: `Busy` in time, no busy loop
27 | | A reader that never ends: the WAL is bounded, or reported
28 | 1 | Another SQLite copy, or a plain `open()`, on the file: nothing lost
29 | 1 | SQLite with the WAL-reset bug: guarded checkpoints
# Life of a process
30 | 2 | fork, multiprocessing, preloading servers: no loss, no duplicate
31 | 1 | Fork in another thread's transaction: it commits once, in the parent
31b | 1 | The application's own connection across a fork: `Forked`
32 | | Use after close; close with blocked callers
33 | 1 | The interpreter exits with staged messages
34 | | 10,000 short threads: no leak
35 | | Signals in every blocking call: back at once, claims released | \
a close that waits to store what is staged ends first
36 | | Cancellation at every await | asyncio
37 | | Pickling a handle: `TypeError` that says what to do
38 | 2 | A handler that raises, re-enters, or closes the broker: no deadlock
# Inputs
39 | | Bodies of any size and bytes: exactly these back, or refused before
40 | | A bytearray changed after send: what was there at the call is stored
41 | | One bad item in a batch: all or nothing, others unharmed
42 | | Odd names: bound as parameters, never SQL, never a path
43 | | Odd numbers as times: `InvalidArgument`; 100 years works
44 | | `max_receives=0`: `InvalidArgument`; headers count towards `max_body`
# Receipts
45 | 4 | Ack twice: `LeaseLost`, no effect
46 | 4 | Ack after expiry, not claimed again: allowed
47 | 4 | Any verb after another's claim: `LeaseLost`, the other untouched
48 | 4 | Forged receipts, another queue's, an older file's: never another message
49 | 4 | A prefetched message whose lease ran out is not handed over
# Time
50 | 2 | The wall clock jumps or swings by a year
51 | 2 | Reboot: leases void; suspend: leases end; another time namespace: as long
# Scale and abuse
52 | | 10,000 queues with churn: nothing mixed up, no cliff (`make bench`)
53 | | 1,000,000 delayed messages due at once: claims stay O(log n) (`make bench`)
54 | 7 | 1,000,000 leases end at once: no writer stalls over 50 ms (`make bench`)
55 | 5 | A handler that always fails: dead letters after `max_receives`, with the error
56 | 5 | A handler that kills its process: the dead-letter queue holds it and only it
57 | | A queue nobody reads, a reader that died: bounds and policies hold | \
subscriptions, which come with topics
58 | 7 | 64 threads in 8 processes at full durability: fair, no `Busy`
59 | | A long soak (`make soak`): file, WAL, descriptors, memory flat
60 | 8 | `secure_delete=True`: no trace; no payload in logs, errors
"""

CASES = _cases()


def numbers(text: str) -> list[str]:
    """List the cases that a docstring names."""
    found = []
    for mention in MENTION.findall(text):
        for part in re.split(r", and |, | and ", mention):
            first, _, last = part.partition(" to ")
            if last:
                found += [str(n) for n in range(int(first), int(last) + 1)]
            else:
                found.append(first)
    return found


def tests() -> dict[str, list[str]]:
    """Map each case to its tests, each as `file.py::test`."""
    found: dict[str, list[str]] = {}
    for path in sorted(HERE.rglob("test_*.py")):
        name = path.relative_to(HERE)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef) or "test_" not in node.name[:5]:
                continue
            for number in numbers(ast.get_docstring(node) or ""):
                found.setdefault(number, []).append(f"{name}::{node.name}")
    return found


def table() -> str:
    """Write the table of docs/cases.md."""
    found = tests()
    lines = []
    for case in CASES:
        group = (
            f"\n## {case.group}\n\n| case | what must come of it | promise | tests |"
        )
        if group not in lines:
            lines += [group, "|---|---|---|---|"]
        held = [_link(test) for test in found.get(case.number, [])]
        if case.open:
            held.insert(0, f"**open**: {case.open}")
        promise = case.promise or ""
        cells = [case.number, case.text, str(promise), "<br>".join(held)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines).strip()


def _link(test: str) -> str:
    path, _, name = test.partition("::")
    return f"[{name.removeprefix('test_')}](../tests/{path})"
