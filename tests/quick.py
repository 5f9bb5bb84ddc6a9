"""Choose the test modules of `make check`: by what they import.

A quick module imports neither TFX nor TensorFlow and starts no process. Imports
inside functions of the test module count; those of the project do not, since
the commands load slow modules late.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SLOW = frozenset(
    {
        "keras",
        "keras_rs",
        "keras_tuner",
        "multiprocessing",
        "subprocess",
        "tensorflow",
        "tensorflow_data_validation",
        "tensorflow_model_analysis",
        "tensorflow_transform",
        "tf_keras",
        "tfx",
        "tfx_bsl",
    }
)


def is_quick(path: Path) -> bool:
    """True if nothing slow is imported by the module or its fixtures."""
    modules = [path, *(p / "conftest.py" for p in path.parents)]
    local = [m for m in modules if m.exists() and ROOT / "tests" in m.parents]
    return not any(_slow(module, everywhere=True) for module in local)


def imported_now() -> list[str]:
    """The slow packages that this process has loaded, processes aside."""
    return sorted(
        (SLOW - {"multiprocessing", "subprocess"}) & sys.modules.keys()
    )


@cache
def _slow(path: Path, everywhere: bool) -> bool:
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        test = ROOT / "tests" in module.parents
        for name in _imports(module, everywhere=test):
            if name.partition(".")[0] in SLOW and (
                test or name not in ("multiprocessing", "subprocess")
            ):
                return True
            waiting += _files(name)
    return False


@cache
def _imports(path: Path, everywhere: bool) -> tuple[str, ...]:
    tree = ast.parse(path.read_text("utf-8"))
    return tuple(_names(tree, everywhere))


def _names(node: ast.AST, everywhere: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield child.module
            yield from (f"{child.module}.{a.name}" for a in child.names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(
            child.test
        ):
            continue
        elif everywhere or not isinstance(
            child, ast.FunctionDef | ast.AsyncFunctionDef
        ):
            yield from _names(child, everywhere)


def _files(name: str) -> list[Path]:
    """The project's files that an import of `name` runs."""
    parts = name.split(".")
    found = []
    for end in range(1, len(parts) + 1):
        place = ROOT.joinpath(*parts[:end])
        found += [place / "__init__.py", place.with_suffix(".py")]
    return [path for path in found if path.exists()]
