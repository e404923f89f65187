"""Interleavings: two steps that must not be seen apart, under many orders of them.

The scenes are in rig/interleave_threads.py for one process, in interleave_processes.py,
interleave_leases.py, interleave_slots.py and interleave_upkeep.py for several. Seeds
stir the system calls and mutexes of the core; points stop a process at one of its
calls. A run with another EMBQ_SEED has other seeds.
"""

import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig.interpose import Stage

FIRST = int(os.environ.get("EMBQ_SEED", "1")) * 1000
# A receiver that missed its wake-up looks again after 250 ms.
AWAKE_S, LATE_SHARE = 0.1, 0.05
WAL_BYTES_MAX = 64 << 20
SEEDS_LEAST = 3


class Scenes:
    """The scenes of one module."""

    def __init__(self, module: str, folder: Path) -> None:
        self.stage, self.folder = Stage(module), folder

    def run(self, scene: str, seed: int) -> Any:
        """Run a scene once, on a file of its own."""
        folder = self.folder / f"{scene}{seed}"
        folder.mkdir()
        outcome = self.stage.run(scene, str(folder / "test.db"), seed)
        assert outcome.error is None, f"{scene}, seed {seed}:\n{outcome.error}"
        return outcome.get()

    def many(self, scene: str, seconds: float) -> list[Any]:
        """Run a scene under one seed after the other for so long, a few at least."""
        end, seed, found = time.monotonic() + seconds, FIRST, []
        while time.monotonic() < end or len(found) < SEEDS_LEAST:
            found.append(self.run(scene, seed))
            seed += 1
        return found


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    """The scenes of one process."""
    scenes = Scenes("rig.interleave_threads", tmp_path_factory.mktemp("threads"))
    yield scenes
    scenes.stage.close()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    """The scenes of processes that share a file."""
    scenes = Scenes("rig.interleave_processes", tmp_path_factory.mktemp("processes"))
    yield scenes
    scenes.stage.close()


@pytest.fixture(scope="module")
def leases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    """The scenes of leases that end."""
    scenes = Scenes("rig.interleave_leases", tmp_path_factory.mktemp("leases"))
    yield scenes
    scenes.stage.close()


@pytest.fixture(scope="module")
def slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    """The scenes of slots that are taken and left."""
    scenes = Scenes("rig.interleave_slots", tmp_path_factory.mktemp("slots"))
    yield scenes
    scenes.stage.close()


@pytest.fixture(scope="module")
def upkeep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    """The scenes of queues that are kept up beside their users."""
    scenes = Scenes("rig.interleave_upkeep", tmp_path_factory.mktemp("upkeep"))
    yield scenes
    scenes.stage.close()


def test_what_returned_is_committed(threads: Scenes) -> None:
    """Send, ticket, ack and auto_ack return after their commit, never before."""
    threads.many("confirm", 3.0)


def test_what_was_staged_is_flushed(threads: Scenes) -> None:
    """`flush` returns when all that its thread staged is in the file."""
    threads.many("flush", 2.0)


def test_close_beside_every_verb(threads: Scenes) -> None:
    """CASE 32: `close` ends threads in every verb; each told the truth."""
    threads.many("close", 4.0)


def test_fork_beside_every_verb(threads: Scenes) -> None:
    """CASES 30 and 31: forks beside threads in every verb lose and double nothing."""
    threads.many("fork", 4.0)


def test_time_limits_beside_the_leader(threads: Scenes) -> None:
    """CASE 25: what is Busy is not stored; what may be stored is CommitUncertain."""
    ends = sum(threads.many("limits", 4.0), Counter())
    assert min(ends.values()) > 0, f"one kind of end did not happen: {ends}"


def test_no_wake_up_is_lost(processes: Scenes) -> None:
    """A receiver that waits for ever has what another sent at once."""
    waits = [wait for found in processes.many("wake", 4.0) for wait in found]
    assert statistics.median(waits) < AWAKE_S
    late = sum(wait > AWAKE_S for wait in waits)
    assert late <= len(waits) * LATE_SHARE, f"{late} of {len(waits)} were late"


def test_a_lease_that_ends_beside_its_ack(leases: Scenes) -> None:
    """CASE 47: acked here, or handed out there, never both."""
    ends = sum(leases.many("expire", 3.0), Counter())
    assert min(ends["acked"], ends["the other's"]) > 0, ends


def test_what_is_given_back_beside_its_deadline(leases: Scenes) -> None:
    """CASE 49: claimed ahead, given back or run out: handled once, counted once."""
    ends = sum(leases.many("give_back", 3.0), Counter())
    assert min(ends["here"], ends["there"], ends["lost"]) > 0, ends


def test_a_slot_that_is_taken_again(slots: Scenes) -> None:
    """CASE 17: the dead give back what they held; who came after keeps its own."""
    slots.many("slots", 3.0)


def test_a_file_that_16_processes_make(processes: Scenes) -> None:
    """CASE 2: 16 processes open a file of 0 bytes at once: one schema."""
    processes.many("opening", 3.0)


def test_checkpoints_beside_writers(processes: Scenes) -> None:
    """CASE 29: checkpoints beside writers lose nothing, and keep the WAL bounded."""
    assert max(processes.many("checkpoints", 3.0)) < WAL_BYTES_MAX


def test_an_owner_that_is_stopped_in_its_ack(leases: Scenes) -> None:
    """CASE 19: stopped at any call of an ack, it is acked, or another's, never both."""
    _, calls = leases.run("stop", 0)
    assert calls > 10, "the calls of an ack are not seen"
    ends = Counter(leases.run("stop", point)[0] for point in range(1, calls + 1))
    assert min(ends["acked"], ends["LeaseLost"]) > 3, ends


def test_a_slot_of_a_process_that_closes(slots: Scenes) -> None:
    """What is held at a close comes at once, also from a slot that was just left."""
    when = [slots.run("leave", point) for point in range(1, 31)]
    assert when.count("between") > 2, f"the moment was not met: {when}"


def test_a_purge_beside_users(upkeep: Scenes) -> None:
    """Each message is handled, purged or there, once; what is held stays."""
    ends = sum(upkeep.many("purge", 1.5), Counter())
    assert min(ends["acked"], ends["purged"]) > 0, ends


def test_a_cancel_beside_a_claim(upkeep: Scenes) -> None:
    """A message is cancelled, or handed out once, and the answer says which."""
    ends = sum(upkeep.many("cancel", 1.5), Counter())
    assert min(ends["cancelled"], ends["held"] + ends["gone"]) > 0, ends


def test_a_configure_beside_sends(upkeep: Scenes) -> None:
    """It holds from the next send on, in each process, and loses no other option."""
    upkeep.many("configure", 1.0)


def test_one_dedup_id_from_two_processes(upkeep: Scenes) -> None:
    """It is stored once, whoever is first, and all are told the same id."""
    firsts = upkeep.many("once", 1.5)
    assert sum(firsts) > 0, "the other process was never first"
