"""Baseline: the served model, or the next one if that is the candidate.

TFX's own Resolver is refused by Kubeflow's open source backend ("resolver not
implemented yet"), and asks for the latest blessing where what counts is what
is served: a version taken off the shelf is no baseline any more.
"""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.baseline import executor


class BaselineSpec(types.ComponentSpec):
    """Interface of Baseline."""

    PARAMETERS = {
        "pushed_to": component_spec.ExecutionParameter(type=str),
        "served": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model)
    }
    OUTPUTS = {
        "baseline": component_spec.ChannelParameter(
            type=standard_artifacts.Model
        )
    }


class Baseline(base_component.BaseComponent):
    """Links the served model, or leaves the output empty if there is none.

    `served` stands for that model in the cache: see `executor.served`. Before
    the candidate is trained nobody knows it; a runner sets it then.
    """

    SPEC_CLASS = BaselineSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, model: types.BaseChannel, pushed_to: str) -> None:
        super().__init__(
            spec=BaselineSpec(
                model=model,
                pushed_to=pushed_to,
                served="",
                baseline=types.Channel(type=standard_artifacts.Model),
            )
        )
