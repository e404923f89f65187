"""The rules by which a history is judged: pure functions from a history to problems.

    total queue  what was confirmed came; what came was sent; what was acked did not
                 come again
    leases       a message is held by one; a receipt is good for one delivery
    counts       each hand-out is counted once; dead letters have a reason
    order        what comes, comes in the order of sending: history_order.py
    counters     what the queue says of itself is what was seen

After Jepsen's total-queue checker. A run ends with a drain, so that nothing is still on
its way; what came after an unknown outcome is *recovered*, not unexpected.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from rig.history import FAIL, OK, UNKNOWN, Handout, History, Settlement
from rig.history_order import by_key, order

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOWN = 12  # problems of one kind that a report lists


@dataclass(frozen=True)
class Rules:
    """What a queue was declared with, and how it is used in a run."""

    lease_ms: int
    max_receives: int
    dead_letter: str | None = None
    at_most_once: int = 0  # the largest block of an auto_ack consumer; 0: at least once
    by_key: bool = False  # it is ordered so


@dataclass
class Verdict:
    """What a run did, and what was wrong with it."""

    numbers: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = Counter(problem.partition(":")[0] for problem in self.problems)
        lines = [f"{name} {count}" for name, count in sorted(self.numbers.items())]
        for kind, count in kinds.items():
            found = [p for p in self.problems if p.partition(":")[0] == kind]
            lines += [f"PROBLEM x{count}", *(f"  {p}" for p in found[:SHOWN])]
        return "\n".join(lines)


def judge(history: History, rules: dict[str, Rules]) -> Verdict:
    """Judge a run by all rules; `rules` has every queue but the dead-letter ones."""
    verdict = Verdict(problems=list(history.problems))
    whole = {r.dead_letter: Rules(r.lease_ms, 1 << 30) for r in rules.values()}
    whole.pop(None, None)
    known: dict[str, Rules] = {**whole, **rules}  # type: ignore[dict-item]
    for check in (total_queue, leases, counts, order, by_key, counters):
        verdict.problems += check(history, known, verdict.numbers)
    return verdict


def _by_message(
    history: History, queue: str | None = None
) -> Iterator[tuple[str, list[Handout]]]:
    for (of, name), handouts in history.handouts.items():
        if handouts and queue in (None, of):
            yield name, handouts


def _buried(history: History, rules: dict[str, Rules], queue: str) -> dict[str, int]:
    """Say with which receive count messages of this queue became dead letters."""
    dead = rules[queue].dead_letter
    found = _by_message(history, dead) if dead else ()
    return {
        name: handouts[0].history[-1]["receive_count"]
        for name, handouts in found
        if handouts[0].history and handouts[0].history[-1]["queue"] == queue
    }


# ---- total queue ----


def total_queue(
    history: History, rules: dict[str, Rules], numbers: Counter[str]
) -> Iterator[str]:
    """Judge lost, unexpected, duplicated; count recovered and redelivered."""
    homes = {dead: q for q, rule in rules.items() if (dead := rule.dead_letter)}
    came = {(homes.get(queue, queue), name) for queue, name in history.handouts}
    numbers["sent"] += len(history.sendings)
    yield from _lost(history, rules, came, numbers)
    yield from _unexpected(history, came, numbers)
    for (queue, name), handouts in history.handouts.items():
        numbers["handed out"] += len(handouts)
        numbers["redelivered"] += len(handouts) - 1
        for first, again in pairwise(handouts):
            if first.count == again.count:
                yield f"duplicated: {queue} {name}: twice as delivery {first.count}"
            if first.done("ack") or first.auto_ack:
                yield f"duplicated: {queue} {name}: came again after its ack"
            if first.done("reject"):
                yield f"duplicated: {queue} {name}: came again after its reject"


def _lost(
    history: History,
    rules: dict[str, Rules],
    came: set[tuple[str, str]],
    numbers: Counter[str],
) -> Iterator[str]:
    confirmed = {key for key, s in history.sendings.items() if s.outcome == OK}
    numbers["confirmed"] += len(confirmed)
    for queue, rule in rules.items():
        missing = {name for of, name in confirmed - came if of == queue}
        breaks = history.deaths[queue] + len(history.loops_left[queue])
        allowed = rule.at_most_once * breaks
        numbers["lost at most once"] += len(missing) if rule.at_most_once else 0
        if len(missing) > allowed:
            yield f"lost: {queue}: {len(missing)}, not {allowed}: {sorted(missing)[:9]}"


def _unexpected(
    history: History, came: set[tuple[str, str]], numbers: Counter[str]
) -> Iterator[str]:
    for key in sorted(came):
        sending = history.sendings.get(key)
        if sending is None or sending.outcome == FAIL:
            why = "refused, yet it came" if sending else "nobody sent it"
            yield f"unexpected: {key}: {why}"
            continue
        numbers["recovered"] += sending.outcome == UNKNOWN
        ids = {h.id for h in history.handouts.get(key, ())} | {sending.id or ""}
        if len(ids - {""}) > 1:
            yield f"stored twice: {key}: under the ids {sorted(ids)}"


# ---- leases ----


def leases(
    history: History, rules: dict[str, Rules], numbers: Counter[str]
) -> Iterator[str]:
    """Judge that one consumer at a time holds a message, and no receipt outlives it."""
    for queue, rule in rules.items():
        buried = _buried(history, rules, queue)
        for name, handouts in _by_message(history, queue):
            last = max(handouts[-1].count, buried.get(name, 0))
            for one, other in pairwise(handouts):
                yield from _overlap(one, other, rule, history.left)
            for handout in handouts:
                yield from _late(handout, handouts)
                lost = [s for s in handout.settlements if s.error == "LeaseLost"]
                numbers["LeaseLost"] += len(lost)
                if lost and last == handout.count and name not in buried:
                    yield from _needless(handout, lost)
    yield from _suspects(history, rules)


def _overlap(
    one: Handout, other: Handout, rule: Rules, left: dict[str, int]
) -> Iterator[str]:
    """Handed out again while somebody held it?"""
    end_ms = one.end_ms(rule.lease_ms)
    over = (
        other.boot_ms >= end_ms
        or left.get(one.process, other.at_us + 1) <= other.at_us
        or any(s.invoked_us <= other.at_us for s in one.tried("nack"))
    )
    if not over:
        ahead = end_ms - other.boot_ms
        yield (
            f"held by two: {one.queue} {one.name}: delivery {other.count} came "
            f"{ahead} ms before the lease of {one.process} could end"
        )


def _late(handout: Handout, handouts: list[Handout]) -> Iterator[str]:
    """Was a receipt good after another consumer had the message?"""
    for settlement in handout.done("ack", "nack", "reject", "extend"):
        before = [
            other
            for other in handouts
            if other.count > handout.count and other.at_us < settlement.invoked_us
        ]
        if before:
            yield (
                f"another's: {handout.queue} {handout.name}: {settlement.verb} by "
                f"delivery {handout.count} after delivery {before[0].count} was out"
            )


def _needless(handout: Handout, lost: list[Settlement]) -> Iterator[str]:
    """`LeaseLost`, though nobody else had the message and it was not settled?"""
    for settlement in lost:
        earlier = [
            s
            for s in handout.tried("ack", "nack", "reject")
            if s.invoked_us < settlement.invoked_us
        ]
        if not earlier and not handout.auto_ack:
            yield (
                f"LeaseLost for nothing: {handout.queue} {handout.name}: "
                f"{settlement.verb} by delivery {handout.count}"
            )


def _suspects(history: History, rules: dict[str, Rules]) -> Iterator[str]:
    """Judge that a process holds one suspect at a time, as far as is certain."""
    held: dict[str, list[Handout]] = defaultdict(list)
    for handouts in history.handouts.values():
        for one, other in pairwise(handouts):
            ended = other.count == one.count + 1 and not one.tried("nack", "extend")
            if ended and not other.auto_ack:
                held[other.process].append(other)
    for process, suspects in held.items():
        suspects.sort(key=lambda suspect: suspect.at_us)
        for one, other in pairwise(suspects):
            end_ms = one.since_boot_ms + rules[one.queue].lease_ms
            verbs = one.tried("ack", "nack", "reject", "extend")
            released = min((s.invoked_us for s in verbs), default=other.at_us + 1)
            certain = one.at_us <= other.since_us and other.boot_ms < end_ms
            if certain and other.at_us < released:
                yield (
                    f"two suspects: {process} held {one.name} when it was given "
                    f"{other.name}"
                )


# ---- counts ----


def counts(
    history: History, rules: dict[str, Rules], numbers: Counter[str]
) -> Iterator[str]:
    """Judge that hand-outs are counted once, and dead letters have a reason."""
    breaks = len(history.leavings) + len(history.stalls)
    for queue, rule in rules.items():
        buried = _buried(history, rules, queue)
        for name, handouts in _by_message(history, queue):
            last = max(handouts[-1].count, buried.get(name, 0))
            unseen = last - len({handout.count for handout in handouts})
            numbers["counted unseen"] += unseen
            if unseen > breaks:
                yield (
                    f"counted too often: {queue} {name}: {last} times, seen "
                    f"{len(handouts)} times, and only {breaks} deaths and stops"
                )
            if last > rule.max_receives:
                yield f"counted beyond max_receives: {queue} {name}: {last} times"
        if rule.dead_letter:
            yield from _reasons(history, queue, rule, numbers)


def _reasons(
    history: History, queue: str, rule: Rules, numbers: Counter[str]
) -> Iterator[str]:
    for name, dead in _by_message(history, rule.dead_letter):
        told = dead[0].history[-1] if dead[0].history else {}
        reason, count = told.get("reason"), told.get("receive_count")
        of = history.handouts.get((queue, name), [])
        rejected = any(h.tried("reject") for h in of if h.count == count)
        if reason == "rejected" and not rejected:
            yield f"dead letter: {name}: rejected by nobody at delivery {count}"
        if reason == "max_receives" and count != rule.max_receives:
            yield f"dead letter: {name}: max_receives after {count} deliveries"
        if reason == "ttl":
            numbers["perished"] += 1
            if "ttl" not in history.sendings[queue, name].marks:
                yield f"dead letter: {name}: it had no ttl that could be over"
        if (
            reason not in ("rejected", "max_receives", "ttl", "overflow")
            or told.get("queue") != queue
        ):
            yield f"dead letter: {name}: its history says {told}"
        if any(h.done("ack") for h in of):
            yield f"dead letter: {name}: was acked, too"


# ---- counters ----


def counters(
    history: History, rules: dict[str, Rules], numbers: Counter[str]
) -> Iterator[str]:
    """Judge that the counters of each queue, after the drain, are what was seen."""
    for queue, rule in rules.items():
        if queue not in history.stats:
            continue
        before, *_, after = [{}, *history.stats[queue]][-2:]
        numeric = after.keys() - {"queue"}
        grown = {key: after[key] - before.get(key, 0) for key in numeric}
        yield from _counters(history, rules, queue, rule, grown, after)
        numbers["expired"] += grown["expired"]


def _counters(
    history: History,
    rules: dict[str, Rules],
    queue: str,
    rule: Rules,
    grown: dict[str, int],
    after: dict[str, int],
) -> Iterator[str]:
    buried = _buried(history, rules, queue)
    found = dict(_by_message(history, queue))
    names = set(found) | set(buried)
    ends = {n: found[n][-1].count if n in found else 0 for n in names}
    ends = {name: max(count, buried.get(name, 0)) for name, count in ends.items()}
    tried: Counter[str] = Counter()
    done: Counter[str] = Counter()
    for handouts in found.values():
        for handout in handouts:
            for verb in ("nack", "reject"):
                tried[verb] += bool(handout.tried(verb))
                done[verb] += bool(handout.done(verb))
    silent = 0  # sent to those who take at most once, and not seen since
    if rule.at_most_once:
        sent = [s for (of, _), s in history.sendings.items() if of == queue]
        silent = sum(s.outcome != FAIL and s.name not in names for s in sent)
    delivered = sum(ends.values())
    again = sum(max(0, count - 1) for count in ends.values())  # some only perished
    acked = len(names) - len(buried)
    settled = grown["acked"] + grown["nacked"] + grown["rejected"]
    for what, least, most in (
        ("messages", 0, 0),
        ("sent", len(names), len(names) + silent),
        ("delivered", delivered, delivered + silent),
        ("redelivered", again, again),
        ("acked", acked, acked + silent),
        ("dead", len(buried), len(buried)),
        ("dropped", 0, 0),
        ("nacked", done["nack"], tried["nack"]),
        ("rejected", done["reject"], tried["reject"]),
        ("expired", grown["delivered"] - settled, grown["delivered"]),
    ):
        value = after[what] if what == "messages" else grown[what]
        if not least <= value <= most:
            span = str(least) if least == most else f"{least} to {most}"
            yield f"counters: {queue}: {what} is {value}, seen was {span}"
