"""The checkers of histories, on small histories written by hand."""

from typing import Any

import pytest
from rig.history import FAIL, INFO, INVOKE, OK, UNKNOWN, Event, History, parse
from rig.history_judge import Rules, Verdict, judge

LEASE_MS = 1000
COUNTERS = (
    "messages", "sent", "delivered", "redelivered", "acked", "nacked", "rejected",
    "expired", "dead", "dropped",
)  # fmt: skip


class Story:
    """A history, told step by step; each step is a millisecond on both clocks."""

    def __init__(self, **rules: Any) -> None:
        options = {"lease_ms": LEASE_MS, "max_receives": 3, "dead_letter": "q.dead"}
        self.rules = {"q": Rules(**{**options, **rules})}
        self.events: list[Event] = []
        self.now = self.calls = 0

    def add(self, process: str, phase: str, op: str, call: int, **fields: Any) -> int:
        """Write one event, of the first session of this worker."""
        self.now += 1
        if op == "dies":
            fields = {"worker": process}
        process = f"{process}.1"
        event = Event(process, self.now * 1000, self.now, phase, op, call, fields)
        self.events.append(event)
        return call

    def invoke(self, process: str, op: str, **fields: Any) -> int:
        """Begin a call."""
        self.calls += 1
        return self.add(process, INVOKE, op, self.calls, **fields)

    def send(
        self, number: int, outcome: str | None = OK, producer: str = "p", **marks: Any
    ) -> str:
        """Send one, with this outcome; None: the call never ended."""
        name = f"{producer}/{number}"
        told = {"queue": "q", "names": [name], "marks": [marks]}
        call = self.invoke(producer, "send", **told)
        fields = {"ids": [f"id {name}"]} if outcome == OK else {}
        if outcome:
            self.add(producer, outcome, "send", call, **fields)
        return name

    def ask(self, process: str, queue: str = "q", **fields: Any) -> int:
        """Begin to receive."""
        return self.invoke(process, "receive", queue=queue, **fields)

    def get(self, call: int, process: str, name: str, count: int, **more: Any) -> None:
        """Be handed a message."""
        fields = {"id": f"id {name}", **more}
        self.add(process, INFO, "handout", call, name=name, count=count, **fields)

    def take(self, process: str, name: str, count: int = 1, **more: Any) -> None:
        """Receive one message."""
        self.get(self.ask(process), process, name, count, **more)

    def settle(
        self, process: str, verb: str, name: str, count: int = 1, **more: Any
    ) -> None:
        """Settle it: `outcome` (OK by default), `error`."""
        outcome, error = more.pop("outcome", OK), more.pop("error", "")
        messages = [[more.pop("queue", "q"), name, count]]
        call = self.invoke(process, verb, messages=messages, **more)
        if outcome:
            self.add(process, outcome, verb, call, error=error)

    def lost(self, process: str, verb: str, name: str, count: int = 1) -> None:
        """Try to settle it, and be told that the lease is lost."""
        self.settle(process, verb, name, count, outcome=FAIL, error="LeaseLost")

    def bury(self, name: str, reason: str, count: int, id: str | None = None) -> None:  # noqa: A002
        """Find it among the dead letters."""
        told = {"queue": "q", "reason": reason, "receive_count": count}
        more = {"id": id} if id else {}
        call = self.ask("drain", "q.dead")
        self.get(call, "drain", name, 1, history=[told], **more)

    def stats(self, **counters: int) -> None:
        """Read the queue's counters at the end."""
        fields = {**dict.fromkeys(COUNTERS, 0), **counters}
        self.add("drain", INFO, "stats", 0, queue="q", **fields)

    def judge(self) -> Verdict:
        """Judge it."""
        return judge(History(self.events), self.rules)

    def kinds(self) -> list[str]:
        """Name the kinds of its problems."""
        return [problem.partition(":")[0] for problem in self.judge().problems]


@pytest.fixture
def story() -> Story:
    """Begin an empty one."""
    return Story()


