"""Hostile bytes: the fuzzers' corpus replayed, and what Python reads of a file."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import embq
from embq import _native, errors
from embq._codec import CODECS

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

from clock import ClockFile
from fuzz_program import CORPUS, TARGETS, build, environment, work_folder
from hostile import Hostile

REPLAY_S = 120
SOON = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
# What a damaged page may hold, and what is JSON but not ours.
NUMBERS = st.sampled_from([0, -1, 1 << 31, 1 << 53, 1 << 62, -(1 << 63), (1 << 63) - 1])
JSON = st.sampled_from(
    [
        *("{", "[]", "{}", "7", '"x"', "null", "[1]", "1e999", "[" * 2000),
        *('{"headers":7}', '{"version":[]}', '{"reply_to":{}}', '{"headers":{"a":1}}'),
        *('[{"queue":1}]', '[{"error":null}, 2]'),
    ]
)
VALUES = st.none() | NUMBERS | st.floats() | JSON | st.text() | st.binary(max_size=40)


# ---- the core ----


@pytest.fixture(scope="module")
def program() -> Path:
    """Compile the targets for the corpus alone, which needs no clang."""
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        pytest.skip(f"NO FUZZ CORPUS: there is no C compiler {compiler!r}")
    return build(Path(tempfile.mkdtemp(prefix="embq-fuzz-")), compiler)


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(program: Path, target: str) -> None:
    """CASES 5 and 6: every input that was ever interesting passes under sanitizers."""
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    with work_folder() as folder:
        done = subprocess.run(
            [str(program), target, *map(str, inputs)],
            env=environment(folder, target),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=REPLAY_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]


# ---- what Python makes of it ----


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    """A file with one queue and one message, to be damaged."""
    path = tmp_path_factory.mktemp("hostile") / "queue.db"
    with embq.open(path) as broker:
        broker.queue("q").send({"n": 1}, type="t", headers={"a": 1}, version=2)
    return Hostile(path)


def look_at(message: embq.Message) -> None:
    """Read all that a message has; each must be what it says that it is."""
    kinds = {
        "timestamp": datetime,
        "headers": dict,
        "version": int | str | None,
        "correlation_id": str | None,
        "reply_to": str | None,
        "history": list,
        "data": object,
    }
    for name, kind in kinds.items():
        with suppress(errors.Corrupt, errors.BodyError):
            assert isinstance(getattr(message, name), kind)
    assert isinstance(repr(message), str)


COLUMNS = ("sent_at_ms", "type", "source", "key", "public_id", "attributes", "history")


@settings(SOON, max_examples=80)
@given(
    st.dictionaries(st.sampled_from([*COLUMNS, "body"]), VALUES, min_size=1, max_size=3)
)
def test_any_value_in_a_message(hostile: Hostile, values: dict[str, Any]) -> None:
    """CASE 6: whatever its row holds: `Corrupt`, `BodyError`, or what its type says."""
    path = hostile.set("embq_message_0", values)
    with embq.open(path) as broker, suppress(errors.Corrupt):
        message = broker.queue("q").receive()
        if message is None:  # it is another body, and so a dead letter
            assert isinstance(values["body"], bytes)
            assert broker.queue("q.dead").peek()[0].history[-1]["reason"] == "damaged"
            return
        look_at(message)
        message.ack()


OPTIONS = ("name", "codec", "dead_letter", "visibility_timeout_ms", "max_receives")


@settings(SOON, max_examples=80)
@given(st.dictionaries(st.sampled_from(OPTIONS), VALUES, min_size=1, max_size=2))
def test_any_value_in_a_queue(hostile: Hostile, values: dict[str, Any]) -> None:
    """CASE 6: whatever its row holds, it is `Corrupt`, or a queue that works."""
    path = hostile.set("embq_channel", values)
    with embq.open(path) as broker:
        with suppress(errors.Corrupt):
            assert all(isinstance(name, str) for name in broker.queues())
        with suppress(errors.Corrupt):
            queue = broker.queue("q")
            for message in queue.messages(wait=0):
                message.ack()
            queue.stats()


MIGRATIONS = ("migration_set", "name", "applied_at")
METAS = (
    "select 1",
    "drop table embq_meta",
    "delete from embq_meta",
    "update embq_meta set schema_version = 0",
)


@settings(SOON, max_examples=60)
@given(
    st.dictionaries(st.sampled_from(MIGRATIONS), VALUES, min_size=1),
    st.sampled_from(METAS),
)
def test_any_value_in_the_list_of_migrations(
    hostile: Hostile, values: dict[str, Any], meta: str
) -> None:
    """Whatever it says was applied, opening works, or says `Corrupt`."""
    columns = ", ".join(f"{column} = :{column}" for column in values)
    path = hostile.damage(meta, f"update _sqlite_migrations set {columns}", **values)
    with suppress(errors.Corrupt), embq.open(path) as broker:
        broker.queue("q").stats()


@settings(SOON, max_examples=300)
@given(st.sampled_from(["json", "msgpack"]), st.binary(max_size=60))
def test_any_body(codec: str, body: bytes) -> None:
    """A codec decodes any bytes, or says `BodyError`."""
    with suppress(errors.BodyError):
        CODECS[codec].decode(body)


NO_TEXT = "update embq_message_0 set type = cast(x'ff' as text) where id % 4 = 2"


def test_a_message_that_is_no_text_harms_no_other(clock: ClockFile, path: Path) -> None:
    """It is `Corrupt` to its receiver; the others of its batch come after it."""
    _native.use_clock(clock.path)
    with embq.open(path) as broker:
        broker.queue("q").send_many(range(4))
    hostile = Hostile(path)
    hostile.damage(NO_TEXT)
    with embq.open(path) as broker:
        queue, seen, failures = broker.queue("q"), [], 0
        for _ in range(4):
            try:
                for message in queue.messages(wait=0):
                    seen.append(message.data)
                    message.ack()
            except errors.Corrupt:
                failures += 1
            clock.boot_ms += 31_000  # the leases of the batch end
        assert sorted(seen) == [0, 2, 3]
        assert failures
    _native.use_clock(None)


ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select"
TRAPS = {
    "a view": f"""
        create view _sqlite_migrations as {ENDLESS}
        i as id, 'embq' as migration_set, i as name, i as applied_at from n
        where i < 0
    """,
    "a trigger": f"""
        create trigger t after insert on _sqlite_migrations begin
        insert into _sqlite_migrations(id) {ENDLESS} i from n where i < 0; end
    """,
}


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS.keys())
def test_no_trap_in_the_list_of_migrations(path: Path, trap: str) -> None:
    """CASE 5: a view in its place, or a trigger on it, is `Corrupt`, and never run."""
    with closing(sqlite3.connect(path)) as connection:
        if "create view" not in trap:
            connection.execute("create table _sqlite_migrations(id, migration_set)")
        connection.execute(trap)
    with pytest.raises(errors.Corrupt):
        embq.open(path).ping()


@pytest.mark.parametrize("history", ["null", "7", "{}", '"x"', "{", "[" * 2000, ""])
def test_a_history_that_is_no_list_takes_an_entry(
    hostile: Hostile, history: str
) -> None:
    """CASE 6: what died says why, whatever stands in its place; a list keeps on."""
    path = hostile.set("embq_message_0", {"history": history, "body": b""})
    with embq.open(path) as broker:
        assert broker.queue("q").receive() is None
        (dead,) = broker.queue("q.dead").peek()
        said = [(e["queue"], e["reason"], e["hops"]) for e in dead.history]
        assert said == [("q", "damaged", 1)]


@pytest.mark.parametrize("body", [None, 7, "text"])
def test_a_message_without_a_body_is_told(hostile: Hostile, body: Any) -> None:
    """CASE 6: what is no blob is `Corrupt`, not an empty body."""
    path = hostile.set("embq_message_0", {"body": body})
    with embq.open(path) as broker, pytest.raises(errors.Corrupt):
        broker.queue("q").receive()
