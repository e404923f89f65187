"""The state machine over the core, over the model, and over queues that are broken."""

# ruff: noqa: D102  (the subjects do what the protocol in machine.py says)
from __future__ import annotations

import functools
import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import model
import pytest
from clock import ClockFile
from comparison import CHILD, HERE
from conftest import DEATH_NOTICED_S
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from machine import Machine
from model import ModelBroker
from model_file import BLOCKED, OUTCOMES, STATES, Entry, ModelFile
from model_message import ModelMessage
from worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUEUES_SQL = f"""
    select name, messages, in_flight, {", ".join(OUTCOMES)}
    from embq_queues
"""
MESSAGES_SQL = """
    select queue, row, id, state, due_at_ms, receive_count, suspect
    from embq_messages
"""
COMMON = settings(
    deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


class ModelSubject:
    """A second model in the place of the core; `file_class` may be a broken one."""

    def __init__(self, clock: ClockFile, file_class: type[ModelFile]) -> None:
        self.clock, self.file_class = clock, file_class

    def start(self) -> list[Any]:
        self.file = self.file_class(self.clock)
        self.brokers = [ModelBroker(self.file), ModelBroker(self.file)]
        return list(self.brokers)

    def reopen(self, process: int) -> Any:
        self.brokers[process].close()
        self.brokers[process] = ModelBroker(self.file)
        return self.brokers[process]

    def kill_child(self) -> None:
        self.brokers[CHILD].kill()

    def restart_child(self) -> Any:
        self.brokers[CHILD] = ModelBroker(self.file)
        return self.brokers[CHILD]

    def settle_down(self, agrees: Callable[[], bool]) -> None:
        assert agrees()

    def views(self) -> tuple[list[Any], list[Any]]:
        queues = []
        for name in self.file.queues:
            stats = self.file.stats(name)
            columns = ("messages", "in_flight", *OUTCOMES)
            queues.append((name, *(stats[column] for column in columns)))
        messages = [
            (
                name,
                e.row,
                e.id,
                self.file.state(e),
                e.due_ms,
                e.receive_count,
                e.suspect,
            )
            for name, stored in self.file.queues.items()
            for e in stored.entries.values()
        ]
        return queues, messages

    def end(self) -> None:
        """Nothing is open."""


class CoreSubject:
    """The core: this process, a child, and a third process that reads the views."""

    def __init__(self, clock: ClockFile, folder: Path) -> None:
        self.clock, self.folder = clock, folder
        self.viewer = Worker()
        self.child = Worker(clock.path)
        self.files = 0

    def start(self) -> list[Any]:
        self.files += 1
        self.path = self.folder / f"{self.files}.db"
        self.here: Any = None
        return [self._open_here(), self._open_child()]

    def _open_here(self) -> Any:
        import embq  # noqa: PLC0415  (the model's machine runs without the core)

        self.here = embq.open(self.path, durability="normal")
        return self.here

    def _open_child(self) -> Any:
        return self.child.open(self.path, durability="normal")

    def reopen(self, process: int) -> Any:
        if process == HERE:
            self.here.close()
            return self._open_here()
        self.child.ask("close")
        return self._open_child()

    def kill_child(self) -> None:
        self.child.kill()

    def restart_child(self) -> Any:
        self.child = Worker(self.clock.path)
        return self._open_child()

    def settle_down(self, agrees: Callable[[], bool]) -> None:
        end = time.monotonic() + DEATH_NOTICED_S
        while not agrees():
            assert time.monotonic() < end, (
                "a killed process's leases were not given back"
            )
            time.sleep(0.02)

    def views(self) -> tuple[list[Any], list[Any]]:
        queues, messages = self.viewer.sql(self.path, QUEUES_SQL, MESSAGES_SQL)
        return queues, messages

    def end(self) -> None:
        assert self.here.check() == []
        if self.child.process.poll() is None:
            self.child.ask("close")
        else:
            self.child = Worker(self.clock.path)
        self.here.close()

    def stop(self) -> None:
        self.child.stop()
        self.viewer.stop()


@pytest.fixture
def core(clock: ClockFile, tmp_path: Path) -> Iterator[CoreSubject]:
    """Two processes and a reader, used by all examples in turn."""
    from embq import _native  # noqa: PLC0415

    _native.use_clock(str(clock.path))
    subject = CoreSubject(clock, tmp_path)
    yield subject
    subject.stop()
    _native.use_clock(None)


def test_the_core_does_what_the_model_does(core: CoreSubject) -> None:
    """CASES 17, 45-47, 50: whatever two processes do, the results are the model's."""
    run_state_machine_as_test(
        lambda: Machine(core, core.clock, kills=1),
        settings=settings(COMMON, max_examples=60, stateful_step_count=40),
    )


def test_the_machine_runs_over_the_model(clock: ClockFile) -> None:
    """The machine finds no difference between two models: it is sound itself."""
    run_state_machine_as_test(
        lambda: Machine(ModelSubject(clock, ModelFile), clock, kills=3),
        settings=settings(COMMON, max_examples=40, stateful_step_count=50),
    )


class NeverSuspects(ModelFile):
    """A broken queue: what a dead process held joins batches again."""

    def wait(self, entry: Entry, *, due_ms: int, suspect: bool = False) -> None:
        super().wait(entry, due_ms=due_ms, suspect=suspect and False)


class IgnoresDeaths(ModelFile):
    """A broken queue: leases end by their deadline only."""

    def notice(self, dead: ModelBroker | None = None) -> None:  # noqa: ARG002
        super().notice(None)


class BuriesLate(ModelFile):
    """A broken queue: one delivery more than max_receives."""

    def is_last(self, stored: Any, entry: Entry) -> bool:
        entry.receive_count -= 1
        last = super().is_last(stored, entry)
        entry.receive_count += 1
        return last


class ForgetsWaits(ModelFile):
    """A broken queue: what waits is new again."""

    def state(self, entry: Entry) -> str:
        entry.due_ms = None
        return super().state(entry)


class NothingPerishes(ModelFile):
    """A broken queue: what is too old is handed out."""

    def perish(self) -> None:
        pass


class ForgetsPriority(ModelFile):
    """A broken queue: what waits again is of the default priority."""

    def wait(self, entry: Entry, *, due_ms: int, suspect: bool = False) -> None:
        entry.priority = 4
        super().wait(entry, due_ms=due_ms, suspect=suspect)


BROKEN = (
    NeverSuspects,
    IgnoresDeaths,
    BuriesLate,
    ForgetsWaits,
    NothingPerishes,
    ForgetsPriority,
)


@pytest.mark.parametrize("broken", BROKEN)
def test_the_machine_finds_what_is_broken(
    clock: ClockFile, broken: type[ModelFile]
) -> None:
    """A queue with one rule broken is found out, so a green machine means something."""
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            lambda: Machine(ModelSubject(clock, broken), clock, kills=3),
            settings=settings(
                COMMON,
                max_examples=2000,
                stateful_step_count=50,
                phases=[Phase.generate],
                database=None,
                derandomize=True,
                print_blob=False,
            ),
        )


