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

from models.checkpointing.checkpoint import INDEX
from models.checkpointing.saved_state import FOLDER
from models.errors import RefusedError

log = logging.getLogger("lionctr.push")
_STATES = ".training"  # beside the models' folders: no server looks there
_KEPT = 2  # states: of the newest versions
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
        identity = export_id(model)
        keep_state(model.rpartition("/")[0], base, identity)
        version = find_version(base, identity)
        if version is None:
            version = push(model, base)
        drop_states(base)
        path = os.path.join(base, str(version))
        log.info("pushed to %s", path)
        self._MarkPushed(pushed, path, str(version))


def versions(base: str) -> list[int]:
    """Integer versions under `base`, oldest first."""
    if not fileio.isdir(base):
        return []
    names = [name.rstrip("/") for name in fileio.listdir(base)]
    return sorted(int(name) for name in names if name.isdigit())


def description(model: str) -> dict[str, Any]:
    """What an exported model says of itself."""
    path = os.path.join(model, _DESCRIPTION)
    if not fileio.exists(path):
        return {}
    with fileio.open(path, "r") as file:
        found: dict[str, Any] = json.loads(file.read())
    return found


def export_id(model: str) -> str:
    """Identifies an exported model by its weights; "" if it does not say."""
    return str(description(model).get("export_id", ""))


def state_folder(base: str, identity: str = "") -> str:
    """Where the state of a pushed model's training is kept."""
    above, _, name = base.rstrip("/").rpartition("/")
    return os.path.join(above, _STATES, name, identity)


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


def keep_state(artifact: str, base: str, identity: str) -> None:
    """Copies the state of a training from a Model artifact, whole.

    On one disk it is linked: it takes no room twice.
    """
    source = os.path.join(artifact, FOLDER)
    target = state_folder(base, identity)
    if not identity or not fileio.isdir(source):
        return
    if fileio.glob(os.path.join(target, "*", INDEX)):
        return
    if "://" in base or "://" in source:
        # An object store renames no folder; a state begins with its index.
        io_utils.copy_dir(source, target, deny_regex_patterns=[INDEX])
        for folder, _, files in fileio.walk(source):
            if INDEX in files:
                inner = os.path.relpath(folder, source)
                io_utils.copy_file(
                    os.path.join(folder, INDEX),
                    os.path.join(target, inner, INDEX),
                )
        return
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(f"{target}.{uuid.uuid4().hex}")
    try:
        shutil.copytree(source, temporary, copy_function=_link)
        _sync(temporary)
        if not Path(target).exists():
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def drop_states(base: str) -> None:
    """Removes all states but those of the newest versions."""
    folder = state_folder(base)
    if not fileio.isdir(folder):
        return
    kept = {
        export_id(os.path.join(base, str(version)))
        for version in versions(base)[-_KEPT:]
    }
    for name in fileio.listdir(folder):
        if name.rstrip("/") not in kept:
            fileio.rmtree(os.path.join(folder, name.rstrip("/")))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(source, target)


def _sync(folder: Path) -> None:
    """Flushes every file, so that a power cut leaves no empty ones."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
