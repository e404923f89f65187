"""The command `embq`: what it prints, how it exits, and the main job."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import embq

TIMEOUT = 60.0


def run(path: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess:
    """Run `embq --file PATH ...` in a process of its own."""
    command = [sys.executable, "-m", "embq", "--file", str(path), *arguments]
    settings = {"capture_output": True, "text": True, "timeout": TIMEOUT, **options}
    return subprocess.run(command, check=False, **settings)


@pytest.fixture
def queued(path: Path) -> Path:
    """Give a file with three messages in "jobs"."""
    with embq.open(path) as broker:
        broker.queue("jobs").send_many(["a", {"b": 1}, "c"])
    return path


def test_send_and_receive(path: Path) -> None:
    """What was sent comes out, and the id that `send` printed is its id."""
    assert run(path, "send", "jobs", "x").returncode == 1
    sent = run(path, "send", "jobs", "--create", "--type", "t.x", "hello")
    assert sent.returncode == 0, sent.stderr
    got = run(path, "receive", "jobs", "--json")
    message = json.loads(got.stdout)
    assert (message["id"], message["data"], message["type"]) == (
        sent.stdout.strip(),
        "hello",
        "t.x",
    )
    assert run(path, "receive", "jobs").returncode == 2


def test_lines_and_json(path: Path) -> None:
    """Each line of the input is a message; JSON that is none is refused."""
    lines = run(path, "send", "q", "--create", "--lines", "--json", input="1\n[2]\n\n")
    assert len(lines.stdout.split()) == 2
    assert run(path, "receive", "q", "--all").stdout == "1\n[2]\n"
    assert run(path, "send", "q", "--json", "{").returncode == 2


def test_idempotency(path: Path) -> None:
    """Results are listed, printed and forgotten; what is not there exits with 2."""
    with embq.open(path) as broker:
        once = broker.idempotency("payments")
        once.set("17", {"paid": True})
        once.set("18", None)
    assert run(path, "idempotency", "payments", "17").stdout == '{"paid":true}\n'
    assert run(path, "idempotency", "payments", "18").stdout == "null\n"
    assert run(path, "idempotency").stdout.split() == ["2", "2", "payments"]
    assert "idempotency payments  2" in run(path, "stats").stdout
    assert run(path, "idempotency", "payments", "17", "--delete").returncode == 0
    for more in ([], ["--delete"]):
        assert run(path, "idempotency", "payments", "17", *more).returncode == 2
    assert run(path, "idempotency", "payments").returncode == 2


def test_queues_and_stats(queued: Path) -> None:
    """The counters are those of the API, as text and as NDJSON."""
    assert run(queued, "queues").stdout.split() == ["3", "jobs"]
    listed = json.loads(run(queued, "queues", "--json").stdout)
    assert (listed["queue"], listed["messages"], listed["sent"]) == ("jobs", 3, 3)
    assert json.loads(run(queued, "stats", "jobs", "--json").stdout)["ready"] == 3
    assert "sqlite_version" in run(queued, "stats").stdout


def test_what_is_not_there(path: Path, queued: Path) -> None:
    """A missing file or queue is one line on standard error, and exit code 1."""
    for file, queue in ((queued, "nope"), (path.with_name("none.db"), "jobs")):
        failed = run(file, "receive", queue)
        assert failed.returncode == 1
        assert failed.stderr.startswith("embq: ")
        assert failed.stderr.count("\n") == 1
        assert "Traceback" not in failed.stderr


def test_a_closed_pipe_is_quiet_and_loses_nothing(queued: Path) -> None:
    """With nobody reading, `receive` ends quietly and gives its message back."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "embq", "-f", str(queued), "receive", "jobs"]
    done = subprocess.run(
        [*command, "--all"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    os.close(write)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    with embq.open(queued) as broker:
        assert broker.queue("jobs").depth() == 3


def test_the_main_job_balances(tmp_path: Path) -> None:
    """The demo kills a consumer, and its ledger balances all the same."""
    events = tmp_path / "events.jsonl"
    lines = [
        json.dumps({"id": f"e{i}", "type": "t", "source": "s", "data": {"n": i}})
        for i in range(60)
    ]
    events.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = run(tmp_path / "unused.db", "demo", str(events))
    assert done.returncode == 0, done.stdout + done.stderr
    ledger = dict(
        line.split() for line in done.stdout.splitlines() if len(line.split()) == 2
    )
    assert (ledger["sent"], ledger["handled"], ledger["lost"]) == ("60", "60", "0")


def test_a_broken_ledger_fails(tmp_path: Path) -> None:
    """Events that are no JSON end the main job with an error, not with "balanced"."""
    events = tmp_path / "events.jsonl"
    events.write_text("{\n", encoding="utf-8")
    done = run(tmp_path / "unused.db", "demo", str(events))
    assert done.returncode != 0
    assert "balanced" not in done.stdout


def test_places_and_times(path: Path) -> None:
    """Priority, delay, ttl and dedup id of a message are options of `send`."""
    send = ("send", "q", "--create")
    assert run(path, *send, "low", "--priority", "2").returncode == 0
    assert run(path, *send, "high", "--priority", "high").returncode == 0
    assert run(path, *send, "later", "--delay", "100", "--key", "k").returncode == 0
    assert run(path, *send, "soon over", "--ttl", "0.001").returncode == 0
    ids = [run(path, *send, "once", "--dedup-id", "a").stdout for _ in range(2)]
    assert ids[0] == ids[1] != ""
    assert run(path, *send, "again", "--retries", "3").returncode == 0
    assert run(path, "receive", "q", "--all").stdout == "high\nonce\nagain\nlow\n"
    assert run(path, *send, "x", "--priority", "urgent").returncode == 1
    assert run(path, *send, "x", "--retries", "-1").returncode == 1
    stats = json.loads(run(path, "stats", "q", "--json").stdout)
    assert (stats["delayed"], stats["dead"], stats["duplicates"]) == (1, 1, 1)


def test_declare_and_configure(path: Path) -> None:
    """Options are words of the command line, checked as by the API."""
    made = run(path, "declare", "q", "max-receives=2", "delay=1.5", "dead_letter=none")
    assert made.returncode == 0, made.stderr
    with embq.open(path) as broker:
        broker.queue("q", max_receives=2, delay=1.5, dead_letter=None)
    assert run(path, "declare", "q", "delay=2").returncode == 1
    assert run(path, "configure", "q", "delay=2", "ttl=60").returncode == 0
    with embq.open(path) as broker:
        broker.queue("q", max_receives=2, delay=2, ttl=60)
    assert run(path, "configure", "q", "codec=raw").returncode == 1
    assert run(path, "configure", "q", "delay").returncode == 2
    assert run(path, "configure", "q", "delay=soon").returncode == 2
    assert run(path, "configure", "nobody", "delay=2").returncode == 1


def test_pause_purge_and_cancel(queued: Path) -> None:
    """A queue is stopped, goes on, loses one message, and then all."""
    assert run(queued, "pause", "jobs").returncode == 0
    assert run(queued, "receive", "jobs").returncode == 2
    assert run(queued, "resume", "jobs").returncode == 0
    assert run(queued, "pause", "jobs", "--seconds", "0.01").returncode == 0
    sent = run(queued, "send", "jobs", "d", "--delay", "100").stdout.strip()
    assert run(queued, "cancel", "jobs", sent).returncode == 0
    assert run(queued, "cancel", "jobs", sent).returncode == 1
    assert run(queued, "receive", "jobs").stdout == "a\n"
    assert run(queued, "purge", "jobs", input="n\n").returncode == 1
    assert run(queued, "purge", "jobs", "--yes").stdout == "2\n"


def test_redrive(path: Path) -> None:
    """Dead letters go back, those that are meant; the others stay."""
    with embq.open(path) as broker:
        queue = broker.queue("jobs")
        broker.queue("other")
        for word in ("a", "b", "c"):
            queue.send(word, type=f"t.{word}")
            queue.receive().reject("no")
    some = ("--where", "type=t.a", "--where", "type=t.b", "--where", "reason=rejected")
    done = run(path, "redrive", "jobs.dead", *some, "--rate", "1000")
    assert done.stdout == "2 moved, 0 skipped\n", done.stderr
    assert run(path, "receive", "jobs", "--all").stdout == "a\nb\n"
    done = run(path, "redrive", "jobs.dead", "--to", "other")
    assert done.stdout == "1 moved, 0 skipped\n", done.stderr
    assert run(path, "redrive", "jobs.dead", "--where", "type").returncode == 2
    assert run(path, "redrive", "jobs.dead", "--where", "colour=red").returncode == 1
    assert run(path, "redrive", "jobs.dead", "--to", "nobody").returncode == 1


def test_delete(queued: Path) -> None:
    """The queue is gone with what it had; asked first, and not when it is not there."""
    assert run(queued, "delete", "jobs", input="n\n").returncode == 1
    deleted = run(queued, "delete", "jobs", "--yes")
    assert (deleted.returncode, deleted.stdout) == (0, "3\n")
    assert run(queued, "send", "jobs", "x").returncode == 1
    assert run(queued, "delete", "jobs", "--yes").returncode == 1


def test_looking(queued: Path) -> None:
    """What comes next, what there is, one of them, and where it is; all stay."""
    assert (
        run(queued, "peek", "jobs", "-n", "2").stdout
        == run(queued, "browse", "jobs", "-n", "2").stdout
    )
    (first,) = [
        json.loads(line)
        for line in run(queued, "peek", "jobs", "--json").stdout.splitlines()
    ]
    assert run(queued, "get", "jobs", first["id"], "--json").stdout == (
        run(queued, "peek", "jobs", "--json").stdout
    )
    assert run(queued, "why", first["id"]).stdout == "in jobs: ready, and next\n"
    assert run(queued, "why", "0" * 32).returncode == 2
    assert run(queued, "get", "jobs", "0" * 32).returncode == 2
    assert run(queued, "browse", "jobs", "--state", "delayed").stdout == ""
    assert run(queued, "browse", "jobs", "--state", "odd").returncode == 1
    with embq.open(queued) as broker:
        assert broker.queue("jobs").depth() == 3
        broker.queue("empty")
    assert run(queued, "peek", "empty").returncode == 2
