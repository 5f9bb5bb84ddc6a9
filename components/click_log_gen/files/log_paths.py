"""The files that a path stands for: globs, folders, Hive's partitions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from urllib.parse import unquote

from apache_beam.io.filesystems import FileSystems

from models.config.paths import is_local, literal
from models.errors import InputError

File = tuple[str, int, float]  # path, size, time of the last change

_GLOB = re.compile(r"[*?[]")
_ESCAPED = re.compile(r"\[[*?[]\]")
# Beside the data, and no data: NVTabular's schema, copies that are not done.
_COMPANIONS = re.compile(r"schema\.pbtxt|.*\._COPYING_")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def find(
    patterns: Iterable[str], field: str = "data.impressions.path"
) -> list[File]:
    """Path, size and modification time of each file.

    In the order of the patterns; what one of them matches is sorted by path.
    Names that begin with `.` or `_` are left out, unless the pattern writes
    them. A folder stands for the files in it, at any depth. `field` is where
    in the config the patterns are.

    Raises:
        InputError: a pattern matches nothing.
    """
    found: dict[str, File] = {}
    for pattern in patterns:
        files = matches(pattern, field) or inside(pattern, field)
        if not files:
            problem = (
                f"{pattern!r} is a folder without files"
                if _is_folder(pattern)
                else f"no file matches {pattern!r}"
            )
            raise InputError(
                f"{field}: {problem}; names that begin with `.` or `_` do not"
                " count"
            )
        for file in files:
            found.setdefault(file[0], file)
    return list(found.values())


def matches(pattern: str, field: str) -> list[File]:
    """The files that `pattern` itself matches."""
    if _is_folder(pattern):
        return []
    return _listed(as_glob(pattern), field)


def inside(pattern: str, field: str) -> list[File]:
    """The files in the folders that `pattern` matches, at any depth."""
    files = _listed(f"{as_glob(pattern).rstrip('/')}/**", field)
    return [
        file
        for file in files
        if not _COMPANIONS.fullmatch(file[0].rpartition("/")[2])
    ]


def as_glob(pattern: str) -> str:
    """`pattern`, in which names that exist as they are written are literal.

    So a folder `run[1]` is itself, though as a glob it would be `run1`.
    """
    parts = pattern.split("/")
    found = list(parts)
    for number, part in enumerate(parts):
        if _GLOB.search(part):
            if "[" not in part or not _exists("/".join(parts[: number + 1])):
                break
            found[number] = literal(part)
    return "/".join(found)


def partitions(path: str) -> dict[str, str | None]:
    """Columns that the folders of `path` tell: `dt=2024-01-05/` is dt."""
    pairs = [part.partition("=") for part in path.split("/")[:-1]]
    return {
        unquote(name): None if value == _NO_VALUE else unquote(value)
        for name, sign, value in pairs
        if name and sign
    }


def _listed(glob: str, field: str) -> list[File]:
    if is_local(glob) and "/" not in glob:
        glob = f"./{glob}"  # or Beam would list no folder
    try:
        found = FileSystems.match([glob])[0].metadata_list
    except Exception as error:
        raise InputError(
            f"{field}: {glob!r} cannot be listed: {error}"
        ) from error
    files = [
        (m.path, m.size_in_bytes, m.last_updated_in_seconds) for m in found
    ]
    return sorted(file for file in files if not _is_hidden(file[0], glob))


def _is_hidden(path: str, glob: str) -> bool:
    """True if a part of `path` that the glob leaves open is a hidden name."""
    wanted = glob.split("/")
    fixed = 0
    while fixed < len(wanted) and not _is_open(wanted[fixed]):
        fixed += 1
    parts = path.split("/")
    aligned = len(parts) == len(wanted) and "**" not in glob
    for number, part in enumerate(parts[fixed:], fixed):
        if part[:1] == "." or (part[:1] == "_" and "=" not in part):
            asked = wanted[number : number + 1] if aligned else wanted[fixed:]
            if not any(name[:1] == part[:1] for name in asked):
                return True
    return False


def _is_open(part: str) -> bool:
    """True if a part of a glob matches several names."""
    return bool(_GLOB.search(_ESCAPED.sub("", part)))


def _is_folder(path: str) -> bool:
    return is_local(path) and os.path.isdir(path)  # noqa: PTH112


def _exists(path: str) -> bool:
    if is_local(path):
        return os.path.lexists(path)
    try:
        return bool(FileSystems.exists(path))
    except Exception:  # each filesystem has its own
        return False
