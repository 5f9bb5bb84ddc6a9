"""Baseline's work: find the model that the candidate must not fall behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator
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
    """Links the served version, or the next one if that is the candidate.

    Its files outlive the version: a push removes names, and writes to none.
    """

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
        output = path_utils.serving_model_path(
            artifact_utils.get_single_uri(output_dict["baseline"])
        )
        for path in others(exec_properties["pushed_to"], candidate):
            try:
                verified_copy.copy(path, output, share=verified_copy.link)
            except (DamagedError, OSError) as error:
                log.warning("%s is passed over: %s", path, error)
                if fileio.exists(output):
                    fileio.rmtree(output)
                continue
            log.info("baseline is %s", path)
            return
        log.info("no baseline: no other model was pushed before")


def others(base: str, candidate: str) -> Iterator[str]:
    """Pushed versions that are not the model in `candidate`, served first."""
    identity = model_store.export_id(candidate)
    for version in model_store.candidates(base):
        path = model_store.path_of(base, version)
        if model_store.export_id(path) != identity:
            yield path


def served(base: str, model: str) -> str:
    """Another one for another baseline of a Model artifact; "" without one."""
    path = next(others(base, path_utils.serving_model_path(model)), None)
    return f"{path} {model_store.export_id(path)}" if path else ""
