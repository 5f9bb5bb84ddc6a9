"""Copies of exported models, compared with their manifests on the way."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from typing import Any

from components import model_store
from serving import manifest
from serving.manifest import CHUNK, Digest, Manifest

log = logging.getLogger("lionctr.versions")
_GRAPH = "saved_model.pb"


def copy(
    model: str, target: str, more: Mapping[str, Any] | None = None
) -> None:
    """Copies a SavedModel; compares every byte with its manifest on the way.

    saved_model.pb is copied last, and only if all else holds: without it a
    folder is no SavedModel.

    Args:
        model: the folder to copy.
        target: the folder to write.
        more: what the copy's manifest says beside what the export wrote.

    Raises:
        DamagedError: a file is not what was exported.
    """
    files = model_store.files_of(model)
    known = manifest.read(model, files)
    if known is None:
        log.warning("%s has no manifest: its files cannot be verified", model)
    names = manifest.names_of(model, files) - {manifest.NAME}
    digests = {}
    for name in sorted(names - {_GRAPH}):
        digests[name] = _copy_file(
            os.path.join(model, name), os.path.join(target, name)
        )
    graph = b""
    if _GRAPH in names or known is None:
        with files.open(os.path.join(model, _GRAPH), "rb") as file:
            graph = file.read()
        digests[_GRAPH] = Digest(hashlib.sha256(graph).hexdigest(), len(graph))
    if known is not None:
        manifest.compare(known, digests)
        about = {**known.about, **(more or {})}
        text = Manifest(known.files, about).to_json()
        _write(os.path.join(target, manifest.NAME), text.encode())
    _write(os.path.join(target, _GRAPH), graph)


def _copy_file(source: str, target: str) -> Digest:
    """Returns the digest of what was read, which is what was written."""
    to = model_store.files_of(target)
    to.makedirs(target.rpartition("/")[0])
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
