"""Copies of exported models, compared with their manifests on the way.

A file of the same disk is linked or cloned where that is asked for and the file
system can: a link is the file itself under a second name, and lives until its
last name is gone; a clone shares blocks until one of the two is written to.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components import model_store
from serving import manifest
from serving.manifest import CHUNK, Digest, Manifest
from serving.model_folder import GRAPH

log = logging.getLogger("lionctr.versions")
_FICLONE = 0x40049409  # of linux/fs.h
Share = Callable[[str, str], bool]


def link(source: str, target: str) -> bool:
    """Links a file; False where that is not possible.

    For files that nobody writes to in place.
    """
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that knows no links
        return clone(source, target)
    return True


def clone(source: str, target: str) -> bool:
    """Clones a file (reflink); False where the file system cannot."""
    try:
        with Path(source).open("rb") as read, Path(target).open("xb") as write:
            fcntl.ioctl(write, _FICLONE, read.fileno())
    except OSError:
        Path(target).unlink(missing_ok=True)
        return False
    return True


def linked(source: str, target: str) -> None:
    """Links a file, or copies it where links are not possible."""
    if not link(source, target):
        shutil.copyfile(source, target)


def copy(
    model: str,
    target: str,
    more: Mapping[str, Any] | None = None,
    added: Mapping[str, str] | None = None,
    share: Share | None = clone,
) -> None:
    """Copies a SavedModel; compares every byte with its manifest on the way.

    saved_model.pb is copied last, and only if all else holds: without it a
    folder is no SavedModel. What was written to another machine is read back
    before.

    Args:
        model: the folder to copy.
        target: the folder to write.
        more: what the copy's manifest says beside what the export wrote.
        added: path in the copy -> file that it has besides.
        share: `link` or `clone`, tried before a file is copied; see there.

    Raises:
        DamagedError: a file is not what was exported.
    """
    if model_store.is_remote(model) or model_store.is_remote(target):
        share = None
    files = model_store.files_of(model)
    known = manifest.read(model, files)
    if known is None:
        log.warning("%s has no manifest: its files cannot be verified", model)
    names = manifest.names_of(model, files) - {manifest.NAME}
    digests = {}
    for name in sorted(names - {GRAPH}):
        digests[name] = copy_file(
            os.path.join(model, name), os.path.join(target, name), share
        )
    graph = b""
    if GRAPH in names or known is None:
        with files.open(os.path.join(model, GRAPH), "rb") as file:
            graph = file.read()
        digests[GRAPH] = Digest(hashlib.sha256(graph).hexdigest(), len(graph))
    if known is not None:
        manifest.compare(known, digests)
        about = {**known.about, **(more or {})}
        others = {
            name: copy_file(source, os.path.join(target, name))
            for name, source in (added or {}).items()
        }
        whole = Manifest({**known.files, **others}, about)
        _write(os.path.join(target, manifest.NAME), whole.to_json().encode())
        if model_store.is_remote(target):
            _read_back(target, whole)
    _write(os.path.join(target, GRAPH), graph)


def _read_back(target: str, written: Manifest) -> None:
    """Compares all files but the graph with what was to be written."""
    files = model_store.files_of(target)
    rest = {k: v for k, v in written.files.items() if k != GRAPH}
    names = manifest.names_of(target, files) - {manifest.NAME}
    digests = {
        name: manifest.digest_of(os.path.join(target, name), files)
        for name in sorted(names)
    }
    manifest.compare(Manifest(rest, {}), digests)
    read = manifest.read(target, files)
    if read is None or read.to_json() != written.to_json():
        raise manifest.DamagedError(f"{manifest.NAME} is not what was written")


def copy_file(source: str, target: str, share: Share | None = None) -> Digest:
    """Copies a file; returns the digest of what was read and written."""
    to = model_store.files_of(target)
    to.makedirs(target.rpartition("/")[0])
    if share is not None and share(source, target):
        return manifest.digest_of(target)
    digest, size = hashlib.sha256(), 0
    with (
        model_store.files_of(source).open(source, "rb") as read,
        to.open(target, "wb") as write,
    ):
        while chunk := read.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            write.write(chunk)
    return Digest(digest.hexdigest(), size)


def _write(path: str, content: bytes) -> None:
    files = model_store.files_of(path)
    files.makedirs(path.rpartition("/")[0])
    with files.open(path, "wb") as file:
        file.write(content)
