"""Receiving: the prefetch loop with acks that nobody waits for."""

import shutil
import sys
from time import perf_counter

import embq
from scenarios.measure import CHILD, compare, fill, output, plain

FILL_RATE = 400_000  # more than can be worked off in a second
TRACED = 100_000  # messages
SYNC_CALLS = ("fsync", "fdatasync")


def messages(run):
    """Work off with `messages()` and `ack_nowait`, against deletes of 100 rows."""
    samples = run.sample(
        {
            "embq": lambda: drain_rate(run),
            "limit": lambda: run.limit("NORMAL", 100, deletes=True),
            "policy": lambda: run.limit("NORMAL", 100, deletes=True, policy=True),
        }
    )
    what = "messages() and ack_nowait"
    others = {
        "limit": ("messages", what),
        "policy": ("messages-policy", f"{what}; limit without checkpoints"),
    }
    return [
        compare(key, text, "msg/s", samples, "embq", limit, at_least=0.6)
        for limit, (key, text) in others.items()
    ]


def syncs(run):
    """Count the calls of fsync and fdatasync while messages are worked off."""
    if not shutil.which("strace"):
        print("syncs: strace is not installed", file=sys.stderr)
        return []
    with run.folder() as folder:
        path = folder / "bench.db"
        with embq.open(path, durability="normal") as broker:
            fill(broker.queue("bench", codec="raw"), TRACED)
        report = folder / "strace.txt"
        command = [
            "strace",
            "-f",
            "-c",
            "-e",
            f"trace={','.join(SYNC_CALLS)}",
            "-o",
            report,
        ]
        count = int(output(*command, sys.executable, CHILD, "drain", path))
        rows = [line.split() for line in report.read_text().splitlines()]
    if count != TRACED:
        msg = f"{count} messages came back, not {TRACED}"
        raise RuntimeError(msg)
    # Columns: % time, seconds, usecs/call, calls, perhaps errors, syscall.
    syncs = sum(int(row[3]) for row in rows if row and row[-1] in SYNC_CALLS)
    what = "fsync and fdatasync per 1,000 messages received and acked, full"
    value = syncs / count * 1000
    return [plain("syncs", what, "calls", [value], at_most=1)]


def drain_rate(run):
    """Fill a queue, then work it off for as long as a round lasts."""
    with run.queue("full") as (broker, queue):
        fill(queue, int(FILL_RATE * run.seconds))
        n = 0
        start = perf_counter()
        end = start + run.seconds
        for message in queue.messages(wait=0):
            try:
                message.ack_nowait()
            except embq.Full:
                broker.flush()
                message.ack_nowait()
            n += 1
            if n % 256 == 0 and perf_counter() >= end:
                break
        broker.flush()
        return n / (perf_counter() - start)
