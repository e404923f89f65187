"""The statements of the first migration, as text."""

from collections.abc import Iterator

#: Message tables. Appending is cheap only at the right edge of a B-tree, so a channel
#: appends to one of several; see ARCHITECTURE.md for the measurement.
SHARDS = 16
#: Lanes of a channel: one cursor each.
LANES = 16
#: In embq_state, ids of runs begin here.
RUNS = 1 << 21

#: The bits of a message's id below its channel, and below its lane, all set.
IN_CHANNEL = (1 << 45) - 1
IN_LANE = (1 << 41) - 1

_META = """
create table embq_meta(
  id integer primary key check (id = 1),
  schema_version integer not null,
  file_id integer not null,  -- random; the first half of every public id
  -- Under which boot, and as which inode, the file was last opened: when they differ,
  -- leases are void and sequences jump.
  boot_id text not null,
  device integer not null,
  inode integer not null,
  created_at_ms integer not null,
  -- Of all tables, indexes and views embq_*: taken by the first to open the file; 0
  -- before, and again after each migration.
  fingerprint integer not null default 0
) strict
"""

_META_ROW = """
insert into embq_meta
values (
  1, 1, random(), '', 0, 0,
  cast((julianday('now') - 2440587.5) * 86400000 as integer),
  0
)
"""

_OWNER = """
create table embq_owner(  -- processes that have the file open
  slot integer primary key,
  pid integer not null,  -- for people; who is alive is told by a lock
  opened_at_ms integer not null
) strict
"""

_CHANNEL = """
create table embq_channel(
  id integer primary key,
  -- 1: a queue; 0: one that was deleted, and of which rows are left; 2: free;
  -- 3: so are most of its numbers used up
  kind integer not null,
  name text unique,  -- of a queue
  generation integer not null default 0,  -- so many were there before it
  shard integer not null,  -- its messages are in embq_message_{shard}
  codec text not null,
  visibility_timeout_ms integer not null,
  max_receives integer not null,
  dead_letter text,
  retry_first_ms integer not null,
  retry_factor real not null,
  retry_cap_ms integer not null,
  retry_jitter integer not null,
  max_body integer not null,
  delay_ms integer not null,
  ttl_ms integer not null,  -- 0: none
  expiry_drops integer not null,  -- 1: what perished is dropped, not a dead letter
  ordered integer not null,  -- 1: by key; 2: the whole queue
  dedup_window_ms integer not null,  -- 0: no message is taken for a duplicate
  max_messages integer not null,  -- 0: any number
  max_bytes integer not null,  -- 0: any number
  overflow integer not null,  -- of what finds no room; 1: refused; see csrc/store.h
  paused_until_ms integer not null default 0,  -- nothing is handed out before
  created_at_ms integer not null
) strict
"""

_CHANNEL_GONE = """
create index embq_channel_gone
on embq_channel(kind)
where kind <> 1
"""

#: What claims and acks write besides messages stands in one B-tree, and so on one page
#: as a rule: a page of a commit costs as much as all the rest of it.
_STATE = """
create table embq_state(
  id integer primary key,  -- below {runs}: a subscription; else a run

  -- A subscription: the reading side of a queue.
  channel integer,
  name text,
  -- As of the last time that the newest message was removed: what was sent since counts
  -- on top, so that a send touches no row but its own. See csrc/channel.c.
  next_sequence integer,
  sent integer,
  sent_bytes integer,
  -- Bits of the lanes in use; above them, bit 16: some message perishes at a time.
  lanes integer,
  -- How far first deliveries have gone in each lane: the last id handed out.
  {cursors}
  -- The depth is what was sent less what was removed.
  removed integer,
  removed_bytes integer,
  in_flight integer,
  waiting integer,  -- deliveries that nobody holds
  delivered integer,
  redelivered integer,
  acked integer,
  nacked integer,
  rejected integer,
  expired integer,
  dead integer,
  dropped integer,
  duplicates integer,
  redriven integer,

  -- A run: a batch of first deliveries. Its id is (deadline_ms + 1) << 21 | random, so
  -- that runs are in the order of their deadlines.
  subscription integer,
  first integer,
  last integer,
  states blob,  -- two bits for each id from first to last: see csrc/run.c
  owner integer,
  token integer,
  claimed_at_ms integer
) strict
"""

_STATE_SUBSCRIPTION = """
create unique index embq_state_subscription
on embq_state(channel, name)
where channel is not null
"""

