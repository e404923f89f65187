"""Build the fuzz targets, and make the folder that they work in."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import embq

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
CORPUS = HERE / "corpus"
TARGETS = ("database", "boundary")
FLAGS = ["-std=gnu11", "-g", "-O1", "-fno-omit-frame-pointer", "-Wall", "-Wextra"]
FLAGS += ["-DEMBQ_COUNT_OPS"]  # an operation that is left over at the end of a case
FOLDERS = ["-I", str(CSRC), "-I", str(HERE)]
LIBRARIES = ["-ldl", "-lm", "-lpthread", "-lrt"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def build(
    folder: Path,
    compiler: str,
    *,
    core: list[str] = SANITIZE,
    own: list[str] = SANITIZE,
    link: list[str] = SANITIZE,
) -> Path:
    """Compile the core and the targets, on all processors, and link them.

    Args:
        folder: Where the object files and the program go.
        compiler: Which.
        core: Flags for the core: what the fuzzer is to learn from.
        own: Flags for the targets themselves.
        link: Flags for the linker.

    Returns:
        The program.
    """
    program = folder / "fuzz"
    flags = {CSRC: core, HERE: own}
    sources = [path for place in flags for path in sorted(place.glob("*.c"))]

    def compile_one(source: Path) -> str:
        target = folder / f"{source.parent.name}-{source.stem}.o"
        command = [compiler, *FLAGS, *flags[source.parent], *FOLDERS, "-c", str(source)]
        subprocess.run([*command, "-o", str(target)], check=True, timeout=120)
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    command = [compiler, *link, *objects, "-o", str(program), *LIBRARIES]
    subprocess.run(command, check=True, timeout=120)
    return program


@contextmanager
def work_folder() -> Iterator[Path]:
    """Make a folder for one run of a target, in memory where the machine allows."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="embq-fuzz-", dir=place))
    try:
        with embq.open(folder / "empty.db") as broker:
            broker.ping()
        yield folder
    finally:
        shutil.rmtree(folder)


def environment(folder: Path, target: str) -> dict[str, str]:
    """Name the folder and the target for the program."""
    return {
        **os.environ,
        "EMBQ_FUZZ_FOLDER": str(folder),
        "EMBQ_FUZZ_TARGET": target,
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
