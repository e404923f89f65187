"""The rules by which the order of a history is judged; the others: history_judge.py.

Two consumers may tell of their messages in another order than they got them, so only
this counts: a later message was in hand before an earlier one was even asked for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rig.history import Handout, History
    from rig.history_judge import Rules


def order(
    history: History, rules: dict[str, Rules], numbers: Counter[str]
) -> Iterator[str]:
    """Judge that first deliveries of one producer come in the order of its sends.

    In each priority; what has a delay comes when it is due. What was claimed ahead and
    given back waits among the retries, of which at most seven in a row go before a new
    message: in a queue with such loops there is an excuse.
    """
    firsts: dict[tuple[str, str, int], list[tuple[int, int, Handout]]] = defaultdict(
        list
    )
    for key, handouts in history.handouts.items():
        sending = history.sendings.get(key)
        if not sending or handouts[0].count != 1 or "delay" in sending.marks:
            continue
        if key[0] in rules and not rules[key[0]].by_key:
            producer, number = sending.place
            priority = sending.marks.get("priority", 4)
            first = (number, sending.invoked_us, handouts[0])
            firsts[key[0], producer, priority].append(first)
    for (queue, _, _), found in firsts.items():
        given_back = history.loops_left[queue]
        found.sort(key=lambda first: first[0], reverse=True)
        later: Handout | None = None  # of those sent later, the first to be in hand
        for _number, sent_us, handout in found:
            numbers["first deliveries in order"] += 1
            if later and later.at_us < handout.since_us:
                excuse = any(sent_us <= at_us <= handout.at_us for at_us in given_back)
                if not excuse:
                    yield f"order: {queue}: {later.name} before {handout.name}"
            if later is None or handout.at_us < later.at_us:
                later = handout


# ---- by key ----


def by_key(
    history: History, rules: dict[str, Rules], numbers: Counter[str]
) -> Iterator[str]:
    """Judge that of each key one message at a time is out, and all in order.

    Retries too: while an earlier one may come again no later one is handed out. A key
    has one producer, so that the order of its sends is known.
    """
    found: dict[tuple[str, str], list[tuple[int, list[Handout]]]] = defaultdict(list)
    for (queue, name), handouts in history.handouts.items():
        sending = history.sendings.get((queue, name))
        if sending and queue in rules and rules[queue].by_key:
            number = sending.place[1]
            found[queue, sending.marks["key"]].append((number, handouts))
    for (queue, _), messages in found.items():
        numbers["deliveries by key"] += sum(len(handouts) for _, handouts in messages)
        yield from _overtaken(queue, messages)
        yield from _beside(queue, messages, rules[queue].lease_ms, history.left)


def _overtaken(queue: str, messages: list[tuple[int, list[Handout]]]) -> Iterator[str]:
    """Was one handed out, once or again, after a later one of its key?"""
    later: Handout | None = None  # of those sent later, the first to be in hand
    for _, handouts in sorted(messages, key=lambda one: one[0], reverse=True):
        for handout in handouts:
            if later and later.at_us < handout.since_us:
                yield f"order of a key: {queue}: {later.name} before {handout.name}"
        first = min(handouts, key=lambda handout: handout.at_us)
        if later is None or first.at_us < later.at_us:
            later = first


def _beside(
    queue: str,
    messages: list[tuple[int, list[Handout]]],
    lease_ms: int,
    left: dict[str, int],
) -> Iterator[str]:
    """Was one asked for and handed out while another of its key was held?"""
    every = [handout for _, handouts in messages for handout in handouts]
    every.sort(key=lambda handout: handout.at_us)
    for one, other in pairwise(every):
        settled = any(s.invoked_us <= other.at_us for s in one.tried("ack", "reject"))
        free = (
            one.name == other.name
            or other.since_us < one.at_us
            or settled
            or left.get(one.process, other.at_us + 1) <= other.at_us
            or other.boot_ms >= one.end_ms(lease_ms)
        )
        if not free:
            yield f"two of a key: {queue}: {other.name} beside {one.name}"
