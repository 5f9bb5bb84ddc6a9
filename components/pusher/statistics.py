"""Statistics of a pushed model's data, kept beside the pushed models.

The next run compares its data with them. They outlive the run's artifacts.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from components import model_store

_FILE = "FeatureStats.pb"  # of each split, as StatisticsGen leaves them


def keep(statistics: str, base: str, identity: str) -> None:
    """Copies the statistics of an artifact, of some MB, for a model.

    Args:
        statistics: folder of the artifact.
        base: folder of the versions.
        identity: of the model; nothing is kept for one without.
    """
    if not identity:
        return
    folder = model_store.statistics_folder(base, identity)
    target = model_store.files_of(folder)
    for name, content in _splits(statistics):
        target.makedirs(os.path.join(folder, name))
        path = os.path.join(folder, name, _FILE)
        if model_store.is_remote(path):
            with target.open(path, "wb") as file:
                file.write(content)
            continue
        temporary = Path(f"{path}.{uuid.uuid4().hex}")
        temporary.write_bytes(content)
        temporary.replace(path)


def _splits(statistics: str) -> Iterator[tuple[str, bytes]]:
    """Folder of each split, and its file."""
    files = model_store.files_of(statistics)
    for name in files.listdir(statistics):
        path = os.path.join(statistics, name, _FILE)
        if files.exists(path):
            with files.open(path, "rb") as file:
                yield name.rstrip("/"), file.read()


def drop(base: str) -> None:
    """Removes the statistics of models that are not pushed any more."""
    folder = model_store.statistics_folder(base)
    files = model_store.files_of(folder)
    if not files.isdir(folder):
        return
    kept = {
        model_store.export_id(model_store.path_of(base, version))
        for version in model_store.versions(base)
    }
    for name in files.listdir(folder):
        if name.rstrip("/") not in kept:
            files.rmtree(os.path.join(folder, name.rstrip("/")))
