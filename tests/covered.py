"""`make coverage`: which lines the tests run, in both languages.

A copy of the tree is built for gcov, and the tests run in it under coverage.py, child
processes too. What a killed process ran is not counted: neither tool can write then.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", "build", "dist", "*.so", "__pycache__", ".*_cache", ".hypothesis"
)
CONFIG = """
[run]
source = embq
parallel = true
branch = true
patch =
    subprocess
[report]
show_missing = true
skip_covered = true
"""


def main() -> int:
    """Run the tests that the arguments choose; print a table for each language."""
    with tempfile.TemporaryDirectory(prefix="embq-coverage-") as folder:
        tree = Path(folder, "tree")
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        (tree / ".coveragerc").write_text(CONFIG, encoding="utf-8")
        flags = {"CFLAGS": "--coverage -O0", "LDFLAGS": "--coverage"}
        environment = {**os.environ, **flags, "PYTHONPATH": str(tree)}

        def run(*command: str) -> int:
            python = [sys.executable, *command]
            return subprocess.run(
                python, cwd=tree, env=environment, check=False
            ).returncode

        if run("setup.py", "--quiet", "build_ext", "--inplace"):
            return 1
        failed = run("-m", "coverage", "run", "-m", "pytest", "-q", *sys.argv[1:])
        run("-m", "coverage", "combine", "--quiet")
        run("-m", "coverage", "report")
        run(
            "-m",
            "gcovr",
            "--root",
            str(tree),
            "--filter",
            "csrc/",
            "--exclude",
            "build",
        )
        return failed


if __name__ == "__main__":
    sys.exit(main())
