"""Extensions that a config names: by our name, or package.module:Name."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

_OURS = ("components", "models", "optimizers", "pipeline", "serving")
_FOLDERS = "LIONCTR_EXTENSIONS"  # which worker processes inherit
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class Registry:
    """The extensions of one kind.

    Args:
        kind: what an error calls one of them, such as "log format".
        field: the setting that names one, such as "model.name".
        entries: our name -> the extension, or "package.module:Name" of what
            is imported when it is loaded.
        wanted: what a user's own must be.
    """

    def __init__(
        self, kind: str, field: str, entries: Mapping[str, Any], wanted: str
    ) -> None:
        self.kind = kind
        self.field = field
        self.wanted = wanted
        self._entries = dict(entries)

    @property
    def names(self) -> tuple[str, ...]:
        """Our names."""
        return tuple(self._entries)

    @property
    def accepted(self) -> str:
        """Words for the names that are accepted."""
        ours = ", ".join(self.names)
        return f"{ours}{ours and ', or '}package.module:Name of your own"

    def is_own(self, name: Any) -> bool:
        """True if `name` is a user's, package.module:Name."""
        return (
            isinstance(name, str)
            and name not in self._entries
            and _REFERENCE.fullmatch(name) is not None
        )

    def check(self, name: Any) -> str:
        """Returns `name`, if an extension of this kind may have it.

        Raises:
            ValueError: no name of ours, and not package.module:Name.
        """
        if isinstance(name, str) and name in self._entries:
            return name
        if self.is_own(name):
            return str(name)
        lower = str(name).lower()
        near = difflib.get_close_matches(lower, self.names)
        # A name that goes on as the given one is nearer than a like one.
        near.sort(key=lambda known: not known.startswith(lower))
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"no {self.kind} has the name {name!r}{hint}. Accepted:"
            f" {self.accepted}"
        )

    def target(self, name: str) -> str:
        """package.module:Name of one of our names; a user's as it is."""
        return str(self._entries.get(name, name))

    def load(self, name: str, field: str = "") -> Any:
        """The extension that `name` names.

        Args:
            name: ours, or package.module:Name.
            field: the setting, where it is another than the registry's.

        Raises:
            ValueError: the name is not known, or its module cannot be
                imported, or lacks it.
        """
        field = field or self.field
        try:
            self.check(name)
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from None
        entry = self._entries.get(name, name)
        if not isinstance(entry, str):
            return entry
        module, _, attribute = entry.partition(":")
        try:
            # A clash is said once the module is known to be found.
            clash = _clash(module, find(module))
            imported = importlib.import_module(module)
        except Exception as error:  # the user's code may raise anything
            raise ValueError(
                f"{field}: received {name!r}; cannot import {module!r}:"
                f" {type(error).__name__}: {error}. It is looked for in the"
                f" environment and in {places()}"
            ) from error
        if not hasattr(imported, attribute):
            raise ValueError(
                f"{field}: received {name!r}; {module!r} has no {attribute!r}."
                f" Accepted: {self.wanted}{clash and f'. {clash}'}"
            )
        if clash:
            warnings.warn(f"{field}: {clash}", stacklevel=2)
        return getattr(imported, attribute)

    def make(
        self,
        name: str,
        field: str = "",
        arguments: Mapping[str, Any] | None = None,
        needs: str = "",
    ) -> Any:
        """The extension that `name` names, called if it can be.

        Args:
            name: see `load`.
            field: see `load`.
            arguments: of the call, by name.
            needs: attributes that the made one must have, apart by spaces.

        Raises:
            ValueError: as `load`; or the call fails, or what it makes lacks
                an attribute.
        """
        field = field or self.field
        made = self.load(name, field)
        if callable(made):
            try:
                made = made(**(arguments or {}))
            except Exception as error:  # the user's code may raise anything
                raise ValueError(
                    f"{field}: {name!r} cannot be made: {type(error).__name__}:"
                    f" {error}. Accepted: {self.wanted}"
                ) from error
        for attribute in needs.split():
            if not hasattr(made, attribute):
                raise ValueError(
                    f"{field}: received {name!r}, a {type(made).__name__}"
                    f" without {attribute!r}. Accepted: {self.wanted}"
                )
        return made


def search(folder: Path) -> None:
    """Looks for users' modules in `folder` too, in worker processes as well."""
    here = str(folder.resolve())
    known = [name for name in _environment() if name != here]
    os.environ[_FOLDERS] = os.pathsep.join([here, *known])


def folders() -> list[Path]:
    """Folders of users' modules: beside the config, then the current one."""
    names = dict.fromkeys((*_environment(), str(Path.cwd())))
    return [Path(name) for name in names]


def places() -> str:
    """`folders` in words."""
    return ", ".join(map(str, folders()))


def find(module: str) -> ModuleSpec | None:
    """Where a module is; packages around it are imported, itself is not.

    Modules of the environment come first. A folder of a user's with the name
    of a package of ours continues that package, in which ours come first.
    """
    importlib.invalidate_caches()
    for folder in folders():
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    parts = module.split(".")
    if parts[0] in _OURS:
        for size in range(1, len(parts)):
            _continue(".".join(parts[:size]))
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a package around it is missing
        return None


def own_files(package: str) -> list[Path]:
    """Sources of a user's package that has the name of one of ours."""
    if package not in _OURS:
        return []
    return [
        file
        for folder in folders()
        if not _is_ours(folder / package)
        for file in sorted((folder / package).rglob("*.py"))
    ]


def is_ours(package: str) -> bool:
    """True if a top-level package of ours has the name."""
    return package in _OURS


def _environment() -> list[str]:
    return [n for n in os.environ.get(_FOLDERS, "").split(os.pathsep) if n]


def _continue(package: str) -> None:
    """Appends users' folders of the same name to the package's path."""
    try:
        path = importlib.import_module(package).__path__
    except (ImportError, AttributeError):
        return
    known = [Path(name).resolve() for name in path]
    for folder in _inside(package):
        if folder.is_dir() and folder.resolve() not in known:
            path.append(str(folder))


def _inside(module: str) -> Iterator[Path]:
    for folder in folders():
        yield folder.joinpath(*module.split("."))


def _is_ours(folder: Path) -> bool:
    ours = Path(__file__).resolve().parents[1] / folder.name
    return folder.resolve() == ours


def _clash(module: str, spec: ModuleSpec | None) -> str:
    """A file of the user's that another module of the name hides, in words."""
    if spec is None or spec.origin is None:
        return ""
    origin = Path(spec.origin).resolve()
    for path in _inside(module):
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file() and file.resolve() != origin:
                return (
                    f"{module!r} is {origin}, which goes before {file}:"
                    " rename yours"
                )
    return ""
