"""The runs that are recorded, by name, with what each starts from."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

from images_again import racing, repeating
from images_once import keeping
from images_upkeep import cancelling, emptying, fill, purging, setting
from images_work import (
    PATIENCE_S,
    Run,
    handling,
    inserting,
    keying,
    placing,
    sending,
    staging,
    taking,
)


def base_queues(run: Run) -> None:
    """Queues, some messages, a table of the application's; closed."""
    run.queue("normal", "q", max_receives=2, visibility_timeout=1000)
    once = run.queue("normal", "once", visibility_timeout=1000)
    for i in range(20):
        run.send(once, *(f"old{i}.{n}" for n in range(3)))
    run.close()
    connection = sqlite3.connect(run.path)
    connection.execute("create table app(n integer primary key, text)")
    connection.close()


def base_nothing(run: Run) -> None:
    """No file at all."""


def base_application(run: Run) -> None:
    """Make a file of the application's, with a rollback journal and no queues."""
    connection = sqlite3.connect(run.path)
    connection.execute("create table app(n integer primary key, text)")
    connection.executemany(
        "insert into app values (?, ?)", [(-n, "x" * n) for n in range(1, 50)]
    )
    connection.commit()
    connection.close()


def base_backlog(run: Run) -> None:
    """So many messages that their pages are worth giving back."""
    base_queues(run)
    queue = run.queue("normal", "q")
    for i in range(22):
        run.send(queue, *(f"B{i}.{n}" for n in range(10)))
    run.close()


def base_keyed(run: Run) -> None:
    """The same, with a queue that is ordered by key."""
    run.queue("normal", "keyed", max_receives=2, ordered="key")
    base_queues(run)


def base_upkeep(run: Run) -> None:
    """Queues that are configured, drained by hand, and purged."""
    fill(run)
    run.close()


def full(run: Run) -> None:
    """One sender at full."""
    sending(run, "full", "f", 36)
    staging(run, "full", "s", 5)


def normal(run: Run) -> None:
    """One sender at normal, and one message at full in the middle."""
    sending(run, "normal", "n", 60)
    run.send(run.queue("full", "q"), "f")
    sending(run, "normal", "m", 60)


def lulls(run: Run) -> None:
    """Between bursts the keeper checkpoints, and the -wal starts over."""
    for burst in range(4):
        sending(run, "normal", f"n{burst}-", 30)
        handling(run, "normal", 6)
        sending(run, "full", f"f{burst}-", 2)
        time.sleep(0.3)


def threads(run: Run) -> None:
    """Senders of both kinds, consumers of both kinds, and the application."""
    run.rig.stir(run.rng.randrange(1 << 30), one_in=60, most_us=300)
    run.together(
        *(lambda n=n: sending(run, "full", f"f{n}-", 14) for n in range(3)),
        *(lambda n=n: sending(run, "normal", f"n{n}-", 30) for n in range(4)),
        lambda: staging(run, "full", "s", 5),
        lambda: handling(run, "normal", 70),
        lambda: taking(run, "full", 24),
        lambda: inserting(run, 20),
    )
    run.rig.stir(0, one_in=0)


def processes(run: Run) -> None:
    """Two processes of senders and consumers, which also open and close."""

    def one() -> None:
        run.together(
            lambda: sending(run, "full", "f-", 20),
            lambda: sending(run, "normal", "n-", 40),
        )
        run.close()

    def other() -> None:
        for part in range(3):
            run.together(
                lambda part=part: sending(run, "full", f"g{part}-", 6),
                lambda: handling(run, "normal", 12),
            )
            run.close()

    run.apart(one, other)


def creation(run: Run) -> None:
    """A new file: opened, used, closed, and used again."""
    for part in range(2):
        run.queue("full", "q", max_receives=2)
        sending(run, "full", f"f{part}-", 4)
        run.close()


def conversion(run: Run) -> None:
    """A file of the application's becomes ours as well."""
    run.queue("full", "q", max_receives=2)
    run.together(
        lambda: sending(run, "full", "f", 5),
        lambda: inserting(run, 5),
    )
    run.close()


def burial(run: Run) -> None:
    """Messages are rejected, or fail too often, and become dead letters."""
    kinds = run.queue("normal", "q"), run.queue("full", "q")
    for i in range(12):
        run.send(kinds[i % 3 > 0], f"d{i}")
    for i in range(24):
        if message := kinds[0].receive():
            run.handle(message, ["nack", "reject", "nack", "ack"][i % 4])
        if i % 8 == 7:
            run.send(kinds[1], f"e{i}")


def once(run: Run) -> None:
    """At most once, on a full broker beside a sender that syncs, and on another."""
    run.together(
        lambda: taking(run, "full", 16),
        lambda: sending(run, "full", "f", 24),
    )
    taking(run, "normal", 3)


