"""Pusher: TFX's, with an atomic, verified and idempotent push."""

from __future__ import annotations

import json
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.proto import pusher_pb2
from tfx.types import (
    component_spec,
    standard_artifacts,
    standard_component_specs,
)

from components.pusher import executor


class PusherSpec(standard_component_specs.PusherSpec):
    """Interface of `tfx.components.Pusher`, and what the manifest tells."""

    INPUTS = {
        **standard_component_specs.PusherSpec.INPUTS,
        "evaluation": component_spec.ChannelParameter(
            type=standard_artifacts.ModelEvaluation, optional=True
        ),
        "examples": component_spec.ChannelParameter(
            type=standard_artifacts.Examples, optional=True
        ),
        "statistics": component_spec.ChannelParameter(
            type=standard_artifacts.ExampleStatistics, optional=True
        ),
    }


class Pusher(base_component.BaseComponent):
    """Takes what `tfx.components.Pusher` takes, and three inputs more.

    Args:
        model: of the Trainer.
        model_blessing: of the Evaluator; the model is pushed only with it.
        push_destination: the folder of the versions.
        infra_blessing: of a ServingGate.
        evaluation: of the Evaluator; its metrics go into the manifest.
        examples: of ClickLogGen; their spans go into the manifest.
        statistics: of StatisticsGen; the next run compares its data with them.
        custom_config: `keep`, how many versions stay (None: all), `sign`, a
            private key's path or None, and `config_sha256` of the run.
    """

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        push_destination: pusher_pb2.PushDestination,
        infra_blessing: types.BaseChannel | None = None,
        evaluation: types.BaseChannel | None = None,
        examples: types.BaseChannel | None = None,
        statistics: types.BaseChannel | None = None,
        custom_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            spec=PusherSpec(
                model=model,
                model_blessing=model_blessing,
                infra_blessing=infra_blessing,
                evaluation=evaluation,
                examples=examples,
                statistics=statistics,
                push_destination=push_destination,
                custom_config=json.dumps(custom_config, sort_keys=True),
                pushed_model=types.Channel(type=standard_artifacts.PushedModel),
            )
        )
