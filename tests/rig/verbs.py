"""What is done while it is killed: one short play for each verb. See play.py."""

from __future__ import annotations

import os
import signal
import threading

from clock import ClockFile
from rig import (  # noqa: F401  (they register their plays)
    verbs_bounding,
    verbs_keeping,
    verbs_once,
    verbs_placing,
    verbs_typed,
    verbs_upkeep,
)
from rig.ledger import EACH, PREFIX
from rig.play import BIG, PATIENCE_S, VERBS, Play, names, perform, prepare, verb

from embq import _native

__all__ = ["VERBS", "perform", "prepare"]  # for the stage and for the test

# ---- sending ----


@verb()
def send(play: Play) -> None:
    """Send at `normal`."""
    play.open()
    play.arm()
    for name in names(8, letter="s"):
        play.send(name)


@verb(durability="full")
def send_full(play: Play) -> None:
    """Send at `full`."""
    play.open()
    play.arm()
    for name in names(8, letter="s"):
        play.send(name)


@verb(durability="full")
def send_many(play: Play) -> None:
    """Send batches, over pages and into overflow pages."""
    play.open()
    play.arm()
    for first in (0, 10, 20):
        play.send(*names(10, first, "s"), padding="x" * first * 100)


@verb()
def send_nowait(play: Play) -> None:
    """Stage messages; flush, or wait for their tickets."""
    play.open()
    play.arm()
    for first in (0, 5, 10):
        wanted = names(5, first, "s")
        number = play.ledger.begin("send", wanted, PREFIX)
        tickets = [play.queue.send_nowait(name) for name in wanted]
        if first == 5:
            for name, ticket in zip(wanted, tickets, strict=True):
                play.ledger.end(number, [name], [ticket.result(PATIENCE_S).id])
        else:
            play.broker.flush()
            play.ledger.end(number)


@verb(durability="full")
def send_from_threads(play: Play) -> None:
    """Four threads send, and share their commits."""
    play.open()
    play.arm()

    def work(letter: str) -> None:
        for name in names(5, letter=letter):
            play.send(name)

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# ---- receiving ----


@verb(messages=8)
def receive(play: Play) -> None:
    """Receive one by one."""
    play.open()
    play.arm()
    for name in names(8):
        play.claim(name)


@verb(messages=24)
def receive_many(play: Play) -> None:
    """Receive batches."""
    play.open()
    play.arm()
    for first in range(0, 24, 4):
        play.claim(*names(4, first))


@verb(messages=12, durability="full")
def receive_auto_ack(play: Play) -> None:
    """At most once: what is confirmed is gone, what is not is there whole."""
    play.open()
    play.arm()
    for name in names(4):
        play.claim(name, take=True)
    for first in (4, 8):
        play.claim(*names(4, first), take=True)


@verb(messages=24, options={"visibility_timeout": 1000})
def messages(play: Play) -> None:
    """The prefetch loop, left before its end."""
    play.open()
    play.arm()
    number = play.ledger.begin("claim", names(24), EACH)
    loop = play.queue.messages(prefetch=6, wait=0)
    for name, message in zip(names(16), loop, strict=False):
        play.ledger.end(number, [name])
        assert message.data == name
        play.held[name] = message
        play.settle("ack", name)
    loop.close()
    play.ledger.void(number)


@verb(messages=6, options={"visibility_timeout": 10})
def redelivery(play: Play) -> None:
    """Leases end by their time: the messages are suspects, and go out alone."""
    clock = ClockFile(play.folder / "clock")
    _native.use_clock(clock.path)
    play.open()
    play.claim(*names(5))
    clock.advance(20)
    play.arm()
    for name in names(5):
        play.claim(name)
        play.settle("extend", name, 100)
        play.settle("ack", name)


@verb(messages=6)
def recovery(play: Play) -> None:
    """Give back what a process held that was killed."""
    if os.fork() == 0:
        play.open()
        play.claim(*names(3))
        play.claim("t3")
        os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
    play.open()
    play.arm()
    before = play.groups()
    play.wait_for(lambda: play.groups() > before, "the death is noticed")
    play.claim("t0")
    play.settle("ack", "t0")


# ---- settling ----


@verb(messages=8)
def ack(play: Play) -> None:
    """Ack what was received one by one and in a batch."""
    play.open()
    for name in names(4):
        play.claim(name)
    play.claim(*names(4, 4))
    play.arm()
    for name in names(8):
        play.settle("ack", name)


@verb(messages=16)
def ack_many(play: Play) -> None:
    """Ack batches, of neighbours and not."""
    play.open()
    play.claim(*names(16))
    play.arm()
    for first in range(4):
        batch = names(16)[first::4] if first % 2 else names(16)[first * 4 :: 8]
        batch = [name for name in batch if name in play.held]
        with play.ledger.step("ack", batch):
            play.queue.ack_many([play.held.pop(name) for name in batch])


