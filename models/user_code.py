"""The state of code that a user names in the config: a part of cache keys."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

_INSTALLED = tuple(
    Path(sysconfig.get_path(name)).resolve()
    for name in ("stdlib", "purelib", "platlib")
)


def version(modules: Iterable[str]) -> str:
    """Changes when the source of the modules changes; "" without any.

    Each stands for all of the package that it is in, and for the modules that
    this imports in turn, apart from installed packages. Nothing is imported.
    """
    digest = hashlib.sha256()
    for file in _sources(modules):
        digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16] if modules else ""


def see_current_folder() -> None:
    """Makes modules of the current folder importable, after all others.

    A command is started from its own folder, not from the user's.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def _sources(modules: Iterable[str]) -> Iterator[Path]:
    see_current_folder()
    names = sorted({module.partition(".")[0] for module in modules})
    seen = set(names)
    for name in names:
        spec = _find(name)
        if spec is None:
            continue
        for file in _files(spec):
            yield file
            if _is_installed(file):
                continue
            for other in _imports(file):
                found = _find(other) if other not in seen else None
                if found and not any(map(_is_installed, _files(found)[:1])):
                    names.append(other)
                seen.add(other)


def _find(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _files(spec: ModuleSpec) -> list[Path]:
    if spec.origin is None or not spec.has_location:
        origin = []
    else:
        origin = [Path(spec.origin)]
    for folder in spec.submodule_search_locations or ():
        origin += sorted(Path(folder).rglob("*.py"))
    return origin


def _is_installed(file: Path) -> bool:
    return any(file.resolve().is_relative_to(home) for home in _INSTALLED)


def _imports(file: Path) -> Iterator[str]:
    """The top names of what a source imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]
