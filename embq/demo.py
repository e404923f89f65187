"""The main job: work off events in several processes, kill one, lose nothing.

`run` sends the events and starts workers, processes of their own that share nothing
with it but the SQLite file. The first of them gets stuck on a message and is killed
with SIGKILL in the middle; the message comes back to another one. Each worker appends a
line to a log of its own for every event that it handled, and the ledger is counted from
these logs and the events alone: embq is not asked.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

import click

import embq

QUEUE = "events"
PREFETCH = 8
WORK = 0.004  # seconds that handling an event takes
MADE_UP = 240  # events, when no file is given
PATIENCE = 60.0  # seconds without any progress, until the demo gives up
GLANCE = 0.01  # seconds between two looks at the logs
MAX_BODY = 1 << 26  # bytes; events of a file may be large


class Handled(NamedTuple):
    """A line of a worker's log."""

    number: int  # of the event, in the order of sending
    checksum: int  # of its data, as the worker saw it
    receive_count: int
    at: float  # by the clock that all processes of a machine share


class Ledger(NamedTuple):
    """What became of the events, counted from the logs."""

    sent: int
    handled: int
    redelivered: int
    lost: int
    duplicates: int
    damaged: int

    @property
    def balances(self) -> bool:
        """Whether every event was handled, unharmed, and none that was not sent."""
        return self.lost == self.damaged == 0 and self.handled == self.sent


def run(events_path: Path | None, workers: int) -> int:
    """Run the demo.

    Args:
        events_path: A file with one event, a JSON object, a line; None: made-up events.
        workers: How many consumer processes; at least 2, since one is killed.

    Returns:
        An exit code: 0 when the ledger balances.
    """
    if workers < 2:  # noqa: PLR2004
        msg = "one worker is killed: at least 2 are needed"
        raise click.UsageError(msg)
    events = list(_read(events_path) if events_path else _make_up(MADE_UP))
    if not events:
        click.echo("no events: nothing to do")
        return 0
    with tempfile.TemporaryDirectory(prefix="embq-demo-") as folder:
        logs = [Path(folder, f"worker-{n}.log") for n in range(workers)]
        with embq.open(Path(folder, "demo.db"), source="demo") as broker:
            queue = broker.queue(QUEUE, max_body=MAX_BODY)
            _send(queue, events)
            click.echo(f"sent         {len(events)} events, each on disk")
            killed, back = _work_off(broker.path, queue, logs, len(events))
            ledger = count(events, read_logs(logs))
            _report(ledger, killed, back, queue.depth())
            return 0 if ledger.balances and back is not None else 1


def count(events: list[dict[str, Any]], lines: Iterable[Handled]) -> Ledger:
    """Balance the events that were sent against the lines of the workers' logs."""
    expected = {number: _checksum(event) for number, event in enumerate(events)}
    lines = list(lines)
    times = Counter(line.number for line in lines)
    return Ledger(
        sent=len(events),
        handled=len(times),
        redelivered=sum(line.receive_count > 1 for line in lines),
        lost=len(expected.keys() - times.keys()),
        duplicates=sum(times.values()) - len(times),
        damaged=sum(expected.get(line.number) != line.checksum for line in lines),
    )


def read_logs(
    logs: Iterable[Path], offsets: dict[Path, int] | None = None
) -> Iterator[Handled]:
    """Read what the workers wrote so far, up to the last complete line.

    Args:
        logs: The files; one that is not there yet counts as empty.
        offsets: How far each was read; read on from there, and note how far now.
    """
    offsets = {} if offsets is None else offsets
    for log in logs:
        if not log.exists():
            continue
        with log.open("rb") as stream:
            stream.seek(offsets.get(log, 0))
            complete = stream.read().rpartition(b"\n")[0]
        offsets[log] = offsets.get(log, 0) + len(complete) + bool(complete)
        for line in complete.splitlines():
            yield Handled(*json.loads(line))


# ---- the parent ----


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                event = json.loads(line)
            except ValueError as error:
                msg = f"{path}, line {number}: {error}"
                raise click.ClickException(msg) from error
            if not isinstance(event, dict):
                msg = f"{path}, line {number}: not a JSON object"
                raise click.ClickException(msg)
            yield event


