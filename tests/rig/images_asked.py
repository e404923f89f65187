"""What was asked for of whole queues, and of single messages from outside.

Words of the record, each said before or after the call that it is about:

    cancel MODE KEY              begins; cancelled KEY DONE: it has returned
    purge MODE QUEUE             begins; purged QUEUE: it has returned
    set MODE QUEUE WHAT VALUE    begins; was set QUEUE WHAT: it has returned

A setting is a register that one thread writes: a pause or an option of a queue. After a
cut it has the last value that is certain, or one that was set later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from images_outside import Sending

NEVER = 1 << 60
IN_LANE = (1 << 41) - 1  # the sequence in a row's number: it counts over all lanes
LANE = 41  # and the bit where its lane begins
IN_CHANNEL = (1 << 45) - 1

#: By queue and column of embq_channel.
Settings = Mapping[tuple[str, str], int | None]


@dataclass
class Call:
    """A call at a durability, and where in the record it began and returned."""

    mode: str
    begun: int
    confirmed: int = field(default=NEVER, kw_only=True)

    def stays(self, certain: int) -> bool:
        """Tell whether it is done after a cut that leaves all before this moment."""
        return self.confirmed < (NEVER if self.mode == "full" else certain)


@dataclass
class Setting(Call):
    """A value that a setting was given."""

    value: int | None


class Asked:
    """All that was asked for up to here."""

    def __init__(self) -> None:
        self.purging: dict[str, Call] = {}  # by queue
        self._purged: set[str] = set()
        self._cancelling: dict[str, Call] = {}
        self._settings: dict[tuple[str, str], list[Setting]] = defaultdict(list)

    def hear(
        self, at: int, words: list[Any], messages: dict[str, Sending]
    ) -> Call | None:
        """Listen to words at this place of the record; give the call that returned."""
        match words:
            case ["cancel", mode, key]:
                self._cancelling[key] = Call(mode, at)
                messages[key].verbs.add("cancel")
            case ["cancelled", key, done]:
                call = self._cancelling.pop(key)
                if done:
                    messages[key].removals.append(call)
                    return call
            case ["purge", mode, queue]:
                self._purge(Call(mode, at), queue, messages)
            case ["purged", queue]:
                return self.purging.pop(queue)
            case ["set", mode, queue, what, value]:
                self._settings[queue, what].append(Setting(mode, at, value))
            case ["was set", queue, what]:
                return self._settings[queue, what][-1]
        return None

    def _purge(self, call: Call, queue: str, messages: dict[str, Sending]) -> None:
        """What is confirmed by now goes, and what is sent meanwhile may go."""
        self.purging[queue] = call
        self._purged.add(queue)
        for one in messages.values():
            if one.queue == queue:
                one.verbs.add("purge")
                if one.confirmed < NEVER:
                    one.removals.append(call)

    # ---- what may be expected ----

    def seen(self, settings: Settings) -> Iterator[int]:
        """Tell since when, at the latest, the values were asked for that are there."""
        for place, given in self._settings.items():
            value = settings.get(place)
            asked = [one.begun for one in given if one.value == value]
            # A result that is not there may not be there yet.
            yield min(asked, default=0) if value is not None else 0

    def faults(self, settings: Settings, certain: int) -> Iterator[str]:
        """Compare with the values that were found."""
        for place, given in self._settings.items():
            sure = [n for n, one in enumerate(given) if one.stays(certain)]
            may_be = {one.value for one in given[sure[-1] :]} if sure else None
            if may_be and settings.get(place) not in may_be:
                yield f"{place} is {settings.get(place)}, and may be {sorted(may_be)}"

    def holes(
        self, messages: dict[str, Sending], there: set[str], certain: int
    ) -> Iterator[str]:
        """What a purge has left of a lane is its end."""
        first: dict[tuple[str, int], int] = {}
        gone: dict[tuple[str, int], int] = defaultdict(int)
        for key, one in messages.items():
            if one.queue not in self._purged or one.id is None:
                continue
            lane, sequence = divmod(int(one.id, 16) & IN_CHANNEL, 1 << LANE)
            place = one.queue, lane
            if key in there:
                first[place] = min(first.get(place, NEVER), sequence)
            elif one.verbs == {"purge"} and one.stays(certain):
                gone[place] = max(gone[place], sequence)
        for place, sequence in first.items():
            if gone[place] > sequence:
                yield f"{place}: {gone[place]} is gone, and {sequence} is there"