def test_the_machine_finds_a_lost_ack(
    clock: ClockFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verb that does nothing on one side is found out at once."""
    calls: Counter[str] = Counter()
    ack = ModelMessage.ack

    @functools.wraps(ack)
    def lost(message: ModelMessage) -> None:
        calls["ack"] += 1
        if calls["ack"] % 2:  # the model is asked first, then the subject
            ack(message)

    monkeypatch.setattr(ModelMessage, "ack", lost)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            lambda: Machine(ModelSubject(clock, ModelFile), clock, kills=3),
            settings=settings(
                COMMON, max_examples=100, phases=[Phase.generate], database=None
            ),
        )


def test_one_set_of_words_for_the_states(path: Path, children: Any) -> None:
    """The model, the view's SQL and ARCHITECTURE.md's lifecycle have the same words."""
    children.run(
        """
        import sys, embq
        embq.open(sys.argv[1]).close()
        """,
        path,
    )
    reader = Worker()
    try:
        answer = reader.sql(
            path, "select sql from sqlite_master where name = 'embq_messages'"
        )
    finally:
        reader.stop()
    ((view,),) = answer[0]
    root = Path(__file__).parents[1]
    text = (root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    found = re.search(r"^```lifecycle\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found, "ARCHITECTURE.md has no block that starts with ```lifecycle"
    in_diagram = set(re.findall(r"\[([a-z_]+)\]", found[1]))
    in_model = set(re.findall(r"\[([a-z_]+)\]", model.__doc__ or ""))
    in_view = set(re.findall(r"(?:then|else)\s+'([a-z_]+)'", view, re.IGNORECASE))
    states = {*STATES, BLOCKED}
    assert in_view == states, f"the view says {in_view}"
    assert in_model == states, f"the model's diagram says {in_model}"
    assert in_diagram == states, f"the states in [brackets] are {in_diagram}"
