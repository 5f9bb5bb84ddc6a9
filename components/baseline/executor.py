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
        base = exec_properties["pushed_to"]
        identity = export_id(candidate)
        for version in reversed(versions(base)):
            path = os.path.join(base, str(version))
            if export_id(path) != identity:
                output = artifact_utils.get_single_uri(output_dict["baseline"])
                io_utils.copy_dir(path, path_utils.serving_model_path(output))
                log.info("baseline is version %d", version)
                return
        log.info("no baseline: nothing was pushed before")
