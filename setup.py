"""Build the one extension, ``embq._core``; everything else stands in pyproject.toml."""

import importlib.util
import os
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Relative, as setuptools wants them: it runs this file from its own folder.
CSRC = Path("csrc")
SOURCES = sorted(str(path) for path in CSRC.glob("*.c"))
DEPENDS = [*map(str, sorted(CSRC.glob("*.h"))), str(CSRC / "ffi_build.py"), "setup.py"]

# The limited API of the oldest supported Python: one wheel serves all later ones.
ABI = "cp311"
ABI_HEX = "0x030b0000"
# The headers of a free-threaded build refuse it.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")

FLAGS = [
    "-std=c11",
    "-O2",
    "-fvisibility=hidden",  # exported are PyInit_* and sqlite3_extension_init only
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wstrict-prototypes",
]
# cffi's generated wrappers: not ours to warn about.
QUIET = ["-Wno-unused-parameter", "-Wno-missing-field-initializers"]
LIBRARIES = ["dl", "m", "pthread"] if sys.platform == "linux" else []


class BuildCore(build_ext):
    """Generate the cffi units, then compile them together with our C."""

    def build_extension(self, ext: Extension) -> None:
        """Add the generated sources, which belong to the build folder."""
        spec = importlib.util.spec_from_file_location(
            "ffi_build", os.fspath(CSRC / "ffi_build.py")
        )
        if spec is None or spec.loader is None:
            msg = "csrc/ffi_build.py is missing"
            raise SystemExit(msg)
        ffi_build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(ffi_build)
        ext.sources = [*SOURCES, *ffi_build.write(Path(self.build_temp))]
        super().build_extension(ext)


setup(
    ext_modules=[
        Extension(
            "embq._core",
            sources=SOURCES,
            depends=DEPENDS,
            include_dirs=[str(CSRC)],
            define_macros=[("Py_LIMITED_API", ABI_HEX)] if LIMITED else [],
            extra_compile_args=[*FLAGS, *QUIET],
            libraries=LIBRARIES,
            py_limited_api=LIMITED,
        )
    ],
    cmdclass={"build_ext": BuildCore},
    options={"bdist_wheel": {"py_limited_api": ABI}} if LIMITED else {},
)
