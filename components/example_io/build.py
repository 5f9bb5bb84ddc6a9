"""Builds the library that reads examples. Stdlib only, as for Lion's ops.

Without it NumPy reads them: the same columns, several times slower.

    python -m components.example_io.build    # honours CXX
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

HERE = Path(__file__).resolve().parent
if TYPE_CHECKING or __package__:
    from optimizers.ops import toolchain
else:  # run by its path, where nothing is installed
    toolchain = SimpleNamespace(
        **runpy.run_path(str(HERE.parents[1] / "optimizers/ops/toolchain.py"))
    )

SOURCES = HERE / "cc"
COMMAND = "python -m components.example_io.build"
FLAGS = ("-std=c++17", "-O3", "-Wall", "-Wextra", "-fPIC", "-shared")


def library() -> Path:
    """Returns the library that fits the sources, built or not."""
    return HERE / _name()


def build(folder: Path = HERE) -> Path:
    """Returns the library that fits; compiles it if `folder` has none.

    Raises:
        BuildError: there is no compiler, or it fails.
    """
    return toolchain.make(folder / _name(), library(), _compile)


def main(folder: Path = HERE) -> int:
    """Builds the library in `folder`; 1 and a warning if it cannot."""
    return toolchain.report(
        build,
        folder,
        "the reader of examples is not built",
        "NumPy reads the same, slower",
        COMMAND,
    )


def _compile(target: Path) -> None:
    sources = map(str, _sources())
    command = [*toolchain.compiler(), *FLAGS, *sources, "-o", str(target)]
    toolchain.run(command)


def _sources() -> list[Path]:
    return sorted(SOURCES.glob("*.cc"))


def _name() -> str:
    return f"examples-{toolchain.digest([Path(__file__), *_sources()])}.so"


if __name__ == "__main__":
    sys.exit(main())
