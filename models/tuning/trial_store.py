"""Trainings that have ended, kept on disk: a search that was killed goes on."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from models.training.run import Files


class FinishedTrainings:
    """Store of results of trainings, by all that each was made from.

    Args:
        folder: where they are kept, a path or a URI; None keeps nothing.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        if folder is not None:
            tf.io.gfile.makedirs(folder)

    def get(self, made_from: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record of a training made from this, if it has ended."""
        if self._folder is None:
            return None
        try:
            with tf.io.gfile.GFile(self._path(made_from)) as file:
                record: dict[str, Any] = json.loads(file.read())["record"]
                return record
        except (tf.errors.NotFoundError, ValueError, KeyError):
            return None

    def put(
        self, made_from: Mapping[str, Any], record: Mapping[str, Any]
    ) -> None:
        """Keeps a record, whole or not at all."""
        if self._folder is None:
            return
        path = self._path(made_from)
        temporary = f"{path}.{uuid.uuid4().hex}.tmp"
        with tf.io.gfile.GFile(temporary, "w") as file:
            content = {"made_from": made_from, "record": record}
            file.write(json.dumps(content, indent=1))
        tf.io.gfile.rename(temporary, path, overwrite=True)

    def _path(self, made_from: Mapping[str, Any]) -> str:
        assert self._folder is not None
        text = json.dumps(made_from, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        return os.path.join(self._folder, f"{key}.json")


def fingerprint(files: Files) -> str:
    """The same for the same examples: of their bytes, and of the assets.

    What else is in the transform's graph shows in the examples.
    """
    digest = hashlib.sha256()
    assets = os.path.join(files.transform.transform_savedmodel_dir, "assets")
    for patterns in ([f"{assets}/*"], files.train, files.eval):
        digest.update(b"/")
        for pattern in patterns:
            for path in sorted(tf.io.gfile.glob(pattern)):
                with tf.io.gfile.GFile(path, "rb") as file:
                    while block := file.read(1 << 24):
                        digest.update(block)
    return digest.hexdigest()
