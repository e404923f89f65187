"""The C tests under sanitizers: addresses and undefined behaviour; threads, data races.

A `test_c[NAME-asan]` is NAME under AddressSanitizer and UndefinedBehaviorSanitizer. The
test of threads runs under ThreadSanitizer as well: `-k tsan`. Nothing is suppressed.
SQLite itself is not instrumented: what it does inside is not seen, what we do around it
is.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import embq

HERE = Path(__file__).parent
CSRC = HERE.parent / "csrc"
TESTS = sorted((HERE / "c").glob("test_*.c"))
FLAGS = ["-std=c11", "-g", "-O1", "-fno-omit-frame-pointer", "-Wall", "-Wextra"]
SANITIZE = {
    "asan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    # gcc says that ThreadSanitizer knows no fences. Ours stand between accesses that
    # are atomic, so their absence can neither hide a race nor make one up.
    "tsan": ["-fsanitize=thread", "-Wno-tsan"],
}
RUNS = [(test, "asan") for test in TESTS]
RUNS += [(test, "tsan") for test in TESTS if test.stem == "test_threads"]


@pytest.mark.parametrize(
    ("source", "sanitizer"), RUNS, ids=[f"{test.stem}-{by}" for test, by in RUNS]
)
def test_c(source: Path, sanitizer: str, tmp_path: Path) -> None:
    """Every CHECK of the program holds, and the sanitizers find nothing."""
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        pytest.skip(f"NO C TESTS: there is no C compiler {compiler!r}")
    path = tmp_path / "test.db"
    embq.open(path).close()
    program = tmp_path / source.stem
    files = [str(source), *map(str, sorted(CSRC.glob("*.c")))]
    flags = [*FLAGS, *SANITIZE[sanitizer], "-I", str(CSRC), "-I", str(source.parent)]
    libraries = ["-ldl", "-lm", "-lpthread"]
    subprocess.run(
        [compiler, *flags, *files, "-o", str(program), *libraries],
        check=True,
        timeout=120,
    )
    arguments = [str(path)] if source.stem != "test_pack" else []
    done = subprocess.run(
        [str(program), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
