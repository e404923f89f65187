"""The invariants of the tables: kept by embq, and each breach is found."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from rig.invariants import RULES, broken

import embq
from embq import Outgoing

FAR_S = 1000.0
#: For each rule changes that break it; q is in table 0, keyed in table 1.
BREACHES = {
    "a row of embq_due is of": [
        "insert into embq_due select subscription, lane, 5, message from embq_delivery",
        "update embq_due set due_at_ms = due_at_ms + 1",
        "update embq_due set lane = 0",
        "update embq_due set message = message + 99",
    ],
    "a message with a delay waits": [
        "delete from embq_due",
        "insert into embq_due select subscription, lane, 5, message from embq_due",
    ],
    "a message has a due time": [
        "update embq_message_0 set due_at_ms = 5",
        "update embq_message_0 set due_at_ms = null",
    ],
    "a message is in the lane": ["update embq_message_0 set flags = 3"],
    "a row of embq_expiry is": [
        "update embq_expiry set expires_at_ms = expires_at_ms + 1",
        "insert into embq_expiry select 5, id from embq_message_1",
    ],
    "a message that perishes": ["delete from embq_expiry"],
    "a delivery is of": ["delete from embq_message_1"],
    "what is out of a queue that is ordered": ["update embq_key set message = 1"],
    "a key that is taken": [
        "update embq_key set key_hash = key_hash + 1",
        "insert into embq_key values (2, 7, 7)",
    ],
    "what is blocked": [
        "delete from embq_key",
        "update embq_key set message = message + 1",
    ],
    "a delivery knows its key": ["update embq_delivery set key_hash = null"],
    "a queue says which lanes": [
        "update embq_state set lanes = 1 << 15",
        "update embq_state set lanes = lanes & 65535",
    ],
    "an ordered queue": ["update embq_channel set ordered = 1"],
    "of a queue that was deleted": [
        "update embq_channel set kind = 2, name = null where name = 'keyed'",
        "insert into embq_key select id, 5, 5 from embq_state where channel = 3",
        "insert into embq_expiry values (5, (3 << 45) + 5)",
        "insert into embq_idempotency values (3, 'x', 5, 5, null, null)",
        "update embq_state set in_flight = 1 where channel = 3",
    ],
    "a dedup id is of a number": [
        "update embq_idempotency set result = result + 1",
        "update embq_idempotency set result = result + (1 << 45)",
        "update embq_idempotency set scope = 99, result = 99 << 45",
        "delete from embq_message_1",
    ],
    "a result is stored, or": [
        "update embq_idempotency set result = null where scope = 's'",
        "update embq_idempotency set result = 5 where scope = 's'",
        "update embq_idempotency set owner = 5 where scope = 's'",
        "update embq_idempotency set owner = 5 where scope <> 's'",
        "update embq_idempotency set scope = x'00' where scope = 's'",
    ],
    "what is in flight is": [
        "insert into embq_idempotency values ('s', 'x', null, 5, 999, 5)",
    ],
    "a scope counts": [
        "update embq_scope set size = size + 1",
        "delete from embq_idempotency where scope = 's'",
        "delete from embq_scope",
    ],
    "a redrive is within": [
        "update embq_redrive set channel = 99",
        "update embq_redrive set position = position + (1 << 45)",
        "update embq_redrive set moved = moved + 1",
    ],
    "a queue counts": ["update embq_state set waiting = waiting + 1"],
}


@pytest.fixture
def placed(path: Path) -> Path:
    """Make a file that has a bit of everything."""
    with embq.open(path, durability="normal") as broker:
        broker.queue("q").send_many(
            [
                "plain",
                Outgoing("high", priority=9),
                Outgoing("late", delay=FAR_S),
                Outgoing("mortal", ttl=FAR_S),
                Outgoing("all", priority=7, delay=FAR_S, ttl=FAR_S),
            ]
        )
        keyed = broker.queue("keyed", ordered="key")
        keyed.send_many([Outgoing(n, key="a") for n in range(3)])
        keyed.receive_many(3)[0].nack()
        keyed.send("known", dedup_id="a")
        broker.idempotency("s").set("result", 1)
        broker.queue("gone").send("x")
        broker.queue("target")
        broker.queue("graves").send("back")
        broker.queue("graves").redrive("target").wait()
        broker.delete("gone")
    return path


@pytest.mark.parametrize(
    ("rule", "breach"), [(rule, one) for rule, of in BREACHES.items() for one in of]
)
def test_a_breach_is_found(placed: Path, rule: str, breach: str) -> None:
    """Each rule holds, and tells what breaks it."""
    with closing(sqlite3.connect(placed, isolation_level=None)) as connection:
        assert broken(connection) == []
        connection.execute("begin")
        connection.execute(breach)
        found = [text for text in broken(connection) if rule in text]
    assert len(found) == 1, found


def test_each_rule_is_tried() -> None:
    """No rule is here without a breach."""
    assert [rule for rule in RULES if not any(map(rule.startswith, BREACHES))] == []
