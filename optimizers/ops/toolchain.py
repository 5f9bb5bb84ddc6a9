"""Compilation of a native library: once, whole, by the compiler that is there.

Stdlib only. The `build.py` of each library loads this file by its path where
nothing is installed yet.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path


class BuildError(RuntimeError):
    """The library cannot be built; the message is the cause."""


def digest(paths: Iterable[Path]) -> str:
    """Twelve digits that change with a name or the content of a source."""
    found = hashlib.sha256(Path(__file__).read_bytes())
    for path in paths:
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:12]


def make(target: Path, ready: Path, make_it: Callable[[Path], None]) -> Path:
    """Returns `target`, a library that is made if it is not there.

    Its other versions go, once it is there as a whole.

    Args:
        target: name-....so.
        ready: a library that is copied, if it is there.
        make_it: compiles to a path.

    Raises:
        BuildError: of `make_it`.
    """
    if target.exists():
        return target
    folder, name = target.parent, target.name.partition("-")[0]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as place:
        made = Path(place) / target.name
        if ready.exists():
            shutil.copyfile(ready, made)
        else:
            make_it(made)
        for stale in folder.glob(f"{name}-*.so"):
            stale.unlink()
        made.chmod(0o755)
        made.replace(target)
    return target


def compiler() -> list[str]:
    """The command of a C++ compiler that starts: CXX, or a usual one.

    Raises:
        BuildError: there is none.
    """
    named = shlex.split(os.environ.get("CXX", ""))
    for command in [named] if named else [["g++"], ["c++"], ["clang++"]]:
        if shutil.which(command[0]):
            run([*command, "--version"])
            return command
    raise BuildError(
        f"no C++ compiler: CXX is {os.environ['CXX']!r}, which is not found"
        if named
        else "no C++ compiler: neither CXX nor g++, c++ or clang++ is there"
    )


def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """The output of a command.

    Raises:
        BuildError: it failed; with its first error.
    """
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment
    )
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines()
        errors = [line for line in lines if "error" in line.lower()]
        cause = (errors or lines or ["no message"])[0]
        raise BuildError(
            f"`{shlex.join(command[:2])} ...` ended with "
            f"{result.returncode}: {cause}"
        )
    return result.stdout


def report(
    build: Callable[[Path], Path], folder: Path, unbuilt: str, instead: str,
    command: str,
) -> int:  # fmt: skip
    """Builds in `folder`; returns 0, or 1 after a warning.

    Args:
        unbuilt: words for the library that is not built.
        instead: what works without it.
        command: builds it.
    """
    try:
        build(folder)
    except BuildError as error:
        print(
            f"Warning: {unbuilt}: {error}. {instead}. To build: `{command}`,"
            " with CXX set to a C++17 compiler.",
            file=sys.stderr,
        )
        return 1
    return 0
