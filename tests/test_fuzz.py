"""Hostile bytes: the fuzzers' corpus replayed, and what Python reads of a file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

from fuzz_program import CORPUS, TARGETS, build, environment, work_folder

REPLAY_S = 120


@pytest.fixture(scope="module")
def program() -> Path:
    """Compile the targets for the corpus alone, which needs no clang."""
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        pytest.skip(f"NO FUZZ CORPUS: there is no C compiler {compiler!r}")
    return build(Path(tempfile.mkdtemp(prefix="embq-fuzz-")), compiler)


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(program: Path, target: str) -> None:
    """Every input that was ever interesting passes, and the sanitizers find nothing."""
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    with work_folder() as folder:
        done = subprocess.run(
            [str(program), target, *map(str, inputs)],
            env=environment(folder, target),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=REPLAY_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
