"""Baseline's work: find the model that the candidate must not fall behind."""

from __future__ import annotations

import logging
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components import model_store, verified_copy
from serving.manifest import DamagedError

log = logging.getLogger("lionctr.baseline")


class Executor(base_executor.BaseExecutor):
    """Copies the served version, or the next one if that is the candidate."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component."""
        candidate = path_utils.serving_model_path(
            artifact_utils.get_single_uri(input_dict["model"])
        )
        base = exec_properties["pushed_to"]
        identity = model_store.export_id(candidate)
        output = path_utils.serving_model_path(
            artifact_utils.get_single_uri(output_dict["baseline"])
        )
        for version in model_store.candidates(base):
            path = model_store.path_of(base, version)
            if model_store.export_id(path) == identity:
                continue
            try:
                verified_copy.copy(path, output)
            except (DamagedError, OSError) as error:
                log.warning("version %d is passed over: %s", version, error)
                if fileio.exists(output):
                    fileio.rmtree(output)
                continue
            log.info("baseline is version %d", version)
            return
        log.info("no baseline: no other model was pushed before")
