"""Chaos: a file in heavy weather for half a minute, judged by what was seen.

`make soak` does the same for an hour. A run is chosen by its seed, EMBQ_SEED, but the
scheduler has a say in it: the same seed is no promise of the same end.
"""

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from clock import ClockFile
from rig.chaos import Chaos
from rig.chaos_steady import FLAT, flat, read_samples

ROUNDS, ROUND_S = 2, 14.0
CLOCK_MS, PATIENCE_S = 1_000_000, 60.0


def test_chaos(tmp_path: Path) -> None:
    """CASES 18, 19, 28, 30, 31, 50 and 56: none lost, none twice, counted, in order."""
    seed = int(os.environ.get("EMBQ_SEED") or int.from_bytes(os.urandom(4)))
    where = f"EMBQ_SEED={seed}; histories in {tmp_path}"
    chaos = Chaos(tmp_path, seed)
    numbers: Counter[str] = Counter()
    try:
        for _ in range(ROUNDS):
            verdict = chaos.run(ROUND_S)
            assert not verdict.problems, f"{where}\n{verdict}"
            numbers += verdict.numbers
    finally:
        chaos.close()
    # That there was weather at all:
    floors = {
        "confirmed": 1400,
        "redelivered": 70,
        "LeaseLost": 14,
        "expired": 35,
        "deaths": 14,
        "stops": 2,
        "perished": 35,
        "deliveries by key": 140,
    }
    calm = {name: numbers[name] for name in floors if numbers[name] < floors[name]}
    assert not calm, f"too calm to prove anything: {calm}\n{where}\n{numbers}"
    samples = read_samples(chaos.samples)
    first, last = samples[1], samples[-1]
    for name in ("descriptors", "threads"):
        assert last[name] <= first[name], f"{name}: {first[name]}, then {last[name]}"


@pytest.mark.parametrize("grows", [None, *FLAT])
def test_what_grows_is_found(grows: str | None) -> None:
    """CASE 59: the judge of a soak finds each measure that grows, and only that."""
    samples = []
    for number in range(100):
        samples.append(dict.fromkeys(FLAT, 10_000_000 + number % 7 * 10_000))
        samples[-1] |= {"descriptors": 20 + number % 2, "threads": 3}
        if grows:
            step = 1 if grows in ("descriptors", "threads") else 1_500_000
            samples[-1][grows] += number // 10 * step
    problems = flat(samples)
    assert [problem.split()[0] for problem in problems] == ([grows] if grows else [])


def test_the_clock_is_seen_whole(clock: ClockFile, children: Any) -> None:
    """What moves the clock shows no other process a time that never was."""
    child = children.start(
        """
        import sys
        from pathlib import Path

        sys.path.insert(0, sys.argv[2])
        from clock import ClockFile

        clock = ClockFile(Path(sys.argv[1]), fresh=False)
        while True:
            clock.advance(0.005)
        """,
        clock.path,
        Path(__file__).parent,
    )
    first = last = clock.boot_ms
    end = time.monotonic() + PATIENCE_S
    while last < first + CLOCK_MS:
        now = clock.boot_ms
        assert now >= last, f"{now} after {last}"
        assert time.monotonic() < end, "the clock stands still"
        last = now
    child.kill()
