"""Signals in calls that open a file or read all of it: back at once, like others."""

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Children
from interrupting import BACK_S, each_signal, interrupt, judge
from rig.interpose import Stage

import embq

PAGES, ROWS = 4000, 1_000_000  # a call that reads all goes on for longer than BACK_S
NOTES = f"""
    create table notes as
    with recursive n(i) as (select 1 union all select i + 1 from n limit {ROWS})
    select i, i * 7919 % {ROWS} as j from n;
    create index notes_j on notes(j);
"""


@each_signal
@pytest.mark.parametrize("state", ["new", "closed", "killed"])
def test_opening_behind_a_foreign_writer(
    path: Path, children: Children, state: str, number: signal.Signals
) -> None:
    """CASE 35: so is opening; the file is as good as before for whoever comes next."""
    if state != "new":
        ending = "os._exit(0)" if state == "killed" else "broker.close()"
        children.run(
            f"""
            import os, sys, embq
            broker = embq.open(sys.argv[1], durability="normal")
            broker.queue("q").send("x")
            {ending}
            """,
            path,
        )
    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        foreign.execute("begin immediate")
        code = """
            import signal, sys, embq

            class Terminated(Exception):
                pass

            def terminate(number, frame):
                raise Terminated

            signal.signal(signal.SIGTERM, terminate)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for _ in sys.stdin:
                print("in", flush=True)
                try:
                    embq.open(sys.argv[1], busy_timeout=300)
                except (KeyboardInterrupt, Terminated) as error:
                    print({"Terminated": "SIGTERM"}.get(type(error).__name__, "SIGINT"))
                    sys.stdout.flush()
            with embq.open(sys.argv[1], durability="normal") as broker:
                broker.queue("q").send("y")
        """
        child = children.start(code, path)
        took = {str(n): interrupt(children, child, "open", number) for n in range(5)}
        foreign.execute("rollback")
    children.finish(child)
    judge(took)
    with embq.open(path) as broker:
        found = [message.data for message in broker.queue("q").receive_many(9)]
        assert found == (["y"] if state == "new" else ["x", "y"])
        assert broker.check() == []


@pytest.mark.parametrize("call", ["check", "repair", "backup"])
def test_a_signal_while_it_reads_all(path: Path, call: str) -> None:
    """CASE 35: what reads the whole file is ended within a statement."""
    with embq.open(path, durability="normal") as broker:
        broker.queue("q", codec="raw").send_many([b"x" * 4000] * PAGES)
    if call != "backup":
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(NOTES)
    stage = Stage("interrupted")
    try:
        took = {
            str(n): stage.run("reading", str(path), call, patience=30).get()
            for n in range(3)
        }
        assert max(took.values()) < BACK_S
        judge(took)
        assert {file.name for file in path.parent.iterdir()} == {"test.db"}
    finally:
        stage.close()
