"""Fuzz the core: any bytes as a database file, any bytes across the C boundary.

    python tests/fuzz/run.py [--seconds 60] [TARGET ...]     look for new crashes
    python tests/fuzz/run.py --keep FOLDER TARGET            new inputs into the corpus
    python tests/fuzz/run.py --coverage                      lines of csrc reached

libFuzzer, as it comes with clang: one process makes all cases, each of which opens and
closes a real file, and both sanitizers watch. AFL++ has a persistent mode that does the
same, but is one more package; atheris would see the boundary through msgspec and cffi,
which already refuse most of what C must not trust. SQLite is the system's and is not
instrumented: what guides the search are the branches of our own code. As bytes flipped
at random mostly end at SQLite's own checks, an input is a list of records (fuzz.h)
which the mutator keeps whole, and most damage is done with SQL (damage.c).

A crash is written to tests/fuzz/found/. Mend what it found, then move it to
tests/fuzz/corpus/TARGET/ under a name that says what it was: `make test` replays it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz_program import (
    CORPUS,
    HERE,
    SANITIZE,
    TARGETS,
    build,
    environment,
    work_folder,
)

FOUND = HERE / "found"
CASE_S = 10  # a case that takes longer hangs
MEMORY_MB = 2048
INPUT_MAX = 4096
KEPT_MAX = 250  # inputs of a target: they are replayed by each `make test`
LIBFUZZER = ["-DEMBQ_LIBFUZZER"]


def fuzzer(folder: Path) -> Path:
    """Build the program for libFuzzer."""
    return build(
        folder,
        "clang",
        core=[*SANITIZE, "-fsanitize=fuzzer-no-link"],
        own=[*SANITIZE, *LIBFUZZER],
        link=[*SANITIZE, "-fsanitize=fuzzer"],
    )


def fuzz(program: Path, target: str, seconds: int, grown: Path) -> int:
    """Run one target; new inputs go to `grown`, crashes to FOUND."""
    FOUND.mkdir(exist_ok=True)
    grown.mkdir(parents=True, exist_ok=True)
    with work_folder() as folder:
        command = [
            str(program),
            f"-max_total_time={seconds}",
            f"-timeout={CASE_S}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-max_len={INPUT_MAX}",
            f"-artifact_prefix={FOUND}/{target}-",
            "-print_final_stats=1",
            "-verbosity=1",
            str(grown),
            str(CORPUS / target),
        ]
        # A leak is told where it can be tied to its input: after each case. The one at
        # exit cannot; the corpus and the C tests are held to none at all.
        options = {"ASAN_OPTIONS": "leak_check_at_exit=0"}
        return subprocess.run(
            command, env={**environment(folder, target), **options}, check=False
        ).returncode


def features(program: Path, target: str, inputs: list[Path]) -> list[set[int]]:
    """Tell what each input reaches, as libFuzzer counts it for a merge."""
    with work_folder() as folder, tempfile.TemporaryDirectory() as scratch:
        control = Path(scratch) / "control"
        for name in ("out", "in"):
            (Path(scratch) / name).mkdir()
        for number, path in enumerate(inputs):
            shutil.copy(path, Path(scratch) / "in" / f"{number:06}")
        command = [str(program), "-merge=1", f"-merge_control_file={control}"]
        command += ["-use_counters=0", f"-timeout={CASE_S}"]
        folders = [str(Path(scratch) / name) for name in ("out", "in")]
        subprocess.run(
            [*command, *folders], env=environment(folder, target), check=True
        )
        lines = control.read_text(encoding="ascii").splitlines()
    count = int(lines[0])
    names = [int(Path(line).name) for line in lines[2 : 2 + count]]
    reached: list[set[int]] = [set() for _ in inputs]
    for line in lines[2 + count :]:
        what, number, *numbers = line.split()
        if what == "COV":
            reached[names[int(number)]] = {int(one) for one in numbers}
    return reached


def keep(program: Path, target: str, grown: Path) -> None:
    """Choose few inputs that reach what all reach together; replace the corpus.

    Inputs with a name of their own are regressions, and stay.
    """
    corpus = CORPUS / target
    own = [path for path in corpus.iterdir() if "-" in path.name]
    others = [path for path in corpus.iterdir() if "-" not in path.name]
    inputs = sorted([*others, *grown.iterdir()], key=lambda path: path.stat().st_size)
    reached = features(program, target, [*own, *inputs])
    covered = set[int]().union(*reached[: len(own)])
    left = dict(zip(inputs, reached[len(own) :], strict=True))
    kept = []
    while left and len(kept) + len(own) < KEPT_MAX:
        best = max(left, key=lambda path: len(left[path] - covered))
        if not left[best] - covered:
            break
        covered |= left.pop(best)
        kept.append(best.read_bytes())
    for path in others:
        path.unlink()
    for number, content in enumerate(kept):
        (corpus / f"{number:04}").write_bytes(content)
    sys.stdout.write(f"{target}: {len(own)} + {len(kept)} inputs\n")


def coverage(folder: Path) -> None:
    """Say how much of each file of the core the corpus reaches."""
    flags = ["-fprofile-instr-generate", "-fcoverage-mapping"]
    program = build(folder, "clang", core=flags, own=[], link=flags)
    profiles = []
    for target in TARGETS:
        profiles.append(folder / f"{target}.profraw")
        with work_folder() as work:
            subprocess.run(
                [str(program), target, *map(str, sorted((CORPUS / target).iterdir()))],
                env={
                    **environment(work, target),
                    "LLVM_PROFILE_FILE": str(profiles[-1]),
                },
                stderr=subprocess.DEVNULL,
                check=True,
            )
    merged = folder / "merged"
    names = [str(profile) for profile in profiles]
    subprocess.run(["llvm-profdata", "merge", *names, "-o", str(merged)], check=True)
    subprocess.run(
        ["llvm-cov", "report", str(program), f"-instr-profile={merged}"], check=True
    )


def main() -> int:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=" or ".join(TARGETS)
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--grown", type=Path, help="a folder that keeps new inputs")
    parser.add_argument("--keep", type=Path, help="take new inputs from this folder")
    parser.add_argument("--coverage", action="store_true")
    given = parser.parse_args()
    targets = given.targets or TARGETS
    if not set(targets) <= set(TARGETS):
        parser.error(f"targets are {', '.join(TARGETS)}")
    if shutil.which("clang") is None:
        parser.error("clang is missing (Debian: clang libclang-rt-dev)")
    with tempfile.TemporaryDirectory(prefix="embq-fuzz-") as name:
        folder = Path(name)
        if given.coverage:
            coverage(folder)
            return 0
        program = fuzzer(folder)
        for target in targets:
            grown = (given.grown or folder / "grown") / target
            if given.keep:
                keep(program, target, given.keep / target)
            elif fuzz(program, target, given.seconds, grown):
                sys.stderr.write(f"{target}: the input is in {FOUND}\n")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
