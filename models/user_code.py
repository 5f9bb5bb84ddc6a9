"""The state of code that a user names in the config: a part of cache keys."""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from models.errors import InputError
from optimizers import extension

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


def module_version(name: str, field: str) -> str:
    """Changes when the code around `package.module:Name` changes.

    The module is looked for, not imported.

    Args:
        name: see there.
        field: the setting that names it.

    Raises:
        InputError: there is no such module.
    """
    module = name.partition(":")[0]
    spec = extension.find(module)
    top = extension.find(module.partition(".")[0])
    if spec is None or top is None or top.origin is None:
        raise InputError(
            f"{field}: there is no module {module!r} in the environment or in"
            f" {extension.places()}"
        )
    return version([module])


def _sources(modules: Iterable[str]) -> Iterator[Path]:
    names = sorted({module.partition(".")[0] for module in modules})
    seen = set(names)
    for name in names:
        for file in _files(name):
            yield file
            if _is_installed(file):
                continue
            for other in _imports(file):
                found = _files(other) if other not in seen else []
                if found and not _is_installed(found[0]):
                    names.append(other)
                seen.add(other)


def _files(name: str) -> list[Path]:
    """Sources of a top-level module or package; ours have a version already."""
    if extension.is_ours(name):
        return extension.own_files(name)
    spec = extension.find(name)
    if spec is None:
        return []
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
