"""WarmStart's work: find the model that training begins with, and its state."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components.model_store import (
    about,
    candidates,
    export_id,
    files_of,
    state_folder,
)
from models.checkpointing.saved_state import BASE, FOLDER
from models.errors import InputError

LATEST = "latest_blessed"


@dataclass(frozen=True)
class StartingModel:
    """Where the model is, and the state of its training; else why not."""

    model: str | None = None
    state: str | None = None
    reason: str | None = None


class Executor(base_executor.BaseExecutor):
    """Writes what was found, for the Trainer to read."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component."""
        found = find(
            exec_properties["source"],
            exec_properties["pushed_to"],
            json.loads(exec_properties["training"]),
        )
        folder = path_utils.serving_model_dir(
            artifact_utils.get_single_uri(output_dict["base_model"])
        )
        fileio.makedirs(folder)
        with fileio.open(os.path.join(folder, BASE), "w") as file:
            file.write(json.dumps(asdict(found)))


def find(
    source: str, pushed_to: str, training: Mapping[str, Any]
) -> StartingModel:
    """The model that `source` names.

    A model of this very training, the same settings on the same data, is
    passed over: a run that is repeated begins where it did at first, and
    learns nothing twice.
    """
    if source != LATEST:
        return _at(source)
    for version in candidates(pushed_to):
        path = os.path.join(pushed_to, str(version))
        if not _same(about(path).get("asked", {}), training):
            return _at(path)
    return StartingModel(
        reason=f"no model of another training is in {pushed_to}"
    )


def base_version(
    source: str | None, pushed_to: str, training: Mapping[str, Any]
) -> str:
    """Another one for another base; "" without a warm start.

    Raises:
        InputError: the model that `source` names, or its state, is not there.
    """
    if source is None:
        return ""
    found = find(source, pushed_to, training)
    if source != LATEST and found.state is None:
        raise InputError(f"train.warm_start: {found.reason}")
    identity = export_id(found.model) if found.model else ""
    return f"{found.model} {identity} {found.state}"


def _at(path: str) -> StartingModel:
    """A pushed version, a SavedModel in a Model artifact, or the artifact."""
    path = path.rstrip("/")
    files = files_of(path)
    inside = path_utils.serving_model_dir(path)
    model = inside if files.isdir(inside) else path
    if not files.exists(os.path.join(model, "saved_model.pb")):
        return StartingModel(
            reason=f"no model in {path!r}. Accepted: {LATEST}, null, or the"
            " folder of a pushed version or of a Model artifact"
        )
    above = model.rpartition("/")[0]
    states = [os.path.join(above, FOLDER)]
    if identity := export_id(model):
        states.insert(0, state_folder(above, identity))
    for state in states:
        if files.isdir(state):
            return StartingModel(model, state)
    return StartingModel(
        model,
        reason=f"the model {model} was pushed without the state of its"
        " training, or that was removed",
    )


def _same(asked: Mapping[str, Any], training: Mapping[str, Any]) -> bool:
    known = bool(training["data_version"])  # Kubeflow's runner does not know
    return known and all(asked.get(k) == v for k, v in training.items())
