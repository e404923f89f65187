"""Soak: rounds of chaos on one file for an hour, each judged.

The descriptors, threads and memory of a process that lives through all of them must
stay flat, and so must the file and its WAL. Started as a module: SECONDS [SEED].
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rig.chaos import Chaos
from rig.chaos_steady import flat, read_samples

ROUND_S = 90.0


def say(text: object) -> None:
    """Tell how it goes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Run; exit with 1 when anything was wrong, and leave the histories of that."""
    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if sys.argv[2:] else int.from_bytes(os.urandom(4))
    folder = Path(tempfile.mkdtemp(prefix="embq-soak-"))
    say(f"{seconds:.0f} s of chaos, seed {seed}, in {folder}")
    chaos = Chaos(folder, seed)
    end, failed = time.monotonic() + seconds, False
    try:
        while (left := end - time.monotonic()) > 0:
            verdict = chaos.run(min(left, ROUND_S))
            numbers = ", ".join(f"{k} {n}" for k, n in sorted(verdict.numbers.items()))
            say(f"round {chaos.rounds}: {numbers}")
            if verdict.problems:
                failed = True
                say(verdict)
            else:
                shutil.rmtree(chaos.histories)
    finally:
        chaos.close()
    samples = read_samples(chaos.samples)
    say(f"{len(samples)} samples; the first {samples[0]}, the last {samples[-1]}")
    grown = flat(samples)
    for problem in grown:
        say(f"NOT FLAT: {problem}")
    if failed or grown:
        sys.exit(f"failed; what was seen is in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
