"""Versions of pushed models: which there are, which is served, their origin.

A model's folder is `<push.to>/<name>`. Local folders need neither TensorFlow
nor TFX, so that `lionctr models` answers at once.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from serving import manifest
from serving.model_folder import (
    GRAPH,
    PIN,
    pin_of,
    preferred,
    version_number,
)
from serving.object_store import StoreFiles, is_store

log = logging.getLogger("lionctr.versions")
_STATES = ".training"  # beside the models' folders: no server looks there
_STATISTICS = ".statistics"


class FileSystem(manifest.FileSystem, Protocol):
    """The part of `tfx.dsl.io.fileio` that a store needs."""

    def isdir(self, path: str) -> bool: ...
    def listdir(self, path: str) -> list[str]: ...
    def makedirs(self, path: str) -> None: ...
    def rmtree(self, path: str) -> None: ...
    def remove(self, path: str) -> None: ...


class _LocalFiles(manifest.LocalFiles):
    isdir = staticmethod(os.path.isdir)
    listdir = staticmethod(os.listdir)
    rmtree = staticmethod(shutil.rmtree)
    remove = staticmethod(os.remove)

    @staticmethod
    def makedirs(path: str) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)


def is_remote(path: str) -> bool:
    """True if a path is a URI, of an object store."""
    return "://" in path


def files_of(path: str) -> FileSystem:
    """The file system of a path or a URI."""
    if not is_remote(path):
        return _LocalFiles()
    if is_store(path):
        return StoreFiles()
    from tfx.dsl.io import fileio

    files: FileSystem = fileio
    return files


def versions(base: str) -> list[int]:
    """Version folders under `base`, oldest first.

    In an object store a version without its graph is unfinished, and none.
    """
    return [
        number
        for number in numbers(base)
        if not is_remote(base)
        or files_of(base).exists(os.path.join(path_of(base, number), GRAPH))
    ]


def numbers(base: str) -> list[int]:
    """Version folders under `base`, oldest first, unfinished ones too."""
    files = files_of(base)
    if not files.isdir(base):
        return []
    return sorted(
        number
        for name in files.listdir(base)
        if (number := version_number(name)) is not None
        and files.isdir(os.path.join(base, name))
    )


def path_of(base: str, version: int) -> str:
    """The folder of a version."""
    return os.path.join(base, str(version))


def about(model: str) -> dict[str, Any]:
    """Description inside an exported model; {} if it is damaged."""
    try:
        return manifest.about(model, files_of(model))
    except manifest.DamagedError as error:
        log.warning("%s: %s", model, error)
        return {}


def export_id(model: str) -> str:
    """Identifies an exported model by its weights; "" if it does not say."""
    return str(about(model).get("export_id", ""))


def fault(model: str) -> str:
    """Why a version cannot be trusted; "" if it can, or has no manifest.

    In an object store only the manifest is read: a copy verifies the files.
    """
    files = files_of(model)
    try:
        if is_remote(model):
            manifest.read(model, files)
        else:
            manifest.verify(model, files)
    except (manifest.DamagedError, OSError) as error:
        return str(error)
    return ""


def pin(base: str) -> int | None:
    """The version that is pinned, if there is one."""
    files = files_of(base)
    path = os.path.join(base, PIN)
    if not files.exists(path):
        return None
    try:
        with files.open(path, "r") as file:
            return pin_of(file.read())
    except ValueError as error:
        log.warning("%s: %s; it is ignored", base, error)
        return None


def set_pin(base: str, version: int | None) -> None:
    """Pins a version, or none."""
    path = os.path.join(base, PIN)
    if version is not None:
        write(path, f"{version}\n")
    elif files_of(base).exists(path):
        files_of(base).remove(path)


def write(path: str, text: str) -> None:
    """Writes a small file: whole or not at all, on this machine."""
    if is_remote(path):
        with files_of(path).open(path, "w") as file:
            file.write(text)
        return
    temporary = Path(f"{path}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def candidates(base: str) -> list[int]:
    """Versions in the order in which a server tries them."""
    return preferred(versions(base), pin(base))


def served(base: str) -> int | None:
    """The version that a server would take: the first that holds."""
    for version in candidates(base):
        reason = fault(path_of(base, version))
        if not reason:
            return version
        log.warning("version %d is passed over: %s", version, reason)
    return None


def state_folder(base: str, identity: str = "") -> str:
    """Where the state of a pushed model's training is kept."""
    return _beside(base, _STATES, identity)


def statistics_folder(base: str, identity: str = "") -> str:
    """Where the statistics of a pushed model's data are kept."""
    return _beside(base, _STATISTICS, identity)


def _beside(base: str, kind: str, identity: str) -> str:
    above, _, name = base.rstrip("/").rpartition("/")
    return os.path.join(above, kind, name, identity)


@contextmanager
def locked(base: str) -> Iterator[bool]:
    """Lets one process at a time change the versions under `base`.

    Yields:
        False where nothing can be locked: an object store, or a file system
        without locks. A killed process leaves no lock.
    """
    if is_remote(base):
        yield False
        return
    folder = Path(base).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        yield _lock(file.fileno(), base)


def _lock(descriptor: int, base: str) -> bool:
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another push to %s is under way; waiting for it", base)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        log.warning("%s cannot be locked: %s", base, error.strerror)
        return False
    return True
