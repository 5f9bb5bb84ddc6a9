"""The version of a component's code: its modules and all that they import."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = "components|models|optimizers|pipeline|serving"
_IMPORT = re.compile(
    rf"^[ \t]*(?:from[ \t]+((?:{_PACKAGES})[\w.]*)[ \t]+import[ \t]+"
    rf"(\([^)]*\)|[^\n]*)|import[ \t]+((?:{_PACKAGES})[\w.]*))",
    re.MULTILINE,
)
# A module that is imported by its name: "models.architectures.wide_deep".
_NAMED = re.compile(rf"[\"']((?:{_PACKAGES})(?:\.\w+)+)[\"':]")
_KERNELS = "optimizers.ops"


def code_version(*modules: str) -> str:
    """Changes when the source of a module, or of one it imports, changes.

    Args:
        modules: names, such as `components.transform.component`.

    Raises:
        ValueError: there is no such module of this project.
    """
    digest = hashlib.sha256()
    for path in _files(modules):
        digest.update(str(path.relative_to(_ROOT)).encode() + b"\n")
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def imported(*modules: str) -> set[str]:
    """`modules` and, of this project, all that they import at any time."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        if _path(module) is None:
            raise ValueError(f"there is no module {module!r} in this project")
        found.add(module)
        waiting += _imports(module)
        parent = module.rpartition(".")[0]
        waiting += [parent] if parent else []
    return found


def _files(modules: tuple[str, ...]) -> list[Path]:
    names = imported(*modules)
    paths = {path for name in names if (path := _path(name)) is not None}
    if _KERNELS in names:
        sources = _ROOT / "optimizers" / "ops" / "cc"
        paths |= {p for p in sources.iterdir() if p.suffix in (".cc", ".h")}
    return sorted(paths)


@cache
def _imports(module: str) -> list[str]:
    path = _path(module)
    text = path.read_text("utf-8") if path else ""
    return sorted(name for name in set(_mentioned(text)) if _path(name))


def _mentioned(text: str) -> Iterator[str]:
    for source, names, plain in _IMPORT.findall(text):
        yield source or plain
        for name in re.findall(r"\w+", names):
            yield f"{source}.{name}"
    for name in _NAMED.findall(text):
        yield name
        yield name.rpartition(".")[0]  # of a function of a module


@cache
def _path(module: str) -> Path | None:
    path = _ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
