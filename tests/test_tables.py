"""What a file's tables are is looked at when it is opened."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Children

import embq

#: What was done to the file, and what `check` calls that.
CHANGES = {
    "drop index embq_delivery_key": "missing",
    "drop index embq_channel_gone": "missing",
    "drop view embq_queues": "missing",
    "drop view embq_queues; create view embq_queues as select 1 as name": "changed",
    "drop index embq_delivery_key; create index embq_delivery_key"
    " on embq_delivery(subscription, message, key_hash)": "changed",
    "alter table embq_owner add column more integer": "changed",
    "create trigger t after insert on embq_owner begin select 1; end": "foreign",
    "create trigger T before delete on EMBQ_message_3 begin"
    " select raise(ignore); end": "foreign",
    "create table embq_mine(a)": "foreign",
}


def change(path: Path, sql: str) -> None:
    """Do it behind embq's back."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(sql)


@pytest.fixture
def there(path: Path) -> Path:
    """A file that was in use."""
    with embq.open(path) as broker:
        broker.queue("q").send(1)
    return path


@pytest.mark.parametrize("sql", CHANGES)
def test_what_is_not_as_it_was(there: Path, sql: str) -> None:
    """CASE 5: `Corrupt` when it is opened, nothing is written; `check` says what."""
    change(there, sql)
    before = there.read_bytes()
    with pytest.raises(embq.Corrupt, match="embq check"):
        embq.open(there)
    assert there.read_bytes() == before
    assert CHANGES[sql] in {one.code for one in embq.Broker(there).check()}


def test_what_is_the_application_s(there: Path) -> None:
    """Its own tables, triggers and indexes are nobody's business, nor a VACUUM."""
    change(
        there,
        """
        create table theirs(a);
        create trigger t after insert on theirs begin select 1; end;
        create index i on embq_message_0(type);
        vacuum;
        reindex;
        """,
    )
    with embq.open(there) as broker:
        assert broker.queue("q").receive_many(2, auto_ack=True)


def test_when_it_is_open_it_goes_on(there: Path, children: Children) -> None:
    """Who has it open goes on, also over a fork; who comes is told."""
    with embq.open(there) as broker:
        queue = broker.queue("q")
        change(there, "drop index embq_delivery_key")
        assert queue.send(2)
        child = children.start(
            """
            import sys, embq
            try:
                embq.open(sys.argv[1])
            except embq.Corrupt:
                print("told", flush=True)
            """,
            there,
        )
        children.expect(child, "told")
        children.finish(child)
        child_pid = os.fork()
        if not child_pid:
            os._exit(0)
        os.waitpid(child_pid, 0)
        assert queue.send(3)
        assert queue.depth() == 3


def test_killed_before_it_was_kept(path: Path, children: Children) -> None:
    """CASE 4: a file whose maker died after the migration is as good as any."""
    children.run(
        """
        import os, sys, embq
        from embq import _schema, _sqlite
        open(sys.argv[1], "w").close()
        _sqlite.bind()
        _schema.migrate(os.fsencode(sys.argv[1]), 1000)
        os._exit(0)
        """,
        path,
    )
    with embq.open(path) as broker:
        assert broker.queue("q").send(1)
    with closing(sqlite3.connect(path)) as connection:
        ((kept,),) = connection.execute("select fingerprint from embq_meta")
    assert kept
    change(path, "drop index embq_delivery_key")
    with pytest.raises(embq.Corrupt):
        embq.open(os.fspath(path))
