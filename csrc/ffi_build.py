"""Write the C source of the two cffi units from the one header.

``embq_api.h`` is read as text, so what Python sees and what C compiles cannot differ.
The line ``MARK`` splits it: calls above it may wait and give up the GIL while they do,
calls below it never wait and keep the GIL.
"""

import contextlib
import sys
from pathlib import Path

from cffi import FFI

HEADER = Path(__file__).with_name("embq_api.h")
MARK = "/* ==== NEVER BLOCKS ==== */"

# Giving up the GIL costs nothing, taking it back beside a computing thread costs up to
# the switch interval (5 ms). The generated wrappers of the second unit therefore keep
# it.
KEEP_GIL = """\
#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }
"""
# cffi's own code calls alloca(), which strict C11 headers do not bring along.
INCLUDE = '#include <alloca.h>\n#include "embq.h"\n'


def units() -> tuple[FFI, FFI]:
    """Build the cffi descriptions of both units.

    Returns:
        ``embq._blocking``, with all types and constants, and ``embq._instant``, which
        includes it, so that a buffer of one can be passed to the other.
    """
    above, mark, below = HEADER.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        msg = f"{HEADER} has no line {MARK!r}"
        raise SystemExit(msg)
    blocking = FFI()
    blocking.cdef(above)
    blocking.set_source("embq._blocking", INCLUDE)
    instant = FFI()
    instant.include(blocking)
    instant.cdef(below)
    instant.set_source("embq._instant", KEEP_GIL + INCLUDE)
    return blocking, instant


def write(folder: Path) -> list[str]:
    """Write ``_blocking.c`` and ``_instant.c`` into a folder; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for ffi, name in zip(units(), ("_blocking.c", "_instant.c"), strict=True):
        path = str(folder / name)
        with contextlib.redirect_stdout(None):  # cffi says what it generates
            ffi.emit_c_code(path)
        paths.append(path)
    return paths


if __name__ == "__main__":
    write(Path(sys.argv[1]))