_DELIVERY = """
create table embq_delivery(  -- what is not a plain first delivery
  subscription integer not null,
  message integer not null,
  lane integer not null,
  -- 0: it is tried again; 1: a suspect, as its last lease ended by death or expiry;
  -- 2: never handed out, as another of its key was before it
  kind integer not null,
  due_at_ms integer not null,  -- below 0: the other is still there
  receive_count integer not null,
  token integer,  -- of the last lease; null: settled or given back
  owner integer,  -- null: it waits
  deadline_ms integer,
  first_at_ms integer,  -- of the first receive
  error text,
  key_hash integer,  -- in a queue that is ordered by key
  primary key (subscription, message)
) strict, without rowid
"""

_DELIVERY_WAITING = """
create index embq_delivery_waiting
on embq_delivery(subscription, lane, kind, due_at_ms, message)
where owner is null
"""

# One index for both questions, whose lease ends first and which are an owner's: each
# one more is one more page for every message that is claimed alone.
_DELIVERY_LEASED = """
create index embq_delivery_leased
on embq_delivery(deadline_ms, owner)
where owner is not null
"""

_DELIVERY_KEY = """
create index embq_delivery_key
on embq_delivery(subscription, key_hash, message)
where key_hash is not null
"""

_KEY = """
create table embq_key(  -- keys of which a message is in flight, or waits for its turn
  subscription integer not null,
  key_hash integer not null,
  message integer not null,  -- it: others of this key wait until it is gone
  primary key (subscription, key_hash)
) strict, without rowid
"""

_DUE = """
create table embq_due(  -- messages with a delay, until they are handed out
  subscription integer not null,
  lane integer not null,  -- of its priority
  due_at_ms integer not null,
  message integer not null,
  primary key (subscription, lane, due_at_ms, message)
) strict, without rowid
"""

_EXPIRY = """
create table embq_expiry(  -- messages that perish, but for those in flight then
  expires_at_ms integer not null,
  message integer not null,
  primary key (expires_at_ms, message)
) strict, without rowid
"""

_IDEMPOTENCY = """
create table embq_idempotency(  -- what was done, so that it is not done again
  scope any not null,  -- an integer: the queue whose sends these are; else a text
  key text not null,
  result any,  -- of a send: its row; else JSON, as text
  expires_at_ms integer not null,
  -- Of what is being done: by which process, and a proof that it is that one.
  owner integer,
  token integer,
  primary key (scope, key)
) strict, without rowid
"""

_IDEMPOTENCY_EXPIRY = """
create index embq_idempotency_expiry
on embq_idempotency(expires_at_ms)
"""

_IDEMPOTENCY_OWNER = """
create index embq_idempotency_owner
on embq_idempotency(owner)
where owner is not null
"""

_SCOPE = """
create table embq_scope(  -- of embq_idempotency, those that are a text
  name text not null primary key,
  size integer not null,  -- results that are stored
  hits integer not null  -- how often one was found
) strict, without rowid
"""

_REDRIVE = """
create table embq_redrive(  -- of each queue the latest: what moves its messages away
  channel integer primary key,  -- where they come from
  token integer not null,  -- which one it is
  target text,  -- null: each goes where it died last
  conditions text not null,  -- JSON: for each field the values that are wanted
  rate real,  -- messages a second; null: no limit
  owner integer not null,  -- the slot of the process that does it
  below integer not null,  -- the sequences that were there when it began
  position integer not null,  -- the last row that was looked at
  moved integer not null,
  skipped integer not null,
  started_at_ms integer not null,
  next_at_ms real not null,  -- when the next message may go
  ended_at_ms integer  -- null: it is under way
) strict
"""

_MESSAGE = """
create table embq_message_{shard}(
  id integer primary key,  -- channel << 45 | lane << 41 | sequence
  -- priority | 16 | CRC-32C of the body << 8; of one without a checksum the first alone
  flags integer not null,
  total_bytes integer not null,  -- sent to this queue so far, with this one
  sent_at_ms integer not null,
  type text,
  source text,
  key text,
  public_id text,  -- only once it has moved
  attributes text,  -- JSON: headers, version, correlation_id, reply_to, dedup_id
  history text,  -- JSON: why it is a dead letter
  due_at_ms integer,  -- of one that was sent with a delay
  expires_at_ms integer,
  body blob not null
) strict
"""

# Now, in ms, as SQLite sees it: to the millisecond, and one value for a whole
# statement.
_NOW = "cast(round((julianday('now') - 2440587.5) * 86400000) as integer)"

# The newest of each table by itself: of a union of all messages SQLite would read every
# one, for each queue.
_NEWEST = f"""\
          select max(id) as id
          from embq_message_{{shard}}
          where id between (c.id << 45) + (lane.n << 41) + s.next_sequence
            and (c.id << 45) + (lane.n << 41) + {IN_LANE}"""