@verb(messages=16)
def ack_nowait(play: Play) -> None:
    """Stage acks; flush."""
    play.open()
    play.claim(*names(16))
    play.arm()
    for first in range(0, 16, 4):
        batch = names(4, first)
        number = play.ledger.begin("ack", batch, EACH)
        for name in batch:
            play.held[name].ack_nowait()
        play.broker.flush()
        play.ledger.end(number)


@verb(messages=8)
def nack(play: Play) -> None:
    """Nack for now and for later, and receive again."""
    play.open()
    play.claim(*names(8))
    play.arm()
    for name in names(3):
        play.settle("nack", name, 0, "it failed")
    for name in names(3, 3):
        play.settle("nack later", name, 1000)
    play.claim("t0", "t1", "t2")
    play.settle("ack", "t1")


@verb(messages=5, options={"max_receives": 1})
def bury(play: Play) -> None:
    """Nack, after the last delivery: into the dead letters."""
    play.open()
    play.arm()
    for name in names(4):
        play.claim(name)
        play.settle("bury", name, None, "it failed")


@verb(messages=8)
def reject(play: Play) -> None:
    """Reject into the dead letters."""
    play.open()
    play.claim(*names(7))
    play.arm()
    for name in names(6):
        play.settle("reject", name, "hopeless")


@verb(messages=8)
def extend(play: Play) -> None:
    """Extend, which takes a message out of its batch, and ack."""
    play.open()
    play.claim(*names(7))
    play.arm()
    for name in names(5):
        play.settle("extend", name, 1000)
    for name in names(3):
        play.settle("ack", name)


# ---- the file ----


@verb()
def declare(play: Play) -> None:
    """Declare queues, new ones and the one that is there."""
    play.open()
    play.arm()
    for name in ("a", "b", "q", "c", "d", "e"):
        with play.ledger.step("declare", [name]):
            play.broker.queue(name, max_receives=5)
    play.send("s0")


@verb(file="none")
def open_new(play: Play) -> None:
    """Make the file."""
    play.arm()
    play.open()
    play.send("s0")


@verb(file="foreign")
def migrate(play: Play) -> None:
    """Make our tables in an application's file, and WAL its mode."""
    play.arm()
    play.open()
    play.send("s0")


@verb(messages=6)
def open_again(play: Play) -> None:
    """Open a file that was closed in order; close it, and open it again."""
    for _ in range(2):
        play.arm()
        play.open()
        play.broker.close()


@verb(file="copied", messages=6)
def open_copy(play: Play) -> None:
    """Open a copy of a file in use: its leases are void, its numbers jump."""
    play.arm()
    play.open()
    play.claim("t0")


@verb(messages=8)
def close(play: Play) -> None:
    """Close with messages staged, held and prefetched."""
    play.open()
    play.claim(*names(3))
    loop = play.queue.messages(prefetch=2)
    with play.ledger.step("claim", ["t3"]):
        next(loop)
    play.arm()
    ahead = play.ledger.begin("claim", names(4, 4), EACH)
    number = play.ledger.begin("send", names(4, letter="s"), PREFIX)
    for name in names(4, letter="s"):
        play.queue.send_nowait(name)
    play.broker.close()
    play.ledger.end(number)
    play.ledger.void(ahead)


@verb()
def checkpoint(play: Play) -> None:
    """Checkpoint beside a writer, to the end, and start the WAL over."""
    play.open()
    play.arm()
    for first in (0, 70):
        before = play.count("checkpoints")
        play.send(*names(70, first, "s"), padding=BIG)
        play.wait_for(
            lambda before=before: play.count("checkpoints") > before,
            "a checkpoint",
        )
    for name in names(10, 140, "s"):
        play.send(name)


@verb(durability="full")
def fill_wal(play: Play) -> None:
    """Make the -wal long beforehand, which full senders do."""
    play.open()
    for name in names(64, letter="s"):
        play.send(name)
    play.arm()
    log = play.path.with_name("test.db-wal")
    play.wait_for(lambda: log.stat().st_size > 10 << 20, "the -wal is long")
    for name in names(3, 64, "s"):
        play.send(name)


@verb(file="sparse", messages=3)
def vacuum(play: Play) -> None:
    """Give free pages back, beside a sender."""
    play.open()
    play.arm()
    before = play.groups()
    play.wait_for(lambda: play.groups() > before, "a step of the vacuum")
    for name in names(3, letter="s"):
        play.send(name)


@verb(messages=4)
def fork(play: Play) -> None:
    """Fork in the middle; parent and child both go on."""
    play.open()
    play.claim("t0")
    play.arm()
    play.send("p0")
    child = os.fork()
    who = "c" if child == 0 else "p"
    for name in names(3, 1, who):
        play.send(name)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    play.settle("ack", "t0")
