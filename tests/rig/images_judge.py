"""One image, opened by embq in a process of its own: is it what was promised?"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from images_asked import IN_LANE
from images_commits import Commits
from images_once import RESULTS
from images_outside import Outside, Row
from images_work import payload
from invariants import broken

import embq

MESSAGES = "select queue, row, id, state, data from embq_messages order by row"
COUNTED = ("messages", "bytes", "in_flight", "delayed", "blocked")
STATES = """
select queue, count(*), coalesce(sum(size), 0), sum(state = 'in_flight'),
  sum(state = 'delayed'), sum(state = 'blocked')
from embq_messages
group by queue
"""
OVER = """
select id, state <> 'in_flight'
from embq_messages
where expires_at_ms < (julianday('now') - 2440587.5) * 86400000
"""
SETTINGS = "select name, {} from embq_channel where kind = 1"
WHATS = ("visibility_timeout_ms", "paused_until_ms")
OLD_RECEIPTS, SENT_AGAIN = 3, 8


@dataclass
class Case:
    """What is to be judged."""

    path: Path
    outside: Outside
    commits: Commits
    killed: bool
    rng: Random

    def __post_init__(self) -> None:
        self.faults: list[str] = []
        self.broker: embq.Broker
        self.rows: list[Row] = []
        self.certain = 0

    def judge(self) -> list[str]:
        """Open it, look, use it, close it; return what is wrong."""
        try:
            self._judge()
        except Exception:  # noqa: BLE001  (whatever it is, it is wrong)
            self.faults.append(traceback.format_exc())
        return self.faults

    def _judge(self) -> None:
        with contextlib.ExitStack() as stack:
            looking = None
            if self.path.exists() and self.rng.random() < 0.5:
                looking = self._look(stack)
                self._compare_commits(looking)
            mode = self.rng.choice(["full", "normal"])
            self.broker = stack.enter_context(embq.open(self.path, durability=mode))
            looking = looking or self._look(stack)
            self._check_file(looking)
            self._compare_messages(looking)
            self._compare_counts(looking)
            if not self.killed:
                self._try_receipts()
            self._use(looking)
            self._compare_counts(looking)
        if self.rng.random() < 0.3:
            self._check_closed()

    def _look(self, stack: contextlib.ExitStack) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None)
        stack.callback(connection.close)
        return connection

    def _wrong(self, text: str) -> None:
        self.faults.append(text)

    # ---- what is there ----

    def _compare_commits(self, looking: sqlite3.Connection) -> None:
        """Is it one of the states that there were, no older than the last sync?"""
        commits = self.commits
        if commits.certain < 0:
            return  # not in WAL mode yet, as far as is certain
        number = commits.find(looking.serialize())
        first = commits.last if self.killed else commits.certain
        if number is None:
            self._wrong("its pages are those of no commit")
        elif not first <= number <= commits.last:
            text = f"it is as after commit {number}, not {first} to {commits.last}"
            self._wrong(text)

    def _check_file(self, looking: sqlite3.Connection) -> None:
        found = looking.execute("pragma integrity_check").fetchall()
        if found != [("ok",)]:
            self._wrong(f"integrity_check: {found}")

    def _compare_messages(self, looking: sqlite3.Connection) -> None:
        self._read(looking)
        inserts: set[int] = set()
        if looking.execute("select 1 from sqlite_schema where name = 'app'").fetchall():
            found = looking.execute("select n, text from app").fetchall()
            inserts = {n for n, _ in found}
            if any(text != "x" * abs(n) for n, text in found):
                self._wrong("the application's rows are damaged")
        settings = {
            (row[0], what): row[at]
            for row in looking.execute(SETTINGS.format(", ".join(WHATS)))
            for at, what in enumerate(WHATS, 1)
        }
        for scope, key, value in looking.execute(RESULTS):
            settings[scope, key] = value
        found = self.rows, inserts, settings
        self.faults += self.outside.faults(*found, killed=self.killed)
        self.certain = self.outside.certain(*found, killed=self.killed)

    def _read(self, looking: sqlite3.Connection) -> None:
        self.rows = [Row(*row) for row in looking.execute(MESSAGES)]

    def _compare_counts(self, looking: sqlite3.Connection) -> None:
        """Do the counters say what there is?"""
        counted = {row[0]: row[1:] for row in looking.execute(STATES)}
        for (name,) in looking.execute("select name from embq_channel").fetchall():
            stats = self.broker.queue(name).stats()
            told = tuple(stats[key] for key in COUNTED)
            if told != counted.get(name, (0,) * len(COUNTED)):
                self._wrong(f"{name}: counters {told}, counted {counted.get(name)}")
        self.faults += broken(looking)

    # ---- what can be done with it ----

    def _try_receipts(self) -> None:
        """A receipt from before the cut is good for nothing."""
        known = set(self.broker.queues())
        old = [one for one in self.outside.receipts if one[0] in known]
        for name, key, receipt in self.rng.sample(old, min(len(old), OLD_RECEIPTS)):
            queue = self.broker.queue(name)
            try:
                queue._settler.ack(bytes.fromhex(receipt))
            except (embq.LeaseLost, embq.InvalidReceipt):
                continue
            self._wrong(f"the receipt of {key} from before the cut was accepted")

    def _use(self, looking: sqlite3.Connection) -> None:
        self._send_again(looking)
        self._resume(looking)
        self._let_perish(looking)
        for name in dict.fromkeys([*self.outside.queues, *self.broker.queues()]):
            queue = self.broker.queue(name)
            self._drain(looking, queue)
            self._send_new(queue)

    def _send_again(self, looking: sqlite3.Connection) -> None:
        """What was sent under a dedup id is known by it if it was stored, else not."""
        there = {json.loads(row.data)["k"]: row.id for row in self.rows}
        known = sorted(self.outside.known)
        for key in self.rng.sample(known, min(len(known), SENT_AGAIN)):
            one = self.outside.messages[key]
            queue = self.broker.queue(one.queue)
            sent = queue.send(payload(key), dedup_id=key)
            stored = key in there or one.stays(self.certain)
            first = there.get(key, one.id)
            if stored and (not sent.duplicate or sent.id != first):
                self._wrong(f"{key} was stored as {first}, and sent again it is {sent}")
            if sent.duplicate and not stored and not one.may_be_gone:
                self._wrong(f"{key} was not stored, and sent again it is {sent}")
            if not sent.duplicate and sent.id in self.outside.ids:
                self._wrong(f"{key} got an id that was given out before: {sent}")
        self._read(looking)

    def _resume(self, looking: sqlite3.Connection) -> None:
        """What is paused hands out nothing, until it is not any more."""
        paused = "select name from embq_channel where kind = 1 and paused_until_ms > 0"
        for (name,) in looking.execute(paused).fetchall():
            queue = self.broker.queue(name)
            if (message := queue.receive()) is not None:
                self._wrong(f"{message} came from a queue that is paused")
            queue.resume()

    def _let_perish(self, looking: sqlite3.Connection) -> None:
        """What is too old becomes a dead letter by a claim, and nothing else does."""
        over = dict(looking.execute(OVER).fetchall())  # and whether nobody holds it
        if not any(over.values()):
            return
        if (message := self.broker.queue("sweep").receive()) is not None:
            self._wrong(f"{message} came from a queue that nobody sent to")
        before = {row.id: row.queue for row in self.rows}
        self._read(looking)
        after = {row.id: row.queue for row in self.rows}
        # What a dead process holds may be given back just now, and perish as well.
        late = {one for one, free in over.items() if free or after.get(one) != "q"}
        wanted = {one: of + ".dead" * (one in late) for one, of in before.items()}
        if after != wanted:
            self._wrong(f"{over} perish, {before} were there, {after} are there")

    def _drain(self, looking: sqlite3.Connection, queue: embq.Queue) -> None:
        """All that is there comes, once."""
        there = Counter(row.id for row in self.rows if row.queue == queue.name)
        came: Counter[str] = Counter()
        latest: dict[str | None, int] = {}
        while messages := queue.receive_many(self.rng.choice([1, 1000]), auto_ack=True):
            came.update(message.id for message in messages)
            for message in messages:
                sequence = int(message.id, 16) & IN_LANE
                if message.key and sequence < latest.get(message.key, 0):
                    self._wrong(f"{queue.name}: {message} came out of order")
                latest[message.key] = sequence
        held = "select id, state from embq_messages where queue = ?"
        rows = looking.execute(held, [queue.name]).fetchall()
        left = Counter(row[0] for row in rows)
        stuck = [row for row in rows if row[1] != "delayed"]
        if stuck and not self.killed:
            self._wrong(f"{queue.name}: {len(stuck)} do not come")
        if there != came + left:
            gone, more = there - came - left, came + left - there
            self._wrong(f"{queue.name}: {gone} did not come, {more} came over")

    def _send_new(self, queue: embq.Queue) -> None:
        """It works, and numbers that were seen are not given out again."""
        sent = [queue.send({"new": n}).id for n in range(3)]
        again = self.outside.ids & set(sent)
        if again:
            self._wrong(f"{queue.name}: ids given out again: {sorted(again)}")
        for identity in sent:
            message = queue.receive()
            if message is None or message.id != identity:
                self._wrong(f"{queue.name}: {message} came, not {identity}")
                return
            message.ack()

    def _check_closed(self) -> None:
        """After the close all is in one file again."""
        if self.path.with_name(f"{self.path.name}-wal").exists():
            self._wrong("the -wal is there after the close")
        with contextlib.closing(sqlite3.connect(self.path)) as looking:
            self._check_file(looking)
