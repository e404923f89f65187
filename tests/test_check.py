"""`broker.check()` and `embq check`: each problem that is planted is found."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

import embq
from embq import Outgoing
from embq.cli import cli

FAR_S = 1000.0
#: By the code of the problem: what is done to the file; q is in table 0.
PLANTED = {
    "orphan_delivery": "insert into embq_delivery select s.id, 99, 15, 0, 0, 1, null,"
    " null, null, null, null, null from embq_state s where channel is not null limit 1",
    "orphan_due": "update embq_due set message = message + 99",
    "wrong_expiry": "update embq_expiry set expires_at_ms = expires_at_ms + 1",
    "orphan_message": "update embq_message_0 set id = id + (99 << 45)",
    "no_subscription": "update embq_state set channel = 77 where channel = 1",
    "waiting_count": "update embq_state set waiting = waiting + 1",
    "message_count": "update embq_state set removed = removed + 1",
    "in_flight_count": "update embq_state set in_flight = in_flight + 1",
    "missing": "drop index embq_delivery_key",
    "foreign": "create trigger t after insert on embq_owner begin select 1; end",
    "changed": "alter table embq_owner add column more integer",
}


@pytest.fixture
def filled(path: Path) -> Path:
    """Make a file that has a bit of everything."""
    with embq.open(path, durability="normal") as broker:
        queue = broker.queue("q")
        late = Outgoing("late", delay=FAR_S)
        queue.send_many(["plain", "held", late, Outgoing("mortal", ttl=FAR_S)])
        keyed = broker.queue("keyed", ordered="key")
        keyed.send_many([Outgoing(n, key="a") for n in range(3)])
        held = [*queue.receive_many(2), *keyed.receive_many(1)]
        assert len(held) == 3
        assert broker.check() == []
        held[0].nack()
        held[2].nack()
        assert broker.check(quick=True) == []
    return path


@pytest.mark.parametrize("code", PLANTED)
def test_a_planted_problem_is_found(filled: Path, code: str) -> None:
    """A problem is told with its kind, and the file stays as it is."""
    with embq.open(filled) as broker:
        broker.queues()
        with closing(sqlite3.connect(filled, isolation_level=None)) as connection:
            connection.execute(PLANTED[code])
            before = list(connection.iterdump())
            found = broker.check()
            assert list(connection.iterdump()) == before
    assert code in {problem.code for problem in found}, found
    assert all(p.where and p.what and p.hint for p in found)


def test_the_command_says_what_is_wrong(filled: Path) -> None:
    """`embq check` is silent about a healthy file, and exits with 1 otherwise."""
    healthy = CliRunner().invoke(cli, ["--file", str(filled), "check"])
    assert (healthy.exit_code, healthy.output) == (0, "")
    with closing(sqlite3.connect(filled)) as connection, connection:
        connection.execute(PLANTED["waiting_count"])
    broken = CliRunner().invoke(cli, ["--file", str(filled), "check"])
    assert broken.exit_code == 1
    assert "waiting_count q: it counts" in broken.output
