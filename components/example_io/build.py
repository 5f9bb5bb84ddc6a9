"""Builds the library that reads examples. Stdlib only, as for Lion's ops.

Without it NumPy reads them: the same columns, several times slower.

    python -m components.example_io.build    # honours CXX
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "cc"
COMMAND = "python -m components.example_io.build"
FLAGS = ("-std=c++17", "-O3", "-Wall", "-Wextra", "-fPIC", "-shared")


def library() -> Path:
    """Returns the library that fits the sources, built or not."""
    return HERE / _name()


def build(folder: Path = HERE) -> Path:
    """Returns the library that fits; compiles it if `folder` has none.

    Raises:
        RuntimeError: there is no compiler, or it fails.
    """
    target = folder / _name()
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".examples-") as place:
        made = Path(place) / target.name
        if library().exists():
            shutil.copyfile(library(), made)
        else:
            _compile(made)
        for stale in folder.glob("examples-*.so"):
            stale.unlink()
        made.chmod(0o755)
        made.replace(target)
    return target


def main(folder: Path = HERE) -> int:
    """Builds the library in `folder`; 1 and a warning if it cannot."""
    try:
        build(folder)
    except RuntimeError as error:
        print(
            f"Warning: the reader of examples is not built: {error}. NumPy"
            f" reads the same, slower. To build: `{COMMAND}`, with CXX set to"
            " a C++17 compiler.",
            file=sys.stderr,
        )
        return 1
    return 0


def _compile(target: Path) -> None:
    named = os.environ.get("CXX", "")
    for compiler in [named] if named else ["g++", "c++", "clang++"]:
        command = shlex.split(compiler)
        if command and shutil.which(command[0]):
            break
    else:
        raise RuntimeError(
            f"CXX is {named!r}, which is not found"
            if named
            else "neither CXX nor g++, c++ or clang++ is there"
        )
    command += [*FLAGS, *map(str, _sources()), "-o", str(target)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        lines = (made.stderr or made.stdout).strip().splitlines()
        errors = [line for line in lines if "error" in line.lower()]
        cause = (errors or lines or ["no message"])[0]
        raise RuntimeError(
            f"`{compiler}` ended with {made.returncode}: {cause}"
        )


def _sources() -> list[Path]:
    return sorted(SOURCES.glob("*.cc"))


def _name() -> str:
    parts = (Path(__file__), *_sources())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in parts))
    return f"examples-{digest.hexdigest()[:12]}.so"


if __name__ == "__main__":
    sys.exit(main())
