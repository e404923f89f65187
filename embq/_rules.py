"""What must hold between the tables of a file: each rule searches for what breaks it.

No rule needs the time. What is only behind its time, such as a lease that ended and
that nobody has noticed yet, breaks none.
"""

from typing import NamedTuple

from embq import _schema_sql

_RESTORE = "restore a backup, or copy what can be read into a new file"
_RECOUNT = "`embq check --repair`; report it with what ran before"
_FREE = "`embq check --repair`, or else the next to open the file after a restart"
_ONE_TABLE = "  select id, flags, due_at_ms, expires_at_ms from embq_message_{shard}"

_CURSORS = "\n".join(
    f"          when {lane} then s.cursor_{lane}" for lane in range(_schema_sql.LANES)
)
_TABLES = "\n  union all\n".join(
    _ONE_TABLE.replace("{shard}", str(shard)) for shard in range(_schema_sql.SHARDS)
)
# As the views have it. Not by the views: they are made for one queue at a time.
_PLACED = """
  select
    m.*,
    m.id & {in_lane} as sequence,
    s.id as subscription,
    d.owner is not null
      or (
        d.message is null and m.due_at_ms is null
        and m.id <= coalesce(case m.id >> 41 & 15
{cursors}
        end, 0)
      ) as held
  from stored m
  join embq_state s on s.channel = m.id >> 45
  left join embq_delivery d on d.subscription = s.id and d.message = m.id
"""

#: What the searches read: all messages, and with their queue and whether they are held.
TABLES = "with stored as (\n{tables}\n),\nplaced as ({placed})".format(
    tables=_TABLES,
    placed=_PLACED.replace("{cursors}", _CURSORS).replace(
        "{in_lane}", str(_schema_sql.IN_LANE)
    ),
)


class Rule(NamedTuple):
    """One rule.

    Attributes:
        code: Of the problem, when it is broken.
        what: Says so, with the second and third column of a row.
        hint: What to do about it.
        search: Gives a row for each breach, from the tables and `TABLES`: where it is,
            and two values.
    """

    code: str
    what: str
    hint: str
    search: str


RULES = (
    Rule(
        "orphan_message",
        "message {} is of channel {}, which is not there",
        _RESTORE,
        """
select 'embq_channel', m.id, m.id >> 45
from stored m
where m.id >> 45 not in (select id from embq_channel)
""",
    ),
    Rule(
        "no_subscription",
        "channel {} has {} subscriptions",
        _RESTORE,
        """
select c.name, c.id, 0
from embq_channel c
where c.id not in (select channel from embq_state where channel is not null)
""",
    ),
    Rule(
        "orphan_delivery",
        "subscription {}: a delivery of message {}, which is not there",
        _RESTORE,
        """
select 'embq_delivery', d.subscription, d.message
from embq_delivery d
where d.message not in (select id from stored)
""",
    ),
    Rule(
        "orphan_due",
        "subscription {}: a delay of message {}, which is not there",
        _RESTORE,
        """
select 'embq_due', d.subscription, d.message
from embq_due d
where d.message not in (select id from stored)
""",
    ),
    Rule(
        "lost_delay",
        "message {} is due at {} ms, and nothing will hand it out",
        _RESTORE,
        """
select 'embq_due', m.id, m.due_at_ms
from stored m
where m.due_at_ms is not null
  and m.id not in (
    select message from embq_due
    union all
    select message from embq_delivery
  )
""",
    ),
    Rule(
        "wrong_expiry",
        "an end at {} ms of message {}, which does not perish then",
        _RESTORE,
        """
select 'embq_expiry', e.expires_at_ms, e.message
from embq_expiry e
left join stored m on m.id = e.message
where m.expires_at_ms is not e.expires_at_ms
""",
    ),
    Rule(
        "lost_expiry",
        "message {} perishes at {} ms, and nothing will see to it",
        _RESTORE,
        """
select 'embq_expiry', p.id, p.expires_at_ms
from placed p
where p.expires_at_ms is not null and not p.held
  and not exists (
    select 1
    from embq_expiry e
    where e.expires_at_ms = p.expires_at_ms and e.message = p.id
  )
""",
    ),
    Rule(
        "orphan_key",
        "subscription {}: a key is taken by message {}, which is not there",
        _RESTORE,
        """
select 'embq_key', k.subscription, k.message
from embq_key k
where k.message not in (select id from stored)
""",
    ),
    Rule(
        "stuck_key",
        "subscription {}: message {} waits for its key, which nobody has",
        _RESTORE,
        """
select 'embq_key', d.subscription, d.message
from embq_delivery d
where d.due_at_ms < 0 and d.owner is null and d.key_hash is not null
  and not exists (
    select 1
    from embq_key k
    where k.subscription = d.subscription and k.key_hash = d.key_hash
      and k.message < d.message
  )
""",
    ),
    Rule(
        "waiting_count",
        "it counts {} deliveries that wait, and has {}",
        _RECOUNT,
        """
select c.name, s.waiting, coalesce(found.number, 0)
from embq_state s
join embq_channel c on c.id = s.channel
left join (
  select subscription, count(*) as number
  from embq_delivery
  where owner is null
  group by subscription
) found on found.subscription = s.id
where s.waiting <> coalesce(found.number, 0)
""",
    ),
    Rule(
        "orphan_result",
        "a result under way of a process {}, of which there is no row",
        _FREE,
        """
select coalesce(cast(i.scope as text), 'embq_idempotency'), i.owner, 0
from embq_idempotency i
where i.owner is not null and i.owner not in (select slot from embq_owner)
""",
    ),
    Rule(
        "result_count",
        "it counts {} stored results, and has {}",
        _RECOUNT,
        """
select name, size, number
from (
  select s.name, s.size, count(i.key) as number
  from embq_scope s
  left join embq_idempotency i on i.scope = s.name and i.owner is null
  group by s.name
  union all
  select i.scope, 0, count(*)
  from embq_idempotency i
  where typeof(i.scope) = 'text' and i.owner is null
    and i.scope not in (select name from embq_scope)
  group by i.scope
)
where size <> number
""",
    ),
    Rule(
        "message_count",
        "it counts {} messages, and has {}",
        _RECOUNT,
        """
select name, counted, number
from (
  select
    c.name,
    s.sent + max(coalesce(found.newest, 0) - s.next_sequence + 1, 0) - s.removed
      as counted,
    coalesce(found.number, 0) as number
  from embq_state s
  join embq_channel c on c.id = s.channel
  left join (
    select subscription, count(*) as number, max(sequence) as newest
    from placed
    group by subscription
  ) found on found.subscription = s.id
)
where counted <> number
""",
    ),
    Rule(
        "in_flight_count",
        "it counts {} messages in flight, and has {}",
        _RECOUNT,
        """
select c.name, s.in_flight, coalesce(found.number, 0)
from embq_state s
join embq_channel c on c.id = s.channel
left join (
  select subscription, sum(held) as number
  from placed
  group by subscription
) found on found.subscription = s.id
where s.in_flight <> coalesce(found.number, 0)
""",
    ),
)