def test_a_quiet_run(story: Story) -> None:
    """Sends that come once, in order, and are acked, are as it should be."""
    for number in range(3):
        story.take("c", story.send(number))
        story.settle("c", "ack", f"p/{number}")
    story.stats(sent=3, delivered=3, acked=3)
    verdict = story.judge()
    assert verdict.problems == []
    assert verdict.numbers["confirmed"] == verdict.numbers["handed out"] == 3


def test_lost(story: Story) -> None:
    """A confirmed send that never comes is lost; one of unknown outcome may be."""
    story.send(1)
    story.send(2, UNKNOWN)
    story.send(3, None)
    story.send(4, FAIL)
    (problem,) = story.judge().problems
    assert problem == "lost: q: 1, not 0: ['p/1']"


def test_recovered(story: Story) -> None:
    """What comes after an unknown outcome is recovered, and no problem."""
    story.take("c", story.send(1, None))
    story.take("c", story.send(2, UNKNOWN))
    verdict = story.judge()
    assert verdict.problems == []
    assert verdict.numbers["recovered"] == 2


def test_unexpected(story: Story) -> None:
    """What nobody sent, or what was refused, must not come."""
    story.take("c", "p/9")
    story.take("c", story.send(1, FAIL))
    assert story.kinds() == ["unexpected", "unexpected"]


def test_stored_twice(story: Story) -> None:
    """One send under two ids was stored twice."""
    story.send(1)
    story.take("c", "p/1", id="another")
    assert story.kinds() == ["stored twice"]


def test_duplicated(story: Story) -> None:
    """After its confirmed ack, or twice by one count, a message must not come."""
    story.take("c", story.send(1))
    story.settle("c", "ack", "p/1")
    story.take("c", "p/1", 2)
    story.take("c", story.send(2))
    story.settle("c", "nack", "p/2")
    story.take("c", "p/2", 1)
    assert sorted(set(story.kinds())) == ["duplicated", "held by two"]
    assert story.kinds().count("duplicated") == 2


def test_an_ack_without_an_end(story: Story) -> None:
    """When nobody knows whether the ack was done the message may come again."""
    story.take("c", story.send(1))
    story.settle("c", "ack", "p/1", outcome=None)
    story.add("c", INFO, "dies", 0)
    story.take("d", "p/1", 2)
    verdict = story.judge()
    assert verdict.problems == []
    assert verdict.numbers["redelivered"] == 1


@pytest.mark.parametrize("why", ["nack", "death", "deadline", "close", "extend"])
def test_handed_out_again(story: Story, why: str) -> None:
    """A nack, a death, a close or the end of the lease lets a message come again."""
    story.take("c", story.send(1))
    if why == "nack":
        story.settle("c", "nack", "p/1")
    elif why == "deadline":
        story.now += LEASE_MS
    elif why == "extend":
        story.settle("c", "extend", "p/1", seconds=0.01)
        story.now += 10
    else:
        story.add("c", INFO, "dies" if why == "death" else "closes", 0)
    story.take("d", "p/1", 2)
    assert story.kinds() == []


def test_held_by_two(story: Story) -> None:
    """Without any of these two consumers would hold it at once."""
    story.take("c", story.send(1))
    story.add("other", INFO, "dies", 0)
    story.now += LEASE_MS - 10
    story.take("d", "p/1", 2)
    assert story.kinds() == ["held by two"]


@pytest.mark.parametrize("verb", ["ack", "nack", "reject", "extend"])
def test_a_receipt_after_another_claim(story: Story, verb: str) -> None:
    """A verb that works by the receipt of an earlier delivery is a defect."""
    story.take("c", story.send(1))
    story.now += LEASE_MS
    story.take("d", "p/1", 2)
    story.lost("c", verb, "p/1")
    assert story.kinds() == []
    story.settle("c", verb, "p/1")
    assert "another's" in story.kinds()


def test_a_lease_lost_for_nothing(story: Story) -> None:
    """`LeaseLost` needs another claim, or that it was settled before."""
    story.take("c", story.send(1))
    story.settle("c", "ack", "p/1")
    story.lost("c", "ack", "p/1")
    assert story.kinds() == []
    story.take("c", story.send(2))
    story.lost("c", "ack", "p/2")
    assert story.kinds() == ["LeaseLost for nothing"]


