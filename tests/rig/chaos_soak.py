"""`make soak`: rounds of chaos on one file for an hour, each judged, and a process that
lives through all of them, whose descriptors, threads and memory must stay flat, as must
the file and its WAL. Usage: soak.py SECONDS [SEED]"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from chaos import Chaos
from steady import flat, read_samples

ROUND_S = 90.0


def main() -> None:
    """Run; exit with 1 when anything was wrong, and leave the histories of that."""
    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if sys.argv[2:] else int.from_bytes(os.urandom(4))
    folder = Path(tempfile.mkdtemp(prefix="embq-soak-"))
    print(f"{seconds:.0f} s of chaos, seed {seed}, in {folder}", flush=True)
    chaos = Chaos(folder, seed)
    end, failed = time.monotonic() + seconds, False
    try:
        while (left := end - time.monotonic()) > 0:
            verdict = chaos.run(min(left, ROUND_S))
            numbers = ", ".join(f"{k} {n}" for k, n in sorted(verdict.numbers.items()))
            print(f"round {chaos.rounds}: {numbers}", flush=True)
            if verdict.problems:
                failed = True
                print(verdict, flush=True)
            else:
                shutil.rmtree(chaos.histories)
    finally:
        chaos.close()
    samples = read_samples(chaos.samples)
    grown = flat(samples)
    print(f"{len(samples)} samples; the first {samples[0]}, the last {samples[-1]}")
    for problem in grown:
        print(f"NOT FLAT: {problem}")
    if failed or grown:
        sys.exit(f"failed; what was seen is in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
