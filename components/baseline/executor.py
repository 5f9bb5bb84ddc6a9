"""Baseline's work: find the model that the candidate must not fall behind."""

from __future__ import annotations

import logging
import os
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components.pusher.executor import export_id, versions

log = logging.getLogger("lionctr.baseline")


class Executor(base_executor.BaseExecutor):
    """Copies the newest pushed version that is not the candidate itself."""

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
        path = find(exec_properties["pushed_to"], candidate)
        if path is None:
            log.info("no baseline: nothing was pushed before")
            return
        output = artifact_utils.get_single_uri(output_dict["baseline"])
        io_utils.copy_dir(path, path_utils.serving_model_path(output))
        log.info("baseline is %s", path)


def find(base: str, candidate: str) -> str | None:
    """The newest pushed version that is not the model in `candidate`."""
    identity = export_id(candidate)
    for version in reversed(versions(base)):
        path = os.path.join(base, str(version))
        if export_id(path) != identity:
            return path
    return None


def served(base: str, model: str) -> str:
    """Another one for another baseline of a Model artifact; "" without one."""
    path = find(base, path_utils.serving_model_path(model))
    return f"{path} {export_id(path)}" if path else ""
