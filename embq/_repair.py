"""`repair`: what can be mended without touching a message, in one transaction."""

from typing import NamedTuple

from msgspec import structs

from embq import _check
from embq._problem import Problem
from embq._reading import Reading
from embq._rules import RULES, TABLES

_DOING = "repair"
_OF_QUEUE = "where p.subscription = embq_state.id"
_ORPHAN = "where message not in (select id from stored)"
# By the lane of its priority, as csrc/channel.c has it.
_LANE = "case m.flags & 15 when 4 then 15 else (m.flags & 15) - (m.flags & 15 > 4) end"


class Mend(NamedTuple):
    """How the breaches of one rule are mended.

    Attributes:
        what: What is done, for people.
        statements: How: each is preceded by `TABLES`.
    """

    what: str
    statements: tuple[str, ...]


def _recount(column: str, value: str, group: str) -> str:
    """Make a statement that sets a counter of each queue to what there is."""
    return f"""
update embq_state
set {column} = coalesce((
  select {value}
  from {group}
), 0)
where channel is not null
"""


#: By the code of the problem, in the order of `RULES`: later ones count what earlier
#: ones leave.
MENDS = {
    "orphan_delivery": Mend(
        "remove such rows of embq_delivery", (f"delete from embq_delivery {_ORPHAN}",)
    ),
    "orphan_due": Mend(
        "remove such rows of embq_due", (f"delete from embq_due {_ORPHAN}",)
    ),
    "lost_delay": Mend(
        "let it be handed out when it is due",
        (
            f"""
insert or ignore into embq_due(subscription, lane, due_at_ms, message)
select s.id, {_LANE}, m.due_at_ms, m.id
from stored m
join embq_state s on s.channel = m.id >> 45
where m.due_at_ms is not null
  and m.id not in (
    select message from embq_due
    union all
    select message from embq_delivery
  )
""",
        ),
    ),
    "wrong_expiry": Mend(
        "remove such rows of embq_expiry",
        (
            """
delete from embq_expiry
where not exists (
  select 1
  from stored m
  where m.id = embq_expiry.message and m.expires_at_ms = embq_expiry.expires_at_ms
)
""",
        ),
    ),
    "lost_expiry": Mend(
        "let it perish then",
        (
            """
insert or ignore into embq_expiry(expires_at_ms, message)
select p.expires_at_ms, p.id
from placed p
where p.expires_at_ms is not null and not p.held
""",
            """
update embq_state
set lanes = lanes | (1 << 16)  -- LANES_EXPIRY of csrc/bounds.h
where channel in (
  select m.id >> 45
  from stored m
  where m.expires_at_ms is not null
)
""",
        ),
    ),
    "orphan_key": Mend("free such keys", (f"delete from embq_key {_ORPHAN}",)),
    "stuck_key": Mend(
        "hand out the first of that key that is not handed out",
        (
            """
insert or ignore into embq_key(subscription, key_hash, message)
select d.subscription, d.key_hash, min(d.message)
from embq_delivery d
where d.key_hash is not null
group by d.subscription, d.key_hash
""",
            """
update embq_delivery
set due_at_ms = 0
where due_at_ms < 0 and owner is null
  and (subscription, key_hash, message) in (
    select subscription, key_hash, message from embq_key
  )
""",
        ),
    ),
    "waiting_count": Mend(
        "count anew",
        (
            _recount(
                "waiting",
                "count(*)",
                "embq_delivery d where d.subscription = embq_state.id"
                " and d.owner is null",
            ),
        ),
    ),
    "orphan_result": Mend(
        "free such keys",
        (
            """
delete from embq_idempotency
where owner is not null and owner not in (select slot from embq_owner)
""",
        ),
    ),
    "result_count": Mend(
        "count anew",
        (
            """
insert into embq_scope(name, size, hits)
select distinct i.scope, 0, 0
from embq_idempotency i
where typeof(i.scope) = 'text' and i.owner is null
  and i.scope not in (select name from embq_scope)
""",
            """
update embq_scope
set size = (
  select count(*)
  from embq_idempotency i
  where i.scope = embq_scope.name and i.owner is null
)
""",
        ),
    ),
    "message_count": Mend(
        "count anew",
        (
            """
update embq_state
set removed = (
  select embq_state.sent - found.number
    + max(coalesce(found.newest, 0) - embq_state.next_sequence + 1, 0)
  from (
    select count(*) as number, max(p.sequence) as newest
    from placed p
    where p.subscription = embq_state.id
  ) found
)
where channel is not null
""",
        ),
    ),
    "in_flight_count": Mend(
        "count anew",
        (_recount("in_flight", "sum(p.held)", f"placed p {_OF_QUEUE}"),),
    ),
}
_DROP = "drop it"
_MAKE = "make it anew"


def mend_of(problem: Problem) -> str:
    """Say what `repair` would do about a problem; nothing: ""."""
    if problem.code in MENDS:
        return MENDS[problem.code].what
    if problem.code == "missing" and problem.what.startswith(("the index", "the view")):
        return _MAKE
    if problem.code == "foreign" and problem.what.startswith("a trigger"):
        return _DROP
    return ""


def told(found: list[Problem]) -> list[Problem]:
    """Add to problems what `repair` would do."""
    return [structs.replace(one, mend=mend_of(one)) for one in found]


def repair(path: bytes, timeout: float) -> list[Problem]:
    """Mend what can be; see `Broker.repair`."""
    found = _check.check(path, timeout)
    if not any(mend_of(problem) for problem in found):
        return []
    if any(problem.code == "damaged" for problem in found):
        return []  # what is written into it may be lost, or damage more
    with Reading(path, timeout, _DOING, writes=True) as file:
        mended = [one for one in _check.schema_differences(file) if mend_of(one)]
        ours = _check.ours()
        for problem in mended:
            _mend_object(file, problem, ours)
        if not _check.schema_differences(file):
            mended += _mend_rows(file)
    return told(mended)


def _mend_object(
    file: Reading, problem: Problem, ours: dict[tuple[str, str], str]
) -> None:
    if mend_of(problem) == _DROP:
        name = problem.where.replace('"', '""')
        file.execute(f'drop trigger "{name}"')
    else:
        made = [sql for (_, name), sql in ours.items() if name == problem.where]
        file.execute(made[0])


def _mend_rows(file: Reading) -> list[Problem]:
    """Mend the breaches of each rule in turn, as one may lead to another."""
    mended = []
    for rule in RULES:
        mend = MENDS.get(rule.code)
        if mend and (breaches := _check.breaches_of(file, rule)):
            for statement in mend.statements:
                file.execute(f"{TABLES}{statement}")
            mended += breaches
    return mended