def test_two_suspects(story: Story) -> None:
    """What came again after its lease ended is held one at a time by a process."""
    for number in (1, 2):
        story.take("c", story.send(number))
    story.add("c", INFO, "dies", 0)
    story.take("d", "p/1", 2)
    story.settle("d", "ack", "p/1", 2)
    story.take("d", "p/2", 2)
    story.settle("d", "ack", "p/2", 2)
    assert story.kinds() == []
    for number in (3, 4):
        story.take("e", story.send(number))
    story.add("e", INFO, "dies", 0)
    story.take("d", "p/3", 2)
    story.take("d", "p/4", 2)
    assert story.kinds() == ["two suspects"]


def test_counted_unseen(story: Story) -> None:
    """A count that nobody saw needs a death or a stop, and each stands for one."""
    story.send(1)
    story.add("c", INFO, "dies", 0)
    story.take("d", "p/1", 2)
    assert story.kinds() == []
    story.send(2)
    story.take("d", "p/2", 3)
    assert story.kinds() == ["counted too often"]


def test_counted_beyond_the_limit(story: Story) -> None:
    """No message is handed out oftener than `max_receives`."""
    story.send(1)
    for count in range(1, 5):
        story.take("c", "p/1", count)
        story.settle("c", "nack", "p/1", count)
    assert story.kinds() == ["counted beyond max_receives"]


def test_dead_letters(story: Story) -> None:
    """A dead letter was rejected, or handed out `max_receives` times."""
    story.take("c", story.send(1))
    story.settle("c", "reject", "p/1")
    story.bury("p/1", "rejected", 1)
    story.send(2)
    for count in (1, 2, 3):
        story.take("c", "p/2", count)
        story.settle("c", "nack", "p/2", count)
    story.bury("p/2", "max_receives", 3)
    story.send(3, ttl=1.0)
    story.bury("p/3", "ttl", 0)
    assert story.kinds() == []


@pytest.mark.parametrize(
    ("reason", "count"),
    [("rejected", 1), ("max_receives", 2), ("bad luck", 1), ("ttl", 1)],
)
def test_a_dead_letter_without_reason(story: Story, reason: str, count: int) -> None:
    """Buried too early, or rejected by nobody."""
    story.send(1)
    for number in range(1, count + 1):
        story.take("c", "p/1", number)
        story.settle("c", "nack", "p/1", number)
    story.bury("p/1", reason, count)
    assert story.kinds() == ["dead letter"]


def test_acked_and_buried(story: Story) -> None:
    """What was acked is no dead letter."""
    story.take("c", story.send(1))
    story.settle("c", "ack", "p/1")
    story.settle("c", "reject", "p/1")
    story.bury("p/1", "rejected", 1)
    assert story.kinds() == ["dead letter"]


def test_the_order_of_one_producer(story: Story) -> None:
    """A later message that was in hand before an earlier one was asked for."""
    for number in (1, 2):
        story.send(number)
    story.take("c", "p/2")
    story.take("d", "p/1")
    assert story.kinds() == ["order"]


def test_the_order_of_two_consumers(story: Story) -> None:
    """Who tells first is no proof of who got it first; nor are redeliveries ordered."""
    for number in (1, 2, 3):
        story.send(number)
    one, two = story.ask("c"), story.ask("d")
    story.get(two, "d", "p/2", 1)
    story.get(one, "c", "p/1", 1)
    story.settle("c", "nack", "p/1")
    story.take("d", "p/3")
    story.take("c", "p/1", 2)
    assert story.kinds() == []


def test_the_order_after_a_loop_was_left(story: Story) -> None:
    """What was claimed ahead and given back comes late; without that it must not."""
    for number in (1, 2):
        story.send(number)
    loop = story.ask("c")
    story.get(loop, "c", "p/2", 1)
    story.add("d", INFO, "leaves", 0, queue="q")
    story.take("d", "p/1")
    assert story.kinds() == []
    story.events = [event for event in story.events if event.op != "leaves"]
    assert story.kinds() == ["order"]


