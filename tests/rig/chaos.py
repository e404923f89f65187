"""Chaos: processes that use one file in all ways, in heavy weather.

They are killed and stopped, the clock is moved, and others treat the file as a plain
database. What they saw is judged afterwards:

    Chaos(folder, seed).run(seconds) -> Verdict

May be repeated on one file: every round has its own histories and its own verdict.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clock import YEAR_MS, ClockFile
from rig.chaos_roles import (
    BLOCK,
    KEYED,
    LEASE_S,
    MAX_RECEIVES,
    ONCE,
    POISON,
    QUEUES,
    kills,
)
from rig.history import History
from rig.history_file import Recorder, read
from rig.history_judge import Rules, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).resolve().parent.parent
TEAM = (
    "producer", "producer", "consumer", "consumer", "consumer", "ahead", "once",
    "victim", "victim", "poisoner", "foreign", "foreign",
)  # fmt: skip
KILLABLE = {"producer", "consumer", "ahead", "once", "foreign", "poisoner"}
STOPPABLE = {"producer", "consumer", "ahead", "once", "foreign"}
# Mean seconds between two.
KILL_EVERY_S, STOP_EVERY_S, JUMP_EVERY_S, MASSACRE_EVERY_S = 1.2, 2.5, 2.0, 15.0
STOP_S = 0.1, 3.0  # beyond the plain queue's lease
JUMPS_MS = (YEAR_MS, -YEAR_MS, 60_000, -60_000)
TICK_S, TICK_MOST_MS = 0.005, 100
END_S, DRAIN_S = 30.0, 120.0
# After it all leases are over, and all delays, those begun in a wrong year too.
END_OF_ALL_S = 3 * YEAR_MS / 1000


class Ticker:
    """Moves the test's clock as time goes by; a starved machine's time goes slower."""

    def __init__(self, clock: ClockFile) -> None:
        self.clock = clock
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        last = time.monotonic()
        while not self._over.wait(TICK_S):
            passed = int((time.monotonic() - last) * 1000)
            last += passed / 1000
            self.clock.advance(min(passed, TICK_MOST_MS) / 1000)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


class Slot:
    """A place in the team: one process after the other."""

    def __init__(self, chaos: Chaos, role: str, number: int) -> None:
        self.chaos, self.role, self.number = chaos, role, number
        self.lives = 0
        self.stopped_until: float | None = None
        self.start()

    def start(self) -> None:
        """Start the next process of this place."""
        self.lives += 1
        self.name = f"{self.role}{self.number}-{self.lives}"
        self.process = self.chaos.start(self.role, self.name)

    def kill(self) -> None:
        """SIGKILL."""
        self.chaos.record.note("dies", worker=self.name)
        self.process.kill()
        self.process.wait()
        self.stopped_until = None

    def stop(self, seconds: float) -> None:
        """SIGSTOP, for a while."""
        if self.stopped_until is None:
            self.chaos.record.note("stops", worker=self.name)
            self.process.send_signal(signal.SIGSTOP)
            self.stopped_until = time.monotonic() + seconds

    def tend(self) -> None:
        """Let it go on when its time has come; start another when it is dead."""
        if self.stopped_until is not None and time.monotonic() > self.stopped_until:
            self.go_on()
        if self.process.poll() is not None:
            self.chaos.check_end(self.name, self.process)
            self.start()

    def go_on(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)
        self.stopped_until = None


class Chaos:
    """A file, and rounds of chaos on it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.path = folder / "chaos.db"
        self.clock = ClockFile(folder / "clock")
        self.samples = folder / "samples"
        self.steady: subprocess.Popen[str] | None = None
        self.rounds = 0
        self.problems: list[str] = []
        self.rules = {
            queue: Rules(
                lease_ms=round(LEASE_S[queue] * 1000),
                max_receives=MAX_RECEIVES[queue],
                dead_letter=None if queue == ONCE else f"{queue}.dead",
                at_most_once=BLOCK if queue == ONCE else 0,
                by_key=queue == KEYED,
            )
            for queue in QUEUES
        }

    def run(self, seconds: float) -> Verdict:
        """Make one round of so many seconds, with its drain; judge it."""
        self.rounds += 1
        self.rng = random.Random(f"{self.seed} {self.rounds}")
        self.histories = self.folder / f"round{self.rounds}"
        self.histories.mkdir()
        self.problems = []
        self.record = Recorder(self.histories, "chaos.0", self.clock)
        with Ticker(self.clock):
            self.finish(self.start("setup", "setup"), "setup")
            self._steady("goes on")
            with self._team() as slots:
                self._rage(slots, time.monotonic() + seconds)
                self._end(slots)
            self._steady("rests")
            self.clock.advance(END_OF_ALL_S)
            self.finish(self.start("drain", "drain"), "drain")
        self.record.close()
        return self._judge()

    def _judge(self) -> Verdict:
        history = History(read(self.histories))
        verdict = judge(history, self.rules)
        for queue, name in history.handouts:
            if queue == f"{POISON}.dead" and not kills(name):
                verdict.problems.append(f"buried beside the poison: {name}")
        verdict.numbers["deaths"] = sum(e.op == "dies" for e in history.leavings)
        verdict.numbers["stops"] = len(history.stalls)
        verdict.problems += self.problems
        return verdict

    # ---- processes ----

    def _steady(self, word: str) -> None:
        """Have the process that lives through all rounds go on or rest."""
        if self.steady is None:
            places = [self.path, self.clock.path, self.samples]
            self.steady = subprocess.Popen(
                [sys.executable, "-m", "rig.chaos_steady", *map(str, places)],
                cwd=TESTS,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            return
        assert self.steady.stdin
        assert self.steady.stdout
        watchdog = threading.Timer(END_S, self.steady.kill)
        watchdog.start()
        try:
            self.steady.stdin.write("\n")
            self.steady.stdin.flush()
            answer = self.steady.stdout.readline().strip()
        except BrokenPipeError:
            answer = "dead"
        watchdog.cancel()
        if answer != word:
            self.problems.append(f"steady: {answer!r}, not {word!r}")

    def close(self) -> None:
        """End the process that lives through all rounds."""
        if self.steady is None:
            return
        try:
            self.steady.communicate(timeout=END_S)  # closes its stdin first
        except subprocess.TimeoutExpired:
            self.steady.kill()
            self.steady.communicate()

    def start(self, role: str, name: str) -> subprocess.Popen[bytes]:
        """Start a process; its stderr goes into a file."""
        places = [self.path, self.histories, self.clock.path]
        if role == "foreign":
            command = ["chaos_foreign", self.path, f"{self.seed} {name}"]
        elif role in ("setup", "drain"):
            command = ["chaos_drain", role, *places]
        else:
            command = ["chaos_roles", role, name, *places, self.seed]
        with (self.histories / f"{name}.err").open("wb") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", f"rig.{command[0]}", *map(str, command[1:])],
                cwd=TESTS,
                stdin=subprocess.DEVNULL,
                stderr=errors,
            )

    def finish(self, process: subprocess.Popen[bytes], name: str) -> None:
        """Wait for one that ends by itself."""
        try:
            process.wait(DRAIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.problems.append(f"stuck: {name}")
        self.check_end(name, process)

    def check_end(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Note the end of a process that was not to be."""
        if process.returncode not in (0, -signal.SIGKILL):
            text = (self.histories / f"{name}.err").read_text()[-3000:]
            self.problems.append(f"exit: {name}: {process.returncode}\n{text}")

    @contextmanager
    def _team(self) -> Iterator[list[Slot]]:
        slots: list[Slot] = []
        try:
            for number, role in enumerate(TEAM):
                slots.append(Slot(self, role, number))
            yield slots
        finally:
            for slot in slots:
                if slot.process.poll() is None:
                    slot.process.kill()
                    slot.process.wait()

    # ---- the rage ----

    def _rage(self, slots: list[Slot], end: float) -> None:
        now = time.monotonic()
        plans = {
            self._kill: KILL_EVERY_S,
            self._stop: STOP_EVERY_S,
            self._jump: JUMP_EVERY_S,
            self._massacre: MASSACRE_EVERY_S,
        }
        due = {act: now + self.rng.expovariate(1 / s) for act, s in plans.items()}
        while now < end:
            time.sleep(0.02)
            now = time.monotonic()
            for act, every_s in plans.items():
                if now >= due[act]:
                    act(slots)
                    due[act] = now + self.rng.expovariate(1 / every_s)
            for slot in slots:
                slot.tend()

    def _kill(self, slots: list[Slot]) -> None:
        self.rng.choice([slot for slot in slots if slot.role in KILLABLE]).kill()

    def _stop(self, slots: list[Slot]) -> None:
        slot = self.rng.choice([slot for slot in slots if slot.role in STOPPABLE])
        slot.stop(self.rng.uniform(*STOP_S))

    def _massacre(self, slots: list[Slot]) -> None:
        """Kill all at once: the file is closed by nobody."""
        for slot in slots:
            if slot.role != "victim":
                slot.kill()

    def _jump(self, _slots: list[Slot]) -> None:
        """Set the wall clock wrong for a moment."""
        jump_s = self.rng.choice(JUMPS_MS) / 1000
        self.clock.jump(jump_s)
        time.sleep(self.rng.uniform(0, 0.3))
        self.clock.jump(-jump_s)

    def _end(self, slots: list[Slot]) -> None:
        """End half of them in order, and the others not."""
        for slot in slots:
            if slot.stopped_until is not None:
                slot.go_on()
            if slot.role in KILLABLE and self.rng.random() < 0.5:
                slot.kill()
            else:
                slot.process.terminate()
        end = time.monotonic() + END_S
        for slot in slots:
            try:
                slot.process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                slot.process.send_signal(signal.SIGABRT)  # faulthandler tells where
                slot.process.wait()
                self.problems.append(f"stuck: {slot.name} after SIGTERM")
            if slot.process.returncode != -signal.SIGTERM:  # it had hardly begun
                self.check_end(slot.name, slot.process)
