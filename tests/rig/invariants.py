"""What must hold between the tables of a file at any commit, whatever happened to it.

    broken(connection) -> which rules are broken, and by which rows

For a plain connection: neither a clock nor embq is needed.
"""

from __future__ import annotations

import sqlite3

SHARDS = 16
DEFERRED, DEFAULT, EXPIRY = 14, 15, 16  # lanes, and the bit for "some message perishes"
IN_LANE = (1 << 41) - 1  # the sequence in a row's number
SHOWN = 5  # rows of one rule

_STORED = "\n  union all\n".join(
    f"  select id, flags, due_at_ms, expires_at_ms from embq_message_{shard}"
    for shard in range(SHARDS)
)
_LANE = "(m.id >> 41 & 15)"
#: Of a priority: 4 has the last lane, the others the first ones.
_LANE_OF_PRIORITY = f"""
  case m.flags & 15
    when 4 then {DEFAULT}
    else (m.flags & 15) - (m.flags & 15 > 4)
  end"""

_KEYED = """
  select
    v.row,
    v.state,
    v.key,
    key_hash(v.key) as key_hash,
    v.state = 'in_flight' or (v.state <> 'blocked' and d.message is not null) as out
  from embq_messages v
  join embq_channel c on c.name = v.queue
  left join embq_delivery d on d.message = v.row
  where c.ordered = 1 and v.key is not null
"""
_ITS_KEY = "s.channel = v.row >> 45 and k.key_hash = v.key_hash"

