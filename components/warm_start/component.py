"""WarmStart: the model whose weights the next training begins with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.warm_start import executor


class WarmStartSpec(types.ComponentSpec):
    """Interface of WarmStart."""

    PARAMETERS = {
        name: component_spec.ExecutionParameter(type=str)
        for name in (
            "source",
            "pushed_to",
            "training",
            "base_version",
            "code_version",
        )
    }
    INPUTS: dict[str, Any] = {}
    OUTPUTS = {
        "base_model": component_spec.ChannelParameter(
            type=standard_artifacts.Model
        )
    }


class WarmStart(base_component.BaseComponent):
    """Finds that model when it runs; its output says where it is.

    The state of a training is several times its model, so nothing is copied.

    Args:
        source: `train.warm_start`.
        pushed_to: folder of the model's versions.
        training: settings and data of the training that is to begin.
        base_version: changes when another model would be found; with it the
            training is not answered from the cache.
        code_version: state of this project's sources.
    """

    SPEC_CLASS = WarmStartSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        source: str,
        pushed_to: str,
        training: Mapping[str, Any],
        base_version: str,
        code_version: str,
    ) -> None:
        super().__init__(
            spec=WarmStartSpec(
                source=source,
                pushed_to=pushed_to,
                training=json.dumps(training, sort_keys=True),
                base_version=base_version,
                code_version=code_version,
                base_model=types.Channel(type=standard_artifacts.Model),
            )
        )