def growth(run: Run) -> None:
    """The -wal is filled with zeros, then with messages, and starts over."""
    for i in range(70):  # so many syncs make the engine fill it
        run.send(run.queue("full", "q"), f"f{i}")
    queue = run.queue("normal", "q")
    highest = over = 0
    for i in range(1000):
        run.send(queue, f"B{i}")
        if i % 16 == 15:
            for message in queue.receive_many(24):
                run.handle(message, "ack")
            run.send(run.queue("full", "q"), f"g{i}")
            time.sleep(0.01)
        now = run.broker("normal").stats()["wal_bytes"]
        over += now < highest
        highest = 0 if now < highest else now
        if over and highest > 1 << 20:
            return
    text = "the -wal did not start over"
    raise AssertionError(text)


def closing(run: Run) -> None:
    """Opened, used and closed, again and again: each close unlinks the -wal."""
    for part in range(5):
        mode = ("full", "normal")[part % 2]
        sending(run, mode, f"c{part}-", 5)
        handling(run, mode, 3)
        run.close()


def vacuum(run: Run) -> None:
    """A backlog is drained, and its pages go back to the file system."""
    queue = run.queue("normal", "q")
    looking = sqlite3.connect(run.path, timeout=PATIENCE_S)

    def pages() -> int:
        count: int = looking.execute("pragma page_count").fetchone()[0]
        return count

    before, end = pages(), time.monotonic() + PATIENCE_S
    while run.take(queue, 100):
        pass
    i = 0
    while pages() > before - 3 * 256:
        assert time.monotonic() < end, "nothing was given back"
        run.send(run.queue("full", "q"), f"v{i}")
        time.sleep(0.15)
        i += 1
    looking.close()


def reboot(run: Run) -> None:
    """Under another boot than the one before, at normal."""
    sending(run, "normal", "n", 12)
    taking(run, "normal", 2)


def placed(run: Run) -> None:
    """Priorities, delays, ttl and keys, at full and at normal."""
    run.together(
        lambda: placing(run, "full", "f", 12),
        lambda: placing(run, "normal", "n", 24),
        lambda: keying(run, "normal", "k", 24),
        lambda: keying(run, "full", "g", 8),
        lambda: handling(run, "normal", 40),
        lambda: handling(run, "normal", 30, of="keyed"),
    )


def again(run: Run) -> None:
    """Dedup ids: sent again by this process, by others, and beside consumers."""
    run.apart(
        lambda: racing(run, "full", "r", 10),
        lambda: racing(run, "normal", "r", 10),
    )
    run.together(
        lambda: racing(run, "normal", "r", 10),
        lambda: repeating(run, "full", "f", 12),
        lambda: repeating(run, "normal", "n", 16),
        lambda: handling(run, "normal", 30),
    )


def upkeep(run: Run) -> None:
    """A queue is configured and paused, messages are cancelled, many are purged."""
    run.together(
        lambda: setting(run, 24),
        lambda: cancelling(run, 24),
        lambda: purging(run),
        lambda: handling(run, "normal", 10, of="single"),
    )
    emptying(run, 12)


def results(run: Run) -> None:
    """What is done once is kept at full and at normal, beside senders."""
    run.together(
        lambda: keeping(run, "full", "f", 40),
        lambda: keeping(run, "normal", "n", 60),
        lambda: sending(run, "normal", "s", 20),
    )


def fresh(run: Run) -> None:
    """A queue is declared, and used at normal."""
    sending(run, "normal", "n", 6)
    sending(run, "normal", "p", 12, to="fresh")


@dataclass(frozen=True)
class Workload:
    """A run, what it starts from, and how many of a hundred images are its."""

    run: Callable[[Run], None]
    base: Callable[[Run], None] = base_queues
    share: int = 9
    reboots: bool = False


WORKLOADS = {
    "full": Workload(full),
    "normal": Workload(normal),
    "lulls": Workload(lulls, share=10),
    "threads": Workload(threads, share=12),
    "processes": Workload(processes, share=12),
    "creation": Workload(creation, base_nothing),
    "conversion": Workload(conversion, base_application, share=8),
    "burial": Workload(burial, share=8),
    "once": Workload(once, share=8),
    "growth": Workload(growth, share=5),
    "closing": Workload(closing),
    "vacuum": Workload(vacuum, base_backlog, share=3),
    "reboot": Workload(reboot, share=2, reboots=True),
    "fresh": Workload(fresh, share=2),
    "placed": Workload(placed, base_keyed),
    "again": Workload(again),
    "upkeep": Workload(upkeep, base_upkeep),
    "results": Workload(results),
}