def test_the_order_of_each_priority(story: Story) -> None:
    """Of equal priority, and without a delay, the first sent comes first."""
    story.send(1)
    story.send(2, priority=9)
    story.send(3, priority=9)
    story.send(4, priority=9, delay=1.0)
    for number in (2, 4, 3, 1):
        story.take("c", f"p/{number}")
    assert story.kinds() == []
    story.send(5, priority=0)
    story.send(6, priority=0)
    story.take("c", "p/6")
    story.take("c", "p/5")
    assert story.kinds() == ["order"]


def by_key() -> Story:
    """Begin one of a queue that is ordered by key: two of a; one of b is out."""
    story = Story(by_key=True)
    for number, key in ((1, "a"), (2, "a"), (3, "b")):
        story.send(number, key=key)
    story.take("b", "p/3")
    return story


@pytest.mark.parametrize("end", ["ack", "reject", "death", "deadline"])
def test_keys_in_order(end: str) -> None:
    """The next of a key comes when the one before is settled; other keys pass."""
    story = by_key()
    story.take("c", "p/1")
    if end in ("ack", "reject"):
        story.settle("c", end, "p/1")
    elif end == "death":
        story.add("c", INFO, "dies", 0)
    else:
        story.now += LEASE_MS
    story.take("d", "p/2")
    assert story.kinds() == []


@pytest.mark.parametrize("verb", [None, "nack", "extend"])
def test_two_of_a_key(verb: str | None) -> None:
    """The next of a key, while the one before is held or is to come again."""
    story = by_key()
    story.take("c", "p/1")
    if verb:
        more = {"seconds": 1000} if verb == "extend" else {}
        story.settle("c", verb, "p/1", **more)
    story.take("d", "p/2")
    assert story.kinds() == ["two of a key"]


def test_a_key_out_of_order() -> None:
    """A retry after the next of its key had been out, and a first one too."""
    story = by_key()
    story.take("c", "p/1")
    story.add("c", INFO, "dies", 0)
    story.take("d", "p/2")
    story.settle("d", "ack", "p/2")
    assert story.kinds() == []
    story.take("d", "p/1", 2)
    assert story.kinds() == ["order of a key"]


def test_at_most_once() -> None:
    """An auto_ack consumer may lose a block to each death, and gets nothing twice."""
    story = Story(at_most_once=2, dead_letter=None)
    for number in (1, 2, 3):
        story.send(number)
    call = story.ask("c", auto_ack=True)
    story.get(call, "c", "p/1", 1)
    story.stats(sent=3, delivered=3, acked=3)
    assert story.kinds() == ["lost"]
    story.add("c", INFO, "dies", 0)
    assert story.kinds() == []
    story.get(call, "c", "p/1", 2)
    assert "duplicated" in story.kinds()


@pytest.mark.parametrize("counter", COUNTERS)
def test_a_wrong_counter(story: Story, counter: str) -> None:
    """Each counter that differs from what was seen is told."""
    for number in range(3):
        story.take("c", story.send(number))
    story.settle("c", "ack", "p/0")
    story.settle("c", "nack", "p/1")
    story.settle("c", "reject", "p/2")
    story.add("c", INFO, "dies", 0)
    story.take("d", "p/1", 2)
    story.settle("d", "ack", "p/1", 2, outcome=None)
    story.add("d", INFO, "dies", 0)
    story.take("e", "p/1", 3)
    story.settle("e", "ack", "p/1", 3)
    story.bury("p/2", "rejected", 1)
    right = {"sent": 3, "delivered": 5, "redelivered": 2, "acked": 2, "nacked": 1}
    right |= {"rejected": 1, "expired": 1, "dead": 1}
    story.stats(**right)
    assert story.kinds() == []
    off = 10 if counter == "expired" else 1
    story.stats(**dict.fromkeys(right, 0))
    story.stats(**{**right, counter: right.get(counter, 0) + off})
    problems = [p for p in story.judge().problems if f" {counter} is" in p]
    assert len(problems) == 1


def test_a_line_that_a_kill_tore(story: Story) -> None:
    """A file is read up to its last whole line, and gives the events back."""
    story.take("c", story.send(1))
    written = [event for event in story.events if event.process == "c.1"]
    text = b"".join(event.line() for event in written)
    assert parse("c.1", text + written[0].line()[:-9]) == written
    assert parse("c.1", text[:-1]) == written[:-1]
