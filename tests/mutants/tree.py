"""A copy of the project to plant bugs in: built once, then file by file."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("csrc", "embq", "tests", "pyproject.toml", "setup.py", "README.md")
PARTS += ("ARCHITECTURE.md", "CONTRIBUTING.md")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.so", ".*")
FLAGS = [
    "-std=c11", "-fPIC", "-fvisibility=hidden", "-DPy_LIMITED_API=0x030b0000",
]  # fmt: skip
LIBRARIES = ["-ldl", "-lm", "-lpthread"]
CORE = Path("embq", "_core.abi3.so")
COMPILER = os.environ.get("CC", "cc")


class Tree:
    """One copy, with the objects that its core is linked from.

    Args:
        folder: Where.
        optimize: The compiler's option: quickly made, or as in the product.
    """

    def __init__(self, folder: Path, optimize: str = "-O1") -> None:
        self.optimize = optimize
        self.root = folder / "tree"
        self.objects = folder / "objects"

    def fill(self) -> None:
        """Copy the project as it stands, changes not yet committed and all."""
        self.root.mkdir(parents=True)
        for part in PARTS:
            source, target = ROOT / part, self.root / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=LEFT_OUT)
            else:
                shutil.copy(source, target)

    def build(self, *changed: str) -> None:
        """Compile the changed C files (a header: all of them), and link the core."""
        sources = [self.root / file for file in changed if file.endswith(".c")]
        if not changed or any(file.endswith(".h") for file in changed):
            self.objects.mkdir(exist_ok=True)
            units = runpy.run_path(str(self.root / "csrc" / "ffi_build.py"))
            generated = units["write"](self.objects)
            sources = [*(self.root / "csrc").glob("*.c"), *map(Path, generated)]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._compile, sources))
        objects = sorted(map(str, self.objects.glob("*.o")))
        run(COMPILER, "-shared", *objects, "-o", str(self.root / CORE), *LIBRARIES)

    def _compile(self, source: Path) -> None:
        include = ["-I", str(self.root / "csrc"), "-I", sysconfig.get_path("include")]
        target = self.objects / f"{source.stem}.o"
        run(
            COMPILER,
            *FLAGS,
            self.optimize,
            *include,
            "-c",
            str(source),
            "-o",
            str(target),
        )

    def copy_to(self, folder: Path) -> Tree:
        """Make a second one like it."""
        other = Tree(folder, self.optimize)
        shutil.copytree(self.root, other.root)
        shutil.copytree(self.objects, other.objects)
        return other

    def plant(self, mutant: Mutant) -> None:
        """Put the bug in, and build what it needs."""
        for edit in mutant.edits:
            edit.plant(self.root)
        files = [edit.file for edit in mutant.edits if edit.file.startswith("csrc/")]
        if files:
            self.build(*files)

    def heal(self, mutant: Mutant, sound: Tree) -> None:
        """Take it out again."""
        for edit in mutant.edits:
            shutil.copy(sound.root / edit.file, self.root / edit.file)
            if edit.file.endswith(".h"):
                shutil.copytree(sound.objects, self.objects, dirs_exist_ok=True)
            stem = Path(edit.file).stem
            if edit.file.endswith(".c"):
                shutil.copy(sound.objects / f"{stem}.o", self.objects)
        shutil.copy(sound.root / CORE, self.root / CORE)

    def environment(self, name: str) -> dict[str, str]:
        """Give what makes a process of this tree use this tree's embq."""
        return {**os.environ, "PYTHONPATH": str(self.root), "EMBQ_MUTANT": name}

    def check(self) -> None:
        """Make sure of it: a test of another embq would prove nothing."""
        code = "import embq; print(embq.__file__)"
        out = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.root,
            env=self.environment(""),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        if not out.startswith(f"{self.root}/"):
            msg = f"the copy in {self.root} is not used: {out}"
            raise SystemExit(msg)


def run(*command: str) -> None:
    """Run a tool of the build; what it says is the reason when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"{' '.join(command)}\n{done.stderr}"
        raise RuntimeError(msg)