#: By what it says: a search for rows that break it, among `stored`
#: messages and those that are `keyed`.
RULES = {
    "a row of embq_due is of a message with that delay that nobody has had": f"""
select d.message, d.lane, d.due_at_ms
from embq_due d
left join stored m on m.id = d.message
left join embq_state s on s.id = d.subscription
left join embq_delivery h on h.message = d.message
where m.id is null or h.message is not null or {_LANE} <> {DEFERRED}
  or m.due_at_ms is not d.due_at_ms or s.channel is not m.id >> 45
  or d.lane <> {_LANE_OF_PRIORITY}
""",
    "a message with a delay waits in embq_due or is a delivery": f"""
select m.id, coalesce(places.number, 0)
from stored m
left join (
  select message, count(*) as number
  from (
    select message from embq_due
    union all
    select message from embq_delivery
  )
  group by message
) places on places.message = m.id
where {_LANE} = {DEFERRED} and coalesce(places.number, 0) <> 1
""",
    "a message has a due time if it is in the lane of delays": f"""
select m.id, m.due_at_ms
from stored m
where ({_LANE} = {DEFERRED}) <> (m.due_at_ms is not null)
""",
    "a message is in the lane of its priority": f"""
select m.id, m.flags
from stored m
where {_LANE} <> {DEFERRED} and {_LANE} <> {_LANE_OF_PRIORITY}
""",
    "a row of embq_expiry is of a message that perishes then": """
select e.message, e.expires_at_ms
from embq_expiry e
left join stored m on m.id = e.message
where m.id is null or m.expires_at_ms is not e.expires_at_ms
""",
    "a message that perishes and that nobody holds is in embq_expiry": """
select v.row, v.state, v.expires_at_ms
from embq_messages v
where v.expires_at_ms is not null and v.state <> 'in_flight'
  and not exists (
    select 1
    from embq_expiry e
    where e.expires_at_ms = v.expires_at_ms and e.message = v.row
  )
""",
    "a delivery is of a message": """
select d.subscription, d.message
from embq_delivery d
left join stored m on m.id = d.message
where m.id is null
""",
    "what is out of a queue that is ordered by key has its key": f"""
select v.row, v.state, v.key
from keyed v
where v.out <> exists (
  select 1
  from embq_key k
  join embq_state s on s.id = k.subscription
  where {_ITS_KEY} and k.message = v.row
)
""",
    "a key that is taken is that of a message": f"""
select k.subscription, k.key_hash, k.message
from embq_key k
join embq_state s on s.id = k.subscription
left join embq_channel c on c.id = s.channel
left join keyed v on v.row = k.message and {_ITS_KEY}
where v.row is null and c.kind is not 0  -- 0: it is being deleted
""",
    "what is blocked waits behind one that was sent before": f"""
select v.row, v.key
from keyed v
where v.state = 'blocked' and not exists (
  select 1
  from embq_key k
  join embq_state s on s.id = k.subscription
  where {_ITS_KEY} and k.message < v.row
)
""",
    "a delivery knows its key": """
select d.message, d.key_hash
from embq_delivery d
left join embq_channel c on c.id = d.message >> 45
left join keyed v on v.row = d.message
where d.key_hash is not v.key_hash and c.kind is not 0
""",
    "a queue says which lanes it uses": f"""
select s.channel, m.id, s.lanes
from stored m
join embq_state s on s.channel = m.id >> 45
where not s.lanes >> {_LANE} & 1 or not s.lanes >> {_LANE_OF_PRIORITY} & 1
  or (m.expires_at_ms is not null and not s.lanes >> {EXPIRY} & 1)
""",
    "an ordered queue uses one lane": f"""
select c.name, m.id
from stored m
join embq_channel c on c.id = m.id >> 45
where c.ordered and {_LANE} <> {DEFAULT}
""",
    "of a queue that was deleted nothing is left once its channel is free": """
select c.id, s.sent - s.removed, s.in_flight, s.waiting
from embq_channel c
join embq_state s on s.channel = c.id
where c.kind > 1 and (
  c.name is not null or s.sent <> s.removed or s.in_flight or s.waiting
  or exists (select 1 from stored m where m.id >> 45 = c.id)
  or exists (select 1 from embq_state r where r.subscription = s.id)
  or exists (select 1 from embq_delivery d where d.subscription = s.id)
  or exists (select 1 from embq_due d where d.subscription = s.id)
  or exists (select 1 from embq_key k where k.subscription = s.id)
  or exists (select 1 from embq_expiry e where e.message >> 45 = c.id)
  or exists (select 1 from embq_idempotency i where i.scope = c.id)
  or exists (select 1 from embq_redrive r where r.channel = c.id)
)
""",
    "a dedup id is of a number that its queue has given out": f"""
select i.scope, i.key, i.result
from embq_idempotency i
left join embq_state s on s.channel = i.scope
where typeof(i.scope) = 'integer' and (s.id is null or i.result >> 45 <> i.scope or (
  i.result & {IN_LANE} >= s.next_sequence
  and not exists (
    select 1
    from stored m
    where m.id >> 45 = i.scope and m.id & {IN_LANE} >= i.result & {IN_LANE}
  )
))
""",
    "a result is stored, or somebody is at it": """
select i.scope, i.key, i.owner
from embq_idempotency i
where typeof(i.scope) not in ('integer', 'text')
  or (typeof(i.scope) = 'integer' and (i.owner is not null or i.token is not null))
  or (typeof(i.scope) = 'text' and not (
    typeof(i.result) = 'text' and i.owner is null and i.token is null
    or i.result is null and i.owner is not null and i.token is not null
  ))
""",
    "what is in flight is a process's that has the file open": """
select i.scope, i.key, i.owner
from embq_idempotency i
where i.owner is not null and i.owner not in (select slot from embq_owner)
""",
    "a scope counts its results": """
select name, size, number
from (
  select s.name, s.size, count(i.key) as number
  from embq_scope s
  left join embq_idempotency i on i.scope = s.name and i.owner is null
  group by s.name
  union all
  select i.scope, 0, 1
  from embq_idempotency i
  where typeof(i.scope) = 'text' and i.owner is null
    and i.scope not in (select name from embq_scope)
)
where size <> number
""",
    "a redrive is within its queue, and was counted": """
select r.channel, r.position, r.moved
from embq_redrive r
left join embq_state s on s.channel = r.channel
where s.id is null or r.position >> 45 <> r.channel or s.redriven < r.moved
""",
    "a queue counts the deliveries that wait": """
select s.channel, s.waiting, count(d.message)
from embq_state s
left join embq_delivery d on d.subscription = s.id and d.owner is null
where s.channel is not null
group by s.id
having s.waiting <> count(d.message)
""",
}


#: Whether the rules that read `keyed` can find anything.
HAS_KEYS = """
select
  exists (select 1 from embq_channel where ordered = 1)
  or exists (select 1 from embq_key)
  or exists (select 1 from embq_delivery where key_hash is not null)
"""


def _key_hash(key: str) -> int:
    """Of a key, as csrc/order.c has it (FNV-1a, 64 bits, signed)."""
    value = 0xCBF29CE484222325
    for byte in key.encode():
        value = (value ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return value - (value >> 63 << 64) or 1


def _know_key_hash(connection: sqlite3.Connection) -> None:
    """Once: a new function undoes all statements, which take 20 times the searches."""
    try:
        connection.execute("select key_hash('')")
    except sqlite3.OperationalError:
        connection.create_function("key_hash", 1, _key_hash, deterministic=True)


def broken(connection: sqlite3.Connection) -> list[str]:
    """Search for rows that break a rule."""
    _know_key_hash(connection)
    (has_keys,) = connection.execute(HAS_KEYS).fetchone()
    tables = f"with stored as (\n{_STORED}\n), keyed as ({_KEYED})"
    found = []
    for rule, search in RULES.items():
        if not has_keys and "keyed" in search:
            continue  # it finds nothing, and to prepare it takes longer than all others
        rows = connection.execute(tables + search).fetchall()
        if rows:
            found.append(f"not so: {rule}: {rows[:SHOWN]}")
    return found