def _make_up(number: int) -> Iterator[dict[str, Any]]:
    """Make up the events of a shop."""
    kinds = ("order.placed", "order.paid", "parcel.sent", "order.returned")
    for n in range(number):
        yield {
            "id": f"event-{n:04}",
            "type": kinds[n % len(kinds)],
            "source": "shop",
            "data": {"order": 1000 + n // len(kinds), "cents": 199 * (n % 17 + 1)},
        }


def _checksum(event: dict[str, Any]) -> int:
    """Sum up what must arrive unharmed."""
    parts = [event.get("id"), event.get("type"), event.get("data")]
    return zlib.crc32(json.dumps(parts, sort_keys=True).encode())


def _send(queue: embq.Queue, events: list[dict[str, Any]]) -> None:
    for number, event in enumerate(events):
        queue.send(
            event.get("data"),
            type=event.get("type"),
            source=event.get("source"),
            headers={"number": number, "id": event.get("id")},
        )


def _work_off(
    path: str, queue: embq.Queue, logs: list[Path], total: int
) -> tuple[int, float | None]:
    """Let the workers handle all events; kill the first one in the middle.

    Returns:
        The number of the event that the killed worker held, and how many seconds it
        took to come back; None when it did not.
    """
    victim = _start(path, logs[0], stuck=True)
    workers = [victim]
    try:
        # First, so that there is something to be stuck on.
        held = _held_by(victim)
        workers += [_start(path, log, stuck=False) for log in logs[1:]]
        click.echo(f"working      {len(workers)} processes, {PREFETCH} ahead each")
        with _Progress(total, logs) as progress:
            # What the victim has claimed ahead, nobody else can have yet.
            progress.wait(max(0, (total - PREFETCH - 1) // 2))
            victim.kill()
            victim.wait()
            killed_at = time.monotonic()
            progress.wait(total)
            progress.settle(queue)
        found = [line for line in read_logs(logs) if line.number == held]
        return held, min((line.at - killed_at for line in found), default=None)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.communicate()


def _start(path: str, log: Path, *, stuck: bool) -> "subprocess.Popen[str]":
    """Start a worker; a stuck one prints the number of the event that it holds."""
    command = [sys.executable, "-m", "embq.demo", path, str(log), str(int(stuck))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603


def _held_by(victim: "subprocess.Popen[str]") -> int:
    """Wait until the stuck worker is stuck; return the event that it holds."""
    line = victim.stdout.readline() if victim.stdout else ""
    if not line:
        msg = "the first worker ended before it received an event"
        raise click.ClickException(msg)
    return int(line)


class _Progress:
    """The number of events handled, and a bar when somebody is looking."""

    def __init__(self, total: int, logs: list[Path]) -> None:
        self._offsets = dict.fromkeys(logs, 0)
        self._handled: set[int] = set()
        hidden = not sys.stderr.isatty()
        self._bar = click.progressbar(
            length=total, label="handled     ", file=sys.stderr, hidden=hidden
        )

    def wait(self, enough: int) -> None:
        """Wait until so many events are handled, or nothing moves any more."""
        deadline = time.monotonic() + PATIENCE
        while len(self._handled) < enough and time.monotonic() < deadline:
            time.sleep(GLANCE)
            before = len(self._handled)
            lines = read_logs(list(self._offsets), self._offsets)
            self._handled.update(line.number for line in lines)
            if len(self._handled) > before:
                self._bar.update(len(self._handled) - before)
                deadline = time.monotonic() + PATIENCE

    def settle(self, queue: embq.Queue) -> None:
        """Wait for the acks that follow the last lines of the logs."""
        deadline = time.monotonic() + PATIENCE
        while queue.depth() and time.monotonic() < deadline:
            time.sleep(GLANCE)

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(None, None, None)


def _report(ledger: Ledger, held: int, back: float | None, depth: int) -> None:
    click.echo(f"killed       one process (SIGKILL), which held event {held}")
    if back is None:
        click.echo("came back    never")
    else:
        click.echo(
            f"came back    after {back:.2f} s, and was handled by another process"
        )
    click.echo("\nledger, counted from the logs of the processes")
    for name, value in ledger._asdict().items():
        click.echo(f"  {name:<12}{value:>6}")
    click.echo(f"  {'in the queue':<12}{depth:>6}")
    click.echo("balanced" if ledger.balances else "NOT BALANCED")


# ---- a worker ----


def _worker(path: str, log_path: str, *, stuck: bool) -> NoReturn:
    """Handle events until terminated; a stuck one only waits to be killed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with embq.open(path) as broker:
        for message in broker.queue(QUEUE).messages(prefetch=PREFETCH):
            if stuck:
                print(message.headers["number"], flush=True)  # noqa: T201
                signal.pause()
            _handle(message, log)
            message.ack()
    raise SystemExit


def _handle(message: embq.Message, log: int) -> None:
    """Do the work, and say so in the log: one write, so that no line is torn."""
    time.sleep(WORK)
    headers = message.headers
    event = {"id": headers["id"], "type": message.type, "data": message.data}
    line = Handled(
        headers["number"], _checksum(event), message.receive_count, time.monotonic()
    )
    os.write(log, json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    _worker(sys.argv[1], sys.argv[2], stuck=sys.argv[3] == "1")
