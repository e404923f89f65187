"""`broker.check()` and `embq check`: each problem that is planted is found."""

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import PATIENCE_S

import embq
from embq import Outgoing
from embq._reading import Reading
from embq._rules import RULES
from embq.cli import cli

FAR_S = 1000.0
ENDS_S = 5.0  # what takes a moment
ENDLESS = """
with recursive n(i) as (select 1 union all select i + 1 from n)
select count(*)
from n
"""
#: By the code of the problem: what is done to the file; q is in table 0.
PLANTED = {
    "orphan_delivery": "insert into embq_delivery select s.id, 99, 15, 0, 0, 1, null,"
    " null, null, null, null, null from embq_state s where channel is not null limit 1",
    "orphan_due": "update embq_due set message = message + 99",
    "lost_delay": "delete from embq_due",
    "lost_expiry": "delete from embq_expiry",
    "wrong_expiry": "update embq_expiry set expires_at_ms = expires_at_ms + 1",
    "orphan_key": "update embq_key set message = message + 99",
    "stuck_key": "delete from embq_key",
    "orphan_message": "update embq_message_0 set id = id + (99 << 45)",
    "no_subscription": "update embq_state set channel = 77 where channel = 1",
    "waiting_count": "update embq_state set waiting = waiting + 1",
    "message_count": "update embq_state set removed = removed + 1",
    "in_flight_count": "update embq_state set in_flight = in_flight + 1",
    "result_count": "update embq_scope set size = size + 1",
    "orphan_result": "insert into embq_idempotency"
    " values ('s', 'flight', null, 1 << 45, 999, 5)",
    "missing": "drop index embq_delivery_key",
    "foreign": "create trigger t after insert on embq_owner begin select 1; end",
    "changed": "alter table embq_owner add column more integer",
}


def bytes_of(path: Path) -> list[bytes]:
    """Read a file and its -wal."""
    return [path.read_bytes(), path.with_name(f"{path.name}-wal").read_bytes()]


@pytest.fixture
def filled(path: Path) -> Path:
    """Make a file that has a bit of everything."""
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        late = Outgoing("late", delay=FAR_S)
        queue.send_many(["plain", "held", late, Outgoing("mortal", ttl=FAR_S)])
        keyed = broker.queue("keyed", ordered="key")
        keyed.send_many([Outgoing(n, key="a") for n in range(3)])
        held = [*queue.receive_many(2), *keyed.receive_many(3)]
        assert len(held) == 3
        held[0].nack()
        held[2].nack()
        broker.idempotency("s").set("result", [1])
    return path


def test_a_healthy_file(filled: Path) -> None:
    """No problem is told where messages are held, blocked, delayed, and dead."""
    with embq.open(filled) as broker:
        broker.queue("q").receive_many(1)[0].reject("as it is")
        held = broker.queue("q").receive_many(5)
        assert len(held) == 1
        for quick in (False, True):
            assert broker.check(quick=quick) == []


@pytest.mark.parametrize("code", PLANTED)
def test_a_planted_problem_is_found(filled: Path, code: str) -> None:
    """A problem is told with its kind, and no byte of the file changes."""
    with embq.open(filled) as broker:
        broker.queues()
        with closing(sqlite3.connect(filled, isolation_level=None)) as connection:
            connection.execute(PLANTED[code])
            before = bytes_of(filled)
            found = broker.check()
            assert bytes_of(filled) == before
    assert code in {problem.code for problem in found}, found
    assert all(p.where and p.what and p.hint for p in found)


def test_each_rule_is_tried() -> None:
    """No rule is here without a breach."""
    assert {rule.code for rule in RULES} <= set(PLANTED)


@pytest.mark.parametrize("page", range(2, 12))
def test_a_torn_page_is_a_problem(filled: Path, page: int) -> None:
    """CASE 6: of a page of ours that is half zeros, `check` says so and does not fail.

    Opening it may say so too, by `Corrupt`.
    """
    with closing(sqlite3.connect(filled)) as connection:
        (size,) = connection.execute("pragma page_size").fetchone()
    with filled.open("r+b") as file:
        file.seek((page - 1) * size)
        whole = file.read(size)
        file.seek((page - 1) * size)
        file.write(bytes(size // 2) + whole[size // 2 :])
    try:
        with embq.open(filled) as broker:
            found = broker.check()
    except embq.Corrupt:
        return
    assert "damaged" in {problem.code for problem in found}, (page, found)


def test_what_only_the_application_knows(filled: Path) -> None:
    """Tables that need its functions or collations are no problem, and hide none."""
    with closing(sqlite3.connect(filled)) as connection, connection:
        connection.create_collation("mine", lambda a, b: (a > b) - (a < b))
        connection.create_function("double", 1, lambda x: x * 2, deterministic=True)
        connection.execute("create table theirs(a text collate mine, b integer)")
        connection.execute("create index i on theirs(a)")
        connection.execute("create index j on theirs(double(b))")
        connection.execute("insert into theirs values ('x', 1), ('y', 2)")
    with embq.open(filled) as broker:
        assert broker.check() == []
        with closing(sqlite3.connect(filled)) as connection, connection:
            connection.execute(PLANTED["waiting_count"])
        assert {problem.code for problem in broker.check()} == {"waiting_count"}


def test_a_fork_ends_it(filled: Path) -> None:
    """No connection of a check crosses a fork: the check ends, and says so."""
    with embq.open(filled) as broker:
        broker.queues()
        seen: list[str] = []
        inside = threading.Event()

        def look() -> None:
            try:
                with Reading(bytes(filled), 10, "check") as reading:
                    inside.set()
                    reading.execute(ENDLESS)
            except embq.Busy as error:
                seen.append(str(error))

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        assert inside.wait(PATIENCE_S)
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        thread.join(ENDS_S)
        assert len(seen) == 1, "it went on"
        assert "this process forked" in seen[0]
        assert broker.check() == []


def test_a_fork_in_sqlites_own_part(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork that comes while SQLite checks the file makes it `Busy`, not damaged."""
    execute = Reading.execute

    def forked_beside(reading: Reading, sql: str) -> list[Any]:
        if "_check" in sql:  # as _before_fork does, in the middle of the statement
            reading.connection.set_progress_handler(lambda: reading.stop() or 1, 1)
        return execute(reading, sql)

    monkeypatch.setattr(Reading, "execute", forked_beside)
    with embq.open(filled) as broker, pytest.raises(embq.Busy, match="forked"):
        broker.check()


def test_the_command_says_what_is_wrong(filled: Path) -> None:
    """`embq check` is silent about a healthy file, and exits with 1 otherwise."""
    healthy = CliRunner().invoke(cli, ["--file", str(filled), "check"])
    assert (healthy.exit_code, healthy.output) == (0, "")
    with closing(sqlite3.connect(filled)) as connection, connection:
        connection.execute(PLANTED["waiting_count"])
    broken = CliRunner().invoke(cli, ["--file", str(filled), "check"])
    assert broken.exit_code == 1
    assert "waiting_count q: it counts" in broken.output


def test_counts_of_all_queues_read_few_messages(filled: Path) -> None:
    """The view of the queues searches for the newest message of each; it scans none."""
    with closing(sqlite3.connect(filled)) as connection:
        plan = connection.execute("explain query plan select * from embq_queues")
        steps = [step[3] for step in plan]
    assert [step for step in steps if step.startswith("SEARCH embq_message_0")]
    assert not [step for step in steps if step.startswith("SCAN embq_message")]
