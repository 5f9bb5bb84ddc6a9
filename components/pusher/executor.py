"""Pusher's work: a blessed model becomes the newest served version, whole."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from tfx import types
from tfx.components.pusher import executor as tfx_pusher
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.utils import io_utils, proto_utils

from models.errors import RefusedError

log = logging.getLogger("lionctr.push")
_DESCRIPTION = os.path.join("assets.extra", "lion_ctr.json")


class Executor(tfx_pusher.Executor):
    """Pushes atomically, never the same model twice."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component.

        Raises:
            RefusedError: the model is not blessed. Nothing was pushed.
        """
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            raise RefusedError(
                "The model is not blessed; nothing was pushed. The Evaluator's"
                " log names the metrics that missed their thresholds."
            )
        model = self.GetModelPath(input_dict)
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(
            exec_properties["push_destination"], destination
        )
        base = destination.filesystem.base_directory
        version = find_version(base, export_id(model))
        if version is None:
            version = push(model, base)
        path = os.path.join(base, str(version))
        log.info("pushed to %s", path)
        self._MarkPushed(pushed, path, str(version))


def versions(base: str) -> list[int]:
    """Integer versions under `base`, oldest first."""
    if not fileio.isdir(base):
        return []
    names = [name.rstrip("/") for name in fileio.listdir(base)]
    return sorted(int(name) for name in names if name.isdigit())


def export_id(model: str) -> str:
    """Identifies an exported model by its weights; "" if it does not say."""
    path = os.path.join(model, _DESCRIPTION)
    if not fileio.exists(path):
        return ""
    with fileio.open(path, "r") as file:
        return str(json.loads(file.read()).get("export_id", ""))


def find_version(base: str, identity: str) -> int | None:
    """The newest version under `base` that is this very model."""
    if identity:
        for version in reversed(versions(base)):
            if export_id(os.path.join(base, str(version))) == identity:
                return version
    return None


def push(model: str, base: str) -> int:
    """Copies `model` beside the versions, then renames it into place.

    The version is the time in seconds, but above every version there: a
    number that was served once does not come back. An object store cannot
    rename a folder; there, saved_model.pb is copied last, and servers take a
    folder without it for unfinished.
    """
    fileio.makedirs(base)
    version = max([int(time.time()), *(v + 1 for v in versions(base)[-1:])])
    if "://" in base:
        target = os.path.join(base, str(version))
        io_utils.copy_dir(
            model, target, deny_regex_patterns=[r"saved_model\.pb"]
        )
        io_utils.copy_file(
            os.path.join(model, "saved_model.pb"),
            os.path.join(target, "saved_model.pb"),
        )
        return version
    temporary = Path(base) / f".push-{uuid.uuid4().hex}"
    try:
        io_utils.copy_dir(model, str(temporary))
        _sync(temporary)
        while True:
            try:
                temporary.rename(Path(base) / str(version))
                return version
            except OSError:
                if not (Path(base) / str(version)).exists():
                    raise
                version += 1  # another push took the number
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Flushes every file, so that a power cut leaves no empty ones."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
