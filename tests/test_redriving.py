"""Redrive as a task: it is stored, has a rate, is ended, and outlives its process."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Children, wait_until
from rig import redriving
from rig.court import Stages, spread

import embq
from embq import errors

POINTS = 60  # where it is killed, unless --soak
STAGES = 4
TOGETHER = 20  # files that wait for a death to be noticed, at once


def filled(path: Path, count: int) -> embq.Broker:
    """Open a file with so many messages in "dead", and a queue "other"."""
    broker = embq.open(path, durability="normal")
    broker.queue("dead").send_many(range(count))
    broker.queue("other")
    return broker


# ---- one at a time ----


def test_the_same_is_gone_on_with(path: Path) -> None:
    """Asking again in the same words gives the same task; in others it is refused."""
    with filled(path, 10) as broker:
        dead = broker.queue("dead")
        where = {"type": [None, "t"], "key": None}
        first = dead.redrive("other", where, rate=0.001)
        again = dead.redrive("other", {"key": [None], "type": ["t", None]}, rate=0.001)
        for arguments in ({}, {"to": "other"}, {"to": "other", "rate": 0.001}):
            with pytest.raises(errors.RedriveUnderWay):
                dead.redrive(**arguments)
        assert first.done is again.done is False
        assert again.cancel() is True
        assert first.done is again.done is True
        assert first.cancel() is False
        assert dead.redrive("other").wait(10) == 10
        assert (first.done, first.moved) == (True, 0)


def test_of_several_queues_at_once(path: Path) -> None:
    """One that has a rate does not hold up the others."""
    with filled(path, 1000) as broker:
        slow, dead = broker.queue("slow"), broker.queue("dead")
        slow.send_many(range(5))
        handle = slow.redrive("other", rate=0.001)
        assert dead.redrive("other").wait(10) == 1000
        assert (handle.done, handle.moved, slow.depth()) == (False, 0, 5)


def test_waiting_has_an_end(path: Path) -> None:
    """A wait that is over before the redrive says so, and this goes on."""
    with filled(path, 1) as broker:
        handle = broker.queue("dead").redrive("other", rate=2)
        with pytest.raises(errors.Busy):
            handle.wait(timeout=0.01)
        assert handle.wait(timeout=10) == 1


def test_a_closed_broker(path: Path) -> None:
    """Who waits hears of it; the next who opens the file finishes the work."""
    broker = filled(path, 10)
    handle = broker.queue("dead").redrive("other", rate=0.001)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(handle.wait)
        broker.close()
        with pytest.raises(errors.Closed):
            waiting.result(10)
    with embq.open(path) as broker:
        assert broker.queue("dead").redrive("other", rate=0.001).cancel() is True
        assert broker.queue("dead").redrive("other").wait(10) == 10


def test_what_comes_later_stays(path: Path) -> None:
    """It goes through what was there when it began, and no further."""
    with filled(path, 3) as broker:
        dead = broker.queue("dead")
        handle = dead.redrive("other", rate=5)
        dead.send_many([embq.Outgoing(n, priority=n % 3 + 3) for n in range(100, 109)])
        assert handle.wait(10) == 3
        assert dead.depth() == 9
        came = broker.queue("other").receive_many(20)
        assert [message.data for message in came] == [0, 1, 2]


def test_whoever_opens_the_file_goes_on(path: Path) -> None:
    """A task that its process left behind is ended without being asked for again."""
    with filled(path, 100) as broker:
        broker.queue("dead").redrive("other", rate=50)
    with embq.open(path) as broker:
        other = broker.queue("other")
        wait_until(lambda: other.depth() == 100, "all are moved")


# ---- the rate ----


@pytest.mark.parametrize("site", ["core"], indirect=True)
def test_no_more_than_the_rate(site: Any) -> None:
    """By the wall clock there are never more than rate x time, nor many fewer."""
    dead, other = site.broker.queue("dead"), site.broker.queue("other")
    dead.send_many(range(50))
    handle = dead.redrive("other", rate=10)
    for second in range(1, 6):
        site.clock.advance(1)
        wait_until(lambda most=second * 10: handle.moved >= most, "it is moved")
        time.sleep(0.3)  # a tick of the keeper more
        assert other.depth() == handle.moved == second * 10
    assert handle.wait(10) == 50


@pytest.mark.parametrize("site", ["core"], indirect=True)
def test_a_late_start_is_no_flood(site: Any) -> None:
    """After a pause of any length it makes up for a second; set back, it goes on."""
    dead = site.broker.queue("dead")
    site.broker.queue("other")
    dead.send_many(range(100))
    handle = dead.redrive("other", rate=10)
    site.clock.advance(3600)
    wait_until(lambda: handle.moved > 0, "it is moved")
    time.sleep(0.3)
    assert handle.moved == 11
    site.clock.jump(-7200)
    wait_until(lambda: handle.moved > 11, "it goes on")
    time.sleep(0.3)
    assert handle.moved == 12


# ---- deaths ----

KILLED = """
    import sys, embq
    broker = embq.open(sys.argv[1], durability="normal")
    broker.queue("dead").redrive("other", rate=200)
    print("begun", flush=True)
    sys.stdin.readline()
"""


def test_another_process_goes_on(path: Path, children: Children) -> None:
    """CASE 16: who has the file open finishes what a dead process began."""
    with filled(path, 600) as broker:
        started = time.monotonic()
        child = children.start(KILLED, path)
        children.expect(child, "begun")
        other = broker.queue("other")
        wait_until(lambda: other.depth() > 0, "it is under way")
        child.kill()
        child.wait(10)
        before = other.depth()
        assert broker.queue("dead").redrive("other", rate=200).wait(30) == 600
        assert before < 600
        assert time.monotonic() - started > 600 / 200 - 1
        came = other.receive_many(1000, auto_ack=True)
        assert [message.data for message in came] == list(range(600))


def test_a_keeper_at_rest_goes_on(path: Path, children: Children) -> None:
    """CASE 16: so does one that had nothing to do, and is not asked."""
    with filled(path, 200) as broker:
        time.sleep(0.6)  # two looks that found nothing
        child = children.start(KILLED, path)
        children.expect(child, "begun")
        child.kill()
        child.wait(10)
        other = broker.queue("other")
        assert other.depth() < 200
        wait_until(lambda: other.depth() == 200, "all are moved", 15)


def test_killed_at_every_call(tmp_path: Path, *, soak: bool) -> None:
    """CASES 16, 17: wherever it is killed, each message is there once, and it ends."""
    template = tmp_path / "template"
    template.mkdir()
    ids = redriving.prepare(template / "test.db")

    def run(folder: str, kill_at: int) -> Any:
        target = str(tmp_path / folder)
        return stages.start("perform", str(template), target, kill_at)

    with closing(Stages("rig.redriving", STAGES)) as stages:
        count = run("whole", 0).result().get()
        points = spread(count, count if soak else POINTS)
        runs = [run(f"{point}", point) for point in points]
        outcomes = [one.result() for one in runs]
    assert [one.error for one in outcomes if one.error] == []
    killed = sum(one.killed for one in outcomes)
    assert killed > len(points) / 2, f"{killed} of {len(points)} were killed"
    with ThreadPoolExecutor(TOGETHER) as pool:
        folders = [tmp_path / f"{point}" / "test.db" for point in points]
        for done in [pool.submit(redriving.check, one, ids) for one in folders]:
            done.result()
