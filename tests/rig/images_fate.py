"""What becomes of the changes to one file that no sync has made certain.

A write reaches the disk by sectors of 512 bytes, each whole or not at all. A sector
that did shows the file as it was at some moment, as it is written from a page of the
cache: with all writes to it up to there.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from images_record import SECTOR, Change, part, put, sectors

#: What of the changes is lost, by `choose`.
PLANS = ("nothing", "all", "few", "few", "half", "tail", "tail", "head")
TOLD = 6  # changes
#: True reached the disk, False did not, a set of sectors reached it in part.
Fate = bool | frozenset[int]


def _torn(rng: Random, change: Change) -> Fate:
    if change.data is None:
        return rng.random() < 0.5
    share = rng.random()
    return frozenset(sector for sector in sectors(change) if rng.random() < share)


def _near_the_end(rng: Random, count: int) -> int:
    """Choose a place in a list, half of the time among the last."""
    if rng.random() < 0.5:
        return rng.randrange(count)
    return max(0, count - 1 - int(rng.expovariate(1 / 6)))


def choose(rng: Random, pending: Sequence[Change]) -> tuple[str, list[Fate]]:
    """Choose the fate of each change, by one of the plans."""
    count = len(pending)
    plan = rng.choice(PLANS) if count else "nothing"
    if plan == "nothing":
        return plan, [True] * count
    if plan == "all":
        return plan, [False] * count
    if plan == "half":
        return plan, [
            _torn(rng, change) if rng.random() < 0.1 else rng.random() < 0.5
            for change in pending
        ]
    at = _near_the_end(rng, count)
    if plan == "few":
        fates: list[Fate] = [True] * count
        for _ in range(rng.randint(1, 3)):
            fates[at] = rng.choice([False, _torn(rng, pending[at])])
            at = _near_the_end(rng, count)
        return plan, fates
    before, after = (True, False) if plan == "tail" else (False, True)
    middle = _torn(rng, pending[at])
    return plan, [before] * at + [middle] + [after] * (count - at - 1)


def build(
    stable: bytearray, pending: Sequence[Change], fates: Sequence[Fate]
) -> tuple[bytearray, set[int]]:
    """Make the changes that reached the disk.

    Returns:
        The content, and the sectors beyond its old end that were written and never
        reached the disk.
    """
    content = bytearray(stable)
    behind: dict[int, list[Change]] = {}  # by sector: writes that it lacks
    fresh: set[int] = set()
    for change, fate in zip(pending, fates, strict=True):
        if change.data is None:
            if fate:
                put(content, change)
                kept = range(len(content) // SECTOR + 1)
                behind = {at: late for at, late in behind.items() if at in kept}
            continue
        if fate is True and not behind:
            put(content, change)
            continue
        for sector in sectors(change):
            if fate is True or (fate and sector in fate):
                for lacking in (*behind.pop(sector, ()), change):
                    put(content, part(lacking, sector))
                fresh.discard(sector)
            else:
                behind.setdefault(sector, []).append(change)
                if sector * SECTOR >= len(content):
                    fresh.add(sector)
    return content, fresh


def litter(
    rng: Random, content: bytearray, fresh: set[int], size: int, garbage: bytes | None
) -> None:
    """Let the file have grown without its data, up to this size at the most.

    Args:
        rng: Says by how much.
        content: Of the file.
        fresh: Sectors that were given to it and not written.
        size: Of the file at the cut.
        garbage: What stands there, at its places; None: zeros.
    """
    if size > len(content):
        grown = rng.choice([len(content), size, rng.randint(len(content), size)])
        content.extend(bytes(grown - len(content)))
    for sector in fresh if garbage else ():
        first, last = sector * SECTOR, min((sector + 1) * SECTOR, len(content))
        if first < last:
            content[first:last] = garbage[first:last]


def tell(plan: str, pending: Sequence[Change], fates: Sequence[Fate]) -> str:
    """Say what is lost."""
    lost = [i for i, fate in enumerate(fates) if fate is not True]
    shown = " ".join(_tell_one(pending[i], fates[i]) for i in lost[:TOLD])
    more = " ..." if len(lost) > TOLD else ""
    return f"{plan} lost, {len(lost)} of {len(fates)} unsynced changes {shown}{more}"


def _tell_one(change: Change, fate: Fate) -> str:
    if change.data is None:
        return f"length {change.offset}"
    text = f"[{change.offset}:{change.offset + len(change.data)}]"
    return f"{text} but sectors {sorted(fate)}" if isinstance(fate, frozenset) else text
