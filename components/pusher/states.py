"""Training states beside the pushed models: kept whole, removed in time."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from components import model_store, verified_copy
from components.pusher.publish import sync
from models.checkpointing.checkpoint import INDEX
from models.checkpointing.saved_state import FOLDER
from serving import manifest

_KEPT = 2  # states: of the newest versions


def keep(artifact: str, base: str, identity: str) -> None:
    """Copies the state of a training from a Model artifact, whole.

    On one disk it is linked: it takes no room twice.
    """
    source = os.path.join(artifact, FOLDER)
    target = model_store.state_folder(base, identity)
    if not identity or not model_store.files_of(source).isdir(source):
        return
    if is_kept(target):
        return
    if model_store.is_remote(base) or model_store.is_remote(source):
        _copy(source, target)
        return
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(f"{target}.{uuid.uuid4().hex}")
    try:
        shutil.copytree(source, temporary, copy_function=verified_copy.linked)
        sync(temporary)
        shutil.rmtree(target, ignore_errors=True)  # one without an index
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_kept(target: str) -> bool:
    """True if a state is there whole, with its index."""
    files = model_store.files_of(target)
    return files.isdir(target) and any(
        files.exists(os.path.join(target, name, INDEX))
        for name in files.listdir(target)
    )


def drop(base: str) -> None:
    """Removes all states but those of the newest and the served versions.

    Under the lock, copies that are not whole are of a push that was killed.
    Where nothing can be locked, a state is copied after its version is there,
    so that no other push takes it for a leftover.
    """
    folder = model_store.state_folder(base)
    files = model_store.files_of(folder)
    if not files.isdir(folder):
        return
    found = model_store.versions(base)
    pinned = {model_store.pin(base)} & set(found)
    kept = {
        model_store.export_id(model_store.path_of(base, version))
        for version in pinned | set(found[-_KEPT:])
        if version is not None
    }
    for name in files.listdir(folder):
        if name.rstrip("/") not in kept:
            files.rmtree(os.path.join(folder, name.rstrip("/")))


def _copy(source: str, target: str) -> None:
    """Copies to or from an object store, which renames no folder.

    The index of a folder comes last: without it a state is not whole.
    """
    names = manifest.names_of(source, model_store.files_of(source))
    for name in sorted(names, key=lambda n: (n.endswith(INDEX), n)):
        verified_copy.copy_file(
            os.path.join(source, name), os.path.join(target, name)
        )
