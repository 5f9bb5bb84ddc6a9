"""Folders whose names hold * ? [ under a name that no reader takes for a glob.

TFX, Beam and TFMA read the files of an artifact by a glob of its folder.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from pathlib import Path
from typing import Any

from models.config.paths import literal
from pipeline.config import ConfigError


def plain(folder: Path) -> Path:
    """`folder`, or a symbolic link to it whose name has no glob characters.

    The link is the same in each run, so that artifacts are found again.

    Raises:
        ConfigError: no such link can be made.
    """
    if literal(str(folder)) == str(folder):
        return folder
    target = folder.resolve()
    key = hashlib.sha256(os.fsencode(target)).hexdigest()[:16]
    link = Path(tempfile.gettempdir()) / f"lionctr-{os.getuid()}" / key
    try:
        link.parent.mkdir(mode=0o700, exist_ok=True)
        is_ours = link.parent.lstat().st_uid == os.getuid()
        if not is_ours or link.parent.is_symlink():
            raise OSError(f"{link.parent} belongs to somebody else")
        if not (link.is_symlink() and link.readlink() == target):
            new = link.with_name(f"{key}-{uuid.uuid4().hex}")
            new.symlink_to(target)
            new.replace(link)
    except OSError as error:
        raise ConfigError(
            f"root: received {str(folder)!r}, which has to be linked to as"
            f" {link}, since files are found by globs there: {error}."
            " Accepted: a path without * ? ["
        ) from error
    return link


def unlinked(value: Any, link: Path, folder: Path) -> Any:
    """`value`, of JSON types, with `folder` where texts name the link."""
    if link == folder:
        return value
    if isinstance(value, str):
        return value.replace(str(link), str(folder))
    if isinstance(value, dict):
        return {k: unlinked(v, link, folder) for k, v in value.items()}
    if isinstance(value, list):
        return [unlinked(inner, link, folder) for inner in value]
    return value
