"""The C tests, under AddressSanitizer and UndefinedBehaviorSanitizer."""

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
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.mark.parametrize("source", TESTS, ids=[test.stem for test in TESTS])
def test_c(source: Path, tmp_path: Path) -> None:
    """Every CHECK of the program holds, and the sanitizers find nothing."""
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        pytest.skip(f"NO C TESTS: there is no C compiler {compiler!r}")
    path = tmp_path / "test.db"
    embq.open(path).close()
    program = tmp_path / source.stem
    files = [str(source), *map(str, sorted(CSRC.glob("*.c")))]
    folders = ["-I", str(CSRC), "-I", str(source.parent)]
    libraries = ["-ldl", "-lm", "-lpthread"]
    subprocess.run(
        [compiler, *FLAGS, *SANITIZE, *folders, *files, "-o", str(program), *libraries],
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
