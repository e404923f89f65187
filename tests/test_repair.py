"""`broker.repair()` and `embq check --repair`: what can be mended, and no message."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import Children
from test_check import PLANTED, filled

import embq
from embq.cli import cli

__all__ = ["filled"]  # the fixture

MENDED = set(PLANTED) - {"orphan_message", "no_subscription", "changed"}
LEFT = set(PLANTED) - MENDED


def plant(path: Path, code: str) -> None:
    """Do to the file what breaks a rule."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(PLANTED[code])


def messages(path: Path) -> list[Any]:
    """Read all that is stored of messages, bodies too."""
    with closing(sqlite3.connect(path)) as connection:
        return [
            row
            for shard in range(16)
            for row in connection.execute(f"select * from embq_message_{shard}")
        ]


def drain(broker: Any) -> list[Any]:
    """Take all that can be taken."""
    found = []
    for name in broker.queues():
        while message := broker.queue(name).receive(auto_ack=True):
            found.append(str(message.data))
    return found


@pytest.mark.parametrize("code", sorted(MENDED))
def test_what_is_mended(filled: Path, code: str) -> None:
    """Said before, mended then, once; no message changes; and the queues work."""
    with embq.open(filled) as broker:
        broker.queues()
        plant(filled, code)
        before = messages(filled)
        told = {problem.code: problem.mend for problem in broker.check()}
        assert told[code], f"not said: {told}"
        assert code in {problem.code for problem in broker.repair()}
        assert broker.check() == []
        assert messages(filled) == before
        assert broker.repair() == []
        found = drain(broker)  # the others were nacked, or wait for one that was
        assert set(found) >= {"held", "mortal"}
        keyed = [one for one in found if one.isdigit()]
        assert keyed == ["0", "1", "2"][: len(keyed)]
        assert broker.check() == []


def test_a_scope_that_is_gone(filled: Path) -> None:
    """Results whose scope has no row are counted again, and none is removed."""
    with embq.open(filled) as broker:
        with closing(sqlite3.connect(filled)) as connection, connection:
            connection.execute("delete from embq_scope")
        assert [one.code for one in broker.repair()] == ["result_count"]
        assert broker.check() == []
        assert broker.idempotency("s").get("result") == [1]
        assert broker.stats()["idempotency"]["s"]["size"] == 1


@pytest.mark.parametrize("code", sorted(LEFT))
def test_what_is_not(filled: Path, code: str) -> None:
    """What would cost a message, or cannot be known, is left as it is."""
    with embq.open(filled) as broker:
        broker.queues()
        plant(filled, code)
        before = messages(filled)
        assert not {one.mend for one in broker.check() if one.code == code} - {""}
        broker.repair()
        assert code in {problem.code for problem in broker.check()}
        assert messages(filled) == before


@pytest.mark.parametrize("code", ["missing", "foreign"])
def test_what_cannot_be_opened(filled: Path, code: str) -> None:
    """CASE 5: a file that is refused for its tables is mended, and opens."""
    plant(filled, code)
    with pytest.raises(embq.Corrupt):
        embq.open(filled)
    assert [one.code for one in embq.Broker(filled).repair()] == [code]
    with embq.open(filled) as broker:
        assert broker.check() == []


def test_a_trigger_does_not_run(filled: Path) -> None:
    """A trigger that would undo the mending goes before it."""
    plant(filled, "waiting_count")
    with closing(sqlite3.connect(filled)) as connection, connection:
        connection.execute(
            "create trigger t before update on embq_state begin"
            " select raise(ignore); end"
        )
    broker = embq.Broker(filled)
    assert {one.code for one in broker.repair()} == {"foreign", "waiting_count"}
    with broker:
        assert broker.check() == []


def test_a_damaged_file_is_left(filled: Path) -> None:
    """CASE 6: nothing is written where an index lacks what its table has."""
    with closing(sqlite3.connect(filled)) as connection:
        ((sql,),) = connection.execute(
            "select sql from sqlite_master where name = 'embq_delivery_key'"
        )
        connection.executescript(
            f"""
            drop view embq_queues;
            drop index embq_delivery_key;
            {sql.replace("is not null", "is null")};
            pragma writable_schema = on;
            update sqlite_master set sql = '{sql}' where name = 'embq_delivery_key';
            """
        )
    broker = embq.Broker(filled)
    assert broker.repair() == []
    broker.close()
    assert {one.code for one in embq.Broker(filled).check()} == {"damaged", "missing"}


def test_while_others_work(filled: Path, children: Children) -> None:
    """A process that has the file open counts as the mended file does."""
    child = children.start(
        """
        import sys, embq
        with embq.open(sys.argv[1]) as broker:
            queue = broker.queue("q")
            queue.send("before")
            print("sent", flush=True)
            sys.stdin.readline()
            queue.send("after")
            print(queue.depth(), flush=True)
        """,
        filled,
    )
    children.expect(child, "sent")
    plant(filled, "message_count")
    with embq.open(filled) as broker:
        depth = len(broker.queue("q").peek(100))
        assert broker.repair()
        depth = broker.queue("q").depth()
        children.tell(child)
        children.expect(child, str(depth + 1))
        children.finish(child)
        assert broker.check() == []


def test_the_command(filled: Path) -> None:
    """`embq check --repair` says what it would do, and does it when it is told to."""
    plant(filled, "waiting_count")
    options = ["--file", str(filled), "check", "--repair"]
    asked = CliRunner().invoke(cli, options, input="n\n")
    assert "repair: count anew" in asked.output
    assert asked.exit_code == 1
    refused = CliRunner().invoke(cli, ["--file", str(filled), "check"])
    assert "waiting_count q" in refused.output, "it was mended unasked"
    done = CliRunner().invoke(cli, [*options, "--yes"])
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "2 mended")
