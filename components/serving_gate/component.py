"""ServingGate: a model is pushed only if the server serves it as trained.

TFX's InfraValidator needs Docker or Kubernetes and a copy of the model; this
one starts the server of this project beside itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.serving_gate import executor


class ServingGateSpec(types.ComponentSpec):
    """Interface of ServingGate."""

    PARAMETERS = {
        name: component_spec.ExecutionParameter(type=str)
        for name in ("settings", "pushed_to", "served")
    }
    INPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "model_blessing": component_spec.ChannelParameter(
            type=standard_artifacts.ModelBlessing
        ),
        "examples": component_spec.ChannelParameter(
            type=standard_artifacts.Examples
        ),
    }
    OUTPUTS = {
        "blessing": component_spec.ChannelParameter(
            type=standard_artifacts.InfraBlessing
        )
    }


class ServingGate(base_component.BaseComponent):
    """Gives the InfraBlessing that `tfx.components.Pusher` takes.

    A model that the server does not serve as trained is refused: the execution
    fails, so that no cache keeps a refusal. `served` stands for what is
    served in the cache: see `executor.served`. A runner sets it before the
    component runs.

    Args:
        model: of the Trainer.
        model_blessing: of the Evaluator; no server starts without it.
        examples: of ClickLogGen.
        settings: see `Executor`.
        pushed_to: folder of the model's versions.
    """

    SPEC_CLASS = ServingGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        examples: types.BaseChannel,
        settings: Mapping[str, Any],
        pushed_to: str,
    ) -> None:
        super().__init__(
            spec=ServingGateSpec(
                model=model,
                model_blessing=model_blessing,
                examples=examples,
                settings=json.dumps(settings, sort_keys=True),
                pushed_to=pushed_to,
                served="",
                blessing=types.Channel(type=standard_artifacts.InfraBlessing),
            )
        )