_QUEUES_VIEW = f"""
create view embq_queues as
with recursive lane(n) as (
  select 0
  union all
  select n + 1 from lane where n < {LANES - 1}
),
late as (
  select subscription, sum(blocked) as blocked, sum(not blocked) as delayed
  from (
    select subscription, due_at_ms < 0 as blocked
    from embq_delivery
    where owner is null and (due_at_ms > {_NOW} or due_at_ms < 0)
    union all
    select subscription, 0
    from embq_due
    where due_at_ms > {_NOW}
  )
  group by subscription
),
channel as (
  select
    c.id,
    c.name,
    s.sent + coalesce((
      select max((
        select (max(m.id) & {IN_LANE}) - s.next_sequence + 1
        from (
{{union}}
        ) m
      ))
      from lane
      where s.lanes >> lane.n & 1
    ), 0) as sent
  from embq_channel c
  join embq_state s on s.channel = c.id
  where c.kind = 1
)
select
  c.name,
  c.sent - s.removed as messages,
  c.sent - s.removed - s.in_flight - coalesce(late.delayed + late.blocked, 0)
    as ready,
  coalesce(late.delayed, 0) as delayed,
  coalesce(late.blocked, 0) as blocked,
  s.in_flight,
  c.sent,
  s.delivered,
  s.redelivered,
  s.acked,
  s.nacked,
  s.rejected,
  s.expired,
  s.dead,
  s.dropped,
  s.duplicates,
  s.redriven
from channel c
join embq_state s on s.channel = c.id
left join late on late.subscription = s.id
"""

_MESSAGES_VIEW = f"""
create view embq_messages as
with stored as (
{{union}}
),
placed as (
  select
    m.*,
    s.id as subscription,
    c.name as queue,
    c.codec,
    case m.id >> 41 & 15
{{cursor_cases}}
    end as cursor
  from stored m
  -- A range, not `c.id = m.id >> 45`: so that one queue is one search, not a scan.
  join embq_channel c on m.id between c.id << 45 and c.id << 45 | {IN_CHANNEL}
  join embq_state s on s.channel = c.id
  where c.kind = 1
),
judged as (
  select
    p.*,
    coalesce(max(d.due_at_ms, 0), p.due_at_ms) as ready_at_ms,
    d.kind = 1 as suspect,
    d.error,
    d.receive_count,
    case
      when d.owner is not null then 'in_flight'
      when d.due_at_ms < 0 then 'blocked'
      when d.due_at_ms > {_NOW} then 'delayed'
      when d.due_at_ms is not null then 'ready'
      when p.due_at_ms > {_NOW} then 'delayed'
      when p.due_at_ms is not null then 'ready'
      when p.id > coalesce(p.cursor, 0) then 'ready'
      else 'in_flight'  -- held by a run
    end as state
  from placed p
  left join embq_delivery d on d.subscription = p.subscription and d.message = p.id
)
select
  queue,
  id as row,
  coalesce(
    public_id,
    (select printf('%016x%016x', file_id, judged.id) from embq_meta)
  ) as id,
  state,
  flags & 15 as priority,
  ready_at_ms as due_at_ms,
  expires_at_ms,
  coalesce(receive_count, state = 'in_flight') as receive_count,
  coalesce(suspect, 0) as suspect,
  sent_at_ms,
  type,
  source,
  key,
  error,
  length(body) as size,
  case codec when 'json' then cast(body as text) end as data
from judged
"""


def statements() -> Iterator[str]:
    """Give the statements of the first version, in order."""
    yield from (_META, _META_ROW, _OWNER, _CHANNEL, _CHANNEL_GONE)
    cursors = [f"cursor_{lane} integer," for lane in range(LANES)]
    yield _STATE.replace("{cursors}", "\n  ".join(cursors)).replace("{runs}", str(RUNS))
    yield from (
        _STATE_SUBSCRIPTION,
        _DELIVERY,
        _DELIVERY_WAITING,
        _DELIVERY_LEASED,
        _DELIVERY_KEY,
        _KEY,
        _DUE,
        _EXPIRY,
        _IDEMPOTENCY,
        _IDEMPOTENCY_EXPIRY,
        _IDEMPOTENCY_OWNER,
        _SCOPE,
        _REDRIVE,
    )
    for shard in range(SHARDS):
        yield _MESSAGE.replace("{shard}", str(shard))
    newest = [_NEWEST.replace("{shard}", str(shard)) for shard in range(SHARDS)]
    yield _QUEUES_VIEW.replace("{union}", "\n          union all\n".join(newest))
    union = [f"  select * from embq_message_{shard}" for shard in range(SHARDS)]
    cases = [f"      when {lane} then s.cursor_{lane}" for lane in range(LANES)]
    yield _MESSAGES_VIEW.replace("{union}", "\n  union all\n".join(union)).replace(
        "{cursor_cases}", "\n".join(cases)
    )
